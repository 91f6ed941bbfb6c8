"""Exact sizes through containers, floating-point shape arithmetic, control flow and functions."""

from __future__ import annotations

import time

import numpy as np
import pytest

from build import from_text
from sardonyx.dims import evaluate, symbol
from sardonyx.dtypes import FLOAT, INT64
from sardonyx.infer import Inference, explain_unknown, infer, write_types
from sardonyx.ir import Graph, Model, Node, TensorType, Value
from sardonyx.ops import registry
from sardonyx.ops.fact import Fact
from sardonyx.ops.rational import carry


def inferred(text: str, opset: int = 18) -> tuple[Model, Inference]:
    model = from_text(f'<ir_version: 9, opset_import: ["" : {opset}, "local" : 1]> {text}')
    found = infer(model)
    assert found.problems == []
    return model, found


def facts(text: str, *names: str, opset: int = 18) -> list[str]:
    model, found = inferred(f"g {text}", opset)
    values = model.graph.values()
    return [str(found.facts[values[name]]) for name in names]


@pytest.mark.parametrize(
    "steps, expected",
    [
        ("f = Constant <value_float = 0.5> () h = Mul (t, f) r = Floor (h)", "W//2"),
        ("f = Constant <value_float = 0.5> () h = Mul (t, f) r = Ceil (h)", "(W + 1)//2"),
        ("f = Constant <value_float = 2.0> () h = Mul (t, f) r = Floor (h)", "2*W"),
        ("f = Constant <value_float = 3.0> () h = Div (t, f) r = Floor (h)", "W//3"),
        ("f = Constant <value_float = 1.5> () h = Mul (f, t) r = Floor (h)", "W + W//2"),
        ("f = Constant <value_float = 1.0> () h = Add (t, f) r = Identity (h)", "W + 1"),
    ],
)
def test_sizes_computed_in_floating_point(steps: str, expected: str) -> None:
    body = (
        "(float[N, C, H, W] x) => (float y) { s = Shape (x) n = Constant <value_int = 3> () "
        f"d = Gather (s, n) t = Cast <to = 1> (d) {steps} i = Cast <to = 7> (r) "
        "a = Constant <value_ints = [0]> () v = Unsqueeze (i, a) k = Constant <value_ints = [3]> () "
        "z = Slice (s, a, k) e = Concat <axis = 0> (z, v) y = Resize (x, , , e) }"
    )
    assert facts(body, "y") == [f"tensor(float)[N, C, H, {expected}]"]


@pytest.mark.parametrize("rounding", ["Floor", "Ceil"])
@pytest.mark.parametrize("kind", ["Mul", "Div"])
@pytest.mark.parametrize("scale", [0.5, 0.25, 1.5, 2.0, 3.0, 7.0, 0.015625, 49.0, 63.0])
def test_floating_point_sizes_are_those_of_a_run(scale: float, kind: str, rounding: str) -> None:
    size = Fact.tensor(FLOAT, (1,), np.array([symbol("N")], object))
    number = Fact.constant(np.array([scale], np.float32))
    results = carry(registry.get("", kind)(version=14), [size, number])
    if results is None or results[0][0] is None:
        return
    found = carry(registry.get("", rounding)(version=13), [Fact.tensor(FLOAT, (1,), results[0])])
    assert found is not None
    dim = found[0][0]
    sizes = np.arange(0, 20_000, 7, np.float32)
    scale32 = np.float32(scale)
    exact = sizes * scale32 if kind == "Mul" else sizes / scale32
    expected = (np.floor if rounding == "Floor" else np.ceil)(exact)
    for n, whole in zip(sizes, expected, strict=True):
        assert evaluate(dim, {"N": int(n)}) == whole


def test_a_scale_of_many_bits_is_not_trusted() -> None:
    # 10 * 0.7 is 7 in float32, though its 0.7 is a little less than 0.7
    body = (
        "(float[W] x) => (float y) { s = Shape (x) t = Cast <to = 1> (s) "
        "f = Constant <value_float = 0.7> () h = Mul (t, f) r = Floor (h) i = Cast <to = 7> (r) "
        "y = ConstantOfShape (i) }"
    )
    (fact,) = facts(body, "y")
    assert "W" not in fact


