"""Operators that make data: against onnxruntime and NumPy, symbolic and hostile."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from sardonyx import dtypes
from sardonyx.dims import evaluate, symbol
from sardonyx.errors import ExecutionError, InferenceError, LimitError, ModelError
from sardonyx.ir import ArrayTensor, SparseTensor
from sardonyx.ops.fact import Fact, shape_value
from single_operator import apply, assert_same, by_onnxruntime, inferred

N, S = symbol("N"), symbol("S")


def scalar(value: object, dtype: type = np.int64) -> np.ndarray:
    return np.array(value, dtype)


def dim(value: object) -> Fact:
    return Fact.tensor(dtypes.INT64, (), shape_value((value,)).reshape(()))


@pytest.mark.parametrize(
    ("attribute", "value", "expected"),
    [
        ("value_int", 3, np.array(3, np.int64)),
        ("value_ints", (1, 2), np.array([1, 2], np.int64)),
        ("value_ints", (), np.array([], np.int64)),
        ("value_float", 0.5, np.array(0.5, np.float32)),
        ("value_floats", (0.5, 1.0), np.array([0.5, 1], np.float32)),
        ("value_string", "a", np.array("a", object)),
        ("value_strings", ("a", "b"), np.array(["a", "b"], object)),
        ("value", ArrayTensor(np.eye(2, dtype=np.int8)), np.eye(2, dtype=np.int8)),
        (
            "sparse_value",
            SparseTensor(ArrayTensor(np.float32([5, 6])), ArrayTensor(np.array([1, 3])), (2, 2)),
            np.float32([[0, 5], [0, 6]]),
        ),
        (
            "sparse_value",
            SparseTensor(ArrayTensor(np.float32([5])), ArrayTensor(np.array([[1, 0]])), (2, 2)),
            np.float32([[0, 0], [5, 0]]),
        ),
    ],
)
def test_constant(attribute: str, value: object, expected: np.ndarray) -> None:
    assert_same(apply("Constant", **{attribute: value}), [expected])
    fact = inferred("Constant", **{attribute: value})[0]
    assert fact.shape == expected.shape
    assert_same([fact.constant_value()], [expected])


def test_constant_requires_one_value_that_fits() -> None:
    with pytest.raises(ModelError, match="one value"):
        apply("Constant")
    with pytest.raises(ModelError, match="one value"):
        apply("Constant", value_int=1, value_float=1.0)
    values, outside = ArrayTensor(np.float32([5])), ArrayTensor(np.array([4]))
    with pytest.raises(ModelError, match="do not fit"):
        apply("Constant", sparse_value=SparseTensor(values, outside, (2, 2)))
    with pytest.raises(LimitError):
        apply("Constant", sparse_value=SparseTensor(values, outside, (1 << 40, 2)))


RANGES = [
    (scalar(3), scalar(9), scalar(3)),
    (scalar(10), scalar(4), scalar(-2)),
    (scalar(4), scalar(10), scalar(-2)),
    (scalar(0, np.float32), scalar(1, np.float32), scalar(0.25, np.float32)),
    (scalar(-3, np.int16), scalar(3, np.int16), scalar(2, np.int16)),
    (scalar(1.5, np.float64), scalar(0, np.float64), scalar(-0.5, np.float64)),
]


@pytest.mark.parametrize("inputs", RANGES)
def test_range_equals_onnxruntime_and_inference(inputs: tuple) -> None:
    actual = apply("Range", *inputs, version=11)
    assert_same(actual, by_onnxruntime("Range", *inputs, version=11))
    assert inferred("Range", *map(Fact.constant, inputs), version=11)[0].shape == actual[0].shape


def test_range_of_symbols() -> None:
    assert inferred("Range", dim(0), dim(N), dim(1))[0].shape == (N,)
    assert inferred("Range", dim(S), dim(S + N), dim(1))[0].shape == (N,)
    strided = inferred("Range", dim(1), dim(N), dim(3))[0].shape[0]
    for size in range(9):
        assert evaluate(strided, {"N": size}) == len(range(1, size, 3))
    assert inferred("Range", dim(0), dim(None), dim(1))[0].shape == (None,)


def test_range_in_half_precision() -> None:
    values = [np.array(part, np.float16) for part in (0, 4096, 1)]
    wide = apply("Range", *values, version=27)[0]
    assert wide.dtype == np.float16
    np.testing.assert_array_equal(wide, np.arange(4096, dtype=np.float32).astype(np.float16))
    parts = [np.array(part, ml_dtypes.bfloat16) for part in (0, 3, 1)]
    assert apply("Range", *parts, version=27)[0].astype(int).tolist() == [0, 1, 2]


def test_hostile_ranges() -> None:
    with pytest.raises(ExecutionError):
        apply("Range", scalar(0), scalar(1), scalar(0))
    with pytest.raises(InferenceError):
        inferred("Range", *map(Fact.constant, (scalar(0), scalar(1), scalar(0))))
    with pytest.raises(ExecutionError):
        apply("Range", *(scalar(part, np.float32) for part in (0, np.nan, 1)))
    with pytest.raises(LimitError):
        apply("Range", scalar(-(2**63)), scalar(2**63 - 1), scalar(1))


def test_constant_of_shape() -> None:
    three = ArrayTensor(np.array([3], np.int8))
    assert apply("ConstantOfShape", np.array([2]), value=three)[0].tolist() == [3, 3]
    assert apply("ConstantOfShape", np.array([0, 2]))[0].dtype == np.float32
    sizes = Fact.tensor(dtypes.INT64, (2,), shape_value((N, 4)))
    assert inferred("ConstantOfShape", sizes, value=three)[0].shape == (N, 4)
    assert inferred("ConstantOfShape", Fact.tensor(dtypes.INT64, (2,)))[0].shape == (None, None)
    with pytest.raises(LimitError):
        apply("ConstantOfShape", np.array([1 << 40]))
    with pytest.raises(ExecutionError):
        apply("ConstantOfShape", np.array([-1]))
    with pytest.raises(InferenceError):
        inferred("ConstantOfShape", Fact.constant(np.array([-1])))


@pytest.mark.parametrize("k", [0, 1, -1, 9, -9, 2**62, -(2**62)])
def test_eye_like(k: int) -> None:
    data = np.zeros((3, 4), np.float64)
    expected = np.eye(3, 4, min(max(k, -3), 4), dtype=np.int32)
    assert_same(apply("EyeLike", data, k=k, dtype=dtypes.INT32.code), [expected])
    assert inferred("EyeLike", Fact.constant(data), k=k)[0].dtype is dtypes.DOUBLE
    with pytest.raises(InferenceError):
        inferred("EyeLike", Fact.constant(data[0]))
