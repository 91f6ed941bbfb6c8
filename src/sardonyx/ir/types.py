"""Types of values: tensors and the containers the standard builds of them (onnx.proto, TypeProto).

`str` of a type is the string that schemas and sessions use: ``tensor(float)``,
``seq(tensor(int64))``, ``map(string,tensor(float))``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from sardonyx.dims import Dim

if TYPE_CHECKING:
    from sardonyx.dtypes import DType

__all__ = [
    "DimLike",
    "MapType",
    "OpaqueType",
    "OptionalType",
    "SequenceType",
    "Shape",
    "SparseTensorType",
    "TensorType",
    "Type",
    "shape_text",
]

DimLike: TypeAlias = int | Dim | None
"""A dimension: a size, a symbolic size, or None where nothing is known."""

Shape: TypeAlias = tuple[DimLike, ...]


def shape_text(shape: Shape | None) -> str:
    """`shape` as ``[2, N, ?]``, or ``[...]`` where not even the rank is known."""
    if shape is None:
        return "[...]"
    return "[" + ", ".join("?" if dim is None else str(dim) for dim in shape) + "]"


@dataclass(frozen=True, slots=True)
class TensorType:
    """A dense tensor; `dtype` None is an undefined element type, `shape` None an unknown rank.

    `denotations` names the meaning of each dimension where the file says it.
    """

    dtype: DType | None
    shape: Shape | None = None
    denotation: str = ""
    denotations: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"tensor({self.dtype.text if self.dtype else '?'})"


@dataclass(frozen=True, slots=True)
class SparseTensorType:
    """A sparse tensor of `dtype` with dense shape `shape`."""

    dtype: DType | None
    shape: Shape | None = None
    denotation: str = ""
    denotations: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"sparse_tensor({self.dtype.text if self.dtype else '?'})"


@dataclass(frozen=True, slots=True)
class SequenceType:
    """A sequence of `element`s."""

    element: Type
    denotation: str = ""

    def __str__(self) -> str:
        return f"seq({self.element})"


@dataclass(frozen=True, slots=True)
class OptionalType:
    """An `element` or nothing."""

    element: Type
    denotation: str = ""

    def __str__(self) -> str:
        return f"optional({self.element})"


@dataclass(frozen=True, slots=True)
class MapType:
    """A map from `key` (an integer type or STRING) to `value`s."""

    key: DType | None
    value: Type
    denotation: str = ""

    def __str__(self) -> str:
        value = self.value
        text = str(value)
        if isinstance(value, TensorType) and value.shape == () and value.dtype:
            text = value.dtype.text
        return f"map({self.key.text if self.key else '?'},{text})"


@dataclass(frozen=True, slots=True)
class OpaqueType:
    """A type known only by its domain and name."""

    domain: str
    name: str
    denotation: str = ""

    def __str__(self) -> str:
        return f"opaque({self.domain},{self.name})" if self.domain else f"opaque({self.name})"


Type: TypeAlias = TensorType | SparseTensorType | SequenceType | OptionalType | MapType | OpaqueType
