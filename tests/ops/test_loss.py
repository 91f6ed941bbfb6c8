"""Losses and the determinant, against onnxruntime and NumPy."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from differential import close, compare, normal, rng
from sardonyx import dtypes
from sardonyx.dims import symbol
from sardonyx.errors import ExecutionError, InferenceError
from sardonyx.ops.fact import Fact
from single_operator import apply, inferred

SHAPES = [(4, 5), (2, 5, 7), (2, 5, 3, 4)]


def classes(*shape: int, dtype: Any = np.int64) -> np.ndarray:
    return rng(*shape).integers(0, 5, shape).astype(dtype)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("ignored", [None, 2, -7])
def test_losses_equal_onnxruntime(
    shape: tuple[int, ...], reduction: str, weighted: bool, ignored: int | None
) -> None:
    target = classes(shape[0], *shape[2:])
    if ignored is not None:
        target.flat[:2] = ignored
    weight = np.abs(normal(5)) if weighted else None
    options: dict[str, Any] = {"version": 13, "reduction": reduction, "terms": target.size}
    if ignored is not None:
        options["ignore_index"] = ignored
    scores = normal(*shape)
    compare("NegativeLogLikelihoodLoss", scores, target, weight, **options)
    compare("SoftmaxCrossEntropyLoss", scores, target, weight, n_outputs=2, **options)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64])
@pytest.mark.parametrize("index", [np.int32, np.int64])
def test_losses_on_each_type(index: type, dtype: type) -> None:
    scores, target = normal(3, 5, 4).astype(dtype), classes(3, 4, dtype=index)
    weight = np.abs(normal(5)).astype(dtype)
    for name in ("NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss"):
        (narrow,) = apply(name, scores, target, weight)
        (wide,) = apply(
            name, *(x.astype(np.float64) for x in (scores,)), target, weight.astype(np.float64)
        )
        close([narrow], [wide.astype(dtype)], 8)


def test_nothing_counted_has_no_mean() -> None:
    scores, target = normal(3, 5), np.full(3, 9)
    for name in ("NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss"):
        assert np.isnan(apply(name, scores, target, ignore_index=9)[0])
        assert apply(name, scores, target, ignore_index=9, reduction="sum")[0] == 0
        assert apply(name, scores[:0], target[:0], reduction="none")[0].shape == (0,)


def test_losses_say_what_does_not_fit() -> None:
    scores = normal(3, 5)
    for name in ("NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss"):
        for bad in ([0, 5, 1], [0, -1, 1], [0, 2**60, 1]):
            with pytest.raises(ExecutionError, match="classes"):
                apply(name, scores, np.array(bad))
        for inputs in (
            [scores, classes(4)],
            [scores, classes(3, 1)],
            [scores, classes(3), normal(4)],
            [scores, classes(3), normal(5, 1)],
            [scores[0], classes(5)],
        ):
            with pytest.raises(InferenceError, match=name):
                apply(name, *inputs)
        with pytest.raises(InferenceError, match="reduction"):
            apply(name, scores, classes(3), reduction="average")


def test_loss_inference_is_symbolic() -> None:
    N, C, D = symbol("N"), symbol("C"), symbol("D")
    scores, labels = Fact.tensor(dtypes.FLOAT, (N, C, None)), Fact.tensor(dtypes.INT64, (None, D))
    loss, log_prob = inferred(
        "SoftmaxCrossEntropyLoss", scores, labels, n_outputs=2, reduction="none"
    )
    assert loss.shape == (N, D)
    assert log_prob.shape == (N, C, None)
    assert inferred("NegativeLogLikelihoodLoss", scores, labels)[0].shape == ()
    unknown = Fact.tensor(dtypes.FLOAT)
    (found,) = inferred("NegativeLogLikelihoodLoss", unknown, labels, reduction="none")
    assert found.shape == (None, D)


@pytest.mark.parametrize("shape", [(1, 1), (4, 4), (2, 3, 5, 5)])
@pytest.mark.parametrize("version", [11, 22])
def test_det_equals_onnxruntime(version: int, shape: tuple[int, ...]) -> None:
    compare("Det", normal(*shape), version=version, runtime_version=11, terms=25)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64])
def test_det_on_each_type(dtype: type) -> None:
    x = rng(3).integers(-2, 3, (6, 3, 3)).astype(dtype)
    (y,) = apply("Det", x)
    assert y.dtype == dtype
    exact = np.rint(np.linalg.det(x.astype(np.float64)))
    np.testing.assert_allclose(y.astype(np.float64), exact, atol=1e-5)
    assert apply("Det", np.zeros((2, 0, 0), dtype))[0].tolist() == [1, 1]
    assert not np.isfinite(apply("Det", np.full((2, 2), np.inf, dtype))[0])
    with pytest.raises(InferenceError, match="square"):
        apply("Det", np.zeros((2, 3), dtype))
    N = symbol("N")
    assert inferred("Det", Fact.tensor(dtypes.FLOAT, (N, 3, None)))[0].shape == (N,)
