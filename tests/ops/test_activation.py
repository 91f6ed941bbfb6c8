"""Activation functions and the softmax family, against onnxruntime and closed forms."""

from __future__ import annotations

import math

import ml_dtypes
import numpy as np
import pytest

from sardonyx import dtypes
from sardonyx.dims import symbol
from sardonyx.errors import ExecutionError, InferenceError, ModelError
from sardonyx.ops.fact import Fact
from single_operator import apply, by_onnxruntime, inferred

RNG = np.random.default_rng(3)
X = np.concatenate([RNG.normal(0, 4, 60), [0.0, -0.0, 1.0, -1.0, 90.0, -90.0]])
CASES = [
    ("Relu", {}),
    ("LeakyRelu", {}),
    ("LeakyRelu", {"alpha": 0.25}),
    ("Elu", {"alpha": 1.5}),
    ("Selu", {}),
    ("Selu", {"alpha": 2.0, "gamma": 0.5}),
    ("Celu", {"alpha": 2.0}),
    ("Sigmoid", {}),
    ("HardSigmoid", {}),
    ("HardSigmoid", {"alpha": 0.5, "beta": 0.25}),
    ("HardSwish", {}),
    ("Softplus", {}),
    ("Softsign", {}),
    ("Gelu", {}),
    ("Gelu", {"approximate": "tanh"}),
    ("Mish", {}),
    ("ThresholdedRelu", {"alpha": 0.75}),
    ("Shrink", {"bias": 0.5, "lambd": 1.5}),
]
NAMES = [f"{name}{attributes or ''}" for name, attributes in CASES]


def assert_close(actual: np.ndarray, expected: np.ndarray, ulps: float, floor: float = 1.0) -> None:
    assert actual.dtype == expected.dtype
    assert actual.shape == expected.shape
    eps = float(ml_dtypes.finfo(actual.dtype).eps)
    np.testing.assert_allclose(
        actual.astype(np.float64), expected.astype(np.float64), rtol=ulps * eps, atol=eps * floor
    )


@pytest.mark.parametrize(("name", "attributes"), CASES, ids=NAMES)
def test_equals_onnxruntime(name: str, attributes: dict) -> None:
    x = X.astype(np.float32)
    cancellation = 8  # of onnxruntime's 1 + tanh and 1 + erf, times |x|
    expected = by_onnxruntime(name, x, **attributes)[0]
    assert_close(apply(name, x, **attributes)[0], expected, 16, cancellation)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize(("name", "attributes"), CASES, ids=NAMES)
def test_low_precision_rounds_the_double_result(name: str, attributes: dict, dtype: type) -> None:
    if name == "Shrink":
        dtype = np.float16  # it has no BFLOAT16
    x = X.astype(dtype)
    expected = apply(name, x.astype(np.float64), version=28, **attributes)[0]
    assert_close(apply(name, x, version=28, **attributes)[0], expected.astype(dtype), 1, 1e-3)


def test_swish_is_defined_by_sigmoid() -> None:
    x = X.astype(np.float32)
    expected = x * apply("Sigmoid", np.float32(1.5) * x)[0]
    assert_close(apply("Swish", x, alpha=1.5)[0], expected, 4)


def test_gelu_keeps_its_digits_in_the_tail() -> None:
    x = np.array([-6.0, -4.0, -2.0])
    expected = [0.5 * v * math.erfc(-v / math.sqrt(2)) for v in x]
    np.testing.assert_allclose(apply("Gelu", x)[0], expected, rtol=4e-15)
    with pytest.raises(ModelError, match="approximate"):
        apply("Gelu", x, approximate="sigmoid")


