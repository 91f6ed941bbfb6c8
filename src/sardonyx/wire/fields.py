"""Reading messages field by field: every step checked, every error with its byte and place."""

from __future__ import annotations

import os
from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from sardonyx.errors import DecodeError
from sardonyx.limits import DEFAULT, exceeded
from sardonyx.wire.schema import FIXED32, FIXED64, LENGTH, RUN, VARINT, message
from sardonyx.wire.source import MappedFile
from sardonyx.wire.varint import decode_varints, signed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from sardonyx.dtypes import DType
    from sardonyx.errors import SardonyxError
    from sardonyx.ir.tensor import Tensor
    from sardonyx.limits import Limits
    from sardonyx.wire.schema import Field, Message

__all__ = [
    "DecodeContext",
    "External",
    "Reader",
    "Spans",
    "collect",
    "fields",
    "integers",
    "next_field",
    "numbers",
    "read_varint",
    "texts",
    "triples",
    "unknown_bytes",
]

_DEEPEST = 250
_LARGEST_TAG = (1 << 32) - 1
_MASK = (1 << 64) - 1
_RUN_WINDOW = 1 << 12
_RUN_AFTER = 4
_FEW_INTEGERS = 3 * 16

Spans = array
"""Flat triples of wire type, start and end."""


class External(Protocol):
    """What makes a tensor of external_data entries; `sardonyx.wire.external` has the readers."""

    def tensor(
        self, entries: Sequence[tuple[str, str]], dtype: DType, shape: Sequence[int], name: str
    ) -> Tensor:
        """The tensor that `entries` describe."""


@dataclass(slots=True, kw_only=True)
class DecodeContext:
    """What decoding one file may cost, where external data is, and what was met so far.

    `external` None makes external tensors without data. `source` becomes `Model.source`.
    """

    limits: Limits = DEFAULT
    external: External | None = None
    source: object = None
    root: Reader | None = field(default=None, init=False, repr=False)
    root_message: str = field(default="ModelProto", init=False, repr=False)
    nodes: int = field(default=0, init=False, repr=False)
    graphs: int = field(default=0, init=False, repr=False)
    types: dict[bytes, Any] = field(default_factory=dict, init=False, repr=False)

    @property
    def depth(self) -> int:
        """How deep messages may nest; Python's own stack bounds it, whatever `limits` say."""
        return min(self.limits.depth, _DEEPEST)

    def verify(self) -> None:
        """Raise the source's error where its file has become shorter since it was mapped."""
        if self.root is not None and isinstance(self.root.view.obj, MappedFile):
            descriptor = self.root.view.obj.descriptor
            size = os.fstat(descriptor.number).st_size
            if size < len(self.root.view):
                raise descriptor.shorter(len(self.root.view), size)


