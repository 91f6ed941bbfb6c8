"""What the checker found."""

from __future__ import annotations

from dataclasses import dataclass, field

from sardonyx.errors import CheckError

__all__ = ["Problem", "Report"]


@dataclass(frozen=True, slots=True)
class Problem:
    """One broken rule: its class (``undefined-name``), what, where and how to fix it.

    A warning is what runtimes tolerate and files in the wild have; an error is not runnable.
    """

    kind: str
    message: str
    place: str = ""
    hint: str = ""
    is_warning: bool = False

    def __str__(self) -> str:
        severity = "warning" if self.is_warning else "error"
        text = f"{severity} [{self.kind}] {self.message}"
        if self.place:
            text += f"\n  at {self.place}"
        if self.hint:
            text += f"\n  fix: {self.hint}"
        return text

    def to_json(self) -> dict[str, str]:
        """As plain data."""
        return {
            "severity": "warning" if self.is_warning else "error",
            "kind": self.kind,
            "message": self.message,
            "place": self.place,
            "fix": self.hint,
        }


@dataclass
class Report:
    """All problems of one model."""

    problems: list[Problem] = field(default_factory=list)

    def error(self, kind: str, message: str, place: str = "", hint: str | None = None) -> None:
        """Add an error."""
        self.problems.append(Problem(kind, message, place, hint or ""))

    def warn(self, kind: str, message: str, place: str = "", hint: str | None = None) -> None:
        """Add a warning."""
        self.problems.append(Problem(kind, message, place, hint or "", is_warning=True))

    @property
    def errors(self) -> list[Problem]:
        """The problems that make the model invalid."""
        return [problem for problem in self.problems if not problem.is_warning]

    @property
    def warnings(self) -> list[Problem]:
        """The problems that runtimes tolerate."""
        return [problem for problem in self.problems if problem.is_warning]

    def raise_errors(self) -> None:
        """Raise `CheckError` when there is any error."""
        errors = self.errors
        if errors:
            listed = "\n".join(str(problem) for problem in errors[:_MOST_LISTED])
            more = len(errors) - _MOST_LISTED
            tail = f"\nand {more} more" if more > 0 else ""
            count = "1 problem" if len(errors) == 1 else f"{len(errors)} problems"
            raise CheckError(
                f"the model has {count}:\n{listed}{tail}", [str(problem) for problem in errors]
            )


_MOST_LISTED = 10
