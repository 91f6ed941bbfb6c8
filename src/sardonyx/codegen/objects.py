"""Object files into memory without LLVM: all that a session needs whose code is in the cache.

Loaded is what `sardonyx.codegen.native` writes for x86-64 and AArch64 on systems with ELF: code,
constants, and the few kinds of relocation that these need. Anything else is a
`ForeignObjectError`.

All files of one call share one mapping, which stays for the life of the process. It is written
first, then protected; no page is ever writable and executable at once::

    ┌──────────────┬──────────────────┬─────────────────────┐
    │ code of each │ jumps to outside │ constants of each   │
    └──────────────┴──────────────────┴─────────────────────┘
     read and execute                  read

Sources: the psABI for x86-64, section 4.4, and AAELF64, section 5.7, for what relocations mean.
"""

from __future__ import annotations

import ctypes
import mmap
import struct
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from sardonyx.codegen.elf import DamagedObjectError, ForeignObjectError, read

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from sardonyx.codegen.elf import ObjectFile, Symbol

__all__ = ["install", "load"]

_X86_64, _AARCH64 = 62, 183
_MACHINES: Final = {"x86_64": _X86_64, "aarch64": _AARCH64}
_OUTSIDE: Final = frozenset({"memcpy", "memmove", "memset", "memcmp"})
"""Functions of the C library that LLVM calls of its own accord."""
_JUMPS: Final = {
    _X86_64: b"\xff\x25\x00\x00\x00\x00",  # jmp *0(%rip)
    _AARCH64: b"\x50\x00\x00\x58\x00\x02\x1f\xd6",  # ldr x16, .+8; br x16
}
"""A jump to the address that lies behind it."""
_JUMP_BYTES: Final = 16
_MOST_AHEAD: Final = 8
"""Bytes of an instruction behind the place of a relocation in it, which an addend counts."""


def load(objects: Iterable[bytes], triple: str) -> dict[str, int]:
    """Load object files into this process, which `triple` describes: addresses of functions.

    Raises DamagedObjectError for a file that contradicts itself, ForeignObjectError for what this
    loader does not know or the system does not let it do.
    """
    machine = _MACHINES.get(triple.split("-", 1)[0])
    if machine is None or not hasattr(mmap, "PROT_EXEC"):
        raise ForeignObjectError(f"there is no loader of object files for {triple}")
    files = [read(data) for data in objects]
    if any(file.machine != machine for file in files):
        raise ForeignObjectError(f"an object file is not for {triple}")
    image = _Image(machine, files)
    address = install(image.content, image.executable, image.patch, flush=machine != _X86_64)
    return {
        symbol.name: address + image.places[number, symbol.section] + symbol.offset
        for number, file in enumerate(files)
        for symbol in file.symbols
        if symbol.is_function
    }


# -- laying out -------------------------------------------------------------------------------


