"""``<key: value, ...>``: what headers and ``with`` clauses say, as text and from text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from sardonyx.dims import symbol
from sardonyx.errors import quote
from sardonyx.ir.devices import (
    DeviceConfiguration,
    NodeDeviceConfiguration,
    ShardedDim,
    ShardingSpec,
    SimpleShardedDim,
)
from sardonyx.ir.graph import QuantizationAnnotation
from sardonyx.ir.text.layout import STEP, listed
from sardonyx.ir.text.values import parse_data
from sardonyx.ir.text.words import quoted

if TYPE_CHECKING:
    from sardonyx.ir.text.scanner import Scanner

__all__ = [
    "ATTRIBUTE",
    "DETAILS",
    "FUNCTION",
    "GRAPH",
    "MODEL",
    "NODE",
    "SPARSE",
    "Details",
    "Key",
    "parse_entries",
    "parse_header",
    "parse_pairs",
    "parse_with",
    "written_items",
]

Details: TypeAlias = "dict[str, Any]"
"""Values by the names of the attributes that they are for."""

_NO_DETAILS: Final[Details] = {}
_HEXED: Final = 64
_KEY: Final = 20


@dataclass(frozen=True, slots=True)
class Key:
    """One key: its `word`, the attribute that it is for, and the kind of its value.

    A kind is ``int``, ``text``, ``name``, ``texts``, ``ints``, ``entries``, ``opsets``,
    ``groups``, ``dim``, ``data``, or the class of the records in a list.
    """

    word: str
    attribute: str
    kind: str | type


_DOC = Key("doc_string", "doc", "text")
_METADATA = Key("metadata_props", "metadata", "entries")
_UNKNOWN = Key("unknown", "unknown", "data")

DETAILS: Final = (_DOC, _METADATA, _UNKNOWN)
SPARSE: Final = (_UNKNOWN,)
ATTRIBUTE: Final = (_DOC, Key("ref_attr_name", "ref", "name"), _UNKNOWN)
NODE: Final = (
    _DOC,
    _METADATA,
    Key("device_configurations", "devices", NodeDeviceConfiguration),
    _UNKNOWN,
)
GRAPH: Final = (
    _DOC,
    _METADATA,
    Key("quantization_annotation", "quantization", QuantizationAnnotation),
    _UNKNOWN,
)
FUNCTION: Final = (
    Key("domain", "domain", "name"),
    Key("opset_import", "opset_imports", "opsets"),
    Key("overload", "overload", "name"),
    _DOC,
    _METADATA,
    _UNKNOWN,
)
MODEL: Final = (
    Key("ir_version", "ir_version", "int"),
    Key("opset_import", "opset_imports", "opsets"),
    Key("producer_name", "producer_name", "text"),
    Key("producer_version", "producer_version", "text"),
    Key("domain", "domain", "text"),
    Key("model_version", "model_version", "int"),
    _DOC,
    _METADATA,
    Key("configuration", "configurations", DeviceConfiguration),
    _UNKNOWN,
)
_RECORDS: Final[dict[type, tuple[Key, ...]]] = {
    DeviceConfiguration: (
        Key("name", "name", "name"),
        Key("num_devices", "num_devices", "int"),
        Key("device", "devices", "texts"),
        _UNKNOWN,
    ),
    NodeDeviceConfiguration: (
        Key("configuration_id", "configuration_id", "name"),
        Key("sharding_spec", "sharding_specs", ShardingSpec),
        Key("pipeline_stage", "pipeline_stage", "int"),
        _UNKNOWN,
    ),
    ShardingSpec: (
        Key("tensor_name", "tensor_name", "name"),
        Key("device", "devices", "ints"),
        Key("index_to_device_group_map", "device_groups", "groups"),
        Key("sharded_dim", "sharded_dims", ShardedDim),
        _UNKNOWN,
    ),
    ShardedDim: (
        Key("axis", "axis", "int"),
        Key("simple_sharding", "simple_sharding", SimpleShardedDim),
        _UNKNOWN,
    ),
    SimpleShardedDim: (
        Key("dim", "dim", "dim"),
        Key("num_shards", "num_shards", "int"),
        _UNKNOWN,
    ),
    QuantizationAnnotation: (
        Key("tensor_name", "tensor_name", "name"),
        Key("quant_parameter_tensor_names", "parameters", "entries"),
        _UNKNOWN,
    ),
}
_REQUIRED: Final[dict[str, Any]] = {
    "name": "",
    "num_devices": 0,
    "configuration_id": "",
    "tensor_name": "",
    "axis": 0,
    "dim": None,
    "num_shards": 0,
}


def written_items(source: object, keys: tuple[Key, ...], indent: str, *, elided: bool) -> list[str]:
    """``key: value`` for each attribute of `source` that holds something."""
    items = []
    for key in keys:
        value = getattr(source, key.attribute)
        if value is None or (key.kind not in {"int", "dim"} and not value):
            continue
        if key.word == "ir_version" and not value:
            continue
        text = _written(value, key.kind, indent, elided=elided)
        items.append(f"{key.word}: {text}")
    return items


def _written(value: Any, kind: str | type, indent: str, *, elided: bool) -> str:
    used = len(indent) + _KEY
    if isinstance(kind, type):
        inner = indent + STEP
        records = [
            listed(
                "{",
                written_items(item, _RECORDS[kind], inner + STEP, elided=elided),
                "}",
                inner,
                len(inner),
            )
            for item in value
        ]
        return listed("[", records, "]", indent, used)
    if kind == "int":
        return str(int(value))
    if kind in {"text", "name"}:
        return quoted(value)
    if kind == "texts":
        return f"[{', '.join(map(quoted, value))}]"
    if kind == "ints":
        return f"[{', '.join(map(str, map(int, value)))}]"
    if kind == "entries":
        pairs = [f"{quoted(key)}: {quoted(text)}" for key, text in value.items()]
        return listed("[", pairs, "]", indent, used)
    if kind == "opsets":
        pairs = [f"{quoted(key)}: {int(number)}" for key, number in value.items()]
        return listed("[", pairs, "]", indent, used)
    if kind == "groups":
        groups = [
            f"{int(key)}: {_written(group, 'ints', indent, elided=elided)}" for key, group in value
        ]
        return f"[{', '.join(groups)}]"
    if kind == "dim":
        return str(value) if isinstance(value, int) else quoted(str(value))
    if elided and len(value) > _HEXED:
        return f"<{len(value)} bytes>"
    return f'hex"{bytes(value).hex()}"'


def parse_header(scanner: Scanner, keys: tuple[Key, ...], what: str) -> Details:
    """``<key: value, ...>`` at the current token, or nothing."""
    return _parse_keys(scanner, keys, what, 3) if scanner.accept("<") else {}


def parse_with(scanner: Scanner, keys: tuple[Key, ...], what: str) -> Details:
    """``with <key: value, ...>`` at the current token, or nothing."""
    if scanner.kind != "name" or scanner.value != "with" or scanner.next_mark() != "<":
        return _NO_DETAILS
    scanner.advance()
    scanner.advance()
    return _parse_keys(scanner, keys, what, 3)


def parse_pairs(scanner: Scanner) -> list[tuple[str, str]]:
    """``["key": "value", ...]`` in order."""
    items: list[tuple[str, str]] = []
    scanner.expect("[")
    if scanner.accept("]"):
        return items
    while True:
        items.append(_parse_item(scanner, "entries", 1))
        if not scanner.accept(","):
            scanner.expect("]", "',' or ']'")
            return items


def parse_entries(scanner: Scanner) -> dict[str, str]:
    """The same as a dict; `TextError` where one key has two values."""
    found: dict[str, str] = _parse_value(scanner, "entries", 1)
    return found


def _parse_keys(
    scanner: Scanner, keys: tuple[Key, ...], what: str, depth: int, close: str = ">"
) -> Details:
    known = {key.word: key for key in keys}
    found: Details = {}
    if scanner.accept(close):
        return found
    while True:
        place, word = scanner.start, scanner.expect("name", f"a key of {what}")
        key = known.get(word)
        if key is None:
            raise scanner.error(
                f"{what} has no {quote(word)}", place, hint=f"it has {', '.join(known)}"
            )
        if key.attribute in found:
            raise scanner.error(f"{word} is given twice", place)
        scanner.expect(":")
        found[key.attribute] = _parse_value(scanner, key.kind, depth)
        if not scanner.accept(","):
            scanner.expect(close, f"',' or '{close}'")
            return found


def _parse_value(scanner: Scanner, kind: str | type, depth: int) -> Any:
    scanner.check_depth(depth)
    if kind == "int":
        return scanner.integer()
    if kind == "text":
        return scanner.string()
    if kind == "name":
        return scanner.name("a string")
    if kind == "dim":
        if scanner.has_name():
            name = scanner.name()
            return symbol(name) if name else None
        size = scanner.integer("a number or a name")
        return size if size >= 0 else None
    if kind == "data":
        return parse_data(scanner)
    items: list[Any] = []
    places: list[int] = []
    scanner.expect("[")
    if not scanner.accept("]"):
        while True:
            places.append(scanner.start)
            items.append(_parse_item(scanner, kind, depth + 1))
            if not scanner.accept(","):
                scanner.expect("]", "',' or ']'")
                break
    if kind in {"entries", "opsets"}:
        return _mapping(scanner, items, places)
    return items if kind is QuantizationAnnotation else tuple(items)


def _parse_item(scanner: Scanner, kind: str | type, depth: int) -> Any:
    if isinstance(kind, type):
        scanner.expect("{")
        keys = _RECORDS[kind]
        given = _parse_keys(scanner, keys, f"a {kind.__name__}", depth, "}")
        blank = {k.attribute: _REQUIRED[k.attribute] for k in keys if k.attribute in _REQUIRED}
        return kind(**{**blank, **given})
    if kind == "texts":
        return scanner.string()
    if kind == "ints":
        return scanner.integer()
    if kind == "groups":
        number = scanner.integer()
        scanner.expect(":")
        return number, _parse_value(scanner, "ints", depth)
    name = scanner.string()
    scanner.expect(":")
    return name, scanner.string() if kind == "entries" else scanner.integer("a version")


def _mapping(scanner: Scanner, pairs: list[tuple[str, Any]], places: list[int]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for (key, value), place in zip(pairs, places, strict=True):
        if result.setdefault(key, value) != value:
            raise scanner.error(f"{quote(key)} has two values", place)
    return result
