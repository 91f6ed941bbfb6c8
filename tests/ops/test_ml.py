from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import sardonyx as sx
from differential import close, normal, rng
from sardonyx.dims import symbol
from sardonyx.dtypes import FLOAT, INT64, STRING, from_numpy
from sardonyx.errors import ExecutionError, InferenceError, InputError, LimitError, ModelError
from sardonyx.ir.tensor import ArrayTensor
from sardonyx.ir.types import MapType, SequenceType, TensorType
from sardonyx.ops import registry
from sardonyx.ops.fact import Fact
from single_operator import OLD_WITNESS

DOMAIN = "ai.onnx.ml"
KEYS = {str: TensorProto.STRING, int: TensorProto.INT64}
VALUES = {str: TensorProto.STRING, int: TensorProto.INT64, float: TensorProto.FLOAT}


def texts(*items):
    array = np.empty(len(items), object)
    array[:] = items
    return array


def parsed(name, version=None, n_outputs=1, **attributes):
    values = {
        key: ArrayTensor(value) if isinstance(value, np.ndarray) else value
        for key, value in attributes.items()
    }
    return registry.get(DOMAIN, name).parse(version or 3, values, n_outputs)


def apply(name, *inputs, **attributes):
    results = parsed(name, **attributes).reference(*inputs)
    return list(results) if isinstance(results, tuple) else [results]


def model_of(name, inputs, version=3, n_outputs=1, value_type=None, outputs=None, **attributes):
    protos = {
        key: numpy_helper.from_array(value) if isinstance(value, np.ndarray) else value
        for key, value in attributes.items()
    }
    infos = []
    for index, value in enumerate(inputs):
        if isinstance(value, dict):
            key, item = next(iter(value.items()))
            element = helper.make_tensor_type_proto(value_type or VALUES[type(item)], ())
            of_map = helper.make_map_type_proto(KEYS[type(key)], element)
            infos.append(helper.make_value_info(f"x{index}", of_map))
        else:
            code = from_numpy(value.dtype).code
            infos.append(helper.make_tensor_value_info(f"x{index}", code, value.shape))
    names = [f"y{index}" for index in range(n_outputs)]
    inner = [info.name for info in infos]
    node = helper.make_node(name, inner, names, domain=DOMAIN, **protos)
    outputs = outputs or [helper.make_empty_tensor_value_info(key) for key in names]
    opsets = [helper.make_opsetid(DOMAIN, version), helper.make_opsetid("", 21)]
    graph = helper.make_graph([node], "test", infos, outputs)
    return helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()


def by_onnxruntime(name, *inputs, **attributes):
    if OLD_WITNESS:
        pytest.skip("the witness is onnxruntime 1.31 or newer")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model_of(name, inputs, **attributes), options)
    return session.run(None, {f"x{index}": value for index, value in enumerate(inputs)})


def same(ours, theirs, terms=8):
    for mine, other in zip(ours, theirs, strict=True):
        if isinstance(mine, list):
            assert mine == other
        elif mine.dtype == object:
            assert mine.tolist() == other.tolist()
            assert mine.shape == other.shape
        else:
            close([mine], [other], terms)


def compare(name, *inputs, terms=8, **attributes):
    """Our outputs, after onnxruntime's and what inference says were the same."""
    ours = apply(name, *inputs, **attributes)
    same(ours, by_onnxruntime(name, *inputs, **attributes), terms)
    agrees(name, inputs, ours, **attributes)
    return ours


def agrees(name, inputs, ours, **attributes):
    arrays = [value for value in inputs if isinstance(value, np.ndarray)]
    if len(arrays) < len(inputs) or isinstance(ours[0], list):
        return
    given = [Fact.constant(value) for value in arrays]
    rows = symbol("N", 1)
    first = arrays[0]
    free = Fact.tensor(from_numpy(first.dtype), (rows, *first.shape[1:]))
    for facts in (given, [free, *given[1:]]):
        found = parsed(name, **attributes).infer(*facts)
        for fact, mine in zip(found if isinstance(found, tuple) else [found], ours, strict=True):
            assert fact.dtype is from_numpy(mine.dtype)
            assert len(fact.shape) == mine.ndim
            for dim, size in zip(fact.shape, mine.shape, strict=True):
                assert dim is None or dim in {size, rows}


