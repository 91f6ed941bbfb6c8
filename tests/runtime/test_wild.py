"""What files in the wild have and runtimes take: reported where wrong, never refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import sardonyx as sx
from sardonyx.check import validate

X = np.array([[-1.0, 2.0]], np.float32)


def model(
    nodes: list[onnx.NodeProto],
    output_shape: list[object],
    *,
    ir_version: int = 8,
    opsets: dict[str, int] | None = None,
    input_name: str = "x",
    output_name: str = "y",
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(input_name, TensorProto.FLOAT, ["N", 2])],
        [helper.make_tensor_value_info(output_name, TensorProto.FLOAT, output_shape)],
    )
    imports = [helper.make_opsetid(*pair) for pair in (opsets or {"": 17}).items()]
    return helper.make_model(graph, opset_imports=imports, ir_version=ir_version)


RELU = [helper.make_node("Relu", ["x"], ["y"])]


def run(proto: onnx.ModelProto, name: str = "x") -> np.ndarray:
    (y,) = sx.Session(proto.SerializeToString()).run(None, {name: X})
    assert isinstance(y, np.ndarray)
    return y


def test_a_wrong_declared_output_shape_is_reported_and_runs() -> None:
    proto = model(RELU, [7, 5])
    np.testing.assert_array_equal(run(proto), [[0, 2]])
    report = validate(sx.loads(proto.SerializeToString()))
    assert report.errors == []
    assert [problem.kind for problem in report.warnings] == ["declared-type"]


def test_unused_unknown_domains() -> None:
    proto = model(RELU, ["N", 2], opsets={"": 17, "com.example.nobody": 3, "ai.onnx.ml": 2})
    np.testing.assert_array_equal(run(proto), [[0, 2]])


@pytest.mark.parametrize(("ir_version", "opset"), [(4, 11), (10, 11), (3, 7), (6, 13), (14, 28)])
def test_ir_and_opset_versions_that_do_not_go_together(ir_version: int, opset: int) -> None:
    proto = model(RELU, ["N", 2], ir_version=ir_version, opsets={"": opset})
    np.testing.assert_array_equal(run(proto), [[0, 2]])


@pytest.mark.parametrize(
    "name", ["input:0", "std::vector<float>", '{"a": [1]}', "é\u4e2d", "a b/c"]
)
def test_odd_names(name: str) -> None:
    inner = f"{name}::hidden"
    nodes = [
        helper.make_node("Relu", [name], [inner]),
        helper.make_node("Neg", [inner], [name * 2]),
    ]
    proto = model(nodes, ["N", 2], input_name=name, output_name=name * 2)
    np.testing.assert_array_equal(run(proto, name), [[0, -2]])


def test_an_input_that_is_an_output() -> None:
    proto = model(RELU, ["N", 2])
    proto.graph.output.append(proto.graph.input[0])
    y, x = sx.Session(proto.SerializeToString()).run(None, {"x": X})
    np.testing.assert_array_equal(x, X)
    np.testing.assert_array_equal(y, [[0, 2]])


def test_weights_only_in_subgraphs() -> None:
    def branch(name: str, values: list[float]) -> onnx.GraphProto:
        out = helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
        weight = helper.make_tensor(f"w_{name}", TensorProto.FLOAT, [2], values)
        node = helper.make_node("Mul", ["x", f"w_{name}"], [name])
        return helper.make_graph([node], name, [], [out], initializer=[weight])

    nodes = [
        helper.make_node("ReduceSum", ["x"], ["s"], keepdims=0),
        helper.make_node("Constant", [], ["zero"], value_float=0.0),
        helper.make_node("Greater", ["s", "zero"], ["c"]),
        helper.make_node(
            "If", ["c"], ["y"], then_branch=branch("a", [1, 10]), else_branch=branch("b", [5, 5])
        ),
    ]
    np.testing.assert_array_equal(run(model(nodes, ["N", 2])), [[-1, 20]])


def test_external_data_beside_the_file(tmp_path: Path) -> None:
    proto = model([helper.make_node("Add", ["x", "w"], ["y"])], ["N", 2])
    weight = np.array([1.0, 2.0], np.float32)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
    path = tmp_path / "m.onnx"
    onnx.save(proto, path, save_as_external_data=True, location="w.bin", size_threshold=0)
    session = sx.Session(path)
    (tmp_path / "w.bin").unlink()
    np.testing.assert_array_equal(session.run(None, {"x": X})[0], [[0, 4]])
