"""Gradients through Scan, Loop and nested control flow against central differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from autodiff.differences import TOLERANCE, check_gradient, computed, normal, slope
from build import from_text
from sardonyx.autodiff import gradients
from sardonyx.infer import infer_shapes
from sardonyx.ir import Model
from sardonyx.reference import Evaluator

SCAN = """g (double[3] h, double[T, 2] x, double[2, 3] w) => (double[3] y, double[T, 3] ys) {{
    y, ys = Scan <num_scan_inputs = 1{options}, body = step (double[3] s, double[2] e)
            => (double[3] t, double[3] o) {{
        a = MatMul(e, w)  b = Mul(s, a)  c = Sin(s)  t = Add(b, c)  o = Mul(t, s)
    }}> (h, x)
}}"""

LOOP = """g (int64 n, double[3] h, double[3] w) => (double[3] y, double[T, 3] ys) {
    k = Constant <value = double {1.0}> ()
    y, l, ys = Loop (n, , h, k) <body = step (int64 i, bool on, double[3] s, double c)
            => (bool go, double[3] t, double d, double[3] o) {
        f = Cast<to = 11>(i)  b = Mul(s, w)  u = Add(b, f)  v = Tanh(u)  t = Mul(v, c)
        d = Add(c, c)  o = Mul(t, s)
        total = ReduceSum<keepdims = 0>(t)  limit = Constant <value = double {9.0}> ()
        go = Less(total, limit)
    }>
}"""

NESTED = """g (bool p, double[3] h, double[4, 3] x) => (double[3] y) {
    y = If (p) <
        then_branch = a () => (double[3] q) {
            q, unused = Scan <num_scan_inputs = 1, body = step (double[3] s, double[3] e)
                    => (double[3] t, double[3] o) {
                m = ReduceMax<keepdims = 0>(e)  zero = Constant <value = double {0.0}> ()
                is = Greater(m, zero)
                t = If (is) <
                    then_branch = yes () => (double[3] r) { z = Mul(s, e)  r = Mul(z, h) },
                    else_branch = no () => (double[3] r2) { r2 = Exp(s) }
                >
                o = Identity(t)
            }> (h, x)
        },
        else_branch = b () => (double[3] q2) { q2 = Identity(h) }
    >
}"""


def model_of(graph: str) -> Model:
    return infer_shapes(from_text(f'<ir_version: 10, opset_import: ["": 21]> {graph}'))


def check(graph: str, feeds: dict[str, np.ndarray], xs: list[str], *ys: str) -> None:
    for y in ys:
        model = model_of(graph)
        evaluator = Evaluator(model)
        random = np.random.default_rng(3)
        weight = np.asarray(random.standard_normal(evaluator.run(feeds)[y].shape))
        along = {x: random.uniform(-1, 1, feeds[x].shape) for x in xs}
        expected = [slope(evaluator, feeds, {x: along[x]}, y, weight) for x in xs]
        found = computed(model, feeds, y, xs, weight)
        for x, difference in zip(xs, expected, strict=True):
            assert found[x].shape == feeds[x].shape
            actual = float((found[x] * along[x]).sum())
            assert abs(actual - difference) <= TOLERANCE * max(1.0, abs(difference)), (y, x)


@pytest.mark.parametrize("steps", [1, 4])
@pytest.mark.parametrize(
    "options",
    ["", ", scan_input_directions = [1]", ", scan_output_directions = [1]"],
)
def test_scan(steps: int, options: str) -> None:
    feeds = {"h": normal(3), "x": normal(steps, 2), "w": normal(2, 3)}
    check(SCAN.format(options=options), feeds, ["h", "x", "w"], "y", "ys")


def test_scan_along_other_axes() -> None:
    graph = SCAN.format(options=", scan_input_axes = [1], scan_output_axes = [-1]")
    graph = graph.replace("double[T, 2] x", "double[2, T] x").replace("[T, 3] ys", "[3, T] ys")
    feeds = {"h": normal(3), "x": normal(2, 4), "w": normal(2, 3)}
    check(graph, feeds, ["h", "x", "w"], "y", "ys")


def test_scan_without_states() -> None:
    graph = """g (double[T, 2] x, double[2] w) => (double[T, 2] y) {
        y = Scan <num_scan_inputs = 1, body = step (double[2] e) => (double[2] o) {
            a = Mul(e, w)  o = Mul(a, e)
        }> (x)
    }"""
    check(graph, {"x": normal(3, 2), "w": normal(2)}, ["x", "w"], "y")


@pytest.mark.parametrize("steps", [0, 1, 5])
def test_loop(steps: int) -> None:
    feeds = {"n": np.array(steps), "h": normal(3), "w": normal(3, seed=1)}
    check(LOOP, feeds, ["h", "w"], "y", *(["ys"] if steps else []))


@pytest.mark.parametrize("condition", [True, False])
def test_nested(condition: bool) -> None:
    feeds = {"p": np.array(condition), "h": normal(3), "x": normal(4, 3)}
    check(NESTED, feeds, ["h", "x"], "y")


def test_second_order() -> None:
    model = model_of(SCAN.format(options=""))
    feeds = {"h": normal(3), "x": normal(3, 2), "w": normal(2, 3)}
    (dw,) = gradients(model, "y", ["w"])
    model.graph.outputs.append(dw)
    evaluator = Evaluator(model)
    weight, along = normal(2, 3, seed=5), {"w": normal(2, 3, seed=6)}
    expected = slope(evaluator, feeds, along, dw.name, weight)
    found = computed(model, feeds, dw.name, ["w"], weight)
    actual = float((found["w"] * along["w"]).sum())
    assert abs(actual - expected) <= TOLERANCE * max(1.0, abs(expected))


GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def layer(
    name: str, *, lengths: Any = None, layout: int = 0, directions: int = 1, full: bool = True
) -> list[Any]:
    """The inputs of a layer: 4 steps, batch 2, 3 features, hidden size 2."""
    wide, each = 2 * GATES[name], directions
    state = (2, each, 2) if layout else (each, 2, 2)
    inputs = [normal(*((2, 4) if layout else (4, 2)), 3), normal(each, wide, 3), None, None]
    inputs[2] = normal(each, wide, 2, seed=1)
    if full:
        inputs[3] = normal(each, 2 * wide)
        inputs += [None if lengths is None else np.array(lengths, np.int32), normal(*state)]
        if name == "LSTM":
            inputs += [normal(*state, seed=2), normal(each, 6)]
    return inputs if full else inputs[:3]


RECURRENT = [
    (name, options, attributes)
    for name in GATES
    for options, attributes in (
        ({}, {}),
        ({"directions": 2, "lengths": [2, 4]}, {"direction": "bidirectional"}),
        ({"full": False}, {"direction": "reverse", "clip": 0.8}),
        ({"layout": 1}, {"layout": 1, "dynamic": True}),
    )
]
RECURRENT += [
    ("LSTM", {}, {"input_forget": 1, "version": 14}),
    (
        "LSTM",
        {"lengths": [0, 3]},
        {
            "activations": ["HardSigmoid", "ScaledTanh", "Softsign"],
            "activation_alpha": [0.3, 0.7],
            "activation_beta": [0.4, 0.9],
        },
    ),
    ("GRU", {}, {"linear_before_reset": 1, "version": 11}),
    ("RNN", {}, {"activations": ["Affine"], "activation_alpha": [0.3]}),
]


@pytest.mark.parametrize("name,options,attributes", RECURRENT)
def test_recurrent(name: str, options: dict[str, Any], attributes: dict[str, Any]) -> None:
    outputs = 3 if name == "LSTM" else 2
    for output in range(outputs):
        check_gradient(
            name,
            *layer(name, **options),
            output=output,
            n_outputs=outputs,
            hidden_size=2,
            **attributes,
        )
