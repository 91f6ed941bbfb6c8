"""Batch sizes and other dims of a model's inputs: opened, fixed, renamed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sardonyx import dims as dims_
from sardonyx.compose.copying import copy
from sardonyx.compose.pins import Opened, inferred, release, verify
from sardonyx.compose.results import checked, tidy, typed
from sardonyx.compose.scopes import Names, all_graphs, closest, defined_in
from sardonyx.compose.symbols import map_dims, substitute_symbols, symbol_name, symbols_of
from sardonyx.dims import Dim
from sardonyx.errors import InputError, quote
from sardonyx.ir.types import TensorType, shape_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sardonyx.ir.model import Model
    from sardonyx.ir.types import DimLike
    from sardonyx.ir.value import Value

    Place = tuple[Value, int]

__all__ = ["fix_dims", "make_dynamic", "set_batch_size"]


def make_dynamic(model: Model, dims: Mapping[str, Mapping[int, str]]) -> Model:
    """A copy of `model` in which dims of inputs are symbols: ``{"input": {0: "batch"}}``.

    Dims that get one name are one symbol. Constants that hold on to the old size are rewritten
    where it is proven what they should be, so that each slice goes the way that it went: targets
    of Reshape, Expand and Resize, initial states of zeros. Then shapes are inferred anew, with
    the symbols and with two other sizes, and types of outputs written.

    Raises:
        InputError: no such input or axis, or dims of one name that differ.
        ModelError: a constant holds on to the old size, or a node takes one part out of the
            opened dim; the message names node and constant.
        InferenceError: a node does not fit with other sizes.
        UnsupportedError: the opened dim reaches an operator that this release does not know.
    """
    result = copy(model)
    groups: dict[str, list[Place]] = {}
    for name, axes in dims.items():
        value = _input(result, name)
        for axis, symbol in axes.items():
            if not symbol:
                raise InputError(f"the name of dimension {axis} of {quote(name)} is empty")
            groups.setdefault(symbol, []).append((value, _axis(value, axis)))
    return _opened(result, model, groups)


def set_batch_size(
    model: Model, size: int | str, *, axes: Mapping[str, int] | None = None
) -> Model:
    """A copy of `model` for batches of `size` examples, or of any number, named by a symbol.

    The batch is dimension 0 of the first input, and every dimension 0 of an input that equals
    it; a symbol there is replaced wherever it stands. `axes` says it otherwise: the axis of the
    batch in each input that has one. See `make_dynamic` for what is rewritten, and the errors;
    a node that would compute across the examples of a batch is a `ModelError` too.
    """
    if isinstance(size, int) and size < 1:
        raise InputError(f"a batch has at least one example, not {size}")
    result = copy(model)
    places = _batch_places(result, axes)
    old = {_dim(place) for place in places}
    named = {name for dim in old if (name := symbol_name(dim)) is not None}
    if isinstance(size, str):
        return _opened(result, model, {size: places}, apart=True)
    if old == {size}:
        return checked(result, model)
    if named and not any(isinstance(dim, int) for dim in old):
        result = fix_dims(model, dict.fromkeys(named, size))
        _assign(_batch_places(result, axes), size)
        return checked(typed(result), model)
    symbol = Names(symbols_of(_all_values(result))).fresh("batch")
    return fix_dims(_opened(result, model, {symbol: places}, apart=True), {symbol: size})


def fix_dims(model: Model, sizes: Mapping[str, int]) -> Model:
    """A copy of `model` in which symbolic dims have sizes: ``{"batch": 4, "length": 128}``.

    Raises `InputError` for an unknown symbol or a size that it cannot have, `InferenceError`
    where a node does not fit with these sizes.
    """
    result = copy(model)
    values = _all_values(result)
    known = symbols_of(values)
    for name, size in sizes.items():
        if name not in known:
            raise InputError(
                f"the model has no symbolic dimension {quote(name)}", hint=closest(name, known)
            )
        if size < 0:
            raise InputError(f"dimension {quote(name)} cannot be {size}")
    before = _problem_places(model)
    substitute_symbols(values, dict(sizes))
    verify(result, [{}], before)
    return checked(typed(result), model)


def _opened(
    result: Model, model: Model, groups: Mapping[str, Sequence[Place]], *, apart: bool = False
) -> Model:
    """`result` with the places of each group open under the group's name."""
    before = inferred(result)
    known = _problem_places(model)
    numbers: dict[str, int] = {}
    for symbol, places in groups.items():
        sizes = {dim for place in places if isinstance(dim := _dim(place), int)}
        if len(sizes) > 1:
            listed = ", ".join(f"{place[0].name} has {_dim(place)}" for place in places)
            raise InputError(f"{quote(symbol)} would be several sizes: {listed}")
        if 0 in sizes:
            raise InputError(f"{quote(symbol)} is 0 now, which tells nothing about other sizes")
        numbers.update(dict.fromkeys([symbol] if sizes else [], *sizes))
    if numbers:
        _forget_sizes(result)
    for symbol, places in groups.items():
        old = {name for place in places if (name := symbol_name(_dim(place))) is not None}
        substitute_symbols(_all_values(result), dict.fromkeys(old, dims_.symbol(symbol)))
        _assign(places, dims_.symbol(symbol))
    if numbers:
        release(result, Opened(numbers), before.facts, apart=apart)
        _forget_unused_constants(result, model)
        verify(
            result,
            [{name: factor * size for name, size in numbers.items()} for factor in (2, 3)],
            known,
        )
    tidy(result.graph)
    return checked(typed(result), model)


