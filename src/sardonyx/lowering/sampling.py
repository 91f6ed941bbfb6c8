"""Images at places that data says: GridSample, AffineGrid, RoiAlign."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

from sardonyx.dtypes import BOOL, DOUBLE, FLOAT, INT64
from sardonyx.loops.expr import Axis, Expr, Load, Ref, index, linear
from sardonyx.loops.kernel import Accumulate, For, Let, Local, Store, Var
from sardonyx.loops.nest import COMPUTED_AS, Lowering, Nest, NotLowered, Source, Steps, widened
from sardonyx.loops.scalars import apply, cast, const, select, size
from sardonyx.lowering.registry import rule
from sardonyx.lowering.support import agree, every, may_be_zero, position

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sardonyx.dims import DimLike
    from sardonyx.dtypes import DType
    from sardonyx.loops.kernel import Block, Stmt

_CUBIC = -0.75
_MOST_NEIGHBOURS = 64
_MOST_SAMPLES = 4096
"""Samples along a row of a region, beyond which the run is the reference's."""


def _number(dim: DimLike, kind: DType) -> Expr:
    return const(dim, kind) if isinstance(dim, int) else cast(size(dim), kind)


def _within(place: Expr, dim: DimLike) -> Expr:
    """A whole number as the nearest index inside a dimension."""
    inside = apply("max", apply("min", cast(place, INT64), size(dim - 1)), const(0, INT64))
    return position(inside, dim) if may_be_zero(dim) else inside


class _Padding:
    """What lies outside of an image, along an axis of `dim` elements."""

    def __init__(self, mode: str, dim: DimLike, kind: DType, *, aligned: bool) -> None:
        self.mode = mode
        self.dim = dim
        self.kind = kind
        self.aligned = aligned

    def __call__(self, place: Expr) -> tuple[Expr, Expr | None]:
        """The index of the element for the whole number `place`, and whether there is one."""
        kind = self.kind
        last = _number(self.dim - 1, kind)
        if self.mode == "reflection":
            place = self.reflected(place, last)
        found = _within(place, self.dim)
        if self.mode != "zeros":
            return found, None
        low, high = apply("le", const(0, kind), place), apply("le", place, last)
        return found, apply("and", low, high)

    def reflected(self, place: Expr, last: Expr) -> Expr:
        """`place` mirrored at the centres, or outer edges, of the border elements."""
        kind = self.kind
        edge = const(0.0 if self.aligned else 0.5, kind)
        span = apply("add", last, apply("add", edge, edge))
        double = apply("add", span, span)
        moved = apply("add", place, edge)
        turns = apply("floor", apply("div", moved, double))
        distance = apply("sub", moved, apply("mul", turns, double))
        far = apply("sub", double, distance)
        folded = select(apply("lt", span, distance), far, distance)
        none = apply("eq", span, const(0, kind))
        return select(none, const(0, kind), apply("sub", folded, edge))


def _linear_taps(place: Expr) -> list[tuple[Expr, Expr]]:
    low = apply("floor", place)
    one = const(1, place.dtype)
    share = apply("sub", place, low)
    return [(low, apply("sub", one, share)), (apply("add", low, one), share)]


def _cubic_taps(place: Expr) -> list[tuple[Expr, Expr]]:
    """The four neighbours and their weights (R. Keys, 1981, equation 4)."""
    kind = place.dtype

    def number(value: float) -> Expr:
        return const(value, kind)

    low = apply("floor", place)
    share = apply("sub", place, low)
    taps = []
    for step in range(-1, 3):
        d = apply("abs", apply("sub", share, number(step)))
        a = _CUBIC
        if step in {0, 1}:
            weight = apply("sub", apply("mul", number(a + 2), d), number(a + 3))
            weight = apply("add", apply("mul", apply("mul", weight, d), d), number(1))
        else:
            weight = apply("sub", apply("mul", number(a), d), number(5 * a))
            weight = apply("add", apply("mul", weight, d), number(8 * a))
            weight = apply("sub", apply("mul", weight, d), number(4 * a))
        taps.append((apply("add", low, number(step)), weight))
    return taps


_TAPS = {"linear": _linear_taps, "cubic": _cubic_taps}


