"""Multidirectional broadcasting of shapes (Broadcasting.md of the standard)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sardonyx import dims
from sardonyx.dims import Dim, known_less_equal, minimum
from sardonyx.errors import InferenceError
from sardonyx.ir.types import shape_text
from sardonyx.ops.symbolic import exact

if TYPE_CHECKING:
    from sardonyx.ir.types import DimLike, Shape

__all__ = ["broadcast", "broadcast_dim"]


def broadcast(*shapes: Shape | None) -> Shape | None:
    """The shape that `shapes` broadcast to; None where a rank is unknown.

    Raises `InferenceError` where two sizes differ and neither is 1.
    """
    known = [shape for shape in shapes if shape is not None]
    if len(known) < len(shapes):
        return None
    rank = max((len(shape) for shape in known), default=0)
    result: list[DimLike] = [1] * rank
    try:
        for shape in known:
            for axis in range(-len(shape), 0):
                result[axis] = broadcast_dim(result[axis], shape[axis])
    except InferenceError:
        listed = " and ".join(shape_text(shape) for shape in known)
        raise InferenceError(f"shapes {listed} do not broadcast") from None
    return tuple(result)


def broadcast_dim(a: DimLike, b: DimLike) -> DimLike:
    """The size that sizes `a` and `b` broadcast to.

    Where one is a known size above 1 the result is that size. Two different expressions may be
    equal or one of them 1: then the result is the expression ``broadcast(a, b)``, unless one is
    never the larger: N and min(N, 512) give N.
    """
    if isinstance(a, int) and isinstance(b, int):
        if a == b or b == 1:
            return a
        if a == 1:
            return b
        raise InferenceError(f"sizes {a} and {b} do not broadcast")
    for known, other in ((a, b), (b, a)):
        if isinstance(known, int):
            return other if known == 1 else known
    if isinstance(a, Dim) and isinstance(b, Dim):
        if a == b or _is_within(b, a):
            return a
        if _is_within(a, b):
            return b
        return exact(dims.broadcast, a, b)
    return None


def _is_within(small: Dim, large: Dim) -> bool:
    """Whether min(large, 1) <= small <= large always: then they broadcast to `large` if at all."""
    return (
        known_less_equal(small, large) is True
        and known_less_equal(minimum(large, 1), small) is True
    )
