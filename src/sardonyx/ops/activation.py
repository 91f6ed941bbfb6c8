"""Activation functions, and the softmax family."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from sardonyx.dtypes import BFLOAT16, FLOAT
from sardonyx.errors import ExecutionError, ModelError, quote
from sardonyx.ops import types
from sardonyx.ops.elementwise import ConsumingUnary, Unary, unary
from sardonyx.ops.numeric import check_broadcast, erfc, rounded, single, to_integer, widen
from sardonyx.ops.operator import Operator, same_as
from sardonyx.ops.schema import ABSENT, Input, Output, attribute, past
from sardonyx.ops.symbolic import normalized

if TYPE_CHECKING:
    from sardonyx.ir.tensor import Array
    from sardonyx.ops.fact import Fact


def sigmoid(x: Array) -> Any:
    """1 / (1 + exp(-x)) without overflow."""
    decayed = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, decayed) / (1 + decayed)


def _softplus(x: Array) -> Any:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


_F: Final = types.FLOATS_BFLOAT16
_6: Final = (past(6, T=types.FLOATS), past(1))
_1: Final = (past(1, T=types.FLOATS, consumed_inputs=ABSENT),)
_SIGNED: Final = (*types.SIGNED, *_F)

# fmt: off
#                 name         inputs since types function    history
Relu     = unary("Relu",       "X Y", 14, _SIGNED, lambda x: np.maximum(x, 0), past(13, T=_F), *_6,
                 doc="max(0, X).")
Sigmoid  = unary("Sigmoid",    "X Y", 13, _F, sigmoid, *_6, doc="1 / (1 + exp(-X)).")
Softplus = unary("Softplus",   "X Y", 22, _F, _softplus, *_1, doc="ln(1 + exp(X)).")
Softsign = unary("Softsign",   "input output", 22, _F, lambda x: x / (1 + np.abs(x)), *_1,
                 doc="input / (1 + |input|).")
HardSwish = unary("HardSwish", "X Y", 22, _F, lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
                  past(14, T=types.FLOATS), doc="X * max(0, min(1, X / 6 + 0.5)).")
Mish     = unary("Mish",       "X Y", 22, _F, lambda x: x * np.tanh(_softplus(x)),
                 past(18, T=types.FLOATS), doc="X * tanh(softplus(X)).")
# fmt: on


class LeakyRelu(ConsumingUnary, since=16):
    """`alpha` * X where X is negative, else X."""

    X, Y, T = Input("T"), Output("T"), _F
    alpha: float = single(0.01)
    history = _6

    def compute(self, X: Array) -> Array:
        return rounded(lambda x: np.where(x < 0, self.alpha * x, x), X)


class Elu(ConsumingUnary, since=22):
    """`alpha` * (exp(X) - 1) where X is negative, else X."""

    X, Y, T = Input("T"), Output("T"), _F
    alpha: float = 1.0
    history = _6

    def compute(self, X: Array) -> Array:
        return rounded(lambda x: np.where(x < 0, self.alpha * np.expm1(x), x), X)


class Selu(ConsumingUnary, since=22):
    """`gamma` * X where X is positive, else `gamma` * `alpha` * (exp(X) - 1)."""

    X, Y, T = Input("T"), Output("T"), _F
    alpha: float = single(1.6732632)
    gamma: float = single(1.050701)
    history = (
        past(6, T=types.FLOATS),
        past(1, alpha=single(1.6732), gamma=single(1.0507)),
    )

    def compute(self, X: Array) -> Array:
        return rounded(lambda x: self.gamma * np.where(x > 0, x, self.alpha * np.expm1(x)), X)


class Celu(Unary, since=28):
    """max(0, X) + min(0, `alpha` * (exp(X / `alpha`) - 1))."""

    X, Y, T = Input("T"), Output("T"), _F
    alpha: float = 1.0
    history = (past(12, T=(FLOAT,)),)

    def compute(self, X: Array) -> Array:
        alpha = np.float32(self.alpha)
        return rounded(lambda x: np.maximum(x, 0) + np.minimum(0, alpha * np.expm1(x / alpha)), X)


class HardSigmoid(ConsumingUnary, since=22):
    """max(0, min(1, `alpha` * X + `beta`))."""

    X, Y, T = Input("T"), Output("T"), _F
    alpha: float = single(0.2)
    beta: float = 0.5
    history = _6

    def compute(self, X: Array) -> Array:
        return rounded(lambda x: np.clip(self.alpha * x + self.beta, 0, 1), X)


class ThresholdedRelu(Unary, since=22):
    """X where X is greater than `alpha`, else 0."""

    X, Y, T = Input("T"), Output("T"), _F
    alpha: float = 1.0
    history = (past(10, T=types.FLOATS),)

    def compute(self, X: Array) -> Array:
        return rounded(lambda x: np.where(x > self.alpha, x, 0), X)


class Swish(Unary, since=24):
    """X * sigmoid(`alpha` * X)."""

    X, Y, T = Input("T"), Output("T"), _F
    alpha: float = 1.0

    def compute(self, X: Array) -> Array:
        return rounded(lambda x: x * sigmoid(self.alpha * x), X)


class Gelu(Unary, since=20):
    """X * P(N <= X) with N standard normal, or for `approximate` "tanh" its approximation.

    The approximation is 0.5 * X * (1 + tanh(sqrt(2 / pi) * (X + 0.044715 * X^3))).
    """

    X, Y, T = Input("T"), Output("T"), _F
    approximate: str = "none"

    def compute(self, X: Array) -> Array:
        if self.approximate == "tanh":
            # (1 + tanh(u)) / 2 -> sigmoid(2 * u), which does not cancel for negative u
            return rounded(lambda x: x * sigmoid(_GELU_SCALE * (x + 0.044715 * x**3)), X)
        if self.approximate != "none":
            raise ModelError(
                f"Gelu approximate {quote(self.approximate)}", hint='it is "none" or "tanh"'
            )
        return rounded(lambda x: 0.5 * x * erfc(x / -np.sqrt(2)), X)


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


class PRelu(Operator, since=16):
    """`slope` * X where X is negative, else X; `slope` broadcasts to the shape of X.

    Before opset 7 a slope of more than one element is one for each channel, axis 1.
    """

    X, slope, Y = Input("T"), Input("T"), Output("T")
    T = types.HIGH_BFLOAT16
    consumed_inputs: tuple[int, ...] | None = attribute(None, before=6)
    history = past(9, T=types.HIGH), past(7, T=types.FLOATS), past(6), past(1)

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


class _Soft(_AlongAxis):
    """A function that the standard defines as steps, each of them rounded to the input's type."""

    def steps(self, input: Array, axis: int) -> tuple[Array, Array, Array]:
        """Input - max, its exponential, and the sum of that along `axis`, in the input's type."""
        greatest = widen(input).max(axis=axis, keepdims=True).astype(input.dtype)
        shifted = rounded(np.subtract, input, greatest)
        powers = rounded(np.exp, shifted)
        return shifted, powers, rounded(lambda x: x.sum(axis=axis, keepdims=True), powers)


class Softmax(_Soft, since=13):
    """exp(input) divided by its sum along `axis`."""

    def compute(self, x: Array, axis: int) -> Any:
        _, powers, total = self.steps(x, axis)
        return rounded(np.true_divide, powers, total)


class LogSoftmax(_Soft, since=13):
    """The logarithm of Softmax."""

    def compute(self, x: Array, axis: int) -> Any:
        shifted, _, total = self.steps(x, axis)
        return rounded(np.subtract, shifted, rounded(np.log, total))


class Hardmax(_AlongAxis, since=13):
    """1 at the first greatest element along `axis` and 0 elsewhere."""

    def compute(self, x: Array, axis: int) -> Any:
        result = np.zeros_like(x)
        first = np.expand_dims(widen(x).argmax(axis=axis), axis)
        np.put_along_axis(result, first, np.ones((), x.dtype), axis=axis)
        return result
