"""Operators that order and select: arg-extremes, running sums, the greatest elements of a row."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from sardonyx.dims import known_less_equal
from sardonyx.dtypes import BOOL, INT64
from sardonyx.loops.expr import Axis, Expr, Load, Ref, index, linear
from sardonyx.loops.kernel import Accumulate, For, If, Let, Local, Store, Var
from sardonyx.loops.nest import COMPUTED_AS, Lowering, Nest, NotLowered, Source, Steps, widened
from sardonyx.loops.scalars import apply, cast, const, select, size
from sardonyx.lowering.movement import known_dims
from sardonyx.lowering.reduction import extreme
from sardonyx.lowering.registry import rule
from sardonyx.lowering.support import is_nan, may_be_zero, normal_axis, position, product

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sardonyx.dims import DimLike
    from sardonyx.loops.expr import Index
    from sardonyx.loops.kernel import Block, Stmt

_FAR: Final = 1 << 62
_INSERTED: Final = 32
"""Up to how many elements are kept in order by insertion; more of them are sorted by merging."""


def _hits(value: Expr, peak: Expr) -> Expr:
    """Whether `value` is the extreme `peak`; where that is NaN, whether it is NaN."""
    hit = apply("eq", value, peak)
    return apply("or", hit, is_nan(value)) if value.dtype.is_floating else hit


def first_of(
    k: Lowering, x: Source, along: Sequence[int], *, least: bool, last: bool
) -> list[tuple[str, str, Any, float, Any]]:
    """The stages that find the extreme along axes, and where it is, counted over them."""
    dtype = COMPUTED_AS.get(x.dtype, x.dtype)
    sizes = [x.shape[axis] for axis in along]

    def read(point: tuple[Axis, ...], *_found: Ref) -> Expr:
        return widened(x.at(point))

    def place(point: tuple[Axis, ...], peak: Ref) -> Expr:
        here = counted([point[axis] for axis in along], sizes)
        return select(_hits(read(point), peak), here, const(-1 if last else _FAR, INT64))

    start = extreme(dtype, least=not least)
    return [
        ("peak", "minimum" if least else "maximum", dtype, start, read),
        ("place", "max" if last else "min", INT64, -1 if last else _FAR, place),
    ]


def counted(axes: Sequence[Axis], sizes: Sequence[DimLike]) -> Expr:
    """The number of a point, row by row."""
    return linear(*((axis, product(sizes[number + 1 :])) for number, axis in enumerate(axes)))


@rule("ArgMax", "ArgMin")
def arg_extreme(k: Lowering, op: Any, x: Source) -> Nest:
    if not x.rank:
        raise NotLowered(f"{op.op_type} of a scalar")
    along = normal_axis(op.axis, x.rank)
    dim = x.shape[along]
    least, last = op.op_type == "ArgMin", bool(op.select_last_index)
    stages = first_of(k, x, [along], least=least, last=last)

    def result(_point: tuple[Axis, ...], _peak: Ref, place: Ref) -> Expr:
        # of no elements the run fails
        return (
            position(select(apply("lt", place, const(0, INT64)), size(dim), place), dim)
            if (may_be_zero(dim))
            else place
        )

    return k.rows(x.shape, [along], INT64, stages, result, keep=bool(op.keepdims))


@rule("Hardmax")
def hardmax(k: Lowering, op: Any, x: Source) -> Nest:
    if not x.rank:
        raise NotLowered("Hardmax of a scalar")
    first = normal_axis(op.axis, x.rank)
    along = [first] if op.version >= 13 else list(range(first, x.rank))
    sizes = [x.shape[axis] for axis in along]
    stages = first_of(k, x, along, least=False, last=False)

    def result(point: tuple[Axis, ...], _peak: Ref, place: Ref) -> Expr:
        here = counted([point[axis] for axis in along], sizes)
        return cast(apply("eq", here, place), x.dtype)

    return k.rows(x.shape, along, x.dtype, stages, result, spread=True)


@rule("CumSum", "CumProd")
def cumulative(k: Lowering, op: Any, x: Source, axis: Source) -> Steps:
    (where,) = known_dims(axis, f"{op.op_type}'s axis")
    if not isinstance(where, int):
        raise NotLowered(f"{op.op_type}'s axis is decided by data")
    along = normal_axis(where, x.rank)
    axes = k.axes(x.rank)
    count, step = x.shape[along], axes[along]
    point: list[Any] = list(axes)
    if op.reverse:
        point[along] = linear((count, 1), (-1, 1), (step, -1))
    item = widened(x[tuple(point)])
    total = Ref("total", item.dtype)
    adds = op.op_type == "CumSum"
    move = Accumulate("total", "add" if adds else "mul", item)
    store = Store(k.results[0], tuple(map(index, point)), cast(total, x.dtype))
    inner: Block = (store, move) if op.exclusive else (move, store)
    body: Block = (
        Var("total", item.dtype, const(0 if adds else 1, item.dtype)),
        For(step, size(count), inner),
    )
    outer = [number for number in range(x.rank) if number != along]
    work = count * 3
    if outer and outer[-1] > along:
        across = outer.pop()
        body = (For(axes[across], size(x.shape[across]), body, "vector"),)
        work = work * x.shape[across]
    return Steps(
        x.shape,
        x.dtype,
        tuple(axes[number] for number in outer),
        tuple(x.shape[number] for number in outer),
        body,
        k.results[:1],
        work,
    )


class Row:
    """The names of what selecting along one row keeps."""

    def __init__(self, dtype: Any, *, largest: bool) -> None:
        self.dtype = dtype
        self.largest = largest

    def before(self, a: Expr, b: Expr) -> Expr:
        """Whether `a` comes before an equal or other `b` that has a lower index."""
        found = apply("lt", b, a) if self.largest else apply("lt", a, b)
        if not self.dtype.is_floating:
            return found
        first, second = (a, b) if self.largest else (b, a)
        lone = apply("and", is_nan(first), apply("eq", second, second))
        return apply("or", found, lone)

    def item(self, buffer: str, where: Any) -> Expr:
        """An element of a scratch buffer."""
        return Load(buffer, (where,), INT64 if buffer.startswith("places") else self.dtype)


@rule("TopK")
def top(k: Lowering, op: Any, x: Source, count: Source | None = None) -> tuple[Steps, Steps]:
    if not x.rank:
        raise NotLowered("TopK of a scalar")
    along = normal_axis(op.axis, x.rank)
    shape = k.outputs[0][1]
    kept, total = shape[along], x.shape[along]
    axes = list(k.axes(x.rank))
    outer = [number for number in range(x.rank) if number != along]
    row = Row(COMPUTED_AS.get(x.dtype, x.dtype), largest=bool(op.largest))

    def read(where: Any) -> Expr:
        point: list[Any] = list(axes)
        point[along] = where
        return widened(x[tuple(point)])

    def write(step: Axis, value: Expr, place: Expr) -> Block:
        point: list[Any] = list(axes)
        point[along] = step
        target = tuple(map(index, point))
        values, places = (*k.results, None)[:2]
        stores: list[Stmt] = [Store(values, target, cast(value, x.dtype))]
        if places is not None:
            stores.append(Store(places, target, place))
        return tuple(stores)

    body: list[Stmt] = []
    if kept != 0 and not known_less_equal(kept, total):
        body.append(Let("fits", apply("index", size(kept - 1), size(total))))
    if isinstance(kept, int) and kept <= _INSERTED:
        body += _inserted(row, read, write, kept, total)
        work = total * 6
    else:
        body += merged(row, read, write, kept, total)
        work = total * 100
    steps = Steps(
        shape,
        x.dtype,
        tuple(axes[number] for number in outer),
        tuple(x.shape[number] for number in outer),
        tuple(body),
        k.results[:2],
        work,
    )
    return steps, replace(steps, dtype=INT64)


def _inserted(row: Row, read: Any, write: Any, kept: int, total: DimLike) -> list[Stmt]:
    """The best `kept` elements so far lie in order; a better one moves down to its place."""
    if kept == 0:
        return []
    i, q, p, start = Axis("i"), Axis("q"), Axis("p"), Axis("z")
    item, last = Ref("item", row.dtype), Ref("last", INT64)
    at = linear((last, 1), (q, -1))
    above, below = Ref("above", row.dtype), Ref("below", row.dtype)
    upper, lower = Ref("upper", INT64), Ref("lower", INT64)
    swaps = Ref("swaps", BOOL)
    sink: Block = (
        Let("above", row.item("best", at + -1)),
        Let("below", row.item("best", at)),
        Let("upper", row.item("places", at + -1)),
        Let("lower", row.item("places", at)),
        Let("swaps", row.before(below, above)),
        Store("best", (at + -1,), select(swaps, below, above)),
        Store("best", (at,), select(swaps, above, below)),
        Store("places", (at + -1,), select(swaps, lower, upper)),
        Store("places", (at,), select(swaps, upper, lower)),
    )
    early = apply("lt", index(i), const(kept, INT64))
    better = row.before(item, row.item("best", index(last)))
    scan: Block = (
        Let("item", read(i)),
        Let("last", apply("min", index(i), const(kept - 1, INT64))),
        If(
            apply("or", early, better),
            (
                Store("best", (index(last),), item),
                Store("places", (index(last),), index(i)),
                For(q, last, sink),
            ),
        ),
    )
    return [
        Local("best", row.dtype, (kept,)),
        Local("places", INT64, (kept,)),
        For(
            start,
            size(kept),
            (
                Store("best", (index(start),), const(0, row.dtype)),
                Store("places", (index(start),), const(0, INT64)),
            ),
        ),
        For(i, size(total), scan),
        For(p, size(kept), write(p, row.item("best", p), row.item("places", p))),
    ]


def merged(
    row: Row, read: Any, write: Any, kept: Index, total: DimLike, bound: Expr | None = None
) -> list[Stmt]:
    """The row is sorted by merging runs of 1, 2, 4 ... elements, from one buffer to the other.

    It has `bound` elements, at most `total`, of which the first `kept` are written.
    """
    i, turn, back, p = Axis("i"), Axis("t"), Axis("c"), Axis("p")
    pair, o = Axis("r"), Axis("o")
    zero, one = const(0, INT64), const(1, INT64)
    run, wide = Ref("run", INT64), Ref("wide", INT64)
    begin, middle, end = Ref("begin", INT64), Ref("middle", INT64), Ref("end", INT64)
    a, b = Load("cursors", (0,), INT64), Load("cursors", (1,), INT64)
    left, right = Ref("left", INT64), Ref("right", INT64)
    has_left, has_right = apply("lt", left, middle), apply("lt", right, end)
    # a cursor past its run reads an element of the row all the same
    most = linear((total, 1), (-1, 1))
    first = row.item("best", index(apply("min", left, most)))
    second = row.item("best", index(apply("min", right, most)))
    later = apply("or", row.before(second, first), apply("not", has_left))
    takes = Ref("takes", BOOL)
    source = Ref("source", INT64)
    target = linear((begin, 1), (o, 1))
    merge: Block = (
        Let("left", a),
        Let("right", b),
        Let("takes", apply("and", has_right, later)),
        Let("source", select(takes, right, left)),
        Store("moved", (target,), row.item("best", index(source))),
        Store("places_moved", (target,), row.item("places", index(source))),
        Store("cursors", (index(0),), apply("add", left, select(takes, zero, one))),
        Store("cursors", (index(1),), apply("add", right, select(takes, one, zero))),
    )
    bound = size(total) if bound is None else bound
    pairs = apply("div", apply("sub", apply("add", bound, wide), one), apply("max", wide, one))
    pass_: Block = (
        Let("run", apply("shl", one, index(turn))),
        Let("wide", apply("shl", const(2, INT64), index(turn))),
        If(
            apply("lt", run, bound),
            (
                For(
                    pair,
                    pairs,
                    (
                        Let("begin", apply("mul", index(pair), wide)),
                        Let("middle", apply("min", apply("add", begin, run), bound)),
                        Let("end", apply("min", apply("add", begin, wide), bound)),
                        Store("cursors", (index(0),), begin),
                        Store("cursors", (index(1),), middle),
                        For(o, apply("sub", end, begin), merge),
                    ),
                ),
                For(
                    back,
                    bound,
                    (
                        Store("best", (index(back),), row.item("moved", back)),
                        Store("places", (index(back),), row.item("places_moved", back)),
                    ),
                    "vector",
                ),
            ),
        ),
    )
    return [
        Local("cursors", INT64, (2,)),
        *(Local(name, row.dtype, (total,)) for name in ("best", "moved")),
        *(Local(name, INT64, (total,)) for name in ("places", "places_moved")),
        For(
            i,
            bound,
            (Store("best", (index(i),), read(i)), Store("places", (index(i),), index(i))),
        ),
        For(turn, const(40, INT64), (*pass_,)),
        For(p, size(kept), write(p, row.item("best", p), row.item("places", p))),
    ]
