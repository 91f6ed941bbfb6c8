# ruff: noqa: SLF001 - the functions here are the implementation of Dim
"""Symbolic dimensions: integer expressions with exact arithmetic and one canonical form.

A :class:`Dim` is a polynomial with integer coefficients over *atoms*: named symbols, floor
divisions, minima, maxima and, where expansion would blow up, unexpanded products. Operators keep
it canonical and hand back a plain ``int`` whenever the value is known, so expressions that these
rules make alike compare and hash alike. Laws that the canonical form does not decide
(``N//2 + (N + 1)//2`` is ``N``) are left to :func:`known_equal`, which reasons with bounds.

An expression speaks only for assignments where it is defined: no divisor is zero and each symbol
is within its range. There, every rule holds exactly in Python's integer semantics.
"""

from __future__ import annotations

import operator
import re
from functools import lru_cache
from math import gcd
from numbers import Integral
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeAlias, Union

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

__all__ = [
    "Bounds",
    "Dim",
    "DimLike",
    "bounds",
    "ceil_div",
    "divide_exact",
    "evaluate",
    "known_equal",
    "known_less",
    "known_less_equal",
    "maximum",
    "minimum",
    "parse",
    "substitute",
    "symbol",
    "symbols",
    "unparse",
]

Bounds: TypeAlias = "tuple[int | None, int | None]"
DimLike: TypeAlias = Union[int, "Dim"]
_Monomial: TypeAlias = "tuple[_Atom, ...]"  # sorted by key; a power repeats its atom
_Terms: TypeAlias = "tuple[tuple[_Monomial, int], ...]"  # graded lexicographic, constant last

_MAX_TERMS: Final = 256  # a product above this stays unexpanded
_MAX_DEGREE: Final = 128  # factors in one term
_MAX_NODES: Final = 2048  # symbols and operations in one expression
_MAX_NUMBER: Final = 1 << 1024
_MAX_DEPTH: Final = 48  # nested divisions, minima and maxima
_MAX_PAIRWISE: Final = 16  # arguments of min or max that are compared with each other
_MAX_CHOICES: Final = 3  # atoms that one case distinction may start from
_EFFORT: Final = 2  # nested case distinctions while bounding
_CACHE: Final = 4096
_ANY: Final[Bounds] = (None, None)
_RANK: Final = {"symbol": 0, "floor": 1, "min": 2, "max": 3, "product": 4}
_IDENTIFIER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*")


class _Atom:
    """An indivisible factor: a symbol, or an operation on expressions."""

    __slots__ = ("depth", "hash", "key", "kind", "name", "operands", "range", "size", "symbols")

    def __init__(
        self, kind: str, operands: tuple[DimLike, ...], name: str = "", limits: Bounds = _ANY
    ) -> None:
        self.kind = kind
        self.operands = operands
        self.name = name
        self.hash = hash((kind, operands, name, limits))
        self.depth = 1 + max((d._depth for d in operands if isinstance(d, Dim)), default=-1)
        self.size = 1 + sum(d._size if isinstance(d, Dim) else 1 for d in operands)
        _check_size(self.size, self.depth)
        for operand in operands:
            if not isinstance(operand, Dim):
                _check_number(operand)
        self.symbols: frozenset[_Atom] = (
            frozenset((self,)) if kind == "symbol" else _union(operands)
        )
        self.key = (_RANK[kind], _atom_text(self))
        self.range = limits if kind == "symbol" else _atom_bounds(self, bounds)

    def __hash__(self) -> int:
        return self.hash

    def __eq__(self, other: object) -> bool:
        return self is other or (
            isinstance(other, _Atom)
            and self.hash == other.hash
            and self.key == other.key
            and self.operands == other.operands
            and self.range == other.range
        )

    def __reduce__(self) -> tuple[Any, ...]:
        limits = self.range if self.kind == "symbol" else _ANY
        return _Atom, (self.kind, self.operands, self.name, limits)


