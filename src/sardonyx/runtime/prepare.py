"""A model as the compiler wants it: the same numbers, in operators that it has rules for.

Calls of local functions are put in place, and the optimizer's passes are applied. An operator that
has no lowering but that the standard defines by a function is replaced by its body, as far as types
and ranks are known. What comes out is a private copy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sardonyx.compose import copy, inline
from sardonyx.compose.copying import Copier
from sardonyx.errors import UnsupportedError
from sardonyx.infer import infer
from sardonyx.ir.model import canonical_domain
from sardonyx.lowering import is_lowered
from sardonyx.ops import registry
from sardonyx.ops.bodies import expand, has_body
from sardonyx.ops.operator import ControlFlow
from sardonyx.passes.pipeline import for_compiler

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sardonyx.ir.model import Model
    from sardonyx.ir.node import Node
    from sardonyx.ir.value import Value
    from sardonyx.limits import Limits
    from sardonyx.ops.fact import Fact

__all__ = ["prepare"]

_ROUNDS = 4
_MOST_INNER = 10_000
"""Nodes in functions, once put in place, and in subgraphs, up to which preparing pays."""


def prepare(model: Model, limits: Limits, facts: Mapping[Value, Fact] | None = None) -> Model:
    """A copy of `model` that is easier to compile; itself where too much lies inside of it.

    `facts` are what inference found of its values, if that is known.
    """
    if _inner_nodes(model) > _MOST_INNER:
        return model
    known = None
    if model.functions:
        model = inline(model, limits=limits)
    else:
        copier = Copier()
        model = copy(model, copier)
        if facts is not None:
            copies = copier.values
            known = {copies.get(value) or value: fact for value, fact in facts.items()}
    model = for_compiler(model, limits, known)
    kept: set[Node] = set()
    for _ in range(_ROUNDS):
        nodes = [node for node in model.graph.nodes if _is_better_expanded(node, model)]
        nodes = [node for node in nodes if node not in kept]
        if not nodes:
            break
        facts = infer(model, limits=limits).facts
        for node in nodes:
            try:
                expand(node, model.opset_imports, facts=facts)
            except UnsupportedError:  # noqa: PERF203
                kept.add(node)
    return model


def _inner_nodes(model: Model) -> int:
    """How many nodes `model` has beside those of its main graph, with functions put in place."""
    sizes: dict[int, int] = {}
    waiting = [function.graph for function in model.functions.values()]
    while waiting:
        graph = waiting[-1]
        called = [model.function_of(node) for node in graph.all_nodes()]
        missing = [f.graph for f in called if f is not None and id(f.graph) not in sizes]
        if missing:
            waiting += missing
            continue
        waiting.pop()
        sizes[id(graph)] = sum(1 if f is None else 1 + sizes[id(f.graph)] for f in called)
    total = 0
    for node in model.graph.all_nodes():
        function = model.function_of(node)
        total += 1 if function is None else 1 + sizes[id(function.graph)]
    return total - len(model.graph.nodes)


def _is_better_expanded(node: Node, model: Model) -> bool:
    if is_lowered(node.domain, node.op_type) or not has_body(node, model.opset_imports):
        return False
    operator = registry.find(canonical_domain(node.domain), node.op_type)
    return operator is not None and operator.deterministic and not issubclass(operator, ControlFlow)
