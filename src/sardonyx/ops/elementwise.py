"""Elementwise operators: a table, one entry each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from sardonyx.errors import InferenceError
from sardonyx.ops import types
from sardonyx.ops.broadcast import broadcast
from sardonyx.ops.fact import Fact
from sardonyx.ops.numeric import rounded
from sardonyx.ops.operator import Operator, same_as
from sardonyx.ops.schema import Input, Output, attribute, past

if TYPE_CHECKING:
    from collections.abc import Callable

    from sardonyx.dtypes import DType
    from sardonyx.ir.tensor import Array
    from sardonyx.ops.schema import Past


class Unary(Operator):
    """One input, one output of the same type and shape."""

    function: ClassVar[Callable[..., Any]]
    consumed_inputs: tuple[int, ...] | None = attribute(None, before=6)

    def infer(self, X: Fact) -> Fact:
        return same_as(X)

    def reference(self, X: Array) -> Array:
        return rounded(type(self).function, X)


class Binary(Operator):
    """Two inputs of one type that broadcast.

    Before opset 7 only B broadcasts, when `broadcast` is 1: its dimensions are matched to A's
    from `axis` on, or at the end.
    """

    function: ClassVar[Callable[..., Any]]
    result: ClassVar[DType | None] = None
    axis: int | None = attribute(None, before=7)
    broadcast: int = attribute(0, before=7)
    consumed_inputs: tuple[int, ...] | None = attribute(None, before=6)

    def infer(self, A: Fact, B: Fact) -> Fact:
        dtype = self.result or A.dtype or B.dtype
        if self.version < 7:
            return Fact.tensor(dtype, A.shape)
        return Fact.tensor(dtype, broadcast(A.shape, B.shape))

    def reference(self, A: Array, B: Array) -> Array:
        if self.version < 7:
            B = self._aligned(A, B)
        if self.result is None:
            return rounded(type(self).function, A, B)
        return np.asarray(type(self).function(A, B), self.result.numpy)

    def _aligned(self, A: Array, B: Array) -> Array:
        if not self.broadcast:
            if A.shape != B.shape:
                raise InferenceError(f"shapes {A.shape} and {B.shape} differ and broadcast is 0")
            return B
        axis = A.ndim - B.ndim if self.axis is None else self.axis % max(A.ndim, 1)
        return B.reshape(B.shape + (1,) * (A.ndim - axis - B.ndim))


def unary(
    name: str,
    since: int,
    allowed: types.Types,
    function: Callable[..., Any],
    *history: Past,
    doc: str,
) -> type[Unary]:
    """A row of the table of unary operators."""
    members = {
        "X": Input("T"),
        "Y": Output("T"),
        "T": allowed,
        "function": staticmethod(function),
        "__doc__": doc,
        "__module__": __name__,
    }
    return type(name, (Unary,), members, since=since, history=history)


def binary(
    name: str,
    since: int,
    allowed: types.Types,
    function: Callable[..., Any],
    *history: Past,
    doc: str,
    **members: Any,
) -> type[Binary]:
    """A row of the table of binary operators; `members` overrides parts of the class."""
    base = {
        "A": Input("T"),
        "B": Input("T"),
        "C": Output("T"),
        "T": allowed,
        "function": staticmethod(function),
        "moves_data": True,
        "__doc__": doc,
        "__module__": __name__,
    }
    return type(name, (Binary,), base | members, since=since, history=history)


def _divide(a: Array, b: Array) -> Array:
    if a.dtype == object:
        return np.floor_divide(a, b)
    if a.dtype.kind not in "iu":
        return np.asarray(np.true_divide(a, b))
    quotient = np.floor_divide(a, b)
    if a.dtype.kind == "i":
        # floor -> truncation: one more where the signs differ and there is a remainder
        remainder = a - quotient * b
        quotient = quotient + ((remainder != 0) & ((a < 0) != (b < 0)) & (b != 0))
    return np.asarray(quotient)


Abs = unary(
    "Abs",
    13,
    types.NUMERIC_BFLOAT16,
    np.abs,
    past(6, T=types.NUMERIC),
    past(1, T=types.FLOATS),
    doc="The absolute value.",
)
Add = binary(
    "Add",
    14,
    types.NUMERIC_BFLOAT16,
    np.add,
    past(13, T=types.HIGH_BFLOAT16),
    past(7, T=types.HIGH),
    past(6),
    past(1, T=types.FLOATS),
    doc="A + B; integers wrap around.",
)
