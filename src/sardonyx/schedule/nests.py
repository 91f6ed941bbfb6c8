"""The loop order of a nest: which axes merge, which is the vector, what a row keeps at hand.

::

    before   out[i, j, k] = a[i, j, k] + b[k]          three axes
    after    parallel ij < I*J: vector k < K: ...      i and j step alike in every access

A reduction along contiguous elements is a vector loop into lanes that are joined at its end. One
across rows keeps a vector of neighbouring results and walks down:

::

    before   out[j] = sum over i of a[i, j]
    after    vector j < J: var s; serial i < I: s += a[i, j]; out[j] = s
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from sardonyx.loops.expr import (
    Apply,
    Axis,
    Expr,
    Linear,
    Load,
    Ref,
    coefficient,
    cost,
    index,
    leaves,
    linear,
    substitute,
    walk,
)
from sardonyx.loops.kernel import (
    Accumulate,
    For,
    Let,
    Local,
    Prefetch,
    Scheduled,
    Store,
    Var,
    mapped,
    statements,
)
from sardonyx.schedule.finish import flat_offset

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping

    from sardonyx.dims import DimLike
    from sardonyx.loops.kernel import Block, Stmt
    from sardonyx.loops.nest import Nest, Steps

__all__ = ["row_statements", "schedule_nest", "schedule_steps"]

_SHORT: Final = 8
_LEAST_ROW: Final = 1 << 10
_MOST_ROW: Final = 64 << 10
_FAR: Final = 1 << 20
"""Bytes of rows that are fetched ahead, and of the whole: less of it is in a near cache anyway."""
STREAMED_FROM: Final = 32 << 20
"""Bytes of a result from which on no cache holds it until it is read."""
STAGED_FROM: Final = 8
"""Operations in an expression from which on a row keeps it rather than computing it again."""


def schedule_nest(
    nest: Nest, out: Hashable, shape_of: Callable[[Hashable], tuple[DimLike, ...]]
) -> Scheduled:
    """The loops that compute `nest` into the buffer `out`."""
    nest = _merge(_drop_ones(nest), out, shape_of)
    if nest.is_pure:
        return _pure(nest, out)
    return _rows(nest, out, shape_of)


def row_statements(nest: Nest, out: Hashable) -> Block:
    """The statements for one row of `nest`, whose axes lie outside, into the buffer `out`."""
    return _along(nest, out)[0]


def schedule_steps(steps: Steps) -> Scheduled:
    """The loops over the points of `steps`, the first with more than one step in parallel."""
    pairs = list(zip(steps.axes, steps.extents, strict=True))
    ones: dict[Expr, Expr] = {axis: index(0) for axis, extent in pairs if extent == 1}
    loops = [(axis, extent) for axis, extent in pairs if extent != 1]
    body = mapped(steps.body, lambda expr: substitute(expr, ones)) if ones else steps.body
    if not any(isinstance(stmt, For) for stmt in statements(body)) and len(loops) < 2:
        loops.insert(0, (Axis("once"), 1))
    loops = loops or [(Axis("once"), 1)]
    for number, (axis, extent) in reversed(list(enumerate(loops))):
        body = (For(axis, index(extent), body, "serial" if number else "parallel"),)
    work = steps.work * _product(tuple(extent for _, extent in loops[1:]))
    return Scheduled(body, loops[0][1], work)


def _drop_ones(nest: Nest) -> Nest:
    """Axes of one step are replaced by 0."""
    gone: dict[Expr, Expr] = {
        axis: index(0)
        for axis, extent in zip(
            (*nest.axes, *nest.inner), (*nest.extents, *nest.inner_extents), strict=True
        )
        if extent == 1
    }
    if not gone:
        return nest
    axes, extents = _kept(nest.axes, nest.extents, gone)
    inner, inner_extents = _kept(nest.inner, nest.inner_extents, gone)
    return replace(
        _renamed(nest, gone),
        axes=axes,
        extents=extents,
        inner=inner,
        inner_extents=inner_extents,
    )


def _kept(
    axes: tuple[Axis, ...], extents: tuple[DimLike, ...], gone: Mapping[Expr, Expr]
) -> tuple[tuple[Axis, ...], tuple[DimLike, ...]]:
    pairs = [pair for pair in zip(axes, extents, strict=True) if pair[0] not in gone]
    return tuple(axis for axis, _ in pairs), tuple(extent for _, extent in pairs)


def _renamed(nest: Nest, names: Mapping[Expr, Expr]) -> Nest:
    memo: dict[Expr, Expr] = {}

    def change(expr: Expr) -> Expr:
        return substitute(expr, names, memo)

    target = tuple(index(change(position)) for position in nest.target)
    return replace(nest.map(change), target=target)


def _merge(nest: Nest, out: Hashable, shape_of: Callable[[Hashable], tuple[DimLike, ...]]) -> Nest:
    """Neighbouring axes that step alike in every access become one."""
    merged = True
    while merged:
        merged = False
        offsets, bare = _accesses(nest, out, shape_of)
        for group in ("axes", "inner"):
            axes: tuple[Axis, ...] = getattr(nest, group)
            extents = nest.extents if group == "axes" else nest.inner_extents
            for i in range(len(axes) - 1):
                a, b = axes[i], axes[i + 1]
                if a in bare or b in bare or not _step_alike(offsets, a, b, extents[i + 1]):
                    continue
                nest = _join(nest, group, i, offsets, out, shape_of)
                merged = True
                break
            if merged:
                break
    return nest


def _accesses(
    nest: Nest, out: Hashable, shape_of: Callable[[Hashable], tuple[DimLike, ...]]
) -> tuple[list[Linear], set[Expr]]:
    """Flat offsets of all accesses, and the axes that are used outside of plain indices."""
    offsets = [flat_offset(nest.target, nest.shape)]
    bare: set[Expr] = set()
    stack: list[tuple[Expr, bool]] = [(expr, False) for expr in nest.exprs()]
    seen: set[Expr] = set()
    while stack:
        expr, _ = stack.pop()
        if expr in seen:
            continue
        seen.add(expr)
        if isinstance(expr, Load):
            offset = flat_offset(expr.indices, shape_of(expr.buffer))
            offsets.append(offset)
            stack.extend((term, False) for term, _ in offset.terms if not isinstance(term, Axis))
        else:
            if isinstance(expr, Axis):
                bare.add(expr)
            stack.extend((child, False) for child in expr.children)
    return offsets, bare


def _step_alike(offsets: list[Linear], a: Axis, b: Axis, extent: DimLike) -> bool:
    for offset in offsets:
        first, second = coefficient(offset, a), coefficient(offset, b)
        if first is None or second is None or first != second * extent:
            return False
    return True


def _join(
    nest: Nest,
    group: str,
    i: int,
    offsets: list[Linear],
    out: Hashable,
    shape_of: Callable[[Hashable], tuple[DimLike, ...]],
) -> Nest:
    """Axes i and i + 1 become axis i + 1, which counts over both; accesses become flat."""
    axes: tuple[Axis, ...] = getattr(nest, group)
    extents = nest.extents if group == "axes" else nest.inner_extents
    gone = axes[i]
    memo: dict[Expr, Expr] = {}

    def flat(offset: Linear, rank: int) -> tuple[Linear, ...]:
        kept = [(term, factor) for term, factor in offset.terms if term is not gone]
        position = linear((offset.constant, 1), *kept)
        return (*(index(0) for _ in range(rank - 1)), position) if rank else ()

    def change_load(expr: Expr) -> Expr | None:
        if not isinstance(expr, Load):
            return None
        shape = shape_of(expr.buffer)
        offset = flat_offset(expr.indices, shape)
        return Load(expr.buffer, flat(offset, len(shape)), expr.dtype)

    def change(expr: Expr) -> Expr:
        return substitute(expr, change_load, memo)

    target = flat(flat_offset(nest.target, nest.shape), len(nest.target))
    new_axes = (*axes[:i], *axes[i + 1 :])
    new_extents = (*extents[:i], extents[i] * extents[i + 1], *extents[i + 2 :])
    nest = replace(nest.map(change), target=target)
    if group == "axes":
        return replace(nest, axes=new_axes, extents=new_extents)
    return replace(nest, inner=new_axes, inner_extents=new_extents)


def _product(dims: tuple[DimLike, ...]) -> DimLike:
    found: DimLike = 1
    for dim in dims:
        found = found * dim
    return found


def _is_streamed(nest: Nest) -> bool:
    """Whether the result is known to be so large that it goes past the caches."""
    nbytes = _product(nest.shape) * (nest.dtype.bits // 8)
    return isinstance(nbytes, int) and nbytes >= STREAMED_FROM


def _pure(nest: Nest, out: Hashable) -> Scheduled:
    body: Block = (Store(out, nest.target, nest.value, _is_streamed(nest)),)
    steps = cost(nest.value) + 1
    if not nest.axes:
        return Scheduled((For(Axis("once"), index(1), body, "parallel"),), 1, steps)
    modes = ["parallel", *["serial"] * (len(nest.axes) - 1)]
    if len(nest.axes) > 1:
        modes[-1] = "vector"
    for axis, extent, mode in reversed(list(zip(nest.axes, nest.extents, modes, strict=True))):
        body = (For(axis, index(extent), body, mode),)
    return Scheduled(body, nest.extents[0], _product(nest.extents[1:]) * steps)


def _rows(
    nest: Nest, out: Hashable, shape_of: Callable[[Hashable], tuple[DimLike, ...]]
) -> Scheduled:
    if not nest.spread and nest.axes and _is_across(nest, shape_of):
        body, inside = _across(nest, out)
    else:
        body, inside = _along(nest, out, _following(nest, shape_of))
    outer = list(zip(nest.axes, nest.extents, strict=True))[: len(nest.axes) - inside]
    work = _product(nest.inner_extents) * (cost(*nest.exprs()) + len(nest.reductions) + 1)
    if inside:
        work = work * nest.extents[-1]
    if not outer:
        return Scheduled((For(Axis("once"), index(1), body, "parallel"),), 1, work)
    for number, (axis, extent) in reversed(list(enumerate(outer))):
        body = (For(axis, index(extent), body, "serial" if number else "parallel"),)
    return Scheduled(body, outer[0][1], work * _product(tuple(e for _, e in outer[1:])))


def _is_across(nest: Nest, shape_of: Callable[[Hashable], tuple[DimLike, ...]]) -> bool:
    """Whether neighbours lie along the last outer axis rather than along the reduced ones."""
    along = across = 0
    for load in (part for part in walk(*nest.exprs()) if isinstance(part, Load)):
        offset = flat_offset(load.indices, shape_of(load.buffer))
        along += bool(nest.inner) and coefficient(offset, nest.inner[-1]) == 1
        across += coefficient(offset, nest.axes[-1]) == 1
    # a window of a pool is shorter than a vector
    short = nest.inner_extents[-1] if len(nest.inner) > 1 else None
    return across > along or (isinstance(short, int) and short < _SHORT)


def _across(nest: Nest, out: Hashable) -> tuple[Block, int]:
    body: list[Stmt] = []
    for reduction in nest.reductions:
        body.append(Var(reduction.name, reduction.value.dtype, reduction.start))
        inner: Block = (Accumulate(reduction.name, reduction.op, reduction.value),)
        for axis, extent in reversed(list(zip(nest.inner, nest.inner_extents, strict=True))):
            inner = (For(axis, index(extent), inner, "serial"),)
        body += inner
    body.append(Store(out, nest.target, nest.value))
    return (For(nest.axes[-1], index(nest.extents[-1]), tuple(body), "vector"),), 1


def _along(nest: Nest, out: Hashable, hints: Block = ()) -> tuple[Block, int]:
    """A row after the other; what is kept of it lies in the output's row, or in scratch memory.

    The first pass over a row waits for memory; `hints` are for the second, which does not.
    """
    body: list[Stmt] = []
    staged: dict[Expr, Expr] = {}
    places: dict[Expr, tuple[Hashable, tuple[Linear, ...]]] = {}
    stages = [*(reduction.value for reduction in nest.reductions)]
    if nest.spread:
        stages.append(nest.value)
    position = _row_position(nest)
    # in attention the target is a place in scratch memory
    is_scratch = len(nest.target) != len(nest.shape)
    target = nest.target[0] if is_scratch else flat_offset(nest.target, nest.shape)
    has_room = nest.spread and bool(nest.inner) and coefficient(target, nest.inner[-1]) == 1
    has_room = has_room and not _is_streamed(nest)
    for number, value in enumerate(stages):
        asked = hints if number == 1 else ()
        keep = _worth_keeping(value, stages[number + 1 :], nest, staged)
        stores: list[Stmt] = []
        for part in keep:
            name = f"row{len(staged)}"
            place: tuple[Hashable, tuple[Linear, ...]] = (name, (position,))
            if has_room and not places and part.dtype is nest.value.dtype:
                place = (out, nest.target)
            else:
                body.append(Local(name, part.dtype, (_product(nest.inner_extents),)))
            kept = Ref(f"{name}.value", part.dtype)
            stores.append(Let(kept.name, substitute(part, staged)))
            stores.append(Store(*place, kept))
            places[part] = place
            staged[part] = kept
        done = substitute(value, staged)
        if number < len(nest.reductions):
            reduction = nest.reductions[number]
            body.append(Var(reduction.name, done.dtype, reduction.start))
            inner: Block = (*asked, *stores, Accumulate(reduction.name, reduction.op, done))
        else:
            # what was kept in the output's row is still in the nearest cache
            is_last = not is_scratch and all(where is not out for where, _ in places.values())
            streamed = is_last and _is_streamed(nest)
            inner = (*asked, *stores, Store(out, nest.target, done, streamed))
        body += _inner_loops(nest, inner)
        for part in keep:
            staged[part] = Load(*places[part], part.dtype)
    if not nest.spread:
        body.append(Store(out, nest.target, nest.value))
    return tuple(body), 0


def _following(nest: Nest, shape_of: Callable[[Hashable], tuple[DimLike, ...]]) -> Block:
    """Hints to fetch what the first pass over the next row reads, where that is far away."""
    if not nest.axes or not nest.inner:
        return ()
    row, column = nest.axes[-1], nest.inner[-1]
    found = {}
    for load in (part for part in walk(nest.reductions[0].value) if isinstance(part, Load)):
        shape, nbytes = shape_of(load.buffer), load.dtype.bits // 8
        is_read_along = coefficient(flat_offset(load.indices, shape), column) == 1
        length, whole = _product(nest.inner_extents) * nbytes, _product(shape) * nbytes
        is_long = not isinstance(length, int) or _LEAST_ROW <= length <= _MOST_ROW
        is_far = not isinstance(whole, int) or whole >= _FAR
        steps = [coefficient(place, row) for place in load.indices]
        known = [step for step in steps if step is not None]
        differs = len(known) == len(steps) and any(step != 0 for step in known)
        if is_read_along and is_long and is_far and differs:
            places = zip(load.indices, known, strict=True)
            following = tuple(linear((place, 1), (step, 1)) for place, step in places)
            found[load.buffer] = Prefetch(load.buffer, following)
    return tuple(found.values())


def _inner_loops(nest: Nest, body: Block) -> Block:
    modes = [*["serial"] * (len(nest.inner) - 1), "vector"]
    for axis, extent, mode in reversed(
        list(zip(nest.inner, nest.inner_extents, modes, strict=False))
    ):
        body = (For(axis, index(extent), body, mode),)
    return body


def _row_position(nest: Nest) -> Linear:
    """The position of a point of the inner axes in a buffer that holds one row."""
    return flat_offset(tuple(index(axis) for axis in nest.inner), nest.inner_extents)


def _worth_keeping(
    value: Expr, later: list[Expr], nest: Nest, staged: dict[Expr, Expr]
) -> list[Expr]:
    """The largest parts of `value` that are costly, vary along the row, and come again later."""
    again = set(walk(*later)) if later else set()
    found: list[Expr] = []
    seen: set[Expr] = set()
    stack = [value]
    while stack:
        part = stack.pop()
        if part in staged or part in seen or not isinstance(part, Apply):
            continue
        seen.add(part)
        if part in again and cost(part) >= STAGED_FROM and leaves(part, Axis) & set(nest.inner):
            found.append(part)
        else:
            stack.extend(part.args)
    return found
