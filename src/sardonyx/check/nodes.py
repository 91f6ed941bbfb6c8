"""The rules of nodes: each against its operator's schema, or the function that it calls."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Final

from sardonyx.check.tensors import check_sparse, check_tensor
from sardonyx.errors import UnsupportedError, quote
from sardonyx.ir.model import canonical_domain
from sardonyx.ir.node import AttributeType
from sardonyx.ops import registry

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sardonyx.check.context import Context
    from sardonyx.ir.model import Function, FunctionKey
    from sardonyx.ir.node import Attribute, Node
    from sardonyx.ir.value import Value
    from sardonyx.ops.operator import Operator
    from sardonyx.ops.schema import Param, Schema

__all__ = ["NodeChecker", "schema_of"]

_OUTPUT_COUNTS: Final[dict[tuple[str, int], tuple[int, ...]]] = {
    ("BatchNormalization", 1): (1, 5),
    ("BatchNormalization", 6): (1, 5),
    ("BatchNormalization", 7): (1, 5),
    ("BatchNormalization", 9): (1, 5),
    ("BatchNormalization", 14): (1, 3),
    ("BatchNormalization", 15): (1, 3),
}
"""Numbers of outputs of schemas that do not take every number between fewest and most."""

_STANDARD: Final = frozenset(registry.NEWEST_OPSET)
_EXPERIMENTAL: Final = frozenset(
    {
        "ATen",
        "Affine",
        "ConstantFill",
        "Crop",
        "DynamicSlice",
        "GRUUnit",
        "GivenTensorFill",
        "ImageScaler",
        "ParametricSoftplus",
        "Scale",
        "ScaledTanh",
    }
)
"""Operators of 2017 that were withdrawn without a schema; the standard's checker lets them be."""
_FREE: Final = "__"
_MANY: Final = 8
_LOWEST_IR_OF_ATTRIBUTES: Final = {
    AttributeType.SPARSE_TENSOR: 6,
    AttributeType.SPARSE_TENSORS: 6,
    AttributeType.TYPE_PROTO: 8,
    AttributeType.TYPE_PROTOS: 8,
}


@dataclass(frozen=True, slots=True)
class _Known:
    """What an operator's name and domain mean under one graph's imports."""

    operator: type[Operator] | None
    schema: Schema | None
    kind: str = ""
    message: str = ""
    hint: str | None = None
    counts: frozenset[tuple[int, int]] = frozenset()
    """The numbers of inputs and outputs that fit, as far as there are few of them."""
    required: tuple[str, ...] = ()


_NOTHING: Final = _Known(None, None)


def schema_of(node: Node, opset_imports: Mapping[str, int]) -> Schema | None:
    """The schema in force of the operator that `node` applies, or None where there is none."""
    operator = registry.find(node.domain, node.op_type)
    version = _version(node.domain, opset_imports)
    if operator is None or version is None:
        return None
    try:
        return operator.schema(version)
    except UnsupportedError:
        return None


def _version(domain: str, opset_imports: Mapping[str, int]) -> int | None:
    domain = canonical_domain(domain)
    found = opset_imports.get(domain)
    return opset_imports.get("ai.onnx") if found is None and domain == "" else found


