"""Convolutions: sums over windows of the input."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from math import gcd, prod
from typing import TYPE_CHECKING, Any

from sardonyx.dims import ceil_div, maximum
from sardonyx.dtypes import FLOAT, INT32
from sardonyx.loops.expr import Ref, index, linear, substitute
from sardonyx.loops.nest import (
    Convolution,
    Definition,
    Lowering,
    Nest,
    NotLowered,
    Pieces,
    Source,
    Window,
    widened,
)
from sardonyx.loops.scalars import apply, cast, const, size
from sardonyx.lowering.quantization import pair_along, requantized
from sardonyx.lowering.registry import rule
from sardonyx.lowering.support import agree

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sardonyx.dims import DimLike
    from sardonyx.loops.expr import Axis, Expr, Index

    Read = Callable[[tuple[Index, ...]], Expr]

_MOST_PHASES = 64


def _kernel(op: Any, w: Source) -> tuple[int, ...]:
    found = tuple(dim for dim in w.shape[2:] if isinstance(dim, int))
    if len(found) < w.rank - 2:
        raise NotLowered(f"{op.op_type} with a kernel that data decides")
    return found


def _windows(op: Any, x: Source, w: Source, shape: Sequence[DimLike]) -> tuple[Window, ...]:
    kernel = _kernel(op, w)
    windows = op._windows(kernel)  # noqa: SLF001
    found = []
    for number, (total, output) in enumerate(zip(x.shape[2:], shape[2:], strict=True)):
        stride, dilation = windows.strides[number], windows.dilations[number]
        begin, end = windows.begins[number], windows.ends[number]
        if windows.auto_pad.startswith("SAME"):
            extent = (kernel[number] - 1) * dilation + 1
            rest: DimLike = maximum((output - 1) * stride + extent - total, 0)
            half = rest // 2
            begin = half if windows.auto_pad == "SAME_UPPER" else rest - half
            end = rest - begin
        found.append(Window(total, output, kernel[number], stride, dilation, begin, end))
    return tuple(found)


def _convolution(
    k: Lowering,
    op: Any,
    x: Source,
    w: Source,
    read_x: Read,
    read_w: Read,
    last: Callable[[Expr, Axis], Expr],
) -> Convolution:
    """The convolution of x with w; `last` makes an element of its sum and its channel."""
    dtype, shape = k.outputs[0]
    if x.rank < 3 or x.rank != w.rank:
        raise NotLowered(f"{op.op_type} of rank {x.rank}")
    if op.kernel_shape:
        agree(f"{op.op_type}'s kernel", w.shape[2:], op.kernel_shape)
    windows = _windows(op, x, w, shape)
    agree(f"{op.op_type}'s channels", (x.shape[1], w.shape[0]), (w.shape[1] * op.group, shape[1]))
    rank = x.rank - 2
    image, channel, source, depth = k.axes(4)
    spatial, positions, taps = k.axes(rank), k.axes(rank), k.axes(rank)
    one, other = read_x((image, source, *positions)), read_w((channel, depth, *taps))
    total = Ref("sum", one.dtype)
    return Convolution(
        shape,
        dtype,
        image,
        channel,
        spatial,
        shape,
        source,
        positions,
        depth,
        taps,
        op.group,
        w.shape[1],
        windows,
        one,
        other,
        cast(last(total, channel), dtype),
        tuple(index(axis) for axis in (image, channel, *spatial)),
    )


@rule("Conv")
def conv(k: Lowering, op: Any, x: Source, w: Source, b: Source | None = None) -> Convolution:
    def last(total: Expr, channel: Axis) -> Expr:
        return total if b is None else apply("add", total, widened(b[channel]))

    if b is not None:
        agree("Conv's bias", b.shape, (w.shape[0],))
    return _convolution(
        k, op, x, w, lambda point: widened(x[point]), lambda point: widened(w[point]), last
    )


@dataclass(frozen=True, slots=True)
class _Phase:
    """The outputs `first`, `first` + `stride` … along an axis, and the taps that reach them.

    These are `tap`, `tap` - `step` …, of elements that lie as far apart as the window's dilation.
    """

    first: int
    stride: int
    tap: int
    step: int
    window: Window


def _phases(
    size: DimLike, output: DimLike, kernel: int, stride: int, dilation: int, begin: int
) -> list[_Phase]:
    """The phases along one axis of a transposed convolution.

    Output o is the sum over the elements i and taps t with i * stride + t * dilation = o + begin.
    """
    found = []
    step = stride // gcd(stride, dilation)
    for first in range(stride):
        taps = [t for t in range(kernel) if (first + begin - t * dilation) % stride == 0]
        count = (output - first + stride - 1) // stride
        last = taps[-1] if taps else 0
        least = (first + begin - last * dilation) // stride
        gap = step * dilation // stride
        reach = count + (max(len(taps), 1) - 1) * gap
        window = Window(size, count, len(taps), 1, gap, -least, reach + least - size)
        found.append(_Phase(first, stride, last, step, window))
    return found


@rule("ConvTranspose")
def transposed(k: Lowering, op: Any, x: Source, w: Source, b: Source | None = None) -> Definition:
    dtype, shape = k.outputs[0]
    kernel = _kernel(op, w)
    rank = x.rank - 2
    agree("ConvTranspose's channels", (x.shape[1], shape[1]), (w.shape[0], w.shape[1] * op.group))
    if b is not None:
        agree("ConvTranspose's bias", b.shape, (shape[1],))
    strides, dilations = op.strides or (1,) * rank, op.dilations or (1,) * rank
    if prod(strides) > _MOST_PHASES:
        raise NotLowered(f"ConvTranspose with strides {list(strides)}")
    adapts = bool(op.output_shape) or op.auto_pad.startswith("SAME")
    if adapts and not all(isinstance(dim, int) for dim in x.shape[2:]):
        raise NotLowered("ConvTranspose whose padding follows from sizes")
    begins = [op._extent(kernel, x.shape[2:], i)[1] for i in range(rank)]  # noqa: SLF001
    lines = [
        _phases(x.shape[2 + i], shape[2 + i], kernel[i], strides[i], dilations[i], begins[i])
        for i in range(rank)
    ]
    image, channel, source, depth = k.axes(4)
    spatial, positions, taps = k.axes(rank), k.axes(rank), k.axes(rank)
    point: tuple[Index, ...] = (image, source, *positions)
    one = widened(x[point])
    total = Ref("sum", one.dtype)
    value = cast(total if b is None else apply("add", total, widened(b[channel])), dtype)
    row: Expr = depth
    column: Expr = channel
    if op.group > 1:
        each = size(w.shape[1])
        column = apply("rem", channel, each)
        row = linear((apply("div", channel, each), x.shape[1] // op.group), (depth, 1))
    parts: list[Nest | Convolution] = []
    for phases in product(*lines):
        places: list[Index] = [row, column]
        for phase, tap in zip(phases, taps, strict=True):
            places.append(linear((phase.tap, 1), (tap, -phase.step)))
        ends = [
            linear((axis, phase.stride), (phase.first, 1))
            for axis, phase in zip(spatial, phases, strict=True)
        ]
        extents = (*shape[:2], *(phase.window.output for phase in phases))
        target = (index(image), index(channel), *ends)
        if not all(phase.window.taps for phase in phases):
            alone = substitute(value, {total: const(0, total.dtype)})
            parts.append(Nest(shape, dtype, (image, channel, *spatial), extents, alone, target))
            continue
        parts.append(
            Convolution(
                shape,
                dtype,
                image,
                channel,
                spatial,
                extents,
                source,
                positions,
                depth,
                taps,
                op.group,
                x.shape[1] // op.group,
                tuple(phase.window for phase in phases),
                one,
                widened(w[tuple(places)]),
                value,
                target,
            )
        )
    return parts[0] if len(parts) == 1 else Pieces(shape, dtype, tuple(parts))


def _of_bytes(
    k: Lowering,
    op: Any,
    x: Source,
    w: Source,
    read_x: Read,
    read_w: Read,
    last: Callable[[Expr, Axis], Expr],
) -> Convolution:
    """The convolution of 8-bit factors less their zero points, of two channels at a time."""
    channels = w.shape[1]
    if channels == 1 or (op.group != 1 and channels % 2 != 0):
        return _convolution(k, op, x, w, read_x, read_w, last)
    c = _convolution(
        k,
        op,
        x,
        w,
        lambda point: pair_along(read_x, channels * op.group, point, 1),
        lambda point: pair_along(read_w, channels, point, 1),
        last,
    )
    return replace(c, channels=ceil_div(channels, 2), grow="dot2")


@rule("ConvInteger")
def convolve_integers(
    k: Lowering,
    op: Any,
    x: Source,
    w: Source,
    x_zero: Source | None = None,
    w_zero: Source | None = None,
) -> Convolution:
    def shifted(value: Source, zero: Source | None, point: tuple[Index, ...]) -> Expr:
        found = cast(value[point], INT32)
        if zero is None:
            return found
        if zero.rank > 1:
            raise NotLowered("a zero point of rank 2 or more")
        each = zero.rank == 1 and zero.shape[0] != 1
        if each:
            agree("a zero point for each channel", zero.shape, (w.shape[0],))
        return apply("sub", found, cast(zero[(point[0] if each else 0,) * zero.rank], INT32))

    if x_zero is not None:
        agree("ConvInteger's zero point", x_zero.shape, (1,) * x_zero.rank)
    return _of_bytes(
        k,
        op,
        x,
        w,
        lambda point: shifted(x, x_zero, point),
        lambda point: shifted(w, w_zero, point),
        lambda total, _: total,
    )


@rule("QLinearConv")
def convolve_linear(
    k: Lowering,
    op: Any,
    x: Source,
    x_scale: Source,
    x_zero: Source,
    w: Source,
    w_scale: Source,
    w_zero: Source,
    y_scale: Source,
    y_zero: Source,
    b: Source | None = None,
) -> Convolution:
    dtype = k.outputs[0][0]
    for one in (x_scale, x_zero, y_scale, y_zero):
        agree("QLinearConv's scale", one.shape, (1,) * one.rank)
    if b is not None:
        agree("QLinearConv's bias", b.shape, (w.shape[0],))

    def each(given: Source, channel: Index) -> Expr:
        """The value of a channel, of which there may be one for all."""
        if all(dim == 1 for dim in given.shape):
            return given[(0,) * given.rank]
        agree("QLinearConv's scale for each channel", given.shape, (w.shape[0],))
        return given[channel]

    def read_x(point: tuple[Index, ...]) -> Expr:
        zero = cast(x_zero[(0,) * x_zero.rank], INT32)
        return apply("sub", cast(x[point], INT32), zero)

    def read_w(point: tuple[Index, ...]) -> Expr:
        return apply("sub", cast(w[point], INT32), cast(each(w_zero, point[0]), INT32))

    def last(total: Expr, channel: Axis) -> Expr:
        if b is not None:
            total = apply("add", total, b[channel])
        scale = apply("mul", cast(x_scale[(0,) * x_scale.rank], FLOAT), each(w_scale, channel))
        factor = apply("div", scale, cast(y_scale[(0,) * y_scale.rank], FLOAT))
        return requantized(total, factor, y_zero[(0,) * y_zero.rank], dtype)

    return _of_bytes(k, op, x, w, read_x, read_w, last)
