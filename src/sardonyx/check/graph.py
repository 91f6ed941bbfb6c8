"""The rules of graphs: names, single assignment, order, what enters and leaves."""

from __future__ import annotations

from collections import Counter
from difflib import get_close_matches
from typing import TYPE_CHECKING

from sardonyx.check.context import shorten
from sardonyx.check.devices import check_node_devices
from sardonyx.check.gradient import check_gradient
from sardonyx.check.nodes import NodeChecker
from sardonyx.check.tensors import check_constant
from sardonyx.errors import SardonyxError, quote
from sardonyx.ir.types import OptionalType, SequenceType, SparseTensorType, TensorType

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sardonyx.check.context import Calls, Context
    from sardonyx.ir.graph import Graph
    from sardonyx.ir.model import Function
    from sardonyx.ir.node import Node
    from sardonyx.ir.types import Type
    from sardonyx.ir.value import Value

__all__ = ["Scope", "check_graph"]

_MOST_COMPARED = 1000
_LONGEST_COMPARED = 100


class Scope:
    """The values that a graph may read so far; `outer` is the scope of the graph around it.

    A value that has no name yet is known by itself.
    """

    __slots__ = ("graph", "later", "outer", "values")

    def __init__(self, graph: Graph, outer: Scope | None = None) -> None:
        self.graph = graph
        self.outer = outer
        self.values: dict[str | Value, Value] = {}
        self.later: set[str] | None = None

    def find(self, key: str | Value) -> Value | None:
        """What `key` means here or further out."""
        scope: Scope | None = self
        while scope is not None:
            found = scope.values.get(key)
            if found is not None:
                return found
            scope = scope.outer
        return None

    def defines_later(self, name: str) -> bool:
        """Whether a node of this graph or of one around it has an output `name`."""
        scope: Scope | None = self
        while scope is not None:
            if scope.later is None:
                outputs = (value for node in scope.graph.nodes for value in node.outputs)
                scope.later = {value.name for value in outputs if value.name}
            if name in scope.later:
                return True
            scope = scope.outer
        return False

    def similar(self, name: str) -> str | None:
        """A hint that names what resembles `name`."""
        if len(self.values) > _MOST_COMPARED or len(name) > _LONGEST_COMPARED:
            return None
        names = (key for key in self.values if isinstance(key, str))
        known = [key for key in names if len(key) <= _LONGEST_COMPARED]
        close = get_close_matches(name, known, 1)
        return f"did you mean {quote(close[0])}?" if close else None


def check_graph(
    graph: Graph,
    context: Context,
    opset_imports: Mapping[str, int],
    calls: Calls,
    *,
    outer: Scope | None = None,
    function: Function | None = None,
    is_main: bool = False,
    by_name: bool = False,
) -> Scope | None:
    """Report what is wrong in `graph` and its subgraphs.

    `outer` lends its values, with `by_name` to whatever has their names. Returns what the
    graph defines, or None where it cannot be read.
    """
    checker = _GraphChecker(context, opset_imports, calls, function, by_name=by_name)
    return checker.check(graph, outer, is_main=is_main, is_inner=False)


