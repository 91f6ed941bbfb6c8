"""Operators that only move elements: they become index expressions, or the same memory."""

from __future__ import annotations

import operator
from dataclasses import replace
from functools import reduce
from typing import TYPE_CHECKING, Any, Final

from sardonyx.dims import Dim, known_equal, known_less_equal
from sardonyx.dtypes import INT64
from sardonyx.loops.expr import Axis, Expr, linear
from sardonyx.loops.nest import Definition, Lowering, Nest, NotLowered, Pieces, Source, View
from sardonyx.loops.scalars import apply, const, select, size
from sardonyx.lowering.registry import rule
from sardonyx.lowering.support import may_be_zero, normal_axis, position

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sardonyx.dims import DimLike

__all__ = ["known_dims"]

_MOST_INPUTS: Final = 256


def known_dims(source: Source | None, what: str) -> list[DimLike]:
    """The contents of an integer tensor as dims. Raises `NotLowered` where they are not known."""
    if source is not None and source.shape == (0,):
        return []
    if source is None or source.contents is None:
        raise NotLowered(f"{what} is decided by data")
    found = [
        item if item is None or isinstance(item, Dim) else int(item)
        for item in source.contents.reshape(-1)
    ]
    if any(item is None for item in found):
        raise NotLowered(f"{what} is decided by data")
    return found  # type: ignore[return-value]


def _count(dims: Iterable[DimLike]) -> DimLike:
    """How many elements a shape has."""
    return reduce(operator.mul, dims, 1)


@rule("Reshape", "Flatten", "Squeeze", "Unsqueeze")
def reshape(k: Lowering, op: Any, data: Source, *given: Source | None) -> View:
    shape = k.outputs[0][1]
    wanted = given[0] if op.op_type == "Reshape" and given else None
    if wanted is not None and wanted.contents is not None:
        for item, dim in zip(wanted.contents.reshape(-1), shape, strict=True):
            if isinstance(item, Dim):
                k.require_equal(item, dim)
    k.require_equal(_count(data.shape), _count(shape))
    return k.view(data, shape)


@rule("Transpose")
def transpose(k: Lowering, op: Any, data: Source) -> Nest:
    order = op.perm or tuple(reversed(range(data.rank)))

    def element(*axes: Axis) -> Expr:
        where: list[Any] = [0] * data.rank
        for axis, source_axis in zip(axes, order, strict=True):
            where[source_axis] = axis
        return data[tuple(where)]

    return k.compute(k.outputs[0][1], data.dtype, element)


@rule("Expand")
def expand(k: Lowering, _op: Any, data: Source, _shape: Source) -> Nest:
    return k.compute(k.outputs[0][1], data.dtype, lambda *axes: data.at(axes))


@rule("Slice")
def slice_(
    k: Lowering,
    _op: Any,
    data: Source,
    starts: Source,
    ends: Source,
    axes: Source | None = None,
    steps: Source | None = None,
) -> Nest:
    first = known_dims(starts, "Slice's starts")
    last = known_dims(ends, "Slice's ends")
    which = list(range(len(first))) if axes is None else known_dims(axes, "Slice's axes")
    step = [1] * len(first) if steps is None else known_dims(steps, "Slice's steps")
    where: dict[int, tuple[DimLike, int]] = {}
    for begin, _end, axis, stride in zip(first, last, which, step, strict=True):
        if not isinstance(axis, int) or not isinstance(stride, int):
            raise NotLowered("Slice along an axis or with a step that data decides")
        axis = normal_axis(axis, data.rank)
        where[axis] = (_begin(begin, data.shape[axis], stride), stride)
    shape = k.outputs[0][1]

    def element(*outer: Axis) -> Expr:
        indices = []
        for number, axis in enumerate(outer):
            begin, stride = where.get(number, (0, 1))
            indices.append(linear((begin, 1), (axis, stride)))
        return data[tuple(indices)]

    return k.compute(shape, data.dtype, element)


def _begin(begin: DimLike, dim: DimLike, stride: int) -> DimLike:
    """Where a slice begins, clamped as the standard says; refused where that is not decided."""
    if isinstance(begin, int) and isinstance(dim, int):
        begin = begin + dim if begin < 0 else begin
        return max(0, min(begin, dim - (stride < 0)))
    if isinstance(begin, int) and begin < 0:
        if stride < 0 and begin == -1:
            return dim - 1
        if known_less_equal(0, begin + dim):
            return begin + dim
        raise NotLowered(f"Slice from {begin} of a dimension {dim} that may be shorter")
    if begin == 0 and stride > 0:
        return 0
    if known_less_equal(begin, dim) and known_less_equal(0, begin) and stride > 0:
        return begin
    raise NotLowered(f"Slice from {begin} of dimension {dim}: which is greater is not known")


@rule("Concat")
def concat(k: Lowering, op: Any, *inputs: Source) -> Pieces:
    dtype, shape = k.outputs[0]
    if len(inputs) > _MOST_INPUTS:
        raise NotLowered(f"Concat of {len(inputs)} inputs")
    along = normal_axis(op.axis, len(shape))
    pieces = []
    end: DimLike = 0
    for part in inputs:
        for axis, dim in enumerate(part.shape):
            if axis != along:
                k.require_equal(dim, shape[axis])
        nest = k.compute(part.shape, dtype, lambda *axes, part=part: part[axes])
        target = list(nest.target)
        target[along] = linear((target[along], 1), (end, 1))
        pieces.append(replace(nest, shape=shape, target=tuple(target)))
        end = end + part.shape[along]
    return Pieces(shape, dtype, tuple(pieces))


