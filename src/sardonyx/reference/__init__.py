"""Running a model node by node in NumPy: the meaning of each operator, applied in order."""

from sardonyx.reference.evaluator import Evaluator

__all__ = ["Evaluator"]
