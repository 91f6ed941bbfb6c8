"""Convolutions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sardonyx import dtypes
from sardonyx.export.torch.registry import TorchBuilder, static, translation

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sardonyx.ir.value import Value

__all__ = ["batched", "each", "through_double"]

Sizes = Any


def each(values: Sizes, count: int) -> list[int]:
    """One number for each of `count` axes, from a number or a list."""
    listed = [values] if isinstance(values, int) else list(values)
    return listed * count if len(listed) == 1 else listed


def batched(op: TorchBuilder, x: Value, spatial: int, layer: Callable[[Value], Value]) -> Value:
    """`layer` of `x`, with a batch axis added where torch was given none."""
    if op.rank_of(x) == spatial + 2:
        return layer(x)
    return op.squeeze(layer(op.unsqueeze(x, [0])), [0])


def through_double(
    op: TorchBuilder, values: Sequence[Value | None], layer: Callable[..., Value]
) -> Value:
    """`layer` of `values`; of integers, which ONNX's layers do not take, as DOUBLE.

    The results are those of the integers up to 2**53.
    """
    if op.result().is_floating:
        return layer(*values)
    wide = [value if value is None else op.cast(value, dtypes.DOUBLE) for value in values]
    return op.cast(layer(*wide), op.result())


def _conv(op: TorchBuilder, x: Value, weight: Value, bias: Value | None, stride: Sizes,
          padding: Sizes, dilation: Sizes, groups: int) -> Any:  # fmt: skip
    kernel = op.shape_of(weight)[2:]
    count = len(kernel)
    dilations = each(dilation, count)
    if isinstance(padding, str):
        before, after = [0] * count, [0] * count
        if padding == "same":
            sizes = static(kernel, "padding='same'")
            spans = [(size - 1) * step for size, step in zip(sizes, dilations, strict=True)]
            before = [span // 2 for span in spans]
            after = [span - span // 2 for span in spans]
    else:
        before = after = each(padding, count)

    def layer(x: Value, weight: Value, bias: Value | None) -> Value:
        return batched(
            op,
            x,
            count,
            lambda x: op.Conv(
                x,
                weight,
                bias,
                strides=each(stride, count),
                pads=[*before, *after],
                dilations=dilations,
                group=groups,
            ),
        )

    return through_double(op, (x, weight, bias), layer)


@translation("aten.conv1d.default", "aten.conv1d.padding", "aten.conv2d.default",
             "aten.conv2d.padding", "aten.conv3d.default", "aten.conv3d.padding")  # fmt: skip
def conv(op: TorchBuilder, x: Value, weight: Value, bias: Value | None = None, stride: Sizes = 1,
         padding: Sizes = 0, dilation: Sizes = 1, groups: int = 1) -> Any:  # fmt: skip
    return _conv(op, x, weight, bias, stride, padding, dilation, groups)


@translation("aten.conv_transpose1d.default", "aten.conv_transpose2d.input",
             "aten.conv_transpose3d.input")  # fmt: skip
def conv_transpose(op: TorchBuilder, x: Value, weight: Value, bias: Value | None = None,
                   stride: Sizes = 1, padding: Sizes = 0, output_padding: Sizes = 0,
                   groups: int = 1, dilation: Sizes = 1) -> Any:  # fmt: skip
    count = op.rank_of(weight) - 2

    def layer(x: Value, weight: Value, bias: Value | None) -> Value:
        return batched(
            op,
            x,
            count,
            lambda x: op.ConvTranspose(
                x,
                weight,
                bias,
                strides=each(stride, count),
                pads=each(padding, count) * 2,
                output_padding=each(output_padding, count),
                dilations=each(dilation, count),
                group=groups,
            ),
        )

    return through_double(op, (x, weight, bias), layer)


@translation("aten.convolution.default", "aten._convolution.default")
def convolution(op: TorchBuilder, x: Value, weight: Value, bias: Value | None, stride: Sizes,
                padding: Sizes, dilation: Sizes, transposed: bool, output_padding: Sizes,
                groups: int, *_: Any) -> Any:  # fmt: skip
    if transposed:
        return conv_transpose(
            op, x, weight, bias, stride, padding, output_padding, groups, dilation
        )
    return _conv(op, x, weight, bias, stride, padding, dilation, groups)


@translation("aten.conv_tbc.default")
def conv_tbc(op: TorchBuilder, x: Value, weight: Value, bias: Value, pad: int = 0) -> Any:
    # (time, batch, channels) and (time, in, out)
    turned = op.transpose(x, [1, 2, 0])
    made = _conv(op, turned, op.transpose(weight, [2, 1, 0]), bias, 1, pad, 1, 1)
    return op.Transpose(made, perm=[2, 0, 1])
