"""Recurrent layers: LSTM, GRU, RNN."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import numpy as np

from sardonyx.dims import divide_exact, known_equal
from sardonyx.dtypes import INT32
from sardonyx.errors import ExecutionError, InferenceError, quote
from sardonyx.ops import types
from sardonyx.ops.fact import Fact
from sardonyx.ops.numeric import widen
from sardonyx.ops.operator import Operator
from sardonyx.ops.recurrent_body import recurrent_body
from sardonyx.ops.schema import Input, Output, attribute, past
from sardonyx.ops.windows import check_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sardonyx.ir.tensor import Array
    from sardonyx.ir.types import DimLike, Shape
    from sardonyx.ir.value import Value
    from sardonyx.ops.body_builder import BodyBuilder

Choice: TypeAlias = tuple[str, float, float]
"""An activation: its name, alpha and beta."""


def _sigmoid(x: Array) -> Array:
    half = x.dtype.type(0.5)
    return np.asarray(np.tanh(x * half) * half + half)


def _softplus(x: Array) -> Array:
    return np.asarray(np.logaddexp(x, x.dtype.type(0)))


# name -> function of x, alpha, beta; default alpha, default beta
_ACTIVATIONS: dict[str, tuple[Callable[..., Array], float, float]] = {
    "relu": (lambda x, a, b: np.maximum(x, 0), 0, 0),
    "tanh": (lambda x, a, b: np.tanh(x), 0, 0),
    "sigmoid": (lambda x, a, b: _sigmoid(x), 0, 0),
    "affine": (lambda x, a, b: a * x + b, 1, 0),
    "leakyrelu": (lambda x, a, b: np.where(x >= 0, x, a * x), 0.01, 0),
    "thresholdedrelu": (lambda x, a, b: np.where(x >= a, x, 0), 1, 0),
    "scaledtanh": (lambda x, a, b: a * np.tanh(b * x), 1, 1),
    "hardsigmoid": (lambda x, a, b: np.clip(a * x + b, 0, 1), 0.2, 0.5),
    "elu": (lambda x, a, b: np.where(x >= 0, x, a * np.expm1(np.minimum(x, 0))), 1, 0),
    "softsign": (lambda x, a, b: x / (1 + np.abs(x)), 0, 0),
    "softplus": (lambda x, a, b: _softplus(x), 0, 0),
}
_TAKES_ALPHA = {"affine", "leakyrelu", "thresholdedrelu", "scaledtanh", "hardsigmoid", "elu"}
_TAKES_BETA = {"affine", "scaledtanh", "hardsigmoid"}


class Recurrent(Operator):
    """What the recurrent layers share: shapes, directions, sequence lengths, activations."""

    gates: ClassVar[int]
    default_activations: ClassVar[tuple[str, ...]]
    body_since = sys.maxsize  # the standard has no function for it
    activation_alpha: tuple[float, ...] | None = None
    activation_beta: tuple[float, ...] | None = None
    activations: tuple[str, ...] | None = None
    clip: float | None = None
    direction: str = "forward"
    hidden_size: int | None = None
    layout: int = attribute(0, since=14)
    output_sequence: int = attribute(0, before=7)

    @property
    def directions(self) -> int:
        """1, or 2 where the layer runs both ways."""
        # GRU-1's schema misspells its own default
        known = ("forward", "foward", "reverse", "bidirectional")
        if self.direction not in known:
            raise InferenceError(
                f"{self.op_type}: direction {quote(self.direction)} is not forward, reverse or "
                "bidirectional"
            )
        return 2 if self.direction == "bidirectional" else 1

    def shapes(
        self, X: Fact, W: Fact, R: Fact, B: Fact | None, lengths: Fact | None, *states: Fact | None
    ) -> tuple[Shape, Shape]:
        """The shapes of Y and of a state, after checking every input against them."""
        count = self.directions
        x = self._ranked("X", X, 3)
        w, r = self._ranked("W", W, 3), self._ranked("R", R, 3)
        batch, steps = (x[0], x[1]) if self.layout else (x[1], x[0])
        hidden = self._hidden(w, r)
        wide = None if hidden is None else hidden * self.gates
        self._match("W", w, (count, wide, x[2]))
        self._match("R", r, (count, wide, hidden))
        if B is not None:
            self._match("B", self._ranked("B", B, 2), (count, None if wide is None else 2 * wide))
        if lengths is not None:
            self._match("sequence_lens", self._ranked("sequence_lens", lengths, 1), (batch,))
        state = (batch, count, hidden) if self.layout else (count, batch, hidden)
        for fact in states:
            if fact is not None:
                self._match("initial state", self._ranked("initial state", fact, 3), state)
        sequence = (batch, steps, count, hidden) if self.layout else (steps, count, batch, hidden)
        return sequence, state

    def _hidden(self, W: Shape, R: Shape) -> DimLike:
        if self.hidden_size is not None:
            if self.hidden_size < 1:
                raise InferenceError(f"{self.op_type}: hidden_size is {self.hidden_size}, not > 0")
            return self.hidden_size
        if R[2] is not None or W[1] is None:
            return R[2]
        return divide_exact(W[1], self.gates)

    def _ranked(self, name: str, fact: Fact, rank: int) -> Shape:
        if fact.shape is None:
            return (None,) * rank
        if len(fact.shape) != rank:
            raise InferenceError(
                f"{self.op_type}: {name} must have rank {rank}, it has rank {len(fact.shape)}"
            )
        return fact.shape

    def _match(self, name: str, shape: Shape, wanted: Shape) -> None:
        for axis, (size, needed) in enumerate(zip(shape, wanted, strict=True)):
            if size is not None and needed is not None and known_equal(size, needed) is False:
                raise InferenceError(
                    f"{self.op_type}: dimension {axis} of {name} is {size}, it must be {needed}"
                )

    def activation_choices(self) -> list[list[Choice]]:
        """The activations of each direction: name, alpha and beta.

        `activation_alpha` and `activation_beta` are consumed in order by the functions that
        take them.
        """
        each = len(self.default_activations)
        names = list(self.activations or self.default_activations * self.directions)
        if len(names) < each * self.directions:
            raise InferenceError(
                f"{self.op_type}: {len(names)} activations given, "
                f"{each * self.directions} are needed"
            )
        alphas, betas = iter(self.activation_alpha or ()), iter(self.activation_beta or ())
        choices = [self._choice(name, alphas, betas) for name in names[: each * self.directions]]
        return [choices[each * d : each * (d + 1)] for d in range(self.directions)]

    def _choice(self, name: str, alphas: Iterator[float], betas: Iterator[float]) -> Choice:
        key = name.lower()
        if key not in _ACTIVATIONS:
            raise InferenceError(f"{self.op_type}: no activation is called {quote(name)}")
        _, alpha, beta = _ACTIVATIONS[key]
        if key in _TAKES_ALPHA:
            alpha = next(alphas, alpha)
        if key in _TAKES_BETA:
            beta = next(betas, beta)
        return key, alpha, beta

    def _activation(self, choice: Choice) -> Callable[[Array], Array]:
        key, alpha, beta = choice
        function, clip = _ACTIVATIONS[key][0], self.clip

        def activate(x: Array) -> Array:
            if clip is not None and clip > 0:
                x = np.clip(x, -clip, clip)
            return np.asarray(function(x, x.dtype.type(alpha), x.dtype.type(beta)), x.dtype)

        return activate

    def body(self, op: BodyBuilder, *inputs: Any) -> tuple[Value, ...]:
        return recurrent_body(self, op, inputs)

    def scan(
        self,
        X: Array,
        W: Array,
        R: Array,
        B: Array | None,
        lengths: Array | None,
        states: list[Array | None],
        peepholes: Array | None = None,
    ) -> tuple[Array, ...]:
        """Run all directions: Y, then the last value of each state."""
        facts = [None if array is None else Fact.constant(array) for array in (B, lengths)]
        held = [None if array is None else Fact.constant(array) for array in states]
        X_fact, W_fact, R_fact = Fact.constant(X), Fact.constant(W), Fact.constant(R)
        y_shape, _ = self.shapes(X_fact, W_fact, R_fact, *facts, *held)
        check_bytes([size for size in y_shape if isinstance(size, int)], 4)
        x = widen(X.swapaxes(0, 1) if self.layout else X)
        steps, batch, hidden = x.shape[0], x.shape[1], R.shape[2]
        if (
            lengths is not None
            and lengths.size
            and not (lengths.min() >= 0 and lengths.max() <= steps)
        ):
            raise ExecutionError(f"{self.op_type}: sequence_lens outside [0, {steps}]")
        starts = [
            np.zeros((self.directions, batch, hidden), x.dtype)
            if array is None
            else widen(array.swapaxes(0, 1) if self.layout else array)
            for array in states
        ]
        Y = np.zeros((steps, self.directions, batch, hidden), x.dtype)
        finals = [start.astype(x.dtype) for start in starts]
        functions = [
            [self._activation(choice) for choice in each] for each in self.activation_choices()
        ]
        with np.errstate(all="ignore"):
            for d in range(self.directions):
                weights = (
                    widen(W[d]),
                    widen(R[d]),
                    np.zeros(2 * W.shape[1], x.dtype) if B is None else widen(B[d]),
                    None if peepholes is None else widen(peepholes[d]),
                )
                backward = self.direction == "reverse" or d == 1
                last = self._direction(
                    x,
                    lengths,
                    [start[d] for start in starts],
                    weights,
                    functions[d],
                    backward,
                    Y[:, d],
                )
                for final, value in zip(finals, last, strict=True):
                    final[d] = value
        if self.layout:
            Y = Y.transpose(2, 0, 1, 3)
            finals = [final.swapaxes(0, 1) for final in finals]
        return tuple(np.ascontiguousarray(array).astype(X.dtype) for array in (Y, *finals))

    def _direction(
        self,
        x: Array,
        lengths: Array | None,
        states: list[Array],
        weights: tuple[Array, Array, Array, Array | None],
        functions: list[Callable[[Array], Array]],
        backward: bool,
        Y: Array,
    ) -> list[Array]:
        W, R, bias, peephole = weights
        steps, batch = x.shape[:2]
        size = W.shape[0]
        projected = np.matmul(x.reshape(-1, x.shape[2]), W.T).reshape(steps, batch, size)
        projected = projected + self.input_bias(bias)
        order = range(steps - 1, -1, -1) if backward else range(steps)
        for t in order:
            new = self.step(projected[t], states, R, bias, peephole, functions)
            if lengths is not None:
                # past the end of a row's sequence its state stands still and Y is 0
                alive = (t < lengths)[:, None]
                states = [np.where(alive, a, b) for a, b in zip(new, states, strict=True)]
                Y[t] = np.where(alive, states[0], 0)
            else:
                states = new
                Y[t] = states[0]
        return states

    def input_bias(self, bias: Array) -> Array:
        """What is added to every step's projection: both halves of B."""
        half = len(bias) // 2
        return np.asarray(bias[:half] + bias[half:])

    def step(
        self,
        x: Array,
        states: list[Array],
        R: Array,
        bias: Array,
        peephole: Array | None,
        functions: list[Callable[[Array], Array]],
    ) -> list[Array]:
        """The states after one step, the hidden one first, from the projected input `x`."""
        raise NotImplementedError

    def infer(
        self,
        X: Fact,
        W: Fact,
        R: Fact,
        B: Fact | None = None,
        sequence_lens: Fact | None = None,
        initial_h: Fact | None = None,
    ) -> tuple[Fact, ...]:
        sequence, state = self.shapes(X, W, R, B, sequence_lens, initial_h)
        return Fact.tensor(X.dtype, sequence), Fact.tensor(X.dtype, state)

    def reference(
        self,
        X: Array,
        W: Array,
        R: Array,
        B: Array | None = None,
        sequence_lens: Array | None = None,
        initial_h: Array | None = None,
    ) -> tuple[Array, ...]:
        return self.scan(X, W, R, B, sequence_lens, [initial_h])


