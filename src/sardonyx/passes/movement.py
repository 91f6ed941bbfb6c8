"""Consecutive moves of elements become one, or none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from sardonyx.dims import symbols
from sardonyx.dtypes import BFLOAT16, BOOL, DOUBLE, FLOAT, FLOAT16
from sardonyx.passes.identities import arguments_of
from sardonyx.rewrite import NodeRule, Refused

if TYPE_CHECKING:
    from sardonyx.dtypes import DType
    from sardonyx.ir.node import Node
    from sardonyx.ir.value import Value
    from sardonyx.rewrite import Match, Scene
    from sardonyx.rewrite.writing import RewriteBuilder

__all__ = ["MOVEMENT"]

_VIEWS: Final = ("Reshape", "Flatten", "Squeeze", "Unsqueeze")
_FIRST_WITH_ZERO: Final = 5
_UNARY: Final = frozenset(
    {
        "Abs",
        "Cast",
        "Ceil",
        "Clip",
        "Cos",
        "Elu",
        "Erf",
        "Exp",
        "Floor",
        "Gelu",
        "HardSigmoid",
        "HardSwish",
        "LeakyRelu",
        "Log",
        "Mish",
        "Neg",
        "Not",
        "Reciprocal",
        "Relu",
        "Round",
        "Selu",
        "Sigmoid",
        "Sign",
        "Sin",
        "Softplus",
        "Softsign",
        "Sqrt",
        "Swish",
        "Tanh",
        "ThresholdedRelu",
    }
)
_BINARY: Final = frozenset(
    {"Add", "And", "Div", "Equal", "Greater", "Less", "Max", "Min", "Mul", "Or", "Pow", "Sub"}
)
_LONGEST_CHAIN: Final = 16


def _inner(match: Match, op_types: tuple[str, ...], *, alone: bool = True) -> Node:
    """The node before, of one of these operators; `alone`: that nobody else reads."""
    value = match.root.inputs[0]
    producer = None if value is None else value.producer
    if producer is None or producer.op_type not in op_types or producer.domain:
        raise Refused(f"no {'/'.join(op_types)} comes before")
    if producer.graph is not match.root.graph:
        raise Refused("what comes before is in another graph")
    if alone and not match.scene.is_only_used_by(producer.outputs[0], (match.root,)):
        raise Refused("what comes before is used elsewhere")
    return producer


def _merge_views(op: RewriteBuilder, match: Match) -> Value:
    inner = _inner(match, _VIEWS)
    source = inner.inputs[0]
    target = _target(match.scene, source, match.root.output)
    if source is None or target is None:
        raise Refused("the sizes are not known well enough")
    made: Value = op.Reshape(source, np.array(target, np.int64))
    return made


def _known_reshape(op: RewriteBuilder, match: Match) -> Value:
    scene = match.scene
    source, shape = arguments_of(match)[:2]
    operator = scene.operator(match.root)
    if source is None or scene.constant(shape) is not None:
        raise Refused("the shape is constant")
    if not _follows_from_sizes(scene, shape, source):
        raise Refused("the shape does not follow from the sizes of inputs")
    if (
        operator is None
        or operator.version < _FIRST_WITH_ZERO
        or getattr(operator, "allowzero", False)
    ):
        raise Refused("sizes of 0 are kept")
    target = _target(scene, source, match.root.output)
    if target is None:
        raise Refused("the sizes are not known well enough")
    made: Value = op.Reshape(source, np.array(target, np.int64))
    return made


def _follows_from_sizes(scene: Scene, shape: Value | None, source: Value) -> bool:
    """Whether a run cannot be fed another shape than the one that is known."""
    contents = scene.fact(shape).dims_value()
    if contents is None or shape is None or shape.producer is None:
        return False
    given = [scene.shape(source), *[scene.shape(each) for each in scene.model.graph.inputs]]
    known = set().union(*[symbols(dim) for each in given for dim in each or () if dim is not None])
    return all(dim is not None and symbols(dim) <= known for dim in contents)


def _target(scene: Scene, source: Value | None, result: Value) -> list[int] | None:
    """Constant sizes for Reshape: a number, 0 for the source's, or -1 once; or None."""
    shape, before = scene.shape(result), scene.shape(source)
    if shape is None or before is None:
        return None
    target: list[int] = []
    for axis, dim in enumerate(shape):
        if isinstance(dim, int):
            if dim < 1:
                return None
            target.append(dim)
        elif dim is not None and axis < len(before) and before[axis] == dim:
            target.append(0)
        else:
            target.append(-1)
    if target.count(-1) > 1:
        return None
    if target.count(-1) == 0 and target.count(0) == 1:
        return [-1 if size == 0 else size for size in target]
    return None if -1 in target and 0 in target else target


