"""Resizing and sampling of images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sardonyx import dtypes
from sardonyx.dims import Dim
from sardonyx.errors import ExportError
from sardonyx.export.torch.registry import TorchBuilder, known, static, translation

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sardonyx.dims import DimLike
    from sardonyx.ir.value import Value

__all__: list[str] = []


def _resize(op: TorchBuilder, x: Value, scales: Sequence[float] | None, mode: str,
            coordinates: str, nearest: str | None = None,
            cubic: float | None = None) -> Any:  # fmt: skip
    """`x` resized by `scales`, or to the result's sizes where they are None."""
    dtype = op.dtype_of(x)
    if mode != "nearest" and not dtype.is_floating:
        return _rounded(op, x, lambda x: _resize(op, x, scales, mode, coordinates, nearest, cubic))
    if coordinates == "align_corners" or (
        scales is not None and any(scale is None for scale in scales)
    ):
        scales = None
    if op.opset < 11:
        return _resize_old(op, x, scales, mode, coordinates)
    none = None if op.opset >= 13 else op.constant(np.zeros(0), dtypes.FLOAT)
    attributes = {
        "mode": mode,
        "coordinate_transformation_mode": coordinates,
        "nearest_mode": nearest,
        "cubic_coeff_a": cubic,
    }
    if scales is not None:
        factors = op.constant([1.0, 1.0, *scales], dtypes.FLOAT)
        return op.Resize(x, none, factors, **attributes)
    target = known(op.result_shape)
    if target is None:
        raise ExportError("a resize to a size that cannot be said")
    if any(isinstance(size, Dim) for size in target) and all(
        isinstance(size, int) for size in target[2:]
    ):
        front = op.slice(op.Shape(x), 0, 0, 2)
        return op.Resize(
            x, none, none, op.Concat(front, op.sizes(target[2:]), axis=0), **attributes
        )
    return op.Resize(x, none, none, op.sizes(target), **attributes)


def _resize_old(op: TorchBuilder, x: Value, scales: Sequence[float] | None, mode: str,
                coordinates: str) -> Any:  # fmt: skip
    if mode != "nearest" or coordinates != "asymmetric":
        op.require(11, f"{mode} interpolation")
    if scales is None:
        target = static([dim or 0 for dim in op.result_shape[2:]], "a resize before opset 11")
        sizes = static(op.shape_of(x)[2:], "a resize before opset 11")
        scales = [new / old for new, old in zip(target, sizes, strict=True)]
    factors = [1.0, 1.0, *scales]
    if op.opset >= 10:
        return op.Resize(x, op.constant(factors, dtypes.FLOAT), mode=mode)
    if op.opset >= 9:
        return op.Upsample(x, op.constant(factors, dtypes.FLOAT), mode=mode)
    return op.Upsample(x, mode=mode, scales=factors)


def _register_nearest(target: str, spatial: int, coordinates: str, rounding: str) -> None:
    @translation(f"aten.{target}{spatial}d.vec")
    def by_factors(op: TorchBuilder, x: Value, _size: Any, scales: Any = None) -> Any:
        return _resize(op, x, scales, "nearest", coordinates, rounding)

    @translation(f"aten.{target}{spatial}d.default")
    def by_size(op: TorchBuilder, x: Value, _size: Any, *scales: Any) -> Any:
        return _resize(op, x, scales or None, "nearest", coordinates, rounding)


def _register_linear(target: str, mode: str, cubic: float | None = None) -> None:
    @translation(f"aten.{target}.vec")
    def by_factors(op: TorchBuilder, x: Value, _size: Any, align: bool, scales: Any = None) -> Any:
        return _resize(op, x, scales, mode, _coordinates(align), cubic=cubic)

    @translation(f"aten.{target}.default")
    def by_size(op: TorchBuilder, x: Value, _size: Any, align: bool, *scales: Any) -> Any:
        return _resize(op, x, scales or None, mode, _coordinates(align), cubic=cubic)


def _rounded(op: TorchBuilder, x: Value, layer: Callable[[Value], Value]) -> Value:
    """`layer` of integers, which torch computes in wider arithmetic and rounds."""
    dtype = op.dtype_of(x)
    wide = op.typed(op.cast(x, dtypes.FLOAT), dtypes.FLOAT, op.shape_of(x))
    whole = op.typed(op.Round(layer(wide)), dtypes.FLOAT, ())
    return op.cast(op.clip(whole, 0, 255) if dtype is dtypes.UINT8 else whole, dtype)


def _triangle(x: Any) -> Any:
    return np.maximum(1 - np.abs(x), 0)


