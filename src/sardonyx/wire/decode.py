"""Models and their parts from bytes (onnx.proto)."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

from sardonyx.errors import DecodeError, quote
from sardonyx.ir.graph import Graph
from sardonyx.ir.model import Function, Model, TrainingInfo
from sardonyx.ir.value import Value
from sardonyx.limits import DEFAULT
from sardonyx.wire.attributes import read_attributes
from sardonyx.wire.columns import read_message
from sardonyx.wire.configurations import read_configuration
from sardonyx.wire.entries import read_entries, read_opsets
from sardonyx.wire.fields import DecodeContext, Reader, collect, texts, triples, unknown_bytes
from sardonyx.wire.graphs import open_graph, open_parts
from sardonyx.wire.schema import message
from sardonyx.wire.tensors import read_tensor
from sardonyx.wire.typeproto import decode_type as read_type
from sardonyx.wire.typeproto import lazy_type

if TYPE_CHECKING:
    from sardonyx.ir.tensor import Tensor
    from sardonyx.ir.types import Type
    from sardonyx.limits import Limits
    from sardonyx.wire.fields import Spans

__all__ = [
    "DecodeContext",
    "decode_model",
    "decode_tensor",
    "decode_type",
    "decode_value_info",
    "loads",
    "open_reader",
]

_SIGNS = (
    (0, b"version https://git-lfs", "a Git LFS pointer", "fetch the file with `git lfs pull`"),
    (0, b"PK\x03\x04", "a zip archive", "unpack it; a PyTorch file is exported, not loaded"),
    (0, b"\x1f\x8b", "gzip-compressed", "decompress it first"),
    (0, b"\x80\x02", "a Python pickle", "export the model to ONNX in the program that made it"),
    (0, b"\x80\x04", "a Python pickle", "export the model to ONNX in the program that made it"),
    (0, b"\x89HDF", "an HDF5 file", "export the model to ONNX in the program that made it"),
    (0, b"GGUF", "a GGUF file", "convert it to ONNX in the program that made it"),
    (4, b"ORTM", "an ORT-format model of onnxruntime", "load the ONNX file it was made from"),
    (4, b"TFL3", "a TensorFlow Lite model", "convert it to ONNX first"),
    (8, b'{"', "a safetensors file, which has weights but no graph", "load the ONNX file"),
)
_MARKUP = (b"<!doctype", b"<html", b"<?xml", b"<head")


def decode_model(buffer: bytes | memoryview, *, context: DecodeContext | None = None) -> Model:
    """The model whose bytes are `buffer`, which the model's tensors go on to use.

    The wire form of the main graph, its nodes, values and initializers is checked now; graphs
    are built, types and attributes decoded when they are first used, and can still raise.

    Raises:
        DecodeError: the bytes are not a well-formed ONNX model.
        LimitError: a bound of `context.limits` is exceeded.
        ExternalDataError: external data is not safe and sound.
    """
    context = context or DecodeContext()
    view = memoryview(buffer)
    if not view.nbytes:
        raise DecodeError(
            "the file is empty", offset=0, hint="it was not written to its end; fetch it again"
        )
    reader = open_reader(view, context, "ModelProto")
    try:
        return _read_model(reader, len(view))
    except DecodeError as error:
        known = _foreign(bytes(view[:512]))
        if known is None:
            raise
        raise DecodeError(f"the file is {known[0]}, not ONNX", offset=0, hint=known[1]) from error


def loads(data: bytes | memoryview, *, limits: Limits = DEFAULT) -> Model:
    """The model whose file is `data`; see `decode_model`. External tensors have no data."""
    return decode_model(data, context=DecodeContext(limits=limits))


def open_reader(data: bytes | memoryview, context: DecodeContext, root: str) -> Reader:
    """A reader of `data`, which is a message called `root`."""
    reader = Reader(memoryview(data), context)
    context.root, context.root_message = reader, root
    context.nodes = context.graphs = 0
    return reader


def _foreign(start: bytes) -> tuple[str, str] | None:
    """What a file that begins like this is, and what to do about it."""
    for offset, sign, name, hint in _SIGNS:
        if start.startswith(sign, offset):
            return name, hint
    text = start.lstrip().lower()
    if text.startswith(_MARKUP):
        return "a web page", "the download went to a page about the file; use its direct link"
    if text[:1] in {b"{", b"["}:
        return "JSON", "load the ONNX file"
    if start and all(32 <= byte < 127 or byte in b"\t\r\n" for byte in start):
        return "text", "load the ONNX file, or name a model's text .onnxtxt"
    return None


def _read_model(reader: Reader, end: int) -> Model:
    found = collect(reader, 0, end, message("ModelProto"))
    functions = [
        _read_function(reader, a, b) for _, a, b in triples(found.get("functions", array("q")))
    ]
    infos = found.get("training_info", array("q"))
    if "graph" in found:
        graph = open_graph(*reader.joined(found["graph"]))
    elif functions or infos:
        graph = Graph()
    else:
        raise reader.error("there is no graph: the file is not an ONNX model", 0)
    training = [_read_training(reader, a, b, graph) for _, a, b in triples(infos)]
    version = found.get("model_version")
    ir_version = found.get("ir_version")
    model = Model(
        graph,
        read_opsets(reader, found.get("opset_import", array("q"))),
        ir_version=reader.integer(*ir_version[-2:]) if ir_version else 0,
        producer_name=_prose(reader, found, "producer_name"),
        producer_version=_prose(reader, found, "producer_version"),
        domain=_prose(reader, found, "domain"),
        model_version=reader.integer(*version[-2:]) if version else None,
        doc=_prose(reader, found, "doc_string"),
        metadata=read_entries(reader, found.get("metadata_props", array("q"))),
        training=training,
        configurations=[
            read_configuration(reader, a, b)
            for _, a, b in triples(found.get("configuration", array("q")))
        ],
        unknown=unknown_bytes(reader, found),
        source=reader.context.source,
    )
    spans = found.get("functions", array("q"))
    for function, (_, start, _) in zip(functions, triples(spans), strict=True):
        if model.functions.setdefault(function.key, function) is not function:
            raise reader.error(f"two functions are called {quote(':'.join(function.key))}", start)
    return model


def _prose(reader: Reader, found: dict[str, Spans[int]], field: str) -> str:
    return reader.prose(*found[field][-2:]) if field in found else ""


def _read_function(reader: Reader, start: int, end: int) -> Function:
    table = read_message(reader, start, end, message("FunctionProto"))
    if not table.one("name"):
        raise reader.error("a FunctionProto without name", start)
    graph = Graph(pending=open_parts(table, start, 2))
    defaults = read_attributes(
        reader, [(a, b) for _, a, b in triples(table.one("attribute_proto"))], 3, _default_graph
    )
    return Function(
        table.text("name"),
        table.text("domain"),
        graph,
        read_opsets(reader, table.one("opset_import")),
        overload=table.text("overload"),
        attributes=texts(reader, table.one("attribute")),
        defaults=defaults,
        doc=table.prose("doc_string"),
        metadata=read_entries(reader, table.one("metadata_props")),
        unknown=table.unknown(),
    )


def _default_graph(reader: Reader, start: int, end: int) -> Graph:
    return open_graph(reader, start, end, 4, ({},))


def _read_training(reader: Reader, start: int, end: int, main: Graph) -> TrainingInfo:
    found = collect(reader, start, end, message("TrainingInfoProto"))

    def initializers() -> dict[str, Value]:
        return {value.name: value for value in main.initializers}

    seen = (("initialization", initializers), ("algorithm", main.values))
    graphs = [
        open_graph(*reader.joined(found[part]), 3, linked=linked) if part in found else None
        for part, linked in seen
    ]
    return TrainingInfo(
        graphs[0],
        graphs[1],
        read_entries(reader, found.get("initialization_binding", array("q"))),
        read_entries(reader, found.get("update_binding", array("q"))),
        unknown_bytes(reader, found),
    )


def decode_tensor(data: bytes | memoryview, *, context: DecodeContext | None = None) -> Tensor:
    """The tensor whose TensorProto is `data`; it goes on to use `data`."""
    reader = open_reader(data, context or DecodeContext(), "TensorProto")
    return read_tensor(reader, 0, len(reader.view))


def decode_type(data: bytes | memoryview, *, context: DecodeContext | None = None) -> Type | None:
    """The type whose TypeProto is `data`, or None where it says nothing."""
    reader = open_reader(data, context or DecodeContext(), "TypeProto")
    return read_type(reader, 0, len(reader.view))


def decode_value_info(data: bytes | memoryview, *, context: DecodeContext | None = None) -> Value:
    """The value whose ValueInfoProto is `data`."""
    reader = open_reader(data, context or DecodeContext(), "ValueInfoProto")
    found = collect(reader, 0, len(reader.view), message("ValueInfoProto"))
    value = Value(reader.text(*found["name"][-2:]) if "name" in found else "")
    if "type" in found:
        value = Value(value.name, lazy_type(reader, found["type"]))
    value.doc = _prose(reader, found, "doc_string")
    value.metadata.update(read_entries(reader, found.get("metadata_props", array("q"))))
    value.unknown = unknown_bytes(reader, found)
    return value
