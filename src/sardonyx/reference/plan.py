"""The order of evaluation of one graph: parsed operators, and when values can be dropped."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sardonyx.ops.bind import attribute_values, operator_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sardonyx.ir.graph import Graph
    from sardonyx.ir.model import Function, Model
    from sardonyx.ir.node import Attribute, Node
    from sardonyx.ir.value import Value
    from sardonyx.ops.operator import Operator
    from sardonyx.ops.schema import Schema

__all__ = ["Plan", "Step", "captured", "make_plan"]


@dataclass(slots=True)
class Step:
    """One node: the operator or function that it applies, and the values dead after it."""

    node: Node
    operator: Operator | None
    schema: Schema | None
    function: Function | None
    attributes: dict[str, Any]
    drops: list[Value] = field(default_factory=list)


@dataclass(slots=True)
class Plan:
    """The steps of one graph under one binding of function attributes."""

    graph: Graph
    steps: list[Step]
    opset_imports: Mapping[str, int]
    bound: Mapping[str, Attribute]


def make_plan(
    model: Model, graph: Graph, opset_imports: Mapping[str, int], bound: Mapping[str, Attribute]
) -> Plan:
    """Parse every node of `graph` (not of its subgraphs) once."""
    steps = [_step(model, node, opset_imports, bound) for node in graph.nodes]
    last: dict[Value, Step] = {}
    for step in steps:
        for value in (*step.node.inputs, *step.node.outputs, *captured(step.node)):
            if value is not None:
                last[value] = step
    kept = set(graph.outputs)
    for value, step in last.items():
        if value not in kept and value.const is None:
            step.drops.append(value)
    return Plan(graph, steps, opset_imports, bound)


def captured(node: Node) -> Iterator[Value]:
    """Every value that nodes inside the subgraphs of `node` read, and that they return."""
    for graph in node.subgraphs():
        yield from graph.outputs
        for inner in graph.all_nodes():
            yield from (value for value in inner.inputs if value is not None)
            for nested in inner.subgraphs():
                yield from nested.outputs


def _step(
    model: Model,
    node: Node,
    opset_imports: Mapping[str, int],
    bound: Mapping[str, Attribute],
) -> Step:
    function = model.function_of(node)
    if function is not None:
        return Step(node, None, None, function, {})
    operator = operator_of(node, opset_imports, bound)
    schema = operator.schema(operator.version)
    return Step(node, operator, schema, None, attribute_values(node, bound))
