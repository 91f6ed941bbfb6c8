"""Sequences, which are lists, and optionals, which may be None."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sardonyx.bridge.torch.registry import implementation
from sardonyx.bridge.torch.sizes import integer, ints


@implementation("SequenceConstruct")
def sequence_construct(*items: Tensor) -> list[Tensor]:
    return list(items)


@implementation("SequenceEmpty", ignored=("dtype",))
def sequence_empty() -> list[Tensor]:
    return []


@implementation("SequenceAt", host=("position",))
def sequence_at(sequence: list[Tensor], position: Any) -> Tensor:
    return sequence[int(integer(position))]


@implementation("SequenceInsert", host=("position",))
def sequence_insert(sequence: list[Tensor], item: Tensor, position: Any = None) -> list[Tensor]:
    place = len(sequence) if position is None else int(integer(position))
    made = list(sequence)
    made.insert(place, item)
    return made


@implementation("SequenceErase", host=("position",))
def sequence_erase(sequence: list[Tensor], position: Any = None) -> list[Tensor]:
    made = list(sequence)
    del made[-1 if position is None else int(integer(position))]
    return made


@implementation("SequenceLength")
def sequence_length(sequence: list[Tensor]) -> Tensor:
    return torch.tensor(len(sequence), dtype=torch.int64)


@implementation("ConcatFromSequence")
def concat_from_sequence(sequence: list[Tensor], *, axis: int, new_axis: int = 0) -> Tensor:
    return torch.stack(sequence, axis) if new_axis else torch.cat(sequence, axis)


@implementation("SplitToSequence", host=("split",))
def split_to_sequence(
    x: Tensor, split: Any = None, *, axis: int = 0, keepdims: int = 1
) -> list[Tensor]:
    if split is None:
        parts = torch.split(x, 1, axis)
        return list(parts) if keepdims else [part.squeeze(axis) for part in parts]
    is_one = split.dim() == 0 if isinstance(split, Tensor) else not isinstance(split, tuple)
    return list(torch.split(x, integer(split) if is_one else list(ints(split)), axis))


@implementation("Optional", ignored=("type_",))
def optional(value: Any = None) -> Any:
    return value


@implementation("OptionalHasElement")
def optional_has_element(value: Any = None) -> Tensor:
    return torch.tensor(value is not None)


@implementation("OptionalGetElement")
def optional_get_element(value: Any) -> Any:
    return value
