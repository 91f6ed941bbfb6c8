"""Recurrent layers as a Scan of smaller operators: what their gradients go through."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sardonyx.errors import UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sardonyx.ir.value import Value
    from sardonyx.ops.body_builder import BodyBuilder
    from sardonyx.ops.recurrent import Choice, Recurrent

    Function = Callable[[BodyBuilder, Value], Value]
    Step = Callable[..., list[Value]]

__all__ = ["recurrent_body"]

# name -> nodes for x, alpha, beta
_ACTIVATIONS: dict[str, Callable[[Any, Any, float, float], Any]] = {
    "relu": lambda op, x, a, b: op.Relu(x),
    "tanh": lambda op, x, a, b: op.Tanh(x),
    "sigmoid": lambda op, x, a, b: op.Sigmoid(x),
    "affine": lambda op, x, a, b: op.Add(op.Mul(x, op.like(a, x)), op.like(b, x)),
    "leakyrelu": lambda op, x, a, b: op.LeakyRelu(x, alpha=a),
    "thresholdedrelu": lambda op, x, a, b: op.ThresholdedRelu(x, alpha=a),
    "scaledtanh": lambda op, x, a, b: op.Mul(op.Tanh(op.Mul(x, op.like(b, x))), op.like(a, x)),
    "hardsigmoid": lambda op, x, a, b: op.HardSigmoid(x, alpha=a, beta=b),
    "elu": lambda op, x, a, b: op.Elu(x, alpha=a),
    "softsign": lambda op, x, a, b: op.Softsign(x),
    "softplus": lambda op, x, a, b: op.Softplus(x),
}


def recurrent_body(layer: Recurrent, op: BodyBuilder, inputs: Sequence[Any]) -> tuple[Value, ...]:
    """The outputs of `layer` on `inputs`: one Scan for each direction."""
    X, W, R, B, lengths, *rest = (*inputs, *[None] * 8)[:8]
    states = 2 if layer.op_type == "LSTM" else 1
    initial, P = rest[:states], rest[states] if states == 2 else None
    hidden = layer.hidden_size or op.shape(R)[2]
    if not isinstance(hidden, int):
        raise UnsupportedError(
            f"{layer.op_type} of unknown hidden size has no gradient rule",
            hint="give the attribute hidden_size",
        )
    x = op.Transpose(op.wide(X), perm=[1, 0, 2]) if layer.layout else op.wide(X)
    sequences, finals = [], []
    for d, choices in enumerate(layer.activation_choices()):
        parts = [None if v is None else op.Gather(op.wide(v), np.int64(d)) for v in (W, R, B, P)]
        starts = [_start(layer, op, value, x, d, hidden) for value in initial]
        sequence, *last = _direction(layer, op, x, lengths, starts, parts, choices, d, hidden)
        sequences.append(op.Unsqueeze(sequence, np.array([1], np.int64)))
        place = np.array([1 if layer.layout else 0], np.int64)
        finals.append([op.Unsqueeze(value, place) for value in last])
    Y = op.Concat(*sequences, axis=1)
    if layer.layout:
        Y = op.Transpose(Y, perm=[2, 0, 1, 3])
    joined = [op.Concat(*each, axis=1 if layer.layout else 0) for each in zip(*finals, strict=True)]
    return tuple(op.cast_like(value, X) for value in (Y, *joined))


def _start(
    layer: Recurrent, op: BodyBuilder, given: Value | None, x: Value, d: int, hidden: int
) -> Value:
    if given is None:
        zero: Value = op.Expand(op.like(0, x), op.sizes(op.size(x, 1), hidden))
        return zero
    start: Value = op.Gather(op.wide(given), np.int64(d), axis=1 if layer.layout else 0)
    return start


def _direction(
    layer: Recurrent,
    op: BodyBuilder,
    x: Value,
    lengths: Value | None,
    starts: list[Value],
    parts: Sequence[Any],
    choices: list[Choice],
    d: int,
    hidden: int,
) -> list[Value]:
    """Y of one direction, and the last value of each state."""
    W, R, bias, peephole = parts
    projected = op.MatMul(x, op.Transpose(W, perm=[1, 0]))
    if bias is not None:
        projected = op.Add(projected, _input_bias(layer, op, bias, hidden))
    inner = op.inner(
        f"{layer.op_type}_step",
        [
            *((f"state{index}", op.fact(value)) for index, value in enumerate(starts)),
            ("x", op.fact(op.Gather(projected, np.int64(0)))),
            ("t", op.fact(op.value(np.int64(0))).with_value(None)),
        ],
    )
    *states, now, t = inner.graph.inputs
    functions = [_function(layer, choice) for choice in choices]
    new = _STEPS[layer.op_type](layer, inner, now, states, R, bias, peephole, functions, hidden)
    given = new[0]
    if lengths is not None:
        alive = inner.Less(t, inner.Cast(lengths, to=7))
        alive = inner.Unsqueeze(alive, np.array([1], np.int64))
        new = [inner.Where(alive, a, b) for a, b in zip(new, states, strict=True)]
        given = inner.Where(alive, new[0], inner.like(0, now))
    inner.graph.outputs.extend(inner.Identity(value) for value in (*new, given))
    backward = int(layer.direction == "reverse" or d == 1)
    made = op.apply(
        "Scan",
        [*starts, projected, op.indices(op.size(x, 0))],
        _outputs=len(new) + 1,
        body=inner.graph,
        num_scan_inputs=2,
        scan_input_directions=[backward, backward],
        scan_output_directions=[backward],
    )
    return [made[-1], *made[:-1]]


def _input_bias(layer: Recurrent, op: BodyBuilder, bias: Value, hidden: int) -> Value:
    """What is added to every step's projection; a GRU adds its last part later."""
    size = layer.gates * hidden
    first, second = op.Split(bias, np.array([size, size], np.int64), _outputs=2)
    if layer.op_type == "GRU":
        keep = np.repeat([1, 1, 0], hidden)
        second = op.Mul(second, op.cast_like(op.value(keep), second))
    total: Value = op.Add(first, second)
    return total


