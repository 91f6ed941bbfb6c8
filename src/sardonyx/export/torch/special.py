"""Special functions: of the error function's, the gamma function's and Bessel's families.

Each is computed in float32, or in float64 where the result is, from series and asymptotic forms
of the NIST Digital Library of Mathematical Functions and from fitted polynomials.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from sardonyx import dtypes
from sardonyx.export.torch.approximation import (
    fitted,
    like,
    polynomial,
    special,
    working_dtype,
)
from sardonyx.export.torch.arithmetic import log_of_one_plus
from sardonyx.export.torch.registry import TorchBuilder, TorchValue, translation

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from sardonyx.dtypes import DType
    from sardonyx.ir.value import Value

    Array = npt.NDArray[np.float64]
    Written = Callable[[TorchBuilder, Value, DType], Value]

__all__ = ["log_gamma"]

_BERNOULLI: Final = (1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6, -3617 / 510)
"""B2, B4, …"""

_NDTRI: Final = special("ndtri")
_ERFCX: Final = special("erfcx")


def _unary(*targets: str, dtype: DType | None = None) -> Callable[[Written], Written]:
    """Register a function that is written in a working type and cast to the result's."""

    def register(written: Written) -> Written:
        @translation(*(f"aten.{target}.default" for target in targets))
        def translate(op: TorchBuilder, x: Value) -> Any:
            inner = dtype or working_dtype(op.result())
            x = op.cast(x, inner)
            return op.cast(like(op, written(op, x, inner), x, inner), op.result())

        return written

    return register


def _where_above(op: TorchBuilder, x: Value, bound: float, dtype: DType, above: Value,
                 below: Value) -> Value:  # fmt: skip
    chosen: Value = op.Where(op.Greater(x, op.constant(bound, dtype)), above, below)
    return chosen


# The error function's family


def _tail(width: Array) -> tuple[Array, Array]:
    """For w = -log(4 p (1 - p)): 1 - 2p, and erfinv of it."""
    rest = np.exp(-width)
    x = np.sqrt(-np.expm1(-width))
    return x, -_NDTRI(rest / (2 * (1 + x))) / math.sqrt(2)


def _quantile_near(width: Array) -> Array:
    x, found = _tail(np.maximum(width, 1e-12))
    return found / x


def _quantile_far(root: Array) -> Array:
    x, found = _tail(root * root)
    return found / x


def _inverse(op: TorchBuilder, x: Value, rest: Value, dtype: DType) -> Value:
    """erfinv(x), where `rest` is 1 - x²."""
    width = like(op, op.Neg(op.Log(rest)), x, dtype)
    near = fitted(op, width, _quantile_near, 0, 5, dtype)
    root = like(op, op.Sqrt(op.Max(width, op.constant(5, dtype))), x, dtype)
    widest = 720.0 if dtype is dtypes.DOUBLE else 104.0
    far = fitted(op, root, _quantile_far, math.sqrt(5), math.sqrt(widest), dtype)
    found = op.Mul(x, _where_above(op, width, 5, dtype, far, near))
    infinite: Value = op.Div(x, rest)
    whole: Value = op.Where(op.Equal(rest, op.constant(0, dtype)), infinite, found)
    return whole


@_unary("erfinv", "special_erfinv")
def erfinv(op: TorchBuilder, x: Value, dtype: DType) -> Value:
    one = op.constant(1, dtype)
    return _inverse(op, x, op.Mul(op.Sub(one, x), op.Add(one, x)), dtype)


@_unary("special_ndtri")
def ndtri(op: TorchBuilder, p: Value, dtype: DType) -> Value:
    one, two = op.constant(1, dtype), op.constant(2, dtype)
    rest = op.Mul(op.Mul(op.constant(4, dtype), p), op.Sub(one, p))
    centred = like(op, op.Sub(op.Mul(two, p), one), p, dtype)
    found: Value = op.Mul(_inverse(op, centred, rest, dtype), op.constant(math.sqrt(2), dtype))
    return found


def _scaled_tail(t: Array) -> Array:
    x = 3 * (1 + t) / np.maximum(1 - t, 1e-300)
    return _ERFCX(x) * (1 + 2 * x)


