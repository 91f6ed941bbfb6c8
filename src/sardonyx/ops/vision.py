"""Sampling of images at given places, and regions of interest."""

from __future__ import annotations

import math
from itertools import product
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from sardonyx.dtypes import INT64
from sardonyx.errors import ExecutionError, InferenceError, UnsupportedError, quote
from sardonyx.ops import types
from sardonyx.ops.fact import Fact
from sardonyx.ops.fitting import joined, of_rank
from sardonyx.ops.numeric import to_integer, widen
from sardonyx.ops.operator import Operator
from sardonyx.ops.sampling import (
    Inside,
    cubic_taps,
    linear_taps,
    steady,
    weighted,
)
from sardonyx.ops.schema import Input, Output, attribute, past
from sardonyx.ops.symbolic import check_size, contents

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sardonyx.ir.tensor import Array
    from sardonyx.ir.value import Value
    from sardonyx.ops.body_builder import BodyBuilder

_MODES: Final = {"bilinear": "linear", "bicubic": "cubic"}


class GridSample(Operator, since=22):
    """X interpolated at the normalized places that `grid` gives, innermost axis first.

    -1 and 1 are the centres of the corner elements if `align_corners`, else their outer edges.
    """

    X = Input("T1", "[N, C, D1, ..., Dr].")
    grid = Input("T2", "[N, d1, ..., dr, r].")
    Y = Output("T1", "[N, C, d1, ..., dr].")
    T1, T2 = types.ALL_BFLOAT16, types.FLOATS_BFLOAT16
    align_corners: int = 0
    mode: str = "linear"
    padding_mode: str = "zeros"
    history = (
        past(20, T1=types.ALL_BEFORE_BFLOAT16, T2=types.FLOATS),
        past(16, mode="bilinear"),
    )

    def infer(self, X: Fact, grid: Fact) -> Fact:
        if self.padding_mode not in {"zeros", "border", "reflection"}:
            raise InferenceError(
                f"GridSample: padding_mode {quote(self.padding_mode)}",
                hint='it is "zeros", "border" or "reflection"',
            )
        if self.interpolation not in {"linear", "nearest", "cubic"}:
            raise InferenceError(
                f"GridSample: mode {quote(self.mode)}",
                hint='it is "linear", "nearest" or "cubic"',
            )
        rank = X.rank if X.rank is not None else grid.rank
        if rank is None:
            return Fact.tensor(X.dtype)
        if rank < 3:
            raise InferenceError(f"GridSample: X is [N, C, D1, ...], it has rank {rank}")
        x, g = of_rank("GridSample", "X", X, rank), of_rank("GridSample", "grid", grid, rank)
        joined("GridSample", "the last size of grid and the spatial rank", g[-1], rank - 2)
        batch = joined("GridSample", "the batches of X and grid", x[0], g[0])
        return Fact.tensor(X.dtype, (batch, x[1], *g[1:-1]))

    @property
    def interpolation(self) -> str:
        """The mode, under its newest name."""
        return _MODES.get(self.mode, self.mode)

    def reference(self, X: Array, grid: Array) -> Array:
        shape = self.infer(Fact.tensor(None, X.shape), Fact.tensor(None, grid.shape)).shape
        assert shape is not None
        sizes = X.shape[2:]
        outputs = tuple(int(size) for size in shape)  # type: ignore[arg-type]
        check_size("GridSample", outputs, max(X.itemsize, 8))
        if 0 in outputs or 0 in sizes:
            return np.full(outputs, "" if X.dtype == object else 0, X.dtype)
        with np.errstate(all="ignore"):
            places = [self._denormalized(grid, axis, size) for axis, size in enumerate(sizes)]
            flat = X.reshape(*X.shape[:2], -1)
            if self.interpolation == "nearest":
                return self._nearest(flat, places, sizes).reshape(outputs)
            if X.dtype == object:
                raise ExecutionError(
                    "GridSample cannot interpolate between strings", hint='use the mode "nearest"'
                )
            taps_of = linear_taps if self.interpolation == "linear" else cubic_taps
            taps = [taps_of(x) for x in places]
            wide = flat.astype(np.float64) if flat.dtype.kind in "iub" else widen(flat)
            result = weighted(wide, sizes, taps, self._mapping(sizes)).reshape(outputs)
            if X.dtype.kind in "iu":
                return to_integer(result, X.dtype)
            return result.astype(X.dtype)

    def _denormalized(self, grid: Array, axis: int, size: int) -> Array:
        """The coordinates along spatial `axis`, [N, places]."""
        g = widen(grid)[..., grid.shape[-1] - 1 - axis].reshape(grid.shape[0], -1)
        x = (g + 1) / 2 * (size - 1) if self.align_corners else ((g + 1) * size - 1) / 2
        return steady(x)

    def _mapping(self, sizes: Sequence[int]) -> Any:
        if self.padding_mode == "zeros":
            return Inside(sizes)

        def place(index: Array, axis: int) -> tuple[Array, Array]:
            last = sizes[axis] - 1
            if self.padding_mode == "reflection":
                index = self._reflected(index, last)
            return np.clip(index, 0, last).astype(np.int64), np.ones(index.shape, bool)

        return place

    def _reflected(self, index: Array, last: int) -> Array:
        """Indices mirrored at the centres, or outer edges, of the border elements."""
        edge = 0.0 if self.align_corners else 0.5
        span = last + 2 * edge
        if span == 0:
            return np.zeros_like(index)
        distance = np.mod(index + edge, 2 * span)
        return np.asarray(np.where(distance > span, 2 * span - distance, distance) - edge)

    def _nearest(self, flat: Array, places: Sequence[Array], sizes: Sequence[int]) -> Array:
        place = self._mapping(sizes)
        index: Any = 0
        inside: Any = True
        for axis, (x, size) in enumerate(zip(places, sizes, strict=True)):
            step, valid = place(np.rint(x), axis)
            index, inside = index * size + step, inside & valid
        picked = np.take_along_axis(flat, index[:, None], 2)
        filler = np.array("" if flat.dtype == object else 0, flat.dtype)
        return np.where(inside[:, None], picked, filler)


