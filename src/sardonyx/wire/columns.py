"""Many small messages at once: one step reads the next field of every message, with NumPy.

What a step cannot decide (unknown fields, long tags, errors) is left to `fields`, message by
message, so that there is one place that says what is legal.
"""

from __future__ import annotations

from array import array
from itertools import repeat
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from sardonyx.wire.fields import fields, next_field, read_varint, unknown_bytes
from sardonyx.wire.schema import FIXED64, LENGTH, VARINT, message

if TYPE_CHECKING:
    from sardonyx.wire.fields import Reader, Spans
    from sardonyx.wire.schema import Message

__all__ = ["Column", "Table", "decode_texts", "read_message", "read_messages"]

Ints = npt.NDArray[np.int64]

_FEW = 48
_SMALL = 256
_STEPS = 32
_KINDS = 3
_FIELDS_FLOOR = 10_000
_UNKNOWN = 0
_BLOCK = 1 << 15
_REGION_FACTOR = 16
_REGION_FLOOR = 1 << 16


class Column:
    """One field of many messages: the row of each value, and where its payload is."""

    __slots__ = ("ends", "rows", "starts", "wires")

    def __init__(self, rows: Ints, wires: Ints, starts: Ints, ends: Ints) -> None:
        self.rows = rows
        self.wires = wires
        self.starts = starts
        self.ends = ends

    def __len__(self) -> int:
        return self.rows.size

    def last(self) -> Column:
        """The last value of each row: what counts where a singular field is repeated."""
        if self.rows.size < 2 or bool((self.rows[1:] > self.rows[:-1]).all()):
            return self
        keep = np.append(self.rows[1:] != self.rows[:-1], True)
        return Column(self.rows[keep], self.wires[keep], self.starts[keep], self.ends[keep])

    def part(self, first: int, last: int) -> Column:
        """The values from `first` up to `last`."""
        where = slice(first, last)
        return Column(self.rows[where], self.wires[where], self.starts[where], self.ends[where])

    def by_row(self) -> dict[int, Spans[int]]:
        """Wire types, starts and ends of each row that has any."""
        found: dict[int, Spans[int]] = {}
        if not self.rows.size:
            return found
        every = zip(
            self.rows.tolist(),
            self.wires.tolist(),
            self.starts.tolist(),
            self.ends.tolist(),
            strict=True,
        )
        for row, *triple in every:
            found.setdefault(row, array("q")).extend(triple)
        return found


_NONE = np.zeros(0, np.int64)
_EMPTY = Column(_NONE, _NONE, _NONE, _NONE)
_ROW = np.zeros(1, np.int64)


class Table:
    """The fields of `count` messages of one kind, in order."""

    __slots__ = ("_codes", "_ends", "_known", "_rows", "_starts", "count", "kind", "reader")

    def __init__(
        self,
        reader: Reader,
        kind: Message,
        columns: tuple[Ints, Ints, Ints, Ints],
        count: int,
    ) -> None:
        self.reader = reader
        self.kind = kind
        self._rows, self._codes, self._starts, self._ends = columns
        self._known: dict[int, Column | None] | None = None
        if not self._codes.size:
            self._known = {}
        elif self._codes.size <= _SMALL:
            self._known = dict.fromkeys((self._codes >> 4).tolist())
        self.count = count

    def column(self, name: str) -> Column:
        """Field `name` of all rows; "" is the unknown fields."""
        number = self.kind.by_name[name].number if name else _UNKNOWN
        if self._known is not None:
            known = self._known.get(number, _EMPTY)
            if known is not None:
                return known
        where = (self._codes >> 4 == number).nonzero()[0]
        column = Column(
            self._rows[where], self._codes[where] & 15, self._starts[where], self._ends[where]
        )
        if self._known is not None:
            self._known[number] = column
        return column

    def lacks(self, numbers: frozenset[int]) -> bool:
        """Whether a small table has none of the fields of these numbers."""
        return self._known is not None and numbers.isdisjoint(self._known)

    def names(self, name: str) -> list[str]:
        """The singular text field `name` of each row, "" where absent."""
        column = self.column(name).last()
        if not len(column):
            return [""] * self.count
        found = decode_texts(self.reader, column)
        if len(column) == self.count:
            return found
        every = [""] * self.count
        for row, text in zip(column.rows.tolist(), found, strict=True):
            every[row] = text
        return every

    def one(self, name: str) -> Spans[int]:
        """Field `name` of a table of one row."""
        return self.column(name).by_row().get(0, array("q"))

    def text(self, name: str) -> str:
        """Singular text field `name` of a table of one row."""
        spans = self.one(name)
        return self.reader.text(spans[-2], spans[-1]) if spans else ""

    def prose(self, name: str) -> str:
        """Singular text field `name` of a table of one row, where it names nothing."""
        spans = self.one(name)
        return self.reader.prose(spans[-2], spans[-1]) if spans else ""

    def unknown(self) -> bytes:
        """The unknown fields of a table of one row."""
        return unknown_bytes(self.reader, {"": self.one("")})

    def check_names(self, *names: str) -> None:
        """Refuse names that are longer than the limit allows."""
        bound = self.reader.context.limits.name_bytes
        for name in names:
            column = self.column(name)
            if not len(column) or int(column.ends[-1]) - int(column.starts[0]) <= bound:
                continue
            sizes = column.ends - column.starts
            if int(sizes.max()) > bound:
                worst = int(sizes.argmax())
                raise self.reader.limit(
                    "name_bytes", bound, int(sizes[worst]), int(column.starts[worst])
                )


