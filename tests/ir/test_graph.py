"""Editing a graph keeps its links right."""

from __future__ import annotations

import numpy as np
import pytest

from sardonyx import dtypes
from sardonyx.ir import (
    Attribute,
    AttributeType,
    Graph,
    Node,
    TensorType,
    Value,
    as_tensor,
)


def chain(length: int) -> Graph:
    x = Value("x", TensorType(dtypes.FLOAT, (3,)))
    graph, last = Graph("g", [x]), x
    for index in range(length):
        node = Node("Relu", [last], [Value(f"v{index}")], name=f"n{index}")
        graph.nodes.append(node)
        last = node.output
    graph.outputs.append(last)
    return graph


def names(graph: Graph) -> list[str]:
    forwards = [node.name for node in graph.nodes]
    assert forwards == [node.name for node in reversed(graph.nodes)][::-1]
    assert len(forwards) == len(graph.nodes)
    return forwards


def test_users_and_producers() -> None:
    graph = chain(2)
    first, second = graph.nodes
    assert first.output.producer is first
    assert first.output.users == {second: 1}
    double = Node("Add", [first.output, first.output])
    assert first.output.users == {second: 1, double: 2}
    double.set_input(0, graph.inputs[0])
    assert first.output.users == {second: 1, double: 1}


def test_replace_uses_and_remove() -> None:
    graph = chain(3)
    first, second, third = graph.nodes
    second.output.replace_uses(first.output)
    graph.nodes.remove(second)
    assert names(graph) == ["n0", "n2"]
    assert first.output.users == {third: 1}
    with pytest.raises(ValueError, match="not in this graph"):
        graph.nodes.remove(second)


def test_removing_and_inserting_while_iterating() -> None:
    graph = chain(5)
    seen = []
    for node in graph.nodes:
        seen.append(node.name)
        if node.name in {"n1", "n2", "n4"}:
            node.output.replace_uses(node.inputs[0] or node.output)
            graph.nodes.remove(node)
        if node.name == "n3":
            graph.nodes.insert_after(node, Node("Abs", name="new"))
    assert seen == ["n0", "n1", "n2", "n3", "new", "n4"]
    assert names(graph) == ["n0", "n3", "new"]


def test_insert_before_move_and_ends() -> None:
    graph = chain(3)
    first, second, third = graph.nodes
    graph.nodes.insert_before(first, Node("Abs", name="head"))
    graph.nodes.move_before(second, third)
    assert names(graph) == ["head", "n0", "n2", "n1"]
    assert graph.nodes.first is not None
    assert graph.nodes.first.name == "head"
    assert graph.nodes.last is second
    with pytest.raises(ValueError, match="in a graph already"):
        graph.nodes.append(first)


def test_subgraphs_are_walked_outer_before_inner() -> None:
    inner = chain(2)
    holder = Node("If", [Value("c")], attributes=[Attribute("b", AttributeType.GRAPH, inner)])
    outer = Graph("outer", nodes=[Node("Abs", name="first"), holder, Node("Abs", name="last")])
    assert inner.parent is holder
    assert [node.name for node in outer.all_nodes()] == ["first", "", "n0", "n1", "last"]


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (1, "INT"),
        (1.5, "FLOAT"),
        ("text", "STRING"),
        ([1, 2], "INTS"),
        ([1, 2.5], "FLOATS"),
        ([], "INTS"),
        (["a"], "STRINGS"),
        (as_tensor(np.zeros(2)), "TENSOR"),
        (TensorType(dtypes.FLOAT), "TYPE_PROTO"),
    ],
)
def test_attribute_types_follow_python_types(value: object, kind: str) -> None:
    node = Node("Test")
    node.set_attribute("a", value)
    assert node.attributes["a"].type.name == kind


def test_a_value_without_a_fitting_attribute_type() -> None:
    with pytest.raises(TypeError, match="no attribute type"):
        Node("Test").set_attribute("a", {1: 2})


def test_tensors() -> None:
    assert as_tensor(1.5).dtype is dtypes.FLOAT
    assert as_tensor([1, 2]).dtype is dtypes.INT64
    tensor = as_tensor(np.arange(6, dtype=np.int16).reshape(2, 3))
    assert (tensor.size, tensor.nbytes, tensor.shape) == (6, 12, (2, 3))
    assert bytes(tensor.raw()) == np.arange(6, dtype="<i2").tobytes()
    with pytest.raises(ValueError, match="read-only"):
        tensor.numpy()[0] = 1
