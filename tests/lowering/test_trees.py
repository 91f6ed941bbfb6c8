"""Ensembles of trees, compiled, against the reference."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from onnx import helper
from tests.lowering.compiled import check, random

if TYPE_CHECKING:
    from collections.abc import Sequence

ML = "ai.onnx.ml"
FEATURES = 5
MODES = ["BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ"]
SPLITS = (-1.5, -0.5, 0.0, 0.5, 1.0, 2.0)


class Trees:
    """Random trees of uneven depth, as the attributes of the older operators."""

    def __init__(
        self,
        count: int,
        depth: int,
        modes: Sequence[str],
        *,
        seed: int = 0,
        splits: Sequence[float] = SPLITS,
    ) -> None:
        self.random = np.random.default_rng(seed)
        self.nodes: dict[str, list[Any]] = {
            name: []
            for name in (
                "treeids",
                "nodeids",
                "featureids",
                "values",
                "modes",
                "truenodeids",
                "falsenodeids",
                "missing_value_tracks_true",
            )
        }
        self.leaves: list[tuple[int, int]] = []
        self.modes, self.splits = modes, splits
        for tree in range(count):
            self.next = 0
            self.grow(tree, depth)

    def grow(self, tree: int, depth: int) -> int:
        number = self.next
        self.next += 1
        place = len(self.nodes["treeids"])
        is_leaf = depth == 0 or self.random.random() < 0.15
        row = {
            "treeids": tree,
            "nodeids": number,
            "featureids": 0 if is_leaf else int(self.random.integers(FEATURES)),
            "values": 0.0 if is_leaf else float(self.random.choice(self.splits)),
            "modes": "LEAF" if is_leaf else str(self.random.choice(self.modes)),
            "truenodeids": 0,
            "falsenodeids": 0,
            "missing_value_tracks_true": int(self.random.integers(2)),
        }
        for name, value in row.items():
            self.nodes[name].append(value)
        if is_leaf:
            self.leaves.append((tree, number))
        else:
            for branch in ("truenodeids", "falsenodeids"):
                self.nodes[branch][place] = self.grow(tree, depth - 1)
        return number

    def attributes(
        self, prefix: str, targets: str, *, missing: bool = True, low: float = -2
    ) -> dict[str, Any]:
        """The attributes, with votes of each leaf for `targets`: "0", "one", "all" or "any"."""
        votes: list[tuple[int, int, int]] = []
        for tree, node in self.leaves:
            chosen = {"0": [1], "one": [tree % 3], "all": [0, 1, 2]}.get(targets)
            if chosen is None:
                chosen = self.random.integers(0, 3, int(self.random.integers(4))).tolist()
            votes += [(tree, node, target) for target in chosen]
        names = ("treeids", "nodeids", "ids")
        columns = [list(column) for column in zip(*votes, strict=True)] or [[], [], []]
        found: dict[str, Any] = {f"nodes_{name}": values for name, values in self.nodes.items()}
        if not missing:
            del found["nodes_missing_value_tracks_true"]
        found.update((f"{prefix}_{name}", c) for name, c in zip(names, columns, strict=True))
        found[f"{prefix}_weights"] = (self.random.random(len(votes)) * (1 - low) + low).tolist()
        return found


def rows(n: int, dtype: Any = np.float32) -> Any:
    found = np.round(random(n, FEATURES, dtype=dtype) * 2) / 2
    found = found.astype(dtype)
    if found.dtype.kind == "f" and found.size:
        found.reshape(-1)[::7] = np.nan
        found.reshape(-1)[3::11] = np.inf
        found.reshape(-1)[5::13] = -np.inf
    return found


def regress(trees: Trees, dtype: Any = np.float32, targets: str = "any", **given: Any) -> None:
    attributes = trees.attributes("target", targets, missing=given.pop("missing", True))
    check(
        "TreeEnsembleRegressor",
        lambda n: [rows(n, dtype)],
        opset=3,
        domain=ML,
        n_targets=3,
        sizes=(5, 9, 1, 64, 65, 0),
        **attributes,
        **given,
    )


@pytest.mark.parametrize("mode", MODES)
def test_tests(mode: str) -> None:
    """Each test of a node, with elements that equal the split, NaNs and infinities."""
    regress(Trees(5, 4, [mode]))


@pytest.mark.parametrize("dtype", [np.float64, np.int64, np.int32])
def test_types(dtype: Any) -> None:
    regress(Trees(5, 4, MODES), dtype)


@pytest.mark.parametrize("missing", [True, False])
@pytest.mark.parametrize("targets", ["0", "one", "all", "any"])
def test_votes(targets: str, missing: bool) -> None:
    regress(Trees(11, 6, MODES[:4]), targets=targets, missing=missing)


@pytest.mark.parametrize("aggregate", ["SUM", "AVERAGE", "MIN", "MAX"])
@pytest.mark.parametrize("targets", ["0", "any"])
def test_aggregates(aggregate: str, targets: str) -> None:
    regress(Trees(9, 3, MODES), targets=targets, aggregate_function=aggregate)


@pytest.mark.parametrize("transform", ["NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO"])
def test_transforms(transform: str) -> None:
    base = [0.5] if transform == "NONE" else [0.5, -1.0, 2.0]
    regress(Trees(6, 3, MODES), post_transform=transform, base_values=base)


@pytest.mark.parametrize(("count", "depth"), [(1, 0), (8, 1), (1, 14), (17, 14)])
def test_shapes(count: int, depth: int) -> None:
    """Leaves as roots, deep trees, and groups that are not full."""
    regress(Trees(count, depth, ["BRANCH_LEQ"]), targets="one")


@pytest.mark.parametrize("mode", MODES[:4])
def test_splits_at_the_ends(mode: str) -> None:
    splits = (np.inf, -np.inf, np.nan, 0.0, -0.0, 1e-45, 3.4028235e38)
    regress(Trees(8, 4, [mode], splits=splits))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_double_splits(dtype: Any) -> None:
    """A split between two FLOATs parts them as it is."""
    trees = Trees(5, 3, MODES, splits=(0.5 + 1e-12, 0.5 - 1e-12, 1.0, 1e300, -1e300))
    attributes = trees.attributes("target", "any")
    values = np.array(attributes.pop("nodes_values"), np.float64)
    attributes["nodes_values_as_tensor"] = helper.make_tensor(
        "values", 11, values.shape, values.tobytes(), raw=True
    )
    check(
        "TreeEnsembleRegressor",
        lambda n: [rows(n, dtype)],
        opset=3,
        domain=ML,
        n_targets=3,
        **attributes,
    )


@pytest.mark.parametrize(
    ("targets", "transform", "low"),
    [
        ("0", "NONE", 0),
        ("0", "NONE", -2),
        ("0", "LOGISTIC", 0),
        ("0", "LOGISTIC", -2),
        ("0", "SOFTMAX", 0),
        ("all", "NONE", 0),
        ("one", "SOFTMAX", -2),
        ("any", "LOGISTIC", -2),
    ],
)
def test_classes(targets: str, transform: str, low: float) -> None:
    labels = [7, -3] if targets == "0" else [7, -3, 11]
    check(
        "TreeEnsembleClassifier",
        lambda n: [rows(n)],
        opset=3,
        domain=ML,
        n_outputs=2,
        classlabels_int64s=labels,
        post_transform=transform,
        **Trees(10, 4, MODES).attributes("class", targets, low=low),
    )


def test_too_few_features() -> None:
    """A run with fewer features than the trees read is the reference's, which names them."""
    check(
        "TreeEnsembleRegressor",
        lambda n: [random(2, n)],
        opset=3,
        domain=ML,
        n_targets=3,
        sizes=(5, 9, 1, 0),
        **Trees(4, 4, MODES).attributes("target", "any"),
    )


@pytest.mark.parametrize("members", [[1.0, np.nan, 0.5, 2.0, np.nan], [np.nan, -1.5, np.nan]])
def test_ensemble_of_sets(members: list[float]) -> None:
    """The newest operator, with nodes that test whether a feature is in a set."""

    def tensor(code: int, values: Sequence[float]) -> Any:
        return helper.make_tensor("values", code, [len(values)], values)

    check(
        "TreeEnsemble",
        lambda n: [rows(n)],
        opset=5,
        domain=ML,
        n_targets=2,
        aggregate_function=1,
        tree_roots=[0],
        nodes_featureids=[0, 1, 2],
        nodes_modes=tensor(2, [6, 6, 1]),
        nodes_splits=tensor(1, [0.0, 0.0, 0.5]),
        nodes_truenodeids=[0, 1, 2],
        nodes_trueleafs=[1, 1, 1],
        nodes_falsenodeids=[1, 2, 3],
        nodes_falseleafs=[0, 0, 1],
        nodes_missing_value_tracks_true=[0, 1, 0],
        membership_values=tensor(1, members),
        leaf_targetids=[0, 1, 0, 1],
        leaf_weights=tensor(1, [1.0, 10.0, 100.0, 1000.0]),
    )
