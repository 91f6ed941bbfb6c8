"""PyTorch's own operator tests, exported by Sardonyx and by torch.onnx, side by side.

Every entry of `op_db` (torch.testing._internal) gives a few sample calls. `torch.export` captures
each as a function of its tensors with every dim left to torch (`Dim.AUTO`), or with static dims
where that fails; both exporters are given the same captured program, and where one refuses it
with dynamic dims, the one with static dims ("static only"). What they write runs on
onnxruntime, and Sardonyx's on Sardonyx too, with the sample and, where dims stayed dynamic, with
inputs of another size; all outputs are compared with PyTorch's, random ones in dtype and shape.

Each operator is a task of its own in a pool of worker processes: one that takes too long or
brings its process down is a failure of that operator. Results are kept in `--folder`, a file for
each exporter and dtype, and what is found there is not run again.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import select
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
import onnx
import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from torch.utils import _pytree as pytree

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

EXPORTERS = ("sardonyx", "torch.onnx")
DTYPES = ("float32", "int64")
OPSET = 20
WIDTH = 300


# -- one operator, in a worker ----------------------------------------------------------------


class Sample(torch.nn.Module):
    """A sample call of an operator as a function of its tensors."""

    def __init__(self, entry: Any, sample: Any) -> None:
        super().__init__()
        self.name = entry.name
        self.operator = entry.op
        self.leaves, self.spec = pytree.tree_flatten((sample.input, sample.args, sample.kwargs))
        self.places = [
            index for index, leaf in enumerate(self.leaves) if isinstance(leaf, torch.Tensor)
        ]
        self.tensors = tuple(self.leaves[index] for index in self.places)

    def forward(self, *tensors: torch.Tensor) -> Any:
        leaves = list(self.leaves)
        for index, tensor in zip(self.places, tensors, strict=True):
            leaves[index] = tensor
        first, args, kwargs = pytree.tree_unflatten(leaves, self.spec)
        return self.operator(first, *args, **kwargs)


def entries(dtype: str) -> dict[str, Any]:
    """The operators of `op_db` that take `dtype`, by name and variant."""
    from torch.testing._internal.common_methods_invocations import op_db

    wanted = getattr(torch, dtype)
    names = {
        f"{each.name}.{each.variant_test_name}".rstrip("."): each
        for each in op_db
        if wanted in each.dtypes
    }
    return dict(sorted(names.items()))


def samples(entry: Any, dtype: str, count: int) -> Iterator[Sample]:
    """The first `count` samples that have a tensor."""
    torch.manual_seed(0)
    found = entry.sample_inputs("cpu", getattr(torch, dtype), requires_grad=False)
    for _, sample in zip(range(4 * count), found, strict=False):
        made = Sample(entry, sample).eval()
        if made.tensors:
            yield made
            count -= 1
        if not count:
            return


def capture(sample: Sample, *, static: bool = False) -> Any:
    """The exported program, with dynamic dims where torch can and not `static`."""
    if static:
        return torch.export.export(sample, sample.tensors, strict=False)
    auto = torch.export.Dim.AUTO
    shapes = tuple(dict.fromkeys(range(tensor.dim()), auto) for tensor in sample.tensors)
    try:
        return torch.export.export(sample, sample.tensors, dynamic_shapes=(shapes,), strict=False)
    except Exception:  # noqa: BLE001 - torch refuses in many ways
        return capture(sample, static=True)


def resized(program: Any, tensors: Sequence[torch.Tensor]) -> list[torch.Tensor] | None:
    """The inputs with each dynamic dim one longer, as the program's constraints have it."""
    nodes = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    fakes = [nodes[name].meta["val"] for name in program.graph_signature.user_inputs]
    chosen: dict[Any, int] = {}
    for tensor, fake in zip(tensors, fakes, strict=True):
        for size, now in zip(fake.shape, tensor.shape, strict=True):
            if not isinstance(size, int) and size.node.expr.is_Symbol:
                chosen.setdefault(size.node.expr, now + 1)
    if not chosen:
        return None
    generator = torch.Generator().manual_seed(0)
    made = []
    for tensor, fake in zip(tensors, fakes, strict=True):
        for axis, size in enumerate(fake.shape):
            if not isinstance(size, int) and tensor.shape[axis]:
                length = int(size.node.expr.subs(chosen))
                tensor = tensor.index_select(axis, torch.arange(length) % tensor.shape[axis])
        if tensor.is_floating_point() or tensor.is_complex():
            # the rows that come twice are told apart, which orders them
            tensor = tensor * (1 - 0.01 * torch.rand(tensor.shape, generator=generator))
        made.append(tensor)
    return made


