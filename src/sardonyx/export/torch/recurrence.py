"""Orthogonal polynomials and incomplete gamma functions: sums that a Loop adds up."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from sardonyx import dtypes
from sardonyx.export.torch.approximation import working_dtype
from sardonyx.export.torch.registry import TorchBuilder, TorchValue, translation
from sardonyx.export.torch.repeat import loop
from sardonyx.export.torch.special import log_gamma

if TYPE_CHECKING:
    from collections.abc import Callable

    from sardonyx.dtypes import DType
    from sardonyx.ir.value import Value

    Recurrence = Callable[[TorchBuilder, DType, Value, Value, Value, Value], Value]

__all__: list[str] = []


def _twice(op: TorchBuilder, x: Value) -> Value:
    doubled: Value = op.Add(x, x)
    return doubled


def _chebyshev(op: TorchBuilder, dtype: DType, k: Value, x: Value, last: Value,
               before: Value) -> Value:  # fmt: skip
    found: Value = op.Sub(op.Mul(_twice(op, x), last), before)
    return found


def _hermite(op: TorchBuilder, dtype: DType, k: Value, x: Value, last: Value,
             before: Value) -> Value:  # fmt: skip
    inner = op.Sub(op.Mul(x, last), op.Mul(k, before))
    return _twice(op, inner)


def _hermite_e(op: TorchBuilder, dtype: DType, k: Value, x: Value, last: Value,
               before: Value) -> Value:  # fmt: skip
    found: Value = op.Sub(op.Mul(x, last), op.Mul(k, before))
    return found


def _laguerre(op: TorchBuilder, dtype: DType, k: Value, x: Value, last: Value,
              before: Value) -> Value:  # fmt: skip
    one = op.constant(1, dtype)
    factor = op.Sub(op.Add(_twice(op, k), one), x)
    found: Value = op.Div(op.Sub(op.Mul(factor, last), op.Mul(k, before)), op.Add(k, one))
    return found


def _legendre(op: TorchBuilder, dtype: DType, k: Value, x: Value, last: Value,
              before: Value) -> Value:  # fmt: skip
    one = op.constant(1, dtype)
    factor = op.Mul(op.Add(_twice(op, k), one), x)
    found: Value = op.Div(op.Sub(op.Mul(factor, last), op.Mul(k, before)), op.Add(k, one))
    return found


def _register(name: str, first: tuple[float, float], rule: Recurrence) -> None:
    """Degrees 0, 1 and up: 1, `first`[0] x + `first`[1], and `rule` of k, x and the last two."""
    target = f"aten.special_{name}"

    @translation(f"{target}.default", f"{target}.x_scalar", f"{target}.n_scalar")
    def polynomial(op: TorchBuilder, x: TorchValue, n: TorchValue) -> Any:
        result = op.result()
        dtype = working_dtype(result)
        shape = op.result_shape
        argument, degree = op.scalar(x, dtype), op.scalar(n, dtype)
        zero, one = op.constant(0, dtype), op.constant(1, dtype)
        # torch takes the whole part of a degree
        degree = op.Mul(op.Sign(degree), op.Floor(op.Abs(degree)))
        if name.startswith("shifted"):
            argument = op.Sub(_twice(op, argument), one)
        ones = op.typed(op.Add(op.Mul(op.Add(argument, degree), zero), one), dtype, shape)
        start = op.Mul(op.Add(op.Mul(argument, op.constant(first[0], dtype)),
                              op.constant(first[1], dtype)), ones)  # fmt: skip
        start = op.typed(start, dtype, shape)
        flat = op.typed(op.Reshape(degree, op.ints([-1])), dtype, [None])
        most = op.typed(op.Concat(flat, op.constant([1.0], dtype), axis=0), dtype, [None])
        count = op.Sub(op.cast(op.reduce("Max", most, [0], False), dtypes.INT64),
                       op.constant(1, dtypes.INT64))  # fmt: skip

        def step(number: Value, states: list[Value]) -> tuple[list[Value], list[Value]]:
            before, last = states
            k = op.Add(op.cast(number, dtype), one)
            following = rule(op, dtype, k, argument, last, before)
            more = op.Less(k, degree)
            return [op.Where(more, last, before), op.Where(more, following, last)], []

        found = loop(op, count, [ones, start], step)[1]
        found = op.Where(op.Less(degree, one), op.Where(op.Less(degree, zero), zero, ones), found)
        return op.cast(op.typed(found, dtype, shape), result)


for _prefix in ("", "shifted_"):
    for _letter, _first in (("t", (1, 0)), ("u", (2, 0)), ("v", (2, -1)), ("w", (2, 1))):
        _register(f"{_prefix}chebyshev_polynomial_{_letter}", _first, _chebyshev)
_register("hermite_polynomial_h", (2, 0), _hermite)
_register("hermite_polynomial_he", (1, 0), _hermite_e)
_register("laguerre_polynomial_l", (-1, 1), _laguerre)
_register("legendre_polynomial_p", (1, 0), _legendre)

_ITERATIONS = 400
"""Enough for arguments to a few thousand."""


def _incomplete(op: TorchBuilder, a: Value, x: Value, upper: bool) -> Any:
    """The regularized incomplete gamma function, by its series or its continued fraction."""
    result, shape, dtype = op.result(), op.result_shape, dtypes.DOUBLE
    zero, one = op.constant(0, dtype), op.constant(1, dtype)
    tiny = op.constant(1e-300, dtype)
    a, x = op.cast(a, dtype), op.cast(x, dtype)
    if a.shape != x.shape:
        a, x = op.Add(a, op.Mul(x, zero)), op.Add(x, op.Mul(a, zero))
    a, x = op.typed(a, dtype, shape), op.typed(x, dtype, shape)
    low = op.Less(x, op.Add(a, one))
    left = op.Where(low, x, zero)
    right = op.Where(low, op.Add(a, op.constant(2, dtype)), x)
    b = op.Sub(op.Add(right, one), a)
    fraction = op.Reciprocal(b)
    typed = [op.typed(each, dtype, shape) for each in (
        op.Add(op.Mul(a, zero), one), op.Add(op.Mul(x, zero), one), b,
        op.Add(op.Mul(fraction, zero), op.constant(1e300, dtype)), fraction, fraction,
    )]  # fmt: skip

    def step(number: Value, states: list[Value]) -> tuple[list[Value], list[Value]]:
        total, term, b, c, d, h = states
        n = op.Add(op.cast(number, dtype), one)
        term = op.Mul(term, op.Div(left, op.Add(a, n)))
        numerator = op.Mul(op.Neg(n), op.Sub(n, a))
        b = op.Add(b, op.constant(2, dtype))
        d = op.Add(op.Mul(numerator, d), b)
        d = op.Reciprocal(op.Where(op.Less(op.Abs(d), tiny), tiny, d))
        c = op.Add(b, op.Div(numerator, c))
        c = op.Where(op.Less(op.Abs(c), tiny), tiny, c)
        return [op.Add(total, term), term, b, c, d, op.Mul(h, op.Mul(c, d))], []

    total, _, _, _, _, h = loop(op, op.constant(_ITERATIONS, dtypes.INT64), typed, step)
    half = op.Less(a, op.constant(0.5, dtype))
    lifted = op.typed(op.Where(half, op.Add(a, one), a), dtype, shape)
    gamma = log_gamma(op, lifted, 10)
    gamma = op.Where(half, op.Sub(gamma, op.Log(a)), gamma)
    scale = op.Exp(op.Sub(op.Sub(op.Mul(a, op.Log(x)), x), gamma))
    series = op.Div(op.Mul(total, scale), a)
    rest = op.Mul(h, scale)
    if upper:
        found = op.Where(low, op.Sub(one, series), rest)
    else:
        found = op.Where(low, series, op.Sub(one, rest))
    at_zero = op.Equal(x, zero)
    found = op.Where(at_zero, one if upper else zero, found)
    outside = op.Or(op.Less(x, zero), op.Less(a, zero))
    nan = op.constant(math.nan, dtype)
    both = op.And(at_zero, op.Equal(a, zero))
    found = op.Where(op.Or(outside, both), nan, found)
    endless = op.And(op.Equal(a, zero), op.Greater(x, zero))
    found = op.Where(endless, zero if upper else one, found)
    return op.cast(op.typed(found, dtype, shape), result)


@translation("aten.igamma.default", "aten.special_gammainc.default")
def igamma(op: TorchBuilder, a: Value, x: Value) -> Any:
    return _incomplete(op, a, x, False)


@translation("aten.igammac.default", "aten.special_gammaincc.default")
def igammac(op: TorchBuilder, a: Value, x: Value) -> Any:
    return _incomplete(op, a, x, True)
