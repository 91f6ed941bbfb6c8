"""Expressions in LLVM IR: as scalars, or as vectors while the body of a vector loop is written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sardonyx.codegen import scalars
from sardonyx.codegen.instructions import Instructions, alignment
from sardonyx.codegen.scalars import element_type, llvm_type, number
from sardonyx.dtypes import BOOL, INT64
from sardonyx.loops.expr import Apply, Axis, Const, Expr, Linear, Load, Ref, coefficient, walk_new

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sardonyx.dims import DimLike
    from sardonyx.dtypes import DType
    from sardonyx.loops.kernel import Kernel
    from sardonyx.loops.machine import Machine

__all__ = ["Values"]


class Values(Instructions):
    """Writes expressions.

    `vector` is the axis of the vector loop whose body is being written, `lanes` its width. What
    the statements before have named is in `lets`, what was computed before a loop in `hoisted`.
    """

    def __init__(self, kernel: Kernel, machine: Machine, declared: dict[str, str]) -> None:
        super().__init__(kernel, machine, declared)
        self.axes: dict[Axis, str | int] = {}
        self.pointers: dict[object, str] = {}
        self.variables: dict[str, tuple[str, int]] = {}
        self.lets: dict[str, tuple[str, bool]] = {}
        self.hoisted: list[dict[Expr, str]] = [{}]
        self.memo: dict[Expr, str] = {}
        self.vector: Axis | None = None
        self.variance: dict[Expr, bool] = {}
        self.lanes = 1

    def varies(self, expr: Expr) -> bool:
        """Whether lanes differ in `expr`."""
        if self.vector is None:
            return False
        known = self.variance
        if expr not in known:
            for part in walk_new(expr, known):
                if isinstance(part, Ref):
                    known[part] = self.differs(part.name)
                else:
                    known[part] = part is self.vector or any(known[c] for c in part.children)
        return known[expr]

    def differs(self, name: str) -> bool:
        """Whether the scalar called `name` has a value for each lane."""
        if name in self.lets:
            return self.lets[name][1]
        return self.variables.get(name, ("", 1))[1] > 1

    def known(self, expr: Expr) -> str | None:
        """The value of an expression that was computed before a loop."""
        for frame in reversed(self.hoisted):
            if expr in frame:
                return frame[expr]
        return None

    def scalar(self, expr: Expr) -> str:
        """The value of an expression in which lanes do not differ."""
        if isinstance(expr, Const):
            return number(expr.value, expr.dtype)
        if isinstance(expr, Axis):
            return str(self.axes[expr])
        found = self.known(expr)
        if found is None:
            found = self.memo.get(expr)
        if found is None:
            found = self.memo[expr] = self._scalar(expr)
        return found

    def _scalar(self, expr: Expr) -> str:
        if isinstance(expr, Linear):
            return self.linear(expr, self.scalar)
        if isinstance(expr, Ref):
            if expr.name in self.lets:
                return self.lets[expr.name][0]
            kind = llvm_type(expr.dtype, 1)
            return self.emit(f"load {kind}, ptr {self.variables[expr.name][0]}")
        if isinstance(expr, Load):
            return self.element(expr, self.scalar(expr.indices[0]))
        assert isinstance(expr, Apply)
        args = tuple(self.scalar(arg) for arg in expr.args)
        if expr.op == "index":
            return self.checked_index(args, 1)
        return scalars.write(self, expr.op, args, expr.args[0].dtype, expr.dtype, 1)

    def element(self, load: Load, position: str) -> str:
        """The element of a buffer at `position`."""
        kind = element_type(load.dtype)
        address = self.emit(
            f"getelementptr {kind}, ptr {self.pointers[load.buffer]}, i64 {position}"
        )
        value = self.emit(f"load {kind}, ptr {address}, align {alignment(load.dtype)}")
        return self.from_memory(value, load.dtype, 1)

    def linear(self, expr: Linear, term_value: Callable[[Expr], str]) -> str:
        """A sum of products; numbers are added up while writing.

        Numbers that come from data may wrap; counters and sizes do not.
        """
        wrap = "" if any(not isinstance(term, Axis) for term, _ in expr.terms) else " nsw"
        total = expr.constant if isinstance(expr.constant, int) else 0
        parts = [] if isinstance(expr.constant, int) else [self.dim(expr.constant)]
        for term, factor in expr.terms:
            value = term_value(term)
            if isinstance(factor, int) and value.lstrip("-").isdigit():
                total += factor * int(value)
            elif value == "0":
                continue
            elif factor == 1:
                parts.append(value)
            else:
                parts.append(self.emit(f"mul{wrap} i64 {value}, {self.dim(factor)}"))
        if not parts:
            return str(total)
        value = parts[0]
        for part in parts[1:]:
            value = self.emit(f"add{wrap} i64 {value}, {part}")
        return self.emit(f"add{wrap} i64 {value}, {total}") if total else value

    def first_lane(self, expr: Linear) -> str:
        """The index `expr` of lane 0, where it grows by a constant from lane to lane."""
        return self.linear(expr, self.scalar)

    def stride(self, expr: Linear) -> DimLike | None:
        """By how much the index `expr` grows from lane to lane; None if not by a constant."""
        assert self.vector is not None
        if any(term is not self.vector and self.varies(term) for term, _ in expr.terms):
            return None
        return coefficient(expr, self.vector)

    def each_lane(self, expr: Linear) -> Iterator[str]:
        """The index of every lane."""
        step = self.stride(expr)
        if step is None:
            value = self.vectored(expr)
            for lane in range(self.lanes):
                yield self.emit(f"extractelement <{self.lanes} x i64> {value}, i64 {lane}")
            return
        position, stride = self.first_lane(expr), self.dim(step)
        for lane in range(self.lanes):
            yield position
            if lane + 1 < self.lanes:
                position = self.emit(f"add i64 {position}, {stride}")

    def vectored(self, expr: Expr) -> str:
        """The value of `expr` in all lanes."""
        found = self.memo.get(expr) if self.varies(expr) else None
        if found is not None:
            return found
        if not self.varies(expr):
            return self.splat(self.scalar(expr), expr.dtype)
        value = self._vectored(expr)
        self.memo[expr] = value
        return value

    def _vectored(self, expr: Expr) -> str:
        if isinstance(expr, Axis):
            steps = ", ".join(f"i64 {lane}" for lane in range(self.lanes))
            start = self.splat(str(self.axes[expr]), INT64)
            return self.emit(f"add nsw <{self.lanes} x i64> {start}, <{steps}>")
        if isinstance(expr, Linear):
            return self.vector_linear(expr)
        if isinstance(expr, Ref):
            if expr.name in self.lets:
                return self.lets[expr.name][0]
            kind = llvm_type(expr.dtype, self.lanes)
            return self.emit(f"load {kind}, ptr {self.variables[expr.name][0]}")
        if isinstance(expr, Load):
            return self.vector_load(expr)
        assert isinstance(expr, Apply)
        args = tuple(self.vectored(arg) for arg in expr.args)
        if expr.op == "index":
            return self.checked_index(args, self.lanes)
        return scalars.write(self, expr.op, args, expr.args[0].dtype, expr.dtype, self.lanes)

    def vector_linear(self, expr: Linear) -> str:
        """An index in which lanes differ, as a vector."""
        kind = llvm_type(INT64, self.lanes)
        fixed = tuple((term, factor) for term, factor in expr.terms if not self.varies(term))
        moving = [(term, factor) for term, factor in expr.terms if self.varies(term)]
        value = self.splat(self.scalar(Linear(expr.constant, fixed)), INT64)
        for term, factor in moving:
            part = self.vectored(term)
            if factor != 1:
                part = self.emit(f"mul {kind} {part}, {self.splat(self.dim(factor), INT64)}")
            value = self.emit(f"add {kind} {value}, {part}")
        return value

    def vector_load(self, load: Load) -> str:
        """The elements of a buffer for all lanes: at once if they are neighbours."""
        (offset,) = load.indices
        kind = element_type(load.dtype)
        wide = f"<{self.lanes} x {kind}>"
        if self.stride(offset) == 1:
            address = self.emit(
                f"getelementptr {kind}, ptr {self.pointers[load.buffer]}, "
                f"i64 {self.first_lane(offset)}"
            )
            value = self.emit(f"load {wide}, ptr {address}, align {alignment(load.dtype)}")
            return self.from_memory(value, load.dtype, self.lanes)
        if self.stride(offset) == 2:
            return self.from_memory(self.every_other(load), load.dtype, self.lanes)
        value = "poison"
        for lane, position in enumerate(self.each_lane(offset)):
            address = self.emit(
                f"getelementptr {kind}, ptr {self.pointers[load.buffer]}, i64 {position}"
            )
            item = self.emit(f"load {kind}, ptr {address}, align {alignment(load.dtype)}")
            value = self.emit(f"insertelement {wide} {value}, {kind} {item}, i64 {lane}")
        return self.from_memory(value, load.dtype, self.lanes)

    def every_other(self, load: Load) -> str:
        """The elements of a buffer for all lanes, where a lane's lies 2 after the one before.

        Two loads that overlap by one element span them, and nothing beyond.
        """
        kind, lanes = element_type(load.dtype), self.lanes
        wide = f"<{lanes} x {kind}>"
        first = self.first_lane(load.indices[0])
        parts = []
        for skipped in (0, lanes - 1):
            position = self.emit(f"add nsw i64 {first}, {skipped}") if skipped else first
            address = self.emit(
                f"getelementptr {kind}, ptr {self.pointers[load.buffer]}, i64 {position}"
            )
            parts.append(self.emit(f"load {wide}, ptr {address}, align {alignment(load.dtype)}"))
        places = (2 * lane + (2 * lane >= lanes) for lane in range(lanes))
        chosen = ", ".join(f"i32 {place}" for place in places)
        return self.emit(
            f"shufflevector {wide} {parts[0]}, {wide} {parts[1]}, <{lanes} x i32> <{chosen}>"
        )

    def checked_index(self, args: tuple[str, ...], lanes: int) -> str:
        """Count from the end where negative; outside, note it in `status` and take 0."""
        kind, mask = llvm_type(INT64, lanes), llvm_type(BOOL, lanes)
        zero = "0" if lanes == 1 else "zeroinitializer"
        position, count = args
        negative = self.emit(f"icmp slt {kind} {position}, {zero}")
        from_end = self.emit(f"add {kind} {position}, {count}")
        position = self.emit(f"select {mask} {negative}, {kind} {from_end}, {kind} {position}")
        inside = self.emit(f"icmp ult {kind} {position}, {count}")
        good = inside
        if lanes > 1:
            name = f"llvm.vector.reduce.and.v{lanes}i1"
            good = self.intrinsic(name, "i1", (mask, inside))
        bad = self.emit(f"xor i1 {good}, true")
        flag = self.emit(f"zext i1 {bad} to i8")
        old = self.emit("load i8, ptr %status, align 1")
        self.do(f"store i8 {self.emit(f'or i8 {old}, {flag}')}, ptr %status, align 1")
        return self.emit(f"select {mask} {inside}, {kind} {position}, {kind} {zero}")

    def splat(self, value: str, dtype: DType) -> str:
        """A scalar in every lane."""
        if self.lanes == 1:
            return value
        scalar, wide = llvm_type(dtype, 1), llvm_type(dtype, self.lanes)
        if not value.startswith("%"):
            return f"splat ({scalar} {value})"
        single = self.emit(f"insertelement {wide} poison, {scalar} {value}, i64 0")
        return self.emit(
            f"shufflevector {wide} {single}, {wide} poison, <{self.lanes} x i32> zeroinitializer"
        )
