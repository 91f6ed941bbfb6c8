"""Reductions along axes, and cumulative sums and products."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np

from sardonyx.dims import maximum, minimum
from sardonyx.dtypes import BOOL, DOUBLE, FLOAT16, INT8, INT64, UINT8
from sardonyx.errors import ExecutionError, InferenceError, UnsupportedError
from sardonyx.ir.node import AttributeType
from sardonyx.ops import types
from sardonyx.ops.fact import Fact
from sardonyx.ops.numeric import divided, rounded, widen
from sardonyx.ops.operator import Operator, same_as
from sardonyx.ops.schema import Input, Output, attribute, past, was_attribute
from sardonyx.ops.symbolic import constant_ints, normalized, normalized_axes, value_length

if TYPE_CHECKING:
    from sardonyx.ir.tensor import Array
    from sardonyx.ir.value import Value
    from sardonyx.ops.body_builder import BodyBuilder
    from sardonyx.ops.operator import Values
    from sardonyx.ops.schema import Past
    from sardonyx.ops.writer import Writer

_AXES_ATTRIBUTE: Final = was_attribute(AttributeType.INTS)
_BEFORE_18: Final[tuple[Past, ...]] = (
    past(13, axes=_AXES_ATTRIBUTE),
    past(11, T=types.HIGH),
    past(1),
)
_EXTREME: Final = (*types.HIGH_BFLOAT16, UINT8, INT8)


class _Reduction(Operator):
    """`data` reduced along `axes`, all of them where none are given.

    With `noop_with_empty_axes` no axes means that nothing is reduced; only what the operator
    does to single elements is then done. Axes stay with size 1 where `keepdims` is 1.
    """

    data, axes, reduced = Input("T"), Input((INT64,), optional=True), Output("T")
    T: ClassVar[types.Types] = types.HIGH_BFLOAT16
    keepdims: int = 1
    noop_with_empty_axes: int = attribute(0, since=18)
    history: ClassVar[tuple[Past, ...]] = _BEFORE_18

    def infer(self, data: Fact, axes: Fact | None = None) -> Fact:
        if data.shape is None:
            return Fact.tensor(data.dtype)
        rank = len(data.shape)
        count = 0 if axes is None else value_length(axes)
        if count == 0:
            chosen = [] if self.noop_with_empty_axes else list(range(rank))
        else:
            listed = constant_ints(axes)
            if listed is None:
                return Fact.tensor(data.dtype, self._unknown(rank, count))
            chosen = normalized_axes(self.op_type, listed, rank)
        if self.keepdims:
            shape = [1 if axis in chosen else dim for axis, dim in enumerate(data.shape)]
        else:
            shape = [dim for axis, dim in enumerate(data.shape) if axis not in chosen]
        return Fact.tensor(data.dtype, shape)

    def _unknown(self, rank: int, count: int | None) -> list[None] | None:
        if self.keepdims:
            return [None] * rank
        if count is not None and count > rank:
            raise InferenceError(f"{self.op_type}: {count} axes for data of rank {rank}")
        return None if count is None else [None] * (rank - count)

    def reference(self, data: Array, axes: Array | None = None) -> Array:
        if axes is None or axes.size == 0:
            chosen = () if self.noop_with_empty_axes else tuple(range(data.ndim))
        else:
            listed = axes.reshape(-1).tolist()
            chosen = tuple(normalized_axes(self.op_type, listed, data.ndim))
        result = rounded(lambda x: self.reduce(x, chosen), data)
        if not self.keepdims:
            return result.reshape([d for axis, d in enumerate(data.shape) if axis not in chosen])
        return result

    def reduce(self, x: Array, axes: tuple[int, ...]) -> Any:
        """`x` reduced along `axes`, which stay with size 1."""
        raise NotImplementedError

    def summed(self, op: BodyBuilder, x: Value, axes: Value | None) -> Value:
        """ReduceSum of `x` with this operator's attributes, for bodies."""
        total: Value = op.ReduceSum(
            x, axes, keepdims=self.keepdims, noop_with_empty_axes=self.noop_with_empty_axes
        )
        return total

    def restored(self, op: Writer, reduced: Value, data: Value, axes: Value | None) -> Value:
        """A reduced value with the axes that are gone put back, so that it broadcasts to `data`."""
        if self.keepdims or axes is None or op.known_ints(axes) == []:
            return reduced
        back: Value = op.Unsqueeze(reduced, axes)
        return back

    def gradient(self, op: Writer, grads: Values, inputs: Values, outputs: Values) -> Values:
        (dy,), (x, axes), (y,) = grads, inputs, outputs
        dy, y = (self.restored(op, value, x, axes) for value in (dy, y))
        return [self.pulled(op, dy, x, y, axes)]

    def pulled(self, op: Writer, dy: Value, x: Value, y: Value, axes: Value | None) -> Value:
        """The gradient by X; dY and Y broadcast to it."""
        raise UnsupportedError(f"{self.op_type} has no gradient rule")

    def _again(self, op: Writer, name: str, x: Value, axes: Value | None) -> Value:
        """Reduction `name` of `x` along the same axes, which stay."""
        again: Value = op.apply(
            name, [x, axes], keepdims=1, noop_with_empty_axes=self.noop_with_empty_axes
        )
        return again


