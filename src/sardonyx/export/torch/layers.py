"""Convolutions, pools, normalizations and resizing."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from sardonyx import dtypes
from sardonyx.dims import Dim
from sardonyx.errors import ExportError
from sardonyx.export.torch.registry import TorchBuilder, known, product, static, translation
from sardonyx.export.torch.tensors import torch_dtype_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sardonyx.dims import DimLike
    from sardonyx.ir.value import Value

__all__: list[str] = []

Sizes = Any


def _each(values: Sizes, count: int) -> list[int]:
    listed = [values] if isinstance(values, int) else list(values)
    return listed * count if len(listed) == 1 else listed


def _batched(op: TorchBuilder, x: Value, spatial: int, layer: Callable[[Value], Value]) -> Value:
    """`layer` of `x`, with a batch axis added where torch was given none."""
    if op.rank_of(x) == spatial + 2:
        return layer(x)
    return op.squeeze(layer(op.unsqueeze(x, [0])), [0])


def _conv(op: TorchBuilder, x: Value, weight: Value, bias: Value | None, stride: Sizes,
          padding: Sizes, dilation: Sizes, groups: int) -> Any:  # fmt: skip
    kernel = op.shape_of(weight)[2:]
    count = len(kernel)
    dilations = _each(dilation, count)
    if isinstance(padding, str):
        before, after = [0] * count, [0] * count
        if padding == "same":
            sizes = static(kernel, "padding='same'")
            spans = [(size - 1) * step for size, step in zip(sizes, dilations, strict=True)]
            before = [span // 2 for span in spans]
            after = [span - span // 2 for span in spans]
    else:
        before = after = _each(padding, count)
    return _batched(
        op,
        x,
        count,
        lambda x: op.Conv(
            x,
            weight,
            bias,
            strides=_each(stride, count),
            pads=[*before, *after],
            dilations=dilations,
            group=groups,
        ),
    )


@translation("aten.conv1d.default", "aten.conv1d.padding", "aten.conv2d.default",
             "aten.conv2d.padding", "aten.conv3d.default", "aten.conv3d.padding")  # fmt: skip
def conv(op: TorchBuilder, x: Value, weight: Value, bias: Value | None = None, stride: Sizes = 1,
         padding: Sizes = 0, dilation: Sizes = 1, groups: int = 1) -> Any:  # fmt: skip
    return _conv(op, x, weight, bias, stride, padding, dilation, groups)


@translation("aten.conv_transpose1d.default", "aten.conv_transpose2d.input",
             "aten.conv_transpose3d.input")  # fmt: skip
def conv_transpose(op: TorchBuilder, x: Value, weight: Value, bias: Value | None = None,
                   stride: Sizes = 1, padding: Sizes = 0, output_padding: Sizes = 0,
                   groups: int = 1, dilation: Sizes = 1) -> Any:  # fmt: skip
    count = op.rank_of(weight) - 2
    return _batched(
        op,
        x,
        count,
        lambda x: op.ConvTranspose(
            x,
            weight,
            bias,
            strides=_each(stride, count),
            pads=_each(padding, count) * 2,
            output_padding=_each(output_padding, count),
            dilations=_each(dilation, count),
            group=groups,
        ),
    )


@translation("aten.convolution.default")
def convolution(op: TorchBuilder, x: Value, weight: Value, bias: Value | None, stride: Sizes,
                padding: Sizes, dilation: Sizes, transposed: bool, output_padding: Sizes,
                groups: int) -> Any:  # fmt: skip
    if transposed:
        return conv_transpose(
            op, x, weight, bias, stride, padding, output_padding, groups, dilation
        )
    return _conv(op, x, weight, bias, stride, padding, dilation, groups)


def _end_pads(op: TorchBuilder, x: Value, kernel: Sequence[int], stride: Sequence[int],
              padding: Sequence[int], dilation: Sequence[int]) -> list[int] | None:  # fmt: skip
    """The padding at the end that gives the output torch computes; None where sizes are dynamic."""
    count = len(kernel)
    sizes, outputs = op.shape_of(x)[-count:], op.result_shape[-count:]
    if any(not isinstance(size, int) for size in (*sizes, *outputs)):
        return None
    return [
        max((out - 1) * step + spread * (window - 1) + 1 - size - pad, 0)
        for size, out, window, step, pad, spread in zip(
            sizes, outputs, kernel, stride, padding, dilation, strict=True
        )
    ]


def _max_pool(op: TorchBuilder, x: Value, kernel: Sizes, stride: Sizes, padding: Sizes,
              dilation: Sizes, ceil_mode: bool, spatial: int, indices: bool) -> Any:  # fmt: skip
    window = _each(kernel, spatial)
    step = _each(stride, spatial) if stride else window
    pads, spread = _each(padding, spatial), _each(dilation, spatial)
    dilated = any(each != 1 for each in spread)
    if dilated:
        op.require(10, "a dilated max pool")
    ends = _end_pads(op, x, window, step, pads, spread) if ceil_mode else pads
    if ends is None:
        op.require(10, "ceil_mode with dynamic sizes")
    attributes = {
        "kernel_shape": window,
        "strides": step,
        "pads": [*pads, *(pads if ends is None else ends)],
        "dilations": spread if dilated else None,
        "ceil_mode": 1 if ends is None else None,
    }
    is_batched = op.rank_of(x) == spatial + 2
    wide = x if is_batched else op.unsqueeze(x, [0])
    if not indices:
        values = op.MaxPool(wide, **attributes)
        return values if is_batched else op.squeeze(values, [0])
    op.require(8, "a max pool with indices")
    values, places = op.MaxPool(wide, _outputs=2, **attributes)
    plane = op.scalar(product(op.shape_of(x)[-spatial:]), dtypes.INT64)
    places = op.Mod(places, plane)
    return (values, places) if is_batched else (op.squeeze(values, [0]), op.squeeze(places, [0]))


def _register_pools(spatial: int) -> None:
    @translation(f"aten.max_pool{spatial}d.default")
    def max_pool(op: TorchBuilder, x: Value, kernel: Sizes, stride: Sizes = (), padding: Sizes = 0,
                 dilation: Sizes = 1, ceil_mode: bool = False) -> Any:  # fmt: skip
        return _max_pool(op, x, kernel, stride, padding, dilation, ceil_mode, spatial, False)

    @translation(f"aten.max_pool{spatial}d_with_indices.default")
    def max_pool_indices(op: TorchBuilder, x: Value, kernel: Sizes, stride: Sizes = (),
                         padding: Sizes = 0, dilation: Sizes = 1,
                         ceil_mode: bool = False) -> Any:  # fmt: skip
        return _max_pool(op, x, kernel, stride, padding, dilation, ceil_mode, spatial, True)

    @translation(f"aten.avg_pool{spatial}d.default")
    def avg_pool(op: TorchBuilder, x: Value, kernel: Sizes, stride: Sizes = (), padding: Sizes = 0,
                 ceil_mode: bool = False, count_include_pad: bool = True,
                 divisor_override: int | None = None) -> Any:  # fmt: skip
        return _avg_pool(
            op, x, spatial, kernel, stride, padding, ceil_mode, count_include_pad, divisor_override
        )

    @translation(f"aten.adaptive_avg_pool{spatial}d.default",
                 f"aten._adaptive_avg_pool{spatial}d.default")  # fmt: skip
    def adaptive_avg_pool(op: TorchBuilder, x: Value, size: Sizes) -> Any:
        return _adaptive(op, x, _each(size, spatial), "Average")

    @translation(f"aten.adaptive_max_pool{spatial}d.default")
    def adaptive_max_pool(op: TorchBuilder, x: Value, size: Sizes) -> Any:
        return _adaptive(op, x, _each(size, spatial), "Max"), None


for _spatial in (1, 2, 3):
    _register_pools(_spatial)


def _avg_pool(op: TorchBuilder, x: Value, spatial: int, kernel: Sizes, stride: Sizes,
              padding: Sizes, ceil_mode: bool, include: bool,
              divisor: int | None) -> Any:  # fmt: skip
    window = _each(kernel, spatial)
    step = _each(stride, spatial) if stride else window
    pads = _each(padding, spatial)
    ends: list[int] | None = pads
    if ceil_mode:
        ends = _end_pads(op, x, window, step, pads, [1] * spatial)
        padded = any(pads)
        if ends == pads:
            ceil_mode = False
        elif divisor is not None or (padded and include) or ends is None:
            op.require(10, "ceil_mode of an average pool")
            ends = None
        else:
            include = False

    def pool(x: Value) -> Value:
        pooled: Value = op.AveragePool(
            x,
            kernel_shape=window,
            strides=step,
            pads=[*pads, *(pads if ends is None else ends)],
            count_include_pad=int(include or divisor is not None),
            ceil_mode=1 if ends is None else None,
        )
        return pooled

    found = _batched(op, x, spatial, pool)
    if divisor is None:
        return found
    return op.Mul(found, op.constant(math.prod(window) / divisor, op.result()))


def _adaptive(op: TorchBuilder, x: Value, outputs: Sequence[int | None], kind: str) -> Value:
    spatial = len(outputs)
    sizes = op.shape_of(x)[-spatial:]
    wanted = [size if out is None else out for size, out in zip(sizes, outputs, strict=True)]
    if tuple(wanted) == tuple(sizes):
        return x
    if all(out == 1 for out in wanted):
        whole: Callable[[Value], Value] = getattr(op, f"Global{kind}Pool")
        return _batched(op, x, spatial, whole)
    exact = [_exact(size, out) for size, out in zip(sizes, wanted, strict=True)]
    if all(exact):
        pool: Callable[..., Value] = getattr(op, f"{kind}Pool")
        return _batched(op, x, spatial, lambda x: pool(x, kernel_shape=exact, strides=exact))
    rank = op.rank_of(x)
    for index, (size, out) in enumerate(zip(sizes, wanted, strict=True)):
        if size == out:
            continue
        (fixed, count) = static([size, out], "an adaptive pool")
        axis = rank - spatial + index
        spans = [(i * fixed // count, -(-(i + 1) * fixed // count)) for i in range(count)]
        x = _spans(op, x, axis, spans, fixed, kind)
    return x


def _exact(size: DimLike, count: DimLike) -> int:
    """The length of `count` equal windows over `size`; 0 where they are not equal."""
    if isinstance(size, Dim) or isinstance(count, Dim) or size % count:
        return 0
    return size // count


def _spans(op: TorchBuilder, x: Value, axis: int, spans: Sequence[tuple[int, int]], size: int,
           kind: str) -> Value:  # fmt: skip
    """The mean or maximum over each of `spans` along `axis`."""
    dtype, shape = op.dtype_of(x), list(op.shape_of(x))
    rank = len(shape)
    shape[axis] = len(spans)
    if kind == "Max":
        parts = [op.reduce("Max", op.slice(x, axis, a, b), [axis], True) for a, b in spans]
        return op.typed(op.Concat(*parts, axis=axis), dtype, shape)
    weights = np.zeros((size, len(spans)))
    for column, (first, last) in enumerate(spans):
        weights[first:last, column] = 1 / (last - first)
    order = [*range(axis), *range(axis + 1, rank), axis]
    back = [*range(axis), rank - 1, *range(axis, rank - 1)]
    turned = op.MatMul(op.Transpose(x, perm=order), op.constant(weights, dtype))
    return op.typed(op.Transpose(turned, perm=back), dtype, shape)


def _vector(op: TorchBuilder, given: Value | None, fill: float, channels: DimLike) -> Value:
    if given is not None:
        return given
    (count,) = static([channels], "a normalization without weights")
    return op.constant(np.full(count, fill), op.result())


@translation("aten.batch_norm.default")
def batch_norm(op: TorchBuilder, x: Value, weight: Value | None, bias: Value | None,
               mean: Value | None, var: Value | None, training: bool, momentum: float,
               eps: float, *_: Any) -> Any:  # fmt: skip
    shape = op.shape_of(x)
    scale, shift = _vector(op, weight, 1, shape[1]), _vector(op, bias, 0, shape[1])
    if mean is not None and var is not None and not training:
        return op.BatchNormalization(x, scale, shift, mean, var, epsilon=eps)
    axes = [axis for axis in range(len(shape)) if axis != 1]
    return _normalized(op, x, axes, eps, scale, shift, len(shape) - 2)


@translation("aten._native_batch_norm_legit_no_training.default")
def native_batch_norm(op: TorchBuilder, x: Value, weight: Value | None, bias: Value | None,
                      mean: Value, var: Value, momentum: float, eps: float) -> Any:  # fmt: skip
    return batch_norm(op, x, weight, bias, mean, var, False, momentum, eps), None, None


@translation("aten._native_batch_norm_legit.no_stats")
def batch_norm_of_batch(op: TorchBuilder, x: Value, weight: Value | None, bias: Value | None,
                        training: bool, momentum: float, eps: float) -> Any:  # fmt: skip
    return batch_norm(op, x, weight, bias, None, None, True, momentum, eps), None, None


@translation("aten.instance_norm.default")
def instance_norm(op: TorchBuilder, x: Value, weight: Value | None, bias: Value | None,
                  mean: Value | None, var: Value | None, use_input_stats: bool, momentum: float,
                  eps: float, *_: Any) -> Any:  # fmt: skip
    if not use_input_stats:
        return batch_norm(op, x, weight, bias, mean, var, False, momentum, eps)
    channels = op.shape_of(x)[1]
    scale, shift = _vector(op, weight, 1, channels), _vector(op, bias, 0, channels)
    return op.InstanceNormalization(x, scale, shift, epsilon=eps)


def _normalized(op: TorchBuilder, x: Value, axes: Sequence[int], eps: float, scale: Value | None,
                shift: Value | None, trailing: int = 0) -> Any:  # fmt: skip
    """(x - mean) / sqrt(variance + eps) * scale + shift; scale and shift get `trailing` axes."""
    dtype, shape = op.dtype_of(x), op.shape_of(x)
    centred = op.Sub(x, op.reduce("Mean", x, axes, True))
    squares = op.typed(op.Mul(centred, centred), dtype, shape)
    variance = op.reduce("Mean", squares, axes, True)
    result = op.Div(centred, op.Sqrt(op.Add(variance, op.constant(eps, dtype))))
    if scale is not None:
        result = op.Mul(result, _spread(op, scale, trailing))
    return result if shift is None else op.Add(result, _spread(op, shift, trailing))


def _spread(op: TorchBuilder, x: Value, trailing: int) -> Value:
    return op.unsqueeze(x, list(range(1, trailing + 1))) if trailing else x


@translation("aten.layer_norm.default")
def layer_norm(op: TorchBuilder, x: Value, shape: Sequence[int], weight: Value | None = None,
               bias: Value | None = None, eps: float = 1e-5, *_: Any) -> Any:  # fmt: skip
    rank = op.rank_of(x)
    first = rank - len(shape)
    if op.opset < 17:
        return _normalized(op, x, list(range(first, rank)), eps, weight, bias)
    if weight is None:
        weight = op.constant(np.ones(static(shape, "layer_norm")), op.result())
    return op.LayerNormalization(x, weight, bias, axis=first, epsilon=eps)


@translation("aten.native_layer_norm.default")
def native_layer_norm(op: TorchBuilder, x: Value, shape: Sequence[int], weight: Value | None,
                      bias: Value | None, eps: float) -> Any:  # fmt: skip
    return layer_norm(op, x, shape, weight, bias, eps), None, None


@translation("aten.rms_norm.default")
def rms_norm(op: TorchBuilder, x: Value, shape: Sequence[int], weight: Value | None = None,
             eps: float | None = None) -> Any:  # fmt: skip
    dtype, rank = op.result(), op.rank_of(x)
    if eps is None:
        eps = float(torch.finfo(torch_dtype_of(dtype)).eps)
    first = rank - len(shape)
    if op.opset >= 23 and weight is not None:
        return op.RMSNormalization(x, weight, axis=first, epsilon=eps)
    squares = op.typed(op.Mul(x, x), dtype, op.shape_of(x))
    mean = op.reduce("Mean", squares, list(range(first, rank)), True)
    result = op.Div(x, op.Sqrt(op.Add(mean, op.constant(eps, dtype))))
    return result if weight is None else op.Mul(result, weight)


@translation("aten.group_norm.default")
def group_norm(op: TorchBuilder, x: Value, groups: int, weight: Value | None = None,
               bias: Value | None = None, eps: float = 1e-5, *_: Any) -> Any:  # fmt: skip
    shape = op.shape_of(x)
    dtype = op.dtype_of(x)
    if op.opset >= 21 and weight is not None and bias is not None:
        return op.GroupNormalization(x, weight, bias, num_groups=groups, epsilon=eps)
    ones, zeros = op.constant(np.ones(groups), dtype), op.constant(np.zeros(groups), dtype)
    grouped = op.Reshape(x, op.ints([0, groups, -1]))
    flat = op.InstanceNormalization(grouped, ones, zeros, epsilon=eps)
    result = op.reshape(op.typed(flat, dtype, [shape[0], groups, None]), shape)
    trailing = len(shape) - 2
    if weight is not None:
        result = op.Mul(result, _spread(op, weight, trailing))
    return result if bias is None else op.Add(result, _spread(op, bias, trailing))


def _resize(op: TorchBuilder, x: Value, scales: Sequence[float] | None, mode: str,
            coordinates: str, nearest: str | None = None,
            cubic: float | None = None) -> Any:  # fmt: skip
    """`x` resized by `scales`, or to the result's sizes where they are None."""
    if scales is not None and any(scale is None for scale in scales):
        scales = None
    if op.opset < 11:
        return _resize_old(op, x, scales, mode, coordinates)
    none = None if op.opset >= 13 else op.constant(np.zeros(0), dtypes.FLOAT)
    attributes = {
        "mode": mode,
        "coordinate_transformation_mode": coordinates,
        "nearest_mode": nearest,
        "cubic_coeff_a": cubic,
    }
    if scales is not None:
        factors = op.constant([1.0, 1.0, *scales], dtypes.FLOAT)
        return op.Resize(x, none, factors, **attributes)
    target = known(op.result_shape)
    if target is None:
        raise ExportError("a resize to a size that cannot be said")
    if any(isinstance(size, Dim) for size in target) and all(
        isinstance(size, int) for size in target[2:]
    ):
        front = op.slice(op.Shape(x), 0, 0, 2)
        return op.Resize(
            x, none, none, op.Concat(front, op.sizes(target[2:]), axis=0), **attributes
        )
    return op.Resize(x, none, none, op.sizes(target), **attributes)


