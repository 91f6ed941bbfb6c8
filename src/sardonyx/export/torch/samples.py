"""Other inputs than the example: of other sizes, as the program's constraints allow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sardonyx.export.torch.signature import Call

__all__ = ["samples"]

_MOST_ELEMENTS: Final = 1 << 22
_SMALL: Final = 3


def samples(program: Any, call: Call) -> Iterator[tuple[str, list[Any]]]:
    """The example, what else the user gave, and where dims are dynamic, two other sizes.

    First all dynamic sizes are doubled, which keeps what adds up adding up; then each grows by
    another amount. Names given by the user to several dims make them equal.
    """
    example = [leaf.value for leaf in call.leaves]
    yield "the example", example
    for others in call.others:
        yield f"the added inputs of shape {_shapes(others)}", others
    fakes = _fakes(program, call)
    symbols = _symbols(fakes)
    if not symbols:
        return
    ranges = {str(symbol): bounds for symbol, bounds in program.range_constraints.items()}
    hints = _hints(fakes, example)
    same = _same(fakes, call)
    for step in (0, 1) if _elements(example) <= _MOST_ELEMENTS else (1, 2):
        chosen: dict[Any, int] = {}
        groups: dict[str, int] = {}
        for index, (name, symbol) in enumerate(sorted(symbols.items())):
            start = hints.get(name, 2)
            grown = start if start > _SMALL else 2 * start
            wanted = grown + step + (index % 2) if step else 2 * start
            wanted = groups.setdefault(same.get(name, name), wanted)
            chosen[symbol] = _within(wanted, ranges.get(name), start)
        sized = [
            value if fake is None else _resized(value, fake, chosen)
            for value, fake in zip(example, fakes, strict=True)
        ]
        yield f"inputs of shape {_shapes(sized)}", sized


def _shapes(values: list[Any]) -> str:
    return ", ".join(str(list(value.shape)) for value in values if isinstance(value, torch.Tensor))


def _elements(values: list[Any]) -> int:
    return sum(value.numel() for value in values if isinstance(value, torch.Tensor))


def _fakes(program: Any, call: Call) -> list[Any]:
    nodes = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    specs = [spec for spec in program.graph_signature.input_specs if spec.kind.name == "USER_INPUT"]
    found = []
    for _, spec in zip(call.leaves, specs, strict=True):
        val = nodes[spec.arg.name].meta.get("val") if spec.arg.name in nodes else None
        found.append(val if isinstance(val, (torch.Tensor, torch.SymInt)) else None)
    return found


def _sizes(fake: Any) -> list[Any]:
    if isinstance(fake, torch.SymInt):
        return [fake]
    return [] if fake is None else [size for size in fake.shape if not isinstance(size, int)]


def _symbols(fakes: list[Any]) -> dict[str, Any]:
    return {
        str(symbol): symbol
        for fake in fakes
        for size in _sizes(fake)
        for symbol in size.node.expr.free_symbols
    }


def _hints(fakes: list[Any], values: list[Any]) -> dict[str, int]:
    """The size that each symbol has in the example."""
    hints: dict[str, int] = {}
    for fake, value in zip(fakes, values, strict=True):
        if isinstance(fake, torch.SymInt):
            if fake.node.expr.is_Symbol:
                hints.setdefault(str(fake.node.expr), int(value))
            continue
        for axis, size in enumerate(fake.shape if fake is not None else ()):
            if not isinstance(size, int) and size.node.expr.is_Symbol:
                hints.setdefault(str(size.node.expr), int(value.shape[axis]))
    return hints


def _same(fakes: list[Any], call: Call) -> dict[str, str]:
    """The user's name for each symbol."""
    names: dict[str, str] = {}
    for fake, leaf in zip(fakes, call.leaves, strict=True):
        for axis, name in leaf.names.items() if isinstance(fake, torch.Tensor) else ():
            size = fake.shape[axis]
            if not isinstance(size, int) and size.node.expr.is_Symbol:
                names.setdefault(str(size.node.expr), f"user:{name}")
    return names


def _within(wanted: int, bounds: Any, start: int) -> int:
    if bounds is None:
        return wanted
    if wanted <= bounds.upper:
        return max(wanted, int(bounds.lower))
    return max(int(bounds.lower), start - 1, 1)


def _resized(value: Any, fake: Any, chosen: Mapping[Any, int]) -> Any:
    if isinstance(fake, torch.SymInt):
        return int(fake.node.expr.subs(chosen))
    for axis, size in enumerate(fake.shape):
        if isinstance(size, int):
            continue
        new = int(size.node.expr.subs(chosen))
        old = value.shape[axis]
        if old:
            value = value.index_select(axis, torch.arange(new, device=value.device) % old)
    return value