class Reader:
    """A buffer that messages are read from.

    `base` is the byte of the file at which it begins, or from which it was put together
    (`exact` False: a message that the file gives in several parts).
    """

    __slots__ = ("base", "context", "data", "exact", "view")

    def __init__(
        self, view: memoryview, context: DecodeContext, base: int = 0, *, exact: bool = True
    ) -> None:
        self.view = view
        self.data: npt.NDArray[np.uint8] = np.frombuffer(view, np.uint8)
        self.context = context
        self.base = base
        self.exact = exact

    def at(self, offset: int) -> int:
        """The byte of the file for `offset` here."""
        return self.base + offset if self.exact else self.base

    def error(self, text: str, offset: int, *, hint: str | None = None) -> DecodeError:
        """The error for the caller to raise, with the place in the file."""
        offset = self.at(offset)
        return DecodeError(text, offset=offset, place=self.place(offset), hint=hint)

    def limit(self, name: str, bound: float, needed: object, offset: int) -> SardonyxError:
        """The `LimitError` for the caller to raise, with the place in the file."""
        offset = self.at(offset)
        error = exceeded(name, bound, needed).at(f"byte {offset}")
        place = self.place(offset)
        return error if place is None else error.at(place)

    def place(self, offset: int) -> str | None:
        """The path of fields that leads to byte `offset` of the file, if any."""
        root = self.context.root
        return None if root is None else _path(root, offset, self.context.root_message) or None

    def joined(self, spans: Spans[int]) -> tuple[Reader, int, int]:
        """One message from the parts in which the file gives it: reader, start and end."""
        if len(spans) == 3:
            return self, spans[1], spans[2]
        data = b"".join([self.view[start:end] for _, start, end in triples(spans)])
        reader = Reader(memoryview(data), self.context, self.at(spans[1]), exact=False)
        return reader, 0, len(data)

    def text(self, start: int, end: int) -> str:
        """A name; `DecodeError` where it is not UTF-8."""
        if end - start > self.context.limits.name_bytes:
            raise self.limit("name_bytes", self.context.limits.name_bytes, end - start, start)
        try:
            return str(self.view[start:end], "utf-8")
        except UnicodeDecodeError as error:
            raise self.error("a name that is not UTF-8", start + error.start) from None

    def prose(self, start: int, end: int) -> str:
        """Text that names nothing: bytes that are not UTF-8 become lone surrogates."""
        return str(self.view[start:end], "utf-8", "surrogateescape")

    def unsigned(self, start: int, end: int) -> int:
        """The varint that takes the bytes from `start` to `end`."""
        number = shift = 0
        for byte in self.view[start:end]:
            number |= (byte & 127) << shift
            shift += 7
        return number & _MASK

    def integer(self, start: int, end: int) -> int:
        """The int64 varint that takes the bytes from `start` to `end`."""
        if end - start == 1:
            return self.view[start]
        return signed(self.unsigned(start, end))

    def int32(self, start: int, end: int) -> int:
        """The int32 or enum varint from `start` to `end`; higher bits are dropped."""
        number = self.unsigned(start, end) & 0xFFFF_FFFF
        return number - (1 << 32) if number >> 31 else number


def triples(spans: Spans[int]) -> Iterator[tuple[int, int, int]]:
    """The triples of `spans`."""
    step = iter(spans)
    return zip(step, step, step, strict=True)


def fields(
    reader: Reader, start: int, end: int, kind: Message
) -> Iterator[tuple[str, int, int, int]]:
    """Name, wire type and payload of each field of the message from `start` to `end`.

    An unknown field has the name "", and its bytes begin at its tag. A wire type with `RUN`
    added stands for many values: the bytes from the first one's tag to the last one's end.
    """
    view, runs = reader.view, kind.runs
    previous = repeats = 0
    position = start
    while position < end:
        tag = view[position]
        if tag in runs:
            repeats = repeats + 1 if tag == previous else 0
            previous = tag
            if repeats >= _RUN_AFTER:
                stop = _run_end(reader, position, end, tag)
                if stop > position:
                    yield kind.known[tag].name, tag & 7 | RUN, position, stop
                    position = stop
                    previous = 0
                    continue
        else:
            previous = 0
        known, wire, first, stop = next_field(reader, position, end, kind)
        if known is None:
            yield "", wire, position, stop
        else:
            yield known.name, wire, first, stop
        position = stop


def collect(reader: Reader, start: int, end: int, kind: Message) -> dict[str, Spans[int]]:
    """The fields of a message by name: where each of their payloads is."""
    found: dict[str, Spans[int]] = {}
    for name, wire, first, stop in fields(reader, start, end, kind):
        spans = found.get(name)
        if spans is None:
            spans = found[name] = array("q")
        elif not name and spans[-1] == first:
            spans[-1] = stop
            continue
        spans.append(wire)
        spans.append(first)
        spans.append(stop)
    return found


