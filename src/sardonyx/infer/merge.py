"""Putting together what a file declares of a value and what inference found."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sardonyx.dims import Dim, known_equal, symbols
from sardonyx.ir.types import (
    MapType,
    OptionalType,
    SequenceType,
    SparseTensorType,
    TensorType,
    shape_text,
)
from sardonyx.ops.inferring import ANONYMOUS
from sardonyx.ops.symbolic import UNNAMED

if TYPE_CHECKING:
    from sardonyx.ir.types import DimLike, Type

__all__ = ["conflict", "merge_types", "without_names"]


def conflict(declared: Type | None, inferred: Type | None) -> str | None:
    """How `declared` contradicts `inferred`, in words, or None where both may be true."""
    if declared is None or inferred is None:
        return None
    if isinstance(inferred, OptionalType) and not isinstance(declared, OptionalType):
        return conflict(declared, inferred.element)
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
    if isinstance(inferred, OptionalType) and not isinstance(declared, OptionalType):
        return merge_types(declared, inferred.element)
    if isinstance(inferred, TensorType) and isinstance(declared, TensorType):
        given, known = declared.shape, inferred.shape
        if known is None:
            shape = given if given is None else tuple([_merge_dims(dim, None) for dim in given])
        elif given is None or given == known:
            shape = known
        else:
            shape = tuple([_merge_dims(a, b) for a, b in zip(given, known, strict=True)])
        if shape is known and not declared.denotation and not declared.denotations:
            return inferred
        return TensorType(inferred.dtype, shape, declared.denotation, declared.denotations)
    if isinstance(inferred, (SequenceType, OptionalType)):
        assert isinstance(declared, (SequenceType, OptionalType))
        element = merge_types(without_names(declared.element), inferred.element)
        if element is None or element == inferred.element:
            return inferred
        return type(inferred)(element, declared.denotation)
    return inferred


def _merge_dims(declared: DimLike, inferred: DimLike) -> DimLike:
    """The better of two: a number, what inference derived, a name of the file, nothing."""
    if isinstance(declared, int) and not isinstance(inferred, int):
        return declared
    if inferred is None or _is_new(inferred):
        is_foreign = isinstance(declared, Dim) and any(
            name.startswith(UNNAMED) for name in symbols(declared)
        )
        return inferred if declared is None or is_foreign else declared
    return inferred


def _is_new(dim: DimLike) -> bool:
    """Whether the dim is one that the node's operator has no name for."""
    return isinstance(dim, Dim) and any(
        name.startswith(UNNAMED) and not name.startswith(ANONYMOUS) for name in symbols(dim)
    )


def without_names(known: Type) -> Type:
    """The type without symbolic dims, whose names may say something else where it stands."""
    if isinstance(known, TensorType) and known.shape is not None:
        shape = tuple([dim if isinstance(dim, int) else None for dim in known.shape])
        return TensorType(known.dtype, shape, known.denotation, known.denotations)
    if isinstance(known, (SequenceType, OptionalType)):
        return type(known)(without_names(known.element), known.denotation)
    return known
