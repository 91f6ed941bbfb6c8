"""Tensors made of numbers and sizes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from sardonyx import dtypes
from sardonyx.dims import Dim
from sardonyx.errors import ExportError
from sardonyx.export.torch import tensors
from sardonyx.export.torch.indexing import span
from sardonyx.export.torch.registry import TorchBuilder, TorchValue, known, translation
from sardonyx.ir.tensor import ArrayTensor
from sardonyx.ir.value import Value

if TYPE_CHECKING:
    from sardonyx.dtypes import DType

__all__: list[str] = []

_LARGEST_CONSTANT: Final = 1 << 14
_RANGE_INPUTS: Final = {
    dtypes.FLOAT, dtypes.DOUBLE, dtypes.INT16, dtypes.INT32, dtypes.INT64,
}  # fmt: skip


@translation("aten.full.default", "aten.new_full.default")
def full(op: TorchBuilder, *args: Any, **_: Any) -> Any:
    return _filled(op, args[-1])


@translation("aten.full_like.default", "aten.fill.Scalar", "aten.fill.Tensor")
def full_like(op: TorchBuilder, _x: Value, value: TorchValue, **__: Any) -> Any:
    return _filled(op, value)


@translation(
    "aten.zeros.default", "aten.zeros_like.default", "aten.new_zeros.default", "aten.zero.default",
    "aten.empty.memory_format", "aten.empty_like.default", "aten.new_empty.default",
    "aten.empty_permuted.default", "aten.empty_strided.default", "aten.new_empty_strided.default",
)  # fmt: skip
def zeros(op: TorchBuilder, *_: Any, **__: Any) -> Any:
    return _filled(op, 0)


@translation("aten.ones.default", "aten.ones_like.default", "aten.new_ones.default")
def ones(op: TorchBuilder, *_: Any, **__: Any) -> Any:
    return _filled(op, 1)


@translation("aten.scalar_tensor.default")
def scalar_tensor(op: TorchBuilder, value: TorchValue, **_: Any) -> Any:
    return op.scalar(value, op.result())


def _filled(op: TorchBuilder, value: Any) -> Any:
    dtype = op.result()
    shape = known(op.result_shape)
    if shape is None:
        raise ExportError("a tensor of a shape that cannot be said")
    if isinstance(value, Value) and op.rank_of(value):
        value = op.reshape(value, [])
    if shape == ():
        return op.scalar(value, dtype)
    if isinstance(value, (Value, Dim)) or op.opset < 9:
        return op.Expand(op.scalar(value, dtype), op.sizes(shape))
    return op.ConstantOfShape(op.sizes(shape), value=ArrayTensor([value], dtype))


@translation("aten.arange.default", "aten.arange.start", "aten.arange.start_step")
def arange(op: TorchBuilder, *args: Any, **_: Any) -> Any:
    start, end, step = (0, args[0], 1) if len(args) == 1 else (*args, 1)[:3]
    dtype = op.result()
    bounds = (start, end, step)
    if any(isinstance(each, (Value, Dim)) for each in bounds):
        return _range(op, bounds, dtype)
    (count,) = op.result_shape
    if isinstance(count, int) and count > _LARGEST_CONSTANT and op.opset >= 11:
        return _range(op, bounds, dtype)
    return _computed(op, torch.arange, start, end, step)


def _range(op: TorchBuilder, bounds: tuple[Any, ...], dtype: DType) -> Value:
    fractions = any(
        isinstance(each, float) or (isinstance(each, Value) and op.dtype_of(each).is_floating)
        for each in bounds
    )
    wide = dtype
    if fractions and not dtype.is_floating:
        raise ExportError("an arange of whole numbers between fractions cannot be exported")
    if dtype not in _RANGE_INPUTS:
        wide = dtypes.FLOAT if dtype.is_floating else dtypes.INT64
    made: Value = op.Range(*(op.scalar(each, wide) for each in bounds))
    return op.cast(op.typed(made, wide, op.result_shape), dtype)


def _computed(op: TorchBuilder, function: Any, *args: Any, **keywords: Any) -> Value:
    """What `function` of torch gives, as a constant."""
    dtype = op.result()
    with torch.no_grad():
        made = function(*args, dtype=tensors.torch_dtype_of(dtype), device="cpu", **keywords)
    return op.value(tensors.constant(made, ""))


@translation("aten.linspace.default")
def linspace(op: TorchBuilder, start: Any, end: Any, steps: Any, **_: Any) -> Any:
    if not any(isinstance(each, (Value, Dim)) for each in (start, end, steps)):
        return _computed(op, torch.linspace, start, end, steps)
    dtype = op.result()
    wide = dtype if dtype.is_floating else dtypes.DOUBLE
    first, last = op.scalar(start, wide), op.scalar(end, wide)
    gaps = op.cast(op.scalar(steps - 1, dtypes.INT64), wide)
    one = op.constant(1, wide)
    width = op.Div(op.Sub(last, first), op.Max(gaps, one))
    places = op.cast(span(op, 0, steps), wide)
    # each half is counted from its own end, so that both ends are exact
    forward = op.Add(first, op.Mul(places, width))
    backward = op.Sub(last, op.Mul(op.Sub(gaps, places), width))
    values = op.Where(op.Less(places, op.Mul(gaps, op.constant(0.5, wide))), forward, backward)
    if isinstance(steps, Dim):
        values = op.Where(op.Less(gaps, one), first, values)
    return op.cast(op.typed(values, wide, [steps]), dtype)


@translation("aten.logspace.default")
def logspace(
    op: TorchBuilder, start: Any, end: Any, steps: Any, base: float = 10.0, **_: Any
) -> Any:
    if not any(isinstance(each, (Value, Dim)) for each in (start, end, steps)):
        return _computed(op, torch.logspace, start, end, steps, base)
    dtype = op.result()
    exponents = linspace(op, start, end, steps)
    return op.Pow(op.constant(base, dtype), exponents)


@translation("aten.eye.default", "aten.eye.m")
def eye(op: TorchBuilder, *_: Any, **__: Any) -> Any:
    dtype = op.result()
    shape = known(op.result_shape)
    if shape is None:
        raise ExportError("an identity matrix of a size that cannot be said")
    rows, columns = shape
    if isinstance(rows, int) and isinstance(columns, int) and rows * columns <= _LARGEST_CONSTANT:
        return op.constant(np.eye(rows, columns), dtype)
    same = op.Equal(op.unsqueeze(span(op, 0, rows), [1]), span(op, 0, columns))
    return op.cast(op.typed(same, dtypes.BOOL, shape), dtype)


@translation("aten.tril_indices.default")
def tril_indices(op: TorchBuilder, row: int, col: int, offset: int = 0, **_: Any) -> Any:
    return _indices(op, torch.tril_indices, row, col, offset)


@translation("aten.triu_indices.default")
def triu_indices(op: TorchBuilder, row: int, col: int, offset: int = 0, **_: Any) -> Any:
    return _indices(op, torch.triu_indices, row, col, offset)


def _indices(op: TorchBuilder, function: Any, row: Any, col: Any, offset: Any) -> Any:
    if not any(isinstance(each, Dim) for each in (row, col, offset)):
        return _computed(op, function, row, col, offset)
    difference = op.Sub(op.unsqueeze(span(op, offset, row + offset), [1]), span(op, 0, col))
    zero = op.constant(0, dtypes.INT64)
    if function is torch.tril_indices:
        outside = op.Less(difference, zero)
    else:
        outside = op.Greater(difference, zero)
    return op.cast(op.typed(op.NonZero(op.Not(outside)), dtypes.INT64, [2, None]), op.result())


def _register_window(name: str, overload: str, *parameters: str) -> None:
    function = getattr(torch, name)

    @translation(f"aten.{name}.{overload}")
    def window(op: TorchBuilder, length: Any, *args: Any, **_: Any) -> Any:
        if isinstance(length, Dim):
            raise ExportError(f"a {name} of a dynamic length cannot be exported")
        return _computed(op, function, length, **dict(zip(parameters, args, strict=False)))


for _name in ("hann", "blackman", "bartlett"):
    _register_window(f"{_name}_window", "default")
    _register_window(f"{_name}_window", "periodic", "periodic")
_register_window("hamming_window", "default")
_register_window("hamming_window", "periodic", "periodic")
_register_window("hamming_window", "periodic_alpha", "periodic", "alpha")
_register_window("hamming_window", "periodic_alpha_beta", "periodic", "alpha", "beta")
_register_window("kaiser_window", "default")
_register_window("kaiser_window", "periodic", "periodic")
_register_window("kaiser_window", "beta", "periodic", "beta")
