"""Attention and its relatives, against onnxruntime and loops over the definitions."""

from __future__ import annotations

import math
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from differential import agrees_with_inference, close, compare, normal
from sardonyx import dtypes
from sardonyx.dims import symbol
from sardonyx.errors import ExecutionError, InferenceError
from sardonyx.ops.fact import Fact
from single_operator import apply, inferred

Q, K, V = normal(2, 4, 3, 8), normal(2, 2, 5, 8), normal(2, 2, 5, 6)
PAST_K, PAST_V = normal(2, 2, 7, 8), normal(2, 2, 7, 6)
ATTENTION: list[tuple[list[Any], dict[str, Any]]] = [
    ([Q, K, V], {}),
    ([Q, K, V], {"scale": 0.3, "softcap": 2.0}),
    ([Q, K, V], {"is_causal": 1}),
    ([Q, K, V, normal(3, 5)], {}),
    ([Q, K, V, normal(2, 1, 3, 5)], {"softcap": 1.5}),
    ([Q, K, V, normal(2, 4, 3, 5) > -1], {}),
    ([Q, K, V, normal(3, 12), PAST_K, PAST_V], {}),
    ([Q, K, V, None, PAST_K, PAST_V], {"is_causal": 1}),
]


@pytest.mark.parametrize("case", range(len(ATTENTION)))
def test_attention_equals_onnxruntime(case: int) -> None:
    inputs, attributes = ATTENTION[case]
    n_outputs = 3 if len(inputs) > 4 else 1
    compare("Attention", *inputs, version=23, n_outputs=n_outputs, terms=24, **attributes)


@pytest.mark.parametrize("mode", [0, 2, 3])
def test_attention_scores_equal_onnxruntime(mode: int) -> None:
    options = {"qk_matmul_output_mode": mode, "n_outputs": 4, "terms": 24, "version": 23}
    compare("Attention", Q, K, V, normal(3, 12), PAST_K, PAST_V, **options)


def test_three_dimensions_are_four_transposed() -> None:
    def flat(x: np.ndarray) -> np.ndarray:
        return x.transpose(0, 2, 1, 3).reshape(x.shape[0], x.shape[2], -1)

    (wide,) = apply("Attention", Q, K, V)
    heads = {"q_num_heads": 4, "kv_num_heads": 2}
    (y,) = apply("Attention", flat(Q), flat(K), flat(V), **heads)
    np.testing.assert_array_equal(y, flat(wide))
    agrees_with_inference("Attention", flat(Q), flat(K), flat(V), outputs=[y], version=25, **heads)
    with pytest.raises(InferenceError, match="number of heads"):
        apply("Attention", flat(Q), flat(K), flat(V))


def by_definition(q: Any, k: Any, v: Any, allowed: Any) -> np.ndarray:
    result = np.zeros((*q.shape[:3], v.shape[3]))
    for b, h, i in np.ndindex(q.shape[:3]):
        group = h * k.shape[1] // q.shape[1]
        keys = [j for j in range(k.shape[2]) if allowed(b, i, j)]
        scores = [math.exp(q[b, h, i] @ k[b, group, j] / math.sqrt(q.shape[3])) for j in keys]
        for j, score in zip(keys, scores, strict=True):
            result[b, h, i] += score / sum(scores) * v[b, group, j]
    return result


@pytest.mark.parametrize(
    ("causal", "left", "right"),
    [(0, -1, -1), (1, -1, -1), (0, 1, -1), (0, -1, 1), (1, 2, 3), (0, 2**62, 0)],
)
def test_windows_and_lengths_follow_the_definition(causal: int, left: int, right: int) -> None:
    q, k, v = Q.astype(np.float64), K.astype(np.float64), V.astype(np.float64)
    lengths = np.array([5, 2])

    def allowed(b: int, i: int, j: int) -> bool:
        p = int(lengths[b]) - q.shape[2] + i
        return (
            j < lengths[b]
            and (not causal or j <= p)
            and (left < 0 or j >= p - left)
            and (right < 0 or j <= p + right)
        )

    options = {"is_causal": causal, "left_window_size": left, "right_window_size": right}
    (y,) = apply("Attention", q, k, v, None, None, None, lengths, **options)
    np.testing.assert_allclose(y, by_definition(q, k, v, allowed), atol=1e-12)


