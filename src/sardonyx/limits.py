"""Bounds on what an untrusted model may cost, in one object."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sardonyx.errors import LimitError

__all__ = ["DEFAULT", "Limits", "active", "enforced", "exceeded"]

MIB = 1 << 20
GIB = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What opening, checking and running a model may cost; raise a bound with `replace`.

    Sizes are in bytes, times in seconds. Every bound, when met, is a
    `sardonyx.errors.LimitError` that names the field.
    """

    depth: int = 100
    """Nesting of messages, types, subgraphs and function calls."""
    nodes: int = 1_000_000
    """Nodes in one file, and nodes after functions are expanded."""
    graphs: int = 10_000
    """Functions and subgraphs in one file."""
    name_bytes: int = 1 * MIB
    """Length of one name."""
    rank: int = 64
    """Dimensions of one tensor."""
    folding_bytes: int = 64 * MIB
    """Size of one constant that folding or inference may compute."""
    tensor_bytes: int = 16 * GIB
    """Size of one value that a run may produce."""
    memory_bytes: int = 64 * GIB
    """Size of all values that a run holds at one time, what it was fed included."""
    loop_iterations: int = 10_000_000
    """Trips of one Loop whose trip count the model leaves open."""
    seconds: float | None = None
    """Deadline of one run, and of one inference or check; None is no deadline."""

    def replace(self, **changes: Any) -> Limits:
        """A copy with some bounds changed."""
        return replace(self, **changes)


DEFAULT = Limits()

_ACTIVE: ContextVar[Limits] = ContextVar("limits", default=DEFAULT)


def active() -> Limits:
    """The limits of the run or inference that this thread is in; `DEFAULT` outside of one."""
    return _ACTIVE.get()


@contextmanager
def enforced(limits: Limits) -> Iterator[None]:
    """Make `limits` the active ones inside a ``with`` block, in this thread."""
    token = _ACTIVE.set(limits)
    try:
        yield
    finally:
        _ACTIVE.reset(token)


def exceeded(name: str, bound: float, needed: object) -> LimitError:
    """The `LimitError` for field `name`, for the caller to raise."""
    from sardonyx.errors import LimitError

    return LimitError(
        f"{name.replace('_', ' ')} limit: {needed} needed, {bound} allowed",
        hint=f"if you trust the model, pass limits=Limits({name}=...)",
    )
