from __future__ import annotations

import numpy as np
import onnx
import onnx.compose
import pytest

import sardonyx as sx
from build import from_text
from compose.running import equal, model_of, proto, random_feeds, run, sound
from sardonyx.errors import InputError, ModelError
from sardonyx.ir import Model

FIRST = """
<ir_version: 9, opset_import: ["" : 21], producer_name: "one">
g (float[N, 4] x) => (float[N, 3] h, float[N, 4] side)
<float[4, 3] w = {1,2,3,4,5,6,7,8,9,10,11,12}>
{ t = MatMul(x, w) h = Relu(t) side = Neg(x) }
"""
SECOND = """
<ir_version: 10, opset_import: ["" : 21, "ai.onnx.ml" : 3]>
g (float[B, 3] v, float[B, 3] extra) => (float[B, 3] y)
<float[3] w = {1, 2, 3}>
{ t = Mul(v, w) u = Add(t, extra) y = Tanh(u) }
"""


def in_turn(first: Model, second: Model, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    made = run(first, {"x": feeds["x"]})
    return {"side": made["side"], **run(second, {"v": made["h"], "extra": feeds["extra"]})}


def test_agrees_with_onnx_and_with_running_in_turn() -> None:
    first, second = from_text(FIRST), from_text(SECOND)
    ours = sound(sx.compose.merge(first, second, {"h": "v"}))
    prefixed = onnx.compose.merge_models(
        with_ir(proto(first)),
        with_ir(proto(second)),
        [("h", "v")],
        prefix1="a/",
        prefix2="b/",
    )
    assert [v.name for v in ours.graph.inputs] == ["x", "extra"]
    assert [v.name for v in ours.graph.outputs] == ["side", "y"]
    feeds = {"x": random_feeds(first)["x"], "extra": random_feeds(second, 1)["extra"]}
    expected = in_turn(first, second, feeds)
    equal(run(ours, feeds), expected)
    theirs = run(model_of(prefixed), {"a/x": feeds["x"], "b/extra": feeds["extra"]})
    np.testing.assert_array_equal(theirs["b/y"], expected["y"])
    also = sound(sx.compose.merge(first, second, {"h": "v"}, prefixes=("a/", "b/")))
    equal(run(also, {"a/x": feeds["x"], "b/extra": feeds["extra"]}), theirs)


def with_ir(message: onnx.ModelProto) -> onnx.ModelProto:
    message.ir_version = 10
    return message


def test_inner_names_that_clash_are_told_apart() -> None:
    ours = sx.compose.merge(from_text(FIRST), from_text(SECOND), {"h": "v"})
    assert {v.name for v in ours.graph.initializers} == {"w", "w_1"}
    assert ours.ir_version == 10
    assert ours.opset_imports == {"": 21, "ai.onnx.ml": 3}
    with pytest.raises(InputError, match="the input 'x' of the second model") as raised:
        sx.compose.merge(from_text(FIRST), from_text(FIRST), {})
    assert "prefix" in str(raised.value.hint)


def test_two_models_with_the_same_names() -> None:
    text = """
    <ir_version: 9, opset_import: ["" : 21]>
    g (float[N, 2] input) => (float[N, 2] output)
    <float[2] w = {2, 3}> { t = Mul(input, w) output = Add(t, w) }
    """
    model = from_text(text)
    ours = sound(sx.compose.merge(model, model, {"output": "input"}))
    assert [v.name for v in (*ours.graph.inputs, *ours.graph.outputs)] == ["input", "output"]
    feeds = random_feeds(model)
    twice = run(model, {"input": run(model, feeds)["output"]})
    equal(run(ours, feeds), twice)


def test_symbols_are_joined_by_connections_only() -> None:
    text = SECOND.replace("[B, 3] extra", "[N, 3] extra").replace("Add(t, extra)", "Identity(t)")
    ours = sx.compose.merge(from_text(FIRST), from_text(text), {"h": "v"})
    shapes = {v.name: str(v.shape[0]) for v in (*ours.graph.inputs, *ours.graph.outputs)}  # type: ignore[index]
    assert shapes == {"x": "N", "extra": "N_1", "side": "N", "y": "N"}


def test_one_output_feeds_two_inputs() -> None:
    first, second = from_text(FIRST), from_text(SECOND)
    ours = sound(sx.compose.merge(first, second, [("h", "v"), ("h", "extra")]))
    feeds = random_feeds(first)
    h = run(first, feeds)["h"]
    np.testing.assert_array_equal(run(ours, feeds)["y"], run(second, {"v": h, "extra": h})["y"])


def test_outputs_can_be_chosen() -> None:
    first, second = from_text(FIRST), from_text(SECOND)
    ours = sound(sx.compose.merge(first, second, {"h": "v"}, outputs=["side"]))
    assert [n.op_type for n in ours.graph.nodes] == ["Neg"]
    assert [v.name for v in ours.graph.inputs] == ["x"]
    kept = sound(sx.compose.merge(first, second, {"h": "v"}, outputs=["y", "h"]))
    assert [v.name for v in kept.graph.outputs] == ["y", "h"]


def test_connections_must_fit() -> None:
    first = from_text(FIRST)
    for text, words in (
        (SECOND.replace("float[B, 3] v", "float[B, 5] v"), r"the input is \[B, 5\]"),
        (SECOND.replace("float[B, 3] v", "double[B, 3] v"), r"tensor\(double\)"),
        (SECOND.replace("float[B, 3] v", "float[3] v"), r"\[3\]"),
    ):
        with pytest.raises(InputError, match=words):
            sx.compose.merge(first, from_text(text), {"h": "v"})
    with pytest.raises(InputError, match="no output 'hh'"):
        sx.compose.merge(first, from_text(SECOND), {"hh": "v"})
    with pytest.raises(InputError, match="no input 'vv'"):
        sx.compose.merge(first, from_text(SECOND), {"h": "vv"})
    with pytest.raises(InputError, match="connected twice"):
        sx.compose.merge(first, from_text(SECOND), [("h", "v"), ("side", "v")])


def test_operator_sets_that_mean_the_same_are_joined() -> None:
    older = FIRST.replace('"" : 21', '"" : 19')
    ours = sound(sx.compose.merge(from_text(older), from_text(SECOND), {"h": "v"}))
    assert ours.opset_imports[""] == 21
    oldest = FIRST.replace('"" : 21', '"" : 12')
    with pytest.raises(ModelError, match="imported") as raised:
        sx.compose.merge(from_text(oldest), from_text(SECOND.replace(": 21", ": 13")), {"h": "v"})
    assert raised.value.hint


FUNCTION = '<domain: "local", opset_import: ["" : 21]> f (x) => (y) { y = %s(x) }'
CALLING = """
<ir_version: 10, opset_import: ["" : 21, "local" : 1], metadata_props: ["by" : "%s"]>
%s (float[2] %s) => (float[2] %s) { %s = local.f(%s) }
"""


def calling(name: str, source: str, made: str, op_type: str, by: str = "me") -> Model:
    text = CALLING % (by, name, source, made, made, source)
    return from_text(text + FUNCTION % op_type)


def test_functions_and_metadata() -> None:
    first = calling("one", "a", "b", "Neg")
    same = sound(sx.compose.merge(first, calling("two", "c", "d", "Neg"), {"b": "c"}))
    assert len(same.functions) == 1
    assert same.graph.name == "one_two"
    other = calling("two", "c", "d", "Exp", by="you")
    with pytest.raises(InputError, match="both models have a function 'f'"):
        sx.compose.merge(first, other, {"b": "c"})
    with pytest.raises(InputError, match="metadata of the two models differ in 'by'"):
        sx.compose.merge(first, other, {"b": "c"}, prefixes=("", "p/"))
    ours = sx.compose.merge(first, other, {"b": "c"}, prefixes=("", "p/"), metadata={"by": "both"})
    assert ours.metadata == {"by": "both"}
    x = np.array([1, 2], np.float32)
    np.testing.assert_allclose(run(ours, {"a": x})["p/d"], np.exp(-x), rtol=1e-6)


def test_what_the_second_passes_through() -> None:
    second = from_text(
        '<ir_version: 10, opset_import: ["" : 21]>'
        "g (float[N, 3] v) => (float[N, 3] v, float[N, 3] y) { y = Neg(v) }"
    )
    first = from_text(FIRST)
    ours = sound(sx.compose.merge(first, second, {"h": "v"}))
    assert [v.name for v in ours.graph.outputs] == ["side", "v", "y"]
    feeds = random_feeds(first)
    found = run(ours, feeds)
    np.testing.assert_array_equal(found["v"], run(first, feeds)["h"])


def test_the_models_stay_as_they_were() -> None:
    first, second = from_text(FIRST), from_text(SECOND)
    before = sx.dumps(first), sx.dumps(second)
    sx.compose.merge(first, second, {"h": "v"})
    assert (sx.dumps(first), sx.dumps(second)) == before


def test_three_in_a_row() -> None:
    first, second = from_text(FIRST), from_text(SECOND)
    two = sx.compose.merge(first, second, {"h": "v"}, outputs=["y"])
    third = sx.compose.prefix(second, "third/")
    three = sound(sx.compose.merge(two, third, {"y": "third/v"}))
    assert [v.name for v in three.graph.inputs] == ["x", "extra", "third/extra"]
