"""Reductions, arg-extremes and running results, against onnxruntime and NumPy."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from sardonyx import dtypes
from sardonyx.dims import evaluate, symbol
from sardonyx.errors import ExecutionError, InferenceError
from sardonyx.ops.fact import Fact, shape_value
from single_operator import apply, assert_same, by_onnxruntime, inferred

N, S = symbol("N"), symbol("S")
RNG = np.random.default_rng(5)
NAMES = [
    *("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2"),
    *("ReduceLogSum", "ReduceLogSumExp", "ReduceSumSquare"),
]
INTEGERS = [np.int32, np.int64]
X = (np.abs(RNG.normal(size=(3, 4, 5))) + 0.1).astype(np.float32)


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def assert_close(actual: np.ndarray, expected: np.ndarray, length: int) -> None:
    assert actual.dtype == expected.dtype
    assert actual.shape == expected.shape
    eps = float(ml_dtypes.finfo(actual.dtype).eps)
    tolerance = eps * (4 + length)
    np.testing.assert_allclose(
        actual.astype(np.float64), expected.astype(np.float64), rtol=tolerance, atol=tolerance
    )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("axes", [None, (0,), (1, -1), (0, 1, 2), ()])
def test_equals_onnxruntime(name: str, axes: tuple | None) -> None:
    inputs = (X,) if axes is None else (X, ints(*axes))
    for attributes in ({}, {"keepdims": 0}, {"noop_with_empty_axes": 1}):
        expected = by_onnxruntime(name, *inputs, version=18, **attributes)[0]
        assert_close(apply(name, *inputs, version=18, **attributes)[0], expected, 60)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("version", [8, 11])
def test_old_versions_take_axes_as_attribute(name: str, version: int) -> None:
    expected = by_onnxruntime(name, X, version=version, axes=[0, 2], keepdims=0)[0]
    assert_close(apply(name, X, version=version, axes=(0, 2), keepdims=0)[0], expected, 15)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("name", NAMES)
def test_low_precision_is_rounded_once(name: str, dtype: type) -> None:
    x = X.astype(dtype)
    wide = apply(name, x.astype(np.float64), ints(1, 2))[0]
    assert_close(apply(name, x, ints(1, 2))[0], wide.astype(dtype), 0)


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("name", ["ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceL1"])
def test_integers_equal_onnxruntime(name: str, dtype: type) -> None:
    x = RNG.integers(-90, 90, (4, 7)).astype(dtype)
    expected = by_onnxruntime(name, x, ints(1), version=18)
    assert_same(apply(name, x, ints(1), version=18), expected)


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint32, np.uint64])
def test_integers_wrap_and_keep_their_type(dtype: type) -> None:
    limits = np.iinfo(dtype)
    x = np.array([limits.max, limits.max, 3], dtype)
    modulus = 2**limits.bits
    results = {name: apply(name, x, version=18)[0] for name in NAMES}
    assert all(y.dtype == dtype and y.shape == (1,) for y in results.values())
    assert int(results["ReduceSum"][0]) % modulus == (2 * limits.max + 3) % modulus
    assert int(results["ReduceProd"][0]) % modulus == limits.max**2 * 3 % modulus
    assert int(results["ReduceSumSquare"][0]) % modulus == (2 * limits.max**2 + 9) % modulus


EMPTY = {
    "ReduceSum": 0,
    "ReduceProd": 1,
    "ReduceMax": -np.inf,
    "ReduceMin": np.inf,
    "ReduceL1": 0,
    "ReduceL2": 0,
    "ReduceLogSum": -np.inf,
    "ReduceLogSumExp": -np.inf,
    "ReduceSumSquare": 0,
}


@pytest.mark.parametrize("name", EMPTY)
def test_reduction_of_nothing(name: str) -> None:
    y = apply(name, np.zeros((2, 0, 3), np.float32), ints(1))[0]
    assert_same([y], [np.full((2, 1, 3), EMPTY[name], np.float32)])


def test_extremes_of_nothing_and_of_booleans() -> None:
    for dtype in (np.int8, np.uint8, np.int32, np.uint64):
        none = np.zeros(0, dtype)
        assert apply("ReduceMax", none, keepdims=0)[0] == np.iinfo(dtype).min
        assert apply("ReduceMin", none, keepdims=0)[0] == np.iinfo(dtype).max
    x = np.array([[True, False], [False, False]])
    assert apply("ReduceMax", x, ints(1), keepdims=0)[0].tolist() == [True, False]
    assert apply("ReduceMin", x, ints(1), keepdims=0)[0].tolist() == [False, False]
    assert apply("ReduceMean", np.zeros(0, np.int32))[0].tolist() == [0]
    assert np.isnan(apply("ReduceMean", np.zeros(0, np.float32))[0]).all()


def test_large_values_do_not_overflow_the_exponential() -> None:
    x = np.array([[1000, 1000], [-np.inf, -np.inf], [np.inf, 0]], np.float32)
    y = apply("ReduceLogSumExp", x, ints(1), keepdims=0)[0]
    np.testing.assert_allclose(y, [1000 + np.log(2), -np.inf, np.inf], rtol=1e-6)


def test_scalars_and_wrong_axes() -> None:
    assert apply("ReduceSum", np.array(2.0))[0].shape == ()
    for axes in (ints(3), ints(-4), ints(1, -2)):
        with pytest.raises(InferenceError, match="ReduceSum"):
            apply("ReduceSum", X, axes)
        with pytest.raises(InferenceError, match="ReduceSum"):
            inferred("ReduceSum", Fact.constant(X), axes)


@pytest.mark.parametrize(("n", "s"), [(2, 3), (5, 1)])
@pytest.mark.parametrize("axes", [None, (1,), (0, -1)])
@pytest.mark.parametrize("keepdims", [0, 1])
def test_inferred_shapes_are_those_of_runs(
    n: int, s: int, axes: tuple | None, keepdims: int
) -> None:
    given = () if axes is None else (ints(*axes),)
    for name in NAMES:
        (fact,) = inferred(name, Fact.tensor(dtypes.FLOAT, (N, 3, S)), *given, keepdims=keepdims)
        run = apply(name, np.ones((n, 3, s), np.float32), *given, keepdims=keepdims)[0]
        assert fact.shape is not None
        assert tuple(evaluate(dim, {"N": n, "S": s}) for dim in fact.shape) == run.shape


def test_inference_with_unknown_axes_claims_nothing() -> None:
    data, axes = Fact.tensor(dtypes.FLOAT, (N, 3, S)), Fact.tensor(dtypes.INT64, (2,))
    assert inferred("ReduceSum", data, axes)[0].shape == (None, None, None)
    assert inferred("ReduceSum", data, axes, keepdims=0)[0].shape == (None,)
    anything = Fact.tensor(dtypes.INT64)
    assert inferred("ReduceSum", data, anything, keepdims=0)[0].shape is None
    assert inferred("ReduceSum", Fact.tensor(dtypes.FLOAT), axes)[0].shape is None
    nothing = Fact.tensor(dtypes.INT64, (0,))
    assert inferred("ReduceSum", data, nothing)[0].shape == (1, 1, 1)
    assert inferred("ReduceSum", data, nothing, noop_with_empty_axes=1)[0].shape == (N, 3, S)


def test_symbolic_contents() -> None:
    x = shape_value([N, S, 3])
    assert apply("ReduceProd", x, keepdims=0)[0].item() == 3 * N * S
    assert apply("ReduceSum", x)[0].tolist() == [N + S + 3]
    assert apply("ReduceMax", shape_value([N, N + 1]), keepdims=0)[0].item() == N + 1
    assert apply("CumSum", x, np.array(0))[0].tolist() == [N, N + S, N + S + 3]


@pytest.mark.parametrize("name", ["ArgMax", "ArgMin"])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_arg_extremes_equal_onnxruntime(name: str, axis: int) -> None:
    x = RNG.integers(0, 3, (3, 4, 5)).astype(np.float32)
    for attributes in ({}, {"keepdims": 0}, {"select_last_index": 1}):
        expected = by_onnxruntime(name, x, version=13, axis=axis, **attributes)
        actual = apply(name, x, version=13, axis=axis, **attributes)
        assert_same(actual, expected)
        (fact,) = inferred(name, Fact.constant(x), version=13, axis=axis, **attributes)
        assert (fact.dtype, fact.shape) == (dtypes.INT64, actual[0].shape)


def test_arg_extremes_of_odd_data() -> None:
    for dtype in (np.float16, ml_dtypes.bfloat16, np.uint64, np.int8):
        assert apply("ArgMax", np.array([1, 3, 3, 2]).astype(dtype))[0].tolist() == [1]
    assert apply("ArgMax", np.array(3.0))[0].shape == ()
    assert apply("ArgMin", np.zeros((0, 3)), axis=1)[0].shape == (0, 1)
    with pytest.raises(ExecutionError, match="no elements"):
        apply("ArgMin", np.zeros((3, 0)), axis=1)
    with pytest.raises(InferenceError, match="axis=2"):
        apply("ArgMax", np.zeros((3, 1)), axis=2)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.int64])
@pytest.mark.parametrize("axis", [0, -1])
def test_running_sum_equals_onnxruntime(dtype: type, axis: int) -> None:
    x = RNG.integers(-9, 9, (3, 4, 2)).astype(dtype)
    for exclusive, reverse in ((0, 0), (0, 1), (1, 0), (1, 1)):
        attributes = {"exclusive": exclusive, "reverse": reverse}
        expected = by_onnxruntime("CumSum", x, np.array(axis, np.int32), version=14, **attributes)
        assert_same(apply("CumSum", x, np.array(axis, np.int32), **attributes), expected)


def test_running_product_and_odd_data() -> None:
    x = np.array([[1, 2, 3], [4, 5, 6]], ml_dtypes.bfloat16)
    y = apply("CumProd", x, np.array(1), version=26, exclusive=1, reverse=1)[0]
    assert y.dtype == x.dtype
    assert y.astype(int).tolist() == [[6, 3, 1], [30, 6, 1]]
    assert apply("CumSum", np.zeros((0, 2)), np.array(0), exclusive=1)[0].shape == (0, 2)
    big = np.array([2**31 - 1, 1], np.int32)
    assert apply("CumSum", big, np.array([0]))[0].tolist() == [2**31 - 1, -(2**31)]
    with pytest.raises(InferenceError, match="axis=5"):
        apply("CumSum", big, np.array(5))
    with pytest.raises(ExecutionError, match="axis has 2"):
        apply("CumSum", big, np.array([0, 0]))
