from __future__ import annotations

import numpy as np
import onnx
import onnx.inliner
import pytest

import sardonyx as sx
from build import from_text
from compose.running import equal, model_of, proto, random_feeds, run, sound
from sardonyx.errors import InputError, LimitError, ModelError
from sardonyx.ir import Attribute, AttributeType, Function, Graph, Model, Node, Value
from sardonyx.limits import Limits

HEAD = '<ir_version: 10, opset_import: ["" : 21, "local" : 1]>\n'
LOCAL = '<domain: "local", opset_import: ["" : 21, "local" : 1]>\n'

NESTED = (
    HEAD
    + """
g (float[2, 3] x) => (float[2, 3] y, float[2, 3] z) {
    t = Neg(x)
    y = local.twice(t)
    u = local.scaled<by = 3.0>(y)
    z = local.scaled(u)
}
"""
    + LOCAL
    + "twice (x) => (y) { t = Add(x, x) y = local.scaled<by = 0.5>(t) }\n"
    + LOCAL
    + """scaled <by: float = 2.0> (x) => (y) {
    t = Constant<value_float: float = @by>()
    c = CastLike(t, x)
    y = Mul(x, c)
}
"""
)


def test_agrees_with_the_inliner_of_onnx() -> None:
    model = from_text(NESTED)
    ours = sound(sx.compose.inline(model))
    # the witness leaves out attributes that a call leaves to their default
    explicit = from_text(NESTED.replace("scaled(u)", "scaled<by = 2.0>(u)"))
    theirs = model_of(onnx.inliner.inline_local_functions(proto(explicit)))
    assert not ours.functions
    assert [n.op_type for n in ours.graph.nodes] == [n.op_type for n in theirs.graph.nodes]
    feeds = random_feeds(model)
    expected = run(model, feeds)
    equal(run(ours, feeds), expected)
    equal(run(theirs, feeds), expected)
    assert "local" not in ours.opset_imports


def test_only_some_functions() -> None:
    model = from_text(NESTED)
    for chosen in (["twice"], [("local", "twice")], [("local", "twice", "")]):
        part = sound(sx.compose.inline(model, chosen))
        assert {key[1] for key in part.functions} == {"scaled"}
        equal(run(part, random_feeds(model)), run(model, random_feeds(model)))
    part = sound(sx.compose.inline(model, ["scaled"]))
    assert {key[1] for key in part.functions} == {"twice"}
    assert "Mul" in {n.op_type for n in part.functions["local", "twice", ""].graph.nodes}
    equal(run(part, random_feeds(model)), run(model, random_feeds(model)))
    with pytest.raises(InputError, match="no function 'twise'") as raised:
        sx.compose.inline(model, ["twise"])
    assert raised.value.hint == "did you mean 'twice'?"


def test_the_model_stays_as_it_was() -> None:
    model = from_text(NESTED)
    before = sx.dumps(model)
    sx.compose.inline(model)
    assert sx.dumps(model) == before


def test_names_stay_unique_and_readable() -> None:
    text = HEAD + "g (float[2] x) => (float[2] y) { t = local.f(x) y = local.f(t) }\n"
    model = from_text(text + LOCAL + "f (x) => (y) { t = Exp(x) y = Log(t) }")
    ours = sx.compose.inline(model)
    names = [value.name for node in ours.graph.nodes for value in node.outputs]
    assert names == ["f/t", "t", "f/t_1", "y"]


def test_references_within_subgraphs() -> None:
    text = (
        HEAD
        + "g (bool c, float[2] x) => (float[2] y) { y = local.f<k = 5>(c, x) }\n"
        + LOCAL
        + """f <k> (c, x) => (y) {
            h = Neg(x)
            y = If (c) <
                then_branch = t () => (p) {
                    a = Constant<value_int: int = @k>()
                    b = CastLike(a, h)
                    p = Mul(h, b)
                },
                else_branch = e () => (q) { q = Identity(h) }
            >
        }"""
    )
    model = from_text(text)
    ours = sx.compose.inline(model)
    x = np.array([1, 2], np.float32)
    for c, expected in ((True, -5 * x), (False, -x)):
        feeds = {"c": np.array(c), "x": x}
        np.testing.assert_array_equal(run(ours, feeds)["y"], expected)
        np.testing.assert_array_equal(run(model, feeds)["y"], expected)
    onnx.checker.check_model(proto(ours), full_check=True)


