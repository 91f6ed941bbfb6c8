"""Object files as data: code, constants, symbols, and what is to be patched.

Read are relocatable ELF files of 64 bits. What a file says about itself is not trusted: nothing
outside of it is read, and whatever does not fit together is a `DamagedObjectError`. A file that is
sound but holds more than code and constants is a `ForeignObjectError`.

Sources: System V gABI 4.1, chapters "Object Files" and "Sections".
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final, NamedTuple

from sardonyx.errors import SardonyxError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "DamagedObjectError",
    "ForeignObjectError",
    "ObjectFile",
    "Patch",
    "Section",
    "Symbol",
    "read",
]

_HEADER: Final = struct.Struct("<7s9xHHIQQQIHHHHHH")
_SECTION: Final = struct.Struct("<IIQQQQIIQQ")
_SYMBOL: Final = struct.Struct("<IBBHQQ")
_RELOCATION: Final = struct.Struct("<QQq")

_MAGIC: Final = b"\x7fELF\x02\x01\x01"
"""ELF, 64 bits, little-endian, version 1."""
_RELOCATABLE: Final = 1
_CONTENT, _SYMBOLS, _RELOCATIONS, _RELOCATIONS_SHORT = 1, 2, 4, 9
_WRITABLE, _LOADED, _EXECUTABLE = 1, 2, 4
_HARMLESS: Final = _LOADED | _EXECUTABLE | 0x10 | 0x20 | 0x200
"""Flags of sections, merging, strings and groups included, that loading need not heed."""
_GLOBAL, _FUNCTION = 1, 2
_MOST_ALIGNMENT: Final = 4096


class ForeignObjectError(SardonyxError):
    """An object file that only LLVM's own loader can load."""


class DamagedObjectError(SardonyxError):
    """An object file that contradicts itself."""


class Section(NamedTuple):
    """What is loaded of a file: code, or constants."""

    data: bytes
    alignment: int
    is_code: bool


class Symbol(NamedTuple):
    """A name for a place in a section; in none (0) if it lies outside of the file."""

    name: str
    section: int
    offset: int
    is_function: bool


class Patch(NamedTuple):
    """A place that holds an address, or a distance, once it is known; `kind` says how."""

    section: int
    offset: int
    kind: int
    symbol: int
    addend: int


class ObjectFile(NamedTuple):
    """An object file; sections by their number in it."""

    machine: int
    sections: dict[int, Section]
    symbols: list[Symbol]
    patches: list[Patch]


class _Row(NamedTuple):
    """The fields of a section header."""

    name: int
    kind: int
    flags: int
    address: int
    offset: int
    size: int
    link: int
    info: int
    alignment: int
    entry: int


def read(data: bytes) -> ObjectFile:
    """The object file `data`."""
    if not data.startswith(_MAGIC):
        raise ForeignObjectError("it is no ELF file of 64 bits")
    if len(data) < _HEADER.size:
        raise DamagedObjectError("it ends within its header")
    _, kind, machine, _, _, _, start, _, _, _, _, entry, count, _ = _HEADER.unpack_from(data)
    if kind != _RELOCATABLE:
        raise ForeignObjectError("it is linked already")
    if entry != _SECTION.size:
        raise DamagedObjectError(f"its section headers have {entry} bytes")
    headers = _part(data, start, count * _SECTION.size)
    rows = [_Row(*fields) for fields in _SECTION.iter_unpack(headers)]
    sections = {i: _section(data, row) for i, row in enumerate(rows) if row.flags & _LOADED}
    if sum(len(section.data) for section in sections.values()) > len(data):
        raise DamagedObjectError("its sections overlap")
    symbols, table = _symbols(data, rows, sections)
    patches = [
        patch
        for row in rows
        if row.kind in {_RELOCATIONS, _RELOCATIONS_SHORT} and row.info in sections
        for patch in _patches(data, row, sections, symbols, table)
    ]
    return ObjectFile(machine, sections, symbols, patches)


def _part(data: bytes, start: int, size: int) -> bytes:
    if start + size > len(data):
        raise DamagedObjectError(f"{size} bytes at {start} lie behind its end at {len(data)}")
    return data[start : start + size]


def _section(data: bytes, row: _Row) -> Section:
    if row.kind != _CONTENT or row.flags & ~_HARMLESS:
        raise ForeignObjectError("it has memory that is written to, or of its threads")
    alignment = max(row.alignment, 1)
    if alignment > _MOST_ALIGNMENT or alignment & (alignment - 1):
        raise DamagedObjectError(f"a section is aligned to {alignment} bytes")
    content = _part(data, row.offset, row.size)
    return Section(content, alignment, bool(row.flags & _EXECUTABLE))


def _symbols(
    data: bytes, rows: list[_Row], sections: dict[int, Section]
) -> tuple[list[Symbol], int]:
    """The symbols, and which section they are."""
    tables = [number for number, row in enumerate(rows) if row.kind == _SYMBOLS]
    if len(tables) != 1:
        raise DamagedObjectError(f"it has {len(tables)} tables of symbols")
    row = rows[tables[0]]
    if row.link >= len(rows) or row.size % _SYMBOL.size:
        raise DamagedObjectError("its table of symbols has no names, or is cut short")
    names = _part(data, rows[row.link].offset, rows[row.link].size)
    found = []
    for name, info, _, section, offset, _ in _SYMBOL.iter_unpack(_part(data, row.offset, row.size)):
        if section in sections and offset > len(sections[section].data):
            raise DamagedObjectError("a symbol lies outside of its section")
        end = names.find(b"\0", name)
        if end < 0:
            raise DamagedObjectError("the name of a symbol does not end")
        is_function = info == _GLOBAL << 4 | _FUNCTION and section in sections
        text = names[name:end].decode("ascii", "replace")
        found.append(Symbol(text, section, offset, is_function))
    return found, tables[0]


def _patches(
    data: bytes, row: _Row, sections: dict[int, Section], symbols: list[Symbol], table: int
) -> Iterator[Patch]:
    if row.kind == _RELOCATIONS_SHORT:
        raise ForeignObjectError("it has relocations without addends")
    if row.link != table or row.size % _RELOCATION.size:
        raise DamagedObjectError("relocations do not belong to its symbols, or are cut short")
    size = len(sections[row.info].data)
    for offset, info, addend in _RELOCATION.iter_unpack(_part(data, row.offset, row.size)):
        number = info >> 32
        if offset >= size or number >= len(symbols):
            raise DamagedObjectError("a relocation lies outside of its section, or has no symbol")
        symbol = symbols[number]
        if symbol.section not in sections and (symbol.section or not symbol.name):
            raise ForeignObjectError("a relocation is to what is not loaded")
        yield Patch(row.info, offset, info & 0xFFFFFFFF, number, addend)
