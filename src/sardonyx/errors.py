"""Every error that Sardonyx raises on purpose.

::

    SardonyxError
    ├── DecodeError          the bytes are not an ONNX file (path, byte offset)
    ├── TextError            the text is not a model in the textual syntax (line, column)
    ├── ExternalDataError    a data file is missing, unsafe, too short, or fails its checksum
    ├── ModelError           the model breaks a rule of the standard
    │   ├── CheckError       the checker's report, all problems in `problems`
    │   └── InferenceError   types or shapes that cannot fit together
    ├── UnsupportedError     an operator, version or type that this release does not know
    ├── LimitError           a bound of `sardonyx.limits.Limits` would be exceeded
    ├── InputError           what the caller passed does not fit (feeds, names, options)
    ├── ExecutionError       a node failed on the data it was given
    └── ExportError          a framework's model cannot be translated
        └── VerificationError    the exported file computes something else

An error says *what* is wrong, then *where* (innermost place first), then *how to fix it*.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "CheckError",
    "DecodeError",
    "ExecutionError",
    "ExportError",
    "ExternalDataError",
    "InferenceError",
    "InputError",
    "LimitError",
    "ModelError",
    "SardonyxError",
    "TextError",
    "UnsupportedError",
    "VerificationError",
    "quote",
]

_LONGEST_QUOTE = 200


def quote(name: object) -> str:
    """`name` in quotes for a message: unprintables escaped, and shortened when it is huge."""
    text = name if isinstance(name, str) else str(name)
    if len(text) > _LONGEST_QUOTE:
        half = _LONGEST_QUOTE // 2
        text = f"{text[:half]}…{text[-half:]}"
    if text.isprintable():
        return f"'{text}'"
    return "'" + "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text) + "'"


class SardonyxError(Exception):
    """Base of all errors; `message`, `places` (innermost first) and `hint` are its parts."""

    def __init__(self, message: str, *, place: str | None = None, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.places: list[str] = [place] if place else []
        self.hint = hint

    def at(self, place: str) -> SardonyxError:
        """Add the next outer place and return the error, for `raise error.at(...)`."""
        if place not in self.places:
            self.places.append(place)
        return self

    def __str__(self) -> str:
        lines = [self.message, *(f"  at {place}" for place in self.places)]
        if self.hint:
            lines.append(f"  fix: {self.hint}")
        return "\n".join(lines)


class DecodeError(SardonyxError):
    """The bytes are not a well-formed ONNX file; `offset` is the byte where that shows."""

    def __init__(
        self,
        message: str,
        *,
        offset: int | None = None,
        place: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, place=place, hint=hint)
        self.offset = offset
        if offset is not None:
            self.places.insert(0, f"byte {offset}")


class TextError(SardonyxError):
    """The text is not in the textual syntax; `line` and `column`, from 1, are where that shows."""

    def __init__(self, message: str, *, line: int, column: int, hint: str | None = None) -> None:
        super().__init__(message, place=f"line {line}, column {column}", hint=hint)
        self.line = line
        self.column = column


class ExternalDataError(SardonyxError):
    """External data cannot be used: missing, unsafe path, too short, overlapping, bad checksum."""


class ModelError(SardonyxError):
    """The model breaks a rule of the ONNX standard."""


class CheckError(ModelError):
    """The checker found problems; `problems` holds each of them as text."""

    def __init__(
        self, message: str, problems: Sequence[str] = (), *, hint: str | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.problems = tuple(problems)


class InferenceError(ModelError):
    """Types or shapes that cannot fit together."""


class UnsupportedError(SardonyxError):
    """An operator, operator-set version, type or option that this release does not implement."""


class LimitError(SardonyxError):
    """A bound of `sardonyx.limits.Limits` would be exceeded; the message names the bound."""


class InputError(SardonyxError):
    """What the caller passed does not fit: feeds, output names, paths, options."""


class ExecutionError(SardonyxError):
    """A node failed on the data it was given."""


class ExportError(SardonyxError):
    """A framework's model cannot be translated into ONNX."""


class VerificationError(ExportError):
    """The exported model's outputs differ from the framework's."""
