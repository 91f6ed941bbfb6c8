"""Operators on sequences and optionals."""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING, Any

import numpy as np

from sardonyx import dtypes
from sardonyx.dims import symbol_atoms
from sardonyx.dtypes import BOOL, FLOAT, INT64
from sardonyx.errors import ExecutionError, InferenceError
from sardonyx.ir.graph import Graph  # noqa: TC001 - attribute annotations are evaluated
from sardonyx.ir.types import OptionalType, SequenceType, TensorType, Type
from sardonyx.ops import types
from sardonyx.ops.data import Concat
from sardonyx.ops.fact import UNKNOWN, Fact
from sardonyx.ops.fitting import compact
from sardonyx.ops.operator import ControlFlow, Operator
from sardonyx.ops.schema import Input, Output, past
from sardonyx.ops.symbolic import constant_ints, contents, join_types, normalized, sequence_fact

if TYPE_CHECKING:
    from collections.abc import Sequence
    from collections.abc import Set as AbstractSet

    from sardonyx.ir.tensor import Array
    from sardonyx.ir.types import DimLike
    from sardonyx.ir.value import Value
    from sardonyx.ops.body_builder import BodyBuilder
    from sardonyx.ops.operator import GraphInfer, GraphRun

_LONGEST = 128
"""Most pieces that inference lists one by one."""

_TENSORS = types.ALL_BEFORE_BFLOAT16
_SEQUENCES = types.sequences(_TENSORS)


def _element(op_type: str, fact: Fact) -> Type | None:
    """The type of a sequence's elements; raises `InferenceError` where it is no sequence."""
    if fact.type is None:
        return None
    if not isinstance(fact.type, SequenceType):
        raise InferenceError(f"{op_type} requires a sequence, got {fact}")
    return fact.type.element


def _sequence_of(element: Type | None) -> Fact:
    return Fact(None if element is None else SequenceType(element))


def _place(position: Fact | None, count: int, default: int) -> int | None:
    """Where a known position is in a sequence of `count`; None where data decides."""
    if position is None:
        return default
    places = constant_ints(position)
    if places is None or len(places) != 1:
        return None
    return places[0] + count if places[0] < 0 else places[0]


def _position(op_type: str, position: Array, low: int, high: int) -> int:
    """The position that a scalar holds, counted from the front."""
    if position.size != 1:
        raise ExecutionError(f"{op_type} requires a scalar position, got {list(position.shape)}")
    place = int(position.reshape(-1)[0])
    if not low <= place <= high:
        raise ExecutionError(f"{op_type} position {place} outside [{low}, {high}]")
    return place


class SequenceConstruct(Operator, since=11):
    """A sequence of `inputs`."""

    inputs, output_sequence = Input("T", variadic=True), Output("S")
    T, S = _TENSORS, _SEQUENCES

    def infer(self, *inputs: Fact) -> Fact:
        element = reduce(join_types, [fact.type for fact in inputs])
        return sequence_fact(_sequence_of(element).type, inputs)

    def reference(self, *inputs: Array) -> list[Array]:
        return [compact(tensor) for tensor in inputs]


class SequenceEmpty(Operator, since=11):
    """A sequence of no tensors of element type `dtype`, FLOAT without one."""

    output = Output("S")
    S = _SEQUENCES
    dtype: int | None = None

    def infer(self) -> Fact:
        dtype = FLOAT if self.dtype is None else dtypes.from_code(self.dtype)
        return sequence_fact(SequenceType(TensorType(dtype)), ())

    def reference(self) -> list[Array]:
        return []


class SequenceAt(Operator, since=11):
    """The tensor at `position`; negative positions count from the end."""

    input_sequence, position = Input("S"), Input("Tind")
    tensor = Output("T")
    S, T, Tind = _SEQUENCES, _TENSORS, types.INDICES

    def infer(self, input_sequence: Fact, position: Fact) -> Fact:
        element, elements = _element("SequenceAt", input_sequence), input_sequence.elements
        places = constant_ints(position)
        if elements is None or places is None or len(places) != 1:
            return Fact(element)
        if not -len(elements) <= places[0] < len(elements):
            raise InferenceError(
                f"SequenceAt position {places[0]} in a sequence of {len(elements)} tensors"
            )
        return elements[places[0]]

    def reference(self, input_sequence: list[Array], position: Array) -> Array:
        size = len(input_sequence)
        return input_sequence[_position("SequenceAt", position, -size, size - 1)]


