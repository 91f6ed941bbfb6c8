"""The error that lists operators without a translation, with an example to paste."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any, Final

from sardonyx.errors import ExportError

__all__ = ["Missing"]

_SHOWN_SOURCES: Final = 3


class Missing:
    """Gathers the operators that have no translation."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._places: dict[str, list[str]] = {}
        self._schemas: dict[str, Any] = {}

    def add(self, name: str, place: str, target: Any) -> None:
        """Count an operator that `place` calls."""
        self._counts[name] += 1
        if place and place not in self._places.setdefault(name, []):
            self._places[name].append(place)
        self._schemas.setdefault(name, getattr(target, "_schema", None))

    def refuse(self) -> None:
        """`ExportError` where there are any."""
        if not self._counts:
            return
        lines = []
        for name, count in self._counts.most_common():
            places = self._places.get(name, [])
            more = len(places) - _SHOWN_SOURCES
            shown = places[:_SHOWN_SOURCES] + ([f"{more} more places"] if more > 0 else [])
            lines.append(
                f"{name} ({count} time{'s' * (count > 1)})" + "".join(f", {at}" for at in shown)
            )
        first = next(iter(self._counts.most_common()))[0].partition(" ")[0]
        raise ExportError(
            "PyTorch operators have no translation into ONNX:\n    " + "\n    ".join(lines),
            hint=_example(first, self._schemas.get(first)),
        )


def _example(name: str, schema: Any) -> str:
    function = re.sub(r"\W", "_", name.removesuffix(".default")).removeprefix("aten_")
    plain = [] if schema is None else [a.name for a in schema.arguments if not _is_tensor(a)]
    attributes = f", {plain}" if plain else ""
    lines = [
        "write it with ONNX operators, here as if it were Identity (docs/export.md):",
        f"    def {function}(op, {_parameters(schema)}):",
        f"        return op.Identity({_first_name(schema)})",
        f'    sardonyx.export(..., custom_translations={{"{name}": {function}}})',
    ]
    if not name.startswith(("aten.", "prims.")):
        domain, _, rest = name.partition(".")
        arguments = f'"{domain}", "{rest.removesuffix(".default")}"{attributes}'
        made = f"sardonyx.export.custom_node({arguments})"
        lines += [
            "or leave it to a runtime that knows it, as a node of a custom domain:",
            f'    custom_translations={{"{name}": {made}}}',
        ]
    return "\n  ".join(lines)


def _is_tensor(argument: Any) -> bool:
    return "Tensor" in str(argument.type)


def _name(argument: Any) -> str:
    return "x" if argument.name == "self" else str(argument.name)


def _first_name(schema: Any) -> str:
    tensors = [] if schema is None else [_name(a) for a in schema.arguments if _is_tensor(a)]
    return tensors[0] if tensors else "args[0]"


def _parameters(schema: Any) -> str:
    if schema is None:
        return "*args, **kwargs"
    parts: list[str] = []
    keywords = False
    for argument in schema.arguments:
        if argument.kwarg_only and not keywords:
            parts.append("*")
            keywords = True
        default = f"={argument.default_value!r}" if argument.has_default_value() else ""
        parts.append(_name(argument) + default)
    return ", ".join(parts)
