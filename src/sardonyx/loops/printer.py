"""Loop IR as text, for people, for golden tests, and as the content that a cache key stands for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sardonyx.dims import Dim
from sardonyx.loops.expr import Apply, Axis, Const, Expr, Linear, Load, Ref
from sardonyx.loops.kernel import Accumulate, For, If, Kernel, Let, Local, Prefetch, Store, Var

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sardonyx.loops.kernel import Block, Stmt

__all__ = ["kernel_text", "statement_text", "text"]

_INFIX = {
    "add": "+", "sub": "-", "mul": "*", "div": "/", "rem": "%", "lt": "<", "le": "<=", "eq": "==",
    "ne": "!=", "and": "&", "or": "|", "xor": "^", "shl": "<<", "shr": ">>",
}  # fmt: skip


def text(expr: Expr) -> str:
    """An expression on one line."""
    return _Printer().expr(expr)


def statement_text(stmt: Stmt) -> str:
    """A statement on one line; of a loop or branch its head."""
    lines = list(_Printer().stmt(stmt, ""))
    return lines[0] if isinstance(stmt, (For, If)) else lines[-1]


def kernel_text(kernel: Kernel) -> str:
    """A kernel, a statement a line; shared parts of a value are named before it as %n."""
    params = ", ".join(
        f"{'out ' if param.written else ''}{param.name}: {param.dtype}" for param in kernel.params
    )
    options = "".join(f" {name}={value}" for name, value in kernel.options)
    head = f"kernel {kernel.name}({params}; {', '.join(kernel.sizes)}){options}"
    return "\n".join([head, *_Printer().block(kernel.body, "  "), ""])


class _Printer:
    def __init__(self) -> None:
        self.names: dict[Expr, str] = {}

    def block(self, block: Block, indent: str) -> Iterator[str]:
        for stmt in block:
            yield from self.stmt(stmt, indent)

    def stmt(self, stmt: Stmt, indent: str) -> Iterator[str]:
        if isinstance(stmt, For):
            yield f"{indent}{stmt.mode} {stmt.axis.name} < {self.expr(stmt.extent)}:"
            yield from self.block(stmt.body, indent + "  ")
        elif isinstance(stmt, If):
            yield f"{indent}if {self.expr(stmt.condition)}:"
            yield from self.block(stmt.then, indent + "  ")
            if stmt.otherwise:
                yield f"{indent}else:"
                yield from self.block(stmt.otherwise, indent + "  ")
        elif isinstance(stmt, Var):
            yield f"{indent}var {stmt.name}: {stmt.dtype} = {self.expr(stmt.start)}"
        elif isinstance(stmt, Local):
            shape = ", ".join(map(str, stmt.shape))
            yield f"{indent}local {stmt.name}: {stmt.dtype}[{shape}]"
        elif isinstance(stmt, Prefetch):
            where = ", ".join(self.expr(position) for position in stmt.indices)
            yield f"{indent}prefetch {stmt.buffer}[{where}]"
        else:
            yield from self.assignment(stmt, indent)

    def assignment(self, stmt: Accumulate | Let | Store, indent: str) -> Iterator[str]:
        self.names = {}
        shared = list(self.shared(stmt.value))
        for number, part in enumerate(shared):
            written = self.expr(part)
            self.names[part] = f"%{number}"
            yield f"{indent}%{number} = {written}"
        value = self.expr(stmt.value)
        if isinstance(stmt, Store):
            where = ", ".join(self.expr(position) for position in stmt.indices)
            streamed = "stream " if stmt.is_streamed else ""
            yield f"{indent}{streamed}{stmt.buffer}[{where}] = {value}"
        elif isinstance(stmt, Let):
            yield f"{indent}let {stmt.name} = {value}"
        else:
            yield f"{indent}{stmt.name} = {stmt.op}({stmt.name}, {value})"
        self.names = {}

    def shared(self, expr: Expr) -> Iterator[Expr]:
        """Operations that occur more than once in `expr`, parts before wholes."""
        uses: dict[Expr, int] = {}
        order: list[Expr] = []
        stack: list[tuple[Expr, bool]] = [(expr, False)]
        while stack:
            part, ready = stack.pop()
            if ready:
                order.append(part)
                continue
            uses[part] = uses.get(part, 0) + 1
            if uses[part] == 1:
                stack.append((part, True))
                stack.extend((child, False) for child in reversed(part.children))
        return (part for part in order if uses[part] > 1 and isinstance(part, Apply))

    def expr(self, expr: Expr) -> str:
        if expr in self.names:
            return self.names[expr]
        if isinstance(expr, Const):
            return f"{expr.value!r}:{expr.dtype.text}"
        if isinstance(expr, (Axis, Ref)):
            return expr.name
        if isinstance(expr, Load):
            where = ", ".join(self.expr(position) for position in expr.indices)
            buffer = expr.buffer if isinstance(expr.buffer, str) else _buffer_name(expr.buffer)
            return f"{buffer}[{where}]"
        if isinstance(expr, Linear):
            return self.linear(expr)
        assert isinstance(expr, Apply)
        args = [self.expr(arg) for arg in expr.args]
        if expr.op in _INFIX and len(args) == 2:
            return f"({args[0]} {_INFIX[expr.op]} {args[1]})"
        kind = f":{expr.dtype.text}" if expr.op in {"cast", "bits"} else ""
        return f"{expr.op}({', '.join(args)}){kind}"

    def linear(self, expr: Linear) -> str:
        parts = [] if expr.constant == 0 and expr.terms else [_dim(expr.constant)]
        for term, factor in expr.terms:
            name = self.expr(term)
            parts.append(name if factor == 1 else f"{_dim(factor)}*{name}")
        return " + ".join(parts)


def _dim(value: object) -> str:
    text_ = str(value)
    return f"({text_})" if isinstance(value, Dim) and not text_.isidentifier() else text_


def _buffer_name(buffer: object) -> str:
    return getattr(buffer, "name", "") or f"buffer{id(buffer):x}"
