"""A module as a Python file that people can read and change, with its weights beside it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch

from sardonyx._version import __version__
from sardonyx.bridge.torch.module import transient_buffers
from sardonyx.errors import UnsupportedError

if TYPE_CHECKING:
    import os

    from sardonyx.bridge.torch.module import OnnxModule

__all__ = ["source_of", "write_module", "write_source"]

_HOME: Final = "sardonyx.bridge.torch."
_FORGOTTEN: Final = re.compile(r";  [\w ,=]+ = None")
_MATH: Final = ("inf", "nan")


def write_source(module: OnnxModule, path: str | os.PathLike[str], title: str = "") -> Path:
    """Write `module` to `path`, a .py file, and its tensors to the .weights.pt file beside it.

    The file defines one class and ``load()``, which makes one with the tensors. Returns the path
    of the tensors. Raises `UnsupportedError` for a module with control flow.
    """
    target = Path(path)
    weights = target.with_suffix(".weights.pt")
    text = source_of(module, weights.name, title)
    tensors = {
        name: tensor.detach()
        for name, tensor in (*module.named_parameters(), *module.named_buffers())
    }
    torch.save(tensors, weights)
    target.write_text(text, encoding="utf-8")
    return weights


def write_module(module: OnnxModule, path: str | os.PathLike[str]) -> None:
    """Write `module` to `path` for `torch.load`."""
    torch.save(module, path)


def source_of(module: OnnxModule, weights: str, title: str = "") -> str:
    """The text of the file; `weights` is the name of the file with the tensors."""
    if any(node.op == "call_module" for node in module.graph.nodes):
        raise UnsupportedError(
            "a module with control flow has no source of one class",
            hint="save it as .pt, which torch.load reads",
        )
    code = module.graph.python_code(root_module="self")
    body = _FORGOTTEN.sub("", code.src).strip("\n")
    families = set()
    for name, value in code.globals.items():
        home = getattr(value, "__module__", None) or ""
        if home.startswith(_HOME):
            family = home.removeprefix(_HOME)
            families.add(family)
            body = re.sub(rf"\b{re.escape(name)}\b", f"sx.{family}.{value.__name__}", body)
    body = "\n".join(
        _tidied(line)
        for line in body.splitlines()
        if line.strip() and not line.startswith("torch.fx.")
    )
    name = type(module).__name__
    name = getattr(module, "_graphmodule_cls_name", name)
    lines = [
        f'"""{title or name} as a PyTorch module, written by Sardonyx {__version__}."""',
        "",
        *([f"from math import {', '.join(_MATH)}"] if re.search(r"\b(inf|nan)\b", body) else []),
        "from pathlib import Path",
        "",
        "import torch",
        "from torch import device",
        "",
        *[f"import {_HOME}{family}" for family in sorted(families)],
        "from sardonyx.bridge import torch as sx",
        "",
        "",
        f"class {name}(torch.nn.Module):",
        "    def __init__(self):",
        "        super().__init__()",
        *[f"        {line}" for line in _declarations(module)],
        "",
        *[f"    {line}" for line in body.splitlines()],
        "",
        "",
        f'def load(path=Path(__file__).with_name("{weights}")):',
        '    """The module with its tensors."""',
        f"    module = {name}()",
        "    tensors = torch.load(path, weights_only=True)",
        "    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:",
        "        tensor.data.copy_(tensors[name])",
        "    return module",
        "",
    ]
    if "device(" not in body:
        lines.remove("from torch import device")
    return "\n".join(lines)


def _tidied(line: str) -> str:
    head, bracket, rest = line.partition("(")
    return head + bracket + re.sub(r"\b(\w+) = ", r"\1=", rest)


def _declarations(module: torch.nn.Module) -> list[str]:
    transient = set(transient_buffers(module))
    lines, made = [], {""}
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        parent, _, leaf = name.rpartition(".")
        parts = parent.split(".") if parent else []
        for depth in range(1, len(parts) + 1):
            place = ".".join(parts[:depth])
            if place not in made:
                made.add(place)
                outer = _path(parts[: depth - 1])
                lines.append(f"{outer}.add_module({parts[depth - 1]!r}, torch.nn.Module())")
        owner, empty = _path(parts), _empty(tensor)
        if isinstance(tensor, torch.nn.Parameter):
            frozen = "" if tensor.requires_grad else ", requires_grad=False"
            value = f"torch.nn.Parameter({empty}{frozen})"
            lines.append(f"{owner}.register_parameter({leaf!r}, {value})")
        else:
            kept = ", persistent=False" if name in transient else ""
            lines.append(f"{owner}.register_buffer({leaf!r}, {empty}{kept})")
    return lines or ["pass"]


def _path(parts: list[str]) -> str:
    text = "self"
    for part in parts:
        text = f"{text}.{part}" if part.isidentifier() else f"getattr({text}, {part!r})"
    return text


def _empty(tensor: Any) -> str:
    dtype = "" if tensor.dtype == torch.float32 else f", dtype={tensor.dtype}"
    return f"torch.empty({list(tensor.shape)}{dtype})"
