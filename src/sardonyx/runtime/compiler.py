"""From a checked model to its steps: what is compiled, what is fused, what is left to `reference`.

::

    model ── infer ──▶ facts ── lower ──▶ groups ── fuse ──▶ launches ── LLVM ──▶ stretches
                                  │
                                  └─ not lowered: a `Call` of the operator's reference
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from sardonyx import dtypes
from sardonyx.codegen.build import addresses_of, runner_library
from sardonyx.codegen.machine import host
from sardonyx.dims import Dim, known_equal, symbols
from sardonyx.errors import ExecutionError, LimitError
from sardonyx.infer import infer
from sardonyx.limits import enforced
from sardonyx.loops.nest import Lowering, Nest, NotLowered, Source, Steps, View, is_number, reads
from sardonyx.lowering import lower
from sardonyx.ops.bind import lift
from sardonyx.ops.generate import Constant
from sardonyx.ops.operator import ControlFlow
from sardonyx.reference.plan import captured, make_plan
from sardonyx.runtime.program import Buffer, SizesDiffer, Stretch, run_alone
from sardonyx.schedule.chains import join_chains
from sardonyx.schedule.fuse import Fuser, Group
from sardonyx.schedule.launches import Launcher, Temporary

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator, Sequence

    from sardonyx.dims import DimLike
    from sardonyx.dtypes import DType
    from sardonyx.ir.model import Model
    from sardonyx.ir.value import Value
    from sardonyx.limits import Limits
    from sardonyx.ops.fact import Fact
    from sardonyx.reference.plan import Step
    from sardonyx.schedule.finish import Launch

__all__ = ["Call", "Compilation", "Explanation", "compile_graph"]

_MOST_AXES = 64
"""NumPy's arrays have no more."""


@dataclass(slots=True)
class Call:
    """A node whose operator's `reference` runs, or a function or control flow node."""

    step: Step
    reason: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """What became of one node or group.

    `kind` is ``kernel``, ``view``, ``sizes`` or ``reference``, and `reason` says for the last why.
    """

    kind: str
    nodes: tuple[str, ...]
    reason: str = ""
    launches: tuple[Launch, ...] = ()


@dataclass(slots=True)
class Compilation:
    """A model's steps, with what is known when they run."""

    steps: list[Stretch | Call]
    facts: dict[Value, Fact]
    aliases: dict[Hashable, Hashable]
    constants: dict[Value, Any]
    run_address: int
    required: tuple[DimLike, ...] = ()
    explanations: list[Explanation] = field(default_factory=list)


def compile_graph(
    model: Model, constants: dict[Value, Any], limits: Limits, *, strict: bool = False
) -> Compilation:
    """Compile the main graph of `model`; `constants` are the initializers' arrays.

    With `strict` a product and a sum are rounded one after the other.
    """
    with enforced(limits):
        return _Compiler(model, constants, limits, strict=strict).compile()


def _shape_of(fact: Fact | None) -> tuple[DimLike, ...] | None:
    shape = None if fact is None else fact.shape
    if shape is None or any(dim is None for dim in shape):
        return None
    return shape  # type: ignore[return-value]


def _owned(array: Any) -> Any:
    """`array` in memory of its own: a view of a mapped file would change and vanish with it."""
    return array.copy() if isinstance(array, np.ndarray) and array.base is not None else array


def _symbols(dims: Iterable[Any]) -> set[str]:
    return {str(name) for dim in dims if isinstance(dim, Dim) for name in symbols(dim)}


def _contents(fact: Fact) -> Iterable[Any]:
    value = fact.value
    return () if value is None or value.dtype != object else value.reshape(-1).tolist()


