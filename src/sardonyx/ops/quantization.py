"""Linear quantization."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np

from sardonyx import dtypes
from sardonyx.dims import ceil_div, known_equal
from sardonyx.dtypes import (
    BFLOAT16,
    FLOAT,
    FLOAT4E2M1,
    FLOAT6E2M3,
    FLOAT6E3M2,
    FLOAT8E4M3FN,
    FLOAT8E4M3FNUZ,
    FLOAT8E5M2,
    FLOAT8E5M2FNUZ,
    FLOAT8E8M0,
    FLOAT16,
    INT2,
    INT4,
    INT8,
    INT16,
    INT32,
    UINT2,
    UINT4,
    UINT8,
    UINT16,
)
from sardonyx.errors import InferenceError
from sardonyx.ops.fact import Fact
from sardonyx.ops.numeric import is_small_float
from sardonyx.ops.operator import Operator
from sardonyx.ops.schema import Input, Output, attribute, past

if TYPE_CHECKING:
    from sardonyx.dtypes import DType
    from sardonyx.ir.tensor import Array
    from sardonyx.ir.value import Value
    from sardonyx.ops.body_builder import BodyBuilder

_BYTES = (INT8, UINT8)
_FLOAT8 = (FLOAT8E4M3FN, FLOAT8E4M3FNUZ, FLOAT8E5M2, FLOAT8E5M2FNUZ)
_QUANTIZED_19 = (*_BYTES, *_FLOAT8)
_QUANTIZED_21 = (*_QUANTIZED_19, INT4, UINT4, INT16, UINT16)
_QUANTIZED_23 = (*_QUANTIZED_21, FLOAT4E2M1)
_QUANTIZED_25 = (*_QUANTIZED_23, INT2, UINT2)
_QUANTIZED = (*_QUANTIZED_25, FLOAT6E2M3, FLOAT6E3M2)
_REAL = (FLOAT, FLOAT16, BFLOAT16)


def _check_granularity(
    op_type: str, x: Fact, scale: Fact, zero: Fact | None, axis: int, block: int
) -> None:
    """Check that the scale is one value, a vector along `axis`, or one value per block."""
    if block < 0:
        raise InferenceError(f"{op_type}: block_size is {block}, it must not be negative")
    if scale.shape is None:
        return
    if zero is not None and zero.shape is not None:
        _check_zero(op_type, scale, zero)
    if x.shape is None or not scale.shape or (scale.shape == (1,) and not block):
        return
    rank = len(x.shape)
    if not -rank <= axis < rank:
        raise InferenceError(
            f"{op_type} requires -r <= axis < r, got axis={axis} for data of rank {rank}"
        )
    axis %= rank
    if block:
        wanted = list(x.shape)
        size = wanted[axis]
        wanted[axis] = None if size is None else ceil_div(size, block)
        if len(scale.shape) != rank:
            raise InferenceError(
                f"{op_type}: with block_size the scale needs rank {rank}, "
                f"it has rank {len(scale.shape)}"
            )
    elif len(scale.shape) == 1:
        wanted = [x.shape[axis]]
    else:
        raise InferenceError(
            f"{op_type}: a scale of rank {len(scale.shape)} needs the attribute block_size"
        )
    for size, needed in zip(scale.shape, wanted, strict=True):
        if size is not None and needed is not None and known_equal(size, needed) is False:
            raise InferenceError(
                f"{op_type}: the scale has {size} values where axis {axis} of the data "
                f"needs {needed}"
            )


def _check_zero(op_type: str, scale: Fact, zero: Fact) -> None:
    a, b = scale.shape or (), zero.shape or ()
    known = [dim for dim in (*a, *b) if isinstance(dim, int)]
    if len(known) == len(a) + len(b) and a != b and {1} != set(known or [1]):
        raise InferenceError(
            f"{op_type}: the zero point has shape {list(b)}, the scale has {list(a)}"
        )


def _spread(parameter: Array, x: Array, axis: int, block: int) -> Array:
    """`parameter` (a scale or zero point) so that it broadcasts against x."""
    if parameter.size == 1 and not (block and parameter.ndim):
        return parameter.reshape(())
    axis %= x.ndim
    if block:
        return np.repeat(parameter, min(block, max(x.shape[axis], 1)), axis=axis)[
            (slice(None),) * axis + (slice(x.shape[axis]),)
        ]
    return parameter.reshape(-1, *(1,) * (x.ndim - axis - 1))


def _real(array: Array) -> Array:
    """`array` in a type that computes what float32 holds exactly; 32-bit integers in float64."""
    if array.dtype == np.int32:
        return array.astype(np.float64)
    return array if array.dtype == np.float32 else array.astype(np.float32)


def _limits(dtype: DType) -> tuple[float, float]:
    if dtype.kind == "uint":
        return 0.0, float((1 << dtype.bits) - 1)
    if dtype.kind == "int":
        return -float(1 << (dtype.bits - 1)), float((1 << (dtype.bits - 1)) - 1)
    real: Any = ml_dtypes.finfo(dtype.numpy)  # type: ignore[no-untyped-call]
    return float(real.min), float(real.max)


def saturated(values: Array, dtype: DType, saturate: bool) -> Array:
    """`values` rounded to nearest even in `dtype`; integers and narrow floats clip.

    NaN becomes 0 in an integer type, and the greatest number in a float type that has no NaN.
    """
    low, high = _limits(dtype)
    if dtype.is_integer:
        values = np.nan_to_num(values, nan=0.0, posinf=np.inf, neginf=-np.inf)
        return np.asarray(np.clip(values, low, high)).astype(np.int32).astype(dtype.numpy)
    if dtype in _FLOAT8:
        if saturate:
            values = np.clip(values, low, high)
        elif dtype is not FLOAT8E5M2:
            values = np.where(np.isinf(values), np.nan, values)
        return np.asarray(values, np.float32).astype(dtype.numpy)
    values = np.where(np.isnan(values), high, np.clip(values, low, high))
    return np.asarray(values, np.float32).astype(dtype.numpy)


class QuantizeLinear(Operator, since=28):
    """y = saturate(round(x / y_scale) + y_zero_point), rounding half to even.

    The scale is one value, one per element of `axis`, or one per block of `block_size` elements
    along `axis`. The division has the precision of y_scale's type, or of `precision`.
    """

    x, y_scale = Input("T1"), Input("T2")
    y_zero_point = Input("T3", "Shaped like y_scale.", optional=True)
    y = Output("T3")
    T1, T2 = (*_REAL, INT32), (*_REAL, INT32, FLOAT8E8M0)
    T3 = _QUANTIZED
    axis: int = attribute(1, since=13)
    block_size: int = attribute(0, since=21)
    output_dtype: int = attribute(0, since=21)
    precision: int = attribute(0, since=23)
    saturate: int = attribute(1, since=19)
    history = (
        past(25, T3=_QUANTIZED_25),
        past(24, T3=_QUANTIZED_23),
        past(23, T2=(*_REAL, INT32)),
        past(
            21,
            y_scale=Input("T1"),
            y_zero_point=Input("T2", optional=True),
            y=Output("T2"),
            T2=_QUANTIZED_21,
        ),
        past(19, T2=_QUANTIZED_19),
        past(13, T1=(FLOAT, INT32), T2=_BYTES, y_scale=Input((FLOAT,))),
        past(10),
    )

    def _output(self, zero: DType | None) -> DType:
        if self.output_dtype:
            wanted = dtypes.from_code(self.output_dtype)
            if zero is not None and zero is not wanted:
                raise InferenceError(
                    f"QuantizeLinear: output_dtype is {wanted}, y_zero_point has type {zero}"
                )
            if wanted not in _QUANTIZED:
                raise InferenceError(f"QuantizeLinear: {wanted} is not a type to quantize to")
            return wanted
        return zero or UINT8

    def infer(self, x: Fact, y_scale: Fact, y_zero_point: Fact | None = None) -> Fact:
        block = self.block_size or 0
        if self.version < 13 and y_scale.shape not in {None, (), (1,)}:
            raise InferenceError(f"QuantizeLinear-{self.version}: y_scale must be a scalar")
        _check_granularity(self.op_type, x, y_scale, y_zero_point, self._axis, block)
        if y_zero_point is not None and y_zero_point.dtype is None:
            return Fact.tensor(self._output(None) if self.output_dtype else None, x.shape)
        return Fact.tensor(
            self._output(None if y_zero_point is None else y_zero_point.dtype), x.shape
        )

    @property
    def _axis(self) -> int:
        return 1 if self.version < 13 else self.axis

    def reference(self, x: Array, y_scale: Array, y_zero_point: Array | None = None) -> Array:
        zero = None if y_zero_point is None else Fact.constant(y_zero_point)
        target = self.infer(Fact.constant(x), Fact.constant(y_scale), zero).dtype
        assert target is not None
        block = self.block_size or 0
        scale = _spread(_real(y_scale), x, self._axis, block)
        with np.errstate(all="ignore"):
            quotient = np.asarray(self._divide(_real(x), scale, y_scale.dtype))
            if target.is_integer:
                quotient = np.nan_to_num(np.rint(quotient), nan=0.0, posinf=np.inf, neginf=-np.inf)
            if y_zero_point is not None:
                quotient = quotient + _spread(
                    y_zero_point.astype(np.float32), x, self._axis, block
                ).astype(quotient.dtype)
            result = saturated(quotient, target, self.saturate != 0)
        return result.reshape(x.shape)

    def _divide(self, x: Array, scale: Array, scale_type: np.dtype[np.generic]) -> Array:
        precision = dtypes.from_code(self.precision).numpy if self.precision else scale_type
        quotient = np.asarray(np.true_divide(x, scale))
        if precision == np.float16 or precision == BFLOAT16.numpy:
            # x itself is rounded to the narrow type first
            narrow = np.true_divide(
                x.astype(precision).astype(np.float32), scale.astype(precision).astype(np.float32)
            )
            return narrow.astype(precision).astype(np.float32)
        return quotient


class DequantizeLinear(Operator, since=28):
    """y = (x - x_zero_point) * x_scale, in the type of y."""

    x, x_scale = Input("T1"), Input("T2")
    x_zero_point = Input("T1", "Shaped like x_scale.", optional=True)
    y = Output("T3")
    T = (*_BYTES, INT32)
    T1, T2, T3 = (*_QUANTIZED, INT32), (*_REAL, FLOAT8E8M0), _REAL
    axis: int = attribute(1, since=13)
    block_size: int = attribute(0, since=21)
    output_dtype: int = attribute(0, since=23)
    history = (
        past(25, T1=(*_QUANTIZED_25, INT32)),
        past(24, T1=(*_QUANTIZED_23, INT32)),
        past(23, T2=_REAL),
        past(21, T1=(*_QUANTIZED_21, INT32), y=Output("T2")),
        past(19, T1=(*_QUANTIZED_19, INT32)),
        past(
            13,
            x=Input("T"),
            x_scale=Input((FLOAT,)),
            x_zero_point=Input("T", optional=True),
            y=Output((FLOAT,)),
        ),
        past(10),
    )

    @property
    def _axis(self) -> int:
        return 1 if self.version < 13 else self.axis

    def _output(self, scale: DType | None) -> DType | None:
        if self.output_dtype:
            wanted = dtypes.from_code(self.output_dtype)
            if wanted not in _REAL:
                raise InferenceError(f"DequantizeLinear: output_dtype {wanted} is not allowed")
            return wanted
        if scale is FLOAT8E8M0:
            raise InferenceError(
                "DequantizeLinear: a FLOAT8E8M0 scale does not say the output's type",
                hint="give the attribute output_dtype",
            )
        return scale

    def infer(self, x: Fact, x_scale: Fact, x_zero_point: Fact | None = None) -> Fact:
        if self.version < 13 and x_scale.shape not in {None, (), (1,)}:
            raise InferenceError(f"DequantizeLinear-{self.version}: x_scale must be a scalar")
        block = self.block_size or 0
        _check_granularity(self.op_type, x, x_scale, x_zero_point, self._axis, block)
        return Fact.tensor(self._output(x_scale.dtype), x.shape)

    def reference(self, x: Array, x_scale: Array, x_zero_point: Array | None = None) -> Array:
        zero = None if x_zero_point is None else Fact.constant(x_zero_point)
        dtype = self.infer(Fact.constant(x), Fact.constant(x_scale), zero).dtype
        assert dtype is not None
        block = self.block_size or 0
        scale = _spread(_real(x_scale), x, self._axis, block)
        with np.errstate(all="ignore"):
            whole = x.dtype.kind in "iu" or not is_small_float(x.dtype)
            values = x.astype(np.int64) if whole else x.astype(np.float32)
            if x_zero_point is not None:
                shift = x_zero_point.astype(values.dtype)
                values = values - _spread(shift, x, self._axis, block)
            result = np.asarray(values.astype(np.float32) * scale)
            return result.astype(dtype.numpy).reshape(x.shape)


class DynamicQuantizeLinear(Operator, since=11):
    """x quantized to UINT8 over its own range, widened to include 0; where that is 0, scale 1."""

    x = Input("T1")
    y = Output("T2")
    y_scale, y_zero_point = Output((FLOAT,), "A scalar."), Output("T2", "A scalar.")
    T1, T2 = (FLOAT,), (UINT8,)

    def infer(self, x: Fact) -> tuple[Fact, ...]:
        return Fact.tensor(UINT8, x.shape), Fact.tensor(FLOAT, ()), Fact.tensor(UINT8, ())

    def reference(self, x: Array) -> tuple[Array, ...]:
        with np.errstate(all="ignore"):
            low = np.minimum(x.min(initial=np.inf), np.float32(0))
            high = np.maximum(x.max(initial=-np.inf), np.float32(0))
            scale = np.asarray((high - low) / np.float32(255), np.float32)
            if scale == 0:
                scale = np.asarray(1, np.float32)
            zero = saturated(np.asarray(np.rint(-low / scale)), UINT8, True)
            shifted = np.rint(x / scale) + zero.astype(np.float32)
            return saturated(shifted, UINT8, True), scale, zero

    def body(self, op: BodyBuilder, x: Value) -> tuple[Value, ...]:
        none, most = np.float32(0), np.float32(255)
        low = op.Min(op.ReduceMin(x, keepdims=0), none)
        high = op.Max(op.ReduceMax(x, keepdims=0), none)
        scale = op.Div(op.Sub(high, low), most)
        scale = op.Where(op.Equal(scale, none), np.float32(1), scale)
        zero = op.Min(op.Max(op.Round(op.Div(op.Neg(low), scale)), none), most)
        zero = op.cast(zero, UINT8)
        return op.QuantizeLinear(x, scale, zero), scale, zero
