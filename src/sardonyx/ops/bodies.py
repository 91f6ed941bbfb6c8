"""Function bodies: a node replaced by nodes of smaller operators.

The operators that the standard defines by a function say in `Operator.body` what they are made
of. `expand` and `expand_all` write that into a graph, `function` into a `Function`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sardonyx.errors import ModelError, SardonyxError, UnsupportedError
from sardonyx.ir.graph import Graph
from sardonyx.ir.model import Function, canonical_domain
from sardonyx.ir.value import Value
from sardonyx.ops import registry
from sardonyx.ops.bind import attribute_values, operator_of
from sardonyx.ops.body_builder import BodyBuilder
from sardonyx.ops.fact import Fact
from sardonyx.ops.inferring import without_anonymous
from sardonyx.ops.operator import ControlFlow

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from sardonyx.ir.model import Model
    from sardonyx.ir.node import Node
    from sardonyx.ops.operator import Operator

__all__ = ["expand", "expand_all", "function", "has_body"]

_FIRST_WITH_INITIALIZERS = 4
"""The first IR version whose initializers need not be inputs too."""


def has_body(node: Node, opset_imports: Mapping[str, int]) -> bool:
    """Whether the standard defines the operator of `node`, in its version, by a function."""
    operator = registry.find(node.domain, node.op_type)
    if operator is None:
        return False
    try:
        return operator.has_body(_version(node.domain, opset_imports))
    except SardonyxError:
        return False


def expand(
    node: Node,
    opset_imports: Mapping[str, int],
    *,
    opset: int | None = None,
    facts: Mapping[Value, Fact] | None = None,
    constants_as_nodes: bool = False,
) -> list[Node]:
    """Replace `node` in its graph by the body of its operator, and return the new nodes.

    The outputs stay the same `Value`s under their names; new names begin with the node's and are
    free in all enclosing graphs and subgraphs; new nodes carry the node's metadata. Constants
    become initializers of the node's graph, or Constant nodes with `constants_as_nodes`, which a
    function's graph and IR 3 need. New values have types as far as they follow.

    Types of inputs are taken from `facts` (what `infer` found) or from the values themselves, so
    infer shapes first. Nodes are written for opset `opset` of the default domain, by default the
    imported one. Where that fails nothing is changed: `UnsupportedError` for an operator without
    a body, for an opset that lacks what the body needs, and where a type or rank that the body
    needs is not known; `ModelError` for a node that does not fit together.
    """
    if node.graph is None:
        raise UnsupportedError("a node that is in no graph cannot be expanded", place=node.label)
    builder = _builder(
        node.graph, opset_imports, opset, facts, constants_as_nodes=constants_as_nodes
    )
    writer = _Writer(node.graph, opset_imports, builder)
    try:
        return writer.expand(node)
    finally:
        writer.finish()


def expand_all(
    model: Model,
    *,
    only: Collection[str] | Callable[[Node], bool] | None = None,
    opset: int | None = None,
    facts: Mapping[Value, Fact] | None = None,
) -> int:
    """Expand nodes of the main graph and its subgraphs, in place; returns how many.

    `only` are operators' names, or says which nodes; by default all that have a body. Nodes of a
    body are expanded in turn. A node that calls a function of the model is left alone, and so are
    the nodes in such functions. See `expand` for the rest; an error names the node, and the model
    is then expanded up to there.
    """
    imports = dict(model.opset_imports)
    if model.opset() is None:
        imports[""] = registry.NEWEST_OPSET[""]
    as_nodes = model.ir_version < _FIRST_WITH_INITIALIZERS
    first = _builder(model.graph, imports, opset, facts, constants_as_nodes=as_nodes)
    count = 0
    graphs = [model.graph]
    while graphs:
        graph = graphs.pop()
        writer: _Writer | None = None
        waiting = [(node, imports) for node in reversed(graph.nodes)]
        try:
            while waiting:
                node, given = waiting.pop()
                is_call = model.function_of(node) is not None
                if not is_call and _is_wanted(node, only) and has_body(node, given):
                    writer = writer or _Writer(graph, imports, first)
                    made = writer.expand(node, given)
                    waiting.extend((each, writer.builder.opset_imports) for each in reversed(made))
                    count += 1
                else:
                    graphs.extend(node.subgraphs())
        finally:
            if writer is not None:
                writer.finish()
    if count and model.opset() is None:
        model.opset_imports[""] = imports[""]
    return count


def function(
    node: Node,
    opset_imports: Mapping[str, int],
    *,
    opset: int | None = None,
    facts: Mapping[Value, Fact] | None = None,
    domain: str | None = None,
    name: str | None = None,
    overload: str = "",
) -> Function:
    """The body of `node` as a function of its inputs, for its attributes and types of inputs.

    The function is called like the operator unless `domain` and `name` are given; its inputs and
    outputs are called like the operator's. An input that the node leaves out is not used. Errors
    as in `expand`.
    """
    operator = _operator(node, opset_imports)
    schema = operator.schema(operator.version)
    inputs: list[Value] = []
    known: dict[Value, Fact] = {}
    for index, given in enumerate(node.inputs):
        value = Value(_port(list(schema.inputs), index))
        if given is not None:
            fact = (facts or {}).get(given)
            value.type = without_anonymous(fact.type if fact and fact.type else given.type)
            known[value] = Fact(value.type)
        inputs.append(value)
    graph = Graph(node.op_type, inputs)
    builder = _builder(graph, opset_imports, opset, known, constants_as_nodes=True)
    passed = [None if old is None else new for old, new in zip(node.inputs, inputs, strict=True)]
    results = _written(operator, builder, passed, node)
    for index, value in enumerate(results):
        if value in inputs or value in graph.outputs:
            value = builder.Identity(value)
        builder.rename(value, builder.free(_port(list(schema.outputs), index)))
        graph.outputs.append(value)
    _prune(builder.written, set(graph.outputs))
    return Function(
        name or node.op_type,
        node.domain if domain is None else domain,
        graph,
        _used(builder.opset_imports, graph),
        overload,
    )


def _is_wanted(node: Node, only: Collection[str] | Callable[[Node], bool] | None) -> bool:
    if only is None:
        return True
    return only(node) if callable(only) else node.op_type in only


def _version(domain: str, opset_imports: Mapping[str, int]) -> int:
    wanted = canonical_domain(domain)
    return next(
        (
            version
            for imported, version in opset_imports.items()
            if canonical_domain(imported) == wanted
        ),
        0,
    )


def _operator(node: Node, opset_imports: Mapping[str, int]) -> Operator:
    """The node's operator, with a body and all attributes at hand."""
    operator = operator_of(node, opset_imports)
    where = f"{node.op_type}-{operator.version}"
    if not operator.has_body(operator.version):
        raise UnsupportedError(f"{where} has no function body", place=node.label)
    for attribute in node.attributes.values():
        if attribute.ref:
            raise UnsupportedError(
                f"attribute {attribute.name!r} of {where} is the enclosing function's",
                place=node.label,
                hint="inline the function first",
            )
    return operator


