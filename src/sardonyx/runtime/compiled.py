"""Running a compiled model.

A model of one stretch, whose inputs and outputs are all arrays, has a fast entry: what follows
from the sizes of its inputs is prepared once, and a run passes the arrays to native code as
they are, which looks into them whether they are what was prepared for.
"""

from __future__ import annotations

import ctypes
import math
import sys
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from sardonyx.codegen.runner import ARRAY_WORDS, Control
from sardonyx.errors import ExecutionError, LimitError, SardonyxError
from sardonyx.limits import enforced
from sardonyx.reference.run import begin
from sardonyx.runtime.compilation import Call, Compilation
from sardonyx.runtime.outputs import POOLED_FROM, Outputs
from sardonyx.runtime.program import (
    HELD,
    RUN,
    SLICE,
    Frame,
    Layout,
    SizesDiffer,
    Stretch,
    address_of,
    alignment,
    usable,
)
from sardonyx.runtime.scope import Scope
from sardonyx.runtime.threads import resolve

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Mapping, Sequence

    from sardonyx.ir.graph import Graph
    from sardonyx.ir.model import Model
    from sardonyx.limits import Limits
    from sardonyx.reference import Evaluator

    _Entered = tuple[Compilation, dict[str, int], dict[Any, tuple[int, ...]], bool]

__all__ = ["CompiledModel", "SizesDiffer", "compile_model"]

KEPT_SIZES: Final = 64
_FEW: Final = 64
"""Integers of an input, up to which what they are may decide sizes: more than inference names."""
HELD_UNTIL: Final = 20_000
"""Nanoseconds up to which a run keeps the interpreter's lock."""
WATCHED_SLICE: Final = 2_000_000
"""Nanoseconds of work, about, between two looks at a deadline or at whether a run is cancelled."""


@dataclass(slots=True, eq=False)
class _Prepared:
    """What follows from the sizes of the inputs of a model that is one stretch.

    `rows` describe the arrays for native code: the inputs in the order of `names`, then the
    outputs. `fixed` are places in the table and addresses of what is made of sizes. `results` are,
    for each output of the model, which of these arrays it is, and its shape if it is a view, or
    else what it always is; None if they are the outputs in order.
    """

    layout: Layout
    names: tuple[str, ...]
    rows: Any
    fixed: tuple[tuple[int, int], ...]
    outputs: tuple[tuple[tuple[int, ...], Any], ...]
    empty: Callable[[tuple[int, ...], Any], Any]
    results: tuple[tuple[int, Any], ...] | None
    call: Callable[[int], int]
    count: int
    held: tuple[Any, ...]


class _Fast(Frame):
    """The memory of a run through the fast entry."""

    def __init__(self) -> None:
        super().__init__()
        self.prepared: _Prepared | None = None
        self.rows = memoryview(b"")

    def adopt(self, prepared: _Prepared, threads: int) -> None:
        """Make ready for runs with the sizes of `prepared`."""
        self.bind(prepared.layout, threads)
        for slot, address in prepared.fixed:
            self.table[slot] = address
        rows = prepared.rows.copy()
        self.rows = memoryview(rows)
        self.words[Control.ARRAYS] = len(rows) // ARRAY_WORDS
        self.words[Control.ROWS] = address_of(rows)
        self.prepared = prepared


def _sizes_of(given: Any) -> Any:
    """What sizes follow from of a fed array: its shape, and few integers; None where more may."""
    if type(given) is not _ARRAY:
        return None
    if given.dtype.kind in "iu" and given.size <= _FEW:
        return given.shape, given.tobytes()
    return given.shape


def compile_model(
    model: Model,
    evaluator: Evaluator,
    limits: Limits,
    *,
    strict: bool = False,
    threads: int | None = None,
    lap: Callable[[str], None] | None = None,
) -> CompiledModel:
    """Compile `model`, whose initializers are those of `evaluator`.

    With `strict` a product and a sum are rounded one after the other. `lap` is called after each
    ``schedule``, ``compile`` and ``pack``.
    """
    from sardonyx.runtime.compiler import compile_graph

    compilation = compile_graph(model, evaluator.constants, limits, strict=strict, lap=lap)
    return CompiledModel(compilation, evaluator, limits, threads=threads)


