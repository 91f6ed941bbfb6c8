"""Interpolation at many places at once: what the image operators share."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sardonyx.ir.tensor import Array

__all__ = ["Inside", "cubic_taps", "linear_taps", "steady", "weighted"]

_FAR: Final = float(1 << 52)
"""Coordinates are held within this, where floats still tell integers apart."""


def steady(coordinates: Array) -> Array:
    """Coordinates in float64 as finite numbers; NaN is far outside."""
    return np.clip(np.nan_to_num(coordinates.astype(np.float64), nan=-_FAR), -_FAR, _FAR)


def linear_taps(x: Array) -> list[tuple[Array, Array]]:
    """For linear interpolation at x: which indices count, and how much."""
    low = np.floor(x)
    share = x - low
    return [(low, 1 - share), (low + 1, share)]


def cubic_taps(x: Array) -> list[tuple[Array, Array]]:
    """For cubic convolution with a = -0.75 at x (R. Keys, 1981)."""
    low, a = np.floor(x), -0.75
    taps = []
    for step in range(-1, 3):
        d = np.abs(x - (low + step))
        near = ((a + 2) * d - (a + 3)) * d * d + 1
        far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
        taps.append((low + step, np.where(d <= 1, near, far)))
    return taps


def weighted(flat: Array, sizes: Sequence[int], taps: Sequence[Any], place: Any) -> Array:
    """The sum over all combinations of each axis' taps of elements times weights.

    `flat` is [B, C, product of sizes], the indices and weights of a tap [B, P], the result
    [B, C, P]. `place` maps indices along an axis into it, with a mask of those that lie in it.
    """
    total = np.zeros((*flat.shape[:2], taps[0][0][0].shape[1]), flat.dtype)
    mapped = [
        [(*place(index, axis), weight) for index, weight in axis_taps]
        for axis, axis_taps in enumerate(taps)
    ]
    real = np.float64 if flat.dtype.itemsize >= 8 and flat.dtype != np.complex64 else np.float32
    for combination in product(*mapped):
        index, inside, weight = combination[0]
        for (more, also, factor), size in zip(combination[1:], sizes[1:], strict=True):
            index, inside, weight = index * size + more, inside & also, weight * factor
        picked = np.take_along_axis(flat, index[:, None], 2)
        total += np.where(inside[:, None], picked, 0) * weight[:, None].astype(real)
    return total


class Inside:
    """The mapping of indices for `weighted` where what lies outside counts as 0."""

    def __init__(self, sizes: Sequence[int]) -> None:
        self.sizes = sizes

    def __call__(self, index: Array, axis: int) -> tuple[Array, Array]:
        size = self.sizes[axis]
        inside = (index >= 0) & (index < size)
        return np.clip(index, 0, size - 1).astype(np.int64), inside
