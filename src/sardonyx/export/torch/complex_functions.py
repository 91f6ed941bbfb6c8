"""Complex tensors: exponential, logarithm, powers, trigonometric and hyperbolic functions."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from sardonyx.export.torch.complex import angle, joined, product, reciprocal, square
from sardonyx.export.torch.pairs import Complex, as_complex, complex_translation, part_dtype

if TYPE_CHECKING:
    from sardonyx.export.torch.registry import TorchBuilder
    from sardonyx.ir.value import Value

__all__: list[str] = []


def _size(op: TorchBuilder, z: Complex) -> Value:
    """|z|, where squares may overflow."""
    a, b = (op.Abs(part) for part in z.parts(op))
    large, small = op.Max(a, b), op.Min(a, b)
    zero, one = op.constant(0, z.dtype), op.constant(1, z.dtype)
    ratio = op.Div(small, op.Where(op.Equal(large, zero), one, large))
    made: Value = op.Mul(large, op.Sqrt(op.Add(op.Mul(ratio, ratio), one)))
    return made


def _result(op: TorchBuilder, x: Any) -> Complex:
    return as_complex(op, x, part_dtype(op.result()))


def _like(op: TorchBuilder, z: Complex, real: Value, imag: Value) -> Complex:
    op.typed(real, z.dtype, z.shape)
    op.typed(imag, z.dtype, z.shape)
    return Complex(z.dtype, z.shape, parts=(real, imag), graph=op.bodies[-1])


def _exp(op: TorchBuilder, z: Complex) -> Complex:
    a, b = z.parts(op)
    size = op.Exp(a)
    return _like(op, z, op.Mul(size, op.Cos(b)), op.Mul(size, op.Sin(b)))


def _log(op: TorchBuilder, z: Complex) -> Complex:
    return _like(op, z, op.Log(_size(op, z)), angle(op, z))


def _sqrt(op: TorchBuilder, z: Complex) -> Complex:
    # t = sqrt((|a| + |z|) / 2): (t, b / 2t) for a >= 0, (|b| / 2t, t with b's sign) otherwise
    a, b = z.parts(op)
    zero, one, half = (op.constant(number, z.dtype) for number in (0, 1, 0.5))
    t = op.Sqrt(op.Mul(op.Add(op.Abs(a), _size(op, z)), half))
    double = op.Add(t, t)
    quotient = op.Div(b, op.Where(op.Equal(t, zero), one, double))
    right = op.Less(a, zero)
    signed = op.Where(op.Less(b, zero), op.Neg(t), t)
    return _like(op, z, op.Where(right, op.Abs(quotient), t), op.Where(right, signed, quotient))


def _plus(op: TorchBuilder, z: Complex, number: float) -> Complex:
    a, b = z.parts(op)
    return _like(op, z, op.Add(a, op.constant(number, z.dtype)), b)


def _sum(op: TorchBuilder, x: Complex, y: Complex) -> Complex:
    return _like(op, x, op.Add(x.real(op), y.real(op)), op.Add(x.imag(op), y.imag(op)))


def _times_i(op: TorchBuilder, z: Complex, sign: int = 1) -> Complex:
    a, b = z.parts(op)
    return _like(op, z, op.Neg(b), a) if sign > 0 else _like(op, z, b, op.Neg(a))


def _asinh(op: TorchBuilder, z: Complex) -> Complex:
    # log(z + sqrt(z^2 + 1))
    return _log(op, _sum(op, z, _sqrt(op, _plus(op, square(op, z), 1))))


def _atanh(op: TorchBuilder, z: Complex) -> Complex:
    # (log(1 + z) - log(1 - z)) / 2
    a, b = z.parts(op)
    one, half = op.constant(1, z.dtype), op.constant(0.5, z.dtype)
    above = _log(op, _like(op, z, op.Add(one, a), b))
    below = _log(op, _like(op, z, op.Sub(one, a), op.Neg(b)))
    parts = [
        op.Mul(op.Sub(x, y), half) for x, y in zip(above.parts(op), below.parts(op), strict=True)
    ]
    return _like(op, z, parts[0], parts[1])


def _hyperbolic(op: TorchBuilder, z: Complex) -> tuple[Complex, Complex]:
    """Hyperbolic sine and cosine."""
    a, b = z.parts(op)
    sinh, cosh, sin, cos = op.Sinh(a), op.Cosh(a), op.Sin(b), op.Cos(b)
    return (
        _like(op, z, op.Mul(sinh, cos), op.Mul(cosh, sin)),
        _like(op, z, op.Mul(cosh, cos), op.Mul(sinh, sin)),
    )


def _tanh(op: TorchBuilder, z: Complex) -> Complex:
    # (tanh a + i tan b) / (1 + i tanh a tan b), with both parts over 1 + (tanh a tan b)^2
    a, b = z.parts(op)
    x, y, one = op.Tanh(a), op.Tan(b), op.constant(1, z.dtype)
    cross = op.Mul(x, y)
    size = op.Add(one, op.Mul(cross, cross))
    real = op.Div(op.Mul(x, op.Add(one, op.Mul(y, y))), size)
    imag = op.Div(op.Mul(y, op.Sub(one, op.Mul(x, x))), size)
    return _like(op, z, real, imag)


@complex_translation("aten.exp.default")
def exp(op: TorchBuilder, z: Complex) -> Any:
    return _exp(op, _result(op, z))


@complex_translation("aten.exp2.default")
def exp2(op: TorchBuilder, z: Complex) -> Any:
    return _exp(op, product(op, _result(op, z), math.log(2)))


@complex_translation("aten.expm1.default")
def expm1(op: TorchBuilder, z: Complex) -> Any:
    return _plus(op, _exp(op, _result(op, z)), -1)


@complex_translation("aten.log.default")
def log(op: TorchBuilder, z: Complex) -> Any:
    return _log(op, _result(op, z))


@complex_translation("aten.log2.default")
def log2(op: TorchBuilder, z: Complex) -> Any:
    return product(op, _log(op, _result(op, z)), 1 / math.log(2))


@complex_translation("aten.log10.default")
def log10(op: TorchBuilder, z: Complex) -> Any:
    return product(op, _log(op, _result(op, z)), 1 / math.log(10))


@complex_translation("aten.log1p.default")
def log1p(op: TorchBuilder, z: Complex) -> Any:
    return _log(op, _plus(op, _result(op, z), 1))


@complex_translation("aten.sqrt.default")
def sqrt(op: TorchBuilder, z: Complex) -> Any:
    return _sqrt(op, _result(op, z))


@complex_translation("aten.rsqrt.default")
def rsqrt(op: TorchBuilder, z: Complex) -> Any:
    return reciprocal(op, _sqrt(op, _result(op, z)))


@complex_translation("aten.sigmoid.default")
def sigmoid(op: TorchBuilder, z: Complex) -> Any:
    a, b = _result(op, z).parts(op)
    inverse = _exp(op, _like(op, z, op.Neg(a), op.Neg(b)))
    return reciprocal(op, _plus(op, inverse, 1))


@complex_translation("aten.sinh.default")
def sinh(op: TorchBuilder, z: Complex) -> Any:
    return _hyperbolic(op, _result(op, z))[0]


@complex_translation("aten.cosh.default")
def cosh(op: TorchBuilder, z: Complex) -> Any:
    return _hyperbolic(op, _result(op, z))[1]


@complex_translation("aten.tanh.default")
def tanh(op: TorchBuilder, z: Complex) -> Any:
    return _tanh(op, _result(op, z))


@complex_translation("aten.sin.default")
def sin(op: TorchBuilder, z: Complex) -> Any:
    return _times_i(op, _hyperbolic(op, _times_i(op, _result(op, z)))[0], -1)


@complex_translation("aten.cos.default")
def cos(op: TorchBuilder, z: Complex) -> Any:
    return _hyperbolic(op, _times_i(op, _result(op, z)))[1]


@complex_translation("aten.tan.default")
def tan(op: TorchBuilder, z: Complex) -> Any:
    return _times_i(op, _tanh(op, _times_i(op, _result(op, z))), -1)


@complex_translation("aten.asinh.default")
def asinh(op: TorchBuilder, z: Complex) -> Any:
    return _asinh(op, _result(op, z))


@complex_translation("aten.atanh.default")
def atanh(op: TorchBuilder, z: Complex) -> Any:
    return _atanh(op, _result(op, z))


@complex_translation("aten.asin.default")
def asin(op: TorchBuilder, z: Complex) -> Any:
    return _times_i(op, _asinh(op, _times_i(op, _result(op, z))), -1)


@complex_translation("aten.atan.default")
def atan(op: TorchBuilder, z: Complex) -> Any:
    return _times_i(op, _atanh(op, _times_i(op, _result(op, z))), -1)


def _acosh(op: TorchBuilder, z: Complex) -> Complex:
    # log(z + sqrt(z + 1) sqrt(z - 1))
    roots = product(op, _sqrt(op, _plus(op, z, 1)), _sqrt(op, _plus(op, z, -1)))
    return _log(op, _sum(op, z, roots))


@complex_translation("aten.acosh.default")
def acosh(op: TorchBuilder, z: Complex) -> Any:
    return _acosh(op, _result(op, z))


@complex_translation("aten.acos.default")
def acos(op: TorchBuilder, z: Complex) -> Any:
    # pi/2 - asin z
    inner = asin(op, z)
    a, b = inner.parts(op)
    return joined(op, op.Sub(op.constant(math.pi / 2, inner.dtype), a), op.Neg(b))


@complex_translation("aten.pow.Tensor_Tensor", "aten.pow.Tensor_Scalar", "aten.pow.Scalar")
def power(op: TorchBuilder, a: Any, b: Any) -> Any:
    if isinstance(b, (int, float)) and b in {0.5, -1, 1, 2, 3}:
        base = _result(op, a)
        if b == 1:
            return base
        if b == 0.5:
            return _sqrt(op, base)
        if b == -1:
            return reciprocal(op, base)
        return square(op, base) if b == 2 else product(op, square(op, base), base)
    base = _result(op, a)
    zero, one = op.constant(0, base.dtype), op.constant(1, base.dtype)
    size = _size(op, base)
    safe = op.Where(op.Equal(size, zero), one, size)
    logarithm = _like(op, base, op.Log(safe), angle(op, base))
    if isinstance(b, (int, float)):
        exponent = product(op, logarithm, b)
        made = _exp(op, exponent)
        vanishing = b > 0
        still = one if b == 0 else zero
        if not vanishing and b != 0:
            return made
    else:
        made = _exp(op, product(op, logarithm, _result(op, b)))
        real, imag = _result(op, b).parts(op)
        none = op.And(op.Equal(real, zero), op.Equal(imag, zero))
        still = op.Where(none, one, zero)
    at_zero = op.Equal(size, zero)
    c, d = made.parts(op)
    return joined(op, op.Where(at_zero, still, c), op.Where(at_zero, zero, d))
