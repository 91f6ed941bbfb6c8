"""``sardonyx edit | extract | merge``: a changed model, written to a file of its own."""

from __future__ import annotations

import time
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.text import Text

from sardonyx import compose
from sardonyx.cli.console import hint, output, print_json, printable, shown, working
from sardonyx.cli.contents import contents
from sardonyx.cli.drawing import bytes_text, duration_text
from sardonyx.cli.show import print_values
from sardonyx.errors import InputError, quote
from sardonyx.wire import load, save

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from sardonyx.ir.model import Model
    from sardonyx.limits import Limits

__all__ = ["EditOptions", "edit_file", "extract_file", "merge_files"]


@dataclass(frozen=True, kw_only=True)
class EditOptions:
    """The options of ``sardonyx edit``, as they were written."""

    inline: bool = False
    inline_functions: Sequence[str] = ()
    remove: Sequence[str] = ()
    add_outputs: Sequence[str] = ()
    dims: Sequence[str] = ()
    batch: str | None = None
    fix: Sequence[str] = ()
    opset: Sequence[str] = ()
    rename: Sequence[str] = ()
    rename_nodes: Sequence[str] = ()
    rename_functions: Sequence[str] = ()
    rename_dims: Sequence[str] = ()
    prefix: str | None = None
    deduplicate: bool = False
    prune: bool = False


def edit_file(
    path: str,
    target: str,
    options: EditOptions,
    *,
    external_data: bool,
    limits: Limits,
    as_json: bool,
) -> None:
    """Change the model at `path` as the options say, in their order, and write it to `target`."""
    if not any(getattr(options, field.name) for field in fields(options)):
        raise InputError(
            "no change is asked for", hint="sardonyx edit --help lists the changes; --prune is one"
        )
    steps: list[dict[str, Any]] = []
    start = time.perf_counter()
    with working(f"editing {shown(path)}"):
        model = load(path, limits=limits)
        before = len(model.graph.nodes)
        for name, change in _changes(options, limits):
            count = len(model.graph.nodes)
            model = change(model)
            steps.append({"change": name, "nodes": len(model.graph.nodes) - count})
        document = _saved(model, target, external_data)
    document = {"source": path, **document, "nodes_before": before, "changes": steps}
    _tell(document, start, as_json)


def extract_file(
    path: str,
    target: str,
    *,
    inputs: Sequence[str],
    outputs: Sequence[str],
    external_data: bool,
    limits: Limits,
    as_json: bool,
) -> None:
    """Write the part of the model at `path` between `inputs` and `outputs` to `target`."""
    start = time.perf_counter()
    with working(f"reading {shown(path)}"):
        model = load(path, limits=limits)
        part = compose.extract(model, inputs or None, outputs or None)
        document = _saved(part, target, external_data)
    document = {"source": path, **document, "nodes_before": len(model.graph.nodes)}
    _tell(document, start, as_json)


def merge_files(
    paths: tuple[str, str],
    target: str,
    *,
    connections: Sequence[str],
    prefixes: tuple[str, str],
    outputs: Sequence[str],
    external_data: bool,
    limits: Limits,
    as_json: bool,
) -> None:
    """Join the models at `paths` and write them to `target`; by default like names connect."""
    start = time.perf_counter()
    with working(f"merging {shown(paths[0])} and {shown(paths[1])}"):
        first, second = (load(path, limits=limits) for path in paths)
        pairs = [_pair(text, "--connect", "OUTPUT=INPUT") for text in connections]
        if not pairs:
            pairs = _like_names(first, second)
        merged = compose.merge(first, second, pairs, prefixes=prefixes, outputs=outputs or None)
        document = _saved(merged, target, external_data)
    joined = [{"output": out, "input": into} for out, into in pairs]
    document = {"sources": list(paths), **document, "connections": joined}
    _tell(document, start, as_json)


def _like_names(first: Model, second: Model) -> list[tuple[str, str]]:
    names = {value.name for value in second.graph.required_inputs}
    pairs = [(value.name, value.name) for value in first.graph.outputs if value.name in names]
    if not pairs:
        raise InputError(
            "no output of the first model is called like an input of the second",
            hint=f"say what connects: --connect OUTPUT=INPUT; outputs are "
            f"{_listed(value.name for value in first.graph.outputs)}, inputs are "
            f"{_listed(value.name for value in second.graph.required_inputs)}",
        )
    return pairs


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(quote, list(names)[:20])) or "none"


