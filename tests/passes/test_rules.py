"""Each rule: what it makes of what exporters write, and that the numbers stay."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnxruntime
import pytest

import sardonyx as sx
from build import from_text
from sardonyx.ir import Model
from sardonyx.reference import Evaluator


def model(
    body: str, head: str = "float[N, 8] x", out: str = "float[N, 8] y", opset: int = 24
) -> Model:
    return from_text(
        f'<ir_version: 10, opset_import: ["" : {opset}]> g ({head}) => ({out})'
        f" <float one = {{1}}, float half = {{0.5}}, float two = {{2}}, float zero = {{0}},"
        f" float root = {{1.4142135}}, float cube = {{0.044715}}, float tanh = {{0.7978846}},"
        f" float three = {{3}}, float six = {{6}}, float eps = {{0.00001}},"
        f" int64[1] last = {{-1}}, int64[2] flat = {{-1, 8}},"
        f" float[8] w = {{1, 2, 3, 4, 5, 6, 7, 8}}, float[8] b = {{8, 7, 6, 5, 4, 3, 2, 1}}>"
        f" {{ {body} }}"
    )


def optimized(before: Model, **options: object) -> list[str]:
    """The operators that are left; the numbers are compared on the way."""
    after = sx.optimize(before, verify=True, **options)  # type: ignore[arg-type]
    assert [value.name for value in after.graph.outputs] == [
        value.name for value in before.graph.outputs
    ]
    return [node.op_type for node in after.graph.nodes]


MEAN = "m = ReduceMean <keepdims = 1> (x, last) d = Sub (x, m) p = Pow (d, two)"
VARIANCE = f"{MEAN} v = ReduceMean <keepdims = 1> (p, last) e = Add (v, eps) s = Sqrt (e)"
SQUARES = "p = Mul (x, x) v = ReduceMean (p, last) e = Add (v, eps) s = Sqrt (e)"
ERF = "a = Div (x, root) r = Erf (a) c = Add (r, one)"
POW = "k = Pow (x, three) q = Mul (k, cube) a = Add (x, q) i = Mul (a, tanh) t = Tanh (i)"

FUSED = {
    "gelu, erf": (f"{ERF} d = Mul (x, c) y = Mul (d, half)", ["Gelu"]),
    "gelu, half first": (f"{ERF} h = Mul (half, x) y = Mul (h, c)", ["Gelu"]),
    "gelu, half of erf": (f"{ERF} h = Mul (c, half) y = Mul (x, h)", ["Gelu"]),
    "gelu, tanh": (f"{POW} c = Add (one, t) h = Mul (x, half) y = Mul (h, c)", ["Gelu"]),
    "swish": ("s = Sigmoid (x) y = Mul (s, x)", ["Swish"]),
    "swish, scaled": ("u = Mul (x, two) s = Sigmoid (u) y = Mul (s, x)", ["Swish"]),
    "hard swish": (
        "a = Add (x, three) c = Clip (a, zero, six) d = Mul (x, c) y = Div (d, six)",
        ["HardSwish"],
    ),
    "softplus": ("e = Exp (x) a = Add (e, one) y = Log (a)", ["Softplus"]),
    "mish": ("e = Exp (x) a = Add (e, one) l = Log (a) t = Tanh (l) y = Mul (x, t)", ["Mish"]),
    "softmax": (
        "m = ReduceMax (x, last) d = Sub (x, m) e = Exp (d) s = ReduceSum (e, last) y = Div (e, s)",
        ["Softmax"],
    ),
    "layer norm": (
        f"{VARIANCE} n = Div (d, s) t = Mul (n, w) y = Add (t, b)",
        ["LayerNormalization"],
    ),
    "layer norm, no bias": (f"{VARIANCE} n = Div (d, s) y = Mul (w, n)", ["LayerNormalization"]),
    "layer norm, plain": (f"{VARIANCE} y = Div (d, s)", ["LayerNormalization"]),
    "rms norm": (f"{SQUARES} n = Div (x, s) y = Mul (n, w)", ["RMSNormalization"]),
    "rms norm, reciprocal": (
        f"{SQUARES} r = Reciprocal (s) n = Mul (x, r) y = Mul (n, w)",
        ["RMSNormalization"],
    ),
}


@pytest.mark.parametrize("name", FUSED)
def test_fuses(name: str) -> None:
    body, expected = FUSED[name]
    assert optimized(model(body)) == expected


@pytest.mark.parametrize("name", FUSED)
def test_basic_does_not_round_differently(name: str) -> None:
    body, expected = FUSED[name]
    before = model(body)
    after = sx.optimize(before, level="basic")
    assert [node.op_type for node in after.graph.nodes] != expected
    feeds = {"x": np.random.default_rng(0).standard_normal((3, 8)).astype(np.float32)}
    expected_y, actual_y = (Evaluator(each).run(feeds)["y"] for each in (before, after))
    np.testing.assert_array_equal(actual_y, expected_y)


def test_fused_numbers_are_onnxruntimes() -> None:
    before = model(FUSED["layer norm"][0], opset=20)
    after = sx.optimize(before)
    x = np.random.default_rng(0).standard_normal((5, 8)).astype(np.float32)
    results = [
        onnxruntime.InferenceSession(sx.dumps(each)).run(None, {"x": x})[0]
        for each in (before, after)
    ]
    np.testing.assert_allclose(results[1], results[0], rtol=0, atol=8e-6)


CLEANED: dict[str, tuple[str, list[str]]] = {
    "identity": ("a = Identity (x) y = Relu (a)", ["Relu"]),
    "dropout": ("a = Dropout (x) y = Relu (a)", ["Relu"]),
    "cast": ("a = Cast <to = 1> (x) y = Relu (a)", ["Relu"]),
    "widening": ("a = Cast <to = 11> (x) c = Cast <to = 1> (a) y = Relu (c)", ["Relu"]),
    "narrowing stays": (
        "a = Cast <to = 10> (x) c = Cast <to = 1> (a) y = Relu (c)",
        ["Cast", "Cast", "Relu"],
    ),
    "mul by 1, add 0": ("a = Mul (x, one) c = Add (zero, a) y = Relu (c)", ["Relu"]),
    "reshape": ("a = Reshape (x, flat) y = Relu (a)", ["Relu"]),
    "computed shape": ("s = Shape (x) a = Reshape (x, s) y = Relu (a)", ["Relu"]),
    "transposes": (
        "a = Transpose <perm = [1, 0]> (x) c = Transpose <perm = [1, 0]> (a) y = Relu (c)",
        ["Relu"],
    ),
    "transposes around": (
        "a = Transpose <perm = [1, 0]> (x) c = Sigmoid (a) d = Mul (c, two)"
        " y = Transpose <perm = [1, 0]> (d)",
        ["Sigmoid", "Mul"],
    ),
    "concat of one": ("a = Concat <axis = 0> (x) y = Relu (a)", ["Relu"]),
    "split and joined": (
        "a, c = Split <axis = 1, num_outputs = 2> (x) d = Concat <axis = 1> (a, c) y = Relu (d)",
        ["Relu"],
    ),
    "relu twice": ("a = Relu (x) y = Relu (a)", ["Relu"]),
    "equal nodes": ("a = Exp (x) c = Exp (x) y = Add (a, c)", ["Exp", "Add"]),
    "constants": ("a = Add (one, two) c = Exp (a) y = Mul (x, c)", ["Mul"]),
    "dead": ("a = Exp (x) y = Relu (x)", ["Relu"]),
    "random stays": (
        "a = RandomNormalLike (x) c = RandomNormalLike (x) d = Sub (a, c) e = Mul (d, zero)"
        " y = Add (x, e)",
        ["RandomNormalLike", "RandomNormalLike", "Sub", "Mul", "Add"],
    ),
}


@pytest.mark.parametrize("name", CLEANED)
def test_cleans(name: str) -> None:
    body, expected = CLEANED[name]
    assert optimized(model(body), level="basic") == expected


def test_what_is_given_out_keeps_its_name() -> None:
    before = model(
        "a = Identity (x) y = Identity (a) z = Identity (x)", out="float[N, 8] y, float[N, 8] z"
    )
    assert optimized(before) == ["Identity", "Identity"]


def test_neutral_elements_that_broadcast_stay() -> None:
    built = from_text(
        '<ir_version: 10, opset_import: ["" : 20]> g (float[1, 2] x) => (float[2, 2] y)'
        " <float[2, 2] c = {0, 0, 0, 0}> { y = Add (x, c) }"
    )
    assert optimized(built) == ["Add"]


def test_overridable_defaults_are_no_constants() -> None:
    built = from_text(
        '<ir_version: 10, opset_import: ["" : 20]> g (float[2] x, float[2] c) => (float[2] y)'
        " <float[2] c = {0, 0}> { y = Add (x, c) }"
    )
    assert optimized(built) == ["Add"]


def test_a_branch_that_is_always_taken() -> None:
    built = from_text(
        '<ir_version: 10, opset_import: ["" : 20]> g (float[4] x) => (float[4] y)'
        " <bool c = {1}> { y = If (c) <then_branch = t () => (float[4] a) { a = Relu (x) },"
        " else_branch = e () => (float[4] a) { s = Exp (x) a = Abs (s) }> }"
    )
    assert optimized(built) == ["Relu"]


def conv(after: str, out: str = "float[N, 3, 4, 4] y") -> Model:
    rows: Sequence[str] = [f"float[3] {name} = {{1, 2, 3}}" for name in ("g", "h", "m", "v")]
    weights = ", ".join(str(i / 8) for i in range(27))
    return from_text(
        f'<ir_version: 10, opset_import: ["" : 20]> g (float[N, 1, 6, 6] x) => ({out})'
        f" <float[3, 1, 3, 3] w = {{{weights}}}, {', '.join(rows)},"
        f" float[1, 3, 1, 1] c = {{3, 4, 5}}> {{ a = Conv (x, w) {after} }}"
    )


@pytest.mark.parametrize(
    "after",
    [
        "y = BatchNormalization (a, g, h, m, v)",
        "y = Add (a, c)",
        "y = Mul (c, a)",
        "d = Mul (a, c) e = Add (d, c) y = BatchNormalization (e, g, h, m, v)",
    ],
)
def test_convolutions_take_in_what_follows(after: str) -> None:
    assert optimized(conv(after)) == ["Conv"]


def test_the_model_given_stays() -> None:
    before = model(FUSED["layer norm"][0])
    text = sx.to_text(before)
    sx.optimize(before)
    assert sx.to_text(before) == text


def test_older_opsets_get_what_they_have() -> None:
    body = (
        "m = ReduceMean <axes = [-1]> (x) d = Sub (x, m) p = Mul (d, d)"
        " v = ReduceMean <axes = [-1]> (p) e = Add (v, eps) s = Sqrt (e) n = Div (d, s)"
        " t = Mul (n, w) y = Add (t, b)"
    )
    assert optimized(model(body, opset=17)) == ["LayerNormalization"]
    assert "LayerNormalization" not in optimized(model(body, opset=16))


def test_compiled_models_have_any_opsets_operators() -> None:
    body = FUSED["gelu, erf"][0]
    session_model = model(body, opset=13)
    session = sx.Session(session_model, compile=True)
    (kernel,) = session.explain()
    assert kernel.kind == "kernel"
    x = np.random.default_rng(0).standard_normal((5, 8)).astype(np.float32)
    expected = onnxruntime.InferenceSession(sx.dumps(session_model)).run(None, {"x": x})[0]
    np.testing.assert_allclose(session.run(None, {"x": x})[0], expected, rtol=0, atol=2e-6)


def test_a_shape_that_is_fed_stays() -> None:
    built = from_text(
        '<ir_version: 10, opset_import: ["" : 20]> g (float[N] x, int64[1] s) => (float[M] y)'
        " { y = Reshape (x, s) }"
    )
    (node,) = sx.optimize(built).graph.nodes
    assert [value.name for value in node.inputs if value is not None] == ["x", "s"]


def padded(pads: str, attributes: str = "", more: str = "") -> Model:
    return from_text(
        '<ir_version: 10, opset_import: ["" : 20]> g (float[N, 1, 5, 5] x) => (float[N, 1, H, W] y)'
        f" <int64[8] pads = {{{pads}}}, float zero = {{0}}, float one = {{1}},"
        " float[1, 1, 2, 2] w = {1, 2, 3, 4}>"
        f" {{ p = Pad {attributes} (x, pads{more}) y = Conv <pads = [1, 0, 0, 1]> (p, w) }}"
    )


def test_zeros_around_a_convolution_become_its_pads() -> None:
    before = padded("0, 0, 1, 0, 0, 0, 2, 3", more=", zero")
    assert optimized(before, level="basic") == ["Conv"]
    (conv,) = sx.optimize(before).graph.nodes
    assert list(conv.attributes["pads"].value) == [2, 0, 2, 4]


@pytest.mark.parametrize(
    ("pads", "attributes", "more"),
    [
        ("0, 0, 1, 0, 0, 0, 0, 0", "", ", one"),
        ("0, 0, 1, 0, 0, 0, 0, 0", '<mode = "reflect">', ""),
        ("0, 0, -1, 0, 0, 0, 0, 0", "", ""),
        ("1, 0, 0, 0, 0, 0, 0, 0", "", ""),
    ],
    ids=["ones", "reflected", "cut", "of the batch"],
)
def test_other_pads_stay(pads: str, attributes: str, more: str) -> None:
    assert optimized(padded(pads, attributes, more)) == ["Pad", "Conv"]
