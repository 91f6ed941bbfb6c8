"""The evaluator."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from sardonyx.autodiff import expand
from sardonyx.errors import ExecutionError, InputError, LimitError, SardonyxError, quote
from sardonyx.limits import DEFAULT, Limits, enforced, exceeded
from sardonyx.ops.bind import lift
from sardonyx.ops.operator import ControlFlow
from sardonyx.reference.constants import Constants
from sardonyx.reference.ledger import Ledger
from sardonyx.reference.plan import Plan, Step, make_plan
from sardonyx.reference.run import Run, begin

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from sardonyx.ir.graph import Graph
    from sardonyx.ir.model import Function, Model
    from sardonyx.ir.node import Attribute, Node
    from sardonyx.ir.value import Value
    from sardonyx.ops.operator import GraphRun

__all__ = ["Evaluator"]


class _Frame:
    """Values of one activation of a graph; `outer` is the activation that encloses it."""

    __slots__ = ("outer", "values")

    def __init__(self, outer: _Frame | None, values: Any) -> None:
        self.outer = outer
        self.values = values

    def get(self, value: Value) -> Any:
        frame: _Frame | None = self
        while frame is not None:
            if value in frame.values:
                return frame.values[value]
            frame = frame.outer
        raise ExecutionError(f"value {quote(value.name)} has not been computed")


class _Reach:
    """Looks like the values of a frame that has them all, and asks somebody else for them."""

    def __init__(self, get: Callable[[Value], Any]) -> None:
        self._get = get

    def __contains__(self, value: object) -> bool:
        return True

    def __getitem__(self, value: Value) -> Any:
        return self._get(value)


class Evaluator:
    """Evaluates `model` node by node.

    Everything is read from the model when the evaluator is made: weights are copied out of
    the file, so that the file may change afterwards. With `lazy`, weights are read when they are
    needed, or by `constants.read`. Gradient nodes are written out first, in a copy. An instance may
    be used from several threads.
    """

    def __init__(self, model: Model, *, limits: Limits = DEFAULT, lazy: bool = False) -> None:
        with enforced(limits):
            model = expand(model)
        self._model = model
        self._limits = limits
        self._plans: dict[tuple[int, int], Plan] = {}
        self._constants = Constants(limits)
        for graph in model.graphs():
            self._add_constants(graph)
        if not lazy:
            self._constants.read()
        self._plan = self._plan_of(model.graph, model.opset_imports, {}, self._plans)

    def run(
        self,
        feeds: Mapping[str, Any],
        outputs: Iterable[str] | None = None,
        *,
        all_values: bool = False,
        cancel: threading.Event | None = None,
    ) -> dict[str, Any]:
        """Evaluate with the graph inputs `feeds`, arrays by name; returns arrays by name.

        `outputs` names any values of the main graph, by default its outputs; `all_values`
        returns every value that was computed in the main graph as well. `cancel`, when set
        from another thread, ends the run with an `ExecutionError` after the current node.
        """
        graph = self._model.graph
        values: dict[Value, Any] = {}
        for value in graph.inputs:
            if value.name in feeds:
                values[value] = feeds[value.name]
            elif value.const is None:
                raise InputError(f"input {quote(value.name)} is missing")
        wanted = [value.name for value in graph.outputs] if outputs is None else list(outputs)
        keep = set(wanted) - {value.name for value in graph.outputs}
        trace: dict[str, Any] | None = {} if all_values or keep else None
        seconds = self._limits.seconds
        deadline = None if seconds is None else time.monotonic() + seconds
        run = Run(deadline, cancel, trace, Ledger(self._limits.memory_bytes))
        frame = _Frame(_Frame(None, self._constants), values)
        with np.errstate(all="ignore"), enforced(self._limits):
            self._execute(self._plan, frame, run)
        found = dict(trace or {})
        found.update({value.name: frame.get(value) for value in graph.outputs})
        missing = [name for name in wanted if name not in found]
        if missing:
            raise InputError(
                f"the model has no value {quote(missing[0])}",
                hint=f"its outputs are {', '.join(quote(value.name) for value in graph.outputs)}",
            )
        return found if all_values else {name: found[name] for name in wanted}

    @property
    def constants(self) -> Constants:
        """The arrays of all initializers, of subgraphs and functions too."""
        return self._constants

    def begin(self, cancel: threading.Event | None = None) -> Run:
        """What a run carries along, for calls of `apply`."""
        return begin(self._limits, cancel)

    def apply(
        self,
        step: Step,
        get: Callable[[Value], Any],
        run: Run,
        graphs: GraphRun | None = None,
    ) -> Sequence[Any]:
        """Evaluate one node; `get` gives the value of an edge, `graphs` runs its subgraphs."""
        run.check(self._limits)
        inputs = [None if value is None else get(value) for value in step.node.inputs]
        reach = _Frame(None, _Reach(get))
        return self._apply(step, inputs, self._plan, reach, run, graphs)

    def _add_constants(self, graph: Graph) -> None:
        stack = [graph]
        while stack:
            current = stack.pop()
            for value in current.initializers:
                self._constants.add(value)
            for node in current.nodes:
                stack.extend(node.subgraphs())

    def _plan_of(
        self,
        graph: Graph,
        opset_imports: Mapping[str, int],
        bound: Mapping[str, Attribute],
        plans: dict[tuple[int, int], Plan],
    ) -> Plan:
        """The plan of `graph`: kept with the evaluator, or with the run where attributes bind."""
        store = plans if bound else self._plans
        key = (id(graph), id(bound) if bound else 0)
        plan = store.get(key)
        if plan is None:
            plan = store[key] = make_plan(self._model, graph, opset_imports, bound)
        return plan

    def _execute(self, plan: Plan, frame: _Frame, run: Run) -> None:
        """Compute every value of `frame`; those that it still holds in the end are given back."""
        run.depth += 1
        if run.depth > self._limits.depth:
            raise exceeded("depth", self._limits.depth, run.depth)
        ledger, values = run.ledger, frame.values
        for value in values.values():
            ledger.take(value)
        for step in plan.steps:
            run.check(self._limits)
            inputs = [None if value is None else frame.get(value) for value in step.node.inputs]
            outputs = self._apply(step, inputs, plan, frame, run)
            for value, output in zip(step.node.outputs, outputs, strict=False):
                if value.name or value.users:
                    self._take(output, step, run)
                    values[value] = output
                    if run.trace is not None and run.depth == 1:
                        ledger.take(output)
                        run.trace[value.name] = output
            for value in step.drops:
                if value in values:
                    ledger.give(values.pop(value))
        ledger.give_all(values.values())
        run.depth -= 1

    def _take(self, output: Any, step: Step, run: Run) -> None:
        try:
            run.ledger.take(output)
        except LimitError as error:
            raise error.at(step.node.label)  # noqa: B904

    def _apply(
        self,
        step: Step,
        inputs: list[Any],
        plan: Plan,
        frame: _Frame,
        run: Run,
        graphs: GraphRun | None = None,
    ) -> Sequence[Any]:
        node = step.node
        try:
            if step.function is not None:
                return self._call(step.function, node, inputs, plan, run)
            outputs = self._compute(step, inputs, plan, frame, run, graphs)
        except SardonyxError as error:
            raise error.at(node.label)  # noqa: B904
        except MemoryError:
            raise LimitError("out of memory", place=node.label) from None
        except (
            ValueError,
            TypeError,
            IndexError,
            ArithmeticError,
            KeyError,
            RuntimeError,
            AttributeError,
            AssertionError,
        ) as error:
            described = ", ".join(_describe(value) for value in inputs)
            raise ExecutionError(
                f"{node.op_type} of {described}: {error}", place=node.label
            ) from error
        if not isinstance(outputs, tuple):
            outputs = (outputs,)
        if len(outputs) < len(node.outputs):
            raise ExecutionError(
                f"{node.op_type} gave {len(outputs)} outputs, {len(node.outputs)} are named",
                place=node.label,
            )
        return tuple(outputs)

    def _compute(
        self,
        step: Step,
        inputs: list[Any],
        plan: Plan,
        frame: _Frame,
        run: Run,
        graphs: GraphRun | None,
    ) -> Any:
        operator, schema = step.operator, step.schema
        assert operator is not None
        assert schema is not None
        arguments = operator.arrange(schema, inputs, lift, step.attributes)
        if not isinstance(operator, ControlFlow):
            return operator.reference(*arguments)

        def run_graph(graph: Graph, given: Sequence[Any]) -> list[Any]:
            if len(given) != len(graph.inputs):
                raise ExecutionError(
                    f"graph {quote(graph.name)} takes {len(graph.inputs)} inputs, got {len(given)}"
                )
            inner = _Frame(frame, dict(zip(graph.inputs, given, strict=True)))
            inner_plan = self._plan_of(graph, plan.opset_imports, plan.bound, run.plans)
            self._execute(inner_plan, inner, run)
            return [inner.get(value) for value in graph.outputs]

        return operator.reference(graphs or run_graph, *arguments)

    def _call(
        self, function: Function, node: Node, inputs: list[Any], plan: Plan, run: Run
    ) -> Sequence[Any]:
        bound = dict(function.defaults)
        for name, attribute in node.attributes.items():
            if attribute.ref:
                if attribute.ref in plan.bound:
                    bound[name] = plan.bound[attribute.ref]
            else:
                bound[name] = attribute
        graph = function.graph
        given = [*inputs, *[None] * (len(graph.inputs) - len(inputs))]
        frame = _Frame(_Frame(None, self._constants), dict(zip(graph.inputs, given, strict=True)))
        opsets = {**self._model.opset_imports, **function.opset_imports}
        try:
            self._execute(self._plan_of(graph, opsets, bound, run.plans), frame, run)
        finally:
            for key in [key for key in run.plans if key[1] == id(bound)]:
                del run.plans[key]
        return [frame.get(value) for value in graph.outputs]


def _describe(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype}{list(value.shape)}"
    if isinstance(value, list):
        return f"a sequence of {len(value)}"
    return "nothing" if value is None else type(value).__name__
