"""Reductions of segments that follow one another along an axis."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from sardonyx import dtypes
from sardonyx.errors import ExportError
from sardonyx.export.torch.indexing import empty, span
from sardonyx.export.torch.registry import TorchBuilder, translation

if TYPE_CHECKING:
    from sardonyx.ir.value import Value

__all__: list[str] = []

_REDUCTIONS: Final = {
    "sum": ("Sum", "Add", 0.0), "mean": ("Sum", "Add", 0.0), "max": ("Max", "Max", -np.inf),
    "min": ("Min", "Min", np.inf), "prod": ("Prod", "Mul", 1.0),
}  # fmt: skip


@translation("aten.segment_reduce.default")
def segment_reduce(op: TorchBuilder, data: Value, reduce: str, *, lengths: Value | None = None,
                   indices: Value | None = None, offsets: Value | None = None, axis: int = 0,
                   unsafe: bool = False, initial: float | None = None) -> Any:  # fmt: skip
    nothing = empty(op)
    if nothing is not None:
        return nothing
    if reduce not in _REDUCTIONS or (lengths is None and offsets is None):
        raise ExportError(f"segment_reduce with {reduce!r} of these arguments is not known")
    kind, join, neutral = _REDUCTIONS[reduce]
    dtype, shape, integer = op.dtype_of(data), op.shape_of(data), dtypes.INT64
    axis %= len(shape)
    batch, rest = list(shape[:axis]), list(shape[axis + 1 :])
    if offsets is not None:
        count = op.shape_of(offsets)[axis] - 1
        offsets = op.cast(offsets, integer)
        begins = op.slice(offsets, axis, 0, count)
        ends = op.slice(offsets, axis, 1, count + 1)
    else:
        assert lengths is not None
        count = op.shape_of(lengths)[axis]
        lengths = op.cast(lengths, integer)
        ends = op.CumSum(lengths, op.constant(axis, integer))
        begins = op.Sub(ends, lengths)
    begins, ends = (
        op.unsqueeze(op.typed(bound, integer, [*batch, count]), [axis + 1])
        for bound in (begins, ends)
    )
    # [batch …, segment, element]
    places = span(op, 0, shape[axis])
    inside = op.And(op.Not(op.Less(places, begins)), op.Less(places, ends))
    op.typed(inside, dtypes.BOOL, [*batch, count, shape[axis]])
    mask = op.unsqueeze(inside, [axis + 2 + index for index in range(len(rest))])
    spread = op.Where(mask, op.unsqueeze(data, [axis]), op.constant(neutral, dtype))
    op.typed(spread, dtype, [*batch, count, shape[axis], *rest])
    found = op.reduce(kind, spread, [axis + 1], False)
    if initial is not None:
        found = op.apply(join, [found, op.constant(initial, dtype)])  # type: ignore[assignment]
    if reduce != "mean":
        return found
    sizes = op.cast(op.Sub(ends, begins), dtype)
    op.typed(sizes, dtype, [*batch, count, 1])
    if initial is not None:
        # an empty segment is the initial number
        sizes = op.typed(op.Max(sizes, op.constant(1, dtype)), dtype, [*batch, count, 1])
    sizes = op.reshape(sizes, [*batch, count, *[1] * len(rest)])
    return op.Div(found, sizes)
