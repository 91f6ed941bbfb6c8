"""Layer and RMS normalization as exporters write them out, as one operator again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from sardonyx.dtypes import BFLOAT16, FLOAT, FLOAT16
from sardonyx.ir.tensor import ArrayTensor
from sardonyx.rewrite import Refused, Rule

if TYPE_CHECKING:
    from sardonyx.ir.types import Shape
    from sardonyx.ir.value import Value
    from sardonyx.rewrite import Match

__all__ = ["NORMALIZATIONS", "PLAIN_NORMALIZATIONS", "SCALED_NORMALIZATIONS"]


def _scaled(op: Any, x: Any, variance: Any, epsilon: Any) -> Any:
    """Write x / sqrt(variance + epsilon), in the ways that it is written."""
    root = op.Sqrt(op.Add(variance, epsilon))
    return op.either(
        op.Div(x, root),
        op.Mul(x, op.either(op.Reciprocal(root), op.Div(1.0, root))),
        op.Mul(x, op.Pow(op.Add(variance, epsilon), -0.5)),
    )


def _standardized(op: Any, x: Any, axes: Any, epsilon: Any) -> Any:
    mean = op.ReduceMean(x, axes, keepdims=1, _bind="mean")
    centered = op.Sub(x, mean)
    again = op.either(centered, op.Sub(x, op.ReduceMean(x, axes, keepdims=1)))
    squared = op.either(op.Pow(again, 2.0), op.Mul(again, again))
    variance = op.ReduceMean(squared, axes, keepdims=1)
    return _scaled(op, again, variance, epsilon)


def _layer_norm(op: Any, x: Any, axes: Any, epsilon: Any, scale: Any, bias: Any) -> Any:
    return op.Add(op.Mul(_standardized(op, x, axes, epsilon), scale), bias)


def _layer_norm_scaled(op: Any, x: Any, axes: Any, epsilon: Any, scale: Any) -> Any:
    return op.Mul(_standardized(op, x, axes, epsilon), scale)


def _layer_norm_plain(op: Any, x: Any, axes: Any, epsilon: Any) -> Any:
    return _standardized(op, x, axes, epsilon)


def _root_mean_square(op: Any, x: Any, axes: Any, epsilon: Any) -> Any:
    squared = op.either(op.Pow(x, 2.0), op.Mul(x, x))
    mean = op.ReduceMean(squared, axes, keepdims=1, _bind="mean")
    return _scaled(op, x, mean, epsilon)


def _rms_norm(op: Any, x: Any, axes: Any, epsilon: Any, scale: Any) -> Any:
    return op.Mul(_root_mean_square(op, x, axes, epsilon), scale)


def _rms_norm_plain(op: Any, x: Any, axes: Any, epsilon: Any) -> Any:
    return _root_mean_square(op, x, axes, epsilon)


def _rms_norm_wide(op: Any, x: Any, axes: Any, epsilon: Any, scale: Any) -> Any:
    """Computed in FLOAT, cast back before the scale: as transformers' language models do."""
    wide = op.Cast(x, _bind="widen")
    return op.Mul(op.Cast(_root_mean_square(op, wide, axes, epsilon)), scale)


def _first_axis(match: Match) -> int | str:
    """The first of the normalized axes, which must be the last ones; or what they are instead."""
    rank = match.rank("x")
    if rank is None:
        return "the rank of x is not known"
    axes = match.ints("axes")
    if not axes:
        return "the axes are not known"
    normal = sorted([axis % rank for axis in axes])
    if normal != list(range(rank - len(normal), rank)):
        return f"axes {axes} are not the last ones"
    return normal[0] - rank


def _is_last_axes(match: Match) -> str | None:
    first = _first_axis(match)
    if isinstance(first, str):
        return first
    if match.number("epsilon") is None:
        return "epsilon is no constant number"
    if match.dtype("x") not in (FLOAT, FLOAT16, BFLOAT16) and match.dtype("x") is not None:
        return f"x is {match.dtype('x')}"
    return None


def _sizes(match: Match, first: int) -> Shape:
    shape = match.shape("x")
    assert shape is not None
    return shape[first:]


