"""Pools."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from sardonyx.bridge.torch.registry import implementation
from sardonyx.bridge.torch.sizes import ints
from sardonyx.bridge.torch.windows import flat, listed, paddings

if TYPE_CHECKING:
    from collections.abc import Sequence

_MAX: dict[int, Any] = {
    1: functional.max_pool1d,
    2: functional.max_pool2d,
    3: functional.max_pool3d,
}


def _fitted(
    x: Tensor,
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    pads: Sequence[int] | None,
    auto_pad: str,
    ceil_mode: int,
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Paddings before and after each axis such that all windows fit, and their counts."""
    begins, ends = paddings(x.shape[2:], kernel, strides, dilations, pads, auto_pad)
    fitted, counts = [], []
    for size, k, stride, dilation, begin, end in zip(
        x.shape[2:], kernel, strides, dilations, begins, ends, strict=True
    ):
        extent = (k - 1) * dilation + 1
        room = size + begin + end - extent
        count = room // stride + 1
        if ceil_mode:
            count = torch.sym_min(-(-room // stride) + 1, -(-(size + begin) // stride))
        counts.append(count)
        fitted.append((count - 1) * stride + extent - size - begin if ceil_mode else end)
    return begins, tuple(fitted), tuple(counts)


@implementation("MaxPool")
def max_pool(
    x: Tensor,
    *,
    kernel_shape: Sequence[int],
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    dilations: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
    storage_order: int = 0,
    n_outputs: int = 1,
) -> Any:
    rank, dtype = len(kernel_shape), x.dtype
    steps, gaps = listed(strides, rank), listed(dilations, rank)
    begins, ends, _ = _fitted(x, kernel_shape, steps, gaps, pads, auto_pad, ceil_mode)
    sizes = x.shape[2:]
    if not dtype.is_floating_point:
        x = x.to(torch.float32)
    is_even = begins == ends and all(2 * b <= k for b, k in zip(begins, kernel_shape, strict=True))
    padding: Any = begins
    if not is_even:
        x, padding = functional.pad(x, flat(begins, ends), value=-math.inf), (0,) * rank
    if n_outputs == 1:
        return _MAX[rank](x, kernel_shape, steps, padding, gaps).to(dtype)
    values, places = _MAX[rank](x, kernel_shape, steps, padding, gaps, return_indices=True)
    padded, offsets = (sizes, (0,) * rank) if is_even else (x.shape[2:], begins)
    return values.to(dtype), _counted(places, padded, sizes, offsets, storage_order)


def _counted(
    places: Tensor,
    padded: Sequence[int],
    sizes: Sequence[int],
    begins: Sequence[int],
    storage_order: int,
) -> Tensor:
    """Positions in a padded plane as positions in the whole tensor."""
    rank = len(sizes)
    steps = [math.prod(sizes[axis + 1 :]) for axis in range(rank)]
    if storage_order:
        steps = [math.prod(sizes[:axis]) for axis in range(rank)]
    found = torch.zeros_like(places)
    for axis in reversed(range(rank)):
        found = found + (places % padded[axis] - begins[axis]) * steps[axis]
        places = places // padded[axis]
    count = places.shape[0] * places.shape[1]
    planes = torch.arange(count, device=places.device).reshape(*places.shape[:2], *(1,) * rank)
    return found + planes * math.prod(sizes)


def _sums(
    x: Tensor, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> Tensor:
    """The sum of each window."""
    for axis, (k, stride, dilation) in enumerate(zip(kernel, strides, dilations, strict=True), 2):
        x = x.unfold(axis, (k - 1) * dilation + 1, stride)[..., ::dilation].sum(-1)
    return x


@implementation("AveragePool")
def average_pool(
    x: Tensor,
    *,
    kernel_shape: Sequence[int],
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    count_include_pad: int = 0,
    dilations: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Tensor:
    rank = len(kernel_shape)
    steps, gaps = listed(strides, rank), listed(dilations, rank)
    begins, ends, _ = _fitted(x, kernel_shape, steps, gaps, pads, auto_pad, ceil_mode)
    counted = torch.ones((1, 1, *x.shape[2:]), dtype=x.dtype, device=x.device)
    if count_include_pad:
        _, own = paddings(x.shape[2:], kernel_shape, steps, gaps, pads, auto_pad)
        counted = functional.pad(counted, flat(begins, own), value=1.0)
        inner = [end - given for end, given in zip(ends, own, strict=True)]
        counted = functional.pad(counted, flat((0,) * rank, inner))
    else:
        counted = functional.pad(counted, flat(begins, ends))
    total = _sums(functional.pad(x, flat(begins, ends)), kernel_shape, steps, gaps)
    return total / _sums(counted, kernel_shape, steps, gaps)


@implementation("LpPool")
def lp_pool(
    x: Tensor,
    *,
    kernel_shape: Sequence[int],
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    dilations: Sequence[int] | None = None,
    p: float = 2,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Tensor:
    rank = len(kernel_shape)
    steps, gaps = listed(strides, rank), listed(dilations, rank)
    begins, ends, _ = _fitted(x, kernel_shape, steps, gaps, pads, auto_pad, ceil_mode)
    powers = functional.pad(x.abs() ** p, flat(begins, ends))
    return _sums(powers, kernel_shape, steps, gaps) ** (1 / p)


def _spatial(x: Tensor) -> tuple[int, ...]:
    return tuple(range(2, x.dim()))


@implementation("GlobalAveragePool")
def global_average_pool(x: Tensor) -> Tensor:
    return x.mean(_spatial(x), keepdim=True)


@implementation("GlobalMaxPool")
def global_max_pool(x: Tensor) -> Tensor:
    return x.amax(_spatial(x), keepdim=True)


@implementation("GlobalLpPool")
def global_lp_pool(x: Tensor, *, p: float = 2) -> Tensor:
    return (x.abs() ** p).sum(_spatial(x), keepdim=True) ** (1 / p)


@implementation("MaxUnpool", host=("output_shape",))
def max_unpool(
    x: Tensor,
    places: Tensor,
    output_shape: Any = None,
    *,
    kernel_shape: Sequence[int],
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Tensor:
    rank = len(kernel_shape)
    steps, given = listed(strides, rank), listed(pads, 2 * rank, 0)
    sizes = [
        (size - 1) * step + k - begin - end
        for size, step, k, begin, end in zip(
            x.shape[2:], steps, kernel_shape, given[:rank], given[rank:], strict=True
        )
    ]
    inner = (*x.shape[:2], *sizes)
    whole = x.new_zeros(math.prod(inner)).scatter(0, places.reshape(-1), x.reshape(-1))
    if output_shape is None:
        return whole.reshape(inner)
    target = ints(output_shape)
    plane = math.prod(sizes)
    index = places.reshape(-1) % plane
    found = torch.zeros_like(index)
    step = 1
    for axis in reversed(range(rank)):
        found = found + index % sizes[axis] * step
        index = index // sizes[axis]
        step *= target[2 + axis]
    found = found + places.reshape(-1) // plane * step
    return x.new_zeros(math.prod(target)).scatter(0, found, x.reshape(-1)).reshape(target)
