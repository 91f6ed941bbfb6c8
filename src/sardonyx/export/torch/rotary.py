"""Rotary position embeddings, which modules write out, as one operator where the opset has it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from sardonyx.compose import copy
from sardonyx.dtypes import BFLOAT16, FLOAT, FLOAT16
from sardonyx.export.torch.tidying import is_weight, tidied
from sardonyx.ir.tensor import ArrayTensor
from sardonyx.rewrite import Refused, Rule, Scene, apply_rules

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sardonyx.dims import DimLike
    from sardonyx.ir.model import Model
    from sardonyx.ir.node import Node
    from sardonyx.ir.types import Shape
    from sardonyx.ir.value import Value
    from sardonyx.rewrite import Match

__all__ = ["ROTARIES", "with_rotary"]

_SINCE: Final = 23
_DEEPEST: Final = 16
_ELEMENTWISE: Final = frozenset({"Cast", "Cos", "Identity", "Neg", "Sin"})
_ARITHMETIC: Final = frozenset({"Add", "Div", "Mul", "Sub"})
_VIEWS: Final = frozenset({"Expand", "Reshape", "Squeeze", "Unsqueeze"})
_SWAPPED: Final = (0, 2, 1, 3)


def with_rotary(model: Model) -> Model:
    """`model` with RotaryEmbedding nodes, if its opset has them and there are fewer nodes then."""
    if (model.opset() or 0) < _SINCE or model.functions or not _may_rotate(model):
        return model
    scene = Scene(copy(model))
    if not apply_rules(scene, ROTARIES):
        return model
    made = tidied(scene.model)
    return made if len(made.graph.nodes) < len(model.graph.nodes) else model


def _may_rotate(model: Model) -> bool:
    found = {node.op_type for node in model.graph.all_nodes()}
    return {"Add", "Mul"} <= found and bool(
        ("Concat" in found and found & {"Neg", "Sub"}) or {"Gather", "Reshape"} <= found
    )


# -- what the modules write -----------------------------------------------------------------------


def _full(op: Any, x: Any, turned: Any, cos: Any, sin: Any) -> Any:
    return op.Add(op.Mul(x, cos), op.Mul(turned, sin))


def _parts(op: Any, x1: Any, x2: Any, cos: Any, sin: Any) -> tuple[Any, Any]:
    return (
        op.Sub(op.Mul(x1, cos), op.Mul(x2, sin)),
        op.Add(op.Mul(x2, cos), op.Mul(x1, sin)),
    )


def _stacked(op: Any, first: Any, second: Any, one: Any, other: Any, size: Any) -> Any:
    """Two tensors, their elements by turns."""
    wide = [
        op.any_of(("Unsqueeze", "Reshape"), first, one),
        op.any_of(("Unsqueeze", "Reshape"), second, other),
    ]
    return op.Reshape(op.Concat(*wide, _bind="joined"), size)


def _halves(op: Any, x: Any, x1: Any, x2: Any, cos: Any, sin: Any) -> Any:
    return _full(op, x, op.Concat(op.Neg(x2), x1, _bind="joined"), cos, sin)


def _pairs(op: Any, x: Any, x1: Any, x2: Any, cos: Any, sin: Any, one: Any, other: Any,
           size: Any) -> Any:  # fmt: skip
    return _full(op, x, _stacked(op, op.Neg(x2), x1, one, other, size), cos, sin)


def _split(op: Any, x1: Any, x2: Any, cos: Any, sin: Any, rest: Any = None) -> Any:
    parts = _parts(op, x1, x2, cos, sin)
    return op.either(op.Concat(*parts, _bind="joined"), op.Concat(*parts, rest, _bind="joined"))


def _split_pairs(op: Any, x1: Any, x2: Any, cos: Any, sin: Any, one: Any, other: Any,
                 size: Any) -> Any:  # fmt: skip
    return _stacked(op, *_parts(op, x1, x2, cos, sin), one, other, size)


def _complex(op: Any, x: Any, same: Any, crossed: Any, size: Any) -> Any:
    swapped = op.Gather(x, [1, 0], _bind="swapped")
    return op.Reshape(op.Add(op.Mul(x, same), op.Mul(swapped, crossed), _bind="sum"), size)


def _partial(op: Any, x: Any, cos: Any, sin: Any, rest: Any) -> Any:
    def turned(x: Any) -> Any:
        return op.RotaryEmbedding(x, cos, sin, None, rotary_embedding_dim=0, _bind="rotary")

    either = op.either(
        op.Transpose(turned(op.Transpose(x, perm=_SWAPPED)), perm=_SWAPPED, _bind="swapped"),
        turned(x),
    )
    return op.Concat(either, rest, _bind="joined")


# -- parts of a head ------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Part:
    """``whole[..., first:first + step * count:step]``."""

    whole: Value
    first: int
    count: int
    step: int = 1


def _part(scene: Scene, value: Value) -> _Part:
    node = value.producer
    count = _width(scene, value)
    operator = None if node is None else scene.operator(node)
    if node is None or operator is None:
        raise Refused("no part of a head")
    whole = scene.arguments(node, operator)[0]
    shape = scene.shape(whole)
    if whole is None or shape is None:
        raise Refused("the shape of a head is not known")
    last = len(shape) - 1
    if node.op_type == "Slice":
        _, starts, _, axes, *steps = [scene.ints(each) for each in scene.arguments(node, operator)]
        width = shape[last]
        if starts and axes in ([last], [-1]) and isinstance(width, int):
            step = steps[0] if steps and steps[0] else [1]
            if step[0] > 0:
                return _Part(whole, starts[0] % max(width, 1), count, step[0])
    elif node.op_type == "Split" and operator.axis % len(shape) == last:  # type: ignore[attr-defined]
        before = [_width(scene, each) for each in node.outputs[: value.index]]
        return _Part(whole, sum(before), count)
    elif node.op_type == "Gather" and operator.axis % len(shape) == last:  # type: ignore[attr-defined]
        index = scene.constant(node.inputs[1])
        if shape[last] == 2 and index is not None and index.ndim == 0:
            return _Part(whole, int(index) % 2, count, 0)
    raise Refused("no part of a head")


def _width(scene: Scene, value: Value) -> int:
    shape = scene.shape(value)
    if not shape or not isinstance(shape[-1], int):
        raise Refused("the width of a head is not known")
    return shape[-1]


def _expect(condition: object, reason: str) -> None:
    if not condition:
        raise Refused(reason)


def _known(shape: Shape | None) -> Sequence[DimLike]:
    if shape is None or any(dim is None for dim in shape):
        raise Refused("a shape is not known")
    return shape  # type: ignore[return-value]


def _is_last(match: Match, name: str) -> bool:
    """Whether the Concat or Gather called `name` works along the last axis."""
    node = match.node(name)
    assert node is not None
    rank = match.scene.rank(node.outputs[0])
    return rank is not None and match.operator(name).axis % rank == rank - 1  # type: ignore[union-attr]


@dataclass(frozen=True)
class _Span:
    """``whole[..., first:first + turned]``, or where `packed`, the pairs of [..., D / 2, 2]."""

    whole: Value
    first: int
    turned: int
    packed: bool = False


def _span(match: Match, pairs: bool) -> _Span:
    """What x1 and x2 are the halves of, or with `pairs` the elements by turns."""
    one, two = _part(match.scene, match["x1"]), _part(match.scene, match["x2"])
    _expect(one.whole is two.whole and one.count == two.count, "not two parts of the same heads")
    _expect(one.step == two.step, "not two parts of the same heads")
    if pairs and one.step == 0:
        _expect((one.first, two.first) == (0, 1), "not the elements by turns")
        return _Span(one.whole, 0, 2 * one.count, packed=True)
    gap = 1 if pairs else one.count
    _expect(one.step == (2 if pairs else 1) and two.first == one.first + gap, "no such halves")
    return _Span(one.whole, one.first, 2 * one.count)


def _follows(scene: Scene, rest: _Part, whole: Value, first: int) -> bool:
    """Whether `rest` is all of `whole` from `first` on."""
    is_next = rest.whole is whole and rest.step == 1 and rest.first == first
    return is_next and first + rest.count == _width(scene, whole)


def _flat(op: Any, scene: Scene, packed: Value) -> Value:
    """Heads whose elements are in pairs [..., D / 2, 2] as [..., D], or as they were before."""
    shape = _known(scene.shape(packed))
    half = shape[-2]
    _expect(isinstance(half, int) and len(shape) in (4, 5), "the width of a head is not known")
    wanted = (*shape[:-2], 2 * half)
    node = packed.producer
    if node is not None and node.op_type == "Reshape" and node.inputs[0] is not None:
        before = scene.shape(node.inputs[0])
        if before is not None and tuple(before) == wanted:
            return node.inputs[0]
    made: Value = op.Reshape(packed, [*[0] * (len(shape) - 2), 2 * half])
    return made


# -- caches ---------------------------------------------------------------------------------------


def _half(op: Any, scene: Scene, value: Value, pairs: bool, depth: int = 0) -> Value:
    """Each element of the last axis once, where it is proven that all come twice.

    They come again in the second half, or, with `pairs`, next to each other.
    """
    shape = _known(scene.shape(value))
    width = _width(scene, value)
    last = len(shape) - 1
    _expect(width and width % 2 == 0 and depth < _DEEPEST, "no two equal halves of angles")
    data = _fixed(scene, value)
    if data is not None:
        same = (
            np.array_equal(data[..., ::2], data[..., 1::2])
            if pairs
            else np.array_equal(data[..., : width // 2], data[..., width // 2 :])
        )
        _expect(same, "the halves of the angles differ")
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
        inputs[place] = _half(op, scene, source, pairs, depth + 1)
        if node.op_type not in _ELEMENTWISE:
            _expect(scene.rank(inputs[place]) == scene.rank(source), "angles in an odd shape")
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
        shapes = [_known(scene.shape(value)) for value in node.inputs]
        return [place for place, each in enumerate(shapes) if each and each[-1] != 1]
    before = _known(scene.shape(node.inputs[0]))
    fits = bool(before) and before[-1] == shape[-1]
    rank = len(before)
    if node.op_type == "Gather":
        fits = fits and operator.axis % rank != rank - 1
    elif node.op_type == "GatherND":
        index = _known(scene.shape(node.inputs[1]))
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
    _expect(fits, "no two equal halves of angles")
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
    fits = before and whole and before[-1] == one[-2] and 2 * before[-1] == whole[-1]  # type: ignore[operator]
    if not fits or _long(before) != _long(one[:-1]) or _long(before[:-1]) != _long(whole[:-1]):  # type: ignore[index]
        return None
    return source


def _long(shape: Shape | None) -> list[DimLike | None]:
    return [dim for dim in shape or () if dim != 1]


def _fixed(scene: Scene, value: Value) -> Any:
    """The data of a constant, or of a buffer; None for what training changes."""
    listed = [scene.model.metadata.get(f"sardonyx.{kind}", "") for kind in ("buffers", "constants")]
    if is_weight(value, scene.model) and value.name not in "\n".join(listed).split("\n"):
        return None
    return scene.constant(value)


def _bare(scene: Scene, value: Value) -> Value:
    """`value` before views that do but put in or spread dims of size 1."""
    while value.producer is not None and value.producer.op_type in _VIEWS:
        source = value.producer.inputs[0]
        before, after = scene.shape(source), scene.shape(value)
        if source is None or not before or not after or before[-1] != after[-1]:
            break
        is_spread = value.producer.op_type == "Expand" and before[-2:] == after[-2:]
        if not is_spread and _long(before) != _long(after):
            break
        value = source
    return value


def _lean(op: Any, scene: Scene, value: Value, depth: int = 0) -> Value:
    """`value` without axes of size 1, those too that went in before cosine or sine."""
    value = _bare(scene, value)
    node = value.producer
    if node is None or node.op_type not in _ELEMENTWISE or depth > _DEEPEST:
        return value
    source = node.inputs[0]
    assert source is not None
    lean = _lean(op, scene, source, depth + 1)
    return value if lean is source else op.repeat(node, [lean])  # type: ignore[no-any-return]


@dataclass(frozen=True)
class _Layout:
    """Where the heads stand: the first of these axes, or None of three axes; and sizes."""

    heads: int | None
    batch: DimLike
    steps: DimLike


def _layout(x: Sequence[DimLike], cache: Sequence[DimLike]) -> _Layout:
    """How `x` is laid out, given that a cache of this shape is multiplied with its parts."""
    _expect(len(x) in (3, 4) and 2 <= len(cache) <= len(x), "heads of other ranks")
    cache = (*[1] * (len(x) - len(cache)), *cache)
    _expect(cache[0] in (1, x[0]), "angles of another batch")
    if len(x) == 3:
        _expect(cache[1] == x[1], "angles of another length")
        return _Layout(None, x[0], x[1])
    if cache[1] == 1 and cache[2] == x[2]:
        return _Layout(1, x[0], x[2])
    _expect(cache[2] == 1 and cache[1] == x[1], "angles that differ from head to head")
    return _Layout(2, x[0], x[1])


def _cache(op: Any, scene: Scene, value: Value, layout: _Layout, half: int, x: Value) -> Value:
    """Angles as [batch, steps, half]."""
    value = _lean(op, scene, value)
    shape = _known(scene.shape(value))
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


def _single(op: Any, scene: Scene, value: Value, crossed: bool) -> Value:
    """The c of (c, c), or with `crossed` d of (-d, d): the two stand along the last axis."""
    data = _fixed(scene, value)
    if data is not None and data.ndim and data.shape[-1] == 2:
        first, second = data[..., 0], data[..., 1]
        _expect(np.array_equal(-first if crossed else first, second), "no complex numbers")
        made: Value = op.value(ArrayTensor(np.ascontiguousarray(second), scene.dtype(value)))
        return made
    node = value.producer
    if crossed and node is not None and node.op_type == "Mul":
        signs, twice = node.inputs if scene.is_constant(node.inputs[0]) else node.inputs[::-1]
        found = scene.constant(signs)
        _expect(found is not None and found.tolist() == [-1, 1], "no complex numbers")
        node = None if twice is None else twice.producer
    operator = None if node is None else scene.operator(node)
    if node is None or operator is None or node.op_type != "Gather":
        raise Refused("no complex numbers")
    packed, index = node.inputs
    place = 1 if crossed else 0
    last = len(_known(scene.shape(packed))) - 1
    is_last = operator.axis % (last + 1) == last  # type: ignore[attr-defined]
    _expect(is_last and scene.ints(index) == [place] * 2, "no complex numbers")
    part: Value = op.Gather(packed, op.value(np.array(place, np.int64)), axis=last)
    return part


# -- the operator ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Rotation:
    """What is turned, by which angles: those of each pair once, shaped as `layout` says."""

    x: Value
    cos: Value
    sin: Value
    layout: _Layout
    interleaved: bool
    turned: int = 0


def _shared_layout(x: Shape | None, cos: Shape | None, sin: Shape | None) -> _Layout:
    found, other = (_layout(_known(x), _known(each)) for each in (cos, sin))
    _expect(found == other, "angles of cosine and sine differ in shape")
    return found


def _write(op: Any, match: Match, rotation: _Rotation) -> Value:
    """RotaryEmbedding, in the shape of the match's last node."""
    scene, x, layout = match.scene, rotation.x, rotation.layout
    _expect(scene.dtype(x) in (FLOAT, FLOAT16, BFLOAT16), "of a type that cannot be turned")
    shape = _known(scene.shape(x))
    half = (rotation.turned or _width(scene, x)) // 2
    caches = [_cache(op, scene, each, layout, half, x) for each in (rotation.cos, rotation.sin)]

    def turn(x: Value, heads: int | None = None) -> Value:
        made: Value = op.RotaryEmbedding(
            x, *caches, interleaved=1 if rotation.interleaved else None, num_heads=heads,
            rotary_embedding_dim=rotation.turned or None,
        )  # fmt: skip
        return made

    if layout.heads is None:
        made = turn(x, 1)
    elif layout.heads == 1:
        made = turn(x)
    else:
        before = _joined_heads(scene, x, shape)
        if before is not None and isinstance(shape[2], int):
            made = op.Reshape(turn(before, shape[2]), [0, 0, shape[2], shape[3]])
        else:
            made = op.Transpose(turn(op.Transpose(x, perm=_SWAPPED)), perm=_SWAPPED)
    return _same_shape(op, scene, match.root.outputs[0], made)