def _input(model: Model, name: str) -> Value:
    known = {value.name: value for value in model.graph.inputs}
    value = known.get(name)
    if value is None:
        raise InputError(f"the model has no input {quote(name)}", hint=closest(name, known))
    if value.const is not None:
        raise InputError(f"the input {quote(name)} has a default, whose shape is fixed")
    return value


def _axis(value: Value, axis: int) -> int:
    if not isinstance(value.type, TensorType) or value.shape is None:
        raise InputError(
            f"the input {quote(value.name)} is no tensor of known rank", hint="declare its shape"
        )
    rank = len(value.shape)
    if not -rank <= axis < rank:
        raise InputError(
            f"the input {quote(value.name)} of shape {shape_text(value.shape)} has no axis {axis}"
        )
    return axis % rank


def _dim(place: Place) -> DimLike:
    value, axis = place
    assert value.shape is not None
    return value.shape[axis]


def _assign(places: Sequence[Place], dim: int | Dim) -> None:
    for value, axis in places:
        assert isinstance(value.type, TensorType)
        assert value.shape is not None
        shape = (*value.shape[:axis], dim, *value.shape[axis + 1 :])
        known = value.type
        value.type = TensorType(known.dtype, shape, known.denotation, known.denotations)


def _batch_places(model: Model, axes: Mapping[str, int] | None) -> list[Place]:
    if axes is not None:
        values = [(_input(model, name), axis) for name, axis in axes.items()]
        return [(value, _axis(value, axis)) for value, axis in values]
    ranked = [value for value in model.graph.required_inputs if value.shape]
    if not ranked:
        raise InputError("no input of the model has a dimension", hint="say where: axes={...}")
    first = _dim((ranked[0], 0))
    return [(value, 0) for value in ranked if _dim((value, 0)) in {first, None}]


def _all_values(model: Model) -> list[Value]:
    return [value for graph in all_graphs(model.graph) for value in defined_in(graph)]


def _problem_places(model: Model) -> set[str]:
    """The places of the problems that inference has with `model`."""
    return {problem.places[0] for problem in inferred(copy(model)).problems if problem.places}


def _forget_sizes(model: Model) -> None:
    """Leave of declared shapes what does not hang on the sizes of inputs: ranks and symbols."""
    inputs = set(model.graph.inputs)
    for value in _all_values(model):
        known = value.type
        if value not in inputs and value.const is None and known is not None:
            changed = map_dims(known, lambda dim: dim if isinstance(dim, Dim) else None)
            if changed != known:
                value.type = changed


def _forget_unused_constants(result: Model, model: Model) -> None:
    """Forget the constants in whose place others came."""
    unused = {value.name for value in model.graph.initializers if not value.users}
    kept = {*result.graph.inputs, *result.graph.outputs}
    result.graph.initializers[:] = [
        value
        for value in result.graph.initializers
        if value.users or value in kept or value.name in unused
    ]
