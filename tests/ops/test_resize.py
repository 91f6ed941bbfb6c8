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

NONE = np.zeros(0, np.float32)
SCALES = [(1, 1, 2, 2), (1, 1, 0.7, 0.7), (1, 1, 1.7, 0.45), (1, 1, 3, 1)]
COORDINATES = ["half_pixel", "pytorch_half_pixel", "asymmetric", "half_pixel_symmetric"]


@pytest.mark.parametrize("scales", SCALES)
@pytest.mark.parametrize("coordinates", COORDINATES)
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_scales(scales, coordinates, mode):
    x = normal(1, 2, 7, 9)
    compare(
        "Resize",
        x,
        None,
        np.array(scales, np.float32),
        version=19,
        terms=64,
        mode=mode,
        coordinate_transformation_mode=coordinates,
    )


@pytest.mark.parametrize("sizes", [(1, 2, 14, 3), (1, 2, 5, 9), (1, 2, 1, 1), (1, 2, 20, 19)])
@pytest.mark.parametrize("coordinates", ["half_pixel", "align_corners", "asymmetric"])
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_sizes(sizes, coordinates, mode):
    x, wanted = normal(1, 2, 7, 9), np.array(sizes, np.int64)
    compare(
        "Resize",
        x,
        None,
        None,
        wanted,
        version=19,
        terms=64,
        mode=mode,
        coordinate_transformation_mode=coordinates,
    )


@pytest.mark.parametrize("rounding", ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])
@pytest.mark.parametrize("scale", [0.5, 2, 1.5, 0.6])
def test_nearest_roundings(rounding, scale):
    scales = np.array([1, 1, scale], np.float32)
    x = np.arange(20, dtype=np.float32).reshape(1, 1, 20)
    for coordinates in ("half_pixel", "asymmetric"):
        compare(
            "Resize",
            x[..., None],
            None,
            np.append(scales, np.float32(1)),
            version=13,
            nearest_mode=rounding,
            coordinate_transformation_mode=coordinates,
        )


@pytest.mark.torch
@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(3, 4), (20, 5), (1, 30)])
def test_antialias_equals_torch(mode, size):
    import torch

    x = normal(1, 2, 17, 23)
    expected = torch.nn.functional.interpolate(torch.from_numpy(x), size, mode=mode, antialias=True)
    ours = apply(
        "Resize",
        x,
        None,
        None,
        np.array([1, 2, *size], np.int64),
        version=19,
        mode=mode.replace("bilinear", "linear").replace("bicubic", "cubic"),
        antialias=1,
        exclude_outside=1,
        cubic_coeff_a=-0.5,
    )
    close(ours, [expected.numpy()], terms=100)


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_crop_and_resize(mode):
    roi = np.array([0, 0, 0.4, -0.3, 1, 1, 0.6, 1.3], np.float32)
    compare(
        "Resize",
        normal(1, 1, 6, 6),
        roi,
        None,
        np.array([1, 1, 3, 5], np.int64),
        version=13,
        terms=64,
        mode=mode,
        coordinate_transformation_mode="tf_crop_and_resize",
        extrapolation_value=10.0,
    )


def test_exclude_outside():
    compare("Resize", normal(1, 1, 6, 6), None, np.array([1, 1, 0.8, 1.9], np.float32), version=13,
            terms=64, mode="cubic", exclude_outside=1)  # fmt: skip


@pytest.mark.parametrize(
    ("policy", "shape"), [("not_larger", (1, 2, 4, 6)), ("not_smaller", (1, 2, 8, 12))]
)
def test_aspect_ratio(policy, shape):
    x, sizes = normal(1, 2, 6, 9), np.array([8, 6], np.int64)
    options = {"version": 19, "axes": (2, 3), "keep_aspect_ratio_policy": policy}
    (result,) = compare("Resize", x, None, None, sizes, **options)
    assert result.shape == shape


@pytest.mark.parametrize("version", [7, 9])
@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_upsample(version, mode):
    x, scales = normal(1, 2, 3, 4), (1.0, 1.0, 2.0, 1.5)
    if version == 7:
        compare("Upsample", x, version=7, mode=mode, terms=8, scales=scales)
    else:
        compare("Upsample", x, np.array(scales, np.float32), version=9, mode=mode, terms=8)


