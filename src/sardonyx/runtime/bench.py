"""How long models take: latencies turn and turn about, and the time of each kernel.

`interleaved` times callables side by side, in short turns, so that what else the machine does
falls on all alike. `profile` runs a session's model launch by launch on one thread, and sets what
each took beside what this machine reaches at most (`sardonyx.runtime.roofline`).
"""

from __future__ import annotations

import ctypes
import math
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from sardonyx.codegen.runner import Control
from sardonyx.errors import InputError
from sardonyx.loops.kernel import Accumulate, statements
from sardonyx.runtime.compiled import CompiledModel, SizesDiffer
from sardonyx.runtime.program import Stretch, number

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sardonyx.runtime.compilation import Call
    from sardonyx.runtime.roofline import Roofline
    from sardonyx.runtime.scope import Scope
    from sardonyx.runtime.session import Session
    from sardonyx.schedule.launch import Launch

__all__ = [
    "RESOLVED",
    "SPINNING",
    "KernelTime",
    "Latency",
    "Profile",
    "chrome_trace",
    "interleaved",
    "profile",
]

TURN: Final = 0.02
"""Seconds of a turn, which has two calls at least."""
SPINNING: Final = 0.1
"""Seconds, about, for which onnxruntime's threads spin on their cores after a run."""
_WARM_UP: Final = 0.25
"""The part of the time that warming up takes."""
_LEAST_TURNS: Final = 3
LONG: Final = 1e-4
"""Seconds of a kernel from which on its processor time counts, which others do not disturb."""

RESOLVED: Final = 2e-7
"""Seconds of a kernel below which clocks do not tell rates."""


# -- latencies ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Latency:
    """Seconds that a call takes: percentiles over `count` calls."""

    count: int
    best: float
    p50: float
    p90: float
    p99: float
    mean: float

    @property
    def throughput(self) -> float:
        """Calls in a second, one after the other."""
        return 1 / self.mean

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Latency:
        """Of the seconds that single calls took."""
        ordered = sorted(seconds)

        def percentile(share: float) -> float:
            return ordered[min(math.ceil(share * len(ordered)), len(ordered)) - 1]

        return cls(
            len(ordered),
            ordered[0],
            percentile(0.5),
            percentile(0.9),
            percentile(0.99),
            math.fsum(ordered) / len(ordered),
        )


def interleaved(
    calls: Mapping[str, Callable[[], Any]],
    seconds: float = 2.0,
    clock: Callable[[], float] = time.perf_counter,
    pause: float = 0.0,
) -> dict[str, list[float]]:
    """The seconds of each call of each of `calls`, which take turns for about `seconds` each.

    The order changes from round to round. Each warms up first, and has a few turns at least,
    however long they take; the first call of each turn, which finds what the others left in the
    caches, is not counted. Where threads share the work, there should be a `pause` of `SPINNING`
    before each turn: the threads of some runtimes keep their cores for a while. `clock` may be
    `time.process_time` for long calls of one thread: it leaves out what other processes take away.
    """
    for call in calls.values():
        _turn(call, seconds * _WARM_UP, clock)
    found: dict[str, list[float]] = {name: [] for name in calls}
    spent = dict.fromkeys(calls, 0.0)
    order = list(calls)
    turns = 0
    while turns < _LEAST_TURNS or min(spent.values(), default=seconds) < seconds:
        for name in order:
            time.sleep(pause)
            taken = _turn(calls[name], TURN, clock)
            spent[name] += math.fsum(taken)
            found[name] += taken[1:]
        order.append(order.pop(0))
        turns += 1
        if not order:
            break
    return found


def _turn(call: Callable[[], Any], seconds: float, clock: Callable[[], float]) -> list[float]:
    taken = []
    begin = last = clock()
    while True:
        call()
        now = clock()
        taken.append(now - last)
        if now - begin >= seconds and len(taken) > 1:
            return taken
        last = clock()


# -- the time of each kernel ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class KernelTime:
    """One launch of a kernel, or one node that its reference computes.

    `seconds` is the median over several runs, `start` when it began in the last one, `flops`
    those of a matrix product (2 for a multiply-add; 0 elsewhere), `nbytes` what lies in the
    buffers that it reads and writes. `least` is what the machine takes for that at least.
    """

    kind: str
    name: str
    label: str
    start: float
    last: float
    seconds: float
    flops: int
    nbytes: int
    least: float

    @property
    def share(self) -> float:
        """The part of the machine's limit that it reaches; 0 where that cannot be told."""
        return self.least / self.seconds if self.seconds >= RESOLVED else 0.0


@dataclass(frozen=True, slots=True)
class Profile:
    """The launches of a run in order, and how many runs were timed."""

    kernels: list[KernelTime]
    runs: int

    @property
    def seconds(self) -> float:
        """What all take together."""
        return math.fsum(kernel.seconds for kernel in self.kernels)


@dataclass(slots=True)
class _Record:
    """What is noted of a launch or a call in one run."""

    step: Stretch | Call
    launch: Launch | None
    env: Mapping[str, int]
    start: float
    seconds: float


