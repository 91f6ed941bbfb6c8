"""Sequences, optionals and maps of tensors to and from their messages (onnx-data.proto)."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Any, TypeAlias, Union

import numpy as np

from sardonyx import dtypes
from sardonyx.errors import ModelError, UnsupportedError
from sardonyx.ir.tensor import ArrayTensor, SparseTensor, Tensor, as_tensor
from sardonyx.wire.decode import open_reader
from sardonyx.wire.fields import DecodeContext, collect, numbers, triples
from sardonyx.wire.schema import message
from sardonyx.wire.tensors import encode_sparse, encode_tensor_chunks, read_sparse, read_tensor
from sardonyx.wire.writing import bytes_field, encode_prose, int_field, text_field

if TYPE_CHECKING:
    from sardonyx.ir.tensor import Array
    from sardonyx.wire.fields import Reader, Spans

__all__ = ["Container", "decode_optional", "decode_sequence", "encode_optional", "encode_sequence"]

Container: TypeAlias = Union["Array", SparseTensor, "list[Any]", "dict[Any, Any]", None]
"""An array, a sparse tensor, a list (sequence), a dict (map) or None (empty optional)."""

_TENSOR, _SPARSE, _SEQUENCE, _MAP, _OPTIONAL = range(1, 6)
_SEQUENCE_FIELDS = {
    _TENSOR: "tensor_values",
    _SPARSE: "sparse_tensor_values",
    _SEQUENCE: "sequence_values",
    _MAP: "map_values",
    _OPTIONAL: "optional_values",
}
_OPTIONAL_FIELDS = {
    _TENSOR: "tensor_value",
    _SPARSE: "sparse_tensor_value",
    _SEQUENCE: "sequence_value",
    _MAP: "map_value",
    _OPTIONAL: "optional_value",
}


def decode_sequence(
    data: bytes | memoryview, *, context: DecodeContext | None = None
) -> list[Container]:
    """The items of the SequenceProto `data`: arrays, lists, dicts, None."""
    reader = open_reader(data, context or DecodeContext(), "SequenceProto")
    return _read_sequence(reader, 0, len(reader.view), 1)


def decode_optional(data: bytes | memoryview, *, context: DecodeContext | None = None) -> Container:
    """What the OptionalProto `data` holds, or None."""
    reader = open_reader(data, context or DecodeContext(), "OptionalProto")
    return _read_optional(reader, 0, len(reader.view), 1)


def _read_sequence(reader: Reader, start: int, end: int, depth: int) -> list[Container]:
    found = collect(reader, start, end, message("SequenceProto"))
    kind, field = _element(reader, found, _SEQUENCE_FIELDS, start)
    spans = found.get(field, array("q"))
    return [_read_item(reader, kind, a, b, depth) for _, a, b in triples(spans)]


def _read_optional(reader: Reader, start: int, end: int, depth: int) -> Container:
    found = collect(reader, start, end, message("OptionalProto"))
    kind, field = _element(reader, found, _OPTIONAL_FIELDS, start)
    if field not in found:
        return None
    inner, first, last = reader.joined(found[field])
    return _read_item(inner, kind, first, last, depth)


def _element(
    reader: Reader, found: dict[str, Spans[int]], fields: dict[int, str], start: int
) -> tuple[int, str]:
    """The kind of what is held, and its field: the one that elem_type names."""
    given = [kind for kind, field in fields.items() if field in found]
    code = reader.int32(*found["elem_type"][-2:]) if "elem_type" in found else 0
    if len(given) > 1:
        raise reader.error(f"both {fields[given[0]]} and {fields[given[1]]} are given", start)
    if given and code not in {0, given[0]}:
        raise reader.error(f"elem_type is {code}, but {fields[given[0]]} is given", start)
    if code and code not in fields:
        raise reader.error(f"the unknown elem_type {code}", start)
    kind = given[0] if given else code
    return kind, fields.get(kind, "")


def _read_item(reader: Reader, kind: int, start: int, end: int, depth: int) -> Container:
    if depth >= reader.context.depth:
        raise reader.limit("depth", reader.context.depth, f"more than {depth}", start)
    if kind == _TENSOR:
        return read_tensor(reader, start, end).numpy()
    if kind == _SPARSE:
        return read_sparse(reader, start, end)
    if kind == _SEQUENCE:
        return _read_sequence(reader, start, end, depth + 1)
    if kind == _MAP:
        return _read_map(reader, start, end, depth + 1)
    return _read_optional(reader, start, end, depth + 1)


def _read_map(reader: Reader, start: int, end: int, depth: int) -> dict[Any, Any]:
    found = collect(reader, start, end, message("MapProto"))
    keys: list[Any] = numbers(reader, found.get("keys", array("q")), "int64").tolist()
    strings = [reader.prose(a, b) for _, a, b in triples(found.get("string_keys", array("q")))]
    if keys and strings:
        raise reader.error("a map with both keys and string_keys", start)
    keys = keys or strings
    values: list[Container] = []
    if "values" in found:
        inner, first, last = reader.joined(found["values"])
        values = _read_sequence(inner, first, last, depth + 1)
    if len(keys) != len(values):
        raise reader.error(f"a map of {len(keys)} keys and {len(values)} values", start)
    made = dict(zip(keys, values, strict=True))
    if len(made) != len(keys):
        raise reader.error("a map with one key twice", start)
    return made


def encode_sequence(items: list[Any], *, name: str = "") -> bytes:
    """`items` as a SequenceProto; they are all of one kind.

    Raises `ModelError` where they are not, or are none that the message holds.
    """
    kinds = {_kind(item) for item in items}
    if len(kinds) > 1:
        raise ModelError("a sequence holds items of one kind: tensors, sequences, maps, optionals")
    kind = kinds.pop() if kinds else _TENSOR
    parts = [text_field(1, name), int_field(2, kind)]
    parts += [bytes_field(2 + kind, _encode_item(kind, item)) for item in items]
    return b"".join(parts)


def encode_optional(item: Any, *, name: str = "", kind: int = 0) -> bytes:
    """`item`, or nothing where it is None, as an OptionalProto.

    `kind` is the elem_type to state for None (OptionalProto.DataType).
    """
    if item is None:
        return text_field(1, name) + (int_field(2, kind) if kind else b"")
    kind = _kind(item)
    start = text_field(1, name) + int_field(2, kind)
    return start + bytes_field(2 + kind, _encode_item(kind, item))


def _kind(item: Any) -> int:
    if item is None:
        return _OPTIONAL
    if isinstance(item, SparseTensor):
        return _SPARSE
    if isinstance(item, (list, tuple)):
        return _SEQUENCE
    return _MAP if isinstance(item, dict) else _TENSOR


def _encode_item(kind: int, item: Any) -> bytes:
    if kind == _SPARSE:
        return encode_sparse(item, None, None).tobytes()
    if kind == _SEQUENCE:
        return encode_sequence(list(item))
    if kind == _MAP:
        return _encode_map(item)
    if kind == _OPTIONAL:
        return encode_optional(item)
    tensor = item if isinstance(item, Tensor) else _as_tensor(item)
    return encode_tensor_chunks(tensor).tobytes()


def _as_tensor(item: Any) -> Tensor:
    try:
        return as_tensor(item)
    except (UnsupportedError, TypeError, ValueError) as error:
        raise ModelError(f"{type(item).__name__} is no tensor: {error}") from error


def _encode_map(items: dict[Any, Any]) -> bytes:
    keys = list(items)
    if all(isinstance(key, str) for key in keys) and keys:
        code = dtypes.STRING.code
        encoded = [bytes_field(4, encode_prose(key)) for key in keys]
    elif all(isinstance(key, (int, np.integer)) for key in keys):
        code = dtypes.INT64.code
        encoded = [int_field(3, int(key)) for key in keys]
    else:
        raise ModelError("the keys of a map are all strings or all integers")
    values = encode_sequence([_plain(value) for value in items.values()])
    return int_field(2, code) + b"".join(encoded) + bytes_field(5, values)


def _plain(value: Any) -> Any:
    return ArrayTensor(value) if isinstance(value, np.generic) else value
