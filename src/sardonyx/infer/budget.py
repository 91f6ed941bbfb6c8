"""What one inference may cost: nodes met, time, and contents carried along."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from sardonyx.errors import LimitError
from sardonyx.limits import exceeded
from sardonyx.ops.fact import Fact

if TYPE_CHECKING:
    from sardonyx.ir.model import Model
    from sardonyx.ir.tensor import Array
    from sardonyx.limits import Limits

__all__ = ["Budget", "SpentError", "folding_limits"]

_LARGEST = 4096
"""Most elements of contents that are carried along."""
_SMALL = 64
"""Elements of contents that are carried along whatever is spent: shapes, axes."""
_FLOOR = 15_000
_FACTOR = 30
_SHARE = 64
_OFTEN = 64


class SpentError(LimitError):
    """Inference stops here; what it has not met stays unknown."""


def folding_limits(limits: Limits) -> Limits:
    """The limits that hold inside operators while inference computes contents."""
    return limits.replace(
        tensor_bytes=min(limits.tensor_bytes, max(limits.folding_bytes // _SHARE, 1))
    )


class Budget:
    """Counts down; `meet` for each node, `carried` for each output."""

    __slots__ = ("_bytes", "_deadline", "_limits", "_met", "_most")

    def __init__(self, model: Model, limits: Limits) -> None:
        self._limits = limits
        self._deadline = None if limits.seconds is None else time.monotonic() + limits.seconds
        self._most = _FLOOR + _FACTOR * sum(len(graph.nodes) for graph in model.graphs())
        self._met = 0
        self._bytes = limits.folding_bytes

    def meet(self) -> None:
        """Count one node; raises `SpentError` or, past the deadline, `LimitError`."""
        self._met += 1
        if self._met > self._most:
            raise SpentError(
                f"inference stops after {self._most} nodes: functions and loops make the model "
                "far larger than its file"
            )
        if self._deadline is None or self._met % _OFTEN:
            return
        if time.monotonic() > self._deadline:
            raise exceeded("seconds", self._limits.seconds or 0, "more, to infer types,")

    def carried(self, fact: Fact) -> Fact:
        """`fact`, without its contents where they are more than inference carries along."""
        contents = fact.value
        if contents is None or (contents.size <= _SMALL and contents.dtype != object):
            return fact
        if contents.size <= _LARGEST:
            self._bytes -= _size(contents)
            if self._bytes >= 0 or (contents.size <= _SMALL and not _is_text(contents)):
                return fact
        return Fact(fact.type, None, fact.elements)


def _is_text(contents: Array) -> bool:
    return any(isinstance(item, str) for item in contents.flat)


def _size(contents: Array) -> int:
    size: int = contents.nbytes
    if contents.dtype == object:
        size += sum([len(item) for item in contents.flat if isinstance(item, str)])
    return size
