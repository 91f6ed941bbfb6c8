"""Gradients through If, Scan and Loop.

An If becomes an If whose branches compute gradients. A Scan is run again with its states kept
step by step, and then a Scan in the opposite direction carries the gradients of the states back
and adds up those of outer values. A Loop is kept in the same way, and also goes back by a Scan.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sardonyx.dtypes import INT64
from sardonyx.errors import UnsupportedError
from sardonyx.ir.tensor import Tensor
from sardonyx.ir.types import TensorType
from sardonyx.ir.value import Value
from sardonyx.ops.fact import Fact
from sardonyx.ops.inferring import without_anonymous

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sardonyx.autodiff.reverse import Reverse
    from sardonyx.ir.graph import Graph
    from sardonyx.ir.node import Node
    from sardonyx.ops.writer import Writer

__all__ = ["control_gradient"]

Pairs = list[tuple["Value | None", "Value | None"]]


def control_gradient(
    reverse: Reverse, node: Node, grads: Sequence[Value | None], outer: list[Value]
) -> Pairs:
    """Values that `node` reads and their gradients; `outer` are those that only its graphs read."""
    if node.op_type == "If":
        return _if_gradient(reverse, node, grads, outer)
    if node.op_type == "Scan":
        return _scan_gradient(reverse, node, grads, outer)
    return _loop_gradient(reverse, node, grads, outer)


@dataclass
class _Slice:
    """What a step reads or gives: `inside` the body, `whole` outside along `axis`."""

    inside: Value
    whole: Value
    axis: int = 0
    direction: int = 0


def _if_gradient(
    reverse: Reverse, node: Node, grads: Sequence[Value | None], outer: list[Value]
) -> Pairs:
    if not outer:
        return []
    op = reverse.op
    branches: dict[str, Graph] = {}
    for name in ("then_branch", "else_branch"):
        branch: Graph = node.attribute(name)
        inner = op.branch(name)
        mapping: dict[Value, Value] = {}
        ys = _replayed(reverse, inner, branch, mapping)
        found = reverse.inner(inner).run(ys, grads, outer)
        _finish(inner, [grad or inner.zeros_like(x) for x, grad in zip(outer, found, strict=True)])
        branches[name] = inner.graph
    made = op.apply("If", [node.inputs[0]], _outputs=len(outer), **branches)
    return _paired(op, outer, made)


def _scan_gradient(
    reverse: Reverse, node: Node, grads: Sequence[Value | None], outer: list[Value]
) -> Pairs:
    op, body = reverse.op, _body(node)
    count = len(node.inputs) - int(node.attribute("num_scan_inputs"))
    given = [value for value in node.inputs if value is not None]
    _check_tensors(op, body.inputs)
    inner = op.branch("kept")
    mapping = {value: _input(inner, value, op.fact(value)) for value in body.inputs}
    finals = _replayed(reverse, inner, body, mapping)[:count]
    _finish(inner, [*finals, *(mapping[value] for value in body.inputs[:count])])
    options = {
        "num_scan_inputs": len(given) - count,
        "scan_input_axes": node.attribute("scan_input_axes"),
        "scan_input_directions": node.attribute("scan_input_directions"),
    }
    kept: Sequence[Value] = ()
    if count:
        kept = op.apply("Scan", given, _outputs=2 * count, body=inner.graph, **options)[count:]
    axes, directions = (
        node.attribute(f"scan_input_{name}") or (0,) * (len(given) - count)
        for name in ("axes", "directions")
    )
    slices = [
        _Slice(inside, whole, axis, direction)
        for inside, whole, axis, direction in zip(
            body.inputs[count:], given[count:], axes, directions, strict=True
        )
    ]
    out_axes, out_directions = (
        node.attribute(f"scan_output_{name}") or (0,) * (len(grads) - count)
        for name in ("axes", "directions")
    )
    results = [
        _Slice(inside, grad, axis, direction)
        for inside, grad, axis, direction in zip(
            body.outputs[count:], grads[count:], out_axes, out_directions, strict=True
        )
        if grad is not None
    ]
    states = [_Slice(inside, whole) for inside, whole in zip(body.inputs, kept, strict=False)]
    return _backwards(reverse, body, given[:count], states, slices, grads[:count], results, outer)


def _loop_gradient(
    reverse: Reverse, node: Node, grads: Sequence[Value | None], outer: list[Value]
) -> Pairs:
    op, body = reverse.op, _body(node)
    initial = [value for value in node.inputs[2:] if value is not None]
    count = len(initial)
    _check_tensors(op, body.inputs[2:])
    inner = op.branch("kept")
    facts = [Fact.tensor(INT64, ()), *(op.fact(value) for value in body.inputs[1:])]
    mapping = {
        value: _input(inner, value, fact) for value, fact in zip(body.inputs, facts, strict=True)
    }
    finals = _replayed(reverse, inner, body, mapping)[: 1 + count]
    steps = [mapping[value] for value in (body.inputs[0], *body.inputs[2:])]
    _finish(inner, [*finals, *steps])
    heads = [*node.inputs[:2], None, None][:2]
    made = op.apply("Loop", [*heads, *initial], _outputs=2 * count + 1, body=inner.graph)
    kept = (made if isinstance(made, tuple) else (made,))[count:]
    op.known[kept[0]] = Fact.tensor(INT64, (None,))
    slices = [_Slice(body.inputs[0], kept[0])]
    states = [_Slice(a, b) for a, b in zip(body.inputs[2:], kept[1:], strict=True)]
    results = [
        _Slice(inside, grad)
        for inside, grad in zip(body.outputs[1 + count :], grads[count:], strict=False)
        if grad is not None
    ]
    constants = {body.inputs[1]: np.array(True)}
    return _backwards(
        reverse, body, initial, states, slices, grads[:count], results, outer, constants, first=1
    )


def _backwards(
    reverse: Reverse,
    body: Graph,
    initial: Sequence[Value],
    states: Sequence[_Slice],
    slices: Sequence[_Slice],
    finals: Sequence[Value | None],
    results: Sequence[_Slice],
    outer: list[Value],
    constants: dict[Value, Any] | None = None,
    first: int = 0,
) -> Pairs:
    """The gradients by the `initial` states, by what is sliced, and by `outer` values.

    `states` are the states before each step, `finals` the gradients of those after the last,
    `results` the gradients of what each step gave; the body returns states from output `first`.
    """
    op = reverse.op
    inner = op.branch("back")
    varying = [index for index, state in enumerate(states) if _varies(op, state.inside)]
    moving = [each for each in slices if _varies(op, each.inside)]
    carried = [
        _input(inner, states[index].inside, op.fact(states[index].inside)) for index in varying
    ]
    sums = [_input(inner, value, op.fact(value)) for value in outer]
    read = [*states, *slices, *results]
    inside = [_input(inner, each.inside, op.fact(each.inside)) for each in read]
    mapping = {each.inside: value for each, value in zip((*states, *slices), inside, strict=False)}
    for value, constant in (constants or {}).items():
        mapping[value] = inner.value(constant)
    xs = [mapping[states[index].inside] for index in varying]
    xs += [mapping[each.inside] for each in moving]
    outputs = _replayed(reverse, inner, body, mapping)
    place = {value: index for index, value in enumerate(body.outputs)}
    ys = [outputs[first + index] for index in varying]
    ys += [outputs[place[each.inside]] for each in results]
    seeds = [*carried, *inside[len(states) + len(slices) :]]
    found = reverse.inner(inner).run(ys, seeds, [*xs, *outer])
    made = [grad or inner.zeros_like(x) for x, grad in zip(xs, found, strict=False)]
    added = [
        total if grad is None else inner.Add(total, grad)
        for total, grad in zip(sums, found[len(xs) :], strict=True)
    ]
    _finish(inner, [*made[: len(varying)], *added, *made[len(varying) :]])
    starts = [finals[index] or op.zeros_like(initial[index]) for index in varying]
    wholes = op.apply(
        "Scan",
        [*starts, *(op.zeros_like(value) for value in outer), *(each.whole for each in read)],
        _outputs=len(made) + len(added),
        body=inner.graph,
        num_scan_inputs=len(read),
        scan_input_axes=[each.axis for each in read],
        scan_input_directions=[1 - each.direction for each in read],
        scan_output_axes=[each.axis for each in moving] or None,
        scan_output_directions=[1 - each.direction for each in moving] or None,
    )
    targets = [*(initial[index] for index in varying), *outer, *(each.whole for each in moving)]
    return _paired(op, targets, wholes)


def _body(node: Node) -> Graph:
    graph: Graph = node.attribute("body")
    return graph


def _check_tensors(op: Writer, values: Iterable[Value]) -> None:
    for value in values:
        if not isinstance(op.fact(value).type, TensorType):
            raise UnsupportedError(
                f"the gradient of a loop that carries {value.name!r}, which is not known to be "
                "a tensor, has no rule"
            )


def _varies(op: Writer, value: Value) -> bool:
    dtype = op.fact(value).dtype
    return dtype is not None and dtype.is_floating


def _input(inner: Writer, value: Value, fact: Fact) -> Value:
    """A new input of the subgraph that `inner` writes."""
    made = Value(inner.unique(value.name or "value"), without_anonymous(fact.type))
    inner.known[made] = Fact(fact.type)
    inner.graph.inputs.append(made)
    return made


def _replayed(
    reverse: Reverse, inner: Writer, graph: Graph, mapping: dict[Value, Value]
) -> list[Value]:
    """The outputs of a copy of `graph` written with `inner`; `mapping` gives its inputs."""
    for value in graph.initializers:
        if isinstance(value.const, Tensor):
            mapping[value] = inner.value(value.const)
    reverse.inner(inner).replay(graph.nodes, mapping, set())
    return [mapping.get(value, value) for value in graph.outputs]


def _finish(inner: Writer, outputs: Iterable[Value]) -> None:
    inner.graph.outputs.extend(inner.Identity(value) for value in outputs)
    inner.sweep()


def _paired(op: Writer, values: Sequence[Value], made: Any) -> Pairs:
    results = made if isinstance(made, tuple) else (made,)
    for value, result in zip(values, results, strict=True):
        op.known[result] = Fact(op.fact(value).type)
    return list(zip(values, results, strict=True))
