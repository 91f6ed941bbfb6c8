"""Which operators are compiled: a rule for each, that writes its outputs as loop IR.

A rule is a function of a `Lowering`, the operator (a node's parsed attributes) and the inputs as
`Source`s (None where omitted), in the newest form of the operator. It returns a definition for each
output, or raises `NotLowered` with the reason. `rule` registers one.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

from sardonyx.loops.nest import Definition, Lowering, NotLowered, is_number

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sardonyx.loops.nest import Source
    from sardonyx.ops.operator import Operator

    Rule: TypeAlias = Callable[..., Definition | tuple[Definition, ...]]
    Count: TypeAlias = Callable[..., tuple[Source, ...]]

__all__ = ["count", "counting", "is_counted", "is_lowered", "lower", "rule"]

_F = TypeVar("_F")

_FAMILIES: Final = (
    "elementwise",
    "movement",
    "generation",
    "reduction",
    "normalization",
    "products",
    "indexing",
    "scatter",
    "sorting",
    "pooling",
    "convolution",
    "resizing",
    "quantization",
    "rotation",
    "recurrent",
    "trees",
    "sampling",
    "learned",
    "selection",
)
_RULES: Final[dict[tuple[str, str], Rule]] = {}
_COUNTS: Final[dict[tuple[str, str], Count]] = {}


def rule(*names: str, domain: str = "") -> Callable[[_F], _F]:
    """Make the function that follows the rule of the operators `names`."""

    def register(function: _F) -> _F:
        for name in names:
            _RULES[domain, name] = function  # type: ignore[assignment]
        return function

    return register


def counting(*names: str, domain: str = "") -> Callable[[_F], _F]:
    """Make the function that follows what finds a size of the outputs that data decides.

    It is called like a rule and defines values of its own, which the rule has as ``k.counted``. The
    last element of the first is the size.
    """

    def register(function: _F) -> _F:
        for name in names:
            _COUNTS[domain, name] = function  # type: ignore[assignment]
        return function

    return register


def is_counted(domain: str, op_type: str) -> bool:
    """Whether native code finds a size of the operator's outputs that data decides."""
    _rules()
    return (domain, op_type) in _COUNTS


def count(operator: Operator, k: Lowering, inputs: Sequence[Source | None]) -> tuple[Source, ...]:
    """What counts the operator's outputs. Raises `NotLowered` with the reason."""
    _check_numbers(inputs)
    return _COUNTS[operator.domain, operator.op_type](k, operator, *inputs)


def _check_numbers(inputs: Sequence[Source | None]) -> None:
    for source in inputs:
        if source is not None and not is_number(source.dtype):
            raise NotLowered(f"{source.dtype} is not compiled")


def is_lowered(domain: str, op_type: str) -> bool:
    """Whether there is a rule for the operator; it may still refuse a case."""
    return (domain, op_type) in _rules()


def _rules() -> dict[tuple[str, str], Rule]:
    if not _RULES:
        for family in _FAMILIES:
            import_module(f"sardonyx.lowering.{family}")
    return _RULES


def lower(
    operator: Operator, k: Lowering, inputs: Sequence[Source | None]
) -> tuple[Definition, ...]:
    """The definitions of the operator's outputs. Raises `NotLowered` with the reason."""
    found = _rules().get((operator.domain, operator.op_type))
    if found is None:
        raise NotLowered(f"{operator.op_type} has no lowering")
    _check_numbers(inputs)
    for dtype, _ in k.outputs:
        if not is_number(dtype):
            raise NotLowered(f"{dtype} is not compiled")
    result: Any = found(k, operator, *inputs)
    return result if isinstance(result, tuple) else (result,)
