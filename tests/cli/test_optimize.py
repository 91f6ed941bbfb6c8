"""``sardonyx optimize``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import sardonyx as sx

SWISH = "g (float[N, 4] x) => (y) { s = Sigmoid (x) a = Mul (x, s) y = Identity (a) }"


def test_writes_and_counts(sardonyx: Any, write: Any, tmp_path: Path) -> None:
    target = tmp_path / "out.onnx"
    result = sardonyx("optimize", write(SWISH), "-o", target, "--verify")
    assert result.code == 0, result.err
    assert "3 nodes → 2" in result.out
    assert "numbers agree" in result.out
    assert [node.op_type for node in sx.load(target).graph.nodes] == ["Sigmoid", "Mul"]


def test_json_and_chosen_passes(sardonyx: Any, write: Any) -> None:
    document = sardonyx("optimize", write(SWISH), "--pass", "dead-code", "--json").json
    assert document["nodes"] == {"before": 3, "after": 3}
    assert document["written"] is None
    document = sardonyx("optimize", write(SWISH), "--pass", "identity", "--json").json
    assert document["patches"] == {"identity": 1}
    assert document["operators"] == {"Identity": [1, 0]}


def test_explains(sardonyx: Any, write: Any) -> None:
    result = sardonyx("optimize", write(SWISH), "--explain", "swish")
    assert result.code == 0
    assert "needs opset 24" in result.out


def test_unknown_passes(sardonyx: Any, write: Any) -> None:
    result = sardonyx("optimize", write(SWISH), "--pass", "fastest")
    assert result.code != 0
    assert "no pass 'fastest'" in result.err
    assert "dead-code" in result.err
