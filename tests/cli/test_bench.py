from __future__ import annotations

import importlib.metadata
import json
import math
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper, save_model

import sardonyx as sx
from sardonyx.errors import InputError
from sardonyx.runtime.bench import Latency, chrome_trace, interleaved, profile
from sardonyx.runtime.roofline import Roofline

QUICK = ("--seconds", "0.02")
ROWS, WIDE = 8, 64


@pytest.fixture
def perceptron(tmp_path: Path) -> Path:
    """x[N, 64] -> Relu(x w) -> Softmax, with a constant w."""
    weight = np.random.default_rng(0).standard_normal((WIDE, WIDE)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["m"]),
            helper.make_node("Relu", ["m"], ["t"]),
            helper.make_node("Softmax", ["t"], ["y"]),
        ],
        "perceptron",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", WIDE])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", WIDE])],
        [numpy_helper.from_array(weight, "w")],
    )
    path = tmp_path / "perceptron.onnx"
    opsets = [helper.make_opsetid("", 20)]
    save_model(helper.make_model(graph, opset_imports=opsets, ir_version=9), path)
    return path


@pytest.fixture
def no_children(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fresh processes are not started."""

    def refuse(*_: Any, **__: Any) -> Any:
        raise OSError("no processes")

    monkeypatch.setattr(subprocess, "run", refuse)


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes a package look as if it were not installed."""
    version = importlib.metadata.version

    def hide(name: str) -> None:
        def found(asked: str) -> str:
            if asked == name:
                raise importlib.metadata.PackageNotFoundError(name)
            return version(asked)

        monkeypatch.setattr(importlib.metadata, "version", found)

    return hide


@pytest.mark.usefixtures("no_children")
def test_json_has_latencies_beside_onnxruntime(
    sardonyx: Any, perceptron: Path, without: Any
) -> None:
    without("openvino")
    words = ("--dim", f"N={ROWS}", "--threads", "1", "--json")
    result = sardonyx("bench", perceptron, *words, *QUICK)
    assert result.code == 0, result.err + result.out
    document = result.json
    assert document["threads"] == 1
    assert document["inputs"]["x"] == {"type": "float32", "shape": [ROWS, WIDE]}
    assert set(document["runtimes"]) == {"sardonyx", "onnxruntime"}
    assert document["runtimes"]["onnxruntime"]["version"] == onnxruntime.__version__
    for row in document["runtimes"].values():
        assert 0 < row["best"] <= row["p50"] <= row["p90"] <= row["p99"]
        assert math.isclose(row["throughput"], 1 / row["mean"])
        assert row["count"] >= 3
    ours, theirs = document["runtimes"]["sardonyx"], document["runtimes"]["onnxruntime"]
    assert ours["ratio"] == 1
    assert math.isclose(theirs["ratio"], theirs["p50"] / ours["p50"])
    # the sum of 64 products, then as many terms of the softmax
    assert theirs["difference"] <= 2 * WIDE * 2**-23
    assert any("openvino is not installed: pip install" in note for note in document["notes"])


@pytest.mark.usefixtures("no_children")
def test_profile_accounts_for_the_kernels(sardonyx: Any, perceptron: Path) -> None:
    words = ("--alone", "--profile", "--dim", f"N={ROWS}", "--json")
    document = sardonyx("bench", perceptron, *words, *QUICK).json
    assert set(document["runtimes"]) == {"sardonyx"}
    found = document["profile"]
    assert found["limits"]["flops"] > 1e8
    assert all(rate > 1e8 for rate in found["limits"]["bandwidth"].values())
    assert sum(kernel["flops"] for kernel in found["kernels"]) == 2 * ROWS * WIDE * WIDE
    labels = " ".join(kernel["label"] for kernel in found["kernels"])
    assert all(name in labels for name in ("MatMul", "Relu", "Softmax"))
    total = sum(kernel["seconds"] for kernel in found["kernels"])
    assert math.isclose(found["seconds"], total)
    assert sum(group["count"] for group in found["groups"]) == len(found["kernels"])
    product = next(kernel for kernel in found["kernels"] if kernel["flops"])
    arrays = (ROWS * WIDE, WIDE * WIDE, ROWS * WIDE)
    assert product["bytes"] >= 4 * sum(arrays)


@pytest.mark.usefixtures("no_children")
def test_trace_opens_in_chrome(sardonyx: Any, perceptron: Path, tmp_path: Path) -> None:
    target = tmp_path / "trace.json"
    result = sardonyx("bench", perceptron, "--alone", "--trace", target, *QUICK)
    assert result.code == 0, result.err + result.out
    assert f"saved {target}" in result.err
    trace = json.loads(target.read_text())
    events = [event for event in trace["traceEvents"] if event["ph"] == "X"]
    assert events
    ends = 0.0
    for event in events:
        assert {"name", "cat", "ts", "dur", "pid", "tid"} <= set(event)
        assert event["dur"] >= 0
        assert event["ts"] >= ends
        ends = event["ts"] + event["dur"]


@pytest.mark.usefixtures("no_children")
def test_people_see_a_table(sardonyx: Any, perceptron: Path, without: Any) -> None:
    without("openvino")
    result = sardonyx("bench", perceptron, "--profile", "--dim", f"N={ROWS}", *QUICK)
    assert result.code == 0
    lines = result.out.splitlines()
    assert any(line.split()[:1] == ["sardonyx"] and "µs" in line for line in lines)
    assert any(line.split()[:1] == ["onnxruntime"] for line in lines)
    assert any("Softmax" in line and "%" in line for line in lines)
    assert "openvino is not installed" in result.out
    assert all(len(line) <= 80 for line in lines if str(perceptron) not in line)


def test_fresh_process_tells_memory_and_creation(sardonyx: Any, perceptron: Path) -> None:
    document = sardonyx("bench", perceptron, "--alone", "--json", *QUICK).json
    ours = document["runtimes"]["sardonyx"]
    assert 10e6 < ours["peak_bytes"] < 1e9
    assert ours["create_seconds"] > 0
    assert ours["cold_create_seconds"] > 0
    assert ours["first_run_seconds"] > 0


@pytest.mark.usefixtures("no_children")
def test_runtime_that_refuses_a_model_is_a_note(
    sardonyx: Any, perceptron: Path, monkeypatch: pytest.MonkeyPatch, without: Any
) -> None:
    without("openvino")

    def refuse(*_: Any, **__: Any) -> Any:
        raise RuntimeError("not mine\nmore")

    monkeypatch.setattr(onnxruntime, "InferenceSession", refuse)
    document = sardonyx("bench", perceptron, "--json", *QUICK).json
    assert set(document["runtimes"]) == {"sardonyx"}
    assert "onnxruntime does not run the model: RuntimeError: not mine" in document["notes"]


@pytest.mark.usefixtures("no_children")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--seconds", "0"), "--seconds must be above 0"),
        (("--dim", "M=3"), "M"),
        (("--alone", "--trace", "/no/such/place.json", *QUICK), "cannot write"),
    ],
)
def test_what_does_not_fit_is_told(
    sardonyx: Any, perceptron: Path, words: tuple[str, ...], message: str
) -> None:
    result = sardonyx("bench", perceptron, *words)
    assert result.code == 2
    assert message in result.err