class CompiledModel:
    """Runs the steps of a `Compilation`. Safe to use from several threads.

    A run uses up to `threads` threads, by default as many as this process can keep busy.
    `evaluator` computes what is not compiled; None where all is.
    """

    def __init__(
        self,
        compilation: Compilation,
        evaluator: Evaluator | None,
        limits: Limits,
        *,
        threads: int | None = None,
    ) -> None:
        self._evaluator = evaluator
        self._limits = limits
        self.threads = resolve(threads)
        self.compilation = compilation
        self._graph = compilation.graph
        self._native = RUN(self.compilation.run_address)
        self._native_held = HELD(self.compilation.run_address)
        self._frames: list[Frame] = []
        self._outputs = Outputs()
        self._fast_frames: list[_Fast] = []
        self._fast = self._single_stretch() if _LOOKS_INTO_ARRAYS else None
        self._prepared: OrderedDict[tuple[tuple[int, ...], ...], _Prepared] = OrderedDict()
        self._recent: _Prepared | None = None
        self._entered: OrderedDict[tuple[Any, ...], _Entered] = OrderedDict()

    def run(
        self, feeds: Mapping[str, Any], cancel: threading.Event | None = None
    ) -> dict[str, Any]:
        """All outputs by name. Raises `SizesDiffer` where a shape is not as inferred."""
        run = begin(self._limits, cancel)
        check = None

        def look() -> None:
            run.check(self._limits)

        if cancel is not None or self._limits.seconds is not None:
            check = look
            check()
        if self._fast is not None:
            found = self._run_fast(feeds, check)
            names = (value.name for value in self._graph.outputs)
            return dict(zip(names, found, strict=True))
        return self.run_steps(feeds, run, check)

    # -- the fast entry -------------------------------------------------------------------------

    def run_prepared(self, feeds: Mapping[str, Any]) -> list[Any] | None:
        """All outputs in order, if the arrays in `feeds` are of sizes that were prepared for.

        None where `run` is needed: `feeds` may then be anything. No deadline is kept.
        """
        prepared = self._recent
        if prepared is None or len(feeds) != len(prepared.names):
            return None
        try:
            found = self._execute(prepared, feeds, None)
            if found is not None:
                return found
            arrays: list[Any] = [feeds.get(name) for name in prepared.names]
            if any(type(array) is not _ARRAY for array in arrays):
                return None
            known = self._prepared.get(tuple([array.shape for array in arrays]))
            if known is None or known is prepared:
                return None
            found = self._execute(known, feeds, None)
        except SizesDiffer:
            return None
        if found is not None:
            self._recent = known
        return found

    def _execute(
        self, prepared: _Prepared, feeds: Mapping[str, Any], check: Callable[[], None] | None
    ) -> list[Any] | None:
        """One run; None if the arrays are not what was prepared for."""
        try:
            frame = self._fast_frames.pop()
        except IndexError:
            frame = _Fast()
        try:
            if frame.prepared is not prepared or (
                prepared.layout.is_shared and frame.bind(prepared.layout, self.threads)
            ):
                frame.adopt(prepared, self.threads)
            rows = frame.rows
            place = 0
            arrays = []
            for name in prepared.names:
                array = feeds.get(name)
                if type(array) is not _ARRAY:
                    return None
                arrays.append(array)
                rows[place] = id(array)
                place += ARRAY_WORDS
            outputs = []
            for shape, dtype in prepared.outputs:
                array = prepared.empty(shape, dtype)
                rows[place] = id(array)
                place += ARRAY_WORDS
                outputs.append(array)
            if check is not None:
                frame.words[Control.BUDGET] = WATCHED_SLICE
            code = prepared.call(frame.address)
            if code != prepared.count:
                code = frame.finish(code, prepared.call, check)
                if code == -1:
                    return None
                if code < 0:
                    assert self._fast is not None
                    raise self._fault(self._fast, code)
        finally:
            if check is not None:
                frame.words[Control.BUDGET] = SLICE
            self._fast_frames.append(frame)
        if prepared.results is None:
            return outputs
        known = [*arrays, *outputs]
        found = []
        for which, item in prepared.results:
            if which < 0:
                found.append(item.copy())
            else:
                found.append(known[which] if item is None else known[which].reshape(item))
        return found

    def _run_fast(self, feeds: Mapping[str, Any], check: Callable[[], None] | None) -> list[Any]:
        arranged = {}
        for value in self._graph.inputs:
            given = feeds.get(value.name)
            fact = self.compilation.facts[value]
            if given is None or fact.dtype is None:
                raise SizesDiffer
            arranged[value.name] = usable(given, fact.dtype.numpy)
        arrays = list(arranged.values())
        key = tuple(array.shape for array in arrays)
        prepared = self._prepared.get(key)
        if prepared is None:
            scope = Scope(self.compilation)
            for value, array in zip(self._graph.inputs, arrays, strict=True):
                scope.bind(value, array)
            with enforced(self._limits):
                scope.look_at_sizes()
                prepared = self._prepare(scope, arrays)
            self._prepared[key] = prepared
            while len(self._prepared) > KEPT_SIZES:
                self._prepared.popitem(last=False)
        if self._limits.seconds is None:
            self._recent = prepared
        found = self._execute(prepared, arranged, check)
        if found is None:
            raise SizesDiffer
        return found

    def _single_stretch(self) -> Stretch | None:
        """The stretch that is the whole model, if its inputs and outputs are all arrays."""
        steps, facts = self.compilation.steps, self.compilation.facts
        stretch = steps[0] if len(steps) == 1 else None
        if not isinstance(stretch, Stretch):
            return None
        for value in self._graph.inputs:
            fact = facts.get(value)
            if value.const is not None or fact is None or fact.dtype is None or fact.shape is None:
                return None
            if fact.value is not None:
                return None
        return stretch

    @property
    def is_single_stretch(self) -> bool:
        """Whether all of the model is native code between arrays."""
        return self._fast is not None

    def _storage(self, value: Any) -> Any:
        while value in self.compilation.aliases:
            value = self.compilation.aliases[value]
        return value

    def _prepare(self, scope: Scope, arrays: Sequence[Any]) -> _Prepared:
        stretch = self._fast
        assert stretch is not None
        layout = stretch.layout(scope.env)
        outputs = [(layout.shapes[b.key], b.dtype.numpy) for b in stretch.outputs]
        spare = len(stretch.slots)
        slots = [stretch.slots.get(value, spare) for value in self._graph.inputs]
        slots += [stretch.slots[buffer.key] for buffer in stretch.outputs]
        described = [(array.shape, array.dtype) for array in arrays] + outputs
        rows, held = [], []
        for slot, (shape, dtype) in zip(slots, described, strict=True):
            sizes = np.array((*shape, 0), np.int64)
            held += [sizes, dtype]
            mask = alignment(dtype) - 1
            rows += [0, slot, id(dtype), len(shape) | mask << 32, address_of(sizes)]
        fixed = []
        for buffer in stretch.inputs:
            if buffer.key not in self._graph.inputs:
                array = usable(scope.value(buffer.key), buffer.dtype.numpy)
                held.append(array)
                fixed.append((stretch.slots[buffer.key], address_of(array)))
        known = [*self._graph.inputs, *(buffer.key for buffer in stretch.outputs)]
        order = {key: number for number, key in enumerate(known)}
        results: list[tuple[int, Any]] = []
        for value in self._graph.outputs:
            root = self._storage(value)
            if root not in order:
                results.append((-1, scope.value(value)))
            else:
                results.append((order[root], None if root is value else scope.shape(value)))
        plain = [(number, None) for number in range(len(arrays), len(known))]
        is_short = layout.nanoseconds < HELD_UNTIL
        is_large = any(math.prod(shape) * dtype.itemsize >= POOLED_FROM for shape, dtype in outputs)
        return _Prepared(
            layout,
            tuple(value.name for value in self._graph.inputs),
            np.array(rows, np.int64),
            tuple(fixed),
            tuple(outputs),
            self._outputs.empty if is_large else _EMPTY,
            None if results == plain else tuple(results),
            self._native_held if is_short else self._native,
            len(stretch.launches),
            tuple(held),
        )

    def _fault(self, stretch: Stretch, code: int) -> ExecutionError | SizesDiffer:
        launch = stretch.launches[-2 - code]
        if launch.is_partial:
            return SizesDiffer()
        message = "an index is outside of the dimension that it selects from"
        return ExecutionError(message, place=launch.label)

    # -- any steps ------------------------------------------------------------------------------

    def run_steps(
        self, feeds: Mapping[str, Any], run: Any, check: Callable[[], None] | None
    ) -> dict[str, Any]:
        """All outputs by name, step by step."""
        scope = Scope(self.compilation)
        for value in self._graph.inputs:
            given = feeds.get(value.name)
            if given is None:
                if value.const is None:
                    raise SizesDiffer
                continue
            if value.const is not None:
                raise SizesDiffer  # an overridden initializer is not what was compiled
            scope.values[value] = given
        try:
            frame = self._frames.pop()
        except IndexError:
            frame = Frame()
        try:
            with np.errstate(all="ignore"), enforced(self._limits):
                self._enter(scope)
                self._steps(scope, run, frame, check)
        finally:
            self._frames.append(frame)
        return {value.name: scope.value(value) for value in self._graph.outputs}

    def _enter(self, scope: Scope) -> None:
        """Learn the sizes of the inputs, and decide on them; those seen last are kept."""
        key = tuple(map(_sizes_of, scope.values.values()))
        found = None if None in key else self._entered.get(key)
        if found is not None:
            scope.program, env, shapes, scope.is_checked = found
            scope.env = dict(env)
            # a call may give sizes that differ from run to run
            scope.shapes = shapes if scope.is_checked else {}
            return
        for value, given in scope.values.items():
            scope.bind(value, given)
        scope.resolve()
        if None in key:
            return
        program = scope.program
        is_whole = not any(isinstance(step, Call) for step in program.steps)
        if is_whole:
            scope.look_at_sizes()
            scope.is_checked = True
        shapes = scope.shapes if is_whole else {}
        self._entered[key] = program, dict(scope.env), shapes, is_whole
        while len(self._entered) > KEPT_SIZES:
            self._entered.popitem(last=False)

    def _steps(
        self, scope: Scope, run: Any, frame: Frame, check: Callable[[], None] | None
    ) -> None:
        """Compute the values of `scope`."""
        scope.resolve()
        for step in scope.program.steps:
            if isinstance(step, Call):
                self._call(step, scope, run, frame, check)
            else:
                scope.look_at_sizes()
                self._stretch(step, scope, run, frame, check)
        scope.look_at_sizes()

    def _call(
        self, call: Call, scope: Scope, run: Any, frame: Frame, check: Callable[[], None] | None
    ) -> None:
        if call.count is not None:
            buffer, name = call.count
            scope.env[name] = int(scope.value(buffer).reshape(-1)[-1])
            return
        outputs = self._repeated(call, scope, frame, check) if call.bodies else None
        if outputs is None:
            outputs = self._applied(call, scope, run, frame, check)
        for value, output in zip(call.step.node.outputs, outputs, strict=False):
            if value.name or value.users:
                self._hold(output, scope, run, call.step.node.label)
                scope.values[value] = output
                scope.bind(value, output)

    def _applied(
        self, call: Call, scope: Scope, run: Any, frame: Frame, check: Callable[[], None] | None
    ) -> Sequence[Any]:
        """The outputs of a node, from its reference; its bodies run as they are compiled."""

        def run_graph(graph: Graph, given: Sequence[Any]) -> list[Any]:
            program = call.bodies.get(graph)
            if program is None:
                raise SizesDiffer
            inner = Scope(program, scope)
            inner.enter(given)
            for item in given:
                self._hold(item, inner, run, call.step.node.label)
            if check is not None:
                check()
            self._steps(inner, run, frame, check)
            run.ledger.give_all(inner.held)
            return [inner.value(value) for value in graph.outputs]

        graphs = run_graph if call.bodies else None
        assert self._evaluator is not None
        return self._evaluator.apply(call.step, scope.value, run, graphs)

    def _repeated(
        self, call: Call, scope: Scope, frame: Frame, check: Callable[[], None] | None
    ) -> Sequence[Any] | None:
        """The outputs of a loop whose trips are all alike; None for any other node."""
        native = self._native

        def bind(layout: Layout) -> Any:
            nonlocal native
            frame.bind(layout, self.threads)
            frame.words[Control.BUDGET] = SLICE if check is None else WATCHED_SLICE
            if layout.nanoseconds < HELD_UNTIL:
                native = self._native_held
            table: Any = frame.table
            return memoryview(table)

        def execute(stretch: Stretch) -> None:
            code = native(frame.address)
            if code != len(stretch.launches):
                code = frame.finish(code, native, check)
                if code < 0:
                    raise self._fault(stretch, code)
            if check is not None:
                check()

        from sardonyx.runtime.control import repeat

        try:
            return repeat(call, scope, bind, execute)
        except SardonyxError as error:
            raise error.at(call.step.node.label)  # noqa: B904
        except MemoryError:
            raise LimitError("out of memory", place=call.step.node.label) from None

    def _hold(self, item: Any, scope: Scope, run: Any, label: str) -> None:
        """Count what `scope` holds from now on."""
        try:
            run.ledger.take(item)
        except LimitError as error:
            raise error.at(label)  # noqa: B904
        scope.held.append(item)

    def _stretch(
        self,
        stretch: Stretch,
        scope: Scope,
        run: Any,
        frame: Frame,
        check: Callable[[], None] | None,
    ) -> None:
        layout = stretch.layout(scope.env)
        frame.bind(layout, self.threads)
        frame.words[Control.BUDGET] = SLICE if check is None else WATCHED_SLICE
        held = []
        for buffer in stretch.inputs:
            array = usable(scope.value(buffer.key), buffer.dtype.numpy)
            held.append(array)
            frame.table[stretch.slots[buffer.key]] = address_of(array)
        for buffer in stretch.outputs:
            array = self._outputs.empty(layout.shapes[buffer.key], buffer.dtype.numpy)
            self._hold(array, scope, run, stretch.launches[0].label)
            scope.values[buffer.key] = array
            frame.table[stretch.slots[buffer.key]] = address_of(array)
        code = frame.finish(self._native(frame.address), self._native, check)
        if code < 0:
            raise self._fault(stretch, code)


def _looks_into_arrays() -> bool:
    """Whether arrays lie in memory as NumPy's C interface says, after the head of an object."""
    if sys.implementation.name != "cpython":
        return False
    for array in (np.zeros((), np.int8), np.zeros((2, 3), np.float32), np.zeros((4, 4)).T[1:]):
        words = (ctypes.c_int64 * 6).from_address(id(array) + object.__basicsize__)
        flags = ctypes.c_int32.from_address(id(array) + object.__basicsize__ + 48)
        rank = ctypes.c_int32.from_address(id(array) + object.__basicsize__ + 8)
        if words[0] != address_of(array) or rank.value != array.ndim:
            return False
        sizes = (ctypes.c_int64 * array.ndim).from_address(words[2]) if array.ndim else ()
        if tuple(sizes) != array.shape or words[5] != id(array.dtype):
            return False
        if bool(flags.value & 1) != array.flags.c_contiguous:
            return False
    return True


_ARRAY: Final = np.ndarray
_EMPTY: Final = np.empty
_LOOKS_INTO_ARRAYS: Final = _looks_into_arrays()
