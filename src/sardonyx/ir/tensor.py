"""Tensors: constant data, wherever it lies."""

from __future__ import annotations

import math
import sys
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sardonyx import dtypes
from sardonyx.errors import ModelError, quote

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from sardonyx.dtypes import DType

__all__ = ["Array", "ArrayTensor", "RawTensor", "SparseTensor", "Tensor", "as_tensor", "owned"]

Array = npt.NDArray[Any]


class Tensor(ABC):
    """A constant of `dtype` and `shape`; the data is read when `numpy` or `raw` is called.

    `metadata`, `doc` and `unknown` (wire fields that this release does not know, as bytes)
    travel with the tensor through a file.
    """

    __slots__ = ("_metadata", "doc", "dtype", "name", "shape", "unknown")

    def __init__(self, dtype: DType, shape: Sequence[int], name: str = "") -> None:
        self.dtype = dtype
        self.shape = tuple(shape)
        self.name = name
        self.doc = ""
        self.unknown = b""
        self._metadata: dict[str, str] | None = None

    @property
    def metadata(self) -> dict[str, str]:
        """Keys and values attached to the tensor (IR 10)."""
        if self._metadata is None:
            self._metadata = {}
        return self._metadata

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes in a file: exact for packed types, 0 for strings."""
        return self.dtype.nbytes(self.size)

    @property
    def entries(self) -> tuple[tuple[str, str], ...] | None:
        """Its external_data keys and values, where the data lies in another file."""
        return None

    @property
    def is_detached(self) -> bool:
        """Whether the data lies in a file that cannot be read."""
        return False

    @abstractmethod
    def numpy(self) -> Array:
        """The elements as a read-only array of `dtype.numpy`; strings are `str` objects."""

    @abstractmethod
    def raw(self) -> bytes | memoryview:
        """The elements as raw_data holds them: little-endian, packed; not for strings."""

    def read(self) -> Array:
        """The elements in memory of their own: no later change of a file reaches them."""
        array: Array = self.numpy().copy()
        return array

    def state(self) -> Hashable:
        """What is equal as long as reading again gives the same; None where nothing can say."""
        return None

    def identity(self) -> Hashable:
        """Which bytes of which file: equal for no others, in this process; None if unknown."""
        return None

    def __repr__(self) -> str:
        name = f" {quote(self.name)}" if self.name else ""
        return f"<{type(self).__name__}{name} {self.dtype.text}{list(self.shape)}>"


class ArrayTensor(Tensor):
    """A tensor in a NumPy array of its own."""

    __slots__ = ("_array",)

    def __init__(self, array: npt.ArrayLike, dtype: DType | None = None, name: str = "") -> None:
        data = np.asarray(array)
        dtype = dtype or dtypes.from_numpy(data.dtype)
        if data.dtype != dtype.numpy:
            data = data.astype(dtype.numpy)
        super().__init__(dtype, data.shape, name)
        self._array: Array = data.view()
        self._array.flags.writeable = False

    def numpy(self) -> Array:
        """The array, read-only."""
        return self._array

    def raw(self) -> bytes | memoryview:
        """The elements as raw_data holds them."""
        if self.dtype.is_packed:
            return dtypes.pack(self._array, self.dtype)
        return _little_endian(np.ascontiguousarray(self._array))


class RawTensor(Tensor):
    """A tensor whose raw_data lies in `buffer`, which is not copied.

    Raises `ModelError` when the buffer's length is not what dtype and shape need.
    """

    __slots__ = ("_buffer",)

    def __init__(
        self, buffer: bytes | memoryview, dtype: DType, shape: Sequence[int], name: str = ""
    ) -> None:
        super().__init__(dtype, shape, name)
        self._buffer = buffer
        if len(buffer) != self.nbytes:
            raise ModelError(
                f"tensor {quote(name)}: {dtype.text}{list(shape)} takes {self.nbytes} bytes, "
                f"raw_data has {len(buffer)}"
            )

    def numpy(self) -> Array:
        """A view of the buffer; packed types are unpacked into a new array."""
        return array_from_raw(self._buffer, self.dtype, self.shape)

    def raw(self) -> bytes | memoryview:
        """The buffer."""
        return self._buffer

    def read(self) -> Array:
        """The elements in memory of their own."""
        return array_from_raw(owned(self._buffer), self.dtype, self.shape)

    def state(self) -> Hashable:
        """Of a file its size and when it was changed; bytes never change."""
        source = self._buffer if isinstance(self._buffer, bytes) else self._buffer.obj
        if isinstance(source, bytes):
            return "bytes"
        file_state = getattr(source, "state", None)
        return None if file_state is None else file_state()

    def identity(self) -> Hashable:
        """Of a mapped file: which, where in it, and how many bytes."""
        buffer = self._buffer
        if isinstance(buffer, bytes) or not hasattr(buffer.obj, "identity_of"):
            return None
        found: Hashable = buffer.obj.identity_of(buffer)
        return found


class SparseTensor:
    """A sparse constant in COO form (onnx.proto, SparseTensorProto).

    `values` is rank 1; `indices` is [NNZ] (linearized) or [NNZ, rank]; `shape` is dense.
    """

    __slots__ = ("indices", "shape", "unknown", "values")

    def __init__(self, values: Tensor, indices: Tensor, shape: Sequence[int]) -> None:
        self.values = values
        self.indices = indices
        self.shape = tuple(shape)
        self.unknown = b""

    @property
    def name(self) -> str:
        """The name of the value it initializes."""
        return self.values.name

    def to_dense(self) -> Array:
        """The dense array."""
        values, indices = self.values.numpy(), self.indices.numpy()
        dense = np.zeros(self.shape, self.values.dtype.numpy)
        if indices.ndim == 2:
            dense[tuple(indices.T)] = values
        else:
            dense.reshape(-1)[indices] = values
        return dense


def owned(buffer: bytes | memoryview) -> bytes:
    """The content of `buffer` as bytes of its own.

    A view of a mapped file is read through the file (the map's `read_view`), since a map of a
    file that has become shorter must not be touched.
    """
    if isinstance(buffer, bytes):
        return buffer
    read_view = getattr(buffer.obj, "read_view", None)
    return bytes(buffer) if read_view is None else bytes(read_view(buffer))


def array_from_raw(data: bytes | memoryview, dtype: DType, shape: Sequence[int]) -> Array:
    """`data`, laid out as raw_data, as an array; a view where the machine allows."""
    if dtype.is_packed:
        array = dtypes.unpack(data, dtype, math.prod(shape)).reshape(tuple(shape))
    else:
        array = np.frombuffer(data, dtype.numpy).reshape(tuple(shape))
        if sys.byteorder == "big" and dtype.itemsize > 1:
            array = array.byteswap()
    array.flags.writeable = False
    return array


def _little_endian(array: Array) -> memoryview:
    if sys.byteorder == "big" and array.itemsize > 1:
        array = array.byteswap()
    return array.reshape(-1).view(np.uint8).data


def as_tensor(data: Tensor | npt.ArrayLike, dtype: DType | None = None, name: str = "") -> Tensor:
    """`data` as a tensor; Python ints become INT64 and floats FLOAT unless `dtype` says else."""
    if isinstance(data, Tensor):
        return data
    if dtype is None and not isinstance(data, (np.ndarray, np.generic)):
        array = np.asarray(data)
        if array.dtype == np.float64:
            dtype = dtypes.FLOAT
    return ArrayTensor(data, dtype, name)
