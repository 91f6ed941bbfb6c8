"""Names that stand as text: quantization annotations, shardings, Gradient, training bindings."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from sardonyx.compose.scopes import all_graphs, gradient_names
from sardonyx.ir.node import Attribute

if TYPE_CHECKING:
    from collections.abc import Callable

    from sardonyx.ir.graph import Graph
    from sardonyx.ir.model import Model
    from sardonyx.ir.node import Node

    Renaming = Callable[[str], str]

__all__ = ["rename_bindings", "rename_mentions", "rename_node_mentions"]


def rename_mentions(graph: Graph, renaming: Renaming) -> None:
    """Change the names of values that stand as text in `graph` and the graphs within it."""
    for each in all_graphs(graph):
        for annotation in each.quantization:
            annotation.tensor_name = renaming(annotation.tensor_name)
            for key, name in annotation.parameters.items():
                annotation.parameters[key] = renaming(name)
        for node in each.nodes:
            rename_node_mentions(node, renaming)


def rename_node_mentions(node: Node, renaming: Renaming) -> None:
    """Change the names of values that stand as text in `node` itself."""
    if node.devices:
        node.devices = tuple(
            [
                replace(
                    device,
                    sharding_specs=tuple(
                        [
                            replace(spec, tensor_name=renaming(spec.tensor_name))
                            for spec in device.sharding_specs
                        ]
                    ),
                )
                for device in node.devices
            ]
        )
    if gradient_names(node):
        for key in ("xs", "zs", "y"):
            found = node.attributes.get(key)
            if found is None or found.value is None:
                continue
            single = isinstance(found.value, str)
            value = renaming(found.value) if single else tuple(map(renaming, found.value))
            node.attributes[key] = Attribute(key, found.type, value)


def rename_bindings(model: Model, renaming: Renaming) -> None:
    """Change the names in the bindings of training information."""
    for info in model.training:
        for bindings in (info.initialization_binding, info.update_binding):
            changed = {renaming(key): renaming(name) for key, name in bindings.items()}
            bindings.clear()
            bindings.update(changed)
