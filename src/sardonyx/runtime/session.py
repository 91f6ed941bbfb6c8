"""`Session`: what users hold to run a model."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sardonyx.check import validate
from sardonyx.errors import InputError, quote
from sardonyx.ir.model import Model
from sardonyx.ir.types import SparseTensorType, TensorType
from sardonyx.limits import DEFAULT, Limits
from sardonyx.reference import Evaluator
from sardonyx.runtime.feeds import as_feed
from sardonyx.wire import load

if TYPE_CHECKING:
    import threading
    from collections.abc import Mapping, Sequence

    from sardonyx.ir.value import Value

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
    needed is read when the session is made: the file may change or go away afterwards. `threads`
    is how many threads a run may use (default: what affinity allows). Calls of `run` from
    several threads at once are safe.
    """

    def __init__(
        self,
        source: str | os.PathLike[str] | bytes | Model,
        *,
        threads: int | None = None,
        limits: Limits = DEFAULT,
    ) -> None:
        if threads is not None and threads < 1:
            raise InputError(f"threads is {threads}, it must be at least 1")
        self.threads = threads or _available_threads()
        model = source if isinstance(source, Model) else load(source, limits=limits)
        validate(model, limits=limits).raise_errors()
        self._inputs = {value.name: value.type for value in model.graph.inputs}
        self._required = [value.name for value in model.graph.required_inputs]
        self._arguments = [_node_arg(value) for value in model.graph.required_inputs]
        self._overridable = [_node_arg(v) for v in model.graph.inputs if v.const is not None]
        self._results = [_node_arg(value) for value in model.graph.outputs]
        self._evaluator = Evaluator(model, limits=limits)

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
        for name in feeds:
            if name not in self._inputs:
                known = ", ".join(quote(name) for name in self._inputs)
                raise InputError(f"the model has no input {quote(name)}", hint=f"it has {known}")
        missing = [name for name in self._required if name not in feeds]
        if missing:
            listed = ", ".join(quote(name) for name in missing)
            raise InputError(f"input {listed} is missing")
        known_outputs = [result.name for result in self._results]
        wanted = known_outputs if output_names is None else list(output_names)
        for name in wanted:
            if name not in known_outputs:
                listed = ", ".join(quote(output) for output in known_outputs)
                raise InputError(f"the model has no output {quote(name)}", hint=f"it has {listed}")
        checked = {name: as_feed(name, feeds[name], self._inputs[name]) for name in feeds}
        found = self._evaluator.run(checked, wanted, cancel=cancel)
        return [found[name] for name in wanted]

    def get_inputs(self) -> list[NodeArg]:
        """The inputs that a caller must feed."""
        return list(self._arguments)

    def get_outputs(self) -> list[NodeArg]:
        """The outputs, in the order in which `run` returns them."""
        return list(self._results)

    def get_overridable_initializers(self) -> list[NodeArg]:
        """The inputs that have a default and need not be fed."""
        return list(self._overridable)


def _available_threads() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _node_arg(value: Value) -> NodeArg:
    known = value.type
    shape: list[int | str | None] = []
    if isinstance(known, (TensorType, SparseTensorType)) and known.shape is not None:
        shape = [dim if dim is None or isinstance(dim, int) else str(dim) for dim in known.shape]
    return NodeArg(value.name, str(known), shape)
