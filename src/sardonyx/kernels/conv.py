"""Convolutions.

The sums are products of the weights, a row for each output channel, with columns of input elements,
one for each output pixel. A step takes a block of pixels, in order of rows, copies what their
windows see into scratch memory that stays in the L2 cache, and multiplies tile by tile as
`tiles` does::

                     pixels of the block
                    ┌───────┬───────┬──
     channel 0 tap 0│       │       │      a line is a copy of a part of an input row,
               tap 1│ panel │ panel │      or of several, where the block crosses rows
               ...  │       │       │
     channel 1 tap 0│       │       │
                    └───────┴───────┴──
        ┌──────────┐┌───────┐
      6 │ weights  ││ sums  │              sums of 6 channels and two vectors of pixels
        └──────────┘└───────┘

How the weights and the input lie is said in `windows`. If an output channel reads one input channel
there is nothing to reuse, and the taps of vectors of pixels are summed directly.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from sardonyx.dims import ceil_div, maximum, minimum
from sardonyx.dtypes import INT64
from sardonyx.kernels.tiles import Digits, Tiles, block_rows, tile_of
from sardonyx.kernels.windows import (
    as_last,
    element,
    is_direct,
    product,
    tap_position,
    weight,
    weights_shape,
)
from sardonyx.loops.expr import (
    Axis,
    Expr,
    Linear,
    Load,
    Ref,
    coefficient,
    index,
    linear,
    substitute,
)
from sardonyx.loops.kernel import For, If, Let, Local, Scheduled, Store
from sardonyx.loops.nest import Contraction
from sardonyx.loops.scalars import apply, const, size

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from sardonyx.dims import DimLike
    from sardonyx.kernels.tiles import Tile
    from sardonyx.loops.kernel import Block, Stmt
    from sardonyx.loops.machine import Machine
    from sardonyx.loops.nest import Convolution, Window

    Place = Callable[[Hashable, Sequence[Linear]], Linear]

__all__ = ["convolve", "panels_of_block"]

_MOST_ROWS: Final = 192
"""Output channels of one step, at most: others are other steps."""
_MOST_PIXELS: Final = 256


def convolve(
    c: Convolution, arranged: Hashable | None, out: Hashable, machine: Machine, place: Place
) -> Scheduled:
    """The loops of the convolution of the input or its arranged copy; the weights are prepared."""
    if is_direct(c):
        return _Depthwise(c, arranged, out, machine).scheduled()
    if arranged is None:
        c = _in_one_line(c, place)
    return _Product(c, arranged, out, machine, place).scheduled()


def _in_one_line(c: Convolution, place: Place) -> Convolution:
    """A convolution of points, with its spatial axes as one if the input allows."""
    if len(c.windows) == 1 or not all(window.is_point for window in c.windows):
        return c
    sizes = tuple(window.output for window in c.windows)
    pixel = Axis("position")
    x = _flattened(c.x, c.positions, sizes, pixel, place)
    if x is None:
        return c
    count = product(sizes)
    window = replace(c.windows[-1], size=count, output=count)
    return replace(c, positions=(pixel,), windows=(window,), taps=c.taps[-1:], x=x)


def _flattened(
    value: Expr, axes: Sequence[Axis], sizes: Sequence[DimLike], pixel: Axis, place: Place
) -> Expr | None:
    """`value` with one axis that counts the points of `axes`; None if that is not one step."""
    alike = True

    def change(part: Expr) -> Expr | None:
        nonlocal alike
        if not isinstance(part, Load):
            return None
        offset = place(part.buffer, part.indices)
        flat = _flat_place(offset, axes, sizes, pixel)
        if flat is None:
            alike = False
            return None
        return Load(part.buffer, as_last(flat, len(part.indices)), part.dtype)

    found = substitute(value, change)
    return found if alike else None


def _flat_place(
    offset: Linear, axes: Sequence[Axis], sizes: Sequence[DimLike], pixel: Axis
) -> Linear | None:
    """`offset` with `pixel` for `axes`, if each step of it is as long."""
    steps = [coefficient(offset, axis) for axis in axes]
    for number in range(len(axes) - 1):
        step, after = steps[number], steps[number + 1]
        if step is None or after is None or step != after * sizes[number + 1]:
            return None
    last = steps[-1]
    if last is None:
        return None
    kept = [(term, factor) for term, factor in offset.terms if term not in axes]
    return linear((offset.constant, 1), *kept, (pixel, last))


def _points(pixel: Expr, axes: Sequence[Axis], sizes: Sequence[DimLike]) -> dict[Expr, Expr]:
    """Where `pixel`, counted row by row, lies along each of `axes`."""
    found: dict[Expr, Expr] = {}
    for axis, extent in reversed(list(zip(axes[1:], sizes[1:], strict=True))):
        found[axis] = apply("rem", pixel, size(extent))
        pixel = apply("div", pixel, size(extent))
    found[axes[0]] = pixel
    return found


class _OverPixels(Tiles):
    """Tiles whose right operand lies in scratch memory, line by line."""

    def __init__(
        self,
        c: Contraction,
        scratch: str,
        out: Hashable,
        tile: Tile,
        names: dict[Expr, Expr],
        panel: Expr,
        first: Expr,
        pitch: DimLike,
        weights: tuple[Hashable, Expr],
    ) -> None:
        super().__init__(c, scratch, out, tile, names, panel)
        self.first = first
        self.pitch = pitch
        self.weights, self.first_panel = weights

    def left(self, first_row: Expr, row: Axis, depth: Expr) -> Expr:
        """The weight of a row of the tile from `first_row` on, which lies within a panel."""
        rows = const(self.tile.rows, INT64)
        panel = linear((self.first_panel, 1), (apply("div", first_row, rows), 1))
        lane = linear((apply("rem", first_row, rows), 1), (row, 1))
        return Load(self.weights, (panel, depth, lane), self.c.sum_dtype)

    def right(self, depth: Expr, column: Axis) -> Expr:
        """The element of a line at `depth`."""
        place = linear((depth, self.pitch), (self.first, 1), (column, 1))
        return Load(self.panels, (place,), self.c.sum_dtype)


def panels_of_block(c: Convolution, machine: Machine) -> int:
    """How many panels of pixels one step takes, so that their lines stay in the cache."""
    length = weights_shape(c)[1]
    known = length if isinstance(length, int) else 1024
    columns = tile_of(machine, c.sum_dtype).columns
    fitting = machine.l2 // 2 // max(known * c.sum_dtype.bits // 8, 1)
    return max(min(fitting, _MOST_PIXELS) // columns, 1)


@dataclass(slots=True)
class _Product:
    c: Convolution
    arranged: Hashable | None
    out: Hashable
    machine: Machine
    place: Place

    def scheduled(self) -> Scheduled:
        c = self.c
        tile = tile_of(self.machine, c.sum_dtype, c.grow)
        pixels = product([maximum(extent, 0) for extent in c.extents[2:]])
        rows: DimLike = c.extents[1] // c.group
        length = weights_shape(c)[1]
        panels = panels_of_block(c, self.machine) if c.block == 0 else c.block
        block = panels * tile.columns
        lines, blocks = ceil_div(rows, _MOST_ROWS), ceil_div(pixels, block)
        work = Axis("work")
        digits = Digits(work)
        line = digits.digit("line", lines)
        number = digits.digit("block", blocks)
        group = digits.digit("group", c.group)
        image = digits.remaining if c.extents[0] != 1 else index(0)
        start = linear((number, block))
        most = _MOST_ROWS - _MOST_ROWS % tile.rows
        lines = ceil_div(rows, most)
        lets, count = block_rows(rows, linear((line, most)), most, lines)
        taken = apply("min", linear((pixels, 1), (start, -1)), size(block))
        body: list[Stmt] = [*digits.lets, *lets, Let("pixels", taken)]
        pitch = (panels + 1 - panels % 2) * tile.columns
        body.append(Local("lines", c.sum_dtype, (length * pitch,)))
        body += self.gather(image, group, start, Ref("pixels", INT64), pitch)
        panel = Axis("panel")
        of_block = linear((number, panels), (panel, 1))
        dense = self.contraction(image, group, linear((of_block, tile.columns)))
        first = linear((panel, tile.columns))
        assert isinstance(c.w, Load)
        weights = (c.w.buffer, linear((group, ceil_div(rows, tile.rows))))
        tiles = _OverPixels(dense, "lines", self.out, tile, {}, of_block, first, pitch, weights)
        over = linear((Ref("pixels", INT64), 1), (tile.columns - 1, 1))
        here = apply("div", over, const(tile.columns, INT64))
        inner = (*self.places(linear((of_block, tile.columns)), tile.columns),)
        inner += tiles.row_tiles(linear((line, most)), count)
        body.append(For(panel, here, inner))
        steps = lines * blocks * c.group * c.extents[0]
        each = length * block * minimum(rows, most) // 8
        parallel = For(work, index(steps), tuple(body), "parallel")
        return Scheduled((parallel,), steps, each)

    def spatial_place(self) -> tuple[Linear, Linear]:
        """Where a result is stored: the part that its spatial axes make, and the rest."""
        offset = self.place(self.out, self.c.target)
        mine = [item for item in offset.terms if item[0] in self.c.spatial]
        rest = [item for item in offset.terms if item[0] not in self.c.spatial]
        return linear(*mine), linear((offset.constant, 1), *rest)

    def places(self, first: Linear, count: int) -> Block:
        """Notes the places of the `count` pixels from `first` on, where rows leave gaps."""
        c = self.c
        spatial, _ = self.spatial_place()
        if _flat_place(spatial, c.spatial, c.extents[2:], Axis("n")) is not None:
            return ()
        column = Axis("place.column")
        points = _points(linear((first, 1), (column, 1)), c.spatial, c.extents[2:])
        place = substitute(spatial, points)
        noted = Store("places", (index(column),), place)
        return (Local("places", INT64, (count,)), For(column, index(count), (noted,)))

    def contraction(self, image: Expr, group: Expr, first: Linear) -> Contraction:
        """The product of one group's weights with all of an image's pixels.

        `first` is the first pixel of the panel.
        """
        c = self.c
        m, n, k = Axis("m"), Axis("n"), Axis("k")
        channels, length = weights_shape(c)
        rows = channels // c.group
        sizes = c.extents[2:]
        channel = linear((group, rows), (m, 1))
        memo: dict[Expr, Expr] = {}

        def flat(part: Expr) -> Expr | None:
            if not isinstance(part, Load):
                return None
            place = _flat_place(self.place(part.buffer, part.indices), c.spatial, sizes, n)
            if place is None:
                return None
            return Load(part.buffer, as_last(place, len(part.indices)), part.dtype)

        points: dict[Expr, Expr] = {
            **_points(n, c.spatial, sizes),
            c.channel: channel,
            c.image: image,
        }
        value = substitute(substitute(c.value, flat, memo), points)
        spatial, rest = self.spatial_place()
        place: Expr | None = _flat_place(spatial, c.spatial, sizes, n)
        if place is None:
            place = Load("places", (linear((n, 1), (first, -1)),), INT64)
        where = as_last(linear((rest, 1), (place, 1)), len(c.target))
        target = tuple(index(substitute(position, points)) for position in where)
        return Contraction(
            c.shape,
            c.dtype,
            (),
            (),
            m,
            n,
            k,
            (rows, product(sizes), length),
            const(0, c.sum_dtype),
            const(0, c.sum_dtype),
            value,
            target,
            c.grow,
        )

    def gather(self, image: Expr, group: Expr, start: Expr, count: Expr, pitch: DimLike) -> Block:
        """Copies what the windows of `count` pixels from `start` on see, row by row."""
        c = self.c
        width = c.windows[-1].output
        row, across = Axis("row"), Axis("across")
        first, last = Ref("first.row", INT64), Ref("last.row", INT64)
        here, left, right = Ref("row.here", INT64), Ref("left", INT64), Ref("right", INT64)
        column = linear((left, 1), (here, -width), (across, 1))
        outer = _row_points(here, c.windows[:-1])
        source = linear((group, c.channels), (c.depth, 1))
        value = self.read(image, source, outer, column)
        target = linear((tap_position(c), pitch), (left, 1), (start, -1), (across, 1))
        inner: Block = (
            For(across, apply("sub", right, left), (Store("lines", (target,), value),), "vector"),
        )
        for axis, window in reversed(list(zip(c.taps, c.windows, strict=True))):
            inner = (For(axis, index(window.taps), inner),)
        inner = (For(c.depth, index(c.channels), inner),)
        end = linear((start, 1), (count, 1))
        return (
            Let("first.row", apply("div", start, size(width))),
            Let("last.row", apply("div", linear((end, 1), (-1, 1)), size(width))),
            For(
                row,
                linear((last, 1), (first, -1), (1, 1)),
                (
                    Let("row.here", linear((first, 1), (row, 1))),
                    Let("left", apply("max", start, linear((here, width)))),
                    Let("right", apply("min", end, linear((here, width), (width, 1)))),
                    *inner,
                ),
            ),
        )

    def read(self, image: Expr, source: Expr, outer: Sequence[Expr], column: Expr) -> Expr:
        return element(self.c, self.arranged, image, source, outer, column, self.c.taps)


def _row_points(row: Expr, windows: Sequence[Window]) -> list[Expr]:
    """Where `row`, of all rows of an image, lies along each axis but the last."""
    found: list[Expr] = []
    for window in reversed(windows[1:]):
        found.append(apply("rem", row, size(window.output)))
        row = apply("div", row, size(window.output))
    return [row, *reversed(found)] if windows else []


@dataclass(slots=True)
class _Depthwise:
    """One input channel for each output channel: vectors of a row's pixels, one after the other.

    The last vector of a row ends with the row, and so may take up pixels of the one before.
    """

    c: Convolution
    arranged: Hashable | None
    out: Hashable
    machine: Machine

    def scheduled(self) -> Scheduled:
        c = self.c
        work = Axis("work")
        digits = Digits(work)
        channel = digits.digit("channel", c.extents[1])
        image = digits.remaining if c.extents[0] != 1 else index(0)
        names: dict[Expr, Expr] = {c.image: image, c.channel: channel}
        body = self.row(names)
        for axis, extent in reversed(list(zip(c.spatial, c.extents[2:], strict=True))[:-1]):
            body = (For(axis, index(extent), body),)
        steps = c.extents[0] * c.extents[1]
        parallel = For(work, index(steps), (*digits.lets, *body), "parallel")
        taps = product([window.taps for window in c.windows])
        return Scheduled((parallel,), steps, product(c.extents[2:]) * taps)

    def row(self, names: dict[Expr, Expr]) -> Block:
        width = self.c.windows[-1].output
        lanes = self.machine.lanes(self.c.sum_dtype.bits)
        body: Block = (
            For(self.c.spatial[-1], index(width), self.pixel(names, self.c.spatial[-1])),
        )
        for count in (lanes // 2, lanes, 2 * lanes):
            if count < 2 or (isinstance(width, int) and width < count):
                continue
            whole = self.in_vectors(names, count, f".{count}")
            if isinstance(width, int):
                body = whole
            else:
                body = (If(apply("le", const(count, INT64), size(width)), whole, body),)
        return body

    def in_vectors(self, names: dict[Expr, Expr], count: int, suffix: str) -> Block:
        width = self.c.windows[-1].output
        step, lane = Axis(f"step{suffix}"), Axis(f"lane{suffix}")
        first = Ref(f"first{suffix}", INT64)
        start = apply("min", linear((step, count)), linear((width, 1), (-count, 1)))
        vector = For(lane, index(count), self.pixel(names, linear((first, 1), (lane, 1))), "vector")
        return (For(step, index(ceil_div(width, count)), (Let(first.name, start), vector)),)

    def pixel(self, names: dict[Expr, Expr], column: Expr) -> Block:
        c = self.c
        outer = c.spatial[:-1]
        total: Expr = const(0, c.sum_dtype)
        for number, taps in enumerate(_tap_places([window.taps for window in c.windows])):
            factor = weight(c, names[c.channel], index(number))
            item = element(c, self.arranged, names[c.image], names[c.channel], outer, column, taps)
            begins = not number and c.grow == "fma"
            total = apply("mul", item, factor) if begins else apply(c.grow, item, factor, total)
        at = {**names, c.spatial[-1]: column, Ref("sum", c.sum_dtype): total}
        target = tuple(index(substitute(position, at)) for position in c.target)
        return (Store(self.out, target, substitute(c.value, at)),)


def _tap_places(taps: Sequence[int]) -> list[tuple[int, ...]]:
    found: list[tuple[int, ...]] = [()]
    for count in taps:
        found = [(*before, tap) for before in found for tap in range(count)]
    return found
