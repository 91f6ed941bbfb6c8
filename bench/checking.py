"""Checking and inferring beside the onnx package, and the memory that work on a big model takes.

The first table has medians of processor time, in turn, and ratios. The second has a model whose
weights lie in a sparse data file, each task in a process of its own, with the peak of its
resident memory.
"""

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

import onnx
from onnx import TensorProto, helper
from rich.console import Console
from rich.table import Table

import sardonyx as sx
from opening import chain, many_nodes
from sardonyx.check import validate
from sardonyx.infer import infer

if TYPE_CHECKING:
    from collections.abc import Callable

MIB = 1 << 20
LAYERS = 96
TASKS = {
    "sardonyx": {
        "check": "import sardonyx as sx; sx.check({source!r})",
        "infer": "import sardonyx as sx; sx.infer_shapes(sx.load({source!r}))",
        "save": "import sardonyx as sx; sx.save(sx.load({source!r}), {target!r}, checksum=False, "
        "external_data=True)",
        "extract": "import sardonyx as sx\n"
        "from sardonyx.compose import extract\n"
        "part = extract(sx.load({source!r}), ['v9'], ['v39'])\n"
        "sx.save(part, {target!r}, checksum=False, external_data=True)",
    },
    "onnx": {
        "check": "import onnx; onnx.checker.check_model({source!r}, full_check=True)",
        "infer": "import onnx; onnx.shape_inference.infer_shapes_path({source!r}, {target!r})",
        "save": "import onnx; model = onnx.load({source!r}); "
        "onnx.save(model, {target!r}, save_as_external_data=True, location='onnx.data')",
        "extract": "import onnx.utils\n"
        "onnx.utils.extract_model({source!r}, {target!r}, ['v9'], ['v39'])",
    },
}
PEAK = """
import time
start = time.perf_counter()
{program}
seconds = time.perf_counter() - start
with open("/proc/self/status") as status:
    print(seconds, status.read().split("VmHWM:")[1].split()[0])
"""


def many_operators(count: int) -> onnx.ModelProto:
    """A network of `count` nodes whose shapes inference has to find: convolutions and blocks."""
    nodes: list[Any] = []
    last, shape = "x", "shape"
    weights = [
        helper.make_tensor("w", TensorProto.FLOAT, [8, 8, 3, 3], [0.1] * 576),
        helper.make_tensor("flat", TensorProto.INT64, [3], [0, 8, -1]),
    ]
    while len(nodes) < count:
        k = len(nodes)
        nodes += [
            helper.make_node("Conv", [last, "w"], [f"c{k}"], pads=[1, 1, 1, 1]),
            helper.make_node("Relu", [f"c{k}"], [f"r{k}"]),
            helper.make_node("Add", [f"r{k}", last], [f"a{k}"]),
            helper.make_node("Shape", [f"a{k}"], [f"{shape}{k}"]),
            helper.make_node("Reshape", [f"a{k}", "flat"], [f"f{k}"]),
            helper.make_node("Transpose", [f"f{k}"], [f"t{k}"], perm=[0, 2, 1]),
            helper.make_node("Softmax", [f"t{k}"], [f"s{k}"], axis=-1),
            helper.make_node("Transpose", [f"s{k}"], [f"u{k}"], perm=[0, 2, 1]),
            helper.make_node("Reshape", [f"u{k}", f"{shape}{k}"], [f"o{k}"]),
            helper.make_node("Mul", [f"o{k}", f"a{k}"], [f"m{k}"]),
        ]
        last = f"m{k}"
    model = chain(nodes, last, weights)
    for value in (*model.graph.input, *model.graph.output):
        value.CopyFrom(helper.make_tensor_value_info(value.name, TensorProto.FLOAT, ["N", 8, 8, 8]))
    return model


