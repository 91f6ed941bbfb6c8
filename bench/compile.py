"""Making sessions of graphs with many nodes, beside onnxruntime, each in a process of its own."""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import onnx
from onnx import helper, numpy_helper
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Callable

WIDTH: Final = 16
CHILD = """
import json, resource, time
import numpy as np
feeds = {{"x": np.random.default_rng(0).standard_normal((4, {width})).astype(np.float32)}}
{imports}
begin, busy = time.perf_counter(), time.process_time()
session = {session}
made, spent = time.perf_counter() - begin, time.process_time() - busy
begin = time.perf_counter()
session.run(None, feeds)
ran = time.perf_counter() - begin
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({{"session": made, "processor": spent, "run": ran, "peak": peak}}))
"""
WHO: Final = {
    "sardonyx": ("import sardonyx", "sardonyx.Session({path!r})"),
    "onnxruntime": (
        "import onnxruntime; onnxruntime.set_default_logger_severity(3)",
        "onnxruntime.InferenceSession({path!r}, providers=['CPUExecutionProvider'])",
    ),
}


def chain(count: int) -> onnx.ModelProto:
    """Add, Relu and Mul, one after the other."""
    nodes = []
    last = "x"
    for number in range(count):
        op_type = ("Add", "Relu", "Mul")[number % 3]
        inputs = [last] if op_type == "Relu" else [last, op_type]
        nodes.append(helper.make_node(op_type, inputs, [f"v{number}"], name=f"n{number}"))
        last = f"v{number}"
    scalars = [
        numpy_helper.from_array(np.float32(value), name)
        for name, value in (("Add", 0.5), ("Mul", 0.99))
    ]
    return model(nodes, last, scalars)


def layers(count: int) -> onnx.ModelProto:
    """Small MatMul, bias and Relu, with weights of one shape."""
    nodes, weights = [], []
    last = "x"
    rng = np.random.default_rng(0)
    for number in range(count // 3):
        w = (rng.standard_normal((WIDTH, WIDTH)) / 4).astype(np.float32)
        weights.append(numpy_helper.from_array(w, f"w{number}"))
        weights.append(numpy_helper.from_array(w[0], f"b{number}"))
        nodes += [
            helper.make_node("MatMul", [last, f"w{number}"], [f"m{number}"]),
            helper.make_node("Add", [f"m{number}", f"b{number}"], [f"a{number}"]),
            helper.make_node("Relu", [f"a{number}"], [f"r{number}"]),
        ]
        last = f"r{number}"
    return model(nodes, last, weights)


def wide(count: int) -> onnx.ModelProto:
    """Branches of 50 nodes each, no two alike, that one Concat joins."""
    op_types = ("Relu", "Tanh", "Neg", "Sigmoid", "Abs")
    nodes, ends, factors = [], [], []
    for branch in range(count // 50):
        last = f"b{branch}"
        factor = np.full(WIDTH, branch + 0.5, np.float32)
        factors.append(numpy_helper.from_array(factor, f"f{branch}"))
        nodes.append(helper.make_node("Mul", ["x", f"f{branch}"], [last]))
        for number in range(48):
            name = f"b{branch}_{number}"
            nodes.append(helper.make_node(op_types[(branch + number) % 5], [last], [name]))
            last = name
        ends.append(last)
    nodes.append(helper.make_node("Concat", ends, ["y"], axis=1))
    return model(nodes, "y", factors)


def mixed(count: int) -> onnx.ModelProto:
    """Products, row operations and arithmetic on values drawn from those made last."""
    draw = random.Random(0)
    rng = np.random.default_rng(0)
    weights = [
        numpy_helper.from_array((rng.standard_normal(shape) / 4).astype(np.float32), name)
        for number in range(8)
        for name, shape in ((f"w{number}", (WIDTH, WIDTH)), (f"b{number}", (WIDTH,)))
    ]
    op_types = ["MatMul", "Softmax", "LayerNormalization", "Add", "Mul", "Sub", "Relu", "Tanh"]
    shares = [2, 1, 1, 4, 4, 2, 2, 2]
    nodes, values, read = [], ["x"], set()
    for number in range(count - 1):
        a, b = (values[max(0, len(values) - 1 - int(draw.expovariate(0.1)))] for _ in range(2))
        op_type = draw.choices(op_types, shares)[0]
        inputs = {
            "MatMul": [a, f"w{draw.randrange(8)}"],
            "LayerNormalization": [a, "b0", "b1"],
            "Add": [a, b],
            "Sub": [a, b],
            "Mul": [a, f"b{draw.randrange(8)}"],
        }.get(op_type, [a])
        nodes.append(helper.make_node(op_type, inputs, [f"v{number}"]))
        values.append(f"v{number}")
        read.update(inputs)
    loose = [value for value in values if value not in read]
    nodes.append(helper.make_node("Concat", loose, ["y"], axis=0))
    return model(nodes, "y", weights)


def model(nodes: list[Any], last: str, weights: list[Any]) -> onnx.ModelProto:
    x = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["N", WIDTH])
    y = helper.make_tensor_value_info(last, onnx.TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "many", [x], [y], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


GRAPHS: Final[dict[str, Callable[[int], onnx.ModelProto]]] = {
    "chain": chain,
    "layers": layers,
    "wide": wide,
    "mixed": mixed,
}


def measured(who: str, path: Path, cache: Path) -> dict[str, float]:
    """Seconds of making a session and of its first run, and the peak of memory in MiB."""
    imports, session = WHO[who]
    code = CHILD.format(width=WIDTH, imports=imports, session=session.format(path=str(path)))
    environment = {**os.environ, "SARDONYX_CACHE": str(cache)}
    command = [sys.executable, "-c", code]
    found = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    figures: dict[str, float] = json.loads(found.stdout)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("graphs", nargs="*", help=f"which of {', '.join(GRAPHS)}; all by default")
    parser.add_argument("--nodes", type=int, default=50_000)
    parser.add_argument("--json", action="store_true", help="print figures for a machine")
    options = parser.parse_args()
    results: list[dict[str, Any]] = []
    for name in options.graphs or GRAPHS:
        with tempfile.TemporaryDirectory() as place:
            path, cache = Path(place, "model.onnx"), Path(place, "cache")
            made = GRAPHS[name](options.nodes)
            onnx.save(made, str(path))
            for title, who in (
                ("sardonyx, cold", "sardonyx"),
                ("sardonyx, warm", "sardonyx"),
                ("onnxruntime", "onnxruntime"),
            ):
                figures = measured(who, path, cache)
                results.append(
                    {"graph": name, "nodes": len(made.graph.node), "who": title, **figures}
                )
    if options.json:
        print(json.dumps(results, indent=2))
        return
    columns = ("session, s", "processor, s", "first run, s", "peak, MiB")
    table = Table("graph", "nodes", "", *columns)
    for row in results:
        texts = [f"{row[key]:.2f}" for key in ("session", "processor", "run")]
        table.add_row(row["graph"], str(row["nodes"]), row["who"], *texts, f"{row['peak']:.0f}")
    Console().print(table)


if __name__ == "__main__":
    main()