@rule("Split")
def split(k: Lowering, op: Any, data: Source, *_sizes: Source | None) -> tuple[Nest, ...]:
    along = normal_axis(op.axis, data.rank)
    nests = []
    begin: DimLike = 0
    for dtype, shape in k.outputs:

        def element(*axes: Axis, begin: DimLike = begin) -> Expr:
            where: list[Any] = list(axes)
            where[along] = linear((axes[along], 1), (begin, 1))
            return data[tuple(where)]

        nests.append(k.compute(shape, dtype, element))
        begin = begin + shape[along]
    return tuple(nests)


@rule("Pad")
def pad(
    k: Lowering,
    op: Any,
    data: Source,
    pads: Source,
    value: Source | None = None,
    axes: Source | None = None,
) -> Definition:
    if op.version < 2:
        raise NotLowered("Pad before opset 2")
    amounts = known_dims(pads, "Pad's pads")
    which = list(range(data.rank)) if axes is None else known_dims(axes, "Pad's axes")
    if any(not isinstance(item, int) or item < 0 for item in amounts):
        raise NotLowered("Pad by amounts that are symbolic or negative")
    before: dict[int, DimLike] = {}
    for axis, amount in zip(which, amounts, strict=False):
        if not isinstance(axis, int):
            raise NotLowered("Pad along axes that data decides")
        before[normal_axis(axis, data.rank)] = amount
    dtype, shape = k.outputs[0]
    if op.mode != "constant":
        return _repeated(k, op.mode, data, before)

    def border(*_axes: Axis) -> Expr:
        if value is None:
            return const(op.value if op.version < 11 else 0, dtype)
        return value[(0,) * value.rank]

    fill = k.compute(shape, dtype, border)
    copy = k.compute(data.shape, dtype, lambda *axes: data[axes])
    target = tuple(
        linear((position, 1), (before.get(axis, 0), 1)) for axis, position in enumerate(copy.target)
    )
    return Pieces(shape, dtype, (fill, replace(copy, shape=shape, target=target)))


def _repeated(k: Lowering, mode: str, data: Source, before: dict[int, DimLike]) -> Nest:
    """The data with its own elements around it."""
    dtype, shape = k.outputs[0]

    def place(axis: Axis, number: int) -> Expr:
        dim = data.shape[number]
        here: Expr = linear((axis, 1), (before[number], -1))
        last, zero = size(dim - 1), const(0, INT64)
        if mode == "edge":
            here = apply("max", apply("min", here, last), zero)
        else:
            period: Expr = size(dim)
            if mode == "reflect":
                period = apply("max", size(2 * (dim - 1)), const(1, INT64))
            here = apply("rem", here, period)
            here = select(apply("lt", here, zero), apply("add", here, period), here)
            if mode == "reflect":
                back = apply("sub", period, here)
                here = select(apply("eq", last, zero), zero, apply("min", here, back))
        return position(here, dim) if may_be_zero(dim) else here

    def element(*axes: Axis) -> Expr:
        where: list[Any] = list(axes)
        for number, amount in before.items():
            if not known_equal(shape[number], data.shape[number]) or amount != 0:
                where[number] = place(axes[number], number)
        return data[tuple(where)]

    return k.compute(shape, dtype, element)


@rule("DepthToSpace", "SpaceToDepth")
def blocks(k: Lowering, op: Any, data: Source) -> Pieces:
    """Height and width in blocks, whose elements are channels on the other side."""
    dtype, shape = k.outputs[0]
    size_, apart = op.blocksize, op.op_type == "SpaceToDepth"
    deep, flat = (shape, data.shape) if apart else (data.shape, shape)
    extents = (flat[0], flat[1], size_, size_, deep[2], deep[3])
    for wide, narrow in ((flat[2], deep[2]), (flat[3], deep[3]), (deep[1], flat[1] * size_)):
        if not known_equal(wide, narrow * size_):
            raise NotLowered(f"{op.op_type}: whether {wide} has blocks of {size_} is not known")
    axes = k.axes(6)
    batch, channel, row, column, high, across = axes
    parts = [(channel, 1), (row, size_ * flat[1]), (column, flat[1])]
    if getattr(op, "mode", "DCR") == "CRD":
        parts = [(channel, size_ * size_), (row, size_), (column, 1)]
    inner = (batch, linear(*parts), high, across)
    outer = (batch, channel, linear((high, size_), (row, 1)), linear((across, size_), (column, 1)))
    read, write = (outer, inner) if apart else (inner, outer)
    target = tuple(linear((place, 1)) for place in write)
    nest = Nest(shape, dtype, axes, extents, data[read], target)
    return Pieces(shape, dtype, (nest,))


@rule("Tile")
def tile(k: Lowering, op: Any, data: Source, *_repeats: Source | None) -> Nest:
    if op.version < 6:
        raise NotLowered("Tile before opset 6")
    shape = k.outputs[0][1]

    def element(*axes: Axis) -> Expr:
        where: list[Any] = []
        for axis, dim, whole in zip(axes, data.shape, shape, strict=True):
            if dim == 1:
                where.append(0)
            elif known_equal(dim, whole):
                where.append(axis)
            else:
                where.append(apply("rem", axis, size(dim)))
        return data[tuple(where)]

    return k.compute(shape, data.dtype, element)
