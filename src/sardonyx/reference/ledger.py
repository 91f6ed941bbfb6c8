"""How many bytes the values of a run hold: each buffer once, however many views there are."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any

import numpy as np

from sardonyx.limits import exceeded

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Ledger"]

_OBJECT = 64
"""Bytes of a Python object beside its content, about."""
_nbytes = attrgetter("nbytes")


class Ledger:
    """The buffers that values hold, refused past `bound` bytes.

    `take` and `give` are called in pairs: a buffer counts from the first `take` of a value over
    it to the last `give`, and `total` is what all hold together. A sequence counts as a buffer
    of its own.
    """

    __slots__ = ("_bound", "_held", "total")

    def __init__(self, bound: int) -> None:
        self._bound = bound
        self._held: dict[int, list[int]] = {}
        self.total = 0

    def take(self, value: Any) -> None:
        """Count `value`; raises `LimitError` where too much is held then."""
        buffer = _buffer(value)
        held = self._held.get(id(buffer))
        if held is not None:
            held[0] += 1
            return
        size = _size(buffer)
        self._held[id(buffer)] = [1, size]
        self.total += size
        if self.total > self._bound:
            raise exceeded("memory_bytes", self._bound, self.total)

    def give(self, value: Any) -> None:
        """Count `value` no more."""
        key = id(_buffer(value))
        held = self._held[key]
        held[0] -= 1
        if not held[0]:
            self.total -= held[1]
            del self._held[key]

    def give_all(self, values: Iterable[Any]) -> None:
        """Count none of `values` any more."""
        for value in values:
            self.give(value)


def _buffer(value: Any) -> Any:
    """What holds the memory of `value`: of a view, the array that it is a view of."""
    while isinstance(value, np.ndarray) and isinstance(value.base, np.ndarray):
        value = value.base
    return value


def _size(buffer: Any) -> int:
    if isinstance(buffer, np.ndarray):
        size = buffer.nbytes
        if buffer.dtype == object:
            size += sum(map(_text_size, buffer.flat))
        return size
    if isinstance(buffer, (list, tuple)):
        is_plain = bool(buffer) and isinstance(buffer[0], np.ndarray) and buffer[0].dtype != object
        own = 8 * len(buffer)
        return own + (sum(map(_nbytes, buffer)) if is_plain else sum(map(_size, buffer)))
    if isinstance(buffer, dict):
        return 2 * _OBJECT * len(buffer)
    return 0


def _text_size(item: object) -> int:
    return _OBJECT + len(item) if isinstance(item, (str, bytes)) else _OBJECT
