"""Walking a model in order and asking each operator what its outputs are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sardonyx.errors import InferenceError, LimitError, SardonyxError, UnsupportedError
from sardonyx.infer.budget import Budget, SpentError, folding_limits
from sardonyx.infer.found import Inference
from sardonyx.infer.merge import conflict, merge_types, without_names
from sardonyx.infer.naming import Naming
from sardonyx.infer.signature import signature
from sardonyx.ir.types import TensorType
from sardonyx.limits import DEFAULT, Limits, enforced, exceeded
from sardonyx.ops.bind import attribute_values, is_shared, lift, operator_of
from sardonyx.ops.fact import UNKNOWN, Fact
from sardonyx.ops.inferring import constant_fact, infer_outputs, listed, without_anonymous
from sardonyx.ops.operator import ControlFlow

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from sardonyx.dims import Dim
    from sardonyx.ir.graph import Graph
    from sardonyx.ir.model import Function, Model
    from sardonyx.ir.node import Attribute, Node
    from sardonyx.ir.tensor import Array
    from sardonyx.ir.value import Value
    from sardonyx.ops.operator import Operator

__all__ = ["infer", "infer_shapes", "write_types"]


def infer(
    model: Model,
    *,
    shapes: Mapping[str, Sequence[int | Dim | None]] | None = None,
    known: Mapping[Value, Array] | None = None,
    first: int = 0,
    limits: Limits = DEFAULT,
) -> Inference:
    """Infer types and shapes of every value in the main graph and its subgraphs.

    `shapes` gives shapes of inputs that the file leaves open, `known` the contents of values that
    nodes compute. Symbols that inference makes are numbered from `first` on.

    Nothing is raised for a model that does not fit together: that is what `Inference.problems`
    lists. Functions and loops that make a model far larger than its file are followed only so far.

    Raises `LimitError` past the deadline that `limits` sets, if any.
    """
    driver = _Driver(model, limits)
    driver.known = known or {}
    driver.naming.made = first
    driver.enter(model.graph, shapes or {})
    with enforced(folding_limits(limits)):
        try:
            driver.walk(model.graph, model.opset_imports, {})
        except SpentError as error:
            driver.found.problems.append(error)
    return driver.found


def infer_shapes(model: Model, *, strict: bool = False, limits: Limits = DEFAULT) -> Model:
    """Write inferred types to the values of `model`, in place, and return it.

    Declared types are completed, and corrected where they are wrong. With `strict` a node whose
    inputs cannot fit together is an `InferenceError`.
    """
    found = infer(model, limits=limits)
    if strict and found.problems:
        raise found.problems[0]
    write_types(model, found)
    return model


def write_types(model: Model, found: Inference) -> None:
    """Write the types in `found` to the values of `model`: what names of the file can say.

    Values within functions stay as they are: each call may give them another type.
    """
    for value in _computed(model.graph):
        fact = found.facts.get(value)
        if fact is None:
            continue
        public = without_anonymous(fact.type)
        if public is not None:
            merged = merge_types(value.type, public)
            if merged != value.type:
                value.type = merged


_FAILURES = (
    ValueError,
    TypeError,
    IndexError,
    ArithmeticError,
    AttributeError,
    KeyError,
    AssertionError,
    RuntimeError,
    MemoryError,
)
"""What an operator's inference may raise for a node that the checker would have refused."""
_MOST_NOTED = 10_000


def _computed(graph: Graph) -> Iterator[Value]:
    """Outputs of nodes and inputs of subgraphs."""
    for node in graph.all_nodes():
        yield from node.outputs
        for inner in node.subgraphs():
            yield from inner.inputs


