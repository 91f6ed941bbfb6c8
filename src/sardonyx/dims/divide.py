"""Floor division, remainder and division rounded up."""

from __future__ import annotations

from functools import lru_cache
from math import gcd

from sardonyx.dims.arithmetic import (
    add,
    agree,
    join,
    multiply,
    polynomial_divmod,
    subtract,
    without,
)
from sardonyx.dims.known import bounds, nonnegative, quick_bounds
from sardonyx.dims.terms import (
    CACHE,
    Atom,
    Dim,
    DimLike,
    Monomial,
    as_atom,
    build,
    dimlike,
    from_atom,
    monomial_key,
    scale,
    terms,
)


@lru_cache(maxsize=CACHE)
def floor_div(left: DimLike, right: DimLike) -> DimLike:
    """Return left // right; ZeroDivisionError if *right* is the constant 0."""
    if not isinstance(right, Dim):
        if right == 0:
            raise ZeroDivisionError(f"floor division of {left} by zero")
        # a // -d -> (-a) // d
        return _floor_by_int(scale(left, -1), -right) if right < 0 else _floor_by_int(left, right)
    left, right = agree(left, right)
    return _floor_by_dim(left, right) if isinstance(right, Dim) else floor_div(left, right)


@lru_cache(maxsize=CACHE)
def modulo(left: DimLike, right: DimLike) -> DimLike:
    """Return left % right; ZeroDivisionError if *right* is the constant 0."""
    # a % b -> a - b*(a//b)
    return subtract(left, multiply(right, floor_div(left, right)))


def ceil_div(left: DimLike, right: DimLike) -> DimLike:
    """Return left / right rounded up; ZeroDivisionError if *right* is the constant 0."""
    # ceil(a / b) -> -((-a) // b)
    return scale(floor_div(scale(dimlike(left), -1), dimlike(right)), -1)


def _floor_by_int(numerator: DimLike, divisor: int) -> DimLike:
    """Return numerator // divisor for divisor > 0."""
    sums = dict(terms(numerator))
    quotient: dict[Monomial, int] = {}
    while True:
        constant = sums.pop((), 0)
        # (g*a + c) // (g*d) -> (a + c//g) // d
        common = gcd(divisor, *sums.values())
        divisor //= common
        constant //= common
        for monomial, factor in sums.items():
            factor //= common
            # (q*d*x + r*x + a) // d -> q*x + (r*x + a)//d with the r of least magnitude
            rest = factor % divisor
            if 2 * rest > divisor or (2 * rest == divisor and factor < 0):
                rest -= divisor
            quotient[monomial] = quotient.get(monomial, 0) + (factor - rest) // divisor
            sums[monomial] = rest
        sums = {monomial: factor for monomial, factor in sums.items() if factor}
        quotient[()] = quotient.get((), 0) + constant // divisor
        sums[()] = constant % divisor
        merged = _merge_nested(sums, divisor)
        if merged is None:
            break
        sums, divisor = merged
    return add(build(quotient), _floor_of_residue(build(sums), divisor))


def _merge_nested(
    sums: dict[Monomial, int], divisor: int
) -> tuple[dict[Monomial, int], int] | None:
    """Return an equal numerator and divisor with one floor division less, or None."""
    mergeable = [
        monomial
        for monomial, factor in sums.items()
        if factor in (1, -1)
        and len(monomial) == 1
        and monomial[0].kind == "floor"
        and not isinstance(monomial[0].operands[1], Dim)
    ]
    if not mergeable:
        return None
    chosen = min(mergeable, key=monomial_key)
    inner, step = chosen[0].operands
    assert not isinstance(step, Dim)
    sign = sums[chosen]
    # (p + a//e) // d -> (e*p + a) // (e*d);  -(a//e) -> (e - 1 - a)//e
    result = {m: step * c for m, c in sums.items() if m != chosen}
    for m, c in terms(inner):
        result[m] = result.get(m, 0) + sign * c
    if sign < 0:
        result[()] = result.get((), 0) + step - 1
    return {m: c for m, c in result.items() if c}, divisor * step


def _floor_of_residue(numerator: DimLike, divisor: int) -> DimLike:
    """Finish numerator // divisor, its coefficients being least residues."""
    if not isinstance(numerator, Dim):
        return numerator // divisor
    lower, upper = bounds(numerator)
    if lower is not None and upper is not None and lower // divisor == upper // divisor:
        return lower // divisor
    factors = [c for m, c in terms(numerator) if m]
    sign = 1
    if next((c for c in factors if 2 * abs(c) != divisor), factors[0]) < 0:
        # (-a) // d -> -((a + d - 1)//d)
        sign = -1
        numerator = subtract(divisor - 1, numerator)
    # (a - d*x) // d -> a//d - x, so that a half is positive and the constant below d
    quotient = build(
        {
            m: c // divisor if not m else (-1 if 2 * c == -divisor else 0)
            for m, c in terms(numerator)
        }
    )
    residue = subtract(numerator, scale(quotient, divisor))
    nested = as_atom(residue, "floor")
    if nested is not None:
        # (a//b) // d -> a // (b*d)
        core = floor_div(nested.operands[0], multiply(nested.operands[1], divisor))
    else:
        core = from_atom(Atom("floor", (residue, divisor)))
    return scale(add(quotient, core), sign)


def _floor_by_dim(left: DimLike, right: Dim) -> DimLike:
    if left == 0:
        return 0
    if terms(right)[0][1] < 0:
        # a // -b -> (-a) // b
        return floor_div(scale(left, -1), scale(right, -1))
    # zero divisors are outside the domain, so that >= 0 means > 0
    lower = bounds(right)[0]
    positive = lower is not None and lower >= 0
    reduced = _cancel(left, right, positive=positive)
    if reduced is not None:
        return floor_div(*reduced)
    if lower is not None and lower > 0:
        # (q*b + r) // b -> q + r//b
        quotient, remainder = polynomial_divmod(left, right)
        if quotient != 0:
            return add(quotient, floor_div(remainder, right))
    if positive:
        nested = as_atom(left, "floor")
        if nested is not None:
            # (a//b) // c -> a // (b*c) for c > 0
            return floor_div(nested.operands[0], multiply(nested.operands[1], right))
        # r // b -> 0 for 0 <= r < b;  r // b -> -1 for -b <= r < 0
        low, high = quick_bounds(left)
        if low is not None and low >= 0 and nonnegative(subtract(right - 1, left)):
            return 0
        if high is not None and high < 0 and nonnegative(add(left, right)):
            return -1
    return from_atom(Atom("floor", (left, right)))


def _cancel(left: DimLike, right: Dim, *, positive: bool) -> tuple[DimLike, DimLike] | None:
    """Divide both by their common integer factor and their common positive atoms."""
    above, below = terms(left), terms(right)
    common = gcd(*[c for _, c in below], *[c for m, c in above if m or not positive])
    every = [m for m, _ in above + below]
    shared: Monomial = ()
    for atom in every[-1]:
        if (atom.range[0] or 0) > 0:
            candidate = join(shared, (atom,))
            if all(without(m, candidate) is not None for m in every):
                shared = candidate
    if common == 1 and not shared:
        return None
    # (g*a + c) // (g*b) -> (a + c//g) // b for b > 0;  (x*a) // (x*b) -> a // b for x > 0
    return (
        build({without(m, shared) or (): c // common for m, c in above}),
        build({without(m, shared) or (): c // common for m, c in below}),
    )
