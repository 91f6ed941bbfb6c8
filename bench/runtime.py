"""Models beside onnxruntime and OpenVINO: the better of the two over sardonyx, 1 and 2 threads.

Each model is timed in a process of its own, where the runtimes take turns. With one thread the
time is the processor time of the process, which other processes disturb less; with more it is wall
time. What was measured is kept in `measured.json` in the folder of the models: naming some models
measures these again, and the page has all.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from models import MODULES, NAMES, build, feeds_of
from sardonyx.cli.bench import fresh, grouped, operators
from sardonyx.cli.peers import PEERS, installed, prepared
from sardonyx.runtime import Session
from sardonyx.runtime.bench import RESOLVED, SPINNING, Latency, interleaved, profile
from sardonyx.runtime.roofline import measure_roofline

RESULTS = Path(__file__).parent / "results" / "runtime.md"
OURS = "sardonyx"
RUNTIMES = (OURS, *PEERS)
NONE = "-"
LONG_CALL = 1e-4
SLOWEST = 4

GOALS = {
    "mlp": (2.0, 4.0),
    "minilm": (1.10, 1.3),
    "bert-base": (1.03, 1.15),
    "vit-b16": (1.03, 1.1),
    "gpt2": (1.03, 1.15),
    "llama-prefill": (1.03, 1.2),
    "llama-decode": (1.03, 1.2),
}
OPERATOR_GOAL = (1.2, 2.0)


# -- measuring, in a process of its own -------------------------------------------------------


def measure(name: str, folder: Path, threads: int, seconds: float) -> dict[str, Any]:
    """Latencies of one model in each runtime, and its slowest kernels."""
    path = build(name, folder)
    feeds = feeds_of(path)
    found: dict[str, Any] = {}
    calls, first = {}, {}
    for runtime in RUNTIMES:
        try:
            run = prepared(runtime, str(path), threads)
            first[runtime] = run(feeds)
        except Exception as error:
            if runtime == OURS:
                raise
            found[runtime] = {"failed": f"{type(error).__name__}: {error}"[:300]}
            continue
        calls[runtime] = partial(run, feeds)
    gc.collect()
    gc.disable()
    once = min(timed(calls[OURS]) for _ in range(5))
    clock = time.process_time if threads == 1 and once > LONG_CALL else time.perf_counter
    pause = SPINNING if threads > 1 else 0.0
    for runtime, taken in interleaved(calls, seconds, clock, pause).items():
        latency = Latency.of(taken)
        found[runtime] = {
            "p50": latency.p50,
            "best": latency.best,
            "p90": latency.p90,
            "count": latency.count,
            "away": away(first[OURS], first[runtime]),
        }
    found["clock"] = "processor" if clock is time.process_time else "wall"
    if threads == 1:
        found["kernels"], found["limits"] = slowest(path, feeds, seconds / 2)
    return found


def timed(call: Any) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def away(ours: list[Any], theirs: list[Any]) -> float:
    """The greatest difference, relative to the greatest element of the same output."""
    return max(
        float(np.abs(a - b).max() / max(np.abs(b).max(), 1e-30))
        for a, b in zip(ours, theirs, strict=True)
    )


def slowest(path: Path, feeds: dict[str, Any], seconds: float) -> tuple[list[Any], Any]:
    roofline = measure_roofline()
    session = Session(str(path), threads=1, compile=True)
    found = profile(session, feeds, roofline, seconds)
    groups = [
        {
            "operators": operators(same[0].label),
            "kind": same[0].kind,
            "count": len(same),
            "seconds": sum(kernel.seconds for kernel in same),
            "least": sum(kernel.least for kernel in same),
            "flops": sum(kernel.flops for kernel in same),
            "bytes": sum(kernel.nbytes for kernel in same),
            "part": sum(kernel.seconds for kernel in same) / max(found.seconds, 1e-12),
        }
        for same in grouped(found.kernels)[:SLOWEST]
    ]
    return groups, {"flops": roofline.flops, "bandwidths": list(roofline.bandwidths.values())}


# -- all of them ------------------------------------------------------------------------------


def run_all(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Measure the models that `options` name; everything known, measured before included."""
    kept = folder / "measured.json"
    known: dict[str, Any] = json.loads(kept.read_text()) if kept.exists() else {}
    for name in () if options.page else options.names:
        build(name, folder)
        row = known.setdefault(name, {})
        for threads in options.threads:
            row[str(threads)] = child(name, folder, threads, options.seconds)
        if options.fresh and name in MODULES:
            feeds = feeds_of(folder / f"{name}.onnx")
            place = str(folder / f"{name}.onnx")
            row["fresh"] = {each: fresh(each, place, 1, feeds) for each in RUNTIMES}
        row["when"] = datetime.now(timezone.utc).isoformat(timespec="minutes")
        kept.write_text(json.dumps(known, indent=1) + "\n")
        ratios = [ratio(row, threads, statistic(options)) for threads in options.threads]
        print(name, *(ratio_text(each) for each in ratios), flush=True)
    return {name: known[name] for name in NAMES if name in known}


