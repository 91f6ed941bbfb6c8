"""Normalizations: mean and variance along a row, then scale and bias."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sardonyx.dtypes import FLOAT
from sardonyx.loops import doubles
from sardonyx.loops.expr import index, linear
from sardonyx.loops.nest import COMPUTED_AS, Lowering, Nest, NotLowered, Source, widened
from sardonyx.loops.scalars import apply, cast, const, select
from sardonyx.lowering.reduction import count_of
from sardonyx.lowering.registry import rule
from sardonyx.lowering.support import agree, normal_axis

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sardonyx.loops.expr import Axis, Expr, Ref


class _Standard:
    """Mean and variance of the elements that `read` gives, along axes of `shape`."""

    def __init__(self, read: Callable[..., Expr], share: Expr, epsilon: float) -> None:
        self._read = read
        self.share = share
        self.epsilon = epsilon
        self.dtype = share.dtype

    @property
    def stages(self) -> list[tuple[str, str, Any, float, Callable[..., Expr]]]:
        """The two passes."""
        return [
            ("total", "add", self.dtype, 0.0, self.read),
            ("squares", "add", self.dtype, 0.0, self.square),
        ]

    def read(self, point: tuple[Axis, ...], *_found: Ref) -> Expr:
        """An element."""
        return self._read(point)

    def mean(self, total: Expr) -> Expr:
        """The mean, of the sum."""
        return apply("mul", total, self.share)

    def centred(self, point: tuple[Axis, ...], total: Expr) -> Expr:
        """An element less the mean."""
        return apply("sub", self.read(point), self.mean(total))

    def square(self, point: tuple[Axis, ...], total: Expr) -> Expr:
        """The square of that."""
        distance = self.centred(point, total)
        return apply("mul", distance, distance)

    def deviation(self, squares: Expr) -> Expr:
        """The square root of the variance and epsilon."""
        variance = apply("mul", squares, self.share)
        return apply("sqrt", apply("add", variance, const(self.epsilon, self.dtype)))

    def inverse(self, squares: Expr) -> Expr:
        """One over the deviation."""
        return apply("div", const(1, self.dtype), self.deviation(squares))

    def standardized(self, point: tuple[Axis, ...], total: Expr, squares: Expr) -> Expr:
        """An element less the mean, over the deviation."""
        return apply("mul", self.centred(point, total), self.inverse(squares))


def _standard(x: Source, along: Sequence[int], epsilon: float) -> _Standard:
    dtype = COMPUTED_AS.get(x.dtype, x.dtype)
    share = apply("div", const(1, dtype), count_of(x, along, dtype))
    return _Standard(lambda point: widened(x.at(point)), share, epsilon)


def _affine(value: Expr, scale: Expr, bias: Expr | None) -> Expr:
    value = apply("mul", value, cast(widened(scale), value.dtype))
    return value if bias is None else apply("add", value, cast(widened(bias), value.dtype))


@rule("LayerNormalization")
def layer(
    k: Lowering, op: Any, x: Source, scale: Source, bias: Source | None = None
) -> tuple[Nest, ...]:
    first = normal_axis(op.axis, x.rank)
    along = list(range(first, x.rank))
    if op.stash_type != FLOAT.code and len(k.outputs) > 1:
        raise NotLowered("LayerNormalization with statistics of another type")
    standard = _standard(x, along, op.epsilon)

    def result(point: tuple[Axis, ...], total: Ref, squares: Ref) -> Expr:
        value = standard.standardized(point, total, squares)
        return _affine(value, scale.at(point), None if bias is None else bias.at(point))

    nests = [k.rows(x.shape, along, k.outputs[0][0], standard.stages, result, spread=True)]
    if len(k.outputs) > 1:
        dtype = k.outputs[1][0]
        nests.append(
            k.rows(
                x.shape,
                along,
                dtype,
                standard.stages[:1],
                lambda _point, total: standard.mean(total),
                keep=True,
            )
        )
    if len(k.outputs) > 2:
        dtype = k.outputs[2][0]
        nests.append(
            k.rows(
                x.shape,
                along,
                dtype,
                standard.stages,
                lambda _point, _total, squares: standard.inverse(squares),
                keep=True,
            )
        )
    return tuple(nests)


@rule("RMSNormalization")
def root_mean_square(k: Lowering, op: Any, x: Source, scale: Source) -> Nest:
    along = list(range(normal_axis(op.axis, x.rank), x.rank))
    dtype = COMPUTED_AS.get(x.dtype, x.dtype)
    share = apply("div", const(1, dtype), count_of(x, along, dtype))

    def read(point: tuple[Axis, ...], *_found: Ref) -> Expr:
        return widened(x.at(point))

    def square(point: tuple[Axis, ...]) -> Expr:
        return apply("mul", read(point), read(point))

    def result(point: tuple[Axis, ...], squares: Ref) -> Expr:
        mean = apply("add", apply("mul", squares, share), const(op.epsilon, dtype))
        value = apply("mul", read(point), apply("div", const(1, dtype), apply("sqrt", mean)))
        return _affine(value, scale.at(point), None)

    return k.rows(
        x.shape,
        along,
        k.outputs[0][0],
        [("squares", "add", dtype, 0.0, square)],
        result,
        spread=True,
    )


@rule("BatchNormalization")
def batch(
    k: Lowering, op: Any, x: Source, scale: Source, bias: Source, mean: Source, var: Source
) -> tuple[Nest, ...]:
    if op.trains or len(k.outputs) > 1:
        raise NotLowered("BatchNormalization in training")
    if op.version < 9 and not op.spatial:
        raise NotLowered("BatchNormalization of each feature")
    channels = (x.shape[1] if x.rank > 1 else 1,)
    for given in (scale, bias, mean, var):
        agree("BatchNormalization's parameters", given.shape, channels)
    kind = COMPUTED_AS.get(x.dtype, x.dtype)

    def element(*axes: Axis) -> Expr:
        channel = axes[1] if x.rank > 1 else 0

        def parameter(source: Source) -> Expr:
            return widened(source[channel])

        spread = parameter(var)
        spread = apply("sqrt", apply("add", spread, const(op.epsilon, spread.dtype)))
        inverse = cast(apply("div", const(1, spread.dtype), spread), kind)
        factor = apply("mul", cast(parameter(scale), kind), inverse)
        centre = apply("mul", cast(parameter(mean), kind), factor)
        moved = apply("sub", cast(parameter(bias), kind), centre)
        return apply("add", apply("mul", widened(x[axes]), factor), moved)

    return (k.compute(x.shape, x.dtype, element),)


@rule("InstanceNormalization")
def instance(k: Lowering, op: Any, x: Source, scale: Source, bias: Source) -> Nest:
    along = list(range(2, x.rank))
    for given in (scale, bias):
        agree("InstanceNormalization's parameters", given.shape, x.shape[1:2])
    standard = _standard(x, along, op.epsilon)

    def result(point: tuple[Axis, ...], total: Ref, squares: Ref) -> Expr:
        value = standard.standardized(point, total, squares)
        return _affine(value, scale[point[1]], bias[point[1]])

    return k.rows(x.shape, along, k.outputs[0][0], standard.stages, result, spread=True)


@rule("GroupNormalization")
def group(k: Lowering, op: Any, x: Source, scale: Source, bias: Source) -> Nest:
    channels, groups = x.shape[1], op.num_groups
    if not isinstance(channels, int) or channels % groups:
        raise NotLowered("GroupNormalization of a number of channels that data decides")
    each = channels // groups
    for given in (scale, bias):
        wanted = channels if op.version >= 21 else groups
        agree("GroupNormalization's parameters", given.shape, (wanted,))
    shape = (x.shape[0], groups, each, *x.shape[2:])
    along = list(range(2, len(shape)))
    dtype = COMPUTED_AS.get(x.dtype, x.dtype)
    grouped = Source(x.buffer, x.dtype, shape)
    share = apply("div", const(1, dtype), count_of(grouped, along, dtype))

    def place(point: tuple[Axis, ...]) -> tuple[Any, ...]:
        return (point[0], linear((point[1], each), (point[2], 1)), *point[3:])

    standard = _Standard(lambda point: widened(x[place(point)]), share, op.epsilon)

    def result(point: tuple[Axis, ...], total: Ref, squares: Ref) -> Expr:
        value = standard.standardized(point, total, squares)
        value = widened(cast(value, x.dtype))
        channel = place(point)[1] if op.version >= 21 else point[1]
        return _affine(value, scale[channel], bias[channel])

    nest = k.rows(shape, along, x.dtype, standard.stages, result, spread=True)
    points = (*nest.axes, *nest.inner)
    target = tuple(map(index, place(points)))
    return replace(nest, shape=x.shape, target=target)


@rule("MeanVarianceNormalization")
def mean_variance(k: Lowering, op: Any, x: Source) -> Nest:
    along = sorted({normal_axis(axis, x.rank) for axis in op.axes}) if x.rank else []
    standard = _standard(x, along, 0.0)

    def result(point: tuple[Axis, ...], total: Ref, squares: Ref) -> Expr:
        variance = apply("mul", squares, standard.share)
        deviation = apply("add", apply("sqrt", variance), const(1e-9, standard.dtype))
        return apply("div", standard.centred(point, total), deviation)

    return k.rows(x.shape, along, k.outputs[0][0], standard.stages, result, spread=True)


@rule("LpNormalization")
def by_norm(k: Lowering, op: Any, x: Source) -> Nest:
    if not x.rank:
        raise NotLowered("LpNormalization of a scalar")
    dtype = COMPUTED_AS.get(x.dtype, x.dtype)

    def size(point: tuple[Axis, ...]) -> Expr:
        value = widened(x.at(point))
        return apply("abs", value) if op.p == 1 else apply("mul", value, value)

    def result(point: tuple[Axis, ...], total: Ref) -> Expr:
        norm = total if op.p == 1 else apply("sqrt", total)
        zero = const(0, dtype)
        quotient = apply("div", widened(x.at(point)), norm)
        return select(apply("eq", norm, zero), zero, quotient)

    stages = [("total", "add", dtype, 0.0, size)]
    return k.rows(x.shape, [normal_axis(op.axis, x.rank)], x.dtype, stages, result, spread=True)


@rule("LRN")
def response(k: Lowering, op: Any, x: Source) -> Nest:
    dtype = COMPUTED_AS.get(x.dtype, x.dtype)
    if dtype is not FLOAT:
        raise NotLowered(f"LRN of {x.dtype}")
    channels = x.shape[1]
    if not isinstance(channels, int) or op.size > 9:
        raise NotLowered("LRN over many channels, or a number of them that data decides")
    below = (op.size - 1) // 2
    zero = const(0, dtype)

    def element(*axes: Axis) -> Expr:
        total: Expr | None = None
        for shift in range(-below, op.size - below):
            if abs(shift) >= channels:
                continue
            place = linear((axes[1], 1), (shift, 1))
            last = index(channels - 1)
            held = apply("max", apply("min", place, last), index(0))
            where = (axes[0], held if shift else axes[1], *axes[2:])
            near = widened(x[where])
            part = apply("mul", near, near)
            if shift:
                part = select(apply("eq", held, place), part, zero)
            total = part if total is None else apply("add", total, part)
        assert total is not None
        share = apply("mul", const(op.alpha / op.size, dtype), total)
        base = apply("add", const(op.bias, dtype), share)
        if op.beta == 0.75:
            root = apply("sqrt", base)
            under = apply("mul", root, apply("sqrt", root))
        else:
            under = doubles.power(base, const(op.beta, dtype))
        return apply("div", widened(x[axes]), under)

    return k.compute(x.shape, x.dtype, element)
