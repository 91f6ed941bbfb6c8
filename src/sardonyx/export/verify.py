"""Comparing an exported model's outputs with the framework's."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sardonyx import dtypes

if TYPE_CHECKING:
    from sardonyx.dtypes import DType
    from sardonyx.ir.model import Model
    from sardonyx.ir.tensor import Array

__all__ = ["Difference", "Measured", "alike", "compare", "depth_and_width", "measure"]


@dataclass(frozen=True)
class Difference:
    """How far `found` is from what was expected, against what was allowed."""

    largest: float
    allowed: float
    reason: str

    def __str__(self) -> str:
        return self.reason


@dataclass(frozen=True)
class Measured:
    """The figures of one output on one set of inputs.

    `largest` is the largest error in the output's own unit, `allowed` what rounding explains;
    `note` says why numbers were not compared, where they were not.
    """

    inputs: str
    output: str
    largest: float
    allowed: float
    note: str = ""


def depth_and_width(model: Model) -> tuple[int, int]:
    """How many nodes errors can add up over, and the longest sum in a weight's product."""
    width = 1
    for value in model.graph.initializers:
        shape = value.shape or ()
        if len(shape) > 1:
            sizes = [size for size in shape if isinstance(size, int)]
            width = max(width, math.prod(sizes) // max(1, min(sizes, default=1)))
    return len(model.graph.nodes), width


def compare(expected: Array, found: Array, depth: int, width: int) -> Difference | None:
    """None where `found` is `expected` but for rounding; see `measure`."""
    difference = measure(expected, found, depth, width)
    return difference if difference.reason else None


def measure(expected: Array, found: Array, depth: int, width: int) -> Difference:
    """How far `found` is from `expected`; the reason is empty where rounding explains it.

    Integers and booleans must be equal. For floating point the error, relative to the largest
    magnitude expected, may be eps * (16 + 4 * sqrt(width)) * sqrt(depth): rounding errors of a sum
    of `width` terms grow with its square root, and so they do over `depth` steps.
    """
    if expected.dtype != found.dtype or expected.shape != found.shape:
        return Difference(
            math.inf,
            0,
            f"expected {expected.dtype}{list(expected.shape)}, "
            f"got {found.dtype}{list(found.shape)}",
        )
    dtype = dtypes.from_numpy(expected.dtype)
    if not dtype.is_floating:
        wrong = int(np.count_nonzero(expected != found))
        if not wrong:
            return Difference(0, 0, "")
        return Difference(math.inf, 0, f"{wrong} of {expected.size} elements differ")
    wide, other = expected.astype(np.float64), found.astype(np.float64)
    special = ~np.isfinite(wide)
    same = np.array_equal(wide[special], other[special], equal_nan=True)
    if not same or not np.isfinite(other[~special]).all():
        return Difference(math.inf, 0, "infinities or NaNs stand in other places")
    error = np.abs(wide - other)[~special]
    if not error.size:
        return Difference(0, 0, "")
    scale = max(float(np.abs(wide[~special]).max()), 1e-3)
    allowed = _eps(dtype) * (16 + 4 * math.sqrt(width)) * math.sqrt(max(depth, 1)) * scale
    largest = float(error.max())
    if largest <= allowed:
        return Difference(largest, allowed, "")
    return Difference(largest, allowed, f"largest error {largest:.3g}, {allowed:.3g} allowed")


def alike(expected: Array, found: Array) -> str:
    """Why `found` cannot be another draw of what `expected` is; empty where it can."""
    if expected.dtype != found.dtype or expected.shape != found.shape:
        return (
            f"expected {expected.dtype}{list(expected.shape)}, got {found.dtype}{list(found.shape)}"
        )
    if dtypes.from_numpy(expected.dtype).is_floating:
        finite = np.isfinite(expected.astype(np.float64)).all()
        if finite and not np.isfinite(found.astype(np.float64)).all():
            return "infinities or NaNs where the module gives none"
    return ""


def _eps(dtype: DType) -> float:
    one = np.ones(1, dtype.numpy)
    return float(np.nextafter(one, np.full(1, 2, dtype.numpy))[0]) - 1
