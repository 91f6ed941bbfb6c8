"""Walking a model and its parts, and the rules of each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sardonyx.check.context import Calls, Context
from sardonyx.check.devices import check_configurations
from sardonyx.check.functions import check_calls, check_functions
from sardonyx.check.graph import check_graph
from sardonyx.check.report import Report
from sardonyx.check.training import check_training
from sardonyx.check.types import check_types
from sardonyx.check.versions import check_header, check_unused_opsets
from sardonyx.ir.model import Model
from sardonyx.limits import DEFAULT, Limits
from sardonyx.wire import load

if TYPE_CHECKING:
    import os

    from sardonyx.infer import Inference

__all__ = ["check", "examine", "validate"]


def check(
    source: Model | str | os.PathLike[str] | bytes,
    *,
    types: bool = True,
    limits: Limits = DEFAULT,
) -> Report:
    """Check a model, or the file it lies in; raises `CheckError` with all errors, if any.

    Returns the report, in which only warnings and notes are left. `types=False` leaves out the
    inference of types and shapes. Where the file cannot be read, the error that says so is
    raised: `DecodeError`, `ExternalDataError`, `LimitError`.
    """
    model = source if isinstance(source, Model) else load(source, limits=limits)
    report = validate(model, types=types, limits=limits)
    report.raise_errors()
    return report


def validate(
    model: Model, *, types: bool = True, to_run: bool = False, limits: Limits = DEFAULT
) -> Report:
    """All problems of `model`: the one validator of every entry point; nothing is raised.

    Structure (IR.md and onnx.proto: versions, operator sets, single assignment, order, scopes,
    functions, sparse tensors, training, quantization, devices), every node against its
    operator's schema, and, where these have no errors, types and shapes. `to_run` is what
    sessions ask for: operators that nothing defines are errors then.
    """
    return examine(model, types=types, to_run=to_run, limits=limits)[0]


def examine(
    model: Model, *, types: bool = True, to_run: bool = False, limits: Limits = DEFAULT
) -> tuple[Report, Inference | None]:
    """As `validate`, with the types and shapes that were found; None where structure is wrong."""
    context = Context(model, Report(), limits, to_run)
    check_header(context)
    check_configurations(context)
    calls = context.calls[None] = Calls()
    main = check_graph(model.graph, context, context.opset_imports, calls, is_main=True)
    check_functions(context)
    check_training(context, main, calls)
    check_calls(context)
    context.report_gathered()
    check_unused_opsets(context)
    if types and not context.report.has_errors:
        check_types(context)
    return context.report, context.inference