def _joined_heads(scene: Scene, x: Value, shape: Sequence[DimLike]) -> Value | None:
    """[B, S, H * D] of which `x` is a view."""
    node = x.producer
    source = None if node is None or node.op_type != "Reshape" else node.inputs[0]
    before = scene.shape(source)
    if source is None or before is None or len(before) != 3:
        return None
    return source if tuple(before) == (*shape[:2], shape[2] * shape[3]) else None


def _same_shape(op: Any, scene: Scene, old: Value, made: Value) -> Value:
    """`made` in the shape of `old`, which it takes the place of."""
    wanted, shape = _known(scene.shape(old)), _known(scene.shape(made))
    if tuple(shape) == tuple(wanted):
        return made
    joined = len(shape) == 4 and tuple(wanted) == (*shape[:2], shape[2] * shape[3])
    _expect(joined and isinstance(wanted[2], int), "the result is in an odd shape")
    flat: Value = op.Reshape(made, [0, 0, wanted[2]])
    return flat


def _write_full(op: Any, match: Match, pairs: bool) -> Value:
    scene, x = match.scene, match["x"]
    _expect(_is_last(match, "joined"), "not the last axis")
    span = _span(match, pairs)
    _expect(not span.packed and span.turned == _width(scene, x), "not the parts of what is turned")
    if span.whole is not x:
        mine = _part(scene, x)
        same = mine.whole is span.whole and mine.first == span.first and mine.step == 1
        _expect(same, "not the parts of what is turned")
    layout = _shared_layout(match.shape("x"), match.shape("cos"), match.shape("sin"))
    cos, sin = (_half(op, scene, _bare(scene, match[name]), pairs) for name in ("cos", "sin"))
    return _write(op, match, _Rotation(x, cos, sin, layout, pairs))


