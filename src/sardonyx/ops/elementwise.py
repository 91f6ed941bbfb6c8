"""Elementwise arithmetic: a table, one entry each; comparisons and bits are in `logic`."""

from __future__ import annotations

import operator
from functools import reduce
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np

from sardonyx import dtypes
from sardonyx.dims import bounds, divide_exact, maximum, minimum
from sardonyx.dtypes import BFLOAT16, DOUBLE, FLOAT, FLOAT16, INT32, INT64
from sardonyx.errors import ExecutionError, InferenceError
from sardonyx.ir.node import AttributeType
from sardonyx.ops import types
from sardonyx.ops.broadcast import broadcast
from sardonyx.ops.fact import Fact
from sardonyx.ops.numeric import check_broadcast, divided, erf, over_objects, rounded, to_integer
from sardonyx.ops.operator import Operator, same_as
from sardonyx.ops.schema import Input, Output, attribute, past, was_attribute

if TYPE_CHECKING:
    from collections.abc import Callable

    from sardonyx.dtypes import DType
    from sardonyx.ir.tensor import Array
    from sardonyx.ir.value import Value
    from sardonyx.ops.body_builder import BodyBuilder
    from sardonyx.ops.operator import Values
    from sardonyx.ops.schema import Past
    from sardonyx.ops.writer import Writer


class Unary(Operator):
    """One input, one output of the same shape, and of the same type unless `result` is set.

    `exact` is the function on symbolic dims, where there is one, and `derivative` writes dY / dX
    from X and Y: None is zero everywhere.
    """

    function: ClassVar[Callable[..., Any]]
    exact: ClassVar[Callable[..., Any] | None] = None
    derivative: ClassVar[Callable[[Writer, Value, Value], Value | None] | None] = None
    result: ClassVar[DType | None] = None

    def infer(self, X: Fact) -> Fact:
        return same_as(X) if self.result is None else Fact.tensor(self.result, X.shape)

    def reference(self, X: Array) -> Array:
        exact = type(self).exact
        if X.dtype == object and exact is not None:
            return over_objects(exact, X)
        return self.compute(X)

    def compute(self, X: Array) -> Array:
        """The result for numbers."""
        if self.result is None:
            return rounded(type(self).function, X)
        with np.errstate(all="ignore"):
            return np.asarray(type(self).function(X), self.result.numpy)

    def slope(self, op: Writer, x: Value, y: Value) -> Value | None:
        """The derivative, written with `op`."""
        derivative = type(self).derivative
        assert derivative is not None
        return derivative(op, x, y)

    def gradient(self, op: Writer, grads: Values, inputs: Values, outputs: Values) -> Values:
        slope = self.slope(op, inputs[0], outputs[0])
        return [None if slope is None else op.Mul(grads[0], slope)]

    @property
    def has_gradient(self) -> bool:
        return type(self).derivative is not None or type(self).slope is not Unary.slope


class ConsumingUnary(Unary):
    """A unary operator that in opset 1 had the hint `consumed_inputs`, without meaning here."""

    consumed_inputs: tuple[int, ...] | None = attribute(None, before=6)


