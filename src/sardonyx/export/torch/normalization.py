"""Normalizations: batch, instance, layer, group, root mean square."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from sardonyx import dtypes
from sardonyx.export.torch.registry import TorchBuilder, product, static, translation
from sardonyx.export.torch.tensors import torch_dtype_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sardonyx.dims import DimLike
    from sardonyx.ir.value import Value

__all__: list[str] = []


def _vector(op: TorchBuilder, given: Value | None, fill: float, channels: DimLike) -> Value:
    if given is not None:
        return given
    (count,) = static([channels], "a normalization without weights")
    return op.constant(np.full(count, fill), op.result())


@translation("aten.batch_norm.default")
def batch_norm(op: TorchBuilder, x: Value, weight: Value | None, bias: Value | None,
               mean: Value | None, var: Value | None, training: bool, momentum: float,
               eps: float, *_: Any) -> Any:  # fmt: skip
    if mean is not None and var is not None and not training:
        channels = op.shape_of(x)[1]
        scale, shift = _vector(op, weight, 1, channels), _vector(op, bias, 0, channels)
        return op.BatchNormalization(x, scale, shift, mean, var, epsilon=eps)
    return _of_batch(op, x, weight, bias, eps)[0]


def _of_batch(
    op: TorchBuilder, x: Value, weight: Value | None, bias: Value | None, eps: float
) -> tuple[Value, Value, Value]:
    """Normalized by the batch's own statistics; the mean and the biased variance, kept dims."""
    rank = op.rank_of(x)
    axes = [axis for axis in range(rank) if axis != 1]
    mean, centred, variance = _moments(op, x, axes)
    result = op.Div(centred, op.Sqrt(op.Add(variance, op.constant(eps, op.dtype_of(x)))))
    return _scaled(op, result, weight, bias, rank - 2), mean, variance


@translation("aten._native_batch_norm_legit_no_training.default")
def native_batch_norm(op: TorchBuilder, x: Value, weight: Value | None, bias: Value | None,
                      mean: Value, var: Value, momentum: float, eps: float) -> Any:  # fmt: skip
    none = op.constant(np.zeros(0), op.dtype_of(mean))
    return batch_norm(op, x, weight, bias, mean, var, False, momentum, eps), none, none


@translation("aten._native_batch_norm_legit.no_stats")
def batch_norm_of_batch(op: TorchBuilder, x: Value, weight: Value | None, bias: Value | None,
                        training: bool, momentum: float, eps: float) -> Any:  # fmt: skip
    result, mean, variance = _of_batch(op, x, weight, bias, eps)
    return result, _flat(op, mean), _flat(op, _inverse(op, variance, eps))


@translation("aten._native_batch_norm_legit_functional.default")
def batch_norm_with_state(op: TorchBuilder, x: Value, weight: Value | None, bias: Value | None,
                          mean: Value, var: Value, training: bool, momentum: float,
                          eps: float) -> Any:  # fmt: skip
    if not training:
        none = op.constant(np.zeros(0), op.dtype_of(mean))
        result = batch_norm(op, x, weight, bias, mean, var, False, momentum, eps)
        return result, none, none, mean, var
    result, own, variance = _of_batch(op, x, weight, bias, eps)
    own, flat = _flat(op, own), _flat(op, variance)
    dtype = op.dtype_of(x)
    count = op.scalar(product([d for axis, d in enumerate(op.shape_of(x)) if axis != 1]), dtype)
    unbiased = op.Mul(flat, op.Div(count, op.Sub(count, op.constant(1, dtype))))
    old, new = op.constant(1 - momentum, dtype), op.constant(momentum, dtype)
    states = [
        op.Add(op.Mul(state, old), op.Mul(found, new))
        for state, found in ((mean, own), (var, unbiased))
    ]
    return result, own, _flat(op, _inverse(op, variance, eps)), *states


@translation("aten._batch_norm_with_update_functional.default")
def batch_norm_with_update(op: TorchBuilder, x: Value, weight: Value | None, bias: Value | None,
                           mean: Value, var: Value, momentum: float,
                           eps: float) -> Any:  # fmt: skip
    result, own, inverse, *states = batch_norm_with_state(
        op, x, weight, bias, mean, var, True, momentum, eps
    )
    return result, own, inverse, op.constant(np.zeros(0), dtypes.UINT8), *states


@translation("aten._batch_norm_no_update.default")
def batch_norm_without_update(op: TorchBuilder, x: Value, weight: Value | None,
                              bias: Value | None, mean: Value, var: Value, momentum: float,
                              eps: float) -> Any:  # fmt: skip
    results = native_batch_norm(op, x, weight, bias, mean, var, momentum, eps)
    return *results, op.constant(np.zeros(0), dtypes.UINT8)


def _inverse(op: TorchBuilder, variance: Value, eps: float) -> Value:
    """The reciprocal of sqrt(variance + eps)."""
    dtype = op.dtype_of(variance)
    found = op.Reciprocal(op.Sqrt(op.Add(variance, op.constant(eps, dtype))))
    return op.typed(found, dtype, op.shape_of(variance))


def _flat(op: TorchBuilder, x: Value) -> Value:
    """The channels alone."""
    return op.squeeze(x, [axis for axis in range(op.rank_of(x)) if axis != 1])


