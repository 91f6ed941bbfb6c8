"""`gradients`: names, broadcasting, unknown ranks, element types, and what it refuses."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnxruntime
import pytest

import sardonyx as sx
from build import from_text
from sardonyx.autodiff import gradients
from sardonyx.check import validate
from sardonyx.dtypes import DOUBLE
from sardonyx.errors import InputError, UnsupportedError
from sardonyx.ir import Model, TensorType
from sardonyx.reference import Evaluator
from single_operator import OLD_WITNESS


def model_of(graph: str, opset: int = 21) -> Model:
    return from_text(f'<ir_version: 10, opset_import: ["": {opset}]> {graph}')


def test_nodes_are_added_and_named() -> None:
    model = model_of("g (double[3] x, double[2, 3] w) => (double[2] y) { y = MatMul(w, x) }")
    dx, dw = gradients(model, "y", ["x", "w"])
    assert (dx.name, dw.name) == ("gradient.x", "gradient.w")
    assert str(dx.type) == "tensor(double)"
    assert dw.shape == (2, 3)
    model.graph.outputs.extend([dx, dw])
    assert not validate(model).problems
    x, w = np.arange(3.0), np.ones((2, 3))
    found = Evaluator(model).run({"x": x, "w": w})
    np.testing.assert_array_equal(found["gradient.x"], w.sum(0))
    np.testing.assert_array_equal(found["gradient.w"], [x, x])
    again = gradients(model, "y", ["x"])
    assert again[0].name == "gradient.x_1"


def test_nothing_unused_is_left() -> None:
    model = model_of("""g (float[1, 3, 8] x, float[4, 3, 3] w) => (float y) {
        a = Conv(x, w)  b = Relu(a)  c = MaxPool<kernel_shape = [2]>(b)
        y = ReduceSum<keepdims = 0>(c)
    }""")
    (dw,) = gradients(model, "y", ["w"])
    model.graph.outputs.append(dw)
    kept = set(model.graph.outputs)
    for node in model.graph.nodes:
        assert any(value.users or value in kept for value in node.outputs), node
    for value in model.graph.initializers:
        assert value.users


def test_values_seeds_and_stops() -> None:
    model = model_of("""g (double[2] x, double[2] s) => (double[2] y) {
        a = Mul(x, x)  y = Mul(a, x)
    }""")
    named = model.graph.values()
    (dx,) = gradients(model, named["y"], [named["x"]], zs=["a"], seed=named["s"])
    model.graph.outputs.append(dx)
    x, s = np.array([2.0, 3.0]), np.array([1.0, 10.0])
    np.testing.assert_array_equal(Evaluator(model).run({"x": x, "s": s})[dx.name], s * x * x)


def test_weights_are_variables() -> None:
    model = model_of("""g (double[N, 3] x) => (double y) <double[3] w = {1.0, 2.0, 3.0}> {
        a = MatMul(x, w)  y = ReduceMean<keepdims = 0>(a)
    }""")
    (dw,) = gradients(model, "y", ["w"])
    model.graph.outputs.append(dw)
    x = np.random.default_rng(0).standard_normal((5, 3))
    np.testing.assert_allclose(Evaluator(model).run({"x": x})[dw.name], x.mean(0), atol=1e-15)


@pytest.mark.parametrize("a,b", [((2, 3), (3,)), ((3,), (4, 1, 3)), ((), (2,)), ((2, 1), (1, 3))])
def test_broadcasting_of_unknown_ranks(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    model = model_of("g (double a, double b) => (double y) { y = Mul(a, b) }")
    for value in (*model.graph.inputs, *model.graph.outputs):
        value.type = TensorType(DOUBLE)
    results = gradients(model, "y", ["a", "b"])
    model.graph.outputs.extend(results)
    random = np.random.default_rng(0)
    x, y = random.standard_normal(a), random.standard_normal(b)
    found = Evaluator(model).run({"a": np.asarray(x), "b": np.asarray(y)})
    whole = np.ones(np.broadcast_shapes(a, b))
    for value, result, other in ((x, results[0], y), (y, results[1], x)):
        expected = whole * other
        extra = expected.ndim - np.ndim(value)
        expected = expected.sum(tuple(range(extra)))
        ones = tuple(i for i, size in enumerate(np.shape(value)) if size == 1)
        np.testing.assert_allclose(found[result.name], expected.sum(ones, keepdims=True))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, ml_dtypes.bfloat16])
def test_element_types_stay(dtype: type) -> None:
    text = {"float16": "float16", "float32": "float", "bfloat16": "bfloat16"}[np.dtype(dtype).name]
    model = model_of(f"""g ({text}[2, 3] x, {text}[3] s, {text}[3] b) => ({text} y) {{
        a = LayerNormalization(x, s, b)  c = Gelu(a)  d = Softmax(c)  e = Mul(d, d)
        y = ReduceSum<keepdims = 0>(e)
    }}""")
    results = gradients(model, "y", ["x", "s", "b"])
    model.graph.outputs.extend(results)
    assert not validate(model).errors
    random = np.random.default_rng(3)
    feeds = {
        "x": random.standard_normal((2, 3)).astype(dtype),
        "s": random.standard_normal(3).astype(dtype),
        "b": random.standard_normal(3).astype(dtype),
    }
    found = Evaluator(model).run(feeds)
    for result in results:
        assert found[result.name].dtype == dtype
        assert np.isfinite(found[result.name].astype(np.float64)).all()


@pytest.mark.skipif(OLD_WITNESS, reason="the witness is onnxruntime 1.31 or newer")
@pytest.mark.parametrize("opset", [13, 18, 21])
def test_others_run_what_is_written(opset: int) -> None:
    axes = "<int64[1] axes = {1}>" if opset >= 18 else ""
    mean = "ReduceMean(b, axes)" if opset >= 18 else "ReduceMean<axes = [1]>(b)"
    model = model_of(
        f"""g (float[N, 3, 6, 6] x, float[4, 3, 3, 3] w) => (float[N, 1, 2, 2] y) {axes} {{
        a = Conv<strides = [2, 2], pads = [1, 1, 0, 0]>(x, w)  b = Tanh(a)
        c = {mean}  y = AveragePool<kernel_shape = [2, 2]>(c)
    }}""",
        opset,
    )
    results = gradients(model, "y", ["x", "w"])
    model.graph.outputs.extend(results)
    random = np.random.default_rng(4)
    feeds = {
        "x": random.standard_normal((2, 3, 6, 6)).astype(np.float32),
        "w": random.standard_normal((4, 3, 3, 3)).astype(np.float32),
    }
    theirs = onnxruntime.InferenceSession(sx.dumps(model)).run(None, feeds)
    ours = sx.Session(model).run(None, feeds)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5)


def test_what_is_refused() -> None:
    model = model_of("g (int64[2] n, float[2] x) => (float[2] y) { y = Neg(x) }")
    with pytest.raises(InputError, match=r"'n' is tensor\(int64\)"):
        gradients(model, "y", ["n"])
    with pytest.raises(InputError, match="no value 'nix'"):
        gradients(model, "nix", ["x"])


def test_a_failure_adds_nothing() -> None:
    model = model_of(
        """g (float[1, 1, 8] x, int64[1, 1, 2] at) => (float[1, 1, 2] y) {
        a = GatherElements<axis = 2>(x, at)  b = Concat<axis = 2>(x, a)
        y = MaxPool<kernel_shape = [2], strides = [5]>(b)
    }""",
        13,
    )
    before = sx.dumps(model)
    with pytest.raises(UnsupportedError, match="ScatterElements-13"):
        gradients(model, "y", ["x"])
    assert sx.dumps(model) == before


def test_all_missing_rules_are_listed_at_once() -> None:
    model = model_of("""g (float[2, 2] x) => (float[2] y) {
        a = Det(x)  b = Det(x)  c = Add(a, b)  y = Neg(c)  other = Det(y)
    }""")
    before = len(model.graph.nodes)
    with pytest.raises(UnsupportedError, match=r"node of 'a' \(Det\), node of 'b' \(Det\)\n"):
        gradients(model, "y", ["x"])
    assert len(model.graph.nodes) == before