def _parameter(op: Any, match: Match, name: str, first: int) -> Value:
    """A scale or bias in exactly the shape of the normalized axes."""
    value: Value = match[name]
    sizes = _sizes(match, first)
    shape = match.shape(name)
    if shape == sizes:
        return value
    array = match.constant(name)
    if array is None or not all(isinstance(size, int) for size in sizes):
        raise Refused(f"{name} has another shape than the normalized axes")
    extra = array.ndim - len(sizes)
    if extra > 0:
        if any(size != 1 for size in array.shape[:extra]):
            raise Refused(f"{name} differs beyond the normalized axes")
        array = array.reshape(array.shape[extra:])
    try:
        array = np.broadcast_to(array, [int(size) for size in sizes])  # type: ignore[arg-type]
    except ValueError:
        raise Refused(f"{name} does not fit the normalized axes") from None
    made: Value = op.value(ArrayTensor(np.ascontiguousarray(array), op.dtype(value)))
    return made


def _ones(op: Any, match: Match, first: int) -> Value:
    sizes = _sizes(match, first)
    if not all(isinstance(size, int) for size in sizes):
        raise Refused("the sizes of the normalized axes are not known")
    made: Value = op.value(ArrayTensor(np.ones([int(s) for s in sizes]), op.dtype(match["x"])))  # type: ignore[arg-type]
    return made


def _write_layer_norm(op: Any, match: Match) -> Value:
    first = _first_axis(match)
    assert isinstance(first, int)
    scale = _parameter(op, match, "scale", first) if match["scale"] else _ones(op, match, first)
    bias = _parameter(op, match, "bias", first) if match["bias"] else None
    made: Value = op.LayerNormalization(
        match["x"], scale, bias, axis=first, epsilon=match.number("epsilon")
    )
    return made


def _write_rms_norm(op: Any, match: Match) -> Value:
    first = _first_axis(match)
    assert isinstance(first, int)
    scale = _parameter(op, match, "scale", first) if match["scale"] else _ones(op, match, first)
    made: Value = op.RMSNormalization(
        match["x"], scale, axis=first, epsilon=match.number("epsilon")
    )
    return made


def _is_widened(match: Match) -> str | None:
    wide = match.operator("widen")
    if getattr(wide, "to", None) != FLOAT.code:
        return "x is not cast to FLOAT"
    if match.dtype("x") is not match.dtype("scale"):
        return "the scale is of another type than x"
    return _is_last_axes(match)


def _add_bias(op: Any, x: Any, scale: Any, bias: Any) -> Any:
    return op.Add(op.LayerNormalization(x, scale, _bind="norm"), bias)


def _norm_axis(match: Match) -> int:
    axis = getattr(match.operator("norm"), "axis", -1)
    rank = match.rank("x")
    return axis - rank if rank is not None and axis >= 0 else int(axis)


def _can_add_bias(match: Match) -> str | None:
    if match.rank("x") is None:
        return "the rank of x is not known"
    node = match.node("norm")
    if node is not None and len([value for value in node.outputs if value.users]) > 1:
        return "other outputs are used"
    return None


def _write_biased(op: Any, match: Match) -> Value:
    first = _norm_axis(match)
    bias = _parameter(op, match, "bias", first)
    operator = match.operator("norm")
    made: Value = op.LayerNormalization(
        match["x"], match["scale"], bias, axis=first, epsilon=getattr(operator, "epsilon", None)
    )
    return made


_LAYER = (_write_layer_norm, _is_last_axes)
_RMS = (_write_rms_norm, _is_last_axes)

NORMALIZATIONS: Final = (
    Rule("layer-norm", _layer_norm, *_LAYER, opset=17),
    Rule("rms-norm-wide", _rms_norm_wide, _write_rms_norm, _is_widened, opset=23),
)
SCALED_NORMALIZATIONS: Final = (
    Rule("layer-norm-scale", _layer_norm_scaled, *_LAYER, opset=17),
    Rule("rms-norm", _rms_norm, *_RMS, opset=23),
)
PLAIN_NORMALIZATIONS: Final = (
    Rule("layer-norm-plain", _layer_norm_plain, *_LAYER, opset=17),
    Rule("rms-norm-plain", _rms_norm_plain, *_RMS, opset=23),
    Rule("layer-norm-bias", _add_bias, _write_biased, _can_add_bias, opset=17),
)
