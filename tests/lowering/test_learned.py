"""Linear models, support vectors and features, compiled, against the reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.lowering.compiled import check, random

ML = "ai.onnx.ml"
NUMBERS = [np.float32, np.float64, np.int64, np.int32]


def listed(*shape: int) -> list[float]:
    found: list[float] = random(*shape).reshape(-1).tolist()
    return found


def learned(op_type: str, make: Any, **given: Any) -> None:
    check(op_type, make, opset=3, domain=ML, length=given.pop("length", 64), **given)


@pytest.mark.parametrize("dtype", NUMBERS)
def test_linear_regression(dtype: Any) -> None:
    learned(
        "LinearRegressor",
        lambda n: [random(n, 6, dtype=dtype)],
        coefficients=listed(3, 6),
        intercepts=listed(3),
        targets=3,
    )


def test_one_row() -> None:
    learned("LinearRegressor", lambda n: [random(n)], coefficients=listed(5), sizes=(5, 9, 1))


@pytest.mark.parametrize("transform", ["NONE", "LOGISTIC", "SOFTMAX"])
@pytest.mark.parametrize("classes", [2, 3])
def test_linear_classes(classes: int, transform: str) -> None:
    count = 1 if classes == 2 else 3
    learned(
        "LinearClassifier",
        lambda n: [random(n, 6)],
        n_outputs=2,
        coefficients=listed(count, 6),
        intercepts=listed(count),
        classlabels_ints=[4, -2, 9][:classes],
        post_transform=transform,
    )


@pytest.mark.parametrize("kernel", ["LINEAR", "POLY", "RBF", "SIGMOID"])
@pytest.mark.parametrize("one_class", [0, 1])
def test_support_vectors(kernel: str, one_class: int) -> None:
    learned(
        "SVMRegressor",
        lambda n: [random(n, 4)],
        kernel_type=kernel,
        kernel_params=[0.25, 0.5, 3.0],
        coefficients=listed(7),
        support_vectors=listed(7, 4),
        n_supports=7,
        rho=[0.125],
        one_class=one_class,
    )


@pytest.mark.parametrize("dtype", NUMBERS)
def test_scaler(dtype: Any) -> None:
    learned("Scaler", lambda n: [random(n, 5, dtype=dtype)], offset=listed(5), scale=listed(5))
    learned("Scaler", lambda n: [random(n, 3, n, dtype=dtype)], offset=[1.5], scale=[0.25])


def test_scaler_of_other_features() -> None:
    """As many values as one size has: other sizes are the reference's, which refuses them."""
    learned("Scaler", lambda n: [random(2, n)], offset=listed(5), scale=listed(5))


@pytest.mark.parametrize("norm", ["MAX", "L1", "L2"])
@pytest.mark.parametrize("dtype", NUMBERS)
def test_normalizer(norm: str, dtype: Any) -> None:
    def make(n: int) -> list[Any]:
        x = random(n, 6, dtype=dtype)
        x[1:2] = 0
        return [x]

    learned("Normalizer", make, norm=norm)


@pytest.mark.parametrize("dtype", NUMBERS)
@pytest.mark.parametrize("threshold", [-0.5, 0.0, 1e10, -1e10, float("inf")])
def test_binarizer(dtype: Any, threshold: float) -> None:
    learned("Binarizer", lambda n: [random(n, 4, dtype=dtype)], threshold=threshold)


@pytest.mark.parametrize("replaced", [0.0, float("nan")])
@pytest.mark.parametrize("values", [[7.5], [1.0, 2.0, 3.0, 4.0]])
def test_imputer(replaced: float, values: list[float]) -> None:
    def make(n: int) -> list[Any]:
        x = np.round(random(n, 4))
        x.reshape(-1)[::3] = np.nan
        return [x]

    learned("Imputer", make, imputed_value_floats=values, replaced_value_float=replaced)


@pytest.mark.parametrize("dtype", [np.int64, np.int32])
def test_imputer_of_integers(dtype: Any) -> None:
    learned(
        "Imputer",
        lambda n: [random(n, 4, dtype=dtype)],
        imputed_value_int64s=[9, 8, 7, 6],
        replaced_value_int64=1,
    )


@pytest.mark.parametrize("places", [[0, 2, 2], [-1], [5], [4]])
def test_extracted_features(places: list[int]) -> None:
    learned("ArrayFeatureExtractor", lambda n: [random(n, 5), np.array(places)], sizes=(5, 9, 1))
