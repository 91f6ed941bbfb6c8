"""What writing LLVM IR starts from: instructions, labels, and elements in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sardonyx.codegen.scalars import llvm_type
from sardonyx.dims import Dim
from sardonyx.dtypes import BOOL, UINT8
from sardonyx.errors import SardonyxError

if TYPE_CHECKING:
    from sardonyx.dtypes import DType
    from sardonyx.loops.kernel import Kernel
    from sardonyx.loops.machine import Machine

__all__ = ["Instructions", "alignment"]


class Instructions:
    """The text of one function as it grows. Intrinsics that it calls are added to `declared`."""

    def __init__(self, kernel: Kernel, machine: Machine, declared: dict[str, str]) -> None:
        self.kernel = kernel
        self.machine = machine
        self.declared = declared
        self.lines: list[str] = []
        self.allocas: list[str] = []
        self.count = 0
        self.label = "start"

    def emit(self, instruction: str) -> str:
        """Append ``%new = instruction`` and give the new name."""
        self.count += 1
        name = f"%v{self.count}"
        self.lines.append(f"  {name} = {instruction}")
        return name

    def do(self, instruction: str) -> None:
        """Append an instruction without a result."""
        self.lines.append(f"  {instruction}")

    def allocate(self, name: str, kind: str) -> None:
        """Memory of the type `kind` on the stack, for as long as the function runs."""
        line = f"  {name} = alloca {kind}"
        if line not in self.allocas:
            self.allocas.append(line)

    def intrinsic(self, name: str, result: str, *arguments: tuple[str, str]) -> str:
        """Call the intrinsic `name` with (type, value) arguments."""
        kinds = ", ".join(kind for kind, _ in arguments)
        self.declared[name] = f"declare {result} @{name}({kinds})"
        passed = ", ".join(f"{kind} {value}" for kind, value in arguments)
        return self.emit(f"call {result} @{name}({passed})")

    def new_label(self, hint: str) -> str:
        """A label that is not in use."""
        self.count += 1
        return f"{hint}{self.count}"

    def place(self, label: str) -> None:
        """What follows is the block called `label`."""
        self.lines.append(f"{label}:")
        self.label = label

    def dim(self, value: object) -> str:
        """A dim of the kernel: a number or one of its size parameters."""
        if isinstance(value, int):
            return str(value)
        name = str(value)
        if not isinstance(value, Dim) or name not in self.kernel.sizes:
            raise SardonyxError(f"kernel {self.kernel.name} has no size {name}")
        return f"%{name}"

    def from_memory(self, value: str, dtype: DType, lanes: int) -> str:
        """A value as it is computed with, of one as it was loaded: BOOL is a byte in memory."""
        if dtype is not BOOL:
            return value
        kind = llvm_type(UINT8, lanes)
        zero = "0" if lanes == 1 else "zeroinitializer"
        return self.emit(f"icmp ne {kind} {value}, {zero}")

    def in_memory(self, value: str, dtype: DType, lanes: int) -> str:
        """A value as it is stored."""
        if dtype is not BOOL:
            return value
        return self.emit(f"zext {llvm_type(BOOL, lanes)} {value} to {llvm_type(UINT8, lanes)}")


def alignment(dtype: DType) -> int:
    """Bytes that the address of an element is a multiple of."""
    return max(dtype.bits // 8, 1)
