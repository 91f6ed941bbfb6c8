"""Operators whose attributes are graphs: If, Loop and Scan."""

from __future__ import annotations

from contextvars import ContextVar
from itertools import count
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from sardonyx import limits
from sardonyx.dims import bounds, maximum, minimum
from sardonyx.dtypes import BOOL, INT64
from sardonyx.errors import ExecutionError, InferenceError
from sardonyx.ir.graph import Graph  # noqa: TC001 - attribute annotations are evaluated
from sardonyx.ir.types import TensorType, shape_text
from sardonyx.ops import types
from sardonyx.ops.fact import Fact
from sardonyx.ops.fitting import compact
from sardonyx.ops.operator import ControlFlow
from sardonyx.ops.schema import Input, Output, attribute, past
from sardonyx.ops.symbolic import check_size, exact, join, most_of, normalized, unify, unknown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sardonyx.ir.tensor import Array
    from sardonyx.ir.types import DimLike
    from sardonyx.ops.operator import GraphInfer, GraphRun
    from sardonyx.ops.types import Types


def _carried(tensors: Types) -> Types:
    """`tensors`, sequences and optionals of them, and optional sequences up to BFLOAT16."""
    return (
        *tensors,
        *types.sequences(tensors),
        *types.optionals(tensors),
        *types.optionals(types.sequences(types.ALL_BFLOAT16)),
    )


_HISTORY = (
    past(24, V=_carried(types.ALL_FLOAT8E8M0)),
    past(23, V=_carried(types.ALL_FLOAT4)),
    past(21, V=_carried(types.ALL_INT4)),
    past(19, V=_carried(types.ALL_FLOAT8)),
    past(16, V=_carried(types.ALL_BFLOAT16)),
    past(13, V=(*types.ALL_BEFORE_BFLOAT16, *types.sequences(types.ALL_BEFORE_BFLOAT16))),
    past(11, V=types.ALL_BEFORE_BFLOAT16),
)


def _one(op_type: str, what: str, array: Array) -> Any:
    if array.size != 1:
        raise ExecutionError(
            f"{op_type} requires one element in {what}, got shape {list(array.shape)}"
        )
    return array.reshape(-1)[0]


class If(ControlFlow, since=25):
    """The outputs of `then_branch` if `cond` holds, else those of `else_branch`."""

    cond = Input("B")
    results = Output("V", variadic=True, homogeneous=False, name="outputs")
    V, B = _carried(types.ALL_INT2), (BOOL,)
    then_branch: Graph
    else_branch: Graph
    history = (*_HISTORY, past(1))

    def infer(self, infer_graph: GraphInfer, cond: Fact) -> tuple[Fact, ...]:
        known = cond.constant_value()
        if known is not None and known.size == 1:
            chosen = self.then_branch if known.reshape(-1)[0] else self.else_branch
            return tuple(infer_graph(chosen, []))
        then, other = infer_graph(self.then_branch, []), infer_graph(self.else_branch, [])
        if len(then) != len(other):
            raise InferenceError(
                f"If requires branches with as many outputs, got {len(then)} and {len(other)}"
            )
        return tuple([join(a, b) for a, b in zip(then, other, strict=True)])

    def reference(self, run_graph: GraphRun, cond: Array) -> tuple[Array, ...]:
        chosen = self.then_branch if _one("If", "cond", cond) else self.else_branch
        return tuple(run_graph(chosen, []))


_NESTING: ContextVar[int] = ContextVar("loops being inferred", default=0)
_DEEPEST_PRECISE: Final = 3


def _settle(
    infer_graph: GraphInfer, body: Graph, before: Sequence[Fact], states: Sequence[Fact]
) -> tuple[list[Fact], list[Fact]]:
    """Facts of `states` that hold before and after every iteration, and the body's outputs then.

    The body takes `before` and the states, and returns a condition and the states. A state's
    fact is weakened until an iteration keeps it: first dims, then the rank. Loops deep within
    loops get the weakest facts at once, so that the passes over a body stay few.
    """
    token = _NESTING.set(_NESTING.get() + 1)
    try:
        if _NESTING.get() > _DEEPEST_PRECISE:
            weakest = [_weakened(fact, 2) for fact in states]
            return weakest, infer_graph(body, [*before, *weakest])
        return _weaken_until_stable(infer_graph, body, before, states)
    finally:
        _NESTING.reset(token)


