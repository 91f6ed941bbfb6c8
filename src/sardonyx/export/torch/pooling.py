"""Pools: maximum, average, adaptive, fractional, and their inverses."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from sardonyx import dtypes
from sardonyx.dims import Dim
from sardonyx.export.torch.convolution import batched, each, through_double
from sardonyx.export.torch.indexing import empty
from sardonyx.export.torch.registry import TorchBuilder, product, static, translation
from sardonyx.ir.types import TensorType

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sardonyx.dims import DimLike
    from sardonyx.ir.value import Value

__all__: list[str] = []

Sizes = Any

_INTEGERS_OF_MAXPOOL = frozenset({dtypes.INT8, dtypes.UINT8})


def _end_pads(op: TorchBuilder, x: Value, kernel: Sequence[int], stride: Sequence[int],
              padding: Sequence[int], dilation: Sequence[int]) -> list[int] | None:  # fmt: skip
    """The padding at the end that gives the sizes that torch computes with ceil_mode.

    None where it depends on a dynamic size and no fixed padding does.
    """
    count = len(kernel)
    sizes, outputs = op.shape_of(x)[-count:], op.result_shape[-count:]
    found = []
    for size, out, window, step, pad, spread in zip(
        sizes, outputs, kernel, stride, padding, dilation, strict=True
    ):
        span = spread * (window - 1) + 1
        if isinstance(size, int) and isinstance(out, int):
            found.append(max((out - 1) * step + span - size - pad, 0))
        elif pad + step - 1 < window:
            # no window begins beyond the elements, so that rounding down is rounding up
            found.append(pad + step - 1)
        else:
            return None
    return found


def _max_pool(op: TorchBuilder, x: Value, kernel: Sizes, stride: Sizes, padding: Sizes,
              dilation: Sizes, ceil_mode: bool, spatial: int, indices: bool) -> Any:  # fmt: skip
    window = each(kernel, spatial)
    step = each(stride, spatial) if stride else window
    pads, spread = each(padding, spatial), each(dilation, spatial)
    dilated = any(one != 1 for one in spread)
    if dilated:
        op.require(10, "a dilated max pool")
    ends = _end_pads(op, x, window, step, pads, spread) if ceil_mode else pads
    if ends is None:
        op.require(10, "ceil_mode with dynamic sizes")
    attributes = {
        "kernel_shape": window,
        "strides": step,
        "pads": [*pads, *(pads if ends is None else ends)],
        "dilations": spread if dilated else None,
        "ceil_mode": 1 if ends is None else None,
    }
    dtype = op.result()
    direct = dtype.is_floating or (op.opset >= 12 and dtype in _INTEGERS_OF_MAXPOOL)
    is_batched = op.rank_of(x) == spatial + 2
    wide = x if direct else op.cast(x, dtypes.DOUBLE)
    wide = wide if is_batched else op.unsqueeze(wide, [0])
    if not indices:
        values = op.MaxPool(wide, **attributes)
        values = values if is_batched else op.squeeze(values, [0])
        return values if direct else op.cast(values, dtype)
    op.require(10, "a max pool with indices")
    values, places = op.MaxPool(wide, _outputs=2, **attributes)
    plane = op.scalar(product(op.shape_of(x)[-spatial:]), dtypes.INT64)
    places = op.Mod(places, plane)
    if not is_batched:
        values, places = op.squeeze(values, [0]), op.squeeze(places, [0])
    return (values if direct else op.cast(values, dtype)), places


def _register_pools(spatial: int) -> None:
    @translation(f"aten.max_pool{spatial}d.default")
    def max_pool(op: TorchBuilder, x: Value, kernel: Sizes, stride: Sizes = (), padding: Sizes = 0,
                 dilation: Sizes = 1, ceil_mode: bool = False) -> Any:  # fmt: skip
        return _max_pool(op, x, kernel, stride, padding, dilation, ceil_mode, spatial, False)

    @translation(f"aten.max_pool{spatial}d_with_indices.default")
    def max_pool_indices(op: TorchBuilder, x: Value, kernel: Sizes, stride: Sizes = (),
                         padding: Sizes = 0, dilation: Sizes = 1,
                         ceil_mode: bool = False) -> Any:  # fmt: skip
        return _max_pool(op, x, kernel, stride, padding, dilation, ceil_mode, spatial, True)

    @translation(f"aten.avg_pool{spatial}d.default")
    def avg_pool(op: TorchBuilder, x: Value, kernel: Sizes, stride: Sizes = (), padding: Sizes = 0,
                 ceil_mode: bool = False, count_include_pad: bool = True,
                 divisor_override: int | None = None) -> Any:  # fmt: skip
        return _avg_pool(
            op, x, spatial, kernel, stride, padding, ceil_mode, count_include_pad, divisor_override
        )

    @translation(f"aten.adaptive_avg_pool{spatial}d.default",
                 f"aten._adaptive_avg_pool{spatial}d.default")  # fmt: skip
    def adaptive_avg_pool(op: TorchBuilder, x: Value, size: Sizes) -> Any:
        nothing = empty(op)
        if nothing is not None:
            return nothing
        return _adaptive(op, x, each(size, spatial), "Average")

    @translation(f"aten.adaptive_max_pool{spatial}d.default")
    def adaptive_max_pool(op: TorchBuilder, x: Value, size: Sizes) -> Any:
        return _adaptive_with_places(op, x, each(size, spatial))

    @translation(f"aten.max_unpool{spatial}d.default")
    def max_unpool(op: TorchBuilder, x: Value, places: Value, size: Sizes, *_: Any) -> Any:
        return _unpool(op, x, places, spatial)


for _spatial in (1, 2, 3):
    _register_pools(_spatial)


def _avg_pool(op: TorchBuilder, x: Value, spatial: int, kernel: Sizes, stride: Sizes,
              padding: Sizes, ceil_mode: bool, include: bool,
              divisor: int | None) -> Any:  # fmt: skip
    window = each(kernel, spatial)
    step = each(stride, spatial) if stride else window
    pads = each(padding, spatial)
    ends: list[int] | None = pads
    counted = include or divisor is not None
    apart = False
    if ceil_mode:
        ends = _end_pads(op, x, window, step, pads, [1] * spatial)
        if ends is None:
            op.require(10, "ceil_mode of an average pool")
        if divisor is None and ends != pads:
            # what ceil_mode adds at the end is never counted; padding is, where `include`
            apart, counted = include and any(pads), False

    def pool(x: Value) -> Value:
        before, after = pads, pads if ends is None else ends
        if apart:
            x = _padded(op, x, pads)
            after = [max(end - pad, 0) for end, pad in zip(after, pads, strict=True)]
            before = [0] * spatial
        pooled: Value = op.AveragePool(
            x,
            kernel_shape=window,
            strides=step,
            pads=[*before, *after],
            count_include_pad=int(counted),
            ceil_mode=1 if ends is None else None,
        )
        if divisor is None:
            return pooled
        scaled: Value = op.Mul(pooled, op.constant(math.prod(window) / divisor, op.dtype_of(x)))
        return scaled

    return through_double(op, (x,), lambda x: batched(op, x, spatial, pool))


def _padded(op: TorchBuilder, x: Value, pads: Sequence[int]) -> Value:
    both = [0, 0, *pads] * 2
    padded: Value = op.Pad(x, pads=both) if op.opset < 11 else op.Pad(x, op.ints(both))
    padded.type = TensorType(op.dtype_of(x), None)
    return padded


def _adaptive(op: TorchBuilder, x: Value, outputs: Sequence[int | None], kind: str) -> Value:
    spatial = len(outputs)
    sizes = op.shape_of(x)[-spatial:]
    wanted = [size if out is None else out for size, out in zip(sizes, outputs, strict=True)]
    if tuple(wanted) == tuple(sizes):
        return x
    if all(out == 1 for out in wanted):
        whole: Callable[[Value], Value] = getattr(op, f"Global{kind}Pool")
        return batched(op, x, spatial, whole)
    exact = [_exact(size, out) for size, out in zip(sizes, wanted, strict=True)]
    if all(exact):
        pool: Callable[..., Value] = getattr(op, f"{kind}Pool")
        return batched(op, x, spatial, lambda x: pool(x, kernel_shape=exact, strides=exact))
    rank = op.rank_of(x)
    for index, (size, out) in enumerate(zip(sizes, wanted, strict=True)):
        if size != out:
            (count,) = static([out], "an adaptive pool's output")
            shape = list(op.shape_of(x))
            axis = rank - spatial + index
            shape[axis] = count
            one = _averaged if kind == "Average" else _greatest
            x = op.typed(one(op, x, axis, size, count), op.dtype_of(x), shape)
    return x


def _exact(size: DimLike, count: DimLike) -> int:
    """The length of `count` equal windows over `size`; 0 where they are not equal."""
    if isinstance(size, Dim) or isinstance(count, Dim) or size % count:
        return 0
    return size // count


def _bounds(size: int, count: int) -> list[tuple[int, int]]:
    return [(i * size // count, -(-(i + 1) * size // count)) for i in range(count)]


def _members(op: TorchBuilder, size: DimLike, count: int) -> tuple[Value, Value]:
    """Whether each of `count` windows has each of `size` elements, and the windows' lengths."""
    numbers = np.arange(count).reshape(count, 1)
    total = op.scalar(size, dtypes.INT64)
    divisor = op.constant(count, dtypes.INT64)
    first = op.Div(op.Mul(op.constant(numbers, dtypes.INT64), total), divisor)
    upper = op.Mul(op.constant(numbers + 1, dtypes.INT64), total)
    end = op.Div(op.Add(upper, op.constant(count - 1, dtypes.INT64)), divisor)
    places = op.Range(op.constant(0, dtypes.INT64), total, op.constant(1, dtypes.INT64))
    inside = op.And(op.Not(op.Less(places, first)), op.Less(places, end))
    return op.typed(inside, dtypes.BOOL, [count, size]), op.typed(
        op.Sub(end, first), dtypes.INT64, [count, 1]
    )


