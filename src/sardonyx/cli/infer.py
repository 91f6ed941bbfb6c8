"""``sardonyx infer``: what every value of a model is, and why some are not known better."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from sardonyx import dims
from sardonyx.cli.console import (
    elided,
    errors,
    heading,
    hint,
    output,
    print_json,
    printable,
    shown,
    working,
)
from sardonyx.cli.feeds import split_name
from sardonyx.errors import InputError
from sardonyx.infer import explain_unknown, infer, write_types
from sardonyx.infer.merge import conflict
from sardonyx.ir.types import SparseTensorType, TensorType
from sardonyx.wire import load, save

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from rich.console import Console

    from sardonyx.infer import Inference
    from sardonyx.ir.graph import Graph
    from sardonyx.ir.model import Model
    from sardonyx.ir.types import DimLike
    from sardonyx.ir.value import Value
    from sardonyx.limits import Limits

__all__ = ["infer_file"]

_MOST_VALUES = 200
_OWN = re.compile(r"\{?\?:(\d+)\}?")
_MOST_NOTES = 20
_NAME = 40


def infer_file(
    path: str,
    *,
    target: str | None,
    shapes: Sequence[str],
    every: bool,
    limits: Limits,
    as_json: bool,
) -> int:
    """Infer the model at `path`, show its values, and write it to `target` where one is given.

    Returns 1 where the model does not fit together. Without `every` the table ends after
    200 values.
    """
    with working(f"inferring {shown(path)}"):
        model = load(path, limits=limits)
        _give_shapes(shapes, model)
        found = infer(model, limits=limits)
        document = _document(path, model, found)
        if target is not None:
            write_types(model, found)
            save(model, target)
    if as_json:
        print_json(document)
    else:
        _print(output(), document, None if every else _MOST_VALUES)
        if target is not None:
            errors().print(hint(f"written to {shown(target)}"), soft_wrap=True)
    return 1 if found.problems else 0


def _give_shapes(texts: Sequence[str], model: Model) -> None:
    """Declare inputs as ``NAME=N,3,2*M,?`` options say; an only input needs no name."""
    inputs = {value.name: value for value in model.graph.required_inputs}
    for text in texts:
        if len(inputs) == 1 and "=" not in text:
            name, rest = next(iter(inputs)), text
        else:
            name, rest = split_name(text, inputs, "--shape")
        try:
            parts = [part.strip() for part in rest.split(",") if part.strip()]
            shape = tuple([None if part == "?" else dims.parse(part) for part in parts])
        except ValueError as error:
            raise InputError(f"--shape {text}: {error}", hint="write x=N,3,224") from None
        declared = inputs[name].type
        given = TensorType(inputs[name].dtype, shape)
        difference = conflict(declared, given)
        if difference is not None:
            raise InputError(
                f"--shape {text} contradicts what the file says of the input: "
                f"{difference.replace('inferred', 'given')}"
            )
        inputs[name].type = given


def _document(path: str, model: Model, found: Inference) -> dict[str, Any]:
    values = [_value_json(place, value, found) for place, value in _values(model.graph)]
    return {
        "file": path,
        "values": values,
        "unknown": sum(bool(value["unknown"]) for value in values),
        "problems": [
            {"message": error.message, "places": list(error.places), "fix": error.hint}
            for error in (*found.problems, *found.unsupported)
        ],
        "conflicts": list(found.conflicts),
    }


def _values(graph: Graph) -> Iterator[tuple[str, Value]]:
    """Each value of the graph and its subgraphs, and what it is in it."""
    for value in graph.required_inputs:
        yield "input", value
    for node in graph.all_nodes():
        for value in node.outputs:
            if value.name:
                yield node.op_type, value


def _value_json(place: str, value: Value, found: Inference) -> dict[str, Any]:
    fact = found.facts.get(value)
    known = value.type if fact is None else fact.type
    shape = known.shape if isinstance(known, (TensorType, SparseTensorType)) else None
    contents = None if fact is None or fact.value is None else fact.dims_value()
    return {
        "name": value.name,
        "from": place,
        "type": None if known is None else str(known),
        "shape": None if shape is None else [_dim(dim) for dim in shape],
        "contents": None
        if contents is None or len(contents) > 8 or None in contents
        else [_dim(item) for item in contents],
        "unknown": [
            {
                "part": unknown.part,
                "reason": unknown.reason,
                "node": None if unknown.node is None else unknown.node.name,
                "value": unknown.source.name,
            }
            for unknown in explain_unknown(found, value)
        ],
    }


def _dim(dim: DimLike) -> int | str | None:
    """A size, or an expression; inference's own symbols are ``?0``, ``?1`` and so on."""
    return dim if dim is None or isinstance(dim, int) else _plain(str(dim))


