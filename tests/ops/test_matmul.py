from __future__ import annotations

import time

import ml_dtypes
import numpy as np
import pytest

from differential import close, compare, normal, rng
from sardonyx.dims import symbol
from sardonyx.dtypes import FLOAT
from sardonyx.errors import LimitError, ModelError
from sardonyx.ops.fact import Fact
from single_operator import apply, inferred


@pytest.mark.parametrize(
    ("a", "b"),
    [((3, 4), (4, 5)), ((4,), (4,)), ((4,), (4, 5)), ((2, 1, 3, 4), (5, 4, 2)), ((2, 3, 4), (4,))],
)
def test_matmul(a, b):
    compare("MatMul", normal(*a), normal(*b), terms=4, version=13)


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint32, np.uint64])
def test_integers_wrap_around(dtype):
    a = rng(1).integers(0, np.iinfo(dtype).max, (3, 4), dtype)
    b = rng(2).integers(0, np.iinfo(dtype).max, (4, 2), dtype)
    compare("MatMul", a, b, version=13)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_narrow_floats_accumulate_in_float32(dtype):
    a, b = normal(3, 200, dtype=dtype), normal(200, 5, dtype=dtype)
    expected = (a.astype(np.float64) @ b.astype(np.float64)).astype(dtype)
    close(apply("MatMul", a, b, version=13), [expected])


def test_shapes_that_do_not_multiply():
    with pytest.raises(ModelError, match="4 columns against 5 rows"):
        apply("MatMul", normal(3, 4), normal(5, 6), version=13)
    with pytest.raises(ModelError):
        apply("MatMul", normal(2, 3, 4), normal(3, 4, 5), version=13)
    with pytest.raises(ModelError, match="scalar"):
        apply("MatMul", np.float32(1), normal(1, 1), version=13)


def test_an_outer_product_bomb_meets_the_limit():
    a = np.broadcast_to(np.float32(1), (1 << 20, 1))
    with pytest.raises(LimitError):
        apply("MatMul", a, a.T, version=13)


@pytest.mark.parametrize("ta", [0, 1])
@pytest.mark.parametrize("tb", [0, 1])
@pytest.mark.parametrize("c", [(), (5,), (1,), (3, 1), (3, 5), None])
def test_gemm(ta, tb, c):
    a, b = normal(*((4, 3) if ta else (3, 4))), normal(*((5, 4) if tb else (4, 5)))
    extra = () if c is None else (np.asarray(normal(*c)),)
    compare("Gemm", a, b, *extra, terms=5, version=13, alpha=0.5, beta=2.0, transA=ta, transB=tb)


def test_gemm_of_opset_6_broadcasts_only_when_asked():
    a, b, c = normal(3, 4), normal(4, 5), normal(5)
    (result,) = apply("Gemm", a, b, c, version=6, broadcast=1)
    close([result], apply("Gemm", a, b, c, version=13))
    with pytest.raises(ModelError):
        apply("Gemm", a, b, c, version=6)


def test_gemm_of_integers():
    a = rng(1).integers(-9, 9, (3, 4)).astype(np.int32)
    b = rng(2).integers(-9, 9, (4, 5)).astype(np.int32)
    (result,) = apply("Gemm", a, b, version=13, alpha=3.0)
    np.testing.assert_array_equal(result, 3 * (a @ b))


@pytest.mark.parametrize("zero_a", [None, np.uint8(7), np.array([1, 2, 3], np.uint8)])
@pytest.mark.parametrize("zero_b", [None, np.int8(-7), np.array([1, -2, 3, 4, 5], np.int8)])
def test_matmul_integer(zero_a, zero_b):
    a = rng(1).integers(0, 256, (3, 4)).astype(np.uint8)
    b = rng(2).integers(-128, 128, (4, 5)).astype(np.int8)
    (result,) = apply("MatMulInteger", a, b, zero_a, zero_b, version=10)
    wide_a = a.astype(np.int64) - (0 if zero_a is None else np.reshape(zero_a, (-1, 1)).astype(int))
    wide_b = b.astype(np.int64) - (0 if zero_b is None else np.asarray(zero_b, np.int64))
    assert result.dtype == np.int32
    np.testing.assert_array_equal(result, wide_a @ wide_b)


