"""Bridges back: an ONNX model as a module of a framework."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import os

    from sardonyx.ir.model import Model

__all__ = ["to_torch"]


def to_torch(model: Model | str | os.PathLike[str], *, trainable: bool = True) -> Any:
    """A `torch.nn.Module` that computes what `model`, or the file of that name, computes.

    The module is a `torch.fx.GraphModule`: ``module.code`` is its source, and autograd,
    `torch.compile`, `torch.export`, `copy.deepcopy` and `torch.save` work on it.

    - Weights have the names of the initializers, dots making submodules, so that `state_dict` has
      the keys of the module that was exported. Floating-point ones are parameters, which need
      gradients if `trainable`; integers, running statistics of BatchNormalization and scales of
      quantization are buffers. Constants are buffers that `state_dict` leaves out.
    - `forward` takes the graph's inputs in order or by keyword and returns the output, or a tuple
      of all. A tensor of any device and of the declared element type may be given; sequences are
      lists, an absent optional is None.
    - Sizes are computed from the inputs' shapes as Python integers, so dynamic dimensions stay so.
    - What the graph says of training holds: ``train()`` and ``eval()`` change nothing.

    The weights are copies. Raises `UnsupportedError`, with all of them in one report, for operators
    that have no counterpart in PyTorch, and what `sardonyx.load` raises.
    """
    from sardonyx.bridge.torch import build

    return build(model, trainable=trainable)
