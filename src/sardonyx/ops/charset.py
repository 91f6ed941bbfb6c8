"""Sets of Unicode characters as sorted ranges of code points."""

from __future__ import annotations

import unicodedata
from bisect import bisect_left, bisect_right
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable

CharSet: TypeAlias = tuple[tuple[int, int], ...]
"""Ranges (first, last) in ascending order that neither overlap nor touch."""

LAST: Final = 0x10FFFF


def union(ranges: Iterable[tuple[int, int]]) -> CharSet:
    """The set of all code points in `ranges`."""
    merged: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if merged and first <= merged[-1][1] + 1:
            if last > merged[-1][1]:
                merged[-1] = (merged[-1][0], last)
        else:
            merged.append((first, last))
    return tuple(merged)


def complement(chars: CharSet) -> CharSet:
    """All other code points."""
    edges = [-1, *(edge for pair in chars for edge in pair), LAST + 1]
    gaps = zip(edges[::2], edges[1::2], strict=True)
    return tuple((last + 1, first - 1) for last, first in gaps if last + 1 < first)


def contains(chars: CharSet, code: int) -> bool:
    """Whether `code` is in the set."""
    place = bisect_right(chars, (code, LAST + 1)) - 1
    return place >= 0 and code <= chars[place][1]


@lru_cache(256)
def folded(chars: CharSet) -> CharSet:
    """The set with every character that differs from one of them only in case."""
    codes, variants = _variants()
    more = [
        (variant, variant)
        for first, last in chars
        for code in codes[bisect_left(codes, first) : bisect_right(codes, last)]
        for variant in variants[code]
    ]
    return union([*chars, *more]) if more else chars


@cache
def _variants() -> tuple[list[int], dict[int, list[int]]]:
    """The code points that have case, and all that fold to the same as each."""
    groups: dict[str, list[int]] = {}
    for code in range(_LAST_CASED + 1):
        char = chr(code)
        groups.setdefault(_simple_fold(char), []).append(code)
    variants = {code: group for group in groups.values() if len(group) > 1 for code in group}
    return sorted(variants), variants


_LAST_CASED: Final = 0x1FFFF


def _simple_fold(char: str) -> str:
    for folded_char in (char.casefold(), char.lower()):
        if len(folded_char) == 1:
            return folded_char
    return char


@cache
def category(name: str) -> CharSet:
    """The characters whose general category is or begins with `name`; empty where unknown."""
    return union(
        pair for key, ranges in _categories().items() if key.startswith(name) for pair in ranges
    )


@cache
def _categories() -> dict[str, list[tuple[int, int]]]:
    found: dict[str, list[tuple[int, int]]] = {}
    first, current = 0, unicodedata.category("\0")
    for code in range(1, LAST + 1):
        name = unicodedata.category(chr(code))
        if name != current:
            found.setdefault(current, []).append((first, code - 1))
            first, current = code, name
    found.setdefault(current, []).append((first, LAST))
    return found


def of(text: str) -> CharSet:
    """The set that `text` spells: characters, and ``a-z`` for ranges."""
    ranges = []
    place = 0
    while place < len(text):
        is_range = text[place + 1 : place + 2] == "-" and place + 2 < len(text)
        last = text[place + 2] if is_range else text[place]
        ranges.append((ord(text[place]), ord(last)))
        place += 3 if is_range else 1
    return union(ranges)


EMPTY: Final[CharSet] = ()
ALL: Final[CharSet] = ((0, LAST),)
WORD: Final = of("0-9A-Z_a-z")
DIGIT: Final = of("0-9")
SPACE: Final = of("\t\n\f\r ")
NEWLINE: Final = of("\n")
ASCII_CLASSES: Final = {
    "alnum": of("0-9A-Za-z"),
    "alpha": of("A-Za-z"),
    "ascii": of("\0-\x7f"),
    "blank": of("\t "),
    "cntrl": of("\0-\x1f\x7f"),
    "digit": DIGIT,
    "graph": of("!-~"),
    "lower": of("a-z"),
    "print": of(" -~"),
    "punct": of("!-/:-@[-`{-~"),
    "space": of("\t-\r "),
    "upper": of("A-Z"),
    "word": WORD,
    "xdigit": of("0-9A-Fa-f"),
}
"""What ``[:name:]`` stands for."""
