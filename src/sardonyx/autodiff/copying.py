"""Copies of nodes and graphs, with other values in the place of some."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from sardonyx.ir.graph import Graph
from sardonyx.ir.node import Attribute, AttributeType, Node
from sardonyx.ir.value import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sardonyx.ir.model import Model

__all__ = ["copy_graph", "copy_model", "copy_node"]


def copy_node(
    node: Node,
    mapping: dict[Value, Value],
    *,
    bound: Mapping[str, Attribute] | None = None,
    rename: Callable[[str], str] | None = None,
) -> Node:
    """A copy of `node` that reads what `mapping` gives for its inputs; its outputs are added.

    `bound` are the attributes of a function's call, which take the place of references.
    `rename` gives the outputs, and values inside subgraphs, other names.
    """
    attributes = []
    for attribute in node.attributes.values():
        if attribute.ref and bound is not None:
            given = bound.get(attribute.ref)
            if given is None:
                continue
            copied = Attribute(attribute.name, given.type, given.value, ref=given.ref)
        else:
            copied = Attribute(attribute.name, attribute.type, attribute.value, ref=attribute.ref)
        if copied.type == AttributeType.GRAPH and copied.value is not None:
            copied.value = copy_graph(copied.value, mapping, bound=bound, rename=rename)
        elif copied.type == AttributeType.GRAPHS and copied.value is not None:
            copied.value = tuple(
                copy_graph(graph, mapping, bound=bound, rename=rename) for graph in copied.value
            )
        attributes.append(copied)
    made = Node(
        node.op_type,
        [None if value is None else mapping.get(value, value) for value in node.inputs],
        [_copy_value(value, mapping, rename) for value in node.outputs],
        attributes,
        domain=node.domain,
        name=node.name,
        overload=node.overload,
    )
    made.metadata.update(node.metadata)
    made.doc, made.unknown, made.devices = node.doc, node.unknown, node.devices
    return made


def copy_graph(
    graph: Graph,
    mapping: dict[Value, Value],
    *,
    bound: Mapping[str, Attribute] | None = None,
    rename: Callable[[str], str] | None = None,
) -> Graph:
    """A copy of `graph` and its subgraphs; `mapping` is as for `copy_node`."""
    inputs = [_copy_value(value, mapping, rename) for value in graph.inputs]
    initializers = [
        mapping[value] if value in mapping else _copy_value(value, mapping, rename)
        for value in graph.initializers
    ]
    nodes = [copy_node(node, mapping, bound=bound, rename=rename) for node in graph.nodes]
    outputs = [mapping.get(value, value) for value in graph.outputs]
    made = Graph(graph.name, inputs, outputs, nodes, initializers)
    made.doc, made.unknown = graph.doc, graph.unknown
    made.metadata.update(graph.metadata)
    made.value_info.extend(mapping.get(value, value) for value in graph.value_info)
    made.quantization.extend(graph.quantization)
    return made


def copy_model(model: Model) -> Model:
    """A copy whose graphs can be changed; tensors are shared with `model`."""
    mapping: dict[Value, Value] = {}
    graph = copy_graph(model.graph, mapping)
    functions = {
        key: replace(function, graph=copy_graph(function.graph, {}))
        for key, function in model.functions.items()
    }
    return replace(model, graph=graph, functions=functions)


def _copy_value(
    value: Value, mapping: dict[Value, Value], rename: Callable[[str], str] | None
) -> Value:
    name = rename(value.name) if rename is not None and value.name else value.name
    made = mapping[value] = Value(name, value.lazy_type or value.type, value.const)
    made.doc, made.unknown = value.doc, value.unknown
    if value.has_details:
        made.metadata.update(value.metadata)
    return made