def _erfcx(op: TorchBuilder, x: Value, dtype: DType) -> Value:
    """e^(x²) erfc(x) for x >= 0."""
    one, three = op.constant(1, dtype), op.constant(3, dtype)
    held = op.Min(x, op.constant(1e30, dtype))
    ratio = like(op, op.Div(op.Sub(held, three), op.Add(held, three)), x, dtype)
    double = op.Add(op.Add(held, held), one)
    found: Value = op.Div(fitted(op, ratio, _scaled_tail, -1, 1, dtype), double)
    return found


@_unary("special_erfcx")
def erfcx(op: TorchBuilder, x: Value, dtype: DType) -> Value:
    size = like(op, op.Abs(x), x, dtype)
    right = _erfcx(op, size, dtype)
    power = op.Exp(op.Mul(x, x))
    left = op.Sub(op.Add(power, power), right)
    return _where_above(op, x, 0, dtype, right, left)


@_unary("special_log_ndtr")
def log_ndtr(op: TorchBuilder, x: Value, dtype: DType) -> Value:
    half = op.constant(0.5, dtype)
    size = like(op, op.Mul(op.Abs(x), op.constant(math.sqrt(0.5), dtype)), x, dtype)
    squared = op.Mul(size, size)
    tail = op.Mul(half, _erfcx(op, size, dtype))
    left = op.Sub(op.Log(tail), squared)
    above = op.Neg(op.Mul(tail, op.Exp(op.Neg(squared))))
    right = log_of_one_plus(op, like(op, above, x, dtype))
    return _where_above(op, x, 0, dtype, right, left)


# The gamma function's family: in float64, since terms cancel


def _fraction(op: TorchBuilder, x: Value) -> tuple[Value, Value]:
    """Sine and cosine of pi times `x`, exact where `x` is whole."""
    turn = op.Mul(op.Sub(x, op.Floor(x)), op.constant(math.pi, dtypes.DOUBLE))
    return op.Sin(turn), op.Cos(turn)


def _mirrored(op: TorchBuilder, x: Value) -> tuple[Value, Value]:
    """Whether `x` < 1/2, and 1 - x there, x elsewhere."""
    left = op.Less(x, op.constant(0.5, dtypes.DOUBLE))
    return left, op.Where(left, op.Sub(op.constant(1, dtypes.DOUBLE), x), x)


@_unary("lgamma", dtype=dtypes.DOUBLE)
def lgamma(op: TorchBuilder, x: Value, dtype: DType) -> Value:
    left, y = _mirrored(op, x)
    found = log_gamma(op, y, 10 if op.result() is dtypes.DOUBLE else 4)
    sine, _ = _fraction(op, x)
    mirror = op.Log(op.Div(op.constant(math.pi, dtype), op.Abs(sine)))
    whole: Value = op.Where(left, op.Sub(mirror, found), found)
    return whole


def log_gamma(op: TorchBuilder, y: Value, steps: int) -> Value:
    """The logarithm of Γ(y) for y >= 1/2, from Stirling's series `steps` above."""
    dtype = dtypes.DOUBLE
    near = op.Min(y, op.constant(1e25, dtype))
    rising = near
    for step in range(1, steps):
        rising = op.Mul(rising, op.Add(near, op.constant(step, dtype)))
    z = op.Add(y, op.constant(steps, dtype))
    inverse = op.Reciprocal(z)
    series = [each / ((2 * k + 2) * (2 * k + 1)) for k, each in enumerate(_BERNOULLI)]
    rest = op.Mul(inverse, polynomial(op, op.Mul(inverse, inverse), series, dtype))
    scale = op.Sub(op.Log(z), op.constant(1, dtype))
    main = op.Mul(op.Sub(z, op.constant(0.5, dtype)), scale)
    offset = op.constant(0.5 * math.log(2 * math.pi) - 0.5, dtype)
    found: Value = op.Sub(op.Add(op.Add(main, offset), rest), op.Log(rising))
    return found


