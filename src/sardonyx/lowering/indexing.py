"""Operators whose indices are data: gathering, and what is made of comparing with an index."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sardonyx.dtypes import DOUBLE, INT64
from sardonyx.loops.expr import Axis, Expr, index
from sardonyx.loops.nest import Lowering, Nest, NotLowered, Source
from sardonyx.loops.scalars import apply, cast, const, select, size
from sardonyx.lowering.registry import rule
from sardonyx.lowering.support import agree, normal_axis, position, single, steps_within

if TYPE_CHECKING:
    from sardonyx.dims import DimLike


@rule("Gather")
def gather(k: Lowering, op: Any, data: Source, indices: Source) -> Nest:
    along = normal_axis(op.axis, data.rank)
    rank = indices.rank

    def element(*axes: Axis) -> Expr:
        chosen = position(indices[axes[along : along + rank]], data.shape[along])
        where = (*axes[:along], chosen, *axes[along + rank :])
        return data[where]

    return k.compute(k.outputs[0][1], data.dtype, element)


@rule("GatherElements")
def gather_elements(k: Lowering, op: Any, data: Source, indices: Source) -> Nest:
    along = normal_axis(op.axis, data.rank)

    def element(*axes: Axis) -> Expr:
        where: list[Any] = [
            steps_within(axis, *sizes)
            for axis, *sizes in zip(axes, indices.shape, data.shape, strict=True)
        ]
        where[along] = position(indices[axes], data.shape[along])
        return data[tuple(where)]

    return k.compute(indices.shape, data.dtype, element)


@rule("GatherND")
def gather_nd(k: Lowering, op: Any, data: Source, indices: Source) -> Nest:
    batch = op.batch_dims
    width = indices.shape[-1] if indices.rank else None
    if not isinstance(width, int):
        raise NotLowered("GatherND with indices of a width that data decides")
    agree("GatherND's batch", indices.shape[:batch], data.shape[:batch])
    rank = indices.rank - 1

    def element(*axes: Axis) -> Expr:
        outer = axes[:rank]
        picked = (
            position(indices[_joined(outer, number)], data.shape[batch + number])
            for number in range(width)
        )
        where = (*outer[:batch], *picked, *axes[rank:])
        return data[where]

    return k.compute(k.outputs[0][1], data.dtype, element)


def _joined(outer: tuple[Axis, ...], number: int) -> tuple[Any, ...]:
    return (*outer, number)


@rule("ReverseSequence")
def reverse_sequence(k: Lowering, op: Any, x: Source, lengths: Source) -> Nest:
    batch, time = op.batch_axis, op.time_axis
    agree("ReverseSequence's sequence_lens", lengths.shape, (x.shape[batch],))
    steps = x.shape[time]

    def element(*axes: Axis) -> Expr:
        given = cast(lengths[axes[batch]], INT64)
        # a negative length is none: the run fails, as it does for one that is too long
        bad = apply("lt", given, const(0, INT64))
        length = apply("index", select(bad, size(steps + 1), given), size(steps + 1))
        here = index(axes[time])
        back = apply("sub", apply("sub", length, const(1, INT64)), here)
        where: list[Any] = list(axes)
        where[time] = select(apply("lt", here, length), back, here)
        return x[tuple(where)]

    return k.compute(x.shape, x.dtype, element)


@rule("OneHot")
def one_hot(k: Lowering, op: Any, indices: Source, _depth: Source, values: Source) -> Nest:
    agree("OneHot's values", values.shape, (2,))
    shape = k.outputs[0][1]
    along = normal_axis(op.axis, len(shape))
    depth: DimLike = shape[along]

    def element(*axes: Axis) -> Expr:
        given = indices[axes[:along] + axes[along + 1 :]]
        kind = INT64
        if given.dtype.is_floating:
            given, kind = apply("trunc", cast(given, DOUBLE)), DOUBLE
        place = cast(given, kind)
        if op.version >= 11 and given.dtype.kind != "uint":
            negative = apply("lt", place, const(0, kind))
            place = select(negative, apply("add", place, cast(size(depth), kind)), place)
        here = apply("eq", cast(index(axes[along]), kind), place)
        return select(here, values[1], values[0])

    return k.compute(shape, values.dtype, element)


@rule("Trilu")
def triangle(k: Lowering, op: Any, x: Source, shift: Source | None = None) -> Nest:
    def element(*axes: Axis) -> Expr:
        row, column = index(axes[-2]), index(axes[-1])
        offset = apply("sub", column, row)
        bound: Expr = const(0, INT64) if shift is None else single(shift)
        # beyond the matrix, where sums of sizes cannot overflow
        most = const(1 << 60, INT64)
        bound = apply("max", apply("min", bound, most), const(-(1 << 60), INT64))
        kept = apply("le", bound, offset) if op.upper else apply("le", offset, bound)
        return select(kept, x[axes], const(0, x.dtype))

    return k.compute(x.shape, x.dtype, element)


@rule("EyeLike")
def eye(k: Lowering, op: Any, x: Source) -> Nest:
    dtype = k.outputs[0][0]

    def element(row: Axis, column: Axis) -> Expr:
        offset = apply("sub", index(column), index(row))
        return cast(apply("eq", offset, const(op.k, INT64)), dtype)

    return k.compute(x.shape, dtype, element)
