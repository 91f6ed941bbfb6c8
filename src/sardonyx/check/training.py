"""The rules of training information (onnx.proto, TrainingInfoProto)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sardonyx.check.graph import Scope, check_graph
from sardonyx.check.report import Place
from sardonyx.errors import quote
from sardonyx.infer.merge import conflict

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sardonyx.check.context import Calls, Context
    from sardonyx.ir.graph import Graph
    from sardonyx.ir.model import TrainingInfo
    from sardonyx.ir.value import Value

__all__ = ["check_training"]

_KIND = "training"


def check_training(context: Context, main: Scope | None, calls: Calls) -> None:
    """Report what is wrong with the training graphs, and with what binds them to the model."""
    model = context.model
    if model.training:
        context.feature(7, "training_info")
    bound: dict[str, int] = {}
    for index, info in enumerate(model.training):
        if info.initialization is not None:
            shared = Scope(model.graph)
            if main is not None:
                shared.values.update((value.name, value) for value in model.graph.initializers)
            check_graph(
                info.initialization,
                context,
                context.opset_imports,
                calls,
                outer=shared,
                by_name=True,
            )
            if info.initialization not in context.unreadable and info.initialization.inputs:
                message = "the initialization graph has inputs, which nothing feeds"
                context.report.warn(_KIND, message, context.at(graph=info.initialization))
        if info.algorithm is not None:
            outer = main if main is not None else Scope(model.graph)
            check_graph(
                info.algorithm, context, context.opset_imports, calls, outer=outer, by_name=True
            )
        if main is not None:
            _check_bindings(context, index, info, bound)


def _check_bindings(
    context: Context, index: int, info: TrainingInfo, bound: dict[str, int]
) -> None:
    graphs = [graph for graph in (info.initialization, info.algorithm) if graph is not None]
    if any(graph in context.unreadable for graph in graphs):
        return
    main = context.model.graph
    targets = _by_name([*_of(info.algorithm, "initializers"), *main.initializers])
    starts = _by_name(_of(info.initialization, "outputs"))
    steps = _by_name([*main.outputs, *_of(info.algorithm, "outputs")])
    where = f"training_info {index}"
    _check_binding(
        context, f"initialization_binding of {where}", info.initialization_binding, targets, starts
    )
    _check_binding(context, f"update_binding of {where}", info.update_binding, targets, steps)
    for key in info.update_binding:
        first = bound.setdefault(key, index)
        if first != index:
            message = f"{quote(key)} is updated by training_info {first} and {index}"
            context.report.error(_KIND, message, Place(value=key))


def _check_binding(
    context: Context,
    what: str,
    binding: Mapping[str, str],
    targets: Mapping[str, Value],
    sources: Mapping[str, Value],
) -> None:
    for key, name in binding.items():
        place = Place(lines=(what,), value=key)
        target, source = targets.get(key), sources.get(name)
        if target is None:
            message = f"{quote(key)} is no initializer of the model or of the algorithm"
            context.report.error(_KIND, message, place)
        if source is None:
            listed = ", ".join(map(quote, sources)) or "none"
            message = f"{quote(name)} is not among the outputs that can be bound: {listed}"
            context.report.error(_KIND, message, place)
        if target is None or source is None:
            continue
        difference = conflict(context.type_of(target), context.type_of(source))
        if difference:
            said = difference.replace("declared", "the initializer is").replace(
                "inferred", "the output is"
            )
            message = f"{quote(key)} is bound to {quote(name)} of another type: {said}"
            context.report.error(_KIND, message, place)


def _of(graph: Graph | None, part: str) -> list[Value]:
    return list(getattr(graph, part)) if graph is not None else []


def _by_name(values: Iterable[Value]) -> dict[str, Value]:
    return {value.name: value for value in values}
