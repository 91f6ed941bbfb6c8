"""Why inference does not know a value, or a size of it, better."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sardonyx.dims import Dim, symbols
from sardonyx.errors import quote
from sardonyx.ir.types import OptionalType, SequenceType, SparseTensorType, TensorType
from sardonyx.ops.inferring import ANONYMOUS

if TYPE_CHECKING:
    from sardonyx.infer.found import Inference
    from sardonyx.infer.naming import Origin
    from sardonyx.ir.node import Node
    from sardonyx.ir.types import Type
    from sardonyx.ir.value import Value

__all__ = ["Unknown", "explain_unknown"]


@dataclass(frozen=True, slots=True)
class Unknown:
    """One thing that inference does not know of a value, and who decides it.

    `part` is ``type``, ``rank`` or ``dim 0`` and so on. `source` is the value where that is
    decided: an input of the graph that leaves it open, or the output of a node. `reason` says
    it in words.
    """

    part: str
    source: Value
    reason: str

    @property
    def node(self) -> Node | None:
        """The node that decides; None where an input of a graph leaves it open."""
        return self.source.producer

    def __str__(self) -> str:
        return f"{self.part}: {self.reason}"


def explain_unknown(found: Inference, value: Value) -> tuple[Unknown, ...]:
    """What is not known of `value`: nothing (empty), its type, its rank, or some of its dims."""
    known = _type_of(found, value)
    part = _missing(known)
    if part is not None:
        return (_of_value(found, value, part),)
    dims = known.shape if isinstance(known, (TensorType, SparseTensorType)) else None
    return tuple(
        [
            _of_symbol(found, f"dim {axis}", name)
            for axis, dim in enumerate(dims or ())
            if isinstance(dim, Dim)
            for name in sorted(symbols(dim), key=_number)
            if name in found.origins
        ]
    )


def _number(name: str) -> int:
    digits = name.removeprefix(ANONYMOUS)
    return int(digits) if digits.isdecimal() else -1


def _missing(known: Type | None) -> str | None:
    """``type`` or ``rank`` where that is not known."""
    if known is None:
        return "type"
    if isinstance(known, (SequenceType, OptionalType)):
        return _missing(known.element)
    if isinstance(known, (TensorType, SparseTensorType)):
        if known.dtype is None:
            return "type"
        return "rank" if known.shape is None else None
    return None


def _of_value(found: Inference, value: Value, part: str) -> Unknown:
    """Follow inputs of which as little is known to the value where that begins."""
    seen = {value}
    while True:
        node = value.producer
        if node is None:
            return Unknown(part, value, f"{_shown(value)} is an input that declares no {part}")
        problem = _problem_of(found, node)
        if problem is not None:
            return Unknown(part, value, f"{node.label} cannot be inferred: {problem}")
        for given in node.inputs:
            if given is None or given in seen:
                continue
            missing = _missing(_type_of(found, given))
            if missing == part or missing == "type":
                seen.add(given)
                value = given
                break
        else:
            return Unknown(part, value, _decided(found, node, ""))


def _problem_of(found: Inference, node: Node) -> str | None:
    for error in (*found.unsupported, *found.problems):
        if node.label in error.places:
            return error.message
    return None


def _of_symbol(found: Inference, part: str, name: str) -> Unknown:
    origin = found.origins[name]
    value = origin.value
    node = value.producer
    if node is None:
        return Unknown(part, value, _left_open(value, origin))
    problem = _problem_of(found, node)
    if problem is not None:
        return Unknown(part, value, f"{node.label} cannot be inferred: {problem}")
    for given in node.inputs:
        missing = None if given is None or origin.what else _missing(_type_of(found, given))
        if missing is not None and given is not None:
            begun = _of_value(found, given, missing)
            return Unknown(part, begun.source, begun.reason)
    return Unknown(part, value, _decided(found, node, origin.what))


def _type_of(found: Inference, value: Value) -> Type | None:
    fact = found.facts.get(value)
    return value.type if fact is None else fact.type


def _left_open(value: Value, origin: Origin) -> str:
    if origin.what:
        return f"decided by data: {origin.what} of the input {_shown(value)}"
    where = "" if origin.axis is None else f" dim {origin.axis} of"
    return f"the file leaves{where} the input {_shown(value)} open"


def _decided(found: Inference, node: Node, what: str) -> str:
    """Words for what a node decides by data, or for sizes that it cannot relate."""
    if what:
        return f"decided by data at {node.label}: {what}"
    if node.op_type == "If" and node.inputs[0] is not None:
        condition = _shown(node.inputs[0])
        return f"decided by data at {node.label}: its branches differ, {condition} chooses"
    if any(True for _ in node.subgraphs()):
        return f"decided by data at {node.label}: it may change with each iteration"
    unknown = [
        _shown(value)
        for value in node.inputs
        if value is not None and value in found.facts and _may_decide(found, value)
    ]
    if unknown:
        return f"decided by data at {node.label}: the contents of {' and '.join(unknown)}"
    return f"decided at {node.label}"


def _may_decide(found: Inference, value: Value) -> bool:
    """Whether the value looks like a parameter whose contents are not all known."""
    fact = found.facts[value]
    if fact.is_constant or fact.dtype is None or fact.dtype.is_floating:
        return False
    return fact.shape is None or len(fact.shape) <= 1


def _shown(value: Value) -> str:
    return quote(value.name) if value.name else f"output {value.index}"
