"""Elementwise arithmetic: against onnxruntime and NumPy, on each type, and on hostile data."""

from __future__ import annotations

import math

import ml_dtypes
import numpy as np
import pytest

from sardonyx import dtypes
from sardonyx.dims import symbol
from sardonyx.errors import ExecutionError, InferenceError, LimitError
from sardonyx.ops import registry
from sardonyx.ops.fact import Fact, shape_value
from sardonyx.ops.numeric import erf, erfc
from single_operator import apply, by_onnxruntime, inferred

N, S = symbol("N"), symbol("S")
RNG = np.random.default_rng(7)
WIDE = np.concatenate([RNG.normal(0, 3, 40), [0.0, -0.0, 0.5, 1.5, 2.5, -0.5, 1.0, -1.0]])
POSITIVE = np.concatenate([np.abs(RNG.normal(0, 3, 40)) + 0.1, [1.0, 4.0]])
WITHIN_ONE = np.linspace(-0.99, 0.99, 41)
SPECIAL = np.array([np.inf, -np.inf, np.nan])
INTEGERS = [np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64]
SIGNED = INTEGERS[:4]

UNARY = [
    *[(name, np.concatenate([WIDE, SPECIAL])) for name in ("Abs", "Neg", "Floor", "Ceil", "Round")],
    *[(name, np.concatenate([WIDE, SPECIAL])) for name in ("Exp", "Erf", "Tanh", "Sign")],
    *[(name, WIDE) for name in ("Sin", "Cos", "Tan", "Atan", "Sinh", "Cosh", "Asinh")],
    *[(name, np.append(POSITIVE, SPECIAL)) for name in ("Sqrt", "Log", "Reciprocal")],
    *[(name, WITHIN_ONE) for name in ("Asin", "Acos", "Atanh")],
    ("Acosh", POSITIVE + 1),
]


def assert_close(actual: np.ndarray, expected: np.ndarray, ulps: float) -> None:
    assert actual.dtype == expected.dtype
    assert actual.shape == expected.shape
    eps = float(ml_dtypes.finfo(actual.dtype).eps)
    wide = expected.astype(np.float64)
    tolerance = {"rtol": ulps * eps, "atol": ulps * eps * 1e-2}
    np.testing.assert_allclose(actual.astype(np.float64), wide, **tolerance)


@pytest.mark.parametrize(("name", "values"), UNARY, ids=[name for name, _ in UNARY])
def test_unary_equals_onnxruntime(name: str, values: np.ndarray) -> None:
    if name == "Sign":
        values = values[~np.isnan(values)]
    x = values.astype(np.float32)
    assert_close(apply(name, x)[0], by_onnxruntime(name, x)[0], 16)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32])
@pytest.mark.parametrize(("name", "values"), UNARY, ids=[name for name, _ in UNARY])
def test_unary_rounds_the_double_result(name: str, values: np.ndarray, dtype: type) -> None:
    with np.errstate(over="ignore"):
        x = values[np.isfinite(values)].astype(dtype)
        expected = apply(name, x.astype(np.float64))[0]
        assert_close(apply(name, x)[0], expected.astype(dtype), 4 if dtype is np.float32 else 1)


def test_erf_is_exact_to_a_few_units() -> None:
    x = np.concatenate([np.linspace(-7, 7, 4001), np.linspace(-28, 28, 301), [0.46875, 4.0]])
    expected = np.array([math.erf(value) for value in x])
    np.testing.assert_allclose(erf(x), expected, rtol=1e-15, atol=0)
    expected = np.array([math.erfc(value) for value in x])
    normal = expected > 1e-300
    np.testing.assert_allclose(erfc(x)[normal], expected[normal], rtol=2e-15, atol=0)
    np.testing.assert_array_equal(erf(SPECIAL), [1, -1, np.nan])
    np.testing.assert_array_equal(erfc(SPECIAL), [0, 2, np.nan])
    assert erf(np.zeros((2, 0))).shape == (2, 0)
    assert np.signbit(erf(np.array(-0.0)))


def test_erf_of_integers_truncates() -> None:
    y = apply("Erf", np.array([-9, -1, 0, 1, 9], np.int8), version=9)[0]
    assert y.dtype == np.int8
    assert y.tolist() == [-1, 0, 0, 0, 1]


@pytest.mark.parametrize("name", ["Add", "Sub", "Mul", "Div", "Pow"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_float_binary_equals_onnxruntime(name: str, dtype: type) -> None:
    a = np.abs(RNG.normal(0, 2, (4, 1, 3))).astype(dtype)
    b = RNG.normal(0, 2, (5, 1)).astype(dtype)
    assert_close(apply(name, a, b)[0], by_onnxruntime(name, a, b)[0], 4)


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint32, np.uint64])
@pytest.mark.parametrize("name", ["Add", "Sub", "Mul", "Div"])
def test_integer_binary_equals_onnxruntime(name: str, dtype: type) -> None:
    limits = np.iinfo(dtype)
    a = RNG.integers(limits.min, limits.max, 200, dtype, endpoint=True)
    b = RNG.integers(max(limits.min, -9), 9, 200, dtype)
    b[b == 0] = 3
    np.testing.assert_array_equal(apply(name, a, b)[0], by_onnxruntime(name, a, b)[0])


