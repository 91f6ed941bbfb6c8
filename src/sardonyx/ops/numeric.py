"""NumPy helpers that references share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from sardonyx import dtypes
from sardonyx.errors import ExecutionError
from sardonyx.ops.symbolic import check_size

if TYPE_CHECKING:
    from collections.abc import Callable

    from sardonyx.ir.tensor import Array

__all__ = [
    "check_broadcast",
    "divided",
    "erf",
    "erfc",
    "is_small_float",
    "over_objects",
    "rounded",
    "single",
    "to_integer",
    "widen",
]

_NUMPY_FLOATS: Final = frozenset({np.dtype(np.float16), np.dtype(np.float32), np.dtype(np.float64)})
_INT64: Final = np.iinfo(np.int64)


def is_small_float(dtype: np.dtype[Any]) -> bool:
    """Whether `dtype` is a floating-point type that NumPy itself does not have, bfloat16 say."""
    return (
        dtype.kind in "fV" and dtype not in _NUMPY_FLOATS and dtypes.from_numpy(dtype).is_floating
    )


def widen(array: Array) -> Array:
    """`array` in float32 where its type is float16 or narrower, else itself."""
    if array.dtype == np.float16 or is_small_float(array.dtype):
        return array.astype(np.float32)
    return array


def rounded(function: Callable[..., Any], *arrays: Array) -> Array:
    """`function` of `arrays` of one type, computed in at least float32, in that type again.

    Floating-point exceptions (overflow, invalid, division by zero) give what IEEE 754 says,
    and a result that is floating point where the type is not is truncated as `to_integer` says.
    """
    dtype = arrays[0].dtype
    with np.errstate(all="ignore"):
        result = np.asarray(function(*(widen(array) for array in arrays)))
        if result.dtype == dtype:
            return result
        if result.dtype.kind == "f" and dtype.kind in "iu":
            return to_integer(result, dtype)
        return result.astype(dtype)


def single(value: float) -> float:
    """`value` rounded to FLOAT, as attributes hold it."""
    return float(np.float32(value))


def to_integer(array: Array, dtype: np.dtype[Any]) -> Array:
    """Floating-point `array` truncated towards zero; out of range saturates and NaN is 0."""
    target = dtypes.from_numpy(dtype)
    digits = target.bits - (target.kind == "int")
    last = (1 << digits) - 1
    first = -last - 1 if target.kind == "int" else 0
    least, most = float(first), float(last + 1)
    wide = np.trunc(array.astype(np.float64))
    inside = (wide > least) & (wide < most)
    result = np.where(inside, wide, 0).astype(dtype)
    result[wide >= most] = last
    result[wide <= least] = first
    return result


def divided(a: Array, b: Array) -> Array:
    """The quotient; integers truncate towards zero, by zero give 0, and INT_MIN / -1 wraps."""
    if a.dtype.kind not in "iu":
        return np.asarray(np.true_divide(a, b))
    quotient = np.floor_divide(a, b)
    if a.dtype.kind == "i":
        # floor -> truncation: one more where the signs differ and there is a remainder
        remainder = a - quotient * b
        quotient = quotient + ((remainder != 0) & ((a < 0) != (b < 0)) & (b != 0))
    return np.asarray(quotient)


def over_objects(function: Callable[..., Any], *arrays: Array) -> Array:
    """`function` of each element of object arrays: strings, or ints and symbolic dims.

    The result is None where an element is None, and where the function gives no number that
    INT64 holds.
    """

    def each(*items: Any) -> Any:
        if any(item is None for item in items):
            return None
        try:
            result = function(*items)
        except (ZeroDivisionError, OverflowError):
            return None
        fits = not isinstance(result, int) or _INT64.min <= result <= _INT64.max
        return result if fits else None

    return np.asarray(np.frompyfunc(each, len(arrays), 1)(*arrays), object)


def check_broadcast(op_type: str, *arrays: Array) -> tuple[int, ...]:
    """The shape that `arrays` broadcast to.

    Raises `ExecutionError` where there is none and `LimitError` where it is too large.
    """
    try:
        shape = np.broadcast_shapes(*(array.shape for array in arrays))
    except ValueError:
        listed = " and ".join(str(list(array.shape)) for array in arrays)
        raise ExecutionError(f"{op_type}: shapes {listed} do not broadcast") from None
    check_size(op_type, shape, max(array.itemsize for array in arrays))
    return shape


def erf(x: Array) -> Array:
    """The error function in double precision, within 4 units in the last place.

    Source: W. J. Cody, "Rational Chebyshev approximations for the error function",
    Mathematics of Computation 23 (1969), 631-637.
    """
    x = np.asarray(x, np.float64)
    with np.errstate(all="ignore"):
        near = x * _ratio(np.minimum(x * x, _CENTRE**2), _ERF_TOP, _ERF_BOTTOM)
        far = np.copysign(1 - _tail(np.abs(x)), x)
    return np.where(np.abs(x) <= _CENTRE, near, far)


def erfc(x: Array) -> Array:
    """1 - erf(x) in double precision, without cancellation where erf(x) is near 1."""
    x = np.asarray(x, np.float64)
    with np.errstate(all="ignore"):
        tail = _tail(np.abs(x))
        far = np.where(x < 0, 2 - tail, tail)
    return np.where(np.abs(x) <= _CENTRE, 1 - erf(x), far)


_CENTRE: Final = 0.46875
_ERF_TOP: Final = (
    1.85777706184603153e-1,
    3.16112374387056560e0,
    1.13864154151050156e2,
    3.77485237685302021e2,
    3.20937758913846947e3,
)
_ERF_BOTTOM: Final = (
    1.0,
    2.36012909523441209e1,
    2.44024637934444173e2,
    1.28261652607737228e3,
    2.84423683343917062e3,
)
_ERFC_TOP: Final = (
    2.15311535474403846e-8,
    5.64188496988670089e-1,
    8.88314979438837594e0,
    6.61191906371416295e1,
    2.98635138197400131e2,
    8.81952221241769090e2,
    1.71204761263407058e3,
    2.05107837782607147e3,
    1.23033935479799725e3,
)
_ERFC_BOTTOM: Final = (
    1.0,
    1.57449261107098347e1,
    1.17693950891312499e2,
    5.37181101862009858e2,
    1.62138957456669019e3,
    3.29079923573345963e3,
    4.36261909014324716e3,
    3.43936767414372164e3,
    1.23033935480374942e3,
)
_FAR_TOP: Final = (
    1.63153871373020978e-2,
    3.05326634961232344e-1,
    3.60344899949804439e-1,
    1.25781726111229246e-1,
    1.60837851487422766e-2,
    6.58749161529837803e-4,
)
_FAR_BOTTOM: Final = (
    1.0,
    2.56852019228982242e0,
    1.87295284992346725e0,
    5.27905102951428412e-1,
    6.05183413124413191e-2,
    2.33520497626869185e-3,
)


def _ratio(x: Array, top: tuple[float, ...], bottom: tuple[float, ...]) -> Array:
    return np.asarray(np.polyval(top, x) / np.polyval(bottom, x))


def _tail(x: Array) -> Array:
    """The complementary error function for x > 0.46875."""
    middle = _ratio(np.minimum(x, 4.0), _ERFC_TOP, _ERFC_BOTTOM)
    inverse = 1 / np.square(np.maximum(x, 4.0))
    far = (1 / np.sqrt(np.pi) - inverse * _ratio(inverse, _FAR_TOP, _FAR_BOTTOM)) / x
    # exp(-x^2), its argument split so that the larger part squares without rounding
    coarse = np.trunc(np.minimum(x, 30.0) * 16) / 16
    power = np.exp(-coarse * coarse) * np.exp(-(x - coarse) * (x + coarse))
    return np.asarray(power * np.where(x <= 4.0, middle, far))