NUMBERS = [np.float32, np.float64, np.int64, np.int32]


@pytest.mark.parametrize("x", [normal(5), normal(4, 5), normal(2, 3, 5), texts("a", "b", "c", "d")])
@pytest.mark.parametrize("indices", [[0], [2, 0, 2], [[3, 1]]])
def test_array_feature_extractor(x, indices):
    compare("ArrayFeatureExtractor", x, np.array(indices, np.int64))


@pytest.mark.parametrize("index", [5, -1, 1 << 62, -(1 << 63)])
def test_array_feature_extractor_refuses_indices_outside(index):
    with pytest.raises(ExecutionError, match="5 features"):
        apply("ArrayFeatureExtractor", normal(4, 5), np.array([index], np.int64))


def test_binarizer():
    compare("Binarizer", np.array([[-1, 0.5], [0.25, 7]], np.float32), threshold=0.25)
    big = np.array([(1 << 60) + 1, 1 << 60, (1 << 60) - 1, -5], np.int64)
    assert apply("Binarizer", big, threshold=float(1 << 60))[0].tolist() == [1, 0, 0, 0]
    for threshold, expected in ((-1e30, 1), (1e30, 0), (np.inf, 0), (-np.inf, 1), (np.nan, 0)):
        for dtype in NUMBERS:
            found = apply("Binarizer", np.array([3], dtype), threshold=threshold)[0]
            assert found.tolist() == [expected]
            assert found.dtype == dtype


@pytest.mark.parametrize("sizes", [[3, 2], [4, 1], [1, 3]])
@pytest.mark.parametrize("dtype", NUMBERS)
def test_feature_vectorizer(sizes, dtype):
    x, y = np.arange(12).reshape(4, 3).astype(dtype), np.arange(8).reshape(4, 2).astype(dtype)
    compare("FeatureVectorizer", x, y, inputdimensions=sizes)
    compare("FeatureVectorizer", x[0], y[0], inputdimensions=sizes)
    whole = apply("FeatureVectorizer", x, y)[0]
    assert whole.tolist() == np.concatenate([x, y], 1).astype(np.float32).tolist()


def test_feature_vectorizer_refuses_what_does_not_fit():
    x = normal(2, 3)
    with pytest.raises(ExecutionError, match="one N"):
        apply("FeatureVectorizer", x, normal(3, 3))
    with pytest.raises(ModelError, match="inputdimensions"):
        apply("FeatureVectorizer", x, inputdimensions=[1, 2])
    with pytest.raises(LimitError):
        apply("FeatureVectorizer", x, inputdimensions=[1 << 50])


@pytest.mark.parametrize("values", [[7.0], [7.0, 8.0, 9.0]])
@pytest.mark.parametrize("replaced", [0.0, 1.5, float("nan")])
@pytest.mark.parametrize("shape", [(6,), (2, 3), (1, 2, 3)])
def test_imputer_of_floats(values, replaced, shape):
    x = np.array([0, 1.5, np.nan, np.nan, 0, 1.5], np.float32).reshape(shape)
    if len(shape) == 2 or len(values) == 1:
        compare("Imputer", x, imputed_value_floats=values, replaced_value_float=replaced)


def test_imputer_of_integers():
    x = np.array([[0, 3], [3, 1]], np.int64)
    compare("Imputer", x, imputed_value_int64s=[5, 6], replaced_value_int64=3)
    narrow = x.astype(np.int32)
    found = apply("Imputer", narrow, imputed_value_int64s=[5, 6], replaced_value_int64=3)[0]
    assert found.tolist() == [[0, 6], [5, 1]]
    assert found.dtype == np.int32
    with pytest.raises(ModelError, match="cannot"):
        apply("Imputer", narrow, imputed_value_int64s=[1 << 40])
    with pytest.raises(ModelError, match="requires"):
        apply("Imputer", narrow, imputed_value_floats=[1.0])
    with pytest.raises(ExecutionError, match="values for X"):
        apply("Imputer", narrow, imputed_value_int64s=[1, 2, 3])