@rule("GridSample")
def grid_sample(k: Lowering, op: Any, x: Source, grid: Source) -> Nest:
    dtype, shape = k.outputs[0]
    mode = op.interpolation
    sizes = x.shape[2:]
    if mode != "nearest" and not dtype.is_floating:
        raise NotLowered(f"GridSample of {dtype} by interpolation")
    if grid.shape[-1] != len(sizes):
        raise NotLowered("GridSample by a grid whose width data decides")
    if {"linear": 2, "cubic": 4}.get(mode, 1) ** len(sizes) > _MOST_NEIGHBOURS:
        raise NotLowered(f"GridSample of {len(sizes)} axes")
    k.require_equal(x.shape[0], grid.shape[0])
    given_kind = COMPUTED_AS.get(grid.dtype, grid.dtype)
    sum_kind = COMPUTED_AS.get(dtype, dtype)
    # far places are mirrored to where exact arithmetic puts them
    is_wide = op.padding_mode == "reflection" or DOUBLE in {sum_kind, given_kind}
    kind = DOUBLE if is_wide else given_kind
    padding = [
        _Padding(op.padding_mode, dim, kind, aligned=bool(op.align_corners)) for dim in sizes
    ]

    def place_along(number: int, dim: DimLike) -> Source:
        def place(*axes: Axis) -> Expr:
            last = (len(sizes) - 1 - number,)
            given = widened(grid[axes + last])
            shifted = apply("add", given, const(1, given_kind))
            half = const(0.5, given_kind)
            if op.align_corners:
                found = apply("mul", apply("mul", shifted, half), _number(dim - 1, given_kind))
            else:
                scaled = apply("mul", shifted, _number(dim, given_kind))
                found = apply("mul", apply("sub", scaled, const(1, given_kind)), half)
            # NaN is far outside, and so is what no index can be
            found = cast(found, kind)
            far = const(1 << 22 if kind is FLOAT else 1 << 52, kind)
            outside = apply("ne", found, found)
            held = apply("max", apply("min", found, far), apply("neg", far))
            return select(outside, apply("neg", far), held)

        return k.define("places", k.compute(grid.shape[:-1], kind, place))

    places = [place_along(number, dim) for number, dim in enumerate(sizes)]

    def element(image: Axis, channel: Axis, *axes: Axis) -> Expr:
        point = (image, *axes)
        spots = [place[point] for place in places]
        if mode == "nearest":
            found = [pad(apply("rint", spot)) for pad, spot in zip(padding, spots, strict=True)]
            inside = every([valid for _, valid in found if valid is not None])
            chosen = (image, channel, *(where for where, _ in found))
            picked = x[chosen]
            return picked if inside is None else select(inside, picked, const(0, dtype))
        taps = [
            [(*pad(where), weight) for where, weight in _TAPS[mode](spot)]
            for pad, spot in zip(padding, spots, strict=True)
        ]
        total: Expr | None = None
        for combination in product(*taps):
            where = (image, channel, *(tap[0] for tap in combination))
            value = cast(widened(x[where]), sum_kind)
            inside = every([tap[1] for tap in combination if tap[1] is not None])
            if inside is not None:
                value = select(inside, value, const(0, sum_kind))
            weight = combination[0][2]
            for tap in combination[1:]:
                weight = apply("mul", weight, tap[2])
            value = apply("mul", value, cast(weight, sum_kind))
            total = value if total is None else apply("add", total, value)
        assert total is not None
        return total

    return k.compute(shape, dtype, element)


@rule("AffineGrid")
def affine_grid(k: Lowering, op: Any, theta: Source, _size: Source) -> Nest:
    dtype, shape = k.outputs[0]
    count = len(shape) - 2
    if shape[-1] != count:
        raise NotLowered("AffineGrid of a rank that data decides")
    agree("AffineGrid's theta", theta.shape[1:], (count, count + 1))
    k.require_equal(theta.shape[0], shape[0])
    kind = COMPUTED_AS.get(dtype, dtype)

    def centre(axis: Axis, dim: DimLike) -> Expr:
        """The normalized place of an element; a single one lies in the middle."""
        one = const(1, kind)
        twice = cast(linear((axis, 2)), kind)
        if not op.align_corners:
            return apply("sub", apply("div", apply("add", twice, one), _number(dim, kind)), one)
        steps = _number(dim - 1, kind)
        only = apply("le", steps, const(0, kind))
        found = apply("sub", apply("div", twice, steps), one)
        return select(only, const(0, kind), found)

    def element(image: Axis, *axes: Axis) -> Expr:
        row = axes[-1]
        total = widened(theta[image, row, count])
        for column in range(count):
            which = count - 1 - column
            factor = widened(theta[image, row, column])
            part = apply("mul", factor, centre(axes[which], shape[1 + which]))
            total = apply("add", total, part)
        return total

    return k.compute(shape, dtype, element)