def _function(layer: Recurrent, choice: Choice) -> Function:
    key, alpha, beta = choice

    def write(op: BodyBuilder, x: Value) -> Value:
        if layer.clip is not None and layer.clip > 0:
            x = op.Max(op.Min(x, op.like(layer.clip, x)), op.like(-layer.clip, x))
        result: Value = _ACTIVATIONS[key](op, x, float(alpha), float(beta))
        return result

    return write


def _turned(op: BodyBuilder, matrix: Value) -> Value:
    turned: Value = op.Transpose(matrix, perm=[1, 0])
    return turned


def _lstm(
    layer: Any,
    op: BodyBuilder,
    x: Value,
    states: list[Value],
    R: Value,
    bias: Value | None,
    peephole: Value | None,
    functions: list[Function],
    hidden: int,
) -> list[Value]:
    (h, c), (f, g, out) = states, functions
    gates = op.Add(x, op.MatMul(h, _turned(op, R)))
    i, o, forget, cell = op.Split(gates, np.full(4, hidden, np.int64), axis=1, _outputs=4)
    if peephole is not None:
        pi, po, pf = op.Split(peephole, np.full(3, hidden, np.int64), _outputs=3)
        i, forget = op.Add(i, op.Mul(pi, c)), op.Add(forget, op.Mul(pf, c))
    i = f(op, i)
    forget = op.Sub(op.like(1, i), i) if layer.input_forget else f(op, forget)
    c = op.Add(op.Mul(forget, c), op.Mul(i, g(op, cell)))
    if peephole is not None:
        o = op.Add(o, op.Mul(po, c))
    return [op.Mul(f(op, o), out(op, c)), c]


def _gru(
    layer: Any,
    op: BodyBuilder,
    x: Value,
    states: list[Value],
    R: Value,
    bias: Value | None,
    peephole: Value | None,
    functions: list[Function],
    hidden: int,
) -> list[Value]:
    (h,), (f, g) = states, functions
    Rz, Rr, Rh = op.Split(R, np.full(3, hidden, np.int64), _outputs=3)
    xz, xr, xh = op.Split(x, np.full(3, hidden, np.int64), axis=1, _outputs=3)
    z = f(op, op.Add(xz, op.MatMul(h, _turned(op, Rz))))
    r = f(op, op.Add(xr, op.MatMul(h, _turned(op, Rr))))
    late = None
    if bias is not None:
        late = op.Split(bias, np.array([5 * hidden, hidden], np.int64), _outputs=2)[1]

    def shifted(value: Value) -> Value:
        return value if late is None else op.Add(value, late)

    if layer.linear_before_reset:
        candidate = op.Mul(r, shifted(op.MatMul(h, _turned(op, Rh))))
    else:
        candidate = shifted(op.MatMul(op.Mul(r, h), _turned(op, Rh)))
    new = g(op, op.Add(xh, candidate))
    return [op.Add(op.Mul(op.Sub(op.like(1, z), z), new), op.Mul(z, h))]


def _rnn(
    layer: Any,
    op: BodyBuilder,
    x: Value,
    states: list[Value],
    R: Value,
    bias: Value | None,
    peephole: Value | None,
    functions: list[Function],
    hidden: int,
) -> list[Value]:
    return [functions[0](op, op.Add(x, op.MatMul(states[0], _turned(op, R))))]


_STEPS: dict[str, Step] = {"LSTM": _lstm, "GRU": _gru, "RNN": _rnn}
