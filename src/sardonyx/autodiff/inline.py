"""Functions that contain Gradient nodes, written out where they are called.

A Gradient names values of its own graph, so it is resolved before its function is copied: the
named values travel as further inputs, and give their new names at the end.
"""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Final

from sardonyx import limits
from sardonyx.autodiff.copying import copy_node
from sardonyx.errors import ModelError, UnsupportedError, quote
from sardonyx.ir.model import canonical_domain
from sardonyx.ir.node import AttributeType, Node
from sardonyx.ops import registry

if TYPE_CHECKING:
    from collections.abc import Callable

    from sardonyx.ir.graph import Graph
    from sardonyx.ir.model import Function, Model
    from sardonyx.ir.value import Value

__all__ = ["DOMAIN", "check_versions", "inline_gradients", "is_gradient", "resolve"]

DOMAIN: Final = "ai.onnx.preview.training"
"""The domain of Gradient."""


def is_gradient(node: Node) -> bool:
    """Whether `node` is a Gradient of the standard."""
    return node.op_type == "Gradient" and node.domain == DOMAIN


def resolve(node: Node) -> tuple[Value, list[Value], list[Value]]:
    """The values that a Gradient calls y, xs and zs, in the graphs around it."""
    scope: dict[str, Value] = {}
    graph: Graph | None = node.graph
    while graph is not None:
        scope = {**graph.values(), **scope}
        graph = graph.parent.graph if graph.parent is not None else None
    lists = [
        [node.attribute("y")],
        _strings(node, "xs"),
        _strings(node, "zs"),
    ]
    for name in (name for names in lists for name in names):
        if not isinstance(name, str) or name not in scope:
            raise ModelError(
                f"Gradient names {quote(name)}, which the graph does not have",
                place=node.label,
                hint="xs, zs and y are names of values in the graphs around the node",
            )
    (y,), xs, zs = ([scope[name] for name in names] for names in lists)
    if len(node.inputs) != len(xs) + len(zs) or len(node.outputs) > len(xs):
        raise ModelError(
            f"Gradient of {len(xs)} xs and {len(zs)} zs has {len(node.inputs)} inputs and "
            f"{len(node.outputs)} outputs",
            place=node.label,
        )
    return y, xs, zs


def _strings(node: Node, name: str) -> list[str]:
    given = node.attribute(name)
    return list(given) if isinstance(given, tuple) else []


def inline_gradients(model: Model) -> None:
    """Write out, in place, every call of a function that contains a Gradient."""
    wanted = _with_gradients(model)
    if not wanted:
        return
    for function in wanted:
        for node in list(function.graph.all_nodes()):
            if is_gradient(node):
                y, xs, zs = resolve(node)
                _set_inputs(node, [*node.inputs, y, *xs, *zs])
    keys = {function.key for function in wanted}
    unique = _namer(model)
    written, most = 0, limits.active().nodes
    stack = [model.graph]
    while stack:
        graph = stack.pop()
        again = False
        for node in list(graph.nodes):
            called = model.function_of(node)
            if called is not None and called.key in keys:
                written += len(called.graph.nodes) + len(called.graph.outputs)
                if written > most:
                    raise limits.exceeded("nodes", most, "more, after functions are expanded,")
                _write_out(model, called, node, unique)
                again = True
            else:
                stack.extend(node.subgraphs())
        if again:
            stack.append(graph)
    for key in keys:
        del model.functions[key]
    for node in model.graph.all_nodes():
        if is_gradient(node):
            _name_again(node)


def check_versions(model: Model, function: Function) -> None:
    """Raise `UnsupportedError` where the body means other versions of operators than the model."""
    imports = model.opset_imports
    for node in function.graph.all_nodes():
        if model.function_of(node) is not None:
            continue
        operator = registry.get(node.domain, node.op_type)
        inner, outer = (
            next((v for d, v in each.items() if canonical_domain(d) == operator.domain), None)
            for each in ({**imports, **function.opset_imports}, imports)
        )
        if inner != outer and (
            inner is None
            or outer is None
            or operator.schema(inner).since_version != operator.schema(outer).since_version
        ):
            raise UnsupportedError(
                f"function {quote(function.name)} has {node.op_type} of version {inner}, the "
                f"model imports {outer}",
                hint="let both import one operator set",
            )


