"""Scalar operations in LLVM IR: the table of how each is written, for one element or for a vector.

The keys are those of `sardonyx.loops.scalars.OPERATIONS`, and so are the meanings: every operation
is defined on all inputs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from sardonyx.codegen.plain import ROUNDINGS, Plain
from sardonyx.dtypes import BFLOAT16, BOOL, DOUBLE, FLOAT, FLOAT16, INT32

if TYPE_CHECKING:
    from collections.abc import Callable

    from sardonyx.dtypes import DType
    from sardonyx.loops.machine import Machine

__all__ = ["EMIT", "Writer", "element_type", "llvm_type", "number"]

_FLOAT_TYPES: Final = {FLOAT: "float", DOUBLE: "double", FLOAT16: "half", BFLOAT16: "i16"}


class Writer(Protocol):
    """What writing an operation needs: appends an instruction and gives its result's name."""

    machine: Machine

    def emit(self, instruction: str) -> str:
        """Append ``%new = instruction``."""

    def intrinsic(self, name: str, result: str, *arguments: tuple[str, str]) -> str:
        """Call the intrinsic `name`, declared on first use, with (type, value) arguments."""


def element_type(dtype: DType) -> str:
    """The LLVM type of an element in memory."""
    return "i8" if dtype is BOOL else _FLOAT_TYPES.get(dtype) or f"i{dtype.bits}"


def llvm_type(dtype: DType, lanes: int) -> str:
    """The LLVM type of a value: a scalar, or a vector of `lanes`."""
    scalar = "i1" if dtype is BOOL else element_type(dtype)
    return scalar if lanes == 1 else f"<{lanes} x {scalar}>"


def number(value: float, dtype: DType) -> str:
    """A literal."""
    if dtype is BOOL:
        return "true" if value else "false"
    if dtype is BFLOAT16:
        import numpy as np

        return str(int(np.asarray(value, BFLOAT16.numpy).view(np.int16)))
    if dtype.is_floating:
        import numpy as np

        if dtype is FLOAT16:
            return f"0xH{int(np.float16(value).view(np.uint16)):04X}"
        return f"0x{int(np.float64(value).view(np.uint64)):016X}"
    if dtype.kind == "uint":
        half = 1 << (dtype.bits - 1)
        value = int(value) - 2 * half if value >= half else value
    return str(int(value))


class _Context:
    """One operation being written: its operands, their type, and the way to append."""

    __slots__ = ("args", "dtype", "lanes", "result", "type", "writer")

    def __init__(
        self, writer: Writer, args: tuple[str, ...], dtype: DType, result: DType, lanes: int
    ) -> None:
        self.writer = writer
        self.args = args
        self.dtype = dtype
        self.result = result
        self.lanes = lanes
        self.type = llvm_type(dtype, lanes)

    @property
    def suffix(self) -> str:
        """How the operand type is spelt in an intrinsic's name."""
        return suffix(self.dtype, self.lanes)

    def emit(self, instruction: str) -> str:
        return self.writer.emit(instruction)

    def call(self, name: str, *args: str) -> str:
        pairs = [(self.type, arg) for arg in args or self.args]
        return self.writer.intrinsic(f"llvm.{name}.{self.suffix}", self.type, *pairs)

    def splat(self, value: float, dtype: DType | None = None) -> str:
        """The number `value` in every lane."""
        kind = dtype or self.dtype
        if self.lanes == 1:
            return number(value, kind)
        scalar = llvm_type(kind, 1)
        return f"splat ({scalar} {number(value, kind)})"

    def mask(self, instruction: str) -> str:
        return self.emit(instruction)


def suffix(dtype: DType, lanes: int) -> str:
    """A type as it is spelt in an intrinsic's name."""
    scalar = {"float": "f32", "double": "f64", "half": "f16"}.get(
        element_type(dtype), f"i{dtype.bits}"
    )
    return scalar if lanes == 1 else f"v{lanes}{scalar}"


def _arithmetic(name: str) -> Callable[[_Context], str]:
    def write(c: _Context) -> str:
        instruction = f"f{name} contract" if c.dtype.is_floating else name
        return c.emit(f"{instruction} {c.type} {c.args[0]}, {c.args[1]}")

    return write


