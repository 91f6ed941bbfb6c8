"""Attention: as ONNX's Attention where the opset has it, else as products and a softmax."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from sardonyx import dtypes
from sardonyx.dims import Dim
from sardonyx.errors import ExportError
from sardonyx.export.torch.registry import TorchBuilder, translation
from sardonyx.export.torch.tensors import data_of

if TYPE_CHECKING:
    from sardonyx.dims import DimLike
    from sardonyx.ir.value import Value

__all__: list[str] = []

_LARGEST_MASK: Final = 2**16
"""Elements of a causal mask that is written into the file rather than computed."""


@translation("aten.scaled_dot_product_attention.default")
def attention(
    op: TorchBuilder,
    query: Value,
    key: Value,
    value: Value,
    attn_mask: Value | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    if dropout_p:
        raise ExportError(
            "attention with dropout cannot be exported",
            hint="put the module in eval mode, or pass dropout_p=0.0 when it is not training",
        )
    rank = op.rank_of(query)
    if op.opset >= 23 and _fits(op, query, key, value, attn_mask, enable_gqa):
        if attn_mask is not None:
            attn_mask = _whole_rows(op, attn_mask, op.shape_of(query)[-2], op.shape_of(key)[-2])
        found = op.Attention(
            query, key, value, attn_mask,
            is_causal=1 if is_causal else None,
            scale=scale,
            q_num_heads=1 if rank == 3 else None,
            kv_num_heads=1 if rank == 3 else None,
        )  # fmt: skip
        return _guarded(op, found, attn_mask)
    if enable_gqa:
        key, value = _repeat_heads(op, query, key), _repeat_heads(op, query, value)
    return _written_out(op, query, key, value, attn_mask, is_causal, scale)[0]


def _fits(op: TorchBuilder, query: Value, key: Value, value: Value, mask: Value | None,
          grouped: bool) -> bool:  # fmt: skip
    """Whether ONNX's Attention takes these shapes: no broadcast of batches or heads."""
    shapes = [op.shape_of(each) for each in (query, key, value)]
    rank = len(shapes[0])
    if rank not in (3, 4) or any(len(shape) != rank for shape in shapes):
        return False
    if any(shape[0] != shapes[0][0] for shape in shapes):
        return False
    if mask is not None and (op.rank_of(mask) < 2 or (rank == 3 and op.rank_of(mask) > 2)):
        return False
    return grouped or rank == 3 or all(shape[1] == shapes[0][1] for shape in shapes)


def _whole_rows(op: TorchBuilder, mask: Value, rows: DimLike, columns: DimLike) -> Value:
    """The mask with a row for each query: onnxruntime broadcasts batches and heads alone."""
    shape = op.shape_of(mask)
    if shape[-2:] == (rows, columns):
        return mask
    wide = op.Expand(mask, op.sizes([*[1] * (len(shape) - 2), rows, columns]))
    return op.typed(wide, op.dtype_of(mask), [*shape[:-2], rows, columns])


def _guarded(op: TorchBuilder, found: Value, mask: Value | None) -> Value:
    """`found`, with zeros for the rows of which the mask hides every key."""
    if mask is None or mask.dtype is not dtypes.BOOL or mask.const is not None:
        return found
    dtype = op.result()
    shape = op.shape_of(mask)
    seen = op.typed(op.cast(mask, dtype), dtype, shape)
    kept: Value = op.Where(
        op.cast(op.reduce("Max", seen, [len(shape) - 1], True), dtypes.BOOL),
        found,
        op.constant(0, dtype),
    )
    return kept


