"""Loops whose body is one stretch: trips without anything but the native call between them.

Where states keep their shapes and only data tells one trip from the next, everything that follows
from sizes is made ready once. A trip then is a few addresses and one call::

                  trip 0        trip 1        trip 2
    state      given ─▶ A      A ─▶ B        B ─▶ A        two buffers, or more where states
                                                           hand values on to one another
    scan       row 0           row 1         row 2         of the result itself, if nothing
                                                           else reads what is written there

`repeat` gives None for what is not so: the operator's own loop then runs the body trip by trip.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from sardonyx.dims import Dim, symbols
from sardonyx.limits import active, exceeded
from sardonyx.ops.bind import lift
from sardonyx.ops.control import Loop, Scan
from sardonyx.runtime.program import Stretch, address_of, usable
from sardonyx.runtime.scope import Scope

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sardonyx.ir.graph import Graph
    from sardonyx.runtime.compilation import Call, Compilation
    from sardonyx.runtime.program import Layout

__all__ = ["repeat"]

_FIRST_ROWS: Final = 16
"""Rows of a scan output that are reserved at first where the trips are not known."""


@dataclass(slots=True)
class _Plan:
    """A loop that is about to run.

    `given` are the arrays of the first trip's body inputs: `leading` ones that a Loop adds, then
    `states`, then slices of `scanned`, which lie along axis 0. `most` are the trips, `exact` is
    whether they are so many in any case. `backward` says of each scanned array and of each scan
    output whether it runs from its end, `axes` along which axis scan outputs are joined.
    """

    body: Graph
    leading: int
    states: list[Any]
    scanned: list[Any]
    given: list[Any]
    most: int
    exact: bool
    backward: list[bool]
    backward_out: list[bool]
    axes: list[int]


def repeat(
    call: Call,
    scope: Scope,
    bind: Callable[[Layout], Any],
    execute: Callable[[Stretch], None],
) -> list[Any] | None:
    """The outputs of a Loop or Scan; None where its trips are not all alike.

    `bind` makes ready for runs of a layout and gives the table of addresses, `execute` runs what
    is bound.
    """
    plan = _plan_of(call, scope)
    if plan is None:
        return None
    program = call.bodies.get(plan.body)
    if program is None or len(program.steps) != 1 or not isinstance(program.steps[0], Stretch):
        return None
    stretch = program.steps[0]
    if not _is_told_by_data(program, stretch):
        return None
    inner = Scope(program, scope)
    inner.enter(plan.given)
    inner.look_at_sizes()
    layout = stretch.layout(inner.env)
    trips = _Trips(plan, program, stretch, inner, layout)
    if not trips.fits:
        return None
    return trips.run(bind, execute)


def _plan_of(call: Call, scope: Scope) -> _Plan | None:
    step = call.step
    operator = step.operator
    if not isinstance(operator, (Loop, Scan)) or step.schema is None:
        return None
    inputs = [None if value is None else scope.value(value) for value in step.node.inputs]
    arguments = operator.arrange(step.schema, inputs, lift, step.attributes)
    if isinstance(operator, Loop):
        return _loop_plan(operator, arguments)
    return _scan_plan(operator, arguments[1:])


def _loop_plan(operator: Loop, arguments: Sequence[Any]) -> _Plan | None:
    limit, starts, *states = arguments
    body = operator.body_
    if any(part is not None and part.size != 1 for part in (limit, starts)):
        return None
    if starts is not None and not bool(starts.reshape(-1)[0]):
        return None
    most = sys.maxsize if limit is None else int(limit.reshape(-1)[0])
    scans = len(body.outputs) - 1 - len(states)
    if most < 1 or scans < 0 or len(body.inputs) != 2 + len(states):
        return None
    if not all(isinstance(state, np.ndarray) for state in states):
        return None
    shapes = [(1,) if len(value.shape or ()) == 1 else () for value in body.inputs[:2]]
    leading = [np.zeros(shapes[0], np.int64), np.ones(shapes[1], np.bool_)]
    exact = limit is not None
    return _Plan(
        body, 2, states, [], [*leading, *states], most, exact, [], [False] * scans, [0] * scans
    )


def _scan_plan(operator: Scan, values: Sequence[Any]) -> _Plan | None:
    body = operator.body_
    count = len(values) - operator.num_scan_inputs
    scans = len(body.outputs) - count
    if operator.version < 9 or operator.num_scan_inputs < 1 or count < 0 or scans < 0:
        return None
    states, arrays = list(values[:count]), values[count:]
    axes = operator.scan_input_axes or (0,) * len(arrays)
    ways = operator.scan_input_directions or (0,) * len(arrays)
    out_axes = operator.scan_output_axes or (0,) * scans
    out_ways = operator.scan_output_directions or (0,) * scans
    if (len(axes), len(ways), len(out_axes), len(out_ways)) != (len(arrays),) * 2 + (scans,) * 2:
        return None
    if not all(-each.ndim <= axis < each.ndim for each, axis in zip(arrays, axes, strict=True)):
        return None
    moved = [
        np.ascontiguousarray(np.moveaxis(each, axis, 0))
        for each, axis in zip(arrays, axes, strict=True)
    ]
    lengths = {len(each) for each in moved}
    if len(lengths) != 1 or 0 in lengths or len(body.inputs) != len(values):
        return None
    (total,) = lengths
    backward = [bool(way) for way in ways]
    slices = [each[-1 if way else 0] for each, way in zip(moved, backward, strict=True)]
    given = [*states, *map(np.asarray, slices)]
    backward_out = [bool(way) for way in out_ways]
    return _Plan(body, 0, states, moved, given, total, True, backward, backward_out, list(out_axes))


def _is_told_by_data(program: Compilation, stretch: Stretch) -> bool:
    """Whether no contents of the body's inputs are sizes of what it computes."""
    contents: set[str] = set()
    for value in program.graph.inputs:
        fact = program.facts.get(value)
        known = None if fact is None else fact.value
        if known is None:
            continue
        for item in known.flat if known.dtype == object else (0,):
            if not isinstance(item, Dim) or [str(name) for name in symbols(item)] != [str(item)]:
                return False
            contents.add(str(item))
    needed = set(stretch.names).union(*(names for _, names in program.required))
    for value in program.graph.outputs:
        fact = program.facts.get(value)
        if fact is None or fact.dtype is None or fact.shape is None:
            return False
        if fact.value is not None and fact.value.dtype == object and value not in stretch.slots:
            for item in fact.value.flat:
                needed |= {str(n) for n in symbols(item)} if isinstance(item, Dim) else set()
    return not contents & needed


