"""Statements and kernels of the loop IR.

::

    For(axis, extent, body, mode)        mode: serial, parallel, vector or unroll
    Var(name, dtype, start)              a scalar that `Accumulate` changes and `Ref` reads
    Accumulate(name, op, value)          name = op(name, value); op is add, mul, min, max ...
    Let(name, value)                     names a value for the rest of the block
    Local(name, dtype, shape)            a scratch buffer; of constant size unless `rows` says
    Store(buffer, indices, value)        writes one element
    Prefetch(buffer, indices)            asks for what will be read before long
    If(condition, then, otherwise)

A `Kernel` is a name, its parameters and its body. Its outermost loop may be parallel: then a call
does the part of that loop between two bounds, and calls for disjoint parts may run at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, TypeAlias

from sardonyx.loops.expr import Const, Linear, index

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator

    from sardonyx.dims import DimLike
    from sardonyx.dtypes import DType
    from sardonyx.loops.expr import Axis, Expr

__all__ = [
    "Accumulate",
    "Block",
    "For",
    "If",
    "Kernel",
    "Let",
    "Local",
    "Param",
    "Prefetch",
    "Scheduled",
    "Stmt",
    "Store",
    "Var",
    "expressions",
    "fixed_extent",
    "is_flat",
    "is_on_stack",
    "mapped",
    "statements",
]


@dataclass(frozen=True, eq=False, slots=True)
class For:
    """`body` for each value of `axis` from 0 to `extent` - 1."""

    axis: Axis
    extent: Expr
    body: Block
    mode: str = "serial"


@dataclass(frozen=True, eq=False, slots=True)
class Var:
    """A scalar variable and its first value, the neutral element of what accumulates in it."""

    name: str
    dtype: DType
    start: Expr


@dataclass(frozen=True, eq=False, slots=True)
class Accumulate:
    """``name = op(name, value)``; the order over a vector loop is not fixed."""

    name: str
    op: str
    value: Expr


@dataclass(frozen=True, eq=False, slots=True)
class Let:
    """A name for `value`."""

    name: str
    value: Expr


@dataclass(frozen=True, eq=False, slots=True)
class Local:
    """A buffer that lives as long as the block.

    In registers or on the stack if its size is constant and small, else in the scratch memory of
    the call.
    """

    name: str
    dtype: DType
    shape: tuple[DimLike, ...]


ON_STACK: Final = 16 * 1024
"""Bytes up to which a buffer of constant size lies on the stack."""


def is_on_stack(local: Local) -> bool:
    """Whether a buffer needs no scratch memory."""
    (count,) = local.shape
    return isinstance(count, int) and count * max(local.dtype.bits // 8, 1) <= ON_STACK


@dataclass(frozen=True, eq=False, slots=True)
class Store:
    """``buffer[indices] = value``.

    What `is_streamed` goes to memory past the caches, in which nobody will look for it soon.
    """

    buffer: Hashable
    indices: tuple[Linear, ...]
    value: Expr
    is_streamed: bool = False


@dataclass(frozen=True, eq=False, slots=True)
class Prefetch:
    """A hint, in a vector loop: the cache lines around ``buffer[indices]`` will be read soon.

    The place may be past the end of the buffer. Nothing is computed.
    """

    buffer: Hashable
    indices: tuple[Linear, ...]


@dataclass(frozen=True, eq=False, slots=True)
class If:
    """`then` where the BOOL `condition` holds, else `otherwise`."""

    condition: Expr
    then: Block
    otherwise: Block = ()


Stmt: TypeAlias = For | Var | Accumulate | Let | Local | Store | Prefetch | If
Block: TypeAlias = tuple[Stmt, ...]


@dataclass(frozen=True, eq=False, slots=True)
class Param:
    """A buffer that a kernel is given: contiguous, row by row."""

    name: str
    dtype: DType
    shape: tuple[DimLike, ...]
    written: bool = False


@dataclass(frozen=True, eq=False, slots=True, repr=False)
class Kernel:
    """A loop nest with its buffers; what is symbolic in it are the size parameters."""

    name: str
    params: tuple[Param, ...]
    sizes: tuple[str, ...]
    body: Block
    options: tuple[tuple[str, int], ...] = field(default=())

    def __repr__(self) -> str:
        return f"<Kernel {self.name}>"


@dataclass(frozen=True, slots=True)
class Scheduled:
    """The loops of a nest: the steps of the outermost one, and the work in each."""

    body: Block
    extent: DimLike
    work: DimLike


def statements(block: Block) -> Iterator[Stmt]:
    """Every statement in `block`, outer before inner."""
    for stmt in block:
        yield stmt
        if isinstance(stmt, For):
            yield from statements(stmt.body)
        elif isinstance(stmt, If):
            yield from statements(stmt.then)
            yield from statements(stmt.otherwise)


def fixed_extent(loop: For) -> int | None:
    """How many steps a loop has, if that is a constant."""
    extent = loop.extent
    if isinstance(extent, Const):
        return int(extent.value)
    if isinstance(extent, Linear) and not extent.terms and isinstance(extent.constant, int):
        return extent.constant
    return None


def is_flat(loop: For) -> bool:
    """Whether a loop holds no loop, branch or buffer: then a parallel one is a vector loop too."""
    return not any(isinstance(stmt, (For, If, Local)) for stmt in statements(loop.body))


def expressions(stmt: Stmt) -> tuple[Expr, ...]:
    """The expressions directly in a statement."""
    if isinstance(stmt, For):
        return (stmt.extent,)
    if isinstance(stmt, Var):
        return (stmt.start,)
    if isinstance(stmt, (Accumulate, Let)):
        return (stmt.value,)
    if isinstance(stmt, Store):
        return (*stmt.indices, stmt.value)
    if isinstance(stmt, Prefetch):
        return stmt.indices
    return (stmt.condition,) if isinstance(stmt, If) else ()


def mapped(block: Block, change: Callable[[Expr], Expr]) -> Block:
    """The statements of `block` with each of their expressions changed."""
    return tuple(_changed(stmt, change) for stmt in block)


def _changed(stmt: Stmt, change: Callable[[Expr], Expr]) -> Stmt:
    if isinstance(stmt, For):
        return replace(stmt, extent=change(stmt.extent), body=mapped(stmt.body, change))
    if isinstance(stmt, If):
        then, otherwise = mapped(stmt.then, change), mapped(stmt.otherwise, change)
        return If(change(stmt.condition), then, otherwise)
    if isinstance(stmt, Var):
        return replace(stmt, start=change(stmt.start))
    if isinstance(stmt, (Accumulate, Let)):
        return replace(stmt, value=change(stmt.value))
    if isinstance(stmt, Store):
        where = tuple(index(change(position)) for position in stmt.indices)
        return replace(stmt, indices=where, value=change(stmt.value))
    if isinstance(stmt, Prefetch):
        return replace(stmt, indices=tuple(index(change(place)) for place in stmt.indices))
    return stmt
