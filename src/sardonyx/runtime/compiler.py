"""From a checked model to its steps: what is compiled, what is fused, what is left to `reference`.

::

    model ── infer ──▶ facts ── lower ──▶ groups ── fuse ──▶ launches ── LLVM ──▶ stretches
                                  │
                                  └─ not lowered: a `Call` of the operator's reference

The bodies of control flow are compiled in the same way, each to a `Compilation` of its own.
"""

from __future__ import annotations

import warnings
from collections import ChainMap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from sardonyx import dtypes
from sardonyx.codegen.build import addresses_of, runner_library
from sardonyx.codegen.machine import host
from sardonyx.codegen.native import CompileError
from sardonyx.dims import Dim, known_equal, symbols
from sardonyx.infer import infer
from sardonyx.limits import enforced
from sardonyx.loops.check import KernelError
from sardonyx.loops.nest import (
    Lowering,
    Nest,
    NotLowered,
    Source,
    Steps,
    Temporary,
    View,
    is_number,
    reads,
)
from sardonyx.lowering import count, is_counted, lower
from sardonyx.ops.bind import lift
from sardonyx.ops.control import If
from sardonyx.ops.generate import Constant
from sardonyx.ops.operator import ControlFlow
from sardonyx.reference.plan import captured, make_plan
from sardonyx.runtime.assembly import Assembly, Lifted, known_shape
from sardonyx.runtime.compilation import Call, Compilation, Explanation, Fork, captured_by
from sardonyx.runtime.conditions import condition_of
from sardonyx.runtime.program import Stretch
from sardonyx.schedule.chains import join_chains
from sardonyx.schedule.fuse import Fuser, Group
from sardonyx.schedule.launches import Launcher

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator

    from sardonyx.dims import DimLike
    from sardonyx.ir.graph import Graph
    from sardonyx.ir.model import Model
    from sardonyx.ir.node import Node
    from sardonyx.ir.value import Value
    from sardonyx.limits import Limits
    from sardonyx.ops.fact import Fact
    from sardonyx.reference.constants import Constants
    from sardonyx.reference.plan import Step
    from sardonyx.runtime.conditions import Condition
    from sardonyx.schedule.launch import Launch

__all__ = ["compile_graph"]

_DEEPEST: Final = 16
"""Bodies within bodies up to which they are compiled."""
_MOST_VARIANTS: Final = 16
"""Outcomes of conditions, of all that were met, for which programs are compiled."""
_SYMBOLS: Final = 10**9
"""Symbols that one inference may make: those of another have other numbers."""

_MOST_AXES = 64
"""NumPy's arrays have no more."""


def compile_graph(
    model: Model,
    constants: Constants,
    limits: Limits,
    *,
    strict: bool = False,
    lap: Callable[[str], None] | None = None,
) -> Compilation:
    """Compile the main graph of `model`; `constants` are the initializers' arrays.

    Those that are packed, and that nobody else reads, are released. With `strict` a product and a
    sum are rounded one after the other. `lap` is called after each ``schedule``, ``compile`` and
    ``pack``.
    """
    with enforced(limits):
        whole = _Whole(_Source(model, constants, limits, strict, lap or _unnoticed), {})
        return _Compiler(whole, (model.graph,)).compile()


def _unnoticed(_lap: str) -> None:
    """What nobody measures."""


def _owned(array: Any) -> Any:
    """`array` in memory of its own: a view of a mapped file would change and vanish with it."""
    return array.copy() if isinstance(array, np.ndarray) and array.base is not None else array


def _symbols(dims: Iterable[Any]) -> set[str]:
    return {str(name) for dim in dims if isinstance(dim, Dim) for name in symbols(dim)}


def _contents(fact: Fact) -> Iterable[Any]:
    value = fact.value
    return () if value is None or value.dtype != object else value.reshape(-1).tolist()


def _is_native(program: Compilation) -> bool:
    """Whether native code runs in `program`, or nothing does at all."""
    steps = program.steps
    inner = [body for step in steps if isinstance(step, Call) for body in step.bodies.values()]
    return not steps or any(isinstance(s, Stretch) for s in steps) or any(map(_is_native, inner))


@dataclass(slots=True)
class _Source:
    """What is compiled, and how many programs for outcomes of conditions were made of it."""

    model: Model
    constants: Constants
    limits: Limits
    strict: bool
    lap: Callable[[str], None]
    variants: int = 0


