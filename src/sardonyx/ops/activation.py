"""Activation functions, and the softmax family."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from sardonyx.dtypes import BFLOAT16, DOUBLE, FLOAT
from sardonyx.errors import ExecutionError, ModelError, UnsupportedError, quote
from sardonyx.ops import types
from sardonyx.ops.elementwise import ConsumingUnary, Unary, unary
from sardonyx.ops.numeric import check_broadcast, erfc, rounded, single, to_integer, widen
from sardonyx.ops.operator import Operator, same_as
from sardonyx.ops.schema import ABSENT, Input, Output, attribute, past
from sardonyx.ops.symbolic import normalized

if TYPE_CHECKING:
    from sardonyx.ir.tensor import Array
    from sardonyx.ir.value import Value
    from sardonyx.ops.body_builder import BodyBuilder
    from sardonyx.ops.fact import Fact
    from sardonyx.ops.operator import Values
    from sardonyx.ops.writer import Writer


def sigmoid(x: Array) -> Any:
    """1 / (1 + exp(-x)) without overflow."""
    decayed = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, decayed) / (1 + decayed)


def _softplus(x: Array) -> Any:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def exponential_less_one(op: BodyBuilder, x: Value) -> Value:
    """exp(x) - 1, exact near 0 too."""
    # exp(x) - 1 -> tanh(x / 2) * (exp(x) + 1)
    factor = op.Add(op.Exp(x), op.like(1, x))
    product: Value = op.Mul(op.Tanh(op.Mul(x, op.like(0.5, x))), factor)
    return product


def _relu_body(_: Operator, op: BodyBuilder, X: Value) -> Any:
    return op.Max(X, op.like(0, X))


def _softplus_body(_: Operator, op: BodyBuilder, X: Value) -> Any:
    x = op.wide(X)
    decayed = op.Exp(op.Neg(op.Abs(x)))
    # ln(1 + u) -> 2 * atanh(u / (u + 2)), exact near 0 too
    tail = op.Mul(op.like(2, x), op.Atanh(op.Div(decayed, op.Add(decayed, op.like(2, x)))))
    return op.cast_like(op.Add(op.Max(x, op.like(0, x)), tail), X)


def _softsign_body(_: Operator, op: BodyBuilder, X: Value) -> Any:
    x = op.wide(X)
    return op.cast_like(op.Div(x, op.Add(op.like(1, x), op.Abs(x))), X)


def _hard_swish_body(_: Operator, op: BodyBuilder, X: Value) -> Any:
    x = op.wide(X)
    gate = op.Add(op.Div(x, op.like(6, x)), op.like(0.5, x))
    return op.cast_like(op.Mul(x, op.Min(op.Max(gate, op.like(0, x)), op.like(1, x))), X)


def _mish_body(_: Operator, op: BodyBuilder, X: Value) -> Any:
    # tanh(ln(1 + e)) -> n / (n + 2) with n = e * (e + 2); for e > 1 in terms of u = 1 / e
    x = op.wide(X)
    one, two = op.like(1, x), op.like(2, x)
    u = op.Exp(op.Neg(op.Abs(x)))
    negative = op.Mul(u, op.Add(u, two))
    positive = op.Add(op.Mul(two, u), one)
    square = op.Mul(u, u)
    gate = op.Where(
        op.Less(x, op.like(0, x)),
        op.Div(negative, op.Add(negative, two)),
        op.Div(positive, op.Add(positive, op.Mul(two, square))),
    )
    return op.cast_like(op.Mul(x, gate), X)


def _square(op: Writer, x: Value) -> Value:
    square: Value = op.Mul(x, x)
    return square


def _hard_swish_slope(op: Writer, x: Value) -> Value:
    middle = op.And(op.Greater(x, -3.0), op.Less(x, 3.0))
    outer = op.cast(op.GreaterOrEqual(x, 3.0), op.dtype(x))
    slope: Value = op.Where(middle, op.Add(op.Div(x, 3.0), 0.5), outer)
    return slope


def _mish_slope(op: Writer, x: Value) -> Value:
    bent = op.Tanh(op.Softplus(x))
    slope: Value = op.Add(bent, op.Mul(op.Mul(x, op.Sigmoid(x)), op.Sub(1.0, _square(op, bent))))
    return slope


_F: Final = types.FLOATS_BFLOAT16
_6: Final = (past(6, T=types.FLOATS), past(1))
_1: Final = (past(1, T=types.FLOATS, consumed_inputs=ABSENT),)
_SIGNED: Final = (*types.SIGNED, *_F)

# fmt: off
#                 name         inputs since types function    history
Relu     = unary("Relu",       "X Y", 14, _SIGNED, lambda x: np.maximum(x, 0), past(13, T=_F), *_6,
                 derivative=lambda op, x, y: op.cast(op.Greater(x, 0.0), op.dtype(x)),
                 doc="max(0, X).", body=_relu_body, body_since=14)
Sigmoid  = unary("Sigmoid",    "X Y", 13, _F, sigmoid, *_6,
                 derivative=lambda op, x, y: op.Mul(y, op.Sub(1.0, y)),
                 doc="1 / (1 + exp(-X)).")
Softplus = unary("Softplus",   "X Y", 22, _F, _softplus, *_1,
                 derivative=lambda op, x, y: op.Sigmoid(x),
                 doc="ln(1 + exp(X)).",
                 body=_softplus_body)
Softsign = unary("Softsign",   "input output", 22, _F, lambda x: x / (1 + np.abs(x)), *_1,
                 derivative=lambda op, x, y: _square(op, op.Sub(1.0, op.Abs(y))),
                 doc="input / (1 + |input|).", body=_softsign_body)
HardSwish = unary("HardSwish", "X Y", 22, _F, lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
                  past(14, T=types.FLOATS),
                 derivative=lambda op, x, y: _hard_swish_slope(op, x),
                 doc="X * max(0, min(1, X / 6 + 0.5)).",
                  body=_hard_swish_body)
Mish     = unary("Mish",       "X Y", 22, _F, lambda x: x * np.tanh(_softplus(x)),
                 past(18, T=types.FLOATS),
                 derivative=lambda op, x, y: _mish_slope(op, x),
                 doc="X * tanh(softplus(X)).", body=_mish_body)
# fmt: on


class LeakyRelu(ConsumingUnary, since=16):
    """`alpha` * X where X is negative, else X."""

    X, Y, T = Input("T"), Output("T"), _F
    alpha: float = single(0.01)
    history = _6
    body_since = 16

    def compute(self, X: Array) -> Array:
        return rounded(lambda x: np.where(x < 0, self.alpha * x, x), X)

    def body(self, op: BodyBuilder, X: Value) -> Any:
        x = op.wide(X)
        scaled = op.Mul(op.like(self.alpha, x), x)
        return op.cast_like(op.Where(op.Less(x, op.like(0, x)), scaled, x), X)

    def slope(self, op: Writer, x: Value, y: Value) -> Value | None:
        slope: Value = op.Where(op.Less(x, 0.0), op.like(self.alpha, x), 1.0)
        return slope


class Elu(ConsumingUnary, since=22):
    """`alpha` * (exp(X) - 1) where X is negative, else X."""

    X, Y, T = Input("T"), Output("T"), _F
    alpha: float = 1.0
    history = _6
    body_since = 6

    def compute(self, X: Array) -> Array:
        return rounded(lambda x: np.where(x < 0, self.alpha * np.expm1(x), x), X)

    def body(self, op: BodyBuilder, X: Value) -> Any:
        x = op.wide(X)
        below = op.Mul(op.like(self.alpha, x), exponential_less_one(op, x))
        return op.cast_like(op.Where(op.Less(x, op.like(0, x)), below, x), X)

    def slope(self, op: Writer, x: Value, y: Value) -> Value | None:
        slope: Value = op.Where(op.Less(x, 0.0), op.Add(y, self.alpha), 1.0)
        return slope


class Selu(ConsumingUnary, since=22):
    """`gamma` * X where X is positive, else `gamma` * `alpha` * (exp(X) - 1)."""

    X, Y, T = Input("T"), Output("T"), _F
    alpha: float = single(1.6732632)
    gamma: float = single(1.050701)
    history = (
        past(6, T=types.FLOATS),
        past(1, alpha=single(1.6732), gamma=single(1.0507)),
    )
    body_since = 6

    def compute(self, X: Array) -> Array:
        return rounded(lambda x: self.gamma * np.where(x > 0, x, self.alpha * np.expm1(x)), X)

    def body(self, op: BodyBuilder, X: Value) -> Any:
        x = op.wide(X)
        below = op.Mul(op.like(self.alpha, x), exponential_less_one(op, x))
        chosen = op.Where(op.Greater(x, op.like(0, x)), x, below)
        return op.cast_like(op.Mul(op.like(self.gamma, x), chosen), X)

    def slope(self, op: Writer, x: Value, y: Value) -> Value | None:
        bent = op.Add(y, self.gamma * self.alpha)
        slope: Value = op.Where(op.Greater(x, 0.0), op.like(self.gamma, x), bent)
        return slope


class Celu(Unary, since=28):
    """max(0, X) + min(0, `alpha` * (exp(X / `alpha`) - 1))."""

    X, Y, T = Input("T"), Output("T"), _F
    alpha: float = 1.0
    history = (past(12, T=(FLOAT,)),)

    def compute(self, X: Array) -> Array:
        alpha = np.float32(self.alpha)
        return rounded(lambda x: np.maximum(x, 0) + np.minimum(0, alpha * np.expm1(x / alpha)), X)

    def body(self, op: BodyBuilder, X: Value) -> Any:
        x = op.wide(X)
        alpha, zero = op.like(self.alpha, x), op.like(0, x)
        below = op.Mul(alpha, exponential_less_one(op, op.Div(x, alpha)))
        return op.cast_like(op.Add(op.Max(x, zero), op.Min(zero, below)), X)

    def slope(self, op: Writer, x: Value, y: Value) -> Value | None:
        bent = op.Exp(op.Div(op.Min(x, 0.0), self.alpha))
        slope: Value = op.Where(op.Greater(x, 0.0), op.like(1, x), bent)
        return slope


class HardSigmoid(ConsumingUnary, since=22):
    """max(0, min(1, `alpha` * X + `beta`))."""

    X, Y, T = Input("T"), Output("T"), _F
    alpha: float = single(0.2)
    beta: float = 0.5
    history = _6
    body_since = 6

    def compute(self, X: Array) -> Array:
        return rounded(lambda x: np.clip(self.alpha * x + self.beta, 0, 1), X)

    def body(self, op: BodyBuilder, X: Value) -> Any:
        x = op.wide(X)
        line = op.Add(op.Mul(op.like(self.alpha, x), x), op.like(self.beta, x))
        return op.cast_like(op.Max(op.Min(line, op.like(1, x)), op.like(0, x)), X)

    def slope(self, op: Writer, x: Value, y: Value) -> Value | None:
        inside = op.And(op.Greater(y, 0.0), op.Less(y, 1.0))
        slope: Value = op.Where(inside, op.like(self.alpha, x), 0.0)
        return slope


class ThresholdedRelu(Unary, since=22):
    """X where X is greater than `alpha`, else 0."""

    X, Y, T = Input("T"), Output("T"), _F
    alpha: float = 1.0
    history = (past(10, T=types.FLOATS),)

    def compute(self, X: Array) -> Array:
        return rounded(lambda x: np.where(x > self.alpha, x, 0), X)

    def body(self, op: BodyBuilder, X: Value) -> Any:
        x = op.wide(X)
        kept = op.Where(op.Greater(x, op.like(self.alpha, x)), x, op.like(0, x))
        return op.cast_like(kept, X)

    def slope(self, op: Writer, x: Value, y: Value) -> Value | None:
        slope: Value = op.cast(op.Greater(x, self.alpha), op.dtype(x))
        return slope


class Swish(Unary, since=24):
    """X * sigmoid(`alpha` * X)."""

    X, Y, T = Input("T"), Output("T"), _F
    alpha: float = 1.0

    def compute(self, X: Array) -> Array:
        return rounded(lambda x: x * sigmoid(self.alpha * x), X)

    def body(self, op: BodyBuilder, X: Value) -> Any:
        x = op.wide(X)
        return op.cast_like(op.Mul(x, op.Sigmoid(op.Mul(op.like(self.alpha, x), x))), X)

    def slope(self, op: Writer, x: Value, y: Value) -> Value | None:
        part = op.Sigmoid(op.Mul(x, self.alpha))
        slope: Value = op.Mul(part, op.Add(op.Mul(op.Mul(x, self.alpha), op.Sub(1.0, part)), 1.0))
        return slope


class Gelu(Unary, since=20):
    """X * P(N <= X) with N standard normal, or for `approximate` "tanh" its approximation.

    The approximation is 0.5 * X * (1 + tanh(sqrt(2 / pi) * (X + 0.044715 * X^3))).
    """

    X, Y, T = Input("T"), Output("T"), _F
    approximate: str = "none"

    def compute(self, X: Array) -> Array:
        if self._is_approximate:
            # (1 + tanh(u)) / 2 -> sigmoid(2 * u), which does not cancel for negative u
            return rounded(lambda x: x * sigmoid(_GELU_SCALE * (x + 0.044715 * x**3)), X)
        return rounded(lambda x: 0.5 * x * erfc(x / -np.sqrt(2)), X)

    @property
    def _is_approximate(self) -> bool:
        if self.approximate not in {"none", "tanh"}:
            raise ModelError(
                f"Gelu approximate {quote(self.approximate)}", hint='it is "none" or "tanh"'
            )
        return self.approximate == "tanh"

    def body(self, op: BodyBuilder, X: Value) -> Any:
        x = op.wide(X)
        if self._is_approximate:
            cube = op.Mul(op.like(0.044715, x), op.Mul(x, op.Mul(x, x)))
            gate = op.Sigmoid(op.Mul(op.like(_GELU_SCALE, x), op.Add(x, cube)))
            return op.cast_like(op.Mul(x, gate), X)
        below = op.Add(op.like(1, x), op.Erf(op.Mul(x, op.like(np.sqrt(0.5), x))))
        return op.cast_like(op.Mul(op.Mul(op.like(0.5, x), x), below), X)

    def slope(self, op: Writer, x: Value, y: Value) -> Value | None:
        if self.approximate == "tanh":
            cubic = op.Mul(op.Add(op.Mul(_square(op, x), 0.044715), 1.0), x)
            part = op.Sigmoid(op.Mul(cubic, _GELU_SCALE))
            inner = op.Mul(op.Add(op.Mul(_square(op, x), 3 * 0.044715), 1.0), _GELU_SCALE)
            bend = op.Mul(op.Mul(x, inner), op.Mul(part, op.Sub(1.0, part)))
            curve: Value = op.Add(part, bend)
            return curve
        part = op.Mul(op.Add(op.Erf(op.Mul(x, float(np.sqrt(0.5)))), 1.0), 0.5)
        density = op.Mul(op.Exp(op.Mul(_square(op, x), -0.5)), float(1 / np.sqrt(2 * np.pi)))
        slope: Value = op.Add(part, op.Mul(x, density))
        return slope


_GELU_SCALE: Final = 2 * float(np.sqrt(2 / np.pi))


class Shrink(Unary, since=9):
    """input + `bias` below -`lambd`, input - `bias` above `lambd`, and 0 between.

    Integers are computed as floating point and truncated towards zero.
    """

    input, output, T = Input("T"), Output("T"), types.NUMERIC
    bias: float = 0.0
    lambd: float = 0.5

    def compute(self, X: Array) -> Array:
        if X.dtype.kind not in "iu":
            return rounded(lambda x: self._shrunk(x, x + self.bias, x - self.bias), X)
        wide = X.astype(np.float64)
        low, high = to_integer(wide + self.bias, X.dtype), to_integer(wide - self.bias, X.dtype)
        if self.bias == 0:
            low = high = X
        return np.asarray(self._shrunk(X, low, high), X.dtype)

    def _shrunk(self, x: Array, low: Array, high: Array) -> Any:
        return np.where(x < -self.lambd, low, np.where(x > self.lambd, high, 0))

    def body(self, op: BodyBuilder, input: Value) -> Any:
        dtype = op.fact(input).dtype
        is_integer = dtype is not None and dtype.is_integer
        x = op.cast(input, DOUBLE) if is_integer else op.wide(input)
        low = high = input if is_integer else x
        if self.bias:
            low = op.Add(x, op.like(self.bias, x))
            high = op.Sub(x, op.like(self.bias, x))
            if is_integer:
                low, high = op.cast_like(low, input), op.cast_like(high, input)
        above = op.Greater(x, op.like(self.lambd, x))
        inner = op.Where(above, high, op.like(0, high))
        y = op.Where(op.Less(x, op.like(-self.lambd, x)), low, inner)
        return op.cast_like(y, input)

    def slope(self, op: Writer, x: Value, y: Value) -> Value | None:
        outside = op.Or(op.Less(x, -self.lambd), op.Greater(x, self.lambd))
        slope: Value = op.cast(outside, op.dtype(x))
        return slope


class PRelu(Operator, since=16):
    """`slope` * X where X is negative, else X; `slope` broadcasts to the shape of X.

    Before opset 7 a slope of more than one element is one for each channel, axis 1.
    """

    X, slope, Y = Input("T"), Input("T"), Output("T")
    T = types.HIGH_BFLOAT16
    consumed_inputs: tuple[int, ...] | None = attribute(None, before=6)
    history = past(9, T=types.HIGH), past(7, T=types.FLOATS), past(6), past(1)
    body_since = 16

    def infer(self, X: Fact, slope: Fact) -> Fact:
        return same_as(X)

    def reference(self, X: Array, slope: Array) -> Array:
        if self.version < 7:
            per_channel = slope.size > 1 and X.ndim > 1
            slope = slope.reshape((-1,) + (1,) * (X.ndim - 2) if per_channel else (-1,))
        if slope.size == 1 and slope.ndim > X.ndim:
            slope = slope.reshape(())
        if check_broadcast("PRelu", X, slope) != X.shape:
            raise ExecutionError(
                f"PRelu: slope of shape {list(slope.shape)} does not broadcast to {list(X.shape)}"
            )
        return rounded(lambda x, s: np.where(x < 0, s * x, x), X, slope)

    def body(self, op: BodyBuilder, X: Value, slope: Value) -> Any:
        rank, given = op.fact(X).rank, op.fact(slope).rank
        if rank is not None and given is not None and given > rank:
            slope = op.reshape(slope)
        x, s = op.wide(X), op.wide(slope)
        y = op.cast_like(op.Where(op.Less(x, op.like(0, x)), op.Mul(s, x), x), X)
        return y if rank is not None and given is not None else op.reshape(y, op.size(X))

    def gradient(self, op: Writer, grads: Values, inputs: Values, outputs: Values) -> Values:
        (dy,), (x, slope) = grads, inputs
        if self.version < 7:
            raise UnsupportedError(
                f"PRelu-{self.version} has no gradient rule",
                hint="convert the model to opset 7 or newer",
            )
        negative = op.Less(x, 0.0)
        by_slope = op.Where(negative, op.Mul(dy, x), 0.0)
        return [op.Where(negative, op.Mul(dy, slope), dy), op.sum_to(by_slope, slope)]


def _product(op: Writer, a: Value, b: Value) -> Value:
    """A * b, and 0 where a is: Softmax of a row of -inf is NaN, and nothing may depend on it."""
    product: Value = op.Where(op.same(a, 0.0), 0.0, op.Mul(a, b))
    return product


class _AlongAxis(Operator):
    """A function of whole slices along `axis`; before opset 13 of all dimensions from it on."""

    input, output = Input("T"), Output("T")
    T = (*types.FLOATS, BFLOAT16)
    axis: int = -1
    history = past(11, T=types.FLOATS, axis=1), past(1)

    def infer(self, input: Fact) -> Fact:
        if input.rank is not None:
            normalized(self.op_type, self.axis, max(input.rank, 1))
        return same_as(input)

    def reference(self, input: Array) -> Array:
        axis = normalized(self.op_type, self.axis, max(input.ndim, 1))
        if input.size == 0:
            return np.array(input)
        shape = input.shape or (1,)
        if self.version < 13:
            flat = input.reshape(int(np.prod(shape[:axis])), -1)
            return np.asarray(self.compute(flat, 1)).reshape(input.shape)
        return np.asarray(self.compute(input.reshape(shape), axis)).reshape(input.shape)

    def compute(self, x: Array, axis: int) -> Any:
        """The function along one axis of an array that is not empty."""
        raise NotImplementedError

    def summed(self, op: Writer, x: Value) -> Value:
        """The sums of the slices that the function is of, broadcasting to `x`."""
        rank = op.rank(x)
        if rank == 0:
            return x
        first = normalized(self.op_type, self.axis, rank)
        axes = [first] if self.version >= 13 else list(range(first, rank))
        total: Value = op.ReduceSum(x, axes, keepdims=1)
        return total


class _Soft(_AlongAxis):
    """A function that the standard defines as steps, each of them rounded to the input's type."""

    body_since = 13

    def steps(self, input: Array, axis: int) -> tuple[Array, Array, Array]:
        """Input - max, its exponential, and the sum of that along `axis`, in the input's type."""
        greatest = widen(input).max(axis=axis, keepdims=True).astype(input.dtype)
        shifted = rounded(np.subtract, input, greatest)
        powers = rounded(np.exp, shifted)
        return shifted, powers, rounded(lambda x: x.sum(axis=axis, keepdims=True), powers)


