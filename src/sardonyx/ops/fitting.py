"""Checks that inputs fit each other, and that what is kept is no more than it shows."""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING, Any

import numpy as np

from sardonyx.errors import InferenceError
from sardonyx.ir.types import shape_text
from sardonyx.ops.fact import Fact
from sardonyx.ops.symbolic import unify

if TYPE_CHECKING:
    from sardonyx.ir.tensor import Array
    from sardonyx.ir.types import DimLike, Shape

__all__ = ["compact", "joined", "of_rank", "shapes_of"]

_LARGER = 2
_SMALL = 4096


def joined(op_type: str, what: str, *dims: DimLike) -> DimLike:
    """The one size that `dims` all have; raises `InferenceError` where they differ."""
    try:
        return reduce(unify, dims, None)
    except InferenceError as error:
        raise InferenceError(f"{op_type}: {what} must be one, {error.message}") from None


def of_rank(op_type: str, name: str, fact: Fact | None, rank: int) -> Shape:
    """The shape of an input that must have `rank`; sizes are None where they are not known."""
    if fact is None or fact.shape is None:
        return (None,) * rank
    if len(fact.shape) != rank:
        raise InferenceError(f"{op_type}: {name} needs rank {rank}, got {shape_text(fact.shape)}")
    return fact.shape


def shapes_of(*arrays: Array | None) -> list[Any]:
    """Facts of the arrays' shapes alone, for `infer` to check."""
    return [None if array is None else Fact.tensor(None, array.shape) for array in arrays]


def compact(value: Any) -> Any:
    """`value` itself, or a copy where it is a small view that keeps a large array alive."""
    if not isinstance(value, np.ndarray) or value.base is None:
        return value
    root: Any = value
    while isinstance(root.base, np.ndarray):
        root = root.base
    return value.copy() if root.nbytes > _LARGER * value.nbytes + _SMALL else value
