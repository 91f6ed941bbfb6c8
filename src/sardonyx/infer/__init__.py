"""Type and shape inference: what every value of a model is, before it is computed."""

from sardonyx.infer.driver import infer, infer_shapes, write_types
from sardonyx.infer.explain import Unknown, explain_unknown
from sardonyx.infer.found import Inference

__all__ = ["Inference", "Unknown", "explain_unknown", "infer", "infer_shapes", "write_types"]