def softmax_steps(op: BodyBuilder, x: Value, axis: int) -> tuple[Value, Value, Value]:
    """What `_Soft.steps` gives, as values."""
    axes = None if op.fact(x).rank == 0 else np.array([axis], np.int64)
    shifted = op.Sub(x, op.ReduceMax(x, axes, keepdims=1))
    powers = op.Exp(shifted)
    return shifted, powers, op.ReduceSum(powers, axes, keepdims=1)


def log_softmax(op: BodyBuilder, x: Value, axis: int) -> Value:
    """The logarithm of the softmax of `x` along `axis`."""
    shifted, _, total = softmax_steps(op, x, axis)
    result: Value = op.Sub(shifted, op.Log(total))
    return result


class Softmax(_Soft, since=13):
    """exp(input) divided by its sum along `axis`."""

    def compute(self, x: Array, axis: int) -> Any:
        _, powers, total = self.steps(x, axis)
        return rounded(np.true_divide, powers, total)

    def body(self, op: BodyBuilder, input: Value) -> Any:
        _, powers, total = softmax_steps(op, input, self.axis)
        return op.Div(powers, total)

    def gradient(self, op: Writer, grads: Values, inputs: Values, outputs: Values) -> Values:
        (dy,), (y,) = grads, outputs
        part = _product(op, dy, y)
        return [op.Sub(part, _product(op, self.summed(op, part), y))]


class LogSoftmax(_Soft, since=13):
    """The logarithm of Softmax."""

    def compute(self, x: Array, axis: int) -> Any:
        shifted, _, total = self.steps(x, axis)
        return rounded(np.subtract, shifted, rounded(np.log, total))

    def body(self, op: BodyBuilder, input: Value) -> Any:
        return log_softmax(op, input, self.axis)

    def gradient(self, op: Writer, grads: Values, inputs: Values, outputs: Values) -> Values:
        (dy,), (y,) = grads, outputs
        return [op.Sub(dy, op.Mul(op.Exp(y), self.summed(op, dy)))]


class Hardmax(_AlongAxis, since=13):
    """1 at the first greatest element along `axis` and 0 elsewhere."""

    def compute(self, x: Array, axis: int) -> Any:
        result = np.zeros_like(x)
        first = np.expand_dims(widen(x).argmax(axis=axis), axis)
        np.put_along_axis(result, first, np.ones((), x.dtype), axis=axis)
        return result

    def gradient(self, op: Writer, grads: Values, inputs: Values, outputs: Values) -> Values:
        return [None]
