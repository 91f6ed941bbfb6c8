"""Programs on disk: a session of a model that was compiled before does without the compiler.

What compiling gives is kept beside the machine code, under a digest of all that it follows from:
the bytes of the model and of the files with its weights, limits, the processor, this package. A
program names kernels and initializers, and has what the compiler made of sizes and small
constants; weights are read and packed anew.

Programs are kept that are native code between arrays, whole: one stretch, and nothing that the
reference would have to do. What is found is trusted as machine code is: the folder is private.
"""

from __future__ import annotations

import hashlib
import os
from collections import ChainMap
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from sardonyx.codegen.build import known_addresses, runner_library
from sardonyx.codegen.cache import default_cache, key_of
from sardonyx.codegen.machine import host
from sardonyx.errors import SardonyxError
from sardonyx.ir.graph import Graph
from sardonyx.ir.tensor import SparseTensor, Tensor
from sardonyx.ir.value import Value
from sardonyx.limits import enforced
from sardonyx.reference.constants import Constants
from sardonyx.runtime.archive import Program, UnwritableError, read, symbols_of, write
from sardonyx.runtime.compilation import Compilation
from sardonyx.runtime.compiled import CompiledModel
from sardonyx.runtime.folding import Folding, content_of
from sardonyx.runtime.program import SizesDiffer, Stretch
from sardonyx.wire.source import FileSource, blocks

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator, Mapping

    from sardonyx.ir.model import Model
    from sardonyx.limits import Limits
    from sardonyx.runtime.signature import Signature

__all__ = ["Contents", "contents_of", "keep", "recall"]

_MOST_BYTES: Final = 2 << 30
"""Bytes of a model up to which they are looked at: of a larger one compiling is a small part."""
_MOST_MADE: Final = 1 << 20
"""Bytes of arrays that the compiler made, up to which they are kept with a program."""


@dataclass(frozen=True, slots=True)
class Contents:
    """All that a program for a model follows from, as the `key` that it is kept under.

    `states` are the files that were read, and their states then.
    """

    key: str
    states: tuple[tuple[Any, Hashable], ...]

    @property
    def are_unchanged(self) -> bool:
        """Whether the files are still what they were."""
        return all(file.state() == state for file, state in self.states)


def contents_of(model: Model, content: object, limits: Limits, *, strict: bool) -> Contents | None:
    """The contents of `model`, which was loaded just now from a path or the bytes `content`.

    None where its program is not kept.
    """
    if default_cache() is None:
        return None
    file = model.source if isinstance(model.source, FileSource) else None
    if file is None and not isinstance(content, bytes):
        return None
    tensors = list(_outside(model.graph.initializers))
    size = len(content) if isinstance(content, bytes) else file.size if file else 0
    if size + sum(tensor.nbytes for tensor in tensors) > _MOST_BYTES:
        return None
    if any(tensor.is_detached for tensor in tensors):
        return None
    watched: list[Any] = [*([file] if file else []), *tensors]
    states = tuple((each, each.state()) for each in watched)
    if file is not None and file.state() != file.opened:
        return None
    buffers = (each.view() if isinstance(each, FileSource) else each.raw() for each in watched)
    whole = buffers if file else iter([content])
    identities = [None if file is None else file.identity(), *(each.identity() for each in tensors)]
    digest = _digest(whole, None if None in identities else repr(identities))
    parts = str(host()), _package(), np.__version__, repr(limits), str(strict), digest
    return Contents(key_of("program", *parts), states)


def _digest(buffers: Iterable[Any], identity: str | None) -> str:
    """A digest of all `buffers`; with `identity`, which no others have, taken once on a machine."""
    cache = default_cache()
    key = None if cache is None or identity is None else key_of("contents", identity)
    known = cache.get(key) if cache and key else None
    if known is not None:
        return known.decode()
    found = hashlib.sha256()
    for buffer in buffers:
        found.update(len(buffer).to_bytes(8, "little"))
        for block in blocks(buffer):
            found.update(block)
    if cache and key:
        cache.put(key, found.hexdigest().encode())
    return found.hexdigest()


def _outside(initializers: Iterable[Value]) -> Iterator[Tensor]:
    """The tensors of initializers that lie in other files."""
    for value in initializers:
        const = value.const
        parts = (const.values, const.indices) if isinstance(const, SparseTensor) else (const,)
        for part in parts:
            if part is not None and part.entries is not None:
                yield part


@lru_cache(maxsize=1)
def _package() -> str:
    """What the modules of this package are: another state of one may compile otherwise."""
    root = Path(__file__).parent.parent
    found = hashlib.sha256()
    for folder, inner, names in os.walk(root):
        inner.sort()
        for name in sorted(names):
            if name.endswith(".py"):
                known = os.stat(os.path.join(folder, name))  # noqa: PTH116, PTH118 - 400 files
                found.update(f"{folder} {name} {known.st_size} {known.st_mtime_ns}\n".encode())
    return found.hexdigest()


# -- keeping --------------------------------------------------------------------------------------


