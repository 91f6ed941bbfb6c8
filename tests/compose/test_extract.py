from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx.utils import Extractor

import sardonyx as sx
from build import from_text
from compose.running import equal, model_of, proto, random_feeds, run, sound
from sardonyx.errors import ExternalDataError, InputError, ModelError

BRANCHED = """
<ir_version: 10, opset_import: ["" : 21]>
g (float[N, 4] x, float[N, 4] other) => (float[N, 4] y, float[N, 4] z)
<float[4, 4] w = {1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16}, float[4] b = {1,-1,2,-2}>
{
    h = MatMul(x, w)
    a = Add(h, b)
    r = Relu(a)
    s = Mul(r, other)
    y = Tanh(s)
    z = Sigmoid(r)
}
"""


def test_agrees_with_the_extractor_of_onnx() -> None:
    model = from_text(BRANCHED)
    known = onnx.shape_inference.infer_shapes(proto(model))
    for inputs, outputs in (
        (["x"], ["r"]),
        (["h", "other"], ["y"]),
        (["r", "other"], ["y", "z"]),
        (["x"], ["z"]),
        (["a"], ["z", "r"]),
    ):
        theirs = model_of(Extractor(known).extract_model(inputs, outputs))
        ours = sound(sx.compose.extract(model, inputs, outputs))
        assert [v.name for v in ours.graph.inputs] == inputs
        assert [v.name for v in ours.graph.outputs] == outputs
        assert [n.op_type for n in ours.graph.nodes] == [n.op_type for n in theirs.graph.nodes]
        assert {v.name for v in ours.graph.initializers} == {
            v.name for v in theirs.graph.initializers
        }
        feeds = random_feeds(theirs)
        equal(run(ours, feeds), run(theirs, feeds))


def test_inputs_follow_from_outputs() -> None:
    part = sound(sx.compose.extract(from_text(BRANCHED), outputs=["z"]))
    assert [v.name for v in part.graph.inputs] == ["x"]
    whole = sx.compose.extract(from_text(BRANCHED))
    assert sx.dumps(whole) == sx.dumps(from_text(BRANCHED))


def test_the_model_stays_as_it_was() -> None:
    model = from_text(BRANCHED)
    before = sx.dumps(model)
    sx.compose.extract(model, ["h"], ["z"])
    assert sx.dumps(model) == before


def test_types_are_inferred_where_the_file_is_silent() -> None:
    part = sx.compose.extract(from_text(BRANCHED), ["r"], ["z"])
    (value,) = part.graph.inputs
    assert [str(dim) for dim in value.shape or ()] == ["N", "4"]


def test_a_missing_input_is_named() -> None:
    with pytest.raises(InputError, match=r"'y' needs the input 'other', which is not given"):
        sx.compose.extract(from_text(BRANCHED), ["r"], ["y"])


def test_unknown_names() -> None:
    model = from_text(BRANCHED)
    with pytest.raises(InputError, match="no value 'othr'") as raised:
        sx.compose.extract(model, ["othr"], ["y"])
    assert raised.value.hint == "did you mean 'other'?"
    with pytest.raises(InputError, match="named twice"):
        sx.compose.extract(model, outputs=["y", "y"])


def test_a_constant_can_become_an_input() -> None:
    part = sound(sx.compose.extract(from_text(BRANCHED), ["h", "b"], ["r"]))
    assert [v.name for v in part.graph.required_inputs] == ["h", "b"]
    feeds = {"h": np.ones((1, 4), np.float32), "b": np.full(4, -3, np.float32)}
    np.testing.assert_array_equal(run(part, feeds)["r"], np.zeros((1, 4), np.float32))


def test_a_node_whose_other_output_is_needed_stays() -> None:
    model = from_text(
        """
        <ir_version: 10, opset_import: ["" : 21]>
        g (float[4] x) => (float[2] y) {
            a, b = Split<axis = 0, num_outputs = 2>(x)
            y = Add(a, b)
        }
        """
    )
    part = sound(sx.compose.extract(model, ["x", "a"], ["y"]))
    feeds = {"x": np.arange(4, dtype=np.float32), "a": np.array([10, 20], np.float32)}
    np.testing.assert_array_equal(run(part, feeds)["y"], [12, 23])


CAPTURING = """
<ir_version: 10, opset_import: ["" : 21]>
g (bool c, float[2] x, float[2] unrelated) => (float[2] y, float[2] u)
<float[2] w = {3, 4}, float[2] v = {5, 6}>
{
    h = Mul(x, w)
    y = If (c) <
        then_branch = t () => (float[2] p) { p = Add(h, w) },
        else_branch = e () => (float[2] q) { k = Neg(x) q = Add(k, h) }
    >
    u = Mul(unrelated, v)
}
"""