class Binary(Operator):
    """Two inputs that broadcast, of one type unless declared otherwise.

    Before opset 7 only B broadcasts, when `broadcast` is 1: its dimensions are matched to A's
    from `axis` on, or at the end. `exact` is the function on symbolic dims, where there is one.
    `partials` writes the gradients by A and by B from dC, A, B and C, in the shape of C: None is
    zero everywhere.
    """

    function: ClassVar[Callable[..., Any]]
    exact: ClassVar[Callable[..., Any] | None] = None
    partials: ClassVar[Callable[..., tuple[Value | None, Value | None]] | None] = None
    result: ClassVar[DType | None] = None
    axis: int | None = attribute(None, before=7)
    broadcast: int = attribute(0, before=7)

    def infer(self, A: Fact, B: Fact) -> Fact:
        dtype = self.result or A.dtype
        if self.version < 7:
            return Fact.tensor(dtype, A.shape)
        return Fact.tensor(dtype, broadcast(A.shape, B.shape))

    def reference(self, A: Array, B: Array) -> Array:
        if self.version < 7:
            B = self._aligned(A, B)
        check_broadcast(self.op_type, A, B)
        exact = type(self).exact
        if exact is not None and object in (A.dtype, B.dtype):
            return over_objects(exact, A, B)
        return self.compute(A, B)

    def compute(self, A: Array, B: Array) -> Array:
        """The result for numbers."""
        if self.result is None:
            return rounded(type(self).function, A, B)
        with np.errstate(all="ignore"):
            return np.asarray(type(self).function(A, B), self.result.numpy)

    def _aligned(self, A: Array, B: Array) -> Array:
        if not self.broadcast and A.shape != B.shape:
            raise InferenceError(
                f"{self.op_type}: shapes {list(A.shape)} and {list(B.shape)} differ "
                "and attribute broadcast is 0"
            )
        axis = A.ndim - B.ndim if self.axis is None else self.axis % max(A.ndim, 1)
        if B.size != 1:
            B = B.reshape(B.shape + (1,) * (A.ndim - axis - B.ndim))
        elif B.ndim > A.ndim:
            B = B.reshape(())
        if check_broadcast(self.op_type, A, B) != A.shape:
            raise ExecutionError(
                f"{self.op_type}: shape {list(B.shape)} does not broadcast to {list(A.shape)}"
            )
        return B

    def slopes(
        self, op: Writer, dc: Value, a: Value, b: Value, c: Value
    ) -> tuple[Value | None, Value | None]:
        """The gradients by A and by B before their broadcasting is undone."""
        partials = type(self).partials
        assert partials is not None
        return partials(op, dc, a, b, c)

    def gradient(self, op: Writer, grads: Values, inputs: Values, outputs: Values) -> Values:
        (dc,), (a, b) = grads, inputs
        found = self.slopes(op, dc, a, b, outputs[0])
        return [
            None if grad is None else op.sum_to(grad, value)
            for grad, value in zip(found, (a, b), strict=True)
        ]

    @property
    def has_gradient(self) -> bool:
        return type(self).partials is not None or type(self).slopes is not Binary.slopes


class ConsumingBinary(Binary):
    """A binary operator that in opset 1 had the hint `consumed_inputs`, without meaning here."""

    consumed_inputs: tuple[int, ...] | None = attribute(None, before=6)


class Variadic(Operator):
    """Any number of inputs of one type that broadcast; before opset 8 their shapes are equal.

    `selects` says that the output is one of the inputs: its gradient goes to those that equal it,
    in equal parts.
    """

    function: ClassVar[Callable[..., Any]]
    exact: ClassVar[Callable[..., Any] | None] = None
    selects: ClassVar[bool] = False
    consumed_inputs: tuple[int, ...] | None = attribute(None, before=6)

    def infer(self, *data: Fact) -> Fact:
        dtype = next((fact.dtype for fact in data if fact.dtype), None)
        return Fact.tensor(dtype, broadcast(*(fact.shape for fact in data)))

    def reference(self, *data: Array) -> Array:
        shape = check_broadcast(self.op_type, *data)
        if self.version < 8 and any(array.shape != shape for array in data):
            raise ExecutionError(
                f"{self.op_type}-{self.version} does not broadcast, the shapes are "
                f"{', '.join(str(list(array.shape)) for array in data)}"
            )
        exact = type(self).exact
        if exact is not None and any(array.dtype == object for array in data):
            return over_objects(exact, *data)
        return rounded(type(self).function, *data)

    def gradient(self, op: Writer, grads: Values, inputs: Values, outputs: Values) -> Values:
        (dy,), (y,) = grads, outputs
        parts = [dy] * len(inputs)
        if self.selects:
            masks = [op.cast(op.same(x, y), op.dtype(dy)) for x in inputs]
            share = op.Div(dy, reduce(op.Add, masks))
            parts = [op.Mul(share, mask) for mask in masks]
        elif self.op_type == "Mean":
            parts = [op.Div(dy, float(len(inputs)))] * len(inputs)
        return [op.sum_to(part, x) for part, x in zip(parts, inputs, strict=True)]


def unary(
    name: str,
    ports: str,
    since: int,
    allowed: types.Types,
    function: Callable[..., Any],
    *history: Past,
    doc: str,
    base: type[Unary] = ConsumingUnary,
    **members: Any,
) -> type[Unary]:
    """A row of the table of unary operators; `members` overrides parts of the class."""
    source, target = ports.split()
    common = {
        "X": Input("T", name=source),
        "Y": Output("T", name=target),
        "T": allowed,
        "function": staticmethod(function),
        "moves_data": "exact" in members,
        "__doc__": doc,
        "__module__": __name__,
    }
    return type(name, (base,), common | _static(members), since=since, history=history)


