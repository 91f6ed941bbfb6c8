"""Threads that share a run: the pool's protocol, and what users see of it."""

from __future__ import annotations

import ctypes
import itertools
import os
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from build import from_text
from sardonyx.codegen.machine import host
from sardonyx.codegen.native import compile_object, load_object
from sardonyx.codegen.runner import RECORD_WORDS, STATUS_BYTES, Control, runner_text
from sardonyx.errors import ExecutionError, InputError, LimitError
from sardonyx.limits import DEFAULT
from sardonyx.reference import Evaluator
from sardonyx.runtime import Session
from sardonyx.runtime.compiled import compile_model
from sardonyx.runtime.threads import Helpers, available, quota, resolve

pytestmark = pytest.mark.skipif(os.name != "posix", reason="threads are POSIX threads")

KERNEL = ctypes.CFUNCTYPE(
    None,
    ctypes.c_int64,
    ctypes.c_int64,
    ctypes.c_int64,
    ctypes.c_int64,
    ctypes.c_int64,
    ctypes.c_int64,
)
RUN = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p)
BLOCK = 4096
ALONE, SHARED, WAKING = 0, 1, 3


def pool_with(threads, *, futex=True):
    machine = host()
    library = load_object([compile_object(runner_text(machine, futex=futex), machine)], machine)
    helpers = Helpers(library, futex=futex and sys.platform == "linux")
    helpers.grow(threads)
    return helpers, RUN(library.address("sardonyx_run"))


class Program:
    """A program whose kernels are Python functions of (begin, end, thread)."""

    def __init__(self, *launches):
        self.kernels = [KERNEL(self._kernel(function)) for function, *_ in launches]
        self.records = np.zeros((len(launches), RECORD_WORDS), np.int64)
        for row, (kernel, (_, extent, least, mode)) in enumerate(
            zip(self.kernels, launches, strict=True)
        ):
            address = ctypes.cast(kernel, ctypes.c_void_p).value
            self.records[row] = (address, 0, extent, least, mode, 1)
        self.status = np.zeros(STATUS_BYTES * 16, np.uint8)

    def _kernel(self, function):
        def kernel(args, table, begin, end, scratch, status):
            thread = (scratch - (1 << 20)) // BLOCK
            assert status == self.status.ctypes.data + STATUS_BYTES * thread
            if function(begin, end, thread):
                self.status[STATUS_BYTES * thread] = 1

        return kernel

    def run(self, call, helpers, threads, *, budget=1 << 40, first=0):
        words = (ctypes.c_int64 * Control.WORDS)()
        words[Control.PROGRAM] = self.records.ctypes.data
        words[Control.COUNT] = len(self.records)
        words[Control.FIRST] = first
        words[Control.SCRATCH], words[Control.STRIDE] = 1 << 20, BLOCK
        words[Control.STATUS] = self.status.ctypes.data
        words[Control.POOL] = helpers.address if helpers else 0
        words[Control.THREADS], words[Control.BUDGET] = threads, budget
        return call(ctypes.addressof(words))


@pytest.fixture(params=[True, False], ids=["futex", "condition"])
def pool(request):
    helpers, call = pool_with(4, futex=request.param)
    yield helpers, call
    helpers.end()


def test_each_step_is_computed_once(pool):
    helpers, call = pool
    for extent in (2, 7, 64, 1000, 100_003):
        chunks: list[tuple[int, int, int]] = []

        def note(begin, end, thread, chunks=chunks):
            chunks.append((begin, end, thread))

        program = Program((note, extent, 1, WAKING))
        assert program.run(call, helpers, 4) == 1
        ranges = sorted(chunk[:2] for chunk in chunks)
        assert ranges[0][0] == 0
        assert ranges[-1][1] == extent
        assert all(a[1] == b[0] for a, b in itertools.pairwise(ranges))
        assert {thread for *_, thread in chunks} <= {0, 1, 2, 3}


def test_helpers_take_part_and_a_launch_ends_when_all_chunks_have(pool):
    helpers, call = pool
    together = threading.Barrier(3, timeout=20)
    ended = []

    def meet(begin, end, thread):
        together.wait()
        time.sleep(0.01)
        ended.append(thread)

    def after(begin, end, thread):
        ended.append("next")

    program = Program((meet, 3, 1, WAKING), (after, 5, 1, ALONE))
    assert program.run(call, helpers, 4) == 2
    assert len(set(ended[:3])) == 3
    assert ended[3:] == ["next"]


