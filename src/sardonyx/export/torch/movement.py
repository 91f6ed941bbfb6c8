"""Shapes and data movement: views, joins, slices, gathers, scatters, padding."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from sardonyx import dtypes
from sardonyx.dims import Dim
from sardonyx.errors import ExportError
from sardonyx.export.torch.registry import (
    TorchBuilder,
    TorchValue,
    known,
    positive,
    product,
    static,
    translation,
)
from sardonyx.ir.value import Value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sardonyx.dims import DimLike

__all__: list[str] = []

_END: Final = 2**63 - 1


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


@translation("aten.transpose.int")
def transpose(op: TorchBuilder, x: Value, first: int, second: int) -> Any:
    rank = op.rank_of(x)
    if not rank:
        return x
    order = list(range(rank))
    order[first], order[second] = order[second], order[first]
    return op.Transpose(x, perm=order)


@translation("aten.t.default", "aten.numpy_T.default", "aten.mT.default")
def turned(op: TorchBuilder, x: Value) -> Any:
    rank = op.rank_of(x)
    return op.Transpose(x, perm=[*range(rank - 2), rank - 1, rank - 2]) if rank > 1 else x


@translation("aten.squeeze.default", "aten.squeeze.dim", "aten.squeeze.dims")
def squeeze(op: TorchBuilder, x: Value, dim: int | Sequence[int] | None = None) -> Any:
    shape = op.shape_of(x)
    return op.squeeze(x, [axis for axis in positive(dim, len(shape)) if shape[axis] == 1])


@translation("aten.unsqueeze.default")
def unsqueeze(op: TorchBuilder, x: Value, dim: int) -> Any:
    return op.unsqueeze(x, [dim % (op.rank_of(x) + 1)])


@translation("aten.expand.default", "aten.expand_as.default", "aten.broadcast_to.default")
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
    "aten.split_copy.Tensor",
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
    return op.slice(x, dim % op.rank_of(x), start or 0, _END if end is None else end, step)


@translation("aten.narrow.default")
def narrow(op: TorchBuilder, x: Value, dim: int, start: DimLike, length: DimLike) -> Any:
    return op.slice(x, dim % op.rank_of(x), start, start + length)


@translation("aten.select.int", "aten.select_copy.int")
def select(op: TorchBuilder, x: Value, dim: int, index: DimLike) -> Any:
    axis = dim % op.rank_of(x)
    if isinstance(index, int) and index < 0:
        index = op.shape_of(x)[axis] + index
    return op.Gather(x, op.scalar(index, dtypes.INT64), axis=axis)


@translation("aten.select_scatter.default")
def select_scatter(op: TorchBuilder, x: Value, source: Value, dim: int, index: int) -> Any:
    axis = dim % op.rank_of(x)
    if index < 0:
        index = static([op.shape_of(x)[axis]], "select_scatter")[0] + index
    return _replaced(op, x, op.unsqueeze(source, [axis]), axis, index, index + 1)


@translation("aten.slice_scatter.default")
def slice_scatter(
    op: TorchBuilder,
    x: Value,
    source: Value,
    dim: int = 0,
    start: int | None = None,
    end: int | None = None,
    step: int = 1,
) -> Any:
    axis = dim % op.rank_of(x)
    size = op.shape_of(x)[axis]
    if step != 1:
        raise ExportError("an assignment to a slice with a step cannot be exported")
    first: DimLike = start or 0
    last: DimLike = size if end is None or end == _END else end
    if isinstance(first, int) and first < 0:
        first = first + size
    if isinstance(last, int) and last < 0:
        last = last + size
    if isinstance(last, int) and isinstance(size, int):
        last = min(last, size)
    return _replaced(op, x, source, axis, first, last)


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


@translation("aten.copy.default")
def copy(op: TorchBuilder, x: Value, source: Value, _non_blocking: bool = False) -> Any:
    return expand(op, op.cast(source, op.result()))


@translation("aten.index_select.default")
def index_select(op: TorchBuilder, x: Value, dim: int, index: Value) -> Any:
    return op.Gather(x, index, axis=dim % op.rank_of(x))


@translation("aten.embedding.default")
def embedding(op: TorchBuilder, weight: Value, indices: Value, *_: Any, **__: Any) -> Any:
    return op.Gather(weight, indices, axis=0)


@translation("aten.gather.default")
def gather(op: TorchBuilder, x: Value, dim: int, index: Value, **_: Any) -> Any:
    return op.GatherElements(x, index, axis=dim % op.rank_of(x))


@translation("aten.scatter.src")
def scatter(op: TorchBuilder, x: Value, dim: int, index: Value, source: Value) -> Any:
    return op.ScatterElements(x, index, source, axis=dim % op.rank_of(x))


@translation("aten.scatter.value")
def scatter_value(op: TorchBuilder, x: Value, dim: int, index: Value, value: TorchValue) -> Any:
    filled = op.Expand(op.scalar(value, op.result()), op.sizes(op.shape_of(index)))
    return op.ScatterElements(x, index, filled, axis=dim % op.rank_of(x))


@translation("aten.scatter_add.default")
def scatter_add(op: TorchBuilder, x: Value, dim: int, index: Value, source: Value) -> Any:
    op.require(16, "scatter_add")
    return op.ScatterElements(x, index, source, axis=dim % op.rank_of(x), reduction="add")


@translation("aten.index.Tensor")
def index_tensor(op: TorchBuilder, x: Value, indices: Sequence[Value | None]) -> Any:
    places = [axis for axis, index in enumerate(indices) if index is not None]
    given = [index for index in indices if index is not None]
    if any(index.dtype in {dtypes.BOOL, dtypes.UINT8} for index in given):
        return _masked(op, x, indices)
    if len(given) == 1:
        return op.Gather(x, op.cast(given[0], dtypes.INT64), axis=places[0])
    rank = op.rank_of(x)
    rest = [axis for axis in range(rank) if axis not in places]
    shaped = op.Transpose(x, perm=[*places, *rest])
    width = max(op.rank_of(index) for index in given)
    wide = [op.cast(index, dtypes.INT64) for index in given]
    total = wide[0]
    for index in wide[1:]:
        total = op.Add(total, index)
    shape = op.Shape(total)
    columns = [op.unsqueeze(op.Expand(index, shape), [width]) for index in wide]
    found = op.GatherND(shaped, op.Concat(*columns, axis=width))
    adjacent = places == list(range(places[0], places[0] + len(places)))
    if adjacent and places[0]:
        # the indices' axes stand where the indexed axes stood
        first = places[0]
        order = [
            *range(width, width + first),
            *range(width),
            *range(width + first, width + len(rest)),
        ]
        found = op.Transpose(found, perm=order)
    return found


@translation("aten.index_put.default", "aten._unsafe_index_put.default")
def index_put(
    op: TorchBuilder,
    x: Value,
    indices: Sequence[Value | None],
    source: Value,
    accumulate: bool = False,
) -> Any:
    given = [index for index in indices if index is not None]
    if len(given) != len(indices):
        raise ExportError("an assignment at indices of inner axes cannot be exported")
    if len(given) == 1 and given[0].dtype is dtypes.BOOL:
        if op.rank_of(source):
            raise ExportError("an assignment of several values under a mask cannot be exported")
        mask = op.unsqueeze(given[0], list(range(op.rank_of(given[0]), op.rank_of(x))))
        return op.Where(mask, source, x)
    if accumulate:
        op.require(16, "an accumulating assignment")
    wide = [op.cast(index, dtypes.INT64) for index in given]
    total = wide[0]
    for index in wide[1:]:
        total = op.Add(total, index)
    width = max(op.rank_of(index) for index in given)
    shape = op.Shape(total)
    places = op.Concat(
        *(op.unsqueeze(op.Expand(index, shape), [width]) for index in wide), axis=width
    )
    rest = op.sizes(op.shape_of(x)[len(given) :])
    values = op.Expand(op.cast(source, op.result()), op.Concat(shape, rest, axis=0))
    return op.ScatterND(x, places, values, reduction="add" if accumulate else None)


@translation("aten.unfold.default")
def unfold(op: TorchBuilder, x: Value, dim: int, size: int, step: int) -> Any:
    rank = op.rank_of(x)
    axis = dim % rank if rank else 0
    (length,) = static([op.shape_of(x)[axis]], "unfold")
    starts = np.arange(0, length - size + 1, step)
    windows = op.Gather(x, op.constant(starts[:, None] + np.arange(size), dtypes.INT64), axis=axis)
    order = [*range(axis + 1), *range(axis + 2, rank + 1), axis + 1]
    return op.Transpose(windows, perm=order)


def _masked(op: TorchBuilder, x: Value, indices: Sequence[Value | None]) -> Any:
    if len(indices) != 1 or indices[0] is None:
        raise ExportError(
            "a boolean mask beside other indices cannot be exported",
            hint="index with the mask alone, or use torch.where",
        )
    places = op.NonZero(op.cast(indices[0], dtypes.BOOL))
    return op.GatherND(x, op.Transpose(places, perm=[1, 0]))


@translation("aten.nonzero.default")
def nonzero(op: TorchBuilder, x: Value) -> Any:
    return op.Transpose(op.NonZero(x), perm=[1, 0])


@translation("aten.flip.default")
def flip(op: TorchBuilder, x: Value, dims: Sequence[int]) -> Any:
    for axis in positive(dims, op.rank_of(x)):
        x = op.slice(x, axis, -1, -_END, -1)
    return x


@translation("aten.roll.default")
def roll(op: TorchBuilder, x: Value, shifts: Any, dims: Any = ()) -> Any:
    shape = op.shape_of(x)
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
    if len(batch) == 1 and op.opset >= 11:
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
    return op.Trilu(x, op.scalar(diagonal, dtypes.INT64), upper=0)


@translation("aten.triu.default")
def triu(op: TorchBuilder, x: Value, diagonal: DimLike = 0) -> Any:
    return op.Trilu(x, op.scalar(diagonal, dtypes.INT64), upper=1)


_PAD_MODES: Final = {"reflect": "reflect", "replicate": "edge"}


@translation("aten.pad.default")
def pad(
    op: TorchBuilder, x: Value, pads: Sequence[DimLike], mode: str = "constant", value: Any = None
) -> Any:
    if all(amount == 0 for amount in pads):
        return x
    rank = op.rank_of(x)
    before: list[DimLike] = [0] * rank
    after: list[DimLike] = [0] * rank
    for index in range(len(pads) // 2):
        before[rank - 1 - index] = pads[2 * index]
        after[rank - 1 - index] = pads[2 * index + 1]
    if mode == "circular":
        return _wrapped(op, x, before, after)
    name = _PAD_MODES.get(mode)
    if name is None and mode != "constant":
        raise ExportError(f"padding mode {mode!r} is not known")
    if op.opset < 11:
        return op.Pad(
            x,
            pads=static([*before, *after], "pad"),
            mode=name,
            value=float(value) if value else None,
        )
    fill = op.scalar(value, op.result()) if value and name is None else None
    return op.Pad(x, op.sizes([*before, *after]), fill, mode=name)


def _wrapped(
    op: TorchBuilder, x: Value, before: Sequence[DimLike], after: Sequence[DimLike]
) -> Value:
    if op.opset >= 19:
        wrapped: Value = op.Pad(x, op.sizes([*before, *after]), None, mode="wrap")
        return wrapped
    for axis, (left, right) in enumerate(zip(before, after, strict=True)):
        parts = [] if left == 0 else [op.slice(x, axis, -1 * left, _END)]
        parts.append(x)
        if right != 0:
            parts.append(op.slice(x, axis, 0, right))
        if len(parts) > 1:
            x = op.Concat(*parts, axis=axis)
    return x


@translation("aten.constant_pad_nd.default")
def constant_pad(op: TorchBuilder, x: Value, pads: Sequence[DimLike], value: Any = 0) -> Any:
    return pad(op, x, pads, "constant", value)


@translation("aten.reflection_pad1d.default", "aten.reflection_pad2d.default",
             "aten.reflection_pad3d.default")  # fmt: skip
def reflection_pad(op: TorchBuilder, x: Value, pads: Sequence[DimLike]) -> Any:
    return pad(op, x, pads, "reflect")


@translation("aten.replication_pad1d.default", "aten.replication_pad2d.default",
             "aten.replication_pad3d.default")  # fmt: skip
def replication_pad(op: TorchBuilder, x: Value, pads: Sequence[DimLike]) -> Any:
    return pad(op, x, pads, "replicate")


@translation("aten.full.default", "aten.new_full.default")
def full(op: TorchBuilder, *args: Any, **_: Any) -> Any:
    return _filled(op, args[-1])


@translation("aten.full_like.default")
def full_like(op: TorchBuilder, _x: Value, value: TorchValue, **__: Any) -> Any:
    return _filled(op, value)


@translation("aten.zeros.default", "aten.zeros_like.default", "aten.new_zeros.default",
             "aten.empty.memory_format", "aten.empty_like.default", "aten.new_empty.default",
             "aten.empty_permuted.default")  # fmt: skip
def zeros(op: TorchBuilder, *_: Any, **__: Any) -> Any:
    return _filled(op, 0)


@translation("aten.ones.default", "aten.ones_like.default", "aten.new_ones.default")
def ones(op: TorchBuilder, *_: Any, **__: Any) -> Any:
    return _filled(op, 1)


@translation("aten.scalar_tensor.default")
def scalar_tensor(op: TorchBuilder, value: TorchValue, **_: Any) -> Any:
    return op.scalar(value, op.result())


def _filled(op: TorchBuilder, value: Any) -> Any:
    dtype = op.result()
    shape = known(op.result_shape)
    if shape is None:
        raise ExportError("a tensor of a shape that cannot be said")
    if shape == ():
        return op.scalar(value, dtype)
    if isinstance(value, (Value, Dim)) or op.opset < 9:
        return op.Expand(op.scalar(value, dtype), op.sizes(shape))
    from sardonyx.ir.tensor import ArrayTensor

    return op.ConstantOfShape(op.sizes(shape), value=ArrayTensor([value], dtype))


@translation("aten.arange.default", "aten.arange.start", "aten.arange.start_step")
def arange(op: TorchBuilder, *args: Any, **_: Any) -> Any:
    start, end, step = (0, args[0], 1) if len(args) == 1 else (*args, 1)[:3]
    dtype = op.result()
    if not any(isinstance(each, (Value, Dim)) for each in (start, end, step)):
        count = static([dim for dim in op.result_shape if dim is not None], "arange")[0]
        wide = np.float64 if dtype.is_floating else np.int64
        return op.constant(start + np.arange(count, dtype=wide) * step, dtype)
    return op.Range(*(op.scalar(each, dtype) for each in (start, end, step)))


@translation("aten.eye.default", "aten.eye.m")
def eye(op: TorchBuilder, *_: Any, **__: Any) -> Any:
    rows, columns = static([dim for dim in op.result_shape if dim is not None], "eye")
    return op.constant(np.eye(rows, columns), op.result())