def binary(
    name: str,
    since: int,
    allowed: types.Types,
    function: Callable[..., Any],
    *history: Past,
    doc: str,
    base: type[Binary] = ConsumingBinary,
    **members: Any,
) -> type[Binary]:
    """A row of the table of binary operators; `members` overrides parts of the class."""
    common = {
        "A": Input("T"),
        "B": Input("T"),
        "C": Output("T"),
        "T": allowed,
        "function": staticmethod(function),
        "moves_data": "exact" in members,
        "__doc__": doc,
        "__module__": __name__,
    }
    return type(name, (base,), common | _static(members), since=since, history=history)


def variadic(
    name: str,
    allowed: types.Types,
    function: Callable[..., Any],
    *history: Past,
    doc: str,
    **members: Any,
) -> type[Variadic]:
    """A row of the table of variadic operators, all of version 13."""
    common = {
        "data_0": Input("T", variadic=True),
        "output": Output("T", name=name.lower()),
        "T": allowed,
        "function": staticmethod(function),
        "moves_data": "exact" in members,
        "__doc__": doc,
        "__module__": __name__,
    }
    return type(name, (Variadic,), common | _static(members), since=13, history=history)


def _static(members: dict[str, Any]) -> dict[str, Any]:
    functions = {"exact", "derivative", "partials"}
    return {
        key: staticmethod(value) if key in functions else value for key, value in members.items()
    }


def _exact_quotient(a: Any, b: Any) -> Any:
    """The quotient truncated towards zero; None where its sign is symbolic and not known."""
    if isinstance(a, int) and isinstance(b, int):
        return 0 if b == 0 else abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)
    quotient = divide_exact(a, b)
    return a // b if quotient is None and _are_natural(a, b) else quotient


def _are_natural(*dims: Any) -> bool:
    return all(low is not None and low >= 0 for low, _ in map(bounds, dims))


def _sign(x: Array) -> Array:
    return np.sign(x) if x.dtype.kind != "u" else np.minimum(x, x.dtype.type(1))


def _sum(*arrays: Array) -> Any:
    return reduce(np.add, arrays)


def _mean(*arrays: Array) -> Any:
    return reduce(np.add, arrays) / len(arrays)


_ERF_SLOPE: Final = 2 / float(np.sqrt(np.pi))


def _inverse_root(op: Writer, x: Value) -> Value:
    root: Value = op.Reciprocal(op.Sqrt(x))
    return root


def _flat(op: Writer, x: Value, y: Value) -> None:
    """The derivative of steps."""


_F: Final = types.FLOATS_BFLOAT16
_SIGNED: Final = (*types.SIGNED, *types.FLOATS)
_6: Final = (past(6, T=types.FLOATS), past(1))
_7: Final = (past(7, T=types.FLOATS),)
_9: Final = (past(9, T=types.FLOATS),)
_11: Final = (past(11, T=types.FLOATS),)
_ARITHMETIC: Final = (
    past(13, T=types.HIGH_BFLOAT16),
    past(7, T=types.HIGH),
    past(6),
    past(1, T=types.FLOATS),
)
_EXTREME: Final = (past(12, T=types.NUMERIC), past(8, T=types.FLOATS), past(6), past(1))
_TOTAL: Final = (past(8, T=types.FLOATS), past(6), past(1))
_ALL: Final = types.NUMERIC_BFLOAT16

# fmt: off
#                   name          inputs  since  types   function   history
Abs        = unary("Abs",        "X Y", 13, _ALL, np.abs, past(6, T=types.NUMERIC),
                   past(1, T=types.FLOATS), exact=lambda x: maximum(x, -x),
                   derivative=lambda op, x, y: op.Sign(x),
                   doc="The absolute value; that of the least integer wraps to itself.")
Neg        = unary("Neg",        "X Y", 13, (*_SIGNED, BFLOAT16), np.negative, past(6, T=_SIGNED),
                   past(1, T=types.FLOATS), exact=operator.neg,
                   derivative=lambda op, x, y: op.like(-1, x),
                   doc="-X; integers wrap around.")
Sign       = unary("Sign",       "input output", 13, _ALL, _sign, past(9, T=types.NUMERIC),
                   derivative=_flat,
                   doc="-1, 0 or 1 by the sign; NaN stays NaN.")
