"""Memory of large outputs, used again once the caller has dropped the array.

The system takes large blocks back as soon as they are free, and clears them page by page when they
are asked for again, which takes longer than many kernels::

    run -> array -> base: _Lease -> block          the caller holds the array
    array goes -> lease goes -> block joins `free` the next run takes it from there
"""

from __future__ import annotations

import math
import weakref
from typing import Any, Final

import numpy as np

__all__ = ["POOLED_FROM", "Outputs"]

POOLED_FROM: Final = 4 << 20
"""Bytes from which on an output's memory is kept; the C library keeps smaller blocks itself."""
_ALIGNMENT: Final = 4096
"""What addresses are multiples of: whole vectors can be stored past the caches."""
_MOST_BLOCKS: Final = 4
_MOST_BYTES: Final = 256 << 20


class Outputs:
    """Blocks of memory that outputs of one session lay in, and that no array uses any more.

    Of these, 4 blocks and 256 MiB are kept. Any thread may ask, and arrays may go on any thread:
    lists are changed in single steps, so that no lock is needed where an array's end may come in
    the middle of anything.
    """

    def __init__(self) -> None:
        self.free: list[Any] = []

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Any:
        """An array whose elements are anything."""
        nbytes = math.prod(shape) * dtype.itemsize
        if nbytes < POOLED_FROM:
            return np.empty(shape, dtype)
        lease = _Lease(self._block(nbytes), nbytes, weakref.ref(self))
        return np.asarray(lease).view(dtype).reshape(shape)

    def _block(self, nbytes: int) -> Any:
        for _ in range(len(self.free)):
            block = self._taken()
            if block is None:
                break
            if nbytes <= block.nbytes <= nbytes + nbytes // 4:
                return block
            self.keep(block)
        whole = np.empty(nbytes + _ALIGNMENT, np.uint8)
        start = -whole.__array_interface__["data"][0] % _ALIGNMENT
        return whole[start : start + nbytes]

    def _taken(self) -> Any:
        """The block that has been free for longest; None if there is none."""
        try:
            return self.free.pop(0)
        except IndexError:
            return None

    def keep(self, block: Any) -> None:
        """Take a block that is free, and let the oldest go where there are too many."""
        self.free.append(block)
        while len(self.free) > _MOST_BLOCKS or sum(b.nbytes for b in self.free[:]) > _MOST_BYTES:
            self._taken()


class _Lease:
    """A block while an array uses it."""

    __slots__ = ("__array_interface__", "block", "pool")

    def __init__(self, block: Any, nbytes: int, pool: weakref.ref[Outputs]) -> None:
        self.block = block
        self.pool = pool
        place = block.__array_interface__["data"]
        self.__array_interface__ = {
            "shape": (nbytes,), "typestr": "|u1", "data": place, "version": 3,
        }  # fmt: skip

    def __del__(self) -> None:
        pool = self.pool()
        if pool is not None:
            pool.keep(self.block)
