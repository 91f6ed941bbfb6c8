"""The threads of a process that help a run.

A pool holds helpers: Python daemon threads, each inside one native call that never holds the
interpreter's lock. All sessions share it. One run at a time owns it, others that come meanwhile
run on their own thread alone. A helper sleeps when no run is active; nothing spins then::

      calling thread                          helper
      ──────────────                          ──────
      own the pool, active = 1                sleeping on its word
      │                                       ╷
      ├─ wake ───────────────────────────────▶│ wakes two others, and looks for work
      │                                       │
      │  launch 7: describe it,               │
      │  pending = 8, claim = (7, 8) ────────▶│ sees (7, 8), reads what is described,
      │                                       │ claims: (7, 8) becomes (7, 7)
      │  claims: (7, 7) becomes (7, 6)        │
      │  computes chunk 1                     │ computes chunk 0
      │  …  until (7, 0)                      │ …  until (7, 0); pending -= its chunks
      │  pending -= its chunks                │ spins, a while
      │  waits for pending = 0                │
      │  launch 8: describe it …              │
      │                                       │
      active = 0, the pool is free            sleeps

A launch is offered by one word, the claim: its number (48 bits, never the same again) and how many
of its chunks nobody has taken (16 bits). A chunk is taken by one compare-and-swap of that word.

- A helper reads a launch's description before it takes a chunk. If the swap succeeds, the launch
  has not ended since the word was read, as a chunk was left of it, so what was read belongs to it;
  if not, what was read is dropped. The description lies in the pool, whose memory is never freed.
- A launch ends when `pending` is 0: when all that took a chunk have computed it. So a helper that
  holds a chunk keeps the run from ending, and one that holds none touches the pool's memory only,
  never that of a run. A helper that comes late finds no chunk left, or the next launch's.
- The calling thread takes chunks too and needs nobody: helpers that do not come cost nothing.
- A helper goes to sleep by setting its word to 1 and looking once more at the claim; a run offers
  a launch and then looks at the words. One of them sees the other. It is woken by the swap of its
  word from 1 to 0 and a futex call (Linux) or a condition (other POSIX systems).
- Helpers are kept off the processor of the caller, where a system that saves power would wake them.
- Both spin a bounded time, then sleep: a helper on its word, the caller on `pending`.

Elsewhere than on POSIX systems there are no helpers, and `resolve` gives one thread.
A forked child starts with a new pool, without helpers. At exit helpers return.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sardonyx.codegen.build import runner_library
from sardonyx.codegen.machine import host
from sardonyx.codegen.parking import futex_number
from sardonyx.codegen.sharing import HELPER_BYTES, POOL_BYTES, Pool

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["MOST_THREADS", "Helpers", "available", "pool", "quota", "resolve"]

MOST_THREADS: Final = 256
_LINE: Final = 128
_PATIENT: Final = 4000
"""Spins before sleeping: about 0.1 ms."""
_HASTY: Final = 40
"""The same where there are more threads than processors."""
_HAS_HELPERS: Final = os.name == "posix" and sys.platform not in {"emscripten", "wasi"}


class Helpers:
    """A pool: a block of memory that is never freed, and the threads that live in it."""

    def __init__(self, library: Any, *, futex: bool) -> None:
        bytes_ = POOL_BYTES + HELPER_BYTES * MOST_THREADS
        reserve = ctypes.pythonapi.PyMem_RawCalloc
        reserve.restype, reserve.argtypes = ctypes.c_void_p, [ctypes.c_size_t, ctypes.c_size_t]
        start = reserve(1, bytes_ + _LINE)
        if not start:
            raise MemoryError
        self.address = -(-start // _LINE) * _LINE
        self.threads = 1
        self.is_full = False
        self._here = _processor_number()
        self._away_from = -1
        self._started: list[threading.Thread] = []
        self._words = (ctypes.c_int64 * (POOL_BYTES // 8)).from_address(self.address)
        self._library = library
        shape = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)
        self._help = shape(library.address("sardonyx_help"))
        self._quit = shape(library.address("sardonyx_quit"))
        libc = ctypes.CDLL(None)
        if futex:
            self._words[Pool.FUTEX] = _address(libc.syscall)
        else:
            self._use_condition(libc, reserve)

    def _use_condition(self, libc: Any, reserve: Any) -> None:
        words = self._words
        words[Pool.LOCK] = _address(libc.pthread_mutex_lock)
        words[Pool.UNLOCK] = _address(libc.pthread_mutex_unlock)
        words[Pool.WAIT] = _address(libc.pthread_cond_wait)
        words[Pool.BROADCAST] = _address(libc.pthread_cond_broadcast)
        for word, init in (
            (Pool.MUTEX, libc.pthread_mutex_init),
            (Pool.CONDITION, libc.pthread_cond_init),
        ):
            words[word] = reserve(1, 256)
            if init(ctypes.c_void_p(words[word]), None):
                raise MemoryError

    def grow(self, threads: int) -> None:
        """Start helpers until runs may have `threads` threads, or no more can be started."""
        crowded = threads > len(_affinity())
        spins = _HASTY if crowded else _PATIENT
        self._words[Pool.WAITING_SPINS] = self._words[Pool.HELPING_SPINS] = spins
        while self.threads < threads:
            helper = threading.Thread(
                target=self._help,
                args=(self.address, self.threads),
                name=f"sardonyx-{self.threads}",
                daemon=True,
            )
            try:
                helper.start()
            except RuntimeError:  # no more threads, or none in this interpreter
                self.is_full = True
                return
            self._started.append(helper)
            self.threads += 1
            self._away_from = -1

    def keep_away(self) -> None:
        """Keep helpers off the processor that the calling thread is on.

        A system may wake a thread where it was woken from, and leave it there for long: the two
        would take turns.
        """
        here = self._here()
        if here == self._away_from:
            return
        self._away_from = here
        others = _affinity() - {here}
        for helper in self._started if others else ():
            if helper.native_id is not None:
                with suppress(OSError):
                    os.sched_setaffinity(helper.native_id, others)

    def end(self) -> None:
        """Make all helpers return."""
        self._quit(self.address, self.threads)
        for helper in self._started:
            helper.join(timeout=1)


class _Process:
    """What this process has: its pool, made when it is first needed."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.helpers: Helpers | None = None
        self.ended = False

    def end(self) -> None:
        with self.lock:
            self.ended = True
            helpers, self.helpers = self.helpers, None
        if helpers is not None:
            helpers.end()

    def forget(self) -> None:
        self.lock = threading.Lock()
        self.helpers = None