@pytest.mark.parametrize("dtype", INTEGERS)
def test_integer_division_is_defined_everywhere(dtype: type) -> None:
    limits = np.iinfo(dtype)
    a = np.array([limits.min, limits.max, 0, 7, limits.min], dtype)
    zero = np.zeros(5, dtype)
    for name, attributes in (("Div", {}), ("Mod", {}), ("Mod", {"fmod": 1})):
        assert apply(name, a, zero, **attributes)[0].tolist() == [0] * 5
    if limits.min < 0:
        least, minus_one = np.array([limits.min], dtype), np.array([-1], dtype)
        assert apply("Div", least, minus_one)[0].tolist() == [limits.min]
        assert apply("Mod", least, minus_one)[0].tolist() == [0]
        assert apply("Mod", least, minus_one, fmod=1)[0].tolist() == [0]
        assert apply("Neg", least)[0].tolist() == [limits.min]
        assert apply("Abs", least)[0].tolist() == [limits.min]


@pytest.mark.parametrize("dtype", SIGNED)
def test_integer_division_truncates_and_modulo_floors(dtype: type) -> None:
    a, b = (grid.astype(dtype) for grid in np.meshgrid(range(-9, 10), [-4, -3, -1, 1, 2, 5]))
    pairs = list(zip(a.ravel().tolist(), b.ravel().tolist(), strict=True))
    assert apply("Div", a, b)[0].ravel().tolist() == [int(x / y) for x, y in pairs]
    assert apply("Mod", a, b)[0].ravel().tolist() == [x % y for x, y in pairs]
    expected = [int(math.fmod(x, y)) for x, y in pairs]
    assert apply("Mod", a, b, fmod=1)[0].ravel().tolist() == expected


def test_float_modulo_follows_the_special_cases_of_opset_28() -> None:
    a = np.array([0.0, -0.0, np.inf, 3.0, -1.0, 1.0, -1.0, np.nan, 5.5], np.float32)
    b = np.array([-2.0, 2.0, 2.0, 0.0, np.inf, np.inf, -np.inf, 1.0, -2.0], np.float32)
    y = apply("Mod", a, b, version=28)[0]
    expected = [-0.0, 0.0, np.nan, np.nan, np.inf, 1.0, -1.0, np.nan, -0.5]
    np.testing.assert_array_equal(y, np.array(expected, np.float32))
    assert np.signbit(y[:2]).tolist() == [True, False]
    with pytest.raises(InferenceError, match="fmod"):
        inferred("Mod", Fact.constant(a), Fact.constant(b), version=13)


@pytest.mark.parametrize("exponent", [np.int8, np.int64, np.uint64, np.float32, np.float64])
@pytest.mark.parametrize("base", [np.int32, np.int64, np.float16, np.float32, np.float64])
def test_pow_of_each_pair_of_types(base: type, exponent: type) -> None:
    x = np.array([1, 2, 3, 5, 7], base)
    y = np.array([0, 1, 2, 3, 4], exponent)
    z = apply("Pow", x, y)[0]
    assert z.dtype == base
    assert z.tolist() == [1, 2, 9, 125, 2401 if base is not np.float16 else 2400]


def test_integer_pow_is_defined_everywhere() -> None:
    x = np.array([0, 1, -1, -1, 2, 2, 3, -2], np.int32)
    y = np.array([-1, -5, -2, -3, -1, 1000, 2**63 - 1, 31], np.int64)
    assert apply("Pow", x, y)[0].tolist()[:6] == [0, 1, 1, -1, 0, 0]
    assert apply("Pow", x, y)[0].tolist()[7] == -(2**31)
    z = apply("Pow", x[:3], np.array([np.nan, np.inf, 1e300], np.float64))[0]
    assert z.tolist() == [0, 1, 1]


def test_extremes_and_totals_broadcast() -> None:
    a, b, c = (RNG.normal(size=s).astype(np.float32) for s in ((3, 1), (4,), (2, 1, 1)))
    for name in ("Max", "Min", "Sum", "Mean"):
        assert_close(apply(name, a, b, c)[0], by_onnxruntime(name, a, b, c)[0], 2)
        assert apply(name, a)[0].tolist() == a.tolist()
        with pytest.raises(ExecutionError, match="does not broadcast"):
            apply(name, a, b, version=7)
    nan = np.array([np.nan, 1], np.float32)
    assert np.isnan(apply("Max", nan, nan[::-1].copy())[0]).all()


def test_sum_of_low_precision_is_rounded_once() -> None:
    one, tiny = (np.array([v], ml_dtypes.bfloat16) for v in (1.0, 2.0**-8))
    total = apply("Sum", one, tiny, tiny)[0]
    assert total.dtype == ml_dtypes.bfloat16
    assert float(total[0]) == 1 + 2.0**-7


