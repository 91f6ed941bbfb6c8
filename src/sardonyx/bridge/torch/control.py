"""Control flow: modules that run the modules of subgraphs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from sardonyx.bridge.torch.sizes import boolean, integer
from sardonyx.errors import ExecutionError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Branch", "Loop", "Map", "Scan"]


class Branch(torch.nn.Module):  # type: ignore[misc]
    """If: one of two graphs, each of which takes some of the captured values."""

    def __init__(
        self,
        then_branch: torch.nn.Module,
        else_branch: torch.nn.Module,
        then_takes: Sequence[int],
        else_takes: Sequence[int],
    ) -> None:
        super().__init__()
        self.then_branch = then_branch
        self.else_branch = else_branch
        self.then_takes = tuple(then_takes)
        self.else_takes = tuple(else_takes)

    def forward(self, condition: Any, captured: tuple[Any, ...]) -> Any:
        """The outputs of the branch that `condition`, a number or a tensor, chooses."""
        if isinstance(condition, torch.Tensor) and torch.compiler.is_compiling():
            return torch.cond(condition.reshape(()), self._then, self._else, (captured,))
        return self._then(captured) if boolean(condition) else self._else(captured)

    def _then(self, captured: tuple[Any, ...]) -> Any:
        return self.then_branch(*[captured[index] for index in self.then_takes])

    def _else(self, captured: tuple[Any, ...]) -> Any:
        return self.else_branch(*[captured[index] for index in self.else_takes])


class Loop(torch.nn.Module):  # type: ignore[misc]
    """Loop: a Python loop over a body; `scans` are type and sizes of what it collects."""

    def __init__(
        self, body: torch.nn.Module, scans: Sequence[tuple[torch.dtype, tuple[int, ...]]]
    ) -> None:
        super().__init__()
        self.body = body
        self.scans = tuple(scans)

    def forward(
        self, most: Any, condition: Any, states: tuple[Any, ...], captured: tuple[Any, ...]
    ) -> tuple[Any, ...]:
        """The last states, and what each iteration gave along a new first dimension."""
        trips = None if most is None else integer(most)
        goes_on = True if condition is None else boolean(condition)
        collected: list[list[torch.Tensor]] = [[] for _ in self.scans]
        current, count = list(states), len(states)
        trip = 0
        while goes_on and (trips is None or trip < trips):
            outputs = self.body(trip, torch.tensor(goes_on), *current, *captured)
            goes_on = boolean(outputs[0])
            current = list(outputs[1 : 1 + count])
            for items, item in zip(collected, outputs[1 + count :], strict=True):
                items.append(item)
            trip += 1
        stacked = [_stacked(items, kind) for items, kind in zip(collected, self.scans, strict=True)]
        return (*current, *stacked)


def _stacked(
    items: list[torch.Tensor], kind: tuple[torch.dtype, tuple[int, ...]], axis: int = 0
) -> torch.Tensor:
    if items:
        return torch.stack(items, axis)
    dtype, shape = kind
    place = axis % (len(shape) + 1)
    return torch.zeros((*shape[:place], 0, *shape[place:]), dtype=dtype)


class Scan(torch.nn.Module):  # type: ignore[misc]
    """Scan: a Python loop over slices; `results` are type and sizes of what the body returns."""

    def __init__(
        self,
        body: torch.nn.Module,
        operator: Any,
        results: Sequence[tuple[torch.dtype, tuple[int, ...]]],
    ) -> None:
        super().__init__()
        self.body = body
        self.count = int(operator.num_scan_inputs)
        self.results = tuple(results)
        self.has_batch = operator.version < 9
        self.input_axes = operator.scan_input_axes
        self.output_axes = operator.scan_output_axes
        given = operator.directions if self.has_batch else operator.scan_input_directions
        self.input_directions = given
        self.output_directions = operator.scan_output_directions

    def forward(
        self, lengths: Any, values: tuple[Any, ...], captured: tuple[Any, ...]
    ) -> tuple[Any, ...]:
        """The last states and the collected outputs; opset 8 has a batch in dimension 0."""
        if not self.has_batch:
            return self._run(values, captured)
        split = len(values) - self.count
        longest = values[split].shape[1]
        rows = []
        for index in range(values[0].shape[0]):
            length = longest if lengths is None else integer(lengths[index])
            states = [value[index] for value in values[:split]]
            scanned = [value[index][:length] for value in values[split:]]
            found = list(self._run((*states, *scanned), captured))
            for place in range(split, len(found)):
                missing = longest - found[place].shape[0]
                padding = found[place].new_zeros((missing, *found[place].shape[1:]))
                found[place] = torch.cat([found[place], padding])
            rows.append(found)
        return tuple([torch.stack(column) for column in zip(*rows, strict=True)])

    def _run(self, values: Sequence[Any], captured: tuple[Any, ...]) -> tuple[Any, ...]:
        split = len(values) - self.count
        states, scanned = list(values[:split]), values[split:]
        axes = self.input_axes or (0,) * self.count
        slices = [value.unbind(axis) for value, axis in zip(scanned, axes, strict=True)]
        if len({len(parts) for parts in slices}) != 1:
            raise ExecutionError("Scan requires scan inputs of one length")
        for index, backwards in enumerate(self.input_directions or ()):
            if backwards:
                slices[index] = slices[index][::-1]
        collected: list[list[torch.Tensor]] = [[] for _ in self.results[split:]]
        for step in zip(*slices, strict=True):
            outputs = self.body(*states, *step, *captured)
            states = list(outputs[:split])
            for items, item in zip(collected, outputs[split:], strict=True):
                items.append(item)
        stacked = []
        for index, items in enumerate(collected):
            if self.output_directions and self.output_directions[index]:
                items.reverse()
            axis = self.output_axes[index] if self.output_axes else 0
            stacked.append(_stacked(items, self.results[split + index], axis))
        return (*states, *stacked)


class Map(torch.nn.Module):  # type: ignore[misc]
    """SequenceMap: a graph applied to each element of sequences."""

    def __init__(self, body: torch.nn.Module, count: int) -> None:
        super().__init__()
        self.body = body
        self.count = count

    def forward(self, values: tuple[Any, ...], captured: tuple[Any, ...]) -> tuple[Any, ...]:
        """A list for each output; tensors go in whole each time."""
        lists: tuple[list[Any], ...] = tuple([] for _ in range(self.count))
        for index in range(len(values[0])):
            given = [value[index] if isinstance(value, list) else value for value in values]
            for collected, item in zip(lists, self.body(*given, *captured), strict=True):
                collected.append(item)
        return lists
