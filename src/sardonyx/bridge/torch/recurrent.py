"""Recurrent layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor
from torch.nn import functional

from sardonyx.bridge.torch.registry import implementation

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_FUNCTIONS: Final[dict[str, Callable[[Tensor, float, float], Tensor]]] = {
    "relu": lambda x, a, b: torch.relu(x),
    "tanh": lambda x, a, b: torch.tanh(x),
    "sigmoid": lambda x, a, b: torch.sigmoid(x),
    "affine": lambda x, a, b: a * x + b,
    "leakyrelu": lambda x, a, b: functional.leaky_relu(x, a),
    "thresholdedrelu": lambda x, a, b: torch.where(x >= a, x, torch.zeros_like(x)),
    "scaledtanh": lambda x, a, b: a * torch.tanh(b * x),
    "hardsigmoid": lambda x, a, b: torch.clamp(a * x + b, 0, 1),
    "elu": lambda x, a, b: functional.elu(x, a),
    "softsign": lambda x, a, b: functional.softsign(x),
    "softplus": lambda x, a, b: torch.logaddexp(x, torch.zeros_like(x)),
}
Choice = tuple[str, float, float]
Step = "Callable[[Tensor, list[Tensor], Tensor, Tensor, Tensor | None, Any], list[Tensor]]"


def _layer(operator: Any, _inputs: Any, _outputs: Any) -> Mapping[str, Any]:
    """Attributes, with the activations worked out: none where they are the usual ones."""
    keywords: dict[str, Any] = {}
    if operator.direction not in {"forward", "foward"}:
        keywords["direction"] = operator.direction
    choices = tuple(
        [
            tuple([(name, float(alpha), float(beta)) for name, alpha, beta in each])
            for each in operator.activation_choices()
        ]
    )
    usual = tuple([name.lower() for name in operator.default_activations])
    if any(tuple([choice[0] for choice in each]) != usual for each in choices):
        keywords["activations"] = choices
    if operator.clip:
        keywords["clip"] = operator.clip
    if operator.layout:
        keywords["layout"] = 1
    for name in ("input_forget", "linear_before_reset"):
        if getattr(operator, name, 0):
            keywords[name] = 1
    return keywords


def _swapped(x: Tensor | None, layout: int) -> Tensor | None:
    return x if x is None or not layout else x.transpose(0, 1)


def _reordered(w: Tensor, order: Sequence[int]) -> Tensor:
    """Gates in another order."""
    if list(order) == list(range(len(order))):
        return w
    parts = w.chunk(len(order))
    return torch.cat([parts[index] for index in order])


def _fused(
    function: Callable[..., tuple[Tensor, ...]],
    x: Tensor,
    states: Any,
    w: Tensor,
    r: Tensor,
    b: Tensor | None,
    order: Sequence[int],
) -> tuple[Tensor, ...]:
    """A layer by PyTorch's own function: the sequence, and the last states."""
    weights = []
    for d in range(w.shape[0]):
        weights += [_reordered(w[d], order), _reordered(r[d], order)]
        if b is not None:
            half = b.shape[1] // 2
            weights += [_reordered(b[d, :half], order), _reordered(b[d, half:], order)]
    y, *last = function(x, states, weights, b is not None, 1, 0.0, False, w.shape[0] == 2, False)
    steps, batch = x.shape[:2]
    return (y.reshape(steps, batch, w.shape[0], -1).transpose(1, 2), *last)


def _initial(x: Tensor, r: Tensor, state: Tensor | None) -> Tensor:
    if state is not None:
        return state
    return x.new_zeros((r.shape[0], x.shape[1], r.shape[2]))


def _loop(
    step: Any,
    x: Tensor,
    states: Sequence[Tensor],
    w: Tensor,
    r: Tensor,
    b: Tensor | None,
    lengths: Tensor | None,
    peepholes: Tensor | None,
    direction: str,
    functions: Sequence[Sequence[Choice]],
    clip: float,
) -> tuple[Tensor, ...]:
    columns, lasts = [], []
    for d in range(w.shape[0]):
        bias = w.new_zeros(2 * w.shape[1]) if b is None else b[d]
        current = [state[d] for state in states]
        projected = torch.matmul(x, w[d].t())
        chosen = [_activation(choice, clip) for choice in functions[d]]
        peephole = None if peepholes is None else peepholes[d]
        is_backward = direction == "reverse" or d == 1
        order = range(x.shape[0])
        rows: list[Tensor] = []
        for t in reversed(order) if is_backward else order:
            new = step(projected[t], current, r[d], bias, peephole, chosen)
            if lengths is None:
                current = new
                rows.append(current[0])
            else:
                alive = (t < lengths).unsqueeze(1)
                current = [torch.where(alive, a, c) for a, c in zip(new, current, strict=True)]
                rows.append(torch.where(alive, current[0], torch.zeros_like(current[0])))
        columns.append(torch.stack(rows[::-1] if is_backward else rows))
        lasts.append(current)
    finals = [torch.stack(column) for column in zip(*lasts, strict=True)]
    return (torch.stack(columns, 1), *finals)


def _activation(choice: Choice, clip: float) -> Callable[[Tensor], Tensor]:
    name, alpha, beta = choice
    function = _FUNCTIONS[name]
    if not clip:
        return lambda x: function(x, alpha, beta)
    return lambda x: function(torch.clamp(x, -clip, clip), alpha, beta)