def _written_out(op: TorchBuilder, query: Value, key: Value, value: Value, mask: Value | None,
                 is_causal: bool, scale: float | None) -> tuple[Value, Value]:  # fmt: skip
    """The result, and the weights."""
    dtype = op.dtype_of(query)
    rank = op.rank_of(query)
    width = op.shape_of(query)[-1]
    if scale is None and not isinstance(width, Dim):
        scale = 1 / math.sqrt(width)
    elif scale is None:
        shape, root_of_width = op.shape_of(query), op.Sqrt(op.scalar(width, dtype))
        query, scale = op.typed(op.Div(query, root_of_width), dtype, shape), 1.0
    turned = op.Transpose(key, perm=[*range(rank - 2), rank - 1, rank - 2])
    if dtype in {dtypes.FLOAT16, dtypes.BFLOAT16}:
        # the scale goes to both factors, which keeps half precision within range
        root = math.sqrt(abs(scale))
        signed = op.Mul(query, op.constant(math.copysign(root, scale), dtype))
        scores = op.MatMul(signed, op.Mul(turned, op.constant(root, dtype)))
    else:
        scores = op.MatMul(op.Mul(query, op.constant(scale, dtype)), turned)
    lowest = op.constant(float("-inf"), dtype)
    if is_causal:
        rows, columns = op.shape_of(query)[-2], op.shape_of(key)[-2]
        scores = _causal(op, scores, rows, columns, lowest)
    guarded = False
    if mask is not None:
        if mask.dtype is dtypes.BOOL:
            scores = op.Where(mask, scores, lowest)
            data = data_of(mask)
            guarded = data is None or not bool(data.any(axis=-1).all())
        else:
            scores = op.Add(scores, op.cast(mask, dtype))
    weights = op.Softmax(scores, axis=rank - 1)
    if guarded:
        weights = op.Where(op.IsNaN(weights), op.constant(0, dtype), weights)
    return op.MatMul(weights, value), weights


def _causal(op: TorchBuilder, scores: Value, rows: DimLike, columns: DimLike,
            lowest: Value) -> Value:  # fmt: skip
    """The scores of what comes later made -inf."""
    masked: Value
    if isinstance(rows, int) and isinstance(columns, int) and rows * columns <= _LARGEST_MASK:
        hidden = np.triu(np.full((rows, columns), -np.inf), 1)
        masked = op.Add(scores, op.constant(hidden, lowest.dtype or dtypes.FLOAT))
        return masked
    zero, one = op.constant(0, dtypes.INT64), op.constant(1, dtypes.INT64)
    row = op.Range(zero, op.scalar(rows, dtypes.INT64), one)
    column = row if rows == columns else op.Range(zero, op.scalar(columns, dtypes.INT64), one)
    masked = op.Where(op.Less(op.unsqueeze(row, [1]), column), lowest, scores)
    return masked


def _repeat_heads(op: TorchBuilder, query: Value, x: Value) -> Value:
    shape = op.shape_of(x)
    heads = op.shape_of(query)[-3]
    groups = heads // shape[-3]
    if groups == 1:
        return x
    rank = len(shape)
    wide = op.unsqueeze(x, [rank - 2])
    repeated = op.Expand(wide, op.sizes([*[1] * (rank - 2), groups, 1, 1]))
    whole = [*shape[:-3], heads, *shape[-2:]]
    return op.typed(op.reshape(repeated, whole), op.dtype_of(x), whole)


@translation("aten._scaled_dot_product_flash_attention_for_cpu.default")
def flash_on_cpu(op: TorchBuilder, query: Value, key: Value, value: Value, dropout: float = 0.0,
                 is_causal: bool = False, *, attn_mask: Value | None = None,
                 scale: float | None = None) -> Any:  # fmt: skip
    return attention(op, query, key, value, attn_mask, dropout, is_causal, scale=scale), None


@translation("aten._scaled_dot_product_flash_attention.default")
def flash(op: TorchBuilder, query: Value, key: Value, value: Value, dropout: float = 0.0,
          is_causal: bool = False, _debug: bool = False, *,
          scale: float | None = None) -> Any:  # fmt: skip
    found = attention(op, query, key, value, None, dropout, is_causal, scale=scale)
    return found, *[None] * 8


@translation("aten._scaled_dot_product_efficient_attention.default",
             "aten._scaled_dot_product_cudnn_attention.default",
             "aten._scaled_dot_product_fused_attention_overrideable.default")  # fmt: skip
def efficient(op: TorchBuilder, query: Value, key: Value, value: Value, bias: Value | None,
              *rest: Any, scale: float | None = None) -> Any:  # fmt: skip
    flags = [each for each in rest if isinstance(each, bool)]
    dropout = next((each for each in rest if isinstance(each, float)), 0.0)
    is_causal = flags[1] if len(flags) > 1 else False
    found = attention(op, query, key, value, bias, dropout, is_causal, scale=scale)
    return found, *[None] * 8


