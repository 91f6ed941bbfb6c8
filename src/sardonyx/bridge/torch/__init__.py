"""Models as modules of PyTorch: each operator is a function of tensors in a `torch.fx` graph."""

from sardonyx.bridge.torch.build import build
from sardonyx.bridge.torch.registry import IMPLEMENTATIONS, implementation

__all__ = ["IMPLEMENTATIONS", "build", "implementation"]
