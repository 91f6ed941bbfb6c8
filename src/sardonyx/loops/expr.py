"""Expressions of the loop IR: what one element is computed from.

Expressions are data. Equal ones are one object (they are interned), so identity is equality and
a table keyed by expression is exact; a tree may share parts, so walks are memoized.

::

    Const(value, dtype)              a number
    Axis(name)                       a loop counter, INT64
    Linear(constant, terms)          an integer: constant + sum of coefficient * term
    Load(buffer, indices, dtype)     an element of a buffer
    Ref(name, dtype)                 a scalar that a statement names
    Apply(op, args, dtype)           a scalar operation, see `scalars`

Coefficients and the constant of a `Linear` are ints or symbolic dims, its terms axes and other
integer expressions: strides, slices, flips and broadcasts are all linear, and a coefficient
says at once whether a vector of neighbours is contiguous, one element, or strided.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias
from weakref import WeakValueDictionary

from sardonyx.dims import Dim
from sardonyx.dtypes import INT64

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Hashable, Iterable, Iterator, Mapping

    from sardonyx.dims import DimLike
    from sardonyx.dtypes import DType

__all__ = [
    "Apply",
    "Axis",
    "Const",
    "Expr",
    "Index",
    "Linear",
    "Load",
    "Ref",
    "coefficient",
    "cost",
    "index",
    "leaves",
    "linear",
    "loads",
    "rebuild",
    "substitute",
    "walk",
    "walk_new",
]

_INTERNED: WeakValueDictionary[tuple[Any, ...], Expr] = WeakValueDictionary()


Number: TypeAlias = "int | float"


class Expr:
    """Base of all expressions.

    `dtype` is the type of its value, `children` are the expressions directly inside.
    """

    __slots__ = ("__weakref__", "children", "dtype", "key", "known_cost", "known_loads")

    known_loads: tuple[Load, ...] | None
    known_cost: int
    children: tuple[Expr, ...]
    dtype: DType
    key: tuple[Any, ...]

    @classmethod
    def _intern(cls, *key: Any) -> Any:
        whole = (cls, *key)
        found = _INTERNED.get(whole)
        if found is None:
            found = object.__new__(cls)
            found.key = key
            found.known_loads = None
            found.known_cost = 0
            found.children = ()
            found._set(*key)
            # Of two threads that make one expression at once, the first one's object wins.
            found = _INTERNED.setdefault(whole, found)
        return found

    def _set(self, *key: Any) -> None:
        raise NotImplementedError

    def __repr__(self) -> str:
        from sardonyx.loops.printer import text

        return text(self)

    def __reduce__(self) -> Any:
        return (type(self), self.key)


class Const(Expr):
    """A number; floats are told apart by their bits, so -0.0 and NaN keep theirs."""

    __slots__ = ("value",)

    value: Number

    def __new__(cls, value: Number, dtype: DType) -> Const:
        spelling = value.hex() if isinstance(value, float) else int(value)
        return cls._intern(spelling, dtype)  # type: ignore[no-any-return]

    def _set(self, spelling: str | int, dtype: DType) -> None:
        self.dtype = dtype
        self.value = float.fromhex(spelling) if isinstance(spelling, str) else spelling

    def __reduce__(self) -> Any:
        return (Const, (self.value, self.dtype))


class Axis(Expr):
    """A loop counter."""

    __slots__ = ("name",)

    name: str

    def __new__(cls, name: str) -> Axis:
        return cls._intern(name)  # type: ignore[no-any-return]

    def _set(self, name: str) -> None:
        self.name = name
        self.dtype = INT64


class Ref(Expr):
    """The scalar called `name`: a variable's value after the loop that fills it."""

    __slots__ = ("name",)

    name: str

    def __new__(cls, name: str, dtype: DType) -> Ref:
        return cls._intern(name, dtype)  # type: ignore[no-any-return]

    def _set(self, name: str, dtype: DType) -> None:
        self.name = name
        self.dtype = dtype


class Linear(Expr):
    """``constant + sum(coefficient * term)``; made by `linear`, which keeps it canonical."""

    __slots__ = ("constant", "terms")

    constant: DimLike
    terms: tuple[tuple[Expr, DimLike], ...]

    def __new__(cls, constant: DimLike, terms: tuple[tuple[Expr, DimLike], ...]) -> Linear:
        return cls._intern(constant, terms)  # type: ignore[no-any-return]

    def _set(self, constant: DimLike, terms: tuple[tuple[Expr, DimLike], ...]) -> None:
        self.dtype = INT64
        self.constant = constant
        self.terms = terms
        self.children = tuple([term for term, _ in terms])

    def __add__(self, other: Index) -> Linear:
        return linear((self, 1), (other, 1))

    def __mul__(self, factor: DimLike) -> Linear:
        return linear((self, factor))


class Load(Expr):
    """The element of `buffer` at `indices`, one for each of its dimensions."""

    __slots__ = ("buffer", "indices")

    buffer: Hashable
    indices: tuple[Linear, ...]

    def __new__(cls, buffer: Hashable, indices: Iterable[Index], dtype: DType) -> Load:
        return cls._intern(buffer, tuple(map(index, indices)), dtype)  # type: ignore[no-any-return]

    def _set(self, buffer: Hashable, indices: tuple[Linear, ...], dtype: DType) -> None:
        self.buffer = buffer
        self.indices = indices
        self.dtype = dtype
        self.children = indices


class Apply(Expr):
    """The scalar operation `op` on `args`."""

    __slots__ = ("args", "op")

    op: str
    args: tuple[Expr, ...]

    def __new__(cls, op: str, args: Iterable[Expr], dtype: DType) -> Apply:
        return cls._intern(op, tuple(args), dtype)  # type: ignore[no-any-return]

    def _set(self, op: str, args: tuple[Expr, ...], dtype: DType) -> None:
        self.op = op
        self.args = args
        self.dtype = dtype
        self.children = args


