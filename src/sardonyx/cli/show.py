"""``sardonyx show``: what is inside a model."""

from __future__ import annotations

import sys
from itertools import islice
from typing import TYPE_CHECKING, Any

from rich.padding import Padding
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from sardonyx.cli.console import elided, heading, hint, output, print_json, shown, working
from sardonyx.cli.contents import contents, nodes_of, weights_of
from sardonyx.cli.drawing import bar, bytes_text
from sardonyx.ir.text import to_text
from sardonyx.wire import load

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console

    from sardonyx.limits import Limits

__all__ = ["print_contents", "print_values", "show"]

_MOST_OPERATORS = 16
_MOST_VALUES = 20
_MOST_CHILDREN = 24
_MOST_METADATA = 12
_LONGEST_TEXT = 200
_NAME = 40


def show(
    path: str,
    *,
    depth: int | None,
    nodes: bool,
    weights: bool,
    text: bool,
    limits: Limits,
    as_json: bool,
) -> None:
    """Print what is inside the model at `path`."""
    if text:
        _show_text(path, weights=weights, limits=limits, as_json=as_json)
        return
    with working("reading"):
        model = load(path, limits=limits)
        document = contents(model, path, depth)
        if weights:
            document["weights"]["all"] = weights_of(model)
        if nodes:
            document["node_list"] = nodes_of(model)
    if as_json:
        print_json(document)
        return
    console = output()
    print_contents(console, document)
    if weights:
        _print_weights(console, document["weights"]["all"])
    if nodes:
        _print_nodes(console, document["node_list"])


def _show_text(path: str, *, weights: bool, limits: Limits, as_json: bool) -> None:
    """Print the model at `path` in the textual syntax."""
    with working("reading"):
        model = load(path, limits=limits)
        text = to_text(model, weights="full" if weights else "elided")
    if as_json:
        print_json({"file": path, "text": text})
        return
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))
    sys.stdout.flush()


def print_contents(console: Console, document: Mapping[str, Any]) -> None:
    """The document of `contents`, for people."""
    _print_header(console, document)
    print_values(console, "Inputs", document["inputs"])
    print_values(console, "Inputs with a default", document["defaults"])
    print_values(console, "Outputs", document["outputs"])
    _print_operators(console, document)
    _print_weights_summary(console, document["weights"])
    _print_functions(console, document["functions"])
    if document["modules"]:
        _print_modules(console, document["modules"])
    if document["external_files"]:
        console.print(heading("Data files"))
        for name in document["external_files"][:_MOST_VALUES]:
            console.print(f"  {shown(name)}", soft_wrap=True)
    if document["metadata"]:
        _print_metadata(console, document["metadata"])


def _print_header(console: Console, document: Mapping[str, Any]) -> None:
    line = Text(shown(document["file"]), style="bold cyan")
    line.append(f"  {bytes_text(document['bytes'])}", style="not bold default")
    console.print(line, soft_wrap=True)
    opsets = ", ".join(f"{shown(name)} {version}" for name, version in document["opsets"].items())
    parts = [f"IR {document['ir_version']}", f"opset {opsets}"]
    if document["producer"]:
        parts.append(f"made by {shown(document['producer'])}")
    if document["training"]:
        parts.append("with training information")
    console.print("  " + " · ".join(parts))
    if document["description"]:
        console.print(f"  {_short(document['description'])}")


def _short(text: str) -> str:
    first = " ".join(text[: _LONGEST_TEXT + 1].split())
    escaped = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in first)
    return escaped if len(text) <= _LONGEST_TEXT else escaped[:_LONGEST_TEXT] + "…"


def shape_words(shape: Sequence[int | str | None] | None) -> str:
    """A shape as ``[batch, 3, ?]``."""
    if shape is None:
        return "[...]"
    return f"[{', '.join('?' if dim is None else shown(dim) for dim in shape)}]"


def print_values(console: Console, title: str, values: Sequence[Mapping[str, Any]]) -> None:
    """A table of names, types and shapes under `title`, where there are any."""
    if not values:
        return
    console.print(heading(title))
    table = Table.grid(padding=(0, 2))
    table.add_column(overflow="fold")
    table.add_column(style="dim", overflow="fold")
    table.add_column(overflow="fold")
    for value in values[:_MOST_VALUES]:
        table.add_row(
            Text(f"  {elided(shown(value['name']), _NAME)}", style="cyan"),
            shown(value["type"]),
            shape_words(value["shape"]),
        )
    console.print(table)
    _print_more(console, len(values) - _MOST_VALUES)


def _print_more(console: Console, count: int, how: str = "") -> None:
    if count > 0:
        console.print(hint(f"  … {count} more{how}"))


