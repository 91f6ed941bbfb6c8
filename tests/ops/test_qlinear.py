"""Quantized products and convolutions, against onnxruntime and exact arithmetic."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from differential import agrees_with_inference, compare, rng
from sardonyx.errors import ExecutionError, InferenceError
from single_operator import apply

F = np.float32


def data(dtype: Any, *shape: int) -> np.ndarray:
    return rng(*shape).integers(np.iinfo(dtype).min, np.iinfo(dtype).max + 1, shape).astype(dtype)


def weights(dtype: Any, *shape: int) -> np.ndarray:
    """Weights of 7 bits: onnxruntime adds pairs of UINT8 * INT8 products in 16 bits on AVX2."""
    return data(dtype, *shape) // 2


def scalar(value: float, dtype: Any = F) -> np.ndarray:
    return np.array(value, dtype)


@pytest.mark.parametrize(("a", "b"), [("u1", "u1"), ("u1", "i1"), ("i1", "i1")])
@pytest.mark.parametrize("shapes", [((5, 7), (7, 3)), ((2, 5, 7), (2, 7, 3)), ((2, 3, 4), (4, 6))])
def test_matmul_equals_onnxruntime(shapes: Any, a: str, b: str) -> None:
    y_zero = scalar(118, "u1") if a == "u1" else scalar(-5, "i1")
    A, B = data(a, *shapes[0]), weights(b, *shapes[1])
    zeros = scalar(113, a), scalar(14, b)
    scales = scalar(0.0066), scalar(0.00705), scalar(0.0107)
    compare(
        "QLinearMatMul",
        A,
        scales[0],
        zeros[0],
        B,
        scales[1],
        zeros[1],
        scales[2],
        y_zero,
        version=10,
    )


def test_matmul_per_column_equals_onnxruntime() -> None:
    A, B = data("u1", 5, 7), weights("i1", 7, 3)
    scale, zero = np.array([0.01, 0.02, 0.003], F), np.array([3, 0, -4], "i1")
    compare(
        "QLinearMatMul",
        A,
        scalar(0.01),
        scalar(9, "u1"),
        B,
        scale,
        zero,
        scalar(0.2),
        scalar(100, "u1"),
        version=10,
    )


def test_matmul_per_row_is_each_row_alone() -> None:
    A, B = data("u1", 4, 7), data("u1", 7, 3)
    scale, zero = np.array([0.01, 0.02, 0.003, 1], F), np.array([3, 0, 200, 128], "u1")
    rest = [B, scalar(0.02), scalar(7, "u1"), scalar(0.5), scalar(99, "u1")]
    (y,) = apply("QLinearMatMul", A, scale, zero, *rest)
    (stacked,) = apply("QLinearMatMul", A, scale[:, None], zero[:, None], *rest)
    for row in range(4):
        (alone,) = apply("QLinearMatMul", A[row : row + 1], scale[row], zero[row], *rest)
        np.testing.assert_array_equal(y[row], alone[0])
        (vector,) = apply("QLinearMatMul", A[row], scale[row], zero[row], *rest)
        np.testing.assert_array_equal(y[row], vector)
    np.testing.assert_array_equal(y, stacked)
    agrees_with_inference("QLinearMatMul", A, scale, zero, *rest, outputs=[y])


@pytest.mark.parametrize("dtype", [ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2fnuz])
@pytest.mark.parametrize("scale_type", [F, np.float16, ml_dtypes.bfloat16])
def test_matmul_of_float8_rounds_the_exact_product(dtype: Any, scale_type: Any) -> None:
    A, B = (rng(s).standard_normal((4, 4)).astype(dtype) for s in (1, 2))
    one, zero = scalar(0.5, scale_type), scalar(0, dtype)
    (y,) = apply("QLinearMatMul", A, one, zero, B, one, zero, one, zero)
    exact = A.astype(np.float64) @ B.astype(np.float64) * 0.5
    np.testing.assert_array_equal(y.astype(F), exact.astype(F).astype(dtype).astype(F))
    big = np.full((1, 1), ml_dtypes.finfo(dtype).max, dtype)
    (y,) = apply("QLinearMatMul", big, one, zero, big, one, zero, one, zero)
    assert float(y[0, 0]) == float(ml_dtypes.finfo(dtype).max)


def test_wide_products_do_not_saturate() -> None:
    A, B, one = np.full((1, 2), 255, "u1"), np.full((2, 1), -128, "i1"), scalar(1)
    zeros = scalar(0, "u1"), scalar(0, "i1")
    (y,) = apply("QLinearMatMul", A, one, zeros[0], B, one, zeros[1], scalar(-1020), zeros[0])
    assert y.tolist() == [[64]]


def test_rounding_is_half_to_even_before_the_zero_point() -> None:
    A, B, one = np.array([[5], [7]], "u1"), np.array([[1]], "u1"), scalar(1)
    zero = scalar(0, "u1")
    (y,) = apply("QLinearMatMul", A, one, zero, B, one, zero, scalar(2), scalar(1, "u1"))
    assert y.ravel().tolist() == [3, 5]


CONV = [
    ((1, 4, 9, 8), (6, 4, 3, 3), {"pads": (1, 1, 1, 1)}),
    ((2, 4, 9, 8), (6, 2, 3, 2), {"group": 2, "strides": (2, 1)}),
    ((1, 4, 12), (4, 1, 3), {"group": 4, "auto_pad": "SAME_UPPER"}),
]


@pytest.mark.parametrize(("x", "w"), [("u1", "u1"), ("u1", "i1"), ("i1", "i1")])
@pytest.mark.parametrize(("x_shape", "w_shape", "attributes"), CONV)
@pytest.mark.parametrize("with_bias", [True, False])
def test_conv_equals_onnxruntime(
    x_shape: Any, w_shape: Any, attributes: Any, x: str, w: str, with_bias: bool
) -> None:
    per_channel = x != "u1" or w == "i1"
    scale = rng(9).uniform(0.001, 0.02, w_shape[:1]).astype(F) if per_channel else scalar(0.01)
    zero = np.zeros(w_shape[:1], w) if per_channel else scalar(77, w)
    bias = rng(2).integers(-1000, 1000, w_shape[:1]).astype("i4") if with_bias else None
    inputs = [data(x, *x_shape), scalar(0.02), scalar(17, x), weights(w, *w_shape), scale, zero]
    compare("QLinearConv", *inputs, scalar(0.3), scalar(5, x), bias, version=10, **attributes)


def test_what_does_not_fit_is_said() -> None:
    A, one, zero = data("u1", 4, 4), scalar(1), scalar(0, "u1")
    good = [A, one, zero, A, one, zero, one, zero]
    for place, name in enumerate(("a", "a_scale", "a_zero", "b", "b_scale", "b_zero", "y_scale")):
        wrong = list(good)
        wrong[place] = np.ones((3, 3), good[place].dtype)
        with pytest.raises((ExecutionError, InferenceError), match="QLinearMatMul"):
            apply("QLinearMatMul", *wrong), name
    x, w = data("u1", 1, 4, 5), data("u1", 2, 4, 3)
    good = [x, one, zero, w, one, zero, one, zero]
    for place in range(8):
        wrong = list(good)
        wrong[place] = np.ones(3, good[place].dtype)
        with pytest.raises((ExecutionError, InferenceError), match="QLinearConv"):
            apply("QLinearConv", *wrong)


def test_zero_scale_saturates() -> None:
    A, one, zero = data("u1", 2, 2), scalar(1), scalar(0, "u1")
    (y,) = apply("QLinearMatMul", A, one, zero, A, one, zero, scalar(0), zero)
    assert set(y.ravel().tolist()) <= {0, 255}
