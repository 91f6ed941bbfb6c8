"""Attention: scores of a few rows, the row operation on them, and their product with the values.

::

              keys               values
             ┌──────┐           ┌──┐
             │panels│ depth     │  │ panels
      depth  └──────┘           │  │
      ┌──┐   ┌──────┐  in place │  │      ┌──┐
   24 │  │   │scores│ ────────▶ │  │ ───▶ │  │ 24 rows of the result
      └──┘   └──────┘  softmax  └──┘      └──┘

The rows of scores of one block stay in the cache of the core that makes them; the right operands
are packed as for any product. The parallel loop goes over batch and blocks of rows.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from sardonyx.dims import ceil_div, minimum
from sardonyx.kernels.tiles import Digits, Tiles, block_rows
from sardonyx.loops.expr import Axis, Load, Ref, index, linear, substitute
from sardonyx.loops.kernel import For, Local, Scheduled

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from sardonyx.kernels.tiles import Tile
    from sardonyx.loops.expr import Expr
    from sardonyx.loops.kernel import Block
    from sardonyx.loops.machine import Machine
    from sardonyx.loops.nest import Chain, Nest

__all__ = ["attention"]

_ROWS: Final = 24
"""Rows in a block where the number of keys is a symbol; 2048 keys then fill a good part of L2."""
_MOST_ROWS: Final = 48


def attention(
    chain: Chain,
    panels: tuple[Hashable, Hashable],
    out: Hashable,
    machine: Machine,
    tiles: Sequence[Tile],
    row_statements: Callable[[Nest, Hashable], Block],
) -> Scheduled:
    """The loops of `chain` over its packed right operands; `row_statements` writes one row."""
    first, nest, second = chain.first, chain.rows, chain.second
    m, keys, _ = first.sizes
    most = _block(chain, machine, tiles[0].rows)
    blocks = ceil_div(m, most)
    work = Axis("work")
    digits = Digits(work)
    block = digits.digit("block", blocks)
    names = digits.batch(second)
    start = linear((block, most))
    lets, rows = block_rows(m, start, most, blocks)
    height = minimum(m, most)
    scratch = [Local("scores", first.dtype, (height * keys,))]
    weights = "scores"
    if nest.dtype is not first.dtype:
        weights = "weights"
        scratch.append(Local(weights, nest.dtype, (height * keys,)))
    key = nest.inner[0]
    place = linear((second.m, keys), (start, -keys), (key, 1))
    into = replace(first, dtype=first.dtype, target=(place,))
    weight = Load(weights, [place], nest.dtype)
    onto = replace(second, a=substitute(second.a, {Ref("weight", nest.dtype): weight}))
    left, right = Axis("keys.panel"), Axis("values.panel")
    scores = Tiles(into, panels[0], "scores", tiles[0], names, left, "keys.")
    result = Tiles(onto, panels[1], out, tiles[1], names, right, "values.")
    line = Axis("line")
    locals_, operation = _row(chain, weights, names, start, line, row_statements)
    body = (
        *digits.lets,
        *lets,
        *scratch,
        *locals_,
        For(left, index(ceil_div(keys, tiles[0].columns)), scores.row_tiles(start, rows)),
        For(line, rows, operation),
        For(
            right,
            index(ceil_div(second.sizes[1], tiles[1].columns)),
            result.row_tiles(start, rows),
        ),
    )
    steps = blocks
    for dim in second.batch_extents:
        steps = steps * dim
    return Scheduled((For(work, index(steps), body, "parallel"),), steps, 1 << 16)


def _block(chain: Chain, machine: Machine, rows: int) -> int:
    """How many rows of scores are made at a time: as many as take a quarter of the L2 cache."""
    keys = chain.first.sizes[1]
    most = _ROWS
    if isinstance(keys, int):
        most = min(machine.l2 // 4 // max(keys * chain.first.dtype.bits // 8, 1), _MOST_ROWS)
    return max(most // rows, 1) * rows


def _row(
    chain: Chain,
    weights: str,
    names: dict[Expr, Expr],
    start: Expr,
    line: Axis,
    row_statements: Callable[[Nest, Hashable], Block],
) -> tuple[Block, Block]:
    """The scratch buffers of the row operation and its statements for the row `line`."""
    nest, keys = chain.rows, chain.first.sizes[1]
    place = linear((line, keys), (nest.inner[0], 1))
    score = Ref("score", chain.first.dtype)
    at: dict[Expr, Expr] = {
        **names,
        chain.second.m: linear((start, 1), (line, 1)),
        score: Load("scores", [place], score.dtype),
    }
    one = replace(nest.map(lambda expr: substitute(expr, at)), target=(place,))
    statements = row_statements(one, weights)
    locals_ = tuple(stmt for stmt in statements if isinstance(stmt, Local))
    return locals_, tuple(stmt for stmt in statements if not isinstance(stmt, Local))
