"""Loops in LLVM IR: counted ones, and vector loops with several vectors in flight."""

from __future__ import annotations

from abc import abstractmethod
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from sardonyx.codegen import scalars
from sardonyx.codegen.scalars import llvm_type, number
from sardonyx.codegen.values import Values
from sardonyx.dtypes import BOOL
from sardonyx.loops.expr import Apply, Expr, Load, Ref, walk
from sardonyx.loops.kernel import (
    Accumulate,
    For,
    Let,
    Prefetch,
    Store,
    Var,
    expressions,
    fixed_extent,
    is_flat,
    statements,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sardonyx.dtypes import DType
    from sardonyx.loops.kernel import Block, Kernel, Stmt
    from sardonyx.loops.machine import Machine

__all__ = ["Loops", "widest"]

_SHORT: Final = 24
"""Expressions of a body that is so small that many copies pay."""
_LONG: Final = 200
"""Expressions of a body of which a second copy would take longer to compile than it saves."""


class Loops(Values):
    """Writes loops around the statements that `block` writes.

    `partial` has, for what a vector loop accumulates, the address of a vector of partial results;
    `scratch` is how much of the scratch memory is taken. A vector loop `is_streaming` where what is
    to go past the caches may, and `copy` is the number of the vector among those of one trip.
    """

    def __init__(self, kernel: Kernel, machine: Machine, declared: dict[str, str]) -> None:
        super().__init__(kernel, machine, declared)
        self.partial: dict[str, str] = {}
        self.scratch = "0"
        self.is_streaming = False
        self.copy = 0

    @abstractmethod
    def block(self, block: Block, *, outermost: bool = False) -> None:
        """Write statements."""

    def loop(self, stmt: For, *, outermost: bool) -> None:
        """Write a loop; the steps of a parallel one that is `outermost` are given by the caller."""
        if outermost:
            first, last = "%begin", "%end"
        else:
            first, last = "0", self.scalar(stmt.extent)
        if stmt.mode == "unroll":
            for position in range(int(last)):
                self.axes[stmt.axis] = position
                with self.inside():
                    self.block(stmt.body)
            self.axes.pop(stmt.axis, None)
        elif stmt.mode == "vector" or (outermost and is_flat(stmt)):
            self.vector_loop(stmt, first, last)
        else:
            with self.inside():
                self.counted(stmt, first, last, 1, lambda: self.block(stmt.body))

    def counted(self, stmt: For, first: str, last: str, step: int, body: Callable[[], None]) -> str:
        """A loop of `stmt`'s axis from `first` below `last`; gives where it ended."""
        head, inside, done = (self.new_label(hint) for hint in ("head", "body", "done"))
        before = self.label
        self.count += 1
        axis, following = f"%i{self.count}", f"%n{self.count}"
        self.do(f"br label %{head}")
        self.place(head)
        phi = len(self.lines)
        self.lines.append("")
        test = self.emit(f"icmp slt i64 {axis}, {last}")
        self.do(f"br i1 {test}, label %{inside}, label %{done}")
        self.place(inside)
        self.axes[stmt.axis] = axis
        body()
        self.do(f"{following} = add nsw i64 {axis}, {step}")
        self.lines[phi] = (
            f"  {axis} = phi i64 [ {first}, %{before} ], [ {following}, %{self.label} ]"
        )
        self.do(f"br label %{head}")
        self.place(done)
        del self.axes[stmt.axis]
        return axis

    def vector_loop(self, stmt: For, first: str, last: str) -> None:
        """Write vectors of steps, several at a time, and the rest one by one."""
        if first == "0" and last.lstrip("-").isdigit():
            if int(last) > 0:
                self.hoist(stmt)
                self.streaming(stmt, first, lambda: self.fixed_vector_loop(stmt, int(last)))
                self.hoisted.pop()
            return
        some, none = self.new_label("some"), self.new_label("none")
        test = self.emit(f"icmp slt i64 {first}, {last}")
        self.do(f"br i1 {test}, label %{some}, label %{none}")
        self.place(some)
        self.hoist(stmt)
        self.streaming(stmt, first, lambda: self.open_vector_loop(stmt, first, last))
        self.hoisted.pop()
        self.do(f"br label %{none}")
        self.place(none)

    def streaming(self, stmt: For, first: str, write: Callable[[], None]) -> None:
        """Write the loop, once more for vectors that begin at multiples of their size.

        Only those can be stored past the caches.
        """
        is_asked = any(isinstance(inner, Store) and inner.is_streamed for inner in stmt.body)
        starts = self.streams(stmt, first) if is_asked and self.copies(stmt) > 1 else []
        if not starts:
            write()
            return
        aligned = starts[0]
        for start in starts[1:]:
            aligned = self.emit(f"and i1 {aligned}, {start}")
        whole, part, done = (self.new_label(hint) for hint in ("whole", "part", "done"))
        self.do(f"br i1 {aligned}, label %{whole}, label %{part}")
        for label in (whole, part):
            self.place(label)
            self.is_streaming = label is whole
            with self.inside():
                write()
            self.do(f"br label %{done}")
        self.is_streaming = False
        self.place(done)

    @abstractmethod
    def streams(self, stmt: For, first: str) -> list[str]:
        """Whether the vectors of each store that is to be streamed begin where they may.

        `first` is where the loop begins.
        """

    def open_vector_loop(self, stmt: For, first: str, last: str) -> None:
        """Write a vector loop of any length."""
        lanes = self.machine.lanes(widest(stmt))
        accumulated = _accumulated(stmt)
        unroll = self.copies(stmt)
        partials = self.start_partials(accumulated, lanes, unroll)

        def body(copies: int) -> None:
            for copy in range(copies):
                self.vector_body(stmt, lanes, copy, partials)

        rest = self.main_loop(stmt, first, last, lanes * unroll, lambda: body(unroll))
        if unroll > 1:
            rest = self.main_loop(stmt, rest, last, lanes, lambda: body(1))
        self.finish_partials(accumulated, partials, lanes)
        with self.inside():
            self.counted(stmt, rest, last, 1, lambda: self.block(stmt.body))

    def copies(self, stmt: For) -> int:
        """How many vectors one trip takes.

        Two fill a line of the cache; more of a long body, or two with sums, lack registers.
        """
        length = sum(1 for _ in walk(*(expr for s in stmt.body for expr in _values(s))))
        if length < _SHORT:
            return self.machine.interleave
        is_plain = all(isinstance(s, (Let, Store, Prefetch)) for s in stmt.body)
        return 2 if is_plain and length < _LONG else 1

    def main_loop(
        self, stmt: For, first: str, last: str, span: int, body: Callable[[], None]
    ) -> str:
        """The steps of `span` elements that fit between `first` and `last`; where they end."""
        return self.counted(stmt, first, self.end_of_main(first, last, span), span, body)

    def end_of_main(self, first: str, last: str, span: int) -> str:
        """Where the steps of `span` elements end that fit between `first` and `last`."""
        count = self.emit(f"sub i64 {last}, {first}")
        rest = self.emit(f"srem i64 {count}, {span}")
        return self.emit(f"sub i64 {last}, {rest}")

    def fixed_vector_loop(self, stmt: For, extent: int) -> None:
        """Write a vector loop of a constant length: a short one without a loop."""
        lanes = self.machine.lanes(widest(stmt))
        accumulated = _accumulated(stmt)
        while lanes > 1 and extent < lanes:
            lanes //= 2
        if lanes > 1 and extent // lanes <= self.machine.unrolled:
            copies = extent // lanes
            partials = self.start_partials(accumulated, lanes, min(copies, self.machine.interleave))
            for copy in range(copies):
                self.axes[stmt.axis] = copy * lanes
                self.vector_body(stmt, lanes, 0, partials[copy % len(partials) :], copy)
            self.finish_partials(accumulated, partials, lanes)
            done = copies * lanes
        elif lanes > 1:
            copies = self.copies(stmt)
            partials = self.start_partials(accumulated, lanes, copies)

            def body(count: int) -> None:
                for copy in range(count):
                    self.vector_body(stmt, lanes, copy, partials)

            span = lanes * copies
            middle = extent - extent % span
            done = extent - extent % lanes
            self.counted(stmt, "0", str(middle), span, lambda: body(copies))
            if done > middle:
                self.counted(stmt, str(middle), str(done), lanes, lambda: body(1))
            self.finish_partials(accumulated, partials, lanes)
        else:
            done = 0
        if done < extent:
            with self.inside():
                self.counted(stmt, str(done), str(extent), 1, lambda: self.block(stmt.body))
        self.axes.pop(stmt.axis, None)

    def vector_body(
        self, stmt: For, lanes: int, copy: int, partials: list[dict[str, str]], done: int = 0
    ) -> None:
        """Write the statements for one vector of steps, the one numbered `copy` of the trip.

        `done` vectors were written before the trip.
        """
        base = self.axes[stmt.axis]
        if copy:
            self.axes[stmt.axis] = self.emit(f"add nsw i64 {base}, {copy * lanes}")
        self.vector, self.lanes, self.copy = stmt.axis, lanes, done + copy
        self.variance = {}
        self.partial = partials[copy] if partials else {}
        kept = dict(self.lets)
        self.block(stmt.body)
        self.lets = kept
        self.vector, self.lanes = None, 1
        self.memo = {}
        self.axes[stmt.axis] = base

    def start_partials(
        self, accumulated: dict[str, Accumulate], lanes: int, copies: int
    ) -> list[dict[str, str]]:
        """Vectors to accumulate in, a set for each vector in flight."""
        partials: list[dict[str, str]] = []
        for _copy in range(copies):
            partials.append({})
            for name, stmt in accumulated.items():
                self.count += 1
                address = f"%part{self.count}"
                kind = llvm_type(stmt.value.dtype, lanes)
                self.allocas.append(f"  {address} = alloca {kind}")
                neutral = number(_neutral(stmt.op, stmt.value.dtype), stmt.value.dtype)
                scalar = llvm_type(stmt.value.dtype, 1)
                self.do(f"store {kind} splat ({scalar} {neutral}), ptr {address}")
                partials[-1][name] = address
        return partials

    def finish_partials(
        self, accumulated: dict[str, Accumulate], partials: list[dict[str, str]], lanes: int
    ) -> None:
        """Join partial results, lanes, and what the variables were before."""
        for name, stmt in accumulated.items():
            dtype = stmt.value.dtype
            kind = llvm_type(dtype, lanes)
            values = [self.emit(f"load {kind}, ptr {partial[name]}") for partial in partials]
            while len(values) > 1:
                pairs = list(zip(values[::2], values[1::2], strict=False))
                joined = [scalars.write(self, stmt.op, pair, dtype, dtype, lanes) for pair in pairs]
                values = joined + values[len(pairs) * 2 :]
            value = self.across(stmt.op, values[0], dtype, lanes)
            scalar = llvm_type(dtype, 1)
            address, _ = self.variables[name]
            old = self.emit(f"load {scalar}, ptr {address}")
            new = scalars.write(self, stmt.op, (old, value), dtype, dtype, 1)
            self.do(f"store {scalar} {new}, ptr {address}")

    def across(self, op: str, value: str, dtype: DType, lanes: int) -> str:
        """All lanes of `value` joined by `op`."""
        while lanes > 1:
            half = lanes // 2
            wide = llvm_type(dtype, lanes)
            if half == 1:
                pair = [self.emit(f"extractelement {wide} {value}, i64 {lane}") for lane in (0, 1)]
            else:
                pair = [
                    self.emit(
                        f"shufflevector {wide} {value}, {wide} poison, <{half} x i32> "
                        f"<{', '.join(f'i32 {lane}' for lane in lanes_)}>"
                    )
                    for lanes_ in (range(half), range(half, lanes))
                ]
            value = scalars.write(self, op, (pair[0], pair[1]), dtype, dtype, half)
            lanes = half
        return value

    def hoist(self, stmt: For) -> None:
        """Write what does not change along the loop before it; ends with a pop of `hoisted`.

        What may not be reached at all is not loaded: it need not be there.
        """
        self.hoisted.append({})
        inner = list(statements(stmt.body))
        stored = {s.buffer for s in inner if isinstance(s, Store)}
        axes = {s.axis for s in inner if isinstance(s, For)} | {stmt.axis}
        named = {s.name for s in inner if isinstance(s, (Let, Var, Accumulate))}
        reached = set(walk(*(e for s in _reached(stmt.body) for e in expressions(s))))
        moving: set[Expr] = set()
        for expr in walk(*(e for s in inner for e in expressions(s))):
            if (
                any(child in moving for child in expr.children)
                or expr in axes
                or (isinstance(expr, Load) and expr.buffer in stored)
                or (isinstance(expr, Ref) and expr.name in named)
                or (expr not in reached and _may_fault(expr))
            ):
                moving.add(expr)
            elif isinstance(expr, (Load, Apply)):
                self.hoisted[-1][expr] = self.scalar(expr)

    @contextmanager
    def inside(self) -> Iterator[None]:
        """A block of its own: what is named or written in it is not known after it."""
        lets = dict(self.lets)
        self.hoisted.append({})
        scratch = self.scratch
        yield
        self.hoisted.pop()
        self.lets = lets
        self.scratch = scratch
        self.memo = {}


def _neutral(op: str, dtype: DType) -> float:
    """What `op` leaves everything else unchanged with."""
    if op in {"add", "or", "xor"}:
        return 0
    if op == "mul":
        return 1
    if op == "and":
        return 1 if dtype is BOOL else -1
    least = op in {"max", "maximum"}
    if dtype.is_floating:
        return float("-inf") if least else float("inf")
    if dtype is BOOL:
        return 0 if least else 1
    if dtype.kind == "uint":
        return 0 if least else (1 << dtype.bits) - 1
    return -(1 << (dtype.bits - 1)) if least else (1 << (dtype.bits - 1)) - 1


def _accumulated(stmt: For) -> dict[str, Accumulate]:
    """What a loop accumulates in variables from outside of it."""
    inner = list(statements(stmt.body))
    own = {s.name for s in inner if isinstance(s, Var)}
    return {s.name: s for s in inner if isinstance(s, Accumulate) and s.name not in own}


def _reached(block: Block) -> Iterator[Stmt]:
    """The statements that run whenever `block` does."""
    for stmt in block:
        yield stmt
        if isinstance(stmt, For):
            steps = fixed_extent(stmt)
            if steps is not None and steps > 0:
                yield from _reached(stmt.body)


def _may_fault(expr: Expr) -> bool:
    return isinstance(expr, Load) or (isinstance(expr, Apply) and expr.op == "index")


def widest(stmt: For) -> int:
    """Bits of the widest element that the loop computes with, indices aside."""
    found = 8
    seen: set[Expr] = set()
    stack = [expr for inner in statements(stmt.body) for expr in _values(inner)]
    while stack:
        expr = stack.pop()
        if expr in seen:
            continue
        seen.add(expr)
        found = max(found, expr.dtype.bits)
        if isinstance(expr, Apply):
            stack.extend(expr.args)
    return found


def _values(stmt: Stmt) -> tuple[Expr, ...]:
    return (stmt.value,) if isinstance(stmt, (Store, Accumulate, Let)) else ()
