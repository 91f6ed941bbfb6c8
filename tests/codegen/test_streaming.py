"""Results that go past the caches are the same, wherever they lie."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

import sardonyx as sx
from sardonyx.reference import Evaluator
from sardonyx.runtime.outputs import POOLED_FROM, Outputs
from sardonyx.schedule import nests

GRAPHS = [
    "g (T[37, 60] x, T[60] b) => (T[37, 60] y) { y = Add(x, b) }",
    "g (T[2000] x, T[2000] b) => (T[2000] y, T[2000] z) { y = Max(x, b) z = Neg(y) }",
    "g (T[31, 65] x, T[65] b) => (T[65, 31] y) { s = Add(x, b) y = Transpose(s) }",
    "g (T[9, 130] x, T[130] b) => (T[9, 130] y) { s = Softmax(x) y = Mul(s, b) }",
    "g (T[9, 130] x, T[130] b) => (T[9, 130] y) { y = LayerNormalization(x, b) }",
    "g (T[5, 7, 64] x, T[64] b) => (T[5, 7, 64] y) { s = Sigmoid(x) t = Mul(s, x) y = Add(t, b) }",
]


@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize("kind", ["float", "float16", "double", "bfloat16"])
@pytest.mark.parametrize("threads", [1, 2])
def test_streamed_results_are_the_same(
    graph: str, kind: str, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nests, "STREAMED_FROM", 64)
    text = '<ir_version: 10, opset_import: ["" : 23]>\n' + graph.replace("T[", f"{kind}[")
    model = sx.parse(text)
    session = sx.Session(model, threads=threads)
    dtype = {"float": np.float32, "float16": np.float16, "double": np.float64}.get(
        kind, ml_dtypes.bfloat16
    )
    generator = np.random.default_rng(0)
    feeds = {
        arg.name: generator.standard_normal(arg.shape).astype(dtype)  # type: ignore[arg-type]
        for arg in session.get_inputs()
    }
    wanted = Evaluator(model).run(feeds)
    steps = {"bfloat16": 2.0**-7, "float16": 2.0**-10, "float": 2.0**-23, "double": 2.0**-52}
    for _ in range(2):
        for arg, found in zip(session.get_outputs(), session.run(None, feeds), strict=True):
            expected: Any = wanted[arg.name].astype(np.float64)
            bound = 64 * steps[kind] * np.maximum(np.abs(expected), 1)
            assert (np.abs(found.astype(np.float64) - expected) <= bound).all()


def test_memory_of_large_outputs_begins_a_page() -> None:
    pool = Outputs()
    for _ in range(2):
        array = pool.empty((POOLED_FROM // 4 + 3,), np.dtype(np.float32))
        assert array.__array_interface__["data"][0] % 4096 == 0
        del array
