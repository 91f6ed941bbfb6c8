"""Arithmetic, element by element."""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING, Any, Final, TypeVar

import torch
from torch import Tensor

from sardonyx.bridge.torch.registry import implementation
from sardonyx.bridge.torch.tensors import narrow, wide, widened

if TYPE_CHECKING:
    from collections.abc import Callable

_F = TypeVar("_F", bound="Callable[..., Any]")
_IGNORED: Final = ("consumed_inputs",)


def _unary(*names: str) -> Callable[[_F], _F]:
    return implementation(*names, ignored=_IGNORED)


def aligned(a: Tensor, b: Tensor, axis: int | None, version: int) -> Tensor:
    """`b` as it broadcasts to `a`; before opset 7 its dimensions lie from `axis` on."""
    if version >= 7 or axis is None or b.numel() == 1:
        return b.reshape(()) if version < 7 and b.numel() == 1 else b
    start = axis % max(a.dim(), 1)
    return b.reshape(tuple(b.shape) + (1,) * (a.dim() - start - b.dim()))


def _apply(function: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
    """`function`, which does not know unsigned integers."""
    dtype = tensors[0].dtype
    if dtype in {torch.uint16, torch.uint32, torch.uint64}:
        return function(*widened(*tensors)).to(dtype)
    return function(*tensors)


@implementation("Add", ignored=("consumed_inputs", "broadcast"))
def add(a: Tensor, b: Tensor, *, axis: int | None = None, version: int = 14) -> Tensor:
    return _apply(torch.add, a, aligned(a, b, axis, version))


@implementation("Sub", ignored=("consumed_inputs", "broadcast"))
def sub(a: Tensor, b: Tensor, *, axis: int | None = None, version: int = 14) -> Tensor:
    return _apply(torch.sub, a, aligned(a, b, axis, version))


@implementation("Mul", ignored=("consumed_inputs", "broadcast"))
def mul(a: Tensor, b: Tensor, *, axis: int | None = None, version: int = 14) -> Tensor:
    return _apply(torch.mul, a, aligned(a, b, axis, version))


@implementation("Div", ignored=("consumed_inputs", "broadcast"))
def div(a: Tensor, b: Tensor, *, axis: int | None = None, version: int = 14) -> Tensor:
    b = aligned(a, b, axis, version)
    return a / b if a.dtype.is_floating_point else _apply(_truncated, a, b)


def _truncated(a: Tensor, b: Tensor) -> Tensor:
    """The quotient truncated towards zero; by zero it is 0."""
    is_zero = b == 0
    quotient = torch.div(a, torch.where(is_zero, torch.ones_like(b), b), rounding_mode="trunc")
    return torch.where(is_zero, torch.zeros_like(quotient), quotient)


@implementation("Mod")
def mod(a: Tensor, b: Tensor, *, fmod: int = 0) -> Tensor:
    function = torch.fmod if fmod else torch.remainder
    if a.dtype.is_floating_point:
        return function(a, b)
    return _apply(lambda x, y: _remainder(function, x, y), a, b)


def _remainder(function: Callable[..., Tensor], a: Tensor, b: Tensor) -> Tensor:
    is_zero = b == 0
    rest = function(a, torch.where(is_zero, torch.ones_like(b), b))
    return torch.where(is_zero, torch.zeros_like(rest), rest)


@implementation("Pow", ignored=("broadcast",))
def power(a: Tensor, b: Tensor, *, axis: int | None = None, version: int = 15) -> Tensor:
    b = aligned(a, b, axis, version)
    if a.dtype.is_floating_point:
        return torch.pow(a, *widened(b)).to(a.dtype)
    if b.dtype.is_floating_point:
        return torch.pow(a.double(), b.double()).to(a.dtype)
    (exponent,) = widened(b)
    positive = torch.pow(a, exponent.clamp(min=0).to(a.dtype))
    sign = torch.where(exponent % 2 == 1, a, torch.ones_like(a))
    inverse = torch.where(a.abs() == 1, sign, torch.zeros_like(sign))
    return torch.where(exponent < 0, inverse, positive)


@implementation("Max", ignored=_IGNORED)
def maximum(*values: Tensor) -> Tensor:
    return reduce(lambda a, b: _compared(torch.maximum, a, b), values)


@implementation("Min", ignored=_IGNORED)
def minimum(*values: Tensor) -> Tensor:
    return reduce(lambda a, b: _compared(torch.minimum, a, b), values)


LEAST: Final = -(1 << 63)


def ordered(x: Tensor) -> Tensor:
    """Unsigned integers as signed ones of the same order."""
    if x.dtype == torch.uint64:
        return x.view(torch.int64) ^ LEAST
    return widened(x)[0]


def _compared(function: Callable[..., Tensor], a: Tensor, b: Tensor) -> Tensor:
    if a.dtype == torch.uint64:
        return (function(ordered(a), ordered(b)) ^ LEAST).view(torch.uint64)
    return _apply(function, a, b)


@implementation("Sum", ignored=_IGNORED)
def total(*values: Tensor) -> Tensor:
    return reduce(torch.add, values)


@implementation("Mean", ignored=_IGNORED)
def mean(*values: Tensor) -> Tensor:
    return reduce(torch.add, values) / len(values)


@implementation("Clip", host=("low", "high"), ignored=_IGNORED)
def clip(x: Tensor, low: Any = None, high: Any = None) -> Tensor:
    dtype = x.dtype
    if dtype == torch.uint64:
        bounds = [
            bound
            if bound is None or isinstance(bound, Tensor)
            else torch.tensor(bound, dtype=dtype)
            for bound in (low, high)
        ]
        if bounds[0] is not None:
            x = _compared(torch.maximum, x, bounds[0].reshape(()))
        return x if bounds[1] is None else _compared(torch.minimum, x, bounds[1].reshape(()))
    (x,) = widened(x)
    if low is not None:
        x = torch.clamp(x, min=_bound(low, x))
    if high is not None:
        x = torch.clamp(x, max=_bound(high, x))
    return narrow(x, dtype)


def _bound(value: Any, x: Tensor) -> Any:
    if isinstance(value, Tensor):
        return value.reshape(()).to(x.dtype)
    return value[0] if isinstance(value, tuple) else value


@_unary("Abs")
def absolute(x: Tensor) -> Tensor:
    return x if x.dtype in {torch.uint16, torch.uint32, torch.uint64} else torch.abs(x)


@_unary("Neg")
def neg(x: Tensor) -> Tensor:
    return torch.neg(x)


@_unary("Sign")
def sign(x: Tensor) -> Tensor:
    if x.dtype.is_floating_point:
        return torch.where(torch.isnan(x), x, torch.sign(x))
    return (
        torch.sign(widened(x)[0]).to(x.dtype) if x.dtype != torch.uint64 else (x != 0).to(x.dtype)
    )


@_unary("Sqrt")
def sqrt(x: Tensor) -> Tensor:
    return torch.sqrt(x)


@_unary("Reciprocal")
def reciprocal(x: Tensor) -> Tensor:
    return torch.reciprocal(x)


@_unary("Floor")
def floor(x: Tensor) -> Tensor:
    return torch.floor(x)


@_unary("Ceil")
def ceil(x: Tensor) -> Tensor:
    return torch.ceil(x)


@_unary("Round")
def rounded(x: Tensor) -> Tensor:
    return torch.round(x)


@_unary("Exp")
def exp(x: Tensor) -> Tensor:
    return torch.exp(x)


@_unary("Log")
def log(x: Tensor) -> Tensor:
    return torch.log(x)


@_unary("Erf")
def erf(x: Tensor) -> Tensor:
    return torch.erf(x if x.dtype.is_floating_point else x.double()).to(x.dtype)


@_unary("Tanh")
def tanh(x: Tensor) -> Tensor:
    return torch.tanh(x)


@_unary("Sin")
def sin(x: Tensor) -> Tensor:
    return torch.sin(x)


@_unary("Cos")
def cos(x: Tensor) -> Tensor:
    return torch.cos(x)


@_unary("Tan")
def tan(x: Tensor) -> Tensor:
    return torch.tan(x)


@_unary("Asin")
def asin(x: Tensor) -> Tensor:
    return torch.asin(x)


@_unary("Acos")
def acos(x: Tensor) -> Tensor:
    return torch.acos(x)


@_unary("Atan")
def atan(x: Tensor) -> Tensor:
    return torch.atan(x)


@_unary("Sinh")
def sinh(x: Tensor) -> Tensor:
    return torch.sinh(x)


@_unary("Cosh")
def cosh(x: Tensor) -> Tensor:
    return torch.cosh(x)


@_unary("Asinh")
def asinh(x: Tensor) -> Tensor:
    return torch.asinh(x)


@_unary("Acosh")
def acosh(x: Tensor) -> Tensor:
    return torch.acosh(x)


@_unary("Atanh")
def atanh(x: Tensor) -> Tensor:
    return torch.atanh(x)


@implementation("Det")
def det(x: Tensor) -> Tensor:
    return torch.linalg.det(wide(x)).to(x.dtype)
