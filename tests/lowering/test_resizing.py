"""Resize by weighted sums of many neighbours, compiled, against the reference."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from tests.lowering.compiled import Known, check, random

COORDINATES = [
    "half_pixel",
    "half_pixel_symmetric",
    "pytorch_half_pixel",
    "align_corners",
    "asymmetric",
    "tf_half_pixel_for_nn",
]
TAPS = 64


def resize(known: Any, make: Any, **attributes: Any) -> None:
    check("Resize", lambda n: [*make(n), known], opset=19, length=TAPS, **attributes)


@pytest.mark.parametrize("coordinates", COORDINATES)
def test_cubic(coordinates: str) -> None:
    resize(
        Known((1, 1, 1.75, 0.625), np.float32),
        lambda n: [random(1, 2, n, 7), None],
        mode="cubic",
        coordinate_transformation_mode=coordinates,
        exclude_outside=int(coordinates == "half_pixel"),
        cubic_coeff_a=-0.5,
    )


@pytest.mark.parametrize("mode", ["linear", "cubic"])
@pytest.mark.parametrize("scale", [0.25, 0.625, 1.0, 2.5])
def test_antialias(mode: str, scale: float) -> None:
    resize(
        Known((1, 1, scale, 0.5), np.float32),
        lambda n: [random(1, 2, n, 12), None],
        mode=mode,
        antialias=1,
        exclude_outside=int(scale == 0.625),
    )


def test_to_sizes() -> None:
    resize(
        Known([7, 4]),
        lambda n: [random(1, 2, n, 5), None, None],
        mode="cubic",
        axes=[2, 3],
    )


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64, np.uint8, np.int32])
def test_types(dtype: Any) -> None:
    resize(
        Known((1, 1.5), np.float32),
        lambda n: [random(n, 6, dtype=dtype, low=0, high=100), None],
        mode="cubic",
        off=1,
    )


@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize("sizes", [[6, 4], [1, 9]])
def test_regions(mode: str, sizes: list[int]) -> None:
    roi = Known((0.2, -0.3, 0.9, 1.4), np.float32)
    check(
        "Resize",
        lambda n: [random(2, n, 7), roi, None, Known(sizes)],
        opset=19,
        length=TAPS,
        axes=[1, 2],
        mode=mode,
        coordinate_transformation_mode="tf_crop_and_resize",
        extrapolation_value=10.0,
    )
