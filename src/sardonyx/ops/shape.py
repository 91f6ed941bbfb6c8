"""Operators that ask for a shape or give data another one."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from sardonyx.dims import Dim, known_equal, symbol_atoms
from sardonyx.dtypes import INT64
from sardonyx.errors import ExecutionError, InferenceError
from sardonyx.ir.node import AttributeType
from sardonyx.ir.types import shape_text
from sardonyx.ops import types
from sardonyx.ops.broadcast import broadcast
from sardonyx.ops.fact import Fact, shape_value
from sardonyx.ops.operator import Operator
from sardonyx.ops.schema import REQUIRED, Input, Output, attribute, past, was_attribute
from sardonyx.ops.symbolic import (
    check_size,
    constant_ints,
    contents,
    divide,
    normalized_axes,
    product,
    unify,
    value_length,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sardonyx.ir.tensor import Array
    from sardonyx.ir.types import DimLike
    from sardonyx.ir.types import Shape as Dims
    from sardonyx.ops.operator import Values
    from sardonyx.ops.writer import Writer

_WIDENED = (
    past(24, T=types.ALL_FLOAT8E8M0),
    past(23, T=types.ALL_FLOAT4),
    past(21, T=types.ALL_INT4),
)
_WIDENED_FLOAT8 = (*_WIDENED, past(19, T=types.ALL_FLOAT8))


_CONTAINERS = (
    *types.sequences(types.ALL_BEFORE_BFLOAT16),
    *types.optionals(types.ALL_BEFORE_BFLOAT16),
    *types.optionals(types.sequences(types.ALL_BEFORE_BFLOAT16)),
)


class Identity(Operator, since=25):
    """The input itself."""

    input, output = Input("V"), Output("V")
    V = (*types.ALL_INT2, *_CONTAINERS)
    history = (
        past(24, V=(*types.ALL_FLOAT8E8M0, *_CONTAINERS)),
        past(23, V=(*types.ALL_FLOAT4, *_CONTAINERS)),
        past(21, V=(*types.ALL_INT4, *_CONTAINERS)),
        past(19, V=(*types.ALL_FLOAT8, *_CONTAINERS)),
        past(16, V=(*types.ALL_BFLOAT16, *_CONTAINERS)),
        past(14, V=(*types.ALL_BFLOAT16, *types.sequences(types.ALL_BEFORE_BFLOAT16))),
        past(13, V=types.ALL_BFLOAT16),
        past(1, V=types.ALL_BEFORE_BFLOAT16),
    )
    moves_data = True

    def infer(self, input: Fact) -> Fact:
        return input

    def reference(self, input: Array) -> Array:
        return input

    def gradient(self, op: Writer, grads: Values, inputs: Values, outputs: Values) -> Values:
        return list(grads)


class Shape(Operator, since=25):
    """The sizes of `data`'s dimensions from `start` up to, not including, `end`."""

    data, shape = Input("T"), Output("T1")
    T, T1 = types.ALL_INT2, (INT64,)
    start: int = attribute(0, since=15)
    end: int | None = attribute(None, since=15)
    history = (
        *_WIDENED_FLOAT8,
        past(15, T=types.ALL_BFLOAT16),
        past(13),
        past(1, T=types.ALL_BEFORE_BFLOAT16),
    )

    def _range(self, rank: int) -> slice:
        return slice(*slice(self.start, self.end).indices(rank)[:2])

    def infer(self, data: Fact) -> Fact:
        if data.shape is None:
            return Fact.tensor(INT64, (None,))
        dims = data.shape[self._range(len(data.shape))]
        return Fact.tensor(INT64, (len(dims),), shape_value(dims))

    def reference(self, data: Array) -> Array:
        return np.array(data.shape[self._range(data.ndim)], np.int64)