def _finished(found: tuple[Tensor, ...], layout: int) -> tuple[Tensor, ...]:
    if not layout:
        return found
    y, *finals = found
    return (y.permute(2, 0, 1, 3), *(final.transpose(0, 1) for final in finals))


def _usual(names: Sequence[str], count: int) -> list[list[Choice]]:
    return [[(name, 0.0, 0.0) for name in names]] * count


def _rnn_step(x: Any, states: Any, r: Any, bias: Any, _peephole: Any, functions: Any) -> Any:
    half = bias.shape[0] // 2
    return [functions[0](x + states[0] @ r.t() + bias[:half] + bias[half:])]


@implementation("RNN", several=True, attributes=_layer)
def rnn(
    x: Tensor,
    w: Tensor,
    r: Tensor,
    b: Tensor | None = None,
    lengths: Tensor | None = None,
    initial_h: Tensor | None = None,
    *,
    direction: str = "forward",
    activations: Any = None,
    clip: float = 0.0,
    layout: int = 0,
) -> tuple[Tensor, ...]:
    if layout:
        x = x.transpose(0, 1)
    h = _initial(x, r, _swapped(initial_h, layout))
    if activations is None and lengths is None and not clip and direction != "reverse":
        return _finished(_fused(torch.rnn_tanh, x, h, w, r, b, [0]), layout)
    chosen = activations or _usual(("tanh",), w.shape[0])
    found = _loop(_rnn_step, x, [h], w, r, b, lengths, None, direction, chosen, clip)
    return _finished(found, layout)


def _lstm_step(input_forget: int) -> Any:
    def step(x: Any, states: Any, r: Any, bias: Any, peephole: Any, functions: Any) -> Any:
        h, c = states
        f, g, out = functions
        half = bias.shape[0] // 2
        i, o, forget, cell = (x + h @ r.t() + bias[:half] + bias[half:]).chunk(4, 1)
        if peephole is not None:
            pi, po, pf = peephole.chunk(3)
            i, forget = i + pi * c, forget + pf * c
        i = f(i)
        forget = 1 - i if input_forget else f(forget)
        c = forget * c + i * g(cell)
        if peephole is not None:
            o = o + po * c
        return [f(o) * out(c), c]

    return step


@implementation("LSTM", several=True, attributes=_layer)
def lstm(
    x: Tensor,
    w: Tensor,
    r: Tensor,
    b: Tensor | None = None,
    lengths: Tensor | None = None,
    initial_h: Tensor | None = None,
    initial_c: Tensor | None = None,
    p: Tensor | None = None,
    *,
    direction: str = "forward",
    activations: Any = None,
    clip: float = 0.0,
    input_forget: int = 0,
    layout: int = 0,
) -> tuple[Tensor, ...]:
    if layout:
        x = x.transpose(0, 1)
    h = _initial(x, r, _swapped(initial_h, layout))
    c = _initial(x, r, _swapped(initial_c, layout))
    is_usual = activations is None and lengths is None and p is None and not clip
    if is_usual and not input_forget and direction != "reverse":
        # input, output, forget, cell -> input, forget, cell, output
        return _finished(_fused(torch.lstm, x, (h, c), w, r, b, [0, 2, 3, 1]), layout)
    chosen = activations or _usual(("sigmoid", "tanh", "tanh"), w.shape[0])
    step = _lstm_step(input_forget)
    found = _loop(step, x, [h, c], w, r, b, lengths, p, direction, chosen, clip)
    return _finished(found, layout)


def _gru_step(linear_before_reset: int) -> Any:
    def step(x: Any, states: Any, r: Any, bias: Any, _peephole: Any, functions: Any) -> Any:
        (h,) = states
        f, g = functions
        size = h.shape[1]
        added, recurrent_bias = bias.chunk(2)
        x = x + added
        gates = x[:, : 2 * size] + h @ r[: 2 * size].t() + recurrent_bias[: 2 * size]
        z, reset = f(gates[:, :size]), f(gates[:, size:])
        last, last_bias = r[2 * size :].t(), recurrent_bias[2 * size :]
        if linear_before_reset:
            candidate = reset * (h @ last + last_bias)
        else:
            candidate = (reset * h) @ last + last_bias
        return [(1 - z) * g(x[:, 2 * size :] + candidate) + z * h]

    return step


@implementation("GRU", several=True, attributes=_layer)
def gru(
    x: Tensor,
    w: Tensor,
    r: Tensor,
    b: Tensor | None = None,
    lengths: Tensor | None = None,
    initial_h: Tensor | None = None,
    *,
    direction: str = "forward",
    activations: Any = None,
    clip: float = 0.0,
    linear_before_reset: int = 0,
    layout: int = 0,
) -> tuple[Tensor, ...]:
    if layout:
        x = x.transpose(0, 1)
    h = _initial(x, r, _swapped(initial_h, layout))
    is_usual = activations is None and lengths is None and not clip and direction != "reverse"
    if is_usual and linear_before_reset:
        # update, reset, hidden -> reset, update, hidden
        return _finished(_fused(torch.gru, x, h, w, r, b, [1, 0, 2]), layout)
    chosen = activations or _usual(("sigmoid", "tanh"), w.shape[0])
    step = _gru_step(linear_before_reset)
    found = _loop(step, x, [h], w, r, b, lengths, None, direction, chosen, clip)
    return _finished(found, layout)
