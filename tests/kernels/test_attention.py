"""Attention as one kernel: every spelling is recognized, and agrees with the reference."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
import pytest

from build import from_text
from sardonyx.limits import DEFAULT
from sardonyx.reference import Evaluator
from sardonyx.runtime.compiled import CompiledModel, compile_model
from sardonyx.runtime.prepare import prepare

if TYPE_CHECKING:
    from collections.abc import Mapping

HEADER = '<ir_version: 10, opset_import: ["" : 23]>'
DTYPES = {
    "float": np.float32,
    "double": np.float64,
    "float16": np.float16,
    "bfloat16": ml_dtypes.bfloat16,
}
SIZES = [
    {"B": 2, "M": 5, "N": 7},
    {"B": 1, "M": 64, "N": 70},
    {"B": 1, "M": 1, "N": 33},
    {"B": 3, "M": 25, "N": 1},
    {"B": 1, "M": 49, "N": 16},
    {"B": 0, "M": 4, "N": 4},
    {"B": 2, "M": 0, "N": 4},
    {"B": 2, "M": 3, "N": 0},
]

FOUR_DIMS = """
g (T[B,3,M,8] q, T[B,3,N,8] k, T[B,3,N,12] v, T[B,1,M,N] mask) => (T[B,3,M,12] y) {
  kt = Transpose<perm=[0,1,3,2]>(k)
  s = MatMul(q, kt)
  number = Constant<value_float = 0.35>()
  c = CastLike(number, q)
  t = Mul(s, c)
  u = Add(t, mask)
  p = Softmax<axis=-1>(u)
  y = MatMul(p, v)
}"""

PACKED_HEADS = """
g (T[B,M,24] q, T[B,N,24] k, T[B,N,24] v) => (T[B,M,24] y)
<int64[4] apart = {0,0,3,8}, int64[3] together = {0,0,24}> {
  q1 = Reshape(q, apart)
  q2 = Transpose<perm=[0,2,1,3]>(q1)
  k1 = Reshape(k, apart)
  k2 = Transpose<perm=[0,2,3,1]>(k1)
  v1 = Reshape(v, apart)
  v2 = Transpose<perm=[0,2,1,3]>(v1)
  number = Constant<value_float = 2.5>()
  c = CastLike(number, q)
  q3 = Div(q2, c)
  s = MatMul(q3, k2)
  p = Softmax<axis=3>(s)
  o = MatMul(p, v2)
  o1 = Transpose<perm=[0,2,1,3]>(o)
  y = Reshape(o1, together)
}"""

NO_BATCH = """
g (T[M,8] q, T[N,8] k, T[N,20] v, T[20] bias) => (T[M,20] y) {
  kt = Transpose<perm=[1,0]>(k)
  s = MatMul(q, kt)
  p = Softmax(s)
  o = MatMul(p, v)
  z = Add(o, bias)
  y = Relu(z)
}"""

ONE_BATCH = """
g (T[1,1,M,8] q, T[1,1,8,N] kt, T[1,1,N,20] v) => (T[1,1,M,20] y) {
  s = MatMul(q, kt)
  p = Softmax(s)
  y = MatMul(p, v)
}"""

EINSUM = """
g (T[B,M,2,8] q, T[B,N,2,8] k, T[B,N,2,20] v) => (T[B,M,2,20] y) {
  s = Einsum<equation="bmhd,bnhd->bhmn">(q, k)
  p = Softmax(s)
  y = Einsum<equation="bhmn,bnhe->bmhe">(p, v)
}"""

WHERE = """
g (T[B,M,16] q, T[B,N,16] k, T[B,N,16] v, bool[M,N] seen) => (T[B,M,16] y) {
  kt = Transpose<perm=[0,2,1]>(k)
  s = MatMul(q, kt)
  number = Constant<value_float = -10000.0>()
  low = CastLike(number, q)
  t = Where(seen, s, low)
  p = Softmax(t)
  y = MatMul(p, v)
}"""

NOT_SOFTMAX = """
g (T[B,M,16] q, T[B,16,N] k, T[B,N,16] v) => (T[B,M,16] y) {
  s = MatMul(q, k)
  p = LpNormalization<axis=-1, p=1>(s)
  y = MatMul(p, v)
}"""

SPELLINGS = {
    "four dims": FOUR_DIMS,
    "packed heads": PACKED_HEADS,
    "no batch": NO_BATCH,
    "one batch": ONE_BATCH,
    "einsum": EINSUM,
    "where": WHERE,
    "another row operation": NOT_SOFTMAX,
}


class Pair:
    """A model, compiled and on its reference."""

    def __init__(self, text: str, dtype: str = "float") -> None:
        text = text.replace("T[", f"{dtype}[")
        self.model = prepare(from_text(HEADER + text), DEFAULT)
        self.evaluator = Evaluator(self.model)
        self.compiled = compile_model(self.model, self.evaluator, DEFAULT)
        self.dtype = DTYPES[dtype]

    def agree(self, given: dict[str, Any], terms: int) -> None:
        want = self.evaluator.run(given)
        for name, array in self.compiled.run(given).items():
            agree(array, want[name], self.dtype, terms)


def feeds(model: Any, sizes: Mapping[str, int], dtype: Any) -> dict[str, Any]:
    generator = np.random.default_rng(sum(sizes.values()))
    found = {}
    for value in model.graph.inputs:
        shape = tuple(dim if isinstance(dim, int) else sizes[str(dim)] for dim in value.shape)
        if value.name == "seen":
            found[value.name] = generator.random(shape) < 0.7
        else:
            found[value.name] = generator.standard_normal(shape).astype(dtype)
    return found


def kernels(model: CompiledModel) -> int:
    """How many groups of nodes take a launch."""
    return sum(item.kind == "kernel" for item in model.compilation.explanations)


def agree(got: Any, want: Any, dtype: Any, terms: int) -> None:
    assert got.shape == want.shape
    assert got.dtype == want.dtype
    wide = want.astype(np.float64)
    scale = np.abs(wide[np.isfinite(wide)]).max(initial=1.0)
    bound = (terms + 16) * float(ml_dtypes.finfo(dtype).eps) * scale
    np.testing.assert_allclose(got.astype(np.float64), wide, rtol=0, atol=bound)


@pytest.mark.parametrize(
    ("spelling", "dtype"),
    [*((name, "float") for name in SPELLINGS), *(("four dims", name) for name in DTYPES)],
)
def test_every_spelling_is_one_kernel_and_right_at_all_sizes(spelling: str, dtype: str) -> None:
    pair = Pair(SPELLINGS[spelling], dtype)
    assert kernels(pair.compiled) == 1 + (spelling == "packed heads")
    for sizes in SIZES:
        pair.agree(feeds(pair.model, sizes, pair.dtype), sizes["N"] + 16)


def test_rows_that_are_masked_whole_are_what_the_reference_says() -> None:
    pair = Pair(FOUR_DIMS)
    given = feeds(pair.model, {"B": 1, "M": 30, "N": 20}, np.float32)
    given["mask"][0, 0, 3:7] = -np.inf
    given["mask"][0, 0, 8, 5:] = -np.inf
    with np.errstate(invalid="ignore"):
        pair.agree(given, 40)


ATTENTION = """
g (float[B,6,M,16] q, float[B,KVH,N,16] k, float[B,KVH,N,24] v) => (float[B,6,M,24] y) {
  y = Attention<ATTRIBUTES>(q, k, v)
}"""


@pytest.mark.parametrize("heads", [6, 2])
@pytest.mark.parametrize("attributes", ["", "is_causal=1", "softcap=2.0, scale=0.3"])
def test_the_operator_itself(heads: int, attributes: str) -> None:
    text = ATTENTION.replace("KVH", str(heads)).replace("<ATTRIBUTES>", f"<{attributes}>")
    pair = Pair(text.replace("<>", ""))
    for sizes in ({"B": 2, "M": 7, "N": 9}, {"B": 1, "M": 40, "N": 40}, {"B": 1, "M": 1, "N": 50}):
        pair.agree(feeds(pair.model, sizes, np.float32), sizes["N"] + 16)


@pytest.mark.parametrize(
    ("outputs", "extra"),
    [
        ("s", ""),
        ("p", ""),
        ("z", "z = Relu(s)"),
        ("z", "z = MatMul(p, v)"),
        ("z", "z = Transpose<perm=[0,2,1]>(p)"),
        ("z", "c = Constant<value = int64[1] {0}>()\nz = ReduceSum<keepdims=0>(p, c)"),
    ],
)
def test_what_others_read_too_stays_in_memory(outputs: str, extra: str) -> None:
    shape = {"s": "B,M,N", "p": "B,M,N"}.get(outputs, "")
    shape = (
        shape
        or {"R": "B,M,N", "M": "B,M,16", "T": "B,N,M", "c": "M,N"}[
            extra.split("= ")[1][0] if not extra.startswith("c") else "c"
        ]
    )
    pair = Pair(
        f"""
