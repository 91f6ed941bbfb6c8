"""What LLVM found out about this processor, kept, so that the next process need not load LLVM.

It is kept with what LLVM found it out from, as far as that can be had without LLVM: on x86-64 the
answers of the CPUID instruction, on AArch64 what Linux says of its processors. Elsewhere LLVM is
asked each time.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from contextlib import suppress
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sardonyx.codegen.cache import default_cache, key_of
from sardonyx.codegen.elf import ForeignObjectError
from sardonyx.codegen.objects import install
from sardonyx.loops.machine import Machine

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["remembered"]

_CPUID: Final = bytes.fromhex(
    "53"  # push rbx
    "4989d0"  # mov r8, rdx
    "89f8"  # mov eax, edi
    "89f1"  # mov ecx, esi
    "0fa2"  # cpuid
    "418900"  # mov [r8], eax
    "41895804"  # mov [r8 + 4], ebx
    "41894808"  # mov [r8 + 8], ecx
    "4189500c"  # mov [r8 + 12], edx
    "5b"  # pop rbx
    "c3"  # ret
)
_XGETBV: Final = bytes.fromhex(
    "31c9"  # xor ecx, ecx
    "0f01d0"  # xgetbv
    "c3"  # ret
)
_LEAVES: Final = (
    (0, 0), (1, 0), (7, 0), (7, 1), (7, 2), (0xD, 1), (0x14, 0), (0x19, 0), (0x1E, 1), (0x24, 0),
    (0x80000000, 0), (0x80000001, 0), (0x80000008, 0),
)  # fmt: skip
"""What is asked: functions of the processor, in Intel's and AMD's numbering."""
_EXTENDED: Final = 0x80000000
"""Functions from here on, and those below, begin with the one that tells the last."""
_VARYING: Final = frozenset({(1, 0), (0xD, 1)})
"""Those whose EBX is about the core that answers, or the moment."""
_SAVES_STATE: Final = 27
_NAMES_PROCESSOR: Final = ("CPU ", "Features", "Hardware")


def remembered(detect: Callable[[], Machine]) -> Machine:
    """What `detect` finds, or found in an earlier process on this processor."""
    cache = default_cache()
    identity = None if cache is None else _identity()
    if cache is None or identity is None:
        return detect()
    form = str(asdict(Machine("", "", "", 0, 0)))
    key = key_of("processor", sys.platform, os.uname().machine, identity, form)
    known = cache.get(key)
    if known is not None:
        with suppress(ValueError, TypeError):
            return Machine(**json.loads(known))
    found = detect()
    cache.put(key, json.dumps(asdict(found)).encode())
    return found


def _identity() -> str | None:
    """What tells this processor from another; None where that is not known."""
    if os.name != "posix" or sys.maxsize < 1 << 32:
        return None
    architecture = os.uname().machine
    try:
        if architecture in {"x86_64", "amd64"}:
            return _answers()
        if architecture == "aarch64" and sys.platform == "linux":
            lines = Path("/proc/cpuinfo").read_text(encoding="ascii").splitlines()
            return "\n".join(sorted({x for x in lines if x.startswith(_NAMES_PROCESSOR)}))
    except (ForeignObjectError, OSError, ValueError):
        return None
    return None


@lru_cache(maxsize=1)
def _answers() -> str:
    xgetbv_at = 64
    code = bytearray(_CPUID.ljust(xgetbv_at, b"\xcc") + _XGETBV)
    address = install(code, len(code))
    number, pointer = ctypes.c_uint32, ctypes.c_void_p
    cpuid = ctypes.CFUNCTYPE(None, number, number, pointer)(address)
    words = (number * 4)()
    found: dict[tuple[int, int], list[int]] = {}
    for leaf, part in _LEAVES:
        first = leaf & _EXTENDED
        if leaf > found.get((first, 0), [leaf])[0]:
            continue  # processors answer something else then
        cpuid(leaf, part, ctypes.addressof(words))
        found[leaf, part] = list(words)
        if (leaf, part) in _VARYING:
            found[leaf, part][1] = 0
    if found[1, 0][2] >> _SAVES_STATE & 1:
        xgetbv = ctypes.CFUNCTYPE(number)(address + xgetbv_at)
        found[0, 1] = [xgetbv()]
    return str(found)
