"""Running a model node by node in NumPy: the meaning of each operator, applied in order."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sardonyx.reference.evaluator import Evaluator

__all__ = ["Evaluator"]


def __getattr__(name: str) -> Any:
    if name == "Evaluator":
        from sardonyx.reference.evaluator import Evaluator

        return Evaluator
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
