"""Matrix products."""

from __future__ import annotations

import torch
from torch import Tensor

from sardonyx.bridge.torch.registry import implementation
from sardonyx.bridge.torch.tensors import narrow, widened


@implementation("MatMul")
def matmul(a: Tensor, b: Tensor) -> Tensor:
    dtype = a.dtype
    a, b = widened(a, b)
    return narrow(torch.matmul(a, b), dtype)


@implementation("Gemm", ignored=("broadcast",))
def gemm(
    a: Tensor,
    b: Tensor,
    c: Tensor | None = None,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    transA: int = 0,  # noqa: N803
    transB: int = 0,  # noqa: N803
) -> Tensor:
    dtype = a.dtype
    a, b = widened(a, b)
    a = a.t() if transA else a
    if c is None or not dtype.is_floating_point:
        product = torch.matmul(a, b.t() if transB else b)
        product = _scaled(product, alpha)
        if c is not None:
            product = product + _scaled(widened(c)[0], beta)
        return narrow(product, dtype)
    if alpha == beta == 1.0 and transB and c.dim() == 1 and c.shape[0] == b.shape[0]:
        return torch.nn.functional.linear(a, b, c)
    return torch.addmm(c, a, b.t() if transB else b, beta=beta, alpha=alpha)


def _scaled(x: Tensor, factor: float) -> Tensor:
    if factor == 1.0:
        return x
    return (
        (x * factor).to(x.dtype) if x.dtype.is_floating_point else (x.double() * factor).to(x.dtype)
    )


def _along(point: Tensor, operand: Tensor, axis: int) -> Tensor:
    """A zero point or scale, one or one for each element of `axis`, as it broadcasts."""
    if point.dim() != 1 or point.numel() == 1:
        return point.reshape(()) if point.numel() == 1 else point
    shape = [1] * operand.dim()
    shape[axis] = point.shape[0]
    return point.reshape(shape)


def integers(x: Tensor, zero_point: Tensor | None, axis: int) -> Tensor:
    """`x` less its zero point, exactly, in DOUBLE: sums of products of 8 bits are exact in it."""
    wide = x.double()
    return wide if zero_point is None else wide - _along(zero_point, x, axis).double()


@implementation("MatMulInteger")
def matmul_integer(
    a: Tensor, b: Tensor, a_zero_point: Tensor | None = None, b_zero_point: Tensor | None = None
) -> Tensor:
    left = integers(a, a_zero_point, a.dim() - 2 if a.dim() > 1 else 0)
    right = integers(b, b_zero_point, b.dim() - 1)
    return torch.matmul(left, right).long().to(torch.int32)


@implementation("Einsum")
def einsum(*operands: Tensor, equation: str) -> Tensor:
    dtype = operands[0].dtype
    return narrow(torch.einsum(equation.replace(" ", ""), *widened(*operands)), dtype)
