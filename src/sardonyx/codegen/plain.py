"""Operations of processors without instructions for them, written in those that all have.

LLVM would call a function for every element, and not every process has these functions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ROUNDINGS", "Plain"]

ROUNDINGS: Final = frozenset({"ceil", "floor", "roundeven", "trunc"})
_WHOLE: Final = {"float": "0x4160000000000000", "double": "0x4330000000000000"}
"""2**23 and 2**52: from there on all numbers are whole."""
_ONE: Final = "0x3FF0000000000000"
_HALF_STEPS: Final = "0x46F0000000000000"
"""2**112: what moves the exponent of a half float, in a float's bits, to where it belongs."""


class Plain:
    """Writes operations on `lanes` elements with `emit`, which appends an instruction."""

    def __init__(self, emit: Callable[[str], str], lanes: int) -> None:
        self.emit = emit
        self.lanes = lanes

    def kind(self, scalar: str) -> str:
        """The type of a value whose elements are of type `scalar`."""
        return scalar if self.lanes == 1 else f"<{self.lanes} x {scalar}>"

    def splat(self, scalar: str, literal: object) -> str:
        """A literal in every lane."""
        return str(literal) if self.lanes == 1 else f"splat ({scalar} {literal})"

    def cast(self, name: str, source: str, value: str, target: str) -> str:
        """One of LLVM's conversions."""
        return self.emit(f"{name} {self.kind(source)} {value} to {self.kind(target)}")

    def word(self, name: str, a: str, b: str | int, scalar: str = "i32") -> str:
        """An operation on integers, or one and a number."""
        other = b if isinstance(b, str) else self.splat(scalar, b)
        return self.emit(f"{name} {self.kind(scalar)} {a}, {other}")

    def select(self, test: str, scalar: str, yes: str, no: str) -> str:
        """A choice for each lane."""
        kind = self.kind(scalar)
        return self.emit(f"select {self.kind('i1')} {test}, {kind} {yes}, {kind} {no}")

    def from_half(self, value: str) -> str:
        """A half float as a float."""
        bits = self.cast("zext", "i16", self.cast("bitcast", "half", value, "i16"), "i32")
        size = self.word("and", bits, 0x7FFF)
        sign = self.word("shl", self.word("xor", bits, size), 16)
        moved = self.cast("bitcast", "i32", self.word("shl", size, 13), "float")
        scale = self.splat("float", _HALF_STEPS)
        scaled = self.emit(f"fmul {self.kind('float')} {moved}, {scale}")
        number = self.cast("bitcast", "float", scaled, "i32")
        is_special = self.word("icmp ugt", size, 0x7BFF)
        special = self.word("or", number, 0x7F800000)
        found = self.word("or", self.select(is_special, "i32", special, number), sign)
        return self.cast("bitcast", "i32", found, "float")

    def to_half(self, value: str) -> str:
        """A float as a half float, rounded to nearest even; a NaN stays one."""
        bits = self.cast("bitcast", "float", value, "i32")
        size = self.word("and", bits, 0x7FFFFFFF)
        sign = self.word("lshr", self.word("xor", bits, size), 16)
        odd = self.word("and", self.word("lshr", size, 13), 1)
        shifted = self.word("sub", size, (127 - 15 << 23) - 0xFFF)
        normal = self.word("lshr", self.word("add", shifted, odd), 13)
        # the last bit of 1/2 is the last of the smallest half floats
        number = self.cast("bitcast", "i32", size, "float")
        half = self.splat("float", "0x3FE0000000000000")
        summed = self.emit(f"fadd {self.kind('float')} {number}, {half}")
        small = self.word("sub", self.cast("bitcast", "float", summed, "i32"), 0x3F000000)
        found = self.select(self.word("icmp ult", size, 0x38800000), "i32", small, normal)
        infinite = self.splat("i32", 0x7C00)
        found = self.select(self.word("icmp ugt", size, 0x477FFFFF), "i32", infinite, found)
        quiet = self.splat("i32", 0x7E00)
        found = self.select(self.word("icmp ugt", size, 0x7F800000), "i32", quiet, found)
        short = self.cast("trunc", "i32", self.word("or", found, sign), "i16")
        return self.cast("bitcast", "i16", short, "half")

    def rounded(self, how: str, value: str, scalar: str) -> str:
        """A float or double as a whole number; `how` is one of ROUNDINGS."""
        word, last = ("i32", 31) if scalar == "float" else ("i64", 63)
        kind = self.kind(scalar)
        bits = self.cast("bitcast", scalar, value, word)
        size = self.word("and", bits, (1 << last) - 1, word)
        sign = self.word("xor", bits, size, word)
        bare = self.cast("bitcast", word, size, scalar)
        whole = self.splat(scalar, _WHOLE[scalar])
        grown = self.emit(f"fadd {kind} {bare}, {whole}")
        found = self.emit(f"fsub {kind} {grown}, {whole}")
        if how in {"floor", "ceil"}:
            found = self.signed(found, sign, scalar, word)
        start = bare if how == "trunc" else value
        if how != "roundeven":
            order, step = ("olt", "fadd") if how == "ceil" else ("ogt", "fsub")
            is_past = self.emit(f"fcmp {order} {kind} {found}, {start}")
            other = self.emit(f"{step} {kind} {found}, {self.splat(scalar, _ONE)}")
            found = self.select(is_past, scalar, other, found)
        found = self.signed(found, sign, scalar, word)
        is_small = self.emit(f"fcmp olt {kind} {bare}, {whole}")
        return self.select(is_small, scalar, found, value)

    def signed(self, value: str, sign: str, scalar: str, word: str) -> str:
        """A number with a sign bit besides its own."""
        bits = self.word("or", self.cast("bitcast", scalar, value, word), sign, word)
        return self.cast("bitcast", word, bits, scalar)
