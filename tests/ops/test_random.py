"""Random operators: moments of large samples, reproducibility, types and shapes."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

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
    assert 2.98 < wide.max() <= 3
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
