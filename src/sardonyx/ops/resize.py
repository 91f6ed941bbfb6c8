"""Resize and Upsample: separable interpolation, one axis at a time."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from sardonyx.dims import Dim
from sardonyx.dtypes import BFLOAT16, BOOL, DOUBLE, FLOAT, FLOAT16, INT32, INT64
from sardonyx.errors import InferenceError, UnsupportedError, quote
from sardonyx.ir.node import AttributeType
from sardonyx.ops import types
from sardonyx.ops.fact import Fact
from sardonyx.ops.moving import moved_back
from sardonyx.ops.numeric import widen
from sardonyx.ops.operator import Operator
from sardonyx.ops.resize_gradients import changing, interpolated_back, row_scale
from sardonyx.ops.schema import ABSENT, REQUIRED, Input, Output, attribute, past, was_attribute
from sardonyx.ops.windows import check_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sardonyx.ir.tensor import Array
    from sardonyx.ir.types import DimLike, Shape
    from sardonyx.ir.value import Value
    from sardonyx.ops.operator import Values
    from sardonyx.ops.writer import Writer

_MODES = ("nearest", "linear", "cubic")
_COORDINATES = (
    "half_pixel",
    "half_pixel_symmetric",
    "pytorch_half_pixel",
    "align_corners",
    "asymmetric",
    "tf_crop_and_resize",
    "tf_half_pixel_for_nn",
)
_ROUNDINGS = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
_POLICIES = ("stretch", "not_larger", "not_smaller")


@dataclass(frozen=True, slots=True)
class _Sampling:
    """How values between elements are made; the attributes of the newest Resize."""

    mode: str
    coordinates: str
    nearest: str = "floor"
    cubic: float = -0.75
    exclude_outside: bool = False
    antialias: bool = False


@dataclass(frozen=True, slots=True)
class _Line:
    """One axis: `scale` is output over input size, exactly `length` elements wide after it."""

    size: int
    output: int
    scale: float
    length: float
    start: float = 0.0
    end: float = 1.0

    def coordinates(self, mode: str) -> Array:
        """Where each output element lies on the input's axis, in float32's precision."""
        x = np.arange(self.output, dtype=np.float64)
        if mode == "pytorch_half_pixel" and self.output <= 1:
            return np.zeros(self.output)
        if mode in {"half_pixel", "pytorch_half_pixel"}:
            return _single(self._middles() - 0.5)
        if mode == "half_pixel_symmetric":
            offset = self.size / 2 * (1 - self.output / self.length)
            return _single(offset + self._middles() - 0.5)
        if mode == "align_corners":
            return _single(x * ((self.size - 1) / (self.length - 1)) if self.length != 1 else x * 0)
        if mode == "asymmetric":
            return _single(x / self.scale)
        if mode == "tf_half_pixel_for_nn":
            return self._middles()
        if self.output > 1:
            span = (self.end - self.start) * (self.size - 1)
            return _single(self.start * (self.size - 1) + x * (span / (self.output - 1)))
        return _single(x + 0.5 * (self.start + self.end) * (self.size - 1))

    def _middles(self) -> Array:
        return _single((np.arange(self.output, dtype=np.float64) + 0.5) / self.scale)


def _single(place: Array) -> Array:
    """`place` rounded to float32: a scale is a FLOAT, and 3 / 0.6 is to be 5, not 4.9999998."""
    return place.astype(np.float32).astype(np.float64)


def _nearest(place: Array, size: int, rounding: str) -> Array:
    if rounding == "round_prefer_floor":
        index = np.ceil(place - 0.5)
    elif rounding == "round_prefer_ceil":
        index = np.floor(place + 0.5)
    else:
        index = np.floor(place) if rounding == "floor" else np.ceil(place)
    return np.asarray(np.clip(np.nan_to_num(index), 0, size - 1), np.int64)


def _keys(distance: Array, a: float) -> Array:
    """The cubic convolution kernel (Keys, 1981, equation 4)."""
    d = np.abs(distance)
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return np.where(d <= 1, near, np.where(d < 2, far, 0.0))


def _taps(place: Array, line: _Line, sampling: _Sampling) -> tuple[Array, Array]:
    """For each output element its input elements and their weights, [output, taps] each."""
    radius = 1 if sampling.mode == "linear" else 2
    stretch = min(line.scale, 1.0) if sampling.antialias else 1.0
    place = np.nan_to_num(place)
    below = math.floor(-radius / stretch) + 1
    count = 2 * (1 - below)
    base = np.floor(place)
    check_bytes((len(place), count), 8)
    index = base[:, None] + np.arange(below, below + count)
    distance = (index - place[:, None]) * stretch
    if sampling.mode == "linear":
        weights = np.maximum(1 - np.abs(distance), 0)
    else:
        weights = _keys(distance, sampling.cubic)
    if sampling.exclude_outside:
        weights = np.where((index >= 0) & (index < line.size), weights, 0.0)
    if sampling.exclude_outside or sampling.antialias:
        total = weights.sum(1, keepdims=True)
        weights = np.divide(weights, total, out=np.zeros_like(weights), where=total != 0)
    return np.clip(index, 0, line.size - 1).astype(np.int64), weights


def _interpolate(array: Array, position: int, index: Array, weights: Array) -> Array:
    """Weighted sums of elements along dimension `position`."""
    shape = list(array.shape)
    shape[position] = len(index)
    check_bytes(shape, array.itemsize)
    weights = weights.astype(array.real.dtype)
    spread = (-1, *(1,) * (array.ndim - position - 1))
    if index.shape[1] <= len(index):
        result = np.zeros(shape, array.dtype)
        for tap in range(index.shape[1]):
            if weights[:, tap].any():
                part = np.take(array, index[:, tap], axis=position)
                result += part * weights[:, tap].reshape(spread)
        return result
    result = np.empty(shape, array.dtype)
    moved, into = np.moveaxis(array, position, -1), np.moveaxis(result, position, -1)
    for output in range(len(index)):
        into[..., output] = np.take(moved, index[output], axis=-1) @ weights[output]
    return result


def _resample(
    X: Array, lines: dict[int, _Line], sampling: _Sampling, extrapolation: float
) -> Array:
    shape = [lines[axis].output if axis in lines else size for axis, size in enumerate(X.shape)]
    check_bytes(shape, X.itemsize)
    if not X.size:
        if math.prod(shape):
            raise InferenceError(f"Resize: an empty input of shape {X.shape} cannot grow")
        return np.empty(shape, X.dtype)
    if 0 in shape:
        return np.empty(shape, X.dtype)
    result = X
    if sampling.mode != "nearest":
        result = _computable(X)
    with np.errstate(all="ignore"):
        for axis, line in lines.items():
            place = line.coordinates(sampling.coordinates)
            if sampling.mode == "nearest":
                index = _nearest(place, line.size, sampling.nearest)
                result = np.take(result, index, axis=axis)
            elif line.output != line.size or line.scale != 1 or not _is_identity(place):
                result = _interpolate(result, axis, *_taps(place, line, sampling))
        result = _restored(result, X.dtype)
        if sampling.coordinates == "tf_crop_and_resize":
            result = _extrapolated(result, lines, extrapolation)
    return result


def _is_identity(place: Array) -> bool:
    return bool((place == np.arange(len(place))).all())


def _computable(X: Array) -> Array:
    if X.dtype == object:
        raise InferenceError("Resize: strings can only be resized with mode 'nearest'")
    wide = widen(X)
    if wide.dtype.kind in "iub":
        return wide.astype(np.float32 if wide.itemsize < 3 else np.float64)
    return wide


def _restored(values: Array, dtype: np.dtype[Any]) -> Array:
    """`values` in the input's type: integers truncate and saturate."""
    if values.dtype == dtype:
        return values
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        whole = np.trunc(np.nan_to_num(values))
        result = np.clip(whole, float(limits.min), float(limits.max)).astype(dtype)
        # float64 has no 2^63 - 1: its nearest value would wrap
        return np.where(whole >= float(limits.max), limits.max, result).astype(dtype)
    return values.astype(dtype)


