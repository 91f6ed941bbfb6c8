"""Symbolic sizes: torch's expressions as dims, and as values computed from input shapes."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any

from sardonyx import dims, dtypes
from sardonyx.dims import Dim
from sardonyx.errors import ExportError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sardonyx.dims import DimLike
    from sardonyx.export.torch.signature import Leaf
    from sardonyx.ir.builder import Builder
    from sardonyx.ir.value import Value

__all__ = ["Sizes"]


class Sizes:
    """Names torch's symbols, and computes expressions of them in the graph.

    A symbol is the size of an input's axis; it is read with Shape and Gather where it is first
    needed, at most once.
    """

    def __init__(self, op: Builder) -> None:
        self._op = op
        self._names: dict[str, str] = {}
        self._sources: dict[str, tuple[Value, int]] = {}
        self._solved: dict[str, tuple[Value, int, DimLike]] = {}
        self._scalars: dict[str, Value] = {}
        self._computed: dict[str, Value] = {}

    def name_inputs(self, inputs: Sequence[tuple[Leaf, Any]]) -> None:
        """Give torch's symbols the names that the user chose; `inputs`: leaf and fake tensor.

        A name that the user gave to several dimensions says that they are equal.
        """
        wanted: dict[str, str] = {}
        asked = {name for leaf, _ in inputs for name in leaf.names.values()}
        for leaf, fake in inputs:
            for axis, name in leaf.names.items():
                size = fake.shape[axis]
                if isinstance(size, int):
                    continue
                symbols = [str(each) for each in size.node.expr.free_symbols]
                if len(symbols) == 1:
                    wanted.setdefault(symbols[0], name)
        for leaf, fake in inputs:
            for axis, size in enumerate(fake.shape):
                if not isinstance(size, int):
                    for free in sorted(map(str, size.node.expr.free_symbols)):
                        wanted.setdefault(free, f"{leaf.name}_dim{axis}")
        for symbol, name in wanted.items():
            chosen, count = name, 1
            while name not in asked and chosen in self._names.values():
                count += 1
                chosen = f"{name}_{count}"
            self._names[symbol] = chosen

    def read_from(self, value: Value, fake: Any) -> None:
        """Let symbols that stand in the shape `fake` be read from the shape of `value`."""
        for axis, size in enumerate(fake.shape):
            if isinstance(size, int):
                continue
            dim = self.dim(size)
            if not isinstance(dim, Dim):
                continue
            free = dims.symbols(dim)
            if len(free) != 1:
                continue
            (name,) = free
            if dim == dims.symbol(name):
                self._sources.setdefault(name, (value, axis))
            else:
                self._solved.setdefault(name, (value, axis, dim))

    def bind(self, size: Any, value: Value) -> None:
        """Let the symbol `size` be the scalar `value`, one that the data decides."""
        dim = self.dim(size)
        if isinstance(dim, Dim):
            self._scalars[str(dim)] = value

    def dim(self, size: Any) -> DimLike:
        """A torch size (int or SymInt) as a dim; `ExportError` where it is no such expression."""
        if isinstance(size, (int, Dim)):
            return size
        return self._convert(size.node.expr)

    def dim_or_none(self, size: Any) -> DimLike | None:
        """The same, None where the expression cannot be said."""
        try:
            return self.dim(size)
        except (ExportError, OverflowError):
            return None

    def scalar(self, dim: DimLike) -> Value:
        """`dim` as an INT64 scalar."""
        if not isinstance(dim, Dim):
            return self._op.value(dim, dtypes.INT64)
        text = dims.unparse(dim)
        if text not in self._computed:
            with self._op.metadata({"sardonyx.size": text}, prefix="sizes/"):
                self._computed[text] = self._emit(ast.parse(text, mode="eval").body)
        return self._computed[text]

    def number(self, symbolic: Any) -> Value:
        """A torch SymFloat as a FLOAT scalar."""
        with self._op.metadata({"sardonyx.size": str(symbolic.node.expr)}, prefix="sizes/"):
            return self._emit_number(symbolic.node.expr)

    def _convert(self, expr: Any) -> DimLike:
        if expr.is_Integer:
            return int(expr)
        if expr.is_Symbol:
            return dims.symbol(self._names.setdefault(str(expr), str(expr)))
        kind = type(expr).__name__
        rule = _RULES.get(kind)
        if rule is not None and not (kind == "Pow" and not expr.args[1].is_Integer):
            return rule([self._convert(part) for part in expr.args])
        raise ExportError(f"a size is {expr}, which ONNX shapes cannot say")

    def _emit(self, tree: ast.expr) -> Value:
        op = self._op
        if isinstance(tree, ast.Constant):
            return op.value(int(str(tree.value)), dtypes.INT64)
        if isinstance(tree, ast.Name):
            return self._symbol(tree.id)
        if isinstance(tree, ast.UnaryOp):
            value: Value = op.Neg(self._emit(tree.operand))
            return value
        if isinstance(tree, ast.BinOp):
            left, right = self._emit(tree.left), self._emit(tree.right)
            name = {ast.Add: "Add", ast.Sub: "Sub", ast.Mult: "Mul", ast.Mod: "Mod"}.get(
                type(tree.op), "Div"
            )
            made = op.apply(name, [left, right])
        elif isinstance(tree, ast.Call) and isinstance(tree.func, ast.Name):
            name = {"min": "Min", "max": "Max"}[tree.func.id]
            made = op.apply(name, [self._emit(part) for part in tree.args])
        else:
            raise ExportError(f"a size is {ast.unparse(tree)}, which cannot be computed")
        assert not isinstance(made, tuple)
        return made

    def _symbol(self, name: str) -> Value:
        if name not in self._scalars:
            if name in self._sources:
                self._scalars[name] = self._axis(*self._sources[name])
            elif name in self._solved:
                value, axis, dim = self._solved[name]
                self._scalars[name] = self._solve(name, self._axis(value, axis), dim)
            else:
                raise ExportError(f"size {name!r} is known only when the data is seen")
        return self._scalars[name]

    def _axis(self, value: Value, axis: int) -> Value:
        size: Value = self._op.Gather(self._op.Shape(value), self._op.value(axis), axis=0)
        return size

    def _solve(self, name: str, size: Value, dim: DimLike) -> Value:
        # size = factor * name + offset -> name = (size - offset) / factor
        offset = dims.evaluate(dim, {name: 0})
        factor = dims.evaluate(dim, {name: 1}) - offset
        if not isinstance(dim, Dim) or dim != factor * dims.symbol(name) + offset or not factor:
            raise ExportError(f"size {name!r} cannot be computed from {dim}")
        value: Value = self._op.Div(
            self._op.Sub(size, self._op.value(offset)), self._op.value(factor)
        )
        return value

    def _emit_number(self, expr: Any) -> Value:
        op = self._op
        kind = type(expr).__name__
        if expr.is_number:
            return op.value(float(expr), dtypes.FLOAT)
        if kind == "ToFloat" or expr.is_Symbol or (kind in _RULES and expr.is_integer):
            whole = expr.args[0] if kind == "ToFloat" else expr
            value: Value = op.Cast(self.scalar(self._convert(whole)), to=dtypes.FLOAT.code)
            return value
        name = _NUMBERS.get(kind)
        if name is None:
            raise ExportError(f"a number is {expr}, which cannot be computed from sizes")
        parts = [self._emit_number(part) for part in expr.args]
        made = op.apply(name, parts[:2])
        for part in parts[2:]:
            made = op.apply(name, [made, part])  # type: ignore[list-item]
        assert not isinstance(made, tuple)
        return made


def _sum(parts: list[DimLike]) -> DimLike:
    total: DimLike = 0
    for part in parts:
        total = total + part
    return total


def _product(parts: list[DimLike]) -> DimLike:
    total: DimLike = 1
    for part in parts:
        total = total * part
    return total


def _power(parts: list[DimLike]) -> DimLike:
    base, exponent = parts
    if isinstance(exponent, Dim) or exponent < 0:
        raise ExportError(f"a size is {base}**{exponent}, which ONNX shapes cannot say")
    return _product([base] * exponent)


_RULES: dict[str, Callable[[list[DimLike]], DimLike]] = {
    "Add": _sum,
    "Mul": _product,
    "Pow": _power,
    "PowByNatural": _power,
    "FloorDiv": lambda parts: parts[0] // parts[1],
    "CleanDiv": lambda parts: parts[0] // parts[1],
    "Mod": lambda parts: parts[0] % parts[1],
    "PythonMod": lambda parts: parts[0] % parts[1],
    "Max": lambda parts: dims.maximum(*parts),
    "Min": lambda parts: dims.minimum(*parts),
}

_NUMBERS = {
    "Add": "Add",
    "Mul": "Mul",
    "Pow": "Pow",
    "FloatPow": "Pow",
    "FloatTrueDiv": "Div",
    "IntTrueDiv": "Div",
    "OpaqueUnaryFn_sqrt": "Sqrt",
}