def _with_gradients(model: Model) -> list[Function]:
    """The functions that contain a Gradient or call one that does."""
    found = {
        key
        for key, function in model.functions.items()
        if any(is_gradient(node) for node in function.graph.all_nodes())
    }
    calls = {
        key: {
            called.key
            for node in function.graph.all_nodes()
            if (called := model.function_of(node)) is not None
        }
        for key, function in model.functions.items()
    }
    size = -1
    while len(found) != size:
        size = len(found)
        found.update(key for key, called in calls.items() if called & found)
    left = {key: called & found for key, called in calls.items() if key in found}
    while left:
        leaves = {key for key, called in left.items() if not called & left.keys()}
        if not leaves:
            names = ", ".join(sorted(quote(key[1]) for key in left))
            raise ModelError(f"functions call each other in a cycle: {names}")
        left = {key: called for key, called in left.items() if key not in leaves}
    return [model.functions[key] for key in found]


def _write_out(model: Model, function: Function, call: Node, unique: Callable[[str], str]) -> None:
    """Replace `call` by copies of the function's nodes."""
    check_versions(model, function)
    graph = call.graph
    assert graph is not None
    inner = function.graph
    given = dict(zip(inner.inputs, call.inputs, strict=False))
    mapping = {value: outer for value, outer in given.items() if outer is not None}
    absent = {value for value in inner.inputs if given.get(value) is None}
    bound = {**function.defaults, **call.attributes}
    for node in inner.nodes:
        copied = copy_node(node, mapping, bound=bound, rename=unique)
        copied.name = unique(f"{call.name}.{node.name or node.op_type}")
        for position, value in enumerate(copied.inputs):
            if value in absent:
                copied.set_input(position, None)
        graph.nodes.insert_before(call, copied)
    outputs = call.outputs
    place = call._next  # noqa: SLF001
    graph.nodes.remove(call)
    for output, value in zip(outputs, inner.outputs, strict=False):
        node = Node("Identity", [mapping[value]], [output], name=unique(f"{call.name}.Identity"))
        if place is None:
            graph.nodes.append(node)
        else:
            graph.nodes.insert_before(place, node)


def _name_again(node: Node) -> None:
    """Turn the further inputs of a resolved Gradient into the names of its attributes."""
    xs, zs = len(_strings(node, "xs")), len(_strings(node, "zs"))
    if len(node.inputs) == xs + zs:
        return
    named = [value.name for value in node.inputs[xs + zs :] if value is not None]
    if len(named) != 1 + xs + zs:
        raise ModelError("Gradient by an input that the call leaves out", place=node.label)
    node.set_attribute("y", named[0])
    node.set_attribute("xs", named[1 : 1 + xs], AttributeType.STRINGS)
    node.set_attribute("zs", named[1 + xs :], AttributeType.STRINGS)
    _set_inputs(node, list(node.inputs[: xs + zs]))


def _set_inputs(node: Node, inputs: list[Value | None]) -> None:
    node.detach()
    node.inputs = (None,) * len(inputs)
    for position, value in enumerate(inputs):
        node.set_input(position, value)


def _namer(model: Model) -> Callable[[str], str]:
    taken = {
        name
        for graph in model.graphs()
        for node in graph.all_nodes()
        for name in (node.name, *(value.name for value in node.outputs))
    }
    for graph in model.graphs():
        taken.update(value.name for value in (*graph.inputs, *graph.initializers))
        for node in graph.all_nodes():
            for inner in node.subgraphs():
                taken.update(value.name for value in (*inner.inputs, *inner.initializers))

    def unique(wanted: str) -> str:
        numbered = (f"{wanted}_{number}" for number in count(1))
        name = wanted if wanted not in taken else next(n for n in numbered if n not in taken)
        taken.add(name)
        return name

    return unique