@pytest.mark.parametrize(
    ("equation", "shapes"),
    [
        ("ij,jk->ik", [(3, 4), (4, 5)]),
        ("bij, bjk -> bik", [(2, 3, 4), (2, 4, 5)]),
        ("...ij,...jk->...ik", [(2, 1, 3, 4), (5, 4, 2)]),
        ("ij->ji", [(3, 4)]),
        ("ij", [(3, 4)]),
        ("ba", [(3, 4)]),
        ("ij->", [(3, 4)]),
        ("ii->i", [(4, 4)]),
        ("...ii->...i", [(2, 4, 4)]),
        ("ii", [(4, 4)]),
        ("i,j->ij", [(3,), (4,)]),
        ("i,i", [(3,), (3,)]),
        ("bhqd,bhkd->bhqk", [(2, 3, 4, 5), (2, 3, 6, 5)]),
        ("abc,cd,def->abef", [(2, 3, 4), (4, 5), (5, 6, 7)]),
        ("i,i,i->i", [(3,), (3,), (3,)]),
        ("a...a->...", [(3, 2, 3)]),
        ("ij,kl->jl", [(2, 3), (4, 5)]),
        (",ij->ji", [(), (2, 3)]),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32])
def test_einsum_equals_numpy(equation, shapes, dtype):
    arrays = [
        np.asarray(rng(i).integers(-5, 5, shape)).astype(dtype) for i, shape in enumerate(shapes)
    ]
    (result,) = apply("Einsum", *arrays, version=12, equation=equation)
    expected = np.einsum(equation.replace(" ", ""), *arrays)
    assert result.dtype == dtype
    np.testing.assert_array_equal(result, expected)
    (fact,) = inferred("Einsum", *arrays, version=12, equation=equation)
    assert fact.shape == result.shape


@pytest.mark.parametrize(
    "equation",
    [
        ".i", "i.", "..i", "....i", "i->.", "i->...i...", "......i", "i->ii", "i->j", "i,j->i", "1",
        "i->i->i", "i-", "i>", "ij", "é", "i\u202e", "", "->", "i,",
        "." * 100_000, "i" * 100_000, "," * 100_000,
    ],
)  # fmt: skip
def test_malformed_equations_are_refused_at_once(equation):
    start = time.perf_counter()
    with pytest.raises(ModelError):
        apply("Einsum", normal(3), version=12, equation=equation)
    with pytest.raises(ModelError):
        inferred("Einsum", Fact.tensor(FLOAT, (3,)), version=12, equation=equation)
    assert time.perf_counter() - start < 1


def test_einsum_keeps_symbols():
    n, m = symbol("N"), symbol("M")
    a, b = Fact.tensor(FLOAT, (n, 8, m)), Fact.tensor(FLOAT, (m, 5))
    (fact,) = inferred("Einsum", a, b, version=12, equation="bhm,mk->bhk")
    assert fact.shape == (n, 8, 5)


def test_sizes_that_differ_are_refused():
    with pytest.raises(ModelError, match="'j' has sizes 4 and 5"):
        apply("Einsum", normal(3, 4), normal(5, 6), version=12, equation="ij,jk->ik")


def test_labels_that_only_one_operand_has_are_summed_before_the_product():
    start = time.perf_counter()
    ones = np.ones(100_000, np.float32)
    (result,) = apply("Einsum", ones, ones, ones, version=12, equation="a,b,c->")
    assert result == np.float32(1e15)
    assert time.perf_counter() - start < 1


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint32, np.uint64])
@pytest.mark.parametrize("factor", [2.0, -1.0, -3.4e38, 3.4e38, 2.0**40])
def test_gemm_of_integers_multiplies_by_whole_factors_modulo_the_width(dtype, factor):
    a, b, c = np.array([[3, 5]], dtype), np.array([[7], [2]], dtype), np.array([[11]], dtype)
    bits = a.itemsize * 8
    expected = (int(factor) * 31 + int(factor) * 11) % (1 << bits)
    (y,) = apply("Gemm", a, b, c, version=13, alpha=factor, beta=factor)
    assert y.dtype == dtype
    assert int(y[0, 0]) % (1 << bits) == expected


@pytest.mark.parametrize(("factor", "expected"), [(0.5, 15), (np.inf, 2**31 - 1), (np.nan, 0)])
def test_gemm_of_integers_truncates_and_saturates(factor, expected):
    a, b = np.array([[3, 5]], np.int32), np.array([[7], [2]], np.int32)
    (y,) = apply("Gemm", a, b, version=13, alpha=factor)
    assert y.tolist() == [[expected]]
