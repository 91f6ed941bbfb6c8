"""Support vector machines (ai.onnx.ml)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sardonyx.dtypes import FLOAT, INT64, STRING
from sardonyx.errors import ModelError
from sardonyx.ops.fact import Fact
from sardonyx.ops.forest import choice, row_count
from sardonyx.ops.ml_linear import NUMBERS, Labelled, finished, numbers, rows_of
from sardonyx.ops.operator import Operator
from sardonyx.ops.schema import Input, Output
from sardonyx.ops.symbolic import check_size

if TYPE_CHECKING:
    from sardonyx.ir.tensor import Array

_KERNELS = ("LINEAR", "POLY", "RBF", "SIGMOID")
_CELLS = 1 << 22
_ROUNDS = 100


class _Machine(Operator):
    """What both machines share: support vectors, their coefficients and a kernel."""

    coefficients: tuple[float, ...] | None = None
    kernel_params: tuple[float, ...] | None = None
    kernel_type: str = "LINEAR"
    post_transform: str = "NONE"
    rho: tuple[float, ...] | None = None
    support_vectors: tuple[float, ...] | None = None

    def offsets(self, count: int) -> Array:
        """The first `count` values of `rho`."""
        rho = numbers(self.rho)
        if len(rho) < count:
            raise ModelError(f"{self.op_type} requires {count} values of rho, got {len(rho)}")
        return rho[:count]

    def linear(self, X: Array, count: int) -> Array:
        """`count` scores for each row of X, without support vectors: [N, count]."""
        weights = numbers(self.coefficients)
        if not weights.size or len(weights) % count:
            raise ModelError(f"{self.op_type}: {len(weights)} coefficients for {count} outputs")
        weights = weights.reshape(count, -1)
        rows = rows_of(self.op_type, X, weights.shape[1])
        check_size(self.op_type, (len(rows), count), 8)
        with np.errstate(all="ignore"):
            return np.asarray(rows @ weights.T + self.offsets(1))

    def supported(self, X: Array, count: int, weights: Array) -> Array:
        """The kernel of each row with each of `count` support vectors, times `weights`: [N, k]."""
        kernel = choice(self.op_type, "kernel_type", self.kernel_type, _KERNELS)
        vectors = numbers(self.support_vectors)
        if not vectors.size or len(vectors) % count:
            raise ModelError(
                f"{self.op_type}: {len(vectors)} values of support_vectors for {count} vectors"
            )
        vectors = vectors.reshape(count, -1)
        params = (self.kernel_params or (0.0,) * 3) if kernel == "LINEAR" else self.kernel_params
        if params is None or len(params) != 3:
            raise ModelError(f"{self.op_type} requires kernel_params: gamma, coef0 and degree")
        rows = rows_of(self.op_type, X, vectors.shape[1])
        check_size(self.op_type, (len(rows), weights.shape[1]), 8)
        scores = np.empty((len(rows), weights.shape[1]))
        step = max(1, _CELLS // max(vectors.size, 1))
        with np.errstate(all="ignore"):
            for start in range(0, len(rows), step):
                part = rows[start : start + step]
                scores[start : start + step] = _kernel(kernel, params, part, vectors) @ weights
        return scores


def _kernel(kernel: str, params: tuple[float, ...], rows: Array, vectors: Array) -> Array:
    gamma, offset, degree = params
    if kernel == "RBF":
        distances = np.square(rows[:, np.newaxis] - vectors).sum(-1)
        return np.asarray(np.exp(-gamma * distances))
    products = rows @ vectors.T
    if kernel == "POLY":
        return np.asarray((gamma * products + offset) ** degree)
    if kernel == "SIGMOID":
        return np.asarray(np.tanh(gamma * products + offset))
    return np.asarray(products)


class SVMRegressor(_Machine, since=1, domain="ai.onnx.ml"):
    """The weighted sum of each row's kernels with the support vectors, plus rho: [N, 1].

    Without support vectors the coefficients multiply X itself. With `one_class` the result is
    1 where the sum is positive, else -1.
    """

    X, Y, T = Input("T"), Output((FLOAT,)), NUMBERS
    n_supports: int = 0
    one_class: int = 0

    def infer(self, X: Fact) -> Fact:
        return Fact.tensor(FLOAT, (row_count(self.op_type, X), 1))

    def reference(self, X: Array) -> Array:
        if self.n_supports > 0:
            weights = numbers(self.coefficients)
            if len(weights) != self.n_supports:
                raise ModelError(
                    f"SVMRegressor: {len(weights)} coefficients for {self.n_supports} n_supports"
                )
            scores = self.supported(X, self.n_supports, weights[:, np.newaxis]) + self.offsets(1)
        else:
            scores = self.linear(X, 1)
        if self.one_class:
            return np.where(scores > 0, 1, -1).astype(np.float32)
        return finished(self.op_type, scores, self.post_transform)


class SVMClassifier(Labelled, _Machine, since=1, domain="ai.onnx.ml"):
    """The class of each row of X [N, F], and scores.

    With support vectors every two classes have a decision, positive for the first, and the
    class with most of them wins. Z is then these decisions d, pair by pair, or [-d, d] for two
    classes, or with `prob_a` and `prob_b` the probability of each class. Without support
    vectors Z is one linear score for each class and the highest wins.
    """

    X = Input("T1")
    Y, Z = Output("T2"), Output((FLOAT,))
    T1, T2 = NUMBERS, (STRING, INT64)
    prob_a: tuple[float, ...] | None = None
    prob_b: tuple[float, ...] | None = None
    vectors_per_class: tuple[int, ...] | None = None

    @property
    def _has_vectors(self) -> bool:
        return any(self.vectors_per_class or ())

    def infer(self, X: Fact) -> tuple[Fact, Fact]:
        classes = len(self.labels)
        columns = classes
        if self._has_vectors and not self.prob_a:
            columns = max(classes * (classes - 1) // 2, 2)
        return self.label_fact(X), Fact.tensor(FLOAT, (row_count(self.op_type, X), columns))

    def reference(self, X: Array) -> tuple[Array, Array]:
        if not self._has_vectors:
            scores = self.linear(X, len(self.labels))
            best = scores.argmax(1)
            return self.labels[best], finished(self.op_type, scores, self.post_transform)
        decisions, first, second = self._decisions(X)
        rows = np.arange(len(decisions))
        votes = np.zeros((len(decisions), len(self.labels)), np.int64)
        for pair, (i, j) in enumerate(zip(first, second, strict=True)):
            np.add.at(votes, (rows, np.where(decisions[:, pair] > 0, i, j)), 1)
        labels = self.labels[votes.argmax(1)]
        if self.prob_a:
            scores = self._probabilities(decisions, first, second)
        elif len(self.labels) == 2:
            opposite = 1 - decisions if self.post_transform == "PROBIT" else -decisions
            scores = np.concatenate([opposite, decisions], 1)
        else:
            scores = decisions
        return labels, finished(self.op_type, scores, self.post_transform)

    def _decisions(self, X: Array) -> tuple[Array, Array, Array]:
        """The decision between every two classes, [N, pairs], and the classes of each pair."""
        counts, classes = self.vectors_per_class or (), len(self.labels)
        total = sum(counts)
        weights = numbers(self.coefficients)
        if len(counts) != classes or min(counts) < 0 or classes < 2:
            raise ModelError(
                f"SVMClassifier: {len(counts)} vectors_per_class for {classes} classes; "
                "each is 0 or more, and there are at least 2 classes"
            )
        if len(weights) != (classes - 1) * total:
            raise ModelError(
                f"SVMClassifier: {len(weights)} coefficients, {(classes - 1) * total} needed for "
                f"{total} support vectors and {classes} classes"
            )
        weights = weights.reshape(classes - 1, total)
        first, second = np.triu_indices(classes, 1)
        offsets = self.offsets(len(first))
        check_size(self.op_type, (total, len(first)), 8)
        ends = np.cumsum(counts)
        combined = np.zeros((total, len(first)))
        for pair, (i, j) in enumerate(zip(first, second, strict=True)):
            for own, row in ((i, j - 1), (j, i)):
                chosen = slice(ends[own] - counts[own], ends[own])
                combined[chosen, pair] = weights[row, chosen]
        return self.supported(X, total, combined) + offsets, first, second

    def _probabilities(self, decisions: Array, first: Array, second: Array) -> Array:
        slope, shift = numbers(self.prob_a), numbers(self.prob_b)
        if min(len(slope), len(shift)) < len(first):
            raise ModelError(
                f"SVMClassifier: {len(slope)} prob_a and {len(shift)} prob_b for {len(first)} "
                "pairs of classes"
            )
        with np.errstate(all="ignore"):
            exponent = decisions * slope[: len(first)] + shift[: len(first)]
            chances = 0.5 - np.tanh(exponent / 2) / 2
        classes = len(self.labels)
        check_size(self.op_type, (len(decisions), classes, classes), 8)
        pairwise = np.zeros((len(decisions), classes, classes))
        pairwise[:, first, second] = np.clip(chances, 1e-7, 1 - 1e-7)
        pairwise[:, second, first] = 1 - pairwise[:, first, second]
        with np.errstate(all="ignore"):
            return _coupled(pairwise)


def _coupled(pairwise: Array) -> Array:
    """Class probabilities [N, C] from those of each class against each other, [N, C, C].

    Source: T.-F. Wu, C.-J. Lin, R. C. Weng, "Probability estimates for multi-class
    classification by pairwise coupling", JMLR 5 (2004), algorithm 2.
    """
    count, classes = pairwise.shape[:2]
    opposite = pairwise.transpose(0, 2, 1)
    matrix = -opposite * pairwise
    diagonal = np.arange(classes)
    matrix[:, diagonal, diagonal] = np.square(pairwise).sum(1)
    result = np.full((count, classes), 1 / classes)
    active = np.arange(count)
    for _ in range(max(_ROUNDS, classes)):
        pull = np.einsum("nij,nj->ni", matrix[active], result[active])
        total = (result[active] * pull).sum(1)
        going = ~(np.abs(pull - total[:, np.newaxis]).max(1) < 0.005 / classes)
        active, pull, total = active[going], pull[going], total[going]
        if not active.size:
            break
        q, p = matrix[active], result[active]
        for t in range(classes):
            step = (total - pull[:, t]) / q[:, t, t]
            p[:, t] += step
            growth = 1 + step
            total = (total + step * (step * q[:, t, t] + 2 * pull[:, t])) / np.square(growth)
            pull = (pull + step[:, np.newaxis] * q[:, t]) / growth[:, np.newaxis]
            p /= growth[:, np.newaxis]
        result[active] = p
    return result
