"""Keys with values: metadata, bindings, operator sets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sardonyx.errors import quote
from sardonyx.wire.fields import collect, triples
from sardonyx.wire.schema import message
from sardonyx.wire.writing import bytes_field, encode_prose, int_field

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sardonyx.wire.fields import Reader, Spans

__all__ = ["encode_entries", "encode_opsets", "read_entries", "read_opsets", "read_pairs"]


class _Text(str):  # noqa: SLOT000 - a subclass of str cannot add slots
    """A value read from an entry that is not written as it would be from key and value."""

    encoded: bytes
    key: str


class _Version(int):
    """A version read from an entry that is not written as it would be from its parts."""

    encoded: bytes
    domain: str


def read_pairs(reader: Reader, spans: Spans[int]) -> list[tuple[str, str]]:
    """The StringStringEntryProtos at `spans`, in order."""
    pairs: list[tuple[str, str]] = []
    kind = message("StringStringEntryProto")
    last = b""
    for _, start, end in triples(spans):
        if pairs and reader.view[start:end] == last:
            pairs.append(pairs[-1])
            continue
        found = collect(reader, start, end, kind)
        key, value = (
            reader.prose(*found[part][-2:]) if part in found else "" for part in ("key", "value")
        )
        last = encoded = bytes(reader.view[start:end])
        if encoded != _pair(key, value):
            value = _Text(value)
            value.key, value.encoded = key, encoded
        pairs.append((key, value))
    return pairs


def read_entries(reader: Reader, spans: Spans[int]) -> dict[str, str]:
    """The same as a dict; `DecodeError` where one key has two values."""
    entries: dict[str, str] = {}
    for (key, value), (_, start, _) in zip(read_pairs(reader, spans), triples(spans), strict=True):
        if entries.setdefault(key, value) != value:
            raise reader.error(f"key {quote(key)} has two values", start)
    return entries


def _pair(key: str, value: str) -> bytes:
    return bytes_field(1, encode_prose(key)) + bytes_field(2, encode_prose(value))


def encode_entries(number: int, entries: Mapping[str, str] | None) -> bytes:
    """`entries` as repeated field `number`."""
    if not entries:
        return b""
    parts = []
    for key, value in entries.items():
        if isinstance(value, _Text) and value.key == key:
            parts.append(bytes_field(number, value.encoded))
        else:
            parts.append(bytes_field(number, _pair(key, value)))
    return b"".join(parts)


def read_opsets(reader: Reader, spans: Spans[int]) -> dict[str, int]:
    """The OperatorSetIdProtos at `spans`; `DecodeError` where a domain has two versions."""
    opsets: dict[str, int] = {}
    kind = message("OperatorSetIdProto")
    for _, start, end in triples(spans):
        found = collect(reader, start, end, kind)
        domain = reader.text(*found["domain"][-2:]) if "domain" in found else ""
        version = reader.integer(*found["version"][-2:]) if "version" in found else 0
        encoded = bytes(reader.view[start:end])
        if encoded != _opset(domain, version):
            version = _Version(version)
            version.domain, version.encoded = domain, encoded
        if opsets.setdefault(domain, version) != version:
            raise reader.error(
                f"domain {quote(domain)} is imported as versions {opsets[domain]} and {version}",
                start,
            )
    return opsets


def _opset(domain: str, version: int) -> bytes:
    return bytes_field(1, encode_prose(domain)) + int_field(2, version)


def encode_opsets(number: int, opsets: Mapping[str, int]) -> bytes:
    """`opsets` as repeated field `number`."""
    parts = []
    for domain, version in opsets.items():
        if isinstance(version, _Version) and version.domain == domain:
            parts.append(bytes_field(number, version.encoded))
        else:
            parts.append(bytes_field(number, _opset(domain, version)))
    return b"".join(parts)
