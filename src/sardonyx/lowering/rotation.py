"""Rotary position embedding: pairs of elements turned by an angle of their position."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sardonyx.loops.expr import Axis, Expr, index, linear
from sardonyx.loops.nest import Lowering, Nest, NotLowered, Pieces, Source, widened
from sardonyx.loops.scalars import apply
from sardonyx.lowering.registry import rule
from sardonyx.lowering.support import agree, position

if TYPE_CHECKING:
    from sardonyx.dims import DimLike
    from sardonyx.loops.expr import Linear


def _sizes(op: Any, x: Source) -> tuple[int, int]:
    """The elements of a head, and how many of them are turned."""
    head = x.shape[3] if x.rank == 4 else None
    if x.rank == 3 and op.num_heads and isinstance(x.shape[2], int):
        head = x.shape[2] // op.num_heads
    if not isinstance(head, int):
        raise NotLowered("RotaryEmbedding of heads whose size data decides")
    turned: int = op.rotary_embedding_dim or head
    if not 0 <= turned <= head or turned % 2:
        raise NotLowered("RotaryEmbedding of an odd number of elements")
    return head, turned


def _check_caches(
    caches: tuple[Source, Source], places: Source | None, steps: tuple[DimLike, DimLike], half: int
) -> None:
    for cache in caches:
        if places is None:
            agree("RotaryEmbedding's cache", cache.shape, (*steps, half))
        else:
            agree("RotaryEmbedding's cache", cache.shape[1:], (half,))
            agree("RotaryEmbedding's position_ids", places.shape, steps)


@rule("RotaryEmbedding")
def rotary(
    k: Lowering, op: Any, x: Source, cos: Source, sin: Source, places: Source | None = None
) -> Pieces:
    heads_first = x.rank == 4
    head, turned = _sizes(op, x)
    half = turned // 2
    batch, steps = x.shape[0], x.shape[2] if heads_first else x.shape[1]
    heads = x.shape[1] if heads_first else op.num_heads
    _check_caches((cos, sin), places, (batch, steps), half)

    def spot(b: Axis, h: Axis, s: Axis, d: Any) -> tuple[Any, ...]:
        return (b, h, s, d) if heads_first else (b, s, linear((h, head), (d, 1)))

    def angle(cache: Source, b: Axis, s: Axis, pair: Axis) -> Expr:
        if places is None:
            return widened(cache[b, s, pair])
        return widened(cache[position(places[b, s], cache.shape[0]), pair])

    def first(pair: Axis) -> Linear:
        return linear((pair, 2)) if op.interleaved else index(pair)

    def second(pair: Axis) -> Linear:
        return first(pair) + (1 if op.interleaved else half)

    def part(count: int, where: Any, element: Any) -> Nest:
        shape = (batch, heads, steps, count) if heads_first else (batch, steps, heads, count)

        def value(*axes: Axis) -> Expr:
            b, h, s, d = axes if heads_first else (axes[0], axes[2], axes[1], axes[3])
            found: Expr = element(b, h, s, d)
            return found

        nest = k.compute(shape, x.dtype, value)
        b, h, s, d = (nest.axes[i] for i in ((0, 1, 2, 3) if heads_first else (0, 2, 1, 3)))
        target = tuple(map(index, spot(b, h, s, where(d))))
        return replace(nest, shape=x.shape, target=target)

    def read(b: Axis, h: Axis, s: Axis, d: Any) -> Expr:
        return widened(x[spot(b, h, s, d)])

    def turn(sign: str, mine: Any, other: Any) -> Any:
        def element(b: Axis, h: Axis, s: Axis, pair: Axis) -> Expr:
            kept = apply("mul", angle(cos, b, s, pair), read(b, h, s, mine(pair)))
            moved = apply("mul", angle(sin, b, s, pair), read(b, h, s, other(pair)))
            return apply(sign, kept, moved)

        return element

    nests = []
    if half:
        nests.append(part(half, first, turn("sub", first, second)))
        nests.append(part(half, second, turn("add", second, first)))
    if head > turned:

        def rest(d: Any) -> Linear:
            return index(d) + turned

        nests.append(part(head - turned, rest, lambda b, h, s, d: read(b, h, s, rest(d))))
    return Pieces(x.shape, x.dtype, tuple(nests))
