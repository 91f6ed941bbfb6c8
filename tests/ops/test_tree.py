from __future__ import annotations

import time

import numpy as np
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from differential import close, rng
from sardonyx.dtypes import FLOAT, from_numpy
from sardonyx.errors import ExecutionError, LimitError, ModelError
from sardonyx.ir.tensor import ArrayTensor
from sardonyx.ops import registry
from sardonyx.ops.fact import Fact
from single_operator import OLD_WITNESS

DOMAIN = "ai.onnx.ml"


def apply(name, x, version, **attributes):
    results = parsed(name, version, **attributes).reference(x)
    return list(results) if isinstance(results, tuple) else [results]


def parsed(name, version, **attributes):
    tensors = {
        key: ArrayTensor(value) if isinstance(value, np.ndarray) else value
        for key, value in attributes.items()
    }
    return registry.get(DOMAIN, name).parse(version, tensors)


def by_onnxruntime(name, x, version, **attributes):
    protos = {
        key: numpy_helper.from_array(value) if isinstance(value, np.ndarray) else value
        for key, value in attributes.items()
    }
    outputs = ["Y", "Z"] if name.endswith("Classifier") else ["Y"]
    node = helper.make_node(name, ["X"], outputs, domain=DOMAIN, **protos)
    graph = helper.make_graph(
        [node],
        "test",
        [helper.make_tensor_value_info("X", from_numpy(x.dtype).code, x.shape)],
        [helper.make_empty_tensor_value_info(key) for key in outputs],
    )
    opsets = [helper.make_opsetid(DOMAIN, version), helper.make_opsetid("", 21)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    return [np.asarray(y) for y in session.run(None, {"X": x})]


def compare(name, x, version, **attributes):
    if OLD_WITNESS:
        pytest.skip("the witness is onnxruntime 1.31 or newer")
    ours, theirs = (
        apply(name, x, version, **attributes),
        by_onnxruntime(name, x, version, **attributes),
    )
    for mine, other in zip(ours, theirs, strict=True):
        if mine.dtype == object:
            assert mine.tolist() == other.tolist()
        else:
            close([mine], [other], terms=40)
    facts = parsed(name, version, **attributes).infer(Fact.constant(x))
    for fact, mine in zip(facts if isinstance(facts, tuple) else (facts,), ours, strict=True):
        assert fact.shape == mine.shape
        assert fact.dtype is from_numpy(mine.dtype)


def grown(seed, depth, trees, features, modes):
    """Full random trees in the older form: nodes numbered level by level."""
    r = rng(seed)
    inner, count = 2**depth - 1, 2 ** (depth + 1) - 1
    nodes = {
        key: []
        for key in ("treeids", "nodeids", "featureids", "modes", "truenodeids", "falsenodeids")
    }
    nodes["values"] = []
    for tree in range(trees):
        for node in range(count):
            is_leaf = node >= inner
            nodes["treeids"].append(tree)
            nodes["nodeids"].append(node)
            nodes["featureids"].append(0 if is_leaf else int(r.integers(features)))
            nodes["modes"].append("LEAF" if is_leaf else str(r.choice(modes)))
            nodes["values"].append(float(np.float32(r.integers(-3, 4))))
            nodes["truenodeids"].append(0 if is_leaf else 2 * node + 1)
            nodes["falsenodeids"].append(0 if is_leaf else 2 * node + 2)
    leaves = [(tree, node) for tree in range(trees) for node in range(inner, count)]
    missing = [int(value) for value in r.integers(0, 2, trees * count)]
    found = {f"nodes_{key}": value for key, value in nodes.items()}
    return found | {"nodes_missing_value_tracks_true": missing}, leaves


def data(seed, dtype=np.float32):
    x = rng(seed).integers(-4, 5, (30, 3)).astype(dtype)
    if x.dtype.kind == "f":
        x[::7, 1] = np.nan
    return x


MODES = ["BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ"]


@pytest.mark.parametrize("aggregate", ["SUM", "AVERAGE", "MIN", "MAX"])
@pytest.mark.parametrize("targets", [1, 3])
@pytest.mark.parametrize("version", [1, 3])
def test_regressor(aggregate, targets, version):
    nodes, leaves = grown(1, 3, 4, 3, MODES)
    votes = [(tree, node, target) for tree, node in leaves for target in range(targets)]
    compare(
        "TreeEnsembleRegressor",
        data(2),
        version,
        **nodes,
        target_treeids=[vote[0] for vote in votes],
        target_nodeids=[vote[1] for vote in votes],
        target_ids=[vote[2] for vote in votes],
        target_weights=rng(3).standard_normal(len(votes)).astype(np.float32).tolist(),
        n_targets=targets,
        aggregate_function=aggregate,
        base_values=[0.5] * targets,
    )


@pytest.mark.parametrize("transform", ["NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO"])
@pytest.mark.parametrize("labels", [(10, 20, 30), ("a", "b", "c")])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.int32])
def test_classifier(transform, labels, dtype):
    nodes, leaves = grown(4, 3, 4, 3, ["BRANCH_LEQ"])
    named = "classlabels_strings" if isinstance(labels[0], str) else "classlabels_int64s"
    votes = [(tree, node, target) for tree, node in leaves for target in range(3)]
    compare(
        "TreeEnsembleClassifier",
        data(5, dtype),
        3,
        **nodes,
        class_treeids=[vote[0] for vote in votes],
        class_nodeids=[vote[1] for vote in votes],
        class_ids=[vote[2] for vote in votes],
        class_weights=rng(6).standard_normal(len(votes)).astype(np.float32).tolist(),
        post_transform=transform,
        base_values=[0.1, 0.2, 0.3],
        **{named: labels},
    )