def _sum(x: Array, axes: tuple[int, ...]) -> Any:
    return np.add.reduce(x, axis=axes, dtype=x.dtype, keepdims=True)


def _total(x: Array, axes: tuple[int, ...]) -> Any:
    """The sum, of integers as floating point."""
    return np.add.reduce(_floating(x), axis=axes, keepdims=True)


def _floating(x: Array) -> Array:
    return x if x.dtype.kind == "f" else x.astype(np.float64)


def _in_floating(op: BodyBuilder, x: Value) -> Value:
    """`x` in at least FLOAT; integers as DOUBLE."""
    dtype = op.fact(x).dtype
    return op.cast(x, DOUBLE) if dtype is not None and dtype.is_integer else op.wide(x)


class ReduceSum(_Reduction, since=13):
    """The sum; integers wrap around. Of nothing, 0."""

    noop_with_empty_axes: int = attribute(0, since=13)
    history = past(11, T=types.HIGH, axes=_AXES_ATTRIBUTE), past(1)
    moves_data = True

    def reduce(self, x: Array, axes: tuple[int, ...]) -> Any:
        return _sum(x, axes)

    def pulled(self, op: Writer, dy: Value, x: Value, y: Value, axes: Value | None) -> Value:
        return op.expanded(dy, x)


class ReduceMean(_Reduction, since=18):
    """The mean; of integers, their sum divided by their number and truncated towards zero."""

    def reduce(self, x: Array, axes: tuple[int, ...]) -> Any:
        count = int(np.prod([x.shape[axis] for axis in axes], dtype=np.int64))
        if x.dtype.kind == "f":
            return _sum(x, axes) / x.dtype.type(count)
        wide = x.astype(np.int64 if x.dtype.kind == "i" else np.uint64)
        return divided(_sum(wide, axes), np.asarray(count, wide.dtype)).astype(x.dtype)

    def pulled(self, op: Writer, dy: Value, x: Value, y: Value, axes: Value | None) -> Value:
        return op.expanded(op.Div(dy, op.ratio(x, y, dy)), x)


class ReduceProd(_Reduction, since=18):
    """The product; integers wrap around. Of nothing, 1."""

    moves_data = True

    def reduce(self, x: Array, axes: tuple[int, ...]) -> Any:
        return np.multiply.reduce(x, axis=axes, dtype=x.dtype, keepdims=True)

    def pulled(self, op: Writer, dy: Value, x: Value, y: Value, axes: Value | None) -> Value:
        zero = op.same(x, 0.0)
        zeros = self._again(op, "ReduceSum", op.cast(zero, op.dtype(x)), axes)
        others = self._again(op, "ReduceProd", op.Where(zero, 1.0, x), axes)
        alone = op.And(zero, op.same(zeros, 1.0))
        # the product of the other elements: Y / X, but for zeros
        product = op.Where(op.same(zeros, 0.0), op.Div(others, op.Where(zero, 1.0, x)), 0.0)
        result: Value = op.Mul(dy, op.Where(alone, others, product))
        return result


