"""The rules of versions: of the file format and of operator sets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sardonyx.errors import quote
from sardonyx.ir.model import IR_VERSION, canonical_domain
from sardonyx.ops import registry

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sardonyx.check.context import Context
    from sardonyx.check.report import Report

__all__ = ["check_header", "check_opsets", "check_unused_opsets"]


def check_header(context: Context) -> None:
    """Report what is wrong with the model's versions."""
    model, report = context.model, context.report
    version = model.ir_version
    if version < 1:
        message = "ir_version is missing" if version == 0 else f"ir_version is {version}"
        report.error("ir-version", message, hint=f"set it, up to {IR_VERSION}")
    elif version > IR_VERSION:
        report.error(
            "ir-version", f"ir_version {version} is newer than the newest known, {IR_VERSION}"
        )
    if not model.opset_imports:
        if version >= 3:
            hint = f"import a version of ai.onnx, up to {registry.NEWEST_OPSET['']}"
            report.error("opset", "opset_import is empty", hint=hint)
    elif 0 < version < 3:
        report.error(
            "ir-feature",
            f"opset_import came with IR version 3, the model has {version}",
            hint="raise ir_version to 3, or leave the imports out: version 1 is meant then",
        )
    if model.functions:
        context.feature(8, "functions")
    check_opsets(model.opset_imports, report, "opset_import")


def check_opsets(opset_imports: Mapping[str, int], report: Report, place: str) -> None:
    """Report imports of one domain twice, and of versions that do not exist."""
    seen: dict[str, int] = {}
    for domain, version in opset_imports.items():
        canonical = canonical_domain(domain)
        shown = quote(canonical or "ai.onnx")
        other = seen.get(canonical)
        seen[canonical] = version
        if other == version:
            message = "the default domain is imported twice, as '' and 'ai.onnx'"
            report.warn("opset", message, place)
        elif other is not None:
            message = f"the default domain is imported as '' and as 'ai.onnx', versions {other} and"
            report.error("opset", f"{message} {version}", place)
        newest = registry.NEWEST_OPSET.get(canonical)
        if version < 1:
            hint = None if newest is None else f"versions are 1 to {newest}"
            message = f"version {version} of domain {shown} does not exist"
            report.error("opset", message, place, hint)
        elif newest is not None and version > newest:
            report.error(
                "opset",
                f"version {version} of domain {shown} is newer than the newest known, {newest}",
                place,
                f"import version {newest} or older, or update sardonyx",
            )


def check_unused_opsets(context: Context) -> None:
    """Note domains that are imported and not used."""
    domains = {canonical_domain(domain) for domain in context.model.opset_imports}
    unused = sorted(quote(domain or "ai.onnx") for domain in domains - context.domains)
    if unused and len(domains) > 1:
        message = f"no node uses domain {', '.join(unused)}, which is imported"
        context.report.note("unused-opset", message, "opset_import")
