"""Matrix products: MatMul, Gemm and Einsum."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sardonyx.loops.expr import Axis, Ref, index
from sardonyx.loops.nest import (
    COMPUTED_AS,
    Contraction,
    Definition,
    Lowering,
    Nest,
    NotLowered,
    Reduction,
    Source,
    widened,
)
from sardonyx.loops.scalars import apply, cast, const
from sardonyx.lowering.registry import rule
from sardonyx.lowering.support import agree

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sardonyx.dims import DimLike
    from sardonyx.loops.expr import Expr, Index

    Read = Callable[[tuple[Index, ...]], Expr]

__all__ = ["contracted"]


def _point(x: Source, batch: Sequence[Axis], last: tuple[Index, ...]) -> tuple[Index, ...]:
    """The indices of `x` at its own last axes, with its leading ones broadcast."""
    leading = x.rank - len(last)
    offset = len(batch) - leading
    return (*(0 if x.shape[i] == 1 else batch[i + offset] for i in range(leading)), *last)


def contracted(
    k: Lowering,
    a: Source,
    b: Source,
    left: Read,
    right: Read,
    last: Callable[[Ref, tuple[Index, ...], tuple[Index, ...]], Expr],
) -> Contraction:
    """The matrix product of `a` and `b`, either of which may be a vector.

    `left` and `right` read a factor at a point of `a` and of `b`; `last` makes an element of the
    sum and the points of a and b that it stands for.
    """
    dtype, shape = k.outputs[0]
    if not a.rank or not b.rank:
        raise NotLowered("a matrix product with a scalar")
    rows, columns = a.rank > 1, b.rank > 1
    k.require_equal(a.shape[-1], b.shape[-2 if columns else -1])
    count = len(shape) - rows - columns
    axes = k.axes(count + 3)
    batch, (m, n, depth) = axes[:count], axes[count:]
    to_a = _point(a, batch, (m, depth) if rows else (depth,))
    to_b = _point(b, batch, (depth, n) if columns else (depth,))
    one, other = left(to_a), right(to_b)
    total = Ref("sum", one.dtype)
    sizes = (a.shape[-2] if rows else 1, b.shape[-1] if columns else 1, a.shape[-1])
    kept = (*batch, *([m] if rows else []), *([n] if columns else []))
    return Contraction(
        shape,
        dtype,
        batch,
        shape[:count],
        m,
        n,
        depth,
        sizes,
        one,
        other,
        cast(last(total, to_a, to_b), dtype),
        tuple(index(axis) for axis in kept),
    )


@rule("MatMul")
def matmul(k: Lowering, _op: Any, a: Source, b: Source) -> Contraction:
    return contracted(
        k,
        a,
        b,
        lambda point: widened(a[point]),
        lambda point: widened(b[point]),
        lambda total, *_: total,
    )


@rule("Gemm")
def gemm(k: Lowering, op: Any, a: Source, b: Source, c: Source | None = None) -> Contraction:
    dtype, shape = k.outputs[0]
    if op.version < 7:
        raise NotLowered("Gemm before opset 7")
    if dtype.is_integer and (op.alpha != 1.0 or (c is not None and op.beta not in (0.0, 1.0))):
        raise NotLowered("Gemm of integers that scales them")
    m, n, depth = k.axes(3)
    k.require_equal(a.shape[0 if op.transA else 1], b.shape[1 if op.transB else 0])
    left = widened(a[(depth, m) if op.transA else (m, depth)])
    right = widened(b[(n, depth) if op.transB else (depth, n)])
    total: Any = Ref("sum", left.dtype)
    if op.alpha != 1.0:
        total = apply("mul", total, const(op.alpha, total.dtype))
    if c is not None and op.beta != 0.0:
        added = widened(c.at((m, n)))
        if op.beta != 1.0:
            added = apply("mul", added, const(op.beta, added.dtype))
        total = apply("add", total, added)
    return Contraction(
        shape,
        dtype,
        (),
        (),
        m,
        n,
        depth,
        (shape[0], shape[1], a.shape[0] if op.transA else a.shape[1]),
        left,
        right,
        cast(total, dtype),
        (index(m), index(n)),
    )


@rule("Einsum")
def einsum(k: Lowering, op: Any, *inputs: Source) -> Definition:
    from sardonyx.ops.einsum import Equation

    dtype, shape = k.outputs[0]
    equation = Equation.parse(op.equation)
    depth = max(
        (
            x.rank - len(term) + 1
            for term, x in zip(equation.terms, inputs, strict=True)
            if "." in term
        ),
        default=0,
    )
    operands = [
        (x, _labels(term, x.rank - len(term) + 1))
        for term, x in zip(equation.terms, inputs, strict=True)
    ]
    sizes: dict[object, DimLike] = {}
    for x, labels in operands:
        for label, dim in zip(labels, x.shape, strict=True):
            if sizes.setdefault(label, dim) == 1:
                sizes[label] = dim
            elif dim != 1:
                agree("Einsum's sizes of one label", (dim,), (sizes[label],))
    kept = _labels(equation.output, depth)
    agree("Einsum's output", shape, [sizes[label] for label in kept])
    summed = [label for label in sizes if label not in kept]
    axes = dict(zip((*kept, *summed), k.axes(len(sizes)), strict=True))
    factors = [
        widened(
            x[
                tuple(
                    0 if dim == 1 else axes[label]
                    for label, dim in zip(labels, x.shape, strict=True)
                )
            ]
        )
        for x, labels in operands
    ]
    kind = COMPUTED_AS.get(dtype, dtype)
    target = tuple(index(axes[label]) for label in kept)
    found = _as_product(operands, kept, summed, sizes)
    if found is not None:
        batch, m, n, depth_ = found
        return Contraction(
            shape,
            dtype,
            tuple(axes[label] for label in batch),
            tuple(sizes[label] for label in batch),
            axes[m],
            axes[n],
            axes[depth_],
            (sizes[m], sizes[n], sizes[depth_]),
            factors[0],
            factors[1],
            cast(Ref("sum", kind), dtype),
            target,
        )
    value = factors[0]
    for factor in factors[1:]:
        value = apply("mul", value, factor)
    outer = tuple(axes[label] for label in kept)
    extents = tuple(sizes[label] for label in kept)
    if not summed:
        return Nest(shape, dtype, outer, extents, cast(value, dtype), target)
    total = Reduction("total", "add", const(0, kind), value)
    return Nest(
        shape,
        dtype,
        outer,
        extents,
        cast(Ref("total", kind), dtype),
        target,
        tuple(axes[label] for label in summed),
        tuple(sizes[label] for label in summed),
        (total,),
    )


def _labels(term: str, depth: int) -> list[object]:
    """One key per dimension: a letter, or for the ellipsis its distance from the end, negative."""
    found: list[object] = []
    for label in term:
        found += range(-depth, 0) if label == "." else [label]
    return found


def _as_product(
    operands: Sequence[tuple[Source, list[object]]],
    kept: Sequence[object],
    summed: Sequence[object],
    sizes: dict[object, DimLike],
) -> tuple[list[object], object, object, object] | None:
    """The labels of a matrix product: batch, m, n and k; None if it is not one."""
    if len(operands) != 2 or len(summed) != 1:
        return None
    (_, left), (_, right) = operands
    if any(len(set(labels)) < len(labels) for labels in (left, right)):
        return None
    if any(
        dim == 1 != sizes[label]
        for s, ls in operands
        for label, dim in zip(ls, s.shape, strict=True)
    ):
        return None
    (depth,) = summed
    only_left = [label for label in left if label not in right]
    only_right = [label for label in right if label not in left]
    if depth in only_left or depth in only_right or not only_left or not only_right:
        return None
    m, n = only_left[-1], only_right[-1]
    batch = [label for label in kept if label not in {m, n}]
    # the left factor does not vary along n, nor the right one along m
    return batch, m, n, depth
