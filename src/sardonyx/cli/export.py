"""``sardonyx export``: a framework's model in a Python file becomes an ONNX file."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
import logging
import sys
import time
import traceback
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.text import Text

from sardonyx import dtypes
from sardonyx.cli.console import hint, output, print_json, printable, working
from sardonyx.cli.contents import contents
from sardonyx.cli.drawing import bytes_text, duration_text
from sardonyx.cli.feeds import random_array
from sardonyx.cli.show import print_values
from sardonyx.cli.values import missing_file
from sardonyx.errors import ExportError, InputError, SardonyxError, quote

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from sardonyx.dtypes import DType

__all__ = ["ExportOptions", "export_object"]

_EXAMPLES = "example_inputs"


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """The options of ``sardonyx export``, as they were written."""

    input_shapes: Sequence[str] = ()
    opset: int | None = None
    dynamic: Sequence[str] = ()
    input_names: str | None = None
    output_names: str | None = None
    external_data: bool = False
    verify: bool = True
    optimize: bool = False
    weights: str | None = None
    report: str | None = None


def export_object(source: str, path: str, options: ExportOptions, *, as_json: bool) -> None:
    """Export ``FILE.py:NAME``, or an exported program in a file, to `path`; tell what was done."""
    from sardonyx.export import Report, export

    if not Path(path).absolute().parent.is_dir():
        raise InputError(f"the folder of {quote(path)} does not exist")
    start = time.perf_counter()
    with working("importing"), redirect_stdout(sys.stderr):
        found, arguments = _found(source, options)
    report = Report()
    is_auto = list(options.dynamic) == ["auto"]
    what = "exporting and verifying" if options.verify else "exporting"
    with working(what), redirect_stdout(sys.stderr), _without_logs():
        model = export(
            found,
            arguments,
            path,
            input_names=_names(options.input_names),
            output_names=_names(options.output_names),
            dynamic_axes=None if is_auto else _dynamic_axes(options.dynamic),
            dynamic_shapes="auto" if is_auto else None,
            opset_version=options.opset,
            verify=options.verify,
            external_data=True if options.external_data else None,
            weights=options.weights,
            optimize=options.optimize,
            report=report,
        )
        if options.report is not None:
            report.write(options.report)
        document = contents(model, path, 0)
    keys = ("file", "bytes", "ir_version", "opsets", "inputs", "outputs", "nodes")
    summary = {key: document[key] for key in keys}
    summary["parameters"] = document["weights"]["parameters"]
    summary["verified"] = report.verified
    summary["largest_error"] = report.largest_error
    summary["notes"] = report.notes
    summary["dims"] = [asdict(dim) for dim in report.dims]
    summary["stages"] = report.stages
    summary["report"] = options.report
    summary["seconds"] = time.perf_counter() - start
    if as_json:
        print_json(summary)
    else:
        _print_summary(summary)


@contextmanager
def _without_logs() -> Iterator[None]:
    """Frameworks log the failures that they raise, too: the error alone is shown."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(before)


def _print_summary(summary: dict[str, Any]) -> None:
    console = output()
    line = Text("✓ ", style="bold green")
    line.append(printable(summary["file"]), style="default")
    line.append(f"  {bytes_text(summary['bytes'])}", style="not bold default")
    console.print(line, soft_wrap=True)
    opsets = ", ".join(f"{name} {version}" for name, version in summary["opsets"].items())
    console.print(
        f"  opset {opsets} · {summary['nodes']} nodes · {summary['parameters']:,} parameters · "
        f"{duration_text(summary['seconds'])}"
    )
    if summary["verified"]:
        part = summary["largest_error"]
        console.print(
            "  verified: its outputs are those of the original"
            + (f" (largest error {part:.1%} of what rounding explains)" if part else "")
        )
    else:
        console.print("  not verified", style="yellow")
    for note in summary["notes"]:
        console.print(f"  {printable(note)}", style="yellow", soft_wrap=True)
    for dim in summary["dims"]:
        if not dim["is_dynamic"]:
            text = f"  fixed: axis {dim['axis']} of {dim['input']} at {dim['size']} {dim['reason']}"
            console.print(printable(text), style="yellow", soft_wrap=True)
    print_values(console, "Inputs", summary["inputs"])
    print_values(console, "Outputs", summary["outputs"])
    console.print(hint(f"try: sardonyx run {printable(summary['file'])} --random"), soft_wrap=True)


def _found(source: str, options: ExportOptions) -> tuple[Any, Any]:
    """What to export, and its example arguments."""
    if Path(source).suffix == ".pt2":
        found = _program(source)
        shapes = options.input_shapes
        return found, _example_arguments(shapes) if shapes else ()
    module = _import_file(source.rpartition(":")[0] or source)
    found, arguments = _object_of(module, source)
    if options.input_shapes:
        arguments = _example_arguments(options.input_shapes)
    elif arguments is None:
        arguments = _declared_arguments(module)
    return found, arguments


def _program(path: str) -> Any:
    """The exported program that ``torch.export.save`` wrote."""
    if not Path(path).is_file():
        raise missing_file(path)
    try:
        torch = importlib.import_module("torch")
    except ImportError:
        raise InputError(
            f"{quote(path)} is a file of PyTorch, which is not installed",
            hint='pip install "sardonyx[torch]"',
        ) from None
    try:
        return torch.export.load(path)
    except Exception as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise InputError(f"{quote(path)} holds no exported program: {reason}") from error


