"""Models and functions: what one file holds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sardonyx.ir.devices import DeviceConfiguration
    from sardonyx.ir.graph import Graph
    from sardonyx.ir.node import Attribute, Node

__all__ = ["IR_VERSION", "Function", "FunctionKey", "Model", "TrainingInfo", "canonical_domain"]

IR_VERSION: Final = 14
"""The newest version of the file format that is read and written."""

FunctionKey = tuple[str, str, str]
"""Domain, name and overload."""


def canonical_domain(domain: str) -> str:
    """`domain` with the two spellings of the default domain made one: ``ai.onnx`` -> ``""``."""
    return "" if domain == "ai.onnx" else domain


@dataclass(slots=True, eq=False)
class Function:
    """An operator that the model defines by a graph (FunctionProto).

    `attributes` are the names of attributes without a default, `defaults` those with one.
    """

    name: str
    domain: str
    graph: Graph
    opset_imports: dict[str, int]
    overload: str = ""
    attributes: list[str] = field(default_factory=list)
    defaults: dict[str, Attribute] = field(default_factory=dict)
    doc: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    unknown: bytes = b""

    @property
    def key(self) -> FunctionKey:
        """Domain, name and overload."""
        return canonical_domain(self.domain), self.name, self.overload


@dataclass(slots=True, eq=False)
class TrainingInfo:
    """How to train the model (TrainingInfoProto); bindings map graph outputs to initializers."""

    initialization: Graph | None = None
    algorithm: Graph | None = None
    initialization_binding: dict[str, str] = field(default_factory=dict)
    update_binding: dict[str, str] = field(default_factory=dict)
    unknown: bytes = b""


@dataclass(slots=True, eq=False)
class Model:
    """One ONNX file: a graph, the operator sets it uses, and what is known about it."""

    graph: Graph
    opset_imports: dict[str, int]
    ir_version: int = IR_VERSION
    producer_name: str = ""
    producer_version: str = ""
    domain: str = ""
    model_version: int | None = None
    doc: str = ""
    functions: dict[FunctionKey, Function] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    training: list[TrainingInfo] = field(default_factory=list)
    configurations: list[DeviceConfiguration] = field(default_factory=list)
    unknown: bytes = b""
    source: object = None
    """What the model was read from; it keeps mapped weights alive."""

    def opset(self, domain: str = "") -> int | None:
        """The imported version of `domain`, or None."""
        domain = canonical_domain(domain)
        for imported, version in self.opset_imports.items():
            if canonical_domain(imported) == domain:
                return version
        return None

    def graphs(self) -> Iterator[Graph]:
        """The main graph, the functions' and the training graphs (not subgraphs)."""
        yield self.graph
        for function in self.functions.values():
            yield function.graph
        for info in self.training:
            yield from (part for part in (info.initialization, info.algorithm) if part)

    def all_nodes(self) -> Iterator[Node]:
        """Every node: graphs, functions, training, and all their subgraphs."""
        for graph in self.graphs():
            yield from graph.all_nodes()

    def function_of(self, node: Node) -> Function | None:
        """The model-local function that `node` calls, if any."""
        return self.functions.get((canonical_domain(node.domain), node.op_type, node.overload))

    def __repr__(self) -> str:
        return f"<Model of {self.graph!r}, opsets {self.opset_imports}>"
