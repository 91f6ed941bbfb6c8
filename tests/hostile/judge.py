"""One file through every entry point, in a process of its own.

``python -m hostile.judge`` reads names of cases, a line each, and answers each with one line of
JSON. Every file gets a process forked from the warm parent, with bounds of its own, so that a
crash is an answer too.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

import sardonyx as sx
from hostile.corpus import Case
from sardonyx.check import validate
from sardonyx.codegen import build
from sardonyx.errors import SardonyxError
from sardonyx.infer import infer_shapes
from sardonyx.loops.machine import Machine

SECONDS = 60
NOMINAL = 0.02
ADDRESSES = 4 << 30
STAGES = ("load", "check", "infer", "session", "run", "save")


def walk(model: sx.Model) -> None:
    """Touch everything that is decoded on demand."""
    for graph in model.graphs():
        stack = [graph]
        while stack:
            current = stack.pop()
            for value in (*current.inputs, *current.outputs, *current.value_info):
                str(value.type)
            for value in current.initializers:
                touch(value.const)
            for node in current.nodes:
                for attribute in node.attributes.values():
                    touch(attribute.value)
                stack.extend(node.subgraphs())


def touch(value: Any) -> None:
    if hasattr(value, "values") and hasattr(value, "indices"):
        touch(value.values)
        touch(value.indices)
    elif hasattr(value, "numpy"):
        value.numpy()


def feeds_of(session: sx.Session) -> dict[str, Any]:
    """Ones for every input; open sizes are 2."""
    from sardonyx import dtypes

    found = {}
    for argument in session.get_inputs():
        name = argument.type.removeprefix("tensor(").removesuffix(")")
        shape = [size if isinstance(size, int) else 2 for size in argument.shape]
        if argument.type.startswith("tensor("):
            dtype = dtypes.from_name(name)
            fill = "a" if dtype is dtypes.STRING else 1
            found[argument.name] = np.full(shape, fill).astype(dtype.numpy)
    return found


def stages(case: Case, path: Path) -> list[tuple[str, Callable[[], Any]]]:
    def run() -> None:
        session = sx.Session(path, limits=case.limits)
        session.run(None, case.feeds() if case.feeds else feeds_of(session))

    def save() -> None:
        target = path.parent.parent / "saved.onnx"
        sx.save(sx.load(path), target)
        walk(sx.load(target))

    def check() -> None:
        report = validate(sx.load(path), limits=case.limits)
        for problem in report.problems:
            str(problem)
        report.raise_errors()

    calls = (
        lambda: walk(sx.load(path)),
        check,
        lambda: infer_shapes(sx.load(path)),
        lambda: sx.Session(path, limits=case.limits),
        run,
        save,
    )
    return list(zip(STAGES, calls, strict=True))


class Compiling:
    """Counts the processor time that LLVM takes for kernels that no cache holds."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.inner = build.compile_object
        build.compile_object = self

    def __call__(self, text: str, machine: Machine) -> bytes:
        start = time.process_time()
        try:
            return self.inner(text, machine)
        finally:
            self.seconds += time.process_time() - start


def judge_here(case: Case, path: Path) -> dict[str, Any]:
    """The verdict of each entry point, and what it cost; to be called in a process of its own.

    Pages of libraries that a stage is the first to touch after the fork are not memory of its own.
    """
    found: dict[str, Any] = {"bytes": path.stat().st_size, "slowness": slowness()}
    memory = 0
    compiling = Compiling()
    for stage, call in stages(case, path):
        gc.collect()
        compiling.seconds = 0.0
        Path("/proc/self/clear_refs").write_text("5")
        before, code = resident("VmRSS"), resident("RssFile")
        wall, cpu = time.perf_counter(), time.process_time()
        try:
            call()
            verdict, message = "ok", ""
        except SardonyxError as error:
            verdict, message = type(error).__name__, str(error)
        except BaseException as error:  # noqa: BLE001 - what is untyped is the finding
            verdict, message = f"!{type(error).__name__}", traceback_of(error)
        found[stage] = {
            "verdict": verdict,
            "message": message[:2000],
            "length": len(message),
            "printable": all(c.isprintable() or c == "\n" for c in message),
            "wall": time.perf_counter() - wall,
            "cpu": time.process_time() - cpu - compiling.seconds,
            "compiling": compiling.seconds,
        }
        mapped = max(resident("RssFile") - code, 0)
        memory = max(memory, resident("VmHWM") - before - mapped)
    found["memory"] = memory
    return found