class _Compiler:
    def __init__(
        self, model: Model, constants: dict[Value, Any], limits: Limits, *, strict: bool
    ) -> None:
        self.strict = strict
        self.model = model
        self.constants = constants
        self.machine = host()
        self.facts: dict[Any, Fact] = {
            value: fact if fact.value is None else fact.with_value(_owned(fact.value))
            for value, fact in infer(model, limits=limits).facts.items()
        }
        self.plan = make_plan(model, model.graph, model.opset_imports, {})
        self.aliases: dict[Hashable, Hashable] = {}
        self.explanations: list[Explanation] = []
        self.kept: set[Hashable] = set(model.graph.outputs)
        self.uses: dict[Hashable, int] = {}
        self.settled: set[str] = set()
        self.required: dict[DimLike, None] = {}
        self.shaping = {name for f in self.facts.values() for name in _symbols(f.shape or ())}
        for value in model.graph.inputs:
            self.settle(self.facts.get(value))

    # -- what is compiled -----------------------------------------------------------------------

    def compile(self) -> Compilation:
        lowered: list[tuple[Step, tuple[Any, ...] | str]] = []
        for step in self.plan.steps:
            found: tuple[Any, ...] | str
            try:
                found = self.definitions(step)
            except NotLowered as reason:
                found = str(reason)
                for value in step.node.outputs:
                    self.settle(self.facts.get(value))
            lowered.append((step, found))
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

    def is_kept(self, value: Hashable) -> bool:
        return value in self.kept

    def is_constant(self, value: Hashable) -> bool:
        return self.storage(value) in self.constants

    def settle(self, fact: Fact | None) -> None:
        """Note the sizes that a run learns from a value that is fed, or that `reference` made."""
        if fact is None or fact.shape is None:
            return
        for dim in (*fact.shape, *_contents(fact)):
            if isinstance(dim, Dim) and [str(name) for name in symbols(dim)] == [str(dim)]:
                self.settled.add(str(dim))

    def is_settled(self, dims: Any) -> bool:
        """Whether a run knows the sizes that `dims` are made of."""
        return _symbols(dims) <= self.settled

    def definitions(self, step: Step) -> tuple[Any, ...]:
        """The definitions of a node's outputs; raises NotLowered with the reason."""
        operator = step.operator
        if operator is None or step.schema is None:
            raise NotLowered("a call of a function")
        if isinstance(operator, ControlFlow):
            raise NotLowered("control flow")
        if isinstance(operator, Constant):
            self.constants[step.node.outputs[0]] = _owned(operator.reference())
            return ()
        outputs = []
        for value in step.node.outputs:
            fact = self.facts.get(value)
            shape = _shape_of(fact)
            if fact is None or fact.dtype is None or shape is None:
                raise NotLowered(f"the shape of {value.name!r} is decided by data")
            if not self.is_settled(shape):
                raise NotLowered(f"the shape of {value.name!r} is known when it runs")
            if len(shape) > _MOST_AXES:
                raise NotLowered(f"{value.name!r} has {len(shape)} axes")
            outputs.append((fact.dtype, shape))
            if (_symbols(_contents(fact)) - self.settled) & self.shaping:
                raise NotLowered(f"{value.name!r} decides the shapes of other values")
        if all(self.is_known(value) for value in step.node.outputs):
            return ()
        inputs = [None if value is None else self.source(value) for value in step.node.inputs]
        arranged = operator.arrange(step.schema, inputs, self.lifted, step.attributes)
        k = Lowering(outputs, step.node.outputs)
        found = lower(operator, k, arranged)
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
        shape = _shape_of(fact)
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
        key = _Lifted(array)
        self.constants[key] = array  # type: ignore[index]
        return Source(key, dtypes.from_numpy(array.dtype), array.shape, array)

    def note_readers(self, step: Step, found: tuple[Any, ...] | str) -> None:
        """Count who reads which values, and note which must lie in memory."""
        if isinstance(found, str):
            for value in (*step.node.inputs, *captured(step.node)):
                if value is not None:
                    self.kept.add(value)
            return
        each: dict[Hashable, set[Hashable]] = {}
        for value, definition in zip(step.node.outputs, found, strict=False):
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
        found: tuple[Any, ...] | str,
        fuser: Fuser,
    ) -> None:
        if isinstance(found, str):
            for value in (*step.node.inputs, *captured(step.node)):
                if value is not None:
                    fuser.materialize(value)
            fuser.done[step.node] = Call(step, found)  # type: ignore[assignment]
            self.explanations.append(Explanation("reference", (step.node.label,), found))
            return
        if not found:
            self.explanations.append(Explanation("sizes", (step.node.label,)))
            return
        made: set[Hashable] = set()
        outputs = list(zip(step.node.outputs, found, strict=False))
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
                self.explanations.append(Explanation("view", tuple(item.nodes)))
                continue
            made = list(launcher.launches(item))
            self.explanations.append(Explanation("kernel", tuple(item.nodes), launches=tuple(made)))
            if not runs or isinstance(runs[-1], Call):
                runs.append([])
            target = runs[-1]
            assert isinstance(target, list)
            target += made
        kernels = {
            launch.kernel.name: launch.kernel
            for run in runs
            if isinstance(run, list)
            for launch in run
        }
        addresses = addresses_of(list(kernels.values()), self.machine, strict=self.strict)
        run_address = runner_library(self.machine).address("sardonyx_run")
        runs = self.fold(runs, addresses, run_address)
        steps = list(self.stretches(runs, addresses))
        return Compilation(
            steps,
            self.facts,
            self.aliases,
            self.constants,
            run_address,
            tuple(self.required),
            self.explanations,
        )

    def fold(
        self, runs: Sequence[list[Launch] | Call], addresses: dict[str, int], run_address: int
    ) -> list[list[Launch] | Call]:
        """Run what depends on constants alone, packing of weights mostly, once and now."""
        fixed: set[Hashable] = set(self.constants)
        folded: list[Launch] = []
        rest: list[list[Launch] | Call] = []
        writers: dict[Hashable, int] = {}
        for run in runs:
            for launch in run if isinstance(run, list) else ():
                for buffer in launch.outputs:
                    writers[self.storage(buffer)] = writers.get(self.storage(buffer), 0) + 1
        for run in runs:
            if isinstance(run, Call):
                rest.append(run)
                continue
            kept = []
            for launch in run:
                buffers = {self.storage(buffer) for buffer in launch.buffers}
                outputs = {self.storage(buffer) for buffer in launch.outputs}
                if buffers - outputs <= fixed and not launch.symbols():
                    folded.append(launch)
                    for buffer in outputs:
                        writers[buffer] -= 1
                        if not writers[buffer]:
                            fixed.add(buffer)
                else:
                    kept.append(launch)
            rest.append(kept)
        try:
            self.evaluate(folded, addresses, run_address)
        except (LimitError, ExecutionError, SizesDiffer):
            return list(runs)  # each run fails, with its place, not the making of the session
        return rest

    def evaluate(self, launches: list[Launch], addresses: dict[str, int], run_address: int) -> None:
        """Run `launches`, which read constants only, and keep what they write."""
        if not launches:
            return
        resolved = [self.resolved(launch) for launch in launches]
        made = dict.fromkeys(buffer for launch in resolved for buffer in launch.outputs)
        read = dict.fromkeys(buffer for launch in resolved for buffer in launch.buffers)
        outputs = [self.described(buffer) for buffer in made]
        constants = [(b, self.constants[b]) for b in read if b not in made]  # type: ignore[index]
        stretch = Stretch(resolved, addresses, [], outputs, [], constants)
        arrays = run_alone(stretch, run_address)
        for buffer, array in arrays.items():
            self.constants[buffer] = array  # type: ignore[index]

    def resolved(self, launch: Launch) -> Launch:
        """`launch` with views replaced by what they are views of."""
        return replace(
            launch,
            buffers=tuple(map(self.storage, launch.buffers)),
            outputs=tuple(map(self.storage, launch.outputs)),
        )

    def storage(self, buffer: Hashable) -> Hashable:
        """The value whose memory `buffer` is."""
        while buffer in self.aliases:
            buffer = self.aliases[buffer]
        return buffer

    def shape_of(self, buffer: Any) -> tuple[DimLike, ...]:
        if isinstance(buffer, _Lifted):
            lifted: tuple[int, ...] = buffer.array.shape
            return lifted
        shape = _shape_of(self.facts[buffer])
        assert shape is not None
        return shape

    def dtype_of(self, buffer: Any) -> DType:
        if isinstance(buffer, _Lifted):
            return dtypes.from_numpy(buffer.array.dtype)
        dtype = self.facts[buffer].dtype
        assert dtype is not None
        return dtype

    def stretches(
        self, runs: Sequence[list[Launch] | Call], addresses: dict[str, int]
    ) -> Iterator[Stretch | Call]:
        resolved: list[list[Launch] | Call] = [
            run if isinstance(run, Call) else [self.resolved(launch) for launch in run]
            for run in runs
        ]
        numbered = [(n, run) for n, run in enumerate(resolved) if isinstance(run, list)]
        made_in: dict[Hashable, int] = {}
        for number, run in numbered:
            for buffer in (buffer for launch in run for buffer in launch.outputs):
                made_in.setdefault(buffer, number)
        outside = {self.storage(value) for value in self.kept}
        for number, run in numbered:
            read = (buffer for launch in run for buffer in launch.buffers)
            outside.update(buffer for buffer in read if made_in.get(buffer, number) != number)
        for number, item in enumerate(resolved):
            if isinstance(item, Call):
                yield item
            elif item:
                mine = {buffer for buffer, where in made_in.items() if where == number}
                yield self.stretch(item, addresses, mine, outside)

    def stretch(
        self,
        run: Sequence[Launch],
        addresses: dict[str, int],
        mine: set[Hashable],
        outside: set[Hashable],
    ) -> Stretch:
        """The launches `run`, which make the buffers `mine`, as one native call.

        Those of them in `outside` are read elsewhere too.
        """
        inputs, outputs, inside, constants = [], [], [], []
        for buffer in dict.fromkeys(buffer for launch in run for buffer in launch.buffers):
            if buffer in self.constants:
                constants.append((buffer, self.constants[buffer]))
            elif buffer not in mine:
                inputs.append(self.described(buffer))
            elif buffer in outside:
                outputs.append(self.described(buffer))
            else:
                inside.append(self.described(buffer))
        return Stretch(run, addresses, inputs, outputs, inside, constants)

    def described(self, buffer: Any) -> Buffer:
        if isinstance(buffer, Temporary):
            return Buffer(buffer, buffer.dtype, buffer.shape)
        return Buffer(buffer, self.dtype_of(buffer), self.shape_of(buffer))


@dataclass(frozen=True, eq=False, slots=True)
class _Lifted:
    """A constant made of an attribute."""

    array: Any
