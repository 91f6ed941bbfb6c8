"""The rules on types and shapes: inference, and each operator's type constraints."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sardonyx.errors import InferenceError, SardonyxError, quote
from sardonyx.infer import infer
from sardonyx.ir.types import (
    MapType,
    OptionalType,
    SequenceType,
    SparseTensorType,
    TensorType,
)
from sardonyx.ops.bind import operator_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sardonyx.check.report import Report
    from sardonyx.infer import Inference
    from sardonyx.ir.model import Model
    from sardonyx.ir.node import Node
    from sardonyx.ir.types import Type
    from sardonyx.ir.value import Value
    from sardonyx.limits import Limits
    from sardonyx.ops.schema import Schema

__all__ = ["check_types"]


def check_types(model: Model, report: Report, limits: Limits) -> None:
    """Report types and shapes that cannot fit, and, as warnings, wrong declarations."""
    try:
        found = infer(model, limits=limits)
    except SardonyxError as error:
        report.error("limit", error.message, ", ".join(error.places), error.hint)
        return
    for problem in found.problems:
        place = "\n  at ".join(problem.places)
        if isinstance(problem, InferenceError):
            report.error("shape", problem.message, place, problem.hint)
        else:
            report.warn("inference", problem.message, place, problem.hint)
    for conflict in found.conflicts:
        report.warn("declared-type", conflict)
    for node in model.graph.all_nodes():
        if model.function_of(node) is None:
            _check_node(node, model.opset_imports, found, report)


def _check_node(
    node: Node, opset_imports: Mapping[str, int], found: Inference, report: Report
) -> None:
    try:
        operator = operator_of(node, opset_imports)
    except SardonyxError:
        return
    schema = operator.schema(operator.version)
    bound: dict[str, tuple[Type, str]] = {}
    for index, value in enumerate(node.inputs):
        param = schema.param_of(schema.inputs, index)
        known = _plain_type(value, found)
        if param is None or known is None:
            continue
        name = list(schema.inputs)[min(index, len(schema.inputs) - 1)]
        if known not in schema.allowed(param):
            report.error(
                "type",
                f"{_shown(schema)} does not take {known} as {quote(name)}",
                node.label,
                f"it takes {_listed(schema, name)}",
            )
        elif isinstance(param.type, str) and param.homogeneous:
            first, where = bound.setdefault(param.type, (known, name))
            if first != known:
                report.error(
                    "type",
                    f"{_shown(schema)} needs {quote(where)} and {quote(name)} of one type, got "
                    f"{first} and {known}",
                    node.label,
                    "insert a Cast",
                )


def _shown(schema: Schema) -> str:
    return f"{schema.name}-{schema.since_version}"


def _listed(schema: Schema, name: str) -> str:
    return ", ".join(sorted(str(entry) for entry in schema.allowed(schema.inputs[name])))


def _plain_type(value: Value | None, found: Inference) -> Type | None:
    """The type of `value` without shape and denotations, as schemas list types."""
    if value is None:
        return None
    fact = found.facts.get(value)
    return _bare(fact.type if fact else value.type)


def _bare(known: Type | None) -> Type | None:
    if isinstance(known, (TensorType, SparseTensorType)):
        return type(known)(known.dtype) if known.dtype else None
    if isinstance(known, (SequenceType, OptionalType)):
        element = _bare(known.element)
        return None if element is None else type(known)(element)
    if isinstance(known, MapType):
        element = _bare(known.value)
        return None if element is None else MapType(known.key, element)
    return None