def _most_fields(reader: Reader) -> int:
    """How many fields of one name a message may have: as many as there may be nodes."""
    return max(reader.context.limits.nodes, _FIELDS_FLOOR)


def read_message(reader: Reader, start: int, end: int, kind: Message) -> Table:
    """One message of many parts, as a table of one row."""
    if end - start <= min(_SMALL, reader.context.limits.nodes):
        column = Column(_ROW, _ROW, np.array([start]), np.array([end]))
        return Table(reader, kind, _Rows(reader, kind, column, None).few(), 1)
    view, simple = reader.view, kind.simple
    marks = array("q")
    unknown = array("q")
    mark = marks.append
    bound = _most_fields(reader)
    position = start
    for _ in repeat(None, bound * _KINDS):
        if position >= end:
            break
        if view[position] in simple and position + 1 < end:
            length = view[position + 1]
            stop = position + 2
            if length > 127:
                length, stop = read_varint(reader, position + 1, end)
            stop += length
            if stop <= end:
                mark(position)
                position = stop
                continue
        known, _, _, stop = next_field(reader, position, end, kind)
        if known is not None:
            mark(position)
        elif unknown and unknown[-1] == position:
            unknown[-1] = stop
        else:
            unknown.extend((position, stop))
        position = stop
    else:
        if position < end:
            raise reader.limit("nodes", bound, f"more than {bound} fields of a kind", position)
    places = np.frombuffer(marks, np.int64) if marks else np.zeros(0, np.int64)
    _check_crowd(reader, places)
    codes, starts, ends = (np.empty(places.size, np.int64) for _ in range(3))
    for first in range(0, places.size, _BLOCK):
        part = slice(first, first + _BLOCK)
        limits = np.full(places[part].size, end)
        codes[part], starts[part], ends[part], _ = _step(reader, kind, places[part], limits)
    if unknown:
        extra = np.frombuffer(unknown, np.int64).reshape(-1, 2)
        codes = np.concatenate((codes, np.full(len(extra), _UNKNOWN | LENGTH)))
        starts = np.concatenate((starts, extra[:, 0]))
        ends = np.concatenate((ends, extra[:, 1]))
    return Table(reader, kind, (np.zeros(codes.size, np.int64), codes, starts, ends), 1)


def _check_crowd(reader: Reader, places: Ints) -> None:
    """Refuse more fields of one kind than there may be nodes."""
    bound = reader.context.limits.nodes
    if places.size > bound:
        tags = reader.data[places]
        crowds = np.bincount(tags)
        most = int(crowds.argmax())
        if crowds[most] > bound:
            place = int(places[np.flatnonzero(tags == most)[bound]])
            raise reader.limit("nodes", bound, int(crowds[most]), place)


