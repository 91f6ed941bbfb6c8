"""`Session`: what users hold to run a model."""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sardonyx.autodiff import expand
from sardonyx.check import examine
from sardonyx.errors import InputError, quote
from sardonyx.ir.model import Model
from sardonyx.ir.types import SparseTensorType, TensorType
from sardonyx.limits import DEFAULT, Limits, enforced
from sardonyx.reference import Evaluator
from sardonyx.runtime.feeds import as_feed
from sardonyx.wire import load

if TYPE_CHECKING:
    import os
    import threading
    from collections.abc import Mapping, Sequence

    from sardonyx.ir.value import Value
    from sardonyx.runtime.compilation import Explanation
    from sardonyx.runtime.compiled import CompiledModel

__all__ = ["NodeArg", "Session"]


@dataclass(frozen=True, slots=True)
class NodeArg:
    """An input or output of a model.

    `type` is a type string, ``tensor(float)`` say; `shape` has an int, a symbol's name or None
    for each dimension, and is empty for what is no tensor or has no known rank.
    """

    name: str
    type: str
    shape: list[int | str | None]


class Session:
    """A model ready to run.

    `source` is a path, the bytes of a file, or a `Model`. The model is checked, and everything
    needed is read when the session is made: the file may change or go away afterwards; in the rare
    run that the reference takes over, weights that were packed are read again, and one whose file
    was written to meanwhile is an `ExecutionError`. `threads`
    is how many threads a run may use (default: one for each core that this process may use; on
    Windows there is one). Calls of `run` from several threads at once are safe.

    The model is compiled to native code; nodes that are not compiled run on their NumPy
    reference, and `explain` says which. With `compile=False` all do. `precision` is ``"fast"``,
    or ``"strict"`` to round after every operation that the model writes.
    """

    def __init__(
        self,
        source: str | os.PathLike[str] | bytes | Model,
        *,
        threads: int | None = None,
        compile: bool = True,
        precision: str = "fast",
        limits: Limits = DEFAULT,
    ) -> None:
        if precision not in {"fast", "strict"}:
            raise InputError(f"precision is {precision!r}", hint="it is 'fast' or 'strict'")
        if threads is not None and threads < 1:
            raise InputError(f"threads is {threads}, it must be at least 1")
        from sardonyx.runtime.threads import resolve

        self.threads = resolve(threads)
        clock = _Clock()
        model = source if isinstance(source, Model) else load(source, limits=limits)
        clock.lap("open")
        report, inference = examine(model, to_run=True, limits=limits)
        report.raise_errors()
        clock.lap("check")
        if compile:
            from sardonyx.runtime.prepare import prepare

            model = prepare(model, limits, inference.facts if inference else None)
            clock.lap("prepare")
        del inference
        self._inputs = {value.name: value.type for value in model.graph.inputs}
        self._required = [value.name for value in model.graph.required_inputs]
        self._arguments = [_node_arg(value) for value in model.graph.required_inputs]
        self._overridable = [_node_arg(v) for v in model.graph.inputs if v.const is not None]
        self._results = [_node_arg(value) for value in model.graph.outputs]
        self._output_names = [result.name for result in self._results]
        with enforced(limits):
            model = expand(model)
        self._evaluator = Evaluator(model, limits=limits, lazy=compile)
        clock.lap("read")
        self._compiled: CompiledModel | None = None
        if compile:
            self._compiled = _compiled(
                model, self._evaluator, limits, strict=precision == "strict", threads=self.threads
            )
            self._evaluator.constants.read()
            clock.lap("compile")
        self.timing: dict[str, float] = clock.laps

    def run(
        self,
        output_names: Sequence[str] | None,
        feeds: Mapping[str, Any],
        *,
        cancel: threading.Event | None = None,
    ) -> list[Any]:
        """Compute outputs (all, or those in `output_names`) for the inputs in `feeds`.

        Tensors are NumPy arrays (ml_dtypes for bfloat16 and the other small types), sequences
        lists, maps dicts, an absent optional None. Raises `InputError` for feeds that do not
        fit, `ExecutionError` where a node fails on the data, and when `cancel` is set.
        """
        wants_all = output_names is None or output_names == self._output_names
        if wants_all and cancel is None and self._compiled is not None:
            prepared = self._compiled.run_prepared(feeds)
            if prepared is not None:
                return prepared
        for name in feeds:
            if name not in self._inputs:
                known = ", ".join(quote(name) for name in self._inputs)
                raise InputError(f"the model has no input {quote(name)}", hint=f"it has {known}")
        missing = [name for name in self._required if name not in feeds]
        if missing:
            listed = ", ".join(quote(name) for name in missing)
            raise InputError(f"input {listed} is missing")
        known_outputs = self._output_names
        wanted = known_outputs if output_names is None else list(output_names)
        for name in wanted:
            if name not in known_outputs:
                listed = ", ".join(quote(output) for output in known_outputs)
                raise InputError(f"the model has no output {quote(name)}", hint=f"it has {listed}")
        checked = {name: as_feed(name, feeds[name], self._inputs[name]) for name in feeds}
        found = self._run(checked, wanted, cancel)
        return [found[name] for name in wanted]

    def _run(
        self, feeds: Mapping[str, Any], wanted: Sequence[str], cancel: threading.Event | None
    ) -> Mapping[str, Any]:
        if self._compiled is not None:
            from sardonyx.runtime.compiled import SizesDiffer

            try:
                return self._compiled.run(feeds, cancel)
            except SizesDiffer:
                pass
        return self._evaluator.run(feeds, wanted, cancel=cancel)

    @property
    def compiled(self) -> CompiledModel | None:
        """What runs the model natively; None where all of it runs on the NumPy reference."""
        return self._compiled

    def explain(self) -> list[Explanation]:
        """What became of the model's nodes: which are one kernel, and what is not compiled."""
        return [] if self._compiled is None else list(self._compiled.compilation.explanations)

    def get_inputs(self) -> list[NodeArg]:
        """The inputs that a caller must feed."""
        return list(self._arguments)

    def get_outputs(self) -> list[NodeArg]:
        """The outputs, in the order in which `run` returns them."""
        return list(self._results)

    def get_overridable_initializers(self) -> list[NodeArg]:
        """The inputs that have a default and need not be fed."""
        return list(self._overridable)


class _Clock:
    """Seconds that each step of making a session took."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.laps[name] = now - self._last
        self._last = now


def _compiled(
    model: Model, evaluator: Evaluator, limits: Limits, *, strict: bool, threads: int
) -> CompiledModel | None:
    """The compiled model; None, with a warning, where the compiler itself fails."""
    from sardonyx.codegen.native import CompileError
    from sardonyx.loops.check import KernelError
    from sardonyx.runtime.compiled import CompiledModel

    try:
        return CompiledModel(model, evaluator, limits, strict=strict, threads=threads)
    except (CompileError, KernelError) as error:
        warnings.warn(
            f"the model runs on the NumPy reference: {error}", RuntimeWarning, stacklevel=3
        )
        return None


def _node_arg(value: Value) -> NodeArg:
    known = value.type
    shape: list[int | str | None] = []
    if isinstance(known, (TensorType, SparseTensorType)) and known.shape is not None:
        shape = [dim if dim is None or isinstance(dim, int) else str(dim) for dim in known.shape]
    return NodeArg(value.name, str(known), shape)