def traceback_of(error: BaseException) -> str:
    import traceback

    return "".join(traceback.format_exception(error)[-6:])


def resident(field: str) -> int:
    """Bytes of memory of this process: now (VmRSS), at most (VmHWM), pages of files (RssFile)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise AssertionError(field)


def verdict_of(found: Mapping[str, Any]) -> str:
    """ "accepted", or the first entry point that refuses and the error."""
    if found.get("signal"):
        return f"signal {found['signal']}"
    for stage in ("load", "check", "session", "run"):
        if found[stage]["verdict"] != "ok":
            return f"{stage} {found[stage]['verdict']}"
    return "accepted"


def judge(case: Case, work: Callable[[Case, Path], dict[str, Any]] = judge_here) -> dict[str, Any]:
    """Fork, and let `work` judge `case` in the child."""
    with tempfile.TemporaryDirectory() as folder:
        path = case.write(Path(folder))
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            in_child(case, path, writing, work)
        os.close(writing)
        answer = b""
        deadline = time.monotonic() + SECONDS
        while True:
            ready = select.select([reading], [], [], max(deadline - time.monotonic(), 0))[0]
            block = os.read(reading, 1 << 16) if ready else b""
            answer += block
            if not block:
                break
        os.close(reading)
        if not answer and time.monotonic() >= deadline:
            os.kill(child, signal.SIGKILL)
        _, status, _ = os.wait4(child, 0)
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return {"signal": "timeout" if number == signal.SIGKILL else signal.Signals(number).name}
    if not answer:
        return {"signal": f"exit {os.WEXITSTATUS(status)}"}
    found: dict[str, Any] = json.loads(answer)
    return found


def in_child(
    case: Case, path: Path, writing: int, work: Callable[[Case, Path], dict[str, Any]]
) -> None:
    code = 1
    try:
        here = resource.getrlimit(resource.RLIMIT_AS)[1]
        used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        resource.setrlimit(resource.RLIMIT_AS, (used + ADDRESSES, here))
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 1))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        rest = json.dumps(work(case, path)).encode()
        while rest:
            rest = rest[os.write(writing, rest) :]
        code = 0
    finally:
        os._exit(code)


class Judge:
    """The warm parent in a process of its own; `ask` it for one case after another."""

    def __init__(self, module: str = "hostile.judge") -> None:
        tests = str(Path(__file__).parents[1])
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([tests, os.environ.get("PYTHONPATH", "")]),
            "OPENBLAS_NUM_THREADS": "1",
            "OMP_NUM_THREADS": "1",
            "PYTHONHASHSEED": "0",
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
        )

    def ask(self, name: str) -> dict[str, Any]:
        """What the entry points say to the case called `name`."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(name) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def close(self) -> None:
        """End the parent."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


def slowness() -> float:
    """How much longer than on an idle machine computing takes now, at least 1."""
    start = time.process_time()
    total = 0
    for number in range(400_000):
        total += number & 7
    return max((time.process_time() - start) / NOMINAL, 1.0)


def warm_up() -> None:
    """Import and fill every cache that the first file would otherwise pay for."""
    from hostile.wire import seed
    from sardonyx.ops import registry

    for name in ("", "ai.onnx.ml"):
        registry.get(name, "Neg" if not name else "Scaler")
    data = seed().SerializeToString()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "seed.onnx"
        path.write_bytes(data)
        session = sx.Session(path)
        session.run(None, feeds_of(session))
        sx.save(infer_shapes(sx.load(path)), path)
    gc.collect()
    gc.freeze()


def serve(work: Callable[[Case, Path], dict[str, Any]] = judge_here) -> None:
    """Answer the names on standard input."""
    from hostile.corpus import cases

    known = cases()
    for line in sys.stdin:
        print(json.dumps(judge(known[json.loads(line)], work)), flush=True)


if __name__ == "__main__":
    warm_up()
    serve()
