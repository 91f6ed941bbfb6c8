"""Translating one graph of a model: each node becomes calls in a `torch.fx` graph."""

from __future__ import annotations

import re
from operator import getitem
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import torch

from sardonyx import dtypes
from sardonyx.bridge.torch import sizes
from sardonyx.bridge.torch.control import Branch, Loop, Map, Scan
from sardonyx.bridge.torch.module import LeafTracer
from sardonyx.bridge.torch.quantization import straight_through
from sardonyx.bridge.torch.registry import find
from sardonyx.bridge.torch.tensors import dtype_of
from sardonyx.bridge.torch.weights import literal
from sardonyx.errors import SardonyxError, UnsupportedError
from sardonyx.ir.tensor import Tensor
from sardonyx.ir.types import OptionalType, SequenceType, TensorType
from sardonyx.limits import DEFAULT, enforced
from sardonyx.ops.bind import attribute_values, lift, operator_of
from sardonyx.ops.operator import ControlFlow

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch.fx.node import Node as FxNode

    from sardonyx.bridge.torch.registry import Implementation
    from sardonyx.bridge.torch.weights import Weights
    from sardonyx.dtypes import DType
    from sardonyx.ir.graph import Graph
    from sardonyx.ir.model import Model
    from sardonyx.ir.node import Node
    from sardonyx.ir.tensor import Array
    from sardonyx.ir.value import Value
    from sardonyx.ops.fact import Fact
    from sardonyx.ops.operator import Operator

__all__ = ["Scope"]

_LARGEST_LITERAL: Final = 64
_FOLDING: Final = DEFAULT.replace(tensor_bytes=1 << 14, folding_bytes=1 << 14)
_FAILURES: Final = (SardonyxError, ValueError, TypeError, ArithmeticError, LookupError)
_INTERNAL: Final = frozenset({"version", "n_outputs", "device", "dtype"})


class Sized(NamedTuple):
    """A host value: the node that makes it, its type and its rank, 0 or 1."""

    node: FxNode
    dtype: DType
    rank: int


