"""From kernels to addresses: compiled once in a process, and once on a machine.

A kernel's code follows from its text alone, which its name is the digest of, so layers, models and
sessions share it. Code that was loaded stays for the life of the process.
"""

from __future__ import annotations

import hashlib
import threading
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sardonyx._version import __version__
from sardonyx.codegen.cache import default_cache
from sardonyx.codegen.emit import emit_module
from sardonyx.codegen.native import Library, compile_object, llvm_version, load_object
from sardonyx.codegen.runner import runner_text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sardonyx.loops.kernel import Kernel
    from sardonyx.loops.machine import Machine

__all__ = ["addresses_of", "runner_library"]

_LOCK: Final = threading.RLock()
_ADDRESSES: Final[dict[tuple[str, bool], int]] = {}
_LIBRARIES: Final[list[Library]] = []


def addresses_of(
    kernels: Sequence[Kernel], machine: Machine, *, strict: bool = False
) -> dict[str, int]:
    """The address of each kernel by name; those that are new are compiled."""
    with _LOCK:
        needed = {kernel.name: kernel for kernel in kernels}
        new = [kernel for name, kernel in needed.items() if (name, strict) not in _ADDRESSES]
        if new:
            codes = [
                _code(
                    _key("kernel", machine, str(strict), kernel.name),
                    partial(emit_module, [kernel], machine, strict=strict),
                    machine,
                )
                for kernel in new
            ]
            library = load_object(codes, machine)
            _LIBRARIES.append(library)
            for kernel in new:
                _ADDRESSES[kernel.name, strict] = library.address(kernel.name)
        return {name: _ADDRESSES[name, strict] for name in needed}


@lru_cache(maxsize=1)
def runner_library(machine: Machine) -> Library:
    """The native loop's functions."""
    with _LOCK:
        text = runner_text(machine)
        digest = hashlib.sha256(text.encode()).hexdigest()
        code = _code(_key("runner", machine, digest), lambda: text, machine)
        return load_object([code], machine)


def _code(key: str, text: Callable[[], str], machine: Machine) -> bytes:
    """The object code that the module `text()` compiles to, from the cache if it is there."""
    cache = default_cache()
    code = None if cache is None else cache.get(key)
    if code is None:
        code = compile_object(text(), machine)
        if cache is not None:
            cache.put(key, code)
    return code


@lru_cache(maxsize=1)
def _emitter() -> str:
    """A digest of the code that writes code: another release of it writes other code."""
    found = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        found.update(path.read_bytes())
    return found.hexdigest()


def _key(kind: str, machine: Machine, *names: str) -> str:
    parts = (
        kind, __version__, _emitter(), llvm_version(), machine.triple, machine.cpu,
        machine.features, str(machine.vector_bits), *names,
    )  # fmt: skip
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