class AffineGrid(Operator, since=20):
    """The normalized places that each affine matrix of `theta` maps the elements of `size` to."""

    theta = Input("T1", "[N, 2, 3], or [N, 3, 4].")
    size = Input("T2", "[N, C, H, W], or [N, C, D, H, W], as contents.")
    grid = Output("T1", "[N, H, W, 2], or [N, D, H, W, 3].")
    T1, T2 = types.FLOATS_BFLOAT16, (INT64,)
    align_corners: int = 0

    def infer(self, theta: Fact, size: Fact) -> Fact:
        matrix = of_rank("AffineGrid", "theta", theta, 3)
        dims = contents(size)
        count = matrix[1] if isinstance(matrix[1], int) else None
        if dims is None and count is None:
            return Fact.tensor(theta.dtype)
        if dims is None:
            dims = [None] * ((count or 0) + 2)
        count = len(dims) - 2
        if count not in {2, 3}:
            raise InferenceError(f"AffineGrid: size has {len(dims)} elements, needs 4 or 5")
        joined("AffineGrid", "the rows of theta and the spatial rank", matrix[1], count)
        joined("AffineGrid", "the columns of theta and the spatial rank + 1", matrix[2], count + 1)
        batch = joined("AffineGrid", "the batches of theta and size", matrix[0], dims[0])
        return Fact.tensor(theta.dtype, (batch, *dims[2:], count))

    def reference(self, theta: Array, size: Array) -> Array:
        found = self.infer(Fact.tensor(None, theta.shape), Fact.constant(size)).shape
        assert found is not None
        shape = [int(dim) for dim in found]  # type: ignore[arg-type]
        check_size("AffineGrid", shape, max(theta.itemsize, 4))
        wide = widen(theta)
        axes = [self._centres(count, wide.dtype) for count in shape[1:-1]]
        result = np.empty(shape, wide.dtype)
        with np.errstate(all="ignore"):
            spread = (-1, *(1,) * len(axes))
            for row in range(len(axes)):
                total = wide[:, row, -1].reshape(spread)
                for column, axis in enumerate(reversed(np.ix_(*axes))):
                    total = total + wide[:, row, column].reshape(spread) * axis
                result[..., row] = total
            return result.astype(theta.dtype)

    def _centres(self, count: int, dtype: np.dtype[Any]) -> Array:
        """The normalized places of `count` elements; a single one lies in the middle."""
        index = np.arange(count).astype(dtype)
        if not self.align_corners:
            return np.asarray((2 * index + 1) / max(count, 1) - 1)
        return np.asarray(2 * index / (count - 1) - 1 if count > 1 else 0 * index)

    def body(self, op: BodyBuilder, theta: Value, size: Value) -> Any:
        matrix = op.wide(theta)
        count = self._spatial_rank(op, theta, size)
        spread = np.arange(1, count + 1)

        def column(index: int) -> Value:
            taken: Value = op.Unsqueeze(op.Gather(matrix, np.int64(index), axis=2), spread)
            return taken

        total = column(count)
        for axis in range(count):
            length = op.Gather(size, np.array([axis + 2], np.int64))
            places = self._centres_body(op, length, matrix)
            others = [other for other in range(count + 1) if other != axis]
            total = op.Add(
                total,
                op.Mul(column(count - 1 - axis), op.Unsqueeze(places, np.array(others, np.int64))),
            )
        return op.cast_like(total, theta)

    def _spatial_rank(self, op: BodyBuilder, theta: Value, size: Value) -> int:
        for fact, axis, more in ((op.fact(theta), 1, 0), (op.fact(size), 0, 2)):
            known = None if fact.shape is None else fact.shape[axis]
            if isinstance(known, int):
                return known - more
        raise UnsupportedError(
            "the function body of AffineGrid needs the size of theta or the length of size",
            hint="infer shapes first, or declare them",
        )

    def _centres_body(self, op: BodyBuilder, length: Value, like: Value) -> Value:
        index, count = op.cast_like(op.indices(length), like), op.cast_like(length, like)
        one, two = op.like(1, like), op.like(2, like)
        if self.align_corners:
            steps = op.Sub(count, one)
            is_single = op.Less(steps, one)
            places = op.Sub(op.Div(op.Mul(two, index), op.Max(steps, one)), one)
            return op.cast_like(op.Where(is_single, op.like(0, like), places), like)
        return op.cast_like(op.Sub(op.Div(op.Add(op.Mul(two, index), one), count), one), like)


