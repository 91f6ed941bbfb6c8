"""Arithmetic, comparisons, logic and selection, elementwise."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

from sardonyx import dtypes
from sardonyx.dims import Dim
from sardonyx.export.torch.registry import TorchBuilder, TorchValue, translation
from sardonyx.ir.value import Value

if TYPE_CHECKING:
    from sardonyx.dtypes import DType

__all__: list[str] = []

_UNARY: Final = {
    "abs": "Abs", "acos": "Acos", "acosh": "Acosh", "asin": "Asin", "asinh": "Asinh",
    "atan": "Atan", "atanh": "Atanh", "ceil": "Ceil", "cos": "Cos", "cosh": "Cosh", "erf": "Erf",
    "exp": "Exp", "floor": "Floor", "log": "Log", "neg": "Neg", "reciprocal": "Reciprocal",
    "round": "Round", "sigmoid": "Sigmoid", "sign": "Sign", "sgn": "Sign", "sin": "Sin",
    "sinh": "Sinh", "sqrt": "Sqrt", "tan": "Tan", "tanh": "Tanh",
}  # fmt: skip
_LOGIC: Final = {"and": "And", "or": "Or", "xor": "Xor"}
_COMPARISONS: Final = {
    "eq": "Equal", "ne": "Equal", "lt": "Less", "le": "LessOrEqual", "gt": "Greater",
    "ge": "GreaterOrEqual",
}  # fmt: skip


def _register_unary(target: str, op_type: str) -> None:
    @translation(f"aten.{target}.default")
    def unary(op: TorchBuilder, x: Value) -> Any:
        dtype = op.result()
        if op_type in {"Ceil", "Floor", "Round"} and not dtype.is_floating:
            return x
        if op_type == "Neg" and dtype.kind == "uint":
            return op.Sub(op.constant(0, dtype), x)
        return op.apply(op_type, [op.cast(x, dtype)])


def _register_logic(word: str, op_type: str) -> None:
    @translation(f"aten.logical_{word}.default")
    def logical(op: TorchBuilder, a: Value, b: Value) -> Any:
        return op.apply(op_type, [op.cast(a, dtypes.BOOL), op.cast(b, dtypes.BOOL)])

    @translation(f"aten.bitwise_{word}.Tensor", f"aten.bitwise_{word}.Scalar",
                 f"aten.bitwise_{word}.Scalar_Tensor")  # fmt: skip
    def bitwise(op: TorchBuilder, a: TorchValue, b: TorchValue) -> Any:
        dtype = op.result()
        name = op_type if dtype is dtypes.BOOL else f"Bitwise{op_type}"
        return op.apply(name, [op.scalar(a, dtype), op.scalar(b, dtype)])


def _register_comparison(target: str, op_type: str) -> None:
    @translation(f"aten.{target}.Tensor", f"aten.{target}.Scalar")
    def compare(op: TorchBuilder, a: Value, b: TorchValue) -> Any:
        dtype = op.common_dtype or op.dtype_of(a)
        if dtype is dtypes.BOOL and op_type != "Equal":
            dtype = dtypes.INT32
        left, right = op.scalar(a, dtype), op.scalar(b, dtype)
        if target == "ne":
            return op.Not(op.Equal(left, right))
        if op.opset < 12 and op_type.endswith("OrEqual"):
            strict = op.apply(op_type.removesuffix("OrEqual"), [left, right])
            return op.Or(strict, op.Equal(left, right))
        return op.apply(op_type, [left, right])


for _target, _op_type in _UNARY.items():
    _register_unary(_target, _op_type)
for _target, _op_type in _LOGIC.items():
    _register_logic(_target, _op_type)
for _target, _op_type in _COMPARISONS.items():
    _register_comparison(_target, _op_type)


@translation("aten.logical_not.default")
def logical_not(op: TorchBuilder, x: Value) -> Any:
    return op.Not(op.cast(x, dtypes.BOOL))


@translation("aten.bitwise_not.default")
def bitwise_not(op: TorchBuilder, x: Value) -> Any:
    return op.Not(x) if x.dtype is dtypes.BOOL else op.BitwiseNot(x)


@translation("aten.isnan.default")
def isnan(op: TorchBuilder, x: Value) -> Any:
    return op.IsNaN(x) if op.dtype_of(x).is_floating else _constant_truth(op, x, False)


@translation("aten.isinf.default")
def isinf(op: TorchBuilder, x: Value) -> Any:
    return op.IsInf(x) if op.dtype_of(x).is_floating else _constant_truth(op, x, False)


@translation("aten.isposinf.default")
def isposinf(op: TorchBuilder, x: Value) -> Any:
    if op.dtype_of(x) in {dtypes.FLOAT, dtypes.DOUBLE}:
        return op.IsInf(x, detect_negative=0)
    return _infinite(op, x, math.inf)


@translation("aten.isneginf.default")
def isneginf(op: TorchBuilder, x: Value) -> Any:
    if op.dtype_of(x) in {dtypes.FLOAT, dtypes.DOUBLE}:
        return op.IsInf(x, detect_positive=0)
    return _infinite(op, x, -math.inf)


def _infinite(op: TorchBuilder, x: Value, infinity: float) -> Any:
    dtype = op.dtype_of(x)
    if dtype.is_floating:
        return op.Equal(x, op.constant(infinity, dtype))
    return _constant_truth(op, x, False)


def _constant_truth(op: TorchBuilder, x: Value, truth: bool) -> Value:
    """`truth` in the shape of `x`."""
    equal: Value = op.Equal(x, x)
    return equal if truth else op.Not(equal)


@translation("aten.isfinite.default")
def isfinite(op: TorchBuilder, x: Value) -> Any:
    dtype = op.dtype_of(x)
    if not dtype.is_floating:
        return _constant_truth(op, x, True)
    return op.Less(op.Abs(x), op.constant(math.inf, dtype))


@translation("aten.rsqrt.default")
def rsqrt(op: TorchBuilder, x: Value) -> Any:
    return op.Reciprocal(op.Sqrt(op.cast(x, op.result())))


@translation("aten.square.default")
def square(op: TorchBuilder, x: Value) -> Any:
    x = op.cast(x, op.result())
    return op.Mul(x, x)


@translation("aten.exp2.default")
def exp2(op: TorchBuilder, x: Value) -> Any:
    dtype = op.result()
    return op.Pow(op.constant(2, dtype), op.cast(x, dtype))


@translation("aten.expm1.default")
def expm1(op: TorchBuilder, x: Value) -> Any:
    # e^x - 1 = tanh(x/2) (e^x + 1), which keeps its digits near 0
    dtype = op.result()
    x = op.cast(x, dtype)
    bend = op.Tanh(op.Mul(x, op.constant(0.5, dtype)))
    return op.Mul(bend, op.Add(op.Exp(x), op.constant(1, dtype)))


@translation("aten.log1p.default")
def log1p(op: TorchBuilder, x: Value) -> Any:
    return log_of_one_plus(op, op.cast(x, op.result()))


def log_of_one_plus(op: TorchBuilder, x: Value) -> Value:
    """log(1 + x), with its digits near 0: what the sum's rounding lost is added back."""
    one = op.constant(1, op.dtype_of(x))
    total = op.Add(x, one)
    kept = op.Sub(total, one)
    log: Value = op.Log(total)
    lost = op.Div(op.Sub(x, kept), total)
    if op.opset < 9:
        # there is no Where: digits are lost near 0
        return log
    if op.opset < 11:
        same = op.Not(op.Or(op.Less(kept, x), op.Less(x, kept)))
    else:
        same = op.Equal(kept, x)
    found: Value = op.Where(same, log, op.Add(log, lost))
    return found


