"""Values that a run gives, described for people and for machines, and saved."""

from __future__ import annotations

import json
import re
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.table import Table
from rich.text import Text

from sardonyx import dtypes
from sardonyx.cli.console import shown
from sardonyx.cli.drawing import bar
from sardonyx.cli.values import missing_file
from sardonyx.errors import InputError, SardonyxError, quote

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console

    from sardonyx.ir.tensor import Array

__all__ = [
    "class_table",
    "describe",
    "print_classes",
    "print_value",
    "read_labels",
    "save_values",
    "top_classes",
    "type_text",
]

_WHOLE_JSON = 1000
_WHOLE_TEXT = 64
_FIRST = 6
_MOST_ITEMS = 20
_MOST_ROWS = 8
_LONGEST_LABELS = 1 << 20
_PYTHON_PAIR = re.compile(r"""\b(\d{1,6}): (?:'([^'\\]*)'|"([^"\\]*)")""")
"""An entry of a dict as Python writes it: Ultralytics stores class names so."""


def plain(array: Array) -> Array:
    """`array` in a type that NumPy itself has, with the same values."""
    if array.dtype.kind in "biufcOUS":
        return array
    dtype = dtypes.from_numpy(array.dtype)
    return array.astype(np.float32 if dtype.is_floating else np.int32)


def type_text(value: Any) -> str:
    """The type string and shape of a value: ``float [1, 10]``."""
    if isinstance(value, np.ndarray):
        return f"{dtypes.from_numpy(value.dtype).text} {list(value.shape)}"
    if isinstance(value, list):
        return f"sequence of {len(value)}"
    if isinstance(value, dict):
        return f"map of {len(value)}"
    return "nothing" if value is None else type(value).__name__


def _listed(array: Array) -> Any:
    values = plain(array)
    if values.dtype.kind == "c":
        return np.stack([values.real, values.imag], -1).tolist()
    return values.tolist()


def statistics(array: Array) -> dict[str, Any]:
    """Least, greatest and mean of the numbers in `array`, and how many are NaN or infinite."""
    values = plain(array)
    if not values.size or values.dtype.kind not in "iuf":
        return {}
    if values.dtype.kind != "f":
        mean = float(values.mean(dtype=np.float64))
        return {"min": int(values.min()), "max": int(values.max()), "mean": mean}
    found: dict[str, Any] = {
        "nan": int(np.isnan(values).sum()),
        "infinite": int(np.isinf(values).sum()),
    }
    finite = values[np.isfinite(values)]
    if finite.size:
        found.update(
            min=float(finite.min()),
            max=float(finite.max()),
            mean=float(finite.mean(dtype=np.float64)),
        )
    return found


def describe(value: Any) -> dict[str, Any]:
    """A value as plain data: all of it where it is small, else statistics and the beginning."""
    if isinstance(value, np.ndarray):
        document: dict[str, Any] = {
            "type": dtypes.from_numpy(value.dtype).text,
            "shape": list(value.shape),
        }
        if value.size <= _WHOLE_JSON:
            return {**document, "data": _listed(value), **statistics(value)}
        first = _listed(value.reshape(-1)[:_FIRST])
        return {**document, "first": first, **statistics(value)}
    if isinstance(value, list):
        items = [describe(item) for item in value[:_MOST_ITEMS]]
        return {"type": "sequence", "length": len(value), "items": items}
    if isinstance(value, dict):
        entries = [[_scalar(k), _scalar(v)] for k, v in islice(value.items(), _WHOLE_JSON)]
        return {"type": "map", "length": len(value), "entries": entries}
    return {"type": "nothing"} if value is None else {"type": "scalar", "data": _scalar(value)}