class ReduceMax(_Reduction, since=20):
    """The greatest; NaN where one is. Of nothing, the least value of the type."""

    T = (*_EXTREME, BOOL)
    history = (
        past(18, T=_EXTREME),
        past(13, axes=_AXES_ATTRIBUTE),
        past(12, T=(*types.HIGH, UINT8, INT8)),
        past(11, T=types.HIGH),
        past(1),
    )
    moves_data = True

    def reduce(self, x: Array, axes: tuple[int, ...]) -> Any:
        if x.dtype == object:
            return _symbolic_extreme(maximum, x, axes)
        return np.maximum.reduce(x, axis=axes, keepdims=True, initial=_bound(x.dtype, "min"))

    def pulled(self, op: Writer, dy: Value, x: Value, y: Value, axes: Value | None) -> Value:
        mask = op.cast(op.same(x, y), op.dtype(x))
        result: Value = op.Mul(op.Div(dy, self._again(op, "ReduceSum", mask, axes)), mask)
        return result


class ReduceMin(_Reduction, since=20):
    """The least; NaN where one is. Of nothing, the greatest value of the type."""

    T = (*_EXTREME, BOOL)
    history = ReduceMax.history
    moves_data = True

    def reduce(self, x: Array, axes: tuple[int, ...]) -> Any:
        if x.dtype == object:
            return _symbolic_extreme(minimum, x, axes)
        return np.minimum.reduce(x, axis=axes, keepdims=True, initial=_bound(x.dtype, "max"))

    def pulled(self, op: Writer, dy: Value, x: Value, y: Value, axes: Value | None) -> Value:
        mask = op.cast(op.same(x, y), op.dtype(x))
        result: Value = op.Mul(op.Div(dy, self._again(op, "ReduceSum", mask, axes)), mask)
        return result


def _bound(dtype: np.dtype[Any], which: str) -> Any:
    if dtype.kind == "b":
        return which == "max"
    if dtype.kind == "f":
        return -np.inf if which == "min" else np.inf
    return getattr(np.iinfo(dtype), which)


def _symbolic_extreme(function: Any, x: Array, axes: tuple[int, ...]) -> Any:
    return np.frompyfunc(function, 2, 1).reduce(x, axis=axes, keepdims=True)


class ReduceL1(_Reduction, since=18):
    """The sum of absolute values; integers wrap around. Of nothing, 0."""

    body_since = 18

    def reduce(self, x: Array, axes: tuple[int, ...]) -> Any:
        return _sum(np.abs(x), axes)

    def body(self, op: BodyBuilder, data: Value, axes: Value | None = None) -> Any:
        return self.summed(op, op.Abs(data), axes)

    def pulled(self, op: Writer, dy: Value, x: Value, y: Value, axes: Value | None) -> Value:
        result: Value = op.Mul(dy, op.Sign(x))
        return result


class ReduceL2(_Reduction, since=18):
    """The square root of the sum of squares. Of nothing, 0."""

    body_since = 18

    def reduce(self, x: Array, axes: tuple[int, ...]) -> Any:
        return np.sqrt(_total(np.square(_floating(x)), axes))

    def body(self, op: BodyBuilder, data: Value, axes: Value | None = None) -> Any:
        x = _in_floating(op, data)
        return op.cast_like(op.Sqrt(self.summed(op, op.Mul(x, x), axes)), data)

    def pulled(self, op: Writer, dy: Value, x: Value, y: Value, axes: Value | None) -> Value:
        zero = op.same(y, 0.0)
        result: Value = op.Mul(op.Where(zero, 0.0, op.Div(dy, op.Where(zero, 1.0, y))), x)
        return result