class NodeChecker:
    """Checks the nodes of one graph, or of one function's body, under its imports."""

    def __init__(
        self, context: Context, opset_imports: Mapping[str, int], function: Function | None
    ) -> None:
        self.context = context
        self.report = context.report
        self.opset_imports = opset_imports
        self.function = function
        self._has_functions = bool(context.model.functions)
        self._is_old = context.model.ir_version < 11
        self._known: dict[tuple[str, str], _Known] = {}

    def check(self, node: Node) -> FunctionKey | None:
        """Report what is wrong with `node` by itself; returns the function that it calls."""
        context = self.context
        if not node.op_type:
            self.report.error("missing-name", "the node names no operator", context.at(node))
        if self._is_old:
            self._check_features(node)
        called = context.model.function_of(node) if self._has_functions else None
        known = _NOTHING
        if called is not None:
            context.domains.add(canonical_domain(node.domain))
            self._check_import(node)
            self._check_call(node, called)
        else:
            known = self._known_of(node)
        schema = known.schema
        attributes = node.attributes
        for attribute in attributes.values():
            self._check_attribute(node, attribute, schema)
        if schema is not None:
            if attributes:
                self._check_attributes(node, schema)
            for name in known.required:
                if name not in attributes:
                    self._missing_attribute(node, schema, name)
            sizes = len(node.inputs), len(node.outputs)
            if sizes not in known.counts or None in node.inputs or not _all_named(node.outputs):
                self._check_arity(node, schema)
        elif not node.inputs and not node.outputs:
            message = "a node without inputs and outputs"
            self.report.error("arity", message, context.at(node), "remove it")
        if called is None:
            return None
        return canonical_domain(node.domain), node.op_type, node.overload

    def _check_features(self, node: Node) -> None:
        if node.devices:
            self.context.feature(11, "device configurations of nodes", node)
        if self.context.model.ir_version >= 10:
            return
        if node.metadata:
            self.context.metadata("nodes", node)
        if node.overload:
            self.context.feature(10, "overloads of functions", node)

    def _check_import(self, node: Node) -> bool:
        if _version(node.domain, self.opset_imports) is not None:
            return True
        if self.function is None and not self.opset_imports:
            return False
        domain = canonical_domain(node.domain) or "ai.onnx"
        who = "model" if self.function is None else "function"
        place = (self.function.name if self.function else "", domain)
        if place not in self.context.missing_domains:
            self.context.missing_domains.add(place)
            self.report.error(
                "opset",
                f"the {who} imports no operator set of domain {quote(domain)}",
                self.context.at(node),
                f"add the domain and a version to the {who}'s opset_import",
            )
        return False

    def _known_of(self, node: Node) -> _Known:
        key = (node.domain, node.op_type)
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = self._find(node)
        if node.overload:
            message = f"the model has no function {quote(node.op_type)} of this domain and overload"
            place = self.context.at(node)
            self.report.error("unknown-operator", f"{message} {quote(node.overload)}", place)
            return _NOTHING
        if known.kind == "custom-operator":
            self.context.custom(known.message, node)
        elif known.kind and known.kind != "opset":
            self.report.error(known.kind, known.message, self.context.at(node), known.hint)
        return known

    def _find(self, node: Node) -> _Known:
        self.context.domains.add(canonical_domain(node.domain))
        if not self._check_import(node):
            return _Known(None, None, "opset")
        domain = canonical_domain(node.domain)
        shown = quote(domain or "ai.onnx")
        operator = registry.find(domain, node.op_type)
        if operator is None:
            message = f"no operator {quote(node.op_type)} in domain {shown}"
            if domain not in _STANDARD or (not domain and node.op_type in _EXPERIMENTAL):
                return _Known(None, None, "custom-operator", message)
            hint = _similar_operator(node) if self.context.may_suggest() else None
            return _Known(None, None, "unknown-operator", message, hint)
        version = _version(domain, self.opset_imports)
        if version is None or version < 1:
            return _Known(None, None, "opset")
        try:
            schema = operator.schema(version)
        except UnsupportedError:
            first = min(operator.schemas())
            message = (
                f"{node.op_type} came with version {first} of domain {shown}, the model imports "
                f"version {version}"
            )
            hint = f"import version {first} or newer: sardonyx convert"
            return _Known(operator, None, "operator-version", message, hint)
        if schema.deprecated:
            message = f"{node.op_type}-{schema.since_version} is deprecated"
            return _Known(operator, None, "deprecated", message)
        required = tuple(name for name, spec in schema.attributes.items() if spec.is_required)
        return _Known(operator, schema, counts=_counts(schema), required=required)

    def _check_attribute(self, node: Node, attribute: Attribute, schema: Schema | None) -> None:
        name, place = attribute.name, self.context.at
        if attribute.ref:
            self._check_reference(node, attribute, schema)
        elif attribute.type == AttributeType.UNDEFINED:
            message = f"attribute {quote(name)} has no type"
            self.report.error("attribute-type", message, place(node))
            return
        needed = _LOWEST_IR_OF_ATTRIBUTES.get(attribute.type)
        if needed is not None and needed > self.context.model.ir_version:
            self.context.feature(needed, f"attributes of type {attribute.type.name}", node)
        value = attribute.value
        if value is None:
            return
        if attribute.type == AttributeType.TENSOR:
            check_tensor(value, self.context, node, name)
        elif attribute.type == AttributeType.SPARSE_TENSOR:
            check_sparse(value, self.context, node, name)
        elif attribute.type == AttributeType.TENSORS:
            for tensor in value:
                check_tensor(tensor, self.context, node, name)
        elif attribute.type == AttributeType.SPARSE_TENSORS:
            for sparse in value:
                check_sparse(sparse, self.context, node, name)

    def _check_reference(self, node: Node, attribute: Attribute, schema: Schema | None) -> None:
        report, place = self.report, self.context.at(node)
        shown = f"attribute {quote(attribute.name)}"
        if self.function is None:
            message = f"{shown} refers to {quote(attribute.ref)} of a function, and this is none"
            report.error("attribute-reference", message, place, "give the attribute a value")
            return
        if attribute.value is not None:
            message = f"{shown} has a value and refers to {quote(attribute.ref)} too"
            report.error("attribute-reference", message, place, "remove one of the two")
        default = self.function.defaults.get(attribute.ref)
        if default is not None:
            if attribute.type not in {default.type, AttributeType.UNDEFINED}:
                report.error(
                    "attribute-reference",
                    f"{shown} is {attribute.type.name}, and refers to {quote(attribute.ref)}, "
                    f"which is {default.type.name}",
                    place,
                )
        elif attribute.ref not in self.function.attributes:
            message = (
                f"{shown} refers to {quote(attribute.ref)}, which the function does not declare"
            )
            spec = schema.attributes.get(attribute.name) if schema is not None else None
            add = report.error if spec is not None and spec.is_required else report.warn
            add("attribute-reference", message, place)

    def _check_attributes(self, node: Node, schema: Schema) -> None:
        given = node.attributes
        specs = schema.attributes
        for name, attribute in given.items():
            spec = specs.get(name)
            if spec is None:
                if not name.startswith(_FREE):
                    self._unknown_attribute(node, schema, name)
            elif attribute.type != spec.type and attribute.type != AttributeType.UNDEFINED:
                self.report.error(
                    "attribute-type",
                    f"attribute {quote(name)} is {attribute.type.name}, {_shown(schema)} takes "
                    f"{spec.type.name}",
                    self.context.at(node),
                )

    def _missing_attribute(self, node: Node, schema: Schema, name: str) -> None:
        message = f"{_shown(schema)} needs attribute {quote(name)}"
        hint = f"give it a value of type {schema.attributes[name].type.name}"
        self.report.error("missing-attribute", message, self.context.at(node), hint)

    def _unknown_attribute(self, node: Node, schema: Schema, name: str) -> None:
        operator = registry.get(node.domain, node.op_type)
        having = [since for since, past in operator.schemas().items() if name in past.attributes]
        may_suggest = self.context.may_suggest()
        close = get_close_matches(name, schema.attributes, 1) if may_suggest else []
        if having:
            hint = f"version {max(having)} of {schema.name} has it"
        elif close:
            hint = f"did you mean {quote(close[0])}?"
        else:
            hint = f"its attributes are {', '.join(schema.attributes) or 'none'}"
        message = f"{_shown(schema)} has no attribute {quote(name)}"
        self.report.error("unknown-attribute", message, self.context.at(node), hint)

    def _check_call(self, node: Node, function: Function) -> None:
        report, place = self.report, self.context.at
        if not self.context.can_read(function.graph):
            return
        inputs, outputs = len(function.graph.inputs), len(function.graph.outputs)
        if len(node.inputs) > inputs or len(node.outputs) > outputs:
            report.error(
                "arity",
                f"{len(node.inputs)} inputs and {len(node.outputs)} outputs for function "
                f"{quote(function.name)} of {inputs} and {outputs}",
                place(node),
            )
        for name in function.attributes:
            if name not in node.attributes:
                message = f"attribute {quote(name)} of function {quote(function.name)} is not given"
                report.warn("missing-attribute", message, place(node))
        declared = {*function.attributes, *function.defaults}
        for name in node.attributes:
            if name not in declared and not name.startswith(_FREE):
                message = f"function {quote(function.name)} has no attribute {quote(name)}"
                hint = f"its attributes are {', '.join(map(quote, sorted(declared))) or 'none'}"
                report.warn("unknown-attribute", message, place(node), hint)

    def _check_arity(self, node: Node, schema: Schema) -> None:
        for what, values, params, least, most in (
            ("input", node.inputs, schema.inputs, schema.min_inputs, schema.max_inputs),
            ("output", node.outputs, schema.outputs, schema.min_outputs, schema.max_outputs),
        ):
            given = len(values)
            if given < least or (most is not None and given > most):
                bounds = str(least) if most == least else f"{least} to {most or 'any number of'}"
                many = "s" if bounds != "1" else ""
                self.report.error(
                    "arity",
                    f"{_shown(schema)} takes {bounds} {what}{many}, got {given}",
                    self.context.at(node),
                    _listed(what, params),
                )
                continue
            for index, value in enumerate(values):
                if value is None or not (value.name or value.users or what == "input"):
                    self._check_missing(node, schema, what, params, index)
        counts = _OUTPUT_COUNTS.get((schema.name, schema.since_version))
        if counts is not None and len(node.outputs) not in counts and not schema.domain:
            message = f"{_shown(schema)} takes {counts[0]} or {counts[1]} outputs"
            place = self.context.at(node)
            self.report.error("arity", f"{message}, got {len(node.outputs)}", place)

    def _check_missing(
        self, node: Node, schema: Schema, what: str, params: dict[str, Param], index: int
    ) -> None:
        param = schema.param_of(params, index)
        if param is None or param.optional or param.variadic:
            return
        if what == "output" and _is_returned(node.outputs[index]):
            return
        name = list(params)[min(index, len(params) - 1)]
        message = f"{_shown(schema)} needs {what} {quote(name)}, it is empty"
        self.report.error("arity", message, self.context.at(node))


