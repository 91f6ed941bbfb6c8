"""What kernels are shaped for: the processor, its vectors and caches."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Machine"]


@dataclass(frozen=True, slots=True)
class Machine:
    """A processor: LLVM's names for it, and the numbers that schedules are made with.

    `vector_bits` is the width of a vector register, `registers` how many there are, `l1` and
    `l2` the data cache of one core in bytes. `converts_halves` and `rounds` tell whether it has
    instructions that convert half floats, and that round to whole numbers. `pairs` is the width in
    bits of its widest instruction that is `dot2` without the sum: x86-64 has one.
    """

    triple: str
    cpu: str
    features: str
    vector_bits: int
    registers: int
    l1: int = 32 * 1024
    l2: int = 512 * 1024
    interleave: int = 4
    unrolled: int = 16
    converts_halves: bool = True
    rounds: bool = True
    pairs: int = 0

    def lanes(self, bits: int) -> int:
        """How many elements of `bits` a vector register holds."""
        return max(self.vector_bits // bits, 1)
