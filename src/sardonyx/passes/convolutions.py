"""What stands before a convolution in its pads, what follows it in its weights and its bias."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from sardonyx.ir.node import Attribute, AttributeType
from sardonyx.ir.tensor import ArrayTensor
from sardonyx.rewrite import NodeRule, Refused, Rule

if TYPE_CHECKING:
    from sardonyx.ir.node import Node
    from sardonyx.ir.tensor import Array
    from sardonyx.ir.value import Value
    from sardonyx.rewrite import Match, Scene
    from sardonyx.rewrite.writing import RewriteBuilder

__all__ = ["CONVOLUTIONS", "PADDED"]


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


def _pad_into_conv(op: RewriteBuilder, match: Match) -> Value:
    scene, node = match.scene, match.root
    source = node.inputs[0]
    pad = None if source is None else source.producer
    if pad is None or pad.op_type != "Pad" or pad.domain or pad.graph is not node.graph:
        raise Refused("what is convolved is not padded by a node")
    found, conv, padding = _zeros_around(scene, pad), scene.operator(node), scene.operator(pad)
    if found is None or padding is None or getattr(padding, "mode", "") != "constant":
        raise Refused("the padding is not of zeros, or not constant")
    if conv is None or getattr(conv, "auto_pad", "NOTSET") != "NOTSET":
        raise Refused("the convolution pads by itself")
    half = len(found) // 2
    if any(found[:2]) or any(found[half : half + 2]) or min(found) < 0:
        raise Refused("the padding is not of spatial axes alone")
    added = [*found[2:half], *found[half + 2 :]]
    own = getattr(conv, "pads", None) or [0] * len(added)
    total = tuple(a + b for a, b in zip(own, added, strict=True))
    pads = Attribute("pads", AttributeType.INTS, total)
    return op.repeat(node, [pad.inputs[0], *node.inputs[1:]], pads)


def _zeros_around(scene: Scene, pad: Node) -> list[int] | None:
    """How many zeros a Pad adds, of all axes the firsts and then the lasts, if that is known."""
    operator = scene.operator(pad)
    rank = scene.rank(pad.output)
    if operator is None or rank is None:
        return None
    inputs = [*scene.arguments(pad, operator), None, None, None]
    filling = None if inputs[2] is None else scene.constant(inputs[2])
    if inputs[2] is not None and (filling is None or np.any(filling != 0)):
        return None
    pads = scene.ints(inputs[1])
    axes = list(range(rank)) if inputs[3] is None else scene.ints(inputs[3])
    if pads is None or axes is None or len(pads) != 2 * len(axes):
        return None
    found = [0] * (2 * rank)
    for place, axis in enumerate(axes):
        found[axis % rank] = pads[place]
        found[axis % rank + rank] = pads[place + len(axes)]
    return found


PADDED: Final = (NodeRule("pad-into-conv", ("Conv",), _pad_into_conv),)
CONVOLUTIONS: Final = (
    Rule("conv-batch-norm", _normalized, _write_normalized, _is_inference),
    Rule("conv-add", _added, _write_added, _can_add, opset=7),
    Rule("conv-mul", _multiplied, _write_multiplied, _can_multiply, opset=7),
)
