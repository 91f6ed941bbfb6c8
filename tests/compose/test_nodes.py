from __future__ import annotations

import numpy as np
import pytest

import sardonyx as sx
from build import from_text
from compose.running import random_feeds, run, sound
from sardonyx.errors import CheckError, InferenceError, InputError
from sardonyx.ir import Model

TEXT = """
<ir_version: 10, opset_import: ["" : 21]>
g (float[N, 4] x) => (float[N, 3] y, float[N, 4] s)
<float[4, 3] w = {1,2,3,4,5,6,7,8,9,10,11,12}>
{
    a = Relu(x)
    h = MatMul(a, w)
    y = Tanh(h)
    s = Neg(a)
}
"""


def model() -> Model:
    made = from_text(TEXT)
    for node in made.graph.nodes:
        node.name = f"n_{node.output.name}"
    return made


def types(of: Model) -> list[str]:
    return [node.op_type for node in of.graph.nodes]


def test_replace_one_operator_by_several() -> None:
    ours = sound(sx.compose.replace(model(), "n_a", lambda op, x: op.Mul(x, op.Sigmoid(x))))
    assert types(ours) == ["Sigmoid", "Mul", "MatMul", "Tanh", "Neg"]
    feeds = random_feeds(ours)
    a = feeds["x"] / (1 + np.exp(-feeds["x"]))
    np.testing.assert_allclose(run(ours, feeds)["s"], -a, rtol=1e-5)
    assert "a" in ours.graph.values()


def test_replace_what_gives_an_output() -> None:
    ours = sound(sx.compose.replace(model(), "y", lambda op, h: op.Add(op.Exp(h), 1.0)))
    feeds = random_feeds(ours)
    expected = np.exp(run(sx.compose.add_outputs(model(), ["h"]), feeds)["h"]) + 1
    np.testing.assert_allclose(run(ours, feeds)["y"], expected, rtol=1e-6)
    assert [v.name for v in ours.graph.outputs] == ["y", "s"]


def test_shapes_downstream_follow() -> None:
    other = np.ones((4, 7), np.float32)
    ours = sound(sx.compose.replace(model(), "n_h", lambda op, a, w: op.MatMul(a, other)))
    assert [str(dim) for dim in ours.graph.outputs[0].shape or ()] == ["N", "7"]
    assert "w" not in ours.graph.values()


def test_attributes_get_the_type_of_the_schema() -> None:
    ours = sound(sx.compose.replace(model(), "n_a", lambda op, x: op.LeakyRelu(x, alpha=1)))
    node = ours.graph.nodes.first
    assert node is not None
    assert node.attributes["alpha"].value == 1.0
    assert isinstance(node.attributes["alpha"].value, float)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises((CheckError, InferenceError), match="MatMul"):
        sx.compose.replace(
            model(), "n_h", lambda op, a, w: op.MatMul(a, np.ones((5, 3), np.float32))
        )
    with pytest.raises((CheckError, InferenceError), match="NoSuchOperator"):
        sx.compose.replace(model(), "n_a", lambda op, x: op.NoSuchOperator(x))
    with pytest.raises(InputError, match="a value is expected"):
        sx.compose.replace(model(), "n_a", lambda op, x: 3)
    with pytest.raises(InputError, match="no node 'n_b'"):
        sx.compose.replace(model(), "n_b", lambda op, x: x)


def test_insert_on_an_inner_value() -> None:
    ours = sound(sx.compose.insert(model(), "a", lambda op, a: op.Mul(a, 2.0)))
    feeds = random_feeds(ours)
    a = np.maximum(feeds["x"], 0)
    np.testing.assert_array_equal(run(ours, feeds)["s"], -2 * a)
    only = sound(sx.compose.insert(model(), "a", lambda op, a: op.Mul(a, 2.0), only=["n_h"]))
    np.testing.assert_array_equal(run(only, feeds)["s"], -a)
    np.testing.assert_array_equal(run(only, feeds)["y"], run(ours, feeds)["y"])
    with pytest.raises(InputError, match="does not read 'a'"):
        sx.compose.insert(model(), "a", lambda op, a: op.Neg(a), only=["n_y"])


def test_insert_before_an_output_and_after_an_input() -> None:
    ours = sound(sx.compose.insert(model(), "y", lambda op, y: op.Softmax(y, axis=-1)))
    assert [v.name for v in ours.graph.outputs] == ["y", "s"]
    feeds = random_feeds(ours)
    np.testing.assert_allclose(run(ours, feeds)["y"].sum(-1), 1, rtol=1e-6)
    cast = sound(sx.compose.insert(model(), "s", lambda op, s: op.Cast(s, to=11)))
    assert run(cast, feeds)["s"].dtype == np.float64
    scaled = sound(sx.compose.insert(model(), "x", lambda op, x: op.Div(x, 255.0)))
    feeds = random_feeds(scaled)
    expected = run(model(), {"x": feeds["x"] / np.float32(255)})["y"]
    np.testing.assert_array_equal(run(scaled, feeds)["y"], expected)


