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
side by side. The parallel loop goes over batch, blocks of rows that fit the L2 cache, and panels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from sardonyx.dims import ceil_div
from sardonyx.dtypes import INT64
from sardonyx.loops.expr import (
    Axis,
    Expr,
    Linear,
    Load,
    Ref,
    index,
    leaves,
    linear,
    substitute,
)
from sardonyx.loops.kernel import For, If, Let, Local, Scheduled, Store
from sardonyx.loops.nest import Contraction, Nest, Pieces, Reduction
from sardonyx.loops.scalars import apply, const, size

if TYPE_CHECKING:
    from collections.abc import Hashable

    from sardonyx.loops.machine import Machine
    from sardonyx.dims import DimLike
    from sardonyx.loops.kernel import Block, Stmt

__all__ = ["Tile", "as_rows", "is_small", "pack", "panel_shape", "product", "tile_of"]

_SMALL: Final = 32 * 1024


@dataclass(frozen=True, slots=True)
class Tile:
    """Rows and columns whose sums are held in registers."""

    rows: int
    columns: int


def tile_of(machine: Machine, bits: int) -> Tile:
    """The greatest tile of two vectors' width whose sums, panel and broadcast fit."""
    lanes = machine.lanes(bits)
    return Tile(12 if machine.registers >= 32 else 6, 2 * lanes)


def is_small(c: Contraction) -> bool:
    """Whether the product is better written as plain loops than packed."""
    m, n, k = c.sizes
    if m == 1 or n == 1:
        return True
    return all(isinstance(item, int) for item in c.sizes) and m * n * k <= _SMALL


def as_rows(c: Contraction) -> Nest:
    """The contraction as a plain reduction."""
    zero = const(0, c.sum_dtype)
    value = apply("mul", c.a, c.b)
    total = Reduction("sum", "add", zero, value)
    return Nest(
        c.shape, c.dtype, c.axes, c.extents, c.value, c.target, (c.k,), (c.sizes[2],), (total,)
    )


def _batch_of_b(c: Contraction) -> list[tuple[Axis, DimLike]]:
    """The batch axes along which the right operand varies."""
    varying = leaves(c.b, Axis)
    return [
        (axis, extent)
        for axis, extent in zip(c.batch, c.batch_extents, strict=True)
        if axis in varying
    ]


def panel_shape(c: Contraction, tile: Tile) -> tuple[DimLike, ...]:
    """The shape of the packed right operand."""
    _, n, k = c.sizes
    batch = (extent for _, extent in _batch_of_b(c))
    return (*batch, ceil_div(n, tile.columns), k, tile.columns)


def pack(c: Contraction, tile: Tile) -> Pieces:
    """How the right operand is packed."""
    _, n, k = c.sizes
    batch = _batch_of_b(c)
    shape = panel_shape(c, tile)
    panel, column = Axis("panel"), Axis("column")
    position = linear((panel, tile.columns), (column, 1))
    axes = (*(axis for axis, _ in batch), panel, c.k, column)
    value = substitute(c.b, {c.n: position})
    target = tuple(index(axis) for axis in axes)
    extents = tuple(extent for _, extent in batch)
    whole, rest = _divided(n, tile.columns)
    nests = []
    if whole != 0:
        full = (*extents, whole, k, tile.columns)
        nests.append(Nest(shape, c.sum_dtype, axes, full, value, target))
    if rest != 0:
        at_end = (*(index(axis) for axis, _ in batch), index(ceil_div(n, tile.columns) - 1))
        last = (*at_end, index(c.k), index(column))
        outer = (*(axis for axis, _ in batch), c.k, column)
        blank = Nest(
            shape,
            c.sum_dtype,
            outer,
            (*extents, k, tile.columns),
            const(0, c.sum_dtype),
            last,
        )
        tail = substitute(value, {panel: index(ceil_div(n, tile.columns) - 1)})
        width = n - (ceil_div(n, tile.columns) - 1) * tile.columns
        copied = replace(blank, extents=(*extents, k, width), value=tail)
        nests += [blank, copied]
    return Pieces(shape, c.sum_dtype, tuple(nests))


def _divided(n: DimLike, columns: int) -> tuple[DimLike, DimLike]:
    return n // columns, n % columns


def product(
    c: Contraction, panels: Hashable, out: Hashable, machine: Machine, tile: Tile
) -> Scheduled:
    """The loops of the contraction over the packed right operand in the buffer `panels`."""
    return _Product(c, panels, out, machine, tile).scheduled()


