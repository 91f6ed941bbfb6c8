"""Elementwise operators: arithmetic, comparison, logic, activations, casts."""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING, Any, Final

from sardonyx import dtypes
from sardonyx.dtypes import BOOL, DOUBLE, FLOAT
from sardonyx.loops import doubles, trigonometry
from sardonyx.loops import mathematics as m
from sardonyx.loops.nest import Lowering, Nest, NotLowered, Source, widened
from sardonyx.loops.scalars import apply, cast, const, select
from sardonyx.lowering.registry import rule
from sardonyx.lowering.support import agree

if TYPE_CHECKING:
    from collections.abc import Callable

    from sardonyx.loops.expr import Expr


def number(value: float, like: Expr) -> Expr:
    """The number `value` in the type of `like`."""
    return const(value, like.dtype)


def _reciprocal(x: Expr) -> Expr:
    return apply("div", number(1, x), x)


def _sign(x: Expr) -> Expr:
    zero, one = number(0, x), number(1, x)
    if x.dtype.kind == "uint":
        return select(apply("lt", zero, x), one, zero)
    negative = select(apply("lt", x, zero), number(-1, x), zero if not x.dtype.is_floating else x)
    if not x.dtype.is_floating:
        return select(apply("lt", zero, x), one, negative)
    signed = select(apply("lt", zero, x), one, negative)
    return select(apply("eq", x, zero), zero, signed)


def _softsign(x: Expr) -> Expr:
    return apply("div", x, apply("add", number(1, x), apply("abs", x)))


def relu(x: Expr) -> Expr:
    """max(x, 0); NaN stays NaN."""
    return apply("max", x, number(0, x))


def sigmoid(x: Expr) -> Expr:
    """1 / (1 + exp(-x)), in the form that does not overflow."""
    return m.sigmoid(x)


_MOST_INPUTS: Final = 64

_UNARY: Final[dict[str, Callable[[Expr], Expr]]] = {
    "Abs": lambda x: apply("abs", x),
    "Neg": lambda x: apply("neg", x),
    "Sign": _sign,
    "Sqrt": lambda x: apply("sqrt", x),
    "Reciprocal": _reciprocal,
    "Floor": lambda x: apply("floor", x),
    "Ceil": lambda x: apply("ceil", x),
    "Round": lambda x: apply("rint", x),
    "Exp": m.exp,
    "Log": m.log,
    "Erf": m.erf,
    "Tanh": m.tanh,
    "Sigmoid": m.sigmoid,
    "Sin": trigonometry.sin,
    "Cos": trigonometry.cos,
    "Tan": trigonometry.tan,
    "Asin": trigonometry.asin,
    "Acos": trigonometry.acos,
    "Atan": trigonometry.atan,
    "Sinh": trigonometry.sinh,
    "Cosh": trigonometry.cosh,
    "Asinh": trigonometry.asinh,
    "Acosh": trigonometry.acosh,
    "Atanh": trigonometry.atanh,
    "Softsign": _softsign,
    "Relu": relu,
    "Identity": lambda x: x,
    "Not": lambda x: apply("not", x),
    "BitwiseNot": lambda x: apply("not", x),
    "IsNaN": lambda x: apply("ne", x, x),
}


@rule(*_UNARY)
def unary(k: Lowering, op: Any, x: Source) -> Nest:
    if op.op_type == "Erf" and not x.dtype.is_floating:
        raise NotLowered("Erf of integers")
    return k.map(_UNARY[op.op_type], x)


_BINARY: Final[dict[str, str]] = {
    "Add": "add",
    "Sub": "sub",
    "Mul": "mul",
    "Div": "div",
    "And": "and",
    "Or": "or",
    "Xor": "xor",
    "BitwiseAnd": "and",
    "BitwiseOr": "or",
    "BitwiseXor": "xor",
    "Less": "lt",
    "LessOrEqual": "le",
    "Equal": "eq",
}


def _versioned(op: Any) -> None:
    if op.version < 7:
        raise NotLowered(f"{op.op_type}-{op.version} broadcasts along an axis")


@rule(*_BINARY)
def binary(k: Lowering, op: Any, a: Source, b: Source) -> Nest:
    _versioned(op)
    return k.map(lambda x, y: apply(_BINARY[op.op_type], x, y), a, b)