@pytest.mark.parametrize("norm", ["MAX", "L1", "L2"])
@pytest.mark.parametrize("dtype", NUMBERS)
def test_normalizer(norm, dtype):
    x = np.array([[1, -2, 3], [0, 0, 0], [-1, -2, -4], [2, -2, 0]], dtype)
    compare("Normalizer", x, norm=norm)
    compare("Normalizer", x[0], norm=norm)


def test_normalizer_of_huge_values():
    x = np.array([[3e200, 4e200]])
    np.testing.assert_allclose(apply("Normalizer", x, norm="L2")[0], [[0.6, 0.8]], rtol=1e-6)
    with pytest.raises(ModelError, match="norm"):
        apply("Normalizer", x, norm="L3")


@pytest.mark.parametrize(
    "x,categories",
    [
        (np.array([[1.7, -1.5], [5, 1]], np.float32), {"cats_int64s": [1, -1, 3]}),
        (np.array([1, 4, 2], np.int64), {"cats_int64s": [1, 2, 1]}),
        (np.array([1.0, 4, 2], np.float64), {"cats_int64s": [2]}),
        (texts("a", "b", "c"), {"cats_strings": ["b", "a"]}),
    ],
)
def test_one_hot_encoder(x, categories):
    compare("OneHotEncoder", x, **categories)


def test_one_hot_encoder_of_the_unknown():
    x = np.array([1, 9], np.int32)
    assert apply("OneHotEncoder", x, cats_int64s=[1, 2])[0].tolist() == [[1, 0], [0, 0]]
    with pytest.raises(ExecutionError, match="no category"):
        apply("OneHotEncoder", x, cats_int64s=[1, 2], zeros=0)
    wild = np.array([np.nan, np.inf, -np.inf, 1e300])
    assert apply("OneHotEncoder", wild, cats_int64s=[5])[0].sum() == 0
    with pytest.raises(ModelError, match="one of"):
        apply("OneHotEncoder", x)
    with pytest.raises(ExecutionError, match="one type"):
        apply("OneHotEncoder", x, cats_strings=["a"])


@pytest.mark.parametrize("offset,scale", [([1.0], [2.0]), ([1.0, -1.0, 0.5], [2.0, 0.0, -1.5])])
@pytest.mark.parametrize("dtype", NUMBERS)
def test_scaler(offset, scale, dtype):
    x = np.arange(12).reshape(4, 3).astype(dtype)
    compare("Scaler", x, offset=offset, scale=scale)
    compare("Scaler", x[0], offset=offset, scale=scale)


def test_scaler_is_what_scikit_learn_fits():
    preprocessing = pytest.importorskip("sklearn.preprocessing")
    x = rng(3).standard_normal((50, 4))
    scaler = preprocessing.StandardScaler().fit(x)
    attributes = {"offset": scaler.mean_.tolist(), "scale": (1 / scaler.scale_).tolist()}
    np.testing.assert_allclose(
        apply("Scaler", x, **attributes)[0], scaler.transform(x), rtol=0, atol=1e-5
    )
    with pytest.raises(ExecutionError, match="offset"):
        apply("Scaler", x, offset=[1.0, 2.0])


@pytest.mark.parametrize("cast", ["TO_FLOAT", "TO_STRING", "TO_INT64"])
def test_cast_map(cast):
    x = {3: 1.5, 1: -2.25, 2: 1e20 if cast != "TO_INT64" else 7.0}
    compare("CastMap", x, cast_to=cast)
    if cast != "TO_STRING":
        compare("CastMap", x, cast_to=cast, map_form="SPARSE", max_map=6)


def test_cast_map_of_text():
    x = {2: "1.5", 0: " -3 "}
    assert apply("CastMap", x)[0].tolist() == [[-3.0, 1.5]]
    sparse = {"map_form": "SPARSE", "max_map": 3}
    assert apply("CastMap", x, cast_to="TO_INT64", **sparse)[0].tolist() == [[-3, 0, 1]]
    assert apply("CastMap", x, cast_to="TO_STRING", **sparse)[0].tolist() == [[" -3 ", "", "1.5"]]
    big = {0: str((1 << 62) + 1)}
    assert apply("CastMap", big, cast_to="TO_INT64")[0].tolist() == [[(1 << 62) + 1]]


