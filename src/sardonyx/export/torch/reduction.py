"""Reductions and matrix products."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from sardonyx import dtypes
from sardonyx.errors import ExportError
from sardonyx.export.torch.registry import TorchBuilder, TorchValue, positive, product, translation
from sardonyx.ir.value import Value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sardonyx.dtypes import DType

__all__: list[str] = []

Axes = Any


def _reduce(op: TorchBuilder, kind: str, x: Value, dim: Axes, keepdim: bool, dtype: DType) -> Value:
    x = op.cast(x, dtype)
    rank = op.rank_of(x)
    if not rank:
        return x if kind in {"Sum", "Mean", "Max", "Min", "Prod"} else op.reduce(kind, x, [], False)
    axes = None if dim is None or dim == [] else positive(dim, rank)
    return op.reduce(kind, x, axes or [], keepdim)


def _whole(op: TorchBuilder, kind: str, x: Value, dim: Axes, keepdim: bool) -> Any:
    if x.dtype is dtypes.BOOL and op.opset < 20:
        found = _reduce(op, kind, x, dim, keepdim, dtypes.INT32)
        return op.cast(found, dtypes.BOOL)
    return _reduce(op, kind, x, dim, keepdim, op.dtype_of(x))


@translation("aten.sum.default", "aten.sum.dim_IntList")
def sum_(op: TorchBuilder, x: Value, dim: Axes = None, keepdim: bool = False, **_: Any) -> Any:
    return _reduce(op, "Sum", x, dim, keepdim, op.result())


@translation("aten.mean.default", "aten.mean.dim")
def mean(op: TorchBuilder, x: Value, dim: Axes = None, keepdim: bool = False, **_: Any) -> Any:
    dtype = op.result()
    axes = positive(dim if dim != [] else None, op.rank_of(x))
    count = product([op.shape_of(x)[axis] for axis in axes])
    if count == 0:
        # onnxruntime's ReduceMean of nothing is 0
        return op.Div(_reduce(op, "Sum", x, dim, keepdim, dtype), op.constant(0, dtype))
    return _reduce(op, "Mean", x, dim, keepdim, dtype)


@translation("aten.prod.default")
def prod(op: TorchBuilder, x: Value, **_: Any) -> Any:
    return _reduce(op, "Prod", x, None, False, op.result())


@translation("aten.prod.dim_int")
def prod_dim(op: TorchBuilder, x: Value, dim: int, keepdim: bool = False, **_: Any) -> Any:
    return _reduce(op, "Prod", x, dim, keepdim, op.result())


@translation("aten.amax.default")
def amax(op: TorchBuilder, x: Value, dim: Axes = None, keepdim: bool = False) -> Any:
    return _whole(op, "Max", x, dim, keepdim)


@translation("aten.amin.default")
def amin(op: TorchBuilder, x: Value, dim: Axes = None, keepdim: bool = False) -> Any:
    return _whole(op, "Min", x, dim, keepdim)


@translation("aten.max.default")
def max_(op: TorchBuilder, x: Value) -> Any:
    return _whole(op, "Max", x, None, False)


@translation("aten.min.default")
def min_(op: TorchBuilder, x: Value) -> Any:
    return _whole(op, "Min", x, None, False)


@translation("aten.max.dim")
def max_dim(op: TorchBuilder, x: Value, dim: int, keepdim: bool = False) -> Any:
    return _whole(op, "Max", x, dim, keepdim), _argument(op, "ArgMax", x, dim, keepdim)


@translation("aten.min.dim")
def min_dim(op: TorchBuilder, x: Value, dim: int, keepdim: bool = False) -> Any:
    return _whole(op, "Min", x, dim, keepdim), _argument(op, "ArgMin", x, dim, keepdim)


@translation("aten.argmax.default")
def argmax(op: TorchBuilder, x: Value, dim: int | None = None, keepdim: bool = False) -> Any:
    return _argument(op, "ArgMax", x, dim, keepdim)


@translation("aten.argmin.default")
def argmin(op: TorchBuilder, x: Value, dim: int | None = None, keepdim: bool = False) -> Any:
    return _argument(op, "ArgMin", x, dim, keepdim)


def _argument(op: TorchBuilder, op_type: str, x: Value, dim: int | None, keepdim: bool) -> Any:
    rank = op.rank_of(x)
    if x.dtype is dtypes.BOOL:
        x = op.cast(x, dtypes.INT32)
    if dim is None or not rank:
        found = op.apply(op_type, [op.Reshape(x, op.ints([-1]))], axis=0, keepdims=0)
        return op.Reshape(found, op.ints([1] * rank)) if keepdim and rank else found
    return op.apply(op_type, [x], axis=dim % rank, keepdims=int(keepdim))


@translation("aten.any.default", "aten.any.dim", "aten.any.dims")
def any_(op: TorchBuilder, x: Value, dim: Axes = None, keepdim: bool = False) -> Any:
    return _whole(op, "Max", op.cast(x, dtypes.BOOL), dim, keepdim)


@translation("aten.all.default", "aten.all.dim", "aten.all.dims")
def all_(op: TorchBuilder, x: Value, dim: Axes = None, keepdim: bool = False) -> Any:
    return _whole(op, "Min", op.cast(x, dtypes.BOOL), dim, keepdim)


def _variance(op: TorchBuilder, x: Value, dim: Axes, correction: Any, keepdim: bool) -> Any:
    """The variance, and the mean."""
    dtype = op.result()
    x = op.cast(x, dtype)
    shape = op.shape_of(x)
    axes = positive(dim if dim != [] else None, len(shape))
    average = op.reduce("Mean", x, axes, True)
    centred = op.Sub(x, average)
    total = op.typed(op.Mul(centred, centred), dtype, shape)
    kept = average if keepdim else op.squeeze(average, axes)
    correction = 1 if correction is None else correction
    whole = product([shape[axis] for axis in axes])
    if whole == 0:
        nan = op.constant(math.nan, dtype)
        return op.Add(op.reduce("Sum", total, axes, keepdim), nan), op.Add(kept, nan)
    if correction == 0:
        return op.reduce("Mean", total, axes, keepdim), kept
    if isinstance(whole, int):
        degrees = op.constant(max(whole - correction, 0), dtype)
    else:
        degrees = op.Sub(op.scalar(whole, dtype), op.constant(correction, dtype))
        degrees = op.Max(degrees, op.constant(0, dtype))
    return op.Div(op.reduce("Sum", total, axes, keepdim), degrees), kept


@translation("aten.var.correction")
def var(op: TorchBuilder, x: Value, dim: Axes = None, *, correction: Any = None,
        keepdim: bool = False) -> Any:  # fmt: skip
    return _variance(op, x, dim, correction, keepdim)[0]


@translation("aten.std.correction")
def std(op: TorchBuilder, x: Value, dim: Axes = None, *, correction: Any = None,
        keepdim: bool = False) -> Any:  # fmt: skip
    return op.Sqrt(_variance(op, x, dim, correction, keepdim)[0])


@translation("aten.var_mean.correction")
def var_mean(op: TorchBuilder, x: Value, dim: Axes = None, *, correction: Any = None,
             keepdim: bool = False) -> Any:  # fmt: skip
    return _variance(op, x, dim, correction, keepdim)


@translation("aten.logsumexp.default")
def logsumexp(op: TorchBuilder, x: Value, dim: Axes, keepdim: bool = False) -> Any:
    return _reduce(op, "LogSumExp", x, dim, keepdim, op.result())


@translation("aten.linalg_vector_norm.default")
def vector_norm(op: TorchBuilder, x: Value, ord: Any = 2, dim: Axes = None,
                keepdim: bool = False, **_: Any) -> Any:  # fmt: skip
    dtype = op.result()
    if ord in {1, 2}:
        return _reduce(op, f"L{int(ord)}", x, dim, keepdim, dtype)
    size = op.typed(op.Abs(op.cast(x, dtype)), dtype, op.shape_of(x))
    if math.isinf(ord):
        return _reduce(op, "Max" if ord > 0 else "Min", size, dim, keepdim, dtype)
    if ord == 0:
        present = op.typed(op.Sign(size), dtype, op.shape_of(x))
        return _reduce(op, "Sum", present, dim, keepdim, dtype)
    powers = op.typed(op.Pow(size, op.constant(ord, dtype)), dtype, op.shape_of(x))
    return op.Pow(_reduce(op, "Sum", powers, dim, keepdim, dtype), op.constant(1 / ord, dtype))


@translation("aten.cumsum.default")
def cumsum(op: TorchBuilder, x: Value, dim: int, **_: Any) -> Any:
    x = op.cast(x, op.result())
    rank = op.rank_of(x)
    return op.CumSum(x, op.constant(dim % rank, dtypes.INT64)) if rank else x


@translation("aten.mm.default", "aten.bmm.default", "aten.matmul.default", "aten.mv.default",
             "aten.dot.default")  # fmt: skip
def matmul(op: TorchBuilder, a: Value, b: Value) -> Any:
    dtype = op.result()
    if not dtype.is_integer or dtype in {dtypes.INT32, dtypes.INT64}:
        return op.MatMul(a, b)
    # in 32 bits the last 8 or 16 are the same
    wide = op.MatMul(op.cast(a, dtypes.INT32), op.cast(b, dtypes.INT32))
    return op.cast(wide, dtype)


@translation("aten.linear.default")
def linear(op: TorchBuilder, x: Value, weight: Value, bias: Value | None = None) -> Any:
    if op.rank_of(x) == 2 and op.result().is_floating and (bias is not None or op.opset >= 11):
        return op.Gemm(x, weight, bias, transB=1)
    rank = op.rank_of(weight)
    result = op.MatMul(x, op.Transpose(weight, perm=[1, 0]) if rank == 2 else weight)
    return result if bias is None else op.Add(result, bias)


@translation("aten.addmm.default")
def addmm(op: TorchBuilder, bias: Value, a: Value, b: Value, *, beta: Any = 1,
          alpha: Any = 1) -> Any:  # fmt: skip
    if not op.result().is_floating or op.shape_of(a)[1] == 0:
        # onnxruntime has no Gemm of integers, and forgets beta where nothing is summed
        return baddbmm(op, bias, a, b, beta=beta, alpha=alpha)
    return op.Gemm(a, b, bias if beta else None, alpha=alpha, beta=beta or None)


@translation("aten.addmv.default")
def addmv(op: TorchBuilder, bias: Value, a: Value, b: Value, *, beta: Any = 1,
          alpha: Any = 1) -> Any:  # fmt: skip
    return baddbmm(op, bias, a, b, beta=beta, alpha=alpha)


@translation("aten.addbmm.default")
def addbmm(op: TorchBuilder, bias: Value, a: Value, b: Value, *, beta: Any = 1,
           alpha: Any = 1) -> Any:  # fmt: skip
    # the sum over the batch is one product over both axes
    dtype = op.result()
    batch, rows, inner = op.shape_of(a)
    left = op.reshape(op.transpose(a, [1, 0, 2]), [rows, batch * inner])
    right = op.reshape(b, [batch * inner, op.shape_of(b)[2]])
    op.typed(left, op.dtype_of(a), [rows, batch * inner])
    product = _scaled(op, matmul(op, left, right), alpha, dtype)
    return product if beta == 0 else op.Add(product, _scaled(op, bias, beta, dtype))


@translation("aten.baddbmm.default")
def baddbmm(op: TorchBuilder, x: Value, a: Value, b: Value, *, beta: Any = 1,
            alpha: Any = 1) -> Any:  # fmt: skip
    dtype = op.result()
    result = _scaled(op, matmul(op, a, b), alpha, dtype)
    return result if beta == 0 else op.Add(result, _scaled(op, x, beta, dtype))


def _scaled(op: TorchBuilder, x: Value, factor: TorchValue, dtype: DType) -> Value:
    if not isinstance(factor, Value) and factor == 1:
        return x
    scaled: Value = op.Mul(x, op.scalar(factor, dtype))
    return scaled


@translation("aten.einsum.default")
def einsum(op: TorchBuilder, equation: str, tensors: Sequence[Value], **_: Any) -> Any:
    dtype = op.result()
    if dtype is dtypes.BOOL:
        raise ExportError("an einsum of booleans cannot be exported")
    return op.Einsum(*(op.cast(each, dtype) for each in tensors), equation=equation)
