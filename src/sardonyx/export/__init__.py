"""Exporters: a framework's model becomes an ONNX model, and is compared with the original."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sardonyx._modules import make_callable
from sardonyx.errors import ExportError
from sardonyx.export.contract import DEFAULT_OPSET, Options, exporter_of, ir_version_of

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping, Sequence

    from sardonyx.ir.model import Model

__all__ = ["export"]


def export(
    model: Any,
    args: Any = (),
    path: str | os.PathLike[str] | None = None,
    *,
    kwargs: Mapping[str, Any] | None = None,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    dynamic_shapes: Any = None,
    dynamic_axes: Mapping[str, Any] | None = None,
    opset_version: int | None = None,
    verify: bool = True,
    external_data: bool | str | None = None,
    custom_translations: Mapping[str, Callable[..., Any]] | None = None,
) -> Model:
    """Translate a framework's `model`, called with example `args` and `kwargs`, into ONNX.

    The framework is known by the type of `model`: PyTorch modules, exported programs, and
    functions of tensors. The result is saved to `path` if one is given. A model that is saved
    or not shares its weights' memory with the original where the framework allows it.

    - `input_names`, `output_names`: names in the file, in the framework's flattened order; by
      default those of the function's parameters, and ``output``, ``output_1`` …
    - `dynamic_shapes`: what `torch.export.export` takes, or a string for a dimension's name.
      `dynamic_axes`: ``{"x": {0: "batch"}}`` or ``{"x": [0, 2]}``, by input name. Names that are
      given stand in the file. A dimension that cannot stay dynamic is an error.
    - `opset_version`: 7 to 28, 20 by default.
    - `verify`: run the result beside the original on `args` and, where dimensions are
      dynamic, on other sizes.
    - `external_data`: as `sardonyx.save` takes it.
    - `custom_translations`: target name -> function ``(op, *inputs) -> value``; they go before
      the built-in ones.

    Raises `ExportError` for what cannot be translated, `VerificationError` when the outputs
    differ.
    """
    arguments = tuple(args) if isinstance(args, (tuple, list)) else (args,)
    opset = DEFAULT_OPSET if opset_version is None else opset_version
    ir_version_of(opset)
    if dynamic_shapes is not None and dynamic_axes is not None:
        raise ExportError(
            "dynamic_shapes and dynamic_axes are both given", hint="keep one of the two"
        )
    options = Options(
        kwargs=dict(kwargs or {}),
        input_names=input_names,
        output_names=output_names,
        dynamic_shapes=dynamic_shapes,
        dynamic_axes=dynamic_axes,
        opset_version=opset,
        verify=verify,
        custom_translations=dict(custom_translations or {}),
    )
    exported = exporter_of(model, arguments).export_model(model, arguments, options)
    if path is not None:
        from sardonyx.wire import save

        save(exported, path, external_data=external_data)
    return exported


make_callable(__name__)
