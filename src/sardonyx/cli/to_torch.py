"""``sardonyx to-torch``: an ONNX file becomes a PyTorch module."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.text import Text

from sardonyx.cli.console import hint, output, print_json, printable, working
from sardonyx.cli.drawing import bytes_text, duration_text
from sardonyx.cli.values import missing_file
from sardonyx.errors import InputError, quote
from sardonyx.wire import load

if TYPE_CHECKING:
    from sardonyx.ir.model import Model
    from sardonyx.limits import Limits

__all__ = ["to_torch_file"]

_KINDS = {
    ".py": "source and weights",
    ".pt": "a module for torch.load",
    ".pt2": "an exported program",
}


def to_torch_file(
    path: str, target: str, *, trainable: bool, limits: Limits, as_json: bool
) -> None:
    """Write the module of the model at `path` to `target` in the form that its suffix says."""
    if not Path(path).is_file():
        raise missing_file(path)
    suffix = Path(target).suffix
    if suffix not in _KINDS:
        raise InputError(
            f"{quote(target)} does not say what to write",
            hint=", ".join(f"{known} is {what}" for known, what in _KINDS.items()),
        )
    if not Path(target).absolute().parent.is_dir():
        raise InputError(f"the folder of {quote(target)} does not exist")
    start = time.perf_counter()
    with working("translating"):
        from sardonyx.bridge import to_torch

        model = load(path, limits=limits)
        module = to_torch(model, trainable=trainable)
        files = _write(module, model, target, Path(path).name)
    summary = {
        "file": target,
        "files": [str(file) for file in files],
        "bytes": sum(file.stat().st_size for file in files),
        "parameters": sum(tensor.numel() for tensor in module.parameters()),
        "inputs": module.meta["input_names"],
        "outputs": module.meta["output_names"],
        "renamed": module.meta["renamed"],
        "seconds": time.perf_counter() - start,
    }
    if as_json:
        print_json(summary)
    else:
        _print(summary, suffix)


def _write(module: Any, model: Model, target: str, title: str) -> list[Path]:
    from sardonyx.bridge.torch.program import write_program
    from sardonyx.bridge.torch.source import write_module, write_source

    suffix = Path(target).suffix
    if suffix == ".py":
        return [Path(target), write_source(module, target, title)]
    if suffix == ".pt":
        write_module(module, target)
    else:
        write_program(module, model, target)
    return [Path(target)]


def _print(summary: dict[str, Any], suffix: str) -> None:
    console = output()
    line = Text("✓ ", style="bold green")
    line.append(" and ".join(printable(file) for file in summary["files"]), style="default")
    line.append(f"  {bytes_text(summary['bytes'])}", style="not bold default")
    console.print(line, soft_wrap=True)
    console.print(
        f"  {_KINDS[suffix]} · {summary['parameters']:,} parameters · "
        f"{duration_text(summary['seconds'])}"
    )
    for old, new in summary["renamed"].items():
        console.print(f"  {printable(old)} is called {printable(new)}", style="yellow")
    name = printable(Path(summary["file"]).stem)
    said = {
        ".py": f"from {name} import load; module = load()",
        ".pt": f"module = torch.load('{name}.pt', weights_only=False)",
        ".pt2": f"module = torch.export.load('{name}.pt2').module()",
    }
    console.print(hint(f"in Python: {said[suffix]}"), soft_wrap=True)
