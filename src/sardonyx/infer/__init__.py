"""Type and shape inference: what every value of a model is, before it is computed."""

from sardonyx.infer.driver import Inference, infer, infer_shapes

__all__ = ["Inference", "infer", "infer_shapes"]
