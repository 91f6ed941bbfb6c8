"""`Writer`: the `op` that gradient rules write nodes with."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from sardonyx import limits
from sardonyx.dims import known_equal
from sardonyx.dtypes import INT64
from sardonyx.ir.graph import Graph
from sardonyx.ir.node import Node
from sardonyx.ir.tensor import ArrayTensor
from sardonyx.ir.value import Value
from sardonyx.ops import registry
from sardonyx.ops.body_builder import BodyBuilder
from sardonyx.ops.fact import Fact

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy.typing as npt

    from sardonyx.ir.tensor import Tensor
    from sardonyx.ir.types import DimLike, Shape
    from sardonyx.ops.operator import Operator
    from sardonyx.ops.schema import Schema

__all__ = ["Writer"]


class Writer(BodyBuilder):
    """A `BodyBuilder` with what gradients have in common.

    A Python number among the inputs takes the type of those that share its type constraint:
    ``op.Where(mask, dy, 0.0)``.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._made: list[Node] = []
        self._constants_made: set[Value] = set()
        self._outputs_added: list[Value] = []
        super().__init__(*arguments, **options)

    def apply(self, op_type: str, inputs: Sequence[Any], **keywords: Any) -> Any:
        """What ``op.<op_type>(*inputs, ...)`` does: see the class."""
        operator = registry.get(keywords.get("_domain", ""), op_type)
        return super().apply(op_type, self._typed(operator, inputs), **keywords)

    def _insert(self, node: Node) -> None:
        super()._insert(node)
        self._made.append(node)
        most = limits.active().nodes
        if len(self._made) > most:
            raise limits.exceeded("nodes", most, "more, with gradients written out,")

    def initializer(self, name: str, data: Tensor | npt.ArrayLike) -> Value:
        """A new constant called exactly `name`."""
        value = super().initializer(name, data)
        self._constants_made.add(value)
        return value

    def adopt(self, node: Node) -> None:
        """Add `node`, made elsewhere, where new nodes go."""
        node.name = self._claim_node(None, node.name or node.op_type)
        self._insert(node)
        self._infer(node)

    def define(self, output: Value, result: Value) -> None:
        """Make `output`, whose node is gone, a copy of `result`."""
        name = self._claim_node(None, f"{self._prefix}Identity")
        self._insert(Node("Identity", [result], [output], name=name))
        self.known[output] = self.fact(result)

    def branch(self, name: str) -> Writer:
        """A writer of a new subgraph without inputs, for an If."""
        made = Writer(Graph(self.free(name)), self.opset_imports, outer=self)
        made._prefix, made._metadata = self._prefix, self._metadata
        return made

    def sweep(self, keep: Iterable[Value] = ()) -> None:
        """Remove what was written and is read by nothing, but for `keep` and graph outputs."""
        kept = {*keep, *self.graph.outputs}
        for node in self._made:
            for inner in node.subgraphs():
                kept.update(inner.outputs)
        for node in reversed(self._made):
            used = any(value.users or value in kept for value in node.outputs)
            if node.graph is self.graph and not used:
                self.graph.nodes.remove(node)
        for value in self._outputs_added:
            if not value.users and value not in kept:
                value.name = ""
                _drop_unnamed(value.producer)
        unused = {v for v in self._constants_made if not v.users and v not in kept}
        self.graph.initializers[:] = [v for v in self.graph.initializers if v not in unused]
        self._constants = {k: v for k, v in self._constants.items() if v not in unused}
        self._made.clear()
        self._constants_made.clear()
        self._outputs_added.clear()

    def known_sizes(self, value: Value) -> tuple[int, ...] | None:
        """The shape of `value` where every size is a known number."""
        shape = self.fact(value).shape
        if shape is None or not all(isinstance(dim, int) for dim in shape):
            return None
        return tuple(dim for dim in shape if isinstance(dim, int))

    def known_ints(self, value: Value | None) -> list[int] | None:
        """The contents of an integer tensor where they are known numbers."""
        known = None if value is None else self.fact(value).constant_value()
        return None if known is None else [int(item) for item in known.reshape(-1)]

    def zeros(self, shape: Value, like: Value) -> Value:
        """Zeros of sizes `shape` in the element type of `like`."""
        zero = ArrayTensor(np.zeros(1), self.dtype(like))
        made: Value = self.ConstantOfShape(shape, value=zero)
        return made

    def zeros_like(self, value: Value) -> Value:
        """Zeros of the shape and type of `value`."""
        return self.zeros(self.size(value), value)

    def ones_like(self, value: Value) -> Value:
        """Ones of the shape and type of `value`."""
        one = ArrayTensor(np.ones(1), self.dtype(value))
        made: Value = self.ConstantOfShape(self.size(value), value=one)
        return made

    def reshaped(self, value: Value, like: Value) -> Value:
        """`value` in the shape of `like`, which has as many elements."""
        if _same_shape(self.fact(value).shape, self.fact(like).shape):
            return value
        result: Value = self.Reshape(value, self.size(like))
        return self._shaped_like(result, like)

    def expanded(self, value: Value, like: Value) -> Value:
        """`value` broadcast to the shape of `like`."""
        if _same_shape(self.fact(value).shape, self.fact(like).shape):
            return value
        result: Value = self.Expand(value, self.size(like))
        return self._shaped_like(result, like)

    def sum_to(self, value: Value, like: Value) -> Value:
        """`value` summed over the axes along which `like` was broadcast to its shape."""
        wide, narrow = self.fact(value).shape, self.fact(like).shape
        if _same_shape(wide, narrow):
            return value
        axes = _broadcast_axes(wide, narrow)
        if axes is None or wide is None or narrow is None:
            return self._sum_by_data(value, like)
        if axes:
            value = self.ReduceSum(value, axes, keepdims=1)
        return self.reshaped(value, like) if len(wide) > len(narrow) else value

    def same(self, a: Value, b: Value | float) -> Value:
        """Where floating-point `a` equals `b`, for which operator sets before 11 have no Equal."""
        if self._version("") >= 11:
            equal: Value = self.Equal(a, b)
            return equal
        neither: Value = self.Not(self.Or(self.Less(a, b), self.Greater(a, b)))
        return neither

    def ratio(self, value: Value, part: Value, like: Value) -> Value:
        """How many elements of `value` there are for each of `part`, in the type of `like`."""
        whole, some = self.known_sizes(value), self.known_sizes(part)
        if whole is not None and some is not None:
            return self.like(math.prod(whole) // max(math.prod(some), 1), like)
        quotient = self.Div(self.Size(value), self.Max(self.Size(part), 1))
        return self.cast(quotient, self.dtype(like))

    def with_output(self, output: Value, index: int, name: str) -> Value:
        """Output `index` of the node that makes `output`, added where the node leaves it out."""
        node = output.producer
        assert node is not None
        while len(node.outputs) <= index:
            added = Value()
            added.producer, added.index = node, len(node.outputs)
            node.outputs = (*node.outputs, added)
        wanted = node.outputs[index]
        if not wanted.name:
            wanted.name = self.unique(f"{output.name}.{name}")
            self._outputs_added.append(wanted)
            self._infer(node)
        return wanted

    def _sum_by_data(self, value: Value, like: Value) -> Value:
        """`sum_to` where only the run tells which axes were broadcast."""
        narrow = self.Shape(like)
        missing = self.Sub(self.Size(self.Shape(value)), self.Size(narrow))
        one = ArrayTensor(np.ones(1), INT64)
        padded = self.Concat(
            self.ConstantOfShape(self.Reshape(missing, [1]), value=one), narrow, axis=0
        )
        axes = self.Reshape(self.NonZero(self.Equal(padded, 1)), [-1])
        total = self.ReduceSum(value, axes, keepdims=1, noop_with_empty_axes=1)
        return self._shaped_like(self.Reshape(total, narrow), like)

    def _shaped_like(self, value: Value, like: Value) -> Value:
        shape = self.fact(like).shape
        if shape is not None:
            self.known[value] = Fact.tensor(self.fact(value).dtype, shape)
        return value

    def _typed(self, operator: type[Operator], inputs: Sequence[Any]) -> list[Any]:
        """`inputs` with Python numbers as tensors of the type that their neighbours have."""
        schema = operator.schema(operator.since)
        constraints = [_constraint(schema, index) for index in range(len(inputs))]
        known = {
            constraint: self.dtype(value)
            for constraint, value in zip(constraints, inputs, strict=True)
            if isinstance(value, Value) and constraint
        }
        return [
            ArrayTensor(np.array(value), known[constraint])
            if isinstance(value, (int, float)) and constraint in known
            else value
            for constraint, value in zip(constraints, inputs, strict=True)
        ]

    @property
    def scatters_add(self) -> bool:
        """Whether the operator set has scattering that adds up what goes to one place."""
        return self._version("") >= 16


def _drop_unnamed(node: Node | None) -> None:
    """Remove the outputs at the end of a node that nothing names or reads."""
    while (
        node is not None and node.outputs and not (node.outputs[-1].name or node.outputs[-1].users)
    ):
        node.outputs = node.outputs[:-1]


def _constraint(schema: Schema, index: int) -> str:
    param = schema.param_of(schema.inputs, index)
    return param.type if param is not None and isinstance(param.type, str) else ""


def _equal(a: DimLike, b: DimLike) -> bool:
    return a is not None and b is not None and bool(known_equal(a, b))


def _same_shape(a: Shape | None, b: Shape | None) -> bool:
    if a is None or b is None or len(a) != len(b):
        return False
    return all(_equal(x, y) for x, y in zip(a, b, strict=True))


def _broadcast_axes(wide: Shape | None, narrow: Shape | None) -> list[int] | None:
    """The axes of `wide` that `narrow` lacks or has with size 1; None where that is not known."""
    if wide is None or narrow is None or len(narrow) > len(wide):
        return None
    extra = len(wide) - len(narrow)
    axes = list(range(extra))
    for axis, (w, n) in enumerate(zip(wide[extra:], narrow, strict=True), extra):
        if n == 1:
            if w != 1:
                axes.append(axis)
        elif not isinstance(n, int) and not _equal(w, n):
            return None
    return axes
