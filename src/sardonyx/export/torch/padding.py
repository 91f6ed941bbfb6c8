"""Padding: constant, reflected, replicated, circular; negative amounts crop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from sardonyx import dtypes
from sardonyx.dims import Dim
from sardonyx.errors import ExportError
from sardonyx.export.torch.indexing import empty, span
from sardonyx.export.torch.registry import TorchBuilder, static, translation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sardonyx.dims import DimLike
    from sardonyx.ir.value import Value

__all__: list[str] = []

_END: Final = 2**63 - 1
_MODES: Final = {
    "constant": None,
    "reflect": "reflect",
    "replicate": "edge",
    "circular": "wrap",
}


@translation("aten.pad.default")
def pad(
    op: TorchBuilder,
    x: Value,
    pads: Sequence[DimLike],
    mode: str = "constant",
    value: Any = None,
) -> Any:
    if all(not isinstance(amount, Dim) and amount == 0 for amount in pads):
        return x
    if mode not in _MODES:
        raise ExportError(f"padding mode {mode!r} is not known")
    nothing = empty(op)
    if nothing is not None:
        return nothing
    rank = op.rank_of(x)
    before: list[DimLike] = [0] * rank
    after: list[DimLike] = [0] * rank
    for index in range(len(pads) // 2):
        before[rank - 1 - index] = pads[2 * index]
        after[rank - 1 - index] = pads[2 * index + 1]
    if mode == "circular" and op.opset < 19:
        return _wrapped(op, x, before, after)
    if mode == "replicate":
        x = _replicated(op, x, before, after)
    name = _MODES[mode]
    if op.opset < 11:
        return op.Pad(
            x,
            pads=static([*before, *after], "pad"),
            mode=name,
            value=float(value) if value else None,
        )
    fill = op.scalar(value, op.result()) if value and name is None else None
    if not any(isinstance(amount, Dim) or amount for amount in (*before, *after)):
        return x
    return op.Pad(x, op.sizes([*before, *after]), fill, mode=name)


def _replicated(op: TorchBuilder, x: Value, before: list[DimLike], after: list[DimLike]) -> Value:
    """`x` padded along the axes that a crop leaves nothing of, which Pad has no edge for."""
    for axis, size in enumerate(op.shape_of(x)):
        left, right = before[axis], after[axis]
        if isinstance(left, Dim) or isinstance(right, Dim):
            continue
        cropped = min(left, 0) + min(right, 0)
        count = size + left + right
        if not min(left, right) < 0 < max(left, right):
            continue
        if isinstance(size, Dim) or isinstance(count, Dim):
            # how much a crop leaves is known only when the model runs
            numbers = op.Sub(span(op, 0, count), op.constant(left, dtypes.INT64))
            last = op.Sub(op.scalar(size, dtypes.INT64), op.constant(1, dtypes.INT64))
            zero = op.constant(0, dtypes.INT64)
            if op.opset >= 12:
                places = op.Min(op.Max(numbers, zero), last)
            else:
                numbers = op.Where(op.Less(numbers, zero), zero, numbers)
                places = op.Where(op.Less(last, numbers), last, numbers)
        elif size + cropped <= 0:
            places = op.constant(np.clip(np.arange(count) - left, 0, size - 1), dtypes.INT64)
        else:
            continue
        shape = list(op.shape_of(x))
        shape[axis] = count
        x = op.typed(op.Gather(x, places, axis=axis), op.dtype_of(x), shape)
        before[axis] = after[axis] = 0
    return x


def _wrapped(
    op: TorchBuilder, x: Value, before: Sequence[DimLike], after: Sequence[DimLike]
) -> Value:
    for axis, (left, right) in enumerate(zip(before, after, strict=True)):
        if isinstance(left, int) and left < 0:
            x, left = op.slice(x, axis, -left, _END), 0
        if isinstance(right, int) and right < 0:
            x, right = op.slice(x, axis, 0, right), 0
        parts = [x]
        if isinstance(left, Dim) or left:
            parts.insert(0, op.slice(x, axis, -1 * left, _END))
        if isinstance(right, Dim) or right:
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
