"""Where values lie in one block of memory, so that those that never live together share it."""

from __future__ import annotations

from bisect import bisect_left, insort
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Mapping

__all__ = ["place"]

_ALIGNMENT: Final = 64
_MOST_PAIRS: Final = 4_000_000
"""Pairs of values that live together up to which each is held against the others."""

_Lives: TypeAlias = "Mapping[Hashable, tuple[int, int]]"


def place(sizes: Mapping[Hashable, int], lifetimes: _Lives) -> tuple[dict[Hashable, int], int]:
    """An offset for each value and the bytes in all.

    `lifetimes` are the first and last step in which a value is used, both inclusive. Greedy, the
    largest first, each at the lowest place that is free throughout its life; where very many live
    together, in the order of their lives, each in the smallest gap that fits.
    """
    padded = {
        key: -(-max(size, 1) // _ALIGNMENT) * _ALIGNMENT + _ALIGNMENT for key, size in sizes.items()
    }
    lives = {key: lifetimes.get(key, (0, 0)) for key in sizes}
    if _pairs(lives) > _MOST_PAIRS:
        return _in_order(padded, lives)
    return _largest_first(padded, lives)


def _pairs(lives: _Lives) -> int:
    """How many pairs of values live together."""
    births = sorted(first for first, _ in lives.values())
    deaths = sorted(last for _, last in lives.values())
    dead = total = 0
    for born, first in enumerate(births):
        while deaths[dead] < first:
            dead += 1
        total += born - dead
    return total


def _largest_first(sizes: Mapping[Hashable, int], lives: _Lives) -> tuple[dict[Hashable, int], int]:
    placed = _Placed()
    offsets: dict[Hashable, int] = {}
    total = 0
    for key in sorted(sizes, key=lambda key: -sizes[key]):
        size = sizes[key]
        first, last = lives[key]
        offset = 0
        for begin, end in sorted(placed.meeting(first, last)):
            if offset + size <= begin:
                break
            offset = max(offset, end)
        offsets[key] = offset
        placed.add(offset, offset + size, first, last)
        total = max(total, offset + size)
    return offsets, total


class _Placed:
    """Places that are taken, to be found by when they are.

    A life of `n` steps lies in at most two cells of the first power of two steps above `n`.
    """

    def __init__(self) -> None:
        self._levels: dict[int, dict[int, list[tuple[int, int, int, int]]]] = {}

    def add(self, begin: int, end: int, first: int, last: int) -> None:
        level = (last - first).bit_length()
        cells = self._levels.setdefault(level, {})
        for cell in {first >> level, last >> level}:
            cells.setdefault(cell, []).append((begin, end, first, last))

    def meeting(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        """The places taken at some time from `first` to `last`, some of them twice."""
        for level, cells in self._levels.items():
            low, high = first >> level, last >> level
            near = range(low, high + 1) if high - low < len(cells) else cells
            for cell in near:
                for begin, end, born, dead in cells.get(cell, ()):
                    if born <= last and dead >= first:
                        yield begin, end


def _in_order(sizes: Mapping[Hashable, int], lives: _Lives) -> tuple[dict[Hashable, int], int]:
    offsets: dict[Hashable, int] = {}
    gaps: list[tuple[int, int]] = []
    begins: dict[int, int] = {}
    ends: dict[int, int] = {}
    total = 0

    def give(begin: int, end: int) -> None:
        if begin in ends:
            start = ends.pop(begin)
            gaps.pop(bisect_left(gaps, (begin - start, start)))
            begin = start
        if end in begins:
            stop = begins.pop(end)
            gaps.pop(bisect_left(gaps, (stop - end, end)))
            end = stop
        begins[begin], ends[end] = end, begin
        insort(gaps, (end - begin, begin))

    dying = sorted(sizes, key=lambda key: lives[key][1])
    dead = 0
    for key in sorted(sizes, key=lambda key: lives[key][0]):
        while lives[dying[dead]][1] < lives[key][0]:
            offset = offsets[dying[dead]]
            give(offset, offset + sizes[dying[dead]])
            dead += 1
        size = sizes[key]
        found = bisect_left(gaps, (size, 0))
        if found == len(gaps):
            offsets[key] = total
            total += size
            continue
        length, begin = gaps.pop(found)
        del begins[begin], ends[begin + length]
        offsets[key] = begin
        if length > size:
            give(begin + size, begin + length)
    return offsets, total
