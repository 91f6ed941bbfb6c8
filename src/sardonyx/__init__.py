"""ONNX, whole, in Python: open, check, run, export and edit machine-learning models.

>>> import sardonyx as sx
>>> session = sx.Session("model.onnx")  # doctest: +SKIP
>>> outputs = session.run(None, {"x": x})  # doctest: +SKIP
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from sardonyx._version import __version__

if TYPE_CHECKING:
    from sardonyx import autodiff, backend, compose, errors
    from sardonyx.bridge import to_torch
    from sardonyx.check import check, save
    from sardonyx.export import export
    from sardonyx.infer import infer_shapes
    from sardonyx.ir import Model
    from sardonyx.ir.text import to_text
    from sardonyx.limits import Limits
    from sardonyx.passes import optimize
    from sardonyx.runtime import Session
    from sardonyx.wire import dumps, load, loads, parse

__all__ = [
    "Limits",
    "Model",
    "Session",
    "__version__",
    "autodiff",
    "backend",
    "check",
    "compose",
    "dumps",
    "errors",
    "export",
    "infer_shapes",
    "load",
    "loads",
    "optimize",
    "parse",
    "save",
    "to_text",
    "to_torch",
]

_HOME = {
    "Limits": "sardonyx.limits",
    "Model": "sardonyx.ir",
    "Session": "sardonyx.runtime",
    "dumps": "sardonyx.wire",
    "infer_shapes": "sardonyx.infer",
    "load": "sardonyx.wire",
    "loads": "sardonyx.wire",
    "optimize": "sardonyx.passes",
    "parse": "sardonyx.wire",
    "save": "sardonyx.check.saving",
    "to_text": "sardonyx.ir.text",
    "to_torch": "sardonyx.bridge",
}
_MODULES = ("autodiff", "backend", "check", "compose", "errors", "export")


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(import_module(_HOME[name]), name)
        globals()[name] = value
        return value
    if name in _MODULES:
        return import_module(f"sardonyx.{name}")
    raise AttributeError(f"module 'sardonyx' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