class Size(Operator, since=25):
    """The number of elements of `data`, a scalar."""

    data, size = Input("T"), Output("T1")
    T, T1 = types.ALL_INT2, (INT64,)
    history = (
        *_WIDENED_FLOAT8,
        past(13, T=types.ALL_BFLOAT16),
        past(1, T=types.ALL_BEFORE_BFLOAT16),
    )

    def infer(self, data: Fact) -> Fact:
        size = None if data.shape is None else product(data.shape)
        value = None if size is None else shape_value((size,)).reshape(())
        return Fact.tensor(INT64, (), value)

    def reference(self, data: Array) -> Array:
        return np.array(data.size, np.int64)


class Reshape(Operator, since=25):
    """`data` in another shape: 0 copies the input's size (unless `allowzero`), -1 is what is left.

    Where a symbolic size may be 0 or -1, inference takes it as a plain positive size.
    """

    data, shape = Input("T"), Input((INT64,))
    reshaped = Output("T")
    T = types.ALL_INT2
    allowzero: int = attribute(0, since=14)
    consumed_inputs: tuple[int, ...] | None = attribute(None, before=5)
    history = (
        *_WIDENED_FLOAT8,
        past(14, T=types.ALL_BFLOAT16),
        past(13),
        past(5, T=types.ALL_BEFORE_BFLOAT16),
        past(1, T=types.FLOATS, shape=was_attribute(AttributeType.INTS)),
    )
    moves_data = True

    def infer(self, data: Fact, shape: Fact) -> Fact:
        target = contents(shape)
        if target is None:
            return Fact.tensor(data.dtype)
        target = [None if _may_be_a_code(dim) else dim for dim in target]
        try:
            return Fact.tensor(data.dtype, self._dims(data.shape, target))
        except InferenceError as error:
            raise InferenceError(
                f"Reshape of {shape_text(data.shape)} to {shape_text(tuple(target))}: "
                f"{error.message}",
                hint="the number of elements must stay the same",
            ) from None

    def _dims(self, source: Dims | None, target: list[DimLike]) -> list[DimLike]:
        if sum(dim == -1 for dim in target) > 1:
            raise InferenceError("at most one size may be -1")
        if self.allowzero and 0 in target and -1 in target:
            raise InferenceError("with allowzero, -1 and 0 exclude each other")
        result = list(target)
        copied = set()
        for index, dim in enumerate(target):
            if isinstance(dim, int) and dim < -1:
                raise InferenceError(f"negative size {dim}")
            if dim == 0 and not self.allowzero:
                if source is not None and index >= len(source):
                    raise InferenceError(f"size 0 at {index} copies no input size")
                result[index] = None if source is None else source[index]
                copied.add(index)
        open_places = [index for index, dim in enumerate(target) if dim is None or dim == -1]
        if source is None:
            return [None if index in open_places else dim for index, dim in enumerate(result)]
        total = product(dim for index, dim in enumerate(source) if index not in copied)
        rest = product(
            dim
            for index, dim in enumerate(result)
            if index not in copied and index not in open_places
        )
        if not open_places:
            unify(total, rest)
        filling = divide(total, rest) if len(open_places) == 1 else None
        return [filling if index in open_places else dim for index, dim in enumerate(result)]

    def reference(self, data: Array, shape: Array) -> Array:
        target = [int(dim) for dim in shape.reshape(-1)]
        if len(target) > 64:
            check_size("Reshape", target, 1)
        try:
            return data.reshape([int(dim) for dim in self._dims(data.shape, target)])  # type: ignore[arg-type]
        except (InferenceError, ValueError, TypeError, OverflowError):
            raise ExecutionError(
                f"Reshape: data of shape {list(data.shape)} cannot take shape {target}"
            ) from None

    def gradient(self, op: Writer, grads: Values, inputs: Values, outputs: Values) -> Values:
        return [op.reshaped(grads[0], inputs[0]), None]


def _may_be_a_code(dim: DimLike) -> bool:
    """Whether a size that data decides may be one that Reshape reads as something else."""
    return isinstance(dim, Dim) and any(atom.range[0] is None for atom in symbol_atoms(dim))


