"""Trigonometric and hyperbolic functions of FLOAT numbers.

Sine, cosine and tangent are exact in their reduction for every FLOAT: x * 2 / pi is summed up from
products with 28 bits of 2 / pi each, which DOUBLE holds exactly, and of each of which what is a
multiple of a whole turn is dropped before the sum. The inverse and hyperbolic functions are
computed in DOUBLE and rounded once.

The coefficients were fitted for this file, by minimizing the greatest relative error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sardonyx.dtypes import DOUBLE, FLOAT, INT64
from sardonyx.loops import doubles
from sardonyx.loops.doubles import by_double, d, nearest, polynomial
from sardonyx.loops.nest import NotLowered
from sardonyx.loops.scalars import apply, cast, const, select

if TYPE_CHECKING:
    from sardonyx.loops.expr import Expr

__all__ = [
    "acos", "acosh", "asin", "asinh", "atan", "atanh", "cos", "cosh", "sin", "sinh", "tan",
]  # fmt: skip


def f(value: float) -> Expr:
    """A FLOAT constant."""
    return const(value, FLOAT)


def _quarter_turns(x: Expr) -> tuple[Expr, Expr]:
    """The number of the nearest quarter turn in the low bits, and the FLOAT angle from there."""
    if x.dtype is not FLOAT:
        raise NotLowered(f"trigonometric functions of {x.dtype}")
    wide = cast(x, DOUBLE)
    total: Expr | None = None
    for part in reversed(_TWO_OVER_PI):
        turns = apply("mul", wide, d(part))
        whole = apply("rint", apply("mul", turns, d(0.25)))
        rest = apply("fma", whole, d(-4.0), turns)
        total = rest if total is None else apply("add", total, rest)
    assert total is not None
    whole, bits = nearest(total)
    angle = cast(apply("mul", apply("sub", total, whole), d(_HALF_PI)), FLOAT)
    return bits, angle


def _both(angle: Expr) -> tuple[Expr, Expr]:
    """Sine and cosine for abs(angle) <= pi / 4."""
    square = apply("mul", angle, angle)
    cubed = apply("mul", square, angle)
    sine = apply("fma", cubed, polynomial(square, _SIN), angle)
    tail = apply("mul", apply("mul", square, square), polynomial(square, _COS))
    cosine = apply("add", apply("fma", square, f(-0.5), tail), f(1.0))
    return sine, cosine


def _has_bit(number: Expr, bit: int) -> Expr:
    masked = apply("and", number, const(bit, INT64))
    return apply("ne", masked, const(0, INT64))


def sin(x: Expr) -> Expr:
    """The sine."""
    turns, angle = _quarter_turns(x)
    sine, cosine = _both(angle)
    value = select(_has_bit(turns, 1), cosine, sine)
    value = select(_has_bit(turns, 2), apply("neg", value), value)
    return select(apply("eq", x, f(0.0)), x, value)


def cos(x: Expr) -> Expr:
    """The cosine."""
    turns, angle = _quarter_turns(x)
    sine, cosine = _both(angle)
    value = select(_has_bit(turns, 1), sine, cosine)
    lowered = _has_bit(apply("add", turns, const(1, INT64)), 2)
    return select(lowered, apply("neg", value), value)


def tan(x: Expr) -> Expr:
    """The tangent."""
    turns, angle = _quarter_turns(x)
    sine, cosine = _both(angle)
    odd = _has_bit(turns, 1)
    over, under = select(odd, apply("neg", cosine), sine), select(odd, sine, cosine)
    return select(apply("eq", x, f(0.0)), x, apply("div", over, under))


def _arctangent(x: Expr) -> Expr:
    size = apply("abs", x)
    steep = apply("lt", d(1.0), size)
    t = select(steep, apply("div", d(1.0), size), size)
    z = apply("mul", t, t)
    value = apply("fma", apply("mul", t, z), polynomial(z, _ATAN), t)
    value = select(steep, apply("sub", d(_HALF_PI), value), value)
    return apply("copysign", value, x)


@by_double
def atan(x: Expr) -> Expr:
    """The arctangent."""
    return _arctangent(x)


@by_double
def asin(x: Expr) -> Expr:
    """The arcsine, NaN outside of [-1, 1]: the arctangent of x / sqrt(1 - x**2)."""
    under = apply("mul", apply("sub", d(1.0), x), apply("add", d(1.0), x))
    return _arctangent(apply("div", x, apply("sqrt", under)))


@by_double
def acos(x: Expr) -> Expr:
    """The arccosine, NaN outside of [-1, 1]: twice the arctangent of sqrt((1 - x) / (1 + x))."""
    ratio = apply("div", apply("sub", d(1.0), x), apply("add", d(1.0), x))
    inside = apply("le", apply("abs", x), d(1.0))
    value = apply("mul", d(2.0), _arctangent(apply("sqrt", ratio)))
    return select(inside, value, d(float("nan")))


def _small(x: Expr, limit: float, share: float, value: Expr) -> Expr:
    """The sum x + share * x**3 where abs(x) is below `limit`, else `value`."""
    cubed = apply("mul", apply("mul", x, x), x)
    near = apply("fma", cubed, d(share), x)
    return select(apply("lt", apply("abs", x), d(limit)), near, value)


@by_double
def sinh(x: Expr) -> Expr:
    """The hyperbolic sine."""
    grown = doubles.expm1(apply("abs", x))
    rest = apply("div", grown, apply("add", grown, d(1.0)))
    # infinite over infinite
    rest = select(apply("lt", grown, d(1e300)), rest, d(1.0))
    value = apply("mul", apply("add", grown, rest), d(0.5))
    return apply("copysign", value, x)


@by_double
def cosh(x: Expr) -> Expr:
    """The hyperbolic cosine."""
    grown = doubles.exp(apply("abs", x))
    return apply("mul", apply("add", grown, apply("div", d(1.0), grown)), d(0.5))


@by_double
def asinh(x: Expr) -> Expr:
    """The inverse of sinh."""
    size = apply("abs", x)
    root = apply("sqrt", apply("fma", size, size, d(1.0)))
    value = _small(size, 1e-3, -1 / 6, doubles.log(apply("add", size, root)))
    return apply("copysign", value, x)


@by_double
def acosh(x: Expr) -> Expr:
    """The inverse of cosh, NaN below 1."""
    root = apply("sqrt", apply("mul", apply("sub", x, d(1.0)), apply("add", x, d(1.0))))
    value = doubles.log(apply("add", x, root))
    return select(apply("lt", x, d(1.0)), d(float("nan")), value)


@by_double
def atanh(x: Expr) -> Expr:
    """The inverse of tanh, NaN outside of [-1, 1]."""
    ratio = apply("div", apply("add", d(1.0), x), apply("sub", d(1.0), x))
    value = apply("mul", d(0.5), doubles.log(ratio))
    return _small(x, 1e-3, 1 / 3, value)


_HALF_PI: Final = 1.5707963267948966
_TWO_OVER_PI: Final = tuple(
    float.fromhex(digits)
    for digits in (
        "0x1.45f306c000000p-1",
        "0x1.c9c882a000000p-29",
        "0x1.4fe13a8000000p-59",
        "0x1.f47d4d0000000p-86",
        "0x1.bb81b6c000000p-113",
        "0x1.4acc9e0000000p-143",
        "0x1.0e4107c000000p-170",
    )
)
_SIN: Final = (2.718273764e-6, -0.0001983933092, 0.008333329374, -0.1666666664)
_COS: Final = (2.443806919e-5, -0.001388736426, 0.0416666468)
_ATAN: Final = (
    0.0011348382136701892, -0.0074224564260987969, 0.022760010207670187, -0.044946142395201627,
    0.06759558738153839, -0.088188472712708833, 0.1106024602124662, -0.142801313293041,
    0.1999969269387572, -0.33333327437151403,
)  # fmt: skip
