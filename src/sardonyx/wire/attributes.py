"""Attributes from AttributeProto."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Any

from sardonyx.errors import quote
from sardonyx.ir.node import Attribute, AttributeType
from sardonyx.wire.fields import collect, integers, numbers, triples, unknown_bytes
from sardonyx.wire.schema import message
from sardonyx.wire.tensors import read_sparse, read_tensor
from sardonyx.wire.typeproto import decode_type
from sardonyx.wire.writing import bytes_field

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sardonyx.ir.graph import Graph
    from sardonyx.wire.fields import Reader, Spans

    GraphMaker = Callable[[Reader, int, int], Graph]

__all__ = ["VALUE_FIELDS", "LazyAttributes", "read_attribute", "read_attributes"]

VALUE_FIELDS = {
    AttributeType.FLOAT: "f",
    AttributeType.INT: "i",
    AttributeType.STRING: "s",
    AttributeType.TENSOR: "t",
    AttributeType.GRAPH: "g",
    AttributeType.FLOATS: "floats",
    AttributeType.INTS: "ints",
    AttributeType.STRINGS: "strings",
    AttributeType.TENSORS: "tensors",
    AttributeType.GRAPHS: "graphs",
    AttributeType.SPARSE_TENSOR: "sparse_tensor",
    AttributeType.SPARSE_TENSORS: "sparse_tensors",
    AttributeType.TYPE_PROTO: "tp",
    AttributeType.TYPE_PROTOS: "type_protos",
}
"""The field of AttributeProto that holds the value of each type."""

_TYPE_OF = {field: kind for kind, field in VALUE_FIELDS.items()}
_DEFAULTS: dict[AttributeType, Any] = {
    AttributeType.FLOAT: 0.0,
    AttributeType.INT: 0,
    AttributeType.STRING: "",
}


class LazyAttributes:
    """The attributes of one node, decoded when it is called.

    `has_tensors` tells that one of them holds tensors.
    """

    __slots__ = ("_reader", "_spans", "depth", "has_tensors")

    def __init__(
        self, reader: Reader, spans: Sequence[tuple[int, int]], depth: int, has_tensors: bool
    ) -> None:
        self._reader = reader
        self._spans = spans
        self.depth = depth
        self.has_tensors = has_tensors

    def __call__(self) -> dict[str, Attribute]:
        """The attributes by name."""
        self._reader.context.verify()
        return read_attributes(self._reader, self._spans, self.depth, _no_graph)

    def encoded(self, number: int) -> bytes:
        """The attributes as they stand in the file, as repeated field `number`."""
        self._reader.context.verify()
        view = self._reader.view
        return b"".join([bytes_field(number, bytes(view[a:b])) for a, b in self._spans])


def _no_graph(reader: Reader, start: int, end: int) -> Graph:
    raise reader.error("a graph in an attribute that is decoded by itself", start)


def read_attributes(
    reader: Reader, spans: Sequence[tuple[int, int]], depth: int, make_graph: GraphMaker
) -> dict[str, Attribute]:
    """The AttributeProtos at `spans` by name; `DecodeError` where two have one name."""
    attributes: dict[str, Attribute] = {}
    for start, end in spans:
        attribute = read_attribute(reader, start, end, depth, make_graph)
        if attributes.setdefault(attribute.name, attribute) is not attribute:
            raise reader.error(f"two attributes are called {quote(attribute.name)}", start)
    return attributes


def read_attribute(
    reader: Reader, start: int, end: int, depth: int, make_graph: GraphMaker
) -> Attribute:
    """The AttributeProto from `start` to `end`; `make_graph` reads the graphs in it."""
    found = collect(reader, start, end, message("AttributeProto"))
    name = reader.text(*found["name"][-2:]) if "name" in found else ""
    if not name:
        raise reader.error("an attribute without a name", start)
    ref = reader.text(*found["ref_attr_name"][-2:]) if "ref_attr_name" in found else ""
    given = [field for field in _TYPE_OF if field in found]
    kind = _type(reader, found, given, name, start)
    value = None
    if given:
        value = _value(reader, kind, found[given[0]], depth, make_graph)
    elif not ref and kind != AttributeType.UNDEFINED:
        if not kind.is_list and kind not in _DEFAULTS:
            raise reader.error(f"attribute {quote(name)} of type {kind.name} has no value", start)
        value = () if kind.is_list else _DEFAULTS[kind]
    attribute = Attribute(name, kind, value, ref=ref)
    if "doc_string" in found:
        attribute.doc = reader.prose(*found["doc_string"][-2:])
    attribute.unknown = unknown_bytes(reader, found)
    return attribute


def _type(
    reader: Reader, found: dict[str, Spans[int]], given: list[str], name: str, start: int
) -> AttributeType:
    if len(given) > 1:
        raise reader.error(f"attribute {quote(name)} has both {given[0]} and {given[1]}", start)
    code = reader.int32(*found["type"][-2:]) if "type" in found else 0
    if not 0 <= code < len(AttributeType):
        raise reader.error(f"attribute {quote(name)} has the unknown type {code}", start)
    kind = AttributeType(code)
    if not given:
        return kind
    derived = _TYPE_OF[given[0]]
    if kind not in {AttributeType.UNDEFINED, derived}:
        raise reader.error(
            f"attribute {quote(name)} of type {kind.name} has its value in {given[0]}", start
        )
    return derived


def _value(
    reader: Reader, kind: AttributeType, spans: Spans[int], depth: int, make_graph: GraphMaker
) -> Any:
    if kind == AttributeType.INT:
        return reader.integer(spans[-2], spans[-1])
    if kind == AttributeType.FLOAT:
        return numbers(reader, spans[-3:], "float").tolist()[0]
    if kind == AttributeType.STRING:
        return _string(reader, spans[-2], spans[-1])
    if kind == AttributeType.INTS:
        return tuple(integers(reader, spans))
    if kind == AttributeType.FLOATS:
        return tuple(numbers(reader, spans, "float").tolist())
    if kind == AttributeType.STRINGS:
        return tuple([_string(reader, start, end) for _, start, end in triples(spans)])
    parts = [array("q", triple) for triple in triples(spans)] if kind.is_list else [spans]
    values = tuple([_message(kind, *reader.joined(part), depth, make_graph) for part in parts])
    return values if kind.is_list else values[0]


def _message(
    kind: AttributeType, reader: Reader, start: int, end: int, depth: int, make_graph: GraphMaker
) -> Any:
    if kind in {AttributeType.TENSOR, AttributeType.TENSORS}:
        return read_tensor(reader, start, end)
    if kind in {AttributeType.SPARSE_TENSOR, AttributeType.SPARSE_TENSORS}:
        return read_sparse(reader, start, end)
    if kind in {AttributeType.GRAPH, AttributeType.GRAPHS}:
        return make_graph(reader, start, end)
    found = decode_type(reader, start, end, depth + 1)
    if found is None:
        raise reader.error("an attribute's type says nothing", start)
    return found


def _string(reader: Reader, start: int, end: int) -> str | bytes:
    data = bytes(reader.view[start:end])
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data