class Flatten(Operator, since=25):
    """`input` as a matrix: the dimensions before `axis`, and those from it on, as one each."""

    input, output = Input("T"), Output("T")
    T = types.ALL_INT2
    axis: int = 1
    history = (
        *_WIDENED,
        past(13, T=types.ALL_BFLOAT16),
        past(11, T=types.ALL_BEFORE_BFLOAT16),
        past(9),
        past(1, T=types.FLOATS),
    )
    moves_data = True

    def _split(self, shape: Dims) -> tuple[Dims, Dims]:
        rank = len(shape)
        if not -rank <= self.axis <= rank:
            raise InferenceError(
                f"Flatten requires -r <= axis <= r, got axis={self.axis} for data of rank {rank}"
            )
        axis = self.axis % rank if self.axis < 0 else self.axis
        return shape[:axis], shape[axis:]

    def infer(self, input: Fact) -> Fact:
        if input.shape is None:
            return Fact.tensor(input.dtype, (None, None))
        outer, inner = self._split(input.shape)
        return Fact.tensor(input.dtype, (product(outer), product(inner)))

    def reference(self, input: Array) -> Array:
        outer, inner = self._split(input.shape)
        return input.reshape(math.prod(outer), math.prod(inner))  # type: ignore[arg-type]

    def gradient(self, op: Writer, grads: Values, inputs: Values, outputs: Values) -> Values:
        return [op.reshaped(grads[0], inputs[0])]


class Transpose(Operator, since=25):
    """`data` with its dimensions in the order of `perm`, reversed without one."""

    data, transposed = Input("T"), Output("T")
    T = types.ALL_INT2
    perm: tuple[int, ...] | None = None
    history = (
        *_WIDENED,
        past(13, T=types.ALL_BFLOAT16),
        past(1, T=types.ALL_BEFORE_BFLOAT16),
    )
    moves_data = True

    def _order(self, rank: int) -> tuple[int, ...]:
        order = tuple(reversed(range(rank))) if self.perm is None else self.perm
        if sorted(order) != list(range(rank)):
            raise InferenceError(
                f"Transpose requires perm to order the axes 0 to {rank - 1}, got {list(order)}"
            )
        return order

    def infer(self, data: Fact) -> Fact:
        if data.shape is None:
            rank = None if self.perm is None else len(self.perm)
            return Fact.tensor(data.dtype, None if rank is None else (None,) * rank)
        return Fact.tensor(data.dtype, [data.shape[axis] for axis in self._order(len(data.shape))])

    def reference(self, data: Array) -> Array:
        return np.transpose(data, self._order(data.ndim))

    def gradient(self, op: Writer, grads: Values, inputs: Values, outputs: Values) -> Values:
        order = self._order(op.rank(inputs[0]))
        return [op.Transpose(grads[0], perm=[order.index(axis) for axis in range(len(order))])]


class Unsqueeze(Operator, since=25):
    """`data` with dimensions of size 1 put at positions `axes` of the result."""

    data, axes = Input("T"), Input((INT64,))
    expanded = Output("T")
    T = types.ALL_INT2
    history = (
        *_WIDENED,
        past(13, T=types.ALL_BFLOAT16),
        past(11, T=types.ALL_BEFORE_BFLOAT16, axes=was_attribute(AttributeType.INTS, REQUIRED)),
        past(1),
    )
    moves_data = True

    def infer(self, data: Fact, axes: Fact) -> Fact:
        places, count = constant_ints(axes), value_length(axes)
        if data.shape is None or count is None:
            return Fact.tensor(data.dtype)
        if places is None:
            return Fact.tensor(data.dtype, (None,) * (len(data.shape) + count))
        return Fact.tensor(data.dtype, _unsqueezed(data.shape, places))

    def reference(self, data: Array, axes: Array) -> Array:
        return _reshaped(data, _unsqueezed(data.shape, axes.reshape(-1)))

    def gradient(self, op: Writer, grads: Values, inputs: Values, outputs: Values) -> Values:
        return [op.reshaped(grads[0], inputs[0]), None]


