"""Well-known networks in small sizes, exported by Sardonyx and by torch.onnx, turn and turn about.

The networks are those of `tests/export/networks*.py`; most need the transformers package. Each is
a process of its own. Given are the median of processor time of an export, nodes (and what
`sardonyx.optimize`, which folds constants, leaves of either's), the size of the file, and the
largest error on onnxruntime over two calls of different sizes, relative to the largest magnitude
of the output.
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

sys.path.append(str(Path(__file__).parents[1] / "tests"))

if TYPE_CHECKING:
    from collections.abc import Callable

EXPORTERS = ("sardonyx", "torch.onnx")
OPSET = 20
RATIOS = ("seconds", "nodes", "optimized")
LIMIT = 1800
WIDTH = 300


def networks() -> Any:
    from export import networks, networks_media, networks_text  # noqa: F401 - they register

    return networks


def by_sardonyx(network: Any, path: Path, *, verify: bool = False) -> None:
    import sardonyx as sx

    sx.export(
        network.module,
        (),
        path,
        kwargs=network.call(),
        dynamic_shapes=network.dynamic_shapes if network.is_dynamic else None,
        opset_version=OPSET,
        verify=verify,
    )


def by_torch(network: Any, path: Path) -> None:
    import torch

    torch.onnx.export(
        network.module,
        (),
        str(path),
        kwargs=network.call(),
        dynamic_shapes=network.dynamic_shapes if network.is_dynamic else None,
        dynamo=True,
        optimize=True,
        opset_version=OPSET,
        external_data=False,
        verbose=False,
    )


def largest_error(network: Any, path: Path) -> float:
    """Of all outputs at both sizes on onnxruntime."""
    import onnxruntime
    import torch
    from torch.utils import _pytree as pytree

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = {value.name for value in session.get_inputs()}
    errors = [0.0]
    for which in (0, 1) if network.is_dynamic else (0,):
        call = network.call(which)
        with torch.no_grad():
            leaves = pytree.tree_leaves(network.module(**call))
        expected = [leaf.numpy() for leaf in leaves if leaf is not None]
        found = session.run(None, {key: call[key].numpy() for key in call if key in names})
        for right, got in zip(expected, found, strict=True):
            if right.shape != got.shape or right.dtype != got.dtype:
                raise ValueError(f"{right.dtype}{right.shape} is {got.dtype}{got.shape}")
            scale = max(1e-3, float(np.abs(right).max(initial=0)))
            errors.append(float(np.abs(got.astype(float) - right).max(initial=0)) / scale)
    return max(errors)


def nodes_of(data: bytes) -> int:
    """Nodes, those of subgraphs too, constants apart."""
    import onnx

    from torch_sweep import nodes_of

    return nodes_of(onnx.load_from_string(data).graph)


def optimized_nodes(path: Path) -> int:
    """Nodes that `sardonyx.optimize` leaves, in a file of either."""
    import sardonyx as sx

    return nodes_of(sx.dumps(sx.optimize(sx.load(path))))


def measured(name: str, repeats: int, *, verified: bool) -> dict[str, dict[str, Any]]:
    """Both exporters' figures for one network, or why one failed."""
    import torch

    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    network = networks().build(name)
    warm = networks().Network(torch.nn.Linear(2, 2), {"input": networks().floats("batch", 2)})
    ways: dict[str, Callable[[Any, Path], None]] = {
        "sardonyx": by_sardonyx,
        "torch.onnx": by_torch,
    }
    if verified:
        ways["sardonyx, verified"] = partial(by_sardonyx, verify=True)
    seconds: dict[str, list[float]] = {who: [] for who in ways}
    figures: dict[str, dict[str, Any]] = {who: {} for who in ways}
    with tempfile.TemporaryDirectory() as folder:
        for export in ways.values():
            export(warm, Path(folder) / "warm.onnx")
        for _ in range(repeats):
            for who, export in ways.items():
                if "failure" in figures[who]:
                    continue
                gc.collect()
                start = time.process_time()
                try:
                    export(network, Path(folder) / f"{who}.onnx")
                except Exception as error:  # noqa: BLE001 - reported as a failure
                    figures[who]["failure"] = said(error)
                seconds[who].append(time.process_time() - start)
        for who in ways:
            path = Path(folder) / f"{who}.onnx"
            if "failure" in figures[who]:
                continue
            figures[who] = {
                "seconds": statistics.median(seconds[who]),
                "nodes": nodes_of(path.read_bytes()),
                "bytes": path.stat().st_size,
                "optimized": optimized_nodes(path),
            }
            try:
                figures[who]["error"] = largest_error(network, path)
            except Exception as error:  # noqa: BLE001 - reported as a failure
                figures[who]["failure"] = said(error)
    return figures


