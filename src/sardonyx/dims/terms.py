# ruff: noqa: SLF001 - the functions here are the implementation of Dim
"""Atoms and dims: what a symbolic dimension consists of, and its canonical form.

A dim is a sum of monomials with integer coefficients; a monomial is a product of atoms.
"""

from __future__ import annotations

import operator
from functools import lru_cache
from numbers import Integral
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeAlias, Union

from sardonyx.dims.intervals import ANY, Bounds, nonempty

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

DimLike: TypeAlias = Union[int, "Dim"]
Monomial: TypeAlias = "tuple[Atom, ...]"  # sorted by key; a power repeats its atom
Terms: TypeAlias = "tuple[tuple[Monomial, int], ...]"  # graded lexicographic, constant last

CACHE: Final = 4096
MAX_NODES: Final = 2048  # symbols and operations in one expression
MAX_DEPTH: Final = 48  # nested divisions, minima and maxima
MAX_NUMBER: Final = 1 << 1024
RANK: Final = {"symbol": 0, "floor": 1, "min": 2, "max": 3, "product": 4, "broadcast": 5}


class Operations:
    """What Dim and Atom need of the modules that build on them; the package fills it in.

    Arithmetic, bounds and substitution are mutually recursive. Each module imports only those
    before it and reaches the later ones through the operators and methods of Dim.
    """

    add: Callable[[DimLike, DimLike], DimLike]
    subtract: Callable[[DimLike, DimLike], DimLike]
    multiply: Callable[[DimLike, DimLike], DimLike]
    floor_div: Callable[[DimLike, DimLike], DimLike]
    modulo: Callable[[DimLike, DimLike], DimLike]
    substitute: Callable[[DimLike, Mapping[str, DimLike]], DimLike]
    evaluate: Callable[[DimLike, Mapping[str, int]], int]
    dim_text: Callable[[Dim], str]
    atom_text: Callable[[Atom], str]
    atom_range: Callable[[Atom], Bounds]


operations: Final = Operations()


class Atom:
    """An indivisible factor: a symbol, or an operation on expressions."""

    __slots__ = ("depth", "hash", "key", "kind", "name", "operands", "range", "size", "symbols")

    def __init__(
        self, kind: str, operands: tuple[DimLike, ...], name: str = "", limits: Bounds = ANY
    ) -> None:
        self.kind = kind
        self.operands = operands
        self.name = name
        self.hash = hash((kind, operands, name, limits))
        self.size, self.depth = 1, 0
        self.symbols: frozenset[Atom] = frozenset((self,)) if kind == "symbol" else frozenset()
        for operand in operands:
            if isinstance(operand, Dim):
                self.size += operand._size
                self.depth = max(self.depth, operand._depth + 1)
                self.symbols |= operand._symbols
            else:
                self.size += 1
                _check_number(operand)
        _check_size(self.size, self.depth)
        self.key = (RANK[kind], operations.atom_text(self))
        self.range = limits if kind == "symbol" else operations.atom_range(self)

    def __hash__(self) -> int:
        return self.hash

    def __eq__(self, other: object) -> bool:
        return self is other or (
            isinstance(other, Atom)
            and self.hash == other.hash
            and self.key == other.key
            and self.operands == other.operands
            and self.range == other.range
        )

    def __reduce__(self) -> tuple[Any, ...]:
        limits = self.range if self.kind == "symbol" else ANY
        return Atom, (self.kind, self.operands, self.name, limits)


class Dim:
    """An immutable symbolic integer; made by :func:`symbol`, :func:`parse` and operators.

    ``+ - * // %`` take ints and other dims on either side, with Python's floor semantics, and
    give an ``int`` when the result is constant. ``==`` compares canonical forms and is always a
    ``bool``. Ordering, ``bool()`` and ``int()`` raise TypeError, so that nothing branches on a
    symbolic value unawares. An expression past 2048 nodes, 48 nested operations, degree
    128 or coefficients of 1024 bits raises OverflowError; a fresh symbol can then stand for it.
    """

    __slots__ = ("_depth", "_hash", "_size", "_symbols", "_terms", "_text")

    _terms: Terms
    _hash: int
    _size: int
    _depth: int
    _symbols: frozenset[Atom]
    _text: str | None

    def __init__(self, terms: Terms) -> None:
        size, depth = 0, 0
        found: frozenset[Atom] = frozenset()
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
        return NotImplemented if right is None else operations.add(self, right)

    __radd__ = __add__

    def __sub__(self, other: DimLike) -> DimLike:
        right = _operand(other)
        return NotImplemented if right is None else operations.subtract(self, right)

    def __rsub__(self, other: DimLike) -> DimLike:
        left = _operand(other)
        return NotImplemented if left is None else operations.subtract(left, self)

    def __neg__(self) -> DimLike:
        return scale(self, -1)

    def __mul__(self, other: DimLike) -> DimLike:
        right = _operand(other)
        return NotImplemented if right is None else operations.multiply(self, right)

    __rmul__ = __mul__

    def __floordiv__(self, other: DimLike) -> DimLike:
        right = _operand(other)
        return NotImplemented if right is None else operations.floor_div(self, right)

    def __rfloordiv__(self, other: DimLike) -> DimLike:
        left = _operand(other)
        return NotImplemented if left is None else operations.floor_div(left, self)

    def __mod__(self, other: DimLike) -> DimLike:
        right = _operand(other)
        return NotImplemented if right is None else operations.modulo(self, right)

    def __rmod__(self, other: DimLike) -> DimLike:
        left = _operand(other)
        return NotImplemented if left is None else operations.modulo(left, self)

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
        atom = as_atom(self)
        return atom.name if atom is not None and atom.kind == "symbol" else unparse(self)

    def __repr__(self) -> str:
        return f"Dim({unparse(self)!r})"

    def __format__(self, spec: str) -> str:
        return format(str(self), spec)

    def substitute(self, values: Mapping[str, DimLike]) -> DimLike:
        """Return this expression with symbols replaced; see :func:`substitute`."""
        return operations.substitute(self, values)

    def evaluate(self, values: Mapping[str, int]) -> int:
        """Return the value under an assignment; see :func:`evaluate`."""
        return operations.evaluate(self, values)


