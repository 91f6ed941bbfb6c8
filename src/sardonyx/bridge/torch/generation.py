"""Operators that make data from sizes, and conversions of element types."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor

from sardonyx import dtypes
from sardonyx.bridge.torch.registry import implementation
from sardonyx.bridge.torch.sizes import integer, ints
from sardonyx.bridge.torch.tensors import dtype_of, scalar
from sardonyx.errors import UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sardonyx.dtypes import DType


def _filling(operator: Any, _inputs: Any, _outputs: Any) -> Mapping[str, Any]:
    if operator.value is None:
        return {}
    return {
        "value": scalar(operator.value.numpy()),
        "dtype": dtype_of(operator.value.dtype),
    }


@implementation("ConstantOfShape", host=("shape",), attributes=_filling)
def constant_of_shape(
    shape: Any, *, value: Any = 0.0, dtype: Any = torch.float32, device: Any = None
) -> Tensor:
    return torch.full(ints(shape), value, dtype=dtype, device=device)


@implementation("Range", host=("start", "limit", "delta"), ignored=("stash_type",))
def arange(start: Any, limit: Any, delta: Any, *, dtype: Any = None, device: Any = None) -> Tensor:
    for part in (start, limit, delta):
        if isinstance(part, Tensor):
            dtype, device = part.dtype, part.device
    first, last, step = integer(start), integer(limit), integer(delta)
    if dtype is None or not dtype.is_floating_point:
        return torch.arange(first, last, step, dtype=dtype, device=device)
    count = torch.arange(first, last, step, dtype=torch.float64, device=device).shape[0]
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    return (first + torch.arange(count, dtype=wide, device=device) * step).to(dtype)


def _type(operator: Any, _inputs: Any, outputs: list[DType | None]) -> Mapping[str, Any]:
    return {"k": operator.k, "dtype": None if outputs[0] is None else dtype_of(outputs[0])}


@implementation("EyeLike", attributes=_type)
def eye_like(x: Tensor, *, k: int = 0, dtype: Any = None) -> Tensor:
    rows, columns = x.shape
    row = torch.arange(rows, device=x.device).unsqueeze(1)
    column = torch.arange(columns, device=x.device)
    return (column - row == k).to(x.dtype if dtype is None else dtype)


LARGEST: Final = {
    torch.float8_e4m3fn: 448.0,
    torch.float8_e4m3fnuz: 240.0,
    torch.float8_e5m2: 57344.0,
    torch.float8_e5m2fnuz: 57344.0,
}


def _conversion(
    operator: Any, inputs: list[DType | None], outputs: list[DType | None]
) -> Mapping[str, Any]:
    target = outputs[0]
    if target is None:
        raise UnsupportedError(f"{operator.op_type} to a type that is not known")
    for dtype in (target, inputs[0]):
        if dtype is not None:
            dtype_of(dtype)
    keywords: dict[str, Any] = {"to": dtype_of(target)}
    if not operator.saturate:
        keywords["saturate"] = 0
    if target is dtypes.FLOAT8E8M0:
        keywords["round_mode"] = operator.round_mode
    if target.is_packed:
        keywords["bits"] = target.bits
    return keywords


@implementation("Cast", "CastLike", attributes=_conversion)
def cast(
    x: Tensor,
    like: Tensor | None = None,
    *,
    to: Any,
    saturate: int = 1,
    round_mode: str = "up",
    bits: int = 8,
) -> Tensor:
    if x.dtype == to and bits == 8:
        return x
    if to in LARGEST:
        return _to_float8(x, to, saturate)
    if to == torch.float8_e8m0fnu:
        return _to_exponent(x, saturate, round_mode)
    if x.dtype.itemsize == 1 and x.dtype.is_floating_point:
        x = x.float()
    if x.dtype.is_floating_point and not to.is_floating_point and to != torch.bool:
        x = _truncated(x, to, bits)
    elif bits < 8 and not x.dtype.is_floating_point:
        x = x.to(torch.int64)
    if bits < 8:
        low = x.to(torch.int64) & ((1 << bits) - 1)
        sign = 1 << (bits - 1)
        x = (low ^ sign) - sign if to == torch.int8 else low
    if x.dtype == torch.uint64 and to.is_floating_point:
        return _from_uint64(x).to(to)
    return x.to(to)


def _from_uint64(x: Tensor) -> Tensor:
    bits = x.view(torch.int64)
    upper = ((bits >> 32) & 0xFFFFFFFF).double() * 2.0**32
    return upper + (bits & 0xFFFFFFFF).double()


def _truncated(x: Tensor, to: Any, bits: int) -> Tensor:
    """Truncated towards zero, saturating, NaN 0; types of few bits through 8 bits."""
    is_nan = torch.isnan(x)
    whole = torch.where(is_nan, torch.zeros_like(x), x).double().trunc()
    if bits < 8 and to == torch.uint8:
        return torch.where(whole < 0, whole.clamp(-128, 0), whole.clamp(0, 255)).to(torch.int64)
    if to == torch.uint64:
        half = 2.0**63
        is_large = whole >= half
        low = torch.where(is_large, whole - half, whole).clamp(0, half - 1024).to(torch.int64)
        high = torch.full_like(low, -(1 << 63))
        found = torch.where(is_large, low | high, low)
        return torch.where(whole >= 2.0**64, torch.full_like(low, -1), found).view(torch.uint64)
    limits = torch.iinfo(to)
    if to == torch.int64:
        found = whole.clamp(-(2.0**63), 2.0**63 - 1024).to(torch.int64)
        return torch.where(whole >= 2.0**63, torch.full_like(found, limits.max), found)
    return whole.clamp(limits.min, limits.max).to(torch.int64)


def _to_float8(x: Tensor, to: Any, saturate: int) -> Tensor:
    if x.dtype.itemsize == 1 and x.dtype.is_floating_point:
        x = x.float()
    x = x.double() if not x.dtype.is_floating_point else x
    if saturate:
        most = LARGEST[to]
        return x.clamp(-most, most).float().to(to)
    found = x.float().to(to)
    if to == torch.float8_e5m2:
        return found
    # half of a step past the greatest number rounds to it; there is no infinity
    step = {torch.float8_e4m3fn: 32.0, torch.float8_e4m3fnuz: 16.0}.get(to, 8192.0)
    beyond = x.abs() > LARGEST[to] + step / 2
    return torch.where(beyond, torch.full_like(x, torch.nan).float(), found.float()).to(to)


def _to_exponent(x: Tensor, saturate: int, round_mode: str) -> Tensor:
    """Powers of two from 2**-127 to 2**127; negative numbers have none and are NaN."""
    if x.dtype.itemsize == 1 and x.dtype.is_floating_point:
        x = x.float()
    wide = x.double()
    is_finite = torch.isfinite(wide)
    mantissa, exponent = torch.frexp(torch.where(is_finite, wide, torch.ones_like(wide)))
    power = exponent.to(torch.int64) - 1
    if round_mode == "up":
        power = power + (mantissa > 0.5)
    elif round_mode == "nearest":
        power = power + (mantissa >= 0.75)
    power = torch.where(wide == 0, torch.full_like(power, -128), power)
    power = torch.where(torch.isinf(wide), torch.full_like(power, 128), power)
    is_nan = torch.isnan(wide) | (wide < 0)
    if saturate:
        power = power.clamp(-127, 127)
    else:
        is_nan = is_nan | (power.abs() > 127)
    code = torch.where(is_nan, torch.full_like(power, 255), power + 127)
    return code.to(torch.uint8).view(torch.float8_e8m0fnu)


def _bits(operator: Any, _inputs: Any, _outputs: Any) -> Mapping[str, Any]:
    target = dtypes.from_code(operator.to)
    if target.is_packed:
        raise UnsupportedError(f"PyTorch has no bits of {target}")
    return {"to": dtype_of(target)}


@implementation("BitCast", attributes=_bits)
def bit_cast(x: Tensor, *, to: Any) -> Tensor:
    if to == torch.bool:
        return x.view(torch.uint8) != 0
    if x.dtype == torch.bool:
        x = x.to(torch.uint8)
    return x.view(to)
