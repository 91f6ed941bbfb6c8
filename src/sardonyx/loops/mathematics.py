"""Transcendental functions, written in scalar operations so that they fuse and vectorize.

Each takes an expression of type FLOAT and gives one; some take DOUBLE too, see `doubles`. The
coefficients were fitted for this file, by minimizing the greatest relative error on the reduced
range.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sardonyx.dtypes import DOUBLE, FLOAT, INT32
from sardonyx.loops import doubles
from sardonyx.loops.nest import NotLowered
from sardonyx.loops.scalars import apply, const, select

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sardonyx.loops.expr import Expr

__all__ = [
    "enlarged_exp",
    "erf",
    "exp",
    "exp_of_nonpositive",
    "expm1",
    "gelu",
    "gelu_tanh",
    "log",
    "log1p",
    "sigmoid",
    "softplus",
    "tanh",
]

_LOG2_E: Final = 1.4426950408889634
_LN2: Final = 0.6931471805599453
_LN2_HIGH: Final = 0.693145751953125
_LN2_LOW: Final = 1.42860682030941723212e-6
_ROUND: Final = 12582912.0  # 1.5 * 2**23: adding it rounds to an integer, held in the low bits
_ROUND_BITS: Final = 0x4B400000
_BIAS: Final = 127
ENLARGED: Final = 64


def f(value: float) -> Expr:
    """A FLOAT constant."""
    return const(value, FLOAT)


def polynomial(x: Expr, coefficients: Sequence[float]) -> Expr:
    """The polynomial with `coefficients`, the highest power's first, by Horner's rule."""
    value = f(coefficients[0])
    for coefficient in coefficients[1:]:
        value = apply("fma", value, x, f(coefficient))
    return value


def _single(x: Expr) -> None:
    if x.dtype is not FLOAT:
        raise NotLowered(f"transcendental functions of {x.dtype}")


def _reduced(x: Expr, bias: int) -> tuple[Expr, Expr]:
    """An INT32 whose low bits are n + bias, and r, with x = n * ln(2) + r for an integer n."""
    rounding = f(_ROUND + bias)
    shifted = apply("fma", x, f(_LOG2_E), rounding)
    n = apply("sub", shifted, rounding)
    r = apply("fma", n, f(-_LN2_HIGH), x)
    r = apply("fma", n, f(-_LN2_LOW), r)
    return apply("bits", shifted, dtype=INT32), r


def _power_less_one(r: Expr) -> Expr:
    """Power of e, less 1: e**r - 1 for abs(r) <= ln(2) / 2."""
    square, rest = _tail(r)
    return apply("fma", square, rest, r)


def _power(r: Expr) -> Expr:
    """Power of e, for abs(r) <= ln(2) / 2."""
    square, rest = _tail(r)
    return apply("fma", square, rest, apply("add", r, f(1.0)))


def _tail(r: Expr) -> tuple[Expr, Expr]:
    """The square of r and (e**r - 1 - r) / r**2, in fewer steps after another than Horner's."""
    fourth, third, second, first, constant = map(f, _EXP)
    square = apply("mul", r, r)
    high = apply("fma", fourth, square, apply("fma", third, r, second))
    return square, apply("fma", high, square, apply("fma", first, r, constant))


def exp(x: Expr) -> Expr:
    """The power of e: 2**n * e**r with n an integer and abs(r) <= ln(2) / 2."""
    if x.dtype is DOUBLE:
        return doubles.exp(x)
    _single(x)
    x = apply("max", apply("min", x, f(89.0)), f(-104.0))
    biased, r = _reduced(x, 2 * _BIAS)
    return _scaled(_power(r), biased)


def exp_of_nonpositive(x: Expr) -> Expr:
    """`exp` of x <= 0, in fewer steps."""
    if x.dtype is DOUBLE:
        return doubles.exp(x)
    _single(x)
    value, power = _parts(apply("max", x, f(-104.0)), ENLARGED)
    return apply("mul", apply("mul", value, power), f(2.0**-ENLARGED))


def enlarged_exp(x: Expr) -> Expr:
    """2**ENLARGED * e**x of x <= 0, for ratios: of all below -104 as of -104.

    A polynomial does that is off by 1e-7, and one product of n with ln(2), which is off by
    2e-9 * n: as much as that where e**x is 1e-15, and 3e-7 at most.
    """
    _single(x)
    held = apply("max", x, f(-104.0))
    rounding = f(_ROUND + _BIAS + ENLARGED)
    shifted = apply("fma", held, f(_LOG2_E), rounding)
    r = apply("fma", apply("sub", shifted, rounding), f(-_LN2), held)
    third, second, first, constant = map(f, _EXP_SHORT)
    square = apply("mul", r, r)
    rest = apply("fma", apply("fma", third, r, second), square, apply("fma", first, r, constant))
    power = apply("fma", square, rest, apply("add", r, f(1.0)))
    return apply("mul", power, _power_of_two(apply("bits", shifted, dtype=INT32)))


