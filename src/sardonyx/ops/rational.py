"""Sizes as floating-point numbers: exact arithmetic on shapes that exporters do in FLOAT.

A size is cast to FLOAT or DOUBLE, scaled, rounded down or up, and cast back. Here such a value
is an integer expression or a `Ratio` of two, so the way back gives an exact dim. It holds for
sizes that the float type has exactly: in FLOAT those whose multiple by 64 is below 2**24, in
DOUBLE below 2**53. There sums, and products by a number of few bits, are exact, and a quotient
is rounded once, which cannot move it to or past an integer.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

from sardonyx.dims import Dim, bounds, ceil_div, divide_exact, floor_div, maximum, minimum
from sardonyx.dtypes import DOUBLE, FLOAT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sardonyx.dtypes import DType
    from sardonyx.ir.tensor import Array
    from sardonyx.ops.fact import Fact
    from sardonyx.ops.operator import Operator

__all__ = [
    "CARRIED",
    "Ratio",
    "Real",
    "carry",
    "ceiling",
    "divide_reals",
    "ratio",
    "real",
    "subtract_reals",
]

_FEW: Final = 64
_EXACT: Final = {FLOAT: 1 << 24, DOUBLE: 1 << 53}


@dataclass(frozen=True, slots=True)
class Ratio:
    """`numerator` / `denominator`, no integer expression, the denominator above 0.

    `rounded` where the floating-point number is only the nearest one.
    """

    numerator: int | Dim
    denominator: int | Dim
    rounded: bool = False


Real: TypeAlias = "int | Dim | Ratio"


def ratio(numerator: int | Dim, denominator: int | Dim) -> Real | None:
    """The quotient in its simplest form; None where the divisor may be negative."""
    if not isinstance(denominator, Dim) and denominator < 0:
        numerator, denominator = -numerator, -denominator
    if denominator == 0 or not _is_natural(denominator):
        return None
    quotient = divide_exact(numerator, denominator)
    if quotient is not None:
        return quotient
    is_power = not isinstance(denominator, Dim) and denominator & (denominator - 1) == 0
    return Ratio(numerator, denominator, rounded=not is_power)


def real(value: Any, dtype: DType = DOUBLE) -> Real | None:
    """A number of `dtype` as an exact `Real`; None for one that is not finite or has many bits."""
    if isinstance(value, (Dim, Ratio)):
        return value
    if value is None or not np.isfinite(value):
        return None
    exact = Fraction(float(value))
    if abs(exact) >= _EXACT[dtype] or exact.denominator > _FEW:
        return None
    return ratio(exact.numerator, exact.denominator)


def floor(value: Real) -> int | Dim:
    """The next integer below."""
    return floor_div(value.numerator, value.denominator) if isinstance(value, Ratio) else value


def ceiling(value: Real) -> int | Dim:
    """The next integer above."""
    return ceil_div(value.numerator, value.denominator) if isinstance(value, Ratio) else value


def _truncated(value: Real) -> int | Dim | None:
    if isinstance(value, Ratio) and not _is_natural(value.numerator):
        return None
    return floor(value)


def _is_natural(value: int | Dim) -> bool:
    lower = bounds(value)[0]
    return lower is not None and lower >= 0


def _exactly(function: Callable[..., Real | None]) -> Callable[..., Real | None]:
    """`function` of numerator and denominator of each operand; None where one was rounded."""

    def apply(*values: Real) -> Real | None:
        parts: list[int | Dim] = []
        for value in values:
            if isinstance(value, Ratio):
                if value.rounded:
                    return None
                parts += [value.numerator, value.denominator]
            else:
                parts += [value, 1]
        return function(*parts)

    return apply


def _product(p: int | Dim, q: int | Dim, r: int | Dim, s: int | Dim) -> Real | None:
    scale = p if isinstance(r, Dim) else r
    if isinstance(scale, Dim) or (isinstance(p * r, Dim) and abs(scale) > _FEW):
        return None
    return ratio(p * r, q * s)


def _of_integers(function: Callable[..., Any]) -> Callable[..., Any]:
    def apply(*values: Real) -> Any:
        return None if any(isinstance(value, Ratio) for value in values) else function(*values)

    return apply


subtract_reals: Final = _exactly(lambda p, q, r, s: ratio(p * s - r * q, q * s))
divide_reals: Final = _exactly(lambda p, q, r, s: ratio(p * s, q * r))
_ARITHMETIC: Final[dict[str, Callable[..., Any]]] = {
    "Add": _exactly(lambda p, q, r, s: ratio(p * s + r * q, q * s)),
    "Sub": subtract_reals,
    "Mul": _exactly(_product),
    "Div": divide_reals,
    "Neg": _exactly(lambda p, q: ratio(-p, q)),
    "Floor": floor,
    "Ceil": ceiling,
    "Round": lambda value: None if isinstance(value, Ratio) else value,
    "Max": _of_integers(maximum),
    "Min": _of_integers(minimum),
}
CARRIED: Final = frozenset(["Cast", *_ARITHMETIC])
"""Operators that `carry` knows although they do not move data."""
_MOVES: Final = frozenset(
    {"Concat", "Expand", "Flatten", "Gather", "GatherElements", "GatherND", "Identity", "Reshape"}
    | {"ScatterElements", "ScatterND", "Slice", "Split", "Squeeze", "Tile", "Transpose"}
    | {"Unsqueeze"}
)


def carry(operator: Operator, arguments: Sequence[Fact | None]) -> list[Array] | None:
    """The contents of the outputs of an operator on sizes in FLOAT or DOUBLE, None if unknown."""
    first = arguments[0]
    if first is None or first.dtype is None:
        return None
    values = [None if fact is None else fact.value for fact in arguments]
    if operator.op_type in _MOVES:
        results = operator.reference(*values)
        return list(results) if isinstance(results, tuple) else [results]
    if operator.op_type == "Cast":
        target: DType = getattr(operator, "target")  # noqa: B009
        if first.dtype in _EXACT:
            return [
                _each(_truncated if target.is_integer else lambda item: item, first.dtype, values)
            ]
        return [_each(lambda item: item, target, values)] if target in _EXACT else None
    function = _ARITHMETIC.get(operator.op_type)
    if function is None or first.dtype not in _EXACT:
        return None
    return [_each(function, first.dtype, values)]


def _each(function: Callable[..., Any], dtype: DType, arrays: Sequence[Array | None]) -> Array:
    """`function` of the elements as reals of `dtype`, None where one is unknown."""

    def apply(*items: Any) -> Any:
        numbers = [real(item, dtype) for item in items]
        if any(number is None for number in numbers):
            return None
        try:
            return function(*numbers)
        except (ZeroDivisionError, OverflowError):
            return None

    given = [array for array in arrays if array is not None]
    return np.asarray(np.frompyfunc(apply, len(given), 1)(*given), object)