Sqrt       = unary("Sqrt",       "X Y", 13, _F, np.sqrt, *_6,
                   derivative=lambda op, x, y: op.Div(0.5, y),
                   doc="The square root.")
Reciprocal = unary("Reciprocal", "X Y", 13, _F, np.reciprocal, *_6,
                   derivative=lambda op, x, y: op.Neg(op.Mul(y, y)),
                   doc="1 / X.")
Floor      = unary("Floor",      "X Y", 13, _F, np.floor, *_6,
                   derivative=_flat,
                   doc="The next integer below.")
Ceil       = unary("Ceil",       "X Y", 13, _F, np.ceil, *_6,
                   derivative=_flat,
                   doc="The next integer above.")
Round      = unary("Round",      "X Y", 22, _F, np.rint, *_11,
                   derivative=_flat,
                   doc="The nearest integer; of two as near, the even one.")
Exp        = unary("Exp",  "input output", 13, _F, np.exp, *_6,
                   derivative=lambda op, x, y: y,
                   doc="e to the power of input.")
Log        = unary("Log",  "input output", 13, _F, np.log, *_6,
                   derivative=lambda op, x, y: op.Reciprocal(x),
                   doc="The natural logarithm.")
Erf        = unary("Erf",  "input output", 13, _F, erf, past(9, T=types.NUMERIC),
                   derivative=lambda op, x, y: op.Mul(op.Exp(op.Neg(op.Mul(x, x))), _ERF_SLOPE),
                   doc="The error function; of integers, truncated towards zero.")
Tanh       = unary("Tanh", "input output", 13, _F, np.tanh, *_6,
                   derivative=lambda op, x, y: op.Sub(1.0, op.Mul(y, y)),
                   doc="The hyperbolic tangent.")
Sin        = unary("Sin",  "input output", 22, _F, np.sin, *_7,
                   derivative=lambda op, x, y: op.Cos(x),
                   doc="The sine, of radians.")
Cos        = unary("Cos",  "input output", 22, _F, np.cos, *_7,
                   derivative=lambda op, x, y: op.Neg(op.Sin(x)),
                   doc="The cosine, of radians.")
Tan        = unary("Tan",  "input output", 22, _F, np.tan, *_7,
                   derivative=lambda op, x, y: op.Add(1.0, op.Mul(y, y)),
                   doc="The tangent, of radians.")
Asin       = unary("Asin", "input output", 22, _F, np.arcsin, *_7,
                   derivative=lambda op, x, y: _inverse_root(op, op.Sub(1.0, op.Mul(x, x))),
                   doc="The arcsine, in radians.")
Acos       = unary("Acos", "input output", 22, _F, np.arccos, *_7,
                   derivative=lambda op, x, y: op.Neg(_inverse_root(op, op.Sub(1.0, op.Mul(x, x)))),
                   doc="The arccosine, in radians.")
Atan       = unary("Atan", "input output", 22, _F, np.arctan, *_7,
                   derivative=lambda op, x, y: op.Reciprocal(op.Add(1.0, op.Mul(x, x))),
                   doc="The arctangent.")
Sinh       = unary("Sinh", "input output", 22, _F, np.sinh, *_9,
                   derivative=lambda op, x, y: op.Cosh(x),
                   doc="The hyperbolic sine.")
Cosh       = unary("Cosh", "input output", 22, _F, np.cosh, *_9,
                   derivative=lambda op, x, y: op.Sinh(x),
                   doc="The hyperbolic cosine.")
Asinh      = unary("Asinh", "input output", 22, _F, np.arcsinh, *_9,
                   derivative=lambda op, x, y: _inverse_root(op, op.Add(1.0, op.Mul(x, x))),
                   doc="The inverse of Sinh.")
Acosh      = unary("Acosh", "input output", 22, _F, np.arccosh, *_9,
                   derivative=lambda op, x, y: _inverse_root(op, op.Sub(op.Mul(x, x), 1.0)),
                   doc="The inverse of Cosh.")
Atanh      = unary("Atanh", "input output", 22, _F, np.arctanh, *_9,
                   derivative=lambda op, x, y: op.Reciprocal(op.Sub(1.0, op.Mul(x, x))),
                   doc="The inverse of Tanh.")

Add  = binary("Add", 14, _ALL, np.add, *_ARITHMETIC, exact=operator.add,
              partials=lambda op, dc, a, b, c: (dc, dc),
              doc="A + B; integers wrap around.")