def test_the_calling_thread_needs_nobody():
    helpers, call = pool_with(1)
    seen = []
    program = Program((lambda b, e, t: seen.append(t), 100, 1, WAKING))
    assert program.run(call, helpers, 4) == 1
    assert set(seen) == {0}


def test_helpers_are_bounded_by_the_run(pool):
    helpers, call = pool
    seen = set()
    program = Program(*[(lambda b, e, t: (seen.add(t), time.sleep(0.001))[0], 64, 1, WAKING)] * 10)
    program.run(call, helpers, 2)
    assert seen <= {0, 1}


def test_a_second_run_meanwhile_is_alone(pool):
    helpers, call = pool
    inside, release = threading.Event(), threading.Event()

    def hold(begin, end, thread):
        inside.set()
        release.wait(20)

    first = Program((hold, 2, 1, WAKING))
    runner = threading.Thread(target=first.run, args=(call, helpers, 4))
    runner.start()
    assert inside.wait(20)
    seen = []
    second = Program((lambda b, e, t: seen.append((b, e, t)), 100, 1, WAKING))
    assert second.run(call, helpers, 4) == 1
    assert seen == [(0, 100, 0)]
    release.set()
    runner.join(20)
    assert not runner.is_alive()


def test_a_fault_of_any_thread_names_the_launch(pool):
    helpers, call = pool

    def fault(begin, end, thread):
        return begin <= 40 < end

    done = []
    program = Program(
        (lambda b, e, t: None, 8, 1, ALONE),
        (fault, 64, 1, WAKING),
        (lambda b, e, t: done.append(b), 8, 1, ALONE),
    )
    assert program.run(call, helpers, 4) == -3
    assert done == []


def test_a_run_returns_when_its_budget_is_spent(pool):
    helpers, call = pool
    done = []
    program = Program(*[(lambda b, e, t: done.append(b), 1, 1, ALONE)] * 5)
    assert program.run(call, helpers, 4, budget=2) == 2
    assert program.run(call, helpers, 4, first=2) == 5
    assert len(done) == 5


MLP = """<ir_version: 8, opset_import: ["" : 17]>
g (float[B,256] x, float[256,512] w, float[512,256] v) => (float[B,256] y, int64[B] best) {
  h = MatMul(x, w)
  r = Sigmoid(h)
  u = MatMul(r, v)
  s = Softmax(u)
  y = Add(s, x)
  best = ArgMax<axis=1, keepdims=0>(y)
}"""


def fed(batch, seed=0):
    random = np.random.default_rng(seed)
    shapes = {"x": (batch, 256), "w": (256, 512), "v": (512, 256)}
    return {name: random.standard_normal(shape, np.float32) for name, shape in shapes.items()}


@pytest.fixture(scope="module")
def sessions():
    model = from_text(MLP)
    return {threads: Session(model, compile=True, threads=threads) for threads in (1, 2, 3)}


@pytest.mark.parametrize("batch", [1, 5, 64, 200])
def test_numbers_do_not_depend_on_threads(sessions, batch):
    feeds = fed(batch)
    expected = Session(from_text(MLP), compile=False).run(None, feeds)
    alone = sessions[1].run(None, feeds)
    tolerance = 512 * np.finfo(np.float32).eps * 8
    np.testing.assert_allclose(alone[0], expected[0], rtol=tolerance, atol=tolerance)
    for session in sessions.values():
        for _ in range(3):
            for got, want in zip(session.run(None, feeds), alone, strict=True):
                np.testing.assert_array_equal(got, want)


def at_once(count, work):
    errors = []

    def guarded(number):
        try:
            work(number)
        except BaseException as error:  # noqa: BLE001 - shown by the assertion
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    assert errors == []


def test_many_callers_of_one_session(sessions):
    feeds = [fed(batch, batch) for batch in (1, 3, 40, 64, 70, 90)]
    expected = [sessions[1].run(None, one) for one in feeds]

    def work(number):
        for turn in range(8):
            which = (number + turn) % len(feeds)
            found = sessions[3].run(None, feeds[which])
            for got, want in zip(found, expected[which], strict=True):
                np.testing.assert_array_equal(got, want)

    at_once(6, work)


def test_two_sessions_at_once(sessions):
    feeds = fed(80)
    expected = sessions[1].run(None, feeds)

    def work(number):
        for _ in range(10):
            for got, want in zip(sessions[2 + number].run(None, feeds), expected, strict=True):
                np.testing.assert_array_equal(got, want)

    at_once(2, work)


