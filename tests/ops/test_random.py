"""Random operators: distributions of large samples, reproducibility, types and shapes.

Seeds are fixed, so a test that passes always does. Thresholds are those that an honest generator
crosses once in a million draws of the seed.
"""

from __future__ import annotations

import math
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

import sardonyx as sx
from sardonyx import dtypes
from sardonyx.dims import symbol
from sardonyx.errors import ExecutionError, InferenceError, LimitError
from sardonyx.ops import registry
from sardonyx.ops.fact import Fact
from single_operator import apply, inferred

COUNT = 40_000
LIKE = np.zeros((COUNT,), np.int32)
EVERY: list[tuple[str, list[Any], dict[str, Any]]] = [
    ("RandomNormal", [], {"shape": (COUNT,)}),
    ("RandomUniform", [], {"shape": (COUNT,)}),
    ("RandomNormalLike", [LIKE], {"dtype": 1}),
    ("RandomUniformLike", [LIKE], {"dtype": 1}),
    ("Bernoulli", [np.full(COUNT, 0.5)], {}),
    ("Multinomial", [np.zeros((4, 5))], {"sample_size": COUNT // 4}),
]


@pytest.mark.parametrize(("name", "inputs", "attributes"), EVERY)
def test_a_seed_makes_it_reproducible(name: str, inputs: list, attributes: dict) -> None:
    def run(**more: Any) -> np.ndarray:
        return apply(name, *inputs, **attributes, **more)[0]

    np.testing.assert_array_equal(run(seed=1.5), run(seed=1.5))
    assert (run(seed=1.5) != run(seed=2.5)).any()
    assert (run() != run()).any()
    assert not registry.get("", name).deterministic


@pytest.mark.parametrize("code", [1, 10, 11, 16])
@pytest.mark.parametrize("like", [True, False])
def test_moments(like: bool, code: int) -> None:
    inputs, options = ([LIKE], {}) if like else ([], {"shape": (COUNT,)})
    options |= {"dtype": code, "seed": 3.0}
    suffix = "Like" if like else ""
    (x,) = apply("RandomNormal" + suffix, *inputs, mean=2.0, scale=0.5, **options)
    assert x.dtype == dtypes.from_code(code).numpy
    wide = x.astype(np.float64)
    # five standard errors of the mean and of the deviation
    assert abs(wide.mean() - 2) < 5 * 0.5 / COUNT**0.5
    assert abs(wide.std() - 0.5) < 5 * 0.5 / (2 * COUNT) ** 0.5
    (x,) = apply("RandomUniform" + suffix, *inputs, low=-1.0, high=3.0, **options)
    wide = x.astype(np.float64)
    assert -1 <= wide.min() < -0.99
    assert 2.98 < wide.max() < 3
    assert abs(wide.mean() - 1) < 5 * 4 / (12 * COUNT) ** 0.5
    assert abs(np.quantile(wide, 0.25)) < 0.1


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ml_dtypes.bfloat16])
@pytest.mark.parametrize("code", [None, 1, 9, 6, 3, 16])
def test_bernoulli_gives_ones_as_often_as_asked(code: int | None, dtype: type) -> None:
    p = np.repeat([0, 0.25, 0.75, 1], COUNT // 4).astype(dtype)
    (y,) = apply("Bernoulli", p, seed=1.0, **({} if code is None else {"dtype": code}))
    assert y.dtype == (np.dtype(dtype) if code is None else dtypes.from_code(code).numpy)
    shares = y.astype(np.float64).reshape(4, -1).mean(axis=1)
    np.testing.assert_allclose(shares, [0, 0.25, 0.75, 1], atol=5 * 0.5 / (COUNT / 4) ** 0.5)
    assert shares[0] == 0
    assert shares[3] == 1


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ml_dtypes.bfloat16])
def test_multinomial_follows_the_probabilities(dtype: type) -> None:
    with np.errstate(divide="ignore"):
        logits = np.log([[0, 0.5, 0, 0.25, 0.25], [1, 0, 0, 0, 0]]) + np.array([[3.0], [-3.0]])
    (y,) = apply("Multinomial", logits.astype(dtype), sample_size=COUNT, seed=4.0, dtype=7)
    assert y.dtype == np.int64
    counts = np.stack([np.bincount(row, minlength=5) for row in y]) / COUNT
    expected = [[0, 0.5, 0, 0.25, 0.25], [1, 0, 0, 0, 0]]
    np.testing.assert_allclose(counts, expected, atol=5 * 0.5 / COUNT**0.5)
    assert counts[0, 0] == counts[0, 2] == 0


