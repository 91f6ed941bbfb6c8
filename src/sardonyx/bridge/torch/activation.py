"""Activation functions and the softmax family."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from sardonyx.bridge.torch.registry import implementation
from sardonyx.bridge.torch.tensors import wide


@implementation("Relu", ignored=("consumed_inputs",))
def relu(x: Tensor) -> Tensor:
    return torch.relu(x)


@implementation("Sigmoid", ignored=("consumed_inputs",))
def sigmoid(x: Tensor) -> Tensor:
    return torch.sigmoid(x)


@implementation("Softplus", ignored=("consumed_inputs",))
def softplus(x: Tensor) -> Tensor:
    return torch.logaddexp(x, torch.zeros_like(x))


@implementation("Softsign", ignored=("consumed_inputs",))
def softsign(x: Tensor) -> Tensor:
    return functional.softsign(x)


@implementation("HardSwish")
def hard_swish(x: Tensor) -> Tensor:
    return functional.hardswish(x)


@implementation("Mish")
def mish(x: Tensor) -> Tensor:
    return functional.mish(x)


@implementation("LeakyRelu", ignored=("consumed_inputs",))
def leaky_relu(x: Tensor, *, alpha: float = 0.01) -> Tensor:
    return functional.leaky_relu(x, alpha)


@implementation("Elu", ignored=("consumed_inputs",))
def elu(x: Tensor, *, alpha: float = 1.0) -> Tensor:
    return functional.elu(x, alpha)


@implementation("Selu", ignored=("consumed_inputs",))
def selu(x: Tensor, *, alpha: float = 1.6732632, gamma: float = 1.050701) -> Tensor:
    return gamma * functional.elu(x, alpha)


@implementation("Celu")
def celu(x: Tensor, *, alpha: float = 1.0) -> Tensor:
    return functional.celu(x, alpha)


@implementation("HardSigmoid", ignored=("consumed_inputs",))
def hard_sigmoid(x: Tensor, *, alpha: float = 0.2, beta: float = 0.5) -> Tensor:
    return torch.clamp(alpha * x + beta, 0, 1)


@implementation("ThresholdedRelu")
def thresholded_relu(x: Tensor, *, alpha: float = 1.0) -> Tensor:
    return torch.where(x > alpha, x, torch.zeros_like(x))


@implementation("Swish")
def swish(x: Tensor, *, alpha: float = 1.0) -> Tensor:
    return functional.silu(x) if alpha == 1.0 else x * torch.sigmoid(alpha * x)


@implementation("Gelu")
def gelu(x: Tensor, *, approximate: str = "none") -> Tensor:
    return functional.gelu(x, approximate=approximate)


@implementation("Shrink")
def shrink(x: Tensor, *, bias: float = 0.0, lambd: float = 0.5) -> Tensor:
    values = x if x.dtype.is_floating_point else x.double()
    inner = torch.where(values > lambd, values - bias, torch.zeros_like(values))
    return torch.where(values < -lambd, values + bias, inner).to(x.dtype)


@implementation("PRelu", ignored=("consumed_inputs",))
def prelu(x: Tensor, slope: Tensor, *, version: int = 16) -> Tensor:
    if version < 7:
        per_channel = slope.numel() > 1 and x.dim() > 1
        slope = slope.reshape((-1,) + (1,) * (x.dim() - 2) if per_channel else (-1,))
    if slope.dim() > x.dim():
        slope = slope.reshape(())
    return torch.where(x < 0, slope * x, x)


def _from_front(axis: int, rank: int) -> int:
    return axis + rank if axis < 0 else axis


def _matrix(x: Tensor, axis: int) -> Tensor:
    """`x` as a matrix: the dimensions before `axis`, and those from it on."""
    axis = _from_front(axis, max(x.dim(), 1))
    if x.dim() == 0:
        return x.reshape(1, 1)
    return x.reshape(math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))


@implementation("Softmax")
def softmax(x: Tensor, *, axis: int = -1) -> Tensor:
    return torch.softmax(x, axis)


@implementation("Softmax", before=13)
def softmax_of_rest(x: Tensor, *, axis: int = 1) -> Tensor:
    return torch.softmax(_matrix(x, axis), 1).reshape(x.shape)


@implementation("LogSoftmax")
def log_softmax(x: Tensor, *, axis: int = -1) -> Tensor:
    return torch.log_softmax(x, axis)


@implementation("LogSoftmax", before=13)
def log_softmax_of_rest(x: Tensor, *, axis: int = 1) -> Tensor:
    return torch.log_softmax(_matrix(x, axis), 1).reshape(x.shape)


@implementation("Hardmax")
def hardmax(x: Tensor, *, axis: int = -1) -> Tensor:
    first = wide(x).argmax(axis, keepdim=True)
    return torch.zeros_like(x).scatter(axis, first, 1)


@implementation("Hardmax", before=13)
def hardmax_of_rest(x: Tensor, *, axis: int = 1) -> Tensor:
    return hardmax(_matrix(x, axis), axis=1).reshape(x.shape)


@implementation("SwiGLU")
def swiglu(a: Tensor, b: Tensor, *, alpha: float = 1.0) -> Tensor:
    return a * torch.sigmoid(alpha * a) * b