class _Driver:
    def __init__(self, model: Model, limits: Limits) -> None:
        self.model = model
        self.limits = limits
        self.budget = Budget(model, limits)
        self.spent = False
        self.naming = Naming()
        self.found = Inference(origins=self.naming.origins)
        self.known: Mapping[Value, Array] = {}
        self.depth = 0
        self.expanded = 0
        self.quiet = 0
        self.called = 0
        self._noted: set[tuple[Node, str]] = set()
        self._memory: dict[tuple[object, ...], Sequence[Fact]] = {}
        self._plain: set[int] = set()
        self._calls: dict[object, tuple[list[Fact], range]] = {}

    def enter(self, graph: Graph, shapes: Mapping[str, Sequence[int | Dim | None]]) -> None:
        """Facts of the main graph's inputs; unnamed dims become symbols of their own."""
        for value in graph.inputs:
            known = value.type
            shape = shapes.get(value.name)
            if isinstance(known, TensorType) and shape is not None:
                known = TensorType(known.dtype, tuple(shape))
            self.found.facts[value] = self.naming.of_file(value, Fact(known))

    def walk(
        self, graph: Graph, opset_imports: Mapping[str, int], bound: Mapping[str, Attribute]
    ) -> None:
        if self.depth >= self.limits.depth:
            raise exceeded("depth", self.limits.depth, self.depth + 1)
        self.depth += 1
        try:
            self.naming.begin()
            self._walk(graph, opset_imports, bound)
        finally:
            self.depth -= 1

    def _walk(
        self, graph: Graph, opset_imports: Mapping[str, int], bound: Mapping[str, Attribute]
    ) -> None:
        facts = self.found.facts
        for value in graph.initializers:
            facts[value] = constant_fact(value)
        functions = self.model.functions
        for node in graph.nodes:
            self._count()
            function = self.model.function_of(node) if functions else None
            results = self._node(node, function, opset_imports, bound)
            outputs = node.outputs
            if len(results) < len(outputs):
                results = [*results, *[UNKNOWN] * (len(outputs) - len(results))]
            for value, fact in zip(outputs, results, strict=False):
                facts[value] = self._settled(value, fact, node)
                if value in self.known:
                    facts[value] = Fact.constant(self.known[value])

    def _count(self) -> None:
        """Count a node against the budget; what it then raises ends the whole inference."""
        try:
            self.budget.meet()
        except LimitError:
            self.spent = True
            raise

    def _settled(self, value: Value, fact: Fact, node: Node) -> Fact:
        """`fact` with what the file declares of `value`, and with its unknown dims named."""
        declared, known = value.type, fact.type
        if declared is None and id(fact) in self._plain:
            return fact
        if declared is not None and self.called:
            declared = without_names(declared)
        if declared is not None and declared is not known:
            difference = conflict(declared, known)
            if difference and not self.quiet:
                self._conflict(difference, value, node)
            merged = merge_types(declared, known)
            if merged is not known:
                fact = Fact(merged, fact.value, fact.elements)
        return self.naming.of_output(value, self.budget.carried(fact))

    def _conflict(self, difference: str, value: Value, node: Node) -> None:
        name = value.name or f"output {value.index}"
        given = ", ".join(
            str(self.found.facts.get(each) or Fact(each.type))
            for each in node.inputs
            if each is not None
        )
        text = f"{difference}: {name} of {node.label}, whose inputs are {given or 'none'}"
        if (node, text) not in self._noted:
            self._noted.add((node, text))
            self.found.conflicts.append(text)

    def _node(
        self,
        node: Node,
        function: Function | None,
        opset_imports: Mapping[str, int],
        bound: Mapping[str, Attribute],
    ) -> Sequence[Fact]:
        facts = self.found.facts
        inputs = [
            None if value is None else facts.get(value) or Fact(value.type) for value in node.inputs
        ]
        try:
            if function is not None:
                return self._call(function, node, inputs, bound)
            operator = operator_of(node, opset_imports, bound)
            if is_shared(operator) and not isinstance(operator, ControlFlow):
                key = (id(operator), *[_alike(fact) for fact in inputs])
                found = self._memory.get(key)
                if found is None:
                    arguments = _arguments(operator, node, inputs, bound)
                    found = infer_outputs(operator, arguments, len(node.outputs))
                    if self.naming.is_plain(found):
                        self._memory[key] = found
                        self._plain.update(map(id, found))
                return found
            arguments = _arguments(operator, node, inputs, bound)
            if isinstance(operator, ControlFlow):
                return self._control(operator, node, arguments, opset_imports, bound)
            return infer_outputs(operator, arguments, len(node.outputs))
        except UnsupportedError as error:
            self._note(self.found.unsupported, error, node)
        except SardonyxError as error:
            if self.spent:
                raise
            self._note(self.found.problems, error, node)
        except _FAILURES as error:
            described = ", ".join(str(fact) for fact in inputs)
            wrapped = InferenceError(f"{node.op_type} of {described}: {error}")
            self._note(self.found.problems, wrapped, node)
        return ()

    def _note(self, where: list[SardonyxError], error: SardonyxError, node: Node) -> None:
        """List a problem, once for a node that several passes meet."""
        noted = (node, error.message)
        if not self.quiet and noted not in self._noted and len(where) < _MOST_NOTED:
            self._noted.add(noted)
            where.append(error.at(node.label).with_traceback(None))

    def _control(
        self,
        operator: ControlFlow,
        node: Node,
        arguments: list[Any],
        opset_imports: Mapping[str, int],
        bound: Mapping[str, Attribute],
    ) -> Sequence[Fact]:
        """Infer an operator with graphs; one that it never runs is inferred without complaints."""
        seen: set[Graph] = set()

        def infer_graph(graph: Graph, given: Sequence[Fact]) -> list[Fact]:
            seen.add(graph)
            if len(given) != len(graph.inputs):
                raise InferenceError(
                    f"the subgraph takes {len(graph.inputs)} inputs, {len(given)} are passed"
                )
            facts = self.found.facts
            local: dict[str, Dim] = {}
            for value, fact in zip(graph.inputs, given, strict=True):
                known = fact if fact.type else Fact(value.type, fact.value)
                facts[value] = self.naming.of_input(value, known, local)
            self.walk(graph, opset_imports, bound)
            return [facts.get(value) or Fact(value.type) for value in graph.outputs]

        results = listed(operator.infer(infer_graph, *arguments))
        for graph in node.subgraphs():
            if graph not in seen and not graph.inputs:
                self.quiet += 1
                try:
                    self.walk(graph, opset_imports, bound)
                finally:
                    self.quiet -= 1
        return results

    def _call(
        self,
        function: Function,
        node: Node,
        inputs: list[Fact | None],
        bound: Mapping[str, Attribute],
    ) -> list[Fact]:
        """The outputs of a call; calls with equal inputs and attributes share one inference."""
        attributes = dict(function.defaults)
        for name, attribute in node.attributes.items():
            target = bound.get(attribute.ref) if attribute.ref else attribute
            if target is not None:
                attributes[name] = target
        key = signature(function, inputs, attributes)
        found = self._calls.get(key)
        if found is not None:
            facts, made = found
            return self.naming.again(facts, made)
        graph = function.graph
        self.expanded += len(graph.nodes)
        if self.expanded > self.limits.nodes:
            raise exceeded("nodes", self.limits.nodes, "more, after functions are expanded,")
        first = self.naming.made
        given = [*inputs, *[None] * (len(graph.inputs) - len(inputs))]
        for value, fact in zip(graph.inputs, given, strict=True):
            self.found.facts[value] = fact or UNKNOWN
        self.called += 1
        try:
            self.walk(graph, {**self.model.opset_imports, **function.opset_imports}, attributes)
        finally:
            self.called -= 1
        results = [self.found.facts.get(value) or UNKNOWN for value in graph.outputs]
        if not self.quiet:
            self._calls[key] = results, range(first, self.naming.made)
        return results


def _alike(fact: Fact | None) -> object:
    """What an operator without contents to read sees of an input."""
    if fact is None or fact.value is not None or fact.elements is not None:
        return fact
    return fact.type


def _arguments(
    operator: Operator, node: Node, inputs: list[Fact | None], bound: Mapping[str, Attribute]
) -> list[Any]:
    schema = operator.schema(operator.version)
    if schema.takes_plainly(len(inputs)):
        return inputs
    return operator.arrange(schema, inputs, _lifted, attribute_values(node, bound))


def _lifted(name: str, value: Any) -> Fact:
    return Fact.constant(lift(name, value))