class SequenceInsert(Operator, since=11):
    """The sequence with `tensor` inserted before `position`, or at the end."""

    input_sequence, tensor = Input("S"), Input("T")
    position = Input("Tind", optional=True)
    output_sequence = Output("S")
    S, T, Tind = _SEQUENCES, _TENSORS, types.INDICES

    def infer(self, input_sequence: Fact, tensor: Fact, position: Fact | None) -> Fact:
        element, elements = _element("SequenceInsert", input_sequence), input_sequence.elements
        if elements is None:
            return _sequence_of(join_types(element, tensor.type))
        joined = tensor.type if not elements else join_types(element, tensor.type)
        place = _place(position, len(elements), len(elements))
        longer = None if place is None else [*elements[:place], tensor, *elements[place:]]
        return sequence_fact(_sequence_of(joined).type, longer)

    def reference(
        self, input_sequence: list[Array], tensor: Array, position: Array | None
    ) -> list[Array]:
        size = len(input_sequence)
        place = size if position is None else _position("SequenceInsert", position, -size, size)
        result = list(input_sequence)
        result.insert(place, compact(tensor))
        return result


class SequenceErase(Operator, since=11):
    """The sequence without the tensor at `position`, or without the last."""

    input_sequence, position = Input("S"), Input("Tind", optional=True)
    output_sequence = Output("S")
    S, Tind = _SEQUENCES, types.INDICES

    def infer(self, input_sequence: Fact, position: Fact | None) -> Fact:
        known = _sequence_of(_element("SequenceErase", input_sequence)).type
        elements = input_sequence.elements
        place = None if elements is None else _place(position, len(elements), len(elements) - 1)
        if elements is None or place is None or not 0 <= place < len(elements):
            return Fact(known)
        return sequence_fact(known, [*elements[:place], *elements[place + 1 :]])

    def reference(self, input_sequence: list[Array], position: Array | None) -> list[Array]:
        size = len(input_sequence)
        given = np.array(-1) if position is None else position
        place = _position("SequenceErase", given, -size, size - 1)
        result = list(input_sequence)
        del result[place]
        return result


class SequenceLength(Operator, since=11):
    """The number of tensors in a sequence, a scalar."""

    input_sequence, length = Input("S"), Output((INT64,))
    S = _SEQUENCES

    def infer(self, input_sequence: Fact) -> Fact:
        _element("SequenceLength", input_sequence)
        if input_sequence.elements is not None:
            return Fact.constant(np.array(len(input_sequence.elements), np.int64))
        return Fact.tensor(INT64, ())

    def reference(self, input_sequence: list[Array]) -> Array:
        return np.array(len(input_sequence), np.int64)


class SplitToSequence(Operator, since=24):
    """`input` cut along `axis` into a sequence.

    The pieces have one size (scalar `split`), or the sizes in `split`, or size 1 without it, then
    also without the axis unless `keepdims`.
    """

    input, split = Input("T"), Input("Tind", optional=True)
    output_sequence = Output("S")
    T, Tind = types.ALL_BFLOAT16, types.INDICES
    S = types.sequences(types.ALL_BFLOAT16)
    axis: int = 0
    keepdims: int = 1
    history = (past(11, T=_TENSORS, S=_SEQUENCES),)

    def infer(self, input: Fact, split: Fact | None) -> Fact:
        if input.shape is None:
            return _sequence_of(TensorType(input.dtype))
        axis = normalized("SplitToSequence", self.axis, len(input.shape))
        before, after = input.shape[:axis], input.shape[axis + 1 :]
        sizes = self._pieces(input.shape[axis], split)
        if sizes is None:
            alike: DimLike = 1 if split is None else None
            parts = () if split is None and not self.keepdims else (alike,)
            return _sequence_of(TensorType(input.dtype, (*before, *parts, *after)))
        if split is None and not self.keepdims:
            pieces = [Fact.tensor(input.dtype, (*before, *after))] * len(sizes)
        else:
            pieces = [Fact.tensor(input.dtype, (*before, size, *after)) for size in sizes]
        if not pieces:
            return sequence_fact(SequenceType(TensorType(input.dtype)), ())
        known = _sequence_of(reduce(join_types, [piece.type for piece in pieces])).type
        return sequence_fact(known, pieces)

    def _pieces(self, size: DimLike, split: Fact | None) -> Sequence[DimLike] | None:
        """The sizes of the pieces, where their number is known."""
        if split is not None and split.rank != 0:
            return contents(split) if split.rank == 1 else None
        steps = [1] if split is None else constant_ints(split)
        if steps is None or steps[0] < 1 or not isinstance(size, int):
            return None
        whole, rest = divmod(size, steps[0])
        return [steps[0]] * whole + [rest] * (rest > 0) if whole <= _LONGEST else None

    def reference(self, input: Array, split: Array | None) -> list[Array]:
        axis = normalized("SplitToSequence", self.axis, input.ndim)
        size = input.shape[axis]
        if split is None and not self.keepdims:
            return [part.copy() for part in np.moveaxis(input, axis, 0)]
        if split is None or split.ndim == 0:
            step = 1 if split is None else int(split)
            if step < 1:
                raise ExecutionError(f"SplitToSequence into pieces of size {step}")
            ends = [*range(step, size, step)]
        else:
            sizes = [int(part) for part in split.reshape(-1)]
            if any(part < 0 for part in sizes) or sum(sizes) != size:
                raise ExecutionError(f"SplitToSequence: lengths {sizes[:9]} of size {size}")
            ends = np.cumsum(sizes)[:-1].tolist()
            if not sizes:
                return []
        if size == 0 and (split is None or split.ndim == 0):
            return []
        return [part.copy() for part in np.split(input, ends, axis)]


