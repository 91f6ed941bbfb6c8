"""The scalar operations: one table, and functions that write them.

Everything that is computed on elements is made of these. `OPERATIONS` gives for each its NumPy
meaning, on which the interpreter and constant folding stand; code generation has a table of its
own with the same keys, and a test holds the two against each other.

Every operation is defined on all inputs: integers wrap, a division by zero gives 0, INT_MIN / -1
wraps to itself, a shift takes its count modulo the width, and a float outside of an integer type
saturates, NaN giving 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from sardonyx import dtypes
from sardonyx.dtypes import BOOL, INT64
from sardonyx.loops.expr import Apply, Axis, Const, Expr, Linear, linear

if TYPE_CHECKING:
    from collections.abc import Callable

    from sardonyx.dtypes import DType

__all__ = ["OPERATIONS", "Operation", "apply", "cast", "const", "select", "size"]


class Operation(NamedTuple):
    """A scalar operation: how many arguments, its meaning, and whether it gives a BOOL."""

    arity: int
    numpy: Callable[..., Any]
    is_test: bool = False


def _divide(a: Any, b: Any) -> Any:
    if a.dtype.kind == "f":
        return np.divide(a, b)
    zero = b == 0
    safe = np.where(zero, b.dtype.type(1), b)
    minus = (safe == -1) if a.dtype.kind == "i" else np.zeros_like(zero)
    safe = np.where(minus, b.dtype.type(1), safe)
    quotient = np.floor_divide(a, safe)
    if a.dtype.kind == "i":
        inexact = quotient * safe != a
        quotient = quotient + (inexact & ((a < 0) != (safe < 0))).astype(a.dtype)
    return np.where(zero, a.dtype.type(0), np.where(minus, np.negative(a), quotient))


def _remainder(a: Any, b: Any) -> Any:
    if a.dtype.kind == "f":
        return np.fmod(a, b)
    return np.where(b == 0, a.dtype.type(0), a - _divide(a, b) * b)


def _shift(function: Callable[..., Any]) -> Callable[..., Any]:
    def shifted(a: Any, b: Any) -> Any:
        width = a.dtype.itemsize * 8
        return function(a, (b & b.dtype.type(width - 1)).astype(a.dtype))

    return shifted


def _logical_shift(a: Any, b: Any) -> Any:
    unsigned = np.dtype(f"u{a.dtype.itemsize}")
    return (a.view(unsigned) >> b.astype(unsigned)).view(a.dtype)


def _dot2(a: Any, b: Any, c: Any) -> Any:
    width = a.dtype.type(16)
    low = ((a << width) >> width) * ((b << width) >> width)
    return c + low + (a >> width) * (b >> width)


def _minimum(a: Any, b: Any) -> Any:
    return np.where(b < a, b, a)


def _maximum(a: Any, b: Any) -> Any:
    return np.where(b > a, b, a)


OPERATIONS: Final[dict[str, Operation]] = {
    "add": Operation(2, np.add),
    "sub": Operation(2, np.subtract),
    "mul": Operation(2, np.multiply),
    "div": Operation(2, _divide),
    "rem": Operation(2, _remainder),
    "fma": Operation(3, lambda a, b, c: a * b + c),
    "dot2": Operation(3, _dot2),
    "neg": Operation(1, np.negative),
    "abs": Operation(1, np.abs),
    "sqrt": Operation(1, np.sqrt),
    "floor": Operation(1, np.floor),
    "ceil": Operation(1, np.ceil),
    "trunc": Operation(1, np.trunc),
    "rint": Operation(1, np.rint),
    "copysign": Operation(2, np.copysign),
    "min": Operation(2, _minimum),
    "max": Operation(2, _maximum),
    "minimum": Operation(2, np.minimum),
    "maximum": Operation(2, np.maximum),
    "lt": Operation(2, np.less, True),
    "le": Operation(2, np.less_equal, True),
    "eq": Operation(2, np.equal, True),
    "ne": Operation(2, np.not_equal, True),
    "and": Operation(2, np.bitwise_and),
    "or": Operation(2, np.bitwise_or),
    "xor": Operation(2, np.bitwise_xor),
    "not": Operation(1, np.invert),
    "shl": Operation(2, _shift(np.left_shift)),
    "shr": Operation(2, _shift(np.right_shift)),
    "lshr": Operation(2, _shift(_logical_shift)),
    "select": Operation(3, np.where),
    "cast": Operation(1, None),  # type: ignore[arg-type] # its meaning depends on the result type
    "bits": Operation(1, None),  # type: ignore[arg-type]
    "index": Operation(2, None),  # type: ignore[arg-type]
}
"""`min` and `max` give the first argument when either is NaN; `minimum` and `maximum` the NaN.

