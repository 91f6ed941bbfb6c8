"""Recurrent layers kept whole while torch traces a module.

torch unrolls them over the time steps of the example, which fixes their number. While tracing,
the functions that `torch.nn.LSTM` and its like call are operators of our own with the same
arguments, which `recurrent` translates.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import _VF

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["recurrent_layers_whole"]

_NAMES: Final = ("lstm", "gru", "rnn_tanh", "rnn_relu")
_ARGUMENTS: Final = (
    "Tensor[] params, bool has_biases, int num_layers, float dropout, bool train, "
    "bool bidirectional, bool batch_first"
)
_LIBRARY: Final = torch.library.Library("sardonyx", "FRAGMENT")


def _define(name: str) -> None:
    original = getattr(_VF, name)
    state = "Tensor[] hx" if name == "lstm" else "Tensor hx"
    result = "(Tensor, Tensor, Tensor)" if name == "lstm" else "(Tensor, Tensor)"
    _LIBRARY.define(f"{name}(Tensor input, {state}, {_ARGUMENTS}) -> {result}")

    def compute(x: Any, hx: Any, params: Any, *rest: Any) -> Any:
        return tuple(each.clone() for each in original(x, hx, params, *rest))

    def shapes(x: Any, hx: Any, params: Any, *rest: Any) -> Any:
        states = list(hx) if isinstance(hx, (list, tuple)) else [hx]
        directions = 2 if rest[4] else 1
        width = states[0].shape[-1] * directions
        output = x.new_empty([*x.shape[:2], width])
        return (output, *(torch.empty_like(each) for each in states))

    _LIBRARY.impl(name, compute, "CPU")
    torch.library.register_fake(f"sardonyx::{name}", shapes, lib=_LIBRARY)


for _name in _NAMES:
    _define(_name)


@contextmanager
def recurrent_layers_whole() -> Iterator[None]:
    """Within the block, recurrent layers are one node each of what is traced."""
    module: Any = _VF
    before = {name: getattr(module, name) for name in _NAMES}

    def whole(name: str) -> Callable[..., Any]:
        operator = getattr(torch.ops.sardonyx, name).default

        def call(x: Any, *rest: Any) -> Any:
            packed = isinstance(rest[0], torch.Tensor) and isinstance(rest[2], (list, tuple))
            if packed or not isinstance(rest[-1], bool):
                return before[name](x, *rest)
            return operator(x, *rest)

        return call

    try:
        for name in _NAMES:
            setattr(module, name, whole(name))
        yield
    finally:
        for name, function in before.items():
            setattr(module, name, function)
