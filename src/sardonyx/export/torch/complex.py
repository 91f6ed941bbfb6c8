"""Complex tensors: their parts, arithmetic, functions and products."""

from __future__ import annotations

import math
from typing import Any, Final

from sardonyx import dtypes
from sardonyx.errors import ExportError
from sardonyx.export.torch.pairs import (
    COMPLEX_TRANSLATIONS,
    Complex,
    as_complex,
    complex_translation,
    part_dtype,
    real_results,
)
from sardonyx.export.torch.registry import TRANSLATIONS, TorchBuilder, known, translation
from sardonyx.ir.value import Value

__all__ = ["is_nonzero", "joined", "product", "reciprocal", "square", "typed_like"]


def joined(op: TorchBuilder, real: Value, imag: Value) -> Complex:
    """The complex result with these parts."""
    dtype, shape = part_dtype(op.result()), op.result_shape
    op.typed(real, dtype, shape)
    op.typed(imag, dtype, shape)
    return Complex(dtype, shape, parts=(real, imag), graph=op.bodies[-1])


def typed_like(op: TorchBuilder, packed: Value) -> Complex:
    """The complex result that `packed` holds."""
    dtype, shape = part_dtype(op.result()), op.result_shape
    op.typed(packed, dtype, [*shape, 2])
    return Complex(dtype, shape, packed=packed, graph=op.bodies[-1])


def _result(op: TorchBuilder, x: Any) -> Complex:
    """An operand with the parts' type of the result."""
    return as_complex(op, x, part_dtype(op.result()))


def _node(op: TorchBuilder, name: str, *inputs: Value) -> Value:
    made = op.apply(name, list(inputs))
    assert isinstance(made, Value)
    return made


def _real_only(x: Any) -> bool:
    return not isinstance(x, (Complex, complex))


@translation("aten.view_as_complex.default", "aten.view_as_complex_copy.default")
@complex_translation("aten.view_as_complex.default", "aten.view_as_complex_copy.default")
def view_as_complex(op: TorchBuilder, x: Value) -> Any:
    return Complex(op.dtype_of(x), op.result_shape, packed=x, graph=op.bodies[-1])


@translation("aten.view_as_real.default", "aten.view_as_real_copy.default")
@complex_translation("aten.view_as_real.default", "aten.view_as_real_copy.default")
def view_as_real(op: TorchBuilder, z: Complex) -> Any:
    return z.packed(op)


@translation("aten.complex.default")
@complex_translation("aten.complex.default")
def complex_(op: TorchBuilder, real: Value, imag: Value) -> Any:
    shape = known(op.result_shape)
    if shape is None:
        raise ExportError("complex numbers of a shape that cannot be said")
    parts = [
        part if part.shape == shape else op.Expand(part, op.sizes(shape)) for part in (real, imag)
    ]
    return joined(op, parts[0], parts[1])


@translation("aten.polar.default")
@complex_translation("aten.polar.default")
def polar(op: TorchBuilder, size: Value, angle: Value) -> Any:
    return joined(op, op.Mul(size, op.Cos(angle)), op.Mul(size, op.Sin(angle)))


@translation("aten.real.default")
@complex_translation("aten.real.default")
def real(op: TorchBuilder, z: Complex | Value) -> Any:
    return z.real(op) if isinstance(z, Complex) else z


@translation("aten.imag.default")
@complex_translation("aten.imag.default")
def imag(op: TorchBuilder, z: Complex) -> Any:
    return z.imag(op)


@complex_translation(
    "aten.conj.default", "aten._conj.default", "aten._conj_physical.default",
    "aten.conj_physical.default", "aten._conj_copy.default",
)  # fmt: skip
def conj(op: TorchBuilder, z: Any) -> Any:
    if isinstance(z, Value):
        return z
    if z.has_parts(op) or not z.is_packed(op):
        return joined(op, z.real(op), op.Neg(z.imag(op)))
    return typed_like(op, op.Mul(z.packed(op), op.constant([1, -1], z.dtype)))


@translation("aten._neg_view.default")
@complex_translation("aten.neg.default", "aten._neg_view.default")
def neg(op: TorchBuilder, z: Any) -> Any:
    if isinstance(z, Value):
        return op.Neg(z)
    if z.has_parts(op):
        return joined(op, op.Neg(z.real(op)), op.Neg(z.imag(op)))
    return typed_like(op, op.Neg(z.packed(op)))


