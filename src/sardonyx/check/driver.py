"""Walking a model and its parts, and the rules of each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sardonyx.check.functions import check_functions
from sardonyx.check.graph import check_graph
from sardonyx.check.report import Report
from sardonyx.check.types import check_types
from sardonyx.errors import quote
from sardonyx.ir.model import IR_VERSION, Model, canonical_domain
from sardonyx.limits import DEFAULT, Limits
from sardonyx.ops import registry
from sardonyx.wire import load

if TYPE_CHECKING:
    import os

__all__ = ["check", "validate"]


def check(
    source: Model | str | os.PathLike[str] | bytes,
    *,
    types: bool = True,
    limits: Limits = DEFAULT,
) -> Report:
    """Check a model, or the file it lies in; raises `CheckError` with all errors, if any.

    Returns the report, in which only warnings are left. `types=False` leaves out the inference
    of types and shapes.
    """
    model = source if isinstance(source, Model) else load(source, limits=limits)
    report = validate(model, types=types, limits=limits)
    report.raise_errors()
    return report


def validate(model: Model, *, types: bool = True, limits: Limits = DEFAULT) -> Report:
    """All problems of `model`: the one validator of every entry point; nothing is raised.

    Structure (IR.md: versions, operator sets, single assignment, order, scopes, functions,
    training, device configurations), every node against its operator's schema, and types and
    shapes.
    """
    report = Report()
    _check_header(model, report)
    is_sound = check_functions(model, report, limits)
    _check_opsets(model.opset_imports, report, "opset_import")
    check_graph(model.graph, model, model.opset_imports, report, limits)
    if is_sound:
        for function in model.functions.values():
            opsets = {**model.opset_imports, **function.opset_imports}
            place = f"function {quote(function.name)}"
            _check_opsets(function.opset_imports, report, place)
            check_graph(function.graph, model, opsets, report, limits, function=function)
    for info in model.training:
        for graph in (info.initialization, info.algorithm):
            if graph is not None:
                check_graph(graph, model, model.opset_imports, report, limits, model.graph)
    _check_configurations(model, report)
    if types and not report.errors:
        check_types(model, report, limits)
    return report


def _check_header(model: Model, report: Report) -> None:
    if model.ir_version < 1:
        report.error("ir-version", "ir_version is missing", hint=f"set it, up to {IR_VERSION}")
    elif model.ir_version > IR_VERSION:
        report.error(
            "ir-version",
            f"ir_version {model.ir_version} is newer than the newest known, {IR_VERSION}",
        )
    if model.ir_version >= 3 and not model.opset_imports:
        report.error("opset", "opset_import is empty", hint="import a version of ai.onnx")
    if model.functions and model.ir_version < 8:
        report.error("ir-version", f"functions need IR version 8, the model has {model.ir_version}")


def _check_opsets(opset_imports: dict[str, int], report: Report, place: str) -> None:
    canonical = [canonical_domain(domain) for domain in opset_imports]
    if len(set(canonical)) < len(canonical):
        report.error("opset", "the default domain is imported twice, as '' and 'ai.onnx'", place)
    for domain, version in opset_imports.items():
        newest = registry.NEWEST_OPSET.get(canonical_domain(domain))
        shown = quote(canonical_domain(domain) or "ai.onnx")
        if version < 1:
            report.error("opset", f"version {version} of domain {shown} does not exist", place)
        elif newest is not None and version > newest:
            report.error(
                "opset", f"version {version} of domain {shown} is newer than {newest}", place
            )


def _check_configurations(model: Model, report: Report) -> None:
    known = {configuration.name for configuration in model.configurations}
    if len(known) < len(model.configurations):
        report.error("device-configuration", "two device configurations have one name")
    for configuration in model.configurations:
        if configuration.devices and len(configuration.devices) != configuration.num_devices:
            report.error(
                "device-configuration",
                f"{len(configuration.devices)} devices are named, num_devices is "
                f"{configuration.num_devices}",
                f"configuration {quote(configuration.name)}",
            )
    for node in model.all_nodes():
        for device in node.devices:
            if device.configuration_id not in known:
                report.error(
                    "device-configuration",
                    f"the model has no configuration {quote(device.configuration_id)}",
                    node.label,
                )
