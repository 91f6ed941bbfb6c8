"""A compiled model: native stretches, with reference evaluation of what is not compiled between.

A model's steps are in order. A `Stretch` is a run of kernels that one native call executes; a
`Call` is a node that its operator's `reference` evaluates. What the sizes of a run imply
(arguments of kernels, where each value lies in the arena, which launches are shared by threads) is
a `Layout`, made once for each combination of sizes that a stretch sees and kept for the last ones.
A `Frame` is the memory that one run at a time uses.
"""

from __future__ import annotations

import ctypes
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from sardonyx.codegen.machine import host
from sardonyx.codegen.runner import RECORD_WORDS, STATUS_BYTES, Control
from sardonyx.dims import Dim, evaluate, symbols
from sardonyx.errors import ExecutionError
from sardonyx.limits import active, exceeded
from sardonyx.runtime.arena import place
from sardonyx.runtime.threads import pool

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping, Sequence

    from sardonyx.dims import DimLike
    from sardonyx.dtypes import DType
    from sardonyx.schedule.launch import Launch

__all__ = [
    "HELD",
    "RUN",
    "SLICE",
    "Buffer",
    "Frame",
    "Layout",
    "SizesDiffer",
    "Stretch",
    "address_of",
    "alignment",
    "run_alone",
    "usable",
]

KEPT_LAYOUTS: Final = 64
ALIGNMENT: Final = 64

LANE_STEPS: Final = 2.5
"""Units of `Launch.work` that a lane of a vector does in a nanosecond, about."""
LANE_FLOPS: Final = 10
"""Additions and multiplications of matrix products that a lane does in a nanosecond, about."""
SHARED_FROM: Final = 4_000
"""Nanoseconds of work in a launch from which on threads share it."""
CHUNK_FROM: Final = 2_000
"""Nanoseconds of work in a chunk, at least."""
WOKEN_FROM: Final = 50_000
"""Nanoseconds of work to share for which sleeping helpers are woken."""
WAKING: Final = 20_000
"""Nanoseconds from waking a helper to its first chunk, about."""
SLICE: Final = 100_000_000
"""Nanoseconds of work, about, after which a run comes back to Python for a moment."""

RUN = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p)
"""The type of the native loop, which takes a control block: `sardonyx.codegen.runner`."""
HELD = ctypes.PYFUNCTYPE(ctypes.c_int64, ctypes.c_void_p)
"""The same for a call so short that letting go of the interpreter's lock costs more."""


class SizesDiffer(Exception):  # noqa: N818 - the evaluator takes over
    """The sizes of a run, or its data, are not what the model was compiled for."""


