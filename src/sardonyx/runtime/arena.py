"""Where values lie in one block of memory, so that those that never live together share it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

__all__ = ["place"]

_ALIGNMENT = 64


def place(
    sizes: Mapping[Hashable, int], lifetimes: Mapping[Hashable, tuple[int, int]]
) -> tuple[dict[Hashable, int], int]:
    """An offset for each value and the bytes in all.

    `lifetimes` are the first and last step in which a value is used, both inclusive. Greedy, the
    largest first, each at the lowest place that is free throughout its life.
    """
    order = sorted(sizes, key=lambda key: -sizes[key])
    placed: list[tuple[int, int, int, int]] = []
    offsets: dict[Hashable, int] = {}
    total = 0
    for key in order:
        size = -(-max(sizes[key], 1) // _ALIGNMENT) * _ALIGNMENT + _ALIGNMENT
        first, last = lifetimes.get(key, (0, 0))
        offset = 0
        for begin, end, born, dead in sorted(placed):
            if dead < first or born > last:
                continue
            if offset + size <= begin:
                break
            offset = max(offset, end)
        offsets[key] = offset
        placed.append((offset, offset + size, first, last))
        total = max(total, offset + size)
    return offsets, total
