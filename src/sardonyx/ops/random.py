"""Operators that draw random numbers: reproducible with `seed`, else different in each run.

The generator is NumPy's `RandomState`, whose numbers NumPy has promised not to change, seeded by
`seed`. onnx.reference draws from the same one in the same order, so a whole seed gives its numbers.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import numpy as np

from sardonyx import dtypes
from sardonyx.dtypes import BOOL, INT32
from sardonyx.errors import ExecutionError, InferenceError
from sardonyx.ir.types import shape_text
from sardonyx.ops import types
from sardonyx.ops.fact import Fact
from sardonyx.ops.operator import Operator
from sardonyx.ops.schema import Input, Output, past
from sardonyx.ops.symbolic import check_size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sardonyx.dtypes import DType
    from sardonyx.ir.tensor import Array
    from sardonyx.ir.value import Value
    from sardonyx.ops.body_builder import BodyBuilder
    from sardonyx.ops.operator import Values
    from sardonyx.ops.writer import Writer


class _Drawing(Operator):
    """An operator with the attributes `seed` and `dtype`."""

    deterministic = False

    seed: float | None = None

    def generator(self) -> np.random.RandomState:
        """A generator that starts from `seed`, or from the system's entropy.

        A whole number from 0 to 2^32 - 1 is the seed itself, any other the bits of its FLOAT.
        """
        if self.seed is None:
            return np.random.RandomState()
        if 0 <= self.seed < 1 << 32 and self.seed == int(self.seed):
            return np.random.RandomState(int(self.seed))
        return np.random.RandomState(struct.unpack("<I", struct.pack("<f", self.seed))[0])

    def element_type(self, code: int | None, given: DType | None, allowed: types.Types) -> DType:
        """The type with number `code`, else the input's; raises where it is not `allowed`."""
        wanted = dtypes.from_code(code) if code is not None else given
        if wanted is None or wanted not in allowed:
            raise InferenceError(
                f"{self.op_type} cannot give {wanted}",
                hint="set the attribute dtype to a type that the operator allows",
            )
        return wanted


class _Continuous(_Drawing):
    """Numbers of one floating-point type from a continuous distribution."""

    def allowed(self) -> types.Types:
        """The output types of this version."""
        return types.FLOATS if self.version < 22 else types.FLOATS_BFLOAT16

    def draw(self, shape: Sequence[int], dtype: DType) -> Array:
        """An array of `shape`, drawn in DOUBLE and computed in at least FLOAT."""
        check_size(self.op_type, shape, 8)
        wide = np.float64 if dtype is dtypes.DOUBLE else np.float32
        with np.errstate(all="ignore"):
            return self.sample(self.generator(), shape, wide).astype(dtype.numpy)

    def sample(self, generator: np.random.RandomState, shape: Sequence[int], wide: Any) -> Array:
        """Numbers of the type `wide`."""
        raise NotImplementedError


class _Normal(_Continuous):
    mean: float = 0.0
    scale: float = 1.0

    def sample(self, generator: np.random.RandomState, shape: Sequence[int], wide: Any) -> Array:
        drawn = np.asarray(generator.standard_normal(tuple(shape)), wide)
        return np.asarray(wide(self.mean) + wide(self.scale) * drawn)


class _Uniform(_Continuous):
    high: float = 1.0
    low: float = 0.0

    def draw(self, shape: Sequence[int], dtype: DType) -> Array:
        """As `_Continuous.draw`, and what rounds up to `high` is the number before it."""
        result = super().draw(shape, dtype)
        with np.errstate(all="ignore"):
            low, high = np.asarray([self.low, self.high]).astype(dtype.numpy)
            last = np.nextafter(high, low)
            return np.where(result == high, last, result) if low < high else result

    def sample(self, generator: np.random.RandomState, shape: Sequence[int], wide: Any) -> Array:
        width = self.high - self.low
        if np.isinf(wide(width)):
            wide = np.float64
        drawn = np.asarray(generator.random_sample(tuple(shape)), wide)
        return np.asarray(wide(self.low) + wide(width) * drawn)


class _OfShape(_Continuous):
    """Numbers in the shape that the attribute `shape` gives."""

    output = Output("T")
    T = types.FLOATS_BFLOAT16
    dtype: int = 1
    shape: tuple[int, ...]
    history = (past(1, T=types.FLOATS),)

    def infer(self) -> Fact:
        if any(size < 0 for size in self.shape):
            raise InferenceError(f"{self.op_type} of negative size: {shape_text(self.shape)}")
        return Fact.tensor(self.element_type(self.dtype, None, self.allowed()), self.shape)

    def reference(self) -> Array:
        return self.draw(self.shape, self.element_type(self.dtype, None, self.allowed()))