def test_reference_nodes_are_timed_too() -> None:
    text = """<ir_version: 9, opset_import: ["" : 20]>
    agraph (string[N] x) => (string[N] y) { y = StringConcat(x, x) }"""
    session = sx.Session(sx.parse(text), compile=True)
    feeds = {"x": np.array(["a", "b"], object)}
    found = profile(session, feeds, Roofline(1e9, {1 << 20: 1e9}), 0.01)
    assert [kernel.kind for kernel in found.kernels] == ["reference"]
    assert found.seconds > 0
    (_, event) = chrome_trace(found, "strings")["traceEvents"]
    assert event["cat"] == "reference"


def test_session_without_kernels_has_no_profile() -> None:
    text = """<ir_version: 9, opset_import: ["" : 20]>
    agraph (float[N] x) => (float[N] y) { y = Relu(x) }"""
    session = sx.Session(sx.parse(text), compile=False)
    with pytest.raises(InputError, match="no kernels"):
        profile(session, {"x": np.zeros(2, np.float32)}, Roofline(1e9, {1: 1e9}))


def test_roofline_takes_what_limits() -> None:
    limits = Roofline(100.0, {10: 50.0, 100: 20.0})
    assert limits.seconds(200.0, 10) == 2.0
    assert limits.seconds(1.0, 10) == 0.2
    assert limits.seconds(1.0, 100) == 5.0
    assert limits.seconds(0.0, 1000) == 50.0
    assert limits.seconds(0.0, 0) == 0.0


def test_percentiles_are_of_the_sorted_calls() -> None:
    latency = Latency.of([float(number) for number in range(100, 0, -1)])
    assert (latency.best, latency.p50, latency.p90, latency.p99) == (1, 50, 90, 99)
    assert latency.mean == 50.5
    assert latency.count == 100
    single = Latency.of([2.0])
    assert (single.p50, single.p99, single.throughput) == (2.0, 2.0, 0.5)


def test_calls_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    now = 0.0

    def spend(name: str, seconds: float) -> Any:
        def call() -> None:
            nonlocal now
            now += seconds
            order.append(name)

        return call

    calls = {"slow": spend("slow", 0.05), "quick": spend("quick", 0.004)}
    taken = interleaved(calls, 0.2, clock=lambda: now)
    np.testing.assert_allclose(taken["slow"], 0.05)
    np.testing.assert_allclose(taken["quick"], 0.004)
    assert len(taken["slow"]) >= 4
    assert sum(taken["quick"]) >= 0.15
    turns = [name for name, last in zip(order, [None, *order], strict=False) if name != last]
    assert len(turns) >= 6
