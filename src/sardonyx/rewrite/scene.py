"""`Scene`: a model that is being rewritten, and what is known of it."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from sardonyx.errors import SardonyxError
from sardonyx.infer import infer
from sardonyx.ir.model import canonical_domain
from sardonyx.ir.tensor import ArrayTensor, Tensor
from sardonyx.ir.types import TensorType
from sardonyx.ir.value import Value
from sardonyx.limits import DEFAULT, Limits
from sardonyx.ops.bind import attribute_values, lift, operator_of
from sardonyx.ops.fact import UNKNOWN, Fact
from sardonyx.rewrite.writing import RewriteBuilder

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from sardonyx.dtypes import DType
    from sardonyx.ir.graph import Graph
    from sardonyx.ir.model import Model
    from sardonyx.ir.node import Node
    from sardonyx.ir.tensor import Array
    from sardonyx.ir.types import Shape
    from sardonyx.ops.operator import Operator

__all__ = ["Patch", "Scene", "same_type"]

_FIRST_WITH_FREE_INITIALIZERS: Final = 4
_TRAINING: Final = "ai.onnx.preview.training"


@dataclass(frozen=True, slots=True)
class Patch:
    """One change: the rule, the node it was found at, what went and what came."""

    rule: str
    node: str
    removed: tuple[str, ...] = ()
    added: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.rule} at {self.node}"


class Scene:
    """`model`, which is changed in place, with facts of its values and a log of `patches`.

    The main graph and its subgraphs are worked on, functions are not. After `most_patches`
    patches no more are made (`is_done`): so a bad one is found by bisection. With `mixed`, nodes of
    any opset version may be written, which no file can hold; and the transpose of a large constant
    in a matrix product is left to those who pack the product's operands. `facts` are those that
    inference gives, where they are known already and no initializer can be overridden.
    """

    def __init__(
        self,
        model: Model,
        *,
        limits: Limits = DEFAULT,
        mixed: bool = False,
        most_patches: int | None = None,
        facts: dict[Value, Fact] | None = None,
    ) -> None:
        self.model = model
        self.limits = limits
        self.mixed = mixed
        self.most_patches = most_patches
        self.patches: list[Patch] = []
        self.graphs = _graphs(model.graph)
        self.overridable = self._overridable()
        if facts is None or self.overridable:
            with self._without_defaults():
                facts = infer(model, limits=limits).facts
        self.facts = facts
        self.given_out = self._given_out()
        self.kept_names = _kept_names(model)
        first = RewriteBuilder(model.graph, self._imports(), facts=self.facts)
        first.mixed = mixed
        first.known = self.facts
        self._builders: dict[Graph, RewriteBuilder] = {model.graph: first}

    @property
    def is_done(self) -> bool:
        """Whether no more patches may be made."""
        return self.most_patches is not None and len(self.patches) >= self.most_patches

    def record(self, patch: Patch) -> None:
        """Note a change."""
        self.patches.append(patch)

    # -- what is known ---------------------------------------------------------------------------

    def fact(self, value: Value | None) -> Fact:
        """What is known of `value`."""
        if value is None:
            return UNKNOWN
        found = self.facts.get(value)
        return Fact(value.type) if found is None else found

    def shape(self, value: Value | None) -> Shape | None:
        """The shape of `value`, its dims numbers, symbols or None; None of unknown rank."""
        return self.fact(value).shape

    def rank(self, value: Value | None) -> int | None:
        """The rank of `value`, where it is known."""
        return self.fact(value).rank

    def dtype(self, value: Value | None) -> DType | None:
        """The element type of `value`, where it is known."""
        return self.fact(value).dtype

    def is_constant(self, value: Value | None) -> bool:
        """Whether `value` is a tensor that no run changes and that can be read."""
        if value is None:
            return False
        const = value.const
        if isinstance(const, Tensor):
            return value not in self.overridable and not const.is_detached
        producer = value.producer
        if producer is not None and producer.op_type == "Constant":
            return self.constant(value) is not None
        return const is None and self.fact(value).is_constant

    def constant(self, value: Value | None) -> Array | None:
        """The array that `value` always is, or None."""
        if value is None or value in self.overridable:
            return None
        const = value.const
        if isinstance(const, Tensor):
            return None if const.is_detached else const.numpy()
        if const is not None:
            return None
        known = self.fact(value).constant_value()
        if known is None and value.producer is not None:
            tensor = value.producer.attribute("value")
            if value.producer.op_type == "Constant" and isinstance(tensor, Tensor):
                known = None if tensor.is_detached else tensor.numpy()
        return known

    def number(self, value: Value | None) -> float | None:
        """The only element of a constant of one element, as a float, or None."""
        if value is None:
            return None
        shape = value.const.shape if isinstance(value.const, Tensor) else self.shape(value)
        if shape is None or any(dim != 1 for dim in shape):
            return None
        array = self.constant(value)
        if array is None or array.dtype == object or array.dtype.kind == "c":
            return None
        return float(array.reshape(-1)[0])

    def ints(self, value: Value | None) -> list[int] | None:
        """The elements of a constant integer tensor, or None."""
        array = self.constant(value)
        if array is None or array.dtype.kind not in "iu":
            return None
        return [int(item) for item in array.reshape(-1).tolist()]

    # -- nodes -----------------------------------------------------------------------------------

    def operator(self, node: Node) -> Operator | None:
        """The operator of `node` with its attributes, or None where it is unknown."""
        if self.model.functions and self.model.function_of(node) is not None:
            return None
        try:
            return operator_of(node, self.model.opset_imports)
        except SardonyxError:
            return None

    def arguments(self, node: Node, operator: Operator) -> Sequence[Value | None]:
        """The inputs of `node` in the newest form: an attribute that became one is a constant."""
        schema = operator.schema(operator.version)
        if schema.takes_plainly(len(node.inputs)):
            return node.inputs
        arranged: list[Value | None] = operator.arrange(
            schema, node.inputs, self._lifted, attribute_values(node, {})
        )
        return arranged

    def is_only_used_by(self, value: Value, nodes: Iterable[Node]) -> bool:
        """Whether nobody but `nodes` reads `value`, which is no output."""
        return not self.is_given_out(value) and all(user in nodes for user in value.users)

    def is_given_out(self, value: Value) -> bool:
        """Whether a graph gives `value` out, or something refers to its name."""
        return value in self.given_out or value.name in self.kept_names

    def builder(self, graph: Graph) -> RewriteBuilder:
        """What writes nodes into `graph`."""
        found = self._builders.get(graph)
        if found is None:
            found = self._builders[graph] = self._builders[self.model.graph].beside(graph)
        return found

    # -- changes ---------------------------------------------------------------------------------

    def redirect(
        self, node: Node, index: int, new: Value, fresh: Sequence[Node] = ()
    ) -> list[Node]:
        """Make `new` take the place of output `index` of `node`; returns nodes that changed.

        Where a graph gives the old value out, or one of the `fresh` nodes makes the new one, the
        old value stays under its name: it becomes the output of the node that makes `new`, or of an
        Identity. The node itself stays, its output unused.
        """
        old = node.outputs[index]
        changed = list(old.users)
        is_needed = self.is_given_out(old)
        producer = new.producer
        can_move = (
            producer is not None and producer.graph is node.graph and not self.is_given_out(new)
        )
        if not (is_needed or (can_move and old.name and producer in fresh)):
            old.replace_uses(new)
            return changed
        if not can_move:
            builder = self.builder(_graph_of(node))
            with builder.at(node):
                new = builder.Identity(new)
            producer = new.producer
        assert producer is not None
        spare = Value("", old.type)
        spare.producer, spare.index = node, index
        node.outputs = tuple([spare if value is old else value for value in node.outputs])
        changed += list(new.users)
        new.replace_uses(old)
        producer.outputs = tuple([old if value is new else value for value in producer.outputs])
        old.producer, old.index = producer, new.index
        return [*changed, producer]

    def sweep(self, node: Node) -> list[Node]:
        """Take `node` out if nothing uses it, and what only it used; returns what was read."""
        touched: list[Node] = []
        stack = [node]
        while stack:
            current = stack.pop()
            if current.graph is None or self.is_used(current):
                continue
            sources = [value.producer for value in current.inputs if value is not None]
            for inner in current.subgraphs():
                sources += self._empty(inner)
            current.graph.nodes.remove(current)
            found = [source for source in sources if source is not None]
            stack += found
            touched += found
        return [each for each in touched if each.graph is not None]

    def is_used(self, node: Node) -> bool:
        """Whether anything needs an output of `node`."""
        return any(value.users or self.is_given_out(value) for value in node.outputs)

    def take_branch(self, node: Node, graph: Graph) -> list[Value]:
        """Move the nodes of `graph`, a subgraph of `node` without inputs, to before `node`.

        Returns the graph's outputs, which it gives out no more.
        """
        outer = _graph_of(node)
        taken: set[str] = set()
        for other in self.graphs:
            if other is not graph:
                taken.update(other.values())
        builder = self.builder(outer)
        own = [value for each in graph.nodes for value in each.outputs]
        for value in [*own, *graph.initializers]:
            if value.name in taken:
                value.name = builder.unique(value.name)
        outer.initializers.extend(graph.initializers)
        graph.initializers.clear()
        for each in list(graph.nodes):
            graph.nodes.move_to(outer.nodes, each, node)
        outputs = list(graph.outputs)
        for value in outputs:
            self._forget(value)
        graph.outputs.clear()
        return outputs

    def _empty(self, outer: Graph) -> list[Node | None]:
        """Take all out of a subgraph whose node goes; returns what made the values it read."""
        sources: list[Node | None] = []
        gone = _graphs(outer)
        for graph in gone:
            for output in graph.outputs:
                self._forget(output)
                sources.append(output.producer)
            for each in graph.nodes:
                sources += [value.producer for value in each.inputs if value is not None]
                graph.nodes.remove(each)
        self.graphs = [graph for graph in self.graphs if graph not in gone]
        return sources

    def _forget(self, value: Value) -> None:
        if self.given_out[value] <= 1:
            del self.given_out[value]
        else:
            self.given_out[value] -= 1

    def _lifted(self, name: str, value: Any) -> Value:
        array = lift(name, value)
        made = Value("", None, ArrayTensor(array))
        self.facts[made] = Fact.constant(array)
        return made

    # -- setting up ------------------------------------------------------------------------------

    def _imports(self) -> dict[str, int]:
        imports = dict(self.model.opset_imports)
        if self.model.opset() is None:
            imports[""] = 1
        return {canonical_domain(domain): version for domain, version in imports.items()}

    def _given_out(self) -> Counter[Value]:
        return Counter([value for graph in self.graphs for value in graph.outputs])

    def _overridable(self) -> frozenset[Value]:
        """Inputs with a default; before IR 4 every initializer is an input, and constant."""
        if self.model.ir_version < _FIRST_WITH_FREE_INITIALIZERS:
            return frozenset()
        return frozenset([value for value in self.model.graph.inputs if value.const is not None])

    @contextmanager
    def _without_defaults(self) -> Iterator[None]:
        hidden = [(value, value.const, value._type) for value in self.overridable]  # noqa: SLF001
        graph = self.model.graph
        initializers = list(graph.initializers)
        for value, const, declared in hidden:
            if declared is None and isinstance(const, Tensor):
                value.type = TensorType(const.dtype, const.shape)
            value.const = None
        if hidden:
            graph.initializers[:] = [v for v in initializers if v not in self.overridable]
        try:
            yield
        finally:
            for value, const, declared in hidden:
                value.const = const
                value._type = declared  # noqa: SLF001
            graph.initializers[:] = initializers


def _graph_of(node: Node) -> Graph:
    assert node.graph is not None
    return node.graph


def _graphs(graph: Graph) -> list[Graph]:
    """`graph` and all graphs within it, outer before inner."""
    found = [graph]
    for current in found:
        for node in current.nodes:
            found.extend(node.subgraphs())
    return found


def _kept_names(model: Model) -> frozenset[str]:
    """Names of values that training information and Gradient nodes refer to."""
    names: set[str] = set()
    for info in model.training:
        for bindings in (info.initialization_binding, info.update_binding):
            names.update(bindings)
            names.update(bindings.values())
        for graph in (info.initialization, info.algorithm):
            if graph is not None:
                for node in graph.all_nodes():
                    names.update([value.name for value in node.inputs if value is not None])
                names.update([value.name for value in graph.outputs])
    for node in model.graph.all_nodes():
        if canonical_domain(node.domain) == _TRAINING:
            for key in ("xs", "zs", "y"):
                value = node.attribute(key)
                names.update([value] if isinstance(value, str) else value or ())
    names.discard("")
    return frozenset(names)


def same_type(old: Fact, new: Fact) -> str | None:
    """Why a value that `new` is said of cannot stand for one that `old` is said of, or None."""
    if old.type is None:
        return None
    if not isinstance(old.type, TensorType):
        return None if old.type == new.type else f"{new} is not {old}"
    if new.dtype is not old.dtype and old.dtype is not None:
        return f"{new} would take the place of {old}"
    if old.shape is None:
        return None
    if new.shape is None or len(new.shape) != len(old.shape):
        return f"{new} would take the place of {old}"
    for ours, theirs in zip(old.shape, new.shape, strict=True):
        if isinstance(ours, int) and isinstance(theirs, int) and ours != theirs:
            return f"{new} would take the place of {old}"
    return None
