"""From the launches of a graph to its stretches: what is run once and now, and who reads what."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from sardonyx import dtypes
from sardonyx.errors import ExecutionError, LimitError
from sardonyx.ir.value import Value
from sardonyx.loops.nest import Temporary
from sardonyx.runtime.compilation import Call
from sardonyx.runtime.program import Buffer, SizesDiffer, Stretch, run_alone

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, MutableMapping, Sequence

    from sardonyx.dims import DimLike
    from sardonyx.dtypes import DType
    from sardonyx.ops.fact import Fact
    from sardonyx.schedule.finish import Launch

__all__ = ["Assembly", "Lifted", "known_shape"]

_BATCH_BYTES: Final = 32 << 20
"""Bytes that are read and written together before what was read is given up, about."""


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
    native code. `release` is told which constants no run reads any more.
    """

    def __init__(
        self,
        facts: dict[Any, Fact],
        constants: MutableMapping[Any, Any],
        kept: set[Hashable],
        release: Callable[[Any], None] = lambda _: None,
    ) -> None:
        self.facts = facts
        self.constants = constants
        self.release = release
        self.kept = kept
        self.aliases: dict[Hashable, Hashable] = {}

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
            self.fold_launches(folded, self.still_read(rest), addresses, run_address)
        except (LimitError, ExecutionError, SizesDiffer):
            return list(runs)  # each run fails, with its place, not the making of the session
        return rest

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
        """Run `launches` part by part, and release what they read but for what is `needed`."""
        for batch in self.batches([self.resolved(launch) for launch in launches]):
            self.evaluate(batch, addresses, run_address)
            for buffer in dict.fromkeys(buffer for launch in batch for buffer in launch.buffers):
                if buffer not in needed and self.is_mine(buffer):
                    self.release(buffer)

    def is_mine(self, value: Any) -> bool:
        """Whether `value` is an initializer that the nodes of one graph read."""
        if not isinstance(value, Value) or value.const is None:
            return False
        return len({user.graph for user in value.users}) == 1

    def batches(self, launches: Sequence[Launch]) -> Iterator[list[Launch]]:
        """`launches` in order and in parts that read few bytes; those of one value together."""
        last: dict[Hashable, int] = {}
        for number, launch in enumerate(launches):
            last.update(dict.fromkeys(launch.outputs, number))
        batch: list[Launch] = []
        bound = 0
        for number, launch in enumerate(launches):
            batch.append(launch)
            bound = max([bound, *(last[buffer] for buffer in launch.outputs)])
            if number >= bound and self.bytes_of(batch) >= _BATCH_BYTES:
                yield batch
                batch = []
        if batch:
            yield batch

    def bytes_of(self, launches: Sequence[Launch]) -> int:
        """The size of what `launches`, whose sizes are numbers, read and write."""
        buffers = dict.fromkeys(buffer for launch in launches for buffer in launch.buffers)
        return sum(self.described(buffer).nbytes({}) for buffer in buffers)

    def evaluate(
        self, resolved: Sequence[Launch], addresses: dict[str, int], run_address: int
    ) -> None:
        """Run launches that read constants only, and keep what they write."""
        made = dict.fromkeys(buffer for launch in resolved for buffer in launch.outputs)
        read = dict.fromkeys(buffer for launch in resolved for buffer in launch.buffers)
        outputs = [self.described(buffer) for buffer in made]
        constants = [(b, self.constants[b]) for b in read if b not in made]
        stretch = Stretch(resolved, addresses, [], outputs, [], constants)
        arrays = run_alone(stretch, run_address)
        for buffer, array in arrays.items():
            self.constants[buffer] = array

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
        """A value as a stretch sees it."""
        if isinstance(buffer, Temporary):
            return Buffer(buffer, buffer.dtype, buffer.shape)
        return Buffer(buffer, self.dtype_of(buffer), self.shape_of(buffer))