def _averaged(op: TorchBuilder, x: Value, axis: int, size: DimLike, count: int) -> Value:
    """The mean over each of `count` windows along `axis`: a product with a matrix."""
    dtype, rank, shape = op.dtype_of(x), op.rank_of(x), op.shape_of(x)
    if isinstance(size, Dim):
        inside, lengths = _members(op, size, count)
        matrix = op.Div(op.cast(inside, dtype), op.cast(lengths, dtype))
    else:
        weights = np.zeros((count, size))
        for row, (first, end) in enumerate(_bounds(size, count)):
            weights[row, first:end] = 1 / (end - first)
        if axis == rank - 1:
            last: Value = op.MatMul(x, op.constant(weights.T, dtype))
            return last
        matrix = op.constant(weights, dtype)
    if axis >= rank - 2:
        turned = op.Transpose(matrix, perm=[1, 0]) if axis == rank - 1 else matrix
        made: Value = op.MatMul(x, turned) if axis == rank - 1 else op.MatMul(matrix, x)
        return made
    flat = op.MatMul(matrix, op.reshape(x, [*shape[: axis + 1], product(shape[axis + 1 :])]))
    op.typed(flat, dtype, [*shape[:axis], count, product(shape[axis + 1 :])])
    return op.reshape(flat, [*shape[:axis], count, *shape[axis + 1 :]])