class Dim:
    """An immutable symbolic integer; made by :func:`symbol`, :func:`parse` and operators.

    ``+ - * // %`` take ints and other dims on either side, with Python's floor semantics, and
    give an ``int`` when the result is constant. ``==`` compares canonical forms and is always a
    ``bool``. Ordering, ``bool()`` and ``int()`` raise TypeError, so that nothing branches on a
    symbolic value unawares. An expression past 2048 nodes, 48 nested operations, degree
    128 or coefficients of 1024 bits raises OverflowError; a fresh symbol can then stand for it.
    """

    __slots__ = ("_depth", "_hash", "_size", "_symbols", "_terms", "_text")

    _terms: _Terms
    _hash: int
    _size: int
    _depth: int
    _symbols: frozenset[_Atom]
    _text: str | None

    def __init__(self, terms: _Terms) -> None:
        size, depth = 0, 0
        found: frozenset[_Atom] = frozenset()
        for monomial, factor in terms:
            _check_number(factor)
            size += 1
            for atom in monomial:
                size += atom.size
                depth = max(depth, atom.depth)
                found = found | atom.symbols if found else atom.symbols
        _check_size(size, depth)
        put = object.__setattr__
        put(self, "_terms", terms)
        put(self, "_hash", hash(terms))
        put(self, "_size", size)
        put(self, "_depth", depth)
        put(self, "_symbols", found)
        put(self, "_text", None)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"Dim is immutable: cannot set {name!r}")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"Dim is immutable: cannot delete {name!r}")

    def __copy__(self) -> Dim:
        return self

    def __deepcopy__(self, memo: object) -> Dim:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return Dim, (self._terms,)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, Dim):
            return NotImplemented
        return self._hash == other._hash and self._terms == other._terms

    def __add__(self, other: DimLike) -> DimLike:
        right = _operand(other)
        return NotImplemented if right is None else _add(self, right)

    __radd__ = __add__

    def __sub__(self, other: DimLike) -> DimLike:
        right = _operand(other)
        return NotImplemented if right is None else _add(self, _scale(right, -1))

    def __rsub__(self, other: DimLike) -> DimLike:
        left = _operand(other)
        return NotImplemented if left is None else _add(_scale(self, -1), left)

    def __neg__(self) -> DimLike:
        return _scale(self, -1)

    def __mul__(self, other: DimLike) -> DimLike:
        right = _operand(other)
        return NotImplemented if right is None else _multiply(self, right)

    __rmul__ = __mul__

    def __floordiv__(self, other: DimLike) -> DimLike:
        right = _operand(other)
        return NotImplemented if right is None else _floor_div(self, right)

    def __rfloordiv__(self, other: DimLike) -> DimLike:
        left = _operand(other)
        return NotImplemented if left is None else _floor_div(left, self)

    def __mod__(self, other: DimLike) -> DimLike:
        right = _operand(other)
        return NotImplemented if right is None else _modulo(self, right)

    def __rmod__(self, other: DimLike) -> DimLike:
        left = _operand(other)
        return NotImplemented if left is None else _modulo(left, self)

    def _no_order(self, other: object) -> NoReturn:
        raise TypeError(
            f"cannot order the symbolic dimension {self} and {other}: "
            "use known_less or known_less_equal"
        )

    __lt__ = __le__ = __gt__ = __ge__ = _no_order

    def __bool__(self) -> NoReturn:
        raise TypeError(
            f"the symbolic dimension {self} has no truth value: compare it with == or known_equal"
        )

    def __int__(self) -> NoReturn:
        raise TypeError(f"the symbolic dimension {self} is not an integer: use evaluate")

    def __str__(self) -> str:
        atom = _as_atom(self)
        return atom.name if atom is not None and atom.kind == "symbol" else unparse(self)

    def __repr__(self) -> str:
        return f"Dim({unparse(self)!r})"

    def __format__(self, spec: str) -> str:
        return format(str(self), spec)

    def substitute(self, values: Mapping[str, DimLike]) -> DimLike:
        """Return this expression with symbols replaced; see :func:`substitute`."""
        return substitute(self, values)

    def evaluate(self, values: Mapping[str, int]) -> int:
        """Return the value under an assignment; see :func:`evaluate`."""
        return evaluate(self, values)


# --- construction -------------------------------------------------------------------------------


def symbol(name: str, lower: int | None = 0, upper: int | None = None) -> Dim:
    """Return the symbol *name*, an integer in [lower, upper]; None leaves a side open.

    The name is the identity: where expressions that give one name different ranges are combined,
    the symbol gets the intersection. The range is knowledge that a Dim carries, and ``==``
    compares it too; :func:`known_equal` does not. ValueError if the range is empty.
    """
    if not isinstance(name, str):
        raise TypeError(f"a symbol's name is a string, not {type(name).__name__}")
    limits = _index_limits(lower), _index_limits(upper)
    return _symbol(name, _nonempty(name, limits))


@lru_cache(maxsize=_CACHE)
def _symbol(name: str, limits: Bounds) -> Dim:
    return Dim((((_Atom("symbol", (), name, limits),), 1),))


def _nonempty(name: str, limits: Bounds) -> Bounds:
    lower, upper = limits
    if lower is not None and upper is not None and lower > upper:
        raise ValueError(f"symbol {name!r} has the empty range [{lower}, {upper}]")
    return limits


def _index_limits(value: int | None) -> int | None:
    return None if value is None else operator.index(value)


def _operand(value: object) -> DimLike | None:
    if type(value) is int or isinstance(value, Dim):
        return value
    return int(value) if isinstance(value, Integral) else None


def _dimlike(value: object) -> DimLike:
    dim = _operand(value)
    if dim is None:
        raise TypeError(f"expected an int or a Dim, not {type(value).__name__}")
    return dim


def _check_size(size: int, depth: int) -> None:
    if size > _MAX_NODES or depth > _MAX_DEPTH:
        raise OverflowError(
            f"a symbolic dimension exceeds {_MAX_NODES} nodes or {_MAX_DEPTH} nested operations"
        )


def _check_number(value: int) -> None:
    if not -_MAX_NUMBER < value < _MAX_NUMBER:
        raise OverflowError("a number in a symbolic dimension exceeds 1024 bits")


def _union(operands: Iterable[DimLike]) -> frozenset[_Atom]:
    return frozenset().union(*(d._symbols for d in operands if isinstance(d, Dim)))


def _terms(dim: DimLike) -> _Terms:
    if isinstance(dim, Dim):
        return dim._terms
    return (((), dim),) if dim else ()


def _term_key(term: tuple[_Monomial, int]) -> tuple[int, list[tuple[int, str]]]:
    return -len(term[0]), [atom.key for atom in term[0]]


def _build(sums: dict[_Monomial, int]) -> DimLike:
    """Return the canonical value of monomial -> coefficient."""
    terms = [term for term in sums.items() if term[1]]
    if not terms:
        return 0
    if len(terms) > 1:
        terms.sort(key=_term_key)
    elif not terms[0][0]:
        return terms[0][1]
    return Dim(tuple(terms))


def _from_atom(atom: _Atom) -> Dim:
    return Dim((((atom,), 1),))


def _as_atom(dim: DimLike) -> _Atom | None:
    """Return the atom that *dim* consists of, or None."""
    if isinstance(dim, Dim) and len(dim._terms) == 1:
        monomial, factor = dim._terms[0]
        if factor == 1 and len(monomial) == 1:
            return monomial[0]
    return None