def next_field(
    reader: Reader, position: int, end: int, kind: Message
) -> tuple[Field | None, int, int, int]:
    """The field whose tag is at `position`: itself, wire type, start and end of its payload."""
    begin = position
    tag = reader.view[position]
    position += 1
    if tag > 127:
        tag, position = read_varint(reader, begin, end)
    known = kind.known.get(tag)
    if known is None:
        _check_unknown(reader, tag, begin, kind)
    wire = tag & 7
    if wire == LENGTH:
        length, position = read_varint(reader, position, end)
        stop = position + length
        if stop > end:
            raise reader.error(
                f"{_name(kind, tag)} of {length} bytes, {end - position} are left", begin
            )
        return known, wire, position, stop
    if wire == VARINT:
        return known, wire, position, read_varint(reader, position, end)[1]
    stop = position + (4 if wire == FIXED32 else 8)
    if stop > end:
        raise reader.error(f"{_name(kind, tag)} ends early", begin)
    return known, wire, position, stop


def read_varint(reader: Reader, position: int, end: int) -> tuple[int, int]:
    """The unsigned varint at `position` and where it ends."""
    view = reader.view
    start = position
    number = shift = 0
    while position < end:
        byte = view[position]
        position += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number & _MASK, position
        shift += 7
        if shift == 70:
            raise reader.error("a varint of more than 10 bytes", start)
    raise reader.error("a varint ends early", start)


def _name(kind: Message, tag: int) -> str:
    known = kind.numbers.get(tag >> 3)
    return f"{kind.name}.{known.name}" if known else f"unknown field {tag >> 3} of {kind.name}"


def _check_unknown(reader: Reader, tag: int, begin: int, kind: Message) -> None:
    number, wire = tag >> 3, tag & 7
    if number == 0 or tag > _LARGEST_TAG:
        raise reader.error(f"field number {number} in {kind.name}", begin)
    if wire in {3, 4}:
        raise reader.error(f"a group, wire type {wire}, in {kind.name}", begin)
    if wire in {6, 7}:
        raise reader.error(f"wire type {wire} in {kind.name}", begin)
    if number in kind.numbers:
        expected = kind.numbers[number].wire
        raise reader.error(f"{_name(kind, tag)} has wire type {wire}, not {expected}", begin)


def _run_end(reader: Reader, position: int, end: int, tag: int) -> int:
    """Where the fields with one-byte tag `tag` that follow one another from `position` end."""
    if tag & 7 != VARINT:
        size = 5 if tag & 7 == FIXED32 else 9
        count = (end - position) // size
        different = np.flatnonzero(reader.data[position : position + count * size : size] != tag)
        return position + (int(different[0]) if different.size else count) * size
    window = _RUN_WINDOW
    while position < end:
        data = reader.data[position : min(position + window, end)]
        ends = np.flatnonzero(data < 128)
        if ends.size < 2:
            break
        firsts = np.concatenate((np.zeros(1, np.int64), ends[:-1] + 1))
        sizes = ends - firsts + 1
        pairs = ends.size // 2
        tags, values = slice(0, 2 * pairs, 2), slice(1, 2 * pairs, 2)
        good = (data[firsts[tags]] == tag) & (sizes[tags] == 1) & (sizes[values] <= 10)
        different = np.flatnonzero(~good)
        if different.size:
            pairs = int(different[0])
        if pairs == 0:
            break
        position += int(ends[2 * pairs - 1]) + 1
        if different.size:
            break
        window *= 4
    return position


def numbers(reader: Reader, spans: Spans[int], kind: str) -> npt.NDArray[Any]:
    """The values of a repeated field of scalars, in whatever of the legal forms they stand.

    `kind` is int32, int64, uint64, float or double; the array has that type.
    """
    parts = [_numbers(reader, wire, start, end, kind) for wire, start, end in triples(spans)]
    if len(parts) == 1:
        return parts[0]
    dtype = {"float": "<f4", "double": "<f8"}.get(kind, kind)
    return np.concatenate(parts) if parts else np.zeros(0, dtype)


