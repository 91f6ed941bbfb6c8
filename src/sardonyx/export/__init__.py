"""Exporters: a framework's model becomes an ONNX model, and is compared with the original."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Literal

from sardonyx._modules import make_callable
from sardonyx.errors import ExportError, SardonyxError
from sardonyx.export.contract import (
    DEFAULT_OPSET,
    Options,
    exporter_of,
    ir_version_of,
    refuse_unknown,
)
from sardonyx.export.nodes import custom_node
from sardonyx.export.report import Report

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sardonyx.ir.model import Model

__all__ = ["Report", "custom_node", "export"]


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
    custom_translations: Mapping[Any, Callable[..., Any]] | None = None,
    custom_translation_table: Mapping[Any, Callable[..., Any]] | None = None,
    weights: Any = None,
    state: Literal["constant", "inputs_outputs"] = "constant",
    optimize: bool = False,
    report: bool | str | os.PathLike[str] | Report | None = None,
    **unknown: Any,
) -> Model:
    """Translate a framework's `model`, called with example `args` and `kwargs`, into ONNX.

    The framework is known by the type of `model`: PyTorch modules, exported programs, and
    functions of tensors. The result is saved to `path` if one is given. A model that is saved
    or not shares its weights' memory with the original where the framework allows it.

    - `input_names`, `output_names`: names in the file, in the framework's flattened order; by
      default those of the function's parameters, and the keys and fields of what it returns, or
      ``output``, ``output_1`` …
    - `dynamic_shapes`: what `torch.export.export` takes, or a string for a dimension's name;
      ``"auto"`` keeps every dimension open that can be. `dynamic_axes`: ``{"x": {0: "batch"}}`` or
      ``{"x": [0, 2]}``, by input name. Names that are given stand in the file. A dimension that
      cannot stay dynamic is an error.
    - `opset_version`: 7 to 28, 20 by default.
    - `verify`: run the result beside the original on `args` and, where dimensions are
      dynamic, on other sizes.
    - `external_data`: as `sardonyx.save` takes it.
    - `custom_translations` (or `custom_translation_table`): target name, or the framework's
      operator -> function ``(op, *inputs) -> value``; they go before the built-in ones.
    - `weights`: the data of a model on the meta device: a state dict, or the path of
      ``.safetensors`` or ``.pt`` files, which are mapped.
    - `state`: what becomes of buffers and arguments that the model changes when it runs.
      ``"constant"``: the changes are dropped, with a warning. ``"inputs_outputs"``: each changed
      buffer is also an input, which has the buffer's present data by default, and each changed
      buffer or argument gives an output ``<name>.next`` after the others; a caller that feeds it
      back keeps the state (a cache of keys and values).
    - `optimize`: apply `sardonyx.optimize` before verification: constants are folded, batch norms
      go into convolutions, what layers are made of becomes single nodes. A weight that is
      folded is no longer the module's by name and value; without it each one is.
    - `report`: a path (``.md`` or ``.json``) to write what was done to, True for
      ``<path>.report.md``, or a `Report` to fill.

    Raises `ExportError` for what cannot be translated, `VerificationError` when the outputs
    differ, `TypeError` for an argument that there is none of.
    """
    refuse_unknown(unknown)
    arguments = tuple(args) if isinstance(args, (tuple, list)) else (args,)
    opset = DEFAULT_OPSET if opset_version is None else opset_version
    ir_version_of(opset)
    if dynamic_shapes is not None and dynamic_axes is not None:
        raise ExportError(
            "dynamic_shapes and dynamic_axes are both given", hint="keep one of the two"
        )
    filled = report if isinstance(report, Report) else Report()
    filled.path = "" if path is None else str(path)
    if state not in {"constant", "inputs_outputs"}:
        raise ExportError(
            f"state is {state!r}", hint='give "constant" or "inputs_outputs"; see docs/export.md'
        )
    options = Options(
        kwargs=dict(kwargs or {}),
        input_names=input_names,
        output_names=output_names,
        dynamic_shapes=dynamic_shapes,
        dynamic_axes=dynamic_axes,
        opset_version=opset,
        verify=verify,
        weights=weights,
        state=state,
        optimize=optimize,
        custom_translations={**(custom_translation_table or {}), **(custom_translations or {})},
        report=filled,
    )
    try:
        exported = exporter_of(model, arguments).export_model(model, arguments, options)
        if path is not None:
            from sardonyx.wire import save

            with filled.stage("save"):
                save(exported, path, external_data=external_data)
    except SardonyxError as error:
        filled.error = str(error)
        raise
    finally:
        if report and not isinstance(report, Report):
            filled.write(_report_path(report, path))
    return exported


def _report_path(
    report: bool | str | os.PathLike[str], path: str | os.PathLike[str] | None
) -> str | os.PathLike[str]:
    if not isinstance(report, bool):
        return report
    return "export.report.md" if path is None else f"{os.fspath(path)}.report.md"


make_callable(__name__)
