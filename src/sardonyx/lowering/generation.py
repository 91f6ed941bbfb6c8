"""Operators whose output is made of numbers and sizes, and Dropout where nothing is dropped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sardonyx.dtypes import FLOAT
from sardonyx.loops.expr import Axis, Expr, index
from sardonyx.loops.nest import COMPUTED_AS, Definition, Lowering, Nest, NotLowered, Source
from sardonyx.loops.scalars import apply, cast, const
from sardonyx.lowering.registry import rule
from sardonyx.lowering.support import single

if TYPE_CHECKING:
    from sardonyx.dtypes import DType
    from sardonyx.loops.nest import Shape


def _filled(k: Lowering, shape: Shape, dtype: DType, value: Any) -> Nest:
    number = value.item() if hasattr(value, "item") else value
    number = float(number) if dtype.is_floating else int(number)
    return k.compute(shape, dtype, lambda *_axes: const(number, dtype))


@rule("ConstantOfShape")
def constant_of_shape(k: Lowering, op: Any, _shape: Source) -> Nest:
    dtype, shape = k.outputs[0]
    value = 0 if op.value is None else op.value.numpy().reshape(-1)[0]
    return _filled(k, shape, dtype, value)


@rule("Range")
def range_(k: Lowering, op: Any, start: Source, _limit: Source, delta: Source) -> Nest:
    dtype, shape = k.outputs[0]
    if dtype in COMPUTED_AS and op.stash_type != FLOAT.code:
        raise NotLowered(f"Range computed in {dtype}")
    kind = COMPUTED_AS.get(dtype, dtype)

    def element(step: Axis) -> Expr:
        moved = apply("mul", cast(index(step), kind), cast(single(delta), kind))
        return apply("add", cast(single(start), kind), moved)

    return k.compute(shape, dtype, element)


@rule("Dropout")
def dropout(
    k: Lowering,
    op: Any,
    x: Source,
    ratio: Source | None = None,
    mode: Source | None = None,
) -> tuple[Definition, ...]:
    drops: Any = op.version < 7 and not op.is_test
    if op.version >= 12 and mode is not None:
        drops = True if mode.contents is None else bool(mode.contents.reshape(-1)[0])
    if drops and (ratio is None or ratio.contents is None or float(ratio.contents.reshape(-1)[0])):
        raise NotLowered("Dropout in training")
    kept = k.view(x, x.shape)
    if len(k.outputs) == 1:
        return (kept,)
    dtype, shape = k.outputs[1]
    return kept, _filled(k, shape, dtype, 1)
