"""Gradients of normalizations: what standardizing and scaling do, backwards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sardonyx.ir.value import Value
    from sardonyx.ops.writer import Writer

__all__ = [
    "batch_gradient",
    "instance_gradient",
    "layer_gradient",
    "norm_gradient",
    "response_gradient",
]


def layer_gradient(
    op: Writer, grads: Sequence[Any], inputs: Sequence[Any], axes: list[int], epsilon: float
) -> list[Value | None]:
    """Of X standardized along `axes`, times Scale, plus B; and of its mean and inverse deviation.

    Computed in at least FLOAT, as the standardization is.
    """
    X, Scale, B = inputs
    dy, d_mean, d_inverse = (
        None if grad is None else op.wide(grad) for grad in (*grads, None, None)[:3]
    )
    x, scale = op.wide(X), op.wide(Scale)
    centered, inverse = _standard(op, x, axes, epsilon)
    found = op.Mul(centered, inverse)
    dx, by_scale, by_bias = None, None, None
    if dy is not None:
        dx = _unstandardized(op, op.Mul(dy, scale), found, inverse, axes)
        by_scale = op.cast(op.sum_to(op.Mul(dy, found), Scale), op.dtype(Scale))
        by_bias = None if B is None else op.cast(op.sum_to(dy, B), op.dtype(B))
    count = op.ratio(x, inverse, x)
    if d_mean is not None:
        part = op.expanded(op.Div(op.cast(d_mean, op.dtype(x)), count), x)
        dx = part if dx is None else op.Add(dx, part)
    if d_inverse is not None:
        cube = op.Mul(inverse, op.Mul(inverse, inverse))
        slope = op.Neg(op.Div(op.Mul(op.cast(d_inverse, op.dtype(x)), cube), count))
        part = op.Mul(centered, slope)
        dx = part if dx is None else op.Add(dx, part)
    return [None if dx is None else op.cast(dx, op.dtype(X)), by_scale, by_bias]


def instance_gradient(
    op: Writer, dy: Value, inputs: Sequence[Any], epsilon: float
) -> list[Value | None]:
    """Of each channel of each instance standardized, times scale, plus B."""
    X, Scale, B = inputs
    rank = op.rank(X)
    x, wide = op.wide(X), op.wide(dy)
    axes = list(range(2, rank))
    centered, inverse = _standard(op, x, axes, epsilon)
    found = op.Mul(centered, inverse)
    scaled = op.Mul(wide, _per_channel(op, op.wide(Scale), rank))
    dx = _unstandardized(op, scaled, found, inverse, axes)
    return [
        op.cast(dx, op.dtype(X)),
        op.cast(_over_channels(op, op.Mul(wide, found), rank), op.dtype(Scale)),
        op.cast(_over_channels(op, wide, rank), op.dtype(B)),
    ]


def batch_gradient(
    op: Writer, dy: Value, inputs: Sequence[Any], epsilon: float, trains: bool
) -> list[Value | None]:
    """Of X standardized per channel, by its own statistics where it trains, else by given ones."""
    X, Scale, B, Mean, Var = inputs
    rank = op.rank(X)
    x, wide = op.wide(X), op.wide(dy)
    scaled = op.Mul(wide, _per_channel(op, op.cast(Scale, op.dtype(x)), rank))
    if trains:
        axes = [axis for axis in range(rank) if axis != 1]
        centered, inverse = _standard(op, x, axes, epsilon)
    else:
        mean, var = (_per_channel(op, op.cast(v, op.dtype(x)), rank) for v in (Mean, Var))
        centered = op.Sub(x, mean)
        inverse = op.Reciprocal(op.Sqrt(op.Add(var, epsilon)))
    found = op.Mul(centered, inverse)
    by_mean, by_var = None, None
    if trains:
        dx = _unstandardized(op, scaled, found, inverse, axes)
    else:
        dx = op.Mul(scaled, inverse)
        by_mean = op.cast(op.Neg(_over_channels(op, dx, rank)), op.dtype(Mean))
        cube = op.Mul(op.Mul(dx, found), op.Mul(inverse, -0.5))
        by_var = op.cast(_over_channels(op, cube, rank), op.dtype(Var))
    return [
        op.cast(dx, op.dtype(X)),
        op.cast(_over_channels(op, op.Mul(wide, found), rank), op.dtype(Scale)),
        op.cast(_over_channels(op, wide, rank), op.dtype(B)),
        by_mean,
        by_var,
    ]


def norm_gradient(op: Writer, dy: Value, x: Value, y: Value, axis: int, p: int) -> Value:
    """Of X over its p-norm along `axis`, p being 1 or 2; 0 where the norm is 0."""
    if p == 1:
        norm, slope = op.ReduceSum(op.Abs(x), [axis], keepdims=1), op.Sign(x)
    else:
        norm, slope = op.Sqrt(op.ReduceSum(op.Mul(x, x), [axis], keepdims=1)), y
    along = op.ReduceSum(op.Mul(dy, y), [axis], keepdims=1)
    zero = op.same(norm, 0.0)
    rest = op.Sub(dy, op.Mul(slope, along))
    result: Value = op.Where(zero, 0.0, op.Div(rest, op.Where(zero, 1.0, norm)))
    return result


def response_gradient(
    op: Writer, dy: Value, x: Value, size: int, bias: float, alpha: float, beta: float
) -> Value:
    """Of X over (bias + alpha / size * S) ^ beta, S the squares of `size` channels added."""
    below, above = (size - 1) // 2, size - 1 - (size - 1) // 2
    around = _channel_sums(op, size)
    total = around(op.Mul(x, x), below, above)
    base = op.Add(op.Mul(total, alpha / size), bias)
    direct = op.Mul(dy, op.Pow(base, op.like(-beta, x)))
    shared = around(op.Div(op.Mul(direct, x), base), above, below)
    result: Value = op.Sub(direct, op.Mul(op.Mul(x, shared), 2 * alpha * beta / size))
    return result


def _channel_sums(op: Writer, size: int) -> Callable[[Value, int, int], Value]:
    def sums(x: Value, below: int, above: int) -> Value:
        """The sums over the channels from `below` before to `above` after each."""
        flat = op.Reshape(x, op.sizes(op.size(x, 0), 1, op.size(x, 1), -1))
        ones = op.Expand(op.like(1, x), [1, 1, size, 1])
        return op.reshaped(op.Conv(flat, ones, pads=[below, 0, above, 0]), x)

    return sums


def _standard(op: Writer, x: Value, axes: list[int], epsilon: float) -> tuple[Value, Value]:
    """X less its mean, and 1 over its standard deviation, along `axes`."""
    centered = op.Sub(x, op.ReduceMean(x, axes, keepdims=1))
    variance = op.ReduceMean(op.Mul(centered, centered), axes, keepdims=1)
    return centered, op.Reciprocal(op.Sqrt(op.Add(variance, epsilon)))


def _unstandardized(op: Writer, dy: Value, y: Value, inverse: Value, axes: list[int]) -> Value:
    """The gradient by X of Y, X standardized along `axes` with deviations 1 / `inverse`."""
    mean = op.ReduceMean(dy, axes, keepdims=1)
    along = op.ReduceMean(op.Mul(dy, y), axes, keepdims=1)
    result: Value = op.Mul(inverse, op.Sub(op.Sub(dy, mean), op.Mul(y, along)))
    return result


def _per_channel(op: Writer, parameter: Value, rank: int) -> Value:
    if rank <= 2:
        return parameter
    column: Value = op.Unsqueeze(parameter, list(range(1, rank - 1)))
    return column


def _over_channels(op: Writer, value: Value, rank: int) -> Value:
    total: Value = op.ReduceSum(value, [axis for axis in range(rank) if axis != 1], keepdims=0)
    return total
