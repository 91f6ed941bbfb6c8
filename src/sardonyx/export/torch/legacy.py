"""TorchScript, through torch's own converter to exported programs."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import torch

from sardonyx.errors import ExportError

if TYPE_CHECKING:
    from sardonyx.export.torch.signature import Call

__all__ = ["is_script", "program_of"]


def is_script(model: Any) -> bool:
    """Whether `model` is what `torch.jit.trace` or `torch.jit.script` gives."""
    return isinstance(model, (torch.jit.ScriptModule, torch.jit.ScriptFunction))


def program_of(script: Any, call: Call) -> Any:
    """The exported program of a TorchScript module or function, with the example's sizes.

    torch's converter knows most operators, and control flow that it can turn into
    ``torch.cond``; `ExportError` tells what it does not take.
    """
    if call.kwargs:
        raise ExportError(
            "TorchScript is exported with positional arguments only", hint="pass them in args"
        )
    try:
        from torch._export.converter import TS2EPConverter
    except ImportError:
        raise ExportError(
            f"torch {torch.__version__} cannot convert TorchScript",
            hint="export the Python module that it was made from",
        ) from None
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            return TS2EPConverter(script, call.args).convert()
    except Exception as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ExportError(
            f"torch cannot convert this TorchScript: {first}",
            hint="export the Python module that it was made from: sardonyx.export(module, args)",
        ) from error