def test_partial_contents() -> None:
    body = (
        "(float[B, S, 8] x, int64 k) => (float y) { s = Shape (x) "
        "a = Constant <value_ints = [0]> () u = Unsqueeze (k, a) "
        "c = Concat <axis = 0> (s, u) r = Constant <value_ints = [0, 3, 2]> () "
        "p = Gather (c, r) y = ConstantOfShape (p) z = ConstantOfShape (u) }"
    )
    model, found = inferred(f"g {body}")
    values = model.graph.values()
    shape = found.facts[values["y"]].shape
    assert shape is not None
    assert [str(shape[0]), shape[2]] == ["B", 8]
    assert found.facts[values["z"]].shape == (shape[1],)


def test_sequences_keep_what_is_in_them() -> None:
    body = (
        "(float[N, 6] x) => (float a, float b, float c, int64 n) { "
        "l = Constant <value_ints = [1, 2, 3]> () s = SplitToSequence <axis = 1> (x, l) "
        "zero = Constant <value_int = 0> () last = Constant <value_int = -1> () "
        "a = SequenceAt (s, zero) b = SequenceAt (s, last) e = SequenceErase (s, zero) "
        "i = SequenceInsert (e, b, zero) c = ConcatFromSequence <axis = 1> (i) "
        "n = SequenceLength (i) q = SequenceConstruct (a, a) "
        "d = ConcatFromSequence <axis = 0> (q) }"
    )
    assert facts(body, "a", "b", "c", "d") == [
        "tensor(float)[N, 1]",
        "tensor(float)[N, 3]",
        "tensor(float)[N, 8]",
        "tensor(float)[2*N, 1]",
    ]
    model, found = inferred(f"g {body}")
    length = found.facts[model.graph.values()["n"]].value
    assert length is not None
    assert length == 3


def test_a_loop_that_fills_an_empty_sequence_knows_the_elements() -> None:
    body = (
        "(float[N, 4] x, int64 m) => (float y) { e = SequenceEmpty () "
        "s = Loop (m, , e) <body = b (int64 i, bool c, seq(float) p) => (bool d, seq(float) q) "
        "{ d = Identity (c) q = SequenceInsert (p, x) }> "
        "k = Constant <value_int = 0> () y = SequenceAt (s, k) }"
    )
    assert facts(body, "y") == ["tensor(float)[N, 4]"]


def test_names_within_a_sequence_are_not_one_size() -> None:
    body = (
        "(seq(float[N]) s) => (float y) { a = Constant <value_int = 0> () "
        "b = Constant <value_int = 1> () p = SequenceAt (s, a) q = SequenceAt (s, b) "
        "y = Concat <axis = 0> (p, q) }"
    )
    model, found = inferred(f"g {body}")
    values = model.graph.values()
    first, second = (found.facts[values[name]].shape for name in "pq")
    assert first != second
    assert "N" not in str(found.facts[values["y"]])


def test_unknown_sizes_of_one_node_are_related() -> None:
    model, found = inferred(
        "g (float[4] x) => (float y, int64 i, int64 v, int64 c) { y, i, v, c = Unique (x) }"
    )
    shapes = [found.facts[value].shape for value in model.graph.outputs]
    assert shapes[0] == shapes[1] == shapes[3]
    assert shapes[2] == (4,)


def test_sizes_that_may_differ_broadcast_to_one_expression() -> None:
    body = "(float[N] x, float[M] z) => (float y) { a = Add (x, z) b = Mul (z, x) y = Sub (a, x) }"
    assert facts(body, "a", "b", "y") == ["tensor(float)[broadcast(M, N)]"] * 3


CALLS = """
g (float[A] x, float[B] z) => (int64 p, int64 q, int64 r, float s) {
  p = local.f (x) q = local.f (x) r = local.f (z) s = local.g (z)
}
<opset_import: ["" : 18], domain: "local"> f (a) => (b) { b = NonZero (a) }
<opset_import: ["" : 18], domain: "local"> g (a) => (b) { b = Concat <axis = 0> (a, a) }
"""


def test_calls_alike_share_inference_but_not_unknown_sizes() -> None:
    model, found = inferred(CALLS)
    p, q, r, s = (found.facts[value] for value in model.graph.outputs)
    assert len({str(fact) for fact in (p, q, r)}) == 3
    assert str(s) == "tensor(float)[2*B]"


def test_types_are_not_written_into_functions() -> None:
    model, found = inferred(CALLS)
    write_types(model, found)
    for function in model.functions.values():
        for node in function.graph.nodes:
            assert node.output.type is None
    assert model.graph.outputs[3].shape is not None


