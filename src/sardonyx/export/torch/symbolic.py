"""Torch's symbolic numbers (SymInt, SymFloat, SymBool) as values computed in the graph.

Whole numbers are INT64, truth values BOOL. Fractions are DOUBLE, as Python computes them, where a
whole number or a truth value comes of them; one that a tensor is computed with has the
tensor's precision.
"""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING, Any, Final

from sardonyx import dtypes
from sardonyx.errors import ExportError

if TYPE_CHECKING:
    from collections.abc import Callable

    from sardonyx.dtypes import DType
    from sardonyx.export.torch.sizes import Sizes
    from sardonyx.ir.builder import Builder
    from sardonyx.ir.value import Value

__all__ = ["Symbolic", "floor_divided"]

_ROUNDINGS: Final = {
    "FloorToInt": "Floor", "floor": "Floor", "CeilToInt": "Ceil", "ceiling": "Ceil",
    "RoundToInt": "Round", "TruncToInt": "", "TruncToFloat": "",
}  # fmt: skip
_RELATIONS: Final = {
    "Equality": "Equal", "Unequality": "Equal", "StrictLessThan": "Less",
    "StrictGreaterThan": "Greater", "LessThan": "LessOrEqual", "GreaterThan": "GreaterOrEqual",
}  # fmt: skip
_FOLDS: Final = {"Add": "Add", "Mul": "Mul", "Max": "Max", "Min": "Min"}
_DIVISIONS: Final = frozenset({"FloatTrueDiv", "IntTrueDiv"})
_POWERS: Final = frozenset({"Pow", "FloatPow", "PowByNatural"})
_FLOORS: Final = frozenset({"FloorDiv", "CleanDiv"})
_UNARY: Final = {
    "sqrt": "Sqrt", "cos": "Cos", "cosh": "Cosh", "sin": "Sin", "sinh": "Sinh", "tan": "Tan",
    "tanh": "Tanh", "asin": "Asin", "acos": "Acos", "atan": "Atan", "exp": "Exp", "log": "Log",
    "asinh": "Asinh", "Abs": "Abs",
}  # fmt: skip


