"""Embeddings, and bags of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sardonyx import dtypes
from sardonyx.export.torch.registry import TorchBuilder, known, translation
from sardonyx.export.torch.tensors import data_of

if TYPE_CHECKING:
    from sardonyx.dims import DimLike
    from sardonyx.dtypes import DType
    from sardonyx.ir.value import Value

__all__: list[str] = []

_SUM, _MEAN, _MAX = range(3)


@translation("aten.embedding_renorm.default")
def embedding_renorm(op: TorchBuilder, weight: Value, indices: Value, max_norm: float,
                     norm_type: float) -> Any:  # fmt: skip
    dtype = op.dtype_of(weight)
    width = op.shape_of(weight)[1]
    flat = op.typed(op.Reshape(indices, op.ints([-1])), op.dtype_of(indices), [None])
    rows = op.typed(op.Gather(weight, flat, axis=0), dtype, [None, width])
    if norm_type in {1, 2}:
        norms = op.reduce(f"L{int(norm_type)}", rows, [1], True)
    else:
        powers = op.Pow(op.Abs(rows), op.constant(norm_type, dtype))
        total = op.reduce("Sum", op.typed(powers, dtype, [None, width]), [1], True)
        norms = op.Pow(total, op.constant(1 / norm_type, dtype))
    limit = op.constant(max_norm, dtype)
    shrunk = op.Mul(rows, op.Div(limit, op.Add(norms, op.constant(1e-7, dtype))))
    kept = op.Where(op.Greater(norms, limit), shrunk, rows)
    return op.ScatterND(weight, op.unsqueeze(op.cast(flat, dtypes.INT64), [1]), kept)


@translation("aten._embedding_bag.default", "aten._embedding_bag_forward_only.default")
def embedding_bag(op: TorchBuilder, weight: Value, indices: Value, offsets: Value,
                  _scale_grad: bool = False, mode: int = 0, _sparse: bool = False,
                  samples: Value | None = None, last_offset: bool = False,
                  padding: int = -1) -> Any:  # fmt: skip
    dtype = op.dtype_of(weight)
    length = None if last_offset else _bag_length(op, indices, offsets)
    if length is not None and padding < 0:
        return _equal_bags(op, weight, indices, mode, samples, length), None, None, None
    op.require(18 if mode == _MAX else 16, "an embedding bag")
    count = op.shape_of(offsets)[0] - (1 if last_offset else 0)
    total, width = op.shape_of(indices)[0], op.shape_of(weight)[1]
    bags = _bag_of_each(op, offsets, count, total)
    rows = op.typed(op.Gather(weight, indices, axis=0), dtype, [total, width])
    if samples is not None:
        rows = op.Mul(rows, op.unsqueeze(samples, [1]))
    ones = op.Expand(op.constant(1, dtype), op.sizes([total]))
    if padding >= 0:
        same = op.Equal(indices, op.constant(padding, op.dtype_of(indices)))
        op.typed(same, dtypes.BOOL, [total])
        ones = op.Where(same, op.constant(0, dtype), op.constant(1, dtype))
        nothing = op.constant(-np.inf if mode == _MAX else 0, dtype)
        rows = op.Where(op.unsqueeze(same, [1]), nothing, rows)
    places = op.unsqueeze(bags, [1])
    sizes = op.ScatterND(_filled(op, 0, [count], dtype), places, ones, reduction="add")
    op.typed(sizes, dtype, [count])
    start = _filled(op, -np.inf if mode == _MAX else 0, [count, width], dtype)
    found = op.ScatterND(start, places, rows, reduction="max" if mode == _MAX else "add")
    if mode == _MEAN:
        found = op.Div(found, op.unsqueeze(op.Max(sizes, op.constant(1, dtype)), [1]))
    elif mode == _MAX:
        some = op.typed(op.Greater(sizes, op.constant(0, dtype)), dtypes.BOOL, [count])
        found = op.Where(op.unsqueeze(some, [1]), found, op.constant(0, dtype))
    others = (bags, op.cast(sizes, op.dtype_of(offsets)))
    # which of these torch computes depends on the mode: others are empty
    kept = [
        value if known(shape) == value.shape else None
        for value, shape in zip(others, op.result_shapes[1:], strict=False)
    ]
    return found, *kept, None


def _filled(op: TorchBuilder, value: float, shape: list[DimLike], dtype: DType) -> Value:
    filled: Value = op.Expand(op.constant(value, dtype), op.sizes(shape))
    return filled


def _bag_of_each(op: TorchBuilder, offsets: Value, count: DimLike, total: DimLike) -> Value:
    """Which bag each index is in: how many bags begin at it or before, less one."""
    begun = op.ScatterElements(
        _filled(op, 0, [total + 1], dtypes.INT64),
        op.cast(op.slice(offsets, 0, 0, count), dtypes.INT64),
        _filled(op, 1, [count], dtypes.INT64),
        reduction="add",
    )
    summed = op.CumSum(op.slice(begun, 0, 0, total), op.constant(0, dtypes.INT64))
    less = op.Sub(summed, op.constant(1, dtypes.INT64))
    return op.typed(less, dtypes.INT64, [total])


def _bag_length(op: TorchBuilder, indices: Value, offsets: Value) -> int | None:
    """The length of every bag where they are of one that is known."""
    total, count = op.shape_of(indices)[0], op.shape_of(offsets)[0]
    data = data_of(offsets)
    if data is not None:
        starts = [int(start) for start in data]
        if not starts or not isinstance(total, int) or total % len(starts):
            return None
        length = total // len(starts)
        return length if length and starts == list(range(0, total, length)) else None
    node = offsets.producer
    if node is None or node.op_type != "Range" or len(node.inputs) != 3:
        return None
    first, step = node.inputs[0], node.inputs[2]
    if first is None or step is None:
        return None
    begin, stride = data_of(first), data_of(step)
    if begin is None or stride is None or int(begin) != 0 or total != count * int(stride):
        return None
    return int(stride)


def _equal_bags(op: TorchBuilder, weight: Value, indices: Value, mode: int,
                samples: Value | None, length: int) -> Value:  # fmt: skip
    dtype = op.dtype_of(weight)
    count, width = op.result_shapes[0]
    table = op.Reshape(indices, op.ints([-1, length]))
    rows = op.Gather(weight, table, axis=0)
    if samples is not None:
        rows = op.Mul(rows, op.Reshape(samples, op.ints([-1, length, 1])))
    op.typed(rows, dtype, [count, length, width])
    return op.reduce({_SUM: "Sum", _MEAN: "Mean", _MAX: "Max"}[mode], rows, [1], False)
