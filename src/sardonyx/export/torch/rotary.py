"""Rotary position embeddings, which modules write out, as one operator where the opset has it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from sardonyx.compose import copy
from sardonyx.dtypes import BFLOAT16, FLOAT, FLOAT16
from sardonyx.export.torch.rotary_tables import (
    Layout,
    bare,
    cache_of,
    expect,
    halved,
    known_shape,
    layout_of,
    long_dims,
    single_table,
    width_of,
)
from sardonyx.export.torch.tidying import tidied
from sardonyx.ops.fact import Fact
from sardonyx.rewrite import Refused, Rule, Scene, apply_rules

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sardonyx.dims import DimLike
    from sardonyx.ir.model import Model
    from sardonyx.ir.types import Shape
    from sardonyx.ir.value import Value
    from sardonyx.rewrite import Match

__all__ = ["ROTARIES", "with_rotary"]

_SINCE: Final = 23
_SWAPPED: Final = (0, 2, 1, 3)


def with_rotary(model: Model) -> Model:
    """`model` with RotaryEmbedding nodes, if its opset has them and there are fewer nodes then."""
    if (model.opset() or 0) < _SINCE or model.functions or not _may_rotate(model):
        return model
    scene = Scene(copy(model))
    _take_declared_shapes(scene)
    if not apply_rules(scene, ROTARIES):
        return model
    made = tidied(scene.model)
    return made if len(made.graph.nodes) < len(model.graph.nodes) else model


def _take_declared_shapes(scene: Scene) -> None:
    """Let values have the dims that torch found: it knows, say, that no slice ends early."""
    for graph in scene.graphs:
        for node in graph.nodes:
            for value in node.outputs:
                shape = value.shape
                if shape is None or None in shape or scene.shape(value) == shape:
                    continue
                if scene.rank(value) == len(shape):
                    scene.facts[value] = Fact(value.type)


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
    count = width_of(scene, value)
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
        before = [width_of(scene, each) for each in node.outputs[: value.index]]
        return _Part(whole, sum(before), count)
    elif node.op_type == "Gather" and operator.axis % len(shape) == last:  # type: ignore[attr-defined]
        index = scene.constant(node.inputs[1])
        if shape[last] == 2 and index is not None and index.ndim == 0:
            return _Part(whole, int(index) % 2, count, 0)
    raise Refused("no part of a head")


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


def _span(scene: Scene, first: Value, second: Value, pairs: bool) -> _Span:
    """What the two are the halves of, or with `pairs` the elements by turns."""
    one, two = _part(scene, first), _part(scene, second)
    expect(one.whole is two.whole and one.count == two.count, "not two parts of the same heads")
    expect(one.step == two.step, "not two parts of the same heads")
    if pairs and one.step == 0:
        expect((one.first, two.first) == (0, 1), "not the elements by turns")
        return _Span(one.whole, 0, 2 * one.count, packed=True)
    gap = 1 if pairs else one.count
    expect(one.step == (2 if pairs else 1) and two.first == one.first + gap, "no such halves")
    return _Span(one.whole, one.first, 2 * one.count)


def _follows(scene: Scene, rest: _Part, whole: Value, first: int) -> bool:
    """Whether `rest` is all of `whole` from `first` on."""
    is_next = rest.whole is whole and rest.step == 1 and rest.first == first
    return is_next and first + rest.count == width_of(scene, whole)


def _flat(op: Any, scene: Scene, packed: Value) -> Value:
    """Heads whose elements are in pairs [..., D / 2, 2] as [..., D], or as they were before."""
    shape = known_shape(scene.shape(packed))
    half = shape[-2]
    expect(isinstance(half, int) and len(shape) in (4, 5), "the width of a head is not known")
    wanted = (*shape[:-2], 2 * half)
    node = packed.producer
    if node is not None and node.op_type == "Reshape" and node.inputs[0] is not None:
        before = tuple(scene.shape(node.inputs[0]) or ())
        if before == wanted:
            return node.inputs[0]
        joined = len(wanted) == 4 and before == (*wanted[:2], wanted[2] * wanted[3])
        if joined and isinstance(wanted[2], int):
            return op.Reshape(node.inputs[0], [0, 0, *wanted[2:]])  # type: ignore[no-any-return]
    made: Value = op.Reshape(packed, [*[0] * (len(shape) - 2), 2 * half])
    return made


# -- the operator ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Rotation:
    """What is turned, by which angles: those of each pair once, shaped as `layout` says."""

    x: Value
    cos: Value
    sin: Value
    layout: Layout
    interleaved: bool
    turned: int = 0


def _shared_layout(x: Shape | None, cos: Shape | None, sin: Shape | None) -> Layout:
    found, other = (layout_of(known_shape(x), known_shape(each)) for each in (cos, sin))
    expect(found == other, "angles of cosine and sine differ in shape")
    return found


def _write(op: Any, match: Match, rotation: _Rotation) -> Value:
    """RotaryEmbedding, in the shape of the match's last node."""
    scene, x, layout = match.scene, rotation.x, rotation.layout
    expect(scene.dtype(x) in (FLOAT, FLOAT16, BFLOAT16), "of a type that cannot be turned")
    shape = known_shape(scene.shape(x))
    half = (rotation.turned or width_of(scene, x)) // 2
    caches = [cache_of(op, scene, each, layout, half, x) for each in (rotation.cos, rotation.sin)]

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
    wanted, shape = known_shape(scene.shape(old)), known_shape(scene.shape(made))
    if tuple(shape) == tuple(wanted):
        return made
    joined = len(shape) == 4 and tuple(wanted) == (*shape[:2], shape[2] * shape[3])
    expect(joined and isinstance(wanted[2], int), "the result is in an odd shape")
    flat: Value = op.Reshape(made, [0, 0, wanted[2]])
    return flat


