"""Resize and Upsample: the nearest element, or a weighted sum of neighbours along each axis.

Two neighbours along each axis are read at once. Of more, the weights follow from the sizes alone
and are kept, and the axes are resized one after the other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from sardonyx.dims import known_equal
from sardonyx.dtypes import BOOL, DOUBLE, FLOAT, INT64
from sardonyx.loops.expr import Axis, Expr, Ref, index, linear
from sardonyx.loops.nest import (
    COMPUTED_AS,
    Definition,
    Lowering,
    Nest,
    NotLowered,
    Pieces,
    Source,
    widened,
)
from sardonyx.loops.scalars import apply, cast, const, select, size
from sardonyx.lowering.movement import known_dims
from sardonyx.lowering.registry import rule
from sardonyx.lowering.support import may_be_zero, normal_axis, position

if TYPE_CHECKING:
    from sardonyx.dims import DimLike

_MIDDLES = {"half_pixel", "pytorch_half_pixel", "half_pixel_symmetric", "tf_half_pixel_for_nn"}
_ALWAYS = {"tf_half_pixel_for_nn", "tf_crop_and_resize"}
"""Coordinates by which an axis moves even where its size stays."""
_UNROLLED = 8
_MOST_TAPS = 256


def _d(value: float) -> Expr:
    return const(value, DOUBLE)


def _single(value: Expr) -> Expr:
    """`value` rounded to FLOAT, which coordinates are held in."""
    return cast(cast(value, FLOAT), DOUBLE)


@dataclass(frozen=True, slots=True)
class _Line:
    """One axis: its sizes, the scale where it is given as a number, and what part is looked at."""

    size: DimLike
    output: DimLike
    scale: float | None
    start: float = 0.0
    end: float = 1.0

    @property
    def is_same(self) -> bool:
        same = known_equal(self.size, self.output) is True
        return same and (self.scale is None or self.scale == 1)

    @property
    def whole(self) -> int:
        """The scale if it is a whole number that the output has exactly, else 0."""
        scale = self.scale
        if scale is None and isinstance(self.size, int) and isinstance(self.output, int):
            scale = self.output / self.size if self.size else None
        if scale is None or scale != int(scale):
            return 0
        return int(scale) if known_equal(self.size * int(scale), self.output) else 0

    def factor(self) -> Expr:
        """The output's size over the input's."""
        if self.scale is not None:
            return _d(self.scale)
        if isinstance(self.size, int) and isinstance(self.output, int):
            return _d(self.output / self.size if self.size and self.output else 1.0)
        ratio = apply("div", _real(self.output), _real(self.size))
        empty = apply("or", _is_zero(self.size), _is_zero(self.output))
        return select(empty, _d(1), ratio)

    def length(self) -> Expr:
        """The output's size before it was rounded to a whole number."""
        if self.scale is None:
            return _real(self.output)
        return apply("mul", _real(self.size), _d(self.scale))

    def coordinate(self, axis: Axis, mode: str) -> Expr:
        """Where an output element lies on the input's axis."""
        x = cast(index(axis), DOUBLE)
        middle = _single(apply("div", apply("add", x, _d(0.5)), self.factor()))
        if mode == "tf_half_pixel_for_nn":
            return middle
        if mode == "tf_crop_and_resize":
            return self.cropped(x)
        if mode == "asymmetric":
            return _single(apply("div", x, self.factor()))
        if mode == "align_corners":
            length = self.length()
            one = apply("eq", length, _d(1))
            steps = select(one, _d(1), apply("sub", length, _d(1)))
            slope = apply("div", _real(self.size - 1), steps)
            return _single(select(one, _d(0), apply("mul", x, slope)))
        if mode == "half_pixel_symmetric":
            share = apply("sub", _d(1), apply("div", _real(self.output), self.length()))
            offset = apply("mul", apply("mul", _real(self.size), _d(0.5)), share)
            return _single(apply("sub", apply("add", offset, middle), _d(0.5)))
        place = _single(apply("sub", middle, _d(0.5)))
        if mode == "pytorch_half_pixel":
            only = apply("le", size(self.output), const(1, INT64))
            return select(only, _d(0), place)
        return place

    def cropped(self, x: Expr) -> Expr:
        """Where an output element lies in the part between `start` and `end`."""
        most = _real(self.size - 1)
        steps = apply("max", _real(self.output - 1), _d(1))
        slope = apply("div", apply("mul", _d(self.end - self.start), most), steps)
        place = apply("add", apply("mul", _d(self.start), most), apply("mul", x, slope))
        middle = apply("add", x, apply("mul", _d(0.5 * (self.start + self.end)), most))
        only = apply("le", size(self.output), const(1, INT64))
        return _single(select(only, middle, place))

    def stretch(self) -> float:
        """How much denser the output lies, where that is known."""
        if self.scale is not None:
            return self.scale
        if isinstance(self.size, int) and isinstance(self.output, int):
            return self.output / self.size if self.size and self.output else 1.0
        raise NotLowered("Resize with antialias by a scale that data decides")

    def clamped(self, place: Expr) -> Expr:
        """A whole DOUBLE as an index inside the input."""
        whole = cast(place, INT64)
        most = size(self.size - 1)
        inside = apply("max", apply("min", whole, most), const(0, INT64))
        return position(inside, self.size) if may_be_zero(self.size) else inside


