"""LLVM: a module's text as machine code in this process."""

from __future__ import annotations

import threading
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from sardonyx.codegen.elf import ForeignObjectError
from sardonyx.codegen.objects import load
from sardonyx.errors import SardonyxError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sardonyx.loops.machine import Machine

__all__ = [
    "CompileError",
    "Library",
    "assembly",
    "compile_object",
    "link_object",
    "load_object",
]

_LOCK = threading.Lock()


class CompileError(SardonyxError):
    """Generated code that LLVM does not accept: a fault in sardonyx, never in the model."""


class Library:
    """Machine code in memory; its functions' addresses. Lives as long as anyone holds it."""

    def __init__(self, find: Callable[[str], int | None]) -> None:
        self._find = find

    def address(self, name: str) -> int:
        """The address of function `name`."""
        found = self._find(name)
        if not found:
            raise CompileError(f"compiled code has no function {name}")
        return found


@lru_cache(maxsize=1)
def _llvm() -> Any:
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm


def _target_machine(machine: Machine) -> Any:
    llvm = _llvm()
    target = llvm.Target.from_triple(machine.triple)
    return target.create_target_machine(
        cpu=machine.cpu,
        features=machine.features,
        opt=2,
        reloc="pic",
        codemodel="default",
        jit=True,
    )


def _optimized(text: str, machine: Machine) -> tuple[Any, Any]:
    llvm = _llvm()
    target_machine = _target_machine(machine)
    try:
        module = llvm.parse_assembly(text)
        module.verify()
    except RuntimeError as error:
        raise CompileError(f"LLVM refuses the generated code: {error}") from None
    module.triple = machine.triple
    module.data_layout = str(target_machine.target_data)
    options = llvm.create_pipeline_tuning_options(speed_level=1)
    options.loop_vectorization = False
    options.slp_vectorization = False
    options.loop_unrolling = False
    options.loop_interleaving = False
    builder = llvm.create_pass_builder(target_machine, options)
    builder.getModulePassManager().run(module, builder)
    return module, target_machine


def compile_object(text: str, machine: Machine) -> bytes:
    """The object file of the LLVM module `text`, optimized for `machine`."""
    with _LOCK:
        module, target_machine = _optimized(text, machine)
        found: bytes = target_machine.emit_object(module)
        return found


def assembly(text: str, machine: Machine) -> str:
    """The assembly of the LLVM module `text`, to look at."""
    with _LOCK:
        module, target_machine = _optimized(text, machine)
        found: str = target_machine.emit_assembly(module)
        return found


def load_object(objects: Sequence[bytes], machine: Machine) -> Library:
    """Load object files into this process, with LLVM's loader where ours does not know them.

    Raises DamagedObjectError for a file that contradicts itself.
    """
    try:
        return Library(load(objects, machine.triple).get)
    except ForeignObjectError:
        return link_object(objects, machine)


def link_object(objects: Sequence[bytes], machine: Machine) -> Library:
    """Load object files, which must be sound, with LLVM's loader."""
    llvm = _llvm()
    with _LOCK:
        engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), _target_machine(machine))
        for data in objects:
            engine.add_object_file(llvm.ObjectFileRef.from_data(data))
        engine.finalize_object()
        return Library(engine.get_function_address)
