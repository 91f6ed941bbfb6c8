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
    from collections.abc import Mapping, Sequence

    from rich.console import Console

    from sardonyx.limits import Limits

__all__ = ["check", "check_file", "print_checked"]

_MOST_PROBLEMS = 50


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
        document.update(sound=False, errors=1, warnings=0, problems=[], error=error_json(error))
        return document, exit_code(error)
    found = sorted(report.problems, key=lambda problem: problem.is_warning)
    bad = report.problems if strict else report.errors
    document.update(
        sound=not bad,
        errors=len(report.errors),
        warnings=len(report.warnings),
        problems=[problem.to_json() for problem in found],
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
    if "error" in document:
        error = document["error"]
        problem = {
            "severity": "error",
            "kind": error["class"],
            "message": error["message"],
            "place": "\n".join(error["places"]),
            "fix": error["fix"] or "",
        }
        _print_problem(console, problem)
    for problem in document["problems"][:_MOST_PROBLEMS]:
        _print_problem(console, problem)
    more = len(document["problems"]) - _MOST_PROBLEMS
    if more > 0:
        console.print(f"  … {more} more problems (--json lists all)", style="dim")


def _print_problem(console: Console, problem: Mapping[str, str]) -> None:
    style = "yellow" if problem["severity"] == "warning" else "red"
    line = Text(f"  {problem['severity']} ", style=f"bold {style}")
    line.append(printable(problem["message"]), style="not bold default")
    line.append(f"  [{printable(problem['kind'])}]", style="not bold dim")
    for place in problem["place"].splitlines():
        line.append(f"\n    at {printable(place)}", style="not bold default")
    if problem["fix"]:
        line.append("\n    fix: ", style="default")
        line.append(printable(problem["fix"]), style="not bold default")
    console.print(line, soft_wrap=True)
