"""Operators that cut, join, pad and rearrange: against onnxruntime, symbolic and hostile."""

from __future__ import annotations

import itertools

import ml_dtypes
import numpy as np
import pytest

from sardonyx import dtypes
from sardonyx.dims import evaluate, minimum, symbol
from sardonyx.errors import ExecutionError, InferenceError, LimitError, SardonyxError
from sardonyx.ops.fact import Fact, shape_value
from single_operator import apply, assert_same, by_onnxruntime, inferred

N, S = symbol("N"), symbol("S")
X = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
IMAGE = np.arange(96, dtype=np.float32).reshape(1, 8, 3, 4)


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def dims(*values: object) -> Fact:
    return Fact.tensor(dtypes.INT64, (len(values),), shape_value(values))


def floats(*shape: object) -> Fact:
    return Fact.tensor(dtypes.FLOAT, shape)


CASES = [
    ("Slice", (X, ints(1), ints(9), ints(-1)), 1, {}),
    ("Slice", (X, ints(-9, 3), ints(2**62, -(2**62)), ints(0, 2), ints(1, -2)), 1, {}),
    ("Slice", (X, ints(0), ints(0)), 1, {}),
    ("Slice", (X, ints(-1), ints(-(2**63)), ints(1), ints(-1)), 1, {}),
    ("Concat", (X, X[:1]), 1, {"axis": 0}),
    ("Concat", (X, X[..., :0], X), 1, {"axis": -1}),
    ("Split", (X,), 2, {"axis": 2, "num_outputs": 2}),
    ("Split", (X,), 2, {"axis": 1, "num_outputs": 2}),
    ("Split", (X, ints(1, 0, 2)), 3, {"axis": 1}),
    ("Pad", (X, ints(0, 1, 2, 1, 0, 3)), 1, {}),
    ("Pad", (X, ints(1, 2), np.float32(7).reshape(1)[0:1].reshape(()), ints(-2)), 1, {}),
    ("Pad", (X, ints(0, -1, 0, 0, 1, -2)), 1, {}),
    ("Pad", (X, ints(1, 2, 3, 1, 0, 2)), 1, {"mode": "reflect"}),
    ("Pad", (X, ints(1, 2, 9, 5, 0, 2)), 1, {"mode": "edge"}),
    ("Pad", (X, ints(1, 2, 9, 5, 0, 2)), 1, {"mode": "wrap"}),
    ("Tile", (X, ints(2, 1, 3)), 1, {}),
    ("Tile", (X, ints(2, 0, 3)), 1, {}),
    ("DepthToSpace", (IMAGE,), 1, {"blocksize": 2}),
    ("DepthToSpace", (IMAGE,), 1, {"blocksize": 2, "mode": "CRD"}),
    ("SpaceToDepth", (IMAGE[:, :, :2],), 1, {"blocksize": 2}),
    ("CenterCropPad", (X, ints(5, 2)), 1, {"axes": (0, -1)}),
    ("CenterCropPad", (X, ints(1, 4, 9)), 1, {}),
]


@pytest.mark.parametrize(("name", "inputs", "n_outputs", "attributes"), CASES)
def test_equals_onnxruntime_and_inference(
    name: str, inputs: tuple, n_outputs: int, attributes: dict
) -> None:
    inputs = tuple(np.asarray(value) for value in inputs)
    actual = apply(name, *inputs, version=19, n_outputs=n_outputs, **attributes)
    expected = by_onnxruntime(name, *inputs, version=19, n_outputs=n_outputs, **attributes)
    assert_same(actual, expected)
    facts = inferred(
        name, *map(Fact.constant, inputs), version=19, n_outputs=n_outputs, **attributes
    )
    assert [fact.shape for fact in facts] == [array.shape for array in actual]


BOUNDS = [0, 1, 3, 7, -1, -2, -5, 2**31 - 1, 2**63 - 1, -(2**63)]