def integers(reader: Reader, spans: Spans[int]) -> list[int]:
    """The same for int64, as a list: quicker where there are few."""
    if len(spans) <= _FEW_INTEGERS:
        found = [reader.integer(a, b) for wire, a, b in triples(spans) if wire == VARINT]
        if 3 * len(found) == len(spans):
            return found
    return [int(number) for number in numbers(reader, spans, "int64").tolist()]


def _numbers(reader: Reader, wire: int, start: int, end: int, kind: str) -> npt.NDArray[Any]:
    data = reader.data[start:end]
    if kind in {"float", "double"}:
        size = 4 if kind == "float" else 8
        if wire in {FIXED32 | RUN, FIXED64 | RUN}:
            data = np.ascontiguousarray(data.reshape(-1, size + 1)[:, 1:]).reshape(-1)
        elif data.size % size:
            raise reader.error(f"packed {kind}s of {data.size} bytes", start)
        return data.view(f"<f{size}")
    found = decode_varints(data)
    if found is None:
        raise reader.error("packed integers that end early, or one of more than 10 bytes", start)
    if wire == VARINT | RUN:
        found = found[1::2]
    if kind == "int32":
        return found.astype(np.uint32).view(np.int32)
    return found if kind == "uint64" else np.ascontiguousarray(found).view(np.int64)


def texts(reader: Reader, spans: Spans[int]) -> list[str]:
    """The names of a repeated field."""
    return [reader.text(start, end) for _, start, end in triples(spans)]


def unknown_bytes(reader: Reader, found: dict[str, Spans[int]]) -> bytes:
    """The unknown fields among `found`, tags included, as they stand."""
    spans = found.get("")
    if not spans:
        return b""
    return b"".join([reader.view[start:end] for _, start, end in triples(spans)])


def _path(reader: Reader, offset: int, name: str) -> str:
    """``graph.node[17].attribute[2]``: the known fields around byte `offset`."""
    quiet = _Quiet(reader)
    steps: list[str] = []
    kind = message(name)
    position, end = 0, len(reader.view)
    while True:
        counts: dict[str, int] = {}
        inner: tuple[Field, int, int] | None = None
        while position < end and position <= offset:
            step = _quiet_step(quiet, position, end, kind)
            if step is None:
                break
            known, first, stop = step
            if known is not None and offset < max(stop, position + 1):
                inner = known, first, stop
                break
            if known is not None:
                counts[known.name] = counts.get(known.name, 0) + 1
            position = stop
        if inner is None:
            return ".".join(steps)
        found, position, end = inner
        index = f"[{counts.get(found.name, 0)}]" if found.repeated else ""
        steps.append(found.name + index)
        if found.kind[0].islower() or len(steps) > _DEEPEST:
            return ".".join(steps)
        kind = message(found.kind)


def _quiet_step(
    quiet: _Quiet, position: int, end: int, kind: Message
) -> tuple[Field | None, int, int] | None:
    """Field, start and end of what is at `position`; to the parent's end where it overruns."""
    try:
        tag, place = read_varint(quiet, position, end)
        known = kind.known.get(tag)
        wire = tag & 7
        if wire == LENGTH:
            length, place = read_varint(quiet, place, end)
            return known, place, min(place + length, end)
        if wire == VARINT:
            return known, place, read_varint(quiet, place, end)[1]
        size = {FIXED32: 4, FIXED64: 8}.get(wire)
        return None if size is None else (known, place, min(place + size, end))
    except _StepError:
        return None


class _StepError(Exception):
    """The bytes cannot be walked any further."""


class _Quiet(Reader):
    """A reader whose errors carry no place: what finding a place uses."""

    __slots__ = ()

    def __init__(self, reader: Reader) -> None:
        self.view, self.data = reader.view, reader.data
        self.context, self.base, self.exact = reader.context, reader.base, reader.exact

    def error(self, text: str, offset: int, *, hint: str | None = None) -> Any:
        """The signal to stop."""
        return _StepError(text)
