from __future__ import annotations

import numpy as np
import onnx
import onnx.compose
import pytest
from onnx import TensorProto, helper

import sardonyx as sx
from build import from_text
from compose.running import equal, model_of, proto, random_feeds, run, sound
from sardonyx.errors import InputError
from sardonyx.ir import (
    DeviceConfiguration,
    Model,
    NodeDeviceConfiguration,
    QuantizationAnnotation,
    ShardingSpec,
)

TEXT = """
<ir_version: 11, opset_import: ["" : 21, "local" : 1]>
g (bool c, float[N] x) => (float[N] y)
<float[1] w = {2}>
{
    h = Mul(x, w)
    y = If (c) <
        then_branch = a () => (float[N] p) { p = local.f(h) },
        else_branch = b () => (float[N] q) { k = Neg(h) q = Add(k, w) }
    >
}
<domain: "local", opset_import: ["" : 21]>
f (x) => (y) { h = Exp(x) y = Log(h) }
"""

FLAT = """
<ir_version: 10, opset_import: ["" : 21, "local" : 1]>
g (float[N] x) => (float[N] y) <float[1] w = {2}> { h = Mul(x, w) y = local.f(h) }
<domain: "local", opset_import: ["" : 21]>
f (x) => (y) { h = Exp(x) y = Log(h) }
"""


def annotated() -> Model:
    model = from_text(TEXT)
    model.graph.quantization.append(QuantizationAnnotation("h", {"SCALE_TENSOR": "w"}))
    model.configurations.append(DeviceConfiguration("two", 2))
    first = model.graph.nodes.first
    assert first is not None
    first.name = "first"
    specs = (ShardingSpec("x", (0, 1)), ShardingSpec("h", (0, 1)))
    first.devices = (NodeDeviceConfiguration("two", specs),)
    return model


def test_values_are_renamed_wherever_they_are_mentioned() -> None:
    model = annotated()
    ours = sx.compose.rename(model, {"h": "hidden", "x": "input", "w": "weight", "y": "output"})
    sound(ours)
    assert [v.name for v in (*ours.graph.inputs, *ours.graph.outputs)] == ["c", "input", "output"]
    (note,) = ours.graph.quantization
    assert (note.tensor_name, note.parameters) == ("hidden", {"SCALE_TENSOR": "weight"})
    first = ours.graph.nodes.first
    assert first is not None
    specs = first.devices[0].sharding_specs
    assert [spec.tensor_name for spec in specs] == ["input", "hidden"]
    body = ours.functions["local", "f", ""].graph
    assert [v.name for v in (*body.inputs, *body.outputs)] == ["x", "y"]
    x = np.array([1, 2], np.float32)
    for c in (True, False):
        expected = run(model, {"c": np.array(c), "x": x})["y"]
        found = run(ours, {"c": np.array(c), "input": x})["output"]
        np.testing.assert_array_equal(found, expected)


def test_names_can_be_swapped() -> None:
    model = from_text(TEXT)
    ours = sound(sx.compose.rename(model, {"h": "w", "w": "h"}))
    feeds = random_feeds(model)
    feeds["c"] = np.array(True)
    equal(run(ours, feeds), run(model, feeds))
    assert [v.name for v in ours.graph.initializers] == ["h"]


def test_nodes_functions_and_dims() -> None:
    model = annotated()
    ours = sound(
        sx.compose.rename(
            model, nodes={"first": "begin"}, functions={"f": "g"}, dims={"N": "length"}
        )
    )
    assert ours.graph.nodes.first is not None
    assert ours.graph.nodes.first.name == "begin"
    assert list(ours.functions) == [("local", "g", "")]
    assert [str(dim) for v in ours.graph.outputs for dim in v.shape or ()] == ["length"]
    calls = [n for n in ours.graph.all_nodes() if n.domain == "local"]
    assert [n.op_type for n in calls] == ["g"]


def test_names_must_be_known_and_free() -> None:
    model = annotated()
    for mapping, words in (
        ({"none": "a"}, "no value 'none'"),
        ({"h": "k"}, "another value is called so"),
        ({"h": ""}, "is empty"),
        ({"h": "n", "w": "n"}, "two values would be called 'n'"),
    ):
        with pytest.raises(InputError, match=words):
            sx.compose.rename(model, mapping)
    with pytest.raises(InputError, match="no node 'x'"):
        sx.compose.rename(model, nodes={"x": "y"})
    with pytest.raises(InputError, match="no function 'x'"):
        sx.compose.rename(model, functions={"x": "y"})
    with pytest.raises(InputError, match="no symbolic dimension 'x'"):
        sx.compose.rename(model, dims={"x": "y"})


