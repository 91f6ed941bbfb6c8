"""What was read of a graph before its names are resolved."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sardonyx.ir.node import Attribute
    from sardonyx.ir.tensor import SparseTensor, Tensor
    from sardonyx.ir.text.details import Details
    from sardonyx.ir.types import Type

__all__ = ["GraphSyntax", "NodeSyntax", "ValueSyntax"]


@dataclass(slots=True)
class ValueSyntax:
    """A value that is declared: its name, type and details, and its data where it has some."""

    name: str
    type: Type | None
    details: Details
    data: Tensor | SparseTensor | None = None


@dataclass(slots=True)
class NodeSyntax:
    """A node: names for values; the graphs in its attributes are `GraphSyntax`."""

    name: str
    outputs: tuple[str, ...]
    domain: str
    op_type: str
    overload: str
    inputs: tuple[str, ...]
    attributes: tuple[Attribute, ...]
    details: Details


@dataclass(slots=True)
class GraphSyntax:
    """A graph or the body of a function: `listed` are initializers and value infos in order."""

    name: str
    inputs: list[ValueSyntax] = field(default_factory=list)
    outputs: list[ValueSyntax] = field(default_factory=list)
    listed: list[ValueSyntax] = field(default_factory=list)
    nodes: list[NodeSyntax] = field(default_factory=list)
    details: Details = field(default_factory=dict)
