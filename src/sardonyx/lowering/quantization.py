"""Linear quantization, and products of quantized matrices."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sardonyx import dtypes
from sardonyx.dims import ceil_div
from sardonyx.dtypes import DOUBLE, FLOAT, INT32, INT64, UINT8
from sardonyx.loops.expr import Axis, Expr, Ref, index, linear
from sardonyx.loops.nest import (
    COMPUTED_AS,
    Contraction,
    Definition,
    Lowering,
    Nest,
    NotLowered,
    Pieces,
    Source,
    widened,
)
from sardonyx.loops.scalars import apply, cast, const, select
from sardonyx.lowering.products import contracted
from sardonyx.lowering.reduction import extreme
from sardonyx.lowering.registry import rule
from sardonyx.lowering.support import agree, normal_axis

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sardonyx.dims import DimLike
    from sardonyx.dtypes import DType
    from sardonyx.loops.expr import Index


def _parameter(source: Source, x: Source, axis: int, block: int, axes: Sequence[Axis]) -> Expr:
    """The scale or zero point of the element at `axes`."""
    if all(dim == 1 for dim in source.shape) and not (block and source.rank):
        return source[(0,) * source.rank]
    along = normal_axis(axis, x.rank)
    if not block:
        agree("a scale for each element of the axis", source.shape, (x.shape[along],))
        return source[axes[along]]
    others = [number for number in range(x.rank) if number != along]
    if source.rank != x.rank:
        raise NotLowered("a scale for each block of another rank")
    agree("a scale for each block", *([part.shape[i] for i in others] for part in (source, x)))
    dim, count = x.shape[along], source.shape[along]
    if not isinstance(dim, int) or count != -(-dim // block):
        raise NotLowered("blocks of an axis whose size data decides")
    where: list[Index] = list(axes)
    where[along] = apply("div", index(axes[along]), const(block, INT64))
    return source[tuple(where)]


def _axis(op: Any) -> int:
    return 1 if op.version < 13 else op.axis


def _saturated(value: Expr, dtype: DType) -> Expr:
    """A whole number as an element of `dtype`; NaN must not come."""
    low, high = extreme(dtype, least=True), extreme(dtype, least=False)
    held = apply("min", apply("max", value, const(low, value.dtype)), const(high, value.dtype))
    if value.dtype is not FLOAT or dtype.bits > 16:
        return cast(cast(held, INT32), dtype)
    # from 1.5 * 2**23 on floats are whole numbers: the last bits of the sum are those of `held`
    shifted = apply("bits", apply("add", held, const(1.5 * 2**23, FLOAT)), dtype=INT32)
    return cast(apply("sub", shifted, const(0x4B400000, INT32)), dtype)


def _rounded(value: Expr) -> Expr:
    """`value` rounded half to even; NaN gives 0."""
    whole = apply("rint", value)
    return select(apply("eq", value, value), whole, const(0, value.dtype))


def _quotient(x: Expr, scale: Expr, precision: DType) -> Expr:
    if precision in COMPUTED_AS:
        narrow = [cast(cast(part, precision), FLOAT) for part in (x, scale)]
        return cast(cast(apply("div", *narrow), precision), FLOAT)
    # 32-bit integers are computed in DOUBLE, everything else is exact in FLOAT
    kind = DOUBLE if INT32 in {x.dtype, scale.dtype} else FLOAT
    return apply("div", cast(x, kind), cast(scale, kind))


@rule("QuantizeLinear")
def quantize(k: Lowering, op: Any, x: Source, scale: Source, zero: Source | None = None) -> Nest:
    dtype = k.outputs[0][0]
    if not dtype.is_integer or dtype.bits > 16:
        raise NotLowered(f"QuantizeLinear to {dtype}")
    block = getattr(op, "block_size", 0) or 0
    precision = dtypes.from_code(op.precision) if op.precision else scale.dtype

    def element(*axes: Axis) -> Expr:
        step = _parameter(scale, x, _axis(op), block, axes)
        value = _rounded(_quotient(x[axes], step, precision))
        if zero is not None:
            shift = _parameter(zero, x, _axis(op), block, axes)
            value = apply("add", value, cast(shift, value.dtype))
        return _saturated(value, dtype)

    return k.compute(x.shape, dtype, element)


@rule("DequantizeLinear")
def dequantize(k: Lowering, op: Any, x: Source, scale: Source, zero: Source | None = None) -> Nest:
    block = getattr(op, "block_size", 0) or 0
    kind = INT64 if x.dtype.bits > 16 else INT32

    def element(*axes: Axis) -> Expr:
        value = cast(x[axes], kind)
        if zero is not None:
            shift = _parameter(zero, x, _axis(op), block, axes)
            value = apply("sub", value, cast(shift, kind))
        step = _parameter(scale, x, _axis(op), block, axes)
        return apply("mul", cast(value, FLOAT), cast(widened(step), FLOAT))

    return k.compute(x.shape, k.outputs[0][0], element)


@rule("DynamicQuantizeLinear")
def quantize_dynamically(k: Lowering, op: Any, x: Source) -> tuple[Definition, ...]:
    none, most = const(0, FLOAT), const(255, FLOAT)
    every = list(range(x.rank))

    def read(point: tuple[Axis, ...], *_found: Ref) -> Expr:
        return x.at(point)

    lowest = ("low", "minimum", FLOAT, float("inf"), read)
    highest = ("high", "maximum", FLOAT, float("-inf"), read)
    found_low = k.define("low", k.rows(x.shape, every, FLOAT, [lowest], lambda _, low: low))
    least = apply("minimum", found_low[()], none)

    def step(_point: tuple[Axis, ...], high: Ref) -> Expr:
        span = apply("sub", apply("maximum", high, none), least)
        found = apply("div", span, most)
        return select(apply("eq", found, none), const(1, FLOAT), found)

    scale = k.rows(x.shape, every, FLOAT, [highest], step)
    found_scale = Source(k.results[1], FLOAT, ())[()]
    found_zero = Source(k.results[2], UINT8, ())[()]
    below = apply("neg", least)
    start = _saturated(_rounded(apply("div", below, found_scale)), UINT8)
    zero = k.compute((), UINT8, lambda: start)

    def element(*axes: Axis) -> Expr:
        value = apply("rint", apply("div", x[axes], found_scale))
        value = apply("add", value, cast(found_zero, FLOAT))
        number = apply("eq", value, value)
        return _saturated(select(number, value, none), UINT8)

    return k.compute(x.shape, UINT8, element), scale, zero


def requantized(total: Expr, factor: Expr, zero: Expr, dtype: DType) -> Expr:
    """An INT32 sum times a FLOAT factor, rounded, as an element of `dtype`."""
    value = _rounded(apply("mul", cast(total, FLOAT), factor))
    return _saturated(apply("add", value, cast(zero, FLOAT)), dtype)


def _shifted(x: Source, zero: Source | None, *, rows: bool) -> Any:
    """How an element of a factor is read: less its zero point, as INT32."""

    def read(point: tuple[Index, ...]) -> Expr:
        value = cast(x[point], INT32)
        if zero is None:
            return value
        return apply("sub", value, cast(_of_line(zero, x, point, rows=rows), INT32))

    return read


def _of_line(parameter: Source, x: Source, point: tuple[Index, ...], *, rows: bool) -> Expr:
    """The value that `parameter` has for a row (or a column) of the matrices in `x`."""
    if all(dim == 1 for dim in parameter.shape):
        return parameter[(0,) * parameter.rank]
    if x.rank < 2:
        raise NotLowered("a zero point for each row of a vector")
    line = -2 if rows else -1
    if parameter.rank == 1:
        agree("a value for each row or column", parameter.shape, (x.shape[line],))
        return parameter[point[line]]
    wanted = (*x.shape[:-2], x.shape[-2], 1) if rows else (*x.shape[:-2], 1, x.shape[-1])
    agree("a value for each row or column", parameter.shape, wanted)
    where = (*point[:-2], point[-2], 0) if rows else (*point[:-2], 0, point[-1])
    return parameter[where]


def _pair(low: Expr, high: Expr) -> Expr:
    """Two INT32 that fit 16 bits as the halves of one."""
    half = const(16, INT32)
    kept = apply("and", low, const(0xFFFF, INT32))
    return apply("or", kept, apply("shl", high, half))


def _pairs_of_rows(k: Lowering, x: Source, read: Any) -> Source:
    """What `read` gives for the elements of `x`, two of a row in one; the last may be alone."""
    *outer, size = x.shape
    shape = (*outer, ceil_div(size, 2))
    axes = k.axes(x.rank)
    *point, depth = axes
    first, second = linear((depth, 2)), linear((depth, 2), (1, 1))
    value = _pair(read((*point, first)), read((*point, second)))
    target = tuple(index(axis) for axis in axes)
    whole = Nest(shape, INT32, axes, (*outer, size // 2), value, target)
    if size % 2 == 0:
        return k.define("pairs", whole)
    left = size % 2
    alone = _pair(read((*point, linear((depth, 1), (size - left, 1)))), const(0, INT32))
    end = (*target[:-1], linear((depth, 1), (shape[-1] - left, 1)))
    last = Nest(shape, INT32, axes, (*outer, left), alone, end)
    return k.define("pairs", Pieces(shape, INT32, (whole, last)))


def pair_along(read: Any, size: DimLike, point: tuple[Index, ...], along: int) -> Expr:
    """What `read` gives for two elements along a dimension of `size`; past its end that is 0."""
    depth = index(point[along])

    def at(place: Expr) -> Expr:
        found: Expr = read((*point[:along], place, *point[along + 1 :]))
        return found

    first, second = linear((depth, 2)), linear((depth, 2), (1, 1))
    if size % 2 == 0:
        return _pair(at(first), at(second))
    within = apply("lt", second, index(size))
    inside = select(within, second, first)
    return _pair(at(first), select(within, at(inside), const(0, INT32)))


def _contracted_in_pairs(
    k: Lowering, a: Source, b: Source, left: Any, right: Any, last: Any
) -> Contraction:
    """The matrix product of 8-bit factors less their zero points, which fit 16 bits."""
    if not a.rank or not b.rank:
        raise NotLowered("a matrix product with a scalar")
    pairs = _pairs_of_rows(k, a, left)
    along = max(b.rank - 2, 0)
    size = b.shape[along]
    c = contracted(
        k,
        a,
        b,
        lambda point: pairs[point],
        lambda point: pair_along(right, size, point, along),
        last,
    )
    m, n, _ = c.sizes
    return replace(c, sizes=(m, n, pairs.shape[-1]), grow="dot2")


@rule("MatMulInteger")
def matmul_integer(
    k: Lowering, op: Any, a: Source, b: Source, za: Source | None = None, zb: Source | None = None
) -> Contraction:
    left, right = _shifted(a, za, rows=True), _shifted(b, zb, rows=False)
    return _contracted_in_pairs(k, a, b, left, right, lambda total, *_: total)


@rule("QLinearMatMul")
def matmul_linear(
    k: Lowering,
    op: Any,
    a: Source,
    a_scale: Source,
    za: Source,
    b: Source,
    b_scale: Source,
    zb: Source,
    y_scale: Source,
    zy: Source,
) -> Contraction:
    dtype = k.outputs[0][0]
    for scale in (y_scale, zy):
        agree("QLinearMatMul's output scale", scale.shape, (1,) * scale.rank)

    def last(total: Expr, left: Any, right: Any) -> Expr:
        factor = apply(
            "mul",
            cast(_of_line(a_scale, a, left, rows=True), FLOAT),
            cast(_of_line(b_scale, b, right, rows=False), FLOAT),
        )
        factor = apply("div", factor, cast(y_scale[(0,) * y_scale.rank], FLOAT))
        return requantized(total, factor, zy[(0,) * zy.rank], dtype)

    left, right = _shifted(a, za, rows=True), _shifted(b, zb, rows=False)
    return _contracted_in_pairs(k, a, b, left, right, last)
