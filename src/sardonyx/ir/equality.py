"""Whether two models are the same: everything that their files hold, compared by meaning."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from sardonyx import dtypes
from sardonyx.errors import quote
from sardonyx.ir.listing import name_values, value_infos
from sardonyx.ir.node import Attribute, AttributeType
from sardonyx.ir.tensor import SparseTensor, Tensor
from sardonyx.ir.types import (
    MapType,
    OpaqueType,
    OptionalType,
    SequenceType,
    SparseTensorType,
    TensorType,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from sardonyx.ir.graph import Graph
    from sardonyx.ir.model import Function, Model
    from sardonyx.ir.node import Node
    from sardonyx.ir.types import Type
    from sardonyx.ir.value import Value

__all__ = ["difference", "equal"]

_MODEL: Final = (
    "ir_version",
    "producer_name",
    "producer_version",
    "domain",
    "model_version",
    "doc",
    "unknown",
)
_FUNCTION: Final = ("name", "domain", "overload", "attributes", "doc", "unknown")
_NODE: Final = ("name", "domain", "op_type", "overload", "doc", "devices", "unknown")


def equal(a: Model, b: Model) -> bool:
    """Whether `a` and `b` hold the same: see `difference`."""
    return difference(a, b) is None


def difference(a: Model, b: Model) -> str | None:
    """The first place where `a` and `b` differ, and what they have there; None where none is.

    Everything that a file holds counts: names, order, types, attributes, weights bit by bit,
    documentation, metadata, unknown fields. What does not count is how a file holds it: where
    a tensor's elements are stored, the order of attributes and of metadata, and whether an
    unknown dimension is left out or negative. Tensors in other files are compared by their
    data; where that cannot be read, by what refers to it.

    Values without a name that something reads, or that are graph outputs, are given unique
    names, as when a model is saved.
    """
    return next(_model(a, b), None)


def _model(a: Model, b: Model) -> Iterator[str]:
    yield from _fields(a, b, _MODEL, "model")
    yield from _mapping(a.opset_imports, b.opset_imports, "model: opset imports")
    yield from _mapping(a.metadata, b.metadata, "model: metadata")
    yield from _plain(list(a.configurations), list(b.configurations), "model: configurations")
    yield from _graph(a.graph, b.graph, f"graph {quote(a.graph.name)}")
    yield from _plain(list(a.functions), list(b.functions), "model: functions")
    for key, function in a.functions.items():
        yield from _function(function, b.functions[key], f"function {quote(function.name)}")
    yield from _plain(len(a.training), len(b.training), "model: number of training_info")
    for one, other in zip(a.training, b.training, strict=True):
        for part in ("initialization", "algorithm"):
            place = f"training {part}"
            yield from _optional_graph(getattr(one, part), getattr(other, part), place)
        for part in ("initialization_binding", "update_binding"):
            yield from _mapping(getattr(one, part), getattr(other, part), f"training {part}")
        yield from _plain(one.unknown, other.unknown, "training: unknown")


def _function(a: Function, b: Function, place: str) -> Iterator[str]:
    yield from _fields(a, b, _FUNCTION, place)
    yield from _mapping(a.opset_imports, b.opset_imports, f"{place}: opset imports")
    yield from _mapping(a.metadata, b.metadata, f"{place}: metadata")
    yield from _attributes(a.defaults, b.defaults, place)
    for graph in (a.graph, b.graph):
        name_values(graph)
    for part in ("inputs", "outputs"):
        one, other = ([value.name for value in getattr(f.graph, part)] for f in (a, b))
        yield from _plain(one, other, f"{place}: {part}")
    infos, others = (value_infos(function.graph, in_function=True) for function in (a, b))
    yield from _each(infos, others, _value, f"{place}: declared value")
    yield from _nodes(a.graph, b.graph, place)


def _optional_graph(a: Graph | None, b: Graph | None, place: str) -> Iterator[str]:
    if a is None or b is None:
        yield from _plain(a is None, b is None, f"{place}: whether it is missing")
    else:
        yield from _graph(a, b, place)


def _graph(a: Graph, b: Graph, place: str) -> Iterator[str]:
    for graph in (a, b):
        name_values(graph)
    yield from _fields(a, b, ("name", "doc", "unknown"), place)
    yield from _mapping(a.metadata, b.metadata, f"{place}: metadata")
    yield from _each(a.inputs, b.inputs, _value, f"{place}: input")
    yield from _each(a.outputs, b.outputs, _value, f"{place}: output")
    for kind, word in ((Tensor, "initializer"), (SparseTensor, "sparse initializer")):
        one, other = (
            [value for value in graph.initializers if isinstance(value.const, kind)]
            for graph in (a, b)
        )
        yield from _each(one, other, _initializer, f"{place}: {word}")
    yield from _each(value_infos(a), value_infos(b), _value, f"{place}: declared value")
    yield from _plain(list(a.quantization), list(b.quantization), f"{place}: quantization")
    yield from _nodes(a, b, place)


def _nodes(a: Graph, b: Graph, place: str) -> Iterator[str]:
    yield from _each(list(a.nodes), list(b.nodes), _node, f"{place}: node")


def _node(a: Node, b: Node, place: str) -> Iterator[str]:
    place = f"{place} ({a.label})"
    yield from _fields(a, b, _NODE, place)
    for part in ("inputs", "outputs"):
        one, other = (
            ["" if value is None else value.name for value in getattr(node, part)]
            for node in (a, b)
        )
        yield from _plain(one, other, f"{place}: {part}")
    yield from _mapping(a.metadata, b.metadata, f"{place}: metadata")
    yield from _attributes(a.attributes, b.attributes, place)


def _attributes(
    a: Mapping[str, Attribute], b: Mapping[str, Attribute], place: str
) -> Iterator[str]:
    yield from _plain(sorted(a), sorted(b), f"{place}: attributes")
    for name, attribute in a.items():
        yield from _attribute(attribute, b[name], f"{place}: attribute {quote(name)}")


def _attribute(a: Attribute, b: Attribute, place: str) -> Iterator[str]:
    yield from _fields(a, b, ("type", "ref", "doc", "unknown"), place)
    if a.value is None or b.value is None:
        yield from _plain(a.value is None, b.value is None, f"{place}: whether it has no value")
        return
    kind = AttributeType(a.type)
    if kind.is_list:
        yield from _plain(len(a.value), len(b.value), f"{place}: number of values")
        kind = AttributeType[kind.name[:-1]]
        if kind == AttributeType.INT and tuple(a.value) == tuple(b.value):
            return
        pairs = zip(a.value, b.value, strict=True)
        for number, (one, other) in enumerate(pairs):
            yield from _attribute_value(kind, one, other, f"{place}[{number}]")
    else:
        yield from _attribute_value(kind, a.value, b.value, place)


def _attribute_value(kind: AttributeType, a: Any, b: Any, place: str) -> Iterator[str]:
    if kind == AttributeType.GRAPH:
        yield from _graph(a, b, f"{place}, graph {quote(a.name)}")
    elif kind == AttributeType.TENSOR:
        yield from _tensor(a, b, place)
    elif kind == AttributeType.SPARSE_TENSOR:
        yield from _sparse(a, b, place)
    elif kind == AttributeType.TYPE_PROTO:
        yield from _types(a, b, place)
    elif kind == AttributeType.FLOAT:
        if _float_bits(a) != _float_bits(b):
            yield _differs(a, b, place)
    elif kind == AttributeType.STRING:
        if _as_bytes(a) != _as_bytes(b):
            yield _differs(a, b, place)
    elif a != b:
        yield _differs(a, b, place)


def _value(a: Value, b: Value, place: str) -> Iterator[str]:
    place = f"{place} {quote(a.name)}"
    yield from _fields(a, b, ("name", "doc", "unknown"), place)
    yield from _types(a.type, b.type, place)
    yield from _mapping(a.metadata, b.metadata, f"{place}: metadata")


def _initializer(a: Value, b: Value, place: str) -> Iterator[str]:
    place = f"{place} {quote(a.name)}"
    yield from _plain(a.name, b.name, f"{place}: name")
    if isinstance(a.const, SparseTensor) and isinstance(b.const, SparseTensor):
        yield from _sparse(a.const, b.const, place, named=False)
    elif isinstance(a.const, Tensor) and isinstance(b.const, Tensor):
        yield from _tensor(a.const, b.const, place, named=False)


def _sparse(a: SparseTensor, b: SparseTensor, place: str, *, named: bool = True) -> Iterator[str]:
    yield from _fields(a, b, ("shape", "unknown"), place)
    yield from _tensor(a.values, b.values, f"{place}: values", named=named)
    yield from _tensor(a.indices, b.indices, f"{place}: indices")


def _tensor(a: Tensor, b: Tensor, place: str, *, named: bool = True) -> Iterator[str]:
    fields = ("dtype", "shape", "doc", "unknown")
    yield from _fields(a, b, ("name", *fields) if named else fields, place)
    yield from _mapping(a.metadata, b.metadata, f"{place}: metadata")
    if a is not b and not _same_elements(a, b):
        yield f"{place}: the elements differ"


def _same_elements(a: Tensor, b: Tensor) -> bool:
    if a.is_detached or b.is_detached:
        return a.entries == b.entries
    if a.dtype is dtypes.STRING:
        one, other = (tensor.numpy().reshape(-1).tolist() for tensor in (a, b))
        return list(map(_as_bytes, one)) == list(map(_as_bytes, other))
    if a.dtype.is_packed:
        return dtypes.pack(a.numpy(), a.dtype) == dtypes.pack(b.numpy(), b.dtype)
    left, right = (np.frombuffer(tensor.raw(), np.uint8) for tensor in (a, b))
    return bool(np.array_equal(left, right))


def _types(a: Type | None, b: Type | None, place: str) -> Iterator[str]:
    if a is not b and _type_key(a) != _type_key(b):
        yield f"{place}: type {_type_key(a)} and {_type_key(b)}"


def _type_key(type: Type | None) -> Any:
    """`type` as a file holds it: dims as their text."""
    if isinstance(type, (TensorType, SparseTensorType)):
        dims = type.shape
        names = tuple(type.denotations) if any(type.denotations) else ()
        shape = None if dims is None else tuple([_dim_key(dim) for dim in dims])
        return str(type), shape, names, type.denotation
    if isinstance(type, (SequenceType, OptionalType)):
        return type.__class__.__name__, _type_key(type.element), type.denotation
    if isinstance(type, MapType):
        return "MapType", type.key, _type_key(type.value), type.denotation
    if isinstance(type, OpaqueType):
        return "OpaqueType", type.domain, type.name, type.denotation
    return None


def _dim_key(dim: Any) -> int | str | None:
    if isinstance(dim, int):
        return dim if dim >= 0 else None
    return None if dim is None else str(dim)


def _float_bits(value: Any) -> Any:
    try:
        return struct.pack("<f", value)
    except (OverflowError, struct.error):
        return repr(value)


def _as_bytes(text: Any) -> Any:
    if isinstance(text, str):
        return text.encode("utf-8", "surrogateescape")
    return text


def _fields(a: object, b: object, names: Sequence[str], place: str) -> Iterator[str]:
    for name in names:
        one, other = getattr(a, name), getattr(b, name)
        if one != other:
            yield _differs(one, other, f"{place}: {name}")


def _mapping(a: Mapping[str, Any], b: Mapping[str, Any], place: str) -> Iterator[str]:
    if a != b:
        for key in (*a, *b):
            if a.get(key) != b.get(key):
                yield _differs(a.get(key), b.get(key), f"{place} {quote(key)}")


def _plain(a: object, b: object, place: str) -> Iterator[str]:
    if a != b:
        yield _differs(a, b, place)


def _each(
    a: Sequence[Any],
    b: Sequence[Any],
    compare: Callable[[Any, Any, str], Iterator[str]],
    place: str,
) -> Iterator[str]:
    for number, (one, other) in enumerate(zip(a, b, strict=False)):
        yield from compare(one, other, f"{place} {number}")
    yield from _plain(len(a), len(b), f"{place}s: their number")


def _differs(a: object, b: object, place: str) -> str:
    return f"{place}: {quote(repr(a))[1:-1]} and {quote(repr(b))[1:-1]}"