def _plain(text: str) -> str:
    return _OWN.sub(r"?\1", text)


def _print(console: Console, document: Mapping[str, Any], most: int | None) -> None:
    values = document["values"]
    unknown = document["unknown"]
    detail = f"{unknown} not wholly known" if unknown else "all known"
    console.print(heading("Values", f"{len(values)}, {detail}"))
    table = Table.grid(padding=(0, 2))
    table.add_column(overflow="fold")
    table.add_column(style="dim", overflow="fold")
    table.add_column(overflow="fold")
    for value in values[:most]:
        table.add_row(
            Text(f"  {elided(shown(value['name']), _NAME)}", style="cyan"),
            shown(value["from"]),
            _type_text(value),
        )
    console.print(table)
    if most is not None and len(values) > most:
        console.print(hint(f"  … {len(values) - most} more (--all lists them)"))
    _print_reasons(console, values)
    _print_notes(console, "Declared otherwise", document["conflicts"])
    _print_notes(console, "Do not fit together", [_problem(each) for each in document["problems"]])


def _type_text(value: Mapping[str, Any]) -> Text:
    text = Text(printable(value["type"] or "?"))
    if value["shape"] is not None:
        text.append("[" + ", ".join(printable(str(dim)) for dim in value["shape"]) + "]", "bold")
    elif value["type"] and value["type"].startswith("tensor"):
        text.append("[...]", "yellow")
    if value["contents"] is not None:
        text.append(" = " + ", ".join(printable(str(item)) for item in value["contents"]), "dim")
    return text


def _print_reasons(console: Console, values: Sequence[Mapping[str, Any]]) -> None:
    """Each reason once, with the values that it is for."""
    reasons: dict[str, list[str]] = {}
    for value in values:
        for unknown in value["unknown"]:
            names = reasons.setdefault(unknown["reason"], [])
            if value["name"] not in names:
                names.append(value["name"])
    if not reasons:
        return
    console.print(heading("Not known before the run"))
    for reason, names in list(reasons.items())[:_MOST_NOTES]:
        listed = ", ".join(elided(shown(name), _NAME) for name in names[:3])
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        console.print(f"  {printable(reason)}", soft_wrap=True)
        console.print(hint(f"    {listed}{more}"), soft_wrap=True)
    if len(reasons) > _MOST_NOTES:
        console.print(hint(f"  … {len(reasons) - _MOST_NOTES} more reasons (--json lists all)"))


def _problem(problem: Mapping[str, Any]) -> str:
    place = f", at {problem['places'][0]}" if problem["places"] else ""
    return f"{problem['message']}{place}"


def _print_notes(console: Console, title: str, notes: Sequence[str]) -> None:
    if not notes:
        return
    console.print(heading(title, str(len(notes))))
    for note in notes[:_MOST_NOTES]:
        console.print(f"  {printable(note)}", soft_wrap=True)
    if len(notes) > _MOST_NOTES:
        console.print(hint(f"  … {len(notes) - _MOST_NOTES} more (--json lists all)"))