class _Whole:
    """What is known of a model where the conditions `decisions` have these outcomes.

    `shaping` are the symbols that shapes are made of.
    """

    def __init__(self, source: _Source, decisions: dict[Value, Any]) -> None:
        self.source = source
        self.decisions = decisions
        self.constants: ChainMap[Any, Any] = ChainMap({}, source.constants)  # type: ignore[arg-type]
        first = source.variants * _SYMBOLS
        source.variants += 1
        found = infer(source.model, known=decisions, first=first, limits=source.limits)
        self.facts: dict[Any, Fact] = {
            value: fact if fact.value is None else fact.with_value(_owned(fact.value))
            for value, fact in found.facts.items()
        }
        self.shaping = {name for f in self.facts.values() for name in _symbols(f.shape or ())}

    def release(self, value: Value) -> None:
        """Give up a constant, unless programs for other outcomes may need it."""
        if not self.decisions:
            self.source.constants.release(value)


class _Forked(Exception):  # noqa: N818 - it steers, it is no failure
    """A condition that sizes decide."""

    def __init__(
        self, value: Value, shape: tuple[int, ...], label: str, condition: Condition
    ) -> None:
        super().__init__()
        self.value = value
        self.shape = shape
        self.label = label
        self.condition = condition


class _Compiler(Assembly):
    """Compiles the last of `graphs`, which lies in those before it.

    `settled` are the sizes that a run knows when it begins, as far as the graph's inputs and what
    it captures do not say them. With `forks` a condition that follows from sizes is decided first.
    """

    def __init__(
        self,
        whole: _Whole,
        graphs: tuple[Graph, ...],
        settled: Iterable[str] = (),
        *,
        forks: bool = True,
    ) -> None:
        source = whole.source
        super().__init__(
            whole.facts,
            whole.constants,
            set(graphs[-1].outputs),
            whole.release,
            source.constants.identity,
            (host(), source.strict),
        )
        self.whole = whole
        self.graphs = graphs
        self.graph = graphs[-1]
        self.forks = forks
        self.machine = host()
        self.renamed: set[Value] = set()
        self.explained: list[Explanation | Compilation] = []
        self.uses: dict[Hashable, int] = {}
        self.temporaries: dict[Node, list[tuple[Temporary, Any]]] = {}
        self.counts: dict[Node, tuple[list[tuple[Temporary, Any]], tuple[Source, ...]]] = {}
        self.own: set[Value] = set(self.graph.inputs)
        self.settled = set(settled)
        self.required: dict[DimLike, None] = {}
        for value in self.graph.inputs:
            self.settle(self.facts.get(value))
        self.at_first = frozenset(self.settled)

    # -- what is compiled -----------------------------------------------------------------------

    def compile(self) -> Compilation:
        """The program of the graph. Raises what making machine code raises."""
        try:
            lowered = list(self.lowered(self.graph))
        except _Forked as fork:
            return self.forked(fork)
        for step, found in lowered:
            self.note_readers(step, found)
        fuser = Fuser(self.is_kept, lambda value: self.uses.get(value, 0))
        for step, found in lowered:
            self.schedule_step(step, found, fuser)
        for waiting in list(fuser.pending):
            if self.is_kept(waiting):
                fuser.materialize(waiting)
        join_chains(fuser.done, self.is_kept)
        return self.assemble(fuser)

    def lowered(self, graph: Graph) -> Iterator[tuple[Step, tuple[Any, ...] | Call]]:
        """The nodes of `graph` in order, and what each becomes."""
        model = self.whole.source.model
        for step in make_plan(model, graph, model.opset_imports, {}).steps:
            self.own.update(step.node.outputs)
            branch = self.branch(step)
            if branch is not None:
                yield from self.lowered(branch)
                yield step, tuple(self.renamings(step, branch))
                continue
            found: tuple[Any, ...] | Call
            try:
                counted = self.counted(step)
                if counted is not None:
                    yield step, counted
                found = self.found(step)
            except NotLowered as reason:
                found = Call(step, str(reason))
            if isinstance(found, Call):
                for value in step.node.outputs:
                    self.settle(self.facts.get(value))
            yield step, found

    # -- control flow ---------------------------------------------------------------------------

    def outcome(self, step: Step) -> bool | None:
        """What the condition of an If is, where it is known."""
        condition = step.node.inputs[0] if step.node.inputs else None
        fact = None if condition is None else self.facts.get(condition)
        known = None if fact is None else fact.constant_value()
        return None if known is None or known.size != 1 else bool(known.reshape(-1)[0])

    def branch(self, step: Step) -> Graph | None:
        """The branch of an If that is always taken."""
        if not isinstance(step.operator, If):
            return None
        outcome = self.outcome(step)
        if outcome is None:
            return None
        graph = step.operator.then_branch if outcome else step.operator.else_branch
        return graph if len(graph.outputs) == len(step.node.outputs) else None

    def renamings(self, step: Step, branch: Graph) -> Iterator[Any]:
        """The outputs of an If as those of the branch that is in its place."""
        for value, result in zip(step.node.outputs, branch.outputs, strict=True):
            self.renamed.add(value)
            fact = self.facts.get(value)
            shape = known_shape(fact)
            dtype = None if fact is None else fact.dtype
            if shape is None or dtype is None or not is_number(dtype):
                self.kept.add(result)
                self.aliases[value] = result
                yield None
            else:
                yield View(shape, dtype, result)

    def control(self, step: Step) -> Call:
        """A control flow node whose bodies are compiled."""
        if len(self.graphs) > _DEEPEST:
            raise NotLowered(f"control flow within {_DEEPEST} other bodies")
        is_branch = isinstance(step.operator, If)
        outcome = self.outcome(step) if is_branch else None
        if is_branch and outcome is None and self.forks and step.node.inputs:
            value = step.node.inputs[0]
            shape = None if value is None else known_shape(self.facts.get(value))
            if value is not None and shape is not None and set(shape) <= {1}:
                condition = condition_of(value, self.facts)
                if condition is not None and condition.symbols() <= self.at_first:
                    raise _Forked(value, (1,) * len(shape), step.node.label, condition)
        bodies = {}
        for graph in step.node.subgraphs():
            if outcome is None or graph is self.branch(step):
                forks = self.forks and is_branch
                inner = _Compiler(self.whole, (*self.graphs, graph), self.settled, forks=forks)
                bodies[graph] = inner.compile()
        if not any(_is_native(body) for body in bodies.values()):
            raise NotLowered("control flow, nothing in it is compiled")
        return Call(step, "", bodies)

    def forked(self, fork: _Forked) -> Compilation:
        """A program that decides the condition of `fork` first."""
        whole, graphs, settled = self.whole, self.graphs, self.at_first
        outside = captured_by(self.graph)

        def make(outcome: bool) -> Compilation | None:
            try:
                return program(outcome)
            except (CompileError, KernelError) as error:
                text = f"runs of some sizes go on the NumPy reference: {error}"
                warnings.warn(text, RuntimeWarning, stacklevel=2)
                return None

        def program(outcome: bool) -> Compilation:
            source = whole.source
            with enforced(source.limits):
                if source.variants > _MOST_VARIANTS:
                    return _Compiler(whole, graphs, settled, forks=False).compile()
                known = np.full(fork.shape, outcome)
                decided = _Whole(source, {**whole.decisions, fork.value: known})
                inner = _Compiler(decided, graphs)
                for other in (*(v for graph in graphs for v in graph.inputs), *outside):
                    inner.settle(decided.facts.get(other))
                inner.at_first = frozenset(inner.settled)
                found = inner.compile()
                found.is_decided = True
                return found

        reason = "sizes decide which branch is compiled"
        return Compilation(
            self.graph,
            frozenset(self.own),
            self.facts,
            self.constants,
            runner_library(self.machine).address("sardonyx_run"),
            explained=[Explanation("control", (fork.label,), reason)],
            fork=Fork(fork.condition, outside, make),
        )

    # -- definitions ----------------------------------------------------------------------------

    def is_kept(self, value: Hashable) -> bool:
        return value in self.kept

    def is_constant(self, value: Hashable) -> bool:
        return self.storage(value) in self.constants

    def settle(self, fact: Fact | None) -> None:
        """Note the sizes that a run learns from a value that is fed, or that `reference` made."""
        if fact is None or fact.shape is None:
            return
        contents = _contents(fact)
        if len(self.graphs) > 1:
            # what is another in each trip is data, if it may be
            contents = [item for item in contents if str(item) in self.whole.shaping]
        for dim in (*fact.shape, *contents):
            if isinstance(dim, Dim) and [str(name) for name in symbols(dim)] == [str(dim)]:
                self.settled.add(str(dim))

    def is_settled(self, dims: Any) -> bool:
        """Whether a run knows the sizes that `dims` are made of."""
        return _symbols(dims) <= self.settled

    def counted(self, step: Step) -> Call | None:
        """What a run learns a size of a node's outputs from, where native code can count it."""
        operator = step.operator
        if operator is None or not is_counted(operator.domain, operator.op_type):
            return None
        facts = [self.facts.get(value) for value in step.node.outputs]
        dims = [dim for fact in facts for dim in known_shape(fact) or ()]
        open_ = _symbols(dims) - self.settled
        name = next(iter(open_), "")
        if len(open_) != 1 or name not in map(str, dims):
            return None
        k = Lowering()
        counted = count(operator, k, self.arranged(step))
        self.counts[step.node] = k.temporaries, counted
        self.constants.update(k.constants)
        self.required.update(dict.fromkeys(k.required))
        self.kept.add(counted[0].buffer)
        self.settled.add(name)
        return Call(step, "", count=(counted[0].buffer, name))

    def arranged(self, step: Step) -> list[Any]:
        """The inputs of a node in the newest form of its operator."""
        assert step.operator is not None
        assert step.schema is not None
        inputs = [None if value is None else self.source(value) for value in step.node.inputs]
        return list(step.operator.arrange(step.schema, inputs, self.lifted, step.attributes))

    def found(self, step: Step) -> tuple[Any, ...] | Call:
        """A node's definitions, or the call of it; raises NotLowered with the reason."""
        if isinstance(step.operator, ControlFlow):
            return self.control(step)
        return self.definitions(step)

    def definitions(self, step: Step) -> tuple[Any, ...]:
        """The definitions of a node's outputs; raises NotLowered with the reason."""
        operator = step.operator
        if operator is None or step.schema is None:
            raise NotLowered("a call of a function")
        if isinstance(operator, Constant):
            self.constants[step.node.outputs[0]] = _owned(operator.reference())
            return ()
        outputs = []
        for value in step.node.outputs:
            fact = self.facts.get(value)
            shape = known_shape(fact)
            if fact is None or fact.dtype is None or shape is None:
                raise NotLowered(f"the shape of {value.name!r} is decided by data")
            if not self.is_settled(shape):
                raise NotLowered(f"the shape of {value.name!r} is known when it runs")
            if len(shape) > _MOST_AXES:
                raise NotLowered(f"{value.name!r} has {len(shape)} axes")
            outputs.append((fact.dtype, shape))
            if (_symbols(_contents(fact)) - self.settled) & self.whole.shaping:
                raise NotLowered(f"{value.name!r} decides the shapes of other values")
        if all(self.is_known(value) for value in step.node.outputs):
            return ()
        k = Lowering(outputs, step.node.outputs)
        _, k.counted = self.counts.get(step.node, ((), ()))
        found = lower(operator, k, self.arranged(step))
        self.temporaries[step.node] = k.temporaries
        self.constants.update(k.constants)
        self.required.update(dict.fromkeys(k.required))
        for definition, (dtype, shape) in zip(found, outputs, strict=False):
            agree = len(definition.shape) == len(shape) and all(
                known_equal(a, b) for a, b in zip(definition.shape, shape, strict=True)
            )
            if definition.dtype is not dtype or not agree:
                raise NotLowered(f"the rule of {operator.op_type} gives another type or shape")
        return found

    def is_known(self, value: Value) -> bool:
        """Whether inference knows all elements, as numbers or as expressions of the sizes."""
        fact = self.facts.get(value)
        if fact is None or fact.value is None or fact.dtype is None or not is_number(fact.dtype):
            return False
        if fact.value.dtype != object:
            return True
        if not fact.dtype.is_integer or not self.is_settled(fact.value.flat):
            return False
        return all(isinstance(item, (int, Dim)) for item in fact.value.flat)

    def source(self, value: Value) -> Source:
        fact = self.facts.get(value)
        shape = known_shape(fact)
        if fact is None or fact.dtype is None or shape is None:
            raise NotLowered(f"the shape of {value.name!r} is decided by data")
        contents = fact.value
        if contents is None or contents.dtype != object:
            return Source(value, fact.dtype, shape, contents)
        is_known = fact.dtype.is_integer and self.is_settled(contents.flat)
        return Source(value, fact.dtype, shape, contents if is_known else None)

    def lifted(self, name: str, value: Any) -> Source:
        """An attribute that is an input in the newest form."""
        array = np.asarray(lift(name, value))
        key = Lifted(array)
        self.constants[key] = array
        return Source(key, dtypes.from_numpy(array.dtype), array.shape, array)

    def note_readers(self, step: Step, found: tuple[Any, ...] | Call) -> None:
        """Count who reads which values, and note which must lie in memory."""
        if isinstance(found, Call) and found.count is not None:
            for _, definition in self.counts[step.node][0]:
                own = definition.results if isinstance(definition, Steps) else ()
                for read in reads(definition) - set(own):
                    self.uses[read] = self.uses.get(read, 0) + 1
            return
        if isinstance(found, Call):
            for value in (*step.node.inputs, *captured(step.node)):
                if value is not None:
                    self.kept.add(value)
            return
        each: dict[Hashable, set[Hashable]] = {
            temporary: reads(definition)
            for temporary, definition in self.temporaries.get(step.node, ())
        }
        for value, definition in zip(step.node.outputs, found, strict=False):
            if definition is None:
                continue
            made = definition.results if isinstance(definition, Steps) else (value,)
            each[made] = reads(definition) - set(made)
        counted = [value for read in each.values() for value in read]
        if all(isinstance(definition, Nest) and definition.is_pure for definition in found):
            # parts of one value, each element of which is read once
            counted = list(dict.fromkeys(counted))
        for read in counted:
            self.uses[read] = self.uses.get(read, 0) + 1

    def schedule_step(
        self,
        step: Step,
        found: tuple[Any, ...] | Call,
        fuser: Fuser,
    ) -> None:
        if isinstance(found, Call) and found.count is not None:
            for temporary, definition in self.counts[step.node][0]:
                fuser.add(Group(temporary, definition, [step.node.label]))
            fuser.done["count", step.node] = found  # type: ignore[assignment]
            return
        if isinstance(found, Call):
            for value in (*step.node.inputs, *captured(step.node)):
                if value is not None:
                    fuser.materialize(value)
            fuser.done[step.node] = found  # type: ignore[assignment]
            kind = "control" if found.bodies else "reference"
            self.explained.append(Explanation(kind, (step.node.label,), found.reason))
            self.explained += found.bodies.values()
            return
        if not found:
            self.explained.append(Explanation("sizes", (step.node.label,)))
            return
        for temporary, definition in self.temporaries.get(step.node, ()):
            fuser.add(Group(temporary, definition, [step.node.label]))
        made: set[Hashable] = set()
        outputs = [pair for pair in zip(step.node.outputs, found, strict=False) if pair[1]]
        # an output that others are made of comes before them
        outputs.sort(key=lambda item: len(reads(item[1]) & ({*step.node.outputs} - {item[0]})))
        for value, definition in outputs:
            if value in made:
                continue
            if isinstance(definition, Steps):
                made.update(definition.results)
                if any(self.uses.get(r) or self.is_kept(r) for r in definition.results):
                    fuser.add(Group(value, definition, [step.node.label]))
                continue
            if self.is_known(value) or not (value.name or value.users):
                continue
            if not self.uses.get(value) and not self.is_kept(value):
                continue
            fuser.add(Group(value, definition, [step.node.label]))

    # -- from groups to stretches ---------------------------------------------------------------

    def assemble(self, fuser: Fuser) -> Compilation:
        shape_of = self.shape_of
        launcher = Launcher(shape_of, self.dtype_of, self.machine, self.is_constant)
        runs: list[list[Launch] | Call] = []
        items: list[Any] = list(fuser.done.values())
        for item in items:
            if isinstance(item, Call):
                runs.append(item)
                continue
            if isinstance(item.definition, View):
                self.aliases[item.value] = item.definition.source
                self.explained.append(Explanation("view", tuple(item.nodes)))
                continue
            made = list(launcher.launches(item))
            self.explained.append(Explanation("kernel", tuple(item.nodes), launches=tuple(made)))
            if not runs or isinstance(runs[-1], Call):
                runs.append([])
            target = runs[-1]
            assert isinstance(target, list)
            target += made
        kernels = {
            launch.kernel.name: launch.loops
            for run in runs
            if isinstance(run, list)
            for launch in run
        }
        source = self.whole.source
        source.lap("schedule")
        addresses = addresses_of(list(kernels.values()), self.machine, strict=source.strict)
        run_address = runner_library(self.machine).address("sardonyx_run")
        source.lap("compile")
        runs = self.fold(runs, addresses, run_address)
        source.lap("pack")
        steps = list(self.stretches(runs, addresses))
        return Compilation(
            self.graph,
            frozenset(self.own),
            self.facts,
            self.constants,
            run_address,
            steps,
            self.aliases,
            frozenset(self.renamed),
            tuple((dim, frozenset(_symbols([dim]))) for dim in self.required),
            self.explained,
            folded=self.folded,
        )
