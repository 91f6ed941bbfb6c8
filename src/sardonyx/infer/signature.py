"""When two calls of a function are inferred alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sardonyx.ir.node import AttributeType

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sardonyx.ir.model import Function
    from sardonyx.ir.node import Attribute
    from sardonyx.ir.tensor import Array
    from sardonyx.ops.fact import Fact

__all__ = ["signature"]

_OBJECTS = frozenset(
    {
        AttributeType.TENSOR,
        AttributeType.TENSORS,
        AttributeType.GRAPH,
        AttributeType.GRAPHS,
        AttributeType.SPARSE_TENSOR,
        AttributeType.SPARSE_TENSORS,
    }
)


def signature(
    function: Function, inputs: Sequence[Fact | None], attributes: Mapping[str, Attribute]
) -> tuple[Any, ...]:
    """A key that is equal for calls whose inputs are known alike and whose attributes are equal."""
    return (
        function.graph,
        tuple([_of_fact(fact) for fact in inputs]),
        tuple([(name, _of_attribute(attributes[name])) for name in sorted(attributes)]),
    )


def _of_fact(fact: Fact | None) -> Any:
    if fact is None:
        return None
    elements = fact.elements
    return (
        fact.type,
        None if fact.value is None else _of_contents(fact.value),
        None if elements is None else tuple([_of_fact(each) for each in elements]),
    )


def _of_contents(contents: Array) -> Any:
    if contents.dtype == object:
        return contents.shape, tuple([(type(item), item) for item in contents.reshape(-1)])
    return contents.shape, contents.dtype, contents.tobytes()


def _of_attribute(attribute: Attribute) -> Any:
    value = attribute.value
    if attribute.type in _OBJECTS:
        return attribute.type, tuple(map(id, value)) if isinstance(value, tuple) else id(value)
    return attribute.type, repr(value)