@_unary("digamma", "special_digamma", "special_psi", dtype=dtypes.DOUBLE)
def digamma(op: TorchBuilder, x: Value, dtype: DType) -> Value:
    left, y = _mirrored(op, x)
    steps = 10 if op.result() is dtypes.DOUBLE else 4
    z = op.Add(y, op.constant(steps, dtype))
    inverse = op.Reciprocal(z)
    series = [0.0, *(each / (2 * k + 2) for k, each in enumerate(_BERNOULLI))]
    tail = polynomial(op, op.Mul(inverse, inverse), series, dtype)
    found = op.Sub(op.Sub(op.Log(z), op.Mul(inverse, op.constant(0.5, dtype))), tail)
    for step in range(steps):
        found = op.Sub(found, op.Reciprocal(op.Add(y, op.constant(step, dtype))))
    sine, cosine = _fraction(op, x)
    mirror = op.Div(op.Mul(cosine, op.constant(math.pi, dtype)), sine)
    pole = op.And(op.Less(x, op.constant(0, dtype)), op.Equal(sine, op.constant(0, dtype)))
    reflected = op.Where(pole, op.constant(math.nan, dtype), op.Sub(found, mirror))
    whole: Value = op.Where(left, reflected, found)
    return whole


_SUMMED: Final = 12
"""Terms of Hurwitz's series that are added one by one before the Euler-Maclaurin formula."""


def _hurwitz(op: TorchBuilder, s: Value, q: Value, order: int | None, shape: Any) -> Value:
    """Σ (q + k)^-s for q + 12 > 0, of `shape`; `order` is `s` where it is a number."""
    dtype = dtypes.DOUBLE
    rank = len(shape)
    steps = op.constant(np.arange(_SUMMED), dtype)
    if order is None:
        powers = op.unsqueeze(like(op, op.Neg(s), s, dtype), [op.rank_of(s)])
    else:
        powers = op.constant(-order, dtype)
    terms = op.Pow(op.Add(op.unsqueeze(q, [op.rank_of(q)]), steps), powers)
    terms = op.typed(terms, dtype, [*shape, _SUMMED])
    total = op.reduce("Sum", terms, [rank], False)
    end = op.Add(q, op.constant(_SUMMED, dtype))
    last = op.Pow(end, op.constant(-order, dtype) if order is not None else op.Neg(s))
    before = (
        op.constant(order - 1, dtype) if order is not None else op.Sub(s, op.constant(1, dtype))
    )
    total = op.Add(total, op.Div(op.Mul(last, end), before))
    inverse = op.Reciprocal(end)
    factor, squared = op.Mul(s, inverse), op.Mul(inverse, inverse)
    bracket = op.constant(0.5, dtype)
    for k, each in enumerate(_BERNOULLI[:5]):
        if k:
            raised = op.Mul(
                op.Add(s, op.constant(2 * k - 1, dtype)), op.Add(s, op.constant(2 * k, dtype))
            )
            factor = op.Mul(op.Mul(factor, raised), squared)
        weight = op.constant(each / math.factorial(2 * k + 2), dtype)
        bracket = op.Add(bracket, op.Mul(factor, weight))
    found: Value = op.Add(total, op.Mul(last, bracket))
    return found


@translation("aten.special_zeta.default", "aten.special_zeta.other_scalar",
             "aten.special_zeta.self_scalar")  # fmt: skip
def zeta(op: TorchBuilder, x: TorchValue, q: TorchValue) -> Any:
    dtype = dtypes.DOUBLE
    shape = op.result_shape
    s, start = op.scalar(x, dtype), op.scalar(q, dtype)
    found = _hurwitz(op, s, start, None, shape)
    low = op.Less(s, op.constant(1, dtype))
    found = op.typed(op.Where(low, op.constant(math.nan, dtype), found), dtype, shape)
    return op.cast(found, op.result())


@translation("aten.polygamma.default", "aten.special_polygamma.default")
def polygamma(op: TorchBuilder, n: int, x: Value) -> Any:
    if n == 0:
        return op.cast(digamma(op, op.cast(x, dtypes.DOUBLE), dtypes.DOUBLE), op.result())
    dtype = dtypes.DOUBLE
    shape = x.shape or ()
    x = op.cast(x, dtype)
    left, y = _mirrored(op, x)
    op.typed(y, dtype, shape)
    factor = (-1) ** (n + 1) * math.factorial(n)
    s = op.constant(n + 1, dtype)
    found = op.Mul(_hurwitz(op, s, y, n + 1, shape), op.constant(factor, dtype))
    sine, cosine = _fraction(op, x)
    slope = polynomial(op, op.Div(cosine, sine), _cotangent(n), dtype)
    mirror = op.Mul(slope, op.constant(-(math.pi ** (n + 1)), dtype))
    turned = op.Neg(found) if n % 2 else found
    whole = op.Where(left, op.Add(mirror, turned), found)
    return op.cast(op.typed(whole, dtype, shape), op.result())