_PROCESS: Final = _Process()
atexit.register(_PROCESS.end)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_PROCESS.forget)


def pool(threads: int) -> tuple[int, int]:
    """The address of the pool's block and how many threads, up to `threads`, a run may use.

    The address is 0 where there are no helpers.
    """
    helpers = _PROCESS.helpers
    if helpers is None or (helpers.threads < threads and not helpers.is_full):
        helpers = _grown(threads)
    if helpers is None or helpers.threads == 1:
        return 0, 1
    helpers.keep_away()
    return helpers.address, min(threads, helpers.threads)


def _grown(threads: int) -> Helpers | None:
    with _PROCESS.lock:
        if _PROCESS.ended or not _HAS_HELPERS or threads < 2:
            return None
        if _PROCESS.helpers is None:
            futex = futex_number(host()) is not None
            _PROCESS.helpers = Helpers(runner_library(host()), futex=futex)
        _PROCESS.helpers.grow(min(threads, MOST_THREADS))
        return _PROCESS.helpers


def resolve(threads: int | None) -> int:
    """How many threads a session has that asks for `threads`, by default for `available()`."""
    if not _HAS_HELPERS:
        return 1
    return min(threads or available(), MOST_THREADS)


def available() -> int:
    """How many threads this process can keep busy.

    It is the number of processor cores that its affinity mask allows (hardware threads of one
    core share what kernels need and count once), at most the quota of its control group, rounded
    up.
    """
    allowed = _affinity()
    cores = {_core(cpu) for cpu in allowed}
    granted = quota(Path("/proc/self"))
    return max(1, len(cores) if granted is None else min(len(cores), granted))


def _affinity() -> set[int]:
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def _processor_number() -> Callable[[], int]:
    """What says on which processor a thread is: always -1 where the system cannot tell."""
    if hasattr(os, "sched_setaffinity"):
        with suppress(AttributeError):
            found: Callable[[], int] = ctypes.PyDLL(None).sched_getcpu
            return found
    return lambda: -1


def _core(cpu: int) -> str:
    """What names the core of a processor as the system counts them."""
    siblings = _text(Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"))
    return siblings or str(cpu)


def quota(process: Path) -> int | None:
    """The processors that control groups grant, rounded up; None for no bound.

    `process` is the directory of a process in /proc.
    """
    found = []
    for group in _text(process / "cgroup").splitlines():
        _, controllers, path = [*group.split(":", 2), "", ""][:3]
        is_v1 = "cpu" in controllers.split(",")
        if not is_v1 and controllers:
            continue
        for root, mounted in _mounts(process, is_v1=is_v1):
            relative = path.removeprefix(root.rstrip("/")).lstrip("/")
            place = mounted / relative if path.startswith(root) else mounted
            for folder in (place, *place.parents):
                found += _granted(folder, is_v1=is_v1)
                if folder == mounted:
                    break
    return min(found, default=None)


def _mounts(process: Path, *, is_v1: bool) -> list[tuple[str, Path]]:
    """Which part of the tree of control groups is mounted, and where."""
    found = []
    for line in _text(process / "mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        fields, kind = before.split(), after.split()
        if len(fields) < 5 or len(kind) < 3:
            continue
        has_cpu = kind[0] == "cgroup" and "cpu" in kind[2].split(",")
        if has_cpu if is_v1 else kind[0] == "cgroup2":
            found.append((fields[3], Path(fields[4])))
    return found


def _granted(folder: Path, *, is_v1: bool) -> list[int]:
    """The processors that one control group grants, if it has a bound."""
    if is_v1:
        words = [_text(folder / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period")]
    else:
        words = _text(folder / "cpu.max").split()
    if len(words) != 2 or not all(word.isdigit() for word in words) or "0" in words:
        return []
    return [-(-int(words[0]) // int(words[1]))]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _address(function: Any) -> int:
    found: int = ctypes.cast(function, ctypes.c_void_p).value or 0
    return found
