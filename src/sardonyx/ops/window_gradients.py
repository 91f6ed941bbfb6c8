"""Gradients of convolutions and pools: windows that slide over spatial axes, backwards."""

from __future__ import annotations

import math
from functools import reduce
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np

from sardonyx.errors import UnsupportedError
from sardonyx.ir.tensor import ArrayTensor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sardonyx.ir.types import DimLike
    from sardonyx.ir.value import Value
    from sardonyx.ops.windows import Windows
    from sardonyx.ops.writer import Writer

__all__ = ["averaged", "by_taps", "kernel_of", "padding", "pooled", "spread", "weight_gradient"]


def kernel_of(op: Writer, w: Value) -> tuple[int, ...]:
    """The kernel's sizes, which gradients need as numbers."""
    sizes = op.shape(w)[2:]
    known = tuple(size for size in sizes if isinstance(size, int))
    if len(known) < len(sizes):
        raise UnsupportedError("the gradient needs a kernel of known size")
    return known


def padding(op: Writer, windows: Windows, x: Value) -> tuple[list[int], list[int]]:
    """The padding at the begin and end of each spatial axis of `x`, automatic padding included."""
    if not windows.auto_pad.startswith("SAME"):
        return list(windows.begins), list(windows.ends)
    begins, ends = [], []
    for index, size in enumerate(op.shape(x)[2:]):
        stride, extent = windows.strides[index], _extent(windows, index)
        if stride == 1:
            total = extent - 1
        elif isinstance(size, int):
            total = max((-(-size // stride) - 1) * stride + extent - size, 0)
        else:
            raise UnsupportedError(
                f"the gradient needs the spatial sizes for auto_pad {windows.auto_pad}",
                hint="declare the shape, or give pads",
            )
        small = total // 2
        begins.append(small if windows.auto_pad == "SAME_UPPER" else total - small)
        ends.append(total - begins[-1])
    return begins, ends


def spread(op: Writer, dy: Value, w: Value, windows: Windows, group: int, x: Value) -> Value:
    """What each element of `x` gets from the windows it is in: a transposed convolution."""
    begins, ends = padding(op, windows, x)
    rank = len(begins)
    options = {
        "kernel_shape": list(kernel_of(op, w)),
        "strides": list(windows.strides),
        "dilations": list(windows.dilations),
        "group": group,
    }
    pairs = zip(op.shape(x)[2:], op.shape(dy)[2:], strict=True)
    missing = [
        _missing(windows, index, begins[index], ends[index], size, output)
        for index, (size, output) in enumerate(pairs)
    ]
    known = [count for count in missing if count is not None]
    if len(known) == rank:
        result: Value = op.ConvTranspose(
            dy,
            w,
            pads=[*begins, *(max(-count, 0) for count in known)],
            output_padding=[max(count, 0) for count in known],
            **options,
        )
        return result
    whole = op.ConvTranspose(
        dy, w, output_padding=[stride - 1 for stride in windows.strides], **options
    )
    axes = range(2, 2 + rank)
    stops = op.Add(op.size(x, *axes), np.array(begins, np.int64))
    cut: Value = op.Slice(whole, np.array(begins, np.int64), stops, np.array(axes, np.int64))
    return cut


def weight_gradient(
    op: Writer,
    big: Value,
    small: Value,
    w: Value,
    windows: Windows,
    pads: Sequence[int],
    group: int,
) -> Value:
    """The gradient by W [M, C / group, k, ...] of what slides over `big` and gives `small`.

    For a convolution these are X and dY: dY slides over X with the strides as dilations.
    """
    kernel = kernel_of(op, w)
    rank = len(kernel)
    spatial = range(2, 2 + rank)
    swap = [1, 0, *spatial]
    image = op.Transpose(big, perm=swap)
    if group > 1:
        each = op.size(w, 1)
        flat = op.Reshape(image, op.sizes(group, each, -1))
        image = op.Reshape(
            op.Transpose(flat, perm=[1, 0, 2]), op.sizes(each, -1, op.size(big, *spatial))
        )
    found = op.Conv(
        image,
        op.Transpose(small, perm=swap),
        strides=list(windows.dilations),
        dilations=list(windows.strides),
        pads=list(pads),
        group=group,
    )
    found = op.Transpose(found, perm=swap)
    if op.shape(found)[2:] != kernel:
        starts = np.zeros(rank, np.int64)
        found = op.Slice(found, starts, np.array(kernel, np.int64), np.array(spatial, np.int64))
    return op.reshaped(found, w)


def pooled(op: Writer, dy: Value, windows: Windows, x: Value) -> Value:
    """What each element of `x` gets from the windows of its channel that it is in."""
    spatial = range(2, op.rank(x))
    flat = op.Reshape(dy, op.sizes(-1, 1, op.size(dy, *spatial)))
    kernel = [size for size in windows.kernel if isinstance(size, int)]
    ones = ArrayTensor(np.ones((1, 1, *kernel)), op.dtype(dy))
    return op.reshaped(spread(op, flat, op.value(ones), windows, 1, x), x)


def by_taps(op: Writer, dy: Value, windows: Windows, x: Value) -> Value:
    """What each element of `x` gets from the windows it is the first greatest element of.

    For operator sets whose scattering does not add: a convolution takes the elements of each
    window apart, and a transposed one with the same one-hot kernels puts gradients back.
    """
    kernel = [size for size in windows.kernel if isinstance(size, int)]
    taps, rank = math.prod(kernel), len(kernel)
    spatial = range(2, 2 + rank)
    begins, ends = padding(op, windows, x)
    pairs = zip(op.shape(x)[2:], op.shape(dy)[2:], strict=True)
    for index, (size, output) in enumerate(pairs):
        missing = _missing(windows, index, begins[index], ends[index], size, output)
        if windows.ceil_mode and missing is None:
            raise UnsupportedError(
                "the gradient of MaxPool with ceil_mode needs the spatial sizes",
                hint="declare the shape, or convert the model to opset 16 or newer",
            )
        ends[index] = max(ends[index], -missing if missing is not None else 0)
    options = {
        "strides": list(windows.strides),
        "dilations": list(windows.dilations),
        "pads": [*begins, *ends],
    }
    kernels = op.value(ArrayTensor(np.eye(taps).reshape(taps, 1, *kernel), op.dtype(x)))
    flat = op.Reshape(x, op.sizes(-1, 1, op.size(x, *spatial)))
    parts = op.Conv(flat, kernels, **options)
    inside = op.Conv(op.ones_like(flat), kernels, **options)
    finfo: Any = ml_dtypes.finfo
    least = float(finfo(op.dtype(x).numpy).min)
    first = op.ArgMax(op.Where(op.Greater(inside, 0.5), parts, least), axis=1, keepdims=1)
    places = np.arange(taps, dtype=np.int64).reshape(1, taps, *(1,) * rank)
    chosen = op.cast(op.Equal(first, places), op.dtype(dy))
    each = op.Mul(chosen, op.Reshape(dy, op.sizes(-1, 1, op.size(dy, *spatial))))
    return op.reshaped(spread(op, each, kernels, windows, 1, flat), x)


def averaged(op: Writer, dy: Value, windows: Windows, x: Value, include_pad: bool) -> Value:
    """`dy` over the number of elements that each window of an average counts."""
    sizes = [size for size in op.shape(x)[2:] if isinstance(size, int)]
    kernel = [size for size in windows.kernel if isinstance(size, int)]
    begins, ends = padding(op, windows, x)
    if len(sizes) == len(kernel):
        counts: Any = reduce(
            np.multiply.outer,
            [axis.counts(include_pad) for axis in windows.axes("AveragePool", sizes)],
        )
        if counts.size and (counts == counts.flat[0]).all():
            counts = counts.flat[0]
        quotient: Value = op.Div(dy, ArrayTensor(np.asarray(counts), op.dtype(dy)))
        return quotient
    if windows.ceil_mode:
        raise UnsupportedError(
            "the gradient of an average with ceil_mode needs the spatial sizes",
            hint="declare the shape",
        )
    if include_pad or not any((*begins, *ends)):
        mean: Value = op.Div(dy, op.like(math.prod(kernel), dy))
        return mean
    one = ArrayTensor(np.ones(1), op.dtype(dy))
    spatial = range(2, op.rank(x))
    ones = op.ConstantOfShape(op.sizes(1, 1, op.size(x, *spatial)), value=one)
    taps = ArrayTensor(np.ones((1, 1, *kernel)), op.dtype(dy))
    found: Value = op.Div(
        dy,
        op.Conv(
            ones,
            taps,
            strides=list(windows.strides),
            dilations=list(windows.dilations),
            pads=[*begins, *ends],
        ),
    )
    return found


def _extent(windows: Windows, index: int) -> int:
    kernel = windows.kernel[index]
    assert isinstance(kernel, int)
    return (kernel - 1) * windows.dilations[index] + 1


def _missing(
    windows: Windows, index: int, begin: int, end: int, size: DimLike, output: DimLike
) -> int | None:
    """How many elements the windows leave uncovered at the end; negative where they reach over."""
    stride = windows.strides[index]
    if isinstance(size, int) and isinstance(output, int):
        return begin + size - ((output - 1) * stride + _extent(windows, index))
    return -end if stride == 1 and not windows.ceil_mode else None
