"""Model-local functions: signatures, imports, no cycles, bounded expansion."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from sardonyx.check.context import Calls
from sardonyx.check.graph import check_graph
from sardonyx.check.versions import check_opsets
from sardonyx.errors import SardonyxError, UnsupportedError, quote
from sardonyx.ir.model import canonical_domain
from sardonyx.ops import registry

if TYPE_CHECKING:
    from sardonyx.check.context import Context
    from sardonyx.ir.model import Function, FunctionKey

__all__ = ["check_calls", "check_functions"]


_LONGEST_CYCLE = 20
"""Names of a cycle that are shown."""


def check_functions(context: Context) -> None:
    """Report what is wrong with each function by itself."""
    imports = _all_imports(context)
    for key, function in context.model.functions.items():
        calls = context.calls[key] = Calls()
        if not context.can_read(function.graph):
            continue
        place = context.path(function.graph)[0]
        if function.opset_imports:
            check_opsets(function.opset_imports, context.report, place)
        _check_signature(function, context)
        check_graph(function.graph, context, function.opset_imports, calls, function=function)
        if function.graph not in context.unreadable:
            _check_imports(function, imports, context)
            _check_attributes(function, context)


def _check_signature(function: Function, context: Context) -> None:
    report, place = context.report, context.at(graph=function.graph)
    if not function.name:
        report.error("missing-name", "a function without a name", place)
    domain = canonical_domain(function.domain)
    if registry.find(domain, function.name) is not None:
        message = f"function {quote(function.name)} stands in for the operator of that name"
        report.warn("function-domain", f"{message} in domain {quote(domain or 'ai.onnx')}", place)
    elif not function.domain:
        report.warn("function-domain", f"function {quote(function.name)} has no domain", place)
    graph = function.graph
    attributes = [*function.attributes, *function.defaults]
    for what, names in (
        ("output", [value.name for value in graph.outputs]),
        ("attribute", attributes),
    ):
        for name, count in Counter(names).items():
            if count > 1:
                message = f"{what} {quote(name)} is listed {count} times"
                report.error("function-signature", message, place)
            if not name:
                report.error("missing-name", f"an {what} has no name", place)
    if function.overload:
        context.feature(10, "overloads of functions", None, graph)
    if function.defaults:
        context.feature(9, "default attributes of functions", None, graph)
    if function.metadata:
        context.metadata("functions", None, graph)


def _all_imports(context: Context) -> dict[str, int]:
    """What the model imports, and for other domains what its first function does."""
    found = {canonical_domain(d): v for d, v in context.model.opset_imports.items()}
    for function in context.model.functions.values():
        for domain, version in function.opset_imports.items():
            found.setdefault(canonical_domain(domain), version)
    return found


def _check_imports(function: Function, imports: dict[str, int], context: Context) -> None:
    own = {canonical_domain(d): v for d, v in function.opset_imports.items()}
    differing = {domain for domain, version in own.items() if imports[domain] != version}
    if not differing:
        return
    seen: set[tuple[str, str]] = set()
    for node in function.graph.nodes:
        domain = canonical_domain(node.domain)
        if domain not in differing or (domain, node.op_type) in seen:
            continue
        seen.add((domain, node.op_type))
        mine, others = (_since(domain, node.op_type, v[domain]) for v in (own, imports))
        if mine != others and context.model.function_of(node) is None:
            context.report.error(
                "function-opset",
                f"{node.op_type} of domain {quote(domain or 'ai.onnx')} in version {own[domain]}, "
                f"which the function imports, differs from that of version {imports[domain]}, "
                "which the model imports",
                context.at(node),
            )


def _since(domain: str, op_type: str, version: int) -> int | None:
    operator = registry.find(domain, op_type)
    try:
        return None if operator is None else operator.schema(version).since_version
    except UnsupportedError:
        return None


def _check_attributes(function: Function, context: Context) -> None:
    used: set[str] = set()
    try:
        for node in function.graph.all_nodes():
            used.update(attribute.ref for attribute in node.attributes.values() if attribute.ref)
    except SardonyxError:
        return
    for name in (*function.attributes, *function.defaults):
        if name not in used:
            context.report.warn(
                "unused-attribute",
                f"attribute {quote(name)} of function {quote(function.name)} is not used in it",
                context.at(graph=function.graph),
            )


def check_calls(context: Context) -> None:
    """Report cycles of functions, an expansion above `limits.nodes`, and what is never called."""
    order = _in_call_order(context)
    if order is not None:
        sizes: dict[FunctionKey, int] = {}
        depths: dict[FunctionKey | None, int] = {}
        for key in (*order, None):
            calls = context.calls[key]
            inlined = sum(calls.functions.values())
            inner = sum(sizes.get(called, 1) * n for called, n in calls.functions.items())
            total = calls.nodes - inlined + inner
            depths[key] = 1 + max((depths.get(called, 0) for called in calls.functions), default=0)
            if key is not None:
                sizes[key] = total
        for name, needed, message in (
            ("nodes", total, f"functions expand to {total} nodes"),
            ("depth", depths[None], f"functions call each other {depths[None]} deep"),
        ):
            bound = getattr(context.limits, name)
            if needed > bound:
                hint = f"if you trust the model, pass limits=Limits({name}=...)"
                context.report.error("limit", f"{message}, {bound} are allowed", hint=hint)
    called = {name for calls in context.calls.values() for name in calls.functions}
    for key, function in context.model.functions.items():
        if key not in called:
            message = f"function {quote(function.name)} is never called"
            context.report.note("unused-function", message, context.at(graph=function.graph))


def _in_call_order(context: Context) -> list[FunctionKey] | None:
    """Functions, callees first; None and a report where they call each other in a cycle."""
    done: dict[FunctionKey, bool] = {}
    order: list[FunctionKey] = []
    for start in context.model.functions:
        if start in done:
            continue
        stack = [(start, iter(context.calls[start].functions))]
        done[start] = False
        while stack:
            key, callees = stack[-1]
            called = next(callees, None)
            if called is None:
                done[key] = True
                order.append(key)
                stack.pop()
            elif called not in done:
                done[called] = False
                stack.append((called, iter(context.calls[called].functions)))
            elif not done[called]:
                path = [entry for entry, _ in stack]
                cycle = [*path[path.index(called) :], called]
                shown = [quote(name) for _, name, _ in cycle]
                if len(shown) > _LONGEST_CYCLE:
                    shown[_LONGEST_CYCLE - 1 : -1] = [f"({len(shown) - _LONGEST_CYCLE} more)"]
                names = " -> ".join(shown)
                context.report.error("cycle", f"functions call each other: {names}")
                return None
    return order