def _write_split(op: Any, match: Match, pairs: bool) -> Value:
    scene = match.scene
    _expect(_is_last(match, "joined"), "not the last axis")
    span = _span(match, pairs)
    shape = _known(scene.shape(span.whole))
    turned = 0
    cos, sin = match["cos"], match["sin"]
    layout = _shared_layout(match.shape("x1"), scene.shape(cos), scene.shape(sin))
    if span.packed:
        x = _flat(op, scene, span.whole)
    elif match["rest"] is not None:
        rest = _part(scene, match["rest"])
        x, first, turned = span.whole, span.first, span.turned
        if rest.whole is not x:
            inner = _part(scene, x)
            _expect(inner.step == 1, "not the rest of the heads")
            x, first = inner.whole, first + inner.first
        _expect(first == 0 and _follows(scene, rest, x, turned), "not the rest of the heads")
    elif span.turned == shape[-1]:
        x = span.whole
    else:
        last = len(shape) - 1
        x = op.Slice(span.whole, [span.first], [span.first + span.turned], [last])
    return _write(op, match, _Rotation(x, cos, sin, layout, pairs, turned))


def _write_complex(op: Any, match: Match) -> Value:
    scene = match.scene
    _expect(_is_last(match, "swapped") and match.shape("x"), "not the last axis")
    x = _flat(op, scene, match["x"])
    shapes = [_known(match.shape(name)) for name in ("same", "crossed")]
    layout = _shared_layout(match.shape("x")[:-1], *(each[:-1] for each in shapes))  # type: ignore[index]
    cos = _single(op, scene, match["same"], crossed=False)
    sin = _single(op, scene, match["crossed"], crossed=True)
    return _write(op, match, _Rotation(x, cos, sin, layout, interleaved=True))


