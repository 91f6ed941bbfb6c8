"""``sardonyx demo``: the whole way, on a network and pictures that ship with the package."""

from __future__ import annotations

import shlex
import shutil
import statistics
import sys
import time
from importlib.resources import as_file, files
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.columns import Columns
from rich.console import Group
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from sardonyx.cli.check import check_file, print_checked
from sardonyx.cli.console import hint, output, print_json, printable
from sardonyx.cli.contents import contents
from sardonyx.cli.drawing import duration_text, picture
from sardonyx.cli.results import class_table, top_classes
from sardonyx.cli.show import print_contents
from sardonyx.cli.values import read_arrays
from sardonyx.errors import InputError, quote
from sardonyx.limits import DEFAULT
from sardonyx.runtime import Session
from sardonyx.wire import load

if TYPE_CHECKING:
    from rich.console import Console

    from sardonyx.ir.tensor import Array

__all__ = ["demo"]

_LONGEST_SUM = 512
_ALLOWED = float(np.finfo(np.float32).eps) * _LONGEST_SUM
"""Largest difference of a probability: one rounding for each term of the longest dot product."""
_SECONDS = 1.0
_MOST_RUNS = 200
_TOP = 3
_CELL = 38


def demo(save: str | None, *, as_json: bool) -> int:
    """Walk the whole way; returns the exit code, 1 where an answer is not as recorded."""
    with as_file(files("sardonyx") / "data") as folder:
        if save is not None:
            folder = _copy(folder, save)
        return _walk(folder, as_json=as_json)


def _copy(folder: Path, target: str) -> Path:
    try:
        Path(target).mkdir(parents=True, exist_ok=True)
        for file in sorted(folder.iterdir()):
            if file.suffix in {".onnx", ".npz", ".png"}:
                shutil.copyfile(file, Path(target) / file.name)
    except OSError as error:
        raise InputError(f"cannot write {quote(target)}: {error.strerror or error}") from None
    return Path(target)


def _walk(folder: Path, *, as_json: bool) -> int:
    path = str(folder / "digits.onnx")
    start = time.perf_counter()
    model = load(path)
    shown = contents(model, path)
    checked, code = check_file(path, strict=True, limits=DEFAULT)
    arrays = read_arrays(str(folder / "digits.npz"))
    session = Session(model)
    pictures, difference = _read_pictures(session, arrays)
    agrees = difference <= _ALLOWED
    document: dict[str, Any] = {
        "show": shown,
        "check": checked,
        "pictures": pictures,
        "right": sum(entry["label"] == entry["answer"] for entry in pictures),
        "largest_difference": difference,
        "allowed_difference": _ALLOWED,
        "agrees": agrees,
        "median_seconds": _latency(session, _scaled(arrays["images"][:1])),
        "next": _next_commands(folder, path),
    }
    if as_json:
        print_json({**document, "seconds": time.perf_counter() - start})
    else:
        console = output()
        _print_walk(console, document, arrays["images"])
        console.print(hint(f"The whole walk took {duration_text(time.perf_counter() - start)}."))
    return 0 if agrees and not code else 1


def _scaled(images: Array) -> Array:
    """Bytes as the network's input, 0 to 1."""
    scaled: Array = images.astype(np.float32) / np.float32(255)
    return scaled


def _read_pictures(
    session: Session, arrays: dict[str, Array]
) -> tuple[list[dict[str, Any]], float]:
    """The answer for each picture, and the largest difference from the recorded ones."""
    name = session.get_outputs()[0].name
    pictures = []
    difference = 0.0
    for image, label, expected in zip(
        _scaled(arrays["images"]), arrays["labels"], arrays["probabilities"], strict=True
    ):
        (probabilities,) = session.run(None, {"image": image[None]})
        rows = top_classes(name, probabilities, [], _TOP)
        assert rows is not None
        difference = max(difference, float(np.abs(probabilities[0] - expected).max()))
        pictures.append({"label": int(label), "answer": rows[0][0]["class"], "top": rows[0]})
    return pictures, difference


