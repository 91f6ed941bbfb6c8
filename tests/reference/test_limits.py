"""The limits given to a session hold inside operators, not only the defaults."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import sardonyx as sx
from build import from_text
from sardonyx.limits import DEFAULT, Limits, active, enforced

ENDLESS = (
    '<ir_version: 8, opset_import: ["" : 17]> g (float x) => (float y) {'
    " c = Constant <value = bool {1}> ()"
    " y = Loop (, c, x) <body = b (int64 i, bool ci, float a) => (bool co, float ao)"
    " { co = Identity (ci) ao = Relu (a) }> }"
)
BIG = (
    '<ir_version: 8, opset_import: ["" : 17]> g (int64[1] n) => (float[m] y) { y = Expand (z, n) }'
).replace("{ y", "{ z = Constant <value_float = 1.0> () y")


def test_loop_iterations() -> None:
    session = sx.Session(from_text(ENDLESS), limits=Limits(loop_iterations=100))
    with pytest.raises(sx.errors.LimitError, match="100 allowed"):
        session.run(None, {"x": np.float32(1)})


def test_tensor_bytes() -> None:
    feeds = {"n": np.array([1000])}
    assert sx.Session(from_text(BIG)).run(None, feeds)[0].shape == (1000,)
    with pytest.raises(sx.errors.LimitError, match="tensor bytes"):
        sx.Session(from_text(BIG), limits=Limits(tensor_bytes=100)).run(None, feeds)


def test_limits_of_one_run_do_not_reach_another_thread() -> None:
    seen: list[Limits] = []
    with enforced(Limits(rank=3)):
        assert active().rank == 3
        thread = threading.Thread(target=lambda: seen.append(active()))
        thread.start()
        thread.join()
    assert seen == [DEFAULT]
    assert active() is DEFAULT
