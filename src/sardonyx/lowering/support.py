"""What rules of several families need: sizes that must agree, and indices that must lie inside."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sardonyx.dims import known_equal, known_less_equal
from sardonyx.dtypes import BOOL, INT64
from sardonyx.loops.expr import Axis, Expr, index
from sardonyx.loops.nest import NotLowered, Source
from sardonyx.loops.scalars import apply, cast, const, size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sardonyx.dims import DimLike
    from sardonyx.loops.expr import Index

__all__ = [
    "agree",
    "every",
    "is_nan",
    "may_be_zero",
    "normal_axis",
    "position",
    "product",
    "single",
    "steps_within",
]


def agree(what: str, given: Sequence[DimLike], wanted: Sequence[DimLike]) -> None:
    """Raise `NotLowered` unless two shapes are known to be one."""
    if len(given) != len(wanted) or not all(
        known_equal(a, b) for a, b in zip(given, wanted, strict=True)
    ):
        raise NotLowered(f"{what}: whether {_text(given)} is {_text(wanted)} is decided by data")


def _text(shape: Sequence[DimLike]) -> str:
    return f"[{', '.join(map(str, shape))}]"


def normal_axis(axis: int, rank: int) -> int:
    """`axis` counted from the front."""
    return axis + rank if axis < 0 else axis


def product(dims: Sequence[DimLike]) -> DimLike:
    """The product of `dims`."""
    found: DimLike = 1
    for dim in dims:
        found = found * dim
    return found


def position(value: Expr, dim: DimLike) -> Expr:
    """The index `value`, negative ones from the end, checked against `dim` when it runs."""
    return apply("index", cast(value, INT64), size(dim))


def steps_within(axis: Axis, steps: DimLike, dim: DimLike) -> Index:
    """`axis`, which takes `steps`, as an index into `dim`, checked if it may be outside."""
    return axis if known_less_equal(steps, dim) else position(index(axis), dim)


def may_be_zero(dim: DimLike) -> bool:
    """Whether a run may have `dim` of size 0."""
    return not known_less_equal(1, dim)


def single(source: Source) -> Expr:
    """The one element of `source`. Raises `NotLowered` where it may have others."""
    agree("a scalar", source.shape, (1,) * source.rank)
    if source.contents is not None:
        return Source(source.buffer, source.dtype, (), source.contents)[()]
    return source[(0,) * source.rank]


def is_nan(value: Expr) -> Expr:
    """Whether `value` is NaN."""
    return apply("ne", value, value) if value.dtype.is_floating else const(0, BOOL)


def every(conditions: Sequence[Expr]) -> Any:
    """Whether all `conditions` hold; None if there are none."""
    found: Expr | None = None
    for condition in conditions:
        found = condition if found is None else apply("and", found, condition)
    return found
