"""Operators that put elements where indices say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sardonyx.dtypes import BOOL, INT64
from sardonyx.loops.expr import Axis, Expr, Load, Ref, index, linear
from sardonyx.loops.kernel import For, If, Let, Store
from sardonyx.loops.nest import COMPUTED_AS, Lowering, NotLowered, Pieces, Source, Steps
from sardonyx.loops.scalars import apply, const, select, size
from sardonyx.lowering.registry import rule
from sardonyx.lowering.support import (
    agree,
    may_be_zero,
    normal_axis,
    position,
    product,
    steps_within,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sardonyx.loops.expr import Index
    from sardonyx.loops.kernel import Block

_REDUCTIONS: Final = {"add": "add", "mul": "mul", "max": "maximum", "min": "minimum"}


def _checked(op: Any, data: Source) -> None:
    if op.reduction == "none":
        return
    if op.reduction not in _REDUCTIONS:
        raise NotLowered(f"{op.op_type} with reduction {op.reduction!r}")
    if data.dtype is BOOL or data.dtype in COMPUTED_AS:
        raise NotLowered(f"{op.op_type} with reduction {op.reduction!r} of {data.dtype}")


def _put(
    k: Lowering, op: Any, data: Source, where: Sequence[Index], update: Expr
) -> tuple[Block, Block]:
    """Statements that check where an update goes, and that make it."""
    names: list[Index] = []
    checks = []
    for number, place in enumerate(where):
        if isinstance(place, Expr) and not isinstance(place, Axis):
            name = Ref(f"at{number}", INT64)
            checks.append(Let(name.name, place))
            place = name
        names.append(place)
    target = tuple(map(index, names))
    out = k.results[0]
    if op.reduction != "none":
        old = Load(out, target, data.dtype)
        update = apply(_REDUCTIONS[op.reduction], old, update)
    return tuple(checks), (Store(out, target, update),)


def _guarded(data: Source, block: Block) -> Block:
    """`block`, unless there is no place to put anything."""
    if not any(map(may_be_zero, data.shape)):
        return block
    return (If(apply("lt", const(0, INT64), size(product(data.shape))), block),)


def _onto_copy(k: Lowering, data: Source, steps: Steps) -> Pieces:
    copy = k.compute(data.shape, data.dtype, lambda *axes: data[axes])
    return Pieces(data.shape, data.dtype, (copy, steps))


@rule("ScatterElements", "Scatter")
def scatter_elements(
    k: Lowering, op: Any, data: Source, indices: Source, updates: Source
) -> Pieces:
    _checked(op, data)
    agree("ScatterElements' updates", updates.shape, indices.shape)
    along = normal_axis(op.axis, data.rank)
    axes = k.axes(data.rank)
    where: list[Index] = []
    for number, axis in enumerate(axes):
        if number == along:
            where.append(position(indices[axes], data.shape[along]))
        else:
            where.append(steps_within(axis, indices.shape[number], data.shape[number]))
    checks, put = _put(k, op, data, where, updates[axes])
    # two updates may go to one place: along the axis they are made in order
    body = (For(axes[along], size(indices.shape[along]), (*checks, *_guarded(data, put))),)
    others = [number for number in range(data.rank) if number != along]
    steps = Steps(
        data.shape,
        data.dtype,
        tuple(axes[number] for number in others),
        tuple(indices.shape[number] for number in others),
        body,
        k.results[:1],
        indices.shape[along] * 6,
    )
    return _onto_copy(k, data, steps)


@rule("ScatterND")
def scatter_nd(k: Lowering, op: Any, data: Source, indices: Source, updates: Source) -> Pieces:
    _checked(op, data)
    width = indices.shape[-1] if indices.rank else None
    if not isinstance(width, int):
        raise NotLowered("ScatterND with indices of a width that data decides")
    outer = indices.shape[:-1]
    agree("ScatterND's updates", updates.shape, (*outer, *data.shape[width:]))
    points = k.axes(len(outer))
    inner = k.axes(data.rank - width)

    def at_row(number: int) -> Expr:
        where: tuple[Index, ...] = (*points, number)
        return indices[where]

    picked = [position(at_row(number), data.shape[number]) for number in range(width)]
    checks, put = _put(k, op, data, [*picked, *inner], updates[points + inner])
    body: Block = _guarded(data, put)
    extents = list(data.shape[width:])
    axes = list(inner)
    if axes:
        body = (For(axes.pop(), size(extents.pop()), body, "vector" if body is put else "serial"),)
    body = (*checks, *body)
    for axis, extent in reversed(list(zip(points, outer, strict=True))):
        body = (For(axis, size(extent), body),)
    work = product((*outer, *data.shape[width:][-1:])) * 6
    steps = Steps(data.shape, data.dtype, tuple(axes), tuple(extents), body, k.results[:1], work)
    return _onto_copy(k, data, steps)


@rule("TensorScatter")
def tensor_scatter(
    k: Lowering, op: Any, data: Source, update: Source, starts: Source | None = None
) -> Pieces:
    along = normal_axis(op.axis, data.rank)
    dim, count = data.shape[along], update.shape[along]
    wanted = (*data.shape[:along], count, *data.shape[along + 1 :])
    agree("TensorScatter's update", update.shape, wanted)
    axes = list(k.axes(data.rank))
    first: Expr = const(0, INT64)
    if starts is not None:
        agree("TensorScatter's write_indices", starts.shape, data.shape[:1])
        first = starts[axes[0]]
    beyond = size(dim)
    room = linear((dim, 1), (count, -1))
    if op.mode == "circular":
        first = apply("rem", first, size(dim))
        first = select(apply("lt", first, const(0, INT64)), apply("add", first, beyond), first)
        fits = apply("le", const(0, INT64), room)
    else:
        inside = apply("le", const(0, INT64), first)
        fits = apply("and", inside, apply("le", first, room))
    begin = Ref("begin", INT64)
    # no position is `beyond`: the run fails
    place: Expr = apply("add", begin, index(axes[along]))
    if op.mode == "circular":
        place = apply("rem", place, size(dim))
    checked = apply("index", select(Ref("fits", BOOL), place, beyond), size(dim))
    where: list[Index] = list(axes)
    where[along] = Ref("at", INT64)
    put: Block = (Store(k.results[0], tuple(map(index, where)), update[tuple(axes)]),)
    body = _guarded(data, put)
    for number in reversed(range(along + 1, data.rank)):
        body = (For(axes[number], size(update.shape[number]), body),)
    body = (
        Let("begin", first),
        Let("fits", fits),
        For(axes[along], size(count), (Let("at", checked), *body)),
    )
    steps = Steps(
        data.shape,
        data.dtype,
        tuple(axes[:along]),
        tuple(update.shape[:along]),
        body,
        k.results[:1],
        product(update.shape[along:]) * 4,
    )
    return _onto_copy(k, data, steps)
