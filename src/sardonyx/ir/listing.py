"""What a file lists of a graph: names for the values that need one, values declared apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sardonyx.ir.graph import Graph
    from sardonyx.ir.value import Value

__all__ = ["name_values", "value_infos"]


def name_values(graph: Graph, taken: frozenset[str] = frozenset()) -> frozenset[str]:
    """Name the values that need it; returns the names that are in use, `taken` among them."""
    unnamed = [value for value in (*graph.inputs, *graph.initializers) if not value.name]
    has_subgraphs = False
    for node in graph.nodes:
        for value in node.outputs:
            if not value.name and value.users:
                unnamed += (value,)
        attributes = node._attributes  # noqa: SLF001
        if attributes and not has_subgraphs and isinstance(attributes, dict):
            has_subgraphs = any(True for _ in node.subgraphs())
    unnamed += [value for value in graph.outputs if not value.name]
    if not unnamed and not has_subgraphs:
        return taken
    names = set(taken)
    names.update(graph.values())
    for node in graph.all_nodes() if unnamed else ():
        names.update([value.name for value in (*node.inputs, *node.outputs) if value is not None])
    number = 0
    for value in unnamed:
        while not value.name:
            name = f"value_{number}"
            number += 1
            if name not in names:
                value.name = name
                names.add(name)
    return frozenset(names)


def value_infos(graph: Graph, *, in_function: bool = False) -> list[Value]:
    """The values that the file declares apart: those it did declare, then other typed ones."""
    infos = [
        value
        for value in graph.value_info
        if value.name and (value.producer is None or value.producer.graph is not None)
    ]
    seen = set(map(id, infos))
    if not in_function:
        seen.update(map(id, graph.inputs))
        seen.update(map(id, graph.outputs))
    for node in graph.nodes:
        for value in node.outputs:
            if value._type is None and not (value.doc or value.unknown or value._metadata):  # noqa: SLF001
                continue
            if value.name and id(value) not in seen:
                seen.add(id(value))
                infos.append(value)
    return infos