def by_sardonyx(program: Any, tensors: Sequence[torch.Tensor]) -> bytes:
    import sardonyx as sx

    return sx.dumps(sx.export(program, tuple(tensors), verify=False, opset_version=OPSET))


def by_torch(program: Any, tensors: Sequence[torch.Tensor]) -> bytes:
    made = torch.onnx.export(
        program, tuple(tensors), dynamo=True, optimize=True, opset_version=OPSET, verbose=False
    )
    return made.model_proto.SerializeToString()


def on_sardonyx(data: bytes) -> Any:
    import sardonyx as sx

    return sx.Session(sx.loads(data))


def on_onnxruntime(data: bytes) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def array(tensor: Any) -> Any:
    tensor = torch.as_tensor(tensor).detach().resolve_conj().resolve_neg()
    if tensor.dtype is torch.bfloat16:
        return tensor.contiguous().view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return tensor.numpy()


def difference(expected: Any, found: Any, *, random: bool) -> str | None:
    """What is wrong with `found`; complex numbers may come as pairs, random ones only fit."""
    found = np.asarray(found)
    if np.iscomplexobj(expected) and found.shape == (*expected.shape, 2):
        found = (found[..., 0] + 1j * found[..., 1]).astype(expected.dtype)
    if expected.shape != found.shape or expected.dtype != found.dtype:
        return (
            f"expected {expected.dtype}{list(expected.shape)}, got {found.dtype}{list(found.shape)}"
        )
    if random:
        return None
    if expected.dtype == ml_dtypes.bfloat16:
        expected, found = expected.astype(np.float32), found.astype(np.float32)
    if expected.dtype.kind not in "fc":
        return None if np.array_equal(expected, found) else "values differ"
    scale = np.abs(expected[np.isfinite(expected)]).max(initial=1)
    same = np.allclose(found, expected, rtol=1e-4, atol=2e-5 * scale, equal_nan=True)
    return None if same else "values differ"


def compared(
    runner: Any, data: bytes, inputs: Sequence[Any], outputs: Sequence[Any], *, random: bool
) -> str | None:
    """What goes wrong when the model in `data` runs on `inputs`; None where all is right."""
    try:
        names = [value.name for value in onnx.load_from_string(data).graph.input]
        found = runner.run(None, dict(zip(names, map(array, inputs), strict=True)))
        for right, got in zip(map(array, outputs), found, strict=True):
            wrong = difference(right, got, random=random)
            if wrong is not None:
                return wrong
    except Exception as error:  # noqa: BLE001 - counted as a failure
        return said(error)
    return None


def is_dynamic(program: Any) -> bool:
    """Whether an input has a size that the program leaves open."""
    vals = [node.meta.get("val") for node in program.graph.nodes if node.op == "placeholder"]
    return any(
        not isinstance(size, int)
        for val in vals
        if isinstance(val, torch.Tensor)
        for size in val.shape
    )


def results_of(sample: Sample, tensors: Sequence[torch.Tensor], seed: int = 0) -> list[Any]:
    torch.manual_seed(seed)
    leaves = pytree.tree_leaves(sample(*(each.clone() for each in tensors)))
    return [leaf for leaf in leaves if leaf is not None]


def is_random(sample: Sample, program: Any) -> bool:
    """Whether numbers are drawn, or memory is given as it is found."""
    seeded = torch.Tag.nondeterministic_seeded
    targets = [node.target for node in program.graph.nodes if node.op == "call_function"]
    return "empty" in sample.name or any(
        seeded in getattr(target, "tags", ()) for target in targets
    )