`fma` may round once or twice. ``dot2(a, b, c)`` takes the halves of INT32 `a` and `b` as 16-bit
integers with a sign, multiplies each half with the other's like one, and adds both to `c`. `cast`
converts the value, `bits` keeps the bits. ``index(i, n)`` is the position that index `i`, which may
count from the end, has among `n`; outside, the run fails.
"""

_COMMUTATIVE: Final = {"add", "mul", "and", "or", "xor"}


def const(value: float, dtype: DType) -> Const:
    """The number `value` in `dtype`, rounded to it."""
    if dtype.is_floating:
        with np.errstate(all="ignore"):
            return Const(float(np.asarray(value).astype(dtype.numpy)), dtype)
    return Const(int(value), dtype)


def size(value: Any) -> Expr:
    """A dim as an INT64 expression."""
    return linear((value, 1))


def cast(value: Expr, dtype: DType) -> Expr:
    """`value` in another type."""
    if value.dtype is dtype:
        return value
    return apply("cast", value, dtype=dtype)


def select(condition: Expr, yes: Expr, no: Expr) -> Expr:
    """`yes` where `condition` holds, else `no`."""
    return yes if yes is no else apply("select", condition, yes, no, dtype=yes.dtype)


def apply(op: str, *args: Expr, dtype: DType | None = None) -> Expr:
    """The operation `op`, folded where that is exact."""
    operation = OPERATIONS[op]
    result = dtype or (BOOL if operation.is_test else args[0].dtype)
    if result is INT64 and op in {"add", "sub", "mul"} and all(map(_is_index, args)):
        folded = _as_linear(op, args)
        if folded is not None:
            return folded
    if args and all(isinstance(arg, Const) for arg in args):
        return _folded(op, args, result)
    if op == "add" and _is_number(args[1], 0) and not result.is_floating:
        return args[0]  # x + 0 -> x
    if op == "mul" and _is_number(args[1], 1):
        return args[0]  # x * 1 -> x
    if op == "select" and isinstance(args[0], Const):
        return args[1] if args[0].value else args[2]
    return Apply(op, args, result)


def _is_index(expr: Expr) -> bool:
    return isinstance(expr, (Linear, Axis)) or (isinstance(expr, Const) and expr.dtype is INT64)


def _as_linear(op: str, args: tuple[Expr, ...]) -> Expr | None:
    a, b = args
    if op == "mul":
        for value, factor in ((a, b), (b, a)):
            if isinstance(factor, Const):
                return linear((value, int(factor.value)))
            if isinstance(factor, Linear) and not factor.terms:
                return linear((value, factor.constant))
        return None
    return linear((a, 1), (b, -1 if op == "sub" else 1))


def _is_number(expr: Expr, value: int) -> bool:
    return isinstance(expr, Const) and expr.value == value


def _folded(op: str, args: tuple[Expr, ...], dtype: DType) -> Expr:
    values = [np.asarray(arg.value, arg.dtype.numpy) for arg in args if isinstance(arg, Const)]
    with np.errstate(all="ignore"):
        value = evaluate(op, dtype, *values)
    return Const(value.item() if dtype.is_floating is False else float(value), dtype)


def evaluate(op: str, dtype: DType, *values: Any) -> Any:
    """The operation on NumPy arrays, giving an array of `dtype`."""
    if op == "cast":
        return converted(values[0], dtype)
    if op == "bits":
        return np.array(values[0], order="C").view(dtype.numpy)
    return np.asarray(OPERATIONS[op].numpy(*values)).astype(dtype.numpy, copy=False)


def converted(value: Any, dtype: DType) -> Any:
    """`value` in another type: integers wrap, floats saturate to integers and NaN gives 0."""
    source = dtypes.from_numpy(value.dtype)
    if dtype is BOOL:
        return value != 0
    if not (source.is_floating and dtype.is_integer):
        return value.astype(dtype.numpy)
    bounds: Any = np.iinfo(dtype.numpy.str)
    wide = value.astype(np.float64)
    inside = np.clip(np.where(np.isnan(wide), 0, np.trunc(wide)), bounds.min, bounds.max)
    low, high = wide <= bounds.min, wide >= bounds.max
    result = np.where(low | high, 0, inside).astype(dtype.numpy)
    return np.where(high, bounds.max, np.where(low, bounds.min, result)).astype(dtype.numpy)
