"""Types and shapes to and from TypeProto."""

from __future__ import annotations

from array import array
from functools import partial
from typing import TYPE_CHECKING

from sardonyx import dtypes
from sardonyx.dims import Dim, symbol
from sardonyx.errors import ModelError, UnsupportedError
from sardonyx.ir.types import (
    MapType,
    OpaqueType,
    OptionalType,
    SequenceType,
    SparseTensorType,
    TensorType,
)
from sardonyx.ir.value import LazyType
from sardonyx.wire.fields import Reader, collect, triples
from sardonyx.wire.schema import message
from sardonyx.wire.writing import bytes_field, int_field, text_field

if TYPE_CHECKING:
    from sardonyx.dtypes import DType
    from sardonyx.ir.types import DimLike, Type
    from sardonyx.wire.fields import Spans

__all__ = ["decode_type", "encode_dim", "encode_type", "lazy_type", "read_dim"]

_MEMBERS = (
    "tensor_type",
    "sequence_type",
    "map_type",
    "optional_type",
    "sparse_tensor_type",
    "opaque_type",
)
_OUTER = 3


def lazy_type(reader: Reader, spans: Spans[int]) -> LazyType:
    """The type at `spans`, not decoded yet; equal bytes of one file share one object."""
    inner, start, end = reader.joined(spans)
    encoded = bytes(inner.view[start:end])
    types = reader.context.types
    found = types.get(encoded)
    if found is None:
        place = inner.at(start)
        found = types[encoded] = LazyType(encoded, partial(_decode_later, reader, place))
    assert isinstance(found, LazyType)
    return found


def _decode_later(reader: Reader, base: int, encoded: bytes) -> Type | None:
    inner = Reader(memoryview(encoded), reader.context, base)
    return decode_type(inner, 0, len(encoded), _OUTER)


def decode_type(reader: Reader, start: int, end: int, depth: int = 1) -> Type | None:
    """The type of the TypeProto from `start` to `end`; None where it says nothing."""
    if depth > reader.context.depth:
        raise reader.limit("depth", reader.context.depth, f"more than {depth - 1}", start)
    found = collect(reader, start, end, message("TypeProto"))
    members = [name for name in _MEMBERS if name in found]
    if len(members) > 1:
        raise reader.error(f"a type that is both {members[0]} and {members[1]}", start)
    denotation = _text(reader, found.get("denotation"))
    if not members:
        return None
    inner, start, end = reader.joined(found[members[0]])
    if members[0] in {"tensor_type", "sparse_tensor_type"}:
        return _tensor_type(inner, start, end, denotation, sparse=members[0] != "tensor_type")
    if members[0] == "opaque_type":
        parts = collect(inner, start, end, message("Opaque"))
        domain, name = (_text(inner, parts.get(part)) for part in ("domain", "name"))
        return OpaqueType(domain, name, denotation)
    if members[0] == "map_type":
        parts = collect(inner, start, end, message("Map"))
        key = _dtype(inner, parts.get("key_type"))
        return MapType(key, _element(inner, parts.get("value_type"), start, depth), denotation)
    parts = collect(inner, start, end, message("Sequence"))
    element = _element(inner, parts.get("elem_type"), start, depth)
    make = SequenceType if members[0] == "sequence_type" else OptionalType
    return make(element, denotation)


def _element(reader: Reader, spans: Spans[int] | None, start: int, depth: int) -> Type:
    found = None
    if spans is not None:
        inner, first, end = reader.joined(spans)
        found = decode_type(inner, first, end, depth + 2)
    # a container whose element type is not given holds tensors of an unknown type
    return TensorType(None) if found is None else found


def _tensor_type(
    reader: Reader, start: int, end: int, denotation: str, *, sparse: bool
) -> TensorType | SparseTensorType:
    found = collect(reader, start, end, message("Tensor"))
    dtype = _dtype(reader, found.get("elem_type"))
    shape: list[DimLike] | None = None
    denotations: list[str] = []
    if "shape" in found:
        inner, first, last = reader.joined(found["shape"])
        parts = collect(inner, first, last, message("TensorShapeProto"))
        shape = []
        dims = parts.get("dim", array("q"))
        rank = len(dims) // 3
        if rank > reader.context.limits.rank:
            raise inner.limit("rank", reader.context.limits.rank, rank, first)
        for _, a, b in triples(dims):
            dim = collect(inner, a, b, message("Dimension"))
            shape.append(read_dim(inner, dim, a))
            denotations.append(_text(inner, dim.get("denotation")))
    make = SparseTensorType if sparse else TensorType
    return make(
        dtype,
        None if shape is None else tuple(shape),
        denotation,
        tuple(denotations) if any(denotations) else (),
    )


def read_dim(reader: Reader, found: dict[str, Spans[int]], start: int) -> DimLike:
    """The dimension of fields dim_value and dim_param; negative sizes are unknown ones."""
    value, name = found.get("dim_value"), found.get("dim_param")
    if value is not None and name is not None:
        raise reader.error("a dimension with both dim_value and dim_param", start)
    if value is not None:
        size = reader.integer(value[-2], value[-1])
        return size if size >= 0 else None
    if name is not None:
        text = reader.text(name[-2], name[-1])
        return symbol(text) if text else None
    return None


def _dtype(reader: Reader, spans: Spans[int] | None) -> DType | None:
    code = reader.int32(spans[-2], spans[-1]) if spans is not None else 0
    if code == 0:
        return None
    try:
        return dtypes.from_code(code)
    except UnsupportedError as error:
        assert spans is not None
        offset = reader.at(spans[-2])
        raise error.at(f"byte {offset}").at(reader.place(offset) or "type") from None


def _text(reader: Reader, spans: Spans[int] | None) -> str:
    return "" if spans is None else reader.text(spans[-2], spans[-1])


def encode_type(type: Type) -> bytes:
    """`type` as a TypeProto."""
    denotation = text_field(6, type.denotation)
    if isinstance(type, TensorType):
        return bytes_field(1, _encode_tensor(type)) + denotation
    if isinstance(type, SequenceType):
        return bytes_field(4, bytes_field(1, encode_type(type.element))) + denotation
    if isinstance(type, MapType):
        key = int_field(1, type.key.code) if type.key is not None else b""
        return bytes_field(5, key + bytes_field(2, encode_type(type.value))) + denotation
    if isinstance(type, OpaqueType):
        return denotation + bytes_field(7, text_field(1, type.domain) + text_field(2, type.name))
    if isinstance(type, SparseTensorType):
        return denotation + bytes_field(8, _encode_tensor(type))
    return denotation + bytes_field(9, bytes_field(1, encode_type(type.element)))


def _encode_tensor(type: TensorType | SparseTensorType) -> bytes:
    out = int_field(1, type.dtype.code) if type.dtype is not None else b""
    if type.shape is None:
        return out
    denotations = type.denotations or ("",) * len(type.shape)
    if len(denotations) != len(type.shape):
        raise ModelError(f"{len(denotations)} denotations for the {len(type.shape)} dims of {type}")
    dims = [
        bytes_field(1, encode_dim(dim) + text_field(3, name))
        for dim, name in zip(type.shape, denotations, strict=True)
    ]
    return out + bytes_field(2, b"".join(dims))


def encode_dim(dim: DimLike) -> bytes:
    """dim_value or dim_param, or nothing."""
    if dim is None:
        return b""
    return text_field(2, str(dim)) if isinstance(dim, Dim) else int_field(1, dim)