def holds(program: Any, tensors: Sequence[torch.Tensor], outputs: Sequence[Any]) -> bool:
    """Whether the captured program itself gives as many outputs of these shapes as PyTorch."""
    leaves = pytree.tree_leaves(program.module()(*(each.clone() for each in tensors)))
    found = [torch.as_tensor(leaf).shape for leaf in leaves if leaf is not None]
    return found == [torch.as_tensor(each).shape for each in outputs]


def said(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:WIDTH]}"


def nodes_of(graph: Any) -> int:
    """Nodes, those of subgraphs too, constants apart."""
    return sum(
        (node.op_type != "Constant")
        + sum(
            nodes_of(part)
            for attribute in node.attribute
            for part in ([attribute.g] if attribute.HasField("g") else attribute.graphs)
        )
        for node in graph.node
    )


def examined(sample: Sample, exporter: str) -> dict[str, Any]:
    """What became of one sample; `errors` has what went wrong on each runtime."""
    with torch.no_grad():
        try:
            outputs = results_of(sample, sample.tensors)
            program = capture(sample)
            random = is_random(sample, program)
        except Exception as error:  # noqa: BLE001 - not the exporter's doing
            return {"captured": False, "because": said(error)}
        other = resized(program, sample.tensors)
        others = None
        if other is not None:
            try:
                others = results_of(sample, other)
                other = other if holds(program, other, others) else None
            except Exception:  # noqa: BLE001 - the operator does not take this size
                other = None
    record: dict[str, Any] = {"captured": True, "dynamic": other is not None, "errors": {}}
    start = time.process_time()
    export = by_sardonyx if exporter == "sardonyx" else by_torch
    try:
        data = export(program, sample.tensors)
    except Exception as error:  # noqa: BLE001 - counted as a failure
        failed = {**record, "exported": False, "errors": {"export": said(error)}}
        if not is_dynamic(program):
            return failed
        try:
            data = export(capture(sample, static=True), sample.tensors)
        except Exception:  # noqa: BLE001 - the first error is told
            return failed
        record.update(dynamic=False, static_only=said(error))
        other = None
    record["seconds"] = time.process_time() - start
    record["exported"] = True
    record["nodes"] = nodes_of(onnx.load_from_string(data).graph)
    runtimes = {"onnxruntime": on_onnxruntime}
    if exporter == "sardonyx":
        runtimes["sardonyx"] = on_sardonyx
    for runtime, start_session in runtimes.items():
        try:
            runner = start_session(data)
        except Exception as error:  # noqa: BLE001 - counted as a failure
            record["errors"][runtime] = said(error)
            continue
        error = compared(runner, data, sample.tensors, outputs, random=random)
        if error is not None:
            record["errors"][runtime] = error
        elif other is not None:
            error = compared(runner, data, other, others or [], random=random)
            if error is not None:
                record["errors"][f"{runtime}, second size"] = error
    return record