def _is_span(scene: Scene, x: Value, span: _Span) -> bool:
    if span.packed or span.turned != width_of(scene, x):
        return False
    if span.whole is x:
        return True
    try:
        mine = _part(scene, x)
    except Refused:
        return False
    return mine.whole is span.whole and mine.first == span.first and mine.step == 1


def _write_full(op: Any, match: Match, pairs: bool) -> Value:
    scene, x, cos = match.scene, match["x"], match["cos"]
    expect(_is_last(match, "joined"), "not the last axis")
    span = _span(scene, match["x1"], match["x2"], pairs)
    if not _is_span(scene, x, span):
        x, cos = cos, x
        expect(_is_span(scene, x, span), "not the parts of what is turned")
    layout = _shared_layout(scene.shape(x), scene.shape(cos), match.shape("sin"))
    cos, sin = (halved(op, scene, bare(scene, each), pairs) for each in (cos, match["sin"]))
    return _write(op, match, _Rotation(x, cos, sin, layout, pairs))


def _write_split(op: Any, match: Match, pairs: bool) -> Value:
    scene = match.scene
    expect(_is_last(match, "joined"), "not the last axis")
    x1, x2, cos, sin = (match[name] for name in ("x1", "x2", "cos", "sin"))
    if len(long_dims(scene.shape(x1))) < len(long_dims(scene.shape(cos))):
        # products say not which factor is which, and a rotation is alike both ways round
        x1, x2, cos, sin = cos, sin, x1, x2
    span = _span(scene, x1, x2, pairs)
    shape = known_shape(scene.shape(span.whole))
    turned = 0
    layout = _shared_layout(scene.shape(x1), scene.shape(cos), scene.shape(sin))
    if span.packed:
        x = _flat(op, scene, span.whole)
    elif match["rest"] is not None:
        rest = _part(scene, match["rest"])
        x, first, turned = span.whole, span.first, span.turned
        if rest.whole is not x:
            inner = _part(scene, x)
            expect(inner.step == 1, "not the rest of the heads")
            x, first = inner.whole, first + inner.first
        expect(first == 0 and _follows(scene, rest, x, turned), "not the rest of the heads")
    elif span.turned == shape[-1]:
        x = span.whole
    else:
        last = len(shape) - 1
        x = op.Slice(span.whole, [span.first], [span.first + span.turned], [last])
    return _write(op, match, _Rotation(x, cos, sin, layout, pairs, turned))


def _write_complex(op: Any, match: Match) -> Value:
    scene = match.scene
    expect(_is_last(match, "swapped") and match.shape("x"), "not the last axis")
    x = _flat(op, scene, match["x"])
    whole, same, crossed = (
        tuple(known_shape(match.shape(name))[:-1]) for name in ("x", "same", "crossed")
    )
    layout = _shared_layout(whole, same, crossed)
    cos = single_table(op, scene, match["same"], crossed=False)
    sin = single_table(op, scene, match["crossed"], crossed=True)
    return _write(op, match, _Rotation(x, cos, sin, layout, interleaved=True))


def _write_partial(op: Any, match: Match) -> Value:
    scene = match.scene
    expect(_is_last(match, "joined"), "not the last axis")
    part, rest = _part(scene, match["x"]), _part(scene, match["rest"])
    whole, turned = part.whole, part.count
    expect(part.step == 1, "not the first elements of the heads")
    expect(part.first == 0 and _follows(scene, rest, whole, turned), "not the rest of the heads")
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