CLIPS = [
    (np.float32, (np.float32(-1), np.float32(1))),
    (np.float64, (None, np.float64(0.5))),
    (np.int8, (np.int8(-3), np.int8(2))),
    (np.uint64, (np.uint64(3), None)),
    (np.float32, (np.float32(2), np.float32(-2))),
]


@pytest.mark.parametrize(("dtype", "limits"), CLIPS)
def test_clip_equals_onnxruntime(dtype: type, limits: tuple) -> None:
    x = np.arange(0 if dtype is np.uint64 else -6, 7).astype(dtype)
    bounds = [None if bound is None else np.asarray(bound) for bound in limits]
    expected = by_onnxruntime("Clip", x, *bounds, version=13)[0]
    np.testing.assert_array_equal(apply("Clip", x, *bounds)[0], expected)


def test_clip_of_old_versions_takes_attributes() -> None:
    x = np.array([-5, 0.5, 5], np.float16)
    assert apply("Clip", x, version=6, min=-1.0, max=1.0)[0].tolist() == [-1, 0.5, 1]
    assert apply("Clip", x, version=6)[0].dtype == np.float16
    assert apply("Clip", x, version=1, max=0.0)[0].tolist() == [-5, 0, 0]
    with pytest.raises(ExecutionError, match="scalar"):
        apply("Clip", x, x)


def test_old_broadcasting_aligns_to_an_axis() -> None:
    a = RNG.normal(size=(2, 3, 4, 5)).astype(np.float32)
    b = RNG.normal(size=(3, 4)).astype(np.float32)
    y = apply("Add", a, b, version=6, broadcast=1, axis=1)[0]
    np.testing.assert_array_equal(y, a + b[:, :, None])
    np.testing.assert_array_equal(apply("Mul", a, a[0, 0], version=1, broadcast=1)[0], a * a[0, 0])
    one = np.ones((1, 1), np.float32)
    assert apply("Sub", a[0, 0, 0], one, version=6, broadcast=1)[0].shape == (5,)
    with pytest.raises(InferenceError, match="broadcast is 0"):
        apply("Add", a, b, version=6)
    with pytest.raises(ExecutionError, match="broadcast"):
        apply("Add", a, b, version=6, broadcast=1, axis=3)


def test_shapes_that_do_not_broadcast_and_huge_results_are_refused() -> None:
    a = np.zeros((200_000, 1))
    with pytest.raises(LimitError, match="tensor bytes"):
        apply("Add", a, a.T)
    with pytest.raises(ExecutionError, match="do not broadcast"):
        apply("Max", np.zeros(3), np.zeros(4))
    with pytest.raises(InferenceError, match="do not broadcast"):
        inferred("Mul", Fact.tensor(dtypes.FLOAT, (3,)), Fact.tensor(dtypes.FLOAT, (4,)))


@pytest.mark.parametrize(("n", "s"), [(1, 4), (3, 2)])
def test_inferred_shapes_are_those_of_runs(n: int, s: int) -> None:
    a, b = Fact.tensor(dtypes.FLOAT, (N, 1, 3)), Fact.tensor(dtypes.FLOAT, (S, 1))
    x, y = np.ones((n, 1, 3), np.float32), np.ones((s, 1), np.float32)
    for name in ("Add", "Div", "Pow", "Mod", "Max", "Sum"):
        (fact,) = inferred(name, a, b, version=28)
        assert fact.shape == (N, S, 3)
        assert apply(name, x, y, version=28)[0].shape == (n, s, 3)
    assert inferred("Add", a, Fact.tensor(dtypes.FLOAT))[0].shape is None
    assert inferred("Add", Fact.tensor(dtypes.FLOAT, (N,)), b)[0].shape == (S, N)


def test_symbolic_contents_stay_exact() -> None:
    x, two = shape_value([2 * N, S, 6]), np.array([2, 2, 4])
    assert apply("Div", x, two)[0].tolist() == [N, S // 2, 1]
    assert apply("Div", shape_value([N - 5]), two[:1])[0].tolist() == [None]
    assert apply("Mul", x, two)[0].tolist() == [4 * N, 2 * S, 24]
    assert apply("Neg", x)[0].tolist() == [-2 * N, -S, -6]
    assert apply("Mod", x, two)[0].tolist() == [0, S % 2, 2]
    assert apply("Max", x, np.array([-1, -1, 9]))[0].tolist() == [2 * N, S, 9]
    assert apply("Clip", x, np.array(0))[0].tolist() == [2 * N, S, 6]
    assert apply("Div", x, np.array([0, 0, 0]))[0].tolist() == [None, None, 0]


@pytest.mark.parametrize("name", ["Add", "Mul", "Max", "Abs", "Div", "Mod", "Pow", "Neg", "Sign"])
def test_every_type_of_the_schema_keeps_its_type(name: str) -> None:
    operator = registry.get("", name)
    schema = operator.schema(28)
    for kind in schema.type_constraints["T"]:
        x = np.array([[0, 1], [2, 3]]).astype(kind.dtype.numpy)  # type: ignore[union-attr]
        y = apply(name, *[x] * schema.min_inputs, version=28)[0]
        assert y.dtype == x.dtype
        assert y.shape == (2, 2)
