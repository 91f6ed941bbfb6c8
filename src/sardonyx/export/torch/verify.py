"""Running an exported model beside its module."""

from __future__ import annotations

import operator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch.utils import _pytree as pytree

from sardonyx.errors import InputError, SardonyxError, VerificationError, quote
from sardonyx.export.torch.samples import samples
from sardonyx.export.torch.tensors import as_array
from sardonyx.export.torch.translate import source_of, target_name
from sardonyx.export.verify import Measured, alike, compare, depth_and_width, measure

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sardonyx.export.torch.signature import Call
    from sardonyx.export.torch.translate import Translated
    from sardonyx.export.verify import Difference
    from sardonyx.ir.tensor import Array
    from sardonyx.ir.value import Value

__all__ = ["verify"]


def verify(
    translated: Translated, module: Any, program: Any, call: Call
) -> tuple[list[Measured], list[str]]:
    """Compare outputs on the example and, where dims are dynamic, on two other sizes.

    Returns the figures, and notes on what was not compared. Raises `VerificationError` with the
    output, the error, and the first node that diverges.
    """
    from sardonyx.runtime import Session

    session = Session(translated.model)
    depth, width = depth_and_width(translated.model)
    names = [value.name for value in translated.model.graph.outputs]
    random = _random_outputs(program)
    figures: list[Measured] = []
    notes: list[str] = []
    for title, values in samples(program, call):
        made_up = title.startswith("inputs")
        try:
            with _state_kept(module):
                expected = _torch_outputs(module, call, values, translated.state)
        except Exception as error:
            if not made_up:
                raise
            notes.append(f"not compared on {title}: the module fails there ({_first(error)})")
            continue
        try:
            found = session.run(None, _feeds(translated, values))
        except SardonyxError as error:
            if made_up and not _runs(program, values):
                notes.append(f"not compared on {title}: torch's exported program fails there")
                continue
            raise _failure(title, error) from error
        if len(expected) != len(found):
            raise VerificationError(
                f"the module gives {len(expected)} tensors, the exported model {len(found)}"
            )
        for index, (name, right, got) in enumerate(zip(names, expected, found, strict=True)):
            if index in random:
                reason = alike(right, got)
                if reason:
                    raise VerificationError(f"output {quote(name)}, random: {reason}")
                figures.append(Measured(title, name, 0, 0, "random: only the type compared"))
                continue
            difference = measure(right, got, depth, width)
            if difference.reason:
                raise _explained(translated, program, call, values, title, name, difference)
            figures.append(Measured(title, name, difference.largest, difference.allowed))
    return figures, notes


def _failure(title: str, error: SardonyxError) -> VerificationError:
    failure = VerificationError(f"the exported model fails on {title}: {error.message}")
    failure.places = list(error.places)
    return failure


def _first(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


@contextmanager
def _state_kept(module: Any) -> Iterator[None]:
    """After the block the module's buffers hold what they held before."""
    buffers = dict(module.named_buffers()) if isinstance(module, torch.nn.Module) else {}
    kept: dict[str, Any] = {}
    small = sum(each.numel() for each in buffers.values()) < 1 << 26
    if small:
        kept = {name: each.detach().clone() for name, each in buffers.items()}
    try:
        yield
    finally:
        with torch.no_grad():
            for name, value in kept.items():
                if not torch.equal(buffers[name], value):
                    buffers[name].copy_(value)


def _torch_outputs(
    module: Any, call: Call, values: list[Any], state: Sequence[str | int]
) -> list[Array]:
    """What `module` gives, and then what `state` names: buffers, and arguments by position."""
    given = [_copied(value) for value in values]
    args, kwargs = call.rebuilt(given)
    with torch.no_grad():
        leaves = pytree.tree_leaves(module(*args, **kwargs))
        held = {**dict(module.named_parameters()), **dict(module.named_buffers())} if state else {}
        leaves += [given[each] if isinstance(each, int) else held[each] for each in state]
        return [
            _array(leaf.clone() if isinstance(leaf, torch.Tensor) else torch.tensor(leaf))
            for leaf in leaves
            if leaf is not None
        ]


def _array(tensor: Any) -> Array:
    """The elements as the model has them: a complex number is a pair on a last axis."""
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor.resolve_conj())
    return as_array(tensor)


def _copied(value: Any) -> Any:
    return value.clone() if isinstance(value, torch.Tensor) else value