def _log(op: TorchBuilder, x: Value, base: float) -> Any:
    dtype = op.result()
    return op.Div(op.Log(op.cast(x, dtype)), op.constant(math.log(base), dtype))


@translation("aten.log2.default")
def log2(op: TorchBuilder, x: Value) -> Any:
    return _log(op, x, 2)


@translation("aten.log10.default")
def log10(op: TorchBuilder, x: Value) -> Any:
    return _log(op, x, 10)


@translation("aten.erfc.default")
def erfc(op: TorchBuilder, x: Value) -> Any:
    dtype = op.result()
    return op.Sub(op.constant(1, dtype), op.Erf(op.cast(x, dtype)))


@translation("aten.trunc.default", "aten.fix.default")
def trunc(op: TorchBuilder, x: Value) -> Any:
    dtype = op.result()
    return op.Mul(op.Sign(x), op.Floor(op.Abs(x))) if dtype.is_floating else x


@translation("aten.round.decimals")
def round_decimals(op: TorchBuilder, x: Value, *, decimals: int = 0) -> Any:
    dtype = op.result()
    if not dtype.is_floating:
        return x
    if not decimals:
        return op.Round(x)
    scale = op.constant(10.0 ** abs(decimals), dtype)
    if decimals < 0:
        return op.Mul(op.Round(op.Div(x, scale)), scale)
    return op.Div(op.Round(op.Mul(x, scale)), scale)


