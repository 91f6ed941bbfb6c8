"""Nodes that give what they were given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from sardonyx.errors import UnsupportedError
from sardonyx.ops.cast import Cast
from sardonyx.rewrite import NodeRule, Refused

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sardonyx.dtypes import DType
    from sardonyx.ir.value import Value
    from sardonyx.rewrite import Match, Scene
    from sardonyx.rewrite.writing import RewriteBuilder

__all__ = ["IDENTITIES", "arguments_of", "has_shape_of"]

_FIRST_INFERENCE_DROPOUT: Final = 7


def arguments_of(match: Match) -> Sequence[Value | None]:
    """The inputs of the match's last node, in the newest form."""
    operator = match.scene.operator(match.root)
    assert operator is not None
    return match.scene.arguments(match.root, operator)


def has_shape_of(scene: Scene, one: Value | None, other: Value | None) -> bool:
    """Whether the two have one shape, whatever the open dims are."""
    left, right = scene.shape(one), scene.shape(other)
    return left is not None and None not in left and left == right


def _first(match: Match) -> Value:
    value = arguments_of(match)[0]
    if value is None:
        raise Refused("the input is omitted")
    return value


def _identity(_op: RewriteBuilder, match: Match) -> Value:
    scene, node = match.scene, match.root
    value = _first(match)
    if scene.is_given_out(node.output):
        is_free = value.producer is not None and value.producer.graph is node.graph
        if not is_free or scene.is_given_out(value):
            raise Refused("the output is the graph's, and so is the input")
    return value


def _same_shape(_op: RewriteBuilder, match: Match) -> Value:
    value = _first(match)
    for other in match.root.inputs[1:]:
        if other is not None and other.producer is None and not match.scene.is_constant(other):
            raise Refused("the shape is fed, and may be wrong")
    if not has_shape_of(match.scene, value, match.root.outputs[0]):
        raise Refused("the shape changes, or may change")
    return value


def _cast(_op: RewriteBuilder, match: Match) -> Value:
    value, operator = _first(match), match.scene.operator(match.root)
    dtype = match.scene.dtype(value)
    if isinstance(operator, Cast):
        try:
            target: DType | None = operator.target
        except UnsupportedError as error:
            raise Refused("it casts to no type") from error
    else:
        target = match.scene.dtype(match.root.output)
    if dtype is None or dtype is not target:
        raise Refused("the type changes, or is not known")
    return value


def _dropout(_op: RewriteBuilder, match: Match) -> Sequence[Value | None]:
    scene, node = match.scene, match.root
    operator = scene.operator(node)
    inputs = arguments_of(match)
    training = inputs[2] if len(inputs) > 2 else None
    if operator is None or operator.version < _FIRST_INFERENCE_DROPOUT:
        raise Refused("it may be in training mode")
    if training is not None:
        flag = scene.constant(training)
        if flag is None or bool(flag.reshape(-1)[0]):
            raise Refused("it is in training mode, or may be")
    return [_first(match), None]


def _transpose(_op: RewriteBuilder, match: Match) -> Value:
    value = _first(match)
    rank = match.scene.rank(value)
    perm = getattr(match.scene.operator(match.root), "perm", None)
    if rank is None or (perm is None and rank > 1):
        raise Refused("the dimensions are reversed")
    if perm is not None and list(perm) != list(range(rank)):
        raise Refused(f"perm is {list(perm)}")
    return value


def _slice(op: RewriteBuilder, match: Match) -> Value:
    inputs = arguments_of(match)
    steps = inputs[4] if len(inputs) > 4 else None
    if steps is not None and any(step != 1 for step in match.scene.ints(steps) or [0]):
        raise Refused("steps are not 1")
    return _same_shape(op, match)


def _pad(_op: RewriteBuilder, match: Match) -> Value:
    inputs = arguments_of(match)
    pads = match.scene.ints(inputs[1]) if len(inputs) > 1 else None
    if pads is None or any(pads):
        raise Refused("pads are not 0")
    return _first(match)


def _single(_op: RewriteBuilder, match: Match) -> Value:
    if len(match.root.inputs) != 1:
        raise Refused("there are several inputs")
    return _first(match)


def _neutral(_op: RewriteBuilder, match: Match) -> Value:
    scene, node = match.scene, match.root
    neutral = _NEUTRAL[node.op_type]
    left, right = arguments_of(match)[:2]
    pairs = [(left, right)]
    if node.op_type in ("Add", "Mul"):
        pairs.append((right, left))
    for kept, other in pairs:
        array = scene.constant(other)
        if kept is None or array is None or array.dtype == object or not array.size:
            continue
        if np.any(array != neutral) or scene.dtype(kept) is not scene.dtype(node.output):
            continue
        if array.ndim == 0 or has_shape_of(scene, kept, node.output):
            return kept
    raise Refused(f"no input is {neutral} everywhere")


def _twice(_op: RewriteBuilder, match: Match) -> Value:
    inner = _first(match).producer
    if inner is None or inner.op_type != match.root.op_type or inner.domain != match.root.domain:
        raise Refused("it is not applied twice")
    if match.root.op_type in ("Relu", "Abs", "Floor", "Ceil", "Round", "Sign"):
        return inner.output
    value = inner.inputs[0]
    assert value is not None
    return value


def _where(_op: RewriteBuilder, match: Match) -> Value:
    scene = match.scene
    condition, x, y = arguments_of(match)
    array = scene.constant(condition)
    if array is None or not array.size:
        raise Refused("the condition is not constant")
    chosen = x if array.all() else None if array.any() else y
    if chosen is None or not has_shape_of(scene, chosen, match.root.output):
        raise Refused("both are chosen from, or shapes may change")
    return chosen


_NEUTRAL: Final = {"Add": 0, "Sub": 0, "Mul": 1, "Div": 1, "Pow": 1}

IDENTITIES: Final = (
    NodeRule("identity", ("Identity",), _identity),
    NodeRule("no-op-cast", ("Cast", "CastLike"), _cast),
    NodeRule("no-op-dropout", ("Dropout",), _dropout),
    NodeRule("no-op-transpose", ("Transpose",), _transpose),
    NodeRule("no-op-slice", ("Slice",), _slice),
    NodeRule("no-op-pad", ("Pad",), _pad),
    NodeRule(
        "no-op-shape",
        ("Reshape", "Expand", "Flatten", "Squeeze", "Unsqueeze", "Tile"),
        _same_shape,
    ),
    NodeRule("single-input", ("Concat", "Sum", "Mean", "Max", "Min"), _single),
    NodeRule("neutral-element", tuple(_NEUTRAL), _neutral),
    NodeRule("twice", ("Not", "Neg", "Relu", "Abs", "Floor", "Ceil", "Round", "Sign"), _twice),
    NodeRule("constant-where", ("Where",), _where),
)