class ConcatFromSequence(Operator, since=11):
    """The tensors of a sequence one after the other along `axis`, a new one if `new_axis`."""

    input_sequence, concat_result = Input("S"), Output("T")
    S, T = _SEQUENCES, _TENSORS
    axis: int
    new_axis: int = 0

    def infer(self, input_sequence: Fact) -> Fact:
        element = _element("ConcatFromSequence", input_sequence)
        if not isinstance(element, TensorType):
            return Fact()
        elements = input_sequence.elements
        if elements and not self.new_axis:
            return Concat(axis=self.axis, version=13).infer(*elements)
        if element.shape is None:
            return Fact.tensor(element.dtype)
        shape = list(element.shape)
        axis = normalized("ConcatFromSequence", self.axis, len(shape) + bool(self.new_axis))
        count = len(elements) if elements and self.new_axis else None
        shape[axis : axis + (not self.new_axis)] = [count]
        return Fact.tensor(element.dtype, shape)

    def reference(self, input_sequence: list[Array]) -> Array:
        if not input_sequence:
            raise ExecutionError("ConcatFromSequence of an empty sequence")
        parts = input_sequence
        if self.new_axis:
            axis = normalized("ConcatFromSequence", self.axis, parts[0].ndim + 1)
            parts = [np.expand_dims(part, axis) for part in parts]
        return Concat(axis=self.axis, version=13).reference(*parts)


class SequenceMap(ControlFlow, since=17):
    """`body` applied to each element of the sequences; tensors go in whole each time."""

    input_sequence = Input("S")
    additional_inputs = Input("V", variadic=True, min_arity=0, homogeneous=False)
    out_sequence = Output("S", variadic=True, homogeneous=False)
    S, V = _SEQUENCES, (*_SEQUENCES, *_TENSORS)
    body_: Graph

    def infer(self, infer_graph: GraphInfer, *inputs: Fact) -> tuple[Fact, ...]:
        elements = [
            Fact(fact.type.element) if isinstance(fact.type, SequenceType) else fact
            for fact in inputs
        ]
        outside = {
            atom
            for fact in inputs
            if not isinstance(fact.type, SequenceType)
            for dim in fact.shape or ()
            if dim is not None
            for atom in symbol_atoms(dim)
        }
        results = infer_graph(self.body_, elements)
        return tuple([_sequence_of(_without_others(fact.type, outside)) for fact in results])

    def reference(self, run_graph: GraphRun, *inputs: Any) -> tuple[list[Array], ...]:
        size = len(inputs[0])
        if any(isinstance(given, list) and len(given) != size for given in inputs):
            raise ExecutionError(f"SequenceMap requires all sequences to have length {size}")
        outputs: tuple[list[Array], ...] = tuple([] for _ in self.body_.outputs)
        for index in range(size):
            given = [part[index] if isinstance(part, list) else part for part in inputs]
            for collected, value in zip(outputs, run_graph(self.body_, given), strict=True):
                collected.append(value)
        return outputs

    def body(self, op: BodyBuilder, *inputs: Value) -> tuple[Value, ...]:
        counter, condition = Fact.tensor(INT64, ()), Fact.tensor(BOOL, ())
        unknown = [(f"sequence_{k}", UNKNOWN) for k in range(len(self.body_.outputs))]
        inner = op.inner("body", [("index", counter), ("condition", condition), *unknown])
        index, goes_on, *collected = inner.graph.inputs
        elements = [
            inner.SequenceAt(value, index) if isinstance(op.type(value), SequenceType) else value
            for value in inputs
        ]
        inner.graph.outputs.append(inner.Identity(goes_on))
        empty = []
        for value, sequence in zip(inner.inline(self.body_, elements), collected, strict=True):
            dtype = inner.dtype(value)
            inner.known[sequence] = Fact(SequenceType(TensorType(dtype)))
            sequence.type = SequenceType(TensorType(dtype))
            inner.graph.outputs.append(inner.SequenceInsert(sequence, value))
            empty.append(op.SequenceEmpty(dtype=dtype.code))
        length = op.SequenceLength(inputs[0])
        made = op.Loop(length, None, *empty, body=inner.graph, _outputs=len(empty))
        return made if isinstance(made, tuple) else (made,)


