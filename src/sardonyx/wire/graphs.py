"""Graphs from GraphProto and FunctionProto: checked when opened, built when first used."""

from __future__ import annotations

import gc
from array import array
from sys import intern
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from sardonyx.ir.graph import Graph, QuantizationAnnotation
from sardonyx.ir.node import Node
from sardonyx.ir.value import Value
from sardonyx.wire.attributes import LazyAttributes, read_attributes
from sardonyx.wire.columns import Column, decode_texts, read_message, read_messages
from sardonyx.wire.configurations import read_node_configuration
from sardonyx.wire.entries import read_entries
from sardonyx.wire.fields import collect, texts, triples, unknown_bytes
from sardonyx.wire.schema import message
from sardonyx.wire.tensors import read_sparse, read_tensor
from sardonyx.wire.typeproto import lazy_type

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sardonyx.ir.tensor import SparseTensor, Tensor
    from sardonyx.wire.columns import Table
    from sardonyx.wire.fields import Reader

__all__ = ["open_graph", "open_parts"]

_MANY = 1000
_LEVELS = 3
_TENSOR_FIELDS = ("t", "tensors", "sparse_tensor", "sparse_tensors")
_GRAPH_FIELDS = ("g", "graphs")
_NODE, _INFO, _GRAPH = (message(name) for name in ("NodeProto", "ValueInfoProto", "GraphProto"))
_NODE_DETAILS = frozenset(_NODE.numbers) - {
    _NODE.by_name[name].number for name in ("input", "output", "name", "op_type", "attribute")
} | {0}
_INFO_DETAILS = frozenset(_INFO.numbers) - {
    _INFO.by_name[name].number for name in ("name", "type")
} | {0}
_GRAPH_REST = frozenset(
    _GRAPH.by_name[name].number for name in ("quantization_annotation", "metadata_props")
)

Scope = dict[str, Value]


def open_graph(
    reader: Reader,
    start: int,
    end: int,
    depth: int = 2,
    scopes: tuple[Scope, ...] = (),
    linked: Callable[[], Scope] | None = None,
) -> Graph:
    """The graph of the GraphProto from `start` to `end`, to be built when it is first used.

    The wire form of all its messages is checked now. `scopes` are the names of the enclosing
    graphs, innermost first; a graph that has any is built at once. `linked` gives, when the
    graph is built, the names of another graph that it reads from (training).
    """
    if depth + _LEVELS > reader.context.depth:
        needed = f"more than {depth + _LEVELS - 1}"
        raise reader.limit("depth", reader.context.depth, needed, start)
    table = read_message(reader, start, end, message("GraphProto"))
    parts = open_parts(table, start, depth, scopes)
    parts.linked = linked
    graph = Graph(table.text("name"), pending=parts)
    graph.doc = table.prose("doc_string")
    graph.unknown = table.unknown()
    if scopes:
        _ = graph.nodes
    return graph


def open_parts(table: Table, start: int, depth: int, scopes: tuple[Scope, ...] = ()) -> GraphParts:
    """The parts of the graph or function in `table`, checked: what builds it."""
    context, limits = table.reader.context, table.reader.context.limits
    context.graphs += 1
    if context.graphs > limits.graphs + 1:
        raise table.reader.limit("graphs", limits.graphs, f"{context.graphs - 1} or more", start)
    parts = GraphParts(table, depth, scopes)
    context.nodes += parts.nodes.count
    if context.nodes > limits.nodes:
        place = int(table.column("node").starts[-1])
        raise table.reader.limit("nodes", limits.nodes, context.nodes, place)
    return parts


