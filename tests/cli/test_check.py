from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest

Write = Callable[..., Path]

SOUND = "agraph (float[3] x) => (float[3] y) { y = Relu(x) }"
BROKEN = "agraph (float[3] x) => (float[3] y) { y = Relu<alpha=1>(nothing) z = Relu(x, x, x) }"


def test_sound_model(sardonyx: Any, data: Path) -> None:
    result = sardonyx("check", data / "digits.onnx")
    assert (result.code, result.err) == (0, "")
    assert "✓" in result.out
    assert "no problems" in result.out
    found = sardonyx("check", data / "digits.onnx", "--json").json
    assert found["sound"] is True
    assert found["files"][0]["problems"] == []


def test_all_problems_are_reported(sardonyx: Any, write: Write) -> None:
    path = write(BROKEN)
    with pytest.raises(onnx.checker.ValidationError):
        onnx.checker.check_model(onnx.load(path))
    result = sardonyx("check", path)
    assert result.code == 1
    for fragment in ("✗", "nothing", "alpha", "error"):
        assert fragment in result.out
    document = sardonyx("check", path, "--json").json
    (file,) = document["files"]
    assert document["sound"] is False
    assert file["errors"] == len([p for p in file["problems"] if p["severity"] == "error"]) >= 2
    places = {"place", "graph", "node", "value", "tensor"}
    assert set(file["problems"][0]) == {"severity", "kind", "message", "fix", *places}


def test_every_file_is_checked(sardonyx: Any, write: Write, tmp_path: Path) -> None:
    sound, broken = write(SOUND, "a.onnx"), write(BROKEN, "b.onnx")
    garbage = tmp_path / "c.onnx"
    garbage.write_bytes(b"\xff" * 20)
    document = sardonyx("check", sound, broken, garbage, "--json")
    assert document.code == 1
    assert [file["sound"] for file in document.json["files"]] == [True, False, False]
    assert document.json["files"][2]["error"]["class"] == "DecodeError"
    assert sardonyx("check", sound, tmp_path / "none.onnx").code == 2
    shown = sardonyx("check", sound, broken, garbage).out
    assert [shown.count(mark) for mark in "✓✗"] == [1, 2]


def test_strict_refuses_warnings(sardonyx: Any, write: Write) -> None:
    path = write(SOUND)
    model = onnx.load(path)
    model.graph.name = ""
    onnx.save(model, path)
    relaxed, strict = (sardonyx("check", path, *option, "--json") for option in ((), ["--strict"]))
    assert (relaxed.code, strict.code) == (0, 1)
    assert [(f["errors"], f["warnings"]) for f in strict.json["files"]] == [(0, 1)]
    shown = sardonyx("check", path).out
    assert "warning  graph-name  the graph has no name" in shown
    assert all(line == line.rstrip() for line in shown.splitlines())


def test_limits(sardonyx: Any, data: Path) -> None:
    result = sardonyx("check", data / "digits.onnx", "--limit", "nodes=3")
    assert result.code == 1
    assert "--limit nodes" in result.out + result.err
