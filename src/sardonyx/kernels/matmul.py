"""Matrix products.

The right operand is packed into panels of two vectors' width, ``[batch][N / width][K][width]``,
with zeros past its end: one format for every M, made once where it is constant. A panel stays in
the cache while the rows go by, a few at a time::

              width = 2 vectors
             ┌───────┐
             │ panel │ K          12 sums in registers (of 16):
             │       │            for each k two loads from the panel,
       K     └───────┘            and for each row one element of a, broadcast
    ┌──────┐ ┌───────┐
  6 │  a   │ │ sums  │            the epilogue is applied to the sums
    └──────┘ └───────┘

All of K is summed in registers. Fewer rows than make the multiplier busy sum several steps of K
side by side. The parallel loop goes over batch, blocks of rows that fit the shared cache, and
panels.

Not packed is a right operand that is not constant where the rows are few (`streamed`: it is read
once, in the order in which it lies) or everything is small (`direct`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from sardonyx.dims import ceil_div, minimum
from sardonyx.dtypes import INT64
from sardonyx.kernels.tiles import Digits, Tile, Tiles, batch_of_b, block_rows, tile_of
from sardonyx.loops.expr import Axis, Expr, Load, Ref, index, linear, substitute
from sardonyx.loops.kernel import For, Let, Local, Scheduled, Store
from sardonyx.loops.nest import Contraction, Nest, Reduction
from sardonyx.loops.scalars import apply, const, size

if TYPE_CHECKING:
    from collections.abc import Hashable

    from sardonyx.dims import DimLike
    from sardonyx.loops.kernel import Block, Stmt
    from sardonyx.loops.machine import Machine

__all__ = [
    "as_rows",
    "direct",
    "is_small",
    "is_streamed",
    "pack",
    "pack_across",
    "panel_shape",
    "product",
    "streamed",
    "tile_of",
]

_SMALL: Final = 32 * 1024
_ROWS_BYTES: Final = 4 << 20
"""Bytes of the left operand that one block takes: they come from the shared cache for each panel,
while the right operand, which may be as large as memory, comes once."""
_BESIDE: Final = 4
"""Columns that are transposed at a time: few enough for a cache set where they lie far apart."""
_STEPS: Final = 8
_CHUNK: Final = 64
_STREAMED_ROWS: Final = 4
_STREAMED_COLUMNS: Final = 1024
_STREAMED_STEPS: Final = 8


def is_small(c: Contraction) -> bool:
    """Whether the product is so small, or has so few rows, that packing for it does not pay."""
    m, n, k = c.sizes
    if m == 1 or n == 1:
        return True
    return all(isinstance(item, int) for item in c.sizes) and m * n * k <= _SMALL


def is_streamed(c: Contraction) -> bool:
    """Whether the rows are so few that the right operand is best read once, as it lies."""
    m = c.sizes[0]
    return isinstance(m, int) and m <= _STREAMED_ROWS


def as_rows(c: Contraction) -> Nest:
    """The contraction as a plain reduction."""
    zero = const(0, c.sum_dtype)
    value = apply("mul", c.a, c.b) if c.grow == "fma" else apply(c.grow, c.a, c.b, zero)
    total = Reduction("sum", "add", zero, value)
    return Nest(
        c.shape, c.dtype, c.axes, c.extents, c.value, c.target, (c.k,), (c.sizes[2],), (total,)
    )


def panel_shape(c: Contraction, tile: Tile) -> tuple[DimLike, ...]:
    """The shape of the packed right operand."""
    _, n, k = c.sizes
    batch = (extent for _, extent in batch_of_b(c))
    return (*batch, ceil_div(n, tile.columns), k, tile.columns)


def pack(c: Contraction, tile: Tile) -> list[Nest]:
    """How the right operand is packed: whole panels, if there are any, then the last one."""
    _, n, k = c.sizes
    batch = batch_of_b(c)
    shape = panel_shape(c, tile)
    panel, column = Axis("panel"), Axis("column")
    position = linear((panel, tile.columns), (column, 1))
    axes = (*(axis for axis, _ in batch), panel, c.k, column)
    value = substitute(c.b, {c.n: position})
    target = tuple(index(axis) for axis in axes)
    extents = tuple(extent for _, extent in batch)
    whole, rest = _divided(n, tile.columns)
    nests: list[Nest] = []
    if whole != 0:
        full = (*extents, whole, k, tile.columns)
        nests.append(Nest(shape, c.sum_dtype, axes, full, value, target))
    if rest != 0:
        at_end = (*(index(axis) for axis, _ in batch), index(ceil_div(n, tile.columns) - 1))
        last = (*at_end, index(c.k), index(column))
        outer = (*(axis for axis, _ in batch), c.k, column)
        # without columns there is no last panel
        steps = k * minimum(n, 1)
        blank = Nest(
            shape,
            c.sum_dtype,
            outer,
            (*extents, steps, tile.columns),
            const(0, c.sum_dtype),
            last,
        )
        tail = substitute(value, {panel: index(ceil_div(n, tile.columns) - 1)})
        width = n - (ceil_div(n, tile.columns) - 1) * tile.columns
        copied = replace(blank, extents=(*extents, steps, width), value=tail)
        nests += [blank, copied]
    return nests


def pack_across(c: Contraction, tile: Tile, panels: Hashable) -> Scheduled:
    """Packs the whole panels of a right operand whose neighbours are along K.

    ::

           8 of K               4 columns
         ┌────────┐               ┌───┐
         │ ──────▶│ 4      ───▶   │ ─▶│ 8 of K
         └────────┘ columns       └───┘
    """
    _, n, k = c.sizes
    batch = batch_of_b(c)
    work = Axis("work")
    digits = Digits(work)
    count = n // tile.columns
    panel = digits.digit("panel", count)
    names: dict[Expr, Expr] = {}
    for number, (axis, extent) in reversed(list(enumerate(batch))):
        names[axis] = digits.digit(f"batch{number}", extent) if number else digits.remaining
        if extent == 1:
            names[axis] = index(0)
    chunk, group, block = Axis("chunk"), Axis("group"), Axis("block")
    last, step, column = Axis("last"), Axis("step"), Axis("column")
    here = linear((column, _STEPS), (step, 1))
    beside: Expr = linear((group, _BESIDE), (column, 1))

    def element(depth: Expr, position: Expr) -> Expr:
        at = {**names, c.n: linear((panel, tile.columns), (position, 1)), c.k: index(depth)}
        return substitute(c.b, at)

    def packed(depth: Expr, position: Expr, extent: int, value: Expr) -> For:
        where = (*(index(names[axis]) for axis, _ in batch), panel, depth, position)
        store = Store(panels, tuple(map(index, where)), value)
        return For(column, index(extent), (store,), "vector")

    depth = linear((chunk, _CHUNK), (block, _STEPS), (step, 1))
    read = For(step, index(_STEPS), (Store("square", (here,), element(depth, beside)),), "vector")
    moved = Load("square", [here], c.sum_dtype)
    square: Block = (
        Local("square", c.sum_dtype, (_BESIDE * _STEPS,)),
        For(column, index(_BESIDE), (read,), "unroll"),
        For(step, index(_STEPS), (packed(depth, beside, _BESIDE, moved),), "unroll"),
    )
    along = For(block, index(_CHUNK // _STEPS), square)
    after = linear((k // _CHUNK * _CHUNK, 1), (last, 1))
    ending = packed(after, column, tile.columns, element(after, column))
    body: Block = (
        *digits.lets,
        For(chunk, index(k // _CHUNK), (For(group, index(tile.columns // _BESIDE), (along,)),)),
        For(last, index(k % _CHUNK), (ending,)),
    )
    steps: DimLike = count
    for _, extent in batch:
        steps = steps * extent
    return Scheduled((For(work, index(steps), body, "parallel"),), steps, k * tile.columns)


def _divided(n: DimLike, columns: int) -> tuple[DimLike, DimLike]:
    return n // columns, n % columns


def product(
    c: Contraction, panels: Hashable, out: Hashable, machine: Machine, tile: Tile
) -> Scheduled:
    """The loops of the contraction over the packed right operand in the buffer `panels`."""
    m, n, k = c.sizes
    depth = k if isinstance(k, int) else 1024
    fitting = _ROWS_BYTES // max(depth * 4, 1)
    most = max(min(fitting, 2040) // tile.rows, 2) * tile.rows
    if isinstance(m, int) and m > most:
        # blocks of one size: what divides the work among threads counts them alike
        even = -(-m // -(-m // most))
        most = -(-even // tile.rows) * tile.rows
    count, blocks = ceil_div(n, tile.columns), ceil_div(m, most)
    work = Axis("work")
    digits = Digits(work)
    panel = digits.digit("panel", count)
    block = digits.digit("block", blocks)
    names = digits.batch(c)
    start = linear((block, most))
    lets, rows = block_rows(m, start, most, blocks)
    tiles = Tiles(c, panels, out, tile, names, panel)
    body = (*digits.lets, *lets, *tiles.row_tiles(start, rows))
    steps: DimLike = count * blocks
    for dim in c.batch_extents:
        steps = steps * dim
    each = k * min(most, 64) * tile.columns // 8 if isinstance(k, int) else 65536
    return Scheduled((For(work, index(steps), body, "parallel"),), steps, each)


def direct(c: Contraction, out: Hashable, tile: Tile) -> Scheduled:
    """The loops of a small product of known sizes, whose right operand is read where it lies."""
    m, n, k = c.sizes
    assert isinstance(m, int)
    assert isinstance(n, int)
    work, panel = Axis("work"), Axis("panel")
    digits = Digits(work)
    names = digits.batch(c)
    body: list[Stmt] = list(digits.lets)
    whole, done = n // tile.columns, 0
    if whole:
        tiles = Tiles(c, None, out, tile, names, panel)
        body.append(For(panel, index(whole), tiles.row_tiles(index(0), index(m))))
        done = whole * tile.columns
    while done < n:
        width = 1 << (n - done).bit_length() - 1
        narrow = replace(tile, columns=width)
        tiles = Tiles(c, None, out, narrow, names, index(0), f"from{done}.")
        tiles.first_column = index(done)
        body += tiles.row_tiles(index(0), index(m))
        done += width
    steps: DimLike = 1
    for dim in c.batch_extents:
        steps = steps * dim
    return Scheduled((For(work, index(steps), tuple(body), "parallel"),), steps, m * n * k // 8 + 1)


def streamed(c: Contraction, out: Hashable) -> Scheduled:
    """The loops of a product of few rows that reads the right operand once, row by row.

    ::

               1024 columns
           ┌────────────────┐
           │ b, 8 rows      │ k      sums of 1024 columns in the L1 cache
           ├────────────────┤
           │ then the next  │
    """
    m, n, k = c.sizes
    assert isinstance(m, int)
    width = n if isinstance(n, int) and n <= _STREAMED_COLUMNS else _STREAMED_COLUMNS
    blocks = ceil_div(n, width)
    work, row, column = Axis("work"), Axis("row"), Axis("column")
    digits = Digits(work)
    block = digits.digit("block", blocks)
    names = digits.batch(c)
    body: list[Stmt] = [*digits.lets, Local("sums", c.sum_dtype, (m * width,))]
    columns: Expr = index(width)
    if n % width != 0:
        left = apply("sub", size(n), linear((block, width)))
        body.append(Let("columns", apply("min", left, const(width, INT64))))
        columns = Ref("columns", INT64)
    position = linear((block, width), (column, 1))
    place = linear((row, width), (column, 1))
    total = Load("sums", [place], c.sum_dtype)

    def each(*stmts: Stmt) -> For:
        return For(column, columns, (For(row, index(m), stmts, "unroll"),), "vector")

    def step(first: Expr, count: int) -> For:
        found: Expr = total
        for number in range(count):
            at = {**names, c.m: row, c.n: position, c.k: linear((first, 1), (number, 1))}
            found = apply(c.grow, substitute(c.a, at), substitute(c.b, at), found)
        return each(Store("sums", (place,), found))

    outer, rest = Axis("outer"), Axis("rest")
    whole = k // _STREAMED_STEPS
    at = {**names, c.m: row, c.n: position, Ref("sum", c.sum_dtype): total}
    target = tuple(index(substitute(where, at)) for where in c.target)
    body += [
        each(Store("sums", (place,), const(0, c.sum_dtype))),
        For(outer, index(whole), (step(linear((outer, _STREAMED_STEPS)), _STREAMED_STEPS),)),
        For(
            rest,
            index(k % _STREAMED_STEPS),
            (step(linear((whole * _STREAMED_STEPS, 1), (rest, 1)), 1),),
        ),
        each(Store(out, target, substitute(c.value, at))),
    ]
    steps: DimLike = blocks
    for dim in c.batch_extents:
        steps = steps * dim
    return Scheduled((For(work, index(steps), tuple(body), "parallel"),), steps, k * width * m // 4)
