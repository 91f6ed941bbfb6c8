"""A graph as plain data that is easy to cut: calls of operators on named values."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from sardonyx.dtypes import from_numpy
from sardonyx.ir import Graph, Model, Node, Value
from sardonyx.ir.node import Attribute, AttributeType
from sardonyx.ir.tensor import ArrayTensor
from sardonyx.ir.types import TensorType
from sardonyx.ops import registry


@dataclass(frozen=True, eq=False)
class Call:
    """One node; an empty name is an input or output that is left out."""

    op_type: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any] = field(default_factory=dict)

    def bodies(self) -> list[Body]:
        return [value for value in self.attributes.values() if isinstance(value, Body)]

    def reads(self) -> set[str]:
        """The values that it reads, those that its bodies capture included."""
        found = {name for name in self.inputs if name}
        for body in self.bodies():
            found |= body.captured()
        return found


@dataclass(frozen=True, eq=False)
class Body:
    """A graph in an attribute. Operators' references see it as they would a `Graph`."""

    inputs: tuple[str, ...]
    calls: tuple[Call, ...]
    outputs: tuple[str, ...]
    constants: dict[str, Any] = field(default_factory=dict)

    def captured(self) -> set[str]:
        made = {*self.inputs, *self.constants}
        found: set[str] = set()
        for call in self.calls:
            found |= call.reads() - made
            made |= set(call.outputs)
        return found | (set(self.outputs) - made)


@dataclass(frozen=True, eq=False)
class Case:
    """A graph and what to feed it: in each of `runs`, arrays by name, of sizes that may differ.

    An input's dimension is a symbol where the runs differ in it.
    """

    opset: int
    calls: tuple[Call, ...]
    outputs: tuple[str, ...]
    constants: dict[str, Any]
    runs: tuple[dict[str, Any], ...]
    types: dict[str, Any] = field(default_factory=dict)
    """NumPy types of all values, those of bodies included."""

    def without_dead(self) -> Case:
        """Without the calls, inputs and constants that no output depends on."""
        needed, kept = set(self.outputs), []
        for call in reversed(self.calls):
            if needed & set(call.outputs):
                kept.append(call)
                needed |= call.reads()
        return replace(
            self,
            calls=tuple(reversed(kept)),
            constants={name: each for name, each in self.constants.items() if name in needed},
            runs=tuple({name: run[name] for name in run if name in needed} for run in self.runs),
        )

    def model(self) -> Model:
        values: dict[str, Value] = {}
        for name, first in self.runs[0].items():
            shapes = [run[name].shape for run in self.runs]
            dims = [_dim([shape[axis] for shape in shapes]) for axis in range(first.ndim)]
            values[name] = Value(name, TensorType(from_numpy(first.dtype), tuple(dims)))
        inputs = list(values.values())
        graph = _graph("generated", inputs, self.calls, self.outputs, self.constants, values, self)
        return Model(graph, {"": self.opset}, ir_version=14)


def _dim(sizes: list[int]) -> Any:
    from sardonyx.dims import symbol

    return sizes[0] if len(set(sizes)) == 1 else symbol("n" + "_".join(map(str, sizes)))


def _graph(
    name: str,
    inputs: list[Value],
    calls: tuple[Call, ...],
    outputs: tuple[str, ...],
    constants: dict[str, Any],
    values: dict[str, Value],
    case: Case,
) -> Graph:
    initializers = []
    for label, array in constants.items():
        known = TensorType(from_numpy(array.dtype), array.shape)
        values[label] = Value(label, known, ArrayTensor(array))
        initializers.append(values[label])
    nodes = []
    for number, call in enumerate(calls):
        made = [Value(label) for label in call.outputs]
        attributes = [_attribute(call, *pair, values, case) for pair in call.attributes.items()]
        given = [values[label] if label else None for label in call.inputs]
        nodes.append(Node(call.op_type, given, made, attributes, name=f"{name}_{number}"))
        values.update((value.name, value) for value in made if value.name)
    found = [values[label] for label in outputs]
    for value in found:
        if value.type is None:
            value.type = TensorType(from_numpy(case.types[value.name]))
    return Graph(name, inputs, found, nodes, initializers)


def _attribute(
    call: Call, name: str, value: Any, values: dict[str, Value], case: Case
) -> Attribute:
    kind = registry.get("", call.op_type).schema(case.opset).attributes[name].type
    if isinstance(value, Body):
        inner = dict(values)
        inputs = [Value(each, TensorType(from_numpy(case.types[each]))) for each in value.inputs]
        inner.update((each.name, each) for each in inputs)
        graph = _graph(
            call.outputs[0] + name, inputs, value.calls, value.outputs, value.constants, inner, case
        )
        return Attribute(name, AttributeType.GRAPH, graph)
    if kind is AttributeType.TENSOR:
        value = ArrayTensor(value)
    if kind is AttributeType.FLOAT:
        value = float(np.float32(value))
    return Attribute(name, kind, tuple(value) if isinstance(value, list) else value)
