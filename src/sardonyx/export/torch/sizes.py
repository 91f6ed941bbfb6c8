"""Symbolic sizes: torch's expressions as dims, and as values computed from input shapes."""

from __future__ import annotations

import ast
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from sardonyx import dims, dtypes
from sardonyx.dims import Dim
from sardonyx.errors import ExportError
from sardonyx.export.torch.symbolic import Symbolic, floor_divided

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from sardonyx.dims import DimLike
    from sardonyx.dtypes import DType
    from sardonyx.export.torch.signature import Leaf
    from sardonyx.ir.builder import Builder
    from sardonyx.ir.value import Value

__all__ = ["Sizes"]


_SHAPE_OF_AXES: Final = 15


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
        self._fractions: dict[str, Value] = {}
        self._opaque: dict[str, Any] = {}
        self._signed: dict[str, dims.Bounds] = {}
        self._symbolic = Symbolic(op, self)

    @contextmanager
    def scope(self) -> Iterator[None]:
        """Within the block, what is read, bound and computed is forgotten at its end."""
        before = self._sources, self._solved, self._scalars, self._computed, self._fractions
        self._sources, self._solved = dict(self._sources), dict(self._solved)
        self._scalars, self._computed = dict(self._scalars), dict(self._computed)
        self._fractions = dict(self._fractions)
        try:
            yield
        finally:
            self._sources, self._solved, self._scalars, self._computed, self._fractions = before

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
            if dims.unparse(dim) == name:
                self._sources.setdefault(name, (value, axis))
            else:
                self._solved.setdefault(name, (value, axis, dim))

    def bind(self, size: Any, value: Value) -> None:
        """Let the symbol `size` (a SymInt, SymFloat or SymBool) be the scalar `value`.

        A truth value is a symbol that is compared with 1.
        """
        expr = size.node.expr
        if not expr.is_Symbol:
            found = sorted(expr.free_symbols, key=str)
            if len(found) != 1:
                raise ExportError(f"{expr} is not one symbol, so it cannot be bound to a value")
            (expr,) = found
            if value.dtype is dtypes.BOOL:
                value = self._op.Cast(value, to=dtypes.INT64.code)
        if not expr.is_integer:
            self._fractions[str(expr)] = value
            return
        dim = self.convert(expr)
        if isinstance(dim, Dim):
            name = str(dim)
            self._scalars[name] = value
            for text in [text for text in self._computed if name in text]:
                del self._computed[text]

    def dim(self, size: Any) -> DimLike:
        """A torch size (int or SymInt) as a dim; `ExportError` where it is no such expression."""
        if isinstance(size, (int, Dim)):
            return size
        return self.convert(size.node.expr)

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

    def vector(self, values: Sequence[Dim]) -> list[Value]:
        """`values` as INT64 values of rank 1 to be joined; neighbouring axes are read at once."""
        parts: list[Value] = []
        start = 0
        while start < len(values):
            source = self._sources.get(dims.unparse(values[start]))
            end = start + 1
            if source is None:
                one = self.scalar(values[start])
                parts.append(self._op.Reshape(one, self._op.value([1], dtypes.INT64)))
            else:
                value, axis = source
                while end < len(values) and self._sources.get(dims.unparse(values[end])) == (
                    value,
                    axis + end - start,
                ):
                    end += 1
                with self._op.metadata({"sardonyx.size": "shape"}, prefix="sizes/"):
                    parts.append(self._axes(value, axis, axis + end - start))
            start = end
        return parts

    def number(self, symbolic: Any, dtype: DType = dtypes.FLOAT) -> Value:
        """A torch SymFloat as a scalar of `dtype`."""
        with self._op.metadata({"sardonyx.size": str(symbolic.node.expr)}, prefix="sizes/"):
            return self._symbolic.number(symbolic.node.expr, dtype)

    def truth(self, symbolic: Any) -> Value:
        """A torch SymBool as a BOOL scalar."""
        with self._op.metadata({"sardonyx.size": str(symbolic.node.expr)}, prefix="sizes/"):
            return self._symbolic.truth(symbolic.node.expr)

    def fraction(self, name: str) -> Value:
        """The value bound to a symbol that is no whole number."""
        if name not in self._fractions:
            raise ExportError(f"number {name!r} is known only when the data is seen")
        return self._fractions[name]

    def convert(self, expr: Any) -> DimLike:
        """An expression of torch's symbols as a dim.

        What dims cannot say (a rounded fraction, a choice) becomes a symbol of its own, which is
        computed where it is needed.
        """
        if expr.is_Integer:
            return int(expr)
        if expr.is_Symbol:
            name = self._names.setdefault(str(expr), str(expr))
            return dims.symbol(name) if expr.is_nonnegative else self._any(name)
        kind = type(expr).__name__
        rule = _RULES.get(kind)
        if rule is not None and not (
            kind in {"Pow", "PowByNatural"} and not (expr.args[1].is_Integer and expr.args[1] >= 0)
        ):
            return rule([self.convert(part) for part in expr.args])
        if expr.is_integer is not False and self._symbolic.has_rule(expr):
            known = {str(other): name for name, other in self._opaque.items()}
            name = known.get(str(expr)) or f"computed_{len(self._opaque)}"
            self._opaque[name] = expr
            return self._any(name)
        raise ExportError(f"a size is {expr}, which ONNX shapes cannot say")

    def _any(self, name: str) -> DimLike:
        self._signed[name] = (None, None)
        return dims.symbol(name, None, None)

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
            if isinstance(tree.op, ast.FloorDiv) and not (
                self._is_positive(tree.left) and self._is_positive(tree.right)
            ):
                return floor_divided(op, left, right)
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

    def _is_positive(self, tree: ast.expr) -> bool:
        return dims.known_less_equal(0, dims.parse(ast.unparse(tree), self._signed)) is True

    def _symbol(self, name: str) -> Value:
        if name not in self._scalars:
            if name in self._opaque:
                self._scalars[name] = self._symbolic.whole(self._opaque[name])
            elif name in self._sources:
                self._scalars[name] = self._axis(*self._sources[name])
            elif name in self._solved:
                value, axis, dim = self._solved[name]
                self._scalars[name] = self._solve(name, self._axis(value, axis), dim)
            else:
                raise ExportError(f"size {name!r} is known only when the data is seen")
        return self._scalars[name]

    def _axis(self, value: Value, axis: int) -> Value:
        op = self._op
        size: Value = (
            op.Gather(op.Shape(value), op.value(axis), axis=0)
            if op.opset < _SHAPE_OF_AXES
            else op.Squeeze(self._axes(value, axis, axis + 1))
        )
        return size

    def _axes(self, value: Value, start: int, end: int) -> Value:
        """The sizes of neighbouring axes."""
        op = self._op
        whole = value.shape is not None and (start, end) == (0, len(value.shape))
        if whole or op.opset < _SHAPE_OF_AXES:
            sizes: Value = op.Shape(value)
            return sizes if whole else op.Gather(sizes, op.value(list(range(start, end))), axis=0)
        part: Value = op.Shape(value, start=start, end=end)
        return part

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
    "CeilDiv": lambda parts: dims.ceil_div(*parts),
    "Identity": lambda parts: parts[0],
    "Mod": lambda parts: parts[0] % parts[1],
    "PythonMod": lambda parts: parts[0] % parts[1],
    "Max": lambda parts: dims.maximum(*parts),
    "Min": lambda parts: dims.minimum(*parts),
}
