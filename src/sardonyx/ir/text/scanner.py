"""The tokens of the textual syntax, one at a time, and where they stand."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from sardonyx.errors import TextError, quote
from sardonyx.limits import exceeded

if TYPE_CHECKING:
    from sardonyx.errors import LimitError
    from sardonyx.limits import Limits

__all__ = ["DEEPEST", "LARGEST", "Scanner"]

DEEPEST: Final = 200
"""Levels beyond which no limit allows nesting: reading and writing are recursive."""

LARGEST: Final = (1 << 63) - 1

_SPACE = re.compile(r"[ \t\n\r\f\v]*(#)?")
_TOKEN = re.compile(
    r"[ \t\n\r\f\v]*(?:"
    r'(?P<prefixed>(?:b|hex|base64)")'
    r"|(?P<name>[A-Za-z_][A-Za-z0-9_]*)"
    r"|(?P<mark>=>|[(){}\[\]<>,:=?@.])"
    r'|(?P<string>")'
    r"|(?P<number>-?[0-9]+(?:\.[0-9]*)?(?:[eE][-+]?[0-9]*)?|-[A-Za-z]+)"
    r"|(?P<comment>\#)"
    r"|(?P<end>\Z)"
    r")"
)
_STOP = re.compile(r'["\\]')
_HEX = re.compile(r"[0-9a-fA-F]{2}")
_ESCAPES: Final = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\"}
_SHOWN = 40


class Scanner:
    """The current token of `text`: `kind`, `value`, and `start` and `end`, its place.

    `kind` is ``name``, ``number`` and ``string`` (value: str), ``bytes`` (``b"..."``; value:
    str, where bytes that are not UTF-8 are surrogates), ``hex`` and ``base64`` (value: what
    stands between the quotes), ``end``, or the mark itself.
    """

    def __init__(self, text: str, limits: Limits) -> None:
        self.text = text
        self.limits = limits
        self.deepest = min(limits.depth, DEEPEST)
        self.kind = ""
        self.value = ""
        self.start = 0
        self.end = 1 if text.startswith("\ufeff") else 0
        self.advance()

    def advance(self) -> str:
        """Step to the next token; returns the value of the one left behind."""
        before = self.value
        text = self.text
        found = _TOKEN.match(text, self.end)
        if found is not None and found.lastgroup == "comment":
            found = _TOKEN.match(text, self._after_space(found.start("comment")))
        if found is None:
            place = self._after_space(self.end)
            raise self.error(f"unexpected character {quote(text[place])}", place)
        kind = found.lastgroup or ""
        self.start, self.end = found.span(kind)
        self.value = value = found[kind]
        if kind == "mark":
            self.kind = value
        elif kind == "string":
            self.kind = "string"
            self.value, self.end = self._string(self.start)
        elif kind == "prefixed":
            self._prefixed(value[:-1], self.start)
        else:
            self.kind = kind
        return before

    def jump(self, place: int) -> None:
        """Make the token at or after `place` the current one."""
        self.end = place
        self.advance()

    def accept(self, kind: str) -> bool:
        """Step over the current token where it is of `kind`."""
        if self.kind != kind:
            return False
        self.advance()
        return True

    def expect(self, kind: str, what: str = "") -> str:
        """Step over the current token, which must be of `kind`; returns its value."""
        if self.kind != kind:
            raise self.unexpected(what or (f"a {kind}" if kind.isalpha() else quote(kind)))
        return self.advance()

    def next_mark(self) -> str:
        """The character that follows the current token, spaces and comments aside."""
        place = self._after_space(self.end)
        return self.text[place : place + 1]

    def has_name(self) -> bool:
        """Whether the current token can be a name: an identifier or a string."""
        return self.kind in {"name", "string", "bytes"}

    def name(self, what: str = "a name") -> str:
        """Step over an identifier or a string that names something."""
        if self.kind == "bytes":
            place = self.start
            text = self.advance()
            if not text.isascii() and any("\ud800" <= c <= "\udfff" for c in text):
                raise self.error(f"{what} is not UTF-8", place)
        elif self.kind in {"name", "string"}:
            text = self.advance()
        else:
            raise self.unexpected(what)
        if len(text) > self.limits.name_bytes:
            raise self.limit("name_bytes", self.limits.name_bytes, len(text))
        return text

    def has_text(self) -> bool:
        """Whether the current token is a string."""
        return self.kind in {"string", "bytes"}

    def string(self, what: str = "a string") -> str:
        """Step over a string; bytes that are not UTF-8 become surrogates."""
        if not self.has_text():
            raise self.unexpected(what)
        return self.advance()

    def integer(self, what: str = "an integer") -> int:
        """Step over an integer of 64 bits."""
        place = self.start
        text = self.expect("number", what)
        try:
            number = int(text)
        except ValueError:
            raise self.error(f"expected {what}, found {quote(text)}", place) from None
        if not -LARGEST - 1 <= number <= LARGEST:
            raise self.error(f"{quote(text)} does not fit 64 bits", place)
        return number

    def unexpected(self, expected: str) -> TextError:
        """The error for the current token, where `expected` should stand."""
        if self.kind == "end":
            found = "the end of the text"
        else:
            shown = self.text[self.start : min(self.end, self.start + _SHOWN)]
            found = quote(shown + ("…" if self.end > self.start + _SHOWN else ""))
        return self.error(f"expected {expected}, found {found}")

    def error(self, message: str, place: int | None = None, hint: str | None = None) -> TextError:
        """The error for what stands at `place` (default: the current token)."""
        line, column = self.position(self.start if place is None else place)
        return TextError(message, line=line, column=column, hint=hint)

    def limit(self, name: str, bound: float, needed: object) -> LimitError:
        """The error for the limit `name`, met at the current token."""
        error = exceeded(name, bound, needed)
        line, column = self.position(self.start)
        error.at(f"line {line}, column {column}")
        return error

    def position(self, place: int) -> tuple[int, int]:
        """Line and column of `place`, from 1."""
        line = self.text.count("\n", 0, place) + 1
        return line, place - self.text.rfind("\n", 0, place)

    def check_depth(self, depth: int) -> None:
        """Refuse to go `depth` levels deep where the limits do not allow it."""
        if depth > self.deepest:
            raise self.limit("depth", self.deepest, f"more than {depth - 1}")

    def _after_space(self, place: int) -> int:
        """Where, after spaces and comments from `place` on, something else stands."""
        text = self.text
        while True:
            found = _SPACE.match(text, place)
            if found is None or found[1] is None:
                return place if found is None else found.end()
            line_end = text.find("\n", found.end())
            place = len(text) if line_end < 0 else line_end

    def _string(self, start: int) -> tuple[str, int]:
        """The string whose opening quote is at `start`: a backslash stands for what follows."""
        plain, escaped, end = self._part(start + 1, start)
        if not escaped:
            return plain, end
        out = bytearray()
        while True:
            out += (plain + escaped).encode("utf-8", "surrogatepass")
            if not escaped:
                return out.decode("utf-8", "surrogatepass"), end
            plain, escaped, end = self._part(end, start)

    def _part(self, place: int, start: int) -> tuple[str, str, int]:
        """Plain text from `place`, the escaped character or nothing, and where that ends."""
        text = self.text
        found = _STOP.search(text, place)
        if found is None or (found[0] == "\\" and found.end() == len(text)):
            raise self.error("a string without its closing quote", start)
        plain = text[place : found.start()]
        if found[0] == '"':
            return plain, "", found.end()
        return plain, text[found.end()], found.end() + 1

    def _prefixed(self, prefix: str, place: int) -> None:
        opening = place + len(prefix)
        if prefix == "b":
            self.kind = "bytes"
            self.value, self.end = self._bytes(opening)
            return
        closing = self.text.find('"', opening + 1)
        if closing < 0:
            raise self.error("a string without its closing quote", place)
        self.kind, self.value, self.end = prefix, self.text[opening + 1 : closing], closing + 1

    def _bytes(self, start: int) -> tuple[str, int]:
        """The same, where a backslash begins an escape."""
        out = bytearray()
        end = start + 1
        while True:
            plain, escaped, end = self._part(end, start)
            out += plain.encode("utf-8", "surrogatepass")
            if not escaped:
                return out.decode("utf-8", "surrogateescape"), end
            if escaped == "x":
                digits = _HEX.match(self.text, end)
                if digits is None:
                    raise self.error(r"\x takes two hexadecimal digits", end - 2)
                out += bytes.fromhex(digits[0])
                end = digits.end()
            elif escaped in _ESCAPES:
                out += _ESCAPES[escaped].encode()
            else:
                raise self.error(f"unknown escape {quote(chr(92) + escaped)}", end - 2)