class ReduceLogSum(_Reduction, since=28):
    """The logarithm of the sum. Of nothing, minus infinity."""

    T = types.FLOATS_BFLOAT16
    history = past(18, T=types.HIGH_BFLOAT16), *_BEFORE_18
    body_since = 18

    def reduce(self, x: Array, axes: tuple[int, ...]) -> Any:
        return np.log(_total(x, axes))

    def body(self, op: BodyBuilder, data: Value, axes: Value | None = None) -> Any:
        total = self.summed(op, _in_floating(op, data), axes)
        return op.cast_like(op.Log(total), data)

    def pulled(self, op: Writer, dy: Value, x: Value, y: Value, axes: Value | None) -> Value:
        result: Value = op.expanded(op.Div(dy, self._again(op, "ReduceSum", x, axes)), x)
        return result


class ReduceLogSumExp(_Reduction, since=28):
    """The logarithm of the sum of exponentials, without overflow. Of nothing, minus infinity."""

    T = types.FLOATS_BFLOAT16
    history = ReduceLogSum.history
    body_since = 18

    def reduce(self, x: Array, axes: tuple[int, ...]) -> Any:
        x = _floating(x)
        most = np.maximum.reduce(x, axis=axes, keepdims=True, initial=-np.inf)
        shift = np.where(np.isfinite(most), most, 0)
        return np.log(_total(np.exp(x - shift), axes)) + shift

    def body(self, op: BodyBuilder, data: Value, axes: Value | None = None) -> Any:
        # log(sum(exp(x))) -> log(sum(exp(x - shift))) + shift, with the greatest x as shift
        x = _in_floating(op, data)
        noop = self.noop_with_empty_axes
        shift = self._finite(op, op.ReduceMax(x, axes, keepdims=1, noop_with_empty_axes=noop))
        total = self.summed(op, op.Exp(op.Sub(x, shift)), axes)
        if not self.keepdims:
            shift = self._finite(op, op.ReduceMax(x, axes, keepdims=0, noop_with_empty_axes=noop))
        return op.cast_like(op.Add(op.Log(total), shift), data)

    def _finite(self, op: BodyBuilder, x: Value) -> Value:
        zero = op.like(0, x)
        chosen: Value = op.Where(op.Equal(op.Sub(x, x), zero), x, zero)
        return chosen

    def pulled(self, op: Writer, dy: Value, x: Value, y: Value, axes: Value | None) -> Value:
        result: Value = op.Mul(dy, op.Exp(op.Sub(x, y)))
        return result


class ReduceSumSquare(_Reduction, since=18):
    """The sum of squares; integers wrap around. Of nothing, 0."""

    body_since = 18

    def reduce(self, x: Array, axes: tuple[int, ...]) -> Any:
        return _sum(np.square(x), axes)

    def body(self, op: BodyBuilder, data: Value, axes: Value | None = None) -> Any:
        x = op.wide(data)
        return op.cast_like(self.summed(op, op.Mul(x, x), axes), data)

    def pulled(self, op: Writer, dy: Value, x: Value, y: Value, axes: Value | None) -> Value:
        result: Value = op.Mul(op.Mul(dy, 2.0), x)
        return result


class _Arg(Operator):
    """The index of an extreme element along `axis`; the axis stays with size 1 for `keepdims`."""

    data, reduced = Input("T"), Output((INT64,))
    T = types.NUMERIC_BFLOAT16
    axis: int = 0
    keepdims: int = 1
    select_last_index: int = attribute(0, since=12)
    history = past(12, T=types.NUMERIC), past(11), past(1)

    def infer(self, data: Fact) -> Fact:
        if data.shape is None:
            return Fact.tensor(INT64)
        axis = normalized(self.op_type, self.axis, max(len(data.shape), 1))
        kept = (1,) if self.keepdims and data.shape else ()
        return Fact.tensor(INT64, (*data.shape[:axis], *kept, *data.shape[axis + 1 :]))

    def reference(self, data: Array) -> Array:
        axis = normalized(self.op_type, self.axis, max(data.ndim, 1))
        x = widen(data).reshape(data.shape or (1,))
        if x.shape[axis] == 0:
            raise ExecutionError(f"{self.op_type} of no elements: axis {axis} has size 0")
        if self.select_last_index:
            last = x.shape[axis] - 1
            found = last - self.compute(np.flip(x, axis), axis)
        else:
            found = self.compute(x, axis)
        if self.keepdims and data.ndim:
            found = np.expand_dims(found, axis)
        return np.asarray(found, np.int64).reshape(() if data.ndim == 0 else found.shape)

    def compute(self, x: Array, axis: int) -> Any:
        """The first extreme element's index."""
        raise NotImplementedError


