"""Padding of convolutions and pools."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["flat", "listed", "paddings"]


def listed(given: Sequence[int] | None, rank: int, default: int = 1) -> tuple[int, ...]:
    """An attribute of one number for each spatial axis."""
    return tuple(given) if given else (default,) * rank


def paddings(
    sizes: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    pads: Sequence[int] | None,
    auto_pad: str,
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """What is added before and after each spatial axis."""
    rank = len(kernel)
    if not auto_pad.startswith("SAME"):
        given = listed(pads if auto_pad == "NOTSET" else None, 2 * rank, 0)
        return given[:rank], given[rank:]
    begins, ends = [], []
    for size, k, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True):
        output = -(-size // stride)
        missing = torch.sym_max((output - 1) * stride + (k - 1) * dilation + 1 - size, 0)
        half = missing // 2
        begins.append(half if auto_pad == "SAME_UPPER" else missing - half)
        ends.append(missing - begins[-1])
    return tuple(begins), tuple(ends)


def flat(begins: Sequence[Any], ends: Sequence[Any]) -> list[Any]:
    """Paddings in the order of `torch.nn.functional.pad`."""
    return [amount for pair in reversed(list(zip(begins, ends, strict=True))) for amount in pair]