Sub  = binary("Sub", 14, _ALL, np.subtract, *_ARITHMETIC, exact=operator.sub,
              partials=lambda op, dc, a, b, c: (dc, op.Neg(dc)),
              doc="A - B; integers wrap around.")
Mul  = binary("Mul", 14, _ALL, np.multiply, *_ARITHMETIC, exact=operator.mul,
              partials=lambda op, dc, a, b, c: (op.Mul(dc, b), op.Mul(dc, a)),
              doc="A * B; integers wrap around.")
Div  = binary("Div", 14, _ALL, divided, *_ARITHMETIC, exact=_exact_quotient,
              partials=lambda op, dc, a, b, c: (op.Div(dc, b), op.Neg(op.Mul(op.Div(dc, b), c))),
              doc="A / B; integers truncate towards zero and by zero give 0, INT_MIN / -1 wraps.")

Max  = variadic("Max", _ALL, lambda *x: reduce(np.maximum, x), *_EXTREME, exact=maximum,
                selects=True,
                doc="The greatest of the inputs; NaN where one is.")
Min  = variadic("Min", _ALL, lambda *x: reduce(np.minimum, x), *_EXTREME, exact=minimum,
                selects=True,
                doc="The least of the inputs; NaN where one is.")
Sum  = variadic("Sum", _F, _sum, *_TOTAL, doc="The sum of the inputs.")
Mean = variadic("Mean", _F, _mean, *_TOTAL, doc="The mean of the inputs.")
# fmt: on


class Mod(Binary, since=28):
    """The remainder of A / B: with the sign of B, or with the sign of A when `fmod` is 1.

    An integer modulo 0 is 0.
    """

    A, B, C = Input("T"), Input("T"), Output("T")
    T = types.NUMERIC_BFLOAT16
    fmod: int = 0
    history = past(13), past(10, T=types.NUMERIC)
    moves_data = True
    exact = staticmethod(operator.mod)

    def infer(self, A: Fact, B: Fact) -> Fact:
        self._check(A.dtype)
        return super().infer(A, B)

    def reference(self, A: Array, B: Array) -> Array:
        if self.fmod and object in (A.dtype, B.dtype):
            return over_objects(lambda a, b: a % b if _are_natural(a, b) else None, A, B)
        return super().reference(A, B)

    def compute(self, A: Array, B: Array) -> Array:
        self._check(dtypes.from_numpy(A.dtype))
        return rounded(np.fmod if self.fmod else np.mod, A, B)

    def _check(self, dtype: DType | None) -> None:
        if self.version < 28 and not self.fmod and dtype is not None and dtype.is_floating:
            raise InferenceError(
                f"Mod-{self.version} of {dtype} requires fmod=1", hint="set attribute fmod to 1"
            )

    def slopes(
        self, op: Writer, dc: Value, a: Value, b: Value, c: Value
    ) -> tuple[Value | None, Value | None]:
        # A - B * quotient, where the quotient is constant between steps
        return dc, op.Mul(dc, op.Div(op.Sub(c, a), b))


class Pow(Binary, since=15):
    """X to the power of Y, in the type of X.

    An integer to a negative power is truncated towards zero (0 to a negative power is 0), and
    to an integer power wraps around.
    """

    X, Y, Z = Input("T"), Input("T1"), Output("T")
    T = (INT32, INT64, FLOAT16, FLOAT, DOUBLE, BFLOAT16)
    T1 = types.NUMERIC_BFLOAT16
    history = (
        past(13, T1=types.NUMERIC),
        past(12, T=(INT32, INT64, FLOAT16, FLOAT, DOUBLE)),
        past(7, T=types.FLOATS, Y=Input("T")),
        past(1),
    )

    def compute(self, A: Array, B: Array) -> Array:
        with np.errstate(all="ignore"):
            if A.dtype.kind != "i":
                return rounded(_float_power, A, B).astype(A.dtype)
            if B.dtype.kind in "iu":
                return _integer_power(A, B)
            return to_integer(np.power(A.astype(np.float64), B.astype(np.float64)), A.dtype)

    def slopes(
        self, op: Writer, dc: Value, a: Value, b: Value, c: Value
    ) -> tuple[Value | None, Value | None]:
        exponent = op.cast(b, op.dtype(a))
        # 0 where the exponent is 0: X^-1 is infinite at X = 0
        power = op.Mul(exponent, op.Pow(a, op.Sub(exponent, 1.0)))
        base = op.Mul(dc, op.Where(op.same(exponent, 0.0), 0.0, power))
        # log of X <= 0 has no meaning; X^Y log X goes to 0 with X
        positive = op.Greater(a, 0.0)
        log = op.Log(op.Where(positive, a, 1.0))
        if op.fact(b).dtype is None or not op.dtype(b).is_floating:
            return base, None
        return base, op.cast(op.Mul(dc, op.Mul(c, log)), op.dtype(b))


