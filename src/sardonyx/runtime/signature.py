"""What callers of a model see of it: its inputs and outputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sardonyx.ir.types import SparseTensorType, TensorType

if TYPE_CHECKING:
    from sardonyx.ir.model import Model
    from sardonyx.ir.types import Type
    from sardonyx.ir.value import Value

__all__ = ["NodeArg", "Signature", "signature_of"]


@dataclass(frozen=True, slots=True)
class NodeArg:
    """An input or output of a model.

    `type` is a type string, ``tensor(float)`` say; `shape` has an int, a symbol's name or None
    for each dimension, and is empty for what is no tensor or has no known rank.
    """

    name: str
    type: str
    shape: list[int | str | None]


@dataclass(frozen=True, slots=True)
class Signature:
    """The inputs of a model by name, those that must be fed and those that may be, the results."""

    inputs: dict[str, Type | None]
    required: list[NodeArg]
    overridable: list[NodeArg]
    results: list[NodeArg]


def signature_of(model: Model) -> Signature:
    """What callers see of `model`."""
    graph = model.graph
    return Signature(
        {value.name: value.type for value in graph.inputs},
        [_node_arg(value) for value in graph.required_inputs],
        [_node_arg(value) for value in graph.inputs if value.const is not None],
        [_node_arg(value) for value in graph.outputs],
    )


def _node_arg(value: Value) -> NodeArg:
    known = value.type
    shape: list[int | str | None] = []
    if isinstance(known, (TensorType, SparseTensorType)) and known.shape is not None:
        shape = [dim if dim is None or isinstance(dim, int) else str(dim) for dim in known.shape]
    return NodeArg(value.name, str(known), shape)
