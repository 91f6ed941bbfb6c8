"""Options that several commands take."""

from __future__ import annotations

import difflib
from dataclasses import fields
from typing import TYPE_CHECKING

from sardonyx.errors import InputError, quote
from sardonyx.limits import DEFAULT, Limits

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["parse_floats", "parse_limits"]


def parse_limits(texts: Iterable[str]) -> Limits:
    """``NAME=NUMBER`` options as `Limits`; the names are its fields."""
    known = [field.name for field in fields(Limits)]
    changes: dict[str, float] = {}
    for text in texts:
        name, found, number = text.partition("=")
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]}?" if close else f"the limits are {', '.join(known)}"
            raise InputError(f"no limit is called {quote(name)}", hint=hint)
        try:
            value = float(number)
            changes[name] = value if name == "seconds" else int(value)
        except (ValueError, OverflowError):
            value = -1
        if not found or not value > 0:
            raise InputError(f"--limit {quote(text)}: a limit is a number above 0")
    return DEFAULT.replace(**changes)


def parse_floats(text: str | None, option: str) -> tuple[float, ...]:
    """Numbers with commas between."""
    if not text:
        return ()
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise InputError(
            f"{option} {quote(text)} is not numbers", hint=f"write {option} 0.485,0.456,0.406"
        ) from None
