"""What a model is turned into before it is compiled."""

from __future__ import annotations

import numpy as np
import pytest

import sardonyx as sx
from build import from_text
from sardonyx.limits import DEFAULT
from sardonyx.runtime.prepare import prepare

CALLS = """<ir_version: 10, opset_import: ["" : 21, "local" : 1]>
agraph (float[N] x) => (float[N] y) { h = local.twice(x) y = local.twice(h) }
<opset_import: ["" : 21], domain: "local">
twice (a) => (b) { b = Add(a, a) }"""
GROUPS = """<ir_version: 10, opset_import: ["" : 21]>
agraph (float[N,4,S] x, float[4] s, float[4] b) => (float[N,4,S] y) {
    y = GroupNormalization<num_groups=2>(x, s, b)
}"""


def test_functions_are_put_in_place() -> None:
    model = from_text(CALLS)
    session = sx.Session(model)
    assert {step.kind for step in session.explain()} == {"kernel"}
    assert model.functions
    (y,) = session.run(None, {"x": np.arange(3, dtype=np.float32)})
    np.testing.assert_array_equal(y, [0, 4, 8])


def test_a_model_that_needs_nothing_is_itself() -> None:
    model = from_text(
        '<ir_version: 10, opset_import: ["" : 21]> g (float[N] x) => (float[N] y) { y = Neg(x) }'
    )
    assert [n.op_type for n in prepare(model, DEFAULT).graph.nodes] == ["Neg"]


def test_sessions_agree_with_and_without_compiling() -> None:
    model = from_text(GROUPS)
    rng = np.random.default_rng(0)
    compiled, plain = sx.Session(model), sx.Session(model, compile=False)
    assert plain.explain() == []
    for n, s in ((2, 5), (1, 1), (3, 0)):
        feeds = {
            "x": rng.standard_normal((n, 4, s)).astype(np.float32),
            "s": rng.standard_normal(4).astype(np.float32),
            "b": rng.standard_normal(4).astype(np.float32),
        }
        (a,), (b,) = compiled.run(None, feeds), plain.run(None, feeds)
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_results_are_the_callers_own() -> None:
    model = from_text(
        """<ir_version: 10, opset_import: ["" : 21]>
        g (float[N] x) => (float[N] y, float[2] c)
        <float[2] w = {1.0, 2.0}> { y = Identity(x) c = Identity(w) }"""
    )
    session = sx.Session(model)
    x = np.ones(3, np.float32)
    y, c = session.run(None, {"x": x})
    y[:], c[:] = 7, 7
    np.testing.assert_array_equal(x, 1)
    y, c = session.run(None, {"x": x})
    np.testing.assert_array_equal(y, 1)
    np.testing.assert_array_equal(c, [1, 2])


def test_a_constant_index_outside_fails_the_run_with_its_node() -> None:
    model = from_text(
        """<ir_version: 10, opset_import: ["" : 21]>
        g (float[N] x) => (float[1] y, float[N] z)
        <float[2] w = {1.0, 2.0}, int64[1] i = {5}> { y = Gather(w, i) z = Neg(x) }"""
    )
    session = sx.Session(model)
    with pytest.raises(sx.errors.SardonyxError, match="Gather"):
        session.run(None, {"x": np.ones(3, np.float32)})
