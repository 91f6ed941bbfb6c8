"""Model-local functions: no cycles, bounded expansion."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sardonyx.errors import quote

if TYPE_CHECKING:
    from sardonyx.check.report import Report
    from sardonyx.ir.model import Function, FunctionKey, Model
    from sardonyx.limits import Limits

__all__ = ["check_functions"]


def check_functions(model: Model, report: Report, limits: Limits) -> bool:
    """Report cycles of functions and an expansion above `limits.nodes`; True when neither."""
    order = _in_call_order(model, report)
    if order is None:
        return False
    sizes: dict[FunctionKey, int] = {}
    for function in order:
        sizes[function.key] = sum(
            sizes.get(called.key, 1) if (called := model.function_of(node)) else 1
            for node in function.graph.all_nodes()
        )
        _check_signature(function, report)
    total = sum(
        sizes.get(called.key, 1) if (called := model.function_of(node)) else 1
        for node in model.graph.all_nodes()
    )
    if total > limits.nodes:
        report.error(
            "limit",
            f"functions expand to {total} nodes, {limits.nodes} are allowed",
            hint="if you trust the model, pass limits=Limits(nodes=...)",
        )
        return False
    return True


def _check_signature(function: Function, report: Report) -> None:
    place = f"function {quote(function.name)}"
    for what, names in (
        ("input", [value.name for value in function.graph.inputs]),
        ("output", [value.name for value in function.graph.outputs]),
        ("attribute", [*function.attributes, *function.defaults]),
    ):
        if len(set(names)) < len(names):
            report.error("duplicate-name", f"two {what}s have one name", place)


def _in_call_order(model: Model, report: Report) -> list[Function] | None:
    """Functions, callees first; None and a report where they call each other in a cycle."""
    done: dict[FunctionKey, bool] = {}
    order: list[Function] = []
    for start in model.functions.values():
        if start.key in done:
            continue
        stack = [(start, iter(_callees(model, start)))]
        done[start.key] = False
        while stack:
            function, callees = stack[-1]
            called = next(callees, None)
            if called is None:
                done[function.key] = True
                order.append(function)
                stack.pop()
            elif called.key not in done:
                done[called.key] = False
                stack.append((called, iter(_callees(model, called))))
            elif not done[called.key]:
                names = [entry.name for entry, _ in stack]
                cycle = [*names[names.index(called.name) :], called.name]
                report.error(
                    "cycle", "functions call each other: " + " -> ".join(map(quote, cycle))
                )
                return None
    return order


def _callees(model: Model, function: Function) -> list[Function]:
    found = (model.function_of(node) for node in function.graph.all_nodes())
    return [called for called in found if called is not None]
