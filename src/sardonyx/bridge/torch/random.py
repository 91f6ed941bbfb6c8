"""Random numbers: those of PyTorch's generator, whatever seed a node has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sardonyx.bridge.torch.registry import implementation
from sardonyx.bridge.torch.tensors import wide

if TYPE_CHECKING:
    from collections.abc import Sequence

_IGNORED = ("seed", "dtype")


@implementation("RandomNormal", ignored=_IGNORED)
def random_normal(
    *,
    shape: Sequence[int],
    mean: float = 0.0,
    scale: float = 1.0,
    dtype: Any = torch.float32,
    device: Any = None,
) -> Tensor:
    return (torch.randn(list(shape), device=device) * scale + mean).to(dtype)


@implementation("RandomUniform", ignored=_IGNORED)
def random_uniform(
    *,
    shape: Sequence[int],
    low: float = 0.0,
    high: float = 1.0,
    dtype: Any = torch.float32,
    device: Any = None,
) -> Tensor:
    return (torch.rand(list(shape), device=device) * (high - low) + low).to(dtype)


@implementation("RandomNormalLike", ignored=_IGNORED)
def random_normal_like(
    x: Tensor, *, mean: float = 0.0, scale: float = 1.0, dtype: Any = None
) -> Tensor:
    return (torch.randn(x.shape, device=x.device) * scale + mean).to(dtype or x.dtype)


@implementation("RandomUniformLike", ignored=_IGNORED)
def random_uniform_like(
    x: Tensor, *, low: float = 0.0, high: float = 1.0, dtype: Any = None
) -> Tensor:
    return (torch.rand(x.shape, device=x.device) * (high - low) + low).to(dtype or x.dtype)


@implementation("Bernoulli", ignored=_IGNORED)
def bernoulli(x: Tensor, *, dtype: Any = None) -> Tensor:
    return torch.bernoulli(wide(x).nan_to_num(0.0).clamp(0, 1)).to(dtype or x.dtype)


@implementation("Multinomial", ignored=_IGNORED)
def multinomial(x: Tensor, *, sample_size: int = 1, dtype: Any = torch.int32) -> Tensor:
    shares = torch.softmax(wide(x), 1)
    return torch.multinomial(shares, sample_size, replacement=True).to(dtype)
