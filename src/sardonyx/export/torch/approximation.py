"""Polynomials that stand for special functions, fitted to torch's own in double precision."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from numpy.polynomial import Chebyshev, Polynomial

from sardonyx import dtypes
from sardonyx.ir.types import TensorType

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from sardonyx.dtypes import DType
    from sardonyx.export.torch.registry import TorchBuilder
    from sardonyx.ir.value import Value

    Curve = Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]

__all__ = ["fitted", "like", "polynomial", "special", "working_dtype"]

_HIGHEST_DEGREE: Final = 48


def working_dtype(dtype: DType) -> DType:
    """The type to compute a function in whose result is of `dtype`."""
    return dtypes.DOUBLE if dtype is dtypes.DOUBLE else dtypes.FLOAT


def special(name: str) -> Curve:
    """``torch.special.<name>`` of arrays, in double precision."""
    function = getattr(torch.special, name)

    def curve(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        found: npt.NDArray[np.float64] = function(torch.from_numpy(np.ascontiguousarray(x))).numpy()
        return found

    return curve


@lru_cache(maxsize=256)
def _coefficients(curve: Curve, low: float, high: float, double: bool) -> tuple[float, ...]:
    """Coefficients, lowest first, of a polynomial in t: -1 at `low`, 1 at `high`.

    They are those of Chebyshev's polynomials if `double`, of powers otherwise.
    """
    middle, half = (low + high) / 2, (high - low) / 2
    series = np.asarray(
        Chebyshev.interpolate(lambda t: curve(middle + half * t), _HIGHEST_DEGREE).coef
    )
    eps = 2.0**-50 if double else 2.0**-26
    large = np.flatnonzero(np.abs(series) > eps * np.abs(series).max())
    kept = series[: int(large[-1]) + 1]
    if double:
        return tuple(float(each) for each in kept)
    return tuple(float(each) for each in Chebyshev(kept).convert(kind=Polynomial).coef)


def like(op: TorchBuilder, made: Value, x: Value, dtype: DType) -> Value:
    """`made`, known to be of `dtype` and of the shape of `x`."""
    made.type = TensorType(dtype, x.shape)
    return made


def polynomial(op: TorchBuilder, t: Value, coefficients: Sequence[float], dtype: DType) -> Value:
    """The polynomial with `coefficients`, lowest first, at `t`."""
    total: Any = op.constant(coefficients[-1], dtype)
    for each in reversed(coefficients[:-1]):
        total = op.Add(op.Mul(total, t), op.constant(each, dtype))
    found: Value = total
    return found


def fitted(
    op: TorchBuilder, x: Value, curve: Curve, low: float, high: float, dtype: DType
) -> Value:
    """`curve` at `x`, exact to the working type within [low, high]; arguments are held there.

    `curve` must be the same object at each call: what it is fitted by is remembered.
    """
    coefficients = _coefficients(curve, low, high, dtype is dtypes.DOUBLE)
    scale = op.constant(2 / (high - low), dtype)
    shift = op.constant(-(low + high) / (high - low), dtype)
    t = op.clip(like(op, op.Add(op.Mul(x, scale), shift), x, dtype), -1, 1)
    if dtype is dtypes.DOUBLE:
        return _clenshaw(op, t, coefficients, dtype)
    return polynomial(op, t, coefficients, dtype)


def _clenshaw(op: TorchBuilder, t: Value, coefficients: Sequence[float], dtype: DType) -> Value:
    """The sum of Chebyshev's polynomials with `coefficients` at `t`."""
    twice = op.Add(t, t)
    last, total = op.constant(0, dtype), op.constant(coefficients[-1], dtype)
    for each in reversed(coefficients[1:-1]):
        following = op.Add(op.Sub(op.Mul(total, twice), last), op.constant(each, dtype))
        last, total = total, following
    found: Value = op.Add(op.Sub(op.Mul(total, t), last), op.constant(coefficients[0], dtype))
    return found
