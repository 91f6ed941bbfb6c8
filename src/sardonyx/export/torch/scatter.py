"""Writing by index: scatters, assignments at indices and under masks, assignments to views."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from sardonyx import dtypes
from sardonyx.dims import Dim
from sardonyx.export.torch.arithmetic import select
from sardonyx.export.torch.indexing import (
    as_index,
    broadcast_shape,
    expand_masks,
    expand_to,
    flat,
    is_adjacent,
    joined_indices,
    require_contiguous,
    span,
    strided_places,
)
from sardonyx.export.torch.registry import (
    TorchBuilder,
    TorchValue,
    known,
    product,
    translation,
)
from sardonyx.ir.value import Value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sardonyx.dims import DimLike
    from sardonyx.dtypes import DType

__all__: list[str] = []

_END: Final = 2**63 - 1
_REDUCTIONS: Final = {
    "add": "add", "sum": "add", "mean": "add", "multiply": "mul", "prod": "mul", "amax": "max",
    "amin": "min",
}  # fmt: skip
_LARGEST_MASK: Final = 1 << 14
_NARROW: Final = {dtypes.BOOL: dtypes.INT32}


def _is_empty(shape: Sequence[DimLike | None] | None) -> bool:
    return any(not isinstance(dim, Dim) and dim == 0 for dim in shape or ())


def _scatter(
    op: TorchBuilder,
    x: Value,
    index: Value,
    source: Value,
    axis: int,
    reduction: str | None = None,
) -> Value:
    """ScatterElements; a reduction of booleans is one of integers."""
    if reduction is not None:
        op.require(18 if reduction in {"max", "min"} else 16, f"a scatter with {reduction!r}")
    dtype = op.dtype_of(x)
    wide = _NARROW.get(dtype, dtype) if reduction is not None else dtype
    name = "ScatterElements" if op.opset >= 11 else "Scatter"
    made = op.apply(
        name,
        [op.cast(x, wide), as_index(op, index), op.cast(source, wide)],
        axis=axis,
        reduction=reduction,
    )
    assert isinstance(made, Value)
    return op.cast(op.typed(made, wide, op.shape_of(x)), dtype)


def _scatter_nd(
    op: TorchBuilder,
    x: Value,
    places: Value,
    source: Value,
    reduction: str | None = None,
) -> Value:
    """ScatterND; a reduction of booleans is one of integers."""
    if reduction is not None:
        op.require(
            18 if reduction in {"max", "min"} else 16,
            f"an assignment with {reduction!r}",
        )
    dtype = op.dtype_of(x)
    wide = _NARROW.get(dtype, dtype) if reduction is not None else dtype
    made: Value = op.ScatterND(
        op.cast(x, wide),
        op.cast(places, dtypes.INT64),
        op.cast(source, wide),
        reduction=reduction,
    )
    return op.cast(op.typed(made, wide, op.shape_of(x)), dtype)


def _constant_like(op: TorchBuilder, value: TorchValue, dtype: DType, like: Value) -> Value:
    """`value` in the shape of `like`."""
    return expand_to(op, op.scalar(value, dtype), op.shape_of(like))


def _aligned(op: TorchBuilder, source: Value, index: Value) -> Value:
    """The part of `source` that has an index: what is within the shape of `index`."""
    old, new = op.shape_of(source), op.shape_of(index)
    axes = [axis for axis, (a, b) in enumerate(zip(old, new, strict=False)) if a != b]
    if not axes or len(old) != len(new):
        return source
    if op.opset < 10:
        for axis in axes:
            source = op.slice(source, axis, 0, new[axis])
        return source
    made: Value = op.Slice(
        source,
        op.ints([0] * len(axes)),
        op.sizes([new[axis] for axis in axes]),
        op.ints(axes),
    )
    return op.typed(made, op.dtype_of(source), new)


def _scattered(
    op: TorchBuilder,
    x: Value,
    dim: int,
    index: Value,
    source: Value,
    reduce: str | None = None,
    include_self: bool = True,
) -> Value:
    """`x` with `source` put, or reduced by `reduce`, where `index` says along `dim`."""
    if _is_empty(index.shape) or _is_empty(x.shape):
        return x
    dtype = op.dtype_of(x)
    source = op.cast(source, dtype)
    shape = op.shape_of(x)
    if not shape or not op.rank_of(index):
        line = _scattered(
            op, flat(op, x), 0, flat(op, index), flat(op, source), reduce, include_self
        )
        return op.typed(op.reshape(line, shape), dtype, shape)
    axis = dim % len(shape)
    index, source = as_index(op, index), _aligned(op, source, index)
    if reduce is None:
        return _scatter(op, x, index, source, axis)
    start = x
    if not include_self:
        start = _scatter(op, x, index, _neutral(op, reduce, dtype, index), axis)
    found = _scatter(op, start, index, source, axis, _REDUCTIONS[reduce])
    if reduce != "mean":
        return found
    return _divided(op, found, _counts(op, x, index, axis, include_self), dtype)


def _neutral(op: TorchBuilder, reduce: str, dtype: DType, index: Value) -> Value:
    value: Any = {"prod": 1, "multiply": 1}.get(reduce, 0)
    if reduce in {"amax", "amin"}:
        if dtype.is_floating:
            value = -np.inf if reduce == "amax" else np.inf
        elif dtype is dtypes.BOOL:
            value = reduce == "amin"
        else:
            low, high = op.range_of(dtype)
            value = low if reduce == "amax" else high
    return _constant_like(op, value, dtype, index)


def _counts(op: TorchBuilder, x: Value, index: Value, axis: int, include_self: bool) -> Value:
    """How many numbers a mean is of, at each place of `x`; at least 1."""
    dtype = op.dtype_of(x)
    start = _constant_like(op, int(include_self), dtype, x)
    counts = _scatter(op, start, index, _constant_like(op, 1, dtype, index), axis, "add")
    if include_self:
        return counts
    return op.typed(op.Max(counts, op.constant(1, dtype)), dtype, op.shape_of(x))


def _divided(op: TorchBuilder, total: Value, counts: Value, dtype: DType) -> Value:
    if dtype.is_integer:
        total = op.Sub(total, op.Mod(total, counts))
    made: Value = op.Div(total, counts)
    return op.typed(made, dtype, op.shape_of(counts))


@translation("aten.scatter.src")
def scatter(op: TorchBuilder, x: Value, dim: int, index: Value, source: Value) -> Any:
    return _scattered(op, x, dim, index, source)


@translation("aten.scatter.value")
def scatter_value(op: TorchBuilder, x: Value, dim: int, index: Value, value: TorchValue) -> Any:
    return _scattered(op, x, dim, index, _constant_like(op, value, op.result(), index))


@translation("aten.scatter.reduce")
def scatter_with(
    op: TorchBuilder, x: Value, dim: int, index: Value, source: Value, *, reduce: str
) -> Any:
    return _scattered(op, x, dim, index, source, reduce)


@translation("aten.scatter.value_reduce")
def scatter_value_with(
    op: TorchBuilder,
    x: Value,
    dim: int,
    index: Value,
    value: TorchValue,
    *,
    reduce: str,
) -> Any:
    filled = _constant_like(op, value, op.result(), index)
    return _scattered(op, x, dim, index, filled, reduce)


@translation("aten.scatter_add.default")
def scatter_add(op: TorchBuilder, x: Value, dim: int, index: Value, source: Value) -> Any:
    return _scattered(op, x, dim, index, source, "sum")


@translation("aten.scatter_reduce.two")
def scatter_reduce(
    op: TorchBuilder,
    x: Value,
    dim: int,
    index: Value,
    source: Value,
    reduce: str,
    *,
    include_self: bool = True,
) -> Any:
    return _scattered(op, x, dim, index, source, reduce, include_self)


def _along(
    op: TorchBuilder,
    x: Value,
    dim: int,
    index: Value,
    source: Value,
    reduce: str | None = None,
    include_self: bool = True,
) -> Value:
    """`x` with the slices of `source` put, or reduced, at the places `index` of axis `dim`."""
    shape, dtype = op.shape_of(x), op.dtype_of(x)
    if not shape:
        line = _along(op, flat(op, x), 0, flat(op, index), flat(op, source), reduce, include_self)
        return op.typed(op.reshape(line, []), dtype, [])
    if _is_empty(x.shape) or _is_empty(index.shape):
        return x
    axis, index, source = dim % len(shape), flat(op, index), op.cast(source, dtype)
    if axis == 0 and include_self and reduce != "mean":
        places = op.unsqueeze(op.cast(index, dtypes.INT64), [1])
        return _scatter_nd(op, x, places, source, _REDUCTIONS.get(reduce or ""))
    size = op.shape_of(index)[0]
    wide = op.unsqueeze(index, [other for other in range(len(shape)) if other != axis])
    wide = expand_to(op, wide, [*shape[:axis], size, *shape[axis + 1 :]])
    return _scattered(op, x, axis, wide, source, reduce, include_self)


@translation("aten.index_add.default")
def index_add(
    op: TorchBuilder, x: Value, dim: int, index: Value, source: Value, *, alpha: Any = 1
) -> Any:
    dtype = op.result()
    source = op.cast(source, dtype)
    if dtype is dtypes.BOOL and not isinstance(alpha, Value) and not alpha:
        return x
    if dtype is not dtypes.BOOL and (isinstance(alpha, Value) or alpha != 1):
        shape = op.shape_of(source)
        source = op.typed(op.Mul(source, op.scalar(alpha, dtype)), dtype, shape)
    return _along(op, x, dim, index, source, "add")


@translation("aten.index_copy.default")
def index_copy(op: TorchBuilder, x: Value, dim: int, index: Value, source: Value) -> Any:
    return _along(op, x, dim, index, source)


@translation("aten.index_fill.int_Scalar", "aten.index_fill.int_Tensor")
def index_fill(op: TorchBuilder, x: Value, dim: int, index: Value, value: TorchValue) -> Any:
    shape, index = list(op.shape_of(x)), flat(op, index)
    if shape:
        shape[dim % len(shape)] = op.shape_of(index)[0]
    scalar = op.scalar(value, op.result())
    return _along(op, x, dim, index, expand_to(op, scalar, shape))


@translation("aten.index_reduce.default")
def index_reduce(
    op: TorchBuilder,
    x: Value,
    dim: int,
    index: Value,
    source: Value,
    reduce: str,
    *,
    include_self: bool = True,
) -> Any:
    return _along(op, x, dim, index, source, reduce, include_self)


@translation("aten.put.default")
def put(op: TorchBuilder, x: Value, index: Value, source: Value, accumulate: bool = False) -> Any:
    shape = op.shape_of(x)
    reduce = "add" if accumulate else None
    line = _scattered(op, flat(op, x), 0, flat(op, index), flat(op, source), reduce)
    return op.reshape(line, shape) if len(shape) != 1 else line


@translation("aten.index_put.default", "aten._unsafe_index_put.default")
def index_put(
    op: TorchBuilder,
    x: Value,
    indices: Sequence[Value | None],
    source: Value,
    accumulate: bool = False,
) -> Any:
    if _is_empty(x.shape) or any(_is_empty(index.shape) for index in indices if index is not None):
        return x
    source = op.cast(source, op.result())
    given = [index for index in indices if index is not None]
    if len(given) == 1 and given[0].dtype in {dtypes.BOOL, dtypes.UINT8} and not accumulate:
        filled = _where(op, x, given[0], list(indices).index(given[0]), source)
        if filled is not None:
            return filled
    expanded = expand_masks(op, indices)
    places = [axis for axis, index in enumerate(expanded) if index is not None]
    given = [index for index in expanded if index is not None]
    if not given:
        wide = expand_to(op, source, op.shape_of(x))
        return op.Add(x, wide) if accumulate else wide
    rank = op.rank_of(x)
    rest = [axis for axis in range(rank) if axis not in places]
    order = [*places, *rest]
    is_leading = order == list(range(rank))
    leading = x if is_leading else op.transpose(x, order)
    joined = joined_indices(op, given)
    source = _as_updates(op, source, joined, given, places, [op.shape_of(x)[a] for a in rest])
    put = _scatter_nd(op, leading, joined, source, "add" if accumulate else None)
    if is_leading:
        return put
    return op.Transpose(put, perm=[order.index(axis) for axis in range(rank)])


def _as_updates(
    op: TorchBuilder,
    source: Value,
    joined: Value,
    given: Sequence[Value],
    places: Sequence[int],
    rest: Sequence[DimLike],
) -> Value:
    """`source` in the order and shape of ScatterND's updates: the indices' axes, then `rest`."""
    width = max(op.rank_of(index) for index in given)
    first = places[0] if is_adjacent(places) else 0
    total, rank = width + len(rest), op.rank_of(source)
    if first and rank > len(rest) - first:
        # torch puts the indices' axes where the indexed axes were: behind the `first` axes
        order = [
            *range(first, first + width),
            *range(first),
            *range(first + width, total),
        ]
        source = op.transpose(op.unsqueeze(source, list(range(total - rank))), order)
    shapes = [known(index.shape or ()) for index in given]
    if all(shape is not None for shape in shapes):
        lead = broadcast_shape(*(shape for shape in shapes if shape is not None))
        return expand_to(op, source, [*lead, *rest])
    shape = op.shape_of(source)
    if width == 1 and len(shape) == total and shape[0] != 1 and list(shape[1:]) == list(rest):
        return source
    lead_sizes = op.slice(op.Shape(joined), 0, 0, -1)
    target = op.Concat(lead_sizes, op.sizes(rest), axis=0) if rest else lead_sizes
    made: Value = op.Expand(source, target)
    return made


def _where(op: TorchBuilder, x: Value, mask: Value, axis: int, source: Value) -> Value | None:
    """An assignment under a mask of what is the same at all of the mask's places, else None."""
    width = op.rank_of(mask)
    tail = op.rank_of(x) - axis - width
    shape = op.shape_of(source)
    place = len(shape) - tail - 1
    if place >= 0:
        # this axis stands for the mask's axes
        if isinstance(shape[place], Dim) or shape[place] != 1:
            return None
        if width:
            source = op.unsqueeze(source, list(range(place + 1, place + width)))
        else:
            source = op.squeeze(source, [place])
    mask = op.unsqueeze(op.cast(mask, dtypes.BOOL), list(range(width, width + tail)))
    return _chosen(op, mask, source, x)


