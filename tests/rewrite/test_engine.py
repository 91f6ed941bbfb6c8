"""The engine: patterns, what is refused, what the driver says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from build import from_text
from sardonyx.errors import SardonyxError
from sardonyx.ir import Model
from sardonyx.rewrite import Match, NodeRule, Rule, Scene, apply_rules, explain_rule


def model(body: str, head: str = "float[N, 4] x", out: str = "float[N, 4] y") -> Model:
    return from_text(
        f'<ir_version: 10, opset_import: ["" : 20]> g ({head}) => ({out}) {{ {body} }}'
    )


def operators(built: Model) -> list[str]:
    return [node.op_type for node in built.graph.nodes]


def twice(op: Any, x: Any) -> Any:
    return op.Mul(x, op.Sigmoid(x))


TO_TANH = Rule("to-tanh", twice, lambda op, m: op.Tanh(m["x"]))


@pytest.mark.parametrize("order", ["x, s", "s, x"])
def test_commutative_operators_match_both_ways(order: str) -> None:
    built = model(f"s = Sigmoid (x) y = Mul ({order})")
    assert apply_rules(Scene(built), [TO_TANH]) == 1
    assert operators(built) == ["Tanh"]
    assert built.graph.outputs[0].name == "y"


def test_a_variable_is_one_value() -> None:
    built = model("s = Sigmoid (x) t = Abs (x) y = Mul (t, s)")
    assert apply_rules(Scene(built), [TO_TANH]) == 0


@pytest.mark.parametrize(
    ("body", "head", "out"),
    [
        ("s = Sigmoid (x) y = Mul (x, s) z = Abs (s)", "float[N] x", "float[N] y, float[N] z"),
        ("s = Sigmoid (x) y = Mul (x, s)", "float[N] x", "float[N] y, float[N] s"),
    ],
)
def test_inner_values_that_others_use_are_kept(body: str, head: str, out: str) -> None:
    built = model(body, head, out)
    assert apply_rules(Scene(built), [TO_TANH]) == 0
    shared = Rule("shared", twice, lambda op, m: op.Tanh(m["x"]), shared=True)
    assert apply_rules(Scene(built), [shared]) == 1
    assert "Sigmoid" in operators(built)
    assert "Mul" not in operators(built)


@pytest.mark.parametrize(
    "write",
    [
        lambda op, m: op.Cast(m["x"], to=11),
        lambda op, m: op.Unsqueeze(m["x"], np.array([0])),
        lambda op, m: op.Concat(m["x"], m["x"], axis=1),
    ],
)
def test_other_types_and_shapes_are_refused(write: Any) -> None:
    built = model("s = Sigmoid (x) y = Mul (x, s)")
    scene = Scene(built)
    assert apply_rules(scene, [Rule("bad", twice, write)]) == 0
    assert operators(built) == ["Sigmoid", "Mul"]
    assert built.graph.initializers == []


def test_attributes_and_optional_inputs() -> None:
    def pattern(op: Any, x: Any, low: Any, high: Any = None) -> Any:
        return op.Clip(op.Transpose(x, perm=(0, 1)), low, high)

    rule = Rule("clip", pattern, lambda op, m: op.Clip(m["x"], m["low"], m["high"]))
    text = "t = Transpose <perm = [0, 1]> (x) y = Clip (t, l)"
    assert apply_rules(Scene(model(text, "float[N, 4] x, float l")), [rule]) == 1
    text = text.replace("[0, 1]", "[1, 0]")
    built = model(text, "float[N, 4] x, float l", "float[4, N] y")
    assert apply_rules(Scene(built), [rule]) == 0
    (reason,) = [reason for _, reason in explain_rule(Scene(built), rule)]
    assert "(1, 0), not (0, 1)" in reason


def test_rules_apply_within_subgraphs() -> None:
    built = from_text(
        '<ir_version: 10, opset_import: ["" : 20]> g (bool c, float[4] x) => (float[4] y) {'
        " y = If (c) <then_branch = t () => (float[4] a) { s = Sigmoid (x) a = Mul (x, s) },"
        " else_branch = e () => (float[4] b) { b = Abs (x) }> }"
    )
    scene = Scene(built)
    assert apply_rules(scene, [TO_TANH]) == 1
    assert [node.op_type for node in built.graph.all_nodes()] == ["If", "Tanh", "Abs"]


def test_a_newer_opset_is_needed() -> None:
    rule = Rule("swish", twice, lambda op, m: op.Swish(m["x"]), opset=24)
    built = model("s = Sigmoid (x) y = Mul (x, s)")
    assert apply_rules(Scene(built), [rule]) == 0
    assert "needs opset 24" in explain_rule(Scene(built), rule)[0][1]
    assert apply_rules(Scene(built, mixed=True), [rule]) == 1
    assert built.graph.nodes.first is not None
    assert built.graph.nodes.first.version is not None


def test_stops_after_some_patches() -> None:
    built = model("s = Sigmoid (x) a = Mul (x, s) t = Sigmoid (a) y = Mul (a, t)")
    scene = Scene(built, most_patches=1)
    apply_rules(scene, [TO_TANH])
    assert operators(built) == ["Tanh", "Sigmoid", "Mul"]
    assert [patch.rule for patch in scene.patches] == ["to-tanh"]


def test_errors_name_rule_and_node() -> None:
    def broken(_op: Any, match: Match) -> Any:
        return match.root.inputs[7]

    with pytest.raises(SardonyxError, match=r"rule broken failed[\s\S]*'y'"):
        apply_rules(Scene(model("y = Abs (x)")), [NodeRule("broken", ("Abs",), broken)])


def test_long_chains_take_linear_time() -> None:
    body = " ".join(f"v{i + 1} = Identity (v{i})" for i in range(3000))
    built = model(f"v0 = Abs (x) {body} y = Neg (v3000)")
    rule = NodeRule("drop", ("Identity",), lambda _op, m: m.root.inputs[0])
    assert apply_rules(Scene(built), [rule]) == 3000
    assert operators(built) == ["Abs", "Neg"]
