"""Shapes are exact, symbolic where the file is, and never wrong."""

from __future__ import annotations

import pytest
from onnx import TensorProto, helper

import sardonyx as sx
from build import from_nodes, from_text
from sardonyx.infer import infer


def shape(text: str, name: str) -> str:
    model = from_text(f'<ir_version: 8, opset_import: ["" : 17]> g {text}')
    found = infer(model)
    assert found.problems == []
    return str(found.facts[model.graph.values()[name]])


@pytest.mark.parametrize(
    "body, expected",
    [
        ("(float[N, 4] x) => (y) { y = Concat <axis = 0> (x, x) }", "tensor(float)[2*N, 4]"),
        (
            "(float[B, S, 8] x) => (y) { s = Constant <value_ints = [-1, 8]> () y = Reshape (x, s) }",
            "tensor(float)[B*S, 8]",
        ),
        (
            "(float[B, S, 8] x) => (y) { s = Shape (x) i = Constant <value_ints = [0]> () "
            "b = Gather (s, i) m = Constant <value_ints = [-1]> () t = Concat <axis = 0> (b, m) "
            "y = Reshape (x, t) }",
            "tensor(float)[B, 8*S]",
        ),
        (
            "(float[N, 3, H, W] x, float[8, 3, 3, 3] w) => (y) "
            "{ y = Conv <strides = [2, 2], pads = [1, 1, 1, 1]> (x, w) }",
            "tensor(float)[N, 8, (H + 1)//2, (W + 1)//2]",
        ),
        ("(float[N, 4] x, float[4, M] z) => (y) { y = MatMul (x, z) }", "tensor(float)[N, M]"),
    ],
)
def test_symbolic_shapes(body: str, expected: str) -> None:
    assert shape(body.replace("=> (y)", "=> (float y)"), "y") == expected


def test_infer_shapes_writes_to_the_model() -> None:
    model = from_nodes(
        [helper.make_node("Relu", ["x"], ["a"]), helper.make_node("Relu", ["a"], ["y"])],
        {"x": ["N", 3]},
        {"y": None},
    )
    sx.infer_shapes(model)
    values = model.graph.values()
    assert [str(dim) for dim in values["a"].shape or ()] == ["N", "3"]
    again = sx.loads(sx.dumps(model))
    assert [str(dim) for dim in again.graph.outputs[0].shape or ()] == ["N", "3"]


def test_unnamed_dims_stay_unnamed_in_the_file_and_equal_inside() -> None:
    model = from_nodes(
        [
            helper.make_node("Relu", ["x"], ["a"]),
            helper.make_node("Add", ["x", "a"], ["y"]),
        ],
        {"x": [None, 3]},
        {"y": None},
    )
    found = infer(model)
    values = model.graph.values()
    assert found.facts[values["a"]].shape == found.facts[values["y"]].shape
    sx.infer_shapes(model)
    assert values["y"].shape == (None, 3)


def test_inference_of_functions_and_control_flow() -> None:
    model = from_text(
        '<ir_version: 8, opset_import: ["" : 17]> g (bool c, float[N] x) => (float y) {'
        "  y = If (c) <then_branch = a () => (float p) { p = Concat <axis = 0> (x, x) },"
        "              else_branch = b () => (float q) { q = Relu (x) }> }"
    )
    fact = infer(model).facts[model.graph.outputs[0]]
    assert fact.rank == 1
    assert fact.dtype is not None
    assert fact.dtype.code == TensorProto.FLOAT


def test_problems_are_listed_not_raised() -> None:
    model = from_nodes(
        [helper.make_node("Add", ["x", "z"], ["y"], name="sum")],
        {"x": [2, 3], "z": [4]},
        {"y": None},
    )
    (problem,) = infer(model).problems
    assert "broadcast" in str(problem)
    assert "'sum'" in str(problem)
    with pytest.raises(sx.errors.InferenceError):
        sx.infer_shapes(model, strict=True)