def _without_others(known: Type | None, symbols: AbstractSet[object]) -> Type | None:
    """The type with only those dims that `symbols` say: others may differ in each element."""
    if not isinstance(known, TensorType) or known.shape is None:
        return known if isinstance(known, TensorType) else None
    shape = tuple(
        [None if dim is not None and symbol_atoms(dim) - symbols else dim for dim in known.shape]
    )
    return TensorType(known.dtype, shape)


_OPTIONALS = (*types.optionals(_TENSORS), *types.optionals(_SEQUENCES))
_ALL_VALUES = (*types.ALL, *types.sequences(types.ALL))
_ALL_OPTIONALS = (
    *types.optionals(types.ALL),
    *types.optionals(types.sequences(types.ALL)),
)


class Optional(Operator, since=28):
    """An optional with `input` in it, or an empty one for elements of `type`."""

    input, output = Input("V", optional=True), Output("Topt")
    V, Topt = _ALL_VALUES, _ALL_OPTIONALS
    type_: Type | None = None
    history = (past(15, V=(*_TENSORS, *_SEQUENCES), Topt=_OPTIONALS),)

    def infer(self, input: Fact | None) -> Fact:
        element = self.type_ if input is None else input.type
        if input is None and element is None:
            raise InferenceError("Optional without an input requires attribute type")
        return Fact(None if element is None else OptionalType(element))

    def reference(self, input: Any) -> Any:
        return input


class OptionalGetElement(Operator, since=28):
    """What is in an optional; a tensor or sequence itself."""

    input, output = Input("Topt"), Output("V")
    Topt, V = (*_ALL_OPTIONALS, *_ALL_VALUES), _ALL_VALUES
    history = (
        past(18, Topt=(*_OPTIONALS, *_TENSORS, *_SEQUENCES), V=(*_TENSORS, *_SEQUENCES)),
        past(15, Topt=_OPTIONALS),
    )

    def infer(self, input: Fact) -> Fact:
        return Fact(input.type.element) if isinstance(input.type, OptionalType) else input

    def reference(self, input: Any) -> Any:
        if input is None:
            raise ExecutionError("OptionalGetElement of an empty optional")
        return input


class OptionalHasElement(Operator, since=28):
    """Whether there is something in an optional; true for a tensor or sequence."""

    input, output = Input("Topt", optional=True), Output("B")
    Topt, B = (*_ALL_OPTIONALS, *_ALL_VALUES), (BOOL,)
    history = (
        past(18, Topt=(*_OPTIONALS, *_TENSORS, *_SEQUENCES)),
        past(15, Topt=_OPTIONALS, input=Input("Topt")),
    )

    def infer(self, input: Fact | None) -> Fact:
        if input is None:
            return Fact.constant(np.array(False))
        if isinstance(input.type, (TensorType, SequenceType)):
            return Fact.constant(np.array(True))
        return Fact.tensor(BOOL, ())

    def reference(self, input: Any) -> Array:
        return np.array(input is not None)
