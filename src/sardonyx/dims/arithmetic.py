"""Sums, products and exact quotients of polynomials."""

from __future__ import annotations

import operator
from functools import lru_cache
from math import gcd
from typing import Final

from sardonyx.dims.intervals import Bounds, intersect, nonempty
from sardonyx.dims.terms import (
    CACHE,
    Atom,
    Dim,
    DimLike,
    Monomial,
    build,
    dimlike,
    from_atom,
    monomial_key,
    scale,
    shrink,
    symbol,
    symbol_atoms,
    terms,
    unparse,
)

_MAX_TERMS: Final = 256  # a product above this stays unexpanded
_MAX_DEGREE: Final = 128  # factors in one term
_key = operator.attrgetter("key")


def agree(*dims: DimLike) -> tuple[DimLike, ...]:
    """Return all with one range for each symbol name."""
    groups = {symbol_atoms(dim) for dim in dims if isinstance(dim, Dim)}
    clashes = _clashes(frozenset(groups)) if len(groups) > 1 else None
    if not clashes:
        return dims
    unified: dict[str, DimLike] = {name: symbol(name, *limits) for name, limits in clashes.items()}
    return tuple([d.substitute(unified) if isinstance(d, Dim) else d for d in dims])


@lru_cache(maxsize=CACHE)
def _clashes(groups: frozenset[frozenset[Atom]]) -> dict[str, Bounds]:
    """Return the intersected ranges of the names that have more than one."""
    ranges: dict[str, Bounds] = {}
    clashes: dict[str, Bounds] = {}
    for atom in frozenset[Atom]().union(*groups):
        known = ranges.setdefault(atom.name, atom.range)
        if known != atom.range:
            ranges[atom.name] = clashes[atom.name] = nonempty(
                atom.name, intersect(known, atom.range)
            )
    return clashes


@lru_cache(maxsize=CACHE)
def add(left: DimLike, right: DimLike) -> DimLike:
    """Return left + right."""
    return _combine(left, right, 1)


@lru_cache(maxsize=CACHE)
def subtract(left: DimLike, right: DimLike) -> DimLike:
    """Return left - right."""
    return _combine(left, right, -1)


def _combine(left: DimLike, right: DimLike, sign: int) -> DimLike:
    if not isinstance(right, Dim) and right == 0:
        return left
    if not isinstance(left, Dim) and left == 0:
        return scale(right, sign)
    left, right = agree(left, right)
    sums = dict(terms(left))
    for monomial, factor in terms(right):
        sums[monomial] = sums.get(monomial, 0) + sign * factor
    return build(sums)


def add_all(parts: list[DimLike]) -> DimLike:
    """Return the sum of *parts*, of which there is at least one."""
    while len(parts) > 1:
        odd = parts[-1:] if len(parts) % 2 else []
        parts = [add(x, y) for x, y in zip(parts[::2], parts[1::2], strict=False)] + odd
    return parts[0]


@lru_cache(maxsize=CACHE)
def multiply(left: DimLike, right: DimLike) -> DimLike:
    """Return left*right, expanded unless that gives too many terms."""
    if not isinstance(right, Dim):
        return scale(left, right)
    if not isinstance(left, Dim):
        return scale(right, left)
    left, right = agree(left, right)
    few, many = sorted((len(terms(left)), len(terms(right))))
    if few > 1 and few * many > _MAX_TERMS:
        return _opaque_product(left, right)
    sums: dict[Monomial, int] = {}
    for m, a in terms(left):
        for n, b in terms(right):
            monomial = join(m, n)
            sums[monomial] = sums.get(monomial, 0) + a * b
    return build(sums)


def join(left: Monomial, right: Monomial) -> Monomial:
    """Return the product of two monomials; OverflowError above the greatest degree."""
    if left and right:
        if len(left) + len(right) > _MAX_DEGREE:
            raise OverflowError(f"a symbolic dimension exceeds degree {_MAX_DEGREE}")
        return tuple(sorted(left + right, key=_key))
    return left or right


def without(monomial: Monomial, divisor: Monomial) -> Monomial | None:
    """Return monomial / divisor, or None if it is no monomial."""
    rest = list(monomial)
    for atom in divisor:
        if atom not in rest:
            return None
        rest.remove(atom)
    return tuple(rest)


def _opaque_product(left: DimLike, right: DimLike) -> DimLike:
    factor, parts = 1, []
    for dim in (left, right):
        content = gcd(*[c for _, c in terms(dim)])
        content = -content if terms(dim)[0][1] < 0 else content
        factor *= content
        parts.append(shrink(dim, content))
    parts.sort(key=unparse)
    return scale(from_atom(Atom("product", tuple(parts))), factor)


def polynomial_divmod(left: DimLike, right: DimLike) -> tuple[DimLike, DimLike]:
    """Divide in graded lexicographic order: left == quotient*right + remainder."""
    divisor = terms(right)
    lead, lead_factor = divisor[0]
    rest = dict(terms(left))
    quotient: dict[Monomial, int] = {}
    remainder: dict[Monomial, int] = {}
    for _ in range(4 * _MAX_TERMS):
        if not rest:
            return build(quotient), build(remainder)
        monomial = min(rest, key=monomial_key)
        factor = rest[monomial]
        step = without(monomial, lead)
        if step is None or factor % lead_factor:
            remainder[monomial] = rest.pop(monomial)
            continue
        multiple = factor // lead_factor
        quotient[step] = multiple
        for other, c in divisor:
            target = join(other, step)
            left_over = rest.get(target, 0) - multiple * c
            if left_over:
                rest[target] = left_over
            else:
                rest.pop(target, None)
    return 0, left


def divide_exact(left: DimLike, right: DimLike) -> DimLike | None:
    """Return the q with ``left == q*right`` as polynomials, assuming *right* is not zero.

    None if no such polynomial with integer coefficients exists; ZeroDivisionError if *right* is
    the constant 0.
    """
    left, right = agree(dimlike(left), dimlike(right))
    if right == 0:
        raise ZeroDivisionError(f"exact division of {left} by zero")
    quotient, remainder = polynomial_divmod(left, right)
    return quotient if remainder == 0 else None