def _chosen(op: TorchBuilder, mask: Value, source: Value, x: Value) -> Value:
    """`source` where `mask` holds, `x` elsewhere."""
    made = select(op, mask, source, x)
    return op.typed(made, op.dtype_of(x), op.shape_of(x))


@translation("aten.masked_scatter.default")
def masked_scatter(op: TorchBuilder, x: Value, mask: Value, source: Value) -> Any:
    shape = broadcast_shape(op.shape_of(x), op.shape_of(mask))
    x = expand_to(op, x, shape)
    if _is_empty(shape):
        return x
    mask = expand_to(op, op.cast(mask, dtypes.BOOL), shape)
    if not shape:
        first = op.Gather(flat(op, source), op.constant(0, dtypes.INT64), axis=0)
        return _chosen(op, mask, op.cast(first, op.result()), x)
    places = op.Transpose(op.NonZero(mask), perm=[1, 0])
    count = op.Gather(op.Shape(places), op.ints([0]), axis=0)
    line = flat(op, op.cast(source, op.result()))
    taken = op.Slice(line, op.ints([0]), count, op.ints([0]))
    return op.ScatterND(x, places, taken)


@translation("aten.select_scatter.default")
def select_scatter(op: TorchBuilder, x: Value, source: Value, dim: int, index: DimLike) -> Any:
    axis = dim % op.rank_of(x)
    if isinstance(index, int) and index < 0:
        index = op.shape_of(x)[axis] + index
    return _replaced(op, x, op.unsqueeze(source, [axis]), axis, index, index + 1)


