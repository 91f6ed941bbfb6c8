"""Quantization: QuantizeLinear, DequantizeLinear, and products of integers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sardonyx import dtypes
from sardonyx.errors import ExportError
from sardonyx.export.torch.registry import TorchBuilder, TorchValue, translation
from sardonyx.export.torch.tensors import data_of
from sardonyx.ir.value import Value

if TYPE_CHECKING:
    from sardonyx.dtypes import DType

__all__: list[str] = []

_RANGES = {
    dtypes.INT8: (-128, 127),
    dtypes.UINT8: (0, 255),
    dtypes.INT16: (-(2**15), 2**15 - 1),
    dtypes.UINT16: (0, 2**16 - 1),
    dtypes.INT4: (-8, 7),
    dtypes.UINT4: (0, 15),
}
_NEEDS_21 = frozenset({dtypes.INT16, dtypes.UINT16, dtypes.INT4, dtypes.UINT4})


def _as(op: TorchBuilder, x: Value, dtype: DType) -> Value:
    """`x` as `dtype`: a constant is converted here rather than when the model runs."""
    data = data_of(x)
    if data is not None and x.dtype is not dtype:
        return op.constant(data, dtype)
    return op.cast(x, dtype)


def _one(op: TorchBuilder, x: TorchValue, dtype: DType) -> Value:
    """`x` as a scalar: torch keeps the scale of a tensor in a tensor of one element too."""
    value = _as(op, x, dtype) if isinstance(x, Value) else op.scalar(x, dtype)
    if isinstance(x, Value) and op.rank_of(x) == 1:
        return op.squeeze(op.typed(value, dtype, (1,)), [0])
    return value


def _quantized(op: TorchBuilder, x: Value, scale: Value, zero: Value | None, low: int, high: int,
               dtype: DType, axis: int | None = None) -> Value:  # fmt: skip
    if dtype not in _RANGES:
        return _computed(op, x, scale, zero, low, high, dtype, axis)
    if dtype in _NEEDS_21:
        op.require(21, f"quantization to {dtype.text}")
    if axis is not None:
        op.require(13, "quantization along an axis")
    if zero is None:
        zero = op.constant(0, dtype)
    made: Value = op.QuantizeLinear(x, scale, zero, axis=axis)
    op.typed(made, dtype, op.shape_of(x))
    return _limited(op, made, low, high)


def _limited(op: TorchBuilder, x: Value, low: int, high: int) -> Value:
    """The quantized `x` within [low, high], where its type reaches further."""
    dtype = op.dtype_of(x)
    first, last = _RANGES[dtype]
    if low <= first and high >= last:
        return x
    if dtype in {dtypes.INT8, dtypes.UINT8} and op.opset >= 12:
        return op.clip(x, max(low, first), min(high, last))
    wide = op.typed(op.cast(x, dtypes.INT32), dtypes.INT32, op.shape_of(x))
    return op.cast(op.clip(wide, max(low, first), min(high, last)), dtype)


def _along(op: TorchBuilder, value: Value, x: Value, axis: int | None) -> Value:
    """A vector so that it broadcasts along `axis` of `x`."""
    if axis is None:
        return value
    return op.unsqueeze(value, list(range(1, op.rank_of(x) - axis)))


def _computed(op: TorchBuilder, x: Value, scale: Value, zero: Value | None, low: int, high: int,
              dtype: DType, axis: int | None) -> Value:  # fmt: skip
    """Quantization to a type that QuantizeLinear does not give, in floating point."""
    kind = op.dtype_of(x)
    scaled = op.Round(op.Div(x, _along(op, scale, x, axis)))
    if zero is not None:
        scaled = op.Add(scaled, _along(op, op.cast(zero, kind), x, axis))
    return op.cast(op.clip(op.typed(scaled, kind, op.shape_of(x)), low, high), dtype)


def _dequantized(op: TorchBuilder, x: Value, scale: Value, zero: Value | None,
                 dtype: DType, axis: int | None = None) -> Value:  # fmt: skip
    kind = op.dtype_of(x)
    if axis is not None:
        op.require(13, "quantization along an axis")
    if kind in _NEEDS_21:
        op.require(21, f"dequantization of {kind.text}")
    if kind in _RANGES or (kind is dtypes.INT32 and _is_zero(zero)):
        made: Value = op.DequantizeLinear(
            x, scale, None if kind is dtypes.INT32 else zero, axis=axis
        )
        return op.cast(op.typed(made, op.dtype_of(scale), op.shape_of(x)), dtype)
    wide = op.cast(x, dtype)
    if not _is_zero(zero) and zero is not None:
        wide = op.Sub(wide, _along(op, op.cast(zero, dtype), x, axis))
    plain: Value = op.Mul(wide, _along(op, op.cast(scale, dtype), x, axis))
    return plain


def _is_zero(zero: Value | None) -> bool:
    data = None if zero is None else data_of(zero)
    return zero is None or (data is not None and not np.any(data))


_TENSOR = ("default", "tensor", "tensor2")


@translation(*(f"quantized_decomposed.quantize_per_tensor.{each}" for each in _TENSOR))
def quantize_per_tensor(op: TorchBuilder, x: Value, scale: TorchValue, zero_point: TorchValue,
                        low: Any, high: Any, dtype: DType) -> Any:  # fmt: skip
    low, high = _bounds(low, high, dtype)
    kind = dtype if dtype in _RANGES else dtypes.INT32
    zero = _one(op, zero_point, kind)
    return _quantized(op, x, _one(op, scale, op.dtype_of(x)), zero, low, high, dtype)


def _bounds(low: Any, high: Any, dtype: DType) -> tuple[int, int]:
    first, last = _RANGES.get(dtype, (-(2**31), 2**31 - 1))
    found = []
    for bound, fallback in ((low, first), (high, last)):
        if isinstance(bound, Value):
            data = data_of(bound)
            if data is None:
                raise ExportError("a quantized range that is computed cannot be exported")
            found.append(int(data))
        else:
            found.append(fallback if bound is None else int(bound))
    return found[0], found[1]


@translation(*(f"quantized_decomposed.dequantize_per_tensor.{each}" for each in _TENSOR))
def dequantize_per_tensor(op: TorchBuilder, x: Value, scale: TorchValue, zero_point: TorchValue,
                          _low: Any, _high: Any, _dtype: DType, **_: Any) -> Any:  # fmt: skip
    kind = op.dtype_of(x)
    wide = dtypes.FLOAT if op.result() is dtypes.DOUBLE else op.result()
    if wide is not dtypes.FLOAT and op.opset < 19:
        wide = dtypes.FLOAT
    zero = _one(op, zero_point, kind)
    return _dequantized(op, x, _one(op, scale, wide), zero, op.result())


@translation("quantized_decomposed.quantize_per_channel.default")
def quantize_per_channel(op: TorchBuilder, x: Value, scales: Value, zero_points: Value | None,
                         axis: int, low: int, high: int, dtype: DType) -> Any:  # fmt: skip
    kind = dtype if dtype in _RANGES else dtypes.INT32
    zero = None if zero_points is None else _as(op, zero_points, kind)
    scale = _as(op, scales, op.dtype_of(x))
    return _quantized(op, x, scale, zero, low, high, dtype, axis % op.rank_of(x))


@translation("quantized_decomposed.dequantize_per_channel.default")
def dequantize_per_channel(op: TorchBuilder, x: Value, scales: Value, zero_points: Value | None,
                           axis: int, _low: int, _high: int, _dtype: DType,
                           **_: Any) -> Any:  # fmt: skip
    kind = op.dtype_of(x)
    zero = None if zero_points is None else _as(op, zero_points, kind)
    scale = _as(op, scales, op.result() if op.opset >= 19 else dtypes.FLOAT)
    return _dequantized(op, x, scale, zero, op.result(), axis % op.rank_of(x))


@translation("quantized_decomposed.quantize_per_channel_group.default")
def quantize_per_group(op: TorchBuilder, x: Value, scales: Value, zero_points: Value, low: int,
                       high: int, dtype: DType, group: int = 128) -> Any:  # fmt: skip
    op.require(21, "quantization by groups")
    zero = _as(op, zero_points, dtype)
    made: Value = op.QuantizeLinear(
        x, _as(op, scales, op.dtype_of(x)), zero, axis=1, block_size=group
    )
    return _limited(op, op.typed(made, dtype, op.shape_of(x)), low, high)


@translation("quantized_decomposed.dequantize_per_channel_group.default")
def dequantize_per_group(op: TorchBuilder, x: Value, scales: Value, zero_points: Value | None,
                         _low: int, _high: int, _dtype: DType, group: int = 128,
                         output: DType | None = None) -> Any:  # fmt: skip
    op.require(21, "dequantization by groups")
    zero = None if zero_points is None else _as(op, zero_points, op.dtype_of(x))
    scale = _as(op, scales, output or op.result())
    return op.DequantizeLinear(x, scale, zero, axis=1, block_size=group)


def _parameters(op: TorchBuilder, smallest: Value, greatest: Value, low: int, high: int,
                eps: float, symmetric: bool) -> tuple[Value, Value]:  # fmt: skip
    """Scale and zero point that map [smallest, greatest], and 0, onto [low, high]."""
    dtype = op.dtype_of(smallest)
    zero = op.constant(0, dtype)
    bottom, top = op.Min(smallest, zero), op.Max(greatest, zero)
    floor = op.constant(eps, dtype)
    if symmetric:
        reach = op.Max(op.Neg(bottom), top)
        scale = op.Max(op.Div(reach, op.constant((high - low) / 2, dtype)), floor)
        start: Value = op.Mul(op.cast(scale, dtypes.INT64), op.constant(0, dtypes.INT64))
        middle = 0 if low < 0 else (high + low + 1) // 2
        return scale, op.Add(start, op.constant(middle, dtypes.INT64))
    scale = op.Max(op.Div(op.Sub(top, bottom), op.constant(high - low, dtype)), floor)
    point = op.Sub(op.constant(low, dtype), op.Round(op.Div(bottom, scale)))
    limited = op.clip(op.typed(point, dtype, ()), low, high)
    return scale, op.cast(limited, dtypes.INT64)


def _register_choice(name: str, symmetric: bool) -> None:
    @translation(f"quantized_decomposed.{name}.tensor")
    def choose(op: TorchBuilder, x: Value, low: int, high: int, eps: float, _dtype: Any) -> Any:
        least = op.reduce("Min", x, [], False)
        most = op.reduce("Max", x, [], False)
        scale, zero = _parameters(op, least, most, low, high, eps, symmetric)
        one = op.ints([1])
        return (
            op.cast(op.typed(op.Reshape(scale, one), op.dtype_of(x), (1,)), op.result()),
            op.Reshape(zero, one),
        )


_register_choice("choose_qparams", False)
_register_choice("choose_qparams_symmetric", True)


def _fake(op: TorchBuilder, x: Value, scale: Value, zero: TorchValue, low: int, high: int,
          axis: int | None = None) -> Value:  # fmt: skip
    """Quantized and dequantized again."""
    dtype = _narrowest(op, low, high)
    point = _one(op, zero, dtype or dtypes.INT32)
    if axis is not None and isinstance(zero, Value):
        point = _as(op, zero, dtype or dtypes.INT32)
    if dtype is None:
        kind = op.dtype_of(x)
        whole = _computed(op, x, scale, point, low, high, kind, axis)
        shift = _along(op, _as(op, point, kind), x, axis)
        found: Value = op.Mul(op.Sub(whole, shift), _along(op, scale, x, axis))
        return found
    quantized = _quantized(op, x, scale, point, low, high, dtype, axis)
    restored: Value = op.DequantizeLinear(quantized, scale, point, axis=axis)
    return restored


def _narrowest(op: TorchBuilder, low: int, high: int) -> DType | None:
    """The type that holds exactly [low, high], or else the narrowest one that holds it."""
    usable = [each for each in _RANGES if op.opset >= 21 or each not in _NEEDS_21]
    for dtype in usable:
        if _RANGES[dtype] == (low, high):
            return dtype
    for dtype in usable:
        first, last = _RANGES[dtype]
        if first <= low and high <= last and dtype.itemsize == 1:
            return dtype
    return None


@translation("aten.fake_quantize_per_tensor_affine.default",
             "aten.fake_quantize_per_tensor_affine.tensor_qparams")  # fmt: skip
def fake_per_tensor(op: TorchBuilder, x: Value, scale: TorchValue, zero: TorchValue, low: int,
                    high: int) -> Any:  # fmt: skip
    dtype = op.dtype_of(x)
    return _fake(op, x, _one(op, scale, dtype), zero, low, high)


@translation("aten.fake_quantize_per_tensor_affine_cachemask.default")
def fake_per_tensor_with_mask(op: TorchBuilder, *args: Any) -> Any:
    return fake_per_tensor(op, *args), None


@translation("aten._fake_quantize_per_tensor_affine_cachemask_tensor_qparams.default")
def fake_per_tensor_switched(op: TorchBuilder, x: Value, scale: Value, zero: Value,
                             enabled: Value, low: int, high: int) -> Any:  # fmt: skip
    found = fake_per_tensor(op, x, scale, zero, low, high)
    switch = data_of(enabled)
    if switch is not None:
        return (found if bool(switch.reshape(-1)[0]) else x), None
    return op.Where(op.cast(enabled, dtypes.BOOL), found, x), None


@translation("aten.fake_quantize_per_channel_affine.default")
def fake_per_channel(op: TorchBuilder, x: Value, scale: Value, zero: Value, axis: int, low: int,
                     high: int) -> Any:  # fmt: skip
    return _fake(op, x, scale, zero, low, high, axis % op.rank_of(x))


@translation("aten.fake_quantize_per_channel_affine_cachemask.default")
def fake_per_channel_with_mask(op: TorchBuilder, *args: Any) -> Any:
    return fake_per_channel(op, *args), None


@translation("aten._int_mm.default")
def int_mm(op: TorchBuilder, a: Value, b: Value) -> Any:
    return op.MatMulInteger(a, b)


@translation("aten._weight_int8pack_mm.default")
def weight_int8pack_mm(op: TorchBuilder, x: Value, weight: Value, scales: Value) -> Any:
    dtype = op.result()
    turned = op.transpose(weight, [1, 0])
    product = op.MatMul(x, op.cast(turned, dtype))
    return op.Mul(product, op.cast(scales, dtype))
