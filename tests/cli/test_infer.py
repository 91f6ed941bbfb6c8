"""``sardonyx infer``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx

import sardonyx as sx

UNKNOWN = "g (float[N, 4] x) => (y) { i = NonZero (x) t = Transpose (i) y = Cast <to = 1> (t) }"


def test_every_value_has_its_type(sardonyx: Any, write: Any) -> None:
    path = write("g (float[N, 4] x) => (y) { a = Concat <axis = 0> (x, x) y = Shape (a) }")
    result = sardonyx("infer", path)
    assert result.code == 0
    assert "tensor(float)[2*N, 4]" in result.out
    assert "tensor(int64)[2] = 2*N, 4" in result.out
    assert "all known" in result.out


def test_says_who_decides(sardonyx: Any, write: Any) -> None:
    result = sardonyx("infer", write(UNKNOWN))
    assert result.code == 0
    assert "how many elements of X are not zero" in result.out
    assert "?:" not in result.out


def test_json(sardonyx: Any, write: Any) -> None:
    document = sardonyx("infer", write(UNKNOWN), "--json").json
    values = {value["name"]: value for value in document["values"]}
    assert values["x"]["shape"] == ["N", 4]
    assert values["x"]["unknown"] == []
    assert values["i"]["shape"][0] == 2
    (unknown,) = values["i"]["unknown"]
    assert unknown["part"] == "dim 1"
    assert unknown["value"] == "i"
    assert document["problems"] == []


def test_writes_the_model_with_types(sardonyx: Any, write: Any, tmp_path: Path) -> None:
    path = write("g (float[N, 4] x) => (y) { a = Relu (x) y = Relu (a) }")
    target = tmp_path / "out.onnx"
    assert sardonyx("infer", path, "-o", target, "--shape", "x=2*B,4").code == 0
    values = sx.load(target).graph.values()
    for name in "xay":
        assert [str(dim) for dim in values[name].shape or ()] == ["2*B", "4"]
    onnx.checker.check_model(onnx.load(target))


def test_shapes_may_be_given(sardonyx: Any, write: Any) -> None:
    path = write("g (float[N, M] x) => (y) { y = Transpose (x) }")
    assert "tensor(float)[3, 2*K]" in sardonyx("infer", path, "--shape", "2*K,3").out
    assert sardonyx("infer", path, "--shape", "z=3,4").code == 2
    assert sardonyx("infer", path, "--shape", "x=3,(").code == 2
    declared = sardonyx(
        "infer", write("g (float[N, 4] x) => (y) { y = Relu (x) }"), "--shape", "2,5"
    )
    assert declared.code == 2
    assert "declared [N, 4], given [2, 5]" in declared.err


def test_what_does_not_fit_is_code_1(sardonyx: Any, write: Any) -> None:
    path = write("g (float[2, 4] x, float[3, 5] z) => (y) { y = Add (x, z) }")
    result = sardonyx("infer", path)
    assert result.code == 1
    assert "do not broadcast" in result.out
