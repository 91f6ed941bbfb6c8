"""Sliding windows over spatial axes: what convolutions and pools share.

An axis of `size` elements, padded by `begin` and `end`, holds windows of `kernel` taps that lie
`dilation` apart; a window starts every `stride` elements.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sardonyx.dims import ceil_div, known_less, maximum, minimum
from sardonyx.errors import InferenceError, quote
from sardonyx.limits import active, exceeded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from sardonyx.ir.tensor import Array
    from sardonyx.ir.types import DimLike, Shape

__all__ = ["Axis", "Windows", "check_bytes", "output_dim", "slide", "spatial", "trailing"]

_LARGEST = 1 << 48
_AUTO_PADS = ("NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID")


@dataclass(frozen=True, slots=True)
class Axis:
    """The windows along one axis of known size; `output` counts them."""

    size: int
    kernel: int
    stride: int
    dilation: int
    begin: int
    end: int
    output: int

    def overlap(self, tap: int, start: int, stop: int) -> tuple[slice, slice]:
        """Where `tap` of windows [start, stop) meets the input.

        Two slices: of the windows, counted from `start`, and of the input.
        """
        offset = tap * self.dilation - self.begin
        low = max(start, -(offset // self.stride))
        high = min(stop, (self.size - 1 - offset) // self.stride + 1)
        if high <= low:
            return slice(0, 0), slice(0, 0)
        first = low * self.stride + offset
        last = (high - 1) * self.stride + offset
        return slice(low - start, high - start), slice(first, last + 1, self.stride)

    def counts(self, include_pad: bool) -> Array:
        """How many taps of each window lie inside the input, or inside it and its padding."""
        starts = np.arange(self.output, dtype=np.int64) * self.stride - self.begin
        low, high = (-self.begin, self.size + self.end) if include_pad else (0, self.size)
        first = np.maximum(-((starts - low) // self.dilation), 0)
        last = np.minimum((high - 1 - starts) // self.dilation, self.kernel - 1)
        return np.asarray(np.maximum(last - first + 1, 0))


@dataclass(frozen=True, slots=True)
class Windows:
    """What the attributes of a convolution or pool say, checked, for `rank` spatial axes.

    Raises `InferenceError` for lists of the wrong length, strides, dilations or kernels below 1,
    negative pads, and an unknown `auto_pad`.
    """

    kernel: tuple[DimLike, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    begins: tuple[int, ...]
    ends: tuple[int, ...]
    auto_pad: str = "NOTSET"
    ceil_mode: bool = False

    @staticmethod
    def of(
        op_type: str,
        kernel: Sequence[DimLike],
        strides: Sequence[int] | None,
        dilations: Sequence[int] | None,
        pads: Sequence[int] | None,
        auto_pad: str = "NOTSET",
        ceil_mode: int = 0,
    ) -> Windows:
        """The windows that these attributes describe; None is the standard's default."""
        rank = len(kernel)
        if auto_pad not in _AUTO_PADS:
            raise InferenceError(
                f"{op_type}: auto_pad {quote(auto_pad)} is not one of {', '.join(_AUTO_PADS)}"
            )
        spatial(op_type, "kernel_shape", [k for k in kernel if isinstance(k, int)], None, 1)
        steps = spatial(op_type, "strides", strides, rank, 1)
        gaps = spatial(op_type, "dilations", dilations, rank, 1)
        padding = spatial(op_type, "pads", pads, 2 * rank, 0)
        if auto_pad != "NOTSET":
            padding = (0,) * (2 * rank)
        return Windows(
            tuple(kernel), steps, gaps, padding[:rank], padding[rank:], auto_pad, bool(ceil_mode)
        )

    def output(self, op_type: str, sizes: Sequence[DimLike]) -> Shape:
        """The number of windows along each axis of spatial `sizes`."""
        return tuple(output_dim(op_type, self, index, size) for index, size in enumerate(sizes))

    def axes(self, op_type: str, sizes: Sequence[int]) -> list[Axis]:
        """The windows along each axis of known `sizes`, automatic padding worked out."""
        found = []
        for index, size in enumerate(sizes):
            output = output_dim(op_type, self, index, size)
            kernel = self.kernel[index]
            assert isinstance(output, int)
            assert isinstance(kernel, int)
            stride, dilation = self.strides[index], self.dilations[index]
            begin, end = self.begins[index], self.ends[index]
            if self.auto_pad.startswith("SAME"):
                extent = (kernel - 1) * dilation + 1
                total = max((output - 1) * stride + extent - size, 0)
                begin = total // 2 if self.auto_pad == "SAME_UPPER" else total - total // 2
                end = total - begin
            found.append(Axis(size, kernel, stride, dilation, begin, end, output))
        return found


