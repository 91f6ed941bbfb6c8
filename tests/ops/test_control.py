"""If, Loop and Scan: against onnxruntime; sound inference; bounded trips."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime
import pytest

from build import from_text
from sardonyx.errors import ExecutionError, LimitError
from sardonyx.infer import infer
from sardonyx.limits import Limits
from sardonyx.reference import Evaluator
from single_operator import assert_same

if TYPE_CHECKING:
    from sardonyx.ir import Model

HEAD = '<ir_version: 8, opset_import: ["" : 17]> g '


def by_onnxruntime(text: str, feeds: dict[str, Any]) -> list[Any]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    data = onnx.parser.parse_model(text).SerializeToString()
    results: list[Any] = onnxruntime.InferenceSession(data, options).run(None, feeds)
    return results


def check(text: str, feeds: dict[str, Any]) -> Model:
    """Our outputs equal onnxruntime's and what inference said; returns the model."""
    model = from_text(text)
    outputs = Evaluator(model).run(feeds)
    actual = [outputs[value.name] for value in model.graph.outputs]
    assert_same(actual, by_onnxruntime(text, feeds))
    found = infer(model)
    assert found.problems == []
    for value, array in zip(model.graph.outputs, actual, strict=True):
        shape = found.facts[value].shape
        if shape is not None:
            assert len(shape) == array.ndim
            assert all(
                size == dim
                for size, dim in zip(array.shape, shape, strict=True)
                if isinstance(dim, int)
            )
    return model


IF = (
    HEAD
    + """(bool c, float[2, 3] x) => (float[A, B] y) {
    y = If (c) <
        then_branch = t () => (float[M, K] a) { a = Concat <axis = 0> (x, x) },
        else_branch = e () => (float[M, K] b) { b = Neg (x) }>
}"""
)
X = np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.mark.parametrize("condition", [True, False])
def test_if(condition: bool) -> None:
    check(IF, {"c": np.array(condition), "x": X})


def test_if_joins_its_branches() -> None:
    model = from_text(IF)
    rows, columns = infer(model).facts[model.graph.outputs[0]].shape
    assert not isinstance(rows, int)
    assert columns == 3


LOOP = (
    HEAD
    + """(int64 M, bool go, float[2] s) => (float[2] last, float[K, 2] all) {
    last, all = Loop (M, go, s) <
        body = b (int64 i, bool c, float[2] v) => (bool d, float[2] w, float[2] seen) {
            limit = Constant <value_float = 100.0> ()
            w = Add (v, v)
            seen = Neg (v)
            total = ReduceSum <keepdims = 0> (w)
            d = Less (total, limit)
        }>
}"""
)


@pytest.mark.parametrize(("trips", "go"), [(3, True), (50, True), (5, False), (1, True)])
def test_loop(trips: int, go: bool) -> None:
    feeds = {"M": np.array(trips), "go": np.array(go), "s": np.float32([1, 2])}
    check(LOOP, feeds)


GROWING = (
    HEAD
    + """(int64 M, float[1, 3] s, float[2, N] t) => (float[R, 3] y, float[A, B] z) {
    y, z = Loop (M, , s, t) <
        body = b (int64 i, bool c, float[P, Q] v, float[D, E] u)
            => (bool d, float[F, G] w, float[H, I] o) {
            d = Identity (c)
            w = Concat <axis = 0> (v, v)
            o = Transpose (u)
        }>
}"""
)


def test_growing_states_are_inferred_soundly() -> None:
    feeds = {
        "M": np.array(3),
        "s": np.ones((1, 3), np.float32),
        "t": np.zeros((2, 5), np.float32),
    }
    model = check(GROWING, feeds)
    rows, columns = infer(model).facts[model.graph.outputs[0]].shape
    assert not isinstance(rows, int)
    assert columns == 3
    flipped = infer(model).facts[model.graph.outputs[1]].shape
    assert not any(isinstance(dim, int) for dim in flipped)


def test_scan_outputs_have_the_trip_count_when_nothing_else_ends_the_loop() -> None:
    model = from_text(
        HEAD
        + """(float[N, 2] x) => (float[K, 2] y) {
            zero = Constant <value_int = 0> ()
            sizes = Shape (x)
            rows = Gather (sizes, zero)
            y = Loop (rows, ) <
                body = b (int64 i, bool c) => (bool d, float[2] row) {
                    d = Equal (zero, zero)
                    row = Gather (x, i)
                }>
        }"""
    )
    found = infer(model)
    assert found.problems == []
    assert str(found.facts[model.graph.outputs[0]]) == "tensor(float)[N, 2]"