class RoiAlign(Operator, since=22):
    """Each region of X, averaged (or its maximum) over bins by bilinear samples.

    Bins are sampled at `sampling_ratio` places along each axis, or where it is 0 at
    ceil(bin size). Mode "max" takes the greatest of the samples' weighted corners.
    """

    X = Input("T1", "[N, C, H, W].")
    rois = Input("T1", "[regions, 4]: x1, y1, x2, y2.")
    batch_indices = Input("T2", "[regions].")
    Y = Output("T1", "[regions, C, output_height, output_width].")
    T1, T2 = types.FLOATS_BFLOAT16, (INT64,)
    coordinate_transformation_mode: str = attribute("half_pixel", since=16)
    mode: str = "avg"
    output_height: int = 1
    output_width: int = 1
    sampling_ratio: int = 0
    spatial_scale: float = 1.0
    history = past(16, T1=types.FLOATS), past(10)

    def infer(self, X: Fact, rois: Fact, batch_indices: Fact) -> Fact:
        transform = self.coordinate_transformation_mode
        if self.version >= 16 and transform not in {"half_pixel", "output_half_pixel"}:
            raise InferenceError(
                f"RoiAlign: coordinate_transformation_mode {quote(transform)}",
                hint='it is "half_pixel" or "output_half_pixel"',
            )
        if self.mode not in {"avg", "max"}:
            raise InferenceError(f"RoiAlign: mode {quote(self.mode)}", hint='it is "avg" or "max"')
        if min(self.output_height, self.output_width) < 1 or self.sampling_ratio < 0:
            raise InferenceError(
                f"RoiAlign: output {self.output_height} x {self.output_width}, sampling_ratio "
                f"{self.sampling_ratio}; sizes must be at least 1 and the ratio not negative"
            )
        x = of_rank("RoiAlign", "X", X, 4)
        r = of_rank("RoiAlign", "rois", rois, 2)
        b = of_rank("RoiAlign", "batch_indices", batch_indices, 1)
        joined("RoiAlign", "the columns of rois and 4", r[1], 4)
        count = joined("RoiAlign", "the numbers of rois and batch_indices", r[0], b[0])
        return Fact.tensor(X.dtype, (count, x[1], self.output_height, self.output_width))

    def reference(self, X: Array, rois: Array, batch_indices: Array) -> Array:
        shape = self.infer(*(Fact.constant(x) for x in (X, rois, batch_indices))).shape
        assert shape is not None
        sizes = tuple(int(size) for size in shape)  # type: ignore[arg-type]
        wide = widen(X)
        check_size("RoiAlign", sizes, wide.itemsize)
        _check_batch("RoiAlign", batch_indices, X.shape[0])
        result = np.zeros(sizes, wide.dtype)
        half = self.version >= 16 and self.coordinate_transformation_mode == "half_pixel"
        with np.errstate(all="ignore"):
            corners = widen(rois) * wide.dtype.type(self.spatial_scale) - (0.5 if half else 0)
            for index, (x1, y1, x2, y2) in enumerate(corners):
                image = wide[batch_indices[index]]
                rows = self._samples(y1, y2, self.output_height, image.shape[1], half)
                columns = self._samples(x1, x2, self.output_width, image.shape[2], half)
                if rows is not None and columns is not None:
                    pool = self._average if self.mode == "avg" else self._greatest
                    result[index] = pool(image, rows, columns)
            return result.astype(X.dtype)

    def _samples(
        self, start: Any, stop: Any, bins: int, size: int, half: bool
    ) -> list[tuple[Array, Array]] | None:
        """For each end of the interpolation: indices and weights, [bins, samples]."""
        extent = stop - start if half else max(stop - start, type(start)(1))
        width = extent / bins
        counted = float(np.ceil(width))
        count = self.sampling_ratio or (int(counted) if math.isfinite(counted) else 0)
        if count < 1 or size == 0:
            return None
        check_size("RoiAlign", (bins, count), 8 * 4)
        offsets = (np.arange(count) + 0.5).astype(extent.dtype) * width / count
        x = start + np.arange(bins).astype(extent.dtype)[:, None] * width + offsets
        inside = (x >= -1) & (x <= size)
        x = np.clip(np.where(inside, x, 0), 0, size - 1)
        low = np.floor(x).astype(np.int64)
        share = np.where(inside, x - low, 0)
        rest = np.where(inside, 1 - share, 0)
        return [(low, rest), (np.minimum(low + 1, size - 1), share)]

    def _average(self, image: Array, rows: Any, columns: Any) -> Array:
        down = self._spread(rows, image.shape[1], image.dtype)
        across = self._spread(columns, image.shape[2], image.dtype)
        return np.asarray(np.matmul(np.matmul(down, image), across.T))

    def _spread(self, taps: Any, size: int, dtype: np.dtype[Any]) -> Array:
        """How much each element of an axis counts for each bin, [bins, size]."""
        bins, count = taps[0][0].shape
        check_size("RoiAlign", (bins, size), dtype.itemsize)
        result = np.zeros((bins, size), np.float64)
        for index, weight in taps:
            np.add.at(result, (np.arange(bins)[:, None], index), weight)
        return np.asarray(result / count, dtype)

    def _greatest(self, image: Array, rows: Any, columns: Any) -> Array:
        samples = (image.shape[0], *rows[0][0].shape, *columns[0][0].shape)
        check_size("RoiAlign", samples, image.itemsize)
        parts = []
        for (row, down), (column, across) in product(rows, columns):
            picked = image[:, row[:, :, None, None], column]
            parts.append(picked * (down[:, :, None, None] * across).astype(image.dtype))
        return np.asarray(np.max(np.stack([part.max(axis=(2, 4)) for part in parts]), axis=0))