def test_calls_within_subgraphs_and_shadowed_names() -> None:
    text = (
        HEAD
        + """g (bool c, float[2] x) => (float[2] y) {
            t = Abs(x)
            y = If (c) <
                then_branch = a () => (float[2] p) { p = local.f(t) },
                else_branch = b () => (float[2] q) { q = local.f(x) }
            >
        }\n"""
        + LOCAL
        + "f (x) => (p) { t = Exp(x) p = Neg(t) }"
    )
    model = from_text(text)
    ours = sound(sx.compose.inline(model))
    x = np.array([-1, 2], np.float32)
    for c in (True, False):
        equal(run(ours, {"c": np.array(c), "x": x}), run(model, {"c": np.array(c), "x": x}))


def test_overloads_are_told_apart() -> None:
    def function(overload: str, op_type: str) -> Function:
        x, y = Value("x"), Value("y")
        node = Node(op_type, [x], [y])
        return Function("f", "local", Graph("", [x], [y], [node]), {"": 21}, overload=overload)

    model = from_text(HEAD + "g (float[2] x) => (float[2] y) { t = Neg(x) y = Abs(t) }")
    for key in ("one", "two"):
        made = function(key, {"one": "Exp", "two": "Sqrt"}[key])
        model.functions[made.key] = made
    for node, overload in zip(model.graph.nodes, ("one", "two"), strict=True):
        node.op_type, node.domain, node.overload = "f", "local", overload
    assert [n.op_type for n in sx.compose.inline(model).graph.nodes] == ["Exp", "Sqrt"]
    part = sx.compose.inline(model, [("local", "f", "two")])
    assert [n.op_type for n in part.graph.nodes] == ["f", "Sqrt"]
    assert list(part.functions) == [("local", "f", "one")]


def test_what_is_passed_through_keeps_its_name() -> None:
    text = (
        HEAD
        + "g (float[2] x) => (float[2] y, float[2] z, float[2] w) { y, z, w = local.f(x) }\n"
        + LOCAL
        + "f (x) => (a, x, a) { a = Neg(x) }"
    )
    try:
        model = from_text(text)
    except Exception:  # noqa: BLE001
        pytest.skip("this parser has no repeated outputs")
    ours = sx.compose.inline(model)
    onnx.checker.check_model(proto(ours), full_check=True)
    x = np.array([1, 2], np.float32)
    found = run(ours, {"x": x})
    for name, expected in (("y", -x), ("z", x), ("w", -x)):
        np.testing.assert_array_equal(found[name], expected)


def test_omitted_inputs_and_outputs() -> None:
    text = (
        HEAD
        + 'g (float[4] x) => (float[4] y) { y = local.f(x, "") }\n'
        + LOCAL
        + "f (x, top) => (y, extra) { y = Clip(x, , top) extra = Exp(x) }"
    )
    model = from_text(text)
    ours = sound(sx.compose.inline(model))
    (clip, exp) = ours.graph.nodes
    assert clip.inputs[1:] in {(None, None), ()}
    assert exp.output.name == "f/extra"
    assert [n.op_type for n in sx.compose.prune(ours).graph.nodes] == ["Clip"]


def test_metadata_and_doc_stay() -> None:
    model = from_text(NESTED)
    for node in model.graph.nodes:
        node.name = f"call_{node.output.name}"
        node.metadata["layer"] = node.output.name
    body = model.functions["local", "scaled", ""].graph
    for node in body.nodes:
        node.name = f"n_{node.op_type}"
        node.doc = "of the body"
        node.metadata["inner"] = "1"
    ours = sx.compose.inline(model)
    node = next(n for n in ours.graph.nodes if n.name == "call_u/n_Mul")
    assert (node.doc, node.metadata) == ("of the body", {"inner": "1", "layer": "u"})


