"""``sardonyx explain``: what a model becomes when it is compiled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from sardonyx.cli.console import heading, hint, output, print_json, printable, working
from sardonyx.dims import Dim, evaluate, symbols
from sardonyx.errors import InputError, quote
from sardonyx.runtime import Session

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console

    from sardonyx.limits import Limits
    from sardonyx.runtime.compilation import Explanation

__all__ = ["explain"]

_SEVERAL = 3
_KINDS = ("kernel", "view", "sizes", "control", "reference")


def explain(path: str, *, dims: Sequence[str], limits: Limits, as_json: bool) -> int:
    """Compile the model at `path` and say what runs where; returns the exit code."""
    sizes = _sizes(dims)
    with working(f"compiling {printable(path)}"):
        session = Session(path, compile=True, limits=limits)
    steps = [_step(item, sizes) for item in session.explain()]
    document = {
        "file": path,
        "steps": steps,
        "nodes": {kind: _count(steps, kind) for kind in _KINDS},
        "kernels": sum(step["kind"] == "kernel" for step in steps),
        "seconds": session.timing,
    }
    if as_json:
        print_json(document)
    else:
        _print(output(), document)
    return 0


def _sizes(dims: Sequence[str]) -> dict[str, int]:
    sizes = {}
    for text in dims:
        name, found, number = text.partition("=")
        if not found or not number.isdigit():
            raise InputError(f"--dim {quote(text)} is not NAME=N", hint="write --dim batch=1")
        sizes[name] = int(number)
    return sizes


def _step(item: Explanation, sizes: Mapping[str, int]) -> dict[str, Any]:
    step: dict[str, Any] = {"kind": item.kind, "nodes": list(item.nodes)}
    if item.reason:
        step["reason"] = item.reason
    if item.launches:
        step["launches"] = [
            {
                "kernel": launch.kernel.name,
                "flops": _amount(launch.flops, sizes),
                "bytes": _amount(launch.traffic, sizes),
            }
            for launch in item.launches
        ]
    return step


def _amount(value: Any, sizes: Mapping[str, int]) -> int | str:
    """A number where the sizes are known, else the expression."""
    if not isinstance(value, Dim):
        return int(value)
    if all(str(name) in sizes for name in symbols(value)):
        return evaluate(value, dict(sizes))
    return str(value)


def _count(steps: Sequence[Mapping[str, Any]], kind: str) -> int:
    return sum(len(step["nodes"]) for step in steps if step["kind"] == kind)


def _print(console: Console, document: Mapping[str, Any]) -> None:
    counts = document["nodes"]
    console.print(
        heading(
            printable(document["file"]),
            f"{counts['kernel']} nodes in {document['kernels']} kernels, "
            f"{counts['view']} views, {counts['sizes']} computed from sizes, "
            + (f"{counts['control']} with bodies, " if counts["control"] else "")
            + f"{counts['reference']} on the NumPy reference",
        )
    )
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name, justify in (("", "left"), ("nodes", "left"), ("FLOPs", "right"), ("bytes", "right")):
        table.add_column(name, justify=justify, overflow="fold")  # type: ignore[arg-type]
    for step in document["steps"]:
        if step["kind"] == "kernel":
            launches = step.get("launches", [])
            flops = [launch["flops"] for launch in launches if launch["flops"]]
            moved = [launch["bytes"] for launch in launches[-1:]]
            table.add_row("kernel", _names(step["nodes"]), _listed(flops), _listed(moved))
        elif step["kind"] in {"control", "reference"}:
            names = _names(step["nodes"])
            if "reason" in step:
                style = "yellow" if step["kind"] == "reference" else "dim"
                names.append(f"  {printable(step['reason'])}", style=style)
            table.add_row(step["kind"], names, "", "")
    console.print(table)
    seconds = ", ".join(f"{name} {value:.2f}" for name, value in document["seconds"].items())
    console.print(hint(f"seconds: {seconds}"))


def _names(nodes: Sequence[str]) -> Text:
    text = Text()
    for number, node in enumerate(nodes[:_SEVERAL]):
        text.append(" + " if number else "")
        text.append(printable(node.removeprefix("node ").removeprefix("of ")))
    if len(nodes) > _SEVERAL:
        text.append(f" + {len(nodes) - _SEVERAL} more", style="dim")
    return text


def _listed(amounts: Sequence[int | str]) -> str:
    if all(isinstance(amount, int) for amount in amounts):
        total = sum(int(amount) for amount in amounts)
        return _short(total) if total else ""
    return " + ".join(map(str, amounts))


def _short(number: float) -> str:
    for unit in ("", "k", "M", "G", "T"):
        if number < 1000:
            return f"{number:.3g}{unit}"
        number /= 1000
    return f"{number:.3g}P"