class _GraphChecker:
    def __init__(
        self,
        context: Context,
        opset_imports: Mapping[str, int],
        calls: Calls,
        function: Function | None,
        *,
        by_name: bool,
    ) -> None:
        self.context = context
        self.report = context.report
        self.by_name = by_name
        self.calls = calls
        self.nodes = NodeChecker(context, opset_imports, function)
        self.function = function
        self.depth = 0

    def check(
        self, graph: Graph, outer: Scope | None, *, is_main: bool, is_inner: bool
    ) -> Scope | None:
        context = self.context
        self.depth += 1
        if self.depth > context.limits.depth:
            bound = f"graphs nest deeper than {context.limits.depth}"
            self.report.error("limit", bound, context.at(graph=graph))
            self.depth -= 1
            return None
        if not context.can_read(graph):
            self.depth -= 1
            return None
        if is_main:
            self._check_interface(graph)
        if self.function is None and not graph.name:
            context.unnamed(graph)
        scope = Scope(graph, outer)
        self._check_entries(graph, scope, is_inner=is_inner)
        self._check_names(graph)
        for node in graph.nodes:
            self._check_node(node, scope)
        self._check_outputs(graph, scope, is_inner=is_inner)
        self._check_declared(graph, scope)
        self._check_unused(graph)
        self.depth -= 1
        return scope

    def _check_node(self, node: Node, scope: Scope) -> None:
        context = self.context
        self.calls.nodes += 1
        for value in node.inputs:
            if value is not None:
                self._check_read(value, node, scope)
        try:
            attributes = node.attributes
        except SardonyxError as error:
            self.report.unreadable(error.at(node.label), context.path(node.graph))
            context.unreadable.add(scope.graph)
        else:
            called = self.nodes.check(node)
            if called is not None:
                self.calls.functions[called] += 1
            for attribute in attributes.values():
                for inner in attribute.graphs():
                    self.check(inner, scope, is_main=False, is_inner=True)
            check_gradient(node, scope, context)
        if node.devices:
            check_node_devices(node, context)
        for value in node.outputs:
            key = value.name or value
            if key in scope.values or (scope.outer and scope.outer.find(key) is not None):
                message = f"{quote(value.name)} is defined twice"
                self.report.error("duplicate-name", message, context.at(node, value=value.name))
            scope.values.setdefault(key, value)

    def _check_read(self, value: Value, node: Node, scope: Scope) -> None:
        found = scope.values.get(value.name or value) or scope.find(value.name or value)
        if found is value or (self.by_name and found is not None and value.producer is None):
            return
        place = self.context.at(node, value=value.name)
        if found is not None:
            self.report.error(
                "duplicate-name",
                f"two values are called {quote(value.name)}, and the node reads the one that is "
                "not defined here",
                place,
            )
        elif value.name and scope.defines_later(value.name):
            message = f"{quote(value.name)} is read before it is computed"
            self.report.error("order", message, place)
        elif value.name:
            hint = scope.similar(value.name) if self.context.may_suggest() else None
            message = f"nothing defines {quote(value.name)}"
            self.report.error("undefined-name", message, place, hint)
        else:
            message = "a value that the node reads has no name and is computed by none before it"
            self.report.error("undefined-name", message, place)

    def _check_interface(self, graph: Graph) -> None:
        context, report = self.context, self.report
        for what, values in (("input", graph.inputs), ("output", graph.outputs)):
            for value in values:
                place = context.at(graph=graph, value=value.name)
                known = context.type_of(value)
                missing = _missing(known)
                if missing:
                    message = f"{what} {quote(value.name)} has no {missing}"
                    report.error("missing-type", message, place)
                elif isinstance(known, (TensorType, SparseTensorType)) and known.shape is None:
                    message = f"{what} {quote(value.name)} has no shape, not even a rank"
                    report.warn("missing-shape", message, place)
        seen: set[Value] = set()
        twice: set[Value] = set()
        for value in graph.outputs:
            if value in seen and value not in twice:
                twice.add(value)
                message = f"output {quote(value.name)} is listed twice"
                report.error(
                    "duplicate-name",
                    message,
                    context.at(graph=graph, value=value.name),
                    "list it once, or return an Identity of it under another name",
                )
            seen.add(value)

    def _check_entries(self, graph: Graph, scope: Scope, *, is_inner: bool) -> None:
        context, report = self.context, self.report
        inputs: set[Value] = set()
        for what, values in (("input", graph.inputs), ("initializer", graph.initializers)):
            listed: set[str | Value] = set()
            for value in values:
                key = value.name or value
                found = scope.values.get(key)
                if not value.name and (what == "input" or not value.users):
                    message = f"an {what} has no name"
                    report.error("missing-name", message, context.at(graph=graph))
                elif key in listed or (found is not None and found is not value):
                    message = f"{what} {quote(value.name)} is defined twice"
                    place = context.at(graph=graph, value=value.name)
                    report.error("duplicate-name", message, place)
                elif is_inner and value.name and value not in inputs:
                    self._check_shadow(value, what, scope)
                listed.add(key)
                scope.values.setdefault(key, value)
                if what == "initializer":
                    check_constant(value, graph, context, is_input=value in inputs)
            if what == "input":
                inputs.update(values)
                self._check_types(graph, values)
        self._check_old_initializers(graph, inputs)

    def _check_shadow(self, value: Value, what: str, scope: Scope) -> None:
        if scope.outer is not None and scope.outer.find(value.name) is not None:
            message = f"{what} {quote(value.name)} hides a value of a graph around this one"
            place = self.context.at(graph=scope.graph, value=value.name)
            self.report.warn("shadowed-name", message, place)

    def _check_old_initializers(self, graph: Graph, inputs: set[Value]) -> None:
        if not 0 < self.context.model.ir_version < 4:
            return
        found = [value.name for value in graph.initializers if value not in inputs]
        if found:
            many = len(found) > 1
            self.report.error(
                "ir-feature",
                f"initializer{'s' * many} {shorten(found)} {'are' if many else 'is'} not among "
                f"the inputs, as IR version {self.context.model.ir_version} wants",
                self.context.at(graph=graph),
                "raise ir_version to 4, or list the inputs",
            )

    def _check_names(self, graph: Graph) -> None:
        nodes = Counter(node.name for node in graph.nodes if node.name)
        odd = [value.name for value in (*graph.inputs, *graph.initializers) if _is_odd(value.name)]
        for node in graph.nodes:
            odd.extend(value.name for value in node.outputs if _is_odd(value.name))
        odd.extend(name for name in nodes if _is_odd(name))
        if odd:
            message = f"names with characters that cannot be printed: {shorten(odd)}"
            self.report.warn("name-characters", message, self.context.at(graph=graph))
        twice = [name for name, count in nodes.items() if count > 1]
        if twice:
            message = f"several nodes are called {shorten(twice)}"
            self.report.warn("duplicate-node-name", message, self.context.at(graph=graph))

    def _check_outputs(self, graph: Graph, scope: Scope, *, is_inner: bool) -> None:
        for value in graph.outputs:
            key = value.name or value
            found = scope.values.get(key)
            if found is value:
                continue
            place = self.context.at(graph=graph, value=value.name)
            if found is not None:
                message = f"two values are called {quote(value.name)}, and the graph returns the "
                self.report.error("duplicate-name", f"{message}one that is not its own", place)
            elif scope.outer is not None and scope.outer.find(key) is not None:
                if self.by_name:
                    continue
                message = f"output {quote(value.name)} is a value of a graph around this one"
                self.report.error("outer-output", message, place)
            else:
                message = f"output {quote(value.name)} is never computed"
                hint = scope.similar(value.name) if self.context.may_suggest() else None
                self.report.error("undefined-name", message, place, hint)
        self._check_types(graph, graph.outputs)

    def _check_types(self, graph: Graph, values: Iterable[Value]) -> None:
        context = self.context
        for value in values:
            known = context.type_of(value)
            if known is not None:
                context.check_type(known, graph, value.name)
            if value.has_details and context.model.ir_version < 10 and value.metadata:
                context.metadata("values", None, graph, value.name)

    def _check_declared(self, graph: Graph, scope: Scope) -> None:
        declared = graph.value_info
        if not declared:
            return
        self._check_types(graph, declared)
        undefined = [
            value.name for value in declared if scope.values.get(value.name or value) is not value
        ]
        place = self.context.at(graph=graph)
        if undefined:
            message = f"value_info names what the graph does not define: {shorten(undefined)}"
            self.report.warn("value-info", message, place)
        twice = [value.name for value, count in Counter(declared).items() if count > 1]
        if twice:
            self.report.warn("value-info", f"value_info has entries twice: {shorten(twice)}", place)
        if self.function is not None:
            self.context.feature(10, "value_info of functions", None, graph)

    def _check_unused(self, graph: Graph) -> None:
        kept = set(graph.outputs)
        used: set[str] = set()
        for info in self.context.model.training:
            used.update(info.update_binding, info.initialization_binding)
        for annotation in graph.quantization:
            used.update(annotation.parameters.values())
        unused = [
            value.name
            for value in graph.initializers
            if not value.users and value not in kept and value.name not in used
        ]
        if unused:
            message = f"no node reads {shorten(unused)}"
            self.report.note("unused-initializer", message, self.context.at(graph=graph))
        self._check_annotations(graph)

    def _check_annotations(self, graph: Graph) -> None:
        context, report = self.context, self.report
        if graph.metadata:
            context.metadata("graphs", None, graph)
        if not graph.quantization:
            return
        context.feature(5, "quantization annotations", None, graph)
        known = graph.values().keys()
        seen: set[str] = set()
        for annotation in graph.quantization:
            name = annotation.tensor_name
            place = context.at(graph=graph, value=name)
            if name in seen:
                report.warn("quantization", f"{quote(name)} is annotated twice", place)
            seen.add(name)
            if name not in known:
                message = f"an annotation is about {quote(name)}, which the graph does not have"
                report.warn("quantization", message, place)
            for key, parameter in annotation.parameters.items():
                if parameter not in known:
                    report.warn(
                        "quantization",
                        f"{quote(key)} of {quote(name)} is {quote(parameter)}, which the graph "
                        "does not have",
                        place,
                    )


def _missing(known: Type | None) -> str:
    if known is None:
        return "type"
    while isinstance(known, (SequenceType, OptionalType)):
        known = known.element
    if isinstance(known, (TensorType, SparseTensorType)) and known.dtype is None:
        return "element type"
    return ""


def _is_odd(name: str) -> bool:
    return not name.isprintable()
