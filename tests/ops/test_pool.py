from __future__ import annotations

import time

import ml_dtypes
import numpy as np
import pytest

from differential import close, compare, normal, rng
from sardonyx.errors import LimitError, ModelError
from single_operator import apply

WINDOWS = [
    ((2, 3, 9, 8), {"kernel_shape": (3, 3)}),
    ((1, 2, 9, 8), {"kernel_shape": (3, 2), "strides": (2, 3), "pads": (1, 0, 1, 1)}),
    ((1, 2, 9, 8), {"kernel_shape": (3, 3), "strides": (2, 2), "ceil_mode": 1}),
    ((1, 2, 6), {"kernel_shape": (3,), "strides": (2,), "pads": (1, 1), "ceil_mode": 1}),
    ((1, 2, 3), {"kernel_shape": (2,), "strides": (2,), "pads": (1, 1), "ceil_mode": 1}),
    ((1, 2, 10), {"kernel_shape": (4,), "auto_pad": "SAME_UPPER", "strides": (3,)}),
    ((1, 2, 10), {"kernel_shape": (4,), "auto_pad": "SAME_LOWER", "strides": (2,)}),
    ((1, 2, 10), {"kernel_shape": (4,), "auto_pad": "VALID", "strides": (4,), "ceil_mode": 1}),
    ((1, 2, 5, 6, 4), {"kernel_shape": (2, 3, 2), "strides": (1, 2, 1)}),
    ((1, 1, 500), {"kernel_shape": (400,), "strides": (90,)}),
]


@pytest.mark.parametrize(("shape", "attributes"), WINDOWS)
@pytest.mark.parametrize("version", [10, 12, 22])
def test_max_pool(shape, attributes, version):
    compare("MaxPool", normal(*shape), version=version, **attributes)


@pytest.mark.parametrize(("shape", "attributes"), WINDOWS[:9])
@pytest.mark.parametrize("order", [0, 1])
def test_max_pool_with_indices(shape, attributes, order):
    x = rng(3).integers(-3, 3, shape).astype(np.float32)
    compare("MaxPool", x, n_outputs=2, version=12, storage_order=order, **attributes)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.float64])
def test_max_pool_types(dtype):
    x = rng(4).integers(-100, 100, (1, 2, 9, 8)).astype(dtype)
    compare("MaxPool", x, version=12, kernel_shape=(3, 3), dilations=(2, 2), pads=(1, 1, 1, 1))


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_max_pool_of_narrow_floats_is_exact(dtype):
    x = normal(1, 2, 9, 8, dtype=dtype)
    wide = apply("MaxPool", x.astype(np.float32), version=22, kernel_shape=(3, 3))
    (narrow,) = apply("MaxPool", x, version=22, kernel_shape=(3, 3))
    assert narrow.dtype == dtype
    np.testing.assert_array_equal(narrow.astype(np.float32), wide[0])


def test_nan_is_greater_than_any_number():
    x = np.array([[[1, np.nan, 2, 3]]], np.float32)
    values, indices = apply("MaxPool", x, version=22, n_outputs=2, kernel_shape=(2,))
    np.testing.assert_array_equal(values, [[[np.nan, np.nan, 3]]])
    np.testing.assert_array_equal(indices, [[[1, 1, 3]]])
    (alone,) = apply("MaxPool", x, version=22, kernel_shape=(2,))
    np.testing.assert_array_equal(alone, values)


@pytest.mark.parametrize(("shape", "attributes"), WINDOWS)
@pytest.mark.parametrize("include", [0, 1])
@pytest.mark.parametrize("version", [11, 22])
def test_average_pool(shape, attributes, include, version):
    terms = int(np.prod(attributes["kernel_shape"]))
    compare(
        "AveragePool",
        normal(*shape),
        terms=terms,
        version=version,
        count_include_pad=include,
        **attributes,
    )


@pytest.mark.parametrize(("shape", "attributes"), [WINDOWS[0], WINDOWS[1], WINDOWS[5], WINDOWS[8]])
@pytest.mark.parametrize("p", [1, 2, 3])
def test_lp_pool(shape, attributes, p):
    compare("LpPool", normal(*shape), terms=30, version=18, p=p, **attributes)


@pytest.mark.parametrize("name", ["GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"])
@pytest.mark.parametrize("shape", [(2, 3, 5, 7), (2, 3, 4), (1, 2, 3, 4, 5)])
def test_global_pools(name, shape):
    compare(name, normal(*shape), terms=60, version=2 if name == "GlobalLpPool" else 1)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64])
def test_average_of_other_types(dtype):
    x = normal(2, 3, 5, 7, dtype=dtype)
    expected = x.astype(np.float64).mean((2, 3), keepdims=True).astype(dtype)
    close(apply("GlobalAveragePool", x, version=22), [expected], terms=35)


@pytest.mark.parametrize(
    "attributes",
    [
        {"kernel_shape": (0, 1)},
        {"kernel_shape": (3,)},
        {"kernel_shape": ()},
        {"kernel_shape": (3, 3), "strides": (0, 1)},
        {"kernel_shape": (9, 9)},
        {"kernel_shape": (3, 3), "pads": (-1, 0, 0, 0)},
        {"kernel_shape": (1 << 60, 1)},
    ],
)
@pytest.mark.parametrize("name", ["MaxPool", "AveragePool", "LpPool"])
def test_impossible_windows_are_refused(name, attributes):
    with pytest.raises(ModelError):
        apply(name, normal(1, 1, 5, 5), version=22, **attributes)


def test_huge_kernels_and_pads_are_quick_or_meet_the_limit():
    start = time.perf_counter()
    huge = 1 << 40
    (result,) = apply("MaxPool", normal(1, 1, 5), version=22, kernel_shape=(huge,),
                      pads=(huge - 1, huge - 1), strides=(huge,))  # fmt: skip
    assert result.shape == (1, 1, 2)
    with pytest.raises(LimitError):
        apply("AveragePool", normal(1, 1, 5), version=22, kernel_shape=(huge,),
              pads=(huge - 1, huge - 1))  # fmt: skip
    assert time.perf_counter() - start < 5


@pytest.mark.parametrize("p", [1, 2, 3, 7])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ml_dtypes.bfloat16])
def test_global_lp_pool_is_the_norm_over_space(dtype, p):
    x = normal(2, 3, 5, 7, dtype=dtype)
    powers = np.abs(x.astype(np.float64)) ** p
    expected = (powers.sum((2, 3), keepdims=True) ** (1 / p)).astype(dtype)
    close(apply("GlobalLpPool", x, version=22, p=p), [expected], terms=35)