def _builder(
    graph: Graph,
    opset_imports: Mapping[str, int],
    opset: int | None,
    facts: Mapping[Value, Fact] | None,
    *,
    constants_as_nodes: bool,
) -> BodyBuilder:
    imports = {canonical_domain(imported): version for imported, version in opset_imports.items()}
    if opset is not None:
        imports[""] = opset
    return BodyBuilder(graph, imports, facts=facts, constants_as_nodes=constants_as_nodes)


def _written(
    operator: Operator, builder: BodyBuilder, inputs: Sequence[Value | None], node: Node
) -> list[Value]:
    """The outputs of the body that this writes, as many as `node` has.

    Each is the output of a new node of its own, but where the node's is not computed.
    """
    schema = operator.schema(operator.version)
    given = attribute_values(node, {})
    heading = node.name or next((value.name for value in node.outputs if value.name), node.op_type)
    try:
        with builder.metadata(node.metadata, prefix=f"{heading}/"):
            arguments = operator.arrange(
                schema, inputs, lambda _name, value: builder.lifted(value), given
            )
            if not isinstance(operator, ControlFlow):
                operator.infer(
                    *(None if value is None else builder.fact(value) for value in arguments)
                )
            made: Any = operator.body(builder, *arguments)
            results = list(made if isinstance(made, tuple) else (made,))[: len(node.outputs)]
            for index, value in enumerate(results):
                is_own = value.producer in builder.written and value not in results[:index]
                if not is_own and node.outputs[index].name:
                    results[index] = builder.Identity(value)
    except SardonyxError as error:
        raise error.at(node.label)  # noqa: B904
    except (ValueError, TypeError, LookupError, ArithmeticError, AssertionError) as error:
        raise ModelError(f"no function body fits {node.op_type}: {error}").at(node.label) from error
    return results