def _quotient(name: str) -> Callable[[_Context], str]:
    def write(c: _Context) -> str:
        a, b = c.args
        if c.dtype.is_floating:
            return c.emit(f"f{name} {c.type} {a}, {b}")
        signed = c.dtype.kind == "int"
        mask = llvm_type(BOOL, c.lanes)
        zero = unsafe = c.emit(f"icmp eq {c.type} {b}, {c.splat(0)}")
        minus = ""
        if signed:
            minus = c.emit(f"icmp eq {c.type} {b}, {c.splat(-1)}")
            unsafe = c.emit(f"or {mask} {zero}, {minus}")
        one = c.splat(1)
        safe = c.emit(f"select {mask} {unsafe}, {c.type} {one}, {c.type} {b}")
        result = c.emit(f"{'s' if signed else 'u'}{name} {c.type} {a}, {safe}")
        if signed and name == "div":
            negated = c.emit(f"sub {c.type} {c.splat(0)}, {a}")
            result = c.emit(f"select {mask} {minus}, {c.type} {negated}, {c.type} {result}")
        return c.emit(f"select {mask} {zero}, {c.type} {c.splat(0)}, {c.type} {result}")

    return write


def _unary(name: str) -> Callable[[_Context], str]:
    def write(c: _Context) -> str:
        if name in ROUNDINGS and not c.writer.machine.rounds:
            return Plain(c.emit, c.lanes).rounded(name, c.args[0], llvm_type(c.dtype, 1))
        return c.call(name)

    return write


def _negate(c: _Context) -> str:
    if c.dtype.is_floating:
        return c.emit(f"fneg {c.type} {c.args[0]}")
    return c.emit(f"sub {c.type} {c.splat(0)}, {c.args[0]}")


def _absolute(c: _Context) -> str:
    if c.dtype.is_floating:
        return c.call("fabs")
    if c.dtype.kind == "uint":
        return c.args[0]
    pairs = ((c.type, c.args[0]), ("i1", "false"))
    return c.writer.intrinsic(f"llvm.abs.{c.suffix}", c.type, *pairs)


def _fused(c: _Context) -> str:
    if c.dtype.is_floating:
        return c.call("fmuladd")
    product = c.emit(f"mul {c.type} {c.args[0]}, {c.args[1]}")
    return c.emit(f"add {c.type} {product}, {c.args[2]}")


_PAIR_PRODUCTS: Final = {
    4: "llvm.x86.sse2.pmadd.wd",
    8: "llvm.x86.avx2.pmadd.wd",
    16: "llvm.x86.avx512.pmaddw.d.512",
}
"""The x86 instructions that multiply pairs and add neighbours, by how many sums they give."""


def _dot2(c: _Context) -> str:
    a, b, total = c.args
    if c.lanes == 1:
        halves = [_halves_of_one(c, value) for value in (a, b)]
        for one, other in zip(*halves, strict=True):
            product = c.emit(f"mul i32 {one}, {other}")
            total = c.emit(f"add i32 {total}, {product}")
        return total
    words = f"<{2 * c.lanes} x i16>"
    pairs = [c.emit(f"bitcast {c.type} {value} to {words}") for value in (a, b)]
    instruction = _PAIR_PRODUCTS.get(c.lanes)
    if instruction and c.lanes * INT32.bits <= c.writer.machine.pairs:
        kinds = [(words, pair) for pair in pairs]
        product = c.writer.intrinsic(instruction, c.type, *kinds)
        return c.emit(f"add {c.type} {total}, {product}")
    for half in (0, 1):
        one, other = (_half_of_each(c, pair, half) for pair in pairs)
        product = c.emit(f"mul {c.type} {one}, {other}")
        total = c.emit(f"add {c.type} {total}, {product}")
    return total


def _halves_of_one(c: _Context, value: str) -> tuple[str, str]:
    narrow = c.emit(f"trunc i32 {value} to i16")
    return c.emit(f"sext i16 {narrow} to i32"), c.emit(f"ashr i32 {value}, 16")


def _half_of_each(c: _Context, pairs: str, half: int) -> str:
    """The low or high halves of a vector's pairs, as INT32."""
    words = f"<{2 * c.lanes} x i16>"
    places = ", ".join(f"i32 {2 * lane + half}" for lane in range(c.lanes))
    narrow = c.emit(f"shufflevector {words} {pairs}, {words} poison, <{c.lanes} x i32> <{places}>")
    return c.emit(f"sext <{c.lanes} x i16> {narrow} to {c.type}")


def _extreme(order: str, name: str) -> Callable[[_Context], str]:
    def write(c: _Context) -> str:
        a, b = c.args
        if c.dtype.is_floating:
            test = c.emit(f"fcmp {order} {c.type} {b}, {a}")
            return c.emit(f"select {llvm_type(BOOL, c.lanes)} {test}, {c.type} {b}, {c.type} {a}")
        return _integer_extreme(c, name)

    return write


def _integer_extreme(c: _Context, name: str) -> str:
    if c.dtype is BOOL:
        return c.emit(f"{'and' if name == 'min' else 'or'} {c.type} {c.args[0]}, {c.args[1]}")
    return c.call(f"{'s' if c.dtype.kind == 'int' else 'u'}{name}")