def _real(dim: DimLike) -> Expr:
    return _d(float(dim)) if isinstance(dim, int) else cast(size(dim), DOUBLE)


def _is_zero(dim: DimLike) -> Expr:
    return apply("eq", size(dim), const(0, INT64))


def _nearest(place: Expr, rounding: str) -> Expr:
    if rounding == "round_prefer_floor":
        return apply("ceil", apply("sub", place, _d(0.5)))
    if rounding == "round_prefer_ceil":
        return apply("floor", apply("add", place, _d(0.5)))
    return apply("floor" if rounding == "floor" else "ceil", place)


def _lines(op: Any, x: Source, shape: Any, scales: Source | None, sizes: Source | None) -> Any:
    axes = getattr(op, "axes", None)
    which = range(x.rank) if axes is None else [normal_axis(axis, x.rank) for axis in axes]
    given: list[float] | None = None
    if sizes is None or 0 in sizes.shape:
        if scales is None or scales.contents is None or scales.contents.dtype == object:
            raise NotLowered(f"{op.op_type}'s scales are decided by data")
        given = [float(scale) for scale in scales.contents.reshape(-1)]
    else:
        known_dims(sizes, f"{op.op_type}'s sizes")
    return {
        axis: _Line(x.shape[axis], shape[axis], None if given is None else given[number])
        for number, axis in enumerate(which)
    }


@dataclass(frozen=True, slots=True)
class _Filter:
    """Which neighbours count, and how much."""

    is_cubic: bool
    slope: float
    coordinates: str
    antialias: bool
    exclude_outside: bool

    def weight(self, distance: Expr) -> Expr:
        """That of a neighbour (R. Keys, 1981, equation 4, for a cubic one)."""
        d = apply("abs", distance)
        if not self.is_cubic:
            return apply("max", apply("sub", _d(1), d), _d(0))
        a = self.slope
        near = apply("sub", apply("mul", _d(a + 2), d), _d(a + 3))
        near = apply("add", apply("mul", apply("mul", near, d), d), _d(1))
        far = apply("sub", apply("mul", _d(a), d), _d(5 * a))
        far = apply("add", apply("mul", far, d), _d(8 * a))
        far = apply("sub", apply("mul", far, d), _d(4 * a))
        far = select(apply("lt", d, _d(2)), far, _d(0))
        return select(apply("le", d, _d(1)), near, far)

    def resized(self, k: Lowering, x: Source, along: int, line: _Line, kind: Any) -> Nest:
        """`x` with one axis resized, in `kind`."""
        stretch = min(line.stretch(), 1.0) if self.antialias else 1.0
        below = math.floor(-(2 if self.is_cubic else 1) / stretch) + 1
        taps = 2 * (1 - below)
        if taps > _MOST_TAPS:
            raise NotLowered(f"Resize of {taps} neighbours")

        def weight(tap: Axis, place: Axis) -> Expr:
            centre = line.coordinate(place, self.coordinates)
            where = apply("add", apply("floor", centre), cast(index(tap) + below, DOUBLE))
            distance = apply("mul", apply("sub", where, centre), _d(stretch))
            found = self.weight(distance)
            if self.exclude_outside:
                inside = apply("le", _d(0), where)
                inside = apply("and", inside, apply("lt", where, _real(line.size)))
                found = select(inside, found, _d(0))
            return found

        grid = (taps, line.output)
        if self.exclude_outside or self.antialias:
            raw = k.define("raw weights", k.compute(grid, DOUBLE, weight))
            weights = k.define("weights", _shares(k, raw, kind))
        else:
            weights = k.define("weights", k.compute(grid, kind, weight))

        def first(place: Axis) -> Expr:
            return cast(apply("floor", line.coordinate(place, self.coordinates)), INT64)

        starts = k.define("starts", k.compute((line.output,), INT64, first))

        def part(axes: tuple[Axis, ...], tap: Any) -> Expr:
            where: list[Any] = list(axes)
            place = apply("add", starts[axes[along]], index(tap) + below)
            where[along] = line.clamped(place)
            return apply("mul", weights[tap, axes[along]], cast(widened(x[tuple(where)]), kind))

        shape = (*x.shape[:along], line.output, *x.shape[along + 1 :])
        if taps > _UNROLLED:
            return k.rows(
                (*shape, taps),
                [x.rank],
                kind,
                [("total", "add", kind, 0.0, lambda point: part(point[:-1], point[-1]))],
                lambda _point, total: total,
            )

        def element(*axes: Axis) -> Expr:
            total = part(axes, 0)
            for tap in range(1, taps):
                total = apply("add", total, part(axes, tap))
            return total

        return k.compute(shape, kind, element)