def _resize_old(op: TorchBuilder, x: Value, scales: Sequence[float] | None, mode: str,
                coordinates: str) -> Any:  # fmt: skip
    if mode != "nearest" or coordinates != "asymmetric":
        op.require(11, f"{mode} interpolation")
    if scales is None:
        target = static([dim or 0 for dim in op.result_shape[2:]], "a resize before opset 11")
        sizes = static(op.shape_of(x)[2:], "a resize before opset 11")
        scales = [new / old for new, old in zip(target, sizes, strict=True)]
    factors = [1.0, 1.0, *scales]
    if op.opset >= 10:
        return op.Resize(x, op.constant(factors, dtypes.FLOAT), mode=mode)
    if op.opset >= 9:
        return op.Upsample(x, op.constant(factors, dtypes.FLOAT), mode=mode)
    return op.Upsample(x, mode=mode, scales=factors)


def _register_nearest(target: str, spatial: int, coordinates: str, rounding: str) -> None:
    @translation(f"aten.{target}{spatial}d.vec")
    def by_factors(op: TorchBuilder, x: Value, _size: Any, scales: Any = None) -> Any:
        return _resize(op, x, scales, "nearest", coordinates, rounding)

    @translation(f"aten.{target}{spatial}d.default")
    def by_size(op: TorchBuilder, x: Value, _size: Any, *scales: Any) -> Any:
        return _resize(op, x, scales or None, "nearest", coordinates, rounding)


