"""Pools and resizing."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from tests.lowering.compiled import Known, check, random

FLOATS = [np.float32, np.float16, ml_dtypes.bfloat16, np.float64]

WINDOWS: list[dict[str, Any]] = [
    {"kernel_shape": [2, 2], "strides": [2, 2]},
    {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]},
    {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [2, 2]},
    {"kernel_shape": [3, 2], "pads": [0, 1, 2, 0], "strides": [1, 3], "ceil_mode": 1},
    {"kernel_shape": [3, 3], "dilations": [2, 1], "pads": [2, 1, 2, 1]},
    {"kernel_shape": [2, 3], "auto_pad": "SAME_UPPER", "strides": [2, 1]},
    {"kernel_shape": [2, 4], "auto_pad": "SAME_LOWER"},
    {"kernel_shape": [3, 3], "auto_pad": "VALID"},
]
SIZES = (5, 9, 16, 3)


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("op_type", ["MaxPool", "AveragePool", "LpPool"])
def test_pools(op_type: str, window: dict[str, Any]) -> None:
    for make in (lambda n: [random(2, 3, n, n + 6)], lambda n: [random(n, 2, 9, 12)]):
        check(op_type, make, sizes=SIZES, length=16, **window)


@pytest.mark.parametrize("window", WINDOWS[:4])
def test_pools_that_count_padding(window: dict[str, Any]) -> None:
    check("AveragePool", lambda n: [random(1, 2, n, 9)], sizes=SIZES, count_include_pad=1, **window)


@pytest.mark.parametrize("storage_order", [0, 1])
@pytest.mark.parametrize("window", WINDOWS[:5])
def test_where_the_greatest_is(storage_order: int, window: dict[str, Any]) -> None:
    check(
        "MaxPool",
        lambda n: [random(2, 3, n + 1, 8).round()],
        n_outputs=2,
        sizes=SIZES,
        storage_order=storage_order,
        **window,
    )


@pytest.mark.parametrize("dtype", [*FLOATS, np.int8, np.uint8])
def test_types_of_pools(dtype: Any) -> None:
    window = WINDOWS[2]
    check("MaxPool", lambda n: [random(1, 2, n, 9, dtype=dtype)], sizes=SIZES, **window)
    if np.dtype(dtype).kind not in "iu":
        for op_type in ("AveragePool", "GlobalAveragePool", "GlobalMaxPool"):
            attributes = window if op_type == "AveragePool" else {}
            check(
                op_type,
                lambda n: [random(1, 2, n, 9, dtype=dtype)],
                sizes=SIZES,
                length=90,
                **attributes,
            )


@pytest.mark.parametrize("rank", [2, 3, 5])
def test_pools_of_other_ranks(rank: int) -> None:
    tail = (6, 7, 8)[: rank - 2]
    check("GlobalAveragePool", lambda n: [random(n, 3, *tail)], length=336)
    check("GlobalMaxPool", lambda n: [random(n, 3, *tail)])
    check("GlobalLpPool", lambda n: [random(n, 3, *tail)], length=336, p=3)
    if rank > 2:
        window = {"kernel_shape": [3] * (rank - 2), "pads": [1] * (2 * (rank - 2))}
        check("MaxPool", lambda n: [random(n, 2, *tail)], **window)
        check("LpPool", lambda n: [random(n, 2, *tail)], length=27, p=1, **window)


COORDINATES = [
    "half_pixel",
    "half_pixel_symmetric",
    "pytorch_half_pixel",
    "align_corners",
    "asymmetric",
    "tf_half_pixel_for_nn",
]


@pytest.mark.parametrize("coordinates", COORDINATES)
@pytest.mark.parametrize("scales", [(1, 1, 2, 2), (1, 1, 0.6, 2.3), (1, 1, 1, 3), (1, 2, 0.5, 1)])
def test_resizing_by_scales(coordinates: str, scales: Any) -> None:
    known = Known(scales, np.float32)
    for mode in ("nearest", "linear"):
        check(
            "Resize",
            lambda n: [random(1, 2, 8, 10 + 0 * n), None, known],
            opset=19,
            sizes=(5,),
            mode=mode,
            coordinate_transformation_mode=coordinates,
        )


@pytest.mark.parametrize("coordinates", COORDINATES)
@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_resizing_to_sizes(coordinates: str, mode: str) -> None:
    known = Known([7, 4])
    check(
        "Resize",
        lambda n: [random(1, 2, n, 5), None, None, known],
        opset=19,
        axes=[2, 3],
        mode=mode,
        coordinate_transformation_mode=coordinates,
    )


@pytest.mark.parametrize("rounding", ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])
@pytest.mark.parametrize("coordinates", ["half_pixel", "asymmetric", "align_corners"])
def test_which_is_nearest(rounding: str, coordinates: str) -> None:
    known = Known((1, 1, 2, 2), np.float32)
    check(
        "Resize",
        lambda n: [random(1, 2, n, 6), None, known],
        opset=19,
        mode="nearest",
        nearest_mode=rounding,
        coordinate_transformation_mode=coordinates,
    )


@pytest.mark.parametrize("dtype", [*FLOATS, np.int8, np.uint8, np.int32])
def test_types_of_resizing(dtype: Any) -> None:
    known = Known((1, 1.5), np.float32)
    for mode in ("nearest", "linear"):
        check(
            "Resize",
            lambda n: [random(n, 6, dtype=dtype, low=0, high=100), None, known],
            opset=19,
            off=1,  # integers are truncated, so that the last bit before decides
            mode=mode,
        )


@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_upsampling(mode: str) -> None:
    known = Known((1, 1, 2, 3), np.float32)
    check("Upsample", lambda n: [random(1, 2, n, 4), known], opset=9, mode=mode)


@pytest.mark.parametrize("mode", ["reflect", "edge", "wrap"])
@pytest.mark.parametrize("pads", [[1, 2, 3, 0], [0, 9, 0, 8], [0, 0, 0, 1]])
def test_padding_with_the_data(mode: str, pads: list[int]) -> None:
    check("Pad", lambda n: [random(n, 5), Known(pads)], mode=mode)


@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.bool_])
def test_padding_with_a_value(dtype: Any) -> None:
    value = np.array(3).astype(dtype)
    check("Pad", lambda n: [random(n, 5, dtype=dtype), Known([1, 0, 2, 4]), value])


@pytest.mark.parametrize("op_type", ["DepthToSpace", "SpaceToDepth"])
@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_blocks(op_type: str, mode: str) -> None:
    def make(n: int) -> list[Any]:
        return [random(n, 8, 3, 5) if op_type == "DepthToSpace" else random(n, 3, 4, 6)]

    check(op_type, make, opset=28, blocksize=2, mode=mode)


def test_blocks_of_symbolic_sizes() -> None:
    check("DepthToSpace", lambda n: [random(2, 12, n, n + 1)], opset=13, blocksize=2)
