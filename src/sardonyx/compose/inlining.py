"""Putting the bodies of model-local functions in place of their calls."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from sardonyx.compose.cleaning import remove_node
from sardonyx.compose.copying import Copier, copy
from sardonyx.compose.mentions import rename_mentions, rename_node_mentions
from sardonyx.compose.opsets import adopt, import_version, version_of
from sardonyx.compose.results import checked, tidy
from sardonyx.compose.scopes import (
    Names,
    all_graphs,
    closest,
    defined_in,
    node_names,
    value_names,
)
from sardonyx.dims import Dim
from sardonyx.errors import InputError, ModelError, SardonyxError, quote
from sardonyx.ir.devices import NodeDeviceConfiguration
from sardonyx.ir.model import canonical_domain
from sardonyx.ir.node import Attribute, Node
from sardonyx.ir.types import OptionalType, SequenceType, SparseTensorType, TensorType
from sardonyx.limits import DEFAULT, Limits, exceeded

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence

    from sardonyx.ir.graph import Graph
    from sardonyx.ir.model import Function, FunctionKey, Model
    from sardonyx.ir.types import Type
    from sardonyx.ir.value import Value

__all__ = ["inline"]

_IDENTITY_OPSET = 16


def inline(
    model: Model,
    functions: Iterable[str | Sequence[str]] | None = None,
    *,
    limits: Limits = DEFAULT,
) -> Model:
    """A copy of `model` in which calls of local functions are replaced by their bodies.

    `functions` are the ones to inline, each as its name (in any domain, any overload), as
    ``(domain, name)`` or as ``(domain, name, overload)``; by default all. Calls within
    subgraphs, training graphs and the bodies of other functions are replaced too, and the
    functions dropped. Values of a body get names that begin with the call's; an attribute of
    the call, or the function's default, takes the place of each reference to it, also within
    subgraphs. Metadata of the call is added to that of the body's nodes.

    Raises:
        InputError: there is no such function.
        ModelError: functions call each other in a cycle, or a body needs another version of an
            operator set than the model imports and an operator differs between the two.
        LimitError: more nodes than `limits` allow.
    """
    result = copy(model)
    chosen = _chosen(result, functions)
    if not chosen:
        return result
    inliner = _Inliner(result, chosen, limits)
    for function in _callees_first(result, chosen):
        inliner.expand(function.graph, function.opset_imports, result.opset_imports)
    for key, function in result.functions.items():
        if key not in chosen:
            inliner.expand(function.graph, function.opset_imports, result.opset_imports)
    for graph in result.graphs():
        if not any(graph is function.graph for function in result.functions.values()):
            inliner.expand(graph, result.opset_imports, {})
    for key in chosen:
        del result.functions[key]
    _drop_domains(result, {key[0] for key in chosen})
    return checked(result, model, types=False)


def _chosen(
    model: Model, functions: Iterable[str | Sequence[str]] | None
) -> dict[FunctionKey, Function]:
    if functions is None:
        return dict(model.functions)
    chosen: dict[FunctionKey, Function] = {}
    for wanted in [functions] if isinstance(functions, str) else functions:
        if isinstance(wanted, str):
            found = [key for key in model.functions if key[1] == wanted]
        else:
            start = (canonical_domain(wanted[0]), *wanted[1:])
            found = [key for key in model.functions if key[: len(start)] == start]
        if not found:
            shown = wanted if isinstance(wanted, str) else ":".join(wanted)
            names = [key[1] for key in model.functions]
            raise InputError(
                f"the model has no function {quote(shown)}",
                hint=closest(shown, names) or "it has none at all",
            )
        chosen.update({key: model.functions[key] for key in found})
    return chosen


def _callees_first(model: Model, chosen: Mapping[FunctionKey, Function]) -> list[Function]:
    order: list[Function] = []
    done: dict[FunctionKey, bool] = {}
    for start in chosen.values():
        if start.key in done:
            continue
        done[start.key] = False
        stack = [(start, iter(list(start.graph.all_nodes())))]
        while stack:
            function, nodes = stack[-1]
            called = next(
                (each for node in nodes if (each := model.function_of(node)) is not None), None
            )
            if called is None:
                done[function.key] = True
                order.append(function)
                stack.pop()
            elif called.key not in chosen:
                continue
            elif called.key not in done:
                done[called.key] = False
                stack.append((called, iter(list(called.graph.all_nodes()))))
            elif not done[called.key]:
                names = [entry.name for entry, _ in stack]
                cycle = [*names[names.index(called.name) :], called.name]
                raise ModelError("functions call each other: " + " -> ".join(map(quote, cycle)))
    return order


def _drop_domains(model: Model, domains: set[str]) -> None:
    """Forget imports of `domains` that neither a node nor a function is of any more."""
    used = {canonical_domain(node.domain) for node in model.all_nodes()}
    used.update([key[0] for key in model.functions])
    imports = [model.opset_imports, *(each.opset_imports for each in model.functions.values())]
    for each in imports:
        for domain in [name for name in each if canonical_domain(name) in domains - used - {""}]:
            del each[domain]


class _Inliner:
    def __init__(
        self, model: Model, chosen: Mapping[FunctionKey, Function], limits: Limits
    ) -> None:
        self._model = model
        self._chosen = chosen
        self._limits = limits
        self._count = 0

    def expand(
        self, graph: Graph, imports: MutableMapping[str, int], inherited: Mapping[str, int]
    ) -> None:
        """Inline all calls in `graph` and the graphs within it.

        `imports` are the operator sets under which `graph` stands, extended as needed;
        `inherited` those that hold where it has no import of its own.
        """
        values: Names | None = None
        nodes = Names()
        pending = list(all_graphs(graph))
        while pending:
            each = pending.pop()
            for node in each.nodes:
                function = self._chosen.get(
                    (canonical_domain(node.domain), node.op_type, node.overload)
                )
                if function is None:
                    continue
                if values is None:
                    values = self._value_names(graph)
                    nodes = Names(node_names(graph))
                call = _Call(each, node, function, values, nodes)
                try:
                    self._adopt(function, imports, inherited)
                    made = call.replace()
                except SardonyxError as error:
                    raise error.at(node.label) from error.__cause__
                if call.used_identity and version_of({**inherited, **imports}, "") is None:
                    import_version(imports, "", _IDENTITY_OPSET)
                if any(True for _ in node.subgraphs()):
                    inner = [part for new in made for part in new.subgraphs()]
                    pending.extend([part for top in inner for part in all_graphs(top)])
                self._count += sum(1 for new in made for _ in _with_inner(new))
                if self._count > self._limits.nodes:
                    raise exceeded("nodes", self._limits.nodes, f"more than {self._count - 1}")
        if values is not None:
            tidy(graph)

    def _value_names(self, graph: Graph) -> Names:
        """The names that are taken: all graphs of the model but functions are one namespace."""
        names = Names(value_names(graph))
        if all(function.graph is not graph for function in self._model.functions.values()):
            names.taken |= value_names(self._model.graph)
            for info in self._model.training:
                for each in (info.initialization, info.algorithm):
                    names.taken |= set() if each is None else value_names(each)
        return names

    def _adopt(
        self, function: Function, imports: MutableMapping[str, int], inherited: Mapping[str, int]
    ) -> None:
        local = self._model.functions
        nodes = [
            node
            for node in function.graph.all_nodes()
            if (canonical_domain(node.domain), node.op_type, node.overload) not in local
        ]
        own = {**self._model.opset_imports, **function.opset_imports}
        place = f"function {quote(function.name)}"
        if not inherited:
            adopt(imports, nodes, own, place)
            return
        effective = {**inherited, **imports}
        before = dict(effective)
        adopt(effective, nodes, own, place)
        for domain, version in effective.items():
            if domain not in before:
                imports[domain] = version


class _Call:
    """One call, to be replaced by the function's body."""

    def __init__(
        self, graph: Graph, node: Node, function: Function, values: Names, nodes: Names
    ) -> None:
        self._graph = graph
        self._node = node
        self._function = function
        self._values = values
        self._nodes = nodes
        self._label = node.name or function.name
        self._bound = {**function.defaults, **node.attributes}
        self._renamed: dict[str, str] = {}
        self.used_identity = False

    def replace(self) -> list[Node]:
        """Put the body in place of the call; returns its nodes."""
        node, body = self._node, self._function.graph
        if len(node.inputs) > len(body.inputs) or len(node.outputs) > len(body.outputs):
            raise ModelError(
                f"the call has {len(node.inputs)} inputs and {len(node.outputs)} outputs, the "
                f"function {len(body.inputs)} and {len(body.outputs)}"
            )
        mapping: dict[Value, Value | None] = dict.fromkeys(body.inputs)
        mapping.update(zip(body.inputs, node.inputs, strict=False))
        passed: list[tuple[Value, Value]] = []
        for given, made in zip(body.outputs, node.outputs, strict=False):
            if given in mapping or given.producer is None:
                passed.append((given, made))
            elif made.name:
                mapping[given] = made
        copier = Copier(mapping, keep_free=True)
        for inner in body.nodes:
            for value in inner.outputs:
                copier.define(value)
        for value in body.initializers:
            self._graph.initializers.append(copier.define(value))
        copies = [copier.node(inner) for inner in body.nodes]
        self._settle(copier, set(node.outputs))
        for made_node in copies:
            self._adapt(made_node)
            self._graph.nodes.insert_before(node, made_node)
        for given, made in passed:
            self._pass(copier.read(given), made)
        remove_node(node)
        return copies

    def _settle(self, copier: Copier, outputs: set[Value]) -> None:
        """Give the copied values names of their own, and types that hold here."""
        inputs = set(self._function.graph.inputs)
        for old, new in copier.values.items():
            if new is None:
                continue
            if old not in inputs and new not in outputs:
                _forget_symbols(new)
                if new.name:
                    new.name = self._values.fresh(f"{self._label}/{old.name}")
            if old.name:
                self._renamed[old.name] = new.name

    def _adapt(self, node: Node) -> None:
        """Resolve references to attributes, and names that stand as text, in a copied node."""
        for each in list(_with_inner(node)):
            self._resolve(each)
            if each.name:
                each.name = self._nodes.fresh(f"{self._label}/{each.name}")
            for key, text in self._node.metadata.items():
                each.metadata.setdefault(key, text)
            if not each.devices:
                each.devices = tuple(
                    [
                        NodeDeviceConfiguration(
                            device.configuration_id, pipeline_stage=device.pipeline_stage
                        )
                        for device in self._node.devices
                        if device.pipeline_stage is not None
                    ]
                )
        renaming = self._renamed
        rename_node_mentions(node, lambda name: renaming.get(name, name))
        for graph in node.subgraphs():
            rename_mentions(graph, lambda name: renaming.get(name, name))

    def _resolve(self, node: Node) -> None:
        for name, attribute in list(node.attributes.items()):
            if not attribute.ref:
                continue
            given = self._bound.get(attribute.ref)
            if given is None:
                del node.attributes[name]
                continue
            copier = Copier(keep_free=True)
            made = copier.attribute(given)
            node.attributes[name] = replaced = Attribute(
                name, given.type, made.value, ref=given.ref
            )
            replaced.doc = attribute.doc
            for graph in replaced.graphs():
                graph.parent = node
                self._rename_all(graph)

    def _rename_all(self, graph: Graph) -> None:
        renamed: dict[str, str] = {}
        for each in all_graphs(graph):
            for value in defined_in(each):
                if value.name:
                    name = self._values.fresh(value.name)
                    value.name = renamed.setdefault(value.name, name)
        rename_mentions(graph, lambda name: renamed.get(name, name))

    def _pass(self, given: Value | None, made: Value) -> None:
        """Let `made` be what `given` is: an input of the call, or one of its other outputs."""
        if not made.name and not made.users:
            return
        if given is None:
            for user in list(made.users):
                for position, value in enumerate(user.inputs):
                    if value is made:
                        user.set_input(position, None)
            if any(value is made for each in all_graphs(self._graph) for value in each.outputs):
                raise ModelError(
                    f"{quote(made.name)} is given out, and is an input that the call leaves out"
                )
            return
        self.used_identity = True
        name = self._nodes.fresh(f"{self._label}/Identity")
        self._graph.nodes.insert_before(self._node, Node("Identity", [given], [made], name=name))


def _with_inner(node: Node) -> Iterator[Node]:
    yield node
    for graph in node.subgraphs():
        yield from graph.all_nodes()


def _forget_symbols(value: Value) -> None:
    """Drop what the declared type says by symbols of the function: they mean nothing outside."""
    known = value.type
    if known is not None and value.const is None:
        plain = _without_symbols(known)
        if plain != known:
            value.type = plain


def _without_symbols(known: Type) -> Type:
    if isinstance(known, (TensorType, SparseTensorType)) and known.shape is not None:
        shape = tuple([None if isinstance(dim, Dim) else dim for dim in known.shape])
        return replace(known, shape=shape)
    if isinstance(known, (SequenceType, OptionalType)):
        return replace(known, element=_without_symbols(known.element))
    return known