def _check_batch(op_type: str, indices: Array, batch: int) -> None:
    if indices.size and not (indices.min() >= 0 and indices.max() < batch):
        raise ExecutionError(
            f"{op_type}: batch indices lie in [{indices.min()}, {indices.max()}], "
            f"X holds {batch} images"
        )


class MaxRoiPool(Operator, since=22):
    """The greatest element in each of `pooled_shape` bins of each region; 0 in an empty bin."""

    X = Input("T", "[N, C, H, W].")
    rois = Input("T", "[regions, 5]: batch index, x1, y1, x2, y2.")
    Y = Output("T", "[regions, C, pooled_shape].")
    T = types.FLOATS_BFLOAT16
    pooled_shape: tuple[int, ...]
    spatial_scale: float = 1.0
    history = (past(1, T=types.FLOATS),)

    def infer(self, X: Fact, rois: Fact) -> Fact:
        if len(self.pooled_shape) != 2 or min(self.pooled_shape) < 1:
            raise InferenceError(
                f"MaxRoiPool: pooled_shape is {list(self.pooled_shape)}, "
                "it must be a height and a width, at least 1"
            )
        x, r = of_rank("MaxRoiPool", "X", X, 4), of_rank("MaxRoiPool", "rois", rois, 2)
        joined("MaxRoiPool", "the columns of rois and 5", r[1], 5)
        return Fact.tensor(X.dtype, (r[0], x[1], *self.pooled_shape))

    def reference(self, X: Array, rois: Array) -> Array:
        shape = self.infer(Fact.constant(X), Fact.constant(rois)).shape
        assert shape is not None
        sizes = tuple(int(size) for size in shape)  # type: ignore[arg-type]
        wide = widen(X)
        check_size("MaxRoiPool", sizes, wide.itemsize)
        regions = widen(rois)
        if not np.isfinite(regions).all():
            raise ExecutionError("MaxRoiPool: rois hold numbers that are not finite")
        images = np.clip(regions[:, 0], -1, X.shape[0]).astype(np.int64)
        _check_batch("MaxRoiPool", images, X.shape[0])
        with np.errstate(all="ignore"):
            scaled = steady(regions[:, 1:] * regions.dtype.type(self.spatial_scale))
        # halves away from zero
        corners = (np.sign(scaled) * np.floor(np.abs(scaled) + 0.5)).astype(np.int64)
        result = np.zeros(sizes, wide.dtype)
        if not result.size:
            return result.astype(X.dtype)
        for index, (x1, y1, x2, y2) in enumerate(corners):
            down = self._bins(int(y1), int(y2), sizes[2], X.shape[2])
            across = self._bins(int(x1), int(x2), sizes[3], X.shape[3])
            image = wide[images[index]]
            for i, (top, bottom) in enumerate(down):
                if top >= bottom:
                    continue
                row = image[:, top:bottom].max(axis=1)
                for j, (left, right) in enumerate(across):
                    if left < right:
                        result[index, :, i, j] = row[:, left:right].max(axis=1)
        return result.astype(X.dtype)

    def _bins(self, start: int, stop: int, bins: int, size: int) -> list[tuple[int, int]]:
        """First and past-the-last element of each bin, within the axis."""
        index = np.arange(bins + 1).astype(np.float32)
        edges = index * np.float32(max(stop - start + 1, 1) / bins)
        low = np.clip(np.floor(edges[:-1]).astype(np.float64) + start, 0, size)
        high = np.clip(np.ceil(edges[1:]).astype(np.float64) + start, 0, size)
        return [(int(a), int(b)) for a, b in zip(low, high, strict=True)]