def test_prefix_agrees_with_onnx() -> None:
    flat = from_text(FLAT)
    ours = sound(sx.compose.prefix(flat, "p/"))
    theirs = model_of(onnx.compose.add_prefix(proto(flat), "p/"))
    feeds = {"p/x": np.array([1, 2], np.float32)}
    equal(run(ours, feeds), run(theirs, feeds))
    # in subgraphs the witness forgets calls, and initializers that they capture
    model = from_text(TEXT)
    ours = sound(sx.compose.prefix(model, "p/"))
    x = np.array([1, 2], np.float32)
    for c in (True, False):
        expected = run(model, {"c": np.array(c), "x": x})["y"]
        np.testing.assert_array_equal(run(ours, {"p/c": np.array(c), "p/x": x})["p/y"], expected)
    assert {key[1] for key in ours.functions} == {"p/f"}
    kept = sound(sx.compose.prefix(model, "p/", keep=["x", "y"]))
    assert [v.name for v in (*kept.graph.inputs, *kept.graph.outputs)] == ["p/c", "x", "y"]
    with pytest.raises(InputError, match="is empty"):
        sx.compose.prefix(model, "")
    with pytest.raises(InputError, match="no value 'none'"):
        sx.compose.prefix(model, "p/", keep=["none"])


def test_training_information_follows() -> None:
    message = proto(from_text(TEXT))
    info = message.training_info.add()
    info.algorithm.CopyFrom(
        helper.make_graph(
            [helper.make_node("Sub", ["w", "h"], ["w_new"])],
            "step",
            [],
            [helper.make_tensor_value_info("w_new", TensorProto.FLOAT, None)],
        )
    )
    info.update_binding.add(key="w", value="w_new")
    ours = sx.compose.rename(model_of(message), {"w": "weight", "h": "hidden"})
    (training,) = ours.training
    assert training.update_binding == {"weight": "w_new"}
    assert training.algorithm is not None
    (node,) = training.algorithm.nodes
    assert [v.name for v in node.inputs if v] == ["weight", "hidden"]


def test_the_model_stays_as_it_was() -> None:
    model = annotated()
    before = sx.dumps(model)
    sx.compose.rename(model, {"h": "z"}, nodes={"first": "b"}, dims={"N": "M"})
    sx.compose.prefix(model, "p/")
    assert sx.dumps(model) == before


def with_gradient() -> Model:
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, []) for name in ("a", "b", "c")]
    made = [helper.make_tensor_value_info(name, TensorProto.FLOAT, []) for name in ("da", "db")]
    training = "ai.onnx.preview.training"
    nodes = [
        helper.make_node("Mul", ["a", "b"], ["c"]),
        helper.make_node("Neg", ["a"], ["unused"]),
        helper.make_node(
            "Gradient", ["a", "b"], ["da", "db"], domain=training, xs=["a", "b"], y="c"
        ),
    ]
    graph = helper.make_graph(nodes, "g", info[:2], made)
    imports = [helper.make_opsetid("", 21), helper.make_opsetid(training, 1)]
    return model_of(helper.make_model(graph, opset_imports=imports, ir_version=10))


def test_names_within_gradient_nodes_count() -> None:
    model = with_gradient()
    ours = sx.compose.rename(model, {"a": "first", "c": "product"})
    node = ours.graph.nodes.last
    assert node is not None
    assert (node.attribute("xs"), node.attribute("y")) == (("first", "b"), "product")
    part = sx.compose.extract(model, outputs=["da", "db"])
    assert [node.op_type for node in part.graph.nodes] == ["Mul", "Gradient"]
    assert [node.op_type for node in sx.compose.prune(model).graph.nodes] == ["Mul", "Gradient"]
    feeds = {"a": np.array(3, np.float32), "b": np.array(4, np.float32)}
    equal(run(part, feeds), {"da": np.float32(4), "db": np.float32(3)})
