"""Reading by index: gathers, masks, places of what is not zero, numbers read from tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from sardonyx import dtypes
from sardonyx.dims import Dim
from sardonyx.errors import ExportError
from sardonyx.export.torch.registry import (
    TorchBuilder,
    known,
    product,
    static,
    translation,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sardonyx.dims import DimLike
    from sardonyx.ir.value import Value

__all__ = [
    "as_index",
    "broadcast_shape",
    "empty",
    "expand_masks",
    "expand_to",
    "flat",
    "is_adjacent",
    "joined_indices",
    "nonzero_columns",
    "require_contiguous",
    "span",
    "strided_places",
]

_NONZERO_INPUTS: Final = {
    dtypes.BOOL, dtypes.UINT8, dtypes.INT32, dtypes.INT64, dtypes.FLOAT,
}  # fmt: skip
_MASKS: Final = {dtypes.BOOL, dtypes.UINT8}


def as_index(op: TorchBuilder, index: Value) -> Value:
    """`index` in a type that ONNX takes for indices."""
    if index.dtype is dtypes.INT32 or index.dtype is dtypes.INT64:
        return index
    return op.cast(index, dtypes.INT64)


def empty(op: TorchBuilder) -> Value | None:
    """The result where its shape says that it has no elements, else None."""
    shape = known(op.result_shape)
    if shape is None or not any(not isinstance(dim, Dim) and dim == 0 for dim in shape):
        return None
    if not any(isinstance(dim, Dim) for dim in shape):
        return op.constant(np.zeros(shape), op.result())
    made: Value = op.Expand(op.constant(0, op.result()), op.sizes(shape))
    return made


def flat(op: TorchBuilder, x: Value) -> Value:
    """`x` in one axis."""
    if x.shape is not None and len(x.shape) == 1:
        return x
    size = None if x.shape is None else known(x.shape)
    reshaped: Value = op.Reshape(x, op.ints([-1]))
    if x.dtype is not None:
        op.typed(reshaped, x.dtype, [None if size is None else product(size)])
    return reshaped


def span(op: TorchBuilder, start: DimLike, end: DimLike, step: int = 1) -> Value:
    """The INT64 numbers from `start` to before `end`: a constant where both are numbers."""
    if isinstance(start, Dim) or isinstance(end, Dim):
        bounds = [op.scalar(each, dtypes.INT64) for each in (start, end, step)]
        count = (end - start) if step == 1 else None
        return op.typed(op.Range(*bounds), dtypes.INT64, [count])
    return op.constant(np.arange(start, end, step), dtypes.INT64)


def broadcast_shape(*shapes: Sequence[DimLike]) -> list[DimLike]:
    """The shape that `shapes` broadcast to; different symbols stand for the same size."""
    rank = max(map(len, shapes))
    result: list[DimLike] = []
    for place in range(-rank, 0):
        sizes = [shape[place] for shape in shapes if len(shape) >= -place]
        others = [size for size in sizes if isinstance(size, Dim) or size != 1]
        plain = [size for size in others if not isinstance(size, Dim)]
        result.append(plain[0] if plain else others[0] if others else 1)
    return result


def expand_to(op: TorchBuilder, x: Value, shape: Sequence[DimLike]) -> Value:
    """`x` broadcast to `shape`."""
    if x.shape == tuple(shape):
        return x
    expanded: Value = op.Expand(x, op.sizes(shape))
    return op.typed(expanded, op.dtype_of(x), shape)


def nonzero_columns(op: TorchBuilder, mask: Value) -> list[Value]:
    """For each axis of `mask`, where its true elements are along it."""
    mask = op.cast(mask, dtypes.BOOL)
    rank = op.rank_of(mask)
    places = op.NonZero(mask)
    if rank == 1:
        return [op.typed(op.Reshape(places, op.ints([-1])), dtypes.INT64, [None])]
    return [
        op.typed(
            op.Gather(places, op.constant(axis, dtypes.INT64), axis=0),
            dtypes.INT64,
            [None],
        )
        for axis in range(rank)
    ]


def expand_masks(op: TorchBuilder, indices: Sequence[Value | None]) -> list[Value | None]:
    """`indices` with an index for each axis of a mask in the mask's place."""
    expanded: list[Value | None] = []
    for index in indices:
        if index is not None and index.dtype in _MASKS:
            expanded.extend(nonzero_columns(op, index))
        else:
            expanded.append(index)
    return expanded


