"""RE2 patterns, parsed into postfix form."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final, NoReturn, TypeAlias

from sardonyx.errors import LimitError, ModelError, UnsupportedError, quote
from sardonyx.ops import charset
from sardonyx.ops.charset import CharSet

__all__ = [
    "ALTERNATE",
    "ANYTHING",
    "ASSERTIONS",
    "CONCATENATE",
    "OPTIONAL",
    "PLUS",
    "STAR",
    "Token",
    "parse",
]

Token: TypeAlias = CharSet | str
"""A set of characters to consume, or the name of an assertion or operation."""

CONCATENATE, ALTERNATE, STAR, PLUS, OPTIONAL = "concatenate", "alternate", "star", "plus", "option"
ANYTHING: Final = "empty"
"""Matches the empty text anywhere."""
ASSERTIONS: Final = frozenset(
    {"begin", "end", "line begin", "line end", "boundary", "not boundary"}
)

_LONGEST: Final = 10_000
"""Most tokens of a pattern, its counted repetitions written out."""
_MOST_RANGES: Final = 1 << 20
"""Most ranges of characters that all classes of a pattern have together."""
_MOST_REPEATS: Final = 1000
_GROUP: Final = re.compile(r"\?(?:P?<(\w+)>|([imsU]*(?:-[imsU]+)?)([:)]))", re.ASCII)
_COUNTS: Final = re.compile(r"\{(0|[1-9][0-9]*)(,(0|[1-9][0-9]*|))?\}")
_HEX: Final = re.compile(r"x(?:([0-9A-Fa-f]{2})|\{([0-9A-Fa-f]+)\})")
_OCTAL: Final = re.compile(r"0[0-7]{0,2}|[1-7][0-7]{1,2}")
_UNICODE: Final = re.compile(r"\\([pP])(?:\{(\^?)([^}]*)\}|([^{]))")
_ASCII_CLASS: Final = re.compile(r"\[:(\^?)(.{0,40}?):\]", re.DOTALL)
_PERL: Final = {"d": charset.DIGIT, "s": charset.SPACE, "w": charset.WORD}
_CONTROL: Final = {"a": "\a", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_POSITIONS: Final = {"A": "begin", "z": "end", "b": "boundary", "B": "not boundary"}


def parse(pattern: str) -> list[Token]:
    """The postfix form of `pattern`.

    Raises `ModelError` for bad syntax, `UnsupportedError` for scripts and single bytes, and
    `LimitError` where the pattern with its repetitions written out is too long.
    """
    return _Parser(pattern).parse()


@dataclass
class _Group:
    """An open group: the flags around it, its finished alternatives, and the current one."""

    flags: frozenset[str]
    alternatives: list[list[Token]] = field(default_factory=list)
    items: list[list[Token]] = field(default_factory=list)
    is_repeatable: bool = False
    is_repeated: bool = False


class _Parser:
    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.place = 0
        self.flags: frozenset[str] = frozenset()
        self.groups = [_Group(self.flags)]
        self.length = self.ranges = 0
        if len(pattern) > _LONGEST * 10:
            self._too_long()

    def fail(self, problem: str) -> NoReturn:
        raise ModelError(
            f"regular expression {quote(self.pattern)}: {problem} at character {self.place}",
            hint="the syntax is https://github.com/google/re2/wiki/Syntax",
        )

    def parse(self) -> list[Token]:
        while self.place < len(self.pattern):
            self._next()
        if len(self.groups) > 1:
            self.fail("missing )")
        return self._closed(self.groups[0])

    def _next(self) -> None:
        char = self.pattern[self.place]
        group = self.groups[-1]
        if char == "(":
            self._open()
        elif char == ")":
            if len(self.groups) == 1:
                self.fail("unexpected )")
            self.place += 1
            self.groups.pop()
            self.flags = group.flags
            self._append(self._closed(group))
        elif char == "|":
            self.place += 1
            group.alternatives.append(self._joined(group.items))
            group.items = []
            group.is_repeatable = False
        elif char in "*+?" or (char == "{" and _COUNTS.match(self.pattern, self.place)):
            self._repeat()
        else:
            self._single(char)

    def _single(self, char: str) -> None:
        if char == "[":
            self._append([self._bracket()])
        elif char == "\\":
            self._backslash()
        elif char in "^$":
            self.place += 1
            line = "line " if "m" in self.flags else ""
            self._append([line + ("begin" if char == "^" else "end")])
        elif char == ".":
            self.place += 1
            every = charset.ALL if "s" in self.flags else charset.complement(charset.NEWLINE)
            self._append([every])
        else:
            self.place += 1
            self._append([self._folded(charset.union([(ord(char), ord(char))]))])

    def _append(self, tokens: list[Token]) -> None:
        group = self.groups[-1]
        group.items.append(self._measured(tokens))
        group.is_repeatable, group.is_repeated = True, False
        self.length += 1
        if isinstance(tokens[0], tuple) and len(tokens) == 1:
            self.ranges += len(tokens[0])
        if self.length > _LONGEST or self.ranges > _MOST_RANGES:
            self._too_long()

    def _measured(self, tokens: list[Token]) -> list[Token]:
        if len(tokens) > _LONGEST:
            self._too_long()
        return tokens

    def _too_long(self) -> NoReturn:
        raise LimitError(
            f"regular expression {quote(self.pattern)} has more than {_LONGEST} parts",
            hint="use fewer or shorter counted repetitions",
        )

    def _joined(self, items: list[list[Token]]) -> list[Token]:
        if not items:
            return [ANYTHING]
        joined = list(items[0])
        for item in items[1:]:
            joined += item
            joined.append(CONCATENATE)
        return self._measured(joined)

    def _closed(self, group: _Group) -> list[Token]:
        result: list[Token] = []
        for alternative in group.alternatives:
            result += alternative
        result += self._joined(group.items)
        return self._measured(result + [ALTERNATE] * len(group.alternatives))

    def _open(self) -> None:
        self.place += 1
        outer = self.flags
        if self.pattern[self.place : self.place + 1] == "?":
            match = _GROUP.match(self.pattern, self.place)
            if match is None:
                self.fail("bad group")
            name, flags, end = match.groups()
            self.place = match.end()
            if name is None:
                added, _, removed = flags.partition("-")
                self.flags = (outer | set(added)) - set(removed)
                if end == ")":
                    self.groups[-1].is_repeated = False
                    return
        self.groups.append(_Group(outer))

    def _repeat(self) -> None:
        group = self.groups[-1]
        if not group.is_repeatable:
            self.fail("nothing to repeat")
        if group.is_repeated:
            self.fail("repetition of a repetition")
        item = group.items.pop()
        counts = _COUNTS.match(self.pattern, self.place)
        if counts:
            repeated = self._counted(item, *counts.groups())
            self.place = counts.end()
        else:
            char = self.pattern[self.place]
            repeated = [*item, {"*": STAR, "+": PLUS, "?": OPTIONAL}[char]]
            self.place += 1
        if self.pattern[self.place : self.place + 1] == "?":
            self.place += 1
        self._append(repeated)
        group.is_repeated = True

    def _counted(self, item: list[Token], low: str, comma: str | None, high: str) -> list[Token]:
        if max(len(low), len(high or "")) > len(str(_MOST_REPEATS)) + 4:
            self.fail("repetition count too large")
        least = int(low)
        most = int(high) if high else least
        if max(least, most) > _MOST_REPEATS or most < least:
            self.fail(f"repetition counts must be ascending and at most {_MOST_REPEATS}")
        if (len(item) + 1) * max(most, 1) > _LONGEST:
            self._too_long()
        parts = [item] * least + [[*item, OPTIONAL]] * (most - least)
        if comma and not high:
            parts.append([*item, STAR])
        return self._joined(parts)

    def _folded(self, chars: CharSet) -> CharSet:
        return charset.folded(chars) if "i" in self.flags else chars

    def _backslash(self) -> None:
        following = self.pattern[self.place + 1 : self.place + 2]
        if following in _POSITIONS and following:
            self.place += 2
            self._append([_POSITIONS[following]])
        elif following == "Q":
            end = self.pattern.find("\\E", self.place)
            stop = len(self.pattern) if end < 0 else end
            for char in self.pattern[self.place + 2 : stop]:
                self._append([self._folded(charset.union([(ord(char), ord(char))]))])
            self.place = stop if end < 0 else end + 2
        elif following == "C":
            raise UnsupportedError(
                f"regular expression {quote(self.pattern)}: \\C matches a single byte",
                hint="use . or (?s:.)",
            )
        else:
            found = self._named_class()
            if found is None:
                code = self._escaped()
                found = self._folded(charset.union([(code, code)]))
            self._append([found])

    def _named_class(self) -> CharSet | None:
        r"""The class that a backslash escape names, ``\d`` or ``\pL``, if it does."""
        letter = self.pattern[self.place + 1 : self.place + 2]
        if letter and letter.lower() in _PERL:
            self.place += 2
            chars = self._folded(_PERL[letter.lower()])
            return chars if letter.islower() else charset.complement(chars)
        if not letter or letter not in "pP":
            return None
        match = _UNICODE.match(self.pattern, self.place)
        if match is None:
            self.fail("bad class name")
        kind, caret, braced, short = match.groups()
        self.place = match.end()
        name = short or braced
        chars = charset.ALL if name == "Any" else charset.category(name) if name else ()
        if not chars or (name != "Any" and len(name) > 2):
            raise UnsupportedError(
                f"regular expression {quote(self.pattern)}: class {quote(name)} is no general "
                "category",
                hint="write the script's ranges out, as in [\\x{370}-\\x{3ff}]",
            )
        chars = self._folded(chars)
        return charset.complement(chars) if (kind == "P") != bool(caret) else chars

    def _escaped(self) -> int:
        """The code point that the backslash escape here stands for."""
        start = self.place + 1
        char = self.pattern[start : start + 1]
        if char in _CONTROL and char:
            self.place = start + 1
            return ord(_CONTROL[char])
        if match := _HEX.match(self.pattern, start):
            digits = (match[1] or match[2]).lstrip("0") or "0"
            code = int(digits, 16) if len(digits) <= 6 else charset.LAST + 1
        elif match := _OCTAL.match(self.pattern, start):
            code = int(match[0], 8)
        elif char and char.isascii() and not char.isalnum():
            self.place = start + 1
            return ord(char)
        else:
            self.fail("bad escape")
        if code > charset.LAST:
            self.fail("no such code point")
        self.place = match.end()
        return code

    def _bracket(self) -> CharSet:
        self.place += 1
        is_negated = self.pattern[self.place : self.place + 1] == "^"
        self.place += is_negated
        ranges: list[tuple[int, int]] = []
        first = True
        while first or self.pattern[self.place : self.place + 1] != "]":
            if self.place >= len(self.pattern):
                self.fail("missing ]")
            ranges += self._bracket_item()
            first = False
        self.place += 1
        chars = charset.union(ranges)
        return charset.complement(chars) if is_negated else chars

    def _bracket_item(self) -> CharSet:
        match = _ASCII_CLASS.match(self.pattern, self.place)
        if match:
            if match[2] not in charset.ASCII_CLASSES:
                self.fail("no such class")
            self.place = match.end()
            chars = self._folded(charset.ASCII_CLASSES[match[2]])
            return charset.complement(chars) if match[1] else chars
        if self.pattern[self.place] == "\\":
            named = self._named_class()
            if named is not None:
                return named
        first = last = self._bracket_char()
        rest = self.pattern[self.place : self.place + 2]
        if rest[:1] == "-" and len(rest) == 2 and rest[1] != "]":
            self.place += 1
            last = self._bracket_char()
            if last < first:
                self.fail("descending range")
        return self._folded(((first, last),))

    def _bracket_char(self) -> int:
        char = self.pattern[self.place]
        if char == "\\":
            return self._escaped()
        self.place += 1
        return ord(char)