def _cotangent(order: int) -> tuple[float, ...]:
    """The derivative of cot of an order, as a polynomial in cot."""
    found = np.polynomial.Polynomial([0.0, 1.0])
    for _ in range(order):
        found = found.deriv() * np.polynomial.Polynomial([-1.0, 0.0, -1.0])
    return tuple(float(each) for each in found.coef)


# Bessel's family


def _root_scaled(name: str) -> Callable[[Array], Array]:
    function = special(name)
    return lambda inverse: function(1 / inverse) / np.sqrt(inverse)


def _by_square(function: Callable[[Array], Array]) -> Callable[[Array], Array]:
    return lambda square: function(np.sqrt(square))


def _ratio(name: str) -> Callable[[Array], Array]:
    function = special(name)

    def curve(x: Array) -> Array:
        x = np.maximum(x, 1e-12)
        return function(x) / x

    return curve


_I0E, _I1E = special("i0e"), _ratio("i1e")
_I0E_FAR, _I1E_FAR = _root_scaled("i0e"), _root_scaled("i1e")


def _modified_first(op: TorchBuilder, x: Value, order: int, dtype: DType) -> Value:
    """e^-|x| I(x)."""
    size = like(op, op.Abs(x), x, dtype)
    near = fitted(op, size, _I1E if order else _I0E, 0, 8, dtype)
    if order:
        near = op.Mul(near, x)
    large = op.Max(size, op.constant(8, dtype))
    inverse = like(op, op.Reciprocal(large), x, dtype)
    far = fitted(op, inverse, _I1E_FAR if order else _I0E_FAR, 1e-9, 0.125, dtype)
    far = op.Mul(far, op.Sqrt(inverse))
    if order:
        far = op.Mul(far, op.Sign(x))
    return _where_above(op, size, 8, dtype, far, near)


@_unary("special_i0e")
def i0e(op: TorchBuilder, x: Value, dtype: DType) -> Value:
    return _modified_first(op, x, 0, dtype)


@_unary("special_i1e")
def i1e(op: TorchBuilder, x: Value, dtype: DType) -> Value:
    return _modified_first(op, x, 1, dtype)


@_unary("i0", "special_i0", "special_modified_bessel_i0")
def i0(op: TorchBuilder, x: Value, dtype: DType) -> Value:
    found: Value = op.Mul(_modified_first(op, x, 0, dtype), op.Exp(op.Abs(x)))
    return found


@_unary("special_i1", "special_modified_bessel_i1")
def i1(op: TorchBuilder, x: Value, dtype: DType) -> Value:
    found: Value = op.Mul(_modified_first(op, x, 1, dtype), op.Exp(op.Abs(x)))
    return found


_I: Final = (special("i0"), special("i1"))
_K: Final = (special("modified_bessel_k0"), special("modified_bessel_k1"))
_I_SQUARE: Final = (_by_square(_I[0]), _by_square(_ratio("i1")))
_K_FAR: Final = (
    _root_scaled("scaled_modified_bessel_k0"), _root_scaled("scaled_modified_bessel_k1")
)  # fmt: skip


@_by_square
def _k0_regular(x: Array) -> Array:
    return _K[0](x) + np.log(x) * _I[0](x)


@_by_square
def _k1_regular(x: Array) -> Array:
    return (_K[1](x) - np.log(x) * _I[1](x)) * x


_K_REGULAR: Final = (_k0_regular, _k1_regular)


def _pole(op: TorchBuilder, x: Value, elsewhere: Value, at_zero: float, dtype: DType) -> Value:
    zero = op.Equal(x, op.constant(0, dtype))
    found: Value = op.Where(zero, op.constant(at_zero, dtype), elsewhere)
    return found


