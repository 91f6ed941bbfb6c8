"""``sardonyx bench``: how long a model takes, beside other runtimes, and where its time goes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.table import Table
from rich.text import Text

from sardonyx.cli.console import (
    elided,
    errors,
    heading,
    hint,
    output,
    print_json,
    printable,
    shown,
    working,
)
from sardonyx.cli.drawing import bytes_text, duration_text
from sardonyx.cli.feeds import Feeder, parse_dims, parse_shapes
from sardonyx.cli.images import Pixels
from sardonyx.cli.options import parse_limits
from sardonyx.cli.peers import PEERS, installed, prepared
from sardonyx.cli.results import type_text
from sardonyx.cli.values import Reader
from sardonyx.errors import InputError, quote
from sardonyx.runtime import Session
from sardonyx.runtime.bench import (
    RESOLVED,
    SPINNING,
    KernelTime,
    Latency,
    Profile,
    chrome_trace,
    interleaved,
    profile,
)
from sardonyx.runtime.roofline import Roofline, measure_roofline
from sardonyx.wire import load

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from rich.console import Console

__all__ = ["BenchOptions", "bench", "fresh"]

_OURS = "sardonyx"
_SHOWN_KERNELS = 20
_LABEL = 34
_PATIENCE = 600.0


@dataclass(frozen=True, kw_only=True)
class BenchOptions:
    """The options of ``sardonyx bench``, as they were written."""

    shapes: Sequence[str] = ()
    dims: Sequence[str] = ()
    seed: int = 0
    threads: int | None = None
    seconds: float = 2.0
    alone: bool = False
    profile: bool = False
    trace: str | None = None
    limits: Sequence[str] = field(default_factory=list)


def bench(path: str, options: BenchOptions, *, as_json: bool) -> None:
    """Time the model at `path`, and show how long it takes."""
    if not options.seconds > 0:
        raise InputError("--seconds must be above 0")
    limits = parse_limits(options.limits)
    with working("compiling"):
        model = load(path, limits=limits)
        session = Session(model, threads=options.threads, compile=True, limits=limits)
        feeder = _feeder(model, options, Reader(Pixels(), limits))
    document: dict[str, Any] = {
        "file": path,
        "threads": session.threads,
        "inputs": {
            name: {"type": str(value.dtype), "shape": list(value.shape)}
            for name, value in feeder.feeds.items()
            if isinstance(value, np.ndarray)
        },
        "notes": list(feeder.notes),
        "session": session.timing,
    }
    document["runtimes"] = _runtimes(path, session, feeder.feeds, options, document["notes"])
    if options.profile or options.trace:
        _add_profile(document, path, session, feeder.feeds, options)
    if as_json:
        print_json(document)
        return
    _print(output(), document, feeder)


def _feeder(model: Any, options: BenchOptions, reader: Reader) -> Feeder:
    names = [value.name for value in model.graph.required_inputs]
    every = [value.name for value in model.graph.inputs]
    shapes = parse_shapes(options.shapes, names if len(names) == 1 else every)
    feeder = Feeder(model, reader, shapes, parse_dims(options.dims, model))
    feeder.fill(options.seed)
    return feeder


# -- beside others --------------------------------------------------------------------------------


def _runtimes(
    path: str,
    session: Session,
    feeds: Mapping[str, Any],
    options: BenchOptions,
    notes: list[str],
) -> dict[str, Any]:
    """For each runtime that can run the model what was measured; ours is the first."""
    calls: dict[str, Callable[[], Any]] = {_OURS: lambda: session.run(None, feeds)}
    results: dict[str, list[Any]] = {}
    with working("running"):
        results[_OURS] = calls[_OURS]()
    for name in () if options.alone else PEERS:
        if installed(name) is None:
            notes.append(f"{name} is not installed: pip install {name} to compare with it")
            continue
        try:
            with working(f"loading into {name}"):
                run = prepared(name, path, session.threads)
                results[name] = run(feeds)
        except Exception as error:  # noqa: BLE001 - whatever another runtime raises
            notes.append(f"{name} does not run the model: {_first_line(error)}")
            continue
        calls[name] = lambda run=run: run(feeds)  # type: ignore[misc]
    with working("timing " + ", ".join(calls)):
        pause = SPINNING if session.threads > 1 and len(calls) > 1 else 0.0
        taken = interleaved(calls, options.seconds, pause=pause)
    found: dict[str, Any] = {}
    for name, seconds in taken.items():
        latency = Latency.of(seconds)
        found[name] = {
            "version": installed(name),
            **asdict(latency),
            "throughput": latency.throughput,
            "difference": _difference(results[_OURS], results[name]),
        }
        with working(f"a fresh process with {name}"):
            found[name] |= fresh(name, path, session.threads, feeds)
    for name, row in found.items():
        row["ratio"] = row["p50"] / found[_OURS]["p50"]
        if name != _OURS and row["difference"] is None:
            notes.append(f"{name} gives outputs of other shapes")
    return found


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else ''}"


def _difference(ours: Sequence[Any], theirs: Sequence[Any]) -> float | None:
    """The greatest difference, relative to the greatest element of the same output."""
    worst = 0.0
    for mine, other in zip(ours, theirs, strict=False):
        if not isinstance(mine, np.ndarray) or np.shape(mine) != np.shape(other):
            return None
        if mine.dtype.kind not in "fiub" or not mine.size:
            continue
        a, b = np.asarray(mine, np.float64), np.asarray(other, np.float64)
        fits = (a == b) | (np.isnan(a) & np.isnan(b))
        with np.errstate(invalid="ignore"):
            away = np.where(fits, 0.0, np.abs(a - b)).max()
        scale = np.abs(b[np.isfinite(b)]).max(initial=0.0)
        worst = max(worst, float(away / scale) if scale else float(away))
    return worst


def fresh(name: str, path: str, threads: int, feeds: Mapping[str, Any]) -> dict[str, Any]:
    """What a new process needs: seconds to make the model ready and for the first run, and bytes.

    For sardonyx with an empty cache of compiled code (``cold``) and with a filled one. Empty
    where the feeds are no plain arrays, or the process fails.
    """
    if not all(isinstance(f, np.ndarray) and f.dtype.isbuiltin == 1 for f in feeds.values()):
        return {}
    with tempfile.TemporaryDirectory(prefix="sardonyx-bench-") as place:
        archive = Path(place) / "feeds.npz"
        np.savez(archive, **dict(feeds))
        words = [name, str(path), str(threads), str(archive)]
        environment = {**os.environ}
        if name == _OURS:
            cache = Path(place) / "cache"
            cache.mkdir(mode=0o700)
            environment["SARDONYX_CACHE"] = str(cache)
        measured = [_process(words, environment) for _ in range(2 if name == _OURS else 1)]
    last = measured[-1]
    if last is None:
        return {}
    found = {
        "import_seconds": last["import"],
        "create_seconds": last["create"],
        "first_run_seconds": last["first_run"],
        "peak_bytes": last["peak"],
    }
    if name == _OURS and measured[0] is not None:
        found["cold_create_seconds"] = measured[0]["create"]
    return found


def _process(words: Sequence[str], environment: Mapping[str, str]) -> dict[str, Any] | None:
    command = [sys.executable, "-m", "sardonyx.cli.peers", *words]
    try:
        done = subprocess.run(  # noqa: S603 - our own module, no shell
            command,
            capture_output=True,
            text=True,
            check=True,
            env=dict(environment),
            timeout=_PATIENCE,
        )
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return None
    return found


# -- where the time goes --------------------------------------------------------------------------


def _add_profile(
    document: dict[str, Any],
    path: str,
    session: Session,
    feeds: Mapping[str, Any],
    options: BenchOptions,
) -> None:
    with working("timing kernels"):
        roofline = measure_roofline()
        found = profile(session, feeds, roofline, options.seconds)
    document["profile"] = _profile_document(found, roofline)
    if options.trace:
        target = Path(options.trace)
        try:
            target.write_text(json.dumps(chrome_trace(found, path)), encoding="utf-8")
        except OSError as error:
            reason = error.strerror or str(error)
            raise InputError(f"cannot write {quote(str(target))}: {reason}") from None
        document["trace"] = str(target)


def _profile_document(found: Profile, roofline: Roofline) -> dict[str, Any]:
    return {
        "threads": 1,
        "runs": found.runs,
        "seconds": found.seconds,
        "limits": {
            "flops": roofline.flops,
            "bandwidth": {str(size): rate for size, rate in roofline.bandwidths.items()},
        },
        "kernels": [
            {
                "kind": kernel.kind,
                "kernel": kernel.name,
                "label": kernel.label,
                "seconds": kernel.seconds,
                "flops": kernel.flops,
                "bytes": kernel.nbytes,
                "share": kernel.share,
            }
            for kernel in found.kernels
        ],
        "groups": [_group(same) for same in grouped(found.kernels)],
    }


def grouped(kernels: Sequence[KernelTime]) -> list[list[KernelTime]]:
    """Launches of the same kernel for nodes of the same kinds, those that take longest first."""
    found: dict[tuple[str, str], list[KernelTime]] = {}
    for kernel in kernels:
        found.setdefault((kernel.name, operators(kernel.label)), []).append(kernel)
    return sorted(found.values(), key=lambda same: -sum(kernel.seconds for kernel in same))


def operators(label: str) -> str:
    """The operators in a kernel's label."""
    types = re.findall(r"\(([^()]*)\)", label)
    text = " + ".join(types) or label
    return f"pack for {text}" if label.startswith("pack for ") else text


