"""Pooling."""

from __future__ import annotations

import math
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from sardonyx.dtypes import INT8, INT64, UINT8
from sardonyx.errors import InferenceError, UnsupportedError
from sardonyx.ir.node import AttributeType
from sardonyx.ops import types
from sardonyx.ops.fact import Fact
from sardonyx.ops.numeric import widen
from sardonyx.ops.operator import Operator
from sardonyx.ops.schema import ABSENT, AttributeSpec, Input, Output, attribute, past
from sardonyx.ops.window_gradients import averaged, by_taps, pooled
from sardonyx.ops.windows import Windows, check_bytes, slide, trailing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sardonyx.ir.tensor import Array
    from sardonyx.ir.types import Shape
    from sardonyx.ir.value import Value
    from sardonyx.ops.operator import Values
    from sardonyx.ops.windows import Axis
    from sardonyx.ops.writer import Writer

_MOST_TAPS = 1 << 20


class _Pool(Operator):
    """What the pools share: attributes and the output's shape."""

    kernel_shape: tuple[int, ...] = attribute()
    auto_pad: str = "NOTSET"
    ceil_mode: int = 0
    dilations: tuple[int, ...] | None = None
    pads: tuple[int, ...] | None = None
    strides: tuple[int, ...] | None = None

    def infer(self, X: Fact) -> Fact | tuple[Fact, ...]:
        return Fact.tensor(X.dtype, self.output_shape_of(X.shape))

    def output_shape_of(self, X: Shape | None) -> Shape | None:
        """[N, C, D1', ...] for X [N, C, D1, ...]."""
        rank = 2 + len(self.kernel_shape or ()) if X is None else len(X)
        if self.kernel_shape and rank != 2 + len(self.kernel_shape):
            raise InferenceError(
                f"{self.op_type}: kernel_shape has {len(self.kernel_shape)} values, "
                f"an input of rank {rank} needs {rank - 2}"
            )
        if not self.kernel_shape:
            raise InferenceError(f"{self.op_type}: kernel_shape is empty")
        X = X or (None,) * rank
        return (X[0], X[1], *self._windows().output(self.op_type, X[2:]))

    def _windows(self) -> Windows:
        return Windows.of(
            self.op_type,
            self.kernel_shape,
            self.strides,
            self.dilations,
            self.pads,
            self.auto_pad,
            self.ceil_mode,
        )

    def axes_of(self, X: Array) -> list[Axis]:
        """The windows along each spatial axis of X."""
        self.output_shape_of(X.shape)
        return self._windows().axes(self.op_type, X.shape[2:])