def _feeds(translated: Translated, values: list[Any]) -> dict[str, Array]:
    graph = translated.model.graph
    known = {value.name for value in graph.inputs}
    return {
        name: _array(value if isinstance(value, torch.Tensor) else torch.tensor(value))
        for name, value in zip(translated.input_names, values, strict=True)
        if name is not None and name in known
    }


def _random_outputs(program: Any) -> set[int]:
    """The outputs that depend on numbers drawn when the model runs."""
    tainted: set[Any] = set()
    for node in program.graph.nodes:
        tags = getattr(node.target, "tags", ())
        draws = torch.Tag.nondeterministic_seeded in tags and not _is_idle_dropout(node)
        if draws or any(each in tainted for each in node.all_input_nodes):
            tainted.add(node)
    (results,) = (node.args[0] for node in program.graph.nodes if node.op == "output")
    shown = [
        result
        for result, spec in zip(results, program.graph_signature.output_specs, strict=True)
        if spec.kind.name == "USER_OUTPUT" and result is not None
    ]
    return {index for index, result in enumerate(shown) if result in tainted}


def _is_idle_dropout(node: Any) -> bool:
    """Whether a node that may draw numbers draws none: dropout out of training."""
    name = target_name(node)
    if "dropout" in name:
        flags = [arg for arg in (*node.args[1:], *node.kwargs.values()) if isinstance(arg, bool)]
        return not any(flags)
    if "rrelu" in name:
        return True not in node.args
    if "scaled_dot_product" in name:
        positional = node.args[4] if len(node.args) > 4 else 0.0
        return not node.kwargs.get("dropout_p", positional)
    return name.startswith("aten.") and name.split(".")[1] in {
        "lstm",
        "gru",
        "rnn_tanh",
        "rnn_relu",
    }


def _explained(
    translated: Translated,
    program: Any,
    call: Call,
    values: list[Any],
    title: str,
    name: str,
    difference: Difference,
) -> VerificationError:
    error = VerificationError(
        f"output {quote(name)} differs from the module's on {title}: {difference}",
        hint="verify=False skips the comparison; please report a wrong built-in translation",
    )
    blamed = _first_divergence(translated, program, values)
    if blamed is None:
        return error
    node, value, found = blamed
    maker = value.producer
    if maker is not None:
        error.at(f"{maker.label}, the first to diverge: {found}")
    module = maker.metadata.get("sardonyx.module") if maker is not None else None
    parts = [target_name(node)]
    if module:
        parts.append(f"module {module}")
    if source_of(node):
        parts.append(source_of(node))
    error.at(", ".join(parts))
    return error


def _first_divergence(
    translated: Translated, program: Any, values: list[Any]
) -> tuple[Any, Value, Difference] | None:
    from sardonyx.reference import Evaluator

    depth, width = depth_and_width(translated.model)
    try:
        found = Evaluator(translated.model).run(_feeds(translated, values), all_values=True)
    except (SardonyxError, InputError):
        return None
    for node, right in _interpret(program, values):
        value = translated.values.get(node.name)
        if value is None or value.name not in found or not isinstance(right, torch.Tensor):
            continue
        difference = compare(_array(right), found[value.name], depth, width)
        if difference is not None and value.producer is not None:
            return node, value, difference
    return None


def _runs(program: Any, values: list[Any]) -> bool:
    """Whether torch's own program runs on `values`."""
    try:
        for _ in _interpret(program, values):
            pass
    except Exception:  # noqa: BLE001 - torch's operators raise what they like
        return False
    return True


def _interpret(program: Any, values: list[Any]) -> Iterator[tuple[Any, Any]]:
    """Each node of the program's graph with what it computes."""
    computed: dict[Any, Any] = {}
    user = iter([_copied(value) for value in values])
    specs = iter(program.graph_signature.input_specs)
    with torch.no_grad():
        for node in program.graph.nodes:
            if node.op == "placeholder":
                spec = next(specs)
                if spec.kind.name == "USER_INPUT":
                    computed[node] = next(user)
                else:
                    weights = program.state_dict
                    computed[node] = weights.get(spec.target, program.constants.get(spec.target))
            elif node.op == "get_attr":
                computed[node] = operator.attrgetter(node.target)(program.graph_module)
            elif node.op == "call_function":
                args = torch.fx.node.map_arg(node.args, computed.__getitem__)
                kwargs = torch.fx.node.map_arg(node.kwargs, computed.__getitem__)
                computed[node] = node.target(*args, **kwargs)
                if node.target is not operator.getitem or isinstance(computed[node], torch.Tensor):
                    yield node, computed[node]
