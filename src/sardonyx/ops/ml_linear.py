"""Linear models (ai.onnx.ml), and what all classifiers share."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from sardonyx.dtypes import DOUBLE, FLOAT, INT32, INT64, STRING
from sardonyx.errors import ExecutionError, ModelError
from sardonyx.ops.fact import Fact
from sardonyx.ops.forest import TRANSFORMS, choice, row_count, transformed
from sardonyx.ops.operator import Operator
from sardonyx.ops.schema import Input, Output, attribute
from sardonyx.ops.symbolic import check_size

if TYPE_CHECKING:
    from sardonyx.ir.tensor import Array

NUMBERS = (FLOAT, DOUBLE, INT64, INT32)


def numbers(values: tuple[float, ...] | None) -> Array:
    """FLOAT attributes, widened."""
    return np.array(values or (), np.float32).astype(np.float64)


def rows_of(op_type: str, X: Array, features: int) -> Array:
    """X as [N, features] DOUBLE; raises `ExecutionError` for another shape."""
    rows = X.reshape(1, -1) if X.ndim == 1 else X
    if rows.ndim != 2 or rows.shape[1] != features:
        raise ExecutionError(f"{op_type} requires X [N, {features}], got {list(X.shape)}")
    return rows.astype(np.float64)


def finished(op_type: str, scores: Array, transform: str) -> Array:
    """`scores` after the transform that attribute `post_transform` names, as FLOAT."""
    known = choice(op_type, "post_transform", transform, TRANSFORMS)
    with np.errstate(all="ignore"):
        return transformed(scores, known).astype(np.float32)


class Labelled(Operator):
    """A classifier's class labels, integers or strings."""

    classlabels_ints: tuple[int, ...] | None = None
    classlabels_strings: tuple[str, ...] | None = None

    @cached_property
    def labels(self) -> Array:
        """The labels; raises `ModelError` unless exactly one of the attributes has some."""
        integers, strings = self.classlabels_ints, self.classlabels_strings
        if bool(integers) == bool(strings):
            raise ModelError(
                f"{self.op_type} requires one of classlabels_ints and classlabels_strings"
            )
        found = np.empty(len(integers or strings or ()), np.int64 if integers else object)
        found[:] = integers or strings
        return found

    def label_fact(self, X: Fact) -> Fact:
        """The fact of one label for each row."""
        dtype = STRING if self.labels.dtype == object else INT64
        return Fact.tensor(dtype, (row_count(self.op_type, X),))


class LinearRegressor(Operator, since=1, domain="ai.onnx.ml"):
    """X [N, F] times `coefficients` [targets, F] transposed, plus `intercepts`: [N, targets]."""

    X, Y, T = Input("T"), Output((FLOAT,)), NUMBERS
    coefficients: tuple[float, ...] | None = None
    intercepts: tuple[float, ...] | None = None
    post_transform: str = "NONE"
    targets: int = 1

    def infer(self, X: Fact) -> Fact:
        if self.targets < 1:
            raise ModelError(f"LinearRegressor: targets is {self.targets}, not > 0")
        return Fact.tensor(FLOAT, (row_count(self.op_type, X), self.targets))

    def reference(self, X: Array) -> Array:
        scores = _linear(self.op_type, X, self.coefficients, self.intercepts, self.targets)
        return finished(self.op_type, scores, self.post_transform)


def _linear(
    op_type: str,
    X: Array,
    coefficients: tuple[float, ...] | None,
    intercepts: tuple[float, ...] | None,
    count: int,
) -> Array:
    weights, offsets = numbers(coefficients), numbers(intercepts)
    if count < 1 or len(weights) % count or len(offsets) not in {0, count}:
        raise ModelError(
            f"{op_type}: {len(weights)} coefficients and {len(offsets)} intercepts for "
            f"{count} outputs"
        )
    weights = weights.reshape(count, -1)
    rows = rows_of(op_type, X, weights.shape[1])
    check_size(op_type, (len(rows), count), 8)
    with np.errstate(all="ignore"):
        scores = rows @ weights.T
        return np.asarray(scores + offsets if len(offsets) else scores)


class LinearClassifier(Labelled, since=1, domain="ai.onnx.ml"):
    """The class with the highest linear score of each row of X [N, F], and all scores.

    `coefficients` and `intercepts` have one row for each class, or, of two classes, one for
    the second, whose score decides by its sign.
    """

    X = Input("T1")
    Y, Z = Output("T2"), Output((FLOAT,))
    T1, T2 = NUMBERS, (STRING, INT64)
    coefficients: tuple[float, ...] = attribute()
    intercepts: tuple[float, ...] | None = None
    multi_class: int = 0
    post_transform: str = "NONE"

    def infer(self, X: Fact) -> tuple[Fact, Fact]:
        rows = row_count(self.op_type, X)
        return self.label_fact(X), Fact.tensor(FLOAT, (rows, len(self.labels)))

    def _count(self, X: Array) -> int:
        """How many rows the coefficients have."""
        count = len(self.labels)
        features = X.shape[-1] if X.ndim else 1
        given = len(self.intercepts or ())
        is_single = given == 1 or (not given and len(self.coefficients) == features)
        return 1 if count == 2 and is_single else count

    def reference(self, X: Array) -> tuple[Array, Array]:
        count = self._count(X)
        scores = _linear(self.op_type, X, self.coefficients, self.intercepts, count)
        if count == 1 and len(self.labels) == 2:
            best = (scores[:, 0] > 0).astype(np.int64)
            # raw scores and PROBIT's are read as the chance of the second class
            is_chance = self.post_transform in {"NONE", "PROBIT"}
            scores = np.concatenate([1 - scores if is_chance else -scores, scores], 1)
        else:
            best = scores.argmax(1)
        return self.labels[best], finished(self.op_type, scores, self.post_transform)
