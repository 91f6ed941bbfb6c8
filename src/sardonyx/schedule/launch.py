"""A call of a kernel by a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sardonyx.dims import Dim, symbols

if TYPE_CHECKING:
    from collections.abc import Hashable

    from sardonyx.dims import DimLike
    from sardonyx.loops.kernel import Kernel

__all__ = ["Launch", "Named"]


@dataclass(frozen=True, slots=True)
class Named:
    """A kernel of which nothing but the name is needed: its code is there already."""

    name: str


@dataclass(frozen=True, slots=True)
class Launch:
    """A call of `kernel`: its buffers, the values of its sizes, and how its work divides.

    `extent` is how many steps the parallel loop has and `work` about how many elements each
    computes, in units of a simple operation. `scratch` are the bytes of each dynamic local.
    In a run in which one of `requirements` is negative the kernel must not be called. Where the
    kernel `is_partial`, its failure says that it is not made for the data.
    """

    kernel: Kernel | Named
    buffers: tuple[Hashable, ...]
    outputs: tuple[Hashable, ...]
    sizes: tuple[DimLike, ...]
    extent: DimLike
    work: DimLike
    scratch: tuple[DimLike, ...]
    label: str
    flops: DimLike = 0
    traffic: DimLike = 0
    requirements: tuple[DimLike, ...] = ()
    is_partial: bool = False

    @property
    def loops(self) -> Kernel:
        """The kernel as loops; not for one that was found in the cache by its name."""
        assert not isinstance(self.kernel, Named)
        return self.kernel

    def symbols(self) -> set[str]:
        """The names of the sizes that a call depends on."""
        found: set[str] = set()
        for dim in (*self.sizes, self.extent, self.work, *self.scratch, *self.requirements):
            if isinstance(dim, Dim):
                found |= {str(name) for name in symbols(dim)}
        return found
