"""Order and search: sorts, ranks, unique elements, bins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from sardonyx import dtypes
from sardonyx.dims import Dim
from sardonyx.errors import ExportError
from sardonyx.export.torch.indexing import expand_to, flat
from sardonyx.export.torch.registry import TorchBuilder, translation
from sardonyx.ir.tensor import ArrayTensor
from sardonyx.ir.value import Value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sardonyx.dims import DimLike
    from sardonyx.dtypes import DType

__all__: list[str] = []

_TOPK_INPUTS: Final = {dtypes.FLOAT, dtypes.DOUBLE, dtypes.INT32, dtypes.INT64}
_TOPK_SMALL: Final = {dtypes.FLOAT16}
_UNIQUE_INPUTS: Final = {dtypes.FLOAT, dtypes.DOUBLE, dtypes.INT64, dtypes.INT8}


def _ordered(
    op: TorchBuilder,
    x: Value,
    k: DimLike,
    axis: int,
    largest: bool,
    is_sorted: bool = True,
) -> tuple[Value, Value]:
    """The `k` first values along `axis` and their places; of equal ones, the first come first."""
    dtype, shape = op.dtype_of(x), list(op.shape_of(x))
    wide = dtype
    if dtype not in _TOPK_INPUTS and dtype not in _TOPK_SMALL:
        wide = dtypes.FLOAT if dtype.is_floating else dtypes.INT32
        if dtype in {dtypes.UINT32, dtypes.UINT64}:
            wide = dtypes.INT64
    x = op.cast(x, wide)
    if not largest:
        op.require(11, "an ascending order (TopK)")
    if op.opset < 10:
        values, places = op.TopK(x, axis=axis, k=k, _outputs=2)
    elif op.opset < 11:
        values, places = op.TopK(x, op.sizes([k]), axis=axis, _outputs=2)
    else:
        values, places = op.TopK(
            x,
            op.sizes([k]),
            axis=axis,
            largest=int(largest),
            sorted=int(is_sorted),
            _outputs=2,
        )
    shape[axis] = k
    values, places = (
        op.typed(values, wide, shape),
        op.typed(places, dtypes.INT64, shape),
    )
    return op.cast(values, dtype), places


def _trivial(op: TorchBuilder, x: Value, k: DimLike | None = None) -> tuple[Value, Value]:
    zero = op.constant(0, dtypes.INT64)
    if op.rank_of(x):
        zero = expand_to(op, zero, op.shape_of(x))
    elif k == 0:
        raise ExportError("no element is chosen of a tensor of rank 0")
    return x, zero


@translation("aten.topk.default")
def topk(op: TorchBuilder, x: Value, k: DimLike, dim: int = -1, largest: bool = True,
         sorted: bool = True) -> Any:  # fmt: skip
    if not op.rank_of(x):
        return _trivial(op, x, k)
    return _ordered(op, x, k, dim % op.rank_of(x), largest, sorted)


@translation("aten.sort.default")
def sort(op: TorchBuilder, x: Value, dim: int = -1, descending: bool = False) -> Any:
    shape = op.shape_of(x)
    if not shape:
        return _trivial(op, x)
    axis = dim % len(shape)
    return _ordered(op, x, shape[axis], axis, descending)


@translation("aten.sort.stable")
def sort_stable(op: TorchBuilder, x: Value, *, stable: bool | None = None, dim: int = -1,
                descending: bool = False) -> Any:  # fmt: skip
    return sort(op, x, dim, descending)


@translation("aten.argsort.default")
def argsort(op: TorchBuilder, x: Value, dim: int = -1, descending: bool = False) -> Any:
    return sort(op, x, dim, descending)[1]


@translation("aten.argsort.stable")
def argsort_stable(op: TorchBuilder, x: Value, *, stable: bool | None = None, dim: int = -1,
                   descending: bool = False) -> Any:  # fmt: skip
    return sort(op, x, dim, descending)[1]


@translation("aten.msort.default")
def msort(op: TorchBuilder, x: Value) -> Any:
    return sort(op, x, 0)[0]


@translation("aten.searchsorted.Tensor")
def searchsorted(
    op: TorchBuilder,
    ordered: Value,
    x: Value,
    *,
    out_int32: bool = False,
    right: bool = False,
    side: str | None = None,
    sorter: Value | None = None,
) -> Any:
    if sorter is not None:
        shape = op.shape_of(ordered)
        ordered = op.GatherElements(ordered, sorter, axis=len(shape) - 1)
        ordered = op.typed(ordered, op.dtype_of(x), shape)
    return _places(op, ordered, x, right or side == "right", out_int32)


@translation("aten.searchsorted.Scalar")
def searchsorted_number(
    op: TorchBuilder,
    ordered: Value,
    x: Any,
    *,
    out_int32: bool = False,
    right: bool = False,
    side: str | None = None,
    sorter: Value | None = None,
) -> Any:
    value = _as_value(op, x, op.dtype_of(ordered))
    return searchsorted(
        op, ordered, value, out_int32=out_int32, right=right, side=side, sorter=sorter
    )


@translation("aten.bucketize.Tensor")
def bucketize(
    op: TorchBuilder,
    x: Value,
    boundaries: Value,
    *,
    out_int32: bool = False,
    right: bool = False,
) -> Any:
    return _places(op, boundaries, x, right, out_int32)


@translation("aten.bucketize.Scalar")
def bucketize_number(
    op: TorchBuilder,
    x: Any,
    boundaries: Value,
    *,
    out_int32: bool = False,
    right: bool = False,
) -> Any:
    value = _as_value(op, x, op.dtype_of(boundaries))
    return _places(op, boundaries, value, right, out_int32)


def _as_value(op: TorchBuilder, x: Any, dtype: DType) -> Value:
    if isinstance(x, float) and not dtype.is_floating:
        return op.constant(x, dtypes.FLOAT)
    return op.scalar(x, dtype)


def _places(op: TorchBuilder, ordered: Value, x: Value, right: bool, is_int32: bool) -> Value:
    """How many elements of the last axis of `ordered` come before each element of `x`."""
    dtype = _common(op, ordered, x)
    ordered, x = op.cast(ordered, dtype), op.cast(x, dtype)
    rank = op.rank_of(x)
    if rank:
        wide = op.unsqueeze(x, [rank])
        if op.rank_of(ordered) > 1:
            ordered = op.unsqueeze(ordered, [rank - 1])
    else:
        wide = x
    before = compare(op, "LessOrEqual" if right else "Less", ordered, wide)
    counted = dtypes.INT32 if is_int32 else dtypes.INT64
    shape: list[DimLike] = [*op.shape_of(x), op.shape_of(ordered)[-1]]
    ones = op.cast(op.typed(before, dtypes.BOOL, shape), counted)
    return op.reduce("Sum", ones, [rank], False)


def compare(op: TorchBuilder, name: str, left: Value, right: Value) -> Value:
    """A comparison, in the form that the opset has."""
    if op.opset < 12 and name.endswith("OrEqual"):
        opposite = {"LessOrEqual": "Greater", "GreaterOrEqual": "Less"}[name]
        negated: Value = op.Not(op.apply(opposite, [left, right]))
        return negated
    made = op.apply(name, [left, right])
    assert isinstance(made, Value)
    return made


def _common(op: TorchBuilder, left: Value, right: Value) -> DType:
    first, second = op.dtype_of(left), op.dtype_of(right)
    if first is dtypes.BOOL:
        first = dtypes.INT32
    if first is second:
        return first
    kinds = [first, second]
    if any(each.is_floating for each in kinds):
        kinds = [each for each in kinds if each.is_floating]
    found = max(kinds, key=lambda each: each.itemsize)
    return dtypes.INT32 if found is dtypes.BOOL else found


@translation("aten.isin.Tensor_Tensor", "aten.isin.Tensor_Scalar", "aten.isin.Scalar_Tensor")
def isin(
    op: TorchBuilder,
    x: Any,
    among: Any,
    *,
    assume_unique: bool = False,
    invert: bool = False,
) -> Any:
    given = x if isinstance(x, Value) else among
    x, among = (
        each if isinstance(each, Value) else _as_value(op, each, op.dtype_of(given))
        for each in (x, among)
    )
    dtype = _common(op, x, among)
    x, among = op.cast(x, dtype), op.cast(among, dtype)
    if not op.rank_of(among):
        found: Value = op.Equal(x, among)
        return op.Not(found) if invert else found
    shape, rank = op.shape_of(x), op.rank_of(x)
    among = flat(op, among)
    equal = op.Equal(op.unsqueeze(x, [rank]) if rank else x, among)
    ones = op.cast(op.typed(equal, dtypes.BOOL, [*shape, *op.shape_of(among)]), dtypes.INT32)
    count = op.reduce("Sum", ones, [rank], False)
    found = op.cast(op.typed(count, dtypes.INT32, shape), dtypes.BOOL)
    return op.Not(found) if invert else found


@translation("aten._unique2.default")
def unique(
    op: TorchBuilder,
    x: Value,
    sorted: bool = True,
    return_inverse: bool = False,
    return_counts: bool = False,
) -> Any:
    found, inverse, counts = _unique(op, x, None)
    inverse = op.reshape(inverse, op.shape_of(x)) if op.rank_of(x) != 1 else inverse
    return found, inverse, counts


@translation("aten._unique.default")
def unique_plain(
    op: TorchBuilder, x: Value, sorted: bool = True, return_inverse: bool = False
) -> Any:
    return unique(op, x)[:2]


@translation("aten.unique_dim.default")
def unique_dim(
    op: TorchBuilder,
    x: Value,
    dim: int,
    sorted: bool = True,
    return_inverse: bool = False,
    return_counts: bool = False,
) -> Any:
    return _unique(op, x, dim % op.rank_of(x))


def _unique(op: TorchBuilder, x: Value, axis: int | None) -> tuple[Value, Value, Value]:
    dtype = op.dtype_of(x)
    wide = dtype
    if dtype not in _UNIQUE_INPUTS:
        wide = dtypes.FLOAT if dtype.is_floating else dtypes.INT64
    found, _, inverse, counts = op.Unique(op.cast(x, wide), axis=axis, sorted=1, _outputs=4)
    rank = 1 if axis is None else op.rank_of(x)
    return op.cast(op.typed(found, wide, [None] * rank), dtype), inverse, counts


@translation("aten.unique_consecutive.default")
def unique_consecutive(
    op: TorchBuilder,
    x: Value,
    return_inverse: bool = False,
    return_counts: bool = False,
    dim: int | None = None,
) -> Any:
    shape = op.shape_of(x)
    if dim is None:
        x, axis, inverse_shape = flat(op, x), 0, shape
    else:
        axis = dim % len(shape)
        inverse_shape = (shape[axis],)
    size = op.shape_of(x)[axis]
    if not isinstance(size, Dim) and size == 0:
        nothing = op.constant(np.zeros(0), dtypes.INT64)
        return x, op.reshape(nothing, inverse_shape), nothing
    begins = _begins(op, x, axis)
    found = op.Compress(x, begins, axis=axis)
    last = op.constant(0, dtypes.INT64)
    inverse = op.Sub(op.CumSum(op.cast(begins, dtypes.INT64), last), op.constant(1, dtypes.INT64))
    if len(inverse_shape) != 1:
        inverse = op.reshape(inverse, inverse_shape)
    places = op.Reshape(op.NonZero(begins), op.ints([-1]))
    ends = op.Concat(op.slice(places, 0, 1, 2**63 - 1), op.sizes([size]), axis=0)
    return found, inverse, op.Sub(ends, places)


def _begins(op: TorchBuilder, x: Value, axis: int) -> Value:
    """Whether each slice along `axis` differs from the one before it; the first does."""
    shape = op.shape_of(x)
    size = shape[axis]
    later, before = op.slice(x, axis, 1, 2**63 - 1), op.slice(x, axis, 0, -1)
    same = op.Equal(later, before)
    rest = [other for other in range(len(shape)) if other != axis]
    if rest:
        numbers = op.typed(
            op.Cast(same, to=dtypes.INT32.code),
            dtypes.INT32,
            [size - 1 if other == axis else shape[other] for other in range(len(shape))],
        )
        same = op.cast(op.reduce("Min", numbers, rest, False), dtypes.BOOL)
    first = op.constant([True], dtypes.BOOL)
    return op.typed(op.Concat(first, op.Not(same), axis=0), dtypes.BOOL, [size])


@translation("aten.bincount.default")
def bincount(
    op: TorchBuilder, x: Value, weights: Value | None = None, minlength: DimLike = 0
) -> Any:
    dtype = op.result()
    line = op.cast(x, dtypes.INT64)
    least = op.sizes([minlength - 1])
    size = op.Add(op.reduce("Max", op.Concat(least, line, axis=0), [0], True), op.ints([1]))
    zeros = op.ConstantOfShape(size, value=ArrayTensor([0], dtype))
    return _tally(op, zeros, line, weights, dtype)


def _tally(
    op: TorchBuilder, zeros: Value, bins: Value, weights: Value | None, dtype: DType
) -> Value:
    """`zeros` with a weight, by default 1, added at each of `bins`."""
    op.require(16, "counting in bins")
    if weights is None:
        weights = expand_to(op, op.constant(1, dtype), op.shape_of(bins))
    made: Value = op.ScatterElements(zeros, bins, op.cast(weights, dtype), axis=0, reduction="add")
    return made


@translation("aten.histc.default")
def histc(op: TorchBuilder, x: Value, bins: int = 100, min: Any = 0, max: Any = 0) -> Any:
    dtype = op.result()
    line = flat(op, op.cast(x, dtype))
    size = op.shape_of(line)[0]
    zeros = op.constant(np.zeros(bins), dtype)
    if size == 0:
        return zeros
    if isinstance(min, Value) or isinstance(max, Value) or min != max:
        low, high = op.scalar(min, dtype), op.scalar(max, dtype)
    else:
        low, high = (op.reduce(kind, line, [0], False) for kind in ("Min", "Max"))
        half = op.cast(op.Equal(low, high), dtype)
        half = op.typed(half, dtype, [])
        low, high = op.Sub(low, half), op.Add(high, half)
    share = op.Div(op.Sub(line, low), op.Sub(high, low))
    if not dtype.is_floating:
        wide = op.Mul(op.Sub(line, low), op.constant(bins, dtype))
        share = op.Div(wide, op.Sub(high, low))
    else:
        share = op.Mul(share, op.constant(bins, dtype))
    number = op.Cast(op.Floor(share) if dtype.is_floating else share, to=dtypes.INT64.code)
    last = op.constant(bins - 1, dtypes.INT64)
    places = op.typed(
        op.Max(op.Min(number, last), op.constant(0, dtypes.INT64)), dtypes.INT64, [size]
    )
    inside = op.And(
        compare(op, "GreaterOrEqual", line, low), compare(op, "LessOrEqual", line, high)
    )
    return _tally(op, zeros, places, op.typed(inside, dtypes.BOOL, [size]), dtype)


@translation("aten.histogram.bin_ct")
def histogram(
    op: TorchBuilder,
    x: Value,
    bins: int = 100,
    *,
    range: Sequence[float] | None = None,
    weight: Value | None = None,
    density: bool = False,
) -> Any:
    dtype = op.result()
    if range is not None:
        low, high = range
        if low == high:
            low, high = low - 0.5, high + 0.5
        edges = op.constant(_edges(low, high, bins, dtype), dtype)
    else:
        line = flat(op, x)
        if op.shape_of(line)[0] == 0:
            edges = op.constant(np.linspace(0, 1, bins + 1), dtype)
        else:
            bounds = [op.reduce(kind, line, [0], False) for kind in ("Min", "Max")]
            half = op.typed(op.cast(op.Equal(*bounds), dtype), dtype, [])
            half = op.typed(op.Mul(half, op.constant(0.5, dtype)), dtype, [])
            low_value, high_value = op.Sub(bounds[0], half), op.Add(bounds[1], half)
            steps = op.constant(np.arange(bins + 1), dtype)
            width = op.Div(op.Sub(high_value, low_value), op.constant(bins, dtype))
            first = op.Add(low_value, op.Mul(steps, width))
            second = op.Sub(
                high_value,
                op.Mul(op.constant(bins - np.arange(bins + 1), dtype), width),
            )
            half_way = op.constant(np.arange(bins + 1) < (bins + 1) // 2, dtypes.BOOL)
            edges = op.Where(half_way, first, second)
        edges = op.typed(edges, dtype, [bins + 1])
    return _histogram(op, x, edges, bins, weight, density)


@translation("aten.histogram.bins_tensor")
def histogram_of_edges(
    op: TorchBuilder,
    x: Value,
    bins: Value,
    *,
    weight: Value | None = None,
    density: bool = False,
) -> Any:
    return _histogram(op, x, bins, op.shape_of(bins)[0] - 1, weight, density)


def _edges(low: float, high: float, bins: int, dtype: DType) -> Any:
    kind = dtype.numpy.type
    steps, count = np.arange(bins + 1), bins + 1
    width = kind((kind(high) - kind(low)) / kind(bins))
    forward = kind(low) + steps.astype(kind) * width
    backward = kind(high) - (bins - steps).astype(kind) * width
    return np.where(steps < count // 2, forward, backward)


def _histogram(
    op: TorchBuilder,
    x: Value,
    edges: Value,
    bins: DimLike,
    weight: Value | None,
    density: bool,
) -> Any:
    dtype = op.result()
    line = flat(op, x)
    size = op.shape_of(line)[0]
    zeros = expand_to(op, op.constant(0, dtype), [bins])
    counts: Value = zeros
    if size != 0:
        # the last edge belongs to the last bin
        place = op.Sub(_places(op, edges, line, True, False), op.constant(1, dtypes.INT64))
        low, high = op.constant(0, dtypes.INT64), op.scalar(bins - 1, dtypes.INT64)
        places = op.typed(op.Max(op.Min(place, high), low), dtypes.INT64, [size])
        ends = [op.Gather(edges, op.scalar(at, dtypes.INT64), axis=0) for at in (0, bins)]
        inside = op.typed(
            op.And(
                compare(op, "GreaterOrEqual", line, ends[0]),
                compare(op, "LessOrEqual", line, ends[1]),
            ),
            dtypes.BOOL,
            [size],
        )
        weights = op.cast(inside, dtype)
        if weight is not None:
            weights = op.Where(inside, flat(op, weight), op.constant(0, dtype))
        counts = _tally(op, zeros, places, op.typed(weights, dtype, [size]), dtype)
    if density:
        widths = op.Sub(op.slice(edges, 0, 1, 2**63 - 1), op.slice(edges, 0, 0, -1))
        total = op.reduce("Sum", op.typed(counts, dtype, [bins]), [0], False)
        counts = op.Div(counts, op.Mul(total, widths))
    return counts, edges
