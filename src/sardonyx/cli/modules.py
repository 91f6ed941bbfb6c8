"""The modules that a model was made of, as far as names tell."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sardonyx.ir.graph import Graph
    from sardonyx.ir.node import Node
    from sardonyx.ir.value import Value

__all__ = ["Module", "module_tree"]

_DEEPEST = 32
_SPLIT = re.compile(r"[/.]")


@dataclass
class Module:
    """A module: its own nodes and parameters, and the modules inside."""

    name: str
    children: dict[str, Module] = field(default_factory=dict)
    operators: Counter[str] = field(default_factory=Counter)
    parameters: int = 0

    def at(self, path: Sequence[str]) -> Module:
        """The module at `path` below this one, made where it is missing."""
        module = self
        for part in path[:_DEEPEST]:
            if part not in module.children:
                module.children[part] = Module(part)
            module = module.children[part]
        return module

    def walk(self) -> list[Module]:
        """The module and all inside it, outer before inner."""
        found = [self]
        for module in found:
            found.extend(module.children.values())
        return found

    def inside(self) -> list[Module]:
        """The modules directly inside: in the order of their numbers, or else of appearance."""
        modules = list(self.children.values())
        if all(module.name.isdecimal() for module in modules):
            modules.sort(key=lambda module: (len(module.name), module.name))
        return modules

    def depth_of(self, lines: int) -> int:
        """How many levels can be shown in `lines` lines; at least 1."""
        level, count, depth = self.inside(), 0, 0
        while level:
            count += len(level)
            if depth and count > lines:
                break
            depth += 1
            level = [child for module in level for child in module.children.values()]
        return depth

    def totals(self) -> tuple[int, int, Counter[str]]:
        """Nodes, parameters and operators, those of the modules inside included."""
        operators: Counter[str] = Counter()
        parameters = 0
        for module in self.walk():
            operators.update(module.operators)
            parameters += module.parameters
        return operators.total(), parameters, operators

    def to_json(self, depth: int) -> dict[str, Any]:
        """As plain data, down to `depth` levels."""
        nodes, parameters, operators = self.totals()
        document: dict[str, Any] = {
            "name": self.name,
            "nodes": nodes,
            "parameters": parameters,
            "operators": dict(operators.most_common()),
        }
        if depth > 0 and self.children:
            document["modules"] = [child.to_json(depth - 1) for child in self.inside()]
        return document


def module_tree(graph: Graph) -> Module | None:
    """The tree of modules, or None where the names show none.

    A node's module is what its metadata says (``sardonyx.module``, or PyTorch's ``namespace``),
    or its name before the last ``/``; a weight's is its name before the last ``.`` or ``/``, or
    else the module of the first node that reads it.
    """
    root = Module("")
    homes: dict[Node, list[str]] = {}
    for node in graph.nodes:
        path = _path_of_node(node)
        homes[node] = path
        root.at(path).operators[node.op_type] += 1
    for value in graph.initializers:
        if value.const is not None and _is_parameter(value):
            root.at(_path_of_weight(value, homes)).parameters += _count(value)
    return root if root.children else None


def _is_parameter(value: Value) -> bool:
    const = value.const
    return const is not None and len(const.shape) > 0


def _count(value: Value) -> int:
    from sardonyx.ir.tensor import Tensor

    return value.const.size if isinstance(value.const, Tensor) else 0


def _path_of_node(node: Node) -> list[str]:
    metadata = node.metadata
    if "sardonyx.module" in metadata:
        return _parts(metadata["sardonyx.module"])
    if "namespace" in metadata:
        levels = [level.split(":")[0].strip() for level in metadata["namespace"].split("/")]
        return _absolute(levels[:-1])
    levels = node.name.strip("/").split("/")
    return _absolute(levels[:-1])


def _absolute(levels: Sequence[str]) -> list[str]:
    """Path of nested levels, some of which repeat the levels above: features/features.0."""
    path: list[str] = []
    for level in levels[:_DEEPEST]:
        parts = _parts(level)
        path = parts if path and parts[: len(path)] == path else [*path, *parts]
    return path


def _parts(text: str) -> list[str]:
    return [part for part in _SPLIT.split(text, _DEEPEST)[:_DEEPEST] if part]


def _path_of_weight(value: Value, homes: dict[Node, list[str]]) -> list[str]:
    parts = _parts(value.name)
    if len(parts) > 1 and "::" not in value.name:
        return parts[:-1]
    return next((homes[user] for user in value.users if user in homes), [])
