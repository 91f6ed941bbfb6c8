"""Quantization. Gradients pass a pair of QuantizeLinear and DequantizeLinear straight through."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sardonyx import dtypes
from sardonyx.bridge.torch.convolution import conv
from sardonyx.bridge.torch.generation import LARGEST
from sardonyx.bridge.torch.products import integers
from sardonyx.bridge.torch.registry import implementation
from sardonyx.bridge.torch.tensors import dtype_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sardonyx.dtypes import DType


def _spread(parameter: Tensor, x: Tensor, axis: int, block: int) -> Tensor:
    """A scale or zero point so that it broadcasts against `x`."""
    if parameter.numel() == 1 and not (block and parameter.dim()):
        return parameter.reshape(())
    axis %= x.dim()
    if block:
        size = x.shape[axis]
        return parameter.repeat_interleave(block, axis).narrow(axis, 0, size)
    return parameter.reshape(-1, *(1,) * (x.dim() - axis - 1))


def _real(x: Tensor) -> Tensor:
    return x.double() if x.dtype == torch.int32 else x.float()


def _quantized(
    operator: Any, inputs: list[DType | None], outputs: list[DType | None]
) -> Mapping[str, Any]:
    target = outputs[0] or dtypes.UINT8
    keywords: dict[str, Any] = {"to": dtype_of(target)}
    for dtype in inputs:
        if dtype is not None:
            dtype_of(dtype)
    if target.is_packed:
        keywords["bits"] = target.bits
    if operator.version >= 13 and operator.axis != 1:
        keywords["axis"] = operator.axis
    for name in ("block_size", "precision"):
        if getattr(operator, name):
            keywords[name] = getattr(operator, name)
    if keywords.pop("precision", 0):
        keywords["precision"] = dtype_of(dtypes.from_code(operator.precision))
    if not operator.saturate:
        keywords["saturate"] = 0
    return keywords


@implementation("QuantizeLinear", attributes=_quantized)
def quantize_linear(
    x: Tensor,
    scale: Tensor,
    zero_point: Tensor | None = None,
    *,
    to: Any = torch.uint8,
    bits: int = 8,
    axis: int = 1,
    block_size: int = 0,
    precision: Any = None,
    saturate: int = 1,
) -> Tensor:
    narrow = scale.dtype if precision is None else precision
    divisor = _spread(_real(scale), x, axis, block_size)
    if narrow in {torch.float16, torch.bfloat16}:
        quotient = (x.to(narrow).float() / divisor.to(narrow).float()).to(narrow).float()
    else:
        quotient = _real(x) / divisor
    shift = None if zero_point is None else _spread(zero_point.float(), x, axis, block_size)
    return _saturated(quotient, shift, to, bits, saturate)


def _saturated(x: Tensor, shift: Tensor | None, to: Any, bits: int, saturate: int = 1) -> Tensor:
    if not to.is_floating_point:
        x = torch.round(x).nan_to_num(0.0, torch.inf, -torch.inf)
    if shift is not None:
        x = x + shift.to(x.dtype)
    if not to.is_floating_point:
        width = bits if to.itemsize == 1 else 8 * to.itemsize
        low = -(1 << (width - 1)) if to.is_signed else 0
        high = (1 << (width - to.is_signed)) - 1
        return x.clamp(low, high).to(torch.int32).to(to)
    if saturate:
        return x.clamp(-LARGEST[to], LARGEST[to]).float().to(to)
    if to != torch.float8_e5m2:
        x = torch.where(torch.isinf(x), torch.full_like(x, torch.nan), x)
    return x.float().to(to)


def _dequantized(
    operator: Any, inputs: list[DType | None], outputs: list[DType | None]
) -> Mapping[str, Any]:
    keywords: dict[str, Any] = {}
    for dtype in inputs:
        if dtype is not None:
            dtype_of(dtype)
    if outputs[0] is not None and outputs[0] is not inputs[1]:
        keywords["to"] = dtype_of(outputs[0])
    if operator.version >= 13 and operator.axis != 1:
        keywords["axis"] = operator.axis
    if operator.block_size:
        keywords["block_size"] = operator.block_size
    return keywords


@implementation("DequantizeLinear", attributes=_dequantized)
def dequantize_linear(
    x: Tensor,
    scale: Tensor,
    zero_point: Tensor | None = None,
    *,
    to: Any = None,
    axis: int = 1,
    block_size: int = 0,
) -> Tensor:
    values = x.float() if x.dtype.is_floating_point else x.long()
    if zero_point is not None:
        values = values - _spread(zero_point.to(values.dtype), x, axis, block_size)
    found = values.float() * _spread(_real(scale), x, axis, block_size)
    return found.to(scale.dtype if to is None else to)


def straight_through(x: Tensor, dequantized: Tensor, scale: Tensor, axis: int = 1) -> Tensor:
    """`dequantized`, with the gradient of `x` where it was rounded and not cut off."""
    step = _spread(scale.detach().float(), x, axis, 0) if scale.dim() <= 1 else scale.abs().max()
    inside = (x - dequantized).detach().abs() <= step
    change = torch.where(inside, x, torch.zeros_like(x))
    return dequantized.detach() + (change - change.detach()).to(dequantized.dtype)


@implementation("DynamicQuantizeLinear", several=True)
def dynamic_quantize_linear(x: Tensor) -> tuple[Tensor, ...]:
    zero = x.new_zeros(())
    low, high = torch.minimum(x.min(), zero), torch.maximum(x.max(), zero)
    scale = (high - low) / 255
    scale = torch.where(scale == 0, torch.ones_like(scale), scale)
    point = torch.round(-low / scale).clamp(0, 255)
    return (
        (torch.round(x / scale) + point).clamp(0, 255).to(torch.uint8),
        scale,
        point.to(torch.uint8),
    )


def _requantized(total: Tensor, factor: Tensor, zero: Tensor, bits: int = 8) -> Tensor:
    scaled = total.float() * factor
    return _saturated(scaled, zero.float(), zero.dtype, bits)


def _rows(parameter: Tensor) -> Tensor:
    if parameter.numel() == 1:
        return parameter.reshape(())
    return parameter.unsqueeze(1) if parameter.dim() == 1 else parameter


@implementation("QLinearMatMul")
def qlinear_matmul(
    a: Tensor,
    a_scale: Tensor,
    a_zero_point: Tensor,
    b: Tensor,
    b_scale: Tensor,
    b_zero_point: Tensor,
    y_scale: Tensor,
    y_zero_point: Tensor,
) -> Tensor:
    left = a.double() - _rows(a_zero_point).double()
    right = b.double() - _one(b_zero_point).double()
    total = torch.matmul(left, right)
    if not a.dtype.is_floating_point:
        total = total.long().to(torch.int32)
    left_scale, right_scale = _rows(a_scale).float(), _one(b_scale).float()
    if b.dim() == 1 and left_scale.dim():
        left_scale = left_scale[..., 0]
    if a.dim() == 1 and right_scale.dim() > 1:
        right_scale = right_scale[..., 0, :]
    factor = left_scale * right_scale / _one(y_scale).float()
    return _requantized(total, factor, _one(y_zero_point))


def _one(parameter: Tensor) -> Tensor:
    return parameter.reshape(()) if parameter.numel() == 1 else parameter


@implementation("QLinearConv", ignored=("kernel_shape",))
def qlinear_conv(
    x: Tensor,
    x_scale: Tensor,
    x_zero_point: Tensor,
    w: Tensor,
    w_scale: Tensor,
    w_zero_point: Tensor,
    y_scale: Tensor,
    y_zero_point: Tensor,
    bias: Tensor | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Sequence[int] | None = None,
    group: int = 1,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Tensor:
    wide, filters = integers(x, x_zero_point, 1), integers(w, w_zero_point, 0)
    total = conv(
        wide,
        filters,
        auto_pad=auto_pad,
        dilations=dilations,
        group=group,
        pads=pads,
        strides=strides,
    )
    total = total.round()
    if bias is not None:
        total = total + bias.reshape(-1, *(1,) * (total.dim() - 2))
    scale = w_scale.reshape(-1, *(1,) * (w.dim() - 2)) if w_scale.numel() > 1 else _one(w_scale)
    factor = _one(x_scale) * scale / _one(y_scale)
    return _requantized(total.long().to(torch.int32), factor, _one(y_zero_point))
