"""Losses of classifiers, and the determinant."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from sardonyx.errors import ExecutionError, InferenceError, quote
from sardonyx.ir.types import shape_text
from sardonyx.ops import types
from sardonyx.ops.activation import LogSoftmax, log_softmax
from sardonyx.ops.fact import Fact
from sardonyx.ops.numeric import widen
from sardonyx.ops.operator import Operator, same_as
from sardonyx.ops.schema import Input, Output, past
from sardonyx.ops.symbolic import unify

if TYPE_CHECKING:
    from sardonyx.ir.tensor import Array
    from sardonyx.ir.types import Shape
    from sardonyx.ir.value import Value
    from sardonyx.ops.body_builder import BodyBuilder
    from sardonyx.ops.operator import Values
    from sardonyx.ops.writer import Writer

_REDUCTIONS: Final = ("none", "sum", "mean")


class _Loss(Operator):
    """What the losses share: classes lie along axis 1, and `ignore_index` marks no class."""

    ignore_index: int | None = None
    reduction: str = "mean"

    def loss_fact(self, scores: Fact, target: Fact, weight: Fact | None) -> Fact:
        """The loss of scores [N, C, d1, ...] for classes [N, d1, ...]."""
        name = self.op_type
        if self.reduction not in _REDUCTIONS:
            raise InferenceError(
                f"{name}: reduction {quote(self.reduction)}",
                hint=f"it is one of {', '.join(_REDUCTIONS)}",
            )
        shape = self._joined(scores.shape, target.shape)
        if weight is not None and weight.shape is not None:
            classes = None if scores.shape is None else scores.shape[1]
            if len(weight.shape) != 1:
                raise InferenceError(f"{name}: weights need rank 1, got {shape_text(weight.shape)}")
            try:
                unify(classes, weight.shape[0])
            except InferenceError:
                raise InferenceError(
                    f"{name}: {weight.shape[0]} weights for {classes} classes"
                ) from None
        return Fact.tensor(scores.dtype, shape if self.reduction == "none" else ())

    def _joined(self, scores: Shape | None, target: Shape | None) -> Shape | None:
        if scores is not None and len(scores) < 2:
            raise InferenceError(
                f"{self.op_type}: scores are [N, C, d1, ...], got {shape_text(scores)}"
            )
        if scores is None or target is None:
            return target if scores is None else (scores[0], *scores[2:])
        wanted = (scores[0], *scores[2:])
        try:
            return tuple(unify(a, b) for a, b in zip(wanted, target, strict=True))
        except (InferenceError, ValueError):
            raise InferenceError(
                f"{self.op_type}: scores {shape_text(scores)} need classes of shape "
                f"{shape_text(wanted)}, got {shape_text(target)}"
            ) from None

    def loss(self, log_prob: Array, target: Array, weight: Array | None) -> Array:
        """The loss of log-probabilities, in their type."""
        classes = log_prob.shape[1]
        counted = np.ones(target.shape, bool)
        if self.ignore_index is not None:
            counted = target != self.ignore_index
        chosen = np.where(counted, target, 0)
        valid = chosen[counted]
        if valid.size and not (valid.min() >= 0 and valid.max() < classes):
            raise ExecutionError(
                f"{self.op_type}: classes lie in [{valid.min()}, {valid.max()}], "
                f"the scores have {classes}"
            )
        wide = widen(log_prob)
        weights = counted.astype(wide.dtype)
        if not valid.size:
            losses = np.zeros(target.shape, wide.dtype)
        else:
            if weight is not None:
                weights = np.where(counted, widen(weight)[chosen], 0)
            picked = np.take_along_axis(wide, chosen[:, None].astype(np.int64), 1)[:, 0]
            with np.errstate(all="ignore"):
                losses = np.where(counted, -picked * weights, 0)
        with np.errstate(all="ignore"):
            if self.reduction == "sum":
                losses = losses.sum()
            elif self.reduction == "mean":
                losses = losses.sum() / weights.sum()
            return np.asarray(losses).astype(log_prob.dtype)

    def loss_body(
        self, op: BodyBuilder, log_prob: Value, target: Value, weight: Value | None
    ) -> Value:
        """The loss of log-probabilities, in their type."""
        x, channel = op.wide(log_prob), np.array([1], np.int64)
        none, counted, chosen = op.like(0, x), None, target
        if self.ignore_index is not None:
            counted = op.Not(op.Equal(target, op.like(self.ignore_index, target)))
            chosen = op.Where(counted, target, op.like(0, target))
        picked = op.GatherElements(x, op.Unsqueeze(chosen, channel), axis=1)
        losses = op.Neg(op.Squeeze(picked, channel))
        weights = None
        if weight is not None:
            weights = op.Gather(op.wide(weight), chosen)
            losses = op.Mul(losses, weights)
        if counted is not None:
            losses = op.Where(counted, losses, none)
            weights = op.cast_like(counted, x) if weights is None else weights
            weights = op.Where(counted, weights, none)
        if self.reduction == "sum" or (self.reduction == "mean" and weights is not None):
            losses = op.ReduceSum(losses, keepdims=0)
            if self.reduction == "mean":
                losses = op.Div(losses, op.ReduceSum(weights, keepdims=0))
        elif self.reduction == "mean":
            losses = op.ReduceMean(losses, keepdims=0)
        return op.cast_like(losses, log_prob)

    def loss_gradient(
        self, op: Writer, dy: Value, x: Value, target: Value, weight: Value | None, y: Value
    ) -> tuple[Value, Value | None]:
        """The gradients by log-probabilities `x` and by `weight` of the loss `y`."""
        counted, chosen = None, target
        if self.ignore_index is not None:
            counted = op.Not(op.Equal(target, self.ignore_index))
            chosen = op.Where(counted, target, 0)
        pair = np.array([0, 1], op.dtype(x).numpy)
        classes = op.size(x, 1)
        is_class = op.OneHot(chosen, classes, pair, axis=1)
        if counted is not None:
            is_class = op.Mul(is_class, op.Unsqueeze(op.cast(counted, op.dtype(x)), [1]))
        weights = is_class
        if weight is not None:
            column = list(range(1, op.rank(x) - 1))
            weights = op.Mul(is_class, op.Unsqueeze(weight, column) if column else weight)
        share = dy
        if self.reduction == "mean":
            share = op.Div(dy, op.ReduceSum(weights, keepdims=0))
        elif self.reduction == "none":
            share = op.Unsqueeze(dy, [1])
        by_x = op.Neg(op.Mul(weights, share))
        if weight is None:
            return by_x, None
        cost = op.Add(x, y) if self.reduction == "mean" else x
        axes = [axis for axis in range(op.rank(x)) if axis != 1]
        by_weight = op.Neg(op.Mul(op.Mul(is_class, cost), share))
        return by_x, op.ReduceSum(by_weight, axes, keepdims=0)


class NegativeLogLikelihoodLoss(_Loss, since=22):
    """-input of each target's class, times that class' weight; their mean is weighted too."""

    input = Input("T", "Log-probabilities [N, C, d1, ...].")
    target = Input("Tind", "Classes [N, d1, ...].")
    weight = Input("T", "[C].", optional=True)
    loss_ = Output("T", "[N, d1, ...], or a scalar where it is reduced.", name="loss")
    T, Tind = types.FLOATS_BFLOAT16, types.INDICES
    history = past(13, T=types.FLOATS), past(12)

    def infer(self, input: Fact, target: Fact, weight: Fact | None = None) -> Fact:
        return self.loss_fact(input, target, weight)

    def reference(self, input: Array, target: Array, weight: Array | None = None) -> Array:
        facts = [None if x is None else Fact.constant(x) for x in (input, target, weight)]
        self.infer(*facts)  # type: ignore[arg-type]
        return self.loss(input, target, weight)

    def body(
        self, op: BodyBuilder, input: Value, target: Value, weight: Value | None = None
    ) -> Any:
        return self.loss_body(op, input, target, weight)

    def gradient(self, op: Writer, grads: Values, inputs: Values, outputs: Values) -> Values:
        (dy,), (x, target, weight) = grads, inputs
        by_x, by_weight = self.loss_gradient(op, dy, x, target, weight, outputs[0])
        return [by_x, None, by_weight]


class SoftmaxCrossEntropyLoss(_Loss, since=13):
    """The negative log-likelihood loss of LogSoftmax of scores along axis 1."""

    scores = Input("T", "[N, C, d1, ...].")
    labels = Input("Tind", "Classes [N, d1, ...].")
    weights = Input("T", "[C].", optional=True)
    output = Output("T", "[N, d1, ...], or a scalar where it is reduced.")
    log_prob = Output("T", "Shaped like scores.", optional=True)
    T, Tind = types.FLOATS_BFLOAT16, types.INDICES
    history = (past(12, T=types.FLOATS),)

    def infer(self, scores: Fact, labels: Fact, weights: Fact | None = None) -> tuple[Fact, ...]:
        return self.loss_fact(scores, labels, weights), same_as(scores)

    def reference(
        self, scores: Array, labels: Array, weights: Array | None = None
    ) -> tuple[Array, ...]:
        facts = [None if x is None else Fact.constant(x) for x in (scores, labels, weights)]
        self.infer(*facts)  # type: ignore[arg-type]
        log_prob = LogSoftmax(version=13, axis=1).reference(scores)
        return self.loss(log_prob, labels, weights), log_prob

    def body(
        self, op: BodyBuilder, scores: Value, labels: Value, weights: Value | None = None
    ) -> tuple[Value, ...]:
        log_prob = log_softmax(op, scores, 1)
        return self.loss_body(op, log_prob, labels, weights), log_prob

    def gradient(self, op: Writer, grads: Values, inputs: Values, outputs: Values) -> Values:
        dy, d_log = (*grads, None)[:2]
        _, labels, weights = inputs
        log_prob = op.with_output(outputs[0], 1, "log_prob")
        by_weights = None
        if dy is not None:
            by_log, by_weights = self.loss_gradient(op, dy, log_prob, labels, weights, outputs[0])
            d_log = by_log if d_log is None else op.Add(d_log, by_log)
        total = op.ReduceSum(d_log, [1], keepdims=1)
        return [op.Sub(d_log, op.Mul(op.Exp(log_prob), total)), None, by_weights]


class Det(Operator, since=22):
    """The determinant of each matrix of the last two dimensions."""

    X, Y = Input("T", "[..., M, M]."), Output("T", "[...].")
    T = types.FLOATS_BFLOAT16
    history = (past(11, T=types.FLOATS),)

    def infer(self, X: Fact) -> Fact:
        if X.shape is None:
            return Fact.tensor(X.dtype)
        try:
            if len(X.shape) < 2:
                raise InferenceError("rank")
            unify(*X.shape[-2:])
        except InferenceError:
            raise InferenceError(
                f"Det: X must hold square matrices, got {shape_text(X.shape)}"
            ) from None
        return Fact.tensor(X.dtype, X.shape[:-2])

    def reference(self, X: Array) -> Array:
        self.infer(Fact.tensor(None, X.shape))
        with np.errstate(all="ignore"):
            return np.asarray(np.linalg.det(widen(X))).astype(X.dtype)