def _greatest(op: TorchBuilder, x: Value, axis: int, size: DimLike, count: int) -> Value:
    """The maximum over each of `count` windows along `axis`."""
    dtype, shape = op.dtype_of(x), op.shape_of(x)
    if not isinstance(size, Dim):
        spans = _bounds(size, count)
        width = max(last - first for first, last in spans)
        places = [[min(first + i, last - 1) for i in range(width)] for first, last in spans]
        windows = op.Gather(x, op.constant(places, dtypes.INT64), axis=axis)
        op.typed(windows, dtype, [*shape[:axis], count, width, *shape[axis + 1 :]])
        return op.reduce("Max", windows, [axis + 1], False)
    inside, _ = _members(op, size, count)
    trailing = len(shape) - axis - 1
    mask = op.unsqueeze(inside, list(range(2, 2 + trailing)))
    lowest = op.constant(-np.inf, dtype)
    windows = op.Where(mask, op.unsqueeze(x, [axis]), lowest)
    op.typed(windows, dtype, [*shape[:axis], count, *shape[axis:]])
    return op.reduce("Max", windows, [axis + 1], False)


def _adaptive_with_places(op: TorchBuilder, x: Value, outputs: Sequence[int]) -> Any:
    spatial = len(outputs)
    shape = op.shape_of(x)
    sizes = shape[-spatial:]
    values = _adaptive(op, x, outputs, "Max")
    if any(isinstance(size, Dim) for size in sizes):
        front = list(shape[:-spatial])
        if any(out != 1 for out in outputs):
            return values, _dynamic_places(op, x, sizes, outputs)
        flat = op.typed(op.reshape(x, [*front, product(sizes)]), op.dtype_of(x), [*front, None])
        places = op.ArgMax(flat, axis=len(front), keepdims=0)
        return values, op.unsqueeze(
            op.typed(places, dtypes.INT64, front), list(range(len(front), len(shape)))
        )
    windows = [
        _places(size, out)
        for size, out in zip(static(sizes, "an adaptive pool"), outputs, strict=True)
    ]
    table = np.zeros((1, 1), np.int64)
    for size, one in zip(static(sizes, "an adaptive pool"), windows, strict=True):
        # the flat places of windows over one more axis
        rows = table[:, None, :, None] * size + one[None, :, None, :]
        table = rows.reshape(table.shape[0] * one.shape[0], -1)
    return values, _first_greatest(op, x, table, outputs)