def test_endless_loops_end_at_the_limit() -> None:
    model = from_text(
        HEAD
        + """(float[1] s) => (float[1] y) {
            y = Loop (, , s) <
                body = b (int64 i, bool c, float[1] v) => (bool d, float[1] w) {
                    d = Identity (c)
                    w = Neg (v)
                }>
        }"""
    )
    with pytest.raises(LimitError, match="loop iterations"):
        Evaluator(model, limits=Limits(loop_iterations=50)).run({"s": np.float32([1])})


def test_growing_scan_outputs_end_at_the_limit() -> None:
    feeds = {"M": np.array(2**62), "go": np.array(True), "s": np.zeros(2, np.float32)}
    with pytest.raises(LimitError, match="tensor bytes"):
        Evaluator(from_text(LOOP), limits=Limits(tensor_bytes=1000)).run(feeds)


def test_a_condition_of_several_elements_is_an_error() -> None:
    with pytest.raises(ExecutionError, match="one element"):
        Evaluator(from_text(IF)).run({"c": np.array([True, False]), "x": X})


SCAN = (
    HEAD
    + """(float[3] s, float[3, T] x) => (float[3] y, float[A, B] z) {
    y, z = Scan <num_scan_inputs = 1, scan_input_axes = [1], scan_input_directions = [%d],
        scan_output_axes = [%d], scan_output_directions = [%d],
        body = b (float[3] v, float[3] e) => (float[3] w, float[3] o) {
            w = Add (v, e)
            o = Mul (w, e)
        }> (s, x)
}"""
)


@pytest.mark.parametrize("backward", [0, 1])
@pytest.mark.parametrize("axis", [0, -1])
@pytest.mark.parametrize("prepend", [0, 1])
def test_scan(backward: int, axis: int, prepend: int) -> None:
    data = np.arange(12, dtype=np.float32).reshape(3, 4)
    text = SCAN % (backward, axis, prepend)
    model = check(text, {"s": np.ones(3, np.float32), "x": data})
    shape = infer(model).facts[model.graph.outputs[1]].shape
    assert [str(dim) for dim in shape] == (["T", "3"] if axis == 0 else ["3", "T"])


SCAN_8 = """<ir_version: 3, opset_import: ["" : 8]> g
(int64[2] lens, float[2, 1] s, float[2, 4, 1] x) => (float[2, 1] y, float[2, 4, 1] z) {
    y, z = Scan <num_scan_inputs = 1, directions = [%d],
        body = b (float[1] v, float[1] e) => (float[1] w, float[1] o) {
            w = Add (v, e)
            o = Neg (e)
        }> (lens, s, x)
}"""


@pytest.mark.parametrize("backward", [0, 1])
def test_scan_of_opset_8(backward: int) -> None:
    feeds = {
        "lens": np.array([2, 4]),
        "s": np.ones((2, 1), np.float32),
        "x": np.arange(8, dtype=np.float32).reshape(2, 4, 1),
    }
    check(SCAN_8 % backward, feeds)


def test_scan_refuses_lengths_that_do_not_fit() -> None:
    feeds = {
        "lens": np.array([2, 5]),
        "s": np.ones((2, 1), np.float32),
        "x": np.ones((2, 4, 1), np.float32),
    }
    with pytest.raises(ExecutionError, match="sequence_lens"):
        Evaluator(from_text(SCAN_8 % 0)).run(feeds)


def test_scan_states_keep_their_shape() -> None:
    text = (
        HEAD
        + """(float[1] s, float[3, 2] x) => (float[A] y) {
        y = Scan <num_scan_inputs = 1,
            body = b (float[P] v, float[2] e) => (float[Q] w) { w = Concat <axis = 0> (v, e) }>
            (s, x)
    }"""
    )
    model = from_text(text)
    with pytest.raises(ExecutionError, match="become"):
        Evaluator(model).run({"s": np.ones(1, np.float32), "x": np.ones((3, 2), np.float32)})
    assert len(infer(model).problems) == 1


def test_growing_loops_in_growing_loops_take_few_passes() -> None:
    inner = "w30 = Concat <axis = 0> (v30, v30)"
    for level in reversed(range(30)):
        inner = (
            f"w{level} = Loop (M, , v{level}) <body = b{level} (int64 i{level}, bool c{level}, "
            f"float[A{level}] v{level + 1}) => (bool d{level}, float[B{level}] w{level + 1}) "
            f"{{ d{level} = Identity (c{level}) {inner} }}>"
        )
    model = from_text(f"{HEAD}(int64 M, float[1] v0) => (float[A] w0) {{ {inner} }}")
    before = time.monotonic()
    found = infer(model)
    assert time.monotonic() - before < 2
    assert not isinstance((found.facts[model.graph.outputs[0]].shape or (None,))[0], int)
