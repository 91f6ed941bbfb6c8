"""Where the dims of a Reshape go when one of them changes its size."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from sardonyx import dims
from sardonyx.dims import Dim, known_equal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sardonyx.dims import DimLike

__all__ = ["Factor", "Opened", "carried_shape", "product"]


class Factor(NamedTuple):
    """A part of a dim: the size that it had, and what it is now."""

    old: DimLike
    new: DimLike


@dataclass
class Opened:
    """Dims that were numbers and are symbols now: `sizes` are the numbers, by symbol.

    `factors` says of dims that a Reshape merged what they consist of, outermost first; None
    where that is not known.
    """

    sizes: dict[str, int]
    factors: dict[Dim, tuple[Factor, ...] | None] = field(default_factory=dict)
    guessed: bool = False
    """Whether a dim could have gone to more places than one."""

    def names_in(self, shape: Sequence[DimLike | None] | None) -> list[str]:
        """The symbols that dims of `shape` depend on."""
        found = {name for dim in shape or () if isinstance(dim, Dim) for name in dims.symbols(dim)}
        return [name for name in self.sizes if name in found]

    def is_in(self, dim: DimLike | None) -> bool:
        """Whether `dim` depends on one of the symbols."""
        return isinstance(dim, Dim) and not dims.symbols(dim).isdisjoint(self.sizes)

    def is_in_any(self, shape: Sequence[DimLike | None] | None) -> bool:
        """Whether a dim of `shape` depends on one of the symbols."""
        return any(self.is_in(dim) for dim in shape or ())

    def factors_of(self, old: DimLike, new: DimLike) -> tuple[Factor, ...] | None:
        """What a dim consists of, outermost first, or None where that is not known."""
        if isinstance(new, Dim) and new in self.factors:
            return self.factors[new]
        return (Factor(old, new),)

    def record(self, dim: DimLike, factors: Sequence[Factor]) -> None:
        """Note what a merged dim consists of; two answers for one dim are none."""
        if isinstance(dim, Dim) and self.is_in(dim):
            known = tuple([factor for factor in factors if factor.new != 1])
            if self.factors.setdefault(dim, known) != known:
                self.factors[dim] = None


def product(shape: Sequence[DimLike]) -> DimLike:
    """The number of elements."""
    total: DimLike = 1
    for dim in shape:
        total = total * dim
    return total


def carried_shape(
    opened: Opened,
    old: tuple[Sequence[DimLike], Sequence[DimLike]],
    new: Sequence[DimLike],
) -> list[DimLike] | None:
    """The shape that a Reshape must give now so that it does for each slice what it did.

    `old` are the shapes that went in and came out, `new` is what goes in. Elements keep their
    order, so what opened lies in the result behind as many elements as before. Where several
    dims of the result begin there, it becomes the one that was just its size, or else part of
    the last one that is not the innermost. None where it fits nowhere.
    """
    before, after = old
    parts: list[list[tuple[DimLike, Factor]]] = [[] for _ in after]
    prefix: DimLike = 1
    for size, dim in zip(before, new, strict=True):
        factors = opened.factors_of(size, dim)
        if factors is None:
            return None
        for factor in factors:
            if opened.is_in(factor.new):
                found = _home(after, prefix, factor.old)
                if found is None:
                    return None
                axis, outer, guessed = found
                opened.guessed |= guessed
                parts[axis].append((outer, factor))
            prefix = prefix * factor.old
    result = []
    for size, own in zip(after, parts, strict=True):
        merged = _merged(size, own)
        if merged is None:
            return None
        dim = product([factor.new for factor in merged])
        opened.record(dim, merged)
        result.append(dim)
    return result


def _home(
    after: Sequence[DimLike], prefix: DimLike, size: DimLike
) -> tuple[int, DimLike, bool] | None:
    """The axis of `after` for a factor of `size` behind `prefix` elements.

    Also how many elements of that axis precede it, and whether other axes merge it as well.
    """
    found: list[tuple[tuple[bool, bool, int], int, DimLike]] = []
    before: DimLike = 1
    for axis, dim in enumerate(after):
        outer = _quotient(prefix, before)
        if outer is not None and _quotient(dim, outer * size) is not None:
            is_alone = outer == 1 and bool(known_equal(dim, size))
            is_last = axis == len(after) - 1
            found.append(((not is_alone, is_last, axis if is_alone else -axis), axis, outer))
        before = before * dim
    if not found:
        return None
    (is_merged, _, _), axis, outer = min(found, key=lambda each: each[0])
    return axis, outer, is_merged and len(found) > 1


def _merged(size: DimLike, parts: Sequence[tuple[DimLike, Factor]]) -> list[Factor] | None:
    """A dim of `size` as factors, `parts` among them, each behind so many elements of it."""
    result: list[Factor] = []
    done: DimLike = 1
    for outer, factor in parts:
        gap = _quotient(outer, done)
        if gap is None:
            return None
        result += [Factor(gap, gap), factor]
        done = outer * factor.old
    rest = _quotient(size, done)
    return None if rest is None else [*result, Factor(rest, rest)]


def _quotient(dim: DimLike, divisor: DimLike) -> DimLike | None:
    """`dim` divided by `divisor` where that leaves nothing over."""
    if divisor == 1:
        return dim
    if dim == 0 or divisor == 0:
        return None
    return dims.divide_exact(dim, divisor)