def _up(value: int, alignment: int) -> int:
    return -(-value // alignment) * alignment


class _Image:
    """The mapping's content; `places` says where each section of each file lies in it."""

    def __init__(self, machine: int, files: Sequence[ObjectFile]) -> None:
        self.machine = machine
        self.files = files
        self.places: dict[tuple[int, int], int] = {}
        end = self._place(0, code=True)
        self.jumps: dict[str, int] = {}
        for file in files:
            for patch in file.patches:
                symbol = file.symbols[patch.symbol]
                if not symbol.section and symbol.name not in self.jumps:
                    self.jumps[symbol.name] = _up(end, _JUMP_BYTES)
                    end = _up(end, _JUMP_BYTES) + _JUMP_BYTES
        self.executable = _up(end, mmap.PAGESIZE)
        self.content = bytearray(_up(self._place(self.executable, code=False), mmap.PAGESIZE))
        for (number, section), place in self.places.items():
            data = files[number].sections[section].data
            self.content[place : place + len(data)] = data
        for name, place in self.jumps.items():
            jump = _JUMPS[machine] + struct.pack("<Q", _outside(name))
            self.content[place : place + len(jump)] = jump

    def _place(self, end: int, *, code: bool) -> int:
        for number, file in enumerate(self.files):
            for index, section in file.sections.items():
                if section.is_code is code:
                    place = _up(end, section.alignment)
                    self.places[number, index] = place
                    end = place + len(section.data)
        return end

    def patch(self, address: int) -> None:
        """Write the addresses and distances that hold once the image lies at `address`."""
        kinds = _KINDS[self.machine]
        for number, file in enumerate(self.files):
            for patch in file.patches:
                if patch.kind not in kinds:
                    raise ForeignObjectError(f"relocations of kind {patch.kind} are not known")
                width, write = kinds[patch.kind]
                if patch.offset + width > len(file.sections[patch.section].data):
                    raise DamagedObjectError("a relocation reaches over the end of its section")
                place = self.places[number, patch.section] + patch.offset
                target = self._target(number, file.symbols[patch.symbol]) + patch.addend
                if not -_MOST_AHEAD <= target <= len(self.content):
                    raise DamagedObjectError("a relocation is to what lies outside of its file")
                write(self.content, place, address + place, address + target)

    def _target(self, number: int, symbol: Symbol) -> int:
        if symbol.section:
            return self.places[number, symbol.section] + symbol.offset
        return self.jumps[symbol.name]


# -- kinds of relocation ----------------------------------------------------------------------


def _put(content: bytearray, at: int, form: str, value: int) -> None:
    try:
        struct.pack_into(form, content, at, value)
    except struct.error:
        raise DamagedObjectError("a relocation reaches too far") from None


def _absolute(content: bytearray, at: int, here: int, target: int) -> None:
    _put(content, at, "<Q", target)


def _distance(content: bytearray, at: int, here: int, target: int) -> None:
    _put(content, at, "<i", target - here)


def _long_distance(content: bytearray, at: int, here: int, target: int) -> None:
    _put(content, at, "<q", target - here)


def _instruction(content: bytearray, at: int, mask: int, bits: int) -> None:
    (word,) = struct.unpack_from("<I", content, at)
    struct.pack_into("<I", content, at, word & ~mask | bits & mask)


def _branch(content: bytearray, at: int, here: int, target: int) -> None:
    words = (target - here) >> 2
    if (target - here) & 3 or not -(1 << 25) <= words < 1 << 25:
        raise DamagedObjectError("a call reaches too far, or between instructions")
    _instruction(content, at, 0x3FFFFFF, words)


def _page(content: bytearray, at: int, here: int, target: int) -> None:
    pages = (target >> 12) - (here >> 12)
    if not -(1 << 20) <= pages < 1 << 20:
        raise DamagedObjectError("an address reaches too far")
    _instruction(content, at, 0x60FFFFE0, (pages & 3) << 29 | (pages >> 2 & 0x7FFFF) << 5)


def _in_page(scale: int) -> Callable[[bytearray, int, int, int], None]:
    """The low 12 bits of an address in an instruction that counts in steps of `scale` bytes."""

    def write(content: bytearray, at: int, here: int, target: int) -> None:
        if target % scale:
            raise DamagedObjectError("an address is not aligned as the instruction wants it")
        _instruction(content, at, 0x3FFC00, ((target & 0xFFF) // scale) << 10)

    return write


_KINDS: Final[dict[int, dict[int, tuple[int, Callable[[bytearray, int, int, int], None]]]]] = {
    _X86_64: {
        1: (8, _absolute),  # R_X86_64_64
        2: (4, _distance),  # R_X86_64_PC32
        4: (4, _distance),  # R_X86_64_PLT32
        24: (8, _long_distance),  # R_X86_64_PC64
    },
    _AARCH64: {
        257: (8, _absolute),  # R_AARCH64_ABS64
        260: (8, _long_distance),  # R_AARCH64_PREL64
        261: (4, _distance),  # R_AARCH64_PREL32
        275: (4, _page),  # R_AARCH64_ADR_PREL_PG_HI21
        277: (4, _in_page(1)),  # R_AARCH64_ADD_ABS_LO12_NC
        278: (4, _in_page(1)),  # R_AARCH64_LDST8_ABS_LO12_NC
        282: (4, _branch),  # R_AARCH64_JUMP26
        283: (4, _branch),  # R_AARCH64_CALL26
        284: (4, _in_page(2)),  # R_AARCH64_LDST16_ABS_LO12_NC
        285: (4, _in_page(4)),  # R_AARCH64_LDST32_ABS_LO12_NC
        286: (4, _in_page(8)),  # R_AARCH64_LDST64_ABS_LO12_NC
        299: (4, _in_page(16)),  # R_AARCH64_LDST128_ABS_LO12_NC
    },
}
"""For each kind how many bytes it touches, and what writes them."""


# -- the system -------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def _libc() -> Any:
    libc = ctypes.CDLL(None, use_errno=True)
    pointer, size, number = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    libc.mmap.argtypes = [pointer, size, number, number, number, ctypes.c_long]
    libc.mmap.restype = pointer
    libc.munmap.argtypes = [pointer, size]
    libc.mprotect.argtypes = [pointer, size, number]
    return libc


def _outside(name: str) -> int:
    """The address of a function of the C library."""
    if name not in _OUTSIDE:
        raise ForeignObjectError("an object file calls what is not of the C library")
    found = ctypes.cast(getattr(_libc(), name), ctypes.c_void_p).value
    assert found is not None
    return found


def install(
    content: bytearray,
    executable: int,
    patch: Callable[[int], None] = lambda _: None,
    *,
    flush: bool = False,
) -> int:
    """Where `content` lies, once in memory for good; its first `executable` bytes are code.

    They are whole pages, or there are no others. `patch` completes the content when its address
    is known. Raises ForeignObjectError where the system does not permit it.
    """
    libc, size = _libc(), len(content)
    if not size:
        raise DamagedObjectError("an object file is empty")
    access = mmap.PROT_READ | mmap.PROT_WRITE
    address: int | None = libc.mmap(None, size, access, mmap.MAP_PRIVATE | mmap.MAP_ANON, -1, 0)
    if address is None or address == ctypes.c_void_p(-1).value:
        raise ForeignObjectError("the system gives no memory")
    try:
        patch(address)
        ctypes.memmove(address, bytes(content), size)
        code = mmap.PROT_READ | mmap.PROT_EXEC
        failed = executable and libc.mprotect(address, executable, code)
        rest = max(size - executable, 0)
        if failed or (rest and libc.mprotect(address + executable, rest, mmap.PROT_READ)):
            raise ForeignObjectError("the system does not let this process make code")
        if flush:
            _flush(address, address + executable)
    except BaseException:
        libc.munmap(address, size)
        raise
    return address


def _flush(start: int, end: int) -> None:
    """Make the instruction cache see what was written."""
    try:
        flush = ctypes.CDLL("libgcc_s.so.1")["__clear_cache"]
    except (OSError, AttributeError):
        raise ForeignObjectError("nothing here flushes the instruction cache") from None
    flush.argtypes, flush.restype = [ctypes.c_void_p, ctypes.c_void_p], None
    flush(start, end)
