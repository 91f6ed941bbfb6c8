"""Inference held against runs: what was said of symbolic sizes must be what comes out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from typing import Any

import numpy as np

from sardonyx.dims import Dim, evaluate, symbol, symbols
from sardonyx.dtypes import STRING, from_numpy
from sardonyx.errors import SardonyxError
from sardonyx.infer import Inference, infer
from sardonyx.ir import ArrayTensor, Model, OptionalType, SequenceType, TensorType, Value
from sardonyx.ops.rational import Ratio
from sardonyx.reference import Evaluator

Feeds = dict[str, Any]
Layout = dict[str, list[int | Dim]]

_LARGEST_PARAMETER = 64


def is_parameter(array: Any) -> bool:
    """Whether an input looks like one that says what to do: a few integers, or scales."""
    if not isinstance(array, np.ndarray) or array.ndim > 1:
        return False
    return array.ndim == 0 or (
        array.size <= _LARGEST_PARAMETER and (array.dtype.kind in "biu" or array.size <= 8)
    )


def fix_parameters(model: Model, feeds: Feeds) -> Feeds:
    """Make initializers of the inputs that are parameters; returns the other feeds."""
    rest = dict(feeds)
    for value in list(model.graph.inputs):
        array = feeds.get(value.name)
        if is_parameter(array):
            assert array is not None
            value.const = ArrayTensor(array)
            value.type = None
            model.graph.inputs.remove(value)
            model.graph.initializers.append(value)
            del rest[value.name]
    return rest


def forget_types(model: Model) -> None:
    """Drop what the file declares of computed values: only inference is to speak."""
    for node in model.graph.all_nodes():
        for value in node.outputs:
            value.type = None


def symbolic_layout(model: Model, feeds: Feeds, *, shared: bool) -> Layout:
    """A symbol for each dim of each tensor input, or for each size above 1 when `shared`."""
    layout: Layout = {}
    fresh = count()
    tensors = {v.name for v in model.graph.inputs if isinstance(v.type, TensorType)}
    for name, array in feeds.items():
        if name in tensors:
            layout[name] = [
                (symbol(f"s{size}", 1) if size > 1 else size)
                if shared
                else symbol(f"d{next(fresh)}", 0)
                for size in array.shape
            ]
    return layout


def resized(feeds: Feeds, layout: Layout, change: Mapping[int, int]) -> Feeds:
    """`feeds` with each size replaced as `change` says, the elements repeated or cut."""
    result: Feeds = {}
    for name, array in feeds.items():
        if name in layout and array.size:
            shape = tuple(change.get(size, size) for size in array.shape)
            result[name] = np.resize(array, shape)
        else:
            result[name] = array
    return result


def changes(feeds: Feeds) -> Iterator[dict[int, int]]:
    """Size changes to try: none, every size doubled, and each size alone one larger or 1."""
    sizes = sorted({n for a in feeds.values() if isinstance(a, np.ndarray) for n in a.shape})
    yield {}
    yield {size: 2 * size for size in sizes if size > 1}
    for size in [size for size in sizes if size > 1][:3]:
        yield {size: size + 1}
        yield {size: 1}


def bind(layout: Layout, feeds: Feeds) -> dict[str, int]:
    """What the symbols of `layout` are for `feeds`."""
    bound: dict[str, int] = {}
    for name, dims in layout.items():
        for dim, size in zip(dims, feeds[name].shape, strict=True):
            if isinstance(dim, Dim):
                assert bound.setdefault(str(dim), size) == size
    return bound


class Disagreement(AssertionError):
    """Inference said something else than what came out."""


def hold(found: Inference, values: Mapping[str, Value], run: Mapping[str, Any], bound: Any) -> None:
    """Every computed value is what its fact says; unknown symbols are solved for first."""
    bound = dict(bound)
    pairs = [
        (found.facts[values[name]], array, name)
        for name, array in run.items()
        if name in values and values[name] in found.facts
    ]
    for fact, array, _ in pairs:
        if (
            isinstance(array, np.ndarray)
            and fact.shape is not None
            and len(fact.shape) == array.ndim
        ):
            for dim, size in zip(fact.shape, array.shape, strict=True):
                if (
                    isinstance(dim, Dim)
                    and len(symbols(dim)) == 1
                    and str(dim).strip("{}") in symbols(dim)
                ):
                    bound.setdefault(next(iter(symbols(dim))), size)
    for fact, array, name in pairs:
        hold_type(fact.type, array, bound, name)
        if fact.elements is not None:
            if len(fact.elements) != len(array):
                raise Disagreement(f"{name}: {len(fact.elements)} elements are {len(array)}")
            for each, item in zip(fact.elements, array, strict=True):
                hold_type(each.type, item, bound, name)
        if fact.value is not None and isinstance(array, np.ndarray):
            hold_contents(fact.value, array, bound, name)


def hold_type(known: Any, actual: Any, bound: Mapping[str, int], name: str) -> None:
    if isinstance(known, OptionalType):
        if actual is not None:
            hold_type(known.element, actual, bound, name)
    elif isinstance(known, SequenceType):
        if not isinstance(actual, list):
            raise Disagreement(f"{name}: {known} is {type(actual)}")
        for item in actual:
            hold_type(known.element, item, bound, name)
    elif isinstance(known, TensorType):
        if not isinstance(actual, (np.ndarray, np.generic)):
            raise Disagreement(f"{name}: {known} is {type(actual)}")
        if known.dtype is not None and known.dtype is not from_numpy(actual.dtype):
            raise Disagreement(f"{name}: {known.dtype} is {actual.dtype}")
        if known.shape is not None:
            hold_shape(known.shape, actual.shape, bound, name)


def hold_shape(shape: Sequence[Any], actual: Sequence[int], bound: Any, name: str) -> None:
    if len(shape) != len(actual):
        raise Disagreement(f"{name}: {[str(d) for d in shape]} is {list(actual)}")
    for dim, size in zip(shape, actual, strict=True):
        if dim is not None and not agrees(dim, size, bound):
            raise Disagreement(f"{name}: {[str(d) for d in shape]} is {list(actual)} for {bound}")


def agrees(dim: Any, actual: Any, bound: Mapping[str, int]) -> bool:
    if isinstance(dim, Ratio):
        parts = [dim.numerator, dim.denominator]
        if any(isinstance(part, Dim) and not symbols(part) <= set(bound) for part in parts):
            return True
        top, bottom = (evaluate(part, bound) if isinstance(part, Dim) else part for part in parts)
        return bool(np.float32(top / bottom) == np.float32(actual))
    if not isinstance(dim, Dim):
        return bool(dim == actual)
    if not symbols(dim) <= set(bound):
        return True
    return evaluate(dim, bound) == actual


def hold_contents(known: np.ndarray, actual: np.ndarray, bound: Any, name: str) -> None:
    if known.shape != actual.shape:
        raise Disagreement(f"{name}: contents of shape {known.shape} are {actual.shape}")
    if from_numpy(actual.dtype) is STRING or known.dtype != object:
        if not np.array_equal(known, actual) and known.dtype.kind in "biuO":
            raise Disagreement(f"{name}: contents {known} are {actual}")
        return
    for item, element in zip(known.flat, actual.flat, strict=True):
        if item is not None and not agrees(item, element.item(), bound):
            raise Disagreement(f"{name}: contents {known} are {actual} for {bound}")


def divides_by_zero(model: Model, run: Mapping[str, Any]) -> bool:
    """Whether the run met what inference leaves out: a size of 0 that divides or that Reshape
    takes for a code."""
    for node in model.graph.nodes:
        if node.op_type in {"Div", "Mod", "Reshape"} and node.inputs[1] is not None:
            value = node.inputs[1]
            array = None if value.producer is None else run.get(value.name)
            if isinstance(array, np.ndarray) and array.dtype.kind in "iu" and 0 in array:
                return True
    return False


def check(model: Model, feeds: Feeds, layout: Layout) -> int:
    """Infer for `layout`, run at several sizes and compare; how many sizes ran."""
    forget_types(model)
    found = infer(model, shapes=layout)
    values = model.graph.values()
    done = 0
    evaluator = Evaluator(model)
    for change in changes(feeds):
        given = resized(feeds, layout, change)
        try:
            bound = bind(layout, given)
        except AssertionError:
            continue
        try:
            run = evaluator.run(given, all_values=True)
        except SardonyxError:
            if not change:
                raise
            continue
        if found.problems:
            raise Disagreement(f"it runs, inference says {found.problems[0]}")
        if change and divides_by_zero(model, run):
            continue
        hold(found, values, run, bound)
        done += 1
    return done
