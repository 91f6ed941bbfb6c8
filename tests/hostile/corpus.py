"""Hostile files, by the classes of hostile input that the project tests itself against.

Each `Case` is one file, with what lies beside it and what is fed to it, and the verdict it must
get: "accepted", or the entry point that refuses it first and the class of the error, as in
``load DecodeError``. Building is deterministic.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sardonyx.limits import Limits

__all__ = ["CLASSES", "MIB", "Case", "cases", "strict"]

MIB = 1 << 20

CLASSES = {
    1: "malformed protobuf",
    2: "depth",
    3: "amplification",
    4: "text that is not text",
    5: "duplicate fields and split messages",
    6: "sizes of tensors",
    7: "two values at once",
    8: "locations of external data",
    9: "ranges of external data",
    10: "files that change after the check",
    11: "saving through a hostile place",
    12: "cycles",
    13: "explosions of functions and branches",
    14: "duplicate and undefined names, versions",
    15: "attributes and small languages",
    16: "memory bombs",
    17: "loops without end, growing state",
    18: "run-time data",
    19: "long and wide graphs",
    20: "archives and other files",
    21: "pickles and code",
}
"""What each class of hostile input is about, by its number in the project's list."""


def strict(seconds: float = 20.0) -> Limits:
    """What a program allows that runs models of strangers; a busy machine needs its time."""
    return Limits(seconds=seconds, tensor_bytes=8 * MIB, memory_bytes=32 * MIB)


@dataclass(frozen=True)
class Case:
    """One file: `make` gives its bytes, `beside` puts other files into its folder."""

    name: str
    number: int
    verdict: str
    make: Callable[[], bytes]
    beside: Callable[[Path], None] | None = None
    feeds: Callable[[], dict[str, Any]] | None = None
    limits: Limits = field(default_factory=strict)
    quick: bool = False

    def write(self, folder: Path) -> Path:
        """Put the file and what belongs to it into `folder`; the path of the model."""
        path = folder / "model" / "model.onnx"
        path.parent.mkdir()
        (folder / "outside").mkdir()
        (folder / "outside" / "secret").write_bytes(bytes(range(64)))
        path.write_bytes(self.make())
        if self.beside is not None:
            self.beside(path.parent)
        return path


def cases() -> dict[str, Case]:
    """All cases by name; the first of each class and every tenth are `quick`."""
    from hostile import files, graphs, values, wire

    found: dict[str, Case] = {}
    for module in (wire, files, graphs, values):
        for case in module.cases():
            assert case.name not in found, case.name
            assert case.number in CLASSES, case.name
            found[case.name] = case
    return dict(_with_quick(found.values()))


def _with_quick(every: Any) -> Iterator[tuple[str, Case]]:
    seen: set[int] = set()
    for index, case in enumerate(every):
        quick = case.number not in seen or index % 10 == 0
        seen.add(case.number)
        yield case.name, Case(**{**vars(case), "quick": quick})


posix = os.name == "posix"