def _parts(x: Expr, exponent: int) -> tuple[Expr, Expr]:
    """Two factors of 2**exponent * e**x: e**r, and a power of 2, which is a normal number."""
    biased, r = _reduced(x, _BIAS + exponent)
    return _power(r), _power_of_two(biased)


def _scaled(value: Expr, biased: Expr) -> Expr:
    """Scaled by 2**n in two steps, so that denormal and infinite results are right.

    `biased` is an INT32 with n + 254 in its low bits.
    """
    half = apply("shr", biased, const(1, INT32))
    for part in (half, apply("sub", biased, half)):
        value = apply("mul", value, _power_of_two(part))
    return value


def _power_of_two(biased: Expr) -> Expr:
    """2**n of an INT32 with n + 127 in its low nine bits."""
    return apply("bits", apply("shl", biased, const(23, INT32)), dtype=FLOAT)


def expm1(x: Expr) -> Expr:
    """exp(x) - 1, exact to the last bits near 0 too."""
    if x.dtype is DOUBLE:
        return doubles.expm1(x)
    _single(x)
    held = apply("max", apply("min", x, f(89.0)), f(-20.0))
    biased, r = _reduced(held, 2 * _BIAS)
    less_one = _power_less_one(r)
    most = const(_ROUND_BITS + 2 * _BIAS + 127, INT32)
    factor = _power_of_two(apply("sub", apply("min", biased, most), const(_BIAS, INT32)))
    small = apply("fma", factor, less_one, apply("sub", factor, f(1.0)))
    large = _scaled(apply("add", less_one, f(1.0)), biased)
    return apply("copysign", select(apply("lt", f(20.0), held), large, small), x)


def log(x: Expr) -> Expr:
    """The natural logarithm: x = 2**e * m with m between sqrt(1/2) and sqrt(2)."""
    if x.dtype is DOUBLE:
        return doubles.log(x)
    _single(x)
    tiny = apply("lt", x, f(2.0**-126))
    normal = select(tiny, apply("mul", x, f(2.0**23)), x)
    bits = apply("bits", normal, dtype=INT32)
    # the exponent of normal / sqrt(1/2)
    moved = apply("sub", bits, const(0x3F3504F3, INT32))
    e = apply("shr", moved, const(23, INT32))
    mantissa = apply("sub", bits, apply("shl", e, const(23, INT32)))
    t = apply("sub", apply("bits", mantissa, dtype=FLOAT), f(1.0))
    exponent = apply("cast", e, dtype=FLOAT)
    exponent = select(tiny, apply("sub", exponent, f(23.0)), exponent)
    square = apply("mul", t, t)
    tail = apply("mul", apply("mul", square, t), polynomial(t, _LOG))
    tail = apply("fma", square, f(-0.5), tail)
    tail = apply("fma", exponent, f(_LN2_LOW), tail)
    value = apply("fma", exponent, f(_LN2_HIGH), apply("add", t, tail))
    value = select(apply("lt", x, f(_INFINITY)), value, x)
    value = select(apply("eq", x, f(0.0)), f(-_INFINITY), value)
    return select(apply("lt", x, f(0.0)), f(float("nan")), value)


def log1p(x: Expr) -> Expr:
    """log(1 + x), with what 1 + x loses in rounding added back."""
    _single(x)
    whole = apply("add", x, f(1.0))
    lost = apply("sub", x, apply("sub", whole, f(1.0)))
    value = apply("add", log(whole), apply("div", lost, whole))
    inside = apply("and", apply("lt", x, f(_INFINITY)), apply("lt", f(-1.0), x))
    return apply("copysign", select(inside, value, log(whole)), x)


def sigmoid(x: Expr) -> Expr:
    """1 / (1 + exp(-x)), with numerator and denominator made smaller, so that none overflows.

    Above 40 the result is 1, below -104 it is 0.
    """
    if x.dtype is DOUBLE:
        return doubles.sigmoid(x)
    _single(x)
    held = apply("max", apply("min", x, f(40.0)), f(-104.0))
    value, power = _parts(apply("neg", held), -ENLARGED)
    return apply("div", f(2.0**-ENLARGED), apply("fma", value, power, f(2.0**-ENLARGED)))


def softplus(x: Expr) -> Expr:
    """log(1 + exp(x)), without overflow."""
    _single(x)
    decay = log1p(exp_of_nonpositive(apply("neg", apply("abs", x))))
    return apply("add", apply("max", x, f(0.0)), decay)