def _scalar(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return _listed(value)
    return value.item() if isinstance(value, np.generic) else value


def print_value(console: Console, name: str, value: Any) -> None:
    """Show an output: its type, and what is in it."""
    line = Text(f"  {shown(name)}", style="bold cyan")
    line.append(f"  {type_text(value)}", style="not bold default")
    console.print(line)
    if isinstance(value, np.ndarray):
        _print_array(console, value, "    ")
    elif isinstance(value, list):
        for index, item in enumerate(value[:_MOST_ITEMS]):
            console.print(f"    [{index}] {type_text(item)}")
            if isinstance(item, np.ndarray):
                _print_array(console, item, "      ")
            elif isinstance(item, dict):
                _print_map(console, item)
        _print_rest(console, len(value) - _MOST_ITEMS, "items")
    elif isinstance(value, dict):
        _print_map(console, value)


def _print_map(console: Console, value: Mapping[Any, Any]) -> None:
    for key, item in islice(value.items(), _MOST_ITEMS):
        console.print(f"      {shown(key)}: {shown(_scalar(item))}")
    _print_rest(console, len(value) - _MOST_ITEMS, "entries")


def _print_rest(console: Console, more: int, what: str) -> None:
    if more > 0:
        console.print(f"    … {more} more {what}", style="dim")


def _print_array(console: Console, array: Array, indent: str) -> None:
    values = plain(array)
    if values.dtype.kind in "OUS":
        for item in values.reshape(-1)[:_MOST_ITEMS]:
            console.print(f"{indent}{quote(item)}")
        _print_rest(console, values.size - _MOST_ITEMS, "strings")
        return
    if array.size <= _WHOLE_TEXT:
        width = max(console.width - len(indent), 20)
        text = np.array2string(values, max_line_width=width, precision=6, separator=", ")
        for line in text.splitlines():
            console.print(f"{indent}{line}", soft_wrap=True)
        return
    first = np.array2string(
        values.reshape(-1)[:_FIRST], precision=4, separator=", ", max_line_width=1000
    )
    numbers = statistics(array)
    parts = [f"{key} {numbers[key]:.4g}" for key in ("min", "max", "mean") if key in numbers]
    console.print(f"{indent}{'  '.join(parts)}")
    console.print(f"{indent}{first[:-1]}, …", style="dim", soft_wrap=True)
    for key, words in (("nan", "NaN"), ("infinite", "infinite")):
        if numbers.get(key):
            text = f"{indent}{numbers[key]} of {array.size} values are {words}"
            console.print(text, style="yellow")


def read_labels(path: str | None, metadata: Mapping[str, str]) -> list[str]:
    """Names of classes: from a file (a line each, or JSON), or what the model's metadata says."""
    if path is None:
        return _labels_of_metadata(metadata)
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise missing_file(path) from None
    except OSError as error:
        raise InputError(f"cannot read {quote(path)}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SardonyxError(f"{quote(path)} is not UTF-8 text") from None
    if text.lstrip()[:1] in {"[", "{"}:
        try:
            labels = _labels_of(json.loads(text))
        except (ValueError, RecursionError):
            labels = []
        if not labels:
            raise SardonyxError(
                f"{quote(path)} is no JSON list of names, nor an object from numbers to names"
            )
        return labels
    return text.splitlines()


def _labels_of_metadata(metadata: Mapping[str, str]) -> list[str]:
    text = next((metadata[key] for key in ("labels", "names", "classes") if key in metadata), "")
    if not text or len(text) > _LONGEST_LABELS:
        return []
    try:
        return _labels_of(json.loads(text))
    except (ValueError, TypeError, RecursionError):
        pairs = {int(number): one or two for number, one, two in _PYTHON_PAIR.findall(text)}
        return _labels_of(pairs)


def _labels_of(parsed: Any) -> list[str]:
    if isinstance(parsed, dict):
        by_number = {int(key): name for key, name in parsed.items()}
        if sorted(by_number) != list(range(len(by_number))):
            return []
        parsed = [by_number[number] for number in range(len(by_number))]
    if not isinstance(parsed, list):
        return []
    return [str(item) for item in parsed]


def top_classes(
    name: str, value: Any, labels: Sequence[str], top: int | None
) -> list[list[dict[str, Any]]] | None:
    """The greatest scores of each row of `value`, where it looks like scores of classes.

    That is a float vector, [classes] or [rows, classes], which holds probabilities, or has as
    many classes as there are labels, or whose name says so; or any when `top` asks for it.
    """
    if not isinstance(value, np.ndarray) or value.ndim not in {1, 2} or value.shape[-1] < 2:
        return None
    if not dtypes.from_numpy(value.dtype).is_floating or not value.size:
        return None
    rows = plain(value).reshape(-1, value.shape[-1])
    n_classes = rows.shape[1]
    is_named = re.search(r"logit|prob|score|class|softmax", name, re.IGNORECASE) is not None
    wanted = top is not None or n_classes == len(labels) or is_named or _are_probabilities(rows)
    if not wanted or len(rows) > _MOST_ROWS or np.isnan(rows).any():
        return None
    known = labels if len(labels) == n_classes else [""] * n_classes
    found = []
    for row in rows:
        order = np.argsort(-row, kind="stable")[: top or min(5, n_classes)]
        found.append(
            [{"class": int(i), "label": known[i] or None, "score": float(row[i])} for i in order]
        )
    return found


def _are_probabilities(rows: Array) -> bool:
    if rows.min() < 0 or rows.max() > 1:
        return False
    return bool(np.allclose(rows.sum(1, dtype=np.float64), 1, atol=1e-2))


def print_classes(
    console: Console, name: str, value: Any, rows: list[list[dict[str, Any]]]
) -> None:
    """Show the top classes with bars."""
    line = Text(f"  {shown(name)}", style="bold cyan")
    line.append(f"  {type_text(value)}", style="not bold default")
    console.print(line)
    for number, row in enumerate(rows):
        if len(rows) > 1:
            console.print(f"    row {number}", style="dim")
        console.print(
            class_table(console, row, _are_probabilities(plain(value).reshape(len(rows), -1)))
        )


def class_table(
    console: Console, row: Sequence[Mapping[str, Any]], are_probabilities: bool, width: int = 30
) -> Table:
    """A line for each class: number, label, bar, score."""
    table = Table.grid(padding=(0, 1))
    table.add_column(justify="right", min_width=4)
    table.add_column(max_width=28, no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    scores = [entry["score"] for entry in row]
    low = 0.0 if are_probabilities or min(scores) >= 0 else min(scores)
    span = 1.0 if are_probabilities else (max(scores) - low) or 1.0
    for rank, entry in enumerate(row):
        score = entry["score"]
        number = str(entry["class"])
        label = "" if entry["label"] in {None, number} else shown(entry["label"])
        written = f"{score:.2%}" if are_probabilities else f"{score:.4g}"
        style = "bold" if rank == 0 else ""
        table.add_row(
            Text(number, style="dim" if label else style),
            Text(label, style=style),
            bar(console, (score - low) / span, width),
            Text(written, style=style),
        )
    return table


def save_values(target: str, values: Mapping[str, Any]) -> list[str]:
    """Write tensors to ``FILE.npz``, or to a folder with one .npy file each; returns the paths."""
    arrays: dict[str, Array] = {}
    for name, value in values.items():
        items = enumerate(value) if isinstance(value, list) else [("", value)]
        for index, item in items:
            if isinstance(item, np.ndarray):
                key = _safe_name(name if index == "" else f"{name}_{index}", arrays)
                array = plain(item)
                arrays[key] = array.astype(str) if array.dtype.kind == "O" else array
    path = Path(target)
    try:
        if path.suffix.lower() == ".npz":
            np.savez(path, **arrays)  # type: ignore[arg-type]
            return [str(path)]
        path.mkdir(parents=True, exist_ok=True)
        for name, array in arrays.items():
            np.save(path / f"{name}.npy", array, allow_pickle=False)
    except OSError as error:
        raise InputError(f"cannot write {quote(target)}: {error.strerror or error}") from None
    return [str(path / f"{name}.npy") for name in arrays]


def _safe_name(name: str, taken: Mapping[str, Any]) -> str:
    """`name` as a file name that leads nowhere else and is not taken."""
    safe = re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip(".")[:100] or "output"
    unique, count = safe, 2
    while unique in taken:
        unique, count = f"{safe}_{count}", count + 1
    return unique
