"""Operators that order, select and deduplicate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sardonyx.dims import known_less
from sardonyx.dtypes import FLOAT, INT64
from sardonyx.errors import ExecutionError, InferenceError
from sardonyx.ir.types import shape_text
from sardonyx.ops import types
from sardonyx.ops.fact import Fact
from sardonyx.ops.numeric import widen
from sardonyx.ops.operator import Operator
from sardonyx.ops.schema import ABSENT, REQUIRED, Input, Output, attribute, past
from sardonyx.ops.symbolic import most_of, normalized, product, unknown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sardonyx.ir.tensor import Array
    from sardonyx.ir.types import DimLike
    from sardonyx.ops.writer import Writer


class TopK(Operator, since=24):
    """The K largest (or smallest) elements along `axis`, in order, and their indices.

    Of equal elements the one with the lower index comes first. NaN counts as the largest.
    """

    X, K = Input("T"), Input((INT64,))
    Values, Indices = Output("T"), Output((INT64,))
    T = types.NUMERIC_BFLOAT16
    axis: int = -1
    largest: int = attribute(1, since=11)
    sorted: int = attribute(1, since=11)
    k: int | None = attribute(REQUIRED, before=10)
    history = (
        past(11, T=types.NUMERIC),
        past(10, T=types.FLOATS),
        past(1, K=ABSENT),
    )

    def infer(self, X: Fact, K: Fact | None) -> tuple[Fact, Fact]:
        if X.shape is None:
            return Fact.tensor(X.dtype), Fact.tensor(INT64)
        axis = normalized("TopK", self.axis, len(X.shape))
        counts: list[DimLike] = [self.k] if K is None else K.dims_value() or [None]
        count, size = counts[0], X.shape[axis]
        if len(counts) != 1 or (isinstance(count, int) and count < 0):
            raise InferenceError(f"TopK requires one K >= 0, got {counts}")
        if count is not None and size is not None and known_less(size, count):
            raise InferenceError(f"TopK of {count} along an axis of size {size}")
        shape = (*X.shape[:axis], count, *X.shape[axis + 1 :])
        return Fact.tensor(X.dtype, shape), Fact.tensor(INT64, shape)

    def reference(self, X: Array, K: Array | None) -> tuple[Array, Array]:
        axis = normalized("TopK", self.axis, X.ndim)
        if K is not None and K.size != 1:
            raise ExecutionError(f"TopK requires one K, got shape {list(K.shape)}")
        count = self.k if K is None else int(K.reshape(-1)[0])
        size = X.shape[axis]
        if count is None or not 0 <= count <= size:
            raise ExecutionError(f"TopK of {count} along an axis of size {size}")
        data = widen(X)
        if self.largest:
            # descending and stable: the reverse of ascending order of the reversed data
            backwards = np.argsort(np.flip(data, axis), axis=axis, kind="stable")
            order = size - 1 - np.flip(backwards, axis)
        else:
            order = np.argsort(data, axis=axis, kind="stable")
        indices = np.take(order, np.arange(count), axis).astype(np.int64)
        return np.take_along_axis(X, indices, axis), indices

    def gradient(
        self, op: Writer, grads: Sequence[Any], inputs: Sequence[Any], outputs: Sequence[Any]
    ) -> Sequence[Any]:
        dy, x = grads[0], inputs[0]
        if dy is None:
            return [None, None]
        indices = op.with_output(outputs[0], 1, "indices")
        return [op.ScatterElements(op.zeros_like(x), indices, dy, axis=self.axis), None]


class Unique(Operator, since=28):
    """The distinct elements, or slices along `axis`, with where and how often they occur.

    Ascending if `sorted`, else in the order of their first occurrence.
    """

    X = Input("T")
    Y = Output("T")
    indices = Output((INT64,), optional=True)
    inverse_indices = Output((INT64,), optional=True)
    counts = Output((INT64,), optional=True)
    T = types.ALL_BFLOAT16
    axis: int | None = None
    sorted: int = 1
    history = (past(11, T=types.ALL_BEFORE_BFLOAT16),)

    def infer(self, X: Fact) -> tuple[Fact, ...]:
        inverse: DimLike = None
        if X.shape is not None and self.axis is None:
            inverse = product(X.shape)
        elif X.shape is not None and self.axis is not None:
            axis = normalized("Unique", self.axis, len(X.shape))
            inverse = X.shape[axis]
        count = unknown("how many elements of X are distinct", 0, most_of(inverse))
        shape: tuple[DimLike, ...] | None = (count,)
        if self.axis is not None:
            shape = None
            if X.shape is not None:
                shape = (*X.shape[:axis], count, *X.shape[axis + 1 :])
        return (
            Fact.tensor(X.dtype, shape),
            Fact.tensor(INT64, (count,)),
            Fact.tensor(INT64, (inverse,)),
            Fact.tensor(INT64, (count,)),
        )

    def reference(self, X: Array) -> tuple[Array, ...]:
        data = X.reshape(-1) if self.axis is None else X
        axis = 0 if self.axis is None else normalized("Unique", self.axis, X.ndim)
        first, inverse, counts = _unique_slices(data, axis)
        if not self.sorted:
            order = np.argsort(first, kind="stable")
            rank = np.empty_like(order)
            rank[order] = np.arange(order.size)
            first, inverse, counts = first[order], rank[inverse], counts[order]
        picked = np.take(data, first, axis)
        return picked, *(part.astype(np.int64) for part in (first, inverse, counts))


def _unique_slices(data: Array, axis: int) -> tuple[Array, Array, Array]:
    """First occurrence, number in ascending order, and count of the distinct slices."""
    codes = np.unique(widen(data).reshape(-1), return_inverse=True)[1].reshape(data.shape)
    count = data.shape[axis]
    rows: Array = np.moveaxis(codes, axis, 0)
    rows = rows.reshape(count, -1) if data.size else np.zeros((count, 1), np.int64)
    _, first, inverse, counts = np.unique(
        rows, return_index=True, return_inverse=True, return_counts=True, axis=0
    )
    return first, inverse.reshape(-1), counts


class NonMaxSuppression(Operator, since=11):
    """Boxes picked by falling score that overlap no box picked before by more than a threshold.

    The output has a row (batch, class, box) for each. A score must exceed `score_threshold`.
    """

    boxes, scores = Input((FLOAT,)), Input((FLOAT,))
    max_output_boxes_per_class = Input((INT64,), optional=True)
    iou_threshold = Input((FLOAT,), optional=True)
    score_threshold = Input((FLOAT,), optional=True)
    selected_indices = Output((INT64,))
    center_point_box: int = 0
    history = (past(10),)

    def infer(self, boxes: Fact, scores: Fact, *_rest: Fact | None) -> Fact:
        if boxes.rank not in {None, 3} or scores.rank not in {None, 3}:
            raise InferenceError(
                f"NonMaxSuppression requires boxes and scores of rank 3, got "
                f"{shape_text(boxes.shape)} and {shape_text(scores.shape)}"
            )
        return Fact.tensor(INT64, (unknown("how many boxes are kept"), 3))

    def reference(
        self,
        boxes: Array,
        scores: Array,
        max_output_boxes_per_class: Array | None,
        iou_threshold: Array | None,
        score_threshold: Array | None,
    ) -> Array:
        fits = boxes.ndim == scores.ndim == 3 and boxes.shape[2] == 4
        if not fits or boxes.shape[:2] != (scores.shape[0], scores.shape[2]):
            raise ExecutionError(
                f"NonMaxSuppression requires boxes [batch, n, 4] and scores [batch, classes, n], "
                f"got {list(boxes.shape)} and {list(scores.shape)}"
            )
        most = int(_scalar(max_output_boxes_per_class, 0))
        overlap = _scalar(iou_threshold, 0.0)
        least = _scalar(score_threshold, -np.inf)
        rows: list[tuple[int, int, int]] = []
        corners = _corners(boxes, bool(self.center_point_box))
        for batch in range(boxes.shape[0] if most > 0 else 0):
            for each in range(scores.shape[1]):
                picked = _suppress(corners[batch], scores[batch, each], most, overlap, least)
                rows += [(batch, each, box) for box in picked]
        return np.array(rows, np.int64).reshape(-1, 3)


def _scalar(array: Array | None, default: Any) -> Any:
    if array is None:
        return default
    if array.size != 1:
        raise ExecutionError(f"NonMaxSuppression requires scalars, got shape {list(array.shape)}")
    return array.reshape(-1)[0]


def _corners(boxes: Array, is_centered: bool) -> Array:
    """Boxes as lower and upper corner: [..., 2, 2]."""
    with np.errstate(all="ignore"):
        pairs = boxes.reshape(*boxes.shape[:-1], 2, 2)
        if is_centered:
            centre, half = pairs[..., 0, :], pairs[..., 1, :] / 2
            pairs = np.stack([centre - half, centre + half], -2)
        return np.stack([pairs.min(-2), pairs.max(-2)], -2)


def _suppress(corners: Array, scores: Array, most: int, overlap: float, least: float) -> list[int]:
    order = np.flatnonzero(scores > least)
    order = order[np.argsort(-scores[order], kind="stable")]
    (top, left), (bottom, right) = np.ascontiguousarray(corners[order].transpose(1, 2, 0))
    is_left_out = np.zeros(order.size, bool)
    picked: list[int] = []
    with np.errstate(all="ignore"):
        areas = (bottom - top) * (right - left)
        for best, box in enumerate(order):
            if len(picked) >= most:
                break
            if is_left_out[best]:
                continue
            picked.append(int(box))
            if not areas[best] > 0:
                continue
            rest = slice(best + 1, None)
            high = np.minimum(bottom[best], bottom[rest]) - np.maximum(top[best], top[rest])
            wide = np.minimum(right[best], right[rest]) - np.maximum(left[best], left[rest])
            shared = np.maximum(high, 0) * np.maximum(wide, 0)
            union = areas[best] + areas[rest] - shared
            solid = (areas[rest] > 0) & (union > 0)
            is_left_out[rest] |= solid & (shared / union > overlap)
    return picked
