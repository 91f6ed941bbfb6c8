"""Sampling of images at places that data decides."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from sardonyx.bridge.torch.registry import implementation
from sardonyx.bridge.torch.sizes import ints
from sardonyx.bridge.torch.tensors import wide

if TYPE_CHECKING:
    from collections.abc import Sequence

_MODES = {"linear": "bilinear", "cubic": "bicubic"}


@implementation("GridSample")
def grid_sample(
    x: Tensor,
    grid: Tensor,
    *,
    align_corners: int = 0,
    mode: str = "linear",
    padding_mode: str = "zeros",
) -> Tensor:
    name = _MODES.get(mode, mode)
    if x.dim() == 3:
        # one axis: of two with a single row, which stays in its middle
        rows = torch.cat([grid, torch.zeros_like(grid)], 2).unsqueeze(1)
        return grid_sample(
            x.unsqueeze(2), rows, align_corners=align_corners, mode=mode, padding_mode=padding_mode
        ).squeeze(2)
    return functional.grid_sample(
        x, grid.to(x.dtype), name, padding_mode, align_corners=bool(align_corners)
    )


@implementation("AffineGrid", host=("size",))
def affine_grid(theta: Tensor, size: Any, *, align_corners: int = 0) -> Tensor:
    shape = list(ints(size))
    return functional.affine_grid(theta, shape, align_corners=bool(align_corners))


def _taps(
    start: Tensor, stop: Tensor, bins: int, size: int, count: int, is_half: bool
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """For both ends of the interpolation: indices and weights, [bins, samples]."""
    extent = stop - start if is_half else (stop - start).clamp(min=1)
    width = extent / bins
    offsets = (torch.arange(count, device=start.device) + 0.5).to(start.dtype) * width / count
    x = start + torch.arange(bins, device=start.device).to(start.dtype)[:, None] * width + offsets
    inside = (x >= -1) & (x <= size)
    x = torch.where(inside, x, torch.zeros_like(x)).clamp(0, size - 1)
    low = x.floor()
    share = (x - low) * inside
    index = low.long()
    return (index, inside.to(share.dtype) - share), ((index + 1).clamp(max=size - 1), share)


@implementation("RoiAlign")
def roi_align(
    x: Tensor,
    rois: Tensor,
    batch_indices: Tensor,
    *,
    coordinate_transformation_mode: str = "half_pixel",
    mode: str = "avg",
    output_height: int = 1,
    output_width: int = 1,
    sampling_ratio: int = 0,
    spatial_scale: float = 1.0,
    version: int = 22,
) -> Tensor:
    is_half = version >= 16 and coordinate_transformation_mode == "half_pixel"
    dtype, values = x.dtype, wide(x)
    corners = wide(rois) * spatial_scale - (0.5 if is_half else 0.0)
    found = []
    for index in range(rois.shape[0]):
        x1, y1, x2, y2 = corners[index].unbind()
        image = values.index_select(0, batch_indices[index : index + 1].long())[0]
        sizes = []
        for start, stop, bins in ((y1, y2, output_height), (x1, x2, output_width)):
            extent = stop - start if is_half else (stop - start).clamp(min=1)
            sizes.append(sampling_ratio or int(torch.ceil(extent / bins)))
        if min(sizes) < 1:
            found.append(image.new_zeros((image.shape[0], output_height, output_width)))
            continue
        down = _taps(y1, y2, output_height, image.shape[1], sizes[0], is_half)
        across = _taps(x1, x2, output_width, image.shape[2], sizes[1], is_half)
        parts = [
            image[:, row[:, :, None, None], column] * (above[:, :, None, None] * beside)
            for row, above in down
            for column, beside in across
        ]
        if mode == "avg":
            found.append(torch.stack(parts).sum(0).mean((2, 4)))
        else:
            found.append(torch.stack(parts).amax(0).amax((2, 4)))
    if not found:
        return x.new_zeros((0, x.shape[1], output_height, output_width))
    return torch.stack(found).to(dtype)


@implementation("MaxRoiPool")
def max_roi_pool(
    x: Tensor, rois: Tensor, *, pooled_shape: Sequence[int], spatial_scale: float = 1.0
) -> Tensor:
    rows, columns = pooled_shape
    height, width = x.shape[2:]
    found = []
    for roi in rois:
        x1, y1, x2, y2 = [
            int(torch.sign(edge) * torch.floor(edge.abs() + 0.5))
            for edge in roi[1:] * spatial_scale
        ]
        tall, broad = max(y2 - y1 + 1, 1) / rows, max(x2 - x1 + 1, 1) / columns
        bins = []
        for row in range(rows):
            for column in range(columns):
                top, bottom = _bin(row, tall, y1, height)
                left, right = _bin(column, broad, x1, width)
                part = x[int(roi[0]), :, top:bottom, left:right].flatten(1)
                bins.append(part.amax(1) if part.shape[1] else part.new_zeros(part.shape[0]))
        found.append(torch.stack(bins, 1).reshape(-1, rows, columns))
    return torch.stack(found) if found else x.new_zeros((0, x.shape[1], rows, columns))


def _bin(index: int, extent: float, start: int, size: int) -> tuple[int, int]:
    from math import ceil, floor

    first = min(max(floor(index * extent) + start, 0), size)
    return first, min(max(ceil((index + 1) * extent) + start, 0), size)
