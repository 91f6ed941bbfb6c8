"""Pools: reductions of windows that slide over the spatial axes.

Windows that reach into the padding read a clamped position and take the neutral element there.
Where it is known which ones do not, these have a nest of their own, without tests::

    ┌─────────────────┐
    │        H        │    H, W   windows that may cross an edge
    │ ┌───┬───────┬─┐ │
    │ │ W │ inner │W│ │    inner  windows that lie inside
    │ └───┴───────┴─┘ │
    └─────────────────┘
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sardonyx.dims import known_less_equal, maximum
from sardonyx.dtypes import INT64
from sardonyx.loops.expr import Axis, Expr, Ref, index, linear
from sardonyx.loops.nest import (
    COMPUTED_AS,
    Definition,
    Lowering,
    Nest,
    NotLowered,
    Pieces,
    Reduction,
    Source,
    widened,
)
from sardonyx.loops.scalars import apply, cast, const, select, size
from sardonyx.lowering.reduction import count_of, extreme, norm_of, power_of
from sardonyx.lowering.registry import rule
from sardonyx.lowering.support import every, is_nan
from sardonyx.ops.windows import Windows

if TYPE_CHECKING:
    from sardonyx.dims import DimLike
    from sardonyx.loops.nest import Shape

_FAR = 1 << 62
_MOST_EXCESS = 64
_USUAL = 8


@dataclass(frozen=True, slots=True)
class _Spatial:
    """The windows along one spatial axis."""

    size: DimLike
    output: DimLike
    kernel: int
    stride: int
    dilation: int
    begin: DimLike
    end: DimLike

    @property
    def known_size(self) -> int:
        """`size` if it is a number, else what most sizes are above."""
        return self.size if isinstance(self.size, int) else _USUAL

    @property
    def span(self) -> int:
        return (self.kernel - 1) * self.dilation + 1

    def inside(self) -> tuple[DimLike, DimLike] | None:
        """Which windows lie inside, from and below; None where that is not known."""
        if self.begin == 0:
            last = (self.output - 1) * self.stride + self.span
            if known_less_equal(last, self.size):
                return 0, self.output
        numbers = (self.size, self.output, self.begin)
        if not all(isinstance(number, int) for number in numbers):
            return None
        total, output, begin = numbers
        assert isinstance(total, int)
        assert isinstance(output, int)
        assert isinstance(begin, int)
        first = min(-(-begin // self.stride), output)
        below = max((total - self.span + begin) // self.stride + 1, 0)
        return first, max(min(below, output), first)


def _spatial(op: Any, x: Source, shape: Shape) -> list[_Spatial]:
    windows = Windows.of(
        op.op_type, op.kernel_shape, op.strides, op.dilations, op.pads, op.auto_pad, op.ceil_mode
    )
    found = []
    for number, (total, output) in enumerate(zip(x.shape[2:], shape[2:], strict=True)):
        kernel, stride = windows.kernel[number], windows.strides[number]
        dilation = windows.dilations[number]
        begin: DimLike = windows.begins[number]
        end: DimLike = windows.ends[number]
        if not isinstance(kernel, int):
            raise NotLowered(f"{op.op_type} with a kernel that data decides")
        if windows.auto_pad.startswith("SAME"):
            extent = (kernel - 1) * dilation + 1
            rest: DimLike = maximum((output - 1) * stride + extent - total, 0)
            half = rest // 2
            begin = half if windows.auto_pad == "SAME_UPPER" else rest - half
            end = rest - begin
        found.append(_Spatial(total, output, kernel, stride, dilation, begin, end))
    excess = math.prod(max(line.kernel // max(line.known_size, 1), 1) for line in found)
    if excess > _MOST_EXCESS:
        raise NotLowered(f"{op.op_type} with a window that is mostly padding")
    return found


class _Pool:
    """What one pool reads, and the points of one part of its output."""

    def __init__(self, k: Lowering, op: Any, x: Source) -> None:
        self.k = k
        self.op = op
        self.x = x
        self.shape = k.outputs[0][1]
        self.lines = _spatial(op, x, self.shape)
        self.outer = k.axes(x.rank)
        self.inner = k.axes(len(self.lines))

    def boxes(self) -> list[tuple[list[tuple[DimLike, DimLike]], list[bool]]]:
        """Parts of the output: for each spatial axis from where, how many, and whether a test."""
        whole = [(0, line.output) for line in self.lines]
        insides = [line.inside() for line in self.lines]
        if any(inside is None for inside in insides):
            return [
                (
                    list(whole),
                    [inside is None or inside != whole[i] for i, inside in enumerate(insides)],
                )
            ]
        boxes: list[tuple[list[tuple[DimLike, DimLike]], list[bool]]] = []
        ranges: list[tuple[DimLike, DimLike]] = list(whole)
        tests = [inside != whole[i] for i, inside in enumerate(insides)]
        for number, inside in enumerate(insides):
            assert inside is not None
            first, below = inside
            if not tests[number]:
                continue
            for start, stop in ((0, first), (below, self.lines[number].output)):
                if start != stop:
                    part = list(ranges)
                    part[number] = (start, stop - start)
                    boxes.append((part, list(tests)))
            ranges[number] = (first, below - first)
            tests[number] = False
        return [*boxes, (ranges, tests)]

    def where(self, starts: list[DimLike], tests: list[bool]) -> tuple[list[Any], Any]:
        """The position that a tap reads, and whether it is inside (None: always)."""
        places: list[Any] = [self.outer[0], self.outer[1]]
        conditions: list[Expr] = []
        for number, line in enumerate(self.lines):
            place: Expr = linear(
                (self.outer[number + 2], line.stride),
                (starts[number], line.stride),
                (self.inner[number], line.dilation),
                (line.begin, -1),
            )
            if tests[number]:
                zero = const(0, INT64)
                conditions.append(apply("le", zero, place))
                conditions.append(apply("lt", place, size(line.size)))
                place = apply("max", apply("min", place, size(line.size - 1)), zero)
            places.append(place)
        return places, every(conditions)

    def nests(self, stages: Any, result: Any, dtype: Any) -> Definition:
        """The pool as a nest, or as one for each part; `stages` and `result` write a part."""
        parts = []
        for box, tests in self.boxes():
            starts = [start for start, _ in box]
            reductions = stages(*self.where(starts, tests))
            target = (
                index(self.outer[0]),
                index(self.outer[1]),
                *(linear((a, 1), (s, 1)) for a, s in zip(self.outer[2:], starts, strict=True)),
            )
            extents = (*self.shape[:2], *(count for _, count in box))
            if 0 in extents:
                continue
            kernel = tuple(line.kernel for line in self.lines)
            value = cast(result(starts, tests), dtype)
            parts.append(
                Nest(
                    self.shape,
                    dtype,
                    self.outer,
                    extents,
                    value,
                    target,
                    self.inner,
                    kernel,
                    tuple(reductions),
                )
            )
        if len(parts) == 1 and parts[0].extents == self.shape:
            return parts[0]
        return Pieces(self.shape, dtype, tuple(parts))


@rule("MaxPool")
def max_pool(k: Lowering, op: Any, x: Source) -> tuple[Definition, ...]:
    pool = _Pool(k, op, x)
    dtype = COMPUTED_AS.get(x.dtype, x.dtype)
    least = const(extreme(dtype, least=True), dtype)
    peak, place = Ref("peak", dtype), Ref("place", INT64)

    def read(places: list[Any], inside: Any) -> Expr:
        value = widened(x[tuple(places)])
        return value if inside is None else select(inside, value, least)

    def greatest(places: list[Any], inside: Any) -> list[Reduction]:
        return [Reduction("peak", "maximum", least, read(places, inside))]

    values = pool.nests(greatest, lambda *_: peak, x.dtype)
    if len(k.outputs) == 1:
        return (values,)

    def with_place(places: list[Any], inside: Any) -> list[Reduction]:
        value = widened(x[tuple(places)])
        hit = apply("eq", value, peak)
        if dtype.is_floating:
            hit = apply("or", hit, is_nan(value))
        if inside is not None:
            hit = apply("and", hit, inside)
        here: Expr = index(0)
        for number, line in enumerate(pool.lines):
            step = apply("mul", here, size(line.size))
            here = apply("add", step, index(places[number + 2]))
        far = const(_FAR, INT64)
        return [
            *greatest(places, inside),
            Reduction("place", "min", far, select(hit, here, far)),
        ]

    def flat(_starts: list[DimLike], _tests: list[bool]) -> Expr:
        spatial = [line.size for line in pool.lines]
        found = select(apply("lt", place, const(_FAR, INT64)), place, const(0, INT64))
        if op.storage_order and len(spatial) > 1:
            found = _by_columns(found, spatial)
        inner: DimLike = 1
        for dim in spatial:
            inner = inner * dim
        image = linear((pool.outer[0], x.shape[1] * inner), (pool.outer[1], inner))
        return apply("add", image, found)

    return values, pool.nests(with_place, flat, INT64)


def _by_columns(place: Expr, sizes: list[DimLike]) -> Expr:
    """A position counted row by row, counted column by column."""
    digits = []
    for dim in reversed(sizes):
        digits.append(apply("rem", place, size(dim)))
        place = apply("div", place, size(dim))
    found: Expr = const(0, INT64)
    for digit, dim in zip(digits, reversed(sizes), strict=True):
        found = apply("add", apply("mul", found, size(dim)), digit)
    return found


@rule("AveragePool")
def average_pool(k: Lowering, op: Any, x: Source) -> Definition:
    pool = _Pool(k, op, x)
    dtype = COMPUTED_AS.get(x.dtype, x.dtype)
    zero, total = const(0, dtype), Ref("total", dtype)

    def sums(places: list[Any], inside: Any) -> list[Reduction]:
        value = widened(x[tuple(places)])
        value = value if inside is None else select(inside, value, zero)
        return [Reduction("total", "add", zero, value)]

    def mean(starts: list[DimLike], tests: list[bool]) -> Expr:
        taps, count = 1, None
        for number, line in enumerate(pool.lines):
            if not tests[number]:
                taps *= line.kernel
                continue
            here = _count(pool.outer[number + 2], starts[number], line, op.count_include_pad)
            count = here if count is None else apply("mul", count, here)
        if count is None:
            return apply("div", total, const(taps, dtype))
        return apply("div", total, cast(apply("mul", count, const(taps, INT64)), dtype))

    return pool.nests(sums, mean, x.dtype)


def _count(axis: Axis, offset: DimLike, line: _Spatial, with_padding: int) -> Expr:
    """How many taps of a window lie inside the input, or inside it and its padding."""
    start = linear((axis, line.stride), (offset, line.stride), (line.begin, -1))
    low: DimLike = -line.begin if with_padding else 0
    high = line.size + line.end if with_padding else line.size
    zero, one = const(0, INT64), const(1, INT64)
    gap = const(line.dilation, INT64)

    def steps(distance: Expr) -> Expr:
        # how many taps fit into a distance that may be negative
        return apply("div", apply("add", apply("max", distance, zero), apply("sub", gap, one)), gap)

    missing = steps(apply("sub", size(low), start))
    until = apply("min", steps(apply("sub", size(high), start)), const(line.kernel, INT64))
    return apply("max", apply("sub", until, missing), zero)


@rule("LpPool")
def norm_pool(k: Lowering, op: Any, x: Source) -> Definition:
    pool = _Pool(k, op, x)
    dtype = COMPUTED_AS.get(x.dtype, x.dtype)
    zero, total = const(0, dtype), Ref("total", dtype)

    def sums(places: list[Any], inside: Any) -> list[Reduction]:
        value = power_of(widened(x[tuple(places)]), op.p)
        value = value if inside is None else select(inside, value, zero)
        return [Reduction("total", "add", zero, value)]

    return pool.nests(sums, lambda *_: norm_of(total, op.p), x.dtype)


@rule("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")
def global_pool(k: Lowering, op: Any, x: Source) -> Nest:
    along = list(range(2, x.rank))
    dtype = COMPUTED_AS.get(x.dtype, x.dtype)
    name = op.op_type

    def read(point: tuple[Axis, ...], *_found: Ref) -> Expr:
        value = widened(x.at(point))
        return power_of(value, op.p) if name == "GlobalLpPool" else value

    def result(_point: tuple[Axis, ...], total: Ref) -> Expr:
        if name == "GlobalAveragePool":
            return apply("div", total, count_of(x, along, dtype))
        return norm_of(total, op.p) if name == "GlobalLpPool" else total

    most = name == "GlobalMaxPool"
    start = extreme(dtype, least=True) if most else 0.0
    stage = ("total", "maximum" if most else "add", dtype, start, read)
    return k.rows(x.shape, along, x.dtype, [stage], result, keep=True)
