"""Convolutions."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from sardonyx.bridge.torch.products import integers
from sardonyx.bridge.torch.registry import implementation
from sardonyx.bridge.torch.windows import flat, listed, paddings

if TYPE_CHECKING:
    from collections.abc import Sequence

_PLAIN = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
_TRANSPOSED = {
    1: functional.conv_transpose1d,
    2: functional.conv_transpose2d,
    3: functional.conv_transpose3d,
}


@implementation("Conv", ignored=("kernel_shape",))
def conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Sequence[int] | None = None,
    group: int = 1,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Tensor:
    rank = weight.dim() - 2
    steps, gaps = listed(strides, rank), listed(dilations, rank)
    begins, ends = paddings(x.shape[2:], weight.shape[2:], steps, gaps, pads, auto_pad)
    if begins != ends:
        x, begins = functional.pad(x, flat(begins, ends)), (0,) * rank
    if rank not in _PLAIN:
        return _by_columns(
            functional.pad(x, flat(begins, begins)), weight, bias, steps, gaps, group
        )
    return _PLAIN[rank](x, weight, bias, steps, begins, gaps, group)


def _by_columns(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    strides: Sequence[int],
    dilations: Sequence[int],
    group: int,
) -> Tensor:
    """A convolution of any rank: a product with the windows."""
    kernel = weight.shape[2:]
    for axis, (k, stride, dilation) in enumerate(zip(kernel, strides, dilations, strict=True), 2):
        x = x.unfold(axis, (k - 1) * dilation + 1, stride)
        x = x[..., ::dilation]
    rank = len(kernel)
    outputs = x.shape[2 : 2 + rank]
    columns = x.reshape(x.shape[0], group, -1, *outputs, math.prod(kernel))
    columns = columns.flatten(3, 2 + rank).permute(0, 1, 3, 2, 4).flatten(3)
    filters = weight.reshape(group, weight.shape[0] // group, -1)
    found = torch.einsum("ngpk,gmk->ngmp", columns, filters)
    found = found.reshape(x.shape[0], weight.shape[0], *outputs)
    return found if bias is None else found + bias.reshape(-1, *(1,) * rank)


@implementation("ConvInteger", ignored=("kernel_shape",))
def conv_integer(
    x: Tensor,
    weight: Tensor,
    x_zero_point: Tensor | None = None,
    w_zero_point: Tensor | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Sequence[int] | None = None,
    group: int = 1,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Tensor:
    wide = integers(x, x_zero_point, 1)
    filters = integers(weight, w_zero_point, 0)
    found = conv(
        wide,
        filters,
        auto_pad=auto_pad,
        dilations=dilations,
        group=group,
        pads=pads,
        strides=strides,
    )
    return found.round().long().to(torch.int32)


@implementation("ConvTranspose", ignored=("kernel_shape",))
def conv_transpose(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Sequence[int] | None = None,
    group: int = 1,
    output_padding: Sequence[int] | None = None,
    output_shape: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Tensor:
    rank = weight.dim() - 2
    steps, gaps = listed(strides, rank), listed(dilations, rank)
    extra = listed(output_padding, rank, 0)
    given = listed(pads if auto_pad == "NOTSET" else None, 2 * rank, 0)
    begins, ends = list(given[:rank]), list(given[rank:])
    if output_shape or auto_pad.startswith("SAME"):
        for index in range(rank):
            size, k = x.shape[2 + index], weight.shape[2 + index]
            total = steps[index] * (size - 1) + extra[index] + (k - 1) * gaps[index] + 1
            if output_shape:
                wanted = output_shape[len(output_shape) - rank + index]
            else:
                wanted = size * steps[index]
            missing = torch.sym_max(total - wanted, 0)
            half = missing // 2
            begins[index] = half if auto_pad == "SAME_UPPER" else missing - half
            ends[index] = total - wanted - begins[index]
    if begins == ends and all(e < max(s, d) for e, s, d in zip(extra, steps, gaps, strict=True)):
        return _TRANSPOSED[rank](x, weight, bias, steps, tuple(begins), extra, group, gaps)
    whole = _TRANSPOSED[rank](x, weight, None, steps, 0, 0, group, gaps)
    for index in range(rank):
        # what is asked for beyond the products is zero
        change = [0, 0] * (rank - 1 - index)
        whole = functional.pad(whole, [*change, -begins[index], extra[index] - ends[index]])
    return whole if bias is None else whole + bias.reshape(-1, *(1,) * rank)


@implementation("DeformConv", ignored=("kernel_shape",))
def deform_conv(
    x: Tensor,
    weight: Tensor,
    offset: Tensor,
    bias: Tensor | None = None,
    mask: Tensor | None = None,
    *,
    dilations: Sequence[int] | None = None,
    group: int = 1,
    offset_group: int = 1,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Tensor:
    """Two spatial axes: bilinear samples, zero outside, times the weights."""
    n, channels = x.shape[:2]
    kh, kw = weight.shape[2:]
    (sh, sw), (dh, dw) = listed(strides, 2), listed(dilations, 2)
    top, left, _, _ = listed(pads, 4, 0)
    oh, ow = offset.shape[2:]
    moves = offset.reshape(n, offset_group, kh * kw, 2, oh, ow)
    taps = torch.arange(kh * kw, device=x.device).reshape(-1, 1, 1)
    rows = torch.arange(oh, device=x.device).reshape(-1, 1) * sh - top
    columns = torch.arange(ow, device=x.device) * sw - left
    ys = moves[:, :, :, 0] + (taps // kw * dh + rows)
    xs = moves[:, :, :, 1] + (taps % kw * dw + columns)
    per_group = channels // offset_group
    planes = x.reshape(n * offset_group, per_group, *x.shape[2:])
    samples = _bilinear(planes, ys.flatten(0, 1), xs.flatten(0, 1))
    samples = samples.reshape(n, offset_group, per_group, kh * kw, oh, ow)
    if mask is not None:
        samples = samples * mask.reshape(n, offset_group, 1, kh * kw, oh, ow)
    grouped = samples.reshape(n, group, channels // group, kh * kw, oh, ow)
    filters = weight.reshape(group, -1, channels // group, kh * kw)
    found = torch.einsum("ngckyx,gmck->ngmyx", grouped, filters).flatten(1, 2)
    return found if bias is None else found + bias.reshape(-1, 1, 1)


def _bilinear(planes: Tensor, ys: Tensor, xs: Tensor) -> Tensor:
    """Samples of planes [B, C, H, W] at positions [B, ...]; outside there are zeros."""
    height, width = planes.shape[2:]
    low_y, low_x = ys.floor(), xs.floor()
    total = planes.new_zeros((*planes.shape[:2], *ys.shape[1:]))
    flat_planes = planes.flatten(2)
    for dy in (0, 1):
        for dx in (0, 1):
            row, column = low_y + dy, low_x + dx
            share = (1 - (ys - row).abs()) * (1 - (xs - column).abs())
            inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            place = row.clamp(0, height - 1).long() * width + column.clamp(0, width - 1).long()
            index = place.flatten(1).unsqueeze(1).expand(-1, planes.shape[1], -1)
            values = flat_planes.gather(2, index).reshape(total.shape)
            total = total + values * (share * inside).unsqueeze(1)
    return total


@implementation("Col2Im", host=("image_shape", "block_shape"))
def col2im(
    x: Tensor,
    image_shape: object,
    block_shape: object,
    *,
    dilations: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Tensor:
    from sardonyx.bridge.torch.sizes import ints

    image, block = ints(image_shape), ints(block_shape)
    rank = len(image)
    steps, gaps = listed(strides, rank), listed(dilations, rank)
    given = listed(pads, 2 * rank, 0)
    begins, ends = given[:rank], given[rank:]
    padded = [size + b + e for size, b, e in zip(image, begins, ends, strict=True)]
    windows = [
        (size - (k - 1) * gap - 1) // step + 1
        for size, k, gap, step in zip(padded, block, gaps, steps, strict=True)
    ]
    taps = math.prod(block)
    values = x.reshape(x.shape[0], x.shape[1] // taps, taps, *windows)
    place = torch.zeros((taps, *windows), dtype=torch.int64, device=x.device)
    tap = torch.arange(taps, device=x.device)
    for axis in range(rank):
        inner = math.prod(block[axis + 1 :])
        within = (tap // inner % block[axis] * gaps[axis]).reshape(-1, *(1,) * rank)
        shape = [1] * (rank + 1)
        shape[1 + axis] = windows[axis]
        start = (torch.arange(windows[axis], device=x.device) * steps[axis]).reshape(shape)
        place = place * padded[axis] + within + start
    whole = values.new_zeros((*values.shape[:2], math.prod(padded)))
    index = place.reshape(-1).expand(*values.shape[:2], -1)
    whole = whole.scatter_add(2, index, values.flatten(2))
    whole = whole.reshape(*values.shape[:2], *padded)
    return functional.pad(whole, [-amount for amount in flat(begins, ends)])