@lru_cache(maxsize=_CACHE)
def _clashes(left: frozenset[_Atom], right: frozenset[_Atom]) -> dict[str, Bounds]:
    """Return the intersected ranges of the names that the two sides bound differently."""
    ranges = {atom.name: atom.range for atom in left}
    return {
        atom.name: _nonempty(atom.name, _intersect(ranges[atom.name], atom.range))
        for atom in right
        if ranges.get(atom.name, atom.range) != atom.range
    }


def _agree(left: DimLike, right: DimLike) -> tuple[DimLike, DimLike]:
    """Return both with one range for each symbol name."""
    if isinstance(left, Dim) and isinstance(right, Dim) and left._symbols != right._symbols:
        clashes = _clashes(left._symbols, right._symbols)
        if clashes:
            unified: dict[str, DimLike] = {n: _symbol(n, limits) for n, limits in clashes.items()}
            return substitute(left, unified), substitute(right, unified)
    return left, right


# --- ring operations ----------------------------------------------------------------------------


@lru_cache(maxsize=_CACHE)
def _add(left: DimLike, right: DimLike) -> DimLike:
    left, right = _agree(left, right)
    sums = dict(_terms(left))
    for monomial, factor in _terms(right):
        sums[monomial] = sums.get(monomial, 0) + factor
    return _build(sums)


def _add_all(parts: list[DimLike]) -> DimLike:
    while len(parts) > 1:
        odd = parts[-1:] if len(parts) % 2 else []
        parts = [_add(x, y) for x, y in zip(parts[::2], parts[1::2], strict=False)] + odd
    return parts[0]


def _scale(dim: DimLike, factor: int) -> DimLike:
    if not isinstance(dim, Dim):
        return dim * factor
    if factor == 0:
        return 0
    return Dim(tuple([(monomial, c * factor) for monomial, c in dim._terms]))


@lru_cache(maxsize=_CACHE)
def _multiply(left: DimLike, right: DimLike) -> DimLike:
    left, right = _agree(left, right)
    if not isinstance(right, Dim):
        return _scale(left, right)
    if not isinstance(left, Dim):
        return _scale(right, left)
    few, many = sorted((len(left._terms), len(right._terms)))
    if few > 1 and few * many > _MAX_TERMS:
        return _opaque_product(left, right)
    sums: dict[_Monomial, int] = {}
    for m, a in left._terms:
        for n, b in right._terms:
            monomial = _join(m, n)
            sums[monomial] = sums.get(monomial, 0) + a * b
    return _build(sums)


def _join(left: _Monomial, right: _Monomial) -> _Monomial:
    if left and right:
        if len(left) + len(right) > _MAX_DEGREE:
            raise OverflowError(f"a symbolic dimension exceeds degree {_MAX_DEGREE}")
        return tuple(sorted(left + right, key=_atom_key))
    return left or right


_atom_key = operator.attrgetter("key")


