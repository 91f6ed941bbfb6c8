"""Running an exported model beside its module."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

import torch
from torch.utils import _pytree as pytree

from sardonyx.errors import InputError, SardonyxError, VerificationError, quote
from sardonyx.export.torch.tensors import as_array
from sardonyx.export.torch.translate import source_of, target_name
from sardonyx.export.verify import compare, depth_and_width

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sardonyx.export.torch.signature import Call
    from sardonyx.export.torch.translate import Translated
    from sardonyx.export.verify import Difference
    from sardonyx.ir.tensor import Array
    from sardonyx.ir.value import Value

__all__ = ["verify"]


def verify(translated: Translated, module: Any, program: Any, call: Call) -> None:
    """Compare outputs on the example and, where dims are dynamic, on two other sizes.

    Raises `VerificationError` with the output, the error, and the first node that diverges.
    """
    from sardonyx.runtime import Session

    session = Session(translated.model)
    depth, width = depth_and_width(translated.model)
    names = [value.name for value in translated.model.graph.outputs]
    for title, values in _examples(program, call):
        try:
            expected = _torch_outputs(module, call, values)
        except Exception:
            if title == "the example":
                raise
            continue
        feeds = _feeds(translated, values)
        try:
            found = session.run(None, feeds)
        except SardonyxError as error:
            raise VerificationError(
                f"the exported model fails on {title}: {error.message}",
                place=error.places[0] if error.places else None,
            ) from error
        if len(expected) != len(found):
            raise VerificationError(
                f"the module gives {len(expected)} tensors, the exported model {len(found)}"
            )
        for name, right, got in zip(names, expected, found, strict=True):
            difference = compare(right, got, depth, width)
            if difference is not None:
                raise _explained(translated, program, call, values, title, name, difference)


def _torch_outputs(module: Any, call: Call, values: list[Any]) -> list[Array]:
    args, kwargs = call.rebuilt([_copied(value) for value in values])
    with torch.no_grad():
        leaves = pytree.tree_leaves(module(*args, **kwargs))
    return [
        as_array(leaf if isinstance(leaf, torch.Tensor) else torch.tensor(leaf))
        for leaf in leaves
        if leaf is not None
    ]


def _copied(value: Any) -> Any:
    return value.clone() if isinstance(value, torch.Tensor) else value


def _feeds(translated: Translated, values: list[Any]) -> dict[str, Array]:
    graph = translated.model.graph
    known = {value.name for value in graph.inputs}
    return {
        name: as_array(value)
        for name, value in zip(translated.input_names, values, strict=True)
        if name is not None and name in known
    }


def _examples(program: Any, call: Call) -> Iterator[tuple[str, list[Any]]]:
    example = [leaf.value for leaf in call.leaves]
    yield "the example", example
    fakes = _fakes(program, call)
    symbols = {
        str(symbol): symbol
        for fake in fakes
        if fake is not None
        for size in fake.shape
        if not isinstance(size, int)
        for symbol in size.node.expr.free_symbols
    }
    if not symbols:
        return
    ranges = {str(symbol): bounds for symbol, bounds in program.range_constraints.items()}
    hints = _hints(fakes, example)
    for step in (1, 2):
        chosen = {}
        for index, (name, symbol) in enumerate(sorted(symbols.items())):
            start = hints.get(name, 2)
            chosen[symbol] = _within(start + step + (index % 2), ranges.get(name), start)
        sized = [
            value if fake is None else _resized(value, fake, chosen)
            for value, fake in zip(example, fakes, strict=True)
        ]
        shapes = ", ".join(
            str(list(value.shape)) for value in sized if isinstance(value, torch.Tensor)
        )
        yield f"inputs of shape {shapes}", sized


def _fakes(program: Any, call: Call) -> list[Any]:
    nodes = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    specs = [spec for spec in program.graph_signature.input_specs if spec.kind.name == "USER_INPUT"]
    found = []
    for _, spec in zip(call.leaves, specs, strict=True):
        val = nodes[spec.arg.name].meta.get("val") if spec.arg.name in nodes else None
        found.append(val if isinstance(val, torch.Tensor) else None)
    return found


def _hints(fakes: list[Any], values: list[Any]) -> dict[str, int]:
    hints: dict[str, int] = {}
    for fake, value in zip(fakes, values, strict=True):
        if fake is None:
            continue
        for axis, size in enumerate(fake.shape):
            if not isinstance(size, int) and size.node.expr.is_Symbol:
                hints.setdefault(str(size.node.expr), int(value.shape[axis]))
    return hints


def _within(wanted: int, bounds: Any, start: int) -> int:
    if bounds is None:
        return wanted
    if wanted <= bounds.upper:
        return max(wanted, int(bounds.lower))
    return max(int(bounds.lower), start - 1, 1)


def _resized(value: Any, fake: Any, chosen: Mapping[Any, int]) -> Any:
    for axis, size in enumerate(fake.shape):
        if isinstance(size, int):
            continue
        new = int(size.node.expr.subs(chosen))
        old = value.shape[axis]
        if old:
            value = value.index_select(axis, torch.arange(new) % old)
    return value


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
    blamed = _first_divergence(translated, program, call, values)
    if blamed is not None:
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
    translated: Translated, program: Any, call: Call, values: list[Any]
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
        difference = compare(as_array(right), found[value.name], depth, width)
        if difference is not None and value.producer is not None:
            return node, value, difference
    return None


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
            elif node.op == "call_function":
                args = torch.fx.node.map_arg(node.args, computed.__getitem__)
                kwargs = torch.fx.node.map_arg(node.kwargs, computed.__getitem__)
                computed[node] = node.target(*args, **kwargs)
                if node.target is not operator.getitem or isinstance(computed[node], torch.Tensor):
                    yield node, computed[node]
