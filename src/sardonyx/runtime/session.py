"""`Session`: what users hold to run a model."""

from __future__ import annotations

import threading
import time
import warnings
from typing import TYPE_CHECKING, Any

from sardonyx.errors import ExecutionError, InputError, quote
from sardonyx.ir.model import Model
from sardonyx.limits import DEFAULT, Limits, enforced
from sardonyx.runtime.feeds import as_feed
from sardonyx.runtime.signature import NodeArg, signature_of
from sardonyx.wire import load

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from sardonyx.reference import Evaluator
    from sardonyx.runtime.compilation import Explanation
    from sardonyx.runtime.compiled import CompiledModel
    from sardonyx.runtime.stored import Contents

__all__ = ["NodeArg", "Session"]


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
        self._limits = limits
        self._strict = precision == "strict"
        self._lock = threading.Lock()
        self._evaluator: Evaluator | None = None
        self._compiled: CompiledModel | None = None
        self._contents: Contents | None = None
        clock = _Clock()
        model = source if isinstance(source, Model) else load(source, limits=limits)
        clock.lap("open")
        if compile and model is not source:
            self._recall(model, source)
            clock.lap("recall")
        self._model = model
        if self._compiled is None:
            self._make(clock, compile=compile)
            self._keep()
            clock.lap("keep")
        self.timing: dict[str, float] = clock.stop()

    def _recall(self, model: Model, source: object) -> None:
        """Have the program that was kept when this model was compiled before, if it was."""
        from sardonyx.runtime.stored import contents_of, recall

        self._contents = contents_of(model, source, self._limits, strict=self._strict)
        if self._contents is not None:
            found = recall(
                self._contents, model, self._limits, strict=self._strict, threads=self.threads
            )
            if found is not None:
                self._signature, self._compiled = found

    def _keep(self) -> None:
        """Keep the program that was made, for sessions to come."""
        if self._contents is None or self._compiled is None or self._evaluator is None:
            return
        from sardonyx.runtime.stored import keep

        constants = self._evaluator.constants
        keep(self._contents, self._model, self._signature, self._compiled, constants)

    def _make(self, clock: _Clock, *, compile: bool) -> None:
        """Check the model, and make what runs it."""
        from sardonyx.autodiff import expand
        from sardonyx.check import examine
        from sardonyx.reference import Evaluator

        model, limits = self._model, self._limits
        report, inference = examine(model, to_run=True, limits=limits)
        report.raise_errors()
        clock.lap("check")
        if compile:
            from sardonyx.runtime.prepare import prepare

            model = prepare(model, limits, inference.facts if inference else None)
            clock.lap("rewrite")
        del inference
        self._signature = signature_of(model)
        with enforced(limits):
            model = expand(model)
        evaluator = Evaluator(model, limits=limits, lazy=compile)
        clock.lap("read")
        if compile:
            self._compiled = _compiled(
                model, evaluator, limits, strict=self._strict, threads=self.threads, clock=clock
            )
            evaluator.constants.read()
            clock.lap("schedule")
        self._evaluator = evaluator

    def _completed(self) -> Evaluator:
        """The reference, made now for a session that began with a program that was kept."""
        with self._lock:
            if self._evaluator is None:
                if self._contents is not None and not self._contents.are_unchanged:
                    raise ExecutionError(
                        "the file of the model was changed",
                        hint="this run needs what only the file has; make the session again",
                    )
                self._make(_Clock(), compile=True)
            assert self._evaluator is not None
            return self._evaluator

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
        signature = self._signature
        known_outputs = [result.name for result in signature.results]
        wants_all = output_names is None or output_names == known_outputs
        if wants_all and cancel is None and self._compiled is not None:
            prepared = self._compiled.run_prepared(feeds)
            if prepared is not None:
                return prepared
        for name in feeds:
            if name not in signature.inputs:
                known = ", ".join(quote(name) for name in signature.inputs)
                raise InputError(f"the model has no input {quote(name)}", hint=f"it has {known}")
        missing = [each.name for each in signature.required if each.name not in feeds]
        if missing:
            listed = ", ".join(quote(name) for name in missing)
            raise InputError(f"input {listed} is missing")
        wanted = known_outputs if output_names is None else list(output_names)
        for name in wanted:
            if name not in known_outputs:
                listed = ", ".join(quote(output) for output in known_outputs)
                raise InputError(f"the model has no output {quote(name)}", hint=f"it has {listed}")
        checked = {name: as_feed(name, feeds[name], signature.inputs[name]) for name in feeds}
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
        return self._completed().run(feeds, wanted, cancel=cancel)

    @property
    def compiled(self) -> CompiledModel | None:
        """What runs the model natively; None where all of it runs on the NumPy reference."""
        return self._compiled

    def complete(self) -> None:
        """Compile the model, if the session began with the program of an earlier one.

        `compiled` then knows loops and nodes. Raises `ExecutionError` where the model's file was
        written to since.
        """
        self._completed()

    def explain(self) -> list[Explanation]:
        """What became of the model's nodes: which are one kernel, and what is not compiled."""
        self.complete()
        compiled = self._compiled
        return [] if compiled is None else list(compiled.compilation.explanations)

    def get_inputs(self) -> list[NodeArg]:
        """The inputs that a caller must feed."""
        return list(self._signature.required)

    def get_outputs(self) -> list[NodeArg]:
        """The outputs, in the order in which `run` returns them."""
        return list(self._signature.results)

    def get_overridable_initializers(self) -> list[NodeArg]:
        """The inputs that have a default and need not be fed."""
        return list(self._signature.overridable)


class _Clock:
    """Seconds that each step of making a session took."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last: float | None = time.perf_counter()

    def lap(self, name: str) -> None:
        """Count what passed since the last lap as `name`."""
        if self._last is None:
            return  # a program for other conditions, made in a run
        now = time.perf_counter()
        self.laps[name] = self.laps.get(name, 0.0) + now - self._last
        self._last = now

    def stop(self) -> dict[str, float]:
        """The laps, to which no more are added."""
        self._last = None
        return dict(self.laps)


def _compiled(
    model: Model,
    evaluator: Evaluator,
    limits: Limits,
    *,
    strict: bool,
    threads: int,
    clock: _Clock,
) -> CompiledModel | None:
    """The compiled model; None, with a warning, where the compiler itself fails."""
    from sardonyx.codegen.native import CompileError
    from sardonyx.loops.check import KernelError
    from sardonyx.runtime.compiled import compile_model

    try:
        return compile_model(
            model, evaluator, limits, strict=strict, threads=threads, lap=clock.lap
        )
    except (CompileError, KernelError) as error:
        warnings.warn(
            f"the model runs on the NumPy reference: {error}", RuntimeWarning, stacklevel=3
        )
        return None