def work(count: int) -> None:
    """Answer each line `exporter dtype operator` of the standard input with a line of JSON."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    tables = {dtype: entries(dtype) for dtype in DTYPES}
    for line in sys.stdin:
        exporter, dtype, key = line.rstrip("\n").split(" ", 2)
        records = []
        try:
            each = samples(tables[dtype][key], dtype, count)
            records.extend(examined(sample, exporter) for sample in each)
        except Exception as error:  # noqa: BLE001 - torch could not make the samples
            records.append({"captured": False, "because": said(error)})
        print(json.dumps(records), file=answers, flush=True)


# -- the pool ---------------------------------------------------------------------------------


class Worker:
    """A process that answers tasks; it is ended and replaced when an answer does not come."""

    def __init__(self, count: int) -> None:
        self.command = [sys.executable, __file__, "--worker", "--samples", str(count)]
        self.process: subprocess.Popen[bytes] | None = None

    def ask(self, task: tuple[str, str, str], limit: float) -> list[dict[str, Any]]:
        if self.process is None:
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
        pipes = self.process
        assert pipes.stdin is not None
        assert pipes.stdout is not None
        pipes.stdin.write(" ".join(task).encode() + b"\n")
        pipes.stdin.flush()
        ready, _, _ = select.select([pipes.stdout], [], [], limit)
        answer = pipes.stdout.readline() if ready else b""
        if answer:
            return json.loads(answer)
        reason = "the process ended" if ready else f"took more than {limit:.0f} s"
        self.stop()
        error = {"captured": True, "exported": False, "errors": {"export": reason}}
        return [{**error, "dynamic": False}]

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


def path_of(folder: Path, exporter: str, dtype: str) -> Path:
    return folder / f"{exporter}.{dtype}.jsonl"


def known(folder: Path, exporter: str, dtype: str) -> dict[str, list[dict[str, Any]]]:
    path = path_of(folder, exporter, dtype)
    lines = path.read_text().splitlines() if path.exists() else []
    return dict(json.loads(line) for line in lines)


def sweep(tasks: list[tuple[str, str, str]], options: argparse.Namespace) -> None:
    """Run the tasks in `options.workers` processes, and keep each answer as it comes."""
    waiting: queue.SimpleQueue[tuple[str, str, str]] = queue.SimpleQueue()
    for task in tasks:
        waiting.put(task)
    lock = threading.Lock()
    done = 0
    start = time.monotonic()

    def run() -> None:
        nonlocal done
        worker = Worker(options.samples)
        try:
            while True:
                try:
                    task = waiting.get_nowait()
                except queue.Empty:
                    return
                records = worker.ask(task, options.limit)
                exporter, dtype, key = task
                with lock:
                    done += 1
                    with path_of(options.folder, exporter, dtype).open("a") as file:
                        print(json.dumps([key, records]), file=file)
                    if not options.quiet:
                        shown = f"{done}/{len(tasks)}  {time.monotonic() - start:.0f} s"
                        print(f"\r{shown}  {' '.join(task)[:60]:60}", end="", file=sys.stderr)
        finally:
            worker.stop()

    threads = [threading.Thread(target=run) for _ in range(options.workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if tasks and not options.quiet:
        print(file=sys.stderr)


# -- the tables -------------------------------------------------------------------------------


def summary(results: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Counts over operators (all samples right) and over samples."""
    captured = {
        key: found
        for key, records in results.items()
        if (found := [record for record in records if record["captured"]])
    }
    every = [record for records in captured.values() for record in records]

    def right(record: dict[str, Any], runtime: str) -> bool:
        return record["exported"] and runtime not in record["errors"]

    def operators(test: Any) -> int:
        return sum(all(map(test, records)) for records in captured.values())

    figures: dict[str, Any] = {
        "operators": len(captured),
        "operators exported": operators(lambda record: record["exported"]),
        "samples": len(every),
        "samples exported": sum(record["exported"] for record in every),
        "samples exported static only": sum("static_only" in record for record in every),
        "operators exported static only": sum(
            any("static_only" in record for record in records) for records in captured.values()
        ),
        "dynamic samples": sum(record["dynamic"] for record in every),
        "seconds": sum(record.get("seconds", 0) for record in every),
    }
    for runtime in ("sardonyx", "onnxruntime"):
        second = f"{runtime}, second size"
        figures[f"operators right on {runtime}"] = operators(
            lambda record, runtime=runtime, second=second: (
                right(record, runtime) and second not in record["errors"]
            )
        )
        figures[f"samples right on {runtime}"] = sum(right(record, runtime) for record in every)
        figures[f"dynamic samples right at both sizes on {runtime}"] = sum(
            record["dynamic"] and right(record, runtime) and second not in record["errors"]
            for record in every
        )
    return figures


