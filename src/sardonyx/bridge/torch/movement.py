"""Operators that cut, join, repeat, pad and rearrange data."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from sardonyx.bridge.torch.registry import implementation
from sardonyx.bridge.torch.sizes import ints, numbers
from sardonyx.errors import ExecutionError


@implementation("Slice", host=("starts", "ends", "axes", "steps"))
def cut(data: Tensor, starts: Any, ends: Any, axes: Any = None, steps: Any = None) -> Tensor:
    firsts, lasts = ints(starts), ints(ends)
    places = range(len(firsts)) if axes is None else ints(axes)
    strides = (1,) * len(firsts) if steps is None else ints(steps)
    for axis, first, last, stride in zip(places, firsts, lasts, strides, strict=True):
        data = _cut(data, axis, first, last, stride)
    return data


def _cut(data: Tensor, axis: int, first: Any, last: Any, stride: int) -> Tensor:
    if stride > 0:
        key = [slice(None)] * data.dim()
        key[axis] = slice(first, last, stride)
        return data[tuple(key)]
    size = data.shape[axis]
    start = torch.sym_min(first + size if first < 0 else first, size - 1)
    stop = torch.sym_max(last + size if last < 0 else last, -1)
    # positions start, start + stride, ... above stop -> a forward slice, flipped
    count = torch.sym_max(0, (start - stop - stride - 1) // -stride)
    low = start + (count - 1) * stride
    if count == 0:
        return data.narrow(axis, 0, 0)
    key = [slice(None)] * data.dim()
    key[axis] = slice(low, start + 1, -stride)
    return data[tuple(key)].flip(axis)


@implementation("Concat")
def concat(*parts: Tensor, axis: int | None = None) -> Tensor:
    return torch.cat(parts, 1 if axis is None else axis)


@implementation("Split", host=("split", "lengths"), several=True)
def split(
    data: Tensor,
    split: Any = None,
    lengths: Any = None,
    *,
    axis: int | None = 0,
    num_outputs: int | None = None,
    n_outputs: int = 1,
) -> tuple[Tensor, ...]:
    given = split if lengths is None else lengths
    parts: tuple[Tensor, ...]
    place = axis or 0
    if given is not None:
        parts = torch.split(data, list(ints(given)), place)
        return parts
    size = data.shape[place]
    piece = -(-size // n_outputs)
    sizes = [piece] * (n_outputs - 1)
    parts = torch.split(data, [*sizes, size - piece * (n_outputs - 1)], place)
    return parts


@implementation("Tile", host=("repeats", "tiles", "axis"))
def tile(data: Tensor, repeats: Any = None, tiles: Any = None, axis: Any = None) -> Tensor:
    if repeats is not None:
        return data.repeat(ints(repeats))
    counts = [1] * data.dim()
    counts[int(ints(axis)[0])] = int(ints(tiles)[0])
    return data.repeat(counts)


@implementation("DepthToSpace")
def depth_to_space(x: Tensor, *, blocksize: int, mode: str = "DCR") -> Tensor:
    n, c, h, w = x.shape
    b = blocksize
    if mode == "DCR":
        blocks = x.reshape(n, b, b, c // (b * b), h, w).permute(0, 3, 4, 1, 5, 2)
    else:
        blocks = x.reshape(n, c // (b * b), b, b, h, w).permute(0, 1, 4, 2, 5, 3)
    return blocks.reshape(n, c // (b * b), h * b, w * b)


@implementation("SpaceToDepth")
def space_to_depth(x: Tensor, *, blocksize: int, mode: str = "DCR") -> Tensor:
    n, c, h, w = x.shape
    b = blocksize
    blocks = x.reshape(n, c, h // b, b, w // b, b)
    order = (0, 3, 5, 1, 2, 4) if mode == "DCR" else (0, 1, 3, 5, 2, 4)
    return blocks.permute(order).reshape(n, c * b * b, h // b, w // b)


_MODES = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}


@implementation("Pad", host=("pads", "constant_value", "axes"))
def pad(
    data: Tensor,
    pads: Any = None,
    constant_value: Any = None,
    axes: Any = None,
    *,
    mode: str = "constant",
    value: float = 0.0,
    paddings: tuple[int, ...] | None = None,
) -> Tensor:
    amounts = ints(paddings if pads is None else pads)
    count = len(amounts) // 2
    places = range(count) if axes is None else [axis % data.dim() for axis in ints(axes)]
    before, after = [0] * data.dim(), [0] * data.dim()
    for index, axis in enumerate(places):
        before[axis], after[axis] = amounts[index], amounts[count + index]
    if mode == "constant":
        flat = [
            amount for axis in reversed(range(data.dim())) for amount in (before[axis], after[axis])
        ]
        if isinstance(constant_value, Tensor):
            ones = functional.pad(torch.ones_like(data, dtype=torch.bool), flat)
            return torch.where(ones, functional.pad(data, flat), constant_value.reshape(()))
        fill = value if constant_value is None else numbers(constant_value)[0]
        if not data.dtype.is_floating_point:
            fill = int(fill)
        if data.dtype == torch.bool:
            return functional.pad(data.to(torch.uint8), flat, value=int(fill)).bool()
        return functional.pad(data, flat, value=fill)
    if mode not in _MODES:
        raise ExecutionError(f"Pad has no mode {mode!r}")
    for axis in range(data.dim()):
        if isinstance(before[axis], int) and before[axis] == 0 and after[axis] == 0:
            continue
        data = data.index_select(axis, _sources(data, axis, before[axis], after[axis], mode))
    return data


def _sources(data: Tensor, axis: int, before: int, after: int, mode: str) -> Tensor:
    """Which index of `axis` each index of the padded one shows."""
    size = data.shape[axis]
    index = torch.arange(-before, size + after, device=data.device)
    if mode == "edge":
        return index.clamp(0, size - 1)
    if mode == "wrap":
        return index.remainder(size)
    if size == 1:
        return torch.zeros_like(index)
    period = 2 * (size - 1)
    index = index.remainder(period)
    return torch.where(index >= size, period - index, index)


@implementation("CenterCropPad", host=("shape",))
def center_crop_pad(data: Tensor, shape: Any, *, axes: tuple[int, ...] | None = None) -> Tensor:
    places = range(data.dim()) if axes is None else axes
    for axis, wanted in zip(places, ints(shape), strict=True):
        size = data.shape[axis]
        if wanted < size:
            data = data.narrow(axis, (size - wanted) // 2, wanted)
        elif wanted > size:
            start = (wanted - size) // 2
            flat = [0, 0] * (data.dim() - 1 - axis % data.dim())
            data = functional.pad(data, [*flat, start, wanted - size - start])
    return data


@implementation("Trilu", host=("k",))
def trilu(x: Tensor, k: Any = None, *, upper: int = 1) -> Tensor:
    diagonal = 0 if k is None else numbers(k)[0]
    return torch.triu(x, diagonal) if upper else torch.tril(x, diagonal)
