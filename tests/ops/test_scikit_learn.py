"""Operators of ai.onnx.ml beside the scikit-learn estimators that they were made to hold."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sardonyx.ops import registry

preprocessing = pytest.importorskip("sklearn.preprocessing")

DOMAIN = "ai.onnx.ml"


def apply(name: str, x: Any, version: int = 3, n_outputs: int = 1, **attributes: Any) -> list[Any]:
    fixed = {key: tuple(v) if isinstance(v, list) else v for key, v in attributes.items()}
    operator = registry.get(DOMAIN, name).parse(version, fixed, n_outputs)
    results = operator.reference(x)
    return list(results) if isinstance(results, tuple) else [results]


def data(seed: int, rows: int = 60, columns: int = 3) -> tuple[np.ndarray, np.random.Generator]:
    """Whole numbers, so that the thresholds between them are exact in FLOAT."""
    random = np.random.default_rng(seed)
    return random.integers(-9, 10, (rows, columns)).astype(np.float32), random


def floats(array: Any) -> list[float]:
    return np.asarray(array, np.float64).reshape(-1).tolist()


def test_linear_regression() -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    x, random = data(1)
    fitted = linear_model.LinearRegression().fit(x, random.standard_normal((60, 2)))
    (y,) = apply(
        "LinearRegressor",
        x,
        targets=2,
        coefficients=floats(fitted.coef_),
        intercepts=floats(fitted.intercept_),
    )
    np.testing.assert_allclose(y, fitted.predict(x), rtol=0, atol=1e-5)


KERNELS = {
    "RBF": ("rbf", [0.05, 0.0, 3.0]),
    "POLY": ("poly", [0.05, 0.5, 3.0]),
    "LINEAR": ("linear", [0.0, 0.0, 0.0]),
    "SIGMOID": ("sigmoid", [0.01, 0.2, 0.0]),
}


@pytest.mark.parametrize("kernel", KERNELS)
def test_support_vector_regression(kernel: str) -> None:
    svm = pytest.importorskip("sklearn.svm")
    x, random = data(2)
    name, (gamma, coef0, degree) = KERNELS[kernel]
    estimator = svm.SVR(kernel=name, gamma=gamma or "scale", coef0=coef0, degree=int(degree))
    fitted = estimator.fit(x, random.standard_normal(60))
    (y,) = apply(
        "SVMRegressor",
        x,
        kernel_type=kernel,
        kernel_params=[gamma, coef0, degree],
        support_vectors=floats(fitted.support_vectors_),
        coefficients=floats(fitted.dual_coef_),
        rho=floats(fitted.intercept_),
        n_supports=len(fitted.support_),
    )
    assert y.shape == (60, 1)
    expected = fitted.predict(x)
    np.testing.assert_allclose(y[:, 0], expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def test_outliers_by_a_machine_of_one_class() -> None:
    svm = pytest.importorskip("sklearn.svm")
    x, _ = data(3)
    fitted = svm.OneClassSVM(gamma=0.02, nu=0.2).fit(x)
    (y,) = apply(
        "SVMRegressor",
        x,
        kernel_type="RBF",
        kernel_params=[0.02, 0.0, 3.0],
        support_vectors=floats(fitted.support_vectors_),
        coefficients=floats(fitted.dual_coef_),
        rho=floats(fitted.intercept_),
        n_supports=len(fitted.support_),
        one_class=1,
    )
    decided = np.abs(fitted.decision_function(x)) > 1e-5
    assert y[decided, 0].tolist() == fitted.predict(x)[decided].tolist()


def nodes_of(trees: list[Any]) -> tuple[dict[str, list[Any]], list[tuple[int, int, np.ndarray]]]:
    """Attributes of the nodes of fitted trees, and tree, node and value of each leaf."""
    found: dict[str, list[Any]] = {}
    leaves = []

    def put(**values: Any) -> None:
        for key, value in values.items():
            found.setdefault(f"nodes_{key}", []).append(value)

    for index, tree in enumerate(trees):
        for node in range(tree.node_count):
            is_leaf = tree.children_left[node] < 0
            put(
                treeids=index,
                nodeids=node,
                featureids=max(int(tree.feature[node]), 0),
                modes="LEAF" if is_leaf else "BRANCH_LEQ",
                values=0.0 if is_leaf else float(tree.threshold[node]),
                truenodeids=0 if is_leaf else int(tree.children_left[node]),
                falsenodeids=0 if is_leaf else int(tree.children_right[node]),
            )
            if is_leaf:
                leaves.append((index, node, tree.value[node]))
    return found, leaves


def test_forest_that_regresses() -> None:
    ensemble = pytest.importorskip("sklearn.ensemble")
    x, random = data(4, 80)
    y = random.standard_normal((80, 2))
    fitted = ensemble.RandomForestRegressor(5, max_depth=4, random_state=0).fit(x, y)
    nodes, leaves = nodes_of([estimator.tree_ for estimator in fitted.estimators_])
    votes = [(tree, node, i, value[i, 0]) for tree, node, value in leaves for i in range(2)]
    (found,) = apply(
        "TreeEnsembleRegressor",
        x,
        **nodes,
        target_treeids=[vote[0] for vote in votes],
        target_nodeids=[vote[1] for vote in votes],
        target_ids=[vote[2] for vote in votes],
        target_weights=[float(vote[3]) for vote in votes],
        n_targets=2,
        aggregate_function="AVERAGE",
    )
    np.testing.assert_allclose(found, fitted.predict(x), rtol=0, atol=1e-5)


@pytest.mark.parametrize("labels", [[7, 3, 5], ["c", "a", "b"]])
def test_forest_that_classifies(labels: list[Any]) -> None:
    ensemble = pytest.importorskip("sklearn.ensemble")
    x, random = data(5, 90)
    y = np.array(labels)[random.integers(0, 3, 90)]
    fitted = ensemble.RandomForestClassifier(7, max_depth=5, random_state=1).fit(x, y)
    nodes, leaves = nodes_of([estimator.tree_ for estimator in fitted.estimators_])
    votes = [
        (tree, node, i, value[0, i] / value.sum() / 7)
        for tree, node, value in leaves
        for i in range(3)
    ]
    classes = fitted.classes_.tolist()
    key = "classlabels_strings" if isinstance(labels[0], str) else "classlabels_int64s"
    found, scores = apply(
        "TreeEnsembleClassifier",
        x,
        n_outputs=2,
        **nodes,
        class_treeids=[vote[0] for vote in votes],
        class_nodeids=[vote[1] for vote in votes],
        class_ids=[vote[2] for vote in votes],
        class_weights=[float(vote[3]) for vote in votes],
        **{key: classes},
    )
    expected = fitted.predict_proba(x)
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-6)
    # a tie may go either way after rounding
    margin = np.sort(expected, axis=1)
    decided = margin[:, -1] - margin[:, -2] > 1e-5
    assert decided.sum() > 60
    assert found[decided].tolist() == fitted.predict(x)[decided].tolist()


@pytest.mark.parametrize("norm", ["max", "l1", "l2"])
def test_normalizer(norm: str) -> None:
    x, _ = data(6)
    x[3] = 0
    if norm == "max":  # the standard's maximum has a sign, scikit-learn's is of absolute values
        x = np.abs(x)
    (y,) = apply("Normalizer", x, version=1, norm=norm.upper())
    np.testing.assert_allclose(y, preprocessing.normalize(x, norm), rtol=1e-6)


@pytest.mark.parametrize("missing", [np.nan, -3.0])
def test_imputer(missing: float) -> None:
    impute = pytest.importorskip("sklearn.impute")
    x, _ = data(7)
    x[::5, 1] = missing
    fitted = impute.SimpleImputer(missing_values=missing, strategy="mean").fit(x)
    (y,) = apply(
        "Imputer",
        x,
        version=1,
        imputed_value_floats=floats(fitted.statistics_),
        replaced_value_float=missing,
    )
    np.testing.assert_allclose(y, fitted.transform(x), rtol=1e-6)


@pytest.mark.parametrize("kind", [np.int64, np.float32, object])
def test_one_hot_encoder(kind: type) -> None:
    numbers = np.random.default_rng(8).integers(0, 4, 40)
    texts = [f"t{number}" for number in numbers]
    column = np.array(texts if kind is object else numbers, kind)
    encoder = preprocessing.OneHotEncoder(sparse_output=False).fit(column[:, None])
    categories = encoder.categories_[0].tolist()
    key = "cats_strings" if kind is object else "cats_int64s"
    values = categories if kind is object else [int(value) for value in categories]
    (y,) = apply("OneHotEncoder", column, version=1, **{key: values})
    np.testing.assert_array_equal(y, encoder.transform(column[:, None]))


def test_labels_and_categories() -> None:
    texts = np.array(["pear", "fig", "fig", "apple"], object)
    encoder = preprocessing.LabelEncoder().fit(texts)
    classes, codes = encoder.classes_.tolist(), list(range(len(encoder.classes_)))
    expected = encoder.transform(texts)
    (y,) = apply("LabelEncoder", texts, version=4, keys_strings=classes, values_int64s=codes)
    np.testing.assert_array_equal(y, expected)
    (y,) = apply("CategoryMapper", texts, version=1, cats_strings=classes, cats_int64s=codes)
    np.testing.assert_array_equal(y, expected)
    (back,) = apply("CategoryMapper", y, version=1, cats_strings=classes, cats_int64s=codes)
    assert back.tolist() == encoder.inverse_transform(expected).tolist()


def test_dict_vectorizer() -> None:
    feature_extraction = pytest.importorskip("sklearn.feature_extraction")
    rows: list[dict[str, float]] = [{"b": 1.0, "a": 2.5}, {"c": -3.0}, {"a": 0.5, "c": 4.0}]
    fitted = feature_extraction.DictVectorizer(sparse=False).fit(rows)
    vocabulary = fitted.get_feature_names_out().tolist()
    for row in [*rows, {"unseen": 1.0, "b": 2.0}]:
        given = {key: np.float32(value) for key, value in row.items()}
        (y,) = apply("DictVectorizer", given, version=1, string_vocabulary=vocabulary)
        np.testing.assert_array_equal(y, fitted.transform([row]).astype(np.float32))


def test_standard_and_robust_scaling() -> None:
    x, _ = data(9)
    for scaler in (preprocessing.StandardScaler().fit(x), preprocessing.MinMaxScaler().fit(x)):
        if hasattr(scaler, "mean_"):
            offset, scale = scaler.mean_, 1 / scaler.scale_
        else:
            offset, scale = -scaler.min_ / scaler.scale_, scaler.scale_
        (y,) = apply("Scaler", x, version=1, offset=floats(offset), scale=floats(scale))
        np.testing.assert_allclose(y, scaler.transform(x), rtol=0, atol=1e-5)


def test_binarizer() -> None:
    x, _ = data(10)
    (y,) = apply("Binarizer", x, version=1, threshold=1.0)
    np.testing.assert_array_equal(y, preprocessing.Binarizer(threshold=1.0).transform(x))
