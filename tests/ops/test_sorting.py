"""Operators that order and select: against onnxruntime and NumPy, and hostile."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from sardonyx import dtypes
from sardonyx.dims import symbol
from sardonyx.errors import ExecutionError, InferenceError
from sardonyx.ops.fact import Fact, shape_value
from single_operator import apply, assert_same, by_onnxruntime, inferred

N = symbol("N")
RANDOM = np.random.default_rng(3)
TIES = RANDOM.integers(0, 5, (4, 9)).astype(np.float32)


def ints(values: object) -> np.ndarray:
    return np.array(values, np.int64)


@pytest.mark.parametrize("largest", [0, 1])
@pytest.mark.parametrize("axis", [0, -1])
@pytest.mark.parametrize("k", [0, 1, 3])
@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.float64])
def test_top_k_equals_onnxruntime(largest: int, axis: int, k: int, dtype: type) -> None:
    inputs = TIES.astype(dtype), ints([k])
    options = {"version": 11, "n_outputs": 2, "largest": largest, "axis": axis}
    assert_same(apply("TopK", *inputs, **options), by_onnxruntime("TopK", *inputs, **options))


def test_top_k_of_extremes() -> None:
    data = np.array([0, 255, 3], np.uint8)
    assert apply("TopK", data, ints([3]), n_outputs=2)[1].tolist() == [1, 2, 0]
    low = np.array([0, -(2**63), 5])
    assert apply("TopK", low, ints([3]), n_outputs=2)[1].tolist() == [2, 0, 1]
    nan = np.float32([1, np.nan, np.inf])
    assert apply("TopK", nan, ints([2]), n_outputs=2)[1].tolist() == [1, 2]
    half = np.array([1, 3, 2], ml_dtypes.bfloat16)
    values, _ = apply("TopK", half, ints([2]), n_outputs=2)
    assert values.dtype == ml_dtypes.bfloat16
    assert values.astype(int).tolist() == [3, 2]
    assert apply("TopK", TIES, version=1, n_outputs=2, k=2)[0].shape == (4, 2)


def test_top_k_shapes() -> None:
    k = Fact.tensor(dtypes.INT64, (1,), shape_value((N,)))
    facts = inferred("TopK", Fact.tensor(dtypes.FLOAT, (4, None)), k, n_outputs=2)
    assert [(fact.dtype, fact.shape) for fact in facts] == [
        (dtypes.FLOAT, (4, N)),
        (dtypes.INT64, (4, N)),
    ]
    for bad in (-1, 10):
        with pytest.raises(InferenceError):
            inferred("TopK", Fact.constant(TIES), Fact.constant(ints([bad])), n_outputs=2)
        with pytest.raises(ExecutionError):
            apply("TopK", TIES, ints([bad]), n_outputs=2)


@pytest.mark.parametrize("is_sorted", [0, 1])
@pytest.mark.parametrize("axis", [None, 0, 1])
def test_unique_equals_onnxruntime(is_sorted: int, axis: int | None) -> None:
    data = TIES[:, :5] % 2
    options: dict = {"version": 11, "n_outputs": 4, "sorted": is_sorted}
    if axis is not None:
        options["axis"] = axis
    actual = apply("Unique", data, **options)
    assert_same(actual, by_onnxruntime("Unique", data, **options))
    for fact, array in zip(inferred("Unique", Fact.constant(data), **options), actual, strict=True):
        assert len(fact.shape) == array.ndim


def test_unique_of_strings_small_floats_and_nothing() -> None:
    words = np.array([["b", "a"], ["b", "a"], ["a", "c"]], object)
    rows, first, inverse, counts = apply("Unique", words, n_outputs=4, axis=0)
    assert rows.tolist() == [["a", "c"], ["b", "a"]]
    assert (first.tolist(), inverse.tolist(), counts.tolist()) == ([2, 0], [1, 1, 0], [1, 2])
    half = np.array([2, 1, 2], ml_dtypes.bfloat16)
    assert apply("Unique", half)[0].astype(int).tolist() == [1, 2]
    empty = apply("Unique", np.zeros((0,), np.float32), n_outputs=4)
    assert [part.shape for part in empty] == [(0,)] * 4
    assert apply("Unique", np.zeros((2, 0), np.float32), axis=0)[0].shape == (1, 0)


@pytest.mark.parametrize("center_point_box", [0, 1])
@pytest.mark.parametrize("most", [0, 2, 50])
def test_non_max_suppression_equals_onnxruntime(center_point_box: int, most: int) -> None:
    boxes = RANDOM.random((2, 40, 4), np.float32)
    scores = RANDOM.random((2, 3, 40), np.float32)
    inputs = boxes, scores, ints([most]), np.float32([0.3]), np.float32([0.4])
    options = {"version": 11, "center_point_box": center_point_box}
    expected = by_onnxruntime("NonMaxSuppression", *inputs, **options)
    assert_same(apply("NonMaxSuppression", *inputs, **options), expected)


def test_non_max_suppression_keeps_scores_above_the_threshold_only() -> None:
    boxes = np.float32([[[0, 0, 1, 1], [5, 5, 6, 6]]])
    scores = np.float32([[[0.5, 0.75]]])
    inputs = boxes, scores, ints(5), np.float32(0.5).reshape(1), np.float32(0.5).reshape(1)
    expected = by_onnxruntime("NonMaxSuppression", *inputs, version=11)
    assert_same(apply("NonMaxSuppression", *inputs), expected)


def test_hostile_boxes() -> None:
    boxes = np.full((1, 3, 4), np.nan, np.float32)
    boxes[0, 1] = np.inf
    picked = apply("NonMaxSuppression", boxes, np.ones((1, 1, 3), np.float32), ints(9), None, None)
    assert picked[0].dtype == np.int64
    assert picked[0].shape[1] == 3
    with pytest.raises(ExecutionError):
        apply("NonMaxSuppression", boxes, np.ones((1, 1, 4), np.float32), ints(9), None, None)
