"""Random numbers, as the standard's random operators: other numbers than torch's, of its laws.

A seed is not set, so a runtime draws anew in each run.
"""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from sardonyx import dtypes
from sardonyx.dims import Dim
from sardonyx.errors import ExportError
from sardonyx.export.torch.indexing import empty
from sardonyx.export.torch.registry import TorchBuilder, known, translation
from sardonyx.export.torch.repeat import loop
from sardonyx.ir.value import Value

if TYPE_CHECKING:
    from sardonyx.dims import DimLike
    from sardonyx.dtypes import DType

__all__ = ["RANDOM_OPERATORS"]

RANDOM_OPERATORS: Final = frozenset(
    {
        "Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform",
        "RandomUniformLike",
    }
)  # fmt: skip
"""The standard's operators whose results differ from run to run."""

_NARROW: Final = frozenset({dtypes.BFLOAT16})
_SATURATION: Final = 1.7580993408473766
"""What SELU tends to, negated: its scale by its alpha."""


def _warn(op: TorchBuilder) -> None:
    if not op.warned_of_randomness:
        op.warned_of_randomness = True
        warnings.warn(
            "the model draws random numbers: the ONNX model draws others than PyTorch does",
            stacklevel=2,
        )


def _shape(op: TorchBuilder) -> tuple[DimLike, ...]:
    shape = known(op.result_shape)
    if shape is None:
        raise ExportError("random numbers of a shape that cannot be said")
    return shape


def _drawn(op: TorchBuilder, kind: str, dtype: DType, **attributes: float) -> Value:
    """Numbers in the result's shape: `kind` is ``Uniform`` or ``Normal``."""
    _warn(op)
    shape = _shape(op)
    drawn = dtypes.FLOAT if not dtype.is_floating or dtype in _NARROW else dtype
    if not any(isinstance(size, Dim) for size in shape):
        made = op.apply(f"Random{kind}", [], shape=list(shape), dtype=drawn.code, **attributes)
    else:
        model = op.ConstantOfShape(op.sizes(shape))
        made = op.apply(f"Random{kind}Like", [model], dtype=drawn.code, **attributes)
    assert isinstance(made, Value)
    return op.cast(op.typed(made, drawn, shape), dtype)


def _float(op: TorchBuilder) -> DType:
    dtype = op.result()
    return dtype if dtype.is_floating else dtypes.FLOAT


@translation("aten.rand.default", "aten.rand_like.default", "aten.rand.generator",
             "aten.rand_like.generator")  # fmt: skip
def rand(op: TorchBuilder, *_: Any, **__: Any) -> Any:
    return _drawn(op, "Uniform", op.result())


@translation("aten.randn.default", "aten.randn_like.default", "aten.randn.generator",
             "aten.randn_like.generator")  # fmt: skip
def randn(op: TorchBuilder, *_: Any, **__: Any) -> Any:
    return _drawn(op, "Normal", op.result())


def _integers(op: TorchBuilder, low: Any, high: Any) -> Value:
    """Whole numbers from `low` to below `high`, each as likely."""
    dtype = op.result()
    if not isinstance(low, Dim) and not isinstance(high, Dim) and high - low < 1 << 22:
        numbers = _drawn(op, "Uniform", dtypes.FLOAT, low=float(low), high=float(high))
        floors = op.typed(op.Floor(numbers), dtypes.FLOAT, op.result_shape)
        if low >= 0 and dtype.is_integer:
            return op.cast(numbers, dtype)
        return op.cast(floors, dtype)
    unit = _drawn(op, "Uniform", dtypes.DOUBLE)
    first, last = op.scalar(low, dtypes.DOUBLE), op.scalar(high, dtypes.DOUBLE)
    spread = op.Floor(op.Add(op.Mul(unit, op.Sub(last, first)), first))
    return op.cast(op.typed(spread, dtypes.DOUBLE, op.result_shape), dtype)


@translation("aten.randint.default", "aten.randint.generator")
def randint(op: TorchBuilder, high: Any, *_: Any, **__: Any) -> Any:
    return _integers(op, 0, high)


@translation("aten.randint.low", "aten.randint.low_generator")
def randint_low(op: TorchBuilder, low: Any, high: Any, *_: Any, **__: Any) -> Any:
    return _integers(op, low, high)


@translation("aten.randint_like.default")
def randint_like(op: TorchBuilder, _x: Value, high: Any, **_: Any) -> Any:
    return _integers(op, 0, high)


@translation("aten.randint_like.low_dtype")
def randint_like_low(op: TorchBuilder, _x: Value, low: Any, high: Any, **_: Any) -> Any:
    return _integers(op, low, high)