def _group(same: Sequence[KernelTime]) -> dict[str, Any]:
    seconds = sum(kernel.seconds for kernel in same)
    least = sum(kernel.least for kernel in same)
    return {
        "operators": operators(same[0].label),
        "kind": same[0].kind,
        "count": len(same),
        "seconds": seconds,
        "flops": sum(kernel.flops for kernel in same),
        "bytes": sum(kernel.nbytes for kernel in same),
        "share": least / seconds if seconds >= RESOLVED * len(same) else 0.0,
    }


# -- for people -----------------------------------------------------------------------------------


def _print(console: Console, document: Mapping[str, Any], feeder: Feeder) -> None:
    console.print(Text(printable(document["file"]), style="bold cyan"), soft_wrap=True)
    for name, value in feeder.feeds.items():
        console.print(Text("  ").append(f"{shown(name)}  ", style="cyan").append(type_text(value)))
    threads = document["threads"]
    runtimes = document["runtimes"]
    turns = ", turn and turn about" if len(runtimes) > 1 else ""
    console.print(heading("Latency", f"{threads} thread{'s' * (threads > 1)}{turns}"))
    table = _table(("runtime", "p50", "p90", "p99", "runs/s", "ratio"))
    for name, row in runtimes.items():
        times = [_time_text(row[key]) for key in ("p50", "p90", "p99")]
        rate = f"{row['throughput']:.4g}"
        ratio = "" if name == _OURS else f"{row['ratio']:.2f}"
        table.add_row(f"  {name} {row['version']}", *times, rate, ratio)
    console.print(table)
    if len(runtimes) > 1:
        console.print(hint("  ratio: their p50 over that of sardonyx; above 1 sardonyx is faster"))
    if any("create_seconds" in row for row in runtimes.values()):
        _print_fresh(console, runtimes)
    if "profile" in document:
        _print_profile(console, document["profile"])
    for note in document["notes"]:
        console.print(hint(f"  {printable(note)}"))
    if "trace" in document:
        errors().print(f"saved {printable(document['trace'])}", soft_wrap=True)


