"""From the launches of a graph to its stretches: what is run once and now, and who reads what."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from sardonyx import dtypes
from sardonyx.dims import Dim
from sardonyx.errors import ExecutionError, LimitError
from sardonyx.ir.value import Value
from sardonyx.loops.nest import Temporary
from sardonyx.runtime.compilation import Call
from sardonyx.runtime.folding import Folded, Folding, content_of
from sardonyx.runtime.program import Buffer, SizesDiffer, Stretch

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator, MutableMapping, Sequence

    from sardonyx.dims import DimLike
    from sardonyx.dtypes import DType
    from sardonyx.ops.fact import Fact
    from sardonyx.schedule.launch import Launch

__all__ = ["Assembly", "Lifted", "known_shape"]


def known_shape(fact: Fact | None) -> tuple[DimLike, ...] | None:
    """The shape of a tensor all of whose dims are known, symbolic ones included."""
    shape = None if fact is None else fact.shape
    if shape is None or any(dim is None for dim in shape):
        return None
    return shape  # type: ignore[return-value]


@dataclass(frozen=True, eq=False, slots=True)
class Lifted:
    """A constant made of an attribute."""

    array: Any


class Assembly:
    """Puts the launches of one graph together.

    `constants` are arrays by value, to which those are added that follow from constants alone;
    `aliases` says which values are others under another shape, `kept` which are read outside of
    native code. `release` is told which constants no run reads any more, `identify` says what no
    other initializer has, and `flavour` what machine code depends on beside its kernel.
    """

    def __init__(
        self,
        facts: dict[Any, Fact],
        constants: MutableMapping[Any, Any],
        kept: set[Hashable],
        release: Callable[[Any], None] = lambda _: None,
        identify: Callable[[Any], Hashable] = lambda _: None,
        flavour: Hashable = None,
    ) -> None:
        self.facts = facts
        self.constants = constants
        self.release = release
        self.identify = identify
        self.flavour = flavour
        self.kept = kept
        self.aliases: dict[Hashable, Hashable] = {}
        self.folded = Folded()

    def fold(
        self, runs: Sequence[list[Launch] | Call], addresses: dict[str, int], run_address: int
    ) -> list[list[Launch] | Call]:
        """Run what depends on constants alone, packing of weights mostly, once and now."""
        folded = self.foldable(runs)
        chosen = {id(launch) for launch in folded}
        rest: list[list[Launch] | Call] = [
            run if isinstance(run, Call) else [each for each in run if id(each) not in chosen]
            for run in runs
        ]
        try:
            self.fold_launches(folded, self.still_read(rest), addresses, run_address)
        except (LimitError, ExecutionError, SizesDiffer):
            return list(runs)  # each run fails, with its place, not the making of the session
        return rest

    def foldable(self, runs: Sequence[list[Launch] | Call]) -> list[Launch]:
        """The launches that depend on constants alone, and all of whose results do."""
        launches = [launch for run in runs if isinstance(run, list) for launch in run]
        inputs = [{self.storage(buffer) for buffer in launch.buffers} for launch in launches]
        outputs = [{self.storage(buffer) for buffer in launch.outputs} for launch in launches]
        open_sizes = [self.has_open_sizes(launch) for launch in launches]
        # what several launches write part by part follows from constants if each part does
        open_results: set[Hashable] = set()
        while True:
            fixed: set[Hashable] = set(self.constants)
            folded, before = [], len(open_results)
            every = zip(launches, inputs, outputs, open_sizes, strict=True)
            for launch, read, made, is_sized_later in every:
                is_closed = not is_sized_later and made.isdisjoint(open_results)
                if made and is_closed and read - made <= fixed:
                    folded.append(launch)
                    fixed |= made
                else:
                    open_results |= made
            if len(open_results) == before:
                return folded

    def has_open_sizes(self, launch: Launch) -> bool:
        """Whether its sizes, or those of what it writes, are known in a run only."""
        written = (dim for buffer in launch.outputs for dim in self.described(buffer).shape)
        return bool(launch.symbols()) or any(isinstance(dim, Dim) for dim in written)

    def still_read(self, runs: Sequence[list[Launch] | Call]) -> set[Hashable]:
        """What `runs` read, or somebody outside of native code."""
        found = {self.storage(value) for value in self.kept}
        for run in runs:
            for launch in run if isinstance(run, list) else ():
                found.update(map(self.storage, launch.buffers))
        return found

    def fold_launches(
        self,
        launches: Sequence[Launch],
        needed: set[Hashable],
        addresses: dict[str, int],
        run_address: int,
    ) -> None:
        """Have what is `needed` of the results of `launches`."""
        resolved = [self.resolved(launch) for launch in launches]
        buffers = {b: self.described(b) for launch in resolved for b in launch.buffers}
        self.folded = Folded(resolved, buffers, needed & buffers.keys())
        identify = partial(content_of, self.constants, self.identify)
        folding = Folding(self.folded, identify, self.flavour)
        folding.run(self.constants, self.release_all, addresses, run_address)

    def release_all(self, buffers: Iterable[Hashable]) -> None:
        """Give up initializers that no run reads."""
        for buffer in buffers:
            if self.is_mine(buffer):
                self.release(buffer)

    def is_mine(self, value: Any) -> bool:
        """Whether `value` is an initializer that the nodes of one graph read."""
        if not isinstance(value, Value) or value.const is None:
            return False
        return len({user.graph for user in value.users}) == 1

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
        """The shape of a value of the model."""
        if isinstance(buffer, Lifted):
            lifted: tuple[int, ...] = buffer.array.shape
            return lifted
        shape = known_shape(self.facts[buffer])
        assert shape is not None
        return shape

    def dtype_of(self, buffer: Any) -> DType:
        """The element type of a value of the model."""
        if isinstance(buffer, Lifted):
            return dtypes.from_numpy(buffer.array.dtype)
        dtype = self.facts[buffer].dtype
        assert dtype is not None
        return dtype

    def stretches(
        self, runs: Sequence[list[Launch] | Call], addresses: dict[str, int]
    ) -> Iterator[Stretch | Call]:
        """The steps that `runs` become."""
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
                touched = [buffer for launch in item for buffer in launch.buffers]
                # what has no elements is not written, and starts anywhere
                mine = {b for b in touched if made_in.get(b, -1) == number}
                mine |= {b for b in touched if isinstance(b, Temporary) and b not in made_in}
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
        """A value as a stretch sees it."""
        if isinstance(buffer, Temporary):
            return Buffer(buffer, buffer.dtype, buffer.shape)
        return Buffer(buffer, self.dtype_of(buffer), self.shape_of(buffer))