class _Like(_Continuous):
    """Numbers in the shape of `input`, and of its type where `dtype` is omitted."""

    input, output = Input("T1"), Output("T2")
    T1, T2 = types.ALL_BFLOAT16, types.FLOATS_BFLOAT16
    dtype: int | None = None
    history = (past(1, T1=types.ALL_BEFORE_BFLOAT16, T2=types.FLOATS),)

    def infer(self, input: Fact) -> Fact:
        if self.dtype is None and input.dtype is None:
            return Fact.tensor(None, input.shape)
        return Fact.tensor(self.element_type(self.dtype, input.dtype, self.allowed()), input.shape)

    def reference(self, input: Array) -> Array:
        given = dtypes.from_numpy(input.dtype)
        return self.draw(input.shape, self.element_type(self.dtype, given, self.allowed()))


class RandomNormal(_OfShape, _Normal, since=22):
    """A tensor of `shape` from the normal distribution of `mean` and standard deviation `scale`."""


class RandomNormalLike(_Like, _Normal, since=22):
    """A tensor shaped like input from the normal distribution of `mean` and deviation `scale`."""

    def gradient(self, op: Writer, grads: Values, inputs: Values, outputs: Values) -> Values:
        return [None]


class RandomUniform(_OfShape, _Uniform, since=22):
    """A tensor of `shape` from the uniform distribution on [low, high)."""


class RandomUniformLike(_Like, _Uniform, since=22):
    """A tensor shaped like input from the uniform distribution on [low, high)."""

    def gradient(self, op: Writer, grads: Values, inputs: Values, outputs: Values) -> Values:
        return [None]


class Bernoulli(_Drawing, since=22):
    """1 with the probability that input gives, else 0; what is no probability is clipped, NaN 0."""

    input, output = Input("T1", "Probabilities."), Output("T2")
    T1, T2 = types.FLOATS_BFLOAT16, (*types.NUMERIC_BFLOAT16, BOOL)
    dtype: int | None = None
    history = (past(15, T1=types.FLOATS),)

    def infer(self, input: Fact) -> Fact:
        if self.dtype is None and input.dtype is None:
            return Fact.tensor(None, input.shape)
        return Fact.tensor(self.element_type(self.dtype, input.dtype, self.T2), input.shape)

    def reference(self, input: Array) -> Array:
        dtype = self.element_type(self.dtype, dtypes.from_numpy(input.dtype), self.T2)
        check_size("Bernoulli", input.shape, 8)
        with np.errstate(all="ignore"):
            probabilities = np.clip(np.nan_to_num(input.astype(np.float64)), 0, 1)
            return np.asarray(self.generator().binomial(1, probabilities)).astype(dtype.numpy)

    def body(self, op: BodyBuilder, input: Value) -> Any:
        given = op.dtype(input) if self.dtype is None else None
        dtype = self.element_type(self.dtype, given, self.T2)
        drawn = op.RandomUniformLike(input, dtype=dtypes.DOUBLE.code, seed=self.seed)
        return op.cast(op.Less(drawn, op.cast(input, dtypes.DOUBLE)), dtype)

    def gradient(self, op: Writer, grads: Values, inputs: Values, outputs: Values) -> Values:
        return [None]


class Multinomial(_Drawing, since=22):
    """`sample_size` outcomes for each row of unnormalized log-probabilities."""

    input, output = Input("T1", "[batch, classes]."), Output("T2", "[batch, sample_size].")
    T1, T2 = types.FLOATS_BFLOAT16, types.INDICES
    dtype: int = INT32.code
    sample_size: int = 1
    history = (past(7, T1=types.FLOATS),)

    def infer(self, input: Fact) -> Fact:
        if input.rank not in {None, 2}:
            raise InferenceError(f"Multinomial: input needs rank 2, got {shape_text(input.shape)}")
        if self.sample_size < 1:
            raise InferenceError(f"Multinomial: sample_size is {self.sample_size}, at least 1")
        batch = None if input.shape is None else input.shape[0]
        return Fact.tensor(self.element_type(self.dtype, None, self.T2), (batch, self.sample_size))

    def reference(self, input: Array) -> Array:
        dtype = self.infer(Fact.tensor(None, input.shape)).dtype
        assert dtype is not None
        batch, classes = input.shape
        check_size("Multinomial", (batch, self.sample_size), 8)
        logits = input.astype(np.float64)
        greatest = logits.max(axis=1, initial=-np.inf, keepdims=True)
        if not np.isfinite(greatest).all():
            raise ExecutionError(
                f"Multinomial: a row of {classes} log-probabilities has no finite greatest one"
            )
        sums = np.exp(logits - greatest).cumsum(axis=1)
        drawn = self.generator().random_sample((batch, self.sample_size))
        result = np.empty(drawn.shape, dtype.numpy)
        for row, (total, draws) in enumerate(zip(sums, drawn, strict=True)):
            last = np.searchsorted(total, total[-1])
            found = np.searchsorted(total, draws * total[-1], side="right")
            result[row] = np.minimum(found, last)
        return result
