"""Nodes and their attributes."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Any

from sardonyx.ir.value import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from sardonyx.ir.devices import NodeDeviceConfiguration
    from sardonyx.ir.graph import Graph

__all__ = ["Attribute", "AttributeType", "Node", "attribute_type_of"]


class AttributeType(IntEnum):
    """AttributeProto.AttributeType, by its numbers."""

    UNDEFINED = 0
    FLOAT = 1
    INT = 2
    STRING = 3
    TENSOR = 4
    GRAPH = 5
    FLOATS = 6
    INTS = 7
    STRINGS = 8
    TENSORS = 9
    GRAPHS = 10
    SPARSE_TENSOR = 11
    SPARSE_TENSORS = 12
    TYPE_PROTO = 13
    TYPE_PROTOS = 14

    @property
    def is_list(self) -> bool:
        """Whether values of this type are tuples."""
        return self in _LISTS


_LISTS = frozenset(
    {
        AttributeType.FLOATS,
        AttributeType.INTS,
        AttributeType.STRINGS,
        AttributeType.TENSORS,
        AttributeType.GRAPHS,
        AttributeType.SPARSE_TENSORS,
        AttributeType.TYPE_PROTOS,
    }
)


class Attribute:
    """A named constant of a node.

    `value` is, by `type`: float, int, str (bytes where not UTF-8), Tensor, SparseTensor, Graph,
    a Type, or a tuple of these. In a function body `ref` may name the function's attribute
    that gives the value; then `value` is None.
    """

    __slots__ = ("doc", "name", "ref", "type", "unknown", "value")

    def __init__(
        self,
        name: str,
        type: AttributeType,
        value: Any = None,
        *,
        ref: str = "",
    ) -> None:
        self.name = name
        self.type = type
        self.value = value
        self.ref = ref
        self.doc = ""
        self.unknown = b""

    def graphs(self) -> Iterator[Graph]:
        """The graphs it holds."""
        if self.value is not None:
            if self.type == AttributeType.GRAPH:
                yield self.value
            elif self.type == AttributeType.GRAPHS:
                yield from self.value

    def __repr__(self) -> str:
        return f"<Attribute {self.name}={'@' + self.ref if self.ref else repr(self.value)}>"


def attribute_type_of(value: object) -> AttributeType:
    """The attribute type that holds the Python `value`; an empty sequence is INTS."""
    from sardonyx.ir.graph import Graph
    from sardonyx.ir.tensor import SparseTensor, Tensor
    from sardonyx.ir.types import Type

    single: tuple[tuple[Any, AttributeType], ...] = (
        ((bool, int), AttributeType.INT),
        (float, AttributeType.FLOAT),
        ((str, bytes), AttributeType.STRING),
        (Tensor, AttributeType.TENSOR),
        (SparseTensor, AttributeType.SPARSE_TENSOR),
        (Graph, AttributeType.GRAPH),
        (Type.__args__, AttributeType.TYPE_PROTO),
    )
    for python_type, kind in single:
        if isinstance(value, python_type):
            return kind
    if isinstance(value, (list, tuple)):
        kinds = {attribute_type_of(item) for item in value} or {AttributeType.INT}
        if kinds == {AttributeType.INT, AttributeType.FLOAT}:
            kinds = {AttributeType.FLOAT}
        if len(kinds) == 1 and not (kind := kinds.pop()).is_list:
            return AttributeType[f"{kind.name}S"]
    raise TypeError(f"no attribute type holds {value!r}")


class Node:
    """One application of an operator: `op_type` of `domain` on `inputs`, giving `outputs`.

    A missing optional input is None. Nodes live in the linked list of their graph. `version` is the
    opset version that the node is written in where that is not the imported one: only in private
    copies that are compiled, since a file cannot say it.
    """

    __slots__ = (
        "_attributes",
        "_metadata",
        "_next",
        "_previous",
        "devices",
        "doc",
        "domain",
        "graph",
        "inputs",
        "name",
        "op_type",
        "outputs",
        "overload",
        "unknown",
        "version",
    )

    def __init__(
        self,
        op_type: str,
        inputs: Sequence[Value | None] = (),
        outputs: int | Sequence[Value] = 1,
        attributes: Iterable[Attribute] = (),
        *,
        domain: str = "",
        name: str = "",
        overload: str = "",
    ) -> None:
        self.op_type = op_type
        self.domain = domain
        self.overload = overload
        self.name = name
        self.inputs: tuple[Value | None, ...] = tuple(inputs)
        if isinstance(outputs, int):
            outputs = [Value() for _ in range(outputs)]
        self.outputs: tuple[Value, ...] = tuple(outputs)
        self._attributes: dict[str, Attribute] | Callable[[], dict[str, Attribute]] = {
            attribute.name: attribute for attribute in attributes
        }
        self.doc = ""
        self.unknown = b""
        self._metadata: dict[str, str] | None = None
        self.devices: tuple[NodeDeviceConfiguration, ...] = ()
        self.version: int | None = None
        self.graph: Graph | None = None
        self._next: Node | None = None
        self._previous: Node | None = None
        for value in self.inputs:
            if value is not None:
                value.users[self] = value.users.get(self, 0) + 1
        for index, output in enumerate(self.outputs):
            output.producer = self
            output.index = index
        for attribute in self._attributes.values():
            for graph in attribute.graphs():
                graph.parent = self

    @property
    def attributes(self) -> dict[str, Attribute]:
        """Attributes by name, decoded on first use."""
        if not isinstance(self._attributes, dict):
            self._attributes = self._attributes()
        return self._attributes

    @property
    def metadata(self) -> dict[str, str]:
        """Keys and values attached to the node (IR 10)."""
        if self._metadata is None:
            self._metadata = {}
        return self._metadata

    @property
    def output(self) -> Value:
        """The only output."""
        (value,) = self.outputs
        return value

    def attribute(self, name: str, default: Any = None) -> Any:
        """The value of attribute `name`, or `default`."""
        found = self.attributes.get(name)
        return default if found is None else found.value

    def set_attribute(self, name: str, value: Any, type: AttributeType | None = None) -> None:
        """Give attribute `name` a value; its type follows the Python type unless given."""
        if isinstance(value, list):
            value = tuple(value)
        attribute = Attribute(name, type or attribute_type_of(value), value)
        self.attributes[name] = attribute
        for graph in attribute.graphs():
            graph.parent = self

    def set_input(self, position: int, value: Value | None) -> None:
        """Make input `position` read `value` (None: omitted), keeping `users` right."""
        old = self.inputs[position]
        if old is not None:
            if old.users[self] == 1:
                del old.users[self]
            else:
                old.users[self] -= 1
        if value is not None:
            value.users[self] = value.users.get(self, 0) + 1
        self.inputs = (*self.inputs[:position], value, *self.inputs[position + 1 :])

    def detach(self) -> None:
        """Stop reading every input: what removing a node from its graph does."""
        for position in range(len(self.inputs)):
            self.set_input(position, None)

    def subgraphs(self) -> Iterator[Graph]:
        """The graphs in its attributes."""
        for attribute in self.attributes.values():
            yield from attribute.graphs()

    @property
    def label(self) -> str:
        """How messages name it: ``node 'conv1' (Conv)``."""
        from sardonyx.errors import quote

        operator = f"{self.domain}.{self.op_type}" if self.domain else self.op_type
        if self.name:
            return f"node {quote(self.name)} ({quote(operator)[1:-1]})"
        made = next((value.name for value in self.outputs if value.name), "")
        return f"node of {quote(made)} ({quote(operator)[1:-1]})"

    def __repr__(self) -> str:
        inputs = ", ".join("" if value is None else f"%{value.name}" for value in self.inputs)
        outputs = ", ".join(f"%{value.name}" for value in self.outputs)
        return f"<Node {outputs} = {self.op_type}({inputs})>"