class Scope:
    """The translation of one graph, with those of the graphs around it."""

    def __init__(
        self,
        model: Model,
        facts: Mapping[Value, Fact],
        weights: Weights,
        outer: Scope | None = None,
    ) -> None:
        self.model = model
        self.facts = facts
        self.weights = weights
        self.outer = outer
        self.graph = torch.fx.Graph(tracer_cls=LeafTracer)
        self.modules = weights.root if outer is None else torch.nn.Module()
        self.captured: dict[Value | str, FxNode] = {}
        self._values: dict[Value, FxNode | Sized] = {}
        self._tensors: dict[Value, FxNode] = {}
        self._attributes: dict[str, FxNode] = {}
        self._anchor: FxNode | None = None
        self._device: FxNode | None = None
        self._first: FxNode | None = None

    # -- values ---------------------------------------------------------------------------------

    def known(self, value: Value | Array | None) -> Array | None:
        """The contents of a small constant."""
        if value is None or isinstance(value, np.ndarray):
            return value
        return self.weights.known.get(value)

    def find(self, value: Value) -> FxNode | Sized:
        """What holds `value` in this graph."""
        found = self._values.get(value)
        if found is not None:
            return found
        known = self.known(value)
        if known is not None and self.weights.place(value) is None:
            return self.attribute(self.weights.constant(value, known))
        place = self.weights.place(value)
        if place is not None:
            return self.attribute(place)
        if self.outer is None:
            raise UnsupportedError(f"value {value.name!r} is used before it is computed")
        outside = self.outer.find(value)
        inside = self._capture(value, value.name)
        made = Sized(inside, outside.dtype, outside.rank) if isinstance(outside, Sized) else inside
        self._values[value] = made
        return made

    def attribute(self, place: str) -> FxNode:
        """The tensor that is at `place` in the whole module."""
        found = self._attributes.get(place)
        if found is None:
            if self.outer is None:
                found = self.graph.get_attr(place)
            else:
                found = self._capture(place, place)
            self._attributes[place] = found
        return found

    def outside(self, key: Value | str) -> Any:
        """What a graph inside this one captured as `key`, here."""
        if isinstance(key, str):
            return self.attribute(key)
        found = self.find(key)
        return found.node if isinstance(found, Sized) else found

    def _capture(self, key: Value | str, name: str) -> FxNode:
        made = self.captured[key] = self._placeholder(name)
        return made

    def _placeholder(self, name: str) -> FxNode:
        if self._first is None:
            return self.graph.placeholder(_identifier(name))
        with self.graph.inserting_before(self._first):
            return self.graph.placeholder(_identifier(name))

    def tensor(self, value: Value | Array | None) -> FxNode | None:
        """The node that holds `value` as a tensor."""
        if value is None:
            return None
        if isinstance(value, np.ndarray):
            return self.attribute(self.weights.constant(None, value))
        found = self.find(value)
        if not isinstance(found, Sized):
            return found
        made = self._tensors.get(value)
        if made is None:
            made = self.call(
                sizes.tensor,
                (found.node, dtype_of(found.dtype), *self._device_argument()),
                name=f"{value.name}_tensor",
            )
            self._tensors[value] = made
        return made

    def sized(self, value: Value | Array | None) -> tuple[Any, int] | None:
        """The node or literal that holds `value` as a host value, and its rank."""
        known = self.known(value)
        if known is not None:
            if known.ndim > 1 or known.size > _LARGEST_LITERAL:
                return None
            if dtypes.from_numpy(known.dtype).kind not in {"int", "uint", "bool", "float"}:
                return None
            return literal(known), known.ndim
        if value is None or isinstance(value, np.ndarray):
            return None
        found = self.find(value)
        return (found.node, found.rank) if isinstance(found, Sized) else None

    def dtype(self, value: Value | Array | None) -> DType | None:
        """The element type of `value`, as inference found it."""
        if value is None:
            return None
        if isinstance(value, np.ndarray):
            return dtypes.from_numpy(value.dtype)
        fact = self.facts.get(value)
        if fact is not None and fact.dtype is not None:
            return fact.dtype
        return value.dtype

    def _device_argument(self) -> tuple[FxNode, ...]:
        if self._device is None and self._anchor is not None:
            self._device = self.call(getattr, (self._anchor, "device"), name="device")
        return () if self._device is None else (self._device,)

    # -- graphs ---------------------------------------------------------------------------------

    def translate(self, graph: Graph) -> torch.fx.Graph:
        """The whole of `graph`; its outputs are one tensor or a tuple."""
        self._enter(graph.inputs)
        for node in graph.nodes:
            self._place(node)
        results = tuple([self.tensor(value) for value in graph.outputs])
        is_one = self.outer is None and len(results) == 1
        self.graph.output(results[0] if is_one else results)
        self.graph.lint()
        return self.graph

    def _place(self, node: Node) -> None:
        try:
            self._node(node)
        except SardonyxError as error:
            raise error.at(node.label)  # noqa: B904

    def enter_counter(self, value: Value) -> None:
        """Make `value` an input that is a Python integer."""
        self._values[value] = Sized(self._input(value), dtypes.INT64, 0)

    def _enter(self, inputs: Sequence[Value]) -> None:
        """Make inputs of the graph placeholders, those with an initializer last.

        Before IR 4 every initializer is an input too, which nobody means to feed.
        """
        has_defaults = self.outer is None and self.model.ir_version >= 4
        defaults: list[tuple[Value, FxNode]] = []
        for value in inputs:
            if value in self._values:
                continue
            if value.const is None:
                self._values[value] = made = self._input(value)
                is_tensor = value.type is None or isinstance(value.type, TensorType)
                if self._anchor is None and is_tensor:
                    self._anchor = made
        if has_defaults:
            for value in inputs:
                if value.const is not None:
                    given = self.graph.placeholder(_identifier(value.name), default_value=None)
                    defaults.append((value, given))
        for value, given in defaults:
            place = self.weights.place(value)
            assert place is not None
            made = self.call(_default, (given, self.attribute(place)), name=value.name)
            self._values[value] = made

    def _input(self, value: Value) -> FxNode:
        is_optional = isinstance(value.type, OptionalType)
        if is_optional and self.outer is None:
            return self.graph.placeholder(_identifier(value.name), default_value=None)
        return self.graph.placeholder(_identifier(value.name))

    # -- nodes ----------------------------------------------------------------------------------

    def call(
        self,
        function: Any,
        arguments: tuple[Any, ...],
        keywords: dict[str, Any] | None = None,
        *,
        name: str = "",
    ) -> FxNode:
        """A call of `function`, which tracing does not look into."""
        made = self.graph.create_node(
            "call_function", function, arguments, keywords or {}, name=_identifier(name)
        )
        if self._first is None:
            self._first = made
        return made

    def _node(self, node: Node) -> None:
        operator = operator_of(node, self.model.opset_imports)
        if isinstance(operator, ControlFlow):
            self._control(node, operator)
            return
        schema = operator.schema(operator.version)
        inputs = operator.arrange(schema, node.inputs, lift, attribute_values(node, {}))
        if self._fold(node, operator, inputs):
            return
        is_standard = not operator.domain
        if is_standard and operator.op_type == "Constant":
            self._constant(node, operator)
        elif is_standard and operator.op_type == "Identity":
            self._alias(node.output, inputs[0])
        elif not (is_standard and self._sized_node(node, operator, inputs)):
            self._tensor_node(node, operator, inputs)

    def _alias(self, output: Value, source: Value) -> None:
        known = self.known(source)
        if known is not None:
            self.weights.known[output] = known
        self._values[output] = self.find(source)

    def _constant(self, node: Node, operator: Operator) -> None:
        array = operator.reference()
        self._values[node.output] = self.attribute(self.weights.constant(node.output, array))

    def _fold(self, node: Node, operator: Operator, inputs: Sequence[Any]) -> bool:
        """Compute a node of constants now, where its outputs are small."""
        given = [self.known(value) for value in inputs]
        is_open = any(
            value is not None and known is None for value, known in zip(inputs, given, strict=True)
        )
        if is_open or not operator.deterministic or operator.op_type.startswith("Random"):
            return False
        try:
            with enforced(_FOLDING), np.errstate(all="ignore"):
                made: Any = operator.reference(*given)
        except _FAILURES:
            return False
        results = made if isinstance(made, tuple) else (made,)
        if not all(
            isinstance(each, np.ndarray) and each.size <= _LARGEST_LITERAL for each in results
        ):
            return False
        for value, array in zip(node.outputs, results, strict=False):
            self.weights.known[value] = array
        return True

    def _sized_node(self, node: Node, operator: Operator, inputs: Sequence[Any]) -> bool:
        """Write `node` as arithmetic on sizes, where it is that."""
        name = operator.op_type
        if name in {"Shape", "Size"}:
            found = self.find(inputs[0])
            source = found.node if isinstance(found, Sized) else found
            if name == "Size":
                made = self.call(sizes.size, (source,), name=node.output.name)
                self._values[node.output] = Sized(made, dtypes.INT64, 0)
                return True
            keywords = _given(operator, {"start": 0, "end": None})
            made = self.call(sizes.shape, (source,), keywords, name=node.output.name)
            self._values[node.output] = Sized(made, dtypes.INT64, 1)
            return True
        host = sizes.HOSTS.get(name)
        if host is None or not any(self._is_sized(value) for value in inputs):
            return False
        pairs = [None if value is None else self.sized(value) for value in inputs]
        if any(
            pair is None and value is not None for pair, value in zip(pairs, inputs, strict=True)
        ):
            return False
        ranks = [None if pair is None else pair[1] for pair in pairs]
        constants = [self._vector(value) for value in inputs]
        rank = host.rank(operator, ranks, constants)
        if rank is None or rank > 1:
            return False
        dtype = self.dtype(inputs[1] if name == "Where" else inputs[0])
        keywords = {}
        if name == "Cast":
            target: Any = operator
            keywords, dtype = {"to": sizes.CASTS[target.target]}, target.target
        elif name.startswith("Reduce"):
            keywords = _given(operator, {"keepdims": 1})
        if host.gives_bool:
            dtype = dtypes.BOOL
        arguments = [None if pair is None else pair[0] for pair in pairs]
        while arguments and arguments[-1] is None:
            arguments.pop()
        made = self.call(host.function, tuple(arguments), keywords, name=node.output.name)
        self._values[node.output] = Sized(made, dtype or dtypes.INT64, rank)
        return True

    def _is_sized(self, value: Value | Array | None) -> bool:
        if value is None or isinstance(value, np.ndarray) or self.known(value) is not None:
            return False
        return isinstance(self.find(value), Sized)

    def _vector(self, value: Value | Array | None) -> list[int] | None:
        known = self.known(value)
        return None if known is None else [int(item) for item in known.reshape(-1).tolist()]

    def _tensor_node(self, node: Node, operator: Operator, inputs: Sequence[Any]) -> None:
        found = find(operator.domain, operator.op_type, operator.version)
        if found is None:
            raise UnsupportedError(f"PyTorch has no counterpart of {operator.op_type}")
        arguments: list[Any] = []
        for index, value in enumerate(inputs):
            pair = self.sized(value) if found.parameter(index) in found.host else None
            arguments.append(self.tensor(value) if pair is None else pair[0])
        while arguments and arguments[-1] is None:
            arguments.pop()
        keywords = self._keywords(node, operator, inputs, found)
        name = next((value.name for value in node.outputs if value.name), operator.op_type)
        made = self.call(found.function, tuple(arguments), keywords, name=name)
        if operator.op_type == "DequantizeLinear" and not operator.domain:
            made = self._straight(inputs, made, keywords)
        self._unpack(node, made, several=found.several or len(node.outputs) > 1)

    def _straight(self, inputs: Sequence[Any], made: FxNode, keywords: dict[str, Any]) -> FxNode:
        """Lead gradients past a QuantizeLinear that `inputs` come from."""
        producer = getattr(inputs[0], "producer", None)
        if producer is None or producer.op_type != "QuantizeLinear":
            return made
        source, scale = self.tensor(producer.inputs[0]), self.tensor(inputs[1])
        axis = {"axis": keywords["axis"]} if "axis" in keywords else {}
        return self.call(straight_through, (source, made, scale), axis, name=f"{made.name}_st")

    def _keywords(
        self, node: Node, operator: Operator, inputs: Sequence[Any], found: Implementation
    ) -> dict[str, Any]:
        of_inputs = [self.dtype(value) for value in inputs]
        of_outputs = [self.dtype(value) for value in node.outputs]
        if found.attributes is not None:
            keywords = dict(found.attributes(operator, of_inputs, of_outputs))
        else:
            keywords = {}
            schema = operator.schema(operator.version)
            for attribute, field in schema.fields.items():
                value = getattr(operator, field)
                if field in found.keywords:
                    if value != found.keywords[field]:
                        keywords[field] = _plain(value, attribute)
                elif field not in found.ignored and value != schema.attributes[attribute].default:
                    raise UnsupportedError(
                        f"{operator.op_type} with attribute {attribute}={value!r} has no "
                        "counterpart in PyTorch"
                    )
        wanted = _INTERNAL & found.keywords.keys() - keywords.keys()
        if "version" in wanted and operator.version != found.keywords["version"]:
            keywords["version"] = operator.version
        if "n_outputs" in wanted and len(node.outputs) != found.keywords["n_outputs"]:
            keywords["n_outputs"] = len(node.outputs)
        if "dtype" in wanted and of_outputs[0] is not None:
            keywords["dtype"] = dtype_of(of_outputs[0])
        if "device" in wanted:
            for device in self._device_argument():
                keywords["device"] = device
        return keywords

    def _unpack(self, node: Node, made: FxNode, *, several: bool) -> None:
        if not several:
            self._values[node.output] = made
            return
        for index, value in enumerate(node.outputs):
            if value.name:
                self._values[value] = self.call(getitem, (made, index), name=value.name)

    # -- control flow ---------------------------------------------------------------------------

    def _control(self, node: Node, operator: Any) -> None:
        schema = operator.schema(operator.version)
        inputs = operator.arrange(schema, node.inputs, lift, attribute_values(node, {}))
        name = operator.op_type
        if name == "If":
            branches = [
                self._inner(graph) for graph in (operator.then_branch, operator.else_branch)
            ]
            keys = list(dict.fromkeys(key for scope, _ in branches for key in scope.captured))
            takes = [[keys.index(key) for key in scope.captured] for scope, _ in branches]
            module: torch.nn.Module = Branch(branches[0][1], branches[1][1], *takes)
            head: tuple[Any, ...] = (self._argument(inputs[0]),)
        else:
            body = operator.body_
            scope, inner = self._inner(body, is_loop=name == "Loop")
            keys = list(scope.captured)
            results = [self._declared(body, scope, value) for value in body.outputs]
            if name == "Loop":
                states = tuple([self.tensor(value) for value in inputs[2:]])
                module = Loop(inner, results[1 + len(states) :])
                head = (self._argument(inputs[0]), self._argument(inputs[1]), states)
            elif name == "Scan":
                given = tuple([self.tensor(value) for value in inputs[1:]])
                module = Scan(inner, operator, results)
                head = (self.tensor(inputs[0]), given)
            else:
                module = Map(inner, len(body.outputs))
                head = (tuple([self.tensor(value) for value in inputs]),)
        captured = tuple([self.outside(key) for key in keys])
        label = next((value.name for value in node.outputs if value.name), name)
        place = self._add_module(f"{name.lower()}_{_identifier(node.name or label)}", module)
        made = self.graph.call_module(place, (*head, captured))
        if self._first is None:
            self._first = made
        self._unpack(node, made, several=True)

    def _argument(self, value: Value | Array | None) -> Any:
        """A number where it is known without tensors, else a tensor."""
        pair = None if value is None else self.sized(value)
        return self.tensor(value) if pair is None else pair[0]

    def _inner(self, graph: Graph, *, is_loop: bool = False) -> tuple[Scope, torch.fx.GraphModule]:
        scope = Scope(self.model, self.facts, self.weights, self)
        if is_loop:
            scope.enter_counter(graph.inputs[0])
        scope.translate(graph)
        return scope, torch.fx.GraphModule(scope.modules, scope.graph, _identifier(graph.name))

    def _declared(
        self, _body: Graph, _scope: Scope, value: Value
    ) -> tuple[torch.dtype, tuple[int, ...]]:
        """Type and sizes of what a body returns, 0 for those that are not known."""
        dtype = self.dtype(value)
        fact = self.facts.get(value)
        shape = (fact.shape if fact is not None else None) or value.shape or ()
        return (
            torch.float32 if dtype is None else dtype_of(dtype),
            tuple([dim if isinstance(dim, int) else 0 for dim in shape]),
        )

    def _add_module(self, name: str, module: torch.nn.Module) -> str:
        wanted, count = name, 0
        while hasattr(self.modules, wanted):
            count += 1
            wanted = f"{name}_{count}"
        self.modules.add_module(wanted, module)
        return wanted


def _default(given: Any, default: Any) -> Any:
    """An input that has an initializer."""
    return default if given is None else given


def _given(operator: Operator, defaults: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: getattr(operator, name)
        for name, default in defaults.items()
        if getattr(operator, name) != default
    }


def _plain(value: Any, attribute: str) -> Any:
    if isinstance(value, Tensor):
        raise UnsupportedError(f"attribute {attribute} is a tensor")
    if isinstance(value, SequenceType):
        raise UnsupportedError(f"attribute {attribute} is a type")
    return value


_UNUSABLE: Final = re.compile(r"\W+", re.ASCII)


def _identifier(name: str) -> str:
    """A name of a variable like `name`."""
    text = _UNUSABLE.sub("_", name).strip("_")
    return text if text and not text[0].isdigit() else f"v{text}"