def _merge_transposes(op: RewriteBuilder, match: Match) -> Value:
    inner = _inner(match, ("Transpose",), alone=False)
    source = inner.inputs[0]
    first, second = _perm(match.scene, inner), _perm(match.scene, match.root)
    if source is None or first is None or second is None:
        raise Refused("the rank is not known")
    perm = [first[axis] for axis in second]
    if perm == sorted(perm):
        return source
    made: Value = op.Transpose(source, perm=perm)
    return made


def _perm(scene: Scene, node: Node) -> list[int] | None:
    perm = getattr(scene.operator(node), "perm", None)
    if perm is not None:
        return [int(axis) for axis in perm]
    rank = scene.rank(node.inputs[0])
    return None if rank is None else list(range(rank))[::-1]


def _is_number(scene: Scene, value: Value | None) -> bool:
    array = scene.constant(value)
    return array is not None and array.ndim == 0


def _chain(match: Match) -> tuple[list[tuple[Node, int]], Node]:
    """Elementwise nodes between two transposes, last first, and the transpose before them."""
    scene, reader = match.scene, match.root
    chain: list[tuple[Node, int]] = []
    place = 0
    while len(chain) <= _LONGEST_CHAIN:
        value = reader.inputs[place]
        node = None if value is None else value.producer
        if node is None or node.graph is not match.root.graph or node.domain:
            break
        if not scene.is_only_used_by(node.outputs[0], (reader,)) or len(node.outputs) > 1:
            break
        if node.op_type == "Transpose":
            if chain:
                return chain, node
            break
        if node.op_type in _UNARY:
            if any(each is not None and not scene.is_constant(each) for each in node.inputs[1:]):
                break
            place = 0
        elif node.op_type in _BINARY and len(node.inputs) == 2:
            numbers = [_is_number(scene, each) for each in node.inputs]
            if numbers.count(True) != 1:
                break
            place = numbers.index(False)
        else:
            break
        chain.append((node, place))
        reader = node
    raise Refused("no transpose comes before, with elementwise nodes between")


def _transposes_around(op: RewriteBuilder, match: Match) -> Value:
    chain, inner = _chain(match)
    scene = match.scene
    first, second = _perm(scene, inner), _perm(scene, match.root)
    value = inner.inputs[0]
    if value is None or first is None or second is None:
        raise Refused("the rank is not known")
    for node, place in reversed(chain):
        inputs = [value if index == place else each for index, each in enumerate(node.inputs)]
        value = op.repeat(node, inputs)
    perm = [first[axis] for axis in second]
    if perm == sorted(perm):
        return value
    made: Value = op.Transpose(value, perm=perm)
    return made


def _transposed_operands(op: RewriteBuilder, match: Match) -> Value:
    scene, node = match.scene, match.root
    perms, sources = [], []
    if len(node.inputs) != 2:
        raise Refused("there are not two inputs")
    for value in node.inputs:
        producer = None if value is None else value.producer
        if value is None or producer is None or producer.op_type != "Transpose":
            raise Refused("an input is not transposed")
        if not scene.is_only_used_by(value, (node,)) or producer.graph is not node.graph:
            raise Refused("a transpose is used elsewhere")
        perms.append(_perm(scene, producer))
        sources.append(producer.inputs[0])
    if perms[0] is None or perms[0] != perms[1]:
        raise Refused("the inputs are transposed differently")
    if sources[0] is sources[1] or scene.rank(sources[0]) != scene.rank(sources[1]):
        raise Refused("the inputs are of different ranks")
    made: Value = op.Transpose(op.repeat(node, sources), perm=perms[0])
    return made


def _transposed_gemm(op: RewriteBuilder, match: Match) -> Value:
    scene, node = match.scene, match.root
    operator = scene.operator(node)
    inputs = list(node.inputs)
    flags = [int(getattr(operator, "transA", 0)), int(getattr(operator, "transB", 0))]
    found = False
    for index in range(2):
        value = inputs[index]
        producer = None if value is None else value.producer
        if producer is None or producer.op_type != "Transpose" or producer.domain:
            continue
        if scene.rank(producer.inputs[0]) == 2 and _perm(scene, producer) == [1, 0]:
            inputs[index] = producer.inputs[0]
            flags[index] ^= 1
            found = True
    if not found or operator is None:
        raise Refused("no operand is transposed")
    made: Value = op.Gemm(
        *inputs,
        alpha=getattr(operator, "alpha", 1.0),
        beta=getattr(operator, "beta", 1.0),
        transA=flags[0] or None,
        transB=flags[1] or None,
    )
    return made


def _is_exact(source: DType | None, target: DType | None) -> bool:
    """Whether every number of `source` is one of `target`."""
    if source is None or target is None:
        return False
    if source is target or (source is BOOL and target.kind in ("int", "uint", "float")):
        return True
    if source.kind in ("int", "uint") and target.kind in ("int", "uint"):
        if source.kind == target.kind:
            return source.bits <= target.bits
        return target.kind == "int" and source.bits < target.bits
    digits = {FLOAT16: 11, FLOAT: 24, DOUBLE: 53}
    if source.kind in ("int", "uint") and target in digits:
        return source.bits <= digits[target] and target is not FLOAT16
    wider = {FLOAT16: (FLOAT, DOUBLE), BFLOAT16: (FLOAT, DOUBLE), FLOAT: (DOUBLE,)}
    return target in wider.get(source, ())