@translation("aten.instance_norm.default")
def instance_norm(op: TorchBuilder, x: Value, weight: Value | None, bias: Value | None,
                  mean: Value | None, var: Value | None, use_input_stats: bool, momentum: float,
                  eps: float, *_: Any) -> Any:  # fmt: skip
    if not use_input_stats:
        return batch_norm(op, x, weight, bias, mean, var, False, momentum, eps)
    channels = op.shape_of(x)[1]
    scale, shift = _vector(op, weight, 1, channels), _vector(op, bias, 0, channels)
    return op.InstanceNormalization(x, scale, shift, epsilon=eps)


def _moments(op: TorchBuilder, x: Value, axes: Sequence[int]) -> tuple[Value, Value, Value]:
    """The mean, x less the mean, and the variance, over `axes`, which are kept."""
    mean = op.reduce("Mean", x, axes, True)
    centred = op.Sub(x, mean)
    squares = op.typed(op.Mul(centred, centred), op.dtype_of(x), op.shape_of(x))
    return mean, centred, op.reduce("Mean", squares, axes, True)


def _normalized(op: TorchBuilder, x: Value, axes: Sequence[int], eps: float, scale: Value | None,
                shift: Value | None, trailing: int = 0) -> Any:  # fmt: skip
    """(x - mean) / sqrt(variance + eps) * scale + shift; scale and shift get `trailing` axes."""
    _, centred, variance = _moments(op, x, axes)
    result = op.Div(centred, op.Sqrt(op.Add(variance, op.constant(eps, op.dtype_of(x)))))
    return _scaled(op, result, scale, shift, trailing)


def _scaled(
    op: TorchBuilder, x: Value, scale: Value | None, shift: Value | None, trailing: int
) -> Any:
    if scale is not None:
        x = op.Mul(x, _spread(op, scale, trailing))
    return x if shift is None else op.Add(x, _spread(op, shift, trailing))


def _spread(op: TorchBuilder, x: Value, trailing: int) -> Value:
    return op.unsqueeze(x, list(range(1, trailing + 1))) if trailing else x


@translation("aten.layer_norm.default")
def layer_norm(op: TorchBuilder, x: Value, shape: Sequence[int], weight: Value | None = None,
               bias: Value | None = None, eps: float = 1e-5, *_: Any) -> Any:  # fmt: skip
    rank = op.rank_of(x)
    first = rank - len(shape)
    if op.opset < 17:
        return _normalized(op, x, list(range(first, rank)), eps, weight, bias)
    if weight is None:
        weight = op.constant(np.ones(static(shape, "layer_norm")), op.result())
    return op.LayerNormalization(x, weight, bias, axis=first, epsilon=eps)


@translation("aten.native_layer_norm.default")
def native_layer_norm(op: TorchBuilder, x: Value, shape: Sequence[int], weight: Value | None,
                      bias: Value | None, eps: float) -> Any:  # fmt: skip
    rank = op.rank_of(x)
    mean, _, variance = _moments(op, x, list(range(rank - len(shape), rank)))
    return layer_norm(op, x, shape, weight, bias, eps), mean, _inverse(op, variance, eps)


@translation("aten.rms_norm.default")
def rms_norm(op: TorchBuilder, x: Value, shape: Sequence[int], weight: Value | None = None,
             eps: float | None = None) -> Any:  # fmt: skip
    dtype, rank = op.result(), op.rank_of(x)
    if eps is None:
        eps = float(torch.finfo(torch_dtype_of(dtype)).eps)
    first = rank - len(shape)
    if op.opset >= 23:
        if weight is None:
            weight = op.constant(np.ones(static(shape, "rms_norm")), dtype)
        return op.RMSNormalization(x, weight, axis=first, epsilon=eps)
    squares = op.typed(op.Mul(x, x), dtype, op.shape_of(x))
    mean = op.reduce("Mean", squares, list(range(first, rank)), True)
    result = op.Div(x, op.Sqrt(op.Add(mean, op.constant(eps, dtype))))
    return result if weight is None else op.Mul(result, weight)


@translation("aten.group_norm.default")
def group_norm(op: TorchBuilder, x: Value, groups: int, weight: Value | None = None,
               bias: Value | None = None, eps: float = 1e-5, *_: Any) -> Any:  # fmt: skip
    shape = op.shape_of(x)
    dtype = op.dtype_of(x)
    if op.opset >= 21 and weight is not None and bias is not None:
        return op.GroupNormalization(x, weight, bias, num_groups=groups, epsilon=eps)
    ones, zeros = op.constant(np.ones(groups), dtype), op.constant(np.zeros(groups), dtype)
    grouped = op.Reshape(x, op.ints([0, groups, -1]))
    flat = op.InstanceNormalization(grouped, ones, zeros, epsilon=eps)
    result = op.reshape(op.typed(flat, dtype, [shape[0], groups, None]), shape)
    return _scaled(op, result, weight, bias, len(shape) - 2)


@translation("aten.native_group_norm.default")
def native_group_norm(op: TorchBuilder, x: Value, weight: Value | None, bias: Value | None,
                      batch: DimLike, channels: int, size: DimLike, groups: int,
                      eps: float) -> Any:  # fmt: skip
    grouped = op.reshape(x, [batch, groups, channels // groups * size])
    op.typed(grouped, op.dtype_of(x), [batch, groups, channels // groups * size])
    mean, _, variance = _moments(op, grouped, [2])
    inverse = _inverse(op, variance, eps)
    result = group_norm(op, x, groups, weight, bias, eps)
    return result, op.squeeze(mean, [2]), op.squeeze(inverse, [2])
