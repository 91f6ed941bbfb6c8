"""A program as bytes: JSON, and the bytes of arrays after it.

Initializers of the model's file are named, kernels are names, every other value is a number.
Symbolic sizes are written in their textual form, each once.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from sardonyx import dtypes
from sardonyx.dims import Dim, parse, symbols, unparse
from sardonyx.ir.types import TensorType
from sardonyx.ir.value import Value
from sardonyx.ops.fact import Fact
from sardonyx.runtime.folding import Folded
from sardonyx.runtime.program import Buffer
from sardonyx.runtime.signature import NodeArg, Signature
from sardonyx.schedule.launch import Launch, Named

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

    from sardonyx.dims import DimLike
    from sardonyx.dtypes import DType
    from sardonyx.ir.types import Type

__all__ = ["Program", "UnwritableError", "read", "symbols_of", "write"]


class UnwritableError(Exception):
    """A program with something in it that the format has no place for."""


@dataclass(slots=True)
class Program:
    """A compiled graph that is one stretch, and how its constants are made.

    Of its `launches` the buffers are `given` (made of sizes), `made` (outputs), `inside`, and
    `constants`; these are initializers, `arrays`, or what the `folded` launches make. `facts`,
    `aliases`, `renamed` and `required` are those of a `Compilation`, as far as a run asks.
    `released` are initializers that no run reads.
    """

    signature: Signature
    inputs: list[Value]
    outputs: list[Value]
    facts: dict[Any, Fact]
    aliases: dict[Any, Any]
    renamed: list[Any]
    required: list[DimLike]
    launches: list[Launch]
    given: list[Buffer]
    made: list[Buffer]
    inside: list[Buffer]
    constants: list[Any]
    folded: Folded
    arrays: dict[Any, Any]
    released: list[Any]


def write(program: Program, initializers: Mapping[Hashable, str]) -> bytes:
    """`program` as bytes; `initializers` are the names in the file of the values that have one.

    Raises `UnwritableError` where it cannot be written.
    """
    writer = _Writer(initializers)
    content = {
        "signature": writer.signature(program.signature),
        "inputs": writer.keys(program.inputs),
        "outputs": writer.keys(program.outputs),
        "facts": [[writer.key(key), *writer.fact(fact)] for key, fact in program.facts.items()],
        "aliases": [writer.keys(pair) for pair in program.aliases.items()],
        "renamed": writer.keys(program.renamed),
        "required": writer.dims_of(program.required),
        "launches": [writer.launch(launch) for launch in program.launches],
        "given": [writer.buffer(buffer) for buffer in program.given],
        "made": [writer.buffer(buffer) for buffer in program.made],
        "inside": [writer.buffer(buffer) for buffer in program.inside],
        "constants": writer.keys(program.constants),
        "folded": [writer.launch(launch) for launch in program.folded.launches],
        "buffers": [writer.buffer(buffer) for buffer in program.folded.buffers.values()],
        "needed": writer.keys(list(program.folded.needed)),
        "arrays": [[writer.key(key), writer.array(array)] for key, array in program.arrays.items()],
        "released": writer.keys(program.released),
        "dims": list(writer.dims),
        "kernels": list(writer.kernels),
        "values": writer.values,
    }
    head = json.dumps(content, separators=(",", ":")).encode()
    return len(head).to_bytes(8, "little") + head + b"".join(writer.parts)


def read(data: bytes, initializers: Mapping[str, Value]) -> Program:
    """The program that `write` gave, whose initializers are `initializers` by name.

    Raises `LookupError`, `TypeError` or `ValueError` where it is none.
    """
    start = 8 + int.from_bytes(data[:8], "little")
    content = json.loads(data[8:start])
    reader = _Reader(content, memoryview(data)[start:], initializers)
    launches = [reader.launch(*item) for item in content["launches"]]
    folded = [reader.launch(*item) for item in content["folded"]]
    buffers = [reader.buffer(*item) for item in content["buffers"]]
    needed = frozenset(reader.keys(content["needed"]))
    return Program(
        reader.signature(*content["signature"]),
        reader.keys(content["inputs"]),
        reader.keys(content["outputs"]),
        {reader.values[key]: reader.fact(*item) for key, *item in content["facts"]},
        dict(reader.keys(pair) for pair in content["aliases"]),
        reader.keys(content["renamed"]),
        reader.dims_of(content["required"]),
        launches,
        [reader.buffer(*item) for item in content["given"]],
        [reader.buffer(*item) for item in content["made"]],
        [reader.buffer(*item) for item in content["inside"]],
        reader.keys(content["constants"]),
        Folded(folded, {buffer.key: buffer for buffer in buffers}, needed),
        {reader.values[key]: reader.array(*item) for key, item in content["arrays"]},
        reader.keys(content["released"]),
    )


@dataclass(slots=True)
class _Writer:
    initializers: Mapping[Hashable, str]
    dims: dict[str, int] = field(default_factory=dict)
    kernels: dict[str, int] = field(default_factory=dict)
    values: list[str | list[str] | None] = field(default_factory=list)
    parts: list[bytes] = field(default_factory=list)
    size: int = 0
    _numbers: dict[Hashable, int] = field(default_factory=dict)
    _taken: set[str] = field(default_factory=set)

    def key(self, key: Hashable) -> int:
        """The number of a value; ``values`` has a list with its name in the file, or its name."""
        found = self._numbers.get(key)
        if found is None:
            found = self._numbers[key] = len(self.values)
            name = self.initializers.get(key)
            if name is not None:
                if name in self._taken:
                    raise UnwritableError(f"two values are {name}")
                self._taken.add(name)
                self.values.append([name])
            else:
                self.values.append(key.name if isinstance(key, Value) else None)
        return found

    def keys(self, keys: Sequence[Hashable]) -> list[int]:
        return [self.key(key) for key in keys]

    def dim(self, dim: Any) -> Any:
        """A number as it is, a symbolic size as a list with its place among ``dims``."""
        if dim is None or isinstance(dim, int):
            return dim
        if isinstance(dim, Dim):
            return [self.dims.setdefault(unparse(dim), len(self.dims))]
        raise UnwritableError(f"a size that is {type(dim).__name__}")

    def dims_of(self, dims: Sequence[Any]) -> list[Any]:
        return [self.dim(dim) for dim in dims]

    def launch(self, launch: Launch) -> list[Any]:
        return [
            self.kernels.setdefault(launch.kernel.name, len(self.kernels)),
            self.keys(launch.buffers),
            self.keys(launch.outputs),
            self.dims_of(launch.sizes),
            self.dim(launch.extent),
            self.dim(launch.work),
            self.dims_of(launch.scratch),
            launch.label,
            self.dim(launch.flops),
            self.dims_of(launch.requirements),
            launch.is_partial,
        ]

    def buffer(self, buffer: Buffer) -> list[Any]:
        return [self.key(buffer.key), buffer.dtype.code, self.dims_of(buffer.shape)]

    def type(self, type_: Type | None) -> list[Any]:
        if not isinstance(type_, TensorType) or type_.dtype is None or type_.shape is None:
            raise UnwritableError(f"a value of type {type_}")
        return [type_.dtype.code, self.dims_of(type_.shape)]

    def fact(self, fact: Fact) -> list[Any]:
        value = fact.value
        if value is None:
            return [*self.type(fact.type), None]
        if value.dtype != object:
            return [*self.type(fact.type), self.array(value)]
        items = self.dims_of(value.reshape(-1).tolist())
        return [*self.type(fact.type), [list(value.shape), items]]

    def array(self, array: Any) -> list[Any]:
        dtype = dtypes.from_numpy(array.dtype)
        if array.dtype.hasobject or dtype.numpy != array.dtype:
            raise UnwritableError(f"an array of {array.dtype}")
        data = array.tobytes()
        self.parts.append(data)
        self.size += len(data)
        return [dtype.code, list(array.shape), self.size - len(data)]

    def signature(self, signature: Signature) -> list[Any]:
        args = (signature.required, signature.overridable, signature.results)
        return [
            [[name, *self.type(type_)] for name, type_ in signature.inputs.items()],
            *([[arg.name, arg.type, arg.shape] for arg in each] for each in args),
        ]


class _Reader:
    def __init__(
        self, content: Mapping[str, Any], data: memoryview, initializers: Mapping[str, Value]
    ) -> None:
        self.data = data
        self.dims: list[DimLike] = [parse(text) for text in content["dims"]]
        self.kernels = [Named(name) for name in content["kernels"]]
        self.values: list[Any] = [
            initializers[name[0]] if isinstance(name, list) else Value(name or "")
            for name in content["values"]
        ]

    def keys(self, numbers: Sequence[int]) -> list[Any]:
        return [self.values[number] for number in numbers]

    def dim(self, dim: Any) -> Any:
        return self.dims[dim[0]] if isinstance(dim, list) else dim

    def dims_of(self, dims: Sequence[Any]) -> list[Any]:
        return [self.dims[dim[0]] if isinstance(dim, list) else dim for dim in dims]

    def launch(
        self,
        kernel: int,
        buffers: Sequence[int],
        outputs: Sequence[int],
        sizes: Sequence[Any],
        extent: Any,
        work: Any,
        scratch: Sequence[Any],
        label: str,
        flops: Any,
        requirements: Sequence[Any],
        is_partial: bool,
    ) -> Launch:
        return Launch(
            self.kernels[kernel],
            tuple(self.keys(buffers)),
            tuple(self.keys(outputs)),
            tuple(self.dims_of(sizes)),
            self.dim(extent),
            self.dim(work),
            tuple(self.dims_of(scratch)),
            label,
            self.dim(flops),
            requirements=tuple(self.dims_of(requirements)),
            is_partial=is_partial,
        )

    def buffer(self, key: int, code: int, shape: Sequence[Any]) -> Buffer:
        return Buffer(self.values[key], dtypes.from_code(code), tuple(self.dims_of(shape)))

    def type(self, code: int, shape: Sequence[Any]) -> TensorType:
        return TensorType(dtypes.from_code(code), tuple(self.dims_of(shape)))

    def fact(self, code: int, shape: Sequence[Any], contents: Sequence[Any] | None) -> Fact:
        known = self.type(code, shape)
        if contents is None:
            return Fact(known)
        if len(contents) == 3:
            return Fact(known, self.array(*contents))
        sizes, items = contents
        value = np.empty(math.prod(sizes), object)
        value[:] = self.dims_of(items)
        return Fact(known, value.reshape(sizes))

    def array(self, code: int, shape: Sequence[int], start: int) -> Any:
        dtype: DType = dtypes.from_code(code)
        count = math.prod(shape)
        nbytes = count * dtype.numpy.itemsize
        array = np.frombuffer(bytes(self.data[start : start + nbytes]), dtype.numpy, count)
        return array.reshape(shape)

    def signature(
        self,
        inputs: Sequence[Sequence[Any]],
        required: Sequence[Sequence[Any]],
        overridable: Sequence[Sequence[Any]],
        results: Sequence[Sequence[Any]],
    ) -> Signature:
        return Signature(
            {name: self.type(*type_) for name, *type_ in inputs},
            *([NodeArg(*arg) for arg in each] for each in (required, overridable, results)),
        )


def symbols_of(required: Sequence[DimLike]) -> tuple[tuple[DimLike, frozenset[str]], ...]:
    """Expressions, each with the names of its symbols."""
    return tuple((dim, frozenset(map(str, symbols(dim)))) for dim in required)
