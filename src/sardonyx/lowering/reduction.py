"""Reductions and what is made of them along a row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sardonyx.dtypes import FLOAT
from sardonyx.loops import doubles
from sardonyx.loops import mathematics as m
from sardonyx.loops.nest import COMPUTED_AS, Lowering, Nest, NotLowered, Source, widened
from sardonyx.loops.scalars import apply, cast, const, select, size
from sardonyx.lowering.movement import known_dims
from sardonyx.lowering.registry import rule
from sardonyx.lowering.support import normal_axis

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sardonyx.dims import DimLike
    from sardonyx.dtypes import DType
    from sardonyx.loops.expr import Axis, Expr, Ref

__all__ = ["count_of", "extreme", "norm_of", "power_of"]


def count_of(x: Source, along: Sequence[int], dtype: Any) -> Expr:
    """How many elements lie along the axes `along`, as a number of `dtype`."""
    count: DimLike = 1
    for axis in along:
        count = count * x.shape[axis]
    return const(count, dtype) if isinstance(count, int) else cast(size(count), dtype)


_OPS = {
    "ReduceSum": "add",
    "ReduceMean": "add",
    "ReduceMax": "maximum",
    "ReduceMin": "minimum",
    "ReduceProd": "mul",
    "ReduceSumSquare": "add",
    "ReduceL1": "add",
    "ReduceL2": "add",
    "ReduceLogSum": "add",
}


def power_of(value: Expr, p: float) -> Expr:
    """abs(value) to the power of p."""
    value = apply("abs", value)
    if p == 1:
        return value
    return apply("mul", value, value) if p == 2 else doubles.power(value, const(p, value.dtype))


def norm_of(total: Expr, p: float) -> Expr:
    """The p-norm whose power is `total`."""
    if not p:
        raise NotLowered("a norm of p = 0")
    if p == 1:
        return total
    return apply("sqrt", total) if p == 2 else doubles.power(total, const(1 / p, total.dtype))


def _reduced_axes(op: Any, x: Source, axes: Source | None) -> list[int]:
    """The axes that a reduction goes over; none for one that does nothing."""
    name = op.op_type
    if axes is not None:
        which = known_dims(axes, f"{name}'s axes")
        if not all(isinstance(axis, int) for axis in which):
            raise NotLowered(f"{name}'s axes are decided by data")
        along = sorted({normal_axis(int(axis), x.rank) for axis in which})
    else:
        along = []
    if not along:
        if getattr(op, "noop_with_empty_axes", 0):
            return []
        along = list(range(x.rank))
    return along


@rule(*_OPS)
def reduce_(k: Lowering, op: Any, x: Source, axes: Source | None = None) -> Nest:
    name, keep = op.op_type, bool(op.keepdims)
    along = _reduced_axes(op, x, axes)
    dtype = COMPUTED_AS.get(x.dtype, x.dtype)
    if not dtype.is_floating and name in {"ReduceMean", "ReduceL2", "ReduceLogSum"}:
        raise NotLowered(f"{name} of integers")
    start = {"mul": 1.0, "add": 0.0}.get(_OPS[name])
    if start is None:
        start = extreme(dtype, least=_OPS[name] == "maximum")

    def value(point: tuple[Axis, ...], *_found: Ref) -> Expr:
        item = widened(x.at(point))
        if name in {"ReduceSumSquare", "ReduceL2"}:
            return apply("mul", item, item)
        return apply("abs", item) if name == "ReduceL1" else item

    def result(_point: tuple[Axis, ...], total: Ref) -> Expr:
        if name == "ReduceMean":
            return apply("div", total, count_of(x, along, dtype))
        if name == "ReduceLogSum":
            return m.log(total)
        return apply("sqrt", total) if name == "ReduceL2" else total

    stages = [("total", _OPS[name], dtype, start, value)]
    return k.rows(x.shape, along, k.outputs[0][0], stages, result, keep=keep)


def extreme(dtype: DType, *, least: bool) -> float:
    """The least or the greatest number of a type, infinite where it can be."""
    if dtype.is_floating:
        return float("-inf") if least else float("inf")
    if dtype.kind == "bool":
        return 0 if least else 1
    bits: int = dtype.bits
    if dtype.kind == "uint":
        return 0 if least else (1 << bits) - 1
    return -(1 << (bits - 1)) if least else (1 << (bits - 1)) - 1


@rule("ReduceLogSumExp")
def log_sum_exp(k: Lowering, op: Any, x: Source, axes: Source | None = None) -> Nest:
    along = _reduced_axes(op, x, axes)
    dtype = COMPUTED_AS.get(x.dtype, x.dtype)
    if not dtype.is_floating:
        raise NotLowered("ReduceLogSumExp of integers")

    def read(point: tuple[Axis, ...], *_found: Ref) -> Expr:
        return widened(x.at(point))

    def shift(peak: Expr) -> Expr:
        rest = apply("sub", peak, peak)
        return select(apply("eq", rest, rest), peak, const(0, dtype))

    def power(point: tuple[Axis, ...], peak: Ref) -> Expr:
        return m.exp(apply("sub", read(point), shift(peak)))

    def result(_point: tuple[Axis, ...], peak: Ref, total: Ref) -> Expr:
        return apply("add", m.log(total), shift(peak))

    stages: Any = [
        ("peak", "max", dtype, float("-inf"), read),
        ("total", "add", dtype, 0.0, power),
    ]
    return k.rows(x.shape, along, k.outputs[0][0], stages, result, keep=bool(op.keepdims))


@rule("Softmax", "LogSoftmax")
def softmax(k: Lowering, op: Any, x: Source) -> Nest:
    if not x.rank:
        raise NotLowered(f"{op.op_type} of a scalar")
    dtype = COMPUTED_AS.get(x.dtype, x.dtype)
    first = normal_axis(op.axis, x.rank)
    along = [first] if op.version >= 13 else list(range(first, x.rank))

    def read(point: tuple[Axis, ...], *_found: Ref) -> Expr:
        return widened(x.at(point))

    def rounded(value: Expr) -> Expr:
        """A step of the standard's function body, which has 16-bit types round there."""
        return cast(cast(value, x.dtype), dtype)

    is_ratio = x.dtype is FLOAT and op.op_type == "Softmax"
    exp = m.enlarged_exp if is_ratio else m.exp_of_nonpositive

    def power(point: tuple[Axis, ...], peak: Ref, *_found: Ref) -> Expr:
        return rounded(exp(rounded(apply("sub", read(point), peak))))

    def result(point: tuple[Axis, ...], peak: Ref, total: Ref) -> Expr:
        if op.op_type == "LogSoftmax":
            shifted = rounded(apply("sub", read(point), peak))
            return apply("sub", shifted, rounded(m.log(rounded(total))))
        if x.dtype is not dtype:
            return apply("div", power(point, peak), rounded(total))
        return apply("mul", power(point, peak), apply("div", const(1, dtype), total))

    stages: Any = [
        ("peak", "max", dtype, float("-inf"), read),
        ("total", "add", dtype, 0.0, power),
    ]
    return k.rows(x.shape, along, k.outputs[0][0], stages, result, spread=True)
