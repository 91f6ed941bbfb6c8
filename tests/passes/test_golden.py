"""Each rule by itself: the nodes before, the nodes after, and that the numbers are equal."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import pytest

import sardonyx as sx
from build import from_text
from sardonyx.dtypes import from_numpy
from sardonyx.ir import Model
from sardonyx.passes.pipeline import STAGES
from sardonyx.reference import Evaluator

CONSTANTS = """
    float zero = {0}, float one = {1}, float half = {0.5}, float two = {2}, float three = {3},
    float six = {6}, float root = {1.4142135}, float cube = {0.044715}, float tanh = {0.7978846},
    float eps = {0.00001}, float low = {-3.0e38}, float16[4] narrow = {1, 2, 3, 4},
    float[4] w = {1, 2, 3, 4}, float[4] b = {4, 3, 2, 1}, bool yes = {1},
    int64[1] last = {-1}, int64[2] flat = {-1, 4}, int64[2] open = {0, 4}, int64[1] first = {0},
    int64[1] second = {1}, int64[1] end = {9223372036854775807}, int64[1] three_ = {3},
    int64[4] none = {0, 0, 0, 0}, int64[8] around = {0, 0, 1, 0, 0, 0, 1, 2},
    float[3, 1, 2, 2] k = {1, -1, 0.5, 2, 0.25, 3, -2, 1, 0, 1, 2, -1}, float[3] c = {1, -2, 0.5},
    float[3] v = {0.5, 1, 2}, float[1, 3, 1, 1] channel = {3, -4, 0.5}