def child(name: str, folder: Path, threads: int, seconds: float) -> dict[str, Any]:
    words = [sys.executable, __file__, "--child", name, "--folder", str(folder)]
    words += ["--threads", str(threads), "--seconds", str(seconds)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"failed": done.stderr[-500:]}
    return json.loads(done.stdout.splitlines()[-1])


def statistic(options: argparse.Namespace) -> str:
    return "best" if options.best else "p50"


def ratio(row: dict[str, Any], threads: int, key: str) -> float | None:
    """The better peer over ours; above 1 we are faster."""
    found = row.get(str(threads), {})
    times = [found[each][key] for each in PEERS if key in found.get(each, {})]
    if not times or key not in found.get(OURS, {}):
        return None
    return min(times) / found[OURS][key]


def ratio_text(value: float | None) -> str:
    return NONE if value is None else f"{value:.2f}"


def time_text(row: dict[str, Any], threads: int, runtime: str, key: str) -> str:
    seconds = row.get(str(threads), {}).get(runtime, {}).get(key)
    if seconds is None:
        return NONE
    return f"{seconds * 1e3:.3g} ms" if seconds >= 1e-3 else f"{seconds * 1e6:.3g} µs"


def rows_of(known: dict[str, Any], options: argparse.Namespace) -> list[list[str]]:
    key = statistic(options)
    rows = []
    for name, row in known.items():
        cells = [name]
        for count in options.threads:
            cells += [time_text(row, count, each, key) for each in RUNTIMES]
            cells.append(ratio_text(ratio(row, count, key)))
        if {1, 2} <= {*options.threads}:
            cells.append(scaling(row))
        must, aim = GOALS.get(name, OPERATOR_GOAL)
        cells.append("" if name.startswith("sgemm") else f"{must} / {aim}")
        rows.append(cells)
    return rows


def scaling(row: dict[str, Any]) -> str:
    """How many times as fast two threads are as one, by the fastest call of each."""
    found = [row.get(count, {}).get(OURS, {}).get("best") for count in ("1", "2")]
    return f"{found[0] / found[1]:.2f}" if all(found) else NONE


def head(threads: list[int]) -> list[str]:
    cells = ["model"]
    for count in threads:
        cells += [f"{each}, {count}" for each in RUNTIMES]
        cells.append(f"**ratio, {count}**")
    scaled = ["2 over 1"] if {1, 2} <= {*threads} else []
    return [*cells, *scaled, "must / aim"]


# -- the page ---------------------------------------------------------------------------------


def page(known: dict[str, Any], options: argparse.Namespace) -> str:
    threads = options.threads
    about = (
        f"`scripts/bench runtime --fresh --seconds {options.seconds:g}`: "
        f"{'the fastest calls' if options.best else 'medians'}, turn and turn about in one process "
        "for each model, float32, fixed shapes, random weights. The ratio is the better of "
        "onnxruntime and OpenVINO over sardonyx: above 1 sardonyx is faster. With one thread the "
        "times are processor time (wall time below 0.1 ms), with more wall time, and turns come "
        "0.1 s apart: the threads of onnxruntime spin for so long after a run."
    )
    if {1, 2} <= {*threads}:
        about += ' "2 over 1": how many times as fast two threads are, by the fastest calls.'
    parts = [
        "# Running models, beside onnxruntime and OpenVINO",
        about,
        machine(),
        markdown(head(threads), rows_of(known, options)),
    ]
    operators_rows = gemm_rows(known)
    if operators_rows:
        titles = ["product", "GFLOP/s", "of the measured peak"]
        parts += ["## Matrix products, one thread", markdown(titles, operators_rows)]
    if any("fresh" in row for row in known.values()):
        titles = ["model", "runtime", "import", "session", "cold", "first run", "peak memory"]
        about = (
            "Seconds to import the runtime after NumPy and to make a session, for sardonyx (which "
            "imports more when it is asked for it) with a filled and with an empty "
            "cache of compiled code; peak resident memory over creation and three runs."
        )
        parts += [
            "## A fresh process, one thread",
            about,
            markdown(titles, fresh_rows(known)),
        ]
    about = (
        "Share of a run, and of what the machine reaches at most: its multiply-adds or its memory "
        "bandwidth, whichever limits (`sardonyx bench --profile`)."
    )
    parts += [
        "## The slowest kernels, one thread",
        about,
        markdown(["model", "kernel", "count", "share", "GFLOP/s", "GB/s", "limit"], slow(known)),
    ]
    return "\n\n".join(parts) + "\n"


