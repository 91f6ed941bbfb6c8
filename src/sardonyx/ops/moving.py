"""Gradients of operators that only move elements."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from sardonyx.ir.value import Value
    from sardonyx.ops.writer import Writer

__all__ = ["moved_back"]


def moved_back(
    op: Writer,
    dy: Value,
    x: Value,
    move: Callable[[Value], Value],
    *,
    repeats: bool = True,
) -> Value:
    """The gradient by `x` of what `move` writes: every element of `dy` goes where it came from.

    The operator moves the places of elements instead of the elements. `repeats` says that one
    element may go to several places, so that their gradients are added.
    """
    count = op.Size(x)
    zero, one = np.int64(0), np.int64(1)
    places = move(op.Reshape(op.Range(zero, count, one), op.size(x)))
    combine = {"reduction": "add"} if repeats else {}
    flat = op.ScatterElements(
        op.zeros(op.Reshape(count, [1]), dy),
        op.Reshape(places, [-1]),
        op.Reshape(dy, [-1]),
        axis=0,
        **combine,
    )
    return op.reshaped(flat, x)