@dataclass(slots=True)
class _Source:
    """Where an output of the body lies: written into `slot`, an input's place, or a fixed array.

    `shape` is the output's own.
    """

    kind: str
    number: int
    array: Any
    shape: tuple[int, ...]
    dtype: Any


class _Trips:
    """The trips of one loop."""

    def __init__(
        self, plan: _Plan, program: Compilation, stretch: Stretch, inner: Scope, layout: Layout
    ) -> None:
        self.plan = plan
        self.program = program
        self.stretch = stretch
        self.inner = inner
        self.layout = layout
        outputs = program.graph.outputs
        self.sources = [self.source(value) for value in outputs]
        ahead = 1 if plan.leading else 0
        count = len(plan.states)
        self.condition = self.sources[0] if ahead else None
        self.states = self.sources[ahead : ahead + count]
        self.scans = self.sources[ahead + count :]
        self.fits = self._fits()
        self.rows = 0
        self.results: list[Any] = [None] * len(self.scans)
        self.bases = [0] * len(self.scans)

    def source(self, value: Any) -> _Source:
        """Where the output `value` of the body lies."""
        program, stretch = self.program, self.stretch
        root = value
        while root in program.aliases:
            root = program.aliases[root]
        inputs = program.graph.inputs
        if root in inputs:
            number = inputs.index(root)
            array = self.plan.given[number]
            shape = array.shape if root is value else self.inner.shape(value)
            return _Source("input", number, None, shape, array.dtype)
        made = {buffer.key: buffer for buffer in stretch.outputs}
        if root in made:
            dtype = made[root].dtype.numpy
            return _Source("made", stretch.slots[root], None, self.inner.shape(value), dtype)
        array = self.inner.value(value)
        if isinstance(array, np.ndarray):
            array = usable(array, array.dtype)
        return _Source("fixed", 0, array, np.shape(array), getattr(array, "dtype", None))

    def _fits(self) -> bool:
        """Whether states keep their shapes, and nothing hands on what each trip changes."""
        plan = self.plan
        for state, source in zip(plan.states, self.states, strict=True):
            if source.shape != state.shape or source.dtype != state.dtype:
                return False
            if source.kind == "input" and source.number < plan.leading:
                return False
        for source, axis in zip(self.scans, plan.axes, strict=True):
            rank = len(source.shape) + 1
            if source.dtype is None or not -rank <= axis < rank:
                return False
        condition = self.condition
        return condition is None or int(np.prod(condition.shape)) == 1

    # -- what is made ready ---------------------------------------------------------------------

    def depth(self, slot: int) -> int:
        """In how many of the following trips what is written into `slot` is read."""
        first = self.plan.leading
        holding = {
            number
            for number, source in enumerate(self.states)
            if source.kind == "made" and source.number == slot
        }
        found = 0
        while holding and found <= len(self.states):
            found += 1
            holding = {
                number
                for number, source in enumerate(self.states)
                if source.kind == "input" and source.number - first in holding
            }
        return found

    def reserve(self, rows: int) -> None:
        """Make room for `rows` rows of the scan outputs; those that are there stay."""
        needed = rows * self.row_bytes
        for name in ("tensor_bytes", "memory_bytes"):
            bound = getattr(active(), name)
            if needed > bound:
                raise exceeded(name, bound, needed)
        for number, source in enumerate(self.scans):
            wider = np.empty((rows, *source.shape), source.dtype)
            if self.rows:
                wider[: self.rows] = self.results[number]
            self.results[number] = wider
            self.bases[number] = address_of(wider)
        self.rows = rows

    def prepare(self, bind: Callable[[Layout], Any]) -> None:
        """Allocate, and put what stays in place into the table."""
        plan, stretch = self.plan, self.stretch
        self.table = bind(self.layout)
        inputs = self.program.graph.inputs
        self.current: list[Any] = []
        for value, array in zip(inputs, plan.given, strict=True):
            known = self.program.facts[value].dtype
            self.current.append(usable(array, array.dtype if known is None else known.numpy))
        self.addresses = [address_of(array) for array in self.current]
        self.held: list[Any] = []
        slots = stretch.slots
        self.moving: list[tuple[int, int]] = []
        for buffer in stretch.inputs:
            if buffer.key in inputs:
                number = inputs.index(buffer.key)
                self.table[slots[buffer.key]] = self.addresses[number]
                if number >= plan.leading:
                    self.moving.append((slots[buffer.key], number))
                continue
            array = usable(self.inner.value(buffer.key), buffer.dtype.numpy)
            self.held.append(array)
            self.table[slots[buffer.key]] = address_of(array)
        self.row_bytes = sum(
            int(np.prod(source.shape, dtype=object)) * source.dtype.itemsize
            for source in self.scans
        )
        self.place_outputs()

    def place_outputs(self) -> None:
        """Decide into which buffers, or rows of results, a trip writes."""
        self.direct: list[tuple[int, int, int]] = []
        self.pools: list[tuple[int, list[tuple[Any, int]]]] = []
        self.copied = list(range(len(self.scans)))
        others = [*self.states, *([] if self.condition is None else [self.condition])]
        for buffer in self.stretch.outputs:
            slot = self.stretch.slots[buffer.key]
            scans = [n for n, s in enumerate(self.scans) if s.kind == "made" and s.number == slot]
            kept = any(s.kind == "made" and s.number == slot for s in others)
            if scans and not kept:
                size = int(np.prod(self.scans[scans[0]].shape)) * buffer.dtype.numpy.itemsize
                self.direct.append((slot, scans[0], size))
                self.copied.remove(scans[0])
                continue
            shape = self.layout.shapes[buffer.key]
            arrays = [np.empty(shape, buffer.dtype.numpy) for _ in range(self.depth(slot) + 1)]
            self.pools.append((slot, [(array, address_of(array)) for array in arrays]))
        self.pool_of = dict(self.pools)
        self.fixed = [
            (source.array, address_of(source.array)) if source.kind == "fixed" else None
            for source in self.states
        ]

    # -- running --------------------------------------------------------------------------------

    def run(self, bind: Callable[[Layout], Any], execute: Callable[[Stretch], None]) -> list[Any]:
        """All trips; the last states and the scan outputs."""
        self.prepare(bind)
        plan, table = self.plan, self.table
        bound = active().loop_iterations if plan.leading else plan.most
        if self.scans:
            certain = plan.exact and self.is_always_true()
            self.reserve(min(plan.most, bound) if certain else min(plan.most, _FIRST_ROWS))
        counter = self.current[0].reshape(-1) if plan.leading else None
        slices = self.slices()
        trip, goes_on = 0, True
        while goes_on and trip < plan.most:
            if trip >= bound:
                raise exceeded("loop_iterations", bound, plan.most if plan.exact else "more")
            if self.scans and trip == self.rows:
                self.reserve(min(2 * trip, plan.most))
            if counter is not None:
                counter[0] = trip
            for number, base, step in slices:
                self.addresses[number] = base + trip * step
            for slot, number in self.moving:
                table[slot] = self.addresses[number]
            for slot, pool in self.pools:
                table[slot] = pool[trip % len(pool)][1]
            for slot, number, size in self.direct:
                table[slot] = self.bases[number] + size * self.row(number, trip)
            execute(self.stretch)
            if self.copied:
                self.copy(trip)
            goes_on = self.condition is None or self.is_true(trip)
            self.hand_on(trip)
            trip += 1
        return self.outputs(trip)

    def slices(self) -> list[tuple[int, int, int]]:
        """For each scanned array its body input, the first slice's address, and the step."""
        plan = self.plan
        found = []
        for number, (array, backward) in enumerate(zip(plan.scanned, plan.backward, strict=True)):
            step = array.strides[0] if len(array) > 1 else 0
            base = address_of(array) + (step * (plan.most - 1) if backward else 0)
            found.append((len(plan.states) + number, base, -step if backward else step))
        return found

    def row(self, number: int, trip: int) -> int:
        """The row of scan output `number` that a trip makes."""
        return self.plan.most - 1 - trip if self.plan.backward_out[number] else trip

    def array(self, source: _Source, trip: int) -> Any:
        """What lies at `source` after a trip."""
        plan = self.plan
        if source.kind == "fixed":
            return source.array
        if source.kind == "made":
            pool = self.pool_of[source.number]
            return pool[trip % len(pool)][0].reshape(source.shape)
        number = source.number - len(plan.states)
        if not plan.leading and number >= 0:
            which = plan.most - 1 - trip if plan.backward[number] else trip
            return np.asarray(plan.scanned[number][which]).reshape(source.shape)
        return self.current[source.number].reshape(source.shape)

    def copy(self, trip: int) -> None:
        """Copy what a trip does not write into its row itself."""
        written = {slot: number for slot, number, _ in self.direct}
        for number in self.copied:
            source = self.scans[number]
            row = self.row(number, trip)
            if source.kind == "made" and source.number in written:
                first = written[source.number]
                value = self.results[first][self.row(first, trip)].reshape(source.shape)
            else:
                value = self.array(source, trip)
            self.results[number][row] = value

    def is_always_true(self) -> bool:
        """Whether no trip can end the loop."""
        condition = self.condition
        if condition is None or condition.kind == "input":
            return condition is None or condition.number == 1
        return condition.kind == "fixed" and bool(condition.array.reshape(-1)[0])

    def is_true(self, trip: int) -> bool:
        """The condition after a trip."""
        assert self.condition is not None
        return bool(self.array(self.condition, trip).reshape(-1)[0])

    def hand_on(self, trip: int) -> None:
        """Make the states of a trip the inputs of the next."""
        current, addresses = self.current, self.addresses
        first = self.plan.leading
        end = first + len(self.states)
        after: list[tuple[Any, int]] = []
        for source, fixed in zip(self.states, self.fixed, strict=True):
            if source.kind == "made":
                pool = self.pool_of[source.number]
                after.append(pool[trip % len(pool)])
            elif fixed is not None:
                after.append(fixed)
            elif source.number < end:
                after.append((current[source.number], addresses[source.number]))
            else:
                after.append((self.array(source, trip), addresses[source.number]))
        for number, (array, address) in enumerate(after, first):
            current[number] = array
            addresses[number] = address

    def outputs(self, trips: int) -> list[Any]:
        """The last states, and the scan outputs without rows that no trip made."""
        first = self.plan.leading
        last = self.current[first : first + len(self.states)]
        pairs = zip(last, self.states, strict=True)
        found = [np.asarray(array).reshape(source.shape) for array, source in pairs]
        for array, axis in zip(self.results, self.plan.axes, strict=True):
            made = array if len(array) == trips else array[:trips].copy()
            found.append(np.ascontiguousarray(np.moveaxis(made, 0, axis)) if axis else made)
        return found
