"""Graphs within graphs: what is in them, which names they use, what they capture."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from sardonyx.errors import InputError, quote
from sardonyx.ir.model import canonical_domain

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from sardonyx.ir.graph import Graph
    from sardonyx.ir.model import Model
    from sardonyx.ir.node import Node
    from sardonyx.ir.value import Value

__all__ = [
    "Names",
    "all_graphs",
    "captured",
    "closest",
    "defined_in",
    "find_node",
    "find_value",
    "gradient_names",
    "node_names",
    "replace_value",
    "value_names",
]

_TRAINING_DOMAIN = "ai.onnx.preview.training"
_GRADIENT_NAMES = ("xs", "zs", "y")


def all_graphs(graph: Graph) -> Iterator[Graph]:
    """`graph` and all graphs within it, outer before inner."""
    stack = [graph]
    while stack:
        current = stack.pop()
        yield current
        for node in current.nodes:
            stack.extend(node.subgraphs())


def defined_in(graph: Graph) -> Iterator[Value]:
    """The values that `graph` itself defines: inputs, initializers, outputs of nodes."""
    yield from graph.inputs
    inputs = set(graph.inputs)
    yield from (value for value in graph.initializers if value not in inputs)
    for node in graph.nodes:
        yield from node.outputs


def mentioned_in(graph: Graph) -> Iterator[Value]:
    """The values that `graph` itself reads, gives out or describes."""
    for node in graph.nodes:
        yield from (value for value in node.inputs if value is not None)
    yield from graph.outputs
    yield from graph.value_info


def value_names(graph: Graph) -> set[str]:
    """All names of values in `graph` and the graphs within it."""
    names = set()
    for each in all_graphs(graph):
        names.update([value.name for value in defined_in(each)])
        names.update([value.name for value in mentioned_in(each)])
    names.discard("")
    return names


def node_names(graph: Graph) -> set[str]:
    """All names of nodes in `graph` and the graphs within it."""
    return {node.name for node in graph.all_nodes() if node.name}


class Names:
    """Names that are taken, and fresh ones beside them."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self.taken = set(taken)
        self._counts: dict[str, int] = {}

    def fresh(self, wanted: str) -> str:
        """`wanted`, or it with a number where it is taken; the name is taken by this."""
        name = wanted
        while name in self.taken:
            count = self._counts[wanted] = self._counts.get(wanted, 0) + 1
            name = f"{wanted}_{count}"
        self.taken.add(name)
        return name


def gradient_names(node: Node) -> list[str]:
    """The names of values that a Gradient node's attributes hold."""
    if node.op_type != "Gradient" or canonical_domain(node.domain) != _TRAINING_DOMAIN:
        return []
    names: list[str] = []
    for key in _GRADIENT_NAMES:
        value = node.attribute(key)
        names.extend([value] if isinstance(value, str) else value or ())
    return names


def captured(node: Node) -> set[Value]:
    """The values of enclosing graphs that the subgraphs of `node` read or give out."""
    used: set[Value] = set()
    own: set[Value] = set()
    for outer in node.subgraphs():
        for graph in all_graphs(outer):
            own.update(defined_in(graph))
            used.update(graph.outputs)
            for inner in graph.nodes:
                used.update([value for value in inner.inputs if value is not None])
    return used - own


def replace_value(graph: Graph, old: Value, new: Value) -> None:
    """Make all that reads `old`, or gives it out, in `graph` and within, take `new` instead."""
    old.replace_uses(new)
    for each in all_graphs(graph):
        each.outputs[:] = [new if value is old else value for value in each.outputs]


def find_value(model: Model, name: str, what: str = "value") -> Value:
    """The value of the main graph called `name`."""
    known = model.graph.values()
    found = known.get(name)
    if found is None:
        for graph in all_graphs(model.graph):
            if graph.parent is not None and name in graph.values():
                raise InputError(
                    f"{quote(name)} lies within a subgraph",
                    place=graph.parent.label,
                    hint="name a value of the main graph",
                )
        raise InputError(f"the model has no {what} {quote(name)}", hint=closest(name, known))
    return found


def find_node(model: Model, name: str) -> Node:
    """The node called `name`, or else the one that makes the value `name`.

    It may lie in a subgraph of the main graph. Raises `InputError` where there is none, or two.
    """
    nodes = list(model.graph.all_nodes())
    found = [node for node in nodes if node.name == name and name]
    if not found:
        found = [node for node in nodes if any(value.name == name for value in node.outputs)]
    if len(found) > 1:
        raise InputError(
            f"{len(found)} nodes are called {quote(name)}",
            hint="name the node by its output, or give nodes names of their own with rename",
        )
    if not found:
        names = [node.name or node.outputs[0].name for node in nodes if node.name or node.outputs]
        raise InputError(f"the model has no node {quote(name)}", hint=closest(name, names))
    return found[0]


def closest(name: str, known: Iterable[str]) -> str | None:
    """A hint: the name in `known` that is most like `name`."""
    names = [each for each in known if each]
    close = difflib.get_close_matches(name, names[:_MOST_COMPARED], n=1)
    if close:
        return f"did you mean {quote(close[0])}?"
    return f"it has {', '.join(map(quote, names))}" if 0 < len(names) <= _MOST_LISTED else None


_MOST_COMPARED = 5000
_MOST_LISTED = 8
