"""What a caller feeds, as the values that a model's inputs take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sardonyx import dtypes
from sardonyx.errors import InputError, UnsupportedError, quote
from sardonyx.ir.types import (
    MapType,
    OptionalType,
    SequenceType,
    SparseTensorType,
    TensorType,
    Type,
    shape_text,
)

if TYPE_CHECKING:
    from sardonyx.ir.tensor import Array

__all__ = ["as_feed"]


def as_feed(name: str, value: Any, expected: Type | None) -> Any:
    """`value` for the input `name` of type `expected`, checked.

    Arrays are taken as they are when their type fits; Python numbers and lists become arrays
    of the expected element type. Raises `InputError` where type, rank or a fixed size differ.
    """
    if isinstance(expected, OptionalType):
        return None if value is None else as_feed(name, value, expected.element)
    if isinstance(expected, SequenceType):
        if not isinstance(value, (list, tuple)):
            raise InputError(f"input {quote(name)} is a sequence, got {type(value).__name__}")
        return [as_feed(name, item, expected.element) for item in value]
    if isinstance(expected, MapType):
        if not isinstance(value, dict):
            raise InputError(f"input {quote(name)} is a map, got {type(value).__name__}")
        fed = {key: as_feed(name, item, expected.value) for key, item in value.items()}
        return {
            key: item[()] if isinstance(item, np.ndarray) else item for key, item in fed.items()
        }
    if not isinstance(expected, (TensorType, SparseTensorType)):
        return value
    array = _as_array(name, value, expected.dtype)
    _check_shape(name, array, expected)
    return array


def _as_array(name: str, value: Any, dtype: dtypes.DType | None) -> Array:
    if value is None:
        raise InputError(f"input {quote(name)} is None")
    is_plain = not hasattr(value, "dtype")
    try:
        array = np.asarray(value)
        if dtype is None:
            return array
        if dtype is dtypes.STRING:
            return _as_strings(name, array)
        if is_plain and (array.dtype.kind in "bif" or array.size == 0):
            return _converted(name, array, dtype)
        given = dtypes.from_numpy(array.dtype)
    except (ValueError, TypeError, UnsupportedError) as error:
        raise InputError(f"input {quote(name)} is no array: {error}") from None
    if given is not dtype:
        raise InputError(
            f"input {quote(name)} is {dtype.text}, got {given.text}",
            hint=f"convert it, for example with .astype({str(dtype.numpy)!r})",
        )
    return array.astype(dtype.numpy, copy=False)


def _converted(name: str, array: Array, dtype: dtypes.DType) -> Array:
    """Python numbers in `dtype`; a number that it cannot hold is refused, not wrapped."""
    with np.errstate(all="ignore"):
        result: Array = array.astype(dtype.numpy)
    if dtype.is_integer and not np.array_equal(result.astype(array.dtype), array):
        raise InputError(f"input {quote(name)} is {dtype.text}, which cannot hold {array.tolist()}")
    return result


def _as_strings(name: str, array: Array) -> Array:
    if array.dtype.kind not in "USO":
        raise InputError(f"input {quote(name)} is a string tensor, got {array.dtype}")
    flat = [
        item.decode("utf-8", "surrogateescape") if isinstance(item, bytes) else item
        for item in array.reshape(-1).tolist()
    ]
    if not all(isinstance(item, str) for item in flat):
        raise InputError(f"input {quote(name)} is a string tensor and holds other objects")
    result = np.empty(array.size, object)
    result[:] = flat
    return result.reshape(array.shape)


def _check_shape(name: str, array: Array, expected: TensorType | SparseTensorType) -> None:
    shape = expected.shape
    if shape is None:
        return
    if array.ndim != len(shape):
        raise InputError(
            f"input {quote(name)} has rank {len(shape)}, {shape_text(shape)}; "
            f"got rank {array.ndim}, {list(array.shape)}"
        )
    for axis, (size, dim) in enumerate(zip(array.shape, shape, strict=True)):
        if isinstance(dim, int) and dim != size:
            raise InputError(
                f"input {quote(name)} is {shape_text(shape)}, got {list(array.shape)}: "
                f"dimension {axis} must be {dim}"
            )