def _dynamic_places(
    op: TorchBuilder, x: Value, sizes: Sequence[DimLike], outputs: Sequence[int]
) -> Value:
    """Where in its plane the maximum of each window is, for sizes that are not known."""
    shape, spatial = op.shape_of(x), len(outputs)
    front = list(shape[: len(shape) - spatial])
    inside: Any = None
    for axis, (size, count) in enumerate(zip(sizes, outputs, strict=True)):
        # [1, …, count, …, 1, 1, …, size, …, 1]
        one, _ = _members(op, size, count)
        kept = {axis, spatial + axis}
        one = op.unsqueeze(one, [each for each in range(2 * spatial) if each not in kept])
        inside = one if inside is None else op.And(inside, one)
    flat = op.reshape(x, [*front, 1, product(sizes)])
    mask = op.typed(inside, dtypes.BOOL, [*outputs, *sizes])
    many = math.prod(outputs)
    windows = op.Where(op.reshape(mask, [many, product(sizes)]), flat,
                       op.constant(-np.inf, op.dtype_of(x)))  # fmt: skip
    places = op.ArgMax(windows, axis=len(front) + 1, keepdims=0)
    op.typed(places, dtypes.INT64, [*front, many])
    return op.reshape(places, [*front, *outputs])


def _places(size: int, count: int) -> Any:
    spans = _bounds(size, count)
    width = max(last - first for first, last in spans)
    return np.array([[min(first + i, last - 1) for i in range(width)] for first, last in spans])


def _first_greatest(op: TorchBuilder, x: Value, table: Any, outputs: Sequence[int]) -> Value:
    """Where in its plane the maximum of each window is; `table`: the windows' flat places."""
    shape = op.shape_of(x)
    front = list(shape[: len(shape) - len(outputs)])
    flat = op.reshape(x, [*front, product(shape[len(front) :])])
    windows = op.Gather(flat, op.constant(table, dtypes.INT64), axis=len(front))
    chosen = op.ArgMax(windows, axis=len(front) + 1, keepdims=0)
    starts = op.constant(np.arange(len(table)) * table.shape[1], dtypes.INT64)
    found = op.Gather(op.constant(table.reshape(-1), dtypes.INT64), op.Add(chosen, starts))
    op.typed(found, dtypes.INT64, [*front, len(table)])
    return op.reshape(found, [*front, *outputs])


def _unpool(op: TorchBuilder, x: Value, places: Value, spatial: int) -> Value:
    """Each element at its place in a plane of zeros."""
    shape, wanted = op.shape_of(x), op.result_shape
    front = list(shape[: len(shape) - spatial])
    plane = product([dim for dim in wanted[len(front) :] if dim is not None])
    many = product(shape[len(front) :])
    dtype = op.result()
    zeros = op.Expand(op.constant(0, dtype), op.sizes([*front, plane]))
    spread = op.ScatterElements(
        zeros,
        op.reshape(places, [*front, many]),
        op.reshape(x, [*front, many]),
        axis=len(front),
    )
    op.typed(spread, dtype, [*front, plane])
    return op.reshape(spread, [dim for dim in wanted if dim is not None])


@translation("aten.fractional_max_pool2d.default", "aten.fractional_max_pool3d.default")
def fractional_max_pool(op: TorchBuilder, x: Value, kernel: Sizes, outputs: Sizes,
                        samples: Value) -> Any:  # fmt: skip
    spatial = op.rank_of(x) - op.rank_of(samples) + 1
    if op.rank_of(x) == spatial + 1:
        found = _fractional(op, op.unsqueeze(x, [0]), kernel, outputs, samples, spatial)
        return op.squeeze(found[0], [0]), op.squeeze(found[1], [0])
    return _fractional(op, x, kernel, outputs, samples, spatial)