def tanh(x: Expr) -> Expr:
    """The hyperbolic tangent: a series near 0, elsewhere 1 - 2 / (exp(2 * abs(x)) + 1)."""
    if x.dtype is DOUBLE:
        return doubles.tanh(x)
    _single(x)
    square = apply("mul", x, x)
    near = apply("fma", apply("mul", square, x), polynomial(square, _TANH), x)
    size = apply("abs", x)
    held = apply("min", size, f(20.0))
    value, power = _parts(apply("add", held, held), 0)
    under = apply("fma", value, power, f(1.0))
    far = apply("sub", f(1.0), apply("div", f(2.0), under))
    return apply("copysign", select(apply("lt", size, f(0.55)), near, far), x)


def erf(x: Expr) -> Expr:
    """The error function: a series near 0, elsewhere 1 - exp(P(abs(x)))."""
    _single(x)
    square = apply("mul", x, x)
    near = apply("mul", x, polynomial(square, _ERF))
    size = apply("min", apply("abs", x), f(3.95))
    far = apply("sub", f(1.0), exp_of_nonpositive(polynomial(size, _LOG_ERFC)))
    return select(apply("lt", size, f(0.92)), near, apply("copysign", far, x))


def fast_tanh(x: Expr) -> Expr:
    """About tanh: x * P(x**2) / Q(x**2), within 6e-7 of it, for use inside other functions."""
    held = apply("max", apply("min", x, f(9.01)), f(-9.01))
    square = apply("mul", held, held)
    over = apply("mul", held, polynomial(square, _TANH_OVER))
    value = apply("div", over, polynomial(square, _TANH_UNDER))
    return select(apply("eq", held, x), value, apply("copysign", f(1.0), x))


def fast_erf(x: Expr) -> Expr:
    """About erf: x * P(x**2) / Q(x**2), within 4e-7 of it, for use inside other functions."""
    held = apply("max", apply("min", x, f(3.92)), f(-3.92))
    square = apply("mul", held, held)
    over = apply("mul", held, polynomial(square, _ERF_OVER))
    value = apply("div", over, polynomial(square, _ERF_UNDER))
    return select(apply("eq", held, x), value, apply("copysign", f(1.0), x))


def gelu(x: Expr) -> Expr:
    """The exact Gelu: x / 2 * (1 + erf(x / sqrt(2)))."""
    _single(x)
    half = apply("mul", x, f(0.5))
    return apply("fma", half, fast_erf(apply("mul", x, f(0.7071067811865476))), half)


def gelu_tanh(x: Expr) -> Expr:
    """The Gelu by tanh: x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x**3)))."""
    _single(x)
    half = apply("mul", x, f(0.5))
    square = apply("mul", x, x)
    inner = apply("mul", x, apply("fma", square, f(0.044715 * _GELU), f(_GELU)))
    return apply("fma", half, fast_tanh(inner), half)


_INFINITY: Final = float("inf")
_GELU: Final = 0.7978845608028654
_EXP: Final = (0.00138144675, 0.0083687806, 0.0416683942, 0.166665201, 0.499999934)
_EXP_SHORT: Final = (0.0083125013, 0.0418903317, 0.166671154, 0.499992303)
_LOG: Final = (
    0.0674660144, -0.116756386, 0.118881732, -0.124055919, 0.142195512, -0.166679956,
    0.200021187, -0.250000096, 0.333333126,
)  # fmt: skip
_TANH: Final = (-0.00619872661, 0.0210205565, -0.0538405193, 0.133324806, -0.333333147)
_TANH_OVER: Final = (
    -8.43609209e-14, 5.25779829e-11, -2.01840108e-08, 1.11442673e-05, 0.00310300248, 0.130831579,
    0.999999993,
)  # fmt: skip
_TANH_UNDER: Final = (0.000254475279, 0.0244913856, 0.464164849, 1.0)
_ERF: Final = (
    -0.000595379739, 0.00498595396, -0.0267617316, 0.11281683, -0.376124812, 1.12837915,
)  # fmt: skip
_LOG_ERFC: Final = (
    -2.11618354e-05, 0.000435218106, -0.00417463944, 0.0251286157, -0.108293934, -0.633334664,
    -1.12952082, 0.000175873519,
)  # fmt: skip
_ERF_OVER: Final = (
    -1.28578217e-08, 4.62002806e-06, 0.000377166615, 0.00384029734, 0.0542547363, 0.185147845,
    1.12837917,
)  # fmt: skip
_ERF_UNDER: Final = (
    6.25005834e-05, 0.00130240917, 0.0154348443, 0.113886993, 0.497416413, 1.0,
)  # fmt: skip
