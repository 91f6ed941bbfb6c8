"""Softmax as it is written out, as one operator again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sardonyx.rewrite import Rule

if TYPE_CHECKING:
    from sardonyx.rewrite import Match

__all__ = ["SOFTMAXES"]


def _softmax(op: Any, x: Any, axes: Any) -> Any:
    raised = op.Exp(op.Sub(x, op.ReduceMax(x, axes, keepdims=1)))
    return op.Div(raised, op.ReduceSum(raised, axes, keepdims=1))


def _is_one_axis(match: Match) -> str | None:
    axes = match.ints("axes")
    return None if axes is not None and len(axes) == 1 else "it is not along one known axis"


def _write_softmax(op: Any, match: Match) -> Any:
    axes = match.ints("axes")
    assert axes is not None
    return op.Softmax(match["x"], axis=axes[0])


def _log_softmax(op: Any, x: Any) -> Any:
    return op.Log(op.Softmax(x, _bind="softmax"))


def _write_log_softmax(op: Any, match: Match) -> Any:
    return op.LogSoftmax(match["x"], axis=getattr(match.operator("softmax"), "axis", -1))


SOFTMAXES: Final = (
    Rule("softmax", _softmax, _write_softmax, _is_one_axis, opset=13),
    Rule("log-softmax", _log_softmax, _write_log_softmax, opset=13),
)