def _weaken_until_stable(
    infer_graph: GraphInfer, body: Graph, before: Sequence[Fact], states: Sequence[Fact]
) -> tuple[list[Fact], list[Fact]]:
    current = list(states)
    for attempt in count():
        outputs = infer_graph(body, [*before, *current])
        if len(outputs) < 1 + len(current):
            raise InferenceError(
                f"the loop carries {len(current)} values, its body returns {len(outputs)} outputs"
            )
        returned = outputs[1 : 1 + len(current)]
        joined = [join(a, b) for a, b in zip(current, returned, strict=True)]
        changed = [not _same(a, b) for a, b in zip(current, joined, strict=True)]
        if not any(changed):
            return current, list(outputs)
        current = [
            _weakened(fact, attempt) if is_changed or attempt >= 3 else fact
            for fact, is_changed in zip(joined, changed, strict=True)
        ]
    raise AssertionError


def _same(a: Fact, b: Fact) -> bool:
    if a.elements is not None and b.elements is not None:
        pairs = zip(a.elements, b.elements, strict=True)
        return a.type == b.type and all(_same(x, y) for x, y in pairs)
    alike = (a.value is None) == (b.value is None) and (a.elements is None) == (b.elements is None)
    return a.type == b.type and alike


def _weakened(fact: Fact, attempt: int) -> Fact:
    """Less of a changing `fact` with each attempt: contents, its dims, its rank, its type."""
    known = fact.type
    if attempt == 0:
        return fact
    if not isinstance(known, TensorType):
        return Fact(known) if attempt <= 1 else Fact()
    if attempt <= 1 and known.shape is not None:
        return Fact.tensor(known.dtype, [None] * len(known.shape))
    return Fact.tensor(known.dtype) if attempt <= 3 else Fact()


def _scalar_shape(body: Graph, index: int) -> tuple[int, ...]:
    """The shape of an iteration number or condition: [1] where the body declares rank 1."""
    shape = body.inputs[index].shape if index < len(body.inputs) else ()
    return (1,) if shape is not None and len(shape) == 1 else ()


class Loop(ControlFlow, since=25):
    """`body` run up to M times while its condition holds; the last states, and all scan outputs.

    The body takes iteration number, condition and states, and returns condition, states and
    scan outputs. Without M the trips are bounded by `Limits.loop_iterations`.
    """

    M, cond = Input((INT64,), optional=True), Input("B", optional=True)
    v_initial = Input("V", variadic=True, min_arity=0, homogeneous=False)
    v_final_and_scan_outputs = Output("V", variadic=True, homogeneous=False)
    V, B = _carried(types.ALL_INT2), (BOOL,)
    body_: Graph
    history = (
        *_HISTORY,
        past(1, v_initial=Input("V", variadic=True, homogeneous=False)),
    )

    def infer(
        self, infer_graph: GraphInfer, M: Fact | None, cond: Fact | None, *v_initial: Fact
    ) -> tuple[Fact, ...]:
        iteration = unknown("the number of the iteration")
        number = np.full(_scalar_shape(self.body_, 0), iteration, object)
        counter = Fact.tensor(INT64, number.shape, number)
        condition = Fact.tensor(BOOL, _scalar_shape(self.body_, 1))
        states, outputs = _settle(infer_graph, self.body_, [counter, condition], v_initial)
        trips = self._trips(M, cond, outputs[0])
        if trips is not None and (bounds(trips)[0] or 0) > 0:
            # the last states are what an iteration returns
            states = [Fact(fact.type) for fact in outputs[1 : 1 + len(states)]]
        scans = [
            Fact()
            if not isinstance(fact.type, TensorType)
            else Fact.tensor(fact.dtype, None if fact.shape is None else (trips, *fact.shape))
            for fact in outputs[1 + len(states) :]
        ]
        return (*states, *scans)

    def _trips(self, M: Fact | None, cond: Fact | None, returned: Fact) -> DimLike:
        """How often the body runs, where no condition can end the loop early."""
        counts = None if M is None else M.dims_value()
        most = exact(lambda trips: maximum(trips, 0), counts[0] if counts else None)
        starts = True if cond is None else _decided(cond)
        if most == 0 or starts is False:
            return 0
        goes_on = _decided(returned)
        if starts and most is not None and goes_on is not None:
            return most if goes_on else minimum(most, 1)
        return unknown("how often the loop runs", 0, most_of(most))

    def reference(
        self, run_graph: GraphRun, M: Array | None, cond: Array | None, *v_initial: Any
    ) -> tuple[Any, ...]:
        most = None if M is None else int(_one("Loop", "M", M))
        goes_on = True if cond is None else bool(_one("Loop", "cond", cond))
        states, count = list(v_initial), len(v_initial)
        expected = len(self.body_.outputs)
        if expected < 1 + count:
            raise ExecutionError(f"Loop carries {count} values, its body returns {expected}")
        scans: list[list[Array]] = [[] for _ in range(expected - 1 - count)]
        collected, trip = 0, 0
        while goes_on and (most is None or trip < most):
            if trip >= limits.active().loop_iterations:
                raise limits.exceeded(
                    "loop_iterations", limits.active().loop_iterations, most or "more"
                )
            counter = np.full(_scalar_shape(self.body_, 0), trip, np.int64)
            condition = np.full(_scalar_shape(self.body_, 1), goes_on)
            outputs = run_graph(self.body_, [counter, condition, *states])
            goes_on = bool(_one("Loop", "the condition", outputs[0]))
            states = list(outputs[1 : 1 + count])
            for scan, value in zip(scans, outputs[1 + count :], strict=True):
                collected += _collect("Loop", scan, value, collected)
            trip += 1
        stacked = [
            _stacked("Loop", scan, self.body_, 1 + count + index)
            for index, scan in enumerate(scans)
        ]
        return (*states, *stacked)


