"""Loop IR evaluated with NumPy: what a kernel means, for tests. Slow, and obviously right.

Expressions work on arrays as well as on numbers, so one call checks a function on a million points.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sardonyx.dims import Dim, evaluate
from sardonyx.errors import ExecutionError
from sardonyx.loops import scalars
from sardonyx.loops.expr import Apply, Axis, Const, Expr, Linear, Load, Ref, walk
from sardonyx.loops.kernel import Accumulate, For, If, Kernel, Let, Local, Prefetch, Store, Var

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sardonyx.loops.kernel import Block

__all__ = ["interpret", "value_of"]


def value_of(
    expr: Expr,
    names: Mapping[Expr, Any],
    sizes: Mapping[str, int] | None = None,
    buffers: Mapping[Any, Any] | None = None,
) -> Any:
    """The value of `expr`; `names` has those of axes and references, or of any other part."""
    found: dict[Expr, Any] = dict(names)
    with np.errstate(all="ignore"):
        for part in walk(expr):
            if part not in found:
                found[part] = _value(part, found, sizes or {}, buffers or {})
    return found[expr]


def _value(
    part: Expr, found: Mapping[Expr, Any], sizes: Mapping[str, int], buffers: Mapping[Any, Any]
) -> Any:
    if isinstance(part, Const):
        return np.asarray(part.value, part.dtype.numpy)
    if isinstance(part, Linear):
        total = _size(part.constant, sizes)
        for term, factor in part.terms:
            total = total + found[term] * _size(factor, sizes)
        return np.asarray(total, np.int64)
    if isinstance(part, Load):
        return buffers[part.buffer][tuple(int(found[position]) for position in part.indices)]
    if isinstance(part, Apply):
        args = [found[arg] for arg in part.args]
        if part.op == "index":
            position, count = (int(arg) for arg in args)
            position += count if position < 0 else 0
            if not 0 <= position < count:
                raise ExecutionError(f"index {position} is outside of {count}")
            return np.asarray(position, np.int64)
        return scalars.evaluate(part.op, part.dtype, *(np.asarray(arg) for arg in args))
    assert isinstance(part, (Axis, Ref))
    raise ExecutionError(f"{part.name} has no value")


def _size(dim: Any, sizes: Mapping[str, int]) -> int:
    return evaluate(dim, sizes) if isinstance(dim, Dim) else int(dim)


def interpret(kernel: Kernel, buffers: Mapping[str, Any], sizes: Mapping[str, int]) -> None:
    """Run `kernel` on one-dimensional arrays, all of its parallel loop."""
    _Interpreter(dict(buffers), dict(sizes)).block(kernel.body)


class _Interpreter:
    def __init__(self, buffers: dict[str, Any], sizes: dict[str, int]) -> None:
        self.buffers: dict[Any, Any] = dict(buffers)
        self.sizes = sizes
        self.names: dict[Expr, Any] = {}

    def value(self, expr: Expr) -> Any:
        return value_of(expr, self.names, self.sizes, self.buffers)

    def block(self, block: Block) -> None:
        for stmt in block:
            if isinstance(stmt, For):
                for step in range(int(self.value(stmt.extent))):
                    self.names[stmt.axis] = np.int64(step)
                    self.block(stmt.body)
            elif isinstance(stmt, If):
                self.block(stmt.then if self.value(stmt.condition) else stmt.otherwise)
            elif isinstance(stmt, Var):
                self.names[Ref(stmt.name, stmt.dtype)] = self.value(stmt.start)
            elif isinstance(stmt, Let):
                self.names[Ref(stmt.name, stmt.value.dtype)] = self.value(stmt.value)
            elif isinstance(stmt, Local):
                shape = tuple(_size(dim, self.sizes) for dim in stmt.shape)
                self.buffers[stmt.name] = np.zeros(shape, stmt.dtype.numpy)
            elif isinstance(stmt, Accumulate):
                ref = Ref(stmt.name, stmt.value.dtype)
                new = (self.names[ref], self.value(stmt.value))
                with np.errstate(all="ignore"):
                    self.names[ref] = scalars.evaluate(stmt.op, ref.dtype, *map(np.asarray, new))
            elif not isinstance(stmt, Prefetch):
                assert isinstance(stmt, Store)
                where = tuple(int(self.value(position)) for position in stmt.indices)
                self.buffers[stmt.buffer][where] = self.value(stmt.value)