def is_adjacent(places: Sequence[int]) -> bool:
    """Whether `places` follow one another."""
    return list(places) == list(range(places[0], places[0] + len(places)))


def joined_indices(op: TorchBuilder, given: Sequence[Value]) -> Value:
    """Indices of several axes, broadcast and joined along a new last axis."""
    wide = [op.cast(index, dtypes.INT64) for index in given]
    width = max(map(op.rank_of, wide))
    if len(wide) == 1:
        return op.unsqueeze(wide[0], [width])
    if all(index.const is not None for index in wide):
        arrays = np.broadcast_arrays(*(index.const.numpy() for index in wide))  # type: ignore[union-attr]
        return op.constant(np.stack(arrays, axis=-1), dtypes.INT64)
    shapes = [known(index.shape or ()) for index in wide]
    if None not in shapes and len(set(shapes)) == 1:
        columns = wide
    elif all(each is not None for each in shapes):
        shape = broadcast_shape(*(each for each in shapes if each is not None))
        columns = [expand_to(op, index, shape) for index in wide]
    elif _same_masks(wide):
        columns = wide
    else:
        total = wide[0]
        for index in wide[1:]:
            total = op.Add(total, index)
        target = op.Shape(total)
        columns = [
            op.typed(op.Expand(index, target), dtypes.INT64, [None] * width) for index in wide
        ]
    joined: Value = op.Concat(*(op.unsqueeze(index, [width]) for index in columns), axis=width)
    return joined


def _same_masks(columns: Sequence[Value]) -> bool:
    """Whether all are columns of one NonZero, so of one length."""
    origins = {
        index.producer.inputs[0] if index.producer is not None else None for index in columns
    }
    origin = next(iter(origins))
    maker = None if origin is None else origin.producer
    return len(origins) == 1 and maker is not None and maker.op_type == "NonZero"


@translation("aten.index.Tensor", "aten._unsafe_index.Tensor")
def index_tensor(op: TorchBuilder, x: Value, indices: Sequence[Value | None]) -> Any:
    nothing = empty(op)
    if nothing is not None:
        return nothing
    given = [index for index in indices if index is not None]
    if not given:
        return x
    if len(given) == 1 and given[0].dtype in _MASKS and x.dtype is not dtypes.BFLOAT16:
        return _compressed(op, x, given[0], list(indices).index(given[0]))
    expanded = expand_masks(op, indices)
    places = [axis for axis, index in enumerate(expanded) if index is not None]
    given = [index for index in expanded if index is not None]
    if len(given) == 1:
        return op.Gather(x, as_index(op, given[0]), axis=places[0])
    rank = op.rank_of(x)
    rest = [axis for axis in range(rank) if axis not in places]
    order = [*places, *rest]
    leading = x if order == list(range(rank)) else op.transpose(x, order)
    found = op.GatherND(leading, joined_indices(op, given))
    width = max(op.rank_of(index) for index in given)
    first = places[0]
    if not is_adjacent(places) or not first:
        return found
    return op.Transpose(
        found,
        perm=[
            *range(width, width + first),
            *range(width),
            *range(width + first, width + len(rest)),
        ],
    )


def _compressed(op: TorchBuilder, x: Value, mask: Value, axis: int) -> Value:
    """``x[:, …, mask]`` with the mask's axes from `axis`."""
    rank, width = op.rank_of(x), op.rank_of(mask)
    if not width:
        chosen: Value = op.Compress(
            op.unsqueeze(x, [axis]),
            op.reshape(op.cast(mask, dtypes.BOOL), [1]),
            axis=axis,
        )
        return chosen
    condition = flat(op, op.cast(mask, dtypes.BOOL))
    if width == rank and rank > 1:
        everything: Value = op.Compress(x, condition)
        return everything
    if width > 1:
        shape = op.shape_of(x)
        merged = product(shape[axis : axis + width])
        x = op.reshape(x, [*shape[:axis], merged, *shape[axis + width :]])
    kept: Value = op.Compress(x, condition, axis=axis)
    return kept


