"""Ensembles of decision trees (ai.onnx.ml)."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from sardonyx.dtypes import DOUBLE, FLOAT, INT32, INT64, STRING
from sardonyx.errors import ModelError, quote
from sardonyx.ir.tensor import Tensor  # noqa: TC001 - annotations are read at run time
from sardonyx.ops import types
from sardonyx.ops.fact import Fact
from sardonyx.ops.forest import (
    AGGREGATES,
    MEMBER,
    MODES,
    TRANSFORMS,
    Forest,
    choice,
    feature_rows,
    int64s,
    row_count,
    same_lengths,
    transformed,
    vector,
    votes,
)
from sardonyx.ops.operator import Operator
from sardonyx.ops.schema import Input, Output, attribute, past
from sardonyx.ops.windows import check_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sardonyx.ir.tensor import Array


class TreeEnsemble(Operator, since=5, domain="ai.onnx.ml"):
    """The aggregated weights of the leaves that each row of X reaches, [N, n_targets]."""

    X, Y = Input("T", "[N, F]."), Output("T", "[N, n_targets].")
    T = types.FLOATS
    aggregate_function: int = 1
    leaf_targetids: tuple[int, ...] = attribute()
    leaf_weights: Tensor = attribute()
    membership_values: Tensor | None = None
    n_targets: int | None = None
    nodes_falseleafs: tuple[int, ...] = attribute()
    nodes_falsenodeids: tuple[int, ...] = attribute()
    nodes_featureids: tuple[int, ...] = attribute()
    nodes_hitrates: Tensor | None = None
    nodes_missing_value_tracks_true: tuple[int, ...] | None = None
    nodes_modes: Tensor = attribute()
    nodes_splits: Tensor = attribute()
    nodes_trueleafs: tuple[int, ...] = attribute()
    nodes_truenodeids: tuple[int, ...] = attribute()
    post_transform: int = 0
    tree_roots: tuple[int, ...] = attribute()

    @property
    def targets(self) -> int:
        """The number of targets: what is given, or what the leaves need."""
        needed = max(self.leaf_targetids, default=-1) + 1
        count = needed if self.n_targets is None else self.n_targets
        if needed > count or min(self.leaf_targetids, default=0) < 0 or count < 1:
            raise ModelError(f"TreeEnsemble: a leaf_targetids value is outside [0, {count})")
        return count

    def infer(self, X: Fact) -> Fact:
        return Fact.tensor(X.dtype, (row_count(self.op_type, X), self.targets))

    @cached_property
    def trees(self) -> Forest:
        """The trees as arrays."""
        modes, splits = self.nodes_modes.numpy().reshape(-1), vector(self.nodes_splits)
        weights = vector(self.leaf_weights)
        assert splits is not None
        assert weights is not None
        missing = self.nodes_missing_value_tracks_true
        count = same_lengths(
            self.op_type,
            nodes_featureids=self.nodes_featureids,
            nodes_modes=modes,
            nodes_splits=splits,
            nodes_truenodeids=self.nodes_truenodeids,
            nodes_falsenodeids=self.nodes_falsenodeids,
            nodes_trueleafs=self.nodes_trueleafs,
            nodes_falseleafs=self.nodes_falseleafs,
            nodes_missing_value_tracks_true=missing or None,
        )
        leaves = same_lengths(
            self.op_type, leaf_targetids=self.leaf_targetids, leaf_weights=weights
        )
        if modes.size and int(modes.max()) > MEMBER:
            raise ModelError(f"TreeEnsemble: node mode {modes.max()} is not in [0, {MEMBER}]")
        sets, members, codes = self._members(modes)
        start, target, weight = votes(
            np.arange(leaves), int64s(self.leaf_targetids), weights, leaves
        )
        forest = Forest(
            int64s(self.nodes_featureids),
            modes.astype(np.int64),
            splits,
            self._links("nodes_truenodeids", self.nodes_truenodeids, self.nodes_trueleafs),
            self._links("nodes_falsenodeids", self.nodes_falsenodeids, self.nodes_falseleafs),
            np.array(missing, bool) if missing else np.zeros(count, bool),
            self._links("tree_roots", self.tree_roots, (0,) * len(self.tree_roots)),
            start,
            target,
            weight,
            sets,
            members,
            codes,
        )
        forest.check(self.op_type)
        return forest

    def _links(self, name: str, ids: Sequence[int], are_leaves: Sequence[int]) -> Array:
        links = int64s(ids)
        if links.size and links.min() < 0:
            raise ModelError(f"TreeEnsemble: {name} has {links.min()}, an index is never negative")
        return np.where(np.array(are_leaves, bool), ~links, links)

    def _members(self, modes: Array) -> tuple[Array, Array, Array]:
        testing = np.flatnonzero(modes == MEMBER)
        sets = np.zeros(len(modes), np.int64)
        sets[testing] = np.arange(len(testing))
        values = vector(self.membership_values)
        if values is None:
            values = np.zeros(0, np.float32)
        ends = np.isnan(values)
        count = int(ends.sum()) + (len(values) > 0 and not ends[-1])
        if count != len(testing):
            raise ModelError(
                f"TreeEnsemble: membership_values holds {count} sets, "
                f"{len(testing)} nodes test membership"
            )
        owner = np.cumsum(ends)[~ends]
        members, place = np.unique(values[~ends], return_inverse=True)
        return sets, members, np.unique(owner * max(len(members), 1) + place)

    def reference(self, X: Array) -> Array:
        forest = self.trees
        aggregate = choice(self.op_type, "aggregate_function", self.aggregate_function, AGGREGATES)
        transform = choice(self.op_type, "post_transform", self.post_transform, TRANSFORMS)
        features = feature_rows(self.op_type, X, forest)
        check_bytes((len(features), self.targets), 8)
        scores = forest.scores(features, self.targets, aggregate)
        with np.errstate(all="ignore"):
            return transformed(scores, transform).astype(X.dtype)


class _Legacy(Operator):
    """What the two older ensembles share: nodes named by a tree id and a node id."""

    base_values: tuple[float, ...] | None = None
    base_values_as_tensor: Tensor | None = attribute(None, since=3)
    nodes_falsenodeids: tuple[int, ...] | None = None
    nodes_featureids: tuple[int, ...] | None = None
    nodes_hitrates: tuple[float, ...] | None = None
    nodes_hitrates_as_tensor: Tensor | None = attribute(None, since=3)
    nodes_missing_value_tracks_true: tuple[int, ...] | None = None
    nodes_modes: tuple[str, ...] | None = None
    nodes_nodeids: tuple[int, ...] | None = None
    nodes_treeids: tuple[int, ...] | None = None
    nodes_truenodeids: tuple[int, ...] | None = None
    nodes_values: tuple[float, ...] | None = None
    nodes_values_as_tensor: Tensor | None = attribute(None, since=3)
    post_transform: str = "NONE"

    def either(self, name: str) -> Array:
        """The attribute `name`, or its twin that holds a tensor; empty where both are absent."""
        tensor = vector(getattr(self, f"{name}_as_tensor"))
        if tensor is not None and tensor.size:
            return tensor
        return np.array(getattr(self, name) or (), np.float32)

    def forest(
        self,
        tree_ids: Sequence[int] | None,
        node_ids: Sequence[int] | None,
        targets: Sequence[int] | None,
        weights: Array,
        n_targets: int,
    ) -> Forest:
        """The trees; leaf (tree id, node id) votes for a target with a weight."""
        trees, nodes = self.nodes_treeids or (), self.nodes_nodeids or ()
        modes, splits = self.nodes_modes or (), self.either("nodes_values")
        true, false = self.nodes_truenodeids or (), self.nodes_falsenodeids or ()
        features = self.nodes_featureids or ()
        missing = self.nodes_missing_value_tracks_true
        count = same_lengths(
            self.op_type,
            nodes_treeids=trees,
            nodes_nodeids=nodes,
            nodes_modes=modes,
            nodes_values=splits,
            nodes_truenodeids=true,
            nodes_falsenodeids=false,
            nodes_featureids=features,
            nodes_missing_value_tracks_true=missing or None,
        )
        where = {pair: index for index, pair in enumerate(zip(trees, nodes, strict=True))}
        if len(where) < count:
            raise ModelError(f"{self.op_type}: two nodes of one tree have the same id")
        # interior nodes are numbered 0, 1, ..., leaves ~0, ~1, ...
        is_leaf = np.array([mode == "LEAF" for mode in modes], bool)
        number = np.where(is_leaf, ~(np.cumsum(is_leaf) - 1), np.cumsum(~is_leaf) - 1)
        inner = np.flatnonzero(~is_leaf).tolist()
        roots: dict[int, int] = {}
        for index, tree in enumerate(trees):
            roots.setdefault(tree, int(number[index]))
        start, target, weight = self._leaf_votes(
            where, number, tree_ids or (), node_ids or (), targets or (), weights, n_targets
        )
        result = Forest(
            int64s([features[index] for index in inner]),
            int64s([self._mode(modes[index]) for index in inner]),
            splits[inner],
            int64s([self._child(where, number, trees[i], true[i]) for i in inner]),
            int64s([self._child(where, number, trees[i], false[i]) for i in inner]),
            np.array([missing[i] for i in inner] if missing else [False] * len(inner), bool),
            int64s(list(roots.values())),
            start,
            target,
            weight,
            np.zeros(len(inner), np.int64),
            np.zeros(0, np.float32),
            np.zeros(0, np.int64),
        )
        result.check(self.op_type)
        return result

    def _mode(self, mode: str) -> int:
        if mode not in MODES:
            raise ModelError(f"{self.op_type}: node mode {quote(mode)} is unknown")
        return MODES[mode]

    def _child(self, where: dict[tuple[int, int], int], number: Array, tree: int, node: int) -> int:
        if (tree, node) not in where:
            raise ModelError(
                f"{self.op_type}: tree {tree} has no node {node}, a branch leads there"
            )
        return int(number[where[tree, node]])

    def _leaf_votes(
        self,
        where: dict[tuple[int, int], int],
        number: Array,
        tree_ids: Sequence[int],
        node_ids: Sequence[int],
        targets: Sequence[int],
        weights: Array,
        n_targets: int,
    ) -> tuple[Array, Array, Array]:
        same_lengths(self.op_type, treeids=tree_ids, nodeids=node_ids, ids=targets, weights=weights)
        pairs = list(zip(tree_ids, node_ids, strict=True))
        unknown = next((pair for pair in pairs if pair not in where), None)
        if unknown:
            raise ModelError(
                f"{self.op_type}: a weight is for node {unknown[1]} of tree {unknown[0]}, "
                "which does not exist"
            )
        target = int64s(targets)
        if target.size and not (target.min() >= 0 and target.max() < n_targets):
            raise ModelError(f"{self.op_type}: a weight's target is outside [0, {n_targets})")
        leaf = ~number[int64s([where[pair] for pair in pairs])] if pairs else int64s([])
        # a weight of an interior node never counts
        counts = leaf >= 0
        leaves = int((number < 0).sum())
        return votes(leaf[counts], target[counts], weights[counts], leaves)

    def based(self, scores: Array) -> Array:
        """`scores` plus the base values."""
        base = self.either("base_values")
        if base.size not in {0, 1, scores.shape[1]}:
            raise ModelError(
                f"{self.op_type}: {base.size} base_values for {scores.shape[1]} outputs"
            )
        return scores + base.astype(np.float64) if base.size else scores


class TreeEnsembleRegressor(_Legacy, since=5, domain="ai.onnx.ml"):
    """The aggregated weights of the leaves that each row of X reaches, [N, n_targets]."""

    X, Y = Input("T", "[N, F]."), Output((FLOAT,), "[N, n_targets].")
    T = (FLOAT, DOUBLE, INT64, INT32)
    aggregate_function: str = "SUM"
    n_targets: int | None = None
    target_ids: tuple[int, ...] | None = None
    target_nodeids: tuple[int, ...] | None = None
    target_treeids: tuple[int, ...] | None = None
    target_weights: tuple[float, ...] | None = None
    target_weights_as_tensor: Tensor | None = attribute(None, since=3)
    deprecated = True
    history = past(3, deprecated=False), past(1)

    @property
    def targets(self) -> int:
        """The number of targets: what is given, or what the weights need."""
        count = self.n_targets or max(self.target_ids or (), default=0) + 1
        if count < 1:
            raise ModelError(f"TreeEnsembleRegressor: n_targets is {count}, not > 0")
        return count

    def infer(self, X: Fact) -> Fact:
        return Fact.tensor(FLOAT, (row_count(self.op_type, X), self.targets))

    @cached_property
    def trees(self) -> Forest:
        """The trees as arrays."""
        return self.forest(
            self.target_treeids,
            self.target_nodeids,
            self.target_ids,
            self.either("target_weights"),
            self.targets,
        )

    def reference(self, X: Array) -> Array:
        aggregate = choice(self.op_type, "aggregate_function", self.aggregate_function, AGGREGATES)
        transform = choice(self.op_type, "post_transform", self.post_transform, TRANSFORMS)
        features = feature_rows(self.op_type, X, self.trees)
        check_bytes((len(features), self.targets), 8)
        scores = self.trees.scores(features, self.targets, aggregate)
        with np.errstate(all="ignore"):
            return transformed(self.based(scores), transform).astype(np.float32)


class TreeEnsembleClassifier(_Legacy, since=5, domain="ai.onnx.ml"):
    """The class with the highest score of each row of X, and all scores.

    With two classes and votes for only one of them, that vote is the positive class's score:
    the other's is 1 - score where all weights are positive, else its negative, and so always where
    LOGISTIC makes chances of them. The class is the positive one above 0.5 or above 0.
    """

    X = Input("T1", "[N, F].")
    Y, Z = Output("T2", "[N]."), Output((FLOAT,), "[N, classes].")
    T1, T2 = (FLOAT, DOUBLE, INT64, INT32), (STRING, INT64)
    class_ids: tuple[int, ...] | None = None
    class_nodeids: tuple[int, ...] | None = None
    class_treeids: tuple[int, ...] | None = None
    class_weights: tuple[float, ...] | None = None
    class_weights_as_tensor: Tensor | None = attribute(None, since=3)
    classlabels_int64s: tuple[int, ...] | None = None
    classlabels_strings: tuple[str, ...] | None = None
    deprecated = True
    history = past(3, deprecated=False), past(1)

    @cached_property
    def labels(self) -> Array:
        """The class labels."""
        integers, strings = self.classlabels_int64s, self.classlabels_strings
        if bool(integers) == bool(strings):
            raise ModelError(
                "TreeEnsembleClassifier needs one of classlabels_int64s and classlabels_strings"
            )
        if integers:
            return int64s(integers)
        found = np.empty(len(strings or ()), object)
        found[:] = strings
        return found

    def infer(self, X: Fact) -> tuple[Fact, Fact]:
        rows, labels = row_count(self.op_type, X), self.labels
        dtype = STRING if labels.dtype == object else INT64
        return Fact.tensor(dtype, (rows,)), Fact.tensor(FLOAT, (rows, len(labels)))

    @cached_property
    def trees(self) -> Forest:
        """The trees as arrays."""
        return self.forest(
            self.class_treeids,
            self.class_nodeids,
            self.class_ids,
            self.either("class_weights"),
            len(self.labels),
        )

    def reference(self, X: Array) -> tuple[Array, Array]:
        transform = choice(self.op_type, "post_transform", self.post_transform, TRANSFORMS)
        features = feature_rows(self.op_type, X, self.trees)
        count = len(self.labels)
        check_bytes((len(features), count), 8)
        scores = self.trees.scores(features, count, "SUM")
        if count == 2 and len(set(self.class_ids or ())) == 1:
            best, scores = self._binary(scores, transform)
        else:
            scores = self.based(scores)
            best = scores.argmax(1)
            scores = transformed(scores, transform)
        with np.errstate(all="ignore"):
            return self.labels[best], scores.astype(np.float32)

    def _binary(self, scores: Array, transform: str) -> tuple[Array, Array]:
        voted = (self.class_ids or (0,))[0]
        base = self.either("base_values").astype(np.float64)
        positive = scores[:, voted] + (base[-1] if base.size else 0.0)
        weights = self.either("class_weights")
        if weights.size and weights.min() >= 0:
            best = positive > 0.5
            opposite = -positive if transform == "LOGISTIC" else 1 - positive
        else:
            best = positive > 0
            opposite = -positive
        return best.astype(np.int64), transformed(np.stack([opposite, positive], 1), transform)