class _Bins:
    """The samples along one axis of a region: how far apart, how many, and their neighbours."""

    def __init__(self, name: str, bins: int, dim: DimLike, kind: DType, ratio: int) -> None:
        self.name = name
        self.bins = bins
        self.dim = dim
        self.kind = kind
        self.ratio = ratio

    def ref(self, what: str, dtype: DType | None = None) -> Ref:
        return Ref(f"{self.name}_{what}", dtype or self.kind)

    def let(self, what: str, value: Expr) -> Let:
        return Let(f"{self.name}_{what}", value)

    @property
    def count(self) -> Expr:
        """How many samples there are in a bin."""
        return const(self.ratio, INT64) if self.ratio else self.ref("count", INT64)

    def begin(self, start: Expr, stop: Expr, *, half: bool) -> Iterator[Stmt]:
        """What holds for the whole region."""
        extent = apply("sub", stop, start)
        if not half:
            extent = apply("maximum", extent, const(1, self.kind))
        width = self.ref("width")
        yield self.let("start", start)
        yield self.let("width", apply("div", extent, const(self.bins, self.kind)))
        if not self.ratio:
            counted = apply("ceil", width)
            # a region that is not finite has no sample
            finite = apply("lt", apply("abs", counted), const(float("inf"), self.kind))
            found = apply("max", cast(counted, INT64), const(0, INT64))
            held = select(finite, found, const(0, INT64))
            most = const(_MOST_SAMPLES // self.bins + 1, INT64)
            yield self.let("count", apply("index", held, most))

    def sample(self, bin_: Axis, step: Axis) -> Iterator[Stmt]:
        """The two neighbours of a sample, and their weights: low, high, rest and share."""
        kind = self.kind
        width, start = self.ref("width"), self.ref("start")
        offset = apply("add", cast(index(step), kind), const(0.5, kind))
        offset = apply("div", apply("mul", offset, width), cast(self.count, kind))
        along = apply("mul", cast(index(bin_), kind), width)
        yield self.let("at", apply("add", apply("add", start, along), offset))
        at = self.ref("at")
        inside = apply("le", const(-1, kind), at)
        inside = apply("and", inside, apply("le", at, _number(self.dim, kind)))
        yield self.let("inside", inside)
        here = self.ref("inside", BOOL)
        last = _number(self.dim - 1, kind)
        held = apply("max", apply("min", at, last), const(0, kind))
        yield self.let("held", select(here, held, const(0, kind)))
        spot = self.ref("held")
        low = apply("floor", spot)
        none = const(0, kind)
        share = apply("sub", spot, low)
        yield self.let("low", _within(low, self.dim))
        yield self.let("high", _within(apply("add", low, const(1, kind)), self.dim))
        yield self.let("share", select(here, share, none))
        yield self.let("rest", select(here, apply("sub", const(1, kind), share), none))

    def neighbours(self) -> list[tuple[Expr, Expr]]:
        """The places and weights after `sample`."""
        return [
            (self.ref("low", INT64), self.ref("rest")),
            (self.ref("high", INT64), self.ref("share")),
        ]


class _Region:
    """The statements of RoiAlign for one region: its samples of all channels."""

    def __init__(self, k: Lowering, op: Any, x: Source, region: Axis) -> None:
        self.out = k.results[0]
        self.op = op
        self.x = x
        self.kind = COMPUTED_AS.get(x.dtype, x.dtype)
        self.region = region
        ratio = op.sampling_ratio
        self.rows = _Bins("row", op.output_height, x.shape[2], self.kind, ratio)
        self.columns = _Bins("column", op.output_width, x.shape[3], self.kind, ratio)
        self.is_mean = op.mode == "avg"
        self.image = Ref("image", INT64)
        self.channel, self.bin, self.step = Axis("channel"), Axis("ph"), Axis("iy")
        self.across, self.place = Axis("pw"), Axis("ix")

    def sampled(self) -> Expr:
        """The number of a sample along a row."""
        count = self.columns.count
        return apply("add", apply("mul", index(self.across), count), index(self.place))

    def kept(self) -> Iterator[Stmt]:
        """Tables of the neighbours along a row of samples."""
        ratio, width = self.op.sampling_ratio, self.op.output_width
        if ratio * width > _MOST_SAMPLES or width > _MOST_SAMPLES:
            raise NotLowered(f"RoiAlign of {width} bins")
        places = (("low", INT64), ("high", INT64), ("rest", self.kind), ("share", self.kind))
        for what, dtype in places:
            yield Local(f"{what}_table", dtype, (ratio * width or _MOST_SAMPLES,))
        at = index(self.sampled())
        stores = (
            Store(f"{what}_table", (at,), self.columns.ref(what, dtype)) for what, dtype in places
        )
        body = (*self.columns.sample(self.across, self.place), *stores)
        loop = For(self.place, self.columns.count, body)
        yield For(self.across, size(width), (loop,))

    def along_row(self) -> list[tuple[Expr, Expr]]:
        """The neighbours of a sample along the row."""
        at = self.sampled()
        pairs = (("low", "rest"), ("high", "share"))
        return [
            (Load(f"{low}_table", (at,), INT64), Load(f"{rest}_table", (at,), self.kind))
            for low, rest in pairs
        ]

    def samples(self) -> Block:
        """A row of samples, added to the bins of its row."""
        columns = self.along_row()
        bins = Load("bins", (index(self.across),), self.kind)
        found = Ref("found", self.kind)
        taken: list[Stmt] = []
        if self.is_mean:
            lines = []
            for y, down in self.rows.neighbours():
                near, far = (
                    apply("mul", widened(self.x[self.image, self.channel, y, x]), share)
                    for x, share in columns
                )
                lines.append(apply("mul", apply("add", near, far), down))
            taken.append(Accumulate("found", "add", apply("add", *lines)))
        else:
            for (y, down), (x, share) in product(self.rows.neighbours(), columns):
                value = widened(self.x[self.image, self.channel, y, x])
                part = apply("mul", value, apply("mul", down, share))
                taken.append(Accumulate("found", "maximum", part))
        start = const(0 if self.is_mean else float("-inf"), self.kind)
        join = apply("add" if self.is_mean else "maximum", bins, found)
        one = (
            Var("found", self.kind, start),
            For(self.place, self.columns.count, tuple(taken)),
            Store("bins", (index(self.across),), join),
        )
        return (
            *self.rows.sample(self.bin, self.step),
            For(self.across, size(self.op.output_width), one),
        )

    def written(self) -> Block:
        """The bins of one row and channel, from their samples."""
        width = size(self.op.output_width)
        start = const(0 if self.is_mean else float("-inf"), self.kind)
        bins = Load("bins", (index(self.across),), self.kind)
        total = apply("mul", self.rows.count, self.columns.count)
        value: Expr = bins
        if self.is_mean:
            value = apply("div", bins, cast(apply("max", total, const(1, INT64)), self.kind))
        some = apply("lt", const(0, INT64), total)
        value = cast(select(some, value, const(0, self.kind)), self.x.dtype)
        where = (index(self.region), index(self.channel), index(self.bin), index(self.across))
        return (
            For(self.across, width, (Store("bins", (index(self.across),), start),), "vector"),
            For(self.step, self.rows.count, self.samples()),
            For(self.across, width, (Store(self.out, where, value),), "vector"),
        )


@rule("RoiAlign")
def roi_align(k: Lowering, op: Any, x: Source, rois: Source, batch: Source) -> Steps:
    dtype, shape = k.outputs[0]
    agree("RoiAlign's rois", rois.shape[1:], (4,))
    k.require_equal(rois.shape[0], batch.shape[0])
    (axis,) = k.axes(1)
    region = _Region(k, op, x, axis)
    kind = region.kind
    half = op.version >= 16 and op.coordinate_transformation_mode == "half_pixel"

    def corner(number: int) -> Expr:
        found = apply("mul", widened(rois[axis, number]), const(op.spatial_scale, kind))
        return apply("sub", found, const(0.5, kind)) if half else found

    given = cast(batch[axis], INT64)
    count = size(x.shape[0])
    checked = apply("index", select(apply("lt", given, const(0, INT64)), count, given), count)
    samples = op.output_height * op.output_width * max(op.sampling_ratio, 2) ** 2
    body: Block = (
        Let("image", checked),
        *region.rows.begin(corner(1), corner(3), half=half),
        *region.columns.begin(corner(0), corner(2), half=half),
        *region.kept(),
        Local("bins", kind, (op.output_width,)),
        For(
            region.channel,
            size(x.shape[1]),
            (For(region.bin, size(op.output_height), region.written()),),
        ),
    )
    work = x.shape[1] * samples * 20
    return Steps(shape, dtype, (axis,), (shape[0],), body, k.results[:1], work, is_partial=True)