@dataclass(frozen=True, slots=True)
class Buffer:
    """A value as a stretch sees it: outside (fed, made by another step, or an output) or inside."""

    key: Hashable
    dtype: DType
    shape: tuple[DimLike, ...]

    def nbytes(self, env: Mapping[str, int]) -> int:
        """Its size for the sizes `env`."""
        count = 1
        for dim in self.shape:
            count *= number(dim, env)
        return count * max(self.dtype.bits // 8, 1)


def number(dim: DimLike, env: Mapping[str, int]) -> int:
    """A dim for the sizes `env`. Raises `SizesDiffer` for sizes with which it has no meaning."""
    try:
        return evaluate(dim, env) if isinstance(dim, Dim) else dim
    except (ValueError, ZeroDivisionError):
        raise SizesDiffer from None


def address_of(array: Any) -> int:
    """Where an array's elements lie."""
    found: int = array.__array_interface__["data"][0]
    return found


def aligned(array: Any) -> int:
    """The first address in `array` that is a multiple of `ALIGNMENT`."""
    return -(-address_of(array) // ALIGNMENT) * ALIGNMENT


def alignment(dtype: Any) -> int:
    """A power of two that addresses of arrays are multiples of."""
    size: int = dtype.itemsize
    return size if size and not size & (size - 1) else 1


def usable(value: Any, dtype: Any) -> Any:
    """`value` as kernels read it: row by row, aligned to its elements."""
    array = np.ascontiguousarray(value, dtype).reshape(np.shape(value))
    if array.dtype is not dtype:
        array = array.view(dtype)
    return array.copy() if address_of(array) % alignment(dtype) else array


@dataclass(slots=True, eq=False)
class Layout:
    """A stretch for certain sizes: the native program, and where inside values lie.

    `table` has the constants' addresses and one place to spare at its end, `offsets` the places
    in the arena of the inside values, whose places in the table are `inside`. `nanoseconds` is
    about what a run takes one thread; `is_shared` is whether it is worth waking others for.
    """

    program: Any
    arguments: Any
    table: Any
    offsets: Any
    inside: Any
    arena_bytes: int
    scratch_bytes: int
    nanoseconds: int
    is_shared: bool
    shapes: dict[Hashable, tuple[int, ...]]


class Frame:
    """The memory of one run at a time: its control block, table, arena, scratch and status bytes.

    `words` is the control block, `address` where it lies, `table` the addresses of the values of
    the stretch whose layout it is bound to. Tables and control blocks of the layouts that it was
    bound to are kept while the memory stays the same: the stretches of a model take turns.
    """

    def __init__(self) -> None:
        self._control = (ctypes.c_int64 * Control.WORDS)()
        self._bytes = memoryview(self._control).cast("B")
        self.words = self._bytes.cast("q")
        self.address = ctypes.addressof(self._control)
        self.table = np.empty(0, np.int64)
        self.layout: Layout | None = None
        self._bound: dict[tuple[Layout, int, int], tuple[Any, bytes]] = {}
        self._arena = np.empty(0, np.uint8)
        self._scratch = np.empty(0, np.uint8)
        self._status = np.empty(0, np.uint8)

    def bind(self, layout: Layout, threads: int) -> bool:
        """Make ready for runs of `layout` by `threads` threads; false if it was."""
        block, threads = pool(threads) if layout.is_shared and threads > 1 else (0, 1)
        words = self.words
        bound = (words[Control.POOL], words[Control.THREADS])
        if self.layout is layout and bound == (block, threads):
            return False
        self.layout = layout
        key = layout, block, threads
        known = self._bound.get(key)
        if known is not None:
            self.table, self._bytes[:] = known
            return True
        self._grow(layout, threads)
        self.table = layout.table.copy()
        if len(layout.inside):
            self.table[layout.inside] = layout.offsets + aligned(self._arena)
        words[Control.PROGRAM] = address_of(layout.program)
        words[Control.COUNT] = len(layout.program)
        words[Control.FIRST] = 0
        words[Control.TABLE] = address_of(self.table)
        words[Control.SCRATCH] = aligned(self._scratch)
        words[Control.STRIDE] = layout.scratch_bytes
        words[Control.STATUS] = aligned(self._status)
        words[Control.POOL] = block
        words[Control.THREADS] = threads
        words[Control.BUDGET] = SLICE
        words[Control.ARRAYS] = 0
        if len(self._bound) == KEPT_LAYOUTS:
            self._bound.clear()
        self._bound[key] = self.table, bytes(self._bytes)
        return True

    def _grow(self, layout: Layout, threads: int) -> None:
        """Have the memory that `layout` needs."""
        arena = layout.arena_bytes + ALIGNMENT
        scratch = layout.scratch_bytes * threads + ALIGNMENT
        status = STATUS_BYTES * (threads + 1)
        if self._arena.size < arena or self._scratch.size < scratch or self._status.size < status:
            self._bound.clear()
            if self._arena.size < arena:
                self._arena = np.empty(arena, np.uint8)
            if self._scratch.size < scratch:
                self._scratch = np.empty(scratch, np.uint8)
            if self._status.size < status:
                self._status = np.zeros(status, np.uint8)

    def finish(
        self, code: int, call: Callable[[int], int], check: Callable[[], None] | None
    ) -> int:
        """Go on with a run of which the first call gave `code`; gives the last call's code.

        `check` is called between slices, and may raise.
        """
        count = self.words[Control.COUNT]
        try:
            while 0 <= code < count:
                if check is not None:
                    check()
                self.words[Control.FIRST] = code
                code = call(self.address)
        finally:
            self.words[Control.FIRST] = 0
        if code < -1:
            self._status[:] = 0
        return code


def run_alone(stretch: Stretch, run_address: int) -> dict[Hashable, Any]:
    """Run a stretch that has constants and outputs only, on this thread; its outputs."""
    layout = stretch.layout({})
    frame = Frame()
    frame.bind(layout, 1)
    found = {}
    for buffer in stretch.outputs:
        array = np.empty(layout.shapes[buffer.key], buffer.dtype.numpy)
        found[buffer.key] = array
        frame.table[stretch.slots[buffer.key]] = address_of(array)
    call = RUN(run_address)
    if frame.finish(call(frame.address), call, None) < 0:
        raise ExecutionError("an index is outside of the dimension that it selects from")
    return found


@dataclass(slots=True)
class Stretch:
    """Launches that run in one native call.

    `inputs` are values that earlier steps made, `outputs` those that later ones read, `inside`
    those that live in the arena. The table of pointers has them in this order, constants last.
    """

    launches: Sequence[Launch]
    addresses: Mapping[str, int]
    inputs: Sequence[Buffer]
    outputs: Sequence[Buffer]
    inside: Sequence[Buffer]
    constants: Sequence[tuple[Hashable, Any]]
    names: tuple[str, ...] = ()
    slots: dict[Hashable, int] = field(default_factory=dict)
    layouts: OrderedDict[tuple[int, ...], Layout] = field(default_factory=OrderedDict)

    def __post_init__(self) -> None:
        order = [buffer.key for buffer in (*self.inputs, *self.outputs, *self.inside)]
        order += [key for key, _ in self.constants]
        self.slots = {key: slot for slot, key in enumerate(order)}
        found: set[str] = set()
        for launch in self.launches:
            found |= launch.symbols()
        for buffer in (*self.outputs, *self.inside):
            for dim in buffer.shape:
                if isinstance(dim, Dim):
                    found |= {str(name) for name in symbols(dim)}
        self.names = tuple(sorted(found))

    def layout(self, env: Mapping[str, int]) -> Layout:
        """The layout for the sizes `env`, made if it is new. Raises `LimitError`."""
        key = tuple(env[name] for name in self.names)
        found = self.layouts.get(key)
        if found is None:
            found = self._lay_out(env)
            self.layouts[key] = found
            while len(self.layouts) > KEPT_LAYOUTS:
                self.layouts.popitem(last=False)
        return found

    def _lay_out(self, env: Mapping[str, int]) -> Layout:
        for launch in self.launches:
            if any(number(dim, env) < 0 for dim in launch.requirements):
                raise SizesDiffer
        sizes = {buffer.key: self._checked(buffer, env) for buffer in self.inside}
        offsets, total = place(sizes, self._lifetimes())
        outside = sum(self._checked(buffer, env) for buffer in self.outputs)
        bound = active().memory_bytes
        if total + outside > bound:
            raise exceeded("memory_bytes", bound, total + outside)
        words: list[int] = []
        begins: list[int] = []
        scratch = 0
        for launch in self.launches:
            begins.append(len(words))
            words += [self.slots[buffer] for buffer in launch.buffers]
            words += [_wrapped(number(size, env)) for size in launch.sizes]
            needed = sum(-(-number(size, env) // ALIGNMENT) * ALIGNMENT for size in launch.scratch)
            scratch = max(scratch, needed)
        arguments = np.array(words or [0], np.int64)
        program, nanoseconds, is_shared = self._program(env, begins, address_of(arguments))
        table = np.zeros(len(self.slots) + 1, np.int64)
        for key, array in self.constants:
            table[self.slots[key]] = address_of(array)
        inside = np.array([self.slots[buffer.key] for buffer in self.inside], np.intp)
        positions = np.array([offsets[buffer.key] for buffer in self.inside], np.int64)
        shapes = {
            buffer.key: tuple(number(dim, env) for dim in buffer.shape) for buffer in self.outputs
        }
        return Layout(
            program,
            arguments,
            table,
            positions,
            inside,
            total,
            scratch,
            nanoseconds,
            is_shared,
            shapes,
        )

    def _checked(self, buffer: Buffer, env: Mapping[str, int]) -> int:
        if any(number(dim, env) < 0 for dim in buffer.shape):
            raise SizesDiffer
        nbytes = buffer.nbytes(env)
        bound = active().tensor_bytes
        if nbytes > bound:
            raise exceeded("tensor_bytes", bound, nbytes)
        return nbytes

    def _program(
        self, env: Mapping[str, int], begins: Sequence[int], base: int
    ) -> tuple[Any, int, bool]:
        """The records, what all of them take, and whether threads share any of them."""
        extents = [number(launch.extent, env) for launch in self.launches]
        times = [
            _nanoseconds(launch, extent, env)
            for launch, extent in zip(self.launches, extents, strict=True)
        ]
        leasts = [
            max(-(-CHUNK_FROM * extent // time), 1)
            for extent, time in zip(extents, times, strict=True)
        ]
        modes = _modes(extents, leasts, times)
        program = np.zeros((len(self.launches), RECORD_WORDS), np.int64)
        for row, launch in enumerate(self.launches):
            code, begin = self.addresses[launch.kernel.name], base + 8 * begins[row]
            program[row] = (code, begin, extents[row], leasts[row], modes[row], times[row])
        return program, sum(times), any(modes)

    def _lifetimes(self) -> dict[Hashable, tuple[int, int]]:
        """For each inside value the first and the last launch that touches it."""
        found: dict[Hashable, tuple[int, int]] = {}
        mine = {buffer.key for buffer in self.inside}
        for number_, launch in enumerate(self.launches):
            for buffer in launch.buffers:
                if buffer in mine:
                    first, _ = found.get(buffer, (number_, number_))
                    found[buffer] = (first, number_)
        return found


def _wrapped(value: int) -> int:
    """`value` in 64 bits: arithmetic on integers that are fed may leave them."""
    return (value + (1 << 63)) % (1 << 64) - (1 << 63)


def _nanoseconds(launch: Launch, extent: int, env: Mapping[str, int]) -> int:
    """About what a launch takes one thread, at least 1."""
    lanes = host().lanes(32)
    flops = number(launch.flops, env)
    if flops:
        found = flops / (lanes * LANE_FLOPS)
    else:
        found = extent * number(launch.work, env) / (lanes * LANE_STEPS)
    return int(min(found, 1 << 40)) + 1


def _modes(extents: Sequence[int], leasts: Sequence[int], times: Sequence[int]) -> list[int]:
    """Which launches are shared (1), and before which helpers are woken (2)."""
    shared = [
        time >= SHARED_FROM and extent >= 2 * least
        for extent, least, time in zip(extents, leasts, times, strict=True)
    ]
    modes = [0] * len(times)
    rest = 0
    for row in reversed(range(len(times))):
        if not shared[row]:
            continue
        rest += times[row]
        modes[row] |= 3 if rest >= WOKEN_FROM else 1
        ahead, earlier = 0, row
        while modes[row] & 2 and earlier and not shared[earlier - 1] and ahead < WAKING:
            earlier -= 1
            ahead += times[earlier]
        if earlier < row:
            modes[earlier] |= 2
    return modes if rest >= WOKEN_FROM else [0] * len(times)