@pytest.mark.parametrize("value", [float("nan"), 1e300, "1e999", "-inf", "9" * 5000])
def test_cast_map_of_hostile_values(value):
    for cast, dtype in (("TO_FLOAT", np.float32), ("TO_INT64", np.int64)):
        assert apply("CastMap", {0: value}, cast_to=cast)[0].dtype == dtype


@pytest.mark.parametrize(
    "x,changes,error",
    [
        ({0: "x"}, {}, ExecutionError),
        ({5: 1.0}, {"map_form": "SPARSE", "max_map": 5}, ExecutionError),
        ({-1: 1.0}, {"map_form": "SPARSE", "max_map": 5}, ExecutionError),
        ({0: 1.0}, {"map_form": "SPARSE", "max_map": 1 << 60}, LimitError),
        ({0: 1.0}, {"map_form": "SPARSE", "max_map": -1}, ModelError),
        ({0: 1.0}, {"cast_to": "TO_BOOL"}, ModelError),
    ],
)
def test_cast_map_refuses(x, changes, error):
    with pytest.raises(error):
        apply("CastMap", x, **changes)


def test_category_mapper():
    cats = {"cats_strings": ["a", "b", "a"], "cats_int64s": [1, 2, 3]}
    compare("CategoryMapper", texts("a", "q", "b"), default_int64=-7, **cats)
    compare("CategoryMapper", np.array([[1, 9], [3, 2]], np.int64), default_string="?", **cats)
    with pytest.raises(ModelError, match="cats_int64s"):
        apply("CategoryMapper", texts("a"), cats_strings=["a"], cats_int64s=[1, 2])


def test_dict_vectorizer():
    compare("DictVectorizer", {"a": 1.5, "z": 2.5}, string_vocabulary=["b", "a", "c"])
    found = apply("DictVectorizer", {"b": 3, "a": 1}, string_vocabulary=["b", "a", "c"])[0]
    assert found.tolist() == [[3, 1, 0]]
    assert found.dtype == np.int64
    found = apply("DictVectorizer", {1: "x"}, int64_vocabulary=[2, 1])[0]
    assert found.tolist() == [["", "x"]]
    with pytest.raises(ModelError, match="one of"):
        apply("DictVectorizer", {1: "x"})


def test_a_map_fed_to_a_session_has_the_declared_value_type():
    x = {1: 0.1, 3: 2.0}
    data = model_of(
        "DictVectorizer",
        [x],
        value_type=TensorProto.DOUBLE,
        outputs=[helper.make_tensor_value_info("y0", TensorProto.DOUBLE, (1, 2))],
        int64_vocabulary=[3, 1],
    )
    (found,) = sx.Session(sx.loads(data)).run(None, {"x0": x})
    assert found.dtype == np.float64
    assert found.tolist() == [[2.0, 0.1]]
    with pytest.raises(InputError, match="map"):
        sx.Session(sx.loads(data)).run(None, {"x0": [1.0]})


def test_a_session_returns_maps_as_dicts():
    x = normal(3, 2)
    for labels in ({"classlabels_int64s": [5, 6]}, {"classlabels_strings": ["a", "b"]}):
        key = KEYS[type(next(iter(labels.values()))[0])]
        of_map = helper.make_map_type_proto(
            key, helper.make_tensor_type_proto(TensorProto.FLOAT, ())
        )
        output = helper.make_value_info("y0", helper.make_sequence_type_proto(of_map))
        data = model_of("ZipMap", [x], outputs=[output], **labels)
        (found,) = sx.Session(sx.loads(data)).run(None, {"x0": x})
        assert found == by_onnxruntime("ZipMap", x, **labels)[0]


ENCODED = [
    (texts("a", "q", "b"), "keys_strings", ["a", "b"]),
    (np.array([1, 9, 2], np.int64), "keys_int64s", [1, 2]),
    (np.array([0.1, np.nan, 2], np.float32), "keys_floats", [0.1, 2.0]),
]


