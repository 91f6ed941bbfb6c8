"""Reverse-mode differentiation: from a value back to what it was computed from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sardonyx import limits
from sardonyx.autodiff.control import control_gradient
from sardonyx.autodiff.copying import copy_node
from sardonyx.autodiff.inline import check_versions
from sardonyx.errors import SardonyxError, UnsupportedError
from sardonyx.ir.types import OptionalType, SequenceType, TensorType
from sardonyx.ops.bind import attribute_values, lift, operator_of
from sardonyx.ops.operator import ControlFlow, Operator

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from sardonyx.ir.model import Function, Model
    from sardonyx.ir.node import Attribute, Node
    from sardonyx.ir.types import Type
    from sardonyx.ir.value import Value
    from sardonyx.ops.writer import Writer

__all__ = ["Reverse", "ancestors", "captured", "reads"]


_CONTROL: Final = {"If": 1, "Loop": 1, "Scan": 9}
"""Control flow with a gradient, from which version on."""


def captured(node: Node) -> Iterator[Value]:
    """The values of enclosing graphs that nodes inside the subgraphs of `node` read or return."""
    own: set[Value] = set()
    read: dict[Value, None] = {}
    stack = list(node.subgraphs())
    while stack:
        graph = stack.pop()
        own.update(graph.inputs)
        own.update(graph.initializers)
        for inner in graph.nodes:
            own.update(inner.outputs)
            read.update((value, None) for value in inner.inputs if value is not None)
            stack.extend(inner.subgraphs())
        read.update((value, None) for value in graph.outputs)
    yield from (value for value in read if value not in own)


def ancestors(values: Iterable[Value], stops: set[Value]) -> list[Node]:
    """The nodes that `values` are computed by, each after those it reads from; not past `stops`."""
    order: list[Node] = []
    seen: set[Node] = set()
    stack: list[tuple[Node, Iterator[Value]]] = []

    def enter(value: Value) -> None:
        node = value.producer
        if value not in stops and node is not None and node not in seen:
            seen.add(node)
            stack.append((node, reads(node)))

    for start in values:
        enter(start)
        while stack:
            node, rest = stack[-1]
            value = next(rest, None)
            if value is None:
                order.append(node)
                stack.pop()
            else:
                enter(value)
    return order


def reads(node: Node) -> Iterator[Value]:
    """The values that `node` and its subgraphs read."""
    yield from (value for value in node.inputs if value is not None)
    yield from captured(node)


class Reverse:
    """Writes the gradients of values by others with `op`, for nodes of `model`."""

    def __init__(self, model: Model, op: Writer) -> None:
        self.model = model
        self.op = op
        self.depth = 0

    def run(
        self,
        ys: Sequence[Value],
        seeds: Sequence[Value | None],
        xs: Sequence[Value],
        stops: Iterable[Value] = (),
    ) -> list[Value | None]:
        """The gradients of the sum of `ys`, weighted by `seeds`, by each of `xs`.

        `xs` and `stops` are taken as independent. None is a gradient that is zero everywhere.
        Raises `UnsupportedError` that lists every node on the way without a rule.
        """
        cuts = {*xs, *stops}
        order = ancestors(ys, cuts)
        active = self._active(order, set(xs))
        on_the_way = [node for node in order if any(value in active for value in node.outputs)]
        self._check_rules(on_the_way, active, set(ys))
        sums: dict[Value, Value] = {}
        for y, seed in zip(ys, seeds, strict=True):
            if seed is not None and y in active:
                self._add(sums, y, seed)
        for node in reversed(on_the_way):
            grads = [None if value in cuts else sums.pop(value, None) for value in node.outputs]
            if any(grad is not None for grad in grads):
                self._step(node, grads, active, sums)
        return [sums.get(x) for x in xs]

    def _active(self, order: Sequence[Node], xs: set[Value]) -> set[Value]:
        """The values that depend on `xs` and may have a gradient."""
        active = set(xs)
        for node in order:
            if any(value in active for value in reads(node)):
                active.update(
                    value for value in node.outputs if _may_vary(self.op.fact(value).type)
                )
        return active

    def _check_rules(self, nodes: Sequence[Node], active: set[Value], ys: set[Value]) -> None:
        wanted = set(ys)
        lacking: list[str] = []
        for node in reversed(nodes):
            if not any(value in wanted for value in node.outputs):
                continue
            wanted.update(value for value in reads(node) if value in active)
            problem = self._problem(node, active)
            if problem:
                lacking.append(problem)
        if lacking:
            raise UnsupportedError(
                "no gradient rule for " + ", ".join(reversed(lacking)),
                hint="take what these nodes compute as constant by listing it in zs",
            )

    def _problem(self, node: Node, active: set[Value]) -> str:
        if self.model.function_of(node) is not None:
            return ""
        operator = operator_of(node, self.op.opset_imports)
        known = [self.op.fact(value).type for value in node.outputs if value in active]
        if any(isinstance(each, TensorType) and _is_complex(each) for each in known):
            return f"{node.label} with complex numbers"
        if isinstance(operator, ControlFlow):
            first = _CONTROL.get(node.op_type)
            return "" if first is not None and operator.version >= first else node.label
        has_rule = operator.has_gradient or type(operator).body is not Operator.body
        return "" if has_rule else node.label

    def _step(
        self,
        node: Node,
        grads: Sequence[Value | None],
        active: set[Value],
        sums: dict[Value, Value],
    ) -> None:
        try:
            pairs = self._gradients_of(node, grads, active)
            for value, grad in pairs:
                if value is not None and grad is not None and value in active:
                    self._add(sums, value, grad)
        except SardonyxError as error:
            raise error.at(f"the gradient of {node.label}")  # noqa: B904

    def _gradients_of(
        self, node: Node, grads: Sequence[Value | None], active: set[Value]
    ) -> Iterable[tuple[Value | None, Value | None]]:
        function = self.model.function_of(node)
        if function is not None:
            ys = self._called(function, node)
            return self._through(ys, grads, node.inputs, active)
        operator = operator_of(node, self.op.opset_imports)
        if isinstance(operator, ControlFlow):
            outer = [value for value in captured(node) if value in active]
            return control_gradient(self, node, grads, outer)
        arranged = self._arranged(operator, node)
        if operator.has_gradient:
            found = operator.gradient(self.op, grads, arranged, node.outputs)
            return zip(arranged, found, strict=False)
        made = operator.body(self.op, *arranged)
        return self._through(made if isinstance(made, tuple) else (made,), grads, arranged, active)

    def _through(
        self,
        ys: Sequence[Value],
        grads: Sequence[Value | None],
        inputs: Sequence[Value | None],
        active: set[Value],
    ) -> Iterable[tuple[Value | None, Value | None]]:
        """The gradients of the active ones of `inputs`, which nodes just written make `ys` of."""
        given = [value for value in dict.fromkeys(inputs) if value is not None]
        varying = [value for value in given if value in active]
        count = min(len(ys), len(grads))
        found = self.run(ys[:count], grads[:count], varying, given)
        return zip(varying, found, strict=True)

    def _arranged(self, operator: Operator, node: Node) -> list[Any]:
        schema = operator.schema(operator.version)
        return operator.arrange(
            schema,
            node.inputs,
            lambda name, value: self.op.value(lift(name, value)),
            attribute_values(node, {}),
        )

    def _called(self, function: Function, node: Node) -> list[Value]:
        """The outputs of a copy of the function's nodes, on the inputs of the call `node`."""
        return self._instance(function, node.inputs, node.attributes)

    def _instance(
        self,
        function: Function,
        inputs: Sequence[Value | None],
        attributes: Mapping[str, Attribute],
    ) -> list[Value]:
        check_versions(self.model, function)
        self.depth += 1
        if self.depth > limits.active().depth:
            raise limits.exceeded("depth", limits.active().depth, self.depth)
        graph = function.graph
        given = dict(zip(graph.inputs, inputs, strict=False))
        mapping = {inner: outer for inner, outer in given.items() if outer is not None}
        absent = {inner for inner in graph.inputs if given.get(inner) is None}
        self.replay(graph.nodes, mapping, absent, {**function.defaults, **attributes})
        self.depth -= 1
        return [mapping[value] for value in graph.outputs]

    def inner(self, op: Writer) -> Reverse:
        """The same for a subgraph that `op` writes."""
        made = Reverse(self.model, op)
        made.depth = self.depth
        return made

    def replay(
        self,
        nodes: Iterable[Node],
        mapping: dict[Value, Value],
        absent: set[Value],
        bound: Mapping[str, Attribute] | None = None,
    ) -> None:
        """Write copies of `nodes`, and of the functions that they call."""
        for node in nodes:
            function = self.model.function_of(node)
            if function is None:
                copied = copy_node(node, mapping, bound=bound, rename=self.op.unique)
                if bound is None:
                    self._carry_facts(node, mapping)
                for position, value in enumerate(copied.inputs):
                    if value in absent:
                        copied.set_input(position, None)
                self.op.adopt(copied)
                continue
            inputs = [
                None if value is None or value in absent else mapping.get(value, value)
                for value in node.inputs
            ]
            attributes = {
                name: bound[attribute.ref] if bound and attribute.ref in bound else attribute
                for name, attribute in node.attributes.items()
            }
            outputs = self._instance(function, inputs, attributes)
            mapping.update(zip(node.outputs, outputs, strict=False))

    def _carry_facts(self, node: Node, mapping: dict[Value, Value]) -> None:
        """Let copies of values inside the subgraphs of `node` be known as the values are."""
        for graph in node.subgraphs():
            for inner in graph.all_nodes():
                for value in inner.outputs:
                    self.op.known.setdefault(mapping[value], self.op.fact(value))

    def _add(self, sums: dict[Value, Value], value: Value, grad: Value) -> None:
        known = sums.get(value)
        sums[value] = grad if known is None else self.op.Add(known, grad)


def _may_vary(known: Type | None) -> bool:
    """Whether values of this type can depend on others smoothly."""
    if isinstance(known, TensorType):
        return known.dtype is None or known.dtype.is_floating or _is_complex(known)
    if isinstance(known, SequenceType):
        return _may_vary(known.element)
    return known is None or isinstance(known, OptionalType)


def _is_complex(known: TensorType) -> bool:
    return known.dtype is not None and known.dtype.kind == "complex"
