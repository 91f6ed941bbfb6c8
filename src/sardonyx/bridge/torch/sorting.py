"""TopK, Unique and NonMaxSuppression."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sardonyx.bridge.torch.arithmetic import ordered
from sardonyx.bridge.torch.indexing import gather_elements
from sardonyx.bridge.torch.registry import implementation
from sardonyx.bridge.torch.sizes import integer, numbers


@implementation("TopK", host=("count",), several=True, ignored=("sorted",))
def topk(
    x: Tensor, count: Any = None, *, axis: int = -1, largest: int = 1, k: int = 0
) -> tuple[Tensor, Tensor]:
    """Of equal elements the one with the lower index comes first."""
    wanted = k if count is None else int(integer(count))
    order = torch.sort(ordered(x), dim=axis, descending=bool(largest), stable=True).indices
    places = order.narrow(axis, 0, wanted)
    return gather_elements(x, places, axis=axis), places


@implementation("Unique", several=True)
def unique(x: Tensor, *, axis: int | None = None, sorted: int = 1) -> tuple[Tensor, ...]:
    data, place = (x.reshape(-1), 0) if axis is None else (x, axis % x.dim())
    _, inverse, counts = torch.unique(data, return_inverse=True, return_counts=True, dim=place)
    steps = torch.arange(inverse.shape[0], device=x.device)
    first = torch.full_like(counts, inverse.shape[0]).scatter_reduce(0, inverse, steps, "amin")
    if not sorted:
        order = torch.argsort(first)
        rank = torch.empty_like(order).scatter(0, order, torch.arange(len(order), device=x.device))
        first, inverse, counts = first[order], rank[inverse], counts[order]
    return data.index_select(place, first), first, inverse, counts


@implementation("NonMaxSuppression", host=("most_per_class", "iou_threshold", "score_threshold"))
def non_max_suppression(
    boxes: Tensor,
    scores: Tensor,
    most_per_class: Any = None,
    iou_threshold: Any = None,
    score_threshold: Any = None,
    *,
    center_point_box: int = 0,
) -> Tensor:
    most = 0 if most_per_class is None else int(integer(most_per_class))
    overlap = 0.0 if iou_threshold is None else float(numbers(iou_threshold)[0])
    least = None if score_threshold is None else float(numbers(score_threshold)[0])
    first, second = boxes[..., :2], boxes[..., 2:]
    if center_point_box:
        first, second = first - second / 2, first + second / 2
    low, high = torch.minimum(first, second), torch.maximum(first, second)
    rows = []
    for batch in range(boxes.shape[0] if most > 0 else 0):
        for each in range(scores.shape[1]):
            kept = _kept(low[batch], high[batch], scores[batch, each], most, overlap, least)
            rows += [(batch, each, box) for box in kept]
    return torch.tensor(rows, dtype=torch.int64, device=boxes.device).reshape(-1, 3)


def _kept(
    low: Tensor, high: Tensor, scores: Tensor, most: int, overlap: float, least: float | None
) -> list[int]:
    order = torch.sort(scores, descending=True, stable=True).indices
    if least is not None:
        order = order[scores[order] > least]
    low, high = low[order], high[order]
    areas = (high - low).prod(1)
    shared = (torch.minimum(high[:, None], high) - torch.maximum(low[:, None], low)).clamp(min=0)
    common = shared.prod(2)
    union = areas[:, None] + areas - common
    solid = (areas[:, None] > 0) & (areas > 0) & (union > 0)
    clashes = (solid & (common / union > overlap)).tolist()
    kept: list[int] = []
    for box in range(len(order)):
        if len(kept) < most and not any(clashes[other][box] for other in kept):
            kept.append(box)
    return [int(place) for place in order[torch.tensor(kept, dtype=torch.int64)].tolist()]
