"""Kernels as LLVM IR text.

A kernel becomes two functions. The outer one, ``void name(ptr args, ptr table, i64 begin, i64 end,
ptr scratch, ptr status)``, is what the runtime calls: `args` holds for each parameter the number of
its pointer in `table`, then the sizes. The inner one has them as arguments that do not alias. The
outermost loop, if it is parallel, runs from `begin` to `end`.

Values are scalars, or vectors while the body of a vector loop is written. What does not vary along
the vector axis is written once, before the loop.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from sardonyx.codegen import scalars
from sardonyx.codegen.scalars import element_type, llvm_type, number
from sardonyx.dims import Dim
from sardonyx.dtypes import BOOL, INT64, UINT8
from sardonyx.errors import SardonyxError
from sardonyx.loops.expr import Apply, Axis, Const, Expr, Linear, Load, Ref, coefficient, walk, walk_new
from sardonyx.loops.kernel import (
    Accumulate,
    For,
    If,
    Kernel,
    Let,
    Local,
    Store,
    Var,
    expressions,
    is_on_stack,
    statements,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sardonyx.loops.machine import Machine
    from sardonyx.dtypes import DType
    from sardonyx.loops.kernel import Block, Stmt

__all__ = ["SIGNATURE", "emit_kernel", "emit_module"]

SIGNATURE = "ptr %args, ptr %table, i64 %begin, i64 %end, ptr %scratch, ptr %status"
SCRATCH_ALIGNMENT = 64


def emit_module(kernels: Sequence[Kernel], machine: Machine, *, strict: bool = False) -> str:
    """The LLVM module of `kernels`; `strict` keeps a * b + c from being rounded once."""
    declared: dict[str, str] = {}
    texts = [emit_kernel(kernel, machine, declared) for kernel in kernels]
    if strict:
        texts = [text.replace(" contract ", " ") for text in texts]
    return "\n".join([*texts, *declared.values(), ""])


def emit_kernel(kernel: Kernel, machine: Machine, declared: dict[str, str]) -> str:
    """The two functions of one kernel; intrinsics that it calls are added to `declared`."""
    return _Writer(kernel, machine, declared).text()


class _Writer:
    def __init__(self, kernel: Kernel, machine: Machine, declared: dict[str, str]) -> None:
        self.kernel = kernel
        self.machine = machine
        self.declared = declared
        self.lines: list[str] = []
        self.allocas: list[str] = []
        self.count = 0
        self.axes: dict[Axis, str | int] = {}
        self.pointers: dict[object, str] = {}
        self.variables: dict[str, tuple[str, int]] = {}
        self.lets: dict[str, tuple[str, bool]] = {}
        self.hoisted: list[dict[Expr, str]] = [{}]
        self.memo: dict[Expr, str] = {}
        self.vector: Axis | None = None
        self.variance: dict[Expr, bool] = {}
        self.lanes = 1
        self.partial: dict[str, str] = {}
        self.label = "start"
        self.scratch = "0"

    # -- the frame ------------------------------------------------------------------------------

    def text(self) -> str:
        kernel = self.kernel
        buffers = [f"ptr noalias %b{i}" for i in range(len(kernel.params))]
        sizes = [f"i64 %{name}" for name in kernel.sizes]
        self.pointers = {param.name: f"%b{i}" for i, param in enumerate(kernel.params)}
        self.block(kernel.body, outermost=True)
        inner = ", ".join(
            [
                *buffers,
                *sizes,
                "i64 %begin",
                "i64 %end",
                "ptr noalias %scratch",
                "ptr noalias %status",
            ]
        )
        return "\n".join(
            [
                f"define internal void @{kernel.name}.body({inner}) nounwind {{",
                "entry:",
                *self.allocas,
                "  br label %start",
                "start:",
                *self.lines,
                "  ret void",
                "}",
                *self._outer(),
                "",
            ]
        )

    def _outer(self) -> Iterator[str]:
        kernel = self.kernel
        yield f"define void @{kernel.name}({SIGNATURE}) nounwind {{"
        passed = []
        for i in range(len(kernel.params) + len(kernel.sizes)):
            yield f"  %p{i} = getelementptr i64, ptr %args, i64 {i}"
            yield f"  %a{i} = load i64, ptr %p{i}, align 8"
        for i in range(len(kernel.params)):
            yield f"  %q{i} = getelementptr ptr, ptr %table, i64 %a{i}"
            yield f"  %b{i} = load ptr, ptr %q{i}, align 8"
            passed.append(f"ptr %b{i}")
        for i in range(len(kernel.params), len(kernel.params) + len(kernel.sizes)):
            passed.append(f"i64 %a{i}")
        passed += ["i64 %begin", "i64 %end", "ptr %scratch", "ptr %status"]
        yield f"  call void @{kernel.name}.body({', '.join(passed)})"
        yield "  ret void"
        yield "}"

    # -- instructions ---------------------------------------------------------------------------

    def emit(self, instruction: str) -> str:
        self.count += 1
        name = f"%v{self.count}"
        self.lines.append(f"  {name} = {instruction}")
        return name

    def do(self, instruction: str) -> None:
        self.lines.append(f"  {instruction}")

    def intrinsic(self, name: str, result: str, *arguments: tuple[str, str]) -> str:
        kinds = ", ".join(kind for kind, _ in arguments)
        self.declared[name] = f"declare {result} @{name}({kinds})"
        passed = ", ".join(f"{kind} {value}" for kind, value in arguments)
        return self.emit(f"call {result} @{name}({passed})")

    def new_label(self, hint: str) -> str:
        self.count += 1
        return f"{hint}{self.count}"

    def place(self, label: str) -> None:
        self.lines.append(f"{label}:")
        self.label = label

    # -- statements -----------------------------------------------------------------------------

    def block(self, block: Block, *, outermost: bool = False) -> None:
        for stmt in block:
            self.memo = {}
            if isinstance(stmt, For):
                self.loop(stmt, outermost=outermost and stmt.mode == "parallel")
            elif isinstance(stmt, Var):
                self.variable(stmt)
            elif isinstance(stmt, Accumulate):
                self.accumulate(stmt)
            elif isinstance(stmt, Let):
                varies = self.varies(stmt.value)
                value = self.vectored(stmt.value) if varies else self.scalar(stmt.value)
                self.lets[stmt.name] = (value, varies)
                self.variance = {}
            elif isinstance(stmt, Local):
                self.local(stmt)
            elif isinstance(stmt, Store):
                self.store(stmt)
            else:
                self.branch(stmt)

    def variable(self, stmt: Var) -> None:
        kind = llvm_type(stmt.dtype, self.lanes)
        address = f"%var.{stmt.name}.{self.lanes}"
        if f"  {address} = alloca {kind}" not in self.allocas:
            self.allocas.append(f"  {address} = alloca {kind}")
        self.variables[stmt.name] = (address, self.lanes)
        self.variance = {}
        start = self.scalar(stmt.start) if self.lanes == 1 else self.vectored(stmt.start)
        self.do(f"store {kind} {start}, ptr {address}")

    def accumulate(self, stmt: Accumulate) -> None:
        dtype = stmt.value.dtype
        if self.lanes == 1:
            address, value = self.variables[stmt.name][0], self.scalar(stmt.value)
        else:
            address = self.partial.get(stmt.name) or self.variables[stmt.name][0]
            value = self.vectored(stmt.value)
        kind = llvm_type(dtype, self.lanes)
        old = self.emit(f"load {kind}, ptr {address}")
        new = scalars.write(self, stmt.op, (old, value), dtype, dtype, self.lanes)
        self.do(f"store {kind} {new}, ptr {address}")

    def local(self, stmt: Local) -> None:
        kind = element_type(stmt.dtype)
        (count,) = stmt.shape
        pointer = f"%local.{stmt.name}"
        if is_on_stack(stmt):
            self.allocas.append(
                f"  {pointer} = alloca [{count} x {kind}], align {SCRATCH_ALIGNMENT}"
            )
            self.pointers[stmt.name] = pointer
            return
        self.pointers[stmt.name] = self.emit(f"getelementptr i8, ptr %scratch, i64 {self.scratch}")
        bytes_ = self.emit(f"mul i64 {self.dim(count)}, {max(stmt.dtype.bits // 8, 1)}")
        padded = self.emit(f"add i64 {bytes_}, {SCRATCH_ALIGNMENT - 1}")
        rounded = self.emit(f"and i64 {padded}, {-SCRATCH_ALIGNMENT}")
        self.scratch = self.emit(f"add i64 {self.scratch}, {rounded}")

    def branch(self, stmt: If) -> None:
        condition = self.scalar(stmt.condition)
        then, otherwise, done = (self.new_label(hint) for hint in ("then", "else", "done"))
        self.do(f"br i1 {condition}, label %{then}, label %{otherwise}")
        for label, body in ((then, stmt.then), (otherwise, stmt.otherwise)):
            self.place(label)
            with self.inside():
                self.block(body)
            self.do(f"br label %{done}")
        self.place(done)

    def store(self, stmt: Store) -> None:
        (offset,) = stmt.indices
        dtype = stmt.value.dtype
        kind = element_type(dtype)
        pointer = self.pointers[stmt.buffer]
        if self.lanes == 1 or self.vector is None:
            value = self.in_memory(self.scalar(stmt.value), dtype, 1)
            address = self.emit(f"getelementptr {kind}, ptr {pointer}, i64 {self.scalar(offset)}")
            self.do(f"store {kind} {value}, ptr {address}, align {_align(dtype)}")
            return
        value = self.in_memory(self.vectored(stmt.value), dtype, self.lanes)
        step = coefficient(offset, self.vector)
        if step == 1:
            address = self.emit(
                f"getelementptr {kind}, ptr {pointer}, i64 {self.first_lane(offset)}"
            )
            wide = f"<{self.lanes} x {kind}>"
            self.do(f"store {wide} {value}, ptr {address}, align {_align(dtype)}")
            return
        for lane, position in enumerate(self.each_lane(offset)):
            item = self.emit(f"extractelement <{self.lanes} x {kind}> {value}, i64 {lane}")
            address = self.emit(f"getelementptr {kind}, ptr {pointer}, i64 {position}")
            self.do(f"store {kind} {item}, ptr {address}, align {_align(dtype)}")

    # -- loops ----------------------------------------------------------------------------------

    def loop(self, stmt: For, *, outermost: bool) -> None:
        if outermost:
            first, last = "%begin", "%end"
        else:
            first, last = "0", self.scalar(stmt.extent)
        if stmt.mode == "unroll":
            for position in range(int(last)):
                self.axes[stmt.axis] = position
                with self.inside():
                    self.block(stmt.body)
            del self.axes[stmt.axis]
        elif stmt.mode == "vector" or (outermost and self.is_vector(stmt)):
            self.vector_loop(stmt, first, last)
        else:
            with self.inside():
                self.counted(stmt, first, last, 1, lambda: self.block(stmt.body))

    def is_vector(self, stmt: For) -> bool:
        """Whether a parallel outermost loop is also the vector loop: it holds no other loop."""
        return not any(isinstance(inner, For) for inner in statements(stmt.body))

    def counted(self, stmt: For, first: str, last: str, step: int, body: object) -> str:
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
        assert callable(body)
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
        lanes = self.machine.lanes(_widest(stmt))
        self.hoist(stmt)
        accumulated = {s.name: s for s in stmt.body if isinstance(s, Accumulate)}
        unroll = self.machine.interleave if accumulated or _is_light(stmt) else 2
        if first == "0" and last.isdigit():
            self.fixed_vector_loop(stmt, int(last), lanes, accumulated)
            self.hoisted.pop()
            return
        partials = self.start_partials(accumulated, lanes, unroll)
        span = lanes * unroll

        def body(copies: int) -> None:
            for copy in range(copies):
                self.vector_body(stmt, lanes, copy, partials)

        rest = self.main_loop(stmt, first, last, span, lambda: body(unroll))
        if unroll > 1:
            rest = self.main_loop(stmt, rest, last, lanes, lambda: body(1))
        self.finish_partials(accumulated, partials, lanes)
        with self.inside():
            self.counted(stmt, rest, last, 1, lambda: self.block(stmt.body))
        self.hoisted.pop()

    def main_loop(self, stmt: For, first: str, last: str, span: int, body: object) -> str:
        """The steps of `span` elements that fit between `first` and `last`; where they end."""
        count = self.emit(f"sub i64 {last}, {first}")
        rest = self.emit(f"srem i64 {count}, {span}")
        end = self.emit(f"sub i64 {last}, {rest}")
        return self.counted(stmt, first, end, span, body)

    def fixed_vector_loop(
        self, stmt: For, extent: int, lanes: int, accumulated: dict[str, Accumulate]
    ) -> None:
        while lanes > 1 and extent < lanes:
            lanes //= 2
        if lanes > 1 and extent // lanes <= self.machine.unrolled:
            copies = extent // lanes
            partials = self.start_partials(accumulated, lanes, min(copies, self.machine.interleave))
            for copy in range(copies):
                self.axes[stmt.axis] = copy * lanes
                self.vector_body(stmt, lanes, 0, partials[copy % len(partials) :])
            self.finish_partials(accumulated, partials, lanes)
            done = copies * lanes
        elif lanes > 1:
            copies = self.machine.interleave if accumulated or _is_light(stmt) else 2
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

    def vector_body(self, stmt: For, lanes: int, copy: int, partials: list[dict[str, str]]) -> None:
        base = self.axes[stmt.axis]
        if copy:
            self.axes[stmt.axis] = self.emit(f"add nsw i64 {base}, {copy * lanes}")
        self.vector, self.lanes = stmt.axis, lanes
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
        """Write what does not change along the loop before it; ends with a pop of `hoisted`."""
        self.hoisted.append({})
        stored = {s.buffer for s in statements(stmt.body) if isinstance(s, Store)}
        inner = {s.axis for s in statements(stmt.body) if isinstance(s, For)} | {stmt.axis}
        named = {s.name for s in statements(stmt.body) if isinstance(s, (Let, Var, Accumulate))}
        moving: set[Expr] = set()
        for expr in walk(*(e for s in statements(stmt.body) for e in expressions(s))):
            if (
                any(child in moving for child in expr.children)
                or expr in inner
                or (isinstance(expr, Load) and expr.buffer in stored)
                or (isinstance(expr, Ref) and expr.name in named)
            ):
                moving.add(expr)
            elif isinstance(expr, (Load, Apply)):
                self.hoisted[-1][expr] = self.scalar(expr)

    @contextmanager
    def inside(self) -> Iterator[None]:
        """A block of its own: what is named or written in it is not known after it."""
        lets = dict(self.lets)
        self.hoisted.append({})
        yield
        self.hoisted.pop()
        self.lets = lets
        self.memo = {}

    # -- expressions ----------------------------------------------------------------------------

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

    def dim(self, value: object) -> str:
        """A dim of the kernel: a number or one of its size parameters."""
        if isinstance(value, int):
            return str(value)
        name = str(value)
        if not isinstance(value, Dim) or name not in self.kernel.sizes:
            raise SardonyxError(f"kernel {self.kernel.name} has no size {name}")
        return f"%{name}"

    def known(self, expr: Expr) -> str | None:
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
        kind = element_type(load.dtype)
        address = self.emit(
            f"getelementptr {kind}, ptr {self.pointers[load.buffer]}, i64 {position}"
        )
        value = self.emit(f"load {kind}, ptr {address}, align {_align(load.dtype)}")
        return self.from_memory(value, load.dtype, 1)

    def linear(self, expr: Linear, term_value: object) -> str:
        """A sum of products; numbers are added up while writing."""
        assert callable(term_value)
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
                parts.append(self.emit(f"mul nsw i64 {value}, {self.dim(factor)}"))
        if not parts:
            return str(total)
        value = parts[0]
        for part in parts[1:]:
            value = self.emit(f"add nsw i64 {value}, {part}")
        return self.emit(f"add nsw i64 {value}, {total}") if total else value

    def first_lane(self, expr: Linear) -> str:
        """The index `expr` of lane 0, where it grows by a constant from lane to lane."""
        return self.linear(expr, lambda term: self.scalar(term))

    def each_lane(self, expr: Linear) -> Iterator[str]:
        """The index of every lane."""
        assert self.vector is not None
        step = coefficient(expr, self.vector)
        if step is None:
            value = self.vectored(expr)
            for lane in range(self.lanes):
                yield self.emit(f"extractelement <{self.lanes} x i64> {value}, i64 {lane}")
            return
        position, stride = self.first_lane(expr), self.dim(step)
        for lane in range(self.lanes):
            yield position
            if lane + 1 < self.lanes:
                position = self.emit(f"add nsw i64 {position}, {stride}")

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
        kind = llvm_type(INT64, self.lanes)
        fixed = tuple((term, factor) for term, factor in expr.terms if not self.varies(term))
        moving = [(term, factor) for term, factor in expr.terms if self.varies(term)]
        value = self.splat(self.scalar(Linear(expr.constant, fixed)), INT64)
        for term, factor in moving:
            part = self.vectored(term)
            if factor != 1:
                part = self.emit(f"mul nsw {kind} {part}, {self.splat(self.dim(factor), INT64)}")
            value = self.emit(f"add nsw {kind} {value}, {part}")
        return value

    def vector_load(self, load: Load) -> str:
        assert self.vector is not None
        (offset,) = load.indices
        kind = element_type(load.dtype)
        wide = f"<{self.lanes} x {kind}>"
        if coefficient(offset, self.vector) == 1:
            address = self.emit(
                f"getelementptr {kind}, ptr {self.pointers[load.buffer]}, "
                f"i64 {self.first_lane(offset)}"
            )
            value = self.emit(f"load {wide}, ptr {address}, align {_align(load.dtype)}")
            return self.from_memory(value, load.dtype, self.lanes)
        value = "poison"
        for lane, position in enumerate(self.each_lane(offset)):
            address = self.emit(
                f"getelementptr {kind}, ptr {self.pointers[load.buffer]}, i64 {position}"
            )
            item = self.emit(f"load {kind}, ptr {address}, align {_align(load.dtype)}")
            value = self.emit(f"insertelement {wide} {value}, {kind} {item}, i64 {lane}")
        return self.from_memory(value, load.dtype, self.lanes)

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
        if self.lanes == 1:
            return value
        scalar, wide = llvm_type(dtype, 1), llvm_type(dtype, self.lanes)
        if not value.startswith("%"):
            return f"splat ({scalar} {value})"
        single = self.emit(f"insertelement {wide} poison, {scalar} {value}, i64 0")
        return self.emit(
            f"shufflevector {wide} {single}, {wide} poison, <{self.lanes} x i32> zeroinitializer"
        )

    def from_memory(self, value: str, dtype: DType, lanes: int) -> str:
        if dtype is not BOOL:
            return value
        kind = llvm_type(UINT8, lanes)
        zero = "0" if lanes == 1 else "zeroinitializer"
        return self.emit(f"icmp ne {kind} {value}, {zero}")

    def in_memory(self, value: str, dtype: DType, lanes: int) -> str:
        if dtype is not BOOL:
            return value
        return self.emit(f"zext {llvm_type(BOOL, lanes)} {value} to {llvm_type(UINT8, lanes)}")


def _align(dtype: DType) -> int:
    return max(dtype.bits // 8, 1)


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


def _widest(stmt: For) -> int:
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


def _is_light(stmt: For) -> bool:
    """Whether the body is so small that more copies pay."""
    return sum(1 for _ in walk(*(e for s in stmt.body for e in _values(s)))) < 24
