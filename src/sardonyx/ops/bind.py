"""From a node of a graph to the operator it applies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sardonyx.errors import ModelError, SardonyxError, UnsupportedError, quote
from sardonyx.ir.model import canonical_domain
from sardonyx.ir.node import AttributeType
from sardonyx.ir.tensor import ArrayTensor
from sardonyx.ops import registry

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sardonyx.ir.node import Attribute, Node
    from sardonyx.ops.operator import Operator

__all__ = ["attribute_values", "is_shared", "lift", "operator_of"]


def attribute_values(node: Node, bound: Mapping[str, Attribute]) -> dict[str, Any]:
    """The node's attribute values by name; references are looked up in `bound`.

    `bound` holds the attributes of the enclosing function's call. A reference that it does not
    hold leaves the attribute out, so that the operator's default applies.
    """
    values = {}
    for name, attribute in node.attributes.items():
        if not attribute.ref:
            values[name] = attribute.value
        elif attribute.ref in bound:
            values[name] = bound[attribute.ref].value
    return values


def operator_of(
    node: Node, opset_imports: Mapping[str, int], bound: Mapping[str, Attribute] | None = None
) -> Operator:
    """The operator that `node` applies, with its attributes parsed.

    Raises `UnsupportedError` for an unknown operator or version and `ModelError` for
    attributes that do not fit, each with the node as its place.
    """
    try:
        key = _key(node, opset_imports, bound)
        found = None if key is None else _PARSED.get(key)
        if found is not None:
            return found
        version = _version(node, opset_imports)
        operator = registry.get(node.domain, node.op_type)
        _check_types(node, operator, version)
        values = attribute_values(node, bound or {})
        parsed = operator.parse(version, values, len(node.outputs))
        if key is not None and len(_PARSED) < _MOST_PARSED:
            parsed = _PARSED.setdefault(key, parsed)
            _SHARED.add(id(parsed))
        return parsed
    except SardonyxError as error:
        raise error.at(node.label)  # noqa: B904


_PARSED: Final[dict[tuple[Any, ...], Operator]] = {}
_SHARED: Final[set[int]] = set()
_MOST_PARSED: Final = 4096
_PLAIN: Final = frozenset({AttributeType.INTS, AttributeType.STRING, AttributeType.STRINGS})
_LONGEST: Final = 64


def is_shared(operator: Operator) -> bool:
    """Whether `operator` is the one object for all nodes that are alike, for good."""
    return id(operator) in _SHARED


def _key(
    node: Node, opset_imports: Mapping[str, int], bound: Mapping[str, Attribute] | None
) -> tuple[Any, ...] | None:
    """What an operator without graphs, tensors and references is made of; None for another."""
    version = node.version or opset_imports.get(node.domain)
    if version is None:
        return None
    count = len(node.outputs)
    attributes = node.attributes
    if not attributes:
        return node.domain, node.op_type, version, count
    parts: list[Any] = [node.domain, node.op_type, version, count]
    for name, attribute in attributes.items():
        value = attribute.value
        if attribute.ref:
            return None
        is_short = type(value) in (str, tuple) and len(value) <= _LONGEST
        if type(value) is int or (attribute.type in _PLAIN and is_short):
            parts += (name, attribute.type, value)
        elif attribute.type == AttributeType.FLOAT:
            parts += (name, attribute.type, repr(value))
        else:
            return None
    return tuple(parts)


def _version(node: Node, opset_imports: Mapping[str, int]) -> int:
    if node.version is not None:
        return node.version
    domain = canonical_domain(node.domain)
    if not opset_imports and not domain:
        return 1  # IR versions 1 and 2 have no imports
    for imported, version in opset_imports.items():
        if canonical_domain(imported) == domain:
            return version
    raise ModelError(
        f"the model imports no operator set of domain {quote(domain or 'ai.onnx')}",
        hint="add the domain and a version to opset_import",
    )


def _check_types(node: Node, operator: type[Operator], version: int) -> None:
    schema = operator.schema(version)
    newest = registry.NEWEST_OPSET.get(operator.domain, version)
    if version > newest:
        raise UnsupportedError(
            f"version {version} of domain {quote(operator.domain or 'ai.onnx')} is newer than "
            f"the newest known one, {newest}"
        )
    for name, attribute in node.attributes.items():
        spec = schema.attributes.get(name)
        if spec is not None and attribute.type != spec.type:
            raise ModelError(
                f"attribute {quote(name)} is {attribute.type.name}, "
                f"{operator.op_type}-{schema.since_version} takes {spec.type.name}"
            )


def lift(_name: str, value: Any) -> Any:
    """An attribute's value as the array that it became an input as: INT64, FLOAT or strings."""
    import numpy as np

    array = np.asarray(value)
    if array.dtype.kind == "f":
        array = array.astype(np.float32)
    elif array.dtype.kind in "US":
        array = array.astype(object)
    elif array.size == 0:
        array = array.astype(np.int64)
    return ArrayTensor(array).numpy()
