"""Running a compiled model.

A model of one stretch, whose inputs and outputs are all arrays, has a fast entry: what follows
from the sizes of its inputs is prepared once, and a run passes the arrays to native code as
they are, which looks into them whether they are what was prepared for.
"""

from __future__ import annotations

import ctypes
import sys
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from sardonyx.codegen.runner import ARRAY_WORDS, Control
from sardonyx.dims import Dim, symbols
from sardonyx.errors import ExecutionError, quote
from sardonyx.limits import active, enforced, exceeded
from sardonyx.runtime.compiler import Call, Compilation, compile_graph
from sardonyx.runtime.program import (
    HELD,
    RUN,
    SLICE,
    Frame,
    Layout,
    SizesDiffer,
    Stretch,
    address_of,
    number,
)
from sardonyx.runtime.threads import resolve

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Mapping, Sequence

    from sardonyx.ir.model import Model
    from sardonyx.ir.value import Value
    from sardonyx.limits import Limits
    from sardonyx.reference import Evaluator

__all__ = ["CompiledModel", "SizesDiffer"]

KEPT_SIZES: Final = 64
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


class CompiledModel:
    """Runs the steps of a `Compilation`. Safe to use from several threads.

    A run uses up to `threads` threads, by default as many as this process can keep busy.
    """

    def __init__(
        self,
        model: Model,
        evaluator: Evaluator,
        limits: Limits,
        *,
        strict: bool = False,
        threads: int | None = None,
    ) -> None:
        self._evaluator = evaluator
        self._limits = limits
        self.threads = resolve(threads)
        self.compilation: Compilation = compile_graph(
            model, dict(evaluator.constants), limits, strict=strict
        )
        self._graph = model.graph
        self._required = [
            (dim, {str(name) for name in symbols(dim)} if isinstance(dim, Dim) else set())
            for dim in self.compilation.required
        ]
        self._native = RUN(self.compilation.run_address)
        self._native_held = HELD(self.compilation.run_address)
        self._frames: list[Frame] = []
        self._fast_frames: list[_Fast] = []
        self._fast = self._single_stretch() if _LOOKS_INTO_ARRAYS else None
        self._prepared: OrderedDict[tuple[tuple[int, ...], ...], _Prepared] = OrderedDict()
        self._recent: _Prepared | None = None

    def run(
        self, feeds: Mapping[str, Any], cancel: threading.Event | None = None
    ) -> dict[str, Any]:
        """All outputs by name. Raises `SizesDiffer` where a shape is not as inferred."""
        run = self._evaluator.begin(cancel)
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
                array = _EMPTY(shape, dtype)
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
        usable = {}
        for value in self._graph.inputs:
            given = feeds.get(value.name)
            fact = self.compilation.facts[value]
            if given is None or fact.dtype is None:
                raise SizesDiffer
            usable[value.name] = _usable(given, fact.dtype.numpy)
        arrays = list(usable.values())
        key = tuple(array.shape for array in arrays)
        prepared = self._prepared.get(key)
        if prepared is None:
            env: dict[str, int] = {}
            for value, array in zip(self._graph.inputs, arrays, strict=True):
                self._bind(value, array, env)
            with enforced(self._limits):
                self._look_at_sizes(env)
                prepared = self._prepare(env, arrays)
            self._prepared[key] = prepared
            while len(self._prepared) > KEPT_SIZES:
                self._prepared.popitem(last=False)
        if self._limits.seconds is None:
            self._recent = prepared
        found = self._execute(prepared, usable, check)
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

    def _storage(self, value: Any) -> Any:
        while value in self.compilation.aliases:
            value = self.compilation.aliases[value]
        return value

    def _prepare(self, env: Mapping[str, int], arrays: Sequence[Any]) -> _Prepared:
        stretch = self._fast
        assert stretch is not None
        layout = stretch.layout(env)
        outputs = [(layout.shapes[b.key], b.dtype.numpy) for b in stretch.outputs]
        spare = len(stretch.slots)
        slots = [stretch.slots.get(value, spare) for value in self._graph.inputs]
        slots += [stretch.slots[buffer.key] for buffer in stretch.outputs]
        described = [(array.shape, array.dtype) for array in arrays] + outputs
        rows, held = [], []
        for slot, (shape, dtype) in zip(slots, described, strict=True):
            sizes = np.array((*shape, 0), np.int64)
            held += [sizes, dtype]
            mask = _alignment(dtype) - 1
            rows += [0, slot, id(dtype), len(shape) | mask << 32, address_of(sizes)]
        fixed = []
        for buffer in stretch.inputs:
            if buffer.key not in self._graph.inputs:
                array = _usable(self._value(buffer.key, {}, env), buffer.dtype.numpy)
                held.append(array)
                fixed.append((stretch.slots[buffer.key], address_of(array)))
        known = [*self._graph.inputs, *(buffer.key for buffer in stretch.outputs)]
        order = {key: number for number, key in enumerate(known)}
        results: list[tuple[int, Any]] = []
        for value in self._graph.outputs:
            root = self._storage(value)
            if root not in order:
                results.append((-1, self._value(value, {}, env)))
            else:
                results.append((order[root], None if root is value else self._shape(value, env)))
        plain = [(number, None) for number in range(len(arrays), len(known))]
        is_short = layout.nanoseconds < HELD_UNTIL
        return _Prepared(
            layout,
            tuple(value.name for value in self._graph.inputs),
            np.array(rows, np.int64),
            tuple(fixed),
            tuple(outputs),
            None if results == plain else tuple(results),
            self._native_held if is_short else self._native,
            len(stretch.launches),
            tuple(held),
        )

    def _shape(self, value: Any, env: Mapping[str, int]) -> tuple[int, ...]:
        fact = self.compilation.facts[value]
        assert fact.shape is not None
        return tuple(number(dim, env) for dim in fact.shape if dim is not None)

    def _fault(self, stretch: Stretch | None, code: int) -> ExecutionError:
        place = None if stretch is None else stretch.launches[-2 - code].label
        message = "an index is outside of the dimension that it selects from"
        return ExecutionError(message, place=place)

    # -- any steps ------------------------------------------------------------------------------

    def run_steps(
        self, feeds: Mapping[str, Any], run: Any, check: Callable[[], None] | None
    ) -> dict[str, Any]:
        """All outputs by name, step by step."""
        env: dict[str, int] = {}
        values: dict[Any, Any] = {}
        for value in self._graph.inputs:
            given = feeds.get(value.name)
            if given is None:
                if value.const is None:
                    raise SizesDiffer
                continue
            if value.const is not None:
                raise SizesDiffer  # an overridden initializer is not what was compiled
            values[value] = given
            self._bind(value, given, env)
        try:
            frame = self._frames.pop()
        except IndexError:
            frame = Frame()
        try:
            with np.errstate(all="ignore"), enforced(self._limits):
                for step in self.compilation.steps:
                    if isinstance(step, Call):
                        self._call(step, values, env, run)
                    else:
                        self._look_at_sizes(env)
                        self._stretch(step, values, env, frame, check)
                self._look_at_sizes(env)
        finally:
            self._frames.append(frame)
        return {value.name: self._value(value, values, env) for value in self._graph.outputs}

    def _bind(self, value: Value, array: Any, env: dict[str, int]) -> None:
        """Learn sizes from an array, and hold it against what inference said."""
        fact = self.compilation.facts.get(value)
        if fact is None or fact.shape is None or not isinstance(array, np.ndarray):
            return
        if len(fact.shape) != array.ndim:
            raise SizesDiffer
        for dim, size in zip(fact.shape, array.shape, strict=True):
            self._settle(dim, size, env)
        if fact.value is not None and fact.value.dtype == object and fact.value.size == array.size:
            for item, number in zip(fact.value.flat, array.flat, strict=True):
                if isinstance(item, Dim):
                    self._settle(item, int(number), env)

    def _look_at_sizes(self, env: Mapping[str, int]) -> None:
        """Hold sizes that were taken to agree against each other, as far as they are known."""
        for dim, names in self._required:
            if names <= env.keys() and number(dim, env) < 0:
                raise SizesDiffer

    def _settle(self, dim: Any, size: int, env: dict[str, int]) -> None:
        if isinstance(dim, int):
            if dim != size:
                raise SizesDiffer
        elif isinstance(dim, Dim):
            unknown = [str(name) for name in symbols(dim) if str(name) not in env]
            if not unknown:
                if number(dim, env) != size:
                    raise SizesDiffer
            elif str(dim) == unknown[0]:
                env[unknown[0]] = size

    def _value(self, value: Any, values: dict[Any, Any], env: Mapping[str, int]) -> Any:
        """The array of a value: computed, constant, a view of another, or made of sizes."""
        if value in values:
            return values[value]
        if value in self.compilation.constants:
            return self.compilation.constants[value]
        fact = self.compilation.facts.get(value)
        if value in self.compilation.aliases:
            source = self._value(self.compilation.aliases[value], values, env)
            assert fact is not None
            assert fact.shape is not None
            shape = [number(dim, env) for dim in fact.shape if dim is not None]
            return source.reshape(shape)
        if fact is not None and fact.value is not None and fact.dtype is not None:
            return _from_sizes(fact.value, fact.dtype.numpy, env)
        if fact is not None and fact.shape is not None and fact.dtype is not None:
            shape = [number(dim, env) for dim in fact.shape if dim is not None]
            if 0 in shape:
                return np.empty(shape, fact.dtype.numpy)
        raise ExecutionError(f"value {quote(value.name)} has not been computed")

    def _call(self, call: Call, values: dict[Any, Any], env: dict[str, int], run: Any) -> None:
        outputs = self._evaluator.apply(
            call.step, lambda value: self._value(value, values, env), run
        )
        for value, output in zip(call.step.node.outputs, outputs, strict=False):
            if value.name or value.users:
                values[value] = output
                self._bind(value, output, env)

    def _stretch(
        self,
        stretch: Stretch,
        values: dict[Any, Any],
        env: Mapping[str, int],
        frame: Frame,
        check: Callable[[], None] | None,
    ) -> None:
        layout = stretch.layout(env)
        frame.bind(layout, self.threads)
        frame.words[Control.BUDGET] = SLICE if check is None else WATCHED_SLICE
        held = []
        for buffer in stretch.inputs:
            array = _usable(self._value(buffer.key, values, env), buffer.dtype.numpy)
            held.append(array)
            frame.table[stretch.slots[buffer.key]] = address_of(array)
        for buffer in stretch.outputs:
            array = np.empty(layout.shapes[buffer.key], buffer.dtype.numpy)
            values[buffer.key] = array
            frame.table[stretch.slots[buffer.key]] = address_of(array)
        code = frame.finish(self._native(frame.address), self._native, check)
        if code < 0:
            raise self._fault(stretch, code)


def _usable(value: Any, dtype: Any) -> Any:
    """`value` as kernels read it: row by row, aligned to its elements."""
    array = np.ascontiguousarray(value, dtype).reshape(np.shape(value))
    if array.dtype is not dtype:
        array = array.view(dtype)
    return array.copy() if address_of(array) % _alignment(dtype) else array


def _alignment(dtype: Any) -> int:
    """A power of two that addresses of arrays are multiples of."""
    size: int = dtype.itemsize
    return size if size and not size & (size - 1) else 1


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


def _from_sizes(contents: Any, dtype: Any, env: Mapping[str, int]) -> Any:
    bound = active().tensor_bytes
    if contents.size * dtype.itemsize > bound:
        raise exceeded("tensor_bytes", bound, contents.size * dtype.itemsize)
    if contents.dtype != object:
        return contents.astype(dtype, copy=False)
    found = np.empty(contents.shape, dtype)
    flat = found.reshape(-1)
    try:
        for position, item in enumerate(contents.flat):
            flat[position] = number(item, env)
    except OverflowError as error:  # the operators wrap
        raise SizesDiffer from error
    return found
