"""Attention: a product whose left operand are rows made of another product.

::

    before   s = q @ k;  p = softmax(s * scale + mask);  y = p @ v       s and p in memory
    after    y = chain of the three                                      rows of s and p in cache

What is recognized are the definitions, after fusing: whoever wrote attention with whichever
operators, the scale and the mask are in the epilogue of the first product or in the row operation.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sardonyx.dims import known_equal
from sardonyx.kernels.matmul import is_small
from sardonyx.loops.expr import Axis, Linear, Load, Ref, index, loads, substitute
from sardonyx.loops.nest import Chain, Contraction, Nest, reads
from sardonyx.schedule.fuse import Group

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping, Sequence

    from sardonyx.dims import DimLike
    from sardonyx.loops.expr import Expr

__all__ = ["join_chains"]


def join_chains(done: dict[Hashable, Any], kept: Callable[[Hashable], bool]) -> None:
    """Put a chain in the place of the last of its groups, in `done`, and drop the others."""
    readers: dict[Hashable, int] = {}
    for group in done.values():
        if isinstance(group, Group):
            for buffer in reads(group.definition):
                readers[buffer] = readers.get(buffer, 0) + 1

    def private(buffer: Hashable) -> Group | None:
        group = done.get(buffer)
        alone = readers.get(buffer) == 1 and not kept(buffer)
        return group if alone and isinstance(group, Group) else None

    for value, group in list(done.items()):
        if not isinstance(group, Group) or not isinstance(group.definition, Contraction):
            continue
        for load in loads(group.definition.a):
            rows = private(load.buffer)
            if rows is None or not isinstance(rows.definition, Nest):
                continue
            for score in dict.fromkeys(load.buffer for load in loads(*rows.definition.exprs())):
                first = private(score)
                if first is None or not isinstance(first.definition, Contraction):
                    continue
                chain = _chain(first, rows, group)
                if chain is not None:
                    nodes = [*first.nodes, *rows.nodes, *group.nodes]
                    done[value] = Group(value, chain, nodes)
                    del done[score], done[load.buffer]
                    break


def _chain(first: Group, rows: Group, second: Group) -> Chain | None:
    """The three as one, on common axes; None where they do not fit together."""
    one, nest, two = first.definition, rows.definition, second.definition
    assert isinstance(one, Contraction)
    assert isinstance(nest, Nest)
    assert isinstance(two, Contraction)
    one, nest, two = _without_ones(one), _nest_without_ones(nest), _without_ones(two)
    if not nest.spread or len(nest.inner) != 1 or is_small(one) or is_small(two):
        return None
    if 0 in (*one.extents, *two.extents, one.sizes[2], two.sizes[2]):
        return None
    batch = tuple(Axis(f"batch{number}") for number in range(len(two.batch)))
    m, key, n, depth = Axis("query"), Axis("key"), Axis("column"), Axis("depth")
    names = dict(zip((*two.batch, two.m, two.n, two.k), (*batch, m, n, key), strict=True))
    sizes: dict[Axis, DimLike] = dict(zip(batch, two.batch_extents, strict=True))
    sizes |= {m: two.sizes[0], n: two.sizes[1], key: two.sizes[2]}
    product = _renamed(two, names)
    if _varies(product, rows.value):
        return None
    of_rows = _matched(product.a, rows.value, nest.target, (*nest.axes, *nest.inner), sizes)
    if of_rows is None or of_rows.get(nest.inner[0]) is not key:
        return None
    operation = _renamed_nest(nest, of_rows)
    if not _fits(operation.axes, operation.extents, batch, m, sizes):
        return None
    if not known_equal(operation.inner_extents[0], sizes[key]):
        return None
    found = [load for load in loads(*operation.exprs()) if load.buffer == first.value]
    if len(found) != 1:
        return None
    of_one = _matched(found[0], first.value, one.target, one.axes, sizes)
    if of_one is None or of_one.get(one.m) is not m or of_one.get(one.n) is not key:
        return None
    if not _fits((*(of_one.get(axis) for axis in one.batch), m), one.extents[:-1], batch, m, sizes):
        return None
    if not known_equal(one.sizes[1], sizes[key]):
        return None
    scores = _renamed(one, {**of_one, one.k: depth})
    score, weight = Ref("score", one.dtype), Ref("weight", nest.dtype)
    return Chain(
        replace(scores, batch=batch, batch_extents=two.batch_extents),
        operation.map(lambda expr: substitute(expr, {found[0]: score})),
        replace(
            product, a=substitute(product.a, dict.fromkeys(_reads(product, rows.value), weight))
        ),
    )


def _without_ones(c: Contraction) -> Contraction:
    """`c` without the batch axes of one step."""
    pairs = list(zip(c.batch, c.batch_extents, strict=True))
    gone: dict[Expr, Expr] = {axis: index(0) for axis, extent in pairs if extent == 1}
    if not gone:
        return c
    kept = [pair for pair in pairs if pair[0] not in gone]
    return replace(
        c.map(lambda expr: substitute(expr, gone)),
        batch=tuple(axis for axis, _ in kept),
        batch_extents=tuple(extent for _, extent in kept),
        target=tuple(index(substitute(position, gone)) for position in c.target),
    )


def _nest_without_ones(nest: Nest) -> Nest:
    """`nest` without the outer axes of one step."""
    pairs = list(zip(nest.axes, nest.extents, strict=True))
    gone: dict[Expr, Expr] = {axis: index(0) for axis, extent in pairs if extent == 1}
    if not gone:
        return nest
    kept = [pair for pair in pairs if pair[0] not in gone]
    return replace(
        nest.map(lambda expr: substitute(expr, gone)),
        axes=tuple(axis for axis, _ in kept),
        extents=tuple(extent for _, extent in kept),
        target=tuple(index(substitute(position, gone)) for position in nest.target),
    )


def _reads(c: Contraction, buffer: Hashable) -> list[Load]:
    return [load for load in loads(c.a) if load.buffer == buffer]


def _varies(c: Contraction, buffer: Hashable) -> bool:
    """Whether `buffer` is read anywhere but once in the left operand."""
    elsewhere = any(load.buffer == buffer for load in loads(c.b, c.value))
    return elsewhere or len(_reads(c, buffer)) != 1


def _renamed(c: Contraction, names: Mapping[Axis, Axis]) -> Contraction:
    table: dict[Expr, Expr] = dict(names.items())
    changed = c.map(lambda expr: substitute(expr, table))
    target = tuple(index(substitute(position, table)) for position in c.target)
    batch = tuple(names[axis] for axis in c.batch if axis in names)
    return replace(changed, batch=batch, m=names[c.m], n=names[c.n], k=names[c.k], target=target)


def _renamed_nest(nest: Nest, names: Mapping[Axis, Axis]) -> Nest:
    table: dict[Expr, Expr] = dict(names.items())
    changed = nest.map(lambda expr: substitute(expr, table))
    target = tuple(index(substitute(position, table)) for position in nest.target)
    axes = tuple(names.get(axis, axis) for axis in nest.axes)
    inner = tuple(names[axis] for axis in nest.inner)
    return replace(changed, axes=axes, inner=inner, target=target)


def _matched(
    reader: Expr,
    buffer: Hashable,
    target: Sequence[Linear],
    axes: Sequence[Axis],
    sizes: Mapping[Axis, DimLike],
) -> dict[Axis, Axis] | None:
    """Which of the reader's axes each of the `axes` is that `buffer` is written along at `target`.

    None unless the reader reads every place that its axes lead to, each at a point of its own.
    """
    (load,) = (part for part in loads(reader) if part.buffer == buffer)
    found: dict[Axis, Axis] = {}
    for here, there in zip(target, load.indices, strict=True):
        mine, its = _axis(here), _axis(there)
        if mine is None and its is None and here is there:
            continue
        if mine is None or its is None or mine in found or its not in sizes:
            return None
        found[mine] = its
    if len(set(found.values())) != len(found) or any(axis not in found for axis in axes):
        return None
    return found


def _axis(position: Linear) -> Axis | None:
    """The axis that a position is."""
    if position.constant == 0 and len(position.terms) == 1:
        ((term, factor),) = position.terms
        return term if isinstance(term, Axis) and factor == 1 else None
    return None


def _fits(
    axes: Sequence[Axis | None],
    extents: Sequence[DimLike],
    batch: Sequence[Axis],
    m: Axis,
    sizes: Mapping[Axis, DimLike],
) -> bool:
    """Whether `axes` are the `batch` and the rows `m`, with the same sizes."""
    return set(axes) == {*batch, m} and all(
        known_equal(extent, sizes[axis])
        for axis, extent in zip(axes, extents, strict=True)
        if axis is not None
    )
