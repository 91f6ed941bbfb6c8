"""FlexAttention: against the onnx package's reference; sound inference; misfits are refused."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnx.reference
import pytest

from build import from_text
from sardonyx.errors import ExecutionError, InferenceError, LimitError, SardonyxError
from sardonyx.infer import infer
from sardonyx.ops.fact import Fact
from sardonyx.ops.flex_attention import FlexAttention
from sardonyx.reference import Evaluator

NUMPY = {
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "float": np.dtype(np.float32),
    "double": np.dtype(np.float64),
}
CODES = {"float": 1, "float16": 10, "double": 11, "bfloat16": 16}

CAUSAL = """score_mod = s ({T}[b, h, l, t] s) => ({T}[b, h, l, t] r)
    <int64 zero = {{0}}, int64 one = {{1}}, int64 two = {{2}}, int64 three = {{3}},
     int64[2] column = {{-1, 1}}, float low = {{-1e4}}> {{
        sizes = Shape (s)
        rows = Gather (sizes, two)
        columns = Gather (sizes, three)
        i = Range (zero, rows, one)
        j = Range (zero, columns, one)
        at = Reshape (i, column)
        open = GreaterOrEqual (at, j)
        far = CastLike (low, s)
        r = Where (open, s, far)
    }}"""
CAPPED = """score_mod = s ({T}[b, h, l, t] s) => ({T}[b, h, l, t] r) <float cap = {{2}}> {{
        c = CastLike (cap, s)
        d = Div (s, c)
        e = Tanh (d)
        r = Mul (e, c)
    }}"""
HALVED = """prob_mod = p ({T}[b, h, l, t] p) => ({T}[b, h, l, t] r) <float half = {{0.5}}> {{
        c = CastLike (half, p)
        r = Mul (p, c)
    }}"""


def text(
    dtype: str, attributes: str = "", precision: str = "float", shapes: str = "B,H,L,D G S E"
) -> str:
    q, g, s, e = shapes.split()
    batch, _, _, size = q.split(",")
    heads = q.split(",")[1]
    length = q.split(",")[2]
    given = f"<{attributes.format(T=precision)}>" if attributes else ""
    return f"""<ir_version: 10, opset_import: ["" : 24, "ai.onnx.preview" : 1]>
    g ({dtype}[{q}] Q, {dtype}[{batch},{g},{s},{size}] K, {dtype}[{batch},{g},{s},{e}] V,
       {dtype} outer)
    => ({dtype}[{batch},{heads},{length},{e}] Y) {{
        Y = ai.onnx.preview.FlexAttention {given} (Q, K, V)
    }}"""


def feeds_of(dtype: str, sizes: tuple[int, ...] = (2, 4, 5, 8, 2, 7, 6)) -> dict[str, Any]:
    batch, heads, length, size, kv_heads, keys, v_size = sizes
    rng = np.random.default_rng(7)
    shapes = {
        "Q": (batch, heads, length, size),
        "K": (batch, kv_heads, keys, size),
        "V": (batch, kv_heads, keys, v_size),
        "outer": (),
    }
    return {name: rng.standard_normal(shape).astype(NUMPY[dtype]) for name, shape in shapes.items()}


def witness(source: str, feeds: dict[str, Any]) -> Any:
    model = onnx.parser.parse_model(source)
    return onnx.reference.ReferenceEvaluator(model).run(None, feeds)[0]


def epsilon(dtype: str) -> float:
    return float(ml_dtypes.finfo(NUMPY[dtype]).eps)


@pytest.mark.parametrize(
    "attributes",
    ["", "scale = 0.3", CAPPED, HALVED, CAUSAL, f"{CAUSAL}, {HALVED}, scale = 0.5"],
    ids=["plain", "scale", "capped", "halved", "causal", "all"],
)
@pytest.mark.parametrize("dtype", ["float", "double", "float16", "bfloat16"])
def test_reference(dtype: str, attributes: str) -> None:
    precision = "double" if dtype == "double" else "float"
    source, feeds = text(dtype, attributes, precision), feeds_of(dtype)
    actual = Evaluator(from_text(source)).run(feeds)["Y"]
    expected = witness(source, feeds)
    assert actual.dtype == expected.dtype
    assert actual.shape == expected.shape
    # 8 products to a score, 7 to an element of Y
    np.testing.assert_allclose(
        actual.astype(np.float64), expected.astype(np.float64), rtol=0, atol=16 * epsilon(dtype)
    )


@pytest.mark.parametrize("precision", sorted(CODES))
@pytest.mark.parametrize("dtype", ["float", "double", "float16"])
def test_softmax_precision(dtype: str, precision: str) -> None:
    attributes = f"{CAPPED}, {HALVED}, softmax_precision = {CODES[precision]}"
    source, feeds = text(dtype, attributes, precision), feeds_of(dtype)
    found = infer(from_text(source))
    assert found.problems == []
    actual = Evaluator(from_text(source)).run(feeds)["Y"]
    expected = witness(text(dtype, f"{CAPPED}, {HALVED}", _default(dtype)), feeds)
    assert actual.dtype == NUMPY[dtype]
    tolerance = 16 * max(epsilon(dtype), epsilon(precision), epsilon(_default(dtype)))
    np.testing.assert_allclose(
        actual.astype(np.float64), expected.astype(np.float64), rtol=0, atol=tolerance
    )


def _default(dtype: str) -> str:
    return "double" if dtype == "double" else "float"


def test_a_graph_sees_the_values_around_it() -> None:
    added = """score_mod = s ({T}[b, h, l, t] s) => ({T}[b, h, l, t] r) {{ r = Mul (s, outer) }}"""
    source = text("float", added)
    feeds = feeds_of("float")
    feeds["outer"] = np.float32(2.0) * np.ones((), np.float32)
    actual = Evaluator(from_text(source)).run(feeds)["Y"]
    expected = witness(text("float", f"scale = {2 / np.sqrt(8)}"), feeds)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=16 * epsilon("float"))


def test_a_negative_scale_negates_the_scores() -> None:
    feeds = feeds_of("double")
    negated = {**feeds, "Q": -feeds["Q"]}
    actual = Evaluator(from_text(text("double", "scale = -0.25"))).run(feeds)["Y"]
    expected = witness(text("double", "scale = 0.25"), negated)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=16 * epsilon("double"))


@pytest.mark.parametrize("sizes", [(2, 4, 5, 8, 2, 7, 6), (1, 3, 2, 4, 1, 3, 5)])
@pytest.mark.parametrize("attributes", ["", f"{CAUSAL}, {HALVED}"], ids=["plain", "modified"])
def test_inferred_shape(attributes: str, sizes: tuple[int, ...]) -> None:
    model = from_text(text("float", attributes))
    found = infer(model)
    assert found.problems == []
    fact = found.facts[model.graph.outputs[0]]
    assert str(fact.dtype) == "FLOAT"
    batch, heads, length, _, _, _, v_size = sizes
    known = {"B": batch, "H": heads, "L": length, "E": v_size}
    actual = Evaluator(model).run(feeds_of("float", sizes))["Y"]
    assert fact.shape is not None
    assert tuple(known[str(dim)] for dim in fact.shape) == actual.shape


@pytest.mark.parametrize(
    "sizes",
    [(0, 4, 5, 8, 2, 7, 6), (2, 4, 0, 8, 2, 7, 6), (2, 4, 5, 0, 2, 7, 6), (2, 4, 5, 8, 2, 0, 6)],
    ids=["batch", "queries", "head size", "keys"],
)
def test_empty(sizes: tuple[int, ...]) -> None:
    feeds = feeds_of("float", sizes)
    actual = Evaluator(from_text(text("float"))).run(feeds)["Y"]
    assert actual.shape == (*sizes[:3], sizes[6])
    uniform = feeds["V"].mean(axis=2, keepdims=True) if sizes[5] else np.zeros((2, 2, 1, 6))
    expected = np.broadcast_to(np.repeat(uniform, 2, axis=1), actual.shape)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=16 * epsilon("float"))


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan, 1e38])
@pytest.mark.parametrize("dtype", ["float", "double", "float16", "bfloat16"])
def test_extreme_inputs_give_no_warning(dtype: str, value: float) -> None:
    feeds = feeds_of(dtype)
    with np.errstate(all="ignore"):
        feeds["K"][0, 0, 0] = np.asarray(value).astype(NUMPY[dtype])
    actual = Evaluator(from_text(text(dtype, "softmax_precision = 10", "float16"))).run(feeds)["Y"]
    assert actual.dtype == NUMPY[dtype]
    assert np.isfinite(actual[1].astype(np.float64)).all()


@pytest.mark.parametrize(
    "q,k,v",
    [
        ((1, 4, 2, 8), (1, 3, 2, 8), (1, 3, 2, 8)),
        ((1, 4, 2, 8), (1, 0, 2, 8), (1, 0, 2, 8)),
        ((1, 4, 2, 8), (1, 4, 2, 7), (1, 4, 2, 8)),
        ((1, 4, 2, 8), (1, 4, 2, 8), (1, 4, 3, 8)),
        ((1, 4, 2, 8), (1, 4, 2, 8), (1, 2, 2, 8)),
        ((2, 4, 2, 8), (1, 4, 2, 8), (1, 4, 2, 8)),
        ((4, 2, 8), (1, 4, 2, 8), (1, 4, 2, 8)),
    ],
)
def test_shapes_that_do_not_fit(q: tuple[int, ...], k: tuple[int, ...], v: tuple[int, ...]) -> None:
    arrays = [np.zeros(shape, np.float32) for shape in (q, k, v)]
    operator = FlexAttention.parse(1, {})
    with pytest.raises(InferenceError, match="FlexAttention"):
        operator.reference(_no_graph, *arrays)
    with pytest.raises(InferenceError, match="FlexAttention"):
        operator.infer(_no_graph, *(Fact.constant(array) for array in arrays))


def _no_graph(*_: Any) -> Any:
    raise AssertionError


def test_unknown_inputs() -> None:
    fact = FlexAttention.parse(1, {}).infer(_no_graph, Fact(), Fact(), Fact())
    assert isinstance(fact, Fact)
    assert fact.dtype is None
    assert fact.shape == (None,) * 4


@pytest.mark.parametrize("precision", [0, 7, -1, 99])
def test_softmax_precision_that_is_not_allowed(precision: int) -> None:
    x = np.zeros((1, 1, 1, 1), np.float32)
    with pytest.raises(InferenceError, match="softmax_precision"):
        FlexAttention.parse(1, {"softmax_precision": precision}).reference(_no_graph, x, x, x)


BAD = {
    "shape": "(float s) => (float r) <int64 d = {{3}}> {{ r = ReduceSum <keepdims = 1> (s, d) }}",
    "type": "(float s) => (double r) {{ r = Cast <to = 11> (s) }}",
    "two outputs": "(float s) => (float r, float t) {{ r = Neg (s) t = Abs (s) }}",
    "two inputs": "(float s, float t) => (float r) {{ r = Add (s, t) }}",
}


@pytest.mark.parametrize("name", ["score_mod", "prob_mod"])
@pytest.mark.parametrize("bad", BAD)
def test_graphs_that_do_not_fit(name: str, bad: str) -> None:
    graph = BAD[bad].replace("(float s", "(float[b, h, l, t] s")
    source = text("float", f"{name} = m {graph}", shapes="2,4,5,8 2 7 6")
    model = from_text(source)
    problems = infer(model).problems
    assert problems
    assert all(isinstance(problem, SardonyxError) for problem in problems)
    with pytest.raises(ExecutionError):
        Evaluator(model).run(feeds_of("float"))


def test_scores_too_large_are_refused_before_they_are_made() -> None:
    x = np.zeros((1, 1, 1 << 24, 0), np.float32)
    with pytest.raises(LimitError):
        FlexAttention.parse(1, {}).reference(_no_graph, x, x, x)
