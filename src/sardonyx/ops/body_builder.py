"""`BodyBuilder`: the `op` that function bodies are written with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from sardonyx.dtypes import BFLOAT16, FLOAT, FLOAT16, INT64
from sardonyx.errors import ModelError, SardonyxError, UnsupportedError, quote
from sardonyx.ir.builder import Builder
from sardonyx.ir.graph import Graph
from sardonyx.ir.model import canonical_domain
from sardonyx.ir.node import Attribute, AttributeType, Node
from sardonyx.ir.tensor import ArrayTensor, Tensor, as_tensor
from sardonyx.ir.types import TensorType
from sardonyx.ir.value import Value
from sardonyx.ops import registry
from sardonyx.ops.bind import attribute_values, lift, operator_of
from sardonyx.ops.fact import Fact
from sardonyx.ops.inferring import constant_fact, infer_outputs, listed, without_anonymous
from sardonyx.ops.operator import ControlFlow
from sardonyx.ops.schema import REQUIRED

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import numpy.typing as npt

    from sardonyx.dtypes import DType
    from sardonyx.ir.builder import Operand
    from sardonyx.ir.types import Shape, Type
    from sardonyx.ops.operator import Operator
    from sardonyx.ops.schema import Schema

__all__ = ["BodyBuilder"]

_BROADCASTS_SINCE: Final = 7
_RESHAPES_TO_ZERO_SINCE: Final = 14


class BodyBuilder(Builder):
    """A `Builder` that knows what each value is and writes nodes for any opset.

    Nodes are written in the newest form of their operator; in a model of an older opset they
    become that opset's: an input that was an attribute then is given as one. Every output is
    inferred when its node is written, so `fact` (and `Value.type`) tell of each value.
    `facts` says what is known of the values of the graph beforehand, more than their types.
    With `constants_as_nodes` constants are Constant nodes, since a function has no initializers.

    Raises `UnsupportedError` where the opset has no such operator, or not for such a type.
    """

    def __init__(
        self,
        graph: Graph,
        opset_imports: Mapping[str, int],
        *,
        facts: Mapping[Value, Fact] | None = None,
        constants_as_nodes: bool = False,
        outer: BodyBuilder | None = None,
    ) -> None:
        super().__init__(graph, opset_imports=opset_imports, attribute_type=self._type_of_attribute)
        self.known: dict[Value, Fact] = dict(facts or {}) if outer is None else outer.known
        self.written: list[Node] = []
        self.constants: list[Value] = []
        self._constants_as_nodes = constants_as_nodes
        if outer is None:
            self._take_names(graph)
        else:
            self._value_names, self._node_names, self._counts = outer.taken
            self._prefix, self._metadata = outer.heading

    @property
    def taken(self) -> tuple[set[str], set[str], dict[str, int]]:
        """Names of values and of nodes that are taken, and how often one was made unique."""
        return self._value_names, self._node_names, self._counts

    @property
    def heading(self) -> tuple[str, dict[str, str]]:
        """What made-up names begin with, and the metadata of new nodes."""
        return self._prefix, self._metadata

    def _take_names(self, graph: Graph) -> None:
        """Names of enclosing graphs and of subgraphs are taken as well: none may be shadowed."""
        top = graph
        while top.parent is not None and top.parent.graph is not None:
            top = top.parent.graph
        stack = [top]
        while stack:
            current = stack.pop()
            self._value_names.update(value.name for value in current.inputs)
            self._value_names.update(value.name for value in current.initializers)
            for node in current.nodes:
                if node.name:
                    self._node_names.add(node.name)
                self._value_names.update(value.name for value in node.outputs)
                stack.extend(node.subgraphs())

    def inner(self, name: str, inputs: Iterable[tuple[str, Fact]] = ()) -> BodyBuilder:
        """A builder of a new subgraph with inputs of these names and facts."""
        values = []
        for wanted, fact in inputs:
            value = Value(self.unique(f"{self._prefix}{wanted}"), without_anonymous(fact.type))
            self.known[value] = fact
            values.append(value)
        return self.beside(Graph(f"{self._prefix}{name}", values))

    def beside(self, graph: Graph) -> BodyBuilder:
        """A builder of another graph of the same model: names and what is known are shared."""
        return BodyBuilder(
            graph,
            self.opset_imports,
            constants_as_nodes=self._constants_as_nodes,
            outer=self,
        )

    def apply(
        self,
        op_type: str,
        inputs: Sequence[Operand],
        *,
        _outputs: int = 1,
        _output_names: Sequence[str] | None = None,
        _name: str | None = None,
        _domain: str = "",
        _metadata: Mapping[str, str] | None = None,
        **attributes: Any,
    ) -> Any:
        """What ``op.<op_type>(*inputs, ...)`` does: see the class."""
        operator = registry.get(_domain, op_type)
        version = self._version(_domain)
        schema = operator.schema(version)
        given = [None if value is None else self.value(value) for value in inputs]
        named = {name: value for name, value in attributes.items() if value is not None}
        values, attributes = _in_form_of(schema, operator, given, named)
        self._check_types(schema, values)
        made = super().apply(
            op_type,
            values,
            _outputs=_outputs,
            _output_names=_output_names,
            _name=_name,
            _domain=_domain,
            _metadata=_metadata,
            **attributes,
        )
        first = made[0] if isinstance(made, tuple) else made
        if first.producer is not None:
            self._infer(first.producer)
        return made

    def initializer(self, name: str, data: Tensor | npt.ArrayLike) -> Value:
        """A new constant called exactly `name`."""
        if self._constants_as_nodes:
            value = self.apply("Constant", (), value=as_tensor(data), _output_names=[name])
        else:
            value = super().initializer(name, data)
            self.constants.append(value)
        made: Value = value
        return made

    def fact(self, value: Value) -> Fact:
        """What is known of `value`."""
        found = self.known.get(value)
        if found is None or found.type is None:
            found = constant_fact(value)
        return found

    def type(self, value: Value) -> Type:
        """The type of `value`; raises `UnsupportedError` where it is not known."""
        known = self.fact(value).type
        if known is None:
            raise _unknown("type", value)
        return known

    def dtype(self, value: Value) -> DType:
        """The element type of `value`; raises `UnsupportedError` where it is not known."""
        known = self.fact(value).dtype
        if known is None:
            raise _unknown("element type", value)
        return known

    def shape(self, value: Value) -> Shape:
        """The shape of `value`; raises `UnsupportedError` where the rank is not known."""
        known = self.fact(value).shape
        if known is None:
            raise _unknown("rank", value)
        return known

    def rank(self, value: Value) -> int:
        """The rank of `value`; raises `UnsupportedError` where it is not known."""
        return len(self.shape(value))

    def size(self, value: Value, *axes: int) -> Value:
        """The sizes of these axes (all, where none are given) as an INT64 vector."""
        known = self.fact(value).shape
        if known is not None:
            chosen = [known[axis] for axis in axes] if axes else known
            numbers = [size for size in chosen if isinstance(size, int)]
            if len(numbers) == len(chosen):
                return self.value(np.array(numbers, np.int64))
        shape: Value = self.Shape(value)
        return self.Gather(shape, np.array(axes, np.int64)) if axes else shape

    def sizes(self, *parts: int | Value) -> Value:
        """An INT64 vector of numbers and of vectors; a constant where all are known."""
        pieces: list[list[int] | Value] = []
        for part in parts:
            numbers = [part] if isinstance(part, int) else self._numbers(part)
            if numbers is None:
                assert isinstance(part, Value)
                pieces.append(part)
            elif pieces and isinstance(pieces[-1], list):
                pieces[-1].extend(numbers)
            else:
                pieces.append(list(numbers))
        vectors = [
            piece if isinstance(piece, Value) else self.value(np.array(piece, np.int64))
            for piece in pieces
        ]
        if not vectors:
            return self.value(np.zeros(0, np.int64))
        joined: Value = vectors[0] if len(vectors) == 1 else self.Concat(*vectors, axis=0)
        return joined

    def _numbers(self, value: Value) -> list[int] | None:
        known = self.fact(value).constant_value()
        return None if known is None else [int(item) for item in known.reshape(-1)]

    def reshape(self, value: Value, *parts: int | Value) -> Value:
        """`value` in the shape of numbers and INT64 vectors; -1 is what is left.

        0 is 0; before opset 14, whose Reshape cannot say that, sizes must not be 0.
        """
        shape = self.sizes(*parts)
        numbers = self._numbers(shape)
        inferred = -1 in (parts if numbers is None else numbers)
        safe = inferred or (numbers is not None and 0 not in numbers)
        safe = safe or self._version("") < _RESHAPES_TO_ZERO_SINCE
        made: Value = self.Reshape(value, shape, allowzero=None if safe else 1)
        return made

    def like(self, number: complex, value: Value) -> Value:
        """A scalar constant of the element type of `value`."""
        known = self.fact(value).dtype
        if known is None:
            cast: Value = self.CastLike(np.float32(number.real), value)
            return cast
        with np.errstate(all="ignore"):
            return self.value(ArrayTensor(np.asarray(number).astype(known.numpy), known))

    def cast(self, value: Value, dtype: DType) -> Value:
        """`value` in `dtype`: itself where it is known to have it."""
        if self.fact(value).dtype is dtype:
            return value
        cast: Value = self.Cast(value, to=dtype.code)
        return cast

    def cast_like(self, value: Value, other: Value) -> Value:
        """`value` in the element type of `other`."""
        known = self.fact(other).dtype
        if known is not None:
            return self.cast(value, known)
        cast: Value = self.CastLike(value, other)
        return cast

    def lifted(self, value: Any) -> Value:
        """The value of an attribute that is an input in the operator's newest form."""
        return self.value(lift("", value))

    def wide(self, value: Value) -> Value:
        """`value` in FLOAT where its type is FLOAT16 or BFLOAT16, so that rounding is rare."""
        return self.cast(value, FLOAT) if self.fact(value).dtype in _NARROW else value

    def indices(self, count: Value) -> Value:
        """0, 1, 2, ... up to, not including, the only element of the INT64 vector `count`."""
        one = ArrayTensor(np.ones(1, np.int64), INT64)
        ones = self.ConstantOfShape(count, value=one)
        running: Value = self.CumSum(ones, np.int64(0), exclusive=1)
        return running

    def inline(self, graph: Graph, inputs: Sequence[Value]) -> list[Value]:
        """The outputs of `graph`, whose nodes are copied here with `inputs` for its inputs."""
        if len(inputs) != len(graph.inputs):
            raise ModelError(
                f"graph {quote(graph.name)} takes {len(graph.inputs)} inputs, got {len(inputs)}"
            )
        values = dict(zip(graph.inputs, inputs, strict=True))
        for value in graph.initializers:
            if value not in values:
                copied = Value(self.unique(f"{self._prefix}{value.name}"), value.type, value.const)
                self.graph.initializers.append(copied)
                values[value] = copied
        for node in graph.nodes:
            self._insert(self._copied(node, values))
        return [
            values[value] if value in values else self.Identity(value) for value in graph.outputs
        ]

    def _copied(self, node: Node, values: dict[Value, Value]) -> Node:
        outputs = []
        for value in node.outputs:
            name = value.name and self.unique(f"{self._prefix}{value.name}")
            values[value] = Value(name, value.type)
            outputs.append(values[value])
        copied = Node(
            node.op_type,
            [None if value is None else values.get(value, value) for value in node.inputs],
            outputs,
            [self._copied_attribute(attribute, values) for attribute in node.attributes.values()],
            domain=node.domain,
            name=node.name and self._unique(f"{self._prefix}{node.name}", self._node_names),
            overload=node.overload,
        )
        copied.doc = node.doc
        copied.metadata.update(node.metadata)
        try:
            self._infer(copied)
        except SardonyxError:
            for old, new in zip(node.outputs, outputs, strict=True):
                self.known[new] = self.fact(old)
        return copied

    def _copied_attribute(self, attribute: Attribute, values: dict[Value, Value]) -> Attribute:
        held = attribute.value
        if attribute.type == AttributeType.GRAPH and isinstance(held, Graph):
            held = self._copied_graph(held, values)
        elif attribute.type == AttributeType.GRAPHS and held is not None:
            held = tuple(self._copied_graph(graph, values) for graph in held)
        return Attribute(attribute.name, attribute.type, held, ref=attribute.ref)

    def _copied_graph(self, graph: Graph, outer: dict[Value, Value]) -> Graph:
        values = dict(outer)
        for value in (*graph.inputs, *graph.initializers):
            if value not in values or value in graph.inputs:
                name = self.unique(f"{self._prefix}{value.name}")
                values[value] = Value(name, value.type, value.const)
        copied = Graph(
            graph.name,
            [values[value] for value in graph.inputs],
            initializers=[values[value] for value in graph.initializers],
        )
        for node in graph.nodes:
            copied.nodes.append(self._copied(node, values))
        copied.outputs.extend(values.get(value, value) for value in graph.outputs)
        return copied

    def _insert(self, node: Node) -> None:
        super()._insert(node)
        self.written.append(node)

    def _version(self, domain: str) -> int:
        wanted = canonical_domain(domain)
        for imported, version in self.opset_imports.items():
            if canonical_domain(imported) == wanted:
                if not wanted and version < _BROADCASTS_SINCE:
                    raise UnsupportedError(
                        f"no function body can be written in opset {version}, whose operators do "
                        "not broadcast",
                        hint=f"convert the model to opset {_BROADCASTS_SINCE} or newer",
                    )
                return version
        raise ModelError(
            f"the model imports no operator set of domain {quote(wanted or 'ai.onnx')}",
            hint="add the domain and a version to opset_import",
        )

    def _type_of_attribute(self, domain: str, op_type: str, name: str) -> AttributeType | None:
        spec = registry.get(domain, op_type).schema(self._version(domain)).attributes.get(name)
        return None if spec is None else spec.type

    def _check_types(self, schema: Schema, values: Sequence[Value | None]) -> None:
        for index, value in enumerate(values):
            param = schema.param_of(schema.inputs, index)
            if value is None or param is None:
                continue
            known = self.fact(value).type
            if not isinstance(known, TensorType) or known.dtype is None:
                continue
            if TensorType(known.dtype) not in schema.allowed(param):
                raise UnsupportedError(
                    f"{schema.name} of {known} is needed here, which "
                    f"{schema.name}-{schema.since_version} does not take",
                    hint="convert the model to a newer opset",
                )

    def _infer(self, node: Node) -> None:
        operator = operator_of(node, self.opset_imports)
        schema = operator.schema(operator.version)
        facts = [None if value is None else self.fact(value) for value in node.inputs]
        arguments = operator.arrange(
            schema,
            facts,
            lambda name, value: Fact.constant(lift(name, value)),
            attribute_values(node, {}),
        )
        if isinstance(operator, ControlFlow):
            results = listed(operator.infer(self._infer_graph, *arguments))
        else:
            results = infer_outputs(operator, arguments, len(node.outputs))
        for value, fact in zip(node.outputs, results, strict=False):
            self.known[value] = fact
            if isinstance(fact.type, TensorType) and fact.type.dtype is None:
                continue
            value.type = without_anonymous(fact.type)

    def _infer_graph(self, graph: Graph, _given: Sequence[Fact]) -> list[Fact]:
        return [self.fact(value) for value in graph.outputs]


