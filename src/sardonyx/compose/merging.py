"""Joining two models into one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeVar

from sardonyx import dims
from sardonyx.compose.cleaning import drop_functions
from sardonyx.compose.copying import copy
from sardonyx.compose.extraction import cut, declare
from sardonyx.compose.opsets import (
    changed_nodes,
    conflict,
    import_version,
    version_of,
)
from sardonyx.compose.renaming import prefix as prefixed
from sardonyx.compose.renaming import rename_values
from sardonyx.compose.results import checked, tidy, typed
from sardonyx.compose.scopes import (
    Names,
    all_graphs,
    closest,
    defined_in,
    find_value,
    node_names,
    replace_value,
    value_names,
)
from sardonyx.compose.symbols import substitute_symbols, symbol_name, symbols_of
from sardonyx.dims import Dim
from sardonyx.errors import InputError, quote
from sardonyx.infer.merge import conflict as type_conflict
from sardonyx.ir.graph import Graph
from sardonyx.ir.model import Model
from sardonyx.ir.node import Node
from sardonyx.ir.types import TensorType
from sardonyx.ir.value import Value
from sardonyx.wire import dumps

if TYPE_CHECKING:
    from collections.abc import Iterable, MutableMapping, Sequence

    from sardonyx.ir.model import Function
    from sardonyx.ir.types import Type

__all__ = ["merge"]

K = TypeVar("K")
V = TypeVar("V")


def merge(
    first: Model,
    second: Model,
    connections: Mapping[str, str] | Iterable[tuple[str, str]] = (),
    *,
    prefixes: tuple[str, str] = ("", ""),
    outputs: Sequence[str] | None = None,
    metadata: Mapping[str, str] | None = None,
) -> Model:
    """One model that runs `first`, then `second` on what `first` gives.

    `connections` are pairs of a value of `first` (an output or any other of its main graph) and
    an input of `second`; one value may feed several inputs. The inputs are those of both that
    are not connected; the outputs are those of `first` that are not connected and those of
    `second`, or what `outputs` lists by the names that they have in the result, and then what
    they do not need is left out.

    With `prefixes`, all names of a model begin with its text (connections are given without).
    Otherwise inputs and outputs of the result keep their names; inner names that both models use
    get a number, and so do symbolic dims of `second` that are not the same by a connection.
    Functions that are the same in both are one.

    Raises:
        InputError: a name is unknown or an interface name taken twice, types or shapes of a
            connection do not fit, or both models have a function, device configuration or
            metadata entry of one name that differ (`metadata` gives entries that win).
        ModelError: the models import different versions of an operator set, and an operator
            differs between the two.
    """
    pairs = list(connections.items() if isinstance(connections, Mapping) else connections)
    left, right = _prepared(first, prefixes[0]), _prepared(second, prefixes[1])
    pairs = [(f"{prefixes[0]}{out}", f"{prefixes[1]}{into}") for out, into in pairs]
    known = typed(copy(left), everywhere=True).graph.values()
    wires = _wires(left, right, pairs, known)
    given = {source: known[source.name].type for source, _ in wires}
    _separate_names(left, right, wires)
    _name_connections(right, wires)
    _check_interface(left, right, {into for _, into in wires})
    _unify_symbols(left, right, wires, given)
    result = _joined(left, right, metadata or {})
    graph = result.graph
    for source, into in wires:
        replace_value(graph, into, source)
        right.graph.inputs.remove(into)
        if into in graph.initializers:
            graph.initializers.remove(into)
    connected = {source for source, _ in wires}
    graph.inputs.extend(right.graph.inputs)
    kept = [value for value in graph.outputs if value not in connected]
    graph.outputs[:] = [*kept, *right.graph.outputs]
    if outputs is not None:
        ends = [find_value(result, name) for name in outputs]
        declare(result, ends)
        cut(graph, None, ends)
        drop_functions(result)
    tidy(graph)
    return checked(result, first, second)


def _prepared(model: Model, text: str) -> Model:
    return prefixed(model, text) if text else copy(model)


def _wires(
    left: Model,
    right: Model,
    pairs: Sequence[tuple[str, str]],
    known: Mapping[str, Value],
) -> list[tuple[Value, Value]]:
    inputs = {value.name: value for value in right.graph.inputs}
    wires = []
    fed: set[str] = set()
    for out, into in pairs:
        source = find_value(left, out, "output")
        target = inputs.get(into)
        if target is None:
            raise InputError(
                f"the second model has no input {quote(into)}", hint=closest(into, inputs)
            )
        if into in fed:
            raise InputError(f"the input {quote(into)} is connected twice")
        fed.add(into)
        difference = type_conflict(target.type, known[source.name].type)
        if difference:
            words = difference.replace("declared", "the input is").replace(
                "inferred", "the output is"
            )
            raise InputError(f"{quote(out)} does not fit the input {quote(into)}: {words}")
        wires.append((source, target))
    return wires


def _separate_names(left: Model, right: Model, wires: Sequence[tuple[Value, Value]]) -> None:
    """Give inner values that are called alike, and nodes of `right`, names of their own."""
    connected = {value for wire in wires for value in wire}
    ours, theirs = _all_names(left), _all_names(right)
    kept = {v.name for v in (*left.graph.inputs, *left.graph.outputs) if v not in connected}
    kept_too = {v.name for v in right.graph.inputs if v not in connected}
    kept_too.update([value.name for value in right.graph.outputs])
    names = Names(ours | theirs)
    inputs = {value.name for value in right.graph.inputs}
    changes = {name: names.fresh(name) for name in sorted((theirs & ours) - kept_too - inputs)}
    rename_values(right, lambda name: changes.get(name, name))
    moved = {name: names.fresh(name) for name in sorted((ours & kept_too) - kept)}
    rename_values(left, lambda name: moved.get(name, name))
    nodes = Names(node_names(left.graph))
    for node in right.graph.all_nodes():
        if node.name:
            node.name = nodes.fresh(node.name)


def _all_names(model: Model) -> set[str]:
    """The names of values of the main graph and the training graphs."""
    names = value_names(model.graph)
    for info in model.training:
        for graph in (info.initialization, info.algorithm):
            names |= set() if graph is None else value_names(graph)
    return names


def _unify_symbols(
    left: Model,
    right: Model,
    wires: Sequence[tuple[Value, Value]],
    given: Mapping[Value, Type | None],
) -> None:
    """Make symbols of `right` what connections say they are, and the others different."""
    changes: dict[str, int | Dim] = {}
    for source, target in wires:
        known, taken = given[source], target.type
        if not isinstance(known, TensorType) or not isinstance(taken, TensorType):
            continue
        for made, wanted in zip(known.shape or (), taken.shape or (), strict=False):
            if made is None or not isinstance(wanted, Dim):
                continue
            name = symbol_name(wanted)
            if name is not None:
                changes.setdefault(name, made)
    theirs = [value for graph in all_graphs(right.graph) for value in defined_in(graph)]
    ours = symbols_of(value for graph in all_graphs(left.graph) for value in defined_in(graph))
    names_of_both = Names(ours | symbols_of(theirs))
    for name in sorted(symbols_of(theirs) & ours - set(changes)):
        changes[name] = dims.symbol(names_of_both.fresh(name))
    substitute_symbols(theirs, changes)


def _joined(left: Model, right: Model, metadata: Mapping[str, str]) -> Model:
    """`left` with all of `right` added to it but its interface."""
    _join_opsets(left, right)
    for key, function in right.functions.items():
        present = left.functions.get(key)
        if present is None:
            left.functions[key] = function
        elif not _is_same_function(present, function):
            raise InputError(
                f"both models have a function {quote(function.name)}, and they differ",
                hint="give one of the models a prefix",
            )
    left.ir_version = max(left.ir_version, right.ir_version)
    _join_entries(left.metadata, right.metadata, metadata, "metadata")
    left.metadata.update(metadata)
    _join_entries(left.graph.metadata, right.graph.metadata, metadata, "metadata of the graphs")
    known = {each.name: each for each in left.configurations}
    theirs = {each.name: each for each in right.configurations}
    _join_entries(known, theirs, {}, "device configurations")
    left.configurations[:] = known.values()
    left.training.extend(right.training)
    left.doc = _together(left.doc, right.doc, "\n\n")
    left.unknown += right.unknown
    if right.source is not None:
        left.source = (left.source, right.source)
    graph, other = left.graph, right.graph
    graph.name = _together(graph.name, other.name, "_")
    graph.doc = _together(graph.doc, other.doc, "\n\n")
    graph.unknown += other.unknown
    graph.initializers.extend(other.initializers)
    graph.value_info.extend(other.value_info)
    graph.quantization.extend(other.quantization)
    for node in list(other.nodes):
        inputs = node.inputs
        other.nodes.remove(node)
        graph.nodes.append(node)
        for position, value in enumerate(inputs):
            node.set_input(position, value)
    return left


def _name_connections(right: Model, wires: Sequence[tuple[Value, Value]]) -> None:
    """Call connected inputs of `right` what `left` calls them."""
    graph = right.graph
    passed: list[tuple[Value, str]] = []
    for _, into in wires:
        if into in graph.outputs:
            through = Value("", into.lazy_type or into.type)
            passed.append((through, into.name))
            graph.nodes.append(Node("Identity", [into], [through]))
            graph.outputs[:] = [through if value is into else value for value in graph.outputs]
            import_version(right.opset_imports, "", version_of(right.opset_imports, "") or 16)
    changes = {into.name: source.name for source, into in wires}
    rename_values(right, lambda name: changes.get(name, name))
    for through, name in passed:
        through.name = name


def _check_interface(left: Model, right: Model, connected: set[Value]) -> None:
    """Refuse interface names of `right` that `left` has."""
    taken = value_names(left.graph)
    for what, values in (("input", right.graph.inputs), ("output", right.graph.outputs)):
        for value in values:
            if value.name in taken and value not in connected:
                raise InputError(
                    f"the {what} {quote(value.name)} of the second model is called like a value "
                    "of the first",
                    hint='give one of the models a prefix: prefixes=("", "second/")',
                )


def _together(one: str, other: str, between: str) -> str:
    return one if one == other else between.join(filter(None, (one, other)))


def _join_entries(
    ours: MutableMapping[K, V], theirs: Mapping[K, V], decided: Mapping[str, str], what: str
) -> None:
    for key, value in theirs.items():
        if ours.setdefault(key, value) != value and key not in decided:
            raise InputError(
                f"the {what} of the two models differ in {quote(key)}",
                hint="say which is right: metadata={...}" if "metadata" in what else None,
            )


def _is_same_function(one: Function, other: Function) -> bool:
    contents = [dumps(Model(Graph(), {}, functions={each.key: each})) for each in (one, other)]
    return contents[0] == contents[1]


def _join_opsets(left: Model, right: Model) -> None:
    for domain, version in right.opset_imports.items():
        present = version_of(left.opset_imports, domain)
        if present is None:
            import_version(left.opset_imports, domain, version)
            continue
        old, new = min(present, version), max(present, version)
        if old == new:
            continue
        older = left if present == old else right
        changed = changed_nodes(_own_nodes(older, domain), domain, old, new)
        if changed:
            newer = left if older is right else right
            if changed_nodes(_own_nodes(newer, domain), domain, new, old):
                raise conflict(domain, new, old, changed[0], _which(older is left))
            new = old
        import_version(left.opset_imports, domain, new)


def _which(is_first: bool) -> str:
    return f"the {'first' if is_first else 'second'} model"


def _own_nodes(model: Model, domain: str) -> list[Node]:
    """The nodes whose version of `domain` is the one that the model imports."""
    nodes = list(model.graph.all_nodes())
    for info in model.training:
        for graph in (info.initialization, info.algorithm):
            nodes.extend(() if graph is None else graph.all_nodes())
    for function in model.functions.values():
        if version_of(function.opset_imports, domain) is None:
            nodes.extend(function.graph.all_nodes())
    return [node for node in nodes if model.function_of(node) is None]