class GraphParts:
    """One graph's messages, and how to build the graph from them (it is `Graph.pending`)."""

    def __init__(self, table: Table, depth: int, scopes: tuple[Scope, ...]) -> None:
        self.reader = table.reader
        self.table = table
        self.depth = depth
        self.scopes = scopes
        self.linked: Callable[[], Scope] | None = None
        self.is_function = table.kind.name == "FunctionProto"
        self.nodes = self._checked("NodeProto", "node", "op_type")
        self.nodes.check_names("input", "output", "name", "op_type", "domain", "overload")
        self.infos: dict[str, Table] = {}
        for field in ("value_info",) if self.is_function else ("value_info", "input", "output"):
            infos = self.infos[field] = self._checked("ValueInfoProto", field, "name")
            infos.check_names("name")
        if not self.is_function:
            read_messages(self.reader, "TensorProto", table.column("initializer"), ())
            read_messages(self.reader, "SparseTensorProto", table.column("sparse_initializer"), ())

    def _checked(self, kind: str, field: str, required: str) -> Table:
        """The messages of `field`, each of which must give `required`."""
        spans = self.table.column(field)
        found = read_messages(self.reader, kind, spans)
        if not found.count:
            return found
        column = found.column(required).last()
        present = np.zeros(found.count, np.bool_)
        present[column.rows[column.ends > column.starts]] = True
        missing = np.flatnonzero(~present)
        if missing.size:
            place = int(spans.starts[missing[0]]) - 1
            raise self.reader.error(f"a {kind} without {required}", place)
        return found

    def __call__(self, graph: Graph) -> None:
        """Fill `graph`."""
        context = self.reader.context
        context.verify()
        before = context.nodes, context.graphs
        pause = self.nodes.count > _MANY and gc.isenabled()
        if pause:
            gc.disable()
        try:
            self._fill(graph)
        except BaseException:
            context.nodes, context.graphs = before
            raise
        finally:
            if pause:
                gc.enable()

    def _fill(self, graph: Graph) -> None:
        scope: Scope = {}
        if self.linked is not None:
            self.scopes, self.linked = (*self.scopes, self.linked()), None
        if self.is_function:
            graph.inputs.extend(self._values(self._function_names("input"), scope))
        else:
            infos = self.infos["input"]
            graph.inputs.extend(self._values(infos.names("name"), scope))
            _describe(infos, graph.inputs)
            self._read_initializers(graph, scope)
        outputs = self.nodes.column("output")
        made = self._values(decode_texts(self.reader, outputs), scope)
        self._read_nodes(graph, scope, outputs, made)
        if self.is_function:
            names = self._function_names("output")
            graph.outputs.extend([self._resolve(name, scope) for name in names])
        else:
            infos = self.infos["output"]
            graph.outputs.extend([self._resolve(n, scope) for n in infos.names("name")])
            _describe(infos, graph.outputs)
        infos = self.infos["value_info"]
        graph.value_info.extend([self._resolve(name, scope) for name in infos.names("name")])
        _describe(infos, graph.value_info)
        if not self.is_function:
            self._read_rest(graph)

    def _function_names(self, field: str) -> list[str]:
        column = self.table.column(field)
        self.table.check_names(field)
        return decode_texts(self.reader, column)

    def _values(self, names: list[str], scope: Scope) -> list[Value]:
        """A new value for each name; the first of a name is the one found by it."""
        made = new_values(names)
        fresh = dict(zip(names, made, strict=True))
        if len(fresh) == len(made) and "" not in fresh and scope.keys().isdisjoint(fresh):
            scope.update(fresh)
            return made
        for name, value in zip(names, made, strict=True):
            if name:
                scope.setdefault(name, value)
        return made

    def _resolve(self, name: str, scope: Scope) -> Value:
        """The value that `name` means here; one that nothing defines is made."""
        found = scope.get(name)
        if found is not None:
            return found
        for outer in self.scopes:
            if name in outer:
                return outer[name]
        value = Value(name)
        if name:
            scope[name] = value
        return value

    def _read_initializers(self, graph: Graph, scope: Scope) -> None:
        reader = self.reader
        for field in ("initializer", "sparse_initializer"):
            column = self.table.column(field)
            for start, end in zip(column.starts.tolist(), column.ends.tolist(), strict=True):
                tensor: Tensor | SparseTensor
                if field == "initializer":
                    tensor = read_tensor(reader, start, end)
                else:
                    tensor = read_sparse(reader, start, end)
                value = scope.get(tensor.name)
                if value is None or value.const is not None:
                    value = Value(tensor.name)
                    if tensor.name:
                        scope.setdefault(tensor.name, value)
                value.const = tensor
                graph.initializers.append(value)

    def _read_nodes(self, graph: Graph, scope: Scope, outputs: Column, made: list[Value]) -> None:
        table, count = self.nodes, self.nodes.count
        if not count:
            return
        inputs = table.column("input")
        names = decode_texts(self.reader, inputs)
        read = list(map(scope.get, names))
        if None in read:
            for place, (name, value) in enumerate(zip(names, read, strict=True)):
                if value is None and name:
                    read[place] = self._resolve(name, scope)
        nodes = link_nodes(
            graph,
            [intern(name) for name in table.names("op_type")],
            table.names("name"),
            (_row_ends(inputs, count), read),
            (_row_ends(outputs, count), made),
        )
        self._read_attributes(nodes, scope)
        self._read_details(nodes)

    def _read_attributes(self, nodes: list[Node], scope: Scope) -> None:
        reader = self.reader
        column = self.nodes.column("attribute")
        if not len(column):
            return
        table = read_messages(reader, "AttributeProto", column, (*_TENSOR_FIELDS, *_GRAPH_FIELDS))
        with_tensors = {
            row for name in _TENSOR_FIELDS for row in column.rows[table.column(name).rows].tolist()
        }
        with_graphs = {
            row for name in _GRAPH_FIELDS for row in column.rows[table.column(name).rows].tolist()
        }
        depth = self.depth + 2
        spans = list(zip(column.starts.tolist(), column.ends.tolist(), strict=True))
        first = 0
        for row, last in enumerate(_row_ends(column, self.nodes.count)):
            if last == first:
                continue
            own = spans[first:last]
            first = last
            if row not in with_graphs:
                lazy = LazyAttributes(reader, own, depth, row in with_tensors)
                nodes[row]._attributes = lazy  # noqa: SLF001
                continue
            self._read_subgraphs(nodes[row], own, scope)

    def _read_subgraphs(self, node: Node, spans: list[tuple[int, int]], scope: Scope) -> None:
        def make(reader: Reader, start: int, end: int) -> Graph:
            return open_graph(reader, start, end, self.depth + 3, (scope, *self.scopes))

        found = read_attributes(self.reader, spans, self.depth + 2, make)
        node._attributes = found  # noqa: SLF001
        for graph in node.subgraphs():
            graph.parent = node

    def _read_details(self, nodes: list[Node]) -> None:
        reader, table = self.reader, self.nodes
        if table.lacks(_NODE_DETAILS):
            return
        for field in ("domain", "overload"):
            column = table.column(field).last()
            for row, text in zip(column.rows.tolist(), decode_texts(reader, column), strict=True):
                setattr(nodes[row], field, intern(text))
        column = table.column("doc_string").last()
        for row, start, end in zip(
            column.rows.tolist(), column.starts.tolist(), column.ends.tolist(), strict=True
        ):
            nodes[row].doc = reader.prose(start, end)
        for row, spans in table.column("metadata_props").by_row().items():
            nodes[row].metadata.update(read_entries(reader, spans))
        for row, spans in table.column("device_configurations").by_row().items():
            nodes[row].devices = tuple(
                [read_node_configuration(reader, start, end) for _, start, end in triples(spans)]
            )
        for row, spans in table.column("").by_row().items():
            nodes[row].unknown = unknown_bytes(reader, {"": spans})

    def _read_rest(self, graph: Graph) -> None:
        reader = self.reader
        if self.table.lacks(_GRAPH_REST):
            return
        kind = message("TensorAnnotation")
        for _, start, end in triples(self.table.one("quantization_annotation")):
            found = collect(reader, start, end, kind)
            names = texts(reader, found.get("tensor_name", array("q")))
            if not names:
                raise reader.error("a TensorAnnotation without tensor_name", start)
            spans = found.get("quant_parameter_tensor_names", array("q"))
            graph.quantization.append(
                QuantizationAnnotation(
                    names[-1],
                    read_entries(reader, spans),
                    unknown_bytes(reader, found),
                )
            )
        graph.metadata.update(read_entries(reader, self.table.one("metadata_props")))