def _shares(k: Lowering, raw: Source, kind: Any) -> Nest:
    """The weights [taps, places] over their sum for each place."""

    def read(point: tuple[Axis, ...], *_found: Ref) -> Expr:
        return raw[point]

    def share(point: tuple[Axis, ...], total: Ref) -> Expr:
        none = apply("eq", total, _d(0))
        return select(none, _d(0), apply("div", raw[point], total))

    stages: Any = [("total", "add", DOUBLE, 0.0, read)]
    return k.rows(raw.shape, [0], kind, stages, share, spread=True)


def _cropped(op: Any, lines: dict[int, _Line], roi: Source | None) -> dict[int, _Line]:
    """`lines` with the part that `roi` says."""
    if roi is None or roi.contents is None or roi.contents.dtype == object:
        raise NotLowered(f"{op.op_type} of regions that data decides")
    values = [float(value) for value in roi.contents.reshape(-1)]
    count = len(lines)
    if len(values) != 2 * count or not all(abs(value) < 2**31 for value in values):
        raise NotLowered(f"{op.op_type} of other regions")
    pairs = zip(lines.items(), values[:count], values[count:], strict=True)
    return {axis: replace(line, start=start, end=end) for (axis, line), start, end in pairs}


def _outside(k: Lowering, lines: dict[int, _Line], inner: Nest, value: float) -> Nest:
    """`inner` with `value` where a place is outside of the input."""
    outside: Expr = const(0, BOOL)
    for axis, line in lines.items():
        place = line.coordinate(inner.axes[axis], "tf_crop_and_resize")
        beyond = apply("lt", _real(line.size - 1), place)
        beyond = apply("or", apply("lt", place, _d(0)), beyond)
        outside = apply("or", beyond, outside)
    filler = cast(const(value, FLOAT), inner.dtype)
    return replace(inner, value=select(outside, filler, inner.value))


@rule("Resize")
def resize(
    k: Lowering,
    op: Any,
    x: Source,
    roi: Source | None = None,
    scales: Source | None = None,
    sizes: Source | None = None,
) -> Definition:
    coordinates = op.coordinate_transformation_mode if op.version >= 11 else "asymmetric"
    rounding = op.nearest_mode if op.version >= 11 else "floor"
    lines = _lines(op, x, k.outputs[0][1], scales, sizes)
    if coordinates == "tf_crop_and_resize":
        lines = _cropped(op, lines, roi)
    spreads = op.mode == "cubic" or op.antialias or op.exclude_outside
    if op.mode == "nearest" or not spreads:
        found = _resized(k, x, lines, op.mode, coordinates, rounding)
    else:
        chosen = _Filter(
            op.mode == "cubic",
            op.cubic_coeff_a,
            coordinates,
            bool(op.antialias),
            bool(op.exclude_outside),
        )
        found = _filtered(k, x, lines, chosen)
    if coordinates == "tf_crop_and_resize":
        assert isinstance(found, Nest)
        if not found.is_pure:
            raise NotLowered("Resize of regions by many neighbours")
        return _outside(k, lines, found, op.extrapolation_value)
    return found