def seconds_of_helpers():
    """The processor time of all helpers: the process has threads of the test runner, too."""
    if sys.platform != "linux":
        return time.process_time()
    tasks = Path("/proc/self/task")
    names = (t for t in threading.enumerate() if t.name.startswith("sardonyx-"))
    return (
        sum(int((tasks / str(t.native_id) / "schedstat").read_text().split()[0]) for t in names)
        / 1e9
    )


def test_nothing_runs_after_a_run(sessions):
    feeds = fed(200)
    for _ in range(3):
        sessions[3].run(None, feeds)
    time.sleep(0.01)
    before = seconds_of_helpers()
    time.sleep(1)
    assert seconds_of_helpers() - before < 0.02


DEEP = (
    """<ir_version: 8, opset_import: ["" : 17]>
g (float[N,N] x, float[N,N] w) => (float[N,N] y) {
  h0 = MatMul(x, w)
"""
    + "".join(f"  h{i + 1} = MatMul(h{i}, w)\n" for i in range(60))
    + "  y = Identity(h60)\n}"
)


def deep_feeds(n=400):
    return {"x": np.eye(n, dtype=np.float32), "w": np.eye(n, dtype=np.float32)}


@pytest.fixture(scope="module")
def deep():
    return Session(from_text(DEEP), compile=True, threads=2)


def test_cancelling_a_run(deep):
    feeds = deep_feeds()
    for _ in range(2):  # the first run takes longer
        start = time.perf_counter()
        deep.run(None, feeds)
        whole = time.perf_counter() - start
    for attempt in range(30):  # on a busy machine the timer may come when a run has ended
        cancel = threading.Event()
        timer = threading.Timer(whole / (5 + attempt), cancel.set)
        timer.start()
        try:
            deep.run(None, feeds, cancel=cancel)
        except ExecutionError as error:
            assert "cancelled" in str(error)
            break
        finally:
            timer.join()
    else:
        pytest.fail("no run was cancelled")
    found = deep.run(None, feeds)
    np.testing.assert_array_equal(found[0], feeds["x"])
    untouched = deep.run(None, feeds, cancel=threading.Event())
    np.testing.assert_array_equal(untouched[0], feeds["x"])


def test_a_run_that_was_cancelled_before_it_began(deep):
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(ExecutionError, match="cancelled"):
        deep.run(None, deep_feeds(4), cancel=cancel)


def test_the_deadline_of_a_run():
    model = from_text(DEEP)
    limits = DEFAULT.replace(seconds=0.005)
    compiled = compile_model(model, Evaluator(model, limits=limits), limits, threads=2)
    with pytest.raises(LimitError, match="seconds"):
        compiled.run(deep_feeds())
    with pytest.raises(LimitError, match="seconds"):
        compiled.run(deep_feeds())


def test_the_memory_of_a_run_is_bounded():
    model = from_text(DEEP)
    compiled = compile_model(model, Evaluator(model), DEFAULT.replace(tensor_bytes=1 << 16))
    assert compiled.run(deep_feeds(8))["y"].shape == (8, 8)
    with pytest.raises(LimitError, match="tensor bytes"):
        compiled.run(deep_feeds(400))