@pytest.mark.parametrize("step", [1, 2, -1, -3])
def test_symbolic_slices_are_exact_for_every_size(step: int) -> None:
    for first, last in itertools.product(BOUNDS, BOUNDS):
        arguments = (ints(first), ints(last), ints(0), ints(step))
        fact = inferred("Slice", floats(N), *map(Fact.constant, arguments))[0]
        for size in (0, 1, 2, 3, 5, 8):
            actual = apply("Slice", np.zeros(size, np.float32), *arguments)[0]
            dim = fact.shape[0]
            assert evaluate(dim, {"N": size}) == len(actual), (first, last, step, size)


def test_slices_that_numpy_agrees_on() -> None:
    data = np.arange(9)
    for first, last, step in itertools.product(range(-8, 9), range(-8, 9), (1, 2, -1, -4)):
        actual = apply("Slice", data, ints(first), ints(last), ints(0), ints(step))[0]
        np.testing.assert_array_equal(actual, data[first:last:step])


@pytest.mark.parametrize(
    ("name", "facts", "n_outputs", "attributes", "expected"),
    [
        ("Slice", (floats(N), dims(0), dims(S)), 1, {}, [(minimum(N, S),)]),
        ("Slice", (floats(N, 4), dims(1), dims(2**63 - 1), dims(1)), 1, {}, [(N, 3)]),
        ("Slice", (floats(N, 4), dims(-1), dims(2**63 - 1), dims(1)), 1, {}, [(N, 1)]),
        ("Slice", (floats(N, 4), dims(0), dims(None)), 1, {}, [(None, 4)]),
        ("Concat", (floats(N, 4), floats(N, 4)), 1, {"axis": 0}, [(2 * N, 4)]),
        ("Concat", (floats(N, None), floats(S, 4)), 1, {"axis": 0}, [(N + S, 4)]),
        ("Split", (floats(2 * N, 4),), 2, {"num_outputs": 2}, [(N, 4), (N, 4)]),
        ("Split", (floats(N), dims(1, None)), 2, {}, [(1,), (N - 1,)]),
        ("Pad", (floats(N, 4), dims(1, 0, 2, -1)), 1, {}, [(N + 3, 3)]),
        ("Tile", (floats(N, 4), dims(2, S)), 1, {}, [(2 * N, 4 * S)]),
        ("DepthToSpace", (floats(N, 8, S, 3),), 1, {"blocksize": 2}, [(N, 2, 2 * S, 6)]),
    ],
)
def test_symbolic_shapes(
    name: str, facts: tuple, n_outputs: int, attributes: dict, expected: list
) -> None:
    found = inferred(name, *facts, n_outputs=n_outputs, **attributes)
    assert [fact.shape for fact in found] == expected


def test_uneven_split_of_a_symbol_matches_each_size() -> None:
    first, *_, last = inferred("Split", floats(N), n_outputs=3, num_outputs=3)
    for size in (3, 4, 5, 6, 8, 9):
        parts = apply("Split", np.zeros(size), n_outputs=3, num_outputs=3)
        assert evaluate(first.shape[0], {"N": size}) == len(parts[0])
        assert evaluate(last.shape[0], {"N": size}) == len(parts[2])


def test_concat_keeps_what_is_known_of_its_contents() -> None:
    unknown = Fact.tensor(dtypes.INT64, (1,))
    assert inferred("Concat", dims(N), unknown, axis=0)[0].dims_value() == [N, None]


