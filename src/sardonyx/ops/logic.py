"""Comparisons, boolean logic, selection and bits."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from sardonyx.dims import known_equal, known_less, known_less_equal
from sardonyx.dtypes import (
    BOOL,
    DOUBLE,
    FLOAT,
    FLOAT8E4M3FN,
    FLOAT8E4M3FNUZ,
    FLOAT8E5M2,
    FLOAT8E5M2FNUZ,
    INT32,
    INT64,
    STRING,
)
from sardonyx.errors import ModelError, quote
from sardonyx.ops import types
from sardonyx.ops.broadcast import broadcast
from sardonyx.ops.elementwise import Binary, Unary, binary, unary
from sardonyx.ops.fact import Fact
from sardonyx.ops.numeric import check_broadcast, over_objects
from sardonyx.ops.operator import Operator
from sardonyx.ops.schema import Input, Output, past

if TYPE_CHECKING:
    from collections.abc import Callable

    from sardonyx.ir.tensor import Array
    from sardonyx.ops.operator import Values
    from sardonyx.ops.schema import Past
    from sardonyx.ops.writer import Writer


class Comparison(Binary):
    """A binary operator with a BOOL result."""

    result = BOOL
    C = Output("T1")
    T1 = (BOOL,)

    def reference(self, A: Array, B: Array) -> Array:
        found = super().reference(A, B)
        is_decided = found.dtype == object and all(item is not None for item in found.flat)
        return found.astype(np.bool_) if is_decided else found


def comparison(
    name: str,
    since: int,
    allowed: types.Types,
    function: Callable[..., Any],
    *history: Past,
    doc: str,
    **members: Any,
) -> type[Binary]:
    """A row of the table of operators with a BOOL result."""
    members |= {"base": Comparison, "C": Output("T1")}
    return binary(name, since, allowed, function, *history, doc=doc, **members)


def _same(a: Any, b: Any) -> bool | None:
    return a == b if isinstance(a, str) else known_equal(a, b)


_BITS: Final = types.INTEGERS
_FLOAT8: Final = (FLOAT8E4M3FN, FLOAT8E4M3FNUZ, FLOAT8E5M2, FLOAT8E5M2FNUZ)
_ORDER: Final = (past(9, T=types.NUMERIC), past(7, T=types.FLOATS), past(1))
_12: Final = (past(12, T=types.NUMERIC),)

# fmt: off
And = comparison("And", 7, (BOOL,), np.logical_and, past(1), doc="A and B.")
Or  = comparison("Or",  7, (BOOL,), np.logical_or,  past(1), doc="A or B, or both.")
Xor = comparison("Xor", 7, (BOOL,), np.logical_xor, past(1), doc="A or B, not both.")
Not = unary("Not", "X Y", 1, (BOOL,), np.logical_not, base=Unary, doc="Whether X is false.")

Equal = comparison(
    "Equal", 19, (BOOL, *types.NUMERIC_BFLOAT16, STRING), np.equal,
    past(13, T=(BOOL, *types.NUMERIC_BFLOAT16)), past(11, T=(BOOL, *types.NUMERIC)),
    past(7, T=(BOOL, INT32, INT64)), past(1),
    exact=_same, doc="Whether A equals B; NaN equals nothing.",
)
Greater = comparison(
    "Greater", 13, types.NUMERIC_BFLOAT16, np.greater, *_ORDER,
    exact=lambda a, b: known_less(b, a), doc="Whether A > B.",
)
Less = comparison(
    "Less", 13, types.NUMERIC_BFLOAT16, np.less, *_ORDER,
    exact=known_less, doc="Whether A < B.",
)
GreaterOrEqual = comparison(
    "GreaterOrEqual", 16, types.NUMERIC_BFLOAT16, np.greater_equal, *_12,
    exact=lambda a, b: known_less_equal(b, a), doc="Whether A >= B.",
    body=lambda _, op, A, B: op.Or(op.Greater(A, B), op.Equal(A, B)),
)
LessOrEqual = comparison(
    "LessOrEqual", 16, types.NUMERIC_BFLOAT16, np.less_equal, *_12,
    exact=known_less_equal, doc="Whether A <= B.",
    body=lambda _, op, A, B: op.Or(op.Less(A, B), op.Equal(A, B)),
)

BitwiseAnd = binary("BitwiseAnd", 18, _BITS, np.bitwise_and, doc="The bits set in A and in B.")
BitwiseOr  = binary("BitwiseOr",  18, _BITS, np.bitwise_or,  doc="The bits set in A or in B.")
BitwiseXor = binary("BitwiseXor", 18, _BITS, np.bitwise_xor, doc="The bits set in just one.")
BitwiseNot = unary("BitwiseNot", "X Y", 18, _BITS, np.invert, base=Unary, doc="Every bit flipped.")
# fmt: on


class BitShift(Binary, since=28):
    """X shifted by Y bits to the `direction` LEFT or RIGHT, where signed X keep their sign.

    Where Y is negative or not below the width, the result is -1 for a negative X shifted right
    and 0 otherwise.
    """

    X, Y, Z = Input("T"), Input("T"), Output("T")
    T = types.INTEGERS
    direction: str
    history = (past(11, T=types.UNSIGNED),)

    def infer(self, A: Fact, B: Fact) -> Fact:
        self._check()
        return super().infer(A, B)

    def compute(self, A: Array, B: Array) -> Array:
        self._check()
        width = A.dtype.itemsize * 8
        inside = (B >= 0) & (width > B)
        by = np.where(inside, B, B.dtype.type(0))
        if self.direction == "LEFT":
            return np.where(inside, A << by, A.dtype.type(0))
        outside = A >> A.dtype.type(width - 1) if A.dtype.kind == "i" else A.dtype.type(0)
        return np.where(inside, A >> by, outside)

    def _check(self) -> None:
        if self.direction not in {"LEFT", "RIGHT"}:
            raise ModelError(
                f"BitShift direction {quote(self.direction)}", hint="it is LEFT or RIGHT"
            )


class IsNaN(Unary, since=20):
    """Whether X is NaN."""

    X, Y = Input("T1"), Output("T2")
    T1, T2 = (*types.FLOATS_BFLOAT16, *_FLOAT8), (BOOL,)
    result = BOOL
    function = staticmethod(np.isnan)
    history = past(13, T1=types.FLOATS_BFLOAT16), past(9, T1=types.FLOATS)


class IsInf(Unary, since=20):
    """Whether X is infinite, of the signs that the attributes ask for."""

    X, Y = Input("T1"), Output("T2")
    T1, T2 = (*types.FLOATS_BFLOAT16, *_FLOAT8), (BOOL,)
    detect_negative: int = 1
    detect_positive: int = 1
    result = BOOL
    history = (past(10, T1=(FLOAT, DOUBLE)),)

    def compute(self, X: Array) -> Array:
        with np.errstate(all="ignore"):
            negative = np.signbit(X.astype(np.float32) if X.dtype.kind == "V" else X)
            wanted = np.where(negative, self.detect_negative != 0, self.detect_positive != 0)
            return np.asarray(np.isinf(X) & wanted)


class Where(Operator, since=16):
    """X where `condition` is true and Y elsewhere; all three broadcast."""

    condition, X, Y, output = Input("B"), Input("T"), Input("T"), Output("T")
    B, T = (BOOL,), types.ALL_BFLOAT16
    history = (past(9, T=types.ALL_BEFORE_BFLOAT16),)
    moves_data = True

    def infer(self, condition: Fact, X: Fact, Y: Fact) -> Fact:
        return Fact.tensor(X.dtype or Y.dtype, broadcast(condition.shape, X.shape, Y.shape))

    def reference(self, condition: Array, X: Array, Y: Array) -> Array:
        check_broadcast("Where", condition, X, Y)
        if condition.dtype == object:
            return over_objects(_choose, condition, X, Y)
        return np.where(condition, X, Y)

    def gradient(self, op: Writer, grads: Values, inputs: Values, outputs: Values) -> Values:
        (dy,), (condition, x, y) = grads, inputs
        return [
            None,
            op.sum_to(op.Where(condition, dy, 0.0), x),
            op.sum_to(op.Where(condition, 0.0, dy), y),
        ]


def _choose(condition: Any, x: Any, y: Any) -> Any:
    """One of x and y where the condition is decided, and either where they are the same."""
    if isinstance(condition, (bool, int)):
        return x if condition else y
    return x if operator.eq(x, y) else None