@translation("aten.slice_scatter.default")
def slice_scatter(
    op: TorchBuilder,
    x: Value,
    source: Value,
    dim: int = 0,
    start: DimLike | None = None,
    end: DimLike | None = None,
    step: int = 1,
) -> Any:
    axis = dim % op.rank_of(x)
    size = op.shape_of(x)[axis]
    first = _bounded(0 if start is None else start, size)
    last = _bounded(size if end is None or end == _END else end, size)
    source = op.cast(source, op.result())
    if _is_empty(source.shape):
        return x
    if step != 1:
        return _along(op, x, axis, span(op, first, last, step), source)
    return _replaced(op, x, source, axis, first, last)


def _bounded(place: DimLike, size: DimLike) -> DimLike:
    """A bound of a slice, counted from the front; within `size` where that is known."""
    if isinstance(place, int) and place < 0:
        place = size + place
        if isinstance(place, int):
            place = max(place, 0)
    if isinstance(place, int) and isinstance(size, int):
        return min(place, size)
    return place


def _replaced(
    op: TorchBuilder, x: Value, source: Value, axis: int, start: DimLike, end: DimLike
) -> Value:
    size = op.shape_of(x)[axis]
    source = op.cast(source, op.result())
    parts = [] if start == 0 else [op.slice(x, axis, 0, start)]
    parts.append(source)
    if end != size:
        parts.append(op.slice(x, axis, end, _END))
    joined: Value = source if len(parts) == 1 else op.Concat(*parts, axis=axis)
    return joined