def test_branches_not_taken_are_known_and_silent() -> None:
    text = """g (float[N] x) => (float y) {
      c = Constant <value_int = 1> () b = Cast <to = 9> (c)
      y = If (b) <then_branch = t () => (float p) { p = Relu (x) },
                  else_branch = e () => (float q) { w = Constant <value_floats = [1.0, 2.0]> ()
                    v = Constant <value_floats = [1.0, 2.0, 3.0]> () k = Concat <axis = 0> (w, v)
                    u = Add (w, v) q = Relu (k) }>
    }"""
    model, found = inferred(text)
    assert str(found.facts[model.graph.outputs[0]]) == "tensor(float)[N]"
    inner = {value.name: value for node in model.graph.all_nodes() for value in node.outputs}
    assert str(found.facts[inner["k"]]) == "tensor(float)[5]"


def test_a_loop_that_runs_once_has_the_bodys_shape() -> None:
    text = """g (float[N] x) => (float y) {
      m = Constant <value_int = 3> () c = Constant <value_int = 1> () t = Cast <to = 9> (c)
      y = Loop (m, t, x) <body = b (int64 i, bool c1, float p) => (bool d, float q)
        { d = Constant <value = bool {1}> () q = Constant <value_floats = [1.0, 2.0]> () }>
    }"""
    model, found = inferred(text)
    assert str(found.facts[model.graph.outputs[0]]) == "tensor(float)[2]"


def test_names_of_the_file_that_look_like_inferences_own() -> None:
    model, _ = inferred("g (float[A] x, float[B, 3] z) => (float y) { y = Relu (x) }")
    x, z = model.graph.inputs
    x.type = TensorType(FLOAT, (None,))
    z.type = TensorType(FLOAT, (symbol("?:0"), symbol("?")))
    found = infer(model)
    (first,) = found.facts[x].shape or ()
    second, third = found.facts[z].shape or ()
    assert len({first, second, third}) == 3


def why(text: str, name: str) -> list[str]:
    model, found = inferred(f"g {text}")
    inner = {value.name: value for node in model.graph.all_nodes() for value in node.outputs}
    inner |= {value.name: value for value in model.graph.inputs}
    return [str(unknown) for unknown in explain_unknown(found, inner[name])]


def test_why_a_size_is_unknown() -> None:
    body = (
        "(float[N, 4] x, float[M, 4] z, bool c, int64[1] k) => (float y) { i = NonZero (x) "
        "t = Transpose (i) y = Cast <to = 1> (t) w = ConstantOfShape (k) "
        "v = If (c) <then_branch = p () => (float a) { a = Relu (x) }, "
        "else_branch = q () => (float b) { b = Concat <axis = 0> (x, x) }> }"
    )
    (reason,) = why(body, "y")
    assert reason.startswith("dim 0: decided by data at ")
    assert "NonZero" in reason
    assert reason.endswith("how many elements of X are not zero")
    assert why(body, "x") == []
    assert "the input 'k'" in why(body, "w")[0]
    assert "'c' chooses" in why(body, "v")[0]


def test_why_a_rank_is_unknown() -> None:
    body = "(float[N] x, int64[M] s) => (float y) { r = Reshape (x, s) q = Relu (r) y = Size (q) }"
    (reason,) = why(body, "q")
    assert reason.startswith("rank: ")
    assert "Reshape" in reason
    assert "'s'" in reason


def test_inference_is_quick_for_many_nodes_alike() -> None:
    graph = Graph("long", [Value("x", TensorType(FLOAT, (symbol("N"), 4)))])
    value = graph.inputs[0]
    for index in range(20_000):
        node = graph.nodes.append(Node("Relu", [value], [Value(f"v{index}")]))
        value = node.output
    graph.outputs.append(value)
    start = time.process_time()
    found = infer(Model(graph, {"": 18}))
    assert time.process_time() - start < 5
    assert str(found.facts[value]) == "tensor(float)[N, 4]"


def test_names_within_a_function_are_its_own() -> None:
    model, _ = inferred(CALLS)
    (function,) = [each for each in model.functions.values() if each.name == "f"]
    function.graph.nodes.first.output.type = TensorType(INT64, (None, symbol("A")))
    found = infer(model)
    (_, count) = found.facts[model.graph.outputs[0]].shape or ()
    assert str(count) != "A"
