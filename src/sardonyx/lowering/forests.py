"""Decision trees as one table of records that is walked without branches.

A record is four words: the feature, how far away the children lie, the split, and the leaf. The
two children of a node are neighbours, so a step is

    node = node + offset + (1 if x[feature] <= split else 0)

and a leaf, whose offset is 0 and whose split is NaN, stays where it is. All tests are written as
this one: x < s is x <= the number before s, x >= s is that with the children exchanged, and x == s
is two of them. The lowest bit of an offset says that a NaN is as if the test held.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from sardonyx.loops.nest import NotLowered
from sardonyx.ops.forest import EQ, GT, GTE, LEQ, LT, MEMBER, NEQ

if TYPE_CHECKING:
    from sardonyx.ops.forest import Forest

__all__ = ["WORDS", "Table", "table_of"]

WORDS: Final = 4
"""The words of a record: feature, offset of the children, bits of the split, leaf."""

_DEEPEST: Final = 512
_MOST_TESTS: Final = 1 << 16
"""Up to how many tests those for equality may become."""


@dataclass(frozen=True, slots=True)
class Table:
    """The `records` of all trees, of which the first `len(depths)` are the roots.

    `depths` are the most steps from each root to a leaf, `features` how many features are read,
    `takes_missing` says whether a NaN passes some test.
    """

    records: Any
    depths: Any
    features: int
    takes_missing: bool


@dataclass(slots=True)
class _Tests:
    """Nodes whose test is x <= split. Children below 0 are leaves."""

    feature: Any
    split: Any
    on_true: Any
    on_false: Any
    missing: Any


def table_of(forest: Forest, dtype: Any, multiple: int) -> Table:
    """The table for features of NumPy type `dtype`.

    Up to a multiple of trees it has others, which are one more leaf than the forest's.
    """
    tests = _tests(forest, dtype)
    count = len(tests.feature)
    roots = -(-len(forest.roots) // multiple) * multiple
    heights = _heights(tests)
    word: Any = np.int32 if np.dtype(dtype).itemsize == 4 else np.int64
    if (roots + 2 * count) * WORDS >= 1 << 31:
        raise NotLowered(f"trees of {count} nodes")
    links = np.full(roots + 2 * count, -len(forest.vote_start), np.int64)
    links[: len(forest.roots)] = forest.roots
    links[roots::2], links[roots + 1 :: 2] = tests.on_false, tests.on_true
    records = np.zeros((len(links), WORDS), word)
    split = np.full(len(links), np.nan, dtype)
    inner = np.flatnonzero(links >= 0)
    node = links[inner]
    records[inner, 0] = tests.feature[node]
    records[inner, 1] = (roots + 2 * node - inner) * WORDS + tests.missing[node]
    split[inner] = tests.split[node]
    records[:, 2] = split.view(word)
    leaf = np.flatnonzero(links < 0)
    records[leaf, 3] = ~links[leaf]
    depths = np.zeros(roots, np.int64)
    own = forest.roots
    depths[: len(own)] = np.where(own >= 0, heights[np.maximum(own, 0)], 0) if count else 0
    features = int(tests.feature.max()) + 1 if count else 0
    return Table(records, depths, features, bool(tests.missing.any()))


def _heights(tests: _Tests) -> Any:
    """How many steps each node is above its lowest leaf."""
    heights = np.ones(len(tests.feature), np.int64)
    for _ in range(_DEEPEST):
        found = heights
        for links in (tests.on_true, tests.on_false):
            below = np.where(links >= 0, heights[np.maximum(links, 0)], 0) if len(links) else links
            found = np.maximum(found, 1 + below)
        if np.array_equal(found, heights):
            return heights
        heights = found
    raise NotLowered(f"trees of more than {_DEEPEST} levels")


def _tests(forest: Forest, dtype: Any) -> _Tests:
    mode, given = forest.mode, forest.split
    if np.isin(mode, (EQ, NEQ, MEMBER)).any():
        return _equalities(forest, dtype)
    with np.errstate(all="ignore"):
        split, before = _held(given, dtype)
    never = np.isnan(split)
    bound = np.where(np.isin(mode, (LT, GTE)), before, split).astype(dtype)
    turned = np.isin(mode, (GTE, GT)) & ~never
    return _Tests(
        forest.feature,
        bound,
        np.where(turned, forest.on_false, forest.on_true),
        np.where(turned, forest.on_true, forest.on_false),
        forest.missing_is_true != turned,
    )


def _held(split: Any, dtype: Any) -> tuple[Any, Any]:
    """The greatest numbers of `dtype` that are <= and < each split; NaN where there is none."""
    held = split.astype(dtype)
    held = np.where(held > split, np.nextafter(held, dtype(-np.inf)), held)
    before = np.where(held == split, np.nextafter(held, dtype(-np.inf)), held)
    return held, np.where(split == -np.inf, dtype(np.nan), before)


def _equalities(forest: Forest, dtype: Any) -> _Tests:
    """The tests where some are for equality: these become two, or two for each of a set."""
    size = max(len(forest.members), 1)
    sets: dict[int, list[Any]] = {}
    for code in forest.member_codes.tolist():
        sets.setdefault(code // size, []).append(forest.members[code % size])
    count = len(forest.mode)
    total = count + 2 * (count + len(forest.member_codes))
    if total > _MOST_TESTS:
        raise NotLowered(f"trees with {total} tests for equality")
    feature, mode, split = (list(part) for part in (forest.feature, forest.mode, forest.split))
    true, false = forest.on_true.tolist(), forest.on_false.tolist()
    missing = forest.missing_is_true.tolist()

    def add(like: int, code: int, value: Any, yes: int, no: int) -> int:
        feature.append(feature[like])
        mode.append(code)
        split.append(value)
        true.append(yes)
        false.append(no)
        missing.append(False)
        return len(mode) - 1

    for node in range(count):
        code = mode[node]
        if code not in {EQ, NEQ, MEMBER}:
            continue
        yes, no, value = true[node], false[node], split[node]
        mode[node] = LEQ
        if code == MEMBER:
            values = sets.get(int(forest.member_set[node]), [])
            after = no
            for other in reversed(values[1:]):
                after = add(node, LEQ, other, add(node, LT, other, after, yes), after)
            split[node] = values[0] if values else np.nan
            if values:
                true[node] = add(node, LT, values[0], after, yes)
                false[node] = after
            continue
        if code == NEQ:
            yes, no = no, yes
            missing[node] = not missing[node]
        true[node], false[node] = add(node, LT, value, no, yes), no
    held = np.array(split, np.result_type(forest.split, forest.members))
    plain = type(forest)(
        np.array(feature, np.int64),
        np.array(mode, np.int64),
        held,
        np.array(true, np.int64),
        np.array(false, np.int64),
        np.array(missing, bool),
        forest.roots,
        forest.vote_start,
        forest.vote_target,
        forest.vote_weight,
        np.zeros(len(mode), np.int64),
        forest.members,
        forest.member_codes[:0],
    )
    return _tests(plain, dtype)