def keep(
    contents: Contents,
    model: Model,
    signature: Signature,
    compiled: CompiledModel,
    constants: Constants,
) -> None:
    """Keep the program of `model`, as it was loaded, if it is one that is kept.

    `constants` are the initializers that it was compiled with.
    """
    cache = default_cache()
    if cache is None or not compiled.is_single_stretch or not _is_closed(model):
        return
    origins = {id(value.const): value.name for value in model.graph.initializers}
    program = _program_of(signature, compiled, constants, origins)
    if sum(array.nbytes for array in program.arrays.values()) > _MOST_MADE:
        return
    read = (*program.constants, *program.folded.buffers)
    names = {key: origins[id(key.const)] for key in read if _is_of(key, origins)}
    try:
        data = write(program, names)
    except UnwritableError:
        return
    if contents.are_unchanged:
        cache.put(contents.key, data)


def _is_closed(model: Model) -> bool:
    """Whether no tensor but initializers of the main graph lies in another file."""
    graphs = list(model.graphs())
    for node in model.all_nodes():
        graphs += node.subgraphs()
        values = [attribute.value for attribute in node.attributes.values()]
        parts = [
            part for value in values for part in (value if isinstance(value, list) else [value])
        ]
        if any(isinstance(part, Tensor) and part.entries is not None for part in parts):
            return False
        if any(isinstance(part, SparseTensor) for part in parts):
            return False
    inner = (graph.initializers for graph in graphs if graph is not model.graph)
    return not any(any(True for _ in _outside(initializers)) for initializers in inner)


def _is_of(key: Any, origins: Mapping[int, str]) -> bool:
    """Whether `key` is an initializer with the data of one in the file."""
    return isinstance(key, Value) and key.const is not None and id(key.const) in origins


def _program_of(
    signature: Signature,
    compiled: CompiledModel,
    initializers: Constants,
    origins: Mapping[int, str],
) -> Program:
    compilation = compiled.compilation
    (stretch,) = compilation.steps
    folded = compilation.folded
    assert isinstance(stretch, Stretch)
    assert folded is not None
    graph = compilation.graph
    seen: dict[Any, None] = dict.fromkeys([*graph.inputs, *graph.outputs])
    seen.update(dict.fromkeys(buffer.key for buffer in stretch.inputs))
    aliases = {}
    for value in list(seen):
        while value in compilation.aliases:
            aliases[value] = value = compilation.aliases[value]
            seen[value] = None
    known = compilation.constants
    constants = [key for key, _ in stretch.constants]
    results = {buffer for launch in folded.launches for buffer in launch.outputs}
    read = [*constants, *(key for key in seen if key in known), *folded.buffers]
    arrays = {
        key: known[key]
        for key in dict.fromkeys(read)
        if key not in results and not _is_of(key, origins)
    }
    return Program(
        signature,
        list(graph.inputs),
        list(graph.outputs),
        {value: compilation.facts[value] for value in seen if value in compilation.facts},
        aliases,
        [value for value in seen if value in compilation.renamed],
        [dim for dim, _ in compilation.required],
        list(stretch.launches),
        list(stretch.inputs),
        list(stretch.outputs),
        list(stretch.inside),
        constants,
        folded,
        arrays,
        [key for key in folded.buffers if isinstance(key, Value) and initializers.is_released(key)],
    )


# -- finding --------------------------------------------------------------------------------------


def recall(
    contents: Contents, model: Model, limits: Limits, *, strict: bool, threads: int
) -> tuple[Signature, CompiledModel] | None:
    """The program that was kept for `contents`, with the weights of `model`; None without one."""
    cache = default_cache()
    data = None if cache is None else cache.get(contents.key)
    if data is None:
        return None
    initializers = {value.name: value for value in model.graph.initializers}
    try:
        program = read(data, initializers)
    except (LookupError, TypeError, ValueError):
        return None
    try:
        with enforced(limits):
            compilation = _revived(program, limits, strict=strict)
    except (SardonyxError, SizesDiffer, MemoryError):
        return None  # making the session anew says what is wrong
    if compilation is None or not contents.are_unchanged:
        return None
    return program.signature, CompiledModel(compilation, None, limits, threads=threads)


def _revived(program: Program, limits: Limits, *, strict: bool) -> Compilation | None:
    """The compilation; None where the code of a kernel is not cached any more."""
    machine, folded = host(), program.folded
    names = [launch.kernel.name for launch in (*program.launches, *folded.launches)]
    addresses = known_addresses(names, machine, strict=strict)
    if addresses is None:
        return None
    run_address = runner_library(machine).address("sardonyx_run")
    weights = Constants(limits)
    for key in (*program.constants, *folded.buffers):
        weights.add(key)
    constants: ChainMap[Any, Any] = ChainMap(dict(program.arrays), weights)  # type: ignore[arg-type]
    released = set(program.released)

    def release(buffers: Iterable[Any]) -> None:
        for buffer in buffers:
            if buffer in released:
                weights.release(buffer)

    identify = partial(content_of, constants, weights.identity)
    folding = Folding(folded, identify, (machine, strict))
    folding.run(constants, release, addresses, run_address)
    stretch = Stretch(
        program.launches,
        addresses,
        program.given,
        program.made,
        program.inside,
        [(key, constants[key]) for key in program.constants],
    )
    return Compilation(
        Graph(inputs=program.inputs, outputs=program.outputs),
        frozenset(program.inputs),
        program.facts,
        constants,
        run_address,
        [stretch],
        program.aliases,
        frozenset(program.renamed),
        symbols_of(program.required),
    )