def _latency(session: Session, image: Array) -> float:
    """Median seconds of a run with one picture."""
    times: list[float] = []
    begin = time.perf_counter()
    while len(times) < _MOST_RUNS and time.perf_counter() - begin < _SECONDS:
        start = time.perf_counter()
        session.run(None, {"image": image})
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def _next_commands(folder: Path, path: str) -> list[str]:
    """Commands that work as they stand; reading a picture may take installing Pillow first."""
    model, python = shlex.quote(path), shlex.quote(sys.executable)
    program = "sardonyx" if shutil.which("sardonyx") else f"{python} -m sardonyx"
    commands = [
        f"{program} show {model} --nodes",
        f"{program} check {model}",
        f"{program} run {model} --random --dim batch=4",
    ]
    if find_spec("PIL") is None:
        commands.append(f"{python} -m pip install pillow")
    commands.append(f"{program} run {model} --input {shlex.quote(str(folder / 'digit-3.png'))}")
    return commands


def _print_walk(console: Console, document: dict[str, Any], images: Array) -> None:
    console.print(
        "Sardonyx opens, checks and runs ONNX models. Here it does so with a small "
        "network that reads handwritten digits: 8x8 pixels in, the probability of each "
        "digit out.\n"
    )
    _print_title(console, "1  What is in the file")
    print_contents(console, document["show"])
    console.print()
    _print_title(console, "2  Is it sound")
    print_checked(console, document["check"])
    console.print()
    _print_title(console, "3  Run it on pictures it has never seen")
    _print_pictures(console, document["pictures"], images)
    _print_title(console, "4  Is the answer right")
    _print_answers(console, document)
    console.print()
    _print_title(console, "5  How fast")
    seconds = document["median_seconds"]
    console.print(f"  {duration_text(seconds)} for a picture (median)")
    console.print()
    _print_title(console, "6  What to type next")
    for command in document["next"]:
        console.print(f"  {printable(command)}", soft_wrap=True)
    console.print()


def _print_title(console: Console, text: str) -> None:
    console.print(Rule(Text(text, style="bold"), align="left", style="dim"))


def _print_answers(console: Console, document: dict[str, Any]) -> None:
    count = len(document["pictures"])
    accuracy = document["show"]["metadata"]["accuracy"]
    console.print(
        f"  {document['right']} of {count} pictures are read right; "
        f"after training it was {printable(accuracy)}."
    )
    agrees = document["agrees"]
    line = Text("  ✓ " if agrees else "  ✗ ", style="bold green" if agrees else "bold red")
    verb = "agree with" if agrees else "differ from"
    line.append(
        f"The probabilities {verb} PyTorch's: by {document['largest_difference']:.1g} at most, "
        f"{document['allowed_difference']:.1g} is rounding.",
        style="not bold default",
    )
    console.print(line)


def _print_pictures(console: Console, pictures: list[dict[str, Any]], images: Array) -> None:
    cells = []
    for entry, image in zip(pictures, images, strict=True):
        is_right = entry["label"] == entry["answer"]
        caption = Text()
        caption.append("✓ " if is_right else "✗ ", style="bold green" if is_right else "bold red")
        caption.append(f"reads {entry['answer']}", style="bold")
        if not is_right:
            caption.append(f", is {entry['label']}")
        drawn = Text("\n".join(picture(console, image[0])))
        answer = Group(Text(), caption, Text(), class_table(console, entry["top"], True, 6))
        cell = Table.grid(padding=(0, 1))
        cell.add_column(width=16, no_wrap=True)
        cell.add_column(width=_CELL - 17)
        cell.add_row(drawn, answer)
        cells.append(cell)
    console.print(Columns(cells, width=_CELL, padding=(1, 2)))
    console.print()