def test_what_cannot_be_drawn_is_said() -> None:
    for bad in (np.full((1, 3), -np.inf), np.array([[np.nan, 0]]), np.zeros((2, 0))):
        with pytest.raises(ExecutionError, match="log-probabilities"):
            apply("Multinomial", bad)
    with pytest.raises(InferenceError, match="rank 2"):
        apply("Multinomial", np.zeros(3))
    with pytest.raises(InferenceError, match="sample_size"):
        apply("Multinomial", np.zeros((1, 3)), sample_size=0)
    with pytest.raises(InferenceError, match="INT32"):
        apply("RandomNormalLike", LIKE)
    with pytest.raises(InferenceError, match="BFLOAT16"):
        apply("RandomUniform", shape=(3,), dtype=16, version=1)
    with pytest.raises(InferenceError, match="negative"):
        inferred("RandomUniform", shape=(3, -1))
    with pytest.raises(ExecutionError, match="negative"):
        apply("RandomUniform", shape=(3, -1))
    with pytest.raises(LimitError):
        apply("RandomNormal", shape=(2**40, 2**20))


def test_inference() -> None:
    N = symbol("N")
    fact = Fact.tensor(dtypes.FLOAT16, (N, 3))
    for name in ("RandomNormalLike", "RandomUniformLike", "Bernoulli"):
        (found,) = inferred(name, fact)
        assert (found.dtype, found.shape) == (dtypes.FLOAT16, (N, 3))
        assert inferred(name, fact, dtype=11)[0].dtype is dtypes.DOUBLE
    (found,) = inferred("Multinomial", fact, sample_size=7)
    assert (found.dtype, found.shape) == (dtypes.INT32, (N, 7))
    (found,) = inferred("RandomNormal", shape=(2, 3))
    assert (found.dtype, found.shape) == (dtypes.FLOAT, (2, 3))


FLOATING = [1, 10, 11, 16]


def kolmogorov_smirnov(sample: np.ndarray, cdf: Any) -> float:
    """The greatest distance between the sample's distribution and `cdf`, times sqrt(n)."""
    x = np.sort(sample.astype(np.float64))
    n = len(x)
    expected = np.array([cdf(value) for value in x.tolist()])
    above = np.arange(1, n + 1) / n - expected
    below = expected - np.arange(n) / n
    return float(max(above.max(), below.max()) * math.sqrt(n))


ONCE_IN_A_MILLION = math.sqrt(-math.log(0.5e-6) / 2)
"""What the distance exceeds with probability 1e-6 (the tail of Kolmogorov's distribution)."""


def chi_square_bound(freedom: int) -> float:
    """What chi-square exceeds with probability 1e-6, by Wilson and Hilferty."""
    part = 2 / (9 * freedom)
    return freedom * (1 - part + 4.7534 * math.sqrt(part)) ** 3


