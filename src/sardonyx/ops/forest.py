"""Forests of decision trees as arrays, and what a row of features makes of them."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np

from sardonyx.errors import ExecutionError, InferenceError, ModelError, quote
from sardonyx.ops.windows import check_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sardonyx.ir.tensor import Array, Tensor
    from sardonyx.ir.types import DimLike
    from sardonyx.ops.fact import Fact

LEQ, LT, GTE, GT, EQ, NEQ, MEMBER = range(7)
MODES = {
    "BRANCH_LEQ": LEQ,
    "BRANCH_LT": LT,
    "BRANCH_GTE": GTE,
    "BRANCH_GT": GT,
    "BRANCH_EQ": EQ,
    "BRANCH_NEQ": NEQ,
}
AGGREGATES = ("AVERAGE", "SUM", "MIN", "MAX")
TRANSFORMS = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT")
_CELLS = 1 << 20


@dataclass(frozen=True, slots=True)
class Forest:
    """Trees as arrays. A child or root >= 0 is an interior node, below 0 it is leaf ~child.

    Leaf i casts the votes `vote_target`, `vote_weight` from `vote_start[i]` to
    `vote_start[i + 1]`. A member node tests set `member_set[node]`; `member_codes` holds
    set * len(members) + place in `members` of each element.
    """

    feature: Array
    mode: Array
    split: Array
    on_true: Array
    on_false: Array
    missing_is_true: Array
    roots: Array
    vote_start: Array
    vote_target: Array
    vote_weight: Array
    member_set: Array
    members: Array
    member_codes: Array

    def check(self, op_type: str) -> None:
        """Raise `ModelError` unless walking from any root ends in a leaf."""
        count, leaves = len(self.feature), len(self.vote_start) - 1
        for name, links in (
            ("root", self.roots),
            ("true branch", self.on_true),
            ("false branch", self.on_false),
        ):
            if links.size and not (-leaves <= links.min() and links.max() < count):
                raise ModelError(
                    f"{op_type}: a {name} names a node or leaf that does not exist "
                    f"({count} nodes, {leaves} leaves)"
                )
        if self.feature.size and self.feature.min() < 0:
            raise ModelError(f"{op_type}: feature id {self.feature.min()} is negative")
        children = np.concatenate([self.on_true, self.on_false])
        parents = np.bincount(children[children >= 0], minlength=count)
        # with one parent each and none for the roots, no walk from a root meets a node twice
        if parents.size and (
            parents.max() > 1 or parents[self.roots[self.roots >= 0]].max(initial=0) > 0
        ):
            self._check_acyclic(op_type, parents)

    def _check_acyclic(self, op_type: str, parents: Array) -> None:
        remaining = parents.tolist()
        true, false = self.on_true.tolist(), self.on_false.tolist()
        ready = [node for node, count in enumerate(remaining) if count == 0]
        done = 0
        while ready:
            node = ready.pop()
            done += 1
            for child in (true[node], false[node]):
                if child >= 0:
                    remaining[child] -= 1
                    if remaining[child] == 0:
                        ready.append(child)
        if done < len(remaining):
            raise ModelError(f"{op_type}: the nodes' branches form a cycle")

    def leaves(self, X: Array) -> Array:
        """The leaf that each row reaches in each tree, [rows, trees]."""
        state = np.broadcast_to(self.roots, (len(X), len(self.roots))).reshape(-1).copy()
        rows = np.repeat(np.arange(len(X)), len(self.roots))
        active = np.flatnonzero(state >= 0)
        while active.size:
            node = state[active]
            value = X[rows[active], self.feature[node]]
            taken = np.where(
                np.isnan(value), self.missing_is_true[node], self._compare(node, value)
            )
            state[active] = np.where(taken, self.on_true[node], self.on_false[node])
            active = active[state[active] >= 0]
        return np.asarray(~state).reshape(len(X), len(self.roots))

    def _compare(self, node: Array, value: Array) -> Array:
        split, mode = self.split[node], self.mode[node]
        modes = np.unique(mode)
        results = np.zeros(len(node), bool)
        for code in modes:
            chosen = slice(None) if len(modes) == 1 else mode == code
            x, s = value[chosen], split[chosen]
            if code == MEMBER:
                results[chosen] = self._is_member(node[chosen], x)
            else:
                results[chosen] = (x <= s, x < s, x >= s, x > s, x == s, x != s)[code]
        return results

    def _is_member(self, node: Array, value: Array) -> Array:
        if not self.members.size:
            return np.zeros(len(node), bool)
        place = np.minimum(np.searchsorted(self.members, value), len(self.members) - 1)
        code = self.member_set[node] * len(self.members) + place
        return np.asarray((self.members[place] == value) & np.isin(code, self.member_codes))

    def scores(self, X: Array, n_targets: int, aggregate: str) -> Array:
        """What the leaves' votes add up to, [rows, n_targets] DOUBLE; 0 where there is none."""
        totals = np.zeros((len(X), n_targets))
        block = max(1, _CELLS // max(len(self.roots), n_targets, 1))
        for start in range(0, len(X), block):
            stop = min(start + block, len(X))
            leaf = self.leaves(X[start:stop])
            counts = self.vote_start[leaf + 1] - self.vote_start[leaf]
            total = int(counts.sum())
            check_bytes((total,), 24)
            ends = np.cumsum(counts.reshape(-1))
            firsts = np.repeat(self.vote_start[leaf].reshape(-1) - (ends - counts.reshape(-1)),
                               counts.reshape(-1))  # fmt: skip
            votes = firsts + np.arange(total)
            row = np.repeat(np.arange(stop - start), counts.sum(1))
            cell = row * n_targets + self.vote_target[votes]
            weight = self.vote_weight[votes]
            size = (stop - start) * n_targets
            part = _aggregated(cell, weight, size, aggregate)
            if aggregate == "AVERAGE":
                part /= max(len(self.roots), 1)
            totals[start:stop] = part.reshape(-1, n_targets)
        return totals


def _aggregated(cell: Array, weight: Array, size: int, aggregate: str) -> Array:
    if aggregate in {"SUM", "AVERAGE"}:
        return np.bincount(cell, weight, size)
    start, function = (np.inf, np.minimum) if aggregate == "MIN" else (-np.inf, np.maximum)
    result = np.full(size, start)
    function.at(result, cell, weight)
    touched = np.zeros(size, bool)
    touched[cell] = True
    return np.where(touched, result, 0.0)


def transformed(scores: Array, transform: str) -> Array:
    """`scores` after the standard's post_transform."""
    with np.errstate(all="ignore"):
        if transform == "LOGISTIC":
            return np.asarray(np.tanh(scores / 2) / 2 + 0.5)
        if transform in {"SOFTMAX", "SOFTMAX_ZERO"}:
            powers = np.exp(scores - scores.max(1, keepdims=True, initial=-np.inf))
            if transform == "SOFTMAX_ZERO":
                powers = np.where(np.abs(scores) > 1e-7, powers, 0.0)
            total = powers.sum(1, keepdims=True)
            return np.asarray(np.where(total == 0, 0.0, powers / total))
        if transform == "PROBIT":
            return _probit(scores)
    return scores


def _probit(scores: Array) -> Array:
    quantile = NormalDist().inv_cdf
    flat = [
        quantile(p) if 0 < p < 1 else {0.0: -np.inf, 1.0: np.inf}.get(p, np.nan)
        for p in scores.reshape(-1).tolist()
    ]
    return np.array(flat, np.float64).reshape(scores.shape)


def feature_rows(op_type: str, X: Array, forest: Forest) -> Array:
    """`X` as rows of features; refuses too few columns for the forest."""
    X = X.reshape(1, -1) if X.ndim == 1 else X
    if X.ndim != 2:
        raise InferenceError(f"{op_type}: X is [N, F], got rank {X.ndim}")
    if forest.feature.size and X.shape[1] <= forest.feature.max():
        raise ExecutionError(
            f"{op_type}: the trees read feature {forest.feature.max()}, X has {X.shape[1]} features"
        )
    return (
        X
        if X.dtype.kind == "f" and X.itemsize > 2
        else X.astype(np.float32 if X.dtype == np.float16 else np.float64)
    )


def row_count(op_type: str, X: Fact) -> DimLike:
    """The number of rows of `X`, one where it has rank 1."""
    if X.shape is None:
        return None
    if len(X.shape) not in {1, 2}:
        raise InferenceError(f"{op_type}: X is [N, F], got rank {len(X.shape)}")
    return X.shape[0] if len(X.shape) == 2 else 1


def choice(op_type: str, name: str, value: str | int, known: Sequence[str]) -> str:
    """`value`, a name or its number, as one of the `known` names."""
    if isinstance(value, int) and 0 <= value < len(known):
        return known[value]
    if isinstance(value, str) and value in known:
        return value
    raise ModelError(f"{op_type}: {name} {quote(value)} is not one of {', '.join(known)}")


def votes(leaf: Array, target: Array, weight: Array, leaves: int) -> tuple[Array, Array, Array]:
    """Votes sorted by leaf: where each leaf's begin, their targets and weights."""
    order = np.argsort(leaf, kind="stable")
    counts = np.bincount(leaf, minlength=leaves)
    start = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return start, target[order], weight[order].astype(np.float64)


def same_lengths(op_type: str, **lists: Sequence[Any] | Array | None) -> int:
    """The one length of all `lists` that are given; refuses different ones."""
    lengths = {name: len(values) for name, values in lists.items() if values is not None}
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{name}: {length}" for name, length in lengths.items())
        raise ModelError(f"{op_type}: these attributes need one length, they have {listed}")
    return next(iter(lengths.values()), 0)


def vector(tensor: Tensor | None) -> Array | None:
    """The contents of a rank 1 tensor attribute, or None."""
    if tensor is None:
        return None
    array = tensor.numpy().reshape(-1)
    return array.astype(np.float32) if array.dtype == np.float16 else array


def int64s(values: Sequence[int]) -> Array:
    """`values` as an int64 array."""
    return np.array(values, np.int64)