def _fractional(op: TorchBuilder, x: Value, kernel: Sizes, outputs: Sizes, samples: Value,
                spatial: int) -> tuple[Value, Value]:  # fmt: skip
    windows, counts = each(kernel, spatial), each(outputs, spatial)
    shape = op.shape_of(x)
    front = list(shape[:2])
    sizes = shape[2:]
    dtype = op.dtype_of(x)
    flat_places: Any = None
    for axis, (size, window, count) in enumerate(zip(sizes, windows, counts, strict=True)):
        # the samples of a plane are for its columns first, those of a volume for its depth
        column = spatial - 1 - axis if spatial == 2 else axis
        sample = op.slice(samples, 2, column, column + 1)
        starts = _starts(op, sample, size, window, count, dtype)
        places = op.Add(
            op.unsqueeze(op.typed(starts, dtypes.INT64, [*front, count]), [3]),
            op.constant(np.arange(window), dtypes.INT64),
        )
        shaped: list[int] = [0, 0, *[1] * (2 * spatial)]
        shaped[2 + axis], shaped[2 + spatial + axis] = count, window
        places = op.Reshape(places, op.ints(shaped))
        stride = product(sizes[axis + 1 :])
        if stride != 1:
            places = op.Mul(places, op.scalar(stride, dtypes.INT64))
        flat_places = places if flat_places is None else op.Add(flat_places, places)
    many, inside = math.prod(counts), math.prod(windows)
    flat_places = op.Reshape(flat_places, op.ints([0, 0, many * inside]))
    flat = op.reshape(x, [*front, product(sizes)])
    gathered = op.GatherElements(flat, flat_places, axis=2)
    elements = op.Reshape(gathered, op.ints([0, 0, many, inside]))
    op.typed(elements, dtype, [*front, many, inside])
    values = op.reduce("Max", elements, [3], False)
    chosen = op.ArgMax(elements, axis=3, keepdims=1)
    listed = op.Reshape(flat_places, op.ints([0, 0, many, inside]))
    found = op.typed(op.GatherElements(listed, chosen, axis=3), dtypes.INT64, [*front, many, 1])
    result = [*front, *counts]
    return op.reshape(values, result), op.reshape(found, result)


def _starts(op: TorchBuilder, sample: Value, size: DimLike, window: int, count: int,
            dtype: Any) -> Value:  # fmt: skip
    last: Value = op.Add(
        op.Mul(op.cast(sample, dtypes.INT64), op.constant(0, dtypes.INT64)),
        op.scalar(size - window, dtypes.INT64),
    )
    if count == 1:
        return last
    if isinstance(size, Dim):
        step = op.Div(op.scalar(size - window, dtype), op.constant(count - 1, dtype))
    else:
        step = op.constant((size - window) / (count - 1), dtype)
    numbers = op.constant(np.arange(count - 1), dtype)
    begun = op.Cast(op.Mul(op.Add(sample, numbers), step), to=dtypes.INT64.code)
    offset = op.Cast(op.Mul(sample, step), to=dtypes.INT64.code)
    joined: Value = op.Concat(op.Sub(begun, offset), last, axis=2)
    return joined


@translation("aten.max_pool2d_with_indices_backward.default")
def max_pool_backward(op: TorchBuilder, gradient: Value, x: Value, kernel: Sizes, stride: Sizes,
                      padding: Sizes, dilation: Sizes, ceil_mode: bool,
                      places: Value) -> Any:  # fmt: skip
    op.require(16, "the gradient of a max pool")
    shape, pooled, dtype = list(op.shape_of(x)), op.shape_of(gradient), op.result()
    front, plane, many = shape[:-2], product(shape[-2:]), product(pooled[-2:])
    zeros = op.Expand(op.constant(0, dtype), op.sizes([*front, plane]))
    spread = op.ScatterElements(
        zeros,
        op.reshape(places, [*front, many]),
        op.reshape(gradient, [*front, many]),
        axis=len(front),
        reduction="add",
    )
    return op.reshape(op.typed(spread, dtype, [*front, plane]), shape)
