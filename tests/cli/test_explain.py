from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

Write = Callable[..., Path]

BLOCK = """agraph (float[N,64] x, float[64,96] w, float[96] b) => (float[N,96] y, int64[2] s) {
    p = MatMul(x, w)
    q = Add(p, b)
    y = Relu(q)
    s = Shape(y)
}"""
MIXED = "agraph (float[N] x) => (float[M] y) { i = Unique(x) f = Exp(i) y = Neg(f) }"


def test_fused_nodes_are_one_kernel(sardonyx: Any, write: Write) -> None:
    path = write(BLOCK)
    found = sardonyx("explain", path, "--json").json
    kernels = [step for step in found["steps"] if step["kind"] == "kernel"]
    assert len(kernels) == 1
    assert [
        name for node in kernels[0]["nodes"] for name in ("MatMul", "Add", "Relu") if name in node
    ] == ["MatMul", "Add", "Relu"]
    assert found["nodes"] == {"kernel": 3, "view": 0, "sizes": 1, "control": 0, "reference": 0}
    assert kernels[0]["launches"][-1]["flops"] == "12288*N"
    result = sardonyx("explain", path)
    assert "MatMul" in result.out
    assert "kernel" in result.out


def test_sizes_make_numbers(sardonyx: Any, write: Write) -> None:
    found = sardonyx("explain", write(BLOCK), "--dim", "N=10", "--json").json
    (kernel,) = [step for step in found["steps"] if step["kind"] == "kernel"]
    assert kernel["launches"][-1]["flops"] == 2 * 10 * 64 * 96


def test_what_is_not_compiled_has_a_reason(sardonyx: Any, write: Write) -> None:
    found = sardonyx("explain", write(MIXED), "--json").json
    references = [step for step in found["steps"] if step["kind"] == "reference"]
    assert "Unique" in references[0]["nodes"][0]
    assert all(step["reason"] for step in references)


def test_a_bad_size_is_an_error(sardonyx: Any, write: Write) -> None:
    result = sardonyx("explain", write(BLOCK), "--dim", "N")
    assert result.code == 2
    assert "NAME=N" in result.err
