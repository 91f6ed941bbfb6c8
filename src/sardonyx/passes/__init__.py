"""Making models smaller and faster: rules and passes, and the pipeline that applies them."""

from sardonyx.passes.optimizing import Optimized, bisect, explain, optimize, rewrite
from sardonyx.passes.pipeline import names

__all__ = ["Optimized", "bisect", "explain", "names", "optimize", "rewrite"]