def read_messages(
    reader: Reader, name: str, column: Column, keep: tuple[str, ...] | None = None
) -> Table:
    """The messages called `name` whose payloads `column` gives; its order becomes the rows'.

    All fields are checked; with `keep` the table holds only those.
    """
    kind = message(name)
    if not len(column):
        found = _NONE, _NONE, _NONE, _NONE
    elif len(column) <= _FEW:
        found = _Rows(reader, kind, column, keep).few()
    elif len(column) <= _BLOCK:
        found = _read_block(reader, kind, column, keep)
    else:
        parts = []
        for first in range(0, len(column), _BLOCK):
            rows, *others = _read_block(reader, kind, column.part(first, first + _BLOCK), keep)
            parts.append((rows + first, *others))
        columns = [np.concatenate(each) for each in zip(*parts, strict=True)]
        found = columns[0], columns[1], columns[2], columns[3]
    return Table(reader, kind, found, len(column))


def _read_block(
    reader: Reader, kind: Message, column: Column, keep: tuple[str, ...] | None
) -> tuple[Ints, Ints, Ints, Ints]:
    rows = _Rows(reader, kind, column, keep)
    places = column.starts.copy()
    active = np.flatnonzero(places < column.ends)
    step = 0
    while active.size > _FEW and step < _STEPS:
        ends = column.ends[active]
        codes, starts, stops, hard = _step(reader, kind, places[active], ends)
        if hard.any():
            rows.alone.append(active[hard])
            easy = ~hard
            active, ends = active[easy], ends[easy]
            codes, starts, stops = codes[easy], starts[easy], stops[easy]
        rows.add(active, codes, starts, stops)
        places[active] = stops
        active = active[stops < ends]
        step += 1
    rows.alone.append(active)
    return rows.finish()


