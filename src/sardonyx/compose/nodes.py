"""Editing nodes: replace, insert, remove, and give out what lies between."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sardonyx.compose.cleaning import drop_functions, remove_node
from sardonyx.compose.copying import copy
from sardonyx.compose.extraction import declare
from sardonyx.compose.mentions import rename_mentions
from sardonyx.compose.opsets import version_of
from sardonyx.compose.results import checked, tidy, typed
from sardonyx.compose.scopes import (
    Names,
    all_graphs,
    find_node,
    find_value,
    node_names,
    replace_value,
    value_names,
)
from sardonyx.errors import InputError, SardonyxError, quote
from sardonyx.ir.builder import Builder
from sardonyx.ir.node import Node
from sardonyx.ir.value import Value
from sardonyx.ops import registry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from sardonyx.ir.builder import AttributeTyper, Operand
    from sardonyx.ir.graph import Graph
    from sardonyx.ir.model import Model
    from sardonyx.ir.node import AttributeType

    Write = Callable[..., Value | tuple[Value | None, ...]]

__all__ = ["add_outputs", "builder", "insert", "remove", "replace"]


def replace(model: Model, node: str, write: Write) -> Model:
    """A copy of `model` in which what `write` writes takes the place of one node.

    `node` is its name, or that of a value it makes. `write(op, *inputs)` gets a builder and the
    node's inputs (None: omitted), and gives the value, or the tuple of values, for the node's
    outputs (None for one that nothing uses)::

        replace(model, "act", lambda op, x: op.Mul(x, op.Sigmoid(x)))

    Names of values that the node made stay. Raises `InputError` where there is no such node or
    `write` gives too few values, `CheckError` or `InferenceError` where the result does not fit.
    """
    result = copy(model)
    old = find_node(result, node)
    graph = _graph_of(old)
    present = set(graph.nodes)
    op = builder(result, graph)
    with op.at(old):
        made = _as_values(write(op, *old.inputs))
    if len(made) < len(old.outputs):
        raise InputError(
            f"{len(made)} values are given for {len(old.outputs)} outputs", place=old.label
        )
    for value, new in zip(old.outputs, made, strict=False):
        _take_place(result, old, value, new, present)
    return _without(result, old, model)


def insert(model: Model, value: str, write: Write, *, only: Iterable[str] | None = None) -> Model:
    """A copy of `model` in which what `write` makes of `value` is read in its place.

    `write(op, value)` gets a builder and the value, and gives the new one::

        insert(model, "logits", lambda op, x: op.Softmax(x, axis=-1))

    All that read the value read the new one, or only the nodes `only` (by name). Where `value`
    is an output of the model, the output keeps its name and is the new value; what was computed
    before gets another name. Raises `InputError` for unknown names, `CheckError` or
    `InferenceError` where the result does not fit.
    """
    result = copy(model)
    graph = result.graph
    old = find_value(result, value)
    users = list(old.users)
    chosen = users if only is None else [find_node(result, name) for name in only]
    op = builder(result, graph)
    with op.at(_after(graph, old)):
        (new,) = _as_values(write(op, old))
    if new is None or new is old:
        raise InputError(f"nothing new is made of {quote(value)}")
    for user in chosen:
        if old not in user.inputs:
            raise InputError(f"the node does not read {quote(value)}", place=user.label)
        for position, read in enumerate(user.inputs):
            if read is old:
                user.set_input(position, new)
    if only is None:
        given_out = old in graph.outputs
        for each in all_graphs(graph):
            each.outputs[:] = [new if out is old else out for out in each.outputs]
        if given_out:
            _exchange_names(graph, old, new)
    return checked(typed(result), model)


def _exchange_names(graph: Graph, old: Value, new: Value) -> None:
    """Let `new`, which is given out in place of `old`, have its name."""
    if old.producer is None:
        raise InputError(
            f"{quote(old.name)} is an output, and also an input or initializer, whose name stays",
            hint="name with only= the nodes that shall read what is inserted",
        )
    new.name, old.name = old.name, Names(value_names(graph)).fresh(f"{old.name}_before")
    new.type = old.type


def remove(model: Model, node: str, *, instead: str | None = None) -> Model:
    """A copy of `model` without one node: what read its output reads `instead`.

    `node` is its name, or that of a value it makes; `instead` a value, by default the node's
    first input. A node whose outputs nothing uses needs none. The name of an output of the
    model stays: the value before gets it, or where that has a name that must stay too, an
    Identity makes it. Raises `InputError` for unknown names and nodes with several outputs in
    use, `CheckError` or `InferenceError` where types no longer fit.
    """
    result = copy(model)
    old = find_node(result, node)
    graph = _graph_of(old)
    given_out = {value for each in all_graphs(result.graph) for value in each.outputs}
    used = [value for value in old.outputs if value.users or value in given_out]
    if len(used) > 1:
        listed = ", ".join(quote(value.name) for value in used)
        raise InputError(
            f"several outputs of the node are in use: {listed}",
            place=old.label,
            hint="replace the node, and say what each becomes",
        )
    if used:
        _take_place(result, old, used[0], _instead(result, old, instead), set(graph.nodes))
    return _without(result, old, model)


def _without(result: Model, node: Node, original: Model) -> Model:
    """`result` once nothing reads `node` any more: without it and what only it needed."""
    remove_node(node)
    drop_functions(result)
    _drop_unused_initializers(result, original)
    tidy(result.graph)
    return checked(typed(result), original)


def _instead(model: Model, node: Node, name: str | None) -> Value:
    if name is not None:
        return find_value(model, name)
    first = next((value for value in node.inputs if value is not None), None)
    if first is None:
        raise InputError(
            "the node has no input that could take its place",
            place=node.label,
            hint="say which value to read instead",
        )
    return first


def add_outputs(model: Model, names: Iterable[str]) -> Model:
    """A copy of `model` that gives out the values `names` of its main graph too.

    They follow the outputs that there are; one that is an output already stays where it is.
    Types that are not declared are inferred. Raises `InputError` for unknown names, `ModelError`
    where a type cannot be inferred.
    """
    result = copy(model)
    wanted = [find_value(result, name) for name in dict.fromkeys(names)]
    new = [value for value in wanted if value not in result.graph.outputs]
    declare(result, new)
    result.graph.outputs.extend(new)
    return checked(result, model, types=False)


def builder(model: Model, graph: Graph) -> Builder:
    """A builder of nodes in `graph` that knows the model's operators, and names used elsewhere."""
    return _Builder(model, graph)


