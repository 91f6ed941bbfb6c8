"""Graphs: nodes in a linked list, inputs, outputs and initializers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from sardonyx.ir.node import Node
    from sardonyx.ir.value import Value

__all__ = ["Graph", "NodeList", "QuantizationAnnotation"]


@dataclass(slots=True)
class QuantizationAnnotation:
    """Names of the tensors that hold a tensor's quantization parameters (TensorAnnotation)."""

    tensor_name: str
    parameters: dict[str, str] = field(default_factory=dict)
    unknown: bytes = b""


class NodeList:
    """The nodes of one graph in order: a doubly linked list.

    Removing and inserting while iterating is safe: a removed node leads on to what followed it.
    """

    __slots__ = ("_first", "_graph", "_last", "_length")

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._first: Node | None = None
        self._last: Node | None = None
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Node]:
        node = self._first
        while node is not None:
            if node.graph is self._graph:
                yield node
            node = node._next  # noqa: SLF001

    def __reversed__(self) -> Iterator[Node]:
        node = self._last
        while node is not None:
            if node.graph is self._graph:
                yield node
            node = node._previous  # noqa: SLF001

    @property
    def first(self) -> Node | None:
        """The first node, if any."""
        return self._first

    @property
    def last(self) -> Node | None:
        """The last node, if any."""
        return self._last

    def append(self, node: Node) -> Node:
        """Add `node` at the end."""
        return self._link(node, self._last, None)

    def extend(self, nodes: Iterable[Node]) -> None:
        """Add `nodes` at the end, in order."""
        for node in nodes:
            self.append(node)

    def insert_before(self, place: Node, node: Node) -> Node:
        """Add `node` just before `place`."""
        return self._link(node, place._previous, place)  # noqa: SLF001

    def insert_after(self, place: Node, node: Node) -> Node:
        """Add `node` just after `place`."""
        return self._link(node, place, place._next)  # noqa: SLF001

    def remove(self, node: Node) -> None:
        """Take `node` out; it stops reading its inputs. Its outputs must have no users left."""
        self._unlink(node)
        node.detach()

    def move_before(self, place: Node, node: Node) -> None:
        """Move `node` to just before `place`."""
        self._unlink(node)
        self.insert_before(place, node)

    def move_to(self, other: NodeList, node: Node, place: Node) -> None:
        """Move `node` of this graph to just before `place` of `other`."""
        self._unlink(node)
        other.insert_before(place, node)

    def _unlink(self, node: Node) -> None:
        if node.graph is not self._graph:
            raise ValueError(f"{node!r} is not in this graph")
        before, after = node._previous, node._next  # noqa: SLF001
        if before is None:
            self._first = after
        else:
            before._next = after  # noqa: SLF001
        if after is None:
            self._last = before
        else:
            after._previous = before  # noqa: SLF001
        node.graph = None
        self._length -= 1

    def _link(self, node: Node, before: Node | None, after: Node | None) -> Node:
        if node.graph is not None:
            raise ValueError(f"{node!r} is in a graph already")
        node.graph = self._graph
        node._previous, node._next = before, after  # noqa: SLF001
        if before is None:
            self._first = node
        else:
            before._next = node  # noqa: SLF001
        if after is None:
            self._last = node
        else:
            after._previous = node  # noqa: SLF001
        self._length += 1
        return node


class Graph:
    """Nodes in order, with the values that enter and leave.

    `initializers` are the values with `const`; one that also is an input is that input's
    default. `parent` is the node whose attribute holds this graph. `value_info` lists the values
    that the file declares apart, in the file's order; other typed values follow them when saved.
    """

    __slots__ = (
        "_initializers",
        "_inputs",
        "_metadata",
        "_nodes",
        "_outputs",
        "_pending",
        "_quantization",
        "_value_info",
        "doc",
        "name",
        "parent",
        "unknown",
    )

    def __init__(
        self,
        name: str = "",
        inputs: Iterable[Value] = (),
        outputs: Iterable[Value] = (),
        nodes: Iterable[Node] = (),
        initializers: Iterable[Value] = (),
        *,
        pending: Callable[[Graph], None] | None = None,
    ) -> None:
        self.name = name
        self.doc = ""
        self.unknown = b""
        self.parent: Node | None = None
        self._inputs = list(inputs)
        self._outputs = list(outputs)
        self._initializers = list(initializers)
        self._nodes = NodeList(self)
        self._nodes.extend(nodes)
        self._value_info: list[Value] = []
        self._quantization: list[QuantizationAnnotation] = []
        self._metadata: dict[str, str] = {}
        self._pending = pending

    @property
    def inputs(self) -> list[Value]:
        """Values that the caller gives, in order."""
        self._load()
        return self._inputs

    @property
    def outputs(self) -> list[Value]:
        """Values that the caller gets, in order."""
        self._load()
        return self._outputs

    @property
    def initializers(self) -> list[Value]:
        """Values that are constants of the graph."""
        self._load()
        return self._initializers

    @property
    def nodes(self) -> NodeList:
        """The nodes, in order."""
        self._load()
        return self._nodes

    @property
    def value_info(self) -> list[Value]:
        """Values that the file declares in value_info, in its order."""
        self._load()
        return self._value_info

    @property
    def quantization(self) -> list[QuantizationAnnotation]:
        """Quantization annotations of tensors (IR 5)."""
        self._load()
        return self._quantization

    @property
    def metadata(self) -> dict[str, str]:
        """Keys and values attached to the graph (IR 10)."""
        self._load()
        return self._metadata

    @property
    def required_inputs(self) -> list[Value]:
        """The inputs that have no default."""
        return [value for value in self.inputs if value.const is None]

    def values(self) -> dict[str, Value]:
        """Every named value of this graph (not of subgraphs), by name."""
        found = {value.name: value for value in (*self.inputs, *self.initializers)}
        for node in self.nodes:
            for value in node.outputs:
                if value.name:
                    found[value.name] = value
        return found

    def all_nodes(self) -> Iterator[Node]:
        """The nodes of this graph and of all subgraphs, outer before inner."""
        stack = [iter(self.nodes)]
        while stack:
            for node in stack[-1]:
                yield node
                inner = [iter(graph.nodes) for graph in node.subgraphs()]
                if inner:
                    stack.extend(reversed(inner))
                    break
            else:
                stack.pop()

    def _load(self) -> None:
        if self._pending is not None:
            pending, self._pending = self._pending, None
            try:
                pending(self)
            except BaseException:
                self._clear()
                self._pending = pending
                raise

    def _clear(self) -> None:
        self._nodes = NodeList(self)
        for part in (self._inputs, self._outputs, self._initializers, self._value_info):
            part.clear()
        self._quantization.clear()
        self._metadata.clear()

    def __repr__(self) -> str:
        return f"<Graph {self.name!r}>"
