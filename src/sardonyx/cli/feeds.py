"""A command's options as the feeds of a run."""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sardonyx import dims, dtypes
from sardonyx.cli.values import Reader, read_arrays
from sardonyx.errors import InputError, quote
from sardonyx.ir.types import (
    OptionalType,
    SequenceType,
    SparseTensorType,
    TensorType,
    Type,
    shape_text,
)
from sardonyx.limits import exceeded

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sardonyx.ir.model import Model
    from sardonyx.ir.tensor import Array

__all__ = ["Feeder", "parse_dims", "parse_shapes", "split_name"]

_ONE_SIZE = "write --dim NAME=SIZE"


def split_name(text: str, names: Iterable[str], option: str) -> tuple[str, str]:
    """Name and rest of ``NAME=REST``, where NAME is one of `names` and may itself hold a ``=``."""
    known = list(names)
    fitting = [name for name in known if text.startswith(f"{name}=")]
    if fitting:
        name = max(fitting, key=len)
        return name, text[len(name) + 1 :]
    name, found, _ = text.partition("=")
    if not found:
        raise InputError(
            f"{option} {quote(text)} has no name", hint=f"write {option} NAME=…; {_listed(known)}"
        )
    raise InputError(f"the model has no input {quote(name)}", hint=_closest(name, known))


