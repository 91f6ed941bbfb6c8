"""The gradient of interpolation: each axis is a matrix, which is applied backwards."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sardonyx.ir.value import Value
    from sardonyx.ops.writer import Writer

__all__ = ["changing", "interpolated_back", "row_scale"]


def interpolated_back(
    op: Writer, dy: Value, x: Value, axes: Sequence[int], matrix_of: Callable[[int, Value], Value]
) -> Value:
    """The gradient by `x` of what interpolates along `axes`, each by itself.

    `matrix_of` writes what the operator makes of an identity matrix when it interpolates its
    rows as it does `axes[index]`; the matrix is [n, n], n being the size of that axis of `x`.
    """
    rank = op.rank(x)
    for index, axis in enumerate(axes):
        count = op.size(x, axis)
        matrix = matrix_of(index, op.EyeLike(op.zeros(op.sizes(count, count), x)))
        order = [*(each for each in range(rank) if each != axis), axis]
        moved = op.MatMul(op.Transpose(dy, perm=order), matrix)
        dy = op.Transpose(moved, perm=[order.index(each) for each in range(rank)])
    return dy


def changing(op: Writer, scales: Value | None, count: int) -> list[int]:
    """The positions of the `count` scales that are not known to be 1."""
    known = None if scales is None else op.fact(scales).constant_value()
    if known is None or known.size != count:
        return list(range(count))
    return [index for index, scale in enumerate(known.reshape(-1).tolist()) if scale != 1]


def row_scale(op: Writer, scales: Value, index: int) -> Value:
    """Scales for a matrix whose rows are interpolated with scale `index`."""
    pair: Value = op.Concat(
        op.Gather(scales, np.array([index], np.int64)), np.ones(1, np.float32), axis=0
    )
    return pair
