"""Elementwise arithmetic: a table, one entry each; comparisons and bits are in `logic`."""

from __future__ import annotations

import operator
from functools import reduce
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np

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
    from sardonyx.ops.schema import Past


class Unary(Operator):
    """One input, one output of the same shape, and of the same type unless `result` is set.

    `exact` is the function on symbolic dims, where there is one.
    """

    function: ClassVar[Callable[..., Any]]
    exact: ClassVar[Callable[..., Any] | None] = None
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


class ConsumingUnary(Unary):
    """A unary operator that in opset 1 had the hint `consumed_inputs`, without meaning here."""

    consumed_inputs: tuple[int, ...] | None = attribute(None, before=6)


class Binary(Operator):
    """Two inputs that broadcast, of one type unless declared otherwise.

    Before opset 7 only B broadcasts, when `broadcast` is 1: its dimensions are matched to A's
    from `axis` on, or at the end. `exact` is the function on symbolic dims, where there is one.
    """

    function: ClassVar[Callable[..., Any]]
    exact: ClassVar[Callable[..., Any] | None] = None
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


class ConsumingBinary(Binary):
    """A binary operator that in opset 1 had the hint `consumed_inputs`, without meaning here."""

    consumed_inputs: tuple[int, ...] | None = attribute(None, before=6)


class Variadic(Operator):
    """Any number of inputs of one type that broadcast; before opset 8 their shapes are equal."""

    function: ClassVar[Callable[..., Any]]
    exact: ClassVar[Callable[..., Any] | None] = None
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
    return {key: staticmethod(value) if key == "exact" else value for key, value in members.items()}


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
                   doc="The absolute value; that of the least integer wraps to itself.")
Neg        = unary("Neg",        "X Y", 13, (*_SIGNED, BFLOAT16), np.negative, past(6, T=_SIGNED),
                   past(1, T=types.FLOATS), exact=operator.neg, doc="-X; integers wrap around.")
Sign       = unary("Sign",       "input output", 13, _ALL, _sign, past(9, T=types.NUMERIC),
                   doc="-1, 0 or 1 by the sign; NaN stays NaN.")
Sqrt       = unary("Sqrt",       "X Y", 13, _F, np.sqrt, *_6, doc="The square root.")
Reciprocal = unary("Reciprocal", "X Y", 13, _F, np.reciprocal, *_6, doc="1 / X.")
Floor      = unary("Floor",      "X Y", 13, _F, np.floor, *_6, doc="The next integer below.")
Ceil       = unary("Ceil",       "X Y", 13, _F, np.ceil, *_6, doc="The next integer above.")
Round      = unary("Round",      "X Y", 22, _F, np.rint, *_11,
                   doc="The nearest integer; of two as near, the even one.")
Exp        = unary("Exp",  "input output", 13, _F, np.exp, *_6, doc="e to the power of input.")
Log        = unary("Log",  "input output", 13, _F, np.log, *_6, doc="The natural logarithm.")
Erf        = unary("Erf",  "input output", 13, _F, erf, past(9, T=types.NUMERIC),
                   doc="The error function; of integers, truncated towards zero.")
Tanh       = unary("Tanh", "input output", 13, _F, np.tanh, *_6, doc="The hyperbolic tangent.")
Sin        = unary("Sin",  "input output", 22, _F, np.sin, *_7, doc="The sine, of radians.")
Cos        = unary("Cos",  "input output", 22, _F, np.cos, *_7, doc="The cosine, of radians.")
Tan        = unary("Tan",  "input output", 22, _F, np.tan, *_7, doc="The tangent, of radians.")
Asin       = unary("Asin", "input output", 22, _F, np.arcsin, *_7, doc="The arcsine, in radians.")
Acos       = unary("Acos", "input output", 22, _F, np.arccos, *_7, doc="The arccosine, in radians.")
Atan       = unary("Atan", "input output", 22, _F, np.arctan, *_7, doc="The arctangent.")
Sinh       = unary("Sinh", "input output", 22, _F, np.sinh, *_9, doc="The hyperbolic sine.")
Cosh       = unary("Cosh", "input output", 22, _F, np.cosh, *_9, doc="The hyperbolic cosine.")
Asinh      = unary("Asinh", "input output", 22, _F, np.arcsinh, *_9, doc="The inverse of Sinh.")
Acosh      = unary("Acosh", "input output", 22, _F, np.arccosh, *_9, doc="The inverse of Cosh.")
Atanh      = unary("Atanh", "input output", 22, _F, np.arctanh, *_9, doc="The inverse of Tanh.")

Add  = binary("Add", 14, _ALL, np.add, *_ARITHMETIC, exact=operator.add,
              doc="A + B; integers wrap around.")
Sub  = binary("Sub", 14, _ALL, np.subtract, *_ARITHMETIC, exact=operator.sub,
              doc="A - B; integers wrap around.")
Mul  = binary("Mul", 14, _ALL, np.multiply, *_ARITHMETIC, exact=operator.mul,
              doc="A * B; integers wrap around.")
Div  = binary("Div", 14, _ALL, divided, *_ARITHMETIC, exact=_exact_quotient,
              doc="A / B; integers truncate towards zero and by zero give 0, INT_MIN / -1 wraps.")

Max  = variadic("Max", _ALL, lambda *x: reduce(np.maximum, x), *_EXTREME, exact=maximum,
                doc="The greatest of the inputs; NaN where one is.")
Min  = variadic("Min", _ALL, lambda *x: reduce(np.minimum, x), *_EXTREME, exact=minimum,
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
        if self.version < 28 and not self.fmod and A.dtype is not None and A.dtype.is_floating:
            raise InferenceError(
                f"Mod-{self.version} of {A.dtype} requires fmod=1", hint="set attribute fmod to 1"
            )
        return super().infer(A, B)

    def reference(self, A: Array, B: Array) -> Array:
        if self.fmod and object in (A.dtype, B.dtype):
            return over_objects(lambda a, b: a % b if _are_natural(a, b) else None, A, B)
        return super().reference(A, B)

    def compute(self, A: Array, B: Array) -> Array:
        return rounded(np.fmod if self.fmod else np.mod, A, B)


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


def _float_power(base: Array, exponent: Array) -> Any:
    return np.power(base, exponent.astype(np.result_type(base, exponent)))


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
