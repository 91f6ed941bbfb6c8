"""The tables of cosines and sines that rotary embeddings read, as the operator takes them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from sardonyx.export.torch.tidying import is_weight
from sardonyx.ir.tensor import ArrayTensor
from sardonyx.rewrite import Refused, Scene

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sardonyx.dims import DimLike
    from sardonyx.ir.node import Node
    from sardonyx.ir.types import Shape
    from sardonyx.ir.value import Value

__all__ = [
    "Layout",
    "bare",
    "cache_of",
    "expect",
    "halved",
    "known_shape",
    "layout_of",
    "long_dims",
    "single_table",
    "width_of",
]

_DEEPEST: Final = 16
_ELEMENTWISE: Final = frozenset({"Cast", "Cos", "Identity", "Neg", "Sin"})
_ARITHMETIC: Final = frozenset({"Add", "Div", "Mul", "Sub"})
_VIEWS: Final = frozenset({"Expand", "Reshape", "Squeeze", "Unsqueeze"})


def width_of(scene: Scene, value: Value) -> int:
    """The size of the last axis; refused where it is not a number."""
    shape = scene.shape(value)
    if not shape or not isinstance(shape[-1], int):
        raise Refused("the width of a head is not known")
    return shape[-1]


def expect(condition: object, reason: str) -> None:
    """Refuse the match for `reason` unless `condition` holds."""
    if not condition:
        raise Refused(reason)


def known_shape(shape: Shape | None) -> Sequence[DimLike]:
    """`shape`; refused where a size is not known."""
    if shape is None or any(dim is None for dim in shape):
        raise Refused("a shape is not known")
    return shape  # type: ignore[return-value]


def halved(op: Any, scene: Scene, value: Value, pairs: bool, depth: int = 0) -> Value:
    """Each element of the last axis once, where it is proven that all come twice.

    They come again in the second half, or, with `pairs`, next to each other.
    """
    shape = known_shape(scene.shape(value))
    width = width_of(scene, value)
    last = len(shape) - 1
    expect(width and width % 2 == 0 and depth < _DEEPEST, "no two equal halves of angles")
    data = _fixed(scene, value)
    if data is not None:
        same = (
            np.array_equal(data[..., ::2], data[..., 1::2])
            if pairs
            else np.array_equal(data[..., : width // 2], data[..., width // 2 :])
        )
        expect(same, "the halves of the angles differ")
        end, step = (width, 2) if pairs else (width // 2, 1)
        made: Value = op.Slice(value, [0], [end], [last], [step])
        return made
    node = value.producer
    operator = None if node is None else scene.operator(node)
    if node is None or operator is None:
        raise Refused("no two equal halves of angles")
    if node.op_type == "Concat" and not pairs and len(node.inputs) == 2:
        first, second = node.inputs
        if first is second and first is not None and operator.axis % len(shape) == last:  # type: ignore[attr-defined]
            return first
    if pairs and node.op_type == "Reshape":
        found = _repeated(scene, value)
        if found is not None:
            return found
    inputs = list(scene.arguments(node, operator))
    for place in _wide_inputs(scene, node, operator, shape):
        source = inputs[place]
        assert source is not None
        inputs[place] = halved(op, scene, source, pairs, depth + 1)
        if node.op_type not in _ELEMENTWISE:
            expect(scene.rank(inputs[place]) == scene.rank(source), "angles in an odd shape")
    if node.op_type == "Expand":
        assert inputs[0] is not None
        return inputs[0]
    return op.repeat(node, inputs)  # type: ignore[no-any-return]


def _wide_inputs(scene: Scene, node: Node, operator: Any, shape: Sequence[DimLike]) -> list[int]:
    """The inputs whose last axis is the last axis of the output of `node`."""
    last = len(shape) - 1
    if node.op_type in _ELEMENTWISE:
        return [0]
    if node.op_type in _ARITHMETIC:
        shapes = [known_shape(scene.shape(value)) for value in node.inputs]
        return [place for place, each in enumerate(shapes) if each and each[-1] != 1]
    before = known_shape(scene.shape(node.inputs[0]))
    fits = bool(before) and before[-1] == shape[-1]
    rank = len(before)
    if node.op_type == "Gather":
        fits = fits and operator.axis % rank != rank - 1
    elif node.op_type == "GatherND":
        index = known_shape(scene.shape(node.inputs[1]))
        fits = fits and isinstance(index[-1], int) and operator.batch_dims + index[-1] < rank
    elif node.op_type in ("Slice", "Unsqueeze"):
        axes = scene.ints(scene.arguments(node, operator)[3 if node.op_type == "Slice" else 1])
        fits = fits and axes is not None and last not in [axis % (last + 1) for axis in axes]
    elif node.op_type == "Transpose":
        fits = fits and operator.perm is not None and operator.perm[-1] == last
    elif node.op_type == "Expand":
        fits = fits and rank == len(shape)
    else:
        fits = False
    expect(fits, "no two equal halves of angles")
    return [0]


def _repeated(scene: Scene, value: Value) -> Value | None:
    """What `value` has each element of twice, side by side."""
    assert value.producer is not None
    pair = value.producer.inputs[0]
    joined = None if pair is None else pair.producer
    shape = scene.shape(pair)
    if joined is None or not shape or shape[-1] != 2:
        return None
    single = joined.inputs[0]
    if joined.op_type not in ("Concat", "Expand") or single is None or single.producer is None:
        return None
    if joined.op_type == "Concat" and (len(joined.inputs) != 2 or joined.inputs[1] is not single):
        return None
    one = scene.shape(single)
    source = single.producer.inputs[0]
    before = scene.shape(source)
    if single.producer.op_type not in ("Reshape", "Unsqueeze") or not one or one[-1] != 1:
        return None
    whole = scene.shape(value)
    if not before or not whole or before[-1] != one[-2] or 2 * before[-1] != whole[-1]:  # type: ignore[operator]
        return None
    if long_dims(before) != long_dims(one[:-1]) or long_dims(before[:-1]) != long_dims(whole[:-1]):
        return None
    return source


def long_dims(shape: Shape | None) -> list[DimLike | None]:
    """The sizes that are not 1."""
    return [dim for dim in shape or () if dim != 1]


def _fixed(scene: Scene, value: Value) -> Any:
    """The data of a constant, or of a buffer; None for what training changes."""
    listed = [scene.model.metadata.get(f"sardonyx.{kind}", "") for kind in ("buffers", "constants")]
    if is_weight(value, scene.model) and value.name not in "\n".join(listed).split("\n"):
        return None
    return scene.constant(value)


def bare(scene: Scene, value: Value) -> Value:
    """`value` before views that do but put in or spread dims of size 1."""
    while value.producer is not None and value.producer.op_type in _VIEWS:
        source = value.producer.inputs[0]
        before, after = scene.shape(source), scene.shape(value)
        if source is None or not before or not after or before[-1] != after[-1]:
            break
        is_spread = value.producer.op_type == "Expand" and before[-2:] == after[-2:]
        if not is_spread and long_dims(before) != long_dims(after):
            break
        value = source
    return value


def _lean(op: Any, scene: Scene, value: Value, depth: int = 0) -> Value:
    """`value` without axes of size 1, those too that went in before cosine or sine."""
    value = bare(scene, value)
    node = value.producer
    if node is None or node.op_type not in _ELEMENTWISE or depth > _DEEPEST:
        return value
    source = node.inputs[0]
    assert source is not None
    lean = _lean(op, scene, source, depth + 1)
    return value if lean is source else op.repeat(node, [lean])


@dataclass(frozen=True)
class Layout:
    """Where the heads stand: the first of these axes, or None of three axes; and sizes."""

    heads: int | None
    batch: DimLike
    steps: DimLike


def layout_of(x: Sequence[DimLike], cache: Sequence[DimLike]) -> Layout:
    """How `x` is laid out, given that a cache of this shape is multiplied with its parts."""
    expect(len(x) in (3, 4) and 2 <= len(cache) <= len(x), "heads of other ranks")
    cache = (*[1] * (len(x) - len(cache)), *cache)
    expect(cache[0] in (1, x[0]), "angles of another batch")
    if len(x) == 3:
        expect(cache[1] == x[1], "angles of another length")
        return Layout(None, x[0], x[1])
    if cache[1] == 1 and cache[2] == x[2]:
        return Layout(1, x[0], x[2])
    expect(cache[2] == 1 and cache[1] == x[1], "angles that differ from head to head")
    return Layout(2, x[0], x[1])


def cache_of(op: Any, scene: Scene, value: Value, layout: Layout, half: int, x: Value) -> Value:
    """Angles as [batch, steps, half]."""
    value = _lean(op, scene, value)
    shape = known_shape(scene.shape(value))
    wanted = (layout.batch, layout.steps, half)

    def fits(kept: Sequence[DimLike]) -> bool:
        return kept[-2:] == wanted[1:] and (len(kept) < 3 or kept[0] in (1, wanted[0]))

    ones = [axis for axis, dim in enumerate(shape) if dim == 1]
    for axes in combinations(ones, max(len(shape) - 3, 0)):
        kept = tuple(dim for axis, dim in enumerate(shape) if axis not in axes)
        if not fits(kept):
            continue
        if axes:
            value = op.Squeeze(value, list(axes))
        if kept == wanted:
            return value
        made: Value = op.Expand(value, _batch_first(op, scene, layout.batch, x))
        return made
    raise Refused("angles in an odd shape")


def _batch_first(op: Any, scene: Scene, batch: DimLike, x: Value) -> Any:
    if isinstance(batch, int):
        return [batch, 1, 1]
    source, axis = x, 0
    for each in scene.model.graph.inputs:
        shape = scene.shape(each) or ()
        if batch in shape:
            source, axis = each, shape.index(batch)
            break
    return op.Concat(op.Shape(source, start=axis, end=axis + 1), [1, 1], axis=0)


def single_table(op: Any, scene: Scene, value: Value, crossed: bool) -> Value:
    """The c of (c, c), or with `crossed` d of (-d, d): the two stand along the last axis."""
    data = _fixed(scene, value)
    if data is not None and data.ndim and data.shape[-1] == 2:
        first, second = data[..., 0], data[..., 1]
        expect(np.array_equal(-first if crossed else first, second), "no complex numbers")
        made: Value = op.value(ArrayTensor(np.ascontiguousarray(second), scene.dtype(value)))
        return made
    node = value.producer
    if crossed and node is not None and node.op_type == "Mul":
        signs, twice = node.inputs
        if scene.shape(signs) != (2,):
            signs, twice = twice, signs
        found = scene.constant(signs)
        expect(found is not None and found.tolist() == [-1, 1], "no complex numbers")
        node = None if twice is None else twice.producer
    operator = None if node is None else scene.operator(node)
    if node is None or operator is None or node.op_type != "Gather":
        raise Refused("no complex numbers")
    packed, index = node.inputs
    assert packed is not None
    place = 1 if crossed else 0
    last = len(known_shape(scene.shape(packed))) - 1
    is_last = operator.axis % (last + 1) == last  # type: ignore[attr-defined]
    expect(is_last and scene.ints(index) == [place] * 2, "no complex numbers")
    packed = bare(scene, packed)
    last = len(known_shape(scene.shape(packed))) - 1
    part: Value = op.Gather(packed, op.value(np.array(place, np.int64)), axis=last)
    return part