@translation("aten.diagonal_scatter.default")
def diagonal_scatter(
    op: TorchBuilder,
    x: Value,
    source: Value,
    offset: int = 0,
    dim1: int = 0,
    dim2: int = 1,
) -> Any:
    if _is_empty(source.shape) or _is_empty(x.shape):
        return x
    shape = op.shape_of(x)
    rank = len(shape)
    down, across = dim1 % rank, dim2 % rank
    # along the axis on which the diagonal begins at 0, place i holds its element i
    kept, gone = (down, across) if offset >= 0 else (across, down)
    others = [axis for axis in range(rank) if axis not in {down, across}]
    order = [
        others.index(axis) if axis != kept else rank - 2 for axis in range(rank) if axis != gone
    ]
    source = op.cast(source, op.result())
    if order != list(range(rank - 1)):
        source = op.transpose(source, order)
    place = kept - (gone < kept)
    missing = shape[kept] - op.shape_of(source)[place]
    if missing != 0:
        op.require(11, "diagonal_scatter beside the main diagonal")
        pads: list[DimLike] = [0] * (2 * (rank - 1))
        pads[rank - 1 + place] = missing
        padded_shape = list(op.shape_of(source))
        padded_shape[place] = shape[kept]
        source = op.typed(op.Pad(source, op.sizes(pads)), op.result(), padded_shape)
    source = op.unsqueeze(source, [gone])
    first, second = min(down, across), max(down, across)
    mask = _diagonal_mask(op, shape[first], shape[second], offset if down < across else -offset)
    inner = [axis - first for axis in range(first, rank) if axis not in {first, second}]
    return _chosen(op, op.unsqueeze(mask, inner), source, x)


