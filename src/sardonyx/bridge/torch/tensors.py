"""Element types, constants, and integer arithmetic that PyTorch lacks.

Integers of 2 and 4 bits travel in tensors of 8 bits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from sardonyx import dtypes
from sardonyx.errors import UnsupportedError

if TYPE_CHECKING:
    from sardonyx.dtypes import DType
    from sardonyx.ir.tensor import Array

__all__ = ["as_torch", "dtype_of", "narrow", "scalar", "wide", "widened"]

_TORCH: Final[dict[DType, torch.dtype]] = {
    dtypes.FLOAT: torch.float32,
    dtypes.DOUBLE: torch.float64,
    dtypes.FLOAT16: torch.float16,
    dtypes.BFLOAT16: torch.bfloat16,
    dtypes.INT8: torch.int8,
    dtypes.INT16: torch.int16,
    dtypes.INT32: torch.int32,
    dtypes.INT64: torch.int64,
    dtypes.UINT8: torch.uint8,
    dtypes.UINT16: torch.uint16,
    dtypes.UINT32: torch.uint32,
    dtypes.UINT64: torch.uint64,
    dtypes.BOOL: torch.bool,
    dtypes.COMPLEX64: torch.complex64,
    dtypes.COMPLEX128: torch.complex128,
    dtypes.FLOAT8E4M3FN: torch.float8_e4m3fn,
    dtypes.FLOAT8E4M3FNUZ: torch.float8_e4m3fnuz,
    dtypes.FLOAT8E5M2: torch.float8_e5m2,
    dtypes.FLOAT8E5M2FNUZ: torch.float8_e5m2fnuz,
    dtypes.FLOAT8E8M0: torch.float8_e8m0fnu,
    dtypes.INT4: torch.int8,
    dtypes.INT2: torch.int8,
    dtypes.UINT4: torch.uint8,
    dtypes.UINT2: torch.uint8,
}
_CARRIERS: Final = {1: np.uint8, 2: np.int16}
_NATIVE: Final = frozenset("biufc")
_WIDER: Final = {torch.uint16: torch.int32, torch.uint32: torch.int64, torch.uint64: torch.int64}
_HALF: Final = (torch.float16, torch.bfloat16)


def dtype_of(dtype: DType) -> torch.dtype:
    """The type of the tensors that hold `dtype`. Raises `UnsupportedError` where there is none."""
    found = _TORCH.get(dtype)
    if found is None:
        raise UnsupportedError(f"PyTorch has no tensors of {dtype}")
    return found


def as_torch(array: Array) -> torch.Tensor:
    """A copy of `array` as a tensor."""
    dtype = dtypes.from_numpy(array.dtype)
    target = dtype_of(dtype)
    array = np.array(array, order="C")
    if dtype.is_packed:
        return torch.from_numpy(array.astype(np.int8 if dtype.kind == "int" else np.uint8))
    if array.dtype.kind not in _NATIVE or dtype in _UNKNOWN_TO_NUMPY:
        return torch.from_numpy(array.view(_CARRIERS[dtype.itemsize])).view(target)
    return torch.from_numpy(array)


_UNKNOWN_TO_NUMPY: Final = frozenset(
    dtype for dtype in _TORCH if dtype.numpy.type.__module__ != "numpy" and not dtype.is_packed
)


def scalar(array: Array) -> Any:
    """The only element of `array` as a Python number."""
    item = array.reshape(-1)[0]
    dtype = dtypes.from_numpy(array.dtype)
    if dtype is dtypes.BOOL:
        return bool(item)
    return int(item) if dtype.is_integer else float(item)


def wide(x: torch.Tensor) -> torch.Tensor:
    """`x` in FLOAT where its type is narrower than that and floating point."""
    return x.float() if x.dtype in _HALF or x.dtype.itemsize == 1 else x


def widened(*tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Unsigned integers of 16 bits and more as signed ones with the same low bits."""
    return tuple(x.to(_WIDER.get(x.dtype, x.dtype)) for x in tensors)


def narrow(x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """`x` in `dtype`, as it was before `wide` or `widened`."""
    return x if x.dtype == dtype else x.to(dtype)