def _similar_operator(node: Node) -> str | None:
    try:
        registry.get(node.domain, node.op_type)
    except UnsupportedError as error:
        return error.hint
    return None


def _counts(schema: Schema) -> frozenset[tuple[int, int]]:
    outputs = _OUTPUT_COUNTS.get((schema.name, schema.since_version)) if not schema.domain else None
    if outputs is None:
        outputs = tuple(range(schema.min_outputs, (schema.max_outputs or _MANY) + 1))
    inputs = range(schema.min_inputs, (schema.max_inputs or _MANY) + 1)
    return frozenset((given, made) for given in inputs for made in outputs)


def _all_named(values: Sequence[Value]) -> bool:
    return "" not in [value.name for value in values]


def _is_returned(value: Value) -> bool:
    """Whether a value without a name is an output of its graph, and named when it is saved."""
    graph = value.producer.graph if value.producer is not None else None
    return graph is not None and any(output is value for output in graph.outputs)


def _shown(schema: Schema) -> str:
    return f"{schema.name}-{schema.since_version}"


def _listed(what: str, params: dict[str, Param]) -> str:
    parts = [
        f"{name}..." if param.variadic else f"[{name}]" if param.optional else name
        for name, param in params.items()
    ]
    return f"its {what}s are {', '.join(parts)}" if parts else f"it has no {what}s"
