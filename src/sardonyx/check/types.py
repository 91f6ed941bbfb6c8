"""The rules on types and shapes: inference, and each operator's type constraints."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sardonyx.check.nodes import schema_of
from sardonyx.errors import InferenceError, LimitError, ModelError, SardonyxError, quote
from sardonyx.infer import infer
from sardonyx.infer.merge import conflict
from sardonyx.ir.types import (
    MapType,
    OptionalType,
    SequenceType,
    SparseTensorType,
    TensorType,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sardonyx.check.context import Context
    from sardonyx.infer import Inference
    from sardonyx.ir.node import Node
    from sardonyx.ir.types import Type
    from sardonyx.ir.value import Value
    from sardonyx.ops.schema import Param, Schema

__all__ = ["check_types"]


def check_types(context: Context) -> None:
    """Report types and shapes that cannot fit, and declarations that are wrong."""
    model, report = context.model, context.report
    try:
        found = infer(model, limits=context.limits)
    except LimitError as error:
        report.error("limit", error.message, "\n".join(error.places), error.hint)
        return
    except SardonyxError as error:
        report.unreadable(error)
        return
    context.inference = found
    for problem in found.problems:
        place = "\n".join(problem.places)
        if isinstance(problem, InferenceError):
            report.error("shape", problem.message, place, problem.hint)
        elif isinstance(problem, ModelError):
            report.error("attribute-value", problem.message, place, problem.hint)
        else:
            report.warn("inference", problem.message, place, problem.hint)
    checker = _TypeChecker(context, found)
    for node in model.graph.all_nodes():
        if model.function_of(node) is None:
            checker.check(node)
        for value in node.outputs:
            checker.check_declared(value, node)
    for function in model.functions.values():
        # the body's values have the types of one of its calls
        checker.opset_imports = function.opset_imports
        for node in function.graph.all_nodes():
            if model.function_of(node) is None:
                checker.check(node)


class _TypeChecker:
    def __init__(self, context: Context, found: Inference) -> None:
        self.context = context
        self.report = context.report
        self.facts = found.facts
        self.opset_imports = context.opset_imports
        self._bare: dict[int, tuple[Type, Type | None]] = {}
        self._plain_types: dict[Type, Type] = {}
        self._sides: dict[tuple[int, str], tuple[list[str], list[Param]]] = {}
        self._allowed: set[tuple[int, int]] = set()

    def check(self, node: Node) -> None:
        """Report inputs and outputs of types that the operator of `node` does not take."""
        schema = schema_of(node, self.opset_imports)
        if schema is None:
            return
        bound: dict[str, tuple[Type, str]] = {}
        self._check(node, schema, "input", node.inputs, bound)
        self._check(node, schema, "output", node.outputs, bound)

    def _check(
        self,
        node: Node,
        schema: Schema,
        what: str,
        values: Sequence[Value | None],
        bound: dict[str, tuple[Type, str]],
    ) -> None:
        key = id(schema), what
        if key not in self._sides:
            params = schema.inputs if what == "input" else schema.outputs
            self._sides[key] = list(params), list(params.values())
        names, listed = self._sides[key]
        for index, value in enumerate(values):
            if index >= len(listed) and not (listed and listed[-1].variadic):
                return
            position = min(index, len(listed) - 1)
            param, name = listed[position], names[position]
            known = self._plain(value)
            if known is None:
                continue
            accepted = id(param), id(known)
            if accepted not in self._allowed and known in schema.allowed(param):
                self._allowed.add(accepted)
            if accepted not in self._allowed:
                takes = "take" if what == "input" else "give"
                self.report.error(
                    "type",
                    f"{_shown(schema)} does not {takes} {known} as {quote(name)}",
                    self.context.at(node, value=value.name if value is not None else ""),
                    f"it {takes}s {_listed(schema, param)}",
                )
            elif isinstance(param.type, str) and param.homogeneous:
                first, where = bound.setdefault(param.type, (known, name))
                if first is not known:
                    self.report.error(
                        "type",
                        f"{_shown(schema)} needs {quote(where)} and {quote(name)} of one type, "
                        f"got {first} and {known}",
                        self.context.at(node),
                        "insert a Cast",
                    )

    def check_declared(self, value: Value, node: Node) -> None:
        """Report a declared type that inference contradicts."""
        fact = self.facts.get(value)
        declared = self.context.type_of(value)
        if fact is None or declared is None or fact.type is declared:
            return
        difference = conflict(declared, fact.type)
        if difference is None:
            return
        add = self.report.warn if _same_kind(declared, fact.type) else self.report.error
        message = f"{quote(value.name)} is {difference}"
        add("declared-type", message, self.context.at(node, value=value.name))

    def _plain(self, value: Value | None) -> Type | None:
        """The type of `value` without shape and denotations; equal ones are one object."""
        if value is None:
            return None
        fact = self.facts.get(value)
        known = fact.type if fact is not None else self.context.type_of(value)
        if known is None:
            return None
        cached = self._bare.get(id(known))
        if cached is None:
            bare = _bare(known)
            if bare is not None:
                bare = self._plain_types.setdefault(bare, bare)
            cached = self._bare[id(known)] = known, bare
        return cached[1]


def _same_kind(declared: Type, inferred: Type | None) -> bool:
    """Whether only shapes differ, or that one may be absent."""
    if isinstance(declared, OptionalType) != isinstance(inferred, OptionalType):
        declared = declared.element if isinstance(declared, OptionalType) else declared
        inferred = inferred.element if isinstance(inferred, OptionalType) else inferred
    a, b = _bare(declared), None if inferred is None else _bare(inferred)
    return a is None or b is None or a == b


def _shown(schema: Schema) -> str:
    return f"{schema.name}-{schema.since_version}"


def _listed(schema: Schema, param: Param) -> str:
    return ", ".join(sorted(str(entry) for entry in schema.allowed(param)))


def _bare(known: Type) -> Type | None:
    if isinstance(known, (TensorType, SparseTensorType)):
        return type(known)(known.dtype) if known.dtype else None
    if isinstance(known, (SequenceType, OptionalType)):
        element = _bare(known.element)
        return None if element is None else type(known)(element)
    if isinstance(known, MapType):
        element = _bare(known.value)
        return None if element is None else MapType(known.key, element)
    return None
