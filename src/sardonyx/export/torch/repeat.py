"""Loop and Scan nodes whose bodies translations write."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sardonyx import dtypes
from sardonyx.ir.types import TensorType
from sardonyx.ir.value import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sardonyx.export.torch.registry import TorchBuilder
    from sardonyx.ir.graph import Graph

    Step = Callable[[Value, list[Value]], tuple[list[Value], list[Value]]]
    While = Callable[[list[Value]], Value]

__all__ = ["loop", "scan"]


def loop(op: TorchBuilder, count: Value | None, states: Sequence[Value], step: Step,
         condition: While | None = None) -> list[Value]:  # fmt: skip
    """`step`, `count` times or while `condition` holds; the last states, then what was stacked.

    `step` takes the iteration's number, an INT64 scalar, and the states; it returns the new
    states and what is to be stacked along a new first axis. States keep their types.
    """
    first = None if condition is None else condition(list(states))
    with op.body("loop") as graph:
        number = _input(op, graph, "iteration", TensorType(dtypes.INT64, ()))
        again = _input(op, graph, "condition", TensorType(dtypes.BOOL, ()))
        inner = [_input(op, graph, "state", _type(each)) for each in states]
        following, stacked = step(number, inner)
        kept = op.Identity(again) if condition is None else condition(following)
        _output(op, graph, kept, TensorType(dtypes.BOOL, ()))
        for value, state in zip(following, states, strict=True):
            _output(op, graph, value, _type(state))
        for value in stacked:
            _output(op, graph, value, _type(value))
    outputs = len(states) + len(stacked)
    made = op.apply("Loop", [count, first, *states], body=graph, _outputs=outputs)
    return _results(made, states)


def scan(op: TorchBuilder, x: Value, axis: int, states: Sequence[Value],
         step: Callable[[list[Value], Value], tuple[list[Value], list[Value]]],
         ) -> list[Value]:  # fmt: skip
    """`step` over the slices of `x` along `axis`; the last states, then what was stacked there.

    `step` takes the states and a slice, and returns the new states and what is to be stacked.
    """
    op.require(9, "Scan")
    shape = op.shape_of(x)
    slice_type = TensorType(op.dtype_of(x), (*shape[:axis], *shape[axis + 1 :]))
    with op.body("scan") as graph:
        inner = [_input(op, graph, "state", _type(each)) for each in states]
        part = _input(op, graph, "slice", slice_type)
        following, stacked = step(inner, part)
        for value, state in zip(following, states, strict=True):
            _output(op, graph, value, _type(state))
        for value in stacked:
            _output(op, graph, value, _type(value))
    made = op.apply(
        "Scan",
        [*states, x],
        body=graph,
        num_scan_inputs=1,
        scan_input_axes=[axis] if axis else None,
        scan_output_axes=[axis] * len(stacked) if axis else None,
        _outputs=len(states) + len(stacked),
    )
    return _results(made, states)


def _type(value: Value) -> TensorType | None:
    return value.type if isinstance(value.type, TensorType) else None


def _input(op: TorchBuilder, graph: Graph, wanted: str, kind: TensorType | None) -> Value:
    value = Value(op.unique(wanted), kind)
    graph.inputs.append(value)
    return value


def _output(op: TorchBuilder, graph: Graph, value: Value, kind: TensorType | None) -> None:
    if value.producer is None or value.producer.graph is not graph or value in graph.outputs:
        value = op.Identity(value)
    if kind is not None:
        value.type = kind
    graph.outputs.append(value)


def _results(made: Any, states: Sequence[Value]) -> list[Value]:
    results = list(made) if isinstance(made, tuple) else [made]
    for value, state in zip(results, states, strict=False):
        value.type = state.type
    return results
