"""Resize and Upsample: separable interpolation, one axis at a time."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from sardonyx.bridge.torch.registry import implementation
from sardonyx.bridge.torch.sizes import ints, numbers, single
from sardonyx.errors import ExecutionError

if TYPE_CHECKING:
    from collections.abc import Sequence


class _Line(NamedTuple):
    """One axis: its sizes, output over input size, and how wide it is exactly after it."""

    size: Any
    output: Any
    scale: Any
    length: Any
    start: float = 0.0
    end: float = 1.0

    def places(self, mode: str, device: Any) -> Tensor:
        """Where each output element lies on the input's axis, in FLOAT's precision."""
        x = torch.arange(self.output, dtype=torch.float64, device=device)
        if mode == "pytorch_half_pixel" and self.output <= 1:
            return torch.zeros_like(x)
        middles = _rounded((x + 0.5) / self.scale)
        if mode in {"half_pixel", "pytorch_half_pixel"}:
            return _rounded(middles - 0.5)
        if mode == "half_pixel_symmetric":
            return _rounded(self.size / 2 * (1 - self.output / self.length) + middles - 0.5)
        if mode == "align_corners":
            step = (self.size - 1) / (self.length - 1) if self.length != 1 else 0
            return _rounded(x * step)
        if mode == "asymmetric":
            return _rounded(x / self.scale)
        if mode == "tf_half_pixel_for_nn":
            return middles
        if self.output > 1:
            span = (self.end - self.start) * (self.size - 1)
            return _rounded(self.start * (self.size - 1) + x * (span / (self.output - 1)))
        return _rounded(x + 0.5 * (self.start + self.end) * (self.size - 1))


def _rounded(x: Tensor) -> Tensor:
    return x.float().double()


def _scaled(size: Any, scale: float) -> Any:
    exact = Fraction(scale)
    if exact.denominator <= 64:
        return size * exact.numerator // exact.denominator
    return torch.sym_int(math.floor(single(size * single(scale))))


@implementation("Resize", host=("roi", "scales", "sizes"))
def resize(
    x: Tensor,
    roi: Any = None,
    scales: Any = None,
    sizes: Any = None,
    *,
    antialias: int = 0,
    axes: Sequence[int] | None = None,
    coordinate_transformation_mode: str = "half_pixel",
    cubic_coeff_a: float = -0.75,
    exclude_outside: int = 0,
    extrapolation_value: float = 0.0,
    keep_aspect_ratio_policy: str = "stretch",
    mode: str = "nearest",
    nearest_mode: str = "round_prefer_floor",
    version: int = 19,
) -> Tensor:
    coordinates = coordinate_transformation_mode if version >= 11 else "asymmetric"
    rounding = nearest_mode if version >= 11 else "floor"
    places = list(range(x.dim())) if axes is None else [axis % x.dim() for axis in axes]
    starts, ends = [0.0] * len(places), [1.0] * len(places)
    if coordinates == "tf_crop_and_resize":
        region = [float(value) for value in numbers(roi)]
        starts, ends = region[: len(places)], region[len(places) :]
    wanted = () if sizes is None else ints(sizes)
    lines = {}
    old = [x.shape[axis] for axis in places]
    if wanted:
        outputs = _fitted(old, wanted, keep_aspect_ratio_policy)
        for axis, size, output, start, end in zip(places, old, outputs, starts, ends, strict=True):
            lines[axis] = _Line(size, output, output / size, output, start, end)
    else:
        factors = [float(scale) for scale in numbers(scales)]
        for axis, size, scale, start, end in zip(places, old, factors, starts, ends, strict=True):
            output = _scaled(size, scale)
            if coordinates == "tf_crop_and_resize":
                output = max(0, math.floor(size * (end - start) * scale))
            lines[axis] = _Line(size, output, scale, size * scale or 1.0, start, end)
    found = None
    if not (antialias or exclude_outside) and cubic_coeff_a == -0.75:
        found = _known(x, lines, mode, coordinates, rounding)
    if found is not None:
        return found
    taps = _Taps(mode, cubic_coeff_a, bool(exclude_outside), bool(antialias), rounding)
    return _resampled(x, lines, taps, coordinates, extrapolation_value)


class _Taps(NamedTuple):
    """How values between elements are made."""

    mode: str
    cubic: float = -0.75
    exclude_outside: bool = False
    antialias: bool = False
    rounding: str = "floor"


def _fitted(old: Sequence[Any], wanted: Sequence[Any], policy: str) -> list[Any]:
    if policy == "stretch":
        return list(wanted)
    ratios = [Fraction(int(new), int(size)) for new, size in zip(wanted, old, strict=True)]
    ratio = min(ratios) if policy == "not_larger" else max(ratios)
    return [math.floor(ratio * int(size) + Fraction(1, 2)) for size in old]


_MODES = {("linear", 1): "linear", ("linear", 2): "bilinear", ("linear", 3): "trilinear"}


def _known(
    x: Tensor, lines: dict[int, _Line], mode: str, coordinates: str, rounding: str
) -> Tensor | None:
    """By PyTorch's own function, where it computes the same."""
    rank = x.dim() - 2
    if rank not in {1, 2, 3} or not x.dtype.is_floating_point:
        return None
    for axis, line in lines.items():
        is_exact = _is(line.length, line.output)
        if axis < 2 and not _is(line.output, line.size):
            return None
        if not is_exact or _is(line.output, 0):
            return None
    target = [lines[axis].output if axis in lines else x.shape[axis] for axis in range(2, x.dim())]
    if mode == "nearest":
        if coordinates != "asymmetric" or rounding != "floor":
            return None
        return functional.interpolate(x, target, mode="nearest")
    if coordinates not in {"half_pixel", "pytorch_half_pixel", "align_corners"}:
        return None
    if coordinates != "half_pixel" and any(_is(size, 1) for size in target):
        return None
    name = _MODES.get((mode, rank), "bicubic" if mode == "cubic" and rank == 2 else None)
    if name is None:
        return None
    corners = coordinates == "align_corners"
    return functional.interpolate(x, target, mode=name, align_corners=corners)


