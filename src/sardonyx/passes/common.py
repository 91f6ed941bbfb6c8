"""Nodes that compute the same become one; nodes that nothing needs go."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sardonyx.ir.model import canonical_domain
from sardonyx.ir.node import AttributeType
from sardonyx.ir.tensor import Tensor
from sardonyx.rewrite.scene import Patch

if TYPE_CHECKING:
    from collections.abc import Hashable

    from sardonyx.ir.graph import Graph
    from sardonyx.ir.node import Attribute, Node
    from sardonyx.ir.value import Value
    from sardonyx.rewrite.scene import Scene

__all__ = ["common_subexpressions", "dead_code"]

_COMPARED_BYTES: Final = 4096


def common_subexpressions(scene: Scene) -> None:
    """Let nodes with equal operators, attributes and inputs be one, in each graph.

    Small equal constants count as one value. Random operators and those with subgraphs stay.
    """
    for graph in scene.graphs:
        constants = _constants(scene, graph)
        seen: dict[Hashable, Node] = {}
        for node in graph.nodes:
            if scene.is_done:
                return
            key = _key(scene, node, constants)
            if key is None:
                continue
            first = seen.setdefault(key, node)
            if first is not node and not any(scene.is_given_out(v) for v in node.outputs):
                for old, new in zip(node.outputs, first.outputs, strict=True):
                    old.replace_uses(new)
                label = node.label
                scene.sweep(node)
                scene.record(Patch("common-subexpressions", label, (node.op_type,)))


def dead_code(scene: Scene) -> None:
    """Take out nodes that nothing needs, and constants that nothing reads."""
    for graph in scene.graphs:
        for node in reversed(graph.nodes):
            if not scene.is_used(node):
                scene.sweep(node)
        scene.builder(graph).forget_constants()
    for graph in scene.graphs:
        inputs = set(graph.inputs)
        graph.initializers[:] = [
            value
            for value in graph.initializers
            if value.users or value in inputs or scene.is_given_out(value)
        ]


def _constants(scene: Scene, graph: Graph) -> dict[Value, Hashable]:
    found: dict[Value, Hashable] = {}
    for value in graph.initializers:
        const = value.const
        if isinstance(const, Tensor) and value not in scene.overridable:
            if const.nbytes <= _COMPARED_BYTES and const.dtype.bits and not const.is_detached:
                found[value] = (const.dtype, const.shape, bytes(const.raw()))
            else:
                found[value] = id(const)
    return found


def _key(scene: Scene, node: Node, constants: dict[Value, Hashable]) -> Hashable | None:
    operator = scene.operator(node)
    if operator is None or not operator.deterministic:
        return None
    attributes = []
    for name in sorted(node.attributes):
        attribute = node.attributes[name]
        held = _held(attribute)
        if held is None:
            return None
        attributes.append((name, attribute.type, held))
    return (
        canonical_domain(node.domain),
        node.op_type,
        node.version,
        tuple([bool(value.name or value.users) for value in node.outputs]),
        tuple([value and constants.get(value, value) for value in node.inputs]),
        tuple(attributes),
    )


def _held(attribute: Attribute) -> Hashable | None:
    value = attribute.value
    if attribute.ref:
        return None
    if attribute.type == AttributeType.TENSOR:
        if value.nbytes <= _COMPARED_BYTES and value.dtype.bits and not value.is_detached:
            return (value.dtype, value.shape, bytes(value.raw()))
        return id(value)
    if attribute.type in (AttributeType.FLOAT, AttributeType.FLOATS):
        return repr(value)
    plain = (AttributeType.INT, AttributeType.INTS, AttributeType.STRING, AttributeType.STRINGS)
    return value if attribute.type in plain else None
