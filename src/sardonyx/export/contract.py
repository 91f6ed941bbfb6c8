"""What every exporter is and takes."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, Protocol

from sardonyx.errors import ExportError
from sardonyx.export.report import Report

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sardonyx.ir.model import Model

__all__ = [
    "DEFAULT_OPSET",
    "FRAMEWORKS",
    "OLDEST_OPSET",
    "Exporter",
    "Options",
    "exporter_of",
    "ir_version_of",
    "refuse_unknown",
]

DEFAULT_OPSET: Final = 20
OLDEST_OPSET: Final = 7

_IR_VERSIONS: Final = {
    7: 4, 8: 4, 9: 4, 10: 5, 11: 6, 12: 7, 13: 7, 14: 7, 15: 8, 16: 8, 17: 8, 18: 8, 19: 9,
    20: 9, 21: 10, 22: 10, 23: 11, 24: 12, 25: 13, 26: 13, 27: 13, 28: 14,
}  # fmt: skip


def ir_version_of(opset: int) -> int:
    """The file format that came with `opset`; at least 4, since weights are not inputs."""
    if opset not in _IR_VERSIONS:
        newest = max(_IR_VERSIONS)
        raise ExportError(
            f"opset_version is {opset}",
            hint=f"the versions from {OLDEST_OPSET} to {newest} can be written",
        )
    return _IR_VERSIONS[opset]


@dataclass(frozen=True, kw_only=True)
class Options:
    """The arguments of `sardonyx.export` that concern translation and verification."""

    kwargs: Mapping[str, Any] = field(default_factory=dict)
    input_names: Sequence[str] | None = None
    output_names: Sequence[str] | None = None
    dynamic_shapes: Any = None
    dynamic_axes: Mapping[str, Any] | None = None
    opset_version: int = DEFAULT_OPSET
    verify: bool = True
    weights: Any = None
    state: str = "constant"
    optimize: bool = False
    custom_translations: Mapping[Any, Callable[..., Any]] = field(default_factory=dict)
    report: Report = field(default_factory=Report)


class Exporter(Protocol):
    """A framework's module under `sardonyx.export`; it may import the framework."""

    def export_model(self, model: Any, args: tuple[Any, ...], options: Options) -> Model:
        """Translate `model`, called with `args`, and verify the result."""


FRAMEWORKS: Final[dict[str, str]] = {"torch": "sardonyx.export.torch"}
"""Top-level package of a framework -> the module that exports its models."""


def exporter_of(model: Any, args: tuple[Any, ...]) -> Exporter:
    """The exporter for `model`, known by the package that defines its type.

    A plain function is known by the types of its arguments. Nothing is imported but the
    exporter found.
    """
    found = _framework_of(model)
    if found is None and callable(model):
        found = next(filter(None, map(_framework_of, _leaves(args))), None)
    if found is None:
        kind = f"{type(model).__module__}.{type(model).__qualname__}"
        known = ", ".join(sorted(FRAMEWORKS))
        raise ExportError(
            f"no framework is known that a {kind} belongs to",
            hint=f"models of {known} can be exported; a plain function is known by its arguments",
        )
    exporter: Exporter = import_module(FRAMEWORKS[found])
    return exporter


_OF_TORCH: Final = {
    "f": "the path is the third argument: sardonyx.export(model, args, path)",
    "do_constant_folding": "optimize=True folds constants, and more",
    "export_params": "weights are always in the file; external_data=True puts them beside it",
    "keep_initializers_as_inputs": "weights are not inputs",
    "training": "models are exported in eval mode",
    "operator_export_type": "give custom_translations for operators that have no translation",
    "custom_opsets": "custom_translations={op: sardonyx.export.custom_node(domain, name)} says it",
    "export_modules_as_functions": "each node's metadata says its module",
    "autograd_inlining": "autograd functions are always traced through",
    "dynamo": "the model always comes from torch.export",
    "fallback": "there is one way to export",
    "verbose": "use report=",
    "profile": "report= has the time of each stage",
    "artifacts_dir": "report= takes a path",
    "dump_exported_program": "torch.export.save keeps an exported program",
}


def refuse_unknown(arguments: Mapping[str, Any]) -> None:
    """`TypeError` for keyword arguments that `export` does not have, with what to do instead."""
    for name in arguments:
        advice = _OF_TORCH.get(name)
        if advice is None:
            known = ["kwargs", "report", *(each.name for each in fields(Options))]
            close = get_close_matches(name, known, n=1)
            advice = f"did you mean {close[0]}?" if close else ""
        raise TypeError(f"export() has no argument {name!r}" + (f": {advice}" if advice else ""))


def _framework_of(thing: Any) -> str | None:
    for base in type(thing).__mro__:
        package = base.__module__.partition(".")[0]
        if package in FRAMEWORKS:
            return package
    return None


def _leaves(part: Any) -> list[Any]:
    if isinstance(part, dict):
        part = list(part.values())
    if isinstance(part, (list, tuple)):
        return [leaf for item in part for leaf in _leaves(item)]
    return [part]
