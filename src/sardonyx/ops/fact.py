"""What inference knows about a value before it is computed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sardonyx import dtypes
from sardonyx.dims import Dim
from sardonyx.ir.types import SparseTensorType, TensorType, shape_text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sardonyx.dtypes import DType
    from sardonyx.ir.tensor import Array
    from sardonyx.ir.types import DimLike, Shape, Type

__all__ = ["UNKNOWN", "Fact", "shape_value"]


@dataclass(frozen=True, slots=True, eq=False)
class Fact:
    """A value's type and, where known, its contents.

    `value` is a constant array of the dtype, or an object array whose elements are ints,
    symbolic dims, of floating-point tensors `Ratio`s of them, or None where unknown: so
    arithmetic on shapes is exact. `elements` are the facts of a sequence's elements, where
    their number is known.
    """

    type: Type | None = None
    value: Array | None = None
    elements: tuple[Fact, ...] | None = None

    @staticmethod
    def tensor(
        dtype: DType | None, shape: Iterable[DimLike] | None = None, value: Array | None = None
    ) -> Fact:
        """The fact of a tensor; dims that are NumPy integers become ints."""
        if shape is not None:
            shape = tuple(dim if dim is None or isinstance(dim, Dim) else int(dim) for dim in shape)
        return Fact(TensorType(dtype, shape), value)

    @staticmethod
    def constant(array: Array, dtype: DType | None = None) -> Fact:
        """The fact of a known array."""
        return Fact.tensor(dtype or dtypes.from_numpy(array.dtype), array.shape, array)

    @property
    def dtype(self) -> DType | None:
        """Element type of a tensor."""
        return self.type.dtype if isinstance(self.type, (TensorType, SparseTensorType)) else None

    @property
    def shape(self) -> Shape | None:
        """Shape of a tensor whose rank is known."""
        return self.type.shape if isinstance(self.type, (TensorType, SparseTensorType)) else None

    @property
    def rank(self) -> int | None:
        """Rank of a tensor, where known."""
        return None if self.shape is None else len(self.shape)

    @property
    def is_constant(self) -> bool:
        """Whether every element is known as a number (not as a symbol)."""
        if self.value is None:
            return False
        if self.value.dtype != object or self.dtype is dtypes.STRING:
            return True
        return all(isinstance(item, int) for item in self.value.flat)

    def constant_value(self) -> Array | None:
        """The contents as an array of the dtype, or None while any element is symbolic."""
        if not self.is_constant or self.value is None:
            return None
        dtype = self.dtype
        if dtype is None or self.value.dtype == dtype.numpy:
            return self.value
        return self.value.astype(dtype.numpy)

    def dims_value(self) -> list[DimLike] | None:
        """The contents of a rank 0 or 1 integer tensor as dims, or None where unknown."""
        if self.value is None:
            return None
        if self.value.dtype.kind in "iu":
            return list(self.value.reshape(-1).tolist())
        return [
            item if isinstance(item, Dim) else int(item) if isinstance(item, int) else None
            for item in self.value.reshape(-1).tolist()
        ]

    def with_value(self, value: Array | None) -> Fact:
        """The same type with other contents."""
        return Fact(self.type, value)

    def __str__(self) -> str:
        if isinstance(self.type, TensorType):
            return f"{self.type}{shape_text(self.shape)}"
        return "unknown" if self.type is None else str(self.type)


UNKNOWN = Fact()


def shape_value(dims: Iterable[DimLike]) -> Array:
    """`dims` as the contents of an INT64 tensor: plain integers where all are, else objects."""
    items: list[Any] = list(dims)
    if all(isinstance(item, int) for item in items):
        return np.array(items, np.int64)
    array = np.empty(len(items), object)
    array[:] = items
    return array
