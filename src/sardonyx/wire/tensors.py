"""Tensors to and from TensorProto."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from sardonyx import dtypes
from sardonyx.errors import ModelError, SardonyxError, UnsupportedError, quote
from sardonyx.ir.tensor import ArrayTensor, RawTensor, SparseTensor, Tensor, owned
from sardonyx.wire.entries import encode_entries, read_entries, read_pairs
from sardonyx.wire.external import ExternalTensor, detached
from sardonyx.wire.fields import collect, integers, numbers, triples, unknown_bytes
from sardonyx.wire.schema import FIXED32, FIXED64, LENGTH, RUN, message
from sardonyx.wire.varint import count_varints, encode_varints
from sardonyx.wire.writing import (
    Chunks,
    TensorPiece,
    bytes_field,
    encode_prose,
    int_field,
    text_field,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sardonyx.dtypes import DType
    from sardonyx.ir.tensor import Array
    from sardonyx.wire.fields import Reader, Spans

__all__ = [
    "Externalize",
    "FieldTensor",
    "encode_sparse",
    "encode_tensor_chunks",
    "read_sparse",
    "read_tensor",
]

Entries: TypeAlias = "list[tuple[str, str]]"
Externalize: TypeAlias = "Callable[[Tensor], Entries | None] | None"

_DATA_FIELDS = (
    "float_data",
    "int32_data",
    "string_data",
    "int64_data",
    "double_data",
    "uint64_data",
)
_KINDS = {
    "float_data": "float",
    "int32_data": "int32",
    "int64_data": "int64",
    "double_data": "double",
    "uint64_data": "uint64",
}
_TYPED = message("TensorProto").by_name
_LARGEST = (1 << 63) - 1
_EXTERNAL = 1
_SMALL = 4096


class FieldTensor(Tensor):
    """A tensor in the typed field that its dtype has (`field`), decoded when it is read."""

    __slots__ = ("_array", "_reader", "_spans", "field")

    def __init__(
        self, reader: Reader, spans: Spans[int], dtype: DType, shape: Sequence[int], name: str
    ) -> None:
        super().__init__(dtype, shape, name)
        self.field = dtype.field
        self._reader = reader
        self._spans = spans
        self._array: Array | None = None

    def numpy(self) -> Array:
        """The elements, decoded on the first call."""
        if self._array is None:
            decoded = self._decode().reshape(self.shape)
            decoded.flags.writeable = False
            self._array = decoded
        return self._array

    def raw(self) -> bytes | memoryview:
        """The elements as raw_data would hold them."""
        if self.dtype is dtypes.STRING:
            raise ModelError(f"tensor {quote(self.name)}: strings have no raw form")
        if self.dtype.is_packed:
            return dtypes.pack(self.numpy(), self.dtype)
        array = np.ascontiguousarray(self.numpy())
        little = array.astype(array.dtype.newbyteorder("<"), copy=False)
        return little.reshape(-1).view(np.uint8).data

    def encoded(self) -> bytes | None:
        """The payload of the packed field as it stands, where it is in one part."""
        self._reader.context.verify()
        if len(self._spans) == 3 and self._spans[0] == LENGTH and self.field != "string_data":
            return bytes(self._reader.view[self._spans[1] : self._spans[2]])
        return None

    def values(self) -> Array:
        """The entries of the field, before they are made into elements."""
        self._reader.context.verify()
        return numbers(self._reader, self._spans, _KINDS[self.field])

    def strings(self) -> list[bytes]:
        """The entries of string_data."""
        self._reader.context.verify()
        view = self._reader.view
        return [bytes(view[start:end]) for _, start, end in triples(self._spans)]

    def _decode(self) -> Array:
        if self.dtype is dtypes.STRING:
            found = [text.decode("utf-8", "surrogateescape") for text in self.strings()]
            strings = np.empty(len(found), np.object_)
            strings[:] = found
            return strings
        dtype = self.dtype
        values: Array = self.values()
        if self.field == "int32_data" and dtype is not dtypes.INT32:
            if dtype.bits in {2, 4}:
                return dtypes.unpack(values.astype(np.uint8).tobytes(), dtype, self.size)
            if dtype.bits == 6:
                return (values & 0x3F).astype(np.uint8).view(dtype.numpy)
            if dtype is dtypes.BOOL:
                return np.not_equal(values, 0)
            return values.astype(f"u{dtype.itemsize}").view(dtype.numpy)
        if dtype.kind == "complex":
            values = np.ascontiguousarray(values).view(f"<c{dtype.itemsize}")
        return values.astype(dtype.numpy)


def read_tensor(reader: Reader, start: int, end: int) -> Tensor:
    """The tensor of the TensorProto from `start` to `end`; its data stays where it is.

    Raises `DecodeError` where dims, type and data do not fit together.
    """
    found = collect(reader, start, end, message("TensorProto"))
    spans = found.get("name")
    name = reader.text(spans[-2], spans[-1]) if spans else ""
    dtype = _dtype(reader, found.get("data_type"), name, start)
    shape = _shape(reader, found.get("dims"), name, start)
    tensor = _with_data(reader, found, dtype, shape, name, start)
    if "doc_string" in found:
        tensor.doc = reader.prose(*found["doc_string"][-2:])
    if "metadata_props" in found:
        tensor.metadata.update(read_entries(reader, found["metadata_props"]))
    tensor.unknown = _kept(reader, found.get("segment")) + unknown_bytes(reader, found)
    return tensor


def _kept(reader: Reader, spans: Spans[int] | None) -> bytes:
    if spans is None:
        return b""
    inner, start, end = reader.joined(spans)
    collect(inner, start, end, message("Segment"))
    return bytes_field(3, bytes(inner.view[start:end]))


def _dtype(reader: Reader, spans: Spans[int] | None, name: str, start: int) -> DType:
    code = reader.int32(spans[-2], spans[-1]) if spans else 0
    if code == 0:
        raise reader.error(f"tensor {quote(name)} has no element type", start)
    try:
        return dtypes.from_code(code)
    except UnsupportedError as error:
        offset = reader.at(start)
        place = reader.place(offset) or f"byte {offset}"
        raise error.at(f"tensor {quote(name)}").at(place) from None


def _shape(reader: Reader, spans: Spans[int] | None, name: str, start: int) -> list[int]:
    shape = integers(reader, spans) if spans else []
    if len(shape) > reader.context.limits.rank:
        raise reader.limit("rank", reader.context.limits.rank, len(shape), start)
    size = 1
    for dim in shape:
        if dim < 0:
            raise reader.error(f"tensor {quote(name)} has the negative dim {dim}", start)
        size *= dim
    # a zero elsewhere does not excuse the others: their product is taken by itself
    product = 1
    for dim in shape:
        product *= dim or 1
    if max(size, product) > _LARGEST:
        raise reader.error(f"tensor {quote(name)} of {shape} has more than 2^63 elements", start)
    return shape


def _with_data(
    reader: Reader,
    found: dict[str, Spans[int]],
    dtype: DType,
    shape: list[int],
    name: str,
    start: int,
) -> Tensor:
    typed = [field for field in _DATA_FIELDS if field in found and _is_filled(found[field], field)]
    raw = found.get("raw_data")
    has_raw = raw is not None and (raw[-1] > raw[-2] or not typed)
    location = found.get("data_location")
    if location is not None and reader.int32(location[-2], location[-1]) == _EXTERNAL:
        if typed or (raw is not None and raw[-1] > raw[-2]):
            field = typed[0] if typed else "raw_data"
            raise reader.error(f"external tensor {quote(name)} has {field} too", start)
        return _external(reader, found.get("external_data"), dtype, shape, name, start)
    if len(typed) + has_raw > 1:
        both = [*typed, "raw_data"] if has_raw else typed
        raise reader.error(f"tensor {quote(name)} has both {both[0]} and {both[1]}", start)
    if has_raw and raw is not None:
        return _raw(reader, raw, dtype, shape, name)
    if typed and typed[0] != dtype.field:
        raise reader.error(
            f"tensor {quote(name)} is {dtype.text}, which {dtype.field} holds, not {typed[0]}",
            start,
        )
    spans = found.get(dtype.field, array("q"))
    tensor = FieldTensor(reader, spans, dtype, shape, name)
    _check_count(reader, tensor, spans, start)
    return tensor


def _is_filled(spans: Spans[int], field: str) -> bool:
    return field == "string_data" or any(end > start for _, start, end in triples(spans))


def _raw(reader: Reader, spans: Spans[int], dtype: DType, shape: list[int], name: str) -> Tensor:
    first, last = spans[-2], spans[-1]
    if dtype is dtypes.STRING:
        raise reader.error(f"tensor {quote(name)} has strings in raw_data", first)
    count = 1
    for dim in shape:
        count *= dim
    if last - first != dtype.nbytes(count):
        raise reader.error(
            f"tensor {quote(name)}: {dtype.text}{shape} takes {dtype.nbytes(count)} bytes, "
            f"raw_data has {last - first}",
            first,
        )
    return RawTensor(reader.view[first:last], dtype, shape, name)


def _external(
    reader: Reader,
    spans: Spans[int] | None,
    dtype: DType,
    shape: list[int],
    name: str,
    start: int,
) -> Tensor:
    entries = read_pairs(reader, spans) if spans else []
    external = reader.context.external
    try:
        if external is None:
            return detached(entries, dtype, shape, name)
        return external.tensor(entries, dtype, shape, name)
    except SardonyxError as error:
        place = reader.place(reader.at(start))
        raise (error if place is None else error.at(place)) from error.__cause__


def _check_count(reader: Reader, tensor: FieldTensor, spans: Spans[int], start: int) -> None:
    dtype, size = tensor.dtype, tensor.size
    needed = size
    if dtype.kind == "complex":
        needed = 2 * size
    elif dtype.bits in {2, 4}:
        needed = (size * dtype.bits + 7) // 8
    count = sum(
        _count(reader, wire, first, last, tensor.field) for wire, first, last in triples(spans)
    )
    if count != needed:
        raise reader.error(
            f"tensor {quote(tensor.name)}: {dtype.text}{list(tensor.shape)} takes {needed} "
            f"values in {tensor.field}, {count} are there",
            start,
        )


def _count(reader: Reader, wire: int, start: int, end: int, field: str) -> int:
    if field == "string_data":
        return 1
    kind = _KINDS[field]
    if kind in {"float", "double"}:
        size = 4 if kind == "float" else 8
        if wire in {FIXED32 | RUN, FIXED64 | RUN}:
            return (end - start) // (size + 1)
        if (end - start) % size:
            raise reader.error(f"packed {kind}s of {end - start} bytes", start)
        return (end - start) // size
    count = count_varints(reader.data[start:end])
    return count // 2 if wire & RUN else count


def read_sparse(reader: Reader, start: int, end: int) -> SparseTensor:
    """The tensor of the SparseTensorProto from `start` to `end`."""
    found = collect(reader, start, end, message("SparseTensorProto"))
    parts: list[Tensor] = []
    for field in ("values", "indices"):
        if field not in found and parts and not parts[0].size:
            parts.append(ArrayTensor(np.zeros(0, np.int64)))
            continue
        if field not in found:
            raise reader.error(f"a sparse tensor without {field}", start)
        parts.append(read_tensor(*reader.joined(found[field])))
    shape = _shape(reader, found.get("dims"), parts[0].name, start)
    if len(parts[0].shape) != 1 or len(parts[1].shape) not in {1, 2}:
        raise reader.error(
            f"sparse tensor {quote(parts[0].name)}: values of rank {len(parts[0].shape)} and "
            f"indices of rank {len(parts[1].shape)}, not 1 and 1 or 2",
            start,
        )
    sparse = SparseTensor(parts[0], parts[1], shape)
    sparse.unknown = unknown_bytes(reader, found)
    return sparse


def encode_tensor_chunks(
    tensor: Tensor, externalize: Externalize = None, *, name: str | None = None
) -> Chunks:
    """`tensor` as a TensorProto, called `name` if that is given.

    `externalize` gives the external_data entries to write in place of the data, or None to
    write the data; without it external tensors keep their entries.
    """
    entries: Sequence[tuple[str, str]] | None = None
    if externalize is not None:
        entries = externalize(tensor)
    elif isinstance(tensor, ExternalTensor):
        entries = tensor.entries
    out = Chunks()
    out.add(b"".join([int_field(1, dim) for dim in tensor.shape]) + int_field(2, tensor.dtype.code))
    name_field = text_field(8, tensor.name if name is None else name)
    if entries is not None:
        out.add(name_field)
    elif isinstance(tensor, FieldTensor):
        _add_typed(out, tensor, name_field)
    elif tensor.dtype is dtypes.STRING:
        out.add(_encode_strings(tensor.numpy().reshape(-1).tolist()))
        out.add(name_field)
    else:
        out.add(name_field)
        _add_raw(out, tensor)
    out.add(text_field(12, tensor.doc))
    if entries is not None:
        for key, value in entries:
            pair = bytes_field(1, encode_prose(key)) + bytes_field(2, encode_prose(value))
            out.add(bytes_field(13, pair))
        out.add(int_field(14, _EXTERNAL))
    out.add(encode_entries(16, tensor._metadata))  # noqa: SLF001
    out.add(tensor.unknown)
    return out


def _add_raw(out: Chunks, tensor: Tensor) -> None:
    if tensor.nbytes > _SMALL:
        out.add_data(9, TensorPiece(tensor))
    else:
        out.add(bytes_field(9, owned(TensorPiece(tensor).raw())))


def _add_typed(out: Chunks, tensor: FieldTensor, name_field: bytes) -> None:
    if tensor.dtype is dtypes.STRING:
        out.add(b"".join([bytes_field(6, text) for text in tensor.strings()]))
        out.add(name_field)
        return
    number = _TYPED[tensor.field].number
    packed = tensor.encoded()
    if packed is None:
        values = tensor.values()
        is_float = values.dtype.kind == "f"
        packed = values.tobytes() if is_float else encode_varints(values)
    field = bytes_field(number, packed) if packed else b""
    before = number < _TYPED["name"].number
    out.add(field if before else name_field)
    out.add(name_field if before else field)


def _encode_strings(strings: list[object]) -> bytes:
    return b"".join(
        [bytes_field(6, s if isinstance(s, bytes) else encode_prose(str(s))) for s in strings]
    )


def encode_sparse(sparse: SparseTensor, externalize: Externalize, name: str | None) -> Chunks:
    """`sparse` as a SparseTensorProto, its values called `name` if that is given."""
    out = Chunks()
    out.add_message(1, encode_tensor_chunks(sparse.values, externalize, name=name))
    out.add_message(2, encode_tensor_chunks(sparse.indices, externalize))
    out.add(b"".join([int_field(3, dim) for dim in sparse.shape]))
    out.add(sparse.unknown)
    return out