def _reshaped(data: Array, shape: Any) -> Array:
    return np.reshape(data, shape)


def _unsqueezed(shape: Dims, axes: Iterable[int]) -> Dims:
    axes = list(axes)
    rank = len(shape) + len(axes)
    new = set(normalized_axes("Unsqueeze", axes, rank))
    kept = iter(shape)
    return tuple([1 if index in new else next(kept) for index in range(rank)])


class Squeeze(Operator, since=25):
    """`data` without the dimensions `axes`, which have size 1; without all such if not given."""

    data, axes = Input("T"), Input((INT64,), optional=True)
    squeezed = Output("T")
    T = types.ALL_INT2
    history = (
        *_WIDENED,
        past(13, T=types.ALL_BFLOAT16),
        past(11, T=types.ALL_BEFORE_BFLOAT16, axes=was_attribute(AttributeType.INTS)),
        past(1),
    )
    moves_data = True

    def infer(self, data: Fact, axes: Fact | None) -> Fact:
        if data.shape is None:
            return Fact.tensor(data.dtype)
        places = constant_ints(axes)
        if axes is None:
            are_one = [dim is not None and known_equal(dim, 1) for dim in data.shape]
            if any(dim is None for dim in data.shape) or None in are_one:
                return Fact.tensor(data.dtype)
            places = [index for index, is_one in enumerate(are_one) if is_one]
        elif places is None:
            count = value_length(axes)
            known = count is not None and count <= len(data.shape)
            rank = len(data.shape) - count if known and count is not None else None
            return Fact.tensor(data.dtype, None if rank is None else (None,) * rank)
        return Fact.tensor(data.dtype, _squeezed(data.shape, places))

    def reference(self, data: Array, axes: Array | None) -> Array:
        places = np.flatnonzero(np.array(data.shape) == 1) if axes is None else axes.reshape(-1)
        return _reshaped(data, _squeezed(data.shape, places))

    def gradient(self, op: Writer, grads: Values, inputs: Values, outputs: Values) -> Values:
        return [op.reshaped(grads[0], inputs[0]), None]


def _squeezed(shape: Dims, axes: Iterable[int]) -> Dims:
    gone = normalized_axes("Squeeze", axes, len(shape))
    for axis in gone:
        dim = shape[axis]
        if dim is not None and known_equal(dim, 1) is False:
            raise InferenceError(
                f"Squeeze removes dimensions of size 1, axis {axis} of "
                f"{shape_text(shape)} has {dim}"
            )
    return tuple([dim for index, dim in enumerate(shape) if index not in gone])


class Expand(Operator, since=13):
    """`input` broadcast with `shape`, in both directions."""

    input, shape = Input("T"), Input((INT64,))
    output = Output("T")
    T = types.ALL_BFLOAT16
    history = (past(8, T=types.ALL_BEFORE_BFLOAT16),)
    moves_data = True

    def infer(self, input: Fact, shape: Fact) -> Fact:
        target = contents(shape)
        if input.shape is None or target is None:
            return Fact.tensor(input.dtype)
        if any(isinstance(dim, int) and dim < 0 for dim in target):
            raise InferenceError(f"Expand to negative sizes: {shape_text(tuple(target))}")
        return Fact.tensor(input.dtype, broadcast(input.shape, tuple(target)))

    def reference(self, input: Array, shape: Array) -> Array:
        target = tuple(int(dim) for dim in shape.reshape(-1))
        try:
            result = broadcast(input.shape, target)
        except InferenceError as error:
            raise ExecutionError(f"Expand: {error.message}") from None
        sizes = [int(dim) for dim in result or ()]  # type: ignore[arg-type]
        check_size("Expand", sizes, input.itemsize)
        return np.array(np.broadcast_to(input, sizes))

    def gradient(self, op: Writer, grads: Values, inputs: Values, outputs: Values) -> Values:
        return [op.sum_to(grads[0], inputs[0]), None]
