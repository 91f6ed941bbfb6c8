"""Symbolic dimensions: integer expressions with exact arithmetic and one canonical form.

A :class:`Dim` is a polynomial with integer coefficients over *atoms*: named symbols, floor
divisions, minima, maxima, the sizes that others broadcast to and, where expansion would blow up,
unexpanded products. Operators keep
it canonical and hand back a plain ``int`` whenever the value is known, so expressions that these
rules make alike compare and hash alike. Laws that the canonical form does not decide
(``N//2 + (N + 1)//2`` is ``N``) are left to :func:`known_equal`, which reasons with bounds.

An expression speaks only for assignments where it is defined: no divisor is zero and each symbol
is within its range. There, every rule holds exactly in Python's integer semantics.
"""

from __future__ import annotations

from sardonyx.dims.arithmetic import add, divide_exact, multiply, subtract
from sardonyx.dims.divide import ceil_div, floor_div, modulo
from sardonyx.dims.extremes import broadcast, maximum, minimum
from sardonyx.dims.intervals import Bounds
from sardonyx.dims.known import atom_range, bounds, known_equal, known_less, known_less_equal
from sardonyx.dims.terms import Dim, DimLike, operations, symbol, symbol_atoms, symbols, unparse
from sardonyx.dims.text import atom_text, dim_text, parse
from sardonyx.dims.values import evaluate, substitute

__all__ = [
    "Bounds",
    "Dim",
    "DimLike",
    "bounds",
    "broadcast",
    "ceil_div",
    "divide_exact",
    "evaluate",
    "floor_div",
    "known_equal",
    "known_less",
    "known_less_equal",
    "maximum",
    "minimum",
    "parse",
    "substitute",
    "symbol",
    "symbol_atoms",
    "symbols",
    "unparse",
]

operations.add = add
operations.subtract = subtract
operations.multiply = multiply
operations.floor_div = floor_div
operations.modulo = modulo
operations.substitute = substitute
operations.evaluate = evaluate
operations.dim_text = dim_text
operations.atom_text = atom_text
operations.atom_range = atom_range
