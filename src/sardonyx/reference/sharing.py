"""Arrays of constants that sessions have in common.

Equal arrays become one. Nothing here keeps an array alive: the last session that goes frees it.
"""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Hashable

__all__ = ["SHARED_FROM", "find", "share"]

SHARED_FROM: Final = 4096
"""Bytes from which on an array is worth sharing."""
_SAMPLES: Final = 64
_BLOCK: Final = 1 << 20


class _Known(weakref.ref[Any]):
    """An array, a sample of its content, and the last key that it was given."""

    __slots__ = ("key", "sample")

    sample: Hashable
    key: Hashable


class _Table:
    """Arrays by key and by samples of their content."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a collection may drop arrays wherever it is held
        self._by_key: dict[Hashable, _Known] = {}
        self._by_sample: dict[Hashable, _Known] = {}

    def find(self, key: Hashable) -> Any:
        with self._lock:
            known = self._by_key.get(key)
            return None if known is None else known()

    def share(self, array: Any, key: Hashable) -> Any:
        sample = _sample(array)
        with self._lock:
            known = self._by_sample.get(sample)
            other = None if known is None else known()
            if known is None or other is None:
                known = _Known(array, self._drop)
                known.sample, known.key = sample, None
                self._by_sample[sample] = known
                other = array
        if other is not array and not _same(other, array):
            return array
        if key is not None:
            self._name(known, key)
        return other

    def _name(self, known: _Known, key: Hashable) -> None:
        with self._lock:
            if known.key is not None and self._by_key.get(known.key) is known:
                del self._by_key[known.key]
            known.key = key
            self._by_key[key] = known

    def _drop(self, known: Any) -> None:
        with self._lock:
            for table, place in (self._by_sample, known.sample), (self._by_key, known.key):
                if table.get(place) is known:
                    del table[place]


def find(key: Hashable) -> Any:
    """The array that was shared under `key`; None if nobody has it any more."""
    return _TABLE.find(key)


def share(array: Any, key: Hashable = None) -> Any:
    """`array`, or one of equal dtype, shape and bytes that somebody has already.

    It is read-only from now on. `key`, unless it is None, must say all that the content follows
    from; `find` then gives the array.
    """
    if not isinstance(array, np.ndarray):
        return array
    array.flags.writeable = False
    if array.nbytes < SHARED_FROM or array.dtype.hasobject:
        return array
    return _TABLE.share(array, key) if array.flags.c_contiguous else array


def _bytes_of(array: Any) -> Any:
    return array.reshape(-1).view(np.uint8)


def _sample(array: Any) -> Hashable:
    data = _bytes_of(array)
    words = data[: len(data) // 8 * 8].view(np.uint64)
    return array.dtype, array.shape, words[:: max(len(words) // _SAMPLES, 1)].tobytes()


def _same(a: Any, b: Any) -> bool:
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    a, b = _bytes_of(a), _bytes_of(b)
    blocks = range(0, len(a), _BLOCK)
    return all(
        np.array_equal(a[start : start + _BLOCK], b[start : start + _BLOCK]) for start in blocks
    )


_TABLE: Final = _Table()
