r"""Full matches of RE2 patterns in time linear in the text.

Syntax: https://github.com/google/re2/wiki/Syntax as RE2 reads it by default. A pattern becomes
an automaton whose state sets are computed as texts need them, so no pattern backtracks. Scripts
(``\p{Greek}``) and single bytes (``\C``) are refused.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, Final

from sardonyx.errors import LimitError
from sardonyx.ops.charset import EMPTY, WORD, contains
from sardonyx.ops.pattern import (
    ALTERNATE,
    ANYTHING,
    ASSERTIONS,
    CONCATENATE,
    OPTIONAL,
    PLUS,
    STAR,
    parse,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sardonyx.ops.charset import CharSet
    from sardonyx.ops.pattern import Token

__all__ = ["Pattern"]

_CACHED: Final = 1 << 20
"""Most automaton states that all remembered state sets hold together."""
_WORK: Final = 1 << 27
"""Most visits of an automaton state in matching one tensor, some tens of seconds."""

_EDGE, _LINE, _LETTER, _OTHER = range(4)
"""What is beside a position: the text's end, a newline, a word character, another."""


class Pattern:
    """A compiled pattern; raises `ModelError` for bad syntax and `LimitError` for its size."""

    def __init__(self, pattern: str) -> None:
        self._automaton = _Automaton(parse(pattern))

    def matches(self, texts: Iterable[str]) -> list[bool]:
        """Whether each text matches as a whole."""
        matcher = _Matcher(self._automaton)
        return [matcher.match(text) for text in texts]


class _Matcher:
    """An automaton and the state sets that texts have led to so far."""

    def __init__(self, automaton: _Automaton) -> None:
        self._automaton = automaton
        self._work = 0
        self._forget()

    def _forget(self) -> None:
        start = (frozenset([self._automaton.start]), _EDGE)
        self._numbers = {start: 0}
        self._states = [start]
        self._moves: list[dict[int, int]] = [{}]
        self._accepting: dict[int, bool] = {}
        self._held = 1

    def match(self, text: str) -> bool:
        state = 0
        segments = self._automaton.segments
        for char in text:
            segment = bisect_right(segments, ord(char))
            following = self._moves[state].get(segment)
            if following is None:
                following = self._move(state, segment)
            state = following
            if not self._states[state][0]:
                return False
        if state not in self._accepting:
            core, before = self._states[state]
            reached = self._closure(core, before, _EDGE)
            self._accepting[state] = self._automaton.accept in reached
        return self._accepting[state]

    def _move(self, state: int, segment: int) -> int:
        automaton = self._automaton
        sample = automaton.segments[segment - 1] if segment else 0
        kind = _kind(sample)
        core, before = self._states[state]
        target = frozenset(
            automaton.following[at]
            for at in self._closure(core, before, kind)
            if contains(automaton.consumed[at], sample)
        )
        if self._held > _CACHED:
            self._forget()
            return self._number(target, kind)
        number = self._number(target, kind)
        self._moves[state][segment] = number
        return number

    def _number(self, core: frozenset[int], kind: int) -> int:
        key = (core, kind)
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = len(self._states)
            self._states.append(key)
            self._moves.append({})
            self._held += len(core) + 1
        return number

    def _closure(self, core: frozenset[int], before: int, after: int) -> set[int]:
        """Every state that `core` reaches without a character, between these neighbours."""
        automaton = self._automaton
        seen = set(core)
        stack = list(core)
        while stack:
            at = stack.pop()
            condition = automaton.conditions.get(at)
            if condition is not None and not _holds(condition, before, after):
                continue
            for target in automaton.jumps[at]:
                if target not in seen:
                    seen.add(target)
                    stack.append(target)
        self._work += len(seen)
        if self._work > _WORK:
            raise LimitError(
                f"regular expression: more than {_WORK} steps for these texts",
                hint="use a pattern with fewer repetitions",
            )
        return seen


def _kind(code: int) -> int:
    if code == ord("\n"):
        return _LINE
    return _LETTER if contains(WORD, code) else _OTHER


def _holds(condition: str, before: int, after: int) -> bool:
    if condition == "begin":
        return before == _EDGE
    if condition == "end":
        return after == _EDGE
    if condition == "line begin":
        return before in {_EDGE, _LINE}
    if condition == "line end":
        return after in {_EDGE, _LINE}
    return ((before == _LETTER) != (after == _LETTER)) == (condition == "boundary")


class _Automaton:
    """A nondeterministic automaton with one way in and one way out.

    State i consumes a character of `consumed[i]` and goes on to `following[i]`, or jumps to
    any of `jumps[i]`, where `conditions` allows. `segments` cuts the characters into intervals
    whose members no state tells apart.
    """

    def __init__(self, tokens: list[Token]) -> None:
        self.consumed: list[CharSet] = []
        self.following: list[int] = []
        self.jumps: list[list[int]] = []
        self.conditions: dict[int, str] = {}
        fragments: list[tuple[int, int]] = []
        for token in tokens:
            self._add(token, fragments)
        ((self.start, self.accept),) = fragments
        edges = {0, ord("\n"), ord("\n") + 1}
        for chars in {WORD, *self.consumed}:
            for first, last in chars:
                edges.update((first, last + 1))
        self.segments = sorted(edges)

    def _state(self, *jumps: int) -> int:
        self.consumed.append(EMPTY)
        self.following.append(0)
        self.jumps.append(list(jumps))
        return len(self.jumps) - 1

    def _add(self, token: Token, fragments: list[tuple[int, int]]) -> None:
        """Apply one postfix token to the stack of (first state, last state)."""
        if isinstance(token, tuple) or token in ASSERTIONS or token == ANYTHING:
            last = self._state()
            first = self._state()
            if isinstance(token, tuple):
                self.consumed[first], self.following[first] = token, last
            else:
                self.jumps[first].append(last)
                if token in ASSERTIONS:
                    self.conditions[first] = token
            fragments.append((first, last))
        elif token in {CONCATENATE, ALTERNATE}:
            right, left = fragments.pop(), fragments.pop()
            if token == CONCATENATE:
                self.jumps[left[1]].append(right[0])
                fragments.append((left[0], right[1]))
            else:
                last = self._state()
                self.jumps[left[1]].append(last)
                self.jumps[right[1]].append(last)
                fragments.append((self._state(left[0], right[0]), last))
        else:
            assert token in {STAR, PLUS, OPTIONAL}
            first, final = fragments.pop()
            last = self._state()
            self.jumps[final].append(last)
            if token != OPTIONAL:
                self.jumps[final].append(first)
            begin = self._state(first) if token == PLUS else self._state(first, last)
            fragments.append((begin, last))
