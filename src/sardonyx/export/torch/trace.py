"""From a module to a decomposed `torch.export` graph, in eval mode."""

from __future__ import annotations

import inspect
import re
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from sardonyx.errors import ExportError

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator

    from sardonyx.export.torch.signature import Call, Leaf

__all__ = ["as_module", "decompose", "in_eval_mode", "trace"]


def as_module(model: Any) -> Any:
    """`model`, or a module whose forward is the function `model`."""
    if isinstance(model, torch.nn.Module):
        return model
    if not callable(model):
        raise ExportError(f"a {type(model).__name__} is neither a module nor a function")
    signature = inspect.signature(model)
    function: Callable[..., Any] = model

    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    first = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    parameters = [first, *signature.parameters.values()]
    if any(each.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD for each in parameters):
        parameters[0] = first.replace(kind=inspect.Parameter.POSITIONAL_ONLY)
    forward.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    name = getattr(model, "__name__", "function")
    return type(name, (torch.nn.Module,), {"forward": forward})()


@contextmanager
def in_eval_mode(module: Any) -> Iterator[None]:
    """Within the block all submodules are in eval mode; each one's own flag comes back."""
    training = [each for each in module.modules() if each.training]
    try:
        module.eval()
        yield
    finally:
        for each in training:
            each.training = True


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning)
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        warnings.filterwarnings("ignore", message=".*(torch|pytree|lru_cache).*")
        yield


def trace(module: Any, call: Call) -> Any:
    """The `ExportedProgram` of `module`; dims asked dynamic are dynamic in it, or it is an error.

    torch takes a size of 1 for a constant, so an example of size 1 along a dynamic dimension
    is doubled for tracing.
    """
    values = [_enlarged(leaf) for leaf in call.leaves]
    args, kwargs = call.rebuilt(values)
    try:
        with torch.no_grad(), _quiet():
            program = torch.export.export(
                module, args, kwargs, dynamic_shapes=call.dynamic_shapes, strict=False
            )
    except ExportError:
        raise
    except Exception as error:
        raise _explained(error, module, call) from error
    _check_dynamic(program, call)
    return program


def _enlarged(leaf: Leaf) -> Any:
    value = leaf.value
    for axis, spec in leaf.dims.items():
        if value.shape[axis] == 1 and not hasattr(spec, "root"):
            value = torch.cat([value, value], dim=axis)
    return value


def _explained(error: Exception, module: Any, call: Call) -> ExportError:
    text = str(error)
    name = type(module).__name__
    if "Constraints violated" in text or "user-specified dim" in text or "dim hint" in text:
        reasons = [line.strip(" -") for line in text.splitlines() if line.lstrip().startswith("- ")]
        blamed = [
            leaf.label(axis)
            for leaf in call.leaves
            for axis in leaf.dims
            if _is_blamed(leaf, axis, text)
        ]
        fixes = re.search(r"Suggested fixes:\n((?:  .*\n?)+)", text)
        return ExportError(
            f"{'; '.join(dict.fromkeys(blamed)) or 'a dimension'} cannot be dynamic in {name}: "
            + " ".join(reasons),
            hint="torch suggests " + "; ".join(map(str.strip, fixes[1].strip().splitlines()))
            if fixes
            else "make the dimension static, or change the code that depends on its size",
        )
    first = text.strip().splitlines()[0] if text.strip() else type(error).__name__
    return ExportError(
        f"torch.export cannot trace {name}: {first}",
        hint="torch.export.draft_export(module, args) reports each obstacle in the code",
    )


def _is_blamed(leaf: Leaf, axis: int, text: str) -> bool:
    name = leaf.names.get(axis)
    named = name is not None and re.search(rf"\b{re.escape(name)}\b", text)
    place = re.search(rf"\['?{re.escape(leaf.parameter)}'?\].*\[{axis}\]", text)
    return bool(named or place)


def _check_dynamic(program: Any, call: Call) -> None:
    placeholders = [node for node in program.graph.nodes if node.op == "placeholder"]
    names = program.graph_signature.user_inputs
    nodes = {node.name: node for node in placeholders}
    for leaf, name in zip(call.leaves, names, strict=False):
        if not leaf.dims or name not in nodes:
            continue
        shape = nodes[name].meta["val"].shape
        for axis in leaf.dims:
            size = shape[axis]
            if not isinstance(size, int) and not size.node.expr.is_number:
                continue
            if leaf.wanted(axis):
                raise ExportError(
                    f"{leaf.label(axis)} cannot be dynamic: torch.export fixed it at {shape[axis]}",
                    hint="make the dimension static, or change the code that depends on its size",
                )
            warnings.warn(
                f"{leaf.label(axis)} was left to torch (Dim.AUTO), which fixed it at {shape[axis]}",
                stacklevel=2,
            )


def decompose(program: Any, translated: Container[str]) -> Any:
    """`program` made functional, with every operator decomposed that has no translation."""
    table = torch.export.default_decompositions()
    for target in [target for target in table if str(target) in translated]:
        table.pop(target)
    try:
        with torch.no_grad(), _quiet():
            return program.run_decompositions(table)
    except Exception as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ExportError(f"torch cannot decompose the exported program: {first}") from error