def _is(a: Any, b: Any) -> bool:
    return bool(a == b)


def _resampled(
    x: Tensor, lines: dict[int, _Line], taps: _Taps, coordinates: str, extrapolation: float
) -> Tensor:
    dtype = x.dtype
    if taps.mode != "nearest":
        x = x.float() if dtype.itemsize < 3 else x if dtype.is_floating_point else x.double()
    crops = coordinates == "tf_crop_and_resize"
    outside: list[tuple[int, Tensor]] = []
    for axis, line in lines.items():
        is_same = _is(line.output, line.size) and _is(line.scale, 1)
        if is_same and not crops and coordinates != "tf_half_pixel_for_nn":
            continue
        place = line.places(coordinates, x.device)
        if crops:
            outside.append((axis, (place < 0) | (place > line.size - 1)))
        if taps.mode == "nearest":
            x = x.index_select(axis, _nearest(place, line.size, taps.rounding))
        else:
            x = _interpolated(x, axis, place, line, taps)
    if not dtype.is_floating_point and x.dtype != dtype:
        limits = torch.iinfo(dtype)
        x = x.trunc().clamp(limits.min, limits.max)
    x = x.to(dtype)
    for axis, mask in outside:
        shape = [1] * x.dim()
        shape[axis] = -1
        x = x.masked_fill(mask.reshape(shape), extrapolation)
    return x


def _nearest(place: Tensor, size: Any, rounding: str) -> Tensor:
    if rounding == "round_prefer_floor":
        index = torch.ceil(place - 0.5)
    elif rounding == "round_prefer_ceil":
        index = torch.floor(place + 0.5)
    elif rounding == "floor":
        index = torch.floor(place)
    elif rounding == "ceil":
        index = torch.ceil(place)
    else:
        raise ExecutionError(f"Resize has no nearest_mode {rounding!r}")
    return index.clamp(0, size - 1).long()


def _interpolated(x: Tensor, axis: int, place: Tensor, line: _Line, taps: _Taps) -> Tensor:
    radius = 1 if taps.mode == "linear" else 2
    stretch = min(line.scale, 1.0) if taps.antialias else 1.0
    below = math.floor(-radius / stretch) + 1
    steps = torch.arange(below, 2 - below, device=x.device)
    index = place.floor().unsqueeze(1) + steps
    distance = ((index - place.unsqueeze(1)) * stretch).abs()
    if taps.mode == "linear":
        weights = (1 - distance).clamp(min=0)
    else:
        a = taps.cubic
        near = ((a + 2) * distance - (a + 3)) * distance * distance + 1
        far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
        zero = torch.zeros_like(far)
        weights = torch.where(distance <= 1, near, torch.where(distance < 2, far, zero))
    if taps.exclude_outside:
        inside = (index >= 0) & (index < line.size)
        weights = torch.where(inside, weights, torch.zeros_like(weights))
    if taps.exclude_outside or taps.antialias:
        total = weights.sum(1, keepdim=True)
        weights = weights / torch.where(total == 0, torch.ones_like(total), total)
    places = index.clamp(0, line.size - 1).long()
    shape = [*x.shape[:axis], *places.shape, *x.shape[axis + 1 :]]
    picked = x.index_select(axis, places.reshape(-1)).reshape(shape)
    spread = weights.to(x.dtype).reshape((*places.shape, *(1,) * (x.dim() - axis - 1)))
    return (picked * spread).sum(axis + 1)


@implementation("Upsample", host=("scales",))
def upsample(
    x: Tensor,
    scales: Any = None,
    *,
    mode: str = "nearest",
    height_scale: float = 1.0,
    width_scale: float = 1.0,
) -> Tensor:
    given = (1.0, 1.0, height_scale, width_scale) if scales is None else numbers(scales)
    return resize(x, None, given, mode=mode.removeprefix("bi"), version=10)