class _Builder(Builder):
    def __init__(self, model: Model, graph: Graph) -> None:
        imports = dict(model.opset_imports)
        super().__init__(graph, opset_imports=imports, attribute_type=_attribute_typer(imports))
        for name in value_names(model.graph) - set(graph.values()):
            self.claim(name)
        self._nodes = Names(node_names(model.graph))

    def apply(self, op_type: str, inputs: Sequence[Operand], **keywords: Any) -> Any:
        if keywords.get("_name") is None:
            keywords["_name"] = self._nodes.fresh(op_type)
        return super().apply(op_type, inputs, **keywords)


def _attribute_typer(imports: dict[str, int]) -> AttributeTyper:
    def attribute_type(domain: str, op_type: str, name: str) -> AttributeType | None:
        try:
            schema = registry.get(domain, op_type).schema(version_of(imports, domain) or 1)
        except SardonyxError:
            return None
        spec = schema.attributes.get(name)
        return None if spec is None else spec.type

    return attribute_type


def _graph_of(node: Node) -> Graph:
    assert node.graph is not None
    return node.graph


def _after(graph: Graph, value: Value) -> Node | None:
    """The node before which something that reads `value` may stand: the one after its maker."""
    found = value.producer is None
    for node in graph.nodes:
        if found:
            return node
        found = node is value.producer
    return None


def _as_values(made: Any) -> tuple[Value | None, ...]:
    values = made if isinstance(made, (tuple, list)) else (made,)
    for value in values:
        if value is not None and not isinstance(value, Value):
            raise InputError(
                f"a value is expected from the function that writes nodes, not "
                f"{type(value).__name__}",
                hint="return what op.Operator(...) gave",
            )
    return tuple(values)


def _take_place(
    model: Model, node: Node, old: Value, new: Value | None, present: set[Node]
) -> None:
    """Let `new` be read and given out in place of `old`, which `node` makes.

    It gets the name of `old` where that is an output's, or where it is not made by one of the
    nodes that were `present` before.
    """
    graph = _graph_of(node)
    is_output = any(value is old for value in graph.outputs)
    if new is None:
        if is_output or old.users:
            raise InputError(
                f"{quote(old.name)} is in use, and nothing replaces it", place=node.label
            )
        return
    if is_output and not _may_be_renamed(graph, new):
        through = Value()
        name = Names(node_names(model.graph)).fresh(f"{old.name}/Identity")
        graph.nodes.insert_before(node, Node("Identity", [new], [through], name=name))
        new = through
    replace_value(model.graph, old, new)
    if is_output:
        new.type = old.type
    if old.name and (is_output or (new.producer and new.producer not in present)):
        before, new.name = new.name, old.name
        old.name = ""
        rename_mentions(model.graph, lambda name: new.name if name == before and name else name)


def _may_be_renamed(graph: Graph, value: Value) -> bool:
    is_output = any(value is out for out in graph.outputs)
    return value.producer is not None and value.producer.graph is graph and not is_output


def _drop_unused_initializers(result: Model, original: Model) -> None:
    """Forget initializers that have lost their last user."""
    unused = {value.name for value in original.graph.initializers if not value.users}
    given_out = {value for graph in all_graphs(result.graph) for value in graph.outputs}
    for graph in all_graphs(result.graph):
        inputs = set(graph.inputs)
        graph.initializers[:] = [
            value
            for value in graph.initializers
            if value.users or value in inputs or value in given_out or value.name in unused
        ]