def _filtered(k: Lowering, x: Source, lines: dict[int, _Line], chosen: _Filter) -> Nest:
    dtype, shape = k.outputs[0]
    kind = _kind(x)
    done = x
    for axis, line in lines.items():
        if chosen.coordinates in _ALWAYS or not line.is_same:
            done = k.define("resized", chosen.resized(k, done, axis, line, kind))
    return k.compute(shape, dtype, lambda *axes: done[axes])


@rule("Upsample")
def upsample(k: Lowering, op: Any, x: Source, scales: Source | None = None) -> Definition:
    if op.version < 7:
        raise NotLowered("Upsample before opset 7")
    lines = _lines(op, x, k.outputs[0][1], scales, None)
    return _resized(k, x, lines, op.mode, "asymmetric", "floor")


def _resized(
    k: Lowering, x: Source, lines: dict[int, _Line], mode: str, coordinates: str, rounding: str
) -> Definition:
    dtype, shape = k.outputs[0]
    special = coordinates in _ALWAYS
    changing = {axis: line for axis, line in lines.items() if special or not line.is_same}
    if mode == "nearest":
        centred = coordinates in _MIDDLES - {"tf_half_pixel_for_nn"}
        centred = centred and rounding.startswith("round_prefer")
        aligned = centred or (coordinates == "asymmetric" and rounding == "floor")
        if aligned and changing and all(line.whole for line in changing.values()):
            return _repeated(k, x, changing)

        def picked(*axes: Axis) -> Expr:
            where: list[Any] = list(axes)
            for axis, line in changing.items():
                place = line.coordinate(axes[axis], coordinates)
                where[axis] = line.clamped(_nearest(place, rounding))
            return x[tuple(where)]

        return k.compute(shape, dtype, picked)
    kind = _kind(x)

    def blended(*axes: Axis) -> Expr:
        return _blend(x, list(axes), list(changing.items()), coordinates, kind)

    return k.compute(shape, dtype, blended)


def _kind(x: Source) -> Any:
    """The type that sums are computed in."""
    kind = COMPUTED_AS.get(x.dtype, x.dtype)
    if kind.is_floating:
        return kind
    return FLOAT if kind.bits < 24 else DOUBLE


def _blend(
    x: Source, where: list[Any], rest: list[tuple[int, _Line]], coordinates: str, kind: Any
) -> Expr:
    """The weighted sum of two neighbours along each of the axes in `rest`, the last first."""
    if not rest:
        return cast(widened(x[tuple(where)]), kind)
    axis, line = rest[-1]
    place = line.coordinate(where[axis], coordinates)
    base = apply("floor", place)
    share = cast(apply("sub", place, base), kind)
    values = []
    for step in (0, 1):
        spot = list(where)
        spot[axis] = line.clamped(apply("add", base, _d(step)))
        values.append(_blend(x, spot, rest[:-1], coordinates, kind))
    weights = (apply("sub", const(1, kind), share), share)
    near, far = (apply("mul", value, w) for value, w in zip(values, weights, strict=True))
    # a neighbour of no weight is not looked at: it may be infinite
    none = apply("eq", share, const(0, kind))
    return select(none, near, apply("add", near, far))


def _repeated(k: Lowering, x: Source, lines: dict[int, _Line]) -> Pieces:
    """Each element as often as a whole scale says."""
    dtype, shape = k.outputs[0]
    axes = k.axes(x.rank)
    copies = dict(zip(lines, k.axes(len(lines)), strict=True))
    target = tuple(
        linear((axes[i], lines[i].whole), (copies[i], 1)) if i in lines else index(axes[i])
        for i in range(x.rank)
    )
    order = [*copies.items()]
    nest = Nest(
        shape,
        dtype,
        (*axes[:-1], *(axis for _, axis in order), axes[-1]),
        (*x.shape[:-1], *(lines[i].whole for i, _ in order), x.shape[-1]),
        x[axes],
        target,
    )
    return Pieces(shape, dtype, (nest,))
