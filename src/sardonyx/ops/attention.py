"""Attention and what surrounds it: rotary positions, gates and caches."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from sardonyx import dtypes
from sardonyx.dtypes import BFLOAT16, BOOL, DOUBLE, FLOAT, FLOAT16, INT64
from sardonyx.errors import ExecutionError, InferenceError, quote
from sardonyx.ir.types import shape_text
from sardonyx.ops import types
from sardonyx.ops.activation import Softmax, sigmoid
from sardonyx.ops.attention_bodies import attention, rotated
from sardonyx.ops.fact import Fact
from sardonyx.ops.fitting import joined, of_rank, shapes_of
from sardonyx.ops.numeric import rounded, widen
from sardonyx.ops.operator import Operator, same_as
from sardonyx.ops.schema import Input, Output, attribute, past
from sardonyx.ops.symbolic import add, check_size, divide, multiply, normalized

if TYPE_CHECKING:
    from sardonyx.ir.tensor import Array
    from sardonyx.ir.types import DimLike, Shape
    from sardonyx.ir.value import Value
    from sardonyx.ops.body_builder import BodyBuilder

_PRECISIONS: Final = (FLOAT, FLOAT16, DOUBLE, BFLOAT16)
_FAR: Final = 1 << 48


class Attention(Operator, since=25):
    """softmax(softcap(`scale` * Q K^T) + bias) V for each head, bias from mask, causality, window.

    Each group of q_num_heads / kv_num_heads query heads shares one key and value head. With past
    keys and values these come first. Query i stands at position offset + i, where offset counts
    the keys before the queries: the past's, or nonpad_kv_seqlen - q_sequence_length. A query that
    may attend no key gives zeros.
    """

    Q = Input("T1", "[B, Hq, Sq, D], or [B, Sq, Hq * D].")
    K = Input("T1", "[B, Hkv, S, D], or [B, S, Hkv * D].")
    V = Input("T2", "[B, Hkv, S, Dv], or [B, S, Hkv * Dv].")
    attn_mask = Input("U", "True: attend; or added. Broadcasts to [B, Hq, Sq, T].", optional=True)
    past_key = Input("T1", "[B, Hkv, P, D].", optional=True)
    past_value = Input("T2", "[B, Hkv, P, Dv].", optional=True)
    nonpad_kv_seqlen = Input((INT64,), "[B].", optional=True, since=24)
    Y = Output("T1", "[B, Hq, Sq, Dv], or [B, Sq, Hq * Dv].")
    present_key = Output("T1", "[B, Hkv, T, D] with T = P + S.", optional=True)
    present_value = Output("T2", "[B, Hkv, T, Dv].", optional=True)
    qk_matmul_output = Output("T1", "[B, Hq, Sq, T].", optional=True)
    T1 = T2 = types.FLOATS_BFLOAT16
    U = (*types.NUMERIC_BFLOAT16, BOOL)
    is_causal: int = 0
    kv_num_heads: int | None = None
    left_window_size: int = attribute(-1, since=25)
    q_num_heads: int | None = None
    qk_matmul_output_mode: int = 0
    right_window_size: int = attribute(-1, since=25)
    scale: float | None = None
    softcap: float = 0.0
    softmax_precision: int | None = None
    history = past(24), past(23)

    def infer(
        self,
        Q: Fact,
        K: Fact,
        V: Fact,
        attn_mask: Fact | None = None,
        past_key: Fact | None = None,
        past_value: Fact | None = None,
        nonpad_kv_seqlen: Fact | None = None,
    ) -> tuple[Fact, ...]:
        self._check(past_key, past_value, nonpad_kv_seqlen)
        ranks = {fact.rank for fact in (Q, K, V) if fact.rank is not None}
        if not ranks:
            outputs = (Q.dtype, K.dtype or Q.dtype, V.dtype, Q.dtype)
            unknown = (None,) * 4
            return (
                Fact.tensor(outputs[0]),
                *(Fact.tensor(dtype, unknown) for dtype in outputs[1:]),
            )
        if len(ranks) > 1 or not ranks <= {3, 4}:
            raise InferenceError(
                f"Attention: Q, K and V need one rank, 3 or 4, they are "
                f"{', '.join(shape_text(fact.shape) for fact in (Q, K, V))}"
            )
        rank = ranks.pop()
        q = self._heads("Q", of_rank("Attention", "Q", Q, rank), self.q_num_heads)
        k = self._heads("K", of_rank("Attention", "K", K, rank), self.kv_num_heads)
        v = self._heads("V", of_rank("Attention", "V", V, rank), self.kv_num_heads)
        pk = of_rank("Attention", "past_key", past_key, 4)
        pv = of_rank("Attention", "past_value", past_value, 4)
        lengths = of_rank("Attention", "nonpad_kv_seqlen", nonpad_kv_seqlen, 1)
        batch = joined("Attention", "the batch", q[0], k[0], v[0], pk[0], pv[0], *lengths)
        kv_heads = joined("Attention", "the number of KV heads", k[1], v[1], pk[1], pv[1])
        new = joined("Attention", "the length of K and V", k[2], v[2])
        size = joined("Attention", "the head size", q[3], k[3], pk[3])
        v_size = joined("Attention", "the value head size", v[3], pv[3])
        self._check_groups(q[1], kv_heads)
        before = joined("Attention", "the length of the past", pk[2], pv[2])
        total = new if past_key is None else add(before, new)
        shape: Shape = (batch, q[1], q[2], v_size)
        if rank == 3:
            shape = (batch, q[2], multiply(q[1], v_size))
        return (
            Fact.tensor(Q.dtype, shape),
            Fact.tensor(K.dtype or Q.dtype, (batch, kv_heads, total, size)),
            Fact.tensor(V.dtype, (batch, kv_heads, total, v_size)),
            Fact.tensor(Q.dtype, (batch, q[1], q[2], total)),
        )

    def _check(self, past_key: Any, past_value: Any, nonpad_kv_seqlen: Any) -> None:
        if (past_key is None) != (past_value is None):
            raise InferenceError("Attention: past_key and past_value must be given together")
        if past_key is not None and nonpad_kv_seqlen is not None:
            raise InferenceError(
                "Attention: nonpad_kv_seqlen tells of a cache kept outside, past_key of one inside",
                hint="give one of them",
            )
        for name in ("left_window_size", "right_window_size"):
            if getattr(self, name) < -1:
                raise InferenceError(f"Attention: {name} is {getattr(self, name)}, less than -1")
        if not 0 <= self.qk_matmul_output_mode <= 3:
            raise InferenceError(
                f"Attention: qk_matmul_output_mode is {self.qk_matmul_output_mode}, not 0 to 3"
            )
        if self.softmax_precision:
            wanted = dtypes.from_code(self.softmax_precision)
            if wanted not in _PRECISIONS:
                raise InferenceError(f"Attention: softmax_precision {wanted} is not allowed")

    def _heads(self, name: str, shape: Shape, heads: int | None) -> Shape:
        """The shape [B, H, S, D] of an input."""
        if len(shape) == 4:
            if heads is not None:
                joined("Attention", f"the number of heads of {name}", shape[1], heads)
            return shape
        if heads is None or heads < 1:
            raise InferenceError(
                f"Attention: {name} has rank 3 and its number of heads is {heads}",
                hint="give q_num_heads and kv_num_heads",
            )
        if isinstance(shape[2], int) and shape[2] % heads:
            raise InferenceError(f"Attention: {name} has {shape[2]} columns for {heads} heads")
        return (shape[0], heads, shape[1], divide(shape[2], heads))

    def _check_groups(self, q_heads: DimLike, kv_heads: DimLike) -> None:
        if not (isinstance(q_heads, int) and isinstance(kv_heads, int)):
            return
        if kv_heads < 1 or q_heads % kv_heads:
            raise InferenceError(
                f"Attention: {q_heads} query heads do not divide among {kv_heads} KV heads"
            )

    def _split(self, x: Array, heads: int | None) -> Array:
        if x.ndim == 4:
            return x
        assert heads is not None
        parts = x.reshape(*x.shape[:2], heads, x.shape[2] // heads)
        return np.asarray(parts.transpose(0, 2, 1, 3))

    def reference(
        self,
        Q: Array,
        K: Array,
        V: Array,
        attn_mask: Array | None = None,
        past_key: Array | None = None,
        past_value: Array | None = None,
        nonpad_kv_seqlen: Array | None = None,
    ) -> tuple[Array, ...]:
        shapes = shapes_of(Q, K, V, attn_mask, past_key, past_value, nonpad_kv_seqlen)
        self.infer(*shapes)
        q, k, v = (
            self._split(x, heads)
            for x, heads in (
                (Q, self.q_num_heads),
                (K, self.kv_num_heads),
                (V, self.kv_num_heads),
            )
        )
        if past_key is not None and past_value is not None:
            k = np.concatenate([past_key, k], axis=2)
            v = np.concatenate([past_value, v], axis=2)
        offset = np.zeros(1, np.int64)
        if past_key is not None:
            offset = offset + past_key.shape[2]
        if nonpad_kv_seqlen is not None:
            self._check_lengths(nonpad_kv_seqlen, k.shape[2])
            offset = nonpad_kv_seqlen - q.shape[2]
        shape = (*q.shape[:3], k.shape[2])
        check_size("Attention", shape, Q.itemsize)
        bias = self._bias(shape, Q.dtype, attn_mask, offset, nonpad_kv_seqlen)
        stages = self._probabilities(q, k, bias)
        weights = stages[3].astype(Q.dtype)
        Y = rounded(np.matmul, self._grouped(weights, k.shape[1]), v[:, :, None])
        Y = Y.reshape(*q.shape[:3], v.shape[3])
        if Q.ndim == 3:
            Y = Y.transpose(0, 2, 1, 3).reshape(Q.shape[0], Q.shape[1], -1)
        shown = stages[self.qk_matmul_output_mode].astype(Q.dtype)
        return Y, k, v, shown

    def _check_lengths(self, lengths: Array, total: int) -> None:
        if lengths.size and not (lengths.min() >= 0 and lengths.max() <= total):
            raise ExecutionError(
                f"Attention: nonpad_kv_seqlen lies in [{lengths.min()}, {lengths.max()}], "
                f"K has {total} positions"
            )

    def _bias(
        self,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        mask: Array | None,
        offset: Array,
        lengths: Array | None,
    ) -> Array:
        """What is added to the scores: the mask, and -inf where a key may not be attended."""
        position = offset.reshape(-1, 1, 1, 1) + np.arange(shape[2]).reshape(-1, 1)
        keys = np.arange(shape[3])
        allowed = np.ones(np.broadcast_shapes(position.shape, keys.shape), bool)
        if self.is_causal:
            allowed &= keys <= position
        if self.left_window_size >= 0:
            allowed &= keys >= position - min(self.left_window_size, _FAR)
        if self.right_window_size >= 0:
            allowed &= keys <= position + min(self.right_window_size, _FAR)
        if lengths is not None:
            allowed = allowed & (keys < lengths.reshape(-1, 1, 1, 1))
        closed = np.asarray(-np.inf, dtype)
        bias = np.where(allowed, np.zeros((), dtype), closed)
        if mask is None:
            return bias
        with np.errstate(over="ignore"):
            added = (
                np.where(mask, np.zeros((), dtype), closed)
                if mask.dtype == bool
                else mask.astype(dtype)
            )
        missing = shape[3] - mask.shape[-1] if mask.ndim else 0
        # opset 23 broadcasts a last dimension of 1, later ones fill it up like any other
        if missing > 0 and (self.version >= 24 or mask.shape[-1] != 1):
            filler = np.full((*mask.shape[:-1], missing), closed, dtype)
            added = np.concatenate([added, filler], axis=-1)
        try:
            fits = np.broadcast_shapes(added.shape, shape) == shape
        except ValueError:
            fits = False
        if not fits:
            raise ExecutionError(
                f"Attention: attn_mask of shape {list(mask.shape)} does not broadcast to "
                f"{list(shape)}"
            )
        return rounded(np.add, bias, added)

    def _probabilities(self, q: Array, k: Array, bias: Array) -> tuple[Array, ...]:
        """The scores, then after softcap, after bias, and after softmax."""
        dtype = q.dtype
        scale = 1 / math.sqrt(max(q.shape[3], 1)) if self.scale is None else self.scale
        root = np.asarray(math.sqrt(abs(scale)), dtype)
        queries = rounded(np.multiply, q, root if scale >= 0 else -root)
        keys = rounded(np.multiply, k, root).swapaxes(2, 3)
        scores = rounded(np.matmul, self._grouped(queries, k.shape[1]), keys[:, :, None])
        scores = scores.reshape(*q.shape[:3], k.shape[2])
        capped = scores
        if self.softcap > 0:
            cap = np.asarray(self.softcap, dtype)
            capped = rounded(np.tanh, rounded(np.true_divide, scores, cap))
            capped = rounded(np.multiply, capped, cap)
        biased = rounded(np.add, capped, bias)
        wide = biased
        if self.softmax_precision:
            wide = biased.astype(dtypes.from_code(self.softmax_precision).numpy)
        closed = (widen(bias) == -np.inf).all(axis=-1, keepdims=True)
        weights = Softmax(version=13).reference(wide)
        return scores, capped, biased, np.where(closed, np.zeros((), wide.dtype), weights)

    def _grouped(self, x: Array, kv_heads: int) -> Array:
        """[B, Hq, ...] as [B, Hkv, Hq / Hkv, ...]."""
        return x.reshape(x.shape[0], kv_heads, x.shape[1] // kv_heads, *x.shape[2:])

    def body(self, op: BodyBuilder, *inputs: Any) -> tuple[Value, ...]:
        return attention(self, op, *inputs)


class RotaryEmbedding(Operator, since=23):
    """X with pairs of elements of each head turned by its position's angles.

    A pair is (i, i + D / 2) for the D leading elements of a head, or (2 i, 2 i + 1) if
    `interleaved`; D is `rotary_embedding_dim`, or the head size where that is 0.
    """

    X = Input("T", "[B, H, S, head size], or [B, S, H * head size].")
    cos_cache = Input("T", "[positions, D / 2], or without position_ids [B, S, D / 2].")
    sin_cache = Input("T", "Shaped like cos_cache.")
    position_ids = Input("M", "[B, S].", optional=True)
    Y = Output("T")
    T, M = (FLOAT, FLOAT16, BFLOAT16), (INT64,)
    interleaved: int = 0
    num_heads: int | None = None
    rotary_embedding_dim: int = 0

    def infer(
        self, X: Fact, cos_cache: Fact, sin_cache: Fact, position_ids: Fact | None = None
    ) -> Fact:
        if X.shape is not None:
            self._head_size(X.shape)
        return same_as(X)

    def _head_size(self, shape: Shape) -> DimLike:
        if len(shape) == 4:
            return shape[3]
        if len(shape) != 3:
            raise InferenceError(f"RotaryEmbedding: X needs rank 3 or 4, got {shape_text(shape)}")
        if not self.num_heads or self.num_heads < 1:
            raise InferenceError(
                "RotaryEmbedding: X of rank 3 needs the attribute num_heads, at least 1"
            )
        if isinstance(shape[2], int) and shape[2] % self.num_heads:
            raise InferenceError(
                f"RotaryEmbedding: {shape[2]} columns do not divide among {self.num_heads} heads"
            )
        return divide(shape[2], self.num_heads)

    def reference(
        self, X: Array, cos_cache: Array, sin_cache: Array, position_ids: Array | None = None
    ) -> Array:
        head = self._head_size(X.shape)
        assert isinstance(head, int)
        turned = self.rotary_embedding_dim or head
        if not 0 <= turned <= head or turned % 2:
            raise ExecutionError(
                f"RotaryEmbedding: {turned} elements of a head of {head} cannot turn in pairs"
            )
        x = X.transpose(0, 2, 1, 3) if X.ndim == 4 else X.reshape(*X.shape[:2], -1, head)
        cos = self._angles("cos_cache", cos_cache, position_ids, x, turned // 2)
        sin = self._angles("sin_cache", sin_cache, position_ids, x, turned // 2)
        if self.interleaved:
            first, second = x[..., 0:turned:2], x[..., 1:turned:2]
        else:
            first, second = x[..., : turned // 2], x[..., turned // 2 : turned]

        def combined(a: Array, b: Array, sign: int) -> Array:
            products = rounded(np.multiply, cos, a), rounded(np.multiply, sin, b)
            return rounded(lambda p, q: p + sign * q, *products)

        pair = combined(first, second, -1), combined(second, first, 1)
        y = np.array(x)
        if self.interleaved:
            y[..., 0:turned:2], y[..., 1:turned:2] = pair
        else:
            y[..., :turned] = np.concatenate(pair, axis=-1)
        y = y.transpose(0, 2, 1, 3) if X.ndim == 4 else y
        return np.ascontiguousarray(y).reshape(X.shape)

    def _angles(self, name: str, cache: Array, ids: Array | None, x: Array, half: int) -> Array:
        """`cache` at each position, [B, S, 1, half]."""
        if ids is not None:
            rows = cache.shape[0] if cache.ndim else 0
            if cache.ndim != 2 or ids.shape != x.shape[:2]:
                raise ExecutionError(
                    f"RotaryEmbedding: {name} of shape {list(cache.shape)} and position_ids of "
                    f"shape {list(ids.shape)} do not fit {x.shape[0]} sequences of {x.shape[1]}"
                )
            if ids.size and not (ids.min() >= -rows and ids.max() < rows):
                raise ExecutionError(
                    f"RotaryEmbedding: position_ids outside the {rows} rows of {name}"
                )
            cache = cache[ids]
        if cache.shape != (*x.shape[:2], half):
            raise ExecutionError(
                f"RotaryEmbedding: {name} has shape {list(cache.shape)} where "
                f"{[*x.shape[:2], half]} is needed"
            )
        return cache[:, :, None]

    def body(
        self,
        op: BodyBuilder,
        X: Value,
        cos_cache: Value,
        sin_cache: Value,
        position_ids: Value | None = None,
    ) -> Any:
        return rotated(self, op, X, (cos_cache, sin_cache), position_ids)


class SwiGLU(Operator, since=28):
    """A * sigmoid(`alpha` * A) * B, for A and B of one shape."""

    A, B, Y = Input("T"), Input("T"), Output("T")
    T = types.FLOATS_BFLOAT16
    alpha: float = 1.0

    def infer(self, A: Fact, B: Fact) -> Fact:
        dtype = A.dtype or B.dtype
        if A.shape is None or B.shape is None:
            return Fact.tensor(dtype, A.shape if B.shape is None else B.shape)
        if len(A.shape) != len(B.shape):
            raise InferenceError(
                f"SwiGLU: A {shape_text(A.shape)} and B {shape_text(B.shape)} must have one shape"
            )
        pairs = zip(A.shape, B.shape, strict=True)
        return Fact.tensor(dtype, (joined("SwiGLU", "a size of A and B", *pair) for pair in pairs))

    def reference(self, A: Array, B: Array) -> Array:
        if A.shape != B.shape:
            raise ExecutionError(
                f"SwiGLU: A {list(A.shape)} and B {list(B.shape)} must have one shape"
            )
        alpha = np.asarray(self.alpha, A.dtype)
        gate = rounded(np.multiply, A, rounded(sigmoid, rounded(np.multiply, A, alpha)))
        return rounded(np.multiply, gate, B)

    def body(self, op: BodyBuilder, A: Value, B: Value) -> Any:
        gate = op.Sigmoid(op.Mul(A, op.like(self.alpha, A)))
        return op.Mul(op.Mul(A, gate), B)


class TensorScatter(Operator, since=24):
    """past_cache with `update` written along `axis` from each sample's write index on."""

    past_cache = Input("T", "[B, ..., max_sequence_length, ...].")
    update = Input("T", "Like past_cache, shorter along `axis`.")
    write_indices = Input((INT64,), "[B]; 0 where omitted.", optional=True)
    present_cache = Output("T")
    T = types.ALL_FLOAT8E8M0
    axis: int = -2
    mode: str = "linear"
    moves_data = True

    def _axis(self, rank: int) -> int:
        if self.mode not in {"linear", "circular"}:
            raise InferenceError(
                f"TensorScatter: mode {quote(self.mode)}", hint='it is "linear" or "circular"'
            )
        axis = normalized("TensorScatter", self.axis, rank)
        if axis == 0:
            raise InferenceError("TensorScatter: axis 0 is the batch and cannot be written along")
        return axis

    def infer(self, past_cache: Fact, update: Fact, write_indices: Fact | None = None) -> Fact:
        dtype = past_cache.dtype or update.dtype
        rank = update.rank if past_cache.rank is None else past_cache.rank
        if rank is None:
            return Fact.tensor(dtype)
        axis = self._axis(rank)
        cache = of_rank("TensorScatter", "past_cache", past_cache, rank)
        new = of_rank("TensorScatter", "update", update, rank)
        sizes = [
            cache[i] if i == axis else joined("TensorScatter", f"axis {i}", cache[i], new[i])
            for i in range(rank)
        ]
        of_rank("TensorScatter", "write_indices", write_indices, 1)
        return Fact.tensor(dtype, sizes)

    def reference(
        self, past_cache: Array, update: Array, write_indices: Array | None = None
    ) -> Array:
        self.infer(*shapes_of(past_cache, update, write_indices))
        axis = self._axis(past_cache.ndim)
        batch, size, count = past_cache.shape[0], past_cache.shape[axis], update.shape[axis]
        start = np.zeros(batch, np.int64) if write_indices is None else write_indices
        if start.shape != (batch,):
            raise ExecutionError(
                f"TensorScatter: {start.size} write_indices for a batch of {batch}"
            )
        if self.mode == "circular" and size:
            start = start % size
        places = start[:, None] + np.arange(count)
        inside = count <= size and bool(((start >= 0) & (start <= size - count)).all())
        if self.mode == "circular":
            inside = count <= size
            places = places % max(size, 1)
        if not inside:
            raise ExecutionError(
                f"TensorScatter: {count} new positions from {start.tolist()} do not fit a cache "
                f"of {size}"
            )
        result = np.array(past_cache)
        into = np.moveaxis(result, axis, 1)
        into[np.arange(batch)[:, None], places] = np.moveaxis(update, axis, 1)
        return result
