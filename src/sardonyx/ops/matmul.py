"""Matrix products."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from sardonyx.dims import known_equal
from sardonyx.dtypes import INT8, INT32, UINT8
from sardonyx.errors import InferenceError
from sardonyx.ir.types import shape_text
from sardonyx.ops import types
from sardonyx.ops.broadcast import broadcast
from sardonyx.ops.fact import Fact
from sardonyx.ops.numeric import to_integer, widen
from sardonyx.ops.operator import Operator
from sardonyx.ops.schema import Input, Output, attribute, past
from sardonyx.ops.windows import check_bytes

if TYPE_CHECKING:
    from sardonyx.ir.tensor import Array
    from sardonyx.ir.types import DimLike, Shape
    from sardonyx.ir.value import Value
    from sardonyx.ops.operator import Values
    from sardonyx.ops.writer import Writer

__all__ = ["Gemm", "MatMul", "MatMulInteger", "product_shape"]


def product_shape(op_type: str, A: Shape | None, B: Shape | None) -> Shape | None:
    """The shape of numpy.matmul(A, B); raises `InferenceError` where they do not fit."""
    for name, shape in (("A", A), ("B", B)):
        if shape is not None and not shape:
            raise InferenceError(f"{op_type}: {name} is a scalar, it needs rank 1 or more")
    if A is None or B is None:
        return None
    a, b = A[-1], B[max(len(B) - 2, 0)]
    if a is not None and b is not None and known_equal(a, b) is False:
        raise InferenceError(
            f"{op_type}: shapes {shape_text(A)} and {shape_text(B)} do not multiply: "
            f"{a} columns against {b} rows"
        )
    batch = broadcast(A[:-2], B[:-2])
    assert batch is not None
    return (*batch, *A[-2:-1], *(B[-1:] if len(B) > 1 else ()))


def _product(op_type: str, A: Array, B: Array) -> Array:
    shape = product_shape(op_type, A.shape, B.shape)
    assert shape is not None
    check_bytes([size for size in shape if isinstance(size, int)], A.itemsize)
    with np.errstate(all="ignore"):
        return np.asarray(np.matmul(A, B))


class MatMul(Operator, since=13):
    """The matrix product, batched as numpy.matmul does; integers wrap around."""

    A, B, Y = Input("T"), Input("T"), Output("T")
    T = types.HIGH_BFLOAT16
    history = past(9, T=types.HIGH), past(1, T=types.FLOATS)

    def infer(self, A: Fact, B: Fact) -> Fact:
        return Fact.tensor(A.dtype or B.dtype, product_shape(self.op_type, A.shape, B.shape))

    def reference(self, A: Array, B: Array) -> Array:
        result = _product(self.op_type, widen(A), widen(B))
        with np.errstate(all="ignore"):
            return result.astype(A.dtype, copy=False)

    def gradient(self, op: Writer, grads: Values, inputs: Values, outputs: Values) -> Values:
        (dy,), (a, b) = grads, inputs
        rank_a, rank_b = op.rank(a), op.rank(b)
        # a vector is a matrix of one row (column)
        A = op.Unsqueeze(a, [0]) if rank_a == 1 else a
        B = op.Unsqueeze(b, [1]) if rank_b == 1 else b
        if rank_b == 1:
            dy = op.Unsqueeze(dy, [-1])
        if rank_a == 1:
            dy = op.Unsqueeze(dy, [-2])
        dA = op.sum_to(op.MatMul(dy, _transposed(op, B)), A)
        dB = op.sum_to(op.MatMul(_transposed(op, A), dy), B)
        return [
            op.Squeeze(dA, [0]) if rank_a == 1 else dA,
            op.Squeeze(dB, [1]) if rank_b == 1 else dB,
        ]


class MatMulInteger(Operator, since=10):
    """The matrix product of A - a_zero_point and B - b_zero_point in INT32, which wraps around.

    A zero point is a scalar, one value per row of A (column of B), or, for stacks of matrices,
    of the shape [..., M, 1] ([..., 1, N]).
    """

    A, B = Input("T1"), Input("T2")
    a_zero_point, b_zero_point = Input("T1", optional=True), Input("T2", optional=True)
    Y = Output("T3")
    T1, T2, T3 = (INT8, UINT8), (INT8, UINT8), (INT32,)

    def infer(
        self, A: Fact, B: Fact, a_zero_point: Fact | None = None, b_zero_point: Fact | None = None
    ) -> Fact:
        return Fact.tensor(INT32, product_shape(self.op_type, A.shape, B.shape))

    def reference(
        self,
        A: Array,
        B: Array,
        a_zero_point: Array | None = None,
        b_zero_point: Array | None = None,
    ) -> Array:
        # float64 holds the sums exactly: 2^16 * 2^37 terms = 2^53
        a, b = A.astype(np.float64), B.astype(np.float64)
        if a_zero_point is not None:
            zero = a_zero_point.astype(np.float64)
            a = self._shifted(a, zero[:, None] if zero.ndim == 1 and zero.size > 1 else zero, "a")
        if b_zero_point is not None:
            b = self._shifted(b, b_zero_point.astype(np.float64), "b")
        return _product(self.op_type, a, b).astype(np.int64).astype(np.int32)

    def _shifted(self, values: Array, zero: Array, name: str) -> Array:
        try:
            shifted = values - zero
        except ValueError:
            shifted = np.empty(0)
        if shifted.shape != values.shape and zero.size != 1:
            raise InferenceError(
                f"MatMulInteger: {name}_zero_point of shape {zero.shape} does not fit "
                f"a matrix of shape {values.shape}"
            )
        return shifted.reshape(values.shape)


class Gemm(Operator, since=13):
    """Y = alpha * A' B' + beta * C, where A' and B' are transposed as attributes say.

    C broadcasts to Y; before opset 7 only if `broadcast` is 1.
    """

    A, B = Input("T", "[M, K], or [K, M] with transA."), Input("T", "[K, N], or [N, K].")
    C = Input("T", "Broadcasts to [M, N].", optional=True)
    Y = Output("T", "[M, N].")
    T = types.HIGH_BFLOAT16
    alpha: float = 1.0
    beta: float = 1.0
    transA: int = 0
    transB: int = 0
    broadcast: int = attribute(0, before=7)
    history = (
        past(11, T=types.HIGH),
        past(9, C=Input("T")),
        past(7, T=types.FLOATS),
        past(6),
        past(1),
    )

    def infer(self, A: Fact, B: Fact, C: Fact | None = None) -> Fact:
        dtype = A.dtype or B.dtype
        M, a = self._dims("A", A.shape, self.transA)
        b, N = self._dims("B", B.shape, self.transB)
        if a is not None and b is not None and known_equal(a, b) is False:
            raise InferenceError(
                f"Gemm: A' has {a} columns, B' has {b} rows; they must be equal "
                f"(A is {shape_text(A.shape)}, B is {shape_text(B.shape)}, "
                f"transA={self.transA}, transB={self.transB})"
            )
        shape: Shape = (M, N)
        if C is not None and C.shape is not None:
            self._check_addend(C.shape, shape)
        return Fact.tensor(dtype, shape)

    def _dims(self, name: str, shape: Shape | None, transposed: int) -> tuple[DimLike, DimLike]:
        if shape is None:
            return None, None
        if len(shape) != 2:
            raise InferenceError(f"Gemm: {name} must have rank 2, it has rank {len(shape)}")
        return (shape[1], shape[0]) if transposed else (shape[0], shape[1])

    def _check_addend(self, C: Shape, Y: Shape) -> None:
        can_broadcast = self.version >= 7 or self.broadcast
        fits = len(C) <= 2 if can_broadcast else len(C) == 2
        for c, y in zip(reversed(C), reversed(Y), strict=False):
            if c is None or y is None:
                continue
            if known_equal(c, y) is False and not (c == 1 and can_broadcast):
                fits = False
        if not fits:
            raise InferenceError(
                f"Gemm: C of shape {shape_text(C)} does not broadcast to {shape_text(Y)}"
            )

    def reference(self, A: Array, B: Array, C: Array | None = None) -> Array:
        self.infer(Fact.constant(A), Fact.constant(B), None if C is None else Fact.constant(C))
        a = widen(A.T if self.transA else A)
        b = widen(B.T if self.transB else B)
        Y = _product(self.op_type, a, b)
        with np.errstate(all="ignore"):
            Y = _scaled(Y, self.alpha)
            if C is not None and self.beta != 0:
                Y = Y + _scaled(widen(C), self.beta)
            return Y.astype(A.dtype, copy=False)

    def gradient(self, op: Writer, grads: Values, inputs: Values, outputs: Values) -> Values:
        (dy,), (a, b, c) = grads, inputs
        scaled = dy if self.alpha == 1 else op.Mul(dy, self.alpha)
        A = op.Transpose(a, perm=[1, 0]) if self.transA else a
        B = op.Transpose(b, perm=[1, 0]) if self.transB else b
        dA = op.MatMul(scaled, op.Transpose(B, perm=[1, 0]))
        dB = op.MatMul(op.Transpose(A, perm=[1, 0]), scaled)
        dC = None
        if c is not None:
            dC = op.sum_to(dy if self.beta == 1 else op.Mul(dy, self.beta), c)
        return [
            op.Transpose(dA, perm=[1, 0]) if self.transA else dA,
            op.Transpose(dB, perm=[1, 0]) if self.transB else dB,
            dC,
        ]


def _scaled(array: Array, factor: float) -> Array:
    """`array` times `factor` in its type; a factor that is no integer truncates integers."""
    if factor == 1:
        return array
    if array.dtype.kind == "f":
        return np.asarray(array * array.dtype.type(factor))
    if not math.isfinite(factor) or factor != int(factor):
        return to_integer(np.asarray(array * factor), array.dtype)
    whole = np.asarray(int(factor) % (1 << 64), np.uint64).astype(array.dtype)
    return np.asarray(array * whole)


def _transposed(op: Writer, value: Value) -> Value:
    rank = op.rank(value)
    result: Value = op.Transpose(value, perm=[*range(rank - 2), rank - 1, rank - 2])
    return result
