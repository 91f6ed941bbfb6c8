"""What works on a number's parts: shifts, signs, exponents, neighbours, divisors."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from sardonyx import dtypes
from sardonyx.errors import ExportError
from sardonyx.export.torch.approximation import working_dtype
from sardonyx.export.torch.registry import TorchBuilder, TorchValue, translation
from sardonyx.export.torch.repeat import loop

if TYPE_CHECKING:
    from sardonyx.dtypes import DType
    from sardonyx.ir.value import Value

__all__: list[str] = []

_UNSIGNED = {8: dtypes.UINT8, 16: dtypes.UINT16, 32: dtypes.UINT32, 64: dtypes.UINT64}


@translation("aten.bitwise_left_shift.Tensor", "aten.bitwise_left_shift.Tensor_Scalar",
             "aten.bitwise_left_shift.Scalar_Tensor", "aten.__lshift__.Tensor",
             "aten.__lshift__.Scalar")  # fmt: skip
def left_shift(op: TorchBuilder, a: TorchValue, b: TorchValue) -> Any:
    dtype = op.result()
    left, right = op.scalar(a, dtype), op.scalar(b, dtype)
    bits = op.cast(left, dtypes.UINT64)
    if not isinstance(b, int):
        shifted = op.BitShift(bits, op.cast(right, dtypes.UINT64), direction="LEFT")
        whole = op.And(
            op.Less(right, op.constant(dtype.bits, dtype)),
            op.Not(op.Less(right, op.constant(0, dtype))),
        )
        return op.Where(whole, op.cast(shifted, dtype), op.constant(0, dtype))
    if not 0 <= b < dtype.bits:
        return op.Mul(left, op.constant(0, dtype))
    return op.Mul(left, op.constant(_wrapped(1 << b, dtype), dtype))


def _wrapped(number: int, dtype: DType) -> int:
    low, high = -(1 << (dtype.bits - 1)), (1 << (dtype.bits - 1)) - 1
    return number if dtype.kind == "uint" or number <= high else number + 2 * low


@translation("aten.bitwise_right_shift.Tensor", "aten.bitwise_right_shift.Tensor_Scalar",
             "aten.bitwise_right_shift.Scalar_Tensor", "aten.__rshift__.Tensor",
             "aten.__rshift__.Scalar")  # fmt: skip
def right_shift(op: TorchBuilder, a: TorchValue, b: TorchValue) -> Any:
    dtype = op.result()
    left, right = op.scalar(a, dtype), op.scalar(b, dtype)
    last = op.constant(dtype.bits - 1, dtype)
    most = op.Where(op.Less(right, op.constant(0, dtype)), last, right)
    most = op.cast(op.Where(op.Less(most, last), most, last), dtypes.UINT64)
    if dtype.kind == "uint":
        shifted = op.BitShift(op.cast(left, dtypes.UINT64), most, direction="RIGHT")
        return op.cast(shifted, dtype)
    # x >> n of a negative x is -1 - ((-1 - x) >> n)
    mirror = op.Less(left, op.constant(0, dtype))
    ones = op.constant(-1, dtype)
    positive = op.Where(mirror, op.Sub(ones, left), left)
    shifted = op.BitShift(op.cast(positive, dtypes.UINT64), most, direction="RIGHT")
    found = op.cast(shifted, dtype)
    return op.Where(mirror, op.Sub(ones, found), found)


def _negative(op: TorchBuilder, x: Value) -> Value:
    """Whether the sign bit is set: that of -0 too, whose reciprocal is negative."""
    dtype = op.dtype_of(x)
    zero = op.constant(0, dtype)
    below: Value = op.Less(x, zero)
    if dtype.is_floating:
        below = op.Or(below, op.Less(op.Reciprocal(x), zero))
    return below


@translation("aten.signbit.default")
def signbit(op: TorchBuilder, x: Value) -> Any:
    dtype = op.dtype_of(x)
    if dtype is dtypes.BOOL or dtype.kind == "uint":
        return op.Not(op.Equal(x, x))
    return _negative(op, x)


@translation("aten.copysign.Tensor", "aten.copysign.Scalar")
def copysign(op: TorchBuilder, a: Value, b: TorchValue) -> Any:
    dtype = op.result()
    size = op.Abs(op.cast(a, dtype))
    if isinstance(b, (int, float)):
        return op.Neg(size) if math.copysign(1, b) < 0 else size
    if op.dtype_of(b).is_floating:
        sign = _negative(op, b)
    else:
        sign = _negative(op, op.cast(b, dtype) if b.dtype is dtypes.BOOL else b)
    return op.Where(sign, op.Neg(size), size)


@translation("aten.fmax.default")
def fmax(op: TorchBuilder, a: Value, b: Value) -> Any:
    return _number_of(op, a, b, "Greater", "Max")


@translation("aten.fmin.default")
def fmin(op: TorchBuilder, a: Value, b: Value) -> Any:
    return _number_of(op, a, b, "Less", "Min")


def _number_of(op: TorchBuilder, a: Value, b: Value, comparison: str, integers: str) -> Any:
    """The greater or the less of two, a number rather than NaN."""
    dtype = op.result()
    if dtype is dtypes.BOOL:
        return op.Or(a, b) if integers == "Max" else op.And(a, b)
    a, b = op.cast(a, dtype), op.cast(b, dtype)
    if not dtype.is_floating:
        return op.apply(integers, [a, b])
    return op.Where(op.Or(op.apply(comparison, [a, b]), op.IsNaN(b)), a, b)


@translation("aten.hypot.default")
def hypot(op: TorchBuilder, a: Value, b: Value) -> Any:
    dtype = op.result()
    inner = working_dtype(dtype)
    a, b = op.cast(a, inner), op.cast(b, inner)
    return op.cast(op.Sqrt(op.Add(op.Mul(a, a), op.Mul(b, b))), dtype)


@translation("aten.ldexp.Tensor")
def ldexp(op: TorchBuilder, x: Value, exponent: Value) -> Any:
    dtype = op.result()
    power = op.Pow(op.constant(2, dtype), op.cast(exponent, dtype))
    return op.Mul(op.cast(x, dtype), power)


def _without_exponent(op: TorchBuilder, x: Value, exponent: Value, dtype: DType) -> Value:
    """`x` / 2^`exponent`, in two steps since 2^`exponent` may overflow."""
    two = op.constant(2, dtype)
    half = op.Floor(op.Mul(exponent, op.constant(0.5, dtype)))
    found: Value = op.Div(
        op.Div(x, op.Pow(two, half)), op.Pow(two, op.Sub(exponent, half))
    )  # fmt: skip
    return found


@translation("aten.frexp.Tensor")
def frexp(op: TorchBuilder, x: Value) -> Any:
    dtype = op.result()
    zero, one = op.constant(0, dtype), op.constant(1, dtype)
    size = op.Abs(x)
    special = op.Not(op.And(op.Greater(size, zero), op.Less(size, op.constant(math.inf, dtype))))
    held = op.Where(special, one, size)
    two, half = op.constant(2, dtype), op.constant(0.5, dtype)
    guess = op.Floor(op.Div(op.Log(held), op.constant(math.log(2), dtype)))
    # the logarithm may be one off at powers of 2
    rest = _without_exponent(op, held, guess, dtype)
    guess = op.Add(guess, op.Where(op.Less(rest, one), zero, one))
    rest = _without_exponent(op, held, guess, dtype)
    low = op.Less(rest, half)
    guess = op.Where(low, op.Sub(guess, one), guess)
    rest = op.Where(low, op.Mul(rest, two), rest)
    high = op.Not(op.Less(rest, one))
    guess = op.Where(high, op.Add(guess, one), guess)
    rest = op.Where(high, op.Mul(rest, half), rest)
    mantissa = op.Where(special, x, op.Mul(rest, op.Sign(x)))
    exponent = op.Cast(op.Where(special, zero, guess), to=dtypes.INT32.code)
    return mantissa, exponent


@translation("aten.nextafter.default")
def nextafter(op: TorchBuilder, a: Value, b: Value) -> Any:
    if op.result() is not dtypes.FLOAT:
        raise ExportError("nextafter is exported for float32 only")
    # in float64 a step of a little over half a unit rounds to the neighbour
    wide = dtypes.DOUBLE
    start, end = op.cast(a, wide), op.cast(b, wide)
    unit = op.Mul(op.Abs(start), op.constant(2.0**-24 * 1.001, wide))
    step = op.Max(unit, op.constant(0.75 * 2.0**-149, wide))
    moved = op.Add(start, op.Mul(op.Sign(op.Sub(end, start)), step))
    return op.cast(moved, dtypes.FLOAT)


@translation("aten.gcd.default")
def gcd(op: TorchBuilder, a: Value, b: Value) -> Any:
    dtype = op.result()
    return _divisor(op, op.cast(a, dtype), op.cast(b, dtype), dtype)


def _divisor(op: TorchBuilder, a: Value, b: Value, dtype: DType) -> Value:
    """The greatest common divisor, by Euclid's algorithm until all remainders are 0."""
    wide = dtype if dtype in {dtypes.INT32, dtypes.INT64} else dtypes.INT64
    zero, one = op.constant(0, wide), op.constant(1, wide)
    shape = op.result_shape
    a, b = op.cast(a, wide), op.cast(b, wide)
    if a.shape != b.shape:
        a, b = op.Add(a, op.Mul(b, zero)), op.Add(b, op.Mul(a, zero))
    a, b = op.typed(op.Abs(a), wide, shape), op.typed(op.Abs(b), wide, shape)

    def remains(states: list[Value]) -> Value:
        flags = op.Cast(op.Reshape(states[1], op.ints([-1])), to=dtypes.BOOL.code)
        count = op.Cast(flags, to=dtypes.INT32.code)
        some = op.reduce("Sum", op.typed(count, dtypes.INT32, [None]), [0], False)
        found: Value = op.Cast(some, to=dtypes.BOOL.code)
        return found

    def step(_: Value, states: list[Value]) -> tuple[list[Value], list[Value]]:
        large, small = states
        done = op.Equal(small, zero)
        rest = op.Mod(large, op.Where(done, one, small))
        return [op.Where(done, large, small), op.Where(done, zero, rest)], []

    found = loop(op, None, [a, b], step, remains)[0]
    return op.cast(op.typed(found, wide, shape), dtype)


@translation("aten.lcm.default")
def lcm(op: TorchBuilder, a: Value, b: Value) -> Any:
    dtype = op.result()
    a, b = op.cast(a, dtype), op.cast(b, dtype)
    divisor = _divisor(op, a, b, dtype)
    zero = op.Equal(divisor, op.constant(0, dtype))
    safe = op.Where(zero, op.constant(1, dtype), divisor)
    return op.Abs(op.Mul(op.Div(a, safe), b))