class MaxPool(_Pool, since=22):
    """The greatest element of each window, and where it is in X counted flat.

    Padding is never the greatest. `storage_order` 1 counts spatial positions column by column.
    Of equal elements the first in row-major order counts; NaN is greater than any number.
    """

    X = Input("T", "[N, C, D1, ...].")
    Y = Output("T", "[N, C, D1', ...].")
    Indices = Output("I", "Like Y.", optional=True)
    T, I = (*types.FLOATS_BFLOAT16, INT8, UINT8), (INT64,)  # noqa: E741
    storage_order: int = 0
    history = (
        past(12, T=(*types.FLOATS, INT8, UINT8)),
        past(11, T=types.FLOATS),
        past(10),
        past(8, ceil_mode=ABSENT, dilations=ABSENT),
        past(1, Indices=ABSENT, storage_order=ABSENT),
    )

    def infer(self, X: Fact) -> tuple[Fact, ...]:
        shape = self.output_shape_of(X.shape)
        return Fact.tensor(X.dtype, shape), Fact.tensor(INT64, shape)

    def reference(self, X: Array) -> Array | tuple[Array, Array]:
        axes = self.axes_of(X)
        wide = widen(X)
        least = -np.inf if wide.dtype.kind == "f" else float(np.iinfo(wide.dtype).min)
        if self.n_outputs > 1:
            values, indices = self._with_indices(wide, axes, least)
            return values.astype(X.dtype, copy=False), indices
        for position, axis in enumerate(axes, 2):
            wide = slide(wide, position, axis, np.maximum, least)
        return wide.astype(X.dtype, copy=False)

    def _with_indices(self, X: Array, axes: Sequence[Axis], least: float) -> tuple[Array, Array]:
        shape = (*X.shape[:2], *(axis.output for axis in axes))
        check_bytes(shape, 8)
        if math.prod(axis.kernel for axis in axes) > _MOST_TAPS:
            raise UnsupportedError(f"MaxPool with Indices takes kernels of up to {_MOST_TAPS} taps")
        best = np.full(shape, least, X.dtype)
        where = np.full(shape, -1, np.int64)
        positions = self._positions(X.shape)
        for place in product(*(range(axis.kernel) for axis in axes)):
            pairs = [axis.overlap(t, 0, axis.output) for axis, t in zip(axes, place, strict=True)]
            into = trailing(windows for windows, _ in pairs)
            source = trailing(inputs for _, inputs in pairs)
            value, held, spot = X[source], best[into], where[into]
            better = (value > held) | (spot < 0) | ((value != value) & (held == held))
            np.copyto(held, value, where=better)
            np.copyto(spot, np.broadcast_to(positions[source], spot.shape), where=better)
        return best, np.maximum(where, 0)

    def _positions(self, shape: tuple[int, ...]) -> Array:
        inner = math.prod(shape[2:])
        order = "F" if self.storage_order else "C"
        places = np.arange(inner, dtype=np.int64).reshape(shape[2:], order=order)  # type: ignore[call-overload]
        bases = np.arange(shape[0] * shape[1], dtype=np.int64).reshape(shape[:2]) * inner
        positions: Array = bases.reshape(*shape[:2], *(1,) * places.ndim) + places
        return positions

    def gradient(self, op: Writer, grads: Values, inputs: Values, outputs: Values) -> Values:
        (dy, *_), (x,) = grads, inputs
        windows = self._windows()
        overlap = any(
            isinstance(size, int) and (size - 1) * dilation + 1 > stride
            for size, dilation, stride in zip(
                windows.kernel, windows.dilations, windows.strides, strict=True
            )
        )
        if dy is None:
            return [None]
        if overlap and not op.scatters_add:
            return [by_taps(op, dy, windows, x)]
        where = self._where(op, x, outputs[0])
        # several windows may have one greatest element
        combine = {"reduction": "add"} if overlap else {}
        whole = op.zeros(op.Reshape(op.Size(x), [1]), x)
        flat = op.ScatterElements(
            whole, op.Reshape(where, [-1]), op.Reshape(dy, [-1]), axis=0, **combine
        )
        return [op.reshaped(flat, x)]

    def _where(self, op: Writer, x: Value, y: Value) -> Value:
        """Where each element of `y` is in `x`, counted row by row."""
        if not self.storage_order:
            return op.with_output(y, 1, "indices")
        names = ("kernel_shape", "auto_pad", "ceil_mode", "dilations", "pads", "strides")
        again: tuple[Value, Value] = op.MaxPool(
            x, _outputs=2, **{name: getattr(self, name) for name in names}
        )
        return again[1]


class AveragePool(_Pool, since=22):
    """The mean of each window: of its elements inside X, or inside X and its padding."""

    X = Input("T", "[N, C, D1, ...].")
    Y = Output("T", "[N, C, D1', ...].")
    T = types.FLOATS_BFLOAT16
    count_include_pad: int = 0
    history = (
        past(19, T=types.FLOATS),
        past(11, dilations=ABSENT),
        past(10),
        past(7, ceil_mode=ABSENT),
        past(1, count_include_pad=ABSENT),
    )

    def reference(self, X: Array) -> Array:
        axes = self.axes_of(X)
        total = widen(X)
        with np.errstate(all="ignore"):
            for position, axis in enumerate(axes, 2):
                total = slide(total, position, axis, np.add, 0)
            for position, axis in enumerate(axes, 2):
                counts = axis.counts(bool(self.count_include_pad)).astype(total.dtype)
                total /= counts.reshape(-1, *(1,) * (X.ndim - position - 1))
            return total.astype(X.dtype, copy=False)

    def gradient(self, op: Writer, grads: Values, inputs: Values, outputs: Values) -> Values:
        (dy,), (x,) = grads, inputs
        windows = self._windows()
        share = averaged(op, dy, windows, x, bool(self.count_include_pad))
        return [pooled(op, share, windows, x)]


class LpPool(_Pool, since=22):
    """The p-norm of each window."""

    X = Input("T", "[N, C, D1, ...].")
    Y = Output("T", "[N, C, D1', ...].")
    T = types.FLOATS_BFLOAT16
    p: int = 2
    history = (
        past(18, T=types.FLOATS),
        past(11, ceil_mode=ABSENT, dilations=ABSENT),
        past(2),
        past(
            1,
            p=AttributeSpec(AttributeType.FLOAT, 2.0),
            kernel_shape=AttributeSpec(AttributeType.INTS),
        ),
    )

    def reference(self, X: Array) -> Array:
        axes = self.axes_of(X)
        _check_norm(self.op_type, self.p)
        with np.errstate(all="ignore"):
            total = np.abs(widen(X)) ** self.p
            for position, axis in enumerate(axes, 2):
                total = slide(total, position, axis, np.add, 0)
            return np.asarray(total ** (1 / self.p)).astype(X.dtype)

    def gradient(self, op: Writer, grads: Values, inputs: Values, outputs: Values) -> Values:
        (dy,), (x,), (y,) = grads, inputs, outputs
        size = op.Abs(x)
        # dy * (|x| / y)^(p - 1) * sign(x), and 0 where the norm is 0
        zero = op.same(y, 0.0)
        share = op.Where(zero, 0.0, op.Div(dy, _power(op, op.Where(zero, 1.0, y), self.p - 1)))
        slope = op.Mul(_power(op, size, self.p - 1), op.Sign(x))
        return [op.Mul(pooled(op, share, self._windows(), x), slope)]


