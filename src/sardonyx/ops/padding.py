"""Operators that add elements around data or crop it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sardonyx.dtypes import INT32, INT64
from sardonyx.errors import ExecutionError, InferenceError
from sardonyx.ir.node import AttributeType
from sardonyx.ops import types
from sardonyx.ops.fact import Fact
from sardonyx.ops.moving import moved_back
from sardonyx.ops.operator import Operator, same_as
from sardonyx.ops.schema import ABSENT, REQUIRED, Input, Output, attribute, past, was_attribute
from sardonyx.ops.symbolic import (
    add,
    check_size,
    constant_ints,
    contents,
    normalized_axes,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sardonyx.ir.tensor import Array
    from sardonyx.ir.value import Value
    from sardonyx.ops.body_builder import BodyBuilder
    from sardonyx.ops.operator import Values
    from sardonyx.ops.writer import Writer


class Pad(Operator, since=25):
    """`data` with elements added before and after each axis, or removed where `pads` is negative.

    `mode` says what is added: constant_value, or the data's mirror image (reflect), its first
    and last elements (edge), its other end (wrap).
    """

    data, pads = Input("T"), Input((INT64,))
    constant_value = Input("T", optional=True)
    axes = Input("Tind", optional=True, since=18)
    output = Output("T")
    T, Tind = types.ALL_INT2, (INT32, INT64)
    mode: str = "constant"
    value: float = attribute(0.0, before=11)
    paddings: tuple[int, ...] | None = attribute(before=2)
    history = (
        past(24, T=types.ALL_FLOAT8E8M0),
        past(23, T=types.ALL_FLOAT4),
        past(21, T=types.ALL_INT4),
        past(19, T=types.ALL_BFLOAT16),
        past(18),
        past(13),
        past(11, T=types.NUMERIC),
        past(
            2,
            T=types.FLOATS,
            pads=was_attribute(AttributeType.INTS, REQUIRED),
            constant_value=ABSENT,
        ),
        past(1, pads=ABSENT),
    )
    moves_data = True

    def infer(
        self, data: Fact, pads: Fact | None, constant_value: Fact | None, axes: Fact | None
    ) -> Fact:
        if data.shape is None:
            return Fact.tensor(data.dtype)
        rank = len(data.shape)
        amounts = None if pads is None else contents(pads)
        if self.paddings is not None:
            amounts = list(self.paddings)
        places = list(range(rank)) if axes is None else constant_ints(axes)
        if amounts is None or places is None:
            return Fact.tensor(data.dtype, (None,) * rank)
        dims = list(data.shape)
        for axis, before, after in self._triples(places, amounts, rank):
            dims[axis] = add(add(dims[axis], before), after)
            size = dims[axis]
            if isinstance(size, int) and size < 0:
                raise InferenceError(
                    f"Pad removes {-(before or 0) - (after or 0)} of the {data.shape[axis]} "
                    f"elements along axis {axis}"
                )
        return Fact.tensor(data.dtype, dims)

    def _triples(
        self, axes: Sequence[int], amounts: Sequence[Any], rank: int
    ) -> list[tuple[int, Any, Any]]:
        count = len(axes)
        if len(amounts) != 2 * count:
            raise InferenceError(
                f"Pad requires 2 pads for each axis, got {len(amounts)} for {count} axes"
            )
        return list(
            zip(normalized_axes("Pad", axes, rank), amounts[:count], amounts[count:], strict=True)
        )

    def reference(
        self,
        data: Array,
        pads: Array | None,
        constant_value: Array | None,
        axes: Array | None,
    ) -> Array:
        given = self.paddings or () if pads is None else pads.reshape(-1)
        amounts = [int(amount) for amount in given]
        places = range(data.ndim) if axes is None else [int(axis) for axis in axes.reshape(-1)]
        triples = self._triples(places, amounts, data.ndim)
        shape = list(data.shape)
        for axis, before, after in triples:
            shape[axis] += before + after
        if self.mode not in {"constant", "reflect", "edge", "wrap"}:
            raise ExecutionError(f"Pad has no mode {self.mode!r}")
        check_size("Pad", shape, data.itemsize)
        key = [slice(None)] * data.ndim
        for axis, before, after in triples:
            size = data.shape[axis]
            key[axis] = slice(max(-before, 0), max(size - max(-after, 0), 0))
        kept = data[tuple(key)]
        grown = [(axis, max(before, 0), max(after, 0)) for axis, before, after in triples]
        if self.mode != "constant":
            for axis, before, after in grown:
                if before or after:
                    kept = np.take(kept, self._sources(kept.shape[axis], before, after), axis)
            return np.array(kept)
        return self._filled(kept, grown, shape, constant_value)

    def _sources(self, size: int, before: int, after: int) -> Array:
        """Where each element along an axis of `size` comes from."""
        if size == 0:
            raise ExecutionError(f"Pad with mode {self.mode} of an axis without elements")
        places = np.arange(-before, size + after)
        if self.mode == "edge":
            return np.clip(places, 0, size - 1)
        if self.mode == "wrap":
            return places % size
        period = max(2 * (size - 1), 1)
        places = places % period
        return np.minimum(places, period - places) if size > 1 else places

    def _filled(
        self,
        kept: Array,
        grown: list[tuple[int, int, int]],
        shape: list[int],
        constant_value: Array | None,
    ) -> Array:
        if constant_value is not None:
            if constant_value.size != 1:
                raise ExecutionError(
                    f"Pad requires a scalar constant_value, got shape {list(constant_value.shape)}"
                )
            fill = constant_value.reshape(-1)[0]
        elif kept.dtype == object:
            fill = "" if any(isinstance(item, str) for item in kept.flat) else 0
        else:
            fill = self.value if self.version < 11 else 0
        result = np.empty(shape, kept.dtype)
        result[...] = fill
        key = [slice(None)] * kept.ndim
        for axis, before, _ in grown:
            key[axis] = slice(before, before + kept.shape[axis])
        result[tuple(key)] = kept
        return result

    def gradient(self, op: Writer, grads: Values, inputs: Values, outputs: Values) -> Values:
        (dy,), (x, pads, fill, axes) = grads, inputs
        if pads is None:
            pads = op.value(np.array(self.paddings, np.int64))
        if self.mode != "constant":
            again = {"mode": self.mode}
            return [moved_back(op, dy, x, lambda places: op.Pad(places, pads, None, axes, **again))]
        # what was added is removed, and what was removed comes back as zeros
        amounts = op.known_ints(pads)
        back = op.Neg(pads) if amounts is None else np.array(amounts, np.int64) * -1
        dx = op.Pad(dy, back, None, axes)
        if fill is None:
            return [dx, None, None, None]
        rest = op.Sub(op.ReduceSum(dy, keepdims=0), op.ReduceSum(dx, keepdims=0))
        return [dx, None, op.reshaped(rest, fill), None]


class CenterCropPad(Operator, since=18):
    """`input_data` cropped or zero-padded around its centre to sizes `shape` along `axes`."""

    input_data, shape = Input("T"), Input("Tind")
    output_data = Output("T")
    T, Tind = types.ALL_BFLOAT16, types.INDICES
    axes: tuple[int, ...] | None = None

    def infer(self, input_data: Fact, shape: Fact) -> Fact:
        if input_data.shape is None:
            return same_as(input_data)
        target = contents(shape)
        if target is not None and any(isinstance(dim, int) and dim < 0 for dim in target):
            raise InferenceError(f"CenterCropPad to negative sizes {target}")
        rank = len(input_data.shape)
        axes = normalized_axes(
            "CenterCropPad", range(rank) if self.axes is None else self.axes, rank
        )
        sizes = [None] * len(axes) if target is None else target
        if len(sizes) != len(axes):
            raise InferenceError(
                f"CenterCropPad requires a size for each of {len(axes)} axes, got {len(sizes)}"
            )
        dims = list(input_data.shape)
        for axis, size in zip(axes, sizes, strict=True):
            dims[axis] = size
        return Fact.tensor(input_data.dtype, dims)

    def reference(self, input_data: Array, shape: Array) -> Array:
        target = self.infer(Fact.constant(input_data), Fact.constant(shape)).shape
        sizes = [dim for dim in target or () if isinstance(dim, int)]
        check_size("CenterCropPad", sizes, input_data.itemsize)
        result = np.zeros(sizes, input_data.dtype)
        if input_data.dtype == object:
            result[...] = ""
        source, goal = [], []
        for old, new in zip(input_data.shape, sizes, strict=True):
            common = min(old, new)
            skipped, added = (old - common) // 2, (new - common) // 2
            source.append(slice(skipped, skipped + common))
            goal.append(slice(added, added + common))
        result[tuple(goal)] = input_data[tuple(source)]
        return result

    def body(self, op: BodyBuilder, input_data: Value, shape: Value) -> Any:
        axes = None if self.axes is None else np.array(self.axes, np.int64)
        old = op.size(input_data, *self.axes or ())
        new = op.cast(shape, INT64)
        common, two = op.Min(old, new), np.int64(2)
        skipped, added = (op.Div(op.Sub(size, common), two) for size in (old, new))
        kept = op.Slice(input_data, skipped, op.Add(skipped, common), axes)
        rest = op.Sub(op.Sub(new, common), added)
        return op.Pad(kept, op.Concat(added, rest, axis=0), None, axes)

    def gradient(self, op: Writer, grads: Values, inputs: Values, outputs: Values) -> Values:
        (dy,), (x, _) = grads, inputs
        axes = self.axes if self.axes is None else list(self.axes)
        sizes = op.size(x) if axes is None else op.size(x, *axes)
        return [op.CenterCropPad(dy, sizes, axes=axes), None]