@translation("aten.add.Tensor", "aten.add.Scalar")
def add(op: TorchBuilder, a: TorchValue, b: TorchValue, alpha: Any = 1) -> Any:
    dtype = op.result()
    left, right = op.scalar(a, dtype), op.scalar(b, dtype)
    if dtype is dtypes.BOOL:
        return op.Or(left, right)
    return op.Add(left, _times(op, right, alpha, dtype))


@translation("aten.sub.Tensor", "aten.sub.Scalar")
def sub(op: TorchBuilder, a: TorchValue, b: TorchValue, alpha: Any = 1) -> Any:
    dtype = op.result()
    return op.Sub(op.scalar(a, dtype), _times(op, op.scalar(b, dtype), alpha, dtype))


@translation("aten.rsub.Tensor", "aten.rsub.Scalar")
def rsub(op: TorchBuilder, a: TorchValue, b: TorchValue, alpha: Any = 1) -> Any:
    return sub(op, b, a, alpha)


def _times(op: TorchBuilder, x: Value, factor: Any, dtype: DType) -> Value:
    if not isinstance(factor, Value) and factor == 1:
        return x
    product: Value = op.Mul(x, op.scalar(factor, dtype))
    return op.typed(product, dtype, x.shape) if x.shape is not None else product


@translation("aten.mul.Tensor", "aten.mul.Scalar")
def mul(op: TorchBuilder, a: TorchValue, b: TorchValue) -> Any:
    dtype = op.result()
    left, right = op.scalar(a, dtype), op.scalar(b, dtype)
    return op.And(left, right) if dtype is dtypes.BOOL else op.Mul(left, right)


@translation("aten.div.Tensor", "aten.div.Scalar", "aten.true_divide.Tensor")
def div(op: TorchBuilder, a: TorchValue, b: TorchValue) -> Any:
    dtype = op.result()
    return op.Div(op.scalar(a, dtype), op.scalar(b, dtype))


@translation("aten.div.Tensor_mode", "aten.div.Scalar_mode")
def div_mode(
    op: TorchBuilder, a: TorchValue, b: TorchValue, *, rounding_mode: str | None = None
) -> Any:
    if rounding_mode is None:
        return div(op, a, b)
    if rounding_mode == "floor":
        return floor_divide(op, a, b)
    dtype = op.result()
    quotient = op.Div(op.scalar(a, dtype), op.scalar(b, dtype))
    if dtype.is_integer:
        return quotient
    return op.Mul(op.Sign(quotient), op.Floor(op.Abs(quotient)))


@translation("aten.floor_divide.default", "aten.floor_divide.Scalar")
def floor_divide(op: TorchBuilder, a: TorchValue, b: TorchValue) -> Any:
    dtype = op.result()
    left, right = op.scalar(a, dtype), op.scalar(b, dtype)
    if dtype.is_integer:
        return op.Div(op.Sub(left, op.Mod(left, right)), right)
    return op.Floor(op.Div(left, right))