def in_child(script, *, timeout=120):
    """Run a script in a process of its own, which dumps its stacks and ends where it hangs."""
    begin = f"""
        import faulthandler, os, sys, threading, time, warnings
        faulthandler.dump_traceback_later({timeout}, exit=True)
        warnings.simplefilter("ignore")
        sys.path.insert(0, {str(Path(__file__).parents[1])!r})
        import numpy as np
        from build import from_text
        from sardonyx.runtime import Session
    """
    text = textwrap.dedent(begin) + textwrap.dedent(script)
    done = subprocess.run(
        [sys.executable, "-c", text],
        capture_output=True,
        text=True,
        timeout=timeout + 30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


WIDE = """
text = '''<ir_version: 8, opset_import: ["" : 17]>
g (float[N] x) => (float[N] y) {
  y = Exp(x)
}'''
session = Session(from_text(text), compile=True, threads=3)
x = np.zeros(1 << 20, np.float32)
assert (session.run(None, {"x": x})[0] == 1).all()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_starts_anew():
    script = """
    for inside in (False, True):
        stop = threading.Event()
        def busy():
            while not stop.is_set():
                session.run(None, {"x": x})
        other = threading.Thread(target=busy)
        if inside:
            other.start()
        for _ in range(5):
            child = os.fork()
            if child == 0:
                good = all((session.run(None, {"x": x})[0] == 1).all() for _ in range(3))
                os._exit(0 if good else 1)
            assert os.waitpid(child, 0)[1] == 0
        stop.set()
        if inside:
            other.join()
    print("done")
    """
    assert in_child(WIDE + textwrap.dedent(script)) == "done\n"


def test_a_process_ends_at_once():
    script = """
    def busy():
        while True:
            session.run(None, {"x": x})
    threading.Thread(target=busy, daemon=True).start()
    time.sleep(0.1)
    print("done")
    """
    assert in_child(WIDE + textwrap.dedent(script)) == "done\n"


def test_thousands_of_tiny_launches_with_more_threads_than_processors():
    script = """
    import ctypes
    from sardonyx.codegen.runner import Control, RECORD_WORDS
    from sardonyx.reference import Evaluator
    from sardonyx.limits import DEFAULT
    from sardonyx.runtime.compiled import compile_model
    lines = "".join(f"  h{i + 1} = MatMul(h{i}, w)\\n" for i in range(100))
    text = '''<ir_version: 8, opset_import: ["" : 17]>
    g (float[N,N] h0, float[N,N] w) => (float[N,N] h100) {
    ''' + lines + "}"
    model = from_text(text)
    compiled = compile_model(model, Evaluator(model), DEFAULT, threads=4)
    feeds = {"h0": np.arange(576, dtype=np.float32).reshape(24, 24),
             "w": np.eye(24, dtype=np.float32)[::-1].copy()}
    compiled.run(feeds)
    layout = compiled._recent.layout
    layout.program[:, 3] = 1
    layout.program[:, 4] = 3
    layout.is_shared = True
    for _ in range(40):
        found = compiled.run(feeds)["h100"]
        assert (found == feeds["h0"]).all()
    print("done", len(layout.program) >= 100)
    """
    assert in_child(textwrap.dedent(script)) == "done True\n"


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="affinity is Linux's")
def test_helpers_keep_off_the_callers_processor(monkeypatch):
    allowed = os.sched_getaffinity(0)
    if len(allowed) < 2:
        pytest.skip("one processor")
    before = set(threading.enumerate())
    helpers, _ = pool_with(3)
    started = set(threading.enumerate()) - before
    assert len(started) == 2
    for here in sorted(allowed)[:2]:
        monkeypatch.setattr(helpers, "_here", lambda here=here: here)
        helpers.keep_away()
        for thread in started:
            assert os.sched_getaffinity(thread.native_id) == allowed - {here}
    helpers.end()


def test_threads_of_a_session():
    model = from_text(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[N] x) => (float[N] y) { y = Neg(x) }'
    )
    assert Session(model, threads=2).threads == 2
    assert Session(model).threads == available()
    assert resolve(None) == available() >= 1
    with pytest.raises(InputError, match="threads"):
        Session(model, threads=0)


def test_quotas_of_control_groups(tmp_path):
    process, mounted = tmp_path / "self", tmp_path / "groups"
    inner = mounted / "a" / "b"
    inner.mkdir(parents=True)
    process.mkdir()
    (process / "cgroup").write_text("0::/a/b\n")
    (process / "mountinfo").write_text(f"30 24 0:26 / {mounted} rw - cgroup2 cgroup2 rw\n")
    assert quota(process) is None
    (inner / "cpu.max").write_text("max 100000\n")
    assert quota(process) is None
    (mounted / "a" / "cpu.max").write_text("250000 100000\n")
    assert quota(process) == 3
    (inner / "cpu.max").write_text("50000 100000\n")
    assert quota(process) == 1
    (process / "cgroup").write_text("4:cpu,cpuacct:/docker/7\n0::/\n")
    (process / "mountinfo").write_text(
        f"31 24 0:27 /docker/7 {mounted} rw - cgroup cgroup rw,cpu,cpuacct\n"
    )
    (mounted / "cpu.cfs_quota_us").write_text("-1\n")
    (mounted / "cpu.cfs_period_us").write_text("100000\n")
    assert quota(process) is None
    (mounted / "cpu.cfs_quota_us").write_text("400000\n")
    assert quota(process) == 4
    assert quota(tmp_path / "nowhere") is None
