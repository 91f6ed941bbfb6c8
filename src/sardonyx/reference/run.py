"""What one run of a model carries along."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from sardonyx.errors import ExecutionError
from sardonyx.limits import exceeded
from sardonyx.reference.ledger import Ledger

if TYPE_CHECKING:
    import threading

    from sardonyx.limits import Limits
    from sardonyx.reference.plan import Plan

__all__ = ["Run", "begin"]


class Run:
    """A run until `deadline`, or until `cancel` is set.

    `trace` gets all values, `ledger` counts what is held, `plans` are those of functions that are
    called with attributes, and `depth` is how many calls lie within another.
    """

    __slots__ = ("cancel", "deadline", "depth", "ledger", "plans", "trace")

    def __init__(
        self,
        deadline: float | None,
        cancel: threading.Event | None,
        trace: dict[str, Any] | None,
        ledger: Ledger,
    ) -> None:
        self.deadline = deadline
        self.cancel = cancel
        self.trace = trace
        self.ledger = ledger
        self.depth = 0
        self.plans: dict[tuple[int, int], Plan] = {}

    def check(self, limits: Limits) -> None:
        """Raise where the run must end."""
        if self.cancel is not None and self.cancel.is_set():
            raise ExecutionError("the run was cancelled")
        if self.deadline is not None and time.monotonic() > self.deadline:
            raise exceeded("seconds", limits.seconds or 0, "more")


def begin(limits: Limits, cancel: threading.Event | None = None) -> Run:
    """A run that begins now."""
    deadline = None if limits.seconds is None else time.monotonic() + limits.seconds
    return Run(deadline, cancel, None, Ledger(limits.memory_bytes))