def test_captures_are_needed_too() -> None:
    model = from_text(CAPTURING)
    part = sound(sx.compose.extract(model, outputs=["y"]))
    assert [v.name for v in part.graph.inputs] == ["c", "x"]
    assert [v.name for v in part.graph.initializers] == ["w"]
    cut = sound(sx.compose.extract(model, ["c", "h", "x"], ["y"]))
    assert [n.op_type for n in cut.graph.nodes] == ["If"]
    x = np.array([1, 2], np.float32)
    for c in (True, False):
        whole = run(model, {"c": np.array(c), "x": x, "unrelated": x})["y"]
        np.testing.assert_array_equal(run(part, {"c": np.array(c), "x": x})["y"], whole)
        feeds = {"c": np.array(c), "x": x, "h": x * np.array([3, 4], np.float32)}
        np.testing.assert_array_equal(run(cut, feeds)["y"], whole)
    with pytest.raises(InputError, match="'y' needs the input 'x'"):
        sx.compose.extract(model, ["c", "h"], ["y"])


def test_values_of_subgraphs_are_out_of_reach() -> None:
    with pytest.raises(InputError, match="'k' lies within a subgraph"):
        sx.compose.extract(from_text(CAPTURING), outputs=["k"])


def test_functions_that_are_called_come_along() -> None:
    model = from_text(
        """
        <ir_version: 10, opset_import: ["" : 21, "local" : 1]>
        g (float[2] x) => (float[2] y, float[2] z) {
            a = local.outer(x)
            y = Relu(a)
            z = local.lone(x)
        }
        <domain: "local", opset_import: ["" : 21, "local" : 1]>
        outer (x) => (y) { y = local.inner(x) }
        <domain: "local", opset_import: ["" : 21]>
        inner (x) => (y) { y = Neg(x) }
        <domain: "local", opset_import: ["" : 21]>
        lone (x) => (y) { y = Exp(x) }
        """
    )
    part = sx.compose.extract(model, outputs=["y"])
    assert {key[1] for key in part.functions} == {"outer", "inner"}
    sound(part)
    assert not sx.compose.extract(model, ["a"], ["y"]).functions


def test_an_unknown_type_is_an_error() -> None:
    nodes = [
        helper.make_node("Odd", ["x"], ["a"], domain="custom"),
        helper.make_node("Relu", ["a"], ["y"]),
    ]
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in "xy"]
    graph = helper.make_graph(nodes, "g", info[:1], info[1:])
    imports = [helper.make_opsetid("", 21), helper.make_opsetid("custom", 1)]
    model = model_of(helper.make_model(graph, opset_imports=imports, ir_version=10))
    with pytest.raises(ModelError, match="the type of 'a' is not known"):
        sx.compose.extract(model, ["a"], ["y"])
    assert sx.compose.extract(model, ["x"], ["y"]).graph.nodes.first is not None


def test_weights_stay_unread(tmp_path: Path) -> None:
    """A data file whose checksum is wrong can be cut, since nothing reads it until it is saved."""
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["h"]),
            helper.make_node("Add", ["h", "b"], ["y"]),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 512])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 512])],
        [external("w", (512, 512), 0), external("b", (512,), 512 * 512 * 4)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    with (tmp_path / "w.bin").open("wb") as file:
        file.truncate(3 << 30)
    part = sx.compose.extract(sx.load(tmp_path / "m.onnx"), ["h"], ["y"])
    assert [v.name for v in part.graph.initializers] == ["b"]
    assert [str(dim) for dim in part.graph.inputs[0].shape or ()] == ["N", "512"]
    assert part.graph.initializers[0].const is not None
    for edited in (
        sx.compose.prefix(part, "p/"),
        sx.compose.prune(part),
        sx.compose.make_dynamic(part, {"h": {0: "batch"}}),
        sx.compose.replace(part, "y", lambda op, h, b: op.Sub(h, b)),
    ):
        assert edited.graph.initializers[0].const is part.graph.initializers[0].const


def external(name: str, shape: tuple[int, ...], offset: int) -> TensorProto:
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=shape)
    tensor.data_location = TensorProto.EXTERNAL
    entries = {
        "location": "w.bin",
        "offset": str(offset),
        "length": str(4 * int(np.prod(shape))),
        "checksum": hashlib.sha1(b"another file", usedforsecurity=False).hexdigest(),
    }
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=value)
    return tensor


def test_a_wrong_checksum_is_found_when_weights_are_read(tmp_path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "b"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [512])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [512])],
        [external("b", (512,), 0)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    (tmp_path / "w.bin").write_bytes(bytes(2048))
    part = sx.compose.extract(sx.load(tmp_path / "m.onnx"))
    with pytest.raises(ExternalDataError, match="SHA-1"):
        part.graph.initializers[0].const.raw()  # type: ignore[union-attr]
