"""Convolutions."""

from __future__ import annotations

import math
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from sardonyx.dims import known_equal
from sardonyx.dtypes import INT8, INT32, UINT8
from sardonyx.errors import InferenceError, UnsupportedError
from sardonyx.ops import types
from sardonyx.ops.fact import Fact
from sardonyx.ops.numeric import widen
from sardonyx.ops.operator import Operator
from sardonyx.ops.schema import Input, Output, past
from sardonyx.ops.window_gradients import kernel_of, padding, spread, weight_gradient
from sardonyx.ops.windows import Windows, check_bytes, spatial, trailing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sardonyx.ir.tensor import Array
    from sardonyx.ir.types import DimLike, Shape
    from sardonyx.ir.value import Value
    from sardonyx.ops.operator import Values
    from sardonyx.ops.windows import Axis
    from sardonyx.ops.writer import Writer

_COLUMN_BYTES = 8 << 20


class Convolution(Operator):
    """What the convolutions share: attributes and the output's shape."""

    auto_pad: str = "NOTSET"
    dilations: tuple[int, ...] | None = None
    group: int = 1
    kernel_shape: tuple[int, ...] | None = None
    pads: tuple[int, ...] | None = None
    strides: tuple[int, ...] | None = None

    def output_shape_of(self, X: Shape | None, W: Shape | None) -> Shape | None:
        """[N, M, D1, ...] for X [N, C, D1, ...] and W [M, C / group, k1, ...]."""
        rank = _rank(self.op_type, X, W)
        if rank is None:
            return None
        X = X or (None,) * rank
        W = W or (None,) * rank
        _check_group(self.op_type, self.group, X[1], W[1], W[0])
        kernel = _kernel(self.op_type, self.kernel_shape, W)
        windows = self._windows(kernel)
        return (X[0], W[0], *windows.output(self.op_type, X[2:]))

    def _windows(self, kernel: Sequence[DimLike]) -> Windows:
        return Windows.of(
            self.op_type, kernel, self.strides, self.dilations, self.pads, self.auto_pad
        )

    def convolve(self, X: Array, W: Array) -> Array:
        """The convolution of X with W, both of one type that NumPy multiplies."""
        shape = self.output_shape_of(X.shape, W.shape)
        assert shape is not None
        axes = self._windows(W.shape[2:]).axes(self.op_type, X.shape[2:])
        return convolve(X, W, axes, self.group)


class Conv(Convolution, since=22):
    """Y = X convolved with W (cross-correlation), plus B per output channel."""

    X = Input("T", "[N, C, D1, ...].")
    W = Input("T", "[M, C / group, k1, ...].")
    B = Input("T", "[M].", optional=True)
    Y = Output("T", "[N, M, D1', ...].")
    T = types.FLOATS_BFLOAT16
    history = past(11, T=types.FLOATS), past(1)

    def infer(self, X: Fact, W: Fact, B: Fact | None = None) -> Fact:
        shape = self.output_shape_of(X.shape, W.shape)
        check_bias(self.op_type, B, None if shape is None else shape[1])
        return Fact.tensor(X.dtype, shape)

    def reference(self, X: Array, W: Array, B: Array | None = None) -> Array:
        self.output_shape_of(X.shape, W.shape)
        check_bias(self.op_type, None if B is None else Fact.constant(B), W.shape[0])
        with np.errstate(all="ignore"):
            return _biased(self.convolve(widen(X), widen(W)), B).astype(X.dtype, copy=False)

    def gradient(self, op: Writer, grads: Values, inputs: Values, outputs: Values) -> Values:
        (dy,), (x, w, b) = grads, inputs
        windows = self._windows(kernel_of(op, w))
        begins, ends = padding(op, windows, x)
        return [
            spread(op, dy, w, windows, self.group, x),
            weight_gradient(op, x, dy, w, windows, [*begins, *ends], self.group),
            None if b is None else op.ReduceSum(dy, _but_channels(op, dy), keepdims=0),
        ]