def _diagonal_mask(op: TorchBuilder, rows: DimLike, columns: DimLike, offset: int) -> Value:
    """Where the diagonal of a matrix is."""
    if isinstance(rows, int) and isinstance(columns, int) and rows * columns <= _LARGEST_MASK:
        return op.constant(np.eye(rows, columns, offset, dtype=bool), dtypes.BOOL)
    down = op.unsqueeze(span(op, offset, rows + offset), [1])
    made: Value = op.Equal(down, span(op, 0, columns))
    return op.typed(made, dtypes.BOOL, [rows, columns])


@translation("aten.as_strided_scatter.default")
def as_strided_scatter(
    op: TorchBuilder,
    x: Value,
    source: Value,
    size: Sequence[DimLike],
    stride: Sequence[DimLike],
    storage_offset: DimLike | None = None,
) -> Any:
    if _is_empty(size):
        return x
    require_contiguous(op)
    shape, dtype = op.shape_of(x), op.result()
    count = product(size)
    places = flat(
        op, strided_places(op, size, stride, 0 if storage_offset is None else storage_offset)
    )
    if places.const is None:
        op.typed(places, dtypes.INT64, [count])
    line = op.typed(flat(op, op.cast(source, dtype)), dtype, [count])
    put = _scatter(op, flat(op, x), places, line, 0)
    return op.reshape(put, shape) if len(shape) != 1 else put
