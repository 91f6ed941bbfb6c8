"""Losses: the standard's own operators where there are such, few nodes otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sardonyx import dtypes
from sardonyx.export.torch.registry import TorchBuilder, translation

if TYPE_CHECKING:
    from sardonyx.ir.value import Value

__all__: list[str] = []

_REDUCTIONS: Final = ("none", "mean", "sum")


def _reduced(op: TorchBuilder, loss: Value, like: Value, reduction: int) -> Value:
    """`loss`, of the shape of `like`, or its mean or sum."""
    op.typed(loss, op.dtype_of(like), op.shape_of(like))
    if not reduction:
        return loss
    return op.reduce(("Mean", "Sum")[reduction - 1], loss, [], False)


def _classified(op: TorchBuilder, op_type: str, x: Value, target: Value, weight: Value | None,
                reduction: int, ignored: int) -> Value:  # fmt: skip
    """The standard's operator; an unbatched sample becomes a batch of one."""
    single = op.rank_of(x) == 1
    if single:
        x, target = op.unsqueeze(x, [0]), op.unsqueeze(target, [0])
    if target.dtype not in {dtypes.INT32, dtypes.INT64}:
        target = op.cast(target, dtypes.INT64)
    made: Value = op.apply(
        op_type, [x, target, weight], reduction=_REDUCTIONS[reduction], ignore_index=ignored
    )  # type: ignore[assignment]
    if single and not reduction:
        made = op.squeeze(op.typed(made, op.result(), [1]), [0])
    return made


@translation("aten.cross_entropy_loss.default")
def cross_entropy(op: TorchBuilder, x: Value, target: Value, weight: Value | None = None,
                  reduction: int = 1, ignore_index: int = -100,
                  label_smoothing: float = 0.0) -> Any:  # fmt: skip
    if op.dtype_of(target).is_floating:
        return _entropy_of_probabilities(op, x, target, weight, reduction, label_smoothing)
    op.require(12, "cross_entropy")
    if not label_smoothing:
        return _classified(
            op, "SoftmaxCrossEntropyLoss", x, target, weight, reduction, ignore_index
        )
    return _smoothed(op, x, target, weight, reduction, ignore_index, label_smoothing)


def _class_axis(op: TorchBuilder, x: Value) -> int:
    return 0 if op.rank_of(x) == 1 else 1


def _weighted(op: TorchBuilder, x: Value, weight: Value | None) -> Value:
    """`x` times the class weights along its class axis."""
    if weight is None:
        return x
    rank = op.rank_of(x)
    if rank > 2:
        weight = op.unsqueeze(weight, list(range(1, rank - 1)))
    return op.typed(op.Mul(x, weight), op.dtype_of(x), op.shape_of(x))


def _log_softmax(op: TorchBuilder, x: Value, axis: int) -> Value:
    if op.opset < 13 and axis != op.rank_of(x) - 1:
        op.require(13, "cross_entropy of probabilities")
    return op.typed(op.LogSoftmax(x, axis=axis), op.dtype_of(x), op.shape_of(x))


def _entropy_of_probabilities(op: TorchBuilder, x: Value, target: Value, weight: Value | None,
                              reduction: int, smoothing: float) -> Any:  # fmt: skip
    dtype, axis, shape = op.dtype_of(x), _class_axis(op, x), op.shape_of(x)
    if smoothing:
        spread = op.Div(op.constant(smoothing, dtype), op.scalar(shape[axis], dtype))
        target = op.Add(op.Mul(target, op.constant(1 - smoothing, dtype)), spread)
    logs = _weighted(op, _log_softmax(op, x, axis), weight)
    terms = op.typed(op.Mul(logs, target), dtype, shape)
    if reduction != 1:
        axes = [axis] if not reduction else []
        return op.Neg(op.reduce("Sum", terms, axes, False))
    total = op.Neg(op.reduce("Sum", terms, [], False))
    if op.rank_of(x) == 1:
        return total
    count: Any = 1
    for index, size in enumerate(shape):
        count = count if index == axis else count * size
    return op.Div(total, op.scalar(count, dtype))


