"""Substitution of symbols and evaluation."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Final

from sardonyx.dims.arithmetic import add_all, multiply
from sardonyx.dims.divide import floor_div
from sardonyx.dims.extremes import broadcast, extreme
from sardonyx.dims.intervals import intersect
from sardonyx.dims.known import bounds
from sardonyx.dims.terms import Atom, Dim, DimLike, dimlike, from_atom, symbol_atoms, terms

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_INTEGER_OPERATIONS: Final[dict[str, Callable[..., int]]] = {
    "floor": operator.floordiv,
    "product": operator.mul,
    "min": min,
    "max": max,
    "broadcast": lambda *sizes: _integer(broadcast(*sizes)),
}


def substitute(dim: DimLike, values: Mapping[str, DimLike]) -> DimLike:
    """Return *dim* with symbols replaced, all at once; names that do not occur are ignored.

    ValueError if a replacement lies wholly outside the symbol's range; ZeroDivisionError if a
    divisor becomes the constant 0.
    """
    if not isinstance(dim, Dim):
        return dimlike(dim)
    done: dict[Atom, DimLike] = {}
    for atom in symbol_atoms(dim):
        if atom.name in values:
            value = dimlike(values[atom.name])
            lower, upper = intersect(bounds(value), atom.range)
            if lower is not None and upper is not None and lower > upper:
                raise ValueError(f"{value} is outside the range of {atom.name!r}: {atom.range}")
            done[atom] = value
    return _rebuild(dim, done) if done else dim


def _rebuild(dim: DimLike, done: dict[Atom, DimLike]) -> DimLike:
    if not isinstance(dim, Dim):
        return dim
    parts: list[DimLike] = []
    for monomial, factor in terms(dim):
        term: DimLike = factor
        for atom in monomial:
            if atom not in done:
                done[atom] = _rebuild_atom(atom, done)
            term = multiply(term, done[atom])
        parts.append(term)
    return add_all(parts)


def _rebuild_atom(atom: Atom, done: dict[Atom, DimLike]) -> DimLike:
    if atom.symbols.isdisjoint(done):
        return from_atom(atom)
    operands = tuple([_rebuild(operand, done) for operand in atom.operands])
    if atom.kind == "floor":
        return floor_div(*operands)
    if atom.kind == "product":
        return multiply(*operands)
    if atom.kind == "broadcast":
        return broadcast(*operands)
    return extreme(atom.kind, operands)


def _integer(dim: DimLike) -> int:
    assert isinstance(dim, int)
    return dim


def evaluate(dim: DimLike, values: Mapping[str, int]) -> int:
    """Return the integer that *dim* is under an assignment of its symbols.

    KeyError names a missing symbol, ValueError one outside its range; ZeroDivisionError if a
    divisor is 0.
    """
    if not isinstance(dim, Dim):
        return operator.index(dim)
    done: dict[Atom, int] = {}
    for atom in symbol_atoms(dim):
        if atom.name not in values:
            raise KeyError(atom.name)
        value = done[atom] = operator.index(values[atom.name])
        lower, upper = atom.range
        if (lower is not None and value < lower) or (upper is not None and value > upper):
            raise ValueError(f"{value} is outside the range of {atom.name!r}: {atom.range}")
    return _value(dim, done)


def _value(dim: DimLike, done: dict[Atom, int]) -> int:
    total = 0
    for monomial, term in terms(dim):
        for atom in monomial:
            value = done.get(atom)
            if value is None:
                args = [_value(operand, done) for operand in atom.operands]
                value = done[atom] = _INTEGER_OPERATIONS[atom.kind](*args)
            term *= value
        total += term
    return total
