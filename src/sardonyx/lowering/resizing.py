"""Resize and Upsample: the nearest element, or a weighted sum of neighbours along each axis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sardonyx.dims import known_equal
from sardonyx.dtypes import DOUBLE, FLOAT, INT64
from sardonyx.loops.expr import Axis, Expr, index, linear
from sardonyx.loops.nest import Definition, Lowering, Nest, NotLowered, Pieces, Source, widened
from sardonyx.loops.scalars import apply, cast, const, select, size
from sardonyx.lowering.movement import known_dims
from sardonyx.lowering.registry import rule
from sardonyx.lowering.support import may_be_zero, normal_axis, position

if TYPE_CHECKING:
    from sardonyx.dims import DimLike

_MIDDLES = {"half_pixel", "pytorch_half_pixel", "half_pixel_symmetric", "tf_half_pixel_for_nn"}


def _d(value: float) -> Expr:
    return const(value, DOUBLE)


def _single(value: Expr) -> Expr:
    """`value` rounded to FLOAT, which coordinates are held in."""
    return cast(cast(value, FLOAT), DOUBLE)


@dataclass(frozen=True, slots=True)
class _Line:
    """One axis: its sizes, and the scale where it is given as a number."""

    size: DimLike
    output: DimLike
    scale: float | None

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


@rule("Resize")
def resize(
    k: Lowering,
    op: Any,
    x: Source,
    _roi: Source | None = None,
    scales: Source | None = None,
    sizes: Source | None = None,
) -> Definition:
    if op.mode == "cubic" or op.antialias or op.exclude_outside:
        raise NotLowered("Resize of more than two neighbours")
    coordinates = op.coordinate_transformation_mode if op.version >= 11 else "asymmetric"
    if coordinates == "tf_crop_and_resize":
        raise NotLowered("Resize of regions")
    rounding = op.nearest_mode if op.version >= 11 else "floor"
    lines = _lines(op, x, k.outputs[0][1], scales, sizes)
    return _resized(k, x, lines, op.mode, coordinates, rounding)


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
    special = coordinates == "tf_half_pixel_for_nn"
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
    kind = widened(x[(0,) * x.rank]).dtype
    if not kind.is_floating:
        kind = FLOAT if kind.bits < 24 else DOUBLE

    def blended(*axes: Axis) -> Expr:
        return _blend(x, list(axes), list(changing.items()), coordinates, kind)

    return k.compute(shape, dtype, blended)


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