class Symbolic:
    """Writes expressions of torch's symbols as nodes."""

    def __init__(self, op: Builder, sizes: Sizes) -> None:
        self._op = op
        self._sizes = sizes

    def whole(self, expr: Any) -> Value:
        """An expression of whole numbers as an INT64 scalar."""
        kind = type(expr).__name__
        rule = self._whole_rule(expr, kind)
        return self._sizes.scalar(self._sizes.convert(expr)) if rule is None else rule()

    def has_rule(self, expr: Any) -> bool:
        """Whether `expr` is computed here, not as a dim's arithmetic."""
        return self._whole_rule(expr, type(expr).__name__) is not None

    def _whole_rule(self, expr: Any, kind: str) -> Callable[[], Value] | None:
        op, args = self._op, expr.args
        if kind in _ROUNDINGS:
            return lambda: self._cast(
                self._rounded(kind, self.number(args[0], dtypes.DOUBLE)), dtypes.INT64
            )
        if kind in {"Where", "Piecewise", "ITE"}:
            return lambda: self._choice(expr, dtypes.INT64)
        if kind == "Abs":
            return lambda: self._node("Abs", self.whole(args[0]))
        if kind == "LShift":
            return lambda: self._node("Mul", self.whole(args[0]), self._power_of_two(args[1]))
        if kind == "RShift":
            return lambda: floor_divided(op, self.whole(args[0]), self._power_of_two(args[1]))
        if kind in {"PowByNatural", "Pow"} and not args[1].is_Integer:
            return lambda: self._node("Pow", self.whole(args[0]), self.whole(args[1]))
        if kind.startswith("BitwiseFn_bitwise_"):
            name = f"Bitwise{kind.rpartition('_')[2].title()}"
            return lambda: self._node(name, self.whole(args[0]), self.whole(args[1]))
        if kind == "ModularIndexing":
            return lambda: self._node(
                "Mod",
                floor_divided(op, self.whole(args[0]), self.whole(args[1])),
                self.whole(args[2]),
            )
        return None

    def truth(self, expr: Any) -> Value:
        """A condition as a BOOL scalar."""
        op, kind = self._op, type(expr).__name__
        if kind in {"BooleanTrue", "BooleanFalse"}:
            return op.value(bool(expr), dtypes.BOOL)
        if kind in _RELATIONS:
            return self._relation(kind, *expr.args)
        if kind in {"And", "Or"}:
            made: Value = reduce(
                lambda left, right: self._node(kind, left, right), map(self.truth, expr.args)
            )
            return made
        if kind == "Not":
            return self._node("Not", self.truth(expr.args[0]))
        if kind in {"ITE", "Where", "Piecewise"}:
            return self._choice(expr, dtypes.BOOL)
        raise ExportError(f"a condition is {expr}, which cannot be computed")

    def number(self, expr: Any, dtype: DType) -> Value:
        """An expression as a scalar of `dtype`, which is floating."""
        op, kind, args = self._op, type(expr).__name__, expr.args
        if expr.is_number:
            return op.value(float(expr), dtype)
        if expr.is_Symbol and not expr.is_integer:
            return self._cast(self._sizes.fraction(str(expr)), dtype)
        if kind in {"ToFloat", "Identity"}:
            return self.number(args[0], dtype)
        if expr.is_integer and kind not in {"TruncToFloat", "FloatPow"}:
            return self._cast(self.whole(expr), dtype)
        if kind in _FOLDS:
            return self._folded(kind, args, dtype)
        if kind in _DIVISIONS:
            return self._node("Div", *(self.number(part, dtype) for part in args))
        if kind in _POWERS:
            return self._power(args[0], args[1], dtype)
        if kind in _ROUNDINGS:
            return self._rounded(kind, self.number(args[0], dtype))
        if kind == "RoundDecimal":
            scale = op.value(10.0 ** int(args[1]), dtype)
            scaled = self._node("Mul", self.number(args[0], dtype), scale)
            return self._node("Div", self._node("Round", scaled), scale)
        if kind in {"Where", "Piecewise", "ITE"}:
            return self._choice(expr, dtype)
        if kind in {"Mod", "PythonMod"}:
            left, right = (self.number(part, dtype) for part in args)
            whole = self._node("Floor", self._node("Div", left, right))
            return self._node("Sub", left, self._node("Mul", whole, right))
        name = _UNARY.get(kind.removeprefix("OpaqueUnaryFn_"))
        if name is not None:
            return self._node(name, self.number(args[0], dtype))
        if kind in {"OpaqueUnaryFn_log2", "OpaqueUnaryFn_exp2"}:
            return self._base_two(kind, self.number(args[0], dtype), dtype)
        raise ExportError(f"a number is {expr}, which cannot be computed from sizes")

    def _base_two(self, kind: str, value: Value, dtype: DType) -> Value:
        two = self._op.value(2.0, dtype)
        if kind.endswith("exp2"):
            return self._node("Pow", two, value)
        return self._node("Div", self._node("Log", value), self._node("Log", two))

    def _power(self, base: Any, exponent: Any, dtype: DType) -> Value:
        if exponent == -1:
            return self._node("Reciprocal", self.number(base, dtype))
        if exponent == 0.5:
            return self._node("Sqrt", self.number(base, dtype))
        return self._node("Pow", self.number(base, dtype), self.number(exponent, dtype))

    def _folded(self, kind: str, parts: Any, dtype: DType) -> Value:
        inverse = [part for part in parts if kind == "Mul" and _is_inverse(part)]
        direct = [part for part in parts if part not in inverse] or [parts[0] ** 0]
        made: Value = reduce(
            lambda left, right: self._node(_FOLDS[kind], left, right),
            [self.number(part, dtype) for part in direct],
        )
        for part in inverse:
            made = self._node("Div", made, self.number(part.args[0], dtype))
        return made

    def _relation(self, kind: str, left: Any, right: Any) -> Value:
        op = self._op
        if left.is_integer and right.is_integer:
            pair = [self.whole(left), self.whole(right)]
        else:
            pair = [self.number(left, dtypes.DOUBLE), self.number(right, dtypes.DOUBLE)]
        name = _RELATIONS[kind]
        if name.endswith("OrEqual") and op.opset < 12:
            strict = self._node({"L": "Greater", "G": "Less"}[name[0]], *pair)
            return self._node("Not", strict)
        made = self._node(name, *pair)
        return self._node("Not", made) if kind == "Unequality" else made

    def _choice(self, expr: Any, dtype: DType) -> Value:
        if type(expr).__name__ == "Piecewise":
            branches = [(part.args[1], part.args[0]) for part in expr.args]
            result = self._branch(branches[-1][1], dtype)
            for condition, value in reversed(branches[:-1]):
                result = self._node(
                    "Where", self.truth(condition), self._branch(value, dtype), result
                )
            return result
        condition, first, second = expr.args
        return self._node(
            "Where", self.truth(condition), self._branch(first, dtype), self._branch(second, dtype)
        )

    def _branch(self, expr: Any, dtype: DType) -> Value:
        if dtype is dtypes.BOOL:
            return self.truth(expr)
        return self.whole(expr) if dtype is dtypes.INT64 else self.number(expr, dtype)

    def _rounded(self, kind: str, value: Value) -> Value:
        name = _ROUNDINGS[kind]
        if name:
            return self._node(name, value)
        if kind == "TruncToInt":
            return value
        return self._node(
            "Mul", self._node("Sign", value), self._node("Floor", self._node("Abs", value))
        )

    def _power_of_two(self, exponent: Any) -> Value:
        if exponent.is_Integer:
            return self._op.value(1 << int(exponent), dtypes.INT64)
        return self._node("Pow", self._op.value(2, dtypes.INT64), self.whole(exponent))

    def _cast(self, value: Value, dtype: DType) -> Value:
        if value.dtype is dtype:
            return value
        made: Value = self._op.Cast(value, to=dtype.code)
        return made

    def _node(self, name: str, *inputs: Value) -> Value:
        made = self._op.apply(name, list(inputs))
        assert not isinstance(made, tuple)
        return made


def _is_inverse(part: Any) -> bool:
    return type(part).__name__ == "Pow" and part.args[1] == -1


def floor_divided(op: Builder, left: Value, right: Value) -> Value:
    """``left // right`` rounded down, as Python does; ONNX's Div of integers rounds to 0."""
    made: Value = op.Div(op.Sub(left, op.Mod(left, right)), right)
    return made