def _changes(options: EditOptions, limits: Limits) -> list[tuple[str, Callable[[Model], Model]]]:
    """The changes that are asked for, in the order in which they are made."""
    chosen: list[tuple[str, Callable[[Model], Model]]] = []

    def add(name: str, change: Callable[[Model], Model]) -> None:
        chosen.append((name, change))

    if options.inline or options.inline_functions:
        names = None if options.inline else list(options.inline_functions)
        add("inline", lambda model: compose.inline(model, names, limits=limits))
    for node in options.remove:
        add("remove", partial(compose.remove, node=node))
    if options.add_outputs:
        add("add-output", lambda model: compose.add_outputs(model, options.add_outputs))
    if options.dims:
        dims = _dims(options.dims)
        add("dim", lambda model: compose.make_dynamic(model, dims))
    if options.batch is not None:
        size = _size_or_name(options.batch)
        add("batch", lambda model: compose.set_batch_size(model, size))
    if options.fix:
        sizes = {name: _integer(size, "--fix") for name, size in _pairs(options.fix, "--fix")}
        add("fix", lambda model: compose.fix_dims(model, sizes))
    for text in options.opset:
        domain, _, version = text.rpartition("=")
        number = _integer(version, "--opset")
        add("opset", partial(compose.set_opset, version=number, domain=domain))
    values = dict(_pairs(options.rename, "--rename"))
    nodes = dict(_pairs(options.rename_nodes, "--rename-node"))
    functions = dict(_pairs(options.rename_functions, "--rename-function"))
    symbols = dict(_pairs(options.rename_dims, "--rename-dim"))
    if values or nodes or functions or symbols:
        add(
            "rename",
            lambda model: compose.rename(
                model, values, nodes=nodes, functions=functions, dims=symbols
            ),
        )
    if options.prefix is not None:
        text = options.prefix
        add("prefix", lambda model: compose.prefix(model, text))
    if options.deduplicate:
        add("deduplicate", compose.deduplicate)
    if options.prune:
        add("prune", compose.prune)
    return chosen


def _pairs(texts: Sequence[str], option: str) -> list[tuple[str, str]]:
    form = "NAME=N" if option == "--fix" else "OLD=NEW"
    pairs = [_pair(text, option, form) for text in texts]
    names = [name for name, _ in pairs]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"{option} names {quote(twice)} twice")
    return pairs


def _pair(text: str, option: str, form: str) -> tuple[str, str]:
    name, found, rest = text.rpartition("=")
    if not found or not name or not rest:
        raise InputError(f"{option} {quote(text)} is no pair", hint=f"write {option} {form}")
    return name, rest


def _integer(text: str, option: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise InputError(f"{option} {quote(text)} is no integer") from None


def _size_or_name(text: str) -> int | str:
    try:
        return int(text)
    except ValueError:
        return text


def _dims(texts: Sequence[str]) -> dict[str, dict[int, str]]:
    """``INPUT:AXIS=NAME`` options."""
    dims: dict[str, dict[int, str]] = {}
    for text in texts:
        place, found, name = text.rpartition("=")
        value, colon, axis = place.rpartition(":")
        if not (found and colon and value and name and axis.lstrip("-").isdecimal()):
            raise InputError(f"--dim {quote(text)} is not understood", hint="write --dim x:0=batch")
        dims.setdefault(value, {})[int(axis)] = name
    return dims


def _saved(model: Model, target: str, external_data: bool) -> dict[str, Any]:
    """Write `model`, and say what was written."""
    save(model, target, external_data=True if external_data else None)
    document = contents(model, target, 0)
    keys = ("file", "bytes", "ir_version", "opsets", "inputs", "outputs", "nodes", "functions")
    summary = {key: document[key] for key in keys}
    summary["parameters"] = document["weights"]["parameters"]
    data = Path(f"{target}.data")
    summary["data_file"] = str(data) if external_data and data.exists() else None
    return summary


def _tell(document: dict[str, Any], start: float, as_json: bool) -> None:
    document["seconds"] = time.perf_counter() - start
    if as_json:
        print_json(document)
        return
    console = output()
    line = Text("✓ ", style="bold green")
    line.append(printable(document["file"]), style="default")
    line.append(f"  {bytes_text(document['bytes'])}", style="not bold default")
    console.print(line, soft_wrap=True)
    nodes = f"{document['nodes']} nodes"
    if "nodes_before" in document:
        nodes += f" (of {document['nodes_before']})"
    opsets = ", ".join(f"{shown(name)} {version}" for name, version in document["opsets"].items())
    console.print(
        f"  opset {opsets} · {nodes} · {document['parameters']:,} parameters · "
        f"{duration_text(document['seconds'])}",
        soft_wrap=True,
    )
    changes = [step["change"] for step in document.get("changes", ())]
    if changes:
        console.print(hint(f"  {', '.join(changes)}"), soft_wrap=True)
    for pair in document.get("connections", ()):
        console.print(f"  {shown(pair['output'])} → {shown(pair['input'])}", soft_wrap=True)
    print_values(console, "Inputs", document["inputs"])
    print_values(console, "Outputs", document["outputs"])
