"""Products and convolutions of quantized tensors that give a quantized tensor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from sardonyx import dtypes
from sardonyx.dtypes import (
    BFLOAT16,
    FLOAT,
    FLOAT8E4M3FN,
    FLOAT8E4M3FNUZ,
    FLOAT8E5M2,
    FLOAT8E5M2FNUZ,
    FLOAT16,
    INT8,
    INT32,
    UINT8,
)
from sardonyx.errors import ExecutionError
from sardonyx.ops.conv import Convolution, check_bias
from sardonyx.ops.fact import Fact
from sardonyx.ops.matmul import product_shape
from sardonyx.ops.operator import Operator
from sardonyx.ops.quantization import saturated
from sardonyx.ops.schema import Input, Output, past
from sardonyx.ops.windows import check_bytes

if TYPE_CHECKING:
    from sardonyx.ir.tensor import Array

_BYTES: Final = (INT8, UINT8)
_FLOAT8: Final = (FLOAT8E4M3FN, FLOAT8E4M3FNUZ, FLOAT8E5M2, FLOAT8E5M2FNUZ)


def _broadcast(op_type: str, name: str, parameter: Array, shape: tuple[int, ...]) -> Array:
    """`parameter` checked to broadcast to `shape`; one value always does."""
    if parameter.size == 1:
        return parameter.reshape(())
    try:
        fits = np.broadcast_shapes(parameter.shape, shape) == shape
    except ValueError:
        fits = False
    if not fits:
        raise ExecutionError(
            f"{op_type}: {name} of shape {list(parameter.shape)} does not fit {list(shape)}"
        )
    return parameter


def _requantized(total: Array, factor: Array, zero: Array) -> Array:
    """`total` * `factor` rounded, plus `zero`, saturated in its type."""
    target = dtypes.from_numpy(zero.dtype)
    with np.errstate(all="ignore"):
        scaled = np.asarray(total.astype(np.float32) * factor)
        if target.is_integer:
            scaled = np.rint(scaled)
        return saturated(np.asarray(scaled + zero.astype(np.float32)), target, True)


class QLinearMatMul(Operator, since=21):
    """The matrix product of (a - a_zero_point) * a_scale and b's like, quantized as y.

    Scale and zero point of a are one value or one per row, [M] or [..., M, 1], those of b one
    value or one per column, [N] or [..., 1, N]. Bytes are summed in INT32, which wraps around.
    """

    a, a_scale, a_zero_point = Input("T1"), Input("TS"), Input("T1")
    b, b_scale, b_zero_point = Input("T2"), Input("TS"), Input("T2")
    y_scale, y_zero_point, y = Input("TS"), Input("T3"), Output("T3")
    TS = (FLOAT, FLOAT16, BFLOAT16)
    T1 = T2 = T3 = (*_BYTES, *_FLOAT8)
    history = (
        past(
            10,
            a_scale=Input((FLOAT,)),
            b_scale=Input((FLOAT,)),
            y_scale=Input((FLOAT,)),
            T1=_BYTES,
            T2=_BYTES,
            T3=_BYTES,
        ),
    )

    def infer(
        self,
        a: Fact,
        a_scale: Fact,
        a_zero_point: Fact,
        b: Fact,
        b_scale: Fact,
        b_zero_point: Fact,
        y_scale: Fact,
        y_zero_point: Fact,
    ) -> Fact:
        return Fact.tensor(y_zero_point.dtype, product_shape(self.op_type, a.shape, b.shape))

    def reference(
        self,
        a: Array,
        a_scale: Array,
        a_zero_point: Array,
        b: Array,
        b_scale: Array,
        b_zero_point: Array,
        y_scale: Array,
        y_zero_point: Array,
    ) -> Array:
        name = self.op_type
        found = product_shape(name, a.shape, b.shape)
        assert found is not None
        shape = tuple(int(size) for size in found)  # type: ignore[arg-type]
        check_bytes(shape, 8)
        rows, columns = (*a.shape[:-1], 1), (*b.shape[:-2], 1, *b.shape[-1:])
        scale_a = self._rows("a_scale", a_scale, rows)
        scale_b = _broadcast(name, "b_scale", b_scale, columns[-1:] if b.ndim < 2 else columns)
        zero_a = self._rows("a_zero_point", a_zero_point, rows)
        zero_b = _broadcast(name, "b_zero_point", b_zero_point, columns)
        # float64 holds the sums exactly: 2^16 * 2^37 terms = 2^53
        left = a.astype(np.float64) - zero_a.astype(np.float64)
        right = b.astype(np.float64) - zero_b.astype(np.float64)
        with np.errstate(all="ignore"):
            total = np.asarray(np.matmul(left.reshape(a.shape), right.reshape(b.shape)))
            if a.dtype.kind in "iu" and b.dtype.kind in "iu":
                total = total.astype(np.int64).astype(np.int32)
            factor = self._fitted(scale_a, scale_b, a.ndim, b.ndim)
            factor = factor / _broadcast(name, "y_scale", y_scale, shape).astype(np.float32)
        zero = _broadcast(name, "y_zero_point", y_zero_point, shape)
        return _requantized(total, factor, zero).reshape(shape)

    def _rows(self, name: str, parameter: Array, rows: tuple[int, ...]) -> Array:
        spread = parameter[:, None] if parameter.ndim == 1 else parameter
        return _broadcast(self.op_type, name, spread, rows)

    def _fitted(self, scale_a: Array, scale_b: Array, a_rank: int, b_rank: int) -> Array:
        """The scales' product, without the dimension that a vector operand does not have."""
        left, right = scale_a.astype(np.float32), scale_b.astype(np.float32)
        if b_rank == 1 and left.ndim:
            left = left[..., 0]
        if a_rank == 1 and right.ndim > 1:
            right = right[..., 0, :]
        return np.asarray(left * right)


