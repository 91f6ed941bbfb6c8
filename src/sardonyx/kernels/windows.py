"""How the weights and the input of a convolution lie before its sums are taken.

The weights are packed as panels of a tile's channels, or lined up as a row for each channel. The
input is copied where it has padding, or where windows overlap with a stride: `arrange` says how it
lies then, so that the pixels of a row read neighbours::

    row        0 0 a b c d e 0            padding 2 and 1
    stride 1   0 0 a b c d e 0
    stride 2   0 a c e, 0 b d 0           one part for each place within the stride
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sardonyx.dims import ceil_div, maximum
from sardonyx.dtypes import INT64
from sardonyx.kernels.tiles import Digits, tile_of
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
from sardonyx.loops.kernel import For, If, Let, Scheduled, Store
from sardonyx.loops.nest import Nest
from sardonyx.loops.scalars import apply, const, select, size

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from sardonyx.dims import DimLike
    from sardonyx.loops.kernel import Block
    from sardonyx.loops.machine import Machine
    from sardonyx.loops.nest import Convolution, Window

    Place = Callable[[Hashable, Sequence[Linear]], Linear]

__all__ = [
    "arrange",
    "arranged_shape",
    "as_last",
    "element",
    "is_arranged",
    "is_direct",
    "is_lined_up",
    "line_up",
    "pack",
    "product",
    "tap_position",
    "weight",
    "weights_shape",
]

_MOST_TAPS: Final = 49
"""Taps that are written one after the other, at most."""


def product(dims: Sequence[DimLike]) -> DimLike:
    """The product of sizes."""
    found: DimLike = 1
    for dim in dims:
        found = found * dim
    return found


def as_last(flat: Linear, rank: int) -> tuple[Linear, ...]:
    """A place in a whole buffer as indices."""
    return (*(index(0) for _ in range(rank - 1)), flat) if rank else ()


# -- weights ------------------------------------------------------------------------------------


def weights_shape(c: Convolution) -> tuple[DimLike, DimLike]:
    """Output channels, and elements that each is a sum of."""
    return c.extents[1], c.channels * product([window.taps for window in c.windows])


def tap_position(c: Convolution) -> Linear:
    """The place of `depth` and `taps` in the weights of one output channel."""
    position = index(c.depth)
    for axis, window in zip(c.taps, c.windows, strict=True):
        position = linear((position, window.taps), (axis, 1))
    return position


def is_lined_up(c: Convolution, place: Place) -> bool:
    """Whether the weights lie in memory as a row for each output channel."""
    if not isinstance(c.w, Load):
        return False
    _, length = weights_shape(c)
    wanted = linear((c.channel, length), (tap_position(c), 1))
    return place(c.w.buffer, c.w.indices) is wanted


def line_up(c: Convolution) -> Nest:
    """The weights as a row for each output channel."""
    shape = weights_shape(c)
    axes = (c.channel, c.depth, *c.taps)
    extents = (c.extents[1], c.channels, *(window.taps for window in c.windows))
    return Nest(shape, c.sum_dtype, axes, extents, c.w, (index(c.channel), tap_position(c)))


def is_direct(c: Convolution) -> bool:
    """Whether each output channel reads one input channel of its own, through few taps."""
    taps = product([window.taps for window in c.windows])
    alone = c.channels == 1 and c.extents[1] == c.group
    return alone and isinstance(taps, int) and taps <= _MOST_TAPS


def pack(c: Convolution, machine: Machine) -> Nest:
    """The weights as panels of a tile's channels, those past a group's end 0."""
    channels, length = weights_shape(c)
    count = channels // c.group
    rows = tile_of(machine, c.sum_dtype, c.grow).rows
    panels = ceil_div(count, rows)
    group, panel, row = Axis("group"), Axis("panel"), Axis("row")
    number = linear((panel, rows), (row, 1))
    last = apply("min", number, size(count - 1))
    value = substitute(c.w, {c.channel: linear((group, count), (last, 1))})
    inside = apply("lt", number, size(count))
    return Nest(
        (c.group * panels, length, rows),
        c.sum_dtype,
        (group, panel, c.depth, *c.taps, row),
        (c.group, panels, c.channels, *(window.taps for window in c.windows), rows),
        select(inside, value, const(0, c.sum_dtype)),
        (linear((group, panels), (panel, 1)), tap_position(c), index(row)),
    )


def weight(c: Convolution, channel: Expr, number: Expr) -> Load:
    """An element of the lined up weights."""
    assert isinstance(c.w, Load)
    flat = linear((channel, weights_shape(c)[1]), (number, 1))
    return Load(c.w.buffer, as_last(flat, len(c.w.indices)), c.sum_dtype)


# -- the input ----------------------------------------------------------------------------------


def is_arranged(c: Convolution, place: Place) -> bool:
    """Whether the input must be copied before."""
    if c.is_padded_or_strided or not isinstance(c.x, Load):
        return True
    return coefficient(place(c.x.buffer, c.x.indices), c.positions[-1]) != 1


def _columns(window: Window) -> DimLike:
    """How many elements the arranged rows have for each place within the stride."""
    return maximum(window.output, 0) + (window.taps - 1) * window.dilation // window.stride


def arranged_shape(c: Convolution) -> tuple[DimLike, ...]:
    """Image, source, padded sizes, place within the stride, column."""
    outer = (w.size + w.begin + w.end for w in c.windows[:-1])
    last = c.windows[-1]
    return (c.extents[0], c.channels * c.group, *outer, last.stride, _columns(last))


def arrange(c: Convolution, out: Hashable) -> Scheduled:
    """Copies the input into `out`, of `arranged_shape`."""
    shape = arranged_shape(c)
    last = c.windows[-1]
    work = Axis("work")
    digits = Digits(work)
    source = digits.digit("source", shape[1])
    image = digits.remaining if shape[0] != 1 else index(0)
    lines = [Axis(f"line{number}") for number in range(len(c.windows) - 1)]
    phase, column = Axis("phase"), Axis("column")
    conditions: Expr | None = None
    at: dict[Expr, Expr] = {c.image: image, c.source: source}
    for line, window, axis in zip(lines, c.windows[:-1], c.positions[:-1], strict=True):
        position = linear((line, 1), (window.begin, -1))
        at[axis] = position
        if window.begin == 0 and window.end == 0:
            continue
        for test in (
            apply("le", const(0, INT64), position),
            apply("lt", position, size(window.size)),
        ):
            conditions = test if conditions is None else apply("and", conditions, test)

    def bound(limit: DimLike, least: Expr) -> Expr:
        """The first column whose element is `limit` or after."""
        distance = linear((limit, 1), (last.begin, 1), (phase, -1), (last.stride - 1, 1))
        steps = distance if last.stride == 1 else apply("div", distance, size(last.stride))
        return apply("max", apply("min", steps, size(shape[-1])), least)

    low, high = Ref("low", INT64), Ref("high", INT64)
    before = (image, source, *lines, phase)
    zero = const(0, c.sum_dtype)

    def copied(first: Expr, count: Expr, mode: str = "vector", *, zeros: bool) -> For:
        here = linear((first, 1), (column, 1))
        at[c.positions[-1]] = linear((here, last.stride), (phase, 1), (last.begin, -1))
        target = tuple(map(index, (*before, here)))
        value = zero if zeros else substitute(c.x, at)
        return For(column, count, (Store(out, target, value),), mode)

    end = size(shape[-1])
    inside: Block = (
        Let("low", bound(0, const(0, INT64))),
        Let("high", bound(last.size, low)),
        copied(index(0), low, "serial", zeros=True),
        copied(low, apply("sub", high, low), zeros=False),
        copied(high, apply("sub", end, high), "serial", zeros=True),
    )
    body = inside
    if conditions is not None:
        body = (If(conditions, inside, (copied(index(0), end, zeros=True),)),)
    body = (For(phase, index(last.stride), body),)
    for line, extent in reversed(list(zip(lines, shape[2:], strict=False))):
        body = (For(line, index(extent), body),)
    steps = shape[0] * shape[1]
    parallel = For(work, index(steps), (*digits.lets, *body), "parallel")
    return Scheduled((parallel,), steps, product(shape[2:]) * 2)


def element(
    c: Convolution,
    arranged: Hashable | None,
    image: Expr,
    source: Expr,
    outer: Sequence[Expr],
    column: Expr,
    taps: Sequence[Expr | int],
) -> Expr:
    """What the windows at `outer` and `column` see at `taps`."""
    last = c.windows[-1]
    places = [
        linear((point, window.stride), (tap, window.dilation))
        for point, tap, window in zip(outer, taps, c.windows, strict=False)
    ]
    shift = linear((taps[-1], last.dilation))
    if arranged is None:
        names: dict[Expr, Expr] = {c.image: image, c.source: source}
        positions = [*places, linear((column, last.stride), (shift, 1))]
        names.update(zip(c.positions, positions, strict=True))
        return substitute(c.x, names)
    phase: Expr = index(0)
    if last.stride > 1:
        phase = index(apply("rem", shift, const(last.stride, INT64)))
        shift = index(apply("div", shift, const(last.stride, INT64)))
    where = (image, source, *places, phase, linear((column, 1), (shift, 1)))
    return Load(arranged, where, c.sum_dtype)