def test_remove() -> None:
    feeds = random_feeds(model())
    ours = sound(sx.compose.remove(model(), "n_a"))
    assert types(ours) == ["MatMul", "Tanh", "Neg"]
    np.testing.assert_array_equal(run(ours, feeds)["s"], -feeds["x"])
    ours = sound(sx.compose.remove(model(), "n_y"))
    assert types(ours) == ["Relu", "MatMul", "Neg"]
    assert [v.name for v in ours.graph.outputs] == ["y", "s"]
    ours = sound(sx.compose.remove(sx.compose.remove(model(), "n_a"), "n_s"))
    assert types(ours) == ["MatMul", "Tanh", "Identity"]
    np.testing.assert_array_equal(run(ours, feeds)["s"], feeds["x"])
    other = sound(sx.compose.remove(model(), "n_s", instead="x"))
    np.testing.assert_array_equal(run(other, feeds)["s"], feeds["x"])


def test_remove_needs_something_that_fits() -> None:
    with pytest.raises((CheckError, InferenceError)):
        sx.compose.remove(
            from_text(
                '<ir_version: 10, opset_import: ["" : 21]>'
                "g (float[2] x) => (float[2] y) { s = Shape(x) t = Cast<to = 1>(s) y = Add(x, t) }"
            ),
            "t",
        )
    split = from_text(
        '<ir_version: 10, opset_import: ["" : 21]>'
        "g (float[4] x) => (float[2] y) {"
        " a, b = Split<axis = 0, num_outputs = 2>(x) y = Add(a, b) }"
    )
    with pytest.raises(InputError, match="several outputs of the node are in use: 'a', 'b'"):
        sx.compose.remove(split, "a")


def test_nodes_in_subgraphs() -> None:
    text = """
    <ir_version: 10, opset_import: ["" : 21]>
    g (bool c, float[2] x) => (float[2] y) {
        h = Exp(x)
        y = If (c) <
            then_branch = a () => (float[2] p) { p = Neg(h) },
            else_branch = b () => (float[2] q) { q = Abs(h) }
        >
    }
    """
    ours = sound(sx.compose.replace(from_text(text), "p", lambda op, h: op.Mul(h, 3.0)))
    x = np.array([1, 2], np.float32)
    found = run(ours, {"c": np.array(True), "x": x})["y"]
    np.testing.assert_allclose(found, 3 * np.exp(x), rtol=1e-6)
    bypassed = sound(sx.compose.remove(from_text(text), "p"))
    found = run(bypassed, {"c": np.array(True), "x": x})["y"]
    np.testing.assert_allclose(found, np.exp(x), rtol=1e-6)
    inserted = sound(sx.compose.insert(from_text(text), "h", lambda op, h: op.Neg(h)))
    found = run(inserted, {"c": np.array(False), "x": x})["y"]
    np.testing.assert_allclose(found, np.exp(x), rtol=1e-6)


def test_outputs_can_be_added() -> None:
    ours = sound(sx.compose.add_outputs(model(), ["h", "a", "y"]))
    assert [v.name for v in ours.graph.outputs] == ["y", "s", "h", "a"]
    assert [str(dim) for dim in ours.graph.outputs[2].shape or ()] == ["N", "3"]
    with pytest.raises(InputError, match="no value 'z'"):
        sx.compose.add_outputs(model(), ["z"])


def test_operator_set_versions() -> None:
    made = model()
    assert sound(sx.compose.set_opset(made, 20)).opset() == 20
    with pytest.raises(sx.errors.ModelError, match="is not the same in versions 21 and 12"):
        sx.compose.set_opset(made, 12)
    with pytest.raises(InputError, match="version 999 of domain"):
        sx.compose.set_opset(made, 999)
    assert sx.compose.set_opset(made, 5, "ai.onnx.ml").opset("ai.onnx.ml") == 5


def test_the_model_stays_as_it_was() -> None:
    made = model()
    before = sx.dumps(made)
    sx.compose.replace(made, "n_a", lambda op, x: op.Mul(x, op.Sigmoid(x)))
    sx.compose.insert(made, "y", lambda op, y: op.Softmax(y))
    sx.compose.remove(made, "n_a")
    sx.compose.add_outputs(made, ["h"])
    assert sx.dumps(made) == before