Index: TypeAlias = "Expr | int | Dim"


def index(value: Index) -> Linear:
    """`value` as an index."""
    if isinstance(value, Linear):
        return value
    if isinstance(value, (int, Dim, Const)):
        return linear((value, 1))
    return Linear(0, ((value, 1),))


def linear(*parts: tuple[Index, DimLike]) -> Linear:
    """The sum of value * coefficient over `parts`, in canonical form."""
    constant: DimLike = 0
    found: dict[Expr, DimLike] = {}
    for value, factor in parts:
        if isinstance(value, Const):
            value = int(value.value)
        if isinstance(value, (int, Dim)):
            constant = constant + value * factor
            continue
        pieces: Iterable[tuple[Expr, DimLike]] = ((value, 1),)
        if isinstance(value, Linear):
            constant = constant + value.constant * factor
            pieces = value.terms
        for term, coefficient_ in pieces:
            found[term] = found.get(term, 0) + coefficient_ * factor
    terms = [(term, factor) for term, factor in found.items() if factor != 0]
    terms.sort(key=_term_order)
    return Linear(constant, tuple(terms))


def _term_order(item: tuple[Expr, DimLike]) -> tuple[int, str]:
    term = item[0]
    return (0, term.name) if isinstance(term, Axis) else (1, repr(term))


def coefficient(expr: Expr, axis: Axis) -> DimLike | None:
    """By how much the integer `expr` grows with each step of `axis`; None if not by a constant."""
    if expr is axis:
        return 1
    if isinstance(expr, Linear):
        found: DimLike = 0
        for term, factor in expr.terms:
            if term is axis:
                found = factor
            elif axis in leaves(term, Axis):
                return None
        return found
    return None if axis in leaves(expr, Axis) else 0


def leaves(expr: Expr, kind: type[Expr]) -> set[Expr]:
    """All expressions of class `kind` within `expr`."""
    return {part for part in walk(expr) if isinstance(part, kind)}


def loads(*exprs: Expr) -> list[Load]:
    """All loads within `exprs`, each once, in order of appearance."""
    found: dict[Load, None] = {}
    for expr in exprs:
        found.update(dict.fromkeys(_loads(expr)))
    return list(found)


def _loads(expr: Expr) -> tuple[Load, ...]:
    if expr.known_loads is None:
        stack = [expr]
        while stack:
            part = stack[-1]
            unknown = [child for child in part.children if child.known_loads is None]
            if unknown:
                stack += reversed(unknown)
                continue
            stack.pop()
            found: dict[Load, None] = {}
            for child in part.children:
                found.update(dict.fromkeys(child.known_loads or ()))
            if isinstance(part, Load):
                found[part] = None
            part.known_loads = tuple(found)
    assert expr.known_loads is not None
    return expr.known_loads


_HEAVY = {"div": 4, "sqrt": 4, "rem": 8}


def cost(*exprs: Expr) -> int:
    """How many operations computing `exprs` takes, about; shared parts count for each of them."""
    total = 0
    for expr in exprs:
        if not expr.known_cost:
            expr.known_cost = 1 + _cost(expr)
        total += expr.known_cost - 1
    return total


def _cost(expr: Expr) -> int:
    total = 0
    seen = {expr}
    stack = [expr]
    while stack:
        part = stack.pop()
        if isinstance(part, Apply):
            total += _HEAVY.get(part.op, 1)
        elif isinstance(part, Load):
            total += 1
        for child in part.children:
            if child not in seen:
                seen.add(child)
                stack.append(child)
    return total


def walk(*exprs: Expr) -> Iterator[Expr]:
    """Every expression within, each once, parts before wholes."""
    seen: set[Expr] = set()
    for expr in exprs:
        for part in walk_new(expr, seen):
            seen.add(part)
            yield part


def walk_new(expr: Expr, known: Container[Expr]) -> Iterator[Expr]:
    """Every expression within that is not in `known`, parts before wholes.

    Whoever walks adds each to `known` before asking for the next.
    """
    stack = [(expr, False)]
    while stack:
        part, ready = stack.pop()
        if part in known:
            continue
        if ready or not part.children:
            yield part
        else:
            stack.append((part, True))
            stack.extend((child, False) for child in reversed(part.children))


def rebuild(expr: Expr, children: list[Expr]) -> Expr:
    """`expr` with other children."""
    if isinstance(expr, Apply):
        return Apply(expr.op, children, expr.dtype)
    if isinstance(expr, Load):
        return Load(expr.buffer, children, expr.dtype)
    if isinstance(expr, Linear):
        factors = (factor for _, factor in expr.terms)
        return linear((expr.constant, 1), *zip(children, factors, strict=True))
    return expr


def substitute(
    expr: Expr,
    replace: Callable[[Expr], Expr | None] | Mapping[Expr, Expr],
    memo: dict[Expr, Expr] | None = None,
) -> Expr:
    """`expr` with every part for which `replace` has another one replaced, innermost first."""
    get = replace if callable(replace) else replace.get
    done: dict[Expr, Expr] = {} if memo is None else memo
    stack = [expr]
    while stack:
        part = stack[-1]
        if part in done:
            stack.pop()
            continue
        waiting = [child for child in part.children if child not in done]
        if waiting:
            stack += waiting
            continue
        stack.pop()
        new = part
        for child in part.children:
            if done[child] is not child:
                new = rebuild(part, [done[each] for each in part.children])
                break
        other = get(new)
        done[part] = new if other is None else other
    return done[expr]