@pytest.mark.parametrize("positive", [True, False])
@pytest.mark.parametrize("transform", ["NONE", "LOGISTIC"])
@pytest.mark.parametrize("base", [None, [0.1]])
def test_two_classes_with_votes_for_one(positive, transform, base):
    nodes, leaves = grown(7, 2, 3, 3, ["BRANCH_LEQ"])
    weights = rng(8).standard_normal(len(leaves)).astype(np.float32) / 3
    compare(
        "TreeEnsembleClassifier",
        data(9),
        3,
        **nodes,
        class_treeids=[leaf[0] for leaf in leaves],
        class_nodeids=[leaf[1] for leaf in leaves],
        class_ids=[0] * len(leaves),
        class_weights=(np.abs(weights) if positive else weights).tolist(),
        classlabels_int64s=[0, 1],
        post_transform=transform,
        **({} if base is None else {"base_values": base}),
    )


def ensemble(**changes):
    """Two trees over 3 features: a membership test above comparisons, and a lone leaf."""
    attributes = {
        "nodes_featureids": (0, 1, 2, 0),
        "nodes_modes": np.array([6, 0, 4, 0], np.uint8),
        "nodes_splits": np.array([0, 1.5, 2, 0], np.float32),
        "nodes_truenodeids": (1, 0, 2, 4),
        "nodes_trueleafs": (0, 1, 1, 1),
        "nodes_falsenodeids": (2, 1, 3, 4),
        "nodes_falseleafs": (0, 1, 1, 1),
        "nodes_missing_value_tracks_true": (0, 1, 0, 0),
        "membership_values": np.array([1, 3, -2, np.nan], np.float32),
        "leaf_targetids": (0, 1, 0, 1, 1),
        "leaf_weights": np.array([1, 2, 4, 8, 16], np.float32),
        "tree_roots": (0, 3),
        "n_targets": 2,
    }
    return attributes | changes


@pytest.mark.parametrize("aggregate", range(4))
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_ensemble(aggregate, dtype):
    attributes = ensemble(aggregate_function=aggregate)
    for key in ("nodes_splits", "membership_values", "leaf_weights"):
        attributes[key] = attributes[key].astype(dtype)
    compare("TreeEnsemble", data(10, dtype), 5, **attributes)


def test_ensemble_by_hand():
    x = np.array([[3, 1, 0], [3, 2, 0], [0, 0, 2], [0, 0, 1], [1, np.nan, 0]], np.float16)
    attributes = ensemble()
    for key in ("nodes_splits", "membership_values", "leaf_weights"):
        attributes[key] = attributes[key].astype(np.float16)
    (y,) = apply("TreeEnsemble", x, 5, **attributes)
    assert y.dtype == np.float16
    assert y.tolist() == [[1, 16], [0, 18], [4, 16], [0, 24], [1, 16]]


