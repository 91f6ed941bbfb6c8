"""Selecting, scaling and encoding features (ai.onnx.ml)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from sardonyx.dtypes import DOUBLE, FLOAT, INT32, INT64, STRING
from sardonyx.errors import ExecutionError, InferenceError, ModelError
from sardonyx.ir.types import shape_text
from sardonyx.ops.fact import Fact
from sardonyx.ops.forest import choice
from sardonyx.ops.numeric import to_integer
from sardonyx.ops.operator import Operator, same_as
from sardonyx.ops.schema import Input, Output
from sardonyx.ops.symbolic import add, check_size, product, unify

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sardonyx.ir.tensor import Array
    from sardonyx.ir.types import DimLike

_NUMBERS = (FLOAT, DOUBLE, INT64, INT32)


class ArrayFeatureExtractor(Operator, since=1, domain="ai.onnx.ml"):
    """The elements of X at positions Y of its last axis; [1, n] for X of rank 1."""

    X, Y, Z = Input("T"), Input((INT64,)), Output("T")
    T = (*_NUMBERS, STRING)

    def infer(self, X: Fact, Y: Fact) -> Fact:
        if X.shape is None:
            return Fact.tensor(X.dtype)
        if not X.shape:
            raise InferenceError("ArrayFeatureExtractor requires X of rank 1 or more, got rank 0")
        count = None if Y.shape is None else product(Y.shape)
        return Fact.tensor(X.dtype, (*(X.shape[:-1] or (1,)), count))

    def reference(self, X: Array, Y: Array) -> Array:
        if not X.ndim:
            raise ExecutionError("ArrayFeatureExtractor requires X of rank 1 or more, got rank 0")
        indices, size = Y.reshape(-1), X.shape[-1]
        if indices.size and not (indices.min() >= 0 and indices.max() < size):
            raise ExecutionError(
                f"ArrayFeatureExtractor: indices from {indices.min()} to {indices.max()}, "
                f"X has {size} features"
            )
        check_size(self.op_type, (*X.shape[:-1], len(indices)), X.itemsize)
        return np.take(np.atleast_2d(X), indices, -1)


class Binarizer(Operator, since=1, domain="ai.onnx.ml"):
    """1 where X is greater than `threshold`, else 0."""

    X, Y, T = Input("T"), Output("T"), _NUMBERS
    threshold: float = 0.0

    def infer(self, X: Fact) -> Fact:
        return same_as(X)

    def reference(self, X: Array) -> Array:
        threshold = np.float32(self.threshold)
        if X.dtype.kind == "f" or not np.isfinite(threshold):
            return np.asarray(np.greater(X, threshold)).astype(X.dtype)
        # x > t and x > floor(t) are the same for an integer x; FLOAT is too coarse for INT64
        least, most = np.iinfo(X.dtype).min, np.iinfo(X.dtype).max
        bound = math.floor(threshold)
        if bound < least:
            return np.ones_like(X)
        return np.asarray(np.greater(X, min(bound, most))).astype(X.dtype)


class FeatureVectorizer(Operator, since=1, domain="ai.onnx.ml"):
    """The inputs, [N, C] or [C] for one row, side by side as FLOAT.

    Input i takes `inputdimensions[i]` columns: shorter rows are filled with 0, longer ones cut.
    """

    X, Y = Input("T1", variadic=True), Output((FLOAT,))
    T1 = (INT32, INT64, FLOAT, DOUBLE)
    inputdimensions: tuple[int, ...] | None = None

    def _widths(self, widths: Sequence[DimLike]) -> Sequence[DimLike]:
        given = self.inputdimensions
        if given is None:
            return widths
        if len(given) != len(widths) or min(given, default=0) < 0:
            raise ModelError(
                f"FeatureVectorizer: inputdimensions has {len(given)} sizes for {len(widths)} "
                "inputs; each must be 0 or more"
            )
        return given

    def infer(self, *X: Fact) -> Fact:
        rows: DimLike = None
        columns: list[DimLike] = []
        for fact in X:
            shape = fact.shape
            if shape is not None and len(shape) not in {1, 2}:
                raise InferenceError(
                    f"FeatureVectorizer requires [N, C] or [C], got {shape_text(shape)}"
                )
            columns.append(None if shape is None else shape[-1])
            rows = rows if shape is None else unify(rows, shape[0] if len(shape) == 2 else 1)
        total: DimLike = 0
        for width in self._widths(columns):
            total = add(total, width)
        return Fact.tensor(FLOAT, (rows, total))

    def reference(self, *X: Array) -> Array:
        parts = [np.atleast_2d(part) for part in X]
        rows = {part.shape[0] for part in parts}
        if any(part.ndim not in {1, 2} for part in X) or len(rows) > 1:
            listed = ", ".join(str(list(part.shape)) for part in X)
            raise ExecutionError(f"FeatureVectorizer requires [N, C] or [C] of one N, got {listed}")
        widths = [int(str(width)) for width in self._widths([part.shape[1] for part in parts])]
        check_size(self.op_type, (*rows, sum(widths)), 4)
        result = np.zeros((*rows, sum(widths)), np.float32)
        start = 0
        with np.errstate(over="ignore"):
            for part, width in zip(parts, widths, strict=True):
                kept = part[:, :width]
                result[:, start : start + kept.shape[1]] = kept
                start += width
        return result


class Imputer(Operator, since=1, domain="ai.onnx.ml"):
    """X with every element that equals the replaced value (NaN equals NaN) imputed.

    One imputed value serves all features of the last axis, or each has its own.
    """

    X, Y, T = Input("T"), Output("T"), _NUMBERS
    imputed_value_floats: tuple[float, ...] | None = None
    imputed_value_int64s: tuple[int, ...] | None = None
    replaced_value_float: float = 0.0
    replaced_value_int64: int = 0

    def infer(self, X: Fact) -> Fact:
        return same_as(X)

    def reference(self, X: Array) -> Array:
        is_float = X.dtype.kind == "f"
        name = "imputed_value_floats" if is_float else "imputed_value_int64s"
        values = np.array(
            (self.imputed_value_floats if is_float else self.imputed_value_int64s) or (),
            np.float32 if is_float else np.int64,
        )
        if not values.size:
            raise ModelError(f"Imputer of {X.dtype} requires attribute {name}")
        if not is_float and not np.array_equal(values.astype(X.dtype), values):
            raise ModelError(f"Imputer: {name} holds values that {X.dtype} cannot")
        if values.size not in {1, X.shape[-1] if X.ndim else 1}:
            raise ExecutionError(
                f"Imputer: {name} has {values.size} values for X of shape {list(X.shape)}"
            )
        if is_float:
            replaced = np.float32(self.replaced_value_float)
            chosen = np.isnan(X) if np.isnan(replaced) else replaced == X
        else:
            chosen = X.astype(np.int64) == self.replaced_value_int64
        values = values.astype(X.dtype).reshape(() if values.size == 1 else -1)
        return np.where(chosen, values, X)


class Normalizer(Operator, since=1, domain="ai.onnx.ml"):
    """Each row of X [N, C] or [C] over its maximum, sum of magnitudes, or Euclidean length.

    A row for which that is 0 stays as it is.
    """

    X, Y, T = Input("T"), Output((FLOAT,)), _NUMBERS
    norm: str = "MAX"

    def infer(self, X: Fact) -> Fact:
        if X.rank not in {None, 1, 2}:
            raise InferenceError(f"Normalizer requires [N, C] or [C], got {shape_text(X.shape)}")
        return Fact.tensor(FLOAT, X.shape)

    def reference(self, X: Array) -> Array:
        norm = choice(self.op_type, "norm", self.norm, ("MAX", "L1", "L2"))
        if X.ndim not in {1, 2}:
            raise ExecutionError(f"Normalizer requires [N, C] or [C], got {list(X.shape)}")
        wide = X.astype(np.float64)
        with np.errstate(all="ignore"):
            if norm == "MAX":
                divisor = wide.max(-1, keepdims=True, initial=-np.inf)
            elif norm == "L1":
                divisor = np.abs(wide).sum(-1, keepdims=True)
            else:
                largest = np.abs(wide).max(-1, keepdims=True, initial=0)
                scale = np.where((largest > 0) & np.isfinite(largest), largest, 1)
                divisor = scale * np.sqrt(np.square(wide / scale).sum(-1, keepdims=True))
            return np.where(divisor == 0, wide, wide / divisor).astype(np.float32)


class OneHotEncoder(Operator, since=1, domain="ai.onnx.ml"):
    """A 1 at the place of each element's category along a new last axis, 0 elsewhere.

    Floating-point elements are truncated. An element of no category gives zeros if `zeros`,
    else an `ExecutionError`.
    """

    X, Y = Input("T"), Output((FLOAT,))
    T = (STRING, INT64, INT32, FLOAT, DOUBLE)
    cats_int64s: tuple[int, ...] | None = None
    cats_strings: tuple[str, ...] | None = None
    zeros: int = 1

    @property
    def _categories(self) -> Sequence[int] | Sequence[str]:
        if bool(self.cats_int64s) == bool(self.cats_strings):
            raise ModelError("OneHotEncoder requires one of cats_int64s and cats_strings")
        return self.cats_int64s or self.cats_strings or ()

    def infer(self, X: Fact) -> Fact:
        count = len(self._categories)
        return Fact.tensor(FLOAT, None if X.shape is None else (*X.shape, count))

    def reference(self, X: Array) -> Array:
        categories = self._categories
        check_size(self.op_type, (*X.shape, len(categories)), 4)
        if (X.dtype == object) != (self.cats_strings is not None and bool(self.cats_strings)):
            raise ExecutionError("OneHotEncoder requires X and the categories of one type")
        if X.dtype.kind == "f":
            X = to_integer(X, np.dtype(np.int64))
        places = {category: place for place, category in enumerate(categories)}
        found = np.array([places.get(item, -1) for item in X.reshape(-1).tolist()], np.int64)
        if not self.zeros and found.size and found.min() < 0:
            raise ExecutionError("OneHotEncoder: an element is of no category, and zeros is 0")
        result = np.zeros((X.size, len(categories)), np.float32)
        rows = np.flatnonzero(found >= 0)
        result[rows, found[rows]] = 1
        return result.reshape(*X.shape, len(categories))


class Scaler(Operator, since=1, domain="ai.onnx.ml"):
    """(X - offset) * scale, each one value or one per feature of the last axis."""

    X, Y, T = Input("T"), Output((FLOAT,)), _NUMBERS
    offset: tuple[float, ...] | None = None
    scale: tuple[float, ...] | None = None

    def infer(self, X: Fact) -> Fact:
        return Fact.tensor(FLOAT, X.shape)

    def reference(self, X: Array) -> Array:
        features = X.shape[-1] if X.ndim else 1
        offset = np.array(self.offset or (0.0,), np.float32)
        scale = np.array(self.scale or (1.0,), np.float32)
        for name, values in (("offset", offset), ("scale", scale)):
            if values.size not in {1, features}:
                raise ExecutionError(
                    f"Scaler: {name} has {values.size} values for X of shape {list(X.shape)}"
                )
        if X.ndim == 0:
            offset, scale = offset.reshape(()), scale.reshape(())
        with np.errstate(all="ignore"):
            wide = X.astype(np.float64)
            return np.asarray((wide - offset) * scale).astype(np.float32)
