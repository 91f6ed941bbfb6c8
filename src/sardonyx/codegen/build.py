"""From kernels to addresses: compiled once in a process, and once on a machine.

A kernel's code follows from its text alone, which its name is the digest of, so layers, models and
sessions share it. Code that was loaded stays for the life of the process.
"""

from __future__ import annotations

import hashlib
import threading
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Final

from sardonyx.codegen.cache import default_cache, key_of
from sardonyx.codegen.elf import DamagedObjectError
from sardonyx.codegen.native import Library, compile_object, link_object, load_object
from sardonyx.codegen.runner import runner_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from sardonyx.loops.kernel import Kernel
    from sardonyx.loops.machine import Machine

__all__ = ["addresses_of", "known_addresses", "runner_library"]

_LOCK: Final = threading.RLock()
_ADDRESSES: Final[dict[tuple[Machine, str, bool], int]] = {}
_LIBRARIES: Final[list[Library]] = []


def addresses_of(
    kernels: Sequence[Kernel], machine: Machine, *, strict: bool = False
) -> dict[str, int]:
    """The address of each kernel by name; those that are new are compiled."""
    with _LOCK:
        needed = {kernel.name: kernel for kernel in kernels}
        new = [k for name, k in needed.items() if (machine, name, strict) not in _ADDRESSES]
        if new:
            texts = [
                (kernel.name, partial(_emitted, kernel, machine, strict=strict)) for kernel in new
            ]
            _load(texts, machine, strict=strict)
        return {name: _ADDRESSES[machine, name, strict] for name in needed}


def known_addresses(
    names: Iterable[str], machine: Machine, *, strict: bool = False
) -> dict[str, int] | None:
    """The address of each kernel by name; None where the code of one is neither here nor cached."""
    with _LOCK:
        needed = list(dict.fromkeys(names))
        new = [name for name in needed if (machine, name, strict) not in _ADDRESSES]
        if new:
            try:
                _load([(name, _absent) for name in new], machine, strict=strict)
            except LookupError:
                return None
        return {name: _ADDRESSES[machine, name, strict] for name in needed}


def _load(
    kernels: Sequence[tuple[str, Callable[[], str]]], machine: Machine, *, strict: bool
) -> None:
    """Have the code of kernels, each its name and what writes its text."""
    modules = [(_key("kernel", machine, str(strict), name), text) for name, text in kernels]
    library = _loaded(modules, machine)
    _LIBRARIES.append(library)
    for name, _ in kernels:
        _ADDRESSES[machine, name, strict] = library.address(name)


def _absent() -> str:
    raise LookupError


@lru_cache(maxsize=1)
def runner_library(machine: Machine) -> Library:
    """The native loop's functions."""
    with _LOCK:
        text = runner_text(machine)
        digest = hashlib.sha256(text.encode()).hexdigest()
        key = _key("runner", machine, digest)
        library = _loaded([(key, lambda: text)], machine)
        _LIBRARIES.append(library)
        return library


def _emitted(kernel: Kernel, machine: Machine, *, strict: bool) -> str:
    from sardonyx.codegen.emit import emit_module

    return emit_module([kernel], machine, strict=strict)


def _loaded(modules: Sequence[tuple[str, Callable[[], str]]], machine: Machine) -> Library:
    """The code of modules, each its key in the cache and what writes its text."""
    try:
        return load_object([_code(key, text, machine) for key, text in modules], machine)
    except DamagedObjectError:
        again = [_code(key, text, machine, is_kept=False) for key, text in modules]
        return link_object(again, machine)


def _code(key: str, text: Callable[[], str], machine: Machine, *, is_kept: bool = True) -> bytes:
    """The object code of the module `text()`, from the cache if it is there and `is_kept`."""
    cache = default_cache()
    code = cache.get(key) if cache is not None and is_kept else None
    if code is None:
        code = compile_object(text(), machine)
        if cache is not None:
            cache.put(key, code)
    return code


def _key(kind: str, machine: Machine, *names: str) -> str:
    return key_of(kind, str(machine), *names)