@pytest.mark.parametrize(
    "changes",
    [
        {"nodes_truenodeids": (0, 0, 2, 4)},
        {
            "nodes_truenodeids": (1, 0, 2, 4),
            "nodes_falsenodeids": (1, 0, 3, 4),
            "nodes_falseleafs": (0, 0, 1, 1),
        },
        {"nodes_truenodeids": (9, 0, 2, 4)},
        {"nodes_truenodeids": (-1, 0, 2, 4)},
        {"nodes_truenodeids": (1, 9, 2, 4)},
        {"tree_roots": (0, 4)},
        {"tree_roots": (-1,)},
        {"leaf_targetids": (0, 1, 0, 1, 2)},
        {"leaf_targetids": (0, 1, 0, 1, -1)},
        {"leaf_targetids": (0, 1, 0, 1)},
        {"n_targets": 0},
        {"nodes_featureids": (-1, 1, 2, 0)},
        {"nodes_featureids": (0, 1)},
        {"nodes_modes": np.array([7, 0, 4, 0], np.uint8)},
        {"membership_values": np.array([1, np.nan, 2], np.float32)},
        {"membership_values": None},
        {"aggregate_function": 4},
        {"post_transform": -1},
    ],
)
def test_hostile_ensembles_are_refused(changes):
    with pytest.raises(ModelError):
        apply("TreeEnsemble", data(1), 5, **ensemble(**changes))


def test_hostile_sizes():
    with pytest.raises(ExecutionError, match="feature 2"):
        apply("TreeEnsemble", data(1)[:, :2], 5, **ensemble())
    with pytest.raises(LimitError):
        apply("TreeEnsemble", data(1), 5, **ensemble(n_targets=1 << 40))


def test_a_deep_chain_takes_a_moment():
    depth = 20_000
    start = time.perf_counter()
    (y,) = apply(
        "TreeEnsemble",
        np.zeros((2, 1), np.float32),
        5,
        nodes_featureids=(0,) * depth,
        nodes_modes=np.zeros(depth, np.uint8),
        nodes_splits=np.ones(depth, np.float32),
        nodes_truenodeids=(*range(1, depth), 0),
        nodes_trueleafs=(*(0,) * (depth - 1), 1),
        nodes_falsenodeids=(0,) * depth,
        nodes_falseleafs=(1,) * depth,
        leaf_targetids=(0,),
        leaf_weights=np.ones(1, np.float32),
        tree_roots=(0,),
        n_targets=1,
    )
    assert y.tolist() == [[1], [1]]
    assert time.perf_counter() - start < 5


def legacy(**changes):
    attributes = {
        "nodes_treeids": (0, 0, 0),
        "nodes_nodeids": (0, 1, 2),
        "nodes_featureids": (0, 0, 0),
        "nodes_modes": ("BRANCH_LEQ", "LEAF", "LEAF"),
        "nodes_values": (0.0, 0.0, 0.0),
        "nodes_truenodeids": (1, 0, 0),
        "nodes_falsenodeids": (2, 0, 0),
        "target_treeids": (0, 0),
        "target_nodeids": (1, 2),
        "target_ids": (0, 0),
        "target_weights": (1.0, 2.0),
        "n_targets": 1,
    }
    return attributes | changes


@pytest.mark.parametrize(
    "changes",
    [
        {"nodes_truenodeids": (0, 0, 0)},
        {"nodes_truenodeids": (7, 0, 0)},
        {"nodes_nodeids": (0, 1, 1)},
        {"nodes_modes": ("BRANCH", "LEAF", "LEAF")},
        {"nodes_values": (0.0,)},
        {"target_nodeids": (1, 7)},
        {"target_ids": (0, 1)},
        {"target_weights": (1.0,)},
        {"base_values": (1.0, 2.0)},
        {"aggregate_function": "MEAN"},
    ],
)
def test_hostile_legacy_ensembles_are_refused(changes):
    x = np.array([[1.0], [-1.0]], np.float32)
    assert apply("TreeEnsembleRegressor", x, 3, **legacy())[0].tolist() == [[2], [1]]
    with pytest.raises(ModelError):
        apply("TreeEnsembleRegressor", x, 3, **legacy(**changes))


def test_weights_as_tensors_keep_double_precision():
    x = np.array([[1.0 + 1e-12]], np.float64)
    changes = {
        "nodes_values": None,
        "nodes_values_as_tensor": np.array([1.0, 0, 0]),
        "target_weights": None,
        "target_weights_as_tensor": np.array([1.0, 2.0]),
    }
    assert apply("TreeEnsembleRegressor", x, 3, **legacy(**changes))[0].tolist() == [[2]]


def test_inference_keeps_the_row_count():
    fact = parsed("TreeEnsemble", 5, **ensemble()).infer(Fact.tensor(FLOAT, (None, 3)))
    assert fact.shape == (None, 2)