def _smoothed(op: TorchBuilder, x: Value, target: Value, weight: Value | None, reduction: int,
              ignored: int, smoothing: float) -> Any:  # fmt: skip
    """(1 - s) of the loss at the target, and s / classes of that at every class."""
    dtype, axis, shape = op.dtype_of(x), _class_axis(op, x), op.shape_of(x)
    logs = _log_softmax(op, x, axis)
    hit = op.typed(
        _classified(op, "NegativeLogLikelihoodLoss", logs, target, weight, 0, ignored),
        dtype,
        [size for index, size in enumerate(shape) if index != axis],
    )
    kept = op.Not(op.Equal(target, op.constant(ignored, op.dtype_of(target))))
    every = op.Neg(op.reduce("Sum", _weighted(op, logs, weight), [axis], False))
    every = op.typed(op.Where(kept, every, op.constant(0, dtype)), dtype, hit.shape or ())
    share = op.Div(op.constant(smoothing, dtype), op.scalar(shape[axis], dtype))
    parts = op.Add(op.Mul(hit, op.constant(1 - smoothing, dtype)), op.Mul(every, share))
    op.typed(parts, dtype, hit.shape or ())
    if not reduction:
        return parts
    total = op.reduce("Sum", parts, [], False)
    if reduction == 2:
        return total
    if weight is None:
        counted = op.typed(op.cast(kept, dtype), dtype, hit.shape or ())
    else:
        # at an ignored place the index is no class
        safe = op.Where(kept, target, op.constant(0, op.dtype_of(target)))
        counted = op.Where(kept, op.Gather(weight, safe, axis=0), op.constant(0, dtype))
        op.typed(counted, dtype, hit.shape or ())
    return op.Div(total, op.reduce("Sum", counted, [], False))


@translation("aten.nll_loss.default", "aten.nll_loss_nd.default", "aten.nll_loss2d.default")
def nll_loss(op: TorchBuilder, x: Value, target: Value, weight: Value | None = None,
             reduction: int = 1, ignore_index: int = -100) -> Any:  # fmt: skip
    op.require(12, "nll_loss")
    return _classified(
        op, "NegativeLogLikelihoodLoss", x, target, weight, reduction, ignore_index
    )  # fmt: skip


@translation("aten.soft_margin_loss.default")
def soft_margin_loss(op: TorchBuilder, x: Value, target: Value, reduction: int = 1) -> Any:
    dtype = op.result()
    product = op.Mul(op.Neg(op.cast(x, dtype)), op.cast(target, dtype))
    return _reduced(op, op.Softplus(product), x, reduction)


@translation("aten.binary_cross_entropy.default")
def binary_cross_entropy(op: TorchBuilder, x: Value, target: Value, weight: Value | None = None,
                         reduction: int = 1) -> Any:  # fmt: skip
    # torch holds logarithms at -100
    dtype = op.result()
    one, lowest = op.constant(1, dtype), op.constant(-100, dtype)
    missed = op.Mul(op.Sub(target, one), op.Max(op.Log(op.Sub(one, x)), lowest))
    loss = op.Sub(missed, op.Mul(target, op.Max(op.Log(x), lowest)))
    if weight is not None:
        loss = op.Mul(loss, weight)
    return _reduced(op, loss, x, reduction)


@translation("aten.multilabel_margin_loss.default")
def multilabel_margin_loss(op: TorchBuilder, x: Value, target: Value,
                           reduction: int = 1) -> Any:  # fmt: skip
    if not op.rank_of(x):
        x, target = op.unsqueeze(x, [0]), op.unsqueeze(target, [0])
    dtype, rank, shape = op.result(), op.rank_of(x), op.shape_of(x)
    axis, integer = rank - 1, dtypes.INT64
    zero, one = op.constant(0, integer), op.constant(1, integer)
    # labels count up to the first negative one
    ended = op.cast(op.Less(target, zero), integer)
    listed = op.Equal(op.CumSum(ended, op.constant(axis, integer)), zero)
    label = op.typed(op.Where(listed, target, zero), integer, shape)
    classes = op.Range(zero, op.scalar(shape[axis], integer), one)
    found = op.And(op.Equal(op.unsqueeze(label, [rank]), classes),
                   op.unsqueeze(op.typed(listed, dtypes.BOOL, shape), [rank]))  # fmt: skip
    wide = [*shape, shape[axis]]
    counted = op.typed(op.cast(found, dtypes.INT32), dtypes.INT32, wide)
    is_label = op.cast(op.reduce("Max", counted, [axis], False), dtypes.BOOL)
    # 1 - x[label] + x[other], for each label and each class that is none
    chosen = op.typed(op.GatherElements(x, label, axis=axis), dtype, shape)
    gap = op.Sub(op.unsqueeze(x, [axis]), op.unsqueeze(chosen, [rank]))
    margin = op.Max(op.Add(gap, op.constant(1, dtype)), op.constant(0, dtype))
    other = op.unsqueeze(op.typed(op.Not(is_label), dtypes.BOOL, shape), [axis])
    counts = op.And(other, op.unsqueeze(listed, [rank]))
    terms = op.typed(op.Where(counts, margin, op.constant(0, dtype)), dtype, wide)
    each = op.reduce("Sum", terms, [axis, axis + 1], False)
    loss = op.typed(op.Div(each, op.scalar(shape[axis], dtype)), dtype, shape[:-1])
    if not reduction or rank == 1:
        return loss
    return op.reduce(("Mean", "Sum")[reduction - 1], loss, [], False)
