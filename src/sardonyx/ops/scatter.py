"""Operators that place elements by index."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sardonyx.dims import known_equal
from sardonyx.dtypes import INT64
from sardonyx.errors import ExecutionError, InferenceError, UnsupportedError
from sardonyx.ir.types import shape_text
from sardonyx.ops import types
from sardonyx.ops.fact import Fact
from sardonyx.ops.indexing import grid_key, inside, same_rank
from sardonyx.ops.numeric import widen
from sardonyx.ops.operator import Operator, same_as
from sardonyx.ops.schema import Input, Output, attribute, past
from sardonyx.ops.symbolic import normalized

if TYPE_CHECKING:
    from collections.abc import Callable

    from sardonyx.ir.tensor import Array
    from sardonyx.ir.value import Value
    from sardonyx.ops.operator import Values
    from sardonyx.ops.writer import Writer


_REDUCTIONS: dict[str, Any] = {
    "add": np.add,
    "mul": np.multiply,
    "max": np.maximum,
    "min": np.minimum,
}


def _scattered(
    op_type: str, data: Array, key: tuple[Any, ...], updates: Array, reduction: str
) -> Array:
    """A copy of `data` with `updates` put, or combined by `reduction`, where `key` says.

    Of several updates to one place without a reduction the last one stays.
    """
    if reduction == "none":
        result: Array = data.copy()
        result[key] = updates
        return result
    combine = _REDUCTIONS.get(reduction)
    if combine is None:
        raise ExecutionError(
            f"{op_type} has no reduction {reduction!r}: use none, add, mul, max or min"
        )
    if any(isinstance(item, str) for item in data.flat if data.dtype == object):
        raise ExecutionError(f"{op_type}: strings have no reduction {reduction!r}")
    combined: Array = widen(data).copy()
    with np.errstate(all="ignore"):
        combine.at(combined, key, widen(updates))
        return combined if combined.dtype == data.dtype else combined.astype(data.dtype)


def _check_reduction(op_type: str, reduction: str, version: int) -> None:
    known = ("none", "add", "mul") if version < 18 else ("none", *_REDUCTIONS)
    if reduction not in known:
        raise InferenceError(
            f"{op_type}-{version} has no reduction {reduction!r}: use one of {', '.join(known)}"
        )


def _gradients(
    node: Operator,
    reduction: str,
    op: Writer,
    dy: Value,
    inputs: Values,
    y: Value,
    gather: Callable[[Value], Value],
    place: Callable[..., Value],
) -> Values:
    """The gradients of a scatter.

    ``gather(x)`` takes what lies at its places, ``place(x, updates)`` puts others there; with
    ``reduction="add"`` it adds them.
    """
    data, _, updates = inputs
    if reduction in {"max", "min"}:
        # equal parts to all that are the greatest or least
        dtype = op.dtype(data)
        is_data = op.cast(op.same(data, y), dtype)
        is_update = op.cast(op.same(updates, gather(y)), dtype)
        share = op.Div(dy, place(is_data, is_update, reduction="add"))
        return [op.Mul(share, is_data), None, op.Mul(gather(share), is_update)]
    if reduction == "add":
        return [dy, None, gather(dy)]
    if reduction != "none":
        raise UnsupportedError(f"{node.op_type} with reduction {reduction!r} has no gradient rule")
    return [place(dy, op.zeros_like(updates)), None, gather(dy)]


class _ElementScatter(Operator):
    data, indices, updates = Input("T"), Input("Tind"), Input("T")
    output = Output("T")
    Tind = types.INDICES
    axis: int = 0
    reduction: str = attribute("none", since=16)
    moves_data = True

    def infer(self, data: Fact, indices: Fact, updates: Fact) -> Fact:
        _check_reduction(self.op_type, self.reduction, self.version)
        same_rank(self.op_type, data, indices)
        same_rank(self.op_type, data, updates)
        if data.rank is not None:
            normalized(self.op_type, self.axis, data.rank)
        return same_as(data)

    def reference(self, data: Array, indices: Array, updates: Array) -> Array:
        _check_reduction(self.op_type, self.reduction, self.version)
        if indices.shape != updates.shape:
            raise ExecutionError(
                f"{self.op_type}: indices of shape {list(indices.shape)} and updates of shape "
                f"{list(updates.shape)} differ"
            )
        key = grid_key(self.op_type, data, indices, self.axis)
        return _scattered(self.op_type, data, key, updates, self.reduction)

    def gradient(self, op: Writer, grads: Values, inputs: Values, outputs: Values) -> Values:
        indices, axis = inputs[1], self.axis
        return _gradients(
            self,
            self.reduction,
            op,
            grads[0],
            inputs,
            outputs[0],
            lambda x: op.GatherElements(x, indices, axis=axis),
            lambda x, updates, **how: op.ScatterElements(x, indices, updates, axis=axis, **how),
        )


class ScatterElements(_ElementScatter, since=18):
    """`data` with each element of `updates` put at the index of `indices` along `axis`."""

    T = types.ALL_BFLOAT16
    history = past(16), past(13), past(11, T=types.ALL_BEFORE_BFLOAT16)


class Scatter(_ElementScatter, since=11):
    """What ScatterElements was called before opset 11."""

    T = types.ALL_BEFORE_BFLOAT16
    deprecated = True
    history = (past(9, deprecated=False),)


class ScatterND(Operator, since=18):
    """`data` with slices `updates` put where the tuples in `indices` say."""

    data, indices, updates = Input("T"), Input((INT64,)), Input("T")
    output = Output("T")
    T = types.ALL_BFLOAT16
    reduction: str = attribute("none", since=16)
    history = past(16), past(13), past(11, T=types.ALL_BEFORE_BFLOAT16)
    moves_data = True

    def infer(self, data: Fact, indices: Fact, updates: Fact) -> Fact:
        _check_reduction("ScatterND", self.reduction, self.version)
        if data.shape is None or indices.shape is None:
            return same_as(data)
        width = indices.shape[-1] if indices.shape else 0
        if not indices.shape or (isinstance(width, int) and width > len(data.shape)):
            raise InferenceError(
                f"ScatterND cannot place with indices {shape_text(indices.shape)} "
                f"into data {shape_text(data.shape)}"
            )
        if isinstance(width, int) and updates.shape is not None:
            needed = (*indices.shape[:-1], *data.shape[width:])
            if len(needed) != len(updates.shape) or any(
                a is not None and b is not None and known_equal(a, b) is False
                for a, b in zip(needed, updates.shape, strict=True)
            ):
                raise InferenceError(
                    f"ScatterND requires updates of shape {shape_text(needed)}, "
                    f"got {shape_text(updates.shape)}"
                )
        return same_as(data)

    def reference(self, data: Array, indices: Array, updates: Array) -> Array:
        self.infer(*(Fact.tensor(None, array.shape) for array in (data, indices, updates)))
        picked = [
            inside("ScatterND", indices[..., k], data.shape[k]) for k in range(indices.shape[-1])
        ]
        # an axis of size 1 in front, so that there is an index even where the tuples are empty
        key = (np.zeros(indices.shape[:-1], np.int64), *picked)
        return np.asarray(_scattered("ScatterND", data[None], key, updates, self.reduction)[0])

    def gradient(self, op: Writer, grads: Values, inputs: Values, outputs: Values) -> Values:
        indices = inputs[1]
        return _gradients(
            self,
            self.reduction,
            op,
            grads[0],
            inputs,
            outputs[0],
            lambda x: op.GatherND(x, indices),
            lambda x, updates, **how: op.ScatterND(x, indices, updates, **how),
        )
