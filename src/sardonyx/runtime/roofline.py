"""What one core of this machine reaches at most, measured with small generated kernels.

Multiplying: sums in registers, each of which grows by a multiply-add in every step. Moving: a
kernel that reads and writes a matrix, and one that only reads it, over matrices of several sizes;
for each size the better of the two counts. What a kernel could reach at most is what it multiplies
at the one rate or what it moves at the other, whichever takes longer.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from sardonyx.codegen.build import addresses_of, runner_library
from sardonyx.codegen.machine import host
from sardonyx.dtypes import FLOAT
from sardonyx.kernels.matmul import tile_of
from sardonyx.loops.expr import Axis, Load, Ref, index, linear
from sardonyx.loops.kernel import For, Let, Local, Scheduled, Store
from sardonyx.loops.nest import Nest, Reduction
from sardonyx.loops.scalars import apply, const
from sardonyx.runtime.program import RUN, Buffer, Frame, Stretch, address_of
from sardonyx.schedule.finish import finish
from sardonyx.schedule.nests import schedule_nest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sardonyx.loops.expr import Expr
    from sardonyx.loops.kernel import Block
    from sardonyx.schedule.launch import Launch

__all__ = ["Roofline", "measure_roofline"]

_STEPS: Final = 1 << 16
_FOOTPRINTS: Final = (64 << 10, 512 << 10, 4 << 20, 64 << 20)
_ROUNDS: Final = 5
_TIME: Final = 0.02
_X, _Y = "x", "y"


@dataclass(frozen=True, slots=True)
class Roofline:
    """The limits of one core: multiply-adds in FLOP/s (two each), memory in bytes/s.

    `bandwidths` has the bandwidth for each number of bytes that were moved again and again.
    """

    flops: float
    bandwidths: Mapping[int, float]

    def bandwidth(self, nbytes: int) -> float:
        """Bytes in a second where a kernel touches `nbytes` in all."""
        for footprint, found in sorted(self.bandwidths.items()):
            if nbytes <= footprint:
                return found
        return self.bandwidths[max(self.bandwidths)]

    def seconds(self, flops: float, nbytes: int) -> float:
        """What `flops` on `nbytes` take at least."""
        moving = nbytes / self.bandwidth(nbytes) if nbytes else 0.0
        return max(flops / self.flops, moving)


def measure_roofline() -> Roofline:
    """Measure this machine: about half a second."""
    bandwidths = {}
    for footprint in _FOOTPRINTS:
        columns = 1024
        rows = footprint // (columns * 4)
        often = max(_FOOTPRINTS[-1] // footprint // 16, 1)
        updating = _best(_moving(rows // 2, columns, reads_only=False), (rows // 2, columns), often)
        reading = _best(_moving(rows, columns, reads_only=True), (rows, columns), often)
        bandwidths[footprint] = footprint / min(updating, reading)
    tile = tile_of(host(), FLOAT)
    sums = tile.rows * tile.columns
    seconds = _best(_multiplying(tile.rows, tile.columns), (1, tile.columns))
    return Roofline(2 * sums * _STEPS / seconds, bandwidths)


def _multiplying(rows: int, columns: int) -> tuple[Scheduled, tuple[int, ...]]:
    """``sums[r, c] = fma(x[0], sums[r, c], x[1])``, step after step."""
    work, step, row, column = Axis("work"), Axis("step"), Axis("row"), Axis("column")
    place = linear((row, columns), (column, 1))
    sums = Load("sums", [place], FLOAT)

    def each(store: Store) -> Block:
        return (
            For(row, index(rows), (For(column, index(columns), (store,), "vector"),), "unroll"),
        )

    factor, summand = Ref("factor", FLOAT), Ref("summand", FLOAT)
    grown = Store("sums", (place,), apply("fma", factor, sums, summand))
    total: Expr = Load("sums", [linear((column, 1))], FLOAT)
    for number in range(1, rows):
        below = linear((number * columns, 1), (column, 1))
        total = apply("add", total, Load("sums", [below], FLOAT))
    body: Block = (
        Let("factor", Load(_X, [index(0), index(0)], FLOAT)),
        Let("summand", Load(_X, [index(0), index(1)], FLOAT)),
        Local("sums", FLOAT, (rows * columns,)),
        *each(Store("sums", (place,), const(0, FLOAT))),
        For(step, index(_STEPS), each(grown)),
        For(column, index(columns), (Store(_Y, (index(0), linear((column, 1))), total),), "vector"),
    )
    return Scheduled((For(work, index(1), body, "parallel"),), 1, 1), (1, columns)


def _moving(rows: int, columns: int, *, reads_only: bool) -> tuple[Scheduled, tuple[int, ...]]:
    """``y = x + 1``, or the sums of the rows of x."""
    i, j = Axis("i"), Axis("j")
    loaded = Load(_X, [index(i), index(j)], FLOAT)
    if reads_only:
        total = Reduction("total", "add", const(0, FLOAT), loaded)
        shape: tuple[int, ...] = (rows,)
        value, target = Ref("total", FLOAT), (index(i),)
        nest = Nest(shape, FLOAT, (i,), shape, value, target, (j,), (columns,), (total,))
    else:
        shape = (rows, columns)
        more = apply("add", loaded, const(1, FLOAT))
        nest = Nest(shape, FLOAT, (i, j), shape, more, (index(i), index(j)))
    shapes = {_X: (rows, columns), _Y: shape}
    return schedule_nest(nest, _Y, lambda buffer: shapes[str(buffer)]), shape


def _best(
    made: tuple[Scheduled, tuple[int, ...]], source: tuple[int, ...], repeats: int = 1
) -> float:
    """Seconds of a kernel from x, of shape `source`, to y: the fastest of some tries."""
    scheduled, result = made
    shapes = {_X: source, _Y: result}
    launch = finish(
        scheduled.body,
        lambda buffer: shapes[str(buffer)],
        lambda _: FLOAT,
        label="limit",
        extent=scheduled.extent,
        work=1,
    )
    return _timed([launch] * repeats, shapes) / repeats


def _timed(launches: list[Launch], shapes: Mapping[str, tuple[int, ...]]) -> float:
    arrays: dict[str, Any] = {name: np.ones(shape, np.float32) for name, shape in shapes.items()}
    x, y = (Buffer(name, FLOAT, shape) for name, shape in shapes.items())
    stretch = Stretch(launches, addresses_of([launches[0].loops], host()), [x], [y], [], [])
    frame = Frame()
    frame.bind(stretch.layout({}), 1)
    for name, array in arrays.items():
        frame.table[stretch.slots[name]] = address_of(array)
    call = RUN(runner_library(host()).address("sardonyx_run"))
    clock = time.perf_counter
    call(frame.address)
    best = float("inf")
    calls, begin = 0, clock()
    while calls < _ROUNDS or clock() - begin < _TIME:
        start = clock()
        call(frame.address)
        best = min(best, clock() - start)
        calls += 1
    return best
