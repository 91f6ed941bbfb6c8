"""How each operator is called on the ends of its types: what its inputs and attributes are.

`CASES` says per operator what its inputs look like; an operator that it does not list takes
``"N 3"`` for each required input. An input is a shape, filled with the extreme values of its type
(N is 2, or 0 in an empty tensor), a literal (in the type of the parameter), or None (omitted).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import ml_dtypes
import numpy as np

from sardonyx import dtypes
from sardonyx.dtypes import DType
from sardonyx.ir import Graph, Node, Value
from sardonyx.ir.node import Attribute, AttributeType
from sardonyx.ir.tensor import ArrayTensor
from sardonyx.ir.types import TensorType
from sardonyx.ops import types

STRINGS = ("", "0", "1", "-1", "nan", "1e999", "-9223372036854775809", "\x00", "日本 é", " a,b ")


def extremes(dtype: DType) -> list[Any]:
    """Values of `dtype` that break things: zeros, ones, ends, denormals, NaN and infinities."""
    if dtype.kind == "string":
        return list(STRINGS)
    if dtype.kind == "bool":
        return [False, True]
    if dtype.is_integer:
        top = (1 << (dtype.bits - (dtype.kind == "int"))) - 1
        values = [0, 1, top, 2, top // 2 + 1] if dtype.bits > 2 else [0, 1, top]
        return [*values, -1, -top - 1, -2] if dtype.kind == "int" else values
    if dtype.kind == "complex":
        part = [0.0, 1.0, -1.0, np.inf, np.nan, float(np.finfo(dtype.numpy).max)]
        return [complex(re, im) for re in part for im in part[::-1]]
    info = ml_dtypes.finfo(dtype.numpy)
    values = [0.0, -0.0, 1.0, -1.0, 0.5, 2.0, info.max, info.min, info.smallest_subnormal]
    candidates = [*map(float, values), np.nan, np.inf, -np.inf]
    with np.errstate(all="ignore"):
        arrays = np.array(candidates).astype(dtype.numpy).astype(np.float64)
    return list(dict.fromkeys(map(repr, arrays.tolist())))


def filled(dtype: DType, shape: tuple[int, ...], turn: int) -> np.ndarray:
    """An array of the extreme values, starting with another one at each `turn`."""
    values = extremes(dtype)
    count = int(np.prod(shape))
    picked = [values[(index + turn * 3) % len(values)] for index in range(count)]
    if dtype.kind == "float":
        picked = [float(value) for value in picked]
    with np.errstate(all="ignore"):
        if dtype.kind == "string":
            flat = np.empty(count, object)
            flat[:] = picked
            return flat.reshape(shape)
        wide = np.uint64 if dtype.kind == "uint" else np.int64
        array = np.array(picked, wide) if dtype.is_integer else np.array(picked)
        return array.astype(dtype.numpy).reshape(shape)


@dataclass
class Case:
    """How one operator is called; `types` fixes constraints, `linked` ties one to another."""

    inputs: tuple[Any, ...] | None = None
    attributes: dict[str, Any] = field(default_factory=dict)
    outputs: int | None = None
    types: dict[str, DType] = field(default_factory=dict)
    linked: dict[str, str] = field(default_factory=dict)
    variants: tuple[dict[str, Any], ...] = ({},)


def case(*inputs: Any, outputs: int | None = None, **attributes: Any) -> Case:
    return Case(inputs, attributes, outputs)


def body(n_inputs: int, returned: tuple[int, ...]) -> Any:
    """Makes a graph of identities: its outputs are the inputs at the positions `returned`."""

    def make() -> Graph:
        values = [Value(f"b{index}", TensorType(None)) for index in range(n_inputs)]
        nodes = [Node("Identity", [values[index]], [Value(f"o{index}")]) for index in returned]
        outputs = [node.outputs[0] for node in nodes]
        for position, value in enumerate(outputs):
            value.name = f"out{position}"
        return Graph("body", values, outputs, nodes)

    return make


def branch() -> Graph:
    """A graph without inputs that returns a constant."""
    value = Attribute("value", AttributeType.TENSOR, ArrayTensor(np.float32([1, np.nan])))
    node = Node("Constant", [], [Value("constant")], [value])
    return Graph("branch", [], [node.outputs[0]], [node])


def tensor(dtype: DType, values: Any) -> ArrayTensor:
    with np.errstate(all="ignore"):
        return ArrayTensor(np.asarray(values).astype(dtype.numpy), dtype)


SEQUENCED = tuple(entry for entry in types.ALL_BEFORE_BFLOAT16 if isinstance(entry, DType))
FILLABLE = tuple(
    entry
    for entry in types.without(types.ALL_INT2, dtypes.STRING, dtypes.COMPLEX64, dtypes.COMPLEX128)
    if isinstance(entry, DType)
)
AXIS = case("N 3", axis=-1)
IMAGE = case("N 4 3 3")
REDUCE = Case(("N 3", [-1]), variants=({}, {"keepdims": 0}))
POOLED = case("N 2 4 4", kernel_shape=[2, 2])
RECURRENT = {"hidden_size": 2}

WINDOW = Case((5,), variants=tuple({"output_datatype": code} for code in (1, 10, 11, 16, 3, 7)))
SCORES = [0.5, -0.5, 0.25, 1.0, -1.0, 0.0]
TREE = {
    "tree_roots": [0],
    "n_targets": 1,
    "nodes_featureids": [0],
    "nodes_modes": tensor(dtypes.UINT8, [0]),
    "nodes_truenodeids": [0],
    "nodes_falsenodeids": [1],
    "nodes_trueleafs": [1],
    "nodes_falseleafs": [1],
    "leaf_targetids": [0, 0],
}
OLD_TREE = {
    "nodes_treeids": [0, 0, 0],
    "nodes_nodeids": [0, 1, 2],
    "nodes_featureids": [0, 0, 0],
    "nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF"],
    "nodes_values": [0.5, 0.0, 0.0],
    "nodes_truenodeids": [1, 0, 0],
    "nodes_falsenodeids": [2, 0, 0],
}
SVM = {"kernel_params": [0.5, 0.0, 3.0], "support_vectors": [0.0, 1.0, -1.0, 1.0, 0.5, 2.0]}

CASES: dict[str, Case] = {
    "AffineGrid": case("N 2 3", [2, 3, 4, 5]),
    "And": case("N 3", "N 3"),
    "ArgMax": AXIS,
    "ArgMin": AXIS,
    "Attention": case("N 2 3 4", "N 2 3 4", "N 2 3 4", "3 3", outputs=1),
    "AveragePool": POOLED,
    "BatchNormalization": Case(
        ("N 3 4", "3", "3", "3", "3"), outputs=1, variants=({}, {"epsilon": 0.0})
    ),
    "Bernoulli": Case(
        ("N 3",), {"seed": 1.0}, variants=tuple({"dtype": c} for c in (1, 2, 5, 9, 10, 11, 16))
    ),
    "BitCast": Case(("N 3",), variants=tuple({"to": dtype.code} for dtype in dtypes.ALL)),
    "BitShift": Case(("2 N 9", "9"), variants=({"direction": "LEFT"}, {"direction": "RIGHT"})),
    "BlackmanWindow": WINDOW,
    "Cast": Case(("N 9",), variants=tuple({"to": dtype.code} for dtype in dtypes.ALL)),
    "CausalConvWithState": case("N 3 5", "3 1 2", "3", "N 3 1"),
    "CenterCropPad": case("N 3", [4, 2]),
    "Clip": Case(("N 9", "=0", "=-1")),
    "Col2Im": case("N 4 4", [3, 3], [2, 2]),
    "Compress": case("N 3", "2"),
    "Concat": case("N 3", "N 3", axis=1),
    "ConcatFromSequence": Case(("N 3",), variants=({"axis": 0}, {"axis": 1, "new_axis": 1})),
    "Constant": Case(
        (), variants=tuple({"value": tensor(d, filled(d, (3,), 0))} for d in types.ALL_INT2)
    ),
    "ConstantOfShape": Case(
        ([2, 3],),
        variants=tuple({"value": tensor(d, filled(d, (1,), 5))} for d in FILLABLE),
    ),
    "Conv": case("N 2 4 4", "3 2 2 2", "3"),
    "ConvInteger": case("N 2 4 4", "3 2 2 2", "=1", "3"),
    "ConvTranspose": case("N 2 3 3", "2 3 2 2", "3"),
    "CumProd": case("N 3", 1),
    "CumSum": case("N 3", 1),
    "DFT": case("N 4 1", 3, 1),
    "DeformConv": case("N 2 3 3", "3 2 2 2", "N 8 2 2", "3", "N 4 2 2"),
    "DepthToSpace": case("N 4 3 3", blocksize=2),
    "DequantizeLinear": Case(("N 9", "9", [1] * 9), variants=({"axis": 1}, {"output_dtype": 1})),
    "Det": case("N 3 3"),
    "Dropout": Case(("N 3", 0.25, True), {"seed": 1}),
    "Einsum": case("N 3", "3 4", equation="ij,jk->ik"),
    "Expand": case("N 3", [2, 1, 3]),
    "EyeLike": Case(("N 3",), variants=({}, {"k": 2**62}, {"k": -1, "dtype": 9})),
    "FlexAttention": case("N 2 3 4", "N 2 3 4", "N 2 3 4"),
    "GRU": case("3 N 2", "1 6 2", "1 6 2", "1 12", None, "1 N 2", **RECURRENT),
    "Gather": case("3 N", [0, -1, 2]),
    "GatherElements": case("2 N", [[0, -1], [1, 0]]),
    "GatherND": case("2 3 N", [[0, 1], [1, -1]]),
    "Gemm": case("N 3", "3 4", "4"),
    "GlobalAveragePool": IMAGE,
    "GlobalLpPool": IMAGE,
    "GlobalMaxPool": IMAGE,
    "GridSample": Case(
        ("N 2 3 3", "N 2 2 2"),
        variants=tuple(
            {"mode": mode, "padding_mode": padding}
            for mode in ("linear", "nearest", "cubic")
            for padding in ("zeros", "border", "reflection")
        ),
    ),
    "GroupNormalization": case("N 4 3", "4", "4", num_groups=2),
    "HammingWindow": WINDOW,
    "HannWindow": WINDOW,
    "If": case(True, then_branch=branch, else_branch=branch, outputs=1),
    "ImageDecoder": case("N"),
    "InstanceNormalization": case("N 3 4", "3", "3"),
    "LRN": Case(("N 4 3",), {"size": 3}),
    "LSTM": case("3 N 2", "1 8 2", "1 8 2", "1 16", None, "1 N 2", "1 N 2", "1 6", **RECURRENT),
    "LayerNormalization": case("N 4", "4", "4"),
    "LinearAttention": case(
        "N 3 4", "N 3 4", "N 3 4", None, "N 3 4", "N 3 2", q_num_heads=2, kv_num_heads=2
    ),
    "Loop": case(3, True, "N 3", body=body(3, (1, 2)), outputs=1),
    "LpPool": POOLED,
    "MatMul": case("N 3", "3 4"),
    "MatMulInteger": case("N 3", "3 4", "=1", "4"),
    "MaxPool": case("N 2 4 4", kernel_shape=[2, 2]),
    "MaxRoiPool": case("1 N 4 4", [[0.0, 0, 0, 3, 3], [0, 1, 1, 9, 2]], pooled_shape=[2, 2]),
    "MaxUnpool": case("1 1 2 N", [[[[0, 5], [2, 7]]]], kernel_shape=[2, 2], strides=[2, 2]),
    "MeanVarianceNormalization": IMAGE,
    "MelWeightMatrix": Case(
        (4, 16, 8000, "=0", "=1"),
        variants=tuple({"output_datatype": code} for code in (1, 10, 11, 16, 2, 7)),
    ),
    "Mod": Case(("9 N", "9 1"), variants=({"fmod": 0}, {"fmod": 1})),
    "Multinomial": Case(("N 3",), {"seed": 1.0}, variants=({}, {"dtype": 7})),
    "NegativeLogLikelihoodLoss": Case(
        ("N 3", "=N0", "3"), variants=({}, {"reduction": "none"}, {"reduction": "sum"})
    ),
    "NonMaxSuppression": case("1 N 4", "1 1 N", [2], [0.5], [0.0]),
    "OneHot": case("N 3", "=3", "2"),
    "Optional": Case(("N 3",)),
    "PRelu": case("N 3", "3"),
    "Pad": case("N 3", [1, 1, 1, 1], "=1"),
    "QLinearConv": case("N 2 4 4", "=0.5", "=1", "3 2 2 2", "=0.5", "=1", "=0.5", "=1", "3"),
    "QLinearMatMul": case("N 3", "=0.5", "=1", "3 4", "=0.5", "=1", "=0.5", "=1"),
    "QuantizeLinear": Case(("N 9", "9", [0] * 9), variants=({"axis": 1}, {"saturate": 0})),
    "RMSNormalization": case("N 4", "4"),
    "RNN": case("3 N 2", "1 2 2", "1 2 2", "1 4", None, "1 N 2", **RECURRENT),
    "RandomNormal": Case((), {"shape": [2, 3], "seed": 1.0}, variants=({}, {"scale": 3e38})),
    "RandomNormalLike": Case(("N 3",), {"dtype": 1, "seed": 1.0}),
    "RandomUniform": Case(
        (), {"shape": [2, 3], "seed": 1.0}, variants=({}, {"high": 3e38, "low": -3e38})
    ),
    "RandomUniformLike": Case(("N 3",), {"dtype": 16, "seed": 1.0}),
    "Range": case("=0", "=3", "=1"),
    "ReduceL1": REDUCE,
    "ReduceL2": REDUCE,
    "ReduceLogSum": REDUCE,
    "ReduceLogSumExp": REDUCE,
    "ReduceMax": REDUCE,
    "ReduceMean": REDUCE,
    "ReduceMin": REDUCE,
    "ReduceProd": REDUCE,
    "ReduceSum": REDUCE,
    "ReduceSumSquare": REDUCE,
    "RegexFullMatch": Case(("N 9",), {"pattern": "-?[0-9]+"}),
    "Reshape": case("N 6", [0, 3, -1]),
    "Resize": Case(
        ("N 1 3 3", None, [1.0, 1.0, 2.0, 0.5]),
        variants=({}, {"mode": "linear"}, {"mode": "cubic"}),
    ),
    "ReverseSequence": case("3 2 N", [2, 3]),
    "RoiAlign": Case(
        ("1 N 4 4", [[0.0, 0, 3, 3], [1, -1, 9, 2]], [0, 0]),
        {"output_height": 2},
        variants=({}, {"mode": "max"}),
    ),
    "RotaryEmbedding": case("N 2 3 4", "N 3 2", "N 3 2"),
    "STFT": case("N 8 1", 2, "4", 4),
    "Scan": case("N 3", "2 3", body=body(2, (0, 1)), num_scan_inputs=1, outputs=2),
    "Scatter": case("3 N", [[0], [1]], "2 1"),
    "ScatterElements": Case(
        ("3 2", [[0, 0], [-1, 1]], "2 2"),
        variants=tuple({"reduction": r} for r in ("none", "add", "mul", "max", "min")),
    ),
    "ScatterND": Case(
        ("3 N", [[0], [-1]], "2 N"),
        variants=tuple({"reduction": r} for r in ("none", "add", "mul", "max", "min")),
    ),
    "SequenceAt": case("N 3", -1),
    "SequenceEmpty": Case((), variants=tuple({"dtype": dtype.code} for dtype in SEQUENCED)),
    "SequenceErase": case("N 3", -2),
    "SequenceInsert": Case(("N 3", "N 3", 1), linked={"S": "T"}),
    "SequenceMap": case("N 3", body=body(1, (0,)), outputs=1),
    "Slice": case("3 N", [-(2**31)], [2**31 - 1], [0], [2]),
    "SoftmaxCrossEntropyLoss": Case(
        ("N 3", "=N0", "3"), variants=({}, {"reduction": "none"}, {"reduction": "sum"})
    ),
    "SpaceToDepth": case("N 1 4 4", blocksize=2),
    "Split": case("N 4", [1, 3], axis=1, outputs=2),
    "SplitToSequence": case("4 N", [1, 3], axis=0),
    "Squeeze": case("N 1 3", [1]),
    "StringNormalizer": Case(("9",), variants=({"case_change_action": "UPPER"}, {})),
    "StringSplit": Case(("N 9",), variants=({}, {"delimiter": ","})),
    "TensorScatter": case("N 2 4 3", "N 2 2 3"),
    "TfIdfVectorizer": Case(
        ("N 9",),
        {
            "mode": "TFIDF",
            "min_gram_length": 1,
            "max_gram_length": 1,
            "max_skip_count": 0,
            "ngram_counts": [0],
            "ngram_indexes": [0, 1],
        },
        variants=({"pool_int64s": [0, 1]}, {"pool_strings": ["", "1"]}),
    ),
    "Tile": case("N 3", [2, 2]),
    "TopK": Case(("N 9", [3]), variants=({}, {"largest": 0})),
    "Transpose": case("N 1 3", perm=[2, 0, 1]),
    "Trilu": Case(("N 3 3", 2**62), variants=({}, {"upper": 0})),
    "Unique": Case(("2 N",), variants=({}, {"axis": 0}, {"sorted": 0}), outputs=4),
    "Unsqueeze": case("N 3", [0, -1]),
    "Upsample": case("N 1 2 2", [1.0, 1.0, 2.0, 1.5]),
    "Where": case("N 1", "N 3", "3"),
    "ArrayFeatureExtractor": case("N 3", [0, 2]),
    "CastMap": Case(("N 3",), variants=({"cast_to": "TO_FLOAT"}, {"cast_to": "TO_STRING"})),
    "CategoryMapper": Case(("N 3",), {"cats_strings": ["0", "1"], "cats_int64s": [0, 1]}),
    "DictVectorizer": Case(
        ("N 3",),
        variants=({"string_vocabulary": ["a", "b"]}, {"int64_vocabulary": [0, 1]}),
    ),
    "FeatureVectorizer": case("N 3", "N 2", inputdimensions=[3, 2]),
    "Imputer": Case(
        ("N 3",),
        variants=(
            {"imputed_value_floats": [0.5]},
            {"imputed_value_int64s": [7], "replaced_value_int64": -(2**63)},
        ),
    ),
    "LabelEncoder": Case(
        ("N 9",),
        variants=(
            {"keys_int64s": [0, 1], "values_floats": [0.5, np.nan]},
            {"keys_strings": ["", "1"], "values_int64s": [1, 2]},
            {"keys_floats": [np.nan, np.inf], "values_strings": ["nan", "inf"]},
            *(
                {
                    "keys_tensor": tensor(dtype, filled(dtype, (3,), 0)),
                    "values_tensor": tensor(dtype, filled(dtype, (3,), 1)),
                    "default_tensor": tensor(dtype, filled(dtype, (1,), 2)),
                }
                for dtype in (dtypes.DOUBLE, dtypes.INT16, dtypes.INT32)
            ),
        ),
    ),
    "LinearClassifier": Case(
        ("N 3",),
        {"coefficients": SCORES, "intercepts": [0.5, -0.5], "classlabels_ints": [0, 1]},
        variants=tuple(
            {"post_transform": name}
            for name in ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT")
        ),
    ),
    "LinearRegressor": Case(
        ("N 3",), {"coefficients": SCORES[:3], "intercepts": [0.5], "targets": 1}
    ),
    "Normalizer": Case(("N 3",), variants=tuple({"norm": n} for n in ("MAX", "L1", "L2"))),
    "OneHotEncoder": Case(
        ("N 3",), variants=({"cats_int64s": [0, 1]}, {"cats_strings": ["0", "1"]})
    ),
    "SVMClassifier": Case(
        ("N 3",),
        {
            **SVM,
            "classlabels_ints": [0, 1],
            "vectors_per_class": [1, 1],
            "coefficients": [1.0, -1.0],
            "rho": [0.5],
        },
        variants=tuple({"kernel_type": k} for k in ("LINEAR", "POLY", "RBF", "SIGMOID")),
    ),
    "SVMRegressor": Case(
        ("N 3",),
        {**SVM, "coefficients": [1.0, -1.0], "rho": [0.5], "n_supports": 2},
        variants=tuple({"kernel_type": k} for k in ("LINEAR", "POLY", "RBF", "SIGMOID")),
    ),
    "Scaler": case("N 3", offset=[0.0, 1.0, -1.0], scale=[1.0, 0.0, 3e38]),
    "TreeEnsemble": Case(("N 3",), TREE),
    "TreeEnsembleClassifier": Case(
        ("N 3",),
        {
            **OLD_TREE,
            "class_treeids": [0, 0],
            "class_nodeids": [1, 2],
            "class_ids": [0, 1],
            "class_weights": [0.5, 1.0],
            "classlabels_int64s": [0, 1],
        },
    ),
    "TreeEnsembleRegressor": Case(
        ("N 3",),
        {
            **OLD_TREE,
            "target_treeids": [0, 0],
            "target_nodeids": [1, 2],
            "target_ids": [0, 0],
            "target_weights": [0.5, 1.0],
            "n_targets": 1,
        },
    ),
    "ZipMap": Case(("N 2",), {"classlabels_int64s": [0, 1]}),
    "Adagrad": Case(("=0.1", 1, "N 3", "N 3", "N 3"), outputs=2),
    "Adam": Case(("=0.1", 1, "N 3", "N 3", "N 3", "N 3"), outputs=3),
    "Momentum": Case(
        ("=0.1", 1, "N 3", "N 3", "N 3"),
        {"alpha": 0.9, "beta": 0.1, "norm_coefficient": 0.001},
        outputs=2,
        variants=({"mode": "standard"}, {"mode": "nesterov"}),
    ),
}
