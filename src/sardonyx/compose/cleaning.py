"""Clean-ups: what nothing uses, and what is there twice."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from typing import TYPE_CHECKING

from sardonyx.compose.copying import copy
from sardonyx.compose.mentions import rename_mentions
from sardonyx.compose.results import checked, tidy
from sardonyx.compose.scopes import all_graphs, gradient_names, replace_value
from sardonyx.dtypes import STRING
from sardonyx.ir.model import canonical_domain
from sardonyx.ir.tensor import Tensor

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sardonyx.ir.graph import Graph
    from sardonyx.ir.model import FunctionKey, Model
    from sardonyx.ir.node import Node
    from sardonyx.ir.value import Value

__all__ = ["deduplicate", "drop_functions", "drop_unused_nodes", "prune"]


def prune(model: Model) -> Model:
    """A copy of `model` without what none of its outputs needs.

    Nodes, initializers, functions, imports of operator sets, annotations; in subgraphs and
    function bodies too. Inputs stay: they are the model's interface; so does what training
    information refers to.
    """
    result = copy(model)
    kept = training_names(result)
    for graph in result.graphs():
        drop_unused_nodes(graph, kept)
    drop_functions(result)
    _drop_opsets(result)
    for graph in result.graphs():
        tidy(graph)
    return checked(result, model, types=False)


def training_names(model: Model) -> set[str]:
    """The names of the main graph's values that training information may refer to."""
    names: set[str] = set()
    for info in model.training:
        for bindings in (info.initialization_binding, info.update_binding):
            names.update(bindings)
            names.update(bindings.values())
        for graph in (info.initialization, info.algorithm):
            if graph is not None:
                for node in graph.all_nodes():
                    names.update([value.name for value in node.inputs if value is not None])
                names.update([value.name for value in graph.outputs])
    names.discard("")
    return names


def drop_unused_nodes(graph: Graph, kept: Iterable[str] = ()) -> None:
    """Take out of `graph` and the graphs within it nodes and initializers that have no effect.

    Values whose names are in `kept` count as used.
    """
    names = set(kept)
    for node in graph.all_nodes():
        names.update(gradient_names(node))
    given_out = {value for each in all_graphs(graph) for value in each.outputs}

    def is_used(value: Value) -> bool:
        return bool(value.users) or value in given_out or value.name in names

    def visit(current: Graph) -> None:
        for node in reversed(current.nodes):
            if any(is_used(value) for value in node.outputs):
                for inner in node.subgraphs():
                    visit(inner)
            else:
                remove_node(node)

    visit(graph)
    for each in all_graphs(graph):
        inputs = set(each.inputs)
        each.initializers[:] = [
            value for value in each.initializers if value in inputs or is_used(value)
        ]


def remove_node(node: Node) -> None:
    """Take `node` out of its graph, and all that is in its subgraphs out of them."""
    if node.graph is not None:
        node.graph.nodes.remove(node)
    for outer in node.subgraphs():
        for each in list(all_graphs(outer)):
            for inner in each.nodes:
                inner.detach()


def drop_functions(model: Model) -> None:
    """Forget functions that nothing calls any more."""
    called: set[FunctionKey] = set()
    stack = [model.graph]
    for info in model.training:
        stack.extend([graph for graph in (info.initialization, info.algorithm) if graph])
    while stack:
        for node in stack.pop().all_nodes():
            function = model.function_of(node)
            if function is not None and function.key not in called:
                called.add(function.key)
                stack.append(function.graph)
    for key in [key for key in model.functions if key not in called]:
        del model.functions[key]


def _drop_opsets(model: Model) -> None:
    """Forget imports of domains that no node is of; the default domain's stays."""
    used = {canonical_domain(node.domain) for node in model.all_nodes()}
    used.add("")
    for domain in [each for each in model.opset_imports if canonical_domain(each) not in used]:
        del model.opset_imports[domain]
    for function in model.functions.values():
        own = {canonical_domain(node.domain) for node in function.graph.all_nodes()}
        unused = [each for each in function.opset_imports if canonical_domain(each) not in own]
        for domain in unused:
            del function.opset_imports[domain]


def deduplicate(model: Model) -> Model:
    """A copy of `model` in which equal initializers are one.

    Equal are those of one type and shape whose bytes are the same; only initializers that share
    type and shape with another are read. Those stay apart that are inputs or outputs, that
    training updates, or that are sparse. In subgraphs the initializer of an enclosing graph is
    used.
    """
    result = copy(model)
    apart = training_names(result)
    given_out = {value for graph in all_graphs(result.graph) for value in graph.outputs}
    digests: dict[int, object] = {}

    def visit(graph: Graph, outer: list[Value]) -> None:
        inputs = set(graph.inputs)
        free = [
            value
            for value in graph.initializers
            if isinstance(value.const, Tensor)
            and value not in inputs
            and value not in given_out
            and value.name not in apart
        ]
        kept, renamed = _distinct([*outer, *free], graph, digests)
        alive = set(kept)
        gone = {value for value in free if value not in alive}
        graph.initializers[:] = [value for value in graph.initializers if value not in gone]
        for node in graph.nodes:
            for inner in node.subgraphs():
                visit(inner, kept)
        if renamed:
            rename_mentions(graph, lambda name: renamed.get(name, name))

    visit(result.graph, [])
    tidy(result.graph)
    return checked(result, model, types=False)


def _distinct(
    values: list[Value], graph: Graph, digests: dict[int, object]
) -> tuple[list[Value], dict[str, str]]:
    """The first of each group of equal `values`, and the names of the others with its name.

    The others are replaced in `graph`; `digests` remembers what was read, by tensor.
    """
    groups: defaultdict[tuple[object, ...], list[Value]] = defaultdict(list)
    for value in values:
        if isinstance(value.const, Tensor):
            groups[value.const.dtype, value.const.shape].append(value)
    kept, renamed = [], {}
    for group in groups.values():
        first: dict[object, Value] = {}
        for value in group:
            const = value.const
            assert isinstance(const, Tensor)
            if len(group) > 1 and id(const) not in digests:
                digests[id(const)] = _digest(const)
            found = first.setdefault(digests.get(id(const)), value)
            if found is value:
                kept.append(value)
            else:
                replace_value(graph, value, found)
                renamed[value.name] = found.name
    return kept, renamed


def _digest(tensor: Tensor) -> object:
    if tensor.dtype is STRING:
        return tuple(tensor.numpy().reshape(-1).tolist())
    return hashlib.blake2b(tensor.raw()).digest()
