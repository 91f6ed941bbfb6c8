"""Element types and constants of PyTorch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import torch

from sardonyx import dtypes
from sardonyx.errors import ExportError
from sardonyx.ir.tensor import ArrayTensor, SparseTensor, Tensor

if TYPE_CHECKING:
    from sardonyx.dtypes import DType
    from sardonyx.ir.tensor import Array
    from sardonyx.ir.value import Value

__all__ = [
    "TorchTensor",
    "as_array",
    "constant",
    "data_of",
    "dtype_of",
    "storage_key",
    "torch_dtype_of",
]

_DTYPES: Final[dict[Any, DType]] = {
    torch.float32: dtypes.FLOAT,
    torch.float64: dtypes.DOUBLE,
    torch.float16: dtypes.FLOAT16,
    torch.bfloat16: dtypes.BFLOAT16,
    torch.int8: dtypes.INT8,
    torch.int16: dtypes.INT16,
    torch.int32: dtypes.INT32,
    torch.int64: dtypes.INT64,
    torch.uint8: dtypes.UINT8,
    torch.uint16: dtypes.UINT16,
    torch.uint32: dtypes.UINT32,
    torch.uint64: dtypes.UINT64,
    torch.bool: dtypes.BOOL,
    torch.complex64: dtypes.COMPLEX64,
    torch.complex128: dtypes.COMPLEX128,
    torch.float8_e4m3fn: dtypes.FLOAT8E4M3FN,
    torch.float8_e4m3fnuz: dtypes.FLOAT8E4M3FNUZ,
    torch.float8_e5m2: dtypes.FLOAT8E5M2,
    torch.float8_e5m2fnuz: dtypes.FLOAT8E5M2FNUZ,
}
_TORCH_DTYPES: Final = {dtype: known for known, dtype in _DTYPES.items()}
_CARRIERS: Final = {1: torch.uint8, 2: torch.int16}


def dtype_of(known: Any) -> DType:
    """The element type of a ``torch.dtype``."""
    if known not in _DTYPES:
        raise ExportError(f"{known} has no ONNX element type")
    return _DTYPES[known]


def torch_dtype_of(dtype: DType) -> Any:
    """The ``torch.dtype`` of an element type."""
    return _TORCH_DTYPES[dtype]


def as_array(tensor: Any) -> Array:
    """The elements as an array; a view of the tensor's memory where it is in the CPU's."""
    dtype = dtype_of(tensor.dtype)
    tensor = tensor.detach().cpu().contiguous().resolve_conj().resolve_neg()
    if dtype.is_floating and dtype not in {dtypes.FLOAT, dtypes.DOUBLE, dtypes.FLOAT16}:
        carried: Array = tensor.view(_CARRIERS[dtype.itemsize]).numpy().view(dtype.numpy)
        return carried
    array: Array = tensor.numpy()
    return array


class TorchTensor(Tensor):
    """A tensor of PyTorch as constant data: read, and copied from a device, when it is asked."""

    __slots__ = ("_tensor",)

    def __init__(self, tensor: Any, name: str = "") -> None:
        super().__init__(dtype_of(tensor.dtype), tuple(map(int, tensor.shape)), name)
        self._tensor = tensor.detach()

    def numpy(self) -> Array:
        """The elements, read-only; in the tensor's own memory where they lie in order there."""
        array = as_array(self._tensor)
        array.flags.writeable = False
        return array

    def raw(self) -> bytes | memoryview:
        """The elements as raw_data holds them."""
        return ArrayTensor(self.numpy(), self.dtype).raw()


def constant(tensor: Any, name: str) -> Tensor:
    """`tensor` as the data of an initializer, sharing memory where possible."""
    if tensor.device.type == "meta":
        raise ExportError(
            f"tensor {name!r} is on the meta device: it has no data",
            hint="load the weights before exporting",
        )
    return TorchTensor(tensor, name)


def storage_key(tensor: Any) -> tuple[Any, ...] | None:
    """What two tensors share exactly when they are the same view of the same memory."""
    if tensor.numel() == 0 or tensor.device.type == "meta":
        return None
    return (
        tensor.device,
        tensor.data_ptr(),
        tuple(tensor.shape),
        tuple(tensor.stride()),
        tensor.dtype,
    )


def data_of(value: Value) -> Array | None:
    """The elements of a constant, None of what is computed."""
    data = value.const
    if data is None:
        return None
    array: Array = data.to_dense() if isinstance(data, SparseTensor) else data.numpy()
    return array
