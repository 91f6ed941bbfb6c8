"""Reductions, and cumulative sums and products."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sardonyx.bridge.torch.arithmetic import LEAST, ordered
from sardonyx.bridge.torch.registry import implementation
from sardonyx.bridge.torch.sizes import integer, ints
from sardonyx.bridge.torch.tensors import narrow, widened

if TYPE_CHECKING:
    from collections.abc import Callable


def _axes(x: Tensor, axes: Any, noop: int) -> tuple[int, ...]:
    given = () if axes is None else ints(axes)
    if given or noop:
        return tuple([axis % max(x.dim(), 1) for axis in given]) if x.dim() else ()
    return tuple(range(x.dim()))


def _reduce(
    function: Callable[..., Tensor], x: Tensor, axes: Any, keepdims: int, noop: int
) -> Tensor:
    """`function` of `x`, the axes and keepdim; integers that it lacks are computed as wider."""
    dtype = x.dtype
    (x,) = widened(x)
    places = _axes(x, axes, noop)
    if not places:
        # a sum over no dimension is one over a new one of size 1
        return narrow(function(x.unsqueeze(0), (0,), False), dtype)
    return narrow(function(x, places, bool(keepdims)), dtype)


def _sum(x: Tensor, places: Any, keep: bool) -> Tensor:
    return torch.sum(x, places, keepdim=keep, dtype=x.dtype)


@implementation("ReduceSum", host=("axes",))
def reduce_sum(
    x: Tensor, axes: Any = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0
) -> Tensor:
    return _reduce(_sum, x, axes, keepdims, noop_with_empty_axes)


@implementation("ReduceMean", host=("axes",))
def reduce_mean(
    x: Tensor, axes: Any = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0
) -> Tensor:
    def function(x: Tensor, places: Any, keep: bool) -> Tensor:
        if x.dtype.is_floating_point:
            return torch.mean(x, places, keepdim=keep)
        count = math.prod(x.shape[place] for place in places)
        return torch.div(torch.sum(x, places, keepdim=keep), count, rounding_mode="trunc")

    return _reduce(function, x, axes, keepdims, noop_with_empty_axes)


@implementation("ReduceSumSquare", host=("axes",))
def reduce_sum_square(
    x: Tensor, axes: Any = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0
) -> Tensor:
    return _reduce(lambda x, *rest: _sum(x * x, *rest), x, axes, keepdims, noop_with_empty_axes)


@implementation("ReduceL1", host=("axes",))
def reduce_l1(
    x: Tensor, axes: Any = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0
) -> Tensor:
    return _reduce(lambda x, *rest: _sum(x.abs(), *rest), x, axes, keepdims, noop_with_empty_axes)


def _as_real(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def apply(x: Tensor, places: Any, keep: bool) -> Tensor:
        return function(x if x.dtype.is_floating_point else x.double(), places, keep)

    return apply


@implementation("ReduceL2", host=("axes",))
def reduce_l2(
    x: Tensor, axes: Any = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0
) -> Tensor:
    function = _as_real(lambda x, *rest: torch.sqrt(_sum(x * x, *rest)))
    return _reduce(function, x, axes, keepdims, noop_with_empty_axes)


@implementation("ReduceLogSum", host=("axes",))
def reduce_log_sum(
    x: Tensor, axes: Any = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0
) -> Tensor:
    function = _as_real(lambda x, *rest: torch.log(_sum(x, *rest)))
    return _reduce(function, x, axes, keepdims, noop_with_empty_axes)


@implementation("ReduceLogSumExp", host=("axes",))
def reduce_log_sum_exp(
    x: Tensor, axes: Any = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0
) -> Tensor:
    function = _as_real(lambda x, places, keep: torch.logsumexp(x, places, keepdim=keep))
    return _reduce(function, x, axes, keepdims, noop_with_empty_axes)


def _empty(x: Tensor, places: Any) -> bool:
    return any(x.shape[place] == 0 for place in places)


def _extreme(x: Tensor, places: Any, keep: bool, sign: int) -> Tensor:
    if _empty(x, places):
        shape = [
            1 if axis in places else size
            for axis, size in enumerate(x.shape)
            if keep or axis not in places
        ]
        if x.dtype == torch.bool:
            return torch.full(shape, sign < 0, dtype=x.dtype, device=x.device)
        info = torch.finfo(x.dtype) if x.dtype.is_floating_point else torch.iinfo(x.dtype)
        fill = -sign * math.inf if x.dtype.is_floating_point else info.min if sign > 0 else info.max
        return torch.full(shape, fill, dtype=x.dtype, device=x.device)
    return torch.amax(x, places, keepdim=keep) if sign > 0 else torch.amin(x, places, keepdim=keep)


def _ranked(x: Tensor, axes: Any, keepdims: int, noop: int, sign: int) -> Tensor:
    def function(x: Tensor, places: Any, keep: bool) -> Tensor:
        return _extreme(x, places, keep, sign)

    if x.dtype == torch.uint64:
        found = _reduce(function, ordered(x), axes, keepdims, noop)
        return (found ^ LEAST).view(torch.uint64)
    return _reduce(function, x, axes, keepdims, noop)


@implementation("ReduceMax", host=("axes",))
def reduce_max(
    x: Tensor, axes: Any = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0
) -> Tensor:
    return _ranked(x, axes, keepdims, noop_with_empty_axes, 1)


@implementation("ReduceMin", host=("axes",))
def reduce_min(
    x: Tensor, axes: Any = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0
) -> Tensor:
    return _ranked(x, axes, keepdims, noop_with_empty_axes, -1)


@implementation("ReduceProd", host=("axes",))
def reduce_prod(
    x: Tensor, axes: Any = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0
) -> Tensor:
    def function(x: Tensor, places: Any, keep: bool) -> Tensor:
        for place in sorted(places, reverse=True):
            x = torch.prod(x, place, keepdim=keep, dtype=x.dtype)
        return x

    return _reduce(function, x, axes, keepdims, noop_with_empty_axes)


def _position(x: Tensor, axis: int, keepdims: int, last: int, sign: int) -> Tensor:
    values = ordered(x)
    if values.dtype == torch.bool:
        values = values.to(torch.int32)
    function = torch.argmax if sign > 0 else torch.argmin
    if not last:
        return function(values, axis, keepdim=bool(keepdims))
    found = function(values.flip(axis), axis, keepdim=bool(keepdims))
    return x.shape[axis] - 1 - found


@implementation("ArgMax")
def argmax(x: Tensor, *, axis: int = 0, keepdims: int = 1, select_last_index: int = 0) -> Tensor:
    return _position(x, axis, keepdims, select_last_index, 1)


@implementation("ArgMin")
def argmin(x: Tensor, *, axis: int = 0, keepdims: int = 1, select_last_index: int = 0) -> Tensor:
    return _position(x, axis, keepdims, select_last_index, -1)


def _cumulated(
    function: Callable[..., Tensor], x: Tensor, axis: int, exclusive: int, reverse: int, first: int
) -> Tensor:
    dtype = x.dtype
    (x,) = widened(x)
    if reverse:
        x = x.flip(axis)
    if exclusive:
        shape = list(x.shape)
        shape[axis] = 1
        start = torch.full(shape, first, dtype=x.dtype, device=x.device)
        x = torch.cat([start, x.narrow(axis, 0, x.shape[axis] - 1)], axis)
    x = function(x, axis, dtype=x.dtype)
    return narrow(x.flip(axis) if reverse else x, dtype)


@implementation("CumSum", host=("axis",))
def cumsum(x: Tensor, axis: Any, *, exclusive: int = 0, reverse: int = 0) -> Tensor:
    return _cumulated(torch.cumsum, x, int(integer(axis)), exclusive, reverse, 0)


@implementation("CumProd", host=("axis",))
def cumprod(x: Tensor, axis: Any, *, exclusive: int = 0, reverse: int = 0) -> Tensor:
    return _cumulated(torch.cumprod, x, int(integer(axis)), exclusive, reverse, 1)