def _keys(x: Any) -> Any:
    """The cubic convolution kernel of Keys with a = -0.5."""
    x = np.abs(x)
    near, far = (1.5 * x - 2.5) * x * x + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0))


def _lanczos(x: Any) -> Any:
    return np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0)


def _smoothing(size: int, count: int, step: float, kernel: Callable[[Any], Any], reach: int) -> Any:
    """The matrix (count, size) that resamples by `kernel`, widened where it shrinks."""
    wide = max(step, 1.0)
    matrix = np.zeros((count, size))
    for row in range(count):
        centre = step * (row + 0.5)
        first = max(int(centre - reach * wide + 0.5), 0)
        last = min(int(centre + reach * wide + 0.5), size)
        weights = kernel((np.arange(first, last) - centre + 0.5) / wide)
        matrix[row, first:last] = weights / weights.sum()
    return matrix


def _register_smooth(target: str, kernel: Callable[[Any], Any], reach: int) -> None:
    @translation(f"aten.{target}.vec", f"aten.{target}.default")
    def smooth(op: TorchBuilder, x: Value, _size: Any, align: bool, *scales: Any) -> Any:
        if not op.dtype_of(x).is_floating:
            return _rounded(op, x, lambda x: smooth(op, x, _size, align, *scales))
        what = "interpolation with antialias"
        sizes = static(op.shape_of(x)[2:], what)
        wanted = static([dim if dim is not None else 0 for dim in op.result_shape[2:]], what)
        factors: Any = scales[0] if scales and isinstance(scales[0], list) else scales
        dtype = op.dtype_of(x)
        made = x
        for axis, (size, count) in enumerate(zip(sizes, wanted, strict=True)):
            factor = factors[axis] if factors and factors[0] is not None else None
            if align:
                step = (size - 1) / (count - 1) if count > 1 else 0.0
            else:
                step = 1 / factor if factor else size / count
            if size == count and step == 1:
                continue
            matrix = _smoothing(size, count, step, kernel, reach)
            if axis == 0:
                made = op.MatMul(op.constant(matrix, dtype), made)
            else:
                made = op.MatMul(made, op.constant(matrix.T, dtype))
        return made


def _coordinates(align: bool) -> str:
    return "align_corners" if align else "half_pixel"


for _spatial in (1, 2, 3):
    _register_nearest("upsample_nearest", _spatial, "asymmetric", "floor")
    _register_nearest("_upsample_nearest_exact", _spatial, "half_pixel", "round_prefer_ceil")
for _target in ("upsample_linear1d", "upsample_bilinear2d", "upsample_trilinear3d"):
    _register_linear(_target, "linear")
_register_linear("upsample_bicubic2d", "cubic", -0.75)
_register_smooth("_upsample_bilinear2d_aa", _triangle, 1)
_register_smooth("_upsample_bicubic2d_aa", _keys, 2)
_register_smooth("_upsample_lanczos2d_aa", _lanczos, 3)


@translation("aten.grid_sampler.default", "aten.grid_sampler_2d.default",
             "aten.grid_sampler_3d.default")  # fmt: skip
def grid_sampler(op: TorchBuilder, x: Value, grid: Value, interpolation: int, padding: int,
                 align: bool) -> Any:  # fmt: skip
    new = op.opset >= 20
    if op.rank_of(x) != 4:
        op.require(20, "sampling of volumes")
    modes = ("linear", "nearest", "cubic") if new else ("bilinear", "nearest", "bicubic")
    return op.GridSample(
        x,
        grid,
        mode=modes[interpolation],
        padding_mode=("zeros", "border", "reflection")[padding],
        align_corners=int(align),
    )


@translation("aten.affine_grid_generator.default")
def affine_grid(op: TorchBuilder, theta: Value, size: Sequence[DimLike], align: bool) -> Any:
    if op.opset >= 20:
        return op.AffineGrid(theta, op.sizes(size), align_corners=int(align))
    spatial = static(size[2:], "affine_grid before opset 20")
    dtype = op.dtype_of(theta)
    axes = []
    for count in spatial:
        last = 1 - (0 if align else 1 / count)
        axes.append(np.linspace(-last, last, count) if count > 1 else np.zeros(1))
    places = np.meshgrid(*axes, indexing="ij")
    base = np.stack([*reversed(places), np.ones(spatial)], axis=-1).reshape(-1, len(spatial) + 1)
    points = op.MatMul(op.constant(base, dtype), op.transpose(theta, [0, 2, 1]))
    batch = op.shape_of(theta)[0]
    op.typed(points, dtype, [batch, len(base), len(spatial)])
    return op.reshape(points, [batch, *spatial, len(spatial)])