class _GlobalPool(Operator):
    """A pool over all spatial axes, which keep size 1."""

    def infer(self, X: Fact) -> Fact:
        if X.shape is None:
            return Fact.tensor(X.dtype)
        if len(X.shape) < 2:
            raise InferenceError(
                f"{self.op_type}: X is [N, C, D1, ...], rank 2 or more, got rank {len(X.shape)}"
            )
        return Fact.tensor(X.dtype, (*X.shape[:2], *(1,) * (len(X.shape) - 2)))

    def spatial_axes(self, X: Array) -> tuple[int, ...]:
        """The axes to reduce."""
        self.infer(Fact.constant(X))
        return tuple(range(2, X.ndim))


class GlobalAveragePool(_GlobalPool, since=22):
    """The mean over all spatial axes."""

    X = Input("T", "[N, C, D1, ...].")
    Y = Output("T", "[N, C, 1, ...].")
    T = types.FLOATS_BFLOAT16
    history = (past(1, T=types.FLOATS),)

    def reference(self, X: Array) -> Array:
        axes, wide = self.spatial_axes(X), widen(X)
        with np.errstate(all="ignore"):
            total = wide.sum(axes, keepdims=True) / wide.dtype.type(math.prod(X.shape[2:]))
            return np.asarray(total).astype(X.dtype, copy=False)

    def gradient(self, op: Writer, grads: Values, inputs: Values, outputs: Values) -> Values:
        (dy,), (x,) = grads, inputs
        return [op.expanded(op.Div(dy, op.ratio(x, outputs[0], dy)), x)]


class GlobalMaxPool(_GlobalPool, since=22):
    """The greatest element over all spatial axes."""

    X = Input("T", "[N, C, D1, ...].")
    Y = Output("T", "[N, C, 1, ...].")
    T = types.FLOATS_BFLOAT16
    history = (past(1, T=types.FLOATS),)

    def reference(self, X: Array) -> Array:
        axes, wide = self.spatial_axes(X), widen(X)
        return np.asarray(wide.max(axes, keepdims=True, initial=-np.inf)).astype(X.dtype)

    def gradient(self, op: Writer, grads: Values, inputs: Values, outputs: Values) -> Values:
        (dy,), (x,) = grads, inputs
        mask = op.cast(op.same(x, outputs[0]), op.dtype(x))
        axes = list(range(2, op.rank(x)))
        return [op.Mul(op.Div(dy, op.ReduceSum(mask, axes, keepdims=1) if axes else mask), mask)]


class GlobalLpPool(_GlobalPool, since=22):
    """The p-norm over all spatial axes."""

    X = Input("T", "[N, C, D1, ...].")
    Y = Output("T", "[N, C, 1, ...].")
    T = types.FLOATS_BFLOAT16
    p: int = 2
    history = (
        past(2, T=types.FLOATS),
        past(1, p=AttributeSpec(AttributeType.FLOAT, 2.0)),
    )

    def reference(self, X: Array) -> Array:
        axes = self.spatial_axes(X)
        _check_norm(self.op_type, self.p)
        with np.errstate(all="ignore"):
            total = (np.abs(widen(X)) ** self.p).sum(axes, keepdims=True)
            return np.asarray(total ** (1 / self.p)).astype(X.dtype)

    def gradient(self, op: Writer, grads: Values, inputs: Values, outputs: Values) -> Values:
        (dy,), (x,), (y,) = grads, inputs, outputs
        zero = op.same(y, 0.0)
        share = op.Where(zero, 0.0, op.Div(dy, _power(op, op.Where(zero, 1.0, y), self.p - 1)))
        return [op.Mul(share, op.Mul(_power(op, op.Abs(x), self.p - 1), op.Sign(x)))]


def _check_norm(op_type: str, p: float) -> None:
    if not p > 0:
        raise InferenceError(f"{op_type}: p is {p}, a norm needs p > 0")


def _power(op: Writer, x: Value, exponent: float) -> Value:
    if exponent == 1:
        return x
    power: Value = op.Pow(x, op.like(exponent, x))
    return power
