"""Walking a model in order and asking each operator what its outputs are."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np

from sardonyx import dims
from sardonyx.dims import Dim
from sardonyx.dtypes import STRING
from sardonyx.errors import InferenceError, SardonyxError, UnsupportedError
from sardonyx.infer.merge import conflict, merge_types
from sardonyx.ir.tensor import SparseTensor
from sardonyx.ir.types import OptionalType, SequenceType, SparseTensorType, TensorType
from sardonyx.limits import DEFAULT, Limits, enforced, exceeded
from sardonyx.ops.bind import attribute_values, lift, operator_of
from sardonyx.ops.fact import UNKNOWN, Fact
from sardonyx.ops.operator import ControlFlow

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sardonyx.ir.graph import Graph
    from sardonyx.ir.model import Function, Model
    from sardonyx.ir.node import Attribute, Node
    from sardonyx.ir.types import Type
    from sardonyx.ir.value import Value
    from sardonyx.ops.operator import Operator

__all__ = ["Inference", "infer", "infer_shapes"]

_SMALL = 4096
"""Most elements of a value whose contents inference computes."""


@dataclass
class Inference:
    """What was inferred: a fact for each value, and what did not fit.

    `conflicts` are values declared as something else than they are; `problems` are nodes whose
    inputs cannot fit together; `unsupported` are nodes whose operator is unknown.
    """

    facts: dict[Value, Fact] = field(default_factory=dict)
    conflicts: list[str] = field(default_factory=list)
    problems: list[SardonyxError] = field(default_factory=list)
    unsupported: list[SardonyxError] = field(default_factory=list)


def infer(
    model: Model,
    *,
    shapes: Mapping[str, Sequence[int | Dim | None]] | None = None,
    limits: Limits = DEFAULT,
) -> Inference:
    """Infer types and shapes of every value in the main graph and its subgraphs.

    `shapes` gives shapes of inputs that the file leaves open. Nothing is raised for a model
    that does not fit together: that is what `Inference.problems` lists.
    """
    driver = _Driver(model, limits)
    driver.enter(model.graph, shapes or {})
    with enforced(limits):
        driver.walk(model.graph, model.opset_imports, {})
    return driver.found


def infer_shapes(model: Model, *, strict: bool = False, limits: Limits = DEFAULT) -> Model:
    """Write inferred types to the values of `model`, in place, and return it.

    Declared types are completed, and corrected where they are wrong. With `strict` a node whose
    inputs cannot fit together is an `InferenceError`.
    """
    found = infer(model, limits=limits)
    if strict and found.problems:
        raise found.problems[0]
    inputs = set(model.graph.inputs)
    for value, fact in found.facts.items():
        if value in inputs or value.const is not None:
            continue
        public = _without_anonymous(fact.type)
        if public is not None:
            merged = merge_types(value.type, public)
            if merged != value.type:
                value.type = merged
    return model


_ANONYMOUS = "?:"
"""How the symbols begin that stand for unnamed dims while inference runs."""


def _without_anonymous(known: Type | None) -> Type | None:
    if isinstance(known, (TensorType, SparseTensorType)) and known.shape is not None:
        shape = tuple(None if _is_anonymous(dim) else dim for dim in known.shape)
        return type(known)(known.dtype, shape, known.denotation, known.denotations)
    if isinstance(known, (SequenceType, OptionalType)):
        element = _without_anonymous(known.element)
        return None if element is None else type(known)(element, known.denotation)
    return known


def _is_anonymous(dim: int | Dim | None) -> bool:
    return isinstance(dim, Dim) and any(name.startswith(_ANONYMOUS) for name in dims.symbols(dim))


class _Driver:
    def __init__(self, model: Model, limits: Limits) -> None:
        self.model = model
        self.limits = limits
        self.found = Inference()
        self.depth = 0
        self.expanded = 0
        self.quiet = 0
        self._fresh = count()

    def enter(self, graph: Graph, shapes: Mapping[str, Sequence[int | Dim | None]]) -> None:
        """Facts of the main graph's inputs; unnamed dims become symbols of their own."""
        for value in graph.inputs:
            fact = Fact(value.type)
            shape = shapes.get(value.name, fact.shape)
            if isinstance(value.type, TensorType) and shape is not None:
                fact = self._named(Fact(TensorType(value.type.dtype, tuple(shape))))
            self.found.facts[value] = fact

    def walk(
        self, graph: Graph, opset_imports: Mapping[str, int], bound: Mapping[str, Attribute]
    ) -> None:
        self.depth += 1
        if self.depth > self.limits.depth:
            raise exceeded("depth", self.limits.depth, self.depth)
        facts = self.found.facts
        for value in graph.initializers:
            facts[value] = _constant_fact(value)
        for node in graph.nodes:
            for value, fact in zip(
                node.outputs, self._node(node, opset_imports, bound), strict=False
            ):
                self._settle(value, fact, node)
        self.depth -= 1

    def _settle(self, value: Value, fact: Fact, node: Node) -> None:
        declared = value.type
        if declared is not None and fact.type is not None:
            difference = conflict(declared, fact.type)
            if difference and not self.quiet:
                self.found.conflicts.append(f"{difference}: {value.name} of {node.label}")
            merged = merge_types(declared, fact.type)
            if merged is not fact.type:
                fact = Fact(merged, fact.value)
        elif fact.type is None:
            fact = Fact(declared)
        self.found.facts[value] = self._named(fact)

    def _named(self, fact: Fact) -> Fact:
        """`fact` with a symbol of its own for each unknown dim and element."""
        known, contents = fact.type, fact.value
        if isinstance(known, TensorType) and known.shape is not None and None in known.shape:
            shape = tuple(self._symbol() if dim is None else dim for dim in known.shape)
            known = replace(known, shape=shape)
        if contents is not None and contents.dtype == object and known is not None:
            is_text = isinstance(known, TensorType) and known.dtype is STRING
            if not is_text and any(item is None for item in contents.flat):
                contents = contents.copy()
                flat = contents.reshape(-1)
                for index, item in enumerate(flat):
                    if item is None:
                        flat[index] = self._symbol(signed=True)
        return Fact(known, contents)

    def _symbol(self, *, signed: bool = False) -> int | Dim:
        name = f"{_ANONYMOUS}{next(self._fresh)}"
        return dims.symbol(name, lower=None) if signed else dims.symbol(name)

    def _node(
        self, node: Node, opset_imports: Mapping[str, int], bound: Mapping[str, Attribute]
    ) -> Sequence[Fact]:
        inputs = [
            None if value is None else self.found.facts.get(value) or Fact(value.type)
            for value in node.inputs
        ]
        unknown = [UNKNOWN] * len(node.outputs)
        try:
            function = self.model.function_of(node)
            if function is not None:
                return self._call(function, node, inputs, bound)
            operator = operator_of(node, opset_imports, bound)
            values = attribute_values(node, bound)
            schema = operator.schema(operator.version)
            arguments = operator.arrange(
                schema, inputs, lambda name, value: Fact.constant(lift(name, value)), values
            )
            if isinstance(operator, ControlFlow):
                return _listed(
                    operator.infer(self._graph_inference(opset_imports, bound), *arguments)
                )
            return _infer_one(operator, arguments, len(node.outputs))
        except UnsupportedError as error:
            self._note(self.found.unsupported, error, node)
        except SardonyxError as error:
            self._note(self.found.problems, error, node)
        except (ValueError, TypeError, IndexError, ArithmeticError) as error:
            described = ", ".join(str(fact) for fact in inputs)
            wrapped = InferenceError(f"{node.op_type} of {described}: {error}")
            self._note(self.found.problems, wrapped, node)
        return unknown

    def _note(self, where: list[SardonyxError], error: SardonyxError, node: Node) -> None:
        if not self.quiet:
            where.append(error.at(node.label))

    def _graph_inference(
        self, opset_imports: Mapping[str, int], bound: Mapping[str, Attribute]
    ) -> Any:
        def infer_graph(graph: Graph, given: Sequence[Fact]) -> list[Fact]:
            if len(given) != len(graph.inputs):
                raise InferenceError(
                    f"the subgraph takes {len(graph.inputs)} inputs, {len(given)} are passed"
                )
            for value, fact in zip(graph.inputs, given, strict=True):
                self.found.facts[value] = fact if fact.type else Fact(value.type, fact.value)
            self.walk(graph, opset_imports, bound)
            return [self.found.facts.get(value) or Fact(value.type) for value in graph.outputs]

        return infer_graph

    def _call(
        self,
        function: Function,
        node: Node,
        inputs: list[Fact | None],
        bound: Mapping[str, Attribute],
    ) -> list[Fact]:
        attributes = dict(function.defaults)
        for name, attribute in node.attributes.items():
            target = bound.get(attribute.ref) if attribute.ref else attribute
            if target is not None:
                attributes[name] = target
        graph = function.graph
        self.expanded += len(graph.nodes)
        if self.expanded > self.limits.nodes:
            raise exceeded("nodes", self.limits.nodes, "more, after functions are expanded,")
        given = [*inputs, *[None] * (len(graph.inputs) - len(inputs))]
        for value, fact in zip(graph.inputs, given, strict=True):
            self.found.facts[value] = fact or UNKNOWN
        self.walk(graph, {**self.model.opset_imports, **function.opset_imports}, attributes)
        return [self.found.facts.get(value) or UNKNOWN for value in graph.outputs]


