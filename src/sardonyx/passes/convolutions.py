"""What follows a convolution, in its weights and its bias."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from sardonyx.ir.tensor import ArrayTensor
from sardonyx.rewrite import Refused, Rule

if TYPE_CHECKING:
    from sardonyx.ir.tensor import Array
    from sardonyx.ir.value import Value
    from sardonyx.rewrite import Match

__all__ = ["CONVOLUTIONS"]


def _normalized(
    op: Any, x: Any, w: Any, scale: Any, shift: Any, mean: Any, variance: Any, b: Any = None
) -> Any:
    conv = op.Conv(x, w, b, _bind="conv")
    return op.BatchNormalization(conv, scale, shift, mean, variance, _bind="norm")


def _is_inference(match: Match) -> str | None:
    node, operator = match.root, match.operator("norm")
    if any(value.users or match.scene.is_given_out(value) for value in node.outputs[1:]):
        return "it gives running statistics"
    if getattr(operator, "training_mode", 0):
        return "it is in training mode"
    if not getattr(operator, "spatial", 1):
        return "it is not spatial"
    names = ["w", "scale", "shift", "mean", "variance", *(["b"] if match["b"] else [])]
    return _are_constant(match, names)


def _are_constant(match: Match, names: list[str]) -> str | None:
    for name in names:
        if not match.scene.is_constant(match[name]):
            return f"{name} is not constant"
    return None


def _wide(match: Match, name: str) -> Array:
    array = match.constant(name)
    assert array is not None
    wide: Array = array.astype(np.float64)
    return wide


def _write_normalized(op: Any, match: Match) -> list[Value | None]:
    epsilon = getattr(match.operator("norm"), "epsilon", 1e-5)
    factor = _wide(match, "scale") / np.sqrt(_wide(match, "variance") + epsilon)
    bias = _wide(match, "b") if match["b"] is not None else 0.0
    bias = (bias - _wide(match, "mean")) * factor + _wide(match, "shift")
    return [_conv(op, match, _scaled(match, factor), bias)]


def _scaled(match: Match, factor: Array) -> Array:
    weights = _wide(match, "w")
    scaled: Array = weights * factor.reshape(-1, *[1] * (weights.ndim - 1))
    return scaled


def _conv(op: Any, match: Match, weights: Array | None, bias: Array) -> Value:
    if not np.isfinite(bias).all() or (weights is not None and not np.isfinite(weights).all()):
        raise Refused("the weights would not be finite")
    dtype = op.dtype(match["w"])
    node = match.node("conv")
    assert node is not None
    new = match["w"] if weights is None else op.value(ArrayTensor(weights, dtype))
    made: Value = op.repeat(node, [match["x"], new, op.value(ArrayTensor(bias, dtype))])
    return made


def _added(op: Any, x: Any, w: Any, c: Any, b: Any = None) -> Any:
    return op.Add(op.Conv(x, w, b, _bind="conv"), c)


def _multiplied(op: Any, x: Any, w: Any, c: Any, b: Any = None) -> Any:
    return op.Mul(op.Conv(x, w, b, _bind="conv"), c)


def _by_channel(match: Match) -> Array | str:
    """The constant `c` as one number for each output channel, or why it is not."""
    array, shape = match.constant("c"), match.shape("w")
    if array is None:
        return "what is added or multiplied is not constant"
    rank = match.rank("x")
    if shape is None or rank is None or not isinstance(shape[0], int):
        return "the weights' shape is not known"
    if array.ndim > rank:
        return "the constant has more dimensions"
    full: Array = array.reshape([1] * (rank - array.ndim) + list(array.shape))
    sizes: list[int] = list(full.shape)
    if any(size != 1 for axis, size in enumerate(sizes) if axis != 1):
        return "the constant differs within a channel"
    if sizes[1] not in (1, shape[0]):
        return "the constant has other channels"
    flat: Array = np.broadcast_to(full.reshape(-1), (shape[0],)).astype(np.float64)
    return flat


def _can_add(match: Match) -> str | None:
    found = _by_channel(match)
    if isinstance(found, str):
        return found
    return _are_constant(match, ["b"]) if match["b"] is not None else None


def _can_multiply(match: Match) -> str | None:
    found = _by_channel(match)
    if isinstance(found, str):
        return found
    return _are_constant(match, ["w", *(["b"] if match["b"] is not None else [])])


def _write_added(op: Any, match: Match) -> Value:
    added = _by_channel(match)
    assert not isinstance(added, str)
    return _conv(op, match, None, added + (_wide(match, "b") if match["b"] is not None else 0.0))


def _write_multiplied(op: Any, match: Match) -> Value:
    factor = _by_channel(match)
    assert not isinstance(factor, str)
    if match["b"] is None:
        node = match.node("conv")
        assert node is not None
        weights = op.value(ArrayTensor(_scaled(match, factor), op.dtype(match["w"])))
        made: Value = op.repeat(node, [match["x"], weights])
        return made
    return _conv(op, match, _scaled(match, factor), _wide(match, "b") * factor)


CONVOLUTIONS: Final = (
    Rule("conv-batch-norm", _normalized, _write_normalized, _is_inference),
    Rule("conv-add", _added, _write_added, _can_add, opset=7),
    Rule("conv-mul", _multiplied, _write_multiplied, _can_multiply, opset=7),
)
