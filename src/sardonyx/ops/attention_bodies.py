"""The function bodies of attention and of rotary positions."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from sardonyx import dtypes
from sardonyx.dims import known_equal
from sardonyx.dtypes import BOOL, DOUBLE, FLOAT

if TYPE_CHECKING:
    from sardonyx.ir.value import Value
    from sardonyx.ops.attention import Attention, RotaryEmbedding
    from sardonyx.ops.body_builder import BodyBuilder

__all__ = ["attention", "grouped", "grouped_matmul", "root_of_scale", "rotated"]

_END: Final = np.array([np.iinfo(np.int64).max], np.int64)
_LAST: Final = np.array([-1], np.int64)
_SPREAD: Final = np.array([1, 2, 3], np.int64)


def root_of_scale(op: BodyBuilder, scale: float | None, queries: Value) -> tuple[Value, Value]:
    """The factors of queries and of keys, in their type: `scale`'s root, and its sign on one.

    Where `scale` is None it is 1 / sqrt(head size), which need not be known.
    """
    size = op.shape(queries)[-1]
    if scale is None and not isinstance(size, int):
        wide = DOUBLE if op.fact(queries).dtype is DOUBLE else FLOAT
        count = op.cast(op.reshape(op.size(queries, -1)), wide)
        root = op.cast_like(op.Reciprocal(op.Sqrt(op.Sqrt(count))), queries)
        return root, root
    if scale is None:
        assert isinstance(size, int)
        scale = 1 / math.sqrt(max(size, 1))
    root = op.like(math.sqrt(abs(scale)), queries)
    return (root if scale >= 0 else op.Neg(root)), root


def grouped(op: BodyBuilder, x: Value, heads: Value) -> Value:
    """`x`, [B, Hq, ...] of rank 4, as [B, Hkv, Hq / Hkv, ...], `heads` being [B, Hkv, ...]."""
    kv_heads = op.size(heads, 1)
    each = op.Div(op.size(x, 1), kv_heads)
    return op.reshape(x, op.size(x, 0), kv_heads, each, op.size(x, 2), op.size(x, 3))


def grouped_matmul(op: BodyBuilder, x: Value, heads: Value) -> Value:
    """X @ heads, where groups of heads of `x` share one of `heads`."""
    count, shared = op.shape(x)[1], op.shape(heads)[1]
    if count is not None and shared is not None and known_equal(count, shared):
        product: Value = op.MatMul(x, heads)
        return product
    single = op.Unsqueeze(heads, np.array([2], np.int64))
    product = op.MatMul(grouped(op, x, heads), single)
    sizes = [op.size(x, axis) for axis in range(3)]
    return op.reshape(product, *sizes, op.size(heads, 3))


def attention(
    node: Attention,
    op: BodyBuilder,
    Q: Value,
    K: Value,
    V: Value,
    attn_mask: Value | None = None,
    past_key: Value | None = None,
    past_value: Value | None = None,
    nonpad_kv_seqlen: Value | None = None,
) -> tuple[Value, ...]:
    """What Attention is made of; all its outputs."""
    q = _heads(op, Q, node.q_num_heads)
    k = _heads(op, K, node.kv_num_heads)
    v = _heads(op, V, node.kv_num_heads)
    if past_key is not None and past_value is not None:
        k, v = op.Concat(past_key, k, axis=2), op.Concat(past_value, v, axis=2)
    first, second = root_of_scale(op, node.scale, q)
    keys = op.Transpose(op.Mul(k, second), perm=(0, 1, 3, 2))
    scores = capped = grouped_matmul(op, op.Mul(q, first), keys)
    if node.softcap > 0:
        cap = op.like(node.softcap, q)
        capped = op.Mul(op.Tanh(op.Div(scores, cap)), cap)
    offset = None
    if past_key is not None:
        offset = op.size(past_key, 2)
    elif nonpad_kv_seqlen is not None:
        lengths = op.Unsqueeze(nonpad_kv_seqlen, _SPREAD)
        offset = op.Sub(lengths, op.size(q, 2))
    bias = _bias(node, op, q, k, attn_mask, offset, nonpad_kv_seqlen)
    biased = capped if bias is None else op.Add(capped, bias)
    wide = biased
    if node.softmax_precision:
        wide = op.cast(biased, dtypes.from_code(node.softmax_precision))
    weights = op.Softmax(wide, axis=-1)
    if bias is not None:
        closed = op.Equal(op.ReduceMax(bias, _LAST), op.like(-np.inf, bias))
        weights = op.Where(closed, op.like(0, weights), weights)
    weights = op.cast_like(weights, q)
    y = grouped_matmul(op, weights, op.cast_like(v, weights))
    if op.rank(Q) == 3:
        y = op.Transpose(y, perm=(0, 2, 1, 3))
        columns = op.Mul(op.size(y, 2), op.size(y, 3))
        y = op.reshape(y, op.size(y, 0), op.size(y, 1), columns)
    shown = (scores, capped, biased, weights)[node.qk_matmul_output_mode]
    return y, k, v, shown


def _heads(op: BodyBuilder, x: Value, heads: int | None) -> Value:
    """`x` as [B, H, S, D]."""
    if op.rank(x) == 4:
        return x
    assert heads is not None
    each = op.Div(op.size(x, 2), np.array([heads], np.int64))
    parts = op.reshape(x, op.size(x, 0), op.size(x, 1), heads, each)
    split: Value = op.Transpose(parts, perm=(0, 2, 1, 3))
    return split


def _bias(
    node: Attention,
    op: BodyBuilder,
    q: Value,
    k: Value,
    mask: Value | None,
    offset: Value | None,
    lengths: Value | None,
) -> Value | None:
    """What is added to the scores: the mask, and -inf where a key may not be attended."""
    allowed = _allowed(node, op, q, k, offset, lengths)
    none, closed = op.like(0, q), op.like(-np.inf, q)
    bias = None if allowed is None else op.Where(allowed, none, closed)
    if mask is None:
        return bias
    if op.dtype(mask) is BOOL:
        added = op.Where(mask, none, closed)
    else:
        added = op.cast_like(mask, q)
    added = _filled(node, op, added, k, closed)
    return added if bias is None else op.Add(bias, added)


def _filled(node: Attention, op: BodyBuilder, added: Value, k: Value, closed: Value) -> Value:
    """A mask whose last dimension is filled up with -inf to the number of keys."""
    shape, total = op.shape(added), op.shape(k)[2]
    if not shape:
        return added
    last = shape[-1]
    if last is not None and total is not None and known_equal(last, total):
        return added
    # opset 23 broadcasts a last dimension of 1, later ones fill it up like any other
    if last == 1 and node.version < 24:
        return added
    missing = op.Sub(op.size(k, 2), op.size(added, -1))
    if last is None and node.version < 24:
        one = np.ones(1, np.int64)
        missing = op.Where(op.Equal(op.size(added, -1), one), np.zeros(1, np.int64), missing)
    filled: Value = op.Pad(added, op.sizes(0, missing), closed, _LAST)
    return filled


def _allowed(
    node: Attention,
    op: BodyBuilder,
    q: Value,
    k: Value,
    offset: Value | None,
    lengths: Value | None,
) -> Value | None:
    """Which keys each query may attend by position, or None where that is all of them."""
    keys = op.indices(op.size(k, 2))
    conditions = []
    if node.is_causal or node.left_window_size >= 0 or node.right_window_size >= 0:
        places = op.Unsqueeze(op.indices(op.size(q, 2)), np.array([1], np.int64))
        position = places if offset is None else op.Add(places, offset)
        if node.is_causal:
            conditions.append(op.LessOrEqual(keys, position))
        # differences rather than sums: a window may be as wide as INT64 is
        if node.left_window_size >= 0:
            behind = op.Sub(position, keys)
            conditions.append(op.LessOrEqual(behind, np.int64(node.left_window_size)))
        if node.right_window_size >= 0:
            ahead = op.Sub(keys, position)
            conditions.append(op.LessOrEqual(ahead, np.int64(node.right_window_size)))
    if lengths is not None:
        conditions.append(op.Less(keys, op.Unsqueeze(lengths, _SPREAD)))
    allowed: Value | None = None
    for condition in conditions:
        allowed = condition if allowed is None else op.And(allowed, condition)
    return allowed


def rotated(
    node: RotaryEmbedding,
    op: BodyBuilder,
    X: Value,
    caches: tuple[Value, Value],
    position_ids: Value | None,
) -> Value:
    """What RotaryEmbedding is made of."""
    is_flat = op.rank(X) == 3
    if is_flat:
        heads = node.num_heads or 1
        each = op.Div(op.size(X, 2), np.array([heads], np.int64))
        x = op.reshape(X, op.size(X, 0), op.size(X, 1), heads, each)
    else:
        x = op.Transpose(X, perm=(0, 2, 1, 3))
    angles: list[Any] = []
    for cache in caches:
        rows = cache if position_ids is None else op.Gather(cache, position_ids)
        angles.append(op.Unsqueeze(rows, np.array([2], np.int64)))
    turned, rest = x, None
    if node.rotary_embedding_dim:
        width = np.array([node.rotary_embedding_dim], np.int64)
        turned = op.Slice(x, np.array([0], np.int64), width, _LAST)
        rest = op.Slice(x, width, _END, _LAST)
    turned = _turned(node, op, turned, angles[0], angles[1])
    y = turned if rest is None else op.Concat(turned, rest, axis=-1)
    if is_flat:
        return op.reshape(y, op.size(X))
    back: Value = op.Transpose(y, perm=(0, 2, 1, 3))
    return back


def _turned(node: RotaryEmbedding, op: BodyBuilder, x: Value, cos: Value, sin: Value) -> Value:
    if node.interleaved:
        steps = np.array([2], np.int64)
        first, second = (
            op.Slice(x, np.array([start], np.int64), _END, _LAST, steps) for start in (0, 1)
        )
    else:
        first, second = op.Split(x, None, axis=-1, num_outputs=2, _outputs=2)
    left = op.Sub(op.Mul(cos, first), op.Mul(sin, second))
    right = op.Add(op.Mul(cos, second), op.Mul(sin, first))
    if not node.interleaved:
        joined: Value = op.Concat(left, right, axis=-1)
        return joined
    pairs = op.Concat(op.Unsqueeze(left, _LAST), op.Unsqueeze(right, _LAST), axis=-1)
    return op.reshape(pairs, op.size(x))