def new_values(names: Iterable[str]) -> list[Value]:
    """`[Value(name) for name in names]`, slot by slot: the calls would take most of the time."""
    new = Value.__new__
    made = []
    for name in names:
        value = new(Value)
        value.name = name
        value._type = value.const = value.producer = value._metadata = None  # noqa: SLF001
        value.index = 0
        value.users = {}
        value.doc = ""
        value.unknown = b""
        made.append(value)
    return made


def link_nodes(
    graph: Graph,
    op_types: list[str],
    names: list[str],
    inputs: tuple[list[int], list[Value | None]],
    outputs: tuple[list[int], list[Value]],
) -> list[Node]:
    """New nodes at the end of `graph`, slot by slot; where each one's values end, and values."""
    new = Node.__new__
    nodes: list[Node] = []
    first_in = first_out = 0
    previous: Node | None = None
    (in_ends, read), (out_ends, made) = inputs, outputs
    for op_type, name, last_in, last_out in zip(op_types, names, in_ends, out_ends, strict=True):
        node = new(Node)
        node.op_type = op_type
        node.domain = node.overload = node.doc = ""
        node.name = name
        node.unknown = b""
        node.version = None
        node._attributes = {}  # noqa: SLF001
        node._metadata = node._next = None  # noqa: SLF001
        node.devices = ()
        node.graph = graph
        node._previous = previous  # noqa: SLF001
        node.inputs = tuple(read[first_in:last_in])
        for value in node.inputs:
            if value is not None:
                users = value.users
                users[node] = users[node] + 1 if node in users else 1
        first_in = last_in
        if last_out == first_out + 1:
            value = made[first_out]
            value.producer = node
            node.outputs = (value,)
        else:
            node.outputs = tuple(made[first_out:last_out])
            for index, value in enumerate(node.outputs):
                value.producer = node
                value.index = index
        first_out = last_out
        if previous is not None:
            previous._next = node  # noqa: SLF001
        nodes.append(node)
        previous = node
    linked = graph.nodes
    linked._first, linked._last, linked._length = nodes[0], previous, len(nodes)  # noqa: SLF001
    return nodes


