"""Normalizations and reductions."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from tests.lowering.compiled import Known, check, random

FLOATS = [np.float32, np.float16, ml_dtypes.bfloat16, np.float64]


def channels(count: int, dtype: Any = np.float32) -> Any:
    return random(count, dtype=dtype, low=0.5, high=2)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("axis", [-1, 1])
def test_layers(dtype: Any, axis: int) -> None:
    tail = (6, 20) if axis == 1 else (20,)
    for n_outputs in (1, 3):
        check(
            "LayerNormalization",
            lambda n: [
                random(n, 6, 20, dtype=dtype),
                channels(20, dtype),
                random(*tail, dtype=dtype),
            ],
            n_outputs=n_outputs,
            length=120,
            axis=axis,
        )
    check(
        "RMSNormalization",
        lambda n: [random(n, 6, 20, dtype=dtype), channels(20, dtype)],
        length=120,
        axis=axis,
    )


@pytest.mark.parametrize("dtype", FLOATS)
def test_batches(dtype: Any) -> None:
    def make(n: int) -> list[Any]:
        return [random(2, 3, n, 4, dtype=dtype), *(channels(3, dtype) for _ in range(4))]

    check("BatchNormalization", make, opset=15, length=8)
    check("BatchNormalization", make, opset=9, length=8, epsilon=0.1)


@pytest.mark.parametrize("dtype", FLOATS)
def test_instances_and_groups(dtype: Any) -> None:
    def make(n: int) -> list[Any]:
        return [random(n, 6, 4, 5, dtype=dtype), channels(6, dtype), random(6, dtype=dtype)]

    check("InstanceNormalization", make, opset=22, length=40)
    check("GroupNormalization", make, opset=21, length=80, num_groups=3)
    check(
        "InstanceNormalization",
        lambda n: [random(2, 6, n, dtype=dtype), channels(6, dtype), random(6, dtype=dtype)],
        opset=22,
        length=40,
    )


def test_groups_of_symbolic_sizes() -> None:
    check(
        "GroupNormalization",
        lambda n: [random(2, 8, n, n + 2), channels(8), random(8)],
        opset=21,
        length=600,
        num_groups=2,
    )


@pytest.mark.parametrize("axes", [[0, 2, 3], [1], [-1, 0]])
@pytest.mark.parametrize("dtype", FLOATS)
def test_mean_and_variance(axes: list[int], dtype: Any) -> None:
    check(
        "MeanVarianceNormalization",
        lambda n: [random(3, 4, 5, n, dtype=dtype)],
        sizes=(5, 9, 16),
        length=300,
        axes=axes,
    )


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("axis", [0, -1])
@pytest.mark.parametrize("dtype", FLOATS)
def test_norms(p: int, axis: int, dtype: Any) -> None:
    def make(n: int) -> list[Any]:
        x = random(4, n, dtype=dtype)
        x[1] = 0
        return [x]

    check("LpNormalization", make, length=32, p=p, axis=axis)


@pytest.mark.parametrize("size", [1, 3, 4])
@pytest.mark.parametrize("beta", [0.75, 0.5])
def test_local_response(size: int, beta: float) -> None:
    check("LRN", lambda n: [random(2, 5, n, 3)], length=8, size=size, beta=beta, alpha=0.1)


REDUCTIONS = [
    "ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceSumSquare",
    "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp",
]  # fmt: skip


@pytest.mark.parametrize("op_type", REDUCTIONS)
@pytest.mark.parametrize("axes", [[0], [1, 2], [-1], None])
def test_reductions(op_type: str, axes: list[int] | None) -> None:
    low = 0.1 if op_type == "ReduceLogSum" else -2
    known = None if axes is None else Known(axes)
    for keep in (0, 1):
        check(
            op_type,
            lambda n: [random(3, n, 6, low=low, high=2), known],
            length=300,
            keepdims=keep,
        )


@pytest.mark.parametrize("op_type", ["ReduceLogSum", "ReduceSum"])
def test_reducing_nothing(op_type: str) -> None:
    check(op_type, lambda n: [random(n, 3), Known([])], noop_with_empty_axes=1)


@pytest.mark.parametrize("op_type", ["Softmax", "LogSoftmax"])
@pytest.mark.parametrize("opset", [1, 11, 13])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_softmax(op_type: str, opset: int, axis: int) -> None:
    check(op_type, lambda n: [random(2, n, 7)], opset=opset, length=64, axis=axis)


@pytest.mark.parametrize("op_type", ["Softmax", "LogSoftmax", "ReduceLogSumExp"])
@pytest.mark.parametrize("dtype", FLOATS)
def test_types_of_softmax(op_type: str, dtype: Any) -> None:
    check(op_type, lambda n: [random(3, n, dtype=dtype)], length=32)


def test_a_row_that_is_longer_than_the_stack_allows() -> None:
    check("Softmax", lambda n: [random(2, 300_000 + 0 * n)], sizes=(5,), length=300_000)
