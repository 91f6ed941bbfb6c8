"""NumPy helpers that references share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sardonyx import dtypes

if TYPE_CHECKING:
    from collections.abc import Callable

    from sardonyx.ir.tensor import Array

__all__ = ["is_small_float", "rounded", "widen"]

_NATIVE_KINDS = frozenset("biufcO")


def is_small_float(dtype: np.dtype[Any]) -> bool:
    """Whether `dtype` is a floating-point type that NumPy itself does not have, bfloat16 say."""
    return dtype.kind not in "biufcOSU" and dtypes.from_numpy(dtype).is_floating


def widen(array: Array) -> Array:
    """`array` in float32 where its type is float16 or narrower, else itself."""
    if array.dtype == np.float16 or is_small_float(array.dtype):
        return array.astype(np.float32)
    return array


def rounded(function: Callable[..., Any], *arrays: Array) -> Array:
    """`function` of `arrays` of one type, computed in at least float32, in that type again.

    Floating-point exceptions (overflow, invalid, division by zero) give what IEEE 754 says.
    """
    dtype = arrays[0].dtype
    with np.errstate(all="ignore"):
        result = np.asarray(function(*(widen(array) for array in arrays)))
        return result if result.dtype == dtype else result.astype(dtype)
