"""Operators that order and select."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from tests.lowering.compiled import Known, check, random

FLOATS = [np.float32, np.float16, ml_dtypes.bfloat16, np.float64]
NUMBERS = [*FLOATS, np.int8, np.uint8, np.int32, np.int64]


def each_axis_and_type(dtypes: list[Any]) -> list[tuple[int, Any]]:
    """Every axis with the first type, and the last one with every type."""
    return [(0, dtypes[0]), (1, dtypes[0]), *((-1, dtype) for dtype in dtypes)]


def with_nan(*shape: int) -> Any:
    x = random(*shape)
    x[x > 2.5] = np.nan
    return x


@pytest.mark.parametrize("op_type", ["ArgMax", "ArgMin"])
@pytest.mark.parametrize("last", [0, 1])
@pytest.mark.parametrize(("axis", "dtype"), each_axis_and_type(NUMBERS))
def test_arg_extremes(op_type: str, last: int, axis: int, dtype: Any) -> None:
    # few different values, so that there are ties
    check(
        op_type,
        lambda n: [random(3, n, n + 2, dtype=dtype).round()],
        axis=axis,
        select_last_index=last,
        keepdims=last,
    )


@pytest.mark.parametrize("op_type", ["ArgMax", "ArgMin", "Hardmax"])
def test_nan_is_the_extreme(op_type: str) -> None:
    check(op_type, lambda n: [with_nan(n + 1, 40)], axis=-1, sizes=(5, 9))


@pytest.mark.parametrize("opset", [1, 11, 13])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_hardmax(opset: int, axis: int) -> None:
    check("Hardmax", lambda n: [random(4, n, 3).round()], opset=opset, axis=axis)


@pytest.mark.parametrize("op_type", ["CumSum", "CumProd"])
@pytest.mark.parametrize("exclusive", [0, 1])
@pytest.mark.parametrize("reverse", [0, 1])
@pytest.mark.parametrize(("axis", "dtype"), each_axis_and_type([*FLOATS, np.int32, np.int64]))
def test_running(op_type: str, exclusive: int, reverse: int, axis: int, dtype: Any) -> None:
    check(
        op_type,
        lambda n: [random(2, n, 11, dtype=dtype, low=-1.5, high=1.5), Known(axis)],
        opset=26,
        exclusive=exclusive,
        reverse=reverse,
        length=16,
    )


def test_running_sum_of_a_vector() -> None:
    check("CumSum", lambda n: [random(n), Known(0)], length=16)


@pytest.mark.parametrize(("axis", "dtype"), each_axis_and_type(NUMBERS))
@pytest.mark.parametrize("largest", [0, 1])
@pytest.mark.parametrize("count", [0, 4])
def test_top(dtype: Any, largest: int, axis: int, count: int) -> None:
    check(
        "TopK",
        lambda n: [random(n + 4, n + 5, n + 4, dtype=dtype).round(), Known([count])],
        n_outputs=2,
        axis=axis,
        largest=largest,
    )


@pytest.mark.parametrize("largest", [0, 1])
@pytest.mark.parametrize("count", [3, 40, 90])
def test_top_of_long_rows(largest: int, count: int) -> None:
    check(
        "TopK",
        lambda n: [np.concatenate([with_nan(3, n + 60), random(3, 40).round()], 1), Known([count])],
        n_outputs=2,
        largest=largest,
    )


def test_top_of_more_than_there_are_fails() -> None:
    check("TopK", lambda n: [random(2, n), Known([6])], n_outputs=2)


def test_top_none_of_one_row() -> None:
    check("TopK", lambda n: [random(n), Known([0])], n_outputs=2)
    check("TopK", lambda n: [random(4), Known([0])], n_outputs=2)


def test_top_values_alone() -> None:
    check("TopK", lambda n: [random(n, 100), Known([5])])