def _merge_casts(op: RewriteBuilder, match: Match) -> Value:
    scene = match.scene
    inner = _inner(match, ("Cast",), alone=False)
    source, target = inner.inputs[0], scene.dtype(match.root.output)
    if (
        source is None
        or target is None
        or not _is_exact(scene.dtype(source), scene.dtype(inner.output))
    ):
        raise Refused("the first cast rounds")
    made: Value = op.cast(source, target)
    return made


def _merge_slices(op: RewriteBuilder, match: Match) -> Value:
    scene = match.scene
    inner = _inner(match, ("Slice",))
    operator = scene.operator(inner)
    assert operator is not None
    both = [scene.arguments(inner, operator), arguments_of(match)]
    source = both[0][0]
    rank = scene.rank(source)
    if source is None or rank is None:
        raise Refused("the rank is not known")
    parts: dict[int, tuple[int, int, int]] = {}
    for inputs in both:
        for axis, part in _ranges(scene, inputs, rank).items():
            if axis in parts:
                raise Refused("both cut the same axis")
            parts[axis] = part
    axes = sorted(parts)
    columns = [np.array([parts[axis][index] for axis in axes], np.int64) for index in range(3)]
    made: Value = op.Slice(source, columns[0], columns[1], np.array(axes, np.int64), columns[2])
    return made


def _ranges(scene: Scene, inputs: object, rank: int) -> dict[int, tuple[int, int, int]]:
    listed = list(inputs)  # type: ignore[call-overload]
    listed += [None] * (5 - len(listed))
    starts, ends = scene.ints(listed[1]), scene.ints(listed[2])
    if starts is None or ends is None:
        raise Refused("bounds are not constant")
    axes = list(range(len(starts))) if listed[3] is None else scene.ints(listed[3])
    steps = [1] * len(starts) if listed[4] is None else scene.ints(listed[4])
    if axes is None or steps is None:
        raise Refused("axes or steps are not constant")
    return {
        axis % rank: (start, end, step)
        for axis, start, end, step in zip(axes, starts, ends, steps, strict=True)
    }


def _merge_concats(op: RewriteBuilder, match: Match) -> Value:
    scene, node = match.scene, match.root
    rank = scene.rank(node.output)
    if rank is None:
        raise Refused("the rank is not known")
    axis = getattr(scene.operator(node), "axis", 0) % rank
    inputs: list[Value | None] = []
    found = False
    for value in node.inputs:
        producer = None if value is None else value.producer
        if (
            value is not None
            and producer is not None
            and producer.op_type == "Concat"
            and producer.graph is node.graph
            and getattr(scene.operator(producer), "axis", 0) % rank == axis
            and scene.is_only_used_by(value, (node,))
            and node.inputs.count(value) == 1
        ):
            inputs += producer.inputs
            found = True
        else:
            inputs.append(value)
    if not found:
        raise Refused("no input is joined along the same axis")
    made: Value = op.Concat(*inputs, axis=axis)
    return made


def _joined_again(_op: RewriteBuilder, match: Match) -> Value:
    """Concat of all parts of a Split, in order."""
    scene, node = match.scene, match.root
    first = node.inputs[0]
    producer = None if first is None else first.producer
    if producer is None or producer.op_type != "Split" or node.inputs != producer.outputs:
        raise Refused("the inputs are not all parts of one Split")
    rank = scene.rank(producer.inputs[0])
    if rank is None:
        raise Refused("the rank is not known")
    axes = [getattr(scene.operator(each), "axis", 0) % rank for each in (node, producer)]
    source = producer.inputs[0]
    if axes[0] != axes[1] or source is None:
        raise Refused("it was split along another axis")
    return source


MOVEMENT: Final = (
    NodeRule("merge-views", _VIEWS, _merge_views),
    NodeRule("known-reshape", ("Reshape",), _known_reshape, opset=5),
    NodeRule("merge-transposes", ("Transpose",), _merge_transposes),
    NodeRule("transposes-around", ("Transpose",), _transposes_around),
    NodeRule(
        "transposed-operands", ("Add", "Sub", "Mul", "Div", "Max", "Min"), _transposed_operands
    ),
    NodeRule("transposed-gemm", ("Gemm",), _transposed_gemm, opset=7),
    NodeRule("merge-casts", ("Cast",), _merge_casts),
    NodeRule("merge-slices", ("Slice",), _merge_slices, opset=10),
    NodeRule("joined-again", ("Concat",), _joined_again),
    NodeRule("merge-concats", ("Concat",), _merge_concats),
)