@pytest.mark.parametrize(
    ("name", "inputs", "attributes"),
    [
        ("Slice", (X, ints(0), ints(1), ints(0), ints(0)), {}),
        ("Slice", (X, ints(0, 0), ints(1)), {}),
        ("Slice", (X, ints(0), ints(1), ints(3)), {}),
        ("Slice", (X, ints(0, 0), ints(1, 1), ints(0, 0)), {}),
        ("Concat", (X, X[0]), {"axis": 0}),
        ("Concat", (X, X[:, :1]), {"axis": 0}),
        ("Concat", (X,), {"axis": 3}),
        ("Split", (X, ints(1, 2)), {}),
        ("Split", (X,), {"num_outputs": 3}),
        ("Pad", (X, ints(1, 2, 3)), {}),
        ("Pad", (X, ints(-9, 0, 0, 0, 0, 0)), {}),
        ("Tile", (X, ints(2)), {}),
        ("Tile", (X, ints(1, 1, -1)), {}),
        ("DepthToSpace", (IMAGE,), {"blocksize": 0}),
        ("DepthToSpace", (IMAGE,), {"blocksize": 3}),
        ("SpaceToDepth", (IMAGE,), {"blocksize": 2}),
        ("SpaceToDepth", (X,), {"blocksize": 1}),
        ("CenterCropPad", (X, ints(1)), {}),
    ],
)
def test_what_cannot_fit_is_refused(name: str, inputs: tuple, attributes: dict) -> None:
    with pytest.raises(InferenceError):
        inferred(name, *map(Fact.constant, inputs), **attributes)
    with pytest.raises((ExecutionError, InferenceError)):
        apply(name, *inputs, **attributes)


@pytest.mark.parametrize(
    ("name", "inputs"),
    [
        ("Tile", (X, ints(1 << 40, 1 << 40, 1))),
        ("Pad", (X, ints(0, 0, 0, 1 << 50, 0, 0))),
        ("CenterCropPad", (X, ints(1 << 40, 1 << 40, 1))),
    ],
)
def test_bombs_are_refused_before_allocation(name: str, inputs: tuple) -> None:
    with pytest.raises(LimitError):
        apply(name, *inputs)


def test_huge_sizes_without_elements_are_survived() -> None:
    assert apply("Tile", X[:0], ints(1 << 40, 1, 1))[0].shape == (0, 3, 4)
    with pytest.raises(SardonyxError):
        apply("Pad", X[:0], ints(1, 0, 0, 0, 0, 0), mode="edge")


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, ml_dtypes.int4, ml_dtypes.float8_e5m2])
def test_small_types(dtype: type) -> None:
    data = np.array([[1, 0], [0, 1]]).astype(dtype)
    padded = apply("Pad", data, ints(1, 0, 0, 1), np.ones((), dtype))[0]
    assert padded.dtype == dtype
    assert padded.astype(int).tolist() == [[1, 1, 1], [1, 0, 1], [0, 1, 1]]


def test_strings_pad_with_empty_ones() -> None:
    data = np.array(["a"], object)
    assert apply("Pad", data, ints(1, 0))[0].tolist() == ["", "a"]
    assert apply("CenterCropPad", data, ints(2))[0].tolist() == ["a", ""]


def test_older_versions() -> None:
    assert apply("Pad", X, version=1, paddings=(0, 0, 0, 0, 0, 1), value=2.0)[0][0, 0, 4] == 2
    assert apply("Pad", X, version=2, pads=(0, 0, 0, 0, 0, 1))[0].shape == (2, 3, 5)
    assert apply("Slice", X, version=1, starts=(1,), ends=(-1,), axes=(2,))[0].shape == (2, 3, 2)
    assert apply("Concat", X, X, version=1)[0].shape == (2, 6, 4)
    parts = apply("Split", X, version=1, n_outputs=2, axis=2, split=(1, 3))
    assert [part.shape for part in parts] == [(2, 3, 1), (2, 3, 3)]
    lengths = np.array([1, 1], np.float32)
    assert apply("Split", X, lengths, version=1, n_outputs=2)[1].shape == (1, 3, 4)
    tiled = apply("Tile", X, np.float32([2]), np.float32([1]), version=1)[0]
    np.testing.assert_array_equal(tiled, np.tile(X, (1, 2, 1)))
    with pytest.raises(InferenceError, match="does not divide"):
        apply("Split", X, version=11, n_outputs=2, axis=1)