def _nan_extreme(name: str) -> Callable[[_Context], str]:
    short = name[:3]
    return lambda c: c.call(name) if c.dtype.is_floating else _integer_extreme(c, short)


def _compare(of_floats: str, of_integers: str) -> Callable[[_Context], str]:
    def write(c: _Context) -> str:
        a, b = c.args
        if c.dtype.is_floating:
            return c.emit(f"fcmp {of_floats} {c.type} {a}, {b}")
        order = of_integers
        if order not in {"eq", "ne"}:
            order = ("s" if c.dtype.kind == "int" else "u") + order
        return c.emit(f"icmp {order} {c.type} {a}, {b}")

    return write


def _bitwise(name: str) -> Callable[[_Context], str]:
    return lambda c: c.emit(f"{name} {c.type} {c.args[0]}, {c.args[1]}")


def _not(c: _Context) -> str:
    return c.emit(f"xor {c.type} {c.args[0]}, {c.splat(1 if c.dtype is BOOL else -1)}")


def _shift(name: str) -> Callable[[_Context], str]:
    def write(c: _Context) -> str:
        count = c.emit(f"and {c.type} {c.args[1]}, {c.splat(c.dtype.bits - 1)}")
        instruction = name
        if name == "shr":
            instruction = "ashr" if c.dtype.kind == "int" else "lshr"
        return c.emit(f"{instruction} {c.type} {c.args[0]}, {count}")

    return write


def _select(c: _Context) -> str:
    condition, yes, no = c.args
    kind = llvm_type(c.result, c.lanes)
    return c.emit(f"select {llvm_type(BOOL, c.lanes)} {condition}, {kind} {yes}, {kind} {no}")


def _bits(c: _Context) -> str:
    return c.emit(f"bitcast {c.type} {c.args[0]} to {llvm_type(c.result, c.lanes)}")


def _cast(c: _Context) -> str:
    source, target, value = c.dtype, c.result, c.args[0]
    if source is target:
        return value
    if source is BFLOAT16:
        wide = _from_bfloat16(c, value)
        return wide if target is FLOAT else _again(c, wide, FLOAT, target)
    if source is FLOAT16 and target is not FLOAT:
        return _again(c, _again(c, value, FLOAT16, FLOAT), FLOAT, target)
    if target is BFLOAT16:
        return _to_bfloat16(c, value if source is FLOAT else _again(c, value, source, FLOAT))
    if target is FLOAT16 and source is not FLOAT:
        narrow = _to_odd(c, value) if source is DOUBLE else _again(c, value, source, FLOAT)
        return _again(c, narrow, FLOAT, FLOAT16)
    kind = llvm_type(target, c.lanes)
    if target is BOOL:
        compare = "fcmp une" if source.is_floating else "icmp ne"
        return c.emit(f"{compare} {c.type} {value}, {c.splat(0)}")
    if FLOAT16 in {source, target} and not c.writer.machine.converts_halves:
        plain = Plain(c.emit, c.lanes)
        return plain.from_half(value) if source is FLOAT16 else plain.to_half(value)
    if source.is_floating and target.is_floating:
        result = c.emit(
            f"{'fpext' if target.bits > source.bits else 'fptrunc'} {c.type} {value} to {kind}"
        )
        if source is not DOUBLE:
            return result
        # else LLVM joins this with a rounding to half, for which it would call a function
        spelt = f"llvm.arithmetic.fence.{suffix(target, c.lanes)}"
        return c.writer.intrinsic(spelt, kind, (kind, result))
    if source.is_floating:
        name = f"llvm.fpto{'s' if target.kind == 'int' else 'u'}i.sat"
        spelt = f"{name}.{suffix(target, c.lanes)}.{c.suffix}"
        return c.writer.intrinsic(spelt, kind, (c.type, value))
    if target.is_floating:
        return c.emit(
            f"{'sitofp' if source.kind == 'int' else 'uitofp'} {c.type} {value} to {kind}"
        )
    bits = 1 if source is BOOL else source.bits
    if target.bits == bits:
        return value
    if target.bits < bits:
        return c.emit(f"trunc {c.type} {value} to {kind}")
    return c.emit(f"{'sext' if source.kind == 'int' else 'zext'} {c.type} {value} to {kind}")


def _again(c: _Context, value: str, source: DType, target: DType) -> str:
    return _cast(_Context(c.writer, (value,), source, target, c.lanes))


