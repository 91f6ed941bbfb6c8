"""What the checks of one model share."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sardonyx.check.report import Place, Report
from sardonyx.errors import SardonyxError, quote
from sardonyx.ir.types import (
    MapType,
    OptionalType,
    SequenceType,
    SparseTensorType,
    TensorType,
)

if TYPE_CHECKING:
    from sardonyx.dtypes import DType
    from sardonyx.infer import Inference
    from sardonyx.ir.devices import DeviceConfiguration
    from sardonyx.ir.graph import Graph
    from sardonyx.ir.model import FunctionKey, Model
    from sardonyx.ir.node import Node
    from sardonyx.ir.types import Type
    from sardonyx.ir.value import Value
    from sardonyx.limits import Limits

__all__ = ["Calls", "Context", "shorten"]

_MOST_NAMED = 3
_MOST_SUGGESTIONS = 20


@dataclass(slots=True)
class Calls:
    """What the nodes of one graph and its subgraphs apply: how many nodes, which functions."""

    nodes: int = 0
    functions: Counter[FunctionKey] = field(default_factory=Counter)


@dataclass(slots=True)
class Context:
    """The model, its report, and what is gathered while its graphs are walked."""

    model: Model
    report: Report
    limits: Limits
    to_run: bool = False
    inference: Inference | None = None
    """The types and shapes that were found."""
    domains: set[str] = field(default_factory=set)
    """Domains of the nodes that were met."""
    calls: dict[FunctionKey | None, Calls] = field(default_factory=dict)
    """By function; those of the main and the training graphs are under None."""
    unreadable: set[Graph] = field(default_factory=set)
    configurations: dict[str, DeviceConfiguration] = field(default_factory=dict)
    missing_domains: set[tuple[str, str]] = field(default_factory=set)
    """Where (a function's name, or "") which domain was reported as not imported."""
    _features: dict[tuple[int, str], tuple[Place, int, str]] = field(default_factory=dict)
    _custom: dict[str, tuple[Place, int]] = field(default_factory=dict)
    _roots: dict[Graph | None, str] = field(default_factory=dict)
    _suggested: int = 0
    _unnamed: int = 0
    _unnamed_at: Place = field(default_factory=Place)
    _types: dict[int, Type | None] = field(default_factory=dict)
    _paths: dict[Graph | None, tuple[str, ...]] = field(default_factory=dict)

    def may_suggest(self) -> bool:
        """Whether to look for a similar name: looking takes long, so only a few times."""
        self._suggested += 1
        return self._suggested <= _MOST_SUGGESTIONS

    @property
    def opset_imports(self) -> dict[str, int]:
        """The model's imports; IR versions 1 and 2 have none, and mean version 1."""
        implied = {"": 1} if 0 < self.model.ir_version < 3 else {}
        return self.model.opset_imports or implied

    def can_read(self, graph: Graph) -> bool:
        """Whether `graph` can be decoded; a report where it cannot, the first time."""
        try:
            _ = graph.nodes
        except SardonyxError as error:
            if graph not in self.unreadable:
                self.unreadable.add(graph)
                self.report.unreadable(error, self.path(graph))
            return False
        return True

    def type_of(self, value: Value) -> Type | None:
        """The declared type; None and a report where it cannot be decoded."""
        lazy = value.lazy_type
        if lazy is None:
            return value.type
        if id(lazy) in self._types:
            return self._types[id(lazy)]
        found: Type | None = None
        try:
            found = lazy.get()
        except SardonyxError as error:
            self.report.unreadable(error)
        self._types[id(lazy)] = found
        return found

    def path(self, graph: Graph | None) -> tuple[str, ...]:
        """The way to `graph`, outermost first."""
        found = self._paths.get(graph)
        if found is None:
            found = self._paths[graph] = self._path(graph)
        return found

    def _path(self, graph: Graph | None) -> tuple[str, ...]:
        path: list[str] = []
        while graph is not None:
            parent = graph.parent
            if parent is None:
                path.append(self._root(graph))
                break
            path.append(f"{_attribute_of(parent, graph)} of {parent.label}")
            graph = parent.graph
        return tuple(reversed(path))

    def _root(self, graph: Graph) -> str:
        if not self._roots:
            self._roots[self.model.graph] = ""
            for index, info in enumerate(self.model.training):
                for part in ("initialization", "algorithm"):
                    self._roots[getattr(info, part)] = f"{part} of training_info {index}"
            for function in self.model.functions.values():
                self._roots[function.graph] = f"function {quote(function.name)}"
        return self._roots.get(graph) or f"graph {quote(graph.name)}"

    def at(
        self,
        node: Node | None = None,
        graph: Graph | None = None,
        value: str = "",
        tensor: str = "",
    ) -> Place:
        """The place of a node, or of a value or tensor in it or in `graph`."""
        if graph is None and node is not None:
            graph = node.graph
        return Place(self.path(graph), node.label if node is not None else "", value, tensor)

    def feature(
        self,
        version: int,
        what: str,
        node: Node | None = None,
        graph: Graph | None = None,
        value: str = "",
        *,
        severity: str = "warning",
    ) -> None:
        """Remember that `what`, which came with IR `version`, is used here."""
        if not 0 < self.model.ir_version < version:
            return
        found = self._features.get((version, what))
        place, count, _ = (self.at(node, graph, value), 0, "") if found is None else found
        self._features[version, what] = place, count + 1, severity

    def metadata(
        self, owner: str, node: Node | None = None, graph: Graph | None = None, value: str = ""
    ) -> None:
        """Remember that metadata, which older readers pass over, is used here."""
        self.feature(10, f"metadata of {owner}", node, graph, value, severity="info")

    def custom(self, message: str, node: Node) -> None:
        """Remember that `node` applies an operator that is not of the standard."""
        found = self._custom.get(message)
        place, count = (self.at(node), 0) if found is None else found
        self._custom[message] = place, count + 1

    def unnamed(self, graph: Graph) -> None:
        """Remember that `graph` has no name."""
        if not self._unnamed:
            self._unnamed_at = self.at(graph=graph)
        self._unnamed += 1

    def report_gathered(self) -> None:
        """Report what was gathered: foreign operators, newer features, each once."""
        for message, (place, count) in self._custom.items():
            times = f", {count} nodes apply it" if count > 1 else ""
            severity = "error" if self.to_run else "warning"
            self.report.add("custom-operator", message + times, place, None, severity)
        if self._unnamed:
            many = f" (nor have {self._unnamed - 1} others)" if self._unnamed > 1 else ""
            self.report.warn("graph-name", f"the graph has no name{many}", self._unnamed_at)
        self._report_features()

    def _report_features(self) -> None:
        for (version, what), (place, count, severity) in self._features.items():
            times = f", {count} times" if count > 1 else ""
            self.report.add(
                "ir-feature",
                f"{what} came with IR version {version}, the model has {self.model.ir_version}"
                f"{times}",
                place,
                f"raise ir_version to {version}",
                severity,
            )

    def check_dtype(
        self,
        dtype: DType | None,
        node: Node | None = None,
        graph: Graph | None = None,
        value: str = "",
    ) -> None:
        """Note an element type that is newer than the model's IR version."""
        if dtype is not None and dtype.since_ir > self.model.ir_version:
            self.feature(dtype.since_ir, f"element type {dtype.name}", node, graph, value)

    def check_type(self, known: Type | None, graph: Graph, value: str) -> None:
        """Note what is newer than the model's IR version in a type, and types that are none."""
        if known is None:
            return
        if isinstance(known, TensorType):
            self.check_dtype(known.dtype, None, graph, value)
            return
        if isinstance(known, SparseTensorType):
            self.feature(8, "a sparse tensor type", None, graph, value)
            self.check_dtype(known.dtype, None, graph, value)
        elif isinstance(known, OptionalType):
            self.feature(8, "an optional type", None, graph, value)
            self.check_type(known.element, graph, value)
        elif isinstance(known, SequenceType):
            self.check_type(known.element, graph, value)
        elif isinstance(known, MapType):
            key = known.key
            if key is None or not (key.is_integer or key.kind == "string") or key.bits in {2, 4}:
                self.report.error(
                    "invalid-type",
                    f"{known}: keys of maps are integers of 8 to 64 bits or strings",
                    self.at(graph=graph, value=value),
                )
            self.check_type(known.value, graph, value)
        elif not known.name:
            self.report.error(
                "invalid-type", "an opaque type without a name", self.at(graph=graph, value=value)
            )


def _attribute_of(node: Node, graph: Graph) -> str:
    for attribute in node.attributes.values():
        if any(inner is graph for inner in attribute.graphs()):
            return quote(attribute.name)[1:-1]
    return "subgraph"


def shorten(names: list[str]) -> str:
    """The first few of `names` in quotes, and how many more there are."""
    shown = ", ".join(map(quote, names[:_MOST_NAMED]))
    more = len(names) - _MOST_NAMED
    return f"{shown} and {more} more" if more > 0 else shown
