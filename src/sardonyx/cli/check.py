"""``sardonyx check``: all problems of model files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.text import Text

from sardonyx.check import validate
from sardonyx.cli.console import (
    error_json,
    exit_code,
    output,
    print_json,
    printable,
    shown,
    working,
)
from sardonyx.errors import SardonyxError
from sardonyx.wire import load

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from rich.console import Console

    from sardonyx.limits import Limits

__all__ = ["check", "check_file", "print_checked"]

_MOST_PROBLEMS = 50
_STYLES = {"error": "red", "warning": "yellow", "note": "blue"}
_SEVERITIES = len("warning")
_NARROWEST = 30


def check(paths: Sequence[str], *, strict: bool, limits: Limits, as_json: bool) -> int:
    """Check each file; returns the exit code."""
    documents = []
    code = 0
    console = output()
    for path in paths:
        with working(f"checking {shown(path)}"):
            document, own_code = check_file(path, strict=strict, limits=limits)
        documents.append(document)
        code = max(code, own_code)
        if not as_json:
            print_checked(console, document)
    if as_json:
        print_json({"files": documents, "strict": strict, "sound": code == 0})
    return code


def check_file(path: str, *, strict: bool, limits: Limits) -> tuple[dict[str, Any], int]:
    """What is wrong with one file, and the exit code that it deserves."""
    document: dict[str, Any] = {"file": path}
    try:
        report = validate(load(path, limits=limits), limits=limits)
    except SardonyxError as error:
        document.update(sound=False, errors=1, warnings=0, problems=[], notes=[])
        document["error"] = error_json(error)
        return document, exit_code(error)
    problems = [*report.errors, *report.warnings]
    bad = problems if strict else report.errors
    document.update(
        sound=not bad,
        errors=len(report.errors),
        warnings=len(report.warnings),
        problems=[problem.to_json() for problem in problems],
        notes=[note.to_json() for note in report.infos],
        omitted=report.omitted,
    )
    return document, 1 if bad else 0


def print_checked(console: Console, document: Mapping[str, Any]) -> None:
    """One file's document, for people."""
    is_sound = document["sound"]
    line = Text("✓ " if is_sound else "✗ ", style="bold green" if is_sound else "bold red")
    line.append(printable(document["file"]), style="bold default")
    counts = [
        f"{document[key]} {key if document[key] != 1 else key[:-1]}"
        for key in ("errors", "warnings")
        if document[key]
    ]
    line.append(f"  {', '.join(counts) or 'no problems'}", style="not bold default")
    console.print(line, soft_wrap=True)
    problems = [*document["problems"], *document["notes"]]
    if "error" in document:
        error = document["error"]
        problem = {
            "severity": "error",
            "kind": error["class"],
            "message": error["message"],
            "place": "\n".join(error["places"]),
            "fix": error["fix"] or "",
        }
        problems.insert(0, problem)
    if problems:
        _print_problems(console, problems[:_MOST_PROBLEMS])
    more = len(problems) - _MOST_PROBLEMS + document.get("omitted", 0)
    if more > 0:
        console.print(f"  … {more} more problems (--json lists all)", style="dim")


def _print_problems(console: Console, problems: Sequence[Mapping[str, str]]) -> None:
    """Three columns: severity, rule, and what, where and how to fix it.

    Lines are wrapped for a terminal only, so that other programs find whole messages.
    """
    kinds = max(len(problem["kind"]) for problem in problems)
    indent = _SEVERITIES + kinds + 6
    width = max(console.width - indent, _NARROWEST) if console.is_terminal else None
    for problem in problems:
        severity = "note" if problem["severity"] == "info" else problem["severity"]
        head = Text(f"  {severity:<{_SEVERITIES}}  ", style=f"bold {_STYLES[severity]}")
        head.append(f"{printable(problem['kind']):<{kinds}}  ", style="not bold cyan")
        for line in _lines(problem):
            for part in [line] if width is None else line.wrap(console, width):
                part.rstrip()
                console.print(Text.assemble(head, part), soft_wrap=True)
                head = Text(" " * indent)


def _lines(problem: Mapping[str, str]) -> Iterator[Text]:
    yield from map(Text, printable(problem["message"]).split("\n"))
    for place in problem["place"].splitlines():
        yield Text(f"at {printable(place)}", style="dim")
    if problem["fix"]:
        line = Text("fix: ", style="green")
        line.append(printable(problem["fix"]), style="default")
        yield line