def _register_second(target: str, order: int, scaled: bool) -> None:
    @_unary(target)
    def modified_second(op: TorchBuilder, x: Value, dtype: DType) -> Value:
        square = like(op, op.Mul(x, x), x, dtype)
        first = op.Mul(op.Log(x), fitted(op, square, _I_SQUARE[order], 0, 4, dtype))
        regular = fitted(op, square, _K_REGULAR[order], 0, 4, dtype)
        if order:
            near = _pole(op, x, op.Add(op.Mul(first, x), op.Div(regular, x)), math.inf, dtype)
        else:
            near = op.Sub(regular, first)
        inverse = like(op, op.Reciprocal(op.Max(x, op.constant(2, dtype))), x, dtype)
        far = op.Mul(fitted(op, inverse, _K_FAR[order], 1e-9, 0.5, dtype), op.Sqrt(inverse))
        if scaled:
            near = op.Mul(near, op.Exp(x))
        else:
            far = op.Mul(far, op.Exp(op.Neg(x)))
        return _where_above(op, x, 2, dtype, far, near)


for _order in (0, 1):
    _register_second(f"special_modified_bessel_k{_order}", _order, False)
    _register_second(f"special_scaled_modified_bessel_k{_order}", _order, True)


_J: Final = (special("bessel_j0"), special("bessel_j1"))
_Y: Final = (special("bessel_y0"), special("bessel_y1"))
_J_SQUARE: Final = (_by_square(_J[0]), _by_square(_ratio("bessel_j1")))


@_by_square
def _y0_regular(x: Array) -> Array:
    x = np.maximum(x, 1e-9)
    return _Y[0](x) - 2 / math.pi * np.log(x) * _J[0](x)


@_by_square
def _y1_regular(x: Array) -> Array:
    x = np.maximum(x, 1e-3)
    return (_Y[1](x) - 2 / math.pi * (np.log(x) * _J[1](x) - 1 / x)) / x


_Y_REGULAR: Final = (_y0_regular, _y1_regular)


def _phase(order: int, cosine: bool) -> Callable[[Array], Array]:
    """The slow factors of J and Y beyond 5, by (5/x)²."""
    turn = math.pi / 4 + order * math.pi / 2

    def curve(square: Array) -> Array:
        x = 5 / np.sqrt(np.maximum(square, 1e-8))
        c, s = np.cos(x - turn), np.sin(x - turn)
        j, y = _J[order](x), _Y[order](x)
        scale = np.sqrt(math.pi * x / 2)
        found: Array = scale * (j * c + y * s) if cosine else scale * (y * c - j * s) * x / 5
        return found

    return curve


_P: Final = (_phase(0, True), _phase(1, True))
_Q: Final = (_phase(0, False), _phase(1, False))


def _oscillating(op: TorchBuilder, x: Value, order: int, second: bool, dtype: DType) -> Value:
    """J or, if `second`, Y of `x` >= 5."""
    inverse = op.Div(op.constant(5, dtype), x)
    square = like(op, op.Mul(inverse, inverse), x, dtype)
    p = fitted(op, square, _P[order], 0, 1, dtype)
    q = op.Mul(fitted(op, square, _Q[order], 0, 1, dtype), inverse)
    sine, cosine = op.Sin(x), op.Cos(x)
    # cos and sin of x - pi/4 - order pi/2, times sqrt(2)
    both, apart = op.Add(sine, cosine), op.Sub(sine, cosine)
    c, s = (apart, op.Neg(both)) if order else (both, apart)
    if second:
        wave = op.Add(op.Mul(p, s), op.Mul(q, c))
    else:
        wave = op.Sub(op.Mul(p, c), op.Mul(q, s))
    found: Value = op.Div(wave, op.Sqrt(op.Mul(x, op.constant(math.pi, dtype))))
    return found