def test_a_query_without_keys_gives_zeros() -> None:
    mask = np.ones((3, 5), bool)
    mask[1] = False
    y, _, _, weights = apply("Attention", Q, K, V, mask, n_outputs=4, qk_matmul_output_mode=3)
    assert not y[:, :, 1].any()
    assert not weights[:, :, 1].any()
    assert y[:, :, [0, 2]].all()
    (empty,) = apply("Attention", Q, K[:, :, :0], V[:, :, :0])
    assert not empty.any()


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_narrow_types_stay_near_float64(dtype: type) -> None:
    narrow = [x.astype(dtype) for x in (Q, K, V)]
    for precision in (0, 1, 10, 11, 16):
        (y,) = apply("Attention", *narrow, softmax_precision=precision or None)
        (wide,) = apply("Attention", *(x.astype(np.float64) for x in narrow))
        assert y.dtype == dtype
        eps = float(ml_dtypes.finfo(ml_dtypes.bfloat16 if precision == 16 else dtype).eps)
        np.testing.assert_allclose(y.astype(np.float64), wide, atol=24 * eps)


def test_attention_inference() -> None:
    B, S, P, N = map(symbol, "BSPN")
    f = dtypes.FLOAT16
    past = Fact.tensor(f, (B, 2, P, 64)), Fact.tensor(f, (B, 2, P, 64))
    q, k = Fact.tensor(f, (B, S, 512)), Fact.tensor(f, (B, S, 128))
    heads = {"q_num_heads": 8, "kv_num_heads": 2}
    y, pk, pv, qk = inferred("Attention", q, k, k, None, *past, n_outputs=4, **heads)
    assert y.shape == (B, S, 512)
    assert pk.shape == pv.shape == (B, 2, P + S, 64)
    assert qk.shape == (B, 8, S, P + S)
    assert inferred("Attention", Fact.tensor(f), Fact.tensor(f), Fact.tensor(f))[0].shape is None
    (free,) = inferred("Attention", Fact.tensor(f, (B, N, None)), k, k, **heads)
    assert free.shape == (B, N, 512)


@pytest.mark.parametrize(
    ("inputs", "attributes", "message"),
    [
        ([Q, K, V, None, PAST_K], {}, "together"),
        ([Q, K, V, None, PAST_K, PAST_V, np.array([1, 1])], {}, "outside"),
        ([Q, K, V, None, None, None, np.array([6, -1])], {}, "nonpad_kv_seqlen"),
        ([Q, K, V, normal(4, 5)], {}, "does not broadcast"),
        ([Q, K[:, :, :, :7], V], {}, "head size"),
        ([Q[:, :3], K, V], {}, "do not divide"),
        ([Q, K[:, :, :4], V], {}, "length of K and V"),
        ([Q, K, V], {"qk_matmul_output_mode": 4}, "not 0 to 3"),
        ([Q, K, V], {"left_window_size": -2}, "less than -1"),
        ([Q, K, V], {"softmax_precision": 7}, "softmax_precision"),
    ],
)
def test_attention_says_what_does_not_fit(inputs: list, attributes: dict, message: str) -> None:
    with pytest.raises((InferenceError, ExecutionError), match=message):
        apply("Attention", *inputs, **attributes)