def said(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:WIDTH]}"


def in_process(name: str, options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    command = [sys.executable, __file__, name, "--one", "--repeats", str(options.repeats)]
    command += ["--verified"] if options.verified else []
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)
        return json.loads(done.stdout.splitlines()[-1])
    except (subprocess.TimeoutExpired, IndexError, ValueError) as error:
        return {who: {"failure": said(error)} for who in EXPORTERS}


def show(results: dict[str, dict[str, dict[str, Any]]]) -> None:
    """The table, as Markdown; a ratio below 1 is in our favour."""
    columns = (*EXPORTERS, "sardonyx, verified")
    verified = any(columns[2] in figures for figures in results.values())
    heads = [
        "network",
        *(f"{key}, {who}" for key in ("s", "nodes", "optimized", "KiB") for who in EXPORTERS),
    ]
    heads += [
        "s, ratio",
        "nodes, ratio",
        "optimized, ratio",
        *(f"error, {who}" for who in EXPORTERS),
    ]
    heads += ["s, verified"] if verified else []
    print(f"| {' | '.join(heads)} |")
    print("|---" * len(heads) + "|")
    for name, figures in results.items():
        cells = [name]
        for key in ("seconds", "nodes", "optimized", "bytes"):
            cells += [shown(figures[who], key) for who in EXPORTERS]
        cells += [ratio(figures, key) for key in RATIOS]
        cells += [shown(figures[who], "error") for who in EXPORTERS]
        cells += [shown(figures.get(columns[2], {}), "seconds")] if verified else []
        print(f"| {' | '.join(cells)} |")
    for who in EXPORTERS:
        failed = {
            name: each[who]["failure"] for name, each in results.items() if "failure" in each[who]
        }
        print(f"\n{who} fails on {len(failed)} of {len(results)}.")
        for name, failure in failed.items():
            print(f"- {name}: {failure}")
    for key in RATIOS:
        found = [value for each in results.values() if (value := quotient(each, key)) is not None]
        if found:
            print(
                f"\n{key}, sardonyx by torch.onnx: median {statistics.median(found):.2f}, "
                f"{sum(value <= 1 for value in found)} of {len(found)} at most 1"
            )


def shown(found: dict[str, Any], key: str) -> str:
    if key not in found:
        return "fails" if "failure" in found else ""
    value = found[key]
    if key == "seconds":
        return f"{value:.2f}"
    if key == "error":
        return f"{value:.0e}"
    return f"{value / 1024:.0f}" if key == "bytes" else f"{value}"


def quotient(figures: dict[str, dict[str, Any]], key: str) -> float | None:
    ours, theirs = (figures[who].get(key) for who in EXPORTERS)
    return ours / theirs if ours and theirs else None


def ratio(figures: dict[str, dict[str, Any]], key: str) -> str:
    found = quotient(figures, key)
    return "" if found is None else f"{found:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="networks (all)")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--verified", action="store_true", help="time verify=True as well")
    parser.add_argument("--json", action="store_true", help="print figures for a machine")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measured(options.names[0], options.repeats, verified=options.verified)))
        return
    names = options.names or list(networks().NETWORKS)
    results = {}
    for index, name in enumerate(names):
        results[name] = in_process(name, options)
        print(f"{index + 1}/{len(names)} {name} {json.dumps(results[name])}", file=sys.stderr)
    if options.json:
        print(json.dumps(results, indent=2))
        return
    show(results)


if __name__ == "__main__":
    main()
