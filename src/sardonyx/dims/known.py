"""What is known about a dim: bounds, and the comparisons that they decide."""

from __future__ import annotations

import operator
from functools import lru_cache
from typing import TYPE_CHECKING, Final, TypeAlias

from sardonyx.dims.arithmetic import divide_exact, without
from sardonyx.dims.intervals import (
    ANY,
    Bounds,
    intersect,
    interval_extreme,
    interval_product,
    interval_quotient,
    interval_scale,
    interval_sum,
    nonempty,
)
from sardonyx.dims.terms import (
    CACHE,
    Atom,
    Dim,
    DimLike,
    Monomial,
    build,
    dimlike,
    scale,
    symbol_atoms,
    terms,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_MAX_TERMS: Final = 16  # terms of a sum in which cases are distinguished
_MAX_CHOICES: Final = 3  # atoms that one case distinction may start from
_EFFORT: Final = 2  # nested case distinctions

_Limit: TypeAlias = "Callable[[Atom], Bounds]"
_known_range: _Limit = operator.attrgetter("range")


def bounds(dim: DimLike, env: Mapping[str, Bounds] | None = None) -> Bounds:
    """Return (lower, upper) bounds, inclusive, of every value *dim* can take; None is infinite.

    *env* narrows the ranges of symbols by name. The bounds are sound but not always tight.
    ValueError if *env* leaves a symbol of *dim* no value.
    """
    if not isinstance(dim, Dim):
        return dim, dim
    if not env:
        return _plain_bounds(dim)
    known: dict[Atom, Bounds] = {}
    for atom in symbol_atoms(dim):
        known[atom] = nonempty(atom.name, intersect(atom.range, env.get(atom.name, ANY)))
    seen: dict[Dim, Bounds] = {}

    def bound(part: DimLike) -> Bounds:
        if not isinstance(part, Dim):
            return part, part
        if part not in seen:
            seen[part] = _bounds_of(part, limit, _EFFORT)
        return seen[part]

    def limit(atom: Atom) -> Bounds:
        if atom not in known:
            known[atom] = _atom_bounds(atom, bound)
        return known[atom]

    return bound(dim)


@lru_cache(maxsize=CACHE)
def _plain_bounds(dim: Dim) -> Bounds:
    return _bounds_of(dim, _known_range, _EFFORT)


def quick_bounds(dim: DimLike) -> Bounds:
    """Return bounds as :func:`bounds` does, with less effort."""
    return _bounds_of(dim, _known_range, 1)


def nonnegative(dim: DimLike) -> bool:
    """Return whether *dim* >= 0 is known with little effort."""
    lower = quick_bounds(dim)[0]
    return lower is not None and lower >= 0


def atom_range(atom: Atom) -> Bounds:
    """Return the bounds of an operation."""
    return _atom_bounds(atom, bounds)


def _atom_bounds(atom: Atom, bound: Callable[[DimLike], Bounds]) -> Bounds:
    parts = [bound(operand) for operand in atom.operands]
    if atom.kind == "floor":
        return interval_quotient(*parts)
    if atom.kind == "product":
        return interval_product(*parts)
    return interval_extreme(parts, below=atom.kind == "min", above=atom.kind == "max")


def _monomial_bounds(monomial: Monomial, limit: _Limit) -> Bounds:
    if len(monomial) == 1:
        return limit(monomial[0])
    result: Bounds = (1, 1)
    for atom in dict.fromkeys(monomial):
        power = monomial.count(atom)
        base = interval = limit(atom)
        for _ in range(power - 1):
            base = interval_product(base, interval)
        if power % 2 == 0 and (base[0] is None or base[0] < 0):
            base = 0, base[1]
        result = interval_product(result, base)
    return result


def _bounds_of(dim: DimLike, limit: _Limit, effort: int) -> Bounds:
    total: Bounds = (0, 0)
    for monomial, factor in terms(dim):
        interval = _monomial_bounds(monomial, limit)
        total = interval_sum(total, interval_scale(interval, factor))
    few = len(terms(dim))
    if effort == 0 or few < 2 or (total[0] is not None and total[0] == total[1]):
        return total
    shared = terms(dim)[-1][0]
    for monomial, _ in terms(dim):
        shared = tuple([atom for atom in shared if atom in monomial])
    if shared:
        # x*a + x*b -> x*(a + b)
        rest = build({without(m, shared[:1]) or (): c for m, c in terms(dim)})
        factored = interval_product(limit(shared[0]), _bounds_of(rest, limit, effort - 1))
        total = intersect(total, factored)
    candidates = {a for m, _ in terms(dim) for a in m if a.kind in {"floor", "min", "max"}}
    if few <= _MAX_TERMS:
        for atom in sorted(candidates, key=lambda a: (-a.size, a.key))[:_MAX_CHOICES]:
            try:
                refined = _bounds_without(dim, atom, limit, effort - 1)
            except OverflowError:  # an intermediate is too large: keep what is known
                continue
            total = intersect(total, refined)
    return total


def _bounds_without(dim: DimLike, atom: Atom, limit: _Limit, effort: int) -> Bounds:
    """Bound *dim* == base + slope*atom through what the definition of *atom* says."""
    bases: dict[Monomial, int] = {}
    slopes: dict[Monomial, int] = {}
    for monomial, c in terms(dim):
        cut = without(monomial, (atom,))
        if cut is None:
            bases[monomial] = c
        elif atom in cut:
            return ANY
        else:
            slopes[cut] = c
    base, slope = build(bases), build(slopes)
    low, high = _bounds_of(slope, limit, 0)
    rising, falling = low is not None and low >= 0, high is not None and high <= 0
    if atom.kind != "floor":
        # min(a, b) is one of a and b, and no more than either
        cases = [_bounds_of(base + slope * part, limit, effort) for part in atom.operands]
        below = (rising and atom.kind == "min") or (falling and atom.kind == "max")
        above = (rising and atom.kind == "max") or (falling and atom.kind == "min")
        return interval_extreme(cases, below=below, above=above)
    inner, divisor = atom.operands
    least = _bounds_of(divisor, limit, 1)[0]
    if not (rising or falling) or least is None or least < 0:
        return ANY
    # b*(a//b) is a - r with 0 <= r <= b - 1
    factor, multiple = 1, divide_exact(slope, divisor)
    if multiple is None:
        if isinstance(divisor, Dim):
            return ANY
        factor, multiple = divisor, slope
    full = scale(base, factor) + multiple * inner
    short = full - multiple * (divisor - 1)
    bottom, top = (short, full) if rising else (full, short)
    lower, upper = _bounds_of(bottom, limit, effort)[0], _bounds_of(top, limit, effort)[1]
    return (
        None if lower is None else -(-lower // factor),
        None if upper is None else upper // factor,
    )


def _bounds_of_difference(
    left: DimLike, right: DimLike, env: Mapping[str, Bounds] | None
) -> Bounds:
    try:
        return bounds(dimlike(left) - dimlike(right), env)
    except OverflowError:
        return ANY


def known_equal(
    left: DimLike, right: DimLike, env: Mapping[str, Bounds] | None = None
) -> bool | None:
    """Return True if the two are always equal, False if never, None if that is not decided."""
    lower, upper = _bounds_of_difference(left, right, env)
    if lower == upper == 0:
        return True
    return False if (lower is not None and lower > 0) or (upper is not None and upper < 0) else None


def known_less_equal(
    left: DimLike, right: DimLike, env: Mapping[str, Bounds] | None = None
) -> bool | None:
    """Return True if always left <= right, False if never, None if that is not decided."""
    lower, upper = _bounds_of_difference(right, left, env)
    if lower is not None and lower >= 0:
        return True
    return False if upper is not None and upper < 0 else None


def known_less(
    left: DimLike, right: DimLike, env: Mapping[str, Bounds] | None = None
) -> bool | None:
    """Return True if always left < right, False if never, None if that is not decided."""
    return known_less_equal(dimlike(left) + 1, right, env)