def _to_odd(c: _Context, value: str) -> str:
    """A DOUBLE as FLOAT, where that is not exact with an odd last bit: to be rounded once more.

    Rounded to nearest both times, what lies just beside the middle of two numbers would first
    become the middle.
    """
    floats, word = llvm_type(FLOAT, c.lanes), llvm_type(INT32, c.lanes)
    mask = llvm_type(BOOL, c.lanes)
    narrow = c.emit(f"fptrunc {c.type} {value} to {floats}")
    back = c.emit(f"fpext {floats} {narrow} to {c.type}")
    bits = c.emit(f"bitcast {floats} {narrow} to {word}")
    sizes = [c.call("fabs", number_) for number_ in (value, back)]
    below = c.emit(f"fcmp olt {c.type} {sizes[1]}, {sizes[0]}")
    differs = c.emit(f"fcmp one {c.type} {sizes[1]}, {sizes[0]}")
    low = c.emit(f"trunc {word} {bits} to {mask}")
    even = c.emit(f"xor {mask} {low}, {c.splat(1, BOOL)}")
    moves = c.emit(f"and {mask} {differs}, {even}")
    step = c.emit(f"select {mask} {below}, {word} {c.splat(1, INT32)}, {word} {c.splat(-1, INT32)}")
    moved = c.emit(f"add {word} {bits}, {step}")
    chosen = c.emit(f"select {mask} {moves}, {word} {moved}, {word} {bits}")
    return c.emit(f"bitcast {word} {chosen} to {floats}")


def _from_bfloat16(c: _Context, value: str) -> str:
    word = "i32" if c.lanes == 1 else f"<{c.lanes} x i32>"
    wide = c.emit(f"zext {c.type} {value} to {word}")
    shift = "16" if c.lanes == 1 else "splat (i32 16)"
    high = c.emit(f"shl {word} {wide}, {shift}")
    return c.emit(f"bitcast {word} {high} to {llvm_type(FLOAT, c.lanes)}")


def _to_bfloat16(c: _Context, value: str) -> str:
    """The upper half, rounded to nearest even; a NaN stays one."""

    def splat(number_: int) -> str:
        return str(number_) if c.lanes == 1 else f"splat (i32 {number_})"

    word = "i32" if c.lanes == 1 else f"<{c.lanes} x i32>"
    floats, mask = llvm_type(FLOAT, c.lanes), llvm_type(BOOL, c.lanes)
    bits = c.emit(f"bitcast {floats} {value} to {word}")
    high = c.emit(f"lshr {word} {bits}, {splat(16)}")
    odd = c.emit(f"and {word} {high}, {splat(1)}")
    bias = c.emit(f"add {word} {odd}, {splat(0x7FFF)}")
    moved = c.emit(f"add {word} {bits}, {bias}")
    rounded = c.emit(f"lshr {word} {moved}, {splat(16)}")
    quiet = c.emit(f"or {word} {high}, {splat(0x40)}")
    is_nan = c.emit(f"fcmp uno {floats} {value}, {value}")
    chosen = c.emit(f"select {mask} {is_nan}, {word} {quiet}, {word} {rounded}")
    return c.emit(f"trunc {word} {chosen} to {llvm_type(BFLOAT16, c.lanes)}")


EMIT: Final[dict[str, Callable[[_Context], str]]] = {
    "add": _arithmetic("add"),
    "sub": _arithmetic("sub"),
    "mul": _arithmetic("mul"),
    "div": _quotient("div"),
    "rem": _quotient("rem"),
    "fma": _fused,
    "dot2": _dot2,
    "neg": _negate,
    "abs": _absolute,
    "sqrt": _unary("sqrt"),
    "floor": _unary("floor"),
    "ceil": _unary("ceil"),
    "trunc": _unary("trunc"),
    "rint": _unary("roundeven"),
    "copysign": _unary("copysign"),
    "min": _extreme("olt", "min"),
    "max": _extreme("ogt", "max"),
    "minimum": _nan_extreme("minimum"),
    "maximum": _nan_extreme("maximum"),
    "lt": _compare("olt", "lt"),
    "le": _compare("ole", "le"),
    "eq": _compare("oeq", "eq"),
    "ne": _compare("une", "ne"),
    "and": _bitwise("and"),
    "or": _bitwise("or"),
    "xor": _bitwise("xor"),
    "not": _not,
    "shl": _shift("shl"),
    "shr": _shift("shr"),
    "lshr": _shift("lshr"),
    "select": _select,
    "cast": _cast,
    "bits": _bits,
}


def write(
    writer: Writer, op: str, args: tuple[str, ...], dtype: DType, result: DType, lanes: int
) -> str:
    """Append the operation; `dtype` is the type of the first argument."""
    return EMIT[op](_Context(writer, args, dtype, result, lanes))