def _decided(condition: Fact) -> bool | None:
    """What a condition is, where it is known."""
    known = condition.constant_value()
    return None if known is None or known.size != 1 else bool(known.reshape(-1)[0])


def _collect(op_type: str, scan: list[Array], value: Any, before: int) -> int:
    """Add an element to a scan output; its bytes, which with those `before` are bounded."""
    if not isinstance(value, np.ndarray):
        raise ExecutionError(f"{op_type}: a scan output is no tensor")
    value = compact(value)
    scan.append(value)
    bound = limits.active().tensor_bytes
    if before + value.nbytes > bound:
        raise limits.exceeded("tensor_bytes", bound, before + value.nbytes)
    return int(value.nbytes)


def _stacked(op_type: str, values: list[Array], body: Graph, index: int, axis: int = 0) -> Array:
    """Scan output elements along a new axis.

    Without any, what the body declares of output `index` says type and sizes (0 for those that
    it leaves open).
    """
    if not values:
        declared = body.outputs[index]
        if declared.dtype is None:
            raise ExecutionError(
                f"{op_type} ran no iteration and its body does not declare the type of output "
                f"{declared.name!r}",
                hint="declare the body's output types, for example by shape inference",
            )
        sizes = [dim if isinstance(dim, int) else 0 for dim in declared.shape or ()]
        axis = normalized(op_type, axis, len(sizes) + 1)
        return np.zeros((*sizes[:axis], 0, *sizes[axis:]), declared.dtype.numpy)
    if len({value.shape for value in values}) > 1:
        raise ExecutionError(
            f"{op_type}: elements of scan output {body.outputs[index].name!r} differ in shape: "
            f"{list(values[0].shape)} and others"
        )
    first = values[0]
    check_size(op_type, (len(values), *first.shape), first.itemsize)
    return np.stack(values, normalized(op_type, axis, first.ndim + 1))


