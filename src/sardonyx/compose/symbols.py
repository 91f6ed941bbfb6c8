"""Symbolic dims in the types of values."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from sardonyx import dims
from sardonyx.dims import Dim
from sardonyx.errors import InputError, quote
from sardonyx.ir.types import (
    MapType,
    OptionalType,
    SequenceType,
    SparseTensorType,
    TensorType,
    shape_text,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from sardonyx.ir.types import DimLike, Type
    from sardonyx.ir.value import Value

__all__ = ["map_dims", "substitute_symbols", "symbol_name", "symbols_in", "symbols_of"]


def map_dims(known: Type, change: Callable[[DimLike], DimLike]) -> Type:
    """`known` with each dim replaced by what `change` makes of it."""
    if isinstance(known, (TensorType, SparseTensorType)):
        if known.shape is None:
            return known
        return replace(known, shape=tuple([change(dim) for dim in known.shape]))
    if isinstance(known, (SequenceType, OptionalType)):
        return replace(known, element=map_dims(known.element, change))
    if isinstance(known, MapType):
        return replace(known, value=map_dims(known.value, change))
    return known


def symbols_in(known: Type | None) -> set[str]:
    """The names of the symbols in `known`."""
    found: set[str] = set()

    def note(dim: DimLike) -> DimLike:
        if isinstance(dim, Dim):
            found.update(dims.symbols(dim))
        return dim

    if known is not None:
        map_dims(known, note)
    return found


def symbol_name(dim: DimLike) -> str | None:
    """The name of the symbol that `dim` is, or None where it is anything else."""
    if not isinstance(dim, Dim):
        return None
    names = sorted(dims.symbols(dim))
    is_plain = len(names) == 1 and dims.known_equal(dim, dims.symbol(names[0]))
    return names[0] if is_plain else None


def symbols_of(values: Iterable[Value]) -> set[str]:
    """The names of the symbols in the types of `values`."""
    return {name for value in values for name in symbols_in(value.type)}


def substitute_symbols(values: Iterable[Value], changes: Mapping[str, int | Dim]) -> None:
    """Replace symbols in the declared types of `values`, all at once.

    Raises `InputError` where a dim could not have the size that comes out.
    """
    for value in values:
        known = value.type
        if known is None or symbols_in(known).isdisjoint(changes):
            continue

        def change(dim: DimLike, value: Value = value) -> DimLike:
            return _substituted(dim, changes, value)

        value.type = map_dims(known, change)


def _substituted(dim: DimLike, changes: Mapping[str, int | Dim], value: Value) -> DimLike:
    if not isinstance(dim, Dim):
        return dim
    try:
        changed = dims.substitute(dim, changes)
    except (ValueError, ZeroDivisionError) as error:
        raise InputError(f"{quote(value.name)} cannot be resized: {error}") from error
    if isinstance(changed, int) and changed < 0:
        raise InputError(
            f"{quote(value.name)} of shape {shape_text(value.shape)} would have a dim {changed}"
        )
    return changed