def _closest(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {quote(close[0])}?" if close else _listed(known)


def _listed(known: Sequence[str]) -> str:
    return f"its inputs are {', '.join(map(quote, known[:20]))}" if known else "it has no inputs"


def _integers(text: str, option: str) -> list[int]:
    try:
        sizes = [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise InputError(f"{option} {quote(text)} is not integers", hint="write 1,3,224") from None
    if any(size < 0 for size in sizes):
        raise InputError(f"{option} {quote(text)} has a negative size")
    return sizes


def parse_shapes(texts: Iterable[str], names: Sequence[str]) -> dict[str, list[int]]:
    """``NAME=1,3,224,224`` options; a model's only input needs no name."""
    shapes = {}
    for text in texts:
        if len(names) == 1 and "=" not in text:
            name, rest = names[0], text
        else:
            name, rest = split_name(text, names, "--shape")
        shapes[name] = _integers(rest, "--shape")
    return shapes


def parse_dims(texts: Iterable[str], model: Model) -> dict[str, int]:
    """``NAME=SIZE`` options for the symbolic dimensions of `model`'s inputs."""
    known: set[str] = set()
    for value in model.graph.inputs:
        known.update(*(dims.symbols(dim) for dim in value.shape or () if dim is not None))
    sizes = {}
    for text in texts:
        name, found, size = text.rpartition("=")
        if not found:
            raise InputError(f"--dim {quote(text)} has no size", hint=_ONE_SIZE)
        if name not in known:
            listed = ", ".join(map(quote, sorted(known))) or "none"
            raise InputError(
                f"no input has a dimension {quote(name)}", hint=f"the open ones are {listed}"
            )
        numbers = _integers(size, "--dim")
        if len(numbers) != 1:
            raise InputError(f"--dim {quote(text)} has no single size", hint=_ONE_SIZE)
        sizes[name] = numbers[0]
    return sizes


@dataclass
class Feeder:
    """Makes the feeds of one run.

    `shapes` and `sizes` fix what the model leaves open; `sources` says for each input where its
    value came from, `notes` what was assumed, `assumed` the options that would have told.
    """

    model: Model
    reader: Reader
    shapes: Mapping[str, Sequence[int]]
    sizes: dict[str, int]
    sources: dict[str, str] = field(default_factory=dict)
    feeds: dict[str, Any] = field(default_factory=dict)
    assumed: list[str] = field(default_factory=list)

    @property
    def notes(self) -> list[str]:
        """What was assumed or converted."""
        return self.reader.notes

    def _types(self) -> dict[str, Type | None]:
        return {value.name: value.type for value in self.model.graph.inputs}

    def feed(self, text: str) -> None:
        """Take one ``--input`` option."""
        types = self._types()
        required = [value.name for value in self.model.graph.required_inputs]
        starts = any(text.startswith(f"{name}=") for name in types)
        is_archive = text.lower().endswith(".npz") and not starts
        if is_archive and (len(required) != 1 or "=" in text):
            self._feed_archive(text)
            return
        only = required[0] if len(required) == 1 else ""
        if only and not starts and ("=" not in text or Path(text).exists()):
            name, value = only, text
        else:
            name, value = split_name(text, types, "--input")
        if name in self.feeds:
            raise InputError(f"input {quote(name)} is given twice")
        self._set(name, self.reader.read(name, value, types[name], self._fixed(name)), value)

    def _feed_archive(self, path: str) -> None:
        arrays = read_arrays(path, self.reader.limits)
        types = self._types()
        found = [name for name in arrays if name in types]
        if not found:
            raise InputError(
                f"no array in {quote(path)} has an input's name", hint=_listed([*types])
            )
        for name in found:
            value = self.reader.read(name, f"{path}:{name}", types[name], self._fixed(name))
            self._set(name, value, path)

    def _set(self, name: str, value: Any, source: str) -> None:
        self.feeds[name] = value
        self.sources[name] = source
        declared = _tensor_shape(self._types()[name])
        if declared is None or np.ndim(value) != len(declared):
            return
        for dim, size in zip(declared, np.shape(value), strict=True):
            if isinstance(dim, dims.Dim) and str(dim) in dims.symbols(dim):
                self.sizes.setdefault(str(dim), size)

    def _fixed(self, name: str) -> list[int | None] | None:
        """The input's shape, open dimensions None; None where the rank is unknown."""
        if name in self.shapes:
            return list(self.shapes[name])
        declared = _tensor_shape(self._types()[name])
        return None if declared is None else [self._size(dim) for dim in declared]

    def _size(self, dim: int | dims.Dim | None) -> int | None:
        if isinstance(dim, dims.Dim) and dims.symbols(dim) <= self.sizes.keys():
            return dims.evaluate(dim, self.sizes)
        return dim if isinstance(dim, int) else None

    def fill(self, seed: int) -> None:
        """Give random data to each required input that has none: the same for the same `seed`.

        Floats lie in [0, 1); integers are 0 or 1, which every index and mask may be.
        """
        random = np.random.default_rng(seed)
        for value in self.model.graph.required_inputs:
            if value.name not in self.feeds:
                self._set(value.name, self._random(value.name, value.type, random), "random")

    def _random(self, name: str, known: Type | None, random: np.random.Generator) -> Any:
        if isinstance(known, OptionalType):
            return None
        if isinstance(known, SequenceType):
            return [self._random(name, known.element, random)]
        if not isinstance(known, (TensorType, SparseTensorType)):
            raise InputError(f"input {quote(name)} is {known}: no random data is made of that")
        shape = self._shape_of_random(name, known)
        dtype = known.dtype or dtypes.FLOAT
        needed = math.prod(shape) * max(dtype.itemsize, 8)
        if needed > self.reader.limits.tensor_bytes:
            raise exceeded("tensor_bytes", self.reader.limits.tensor_bytes, needed).at(
                f"random data for input {quote(name)}"
            )
        return random_array(shape, dtype, random)

    def _shape_of_random(self, name: str, known: TensorType | SparseTensorType) -> list[int]:
        if name in self.shapes:
            return list(self.shapes[name])
        declared = known.shape
        if declared is None:
            raise InputError(
                f"input {quote(name)} has no known rank", hint=f"give --shape {name}=1,2,3"
            )
        shape: list[int] = []
        for axis, dim in enumerate(declared):
            size = self._size(dim)
            if size is None:
                size = 1
                what = f"dimension {axis}" if dim is None else f"{quote(str(dim))}"
                option = f"--shape {name}=…" if dim is None else f"--dim {dim}=…"
                self.assumed.append(option)
                self.notes.append(f"{quote(name)}{shape_text(declared)}: {what} is taken as 1")
                if isinstance(dim, dims.Dim) and str(dim) in dims.symbols(dim):
                    self.sizes[str(dim)] = 1
            shape.append(size)
        return shape


def random_array(shape: Sequence[int], dtype: dtypes.DType, random: np.random.Generator) -> Array:
    """Random data of `dtype`: floats in [0, 1), integers 0 or 1."""
    if dtype is dtypes.STRING:
        array: Array = np.full(tuple(shape), "text", object)
        return array
    if dtype.kind in {"float", "complex"}:
        return random.random(tuple(shape)).astype(dtype.numpy)
    return random.integers(0, 2, tuple(shape)).astype(dtype.numpy)


def _tensor_shape(known: Type | None) -> tuple[int | dims.Dim | None, ...] | None:
    return known.shape if isinstance(known, (TensorType, SparseTensorType)) else None