class LSTM(Recurrent, since=22):
    """A long short-term memory layer (gates in the order i, o, f, c)."""

    gates = 4
    default_activations = ("Sigmoid", "Tanh", "Tanh")
    X = Input("T", "[steps, batch, input], or with layout 1 [batch, steps, input].")
    W = Input("T", "[directions, 4 * hidden, input].")
    R = Input("T", "[directions, 4 * hidden, hidden].")
    B = Input("T", "[directions, 8 * hidden].", optional=True)
    sequence_lens = Input("T1", "[batch].", optional=True)
    initial_h = Input("T", "[directions, batch, hidden].", optional=True)
    initial_c = Input("T", "[directions, batch, hidden].", optional=True)
    P = Input("T", "[directions, 3 * hidden].", optional=True)
    Y = Output("T", "[steps, directions, batch, hidden].", optional=True)
    Y_h = Output("T", "[directions, batch, hidden].", optional=True)
    Y_c = Output("T", "[directions, batch, hidden].", optional=True)
    T, T1 = types.FLOATS_BFLOAT16, (INT32,)
    input_forget: int = 0
    history = past(14, T=types.FLOATS), past(7), past(1)

    def infer(
        self,
        X: Fact,
        W: Fact,
        R: Fact,
        B: Fact | None = None,
        sequence_lens: Fact | None = None,
        initial_h: Fact | None = None,
        initial_c: Fact | None = None,
        P: Fact | None = None,
    ) -> tuple[Fact, ...]:
        sequence, state = self.shapes(X, W, R, B, sequence_lens, initial_h, initial_c)
        if P is not None:
            hidden = state[2]
            wanted = (self.directions, None if hidden is None else 3 * hidden)
            self._match("P", self._ranked("P", P, 2), wanted)
        last = Fact.tensor(X.dtype, state)
        return Fact.tensor(X.dtype, sequence), last, last

    def reference(
        self,
        X: Array,
        W: Array,
        R: Array,
        B: Array | None = None,
        sequence_lens: Array | None = None,
        initial_h: Array | None = None,
        initial_c: Array | None = None,
        P: Array | None = None,
    ) -> tuple[Array, ...]:
        if P is not None:
            self._match(
                "P", self._ranked("P", Fact.constant(P), 2), (self.directions, 3 * R.shape[-1])
            )
        return self.scan(X, W, R, B, sequence_lens, [initial_h, initial_c], P)

    def step(
        self,
        x: Array,
        states: list[Array],
        R: Array,
        bias: Array,
        peephole: Array | None,
        functions: list[Callable[[Array], Array]],
    ) -> list[Array]:
        h, c = states
        f, g, out = functions
        gates = x + np.matmul(h, R.T)
        i, o, forget, cell = np.split(gates, 4, axis=1)
        if peephole is not None:
            pi, po, pf = np.split(peephole, 3)
            i, forget = i + pi * c, forget + pf * c
        i = f(i)
        forget = 1 - i if self.input_forget else f(forget)
        c = forget * c + i * g(cell)
        if peephole is not None:
            o = o + po * c
        return [f(o) * out(c), c]


