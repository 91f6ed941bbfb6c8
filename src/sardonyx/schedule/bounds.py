"""That no load or store leaves its buffer: proven where sizes allow, else looked at in each run.

A definition reads ``x[i + 1, j]`` for the points of its axes. Where the greatest index is below the
dimension for all sizes, nothing is to be done. Where two symbolic sizes would have to agree (two
inputs that were declared as N and M, added), the kernel is right only for runs in which they do:
`requirements` are the expressions that must not be negative in a run. A run in which one is goes to
the reference, which broadcasts, or says what does not fit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from sardonyx.dims import bounds, known_less_equal, maximum, minimum
from sardonyx.loops.expr import Apply, Axis, Const, Expr, Linear, loads
from sardonyx.loops.kernel import For, Store, expressions, statements
from sardonyx.loops.nest import Chain, Contraction, Convolution, Nest, Pieces, Steps, View

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Mapping

    from sardonyx.dims import DimLike
    from sardonyx.loops.nest import Definition

    Range: TypeAlias = tuple[DimLike, DimLike]
    _Part: TypeAlias = Nest | Contraction | Convolution | Steps

__all__ = ["requirements"]


def requirements(
    definition: Definition, shape_of: Callable[[Hashable], tuple[DimLike, ...]]
) -> tuple[DimLike, ...]:
    """Expressions of the sizes that must not be negative for `definition` to stay inside.

    Indices that are made in other ways than from axes are kept inside by the rules that write
    them.
    """
    found: dict[DimLike, None] = {}
    if isinstance(definition, View):
        return ()
    for part in _parts(definition):
        extents = _extents(part)
        for load in loads(*_reads(part)):
            if isinstance(load.buffer, str):
                continue  # a scratch buffer of the definition's own
            for position, dim in zip(load.indices, shape_of(load.buffer), strict=True):
                reach = _range(position, extents)
                if reach is not None:
                    found.update(dict.fromkeys(_open(reach, dim)))
        for places, shape in _targets(part, shape_of):
            for position, dim in zip(places, shape, strict=True):
                reach = _range(position, extents)
                if reach is not None:
                    found.update(dict.fromkeys(_open(reach, dim)))
    return tuple(found)


def _targets(
    part: _Part, shape_of: Callable[[Hashable], tuple[DimLike, ...]]
) -> Iterable[tuple[tuple[Linear, ...], tuple[DimLike, ...]]]:
    """Where `part` writes, and the shape that it writes into."""
    if not isinstance(part, Steps):
        return [(part.target, part.shape)]
    stores = (stmt for stmt in statements(part.body) if isinstance(stmt, Store))
    return [(stmt.indices, shape_of(stmt.buffer)) for stmt in stores if stmt.buffer in part.results]


def _parts(definition: Definition) -> tuple[_Part, ...]:
    if isinstance(definition, Pieces):
        return definition.nests
    if isinstance(definition, Chain):
        return (definition.first, definition.rows, definition.second)
    assert not isinstance(definition, View)
    return (definition,)


def _open(reach: Range, dim: DimLike) -> Iterable[DimLike]:
    low, high = reach
    if not known_less_equal(0, low):
        yield low
    if not known_less_equal(high + 1, dim):
        yield dim - 1 - high


def _reads(part: _Part) -> tuple[Expr, ...]:
    if isinstance(part, Steps):
        return tuple(expr for stmt in statements(part.body) for expr in expressions(stmt))
    return part.exprs()


def _extents(part: _Part) -> dict[Axis, DimLike]:
    """How many steps each axis has."""
    found = dict(zip(part.axes, part.extents, strict=True))
    if isinstance(part, Convolution):
        found[part.source] = part.group * part.channels
        found[part.depth] = part.channels
    elif isinstance(part, Nest):
        found.update(zip(part.inner, part.inner_extents, strict=True))
    elif isinstance(part, Contraction):
        found[part.k] = part.sizes[2]
    else:
        for stmt in statements(part.body):
            if isinstance(stmt, For) and isinstance(stmt.extent, Linear) and not stmt.extent.terms:
                found[stmt.axis] = stmt.extent.constant
    return found


def _range(expr: Expr, extents: Mapping[Axis, DimLike]) -> Range | None:
    """The least and the greatest value of an integer expression, where they follow."""
    if isinstance(expr, Const):
        return int(expr.value), int(expr.value)
    if isinstance(expr, Axis):
        extent = extents.get(expr)
        return None if extent is None else (0, extent - 1)
    if isinstance(expr, Linear):
        return _range_of_sum(expr, extents)
    if isinstance(expr, Apply):
        return _range_of_operation(expr, extents)
    return None


def _range_of_sum(expr: Linear, extents: Mapping[Axis, DimLike]) -> Range | None:
    low: DimLike = expr.constant
    high: DimLike = expr.constant
    for term, factor in expr.terms:
        reach = _range(term, extents)
        least, most = bounds(factor)
        if reach is None:
            return None
        if least is not None and least >= 0:
            low, high = low + reach[0] * factor, high + reach[1] * factor
        elif most is not None and most <= 0:
            low, high = low + reach[1] * factor, high + reach[0] * factor
        else:
            return None
    return low, high


def _range_of_operation(expr: Apply, extents: Mapping[Axis, DimLike]) -> Range | None:
    if expr.op == "index":
        count = _range(expr.args[1], extents)
        return None if count is None else (0, count[1] - 1)
    if expr.op not in {"min", "max"}:
        return None
    first, second = (_range(arg, extents) for arg in expr.args)
    if first is None or second is None:
        return None
    join = minimum if expr.op == "min" else maximum
    return join(first[0], second[0]), join(first[1], second[1])