def _register_linear(target: str, mode: str, cubic: float | None) -> None:
    @translation(f"aten.{target}.vec")
    def by_factors(op: TorchBuilder, x: Value, _size: Any, align: bool, scales: Any = None) -> Any:
        return _resize(op, x, scales, mode, _coordinates(align), cubic=cubic)

    @translation(f"aten.{target}.default")
    def by_size(op: TorchBuilder, x: Value, _size: Any, align: bool, *scales: Any) -> Any:
        return _resize(op, x, scales or None, mode, _coordinates(align), cubic=cubic)


def _coordinates(align: bool) -> str:
    return "align_corners" if align else "half_pixel"


for _spatial in (1, 2, 3):
    _register_nearest("upsample_nearest", _spatial, "asymmetric", "floor")
    _register_nearest("_upsample_nearest_exact", _spatial, "half_pixel", "round_prefer_ceil")
for _target in ("upsample_linear1d", "upsample_bilinear2d", "upsample_trilinear3d"):
    _register_linear(_target, "linear", None)
_register_linear("upsample_bicubic2d", "cubic", -0.75)


@translation("aten.grid_sampler.default", "aten.grid_sampler_2d.default")
def grid_sampler(op: TorchBuilder, x: Value, grid: Value, interpolation: int, padding: int,
                 align: bool) -> Any:  # fmt: skip
    new = op.opset >= 20
    modes = ("linear", "nearest", "cubic") if new else ("bilinear", "nearest", "bicubic")
    return op.GridSample(
        x,
        grid,
        mode=modes[interpolation],
        padding_mode=("zeros", "border", "reflection")[padding],
        align_corners=int(align),
    )
