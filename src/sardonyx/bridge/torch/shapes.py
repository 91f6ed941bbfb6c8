"""Operators that only change shapes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

from sardonyx.bridge.torch.registry import implementation
from sardonyx.bridge.torch.sizes import ints

if TYPE_CHECKING:
    from torch import Tensor

_IGNORED: Final = ("consumed_inputs",)


@implementation("Reshape", host=("shape",), ignored=_IGNORED)
def reshape(data: Tensor, shape: Any, *, allowzero: int = 0) -> Tensor:
    target = [
        data.shape[index] if not allowzero and _is(size, 0) else size
        for index, size in enumerate(ints(shape))
    ]
    if any(_is(size, -1) for size in target) and _is(data.numel(), 0):
        # PyTorch does not say what is left of nothing
        target = [0 if _is(size, -1) else size for size in target]
    return data.reshape(target)


def _is(size: Any, number: int) -> bool:
    """Whether a size is the plain integer `number`, without asking a symbolic one."""
    return isinstance(size, int) and size == number


@implementation("Flatten")
def flatten(x: Tensor, *, axis: int = 1) -> Tensor:
    place = axis + x.dim() if axis < 0 else axis
    return x.reshape(math.prod(x.shape[:place]), math.prod(x.shape[place:]))


@implementation("Transpose")
def transpose(data: Tensor, *, perm: tuple[int, ...] | None = None) -> Tensor:
    return data.permute(tuple(reversed(range(data.dim()))) if perm is None else perm)


@implementation("Unsqueeze", host=("axes",))
def unsqueeze(data: Tensor, axes: Any) -> Tensor:
    places = ints(axes)
    rank = data.dim() + len(places)
    for place in sorted(place % rank for place in places):
        data = data.unsqueeze(place)
    return data


@implementation("Squeeze", host=("axes",))
def squeeze(data: Tensor, axes: Any = None) -> Tensor:
    return data.squeeze() if axes is None else data.squeeze(ints(axes))


@implementation("Expand", host=("shape",))
def expand(x: Tensor, shape: Any) -> Tensor:
    target = list(ints(shape))
    target = [1] * (x.dim() - len(target)) + target
    lead = len(target) - x.dim()
    for index, size in enumerate(x.shape):
        wanted = target[lead + index]
        # 1 keeps the tensor's own size, and so does a symbolic one where that is no 1
        if _is(wanted, 1) or (not isinstance(wanted, int) and not _is(size, 1)):
            target[lead + index] = -1
    return x.expand(target)


@implementation("Identity")
def identity(x: Any) -> Any:
    return x