def _extrapolated(result: Array, lines: dict[int, _Line], value: float) -> Array:
    outside = np.zeros((1,) * result.ndim, bool)
    for axis, line in lines.items():
        place = line.coordinates("tf_crop_and_resize")
        beyond = (place < 0) | (place > line.size - 1)
        outside = outside | beyond.reshape(-1, *(1,) * (result.ndim - axis - 1))
    if not outside.any():
        return result
    fill = str(value) if result.dtype == object else np.float32(value).astype(result.dtype)
    return np.asarray(np.where(outside, fill, result), result.dtype)


def _scaled_size(size: int, scale: float) -> int:
    """floor(size * scale) for a FLOAT scale: exactly where it has few bits, else in FLOAT."""
    exact = Fraction(scale)
    if exact.denominator <= 64:
        return int(size * exact.numerator // exact.denominator)
    return int(np.floor(np.float32(size) * np.float32(scale)))


def _scaled_dim(size: DimLike, scale: float) -> DimLike:
    if isinstance(size, Dim):
        exact = Fraction(scale)
        if exact.denominator > 64:
            return None
        return size * exact.numerator // exact.denominator
    return None if size is None else _scaled_size(size, scale)


def _checked_scales(op_type: str, scales: Array, count: int, least: float = 0) -> list[float]:
    values = [float(scale) for scale in scales.reshape(-1)]
    if len(values) != count:
        raise InferenceError(f"{op_type}: {len(values)} scales given, {count} are needed")
    for value in values:
        if not (0 < value < 2**31 and value >= least):
            raise InferenceError(
                f"{op_type}: scale {value} must be a number "
                + (f"of at least {least:g}" if least else "above 0")
            )
    return values


_RESIZE_TYPES = types.ALL_BFLOAT16


class Resize(Operator, since=19):
    """X with the sizes of some axes changed, by interpolation between its elements.

    Exactly one of `scales` and `sizes` counts; an empty one is as if omitted. Opset 10 has
    nearest (rounding down) and linear interpolation of asymmetric coordinates. Integer types
    are computed in floating point and truncated.
    """

    X = Input("T1")
    roi = Input("T2", "[start..., end...] for tf_crop_and_resize.", optional=True)
    scales = Input((FLOAT,), "One per axis.", optional=True)
    sizes = Input((INT64,), "One per axis.", optional=True)
    Y = Output("T1")
    T, T1, T2 = types.ALL_BEFORE_BFLOAT16, _RESIZE_TYPES, (FLOAT16, FLOAT, DOUBLE)
    antialias: int = attribute(0, since=18)
    axes: tuple[int, ...] | None = attribute(None, since=18)
    coordinate_transformation_mode: str = attribute("half_pixel", since=11)
    cubic_coeff_a: float = attribute(-0.75, since=11)
    exclude_outside: int = attribute(0, since=11)
    extrapolation_value: float = attribute(0.0, since=11)
    keep_aspect_ratio_policy: str = attribute("stretch", since=18)
    mode: str = "nearest"
    nearest_mode: str = attribute("round_prefer_floor", since=11)
    history = (
        past(18),
        past(13),
        past(
            11,
            T1=types.without(_RESIZE_TYPES, BFLOAT16),
            roi=Input("T2"),
            scales=Input((FLOAT,)),
        ),
        past(10, X=Input("T"), Y=Output("T"), roi=ABSENT, sizes=ABSENT),
    )

    def infer(
        self,
        X: Fact,
        roi: Fact | None = None,
        scales: Fact | None = None,
        sizes: Fact | None = None,
    ) -> Fact:
        self._check()
        if X.shape is None:
            return Fact.tensor(X.dtype, self._rank_from(scales, sizes))
        axes = self._axes(len(X.shape))
        if _is_given(sizes):
            wanted = None if sizes is None else sizes.dims_value()
            if wanted is None:
                changed: Sequence[DimLike] = [None] * len(axes)
            else:
                changed = self._fitted([X.shape[axis] for axis in axes], wanted)
        else:
            value = None if scales is None else scales.constant_value()
            changed = [None] * len(axes)
            if value is not None and value.size:
                factors = _checked_scales(self.op_type, value, len(axes))
                if self.coordinate_transformation_mode != "tf_crop_and_resize" or roi is None:
                    pairs = zip(axes, factors, strict=True)
                    changed = [_scaled_dim(X.shape[axis], factor) for axis, factor in pairs]
        shape = list(X.shape)
        for axis, dim in zip(axes, changed, strict=True):
            shape[axis] = dim
        return Fact.tensor(X.dtype, shape)

    def _rank_from(self, scales: Fact | None, sizes: Fact | None) -> Shape | None:
        if self.axes is not None:
            return None
        for fact in (sizes, scales):
            if fact is not None and fact.shape and isinstance(fact.shape[0], int) and fact.shape[0]:
                return (None,) * fact.shape[0]
        return None

    def _check(self) -> None:
        for name, value, known in (
            ("mode", self.mode, _MODES),
            ("coordinate_transformation_mode", self.coordinate_transformation_mode, _COORDINATES),
            ("nearest_mode", self.nearest_mode, _ROUNDINGS),
            ("keep_aspect_ratio_policy", self.keep_aspect_ratio_policy, _POLICIES),
        ):
            if value not in known:
                raise InferenceError(
                    f"Resize: {name} {quote(value)} is not one of {', '.join(known)}"
                )

    def _axes(self, rank: int) -> list[int]:
        if self.axes is None:
            return list(range(rank))
        for axis in self.axes:
            if not -rank <= axis < rank:
                raise InferenceError(
                    f"Resize requires -r <= axis < r, got {axis} in axes for data of rank {rank}"
                )
        axes = [axis % rank for axis in self.axes]
        if len(set(axes)) < len(axes):
            raise InferenceError(f"Resize: an axis occurs twice in axes {list(self.axes)}")
        return axes

    def _fitted(self, old: Sequence[DimLike], wanted: Sequence[DimLike]) -> list[DimLike]:
        """The sizes after the aspect ratio's policy."""
        if len(wanted) != len(old):
            raise InferenceError(f"Resize: {len(wanted)} sizes given, {len(old)} are needed")
        for size in wanted:
            if isinstance(size, int) and size < 0:
                raise InferenceError(f"Resize: size {size} is negative")
        if self.keep_aspect_ratio_policy == "stretch":
            return list(wanted)
        ratios = [
            Fraction(new, size)
            for new, size in zip(wanted, old, strict=True)
            if isinstance(new, int) and isinstance(size, int) and size
        ]
        if len(ratios) < len(old):
            return [None] * len(old)
        ratio = min(ratios) if self.keep_aspect_ratio_policy == "not_larger" else max(ratios)
        return [math.floor(ratio * size + Fraction(1, 2)) for size in old if isinstance(size, int)]

    def reference(
        self,
        X: Array,
        roi: Array | None = None,
        scales: Array | None = None,
        sizes: Array | None = None,
    ) -> Array:
        self._check()
        axes = self._axes(X.ndim)
        coordinates = self.coordinate_transformation_mode if self.version >= 11 else "asymmetric"
        crops = coordinates == "tf_crop_and_resize"
        starts, ends = self._regions(roi, len(axes)) if crops else ([0.0], [1.0])
        lines = {}
        if sizes is not None and sizes.size:
            if scales is not None and scales.size:
                raise InferenceError("Resize: scales and sizes are both given, one must be empty")
            old = [X.shape[axis] for axis in axes]
            outputs = self._fitted(old, [int(size) for size in sizes.reshape(-1)])
            factors = [self._factor(old, outputs, index) for index in range(len(axes))]
        elif scales is not None and scales.size:
            factors = _checked_scales(self.op_type, scales, len(axes))
            outputs = [
                _scaled_size(X.shape[axis], factor)
                for axis, factor in zip(axes, factors, strict=True)
            ]
            if crops:
                outputs = [
                    max(0, math.floor(X.shape[axis] * (end - start) * factor))
                    for axis, factor, start, end in zip(axes, factors, starts, ends, strict=True)
                ]
        else:
            raise InferenceError("Resize: neither scales nor sizes are given")
        for index, axis in enumerate(axes):
            output, factor = outputs[index], factors[index]
            assert isinstance(output, int)
            length = output if sizes is not None and sizes.size else X.shape[axis] * factor
            start, end = (starts[index], ends[index]) if crops else (0.0, 1.0)
            lines[axis] = _Line(X.shape[axis], output, factor, length or 1.0, start, end)
        sampling = _Sampling(
            self.mode,
            coordinates,
            self.nearest_mode if self.version >= 11 else "floor",
            self.cubic_coeff_a,
            bool(self.exclude_outside),
            bool(self.antialias),
        )
        return _resample(X, _only_changing(lines, sampling), sampling, self.extrapolation_value)

    def _factor(self, old: Sequence[int], new: Sequence[DimLike], index: int) -> float:
        size, output = old[index], new[index]
        assert isinstance(output, int)
        return output / size if size and output else 1.0

    def _regions(self, roi: Array | None, count: int) -> tuple[list[float], list[float]]:
        if roi is None or roi.size != 2 * count:
            raise InferenceError(f"Resize: tf_crop_and_resize needs a roi of {2 * count} values")
        values = [float(value) for value in roi.reshape(-1)]
        if not all(abs(value) < 2**31 for value in values):
            raise InferenceError("Resize: roi holds values that are not finite")
        return values[:count], values[count:]

    def gradient(self, op: Writer, grads: Values, inputs: Values, outputs: Values) -> Values:
        (dy,), (x, roi, scales, sizes) = grads, inputs
        if self.coordinate_transformation_mode == "tf_crop_and_resize":
            raise UnsupportedError("Resize of regions has no gradient rule")
        if self.mode != "nearest":
            return [self._interpolated_back(op, dy, x, scales, sizes), None, None, None]
        options = {
            "axes": self.axes,
            "coordinate_transformation_mode": self.coordinate_transformation_mode,
            "keep_aspect_ratio_policy": self.keep_aspect_ratio_policy,
            "nearest_mode": self.nearest_mode,
        }

        def pick(places: Value) -> Value:
            result: Value = op.Resize(places, roi, scales, sizes, mode="nearest", **options)
            return result

        return [moved_back(op, dy, x, pick), None, None, None]

    def _interpolated_back(
        self, op: Writer, dy: Value, x: Value, scales: Any, sizes: Value | None
    ) -> Value:
        by_sizes = sizes is not None and op.known_ints(op.size(sizes)) != [0]
        if by_sizes and self.keep_aspect_ratio_policy != "stretch":
            raise UnsupportedError(
                "Resize that keeps the aspect ratio has no gradient rule", hint="give scales"
            )
        options = {
            "mode": self.mode,
            "antialias": self.antialias,
            "coordinate_transformation_mode": self.coordinate_transformation_mode,
            "cubic_coeff_a": self.cubic_coeff_a,
            "exclude_outside": self.exclude_outside,
        }
        axes = self._axes(op.rank(x))
        used = changing(op, None if by_sizes else scales, len(axes))

        def matrix_of(place: int, identity: Value) -> Value:
            index = used[place]
            target: list[Any] = [None, None]
            if by_sizes:
                target[1] = op.sizes(op.size(dy, axes[index]), op.size(x, axes[index]))
            else:
                target[0] = row_scale(op, scales, index)
            result: Value = op.Resize(identity, None, *target, **options)
            return result

        return interpolated_back(op, dy, x, [axes[index] for index in used], matrix_of)


def _only_changing(lines: dict[int, _Line], sampling: _Sampling) -> dict[int, _Line]:
    if sampling.coordinates in {"tf_crop_and_resize", "tf_half_pixel_for_nn"}:
        return lines
    return {
        axis: line for axis, line in lines.items() if line.output != line.size or line.scale != 1
    }


def _is_given(fact: Fact | None) -> bool:
    return fact is not None and fact.shape != (0,)


class Upsample(Operator, since=10):
    """X enlarged: nearest (rounding down) or linear, with asymmetric coordinates."""

    X = Input("T")
    scales = Input((FLOAT,), "One per axis, each at least 1.")
    Y = Output("T")
    T = types.ALL_BEFORE_BFLOAT16
    mode: str = "nearest"
    height_scale: float = attribute(before=7)
    width_scale: float = attribute(before=7)
    deprecated = True
    history = (
        past(9, deprecated=False),
        past(7, scales=was_attribute(AttributeType.FLOATS, REQUIRED)),
        past(1, scales=ABSENT, T=(BOOL, INT32, INT64, FLOAT16, FLOAT, DOUBLE)),
    )

    def infer(self, X: Fact, scales: Fact | None = None) -> Fact:
        known = ("nearest", "linear") if self.version >= 7 else ("nearest", "bilinear")
        if self.mode not in known:
            raise InferenceError(
                f"Upsample: mode {quote(self.mode)} is not one of {', '.join(known)}"
            )
        if X.shape is None:
            return Fact.tensor(X.dtype)
        value = self._scales(len(X.shape), None if scales is None else scales.constant_value())
        if value is None:
            return Fact.tensor(X.dtype, (None,) * len(X.shape))
        return Fact.tensor(X.dtype, map(_scaled_dim, X.shape, value))

    def _scales(self, rank: int, scales: Array | None) -> list[float] | None:
        if self.version < 7:
            if rank != 4:
                raise InferenceError(f"Upsample-1 takes [N, C, H, W], got rank {rank}")
            scales = np.array([1, 1, self.height_scale, self.width_scale], np.float32)
        return None if scales is None else _checked_scales(self.op_type, scales, rank, 1)

    def reference(self, X: Array, scales: Array | None = None) -> Array:
        self.infer(Fact.constant(X), None if scales is None else Fact.constant(scales))
        factors = self._scales(X.ndim, scales)
        assert factors is not None
        sampling = _Sampling(self.mode.removeprefix("bi"), "asymmetric")
        lines = {
            axis: _Line(X.shape[axis], _scaled_size(X.shape[axis], factor), factor, 1.0)
            for axis, factor in enumerate(factors)
        }
        return _resample(X, _only_changing(lines, sampling), sampling, 0.0)

    def gradient(self, op: Writer, grads: Values, inputs: Values, outputs: Values) -> Values:
        (dy,), (x, scales) = grads, inputs
        if scales is None:
            raise UnsupportedError("Upsample-1 has no gradient rule", hint="convert the model")
        used = changing(op, scales, op.rank(x))

        def matrix_of(place: int, identity: Value) -> Value:
            pair = row_scale(op, scales, used[place])
            result: Value = op.Upsample(identity, pair, mode=self.mode)
            return result

        return [interpolated_back(op, dy, x, used, matrix_of), None]