class _Product:
    def __init__(
        self, c: Contraction, panels: Hashable, out: Hashable, machine: Machine, tile: Tile
    ) -> None:
        self.c = c
        self.panels = panels
        self.out = out
        self.tile = tile
        self.m, self.n, self.k = c.sizes
        depth = self.k if isinstance(self.k, int) else 1024
        fitting = machine.l2 // 2 // max(depth * 4, 1)
        self.block = max(min(fitting, 240) // tile.rows, 2) * tile.rows
        self.first_row: Expr = index(0)
        self.panel: Expr = index(0)
        self.names: dict[Expr, Expr] = {}

    def scheduled(self) -> Scheduled:
        c, tile = self.c, self.tile
        panels = ceil_div(self.n, tile.columns)
        blocks = ceil_div(self.m, self.block)
        work = Axis("work")
        body: list[Stmt] = []
        remaining: Expr = work

        def digit(name: str, extent: DimLike) -> Expr:
            nonlocal remaining
            if extent == 1:
                return index(0)
            body.append(Let(name, apply("rem", remaining, size(extent))))
            body.append(Let(f"{name}.over", apply("div", remaining, size(extent))))
            remaining = Ref(f"{name}.over", INT64)
            return Ref(name, INT64)

        self.panel = digit("panel", panels)
        block = digit("block", blocks)
        batch = list(zip(c.batch, c.batch_extents, strict=True))
        for number, (axis, extent) in reversed(list(enumerate(batch))):
            if number == 0:
                self.names[axis] = remaining if extent != 1 else index(0)
            else:
                self.names[axis] = digit(f"batch{number}", extent)
        start = linear((block, self.block))
        body.append(Let("left", apply("sub", size(self.m), start)))
        left = Ref("left", INT64)
        rows: Expr = size(self.m)
        if blocks != 1:
            body.append(Let("rows", apply("min", left, const(self.block, INT64))))
            rows = Ref("rows", INT64)
        body += self.row_tiles(start, rows)
        steps: DimLike = panels * blocks
        for dim in c.batch_extents:
            steps = steps * dim
        each = (
            self.k * min(self.block, 64) * tile.columns // 8 if isinstance(self.k, int) else 65536
        )
        parallel = For(work, index(steps), tuple(body), "parallel")
        return Scheduled((parallel,), steps, each)

    def row_tiles(self, start: Expr, rows: Expr) -> Block:
        """All rows of a block: whole tiles, then the rest in tiles of a power of two."""
        tile = self.tile
        if isinstance(rows, Linear) and not rows.terms and isinstance(rows.constant, int):
            return self.known_rows(start, rows.constant)
        step = Axis("tile")
        whole = apply("div", rows, const(tile.rows, INT64))
        body: list[Stmt] = [
            Let("whole", whole),
            For(
                step,
                Ref("whole", INT64),
                self.tile_block(linear((start, 1), (step, tile.rows)), tile.rows, ""),
            ),
            Let("done", linear((Ref("whole", INT64), tile.rows))),
        ]
        done: Expr = Ref("done", INT64)
        size_ = 1 << (tile.rows - 1).bit_length() - 1
        while size_:
            test = apply("le", linear((done, 1), (size_, 1)), rows)
            name = f"done{size_}"
            inner = self.tile_block(linear((start, 1), (done, 1)), size_, f".{size_}")
            body.append(If(test, inner))
            flag = apply("select", test, const(size_, INT64), const(0, INT64), dtype=INT64)
            body.append(Let(name, linear((done, 1), (flag, 1))))
            done = Ref(name, INT64)
            size_ //= 2
        return tuple(body)

    def known_rows(self, start: Expr, rows: int) -> Block:
        tile = self.tile
        body: list[Stmt] = []
        whole = rows // tile.rows
        if whole:
            step = Axis("tile")
            inner = self.tile_block(linear((start, 1), (step, tile.rows)), tile.rows, "")
            body.append(For(step, index(whole), inner))
        if rows % tile.rows:
            done = whole * tile.rows
            body += self.tile_block(linear((start, 1), (done, 1)), rows - done, ".rest")
        return tuple(body)

    def tile_block(self, first_row: Expr, rows: int, suffix: str) -> Block:
        """The sums of `rows` rows from `first_row` on, and their storing."""
        c, columns = self.c, self.tile.columns
        steps = (
            max(1, min(4, self.tile.rows // (rows * 2) + 1)) if rows * 2 <= self.tile.rows else 1
        )
        sums = f"sums{suffix}"
        row, column, part = Axis(f"row{suffix}"), Axis(f"column{suffix}"), Axis(f"part{suffix}")
        place = linear((part, rows * columns), (row, columns), (column, 1))
        body: list[Stmt] = [Local(sums, c.sum_dtype, (steps * rows * columns,))]
        each = ((part, steps), (row, rows))
        body += _nested(each, column, columns, (Store(sums, (place,), const(0, c.sum_dtype)),))
        if steps == 1:
            body.append(
                For(c.k, index(self.k), self.multiply(sums, first_row, rows, index(0), c.k, suffix))
            )
        else:
            body += self.in_steps(sums, first_row, rows, steps, suffix)
            for number in range(1, steps):
                here = linear((row, columns), (column, 1))
                other = linear((here, 1), (number * rows * columns, 1))
                total = apply(
                    "add", Load(sums, [here], c.sum_dtype), Load(sums, [other], c.sum_dtype)
                )
                body += _nested(((row, rows),), column, columns, (Store(sums, (here,), total),))
        body += self.store(sums, first_row, rows, suffix)
        return tuple(body)

    def in_steps(self, sums: str, first_row: Expr, rows: int, steps: int, suffix: str) -> Block:
        """The loop over K with `steps` of its steps side by side, then the rest one by one."""
        outer, part, rest = Axis(f"outer{suffix}"), Axis(f"step{suffix}"), Axis(f"last{suffix}")
        whole = index(self.k // steps)
        depth = linear((outer, steps), (part, 1))
        side = self.multiply(sums, first_row, rows, index(part), depth, suffix)
        after = linear((self.k // steps * steps, 1), (rest, 1))
        ending = self.multiply(sums, first_row, rows, index(0), after, f"{suffix}.last")
        return (
            For(outer, whole, (For(part, index(steps), side, "unroll"),)),
            For(rest, index(self.k % steps), ending),
        )

    def multiply(
        self, sums: str, first_row: Expr, rows: int, part: Expr, depth: Expr, suffix: str
    ) -> Block:
        """One step of K: every sum grows by a row's element times the panel's."""
        c, columns = self.c, self.tile.columns
        row, column = Axis(f"r{suffix}"), Axis(f"c{suffix}")
        place = linear((part, rows * columns), (row, columns), (column, 1))
        at = {c.m: linear((first_row, 1), (row, 1)), c.k: index(depth), **self.names}
        left = substitute(c.a, at)
        batch = tuple(self.names[axis] for axis, _ in _batch_of_b(c))
        right = Load(self.panels, (*batch, self.panel, depth, column), c.sum_dtype)
        total = apply("fma", left, right, Load(sums, [place], c.sum_dtype))
        return _nested(((row, rows),), column, columns, (Store(sums, (place,), total),))

    def store(self, sums: str, first_row: Expr, rows: int, suffix: str) -> Block:
        """Write the sums through the epilogue; the last panel may have fewer columns."""
        c, columns = self.c, self.tile.columns
        row, column = Axis(f"orow{suffix}"), Axis(f"ocolumn{suffix}")
        here = linear((row, columns), (column, 1))
        first = linear((self.panel, columns))
        at = {
            c.m: linear((first_row, 1), (row, 1)),
            c.n: linear((first, 1), (column, 1)),
            **self.names,
        }

        def written(total: Expr) -> Store:
            names = {**at, Ref("sum", c.sum_dtype): total}
            target = tuple(index(substitute(position, names)) for position in c.target)
            return Store(self.out, target, substitute(c.value, names))

        whole = _nested(
            ((row, rows),), column, columns, (written(Load(sums, [here], c.sum_dtype)),)
        )
        if self.n % self.tile.columns == 0:
            return whole
        edge = f"edge{suffix}"
        copied = Store(edge, (here,), Load(sums, [here], c.sum_dtype))
        narrow = (
            Local(edge, c.sum_dtype, (rows * columns,)),
            *_nested(((row, rows),), column, columns, (copied,)),
            For(
                row,
                index(rows),
                (
                    For(
                        column,
                        apply("sub", size(self.n), first),
                        (written(Load(edge, [here], c.sum_dtype)),),
                    ),
                ),
            ),
        )
        fits = apply("le", linear((first, 1), (columns, 1)), size(self.n))
        return (If(fits, whole, narrow),)


def _nested(outer: tuple[tuple[Axis, int], ...], column: Axis, columns: int, body: Block) -> Block:
    """`body` for each column, in vectors, for each step of the unrolled `outer` loops."""
    body = (For(column, index(columns), body, "vector"),)
    for axis, extent in reversed(outer):
        body = (For(axis, index(extent), body, "unroll"),)
    return body