class Scan(ControlFlow, since=25):
    """`body` run for each slice of the scan inputs; the last states, and all scan outputs.

    The body takes states and slices and returns states and scan outputs. Opset 8 has a batch
    in dimension 0 and scans dimension 1, each batch element up to its own `sequence_lens`.
    """

    sequence_lens = Input((INT64,), optional=True, before=9)
    initial_state_and_scan_inputs = Input("V", variadic=True, homogeneous=False)
    final_state_and_scan_outputs = Output("V", variadic=True, homogeneous=False)
    V = types.ALL_INT2
    body_: Graph
    num_scan_inputs: int
    scan_input_axes: tuple[int, ...] | None = attribute(None, since=9)
    scan_input_directions: tuple[int, ...] | None = attribute(None, since=9)
    scan_output_axes: tuple[int, ...] | None = attribute(None, since=9)
    scan_output_directions: tuple[int, ...] | None = attribute(None, since=9)
    directions: tuple[int, ...] | None = attribute(None, before=9)
    history = (
        past(24, V=types.ALL_FLOAT8E8M0),
        past(23, V=types.ALL_FLOAT4),
        past(21, V=types.ALL_INT4),
        past(19, V=types.ALL_FLOAT8),
        past(16, V=types.ALL_BFLOAT16),
        past(11, V=types.ALL_BEFORE_BFLOAT16),
        past(9),
        past(8),
    )

    def _divide(self, values: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        """States and scan inputs."""
        count = len(values) - self.num_scan_inputs
        if self.num_scan_inputs < 1 or count < 0:
            raise InferenceError(
                f"Scan requires 1 to {len(values)} scan inputs, got {self.num_scan_inputs}"
            )
        return list(values[:count]), list(values[count:])

    @staticmethod
    def _list(given: tuple[int, ...] | None, count: int, name: str) -> list[int]:
        if given is None:
            return [0] * count
        if len(given) != count:
            raise InferenceError(f"Scan requires {count} values in {name}, got {len(given)}")
        return list(given)

    def infer(
        self, infer_graph: GraphInfer, sequence_lens: Fact | None, *values: Fact
    ) -> tuple[Fact, ...]:
        states, scanned = self._divide(values)
        batch: DimLike = None
        if self.version < 9:
            for fact in values:
                batch = unify(batch, fact.shape[0]) if fact.shape else batch
            states, scanned = ([_inner(fact) for fact in part] for part in (states, scanned))
        axes = self._list(self.scan_input_axes, len(scanned), "scan_input_axes")
        length: DimLike = None
        slices = []
        for fact, axis in zip(scanned, axes, strict=True):
            if fact.shape is None:
                slices.append(Fact.tensor(fact.dtype))
                continue
            place = normalized("Scan", axis, len(fact.shape))
            length = unify(length, fact.shape[place])
            slices.append(Fact.tensor(fact.dtype, fact.shape[:place] + fact.shape[place + 1 :]))
        states = [Fact(fact.type) for fact in states]
        outputs = infer_graph(self.body_, [*states, *slices])
        results = _constant_states(states, outputs)
        collected = outputs[len(states) :]
        placed = self._list(self.scan_output_axes, len(collected), "scan_output_axes")
        for fact, axis in zip(collected, placed, strict=True):
            shape = fact.shape
            if shape is not None:
                place = normalized("Scan", axis, len(shape) + 1)
                shape = (*shape[:place], length, *shape[place:])
            results.append(Fact.tensor(fact.dtype, shape))
        if self.version < 9:
            results = [
                Fact.tensor(fact.dtype, None if fact.shape is None else (batch, *fact.shape))
                for fact in results
            ]
        return tuple(results)

    def reference(
        self, run_graph: GraphRun, sequence_lens: Array | None, *values: Array
    ) -> tuple[Array, ...]:
        states, scanned = self._divide(values)
        if self.version < 9:
            return self._batched(run_graph, sequence_lens, states, scanned)
        axes = self._list(self.scan_input_axes, len(scanned), "scan_input_axes")
        directions = self._list(self.scan_input_directions, len(scanned), "scan_input_directions")
        moved = [
            np.moveaxis(array, normalized("Scan", axis, array.ndim), 0)
            for array, axis in zip(scanned, axes, strict=True)
        ]
        finals, collected = self._run(run_graph, states, moved, directions, None)
        placed = self._list(self.scan_output_axes, len(collected), "scan_output_axes")
        order = self._list(self.scan_output_directions, len(collected), "scan_output_directions")
        stacked = [
            _stacked(
                "Scan", part[::-1] if backward else part, self.body_, len(finals) + index, axis
            )
            for index, (part, axis, backward) in enumerate(
                zip(collected, placed, order, strict=True)
            )
        ]
        return (*finals, *stacked)

    def _run(
        self,
        run_graph: GraphRun,
        states: list[Array],
        scanned: list[Array],
        directions: list[int],
        steps: int | None,
    ) -> tuple[list[Array], list[list[Array]]]:
        """The final states and the elements of each scan output, for slices along axis 0.

        Only the first `steps` are taken, and a reversed input begins at the last of them.
        """
        lengths = {len(array) for array in scanned}
        if len(lengths) != 1:
            raise ExecutionError(f"Scan requires scan inputs of one length, got {sorted(lengths)}")
        total = lengths.pop() if steps is None else steps
        count = len(states)
        if len(self.body_.outputs) < count:
            raise ExecutionError(
                f"Scan carries {count} states, its body returns {len(self.body_.outputs)} outputs"
            )
        collected: list[list[Array]] = [[] for _ in self.body_.outputs[count:]]
        size = 0
        for step in range(total):
            slices = [
                array[total - 1 - step if backward else step]
                for array, backward in zip(scanned, directions, strict=True)
            ]
            outputs = run_graph(self.body_, [*states, *(np.asarray(part) for part in slices)])
            if any(a.shape != b.shape for a, b in zip(states, outputs, strict=False)):
                raise ExecutionError(
                    f"Scan states of shapes {[list(state.shape) for state in states]} become "
                    f"{[list(state.shape) for state in outputs[:count]]}"
                )
            states = list(outputs[:count])
            for part, value in zip(collected, outputs[count:], strict=True):
                size += _collect("Scan", part, value, size)
        return states, collected

    def _batched(
        self,
        run_graph: GraphRun,
        sequence_lens: Array | None,
        states: list[Array],
        scanned: list[Array],
    ) -> tuple[Array, ...]:
        directions = self._list(self.directions, len(scanned), "directions")
        if any(array.ndim < 2 for array in scanned) or any(array.ndim < 1 for array in states):
            raise ExecutionError("Scan-8 requires a batch and a sequence dimension")
        batch, length = scanned[0].shape[:2]
        if any(array.shape[0] != batch for array in (*states, *scanned)):
            raise ExecutionError(f"Scan-8 requires one batch size, {batch}, of all inputs")
        steps = np.full(batch, length) if sequence_lens is None else sequence_lens
        if steps.shape != (batch,) or (batch and not 0 <= steps.min() <= steps.max() <= length):
            raise ExecutionError(f"Scan-8 requires {batch} sequence_lens from 0 to {length}")
        rows = []
        for index in range(batch):
            finals, collected = self._run(
                run_graph,
                [np.asarray(array[index]) for array in states],
                [array[index] for array in scanned],
                directions,
                int(steps[index]),
            )
            padded = []
            for place, part in enumerate(collected):
                stacked = _stacked("Scan", part, self.body_, len(finals) + place)
                full = np.zeros((length, *stacked.shape[1:]), stacked.dtype)
                full[: len(stacked)] = stacked
                padded.append(full)
            rows.append([*finals, *padded])
        if not rows:
            raise ExecutionError("Scan-8 of an empty batch")
        return tuple([np.stack(column) for column in zip(*rows, strict=True)])


def _constant_states(states: list[Fact], returned: Sequence[Fact]) -> list[Fact]:
    """Facts of the states of a Scan, whose shapes no iteration may change."""
    if len(returned) < len(states):
        raise InferenceError(
            f"Scan carries {len(states)} states, its body returns {len(returned)} outputs"
        )
    found = []
    for before, after in zip(states, returned, strict=False):
        shape, dtype = before.shape, before.dtype or after.dtype
        if shape is None or after.shape is None:
            found.append(Fact.tensor(dtype, shape or after.shape))
            continue
        if len(shape) != len(after.shape):
            raise InferenceError(
                f"Scan state of shape {shape_text(shape)} becomes {shape_text(after.shape)}"
            )
        dims = [unify(a, b) for a, b in zip(shape, after.shape, strict=True)]
        found.append(Fact.tensor(dtype, dims))
    return found


def _inner(fact: Fact) -> Fact:
    """The fact of one element of a batch."""
    if fact.shape is None:
        return Fact.tensor(fact.dtype)
    if not fact.shape:
        raise InferenceError(f"Scan-8 requires a batch dimension, got {shape_text(fact.shape)}")
    return Fact.tensor(fact.dtype, fact.shape[1:])
