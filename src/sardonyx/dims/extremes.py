"""Minimum, maximum, and the size that sizes broadcast to."""

from __future__ import annotations

from functools import lru_cache
from math import gcd
from typing import Final

from sardonyx.dims.arithmetic import add, agree, subtract
from sardonyx.dims.known import quick_bounds
from sardonyx.dims.terms import (
    CACHE,
    Atom,
    Dim,
    DimLike,
    as_atom,
    constant_term,
    dimlike,
    from_atom,
    scale,
    shrink,
    terms,
    unparse,
)

_MAX_PAIRWISE: Final = 16  # arguments that are compared with each other


def minimum(*args: DimLike) -> DimLike:
    """Return the least argument; TypeError without arguments."""
    return extreme("min", tuple([dimlike(arg) for arg in args]))


def maximum(*args: DimLike) -> DimLike:
    """Return the greatest argument; TypeError without arguments."""
    return extreme("max", tuple([dimlike(arg) for arg in args]))


def broadcast(*args: DimLike) -> DimLike:
    """Return the size that sizes broadcast to: that of those which are not 1, else 1.

    The expression speaks only for assignments where the others are equal. ValueError if two
    arguments are different numbers and neither is 1; TypeError without arguments.
    """
    return _broadcast(tuple([dimlike(arg) for arg in args]))


@lru_cache(maxsize=CACHE)
def _broadcast(args: tuple[DimLike, ...]) -> DimLike:
    if not args:
        raise TypeError("broadcast needs at least one argument")
    numbers: set[int] = set()
    found: dict[Dim, None] = {}
    for arg in agree(*args):
        nested = as_atom(arg, "broadcast")
        # broadcast(a, broadcast(b, c)) -> broadcast(a, b, c)
        for part in nested.operands if nested is not None else (arg,):
            if isinstance(part, Dim):
                found[part] = None
            else:
                numbers.add(part)
    numbers.discard(1)
    if len(numbers) > 1:
        raise ValueError(f"sizes {sorted(numbers)} do not broadcast")
    if numbers or not found:
        return numbers.pop() if numbers else 1
    operands = sorted(found, key=unparse)
    return operands[0] if len(operands) == 1 else from_atom(Atom("broadcast", tuple(operands)))


@lru_cache(maxsize=CACHE)
def extreme(kind: str, args: tuple[DimLike, ...]) -> DimLike:
    """Return the least of *args* if *kind* is "min", the greatest if it is "max"."""
    if not args:
        raise TypeError(f"{kind} needs at least one argument")
    constants: list[int] = []
    found: dict[Dim, None] = {}
    for arg in agree(*args):
        nested = as_atom(arg, kind)
        # min(a, min(b, c)) -> min(a, b, c)
        for part in nested.operands if nested is not None else (arg,):
            if isinstance(part, Dim):
                found[part] = None
            else:
                constants.append(part)
    kept: list[DimLike] = sorted(found, key=unparse)
    if constants:
        kept.append(min(constants) if kind == "min" else max(constants))
    kept = _drop_dominated(kind, kept)
    return kept[0] if len(kept) == 1 else _canonical(kind, kept)


def _drop_dominated(kind: str, args: list[DimLike]) -> list[DimLike]:
    """Drop each argument that another provably makes irrelevant."""
    if len(args) > _MAX_PAIRWISE:
        return args
    kept: list[DimLike] = []
    for arg in args:
        undecided: list[DimLike] = []
        for other in kept:
            pair = (other, arg) if kind == "max" else (arg, other)
            lower, upper = quick_bounds(subtract(*pair))
            if lower is not None and lower >= 0:
                break
            if upper is None or upper > 0:
                undecided.append(other)
        else:
            kept = [*undecided, arg]
    return kept


def _canonical(kind: str, args: list[DimLike]) -> DimLike:
    """Take out what the arguments, two or more of them, have in common."""
    args, shift = _pull_constant(args)
    # min(g*a, g*b) -> g*min(a, b)
    factor = gcd(*[c for arg in args for _, c in terms(arg)])
    args = [shrink(arg, factor) for arg in args]
    # max(-a, -b) -> -min(a, b), so that the first symbolic argument up to sign is positive
    signs: dict[str, int] = {}
    for arg in args:
        if isinstance(arg, Dim):
            sign = 1 if terms(arg)[0][1] > 0 else -1
            text = unparse(scale(subtract(arg, constant_term(arg)), sign))
            signs[text] = signs.get(text, 0) + sign
    if (signs[min(signs)] or (1 if kind == "max" else -1)) < 0:
        factor = -factor
        kind = "max" if kind == "min" else "min"
        args = [shrink(arg, -1) for arg in args]
    args, more = _pull_constant(args)
    if any(as_atom(arg, kind) for arg in args):
        core = extreme(kind, tuple(args))
    else:
        symbolic: list[DimLike] = sorted((a for a in args if isinstance(a, Dim)), key=unparse)
        constants = [a for a in args if not isinstance(a, Dim)]
        operands = (*constants, *symbolic) if kind == "max" else (*symbolic, *constants)
        core = from_atom(Atom(kind, operands))
    return add(scale(core, factor), shift + more * factor)


def _pull_constant(args: list[DimLike]) -> tuple[list[DimLike], int]:
    """Split off the least constant term of wholly symbolic arguments."""
    if not all(isinstance(arg, Dim) for arg in args):
        return args, 0
    # max(a + c, b + c) -> max(a, b) + c
    shift = min(map(constant_term, args))
    return [subtract(arg, shift) for arg in args], shift
