"""Image sampling, regions of interest, unpooling and deformable convolution."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from differential import agrees_with_inference, close, compare, normal, rng
from sardonyx import dtypes
from sardonyx.dims import symbol
from sardonyx.errors import ExecutionError, InferenceError, LimitError
from sardonyx.ops.fact import Fact
from single_operator import apply, by_onnxruntime, inferred

F = np.float32


def grid(*shape: int) -> np.ndarray:
    return rng(*shape).uniform(-1.6, 1.6, shape).astype(F)


@pytest.mark.parametrize("align", [0, 1])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("mode", ["linear", "nearest", "cubic"])
@pytest.mark.parametrize("rank", [2, 3])
def test_grid_sample_equals_onnxruntime(rank: int, mode: str, padding: str, align: int) -> None:
    if rank == 3 and mode == "cubic":
        pytest.skip("onnxruntime has no tricubic interpolation")
    x, places = normal(2, 3, 5, 6, 4)[(...,) + (0,) * (3 - rank)], grid(2, *(4, 3, 2)[:rank], rank)
    options = {"mode": mode, "padding_mode": padding, "align_corners": align}
    compare("GridSample", x, places, terms=64, version=20, **options)
    if rank == 2:
        old = {"linear": "bilinear", "cubic": "bicubic"}.get(mode, mode)
        now = apply("GridSample", x, places, version=20, **options)
        then = apply("GridSample", x, places, version=16, **{**options, "mode": old})
        np.testing.assert_array_equal(now[0], then[0])


def test_grid_sample_of_one_axis_is_interpolation() -> None:
    x, places = normal(1, 2, 9), grid(1, 7, 1)
    (y,) = apply("GridSample", x, places, align_corners=1, padding_mode="border")
    at = (places[0, :, 0] + 1) / 2 * 8
    expected = np.stack([np.interp(at, np.arange(9), channel) for channel in x[0]])
    np.testing.assert_allclose(y[0], expected, atol=1e-5)


@pytest.mark.parametrize(
    "dtype", [np.int8, np.uint64, np.int64, bool, np.complex64, np.float16, ml_dtypes.bfloat16]
)
def test_grid_sample_on_each_type(dtype: Any) -> None:
    values = rng(1).integers(0, 100, (1, 1, 4, 4))
    x, places = values.astype(dtype), grid(1, 3, 3, 2)
    (wide,) = apply(
        "GridSample", x.astype(np.complex128 if dtype == np.complex64 else float), places
    )
    (y,) = apply("GridSample", x, places)
    assert y.dtype == dtype
    if np.dtype(dtype).kind in "iu":
        wide = np.trunc(wide)
    bound = 1 if dtype == ml_dtypes.bfloat16 else 0.1
    target = wide != 0 if dtype is bool else wide
    np.testing.assert_allclose(y.astype(target.dtype), target, atol=bound)
    (near,) = apply("GridSample", x, places, mode="nearest", padding_mode="border")
    assert set(near.ravel().tolist()) <= set(x.ravel().tolist())


def test_grid_sample_of_strings() -> None:
    x = np.array([[[["a", "b"], ["c", "d"]]]], object)
    places = np.array([[[[-0.5, -0.5], [0.5, -0.5], [3, 3]]]], F)
    (y,) = apply("GridSample", x, places, mode="nearest")
    assert y.ravel().tolist() == ["a", "b", ""]
    with pytest.raises(ExecutionError, match="strings"):
        apply("GridSample", x, places)


@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("mode", ["linear", "nearest", "cubic"])
def test_grid_sample_of_wild_places_stays_defined(mode: str, padding: str) -> None:
    places = np.array([[[[np.nan, 0], [np.inf, -np.inf], [1e38, -1e38], [0, 1e9]]]], F)
    (y,) = apply("GridSample", np.ones((1, 1, 3, 1), F), places, mode=mode, padding_mode=padding)
    if padding == "zeros":
        assert not y.any()
    else:
        np.testing.assert_allclose(y, 1, atol=1e-5)
    assert apply("GridSample", np.ones((1, 1, 0, 3), F), places, mode=mode)[0].shape == (1, 1, 1, 4)


def test_grid_sample_says_what_does_not_fit() -> None:
    x = normal(2, 3, 5, 6)
    for places, attributes in (
        (grid(2, 4, 3, 3), {}),
        (grid(1, 4, 3, 2), {}),
        (grid(2, 4, 2), {}),
        (grid(2, 4, 3, 2), {"mode": "area"}),
        (grid(2, 4, 3, 2), {"padding_mode": "wrap"}),
    ):
        with pytest.raises(InferenceError, match="GridSample"):
            apply("GridSample", x, places, **attributes)
    N, H = symbol("N"), symbol("H")
    facts = Fact.tensor(dtypes.INT8, (None, 3, 5, 6)), Fact.tensor(dtypes.FLOAT, (N, H, None, 2))
    assert inferred("GridSample", *facts)[0].shape == (N, 3, H, None)


@pytest.mark.parametrize("size", [(2, 3, 4, 5), (2, 3, 4, 5, 6), (2, 3, 1, 5)])
@pytest.mark.parametrize("align", [0, 1])
def test_affine_grid_equals_onnxruntime(align: int, size: tuple[int, ...]) -> None:
    rank = len(size) - 2
    theta = normal(2, rank, rank + 1)
    if align and 1 in size:
        identity = np.eye(2, 3, dtype=F)[None].repeat(2, 0)
        (y,) = apply("AffineGrid", identity, np.array(size), align_corners=1)
        assert (y[..., 1] == 0).all()
        return
    compare("AffineGrid", theta, np.array(size), version=20, terms=8, align_corners=align)


def test_affine_grid_says_what_does_not_fit() -> None:
    for theta, size in (
        (normal(2, 2, 3), [2, 3, 4]),
        (normal(2, 2, 3), [2, 3, 4, 5, 6]),
        (normal(2, 2, 3), [3, 3, 4, 5]),
        (normal(2, 2, 2), [2, 3, 4, 5]),
    ):
        with pytest.raises(InferenceError, match="AffineGrid"):
            apply("AffineGrid", theta, np.array(size))
    with pytest.raises(LimitError):
        apply("AffineGrid", normal(1, 2, 3), np.array([1, 1, 2**30, 2**30]))
    N, W = symbol("N"), symbol("W")
    size = Fact.tensor(dtypes.INT64, (4,), np.array([None, 3, 8, W], object))
    (found,) = inferred("AffineGrid", Fact.tensor(dtypes.FLOAT, (N, None, 3)), size)
    assert found.shape == (N, 8, W, 2)


ROIS = np.array([[0, 0, 7, 7], [1.5, 2.25, 6.5, 9], [-3, -2, 4, 20], [5, 5, 5.25, 5.5]], F)


@pytest.mark.parametrize("ratio", [0, 2])
@pytest.mark.parametrize("transform", [None, "half_pixel", "output_half_pixel"])
@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_roi_align_averages_equal_onnxruntime(
    scale: float, transform: str | None, ratio: int
) -> None:
    options: dict[str, Any] = {"version": 10 if transform is None else 16, "spatial_scale": scale}
    if transform is not None:
        options["coordinate_transformation_mode"] = transform
    inputs = normal(2, 3, 10, 8), ROIS, np.array([0, 1, 1, 0])
    options |= {"output_height": 3, "output_width": 2, "sampling_ratio": ratio}
    compare("RoiAlign", *inputs, terms=200, **options)


def test_roi_align_greatest_equals_onnxruntime() -> None:
    inputs = np.abs(normal(2, 3, 10, 8)), ROIS, np.array([0, 1, 1, 0])
    options = {"output_height": 3, "output_width": 2, "sampling_ratio": 2, "mode": "max"}
    compare("RoiAlign", *inputs, terms=16, version=16, **options)


def test_roi_align_of_wild_regions_stays_defined() -> None:
    x, batch = normal(1, 2, 5, 5), np.zeros(1, np.int64)
    for mode in ("avg", "max"):
        (y,) = apply("RoiAlign", x, np.full((1, 4), np.nan, F), batch, mode=mode)
        assert not y.any()
        assert y.shape == (1, 2, 1, 1)
        with pytest.raises(LimitError):
            apply("RoiAlign", x, np.array([[0, 0, 1e30, 1e30]], F), batch, mode=mode)
    for bad in (-1, 1, 2**60):
        with pytest.raises(ExecutionError, match="batch indices"):
            apply("RoiAlign", x, ROIS[:1], np.array([bad]))
    with pytest.raises(InferenceError, match="mode"):
        apply("RoiAlign", x, ROIS[:1], batch, mode="min")
    with pytest.raises(InferenceError, match="rois"):
        apply("RoiAlign", x, ROIS, batch)


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_max_roi_pool_equals_onnxruntime(scale: float) -> None:
    rois = np.concatenate([np.array([[0], [1], [1], [0]], F), ROIS], axis=1)
    options = {"pooled_shape": (3, 2), "spatial_scale": scale}
    compare("MaxRoiPool", normal(2, 3, 10, 8), rois, version=1, **options)
    x = normal(2, 3, 10, 8, dtype=ml_dtypes.bfloat16)
    (y,) = apply("MaxRoiPool", x, rois.astype(ml_dtypes.bfloat16), version=22, **options)
    assert set(y.astype(F).ravel()) <= {0, *x.astype(F).ravel()}


def test_max_roi_pool_of_wild_regions_stays_defined() -> None:
    x = normal(2, 3, 10, 8)
    for row in ([2, 0, 0, 3, 3], [-1, 0, 0, 3, 3], [np.nan, 0, 0, 3, 3], [0, 0, 0, np.inf, 3]):
        with pytest.raises(ExecutionError, match="MaxRoiPool"):
            apply("MaxRoiPool", x, np.array([row], F), pooled_shape=(2, 2))
    (y,) = apply("MaxRoiPool", x, np.array([[0, 1e30, 1e30, 2e30, 3e30]], F), pooled_shape=(2, 2))
    assert not y.any()
    with pytest.raises(InferenceError, match="pooled_shape"):
        apply("MaxRoiPool", x, np.zeros((1, 5), F), pooled_shape=(0, 2))


COLUMNS = [
    ((5, 6), (2, 3), {}),
    ((5, 6), (2, 3), {"strides": (2, 1), "pads": (1, 0, 0, 2)}),
    ((9, 8), (3, 2), {"dilations": (2, 3), "pads": (1, 1, 1, 1)}),
    ((4, 5, 6), (2, 2, 3), {}),
]


@pytest.mark.parametrize(("image", "block", "attributes"), COLUMNS)
def test_col2im_equals_onnxruntime(image: Any, block: Any, attributes: Any) -> None:
    rank = len(image)
    pads = attributes.get("pads", (0,) * 2 * rank)
    steps, gaps = attributes.get("strides", (1,) * rank), attributes.get("dilations", (1,) * rank)
    windows = [
        (image[i] + pads[i] + pads[i + rank] - gaps[i] * (block[i] - 1) - 1) // steps[i] + 1
        for i in range(rank)
    ]
    x = normal(2, 3 * int(np.prod(block)), int(np.prod(windows)))
    compare("Col2Im", x, np.array(image), np.array(block), version=18, terms=12, **attributes)


def test_col2im_on_each_type_and_what_does_not_fit() -> None:
    x = np.ones((1, 4, 6))
    expected = [[1, 2, 2, 1], [2, 4, 4, 2], [1, 2, 2, 1]]
    for dtype in (np.uint8, np.int64, np.complex64, np.float16, ml_dtypes.bfloat16, bool):
        (y,) = apply("Col2Im", x.astype(dtype), np.array([3, 4]), np.array([2, 2]))
        assert y.dtype == dtype
        np.testing.assert_array_equal(
            y[0, 0].astype(np.complex64), np.array(expected).astype(dtype).astype(np.complex64)
        )
    with pytest.raises(ExecutionError, match="strings"):
        apply("Col2Im", x.astype(str).astype(object), np.array([3, 4]), np.array([2, 2]))
    for image, block in (
        ([3, 5], [2, 2]),
        ([3, 4, 1], [2, 2]),
        ([3, 4], [0, 2]),
        ([-3, 4], [2, 2]),
        ([3, 4], [3, 2]),
    ):
        with pytest.raises((ExecutionError, InferenceError)):
            apply("Col2Im", x, np.array(image), np.array(block))
    H, N = symbol("H"), symbol("N")
    size = Fact.tensor(dtypes.INT64, (2,), np.array([H, 4], object))
    (found,) = inferred("Col2Im", Fact.tensor(dtypes.FLOAT, (N, 12, None)), size, np.array([2, 2]))
    assert found.shape == (N, 3, H, 4)


@pytest.mark.parametrize(
    "attributes",
    [{"kernel_shape": (2, 2), "strides": (2, 2)}, {"kernel_shape": (3, 3), "strides": (2, 2)}],
)
def test_max_unpool_is_the_inverse_of_max_pool(attributes: Any) -> None:
    x = rng(3).permutation(2 * 3 * 9 * 9).reshape(2, 3, 9, 9).astype(F)
    size = 8 if attributes["kernel_shape"] == (2, 2) else 9
    x = x[:, :, :size, :size]
    values, indices = by_onnxruntime("MaxPool", x, n_outputs=2, version=12, **attributes)
    (y,) = compare("MaxUnpool", values, indices, version=11, **attributes)
    kept = np.isin(np.arange(x.size), indices).reshape(x.shape)
    np.testing.assert_array_equal(y, np.where(kept, x, 0))
    shape = np.array([2, 3, 10, 11])
    (wide,) = apply("MaxUnpool", values, indices, shape, **attributes)
    assert wide.shape == (2, 3, 10, 11)
    np.testing.assert_array_equal(wide[:, :, :size, :size], y)
    assert wide.sum() == y.sum()


def test_max_unpool_says_what_does_not_fit() -> None:
    x, options = np.ones((1, 1, 2, 2), F), {"kernel_shape": (2, 2), "strides": (2, 2)}
    index = np.array([0, 2, 8, 10]).reshape(1, 1, 2, 2)
    for bad in (index - 1, index + 6, index + 2**60):
        with pytest.raises(ExecutionError, match="indices"):
            apply("MaxUnpool", x, bad, **options)
    with pytest.raises(ExecutionError, match="output_shape"):
        apply("MaxUnpool", x, index, np.array([1, 1, 2, 4]), **options)
    with pytest.raises(InferenceError, match="elements"):
        apply("MaxUnpool", x, index, np.array([4, 4]), **options)
    with pytest.raises(LimitError):
        apply("MaxUnpool", x, index, np.array([1, 1, 2**30, 2**30]), **options)
    N, H = symbol("N"), symbol("H")
    fact = Fact.tensor(dtypes.FLOAT, (N, 1, H, None))
    assert inferred("MaxUnpool", fact, fact, **options)[0].shape == (N, 1, 2 * H, None)


DEFORM = [
    ((2, 4, 6, 7), (6, 4, 3, 3), 1, {"pads": (1, 1, 1, 1)}),
    ((1, 4, 7, 6), (4, 2, 2, 3), 2, {"group": 2, "offset_group": 2, "strides": (2, 1)}),
    ((1, 4, 9, 9), (2, 4, 3, 2), 1, {"dilations": (2, 2), "pads": (0, 1, 2, 1)}),
]


@pytest.mark.parametrize(("x_shape", "w_shape", "parts", "attributes"), DEFORM)
@pytest.mark.parametrize("full", [True, False])
def test_deform_conv_equals_onnxruntime(
    x_shape: Any, w_shape: Any, parts: int, attributes: Any, full: bool
) -> None:
    x, w = normal(*x_shape), normal(*w_shape)
    options = {k: v for k, v in attributes.items() if k != "offset_group"}
    (plain,) = apply("Conv", x, w, **options)
    taps, sizes = parts * w_shape[2] * w_shape[3], plain.shape[2:]
    offset = normal(x_shape[0], 2 * taps, *sizes) * F(2)
    bias = normal(w_shape[0]) if full else None
    mask = np.abs(normal(x_shape[0], taps, *sizes)) if full else None
    compare("DeformConv", x, w, offset, bias, mask, version=19, terms=128, **attributes)
    (still,) = apply("DeformConv", x, w, np.zeros_like(offset), **attributes)
    close([still], [plain], 64)


def test_deform_conv_in_three_dimensions_and_on_narrow_types() -> None:
    x, w = normal(1, 2, 4, 5, 3), normal(3, 2, 2, 2, 2)
    offset = np.zeros((1, 24, 3, 4, 2), F)
    offset[:, 0::3] = 1
    for dtype in (F, np.float16, ml_dtypes.bfloat16, np.float64):
        inputs = [item.astype(dtype) for item in (x, w, offset)]
        (y,) = apply("DeformConv", *inputs)
        shifted = np.concatenate([inputs[0][:, :, 1:], np.zeros_like(inputs[0][:, :, :1])], axis=2)
        (expected,) = apply("Conv", shifted, inputs[1])
        close([y], [expected], 16)
    agrees_with_inference("DeformConv", x, w, offset, outputs=apply("DeformConv", x, w, offset))
    offset[...] = np.nan
    assert not apply("DeformConv", x, w, offset)[0].any()


def test_deform_conv_says_what_does_not_fit() -> None:
    x, w, offset = normal(1, 4, 5, 5), normal(2, 4, 3, 3), normal(1, 18, 3, 3)
    for inputs, attributes in (
        ([x, w, offset[:, :17]], {}),
        ([x, w, offset[:, :, :2]], {}),
        ([x, w, offset, normal(3)], {}),
        ([x, w, offset, None, normal(1, 8, 3, 3)], {}),
        ([x[:, :3], w, offset], {}),
        ([x, w, offset], {"offset_group": 3}),
        ([x, w, offset], {"group": 0}),
        ([x, w, offset], {"kernel_shape": (2, 2)}),
    ):
        with pytest.raises(InferenceError, match="DeformConv"):
            apply("DeformConv", *inputs, **attributes)
