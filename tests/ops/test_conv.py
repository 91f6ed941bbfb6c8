from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from differential import close, compare, normal, rng
from sardonyx.dims import symbol
from sardonyx.dtypes import FLOAT
from sardonyx.errors import LimitError, ModelError
from sardonyx.ops.fact import Fact
from single_operator import apply, inferred

CONVOLUTIONS = [
    ((2, 3, 9, 8), (4, 3, 3, 3), {}),
    ((1, 4, 9, 8), (6, 2, 3, 2), {"group": 2, "pads": (1, 0, 2, 1)}),
    ((2, 4, 9, 8), (4, 1, 3, 3), {"group": 4, "pads": (1, 1, 1, 1), "strides": (2, 1)}),
    ((2, 4, 9, 8), (8, 1, 3, 3), {"group": 4, "dilations": (2, 2)}),
    ((1, 5, 7, 7), (3, 5, 1, 1), {"strides": (2, 3)}),
    ((1, 5, 7, 7), (3, 5, 1, 1), {"pads": (1, 1, 0, 0)}),
    ((1, 2, 10), (3, 2, 4), {"auto_pad": "SAME_UPPER", "strides": (3,)}),
    ((1, 2, 10), (3, 2, 4), {"auto_pad": "SAME_LOWER", "strides": (2,)}),
    ((1, 2, 10), (3, 2, 4), {"auto_pad": "VALID", "dilations": (2,)}),
    ((1, 2, 5, 6, 4), (2, 2, 2, 3, 2), {"pads": (0, 1, 1, 1, 0, 0), "strides": (1, 2, 1)}),
    ((1, 2, 3, 3), (2, 2, 3, 3), {"pads": (5, 5, 5, 5), "strides": (4, 4)}),
]


@pytest.mark.parametrize(("x", "w", "attributes"), CONVOLUTIONS)
@pytest.mark.parametrize("version", [1, 11])
def test_conv(x, w, attributes, version):
    terms = int(np.prod(w[1:]))
    bias = normal(w[0])
    compare("Conv", normal(*x), normal(*w), bias, terms=terms, version=version, **attributes)


@pytest.mark.torch
@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64])
def test_conv_in_other_types_is_the_wide_one_rounded(dtype):
    import torch

    x, w, b = (
        normal(2, 3, 9, 8, dtype=dtype),
        normal(4, 3, 3, 3, dtype=dtype),
        normal(4, dtype=dtype),
    )
    wide = torch.nn.functional.conv2d(
        *(torch.from_numpy(array.astype(np.float64)) for array in (x, w, b)), padding=1
    ).numpy()
    close(apply("Conv", x, w, b, version=22, pads=(1, 1, 1, 1)), [wide.astype(dtype)], terms=27)


@pytest.mark.torch
def test_conv_in_blocks_of_rows_equals_torch():
    import torch

    x, w = normal(1, 64, 150, 150), normal(8, 64, 3, 3)
    expected = torch.nn.functional.conv2d(torch.from_numpy(x), torch.from_numpy(w), padding=1)
    close(apply("Conv", x, w, version=22, pads=(1, 1, 1, 1)), [expected.numpy()], terms=576)


TRANSPOSED = [
    ((2, 4, 5, 6), (4, 3, 3, 3), {}),
    ((1, 4, 5, 6), (4, 2, 3, 2), {"group": 2, "strides": (2, 3), "pads": (1, 0, 0, 1)}),
    (
        (1, 4, 5, 6),
        (4, 2, 3, 3),
        {"strides": (2, 2), "output_padding": (1, 1), "dilations": (2, 1)},
    ),
    ((1, 2, 7), (2, 3, 4), {"auto_pad": "SAME_UPPER", "strides": (3,)}),
    ((1, 2, 7), (2, 3, 4), {"auto_pad": "SAME_LOWER", "strides": (3,)}),
    ((1, 2, 7), (2, 3, 4), {"auto_pad": "VALID", "strides": (2,)}),
    ((1, 2, 3, 3), (2, 2, 3, 3), {"strides": (3, 2), "output_shape": (10, 8)}),
    ((1, 2, 3, 3), (2, 2, 3, 3), {"strides": (3, 2), "output_shape": (8, 6)}),
]


@pytest.mark.parametrize(("x", "w", "attributes"), TRANSPOSED)
def test_conv_transpose(x, w, attributes):
    terms = int(np.prod(w[2:])) * w[0]
    bias = normal(w[1] * attributes.get("group", 1))
    compare("ConvTranspose", normal(*x), normal(*w), bias, terms=terms, version=11, **attributes)


@pytest.mark.parametrize("types", [(np.uint8, np.uint8), (np.uint8, np.int8)])
def test_conv_integer(types):
    x = rng(1).integers(0, 256, (1, 4, 7, 7)).astype(types[0])
    w = rng(2).integers(0, 256, (6, 2, 3, 3)).astype(types[1])
    compare("ConvInteger", x, w, types[0](127), types[1](3), version=10, group=2, pads=(1, 1, 1, 1))


def test_symbolic_sizes_stay_exact():
    n, h = symbol("N"), symbol("H", 1)
    x, w = Fact.tensor(FLOAT, (n, 3, h, 224)), Fact.tensor(FLOAT, (64, 3, 7, 7))
    (fact,) = inferred("Conv", x, w, version=11, pads=(3, 3, 3, 3), strides=(2, 2))
    assert fact.shape == (n, 64, (h - 1) // 2 + 1, 112)


@pytest.mark.parametrize(
    "attributes",
    [
        {"strides": (0, 1)},
        {"strides": (1,)},
        {"dilations": (0, 1)},
        {"pads": (-1, 0, 0, 0)},
        {"pads": (1 << 62, 0, 0, 0)},
        {"kernel_shape": (2, 3)},
        {"group": 0},
        {"group": 2},
        {"auto_pad": "SAME"},
        {"dilations": (9, 9)},
    ],
)
@pytest.mark.parametrize("name", ["Conv", "ConvTranspose"])
def test_impossible_attributes_are_refused(name, attributes):
    if name == "ConvTranspose" and attributes in (
        {"dilations": (9, 9)},
        {"pads": (1 << 62, 0, 0, 0)},
    ):
        pytest.skip("it fits")
    with pytest.raises(ModelError):
        apply(name, normal(1, 3, 5, 5), normal(3, 3, 3, 3), version=11, **attributes)


def test_a_bomb_of_padding_meets_the_limit():
    with pytest.raises(LimitError):
        apply("Conv", normal(1, 1, 2, 2), normal(1, 1, 1, 1), version=11, pads=(1 << 20,) * 4)
    with pytest.raises(LimitError):
        apply("ConvTranspose", normal(1, 1, 2, 2), normal(1, 1, 1, 1), version=11,
              strides=(1 << 20, 1 << 20))  # fmt: skip


def test_empty_weights_with_a_huge_kernel_cost_nothing():
    x, w = np.zeros((1, 0, 5, 5), np.float32), np.zeros((3, 0, 2, 2), np.float32)
    (result,) = apply("Conv", x, w, version=11)
    assert result.shape == (1, 3, 4, 4)
    assert not result.any()
