"""Gradients of convolutions, pools and resizing against central differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from autodiff.differences import check_gradient, distinct, normal
from sardonyx.errors import UnsupportedError

Case = tuple[tuple[Any, ...], dict[str, Any]]


def case(*arguments: Any, **options: Any) -> Case:
    return arguments, options


SCALES = np.array([1, 1, 2, 1.5], np.float32)
PADDED = {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [1, 0, 1, 1]}
FIXED_KERNEL = {"dynamic": True, "constants": [1], "wanted": [0]}

CONVOLUTIONS = [
    case("Conv", normal(2, 3, 7), normal(4, 3, 3), normal(4)),
    case(
        "Conv",
        *(normal(2, 4, 7, 6), normal(6, 2, 3, 2), normal(6)),
        group=2,
        strides=[2, 3],
        pads=[1, 0, 2, 1],
    ),
    case("Conv", normal(2, 4, 9, 6), normal(4, 1, 3, 2), group=4, strides=[2, 1], dilations=[2, 2]),
    case("Conv", normal(1, 2, 7, 6), normal(3, 2, 3, 3), strides=[2, 2], auto_pad="SAME_UPPER"),
    case("Conv", normal(1, 2, 8), normal(3, 2, 1), strides=[3]),
    case("Conv", normal(1, 2, 4, 4, 3), normal(2, 2, 2, 3, 2), pads=[0, 1, 0, 1, 0, 1]),
    case("Conv", normal(1, 2, 7, 6), normal(3, 2, 2, 3), auto_pad="SAME_LOWER", **FIXED_KERNEL),
    case(
        "Conv",
        *(normal(1, 2, 7, 6), normal(3, 2, 3, 3)),
        strides=[2, 2],
        pads=[1, 1, 1, 1],
        **FIXED_KERNEL,
    ),
    case("ConvTranspose", normal(2, 3, 5), normal(3, 4, 3), normal(4)),
    case(
        "ConvTranspose",
        *(normal(2, 4, 4, 3), normal(4, 3, 3, 2), normal(6)),
        group=2,
        strides=[2, 3],
        pads=[1, 0, 1, 1],
        output_padding=[1, 2],
    ),
    case(
        "ConvTranspose",
        *(normal(1, 2, 4, 3), normal(2, 3, 3, 3)),
        strides=[2, 2],
        output_shape=[8, 7],
    ),
    case(
        "ConvTranspose",
        *(normal(1, 2, 4, 3), normal(2, 3, 3, 3)),
        strides=[2, 2],
        auto_pad="SAME_UPPER",
    ),
    case(
        "ConvTranspose",
        *(normal(1, 2, 4, 3), normal(2, 3, 3, 3)),
        strides=[2, 2],
        dilations=[2, 1],
        pads=[1, 1, 0, 0],
        **FIXED_KERNEL,
    ),
]

POOLS = [
    case(name, *arguments, **options, dynamic=dynamic)
    for dynamic in (False, True)
    for name, arguments, options in (
        ("MaxPool", [distinct(2, 2, 7, 6)], PADDED),
        ("MaxPool", [distinct(1, 2, 7)], {"kernel_shape": [3], "ceil_mode": 1}),
        (
            "MaxPool",
            [distinct(1, 2, 6, 6)],
            {"kernel_shape": [2, 2], "strides": [2, 2], "version": 13},
        ),
        ("AveragePool", [normal(2, 2, 7, 6)], PADDED),
        ("AveragePool", [normal(2, 2, 7, 6)], {**PADDED, "count_include_pad": 1}),
        ("LpPool", [normal(1, 2, 8)], {"kernel_shape": [3], "strides": [2], "p": 3}),
        ("GlobalAveragePool", [normal(2, 2, 3, 4)], {}),
        ("GlobalMaxPool", [distinct(2, 2, 3, 4)], {}),
        ("GlobalLpPool", [normal(1, 2, 8)], {}),
        (
            "Resize",
            [normal(1, 2, 3, 4), None, np.array([1, 1, 2, 1.5], np.float32)],
            {"mode": "nearest"},
        ),
    )
]
POOLS += [
    case("MaxPool", distinct(2, 2, 7, 6) - 5, **PADDED, version=9),
    case("MaxPool", distinct(2, 2, 7, 6) - 5, **PADDED, version=13, dynamic=True),
    case("MaxPool", distinct(1, 2, 8), kernel_shape=[3], strides=[2], ceil_mode=1, version=13),
    case("MaxPool", distinct(1, 2, 8), kernel_shape=[3], auto_pad="SAME_UPPER", version=13),
    case("Upsample", normal(1, 2, 3, 4), SCALES, mode="nearest", version=9, constants=[1]),
    case("Upsample", normal(1, 2, 3, 4), SCALES, mode="linear", version=9, constants=[1]),
    case("MaxPool", distinct(1, 2, 6, 6), kernel_shape=[3, 3], storage_order=1, n_outputs=2),
    case("AveragePool", normal(1, 2, 8), kernel_shape=[3], strides=[2], ceil_mode=1),
    case(
        "AveragePool",
        normal(1, 2, 8),
        kernel_shape=[3],
        strides=[2],
        ceil_mode=1,
        pads=[1, 1],
        count_include_pad=1,
    ),
    case(
        "AveragePool",
        normal(1, 2, 8),
        kernel_shape=[3],
        strides=[2],
        auto_pad="SAME_UPPER",
        dilations=[2],
    ),
    case("GlobalLpPool", normal(1, 2, 8), p=1),
]

POOLS += [
    case("Resize", *arguments, mode=mode, dynamic=dynamic, **options)
    for dynamic in (False, True)
    for mode in ("linear", "cubic")
    for arguments, options in (
        ([normal(1, 2, 3, 4), None, SCALES], {}),
        ([normal(1, 2, 3, 4), None, None, np.array([1, 2, 5, 3])], {}),
        (
            [normal(1, 2, 6, 4), None, None, np.array([3, 3])],
            {
                "axes": [2, 3],
                "antialias": 1,
                "coordinate_transformation_mode": "align_corners",
            },
        ),
    )
]
POOLS += [
    case(
        "Resize",
        *(normal(1, 2, 3, 4), None, SCALES),
        mode="linear",
        coordinate_transformation_mode="asymmetric",
        version=13,
        constants=[2],
    )
]


@pytest.mark.parametrize("arguments,options", [*CONVOLUTIONS, *POOLS])
def test_windows(arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
    check_gradient(*arguments, **options)


def test_what_old_operator_sets_cannot_add() -> None:
    with pytest.raises(UnsupportedError, match=r"ScatterElements-13 has no attribute 'reduction'"):
        check_gradient("GatherElements", normal(3, 2), np.array([[0, 0], [0, 1]]), version=15)