@translation("aten.random.from", "aten.random.to", "aten.random.default")
def random_(op: TorchBuilder, _x: Value, *bounds: Any, **__: Any) -> Any:
    limits = [bound for bound in bounds if bound is not None]
    if not limits:
        digits = {dtypes.FLOAT: 24, dtypes.DOUBLE: 53, dtypes.FLOAT16: 11, dtypes.BFLOAT16: 8}
        dtype = op.result()
        limits = [1 << digits[dtype] if dtype in digits else op.range_of(dtype)[1]]
    return _integers(op, *limits) if len(limits) > 1 else _integers(op, 0, limits[0])


@translation("aten.uniform.default")
def uniform(op: TorchBuilder, _x: Value, low: float = 0, high: float = 1, **_: Any) -> Any:
    return _drawn(op, "Uniform", op.result(), low=low, high=high)


@translation("aten.normal_functional.default")
def normal_like(op: TorchBuilder, _x: Value, mean: float = 0, std: float = 1, **_: Any) -> Any:
    return _drawn(op, "Normal", op.result(), mean=mean, scale=std)


@translation("aten.normal.float_float")
def normal(op: TorchBuilder, mean: float, std: float, *_: Any, **__: Any) -> Any:
    return _drawn(op, "Normal", op.result(), mean=mean, scale=std)


@translation("aten.normal.Tensor_float", "aten.normal.float_Tensor", "aten.normal.Tensor_Tensor")
def normal_of(op: TorchBuilder, mean: Any, std: Any = 1.0, **_: Any) -> Any:
    dtype = op.result()
    deviation = op.Mul(_drawn(op, "Normal", dtype), op.scalar(std, dtype))
    return op.Add(deviation, op.scalar(mean, dtype))


def _happens(op: TorchBuilder, probability: Any) -> Value:
    """Whether each of independent events happens."""
    dtype = _float(op)
    numbers = _drawn(op, "Uniform", dtype)
    made: Value = op.Less(numbers, op.scalar(probability, dtype))
    return op.typed(made, dtypes.BOOL, op.result_shape)


@translation("aten.bernoulli.default", "aten.bernoulli.p", "aten.bernoulli.Tensor",
             "aten.bernoulli.out")  # fmt: skip
def bernoulli(op: TorchBuilder, x: Value, p: Any = None, **_: Any) -> Any:
    dtype = op.result()
    if p is None and op.opset >= 15 and dtype.is_floating and dtype not in _NARROW:
        _warn(op)
        return op.Bernoulli(x)
    return op.cast(_happens(op, x if p is None else p), dtype)


@translation("aten.native_dropout.default")
def native_dropout(op: TorchBuilder, x: Value, p: float, train: bool | None = True) -> Any:
    shape = op.shape_of(x)
    if not train or not p:
        return x, op.Expand(op.constant(True, dtypes.BOOL), op.sizes(shape))
    kept = _happens(op, 1 - p)
    dtype = op.dtype_of(x)
    scale = 0.0 if p == 1 else 1 / (1 - p)
    scaled = op.Mul(x, op.constant(scale, dtype))
    return op.Where(kept, scaled, op.constant(0, dtype)), kept


@translation("aten.dropout.default")
def dropout(op: TorchBuilder, x: Value, p: float, train: bool) -> Any:
    return native_dropout(op, x, p, True)[0] if train and p else x


@translation("aten.feature_dropout.default")
def feature_dropout(op: TorchBuilder, x: Value, p: float, train: bool) -> Any:
    if not train or not p:
        return x
    dtype = op.dtype_of(x)
    scale = op.constant(0.0 if p == 1 else 1 / (1 - p), dtype)
    return op.Where(_kept_planes(op, x, p), op.Mul(x, scale), op.constant(0, dtype))


@translation("aten.alpha_dropout.default")
def alpha_dropout(op: TorchBuilder, x: Value, p: float, train: bool) -> Any:
    return _to_saturation(op, x, p, _happens(op, 1 - p)) if train and p else x


@translation("aten.feature_alpha_dropout.default")
def feature_alpha_dropout(op: TorchBuilder, x: Value, p: float, train: bool) -> Any:
    return _to_saturation(op, x, p, _kept_planes(op, x, p)) if train and p else x


def _kept_planes(op: TorchBuilder, x: Value, p: float) -> Value:
    """Which channels of each sample are kept."""
    whole, shape = op.result_shape, op.shape_of(x)
    op.result_shape = (*shape[:2], *[1] * (len(shape) - 2))
    kept = _happens(op, 1 - p)
    op.result_shape = whole
    return kept


def _to_saturation(op: TorchBuilder, x: Value, p: float, kept: Value) -> Value:
    """Dropout to where SELU saturates, then scaled so that mean and variance stay."""
    dtype = op.dtype_of(x)
    if p == 1:
        zero: Value = op.Mul(x, op.constant(0, dtype))
        return zero
    scale = 1 / math.sqrt((_SATURATION**2 * p + 1) * (1 - p))
    chosen = op.Where(kept, x, op.constant(-_SATURATION, dtype))
    shift = op.constant(scale * p * _SATURATION, dtype)
    made: Value = op.Add(op.Mul(chosen, op.constant(scale, dtype)), shift)
    return made