@pytest.mark.parametrize("interleaved", [0, 1])
@pytest.mark.parametrize("ids", [True, False])
@pytest.mark.parametrize("rank", [3, 4])
def test_rotary_embedding_equals_onnxruntime(rank: int, ids: bool, interleaved: int) -> None:
    x = normal(2, 3, 4, 8) if rank == 4 else normal(2, 4, 24)
    angles = normal(50, 4) if ids else normal(2, 4, 4)
    caches = [np.cos(angles), np.sin(angles)]
    positions = np.array([[0, 1, 2, 3], [49, 7, 7, 0]]) if ids else None
    options: dict[str, Any] = {"interleaved": interleaved, "version": 23}
    if rank == 3:
        options["num_heads"] = 3
    compare("RotaryEmbedding", x, *caches, positions, **options)
    if positions is not None:
        with pytest.raises(ExecutionError, match="position_ids"):
            apply("RotaryEmbedding", x, *caches, positions + 1, **options)
    with pytest.raises(ExecutionError, match=r"in pairs|is needed"):
        apply("RotaryEmbedding", x, *caches, positions, **options, rotary_embedding_dim=6)


def test_rotary_embedding_keeps_lengths() -> None:
    x = normal(1, 2, 3, 8, dtype=np.float64).astype(np.float32)
    angles = normal(1, 3, 3)
    (y,) = apply("RotaryEmbedding", x, np.cos(angles), np.sin(angles), rotary_embedding_dim=6)
    np.testing.assert_array_equal(y[..., 6:], x[..., 6:])
    pairs = [np.hypot(z[..., :3], z[..., 3:6]) for z in (x, y)]
    np.testing.assert_allclose(*pairs, rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, ml_dtypes.bfloat16])
def test_swiglu_is_swish_times_value(dtype: type) -> None:
    a, b = normal(5, 7).astype(dtype), normal(7, 5).astype(dtype).reshape(5, 7)
    (gate,) = apply("Swish", a, version=28, alpha=1.5)
    (y,) = apply("SwiGLU", a, b, version=28, alpha=1.5)
    close([y], [(gate.astype(np.float64) * b.astype(np.float64)).astype(dtype)])
    with pytest.raises(ExecutionError, match="one shape"):
        apply("SwiGLU", a, b[:1], version=28)
    N, M = symbol("N"), symbol("M")
    (found,) = inferred(
        "SwiGLU", Fact.tensor(None, (N, None)), Fact.tensor(dtypes.FLOAT, (N, M)), version=28
    )
    assert (found.dtype, found.shape) == (dtypes.FLOAT, (N, M))


@pytest.mark.parametrize("axis", [-2, 1, 2])
@pytest.mark.parametrize("mode", ["linear", "circular"])
def test_tensor_scatter_follows_the_definition(mode: str, axis: int) -> None:
    cache = np.arange(2 * 5 * 5 * 3).reshape(2, 5, 5, 3)
    update = -1 - np.arange(2 * 3 * 3 * 3).reshape(2, 3, 3, 3)
    shape = list(cache.shape)
    shape[axis] = 3
    update = -1 - np.arange(np.prod(shape)).reshape(shape)
    start = np.array([2, 0] if mode == "linear" else [4, -1])
    expected = cache.copy()
    for b in range(2):
        for s in range(3):
            place = np.moveaxis(expected[b], axis if axis < 0 else axis - 1, 0)
            place[(start[b] + s) % 5] = np.moveaxis(update[b], axis if axis < 0 else axis - 1, 0)[s]
    for dtype in (np.int64, np.float32, object):
        (y,) = apply(
            "TensorScatter", cache.astype(dtype), update.astype(dtype), start, mode=mode, axis=axis
        )
        np.testing.assert_array_equal(y, expected.astype(dtype))


def test_tensor_scatter_refuses_what_lies_outside() -> None:
    cache, update = np.zeros((2, 4, 3)), np.ones((2, 2, 3))
    for start in ([3, 0], [-1, 0], [2**62, 0], [0]):
        with pytest.raises(ExecutionError, match=r"TensorScatter"):
            apply("TensorScatter", cache, update, np.array(start))
    with pytest.raises(InferenceError, match="batch"):
        apply("TensorScatter", cache, update, axis=0)
    with pytest.raises(InferenceError, match="mode"):
        apply("TensorScatter", cache, update, mode="ring")
    N, S = symbol("N"), symbol("S")
    facts = Fact.tensor(dtypes.BOOL, (N, S, 3)), Fact.tensor(dtypes.BOOL, (2, 1, None))
    assert inferred("TensorScatter", *facts)[0].shape == (2, S, 3)