"""
ROWS, PAIR = "float[N, 4] x", "float[N, 4] x, float[N, 4] z"
PICTURE = "float[N, 1, 5, 5] x"
HEADS = "float[N, 2, S, 4] q, float[N, 2, T, 4] t, float[N, 2, T, 4] u, float[N, 1, S, T] m"
CHOICE = HEADS.replace("float[N, 1, S, T]", "bool[N, 1, S, T]")
SIZES = {"N": 3, "S": 2, "T": 5}


@dataclass(frozen=True)
class Golden:
    before: str
    after: str
    head: str = ROWS
    out: str = "float[N, 4] y"


MEAN = "a = ReduceMean (x, last) d = Sub (x, a) p = Mul (d, d)"
LAYER = f"{MEAN} e = ReduceMean (p, last) f = Add (e, eps) s = Sqrt (f) n = Div (d, s)"
RMS = "p = Mul (x, x) e = ReduceMean (p, last) f = Add (e, eps) s = Sqrt (f) n = Div (x, s)"
KEYS = "kt = Transpose <perm = [0, 1, 3, 2]> (t) s = MatMul (q, kt) d = Div (s, two)"
IMAGE = {"head": PICTURE, "out": "float[N, 3, 4, 4] y"}
ATTENDED = {"head": HEADS, "out": "float[N, 2, S, 4] y"}

GOLDENS: dict[str, Golden] = {
    "identity": Golden("a = Identity (x) y = Exp (a)", "y = Exp (x)"),
    "no-op-cast": Golden("a = Cast <to = 1> (x) y = Exp (a)", "y = Exp (x)"),
    "no-op-dropout": Golden("a = Dropout (x) y = Exp (a)", "y = Exp (x)"),
    "no-op-transpose": Golden("a = Transpose <perm = [0, 1]> (x) y = Exp (a)", "y = Exp (x)"),
    "no-op-slice": Golden("a = Slice (x, first, end, second) y = Exp (a)", "y = Exp (x)"),
    "no-op-pad": Golden("a = Pad (x, none) y = Exp (a)", "y = Exp (x)"),
    "no-op-shape": Golden("a = Reshape (x, open) y = Exp (a)", "y = Exp (x)"),
    "single-input": Golden("a = Sum (x) y = Exp (a)", "y = Exp (x)"),
    "neutral-element": Golden("a = Mul (one, x) y = Sub (a, zero)", "y = Identity (x)"),
    "twice": Golden("a = Relu (x) d = Relu (a) e = Neg (d) y = Neg (e)", "y = Relu (x)"),
    "constant-where": Golden("a = Where (yes, x, z) y = Exp (a)", "y = Exp (x)", PAIR),
    "merge-views": Golden(
        "a = Unsqueeze (x, first) y = Reshape (a, flat)", "y = Reshape (x, int64_-1_4)"
    ),
    "known-reshape": Golden(
        "s = Shape (z) y = Reshape (x, s)",
        "y = Reshape (x, int64_-1_4)",
        "float[4, N] x, float[N, 4] z",
    ),
    "merge-transposes": Golden(
        "a = Transpose <perm = [0, 2, 1]> (x) y = Transpose <perm = [1, 0, 2]> (a)",
        "y = Transpose <perm = [2, 0, 1]> (x)",
        "float[N, 4, 3] x",
        "float[3, N, 4] y",
    ),
    "transposes-around": Golden(
        "a = Transpose <perm = [0, 2, 1]> (x) d = Exp (a) e = Mul (two, d)"
        " y = Transpose <perm = [1, 0, 2]> (e)",
        "y/Exp = Exp (x) y/Mul = Mul (two, y/Exp) y = Transpose <perm = [2, 0, 1]> (y/Mul)",
        "float[N, 4, 3] x",
        "float[3, N, 4] y",
    ),
    "transposed-operands": Golden(
        "a = Transpose (x) d = Transpose (z) y = Sub (a, d)",
        "y/Sub = Sub (x, z) y = Transpose <perm = [1, 0]> (y/Sub)",
        PAIR,
        "float[4, N] y",
    ),
    "transposed-gemm": Golden(
        "a = Transpose (x) y = Gemm <alpha = 2.0, transB = 1> (a, z)",
        "y = Gemm <alpha = 2.0, beta = 1.0, transA = 1, transB = 1> (x, z)",
        "float[4, N] x, float[N, 4] z",
        "float[N, N] y",
    ),
    "merge-casts": Golden(
        "a = Cast <to = 11> (x) y = Cast <to = 7> (a)",
        "y = Cast <to = 7> (x)",
        ROWS,
        "int64[N, 4] y",
    ),
    "merge-slices": Golden(
        "a = Slice (x, second, end, first) y = Slice (a, first, three_, second)",
        "y = Slice (x, int64_1_0, int64_9.22337204e+18_3, int64_0_1, int64_1_1)",
        ROWS,
        "float[M, 3] y",
    ),
    "joined-again": Golden(
        "a, d = Split <axis = 1, num_outputs = 2> (x) e = Concat <axis = -1> (a, d) y = Exp (e)",
        "y = Exp (x)",
    ),
    "merge-concats": Golden(
        "a = Concat <axis = 1> (x, z) y = Concat <axis = -1> (z, a)",
        "y = Concat <axis = 1> (z, x, z)",
        PAIR,
        "float[N, 12] y",
    ),
    "pad-into-conv": Golden(
        "a = Pad (x, around) y = Conv <pads = [1, 0, 0, 0]> (a, k)",
        "y = Conv <pads = [2, 0, 1, 2]> (x, k)",
        PICTURE,
        "float[N, 3, 7, 6] y",
    ),
    "layer-norm": Golden(
        f"{LAYER} g = Mul (n, w) y = Add (g, b)",
        "y = LayerNormalization <axis = -1, epsilon = 1e-05> (x, w, b)",
    ),
    "layer-norm-scale": Golden(
        f"{LAYER} y = Mul (w, n)", "y = LayerNormalization <axis = -1, epsilon = 1e-05> (x, w)"
    ),
    "layer-norm-plain": Golden(
        LAYER.replace("n = Div", "y = Div"),
        "y = LayerNormalization <axis = -1, epsilon = 1e-05> (x, float_1_1_1_1)",
    ),
    "layer-norm-bias": Golden(
        "n = LayerNormalization (x, w) y = Add (b, n)",
        "y = LayerNormalization <axis = -1, epsilon = 1e-05> (x, w, b)",
    ),
    "rms-norm": Golden(
        f"{RMS} y = Mul (n, w)", "y = RMSNormalization <axis = -1, epsilon = 1e-05> (x, w)"
    ),
    "rms-norm-plain": Golden(
        RMS.replace("n = Div", "y = Div"),
        "y = RMSNormalization <axis = -1, epsilon = 1e-05> (x, float_1_1_1_1)",
    ),
    "rms-norm-wide": Golden(
        "h = Cast <to = 1> (x) p = Mul (h, h) e = ReduceMean (p, last) f = Add (e, eps)"
        " s = Sqrt (f) n = Div (h, s) g = Cast <to = 10> (n) y = Mul (narrow, g)",
        "y = RMSNormalization <axis = -1, epsilon = 1e-05> (x, narrow)",
        "float16[N, 4] x",
        "float16[N, 4] y",
    ),
    "attention": Golden(
        f"{KEYS} p = Softmax (d) y = MatMul (p, u)",
        "y = Attention <scale = 0.5> (q, t, u)",
        **ATTENDED,
    ),
    "attention-mask": Golden(
        f"{KEYS} a = Add (m, d) p = Softmax (a) y = MatMul (p, u)",
        "y = Attention <scale = 0.5> (q, t, u, m)",
        **ATTENDED,
    ),
    "attention-where": Golden(
        f"{KEYS} a = Where (m, d, low) p = Softmax (a) y = MatMul (p, u)",
        "y/Where = Where (m, float_0, low) y = Attention <scale = 0.5> (q, t, u, y/Where)",
        CHOICE,
        "float[N, 2, S, 4] y",
    ),
    "gelu-erf": Golden(
        "a = Div (x, root) d = Erf (a) e = Add (one, d) f = Mul (x, e) y = Mul (f, half)",
        "y = Gelu (x)",
    ),
    "gelu-tanh": Golden(
        "a = Pow (x, three) d = Mul (cube, a) e = Add (x, d) f = Mul (e, tanh) g = Tanh (f)"
        " h = Add (g, one) i = Mul (x, half) y = Mul (i, h)",
        "y = Gelu <approximate = tanh> (x)",
    ),
    "hard-swish": Golden(
        "a = Add (x, three) d = Clip (a, zero, six) e = Mul (x, d) y = Div (e, six)",
        "y = HardSwish (x)",
    ),
    "hard-sigmoid": Golden(
        "a = Add (three, x) d = Clip (a, zero, six) y = Div (d, six)",
        "y = HardSigmoid <alpha = 0.16666667, beta = 0.5> (x)",
    ),
    "softplus": Golden("a = Exp (x) d = Add (one, a) y = Log (d)", "y = Softplus (x)"),
    "mish": Golden("a = Softplus (x) d = Tanh (a) y = Mul (d, x)", "y = Mish (x)"),
    "swish": Golden("a = Sigmoid (x) y = Mul (a, x)", "y = Swish (x)"),
    "swish-scaled": Golden(
        "a = Mul (two, x) d = Sigmoid (a) y = Mul (x, d)", "y = Swish <alpha = 2.0> (x)"
    ),
    "softmax": Golden(
        "a = ReduceMax (x, last) d = Sub (x, a) e = Exp (d) s = ReduceSum (e, last) y = Div (e, s)",
        "y = Softmax <axis = -1> (x)",
    ),
    "log-softmax": Golden(
        "a = Softmax <axis = 0> (x) y = Log (a)", "y = LogSoftmax <axis = 0> (x)"
    ),
    "conv-batch-norm": Golden(
        "a = Conv (x, k) y = BatchNormalization (a, c, v, c, v)",
        "y = Conv (x, float_constant, float_-0.914199412_-2.99997997_1.82322371)",
        **IMAGE,
    ),
    "conv-add": Golden(
        "a = Conv (x, k, c) y = Add (channel, a)", "y = Conv (x, k, float_4_-6_1)", **IMAGE
    ),
    "conv-mul": Golden(
        "a = Conv (x, k, c) y = Mul (a, channel)",
        "y = Conv (x, float_constant, float_3_8_0.25)",
        **IMAGE,
    ),
}


def nodes_of(model: Model) -> str:
    """The nodes as text, without their labels."""
    texts = (" ".join(sx.to_text(node).split()) for node in model.graph.nodes)
    return " ".join(re.sub(r"^\[[^]]*\] ", "", text).replace('"', "") for text in texts)


def before_of(golden: Golden) -> Model:
    return from_text(
        f'<ir_version: 10, opset_import: ["" : 24]> g ({golden.head}) => ({golden.out})'
        f" <{CONSTANTS}> {{ {golden.before} }}"
    )


@pytest.mark.parametrize("name", GOLDENS)
def test_before_and_after(name: str) -> None:
    golden = GOLDENS[name]
    before = before_of(golden)
    after = sx.optimize(before, passes={name})
    assert nodes_of(after) == golden.after
    rng = np.random.default_rng(5)
    feeds = {}
    for value in before.graph.inputs:
        shape = [dim if isinstance(dim, int) else SIZES[str(dim)] for dim in value.type.shape]
        numbers = rng.standard_normal(shape)
        is_bool = value.type.dtype.name == "BOOL"
        feeds[value.name] = numbers > -0.5 if is_bool else numbers.astype(value.type.dtype.numpy)
    expected, actual = (Evaluator(model).run(feeds)["y"] for model in (before, after))
    assert actual.shape == expected.shape
    assert actual.dtype == expected.dtype
    if any(name == rule.name for stage in STAGES if stage.basic for rule in stage.rules):
        np.testing.assert_array_equal(actual, expected)
    eps = float(np.finfo(expected.dtype).eps) if from_numpy(expected.dtype).is_floating else 0
    size = max(1.0, float(np.abs(expected).max(initial=0)))
    np.testing.assert_allclose(actual, expected, rtol=0, atol=32 * eps * size)


def test_every_rule_has_one() -> None:
    assert set(GOLDENS) == {rule.name for stage in STAGES for rule in stage.rules}