class ArgMax(_Arg, since=13):
    """The index of the first greatest element, or the last with `select_last_index`."""

    def compute(self, x: Array, axis: int) -> Any:
        return np.argmax(x, axis=axis)


class ArgMin(_Arg, since=13):
    """The index of the first least element, or the last with `select_last_index`."""

    def compute(self, x: Array, axis: int) -> Any:
        return np.argmin(x, axis=axis)


class _Cumulative(Operator):
    """Running results along `axis`, a scalar tensor; `start` is the result of no elements.

    With `exclusive` an element's own value is left out of its result; with `reverse` the
    running goes from the end.
    """

    start: ClassVar[int]

    x, axis, y = Input("T"), Input("T2", "A scalar in [-r, r-1]."), Output("T")
    T, T2 = types.HIGH_BFLOAT16, types.INDICES
    exclusive: int = 0
    reverse: int = 0

    def infer(self, x: Fact, axis: Fact) -> Fact:
        listed = constant_ints(axis)
        if x.rank is not None and listed:
            normalized(self.op_type, listed[0], x.rank)
        return same_as(x)

    def reference(self, x: Array, axis: Array) -> Array:
        if axis.size != 1:
            raise ExecutionError(f"{self.op_type}: axis has {axis.size} elements, not 1")
        along = normalized(self.op_type, int(axis.reshape(-1)[0]), x.ndim)
        return rounded(lambda wide: self._run(wide, along), x)

    def _run(self, x: Array, axis: int) -> Array:
        moved = np.moveaxis(x, axis, 0)
        if self.reverse:
            moved = moved[::-1]
        result = self.compute(moved)
        if self.exclusive and len(moved):
            first = np.full_like(moved[:1], self.start)
            result = np.concatenate([first, result[:-1]])
        if self.reverse:
            result = result[::-1]
        return np.ascontiguousarray(np.moveaxis(result, 0, axis))

    def compute(self, x: Array) -> Any:
        """The running result along the first axis."""
        raise NotImplementedError


class CumSum(_Cumulative, since=14):
    """The running sum; integers wrap around."""

    history = (past(11, T=types.without(types.HIGH, FLOAT16)),)
    moves_data = True
    start = 0

    def compute(self, x: Array) -> Any:
        return np.add.accumulate(x, axis=0, dtype=x.dtype)

    def gradient(self, op: Writer, grads: Values, inputs: Values, outputs: Values) -> Values:
        (dy,), (_, axis) = grads, inputs
        return [op.CumSum(dy, axis, exclusive=self.exclusive, reverse=1 - self.reverse), None]


class CumProd(_Cumulative, since=26):
    """The running product; integers wrap around."""

    moves_data = True
    start = 1

    def compute(self, x: Array) -> Any:
        return np.multiply.accumulate(x, axis=0, dtype=x.dtype)

    def gradient(self, op: Writer, grads: Values, inputs: Values, outputs: Values) -> Values:
        (dy,), (x, axis), (y,) = grads, inputs, outputs
        options = {"exclusive": self.exclusive, "reverse": 1 - self.reverse}
        # each running product over the element is the product of the others in it
        return [op.Div(op.CumSum(op.Mul(dy, y), axis, **options), x), None]