@pytest.mark.parametrize("version", [2, 4])
@pytest.mark.parametrize("x,named,keys", ENCODED)
@pytest.mark.parametrize(
    "values",
    [
        {"values_strings": ["x", "y"]},
        {"values_strings": ["x", "y"], "default_string": "d"},
        {"values_int64s": [7, 8], "default_int64": 5},
        {"values_floats": [0.5, 0.1]},
        {"values_floats": [0.5, 0.1], "default_float": 3.5},
    ],
)
def test_label_encoder(version, x, named, keys, values):
    # onnxruntime has no kernel from numbers to numbers of the same type but in version 4
    options = {"version": version, named: keys, **values}
    try:
        theirs = by_onnxruntime("LabelEncoder", x, **options)
    except onnxruntime.capi.onnxruntime_pybind11_state.NotImplemented:
        pytest.skip("no kernel")
    ours = apply("LabelEncoder", x, **options)
    same(ours, theirs)
    agrees("LabelEncoder", [x], ours, **options)


def test_label_encoder_finds_nan_and_takes_the_last_of_equal_keys():
    x = np.array([np.nan, 1, 5], np.float32)
    options = {"keys_floats": [1.0, float("nan"), 1.0], "values_int64s": [1, 2, 3], "version": 4}
    assert apply("LabelEncoder", x, **options)[0].tolist() == [2, 3, -1]


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.int64, np.float32, np.float64])
def test_label_encoder_with_tensors(dtype):
    x = np.array([[3, 4], [1, 3]], dtype)
    options = {
        "keys_tensor": np.array([3, 1], dtype),
        "values_tensor": np.array([30, 10], dtype),
        "version": 4,
    }
    found = apply("LabelEncoder", x, **options)[0]
    assert found.dtype == dtype
    assert found.tolist() == [[30, -1 if dtype in {np.int16, np.int32, np.int64} else 0], [10, 30]]
    given = apply("LabelEncoder", x, **options, default_tensor=np.array([9], dtype))[0]
    assert given.tolist() == [[30, 9], [10, 30]]


def test_label_encoder_version_1():
    names = ["a", "b", "a"]
    compare("LabelEncoder", texts("a", "b", "c"), classes_strings=names, version=1)
    x = np.array([0, 1, -1, 5], np.int64)
    compare("LabelEncoder", x, classes_strings=names, default_string="?", version=1)


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"keys_int64s": [1], "values_int64s": [1, 2]},
        {"keys_int64s": [1], "keys_strings": ["a"], "values_int64s": [1]},
        {"keys_int64s": [1], "values_tensor": np.array([1]), "default_tensor": np.array([1.0])},
    ],
)
def test_label_encoder_refuses(attributes):
    with pytest.raises(ModelError):
        apply("LabelEncoder", np.array([1], np.int64), version=4, **attributes)
    with pytest.raises(InferenceError):
        parsed("LabelEncoder", version=4, keys_strings=["a"], values_int64s=[1]).infer(
            Fact.tensor(INT64, (1,))
        )


@pytest.mark.parametrize(
    "labels", [{"classlabels_int64s": [5, 6]}, {"classlabels_strings": ["a", "b"]}]
)
def test_zip_map(labels):
    compare("ZipMap", normal(3, 2), **labels)
    compare("ZipMap", normal(2), **labels)
    key = STRING if "classlabels_strings" in labels else INT64
    found = parsed("ZipMap", **labels).infer(Fact.tensor(FLOAT, (3, 2)))
    assert found.type == SequenceType(MapType(key, TensorType(FLOAT)))
    assert sx.infer_shapes(sx.loads(model_of("ZipMap", [normal(3, 2)], **labels)), strict=True)
    with pytest.raises(ExecutionError):
        apply("ZipMap", normal(3, 3), **labels)
    with pytest.raises(InferenceError):
        parsed("ZipMap", **labels).infer(Fact.tensor(FLOAT, (3, 3)))


