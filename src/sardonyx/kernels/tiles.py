"""The tiles that products are made of: sums of a few rows and two vectors of columns in registers.

`Tile` is the shape, `Tiles` writes the statements of one product over its packed right operand:
whole tiles of rows, then the rest in smaller ones. `Digits` takes the steps of a parallel loop
apart into panels, blocks of rows and batches.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

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
from sardonyx.loops.kernel import For, If, Let, Local, Store
from sardonyx.loops.scalars import apply, const, size

if TYPE_CHECKING:
    from collections.abc import Hashable

    from sardonyx.dims import DimLike
    from sardonyx.dtypes import DType
    from sardonyx.loops.kernel import Block, Stmt
    from sardonyx.loops.machine import Machine
    from sardonyx.loops.nest import Contraction

__all__ = ["Digits", "Tile", "Tiles", "batch_of_b", "block_rows", "tile_of"]

_STEPS: Final = 4
"""What a trip of a loop does besides multiplying costs a core of one's own nothing, and a tenth of
the speed where two hardware threads share its decoder: so it takes a few steps."""


@dataclass(frozen=True, slots=True)
class Tile:
    """Rows and columns whose sums are held in registers, and the steps of K in a trip."""

    rows: int
    columns: int
    steps: int = 1


def tile_of(machine: Machine, dtype: DType, grow: str = "fma") -> Tile:
    """The greatest tile of two vectors' width whose sums of `dtype`, panel and broadcast fit.

    Where no instruction multiplies pairs, the halves of the panel and of the broadcast do. Several
    steps leave no register for products that one instruction does not add to the sums.
    """
    rows = 12 if machine.registers >= 32 else 6
    if grow == "dot2" and not machine.pairs:
        rows = rows * 2 // 3
    has_fma = machine.vector_bits > 128 or machine.registers >= 32
    is_one = grow == "fma" and dtype.is_floating and has_fma
    return Tile(rows, 2 * machine.lanes(dtype.bits), _STEPS if is_one else 1)


def batch_of_b(c: Contraction) -> list[tuple[Axis, DimLike]]:
    """The batch axes along which the right operand varies."""
    varying = leaves(c.b, Axis)
    return [
        (axis, extent)
        for axis, extent in zip(c.batch, c.batch_extents, strict=True)
        if axis in varying
    ]


class Digits:
    """Takes the steps of a loop apart, the fastest digit first; `lets` name the digits."""

    def __init__(self, work: Axis) -> None:
        self.remaining: Expr = work
        self.lets: list[Stmt] = []

    def digit(self, name: str, extent: DimLike) -> Expr:
        """The next digit, below `extent`."""
        if extent == 1:
            return index(0)
        self.lets.append(Let(name, apply("rem", self.remaining, size(extent))))
        self.lets.append(Let(f"{name}.over", apply("div", self.remaining, size(extent))))
        self.remaining = Ref(f"{name}.over", INT64)
        return Ref(name, INT64)

    def batch(self, c: Contraction) -> dict[Expr, Expr]:
        """What the batch axes of `c` are, the first of them all that remains."""
        names: dict[Expr, Expr] = {}
        batch = list(zip(c.batch, c.batch_extents, strict=True))
        for number, (axis, extent) in reversed(list(enumerate(batch))):
            if number == 0:
                names[axis] = self.remaining if extent != 1 else index(0)
            else:
                names[axis] = self.digit(f"batch{number}", extent)
        return names


def block_rows(
    m: DimLike, start: Expr, most: int, blocks: DimLike
) -> tuple[tuple[Stmt, ...], Expr]:
    """How many rows the block from row `start` on has, `most` or what is left of `m`."""
    if blocks == 1:
        return (), size(m)
    left = apply("sub", size(m), start)
    return (Let("rows", apply("min", left, const(most, INT64))),), Ref("rows", INT64)


class Tiles:
    """Writes the sums of rows of `c` with one panel of its right operand, and their storing.

    `names` are the places of the batch axes and `panel` the number of the panel; `prefix` keeps
    the names of two products in one kernel apart. Without `panels` the right operand is read
    where it lies.
    """

    def __init__(
        self,
        c: Contraction,
        panels: Hashable | None,
        out: Hashable,
        tile: Tile,
        names: dict[Expr, Expr],
        panel: Expr,
        prefix: str = "",
    ) -> None:
        self.c = c
        self.panels = panels
        self.out = out
        self.tile = tile
        self.names = names
        self.panel = panel
        self.prefix = prefix
        self.first_column: Expr = index(0)
        self.m, self.n, self.k = c.sizes

    def row_tiles(self, start: Expr, rows: Expr) -> Block:
        """All rows of a block: whole tiles, then the rest in tiles of a power of two."""
        tile = self.tile
        if isinstance(rows, Linear) and not rows.terms and isinstance(rows.constant, int):
            return self.known_rows(start, rows.constant)
        step = Axis(f"{self.prefix}tile")
        whole = apply("div", rows, const(tile.rows, INT64))
        body: list[Stmt] = [
            Let(f"{self.prefix}whole", whole),
            For(
                step,
                Ref(f"{self.prefix}whole", INT64),
                self.tile_block(linear((start, 1), (step, tile.rows)), tile.rows, ""),
            ),
            Let(f"{self.prefix}done", linear((Ref(f"{self.prefix}whole", INT64), tile.rows))),
        ]
        done: Expr = Ref(f"{self.prefix}done", INT64)
        size_ = 1 << (tile.rows - 1).bit_length() - 1
        while size_:
            test = apply("le", linear((done, 1), (size_, 1)), rows)
            name = f"{self.prefix}done{size_}"
            inner = self.tile_block(linear((start, 1), (done, 1)), size_, f".{size_}")
            body.append(If(test, inner))
            flag = apply("select", test, const(size_, INT64), const(0, INT64), dtype=INT64)
            body.append(Let(name, linear((done, 1), (flag, 1))))
            done = Ref(name, INT64)
            size_ //= 2
        return tuple(body)

    def known_rows(self, start: Expr, rows: int) -> Block:
        """The same for a number of rows that is known."""
        tile = self.tile
        body: list[Stmt] = []
        whole = rows // tile.rows
        if whole:
            step = Axis(f"{self.prefix}tile")
            inner = self.tile_block(linear((start, 1), (step, tile.rows)), tile.rows, "")
            body.append(For(step, index(whole), inner))
        if rows % tile.rows:
            done = whole * tile.rows
            body += self.tile_block(linear((start, 1), (done, 1)), rows - done, ".rest")
        return tuple(body)

    def tile_block(self, first_row: Expr, rows: int, suffix: str) -> Block:
        """The sums of `rows` rows from `first_row` on, and their storing."""
        c, columns = self.c, self.tile.columns
        suffix = f"{self.prefix}{suffix}"
        steps = (
            max(1, min(4, self.tile.rows // (rows * 2) + 1)) if rows * 2 <= self.tile.rows else 1
        )
        sums = f"sums{suffix}"
        row, column, part = Axis(f"row{suffix}"), Axis(f"column{suffix}"), Axis(f"part{suffix}")
        place = linear((part, rows * columns), (row, columns), (column, 1))
        body: list[Stmt] = [Local(sums, c.sum_dtype, (steps * rows * columns,))]
        each = ((part, steps), (row, rows))
        body += _nested(each, column, columns, (Store(sums, (place,), const(0, c.sum_dtype)),))
        body += self.in_steps(sums, first_row, rows, steps, suffix)
        for number in range(1, steps):
            here = linear((row, columns), (column, 1))
            other = linear((here, 1), (number * rows * columns, 1))
            total = apply("add", Load(sums, [here], c.sum_dtype), Load(sums, [other], c.sum_dtype))
            body += _nested(((row, rows),), column, columns, (Store(sums, (here,), total),))
        body += self.store(sums, first_row, rows, suffix)
        return tuple(body)

    def in_steps(self, sums: str, first_row: Expr, rows: int, steps: int, suffix: str) -> Block:
        """The loop over K, `steps` of its steps side by side and a few in a trip, then the rest."""
        outer, turn = Axis(f"outer{suffix}"), Axis(f"turn{suffix}")
        part, rest = Axis(f"step{suffix}"), Axis(f"last{suffix}")
        # the rows that are left over are few, and their code is as long
        is_rest = rows < self.tile.rows and rows != self.m
        turns = 1 if is_rest else max(self.tile.steps // steps, 1)
        trip = turns * steps
        depth = linear((outer, trip), (turn, steps), (part, 1))
        side = self.multiply(sums, first_row, rows, index(part), depth, suffix)
        after = linear((self.k // trip * trip, 1), (rest, 1))
        ending = self.multiply(sums, first_row, rows, index(0), after, f"{suffix}.last")
        each = (For(turn, index(turns), (For(part, index(steps), side, "unroll"),), "unroll"),)
        return For(outer, index(self.k // trip), each), For(rest, index(self.k % trip), ending)

    def multiply(
        self, sums: str, first_row: Expr, rows: int, part: Expr, depth: Expr, suffix: str
    ) -> Block:
        """One step of K: every sum grows by a row's element times the panel's."""
        c, columns = self.c, self.tile.columns
        row, column = Axis(f"r{suffix}"), Axis(f"c{suffix}")
        place = linear((part, rows * columns), (row, columns), (column, 1))
        left = self.left(first_row, row, depth)
        total = apply(c.grow, left, self.right(depth, column), Load(sums, [place], c.sum_dtype))
        return _nested(((row, rows),), column, columns, (Store(sums, (place,), total),))

    def left(self, first_row: Expr, row: Axis, depth: Expr) -> Expr:
        """The left operand's element at `depth` in a row of the tile from `first_row` on."""
        c = self.c
        at = {c.m: linear((first_row, 1), (row, 1)), c.k: index(depth), **self.names}
        return substitute(c.a, at)

    def right(self, depth: Expr, column: Axis) -> Expr:
        """The right operand's element at `depth` in a column of the panel."""
        c = self.c
        if self.panels is None:
            position = linear((self.panel, self.tile.columns), (self.first_column, 1), (column, 1))
            return substitute(c.b, {**self.names, c.n: position, c.k: index(depth)})
        batch = tuple(self.names[axis] for axis, _ in batch_of_b(self.c))
        return Load(self.panels, (*batch, self.panel, depth, column), self.c.sum_dtype)

    def store(self, sums: str, first_row: Expr, rows: int, suffix: str) -> Block:
        """Write the sums through the epilogue; the last panel may have fewer columns."""
        c, columns = self.c, self.tile.columns
        row, column = Axis(f"orow{suffix}"), Axis(f"ocolumn{suffix}")
        here = linear((row, columns), (column, 1))
        first = linear((self.panel, columns), (self.first_column, 1))
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
        if self.panels is None or self.n % columns == 0:
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