def _print_operators(console: Console, document: Mapping[str, Any]) -> None:
    operators = document["operators"]
    count = document["nodes"]
    total = sum(operator["count"] for operator in operators)
    inner = f" and {total - count} in subgraphs and functions" if total > count else ""
    console.print(heading("Operators", f"{count} nodes{inner}, {len(operators)} kinds"))
    if not operators:
        return
    table = Table.grid(padding=(0, 2))
    table.add_column(overflow="fold")
    table.add_column(justify="right")
    table.add_column(no_wrap=True)
    most = operators[0]["count"]
    for operator in operators[:_MOST_OPERATORS]:
        name = Text(f"  {shown(operator['name'])}")
        if operator["domain"] != "ai.onnx":
            name.append(f"  {shown(operator['domain'])}", style="dim")
        table.add_row(name, str(operator["count"]), bar(console, operator["count"] / most, 24))
    console.print(table)
    _print_more(console, len(operators) - _MOST_OPERATORS, " kinds")


def _print_weights_summary(console: Console, weights: Mapping[str, Any]) -> None:
    if not weights["count"]:
        return
    kinds = ", ".join(f"{name} {bytes_text(n)}" for name, n in weights["bytes_by_type"].items())
    tensors = "1 tensor" if weights["count"] == 1 else f"{weights['count']} tensors"
    detail = f"{weights['parameters']:,} parameters in {tensors}: {kinds}"
    console.print(heading("Weights", detail))
    _print_weight_table(console, weights["biggest"])
    _print_more(console, weights["count"] - len(weights["biggest"]), " (--weights lists all)")


def _print_weight_table(console: Console, weights: Sequence[Mapping[str, Any]]) -> None:
    table = Table.grid(padding=(0, 2))
    table.add_column(overflow="fold")
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    table.add_column(justify="right", no_wrap=True)
    for weight in weights:
        table.add_row(
            Text(f"  {elided(shown(weight['name']), _NAME)}"),
            weight["type"],
            shape_words(weight["shape"]),
            bytes_text(weight["bytes"]),
        )
    console.print(table)


def _print_weights(console: Console, weights: Sequence[Mapping[str, Any]]) -> None:
    console.print(heading("All weights"))
    _print_weight_table(console, weights)


def _print_functions(console: Console, functions: Sequence[Mapping[str, Any]]) -> None:
    if not functions:
        return
    console.print(heading("Functions", f"{len(functions)}"))
    for function in functions[:_MOST_VALUES]:
        name = ".".join(part for part in (function["domain"], function["name"]) if part)
        console.print(f"  {shown(name)}  {function['nodes']} nodes")
    _print_more(console, len(functions) - _MOST_VALUES)


def _print_modules(console: Console, modules: Mapping[str, Any]) -> None:
    console.print(heading("Modules", "parameters, nodes"))
    tree = Tree("", hide_root=True, guide_style="dim")
    _add_modules(tree, modules)
    console.print(Padding(tree, (0, 0, 0, 2)))


def _add_modules(tree: Tree, module: Mapping[str, Any]) -> None:
    children = module.get("modules", [])
    for child in islice(children, _MOST_CHILDREN):
        line = Text(shown(child["name"]), no_wrap=True, overflow="ellipsis")
        counts = f"  {child['parameters']:,}, {child['nodes']}"
        kinds = ", ".join(shown(kind) for kind in islice(child["operators"], 4))
        line.append(counts if child["parameters"] else f"  {child['nodes']}", style="cyan")
        line.append(f"  {kinds}", style="dim")
        _add_modules(tree.add(line), child)
    if len(children) > _MOST_CHILDREN:
        tree.add(hint(f"… {len(children) - _MOST_CHILDREN} more"))


def _print_metadata(console: Console, metadata: Mapping[str, str]) -> None:
    console.print(heading("Metadata"))
    for key, value in islice(metadata.items(), _MOST_METADATA):
        name = elided(shown(key), _NAME)
        room = max(console.width - len(name) - 5, 20)
        line = Text(f"  {name}", style="cyan").append(f"  {elided(_short(value), room)}", "default")
        console.print(line, soft_wrap=True)
    _print_more(console, len(metadata) - _MOST_METADATA)


def _print_nodes(console: Console, nodes: Sequence[Mapping[str, Any]]) -> None:
    console.print(heading("Nodes", f"{len(nodes)}"))
    for number, node in enumerate(nodes):
        line = Text(f"  {number:>4} ", style="dim")
        line.append(shown(node["operator"]), style="bold not dim")
        inputs = ", ".join(shown(name) for name in node["inputs"])
        line.append(f"({inputs})", style="not dim")
        for value in node["outputs"]:
            line.append("\n         → ", style="dim")
            line.append(shown(value["name"]), style="cyan not dim")
            kind = (
                "" if value["type"] == "?" else f"  {value['type']} {shape_words(value['shape'])}"
            )
            line.append(kind, style="not dim")
        console.print(line, soft_wrap=True)
