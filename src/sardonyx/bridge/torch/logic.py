"""Comparisons, boolean logic, selection and bits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor

from sardonyx.bridge.torch.arithmetic import aligned, ordered
from sardonyx.bridge.torch.registry import implementation
from sardonyx.bridge.torch.tensors import wide, widened

if TYPE_CHECKING:
    from collections.abc import Callable

_IGNORED: Final = ("consumed_inputs", "broadcast")


@implementation("Equal", ignored=_IGNORED)
def equal(a: Tensor, b: Tensor, *, axis: int | None = None, version: int = 19) -> Tensor:
    return torch.eq(ordered(a), ordered(aligned(a, b, axis, version)))


@implementation("Greater", ignored=_IGNORED)
def greater(a: Tensor, b: Tensor, *, axis: int | None = None, version: int = 13) -> Tensor:
    return torch.gt(ordered(a), ordered(aligned(a, b, axis, version)))


@implementation("Less", ignored=_IGNORED)
def less(a: Tensor, b: Tensor, *, axis: int | None = None, version: int = 13) -> Tensor:
    return torch.lt(ordered(a), ordered(aligned(a, b, axis, version)))


@implementation("GreaterOrEqual", ignored=("axis", *_IGNORED))
def greater_or_equal(a: Tensor, b: Tensor) -> Tensor:
    return torch.ge(ordered(a), ordered(b))


@implementation("LessOrEqual", ignored=("axis", *_IGNORED))
def less_or_equal(a: Tensor, b: Tensor) -> Tensor:
    return torch.le(ordered(a), ordered(b))


@implementation("And", ignored=_IGNORED)
def logical_and(a: Tensor, b: Tensor, *, axis: int | None = None, version: int = 7) -> Tensor:
    return torch.logical_and(a, aligned(a, b, axis, version))


@implementation("Or", ignored=_IGNORED)
def logical_or(a: Tensor, b: Tensor, *, axis: int | None = None, version: int = 7) -> Tensor:
    return torch.logical_or(a, aligned(a, b, axis, version))


@implementation("Xor", ignored=_IGNORED)
def logical_xor(a: Tensor, b: Tensor, *, axis: int | None = None, version: int = 7) -> Tensor:
    return torch.logical_xor(a, aligned(a, b, axis, version))


@implementation("Not")
def logical_not(x: Tensor) -> Tensor:
    return torch.logical_not(x)


@implementation("Where")
def where(condition: Tensor, x: Tensor, y: Tensor) -> Tensor:
    return torch.where(condition, x, y)


@implementation("IsNaN")
def is_nan(x: Tensor) -> Tensor:
    return torch.isnan(wide(x))


@implementation("IsInf")
def is_inf(x: Tensor, *, detect_negative: int = 1, detect_positive: int = 1) -> Tensor:
    x = wide(x)
    if detect_negative and detect_positive:
        return torch.isinf(x)
    if detect_negative:
        return torch.isneginf(x)
    return torch.isposinf(x) if detect_positive else torch.zeros_like(x, dtype=torch.bool)


def _bits(function: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
    return function(*widened(*tensors)).to(tensors[0].dtype)


@implementation("BitwiseAnd", ignored=("axis", *_IGNORED))
def bitwise_and(a: Tensor, b: Tensor) -> Tensor:
    return _bits(torch.bitwise_and, a, b)


@implementation("BitwiseOr", ignored=("axis", *_IGNORED))
def bitwise_or(a: Tensor, b: Tensor) -> Tensor:
    return _bits(torch.bitwise_or, a, b)


@implementation("BitwiseXor", ignored=("axis", *_IGNORED))
def bitwise_xor(a: Tensor, b: Tensor) -> Tensor:
    return _bits(torch.bitwise_xor, a, b)


@implementation("BitwiseNot")
def bitwise_not(x: Tensor) -> Tensor:
    return _bits(torch.bitwise_not, x)


@implementation("BitShift", ignored=("axis", *_IGNORED))
def bit_shift(x: Tensor, y: Tensor, *, direction: str) -> Tensor:
    """Shifts by less than 0 or by the width or more give 0, or -1 where the sign goes on."""
    dtype, width = x.dtype, x.dtype.itemsize * 8
    is_wide = dtype == torch.uint64
    if is_wide:
        x, y = x.view(torch.int64), y.view(torch.int64)
    x, y = widened(x, y)
    inside = (y >= 0) & (y < width)
    by = torch.where(inside, y, torch.zeros_like(y))
    if direction == "LEFT":
        found = torch.bitwise_left_shift(x, by)
        outside = torch.zeros_like(found)
    else:
        found = torch.bitwise_right_shift(x, by)
        if is_wide:
            # the sign is no sign: it is shifted by 1 as a bit first
            logical = (x >> 1) & ((1 << 63) - 1)
            found = torch.where(by == 0, x, logical >> (by - 1).clamp(min=0))
        outside = torch.where(x < 0, -torch.ones_like(found), torch.zeros_like(found))
        outside = torch.zeros_like(found) if is_wide else outside
    result = torch.where(inside, found, outside)
    return result.view(dtype) if is_wide else result.to(dtype)
