"""Whether a model still computes what it did: on generated inputs, at two sizes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from sardonyx import dims, dtypes
from sardonyx.errors import InputError, SardonyxError, quote
from sardonyx.ir.types import TensorType
from sardonyx.limits import DEFAULT, Limits
from sardonyx.reference import Evaluator

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from sardonyx.ir.model import Model
    from sardonyx.ir.tensor import Array

    Feeds: TypeAlias = Mapping[str, Any] | Sequence[Mapping[str, Any]]

__all__ = [
    "Difference",
    "Feeds",
    "bisect",
    "difference",
    "generated_feeds",
    "given_feeds",
    "outputs_at",
]

_SIZES: Final = (3, 5, 1, 32, 64, 256, 512)
"""Sizes of open dimensions, tried in turn until two are taken."""
_MOST_ELEMENTS: Final = 1 << 21
_STEPS: Final = 256
_LEAST_EPSILON: Final = 2.0**-24


@dataclass(frozen=True, slots=True)
class Difference:
    """An output that differs, and by how much: relative to the largest number in it."""

    output: str
    text: str

    def __str__(self) -> str:
        return f"output {quote(self.output)} {self.text}"


def generated_feeds(model: Model, size: int, seed: int = 0) -> dict[str, Array]:
    """Random inputs for `model`, its open dimensions of `size`.

    Floats are normal, integers 0 or 1, strings all ``"text"``. Raises `InputError` for an input
    that is no tensor of known rank.
    """
    random = np.random.default_rng(seed)
    feeds: dict[str, Array] = {}
    for value in model.graph.required_inputs:
        known = value.type
        if not isinstance(known, TensorType) or known.shape is None or known.dtype is None:
            raise InputError(
                f"no data can be made up for input {quote(value.name)}, of {known}",
                hint="pass feeds",
            )
        shape = [_size(dim, size) for dim in known.shape]
        feeds[value.name] = _random(random, shape, known.dtype)
    return feeds


def _size(dim: Any, size: int) -> int:
    if isinstance(dim, int):
        return dim
    if dim is None:
        return size
    return int(dims.evaluate(dim, dict.fromkeys(dims.symbols(dim), size)))


def _random(random: np.random.Generator, shape: list[int], dtype: dtypes.DType) -> Array:
    if dtype is dtypes.STRING:
        text: Array = np.full(shape, "text", object)
        return text
    if dtype.kind in ("float", "complex"):
        return random.standard_normal(shape).astype(dtype.numpy)
    return random.integers(0, 2, shape).astype(dtype.numpy)


def difference(
    before: Mapping[str, Any], after: Mapping[str, Any], steps: int = _STEPS
) -> Difference | None:
    """The first output that differs by more than rounding of `steps` operations, or None.

    Floats may differ by `steps` units of their type's precision, relative to the largest number
    of the output; all else, NaNs and infinities included, must be equal.
    """
    for name, old in before.items():
        new = after[name]
        if not isinstance(old, np.ndarray):
            continue
        if old.shape != new.shape or old.dtype != new.dtype:
            return Difference(name, f"is {new.dtype}{list(new.shape)}, not {_shown(old)}")
        if not dtypes.from_numpy(old.dtype).is_floating:
            if not np.array_equal(old, new):
                return Difference(name, "has other elements")
            continue
        wide, ours = old.astype(np.float64), new.astype(np.float64)
        finite = np.isfinite(wide)
        if not np.array_equal(finite, np.isfinite(ours)):
            return Difference(name, "is not finite elsewhere")
        largest = float(np.abs(wide[finite]).max(initial=0.0))
        worst = float(np.abs(wide[finite] - ours[finite]).max(initial=0.0))
        epsilon = max(float(_epsilon(old)), _LEAST_EPSILON)
        if worst > steps * epsilon * max(largest, 1e-3):
            return Difference(name, f"differs by {worst:.3g}, its largest number is {largest:.3g}")
    return None


def _epsilon(array: Array) -> float:
    import ml_dtypes

    return float(ml_dtypes.finfo(array.dtype).eps)  # type: ignore[no-untyped-call]


def _shown(array: Array) -> str:
    return f"{array.dtype}{list(array.shape)}"


def outputs_at(model: Model, feeds: list[dict[str, Array]], limits: Limits) -> list[dict[str, Any]]:
    """The outputs of `model` for each of `feeds`, on the reference."""
    evaluator = Evaluator(model, limits=limits)
    return [evaluator.run(each) for each in feeds]


def given_feeds(
    model: Model, feeds: Feeds | None, limits: Limits = DEFAULT
) -> tuple[list[dict[str, Array]], list[dict[str, Any]]]:
    """`feeds` as a list, made up where they are None, and the outputs of `model` for them."""
    if feeds is None:
        return usable_feeds(model, limits)
    listed = [feeds] if isinstance(feeds, Mapping) else feeds
    given = [dict(each) for each in listed]
    return given, outputs_at(model, given, limits)


def _elements(model: Model, size: int) -> int:
    """How many elements the inputs have where open dimensions are of `size`."""
    return sum(
        [
            math.prod([_size(dim, size) for dim in value.type.shape])
            for value in model.graph.required_inputs
            if isinstance(value.type, TensorType) and value.type.shape is not None
        ]
    )


def usable_feeds(
    model: Model, limits: Limits = DEFAULT
) -> tuple[list[dict[str, Array]], list[dict[str, Any]]]:
    """Generated inputs at two sizes on which `model` runs, and its outputs for them.

    A size that the model does not take is left out; raises the model's error where none is left.
    """
    has_open = any(
        isinstance(value.type, TensorType)
        and any(not isinstance(dim, int) for dim in value.type.shape or ())
        for value in model.graph.required_inputs
    )
    evaluator = Evaluator(model, limits=limits)
    taken, results = [], []
    failure: SardonyxError | None = None
    for size in _SIZES if has_open else (1,):
        if _elements(model, size) > _MOST_ELEMENTS:
            break
        feeds = generated_feeds(model, size, size)
        try:
            results.append(evaluator.run(feeds))
        except SardonyxError as error:
            failure = error
            continue
        taken.append(feeds)
        if len(taken) == 2:
            break
    if not taken:
        raise failure or InputError(
            "no data of moderate size can be made up for the inputs", hint="pass feeds"
        )
    return taken, results


def bisect(attempt: Callable[[int], Model], patches: int, differs: Callable[[Model], bool]) -> int:
    """The number of the first patch after which the model differs, from 1.

    `attempt(n)` gives the model after n patches; after all of them it differs.
    """
    low, high = 0, patches
    while high - low > 1:
        middle = (low + high) // 2
        if differs(attempt(middle)):
            high = middle
        else:
            low = middle
    return high
