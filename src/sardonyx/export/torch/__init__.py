"""The exporter of PyTorch: torch.export's graph, translated operator by operator."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from sardonyx.errors import ExportError
from sardonyx.export.torch import activation as activation
from sardonyx.export.torch import arithmetic as arithmetic
from sardonyx.export.torch import layers as layers
from sardonyx.export.torch import movement as movement
from sardonyx.export.torch import reduction as reduction
from sardonyx.export.torch.registry import TRANSLATIONS, TorchBuilder, translation
from sardonyx.export.torch.signature import bind
from sardonyx.export.torch.trace import as_module, decompose, in_eval_mode, trace
from sardonyx.export.torch.translate import translate
from sardonyx.export.torch.verify import verify

if TYPE_CHECKING:
    from sardonyx.export.contract import Options
    from sardonyx.ir.model import Model

__all__ = ["TRANSLATIONS", "TorchBuilder", "export_model", "translation"]


def export_model(model: Any, args: tuple[Any, ...], options: Options) -> Model:
    """Export a module, an exported program or a function; see `sardonyx.export`.

    A module is exported in eval mode and left in the mode that it was in.
    """
    if isinstance(model, torch.export.ExportedProgram):
        return _export_program(model, args, options)
    module = as_module(model)
    with in_eval_mode(module):
        call = bind(module, args, options)
        program = trace(module, call)
        return _finish(program, module, call, options, type(module).__name__)


def _export_program(program: Any, args: tuple[Any, ...], options: Options) -> Model:
    if options.dynamic_shapes is not None or options.dynamic_axes is not None:
        raise ExportError(
            "an ExportedProgram has its dynamic dimensions already",
            hint="give dynamic_shapes to torch.export.export",
        )
    module = program.module()
    if not args and not options.kwargs:
        args, kwargs = program.example_inputs
        options = replace(options, kwargs=kwargs)
    call = bind(module, tuple(args), options)
    return _finish(program, module, call, options, "ExportedProgram")


def _finish(program: Any, module: Any, call: Any, options: Options, name: str) -> Model:
    table = {**TRANSLATIONS, **options.custom_translations}
    functional = decompose(program, table)
    _warn_of_mutation(functional)
    translated = translate(functional, call, options, name)
    if options.verify:
        verify(translated, module, functional, call)
    return translated.model


def _warn_of_mutation(program: Any) -> None:
    changed = [
        spec.target
        for spec in program.graph_signature.output_specs
        if spec.kind.name in {"BUFFER_MUTATION", "USER_INPUT_MUTATION", "PARAMETER_MUTATION"}
    ]
    if changed:
        warnings.warn(
            f"the model changes {', '.join(map(str, changed))} when it runs; "
            "the ONNX model has no state, so the change is dropped",
            stacklevel=5,
        )
