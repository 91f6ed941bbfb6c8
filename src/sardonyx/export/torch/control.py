"""Higher-order operators: branches and loops as If, Loop and Scan; regions are written in place.

A body's outer values are captured: ONNX bodies see the values of the graphs around them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from sardonyx import dtypes
from sardonyx.export.torch.pairs import Complex, part_dtype
from sardonyx.export.torch.registry import TorchBuilder, higher_order, translation
from sardonyx.ir.types import TensorType
from sardonyx.ir.value import Value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sardonyx.export.torch.walk import Walker
    from sardonyx.ir.graph import Graph

__all__: list[str] = []


@higher_order("cond")
def cond(walker: Walker, node: Any, predicate: Any, true: Any, false: Any,
         operands: Sequence[Any] = ()) -> Any:  # fmt: skip
    op = walker.op
    condition = predicate if isinstance(predicate, Value) else walker.scalar(predicate)
    graphs = []
    for module, ending in ((true, "then"), (false, "else")):
        with op.body(f"{node.name}_{ending}") as graph:
            _finish(walker, graph, walker.run(module, list(operands)))
            graphs.append(graph)
    made = op.apply(
        "If",
        [op.cast(condition, dtypes.BOOL)],
        then_branch=graphs[0],
        else_branch=graphs[1],
        _outputs=len(graphs[0].outputs),
    )
    return _restored(walker, made, node.meta["val"])


@higher_order("while_loop")
def while_loop(walker: Walker, node: Any, condition: Any, body: Any, carried: Sequence[Any],
               captured: Sequence[Any] = ()) -> Any:  # fmt: skip
    op = walker.op
    initial = [_flat(walker, each) for each in carried]
    with op.size_values.scope():
        first = _truth(walker, walker.run(condition, [*carried, *captured])[0])
    with op.body(f"{node.name}_body") as graph:
        _input(walker, graph, "iteration", TensorType(dtypes.INT64, ()))
        _input(walker, graph, "condition", TensorType(dtypes.BOOL, ()))
        inner = _inputs(walker, graph, body, [_typed(each) for each in initial])
        following = [_carried(walker, each) for each in walker.run(body, [*inner, *captured])]
        with op.size_values.scope():
            again = _truth(walker, walker.run(condition, [*following, *captured])[0])
            _finish(walker, graph, [again, *following])
    made = op.apply("Loop", [None, first, *initial], body=graph, _outputs=len(initial))
    return _restored(walker, made, node.meta["val"])


@higher_order("scan")
def scan(walker: Walker, node: Any, combine: Any, initial: Sequence[Any], scanned: Sequence[Any],
         captured: Sequence[Any] = ()) -> Any:  # fmt: skip
    return _scan(walker, node, combine, initial, scanned, captured)


@higher_order("map_impl", "map")
def map_impl(walker: Walker, node: Any, body: Any, scanned: Sequence[Any],
             captured: Sequence[Any] = ()) -> Any:  # fmt: skip
    return _scan(walker, node, body, [], scanned, captured)


def _scan(walker: Walker, node: Any, body: Any, initial: Sequence[Any], scanned: Sequence[Any],
          captured: Sequence[Any]) -> Any:  # fmt: skip
    op = walker.op
    op.require(9, "Scan")
    states = [_flat(walker, each) for each in initial]
    sequences = [_flat(walker, each) for each in scanned]
    with op.body(f"{node.name}_body") as graph:
        types = [_typed(each) for each in states]
        types += [TensorType(op.dtype_of(each), (each.shape or ())[1:]) for each in sequences]
        inner = _inputs(walker, graph, body, types)
        _finish(walker, graph, walker.run(body, [*inner, *captured]))
    made = op.apply(
        "Scan",
        [*states, *sequences],
        body=graph,
        num_scan_inputs=len(sequences),
        _outputs=len(graph.outputs),
    )
    return _restored(walker, made, node.meta["val"])


@higher_order("associative_scan")
def associative_scan(walker: Walker, node: Any, combine: Any, scanned: Sequence[Any],
                     captured: Sequence[Any] = ()) -> Any:  # fmt: skip
    # the first element, and the states of a Scan over the others that starts with it
    op = walker.op
    sequences = [_flat(walker, each) for each in scanned]
    firsts = [op.slice(each, 0, 0, 1) for each in sequences]
    states = [op.squeeze(each, [0]) for each in map(_like, firsts, sequences)]
    rests = [op.slice(each, 0, 1, 2**63 - 1) for each in sequences]
    types = [TensorType(op.dtype_of(each), (each.shape or ())[1:]) for each in sequences]
    with op.body(f"{node.name}_body") as graph:
        inner = _inputs(walker, graph, combine, [*types, *types])
        states_next = walker.run(combine, [*inner, *captured])
        _finish(walker, graph, [*states_next, *states_next])
    count = len(sequences)
    made = op.apply(
        "Scan", [*states, *rests], body=graph, num_scan_inputs=count, _outputs=2 * count
    )
    assert isinstance(made, tuple)
    joined = [
        op.Concat(first, others, axis=0) for first, others in zip(firsts, made[count:], strict=True)
    ]
    return _restored(walker, tuple(joined), node.meta["val"])


@higher_order("invoke_subgraph")
def invoke_subgraph(walker: Walker, node: Any, graph: Any, _identifier: Any, *args: Any) -> Any:
    operands = args[0] if len(args) == 1 and isinstance(args[0], (list, tuple)) else args
    return walker.run(graph, list(operands))


@higher_order("wrap_with_set_grad_enabled")
def with_gradients(walker: Walker, node: Any, _enabled: Any, graph: Any, *args: Any) -> Any:
    return walker.run(graph, args)


@higher_order("wrap_with_autocast")
def with_autocast(walker: Walker, node: Any, _device: Any, _dtype: Any, _enabled: Any, _cache: Any,
                  graph: Any, *args: Any) -> Any:  # fmt: skip
    return walker.run(graph, args)


@higher_order("tag_activation_checkpoint", "wrap_activation_checkpoint", "wrap")
def wrapped(walker: Walker, node: Any, graph: Any, *args: Any, **_: Any) -> Any:
    return walker.run(graph, args)


@higher_order("hints_wrapper")
def hinted(walker: Walker, node: Any, graph: Any, args: Sequence[Any], _kwargs: Any = None,
           **_: Any) -> Any:  # fmt: skip
    return walker.run(graph, args)


@higher_order("strict_mode")
def strict_mode(walker: Walker, node: Any, graph: Any, args: Sequence[Any]) -> Any:
    return walker.run(graph, args)


@higher_order("autograd_function_apply")
def autograd_function(walker: Walker, node: Any, forward: Any, _backward: Any, *args: Any,
                      **_: Any) -> Any:  # fmt: skip
    results = walker.run(forward, args)
    # the forward graph also returns what it saves for the backward one, as a second list
    first = results[0] if results else None
    listed = list(first) if isinstance(first, (list, tuple)) else results
    val = node.meta.get("val")
    return listed if isinstance(val, (list, tuple)) else listed[0]


@higher_order("with_effects")
def with_effects(walker: Walker, node: Any, token: Any, target: Any, *args: Any,
                 **kwargs: Any) -> Any:  # fmt: skip
    val = node.meta["val"]
    made = walker.apply(node, target, args, kwargs, val[1:])
    return (token, *(made if isinstance(made, (list, tuple)) else [made]))


@higher_order("_export_tracepoint")
def tracepoint(walker: Walker, node: Any, *args: Any, **_: Any) -> Any:
    return args


@translation("aten._local_scalar_dense.default", "aten.item.default")
def item(op: TorchBuilder, x: Value) -> Any:
    x = op.reshape(x, []) if op.rank_of(x) else x
    dtype = op.dtype_of(x)
    if dtype.is_floating:
        return op.cast(x, dtypes.DOUBLE)
    return x if dtype is dtypes.BOOL else op.cast(x, dtypes.INT64)


def _truth(walker: Walker, result: Any) -> Value:
    """A condition as a BOOL scalar."""
    op = walker.op
    if not isinstance(result, Value):
        return walker.scalar(result)
    flat = op.reshape(result, []) if result.shape else result
    return op.cast(op.typed(flat, op.dtype_of(result), ()), dtypes.BOOL)


def _flat(walker: Walker, operand: Any) -> Value:
    """An operand as one value."""
    if isinstance(operand, Complex):
        return operand.packed(walker.op)
    return operand if isinstance(operand, Value) else walker.scalar(operand)


def _carried(walker: Walker, result: Any) -> Any:
    """What a loop carries on: a number as a value, since its symbol is another's next time."""
    return result if isinstance(result, (Value, Complex)) else walker.scalar(result)


