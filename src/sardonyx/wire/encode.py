"""Models and their parts to bytes (onnx.proto), fields in the order of their numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sardonyx.errors import ModelError, quote
from sardonyx.ir.listing import name_values, value_infos
from sardonyx.ir.node import AttributeType
from sardonyx.ir.tensor import SparseTensor
from sardonyx.wire.attributes import LazyAttributes
from sardonyx.wire.configurations import encode_configuration, encode_node_configuration
from sardonyx.wire.entries import encode_entries, encode_opsets
from sardonyx.wire.tensors import encode_sparse, encode_tensor_chunks
from sardonyx.wire.typeproto import encode_type
from sardonyx.wire.writing import (
    Chunks,
    Piece,
    TensorPiece,
    bytes_field,
    encode_prose,
    encode_text,
    float_bytes,
    header,
    int_field,
    text_field,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sardonyx.ir.graph import Graph, QuantizationAnnotation
    from sardonyx.ir.model import Function, Model, TrainingInfo
    from sardonyx.ir.node import Attribute, Node
    from sardonyx.ir.tensor import Tensor
    from sardonyx.ir.value import Value
    from sardonyx.wire.tensors import Externalize

__all__ = [
    "Chunks",
    "Piece",
    "TensorPiece",
    "encode_model",
    "encode_tensor",
    "encode_type",
    "encode_value_info",
]

_TENSORS = {AttributeType.TENSOR: 5, AttributeType.TENSORS: 10}
_GRAPHS = {AttributeType.GRAPH: 6, AttributeType.GRAPHS: 11}
_TYPES = {AttributeType.TYPE_PROTO: 14, AttributeType.TYPE_PROTOS: 15}
_SPARSE = {AttributeType.SPARSE_TENSOR: 22, AttributeType.SPARSE_TENSORS: 23}
_ORDER_OF_DOC, _ORDER_OF_REF = 13, 21


def encode_model(model: Model, externalize: Externalize = None) -> Chunks:
    """`model` as a ModelProto, in pieces; big tensors are read only when they are written.

    Values without a name that something reads, or that are graph outputs, are given unique
    names, which they keep. `externalize` is called with each tensor and gives the
    external_data entries to write in place of its data, or None to write the data; without it
    external tensors keep the entries that they have.

    Raises `ModelError` where the model cannot be written: names that are not UTF-8, integers
    that do not fit.
    """
    out = Chunks()
    out.add(int_field(1, model.ir_version) if model.ir_version else b"")
    out.add(text_field(2, model.producer_name))
    out.add(text_field(3, model.producer_version))
    out.add(text_field(4, model.domain))
    out.add(int_field(5, model.model_version) if model.model_version is not None else b"")
    out.add(text_field(6, model.doc))
    writer = _Writer(externalize)
    out.add_message(7, writer.graph(model.graph))
    out.add(encode_opsets(8, model.opset_imports))
    out.add(encode_entries(14, model.metadata))
    for info in model.training:
        out.add_message(20, writer.training(info))
    for function in model.functions.values():
        out.add_message(25, writer.function(function))
    for configuration in model.configurations:
        out.add(bytes_field(26, encode_configuration(configuration)))
    out.add(model.unknown)
    return out.settle()


def encode_tensor(tensor: Tensor) -> bytes:
    """`tensor` as a TensorProto."""
    return encode_tensor_chunks(tensor).tobytes()


def encode_value_info(value: Value) -> bytes:
    """Name, type and details of `value` as a ValueInfoProto."""
    lazy = value.lazy_type
    parts = [bytes_field(1, encode_text(value.name))]
    if lazy is not None:
        parts.append(bytes_field(2, lazy.encoded))
    elif value.type is not None:
        parts.append(bytes_field(2, encode_type(value.type)))
    if value.has_details:
        parts += [text_field(3, value.doc), encode_entries(4, value.metadata), value.unknown]
    return b"".join(parts)


class _Writer:
    """Encodes graphs; it remembers the encoded form of names, which come up again and again."""

    def __init__(self, externalize: Externalize) -> None:
        self._externalize = externalize
        self._read: dict[str, bytes] = {}
        self._made: dict[str, bytes] = {}
        self._op_types: dict[str, bytes] = {}

    def graph(self, graph: Graph, taken: frozenset[str] = frozenset()) -> Chunks:
        """`graph` as a GraphProto; `taken` are the names of enclosing graphs."""
        taken = name_values(graph, taken)
        out = Chunks()
        self._add_nodes(out, graph, 1, taken)
        out.add(text_field(2, graph.name))
        for value in graph.initializers:
            if value.const is not None and not isinstance(value.const, SparseTensor):
                tensor = encode_tensor_chunks(value.const, self._externalize, name=value.name)
                out.add_message(5, tensor)
        out.add(text_field(10, graph.doc))
        out.add(b"".join([bytes_field(11, encode_value_info(value)) for value in graph.inputs]))
        out.add(b"".join([bytes_field(12, encode_value_info(value)) for value in graph.outputs]))
        infos = [bytes_field(13, encode_value_info(value)) for value in value_infos(graph)]
        out.add(b"".join(infos))
        out.add(b"".join([bytes_field(14, _annotation(a)) for a in graph.quantization]))
        for value in graph.initializers:
            if isinstance(value.const, SparseTensor):
                sparse = encode_sparse(value.const, self._externalize, value.name)
                out.add_message(15, sparse)
        out.add(encode_entries(16, graph.metadata))
        out.add(graph.unknown)
        return out

    def function(self, function: Function) -> Chunks:
        """`function` as a FunctionProto."""
        graph = function.graph
        taken = name_values(graph, frozenset())
        if graph.initializers:
            raise ModelError(
                f"function {quote(function.name)} has initializers, which a file cannot hold",
                hint="make them Constant nodes",
            )
        out = Chunks()
        out.add(text_field(1, function.name))
        out.add(b"".join([bytes_field(4, encode_text(value.name)) for value in graph.inputs]))
        out.add(b"".join([bytes_field(5, encode_text(value.name)) for value in graph.outputs]))
        out.add(b"".join([bytes_field(6, encode_text(name)) for name in function.attributes]))
        self._add_nodes(out, graph, 7, taken)
        out.add(text_field(8, function.doc))
        out.add(encode_opsets(9, function.opset_imports))
        out.add(text_field(10, function.domain))
        for attribute in function.defaults.values():
            out.add_message(11, self.attribute(attribute, taken))
        infos = value_infos(graph, in_function=True)
        out.add(b"".join([bytes_field(12, encode_value_info(value)) for value in infos]))
        out.add(text_field(13, function.overload))
        out.add(encode_entries(14, function.metadata))
        out.add(function.unknown)
        return out

    def training(self, info: TrainingInfo) -> Chunks:
        """`info` as a TrainingInfoProto."""
        out = Chunks()
        if info.initialization is not None:
            out.add_message(1, self.graph(info.initialization))
        if info.algorithm is not None:
            out.add_message(2, self.graph(info.algorithm))
        out.add(encode_entries(3, info.initialization_binding))
        out.add(encode_entries(4, info.update_binding))
        out.add(info.unknown)
        return out

    def _add_nodes(self, out: Chunks, graph: Graph, number: int, taken: frozenset[str]) -> None:
        small: list[bytes] = []
        for node in graph.nodes:
            attributes = node._attributes  # noqa: SLF001
            if isinstance(attributes, LazyAttributes):
                known = not (attributes.has_tensors and self._externalize is not None)
                encoded = attributes.encoded(5) if known else None
            else:
                encoded = None if attributes else b""
            if encoded is None:
                out.add(b"".join(small))
                small.clear()
                out.add_message(number, self._node(node, taken))
                continue
            body = b"".join([*self._before(node), encoded, *self._after(node)])
            small.append(header(number, len(body)))
            small.append(body)
        out.add(b"".join(small))

    def _node(self, node: Node, taken: frozenset[str]) -> Chunks:
        out = Chunks()
        out.add(b"".join(self._before(node)))
        for attribute in node.attributes.values():
            out.add_message(5, self.attribute(attribute, taken))
        out.add(b"".join(self._after(node)))
        return out

    def _before(self, node: Node) -> list[bytes]:
        """The fields of `node` that precede its attributes."""
        read, made = self._read, self._made
        parts = [
            b"\x0a\x00" if value is None else read.get(value.name) or self._name(read, value.name)
            for value in node.inputs
        ]
        parts += [made.get(value.name) or self._name(made, value.name) for value in node.outputs]
        if node.name:
            parts.append(bytes_field(3, encode_text(node.name)))
        parts.append(self._op_types.get(node.op_type) or self._name(self._op_types, node.op_type))
        return parts

    def _after(self, node: Node) -> list[bytes]:
        """The fields of `node` that follow its attributes."""
        parts = []
        if node.doc:
            parts.append(text_field(6, node.doc))
        if node.domain:
            parts.append(text_field(7, node.domain))
        if node.overload:
            parts.append(text_field(8, node.overload))
        if node._metadata:  # noqa: SLF001
            parts.append(encode_entries(9, node.metadata))
        parts += [bytes_field(10, encode_node_configuration(c)) for c in node.devices]
        parts.append(node.unknown)
        return parts

    def _name(self, known: dict[str, bytes], text: str) -> bytes:
        """The field for `text`, which `known` is for."""
        number = 4 if known is self._op_types else 1 if known is self._read else 2
        found = known[text] = bytes_field(number, encode_text(text))
        return found

    def attribute(self, attribute: Attribute, taken: frozenset[str] = frozenset()) -> Chunks:
        """`attribute` as an AttributeProto."""
        out = Chunks()
        out.add(text_field(1, attribute.name))
        kind = attribute.type
        late = kind in _SPARSE
        between = kind in _TYPES
        if attribute.value is not None and not late and not between:
            self._add_value(out, attribute, taken)
        out.add(text_field(_ORDER_OF_DOC, attribute.doc))
        if attribute.value is not None and between:
            self._add_value(out, attribute, taken)
        out.add(int_field(20, kind))
        out.add(text_field(_ORDER_OF_REF, attribute.ref))
        if attribute.value is not None and late:
            self._add_value(out, attribute, taken)
        out.add(attribute.unknown)
        return out

    def _add_value(self, out: Chunks, attribute: Attribute, taken: frozenset[str]) -> None:
        kind = AttributeType(attribute.type)
        values = attribute.value if kind.is_list else (attribute.value,)
        try:
            if kind in _TENSORS:
                for tensor in values:
                    out.add_message(_TENSORS[kind], encode_tensor_chunks(tensor, self._externalize))
            elif kind in _GRAPHS:
                for graph in values:
                    out.add_message(_GRAPHS[kind], self.graph(graph, taken))
            elif kind in _SPARSE:
                for sparse in values:
                    out.add_message(_SPARSE[kind], encode_sparse(sparse, self._externalize, None))
            elif kind in _TYPES:
                for type_ in values:
                    out.add(bytes_field(_TYPES[kind], encode_type(type_)))
            else:
                out.add(_scalars(kind, values))
        except (TypeError, AttributeError) as error:
            raise ModelError(
                f"attribute {quote(attribute.name)} of type {kind.name} cannot hold "
                f"{quote(repr(attribute.value))}"
            ) from error


def _scalars(kind: AttributeType, values: Iterable[Any]) -> bytes:
    if kind in {AttributeType.INT, AttributeType.INTS}:
        number = 3 if kind == AttributeType.INT else 8
        return b"".join([int_field(number, value) for value in values])
    if kind in {AttributeType.FLOAT, AttributeType.FLOATS}:
        tag = b"\x15" if kind == AttributeType.FLOAT else b"\x3d"
        return b"".join([tag + value for value in float_bytes(values)])
    if kind in {AttributeType.STRING, AttributeType.STRINGS}:
        number = 4 if kind == AttributeType.STRING else 9
        return b"".join(
            [
                bytes_field(number, value if isinstance(value, bytes) else encode_prose(value))
                for value in values
            ]
        )
    raise TypeError(kind)


def _annotation(annotation: QuantizationAnnotation) -> bytes:
    parameters = encode_entries(2, annotation.parameters)
    return text_field(1, annotation.tensor_name) + parameters + annotation.unknown