def big(folder: Path, size: int) -> Path:
    """A model with `size` bytes of weights in a data file that has holes in place of blocks."""
    each = size // LAYERS // 4 // 4096 * 4096
    weights = []
    for index in range(LAYERS):
        tensor = TensorProto(name=f"w{index}", data_type=TensorProto.FLOAT, dims=[each])
        tensor.data_location = TensorProto.EXTERNAL
        entries = {"location": "big.data", "offset": index * each * 4, "length": each * 4}
        for key, value in entries.items():
            tensor.external_data.add(key=key, value=str(value))
        weights.append(tensor)
    nodes = [
        helper.make_node("Add", [f"v{index - 1}" if index else "x", f"w{index}"], [f"v{index}"])
        for index in range(LAYERS)
    ]
    model = chain(nodes, f"v{LAYERS - 1}", weights)
    for value in (*model.graph.input, *model.graph.output):
        value.CopyFrom(helper.make_tensor_value_info(value.name, TensorProto.FLOAT, [each]))
    path = folder / "big.onnx"
    onnx.save(model, str(path))
    with (folder / "big.data").open("wb") as data:
        data.truncate(each * 4 * LAYERS)
    return path


def timed(action: Callable[[], Any]) -> float:
    gc.collect()
    start = time.process_time()
    action()
    return time.process_time() - start


def measure(proto: onnx.ModelProto, repeats: int) -> dict[str, dict[str, float]]:
    """Median processor seconds of each step for both, taking turns; the models are open already."""
    data = proto.SerializeToString()
    found: dict[str, dict[str, list[float]]] = {}
    for _ in range(repeats):
        ours, theirs = sx.loads(data), onnx.load_from_string(data)
        len(ours.graph.nodes)
        steps: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
            "check the structure": (
                lambda ours=ours: validate(ours, types=False),
                lambda theirs=theirs: onnx.checker.check_model(theirs),
            ),
            "infer": (
                lambda ours=ours: infer(ours),
                lambda theirs=theirs: onnx.shape_inference.infer_shapes(theirs, data_prop=True),
            ),
            "check all (infers too)": (
                lambda ours=ours: validate(ours),
                lambda theirs=theirs: onnx.checker.check_model(theirs, full_check=True),
            ),
        }
        for step, (mine, other) in steps.items():
            both = found.setdefault(step, {"sardonyx": [], "onnx": []})
            both["sardonyx"].append(timed(mine))
            both["onnx"].append(timed(other))
    return {
        step: {who: statistics.median(times) for who, times in both.items()}
        for step, both in found.items()
    }


def peak(program: str, source: Path, target: Path) -> tuple[float, float]:
    """Seconds, and peak resident memory in MiB, of a process that runs `program` (Linux)."""
    code = PEAK.replace("{program}", program.format(source=str(source), target=str(target)))
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    seconds, kib = out.stdout.split()[-2:]
    return float(seconds), int(kib) / 1024


def measure_big(size: int, names: list[str]) -> dict[str, dict[str, tuple[float, float]]]:
    results: dict[str, dict[str, tuple[float, float]]] = {}
    for name in names:
        for task, program in TASKS[name].items():
            with tempfile.TemporaryDirectory() as place:
                folder = Path(place)
                source = big(folder, size)
                found = peak(program, source, folder / "out.onnx")
                results.setdefault(task, {})[name] = found
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--gib", type=float, default=3, help="weights of the big model; 0 skips")
    parser.add_argument("--big-peer", action="store_true", help="the big model with onnx as well")
    parser.add_argument("--json", action="store_true", help="print figures for a machine")
    options = parser.parse_args()
    models = {
        "1,000 small nodes": many_nodes(1000),
        "50,000 small nodes": many_nodes(50_000),
        "1,000 nodes of a network": many_operators(1000),
        "50,000 nodes of a network": many_operators(50_000),
    }
    results = {title: measure(model, options.repeats) for title, model in models.items()}
    who = ["sardonyx", "onnx"] if options.big_peer else ["sardonyx"]
    sizes = measure_big(int(options.gib * 1024 * MIB), who) if options.gib else {}
    if options.json:
        print(json.dumps({"seconds": results, "big": sizes}, indent=2))
        return
    table = Table("model", "step", "sardonyx", "onnx", "ratio")
    for title, steps in results.items():
        for step, both in steps.items():
            ours, theirs = both["sardonyx"], both["onnx"]
            texts = [f"{value * 1e3:.1f} ms" for value in (ours, theirs)]
            table.add_row(title, step, *texts, f"{ours / theirs:.2f}")
    Console().print(table)
    table = Table(f"{options.gib:g} GiB of weights", "who", "seconds", "peak resident memory")
    for task, both_sizes in sizes.items():
        for name, (seconds, mib) in both_sizes.items():
            table.add_row(task, name, f"{seconds:.2f}", f"{mib:.0f} MiB")
    Console().print(table)


if __name__ == "__main__":
    main()