def _opaque_product(left: Dim, right: Dim) -> DimLike:
    factor, parts = 1, []
    for dim in (left, right):
        content = gcd(*[c for _, c in dim._terms])
        content = -content if dim._terms[0][1] < 0 else content
        factor *= content
        parts.append(Dim(tuple([(monomial, c // content) for monomial, c in dim._terms])))
    parts.sort(key=unparse)
    return _scale(_from_atom(_Atom("product", tuple(parts))), factor)


def _without(monomial: _Monomial, divisor: _Monomial) -> _Monomial | None:
    """Return monomial / divisor, or None if it is no monomial."""
    rest = list(monomial)
    for atom in divisor:
        if atom not in rest:
            return None
        rest.remove(atom)
    return tuple(rest)


def _polynomial_divmod(left: DimLike, right: DimLike) -> tuple[DimLike, DimLike]:
    """Divide in graded lexicographic order: left == quotient*right + remainder."""
    divisor = _terms(right)
    lead, lead_factor = divisor[0]
    rest = dict(_terms(left))
    quotient: dict[_Monomial, int] = {}
    remainder: dict[_Monomial, int] = {}
    for _ in range(4 * _MAX_TERMS):
        if not rest:
            return _build(quotient), _build(remainder)
        monomial = min(rest, key=lambda m: _term_key((m, 0)))
        factor = rest[monomial]
        step = _without(monomial, lead)
        if step is None or factor % lead_factor:
            remainder[monomial] = rest.pop(monomial)
            continue
        multiple = factor // lead_factor
        quotient[step] = multiple
        for other, c in divisor:
            target = _join(other, step)
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
    left, right = _agree(_dimlike(left), _dimlike(right))
    if right == 0:
        raise ZeroDivisionError(f"exact division of {left} by zero")
    quotient, remainder = _polynomial_divmod(left, right)
    return quotient if remainder == 0 else None


# --- floor division -----------------------------------------------------------------------------


@lru_cache(maxsize=_CACHE)
def _floor_div(left: DimLike, right: DimLike) -> DimLike:
    if not isinstance(right, Dim):
        if right == 0:
            raise ZeroDivisionError(f"floor division of {left} by zero")
        # a // -d -> (-a) // d
        return _floor_by_int(_scale(left, -1), -right) if right < 0 else _floor_by_int(left, right)
    left, right = _agree(left, right)
    return _floor_by_dim(left, right) if isinstance(right, Dim) else _floor_div(left, right)


def _floor_by_int(numerator: DimLike, divisor: int) -> DimLike:
    """Return numerator // divisor for divisor > 0."""
    sums = dict(_terms(numerator))
    quotient: dict[_Monomial, int] = {}
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
    return _add(_build(quotient), _floor_of_residue(_build(sums), divisor))


def _merge_nested(
    sums: dict[_Monomial, int], divisor: int
) -> tuple[dict[_Monomial, int], int] | None:
    """Return an equal numerator and divisor with one floor division less, or None."""
    for monomial in sorted(sums, key=lambda m: _term_key((m, 0))):
        sign = sums[monomial]
        if len(monomial) != 1 or sign not in (1, -1) or monomial[0].kind != "floor":
            continue
        inner, scale = monomial[0].operands
        if isinstance(scale, Dim):
            continue
        # (p + a//e) // d -> (e*p + a) // (e*d);  -(a//e) -> (e - 1 - a)//e
        result = {m: scale * c for m, c in sums.items() if m != monomial}
        for m, c in _terms(inner):
            result[m] = result.get(m, 0) + sign * c
        if sign < 0:
            result[()] = result.get((), 0) + scale - 1
        return {m: c for m, c in result.items() if c}, divisor * scale
    return None


def _floor_of_residue(numerator: DimLike, divisor: int) -> DimLike:
    """Finish numerator // divisor, its coefficients being least residues."""
    if not isinstance(numerator, Dim):
        return numerator // divisor
    lower, upper = bounds(numerator)
    if lower is not None and upper is not None and lower // divisor == upper // divisor:
        return lower // divisor
    factors = [c for m, c in numerator._terms if m]
    sign = 1
    if next((c for c in factors if 2 * abs(c) != divisor), factors[0]) < 0:
        # (-a) // d -> -((a + d - 1)//d)
        sign = -1
        numerator = _add(_scale(numerator, -1), divisor - 1)
    quotient: dict[_Monomial, int] = {}
    sums: dict[_Monomial, int] = {}
    for monomial, factor in _terms(numerator):
        step = factor // divisor if not monomial else (-1 if 2 * factor == -divisor else 0)
        quotient[monomial] = step
        sums[monomial] = factor - step * divisor
    residue = _build(sums)
    atom = _as_atom(residue)
    if atom is not None and atom.kind == "floor":
        # (a//b) // d -> a // (b*d)
        core = _floor_div(atom.operands[0], _multiply(atom.operands[1], divisor))
    else:
        core = _from_atom(_Atom("floor", (residue, divisor)))
    return _scale(_add(_build(quotient), core), sign)


def _floor_by_dim(left: DimLike, right: Dim) -> DimLike:
    if left == 0:
        return 0
    if right._terms[0][1] < 0:
        # a // -b -> (-a) // b
        left, negated = _scale(left, -1), _scale(right, -1)
        assert isinstance(negated, Dim)
        right = negated
    # zero divisors are outside the domain, so that >= 0 means > 0
    lower = bounds(right)[0]
    positive = lower is not None and lower >= 0
    reduced = _cancel(left, right, positive=positive)
    if reduced != (left, right):
        return _floor_div(*reduced)
    if lower is not None and lower > 0:
        # (q*b + r) // b -> q + r//b
        quotient, remainder = _polynomial_divmod(left, right)
        if quotient != 0:
            return _add(quotient, _floor_div(remainder, right))
    atom = _as_atom(left)
    if positive and atom is not None and atom.kind == "floor":
        # (a//b) // c -> a // (b*c) for c > 0
        return _floor_div(atom.operands[0], _multiply(atom.operands[1], right))
    for step in (0, -1):
        # r // b -> k for k*b <= r < (k + 1)*b and b > 0
        rest = _add(left, _scale(right, -step))
        if positive and _nonnegative(rest) and _nonnegative(_add(right - 1, _scale(rest, -1))):
            return step
    return _from_atom(_Atom("floor", (left, right)))


def _nonnegative(dim: DimLike) -> bool:
    lower = _bounds_of(dim, _atom_range, 1)[0]
    return lower is not None and lower >= 0


def _cancel(left: DimLike, right: Dim, *, positive: bool) -> tuple[DimLike, DimLike]:
    """Divide both by their common integer factor and their common positive atoms."""
    terms = _terms(left)
    common = gcd(*[c for _, c in right._terms], *[c for m, c in terms if m or not positive])
    every = [m for m, _ in terms + right._terms]
    shared: _Monomial = ()
    for atom in every[-1]:
        candidate = _join(shared, (atom,))
        if (atom.range[0] or 0) > 0 and all(_without(m, candidate) is not None for m in every):
            shared = candidate
    if common == 1 and not shared:
        return left, right
    # (g*a + c) // (g*b) -> (a + c//g) // b for b > 0;  (x*a) // (x*b) -> a // b for x > 0
    return (
        _build({_without(m, shared) or (): c // common for m, c in terms}),
        _build({_without(m, shared) or (): c // common for m, c in right._terms}),
    )


@lru_cache(maxsize=_CACHE)
def _modulo(left: DimLike, right: DimLike) -> DimLike:
    # a % b -> a - b*(a//b)
    return _add(left, _scale(_multiply(right, _floor_div(left, right)), -1))


def ceil_div(left: DimLike, right: DimLike) -> DimLike:
    """Return left / right rounded up; ZeroDivisionError if *right* is the constant 0."""
    # ceil(a / b) -> -((-a) // b)
    return _scale(_floor_div(_scale(_dimlike(left), -1), _dimlike(right)), -1)


# --- minimum and maximum ------------------------------------------------------------------------


def minimum(*args: DimLike) -> DimLike:
    """Return the least argument; TypeError without arguments."""
    return _extreme("min", tuple([_dimlike(arg) for arg in args]))


def maximum(*args: DimLike) -> DimLike:
    """Return the greatest argument; TypeError without arguments."""
    return _extreme("max", tuple([_dimlike(arg) for arg in args]))


@lru_cache(maxsize=_CACHE)
def _extreme(kind: str, args: tuple[DimLike, ...]) -> DimLike:
    if not args:
        raise TypeError(f"{kind} needs at least one argument")
    args = _agree_all(args)
    choose: Callable[[Iterable[int]], int] = min if kind == "min" else max
    constants: list[int] = []
    found: dict[Dim, None] = {}
    for arg in args:
        atom = _as_atom(arg)
        # min(a, min(b, c)) -> min(a, b, c)
        for part in atom.operands if atom is not None and atom.kind == kind else (arg,):
            if isinstance(part, Dim):
                found[part] = None
            else:
                constants.append(part)
    kept: list[DimLike] = sorted(found, key=unparse)
    if constants:
        kept.append(choose(constants))
    kept = _drop_dominated(kind, kept)
    if len(kept) == 1:
        return kept[0]
    return _extreme_atom(kind, kept)


def _agree_all(args: tuple[DimLike, ...]) -> tuple[DimLike, ...]:
    ranges: dict[str, Bounds] = {}
    clash = False
    for atom in _union(args):
        before = ranges.setdefault(atom.name, atom.range)
        if before != atom.range:
            clash = True
            ranges[atom.name] = _nonempty(atom.name, _intersect(before, atom.range))
    if not clash:
        return args
    unified: dict[str, DimLike] = {name: _symbol(name, limits) for name, limits in ranges.items()}
    return tuple([substitute(arg, unified) for arg in args])


def _drop_dominated(kind: str, args: list[DimLike]) -> list[DimLike]:
    """Drop each argument that another provably makes irrelevant."""
    if len(args) > _MAX_PAIRWISE:
        return args
    sign = -1 if kind == "min" else 1
    kept: list[DimLike] = []
    for arg in args:
        if any(_nonnegative(_scale(_subtract(other, arg), sign)) for other in kept):
            continue
        kept = [o for o in kept if not _nonnegative(_scale(_subtract(arg, o), sign))]
        kept.append(arg)
    return kept


def _subtract(left: DimLike, right: DimLike) -> DimLike:
    return _add(left, _scale(right, -1))


def _extreme_atom(kind: str, args: list[DimLike]) -> DimLike:
    args, shift = _pull_constant(args)
    # min(g*a, g*b) -> g*min(a, b)
    factor = gcd(*[c for arg in args for _, c in _terms(arg)])
    # max(-a, -b) -> -min(a, b), so that the first symbolic argument up to sign is positive
    signs: dict[str, int] = {}
    for arg in args:
        if isinstance(arg, Dim):
            sign = 1 if arg._terms[0][1] > 0 else -1
            text = unparse(_build({m: sign * c for m, c in arg._terms if m}))
            signs[text] = signs.get(text, 0) + sign
    if (signs[min(signs)] or (1 if kind == "max" else -1)) < 0:
        factor = -factor
        kind = "max" if kind == "min" else "min"
    args, more = _pull_constant([_build({m: c // factor for m, c in _terms(a)}) for a in args])
    if any(atom is not None and atom.kind == kind for atom in map(_as_atom, args)):
        core = _extreme(kind, tuple(args))
    else:
        symbolic: list[DimLike] = sorted((a for a in args if isinstance(a, Dim)), key=unparse)
        constants = [a for a in args if not isinstance(a, Dim)]
        operands = (*constants, *symbolic) if kind == "max" else (*symbolic, *constants)
        core = _from_atom(_Atom(kind, operands))
    return _add(_scale(core, factor), shift + more * factor)


def _pull_constant(args: list[DimLike]) -> tuple[list[DimLike], int]:
    """Split off the least constant term of wholly symbolic arguments."""
    if not all(isinstance(arg, Dim) for arg in args):
        return args, 0
    # max(a + c, b + c) -> max(a, b) + c
    shift = min(dict(_terms(arg)).get((), 0) for arg in args)
    return [_add(arg, -shift) for arg in args], shift


# --- substitution and evaluation ----------------------------------------------------------------


def symbols(dim: DimLike) -> frozenset[str]:
    """Return the names of the symbols in *dim*."""
    return frozenset([atom.name for atom in dim._symbols]) if isinstance(dim, Dim) else frozenset()


def substitute(dim: DimLike, values: Mapping[str, DimLike]) -> DimLike:
    """Return *dim* with symbols replaced, all at once; names that do not occur are ignored.

    ValueError if a replacement lies wholly outside the symbol's range; ZeroDivisionError if a
    divisor becomes the constant 0.
    """
    if not isinstance(dim, Dim):
        return _dimlike(dim)
    done: dict[_Atom, DimLike] = {}
    for atom in dim._symbols:
        if atom.name in values:
            value = _dimlike(values[atom.name])
            lower, upper = _intersect(bounds(value), atom.range)
            if lower is not None and upper is not None and lower > upper:
                raise ValueError(f"{value} is outside the range of {atom.name!r}: {atom.range}")
            done[atom] = value
    return _rebuild(dim, done) if done else dim


def _rebuild(dim: DimLike, done: dict[_Atom, DimLike]) -> DimLike:
    if not isinstance(dim, Dim):
        return dim
    parts: list[DimLike] = []
    for monomial, factor in dim._terms:
        term: DimLike = factor
        for atom in monomial:
            if atom not in done:
                done[atom] = _rebuild_atom(atom, done)
            term = _multiply(term, done[atom])
        parts.append(term)
    return _add_all(parts)


def _rebuild_atom(atom: _Atom, done: dict[_Atom, DimLike]) -> DimLike:
    if atom.symbols.isdisjoint(done):
        return _from_atom(atom)
    operands = tuple([_rebuild(operand, done) for operand in atom.operands])
    if atom.kind == "floor":
        return _floor_div(*operands)
    if atom.kind == "product":
        return _multiply(*operands)
    return _extreme(atom.kind, operands)


def evaluate(dim: DimLike, values: Mapping[str, int]) -> int:
    """Return the integer that *dim* is under an assignment of its symbols.

    KeyError names a missing symbol, ValueError one outside its range; ZeroDivisionError if a
    divisor is 0.
    """
    if not isinstance(dim, Dim):
        return operator.index(dim)
    done: dict[_Atom, int] = {}
    for atom in dim._symbols:
        if atom.name not in values:
            raise KeyError(atom.name)
        value = done[atom] = operator.index(values[atom.name])
        lower, upper = atom.range
        if (lower is not None and value < lower) or (upper is not None and value > upper):
            raise ValueError(f"{value} is outside the range of {atom.name!r}: {atom.range}")
    return _value(dim, done)


def _value(dim: DimLike, done: dict[_Atom, int]) -> int:
    total = 0
    for monomial, term in _terms(dim):
        for atom in monomial:
            value = done.get(atom)
            if value is None:
                args = [_value(operand, done) for operand in atom.operands]
                value = done[atom] = _INTEGER_OPERATIONS[atom.kind](*args)
            term *= value
        total += term
    return total


_INTEGER_OPERATIONS: Final[dict[str, Callable[..., int]]] = {
    "floor": operator.floordiv,
    "product": operator.mul,
    "min": min,
    "max": max,
}


# --- bounds -------------------------------------------------------------------------------------

_Bounder: TypeAlias = "Callable[[DimLike], Bounds]"


def bounds(dim: DimLike, env: Mapping[str, Bounds] | None = None) -> Bounds:
    """Return (lower, upper) bounds, inclusive, of every value *dim* can take; None is infinite.

    *env* narrows the ranges of symbols by name. The bounds are sound but not always tight.
    ValueError if *env* leaves a symbol of *dim* no value.
    """
    if not isinstance(dim, Dim):
        return dim, dim
    if not env:
        return _bounds_plain(dim)
    known: dict[_Atom, Bounds] = {}
    for atom in dim._symbols:
        known[atom] = _nonempty(atom.name, _intersect(atom.range, env.get(atom.name, _ANY)))
    seen: dict[Dim, Bounds] = {}

    def bound(part: DimLike) -> Bounds:
        if not isinstance(part, Dim):
            return part, part
        if part not in seen:
            seen[part] = _bounds_of(part, limit, _EFFORT)
        return seen[part]

    def limit(atom: _Atom) -> Bounds:
        if atom not in known:
            known[atom] = _atom_bounds(atom, bound)
        return known[atom]

    return bound(dim)


@lru_cache(maxsize=_CACHE)
def _bounds_plain(dim: Dim) -> Bounds:
    return _bounds_of(dim, _atom_range, _EFFORT)


_atom_range: Callable[[_Atom], Bounds] = operator.attrgetter("range")


def _intersect(left: Bounds, right: Bounds) -> Bounds:
    lower = left[0] if right[0] is None else right[0]
    upper = left[1] if right[1] is None else right[1]
    if left[0] is not None and lower is not None:
        lower = max(left[0], lower)
    if left[1] is not None and upper is not None:
        upper = min(left[1], upper)
    return lower, upper


def _interval_sum(left: Bounds, right: Bounds) -> Bounds:
    return (
        None if left[0] is None or right[0] is None else left[0] + right[0],
        None if left[1] is None or right[1] is None else left[1] + right[1],
    )


def _interval_scale(interval: Bounds, factor: int) -> Bounds:
    lower, upper = interval if factor > 0 else interval[::-1]
    return (
        None if lower is None else lower * factor,
        None if upper is None else upper * factor,
    )


def _interval_product(left: Bounds, right: Bounds) -> Bounds:
    (a, b), (c, d) = left, right
    if a is not None and c is not None and a > 0 and c > 0:
        return a * c, None if b is None or d is None else b * d
    finite: list[int] = []
    infinite: set[bool] = set()  # whether a positive, or a negative, corner is infinite
    for x, x_sign in ((a, -1), (b, 1)):
        for y, y_sign in ((c, -1), (d, 1)):
            if (x is not None and y is not None) or x == 0 or y == 0:
                finite.append((x or 0) * (y or 0))
            else:
                infinite.add((x_sign if x is None else x) * (y_sign if y is None else y) > 0)
    return (
        None if False in infinite else min(finite, default=None),
        None if True in infinite else max(finite, default=None),
    )


def _interval_quotient(left: Bounds, right: Bounds) -> Bounds:
    """Bound x//y, y not being 0."""
    (a, b), (c, d) = left, right
    if c == d == 0:
        return _ANY
    if d is not None and d <= 0:
        # a // b -> (-a) // (-b)
        left = _interval_scale(left, -1)
        return _interval_quotient(left, _interval_scale(right, -1))
    if c is None or c < 0:
        if a is None or b is None:
            return _ANY
        most = max(abs(a), abs(b))
        return -most, most
    c = max(c, 1)
    lower = upper = None
    if a is not None:
        lower = a // c if a < 0 else (0 if d is None else a // d)
    if b is not None:
        upper = b // c if b >= 0 else (-1 if d is None else b // d)
    return lower, upper


def _atom_bounds(atom: _Atom, bound: _Bounder) -> Bounds:
    if atom.kind == "symbol":
        return atom.range
    parts = [bound(operand) for operand in atom.operands]
    if atom.kind == "floor":
        return _interval_quotient(*parts)
    if atom.kind == "product":
        return _interval_product(*parts)
    lowers, uppers = [p[0] for p in parts], [p[1] for p in parts]
    if atom.kind == "min":
        return _hull_low(lowers), _least(uppers)
    return _greatest(lowers), _hull_high(uppers)


def _hull_low(values: list[int | None]) -> int | None:
    known = _finite(values)
    return min(known) if len(known) == len(values) else None


def _hull_high(values: list[int | None]) -> int | None:
    known = _finite(values)
    return max(known) if len(known) == len(values) else None


def _least(values: list[int | None]) -> int | None:
    return min(_finite(values), default=None)


def _greatest(values: list[int | None]) -> int | None:
    return max(_finite(values), default=None)


def _finite(values: list[int | None]) -> list[int]:
    return [value for value in values if value is not None]


def _monomial_bounds(monomial: _Monomial, limit: Callable[[_Atom], Bounds]) -> Bounds:
    result: Bounds = (1, 1)
    for atom in dict.fromkeys(monomial):
        power = monomial.count(atom)
        interval = limit(atom)
        base = (1, 1) if power > 1 else interval
        for _ in range(power if power > 1 else 0):
            base = _interval_product(base, interval)
        if power % 2 == 0 and (base[0] is None or base[0] < 0):
            base = 0, base[1]
        result = _interval_product(result, base)
    return result


def _bounds_of(dim: DimLike, limit: Callable[[_Atom], Bounds], effort: int) -> Bounds:
    if not isinstance(dim, Dim):
        return dim, dim
    total: Bounds = (0, 0)
    for monomial, factor in dim._terms:
        interval = limit(monomial[0]) if len(monomial) == 1 else _monomial_bounds(monomial, limit)
        total = _interval_sum(
            total, _interval_scale(interval, factor) if monomial else (factor, factor)
        )
    if effort == 0 or len(dim._terms) < 2 or (total[0] is not None and total[0] == total[1]):
        return total
    shared = dim._terms[-1][0]
    for monomial, _ in dim._terms:
        shared = tuple([atom for atom in shared if atom in monomial])
    if shared:
        # x*a + x*b -> x*(a + b)
        rest = _build({_without(m, shared[:1]) or (): c for m, c in dim._terms})
        factored = _interval_product(limit(shared[0]), _bounds_of(rest, limit, effort - 1))
        total = _intersect(total, factored)
    candidates = {a for m, _ in dim._terms for a in m if a.kind in {"floor", "min", "max"}}
    if len(dim._terms) <= _MAX_PAIRWISE:
        for atom in sorted(candidates, key=lambda a: (-a.size, a.key))[:_MAX_CHOICES]:
            try:
                refined = _bounds_without(dim, atom, limit, effort - 1)
            except OverflowError:  # an intermediate is too large: keep what is known
                continue
            total = _intersect(total, refined)
    return total


def _bounds_without(dim: Dim, atom: _Atom, limit: Callable[[_Atom], Bounds], effort: int) -> Bounds:
    """Bound *dim* == rest + slope*atom through what the definition of *atom* says."""
    rest: dict[_Monomial, int] = {}
    slopes: dict[_Monomial, int] = {}
    for monomial, c in dim._terms:
        cut = _without(monomial, (atom,))
        if cut is None:
            rest[monomial] = c
        elif atom in cut:
            return _ANY
        else:
            slopes[cut] = c
    base, slope = _build(rest), _build(slopes)
    low, high = _bounds_of(slope, limit, 0)
    rising, falling = low is not None and low >= 0, high is not None and high <= 0
    if atom.kind != "floor":
        cases = [
            _bounds_of(_add(base, _multiply(slope, operand)), limit, effort)
            for operand in atom.operands
        ]
        lowers, uppers = [c[0] for c in cases], [c[1] for c in cases]
        # min(a, b) is one of a and b, and no more than either
        at_most = (rising and atom.kind == "min") or (falling and atom.kind == "max")
        at_least = (rising and atom.kind == "max") or (falling and atom.kind == "min")
        return (
            _greatest(lowers) if at_least else _hull_low(lowers),
            _least(uppers) if at_most else _hull_high(uppers),
        )
    inner, divisor = atom.operands
    least = _bounds_of(divisor, limit, 1)[0]
    if not (rising or falling) or least is None or least < 0:
        return _ANY
    # b*(a//b) is a - r with 0 <= r <= b - 1
    scale, multiple = 1, divide_exact(slope, divisor)
    if multiple is None:
        if isinstance(divisor, Dim):
            return _ANY
        scale, multiple = divisor, slope
    full = _add(_scale(base, scale), _multiply(multiple, inner))
    short = _subtract(full, _multiply(multiple, _add(divisor, -1)))
    bottom, top = (short, full) if rising else (full, short)
    lower, upper = _bounds_of(bottom, limit, effort)[0], _bounds_of(top, limit, effort)[1]
    return (
        None if lower is None else -(-lower // scale),
        None if upper is None else upper // scale,
    )


def _bounds_of_difference(
    left: DimLike, right: DimLike, env: Mapping[str, Bounds] | None
) -> Bounds:
    try:
        return bounds(_subtract(_dimlike(left), _dimlike(right)), env)
    except OverflowError:
        return _ANY


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
    return known_less_equal(_add(_dimlike(left), 1), right, env)


# --- text ---------------------------------------------------------------------------------------

_MAX_TEXT: Final = 32_768
_MAX_DIGITS: Final = 100
_MAX_PARENTHESES: Final = 100  # what unparse writes for _MAX_DEPTH stays below
_FUNCTIONS: Final[dict[str, Callable[..., DimLike]]] = {
    "min": minimum,
    "max": maximum,
    "ceildiv": ceil_div,
}
_TOKEN: Final = re.compile(
    r"\s*(?:(?P<number>[0-9]+)|(?P<name>" + _IDENTIFIER.pattern + r")"
    r"|(?P<quoted>\{(?:[^}]|\}\})*\})|(?P<operator>//|[-+*%(),])|(?P<end>\Z))"
)


def unparse(dim: DimLike) -> str:
    """Return text that :func:`parse` reads back, in Python's syntax.

    It is ``str(dim)``, save that a lone symbol whose name is no identifier stands in braces.
    Ranges of symbols are not part of the text.
    """
    if not isinstance(dim, Dim):
        return str(dim)
    if dim._text is None:
        object.__setattr__(dim, "_text", _sum_text(dim._terms))
    assert dim._text is not None
    return dim._text


def _sum_text(terms: _Terms) -> str:
    # -N + 3 -> 3 - N
    first = next((i for i, term in enumerate(terms) if term[1] > 0), 0)
    text = ""
    for monomial, factor in (terms[first], *terms[:first], *terms[first + 1 :]):
        sign = ("-" if factor < 0 else "") if not text else (" - " if factor < 0 else " + ")
        parts = [str(abs(factor))] if abs(factor) != 1 or not monomial else []
        alone = not parts and len(monomial) == 1 and sign != "-"
        for atom in monomial:
            bare = alone or atom.kind in {"symbol", "min", "max"}
            parts.append(atom.key[1] if bare else f"({atom.key[1]})")
        text += sign + "*".join(parts)
    return text


def _atom_text(atom: _Atom) -> str:
    if atom.kind == "symbol":
        plain = _IDENTIFIER.fullmatch(atom.name) and atom.name not in _RANK
        return atom.name if plain else "{" + atom.name.replace("}", "}}") + "}"
    if atom.kind in {"min", "max"}:
        return f"{atom.kind}({', '.join(map(unparse, atom.operands))})"
    joint = "//" if atom.kind == "floor" else "*"
    return joint.join(map(_factor_text, atom.operands))


def _factor_text(dim: DimLike) -> str:
    atom = _as_atom(dim)
    bare = atom.kind in {"symbol", "min", "max"} if atom else not isinstance(dim, Dim) and dim >= 0
    return unparse(dim) if bare else f"({unparse(dim)})"


def parse(text: str, ranges: Mapping[str, Bounds] | None = None) -> DimLike:
    """Read an expression: ``+ - * // %``, unary minus, parentheses, min, max, ceildiv, names.

    Names are dotted identifiers, or any text in braces with ``}`` doubled. *ranges* gives the
    ranges of symbols by name; others are >= 0. ValueError, with the position, if the text is
    malformed or too long, too deep or too large an expression.
    """
    return _Parser(text, ranges or {}).parse()


class _Parser:
    """Recursive descent over the tokens of one text."""

    def __init__(self, text: str, ranges: Mapping[str, Bounds]) -> None:
        self.text, self.ranges = text, ranges
        self.position = self.depth = 0
        self.lexeme, self.kind = "", ""

    def parse(self) -> DimLike:
        if len(self.text) > _MAX_TEXT:
            raise self.error(f"more than {_MAX_TEXT} characters")
        try:
            self.advance()
            result = self.sum()
        except (ZeroDivisionError, OverflowError) as problem:
            raise self.error(str(problem)) from problem
        if self.kind != "end":
            raise self.error(f"unexpected {self.lexeme!r}")
        return result

    def error(self, problem: str) -> ValueError:
        return ValueError(f"dimension {self.text[:80]!r}, position {self.position}: {problem}")

    def advance(self) -> str:
        """Step to the next token and return the one left behind."""
        before = self.lexeme
        self.position += len(before)
        found = _TOKEN.match(self.text, self.position)
        if found is None or found.lastgroup is None:
            self.position = len(self.text) - len(self.text[self.position :].lstrip())
            raise self.error(f"unexpected {self.text[self.position]!r}")
        self.kind, self.lexeme = found.lastgroup, found[found.lastgroup]
        self.position = found.start(found.lastgroup)
        return before

    def expect(self, token: str) -> None:
        if self.lexeme != token:
            raise self.error(f"expected {token!r}, found {self.lexeme!r}")
        self.advance()

    def sum(self) -> DimLike:
        self.depth += 1
        if self.depth > _MAX_PARENTHESES:
            raise self.error(f"more than {_MAX_PARENTHESES} levels deep")
        parts = [self.product()]
        while self.lexeme in {"+", "-"}:
            sign = 1 if self.advance() == "+" else -1
            parts.append(_scale(self.product(), sign))
        self.depth -= 1
        return _add_all(parts)

    def product(self) -> DimLike:
        result = self.factor()
        while self.lexeme in {"*", "//", "%"}:
            apply = {"*": _multiply, "//": _floor_div, "%": _modulo}[self.advance()]
            result = apply(result, self.factor())
        return result

    def factor(self) -> DimLike:
        sign = 1
        while self.lexeme in {"+", "-"}:
            sign = -sign if self.advance() == "-" else sign
        return _scale(self.primary(), sign)

    def primary(self) -> DimLike:
        kind = self.kind
        if kind == "number":
            if len(self.lexeme) > _MAX_DIGITS:
                raise self.error(f"a number of more than {_MAX_DIGITS} digits")
            return int(self.advance())
        if kind == "name":
            name = self.advance()
            return self.call(name) if self.lexeme == "(" else self.named(name)
        if kind == "quoted":
            return self.named(self.advance()[1:-1].replace("}}", "}"))
        self.expect("(")
        result = self.sum()
        self.expect(")")
        return result

    def named(self, name: str) -> DimLike:
        return symbol(name, *self.ranges.get(name, (0, None)))

    def call(self, name: str) -> DimLike:
        if name not in _FUNCTIONS:
            raise self.error(f"unknown function {name!r}")
        self.advance()
        args = [self.sum()]
        while self.lexeme == ",":
            self.advance()
            args.append(self.sum())
        self.expect(")")
        if name == "ceildiv" and len(args) != 2:
            raise self.error(f"ceildiv takes 2 arguments, not {len(args)}")
        return _FUNCTIONS[name](*args)