def _import_file(path: str) -> Any:
    """The user's file as a module, its folder being importable as for ``python FILE``."""
    file = Path(path)
    if not file.is_file():
        raise missing_file(path)
    if file.suffix != ".py":
        raise InputError(f"{quote(path)} is no Python file", hint="write FILE.py:NAME OUT.onnx")
    folder = str(file.absolute().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    name = file.stem if file.stem.isidentifier() and file.stem not in sys.modules else "_exported"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise InputError(f"{quote(path)} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except SardonyxError:
        raise
    except Exception as error:
        raise _failure(f"importing {quote(path)} failed", error, path) from error
    return module


def _failure(what: str, error: BaseException, path: str) -> ExportError:
    """The user's exception, with the places in the user's file, innermost first."""
    reason = "".join(traceback.format_exception_only(type(error), error)).strip()
    failure = ExportError(f"{what}: {reason}")
    name = Path(path).name
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if Path(frame.filename).name == name:
            failure.at(f"{name}:{frame.lineno} in {frame.name}")
    return failure


def _object_of(module: Any, source: str) -> tuple[Any, Any]:
    """The object to export, and its example arguments where a function gave them too."""
    path, found, name = source.rpartition(":")
    public = sorted(key for key in vars(module) if not key.startswith("_"))
    if not found or not name:
        raise InputError(
            f"{quote(source)} does not say what to export",
            hint=f"write {source.rstrip(':')}:NAME; it defines {', '.join(public[:20])}",
        )
    target = module
    for part in name.split("."):
        if not hasattr(target, part):
            close = difflib.get_close_matches(part, public, n=1)
            hint_text = (
                f"did you mean {close[0]}?" if close else f"it defines {', '.join(public[:20])}"
            )
            raise InputError(f"{quote(path)} has no {quote(part)}", hint=hint_text)
        target = getattr(target, part)
    if not inspect.isclass(target) and not inspect.isfunction(target):
        return target, None
    try:
        inspect.signature(target).bind()
    except TypeError:
        if inspect.isfunction(target):
            return target, None
        raise InputError(
            f"class {quote(name)} takes arguments",
            hint=f"add a line such as model = {name}(...) to the file and export {path}:model",
        ) from None
    except ValueError:
        pass
    try:
        made = target()
    except Exception as error:
        raise _failure(f"{name}() failed", error, path) from error
    if isinstance(made, tuple) and len(made) == 2:
        return made
    return made, None


def _declared_arguments(module: Any) -> Any:
    declared = getattr(module, _EXAMPLES, None)
    if declared is None:
        raise InputError(
            "there are no example inputs to export with",
            hint=f"give --input-shape 1,3,224,224 for each, or define {_EXAMPLES} in the file",
        )
    if callable(declared) and not hasattr(declared, "shape"):
        declared = declared()
    return declared


def _example_arguments(texts: Iterable[str]) -> tuple[Any, ...]:
    random = np.random.default_rng(0)
    return tuple(_example(text, random) for text in texts)


def _example(text: str, random: np.random.Generator) -> Any:
    """``1,3,224,224:float16`` as an array of the framework that the user's file imported."""
    sizes, _, type_name = text.partition(":")
    try:
        shape = [int(part) for part in sizes.split(",") if part.strip()]
    except ValueError:
        raise InputError(
            f"--input-shape {quote(text)} is no shape", hint="write 1,3,224,224 or 1,16:int64"
        ) from None
    if any(size < 0 for size in shape):
        raise InputError(f"--input-shape {quote(text)} has a negative size")
    try:
        dtype = dtypes.from_name(type_name or "FLOAT")
    except SardonyxError as error:
        raise InputError(error.message, hint="write for example :int64 or :float16") from None
    torch = sys.modules.get("torch")
    if torch is None:
        return random_array(shape, dtype, random)
    return _torch_example(torch, shape, dtype, random)


def _torch_example(
    torch: Any, shape: Sequence[int], dtype: DType, random: np.random.Generator
) -> Any:
    if not dtype.is_floating:
        return torch.from_numpy(random_array(shape, dtype, random))
    array = random.standard_normal(tuple(shape)).astype(np.float32)
    name = str(dtype.numpy)
    if not hasattr(torch, name):
        raise InputError(f"PyTorch has no type {name}")
    return torch.from_numpy(array).to(getattr(torch, name))


def _names(text: str | None) -> list[str] | None:
    return None if text is None else [part.strip() for part in text.split(",")]


def _dynamic_axes(texts: Iterable[str]) -> dict[str, dict[int, str]] | None:
    """``x:0=batch`` options as ``{"x": {0: "batch"}}``."""
    axes: dict[str, dict[int, str]] = {}
    for text in texts:
        place, found, dim = text.rpartition("=")
        name, colon, axis = place.rpartition(":")
        if not found or not colon or not dim or not axis.lstrip("-").isdigit():
            raise InputError(
                f"--dynamic {quote(text)} cannot be read", hint="write INPUT:AXIS=NAME, x:0=batch"
            )
        axes.setdefault(name, {})[int(axis)] = dim
    return axes or None