class _Rows:
    """The fields of many messages as they are found; `alone` are the rows to read one by one."""

    def __init__(
        self, reader: Reader, kind: Message, column: Column, keep: tuple[str, ...] | None
    ) -> None:
        self.alone: list[Ints] = []
        self._reader = reader
        self._kind = kind
        self._column = column
        self._counts = np.zeros(len(column) if len(column) > _FEW else 0, np.int64)
        self._steps: list[tuple[Ints, Ints, Ints, Ints, Ints]] = []
        self._kept: npt.NDArray[np.bool_] | None = None
        if keep is not None:
            self._kept = np.zeros(max(kind.numbers) + 1, np.bool_)
            self._kept[[kind.by_name[name].number for name in keep]] = True

    def add(self, rows: Ints, codes: Ints, starts: Ints, ends: Ints) -> None:
        """Note one field of each of `rows`."""
        if self._kept is not None:
            kept = self._kept[codes >> 4]
            rows, codes, starts, ends = rows[kept], codes[kept], starts[kept], ends[kept]
        if rows.size:
            self._steps.append((rows, self._counts[rows], codes, starts, ends))
            self._counts[rows] += 1

    def few(self) -> tuple[Ints, Ints, Ints, Ints]:
        """The same as `finish` for a few rows, all of which are read one by one."""
        rows = array("q")
        found = array("q")
        for row, (start, end) in enumerate(
            zip(self._column.starts.tolist(), self._column.ends.tolist(), strict=True)
        ):
            if start < end:
                fields_of_row = self._read_alone(row)
                found.extend(fields_of_row)
                rows.extend(repeat(row, len(fields_of_row) // 3))
        if not rows:
            return _NONE, _NONE, _NONE, _NONE
        parts = np.frombuffer(found, np.int64).reshape(-1, 3)
        return np.frombuffer(rows, np.int64), parts[:, 0], parts[:, 1], parts[:, 2]

    def finish(self) -> tuple[Ints, Ints, Ints, Ints]:
        """Rows, codes, starts and ends of all fields, in order."""
        counts = self._counts
        single: dict[int, array[int]] = {}
        for row in np.sort(np.concatenate(self.alone)).tolist():
            single[row] = self._read_alone(row)
            counts[row] = len(single[row]) // 3
        offsets = np.cumsum(counts) - counts
        codes, starts, ends = (np.empty(int(counts.sum()), np.int64) for _ in range(3))
        is_single = np.zeros(counts.size, np.bool_)
        is_single[list(single)] = True
        for step in self._steps:
            keep = ~is_single[step[0]]
            rows, slots, *parts = (part[keep] for part in step) if single else step
            place = offsets[rows] + slots
            codes[place], starts[place], ends[place] = parts
        for row, found in single.items():
            part = slice(int(offsets[row]), int(offsets[row] + counts[row]))
            for position, target in enumerate((codes, starts, ends)):
                target[part] = found[position::3]
        return np.repeat(np.arange(counts.size), counts), codes, starts, ends

    def _read_alone(self, row: int) -> array[int]:
        reader, kind = self._reader, self._kind
        start, end = int(self._column.starts[row]), int(self._column.ends[row])
        most = 3 * _most_fields(reader) if kind.name == "NodeProto" else None
        found = array("q")
        for name, wire, first, stop in fields(reader, start, end, kind):
            number = kind.by_name[name].number if name else _UNKNOWN
            if self._kept is not None and not self._kept[number]:
                continue
            if not name and found and found[-1] == first and found[-3] >> 4 == _UNKNOWN:
                found[-1] = stop
                continue
            found.extend((number * 16 + wire, first, stop))
            if most is not None and len(found) > most:
                raise reader.limit("nodes", most // 3, f"one of {most // 3 + 1} fields", start)
        return found


def _step(
    reader: Reader, kind: Message, places: Ints, limits: Ints
) -> tuple[Ints, Ints, Ints, npt.NDArray[np.bool_]]:
    """Codes, starts and ends of the fields at `places`, and which of them are not decided."""
    data = reader.data
    final = data.size - 1
    tags = data[places].astype(np.int64)
    places = places + 1
    hard = np.zeros(places.size, np.bool_)
    long = np.flatnonzero(tags > 127)
    if long.size:
        second = data[np.minimum(places[long], final)].astype(np.int64)
        hard[long] = second > 127
        tags[long] = tags[long] & 127 | (second & 127) << 7
        places[long] += 1
    codes = kind.codes[tags].astype(np.int64)
    wires = codes & 15
    hard |= codes < 0
    lengths = data[np.minimum(places, final)].astype(np.int64)
    sizes = np.ones_like(lengths)
    fixed = np.flatnonzero((wires != LENGTH) & (wires != VARINT))
    if fixed.size:
        lengths[fixed] = np.where(wires[fixed] == FIXED64, 8, 4)
        sizes[fixed] = 0
    more = np.flatnonzero(lengths > 127)
    lengths[more] &= 127
    for k in range(1, 10):
        if not more.size:
            break
        byte = data[np.minimum(places[more] + k, final)].astype(np.int64)
        if k < 9:
            lengths[more] |= (byte & 127) << (7 * k)
        sizes[more] += 1
        more = more[byte > 127]
    hard[more] = True
    varints = np.flatnonzero(wires == VARINT)
    starts = places + sizes
    if varints.size:
        lengths[varints] = sizes[varints]
        starts[varints] = places[varints]
    hard |= lengths > limits - starts
    hard |= lengths < 0
    return codes, starts, starts + lengths, hard


def decode_texts(reader: Reader, column: Column) -> list[str]:
    """The names in `column`, in order; `DecodeError` where one is not UTF-8."""
    starts, ends = column.starts, column.ends
    if starts.size <= _FEW:
        return [reader.text(a, b) for a, b in zip(starts.tolist(), ends.tolist(), strict=True)]
    first, last = int(starts.min()), int(ends.max())
    total = int((ends - starts).sum())
    if last - first > _REGION_FACTOR * total + _REGION_FLOOR:
        return [reader.text(a, b) for a, b in zip(starts.tolist(), ends.tolist(), strict=True)]
    region = str(reader.view[first:last], "latin-1")
    found = [
        region[a:b] for a, b in zip((starts - first).tolist(), (ends - first).tolist(), strict=True)
    ]
    high = np.flatnonzero(reader.data[first:last] > 127) + first
    if high.size:
        touched = np.searchsorted(high, starts) < np.searchsorted(high, ends)
        for place in np.flatnonzero(touched).tolist():
            found[place] = reader.text(int(starts[place]), int(ends[place]))
    return found