def _write_partial(op: Any, match: Match) -> Value:
    scene = match.scene
    _expect(_is_last(match, "joined"), "not the last axis")
    part, rest = _part(scene, match["x"]), _part(scene, match["rest"])
    whole, turned = part.whole, part.count
    _expect(part.step == 1, "not the first elements of the heads")
    _expect(part.first == 0 and _follows(scene, rest, whole, turned), "not the rest of the heads")
    rotary: Any = match.operator("rotary")
    swapped = match.node("swapped") is not None
    made: Value = op.RotaryEmbedding(
        op.Transpose(whole, perm=_SWAPPED) if swapped else whole,
        match["cos"], match["sin"], interleaved=rotary.interleaved or None,
        num_heads=rotary.num_heads, rotary_embedding_dim=turned,
    )  # fmt: skip
    return op.Transpose(made, perm=_SWAPPED) if swapped else made


ROTARIES: Final = (
    Rule("rotary-halves", _halves, lambda op, m: _write_full(op, m, False), opset=_SINCE),
    Rule("rotary-pairs", _pairs, lambda op, m: _write_full(op, m, True), opset=_SINCE),
    Rule("rotary-split", _split, lambda op, m: _write_split(op, m, False), opset=_SINCE),
    Rule("rotary-split-pairs", _split_pairs, lambda op, m: _write_split(op, m, True), opset=_SINCE),
    Rule("rotary-complex", _complex, _write_complex, opset=_SINCE),
    Rule("rotary-partial", _partial, _write_partial, opset=_SINCE),
)