@pytest.mark.parametrize("targets", [1, 3])
@pytest.mark.parametrize("shape", [(4, 5), (5,)])
@pytest.mark.parametrize("intercepts", [True, False])
def test_linear_regressor(targets, shape, intercepts):
    weights = normal(targets, 5).reshape(-1).tolist()
    options = {"coefficients": weights, "targets": targets}
    if intercepts:
        options["intercepts"] = normal(targets).tolist()
    compare("LinearRegressor", normal(*shape), terms=5, **options)


@pytest.mark.parametrize("transform", ["SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO"])
def test_linear_regressor_transforms(transform):
    weights = normal(3, 5).reshape(-1).tolist()
    options = {"coefficients": weights, "targets": 3, "post_transform": transform}
    compare("LinearRegressor", normal(4, 5), terms=20, **options)


@pytest.mark.parametrize("transform", ["NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO"])
@pytest.mark.parametrize("dtype", NUMBERS)
@pytest.mark.parametrize(
    "labels",
    [
        {"classlabels_ints": [5, 6]},
        {"classlabels_ints": [5, 6, 7]},
        {"classlabels_strings": ["a", "b", "c"]},
    ],
)
def test_linear_classifier(transform, dtype, labels):
    count = len(next(iter(labels.values())))
    options = {
        "coefficients": normal(count, 4).reshape(-1).tolist(),
        "intercepts": normal(count).tolist(),
        "post_transform": transform,
        "n_outputs": 2,
    }
    x = (3 * normal(6, 4)).astype(dtype)
    compare("LinearClassifier", x, terms=30, **labels, **options)


@pytest.mark.parametrize("transform", ["NONE", "LOGISTIC"])
def test_linear_classifier_with_one_score_for_two_classes(transform):
    options = {
        "coefficients": [0.5, -0.25, 1.0],
        "intercepts": [0.1],
        "classlabels_ints": [5, 6],
        "post_transform": transform,
        "n_outputs": 2,
    }
    compare("LinearClassifier", normal(7, 3), terms=10, **options)


def test_linear_classifier_is_what_scikit_learn_fits():
    linear_model = pytest.importorskip("sklearn.linear_model")
    r = rng(8)
    x, y = r.standard_normal((60, 4)), r.integers(0, 3, 60)
    fitted = linear_model.LogisticRegression().fit(x, y)
    labels, scores = apply(
        "LinearClassifier",
        x,
        n_outputs=2,
        coefficients=fitted.coef_.reshape(-1).tolist(),
        intercepts=fitted.intercept_.tolist(),
        classlabels_ints=fitted.classes_.tolist(),
        post_transform="SOFTMAX",
    )
    assert labels.tolist() == fitted.predict(x).tolist()
    np.testing.assert_allclose(scores, fitted.predict_proba(x), rtol=0, atol=1e-5)


KERNELS = {
    "LINEAR": [0.0, 0.0, 0.0],
    "POLY": [0.3, 1.0, 3.0],
    "RBF": [0.4, 0.0, 0.0],
    "SIGMOID": [0.2, 0.5, 0.0],
}


def machine(kernel, classes, vectors, features=4):
    pairs = classes * (classes - 1) // 2
    return {
        "kernel_type": kernel,
        "kernel_params": KERNELS[kernel],
        "support_vectors": normal(vectors, features).reshape(-1).tolist(),
        "coefficients": normal(max(classes - 1, 1), vectors, 2)[..., 0].reshape(-1).tolist(),
        "rho": normal(max(pairs, 1), 3)[:, 0].tolist(),
    }


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("one_class", [0, 1])
def test_svm_regressor(kernel, one_class):
    options = machine(kernel, 1, 6) | {"n_supports": 6, "one_class": one_class}
    compare("SVMRegressor", normal(9, 4), terms=60, **options)


def test_svm_regressor_without_support_vectors():
    options = {"coefficients": [1.0, 2.0, -1.0], "rho": [0.25], "kernel_params": [0.0, 0.0, 3.0]}
    compare("SVMRegressor", normal(5, 3), **options)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("counts", [[3, 3], [2, 3, 1], [1, 0, 2, 3]])
