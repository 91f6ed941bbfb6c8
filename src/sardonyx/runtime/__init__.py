"""Sessions: a model made ready to run."""

from sardonyx.runtime.session import NodeArg, Session

__all__ = ["NodeArg", "Session"]
