"""Operators that draw random numbers: reproducible with `seed`, else different in each run."""

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


class _Drawing(Operator):
    """An operator with the attributes `seed` and `dtype`."""

    deterministic = False

    seed: float | None = None

    def generator(self) -> np.random.Generator:
        """A generator that starts from `seed`, or from the system's entropy."""
        if self.seed is None:
            return np.random.default_rng()
        return np.random.default_rng(struct.unpack("<I", struct.pack("<f", self.seed))[0])

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
        """An array of `shape`, computed in at least float32."""
        check_size(self.op_type, shape, max(dtype.itemsize, 4))
        wide = np.float64 if dtype is dtypes.DOUBLE else np.float32
        with np.errstate(all="ignore"):
            return np.asarray(self.sample(self.generator(), shape, wide)).astype(dtype.numpy)

    def sample(self, generator: np.random.Generator, shape: Sequence[int], wide: Any) -> Any:
        """Numbers of the type `wide`."""
        raise NotImplementedError


class _Normal(_Continuous):
    mean: float = 0.0
    scale: float = 1.0

    def sample(self, generator: np.random.Generator, shape: Sequence[int], wide: Any) -> Any:
        return wide(self.mean) + wide(self.scale) * generator.standard_normal(shape, wide)


class _Uniform(_Continuous):
    high: float = 1.0
    low: float = 0.0

    def sample(self, generator: np.random.Generator, shape: Sequence[int], wide: Any) -> Any:
        return wide(self.low) + wide(self.high - self.low) * generator.random(shape, wide)


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


class RandomUniform(_OfShape, _Uniform, since=22):
    """A tensor of `shape` from the uniform distribution between `low` and `high`."""


class RandomUniformLike(_Like, _Uniform, since=22):
    """A tensor shaped like input from the uniform distribution between `low` and `high`."""


class Bernoulli(_Drawing, since=22):
    """1 with the probability that input gives, else 0."""

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
        drawn = self.generator().random(input.shape)
        with np.errstate(all="ignore"):
            return np.asarray(drawn < input.astype(np.float64)).astype(dtype.numpy)


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
        drawn = self.generator().random((batch, self.sample_size))
        result = np.empty(drawn.shape, dtype.numpy)
        for row, (total, draws) in enumerate(zip(sums, drawn, strict=True)):
            last = np.searchsorted(total, total[-1])
            found = np.searchsorted(total, draws * total[-1], side="right")
            result[row] = np.minimum(found, last)
        return result