@translation("aten.poisson.default")
def poisson(op: TorchBuilder, x: Value, *_: Any) -> Any:
    # how many of independent exponential waits fit into x, by Knuth: numbers are multiplied
    # while the product stays above e^-x; in logarithms
    _warn(op)
    nothing = empty(op)
    if nothing is not None:
        return nothing
    dtype = op.dtype_of(x)
    wide, shape = dtypes.DOUBLE if dtype is dtypes.DOUBLE else dtypes.FLOAT, op.shape_of(x)
    rate = op.typed(op.cast(x, wide), wide, shape)
    zero = op.constant(0, wide)
    counts = op.typed(op.Mul(rate, zero), wide, shape)

    def fits(states: list[Value]) -> Value:
        longest = op.reduce("Max", states[0], [], False)
        return op.typed(op.Greater(longest, zero), dtypes.BOOL, ())

    def step(_number: Value, states: list[Value]) -> tuple[list[Value], list[Value]]:
        left, count = states
        kept = op.result_dtype
        op.result_dtype = wide
        left = op.Add(left, op.Log(_open_uniform(op)))
        op.result_dtype = kept
        count = op.Add(count, op.cast(op.Greater(left, zero), wide))
        return [op.typed(left, wide, shape), op.typed(count, wide, shape)], []

    return op.cast(loop(op, None, [rate, counts], step, fits)[1], dtype)


@translation("aten.multinomial.default")
def multinomial(op: TorchBuilder, x: Value, count: int, replacement: bool = False,
                **_: Any) -> Any:  # fmt: skip
    _warn(op)
    rank = op.rank_of(x)
    if not replacement:
        # the largest of log p + Gumbel noise: draws without replacement
        shape, op.result_shape = op.result_shape, op.shape_of(x)
        noise = _drawn(op, "Uniform", dtypes.FLOAT, low=1e-7, high=1.0)
        op.result_shape = shape
        race = op.Div(op.Log(noise), op.cast(x, dtypes.FLOAT))
        return op.TopK(race, op.sizes([count]), axis=rank - 1, _outputs=2)[1]
    logarithms = op.Log(op.cast(x, dtypes.FLOAT))
    if rank == 1:
        op.typed(logarithms, dtypes.FLOAT, op.shape_of(x))
        logarithms = op.unsqueeze(logarithms, [0])
    made = op.Multinomial(logarithms, sample_size=count, dtype=dtypes.INT64.code)
    if rank == 1:
        return op.squeeze(op.typed(made, dtypes.INT64, [1, count]), [0])
    return made


@translation("aten.randperm.default", "aten.randperm.generator")
def randperm(op: TorchBuilder, n: DimLike, **_: Any) -> Any:
    numbers = _drawn(op, "Uniform", dtypes.FLOAT)
    order = op.TopK(numbers, op.sizes([n]), axis=0, _outputs=2)[1]
    return op.cast(op.typed(order, dtypes.INT64, [n]), op.result())


def _open_uniform(op: TorchBuilder) -> Value:
    """Numbers between 0 and 1, never 0."""
    dtype = _float(op)
    small = float(np.finfo(np.float16 if dtype is dtypes.FLOAT16 else np.float32).eps)
    return _drawn(op, "Uniform", dtype, low=small, high=1.0)


@translation("aten.exponential.default")
def exponential(op: TorchBuilder, _x: Value, rate: float = 1, **_: Any) -> Any:
    return op.Div(op.Log(_open_uniform(op)), op.constant(-rate, op.result()))


@translation("aten.cauchy.default")
def cauchy(op: TorchBuilder, _x: Value, median: float = 0, sigma: float = 1, **_: Any) -> Any:
    dtype = op.result()
    angle = _drawn(op, "Uniform", dtype, low=-math.pi / 2, high=math.pi / 2)
    return op.Add(op.Mul(op.Tan(angle), op.constant(sigma, dtype)), op.constant(median, dtype))


@translation("aten.log_normal.default")
def log_normal(op: TorchBuilder, _x: Value, mean: float = 1, std: float = 2, **_: Any) -> Any:
    return op.Exp(_drawn(op, "Normal", op.result(), mean=mean, scale=std))


@translation("aten.geometric.default")
def geometric(op: TorchBuilder, _x: Value, p: float, **_: Any) -> Any:
    dtype = _float(op)
    trials = op.Div(op.Log(_open_uniform(op)), op.constant(math.log1p(-p), dtype))
    made = op.Max(op.Ceil(trials), op.constant(1, dtype))
    return op.cast(op.typed(made, dtype, op.result_shape), op.result())