@translation("aten.remainder.Tensor", "aten.remainder.Scalar", "aten.remainder.Scalar_Tensor")
def remainder(op: TorchBuilder, a: TorchValue, b: TorchValue) -> Any:
    dtype = op.result()
    left, right = op.scalar(a, dtype), op.scalar(b, dtype)
    if dtype.is_integer:
        return op.Mod(left, right)
    if op.opset < 10:
        return op.Sub(left, op.Mul(op.Floor(op.Div(left, right)), right))
    rest = op.Mod(left, right, fmod=1)
    zero = op.constant(0, dtype)
    if not isinstance(b, Value):
        wrong = op.Less(rest, zero) if b > 0 else op.Greater(rest, zero)
    else:
        wrong = op.Less(op.Mul(op.Sign(rest), op.Sign(right)), zero)
    return op.Where(wrong, op.Add(rest, right), rest)


@translation("aten.fmod.Tensor", "aten.fmod.Scalar")
def fmod(op: TorchBuilder, a: TorchValue, b: TorchValue) -> Any:
    dtype = op.result()
    return op.Mod(op.scalar(a, dtype), op.scalar(b, dtype), fmod=1)


@translation("aten.pow.Tensor_Tensor", "aten.pow.Tensor_Scalar", "aten.pow.Scalar")
def power(op: TorchBuilder, a: TorchValue, b: TorchValue) -> Any:
    dtype = op.result()
    base = op.scalar(a, dtype)
    if dtype.is_integer and dtype not in {dtypes.INT32, dtypes.INT64}:
        wide = op.Pow(op.cast(base, dtypes.INT64), op.scalar(b, dtypes.INT64))
        return op.cast(wide, dtype)
    if not isinstance(b, Value):
        if b == 1:
            return base
        if b == 2:
            return op.Mul(base, base)
        if b == 0.5:
            return op.Sqrt(base)
        if b == -1:
            return op.Reciprocal(base)
    return op.Pow(base, op.scalar(b, dtype))


@translation("aten.atan2.default")
def atan2(op: TorchBuilder, y: Value, x: Value) -> Any:
    dtype = op.result()
    y, x = op.cast(y, dtype), op.cast(x, dtype)
    zero, pi = op.constant(0, dtype), op.constant(math.pi, dtype)
    half = op.constant(math.pi / 2, dtype)
    on_axis = op.Equal(x, zero)
    angle = op.Atan(op.Div(y, op.Where(on_axis, op.constant(1, dtype), x)))
    left = op.Where(op.Less(y, zero), op.Sub(angle, pi), op.Add(angle, pi))
    upright = op.Mul(op.Sign(y), half)
    return op.Where(on_axis, upright, op.Where(op.Less(x, zero), left, angle))


@translation("aten.maximum.default")
def maximum(op: TorchBuilder, a: Value, b: Value) -> Any:
    dtype = op.result()
    if dtype is dtypes.BOOL:
        return op.Or(a, b)
    return op.Max(op.cast(a, dtype), op.cast(b, dtype))


@translation("aten.minimum.default")
def minimum(op: TorchBuilder, a: Value, b: Value) -> Any:
    dtype = op.result()
    if dtype is dtypes.BOOL:
        return op.And(a, b)
    return op.Min(op.cast(a, dtype), op.cast(b, dtype))


@translation("aten.clamp.default", "aten.clip.default")
def clamp(op: TorchBuilder, x: Value, min: Any = None, max: Any = None) -> Any:
    if any(isinstance(bound, (Dim, Value)) for bound in (min, max)):
        return clamp_tensor(op, x, min, max)
    dtype = op.result()
    x = op.cast(x, dtype)
    low = max if min is not None and max is not None and min > max else min
    if not dtype.is_integer:
        return op.clip(x, low, max)
    smallest, largest = op.range_of(dtype)
    return op.clip(
        x,
        None if low is None or low < smallest else low,
        None if max is None or max > largest else max,
    )


@translation("aten.clamp_min.default")
def clamp_min(op: TorchBuilder, x: Value, min: Any) -> Any:
    return clamp(op, x, min, None)


@translation("aten.clamp_max.default")
def clamp_max(op: TorchBuilder, x: Value, max: Any) -> Any:
    return clamp(op, x, None, max)


