"""Fusing: a value that is read once is computed where it is read, if that is cheaper.

Two directions, both by substitution:

- *inline*: a pure definition goes into the expression of its reader, in place of the load;
- *epilogue*: a pure reader of a product or of a row operation becomes part of its last step.

::

    before   p = x @ w;  q = p + bias;  y = gelu(q)        three values in memory
    after    y = gelu(sum + bias)  as the epilogue of x @ w

What remains is a list of groups: each computes one value, and stands for the nodes it covers.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from sardonyx.dims import known_equal
from sardonyx.loops.expr import (
    Apply,
    Axis,
    Expr,
    Load,
    cost,
    index,
    leaves,
    linear,
    loads,
    substitute,
    walk,
)
from sardonyx.loops.nest import Chain, Contraction, Convolution, Nest, Pieces, Steps, View

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from sardonyx.dims import DimLike
    from sardonyx.loops.nest import Definition

__all__ = ["Fuser", "Group"]

_CHEAP: Final = 4
_LARGEST: Final = 150
"""Operations in one fused expression, at most: code grows with them."""


@dataclass(slots=True)
class Group:
    """A kernel to be: the value it computes, how, and the nodes that it stands for."""

    value: Hashable
    definition: Definition
    nodes: list[str] = field(default_factory=list)


class Fuser:
    """Takes groups in order of computation; `done` are those that remain, in that order.

    `kept` says which values must lie in memory whatever happens, `readers` how many nodes read
    a value. A pure group waits until it is known whether its readers take it in.
    """

    def __init__(
        self, kept: Callable[[Hashable], bool], readers: Callable[[Hashable], int]
    ) -> None:
        self.kept = kept
        self.readers = readers
        self.pending: dict[Hashable, Group] = {}
        self.done: dict[Hashable, Group] = {}
        self.shared: set[Hashable] = set()
        self.joined: dict[Hashable, int] = {}

    def add(self, group: Group) -> None:
        """Take the next group in order of computation."""
        group = self.as_epilogue(self.inlined(group))
        definition = group.definition
        waits = isinstance(definition, Nest) and definition.is_pure
        if waits and not self.kept(group.value):
            self.pending[group.value] = group
        else:
            self.done[group.value] = group

    def materialize(self, value: Hashable) -> None:
        """A pending value, if it is one, gets memory of its own after all."""
        group = self.pending.pop(value, None)
        if group is not None:
            self.done[value] = group

    # -- inlining -------------------------------------------------------------------------------

    def inlined(self, group: Group) -> Group:
        """`group` with what it reads computed in place where that pays."""
        definition = group.definition
        if isinstance(definition, View):
            return self.inlined_view(group, definition)
        assert not isinstance(definition, Chain), "chains are made of what is fused"
        nests = definition.nests if isinstance(definition, Pieces) else (definition,)
        reads = [load for nest in nests for load in loads(*nest.exprs())]
        mine = {load.buffer for load in reads}
        taken: dict[Hashable, Nest] = {}
        waiting = [load.buffer for load in reads if load.buffer in self.pending]
        changed = True
        while changed:
            changed = False
            for buffer in list(dict.fromkeys(waiting)):
                source = self.pending[buffer]
                assert isinstance(source.definition, Nest)
                if self.pays(source.definition, buffer, nests):
                    taken[buffer] = source.definition
                    waiting = [other for other in waiting if other != buffer]
                    self.note_joined(buffer, source.definition, mine)
                    group.nodes[:0] = [name for name in source.nodes if name not in group.nodes]
                    changed = True
        for buffer in waiting:
            self.materialize(buffer)
        if not taken:
            return group
        memo: dict[Expr, Expr] = {}

        def change(expr: Expr) -> Expr:
            return substitute(expr, lambda part: _inline(part, taken), memo)

        if isinstance(definition, Pieces):
            nests = tuple(nest.map(change) for nest in definition.nests)
            return replace(group, definition=replace(definition, nests=nests))
        return replace(group, definition=definition.map(change))

    def remaining(self, buffer: Hashable) -> int:
        """How many groups read `buffer`: nodes that became one group count once."""
        return self.readers(buffer) - self.joined.get(buffer, 0)

    def note_joined(self, buffer: Hashable, source: Nest, mine: set[Hashable]) -> None:
        """A group that reads the buffers `mine` takes in `source`, the definition of `buffer`."""
        for read in {load.buffer for load in loads(source.value)}:
            if self.remaining(buffer) > 1:
                self.shared.add(read)
            elif read in mine:
                self.joined[read] = self.joined.get(read, 0) + 1
            else:
                mine.add(read)

    def pays(
        self,
        source: Nest,
        buffer: Hashable,
        nests: tuple[Nest | Contraction | Convolution | Steps, ...],
    ) -> bool:
        """Whether the readers should compute the elements of `source` themselves."""
        price = cost(source.value)
        moves = not _computes(source.value)
        for nest in nests:
            if sum(cost(expr) for expr in nest.exprs()) + price > _LARGEST:
                return False
            # steps read it again and again
            if isinstance(nest, Steps) and _turns(source):
                return False
            for expr in nest.exprs():
                for load in loads(expr):
                    if load.buffer == buffer and not moves and _repeats(nest, expr, load, price):
                        return False
        return self.remaining(buffer) == 1 or price <= _CHEAP

    def inlined_view(self, group: Group, view: View) -> Group:
        """A view of a pending value: its expression under other axes, if only ones differ."""
        source = self.pending.get(view.source)
        if source is None:
            return group
        nest = source.definition
        assert isinstance(nest, Nest)
        long = [i for i, dim in enumerate(view.shape) if dim != 1]
        old = [i for i, dim in enumerate(nest.shape) if dim != 1]
        alike = len(long) == len(old) and all(
            known_equal(view.shape[i], nest.shape[j]) for i, j in zip(long, old, strict=True)
        )
        if not alike or self.remaining(view.source) != 1:
            self.materialize(view.source)
            return group
        axes = tuple(Axis(f"v{i}") for i in range(len(view.shape)))
        where: dict[int, Expr] = {j: axes[i] for i, j in zip(long, old, strict=True)}
        indices = tuple(linear((where.get(j, linear()), 1)) for j in range(len(nest.shape)))
        value = _element(nest, indices)
        target = tuple(linear((axis, 1)) for axis in axes)
        definition = Nest(view.shape, view.dtype, axes, view.shape, value, target)
        self.pending.pop(view.source)
        return Group(group.value, definition, [*source.nodes, *group.nodes])

    # -- epilogues ------------------------------------------------------------------------------

    def as_epilogue(self, group: Group) -> Group:
        """Join a pure reader to the product or row operation that it reads elementwise."""
        nest = group.definition
        if not isinstance(nest, Nest) or not nest.is_pure or nest.target != _identity(nest):
            return group
        for load in loads(nest.value):
            root = self.done.get(load.buffer)
            if root is None or self.kept(load.buffer) or load.buffer in self.shared:
                continue
            if self.remaining(load.buffer) != 1:
                continue
            if not isinstance(root.definition, (Contraction, Convolution, Nest)):
                continue
            if cost(*root.definition.exprs(), nest.value) > _LARGEST:
                continue
            nest, load = _at_ones(nest, load)
            if not _permutes(nest, load, root.definition):
                continue
            if isinstance(root.definition, Nest) and root.definition.is_pure:
                continue
            if any(
                other.buffer == load.buffer and other is not load for other in loads(nest.value)
            ):
                continue
            sizes = dict(zip(nest.target, nest.shape, strict=True))
            shapes = zip(root.definition.shape, load.indices, strict=True)
            if not all(known_equal(dim, sizes[position]) for dim, position in shapes):
                continue
            joined = _joined(root.definition, nest, load)
            del self.done[load.buffer]
            return Group(group.value, joined, [*root.nodes, *group.nodes])
        return group


def _computes(value: Expr) -> bool:
    """Whether `value` is more than an element that is moved."""
    if isinstance(value, Apply) and value.op != "index":
        return True
    return any(isinstance(part, Apply) and part.op != "index" for part in walk(value))


def _turns(nest: Nest) -> bool:
    """Whether the last axis is another one where elements are read, as after a Transpose."""
    last = nest.axes[-1:]
    places = (place for load in loads(nest.value) for place in load.indices[:-1])
    return any(axis in leaves(place, Axis) for place in places for axis in last)


def _identity(nest: Nest) -> tuple[Expr, ...]:
    return tuple(linear((axis, 1)) for axis in nest.axes)


def _at_ones(nest: Nest, load: Load) -> tuple[Nest, Load]:
    """`load` with the axis of `nest` for the one element of a dimension of 1."""
    if len(load.indices) != len(nest.target):
        return nest, load
    places = zip(nest.shape, load.indices, nest.target, strict=True)
    indices = [own if dim == 1 and here is index(0) else here for dim, here, own in places]
    other = Load(load.buffer, indices, load.dtype)
    if other is load:
        return nest, load
    return replace(nest, value=substitute(nest.value, {load: other})), other


def _permutes(nest: Nest, load: Load, root: Contraction | Convolution | Nest) -> bool:
    """Whether `load` reads each element of `root` once, in rows that stay rows."""
    if load.indices == nest.target:
        return True
    if isinstance(root, Convolution):
        return False
    alike = set(load.indices) == set(nest.target) and len(load.indices) == len(nest.target)
    return alike and load.indices[-1:] == nest.target[-1:]


def _element(nest: Nest, indices: tuple[Expr, ...]) -> Expr:
    """The expression of the element of `nest` at `indices`."""
    if indices == _identity(nest):
        return nest.value
    return substitute(nest.value, dict(zip(nest.axes, indices, strict=True)))


def _inline(part: Expr, taken: dict[Hashable, Nest]) -> Expr | None:
    if isinstance(part, Load) and part.buffer in taken:
        return _element(taken[part.buffer], part.indices)
    return None


def _repeats(
    nest: Nest | Contraction | Convolution | Steps, expr: Expr, load: Load, price: int
) -> bool:
    """Whether computing `load` in place would compute each element many times."""
    if isinstance(nest, Steps):
        return price > _CHEAP
    used = leaves(load, Axis)
    if isinstance(nest, Contraction):
        if expr is nest.a:
            return True
        if expr is nest.b:
            batch = _long(nest.batch, nest.batch_extents)
            return not batch <= used or nest.k not in used or nest.n not in used
        return price > _CHEAP and not _long(nest.axes, nest.extents) <= used
    if isinstance(nest, Convolution):
        if expr is nest.x:
            return not nest.is_padded_or_strided
        return expr is nest.value and price > _CHEAP and not set(nest.axes) <= used
    axes = _long((*nest.axes, *nest.inner), (*nest.extents, *nest.inner_extents))
    missing = axes - used
    if not missing or price <= _CHEAP:
        return False
    last = nest.inner[-1] if nest.inner else nest.axes[-1]
    return missing != {last}


def _long(axes: Sequence[Axis], extents: Sequence[DimLike]) -> set[Expr]:
    """The axes that have not just one step."""
    return {axis for axis, extent in zip(axes, extents, strict=True) if extent != 1}


def _joined(
    root: Contraction | Convolution | Nest, nest: Nest, load: Load
) -> Contraction | Convolution | Nest:
    """`root` with the reader's expression as its last step."""
    names: dict[Expr, Expr] = {
        position.terms[0][0]: place
        for position, place in zip(load.indices, root.target, strict=True)
    }
    placed = substitute(nest.value, names)
    read = substitute(load, names)
    value = substitute(placed, {read: root.value})
    target = tuple(index(substitute(position, names)) for position in nest.target)
    return replace(root, value=value, dtype=nest.dtype, shape=nest.shape, target=target)