class _Writer:
    """Writes bodies into one graph; what is known of values carries over from one to the next."""

    def __init__(
        self, graph: Graph, opset_imports: Mapping[str, int], builder: BodyBuilder
    ) -> None:
        self.graph = graph
        self.opset_imports = opset_imports
        self.builder = builder if builder.graph is graph else builder.beside(graph)

    def expand(self, node: Node, opset_imports: Mapping[str, int] | None = None) -> list[Node]:
        """Replace `node`, of a model with `opset_imports`, by its body."""
        operator = _operator(node, self.opset_imports if opset_imports is None else opset_imports)
        builder = self.builder
        builder.written.clear()
        try:
            with builder.at(node):
                results = _written(operator, builder, node.inputs, node)
        except BaseException:
            for each in reversed(builder.written):
                _remove(each)
            raise
        for old, new in zip(node.outputs, results, strict=False):
            if old.name:
                _take_over(old, new)
        _remove(node)
        made = _prune(builder.written, set(node.outputs))
        builder.written.clear()
        return made

    def finish(self) -> None:
        """Take out constants that turned out to be of no use."""
        unused = {
            value
            for value in self.builder.constants
            if not value.users and value not in self.graph.outputs
        }
        if unused:
            self.graph.initializers[:] = [
                value for value in self.graph.initializers if value not in unused
            ]
        self.builder.constants.clear()


def _take_over(old: Value, new: Value) -> None:
    """Make `old` the output of the node that makes `new`, which nothing reads any more."""
    producer = new.producer
    assert producer is not None
    if old.type is None:
        old.type = new.type
    new.replace_uses(old)
    producer.outputs = tuple(old if value is new else value for value in producer.outputs)
    old.producer, old.index = producer, new.index


def _remove(node: Node) -> None:
    """Take `node` out of its graph; what its subgraphs read is free as well."""
    for graph in node.subgraphs():
        for inner in graph.all_nodes():
            inner.detach()
    if node.graph is not None:
        node.graph.nodes.remove(node)


def _prune(nodes: Sequence[Node], kept: set[Value]) -> list[Node]:
    """Take out the nodes that nothing needs; returns the others in order."""
    left = []
    for node in reversed(nodes):
        if any(value.users or value in kept for value in node.outputs):
            left.append(node)
        else:
            _remove(node)
    return left[::-1]


def _port(names: list[str], index: int) -> str:
    """The name of a parameter; those of a variadic one are numbered."""
    if index < len(names) - 1:
        return names[index]
    last = names[-1]
    return last if index < len(names) else f"{last}_{index - len(names) + 1}"


def _used(opset_imports: Mapping[str, int], graph: Graph) -> dict[str, int]:
    used = {canonical_domain(node.domain) for node in graph.all_nodes()} | {""}
    return {domain: version for domain, version in opset_imports.items() if domain in used}