class ConvInteger(Convolution, since=10):
    """The convolution of x - x_zero_point with w - w_zero_point in INT32, which wraps around."""

    x = Input("T1", "[N, C, D1, ...].")
    w = Input("T2", "[M, C / group, k1, ...].")
    x_zero_point = Input("T1", "A scalar.", optional=True)
    w_zero_point = Input("T2", "A scalar, or [M].", optional=True)
    y = Output("T3")
    T1, T2, T3 = (INT8, UINT8), (INT8, UINT8), (INT32,)

    def infer(
        self, x: Fact, w: Fact, x_zero_point: Fact | None = None, w_zero_point: Fact | None = None
    ) -> Fact:
        return Fact.tensor(INT32, self.output_shape_of(x.shape, w.shape))

    def reference(
        self,
        x: Array,
        w: Array,
        x_zero_point: Array | None = None,
        w_zero_point: Array | None = None,
    ) -> Array:
        self.output_shape_of(x.shape, w.shape)
        # float64 holds the sums exactly: 2^16 * 2^37 taps = 2^53
        X, W = x.astype(np.float64), w.astype(np.float64)
        if x_zero_point is not None:
            if x_zero_point.size != 1:
                raise InferenceError(
                    f"ConvInteger: x_zero_point must be one value, its shape is "
                    f"{x_zero_point.shape}"
                )
            X -= float(x_zero_point.reshape(()))
        if w_zero_point is not None:
            if w_zero_point.size not in {1, W.shape[0]}:
                raise InferenceError(
                    f"ConvInteger: w_zero_point has {w_zero_point.size} values, "
                    f"w has {W.shape[0]} output channels"
                )
            W -= w_zero_point.astype(np.float64).reshape(-1, *(1,) * (W.ndim - 1))
        return self.convolve(X, W).astype(np.int64).astype(np.int32)