def _float_power(base: Array, exponent: Array) -> Any:
    result = np.power(base, exponent.astype(np.result_type(base, exponent)))
    # for one exponent of 0.5 NumPy takes the square root, which is -0 of -0 and NaN of -infinity
    is_root = (exponent == 0.5) & ((base == 0) | np.isneginf(base))
    return np.where(is_root, np.abs(base), result)


def _integer_power(base: Array, exponent: Array) -> Array:
    sign = np.where(exponent % 2 == 1, base, 1)
    inverse = np.where(np.abs(base) == 1, sign, 0)
    positive = np.maximum(exponent, exponent.dtype.type(0))
    most = np.iinfo(base.dtype).max
    if np.iinfo(exponent.dtype).max > most:
        # an even base is 0 and 1 and -1 repeat long before; only the parity matters
        positive = np.minimum(positive, most - 1 + positive % 2)
    power = np.power(base, positive.astype(base.dtype))
    return np.asarray(np.where(exponent < 0, inverse, power), base.dtype)


_LARGEST_FLOAT: Final = 3.4028234663852886e38


class Clip(Operator, since=13):
    """`input` limited to [`min`, `max`]: Min(max, Max(input, min)), a bound omitted being none."""

    input, min, max = Input("T"), Input("T", optional=True), Input("T", optional=True)
    output = Output("T")
    T = types.NUMERIC_BFLOAT16
    consumed_inputs: tuple[int, ...] | None = attribute(None, before=6)
    history = (
        past(12, T=types.NUMERIC),
        past(11, T=types.FLOATS),
        past(
            6,
            min=was_attribute(AttributeType.FLOAT, -_LARGEST_FLOAT),
            max=was_attribute(AttributeType.FLOAT, _LARGEST_FLOAT),
        ),
        past(1, min=None, max=None),
    )
    moves_data = True
    body_since = 13

    def infer(self, input: Fact, min: Fact | None = None, max: Fact | None = None) -> Fact:
        return same_as(input)

    def reference(self, input: Array, min: Array | None = None, max: Array | None = None) -> Array:
        result = input
        for name, bound, numbers, symbolic in (
            ("min", min, np.maximum, maximum),
            ("max", max, np.minimum, minimum),
        ):
            if bound is None:
                continue
            if bound.size != 1:
                raise ExecutionError(f"Clip: {name} has shape {list(bound.shape)}, not a scalar")
            bound = bound.reshape(())
            if object in (result.dtype, bound.dtype):
                result = over_objects(symbolic, result, bound)
            else:
                with np.errstate(all="ignore"):
                    result = rounded(numbers, result, bound.astype(input.dtype))
        return result

    def body(
        self, op: BodyBuilder, input: Value, min: Value | None = None, max: Value | None = None
    ) -> Any:
        result = input
        if min is not None:
            result = op.Max(result, _scalar(op, min))
        return result if max is None else op.Min(result, _scalar(op, max))

    def gradient(self, op: Writer, grads: Values, inputs: Values, outputs: Values) -> Values:
        (dy,), (x, low, high) = grads, inputs
        dx, dlow, dhigh = dy, None, None
        low, high = (v if v is None else op.cast(v, op.dtype(x)) for v in (low, high))
        raised = x if low is None else op.Max(x, low)
        if high is not None:
            over = op.Greater(raised, high)
            dhigh = op.sum_to(op.Where(over, dy, 0.0), high)
            dx = op.Where(over, 0.0, dx)
        if low is not None:
            under = op.Less(x, low)
            dlow = op.sum_to(op.Where(under, dx, 0.0), low)
            dx = op.Where(under, 0.0, dx)
        return [dx, dlow, dhigh]


def _scalar(op: BodyBuilder, bound: Value) -> Value:
    return op.reshape(bound) if op.fact(bound).rank else bound
