"""Launches that read constants alone: which of their results somebody has already."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING, Final

from sardonyx.ir.value import Value
from sardonyx.reference.sharing import SHARED_FROM, find, share
from sardonyx.runtime.program import Stretch, run_alone

if TYPE_CHECKING:
    from collections.abc import (
        Callable,
        Hashable,
        Iterable,
        Iterator,
        Mapping,
        MutableMapping,
        Sequence,
    )
    from collections.abc import Set as AbstractSet
    from typing import Any

    from sardonyx.runtime.program import Buffer
    from sardonyx.schedule.launch import Launch

__all__ = ["Folded", "Folding", "Unit", "content_of"]

_BATCH_BYTES: Final = 32 << 20
"""Bytes that are read and written together before what was read is given up, about."""


@dataclass(slots=True, eq=False)
class Unit:
    """Launches, in order, that write parts of the same buffers; `inputs` are what others write.

    Small results that no other unit reads are not worth sharing.
    """

    launches: list[Launch]
    outputs: dict[Hashable, None] = field(default_factory=dict)
    inputs: dict[Hashable, None] = field(default_factory=dict)
    is_worth_sharing: bool = True


@dataclass(slots=True, eq=False)
class Folded:
    """Launches that read constants alone, what their buffers are, and which results are needed."""

    launches: Sequence[Launch] = ()
    buffers: Mapping[Hashable, Buffer] = field(default_factory=dict)
    needed: AbstractSet[Hashable] = frozenset()


class Folding:
    """Launches whose sizes are numbers, as units in order.

    `identify` gives what no other content has than that of a constant, None where that is not
    known. Results follow from these, the kernels, their sizes, and `flavour`.
    """

    def __init__(
        self, folded: Folded, identify: Callable[[Buffer], Hashable], flavour: Hashable
    ) -> None:
        self.buffers = folded.buffers
        self.needed = folded.needed
        self.identify = identify
        self.flavour = flavour
        self.units = _units(folded.launches)
        self.keys: dict[Hashable, Hashable] = {}
        read = {buffer for unit in self.units for buffer in unit.inputs}
        for unit in self.units:
            is_large = any(self.buffers[b].nbytes({}) >= SHARED_FROM for b in unit.outputs)
            unit.is_worth_sharing = is_large or not read.isdisjoint(unit.outputs)

    def run(
        self,
        constants: MutableMapping[Any, Any],
        release: Callable[[Iterable[Hashable]], None],
        addresses: Mapping[str, int],
        run_address: int,
    ) -> None:
        """Have what is needed among `constants`: from other sessions, or by running launches.

        That goes part by part; what was read and is not needed is given to `release`.
        """
        needed = self.needed
        found, missing = self.divide()
        constants.update(found)
        last = self.last_readers(missing)
        idle = {buffer for unit in self.units for buffer in unit.inputs} - last.keys()
        release(idle.difference(needed))
        for batch in self.batches(missing):
            arrays = self.evaluate(batch, constants, addresses, run_address)
            for unit in batch:
                self.name(unit)
                for buffer in unit.outputs:
                    constants[buffer] = share(arrays[buffer], self.key(buffer))
            done = set(batch)
            read = [buffer for unit in batch for buffer in unit.inputs if last[buffer] in done]
            release(buffer for buffer in read if buffer not in needed)
        for unit in missing:
            for buffer in unit.outputs.keys() - needed:
                del constants[buffer]

    def evaluate(
        self,
        units: Sequence[Unit],
        constants: Mapping[Any, Any],
        addresses: Mapping[str, int],
        run_address: int,
    ) -> dict[Hashable, Any]:
        """What `units` write that read constants only."""
        launches = [launch for unit in units for launch in unit.launches]
        made = dict.fromkeys(buffer for launch in launches for buffer in launch.outputs)
        read = dict.fromkeys(buffer for launch in launches for buffer in launch.buffers)
        outputs = [self.buffers[buffer] for buffer in made]
        given = [(buffer, constants[buffer]) for buffer in read if buffer not in made]
        return run_alone(Stretch(launches, addresses, [], outputs, [], given), run_address)

    def divide(self) -> tuple[dict[Hashable, Any], list[Unit]]:
        """Arrays that exist, and the units to run for the rest of what is `needed`."""
        for unit in self.units:
            self.name(unit)
        found: dict[Hashable, Any] = {}
        missing: list[Unit] = []
        wanted = set(self.needed)
        for unit in reversed(self.units):
            asked = [buffer for buffer in unit.outputs if buffer in wanted]
            known = {buffer: self._find(buffer) for buffer in asked}
            if any(array is None for array in known.values()):
                missing.append(unit)
                wanted.update(unit.inputs)
            else:
                found.update(known)
        return found, missing[::-1]

    def _find(self, buffer: Hashable) -> Any:
        key = self.key(buffer)
        return None if key is None else find(key)

    def key(self, buffer: Hashable) -> Hashable:
        """What no other content has than that of `buffer`; None if it is not known."""
        return self.keys.get(buffer)

    def name(self, unit: Unit) -> None:
        """Note the keys of what `unit` makes, from those of what it reads."""
        if not unit.is_worth_sharing:
            return
        read = [
            self.keys[buffer] if buffer in self.keys else self.identify(self.buffers[buffer])
            for buffer in unit.inputs
        ]
        if None in read:
            self.keys.update(dict.fromkeys(unit.outputs))
            return
        places = {buffer: place for place, buffer in enumerate((*unit.inputs, *unit.outputs))}
        calls = [
            (launch.kernel.name, launch.sizes, launch.extent, [places[b] for b in launch.buffers])
            for launch in unit.launches
        ]
        whole = blake2b(repr((self.flavour, calls, read)).encode(), digest_size=32).digest()
        for place, buffer in enumerate(unit.outputs):
            made = self.buffers[buffer]
            self.keys[buffer] = (whole, place, made.dtype.text, made.shape)

    def batches(self, units: Sequence[Unit]) -> Iterator[list[Unit]]:
        """`units` in order and in parts that read and write few bytes."""
        batch: list[Unit] = []
        total = 0
        touched: set[Hashable] = set()
        for unit in units:
            batch.append(unit)
            for buffer in (*unit.inputs, *unit.outputs):
                if buffer not in touched:
                    touched.add(buffer)
                    total += self.buffers[buffer].nbytes({})
            if total >= _BATCH_BYTES:
                yield batch
                batch, total, touched = [], 0, set()
        if batch:
            yield batch

    def last_readers(self, units: Iterable[Unit]) -> dict[Hashable, Unit]:
        """Which of `units` is the last to read each buffer."""
        return {buffer: unit for unit in units for buffer in unit.inputs}


def content_of(
    constants: Mapping[Any, Any], identify: Callable[[Any], Hashable], buffer: Buffer
) -> Hashable:
    """What no other content has than that of one of `constants`; None if it is not known.

    `identify` knows of large initializers what it is.
    """
    key: Any = buffer.key
    if buffer.nbytes({}) >= SHARED_FROM:
        is_read = isinstance(key, Value) and key.const is not None
        return identify(key) if is_read else None
    array = constants[key]
    return buffer.dtype.text, array.shape, array.tobytes()


def _units(launches: Sequence[Launch]) -> list[Unit]:
    """`launches` as units, each after those that it reads."""
    of: dict[Hashable, Unit] = {}
    for launch in launches:
        joined = list(dict.fromkeys(of[buffer] for buffer in launch.outputs if buffer in of))
        unit = joined[0] if joined else Unit([])
        for other in joined[1:]:
            unit.launches += other.launches
            unit.outputs.update(other.outputs)
        unit.launches.append(launch)
        unit.outputs.update(dict.fromkeys(launch.outputs))
        of.update(dict.fromkeys(unit.outputs if len(joined) > 1 else launch.outputs, unit))
    units = list(dict.fromkeys(of[launch.outputs[0]] for launch in reversed(launches)))[::-1]
    for unit in units:
        for launch in unit.launches:
            others = (buffer for buffer in launch.buffers if buffer not in unit.outputs)
            unit.inputs.update(dict.fromkeys(others))
    return units
