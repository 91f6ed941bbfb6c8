"""Images at places that data says, compiled, against the reference."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from tests.build import from_text
from tests.lowering.compiled import Known, check, random

from sardonyx import Session

SOME = (5, 9, 1, 16)
TERMS = 256


def image(*shape: int, dtype: Any = np.float32) -> Any:
    return random(*shape, dtype=dtype)


def grid(*shape: int, dtype: Any = np.float32) -> Any:
    """Places inside and outside of the image, some of them no numbers."""
    found = random(*shape, low=-1.6, high=1.6).astype(dtype)
    if found.size:
        flat = found.reshape(-1)
        flat[::37], flat[5::41], flat[9::43] = np.nan, np.inf, -1
    return found


@pytest.mark.parametrize("aligned", [0, 1])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("mode", ["linear", "nearest", "cubic"])
def test_grid_sample(mode: str, padding: str, aligned: int) -> None:
    check(
        "GridSample",
        lambda n: [image(2, 3, n, 6), grid(2, n + 1, 4, 2)],
        opset=20,
        sizes=SOME,
        length=TERMS,
        mode=mode,
        padding_mode=padding,
        align_corners=aligned,
    )


@pytest.mark.parametrize("mode", ["linear", "nearest"])
def test_grid_sample_of_volumes(mode: str) -> None:
    check(
        "GridSample",
        lambda n: [image(1, 2, n, 4, 3), grid(1, 3, n, 2, 3)],
        opset=20,
        length=TERMS,
        mode=mode,
    )


@pytest.mark.parametrize("dtype", [np.float64, np.float16, ml_dtypes.bfloat16])
def test_grid_sample_of_types(dtype: Any) -> None:
    kind = np.float64 if dtype is np.float64 else np.float32
    check(
        "GridSample",
        lambda n: [image(2, 3, n, 6, dtype=dtype), grid(2, n, 4, 2, dtype=kind)],
        opset=22,
        sizes=SOME,
        length=TERMS,
        mode="linear",
    )


@pytest.mark.parametrize("dtype", [np.int32, np.uint8, np.bool_])
def test_grid_sample_of_the_nearest(dtype: Any) -> None:
    check(
        "GridSample",
        lambda n: [image(2, 3, n, 6, dtype=dtype), grid(2, n, 4, 2, dtype=np.float64)],
        opset=20,
        sizes=SOME,
        mode="nearest",
    )


def test_grid_sample_by_open_batches() -> None:
    """Batches of two names have to agree; where they do not, the run is the reference's."""
    check("GridSample", lambda n: [image(n, 2, 4, 4), grid(min(n, 9), 2, 3, 2)], opset=20)


@pytest.mark.parametrize("aligned", [0, 1])
@pytest.mark.parametrize("sizes", [(2, 3, 5, 4), (2, 3, 1, 4, 6)])
def test_affine_grid(sizes: tuple[int, ...], aligned: int) -> None:
    rank = len(sizes) - 2
    check(
        "AffineGrid",
        lambda n: [random(2, rank, rank + 1), Known(sizes)],
        opset=20,
        length=8,
        sizes=(5,),
        align_corners=aligned,
    )


def regions(n: int) -> Any:
    corners = random(n, 2, low=-2, high=9)
    sizes = random(2, n, low=0, high=8).T.reshape(n, 2)
    found = np.concatenate([corners, corners + sizes], 1).astype(np.float32)
    if n > 2:
        found[1] = 3.0
        found[2, 2:] = found[2, :2] - 2
    return found


@pytest.mark.parametrize("ratio", [0, 2])
@pytest.mark.parametrize("mode", ["avg", "max"])
@pytest.mark.parametrize("transform", ["half_pixel", "output_half_pixel"])
def test_roi_align(transform: str, mode: str, ratio: int) -> None:
    check(
        "RoiAlign",
        lambda n: [
            image(2, 3, 8, 7),
            regions(n),
            random(n, dtype=np.int64, low=0, high=1),
        ],
        opset=16,
        length=TERMS,
        mode=mode,
        sampling_ratio=ratio,
        coordinate_transformation_mode=transform,
        output_height=3,
        output_width=2,
        spatial_scale=0.75,
    )


@pytest.mark.parametrize("bad", [-1, 2, 2**40])
def test_roi_align_of_no_image(bad: int) -> None:
    check(
        "RoiAlign",
        lambda n: [image(2, 3, n, n), regions(3), np.array([0, bad, 1])],
        opset=16,
        sizes=SOME,
        length=TERMS,
        sampling_ratio=2,
    )


def test_roi_align_of_other_numbers() -> None:
    def make(n: int) -> list[Any]:
        rois = regions(n)
        if n > 3:
            rois[0, 2], rois[3, 1] = np.nan, np.inf
        return [image(1, 2, 5, 5), rois, np.zeros(n, np.int64)]

    check("RoiAlign", make, opset=16, length=TERMS, sizes=SOME, output_height=2, output_width=2)


def test_roi_align_of_a_region_larger_than_tables() -> None:
    """Compiled code keeps tables of bounded length; beyond, the reference answers."""
    graph = """
<ir_version: 8, opset_import: ["" : 16]>
g (float[1, 1, H, W] x, float[R, 4] rois, int64[R] batch) => (float[R, 1, 1, 2] y) {
  y = RoiAlign <output_height = 1, output_width = 2, sampling_ratio = 0> (x, rois, batch)
}
"""
    session = Session(from_text(graph))
    assert session.compiled is not None
    x, zero = random(1, 1, 3, 9000), np.int64([0])
    small, large = np.float32([[0.5, 0.5, 8.5, 2.5]]), np.float32([[0.5, 0.5, 8_990.5, 2.5]])
    for rois in (small, large, large, small):
        (found,) = session.run(None, {"x": x, "rois": rois, "batch": zero})
        (wanted,) = Session(from_text(graph), compile=False).run(
            None, {"x": x, "rois": rois, "batch": zero}
        )
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
