"""Attention and rotary position embeddings."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from sardonyx.bridge.torch.registry import implementation


def _heads(x: Tensor, count: int | None) -> Tensor:
    """[B, S, H * D] as [B, H, S, D]."""
    if x.dim() == 4 or count is None:
        return x
    return x.reshape(x.shape[0], x.shape[1], count, -1).transpose(1, 2)


def _bias(
    q: Tensor,
    keys: int,
    mask: Tensor | None,
    nonpad: Tensor | None,
    is_causal: int,
    windows: tuple[int, int],
    past: int,
) -> tuple[Tensor | None, Tensor | None]:
    """What is added to the scores, and which pairs take part."""
    allowed: Tensor | None = None
    bias: Tensor | None = None
    if mask is not None:
        missing = keys - mask.shape[-1]
        if not (isinstance(missing, int) and missing == 0):
            is_bool = mask.dtype == torch.bool
            filler: Any = False if is_bool else -torch.inf
            mask = functional.pad(mask, [0, missing], value=filler)
        if mask.dtype == torch.bool:
            allowed = mask
        else:
            bias = mask
    left, right = windows
    if nonpad is not None:
        valid = torch.arange(keys, device=q.device) < nonpad.reshape(-1, 1, 1, 1)
        allowed = valid if allowed is None else allowed & valid
    if is_causal or left >= 0 or right >= 0:
        row = torch.arange(q.shape[2], device=q.device).unsqueeze(1)
        offset: Any = past
        if nonpad is not None:
            offset = (nonpad - q.shape[2]).reshape(-1, 1, 1, 1)
        distance = torch.arange(keys, device=q.device) - (row + offset)
        inside = torch.ones_like(distance, dtype=torch.bool)
        if is_causal:
            inside = inside & (distance <= 0)
        if left >= 0:
            inside = inside & (distance >= -left)
        if right >= 0:
            inside = inside & (distance <= right)
        allowed = inside if allowed is None else allowed & inside
    return bias, allowed


@implementation("Attention", ignored=("softmax_precision",))
def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    attn_mask: Tensor | None = None,
    past_key: Tensor | None = None,
    past_value: Tensor | None = None,
    nonpad_kv_seqlen: Tensor | None = None,
    *,
    is_causal: int = 0,
    kv_num_heads: int | None = None,
    left_window_size: int = -1,
    q_num_heads: int | None = None,
    qk_matmul_output_mode: int = 0,
    right_window_size: int = -1,
    scale: float | None = None,
    softcap: float = 0.0,
    n_outputs: int = 1,
) -> Any:
    is_flat = q.dim() == 3
    q, k, v = _heads(q, q_num_heads), _heads(k, kv_num_heads), _heads(v, kv_num_heads)
    past = 0 if past_key is None else past_key.shape[2]
    keys = k if past_key is None else torch.cat([past_key, k], 2)
    values = v if past_value is None else torch.cat([past_value, v], 2)
    factor = q.shape[-1] ** -0.5 if scale is None else scale
    windows = (left_window_size, right_window_size)
    bias, allowed = _bias(q, keys.shape[2], attn_mask, nonpad_kv_seqlen, is_causal, windows, past)
    groups = q.shape[1] // keys.shape[1]
    wide_keys = keys.repeat_interleave(groups, 1) if groups > 1 else keys
    wide_values = values.repeat_interleave(groups, 1) if groups > 1 else values
    stages: list[Tensor] = []
    if n_outputs < 4 and not softcap:
        y = _product(q, wide_keys, wide_values, bias, allowed, factor)
    else:
        y, stages = _stages(q, wide_keys, wide_values, bias, allowed, factor, softcap)
    if is_flat:
        y = y.transpose(1, 2).flatten(2)
    if n_outputs == 1:
        return y
    picked = stages[qk_matmul_output_mode] if n_outputs > 3 else None
    return (y, keys, values, picked)[:n_outputs]


def _product(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Tensor | None,
    allowed: Tensor | None,
    factor: float,
) -> Tensor:
    mask: Tensor | None = bias
    if allowed is not None:
        mask = torch.zeros((), dtype=q.dtype, device=q.device) if bias is None else bias
        mask = torch.where(allowed, mask, torch.full_like(mask, -torch.inf))
    if mask is not None:
        mask = mask.to(q.dtype)
    y = functional.scaled_dot_product_attention(q, k, v, mask, scale=factor)
    if allowed is None and bias is None:
        return y
    assert mask is not None
    is_empty = (mask == -torch.inf).all(-1, keepdim=True)
    return torch.where(is_empty, torch.zeros_like(y), y)


def _stages(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Tensor | None,
    allowed: Tensor | None,
    factor: float,
    softcap: float,
) -> tuple[Tensor, list[Tensor]]:
    """The result, and the scores: raw, with bias, capped, after softmax."""
    root = factor**0.5
    raw = torch.matmul(q * root, (k * root).transpose(2, 3))
    capped = softcap * torch.tanh(raw / softcap) if softcap else raw
    biased = capped if bias is None else capped + bias.to(raw.dtype)
    if allowed is not None:
        biased = torch.where(allowed, biased, torch.full_like(biased, -torch.inf))
    is_empty = (biased == -torch.inf).all(-1, keepdim=True)
    shares = torch.softmax(biased.float(), -1).to(q.dtype)
    shares = torch.where(is_empty, torch.zeros_like(shares), shares)
    return torch.matmul(shares, v), [raw, capped, biased, shares]


@implementation("RotaryEmbedding")
def rotary_embedding(
    x: Tensor,
    cos: Tensor,
    sin: Tensor,
    position_ids: Tensor | None = None,
    *,
    interleaved: int = 0,
    num_heads: int | None = None,
    rotary_embedding_dim: int = 0,
) -> Tensor:
    is_flat = x.dim() == 3
    heads = _heads(x, num_heads)
    turned = rotary_embedding_dim or heads.shape[-1]
    if position_ids is not None:
        cos, sin = cos[position_ids], sin[position_ids]
    cos, sin = cos[..., : turned // 2].unsqueeze(1), sin[..., : turned // 2].unsqueeze(1)
    part, rest = heads[..., :turned], heads[..., turned:]
    if interleaved:
        a, b = part[..., 0::2], part[..., 1::2]
    else:
        a, b = part.chunk(2, -1)
    real, imaginary = cos * a - sin * b, sin * a + cos * b
    if interleaved:
        found = torch.stack([real, imaginary], -1).flatten(-2)
    else:
        found = torch.cat([real, imaginary], -1)
    if rotary_embedding_dim:
        found = torch.cat([found, rest], -1)
    return found.transpose(1, 2).flatten(2) if is_flat else found
