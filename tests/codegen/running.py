"""Kernels compiled and called as the runtime calls them, with what lies around buffers watched."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sardonyx.codegen.emit import emit_module
from sardonyx.codegen.machine import host
from sardonyx.codegen.native import Library, compile_object, load_object
from sardonyx.loops.kernel import Kernel
from sardonyx.loops.machine import Machine

AROUND = 256
"""Bytes before and after a buffer that no kernel may change."""
SCRATCH = 1 << 20

_CALL = ctypes.CFUNCTYPE(
    None,
    ctypes.c_void_p,
    ctypes.c_void_p,
    ctypes.c_int64,
    ctypes.c_int64,
    ctypes.c_void_p,
    ctypes.c_void_p,
)


def compiled(kernels: Sequence[Kernel], machine: Machine | None = None, *, strict: bool) -> Library:
    machine = machine or host()
    return load_object(
        [compile_object(emit_module(kernels, machine, strict=strict), machine)], machine
    )


class Watched:
    """A copy of an array with bytes around it that must stay as they are."""

    def __init__(self, array: Any) -> None:
        self.memory = np.full(array.nbytes + 2 * AROUND + 64, 0xA5, np.uint8)
        start = AROUND + -(self.memory.ctypes.data + AROUND) % 64
        self.span = slice(start, start + array.nbytes)
        self.memory[self.span] = np.frombuffer(array.tobytes(), np.uint8)
        self.dtype = array.dtype

    @property
    def address(self) -> int:
        return int(self.memory.ctypes.data + self.span.start)

    def array(self) -> Any:
        around = np.delete(self.memory, np.arange(self.span.start, self.span.stop))
        assert (around == 0xA5).all(), "a kernel wrote outside of a buffer"
        return self.memory[self.span].view(self.dtype)


class Call:
    """A kernel with its buffers and sizes in place; `status` is set where an index was outside."""

    def __init__(
        self,
        library: Library,
        kernel: Kernel,
        buffers: Mapping[str, Any],
        sizes: Mapping[str, int],
    ) -> None:
        self.library = library  # the code lives as long as it does
        self.function = _CALL(library.address(kernel.name))
        self.buffers = {param.name: Watched(buffers[param.name]) for param in kernel.params}
        self.table = np.array([buffer.address for buffer in self.buffers.values()], np.uint64)
        numbers = [*range(len(self.buffers)), *(sizes[name] for name in kernel.sizes)]
        self.arguments = np.array([*numbers, 0], np.int64)
        self.scratch = Watched(np.zeros(SCRATCH, np.uint8))
        self.status = Watched(np.zeros(1, np.uint8))

    def part(self, begin: int, end: int) -> None:
        self.function(
            self.arguments.ctypes.data,
            self.table.ctypes.data,
            begin,
            end,
            self.scratch.address,
            self.status.address,
        )

    def results(self) -> dict[str, Any]:
        self.scratch.array()
        return {name: buffer.array() for name, buffer in self.buffers.items()}


def run(
    library: Library,
    kernel: Kernel,
    buffers: Mapping[str, Any],
    sizes: Mapping[str, int],
    steps: int,
) -> dict[str, Any]:
    """All buffers after all `steps` of the kernel's parallel loop, done in two parts."""
    call = Call(library, kernel, buffers, sizes)
    call.part(0, steps // 3)
    call.part(steps // 3, steps)
    return call.results()
