"""From a module to a decomposed `torch.export` graph, in eval mode."""

from __future__ import annotations

import inspect
import operator
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch._ops import HigherOrderOperator

from sardonyx.errors import ExportError
from sardonyx.export.torch.guards import Guards, recorded, user_frame
from sardonyx.export.torch.names import plain_spec
from sardonyx.export.torch.registry import HIGHER_ORDER
from sardonyx.export.torch.walk import target_name
from sardonyx.export.torch.whole import recurrent_layers_whole

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
    try:
        signature = inspect.signature(model)
    except ValueError:
        # torch's own functions are built in, which have none
        signature = inspect.Signature(
            [
                inspect.Parameter("args", inspect.Parameter.VAR_POSITIONAL),
                inspect.Parameter("kwargs", inspect.Parameter.VAR_KEYWORD),
            ]
        )
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


def trace(module: Any, call: Call) -> tuple[Any, Guards]:
    """The `ExportedProgram` of `module`, and the conditions on sizes that its code asked for.

    Dims asked dynamic are dynamic in it, or it is an error. torch takes a size of 1 for a
    constant, so an example of size 1 along a dynamic dimension is doubled for tracing; where all
    dims are asked for at once, only if the code takes that.
    """
    attempts: list[Callable[[int], bool]] = [lambda axis: True]
    if call.is_auto:
        attempts += [lambda axis: axis == 0, lambda axis: False]
    for attempt, doubled in enumerate(attempts):
        guards = Guards()
        try:
            with (
                torch.no_grad(),
                _quiet(),
                recurrent_layers_whole(),
                recorded(guards),
                _explicit(module, call),
            ):
                args, kwargs = call.rebuilt(
                    _apart([_enlarged(each, doubled) for each in call.leaves])
                )
                program = torch.export.export(
                    module, args, kwargs, dynamic_shapes=call.dynamic_shapes, strict=False
                )
        except ExportError:
            raise
        except Exception as error:
            if attempt + 1 < len(attempts):
                continue
            raise _explained(error, module, call, guards) from error
        _check_dynamic(program, call, guards)
        return program, guards
    raise AssertionError


@contextmanager
def _explicit(module: Any, call: Call) -> Iterator[None]:
    """Within the block, keywords that ``**kwargs`` would take are parameters of ``forward``.

    torch matches shapes with parameters by name, and does not look into ``**kwargs``.
    """
    if call.extra is None or call.dynamic_shapes is None or "forward" in vars(module):
        yield
        return
    original = module.forward
    signature = inspect.signature(original)
    parameters = [each for each in signature.parameters.values() if each.name != call.extra]
    names = {each.name for each in parameters}
    parameters += [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY)
        for name in call.kwargs
        if name not in names
    ]

    def forward(*args: Any, **kwargs: Any) -> Any:
        return original(*args, **kwargs)

    forward.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    module.forward = forward
    try:
        yield
    finally:
        del module.forward


def _apart(values: list[Any]) -> list[Any]:
    """`values` without a tensor twice: torch would take the two inputs for one."""
    seen: set[int] = set()
    found = []
    for value in values:
        if isinstance(value, torch.Tensor) and id(value) in seen:
            value = value.clone()
        seen.add(id(value))
        found.append(value)
    return found


def _enlarged(leaf: Leaf, doubled: Callable[[int], bool]) -> Any:
    value = leaf.value
    for axis, spec in leaf.dims.items():
        if value.shape[axis] == 1 and not hasattr(spec, "root") and doubled(axis):
            value = torch.cat([value, value], dim=axis)
    return value


def _was_enlarged(leaf: Leaf) -> bool:
    return any(leaf.value.shape[axis] == 1 for axis in leaf.dims)


def _explained(error: Exception, module: Any, call: Call, guards: Guards) -> ExportError:
    text = str(error)
    name = type(module).__name__
    if guards.is_about_dims(text):
        return guards.violation(text, name, call)
    first = text.strip().splitlines()[0] if text.strip() else type(error).__name__
    explained = ExportError(
        f"torch.export cannot trace {name}: {first}",
        hint=_hint(text, call),
    )
    place = user_frame(error.__traceback__)
    if place:
        explained.at(place)
    return explained