@translation("aten.masked_select.default")
def masked_select(op: TorchBuilder, x: Value, mask: Value) -> Any:
    shape = broadcast_shape(op.shape_of(x), op.shape_of(mask))
    if x.dtype is dtypes.BFLOAT16:
        op.require(13, "masked_select of bfloat16")
        places = op.NonZero(expand_to(op, op.cast(mask, dtypes.BOOL), shape))
        return op.GatherND(expand_to(op, x, shape), op.Transpose(places, perm=[1, 0]))
    mask = flat(op, expand_to(op, op.cast(mask, dtypes.BOOL), shape))
    wide = expand_to(op, x, shape)
    return op.Compress(wide if shape else flat(op, wide), mask)


@translation("aten.nonzero.default")
def nonzero(op: TorchBuilder, x: Value) -> Any:
    if not op.rank_of(x):
        count = op.cast(op.cast(x, dtypes.BOOL), dtypes.INT64)
        sizes = op.Concat(op.reshape(count, [1]), op.ints([0]), axis=0)
        return op.Expand(op.constant(0, dtypes.INT64), sizes)
    if x.dtype not in _NONZERO_INPUTS:
        x = op.cast(x, dtypes.BOOL)
    return op.Transpose(op.NonZero(x), perm=[1, 0])


@translation("aten.nonzero_numpy.default")
def nonzero_numpy(op: TorchBuilder, x: Value) -> Any:
    if not op.rank_of(x):
        x = op.typed(op.reshape(x, [1]), op.dtype_of(x), [1])
    return tuple(nonzero_columns(op, x))


@translation("aten.nonzero_static.default")
def nonzero_static(op: TorchBuilder, x: Value, *, size: DimLike, fill_value: int = -1) -> Any:
    nothing = empty(op)
    if nothing is not None:
        return nothing
    op.require(11, "nonzero_static")
    places = nonzero(op, x)
    fill = op.constant(fill_value, dtypes.INT64)
    padded = op.Pad(places, op.sizes([0, 0, size, 0]), fill)
    return op.slice(padded, 0, 0, size)


@translation("aten._local_scalar_dense.default", "aten.item.default")
def item(op: TorchBuilder, x: Value) -> Any:
    dtype = op.dtype_of(x)
    if dtype.is_integer:
        dtype = dtypes.INT64
    x = op.cast(x, dtype)
    return x if not op.rank_of(x) else op.typed(op.reshape(x, []), dtype, [])


@translation("aten.index_select.default")
def index_select(op: TorchBuilder, x: Value, dim: int, index: Value) -> Any:
    rank = op.rank_of(x)
    if not rank:
        return op.reshape(op.Gather(op.reshape(x, [1]), flat(op, index), axis=0), [])
    if not op.rank_of(index):
        index = op.reshape(index, [1])
    return op.Gather(x, as_index(op, index), axis=dim % rank)


@translation("aten.embedding.default")
def embedding(op: TorchBuilder, weight: Value, indices: Value, *_: Any, **__: Any) -> Any:
    return op.Gather(weight, indices, axis=0)


@translation("aten.take.default")
def take(op: TorchBuilder, x: Value, index: Value) -> Any:
    return op.Gather(flat(op, x), as_index(op, index), axis=0)


@translation("aten.gather.default")
def gather(op: TorchBuilder, x: Value, dim: int, index: Value, **_: Any) -> Any:
    nothing = empty(op)
    if nothing is not None:
        return nothing
    index = as_index(op, index)
    rank, width = op.rank_of(x), op.rank_of(index)
    if rank and width:
        return op.GatherElements(x, index, axis=dim % rank)
    found = op.Gather(flat(op, x), index, axis=0)
    return found if rank <= width else op.reshape(found, op.shape_of(index))


