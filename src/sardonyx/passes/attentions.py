"""Scaled dot-product attention as exporters write it out, as one operator again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from sardonyx.dtypes import BFLOAT16, DOUBLE, FLOAT, FLOAT16
from sardonyx.ir.tensor import ArrayTensor
from sardonyx.rewrite import Rule

if TYPE_CHECKING:
    from sardonyx.ir.types import Shape
    from sardonyx.ir.value import Value
    from sardonyx.rewrite import Match

__all__ = ["ATTENTIONS"]

_SWALLOWS: Final = -1e30
"""A number so low that adding a score to it does not change it."""


def _scores(op: Any, q: Any, k: Any, over: Any, by: Any, q_by: Any, k_by: Any) -> Any:
    """Q K^T, scaled before or after, or not at all."""
    keys = op.either(
        op.Transpose(k, perm=(0, 1, 3, 2), _bind="swapped"),
        op.Transpose(k, perm=(0, 2, 3, 1), _bind="moved"),
    )
    wide_q = op.either(op.Mul(q, q_by, _bind="scaled_q"), op.Div(q, over, _bind="divided"), q)
    wide_keys = op.either(
        op.Mul(keys, k_by, _bind="scaled_k"),
        op.Transpose(op.Mul(k, k_by, _bind="scaled_k"), perm=(0, 1, 3, 2), _bind="swapped"),
        keys,
    )
    product = op.MatMul(wide_q, wide_keys)
    return op.either(
        op.Div(op.MatMul(q, keys), over, _bind="divided"),
        op.Mul(op.MatMul(q, keys), by, _bind="scaled"),
        product,
    )


def _weighted(op: Any, scores: Any, v: Any) -> Any:
    return op.MatMul(op.either(op.Softmax(scores, axis=-1), op.Softmax(scores, axis=3)), v)


def _plain(
    op: Any,
    q: Any,
    k: Any,
    v: Any,
    over: Any = None,
    by: Any = None,
    q_by: Any = None,
    k_by: Any = None,
) -> Any:
    return _weighted(op, _scores(op, q, k, over, by, q_by, k_by), v)


def _added(
    op: Any,
    q: Any,
    k: Any,
    v: Any,
    mask: Any,
    over: Any = None,
    by: Any = None,
    q_by: Any = None,
    k_by: Any = None,
) -> Any:
    return _weighted(op, op.Add(_scores(op, q, k, over, by, q_by, k_by), mask), v)


def _chosen(
    op: Any,
    q: Any,
    k: Any,
    v: Any,
    allowed: Any,
    low: Any,
    over: Any = None,
    by: Any = None,
    q_by: Any = None,
    k_by: Any = None,
) -> Any:
    scores = _scores(op, q, k, over, by, q_by, k_by)
    masked = op.either(op.Where(allowed, scores, low, _bind="kept"), op.Where(allowed, low, scores))
    return _weighted(op, masked, v)


def _key_shape(match: Match) -> Shape | None:
    """The shape of K as [B, H, S, D]."""
    shape = match.shape("k")
    if shape is None or len(shape) != 4 or match.node("swapped") is not None:
        return shape
    return (shape[0], shape[2], shape[1], shape[3])


def _fits(match: Match) -> str | None:
    shapes = [match.shape("q"), _key_shape(match), match.shape("v")]
    if any(shape is None or len(shape) != 4 or None in shape for shape in shapes):
        return "Q, K and V are not of 4 known dimensions"
    q, k, v = [shape for shape in shapes if shape is not None]
    if not q[:2] == k[:2] == v[:2]:
        return "batch or heads of Q, K and V are not known to be the same"
    if k[2] != v[2] or q[3] != k[3]:
        return "sizes of Q, K and V are not known to fit"
    if match.dtype("q") not in (FLOAT, FLOAT16, BFLOAT16, DOUBLE):
        return f"Q is {match.dtype('q')}"
    for name in ("over", "by", "q_by", "k_by"):
        if match[name] is not None and not (match.number(name) or 0.0) > 0.0:
            return "the scale is no positive constant number"
    return None


def _fits_added(match: Match) -> str | None:
    return _fits(match) or _fits_mask(match, "mask")


def _fits_mask(match: Match, name: str) -> str | None:
    mask, keys = match.shape(name), _key_shape(match)
    if mask is None or keys is None or not 2 <= len(mask) <= 4 or mask[-1] != keys[2]:
        return "the mask is not known to have one column for each key"
    return None


def _fits_chosen(match: Match) -> str | None:
    low = match.number("low")
    if low is None or not low <= _SWALLOWS:
        return "scores are not replaced by a number low enough"
    return _fits(match) or _fits_mask(match, "allowed")


def _scale(match: Match) -> float:
    scale = 1.0
    for name in ("by", "q_by", "k_by"):
        number = match.number(name)
        scale *= 1.0 if number is None else number
    over = match.number("over")
    return scale if over is None else scale / over


def _write(op: Any, match: Match, mask: Value | None) -> Value:
    keys = match["k"]
    if match.node("swapped") is None:
        keys = op.Transpose(keys, perm=(0, 2, 1, 3))
    made: Value = op.Attention(match["q"], keys, match["v"], mask, scale=_scale(match))
    return made


def _write_chosen(op: Any, match: Match) -> Value:
    dtype = op.dtype(match["q"])
    zero, low = op.value(ArrayTensor(np.zeros(()), dtype)), match["low"]
    chosen = (zero, low) if match.node("kept") is not None else (low, zero)
    return _write(op, match, op.Where(match["allowed"], *chosen))


ATTENTIONS: Final = (
    Rule("attention", _plain, lambda op, m: _write(op, m, None), _fits, opset=23),
    Rule("attention-mask", _added, lambda op, m: _write(op, m, m["mask"]), _fits_added, opset=23),
    Rule("attention-where", _chosen, _write_chosen, _fits_chosen, opset=23),
)