def ratios(ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, Any]:
    """Over the samples that both exported: nodes and processor time, ours by theirs."""
    nodes, seconds, fewer, more = [], [], 0, 0
    for key in ours.keys() & theirs.keys():
        for our, their in zip(ours[key], theirs[key], strict=False):
            if our.get("exported") and their.get("exported"):
                nodes.append(max(our["nodes"], 1) / max(their["nodes"], 1))
                seconds.append(our["seconds"] / their["seconds"])
                fewer += our["nodes"] < their["nodes"]
                more += our["nodes"] > their["nodes"]
    if not nodes:
        return {}
    return {
        "samples": len(nodes),
        "nodes": statistics.median(nodes),
        "nodes, mean": statistics.fmean(nodes),
        "fewer nodes": fewer,
        "more nodes": more,
        "seconds": statistics.median(seconds),
    }


def show(found: dict[str, dict[str, Any]], both: dict[str, dict[str, Any]]) -> None:
    columns = list(found)
    table = Table("", *columns)
    rows = list(dict.fromkeys(row for figures in found.values() for row in figures))
    for row in rows:
        cells = []
        for column in columns:
            figure = found[column][row]
            absent = row.endswith("on sardonyx") and column.startswith("torch.onnx")
            cells.append("" if absent else f"{figure:.0f}")
        table.add_row(row, *cells)
    console = Console()
    console.print(table)
    for dtype, figures in both.items():
        parts = [
            f"{name} {value:.2f}" if isinstance(value, float) else f"{name} {value}"
            for name, value in figures.items()
        ]
        console.print(f"{dtype}, both exported, sardonyx by torch.onnx: {', '.join(parts)}")


def failures(results: dict[str, list[dict[str, Any]]], title: str) -> None:
    """Each operator that is not right everywhere, with its first error of each kind."""
    console = Console()
    for key, records in results.items():
        errors: dict[str, str] = {}
        for record in records:
            refused = record.get("static_only")
            told = {} if refused is None else {"static only": refused}
            errors = {**told, **record.get("errors", {}), **errors}
        for where, error in errors.items():
            console.print(escape(f"{title} {key} [{where}] {error}"), soft_wrap=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="operators (all of op_db)")
    parser.add_argument("--exporters", nargs="+", default=EXPORTERS, choices=EXPORTERS)
    parser.add_argument("--dtypes", nargs="+", default=DTYPES, choices=DTYPES)
    parser.add_argument("--samples", type=int, default=2, help="of each operator, at most")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--limit", type=float, default=120, help="seconds an operator may take")
    parser.add_argument("--folder", type=Path, help="where results are kept and found again")
    parser.add_argument("--fresh", nargs="*", default=(), help="exporters to run again")
    parser.add_argument("--failures", action="store_true", help="list what failed")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    parser.add_argument("--json", action="store_true", help="print figures for a machine")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(options.samples)
        return
    if options.folder is None:
        options.folder = Path(tempfile.gettempdir()) / "sardonyx-sweep"
    options.folder.mkdir(parents=True, exist_ok=True)
    wanted = {dtype: entries(dtype) for dtype in options.dtypes}
    if options.names:
        wanted = {
            dtype: {
                key: entry
                for key, entry in table.items()
                if key in options.names or entry.name in options.names
            }
            for dtype, table in wanted.items()
        }
    tasks = []
    for exporter in options.exporters:
        for dtype in options.dtypes:
            if exporter in options.fresh:
                path_of(options.folder, exporter, dtype).unlink(missing_ok=True)
            ready = known(options.folder, exporter, dtype)
            tasks += [(exporter, dtype, key) for key in wanted[dtype] if key not in ready]
    sweep(tasks, options)
    found: dict[str, dict[str, Any]] = {}
    both: dict[str, dict[str, Any]] = {}
    for dtype in options.dtypes:
        results = {}
        for exporter in options.exporters:
            kept = known(options.folder, exporter, dtype)
            results[exporter] = {key: kept[key] for key in wanted[dtype]}
            found[f"{exporter}, {dtype}"] = summary(results[exporter])
            if options.failures:
                failures(results[exporter], f"{exporter} {dtype}")
        if len(results) > 1:
            both[dtype] = ratios(*(results[exporter] for exporter in EXPORTERS))
    if options.json:
        print(json.dumps({"summary": found, "ratios": both}, indent=2))
        return
    show(found, both)


if __name__ == "__main__":
    main()
