from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

Write = Callable[..., Path]

FIRST = """agraph (float[1, 4] x) => (float[1, 2, 2] h, float[1, 4] side)
<int64[3] target = {1, 2, 2}> { t = Relu(x) h = Reshape(t, target) side = Neg(t) }"""
SECOND = """agraph (float[N, 2, 2] v) => (float[N, 2, 2] y)
<float[2] w = {1, 2}, float[2] same = {1, 2}> { t = Mul(v, w) y = Add(t, same) }"""


def run(path: Path, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, feeds), strict=True))


def test_edit(sardonyx: Any, write: Write, tmp_path: Path) -> None:
    source, target = write(FIRST), tmp_path / "out.onnx"
    before = source.read_bytes()
    words = ("--batch", "batch", "--rename", "x=input", "--add-output", "t", "--prune")
    result = sardonyx("edit", source, "-o", target, *words)
    assert (result.code, result.err) == (0, "")
    assert "✓" in result.out
    assert "add-output, batch, rename, prune" in result.out
    assert source.read_bytes() == before
    onnx.checker.check_model(onnx.load(target), full_check=True)
    x = np.arange(-6, 6, dtype=np.float32).reshape(3, 4)
    found = run(target, {"input": x})
    np.testing.assert_array_equal(found["h"], np.maximum(x, 0).reshape(3, 2, 2))
    np.testing.assert_array_equal(found["t"], np.maximum(x, 0))


def test_edit_tells_machines(sardonyx: Any, write: Write, tmp_path: Path) -> None:
    target = tmp_path / "out.onnx"
    words = ("--remove", "side", "--dim", "x:0=n", "--fix", "n=7", "--prefix", "p/")
    document = sardonyx("edit", write(FIRST), "-o", target, *words, "--json").json
    assert [step["change"] for step in document["changes"]] == ["remove", "dim", "fix", "prefix"]
    assert document["nodes_before"] == 3
    assert [value["name"] for value in document["outputs"]] == ["p/h", "p/side"]
    assert document["inputs"][0]["shape"] == [7, 4]
    assert Path(document["file"]) == target
    assert document["bytes"] == target.stat().st_size


def test_edit_in_place_and_external(sardonyx: Any, write: Write) -> None:
    path = write(SECOND)
    document = sardonyx("edit", path, "-o", path, "--deduplicate", "--json").json
    assert document["parameters"] == 2
    words = ("--opset", "19", "--rename-dim", "N=batch", "--external-data", "--json")
    document = sardonyx("edit", path, "-o", path, *words).json
    assert document["opsets"]["ai.onnx"] == 19
    assert document["inputs"][0]["shape"] == ["batch", 2, 2]
    v = np.ones((1, 2, 2), np.float32)
    np.testing.assert_array_equal(run(path, {"v": v})["y"], v * [1, 2] + [1, 2])


def test_edit_functions(sardonyx: Any, tmp_path: Path) -> None:
    text = """<ir_version: 9, opset_import: ["" : 20, "local" : 1]>
    agraph (float[2] x) => (float[2] y) { y = local.f(x) }
    <domain: "local", opset_import: ["" : 20]> f (x) => (y) { y = Neg(x) }"""
    source, target = tmp_path / "f.onnx", tmp_path / "out.onnx"
    onnx.save(onnx.parser.parse_model(text), source)
    for words in (["--inline"], ["--inline-function", "f"]):
        document = sardonyx("edit", source, "-o", target, *words, "--json").json
        assert document["functions"] == []
    document = sardonyx("edit", source, "-o", target, "--rename-function", "f=g", "--json").json
    assert document["functions"][0]["name"] == "g"


def test_extract(sardonyx: Any, write: Write, tmp_path: Path) -> None:
    target = tmp_path / "part.onnx"
    result = sardonyx("extract", write(FIRST), "-o", target, "--from", "t", "--to", "side")
    assert result.code == 0
    assert "1 nodes (of 3)" in result.out
    t = np.ones((1, 4), np.float32)
    np.testing.assert_array_equal(run(target, {"t": t})["side"], -t)
    document = sardonyx("extract", write(FIRST), "-o", target, "--to", "h", "--json").json
    assert [value["name"] for value in document["inputs"]] == ["x"]


def test_merge(sardonyx: Any, write: Write, tmp_path: Path) -> None:
    first, second = write(FIRST, "a.onnx"), write(SECOND, "b.onnx")
    target = tmp_path / "out.onnx"
    result = sardonyx("merge", first, second, "-o", target, "--connect", "h=v")
    assert result.code == 0
    assert "h → v" in result.out
    x = np.arange(4, dtype=np.float32).reshape(1, 4)
    expected = x.reshape(1, 2, 2) * [1, 2] + [1, 2]
    np.testing.assert_array_equal(run(target, {"x": x})["y"], expected)
    words = ("--connect", "h=v", "--prefix-second", "b/", "--to", "b/y", "--json")
    document = sardonyx("merge", first, second, "-o", target, *words).json
    assert [value["name"] for value in document["outputs"]] == ["b/y"]
    assert document["connections"] == [{"output": "h", "input": "v"}]
    result = sardonyx("merge", first, second, "-o", target)
    assert result.code == 2
    assert "--connect OUTPUT=INPUT" in result.err


def test_like_names_are_connected(sardonyx: Any, write: Write, tmp_path: Path) -> None:
    first, second = write(FIRST, "a.onnx"), write(SECOND.replace("v", "h"), "b.onnx")
    target = tmp_path / "out.onnx"
    document = sardonyx("merge", first, second, "-o", target, "--json").json
    assert document["connections"] == [{"output": "h", "input": "h"}]
    assert [value["name"] for value in document["outputs"]] == ["side", "y"]


@pytest.mark.parametrize(
    ("words", "code", "fragment"),
    [
        ((), 2, "no change is asked for"),
        (("--rename", "x"), 2, "is no pair"),
        (("--rename", "z=a"), 2, "no value 'z'"),
        (("--rename", "x=a", "--rename", "x=b"), 2, "names 'x' twice"),
        (("--dim", "x=batch"), 2, "write --dim x:0=batch"),
        (("--fix", "n=x"), 2, "is no integer"),
        (("--batch", "0"), 2, "at least one example"),
        (("--opset", "12"), 1, "is not the same in versions"),
        (("--remove", "none"), 2, "no node 'none'"),
    ],
)
def test_what_cannot_be_done(
    sardonyx: Any, write: Write, tmp_path: Path, words: tuple[str, ...], code: int, fragment: str
) -> None:
    target = tmp_path / "out.onnx"
    result = sardonyx("edit", write(FIRST), "-o", target, *words)
    assert result.code == code
    assert fragment in result.err
    assert not target.exists()
    document = sardonyx("edit", write(FIRST), "-o", target, *words, "--json").json
    assert document["error"]["class"].endswith("Error")


def test_a_pinned_constant_is_reported(sardonyx: Any, write: Write, tmp_path: Path) -> None:
    text = "agraph (float[4, 6] x) => (float[3, 8] y) <int64[2] t = {3, 8}> { y = Reshape(x, t) }"
    result = sardonyx("edit", write(text), "-o", tmp_path / "out.onnx", "--batch", "n")
    assert result.code == 1
    for fragment in ("Reshape", "'t' is [3, 8]", "at node of 'y'", "fix:"):
        assert fragment in result.err
