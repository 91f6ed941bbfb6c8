"""`expand`: Gradient nodes written out as the nodes that compute them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sardonyx import limits
from sardonyx.autodiff.copying import copy_model
from sardonyx.autodiff.inline import DOMAIN, inline_gradients, is_gradient, resolve
from sardonyx.autodiff.reverse import Reverse, ancestors, reads
from sardonyx.errors import ModelError, SardonyxError
from sardonyx.infer import infer
from sardonyx.ops.inferring import without_anonymous
from sardonyx.ops.writer import Writer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sardonyx.ir.graph import Graph
    from sardonyx.ir.model import Model
    from sardonyx.ir.node import Node
    from sardonyx.ir.value import Value

__all__ = ["expand", "has_gradients"]


def has_gradients(model: Model) -> bool:
    """Whether a Gradient node is in the main graph, its subgraphs or a function."""
    imports = [model.opset_imports, *(f.opset_imports for f in model.functions.values())]
    if not any(DOMAIN in each for each in imports):
        return False
    graphs = [model.graph, *(function.graph for function in model.functions.values())]
    return any(is_gradient(node) for graph in graphs for node in graph.all_nodes())


def expand(model: Model) -> Model:
    """The model with every Gradient node replaced by nodes that compute what it means.

    Returns `model` itself where it has none, else a copy that shares its tensors. Calls of
    functions that contain a Gradient are written out too. Training graphs are left as they are.

    Raises `ModelError` where a name in `xs`, `zs` or `y` is not in the graph and where a y
    depends on its own gradient, and `UnsupportedError` as `gradients` does.
    """
    if not has_gradients(model):
        return model
    made = copy_model(model)
    inline_gradients(made)
    op = Writer(made.graph, made.opset_imports, facts=infer(made).facts)
    expansion = _Expansion(made, op)
    for node in list(made.graph.all_nodes()):
        if is_gradient(node) and node.graph is not None:
            expansion.replace(node)
    return made


class _Expansion:
    def __init__(self, model: Model, op: Writer) -> None:
        self.model = model
        self.op = op
        self.pending: set[Node] = set()

    def replace(self, node: Node) -> None:
        """Write out `node`, and before it the Gradient nodes that its y is computed by."""
        if node in self.pending:
            raise ModelError("y depends on its own gradient", place=node.label)
        self.pending.add(node)
        if len(self.pending) > limits.active().depth:
            raise limits.exceeded("depth", limits.active().depth, len(self.pending))
        try:
            y, xs, zs = resolve(node)
            for earlier in ancestors([y], {*xs, *zs}):
                if is_gradient(earlier) and earlier.graph is not None:
                    self.replace(earlier)
            self._write(node, y, xs, zs)
        except SardonyxError as error:
            raise error.at(node.label)  # noqa: B904
        self.pending.discard(node)

    def _write(self, node: Node, y: Value, xs: list[Value], zs: list[Value]) -> None:
        graph = node.graph
        assert graph is not None
        op = self._writer_of(graph)
        with op.at(node), op.metadata({}, prefix=f"{node.name or 'Gradient'}."):
            places, target = self._at_point(op, node, y, [*xs, *zs])
            found = Reverse(self.model, op).run(
                [target], [op.ones_like(target)], places[: len(xs)], places[len(xs) :]
            )
            results = [
                op.zeros_like(x) if grad is None else grad
                for x, grad in zip(places, found, strict=False)
            ]
            outputs = node.outputs
            with op.at(node._next):  # noqa: SLF001
                graph.nodes.remove(node)
                for output, x, result in zip(outputs, places, results, strict=False):
                    output.producer = None
                    if output.name or output.users:
                        op.define(output, result)
                        output.type = without_anonymous(op.fact(x).type)
        op.sweep(outputs)

    def _writer_of(self, graph: Graph) -> Writer:
        if graph is self.op.graph:
            return self.op
        return Writer(graph, self.op.opset_imports, outer=self.op)

    def _at_point(
        self, op: Writer, node: Node, y: Value, named: Sequence[Value]
    ) -> tuple[list[Value], Value]:
        """The independent variables and y, computed at the inputs of the Gradient `node`.

        The graph's own nodes serve where the inputs are the values that the node names, and
        come before it; the others are written again.
        """
        mapping = {
            value: op.Identity(given)
            for value, given in zip(named, node.inputs, strict=True)
            if given is not None and given is not value
        }
        before = _nodes_before(node)
        again: list[Node] = []
        for each in ancestors([y], set(named)):
            if each not in before or any(value in mapping for value in reads(each)):
                again.append(each)
                mapping.update((value, value) for value in each.outputs)
        for each in again:
            for value in each.outputs:
                del mapping[value]
        Reverse(self.model, op).replay(again, mapping, set())
        return [mapping.get(value, value) for value in named], mapping.get(y, y)


def _nodes_before(node: Node) -> set[Node]:
    """The nodes that are evaluated before `node`, in its graph and those around it."""
    found: set[Node] = set()
    place: Node | None = node
    while place is not None and place.graph is not None:
        for each in place.graph.nodes:
            if each is place:
                break
            found.add(each)
        place = place.graph.parent
    return found
