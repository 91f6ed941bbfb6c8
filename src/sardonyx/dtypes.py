"""The 28 element types of ONNX IR 14, in one table.

Packed types (2, 4 and 6 bits) take one byte per element in NumPy and their exact number of
bits in a file: the first element in the lowest bits (onnx.proto, TensorProto.raw_data).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import ml_dtypes
import numpy as np
import numpy.typing as npt

from sardonyx.errors import UnsupportedError

__all__ = ["ALL", "DType", "from_code", "from_name", "from_numpy", "pack", "unpack"]


@dataclass(frozen=True, eq=False, slots=True)
class DType:
    """One element type: identity is equality, so `dtype is FLOAT` works.

    `name` is TensorProto.DataType's, `code` its number, `bits` the width in a file (0 for
    strings), `kind` one of float, int, uint, bool, complex, string, `text` the name in the
    textual syntax and in type strings (``tensor(float)``), `field` the TensorProto field that
    holds its values when raw_data does not.
    """

    name: str
    code: int
    numpy: np.dtype[np.generic]
    bits: int
    kind: str
    text: str
    field: str
    since_ir: int

    @property
    def itemsize(self) -> int:
        """Bytes of one element in a NumPy array."""
        return self.numpy.itemsize

    @property
    def is_packed(self) -> bool:
        """Whether elements share bytes in a file."""
        return self.bits in {2, 4, 6}

    @property
    def is_floating(self) -> bool:
        """Whether it is a real floating-point type, of any width."""
        return self.kind == "float"

    @property
    def is_integer(self) -> bool:
        """Whether it is a signed or unsigned integer type."""
        return self.kind in {"int", "uint"}

    def nbytes(self, count: int) -> int:
        """Bytes of `count` elements in raw_data; strings have no such size (0)."""
        return (count * self.bits + 7) // 8

    def __repr__(self) -> str:
        return self.name

    def __reduce__(self) -> tuple[object, tuple[int]]:
        return from_code, (self.code,)


def _d(
    name: str, code: int, numpy: npt.DTypeLike, bits: int, kind: str, text: str, field: str, ir: int
) -> DType:
    return DType(name, code, np.dtype(numpy), bits, kind, text, field, ir)


# fmt: off
#                        name              code  NumPy                         bits kind       text               field          IR
FLOAT: Final          = _d("FLOAT",          1,  np.float32,                   32, "float",   "float",           "float_data",  1)
UINT8: Final          = _d("UINT8",          2,  np.uint8,                      8, "uint",    "uint8",           "int32_data",  1)
INT8: Final           = _d("INT8",           3,  np.int8,                       8, "int",     "int8",            "int32_data",  1)
UINT16: Final         = _d("UINT16",         4,  np.uint16,                    16, "uint",    "uint16",          "int32_data",  1)
INT16: Final          = _d("INT16",          5,  np.int16,                     16, "int",     "int16",           "int32_data",  1)
INT32: Final          = _d("INT32",          6,  np.int32,                     32, "int",     "int32",           "int32_data",  1)
INT64: Final          = _d("INT64",          7,  np.int64,                     64, "int",     "int64",           "int64_data",  1)
STRING: Final         = _d("STRING",         8,  np.object_,                    0, "string",  "string",          "string_data", 1)
BOOL: Final           = _d("BOOL",           9,  np.bool_,                      8, "bool",    "bool",            "int32_data",  1)
FLOAT16: Final        = _d("FLOAT16",        10, np.float16,                   16, "float",   "float16",         "int32_data",  1)
DOUBLE: Final         = _d("DOUBLE",         11, np.float64,                   64, "float",   "double",          "double_data", 1)
UINT32: Final         = _d("UINT32",         12, np.uint32,                    32, "uint",    "uint32",          "uint64_data", 1)
UINT64: Final         = _d("UINT64",         13, np.uint64,                    64, "uint",    "uint64",          "uint64_data", 1)
COMPLEX64: Final      = _d("COMPLEX64",      14, np.complex64,                 64, "complex", "complex64",       "float_data",  1)
COMPLEX128: Final     = _d("COMPLEX128",     15, np.complex128,               128, "complex", "complex128",      "double_data", 1)
BFLOAT16: Final       = _d("BFLOAT16",       16, ml_dtypes.bfloat16,           16, "float",   "bfloat16",        "int32_data",  4)
FLOAT8E4M3FN: Final   = _d("FLOAT8E4M3FN",   17, ml_dtypes.float8_e4m3fn,       8, "float",   "float8e4m3fn",    "int32_data",  9)
FLOAT8E4M3FNUZ: Final = _d("FLOAT8E4M3FNUZ", 18, ml_dtypes.float8_e4m3fnuz,     8, "float",   "float8e4m3fnuz",  "int32_data",  9)
FLOAT8E5M2: Final     = _d("FLOAT8E5M2",     19, ml_dtypes.float8_e5m2,         8, "float",   "float8e5m2",      "int32_data",  9)
FLOAT8E5M2FNUZ: Final = _d("FLOAT8E5M2FNUZ", 20, ml_dtypes.float8_e5m2fnuz,     8, "float",   "float8e5m2fnuz",  "int32_data",  9)
UINT4: Final          = _d("UINT4",          21, ml_dtypes.uint4,               4, "uint",    "uint4",           "int32_data",  10)
INT4: Final           = _d("INT4",           22, ml_dtypes.int4,                4, "int",     "int4",            "int32_data",  10)
FLOAT4E2M1: Final     = _d("FLOAT4E2M1",     23, ml_dtypes.float4_e2m1fn,       4, "float",   "float4e2m1",      "int32_data",  11)
FLOAT8E8M0: Final     = _d("FLOAT8E8M0",     24, ml_dtypes.float8_e8m0fnu,      8, "float",   "float8e8m0",      "int32_data",  12)
UINT2: Final          = _d("UINT2",          25, ml_dtypes.uint2,               2, "uint",    "uint2",           "int32_data",  13)
INT2: Final           = _d("INT2",           26, ml_dtypes.int2,                2, "int",     "int2",            "int32_data",  13)
FLOAT6E2M3: Final     = _d("FLOAT6E2M3",     27, ml_dtypes.float6_e2m3fn,       6, "float",   "float6e2m3",      "int32_data",  14)
FLOAT6E3M2: Final     = _d("FLOAT6E3M2",     28, ml_dtypes.float6_e3m2fn,       6, "float",   "float6e3m2",      "int32_data",  14)
# fmt: on

ALL: Final = tuple(value for value in list(globals().values()) if isinstance(value, DType))
_BY_CODE: Final = {dtype.code: dtype for dtype in ALL}
_BY_NUMPY: Final = {dtype.numpy: dtype for dtype in ALL}
_BY_NAME: Final = {
    spelling: dtype
    for dtype in ALL
    for spelling in (dtype.name, dtype.text, str(dtype.numpy))
    if spelling != "object"
}


def from_code(code: int) -> DType:
    """The type with TensorProto.DataType number `code`."""
    try:
        return _BY_CODE[code]
    except KeyError:
        raise UnsupportedError(f"element type {code} is not one of the 28 of IR 14") from None


def from_name(name: str) -> DType:
    """The type called `name` by ONNX (``FLOAT``, ``float``) or by NumPy (``float32``)."""
    try:
        return _BY_NAME[name]
    except KeyError:
        raise UnsupportedError(f"no element type is called {name!r}") from None


def from_numpy(dtype: npt.DTypeLike) -> DType:
    """The type of a NumPy or ml_dtypes array; any text dtype is STRING."""
    key = np.dtype(dtype)
    found = _BY_NUMPY.get(key) or _BY_NUMPY.get(key.newbyteorder("="))
    if found is not None:
        return found
    if key.kind in "USO":
        return STRING
    raise UnsupportedError(
        f"NumPy type {key} has no ONNX element type",
        hint="convert the array, for example with .astype(numpy.float32)",
    )


_Bytes = npt.NDArray[np.uint8]


def pack(array: npt.NDArray[np.generic], dtype: DType) -> bytes:
    """`array` of a packed `dtype`, any shape, as the bytes of raw_data."""
    codes: _Bytes = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    codes = codes & np.uint8((1 << dtype.bits) - 1)
    if dtype.bits == 6:
        return _pack6(codes)
    per_byte = 8 // dtype.bits
    padded = np.zeros((-(-codes.size // per_byte), per_byte), np.uint8)
    padded.reshape(-1)[: codes.size] = codes
    shifts = np.arange(per_byte, dtype=np.uint8) * np.uint8(dtype.bits)
    packed: _Bytes = np.bitwise_or.reduce(padded << shifts, axis=1)
    return packed.astype(np.uint8).tobytes()


def unpack(data: bytes | memoryview, dtype: DType, count: int) -> npt.NDArray[np.generic]:
    """`count` elements of a packed `dtype` from the bytes of raw_data, one byte per element."""
    raw = np.frombuffer(data, np.uint8)
    if dtype.bits == 6:
        codes = _unpack6(raw, count)
    else:
        per_byte = 8 // dtype.bits
        shifts = np.arange(per_byte, dtype=np.uint8) * np.uint8(dtype.bits)
        codes = ((raw[:, None] >> shifts) & np.uint8((1 << dtype.bits) - 1)).reshape(-1)[:count]
    if dtype.kind == "int":
        sign = np.uint8(1 << (dtype.bits - 1))
        codes = (codes ^ sign) - sign
    return np.ascontiguousarray(codes).view(dtype.numpy)


def _pack6(codes: _Bytes) -> bytes:
    # four elements a, b, c, d -> three bytes bbaaaaaa ccccbbbb ddddddcc
    groups = np.zeros((-(-codes.size // 4), 4), np.uint8)
    groups.reshape(-1)[: codes.size] = codes
    a, b, c, d = groups.T
    packed = np.stack([a | (b << 6), (b >> 2) | (c << 4), (c >> 4) | (d << 2)], axis=1)
    return packed.astype(np.uint8).tobytes()[: (codes.size * 6 + 7) // 8]


def _unpack6(raw: _Bytes, count: int) -> _Bytes:
    groups = np.zeros((-(-count // 4), 3), np.uint8)
    groups.reshape(-1)[: raw.size] = raw[: groups.size]
    x, y, z = groups.T
    codes = np.stack([x, (x >> 6) | (y << 2), (y >> 4) | (z << 4), z >> 2], axis=1)
    out: _Bytes = (codes & np.uint8(0x3F)).reshape(-1)[:count]
    return out
