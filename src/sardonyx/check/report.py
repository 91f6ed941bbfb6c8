"""What the checker found."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sardonyx.check.rules import RULES
from sardonyx.errors import CheckError, ExternalDataError, LimitError, SardonyxError, quote

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Place", "Problem", "Report"]

_MOST_LISTED = 10
_MOST_KEPT = 10_000


@dataclass(frozen=True, slots=True)
class Place:
    """Where a problem is: any of these may be empty.

    `graph` is the way to the graph, outermost first (``graph 'main'``, ``then_branch of node
    'if' (If)``), `node` the node's label; `value` and `tensor` are names as the file has them.
    """

    graph: tuple[str, ...] = ()
    node: str = ""
    value: str = ""
    tensor: str = ""
    lines: tuple[str, ...] = ()
    """Places in the file that the decoder told, innermost first."""

    def text(self, message: str = "") -> str:
        """In words, innermost first, a line each; a name that `message` has is left out."""
        found = list(self.lines)
        if self.tensor and quote(self.tensor) not in message:
            found.append(f"tensor {quote(self.tensor)}")
        if self.value and quote(self.value) not in message:
            found.append(f"value {quote(self.value)}")
        if self.node:
            found.append(self.node)
        if len(self.graph) > 1 or not found or not self.node:
            found.extend(reversed(self.graph))
        return "\n".join(dict.fromkeys(found))

    def __str__(self) -> str:
        return self.text()


@dataclass(frozen=True, slots=True)
class Problem:
    """One broken rule: its class (`kind`, a name in `RULES`), what, where and how to fix it.

    `severity` is ``error`` (the model is not valid or cannot run), ``warning`` (runtimes
    tolerate it, and files in the wild have it) or ``info`` (valid, and perhaps not meant).
    `cause` is the error that the decoder raised.
    """

    kind: str
    message: str
    where: Place = Place()
    hint: str = ""
    severity: str = "error"
    cause: SardonyxError | None = field(default=None, compare=False)

    @property
    def is_error(self) -> bool:
        """Whether it makes the model invalid."""
        return self.severity == "error"

    @property
    def is_warning(self) -> bool:
        """Whether runtimes tolerate it."""
        return self.severity == "warning"

    @property
    def place(self) -> str:
        """`where` in words, innermost first, a line each."""
        return self.where.text(self.message)

    def __str__(self) -> str:
        text = f"{self.severity} [{self.kind}] {self.message}"
        for line in self.place.splitlines():
            text += f"\n  at {line}"
        if self.hint:
            text += f"\n  fix: {self.hint}"
        return text

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "severity": self.severity,
            "kind": self.kind,
            "message": self.message,
            "place": self.place,
            "graph": list(self.where.graph),
            "node": self.where.node,
            "value": self.where.value,
            "tensor": self.where.tensor,
            "fix": self.hint,
        }


@dataclass
class Report:
    """All problems of one model, in the order in which they were found.

    Of each severity the first 10,000 are kept; `omitted` counts the others.
    """

    problems: list[Problem] = field(default_factory=list)
    omitted: int = 0
    _counts: dict[str, int] = field(default_factory=dict)

    def error(
        self, kind: str, message: str, place: Place | str = "", hint: str | None = None
    ) -> None:
        """Add an error; without a hint it gets the rule's own."""
        self.add(kind, message, place, hint, "error")

    def warn(
        self, kind: str, message: str, place: Place | str = "", hint: str | None = None
    ) -> None:
        """Add a warning."""
        self.add(kind, message, place, hint, "warning")

    def note(
        self, kind: str, message: str, place: Place | str = "", hint: str | None = None
    ) -> None:
        """Add what is only good to know."""
        self.add(kind, message, place, hint, "info")

    def add(
        self,
        kind: str,
        message: str,
        place: Place | str,
        hint: str | None,
        severity: str,
        cause: SardonyxError | None = None,
    ) -> None:
        """Add a problem of any severity."""
        count = self._counts[severity] = self._counts.get(severity, 0) + 1
        if count > _MOST_KEPT:
            self.omitted += 1
            return
        if isinstance(place, str):
            place = Place(lines=tuple(place.splitlines()))
        fix = RULES[kind].fix if hint is None else hint
        self.problems.append(Problem(kind, message, place, fix, severity, cause))

    def unreadable(self, error: SardonyxError, graph: tuple[str, ...] = ()) -> None:
        """Add the error that reading a part of the model raised."""
        kind = "encoding"
        if isinstance(error, LimitError):
            kind = "limit"
        elif isinstance(error, ExternalDataError):
            kind = "external-data"
        place = Place(graph=graph, lines=tuple(error.places))
        self.add(kind, error.message, place, error.hint, "error", error)

    @property
    def errors(self) -> list[Problem]:
        """The problems that make the model invalid."""
        return list(self._of("error"))

    @property
    def warnings(self) -> list[Problem]:
        """The problems that runtimes tolerate."""
        return list(self._of("warning"))

    @property
    def infos(self) -> list[Problem]:
        """What is valid and perhaps not meant."""
        return list(self._of("info"))

    @property
    def has_errors(self) -> bool:
        """Whether there is any error."""
        return "error" in self._counts

    def _of(self, severity: str) -> Iterator[Problem]:
        return (problem for problem in self.problems if problem.severity == severity)

    def raise_errors(self) -> None:
        """Raise `CheckError` with all errors, if any.

        Where the only error is that the file cannot be read, that error itself is raised.
        """
        errors = self.errors
        if not errors:
            return
        if len(errors) == 1 and errors[0].cause is not None:
            raise errors[0].cause
        listed = "\n".join(str(problem) for problem in errors[:_MOST_LISTED])
        total = self._counts["error"]
        more = total - min(len(errors), _MOST_LISTED)
        tail = f"\nand {more} more" if more > 0 else ""
        count = "1 problem" if total == 1 else f"{total} problems"
        raise CheckError(
            f"the model has {count}:\n{listed}{tail}", [str(problem) for problem in errors]
        )
