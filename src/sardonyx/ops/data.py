"""Operators that cut, join, repeat and rearrange data."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from sardonyx.dims import Dim, ceil_div, maximum, minimum
from sardonyx.dtypes import INT64
from sardonyx.errors import ExecutionError, InferenceError, UnsupportedError
from sardonyx.ir.node import AttributeType
from sardonyx.ir.types import shape_text
from sardonyx.ops import types
from sardonyx.ops.fact import Fact
from sardonyx.ops.moving import moved_back
from sardonyx.ops.operator import Operator
from sardonyx.ops.schema import REQUIRED, Input, Output, attribute, past, was_attribute
from sardonyx.ops.symbolic import (
    add,
    check_size,
    constant_ints,
    contents,
    divide,
    exact,
    is_negative,
    most_of,
    multiply,
    normalized,
    normalized_axes,
    subtract,
    unify,
    unknown,
    value_length,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sardonyx.ir.tensor import Array
    from sardonyx.ir.types import DimLike
    from sardonyx.ir.value import Value
    from sardonyx.ops.body_builder import BodyBuilder
    from sardonyx.ops.operator import Values
    from sardonyx.ops.writer import Writer

_TO_THE_END: Final = 2**31 - 1
"""An index from which on a bound of Slice means the end, as exporters write it."""


class Slice(Operator, since=13):
    """The elements from `starts` up to, not including, `ends` along `axes`, every `steps`-th.

    Negative bounds count from the end; bounds past either end are moved there.
    """

    data, starts, ends = Input("T"), Input("Tind"), Input("Tind")
    axes, steps = Input("Tind", optional=True), Input("Tind", optional=True, since=10)
    output = Output("T")
    T, Tind = types.ALL_BFLOAT16, types.INDICES
    history = (
        past(11, T=types.ALL_BEFORE_BFLOAT16),
        past(10),
        past(
            1,
            starts=was_attribute(AttributeType.INTS, REQUIRED),
            ends=was_attribute(AttributeType.INTS, REQUIRED),
            axes=was_attribute(AttributeType.INTS),
        ),
    )
    moves_data = True

    def infer(
        self, data: Fact, starts: Fact, ends: Fact, axes: Fact | None, steps: Fact | None
    ) -> Fact:
        if data.shape is None:
            return Fact.tensor(data.dtype)
        rank, count = len(data.shape), value_length(starts)
        places = constant_ints(axes)
        if axes is None and count is not None:
            places = list(range(count))
        if places is None:
            return Fact.tensor(data.dtype, (None,) * rank)
        firsts = contents(starts) or [None] * len(places)
        lasts = contents(ends) or [None] * len(places)
        strides: list[DimLike] = [1] * len(places)
        if steps is not None:
            strides = contents(steps) or [None] * len(places)
        if not len(places) == len(firsts) == len(lasts) == len(strides):
            raise InferenceError(
                f"Slice requires as many starts, ends, axes and steps, got {len(firsts)}, "
                f"{len(lasts)}, {len(places)} and {len(strides)}"
            )
        dims = list(data.shape)
        chosen = normalized_axes("Slice", places, rank)
        for axis, first, last, stride in zip(chosen, firsts, lasts, strides, strict=True):
            if stride == 0:
                raise InferenceError(f"Slice steps must not be 0 (axis {axis})")
            size, dims[axis] = dims[axis], None
            if isinstance(stride, int) and None not in (size, first, last):
                try:
                    dims[axis] = _slice_length(size, first, last, stride)  # type: ignore[arg-type]
                except OverflowError:
                    continue
            if dims[axis] is None:
                dims[axis] = unknown(f"the length of the slice along axis {axis}", 0, most_of(size))
        return Fact.tensor(data.dtype, dims)

    def reference(
        self, data: Array, starts: Array, ends: Array, axes: Array | None, steps: Array | None
    ) -> Array:
        firsts = [int(value) for value in starts.reshape(-1)]
        lasts = [int(value) for value in ends.reshape(-1)]
        places = range(len(firsts)) if axes is None else [int(value) for value in axes.reshape(-1)]
        strides = [1] * len(firsts) if steps is None else [int(v) for v in steps.reshape(-1)]
        if not len(places) == len(firsts) == len(lasts) == len(strides) or 0 in strides:
            raise ExecutionError(
                f"Slice requires as many starts, ends, axes and steps, and no step 0: "
                f"got {firsts[:9]}, {lasts[:9]}, {list(places)[:9]} and {strides[:9]}"
            )
        key = [slice(None)] * data.ndim
        chosen = normalized_axes("Slice", places, data.ndim)
        for axis, first, last, stride in zip(chosen, firsts, lasts, strides, strict=True):
            key[axis] = _python_slice(data.shape[axis], first, last, stride)
        return np.array(data[tuple(key)])

    def gradient(self, op: Writer, grads: Values, inputs: Values, outputs: Values) -> Values:
        (dy,), (x, starts, ends, axes, steps) = grads, inputs
        pads = self._pads(op, inputs)
        if pads is not None:
            return [op.Pad(dy, pads), None, None, None, None]

        def cut(places: Value) -> Value:
            result: Value = op.Slice(places, starts, ends, axes, steps)
            return result

        return [moved_back(op, dy, x, cut, repeats=False), None, None, None, None]

    def _pads(self, op: Writer, inputs: Values) -> Array | None:
        """What was cut off each axis, before and after, where that is known and steps are 1."""
        x, starts, ends, axes, steps = inputs
        shape = op.fact(x).shape
        firsts, lasts = op.known_ints(starts), op.known_ints(ends)
        strides = None if steps is None else op.known_ints(steps) or [0]
        if shape is None or firsts is None or lasts is None or set(strides or [1]) != {1}:
            return None
        places = list(range(len(firsts))) if axes is None else op.known_ints(axes)
        if places is None:
            return None
        pads = np.zeros((2, len(shape)), np.int64)
        chosen = normalized_axes("Slice", places, len(shape))
        for axis, first, last in zip(chosen, firsts, lasts, strict=True):
            size = shape[axis]
            if not isinstance(size, int):
                return None
            part = _python_slice(size, first, last, 1)
            pads[:, axis] = part.start, size - max(part.stop, part.start)
        return pads.reshape(-1)


def _python_slice(size: int, first: int, last: int, step: int) -> slice:
    low, high = (0, size) if step > 0 else (-1, size - 1)
    start = min(max(first + size if first < 0 else first, 0), high)
    stop = min(max(last + size if last < 0 else last, low), high)
    if size == 0 or start < 0:
        return slice(0, 0)
    return slice(start, stop if stop >= 0 else None, step)


def _slice_length(size: int | Dim, first: int | Dim, last: int | Dim, step: int) -> DimLike:
    """How many elements a slice has; None where the sign of a symbolic bound is not known."""
    first_negative, last_negative = is_negative(first), is_negative(last)
    to_end = last == size or (isinstance(last, int) and last >= _TO_THE_END)
    if to_end and step > 0:
        last_negative = False
    if first_negative is None or last_negative is None:
        return None
    if step > 0:
        stop: int | Dim = size if to_end else size + last if last_negative else minimum(last, size)
        if first_negative:
            # stop - max(size + first, 0) -> min(stop - size - first, stop)
            count = minimum(stop - size - first, stop)
        else:
            count = stop - first
        return ceil_div(maximum(count, 0), step)
    if first == -1:
        start: int | Dim = size - 1
    elif first_negative:
        start = minimum(maximum(size + first, 0), size - 1)
    else:
        start = size - 1 if _is_end(first) else minimum(first, size - 1)
    if last_negative:
        beyond = isinstance(last, int) and last <= -_TO_THE_END
        stop = -1 if beyond else maximum(size + last, -1)
    else:
        stop = minimum(last, size - 1)
    return ceil_div(maximum(start - stop, 0), -step)


def _is_end(bound: int | Dim) -> bool:
    return isinstance(bound, int) and bound >= _TO_THE_END


class Concat(Operator, since=13):
    """`inputs` one after the other along `axis`; their other sizes are equal."""

    inputs, concat_result = Input("T", variadic=True), Output("T")
    T = types.ALL_BFLOAT16
    axis: int | None = attribute()
    history = (
        past(11, T=types.ALL_BEFORE_BFLOAT16),
        past(4),
        past(1, T=types.FLOATS, axis=None),
    )
    moves_data = True

    @property
    def _axis(self) -> int:
        return 1 if self.axis is None else self.axis

    def infer(self, *inputs: Fact) -> Fact:
        dtype = next((fact.dtype for fact in inputs if fact.dtype), None)
        known = [fact.shape for fact in inputs if fact.shape is not None]
        if not known:
            return Fact.tensor(dtype)
        rank = len(known[0])
        axis = normalized("Concat", self._axis, rank)
        result: list[DimLike] = [None] * rank
        for shape in known:
            if len(shape) != rank:
                raise self._mismatch(known)
            try:
                for index in range(rank):
                    if index != axis:
                        result[index] = unify(result[index], shape[index])
            except InferenceError:
                raise self._mismatch(known) from None
        total: DimLike = 0
        for fact in inputs:
            total = None if fact.shape is None else add(total, fact.shape[axis])
        result[axis] = total
        return Fact.tensor(dtype, result, _joined_values(inputs))

    def _mismatch(self, shapes: Sequence[Any]) -> InferenceError:
        listed = ", ".join(shape_text(shape) for shape in shapes[:8])
        return InferenceError(
            f"Concat along axis {self._axis} needs equal ranks and other sizes, got {listed}"
        )

    def reference(self, *inputs: Array) -> Array:
        first = inputs[0]
        axis = normalized("Concat", self._axis, first.ndim)
        others = {array.shape[:axis] + array.shape[axis + 1 :] for array in inputs}
        if len(others) > 1 or any(array.ndim != first.ndim for array in inputs):
            raise self._mismatch([array.shape for array in inputs])
        sizes = list(first.shape)
        sizes[axis] = sum(array.shape[axis] for array in inputs)
        check_size("Concat", sizes, first.itemsize)
        return np.concatenate(inputs, axis)

    def gradient(self, op: Writer, grads: Values, inputs: Values, outputs: Values) -> Values:
        (dy,) = grads
        axis = self._axis % max(op.rank(dy), 1)
        if len(inputs) == 1:
            return [dy]
        lengths = op.sizes(*(op.size(x, axis) for x in inputs))
        parts: Values = op.Split(dy, lengths, axis=axis, _outputs=len(inputs))
        return parts


def _joined_values(inputs: Sequence[Fact]) -> Array | None:
    """The contents of vectors in a row, where some are known and the lengths of all are."""
    if all(fact.value is None for fact in inputs):
        return None
    parts = []
    for fact in inputs:
        length = value_length(fact)
        if fact.rank != 1 or length is None or (fact.dtype and not fact.dtype.is_integer):
            return None
        if fact.value is None:
            part = np.full(length, None, object)
        else:
            part = fact.value.astype(object)
        parts.append(part)
    joined = np.concatenate(parts)
    if all(isinstance(item, int) for item in joined):
        dtype = next(fact.dtype for fact in inputs if fact.dtype)
        return joined.astype(dtype.numpy)
    return joined


class Split(Operator, since=18):
    """`input` cut along `axis` into pieces of lengths `split`, or into equal ones.

    With `num_outputs` the last piece is shorter where the size does not divide evenly.
    """

    input, split = Input("T"), Input((INT64,), optional=True)
    lengths = Input("T", optional=True, before=2, name="split")
    pieces = Output("T", variadic=True, name="outputs")
    T = types.ALL_BFLOAT16
    axis: int | None = 0
    num_outputs: int | None = attribute(None, since=18)
    history = (
        past(13),
        past(11, T=types.ALL_BEFORE_BFLOAT16, split=was_attribute(AttributeType.INTS)),
        past(2),
        past(1, T=types.FLOATS, axis=None, pieces=Output("T", variadic=True, name="outputs...")),
    )
    moves_data = True

    def _axis(self, rank: int) -> int:
        return normalized("Split", 0 if self.axis is None else self.axis, rank)

    def _count(self) -> int:
        if self.num_outputs is not None and self.num_outputs != self.n_outputs:
            raise InferenceError(
                f"Split has {self.n_outputs} outputs, but num_outputs={self.num_outputs}"
            )
        return self.n_outputs

    def infer(self, input: Fact, split: Fact | None, lengths: Fact | None) -> tuple[Fact, ...]:
        if input.shape is None:
            return (Fact.tensor(input.dtype),) * self.n_outputs
        axis = self._axis(len(input.shape))
        size = input.shape[axis]
        if split is None and lengths is not None:
            sizes: list[DimLike] = [None] * self.n_outputs
        elif split is None:
            sizes = self._equal(size)
        else:
            sizes = contents(split) or [None] * self.n_outputs
        sizes = self._checked(sizes, size)
        before, after = input.shape[:axis], input.shape[axis + 1 :]
        return tuple([Fact.tensor(input.dtype, (*before, dim, *after)) for dim in sizes])

    def _equal(self, size: DimLike) -> list[DimLike]:
        count = self._count()
        if self.version < 18:
            try:
                return [divide(size, count)] * count
            except InferenceError:
                raise InferenceError(
                    f"Split into {count} equal pieces: size {size} does not divide",
                    hint="give the lengths with `split`",
                ) from None
        piece = exact(lambda dim: ceil_div(dim, count), size)
        last = subtract(size, multiply(piece, count - 1))
        return [piece] * (count - 1) + [last]

    def _checked(self, sizes: list[DimLike], size: DimLike) -> list[DimLike]:
        if len(sizes) != self.n_outputs:
            raise InferenceError(f"Split has {self.n_outputs} outputs and {len(sizes)} lengths")
        if any(isinstance(dim, int) and dim < 0 for dim in sizes):
            raise InferenceError(f"Split of size {size} into {self.n_outputs}: negative length")
        unknown = sizes.count(None)
        if unknown <= 1:
            total: DimLike = 0
            for dim in sizes:
                total = total if dim is None else add(total, dim)
            if unknown == 0:
                try:
                    unify(total, size)
                except InferenceError:
                    raise InferenceError(
                        f"Split lengths sum to {total}, the size is {size}"
                    ) from None
            else:
                sizes = [subtract(size, total) if dim is None else dim for dim in sizes]
        return sizes

    def reference(
        self, input: Array, split: Array | None, lengths: Array | None
    ) -> tuple[Array, ...]:
        axis = self._axis(input.ndim)
        given = lengths if split is None else split
        if given is None:
            sizes = self._equal(input.shape[axis])
        else:
            sizes = [int(length) for length in given.reshape(-1)]
        sizes = self._checked(sizes, input.shape[axis])
        ends = np.cumsum([0, *sizes])
        keys = [(*(slice(None),) * axis, slice(a, b)) for a, b in pairwise(ends)]
        return tuple([input[key].copy() for key in keys])

    def gradient(self, op: Writer, grads: Values, inputs: Values, outputs: Values) -> Values:
        parts = [
            op.zeros_like(y) if dy is None else dy for dy, y in zip(grads, outputs, strict=True)
        ]
        return [op.Concat(*parts, axis=0 if self.axis is None else self.axis), None, None]


class Tile(Operator, since=13):
    """`input` repeated `repeats[i]` times along each axis i."""

    input, repeats = Input("T"), Input("T1", since=6)
    tiles, axis = Input("T", before=6), Input("T", before=6)
    output = Output("T")
    T, T1 = types.ALL_BFLOAT16, (INT64,)
    history = past(6, T=types.ALL_BEFORE_BFLOAT16), past(1, T=types.FLOATS)
    moves_data = True

    def infer(
        self, input: Fact, repeats: Fact | None, tiles: Fact | None, axis: Fact | None
    ) -> Fact:
        if input.shape is None:
            return Fact.tensor(input.dtype)
        rank = len(input.shape)
        counts = None if repeats is None else contents(repeats)
        if counts is None:
            return Fact.tensor(input.dtype, (None,) * rank)
        if len(counts) != rank:
            raise InferenceError(
                f"Tile requires a repeat for each of {rank} axes, got {len(counts)}"
            )
        if any(isinstance(count, int) and count < 0 for count in counts):
            raise InferenceError(f"Tile requires repeats >= 0, got {counts}")
        dims = [multiply(dim, count) for dim, count in zip(input.shape, counts, strict=True)]
        return Fact.tensor(input.dtype, dims)

    def reference(
        self, input: Array, repeats: Array | None, tiles: Array | None, axis: Array | None
    ) -> Array:
        if repeats is None:
            counts = [1] * input.ndim
            if tiles is None or axis is None or tiles.size != 1 or axis.size != 1:
                raise ExecutionError("Tile-1 requires tiles and axis of one element")
            place = normalized("Tile", int(axis.reshape(-1)[0]), input.ndim)
            counts[place] = int(tiles.reshape(-1)[0])
        else:
            counts = [int(count) for count in repeats.reshape(-1)]
        if len(counts) != input.ndim or any(count < 0 for count in counts):
            raise ExecutionError(
                f"Tile requires a repeat >= 0 for each of {input.ndim} axes, got {counts[:9]}"
            )
        shape = [size * count for size, count in zip(input.shape, counts, strict=True)]
        check_size("Tile", shape, input.itemsize)
        return np.empty(shape, input.dtype) if 0 in shape else np.tile(input, counts)

    def gradient(self, op: Writer, grads: Values, inputs: Values, outputs: Values) -> Values:
        (dy,), (x, repeats, *_) = grads, inputs
        if repeats is None:
            raise UnsupportedError(
                "Tile-1 has no gradient rule", hint="convert the model to opset 6 or newer"
            )
        rank = op.rank(x)
        if rank == 0:
            return [dy, None, None, None]
        # [r0 * d0, r1 * d1, ...] -> [r0, d0, r1, d1, ...], summed over the repeats
        pairs = op.Concat(op.Unsqueeze(repeats, [1]), op.Unsqueeze(op.size(x), [1]), axis=1)
        apart = op.Reshape(dy, op.Reshape(pairs, [-1]))
        total = op.ReduceSum(apart, list(range(0, 2 * rank, 2)), keepdims=0)
        return [op.reshaped(total, x), None, None, None]


class _Blocks(Operator):
    """What DepthToSpace and SpaceToDepth share: blocks of an N, C, H, W tensor."""

    blocksize: int

    def _nchw(self, input: Fact) -> Any:
        if self.blocksize <= 0:
            raise InferenceError(f"{self.op_type} requires blocksize > 0, got {self.blocksize}")
        if input.shape is not None and len(input.shape) != 4:
            raise InferenceError(
                f"{self.op_type} requires rank 4 (N, C, H, W), got {shape_text(input.shape)}"
            )
        return input.shape or (None,) * 4

    def _written(self, op: Writer, x: Value) -> Value:
        mode = getattr(self, "mode", "DCR")
        result: Value = op.apply(
            self.op_type, [x], blocksize=self.blocksize, mode=None if mode == "DCR" else mode
        )
        return result


def _whole(size: int, block: int) -> int:
    """Size / block, which must leave no remainder."""
    if size % block:
        raise ExecutionError(f"size {size} does not divide into blocks of {block}")
    return size // block


class DepthToSpace(_Blocks, since=28):
    """Blocks of channels moved into height and width: C shrinks by blocksize squared."""

    input, output = Input("T"), Output("T")
    T = types.ALL_BFLOAT16
    mode: str = attribute("DCR", since=11)
    history = past(13), past(11, T=types.ALL_BEFORE_BFLOAT16), past(1)
    body_since = 28

    def infer(self, input: Fact) -> Fact:
        batch, channels, height, width = self._nchw(input)
        size = self.blocksize
        return Fact.tensor(
            input.dtype,
            (batch, divide(channels, size * size), multiply(height, size), multiply(width, size)),
        )

    def reference(self, input: Array) -> Array:
        self._nchw(Fact.tensor(None, input.shape))
        (n, c, h, w), b = input.shape, self.blocksize
        depth = _whole(c, b * b)
        if self.mode == "DCR":
            blocks = input.reshape(n, b, b, depth, h, w).transpose(0, 3, 4, 1, 5, 2)
        else:
            blocks = input.reshape(n, depth, b, b, h, w).transpose(0, 1, 4, 2, 5, 3)
        return np.reshape(blocks, (n, depth, h * b, w * b))

    def body(self, op: BodyBuilder, input: Value) -> Any:
        b = self.blocksize
        n, h, w = (op.size(input, axis) for axis in (0, 2, 3))
        depth = op.Div(op.size(input, 1), np.array([b * b], np.int64))
        if self.mode == "DCR":
            blocks = op.reshape(input, n, b, b, depth, h, w)
            blocks = op.Transpose(blocks, perm=(0, 3, 4, 1, 5, 2))
        else:
            blocks = op.reshape(input, n, depth, b, b, h, w)
            blocks = op.Transpose(blocks, perm=(0, 1, 4, 2, 5, 3))
        size = np.array([b], np.int64)
        return op.reshape(blocks, n, depth, op.Mul(h, size), op.Mul(w, size))

    def gradient(self, op: Writer, grads: Values, inputs: Values, outputs: Values) -> Values:
        return [moved_back(op, grads[0], inputs[0], lambda x: self._written(op, x), repeats=False)]


class SpaceToDepth(_Blocks, since=28):
    """Blocks of height and width moved into channels: C grows by blocksize squared."""

    input, output = Input("T"), Output("T")
    T = types.ALL_BFLOAT16
    mode: str = attribute("DCR", since=28)
    history = past(13), past(1, T=types.ALL_BEFORE_BFLOAT16)
    body_since = 28

    def infer(self, input: Fact) -> Fact:
        batch, channels, height, width = self._nchw(input)
        size = self.blocksize
        return Fact.tensor(
            input.dtype,
            (batch, multiply(channels, size * size), divide(height, size), divide(width, size)),
        )

    def reference(self, input: Array) -> Array:
        self._nchw(Fact.tensor(None, input.shape))
        (n, c, h, w), b = input.shape, self.blocksize
        rows, columns = _whole(h, b), _whole(w, b)
        blocks = input.reshape(n, c, rows, b, columns, b)
        order = (0, 3, 5, 1, 2, 4) if self.mode == "DCR" else (0, 1, 3, 5, 2, 4)
        return np.reshape(blocks.transpose(order), (n, c * b * b, rows, columns))

    def body(self, op: BodyBuilder, input: Value) -> Any:
        b = self.blocksize
        size = np.array([b], np.int64)
        n, c = op.size(input, 0), op.size(input, 1)
        rows, columns = op.Div(op.size(input, 2), size), op.Div(op.size(input, 3), size)
        blocks = op.reshape(input, n, c, rows, b, columns, b)
        order = (0, 3, 5, 1, 2, 4) if self.mode == "DCR" else (0, 1, 3, 5, 2, 4)
        depth = op.Mul(c, np.array([b * b], np.int64))
        return op.reshape(op.Transpose(blocks, perm=order), n, depth, rows, columns)

    def gradient(self, op: Writer, grads: Values, inputs: Values, outputs: Values) -> Values:
        return [moved_back(op, grads[0], inputs[0], lambda x: self._written(op, x), repeats=False)]