def symbol(name: str, lower: int | None = 0, upper: int | None = None) -> Dim:
    """Return the symbol *name*, an integer in [lower, upper]; None leaves a side open.

    The name is the identity: where expressions that give one name different ranges are combined,
    the symbol gets the intersection. The range is knowledge that a Dim carries, and ``==``
    compares it too; :func:`known_equal` does not. ValueError if the range is empty.
    """
    if not isinstance(name, str):
        raise TypeError(f"a symbol's name is a string, not {type(name).__name__}")
    lower = None if lower is None else operator.index(lower)
    upper = None if upper is None else operator.index(upper)
    return _symbol(name, nonempty(name, (lower, upper)))


@lru_cache(maxsize=CACHE)
def _symbol(name: str, limits: Bounds) -> Dim:
    return from_atom(Atom("symbol", (), name, limits))


def symbols(dim: DimLike) -> frozenset[str]:
    """Return the names of the symbols in *dim*."""
    return frozenset([atom.name for atom in symbol_atoms(dim)])


def symbol_atoms(dim: DimLike) -> frozenset[Atom]:
    """Return the symbols in *dim* as atoms."""
    return dim._symbols if isinstance(dim, Dim) else frozenset()


def unparse(dim: DimLike) -> str:
    """Return text that :func:`parse` reads back, in Python's syntax.

    It is ``str(dim)``, save that a lone symbol whose name is no identifier stands in braces.
    Ranges of symbols are not part of the text.
    """
    if not isinstance(dim, Dim):
        return str(dim)
    if dim._text is None:
        object.__setattr__(dim, "_text", operations.dim_text(dim))
    assert dim._text is not None
    return dim._text


def _operand(value: object) -> DimLike | None:
    if type(value) is int or isinstance(value, Dim):
        return value
    return int(value) if isinstance(value, Integral) else None


def dimlike(value: object) -> DimLike:
    """Return *value* as an int or a Dim; TypeError if it is neither."""
    dim = _operand(value)
    if dim is None:
        raise TypeError(f"expected an int or a Dim, not {type(value).__name__}")
    return dim


def _check_size(size: int, depth: int) -> None:
    if size > MAX_NODES or depth > MAX_DEPTH:
        raise OverflowError(
            f"a symbolic dimension exceeds {MAX_NODES} nodes or {MAX_DEPTH} nested operations"
        )


def _check_number(value: int) -> None:
    if not -MAX_NUMBER < value < MAX_NUMBER:
        raise OverflowError("a number in a symbolic dimension exceeds 1024 bits")


def terms(dim: DimLike) -> Terms:
    """Return the terms of *dim* in canonical order; none for 0."""
    if isinstance(dim, Dim):
        return dim._terms
    return (((), dim),) if dim else ()


def constant_term(dim: DimLike) -> int:
    """Return the coefficient of the empty monomial."""
    if not isinstance(dim, Dim):
        return dim
    monomial, factor = dim._terms[-1]
    return 0 if monomial else factor


def monomial_key(monomial: Monomial) -> tuple[int, list[tuple[int, str]]]:
    """Return what canonical order sorts by: falling degree, then the atoms."""
    return -len(monomial), [atom.key for atom in monomial]


def build(sums: dict[Monomial, int]) -> DimLike:
    """Return the canonical value of monomial -> coefficient."""
    found = [term for term in sums.items() if term[1]]
    if not found:
        return 0
    if len(found) > 1:
        found.sort(key=lambda term: monomial_key(term[0]))
    elif not found[0][0]:
        return found[0][1]
    return Dim(tuple(found))


def scale(dim: DimLike, factor: int) -> DimLike:
    """Return dim*factor."""
    if not isinstance(dim, Dim):
        return dim * factor
    if factor == 1:
        return dim
    return Dim(tuple([(monomial, c * factor) for monomial, c in dim._terms])) if factor else 0


def shrink(dim: DimLike, divisor: int) -> DimLike:
    """Return dim/divisor, each coefficient being a multiple of *divisor*."""
    if not isinstance(dim, Dim):
        return dim // divisor
    if divisor == 1:
        return dim
    return Dim(tuple([(monomial, c // divisor) for monomial, c in dim._terms]))


def from_atom(atom: Atom) -> Dim:
    """Return the dim that consists of *atom*."""
    return Dim((((atom,), 1),))


def as_atom(dim: DimLike, kind: str | None = None) -> Atom | None:
    """Return the atom, of the *kind* if given, that *dim* consists of, or None."""
    if isinstance(dim, Dim) and len(dim._terms) == 1:
        monomial, factor = dim._terms[0]
        if factor == 1 and len(monomial) == 1 and kind in (None, monomial[0].kind):
            return monomial[0]
    return None
