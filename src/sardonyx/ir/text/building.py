"""Graphs from what was read: each name becomes the value that it means."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sardonyx.ir.graph import Graph
from sardonyx.ir.node import AttributeType, Node
from sardonyx.ir.value import Value

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sardonyx.ir.node import Attribute
    from sardonyx.ir.tensor import SparseTensor, Tensor
    from sardonyx.ir.text.details import Details
    from sardonyx.ir.text.syntax import GraphSyntax, NodeSyntax, ValueSyntax

__all__ = ["apply_details", "build_attribute", "build_graph", "build_node"]

Scope = dict[str, Value]


def build_graph(syntax: GraphSyntax, scopes: tuple[Scope, ...] = ()) -> Graph:
    """The graph that `syntax` describes; `scopes` are the enclosing graphs', innermost first.

    A name means, in this order, the value so called of the graph itself, of an enclosing graph,
    or one that nothing defines.
    """
    scope: Scope = {}
    graph = Graph(syntax.name)
    graph.inputs.extend([_define(item.name, scope) for item in syntax.inputs])
    _describe(graph.inputs, syntax.inputs)
    for item in (*syntax.inputs, *syntax.listed):
        if item.data is not None:
            graph.initializers.append(_initialize(item.data, scope))
    outputs = [[_define(name, scope) for name in node.outputs] for node in syntax.nodes]
    nodes = [
        _make_node(node, made, scope, scopes)
        for node, made in zip(syntax.nodes, outputs, strict=True)
    ]
    graph.nodes.extend(nodes)
    for node, written in zip(nodes, syntax.nodes, strict=True):
        _add_attributes(node, written, (scope, *scopes))
    graph.outputs.extend([_resolve(item.name, scope, scopes) for item in syntax.outputs])
    _describe(graph.outputs, syntax.outputs)
    infos = [item for item in syntax.listed if item.data is None]
    graph.value_info.extend([_resolve(item.name, scope, scopes) for item in infos])
    _describe(graph.value_info, infos)
    details = dict(syntax.details)
    graph.quantization.extend(details.pop("quantization", ()))
    graph.metadata.update(details.pop("metadata", {}))
    apply_details(graph, details)
    return graph


def build_node(syntax: NodeSyntax) -> Node:
    """A node by itself, whose values are its own."""
    scope: Scope = {}
    outputs = [_define(name, scope) for name in syntax.outputs]
    node = _make_node(syntax, outputs, scope, ())
    _add_attributes(node, syntax, (scope,))
    return node


def build_attribute(attribute: Attribute, scopes: tuple[Scope, ...] = ({},)) -> Attribute:
    """`attribute` with its graphs built."""
    if attribute.value is not None:
        if attribute.type == AttributeType.GRAPH:
            attribute.value = build_graph(attribute.value, scopes)
        elif attribute.type == AttributeType.GRAPHS:
            attribute.value = tuple([build_graph(part, scopes) for part in attribute.value])
    return attribute


def apply_details(target: Any, details: Details) -> None:
    """Give `target` what `details` say."""
    for name, value in details.items():
        if name == "metadata":
            target.metadata.update(value)
        else:
            setattr(target, name, value)


def _make_node(
    syntax: NodeSyntax, outputs: list[Value], scope: Scope, scopes: tuple[Scope, ...]
) -> Node:
    node = Node(
        syntax.op_type,
        [_resolve(name, scope, scopes) if name else None for name in syntax.inputs],
        outputs,
        domain=syntax.domain,
        name=syntax.name,
        overload=syntax.overload,
    )
    apply_details(node, syntax.details)
    return node


def _add_attributes(node: Node, syntax: NodeSyntax, scopes: tuple[Scope, ...]) -> None:
    for attribute in syntax.attributes:
        node.attributes[attribute.name] = build_attribute(attribute, scopes)
        for graph in attribute.graphs():
            graph.parent = node


def _define(name: str, scope: Scope) -> Value:
    value = Value(name)
    if name:
        scope.setdefault(name, value)
    return value


def _resolve(name: str, scope: Scope, scopes: tuple[Scope, ...]) -> Value:
    found = scope.get(name)
    if found is not None:
        return found
    for outer in scopes:
        if name in outer:
            return outer[name]
    return _define(name, scope)


def _initialize(data: Tensor | SparseTensor, scope: Scope) -> Value:
    value = scope.get(data.name)
    if value is None or value.const is not None:
        value = _define(data.name, scope)
    value.const = data
    return value


def _describe(values: list[Value], items: Iterable[ValueSyntax]) -> None:
    for value, item in zip(values, items, strict=True):
        if item.type is not None and value._type is None:  # noqa: SLF001
            value.type = item.type
        apply_details(value, item.details)
