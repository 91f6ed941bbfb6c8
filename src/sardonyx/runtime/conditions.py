"""Conditions that follow from the sizes of a run."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from sardonyx.dims import Dim, symbols
from sardonyx.ir.model import canonical_domain
from sardonyx.runtime.program import number

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sardonyx.dims import DimLike
    from sardonyx.ir.value import Value
    from sardonyx.ops.fact import Fact

__all__ = ["Condition", "condition_of"]

_COMPARISONS: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "Equal": operator.eq,
    "Less": operator.lt,
    "LessOrEqual": operator.le,
    "Greater": operator.gt,
    "GreaterOrEqual": operator.ge,
}
_LOGIC: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "And": operator.and_,
    "Or": operator.or_,
    "Xor": operator.xor,
}
_SAME: Final = {"Identity", "Squeeze", "Unsqueeze", "Reshape", "Flatten"}
_DEEPEST: Final = 8


@dataclass(frozen=True, slots=True)
class Condition:
    """An operator on sizes or on other conditions: Equal(N, 1), Not(Less(N, 5))."""

    op_type: str
    operands: tuple[Any, ...]

    def holds(self, env: Mapping[str, int]) -> bool:
        """Whether it does for the sizes `env`."""
        found = [
            part.holds(env) if isinstance(part, Condition) else number(part, env)
            for part in self.operands
        ]
        if self.op_type == "Not":
            return not found[0]
        return bool((_COMPARISONS | _LOGIC)[self.op_type](*found))  # type: ignore[operator]

    def symbols(self) -> set[str]:
        """The names of the sizes that it depends on."""
        found: set[str] = set()
        for part in self.operands:
            if isinstance(part, Condition):
                found |= part.symbols()
            elif isinstance(part, Dim):
                found |= {str(name) for name in symbols(part)}
        return found


def condition_of(value: Value, facts: Mapping[Value, Fact], depth: int = 0) -> Condition | None:
    """How the one element of the BOOL `value` follows from sizes; None where it does not."""
    node = value.producer
    if node is None or depth > _DEEPEST or canonical_domain(node.domain):
        return None
    if any(each is None for each in node.inputs):
        return None
    inputs = [each for each in node.inputs if each is not None]
    if node.op_type in _COMPARISONS:
        sizes = [_size(facts.get(each)) for each in inputs]
        return None if None in sizes else Condition(node.op_type, tuple(sizes))
    if node.op_type in _SAME:
        return condition_of(inputs[0], facts, depth + 1)
    if node.op_type == "Not" or node.op_type in _LOGIC:
        parts = [condition_of(each, facts, depth + 1) for each in inputs]
        return None if None in parts else Condition(node.op_type, tuple(parts))
    return None


def _size(fact: Fact | None) -> DimLike | None:
    """The one element of an integer tensor that is known as a size."""
    if fact is None or fact.value is None or fact.dtype is None or not fact.dtype.is_integer:
        return None
    item = fact.value.reshape(-1)[0] if fact.value.size == 1 else None
    if item is None or isinstance(item, Dim):
        return item
    return int(item)
