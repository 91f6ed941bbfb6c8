"""From a fused group to the kernels that compute it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

from sardonyx.kernels import matmul
from sardonyx.loops.expr import Load, substitute
from sardonyx.loops.nest import Contraction, Nest, Pieces, Steps, View
from sardonyx.schedule.finish import finish
from sardonyx.schedule.nests import schedule_nest, schedule_steps

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator

    from typing import TypeGuard

    from sardonyx.dims import DimLike
    from sardonyx.dtypes import DType
    from sardonyx.loops.expr import Expr
    from sardonyx.loops.kernel import Scheduled
    from sardonyx.loops.machine import Machine
    from sardonyx.loops.nest import Definition
    from sardonyx.schedule.finish import Launch
    from sardonyx.schedule.fuse import Group

__all__ = ["Launcher", "Temporary"]


@dataclass(frozen=True, eq=False, slots=True)
class Temporary:
    """A buffer that no value of the model stands for."""

    name: str
    dtype: DType
    shape: tuple[DimLike, ...]


@dataclass(frozen=True, slots=True)
class _Slot:
    """A value of a definition that stands for all alike."""

    number: int
    dtype: DType
    shape: tuple[DimLike, ...]


_Plain: TypeAlias = "Nest | Contraction | Pieces"


def _is_plain(definition: Definition) -> TypeGuard[_Plain]:
    if isinstance(definition, Pieces):
        return all(isinstance(nest, Nest) for nest in definition.nests)
    return isinstance(definition, (Nest, Contraction))


class Launcher:
    """Makes the launches of groups; `shape_of` and `dtype_of` describe the model's values."""

    def __init__(
        self,
        shape_of: Callable[[Hashable], tuple[DimLike, ...]],
        dtype_of: Callable[[Hashable], DType],
        machine: Machine,
    ) -> None:
        self._shape_of = shape_of
        self._dtype_of = dtype_of
        self.machine = machine
        self.templates: dict[_Plain, list[Launch]] = {}

    def shape_of(self, buffer: Hashable) -> tuple[DimLike, ...]:
        """The shape of a value, temporary or slot."""
        return buffer.shape if isinstance(buffer, (Temporary, _Slot)) else self._shape_of(buffer)

    def dtype_of(self, buffer: Hashable) -> DType:
        """The element type of a value, temporary or slot."""
        return buffer.dtype if isinstance(buffer, (Temporary, _Slot)) else self._dtype_of(buffer)

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
            yield from self.of_definition(definition, group.value, label)
            return
        slots: dict[Hashable, _Slot] = {}
        alike = self.with_slots(definition, slots)
        template = self.templates.get(alike)
        out = _Slot(-1, definition.dtype, definition.shape)
        if template is None:
            template = self.templates[alike] = list(self.of_definition(alike, out, ""))
        values = {slot: value for value, slot in slots.items()}
        yield from _filled(template, {out: group.value, **values}, label)

    def with_slots(self, definition: _Plain, slots: dict[Hashable, _Slot]) -> _Plain:
        """`definition` with a slot for each value that it reads."""

        def replaced(part: Expr) -> Expr | None:
            if not isinstance(part, Load):
                return None
            slot = slots.get(part.buffer)
            if slot is None:
                shape, dtype = self.shape_of(part.buffer), self.dtype_of(part.buffer)
                slot = slots[part.buffer] = _Slot(len(slots), dtype, shape)
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
        nests = definition.nests if isinstance(definition, Pieces) else (definition,)
        for nest in nests:
            yield from self.nest(nest, out, label)

    def nest(self, nest: Nest | Steps, out: Hashable, label: str) -> Iterator[Launch]:
        if isinstance(nest, Steps):
            if 0 not in nest.extents:
                yield self.finished(schedule_steps(nest), label)
            return
        if 0 in (*nest.extents, *(nest.inner_extents if nest.spread else ())):
            return
        yield self.finished(schedule_nest(nest, out, self.shape_of), label)

    def contraction(self, c: Contraction, out: Hashable, label: str) -> Iterator[Launch]:
        if 0 in c.extents:
            return
        if matmul.is_small(c):
            yield from self.nest(matmul.as_rows(c), out, label)
            return
        tile = matmul.tile_of(self.machine, c.sum_dtype.bits)
        pieces = matmul.pack(c, tile)
        panels = Temporary("panels", pieces.dtype, pieces.shape)
        for nest in pieces.nests:
            yield from self.nest(nest, panels, f"pack for {label}")
        flops: DimLike = 2
        for extent in (*c.extents, c.sizes[2]):
            flops = flops * extent
        scheduled = matmul.product(c, panels, out, self.machine, tile)
        yield self.finished(scheduled, label, flops)

    def finished(self, scheduled: Scheduled, label: str, flops: DimLike = 0) -> Launch:
        return finish(
            scheduled.body,
            self.shape_of,
            self.dtype_of,
            label=label,
            extent=scheduled.extent,
            work=scheduled.work,
            flops=flops,
        )


def _filled(
    template: list[Launch], values: dict[Hashable, Hashable], label: str
) -> Iterator[Launch]:
    """The launches of `template` with values in place of slots, and temporaries of their own."""
    for launch in template:
        for buffer in launch.buffers:
            if isinstance(buffer, Temporary) and buffer not in values:
                values[buffer] = Temporary(buffer.name, buffer.dtype, buffer.shape)
        yield replace(
            launch,
            buffers=tuple(values[buffer] for buffer in launch.buffers),
            outputs=tuple(values[buffer] for buffer in launch.outputs),
            label=f"{launch.label}{label}",
        )