@translation("aten.clamp.Tensor", "aten.clip.Tensor")
def clamp_tensor(op: TorchBuilder, x: Value, min: Any = None, max: Any = None) -> Any:
    dtype = op.result()
    x = op.cast(x, dtype)
    if min is not None:
        x = op.Max(x, op.scalar(min, dtype))
    if max is not None:
        x = op.Min(x, op.scalar(max, dtype))
    return x


@translation("aten.clamp_min.Tensor")
def clamp_min_tensor(op: TorchBuilder, x: Value, min: Value) -> Any:
    return clamp_tensor(op, x, min, None)


@translation("aten.clamp_max.Tensor")
def clamp_max_tensor(op: TorchBuilder, x: Value, max: Value) -> Any:
    return clamp_tensor(op, x, None, max)


@translation(
    "aten.where.self", "aten.where.ScalarSelf", "aten.where.ScalarOther", "aten.where.Scalar"
)
def where(op: TorchBuilder, condition: Value, a: TorchValue, b: TorchValue) -> Any:
    dtype = op.result()
    return select(op, op.cast(condition, dtypes.BOOL), op.scalar(a, dtype), op.scalar(b, dtype))


def select(op: TorchBuilder, condition: Value, a: Value, b: Value) -> Value:
    """Where, written in logic for booleans, which onnxruntime's Where does not take."""
    if a.dtype is dtypes.BOOL:
        chosen: Value = op.Or(op.And(condition, a), op.And(op.Not(condition), b))
    else:
        chosen = op.Where(condition, a, b)
    return chosen


@translation("aten.masked_fill.Scalar", "aten.masked_fill.Tensor")
def masked_fill(op: TorchBuilder, x: Value, mask: Value, value: TorchValue) -> Any:
    dtype = op.result()
    return select(op, op.cast(mask, dtypes.BOOL), op.scalar(value, dtype), op.cast(x, dtype))


@translation("aten.lerp.Scalar", "aten.lerp.Tensor")
def lerp(op: TorchBuilder, start: Value, end: Value, weight: TorchValue) -> Any:
    dtype = op.result()
    start = op.cast(start, dtype)
    return op.Add(start, op.Mul(op.scalar(weight, dtype), op.Sub(op.cast(end, dtype), start)))


@translation("aten.addcmul.default")
def addcmul(op: TorchBuilder, x: Value, a: Value, b: Value, *, value: Any = 1) -> Any:
    dtype = op.result()
    product = op.Mul(op.cast(a, dtype), op.cast(b, dtype))
    return op.Add(op.cast(x, dtype), _times(op, product, value, dtype))


@translation("aten.addcdiv.default")
def addcdiv(op: TorchBuilder, x: Value, a: Value, b: Value, *, value: Any = 1) -> Any:
    dtype = op.result()
    quotient = op.Div(op.cast(a, dtype), op.cast(b, dtype))
    return op.Add(op.cast(x, dtype), _times(op, quotient, value, dtype))


@translation(
    "aten.to.dtype", "aten.to.dtype_layout", "aten._to_copy.default", "aten.to.other",
    "aten.type_as.default", "aten.to.device", "prims.convert_element_type.default",
)  # fmt: skip
def convert(op: TorchBuilder, x: Value, *_: Any, **__: Any) -> Any:
    return op.cast(x, op.result())


@translation(
    "aten.alias.default", "aten.clone.default", "aten.contiguous.default", "aten.detach.default",
    "aten.detach_.default", "aten.lift_fresh_copy.default", "aten.lift_fresh.default",
    "aten.positive.default", "aten.conj.default", "aten.resolve_conj.default",
    "aten.resolve_neg.default",
)  # fmt: skip
def identity(op: TorchBuilder, x: Value, *_: Any, **__: Any) -> Any:
    return x


@translation("aten._assert_async.msg", "aten._assert_scalar.default", "aten._assert_async.default",
             "aten._assert_tensor_metadata.default", "aten.sym_constrain_range.default",
             "aten.sym_constrain_range_for_size.default")  # fmt: skip
def assertion(op: TorchBuilder, *_: Any, **__: Any) -> None:
    return None