g (float[B,M,16] q, float[B,16,N] k, float[B,N,16] v) => (float[B,M,16] y, float[{shape}] {outputs})
{{
  s = MatMul(q, k)
  p = Softmax(s)
  y = MatMul(p, v)
  {extra}
}}"""
    )
    for sizes in SIZES[:5]:
        pair.agree(feeds(pair.model, sizes, np.float32), sizes["N"] + 16)


@pytest.mark.parametrize(
    "second",
    [
        "t = Transpose<perm=[0,2,1]>(p)\ny = MatMul(t, v)",
        "y = MatMul(v, p)",
        "y = MatMul(p, p)",
        "w = MatMul(p, v)\ny = Add(w, p)",
    ],
)
def test_products_that_only_look_alike_are_right(second: str) -> None:
    pair = Pair(
        f"""
g (float[B,N,N] q, float[B,N,N] k, float[B,N,N] v) => (float[B,N,N] y) {{
  s = MatMul(q, k)
  p = Softmax(s)
  {second}
}}"""
    )
    for n in (1, 7, 40):
        pair.agree(feeds(pair.model, {"B": 2, "N": n}, np.float32), n + 16)


def test_probabilities_that_are_spread_over_a_batch_are_right() -> None:
    pair = Pair(
        """
g (float[M,8] q, float[8,N] k, float[B,N,16] v) => (float[B,M,16] y) {
  s = MatMul(q, k)
  p = Softmax(s)
  y = MatMul(p, v)
}"""
    )
    for sizes in SIZES[:5]:
        pair.agree(feeds(pair.model, sizes, np.float32), sizes["N"] + 16)


def test_the_scale_of_an_open_head_size_is_a_double() -> None:
    model = from_text(
        '<ir_version: 10, opset_import: ["" : 24]> g (double[B,2,M,D] x) => (double[B,2,M,D] y)'
        " { y = Attention (x, x, x) }"
    )
    native = compile_model(prepare(model, DEFAULT), Evaluator(model), DEFAULT)
    for size in (3, 17):
        x = np.random.default_rng(0).standard_normal((2, 2, 5, size))
        expected = Evaluator(model).run({"x": x})["y"]
        np.testing.assert_allclose(native.run({"x": x})["y"], expected, rtol=0, atol=1e-14)