def _constant_fact(value: Value) -> Fact:
    const = value.const
    if const is None:
        return Fact(value.type)
    if isinstance(const, SparseTensor):
        return Fact.tensor(const.values.dtype, const.shape)
    contents = const.numpy() if 0 < const.size <= _SMALL else None
    return Fact.tensor(const.dtype, const.shape, contents)


def _listed(result: Fact | Sequence[Fact]) -> Sequence[Fact]:
    return [result] if isinstance(result, Fact) else result


def _infer_one(operator: Operator, arguments: list[Any], n_outputs: int) -> Sequence[Fact]:
    """The operator's own inference, and contents through `reference` where inputs have them."""
    facts = list(_listed(operator.infer(*arguments)))
    given = [fact for fact in arguments if fact is not None]
    if not given or any(fact.value is None for fact in given):
        return facts
    if all(fact.value is not None for fact in facts[:n_outputs]) or not operator.deterministic:
        return facts
    if not all(_is_small(fact) for fact in facts[:n_outputs]):
        return facts
    constant = all(fact.is_constant for fact in given)
    if not constant and not operator.moves_data:
        return facts
    values = [
        None if fact is None else (fact.constant_value() if constant else fact.value)
        for fact in arguments
    ]
    try:
        with np.errstate(all="ignore"):
            results = operator.reference(*values)
    except (SardonyxError, ValueError, TypeError, IndexError, ArithmeticError):
        return facts
    if not isinstance(results, tuple):
        results = (results,)
    return [
        fact.with_value(np.asarray(result)) if isinstance(fact.type, TensorType) else fact
        for fact, result in zip(facts, results, strict=False)
    ]


def _is_small(fact: Fact) -> bool:
    if not isinstance(fact.type, TensorType) or fact.shape is None:
        return False
    size = 1
    for dim in fact.shape:
        if not isinstance(dim, int):
            return False
        size *= dim
    return size <= _SMALL
