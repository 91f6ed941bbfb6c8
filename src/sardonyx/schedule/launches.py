"""From a fused group to the kernels that compute it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, TypeAlias

from sardonyx.dims import substitute as put
from sardonyx.dims import symbol
from sardonyx.kernels import attention, conv, matmul, windows
from sardonyx.loops.expr import Load, coefficient, index, linear, loads, substitute
from sardonyx.loops.nest import (
    Chain,
    Contraction,
    Convolution,
    Nest,
    Pieces,
    Steps,
    Temporary,
    View,
)
from sardonyx.schedule.bounds import requirements
from sardonyx.schedule.finish import finish, flat_offset
from sardonyx.schedule.nests import row_statements, schedule_nest, schedule_steps

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Sequence
    from typing import TypeGuard

    from sardonyx.dims import DimLike
    from sardonyx.dtypes import DType
    from sardonyx.kernels.tiles import Tile
    from sardonyx.loops.expr import Axis, Expr, Linear
    from sardonyx.loops.kernel import Scheduled
    from sardonyx.loops.machine import Machine
    from sardonyx.loops.nest import Definition
    from sardonyx.schedule.fuse import Group
    from sardonyx.schedule.launch import Launch

__all__ = ["Launcher"]


_OPEN_FROM: Final = 17
"""Spatial sizes below remain numbers in the kernels of convolutions."""

_MANY_PIECES: Final = 8
"""Pieces of a value from which on they share kernels, which do not say where each begins."""

_OUT: Final = -1
"""The number of the slot that a definition is computed into."""


@dataclass(frozen=True, slots=True)
class _Slot:
    """A value of a definition that stands for all alike."""

    number: int
    dtype: DType
    shape: tuple[DimLike, ...]
    is_fixed: bool = False


_DOTS: Final = 4096
"""Products up to which rows times columns are summed one by one, if columns lie along K."""

_Plain: TypeAlias = "Nest | Contraction | Convolution | Chain | Pieces"


def _is_plain(definition: Definition) -> TypeGuard[_Plain]:
    if isinstance(definition, Pieces):
        return all(isinstance(nest, (Nest, Convolution)) for nest in definition.nests)
    return isinstance(definition, (Nest, Contraction, Convolution, Chain))


class Launcher:
    """Makes the launches of groups.

    `shape_of` and `dtype_of` describe the model's values, `is_fixed` says which are constants.
    """

    def __init__(
        self,
        shape_of: Callable[[Hashable], tuple[DimLike, ...]],
        dtype_of: Callable[[Hashable], DType],
        machine: Machine,
        is_fixed: Callable[[Hashable], bool] = lambda _: False,
    ) -> None:
        self._shape_of = shape_of
        self._dtype_of = dtype_of
        self._is_fixed = is_fixed
        self.machine = machine
        self.templates: dict[_Plain, list[Launch]] = {}
        self.needed: dict[_Plain, tuple[DimLike, ...]] = {}

    def shape_of(self, buffer: Hashable) -> tuple[DimLike, ...]:
        """The shape of a value, temporary or slot."""
        return buffer.shape if isinstance(buffer, (Temporary, _Slot)) else self._shape_of(buffer)

    def dtype_of(self, buffer: Hashable) -> DType:
        """The element type of a value, temporary or slot."""
        return buffer.dtype if isinstance(buffer, (Temporary, _Slot)) else self._dtype_of(buffer)

    def is_fixed(self, buffer: Hashable) -> bool:
        """Whether the elements of a value, temporary or slot are known before any run."""
        if isinstance(buffer, _Slot):
            return buffer.is_fixed
        return self._is_fixed(buffer)

    def launches(self, group: Group) -> Iterator[Launch]:
        """The launches that compute `group`, in order.

        Layers of a model are alike but for the values they read and write, so what is made for
        one is kept, with numbered slots for the values, and filled in for the others.
        """
        definition = group.definition
        if isinstance(definition, View):
            return
        label = " + ".join(group.nodes)
        if not _is_plain(definition):
            needed = requirements(definition, self.shape_of)
            yield from _requiring(needed, self.of_definition(definition, group.value, label))
            return
        slots: dict[Hashable, _Slot] = {}
        alike = self.with_slots(definition, slots)
        out = _Slot(_OUT, definition.dtype, definition.shape)
        values: dict[Hashable, Hashable] = {slot: value for value, slot in slots.items()}
        values[out] = group.value
        if alike not in self.needed:
            self.needed[alike] = requirements(alike, self.shape_of)
        needed = self.needed[alike]
        sizes: dict[str, int] = {}
        if isinstance(alike, Convolution):
            alike, values, sizes = self.opened(alike, values)
            out = next(slot for slot in values if isinstance(slot, _Slot) and slot.number == _OUT)
        elif isinstance(alike, Pieces) and len(alike.nests) > _MANY_PIECES:
            alike = _with_open_places(alike, sizes)
        template = self.templates.get(alike)
        if template is None:
            template = self.templates[alike] = list(self.of_definition(alike, out, ""))
        yield from _requiring(needed, _filled(template, values, sizes, label))

    def opened(
        self, c: Convolution, values: dict[Hashable, Hashable]
    ) -> tuple[Convolution, dict[Hashable, Hashable], dict[str, int]]:
        """`c` and its slots with symbols for sizes, so that layers share kernels; their values."""
        sizes: dict[str, int] = {}

        def opened(name: str, dim: DimLike, least: int = 2) -> DimLike:
            if not isinstance(dim, int) or dim < least:
                return dim
            sizes[name] = dim
            return symbol(name, least)

        is_depthwise = c.channels == 1 and c.extents[1] == c.group
        least = [2, 2, *(_OPEN_FROM for _ in c.spatial)]
        extents = list(map(opened, _names(c.axes), c.extents, least))
        spans = []
        for axis, window, output in zip(c.positions, c.windows, extents[2:], strict=True):
            width = (
                output
                if window.is_point
                else opened(f"size of {axis.name}", window.size, _OPEN_FROM)
            )
            spans.append(replace(window, size=width, output=output))
        channels = opened("channels", c.channels)
        group = extents[1] if is_depthwise else c.group
        block = opened("panels of a block", conv.panels_of_block(c, self.machine), 1)
        roles: dict[Linear, tuple[DimLike, DimLike]] = {}
        for axes, old, new in (
            (c.axes, c.extents, extents),
            (c.positions, [w.size for w in c.windows], [w.size for w in spans]),
            ((c.source, c.depth), (c.channels * c.group, c.channels), (channels * group, channels)),
        ):
            roles.update((index(a), (o, n)) for a, o, n in zip(axes, old, new, strict=True))
        shapes = {slot: list(slot.shape) for slot in values if isinstance(slot, _Slot)}
        places = [(load.buffer, load.indices) for load in loads(*c.exprs())]
        places.append((next(slot for slot in shapes if slot.number == _OUT), c.target))
        for buffer, indices in places:
            for number, place in enumerate(indices):
                old_, new_ = roles.get(place, (None, 0))
                if isinstance(buffer, _Slot) and old_ == buffer.shape[number]:
                    shapes[buffer][number] = new_
        slots = {slot: replace(slot, shape=tuple(shape)) for slot, shape in shapes.items()}
        c = replace(
            _moved(c, slots),
            shape=next(slot.shape for slot in slots.values() if slot.number == _OUT),
            extents=tuple(extents),
            group=group,
            channels=channels,
            windows=tuple(spans),
            block=block,
        )
        renewed = {
            slots[slot] if isinstance(slot, _Slot) else slot: value
            for slot, value in values.items()
        }
        return c, renewed, sizes

    def with_slots(self, definition: _Plain, slots: dict[Hashable, _Slot]) -> _Plain:
        """`definition` with a slot for each value that it reads."""

        def replaced(part: Expr) -> Expr | None:
            if not isinstance(part, Load):
                return None
            slot = slots.get(part.buffer)
            if slot is None:
                shape, dtype = self.shape_of(part.buffer), self.dtype_of(part.buffer)
                slot = slots[part.buffer] = _Slot(
                    len(slots), dtype, shape, self.is_fixed(part.buffer)
                )
            return Load(slot, part.indices, part.dtype)

        memo: dict[Expr, Expr] = {}

        def change(expr: Expr) -> Expr:
            return substitute(expr, replaced, memo)

        if isinstance(definition, Pieces):
            return replace(definition, nests=tuple(n.map(change) for n in definition.nests))
        return definition.map(change)

    def of_definition(self, definition: Definition, out: Hashable, label: str) -> Iterator[Launch]:
        """The launches that compute `definition` into `out`."""
        if isinstance(definition, Contraction):
            yield from self.contraction(definition, out, label)
            return
        if isinstance(definition, Chain):
            yield from self.chain(definition, out, label)
            return
        if isinstance(definition, Convolution):
            yield from self.convolution(definition, out, label)
            return
        if isinstance(definition, View):
            return
        nests = definition.nests if isinstance(definition, Pieces) else (definition,)
        for nest in nests:
            if isinstance(nest, Convolution):
                yield from self.convolution(nest, out, label)
            else:
                yield from self.nest(nest, out, label)

    def nest(self, nest: Nest | Steps, out: Hashable, label: str) -> Iterator[Launch]:
        """The launch of one nest."""
        if isinstance(nest, Steps):
            if 0 not in nest.extents:
                launch = self.finished(schedule_steps(nest), label)
                yield replace(launch, is_partial=nest.is_partial)
            return
        if 0 in (*nest.extents, *(nest.inner_extents if nest.spread else ())):
            return
        yield self.finished(schedule_nest(nest, out, self.shape_of), label)

    def contraction(self, c: Contraction, out: Hashable, label: str) -> Iterator[Launch]:
        """The launches of a matrix product: packing, if it pays, and the product."""
        if 0 in c.extents:
            return
        tile = matmul.tile_of(self.machine, c.sum_dtype, c.grow)
        is_thin = c.sizes[1] == 1 or c.sizes[2] == 0
        if is_thin or not self.is_worth_packing(c):
            if is_thin or not self.lies_along_columns(c):
                yield from self.nest(matmul.as_rows(c), out, label)
            elif matmul.is_streamed(c):
                yield self.finished(matmul.streamed(c, out), label, _flops(c))
            else:
                yield self.finished(matmul.direct(c, out, tile), label, _flops(c))
            return
        panels = self.panels(c, tile)
        yield from self.packing(c, tile, panels, label)
        scheduled = matmul.product(c, panels, out, self.machine, tile)
        yield self.finished(scheduled, label, _flops(c))

    def is_worth_packing(self, c: Contraction) -> bool:
        """Whether the right operand is packed: once for all, or for many rows."""
        if all(self.is_fixed(load.buffer) for load in loads(c.b)):
            return True
        if matmul.is_small(c):
            m, n, k = c.sizes
            return 1 not in (m, n) and not self.lies_along_columns(c) and m * n * k > _DOTS
        return not matmul.is_streamed(c)

    def lies_along_columns(self, c: Contraction) -> bool:
        """Whether neighbours in the right operand are neighbouring columns."""
        offsets = [flat_offset(load.indices, self.shape_of(load.buffer)) for load in loads(c.b)]
        across = sum(coefficient(offset, c.n) == 1 for offset in offsets)
        return across > sum(coefficient(offset, c.k) == 1 for offset in offsets)

    def chain(self, chain: Chain, out: Hashable, label: str) -> Iterator[Launch]:
        """The launches of attention."""
        tiles = [matmul.tile_of(self.machine, c.sum_dtype) for c in (chain.first, chain.second)]
        keys, values = self.panels(chain.first, tiles[0]), self.panels(chain.second, tiles[1])
        yield from self.packing(chain.first, tiles[0], keys, label)
        yield from self.packing(chain.second, tiles[1], values, label)
        scheduled = attention.attention(
            chain, (keys, values), out, self.machine, tiles, row_statements
        )
        yield self.finished(scheduled, label, _flops(chain.first) + _flops(chain.second))

    def convolution(self, c: Convolution, out: Hashable, label: str) -> Iterator[Launch]:
        """The launches of a convolution."""
        if 0 in c.extents:
            return
        direct = windows.is_direct(c)
        if not direct or not windows.is_lined_up(c, self.place):
            lines = windows.line_up(c) if direct else windows.pack(c, self.machine)
            weights = Temporary("weights", c.sum_dtype, lines.shape)
            yield from self.nest(lines, weights, f"pack for {label}")
            c = replace(c, w=Load(weights, lines.target, c.sum_dtype))
        arranged = None
        if windows.is_arranged(c, self.place):
            arranged = Temporary("arranged", c.sum_dtype, windows.arranged_shape(c))
            yield self.finished(windows.arrange(c, arranged), f"pad for {label}")
        scheduled = conv.convolve(c, arranged, out, self.machine, self.place)
        flops: DimLike = 2 * c.products
        for extent in (*c.extents, windows.weights_shape(c)[1]):
            flops = flops * extent
        yield self.finished(scheduled, label, flops)

    def place(self, buffer: Hashable, indices: Sequence[Linear]) -> Linear:
        """The position of an element in a buffer that lies row by row."""
        return flat_offset(indices, self.shape_of(buffer))

    def panels(self, c: Contraction, tile: Tile) -> Temporary:
        """The launches of panels."""
        return Temporary("panels", c.sum_dtype, matmul.panel_shape(c, tile))

    def packing(
        self, c: Contraction, tile: Tile, panels: Temporary, label: str
    ) -> Iterator[Launch]:
        """How the right operand is packed."""
        nests = matmul.pack(c, tile)
        if c.sizes[1] // tile.columns != 0 and not self.lies_along_columns(c):
            nests.pop(0)
            scheduled = matmul.pack_across(c, tile, panels)
            yield self.finished(scheduled, f"pack for {label}")
        for nest in nests:
            yield from self.nest(nest, panels, f"pack for {label}")

    def finished(self, scheduled: Scheduled, label: str, flops: DimLike = 0) -> Launch:
        """The launch of scheduled loops."""
        return finish(
            scheduled.body,
            self.shape_of,
            self.dtype_of,
            label=label,
            extent=scheduled.extent,
            work=scheduled.work,
            flops=flops,
        )


def _flops(c: Contraction) -> DimLike:
    """The additions and multiplications of a product."""
    found: DimLike = 2 * c.products
    for extent in (*c.extents, c.sizes[2]):
        found = found * extent
    return found


def _moved(c: Convolution, slots: dict[_Slot, _Slot]) -> Convolution:
    """`c` with other slots."""

    def moved(part: Expr) -> Expr | None:
        """The launches of moved."""
        if not isinstance(part, Load) or not isinstance(part.buffer, _Slot):
            return None
        return Load(slots[part.buffer], part.indices, part.dtype)

    memo: dict[Expr, Expr] = {}
    return c.map(lambda expr: substitute(expr, moved, memo))


def _names(axes: Sequence[Axis]) -> list[str]:
    return [f"steps of {axis.name}" for axis in axes]


def _requiring(needed: tuple[DimLike, ...], launches: Iterator[Launch]) -> Iterator[Launch]:
    """`launches`, the first of which carries what all of them need."""
    for launch in launches:
        yield replace(launch, requirements=needed) if needed else launch
        needed = ()


def _with_open_places(pieces: Pieces, sizes: dict[str, int]) -> Pieces:
    """`pieces` with symbols for where each begins, so that they share kernels; their values."""
    nests = []
    for number, nest in enumerate(pieces.nests):
        if isinstance(nest, Nest):
            target = list(nest.target)
            for axis, place in enumerate(nest.target):
                if isinstance(place.constant, int) and place.constant > 0:
                    name = f"offset of piece {number} along {axis}"
                    sizes[name] = place.constant
                    target[axis] = linear((place, 1), (symbol(name) - place.constant, 1))
            nest = replace(nest, target=tuple(target))
        nests.append(nest)
    return replace(pieces, nests=tuple(nests))


def _filled(
    template: list[Launch],
    values: dict[Hashable, Hashable],
    sizes: dict[str, int],
    label: str,
) -> Iterator[Launch]:
    """The launches of `template` with temporaries of their own.

    `values` take the place of slots and `sizes` that of the template's symbols.
    """

    def dims(given: Sequence[DimLike]) -> tuple[DimLike, ...]:
        """The launches of dims."""
        return tuple(put(dim, sizes) for dim in given) if sizes else tuple(given)

    for launch in template:
        for buffer in launch.buffers:
            if isinstance(buffer, Temporary) and buffer not in values:
                values[buffer] = Temporary(buffer.name, buffer.dtype, dims(buffer.shape))
        extent, work, flops, traffic = dims(
            (launch.extent, launch.work, launch.flops, launch.traffic)
        )
        yield replace(
            launch,
            buffers=tuple(values[buffer] for buffer in launch.buffers),
            outputs=tuple(values[buffer] for buffer in launch.outputs),
            sizes=dims(launch.sizes),
            extent=extent,
            work=work,
            scratch=dims(launch.scratch),
            flops=flops,
            traffic=traffic,
            label=f"{launch.label}{label}",
        )