def test_extremes_give_limits() -> None:
    x = np.array([np.inf, -np.inf, np.nan, 1e30, -1e30], np.float32)
    assert apply("Sigmoid", x)[0].tolist()[:2] == [1, 0]
    assert apply("Softplus", x)[0].tolist()[:2] == [np.inf, 0]
    assert np.isnan(apply("Relu", x)[0][2])
    for name, attributes in CASES:
        assert np.isnan(apply(name, x, **attributes)[0][2]) or name in {"ThresholdedRelu", "Shrink"}


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32, np.int64])
def test_relu_of_integers(dtype: type) -> None:
    x = np.array([np.iinfo(dtype).min, -1, 0, 5], dtype)
    y = apply("Relu", x)[0]
    assert y.dtype == dtype
    assert y.tolist() == [0, 0, 0, 5]


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.int64, np.uint64])
def test_shrink_of_integers_equals_onnxruntime(dtype: type) -> None:
    x = np.arange(0 if np.iinfo(dtype).min == 0 else -5, 6).astype(dtype)
    expected = by_onnxruntime("Shrink", x, lambd=1.5, bias=1.0)[0]
    np.testing.assert_array_equal(apply("Shrink", x, lambd=1.5, bias=1.0)[0], expected)
    most = np.array([np.iinfo(dtype).max], dtype)
    assert apply("Shrink", most, bias=-1e30)[0].tolist() == most.tolist()
    assert apply("Shrink", most)[0].tolist() == most.tolist()


def test_prelu_broadcasts_the_slope_to_the_data() -> None:
    x = RNG.normal(size=(2, 3, 4)).astype(np.float32)
    for shape in ((1,), (4,), (3, 1), (2, 3, 4), ()):
        slope = RNG.normal(size=shape).astype(np.float32)
        assert_close(apply("PRelu", x, slope)[0], by_onnxruntime("PRelu", x, slope)[0], 1)
    channels = np.array([0.5, 0.25, 2], np.float32)
    old = apply("PRelu", x, channels, version=6)[0]
    np.testing.assert_array_equal(old, np.where(x < 0, channels[:, None] * x, x))
    with pytest.raises(ExecutionError, match="does not broadcast"):
        apply("PRelu", x[0, 0], np.ones((2, 4), np.float32))
    integers = apply("PRelu", np.array([-3, 3], np.int32), np.array(2, np.int32))[0]
    assert integers.tolist() == [-6, 3]


SOFTMAX = [("Softmax", 8), ("LogSoftmax", 32), ("Hardmax", 0)]


@pytest.mark.parametrize("version", [9, 11, 13])
@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize(("name", "ulps"), SOFTMAX)
def test_softmax_family_equals_onnxruntime(name: str, ulps: float, axis: int, version: int) -> None:
    x = RNG.normal(0, 3, (3, 4, 5)).astype(np.float32)
    expected = by_onnxruntime(name, x, version=version, axis=axis)[0]
    assert_close(apply(name, x, version=version, axis=axis)[0], expected, ulps)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64])
@pytest.mark.parametrize(("name", "ulps"), SOFTMAX)
def test_softmax_family_on_each_type(name: str, ulps: float, dtype: type) -> None:
    x = np.array([[1000, 999, 1000], [-8, 0, 8]]).astype(dtype)
    y = apply(name, x)[0]
    wide = apply(name, x.astype(np.float64))[0]
    assert_close(y, wide.astype(dtype), 1)
    if name == "Hardmax":
        assert y.astype(int).tolist() == [[1, 0, 0], [0, 0, 1]]


def test_softmax_of_empty_and_scalar_and_wrong_axis() -> None:
    for name, _ in SOFTMAX:
        assert apply(name, np.zeros((2, 0), np.float32))[0].shape == (2, 0)
        assert apply(name, np.array(3.0, np.float32))[0].shape == ()
        with pytest.raises(InferenceError, match="axis=2"):
            apply(name, np.zeros((2, 3)), axis=2)
        with pytest.raises(InferenceError, match="axis=-3"):
            inferred(name, Fact.tensor(dtypes.FLOAT, (2, 3)), axis=-3)


def test_inference_keeps_type_and_shape() -> None:
    fact = Fact.tensor(dtypes.FLOAT16, (symbol("N"), 3, None))
    for name, attributes in [*CASES, ("Softmax", {}), ("Hardmax", {}), ("Swish", {})]:
        (found,) = inferred(name, fact, **attributes)
        assert (found.dtype, found.shape) == (fact.dtype, fact.shape)
    (found,) = inferred("PRelu", fact, Fact.tensor(dtypes.FLOAT16, (3, 1)))
    assert found.shape == fact.shape
