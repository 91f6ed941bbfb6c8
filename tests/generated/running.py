"""References of a case's calls, on exact arrays or on ones that are off by their rounding.

A compiled model sums in another order, keeps products and 16-bit values unrounded, and has
transcendental functions of its own. What may come of that further on, is measured: `Noise` runs
the references again with values that are off by a few units in the last place, or anything at all
where a sum overflows in one order and not in another. What such runs agree on must come out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ml_dtypes
import numpy as np
from tests.generated.spec import Body, Call, Case

from sardonyx.dtypes import from_numpy
from sardonyx.ops import registry
from sardonyx.ops.bind import lift
from sardonyx.ops.operator import ControlFlow


def named(text: str) -> frozenset[str]:
    return frozenset(text.split())


EXACT = named(
    "Abs ArgMax ArgMin BitCast Ceil Clip Compress Concat ConstantOfShape DepthToSpace Dropout Equal "
    "Expand EyeLike Flatten Floor Gather GatherElements GatherND GlobalMaxPool Greater "
    "GreaterOrEqual Hardmax Identity If IsInf IsNaN Less LessOrEqual Loop Max MaxPool Min Neg "
    "NonZero OneHot Pad ReduceMax ReduceMin Relu Reshape ReverseSequence Round Scan Shape Sign "
    "Size Slice SpaceToDepth Split Squeeze TensorScatter ThresholdedRelu Tile TopK Transpose Trilu "
    "Unique Unsqueeze Where"
)
"""Operators that give elements of their inputs, or what no rounding changes."""

ROUNDED = named("Add Sub Mul Div Sqrt Reciprocal Cast CastLike PRelu LeakyRelu Range")
"""Operators that round once."""


def finfo(dtype: Any) -> Any:
    return ml_dtypes.finfo(dtype)


def is_float(array: Any) -> bool:
    return isinstance(array, (np.ndarray, np.generic)) and from_numpy(array.dtype).is_floating


class Unusable(Exception):
    """A reference refused."""


def computed(call: Call, opset: int, inputs: Sequence[Any], graphs: Any = None) -> list[Any]:
    """The outputs of `call` by the reference of its operator. Raises `Unusable`."""
    cls = registry.get("", call.op_type)
    given = dict(call.attributes)
    schema = cls.schema(opset)
    operator = cls.parse(opset, {key: _value(v) for key, v in given.items()}, len(call.outputs))
    arguments = operator.arrange(schema, list(inputs), lift, given)
    try:
        with np.errstate(all="ignore"):
            if isinstance(operator, ControlFlow):
                found = operator.reference(graphs, *arguments)
            else:
                found = operator.reference(*arguments)
    except Exception as error:
        raise Unusable(str(error)) from error
    outputs = list(found) if isinstance(found, tuple) else [found]
    return [np.asarray(each) for each in outputs[: len(call.outputs)]]


def _value(value: Any) -> Any:
    from sardonyx.ir.tensor import ArrayTensor

    if isinstance(value, np.ndarray):
        return ArrayTensor(value)
    return tuple(value) if isinstance(value, list) else value


class Runner:
    """Runs the calls of a case one after the other."""

    def __init__(self, case: Case) -> None:
        self.case = case

    def run(self, feeds: dict[str, Any]) -> dict[str, Any]:
        """Every value by name; those that could not be computed are missing."""
        values = {**self.case.constants, **feeds}
        for call in self.case.calls:
            if call.reads() <= set(values):
                try:
                    outputs = self.apply(call, values)
                except Unusable:
                    continue
                values.update(zip(call.outputs, outputs))
        return values

    def apply(self, call: Call, values: dict[str, Any]) -> list[Any]:
        def graphs(body: Body, given: Sequence[Any]) -> list[Any]:
            inner = {**values, **body.constants, **dict(zip(body.inputs, given, strict=True))}
            for each in body.calls:
                inner.update(zip(each.outputs, self.apply(each, inner)))
            return [inner[name] for name in body.outputs]

        inputs = [values[name] if name else None for name in call.inputs]
        return self.compute(call, inputs, graphs)

    def compute(self, call: Call, inputs: list[Any], graphs: Any) -> list[Any]:
        return computed(call, self.case.opset, inputs, graphs)


class Noise(Runner):
    """Values are off by about as much as they may be."""

    UNITS = 4
    """Rounding errors of an operation, in units in the last place."""

    def __init__(self, case: Case, seed: int) -> None:
        super().__init__(case)
        self.seed = seed
        self.random = np.random.default_rng(seed)

    def compute(self, call: Call, inputs: list[Any], graphs: Any) -> list[Any]:
        if call.op_type in EXACT:
            exact = super().compute(call, inputs, graphs)
            return [np.asarray(self.turned(each)) for each in exact]
        if call.op_type in {"Div", "Mod"} and not is_float(inputs[1]):
            # the standard leaves open what a division of integers by zero gives
            (exact,) = super().compute(call, inputs, graphs)
            anything = self.random.integers(0, 100, exact.shape).astype(exact.dtype)
            return [np.where(inputs[1] == 0, anything, exact)]
        given = inputs
        rounds_once = call.op_type in ROUNDED
        if call.op_type in {"Add", "Sub"}:
            # a product that is computed again for a reader may not be rounded there
            given = [self.moved(each, rough=False) if is_float(each) else each for each in inputs]
        if not rounds_once:
            given = [self.moved(each, rough=True) if is_float(each) else each for each in inputs]
        outputs = super().compute(call, given, graphs)
        moved = [self.off(call, inputs, each) if is_float(each) else each for each in outputs]
        return [np.asarray(each) for each in moved]

    def moved(self, x: Any, *, rough: bool) -> Any:
        """`x` off by its rounding; with `rough` by that of the largest element's sum, too."""
        eps = float(finfo(x.dtype).eps)
        wide = x.astype(np.float64)
        most = np.abs(wide[np.isfinite(wide)]).max(initial=0.0)
        step = self.UNITS * eps * self.uniform(x.shape)
        with np.errstate(over="ignore"):
            moved = wide * (1 + step)
        if rough and most < 1e100:
            moved = moved + eps * most * self.uniform(x.shape) * (wide != 0)
        top = float(finfo(x.dtype).max)
        moved = np.where(np.isfinite(wide) & (np.abs(wide) < top), np.clip(moved, -top, top), wide)
        return self.turned(moved.astype(x.dtype))

    def uniform(self, shape: tuple[int, ...]) -> Any:
        """Numbers from -1 to 1; in the first two runs all are at one end."""
        if self.seed < 2:
            return np.full(shape, 1.0 - 2.0 * self.seed)
        return self.random.uniform(-1, 1, shape)

    def turned(self, x: Any) -> Any:
        """`x` with signs of zeros that are anything: cleaning a graph does not keep them."""
        if not is_float(x) or not (x == 0).any():
            return x
        signs = np.where(self.random.random(x.shape) < 0.5, -0.0, 0.0).astype(x.dtype)
        return np.where(x == 0, signs, x).astype(x.dtype)

    def off(self, call: Call, inputs: list[Any], y: Any) -> Any:
        info = finfo(y.dtype)
        floats = [each for each in inputs if is_float(each)]
        if call.op_type in CANCELLING:
            step = float(info.eps) * self.uniform(y.shape)
            with np.errstate(all="ignore"):
                moved = y.astype(np.float64) + step * np.abs(floats[0].astype(np.float64))
                y = np.where(np.isfinite(y) & (y != 0), moved, y).astype(y.dtype)
        inside = call.op_type not in ROUNDED | ELEMENTWISE
        result = self.moved(y, rough=inside)
        if y.size == 0:
            return result
        if call.op_type in {"GRU", "LSTM", "RNN"}:
            step = self.UNITS * float(info.eps) * self.uniform(y.shape)
            result = (result + step).astype(y.dtype)
        small = np.abs(y.astype(np.float64)) < 64 * float(info.tiny)
        vague = np.zeros(y.shape, bool)
        if call.op_type in ROUNDED:
            try:
                known = [np.broadcast_to(np.isfinite(each), y.shape) for each in floats]
                zero = [np.broadcast_to(each == 0, y.shape) for each in floats]
            except ValueError:
                return result
            all_finite = np.logical_and.reduce(known, initial=True) if known else False
            vague |= all_finite & ~np.isfinite(y) & (call.op_type in {"Mul", "Add", "Sub", "Cast"})
            any_zero = np.logical_or.reduce(zero, initial=False) if zero else False
            small &= ~((y == 0) & any_zero) & (call.op_type not in {"Add", "Sub"})
        else:
            vague |= self.is_extreme(call, floats, float(info.max), float(info.tiny))
            # zeros around or between elements meet weights, or are left out
            if call.op_type in {"Conv", "ConvTranspose"}:
                vague |= any(not np.isfinite(each).all() for each in floats[1:])
            if call.op_type in {"Resize", "GridSample"}:
                vague |= not np.isfinite(floats[0]).all()
            small &= y != 0
        least = float(info.smallest_subnormal) * self.random.integers(-2, 3, y.shape)
        with np.errstate(all="ignore"):
            result = np.where(small, result.astype(np.float64) + least, result).astype(y.dtype)
        ends = [np.nan, np.inf, -np.inf, 0.0, 1.0, -3.0, float(info.max), float(info.min)]
        picked = self.random.choice(ends, y.shape)
        anything = np.full(y.shape, ends[self.seed]) if self.seed < 3 else picked
        return np.where(vague, anything.astype(y.dtype), result)

    def is_extreme(self, call: Call, floats: list[Any], top: float, tiny: float) -> bool:
        """Whether sums and products on the way may overflow or vanish, or not."""
        if call.op_type in {"ReduceProd", "CumProd"}:
            with np.errstate(divide="ignore"):
                powers = np.log2(np.abs(floats[0].astype(np.float64)))
            powers = powers[np.isfinite(powers)]
            most = min(np.log2(top), -np.log2(tiny)) - 2
            return bool(max(powers[powers > 0].sum(), -powers[powers < 0].sum()) > most)
        low, high = 64 * tiny**0.5, top**0.5 / 64
        for each in floats:
            sizes = np.abs(each.astype(np.float64))
            sizes = sizes[np.isfinite(sizes) & (sizes != 0)]
            if sizes.size and each.size > 1 and (sizes.max() > high or sizes.min() < low):
                return call.op_type not in ELEMENTWISE
        return False


CANCELLING = named("Celu Elu Gelu Mish Selu Swish")
"""Functions whose values far from 0 are small differences of numbers of the size of x or 1."""

ELEMENTWISE = named(
    "Acos Acosh Asin Asinh Atan Atanh Celu Cos Cosh Elu Erf Exp Gelu HardSigmoid HardSwish Log "
    "Mish Mod Pow Selu Shrink Sigmoid Sin Sinh Softplus Softsign Swish Tan Tanh"
)