def _row_ends(column: Column, count: int) -> list[int]:
    """Where the values of each of `count` rows end in `column`."""
    return cast("list[int]", np.cumsum(np.bincount(column.rows, minlength=count)).tolist())


def _describe(infos: Table, values: list[Value]) -> None:
    """Give `values`, one a row, the types and details that `infos` say."""
    if not infos.count:
        return
    reader = infos.reader
    types = infos.column("type")
    known = reader.context.types
    view = reader.view
    single = types.last() is types
    if single:
        for row, start, end in zip(
            types.rows.tolist(), types.starts.tolist(), types.ends.tolist(), strict=True
        ):
            value = values[row]
            if value._type is None:  # noqa: SLF001
                found = known.get(bytes(view[start:end]))
                if found is None:
                    found = lazy_type(reader, array("q", (2, start, end)))
                value._type = found  # noqa: SLF001
    else:
        for row, spans in types.by_row().items():
            if values[row]._type is None:  # noqa: SLF001
                values[row].type = cast("Any", lazy_type(reader, spans))
    if infos.lacks(_INFO_DETAILS):
        return
    column = infos.column("doc_string").last()
    for row, start, end in zip(
        column.rows.tolist(), column.starts.tolist(), column.ends.tolist(), strict=True
    ):
        values[row].doc = reader.prose(start, end)
    for row, spans in infos.column("metadata_props").by_row().items():
        values[row].metadata.update(read_entries(reader, spans))
    for row, spans in infos.column("").by_row().items():
        values[row].unknown = unknown_bytes(reader, {"": spans})
