"""The way from a module, an exported program or a function to a verified model."""

from __future__ import annotations

import warnings
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import torch

from sardonyx.errors import ExportError
from sardonyx.export.report import FoundDim
from sardonyx.export.torch.legacy import is_script, program_of
from sardonyx.export.torch.names import by_target
from sardonyx.export.torch.registry import TRANSLATIONS
from sardonyx.export.torch.rotary import with_rotary
from sardonyx.export.torch.signature import bind
from sardonyx.export.torch.tidying import tidied
from sardonyx.export.torch.trace import as_module, decompose, in_eval_mode, trace
from sardonyx.export.torch.translate import translate
from sardonyx.export.torch.verify import verify
from sardonyx.export.torch.walk import target_name
from sardonyx.export.torch.weights import with_weights
from sardonyx.ops import registry as operators
from sardonyx.passes import optimize

if TYPE_CHECKING:
    from sardonyx.export.contract import Options
    from sardonyx.export.torch.guards import Guards
    from sardonyx.export.torch.signature import Call
    from sardonyx.ir.model import Model

__all__ = ["export_model"]

_ENDLESS: Final = 1 << 60


def export_model(model: Any, args: tuple[Any, ...], options: Options) -> Model:
    """Export a module, an exported program or a function; see `sardonyx.export`.

    A module is exported in eval mode and left in the mode that it was in. TorchScript goes
    through torch's converter.
    """
    options = replace(options, custom_translations=by_target(options.custom_translations))
    report = options.report
    report.versions["torch"] = str(torch.__version__)
    report.model = type(model).__name__
    if isinstance(model, torch.export.ExportedProgram):
        return _export_program(model, args, options)
    if is_script(model):
        return _export_script(model, args, options)
    module = as_module(model)
    report.model = type(module).__name__
    with in_eval_mode(module), with_weights(module, options.weights):
        call = bind(module, args, options)
        with report.stage("trace"):
            program, guards = trace(module, call)
        made = _finish(program, module, call, options, report.model)
        _report_dims(program, call, options, made, guards)
        return made


def _export_program(program: Any, args: tuple[Any, ...], options: Options) -> Model:
    if options.dynamic_shapes is not None or options.dynamic_axes is not None:
        raise ExportError(
            "an ExportedProgram has its dynamic dimensions already",
            hint="give dynamic_shapes to torch.export.export",
        )
    module = program.module()
    if not args and not options.kwargs:
        if program.example_inputs is None:
            raise ExportError(
                "the ExportedProgram was saved without example inputs",
                hint="pass them as args and kwargs",
            )
        args, kwargs = program.example_inputs
        options = replace(options, kwargs=kwargs)
    call = bind(module, tuple(args), options)
    made = _finish(program, module, call, options, "ExportedProgram")
    _report_dims(program, call, options, made, None)
    return made


def _export_script(script: Any, args: tuple[Any, ...], options: Options) -> Model:
    call = bind(script, args, options)
    if call.dynamic_shapes is not None:
        raise ExportError(
            "TorchScript is exported with fixed sizes only",
            hint="export the Python module that it was made from",
        )
    with options.report.stage("trace"):
        program = program_of(script, call)
    return _finish(program, script, call, options, getattr(script, "original_name", "TorchScript"))


def _finish(program: Any, module: Any, call: Call, options: Options, name: str) -> Model:
    report = options.report
    table = {**TRANSLATIONS, **options.custom_translations}
    with report.stage("decompose"):
        functional = decompose(program, table)
    report.operators = _operators(functional)
    _note_mutation(functional, options)
    with report.stage("translate"):
        translated = translate(functional, call, options, name)
    with report.stage("tidy"):
        translated.model = with_rotary(tidied(translated.model))
    if options.optimize:
        with report.stage("optimize"):
            translated.model = optimize(translated.model)
    report.describe(translated.model)
    foreign = _foreign(translated.model)
    if options.verify and foreign:
        report.notes.append(f"not verified: only other runtimes know {', '.join(foreign)}")
    elif options.verify:
        with report.stage("verify"):
            figures, notes = verify(translated, module, functional, call)
        report.verified = True
        report.figures += figures
        report.notes += notes
    return translated.model


def _foreign(model: Model) -> list[str]:
    """The operators of custom domains that the model neither defines nor Sardonyx knows."""
    return sorted(
        {
            f"{node.domain}.{node.op_type}"
            for node in model.graph.nodes
            if operators.find(node.domain, node.op_type) is None and model.function_of(node) is None
        }
    )


def _operators(program: Any) -> dict[str, int]:
    counts = Counter(
        target_name(node)
        for module in program.graph_module.modules()
        for node in (module.graph.nodes if hasattr(module, "graph") else ())
        if node.op == "call_function"
    )
    return dict(counts.most_common())


def _note_mutation(program: Any, options: Options) -> None:
    changed = [
        spec.target
        for spec in program.graph_signature.output_specs
        if spec.kind.name in {"BUFFER_MUTATION", "USER_INPUT_MUTATION", "PARAMETER_MUTATION"}
    ]
    if changed and options.state == "constant":
        note = (
            f"the model changes {', '.join(map(str, changed))} when it runs; "
            "the ONNX model has no state, so the change is dropped "
            '(state="inputs_outputs" keeps it)'
        )
        options.report.notes.append(note)
        warnings.warn(note, stacklevel=6)


def _report_dims(
    program: Any, call: Call, options: Options, model: Model, guards: Guards | None
) -> None:
    """Tell the report of each axis that is dynamic, and of each that was asked for in vain."""
    report = options.report
    placeholders = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    shapes = {value.name: value.shape for value in model.graph.inputs}
    for leaf, name in zip(call.leaves, program.graph_signature.user_inputs, strict=False):
        node = placeholders.get(name)
        fake = node.meta.get("val") if node is not None else None
        if not isinstance(fake, torch.Tensor):
            continue
        written = shapes.get(leaf.name)
        for axis, size in enumerate(fake.shape):
            if isinstance(size, int) or size.node.expr.is_number:
                continue
            shown = str(written[axis]) if written is not None else str(size)
            low, high = _bounds(program.range_constraints.get(size.node.expr))
            report.dims.append(FoundDim(leaf.name, axis, shown, True, low, high))
    for name, axis, fixed, reason in guards.fixed if guards is not None else ():
        report.dims.append(FoundDim(name, axis, str(fixed), False, reason=reason))


def _bounds(found: Any) -> tuple[int | None, int | None]:
    if found is None:
        return None, None
    low, high = (
        int(bound) if isinstance(bound, int) or getattr(bound, "is_Integer", False) else None
        for bound in (found.lower, found.upper)
    )
    return low, high if high is not None and high < _ENDLESS else None