@complex_translation(
    "aten.to.dtype", "aten.to.dtype_layout", "aten._to_copy.default", "aten.to.other",
    "aten.type_as.default", "aten.to.device", "prims.convert_element_type.default",
)  # fmt: skip
def convert(op: TorchBuilder, x: Any, *_: Any, **__: Any) -> Any:
    dtype = op.result()
    if dtype in {dtypes.COMPLEX64, dtypes.COMPLEX128}:
        return _result(op, x)
    if dtype is dtypes.BOOL:
        return is_nonzero(op, x)
    return op.cast(x.real(op), dtype)


def is_nonzero(op: TorchBuilder, z: Complex) -> Value:
    """Which elements are not 0."""
    zero = op.constant(0, z.dtype)
    parts = [op.Equal(part, zero) for part in z.parts(op)]
    made: Value = op.Not(op.And(*parts))
    return op.typed(made, dtypes.BOOL, z.shape)


@complex_translation("aten.logical_not.default")
def logical_not(op: TorchBuilder, z: Complex) -> Any:
    return op.Not(is_nonzero(op, z))


@complex_translation("aten.abs.default")
def abs_(op: TorchBuilder, z: Complex) -> Any:
    if not z.has_parts(op):
        return op.reduce("L2", z.packed(op), [z.rank], False)
    a, b = z.parts(op)
    return op.Sqrt(op.Add(op.Mul(a, a), op.Mul(b, b)))


@translation("aten.angle.default")
def angle_of_real(op: TorchBuilder, x: Value) -> Any:
    dtype = op.result()
    x = op.cast(x, dtype)
    zero, half_turn = op.constant(0, dtype), op.constant(math.pi, dtype)
    found = op.Where(op.Less(x, zero), half_turn, zero)
    return op.Where(op.IsNaN(x), x, found)


@complex_translation("aten.angle.default")
def angle(op: TorchBuilder, z: Complex) -> Any:
    a, b = z.parts(op)
    with real_results(op):
        return TRANSLATIONS["aten.atan2.default"](op, b, a)


@complex_translation("aten.sgn.default")
def sgn(op: TorchBuilder, z: Complex) -> Any:
    size = abs_(op, z)
    zero, one = op.constant(0, z.dtype), op.constant(1, z.dtype)
    divisor = op.Where(op.Equal(size, zero), one, size)
    a, b = z.parts(op)
    return joined(op, op.Div(a, divisor), op.Div(b, divisor))


def _register_sum(target: str, name: str) -> None:
    @complex_translation(f"aten.{target}.Tensor", f"aten.{target}.Scalar")
    def add(op: TorchBuilder, a: Any, b: Any, alpha: Any = 1) -> Any:
        a, b = _result(op, a), _result(op, b)
        if alpha != 1:
            b = product(op, b, alpha)
        if a.is_packed(op) and b.is_packed(op) and a.rank and b.rank and a.rank == b.rank:
            return typed_like(op, _node(op, name, a.packed(op), b.packed(op)))
        pairs = zip(a.parts(op), b.parts(op), strict=True)
        return joined(op, *(_node(op, name, x, y) for x, y in pairs))


_register_sum("add", "Add")
_register_sum("sub", "Sub")


@complex_translation("aten.rsub.Tensor", "aten.rsub.Scalar")
def rsub(op: TorchBuilder, a: Any, b: Any, alpha: Any = 1) -> Any:
    return COMPLEX_TRANSLATIONS["aten.sub.Tensor"](op, b, a, alpha)


def _scaled(op: TorchBuilder, z: Complex, factor: Any, name: str) -> Complex:
    """`z` times, or divided by, what is real."""
    dtype = z.dtype
    if isinstance(factor, Value) and factor.shape:
        if z.has_parts(op):
            value = op.cast(factor, dtype)
            return joined(op, *(_node(op, name, part, value) for part in z.parts(op)))
        value = op.unsqueeze(op.cast(factor, dtype), [op.rank_of(factor)])
        missing = op.rank_of(factor) - z.rank
        if missing > 0:
            packed = op.reshape(z.packed(op), [*[1] * missing, *(z.shape or ()), 2])  # type: ignore[list-item]
            return typed_like(op, _node(op, name, packed, value))
        return typed_like(op, _node(op, name, z.packed(op), value))
    value = op.scalar(factor, dtype)
    if z.has_parts(op):
        return joined(op, *(_node(op, name, part, value) for part in z.parts(op)))
    return typed_like(op, _node(op, name, z.packed(op), value))


def product(op: TorchBuilder, a: Any, b: Any) -> Complex:
    """The product of two operands of which one is complex."""
    if _real_only(a):
        a, b = b, a
    if _real_only(b):
        return _scaled(op, _result(op, a), b, "Mul")
    if isinstance(a, complex) or _turns_better(op, a, b):
        a, b = b, a
    a, b = _result(op, a), _result(op, b)
    if a.is_packed(op) and not a.has_parts(op) and (b.is_packed(op) or not b.rank):
        return _turned(op, a, b)
    (ar, ai), (br, bi) = a.parts(op), b.parts(op)
    return joined(
        op, op.Sub(op.Mul(ar, br), op.Mul(ai, bi)), op.Add(op.Mul(ar, bi), op.Mul(ai, br))
    )


