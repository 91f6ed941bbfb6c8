"""Running and order statistics: cumulative products and extremes, medians, modes, distances."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from sardonyx import dtypes
from sardonyx.errors import ExportError
from sardonyx.export.torch.reduction import vector_norm
from sardonyx.export.torch.registry import TorchBuilder, known, product, static, translation
from sardonyx.export.torch.repeat import scan

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sardonyx.dims import DimLike
    from sardonyx.dtypes import DType
    from sardonyx.ir.value import Value

__all__ = ["full"]


def full(op: TorchBuilder, shape: Sequence[DimLike], number: Any, dtype: DType) -> Value:
    """`number` in `shape`."""
    made: Value = op.constant(number, dtype)
    if len(shape):
        made = op.Expand(made, op.sizes(shape))
    return op.typed(made, dtype, shape)


def _without(x: Value, op: TorchBuilder, axis: int) -> list[DimLike]:
    shape = list(op.shape_of(x))
    del shape[axis]
    return shape


@translation("aten.cumprod.default")
def cumprod(op: TorchBuilder, x: Value, dim: int, **_: Any) -> Any:
    dtype = op.result()
    shape = op.shape_of(x)
    x = op.typed(op.cast(x, dtype), dtype, shape)
    if not shape or 0 in shape:
        return x
    axis = dim % len(shape)
    ones = full(op, _without(x, op, axis), 1, dtype)

    def step(states: list[Value], part: Value) -> tuple[list[Value], list[Value]]:
        total = op.typed(op.Mul(states[0], part), dtype, part.shape or ())
        return [total], [total]

    return scan(op, x, axis, [ones], step)[1]


@translation("aten.logcumsumexp.default")
def logcumsumexp(op: TorchBuilder, x: Value, dim: int) -> Any:
    dtype = op.result()
    if not op.shape_of(x) or 0 in op.shape_of(x):
        return x
    axis = dim % op.rank_of(x)
    lowest = op.constant(-math.inf, dtype)
    start = full(op, _without(x, op, axis), -math.inf, dtype)

    def step(states: list[Value], part: Value) -> tuple[list[Value], list[Value]]:
        # max + log(1 + e^(min - max)), where the max is no infinity
        high, low = op.Max(states[0], part), op.Min(states[0], part)
        gap = op.Where(op.Equal(high, low), op.constant(0, dtype), op.Sub(low, high))
        bent = op.Log(op.Add(op.Exp(gap), op.constant(1, dtype)))
        total = op.Where(op.Equal(high, lowest), lowest, op.Add(high, bent))
        op.typed(total, dtype, part.shape or ())
        return [total], [total]

    return scan(op, x, axis, [start], step)[1]


@translation("aten.cummax.default")
def cummax(op: TorchBuilder, x: Value, dim: int) -> Any:
    return _running(op, x, dim, "Less")


@translation("aten.cummin.default")
def cummin(op: TorchBuilder, x: Value, dim: int) -> Any:
    return _running(op, x, dim, "Greater")


def _running(op: TorchBuilder, x: Value, dim: int, worse: str) -> Any:
    """The best so far and where it stands; of equal ones the last, and NaN is best of all."""
    given, shape = op.dtype_of(x), op.shape_of(x)
    if not shape:
        return x, op.constant(0, dtypes.INT64)
    if 0 in shape:
        return x, op.cast(x, dtypes.INT64)
    dtype = dtypes.INT32 if given is dtypes.BOOL else given
    x = op.typed(op.cast(x, dtype), dtype, shape)
    axis = dim % len(shape)
    if dtype.is_floating:
        first: Any = -math.inf if worse == "Less" else math.inf
    else:
        first = op.range_of(dtype)[0 if worse == "Less" else 1]
    rest = _without(x, op, axis)
    states = [
        full(op, rest, first, dtype),
        full(op, rest, 0, dtypes.INT64),
        op.typed(op.constant(0, dtypes.INT64), dtypes.INT64, ()),
    ]

    def step(states: list[Value], part: Value) -> tuple[list[Value], list[Value]]:
        best, place, number = states
        kept = op.apply(worse, [part, best])
        if dtype.is_floating:
            kept = op.Or(kept, op.And(op.IsNaN(best), op.Not(op.IsNaN(part))))
        best = op.typed(op.Where(kept, best, part), dtype, part.shape or ())
        place = op.typed(op.Where(kept, place, number), dtypes.INT64, part.shape or ())
        return [best, place, op.Add(number, op.constant(1, dtypes.INT64))], [best, place]

    _, _, _, values, places = scan(op, x, axis, states, step)
    op.typed(values, dtype, shape)
    return op.cast(values, given), places


def _smallest(op: TorchBuilder, x: Value, k: DimLike, axis: int) -> tuple[Value, Value]:
    """The `k` smallest along `axis`, in order, and where they stand."""
    op.require(11, "the smallest elements (TopK)")
    values, places = op.TopK(x, op.sizes([k]), axis=axis, largest=0, _outputs=2)
    return values, places


def _ranked(op: TorchBuilder, x: Value, k: DimLike, axis: int, keepdim: bool) -> Any:
    """The `k`-th smallest, counted from 1, and where it stands."""
    dtype, shape = op.dtype_of(x), list(op.shape_of(x))
    both = _smallest(op, x, k, axis)
    shape[axis] = k
    found = []
    for value, kind in zip(both, (dtype, dtypes.INT64), strict=True):
        last = op.slice(op.typed(value, kind, shape), axis, -1, 1 << 62)
        one = [1 if index == axis else dim for index, dim in enumerate(shape)]
        op.typed(last, kind, one)
        found.append(last if keepdim else op.squeeze(last, [axis]))
    return found


def _flat(op: TorchBuilder, x: Value) -> Value:
    count = product(op.shape_of(x))
    return op.typed(op.Reshape(x, op.ints([-1])), op.dtype_of(x), [count])


def _signed(op: TorchBuilder, x: Value) -> Value:
    """`x` in a type that TopK and arithmetic take on onnxruntime."""
    dtype = op.dtype_of(x)
    if dtype.is_floating or dtype in {dtypes.INT32, dtypes.INT64}:
        return x
    return op.typed(op.cast(x, dtypes.INT64), dtypes.INT64, op.shape_of(x))


@translation("aten.kthvalue.default")
def kthvalue(op: TorchBuilder, x: Value, k: int, dim: int = -1, keepdim: bool = False) -> Any:
    rank = op.rank_of(x)
    if not rank:
        return x, op.constant(0, dtypes.INT64)
    values, places = _ranked(op, _signed(op, x), k, dim % rank, keepdim)
    return op.cast(values, op.dtype_of(x)), places


def _nan_rows(op: TorchBuilder, x: Value, axis: int, keepdim: bool) -> Value:
    """Whether a row along `axis` holds a NaN."""
    shape = op.shape_of(x)
    flags = op.typed(op.cast(op.IsNaN(x), dtypes.INT32), dtypes.INT32, shape)
    found: Value = op.cast(op.reduce("Max", flags, [axis], keepdim), dtypes.BOOL)
    return found


@translation("aten.median.dim")
def median_dim(op: TorchBuilder, x: Value, dim: int, keepdim: bool = False) -> Any:
    given, rank = op.dtype_of(x), op.rank_of(x)
    if not rank:
        return x, op.constant(0, dtypes.INT64)
    axis = dim % rank
    x = _signed(op, x)
    size = op.shape_of(x)[axis]
    values, places = _ranked(op, x, (size - 1) // 2 + 1, axis, keepdim)
    if given.is_floating:
        shape = op.shape_of(x)
        spoilt = _nan_rows(op, x, axis, keepdim)
        values = op.Where(spoilt, op.constant(math.nan, given), values)
        flags = op.typed(op.cast(op.IsNaN(x), dtypes.INT32), dtypes.INT32, shape)
        first = op.ArgMax(flags, axis=axis, keepdims=int(keepdim))
        places = op.Where(spoilt, first, places)
    return op.cast(values, given), places


@translation("aten.median.default")
def median(op: TorchBuilder, x: Value) -> Any:
    flat = _flat(op, x)
    if op.shape_of(flat)[0] == 0:
        return op.constant(math.nan, op.result())
    given = op.dtype_of(x)
    flat = _signed(op, flat)
    size = op.shape_of(flat)[0]
    values, _ = _ranked(op, flat, (size - 1) // 2 + 1, 0, False)
    if given.is_floating:
        values = op.Where(_nan_rows(op, flat, 0, False), op.constant(math.nan, given), values)
    return op.cast(values, given)


@translation("aten.nanmedian.dim")
def nanmedian_dim(op: TorchBuilder, x: Value, dim: int, keepdim: bool = False) -> Any:
    rank, dtype = op.rank_of(x), op.dtype_of(x)
    if not dtype.is_floating or not rank:
        return median_dim(op, x, dim, keepdim)
    return _nanmedian(op, x, dim % rank, keepdim)


@translation("aten.nanmedian.default")
def nanmedian(op: TorchBuilder, x: Value) -> Any:
    flat = _flat(op, x)
    if not op.dtype_of(x).is_floating or op.shape_of(flat)[0] == 0:
        return median(op, x)
    return _nanmedian(op, flat, 0, False)[0]


def _nanmedian(op: TorchBuilder, x: Value, axis: int, keepdim: bool) -> Any:
    dtype, shape = op.dtype_of(x), op.shape_of(x)
    missing = op.IsNaN(x)
    filled = op.typed(op.Where(missing, op.constant(math.inf, dtype), x), dtype, shape)
    values, places = _smallest(op, filled, shape[axis], axis)
    counted = op.typed(op.cast(op.Not(missing), dtypes.INT64), dtypes.INT64, shape)
    count = op.reduce("Sum", counted, [axis], True)
    one, two = op.constant(1, dtypes.INT64), op.constant(2, dtypes.INT64)
    middle = op.Div(op.Max(op.Sub(count, one), op.constant(0, dtypes.INT64)), two)
    value = op.GatherElements(values, middle, axis=axis)
    place = op.GatherElements(places, middle, axis=axis)
    empty = op.Equal(count, op.constant(0, dtypes.INT64))
    value = op.Where(empty, op.constant(math.nan, dtype), value)
    if keepdim:
        return value, place
    single = [1 if index == axis else dim for index, dim in enumerate(shape)]
    op.typed(value, dtype, single)
    op.typed(place, dtypes.INT64, single)
    return op.squeeze(value, [axis]), op.squeeze(place, [axis])


@translation("aten.mode.default")
def mode(op: TorchBuilder, x: Value, dim: int = -1, keepdim: bool = False) -> Any:
    given, rank = op.dtype_of(x), op.rank_of(x)
    if not rank:
        return x, op.constant(0, dtypes.INT64)
    x = _signed(op, x)
    dtype, shape = op.dtype_of(x), op.shape_of(x)
    axis = dim % rank
    # how often each element occurs along the axis; of the most frequent the least
    row, column = op.unsqueeze(x, [axis]), op.unsqueeze(x, [axis + 1])
    same = op.cast(op.Equal(row, column), dtypes.INT32)
    op.typed(same, dtypes.INT32, [*shape[: axis + 1], *shape[axis:]])
    count = op.reduce("Sum", same, [axis + 1], False)
    often = op.Equal(count, op.reduce("Max", count, [axis], True))
    highest = math.inf if dtype.is_floating else op.range_of(dtype)[1]
    kept = op.typed(op.Where(often, x, op.constant(highest, dtype)), dtype, shape)
    value = op.reduce("Min", kept, [axis], True)
    hits = op.typed(op.cast(op.Equal(x, value), dtypes.INT32), dtypes.INT32, shape)
    place = op.ArgMax(hits, axis=axis, keepdims=int(keepdim), select_last_index=1)
    return op.cast(value if keepdim else op.squeeze(value, [axis]), given), place


@translation("aten.dist.default")
def dist(op: TorchBuilder, a: Value, b: Value, p: Any = 2) -> Any:
    dtype = op.result()
    gap = op.Sub(op.cast(a, dtype), op.cast(b, dtype))
    shape = _broadcast(op.shape_of(a), op.shape_of(b))
    return vector_norm(op, op.typed(gap, dtype, shape), p)


def _broadcast(a: Sequence[DimLike], b: Sequence[DimLike]) -> list[DimLike]:
    longest = max(len(a), len(b))
    left, right = ([*[1] * (longest - len(each)), *each] for each in (a, b))
    return [one if other == 1 else other for one, other in zip(left, right, strict=True)]


_MANY = 25
"""Rows from which torch computes Euclidean distances by a matrix product."""


@translation("aten._cdist_forward.default")
def cdist(op: TorchBuilder, a: Value, b: Value, p: float, mode: int | None) -> Any:
    dtype, shape = op.result(), known(op.result_shape)
    left, right = op.shape_of(a), op.shape_of(b)
    width, rank = left[-1], len(left)
    if shape is None:
        raise ExportError("the shape of the distances is not known")
    if width == 0:
        return full(op, shape, 0, dtype)
    rows = (left[-2], right[-2])
    many = any(isinstance(size, int) and size > _MANY for size in rows)
    if p == 2 and (mode == 1 or (not mode and many)):
        return _euclidean(op, a, b, dtype)
    gap = op.Sub(op.unsqueeze(a, [rank - 1]), op.unsqueeze(b, [len(right) - 2]))
    return vector_norm(op, op.typed(gap, dtype, [*shape, width]), p, [-1])


def _euclidean(op: TorchBuilder, a: Value, b: Value, dtype: DType) -> Value:
    """The root of |a|² + |b|² - 2 a b."""
    squares = [
        op.reduce("SumSquare", each, [op.rank_of(each) - 1], True) for each in (a, b)
    ]  # fmt: skip
    order = [*range(op.rank_of(b) - 2), op.rank_of(b) - 1, op.rank_of(b) - 2]
    twice = op.Mul(op.MatMul(a, op.transpose(b, order)), op.constant(-2, dtype))
    total = op.Add(op.Add(twice, squares[0]), op.transpose(squares[1], order))
    found: Value = op.Sqrt(op.Max(total, op.constant(0, dtype)))
    return found


@translation("aten._pdist_forward.default")
def pdist(op: TorchBuilder, x: Value, p: float = 2) -> Any:
    (rows,) = static(op.shape_of(x)[:1], "pdist")
    dtype, width = op.result(), op.shape_of(x)[1]
    first, second = np.triu_indices(rows, 1)
    if not len(first):
        return op.constant(np.zeros(0), dtype)
    gap = op.Sub(
        op.Gather(x, op.ints(first.tolist()), axis=0),
        op.Gather(x, op.ints(second.tolist()), axis=0),
    )
    return vector_norm(op, op.typed(gap, dtype, [len(first), width]), p, [-1])
