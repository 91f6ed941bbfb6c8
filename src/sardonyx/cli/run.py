"""``sardonyx run``: compute a model's outputs."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from sardonyx.cli.console import (
    errors,
    heading,
    hint,
    output,
    print_json,
    printable,
    shown,
    working,
)
from sardonyx.cli.drawing import duration_text
from sardonyx.cli.feeds import Feeder, parse_dims, parse_shapes
from sardonyx.cli.images import Pixels
from sardonyx.cli.options import parse_floats, parse_limits
from sardonyx.cli.results import (
    describe,
    print_classes,
    print_value,
    read_labels,
    save_values,
    top_classes,
    type_text,
)
from sardonyx.cli.values import Reader
from sardonyx.errors import ExecutionError, InputError, ModelError
from sardonyx.runtime import Session
from sardonyx.wire import load

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sardonyx.ir.model import Model

__all__ = ["RunOptions", "run"]


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """The options of ``sardonyx run``, as they were written."""

    inputs: Sequence[str] = ()
    random: bool = False
    seed: int = 0
    shapes: Sequence[str] = ()
    dims: Sequence[str] = ()
    outputs: Sequence[str] = ()
    save: str | None = None
    top: int | None = None
    labels: str | None = None
    mean: str | None = None
    std: str | None = None
    raw_pixels: bool = False
    limits: Sequence[str] = field(default_factory=list)
    threads: int | None = None


def run(path: str, options: RunOptions, *, as_json: bool) -> None:
    """Run the model at `path` and show what comes out."""
    limits = parse_limits(options.limits)
    pixels = Pixels(
        options.raw_pixels,
        parse_floats(options.mean, "--mean"),
        parse_floats(options.std, "--std"),
    )
    with working("reading"):
        model = load(path, limits=limits)
        labels = read_labels(options.labels, model.metadata)
        session = Session(model, threads=options.threads, limits=limits)
    feeder = _feeder(model, Reader(pixels, limits), options)
    wanted = list(options.outputs) or [argument.name for argument in session.get_outputs()]
    with working("running"):
        start = time.perf_counter()
        values = _run(session, wanted, feeder)
        seconds = time.perf_counter() - start
    named = dict(zip(wanted, values, strict=True))
    saved = save_values(options.save, named) if options.save else []
    tops = {name: top_classes(name, named[name], labels, options.top) for name in wanted}
    if as_json:
        print_json(_document(path, feeder, named, tops, saved, seconds))
        return
    _print_run(path, feeder, named, tops, seconds)
    for file in saved:
        errors().print(f"saved {printable(file)}", soft_wrap=True)


def _run(session: Session, wanted: Sequence[str], feeder: Feeder) -> list[Any]:
    try:
        return session.run(wanted, feeder.feeds)
    except (ModelError, ExecutionError) as error:
        if feeder.assumed and not error.hint:
            options = " ".join(dict.fromkeys(feeder.assumed))
            error.hint = f"open dimensions were taken as 1: give {options}"
        raise


def _feeder(model: Model, reader: Reader, options: RunOptions) -> Feeder:
    names = [value.name for value in model.graph.required_inputs]
    every = [value.name for value in model.graph.inputs]
    shapes = parse_shapes(options.shapes, names if len(names) == 1 else every)
    feeder = Feeder(model, reader, shapes, parse_dims(options.dims, model))
    for text in options.inputs:
        feeder.feed(text)
    if options.random:
        feeder.fill(options.seed)
    missing = [name for name in names if name not in feeder.feeds]
    if missing:
        listed = ", ".join(shown(name) for name in missing)
        raise InputError(
            f"input {listed} is missing",
            hint="give --input NAME=VALUE for each, or --random for random data",
        )
    return feeder


def _document(
    path: str,
    feeder: Feeder,
    values: dict[str, Any],
    tops: dict[str, Any],
    saved: Sequence[str],
    seconds: float,
) -> dict[str, Any]:
    outputs = {}
    for name, value in values.items():
        outputs[name] = describe(value)
        if tops[name] is not None:
            outputs[name]["top"] = tops[name]
    inputs = {}
    for name, value in feeder.feeds.items():
        described = describe(value)
        described.pop("data", None)
        inputs[name] = {"source": feeder.sources[name], **described}
    return {
        "file": path,
        "inputs": inputs,
        "outputs": outputs,
        "notes": feeder.notes,
        "saved": list(saved),
        "seconds": seconds,
    }


def _print_run(
    path: str, feeder: Feeder, values: dict[str, Any], tops: dict[str, Any], seconds: float
) -> None:
    console = output()
    console.print(Text(printable(path), style="bold cyan"), soft_wrap=True)
    if feeder.feeds:
        console.print(heading("Inputs"))
        table = Table.grid(padding=(0, 2))
        for name, value in feeder.feeds.items():
            table.add_row(
                Text(f"  {shown(name)}", style="cyan"),
                type_text(value),
                shown(feeder.sources[name]),
            )
        console.print(table)
    for note in feeder.notes:
        console.print(hint(f"  {printable(note)}"))
    console.print(heading("Outputs", f"in {duration_text(seconds)}"))
    for name, value in values.items():
        rows = tops[name]
        if rows is None:
            print_value(console, name, value)
        else:
            print_classes(console, name, value, rows)
