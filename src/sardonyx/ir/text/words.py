"""Names and strings as the textual syntax writes them."""

from __future__ import annotations

import re
from typing import Final

from sardonyx.dtypes import ALL
from sardonyx.errors import ModelError, quote

__all__ = ["CONTAINERS", "DTYPES", "FLOAT_WORDS", "quoted", "written_name"]

DTYPES: Final = {dtype.text: dtype for dtype in ALL}
"""Element types by their names."""

CONTAINERS: Final = frozenset({"seq", "map", "optional", "sparse_tensor", "opaque"})
"""The words that begin other types."""

FLOAT_WORDS: Final = frozenset({"inf", "infinity", "nan"})
"""Numbers that look like names, in lower case."""

_RESERVED: Final = frozenset({*DTYPES, *CONTAINERS, *FLOAT_WORDS, "undefined", "with"})
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_QUOTES = re.compile(r'["\\]')
_INVISIBLE = (
    "\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ud800-\udfff\ufeff"
)
_UNSAFE = re.compile(f"[{_INVISIBLE}]")
_ESCAPED = re.compile(f'["\\\\\\n\\t{_INVISIBLE}]')
_SHORT: Final = {"\n": "\\n", "\r": "\\r", "\t": "\\t", '"': '\\"', "\\": "\\\\"}


def written_name(name: str) -> str:
    """`name`, in quotes where it is no identifier or could be taken for a word of the syntax."""
    if _IDENTIFIER.fullmatch(name) and name not in _RESERVED and name.lower() not in FLOAT_WORDS:
        return name
    return quoted(name)


def quoted(text: str | bytes) -> str:
    """`text` in quotes, as ``"..."`` or as ``b"..."`` with escapes.

    Escapes are for control characters, characters that change the direction of writing, and
    bytes that are not UTF-8. Raises `ModelError` where the text cannot be UTF-8.
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8", "surrogateescape")
    if _UNSAFE.search(text) is None:
        return '"' + _QUOTES.sub(r"\\\g<0>", text) + '"'
    try:
        return 'b"' + _ESCAPED.sub(_escape, text) + '"'
    except UnicodeEncodeError:
        raise ModelError(f"the text {quote(text)} cannot be written as UTF-8") from None


def _escape(found: re.Match[str]) -> str:
    character = found[0]
    short = _SHORT.get(character)
    if short is not None:
        return short
    return "".join([f"\\x{byte:02x}" for byte in character.encode("utf-8", "surrogateescape")])
