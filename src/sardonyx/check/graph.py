"""The rules of one graph: names, order, and each node against its operator's schema."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sardonyx.errors import SardonyxError, UnsupportedError, quote
from sardonyx.ir.node import AttributeType
from sardonyx.ops import registry
from sardonyx.ops.bind import operator_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sardonyx.check.report import Report
    from sardonyx.ir.graph import Graph
    from sardonyx.ir.model import Function, Model
    from sardonyx.ir.node import Node
    from sardonyx.ir.value import Value
    from sardonyx.limits import Limits
    from sardonyx.ops.operator import Operator
    from sardonyx.ops.schema import Param

__all__ = ["check_graph"]


def check_graph(
    graph: Graph,
    model: Model,
    opset_imports: Mapping[str, int],
    report: Report,
    limits: Limits,
    outer: Graph | None = None,
    function: Function | None = None,
) -> None:
    """Report what is wrong in `graph` and its subgraphs; `outer` lends its names."""
    scope: dict[str, Value] = dict(outer.values()) if outer is not None else {}
    checker = _GraphChecker(model, opset_imports, report, limits, function)
    checker.check(graph, scope, is_top=function is None and outer is None)


class _GraphChecker:
    def __init__(
        self,
        model: Model,
        opset_imports: Mapping[str, int],
        report: Report,
        limits: Limits,
        function: Function | None,
    ) -> None:
        self.model = model
        self.opset_imports = opset_imports
        self.report = report
        self.limits = limits
        self.function = function
        self.depth = 0

    def check(self, graph: Graph, scope: dict[str, Value], *, is_top: bool) -> None:
        place = f"graph {quote(graph.name)}"
        self.depth += 1
        if self.depth > self.limits.depth:
            self.report.error("limit", f"graphs nest deeper than {self.limits.depth}", place)
            self.depth -= 1
            return
        if is_top:
            self._check_interface(graph, place)
        self._check_entries(graph, scope, place)
        later = _definitions(graph)
        for node in graph.nodes:
            self._check_inputs(node, scope, later)
            self._check_node(node)
            for inner in node.subgraphs():
                self.check(inner, dict(scope), is_top=False)
            for value in node.outputs:
                if value.name and value.name in scope:
                    self.report.error(
                        "duplicate-name", f"{quote(value.name)} is defined twice", node.label
                    )
                elif value.name:
                    scope[value.name] = value
        for value in graph.outputs:
            if value.name not in scope:
                self.report.error(
                    "undefined-name", f"output {quote(value.name)} is never computed", place
                )
        self.depth -= 1

    def _check_interface(self, graph: Graph, place: str) -> None:
        if not graph.name:
            self.report.warn("graph-name", "the graph has no name", place)
        for what, values in (("input", graph.inputs), ("output", graph.outputs)):
            for value in values:
                if value.type is None:
                    self.report.error(
                        "missing-type", f"{what} {quote(value.name)} has no type", place
                    )
        names = [value.name for value in graph.outputs]
        for name in sorted({name for name in names if names.count(name) > 1}):
            self.report.error("duplicate-name", f"output {quote(name)} is listed twice", place)
        if self.model.ir_version < 4:
            inputs = {value.name for value in graph.inputs}
            for value in graph.initializers:
                if value.name not in inputs:
                    self.report.error(
                        "ir-version",
                        f"initializer {quote(value.name)} is not an input, as IR version "
                        f"{self.model.ir_version} wants",
                        place,
                        "raise ir_version to 4",
                    )

    def _check_entries(self, graph: Graph, scope: dict[str, Value], place: str) -> None:
        seen: set[str] = set()
        for what, values in (("input", graph.inputs), ("initializer", graph.initializers)):
            listed: set[str] = set()
            for value in values:
                if not value.name:
                    self.report.error("missing-name", f"an {what} has no name", place)
                elif value.name in listed or (value.name in scope and value.name not in seen):
                    self.report.error(
                        "duplicate-name", f"{what} {quote(value.name)} is defined twice", place
                    )
                listed.add(value.name)
                scope[value.name] = value
            seen |= listed

    def _check_inputs(self, node: Node, scope: dict[str, Value], later: set[str]) -> None:
        for value in node.inputs:
            if value is None or value.name in scope:
                continue
            if value.name in later:
                self.report.error(
                    "order",
                    f"{quote(value.name)} is read before it is computed",
                    node.label,
                    "sort the nodes so that each follows those that it reads from",
                )
            else:
                self.report.error(
                    "undefined-name", f"nothing defines {quote(value.name)}", node.label
                )

    def _check_node(self, node: Node) -> None:
        for attribute in node.attributes.values():
            if attribute.ref and self.function is None:
                self.report.error(
                    "attribute",
                    f"attribute {quote(attribute.name)} refers to one of a function, and this "
                    "is none",
                    node.label,
                )
            if attribute.type == AttributeType.UNDEFINED:
                self.report.error(
                    "attribute", f"attribute {quote(attribute.name)} has no type", node.label
                )
        called = self.model.function_of(node)
        if called is not None:
            self._check_call(node, called)
            return
        bound = self.function.defaults if self.function else {}
        try:
            if self.function is not None and any(a.ref for a in node.attributes.values()):
                operator_class = registry.get(node.domain, node.op_type)
                version = max(
                    (v for d, v in self.opset_imports.items() if d == node.domain), default=1
                )
                self._check_arity(
                    node, operator_class.schema(version).since_version, operator_class
                )
                return
            operator = operator_of(node, self.opset_imports, bound)
        except UnsupportedError as error:
            self.report.error("unsupported", error.message, node.label, error.hint)
            return
        except SardonyxError as error:
            self.report.error("attribute", error.message, node.label, error.hint)
            return
        self._check_arity(node, operator.version, type(operator))

    def _check_call(self, node: Node, function: Function) -> None:
        if len(node.inputs) > len(function.graph.inputs) or len(node.outputs) > len(
            function.graph.outputs
        ):
            self.report.error(
                "arity",
                f"{len(node.inputs)} inputs and {len(node.outputs)} outputs for a function of "
                f"{len(function.graph.inputs)} and {len(function.graph.outputs)}",
                node.label,
            )
        for name in function.attributes:
            if name not in node.attributes:
                self.report.warn(
                    "attribute", f"attribute {quote(name)} of the function is not given", node.label
                )

    def _check_arity(self, node: Node, version: int, operator: type[Operator]) -> None:
        schema = operator.schema(version)
        shown = f"{operator.op_type}-{schema.since_version}"
        if schema.deprecated:
            self.report.error("deprecated", f"{shown} is deprecated", node.label)
        for what, values, params, least, most in (
            ("input", node.inputs, schema.inputs, schema.min_inputs, schema.max_inputs),
            ("output", node.outputs, schema.outputs, schema.min_outputs, schema.max_outputs),
        ):
            given = len(values)
            if given < least or (most is not None and given > most):
                bounds = str(least) if most == least else f"{least} to {most or 'any number of'}"
                self.report.error(
                    "arity", f"{shown} takes {bounds} {what}s, got {given}", node.label
                )
                continue
            for index, value in enumerate(values):
                param = schema.param_of(params, index)
                if param is not None and _is_missing(value, param):
                    name = list(params)[min(index, len(params) - 1)]
                    self.report.error(
                        "arity", f"{shown} needs {what} {quote(name)}, it is empty", node.label
                    )


def _is_missing(value: Value | None, param: Param) -> bool:
    return value is None and not param.optional and not param.variadic


def _definitions(graph: Graph) -> set[str]:
    return {value.name for node in graph.nodes for value in node.outputs if value.name}