def markdown(titles: list[str], rows: list[list[str]]) -> str:
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def machine() -> str:
    model = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    versions = ", ".join(f"{name} {installed(name)}" for name in (*RUNTIMES, "llvmlite", "numpy"))
    day = datetime.now(timezone.utc).date().isoformat()
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return (
        f"{day} · {model}, {os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()} · "
        f"Python {platform.python_version()} · {versions} · load averages at the end {load}"
    )


def gemm_rows(known: dict[str, Any]) -> list[list[str]]:
    rows = []
    for name, row in known.items():
        single = row.get("1", {})
        if not name.startswith("sgemm") or "limits" not in single:
            continue
        flops = 2 * int(name.split("-")[1]) ** 3
        rate = flops / single[OURS]["best"]
        share = rate / single["limits"]["flops"]
        rows.append([name, f"{rate / 1e9:.1f}", f"{share:.0%}"])
    return rows


def fresh_rows(known: dict[str, Any]) -> list[list[str]]:
    rows = []
    for name, row in known.items():
        for runtime, found in row.get("fresh", {}).items():
            if "import_seconds" not in found:
                continue
            cold = found.get("cold_create_seconds")
            rows.append(
                [
                    name,
                    runtime,
                    f"{found['import_seconds'] * 1e3:.0f} ms",
                    f"{found['create_seconds'] * 1e3:.0f} ms",
                    "" if cold is None else f"{cold * 1e3:.0f} ms",
                    f"{found['first_run_seconds'] * 1e3:.1f} ms",
                    f"{found['peak_bytes'] / 2**20:.0f} MiB",
                ]
            )
    return rows


def slow(known: dict[str, Any]) -> list[list[str]]:
    rows = []
    for name, row in known.items():
        for group in row.get("1", {}).get("kernels", []):
            seconds = max(group["seconds"], 1e-9)
            is_kernel = group["kind"] == "kernel"
            if seconds < RESOLVED * group["count"]:
                continue
            rows.append(
                [
                    name,
                    group["operators"],
                    str(group["count"]),
                    f"{group['part']:.0%}",
                    f"{group['flops'] / seconds / 1e9:.1f}" if group["flops"] else "",
                    f"{group['bytes'] / seconds / 1e9:.1f}" if is_kernel else "",
                    f"{group['least'] / seconds:.0%}" if is_kernel else group["kind"],
                ]
            )
    return rows


def counts(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=NAMES, help=f"of {', '.join(NAMES)}")
    parser.add_argument("--folder", type=Path, help="where models are made and found again")
    parser.add_argument("--threads", type=counts, default=[1, 2], help="as in 1,2")
    parser.add_argument("--seconds", type=float, default=2.0, help="for each runtime and model")
    parser.add_argument("--fresh", action="store_true", help="also creation and memory")
    parser.add_argument(
        "--best", action="store_true", help="the fastest calls, where others use the machine"
    )
    parser.add_argument("--json", action="store_true", help="print figures for a machine")
    parser.add_argument("--page", action="store_true", help="only show what was measured before")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.gettempdir()) / "sardonyx-bench"
    if options.child:
        print(json.dumps(measure(options.child, folder, options.threads[0], options.seconds)))
        return
    known = run_all(options, folder)
    if options.json:
        print(json.dumps(known, indent=2))
        return
    table = Table(*(title.strip("*") for title in head(options.threads)))
    for row in rows_of(known, options):
        table.add_row(*row)
    Console(width=200).print(table)
    key = statistic(options)
    found = [ratio(row, count, key) for row in known.values() for count in options.threads]
    ratios = [each for each in found if each]
    if ratios:
        print(f"geometric mean of the ratios: {statistics.geometric_mean(ratios):.2f}")
    RESULTS.write_text(page(known, options), encoding="utf-8")
    print(f"written: {RESULTS}")


if __name__ == "__main__":
    main()
