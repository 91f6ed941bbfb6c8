"""Steps of optimizers that a graph takes itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sardonyx.bridge.torch.registry import implementation

if TYPE_CHECKING:
    from collections.abc import Sequence

_DOMAIN = "ai.onnx.preview.training"


def _columns(values: Sequence[Tensor], states: int) -> list[tuple[Tensor, ...]]:
    """For each tensor that is optimized itself, its gradient and its states."""
    count = len(values) // (2 + states)
    return [tuple(values[index::count]) for index in range(count)]


def _flat(rows: Sequence[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    return tuple([item for column in zip(*rows, strict=True) for item in column])


@implementation("Adagrad", domain=_DOMAIN, several=True)
def adagrad(
    r: Tensor,
    t: Tensor,
    *values: Tensor,
    decay_factor: float = 0.0,
    epsilon: float = 1e-6,
    norm_coefficient: float = 0.0,
) -> tuple[Tensor, ...]:
    rows = []
    for x, g, h in _columns(values, 1):
        gradient = norm_coefficient * x + g
        total = h + gradient * gradient
        rate = r / (1 + t * decay_factor)
        rows.append((x - rate * gradient / (torch.sqrt(total) + epsilon), total))
    return _flat(rows)


@implementation("Adam", domain=_DOMAIN, several=True)
def adam(
    r: Tensor,
    t: Tensor,
    *values: Tensor,
    alpha: float = 0.9,
    beta: float = 0.999,
    epsilon: float = 1e-6,
    norm_coefficient: float = 0.0,
    norm_coefficient_post: float = 0.0,
) -> tuple[Tensor, ...]:
    rows = []
    # means that started from zero are made up for, but at the first step
    scale = torch.sqrt(1 - torch.pow(beta, t)) / (1 - torch.pow(alpha, t))
    rate = torch.where(t > 0, r * scale, r)
    for x, g, v, h in _columns(values, 2):
        gradient = norm_coefficient * x + g
        mean = alpha * v + (1 - alpha) * gradient
        square = beta * h + (1 - beta) * gradient * gradient
        moved = x - rate * mean / (torch.sqrt(square) + epsilon)
        rows.append(((1 - norm_coefficient_post) * moved, mean, square))
    return _flat(rows)


@implementation("Momentum", domain=_DOMAIN, several=True)
def momentum(
    r: Tensor,
    t: Tensor,
    *values: Tensor,
    alpha: float,
    beta: float,
    mode: str,
    norm_coefficient: float,
) -> tuple[Tensor, ...]:
    rows = []
    factor = torch.where(t > 0, beta, 1.0)
    for x, g, v in _columns(values, 1):
        gradient = norm_coefficient * x + g
        moving = alpha * v + factor.to(x.dtype) * gradient
        step = gradient + alpha * moving if mode == "nesterov" else moving
        rows.append((x - r * step, moving))
    return _flat(rows)
