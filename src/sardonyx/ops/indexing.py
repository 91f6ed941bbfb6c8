"""Operators that pick elements by index."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sardonyx.dims import Dim
from sardonyx.dtypes import BOOL, INT64
from sardonyx.errors import ExecutionError, InferenceError
from sardonyx.ir.types import shape_text
from sardonyx.ops import types
from sardonyx.ops.fact import Fact
from sardonyx.ops.moving import moved_back
from sardonyx.ops.operator import Operator, same_as
from sardonyx.ops.schema import Input, Output, attribute, past
from sardonyx.ops.symbolic import check_size, most_of, normalized, product, unify, unknown

if TYPE_CHECKING:
    from sardonyx.ir.tensor import Array
    from sardonyx.ir.types import DimLike
    from sardonyx.ir.value import Value
    from sardonyx.ops.operator import Values
    from sardonyx.ops.writer import Writer


__all__ = ["grid_key", "inside", "same_rank"]


def inside(op_type: str, indices: Array, size: int) -> Array:
    """`indices` as int64 counted from the front; raises `ExecutionError` where one is outside."""
    places = indices.astype(np.int64)
    if places.size and not (-size <= places.min() and places.max() < size):
        raise ExecutionError(f"{op_type} index outside [-{size}, {size - 1}]")
    return np.where(places < 0, places + size, places)


class Gather(Operator, since=13):
    """The slices of `data` that `indices` names along `axis`."""

    data, indices = Input("T", "Rank r >= 1."), Input("Tind", "Any rank q.")
    output = Output("T", "Rank q + r - 1.")
    T, Tind = types.ALL_BFLOAT16, types.INDICES
    axis: int = 0
    history = past(11, T=types.ALL_BEFORE_BFLOAT16), past(1)
    moves_data = True

    def infer(self, data: Fact, indices: Fact) -> Fact:
        if data.shape is None or indices.shape is None:
            return Fact.tensor(data.dtype)
        axis = normalized("Gather", self.axis, len(data.shape))
        return Fact.tensor(
            data.dtype, (*data.shape[:axis], *indices.shape, *data.shape[axis + 1 :])
        )

    def reference(self, data: Array, indices: Array) -> Array:
        axis = normalized("Gather", self.axis, data.ndim)
        shape = (*data.shape[:axis], *indices.shape, *data.shape[axis + 1 :])
        check_size("Gather", shape, data.itemsize)
        places = inside("Gather", indices, data.shape[axis])
        return np.asarray(np.take(data, places, axis)).reshape(shape)

    def gradient(self, op: Writer, grads: Values, inputs: Values, outputs: Values) -> Values:
        (dy,), (x, indices) = grads, inputs
        rank, width = op.rank(x), op.rank(indices)
        axis = normalized("Gather", self.axis, rank)
        # the axis goes in front, so that each index names a whole slice
        order = [axis, *(each for each in range(rank) if each != axis)]
        picked = range(axis, axis + width)
        rest = [each for each in range(rank - 1 + width) if each not in picked]
        moved = dy if axis == 0 else op.Transpose(dy, perm=[*picked, *rest])
        whole = op.zeros(op.size(x, *order), x)
        places = op.Unsqueeze(op.cast(indices, INT64), [-1])
        if _are_distinct(op, indices):
            found = op.ScatterND(whole, places, moved)
        elif op.scatters_add:
            found = op.ScatterND(whole, places, moved, reduction="add")
        else:
            found = _added_by_product(op, whole, indices, moved)
        back = [order.index(each) for each in range(rank)]
        return [found if axis == 0 else op.Transpose(found, perm=back), None]


def _added_by_product(op: Writer, whole: Value, indices: Value, slices: Value) -> Value:
    """`slices` added up in the shape of `whole`, by a product with the one-hot `indices`."""
    count = op.size(whole, 0)
    pair = np.array([0, 1], op.dtype(slices).numpy)
    rows = op.OneHot(op.Reshape(indices, [-1]), count, pair, axis=0)
    flat = op.Reshape(slices, op.sizes(op.Reshape(op.Size(indices), [1]), -1))
    return op.reshaped(op.MatMul(rows, flat), whole)


def _are_distinct(op: Writer, indices: Value) -> bool:
    """Whether no element is picked twice, as far as is known."""
    known = op.known_ints(indices)
    if known is None or len(known) == 1:
        return op.rank(indices) == 0 or known is not None
    return min(known, default=0) >= 0 and len(set(known)) == len(known)


def _grid(indices: Array, axis: int) -> tuple[Any, ...]:
    """The key that indexes `axis` by `indices` and every other axis by position."""
    key: list[Any] = list(np.ogrid[tuple(slice(0, size) for size in indices.shape)])
    key[axis] = indices
    return tuple(key)


def same_rank(op_type: str, data: Fact, indices: Fact) -> None:
    """Raise `InferenceError` where both ranks are known and differ."""
    if data.rank is not None and indices.rank is not None and data.rank != indices.rank:
        raise InferenceError(
            f"{op_type} requires data and indices of one rank, got {shape_text(data.shape)} "
            f"and {shape_text(indices.shape)}"
        )


def grid_key(op_type: str, data: Array, indices: Array, axis: int) -> tuple[Any, ...]:
    """What selects, in `data`, the elements that `indices` name along `axis`."""
    same_rank(op_type, Fact.tensor(None, data.shape), Fact.tensor(None, indices.shape))
    axis = normalized(op_type, axis, data.ndim)
    pairs = enumerate(zip(indices.shape, data.shape, strict=True))
    if any(index != axis and mine > theirs for index, (mine, theirs) in pairs):
        raise ExecutionError(
            f"{op_type}: indices of shape {list(indices.shape)} reach beyond data of shape "
            f"{list(data.shape)}"
        )
    return _grid(inside(op_type, indices, data.shape[axis]), axis)


class GatherElements(Operator, since=13):
    """For each element of `indices`, the element of `data` there along `axis`."""

    data, indices = Input("T"), Input("Tind")
    output = Output("T")
    T, Tind = types.ALL_BFLOAT16, types.INDICES
    axis: int = 0
    history = (past(11, T=types.ALL_BEFORE_BFLOAT16),)
    moves_data = True

    def infer(self, data: Fact, indices: Fact) -> Fact:
        same_rank("GatherElements", data, indices)
        if data.rank is not None:
            normalized("GatherElements", self.axis, data.rank)
        return Fact.tensor(data.dtype, indices.shape)

    def reference(self, data: Array, indices: Array) -> Array:
        return np.asarray(data[grid_key("GatherElements", data, indices, self.axis)])

    def gradient(self, op: Writer, grads: Values, inputs: Values, outputs: Values) -> Values:
        (dy,), (x, indices) = grads, inputs
        picked = op.fact(indices).shape
        if picked is not None and picked[self.axis] == 1:
            return [op.ScatterElements(op.zeros_like(x), indices, dy, axis=self.axis), None]
        whole = op.zeros_like(x)
        return [op.ScatterElements(whole, indices, dy, axis=self.axis, reduction="add"), None]


class GatherND(Operator, since=13):
    """The slices of `data` that the tuples in the last dimension of `indices` name.

    The first `batch_dims` dimensions of both go together.
    """

    data, indices = Input("T"), Input((INT64,))
    output = Output("T")
    T = types.ALL_BFLOAT16
    batch_dims: int = attribute(0, since=12)
    history = past(12, T=types.ALL_BEFORE_BFLOAT16), past(11)
    moves_data = True

    def infer(self, data: Fact, indices: Fact) -> Fact:
        if data.shape is None or indices.shape is None:
            return Fact.tensor(data.dtype)
        batch, width = self.batch_dims, indices.shape[-1] if indices.shape else 0
        if not indices.shape or not 0 <= batch < min(len(data.shape) + 1, len(indices.shape)):
            raise InferenceError(
                f"GatherND cannot pick with indices {shape_text(indices.shape)} and batch_dims "
                f"{batch} from data {shape_text(data.shape)}"
            )
        if not isinstance(width, int):
            # an index names from none to all of the axes after the batch dimensions
            if len(data.shape) == batch:
                return Fact.tensor(data.dtype, indices.shape[:-1])
            return Fact.tensor(data.dtype)
        if batch + width > len(data.shape):
            raise InferenceError(
                f"GatherND indices {shape_text(indices.shape)} name {width} axes after "
                f"{batch} batch dimensions, data {shape_text(data.shape)} has fewer"
            )
        together = [
            unify(a, b) for a, b in zip(data.shape[:batch], indices.shape[:batch], strict=True)
        ]
        return Fact.tensor(
            data.dtype, (*together, *indices.shape[batch:-1], *data.shape[batch + width :])
        )

    def reference(self, data: Array, indices: Array) -> Array:
        self.infer(Fact.tensor(None, data.shape), Fact.tensor(None, indices.shape))
        batch, width = self.batch_dims, indices.shape[-1]
        shape = (*indices.shape[:-1], *data.shape[batch + width :])
        check_size("GatherND", shape, data.itemsize)
        outer = indices.shape[:-1]
        lead = np.ogrid[tuple(slice(0, size) for size in outer)][:batch] if batch else ()
        picked = [inside("GatherND", indices[..., k], data.shape[batch + k]) for k in range(width)]
        # an axis of size 1 in front, so that there is an index even where width is 0
        key = (np.zeros(outer, np.int64), *lead, *picked)
        return np.asarray(data[np.newaxis][key], data.dtype)

    def gradient(self, op: Writer, grads: Values, inputs: Values, outputs: Values) -> Values:
        (dy,), (x, indices) = grads, inputs
        if self.batch_dims == 0:
            return [op.ScatterND(op.zeros_like(x), indices, dy, reduction="add"), None]

        def pick(places: Value) -> Value:
            result: Value = op.GatherND(places, indices, batch_dims=self.batch_dims)
            return result

        return [moved_back(op, dy, x, pick), None]


class OneHot(Operator, since=28):
    """A new axis of size `depth` with values[1] at each index and values[0] elsewhere.

    Indices outside [-depth, depth - 1] (before opset 11 [0, depth - 1]) give values[0] only.
    """

    indices, depth, values = Input("T1"), Input("T2"), Input("T3")
    output = Output("T3")
    T1, T2, T3 = types.NUMERIC, types.NUMERIC, types.ALL_BFLOAT16
    axis: int = -1
    history = past(11, T3=types.ALL_BEFORE_BFLOAT16), past(9)

    def infer(self, indices: Fact, depth: Fact, values: Fact) -> Fact:
        if indices.shape is None:
            return Fact.tensor(values.dtype)
        axis = normalized("OneHot", self.axis, len(indices.shape) + 1)
        size = None
        if depth.dtype is not None and depth.dtype.is_integer:
            sizes = depth.dims_value() or [None]
            size = sizes[0] if len(sizes) == 1 else None
        elif (known := depth.constant_value()) is not None and known.size == 1:
            size = _whole("OneHot depth", known)
        elif depth.value is not None and depth.value.size == 1:
            item = depth.value.reshape(-1)[0]
            size = item if isinstance(item, Dim) else None
        if isinstance(size, int) and size < 0:
            raise InferenceError(f"OneHot requires depth >= 0, got {size}")
        return Fact.tensor(values.dtype, (*indices.shape[:axis], size, *indices.shape[axis:]))

    def reference(self, indices: Array, depth: Array, values: Array) -> Array:
        size = _whole("OneHot depth", depth)
        if values.shape != (2,):
            raise ExecutionError(f"OneHot requires two values, got shape {list(values.shape)}")
        axis = normalized("OneHot", self.axis, indices.ndim + 1)
        check_size("OneHot", (*indices.shape[:axis], size, *indices.shape[axis:]), values.itemsize)
        places = np.trunc(indices) if indices.dtype.kind == "f" else indices
        if indices.dtype.kind != "u" and self.version >= 11:
            wide = places.astype(np.float64 if indices.dtype.kind == "f" else np.int64)
            places = np.where(wide < 0, wide + size, wide)
        is_on = np.expand_dims(places, axis) == np.arange(size).reshape(
            (size,) + (1,) * (indices.ndim - axis)
        )
        result = np.empty(is_on.shape, values.dtype)
        result[...] = values[0]
        result[is_on] = values[1]
        return result

    def gradient(self, op: Writer, grads: Values, inputs: Values, outputs: Values) -> Values:
        (dy,), (indices, depth, values) = grads, inputs
        axis = normalized("OneHot", self.axis, op.rank(indices) + 1)
        on = op.OneHot(indices, depth, np.array([0, 1], op.dtype(values).numpy), axis=axis)
        total, rest = (
            op.Reshape(op.ReduceSum(each, keepdims=0), [1])
            for each in (op.Mul(dy, on), op.Mul(dy, op.Sub(1.0, on)))
        )
        return [None, None, op.Concat(rest, total, axis=0)]


def _whole(what: str, array: Array) -> int:
    """The one element of `array` as an int."""
    if array.size != 1:
        raise ExecutionError(f"{what} requires one element, got shape {list(array.shape)}")
    try:
        return int(array.reshape(-1)[0])
    except (ValueError, OverflowError):
        raise ExecutionError(f"{what} is {array.reshape(-1)[0]}, not a number") from None


class NonZero(Operator, since=13):
    """The indices of the elements that are not zero, a column each, in row-major order."""

    X, Y = Input("T"), Output((INT64,))
    T = types.ALL_BFLOAT16
    history = (past(9, T=types.ALL_BEFORE_BFLOAT16),)

    def infer(self, X: Fact) -> Fact:
        most = None if X.shape is None else most_of(product(X.shape))
        count = unknown("how many elements of X are not zero", 0, most)
        return Fact.tensor(INT64, (X.rank, count))

    def reference(self, X: Array) -> Array:
        is_on: Array = np.asarray(np.not_equal(X, "" if X.dtype == object else 0))
        if X.ndim == 0:
            return np.zeros((0, int(is_on)), np.int64)
        return np.stack(np.nonzero(is_on)).astype(np.int64)


class Compress(Operator, since=28):
    """The slices along `axis`, or elements of the flattened input, where `condition` holds."""

    input, condition = Input("T"), Input("T1")
    output = Output("T")
    T, T1 = types.ALL_BFLOAT16, (BOOL,)
    axis: int | None = None
    history = past(11, T=types.ALL_BEFORE_BFLOAT16), past(9)
    moves_data = True

    def infer(self, input: Fact, condition: Fact) -> Fact:
        known = condition.constant_value()
        if known is not None:
            count: DimLike = int(np.count_nonzero(known))
        else:
            most = None if condition.shape is None else most_of(product(condition.shape))
            count = unknown("how many elements of condition hold", 0, most)
        if self.axis is None:
            return Fact.tensor(input.dtype, (count,))
        if input.shape is None:
            return Fact.tensor(input.dtype)
        axis = normalized("Compress", self.axis, len(input.shape))
        return Fact.tensor(input.dtype, (*input.shape[:axis], count, *input.shape[axis + 1 :]))

    def reference(self, input: Array, condition: Array) -> Array:
        data = input.reshape(-1) if self.axis is None else input
        axis = 0 if self.axis is None else normalized("Compress", self.axis, data.ndim)
        if condition.ndim != 1 or condition.size > data.shape[axis]:
            raise ExecutionError(
                f"Compress requires at most {data.shape[axis]} conditions in a vector, "
                f"got shape {list(condition.shape)}"
            )
        return np.compress(condition.astype(bool), data, axis)

    def gradient(self, op: Writer, grads: Values, inputs: Values, outputs: Values) -> Values:
        def pick(places: Value) -> Value:
            result: Value = op.Compress(places, inputs[1], axis=self.axis)
            return result

        return [moved_back(op, grads[0], inputs[0], pick, repeats=False), None]


class ReverseSequence(Operator, since=28):
    """The first `sequence_lens[i]` elements along time_axis of each batch element i reversed."""

    input, sequence_lens = Input("T"), Input((INT64,))
    Y = Output("T")
    T = types.ALL_BFLOAT16
    time_axis: int = 0
    batch_axis: int = 1
    history = (past(10, T=types.ALL_BEFORE_BFLOAT16),)
    moves_data = True

    def infer(self, input: Fact, sequence_lens: Fact) -> Fact:
        if {self.time_axis, self.batch_axis} != {0, 1}:
            raise InferenceError(
                f"ReverseSequence requires time_axis and batch_axis to be 0 and 1, got "
                f"{self.time_axis} and {self.batch_axis}"
            )
        if input.rank is not None and input.rank < 2:
            raise InferenceError(f"ReverseSequence requires rank >= 2, got {input.rank}")
        return same_as(input)

    def reference(self, input: Array, sequence_lens: Array) -> Array:
        self.infer(Fact.tensor(None, input.shape), Fact())
        steps, batch = input.shape[self.time_axis], input.shape[self.batch_axis]
        lengths = sequence_lens.astype(np.int64)
        if lengths.shape != (batch,) or (lengths.size and not lengths.min() >= 0):
            raise ExecutionError(f"ReverseSequence requires {batch} sequence_lens >= 0")
        if lengths.size and lengths.max() > steps:
            raise ExecutionError(
                f"ReverseSequence: length {lengths.max()} of a sequence of at most {steps}"
            )
        time = np.arange(steps)[:, None]
        places = np.where(time < lengths, lengths - 1 - time, time)
        each = np.arange(batch)
        key = (places, each[None, :]) if self.time_axis == 0 else (each[:, None], places.T)
        return np.asarray(input[key])

    def gradient(self, op: Writer, grads: Values, inputs: Values, outputs: Values) -> Values:
        axes = {"time_axis": self.time_axis, "batch_axis": self.batch_axis}
        return [op.ReverseSequence(grads[0], inputs[1], **axes), None]


class Trilu(Operator, since=14):
    """The upper or lower triangle of the last two dimensions, zero elsewhere.

    `k` shifts the diagonal, up where positive.
    """

    input, k = Input("T"), Input((INT64,), optional=True)
    output = Output("T")
    T = types.ALL_BFLOAT16
    upper: int = 1

    def infer(self, input: Fact, k: Fact | None) -> Fact:
        if input.rank is not None and input.rank < 2:
            raise InferenceError(f"Trilu requires rank >= 2, got {shape_text(input.shape)}")
        return same_as(input)

    def reference(self, input: Array, k: Array | None) -> Array:
        self.infer(Fact.tensor(None, input.shape), None)
        rows, columns = input.shape[-2:]
        shift = 0 if k is None else _whole("Trilu k", k)
        shift = min(max(shift, -rows - 1), columns + 1)
        offset = np.arange(columns) - np.arange(rows)[:, None]
        is_kept = offset >= shift if self.upper else offset <= shift
        result: Array = input.copy()
        result[..., ~is_kept] = "" if input.dtype == object else 0
        return result

    def gradient(self, op: Writer, grads: Values, inputs: Values, outputs: Values) -> Values:
        return [op.Trilu(grads[0], inputs[1], upper=self.upper), None]
