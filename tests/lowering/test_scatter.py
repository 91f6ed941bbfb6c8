"""Operators that put elements where indices say."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from tests.lowering.compiled import Known, check, random

SOME = (5, 9, 1, 16)
"""Where nothing is read or written, bad indices are not noticed."""

DTYPES = [np.float32, np.float16, ml_dtypes.bfloat16, np.float64, np.int8, np.int64, np.bool_]
REDUCED = [np.float32, np.float64, np.int32, np.uint8]


def places(*shape: int, least: int, most: int, dtype: Any = np.int64) -> Any:
    return random(*shape, dtype=dtype, low=least, high=most)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_elements(dtype: Any, axis: int) -> None:
    def make(n: int) -> list[Any]:
        size = (4, n, 5)[axis]
        least, most = (-size, size - 1) if size else (0, 0)
        shape = (3, n, 2)
        return [
            random(4, n, 5, dtype=dtype),
            places(*shape, least=least, most=most),
            random(*shape, dtype=dtype),
        ]

    check("ScatterElements", make, axis=axis)


def test_constant_indices_and_updates() -> None:
    # only the copy of the data is left for each run; the updates must not be made once for all
    def make(n: int) -> list[Any]:
        return [random(4, n + 1), Known([[0], [-1]]), Known(np.ones((2, 1)), np.float32)]

    check("ScatterElements", make, axis=0)
    check("ScatterND", lambda n: [random(n, 4, 3), Known([[0, 1]]), Known([[1, 2, 3]], np.float32)],
          sizes=SOME, reduction="add")  # fmt: skip


@pytest.mark.parametrize("reduction", ["add", "mul", "max", "min"])
@pytest.mark.parametrize("dtype", REDUCED)
def test_combined_elements(reduction: str, dtype: Any) -> None:
    check(
        "ScatterElements",
        lambda n: [
            random(6, n, dtype=dtype),
            places(9, n, least=-6, most=5),
            random(9, n, dtype=dtype),
        ],
        axis=0,
        reduction=reduction,
        length=16,
    )


@pytest.mark.parametrize("bad", [-7, 6, 2**40, -(2**62)])
def test_elements_outside(bad: int) -> None:
    check(
        "ScatterElements",
        lambda n: [random(6, n), np.full((2, n), bad), random(2, n)],
        axis=0,
    )


def test_elements_into_nothing() -> None:
    check(
        "ScatterElements",
        lambda n: [random(n, 3), places(2, 3, least=0, most=0), random(2, 3)],
        axis=0,
    )


def test_indices_that_reach_beyond_the_data() -> None:
    # nothing says that the rows of the indices are fewer than those of the data
    def make(n: int) -> list[Any]:
        return [random(6, 4), places(n, 2, least=0, most=3), random(n, 2)]

    check("ScatterElements", make, axis=1)
    check("GatherElements", lambda n: make(n)[:2], axis=1)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", [0, 1, 2, 3])
def test_slices(dtype: Any, width: int) -> None:
    def make(n: int) -> list[Any]:
        data = random(4, 3, n, dtype=dtype)
        limits = [max(limit - 1, 0) for limit in (4, 3, n)][:width]
        columns = [places(7, least=0, most=limit) for limit in limits]
        indices = np.stack(columns, -1) if width else np.empty((7, 0), np.int64)
        return [data, indices, random(7, *data.shape[width:], dtype=dtype)]

    check("ScatterND", make)


@pytest.mark.parametrize("reduction", ["add", "mul", "max", "min"])
@pytest.mark.parametrize("dtype", REDUCED)
def test_combined_slices(reduction: str, dtype: Any) -> None:
    check(
        "ScatterND",
        lambda n: [
            random(4, n, dtype=dtype),
            places(n, 3, 1, least=-4, most=3),
            random(n, 3, n, dtype=dtype),
        ],
        reduction=reduction,
        length=60,
    )


def test_slices_outside() -> None:
    check("ScatterND", lambda n: [random(4, n), np.full((2, 1), 4), random(2, n)])


@pytest.mark.parametrize("mode", ["linear", "circular"])
@pytest.mark.parametrize("starts", [None, [0, 1], [2, 7], [-1, 0], [9, 100]])
@pytest.mark.parametrize("axis", [1, -2, -1])
def test_caches(mode: str, starts: Any, axis: int) -> None:
    def make(n: int) -> list[Any]:
        shape = [2, 8, 8, 8]
        new = list(shape)
        new[axis] = n
        return [random(*shape), random(*new), None if starts is None else np.array(starts)]

    check("TensorScatter", make, sizes=SOME, mode=mode, axis=axis)


@pytest.mark.parametrize("batch", [0, 1])
@pytest.mark.parametrize("dtype", DTYPES)
def test_gathered_slices(batch: int, dtype: Any) -> None:
    def make(n: int) -> list[Any]:
        indices = np.stack([places(3, n, least=-4, most=3), places(3, n, least=0, most=2)], -1)
        shape = (3, 4, 3, n) if batch else (4, 3, n)
        return [random(*shape, dtype=dtype), indices]

    check("GatherND", make, batch_dims=batch)


def test_gathered_slices_outside() -> None:
    check("GatherND", lambda n: [random(4, n), np.full((n, 1), 4)])


@pytest.mark.parametrize("time_axis", [0, 1])
@pytest.mark.parametrize("dtype", DTYPES)
def test_reversed_sequences(time_axis: int, dtype: Any) -> None:
    def make(n: int) -> list[Any]:
        shape = (n, 4, 3) if time_axis == 0 else (4, n, 3)
        return [random(*shape, dtype=dtype), np.minimum(np.array([0, 1, 4, n]), n)]

    check("ReverseSequence", make, time_axis=time_axis, batch_axis=1 - time_axis)


@pytest.mark.parametrize("bad", [-1, 17, 2**62])
def test_reversed_sequences_of_no_such_length(bad: int) -> None:
    check("ReverseSequence", lambda n: [random(n, 2), np.array([0, bad])], sizes=SOME)


@pytest.mark.parametrize("axis", [0, -1])
@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint8, np.float32])
@pytest.mark.parametrize("opset", [9, 11])
def test_one_hot(axis: int, dtype: Any, opset: int) -> None:
    check(
        "OneHot",
        lambda n: [
            random(n, 3, dtype=dtype, low=-8, high=8),
            Known(6),
            np.array([0.5, 2], np.float32),
        ],
        opset=opset,
        axis=axis,
    )


@pytest.mark.parametrize("upper", [0, 1])
@pytest.mark.parametrize("shift", [None, 0, 2, -1, 2**62, -(2**62)])
def test_triangles(upper: int, shift: int | None) -> None:
    check(
        "Trilu",
        lambda n: [random(2, n, 7), None if shift is None else np.array(shift)],
        upper=upper,
    )


@pytest.mark.parametrize("k", [0, 1, -2, 100])
def test_eye(k: int) -> None:
    check("EyeLike", lambda n: [random(n, 6)], k=k, dtype=6)
