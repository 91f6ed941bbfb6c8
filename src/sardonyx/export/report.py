"""What an export did: times, dims, operators, figures of the verification."""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sardonyx._version import __version__
from sardonyx.errors import InputError, quote
from sardonyx.ir.tensor import Tensor

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from sardonyx.export.verify import Measured
    from sardonyx.ir.model import Model

__all__ = ["FoundDim", "Report"]


@dataclass(frozen=True)
class FoundDim:
    """One axis of an input that is not a plain number in the example's place.

    `size` is what stands in the file: a name, an expression, or the number at which it was fixed;
    `low` and `high` bound a name (None: no bound). `reason` says what fixed it.
    """

    input: str
    axis: int
    size: str
    is_dynamic: bool
    low: int | None = None
    high: int | None = None
    reason: str = ""


@dataclass
class Report:
    """What `sardonyx.export` did; pass one as ``report=`` to have it filled.

    `stages` are seconds, `nodes` counts ONNX operators and `operators` the framework's; `figures`
    hold the largest error of each output on each set of inputs; `error` is the message of the
    export's failure.
    """

    model: str = ""
    path: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    opset: int = 0
    parameters: int = 0
    weight_bytes: int = 0
    stages: dict[str, float] = field(default_factory=dict)
    dims: list[FoundDim] = field(default_factory=list)
    nodes: dict[str, int] = field(default_factory=dict)
    operators: dict[str, int] = field(default_factory=dict)
    verified: bool = False
    figures: list[Measured] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    error: str = ""

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the time of the block under `name`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.stages[name] = self.stages.get(name, 0.0) + time.perf_counter() - start

    @property
    def largest_error(self) -> float:
        """The largest error as a part of what is allowed; 0 where nothing was compared."""
        parts = [each.largest / each.allowed for each in self.figures if each.allowed]
        return max(parts, default=0.0)

    def describe(self, model: Model) -> None:
        """Take what the report says of `model` from it."""
        self.versions.setdefault("sardonyx", __version__)
        self.opset = model.opset() or 0
        self.nodes = dict(Counter(node.op_type for node in model.graph.nodes).most_common())
        weights = [
            value.const for value in model.graph.initializers if isinstance(value.const, Tensor)
        ]
        self.parameters = sum(tensor.size for tensor in weights)
        self.weight_bytes = sum(tensor.nbytes for tensor in weights)

    def as_dict(self) -> dict[str, Any]:
        """The report as plain data; infinities are strings."""
        found = asdict(self)
        for figure in found["figures"]:
            for key in ("largest", "allowed"):
                if not math.isfinite(figure[key]):
                    figure[key] = str(figure[key])
        return found

    def to_json(self) -> str:
        """The report as a JSON document."""
        return json.dumps(self.as_dict(), indent=2, ensure_ascii=False) + "\n"

    def to_markdown(self) -> str:
        """The report as a Markdown page."""
        rows: list[tuple[object, ...]]
        parts = [
            f"# Export of {self.model or 'a model'}",
            _table(("", ""), self._facts()),
        ]
        if self.error:
            parts.append("## Error\n\n```\n" + self.error + "\n```")
        if self.notes:
            parts.append("## Notes\n\n" + "\n".join(f"- {note}" for note in self.notes))
        if self.dims:
            rows = [
                (each.input, each.axis, f"`{each.size}`" if each.is_dynamic else each.size,
                 _range(each) if each.is_dynamic else "fixed", each.reason)
                for each in self.dims
            ]  # fmt: skip
            parts.append("## Dims\n\n" + _table(("input", "axis", "size", "range", "why"), rows))
        if self.figures:
            rows = [
                (
                    each.output,
                    each.inputs,
                    each.note or f"{each.largest:.3g}",
                    f"{each.allowed:.3g}",
                )
                for each in self.figures
            ]
            heads = ("output", "on", "largest error", "allowed")
            parts.append("## Verification\n\n" + _table(heads, rows))
        if self.stages:
            rows = [(name, f"{seconds:.3f}") for name, seconds in self.stages.items()]
            parts.append("## Time\n\n" + _table(("stage", "seconds"), rows))
        for title, counts in (
            ("Nodes", self.nodes),
            ("Operators of the framework", self.operators),
        ):
            if counts:
                parts.append(f"## {title}\n\n" + _table(("operator", "count"), counts.items()))
        return "\n\n".join(parts) + "\n"

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write to `path`: JSON where it ends in ``.json``, else Markdown."""
        target = Path(path)
        text = self.to_json() if target.suffix == ".json" else self.to_markdown()
        try:
            target.write_text(text, encoding="utf-8")
        except OSError as error:
            raise InputError(f"cannot write {quote(str(target))}: {error.strerror}") from error

    def _facts(self) -> list[tuple[str, Any]]:
        facts: list[tuple[str, Any]] = list(self.versions.items())
        if self.path:
            facts.append(("file", self.path))
        if self.nodes:
            facts += [
                ("opset", self.opset),
                ("nodes", sum(self.nodes.values())),
                ("parameters", f"{self.parameters:,}"),
                ("bytes of weights", f"{self.weight_bytes:,}"),
            ]
        facts.append(("verified", "yes" if self.verified else "no"))
        return facts


def _range(dim: FoundDim) -> str:
    low = "0" if dim.low is None else str(dim.low)
    return f"{low} and up" if dim.high is None else f"{low} to {dim.high}"


def _table(heads: tuple[str, ...], rows: Any) -> str:
    lines = [heads, tuple("---" for _ in heads), *rows]
    return "\n".join(
        "| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in line) + " |"
        for line in lines
    )