def spatial(
    op_type: str, name: str, values: Sequence[int] | None, count: int | None, least: int
) -> tuple[int, ...]:
    """The attribute `name`, or `count` times `least` where it is absent or empty; checked."""
    if not values:
        return (least,) * (count or 0)
    if count is not None and len(values) != count:
        raise InferenceError(
            f"{op_type}: {name} has {len(values)} values, the input's rank needs {count}"
        )
    if min(values) < least:
        raise InferenceError(f"{op_type}: {name} has {min(values)}, the least allowed is {least}")
    if max(values) > _LARGEST:
        raise InferenceError(f"{op_type}: {name} has {max(values)}, more than any axis can have")
    return tuple(values)


def output_dim(op_type: str, windows: Windows, index: int, size: DimLike) -> DimLike:
    """How many windows fit along axis `index` of `size`; None where that is not known.

    With `ceil_mode` the last window may be cut off at the end, but must start before the
    padding at the end.
    """
    stride, kernel = windows.strides[index], windows.kernel[index]
    if size is None:
        return None
    if windows.auto_pad.startswith("SAME"):
        return ceil_div(size, stride)
    if kernel is None:
        return None
    extent = (kernel - 1) * windows.dilations[index] + 1
    start = size + windows.begins[index]
    room = start + windows.ends[index] - extent
    if size != 0 and known_less(room, 0):
        raise InferenceError(
            f"{op_type}: a kernel that spans {extent} elements does not fit spatial axis {index}, "
            f"{start + windows.ends[index]} elements with padding"
        )
    if isinstance(room, int) and room < 0:
        return 0
    if windows.ceil_mode:
        return minimum(ceil_div(room, stride) + 1, maximum(ceil_div(start, stride), 0))
    return room // stride + 1


def trailing(parts: Iterable[slice]) -> tuple[Any, ...]:
    """The index that applies `parts` to the last dimensions."""
    return (..., *parts)


def check_bytes(shape: Sequence[int], itemsize: int) -> None:
    """Raise `LimitError` before an array of `shape` is made that one value may not have."""
    needed = math.prod(shape) * itemsize
    # NumPy multiplies all sizes but those that are 0
    addressed = math.prod(size for size in shape if size) * itemsize
    if needed > active().tensor_bytes or addressed > np.iinfo(np.int64).max:
        raise exceeded("tensor_bytes", active().tensor_bytes, needed or addressed)


def slide(
    array: Array, position: int, axis: Axis, function: Callable[..., Any], start: float
) -> Array:
    """Reduce each window along dimension `position` of `array` with the ufunc `function`.

    `start` is what an empty window gives and the function leaves alone.
    """
    shape = list(array.shape)
    shape[position] = axis.output
    check_bytes(shape, array.itemsize)
    result = np.full(shape, start, array.dtype)
    moved = np.moveaxis(array, position, 0)
    into = np.moveaxis(result, position, 0)
    first = max(0, -(((axis.output - 1) * axis.stride - axis.begin) // axis.dilation))
    last = min(axis.kernel - 1, (axis.size - 1 + axis.begin) // axis.dilation)
    if last - first < axis.output:
        for tap in range(first, last + 1):
            windows, inputs = axis.overlap(tap, 0, axis.output)
            function(into[windows], moved[inputs], out=into[windows])
        return result
    for index in range(axis.output):
        low = index * axis.stride - axis.begin
        skip = max(0, -(low // axis.dilation))
        high = low + (axis.kernel - 1) * axis.dilation + 1
        inside = moved[low + skip * axis.dilation : max(high, 0) : axis.dilation]
        if len(inside):
            into[index] = function.reduce(inside, axis=0)  # type: ignore[attr-defined]
    return result
