"""Copies of models and their parts; tensors are shared, everything else is new."""

from __future__ import annotations

from typing import TYPE_CHECKING, overload

from sardonyx.errors import ModelError, quote
from sardonyx.ir.graph import Graph, QuantizationAnnotation
from sardonyx.ir.model import Function, Model, TrainingInfo
from sardonyx.ir.node import Attribute, AttributeType, Node
from sardonyx.ir.value import Value

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Copier", "copy"]


def copy(model: Model, copier: Copier | None = None) -> Model:
    """A model of its own that holds all that `model` does, and shares its tensors.

    `copier` is what copies the main graph, for those who ask what became of its values.
    """
    return Model(
        (copier or Copier()).graph(model.graph),
        dict(model.opset_imports),
        ir_version=model.ir_version,
        producer_name=model.producer_name,
        producer_version=model.producer_version,
        domain=model.domain,
        model_version=model.model_version,
        doc=model.doc,
        functions={key: copy_function(each) for key, each in model.functions.items()},
        metadata=dict(model.metadata),
        training=[_copy_training(info) for info in model.training],
        configurations=list(model.configurations),
        unknown=model.unknown,
        source=model.source,
    )


def copy_function(function: Function) -> Function:
    """A function of its own that holds all that `function` does."""
    copier = Copier()
    return Function(
        function.name,
        function.domain,
        copier.graph(function.graph),
        dict(function.opset_imports),
        overload=function.overload,
        attributes=list(function.attributes),
        defaults={name: copier.attribute(each) for name, each in function.defaults.items()},
        doc=function.doc,
        metadata=dict(function.metadata),
        unknown=function.unknown,
    )


def _copy_training(info: TrainingInfo) -> TrainingInfo:
    return TrainingInfo(
        None if info.initialization is None else Copier().graph(info.initialization),
        None if info.algorithm is None else Copier().graph(info.algorithm),
        dict(info.initialization_binding),
        dict(info.update_binding),
        info.unknown,
    )


class Copier:
    """Copies values, nodes and graphs, and remembers in `values` what became of each value.

    A value that `values` maps beforehand becomes what it is mapped to (None: an omitted
    input). With `keep_free`, values that nothing copied defines stay the same objects, as what
    a subgraph captures should; otherwise they are copied too.
    """

    def __init__(
        self, values: Mapping[Value, Value | None] | None = None, *, keep_free: bool = False
    ) -> None:
        self.values: dict[Value, Value | None] = dict(values or {})
        self._keep_free = keep_free

    @overload
    def read(self, value: Value) -> Value | None: ...
    @overload
    def read(self, value: None) -> None: ...
    def read(self, value: Value | None) -> Value | None:
        """What a copied node reads in place of `value`."""
        if value is None:
            return None
        if value in self.values:
            return self.values[value]
        return value if self._keep_free else self.define(value)

    def define(self, value: Value) -> Value:
        """The copy of a value that what is copied defines."""
        found = self.values.get(value)
        if found is None:
            declared = value._type  # noqa: SLF001
            found = self.values[value] = Value(value.name, declared, value.const)
            if value.has_details:
                found.doc = value.doc
                found.unknown = value.unknown
                found.metadata.update(value.metadata)
        return found

    def node(self, node: Node) -> Node:
        """A copy of `node`, in no graph yet."""
        made = Node(
            node.op_type,
            [self.read(value) for value in node.inputs],
            [self.define(value) for value in node.outputs],
            domain=node.domain,
            name=node.name,
            overload=node.overload,
        )
        attributes = node._attributes  # noqa: SLF001
        if isinstance(attributes, dict):
            for attribute in attributes.values():
                copied = made.attributes[attribute.name] = self.attribute(attribute)
                for graph in copied.graphs():
                    graph.parent = made
        else:
            made._attributes = attributes  # noqa: SLF001
        made.doc = node.doc
        made.unknown = node.unknown
        made.devices = node.devices
        made.version = node.version
        if node.metadata:
            made.metadata.update(node.metadata)
        return made

    def attribute(self, attribute: Attribute) -> Attribute:
        """A copy of `attribute`, its graphs copied."""
        value = attribute.value
        if value is not None and attribute.type == AttributeType.GRAPH:
            value = self.graph(value)
        elif value is not None and attribute.type == AttributeType.GRAPHS:
            value = tuple([self.graph(graph) for graph in value])
        made = Attribute(attribute.name, attribute.type, value, ref=attribute.ref)
        made.doc = attribute.doc
        made.unknown = attribute.unknown
        return made

    def graph(self, graph: Graph) -> Graph:
        """A copy of `graph`."""
        inputs = [self.define(value) for value in graph.inputs]
        initializers = [self.define(value) for value in graph.initializers]
        for node in graph.nodes:
            for value in node.outputs:
                self.define(value)
        made = Graph(graph.name, inputs, (), map(self.node, graph.nodes), initializers)
        made.outputs.extend([self._output(value) for value in graph.outputs])
        infos = [self.read(value) for value in graph.value_info]
        made.value_info.extend([value for value in infos if value is not None])
        made.quantization.extend(
            [
                QuantizationAnnotation(each.tensor_name, dict(each.parameters), each.unknown)
                for each in graph.quantization
            ]
        )
        made.metadata.update(graph.metadata)
        made.doc = graph.doc
        made.unknown = graph.unknown
        return made

    def _output(self, value: Value) -> Value:
        found = self.read(value)
        if found is None:
            raise ModelError(
                f"a subgraph gives out {quote(value.name)}, an input that the call leaves out"
            )
        return found
