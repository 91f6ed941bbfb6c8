"""The sets of types that schemas allow, by the names that the standard's families go by.

A set is a tuple of element types (each a tensor type) and of other types. The sets that grew
with the file format end in the newest type they include: ``ALL_FLOAT8`` is every tensor type
known when the four FLOAT8 types came (IR 9).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

from sardonyx.dtypes import (
    BFLOAT16,
    BOOL,
    COMPLEX64,
    COMPLEX128,
    DOUBLE,
    FLOAT,
    FLOAT4E2M1,
    FLOAT6E2M3,
    FLOAT6E3M2,
    FLOAT8E4M3FN,
    FLOAT8E4M3FNUZ,
    FLOAT8E5M2,
    FLOAT8E5M2FNUZ,
    FLOAT8E8M0,
    FLOAT16,
    INT2,
    INT4,
    INT8,
    INT16,
    INT32,
    INT64,
    STRING,
    UINT2,
    UINT4,
    UINT8,
    UINT16,
    UINT32,
    UINT64,
    DType,
)
from sardonyx.ir.types import OptionalType, SequenceType, TensorType, Type

if TYPE_CHECKING:
    from collections.abc import Iterable

Types: TypeAlias = tuple[DType | Type, ...]

FLOATS: Final = (FLOAT16, FLOAT, DOUBLE)
FLOATS_BFLOAT16: Final = (*FLOATS, BFLOAT16)
SIGNED: Final = (INT8, INT16, INT32, INT64)
UNSIGNED: Final = (UINT8, UINT16, UINT32, UINT64)
INTEGERS: Final = (*SIGNED, *UNSIGNED)
NUMERIC: Final = (*INTEGERS, *FLOATS)
NUMERIC_BFLOAT16: Final = (*NUMERIC, BFLOAT16)
HIGH: Final = (UINT32, UINT64, INT32, INT64, *FLOATS)
"""32- and 64-bit integers and floating point, as arithmetic had before opset 13."""
HIGH_BFLOAT16: Final = (*HIGH, BFLOAT16)
INDICES: Final = (INT32, INT64)

ALL_BEFORE_BFLOAT16: Final = (*NUMERIC, STRING, BOOL, COMPLEX64, COMPLEX128)
ALL_BFLOAT16: Final = (*ALL_BEFORE_BFLOAT16, BFLOAT16)
ALL_FLOAT8: Final = (
    *ALL_BFLOAT16,
    FLOAT8E4M3FN,
    FLOAT8E4M3FNUZ,
    FLOAT8E5M2,
    FLOAT8E5M2FNUZ,
)
ALL_INT4: Final = (*ALL_FLOAT8, UINT4, INT4)
ALL_FLOAT4: Final = (*ALL_INT4, FLOAT4E2M1)
ALL_FLOAT8E8M0: Final = (*ALL_FLOAT4, FLOAT8E8M0)
ALL_INT2: Final = (*ALL_FLOAT8E8M0, UINT2, INT2)
ALL: Final = (*ALL_INT2, FLOAT6E2M3, FLOAT6E3M2)
"""Every tensor type of IR 14."""


def sequences(types: Iterable[DType | Type]) -> Types:
    """Sequences of each of `types`."""
    return tuple(SequenceType(as_type(element)) for element in types)


def optionals(types: Iterable[DType | Type]) -> Types:
    """Optionals of each of `types`."""
    return tuple(OptionalType(as_type(element)) for element in types)


def as_type(allowed: DType | Type) -> Type:
    """An entry of a type set as a type: an element type is a tensor of it."""
    return TensorType(allowed) if isinstance(allowed, DType) else allowed


def without(types: Types, *removed: DType) -> Types:
    """`types` less those `removed`."""
    return tuple(entry for entry in types if entry not in removed)
