"""Element types and constants of PyTorch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import torch

from sardonyx import dtypes
from sardonyx.errors import ExportError
from sardonyx.ir.tensor import ArrayTensor

if TYPE_CHECKING:
    from sardonyx.dtypes import DType
    from sardonyx.ir.tensor import Array, Tensor

__all__ = ["as_array", "constant", "dtype_of", "storage_key", "torch_dtype_of"]

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


def constant(tensor: Any, name: str) -> Tensor:
    """`tensor` as the data of an initializer, sharing memory where possible."""
    if tensor.device.type == "meta":
        raise ExportError(
            f"parameter {name!r} is on the meta device: it has no data",
            hint="load the weights before exporting",
        )
    return ArrayTensor(as_array(tensor), dtype_of(tensor.dtype), name)


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
