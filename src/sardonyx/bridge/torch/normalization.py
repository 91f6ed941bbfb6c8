"""Normalizations, and Dropout."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from sardonyx.bridge.torch.registry import implementation
from sardonyx.bridge.torch.sizes import boolean, numbers

if TYPE_CHECKING:
    from collections.abc import Sequence


def _wide(x: Tensor, stash_type: int = 1) -> Tensor:
    return x.float() if stash_type == 1 and x.dtype in {torch.float16, torch.bfloat16} else x


def _by_channel(x: Tensor, given: Tensor) -> Tensor:
    return given.reshape(-1, *(1,) * (x.dim() - 2))


@implementation("BatchNormalization", ignored=("consumed_inputs",))
def batch_normalization(
    x: Tensor,
    scale: Tensor,
    bias: Tensor,
    mean: Tensor,
    variance: Tensor,
    *,
    epsilon: float = 1e-5,
    momentum: float = 0.9,
    training_mode: int = 0,
    spatial: int = 1,
    is_test: int = 0,
    n_outputs: int = 1,
    version: int = 15,
) -> Any:
    if not spatial:
        parts = [part.reshape(x.shape[1:]) for part in (scale, bias, mean, variance)]
        return (x - parts[2]) * torch.rsqrt(parts[3] + epsilon) * parts[0] + parts[1]
    is_training = training_mode == 1 or (version < 14 and n_outputs > 1 and not is_test)
    if not is_training:
        if len({part.dtype for part in (x, scale, mean)}) == 1 and x.dim() > 1:
            found = functional.batch_norm(x, mean, variance, scale, bias, False, 0.0, epsilon)
        else:
            wide = _wide(x)
            found = _scaled(wide, _wide(scale), _wide(bias), _wide(mean), _wide(variance), epsilon)
            found = found.to(x.dtype)
        return found if n_outputs == 1 else (found, mean, variance)
    axes = [axis for axis in range(x.dim()) if axis != 1]
    wide = _wide(x)
    current = wide.mean(axes)
    spread = wide.var(axes, correction=0)
    found = _scaled(wide, _wide(scale), _wide(bias), current, spread, epsilon).to(x.dtype)
    running = [
        (old * momentum + new * (1 - momentum)).to(old.dtype)
        for old, new in ((mean, current), (variance, spread))
    ]
    return (found, *running, current, spread)[:n_outputs]


def _scaled(
    x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor, epsilon: float
) -> Tensor:
    centred = x - _by_channel(x, mean)
    factor = scale * torch.rsqrt(variance + epsilon)
    return centred * _by_channel(x, factor) + _by_channel(x, bias)


@implementation("InstanceNormalization", ignored=("consumed_inputs",))
def instance_normalization(
    x: Tensor, scale: Tensor, bias: Tensor, *, epsilon: float = 1e-5
) -> Tensor:
    axes = list(range(2, x.dim()))
    mean = x.mean(axes, keepdim=True)
    variance = x.var(axes, correction=0, keepdim=True)
    centred = (x - mean) * torch.rsqrt(variance + epsilon)
    return centred * _by_channel(x, scale) + _by_channel(x, bias)


@implementation("GroupNormalization")
def group_normalization(
    x: Tensor,
    scale: Tensor,
    bias: Tensor,
    *,
    epsilon: float = 1e-5,
    num_groups: int,
    stash_type: int = 1,
    version: int = 21,
) -> Tensor:
    if version >= 21 and x.dtype == scale.dtype and x.dtype.itemsize >= 4:
        return functional.group_norm(x, num_groups, scale, bias, epsilon)
    if version < 21:
        repeats = x.shape[1] // num_groups
        scale, bias = scale.repeat_interleave(repeats), bias.repeat_interleave(repeats)
    found = functional.group_norm(_wide(x, stash_type), num_groups, None, None, epsilon)
    return found.to(x.dtype) * _by_channel(x, scale) + _by_channel(x, bias)


@implementation("LayerNormalization")
def layer_normalization(
    x: Tensor,
    scale: Tensor,
    bias: Tensor | None = None,
    *,
    axis: int = -1,
    epsilon: float = 1e-5,
    stash_type: int = 1,
    n_outputs: int = 1,
) -> Any:
    place = axis % x.dim()
    shape = x.shape[place:]
    if n_outputs == 1 and scale.shape == shape and (bias is None or bias.shape == shape):
        return functional.layer_norm(x, shape, scale, bias, epsilon)
    axes = list(range(place, x.dim()))
    wide = _wide(x, stash_type)
    mean = wide.mean(axes, keepdim=True)
    centred = wide - mean
    inverse = torch.rsqrt((centred * centred).mean(axes, keepdim=True) + epsilon)
    found = (centred * inverse).to(x.dtype) * scale
    found = found if bias is None else found + bias
    return found if n_outputs == 1 else (found, mean, inverse)[:n_outputs]


@implementation("RMSNormalization")
def rms_normalization(
    x: Tensor, scale: Tensor, *, axis: int = -1, epsilon: float = 1e-5, stash_type: int = 1
) -> Tensor:
    axes = list(range(axis % x.dim(), x.dim()))
    wide = _wide(x, stash_type)
    found = wide * torch.rsqrt((wide * wide).mean(axes, keepdim=True) + epsilon)
    return found.to(x.dtype).to(scale.dtype) * scale


@implementation("LRN")
def lrn(
    x: Tensor, *, alpha: float = 1e-4, beta: float = 0.75, bias: float = 1.0, size: int
) -> Tensor:
    before = (size - 1) // 2
    squares = (x * x).transpose(1, -1)
    padded = functional.pad(squares, [before, size - 1 - before])
    total = padded.unfold(-1, size, 1).sum(-1).transpose(1, -1)
    return x / (bias + alpha / size * total) ** beta


@implementation("LpNormalization")
def lp_normalization(x: Tensor, *, axis: int = -1, p: int = 2) -> Tensor:
    norm = x.abs().sum(axis, keepdim=True) if p == 1 else (x * x).sum(axis, keepdim=True).sqrt()
    is_zero = norm == 0
    return torch.where(is_zero, torch.zeros_like(x), x / torch.where(is_zero, norm + 1, norm))


@implementation("MeanVarianceNormalization")
def mean_variance_normalization(x: Tensor, *, axes: Sequence[int] = (0, 2, 3)) -> Tensor:
    places = [axis for axis in axes if -x.dim() <= axis < x.dim()]
    centred = x - x.mean(places, keepdim=True)
    spread = (centred * centred).mean(places, keepdim=True).sqrt()
    return centred / (spread + 1e-9)


@implementation("Dropout", host=("ratio", "training_mode"), ignored=("seed", "consumed_inputs"))
def dropout(
    x: Tensor,
    ratio: Any = None,
    training_mode: Any = None,
    *,
    is_test: int = 1,
    n_outputs: int = 1,
    version: int = 22,
) -> Any:
    is_training = training_mode is not None and boolean(training_mode)
    if version < 7 and not is_test:
        is_training = True
    share = 0.5 if ratio is None else float(numbers(ratio)[0])
    if not is_training or share == 0:
        mask = torch.ones_like(x, dtype=torch.bool)
        found = x
    else:
        mask = torch.rand_like(x, dtype=torch.float32) >= share
        found = torch.where(mask, x / (1 - share), torch.zeros_like(x))
    if version < 10:
        mask = mask.to(x.dtype)
    return found if n_outputs == 1 else (found, mask)
