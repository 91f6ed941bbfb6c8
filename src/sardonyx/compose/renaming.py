"""Giving values, nodes, functions and symbolic dims other names, wherever they are mentioned."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sardonyx import dims as dims_
from sardonyx.compose.copying import copy
from sardonyx.compose.mentions import rename_bindings, rename_mentions
from sardonyx.compose.results import checked
from sardonyx.compose.scopes import all_graphs, closest, defined_in, mentioned_in
from sardonyx.compose.symbols import substitute_symbols, symbols_of
from sardonyx.errors import InputError, quote
from sardonyx.ir.model import canonical_domain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from sardonyx.ir.graph import Graph
    from sardonyx.ir.model import Model
    from sardonyx.ir.value import Value

__all__ = ["prefix", "rename", "rename_functions", "rename_values"]


def rename(
    model: Model,
    values: Mapping[str, str] | None = None,
    *,
    nodes: Mapping[str, str] | None = None,
    functions: Mapping[str, str] | None = None,
    dims: Mapping[str, str] | None = None,
) -> Model:
    """A copy of `model` with other names: each mapping is from old names to new ones.

    `values` are those of the main graph, of the graphs within it and of training graphs, which
    are one namespace; inputs and outputs are among them. `nodes` are renamed in the same
    graphs, `functions` with their calls, `dims` are symbols in the types of values. Quantization
    annotations, shardings, training bindings and Gradient nodes follow. Names may be swapped;
    the bodies of functions are namespaces of their own and stay as they are.

    Raises `InputError` for a name that is unknown, empty, or taken.
    """
    result = copy(model)
    graphs = _shared_graphs(result)
    if values:
        known = {value.name for value in _values(graphs)}
        _check(values, known, "value")
        rename_values(result, lambda name: values.get(name, name))
    if nodes:
        _check(nodes, {node.name for graph in graphs for node in graph.all_nodes()}, "node")
        _rename_nodes(graphs, lambda name: nodes.get(name, name))
    if functions:
        _check(functions, {key[1] for key in result.functions}, "function")
        rename_functions(result, lambda name: functions.get(name, name))
    if dims:
        every = [value for graph in graphs for value in _typed_values(graph)]
        _check(dims, symbols_of(every), "symbolic dimension", may_join=True)
        changes = {old: dims_.symbol(new) for old, new in dims.items()}
        substitute_symbols(every, changes)
    return checked(result, model, types=False)


def prefix(model: Model, text: str, *, keep: Iterable[str] = ()) -> Model:
    """A copy of `model` in which every name begins with `text`, but those of `keep`.

    Names of values, nodes and functions, so that the model can be merged with any other; see
    `rename`. `keep` are names of values. Raises `InputError` where `text` is empty, or a name in
    `keep` unknown or the same as a prefixed one.
    """
    if not text:
        raise InputError("the prefix is empty")
    result = copy(model)
    graphs = _shared_graphs(result)
    known = {value.name for value in _values(graphs)}
    kept = set(keep)
    for name in sorted(kept - known):
        raise InputError(f"the model has no value {quote(name)}", hint=closest(name, known))
    changes = {name: f"{text}{name}" for name in known - kept if name}
    taken = sorted(kept & set(changes.values()))
    if taken:
        raise InputError(f"{quote(taken[0])} is kept, and is another value's name with the prefix")
    rename_values(result, lambda name: changes.get(name, name))
    _rename_nodes(graphs, lambda name: f"{text}{name}")
    rename_functions(result, lambda name: f"{text}{name}")
    return checked(result, model, types=False)


def _shared_graphs(model: Model) -> list[Graph]:
    """The graphs whose values are one namespace: the main graph and those of training."""
    bodies = {id(function.graph) for function in model.functions.values()}
    return [graph for graph in model.graphs() if id(graph) not in bodies]


def _values(graphs: Iterable[Graph]) -> dict[Value, None]:
    """Every value of `graphs` and the graphs within them, once, in order."""
    found: dict[Value, None] = {}
    for top in graphs:
        for graph in all_graphs(top):
            found.update(dict.fromkeys(defined_in(graph)))
            found.update(dict.fromkeys(mentioned_in(graph)))
    return found


def _typed_values(graph: Graph) -> list[Value]:
    return [value for value in _values([graph]) if value.type is not None]


def _check(
    changes: Mapping[str, str], known: Iterable[str], what: str, *, may_join: bool = False
) -> None:
    names = set(known) - {""}
    for old, new in changes.items():
        if old not in names:
            raise InputError(f"the model has no {what} {quote(old)}", hint=closest(old, names))
        if not new:
            raise InputError(f"the new name of {what} {quote(old)} is empty")
        if not may_join and new != old and new in names and new not in changes:
            raise InputError(
                f"{quote(old)} cannot become {quote(new)}: another {what} is called so",
                hint=f"give that one another name too: {new}=…",
            )
    targets = list(changes.values())
    twice = next((name for name in targets if targets.count(name) > 1), None)
    if twice is not None and not may_join:
        raise InputError(f"two {what}s would be called {quote(twice)}")


def rename_values(model: Model, renaming: Callable[[str], str]) -> None:
    """Change names of values in the main graph and the training graphs of `model`."""
    graphs = _shared_graphs(model)
    for value in _values(graphs):
        if value.name:
            value.name = renaming(value.name)
    for graph in graphs:
        rename_mentions(graph, lambda name: renaming(name) if name else name)
    rename_bindings(model, lambda name: renaming(name) if name else name)


def _rename_nodes(graphs: Iterable[Graph], renaming: Callable[[str], str]) -> None:
    for graph in graphs:
        for node in graph.all_nodes():
            if node.name:
                node.name = renaming(node.name)


def rename_functions(model: Model, renaming: Callable[[str], str]) -> None:
    """Change names of functions in `model`, and of the nodes that call them."""
    calls = [(node, model.function_of(node)) for node in model.all_nodes()]
    for node, function in calls:
        if function is not None:
            node.op_type = renaming(function.name)
    renamed = {}
    for function in model.functions.values():
        function.name = renaming(function.name)
        key = (canonical_domain(function.domain), function.name, function.overload)
        if key in renamed:
            raise InputError(f"two functions would be called {quote(function.name)}")
        renamed[key] = function
    model.functions = renamed
