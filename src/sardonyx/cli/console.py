"""Output: consoles that take no markup, one JSON document, and errors."""

from __future__ import annotations

import functools
import json
import math
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ParamSpec

from rich.console import Console
from rich.text import Text

from sardonyx.errors import CheckError, InputError, LimitError, SardonyxError, quote

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = [
    "boundary",
    "elided",
    "error_json",
    "errors",
    "exit_code",
    "heading",
    "hint",
    "output",
    "print_json",
    "printable",
    "shown",
    "usage_error",
    "working",
]

P = ParamSpec("P")


class _Console(Console):
    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def output() -> Console:
    """Where results go: standard output. Brackets in strings are text, never styles."""
    return _Console(markup=False, highlight=False, emoji=False)


def errors() -> Console:
    """Where errors, notes and progress go: standard error."""
    return _Console(stderr=True, markup=False, highlight=False, emoji=False)


def shown(name: object) -> str:
    """A name from a file as it may be shown: what is not printable escaped, shortened if huge."""
    return quote(name)[1:-1]


def elided(text: str, width: int) -> str:
    """`text` in `width` columns, its middle left out where it is longer."""
    if len(text) <= width:
        return text
    head = (width - 1) // 2
    return f"{text[:head]}…{text[len(text) - (width - 1 - head) :]}"


def heading(text: str, detail: str = "") -> Text:
    """A line that begins a section."""
    line = Text(text, style="bold")
    if detail:
        line.append(f"  {detail}", style="not bold dim")
    return line


def hint(text: str) -> Text:
    """A quiet line."""
    return Text(text, style="dim")


def print_json(document: Any) -> None:
    """One JSON document; NaN and infinities are the strings NaN, Infinity and -Infinity."""
    text = json.dumps(_plain(document), indent=2, allow_nan=False)
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _plain(part: Any) -> Any:
    if isinstance(part, dict):
        return {str(key): _plain(value) for key, value in part.items()}
    if isinstance(part, (list, tuple)):
        return [_plain(item) for item in part]
    if isinstance(part, float) and not math.isfinite(part):
        return "NaN" if math.isnan(part) else "Infinity" if part > 0 else "-Infinity"
    if part is None or isinstance(part, (bool, int, float, str)):
        return part
    return str(part)


def exit_code(error: SardonyxError) -> int:
    """2 where the command asked for what does not fit, 1 where the model or data is bad."""
    return 2 if isinstance(error, InputError) else 1


def error_json(error: SardonyxError) -> dict[str, Any]:
    """An error as plain data."""
    document: dict[str, Any] = {
        "class": type(error).__name__,
        "message": error.message,
        "places": list(error.places),
        "fix": _fix(error),
    }
    if isinstance(error, CheckError):
        document["problems"] = list(error.problems)
    return document


def _fix(error: SardonyxError) -> str | None:
    """The error's hint, in words of the command line."""
    if isinstance(error, LimitError) and error.hint:
        return error.hint.replace("pass limits=Limits(", "give --limit ").replace("=...)", "=…")
    return error.hint


def _print_error(error: SardonyxError) -> None:
    text = Text()
    text.append("error: ", style="bold red")
    text.append(printable(error.message), style="red")
    for place in error.places:
        text.append(f"\n  at {printable(place)}")
    fix = _fix(error)
    if fix:
        text.append("\n  fix: ", style="bold")
        text.append(printable(fix))
    errors().print(text, soft_wrap=True)


def printable(text: str) -> str:
    """`text` with all but line ends escaped that is not printable."""
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)


def usage_error(error: Any, *, as_json: bool) -> int:
    """Show what the command-line parser refused; returns the exit code."""
    message = str(error.format_message())
    if as_json:
        print_json(
            {"error": {"class": "UsageError", "message": message, "places": [], "fix": None}}
        )
        return int(error.exit_code)
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "sardonyx"
    if message:
        _print_error(SardonyxError(message, hint=f"{path} --help tells what it takes"))
    return int(error.exit_code)


def _report(error: SardonyxError, *, as_json: bool) -> int:
    if as_json:
        print_json({"error": error_json(error)})
    else:
        _print_error(error)
    return exit_code(error)


def boundary(command: Callable[P, int | None]) -> Callable[P, None]:
    """Make a command show every `SardonyxError`, and exit with the code that it returns."""
    import typer

    @functools.wraps(command)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            code = command(*args, **kwargs) or 0
        except SardonyxError as error:
            code = _report(error, as_json=bool(kwargs.get("as_json")))
        except MemoryError:
            code = _report(LimitError("out of memory"), as_json=bool(kwargs.get("as_json")))
        except KeyboardInterrupt:
            code = 130
        if code:
            raise typer.Exit(code)

    return guarded


@contextmanager
def working(what: str) -> Iterator[None]:
    """Show that `what` goes on, while it does, on a terminal."""
    console = errors()
    if not console.is_terminal:
        yield
        return
    with console.status(Text(what, style="dim")):
        yield
