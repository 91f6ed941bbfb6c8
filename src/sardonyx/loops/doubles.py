"""Transcendental functions in DOUBLE, and those that FLOAT computes by way of it.

The coefficients were fitted for this file, by minimizing the greatest relative error on the
reduced range.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sardonyx.dtypes import DOUBLE, FLOAT, INT64
from sardonyx.loops.nest import NotLowered
from sardonyx.loops.scalars import apply, cast, const, select

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sardonyx.loops.expr import Expr

__all__ = [
    "by_double", "d", "exp", "expm1", "log", "nearest", "polynomial", "power", "sigmoid", "tanh",
]  # fmt: skip

_LOG2_E: Final = 1.4426950408889634
_LN2_HIGH: Final = 0.6931471803691238
_LN2_LOW: Final = 1.9082149292705877e-10
_ROUND: Final = 6755399441055744.0  # 1.5 * 2**52: adding it rounds to an integer, in the low bits
_INFINITY: Final = float("inf")


def d(value: float) -> Expr:
    """A DOUBLE constant."""
    return const(value, DOUBLE)


def polynomial(x: Expr, coefficients: Sequence[float]) -> Expr:
    """The polynomial with `coefficients`, the highest power's first, in the type of `x`."""
    value: Expr = const(coefficients[0], x.dtype)
    for coefficient in coefficients[1:]:
        value = apply("fma", value, x, const(coefficient, x.dtype))
    return value


def by_double(function: Callable[..., Expr]) -> Callable[..., Expr]:
    """`function` of FLOAT numbers, computed in DOUBLE and rounded once."""

    def wrapped(*args: Expr) -> Expr:
        if any(arg.dtype is not FLOAT for arg in args):
            raise NotLowered(f"{function.__name__} of {args[0].dtype}")
        return cast(function(*(cast(arg, DOUBLE) for arg in args)), FLOAT)

    return wrapped


def nearest(x: Expr) -> tuple[Expr, Expr]:
    """The nearest whole number to `x`, below 2**51 in size, and an INT64 with its low bits."""
    shifted = apply("add", x, d(_ROUND))
    return apply("sub", shifted, d(_ROUND)), apply("bits", shifted, dtype=INT64)


def _reduced(x: Expr) -> tuple[Expr, Expr]:
    """An integer n and e**r - 1, with x = n * ln(2) + r and abs(r) <= ln(2) / 2."""
    shifted = apply("fma", x, d(_LOG2_E), d(_ROUND))
    n = apply("sub", shifted, d(_ROUND))
    r = apply("fma", n, d(-_LN2_HIGH), x)
    r = apply("fma", n, d(-_LN2_LOW), r)
    integer = apply("sub", apply("bits", shifted, dtype=INT64), const(0x4338000000000000, INT64))
    less_one = apply("fma", apply("mul", r, r), polynomial(r, _EXP), r)
    return integer, less_one


def _power_of_two(n: Expr) -> Expr:
    """2**n for INT64 n from -1022 to 1023, made of its bits."""
    biased = apply("add", n, const(1023, INT64))
    return apply("bits", apply("shl", biased, const(52, INT64)), dtype=DOUBLE)


def _scaled(value: Expr, n: Expr) -> Expr:
    """The product value * 2**n in two steps, so that denormal and infinite results are right."""
    # of a number that is not negative: few processors shift 64 bits arithmetically
    biased = apply("lshr", apply("add", n, const(4096, INT64)), const(1, INT64))
    half = apply("sub", biased, const(2048, INT64))
    for part in (half, apply("sub", n, half)):
        value = apply("mul", value, _power_of_two(part))
    return value


def exp(x: Expr) -> Expr:
    """The exponential of x."""
    x = apply("max", apply("min", x, d(710.0)), d(-746.0))
    integer, less_one = _reduced(x)
    return _scaled(apply("add", less_one, d(1.0)), integer)


def expm1(x: Expr) -> Expr:
    """The value of exp(x) - 1, exact to the last bits near 0 too."""
    held = apply("max", apply("min", x, d(710.0)), d(-40.0))
    integer, less_one = _reduced(held)
    factor = _power_of_two(apply("min", integer, const(1023, INT64)))
    small = apply("fma", factor, less_one, apply("sub", factor, d(1.0)))
    large = _scaled(apply("add", less_one, d(1.0)), integer)
    value = select(apply("lt", d(40.0), held), large, small)
    return select(apply("eq", x, d(0.0)), x, value)