class QLinearConv(Convolution, since=10):
    """The convolution of (x - x_zero_point) * x_scale and w's like, quantized as y.

    Scale and zero point of w are one value or one per output channel, the others one value. B
    has the scale x_scale * w_scale. Sums are in INT32, which wraps around.
    """

    x, x_scale, x_zero_point = Input("T1"), Input((FLOAT,)), Input("T1")
    w, w_scale, w_zero_point = Input("T2"), Input((FLOAT,)), Input("T2")
    y_scale, y_zero_point = Input((FLOAT,)), Input("T3")
    B = Input("T4", "[M].", optional=True)
    y = Output("T3")
    T1 = T2 = T3 = _BYTES
    T4 = (INT32,)

    def infer(
        self,
        x: Fact,
        x_scale: Fact,
        x_zero_point: Fact,
        w: Fact,
        w_scale: Fact,
        w_zero_point: Fact,
        y_scale: Fact,
        y_zero_point: Fact,
        B: Fact | None = None,
    ) -> Fact:
        shape = self.output_shape_of(x.shape, w.shape)
        check_bias(self.op_type, B, None if shape is None else shape[1])
        return Fact.tensor(y_zero_point.dtype, shape)

    def reference(
        self,
        x: Array,
        x_scale: Array,
        x_zero_point: Array,
        w: Array,
        w_scale: Array,
        w_zero_point: Array,
        y_scale: Array,
        y_zero_point: Array,
        B: Array | None = None,
    ) -> Array:
        self.output_shape_of(x.shape, w.shape)
        check_bias(self.op_type, None if B is None else Fact.constant(B), w.shape[0])
        # float64 holds the sums exactly: 2^16 * 2^37 taps = 2^53
        zero = self._each("w_zero_point", w_zero_point, w.shape[0], w.ndim)
        X = x.astype(np.float64) - float(self._one("x_zero_point", x_zero_point))
        total = self.convolve(X, w.astype(np.float64) - zero.astype(np.float64))
        if B is not None:
            total = total + B.reshape(-1, *(1,) * (total.ndim - 2))
        scale = self._each("w_scale", w_scale, w.shape[0], w.ndim - 1)
        with np.errstate(all="ignore"):
            factor = self._one("x_scale", x_scale) * scale / self._one("y_scale", y_scale)
        wrapped = total.astype(np.int64).astype(np.int32)
        return _requantized(wrapped, factor, self._one("y_zero_point", y_zero_point))

    def _one(self, name: str, parameter: Array) -> Array:
        if parameter.size != 1:
            raise ExecutionError(
                f"QLinearConv: {name} must be one value, its shape is {list(parameter.shape)}"
            )
        return parameter.reshape(())

    def _each(self, name: str, parameter: Array, channels: int, rank: int) -> Array:
        if parameter.size not in {1, channels} or parameter.ndim > 1:
            raise ExecutionError(
                f"QLinearConv: {name} has shape {list(parameter.shape)}, "
                f"w has {channels} output channels"
            )
        return parameter.reshape(-1, *(1,) * (rank - 1))