@rule("Greater", "GreaterOrEqual")
def greater(k: Lowering, op: Any, a: Source, b: Source) -> Nest:
    _versioned(op)
    name = "lt" if op.op_type == "Greater" else "le"
    return k.map(lambda x, y: apply(name, y, x), a, b)


@rule("Max", "Min", "Sum", "Mean")
def variadic(k: Lowering, op: Any, *data: Source) -> Nest:
    if len(data) > _MOST_INPUTS:
        raise NotLowered(f"{op.op_type} of {len(data)} inputs")
    names = {"Max": "maximum", "Min": "minimum", "Sum": "add", "Mean": "add"}

    def element(*values: Expr) -> Expr:
        total = reduce(lambda x, y: apply(names[op.op_type], x, y), values)
        if op.op_type == "Mean":
            return apply("div", total, number(len(values), total))
        return total

    return k.map(element, *data)


@rule("Mod")
def modulo(k: Lowering, op: Any, a: Source, b: Source) -> Nest:
    def element(x: Expr, y: Expr) -> Expr:
        rest = apply("rem", x, y)
        if op.fmod or x.dtype.kind == "uint":
            return rest
        zero = number(0, x)
        differ = apply("ne", apply("lt", rest, zero), apply("lt", y, zero))
        moved = select(differ, apply("add", rest, y), rest)
        return select(apply("eq", rest, zero), rest, moved)

    if a.dtype.is_floating:
        raise NotLowered("Mod of floating point")
    return k.map(element, a, b)


@rule("Where")
def where(k: Lowering, _op: Any, condition: Source, x: Source, y: Source) -> Nest:
    return k.map(select, condition, x, y)


@rule("BitShift")
def shift(k: Lowering, op: Any, x: Source, y: Source) -> Nest:
    left = op.direction == "LEFT"

    def element(a: Expr, b: Expr) -> Expr:
        width, zero = a.dtype.bits, number(0, b)
        inside = apply("lt", b, number(width, b))
        outside = number(0, a)
        if a.dtype.kind == "int":
            inside = apply("and", apply("le", zero, b), inside)
            if not left:
                outside = apply("shr", a, number(width - 1, a))
        return select(inside, apply("shl" if left else "shr", a, b), outside)

    return k.map(element, x, y)


@rule("Clip")
def clip(k: Lowering, op: Any, x: Source, low: Source | None, high: Source | None) -> Nest:
    bounds = [(low, "maximum"), (high, "minimum")]
    given = [(source, name) for source, name in bounds if source is not None]

    def element(value: Expr, *limits: Expr) -> Expr:
        for limit, (_, name) in zip(limits, given, strict=True):
            value = apply(name, value, limit)
        return value

    return k.map(element, x, *(source for source, _ in given))


@rule("Cast", "CastLike")
def convert(k: Lowering, op: Any, x: Source, like: Source | None = None) -> Nest:
    target = k.outputs[0][0]
    narrow = {dtypes.FLOAT16, dtypes.BFLOAT16}
    wide = x.dtype is dtypes.DOUBLE or (x.dtype.is_integer and x.dtype.bits > 16)
    if target in narrow and wide:
        raise NotLowered(f"{x.dtype} to {target} would round twice")

    def element(*axes: Any) -> Expr:
        return cast(x.at(axes), target)

    return k.compute(x.shape, target, element)


@rule("LeakyRelu", "PRelu", "ThresholdedRelu", "Elu", "Selu", "Celu", "HardSigmoid")
def parametric(k: Lowering, op: Any, x: Source, slope: Source | None = None) -> Nest:
    if op.op_type == "PRelu":
        assert slope is not None
        if op.version < 7:
            raise NotLowered("PRelu before opset 7")
        return k.map(
            lambda v, s: select(apply("lt", v, number(0, v)), apply("mul", v, s), v), x, slope
        )

    def element(v: Expr) -> Expr:
        zero, alpha = number(0, v), number(op.alpha, v)
        negative = apply("lt", v, zero)
        if op.op_type == "LeakyRelu":
            return select(negative, apply("mul", alpha, v), v)
        if op.op_type == "ThresholdedRelu":
            return select(apply("lt", alpha, v), v, zero)
        if op.op_type == "HardSigmoid":
            line = apply("add", apply("mul", alpha, v), number(op.beta, v))
            return apply("minimum", apply("maximum", line, zero), number(1, v))
        if op.op_type == "Elu":
            return select(negative, apply("mul", alpha, m.expm1(v)), v)
        if op.op_type == "Selu":
            curve = select(apply("lt", zero, v), v, apply("mul", alpha, m.expm1(v)))
            return apply("mul", number(op.gamma, v), curve)
        curve = apply("mul", alpha, m.expm1(apply("div", v, alpha)))
        return apply("add", apply("maximum", v, zero), apply("minimum", zero, curve))

    return k.map(element, x)