def _table(columns: Sequence[str], left: int = 1) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for number, name in enumerate(columns):
        title = f"  {name}" if number == 0 else name
        if number < left:
            table.add_column(title, justify="left", overflow="ellipsis", no_wrap=True)
        else:
            table.add_column(title, justify="right", no_wrap=True)
    return table


def _print_fresh(console: Console, runtimes: Mapping[str, Any]) -> None:
    console.print(heading("A fresh process"))
    table = _table(("runtime", "import", "session", "first run", "peak memory", "difference"))
    for name, row in runtimes.items():
        if "create_seconds" not in row:
            continue
        away = row["difference"]
        peak = row["peak_bytes"]
        table.add_row(
            f"  {name}",
            duration_text(row["import_seconds"]),
            duration_text(row["create_seconds"]),
            duration_text(row["first_run_seconds"]),
            "?" if peak is None else bytes_text(peak),
            "" if name == _OURS or away is None else f"{away:.1e}",
        )
    console.print(table)
    cold = runtimes[_OURS].get("cold_create_seconds")
    if cold is not None:
        console.print(hint(f"  sardonyx compiles it the first time: {duration_text(cold)}"))


def _print_profile(console: Console, found: Mapping[str, Any]) -> None:
    limits = found["limits"]
    rates = [rate / 1e9 for rate in limits["bandwidth"].values()]
    console.print(heading("Kernels", f"1 thread, {duration_text(found['seconds'])} in all"))
    table = _table(("operators", "n", "time", "%", "GFLOP/s", "GB/s", "of limit"))
    groups = found["groups"]
    for group in groups[:_SHOWN_KERNELS]:
        seconds = group["seconds"]
        name = elided(printable(group["operators"]), _LABEL)
        row = [f"  {name}", str(group["count"]), _time_text(seconds)]
        row.append(f"{seconds / found['seconds']:.0%}" if found["seconds"] else "")
        if group["kind"] == "reference" or not group["share"]:
            row += ["", "", group["kind"] if group["kind"] == "reference" else ""]
        else:
            rate = f"{group['flops'] / seconds / 1e9:.1f}" if group["flops"] else ""
            row += [rate, f"{group['bytes'] / seconds / 1e9:.1f}", f"{group['share']:.0%}"]
        table.add_row(*row)
    if len(groups) > _SHOWN_KERNELS:
        rest = groups[_SHOWN_KERNELS:]
        count, seconds = sum(g["count"] for g in rest), sum(g["seconds"] for g in rest)
        share = f"{seconds / found['seconds']:.0%}" if found["seconds"] else ""
        table.add_row(f"  {len(rest)} more", str(count), _time_text(seconds), share, "", "", "")
    console.print(table)
    console.print(
        hint(
            f"  of limit: of {limits['flops'] / 1e9:.0f} GFLOP/s, or of the {min(rates):.0f} to "
            f"{max(rates):.0f} GB/s of a core"
        )
    )


def _time_text(seconds: float) -> str:
    for unit, scale in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds * 1e6:.3g} µs"