@translation("aten.repeat_interleave.Tensor")
def repeat_interleave(op: TorchBuilder, repeats: Value, **_: Any) -> Any:
    # an index begins where the repeats of those before it end: 1 is added at each end
    op.require(16, "repeat_interleave by a tensor")
    ends = op.CumSum(op.cast(repeats, dtypes.INT64), op.constant(0, dtypes.INT64))
    total = op.reduce("Sum", op.cast(repeats, dtypes.INT64), [0], True)
    from sardonyx.ir.tensor import ArrayTensor

    zero = ArrayTensor([0], dtypes.INT64)
    places = op.ConstantOfShape(op.Add(total, op.ints([1])), value=zero)
    one = op.constant(1, dtypes.INT64)
    counts = op.ScatterElements(
        places, ends, op.Expand(one, op.Shape(ends)), axis=0, reduction="add"
    )
    found = op.CumSum(counts, op.constant(0, dtypes.INT64))
    return op.Slice(found, op.ints([0]), total, op.ints([0]))


@translation("aten.as_strided.default", "aten.as_strided_copy.default")
def as_strided(
    op: TorchBuilder,
    x: Value,
    size: Sequence[DimLike],
    stride: Sequence[DimLike],
    storage_offset: DimLike | None = None,
) -> Any:
    nothing = empty(op)
    if nothing is not None:
        return nothing
    require_contiguous(op)
    offset = 0 if storage_offset is None else storage_offset
    if tuple(size) == x.shape and list(stride) == _strides(size) and offset == 0:
        return x
    places = strided_places(op, size, stride, offset)
    return op.Gather(flat(op, x), places, axis=0)


def require_contiguous(op: TorchBuilder) -> None:
    """`ExportError` where the first argument lies in memory in another order than its axes'."""
    argument = op.node.args[0] if op.node is not None else None
    fake = getattr(argument, "meta", {}).get("val")
    if fake is not None and not fake.is_contiguous():
        raise ExportError(
            "as_strided of a tensor that is not contiguous, whose memory ONNX cannot see",
            hint="call .contiguous() before it, or say it with slices and indices",
        )


def strided_places(
    op: TorchBuilder,
    size: Sequence[DimLike],
    stride: Sequence[DimLike],
    offset: DimLike,
) -> Value:
    """Where the elements of a strided view lie in the flat tensor, in the view's shape."""
    rank = len(size)
    if not any(isinstance(each, Dim) for each in (*size, *stride, offset)):
        sizes, strides = static(size, "as_strided"), static(stride, "as_strided")
        places = np.full(sizes, offset, np.int64)
        for axis, (count, step) in enumerate(zip(sizes, strides, strict=True)):
            shape = [1] * rank
            shape[axis] = count
            places += (np.arange(count) * step).reshape(shape)
        return op.constant(places, dtypes.INT64)
    total = op.scalar(offset, dtypes.INT64)
    for axis, (long, pace) in enumerate(zip(size, stride, strict=True)):
        line = span(op, 0, long)
        if pace != 1:
            line = op.typed(op.Mul(line, op.scalar(pace, dtypes.INT64)), dtypes.INT64, [long])
        total = op.Add(total, op.unsqueeze(line, list(range(1, rank - axis))))
    return total


def _strides(size: Sequence[DimLike]) -> list[DimLike]:
    strides: list[DimLike] = [1]
    for each in reversed(size[1:]):
        strides.append(strides[-1] * each)
    return strides[::-1] if size else []


@translation("aten.resize.default", "aten.resize_as.default")
def resize(op: TorchBuilder, x: Value, size: Any, **_: Any) -> Any:
    shape = known(op.result_shape)
    old = op.shape_of(x)
    if shape is None:
        raise ExportError("a resize to a shape that cannot be said")
    count, have = product(shape), product(old)
    line = flat(op, x)
    if count != have:
        (wanted, present) = static([count, have], "resize")
        if wanted > present:
            line = op.Pad(line, op.ints([0, wanted - present]))
        else:
            line = op.slice(line, 0, 0, wanted)
    return op.reshape(line, shape)