def _register_bessel(order: int) -> None:
    @_unary(f"special_bessel_j{order}")
    def first(op: TorchBuilder, x: Value, dtype: DType) -> Value:
        size = like(op, op.Abs(x), x, dtype)
        near = fitted(op, like(op, op.Mul(x, x), x, dtype), _J_SQUARE[order], 0, 25, dtype)
        large = like(op, op.Max(size, op.constant(5, dtype)), x, dtype)
        far = _oscillating(op, large, order, False, dtype)
        if order:
            near, far = op.Mul(near, x), op.Mul(far, op.Sign(x))
        return _where_above(op, size, 5, dtype, far, near)

    @_unary(f"special_bessel_y{order}")
    def second(op: TorchBuilder, x: Value, dtype: DType) -> Value:
        square = like(op, op.Mul(x, x), x, dtype)
        j = fitted(op, square, _J_SQUARE[order], 0, 25, dtype)
        regular = fitted(op, square, _Y_REGULAR[order], 0, 25, dtype)
        scale = op.constant(2 / math.pi, dtype)
        if order:
            # x (log x j + regular) - 2 / (pi x)
            slow = op.Mul(x, op.Add(op.Mul(op.Mul(scale, op.Log(x)), j), regular))
            near = _pole(op, x, op.Sub(slow, op.Div(scale, x)), -math.inf, dtype)
        else:
            near = op.Add(op.Mul(op.Mul(scale, op.Log(x)), j), regular)
        large = like(op, op.Max(x, op.constant(5, dtype)), x, dtype)
        far = _oscillating(op, large, order, True, dtype)
        return _where_above(op, x, 5, dtype, far, near)


for _order in (0, 1):
    _register_bessel(_order)


@_unary("special_spherical_bessel_j0")
def spherical_bessel_j0(op: TorchBuilder, x: Value, dtype: DType) -> Value:
    zero = op.Equal(x, op.constant(0, dtype))
    found: Value = op.Where(zero, op.constant(1, dtype), op.Div(op.Sin(x), x))
    return found


_AIRY: Final = special("airy_ai")


def _airy_near(x: Array) -> Array:
    """Ai by its power series: torch's own has six digits below -2."""
    even, odd = np.ones_like(x), x.copy()
    first, second = even.copy(), odd.copy()
    for k in range(1, 60):
        even = even * x**3 / ((3 * k - 1) * (3 * k))
        odd = odd * x**3 / ((3 * k) * (3 * k + 1))
        first, second = first + even, second + odd
    scale = 3 ** (-2 / 3) / math.gamma(2 / 3)
    found: Array = scale * first - 3 ** (-1 / 3) / math.gamma(1 / 3) * second
    return found


def _airy_far(inverse: Array) -> Array:
    zeta = 1 / np.maximum(inverse, 1 / 300)
    x = (1.5 * zeta) ** (2 / 3)
    found: Array = _AIRY(x) * 2 * math.sqrt(math.pi) * x**0.25 * np.exp(zeta)
    return found


def _airy_series(first: int, count: int) -> tuple[float, ...]:
    """(-1)^k u(2k + first), of the asymptotic forms in 9.7 of the handbook."""
    terms = [1.0]
    for k in range(1, 2 * count + 2):
        factor = (6 * k - 5) * (6 * k - 3) * (6 * k - 1) / (216 * k * (2 * k - 1))
        terms.append(terms[-1] * factor)
    return tuple((-1) ** k * terms[2 * k + first] for k in range(count))


@_unary("special_airy_ai")
def airy_ai(op: TorchBuilder, x: Value, dtype: DType) -> Value:
    size = like(op, op.Max(op.Abs(x), op.constant(2, dtype)), x, dtype)
    root = op.Sqrt(size)
    zeta = op.Mul(op.Mul(root, size), op.constant(2 / 3, dtype))
    inverse = like(op, op.Reciprocal(zeta), x, dtype)
    scale = op.Mul(op.Sqrt(root), op.constant(math.sqrt(math.pi), dtype))
    slow = fitted(op, inverse, _airy_far, 1 / 300, 3 / (4 * math.sqrt(2)), dtype)
    fading = op.Mul(op.Mul(slow, op.Exp(op.Neg(zeta))), op.constant(0.5, dtype))
    square = op.Mul(inverse, inverse)
    even = polynomial(op, square, _airy_series(0, 4), dtype)
    odd = op.Mul(inverse, polynomial(op, square, _airy_series(1, 4), dtype))
    phase = op.Add(zeta, op.constant(math.pi / 4, dtype))
    wave = op.Sub(op.Mul(op.Sin(phase), even), op.Mul(op.Cos(phase), odd))
    near = fitted(op, x, _airy_near, -7, 2, dtype)
    low = op.Div(wave, scale)
    left = _where_above(op, x, -7, dtype, near, low)
    return _where_above(op, x, 2, dtype, op.Div(fading, scale), left)
