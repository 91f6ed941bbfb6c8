"""Shapes and data movement: views, joins, slices, windows, diagonals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from sardonyx import dtypes
from sardonyx.dims import Dim
from sardonyx.errors import ExportError
from sardonyx.export.torch.indexing import empty, span
from sardonyx.export.torch.registry import (
    TorchBuilder,
    known,
    positive,
    product,
    static,
    translation,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sardonyx.dims import DimLike
    from sardonyx.dtypes import DType
    from sardonyx.ir.value import Value

__all__: list[str] = []

_END: Final = 2**63 - 1
_BLOCKS: Final = {
    dtypes.FLOAT,
    dtypes.DOUBLE,
    dtypes.FLOAT16,
    dtypes.BFLOAT16,
    dtypes.UINT8,
}


@translation(
    "aten.view.default", "aten.reshape.default", "aten._unsafe_view.default",
    "aten.flatten.using_ints", "aten.unflatten.int", "aten.view_copy.default",
)  # fmt: skip
def view(op: TorchBuilder, x: Value, *rest: Any) -> Any:
    shape = known(op.result_shape)
    if shape is None:
        if len(rest) != 1:
            raise ExportError("a view to a shape that cannot be said")
        shape = tuple(rest[0])
    return x if shape == x.shape else op.reshape(x, shape)


@translation("aten.permute.default", "aten.permute_copy.default")
def permute(op: TorchBuilder, x: Value, order: Sequence[int]) -> Any:
    rank = op.rank_of(x)
    return op.Transpose(x, perm=[axis % rank for axis in order]) if rank else x


@translation("aten.transpose.int", "aten.transpose_copy.int")
def transpose(op: TorchBuilder, x: Value, first: int, second: int) -> Any:
    rank = op.rank_of(x)
    if not rank:
        return x
    order = list(range(rank))
    order[first], order[second] = order[second], order[first]
    return op.Transpose(x, perm=order)


@translation("aten.t.default", "aten.numpy_T.default", "aten.mT.default", "aten.t_copy.default")
def turned(op: TorchBuilder, x: Value) -> Any:
    rank = op.rank_of(x)
    return op.Transpose(x, perm=[*range(rank - 2), rank - 1, rank - 2]) if rank > 1 else x


@translation(
    "aten.squeeze.default", "aten.squeeze.dim", "aten.squeeze.dims", "aten.squeeze_copy.default",
    "aten.squeeze_copy.dim", "aten.squeeze_copy.dims",
)  # fmt: skip
def squeeze(op: TorchBuilder, x: Value, dim: int | Sequence[int] | None = None) -> Any:
    shape = op.shape_of(x)
    return op.squeeze(x, [axis for axis in positive(dim, len(shape)) if shape[axis] == 1])


@translation("aten.unsqueeze.default", "aten.unsqueeze_copy.default")
def unsqueeze(op: TorchBuilder, x: Value, dim: int) -> Any:
    return op.unsqueeze(x, [dim % (op.rank_of(x) + 1)])


@translation("aten.expand.default", "aten.expand_as.default", "aten.broadcast_to.default",
             "aten.expand_copy.default")  # fmt: skip
def expand(op: TorchBuilder, x: Value, *_: Any, **__: Any) -> Any:
    shape = known(op.result_shape)
    if shape is None:
        raise ExportError("an expansion to a shape that cannot be said")
    old = op.shape_of(x)
    if shape == old:
        return x
    aligned = [None] * (len(shape) - len(old)) + list(old)
    return op.Expand(x, op.sizes([1 if a == b else b for a, b in zip(aligned, shape, strict=True)]))


@translation("aten.repeat.default")
def repeat(op: TorchBuilder, x: Value, repeats: Sequence[DimLike]) -> Any:
    x = op.unsqueeze(x, list(range(len(repeats) - op.rank_of(x))))
    return op.Tile(x, op.sizes(repeats))


@translation("aten.repeat_interleave.self_int")
def repeat_interleave(op: TorchBuilder, x: Value, repeats: int, dim: int | None = None,
                      **_: Any) -> Any:  # fmt: skip
    if dim is None:
        x, dim = op.reshape(x, [product(op.shape_of(x))]), 0
        op.typed(x, op.result(), [product(op.result_shape) // repeats])  # type: ignore[arg-type]
    shape = list(op.shape_of(x))
    axis = dim % len(shape)
    wide = op.unsqueeze(x, [axis + 1])
    target = [1] * (len(shape) + 1)
    target[axis + 1] = repeats
    tiled = op.Expand(wide, op.sizes(target))
    return op.reshape(tiled, [*shape[:axis], shape[axis] * repeats, *shape[axis + 1 :]])


@translation("aten.cat.default", "aten.concat.default")
def cat(op: TorchBuilder, tensors: Sequence[Value], dim: int = 0) -> Any:
    dtype = op.result()
    kept = [each for each in tensors if each.shape != (0,)] or list(tensors[:1])
    values = [op.cast(each, dtype) for each in kept]
    if len(values) == 1:
        return values[0]
    return op.Concat(*values, axis=dim % op.rank_of(kept[0]))


@translation("aten.stack.default")
def stack(op: TorchBuilder, tensors: Sequence[Value], dim: int = 0) -> Any:
    dtype = op.result()
    axis = dim % (op.rank_of(tensors[0]) + 1)
    return op.Concat(*(op.unsqueeze(op.cast(x, dtype), [axis]) for x in tensors), axis=axis)


@translation(
    "aten.split.Tensor", "aten.split_with_sizes.default", "aten.chunk.default",
    "aten.split_with_sizes_copy.default", "aten.split.sizes", "aten.tensor_split.sections",
    "aten.split_copy.Tensor", "aten.unsafe_split.Tensor", "aten.unsafe_split_with_sizes.default",
)  # fmt: skip
def split(op: TorchBuilder, x: Value, _sizes: Any, dim: int = 0) -> Any:
    axis = dim % op.rank_of(x)
    sizes = [shape[axis] for shape in op.result_shapes]
    if len(sizes) == 1:
        return (x,)
    parts = known(sizes)
    if parts is None:
        raise ExportError("a split into sizes that cannot be said")
    if op.opset >= 13:
        return op.Split(x, op.sizes(parts), axis=axis, _outputs=len(parts))
    return op.Split(x, axis=axis, split=static(parts, "split"), _outputs=len(parts))


@translation("aten.unbind.int", "aten.unbind_copy.int")
def unbind(op: TorchBuilder, x: Value, dim: int = 0) -> Any:
    axis = dim % op.rank_of(x)
    return tuple(
        op.Gather(x, op.constant(index, dtypes.INT64), axis=axis)
        for index in range(len(op.result_shapes))
    )


@translation("aten.slice.Tensor", "aten.slice_copy.Tensor")
def slice_tensor(
    op: TorchBuilder,
    x: Value,
    dim: int = 0,
    start: DimLike | None = None,
    end: DimLike | None = None,
    step: int = 1,
) -> Any:
    if op.result_shape == x.shape and step == 1:
        return x
    return op.slice(
        x, dim % op.rank_of(x), 0 if start is None else start, _END if end is None else end, step
    )


@translation("aten.narrow.default", "aten.narrow_copy.default")
def narrow(op: TorchBuilder, x: Value, dim: int, start: DimLike, length: DimLike) -> Any:
    return op.slice(x, dim % op.rank_of(x), start, start + length)


@translation("aten.select.int", "aten.select_copy.int")
def select(op: TorchBuilder, x: Value, dim: int, index: DimLike) -> Any:
    axis = dim % op.rank_of(x)
    if isinstance(index, int) and index < 0:
        index = op.shape_of(x)[axis] + index
    return op.Gather(x, op.scalar(index, dtypes.INT64), axis=axis)


@translation("aten.copy.default")
def copy(op: TorchBuilder, x: Value, source: Value, _non_blocking: bool = False) -> Any:
    return expand(op, op.cast(source, op.result()))


@translation("aten.view.dtype", "aten.view_copy.dtype")
def view_as(op: TorchBuilder, x: Value, dtype: DType) -> Any:
    old = op.dtype_of(x)
    if old is dtype:
        return x
    if old.bits != dtype.bits:
        raise ExportError(
            f"ONNX has no view of {old.text} as {dtype.text}, which are of different widths"
        )
    op.require(26, f"a view of {old.text} as {dtype.text} (BitCast)")
    return op.BitCast(x, to=dtype.code)


@translation("aten.unfold.default", "aten.unfold_copy.default")
def unfold(op: TorchBuilder, x: Value, dim: int, size: int, step: int) -> Any:
    shape = op.shape_of(x)
    if not shape:
        return op.reshape(x, [1]) if size else op.constant(np.zeros(0), op.result())
    rank = len(shape)
    axis = dim % rank
    count = (shape[axis] - size) // step + 1
    places = _window_places(op, count, step, size, 1)
    windows = op.Gather(x, places, axis=axis)
    if axis == rank - 1:
        return windows
    order = [*range(axis + 1), *range(axis + 2, rank + 1), axis + 1]
    return op.Transpose(windows, perm=order)


def _window_places(
    op: TorchBuilder,
    count: DimLike,
    step: int,
    size: int,
    dilation: int,
    is_inner: bool = False,
) -> Value:
    """Where the elements of `count` windows lie: [count, size], or [size, count] if `is_inner`."""
    within = np.arange(size) * dilation
    if not isinstance(count, Dim):
        starts = np.arange(count) * step
        places = within[:, None] + starts if is_inner else starts[:, None] + within
        return op.constant(places, dtypes.INT64)
    begins = op.Mul(span(op, 0, count), op.constant(step, dtypes.INT64))
    if is_inner:
        made: Value = op.Add(op.constant(within[:, None], dtypes.INT64), begins)
    else:
        made = op.Add(op.unsqueeze(begins, [1]), op.constant(within, dtypes.INT64))
    return made


@translation("aten.im2col.default")
def im2col(
    op: TorchBuilder,
    x: Value,
    kernel_size: Sequence[int],
    dilation: Sequence[int],
    padding: Sequence[int],
    stride: Sequence[int],
) -> Any:
    nothing = empty(op)
    if nothing is not None:
        return nothing
    shape = list(op.shape_of(x))
    rank = len(shape)
    if any(padding):
        pads = [0] * (rank - 2) + list(padding)
        if op.opset >= 11:
            x = op.Pad(x, op.ints([*pads, *pads]))
        else:
            x = op.Pad(x, pads=[*pads, *pads])
    counts: list[DimLike] = []
    for place in (0, 1):
        reach = dilation[place] * (kernel_size[place] - 1) + 1
        room = shape[rank - 2 + place] + 2 * padding[place] - reach
        counts.append(room // stride[place] + 1)
        places = _window_places(
            op,
            counts[place],
            stride[place],
            kernel_size[place],
            dilation[place],
            is_inner=True,
        )
        x = op.Gather(x, places, axis=rank - 2 + 2 * place)
    first = rank - 2
    turned = op.Transpose(x, perm=[*range(first), first, first + 2, first + 1, first + 3])
    elements = shape[first - 1] * kernel_size[0] * kernel_size[1]
    return op.reshape(turned, [*shape[: first - 1], elements, counts[0] * counts[1]])


@translation("aten.col2im.default")
def col2im(
    op: TorchBuilder,
    x: Value,
    output_size: Sequence[DimLike],
    kernel_size: Sequence[int],
    dilation: Sequence[int],
    padding: Sequence[int],
    stride: Sequence[int],
) -> Any:
    is_single = op.rank_of(x) == 2
    made: Value = op.Col2Im(
        op.unsqueeze(x, [0]) if is_single else x,
        op.sizes(output_size),
        op.ints(kernel_size),
        dilations=list(dilation),
        pads=[*padding, *padding],
        strides=list(stride),
    )
    if not is_single:
        return made
    op.typed(made, op.result(), [1, *op.result_shape])
    return op.squeeze(made, [0])


@translation(
    "aten.diagonal.default",
    "aten.diagonal_copy.default",
    "aten.linalg_diagonal.default",
)
def diagonal(op: TorchBuilder, x: Value, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Any:
    nothing = empty(op)
    if nothing is not None:
        return nothing
    shape = op.shape_of(x)
    rank = len(shape)
    down, across = dim1 % rank, dim2 % rank
    others = [axis for axis in range(rank) if axis not in {down, across}]
    order = [*others, down, across]
    if order != list(range(rank)):
        x = op.transpose(x, order)
    rows, columns = shape[down], shape[across]
    kept = [shape[axis] for axis in others]
    lines = op.typed(op.reshape(x, [*kept, rows * columns]), op.result(), [*kept, rows * columns])
    count = known(op.result_shape)
    if count is None:
        raise ExportError("a diagonal of a length that cannot be said")
    # one step right and one down is columns + 1 elements on
    first = offset if offset >= 0 else -offset * columns
    step = columns + 1
    if op.opset < 10:
        op.require(10, "a diagonal")
    bounds = [op.sizes([each]) for each in (first, first + count[-1] * step)]
    return op.Slice(lines, *bounds, op.ints([len(others)]), op.sizes([step]))


@translation("aten.flip.default")
def flip(op: TorchBuilder, x: Value, dims: Sequence[int]) -> Any:
    axes = positive(dims, op.rank_of(x)) if len(dims) else []
    if not axes:
        return x
    op.require(10, "a flip")
    count = len(axes)
    return op.Slice(
        x,
        op.ints([-1] * count),
        op.ints([-_END] * count),
        op.ints(axes),
        op.ints([-1] * count),
    )


@translation("aten.roll.default")
def roll(op: TorchBuilder, x: Value, shifts: Any, dims: Any = ()) -> Any:
    shape = op.shape_of(x)
    if not shape or 0 in shape:
        return x
    shifts = [shifts] if isinstance(shifts, (int, Dim)) else list(shifts)
    axes = [dims] if isinstance(dims, int) else list(dims)
    if not axes:
        flat = op.reshape(x, [product(shape)])
        return op.reshape(_rolled(op, flat, 0, shifts[0], product(shape)), shape)
    for shift, axis in zip(shifts, axes, strict=True):
        x = _rolled(op, x, axis % len(shape), shift, shape[axis])
    return x


def _rolled(op: TorchBuilder, x: Value, axis: int, shift: DimLike, size: DimLike) -> Value:
    start = (size - shift) % size
    if start == 0:
        return x
    joined: Value = op.Concat(
        op.slice(x, axis, start, _END), op.slice(x, axis, 0, start), axis=axis
    )
    return joined


@translation("aten.pixel_shuffle.default")
def pixel_shuffle(op: TorchBuilder, x: Value, factor: int) -> Any:
    *batch, channels, height, width = op.shape_of(x)
    if len(batch) == 1 and op.opset >= 11 and op.result() in _BLOCKS:
        return op.DepthToSpace(x, blocksize=factor, mode="CRD")
    count = channels // (factor * factor)
    first = len(batch) + 1
    wide = op.reshape(x, [*batch, count, factor, factor, height, width])
    order = [*range(first), first + 2, first, first + 3, first + 1]
    turned = op.Transpose(wide, perm=order)
    return op.reshape(turned, [*batch, count, height * factor, width * factor])


@translation("aten.pixel_unshuffle.default")
def pixel_unshuffle(op: TorchBuilder, x: Value, factor: int) -> Any:
    *batch, channels, height, width = op.shape_of(x)
    first = len(batch) + 1
    rows, columns = height // factor, width // factor
    wide = op.reshape(x, [*batch, channels, rows, factor, columns, factor])
    order = [*range(first), first + 1, first + 3, first, first + 2]
    turned = op.Transpose(wide, perm=order)
    return op.reshape(turned, [*batch, channels * factor * factor, rows, columns])


@translation("aten.tril.default")
def tril(op: TorchBuilder, x: Value, diagonal: DimLike = 0) -> Any:
    return _triangle(op, x, diagonal, is_upper=False)


@translation("aten.triu.default")
def triu(op: TorchBuilder, x: Value, diagonal: DimLike = 0) -> Any:
    return _triangle(op, x, diagonal, is_upper=True)


def _triangle(op: TorchBuilder, x: Value, diagonal: DimLike, is_upper: bool) -> Any:
    dtype, shape = op.result(), op.shape_of(x)
    if op.opset >= 14:
        wide = dtypes.INT64 if dtype.is_integer else dtype
        made = op.Trilu(op.cast(x, wide), op.scalar(diagonal, dtypes.INT64), upper=int(is_upper))
        return op.cast(op.typed(made, wide, shape), dtype)
    op.require(11, "a triangle of a matrix")
    rows, columns = shape[-2:]
    down = op.unsqueeze(span(op, diagonal, rows + diagonal), [1])
    across = span(op, 0, columns)
    if is_upper:
        outside = op.Less(across, down)
    else:
        outside = op.Greater(across, down)
    return op.Where(outside, op.constant(0, dtype), x)
