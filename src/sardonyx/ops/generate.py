"""Operators that make data from nothing but parameters."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from sardonyx import dtypes
from sardonyx.dims import Dim, ceil_div, maximum
from sardonyx.dtypes import (
    BFLOAT16,
    BOOL,
    DOUBLE,
    FLOAT,
    FLOAT4E2M1,
    FLOAT8E4M3FN,
    FLOAT8E4M3FNUZ,
    FLOAT8E5M2,
    FLOAT8E5M2FNUZ,
    FLOAT8E8M0,
    FLOAT16,
    INT2,
    INT4,
    INT16,
    INT32,
    INT64,
    UINT2,
    UINT4,
)
from sardonyx.errors import ExecutionError, InferenceError, ModelError
from sardonyx.ir.node import AttributeType
from sardonyx.ir.tensor import SparseTensor, Tensor
from sardonyx.ir.types import shape_text
from sardonyx.ops import types
from sardonyx.ops.fact import Fact
from sardonyx.ops.operator import Operator
from sardonyx.ops.rational import ceiling, divide_reals, real, subtract_reals
from sardonyx.ops.schema import REQUIRED, AttributeSpec, Input, Output, attribute, past
from sardonyx.ops.symbolic import check_size, contents, exact

if TYPE_CHECKING:
    from sardonyx.dtypes import DType
    from sardonyx.ir.tensor import Array
    from sardonyx.ir.types import DimLike
    from sardonyx.ir.value import Value
    from sardonyx.ops.body_builder import BodyBuilder
    from sardonyx.ops.operator import Values
    from sardonyx.ops.writer import Writer

_LARGEST_CARRIED: Final = 4096
"""Elements of a constant that inference carries as contents."""


class Constant(Operator, since=25):
    """The value that one of its attributes holds."""

    output = Output("T")
    T = types.ALL_INT2
    value: Tensor | None = None
    sparse_value: SparseTensor | None = attribute(None, since=11)
    value_int: int | None = attribute(None, since=12)
    value_ints: tuple[int, ...] | None = attribute(None, since=12)
    value_float: float | None = attribute(None, since=12)
    value_floats: tuple[float, ...] | None = attribute(None, since=12)
    value_string: str | None = attribute(None, since=12)
    value_strings: tuple[str, ...] | None = attribute(None, since=12)
    history = (
        past(24, T=types.ALL_FLOAT8E8M0),
        past(23, T=types.ALL_FLOAT4),
        past(21, T=types.ALL_INT4),
        past(19, T=types.ALL_FLOAT8),
        past(13, T=types.ALL_BFLOAT16),
        past(12, T=types.ALL_BEFORE_BFLOAT16),
        past(11),
        past(9, value=AttributeSpec(AttributeType.TENSOR, REQUIRED)),
        past(1, T=types.FLOATS),
    )

    def _given(self) -> tuple[str, Any]:
        names = (
            "value",
            "sparse_value",
            *(f"value_{kind}" for kind in ("int", "ints", "float", "floats", "string", "strings")),
        )
        given = [name for name in names if getattr(self, name) is not None]
        if len(given) != 1:
            raise ModelError(
                f"Constant requires one value, got {' and '.join(given) or 'none'}",
                hint=f"give one of the attributes {', '.join(names)}",
            )
        return given[0], getattr(self, given[0])

    def infer(self) -> Fact:
        _, given = self._given()
        if isinstance(given, (Tensor, SparseTensor)):
            dtype = given.dtype if isinstance(given, Tensor) else given.values.dtype
            if math.prod(given.shape) > _LARGEST_CARRIED:
                return Fact.tensor(dtype, given.shape)
        return Fact.constant(self.reference())

    def reference(self) -> Array:
        name, given = self._given()
        if isinstance(given, Tensor):
            return given.numpy()
        if isinstance(given, SparseTensor):
            return _dense(given)
        dtype = {"int": np.int64, "float": np.float32, "string": object}[
            name.removeprefix("value_").removesuffix("s")
        ]
        with np.errstate(over="ignore"):
            return np.array(given, dtype)


def _dense(sparse: SparseTensor) -> Array:
    check_size("Constant", sparse.shape, sparse.values.dtype.itemsize)
    count, rank = sparse.values.size, len(sparse.shape)
    indices = sparse.indices.numpy()
    fits = indices.shape in {(count,), (count, rank)}
    sizes = np.array(sparse.shape if indices.ndim == 2 else math.prod(sparse.shape))
    if not fits or np.any((indices < 0) | (indices >= sizes)):
        raise ModelError(
            f"Constant: sparse indices of shape {list(indices.shape)} do not fit {count} values "
            f"in a tensor of shape {list(sparse.shape)}"
        )
    dense = sparse.to_dense()
    if dense.dtype == object:
        dense[dense == 0] = ""
    return dense


_FILLING: Final = (*types.NUMERIC, BOOL)
_FILLING_FLOAT8: Final = (
    *_FILLING,
    BFLOAT16,
    FLOAT8E4M3FN,
    FLOAT8E4M3FNUZ,
    FLOAT8E5M2,
    FLOAT8E5M2FNUZ,
)
_FILLING_INT4: Final = (*_FILLING_FLOAT8, INT4, UINT4)


class ConstantOfShape(Operator, since=25):
    """A tensor of shape `input` filled with the one element of `value`, or with float 0."""

    input, output = Input("T1"), Output("T2")
    T1 = (INT64,)
    T2 = (*_FILLING_INT4, FLOAT4E2M1, FLOAT8E8M0, INT2, UINT2)
    value: Tensor | None = None
    history = (
        past(24, T2=(*_FILLING_INT4, FLOAT4E2M1, FLOAT8E8M0)),
        past(23, T2=(*_FILLING_INT4, FLOAT4E2M1)),
        past(21, T2=_FILLING_INT4),
        past(20, T2=_FILLING_FLOAT8),
        past(9, T2=_FILLING),
    )

    def infer(self, input: Fact) -> Fact:
        dtype = FLOAT if self.value is None else self.value.dtype
        if self.value is not None and self.value.size != 1:
            raise InferenceError(
                f"ConstantOfShape requires one element in value, got {list(self.value.shape)}"
            )
        dims = contents(input)
        if dims is None:
            return Fact.tensor(dtype)
        if any(isinstance(dim, int) and dim < 0 for dim in dims):
            raise InferenceError(f"ConstantOfShape of negative size: {shape_text(tuple(dims))}")
        return Fact.tensor(dtype, dims)

    def reference(self, input: Array) -> Array:
        dtype = FLOAT if self.value is None else self.value.dtype
        shape = [int(dim) for dim in input.reshape(-1)]
        check_size("ConstantOfShape", shape, dtype.itemsize)
        result = np.zeros(shape, dtype.numpy)
        if self.value is not None:
            if self.value.size != 1:
                raise ExecutionError("ConstantOfShape requires one element in value")
            result[...] = self.value.numpy().reshape(-1)[0]
        return result


class Range(Operator, since=27):
    """start, start + delta, start + 2 delta, ... up to, not including, `limit`."""

    start, limit, delta = Input("T"), Input("T"), Input("T")
    output = Output("T")
    T = (FLOAT16, BFLOAT16, FLOAT, DOUBLE, INT16, INT32, INT64)
    stash_type: int = attribute(1, since=27)
    history = (past(11, T=(FLOAT, DOUBLE, INT16, INT32, INT64)),)

    def infer(self, start: Fact, limit: Fact, delta: Fact) -> Fact:
        dtype = start.dtype or limit.dtype or delta.dtype
        constants = [fact.constant_value() for fact in (start, limit, delta)]
        if all(value is not None and value.size == 1 for value in constants):
            try:
                return Fact.tensor(dtype, (self._count(*constants),))
            except ExecutionError as error:
                raise InferenceError(error.message) from None
        if dtype is None or not dtype.is_integer:
            return Fact.tensor(dtype, (_real_count(start, limit, delta),))
        values = [fact.dims_value() or [None] for fact in (start, limit, delta)]
        return Fact.tensor(dtype, (exact(_symbolic_count, *(value[0] for value in values)),))

    def _count(self, *parts: Any) -> int:
        start, limit, delta = (part.reshape(-1)[0] for part in parts)
        if parts[0].dtype.kind in "iu":
            first, last, step = int(start), int(limit), int(delta)
            if step == 0:
                raise ExecutionError("Range requires delta other than 0")
            return max(-((first - last) // step), 0)
        with np.errstate(all="ignore"):
            count = np.ceil((np.float64(limit) - np.float64(start)) / np.float64(delta))
        if not np.isfinite(count):
            raise ExecutionError(f"Range from {start} to {limit} by {delta} has no length")
        return max(int(count), 0)

    def reference(self, start: Array, limit: Array, delta: Array) -> Array:
        if any(part.size != 1 for part in (start, limit, delta)):
            raise ExecutionError("Range requires scalars")
        count = self._count(start, limit, delta)
        check_size("Range", (count,), max(start.itemsize, 8))
        first, step = start.reshape(()), delta.reshape(())
        small = dtypes.from_numpy(start.dtype) in {FLOAT16, BFLOAT16}
        if small and self.stash_type == FLOAT.code:
            first, step = first.astype(np.float32), step.astype(np.float32)
        with np.errstate(all="ignore"):
            result = first + np.arange(count).astype(first.dtype) * step
        return np.asarray(result).astype(start.dtype)

    def body(self, op: BodyBuilder, start: Value, limit: Value, delta: Value) -> Any:
        dtype = op.dtype(start)
        first, last, step = (op.reshape(part, 1) for part in (start, limit, delta))
        indices = op.indices(self._count_body(op, first, last, step))
        wide = INT64 if dtype.is_integer else dtype
        if dtype in {FLOAT16, BFLOAT16} and self.stash_type == FLOAT.code:
            wide = FLOAT
        steps = op.Mul(op.cast(indices, wide), op.cast(step, wide))
        return op.cast(op.Add(op.cast(first, wide), steps), dtype)

    def _count_body(self, op: BodyBuilder, first: Value, last: Value, step: Value) -> Value:
        none = np.zeros(1, np.int64)
        if op.dtype(first).is_integer:
            first, last, step = (op.cast(part, INT64) for part in (first, last, step))
            # ceil((last - first) / step) -> -floor((first - last) / step)
            distance = op.Sub(first, last)
            whole = op.Sub(distance, op.Mod(distance, step))
            count = op.Neg(op.Div(whole, step))
        else:
            first, last, step = (op.cast(part, DOUBLE) for part in (first, last, step))
            count = op.cast(op.Ceil(op.Div(op.Sub(last, first), step)), INT64)
        positive: Value = op.Where(op.Greater(count, none), count, none)
        return positive


def _symbolic_count(start: int | Dim, limit: int | Dim, delta: int | Dim) -> DimLike:
    return maximum(ceil_div(limit - start, delta), 0)


def _real_count(*facts: Fact) -> DimLike:
    """The length where floating-point parameters are exact expressions of sizes."""
    if any(fact.value is None or fact.value.size != 1 or fact.dtype is None for fact in facts):
        return None
    start, limit, delta = (
        real(fact.value.reshape(-1)[0], DOUBLE) for fact in facts if fact.value is not None
    )
    if start is None or limit is None or delta is None:
        return None
    span = subtract_reals(limit, start)
    count = None if span is None else divide_reals(span, delta)
    return None if count is None else exact(lambda size: maximum(size, 0), ceiling(count))


_EYE: Final = (*types.NUMERIC, BOOL)


class EyeLike(Operator, since=22):
    """A matrix of the shape of `input` with ones on the k-th diagonal, zeros elsewhere."""

    input, output = Input("T1"), Output("T2")
    T1 = T2 = (*_EYE, BFLOAT16)
    dtype: int | None = None
    k: int = 0
    history = (past(9, T1=_EYE, T2=_EYE),)

    def _dtype(self, given: DType | None) -> DType | None:
        return given if self.dtype is None else dtypes.from_code(self.dtype)

    def infer(self, input: Fact) -> Fact:
        if input.rank not in {None, 2}:
            raise InferenceError(f"EyeLike requires rank 2, got {shape_text(input.shape)}")
        return Fact.tensor(self._dtype(input.dtype), input.shape or (None, None))

    def reference(self, input: Array) -> Array:
        if input.ndim != 2:
            raise ExecutionError(f"EyeLike requires rank 2, got shape {list(input.shape)}")
        rows, columns = input.shape
        dtype = self._dtype(dtypes.from_numpy(input.dtype))
        assert dtype is not None
        check_size("EyeLike", input.shape, dtype.itemsize)
        shift = min(max(self.k, -rows), columns)
        return np.eye(rows, columns, shift, dtype=bool).astype(dtype.numpy)

    def gradient(self, op: Writer, grads: Values, inputs: Values, outputs: Values) -> Values:
        return [None]