class _Watched(CompiledModel):
    """A compiled model that notes the time of each launch. One thread uses it, one at a time."""

    _native: Any

    def __init__(self, model: CompiledModel) -> None:
        for name, value in vars(model).items():
            setattr(self, name, value)
        self.threads = 1
        self.records: list[_Record] = []
        self._frames = []
        self._fast = None
        self._recent = None
        self._prepared = OrderedDict()
        self._entered = OrderedDict()
        self._plain: Callable[[int], int] = self._native
        self._native = self._launch_by_launch
        self._code = 0
        self._stretch_now: tuple[Stretch, Mapping[str, int]] | None = None

    def _stretch(self, stretch: Stretch, scope: Scope, run: Any, frame: Any, check: Any) -> None:
        self._stretch_now = stretch, dict(scope.env)
        super()._stretch(stretch, scope, run, frame, check)

    def _call(self, call: Call, scope: Scope, run: Any, frame: Any, check: Any) -> None:
        if call.bodies or call.count is not None:
            super()._call(call, scope, run, frame, check)
            return
        start = time.perf_counter()
        super()._call(call, scope, run, frame, check)
        seconds = time.perf_counter() - start
        self.records.append(_Record(call, None, scope.env, start, seconds))

    def _repeated(self, call: Call, scope: Scope, frame: Any, check: Any) -> None:
        return None

    def _launch_by_launch(self, address: int) -> int:
        assert self._stretch_now is not None
        stretch, env = self._stretch_now
        words = (ctypes.c_int64 * Control.WORDS).from_address(address)
        count, code = words[Control.COUNT], words[Control.FIRST]
        try:
            while 0 <= code < count:
                launch, place = stretch.launches[code], code
                words[Control.FIRST], words[Control.COUNT] = place, place
                _, empty, cpu_empty = self._timed(address)
                words[Control.COUNT] = place + 1
                start, wall, cpu = self._timed(address)
                code = self._code
                seconds = cpu - cpu_empty if wall > LONG else wall - empty
                seconds = max(seconds, 0.0)
                self.records.append(_Record(stretch, launch, env, start, seconds))
        finally:
            words[Control.COUNT] = count
        return code

    def _timed(self, address: int) -> tuple[float, float, float]:
        """When a native call began, and its seconds: wall and processor time."""
        start, cpu = time.perf_counter(), time.thread_time()
        self._code = self._plain(address)
        return start, time.perf_counter() - start, time.thread_time() - cpu


def profile(
    session: Session, feeds: Mapping[str, Any], roofline: Roofline, seconds: float = 2.0
) -> Profile:
    """Time each launch of the session's model on `feeds`, on one thread, for about `seconds`.

    Raises `InputError` for a session that does not run compiled.
    """
    session.complete()
    compiled = session.compiled
    if compiled is None:
        raise InputError(
            "the session does not run compiled code, so there are no kernels to time",
            hint="make it with compile=True",
        )
    session.run(None, feeds)
    arrays = {name: np.asarray(feed, order="C") for name, feed in feeds.items()}
    watched = _Watched(compiled)
    runs: list[list[_Record]] = []
    begin = time.perf_counter()
    while len(runs) < _LEAST_TURNS or time.perf_counter() - begin < seconds:
        watched.records = []
        try:
            watched.run(arrays)
        except SizesDiffer:
            raise InputError(
                "the reference runs this: a value has another shape than inference found"
            ) from None
        runs.append(watched.records)
    origin = runs[-1][0].start if runs[-1] else 0.0
    return Profile(
        [_summary(same, origin, roofline) for same in zip(*runs, strict=True)], len(runs)
    )


def _summary(records: Sequence[_Record], origin: float, roofline: Roofline) -> KernelTime:
    record = records[-1]
    seconds = float(np.median([each.seconds for each in records]))
    start = record.start - origin
    launch = record.launch
    if launch is None:
        assert not isinstance(record.step, Stretch)
        label = record.step.step.node.label
        return KernelTime("reference", "", label, start, record.seconds, seconds, 0, 0, 0.0)
    flops = number(launch.flops, record.env)
    nbytes = _touched(record.step, launch, record.env)
    return KernelTime(
        "kernel",
        launch.kernel.name,
        launch.label,
        start,
        record.seconds,
        seconds,
        flops,
        nbytes,
        roofline.seconds(flops, nbytes),
    )


def _touched(step: Stretch | Call, launch: Launch, env: Mapping[str, int]) -> int:
    """Bytes in the buffers of `launch`; where an element is made of one of each buffer, no more."""
    assert isinstance(step, Stretch)
    sizes = {key: array.nbytes for key, array in step.constants}
    sizes |= {b.key: b.nbytes(env) for b in (*step.inputs, *step.outputs, *step.inside)}
    found = {buffer: sizes[buffer] for buffer in launch.buffers}
    if any(isinstance(stmt, Accumulate) for stmt in statements(launch.loops.body)):
        return sum(found.values())
    if number(launch.flops, env):
        return sum(found.values())
    widths = {b: p.dtype.bits for b, p in zip(launch.buffers, launch.loops.params, strict=True)}
    written = max((found[b] * 8 // max(widths[b], 8) for b in launch.outputs), default=0)
    return sum(min(size, written * max(widths[b] // 8, 1)) for b, size in found.items())


def chrome_trace(found: Profile, title: str) -> dict[str, Any]:
    """The last run of a profile in the Trace Event Format of Chrome and Perfetto."""
    head = {"name": "process_name", "ph": "M", "pid": 1, "tid": 1, "args": {"name": title}}
    return {"traceEvents": [head, *map(_event, found.kernels)], "displayTimeUnit": "ms"}


def _event(kernel: KernelTime) -> dict[str, Any]:
    return {
        "name": kernel.label,
        "cat": kernel.kind,
        "ph": "X",
        "ts": kernel.start * 1e6,
        "dur": kernel.last * 1e6,
        "pid": 1,
        "tid": 1,
        "args": {
            "kernel": kernel.name,
            "FLOPs": kernel.flops,
            "bytes": kernel.nbytes,
            "share of the limit": round(kernel.share, 3),
        },
    }