@pytest.mark.parametrize("length", [1, 2, 6])
def test_causal_convolution_equals_conv_of_past_and_present(length: int) -> None:
    x, w, b = normal(2, 3, length), normal(3, 1, 4), normal(3)
    past = normal(2, 3, 3, dtype=np.float64).astype(np.float32)
    whole = np.concatenate([past, x], axis=2)
    (expected,) = apply("Conv", whole, w, b, group=3)
    options = {"version": 27, "n_outputs": 2}
    y, state = apply("CausalConvWithState", x, w, b, past, **options)
    close([y], [expected], 4)
    np.testing.assert_array_equal(state, whole[:, :, -3:])
    agrees_with_inference("CausalConvWithState", x, w, b, past, outputs=[y, state], **options)
    y, _ = apply("CausalConvWithState", x, w, b, past, activation="silu", **options)
    close([y], apply("Swish", expected), 4)
    with pytest.raises(InferenceError, match="activation"):
        apply("CausalConvWithState", x, w, activation="relu", **options)


@pytest.mark.parametrize("rule", ["linear", "gated", "delta", "gated_delta"])
@pytest.mark.parametrize("per_key", [True, False])
def test_linear_attention_follows_the_recurrence(rule: str, per_key: bool) -> None:
    q, k, v = normal(2, 5, 4 * 3), normal(2, 5, 2 * 3), normal(2, 5, 2 * 6)
    past = normal(2, 2, 3, 6)
    g, beta = -np.abs(normal(2, 5, 6 if per_key else 2)), np.abs(normal(2, 5, 2 if per_key else 1))
    options: dict[str, Any] = {"q_num_heads": 4, "kv_num_heads": 2, "update_rule": rule}
    options |= {"version": 27, "n_outputs": 2}
    y, state = apply("LinearAttention", q, k, v, past, g, beta, **options)
    expected = np.zeros((2, 5, 4, 6))
    S = past.astype(np.float64)
    for b, h, t in np.ndindex(2, 2, 5):
        kt, vt = k[b, t].reshape(2, 3)[h], v[b, t].reshape(2, 6)[h]
        if "gated" in rule:
            S[b, h] *= np.exp(np.broadcast_to(g[b, t].reshape(2, -1)[h], 3))[:, None]
        if "delta" in rule:
            vt = np.broadcast_to(beta[b, t], 2)[h] * (vt - S[b, h].T @ kt)
        S[b, h] += np.outer(kt, vt)
        for head in (2 * h, 2 * h + 1):
            expected[b, t, head] = q[b, t].reshape(4, 3)[head] @ S[b, h] / math.sqrt(3)
    close([y, state], [expected.reshape(2, 5, 24).astype(np.float32), S.astype(np.float32)], 60)
    inputs = [q, k, v, past, g, beta]
    agrees_with_inference("LinearAttention", *inputs, outputs=[y, state], **options)


def test_linear_attention_says_what_is_missing() -> None:
    q = normal(1, 2, 4)
    options = {"q_num_heads": 2, "kv_num_heads": 2, "version": 27}
    with pytest.raises(InferenceError, match="needs decay"):
        apply("LinearAttention", q, q, q, **options)
    with pytest.raises(InferenceError, match="needs beta"):
        apply("LinearAttention", q, q, q, update_rule="delta", **options)
    with pytest.raises(InferenceError, match="update_rule"):
        apply("LinearAttention", q, q, q, update_rule="alpha", **options)
    with pytest.raises(InferenceError, match="columns for 3 heads"):
        apply(
            "LinearAttention",
            q,
            q,
            q,
            update_rule="linear",
            version=27,
            q_num_heads=3,
            kv_num_heads=3,
        )
