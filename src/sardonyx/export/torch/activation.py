"""Activation functions."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, Any

from sardonyx.export.torch.registry import TorchBuilder, translation

if TYPE_CHECKING:
    from sardonyx.ir.value import Value

__all__: list[str] = []


@translation("aten.relu.default")
def relu(op: TorchBuilder, x: Value) -> Any:
    if op.result().is_floating:
        return op.Relu(x)
    return op.Max(x, op.constant(0, op.result()))


@translation("aten.relu6.default")
def relu6(op: TorchBuilder, x: Value) -> Any:
    return op.clip(x, 0, 6)


@translation("aten.hardtanh.default")
def hardtanh(op: TorchBuilder, x: Value, min_val: float = -1, max_val: float = 1) -> Any:
    return op.clip(x, min_val, max_val)


@translation("aten.leaky_relu.default")
def leaky_relu(op: TorchBuilder, x: Value, negative_slope: float = 0.01) -> Any:
    return op.LeakyRelu(x, alpha=negative_slope)


@translation("aten.rrelu.default", "aten.rrelu_with_noise.default")
def rrelu(op: TorchBuilder, x: Value, *rest: Any) -> Any:
    bounds = [item for item in rest if isinstance(item, float)] or [1 / 8, 1 / 3]
    if any(item is True for item in rest) and bounds[0] != bounds[-1]:
        warnings.warn("rrelu in training draws slopes; their mean is exported", stacklevel=2)
    return op.LeakyRelu(x, alpha=sum(bounds) / len(bounds))


@translation("aten.elu.default")
def elu(
    op: TorchBuilder, x: Value, alpha: float = 1, scale: float = 1, input_scale: float = 1
) -> Any:
    if scale == 1 and input_scale == 1:
        return op.Elu(x, alpha=alpha)
    if input_scale == 1:
        return op.Selu(x, alpha=alpha, gamma=scale)
    dtype = op.result()
    inner = op.Exp(op.Mul(x, op.constant(input_scale, dtype)))
    low = op.Mul(op.Sub(inner, op.constant(1, dtype)), op.constant(alpha * scale, dtype))
    high = op.Mul(x, op.constant(scale, dtype))
    return op.Where(op.Greater(x, op.constant(0, dtype)), high, low)


@translation("aten.selu.default")
def selu(op: TorchBuilder, x: Value) -> Any:
    return op.Selu(
        x, alpha=1.6732632423543772848170429916717, gamma=1.0507009873554804934193349852946
    )


@translation("aten.celu.default")
def celu(op: TorchBuilder, x: Value, alpha: float = 1) -> Any:
    # alpha (e^(x/alpha) - 1) for x < 0
    dtype = op.result()
    scale = op.constant(alpha, dtype)
    return op.Mul(op.Elu(op.Div(x, scale), alpha=1.0), scale)


@translation("aten.gelu.default")
def gelu(op: TorchBuilder, x: Value, *, approximate: str = "none") -> Any:
    if op.opset >= 20:
        return op.Gelu(x, approximate=approximate)
    dtype = op.result()
    half, one = op.constant(0.5, dtype), op.constant(1, dtype)
    if approximate == "tanh":
        cube = op.Mul(op.Mul(x, op.Mul(x, x)), op.constant(0.044715, dtype))
        inner = op.Mul(op.Add(x, cube), op.constant(math.sqrt(2 / math.pi), dtype))
        bell = op.Tanh(inner)
    else:
        bell = op.Erf(op.Div(x, op.constant(math.sqrt(2), dtype)))
    return op.Mul(op.Mul(x, op.Add(bell, one)), half)


@translation("aten.silu.default")
def silu(op: TorchBuilder, x: Value) -> Any:
    return op.Mul(x, op.Sigmoid(x))


@translation("aten.mish.default")
def mish(op: TorchBuilder, x: Value) -> Any:
    return op.Mish(x) if op.opset >= 18 else op.Mul(x, op.Tanh(op.Softplus(x)))


@translation("aten.hardsigmoid.default")
def hardsigmoid(op: TorchBuilder, x: Value) -> Any:
    return op.HardSigmoid(x, alpha=1 / 6, beta=0.5)


@translation("aten.hardswish.default")
def hardswish(op: TorchBuilder, x: Value) -> Any:
    return (
        op.HardSwish(x) if op.opset >= 14 else op.Mul(x, op.HardSigmoid(x, alpha=1 / 6, beta=0.5))
    )


@translation("aten.softplus.default")
def softplus(op: TorchBuilder, x: Value, beta: Any = 1, threshold: Any = 20) -> Any:
    # above the threshold torch returns x, which log(1 + e^x) equals there to the last digit
    dtype = op.result()
    if beta == 1 and threshold >= 20:
        return op.Softplus(x)
    scale = op.constant(beta, dtype)
    scaled = op.Mul(x, scale)
    soft = op.Div(op.Softplus(scaled), scale)
    return op.Where(op.Greater(scaled, op.constant(threshold, dtype)), x, soft)


@translation("aten.softsign.default")
def softsign(op: TorchBuilder, x: Value) -> Any:
    return op.Softsign(x)


@translation("aten.softshrink.default")
def softshrink(op: TorchBuilder, x: Value, lambd: Any = 0.5) -> Any:
    return op.Shrink(x, bias=lambd, lambd=lambd)


@translation("aten.hardshrink.default")
def hardshrink(op: TorchBuilder, x: Value, lambd: Any = 0.5) -> Any:
    return op.Shrink(x, bias=0.0, lambd=lambd)


@translation("aten.threshold.default")
def threshold(op: TorchBuilder, x: Value, threshold: Any, value: Any) -> Any:
    dtype = op.result()
    above = op.Greater(x, op.constant(threshold, dtype))
    return op.Where(above, x, op.constant(value, dtype))


@translation("aten.prelu.default", "aten._prelu_kernel.default")
def prelu(op: TorchBuilder, x: Value, weight: Value) -> Any:
    rank, count = op.rank_of(x), op.rank_of(weight)
    if count == 1 and rank > 2 and op.shape_of(weight)[0] != 1:
        weight = op.unsqueeze(weight, list(range(1, rank - 1)))
    return op.PRelu(x, weight)


@translation("aten.log_sigmoid.default", "aten.log_sigmoid_forward.default")
def log_sigmoid(op: TorchBuilder, x: Value) -> Any:
    result = op.Neg(op.Softplus(op.Neg(x)))
    return (result, None) if len(op.result_shapes) > 1 else result


@translation("aten.glu.default")
def glu(op: TorchBuilder, x: Value, dim: int = -1) -> Any:
    axis = dim % op.rank_of(x)
    size = op.shape_of(x)[axis]
    first = op.slice(x, axis, 0, size // 2)
    second = op.slice(x, axis, size // 2, size)
    return op.Mul(first, op.Sigmoid(second))


def _along(op: TorchBuilder, op_type: str, x: Value, dim: int) -> Any:
    rank = op.rank_of(x)
    if rank == 0:
        return op.squeeze(_along(op, op_type, op.unsqueeze(x, [0]), 0), [0])
    axis = dim % rank
    if op.opset >= 13 or axis == rank - 1:
        return op.apply(op_type, [x], axis=axis)
    order = [*range(axis), rank - 1, *range(axis + 1, rank - 1), axis]
    turned = op.apply(op_type, [op.Transpose(x, perm=order)], axis=rank - 1)
    return op.Transpose(turned, perm=order)


@translation("aten.softmax.int", "aten._softmax.default")
def softmax(op: TorchBuilder, x: Value, dim: int, *_: Any, **__: Any) -> Any:
    return _along(op, "Softmax", op.cast(x, op.result()), dim)


@translation("aten._safe_softmax.default")
def safe_softmax(op: TorchBuilder, x: Value, dim: int, *_: Any, **__: Any) -> Any:
    # a row of -inf gives 0
    dtype = op.result()
    soft = _along(op, "Softmax", op.cast(x, dtype), dim)
    return op.Where(op.IsNaN(soft), op.constant(0, dtype), soft)


@translation("aten.log_softmax.int", "aten._log_softmax.default")
def log_softmax(op: TorchBuilder, x: Value, dim: int, *_: Any, **__: Any) -> Any:
    return _along(op, "LogSoftmax", op.cast(x, op.result()), dim)
