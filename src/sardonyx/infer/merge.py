"""Putting together what a file declares of a value and what inference found."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sardonyx.dims import Dim, known_equal
from sardonyx.ir.types import (
    MapType,
    OptionalType,
    SequenceType,
    SparseTensorType,
    TensorType,
    shape_text,
)

if TYPE_CHECKING:
    from sardonyx.ir.types import DimLike, Type

__all__ = ["conflict", "merge_types"]


def conflict(declared: Type | None, inferred: Type | None) -> str | None:
    """How `declared` contradicts `inferred`, in words, or None where both may be true."""
    if declared is None or inferred is None:
        return None
    if type(declared) is not type(inferred):
        return f"declared {declared}, inferred {inferred}"
    if isinstance(declared, (TensorType, SparseTensorType)):
        assert isinstance(inferred, (TensorType, SparseTensorType))
        if declared.dtype and inferred.dtype and declared.dtype is not inferred.dtype:
            return f"declared {declared}, inferred {inferred}"
        if declared.shape is None or inferred.shape is None:
            return None
        texts = f"declared {shape_text(declared.shape)}, inferred {shape_text(inferred.shape)}"
        if len(declared.shape) != len(inferred.shape):
            return texts
        pairs = zip(declared.shape, inferred.shape, strict=True)
        return texts if any(_differ(a, b) for a, b in pairs) else None
    if isinstance(declared, (SequenceType, OptionalType)):
        assert isinstance(inferred, (SequenceType, OptionalType))
        return conflict(declared.element, inferred.element)
    if isinstance(declared, MapType):
        assert isinstance(inferred, MapType)
        return conflict(declared.value, inferred.value)
    return None


def _differ(a: DimLike, b: DimLike) -> bool:
    return isinstance(a, int) and isinstance(b, int) and known_equal(a, b) is False


def merge_types(declared: Type | None, inferred: Type | None) -> Type | None:
    """`inferred`, with what only `declared` says filled in; `inferred` wins a conflict."""
    if inferred is None or (isinstance(inferred, TensorType) and inferred.dtype is None):
        return declared or inferred
    if declared is None or conflict(declared, inferred):
        return inferred
    if isinstance(inferred, TensorType) and isinstance(declared, TensorType):
        if inferred.shape is None or declared.shape is None:
            shape = inferred.shape if declared.shape is None else declared.shape
        else:
            pairs = zip(declared.shape, inferred.shape, strict=True)
            shape = tuple(_merge_dims(a, b) for a, b in pairs)
        return TensorType(inferred.dtype, shape, declared.denotation, declared.denotations)
    return inferred


def _merge_dims(declared: DimLike, inferred: DimLike) -> DimLike:
    if inferred is None:
        return declared
    if isinstance(inferred, Dim) and isinstance(declared, int):
        return declared
    return inferred