@pytest.mark.parametrize("with_probabilities", [False, True])
@pytest.mark.parametrize("transform", ["NONE", "LOGISTIC"])
def test_svm_classifier(kernel, counts, with_probabilities, transform):
    classes = len(counts)
    options = machine(kernel, classes, 6) | {"vectors_per_class": counts}
    if with_probabilities:
        pairs = classes * (classes - 1) // 2
        options["prob_a"] = (-0.5 - rng(1).random(pairs)).tolist()
        options["prob_b"] = (rng(2).random(pairs) - 0.5).tolist()
    labels = {"classlabels_ints": [10 * (index + 1) for index in range(classes)]}
    options |= labels | {"post_transform": transform, "n_outputs": 2}
    # coupling stops within 0.005 / classes, where rounding decides which round is the last
    compare("SVMClassifier", normal(20, 4), terms=4000 if with_probabilities else 100, **options)


@pytest.mark.parametrize(
    "labels", [{"classlabels_ints": [1, 2, 3]}, {"classlabels_strings": ["a", "b"]}]
)
@pytest.mark.parametrize("dtype", NUMBERS)
def test_svm_classifier_without_support_vectors(labels, dtype):
    count = len(next(iter(labels.values())))
    options = {
        "coefficients": normal(count, 4).reshape(-1).tolist(),
        "rho": [0.25],
        "kernel_params": [0.0, 0.0, 3.0],
        "n_outputs": 2,
    }
    x = (3 * normal(6, 4)).astype(dtype)
    found, scores = apply("SVMClassifier", x, **labels, **options)
    theirs = by_onnxruntime("SVMClassifier", x, **labels, **options)
    close([scores], theirs[1:], terms=10)
    # of two classes onnxruntime names the second wherever the highest score is positive
    names = np.array(next(iter(labels.values())))
    assert found.tolist() == names[theirs[1].argmax(1)].tolist()
    agrees("SVMClassifier", [x], [found, scores], **labels, **options)


@pytest.mark.parametrize("classes", [2, 3])
def test_svm_classifier_is_what_scikit_learn_fits(classes):
    svm = pytest.importorskip("sklearn.svm")
    r = rng(9)
    x, y = r.standard_normal((60, 3)), r.integers(0, classes, 60)
    fitted = svm.SVC(gamma=0.5, decision_function_shape="ovo").fit(x, y)
    sign = -1.0 if classes == 2 else 1.0
    labels, scores = apply(
        "SVMClassifier",
        x,
        n_outputs=2,
        kernel_type="RBF",
        kernel_params=[0.5, 0.0, 3.0],
        support_vectors=fitted.support_vectors_.reshape(-1).tolist(),
        coefficients=(sign * fitted.dual_coef_).reshape(-1).tolist(),
        rho=(sign * fitted.intercept_).tolist(),
        vectors_per_class=fitted.n_support_.tolist(),
        classlabels_ints=fitted.classes_.tolist(),
    )
    assert labels.tolist() == fitted.predict(x).tolist()
    decisions = fitted.decision_function(x)
    wanted = np.stack([decisions, -decisions], 1) if classes == 2 else decisions
    np.testing.assert_allclose(scores, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


@pytest.mark.parametrize(
    "changes",
    [
        {"kernel_params": [1.0]},
        {"kernel_type": "COSINE"},
        {"coefficients": [1.0]},
        {"rho": []},
        {"vectors_per_class": [3]},
        {"vectors_per_class": [7, -1]},
        {"support_vectors": [1.0, 2.0]},
        {"prob_a": [1.0]},
        {"classlabels_ints": []},
        {"classlabels_strings": ["a", "b"]},
        {"vectors_per_class": [1 << 40, 1 << 40]},
    ],
)
def test_svm_classifier_refuses_attributes_that_do_not_fit(changes):
    options = machine("RBF", 2, 6) | {"vectors_per_class": [3, 3], "classlabels_ints": [1, 2]}
    with pytest.raises(ModelError):
        apply("SVMClassifier", normal(2, 4), n_outputs=2, **(options | changes))
    with pytest.raises(ExecutionError, match=r"\[N, 4\]"):
        apply("SVMClassifier", normal(2, 5), n_outputs=2, **options)
