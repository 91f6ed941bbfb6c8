"""From a loop nest over a model's values to a kernel of its own: flat offsets, named sizes.

A finished kernel says nothing about the model that it was made for. Its buffers are one-dimensional
and numbered, its symbolic sizes are `s0`, `s1` …, so that layers of a model share one kernel, and
its text is its identity. A `Launch` says what a kernel is called with.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING

from sardonyx.dims import Dim, symbol
from sardonyx.errors import quote
from sardonyx.loops.check import KernelError
from sardonyx.loops.expr import Axis, Expr, Linear, Load, Ref, index, linear, rebuild
from sardonyx.loops.kernel import (
    Accumulate,
    For,
    If,
    Kernel,
    Let,
    Local,
    Param,
    Prefetch,
    Store,
    Var,
    is_on_stack,
    statements,
)
from sardonyx.loops.printer import kernel_text
from sardonyx.schedule.launch import Launch

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from sardonyx.dims import DimLike
    from sardonyx.dtypes import DType
    from sardonyx.loops.kernel import Block, Stmt

__all__ = ["finish", "flat_offset", "strides"]


def strides(shape: Sequence[DimLike]) -> tuple[DimLike, ...]:
    """How many elements apart neighbours along each dimension lie, row by row."""
    found: list[DimLike] = []
    step: DimLike = 1
    for dim in reversed(shape):
        found.append(step)
        step = step * dim
    return tuple(reversed(found))


def flat_offset(indices: Sequence[Linear], shape: Sequence[DimLike]) -> Linear:
    """The position of the element at `indices` in a buffer that lies row by row."""
    return linear(*zip(indices, strides(shape), strict=True))


def finish(
    body: Block,
    shape_of: Callable[[Hashable], tuple[DimLike, ...]],
    dtype_of: Callable[[Hashable], DType],
    *,
    label: str,
    extent: DimLike,
    work: DimLike,
    flops: DimLike = 0,
) -> Launch:
    """The kernel of `body`, whose loads and stores name values, and the call of it.

    Raises KernelError where an element is loaded or stored as another type than its buffer holds.
    """
    local: dict[Hashable, DType] = {
        stmt.name: stmt.dtype for stmt in statements(body) if isinstance(stmt, Local)
    }
    return _Finisher(shape_of, dtype_of, local, label).launch(body, extent, work, flops)


class _Finisher:
    def __init__(
        self,
        shape_of: Callable[[Hashable], tuple[DimLike, ...]],
        dtype_of: Callable[[Hashable], DType],
        local: dict[Hashable, DType],
        label: str,
    ) -> None:
        self.shape_of = shape_of
        self.dtype_of = dtype_of
        self.local = local
        self.label = label
        self.names: dict[Hashable, str] = {}
        self.written: set[Hashable] = set()
        self.sizes: dict[Dim, str] = {}
        self.axes: dict[Axis, Axis] = {}
        self.scratch: list[DimLike] = []
        self.memo: dict[Expr, Expr] = {}

    def launch(self, body: Block, extent: DimLike, work: DimLike, flops: DimLike) -> Launch:
        done = tuple(self.stmt(stmt) for stmt in body)
        buffers = tuple(self.names)
        params = tuple(
            Param(name, self.dtype_of(buffer), (), buffer in self.written)
            for buffer, name in self.names.items()
        )
        kernel = Kernel("k", params, tuple(self.sizes.values()), done)
        digest = hashlib.sha256(kernel_text(kernel).encode()).hexdigest()[:20]
        kernel = replace(kernel, name=f"k{digest}")
        traffic: DimLike = 0
        for buffer in buffers:
            count: DimLike = max(self.dtype_of(buffer).bits // 8, 1)
            for dim in self.shape_of(buffer):
                count = count * dim
            traffic = traffic + count
        return Launch(
            kernel,
            buffers,
            tuple(buffer for buffer in buffers if buffer in self.written),
            tuple(self.sizes),
            extent,
            work,
            tuple(self.scratch),
            self.label,
            flops,
            traffic,
        )

    def stmt(self, stmt: Stmt) -> Stmt:
        if isinstance(stmt, For):
            axis = self.axes.setdefault(stmt.axis, Axis(f"i{len(self.axes)}"))
            extent = self.expr(stmt.extent)
            return For(axis, extent, tuple(self.stmt(inner) for inner in stmt.body), stmt.mode)
        if isinstance(stmt, If):
            then, otherwise = (
                tuple(self.stmt(inner) for inner in block) for block in (stmt.then, stmt.otherwise)
            )
            return If(self.expr(stmt.condition), then, otherwise)
        if isinstance(stmt, Local):
            (count,) = stmt.shape
            if not is_on_stack(stmt):
                self.scratch.append(count * max(stmt.dtype.bits // 8, 1))
                return replace(stmt, shape=(self.size(count),))
            return stmt
        if isinstance(stmt, Var):
            return replace(stmt, start=self.expr(stmt.start))
        if isinstance(stmt, (Let, Accumulate)):
            return replace(stmt, value=self.expr(stmt.value))
        if isinstance(stmt, Prefetch):
            offset = self.offset(stmt.buffer, stmt.indices)
            return Prefetch(self.buffer(stmt.buffer), (offset,))
        assert isinstance(stmt, Store)
        self.require_type(stmt.buffer, stmt.value.dtype, "stores to")
        offset = self.offset(stmt.buffer, stmt.indices)
        value = self.expr(stmt.value)
        if stmt.buffer in self.local:
            return replace(stmt, indices=(offset,), value=value)
        name = self.buffer(stmt.buffer)
        self.written.add(stmt.buffer)
        return replace(stmt, buffer=name, indices=(offset,), value=value)

    def require_type(self, buffer: Hashable, dtype: DType, what: str) -> None:
        """Elements of one type in a buffer of another would lie in other places."""
        held = self.local[buffer] if buffer in self.local else self.dtype_of(buffer)
        if dtype is not held:
            name = quote(getattr(buffer, "name", buffer))
            raise KernelError(
                f"a definition {what} {name} as {dtype}, which is {held}",
                place=f"kernel of {self.label}",
            )

    def buffer(self, buffer: Hashable) -> str:
        return self.names.setdefault(buffer, f"b{len(self.names)}")

    def size(self, dim: DimLike) -> DimLike:
        if isinstance(dim, int):
            return dim
        return symbol(self.sizes.setdefault(dim, f"s{len(self.sizes)}"))

    def offset(self, buffer: Hashable, indices: Sequence[Linear]) -> Linear:
        local = buffer in self.local
        position = indices[0] if local else flat_offset(indices, self.shape_of(buffer))
        return index(self.expr(position))

    def expr(self, expr: Expr) -> Expr:
        """`expr` with flat offsets, named buffers, sizes and axes."""
        stack = [expr]
        while stack:
            part = stack[-1]
            # the indices of a load count only within its flat offset
            inner = () if isinstance(part, Load) else part.children
            missing = [child for child in reversed(inner) if child not in self.memo]
            if missing:
                stack += missing
                continue
            stack.pop()
            if part not in self.memo:
                self.memo[part] = self.fresh(part)
        return self.memo[expr]

    def fresh(self, expr: Expr) -> Expr:
        if isinstance(expr, Axis):
            return self.axes.setdefault(expr, Axis(f"i{len(self.axes)}"))
        if isinstance(expr, Load):
            self.require_type(expr.buffer, expr.dtype, "loads from")
            if expr.buffer in self.local:
                return Load(expr.buffer, [self.expr(expr.indices[0])], expr.dtype)
            offset = self.offset(expr.buffer, expr.indices)
            return Load(self.buffer(expr.buffer), [offset], expr.dtype)
        if isinstance(expr, Linear):
            terms = [(self.expr(term), self.size(factor)) for term, factor in expr.terms]
            return linear((self.size(expr.constant), 1), *terms)
        if not expr.children or isinstance(expr, Ref):
            return expr
        return rebuild(expr, [self.expr(child) for child in expr.children])