@pytest.mark.parametrize("seed", [0.0, 1.0, 7.5, -3.0])
@pytest.mark.parametrize("code", [1, 11])
def test_continuous_draws_follow_their_distributions(code: int, seed: float) -> None:
    options = {"shape": (COUNT // 2,), "dtype": code, "seed": seed}
    (x,) = apply("RandomNormal", mean=-1.0, scale=3.0, **options)
    normal = kolmogorov_smirnov(x, lambda v: 0.5 * (1 + math.erf((v + 1) / 3 / math.sqrt(2))))
    assert normal < ONCE_IN_A_MILLION
    (x,) = apply("RandomUniform", low=-2.0, high=6.0, **options)
    assert kolmogorov_smirnov(x, lambda v: (v + 2) / 8) < ONCE_IN_A_MILLION
    assert kolmogorov_smirnov(x, lambda v: (v + 2.5) / 8) > ONCE_IN_A_MILLION
    wide = x.astype(np.float64) - x.mean()
    # neighbours are independent: five standard errors of the correlation
    assert abs((wide[1:] * wide[:-1]).mean() / wide.var()) < 5 / math.sqrt(len(x))


@pytest.mark.parametrize("code", FLOATING)
def test_uniform_stays_below_high_in_every_type(code: int) -> None:
    for low, high in ((0.0, 1.0), (-3e4, 3e4), (1.0, 1.25)):
        (x,) = apply("RandomUniform", shape=(COUNT,), dtype=code, seed=5.0, low=low, high=high)
        assert low <= x.astype(np.float64).min()
        assert x.astype(np.float64).max() < high
    (x,) = apply("RandomUniform", shape=(COUNT,), dtype=code, seed=5.0)
    counts, _ = np.histogram(x.astype(np.float64), 8, (0, 1))
    assert ((counts - COUNT / 8) ** 2 / (COUNT / 8)).sum() < chi_square_bound(7)


def test_uniform_over_the_whole_range_of_float() -> None:
    (x,) = apply("RandomUniform", shape=(COUNT,), seed=5.0, low=-3e38, high=3e38)
    assert np.isfinite(x).all()
    assert (x < 0).mean() == pytest.approx(0.5, abs=5 * 0.5 / COUNT**0.5)


@pytest.mark.parametrize("code", [1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 16])
def test_bernoulli_counts(code: int) -> None:
    share = np.array([0.01, 0.2, 0.5, 0.8, 0.99])
    p = np.repeat(share, COUNT // 5).astype(np.float32)
    (y,) = apply("Bernoulli", p, seed=11.0, dtype=code)
    assert y.dtype == dtypes.from_code(code).numpy
    ones = y.astype(np.float64).reshape(5, -1).sum(axis=1)
    expected, n = share * (COUNT // 5), COUNT // 5
    assert ((ones - expected) ** 2 / (n * share * (1 - share))).sum() < chi_square_bound(5)


def test_bernoulli_of_what_is_no_probability() -> None:
    p = np.array([np.nan, -1, 2, np.inf, -np.inf, 0, 1], np.float32)
    assert apply("Bernoulli", p)[0].tolist() == [0, 0, 1, 1, 0, 0, 1]


@pytest.mark.parametrize("code", [6, 7])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ml_dtypes.bfloat16])
def test_multinomial_counts(dtype: type, code: int) -> None:
    logits = np.array([[0, 1, 2, -1, 0.5], [700, 699, -700, 698, 700]]).astype(dtype)
    (y,) = apply("Multinomial", logits, sample_size=COUNT, seed=2.0, dtype=code)
    for row, drawn in zip(logits.astype(np.float64), y):
        share = np.exp(row - row.max())
        expected = share / share.sum() * COUNT
        counts = np.bincount(drawn, minlength=5)
        seen = expected > 0.1
        assert counts[~seen].sum() == 0
        statistic = ((counts - expected)[seen] ** 2 / expected[seen]).sum()
        assert statistic < chi_square_bound(int(seen.sum()) - 1)


@pytest.mark.parametrize("code", [1, 10, 11, 16, 17, 18, 19, 20])
@pytest.mark.parametrize("ratio", [0.1, 0.5, 0.75])
def test_dropout_in_training(ratio: float, code: int) -> None:
    dtype = dtypes.from_code(code).numpy
    x = np.full(COUNT, 1.5).astype(dtype)
    arguments = [x, np.array(ratio, dtype), np.array(True)]
    y, kept = apply("Dropout", *arguments, n_outputs=2, seed=4)
    assert y.dtype == dtype
    assert kept.dtype == np.bool_
    p = float(arguments[1].astype(np.float64))
    assert abs(kept.mean() - (1 - p)) < 5 * math.sqrt(p * (1 - p) / COUNT)
    values = y.astype(np.float64)
    assert (values[~kept] == 0).all()
    expected = np.float32(1.5 / (1 - p)).astype(dtype).astype(np.float64)
    np.testing.assert_allclose(values[kept], expected, rtol=2.0**-3)
    again = apply("Dropout", *arguments, n_outputs=2, seed=4)
    np.testing.assert_array_equal(kept, again[1])
    assert (kept != apply("Dropout", *arguments, n_outputs=2, seed=5)[1]).any()
    assert (kept != apply("Dropout", *arguments, n_outputs=2)[1]).any()


@pytest.mark.parametrize("seed", [0.0, 3.0, 4096.0])
@pytest.mark.parametrize("code", [1, 11])
@pytest.mark.parametrize(("name", "options"), [
    ("RandomNormal", {"mean": 2.0, "scale": 0.5}),
    ("RandomUniform", {"low": -1.0, "high": 3.0}),
    ("RandomNormalLike", {}),
    ("RandomUniformLike", {"high": 9.0}),
    ("Bernoulli", {}),
])  # fmt: skip
def test_a_whole_seed_gives_the_numbers_of_the_standards_own_evaluator(
    name: str, options: dict, code: int, seed: float
) -> None:
    p = np.linspace(0, 1, 50, dtype=np.float32).reshape(5, 10)
    inputs = [] if name in {"RandomNormal", "RandomUniform"} else [p]
    options = options | {"dtype": code, "seed": seed}
    options |= {} if inputs else {"shape": [5, 10]}
    node = helper.make_node(name, ["x"] * len(inputs), ["y"], **options)
    graph = helper.make_graph(
        [node],
        "drawing",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [5, 10])] * len(inputs),
        [helper.make_tensor_value_info("y", code, [5, 10])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10)
    (expected,) = ReferenceEvaluator(model).run(None, {"x": p} if inputs else {})
    options = {key: tuple(v) if isinstance(v, list) else v for key, v in options.items()}
    (found,) = apply(name, *inputs, version=22, **options)
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


def test_nodes_without_a_seed_differ_and_so_do_runs() -> None:
    model = onnx.parser.parse_model("""
        <ir_version: 10, opset_import: ["" : 22]>
        drawing () => (float[64] a, float[64] b, float[64] c, float[64] d) {
            a = RandomNormal <shape = [64]> ()
            b = RandomNormal <shape = [64]> ()
            c = RandomNormal <shape = [64], seed = 1.0> ()
            d = RandomNormal <shape = [64], seed = 1.0> ()
        }
    """)
    session = sx.Session(model.SerializeToString())
    a, b, c, d = session.run(None, {})
    assert (a != b).any()
    np.testing.assert_array_equal(c, d)
    again = session.run(None, {})
    assert (a != again[0]).any()
    np.testing.assert_array_equal(c, again[2])


def test_any_float_is_a_seed() -> None:
    drawn = [
        apply("RandomUniform", shape=(4,), seed=seed)[0].tobytes()
        for seed in (0.0, 0.5, 0.25, -1.0, 2.0**33, 3e38, math.inf, -math.inf, math.nan)
    ]
    assert len(set(drawn)) == len(drawn)
