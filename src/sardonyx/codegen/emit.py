"""Kernels as LLVM IR text.

A kernel becomes two functions. The outer one, ``void name(ptr args, ptr table, i64 begin, i64 end,
ptr scratch, ptr status)``, is what the runtime calls: `args` holds for each parameter the number of
its pointer in `table`, then the sizes. The inner one has them as arguments that do not alias. The
outermost loop, if it is parallel, runs from `begin` to `end`.

Values are scalars, or vectors while the body of a vector loop is written. What does not vary along
the vector axis is written once, before the loop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sardonyx.codegen import scalars
from sardonyx.codegen.instructions import alignment
from sardonyx.codegen.loops import Loops, widest
from sardonyx.codegen.scalars import element_type, llvm_type
from sardonyx.loops.check import check_kernel
from sardonyx.loops.kernel import (
    Accumulate,
    For,
    If,
    Kernel,
    Let,
    Local,
    Prefetch,
    Store,
    Var,
    is_on_stack,
    statements,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sardonyx.loops.kernel import Block
    from sardonyx.loops.machine import Machine

__all__ = ["SIGNATURE", "emit_kernel", "emit_module"]

SIGNATURE = "ptr %args, ptr %table, i64 %begin, i64 %end, ptr %scratch, ptr %status"
_STREAMED = "!0"
_STREAMED_BYTES = 16
_PREFETCH = "@llvm.prefetch.p0"
_LINE = 64
"""Bytes of a line of the cache."""
SCRATCH_ALIGNMENT = 64


def emit_module(kernels: Sequence[Kernel], machine: Machine, *, strict: bool = False) -> str:
    """The LLVM module of `kernels`; `strict` keeps a * b + c from being rounded once."""
    declared: dict[str, str] = {}
    texts = [emit_kernel(kernel, machine, declared) for kernel in kernels]
    if strict:
        texts = [text.replace(" contract ", " ") for text in texts]
    return "\n".join([*texts, *declared.values(), ""])


def emit_kernel(kernel: Kernel, machine: Machine, declared: dict[str, str]) -> str:
    """The two functions of one kernel; intrinsics that it calls are added to `declared`.

    Raises KernelError for a kernel that breaks a rule of the loop IR.
    """
    check_kernel(kernel)
    return _Writer(kernel, machine, declared).text()


class _Writer(Loops):
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
        passed += [f"i64 %a{len(kernel.params) + i}" for i in range(len(kernel.sizes))]
        passed += ["i64 %begin", "i64 %end", "ptr %scratch", "ptr %status"]
        yield f"  call void @{kernel.name}.body({', '.join(passed)})"
        if any(isinstance(s, Store) and s.is_streamed for s in statements(kernel.body)):
            # other threads see what was streamed once it is fenced
            is_x86 = self.machine.triple.startswith("x86_64")
            if is_x86:
                self.declared["sfence"] = "declare void @llvm.x86.sse.sfence()"
            yield "  call void @llvm.x86.sse.sfence()" if is_x86 else "  fence seq_cst"
        yield "  ret void"
        yield "}"

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
            elif isinstance(stmt, Prefetch):
                self.prefetch(stmt)
            else:
                self.branch(stmt)

    def variable(self, stmt: Var) -> None:
        kind = llvm_type(stmt.dtype, self.lanes)
        address = f"%var.{stmt.name}.{scalars.suffix(stmt.dtype, self.lanes)}"
        self.allocate(address, kind)
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
            self.allocate(pointer, f"[{count} x {kind}], align {SCRATCH_ALIGNMENT}")
            self.pointers[stmt.name] = pointer
            return
        self.pointers[stmt.name] = self.emit(f"getelementptr i8, ptr %scratch, i64 {self.scratch}")
        bytes_ = self.emit(f"mul i64 {self.dim(count)}, {max(stmt.dtype.bits // 8, 1)}")
        padded = self.emit(f"add i64 {bytes_}, {SCRATCH_ALIGNMENT - 1}")
        rounded = self.emit(f"and i64 {padded}, {-SCRATCH_ALIGNMENT}")
        self.scratch = self.emit(f"add i64 {self.scratch}, {rounded}")

    def streams(self, stmt: For, first: str) -> list[str]:
        found = []
        for inner in stmt.body:
            if not (isinstance(inner, Store) and inner.is_streamed):
                continue
            nbytes = max(inner.value.dtype.bits // 8, 1)
            self.axes[stmt.axis] = first
            self.vector, self.lanes = stmt.axis, self.machine.lanes(widest(stmt))
            self.variance = {}
            (offset,) = inner.indices
            size = self.lanes * nbytes
            if size >= _STREAMED_BYTES and self.stride(offset) == 1:
                kind, pointer = element_type(inner.value.dtype), self.pointers[inner.buffer]
                place = self.first_lane(offset)
                address = self.emit(f"getelementptr {kind}, ptr {pointer}, i64 {place}")
                number = self.emit(f"ptrtoint ptr {address} to i64")
                left = self.emit(f"and i64 {number}, {size - 1}")
                found.append(self.emit(f"icmp eq i64 {left}, 0"))
            self.vector, self.lanes = None, 1
            del self.axes[stmt.axis]
            self.memo = {}
        return found

    def prefetch(self, stmt: Prefetch) -> None:
        """Ask for a line of the cache, once for the vectors of a trip that lie in it."""
        (offset,) = stmt.indices
        dtype = next(p.dtype for p in self.kernel.params if p.name == stmt.buffer)
        nbytes = self.lanes * max(dtype.bits // 8, 1)
        if self.vector is None or self.lanes == 1 or self.copy * nbytes % _LINE:
            return
        self.declared[_PREFETCH] = f"declare void {_PREFETCH}(ptr, i32, i32, i32)"
        kind, pointer = element_type(dtype), self.pointers[stmt.buffer]
        place = self.first_lane(offset)
        address = self.emit(f"getelementptr {kind}, ptr {pointer}, i64 {place}")
        self.do(f"call void {_PREFETCH}(ptr {address}, i32 0, i32 2, i32 1)")

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
            self.do(f"store {kind} {value}, ptr {address}, align {alignment(dtype)}")
            return
        value = self.in_memory(self.vectored(stmt.value), dtype, self.lanes)
        if self.stride(offset) == 1:
            address = self.emit(
                f"getelementptr {kind}, ptr {pointer}, i64 {self.first_lane(offset)}"
            )
            wide = f"<{self.lanes} x {kind}>"
            nbytes = self.lanes * max(dtype.bits // 8, 1)
            if stmt.is_streamed and self.is_streaming and nbytes >= _STREAMED_BYTES:
                self.declared[_STREAMED] = f"{_STREAMED} = !{{i32 1}}"
                past = f"align {nbytes}, !nontemporal {_STREAMED}"
                self.do(f"store {wide} {value}, ptr {address}, {past}")
            else:
                self.do(f"store {wide} {value}, ptr {address}, align {alignment(dtype)}")
            return
        for lane, position in enumerate(self.each_lane(offset)):
            item = self.emit(f"extractelement <{self.lanes} x {kind}> {value}, i64 {lane}")
            address = self.emit(f"getelementptr {kind}, ptr {pointer}, i64 {position}")
            self.do(f"store {kind} {item}, ptr {address}, align {alignment(dtype)}")