def _typed(value: Value) -> TensorType:
    kind = value.type
    assert isinstance(kind, TensorType)
    return kind


def _like(piece: Value, whole: Value) -> Value:
    piece.type = TensorType(_typed(whole).dtype, (1, *(whole.shape or ())[1:]))
    return piece


def _input(walker: Walker, graph: Graph, wanted: str, kind: TensorType) -> Value:
    value = Value(walker.op.unique(f"{graph.name}.{wanted}"), kind)
    graph.inputs.append(value)
    return value


def _inputs(
    walker: Walker, graph: Graph, module: Any, types: Sequence[TensorType]
) -> list[Value | Complex]:
    """Inputs of a body for the first placeholders of its torch graph."""
    placeholders = [node for node in module.graph.nodes if node.op == "placeholder"]
    made: list[Value | Complex] = []
    for node, kind in zip(placeholders, types, strict=False):
        fake = node.meta.get("val")
        value = _input(walker, graph, node.name, kind)
        if isinstance(fake, torch.Tensor):
            walker.op.size_values.read_from(value, fake)
            if fake.is_complex():
                shape = kind.shape or ()
                made.append(Complex(part_dtype(kind.dtype), shape[:-1], packed=value, graph=graph))
                continue
        made.append(value)
    return made


def _finish(walker: Walker, graph: Graph, results: Sequence[Any]) -> None:
    """Make `results` the outputs of a body: each one that a node of the body gives, once."""
    op = walker.op
    for result in results:
        if result is None:
            continue
        value = _flat(walker, result)
        inside = value.producer is not None and value.producer.graph is graph
        if not inside or value in graph.outputs:
            kind = value.type
            value = op.Identity(value)
            value.type = kind
        graph.outputs.append(value)


def _restored(walker: Walker, made: Any, val: Any) -> tuple[Any, ...]:
    """The outputs of a control-flow node as what torch's operator gives."""
    values = iter(made if isinstance(made, tuple) else (made,))
    results: list[Any] = []
    for fake in val if isinstance(val, (tuple, list)) else [val]:
        if fake is None:
            results.append(None)
            continue
        value = next(values)
        if not isinstance(fake, torch.Tensor):
            results.append(value)
            continue
        kind = walker.type_of(fake)
        if fake.is_complex():
            part, shape = part_dtype(kind.dtype), kind.shape or ()
            value.type = TensorType(part, (*shape, 2))
            results.append(Complex(part, shape, packed=value, graph=walker.op.bodies[-1]))
            continue
        value.type = kind
        results.append(value)
    return tuple(results)
