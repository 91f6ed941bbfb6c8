from __future__ import annotations

import numpy as np

import sardonyx as sx
from build import from_text
from compose.running import equal, random_feeds, run, sound
from sardonyx.ir import QuantizationAnnotation

UNUSED = """
<ir_version: 10, opset_import: ["" : 21, "local" : 1, "ai.onnx.ml" : 3]>
g (bool c, float[2] x, float[2] idle) => (float[2] y)
<float[2] w = {1, 2}, float[2] v = {3, 4}, float[2] only_dead = {5, 6}>
{
    live = Mul(x, w)
    dead = Add(live, only_dead)
    deader = local.lone(dead)
    dead_in_branch = Neg(v)
    y = If (c) <
        then_branch = a () => (float[2] p) { unused = Add(dead_in_branch, x) p = local.f(live) },
        else_branch = b () => (float[2] q) { q = Neg(live) }
    >
}
<domain: "local", opset_import: ["" : 21, "ai.onnx.ml" : 3]>
f (x) => (y) { waste = Exp(x) y = Neg(x) }
<domain: "local", opset_import: ["" : 21]>
lone (x) => (y) { y = Exp(x) }
"""


def test_prune() -> None:
    model = from_text(UNUSED)
    model.graph.quantization.append(QuantizationAnnotation("dead", {"SCALE_TENSOR": "v"}))
    ours = sound(sx.compose.prune(model))
    assert [n.op_type for n in ours.graph.all_nodes()] == ["Mul", "If", "f", "Neg"]
    assert [v.name for v in ours.graph.initializers] == ["w"]
    assert list(ours.functions) == [("local", "f", "")]
    assert len(ours.functions["local", "f", ""].graph.nodes) == 1
    assert set(ours.opset_imports) == {"", "local"}
    assert set(ours.functions["local", "f", ""].opset_imports) == {""}
    assert not ours.graph.quantization
    assert [v.name for v in ours.graph.inputs] == ["c", "x", "idle"]
    feeds = random_feeds(model)
    for c in (True, False):
        feeds["c"] = np.array(c)
        equal(run(ours, feeds), run(model, feeds))


def test_equal_initializers_become_one() -> None:
    model = from_text(
        """
        <ir_version: 10, opset_import: ["" : 21]>
        g (bool c, float[2] x) => (float[2] y, float[2] k)
        <float[2] a = {1, 2}, float[2] b = {1, 2}, float[2] zero = {0, 0},
         float[2] minus_zero = {-0.0, -0.0}, int32[2] i = {1, 2}, float[2] k = {1, 2}>
        {
            s = Add(x, a)
            t = Mul(s, b)
            n = Cast<to = 1>(i)
            u = Add(t, n)
            e = Div(u, zero)
            f = Div(u, minus_zero)
            m = Max(e, f)
            y = If (c) <
                then_branch = q () => (float[2] p) <float[2] inner = {1, 2}> { p = Mul(m, inner) },
                else_branch = r () => (float[2] o) { o = Neg(t) }
            >
        }
        """
    )
    model.graph.quantization.append(QuantizationAnnotation("t", {"SCALE_TENSOR": "b"}))
    ours = sound(sx.compose.deduplicate(model))
    names = [value.name for value in ours.graph.initializers]
    assert sorted(names) == ["a", "i", "k", "minus_zero", "zero"]
    (branch, _) = (graph for node in ours.graph.nodes for graph in node.subgraphs())
    assert not branch.initializers
    assert ours.graph.quantization[0].parameters == {"SCALE_TENSOR": "a"}
    feeds = random_feeds(model)
    for c in (True, False):
        feeds["c"] = np.array(c)
        equal(run(ours, feeds), run(model, feeds))


def test_copies_are_the_same_file_and_apart() -> None:
    model = from_text(UNUSED)
    ours = sx.compose.copy(model)
    assert sx.dumps(ours) == sx.dumps(model)
    first = ours.graph.nodes.first
    assert first is not None
    first.set_attribute("note", 1)
    ours.graph.nodes.first.metadata["a"] = "b"  # type: ignore[union-attr]
    assert sx.dumps(from_text(UNUSED)) == sx.dumps(model)
