"""Operators of torchvision: suppression of boxes, pools of regions, deformable convolution."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sardonyx import dtypes
from sardonyx.export.torch.registry import TorchBuilder, static, translation

if TYPE_CHECKING:
    from sardonyx.ir.value import Value

__all__: list[str] = []


@translation("torchvision.nms.default")
def nms(op: TorchBuilder, boxes: Value, scores: Value, threshold: float) -> Any:
    many = op.constant([2**31 - 1], dtypes.INT64)
    limit = op.constant([threshold], dtypes.FLOAT)
    chosen = op.NonMaxSuppression(
        op.unsqueeze(op.cast(boxes, dtypes.FLOAT), [0]),
        op.unsqueeze(op.cast(scores, dtypes.FLOAT), [0, 1]),
        many,
        limit,
    )
    return op.Gather(chosen, op.constant(2, dtypes.INT64), axis=1)


def _regions(op: TorchBuilder, boxes: Value) -> tuple[Value, Value]:
    """The corners, and the number of the image, of regions (image, x1, y1, x2, y2)."""
    count = op.shape_of(boxes)[0]
    corners = op.slice(boxes, 1, 1, 5)
    images = op.typed(op.slice(boxes, 1, 0, 1), op.dtype_of(boxes), [count, 1])
    return corners, op.squeeze(op.cast(images, dtypes.INT64), [1])


def _roi_align(op: TorchBuilder, x: Value, boxes: Value, scale: float, height: int, width: int,
               samples: int, aligned: bool) -> Value:  # fmt: skip
    if aligned:
        op.require(16, "roi_align with aligned=True")
    corners, images = _regions(op, boxes)
    made: Value = op.RoiAlign(
        x,
        corners,
        images,
        spatial_scale=scale,
        output_height=height,
        output_width=width,
        sampling_ratio=max(samples, 0),
        coordinate_transformation_mode=None
        if op.opset < 16
        else ("half_pixel" if aligned else "output_half_pixel"),
    )
    return made


@translation("torchvision.roi_align.default")
def roi_align(op: TorchBuilder, x: Value, boxes: Value, scale: float, height: int, width: int,
              samples: int, aligned: bool) -> Any:  # fmt: skip
    return _roi_align(op, x, boxes, scale, height, width, samples, aligned)


@translation("torchvision.ps_roi_align.default")
def ps_roi_align(op: TorchBuilder, x: Value, boxes: Value, scale: float, height: int, width: int,
                 samples: int) -> Any:  # fmt: skip
    aligned = _roi_align(op, x, boxes, scale, height, width, samples, True)
    return _own_channels(op, x, boxes, aligned, height, width), None


def _own_channels(op: TorchBuilder, x: Value, boxes: Value, pooled: Value, height: int,
                  width: int) -> Value:  # fmt: skip
    """Of each cell of a region, the channels that are its own."""
    (channels,) = static([op.shape_of(x)[1]], "a position-sensitive pool")
    cells = height * width
    count = op.shape_of(boxes)[0]
    flat = op.Reshape(pooled, op.ints([0, channels // cells, -1]))
    own = op.Gather(flat, op.constant(np.arange(cells) * (cells + 1), dtypes.INT64), axis=2)
    op.typed(own, op.dtype_of(x), [count, channels // cells, cells])
    return op.reshape(own, [count, channels // cells, height, width])


@translation("torchvision.ps_roi_pool.default")
def ps_roi_pool(op: TorchBuilder, x: Value, boxes: Value, scale: float, height: int,
                width: int) -> Any:  # fmt: skip
    op.require(12, "ps_roi_pool")
    dtype = op.dtype_of(x)
    _, channels, rows, columns = static((1, *op.shape_of(x)[1:]), "ps_roi_pool")
    corners, images = _regions(op, boxes)
    factor, one = op.constant(scale, dtype), op.constant(1, dtype)
    # torch rounds halves away from zero; coordinates are not negative
    whole = op.Floor(op.Add(corners, op.constant(0.5, dtype)))
    masks = []
    for axis, cells, size in ((1, height, rows), (0, width, columns)):
        first = op.Mul(op.slice(whole, 1, axis, axis + 1), factor)
        last = op.Mul(op.Add(op.slice(whole, 1, axis + 2, axis + 3), one), factor)
        step = op.Div(
            op.Max(op.Sub(last, first), op.constant(0.1, dtype)), op.constant(cells, dtype)
        )
        numbers = op.constant(np.arange(cells), dtype)
        begin = op.Floor(op.Add(op.Mul(numbers, step), first))
        end = op.Ceil(op.Add(op.Mul(op.Add(numbers, one), step), first))
        places = op.constant(np.arange(size), dtype)
        inside = op.And(
            op.Not(op.Less(places, _last_axis(op, begin, boxes, cells))),
            op.Less(places, _last_axis(op, end, boxes, cells)),
        )
        masks.append(op.Cast(inside, to=dtype.code))
    tall, wide = masks
    depth = channels // (height * width)
    planes = op.Reshape(
        op.Gather(x, images, axis=0), op.ints([-1, depth, height, width, rows, columns])
    )
    total = op.Einsum(planes, tall, wide, equation="kcijyx,kiy,kjx->kcij")
    sizes = op.Einsum(tall, wide, equation="kiy,kjx->kij")
    count = op.shape_of(boxes)[0]
    area = op.unsqueeze(op.typed(op.Max(sizes, one), dtype, [count, height, width]), [1])
    return op.Div(total, area), None


def _last_axis(op: TorchBuilder, x: Value, boxes: Value, cells: int) -> Value:
    return op.unsqueeze(op.typed(x, op.dtype_of(boxes), [op.shape_of(boxes)[0], cells]), [2])


@translation("torchvision.roi_pool.default")
def roi_pool(op: TorchBuilder, x: Value, boxes: Value, scale: float, height: int,
             width: int) -> Any:  # fmt: skip
    return op.MaxRoiPool(x, boxes, pooled_shape=[height, width], spatial_scale=scale), None


@translation("torchvision.deform_conv2d.default")
def deform_conv2d(
    op: TorchBuilder, x: Value, weight: Value, offset: Value, mask: Value, bias: Value,
    stride_h: int, stride_w: int, pad_h: int, pad_w: int, dilation_h: int, dilation_w: int,
    groups: int, offset_groups: int, use_mask: bool,
) -> Any:  # fmt: skip
    return op.DeformConv(
        x,
        weight,
        offset,
        bias,
        mask if use_mask else None,
        strides=[stride_h, stride_w],
        pads=[pad_h, pad_w] * 2,
        dilations=[dilation_h, dilation_w],
        group=groups,
        offset_group=offset_groups,
    )