def test_symbols_of_a_function_mean_nothing_outside() -> None:
    model = from_text(
        HEAD
        + "g (float[N] x, float[M] z) => (float[N] y, float[M] w) { y = local.f(x) w = local.f(z) }\n"
        + LOCAL
        + "f (x) => (y) { t = Exp(x) y = Log(t) }"
    )
    inner = next(iter(model.functions["local", "f", ""].graph.nodes)).output
    inner.type = model.graph.inputs[0].type
    types = [n.output.shape for n in sx.compose.inline(model).graph.nodes if n.op_type == "Exp"]
    assert types == [(None,), (None,)]


def test_operator_sets_are_joined() -> None:
    text = (
        '<ir_version: 10, opset_import: ["" : 21, "local" : 1]>\n'
        "g (float[2] x) => (float[2] y) { y = local.f(x) }\n"
        '<domain: "local", opset_import: ["" : 17, "ai.onnx.ml" : 3]>\n'
        "f (x) => (y) { %s }"
    )
    ours = sx.compose.inline(from_text(text % "t = Neg(x) y = ai.onnx.ml.Scaler(t)"))
    assert ours.opset_imports == {"": 21, "ai.onnx.ml": 3}
    sound(ours)
    with pytest.raises(ModelError, match="Identity of version 17") as raised:
        sx.compose.inline(from_text(text % "y = Identity(x)"))
    assert "function 'f'" in raised.value.places


def test_cycles_and_bombs() -> None:
    cycle = (
        HEAD
        + "g (float[2] x) => (float[2] y) { y = local.a(x) }\n"
        + LOCAL
        + "a (x) => (y) { y = local.b(x) }\n"
        + LOCAL
        + "b (x) => (y) { y = local.a(x) }"
    )
    with pytest.raises(ModelError, match="'a' -> 'b' -> 'a'"):
        sx.compose.inline(from_text(cycle))
    bomb = HEAD + "g (float[2] x) => (float[2] y) { y = local.f9(x) }\n"
    bomb += LOCAL + "f0 (x) => (y) { y = Neg(x) }\n"
    for level in range(1, 10):
        calls = " ".join(
            f"v{i + 1} = local.f{level - 1}({'x' if not i else f'v{i}'})" for i in range(9)
        )
        bomb += LOCAL + f"f{level} (x) => (v9) {{ {calls} }}\n"
    with pytest.raises(LimitError, match="nodes limit"):
        sx.compose.inline(from_text(bomb), limits=Limits(nodes=10_000))


def test_a_graph_attribute_goes_into_the_body() -> None:
    """A body that gets the branch of its If from the caller, who captures a value in it."""
    c, x, y = Value("c"), Value("x"), Value("y")
    branch = Attribute("then_branch", AttributeType.GRAPH, None, ref="body")
    p = Value("p")
    other = Graph("e", [], [p], [Node("Neg", [x], [p])])
    inner = Node("If", [c], [y], [branch, Attribute("else_branch", AttributeType.GRAPH, other)])
    function = Function(
        "choose", "local", Graph("", [c, x], [y], [inner]), {"": 21}, attributes=["body"]
    )
    model = from_text(HEAD + "g (bool c, float[2] x) => (float[2] y) { k = Exp(x) y = Abs(k) }")
    captured, call = model.graph.nodes
    q = Value("q")
    graph = Graph("t", [], [q], [Node("Sqrt", [captured.output], [q])])
    flag, data = model.graph.inputs
    call.op_type, call.domain = "choose", "local"
    call.set_input(0, flag)
    replacement = Node("choose", [flag, data], [Value("made")], domain="local")
    replacement.set_attribute("body", graph)
    model.graph.nodes.insert_before(call, replacement)
    model.graph.nodes.remove(call)
    replacement.outputs = call.outputs
    call.outputs[0].producer = replacement
    model.functions[function.key] = function
    ours = model_after_inlining(model)
    x_data = np.array([0, 1], np.float32)
    expected = np.sqrt(np.exp(x_data))
    for flag_data, wanted in ((True, expected), (False, -x_data)):
        found = run(ours, {"c": np.array(flag_data), "x": x_data})["y"]
        np.testing.assert_allclose(found, wanted, rtol=1e-6)


def model_after_inlining(model: Model) -> Model:
    return sx.loads(sx.dumps(sx.compose.inline(model)))
