"""Operators that would compute across the examples of a batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sardonyx.compose.opsets import version_of
from sardonyx.errors import ModelError, quote
from sardonyx.ir.model import canonical_domain
from sardonyx.ir.types import shape_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sardonyx.compose.reshapes import Opened
    from sardonyx.ir.model import Model
    from sardonyx.ir.node import Node
    from sardonyx.ir.types import Shape
    from sardonyx.ir.value import Value
    from sardonyx.ops.fact import Fact

__all__ = ["refuse_mixing"]

_WITH_ONE_SOFTMAX_AXIS = 13
_SOFTMAXES = frozenset({"Softmax", "LogSoftmax", "Hardmax"})
_OVER_PLACES = frozenset(
    {
        "AveragePool",
        "Conv",
        "ConvInteger",
        "ConvTranspose",
        "GlobalAveragePool",
        "GlobalLpPool",
        "GlobalMaxPool",
        "GroupNormalization",
        "InstanceNormalization",
        "LpPool",
        "MaxPool",
        "QLinearConv",
    }
)
_HINT = "export the model with this dimension open, if that is meant"
_ALONG_ONE_AXIS = frozenset({"TopK", "LpNormalization"})


def refuse_mixing(model: Model, opened: Opened, facts: Mapping[Value, Fact]) -> None:
    """Raise `ModelError` for a node that computes across the opened dim, which is a batch's."""
    version = version_of(model.opset_imports, "") or 1
    for node in model.graph.all_nodes():
        if canonical_domain(node.domain) or model.function_of(node) is not None:
            continue
        for value, axes in _mixed_axes(node, facts, version):
            shape = _shape(value, facts)
            if shape is not None and opened.is_in_any([shape[axis] for axis in axes]):
                raise ModelError(
                    f"{node.op_type} computes across {_listed(opened)}, on "
                    f"{quote(value.name) if value else 'its input'} of shape {shape_text(shape)}: "
                    "examples of a batch would change each other's results",
                    place=node.label,
                    hint=_HINT,
                )
        is_reduction = node.op_type.startswith("Reduce") or node.op_type in {"ArgMax", "ArgMin"}
        if is_reduction and node.inputs:
            source, made = _shape(node.inputs[0], facts), _shape(node.outputs[0], facts)
            if made is not None and opened.is_in_any(source) and not opened.is_in_any(made):
                raise ModelError(
                    f"{node.op_type} reduces {_listed(opened)}, of {shape_text(source)}: the "
                    "examples of a batch would become one result",
                    place=node.label,
                    hint=_HINT,
                )


def _listed(opened: Opened) -> str:
    return " and ".join(map(quote, opened.sizes))


def _shape(value: Value | None, facts: Mapping[Value, Fact]) -> Shape | None:
    fact = None if value is None else facts.get(value)
    return None if fact is None else fact.shape


def _mixed_axes(
    node: Node, facts: Mapping[Value, Fact], version: int
) -> Iterable[tuple[Value | None, Iterable[int]]]:
    """Inputs of `node`, each with the axes across which it computes."""
    ranks = [len(_shape(value, facts) or ()) for value in node.inputs]
    if not ranks or not ranks[0]:
        return
    first, rank = node.inputs[0], ranks[0]
    if node.op_type in _SOFTMAXES and version >= _WITH_ONE_SOFTMAX_AXIS:
        yield first, [node.attribute("axis", -1)]
    elif node.op_type in _SOFTMAXES:
        yield first, range(node.attribute("axis", 1) % rank, rank)
    elif node.op_type in {"LayerNormalization", "RMSNormalization"}:
        yield first, range(node.attribute("axis", -1) % rank, rank)
    elif node.op_type in _OVER_PLACES:
        yield first, range(1, rank)
    elif node.op_type in _ALONG_ONE_AXIS:
        yield first, [node.attribute("axis", -1)]
    elif node.op_type == "MatMul":
        yield first, [-1]
        if ranks[1]:
            yield node.inputs[1], [-2 if ranks[1] > 1 else -1]
    elif node.op_type == "Gemm" and rank == 2:
        yield first, [0 if node.attribute("transA", 0) else 1]