def _turns_better(op: TorchBuilder, a: Any, b: Any) -> bool:
    """Whether `a` rather than `b` should be the factor that is spread over both parts."""
    if not isinstance(a, Complex) or not isinstance(b, Complex):
        return False
    if not (a.is_packed(op) and b.is_packed(op)) or a.packed(op).const is b.packed(op).const:
        return _ones(a) > _ones(b)
    return a.packed(op).const is not None


def _ones(z: Complex) -> int:
    return -z.rank + sum(size == 1 for size in z.shape)


def _turned(op: TorchBuilder, a: Complex, b: Complex) -> Complex:
    # (x, y)(c, d) -> (x, y)(c, c) + (y, x)(-d, d)
    same, crossed = b.spread(op)
    packed = a.packed(op)
    if a.rank < b.rank:
        packed = op.reshape(packed, [*[1] * (b.rank - a.rank), *a.shape, 2])  # type: ignore[list-item]
    swapped = op.Gather(packed, op.ints([1, 0]), axis=max(a.rank, b.rank))
    if crossed is None:
        return typed_like(op, op.Mul(packed, same))
    return typed_like(op, op.Add(op.Mul(packed, same), op.Mul(swapped, crossed)))


@complex_translation("aten.mul.Tensor", "aten.mul.Scalar")
def mul(op: TorchBuilder, a: Any, b: Any) -> Any:
    return product(op, a, b)


@complex_translation("aten.square.default")
def square(op: TorchBuilder, z: Complex) -> Any:
    """The square of a complex tensor."""
    a, b = z.parts(op)
    cross = op.Mul(a, b)
    return joined(op, op.Mul(op.Sub(a, b), op.Add(a, b)), op.Add(cross, cross))


def _inverse(op: TorchBuilder, z: Complex) -> tuple[Value, Value]:
    # conj(z) / |z|^2, scaled by the larger part so that no square overflows
    a, b = z.parts(op)
    scale = op.Max(op.Abs(a), op.Abs(b))
    c, d = op.Div(a, scale), op.Div(b, scale)
    size = op.Mul(op.Add(op.Mul(c, c), op.Mul(d, d)), scale)
    return op.Div(c, size), op.Neg(op.Div(d, size))


@complex_translation("aten.reciprocal.default")
def reciprocal(op: TorchBuilder, z: Complex) -> Any:
    """The inverse of a complex tensor."""
    return joined(op, *_inverse(op, z))


@complex_translation("aten.div.Tensor", "aten.div.Scalar", "aten.true_divide.Tensor",
                     "aten.div.Tensor_mode", "aten.div.Scalar_mode")  # fmt: skip
def div(op: TorchBuilder, a: Any, b: Any, *, rounding_mode: str | None = None) -> Any:
    if _real_only(b):
        return _scaled(op, _result(op, a), b, "Div")
    if isinstance(b, complex):
        return product(op, a, 1 / b)
    other = _result(op, b)
    x, y = _inverse(op, other)
    if _real_only(a):
        number = op.scalar(a, other.dtype)
        return joined(op, op.Mul(number, x), op.Mul(number, y))
    c, d = _result(op, a).parts(op)
    return joined(op, op.Sub(op.Mul(c, x), op.Mul(d, y)), op.Add(op.Mul(c, y), op.Mul(d, x)))


@complex_translation("aten.addcmul.default")
def addcmul(op: TorchBuilder, x: Any, a: Any, b: Any, *, value: Any = 1) -> Any:
    made = product(op, _result(op, a), _result(op, b))
    return _plus(op, x, made, value)


@complex_translation("aten.addcdiv.default")
def addcdiv(op: TorchBuilder, x: Any, a: Any, b: Any, *, value: Any = 1) -> Any:
    return _plus(op, x, div(op, _result(op, a), _result(op, b)), value)


def _plus(op: TorchBuilder, x: Any, made: Complex, factor: Any) -> Complex:
    if factor != 1:
        made = product(op, made, factor)
    pairs = zip(_result(op, x).parts(op), made.parts(op), strict=True)
    return joined(op, *(op.Add(a, b) for a, b in pairs))