def _hint(text: str, call: Call) -> str:
    if "data-dependent" in text or "u0" in text:
        return (
            "the code branches on values or on sizes that only data tell: state what holds with "
            "torch._check(...), or use torch.cond"
        )
    enlarged = [leaf.name for leaf in call.leaves if leaf.is_tensor and _was_enlarged(leaf)]
    if enlarged:
        return (
            f"the examples of size 1 along dynamic axes of {', '.join(enlarged)} were doubled for "
            "tracing: give examples of size 2 or more that fit together"
        )
    return "torch.export.draft_export(module, args) reports each obstacle in the code"


def _check_dynamic(program: Any, call: Call, guards: Guards) -> None:
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
            reason = guards.reason(leaf.parameter, axis, leaf)
            if leaf.wanted(axis):
                error = ExportError(
                    f"{leaf.label(axis)} cannot be dynamic: torch.export fixed it at {shape[axis]}",
                    hint="make the dimension static, or change the code that depends on its size",
                )
                if reason:
                    error.at(reason)
                raise error
            guards.fixed.append((leaf.name, axis, int(shape[axis]), reason))
            if not call.is_auto:
                warnings.warn(
                    f"{leaf.label(axis)} was left to torch (Dim.AUTO), which fixed it at "
                    f"{shape[axis]}" + (f" in {reason}" if reason else ""),
                    stacklevel=2,
                )


def decompose(program: Any, translated: Container[str]) -> Any:
    """`program` made functional, with every operator decomposed that has no translation.

    A program that is so already is returned as it is: decomposing traces it once more.
    """
    if _is_ready(program, translated):
        return program
    _drop_detach(program.graph_module)
    table = torch.export.default_decompositions()
    for target in [target for target in table if str(target) in translated]:
        table.pop(target)
    try:
        with torch.no_grad(), _quiet(), _plain_containers(program):
            made = program.run_decompositions(table)
    except Exception as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ExportError(f"torch cannot decompose the exported program: {first}") from error
    old, new = (each.module_call_graph[0].signature for each in (program, made))
    new.in_spec, new.out_spec = old.in_spec, old.out_spec
    return made


@contextmanager
def _plain_containers(program: Any) -> Iterator[None]:
    """Within the block inputs and outputs are in lists, tuples and dicts.

    Decomposing builds containers while it traces: what one of another package computes when it
    is made would become part of the graph.
    """
    signature = program.module_call_graph[0].signature
    before = signature.in_spec, signature.out_spec
    signature.in_spec, signature.out_spec = map(plain_spec, before)
    try:
        yield
    finally:
        signature.in_spec, signature.out_spec = before


_INLINED = {"wrap_with_set_grad_enabled", "wrap_with_autocast"}


def _is_ready(program: Any, translated: Container[str]) -> bool:
    """Whether each operator has a translation, and none changes what another reads."""
    kinds = {spec.kind.name for spec in program.graph_signature.output_specs}
    if kinds != {"USER_OUTPUT"}:
        return False
    for module in program.graph_module.modules():
        graph = getattr(module, "graph", None)
        for node in graph.nodes if graph is not None else ():
            if node.op == "call_function" and not _is_plain(node, translated):
                return False
    return True


def _is_plain(node: Any, translated: Container[str]) -> bool:
    name = target_name(node)
    if node.target is operator.getitem:
        return True
    if isinstance(node.target, HigherOrderOperator):
        return name in _INLINED and name in HIGHER_ORDER
    if isinstance(node.meta.get("val"), (torch.SymInt, torch.SymFloat, torch.SymBool)):
        return True
    if name == "aten.detach_.default":
        return True
    schema = getattr(node.target, "_schema", None)
    if schema is None or schema.is_mutable:
        return False
    return name in translated or name.startswith(("aten._assert", "aten.sym_constrain_range"))


def _drop_detach(module: Any) -> None:
    """Without ``detach_``, which changes no number, lifted constants that nothing reads go."""
    for each in module.modules():
        graph: Any = getattr(each, "graph", None)
        for node in list(graph.nodes) if graph is not None else ():
            if node.op == "call_function" and target_name(node) == "aten.detach_.default":
                node.replace_all_uses_with(node.args[0])
                graph.erase_node(node)