class ConvTranspose(Operator, since=22):
    """The gradient of a convolution with respect to its input, plus B per output channel.

    `output_shape` gives the spatial sizes and makes the padding follow from them.
    """

    X = Input("T", "[N, C, D1, ...].")
    W = Input("T", "[C, M / group, k1, ...].")
    B = Input("T", "[M].", optional=True)
    Y = Output("T", "[N, M, D1', ...].")
    T = types.FLOATS_BFLOAT16
    auto_pad: str = "NOTSET"
    dilations: tuple[int, ...] | None = None
    group: int = 1
    kernel_shape: tuple[int, ...] | None = None
    output_padding: tuple[int, ...] | None = None
    output_shape: tuple[int, ...] | None = None
    pads: tuple[int, ...] | None = None
    strides: tuple[int, ...] | None = None
    history = past(11, T=types.FLOATS), past(1)

    def infer(self, X: Fact, W: Fact, B: Fact | None = None) -> Fact:
        rank = _rank(self.op_type, X.shape, W.shape)
        if rank is None:
            return Fact.tensor(X.dtype)
        x = X.shape or (None,) * rank
        w = W.shape or (None,) * rank
        _check_group(self.op_type, self.group, x[1], None, None)
        _check_equal(self.op_type, "channels of X", x[1], "of W", w[0])
        channels = None if w[1] is None else w[1] * self.group
        check_bias(self.op_type, B, channels)
        kernel = _kernel(self.op_type, self.kernel_shape, w)
        sizes = [self._extent(kernel, x[2:], index)[0] for index in range(rank - 2)]
        return Fact.tensor(X.dtype, (x[0], channels, *sizes))

    def _extent(
        self, kernel: Sequence[DimLike], sizes: Sequence[DimLike], index: int
    ) -> tuple[DimLike, int]:
        """The output's size along spatial axis `index`, and the padding at its begin."""
        rank = len(kernel)
        windows = Windows.of(
            self.op_type, kernel, self.strides, self.dilations, self.pads, self.auto_pad
        )
        extra = spatial(self.op_type, "output_padding", self.output_padding, rank, 0)[index]
        stride, dilation = windows.strides[index], windows.dilations[index]
        begin, end = windows.begins[index], windows.ends[index]
        k, size = kernel[index], sizes[index]
        total: DimLike = None
        if k is not None and size is not None:
            total = stride * (size - 1) + extra + (k - 1) * dilation + 1
        wanted: DimLike = None
        if self.output_shape:
            given = spatial(self.op_type, "output_shape", self.output_shape, None, 0)
            if len(given) not in {rank, rank + 2}:
                raise InferenceError(
                    f"ConvTranspose: output_shape has {len(given)} values for {rank} spatial axes"
                )
            wanted = given[len(given) - rank + index]
        elif windows.auto_pad.startswith("SAME") and size is not None:
            wanted = size * stride
        elif not windows.auto_pad.startswith("SAME"):
            result = None if total is None else total - begin - end
            if isinstance(result, int) and result < 0:
                raise InferenceError(
                    f"ConvTranspose: pads leave {result} elements of spatial axis {index}"
                )
            return result, begin
        if not isinstance(total, int) or not isinstance(wanted, int):
            return wanted, 0
        padding = max(total - wanted, 0)
        half = padding // 2
        return wanted, half if windows.auto_pad == "SAME_UPPER" else padding - half

    def reference(self, X: Array, W: Array, B: Array | None = None) -> Array:
        shape = self.infer(
            Fact.constant(X), Fact.constant(W), None if B is None else Fact.constant(B)
        ).shape
        assert shape is not None
        sizes = tuple(int(size) for size in shape)  # type: ignore[arg-type]
        x, w = widen(X), widen(W)
        check_bytes(sizes, x.itemsize)
        begins = [self._extent(W.shape[2:], X.shape[2:], index)[1] for index in range(X.ndim - 2)]
        with np.errstate(all="ignore"):
            result = self._scatter(x, w, sizes, begins)
            return _biased(result, B).astype(X.dtype, copy=False)

    def _scatter(self, X: Array, W: Array, shape: tuple[int, ...], begins: list[int]) -> Array:
        rank, group = X.ndim - 2, self.group
        strides = spatial(self.op_type, "strides", self.strides, rank, 1)
        dilations = spatial(self.op_type, "dilations", self.dilations, rank, 1)
        Y = np.zeros(shape, X.dtype)
        if not (X.size and W.size and Y.size):
            return Y
        out = Y.reshape(shape[0], group, W.shape[1], *shape[2:])
        x = X.reshape(X.shape[0], group, X.shape[1] // group, -1)
        w = W.reshape(group, W.shape[0] // group, W.shape[1], -1)
        transposed = np.ascontiguousarray(w.transpose(3, 0, 2, 1))
        for tap, place in enumerate(product(*(range(k) for k in W.shape[2:]))):
            pairs = [
                _scattered(X.shape[2 + i], shape[2 + i], strides[i], t * dilations[i] - begins[i])
                for i, t in enumerate(place)
            ]
            if any(source.stop <= source.start for source, _ in pairs):
                continue
            part = np.matmul(transposed[tap], x).reshape(*out.shape[:3], *X.shape[2:])
            into = trailing(target for _, target in pairs)
            out[into] += part[trailing(source for source, _ in pairs)]
        return Y

    def gradient(self, op: Writer, grads: Values, inputs: Values, outputs: Values) -> Values:
        (dy,), (x, w, b) = grads, inputs
        kernel = kernel_of(op, w)
        windows, pads = self._backwards(kernel, op.shape(x)[2:], op.shape(dy)[2:])
        options = {"strides": list(windows.strides), "dilations": list(windows.dilations)}
        dx = op.Conv(dy, w, pads=pads, group=self.group, **options)
        if op.shape(dx)[2:] != op.shape(x)[2:]:
            axes = range(2, op.rank(x))
            starts = np.zeros(len(axes), np.int64)
            dx = op.Slice(dx, starts, op.size(x, *axes), np.array(axes, np.int64))
        return [
            op.reshaped(dx, x),
            weight_gradient(op, dy, x, w, windows, pads, self.group),
            None if b is None else op.ReduceSum(dy, _but_channels(op, dy), keepdims=0),
        ]

    def _backwards(
        self, kernel: Sequence[int], sizes: Sequence[DimLike], outputs: Sequence[DimLike]
    ) -> tuple[Windows, list[int]]:
        """The windows over the output, and the pads with which they are as many as the inputs."""
        windows = Windows.of(self.op_type, kernel, self.strides, self.dilations, self.pads)
        begins, ends = list(windows.begins), list(windows.ends)
        for index, (size, output) in enumerate(zip(sizes, outputs, strict=True)):
            if isinstance(size, int) and isinstance(output, int):
                extent = (kernel[index] - 1) * windows.dilations[index] + 1
                whole = (size - 1) * windows.strides[index] + extent
                begins[index] = self._extent(kernel, sizes, index)[1]
                ends[index] = max(whole - begins[index] - output, 0)
            elif self.output_shape or self.auto_pad.startswith("SAME"):
                raise UnsupportedError(
                    "the gradient of ConvTranspose with output_shape or auto_pad needs the spatial "
                    "sizes",
                    hint="declare the shape, or give pads",
                )
        return windows, [*begins, *ends]


def _scattered(size: int, output: int, stride: int, offset: int) -> tuple[slice, slice]:
    """Which of `size` inputs land in `output` elements at i * stride + offset, and where."""
    low = max(0, -(offset // stride))
    high = min(size, (output - 1 - offset) // stride + 1)
    if high <= low:
        return slice(0, 0), slice(0, 0)
    first, last = low * stride + offset, (high - 1) * stride + offset
    return slice(low, high), slice(first, last + 1, stride)


def convolve(X: Array, W: Array, axes: Sequence[Axis], group: int) -> Array:
    """Cross-correlate X [N, C, ...] with W [M, C / group, ...] over `axes`."""
    sizes = tuple(axis.output for axis in axes)
    shape = (X.shape[0], W.shape[0], *sizes)
    check_bytes(shape, X.itemsize)
    if not (X.size and W.size and math.prod(shape)):
        return np.zeros(shape, X.dtype)
    channels = X.shape[1] // group
    x = X.reshape(X.shape[0], group, channels, *X.shape[2:])
    w = W.reshape(group, W.shape[0] // group, -1)
    if all(axis.kernel == 1 and axis.begin == axis.end == 0 for axis in axes):
        picked = x[trailing(slice(None, None, axis.stride) for axis in axes)]
        flat = picked.reshape(X.shape[0], group, channels, -1)
        return np.asarray(np.matmul(w, flat)).reshape(shape)
    if channels == 1 and w.shape[1] == 1:
        return _depthwise(X, W, axes, shape)
    return _by_columns(x, w, axes, shape)


def _depthwise(X: Array, W: Array, axes: Sequence[Axis], shape: tuple[int, ...]) -> Array:
    Y = np.zeros(shape, X.dtype)
    weights = W.reshape(W.shape[0], -1)
    spread = (-1, *(1,) * len(axes))
    for tap, place in enumerate(product(*(range(axis.kernel) for axis in axes))):
        pairs = [axis.overlap(t, 0, axis.output) for axis, t in zip(axes, place, strict=True)]
        source = X[trailing(inputs for _, inputs in pairs)]
        if source.size:
            into = trailing(windows for windows, _ in pairs)
            Y[into] += source * weights[:, tap].reshape(spread)
    return Y


def _by_columns(x: Array, w: Array, axes: Sequence[Axis], shape: tuple[int, ...]) -> Array:
    """im2col and one matrix product per block of rows of the first spatial axis."""
    batch, group, channels = x.shape[:3]
    places = list(product(*(range(axis.kernel) for axis in axes)))
    inner = tuple(axis.output for axis in axes[1:])
    row = group * channels * len(places) * math.prod(inner) * x.itemsize
    rows = max(1, min(axes[0].output, _COLUMN_BYTES // row))
    check_bytes((rows, row), 1)
    Y = np.empty(shape, x.dtype)
    out = Y.reshape(batch, group, w.shape[1], *shape[2:])
    for start in range(0, axes[0].output, rows):
        stop = min(start + rows, axes[0].output)
        columns = np.empty((group, channels, len(places), stop - start, *inner), x.dtype)
        for n in range(batch):
            for tap, place in enumerate(places):
                _fill(columns[:, :, tap], x[n], axes, place, start, stop)
            block = np.matmul(w, columns.reshape(group, channels * len(places), -1))
            out[n, :, :, start:stop] = block.reshape(group, w.shape[1], stop - start, *inner)
    return Y


def _fill(
    column: Array, x: Array, axes: Sequence[Axis], place: Sequence[int], start: int, stop: int
) -> None:
    pairs = [
        axis.overlap(tap, start if index == 0 else 0, stop if index == 0 else axis.output)
        for index, (axis, tap) in enumerate(zip(axes, place, strict=True))
    ]
    into = trailing(windows for windows, _ in pairs)
    if column[into].size < column.size:
        column[...] = 0
    column[into] = x[trailing(inputs for _, inputs in pairs)]


def _biased(Y: Array, B: Array | None) -> Array:
    if B is not None:
        Y += widen(B).reshape(-1, *(1,) * (Y.ndim - 2))
    return Y


def _rank(op_type: str, X: Shape | None, W: Shape | None) -> int | None:
    ranks = {len(shape) for shape in (X, W) if shape is not None}
    if len(ranks) > 1:
        raise InferenceError(
            f"{op_type}: X and W need one rank, they have {' and '.join(map(str, sorted(ranks)))}"
        )
    rank = ranks.pop() if ranks else None
    if rank is not None and rank < 3:
        raise InferenceError(
            f"{op_type}: the input is [N, C, D1, ...], rank 3 or more, got rank {rank}"
        )
    return rank


def _kernel(op_type: str, kernel_shape: Sequence[int] | None, W: Shape) -> tuple[DimLike, ...]:
    if not kernel_shape:
        return W[2:]
    given = spatial(op_type, "kernel_shape", kernel_shape, len(W) - 2, 1)
    for size, actual in zip(given, W[2:], strict=True):
        _check_equal(op_type, "kernel_shape", size, "W's size", actual)
    return given


def _check_group(
    op_type: str, group: int, channels: DimLike, per_group: DimLike, outputs: DimLike
) -> None:
    if group < 1:
        raise InferenceError(f"{op_type}: group is {group}, it must be at least 1")
    for name, count in (("input", channels), ("output", outputs)):
        if isinstance(count, int) and count % group:
            raise InferenceError(
                f"{op_type}: {count} {name} channels do not divide into {group} groups"
            )
    if per_group is not None:
        _check_equal(op_type, "channels of X", channels, "group * W.shape[1]", per_group * group)


def _check_equal(op_type: str, what: str, a: DimLike, other: str, b: DimLike) -> None:
    if a is not None and b is not None and known_equal(a, b) is False:
        raise InferenceError(f"{op_type}: {what} ({a}) must equal {other} ({b})")


def check_bias(op_type: str, B: Fact | None, channels: DimLike) -> None:
    """Raise `InferenceError` where a bias is not one value for each of `channels`."""
    if B is None or B.shape is None:
        return
    if len(B.shape) != 1:
        raise InferenceError(f"{op_type}: B must have rank 1, it has rank {len(B.shape)}")
    _check_equal(op_type, "length of B", B.shape[0], "the output channels", channels)


def _but_channels(op: Writer, value: Value) -> list[int]:
    return [0, *range(2, op.rank(value))]