_NARROW: Final = frozenset({FLOAT16, BFLOAT16})


def _unknown(what: str, value: Value) -> UnsupportedError:
    return UnsupportedError(
        f"the {what} of {quote(value.name)} is needed here, and is not known",
        hint="infer shapes first, or declare it",
    )


def _in_form_of(
    schema: Schema,
    operator: type[Operator],
    values: list[Value | None],
    attributes: dict[str, Any],
) -> tuple[list[Value | None], dict[str, Any]]:
    """Inputs and attributes in the newest form, as the older `schema` takes them."""
    newest = operator.schema(operator.since)
    if schema.since_version == operator.since:
        return values, attributes
    where = f"{schema.name}-{schema.since_version}"
    placed = dict(attributes)
    for name, spec in newest.attributes.items():
        old = schema.attributes.get(name)
        wanted = placed.get(name, spec.default)
        if old is None:
            if wanted != spec.default:
                raise _lacks(where, f"attribute {name!r}")
            placed.pop(name, None)
        elif name not in placed and spec.default not in (REQUIRED, None, old.default):
            placed[name] = spec.default
    if newest.max_inputs is None:
        return values, placed
    moved: list[Value | None] = [None] * len(schema.inputs)
    for position, slot in enumerate(newest.slots):
        if not isinstance(slot, int) or slot >= len(values) or values[slot] is None:
            continue
        value, target = values[slot], schema.slots[position]
        if isinstance(target, int):
            moved[target] = value
        elif isinstance(target, str) and value is not None:
            placed[target] = _as_attribute(where, target, value, schema.attributes[target].type)
        else:
            raise _lacks(where, f"input {list(newest.inputs)[slot]!r}")
    return moved, placed


def _as_attribute(where: str, name: str, value: Value, kind: AttributeType) -> Any:
    const = value.const
    if const is None and value.producer is not None and value.producer.op_type == "Constant":
        const = value.producer.attribute("value")
    if not isinstance(const, Tensor):
        raise _lacks(where, f"input {name!r}, only an attribute,")
    items = const.numpy().reshape(-1).tolist()
    return tuple(items) if kind.is_list else items[0]


def _lacks(where: str, what: str) -> UnsupportedError:
    return UnsupportedError(
        f"{where} has no {what}, which is needed here",
        hint="convert the model to a newer opset",
    )
