"""Conversion between element types."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import ml_dtypes
import numpy as np

from sardonyx import dtypes
from sardonyx.dims import Dim
from sardonyx.dtypes import (
    BOOL,
    FLOAT4E2M1,
    FLOAT6E2M3,
    FLOAT6E3M2,
    FLOAT8E4M3FN,
    FLOAT8E4M3FNUZ,
    FLOAT8E5M2,
    FLOAT8E5M2FNUZ,
    FLOAT8E8M0,
    INT2,
    INT4,
    INT8,
    INT32,
    INT64,
    STRING,
    UINT2,
    UINT4,
    UINT8,
    UINT32,
    UINT64,
    DType,
)
from sardonyx.errors import ExecutionError, InferenceError, ModelError, quote
from sardonyx.ir.node import AttributeType
from sardonyx.ops import types
from sardonyx.ops.fact import Fact
from sardonyx.ops.numeric import is_small_float, to_integer
from sardonyx.ops.operator import Operator
from sardonyx.ops.schema import REQUIRED, AttributeSpec, Input, Output, attribute, past

if TYPE_CHECKING:
    from sardonyx.ir.tensor import Array
    from sardonyx.ir.value import Value
    from sardonyx.ops.body_builder import BodyBuilder
    from sardonyx.ops.operator import Values
    from sardonyx.ops.writer import Writer

__all__ = ["BitCast", "Cast", "CastLike", "convert"]

_OF_6: Final = (*types.NUMERIC, BOOL)
_OF_9: Final = (*_OF_6, STRING)
_OF_13: Final = (*_OF_9, dtypes.BFLOAT16)
_OF_19: Final = (*_OF_13, FLOAT8E4M3FN, FLOAT8E4M3FNUZ, FLOAT8E5M2, FLOAT8E5M2FNUZ)
_OF_21: Final = (*_OF_19, UINT4, INT4)
_OF_23: Final = (*_OF_21, FLOAT4E2M1)
_OF_24: Final = (*_OF_23, FLOAT8E8M0)
_OF_25: Final = (*_OF_24, UINT2, INT2)
_OF_28: Final = (*_OF_25, FLOAT6E2M3, FLOAT6E3M2)


class Cast(Operator, since=28):
    """`input` in the element type `to`, as `convert` says."""

    input, output = Input("T1"), Output("T2")
    T1 = T2 = _OF_28
    to: int | str = attribute(type=AttributeType.INT)
    saturate: int = attribute(1, since=19)
    round_mode: str = attribute("up", since=24)
    history = (
        past(25, T1=_OF_25, T2=_OF_25),
        past(24, T1=_OF_24, T2=_OF_24),
        past(23, T1=_OF_23, T2=_OF_23),
        past(21, T1=_OF_21, T2=_OF_21),
        past(19, T1=_OF_19, T2=_OF_19),
        past(13, T1=_OF_13, T2=_OF_13),
        past(9, T1=_OF_9, T2=_OF_9),
        past(6, T1=_OF_6, T2=_OF_6),
        past(1, to=AttributeSpec(AttributeType.STRING, REQUIRED)),
    )
    moves_data = True

    @property
    def target(self) -> DType:
        """The type that `to` names; in opset 1 it was a name."""
        if isinstance(self.to, str):
            return dtypes.from_name(self.to)
        return dtypes.from_code(self.to)

    def infer(self, input: Fact) -> Fact:
        if self.target.kind == "complex":
            raise InferenceError(f"Cast to {self.target}: complex numbers have no Cast")
        return Fact.tensor(self.target, input.shape)

    def reference(self, input: Array) -> Array:
        if input.dtype == object and any(isinstance(item, (int, Dim)) for item in input.flat):
            if self.target in {INT32, INT64, UINT32, UINT64}:
                return input
            raise ExecutionError(f"Cast of symbolic dims to {self.target}")
        return convert(input, self.target, saturate=self.saturate != 0, round_mode=self.round_mode)

    def gradient(self, op: Writer, grads: Values, inputs: Values, outputs: Values) -> Values:
        return [op.cast(grads[0], op.dtype(inputs[0]))]


class CastLike(Operator, since=25):
    """`input` in the element type of `target_type`, as `convert` says."""

    input, target_type, output = Input("T1"), Input("T2"), Output("T2")
    T1 = T2 = _OF_25
    saturate: int = attribute(1, since=19)
    round_mode: str = attribute("up", since=24)
    history = (
        past(24, T1=_OF_24, T2=_OF_24),
        past(23, T1=_OF_23, T2=_OF_23),
        past(21, T1=_OF_21, T2=_OF_21),
        past(19, T1=_OF_19, T2=_OF_19),
        past(15, T1=_OF_13, T2=_OF_13),
    )

    def infer(self, input: Fact, target_type: Fact) -> Fact:
        return Fact.tensor(target_type.dtype, input.shape)

    def reference(self, input: Array, target_type: Array) -> Array:
        target = dtypes.from_numpy(target_type.dtype)
        return convert(input, target, saturate=self.saturate != 0, round_mode=self.round_mode)

    def body(self, op: BodyBuilder, input: Value, target_type: Value) -> Any:
        return op.Cast(
            input,
            to=op.dtype(target_type).code,
            saturate=self.saturate,
            round_mode=self.round_mode,
        )

    def gradient(self, op: Writer, grads: Values, inputs: Values, outputs: Values) -> Values:
        return [op.cast(grads[0], op.dtype(inputs[0])), None]


class BitCast(Operator, since=26):
    """The bits of `input` as the element type `to`, which is as wide; a BOOL is true unless 0."""

    input, output = Input("T1"), Output("T2")
    T1 = T2 = types.without(types.ALL_INT2, STRING)
    to: int

    def infer(self, input: Fact) -> Fact:
        target = dtypes.from_code(self.to)
        if input.dtype is not None and input.dtype.bits != target.bits:
            raise InferenceError(
                f"BitCast of {input.dtype} ({input.dtype.bits} bits) to {target} "
                f"({target.bits} bits)",
                hint="choose a type as wide as the input's",
            )
        return Fact.tensor(target, input.shape)

    def reference(self, input: Array) -> Array:
        source, target = dtypes.from_numpy(input.dtype), dtypes.from_code(self.to)
        if source.bits != target.bits or not source.bits:
            raise ExecutionError(f"BitCast of {source} to {target}, which is not as wide")
        contiguous = np.ascontiguousarray(input).reshape(input.shape)
        if target is BOOL:
            return np.asarray(contiguous.view(np.uint8) != 0)
        if source.is_packed:
            raw = dtypes.pack(contiguous, source)
            return dtypes.unpack(raw, target, input.size).reshape(input.shape)
        return contiguous.view(target.numpy)


def convert(array: Array, target: DType, *, saturate: bool = True, round_mode: str = "up") -> Array:
    """The elements of `array` in the type `target`, any of the real types or strings.

    Integers keep their low bits. Floating point is rounded to the nearest, ties to even; to an
    integer it is truncated towards zero, out of range saturates (to 8 bits, of which types of
    4 and 2 bits keep the low ones) and NaN is 0. `saturate` holds for FLOAT8 types: a value out
    of range, infinity included, is the greatest of its sign, else NaN or infinity; `round_mode`
    (up, down, nearest) for FLOAT8E8M0. FLOAT4 and FLOAT6 types saturate. Numbers are written as
    their shortest decimal that reads back, and NaN, INF, -INF.

    Raises `ExecutionError` for a string that is no number and for complex numbers, which have
    no Cast. Source: operator Cast.
    """
    source = dtypes.from_numpy(array.dtype)
    if "complex" in {source.kind, target.kind}:
        raise ExecutionError(f"Cast of {source} to {target}: complex numbers have no Cast")
    if source is STRING:
        return np.array(array) if target is STRING else _parsed(array, target, saturate, round_mode)
    if target is STRING:
        return _written(array)
    with np.errstate(all="ignore"):
        if source is target:
            return np.array(array)
        array = _native(array, source)
        if target is BOOL:
            return np.asarray(array != np.zeros((), array.dtype))
        if target is FLOAT8E8M0:
            return _to_exponent(array, saturate, round_mode)
        if target.is_floating and target.bits == 8:
            return _to_float8(array, target, saturate)
        if target.is_integer and source.is_floating:
            return _truncated(array, target)
        return array.astype(target.numpy)


def _native(array: Array, source: DType) -> Array:
    """`array` exactly in a type that NumPy itself has."""
    if source.is_integer and source.bits < 8:
        return array.astype(np.int8)
    return array.astype(np.float32) if is_small_float(array.dtype) else array


def _truncated(array: Array, target: DType) -> Array:
    if target.bits >= 8:
        return to_integer(array, target.numpy)
    whole = to_integer(array, (INT8 if target.kind == "int" else UINT8).numpy)
    if target.kind == "uint":
        # a negative number keeps its low bits too
        whole = np.where(array < 0, to_integer(array, INT8.numpy).view(np.uint8), whole)
    return whole.astype(target.numpy)


def _to_float8(array: Array, target: DType, saturate: bool) -> Array:
    if array.dtype.kind in "biu":
        array = array.astype(np.float64)
    result = array.astype(target.numpy)
    if saturate:
        finfo: Any = ml_dtypes.finfo
        most = finfo(target.numpy).max
        beyond = ~np.isfinite(result) & ~np.isnan(array)
        result = np.where(beyond, np.where(array < 0, -most, most), result)
    return result


_BIAS: Final = 127
_NAN: Final = 255


def _to_exponent(array: Array, saturate: bool, round_mode: str) -> Array:
    """Powers of two from 2**-127 to 2**127; negative numbers have none and are NaN."""
    wide = array.astype(np.float64)
    mantissa, exponent = np.frexp(np.where(np.isfinite(wide), wide, 1.0))
    power = exponent - 1  # wide == 2 * mantissa * 2**power, 1 <= 2 * mantissa < 2
    if round_mode == "up":
        power += mantissa > 0.5
    elif round_mode == "nearest":
        power += mantissa >= 0.75
    elif round_mode != "down":
        raise ModelError(f"Cast round_mode {quote(round_mode)}", hint="it is up, down or nearest")
    power = np.where(wide == 0, -_BIAS - 1, np.where(np.isinf(wide), _BIAS + 1, power))
    is_nan = np.isnan(wide) | (wide < 0)
    if saturate:
        power = np.clip(power, -_BIAS, _BIAS)
    else:
        is_nan |= np.abs(power) > _BIAS
    code = np.where(is_nan, _NAN, power + _BIAS).astype(np.uint8)
    return np.asarray(code.view(FLOAT8E8M0.numpy))


def _written(array: Array) -> Array:
    result = np.empty(array.shape, object)
    if array.dtype.kind == "b":
        array = array.astype(np.uint8)
    array = _native(array, dtypes.from_numpy(array.dtype))
    result[...] = array.astype(str).astype(object)
    if array.dtype.kind == "f":
        result[np.isnan(array)] = "NaN"
        result[array == np.inf] = "INF"
        result[array == -np.inf] = "-INF"
    return result


def _parsed(array: Array, target: DType, saturate: bool, round_mode: str) -> Array:
    if target.is_integer:
        low = [_integer(text, target) & 0xFFFF_FFFF_FFFF_FFFF for text in array.flat]
        wide: Any = np.array(low, np.uint64).reshape(array.shape)
        return convert(wide, target)
    values = np.array([_float(text) for text in array.flat], np.float64).reshape(array.shape)
    return convert(values, target, saturate=saturate, round_mode=round_mode)


def _float(text: Any) -> float:
    try:
        return float(text)
    except ValueError:
        raise ExecutionError(f"Cast: the string {quote(text)} is no number") from None


def _integer(text: Any, target: DType) -> int:
    try:
        return int(text)
    except ValueError:
        return int(to_integer(np.asarray(_float(text)), INT64.numpy))
