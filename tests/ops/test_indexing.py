"""Operators that pick and place by index: against onnxruntime, symbolic and hostile."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from sardonyx import dtypes
from sardonyx.dims import symbol
from sardonyx.errors import ExecutionError, InferenceError, LimitError
from sardonyx.ops.fact import Fact, shape_value
from single_operator import apply, assert_same, by_onnxruntime, inferred

N, S = symbol("N"), symbol("S")
X = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
U = np.arange(6, dtype=np.float32).reshape(2, 3, 1) - 2


def ints(values: object) -> np.ndarray:
    return np.array(values, np.int64)


def floats(*shape: object) -> Fact:
    return Fact.tensor(dtypes.FLOAT, shape)


def indices_of(*shape: object) -> Fact:
    return Fact.tensor(dtypes.INT64, shape)


ALONG = ints([[[0], [-1], [3]], [[1], [1], [-4]]])
PLACES = ints([[1, 2], [-1, 0], [0, 0]])
CASES = [
    ("Gather", (X, ints([[0, -1]])), {"axis": 1}),
    ("Gather", (X, ints(1)), {}),
    ("Gather", (X[:0], ints([])), {}),
    ("GatherElements", (X, ALONG), {"axis": 2}),
    ("GatherElements", (X, ALONG.astype(np.int32)), {"axis": -1}),
    ("GatherND", (X, PLACES), {}),
    ("GatherND", (X, ints([[[2]], [[-1]]])), {"batch_dims": 1}),
    ("GatherND", (X, ints([[1, 2, 3]])), {}),
    *(("ScatterElements", (X, ALONG, U), {"axis": 2, "reduction": r}) for r in ("add", "mul")),
    *(("ScatterElements", (X, ALONG, U), {"axis": 2, "reduction": r}) for r in ("max", "min")),
    ("ScatterElements", (X, ALONG, U), {"axis": -1}),
    *(("ScatterND", (X, PLACES, X[0, :, :]), {"reduction": r}) for r in ("add", "none", "max")),
    ("OneHot", (ints([[0, -1], [3, 7]]), ints(4), np.float32([2, 5])), {"axis": 0}),
    ("OneHot", (np.float32([1, 2]), np.float32([3]), np.float32([0, 1])), {}),
    ("NonZero", (X % 2,), {}),
    ("NonZero", (np.float32(3).reshape(1) * 0,), {}),
    ("Compress", (X, np.array([True, False])), {"axis": 2}),
    ("Compress", (X, np.array([False, True, True])), {}),
    ("ReverseSequence", (X, ints([1, 2, 0])), {}),
    ("ReverseSequence", (X, ints([1, 3])), {"time_axis": 1, "batch_axis": 0}),
    ("Trilu", (X,), {}),
    ("Trilu", (X, ints(-1)), {"upper": 0}),
    ("Trilu", (X, ints(2**62)), {}),
]


@pytest.mark.parametrize(("name", "inputs", "attributes"), CASES)
def test_equals_onnxruntime_and_inference(name: str, inputs: tuple, attributes: dict) -> None:
    inputs = tuple(np.asarray(value) for value in inputs)
    actual = apply(name, *inputs, version=18, **attributes)
    assert_same(actual, by_onnxruntime(name, *inputs, version=18, **attributes))
    fact = inferred(name, *map(Fact.constant, inputs), version=18, **attributes)[0]
    assert fact.dtype is dtypes.from_numpy(actual[0].dtype)
    known = [(a, b) for a, b in zip(fact.shape, actual[0].shape, strict=True) if a is not None]
    assert all(a == b for a, b in known)


@pytest.mark.parametrize(
    ("name", "facts", "attributes", "expected"),
    [
        ("Gather", (floats(N, 4), indices_of(S, 2)), {"axis": 1}, (N, S, 2)),
        ("GatherElements", (floats(N, 4), indices_of(S, 2)), {}, (S, 2)),
        ("GatherND", (floats(N, 4, 5), indices_of(N, S, 1)), {"batch_dims": 1}, (N, S, 5)),
        ("GatherND", (floats(N, 4, 5), indices_of(S, 2)), {}, (S, 5)),
        ("GatherND", (floats(N, 4, 5), indices_of(S, None)), {}, None),
        ("ScatterND", (floats(N, 4), indices_of(S, 1), floats(S, 4)), {}, (N, 4)),
        ("NonZero", (floats(N, 4),), {}, (2, None)),
        ("Compress", (floats(N, 4), Fact.tensor(dtypes.BOOL, (4,))), {"axis": 1}, (N, None)),
    ],
)
def test_symbolic_shapes(name: str, facts: tuple, attributes: dict, expected: object) -> None:
    assert inferred(name, *facts, **attributes)[0].shape == expected


def test_one_hot_of_symbolic_depth() -> None:
    depth = Fact.tensor(dtypes.INT64, (1,), shape_value((S,)))
    assert inferred("OneHot", indices_of(N), depth, floats(2))[0].shape == (N, S)


def test_gather_moves_symbols() -> None:
    sizes = shape_value((N, S, 4))
    assert apply("Gather", sizes, ints([1, -1]))[0].tolist() == [S, 4]
    assert apply("Gather", sizes, ints(0))[0].item() == N


@pytest.mark.parametrize(
    ("name", "inputs", "attributes"),
    [
        ("Gather", (X, ints(2)), {}),
        ("Gather", (X, ints(-(2**63))), {}),
        ("Gather", (X, ints(2**32)), {}),
        ("GatherElements", (X, ALONG + 4), {"axis": 2}),
        ("GatherND", (X, ints([[0, 3]])), {}),
        ("ScatterElements", (X, ALONG + 9, U), {"axis": 2}),
        ("ScatterElements", (X, ALONG, U[:1]), {"axis": 2}),
        ("ScatterND", (X, ints([[5]]), X[:1]), {}),
        ("OneHot", (ints([0]), ints([1, 2]), ints([0, 1])), {}),
        ("OneHot", (ints([0]), ints(-1), ints([0, 1])), {}),
        ("OneHot", (ints([0]), np.float32(np.nan), ints([0, 1])), {}),
        ("OneHot", (ints([0]), ints(2), ints([0, 1, 2])), {}),
        ("Compress", (X, np.ones(5, bool)), {"axis": 0}),
        ("ReverseSequence", (X, ints([1, 2, 3])), {}),
        ("ReverseSequence", (X, ints([-1, 0, 0])), {}),
        ("ReverseSequence", (X, ints([0])), {}),
    ],
)
def test_hostile_data_is_an_error(name: str, inputs: tuple, attributes: dict) -> None:
    with pytest.raises(ExecutionError):
        apply(name, *map(np.asarray, inputs), **attributes)


@pytest.mark.parametrize(
    ("name", "facts", "attributes"),
    [
        ("Gather", (floats(2), indices_of()), {"axis": 1}),
        ("Gather", (floats(), indices_of()), {}),
        ("GatherElements", (floats(2), indices_of(2, 2)), {}),
        ("GatherND", (floats(2), indices_of(2, 2)), {}),
        ("GatherND", (floats(2, 3), indices_of(4, 1)), {"batch_dims": 1}),
        ("ScatterND", (floats(2), indices_of(2, 1), floats(3)), {}),
        ("ScatterElements", (floats(2), indices_of(2), floats(2)), {"reduction": "mean"}),
        ("Trilu", (floats(2), None), {}),
        ("ReverseSequence", (floats(2, 2), indices_of(2)), {"time_axis": 1}),
    ],
)
def test_what_cannot_fit_is_refused(name: str, facts: tuple, attributes: dict) -> None:
    with pytest.raises(InferenceError):
        inferred(name, *facts, **attributes)


def test_bombs_are_refused_before_allocation() -> None:
    with pytest.raises(LimitError):
        apply("OneHot", ints([0]), ints(1 << 60), np.float32([0, 1]))
    with pytest.raises(LimitError):
        apply("Gather", np.zeros((1, 1 << 20), np.int8), np.zeros(1 << 15, np.int64))


def test_empty_index_tuples_name_the_whole_data() -> None:
    none = np.zeros((2, 0), np.int64)
    assert apply("GatherND", X, none)[0].shape == (2, *X.shape)
    stacked = np.stack([X, X + 1])
    np.testing.assert_array_equal(apply("ScatterND", X, none, stacked)[0], X + 1)
    added = apply("ScatterND", X, none, stacked, reduction="add")[0]
    np.testing.assert_array_equal(added, 3 * X + 1)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_small_floats_accumulate_wide(dtype: type) -> None:
    ones = np.ones(1000, dtype)
    total = apply(
        "ScatterElements", np.zeros(1, dtype), np.zeros(1000, np.int64), ones, reduction="add"
    )[0]
    assert total.dtype == dtype
    assert total.astype(float).item() == 1000


def test_integers_wrap_and_floats_overflow_without_warning() -> None:
    low = np.array([127], np.int8)
    assert apply("ScatterND", low, ints([[0]]), low, reduction="add")[0].item() == -2
    high = np.array([60000], np.float16)
    assert np.isinf(apply("ScatterND", high, ints([[0]]), high, reduction="add")[0]).all()


def test_strings() -> None:
    words = np.array([["a", ""], ["b", "c"]], object)
    assert apply("NonZero", words)[0].tolist() == [[0, 1, 1], [0, 0, 1]]
    assert apply("Trilu", words, upper=0)[0].tolist() == [["a", ""], ["b", "c"]]
    assert apply("Gather", words, ints(1))[0].tolist() == ["b", "c"]
    with pytest.raises(ExecutionError):
        apply("ScatterND", words[0], ints([[0]]), words[0, :1], reduction="add")


def test_versions_that_differ() -> None:
    assert apply("OneHot", ints([-1]), ints(2), ints([0, 1]), version=9)[0].tolist() == [[0, 0]]
    assert apply("OneHot", ints([-1]), ints(2), ints([0, 1]), version=11)[0].tolist() == [[0, 1]]
    moved = apply("Scatter", X[0, 0], ints([1, 0]), X[1, 0, :2], version=9)[0]
    assert moved.tolist() == [13, 12, 2, 3]
    assert apply("NonZero", np.float32(2).reshape(()) + np.zeros((), np.float32))[0].shape == (0, 1)


def test_gather_nd_of_one_string_is_an_array_of_strings() -> None:
    data = np.array([["a", "b"]], object)
    (found,) = apply("GatherND", data, np.array([0, 1]))
    assert found.dtype == object
    assert found.tolist() == "b"
