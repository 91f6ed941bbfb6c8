"""Operators that keep what data says: how much that is, is counted first.

Elements are counted block by block, so that a block knows where in the result its own begin.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sardonyx.dtypes import FLOAT, INT64
from sardonyx.loops.expr import Axis, Expr, Load, Ref, index, linear
from sardonyx.loops.kernel import Accumulate, For, If, Let, Local, Store, Var
from sardonyx.loops.nest import Lowering, Nest, NotLowered, Source, Steps, Temporary, widened
from sardonyx.loops.scalars import apply, cast, const, size
from sardonyx.lowering.registry import counting, rule
from sardonyx.lowering.sorting import Row, merged
from sardonyx.lowering.support import normal_axis, position, product, single

if TYPE_CHECKING:
    from sardonyx.dims import DimLike
    from sardonyx.loops.kernel import Block, Stmt

_BLOCK = 4096
_NONE = const(0, INT64)
_ONE = const(1, INT64)


def _holds(x: Source, place: Any) -> Expr:
    """Whether an element of a vector counts."""
    value = widened(x[place])
    return apply("ne", value, const(0, value.dtype))


def _stepped(
    k: Lowering, axes: Any, extents: Any, body: Block, results: tuple[Temporary, ...], work: DimLike
) -> tuple[Source, ...]:
    """The values that statements fill."""
    first = results[0]
    steps = Steps(first.shape, first.dtype, tuple(axes), tuple(extents), body, results, work)
    k.temporaries.append((first, steps))
    return tuple(Source(each, each.dtype, each.shape) for each in results)


def _sums(k: Lowering, counts: Source) -> Source:
    """Where each part of a result begins, of parts as long as `counts` says; last, the total."""
    (parts,) = counts.shape
    starts = Temporary("starts", INT64, (parts + 1,))
    (part,) = k.axes(1)
    total = Ref("total", INT64)
    body = (
        Var("total", INT64, _NONE),
        Store(starts, (index(0),), _NONE),
        For(
            part,
            size(parts),
            (
                Accumulate("total", "add", counts[part]),
                Store(starts, (linear((part, 1), (1, 1)),), total),
            ),
        ),
    )
    return _stepped(k, (), (), body, (starts,), parts * 4)[0]


def _counted(k: Lowering, x: Source) -> tuple[Source, Source]:
    """Where the elements that hold of each block of a vector go, and the vector."""
    (total,) = x.shape
    blocks = (total + _BLOCK - 1) // _BLOCK
    counts = Temporary("counts", INT64, (blocks,))
    block, place = k.axes(2)
    length = apply("min", const(_BLOCK, INT64), linear((total, 1), (block, -_BLOCK)))
    here = linear((block, _BLOCK), (place, 1))
    body = (
        Var("some", INT64, _NONE),
        For(place, length, (Accumulate("some", "add", cast(_holds(x, here), INT64)),), "vector"),
        Store(counts, (index(block),), Ref("some", INT64)),
    )
    (found,) = _stepped(k, (block,), (blocks,), body, (counts,), _BLOCK)
    return _sums(k, found), x


def _filled(k: Lowering, starts: Source, x: Source, count: DimLike, write: Any) -> Any:
    """Statements that `write` the elements that hold, for each block, and the blocks."""
    (total,) = x.shape
    block, place = k.axes(2)
    length = apply("min", const(_BLOCK, INT64), linear((total, 1), (block, -_BLOCK)))
    here = linear((block, _BLOCK), (place, 1))
    where = Ref("where", INT64)
    # inputs that change meanwhile must not lead outside
    fits = apply("and", _holds(x, here), apply("lt", where, size(count)))
    body: Block = (
        Var("where", INT64, starts[block]),
        For(place, length, (If(fits, (*write(here, where), Accumulate("where", "add", _ONE))),)),
    )
    return (block,), (starts.shape[0] - 1,), body


@counting("NonZero")
def count_nonzero(k: Lowering, op: Any, x: Source) -> tuple[Source, ...]:
    if not x.rank:
        raise NotLowered("NonZero of a scalar")
    return _counted(k, k.define("flat", k.view(x, (product(x.shape),))))


@rule("NonZero")
def nonzero(k: Lowering, op: Any, x: Source) -> Steps:
    if not k.counted:
        raise NotLowered("NonZero of a known number of elements")
    starts, flat = k.counted
    dtype, shape = k.outputs[0]

    def write(here: Expr, where: Expr) -> list[Stmt]:
        found: list[Stmt] = []
        rest = here
        for axis in range(x.rank):
            step = size(product(x.shape[axis + 1 :]))
            last = axis == x.rank - 1
            coordinate = rest if last else Ref(f"at{axis}", INT64)
            if not last:
                found.append(Let(f"at{axis}", apply("div", rest, step)))
                found.append(Let(f"rest{axis}", apply("rem", rest, step)))
                rest = Ref(f"rest{axis}", INT64)
            found.append(Store(k.results[0], (index(axis), index(where)), coordinate))
        return found

    axes, extents, body = _filled(k, starts, flat, shape[1], write)
    return Steps(shape, dtype, axes, extents, body, k.results[:1], _BLOCK * 4)


@counting("Compress")
def count_compressed(k: Lowering, op: Any, x: Source, condition: Source) -> tuple[Source, ...]:
    if condition.rank != 1:
        raise NotLowered(f"Compress by conditions of rank {condition.rank}")
    return _counted(k, condition)


@rule("Compress")
def compress(k: Lowering, op: Any, x: Source, condition: Source) -> Nest:
    if not k.counted:
        raise NotLowered("Compress by conditions that are known")
    starts, _ = k.counted
    dtype, shape = k.outputs[0]
    if op.axis is None:
        x, along = k.define("flat", k.view(x, (product(x.shape),))), 0
    else:
        along = normal_axis(op.axis, x.rank)
    dim = x.shape[along]
    k.required.append(dim - condition.shape[0])
    places = Temporary("places", INT64, (shape[along],))

    def write(here: Expr, where: Expr) -> list[Stmt]:
        return [Store(places, (index(where),), here)]

    axes, extents, body = _filled(k, starts, condition, shape[along], write)
    (chosen,) = _stepped(k, axes, extents, body, (places,), _BLOCK * 4)

    def element(*points: Axis) -> Expr:
        where: list[Any] = list(points)
        where[along] = position(chosen[points[along]], dim)
        return x[tuple(where)]

    return k.compute(shape, dtype, element)


class _Boxes:
    """The corners of boxes, and how two of them overlap."""

    def __init__(self, k: Lowering, boxes: Source, *, is_centered: bool) -> None:
        batch, count, _ = boxes.shape

        def edge(number: int, *, most: bool) -> Source:
            def element(image: Axis, box: Axis) -> Expr:
                a, b = boxes[image, box, number], boxes[image, box, number + 2]
                if is_centered:
                    half = apply("mul", b, const(0.5, FLOAT))
                    a, b = apply("sub", a, half), apply("add", a, half)
                return apply("maximum" if most else "minimum", a, b)

            return k.define("corners", k.compute((batch, count), FLOAT, element))

        self.edges = {
            "top": edge(0, most=False),
            "left": edge(1, most=False),
            "bottom": edge(0, most=True),
            "right": edge(1, most=True),
        }

    def lets(self, image: Axis, box: Expr) -> list[Stmt]:
        """The edges and the area of a box."""
        found: list[Stmt] = [Let(name, edge[image, box]) for name, edge in self.edges.items()]
        top, left, bottom, right = (Ref(name, FLOAT) for name in self.edges)
        area = apply("mul", apply("sub", bottom, top), apply("sub", right, left))
        return [*found, Let("area", area)]

    def overlaps(self, place: Axis, overlap: Expr) -> Expr:
        """Whether the box overlaps the one that was picked as number `place`."""
        none = const(0, FLOAT)

        def picked(name: str) -> Expr:
            return Load(f"picked_{name}", (index(place),), FLOAT)

        def shared(high: str, low: str) -> Expr:
            most = apply("minimum", picked(high), Ref(high, FLOAT))
            least = apply("maximum", picked(low), Ref(low, FLOAT))
            return apply("maximum", apply("sub", most, least), none)

        common = apply("mul", shared("bottom", "top"), shared("right", "left"))
        area, other = Ref("area", FLOAT), picked("area")
        union = apply("sub", apply("add", other, area), common)
        solid = apply("and", apply("lt", none, area), apply("lt", none, other))
        solid = apply("and", solid, apply("lt", none, union))
        return apply("and", solid, apply("lt", overlap, apply("div", common, union)))


_EDGES = ("top", "left", "bottom", "right", "area")


@counting("NonMaxSuppression")
def count_boxes(
    k: Lowering,
    op: Any,
    boxes: Source,
    scores: Source,
    most: Source | None = None,
    overlap: Source | None = None,
    least: Source | None = None,
) -> tuple[Source, ...]:
    if boxes.rank != 3 or scores.rank != 3:
        raise NotLowered("NonMaxSuppression of other ranks")
    images, classes, total = scores.shape
    for a, b in zip(boxes.shape, (images, total, 4), strict=True):
        k.require_equal(a, b)
    corners = _Boxes(k, boxes, is_centered=bool(op.center_point_box))
    image, each = k.axes(2)
    box, p, place = Axis("box"), Axis("step"), Axis("place")
    bound = _NONE if most is None else single(most)
    threshold = const(0, FLOAT) if overlap is None else single(overlap)
    score = const(float("-inf"), FLOAT) if least is None else single(least)
    count, found = Ref("candidates", INT64), Ref("found", INT64)
    value = scores[image, each, box]
    row = Row(FLOAT, largest=True)
    picks = Temporary("picks", INT64, (images, classes, total))
    counts = Temporary("counts", INT64, (images, classes))
    chosen = Ref("chosen", INT64)
    hit = cast(corners.overlaps(place, threshold), INT64)
    put: list[Stmt] = [
        *(Store(f"picked_{name}", (index(found),), Ref(name, FLOAT)) for name in _EDGES),
        Store(picks, (index(image), index(each), index(found)), chosen),
        Accumulate("found", "add", _ONE),
    ]
    look: Block = (
        *corners.lets(image, chosen),
        Var("hits", INT64, _NONE),
        For(place, found, (Accumulate("hits", "max", hit),), "vector"),
        If(apply("eq", Ref("hits", INT64), _NONE), tuple(put)),
    )

    def read(where: Axis) -> Expr:
        return scores[image, each, Load("candidates_of", (index(where),), INT64)]

    def write(where: Axis, _value: Expr, at: Expr) -> Block:
        chosen_ = Load("candidates_of", (index(at),), INT64)
        return (Store("order", (index(where),), chosen_),)

    held = apply("min", bound, size(total))
    body: Block = (
        *(Local(f"picked_{name}", FLOAT, (total,)) for name in _EDGES),
        Local("candidates_of", INT64, (total,)),
        Local("order", INT64, (total,)),
        Var("candidates", INT64, _NONE),
        For(
            box,
            size(total),
            (
                If(
                    apply("lt", score, value),
                    (
                        Store("candidates_of", (index(count),), index(box)),
                        Accumulate("candidates", "add", _ONE),
                    ),
                ),
            ),
        ),
        *merged(row, read, write, count, total, count),
        Var("found", INT64, _NONE),
        For(
            p,
            count,
            (
                If(
                    apply("lt", found, held),
                    (Let("chosen", Load("order", (index(p),), INT64)), *look),
                ),
            ),
        ),
        Store(counts, (index(image), index(each)), found),
    )
    work = total * 100
    made = _stepped(k, (image, each), (images, classes), body, (counts, picks), work)
    flat = k.define("flat", k.view(made[0], (images * classes,)))
    return _sums(k, flat), flat, made[1]


@rule("NonMaxSuppression")
def suppress(k: Lowering, op: Any, boxes: Source, scores: Source, *_rest: Source | None) -> Steps:
    if not k.counted:
        raise NotLowered("NonMaxSuppression of a known number of boxes")
    starts, counts, picks = k.counted
    dtype, shape = k.outputs[0]
    images, classes, _ = scores.shape
    image, each = k.axes(2)
    place = Axis("place")
    number = linear((image, classes), (each, 1))
    where = Ref("where", INT64)
    values = (index(image), index(each), picks[image, each, place])
    body: Block = (
        For(
            place,
            counts[number],
            (
                Let("where", apply("add", starts[number], index(place))),
                *(
                    Store(k.results[0], (index(where), index(column)), value)
                    for column, value in enumerate(values)
                ),
            ),
        ),
    )
    return Steps(shape, dtype, (image, each), (images, classes), body, k.results[:1], 100)