class GRU(Recurrent, since=22):
    """A gated recurrent unit layer (gates in the order z, r, h)."""

    gates = 3
    default_activations = ("Sigmoid", "Tanh")
    X = Input("T", "[steps, batch, input], or with layout 1 [batch, steps, input].")
    W = Input("T", "[directions, 3 * hidden, input].")
    R = Input("T", "[directions, 3 * hidden, hidden].")
    B = Input("T", "[directions, 6 * hidden].", optional=True)
    sequence_lens = Input("T1", "[batch].", optional=True)
    initial_h = Input("T", "[directions, batch, hidden].", optional=True)
    Y = Output("T", "[steps, directions, batch, hidden].", optional=True)
    Y_h = Output("T", "[directions, batch, hidden].", optional=True)
    T, T1 = types.FLOATS_BFLOAT16, (INT32,)
    linear_before_reset: int = attribute(0, since=3)
    history = (
        past(14, T=types.FLOATS),
        past(7),
        past(3),
        past(1, direction="foward", Y_h=Output("T")),
    )

    def input_bias(self, bias: Array) -> Array:
        size = len(bias) // 2
        hidden = size // 3
        added: Array = bias[:size].copy()
        added[: 2 * hidden] += bias[size : size + 2 * hidden]
        return added

    def step(
        self,
        x: Array,
        states: list[Array],
        R: Array,
        bias: Array,
        peephole: Array | None,
        functions: list[Callable[[Array], Array]],
    ) -> list[Array]:
        (h,) = states
        f, g = functions
        hidden = h.shape[1]
        recurrent = np.matmul(h, R[: 2 * hidden].T)
        z = f(x[:, :hidden] + recurrent[:, :hidden])
        r = f(x[:, hidden : 2 * hidden] + recurrent[:, hidden:])
        Rh, bh = R[2 * hidden :], bias[5 * hidden :]
        if self.linear_before_reset:
            candidate = r * (np.matmul(h, Rh.T) + bh)
        else:
            candidate = np.matmul(r * h, Rh.T) + bh
        return [(1 - z) * g(x[:, 2 * hidden :] + candidate) + z * h]


class RNN(Recurrent, since=22):
    """A simple recurrent layer: Ht = f(Xt W^T + Ht-1 R^T + Wb + Rb)."""

    gates = 1
    default_activations = ("Tanh",)
    X = Input("T", "[steps, batch, input], or with layout 1 [batch, steps, input].")
    W = Input("T", "[directions, hidden, input].")
    R = Input("T", "[directions, hidden, hidden].")
    B = Input("T", "[directions, 2 * hidden].", optional=True)
    sequence_lens = Input("T1", "[batch].", optional=True)
    initial_h = Input("T", "[directions, batch, hidden].", optional=True)
    Y = Output("T", "[steps, directions, batch, hidden].", optional=True)
    Y_h = Output("T", "[directions, batch, hidden].", optional=True)
    T, T1 = types.FLOATS_BFLOAT16, (INT32,)
    activations: tuple[str, ...] = ("Tanh", "Tanh")
    history = past(14, T=types.FLOATS), past(7), past(1)

    def step(
        self,
        x: Array,
        states: list[Array],
        R: Array,
        bias: Array,
        peephole: Array | None,
        functions: list[Callable[[Array], Array]],
    ) -> list[Array]:
        return [functions[0](x + np.matmul(states[0], R.T))]
