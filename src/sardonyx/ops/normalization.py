"""Normalizations, and Dropout."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from sardonyx import dtypes
from sardonyx.dims import known_equal
from sardonyx.dtypes import (
    BFLOAT16,
    DOUBLE,
    FLOAT,
)
from sardonyx.errors import InferenceError, UnsupportedError
from sardonyx.ops import types
from sardonyx.ops.broadcast import broadcast
from sardonyx.ops.fact import Fact
from sardonyx.ops.normalization_gradients import (
    batch_gradient,
    instance_gradient,
    layer_gradient,
    norm_gradient,
    response_gradient,
)
from sardonyx.ops.numeric import widen
from sardonyx.ops.operator import Operator, same_as
from sardonyx.ops.schema import Input, Output, attribute, past

if TYPE_CHECKING:
    from sardonyx.dtypes import DType
    from sardonyx.ir.tensor import Array
    from sardonyx.ir.types import DimLike, Shape
    from sardonyx.ir.value import Value
    from sardonyx.ops.body_builder import BodyBuilder
    from sardonyx.ops.operator import Values
    from sardonyx.ops.writer import Writer


def _check_channels(op_type: str, X: Shape | None, **parameters: Fact | None) -> None:
    """Check that each parameter has shape [C], C the second dimension of X (1 if there is none)."""
    channels: DimLike = None
    if X is not None:
        channels = X[1] if len(X) > 1 else 1
    for name, fact in parameters.items():
        if fact is not None:
            _check_vector(op_type, name, fact, channels)


def _check_vector(op_type: str, name: str, fact: Fact, length: DimLike) -> None:
    if fact.shape is None:
        return
    if len(fact.shape) != 1:
        raise InferenceError(f"{op_type}: {name} must have rank 1, it has rank {len(fact.shape)}")
    size = fact.shape[0]
    if size is not None and length is not None and known_equal(size, length) is False:
        raise InferenceError(f"{op_type}: {name} has {size} values, {length} are needed")


def _normal_axis(op_type: str, axis: int, rank: int) -> int:
    if not -rank <= axis < max(rank, 1):
        raise InferenceError(
            f"{op_type} requires -r <= axis < r, got axis={axis} for data of rank {rank}"
        )
    return axis % max(rank, 1)


def _per_channel(parameter: Array, X: Array) -> Array:
    return widen(parameter).reshape(-1, *(1,) * max(X.ndim - 2, 0))


def _mean(X: Array, axes: tuple[int, ...]) -> Array:
    count = math.prod(X.shape[axis] for axis in axes)
    return np.asarray(X.sum(axes, keepdims=True) / X.dtype.type(count))


def _standardized(X: Array, axes: tuple[int, ...], epsilon: float) -> tuple[Array, Array, Array]:
    """X less its mean over its standard deviation, the mean, and 1 / the deviation."""
    mean = _mean(X, axes)
    centered = X - mean
    inverse = 1 / np.sqrt(_mean(centered * centered, axes) + X.dtype.type(epsilon))
    return centered * inverse, mean, inverse


def standardized(
    op: BodyBuilder, x: Value, axes: Array, epsilon: float
) -> tuple[Value, Value, Value]:
    """What `_standardized` gives, as values."""
    mean = op.ReduceMean(x, axes)
    centered = op.Sub(x, mean)
    square = op.ReduceMean(op.Mul(centered, centered), axes)
    inverse = op.Reciprocal(op.Sqrt(op.Add(square, op.like(epsilon, x))))
    return op.Mul(centered, inverse), mean, inverse


def _in_stash(op: BodyBuilder, X: Value, stash_type: int) -> Value:
    """X in the type that statistics are computed in: DOUBLE for DOUBLE, at least FLOAT."""
    is_double = DOUBLE in {op.dtype(X), dtypes.from_code(stash_type)}
    return op.cast(X, DOUBLE if is_double else FLOAT)


def _from_axis(op_type: str, axis: int, rank: int) -> Array:
    return np.arange(_normal_axis(op_type, axis, rank), rank)


class BatchNormalization(Operator, since=15):
    """Y = (X - mean) / sqrt(var + epsilon) * scale + B per channel.

    In training the mean and variance are those of X and the running ones are updated. Before
    opset 14 a node trains when it has more than one output (before opset 7, when `is_test` is
    0), and `spatial` 0 normalizes every feature by itself.
    """

    X = Input("T", "[N, C, D1, ...].")
    scale, B = Input("T1", "[C]."), Input("T1", "[C].")
    input_mean, input_var = Input("T2", "[C]."), Input("T2", "[C].")
    Y = Output("T")
    running_mean, running_var = Output("T2", optional=True), Output("T2", optional=True)
    saved_mean = Output("T", optional=True, before=14)
    saved_var = Output("T", optional=True, before=14)
    T = T1 = T2 = U = types.FLOATS_BFLOAT16
    epsilon: float = 1e-5
    momentum: float = 0.9
    training_mode: int = attribute(0, since=14)
    spatial: int = attribute(1, before=9)
    is_test: int = attribute(0, before=7)
    consumed_inputs: tuple[int, ...] = attribute(before=6)
    history = (
        past(
            14,
            scale=Input("T"),
            B=Input("T"),
            input_mean=Input("U"),
            input_var=Input("U"),
            running_mean=Output("U", optional=True),
            running_var=Output("U", optional=True),
        ),
        past(
            9,
            T=types.FLOATS,
            input_mean=Input("T", name="mean"),
            input_var=Input("T", name="var"),
            running_mean=Output("T", optional=True, name="mean"),
            running_var=Output("T", optional=True, name="var"),
        ),
        past(7),
        past(6),
        past(1),
    )

    @property
    def trains(self) -> bool:
        """Whether the statistics are those of X."""
        if self.version >= 14:
            return bool(self.training_mode)
        if self.version >= 7:
            return self.n_outputs > 1
        return not self.is_test

    def infer(
        self, X: Fact, scale: Fact, B: Fact, input_mean: Fact, input_var: Fact
    ) -> tuple[Fact, ...]:
        if self.version >= 9 or self.spatial:
            _check_channels(self.op_type, X.shape, scale=scale, B=B, mean=input_mean, var=input_var)
        return (
            same_as(X),
            same_as(input_mean),
            same_as(input_var),
            same_as(input_mean),
            same_as(input_var),
        )

    def reference(
        self, X: Array, scale: Array, B: Array, input_mean: Array, input_var: Array
    ) -> tuple[Array, ...]:
        facts = [Fact.constant(array) for array in (X, scale, B, input_mean, input_var)]
        self.infer(*facts)
        x = widen(X)
        if self.version < 9 and not self.spatial:
            return self._per_feature(x, scale, B, input_mean, input_var)
        axes = (0, *range(2, X.ndim))
        mean, var = widen(input_mean), widen(input_var)
        running_mean, running_var = mean, var
        with np.errstate(all="ignore"):
            if self.trains:
                current = _mean(x, axes)
                centered = x - current
                var_now = _mean(centered * centered, axes).reshape(-1).astype(var.dtype)
                mean_now = current.reshape(-1).astype(mean.dtype)
                running_mean = _running(mean, mean_now, self.momentum)
                running_var = _running(var, var_now, self.momentum)
                mean, var = mean_now, var_now
            inverse = 1 / np.sqrt(var + var.dtype.type(self.epsilon))
            factor = widen(scale) * inverse
            Y = x * _per_channel(factor, x).astype(x.dtype)
            Y += _per_channel(widen(B) - mean * factor, x).astype(x.dtype)
            return (
                Y.astype(X.dtype, copy=False),
                running_mean.astype(input_mean.dtype),
                running_var.astype(input_var.dtype),
                mean.astype(input_mean.dtype),
                var.astype(input_var.dtype),
            )

    def _per_feature(
        self, x: Array, scale: Array, B: Array, mean: Array, var: Array
    ) -> tuple[Array, ...]:
        shape = x.shape[1:]
        for name, array in (("scale", scale), ("B", B), ("mean", mean), ("var", var)):
            if array.size != math.prod(shape):
                raise InferenceError(
                    f"BatchNormalization: {name} has {array.size} values, "
                    f"spatial=0 needs {math.prod(shape)}"
                )
        with np.errstate(all="ignore"):
            inverse = 1 / np.sqrt(widen(var).reshape(shape) + np.float32(self.epsilon))
            Y = (x - widen(mean).reshape(shape)) * inverse * widen(scale).reshape(shape)
            Y = (Y + widen(B).reshape(shape)).astype(scale.dtype)
        return Y, mean, var, mean, var

    def gradient(self, op: Writer, grads: Values, inputs: Values, outputs: Values) -> Values:
        if any(grad is not None for grad in grads[1:]):
            raise UnsupportedError("the statistics of BatchNormalization have no gradient rule")
        if self.version < 9 and not self.spatial:
            raise UnsupportedError("BatchNormalization with spatial=0 has no gradient rule")
        return batch_gradient(op, grads[0], inputs, self.epsilon, self.trains)


def _running(old: Array, new: Array, momentum: float) -> Array:
    kept = old.dtype.type(momentum)
    return np.asarray(old * kept + new * (1 - kept))


class InstanceNormalization(Operator, since=22):
    """Each channel of each instance standardized, times scale, plus B."""

    input = Input("T", "[N, C, D1, ...].")
    scale, B = Input("T", "[C]."), Input("T", "[C].")
    output = Output("T")
    T = types.FLOATS_BFLOAT16
    epsilon: float = 1e-5
    consumed_inputs: tuple[int, ...] | None = attribute(None, before=6)
    history = past(6, T=types.FLOATS), past(1)

    def infer(self, input: Fact, scale: Fact, B: Fact) -> Fact:
        _check_channels(self.op_type, input.shape, scale=scale, B=B)
        return same_as(input)

    def reference(self, input: Array, scale: Array, B: Array) -> Array:
        self.infer(Fact.constant(input), Fact.constant(scale), Fact.constant(B))
        with np.errstate(all="ignore"):
            Y = _standardized(widen(input), tuple(range(2, input.ndim)), self.epsilon)[0]
            Y = Y * _per_channel(scale, input) + _per_channel(B, input)
            return np.asarray(Y).astype(input.dtype)

    def gradient(self, op: Writer, grads: Values, inputs: Values, outputs: Values) -> Values:
        return instance_gradient(op, grads[0], inputs, self.epsilon)


class GroupNormalization(Operator, since=21):
    """Each group of channels of each instance standardized, times scale, plus bias.

    `scale` and `bias` hold one value per channel; in opset 18 one per group.
    """

    X = Input("T", "[N, C, D1, ...].")
    scale, bias = Input("T", "[C]."), Input("T", "[C].")
    Y = Output("T")
    T = types.FLOATS_BFLOAT16
    epsilon: float = 1e-5
    num_groups: int = attribute()
    stash_type: int = attribute(1, since=21)
    history = (past(18, deprecated=True),)

    def infer(self, X: Fact, scale: Fact, bias: Fact) -> Fact:
        if self.num_groups < 1:
            raise InferenceError(f"GroupNormalization: num_groups is {self.num_groups}, not > 0")
        channels: DimLike = None
        if X.shape is not None:
            if len(X.shape) < 2:
                raise InferenceError("GroupNormalization: X is [N, C, ...], rank 2 or more")
            channels = X.shape[1]
            if isinstance(channels, int) and channels % self.num_groups:
                raise InferenceError(
                    f"GroupNormalization: {channels} channels do not divide into "
                    f"{self.num_groups} groups"
                )
        length = channels if self.version >= 21 else self.num_groups
        _check_vector(self.op_type, "scale", scale, length)
        _check_vector(self.op_type, "bias", bias, length)
        return same_as(X)

    def reference(self, X: Array, scale: Array, bias: Array) -> Array:
        self.infer(Fact.constant(X), Fact.constant(scale), Fact.constant(bias))
        x = widen(X)
        each = X.shape[1] // self.num_groups
        grouped = x.reshape(X.shape[0], self.num_groups, math.prod(X.shape[1:]) // self.num_groups)
        if self.version < 21:
            scale, bias = np.repeat(scale, each), np.repeat(bias, each)
        with np.errstate(all="ignore"):
            Y = _standardized(grouped, (2,), self.epsilon)[0].reshape(X.shape).astype(X.dtype)
            Y = widen(Y) * _per_channel(scale, X) + _per_channel(bias, X)
            return np.asarray(Y).astype(X.dtype)

    def body(self, op: BodyBuilder, X: Value, scale: Value, bias: Value) -> Any:
        x = op.wide(X)
        batch, channels = op.size(X, 0), op.size(X, 1)
        grouped = op.reshape(x, batch, self.num_groups, self._left(op, X, self.num_groups))
        y = standardized(op, grouped, np.array([2]), self.epsilon)[0]
        # back in the type of X before the affine step
        y = op.wide(op.cast_like(y, X))
        if self.version >= 21:
            y = op.reshape(y, batch, channels, self._left(op, X, None))
        column = np.array([1], np.int64)
        weight, shift = (op.Unsqueeze(op.wide(each), column) for each in (scale, bias))
        y = op.cast_like(op.Add(op.Mul(y, weight), shift), X)
        return op.reshape(y, op.size(X))

    def _left(self, op: BodyBuilder, X: Value, groups: int | None) -> int | Value:
        """How many elements of X are in each group, or in each channel."""
        rest = op.reshape(op.ReduceProd(op.Slice(op.size(X), *_FROM_2), keepdims=0), 1)
        if groups is None:
            return rest
        each = op.Div(op.size(X, 1), np.array([groups], np.int64))
        product: Value = op.Mul(rest, each)
        return product


_FROM_2 = (np.array([2], np.int64), np.array([np.iinfo(np.int64).max], np.int64))


def _stash(X: Array, stash_type: int) -> Array:
    """X in the type that the statistics are computed in; at least FLOAT."""
    wanted = dtypes.from_code(stash_type).numpy
    return widen(X.astype(wanted, copy=False)) if wanted.itemsize > 4 else X.astype(np.float32)


class LayerNormalization(Operator, since=17):
    """X standardized over the dimensions from `axis` on, times Scale, plus B.

    Mean and InvStdDev have size 1 there and the type `stash_type`.
    """

    X, Scale, B = Input("T"), Input("T"), Input("T", optional=True)
    Y = Output("T")
    Mean, InvStdDev = Output("U", optional=True), Output("U", optional=True)
    T, U = types.FLOATS_BFLOAT16, (FLOAT, BFLOAT16)
    axis: int = -1
    epsilon: float = 1e-5
    stash_type: int = 1

    @property
    def _stash_dtype(self) -> DType:
        if self.stash_type not in {FLOAT.code, BFLOAT16.code}:
            raise InferenceError(
                f"LayerNormalization: stash_type {self.stash_type} is neither FLOAT (1) nor "
                "BFLOAT16 (16)"
            )
        return dtypes.from_code(self.stash_type)

    def infer(self, X: Fact, Scale: Fact, B: Fact | None = None) -> tuple[Fact, ...]:
        stash = self._stash_dtype
        if X.shape is None:
            return same_as(X), Fact.tensor(stash), Fact.tensor(stash)
        axis = _normal_axis(self.op_type, self.axis, len(X.shape))
        _check_fits(self.op_type, "Scale", Scale, X.shape)
        _check_fits(self.op_type, "B", B, X.shape)
        reduced = (*X.shape[:axis], *(1,) * (len(X.shape) - axis))
        return same_as(X), Fact.tensor(stash, reduced), Fact.tensor(stash, reduced)

    def reference(self, X: Array, Scale: Array, B: Array | None = None) -> tuple[Array, ...]:
        self.infer(Fact.constant(X), Fact.constant(Scale), None if B is None else Fact.constant(B))
        axis = _normal_axis(self.op_type, self.axis, X.ndim)
        # DOUBLE input keeps its precision inside, though the stash type is never wider than FLOAT
        x = X if X.dtype == np.float64 else _stash(X, self.stash_type)
        with np.errstate(all="ignore"):
            Y, mean, inverse = _standardized(x, tuple(range(axis, X.ndim)), self.epsilon)
            Y = Y * widen(Scale)
            if B is not None:
                Y = Y + widen(B)
            stash = self._stash_dtype.numpy
            statistics = np.asarray(mean, stash), np.asarray(inverse, stash)
            return np.asarray(Y).astype(X.dtype), *statistics

    def body(
        self, op: BodyBuilder, X: Value, Scale: Value, B: Value | None = None
    ) -> tuple[Value, ...]:
        stash = self._stash_dtype
        x = _in_stash(op, X, self.stash_type)
        axes = _from_axis(self.op_type, self.axis, op.rank(X))
        y, mean, inverse = standardized(op, x, axes, self.epsilon)
        y = op.Mul(y, op.cast_like(Scale, x))
        if B is not None:
            y = op.Add(y, op.cast_like(B, x))
        return op.cast_like(y, X), op.cast(mean, stash), op.cast(inverse, stash)

    def gradient(self, op: Writer, grads: Values, inputs: Values, outputs: Values) -> Values:
        axes = _from_axis(self.op_type, self.axis, op.rank(inputs[0])).tolist()
        return layer_gradient(op, grads, inputs, axes, self.epsilon)


def _check_fits(op_type: str, name: str, fact: Fact | None, X: Shape) -> None:
    if fact is None or fact.shape is None:
        return
    try:
        result = broadcast(X, fact.shape)
    except InferenceError as error:
        raise InferenceError(f"{op_type}: {name} does not broadcast to X: {error}") from None
    if result is not None and (
        len(result) > len(X)
        or any(
            isinstance(a, int) and isinstance(b, int) and a != b
            for a, b in zip(result, X, strict=True)
        )
    ):
        raise InferenceError(f"{op_type}: {name} has more elements than X")


class RMSNormalization(Operator, since=23):
    """X over its root mean square over the dimensions from `axis` on, times scale."""

    X, scale, Y = Input("T"), Input("V"), Output("V")
    T = V = types.FLOATS_BFLOAT16
    axis: int = -1
    epsilon: float = 1e-5
    stash_type: int = 1

    def infer(self, X: Fact, scale: Fact) -> Fact:
        if X.shape is not None:
            _normal_axis(self.op_type, self.axis, len(X.shape))
            _check_fits(self.op_type, "scale", scale, X.shape)
        return Fact.tensor(scale.dtype, X.shape)

    def reference(self, X: Array, scale: Array) -> Array:
        self.infer(Fact.constant(X), Fact.constant(scale))
        axis = _normal_axis(self.op_type, self.axis, X.ndim)
        x = X if X.dtype == np.float64 else _stash(X, self.stash_type)
        with np.errstate(all="ignore"):
            square = _mean(x * x, tuple(range(axis, X.ndim)))
            normalized = (x / np.sqrt(square + x.dtype.type(self.epsilon))).astype(X.dtype)
            return np.asarray(widen(normalized) * widen(scale)).astype(scale.dtype)

    def body(self, op: BodyBuilder, X: Value, scale: Value) -> Any:
        x = _in_stash(op, X, self.stash_type)
        axes = _from_axis(self.op_type, self.axis, op.rank(X))
        square = op.ReduceMean(op.Mul(x, x), axes)
        y = op.cast_like(op.Div(x, op.Sqrt(op.Add(square, op.like(self.epsilon, x)))), X)
        wide = DOUBLE if DOUBLE in {op.dtype(X), op.dtype(scale)} else FLOAT
        return op.cast_like(op.Mul(op.cast(y, wide), op.cast(scale, wide)), scale)


class LRN(Operator, since=13):
    """X over (bias + alpha / size * sum of squares of the `size` nearest channels) ^ beta."""

    X, Y = Input("T", "[N, C, D1, ...]."), Output("T")
    T = types.FLOATS_BFLOAT16
    alpha: float = 1e-4
    beta: float = 0.75
    bias: float = 1.0
    size: int = attribute()
    history = (past(1, T=types.FLOATS),)

    def infer(self, X: Fact) -> Fact:
        if self.size < 1:
            raise InferenceError(f"LRN: size is {self.size}, it must be at least 1")
        if X.shape is not None and len(X.shape) < 2:
            raise InferenceError(f"LRN: X is [N, C, ...], rank 2 or more, got rank {len(X.shape)}")
        return same_as(X)

    def reference(self, X: Array) -> Array:
        self.infer(Fact.constant(X))
        x = widen(X)
        channels = X.shape[1]
        below, above = (self.size - 1) // 2, self.size - 1 - (self.size - 1) // 2
        with np.errstate(all="ignore"):
            square = x * x
            total = np.zeros_like(x)
            for shift in range(-min(below, channels - 1), min(above, channels - 1) + 1):
                low, high = max(0, -shift), min(channels, channels - shift)
                total[:, low:high] += square[:, low + shift : high + shift]
            base = x.dtype.type(self.bias) + x.dtype.type(self.alpha / self.size) * total
            return np.asarray(x / base ** x.dtype.type(self.beta)).astype(X.dtype)

    def gradient(self, op: Writer, grads: Values, inputs: Values, outputs: Values) -> Values:
        (dy,), (x,) = grads, inputs
        return [response_gradient(op, dy, x, self.size, self.bias, self.alpha, self.beta)]


class LpNormalization(Operator, since=22):
    """X over its p-norm along `axis`; where the norm is 0, 0."""

    input, output = Input("T"), Output("T")
    T = types.FLOATS_BFLOAT16
    axis: int = -1
    p: int = 2
    history = (past(1, T=types.FLOATS),)

    def infer(self, input: Fact) -> Fact:
        if self.p not in {1, 2}:
            raise InferenceError(f"LpNormalization: p is {self.p}, it must be 1 or 2")
        if input.shape is not None:
            _normal_axis(self.op_type, self.axis, len(input.shape))
        return same_as(input)

    def reference(self, input: Array) -> Array:
        self.infer(Fact.constant(input))
        x = widen(input)
        if not x.ndim:
            x = x.reshape(1)
        axis = _normal_axis(self.op_type, self.axis, x.ndim)
        with np.errstate(all="ignore"):
            if self.p == 1:
                norm = np.abs(x).sum(axis, keepdims=True)
            else:
                norm = np.sqrt((x * x).sum(axis, keepdims=True))
            Y = np.where(norm == 0, x.dtype.type(0), x / norm)
            return np.asarray(Y).reshape(input.shape).astype(input.dtype)

    def gradient(self, op: Writer, grads: Values, inputs: Values, outputs: Values) -> Values:
        (dy,), (x,), (y,) = grads, inputs, outputs
        if op.rank(x) == 0:
            return [None]
        return [norm_gradient(op, dy, x, y, self.axis, self.p)]


class MeanVarianceNormalization(Operator, since=13):
    """X standardized over `axes`, with 1e-9 added to the deviation."""

    X, Y = Input("T"), Output("T")
    T = types.FLOATS_BFLOAT16
    axes: tuple[int, ...] = (0, 2, 3)
    history = (past(9, T=types.FLOATS),)

    def infer(self, X: Fact) -> Fact:
        if X.shape is not None:
            for axis in self.axes:
                _normal_axis(self.op_type, axis, len(X.shape))
        return same_as(X)

    def reference(self, X: Array) -> Array:
        self.infer(Fact.constant(X))
        axes = tuple({axis % max(X.ndim, 1) for axis in self.axes}) if X.ndim else ()
        x = widen(X)
        with np.errstate(all="ignore"):
            centered = x - _mean(x, axes)
            deviation = np.sqrt(_mean(centered * centered, axes))
            return np.asarray(centered / (deviation + x.dtype.type(1e-9))).astype(X.dtype)

    def body(self, op: BodyBuilder, X: Value) -> Any:
        x, rank = op.wide(X), op.fact(X).rank
        axes = sorted({axis if rank is None else axis % rank for axis in self.axes if rank != 0})
        along = np.array(axes, np.int64) if axes else None
        noop = 1 if not axes and rank else None
        centered = op.Sub(x, op.ReduceMean(x, along, noop_with_empty_axes=noop))
        square = op.ReduceMean(op.Mul(centered, centered), along, noop_with_empty_axes=noop)
        deviation = op.Add(op.Sqrt(square), op.like(1e-9, x))
        return op.cast_like(op.Div(centered, deviation), X)