def _linear(op: TorchBuilder, x: Value, weight: Value, bias: Value | None) -> Value:
    dtype, shape = op.dtype_of(x), op.shape_of(x)
    made = op.MatMul(x, op.transpose(weight, [1, 0]))
    if bias is not None:
        made = op.Add(made, bias)
    return op.typed(made, dtype, [*shape[:-1], op.shape_of(weight)[0]])


@translation("aten._native_multi_head_attention.default")
def native_multi_head_attention(
    op: TorchBuilder, query: Value, key: Value, value: Value, width: int, heads: int,
    weight: Value, bias: Value, out_weight: Value, out_bias: Value, mask: Value | None = None,
    need_weights: bool = True, average: bool = True, mask_type: int | None = None,
) -> Any:  # fmt: skip
    dtype = op.dtype_of(query)
    parts = []
    for index, each in enumerate((query, key, value)):
        first, last = index * width, (index + 1) * width
        w = op.typed(op.slice(weight, 0, first, last), dtype, [width, width])
        projected = _linear(op, each, w, op.slice(bias, 0, first, last))
        batch, length, _ = op.shape_of(projected)
        split = op.typed(
            op.reshape(projected, [batch, length, heads, width // heads]),
            dtype, [batch, length, heads, width // heads],
        )  # fmt: skip
        parts.append(op.transpose(split, [0, 2, 1, 3]))
    visible = None if mask is None else _visible(op, mask, mask_type)
    found, weights = _written_out(op, parts[0], parts[1], parts[2], visible, False, None)
    batch, length, _ = op.shape_of(query)
    shape = [batch, length, width]
    joined = op.reshape(op.Transpose(found, perm=[0, 2, 1, 3]), shape)
    result = _linear(op, op.typed(joined, dtype, shape), out_weight, out_bias)
    if not need_weights:
        return result, None
    op.typed(weights, dtype, [batch, heads, length, op.shape_of(key)[1]])
    return result, op.reduce("Mean", weights, [1], False) if average else weights


def _visible(op: TorchBuilder, mask: Value, mask_type: int | None) -> Value:
    """Where attention may look; torch's masks say where it may not."""
    visible = op.typed(op.Not(op.cast(mask, dtypes.BOOL)), dtypes.BOOL, op.shape_of(mask))
    return op.unsqueeze(visible, [1, 2]) if mask_type == 1 else visible


@translation("aten._transformer_encoder_layer_fwd.default")
def encoder_layer(
    op: TorchBuilder, x: Value, width: int, heads: int, qkv_weight: Value, qkv_bias: Value,
    out_weight: Value, out_bias: Value, use_gelu: bool, norm_first: bool, eps: float,
    norm_weight_1: Value, norm_bias_1: Value, norm_weight_2: Value, norm_bias_2: Value,
    ffn_weight_1: Value, ffn_bias_1: Value, ffn_weight_2: Value, ffn_bias_2: Value,
    mask: Value | None = None, mask_type: int | None = None,
) -> Any:  # fmt: skip
    from sardonyx.export.torch.activation import gelu
    from sardonyx.export.torch.normalization import layer_norm

    dtype, shape = op.dtype_of(x), op.shape_of(x)

    def kept(value: Value) -> Value:
        return op.typed(value, dtype, shape)

    def norm(value: Value, weight: Value, bias: Value) -> Value:
        return kept(layer_norm(op, value, [width], weight, bias, eps))

    def attend(value: Value) -> Value:
        return native_multi_head_attention(  # type: ignore[no-any-return]
            op, value, value, value, width, heads, qkv_weight, qkv_bias, out_weight, out_bias,
            mask, False, True, mask_type,
        )[0]  # fmt: skip

    def feed(value: Value) -> Value:
        inner = _linear(op, value, ffn_weight_1, ffn_bias_1)
        active = gelu(op, inner) if use_gelu else op.Relu(inner)
        op.typed(active, dtype, op.shape_of(inner))
        return _linear(op, active, ffn_weight_2, ffn_bias_2)

    if norm_first:
        x = kept(op.Add(x, attend(norm(x, norm_weight_1, norm_bias_1))))
        return op.Add(x, feed(norm(x, norm_weight_2, norm_bias_2)))
    x = norm(kept(op.Add(x, attend(x))), norm_weight_1, norm_bias_1)
    return norm(kept(op.Add(x, feed(x))), norm_weight_2, norm_bias_2)