def log(x: Expr) -> Expr:
    """The natural logarithm: x = 2**e * m with m between sqrt(1/2) and sqrt(2)."""
    tiny = apply("lt", x, d(2.0**-1022))
    normal = select(tiny, apply("mul", x, d(2.0**54)), x)
    bits = apply("bits", normal, dtype=INT64)
    moved = apply("sub", bits, const(0x3FE6A09E667F3BCD - (1023 << 52), INT64))
    biased = apply("lshr", moved, const(52, INT64))
    e = apply("sub", biased, const(1023, INT64))
    mantissa = apply("sub", bits, apply("shl", e, const(52, INT64)))
    m = apply("bits", mantissa, dtype=DOUBLE)
    # as a DOUBLE by its bits: few processors convert from 64 bits
    held = apply("bits", apply("add", e, const(0x4338000000000000, INT64)), dtype=DOUBLE)
    exponent = apply("sub", held, d(_ROUND))
    exponent = select(tiny, apply("sub", exponent, d(54.0)), exponent)
    f = apply("sub", m, d(1.0))
    s = apply("div", f, apply("add", m, d(1.0)))
    z = apply("mul", s, s)
    # log(m) = f - (f**2 / 2 - s * (f**2 / 2 + rest)), which keeps f exact
    half = apply("mul", apply("mul", f, f), d(0.5))
    rest = apply("mul", z, polynomial(z, _LOG))
    tail = apply("mul", s, apply("add", half, rest))
    low = apply("fma", exponent, d(_LN2_LOW), apply("sub", tail, half))
    value = apply("fma", exponent, d(_LN2_HIGH), apply("add", f, low))
    value = select(apply("lt", x, d(_INFINITY)), value, x)
    value = select(apply("eq", x, d(0.0)), d(-_INFINITY), value)
    return select(apply("lt", x, d(0.0)), d(float("nan")), value)


def sigmoid(x: Expr) -> Expr:
    """The logistic function 1 / (1 + exp(-x)), of negative x as exp(x) / (1 + exp(x))."""
    decay = exp(apply("neg", apply("abs", x)))
    share = apply("div", d(1.0), apply("add", d(1.0), decay))
    return select(apply("lt", x, d(0.0)), apply("mul", decay, share), share)


def tanh(x: Expr) -> Expr:
    """The hyperbolic tangent: expm1(2 x) / (expm1(2 x) + 2)."""
    held = apply("min", apply("abs", x), d(22.0))
    grown = expm1(apply("add", held, held))
    return apply("copysign", apply("div", grown, apply("add", grown, d(2.0))), x)


@by_double
def power(x: Expr, y: Expr) -> Expr:
    """The power x**y, for FLOAT numbers."""
    size = apply("abs", x)
    value = exp(apply("mul", y, log(size)))
    whole = apply("eq", apply("trunc", y), y)
    half = apply("mul", y, d(0.5))
    odd = apply("and", whole, apply("ne", apply("trunc", half), half))
    below = apply("lt", x, d(0.0))
    negated = apply("neg", value)
    signed = select(apply("eq", apply("copysign", d(1.0), x), d(-1.0)), negated, value)
    value = select(odd, signed, value)
    # the power of a negative number is no number unless the exponent is whole
    finite = apply("lt", size, d(_INFINITY))
    lost = apply("and", apply("and", below, finite), apply("not", whole))
    value = select(apply("and", lost, apply("eq", y, y)), d(float("nan")), value)
    endless = apply("eq", apply("abs", y), d(_INFINITY))
    still = apply("and", apply("eq", size, d(1.0)), endless)
    always = apply("or", apply("eq", x, d(1.0)), apply("eq", y, d(0.0)))
    return select(apply("or", still, always), d(1.0), value)


_EXP: Final = (
    2.0927001476815959e-9, 2.5112351535914883e-8, 2.7557233105175448e-7, 2.7557233919957336e-6,
    2.4801587374170984e-5, 0.00019841269897372275, 0.00138888888888581, 0.0083333333333166137,
    0.041666666666666726, 0.16666666666666684, 0.5,
)  # fmt: skip
_LOG: Final = (
    0.13252804044931412, 0.13249956600996318, 0.15387097889356299, 0.18181775503198641,
    0.22222222648814425, 0.28571428569072557, 0.40000000000006288, 0.66666666666666661,
)  # fmt: skip