@complex_translation("aten.eq.Tensor", "aten.eq.Scalar")
def equal(op: TorchBuilder, a: Any, b: Any) -> Any:
    dtype = part_dtype(op.common_dtype or dtypes.COMPLEX64)
    left, right = as_complex(op, a, dtype), as_complex(op, b, dtype)
    pairs = zip(left.parts(op), right.parts(op), strict=True)
    return op.And(*(op.Equal(x, y) for x, y in pairs))


@complex_translation("aten.ne.Tensor", "aten.ne.Scalar")
def unequal(op: TorchBuilder, a: Any, b: Any) -> Any:
    return op.Not(equal(op, a, b))


@complex_translation("aten.isnan.default")
def isnan(op: TorchBuilder, z: Complex) -> Any:
    return op.Or(*(op.IsNaN(part) for part in z.parts(op)))


@complex_translation("aten.isinf.default")
def isinf(op: TorchBuilder, z: Complex) -> Any:
    return op.Or(*(op.IsInf(part) for part in z.parts(op)))


@complex_translation("aten.isfinite.default")
def isfinite(op: TorchBuilder, z: Complex) -> Any:
    return op.Not(op.Or(isnan(op, z), isinf(op, z)))


_PRODUCTS: Final = ("mm", "bmm", "matmul", "mv", "dot")


@complex_translation(*(f"aten.{name}.default" for name in _PRODUCTS))
def matmul(op: TorchBuilder, a: Any, b: Any) -> Any:
    dtype = part_dtype(op.result())
    if isinstance(a, Value) or isinstance(b, Value):
        raise ExportError("a product of a real and a complex matrix")
    (ar, ai), (br, bi) = as_complex(op, a, dtype).parts(op), as_complex(op, b, dtype).parts(op)
    return joined(
        op,
        op.Sub(op.MatMul(ar, br), op.MatMul(ai, bi)),
        op.Add(op.MatMul(ar, bi), op.MatMul(ai, br)),
    )


@complex_translation("aten.vdot.default")
def vdot(op: TorchBuilder, a: Complex, b: Complex) -> Any:
    (ar, ai), (br, bi) = a.parts(op), b.parts(op)
    return joined(
        op,
        op.Add(op.MatMul(ar, br), op.MatMul(ai, bi)),
        op.Sub(op.MatMul(ar, bi), op.MatMul(ai, br)),
    )


@complex_translation("aten.linear.default")
def linear(op: TorchBuilder, x: Complex, weight: Complex, bias: Complex | None = None) -> Any:
    rank = weight.rank
    if rank == 2:
        parts = [op.Transpose(part, perm=[1, 0]) for part in weight.parts(op)]
        weight = Complex(weight.dtype, weight.shape[::-1], parts=(parts[0], parts[1]),
                         graph=op.bodies[-1])  # fmt: skip
    return _biased(op, matmul(op, x, weight), bias, 1, 1)


def _biased(op: TorchBuilder, made: Complex, bias: Any, beta: Any, alpha: Any) -> Any:
    if alpha != 1:
        made = product(op, made, alpha)
    if bias is None or beta == 0:
        return made
    term = _result(op, bias)
    if beta != 1:
        shape, op.result_shape = op.result_shape, term.shape
        term = product(op, term, beta)
        op.result_shape = shape
    pairs = zip(made.parts(op), term.parts(op), strict=True)
    return joined(op, *(op.Add(x, y) for x, y in pairs))


@complex_translation("aten.addmm.default", "aten.baddbmm.default", "aten.addmv.default")
def addmm(op: TorchBuilder, bias: Any, a: Any, b: Any, *, beta: Any = 1, alpha: Any = 1) -> Any:
    return _biased(op, matmul(op, a, b), bias, beta, alpha)


@complex_translation("aten.einsum.default")
def einsum(op: TorchBuilder, equation: str, tensors: Any, **_: Any) -> Any:
    dtype = part_dtype(op.result())
    if len(tensors) == 1:
        parts = as_complex(op, tensors[0], dtype).parts(op)
        return joined(op, *(op.Einsum(part, equation=equation) for part in parts))
    if len(tensors) != 2:
        raise ExportError("an einsum of more than two complex tensors")

    def of(x: Value, y: Value) -> Value:
        made: Value = op.Einsum(x, y, equation=equation)
        return made

    (ar, ai), (br, bi) = (as_complex(op, each, dtype).parts(op) for each in tensors)
    return joined(op, op.Sub(of(ar, br), of(ai, bi)), op.Add(of(ar, bi), of(ai, br)))


@complex_translation("aten.linalg_vector_norm.default")
def vector_norm(op: TorchBuilder, z: Complex, *args: Any, **kwargs: Any) -> Any:
    size = op.typed(abs_(op, z), z.dtype, z.shape)
    return TRANSLATIONS["aten.linalg_vector_norm.default"](op, size, *args, **kwargs)
