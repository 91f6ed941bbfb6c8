"""Other runtimes, where they are installed, to be timed beside this one.

As a program, ``python -m sardonyx.cli.peers NAME MODEL THREADS FEEDS.npz``, it tells in JSON what a
fresh process that has NumPy needs with one of them: seconds to import it, to make the model ready
and for the first run, and peak resident bytes.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["PEERS", "installed", "peak_bytes", "prepared"]

PEERS = ("onnxruntime", "openvino")


def installed(name: str) -> str | None:
    """The version of a runtime, or None where it is not installed."""
    if name == "sardonyx":
        from sardonyx._version import __version__

        return __version__
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def prepared(name: str, path: str, threads: int) -> Callable[[Mapping[str, Any]], list[Any]]:
    """The model at `path` made ready by runtime `name`: a function from feeds to all outputs.

    Each gives arrays that are the caller's, and computes in float32 what the model says is.
    """
    makers = {"sardonyx": _sardonyx, "onnxruntime": _onnxruntime, "openvino": _openvino}
    return makers[name](path, threads)


def _sardonyx(path: str, threads: int) -> Callable[[Mapping[str, Any]], list[Any]]:
    from sardonyx.runtime import Session

    session = Session(path, threads=threads, compile=True)
    return lambda feeds: session.run(None, feeds)


def _onnxruntime(path: str, threads: int) -> Callable[[Mapping[str, Any]], list[Any]]:
    runtime = importlib.import_module("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda feeds: list(session.run(None, feeds))


def _openvino(path: str, threads: int) -> Callable[[Mapping[str, Any]], list[Any]]:
    runtime = importlib.import_module("openvino")
    options = {
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
    }
    request = runtime.Core().compile_model(path, "CPU", options).create_infer_request()

    def run(feeds: Mapping[str, Any]) -> list[Any]:
        return list(request.infer(feeds, share_inputs=True).values())

    return run


def peak_bytes() -> int | None:
    """The most memory that was resident in this process so far; None where nobody knows."""
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        return int(status.split("VmHWM:")[1].split()[0]) * 1024
    except (OSError, IndexError, ValueError):
        pass
    try:
        resource = importlib.import_module("resource")
    except ImportError:
        return None
    most = int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    return most if sys.platform == "darwin" else most * 1024


def _main(name: str, path: str, threads: str, feeds_path: str) -> None:
    import numpy as np

    with np.load(feeds_path, allow_pickle=False) as archive:
        feeds = {key: archive[key] for key in archive.files}
    start = time.perf_counter()
    importlib.import_module("sardonyx.runtime" if name == "sardonyx" else name)
    imported = time.perf_counter() - start
    start = time.perf_counter()
    run = prepared(name, path, int(threads))
    created = time.perf_counter() - start
    start = time.perf_counter()
    run(feeds)
    first = time.perf_counter() - start
    for _ in range(2):
        run(feeds)
    found = {"import": imported, "create": created, "first_run": first, "peak": peak_bytes()}
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    _main(*sys.argv[1:])
