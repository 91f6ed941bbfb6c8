"""Operators that pick and place elements by index."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor

from sardonyx.bridge.torch.registry import implementation
from sardonyx.bridge.torch.sizes import integer
from sardonyx.errors import UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Callable


_SIGNED: Final = {
    torch.uint16: torch.int16,
    torch.uint32: torch.int32,
    torch.uint64: torch.int64,
    torch.float8_e4m3fn: torch.int8,
    torch.float8_e4m3fnuz: torch.int8,
    torch.float8_e5m2: torch.int8,
    torch.float8_e5m2fnuz: torch.int8,
    torch.float8_e8m0fnu: torch.int8,
}


def _moved(data: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
    """`function`, which only moves elements, of types too that PyTorch does not move."""
    carrier = _SIGNED.get(data.dtype)
    return function(data) if carrier is None else function(data.view(carrier)).view(data.dtype)


def front(indices: Tensor, size: Any) -> Tensor:
    """`indices` as INT64 counted from the front."""
    places = indices.long()
    return torch.where(places < 0, places + size, places)


@implementation("Gather", host=("indices",))
def gather(data: Tensor, indices: Any, *, axis: int = 0) -> Tensor:
    if isinstance(indices, tuple):
        indices = torch.tensor(indices, dtype=torch.int64, device=data.device)
    elif not isinstance(indices, Tensor):
        return data.select(axis, indices)
    place = axis % data.dim()
    return _moved(data, lambda x: x[(slice(None),) * place + (indices.long(),)])


@implementation("GatherElements")
def gather_elements(data: Tensor, indices: Tensor, *, axis: int = 0) -> Tensor:
    places = front(indices, data.shape[axis])
    return _moved(data, lambda x: torch.gather(x, axis, places))


def _key(data: Tensor, indices: Tensor, lead: int) -> tuple[Tensor, ...]:
    depth = indices.shape[-1]
    columns = [front(indices[..., k], data.shape[lead + k]) for k in range(depth)]
    grid = []
    for axis in range(lead):
        shape = [1] * (indices.dim() - 1)
        shape[axis] = data.shape[axis]
        grid.append(torch.arange(data.shape[axis], device=data.device).reshape(shape))
    return (*grid, *columns)


@implementation("GatherND")
def gather_nd(data: Tensor, indices: Tensor, *, batch_dims: int = 0) -> Tensor:
    key = _key(data, indices, batch_dims)
    return data[key] if key else data.expand((*indices.shape[:-1], *data.shape))


_REDUCTIONS: Final = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}


@implementation("ScatterElements", "Scatter")
def scatter_elements(
    data: Tensor, indices: Tensor, updates: Tensor, *, axis: int = 0, reduction: str = "none"
) -> Tensor:
    places = front(indices, data.shape[axis])
    if reduction == "none":
        return torch.scatter(data, axis, places, updates)
    return torch.scatter_reduce(data, axis, places, updates, _REDUCTIONS[reduction])


@implementation("ScatterND")
def scatter_nd(
    data: Tensor, indices: Tensor, updates: Tensor, *, reduction: str = "none"
) -> Tensor:
    key = _key(data, indices, 0)
    if reduction in {"none", "add"}:
        return torch.index_put(data, key, updates, accumulate=reduction == "add")
    depth = indices.shape[-1]
    lead, rest = data.shape[:depth], data.shape[depth:]
    flat = torch.zeros(indices.shape[:-1], dtype=torch.int64, device=data.device)
    for size, column in zip(lead, key, strict=True):
        flat = flat * size + column
    rows = data.reshape(math.prod(lead), math.prod(rest))
    given = updates.reshape(-1, rows.shape[1])
    places = flat.reshape(-1, 1).expand(given.shape)
    found = torch.scatter_reduce(rows, 0, places, given, _REDUCTIONS[reduction])
    return found.reshape(data.shape)


@implementation("TensorScatter")
def tensor_scatter(
    past: Tensor,
    update: Tensor,
    write_indices: Tensor | None = None,
    *,
    axis: int = -2,
    mode: str = "linear",
) -> Tensor:
    place = axis % past.dim()
    length, count = past.shape[place], update.shape[place]
    starts = (
        torch.zeros(past.shape[0], dtype=torch.int64, device=past.device)
        if write_indices is None
        else write_indices.long()
    )
    targets = starts.unsqueeze(1) + torch.arange(count, device=past.device)
    if mode == "circular":
        targets = targets % length
    elif mode != "linear":
        raise UnsupportedError(f"TensorScatter has no mode {mode!r}")
    shape = [1] * past.dim()
    shape[0], shape[place] = past.shape[0], count
    return torch.scatter(past, place, targets.reshape(shape).expand(update.shape), update)


@implementation("OneHot", host=("depth",))
def one_hot(indices: Tensor, depth: Any, values: Tensor, *, axis: int = -1) -> Tensor:
    count = int(integer(depth))
    places = indices.long()
    places = torch.where(places < 0, places + count, places)
    place = axis % (indices.dim() + 1)
    steps = torch.arange(count, device=indices.device)
    shape = [1] * (indices.dim() + 1)
    shape[place] = count
    chosen = places.unsqueeze(place) == steps.reshape(shape)
    return torch.where(chosen, values[1], values[0])


@implementation("Compress")
def compress(data: Tensor, condition: Tensor, *, axis: int | None = None) -> Tensor:
    if axis is None:
        data, axis = data.reshape(-1), 0
    return data.index_select(axis, condition.reshape(-1).nonzero().reshape(-1))


@implementation("NonZero")
def nonzero(x: Tensor) -> Tensor:
    if x.dim() == 0:
        return torch.zeros((0, int(bool(x))), dtype=torch.int64, device=x.device)
    return x.nonzero().t()


@implementation("ReverseSequence")
def reverse_sequence(
    x: Tensor, lengths: Tensor, *, batch_axis: int = 1, time_axis: int = 0
) -> Tensor:
    steps = torch.arange(x.shape[time_axis], device=x.device)
    ends = lengths.long().unsqueeze(1)
    places = torch.where(steps < ends, ends - 1 - steps, steps)
    if batch_axis > time_axis:
        places = places.t()
    rest = (1,) * (x.dim() - 2)
    return torch.gather(x, time_axis, places.reshape((*places.shape, *rest)).expand(x.shape))
