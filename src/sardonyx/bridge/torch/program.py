"""A module as an exported program, its open dimensions staying open."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from sardonyx.bridge.torch.tensors import dtype_of
from sardonyx.errors import UnsupportedError
from sardonyx.ir.types import TensorType

if TYPE_CHECKING:
    import os

    from sardonyx.bridge.torch.module import OnnxModule
    from sardonyx.ir.model import Model

__all__ = ["exported_program", "write_program"]

_EXAMPLE = 3
"""The size of an open dimension in the example that is traced."""


def exported_program(module: OnnxModule, model: Model) -> Any:
    """`torch.export.export` of the module of `model`.

    Open dimensions stay open as far as torch keeps them so. Raises `UnsupportedError` for inputs
    whose rank is not declared, and where torch cannot trace what depends on data.
    """
    examples, dims = [], []
    given = {value for value in model.graph.inputs if value.const is None}
    for value in model.graph.inputs:
        if value not in given:
            continue
        kind = value.type
        if not isinstance(kind, TensorType) or kind.dtype is None or kind.shape is None:
            raise UnsupportedError(
                f"input {value.name!r} is no tensor of known type and rank",
                hint="save the module as .pt",
            )
        shape = [dim if isinstance(dim, int) else _EXAMPLE for dim in kind.shape]
        examples.append(torch.zeros(shape, dtype=dtype_of(kind.dtype)))
        dims.append(
            {
                axis: torch.export.Dim.AUTO
                for axis, dim in enumerate(kind.shape)
                if not isinstance(dim, int)
            }
        )
    try:
        return torch.export.export(module, tuple(examples), dynamic_shapes=tuple(dims))
    except Exception as error:
        raise UnsupportedError(
            f"torch.export cannot trace the module: {str(error).splitlines()[0]}",
            hint="save it as .pt",
        ) from error


def write_program(module: OnnxModule, model: Model, path: str | os.PathLike[str]) -> None:
    """Write the exported program of `module`, that of `model`, for `torch.export.load`."""
    torch.export.save(exported_program(module, model), path)