def test_upsample_1():
    x = normal(1, 2, 3, 4)
    (ours,) = apply("Upsample", x, version=1, height_scale=2.0, width_scale=3.0)
    np.testing.assert_array_equal(ours, x.repeat(2, 2).repeat(3, 3))


@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize("scale", [2.0, 0.5])
def test_resize_10(mode, scale):
    scales = np.array([1, 1, scale, scale], np.float32)
    compare("Resize", normal(1, 2, 6, 8), scales, version=10, mode=mode, terms=8)


def test_integers_truncate_and_saturate():
    x = rng(1).integers(0, 256, (1, 1, 6, 6)).astype(np.uint8)
    compare("Resize", x, None, np.array([1, 1, 2, 2], np.float32), version=19, mode="linear")
    (cubic,) = apply(
        "Resize", x, None, np.array([1, 1, 3, 3], np.float32), version=19, mode="cubic"
    )
    wide = apply(
        "Resize",
        x.astype(np.float64),
        None,
        np.array([1, 1, 3, 3], np.float32),
        version=19,
        mode="cubic",
    )
    assert np.abs(cubic - np.clip(wide[0], 0, 255)).max() <= 1


def test_other_types():
    scales = np.array([2, 1], np.float32)
    words = np.array([["a", "b"], ["c", "d"]], object)
    (result,) = apply("Resize", words, None, scales, version=19)
    assert result.tolist() == [["a", "b"], ["a", "b"], ["c", "d"], ["c", "d"]]
    with pytest.raises(ModelError):
        apply("Resize", words, None, scales, version=19, mode="linear")
    for dtype in (np.float16, ml_dtypes.bfloat16, np.float64, np.complex64):
        x = normal(4, 3).astype(dtype)
        (result,) = apply("Resize", x, None, scales, version=19, mode="linear")
        assert (result.dtype, result.shape) == (np.dtype(dtype), (8, 3))
    biggest = np.full((2, 2), np.iinfo(np.int64).max)
    (result,) = apply("Resize", biggest, None, scales, version=19, mode="linear")
    assert (result == np.iinfo(np.int64).max).all()


def test_symbolic_sizes():
    n, h = symbol("N"), symbol("H")
    x = Fact.tensor(FLOAT, (n, 3, h, h))
    for scale, size in ((2.0, 2 * h), (0.5, h // 2), (1.5, 3 * h // 2)):
        scales = np.array([1, 1, scale, scale], np.float32)
        (fact,) = inferred("Resize", x, None, scales, version=19)
        assert fact.shape == (n, 3, size, size)
    (fact,) = inferred("Resize", x, None, np.array([1, 1, 0.3, 0.3], np.float32), version=19)
    assert fact.shape == (n, 3, None, None)


@pytest.mark.parametrize("scale", [0, -1, np.nan, np.inf])
def test_scales_that_are_no_scales(scale):
    with pytest.raises(ModelError):
        apply(
            "Resize", normal(1, 1, 4, 4), None, np.array([1, 1, 1, scale], np.float32), version=19
        )


def test_bombs_and_misfits():
    x = normal(1, 1, 4, 4)
    with pytest.raises(LimitError):
        apply("Resize", x, None, None, np.array([1, 1, 1 << 40, 1]), version=19)
    with pytest.raises(LimitError):
        apply("Resize", x, None, np.array([1, 1, 1e9, 1e9], np.float32), version=19, mode="linear")
    for inputs, attributes in (
        ([None, None, np.array([1, 1, -1, 1])], {}),
        ([None, None, np.array([1, 1])], {}),
        ([None, None, None], {}),
        ([None, np.ones(4, np.float32), np.ones(4, np.int64)], {}),
        ([None, np.ones(1, np.float32)], {"axes": (4,)}),
        ([None, np.ones(2, np.float32)], {"axes": (1, -3)}),
        ([None, np.ones(4, np.float32)], {"mode": "quartic"}),
        ([None, np.ones(4, np.float32)], {"coordinate_transformation_mode": "tf_crop_and_resize"}),
    ):
        with pytest.raises(ModelError):
            apply("Resize", x, *inputs, version=19, **attributes)