@rule("HardSwish")
def hard_swish(k: Lowering, _op: Any, x: Source) -> Nest:
    def element(v: Expr) -> Expr:
        line = apply("add", apply("mul", v, number(1 / 6, v)), number(0.5, v))
        gate = apply("maximum", number(0, v), apply("minimum", number(1, v), line))
        return apply("mul", v, gate)

    return k.map(element, x)


@rule("Softplus", "Mish")
def softplus(k: Lowering, op: Any, x: Source) -> Nest:
    def element(v: Expr) -> Expr:
        plus = m.softplus(v)
        return apply("mul", v, m.tanh(plus)) if op.op_type == "Mish" else plus

    return k.map(element, x)


@rule("Gelu")
def gelu(k: Lowering, op: Any, x: Source) -> Nest:
    return k.map(m.gelu_tanh if op.approximate == "tanh" else m.gelu, x)


@rule("Swish")
def swish(k: Lowering, op: Any, x: Source) -> Nest:
    return k.map(lambda v: apply("mul", v, m.sigmoid(apply("mul", v, number(op.alpha, v)))), x)


@rule("IsInf")
def is_infinite(k: Lowering, op: Any, x: Source) -> Nest:
    infinity = float("inf")

    def element(v: Expr) -> Expr:
        tests = []
        if op.detect_positive:
            tests.append(apply("eq", v, number(infinity, v)))
        if op.detect_negative:
            tests.append(apply("eq", v, number(-infinity, v)))
        found: Expr = const(0, BOOL)
        for test in tests:
            found = apply("or", found, test)
        return found

    return k.map(element, x)


@rule("Pow")
def power(k: Lowering, op: Any, x: Source, y: Source) -> Nest:
    dtype, shape = k.outputs[0]
    exponent = y.contents
    value = 0.0
    if exponent is not None and exponent.size == 1 and exponent.dtype != object:
        value = float(exponent.reshape(-1)[0])
    if value in _POWERS and (x.dtype.is_floating or value >= 1):
        return k.compute(shape, dtype, lambda *axes: _POWERS[value](widened(x.at(axes))))
    if not x.dtype.is_floating or x.dtype is DOUBLE or y.dtype is DOUBLE:
        raise NotLowered(f"Pow of {x.dtype} with an exponent that is not a small known number")
    return k.map(lambda a, b: doubles.power(a, cast(b, FLOAT)), x, y)


@rule("SwiGLU")
def swiglu(k: Lowering, op: Any, a: Source, b: Source) -> Nest:
    agree("SwiGLU's B", b.shape, a.shape)

    def element(x: Expr, y: Expr) -> Expr:
        gate = m.sigmoid(apply("mul", x, number(op.alpha, x)))
        return apply("mul", apply("mul", x, gate), y)

    return k.map(element, a, b)


@rule("Shrink")
def shrink(k: Lowering, op: Any, x: Source) -> Nest:
    if not x.dtype.is_floating:
        raise NotLowered(f"Shrink of {x.dtype}")

    def element(v: Expr) -> Expr:
        bias = number(op.bias, v)
        above = apply("lt", number(op.lambd, v), v)
        below = apply("lt", v, number(-op.lambd, v))
        inner = select(above, apply("sub", v, bias), number(0, v))
        return select(below, apply("add", v, bias), inner)

    return k.map(element, x)


@rule("BitCast")
def bit_cast(k: Lowering, _op: Any, x: Source) -> Nest:
    dtype, shape = k.outputs[0]
    if BOOL in {x.dtype, dtype}:
        raise NotLowered("BitCast of BOOL")
    return k.compute(shape, dtype, lambda *axes: apply("bits", x[axes], dtype=dtype))


def _square(x: Expr) -> Expr:
    return apply("mul", x, x)


_POWERS: Final[dict[float, Callable[[Expr], Expr]]] = {
    0.5: lambda x: apply("sqrt", x),
    1.0: lambda x: x,
    2.0: _square,
    3.0: lambda x: apply("mul", _square(x), x),
    4.0: lambda x: _square(_square(x)),
    -1.0: _reciprocal,
}
