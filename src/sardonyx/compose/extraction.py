"""Cutting a part out of a model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sardonyx.compose.cleaning import drop_functions, remove_node
from sardonyx.compose.copying import copy
from sardonyx.compose.results import checked, tidy, typed
from sardonyx.compose.scopes import (
    Names,
    captured,
    find_value,
    gradient_names,
    replace_value,
    value_names,
)
from sardonyx.errors import InputError, ModelError, quote
from sardonyx.ir.tensor import SparseTensor
from sardonyx.ir.types import SparseTensorType, TensorType
from sardonyx.ir.value import Value

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sardonyx.ir.graph import Graph
    from sardonyx.ir.model import Model
    from sardonyx.ir.node import Node
    from sardonyx.ir.types import Type

__all__ = ["cut", "declare", "extract"]


def extract(
    model: Model,
    inputs: Iterable[str] | None = None,
    outputs: Iterable[str] | None = None,
) -> Model:
    """The part of `model` that computes the values `outputs` from the values `inputs`.

    Both name values of the main graph: inputs, results of nodes, initializers; what is
    extracted takes them in this order. Without `inputs`, those of the model's inputs that are
    needed; without `outputs`, those of the model. A result that becomes an input and is not
    declared gets its inferred type. No weight is read.

    What the part does not use is left out: initializers, functions, annotations, and training
    information, which speaks of the whole model.

    Raises:
        InputError: a name is unknown or given twice, or `outputs` need an input of the model
            that is not among `inputs`.
        ModelError: the type of a value cannot be found out.
    """
    result = copy(model)
    graph = result.graph
    wanted = [value.name for value in graph.outputs] if outputs is None else list(outputs)
    given = None if inputs is None else list(inputs)
    for names in (wanted, given or []):
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise InputError(f"{quote(twice)} is named twice")
    result.training.clear()
    ends = [find_value(result, name) for name in wanted]
    starts = None if given is None else [find_value(result, name) for name in given]
    declare(result, [*ends, *(starts or ())])
    cut(graph, starts, ends)
    drop_functions(result)
    tidy(graph)
    return checked(result, model, types=False)


def declare(model: Model, values: Sequence[Value]) -> None:
    """Give those of `values` that have no element type the one that inference finds."""
    bare = [value for value in values if not _is_known(value.type)]
    if not bare:
        return
    found = typed(copy(model), everywhere=True).graph.values()
    for value in bare:
        inferred = found[value.name].type
        if not _is_known(inferred):
            raise ModelError(
                f"the type of {quote(value.name)} is not known: the file does not declare it, and "
                "it cannot be inferred",
                place=value.producer.label if value.producer else None,
                hint="choose a value whose type the model declares",
            )
        value.type = inferred


def _is_known(known: Type | None) -> bool:
    if isinstance(known, (TensorType, SparseTensorType)):
        return known.dtype is not None
    return known is not None


def cut(graph: Graph, starts: Sequence[Value] | None, ends: Sequence[Value]) -> None:
    """Reduce `graph` to what computes `ends` from `starts`; without `starts`, from its inputs."""
    needed, nodes = _needed(graph, set(starts or ()), ends, closed=starts is not None)
    for node in reversed(graph.nodes):
        if node not in nodes:
            remove_node(node)
    chosen = [value for value in graph.inputs if value in needed] if starts is None else starts
    names = Names(value_names(graph))
    old_inputs = set(graph.inputs)
    inputs = []
    ends = list(ends)
    for value in chosen:
        if value.producer is None:
            if value not in old_inputs:
                _forget_constant(value)
            inputs.append(value)
            continue
        entry = Value(value.name, value.lazy_type or value.type)
        entry.doc = value.doc
        entry.metadata.update(value.metadata)
        replace_value(graph, value, entry)
        ends = [entry if end is value else end for end in ends]
        if value.producer.graph is not None:
            value.name = names.fresh(f"{value.name}_unused")
        inputs.append(entry)
    graph.inputs[:] = inputs
    graph.outputs[:] = ends
    taken = set(inputs)
    graph.initializers[:] = [
        value
        for value in graph.initializers
        if value.const is not None and (value in taken or value in needed)
    ]


def _forget_constant(value: Value) -> None:
    const = value.const
    if isinstance(const, SparseTensor):
        value.type = SparseTensorType(const.values.dtype, const.shape)
    elif const is not None and value.type is None:
        value.type = TensorType(const.dtype, const.shape)
    elif const is not None:
        value.type = value.type
    value.const = None


def _needed(
    graph: Graph, starts: set[Value], ends: Sequence[Value], *, closed: bool
) -> tuple[set[Value], set[Node]]:
    """What `ends` need, `starts` being given: values without a producer, and nodes."""
    inputs = set(graph.inputs)
    by_name: dict[str, Value] | None = None
    values: set[Value] = set()
    nodes: set[Node] = set()
    missing: dict[str, str] = {}
    stack = [(end, end) for end in reversed(ends)]
    while stack:
        value, end = stack.pop()
        if value in values or value in starts:
            continue
        values.add(value)
        node = value.producer
        if node is None:
            if value in inputs and value.const is None and closed:
                missing.setdefault(value.name, end.name)
            continue
        if node in nodes:
            continue
        nodes.add(node)
        read = [each for each in node.inputs if each is not None]
        read.extend(captured(node))
        names = [name for each in _with_inner(node) for name in gradient_names(each)]
        if names:
            by_name = by_name or graph.values()
            read.extend([by_name[name] for name in names if name in by_name])
        stack.extend([(each, end) for each in read])
    if missing:
        raise InputError(
            "; ".join(
                f"{quote(end)} needs the input {quote(name)}, which is not given"
                for name, end in missing.items()
            ),
            hint="add it to the inputs, or cut behind it",
        )
    return values, nodes


def _with_inner(node: Node) -> list[Node]:
    return [node, *(inner for graph in node.subgraphs() for inner in graph.all_nodes())]
