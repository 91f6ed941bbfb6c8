"""Comparisons, boolean logic, selection and bits, against NumPy and onnxruntime."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from sardonyx import dtypes
from sardonyx.dims import symbol
from sardonyx.errors import ExecutionError, InferenceError, ModelError
from sardonyx.ops.fact import Fact, shape_value
from single_operator import apply, assert_same, by_onnxruntime, inferred

N, S = symbol("N"), symbol("S", 1)
RNG = np.random.default_rng(11)
COMPARISONS = {
    "Equal": np.equal,
    "Greater": np.greater,
    "Less": np.less,
    "GreaterOrEqual": np.greater_equal,
    "LessOrEqual": np.less_equal,
}
INTEGERS = [np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64]


@pytest.mark.parametrize("dtype", [*INTEGERS, np.float16, ml_dtypes.bfloat16, np.float64])
@pytest.mark.parametrize("name", COMPARISONS)
def test_comparisons_of_each_type(name: str, dtype: type) -> None:
    a, b = (RNG.integers(0, 4, size).astype(dtype) for size in ((5, 1), (6,)))
    expected = COMPARISONS[name](a.astype(np.int64), b.astype(np.int64))
    assert_same(apply(name, a, b), [expected])


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32])
def test_nan_compares_false(dtype: type) -> None:
    nan = np.array([np.nan, 1], dtype)
    for name in COMPARISONS:
        assert apply(name, nan, nan[:1])[0].tolist() == [False, False]


def test_strings_are_equal_by_content() -> None:
    a = np.array([["x", "y"], ["é", ""]], object)
    assert_same(apply("Equal", a, np.array(["x", ""], object)), [np.array([[1, 0], [0, 1]], bool)])


@pytest.mark.parametrize("name", ["And", "Or", "Xor"])
def test_boolean_operators_equal_onnxruntime(name: str) -> None:
    a, b = np.array([[True], [False]]), np.array([True, False])
    assert_same(apply(name, a, b), by_onnxruntime(name, a, b))
    aligned = apply(name, np.array([a[:, 0]] * 3).T, a[:, 0], version=1, broadcast=1, axis=0)
    assert_same(aligned, [np.array([[name != "Xor"] * 3, [False] * 3])])


def test_not_and_bitwise_operators() -> None:
    assert apply("Not", np.array([True, False]))[0].tolist() == [False, True]
    for dtype in INTEGERS:
        a, b = (RNG.integers(0, 127, 9).astype(dtype) for _ in "ab")
        for name in ("BitwiseAnd", "BitwiseOr", "BitwiseXor"):
            assert_same(apply(name, a, b), by_onnxruntime(name, a, b))
        assert_same(apply("BitwiseNot", a), by_onnxruntime("BitwiseNot", a))


@pytest.mark.parametrize("dtype", INTEGERS)
def test_shifts_past_the_width_are_defined(dtype: type) -> None:
    limits = np.iinfo(dtype)
    x = np.array([limits.min, limits.max, 1, 5], dtype)
    width = limits.bits
    for by in (width, width + 1, limits.max) + ((-1, limits.min) if limits.min else ()):
        y = np.full(4, by, dtype)
        assert apply("BitShift", x, y, version=28, direction="LEFT")[0].tolist() == [0] * 4
        right = apply("BitShift", x, y, version=28, direction="RIGHT")[0]
        assert right.tolist() == [-1 if limits.min else 0, 0, 0, 0]
        assert right.dtype == dtype
    for by in (0, 1, width - 1):
        right = apply("BitShift", x, np.full(4, by, dtype), version=28, direction="RIGHT")[0]
        assert right.tolist() == [int(value) >> by for value in x]
    with pytest.raises(ModelError, match="direction"):
        apply("BitShift", x, x, direction="UP")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint32, np.uint64])
@pytest.mark.parametrize("direction", ["LEFT", "RIGHT"])
def test_shifts_equal_onnxruntime(dtype: type, direction: str) -> None:
    x, y = RNG.integers(0, 250, 30).astype(dtype), RNG.integers(0, 8, 30).astype(dtype)
    expected = by_onnxruntime("BitShift", x, y, direction=direction)
    assert_same(apply("BitShift", x, y, direction=direction), expected)


FLOATS = [
    *(np.float16, np.float32, np.float64, ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn),
    *(ml_dtypes.float8_e4m3fnuz, ml_dtypes.float8_e5m2, ml_dtypes.float8_e5m2fnuz),
]


@pytest.mark.parametrize("dtype", FLOATS)
def test_nan_and_infinity_are_found_in_each_type(dtype: type) -> None:
    x = np.array([1, np.nan, np.inf, -np.inf, -0.0]).astype(dtype)
    wide = x.astype(np.float64)
    assert_same(apply("IsNaN", x), [np.isnan(wide)])
    assert_same(apply("IsInf", x), [np.isinf(wide)])
    assert_same(apply("IsInf", x, detect_negative=0), [np.isposinf(wide)])
    assert_same(apply("IsInf", x, detect_positive=0), [np.isneginf(wide)])


@pytest.mark.parametrize("dtype", dtypes.ALL, ids=str)
def test_where_selects_on_every_type(dtype: dtypes.DType) -> None:
    texts = dtype is dtypes.STRING
    x = np.array(["a", "b"], object) if texts else np.array([1, 2]).astype(dtype.numpy)
    y = x[::-1][:, None].copy()
    z = apply("Where", np.array([[True, False]]), x, y)[0]
    assert z.dtype == x.dtype
    assert z.tolist() == [[x[0], y[0, 0]], [x[0], y[1, 0]]]


def test_shapes_that_do_not_broadcast_are_refused() -> None:
    with pytest.raises(ExecutionError, match="do not broadcast"):
        apply("Where", np.zeros(2, bool), np.zeros(3), np.zeros(3))
    facts = Fact.tensor(dtypes.BOOL, (2,)), *[Fact.tensor(dtypes.FLOAT, (3,))] * 2
    with pytest.raises(InferenceError, match="do not broadcast"):
        inferred("Where", *facts)


@pytest.mark.parametrize(("n", "s"), [(1, 4), (3, 2)])
def test_inferred_shapes_are_those_of_runs(n: int, s: int) -> None:
    a, b = Fact.tensor(dtypes.FLOAT, (N, 1)), Fact.tensor(dtypes.FLOAT, (S + 2,))
    x, y = np.ones((n, 1), np.float32), np.ones(s + 2, np.float32)
    for name in COMPARISONS:
        (fact,) = inferred(name, a, b)
        assert (fact.dtype, fact.shape) == (dtypes.BOOL, (N, S + 2))
        assert apply(name, x, y)[0].shape == (n, s + 2)
    (fact,) = inferred("Where", Fact.tensor(dtypes.BOOL, (N, 1)), b, b)
    assert (fact.dtype, fact.shape) == (dtypes.FLOAT, (N, S + 2))
    assert inferred("IsNaN", a)[0].dtype is dtypes.BOOL


def test_comparisons_of_symbols_decide_what_they_can() -> None:
    x = shape_value([N, S, 3])
    unequal = apply("Equal", x, np.array([-1, 0, 3]))[0]
    assert unequal.dtype == bool
    assert unequal.tolist() == [False, False, True]
    assert apply("Equal", x, np.array([4, 4, 4]))[0].tolist() == [None, None, False]
    assert apply("Greater", x, np.array([-1, 0, 3]))[0].tolist() == [True, True, False]
    chosen = apply("Where", unequal, np.array([7, 7, 7]), x)[0]
    assert chosen.tolist() == [N, S, 7]
    undecided = np.array([None, N, True], object)
    assert apply("Where", undecided, np.array([7, 7, 7]), np.array([7, 7, 8]))[0].tolist() == [
        None,
        7,
        7,
    ]
