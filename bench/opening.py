"""Opening, visiting and saving models beside the onnx package, in turn, as medians and ratios."""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from rich.console import Console
from rich.table import Table

import sardonyx.wire as wire

if TYPE_CHECKING:
    from collections.abc import Callable

MIB = 1 << 20
SAVE = {
    "sardonyx": "from sardonyx.wire import load, save; save(load({source!r}), {target!r})",
    "onnx": "import onnx; onnx.save(onnx.load({source!r}), {target!r})",
    "import sardonyx": "import sardonyx.wire",
    "import onnx": "import onnx",
}
PEAK = """
import threading, time
peak, done = 0, False
def watch():
    global peak
    while not done:
        with open("/proc/self/status") as status:
            peak = max(peak, int(status.read().split("RssAnon:")[1].split()[0]))
        time.sleep(0.002)
watcher = threading.Thread(target=watch)
watcher.start()
{program}
done = True
watcher.join()
print(peak)
"""


def many_nodes(count: int) -> onnx.ModelProto:
    """A chain of `count` small nodes."""
    nodes = []
    last = "x"
    for index in range(count):
        name = f"layer_{index}/out"
        if index % 3 == 2:
            node = helper.make_node("Add", [last, f"layer_{index - 2}/out"], [name])
        elif index % 3 == 1:
            node = helper.make_node("Relu", [last], [name])
        else:
            node = helper.make_node("LeakyRelu", [last], [name], alpha=0.1)
        node.name = f"node_{index}"
        nodes.append(node)
        last = name
    return chain(nodes, last, [])


def many_bytes(count: int, size: int) -> onnx.ModelProto:
    """`count` nodes, each with an equal share of `size` bytes of weights."""
    each = size // count // 4
    weights = [
        numpy_helper.from_array(np.full(each, index, np.float32), f"w{index}")
        for index in range(count)
    ]
    nodes = [
        helper.make_node("Add", [f"v{index - 1}" if index else "x", f"w{index}"], [f"v{index}"])
        for index in range(count)
    ]
    return chain(nodes, f"v{count - 1}", weights)


def chain(nodes: list[Any], last: str, weights: list[Any]) -> onnx.ModelProto:
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N"]) for name in ("x", last)]
    graph = helper.make_graph(nodes, "chain", [ends[0]], [ends[1]], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10)


def visit_ours(model: Any) -> int:
    found = 0
    for node in model.graph.nodes:
        found += len(node.op_type)
        for value in node.inputs:
            found += len(value.name) + (value.producer is not None)
        for value in node.outputs:
            found += len(value.name)
    return found


def visit_onnx(model: Any) -> int:
    found = 0
    producers = {name: node for node in model.graph.node for name in node.output}
    for node in model.graph.node:
        found += len(node.op_type)
        for name in node.input:
            found += len(name) + (producers.get(name) is not None)
        for name in node.output:
            found += len(name)
    return found


def timed(action: Callable[[], Any]) -> tuple[float, Any]:
    gc.collect()
    start = time.perf_counter()
    result = action()
    return time.perf_counter() - start, result


def measure(path: Path, folder: Path, repeats: int) -> dict[str, dict[str, list[float]]]:
    """Seconds of each step for both, taking turns."""
    steps: dict[str, dict[str, list[float]]] = {}
    who = {
        "sardonyx": (wire.load, visit_ours, wire.save),
        "onnx": (onnx.load, visit_onnx, onnx.save),
    }
    for _ in range(repeats):
        for name, (load, visit, save) in who.items():
            seconds, model = timed(lambda load=load: load(str(path)))
            steps.setdefault("open", {}).setdefault(name, []).append(seconds)
            seconds, _ = timed(lambda visit=visit, model=model: visit(model))
            steps.setdefault("visit", {}).setdefault(name, []).append(seconds)
            target = str(folder / f"{name}.out.onnx")
            seconds, _ = timed(lambda save=save, model=model, to=target: save(model, to))
            steps.setdefault("save", {}).setdefault(name, []).append(seconds)
            del model
            Path(target).unlink()
    return steps


def peak(program: str, **places: str) -> float:
    """Peak anonymous memory in MiB of a child process that runs `program` (Linux)."""
    code = PEAK.replace("{program}", program.format(**places))
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return int(out.stdout) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=50_000, help="nodes of the long model")
    parser.add_argument("--mib", type=int, default=500, help="weights of the big model, in MiB")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="print figures for a machine")
    options = parser.parse_args()
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        models = {
            f"{options.nodes} nodes": lambda: many_nodes(options.nodes),
            f"{options.mib} MiB, 500 nodes": lambda: many_bytes(500, options.mib * MIB),
        }
        for title, make in models.items():
            path = folder / "model.onnx"
            onnx.save(make(), str(path))
            found = measure(path, folder, options.repeats)
            results[title] = {
                step: {name: statistics.median(seconds) for name, seconds in both.items()}
                for step, both in found.items()
            }
            target = str(folder / "peak.onnx")
            for name in ("sardonyx", "onnx"):
                above = peak(SAVE[name], source=str(path), target=target)
                above -= peak(SAVE[f"import {name}"])
                results[title].setdefault("load and save, MiB above import", {})[name] = above
    if options.json:
        print(json.dumps(results, indent=2))
        return
    table = Table("model", "step", "sardonyx", "onnx", "ratio")
    for title, steps in results.items():
        for step, both in steps.items():
            scale, unit = (1, "MiB") if "MiB" in step else (1e3, "ms")
            ours, theirs = both["sardonyx"], both["onnx"]
            texts = [f"{value * scale:.1f} {unit}" for value in (ours, theirs)]
            table.add_row(title, step, *texts, f"{ours / theirs:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
