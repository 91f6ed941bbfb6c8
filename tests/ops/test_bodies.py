"""Every function body beside `reference`: as written for hand-made cases, sizes known or not."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx.backend.test.case.node import collect_testcases

import sardonyx as sx
from build import from_text
from differential import close
from sardonyx.check import validate
from sardonyx.dtypes import STRING, from_numpy
from sardonyx.errors import InferenceError, UnsupportedError
from sardonyx.infer import infer, infer_shapes
from sardonyx.ir import Model, TensorType
from sardonyx.ir.types import shape_text
from sardonyx.ops import registry
from sardonyx.ops.bodies import expand, expand_all, function, has_body
from sardonyx.reference import Evaluator
from sardonyx.wire import decode_tensor

BF16 = ml_dtypes.bfloat16
F16, F32, F64 = np.float16, np.float32, np.float64
FLOATS = (F32, F16, F64, BF16)
NEWEST = registry.NEWEST_OPSET[""]
IR_VERSIONS = {7: 3, 8: 3, 9: 4, 10: 5, 11: 6, 12: 7, 13: 7, 14: 7, 15: 8, 16: 8, 17: 8, 18: 8}


@dataclass
class Case:
    """A node on arrays; `terms` is the length of its longest sum."""

    op_type: str
    inputs: Sequence[Any]
    attributes: dict[str, Any] = field(default_factory=dict)
    terms: int = 4
    outputs: int = 1
    opset: int = NEWEST
    domain: str = ""

    def __str__(self) -> str:
        kinds = [str(x.dtype) for x in self.inputs if x is not None][:1]
        options = [f"{key}={value}" for key, value in self.attributes.items()]
        return "-".join([self.op_type, *kinds, *options, str(self.opset)])[:90]


def normal(*shape: int, dtype: Any = F32, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(dtype)


def uniform(*shape: int, dtype: Any = F32) -> np.ndarray:
    return np.random.default_rng(shape).random(shape).astype(dtype)


def ints(*shape: int, low: int = -9, high: int = 9, dtype: Any = np.int64) -> np.ndarray:
    return np.random.default_rng(shape).integers(low, high, shape).astype(dtype)


def model_of(case: Case, *, shapes: str = "known") -> Model:
    """One node; inputs are declared with their sizes, with their ranks only, or with neither."""
    names = [f"x{index}" if x is not None else "" for index, x in enumerate(case.inputs)]
    infos = []
    for name, x in zip(names, case.inputs, strict=True):
        if x is not None:
            shape = {"known": x.shape, "ranks": [None] * x.ndim, "none": None}[shapes]
            infos.append(helper.make_tensor_value_info(name, from_numpy(x.dtype).code, shape))
    outputs = [f"y{index}" for index in range(case.outputs)]
    node = helper.make_node(
        case.op_type, names, outputs, name="call", domain=case.domain, **case.attributes
    )
    graph = helper.make_graph(
        [node], "test", infos, [helper.make_empty_tensor_value_info(name) for name in outputs]
    )
    imports = [helper.make_opsetid("", case.opset)]
    if case.domain:
        imports.append(helper.make_opsetid(case.domain, 1))
    made = helper.make_model(
        graph, opset_imports=imports, ir_version=IR_VERSIONS.get(case.opset, 10)
    )
    return infer_shapes(sx.loads(made.SerializeToString()))


def feeds_of(case: Case) -> dict[str, Any]:
    return {f"x{i}": x for i, x in enumerate(case.inputs) if x is not None}


def run(model: Model, feeds: dict[str, Any]) -> list[Any]:
    return list(Evaluator(model).run(feeds).values())


def same(actual: Sequence[Any], expected: Sequence[Any], terms: int) -> None:
    for ours, theirs in zip(actual, expected, strict=True):
        if from_numpy(theirs.dtype) is STRING:
            assert ours.tolist() == theirs.tolist()
        elif from_numpy(theirs.dtype).is_floating:
            close([ours], [theirs], terms)
        else:
            assert ours.dtype == theirs.dtype
            np.testing.assert_array_equal(ours, theirs)


def matches(case: Case, actual: Sequence[Any], expected: Sequence[Any]) -> None:
    if case.op_type == "Bernoulli":
        actual, expected = ([np.full_like(x, 0) for x in xs] for xs in (actual, expected))
    same(actual, expected, case.terms)


def problems(model: Model) -> list[Any]:
    found = validate(model).problems
    return [one for one in found if one.severity != "info" and one.kind != "missing-shape"]


def agrees(case: Case, *, shapes: str = "known", nested: bool = False) -> None:
    expected = run(model_of(case, shapes=shapes), feeds_of(case))
    model = model_of(case, shapes=shapes)
    assert expand_all(model, only=None if nested else {case.op_type}) >= 1
    assert not problems(model)
    left = {node.op_type for node in model.all_nodes()}
    assert case.op_type not in left
    if nested:
        imports = model.opset_imports
        assert not [node for node in model.all_nodes() if has_body(node, imports)]
    matches(case, run(sx.loads(sx.dumps(model)), feeds_of(case)), expected)


def activations() -> list[Case]:
    options: dict[str, list[dict[str, Any]]] = {
        "Celu": [{}, {"alpha": 2.0}, {"alpha": 0.3}],
        "Elu": [{}, {"alpha": 0.5}],
        "Gelu": [{}, {"approximate": "tanh"}],
        "HardSigmoid": [{}, {"alpha": 0.4, "beta": 0.1}],
        "HardSwish": [{}],
        "LeakyRelu": [{}, {"alpha": 0.3}],
        "Mish": [{}],
        "Relu": [{}],
        "Selu": [{}, {"alpha": 1.0, "gamma": 2.0}],
        "Shrink": [{}, {"bias": 0.5, "lambd": 1.0}],
        "Softplus": [{}],
        "Softsign": [{}],
        "Swish": [{}, {"alpha": 1.5}],
        "ThresholdedRelu": [{}, {"alpha": 0.25}],
    }
    made = []
    for name, listed in options.items():
        for attributes in listed:
            for dtype in FLOATS if name != "Shrink" else FLOATS[:3]:
                x = np.concatenate([normal(3, 40, dtype=F64).reshape(-1) * 4, [0.0, -0.0, 30, -30]])
                made.append(Case(name, [x.astype(dtype)], attributes))
    for dtype in (np.int8, np.int64, np.uint8):
        x = ints(20, low=0 if dtype == np.uint8 else -9, dtype=dtype)
        made += [
            Case("Shrink", [x], {"bias": 1.5, "lambd": 2.0}),
            Case("Shrink", [x], {"lambd": 3.0}),
        ]
    made += [Case("Relu", [ints(20, dtype=dtype)]) for dtype in (np.int8, np.int64)]
    for dtype in (*FLOATS, np.int32, np.uint64):
        x = normal(2, 3, 4, dtype=F64) * 3
        slope = np.abs(normal(3, 1, dtype=F64) * 3)
        if np.dtype(dtype).kind == "u":
            x = np.abs(x)
        made.append(Case("PRelu", [x.astype(dtype), slope.astype(dtype)]))
    made.append(Case("PRelu", [normal(3), normal(1, 1)]))
    for name in ("Softmax", "LogSoftmax"):
        for dtype in FLOATS:
            for axis in (-1, 0, 1):
                made.append(Case(name, [normal(2, 5, 3, dtype=dtype) * 3], {"axis": axis}, 5))
        made.append(Case(name, [np.float32(1.5).reshape(())]))
    for dtype in FLOATS:
        pair = [normal(4, 6, dtype=dtype), normal(4, 6, dtype=dtype, seed=1)]
        made += [Case("SwiGLU", pair), Case("SwiGLU", pair, {"alpha": 1.7})]
    return made


def elementwise() -> list[Case]:
    made = []
    for dtype in (*FLOATS, np.int8, np.uint64):
        x = np.abs(ints(4, 5, dtype=np.int64)).astype(dtype)
        low, high = np.asarray(2, dtype), np.asarray(5, dtype)
        bounds = ([low, high], [low], [None, high], [low.reshape(1), high], [], [high, low])
        made += [Case("Clip", [x, *given]) for given in bounds]
        steps = np.asarray([1, 2, 3, 4, 5], dtype)
        made += [Case(name, [x, steps]) for name in ("GreaterOrEqual", "LessOrEqual")]
    nan = np.array([np.nan, 1, np.inf, -np.inf], F32)
    made += [Case(name, [nan, np.ones(4, F32)]) for name in ("GreaterOrEqual", "LessOrEqual")]
    for source in (F32, np.int32, np.bool_):
        for target in (F16, np.uint8, np.int64, BF16, np.bool_):
            made.append(
                Case("CastLike", [ints(5, low=0, high=9).astype(source), np.ones(2, target)])
            )
    words = np.array(["1", "2.5", "-3"], object)
    made.append(Case("CastLike", [words, np.ones((), F32)]))
    for target in (ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2):
        for saturate in (0, 1):
            x = np.array([1e6, -2e9, 1.7], F32)
            made.append(Case("CastLike", [x, np.ones(1, target)], {"saturate": saturate}))
    return made


def reductions() -> list[Case]:
    made = []
    names = ("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceSumSquare")
    for name in names:
        positive = name == "ReduceLogSum"
        for dtype in FLOATS:
            x = normal(3, 4, 5, dtype=dtype)
            x = np.abs(x) if positive else x
            for axes in (np.array([1]), np.array([-1, 0]), None):
                made += [Case(name, [x, axes], {"keepdims": kept}, 60) for kept in (0, 1)]
            made.append(Case(name, [x], {"noop_with_empty_axes": 1}))
            made.append(Case(name, [x, np.zeros(0, np.int64)], {"noop_with_empty_axes": 1}))
        if name in {"ReduceL1", "ReduceSumSquare"}:
            whole = [ints(3, 7, low=0, dtype=dtype) for dtype in (np.int32, np.uint64)]
            made += [Case(name, [x, np.array([1])], {}, 7) for x in whole]
        made.append(Case(name, [ints(3, 7, low=1, dtype=np.int32), np.array([1])], {}, 7, opset=18))
        made.append(Case(name, [np.zeros((2, 0), F32), np.array([1])]))
    extreme = np.array([[-np.inf, -np.inf], [np.inf, 1], [3e38, 3e38], [-3e38, 4]], F32)
    made.append(Case("ReduceLogSumExp", [extreme, np.array([1])], {"keepdims": 0}))
    return made


def movements() -> list[Case]:
    made = []
    for mode in ("DCR", "CRD"):
        for x in (normal(2, 8, 3, 5), ints(1, 4, 2, 2), np.array([["a"] * 4], object)):
            deep = x.reshape(1, 4, 1, 1) if x.ndim == 2 else x
            made.append(Case("DepthToSpace", [deep], {"blocksize": 2, "mode": mode}))
        made.append(Case("SpaceToDepth", [normal(2, 3, 4, 6)], {"blocksize": 2, "mode": mode}))
    made.append(Case("DepthToSpace", [np.zeros((0, 4, 3, 3), F32)], {"blocksize": 2}))
    for shape in ([3, 8], [6, 2], [4, 5], [9, 9], [1, 0]):
        made.append(Case("CenterCropPad", [normal(4, 5), np.array(shape)]))
        wide = normal(2, 4, 5, 3)
        made.append(Case("CenterCropPad", [wide, np.array(shape, np.int32)], {"axes": [1, -2]}))
    made.append(Case("CenterCropPad", [np.array([["a", "b"]], object), np.array([3, 1])]))
    made.append(Case("CenterCropPad", [np.array([True, False]), np.array([5])]))
    made.append(Case("CenterCropPad", [normal(3, dtype=BF16), np.array([5])]))
    return made


def generators() -> list[Case]:
    made = []
    for start, limit, delta in ((0, 10, 3), (10, 0, -3), (5, 5, 1), (3, 1, 2), (-4, 5, 1)):
        for dtype in (*FLOATS, np.int16, np.int32, np.int64):
            scalars = [np.asarray(item, dtype) for item in (start, limit, delta)]
            made.append(Case("Range", scalars))
    fine = [np.asarray(item, F16) for item in (0.5, 3, 0.1)]
    made += [Case("Range", fine), Case("Range", fine, {"stash_type": TensorProto.FLOAT16})]
    for name in ("HannWindow", "HammingWindow", "BlackmanWindow"):
        for periodic in (0, 1):
            for size in (0, 1, 2, 10):
                made.append(Case(name, [np.asarray(size)], {"periodic": periodic}))
            for code in (TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.INT32):
                options = {"periodic": periodic, "output_datatype": code}
                made.append(Case(name, [np.asarray(9, np.int32)], options))
    for dtype in FLOATS:
        probabilities = uniform(30, dtype=dtype)
        made.append(Case("Bernoulli", [probabilities], {"seed": 3.0}))
        made.append(Case("Bernoulli", [probabilities], {"seed": 3.0, "dtype": TensorProto.BOOL}))
    for dtype in FLOATS:
        for align in (0, 1):
            plane = [normal(2, 2, 3, dtype=dtype), np.array([2, 3, 4, 5])]
            space = [normal(2, 3, 4, dtype=dtype), np.array([2, 3, 2, 1, 3])]
            made.append(Case("AffineGrid", plane, {"align_corners": align}))
            made.append(Case("AffineGrid", space, {"align_corners": align}))
    for x in (normal(3, 7) * 5, np.abs(normal(5)), -np.abs(normal(5)), np.zeros(4, F32)):
        made.append(Case("DynamicQuantizeLinear", [x], outputs=3))
    return made


def normalizations() -> list[Case]:
    made = []
    for dtype in FLOATS:
        x = normal(2, 6, 3, 4, dtype=dtype)
        for groups in (1, 2, 6):
            parts = [normal(6, dtype=dtype), normal(6, dtype=dtype, seed=1)]
            made.append(Case("GroupNormalization", [x, *parts], {"num_groups": groups}, 72))
            if dtype != BF16:
                parts = [normal(groups, dtype=dtype), normal(groups, dtype=dtype, seed=1)]
                options = {"num_groups": groups}
                made.append(Case("GroupNormalization", [x, *parts], options, 72, opset=18))
        for axis in (-1, 1, 0, -2):
            shape = x.shape[axis:]
            scale, bias = normal(*shape, dtype=dtype), normal(*shape, dtype=dtype, seed=2)
            options = {"axis": axis, "epsilon": 1e-3}
            made += [
                Case("LayerNormalization", [x, scale, bias], options, 144, outputs=3),
                Case("LayerNormalization", [x, scale], {"axis": axis}, 144),
                Case("RMSNormalization", [x, scale], {"axis": axis}, 144),
            ]
        stash = {"stash_type": TensorProto.BFLOAT16}
        made.append(Case("LayerNormalization", [x, normal(4, dtype=dtype)], stash, 8, outputs=3))
        made.append(Case("RMSNormalization", [x, normal(4)], {}, 8))
        made.append(Case("MeanVarianceNormalization", [x], {}, 24))
        made.append(Case("MeanVarianceNormalization", [x], {"axes": [-1, 1]}, 24))
    return made


def losses() -> list[Case]:
    made = []
    for name in ("NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss"):
        count = 1 if name.startswith("Neg") else 2
        for dtype in FLOATS:
            scores = normal(3, 5, 2, dtype=dtype)
            classes = ints(3, 2, low=0, high=5)
            weights = uniform(5, dtype=dtype)
            for reduction in ("none", "sum", "mean"):
                options = {"reduction": reduction}
                for given in ([], [weights]):
                    made.append(Case(name, [scores, classes, *given], options, 12, count))
                    ignoring = {**options, "ignore_index": 2}
                    made.append(Case(name, [scores, classes, *given], ignoring, 12, count))
        flat = [normal(3, 5), ints(3, low=0, high=5, dtype=np.int32)]
        outside = np.array([1, -1, 4])
        made += [
            Case(name, flat, {}, 5),
            Case(name, [flat[0], outside], {"ignore_index": -1}, 5),
        ]
    return made


def attentions() -> list[Case]:
    made = []
    for dtype in FLOATS:
        q, k, v = (
            normal(2, heads, n, d, dtype=dtype) for heads, n, d in ((4, 3, 8), (2, 5, 8), (2, 5, 6))
        )
        past = [normal(2, 2, 4, 8, dtype=dtype), normal(2, 2, 4, 6, dtype=dtype)]
        flat = [normal(2, n, d, dtype=dtype) for n, d in ((3, 32), (5, 16), (5, 12))]
        heads = {"q_num_heads": 4, "kv_num_heads": 2}
        mask = ints(3, 5, low=0, high=2).astype(bool)
        mask[1] = False
        added = normal(2, 1, 3, 5, dtype=dtype)
        made += [
            Case("Attention", [q, k, v], {}, 16),
            Case("Attention", [q, k, v], {"is_causal": 1, "softcap": 2.0, "scale": 0.3}, 16),
            Case("Attention", [q, k, v, mask], {"qk_matmul_output_mode": 3}, 16, 4),
            Case("Attention", [q, k, v, added], {"qk_matmul_output_mode": 2}, 16, 4),
            Case("Attention", [q, k, v, None, *past], {"is_causal": 1}, 16, 3),
            Case("Attention", flat, heads, 16, 3),
            Case("Attention", [*flat, None, *past], {**heads, "softcap": 1.0}, 16, 4),
            Case("Attention", [q, k, v, added[..., :4]], {}, 16),
            Case("Attention", [q, k, v, mask[:, :1]], {}, 16, opset=23),
            Case("Attention", [q, k, v, mask[:, :1]], {}, 16, opset=24),
            Case("Attention", [q, k, v, None, None, None, np.array([3, 5])], {"is_causal": 1}, 16),
            Case("Attention", [q, k, v], {"left_window_size": 1, "right_window_size": 0}, 16),
            Case("Attention", [q, k, v], {"left_window_size": 2**63 - 1}, 16),
            Case("Attention", [q, k, v], {"softmax_precision": TensorProto.DOUBLE}, 16),
            Case("Attention", [q, k, v], {"scale": -0.5}, 16),
            Case("FlexAttention", [q, k, v], {}, 16, domain="ai.onnx.preview"),
            Case("FlexAttention", [q, k, v], {"scale": 0.2}, 16, domain="ai.onnx.preview"),
        ]
    for dtype in (F32, F16, BF16):
        x, flat = normal(2, 3, 5, 8, dtype=dtype), normal(2, 5, 24, dtype=dtype)
        ids = ints(2, 5, low=0, high=9)
        for interleaved in (0, 1):
            for width in (0, 4):
                half = (width or 8) // 2
                caches = [normal(9, half, dtype=dtype), normal(9, half, dtype=dtype, seed=1)]
                options = {"interleaved": interleaved, "rotary_embedding_dim": width}
                made.append(Case("RotaryEmbedding", [x, *caches, ids], options))
                direct = [normal(2, 5, half, dtype=dtype), normal(2, 5, half, dtype=dtype, seed=1)]
                made.append(Case("RotaryEmbedding", [flat, *direct], {**options, "num_heads": 3}))
    return made


def linear_attentions() -> list[Case]:
    made = []
    for dtype in (F32, F16, BF16):
        q, k = normal(2, 5, 4 * 3, dtype=dtype), normal(2, 5, 2 * 3, dtype=dtype)
        v, state = normal(2, 5, 2 * 4, dtype=dtype), normal(2, 2, 3, 4)
        heads = {"q_num_heads": 4, "kv_num_heads": 2}
        decay, thin = -uniform(2, 5, 2 * 3, dtype=dtype), -uniform(2, 5, 2, dtype=dtype)
        beta, one = uniform(2, 5, 2, dtype=dtype), uniform(2, 5, 1, dtype=dtype)
        name = "LinearAttention"
        made += [
            Case(name, [q, k, v], {**heads, "update_rule": "linear"}, 40, 2),
            Case(name, [q, k, v, state, decay], {**heads, "update_rule": "gated"}, 40, 2),
            Case(name, [q, k, v, None, None, beta], {**heads, "update_rule": "delta"}, 40, 2),
            Case(name, [q, k, v, state, thin, one], {**heads, "scale": 0.4}, 40, 2),
        ]
        x, weight = normal(2, 3, 7, dtype=dtype), normal(3, 1, 4, dtype=dtype)
        bias, before = normal(3, dtype=dtype), normal(2, 3, 3, dtype=dtype)
        name = "CausalConvWithState"
        made += [
            Case(name, [x, weight], {}, 4, 2),
            Case(name, [x, weight, bias, before], {"activation": "silu"}, 4, 2),
            Case(name, [x, weight[:, :, :1], bias], {"activation": "swish"}, 4, 2),
        ]
    return made


CASES = [
    *activations(),
    *elementwise(),
    *reductions(),
    *movements(),
    *generators(),
    *normalizations(),
    *losses(),
    *attentions(),
    *linear_attentions(),
]


def test_every_operator_with_a_function_has_a_case() -> None:
    defined = {
        schema.name
        for schema in onnx.defs.get_all_schemas_with_history()
        if schema.has_function or schema.has_context_dependent_function
    }
    assert len(defined) == 49
    assert defined == {case.op_type for case in CASES} | {"SequenceMap"}


NARROW = {np.dtype(dtype) for dtype in (F16, F64, BF16)}
WIDE = [case for case in CASES if not any(x is not None and x.dtype in NARROW for x in case.inputs)]


def one_in(cases: Sequence[Case], count: int) -> list[Any]:
    """The cases, all but `count` for each operator and type marked as slow."""
    seen: Counter[tuple[str, Any]] = Counter()
    marked = []
    for case in cases:
        key = (case.op_type, case.inputs[0].dtype)
        seen[key] += 1
        marks = [pytest.mark.slow] if seen[key] > count else []
        marked.append(pytest.param(case, id=str(case), marks=marks))
    return marked


@pytest.mark.parametrize("case", one_in(CASES, 1))
def test_body_agrees_with_reference(case: Case) -> None:
    agrees(case)


@pytest.mark.parametrize("case", one_in(WIDE, 3))
def test_body_needs_no_sizes(case: Case) -> None:
    try:
        agrees(case, shapes="ranks", nested=True)
    except UnsupportedError as error:
        assert case.op_type in {"AffineGrid", "CausalConvWithState"}
        assert "infer shapes first" in str(error)


def no_ranks(case: Case) -> str:
    try:
        agrees(case, shapes="none")
    except UnsupportedError as error:
        assert "infer shapes first" in str(error)
        return case.op_type
    return ""


def test_only_these_bodies_need_a_rank() -> None:
    scalars = {"Softmax", "LogSoftmax"}  # of an unknown rank, which is not taken for 0
    cases = [case for case in WIDE if case.inputs[0].ndim or case.op_type not in scalars]
    needing = {no_ranks(case) for case in cases} - {""}
    assert needing == {
        "AffineGrid",
        "Attention",
        "CausalConvWithState",
        "FlexAttention",
        "LayerNormalization",
        "RMSNormalization",
        "RotaryEmbedding",
    }


def versions() -> list[tuple[str, int, str]]:
    """Every version that has a body, from the opset on whose operators broadcast."""
    return [
        (operator.op_type, max(version, 9), operator.domain)
        for operator in registry.operators()
        for version in operator.schemas()
        if operator.has_body(version) and operator.op_type != "SequenceMap"
    ]


@pytest.mark.parametrize("op_type,version,domain", versions())
def test_body_in_the_opset_that_brought_the_version(
    op_type: str, version: int, domain: str
) -> None:
    done = 0
    for case in WIDE:
        if case.op_type != op_type or done == 3:
            continue
        given = dict(case.attributes)
        schema = registry.get(domain, op_type).schema(1 if domain else version)
        if set(given) - set(schema.attributes) or len(case.inputs) > len(schema.inputs):
            continue
        if op_type == "GroupNormalization" and version == 18 and case.opset != 18:
            continue
        older = Case(
            op_type,
            case.inputs,
            given,
            case.terms,
            case.outputs,
            NEWEST if domain else version,
            domain,
        )
        if types_fit(older, schema) and not infer(model_of(older)).problems:
            agrees(older)
            done += 1
    assert done


def types_fit(case: Case, schema: Any) -> bool:
    for x, param in zip(case.inputs, schema.inputs.values(), strict=False):
        if x is not None and TensorType(from_numpy(x.dtype)) not in schema.allowed(param):
            return False
    return True


SEQUENCE_MAP = """<ir_version: 10, opset_import: ["": 21]>
agraph (seq(float[N]) s, seq(float[M]) t, float[N] w, float k)
    => (seq(float[N]) y, seq(int64[1]) z)
{
  y, z = SequenceMap <body = inner (float[N] a, float[M] b, float[N] c)
      => (float[N] r, int64[1] n) {
    ak = Mul(a, k)
    sum = Add(ak, c)
    flag = Constant <value = bool {1}> ()
    r = If (flag) <
      then_branch = yes () => (float[N] p) { p = Neg(sum) },
      else_branch = no () => (float[N] q) { q = Identity(sum) }>
    n = Shape(b)
  }> (s, t, w)
}"""


@pytest.mark.parametrize("op_type", ["Elu", "Selu", "Celu", "Softplus", "Mish", "Gelu"])
@pytest.mark.parametrize("dtype", [F32, F64])
def test_small_results_are_exact_too(op_type: str, dtype: Any) -> None:
    # each result within rounding of itself, not of the greatest one
    x = np.array([-1e-7, -1e-3, -0.1, -1, 1e-7, 0.1, 3], dtype)
    if op_type in {"Softplus", "Mish"}:
        x = np.concatenate([x, np.array([-12, -20, -30], dtype)])
    case = Case(op_type, [x])
    (expected,) = run(model_of(case), feeds_of(case))
    model = model_of(case)
    expand_all(model)
    (found,) = run(model, feeds_of(case))
    np.testing.assert_allclose(found, expected, rtol=16 * np.finfo(dtype).eps, atol=0)


@pytest.mark.parametrize("seed", [{}, {"seed": 7.0}])
def test_bernoulli_has_the_probabilities(seed: dict[str, float]) -> None:
    chances = np.array([0, 0.1, 0.5, 0.9, 1, -1, 2, np.nan], F32)
    x = np.broadcast_to(chances, (4000, 8)).copy()
    model = model_of(Case("Bernoulli", [x], {"dtype": TensorProto.INT32, **seed}))
    assert expand_all(model) == 1
    (y,) = run(model, {"x0": x})
    assert set(np.unique(y)) == {0, 1}
    expected = np.array([0, 0.1, 0.5, 0.9, 1, 0, 1, 0])
    # six standard deviations of the mean of 4000 draws
    bound = 6 * np.sqrt(expected * (1 - expected) / 4000)
    assert (np.abs(y.mean(0) - expected) <= bound).all()


def sequence_map_feeds() -> dict[str, Any]:
    first = [normal(3), normal(3, seed=1), normal(3, seed=2)]
    second = [normal(size) for size in (1, 4, 2)]
    return {"s": first, "t": second, "w": normal(3, seed=5), "k": np.float32(0.5).reshape(())}


@pytest.mark.parametrize("count", [3, 1, 0])
def test_sequence_map(count: int) -> None:
    model, feeds = from_text(SEQUENCE_MAP), sequence_map_feeds()
    feeds |= {"s": feeds["s"][:count], "t": feeds["t"][:count]}
    expected = Evaluator(model).run(feeds)
    assert expand_all(infer_shapes(model)) == 1
    assert not problems(model)
    found = Evaluator(sx.loads(sx.dumps(model))).run(feeds)
    for name, sequence in expected.items():
        assert len(found[name]) == count
        same(found[name], sequence, 1)


MODIFIED = """<ir_version: 10, opset_import: ["": 26, "ai.onnx.preview": 1]>
agraph (float16[1,4,3,8] q, float16[1,2,5,8] k, float16[1,2,5,6] v, float bias)
    => (float16[1,4,3,6] y)
{
  y = ai.onnx.preview.FlexAttention <
    score_mod = add (float[1,4,3,5] s) => (float[1,4,3,5] t) { t = Add(s, bias) },
    prob_mod = twice (float[1,4,3,5] p) => (float[1,4,3,5] r)
      <float two = {2}> { r = Mul(p, two) }>
    (q, k, v)
}"""


def test_flex_attention_with_modifiers() -> None:
    model = from_text(MODIFIED)
    feeds = {
        "q": normal(1, 4, 3, 8, dtype=F16),
        "k": normal(1, 2, 5, 8, dtype=F16),
        "v": normal(1, 2, 5, 6, dtype=F16),
        "bias": np.float32(0.25).reshape(()),
    }
    expected = run(model, feeds)
    assert expand_all(infer_shapes(model), only={"FlexAttention"}) == 1
    assert not problems(model)
    same(run(model, feeds), expected, 13)


@pytest.mark.parametrize("case", WIDE[::9], ids=str)
def test_body_as_a_function(case: Case) -> None:
    expected = run(model_of(case), feeds_of(case))
    model = model_of(case)
    (node,) = model.graph.nodes
    made = function(node, model.opset_imports, domain="bodies")
    model.functions[made.key] = made
    model.opset_imports["bodies"] = 1
    node.domain = "bodies"
    node.attributes.clear()
    again = sx.loads(sx.dumps(model))
    assert not [one for one in problems(again) if one.severity == "error"]
    matches(case, run(again, feeds_of(case)), expected)


TWICE = """<ir_version: 10, opset_import: ["": 21]>
agraph (float[N,4] x, float[4] s, bool c) => (float[N,4] y, float[N,4] z)
{
  [first] h = LayerNormalization(x, s)
  y = Relu(h)
  z = If (c) <
    then_branch = yes () => (float[N,4] p) { p = LayerNormalization(h, s) },
    else_branch = no () => (float[N,4] q) { q = HardSwish(h) }>
}"""


def test_names_types_and_metadata() -> None:
    model = from_text(TWICE)
    model.graph.nodes.first.metadata["origin"] = "layer 1"
    model.graph.nodes.last.name = "first/Sub"
    h = model.graph.nodes.first.output
    made = expand(model.graph.nodes.first, model.opset_imports)
    assert model.graph.nodes.first is made[0]
    assert made[-1].output is h
    assert h.name == "h"
    assert all(node.metadata == {"origin": "layer 1"} for node in made)
    assert all(node.name.startswith("first/") for node in made)
    assert all(str(node.output.type) == "tensor(float)" for node in made)
    assert {shape_text(node.output.shape) for node in made} == {"[N, 4]", "[N, 1]"}
    names = [node.name for node in model.all_nodes() if node.name]
    assert len(names) == len(set(names))


def test_all_graphs_are_expanded_and_what_is_named_stays() -> None:
    feeds = {"x": normal(3, 4), "s": normal(4), "c": np.array(True)}
    model = from_text(TWICE)
    expected = run(model, feeds)
    assert expand_all(model) == 4
    assert not problems(model)
    assert [value.name for value in model.graph.outputs] == ["y", "z"]
    same(run(sx.loads(sx.dumps(model)), feeds), expected, 8)


def test_only_some_are_expanded() -> None:
    assert expand_all(from_text(TWICE), only={"Relu"}) == 1
    assert expand_all(from_text(TWICE), only=lambda node: node.name == "first") == 1
    assert expand_all(from_text(TWICE), only=()) == 0


def test_constants_are_nodes_where_initializers_would_be_inputs() -> None:
    model = from_text(
        """<ir_version: 3, opset_import: ["": 9]>
        agraph (float[N] x) => (float[N] y) { y = Elu <alpha = 0.5> (x) }"""
    )
    x = normal(9)
    expected = run(model, {"x": x})
    assert expand_all(model) == 1
    assert not model.graph.initializers
    assert not [one for one in problems(model) if one.severity == "error"]
    same(run(model, {"x": x}), expected, 2)


def test_nodes_are_written_for_the_opset_asked_for() -> None:
    model = from_text(
        """<ir_version: 10, opset_import: ["": 24]>
        agraph (float[2,3] x) => (float[2] y) <int64[1] axes = {1}>
        { y = ReduceL2 <keepdims = 0> (x, axes) }"""
    )
    expand_all(model, opset=12)
    (last,) = [node for node in model.graph.nodes if node.op_type == "ReduceSum"]
    assert last.attribute("axes") == (1,)
    model.opset_imports[""] = 12
    x = normal(2, 3)
    assert not [one for one in problems(model) if one.severity == "error"]
    same(run(model, {"x": x}), [np.sqrt((x * x).sum(1))], 3)


@pytest.mark.parametrize(
    "text,message",
    [
        ("(float[N] x) => (float[N] y) { y = Sqrt(x) }", "Sqrt-13 has no function body"),
        ("(float x) => (float y) { h = Foo(x) y = LayerNormalization(h, x) }", "type"),
    ],
)
def test_what_has_no_body(text: str, message: str) -> None:
    model = from_text(f'<ir_version: 10, opset_import: ["": 21]> agraph {text}')
    node = model.graph.nodes.last
    assert node is not None
    with pytest.raises(UnsupportedError, match=message):
        expand(node, model.opset_imports)


def test_a_node_that_does_not_fit_changes_nothing() -> None:
    text = """<ir_version: 10, opset_import: ["": 21]> agraph (float[2,3] x, float[2] s)
        => (float[2,3] y) { y = LayerNormalization <axis = 5> (x, s) }"""
    model = from_text(text)
    with pytest.raises(InferenceError, match="axis=5"):
        expand_all(model)
    text = text.replace("axis = 5", "axis = 1").replace("float[2,3] x", "float x")
    text = text.replace("21", "8").replace("LayerNormalization <axis = 1> (x, s)", "Softplus(x)")
    model = from_text(text)
    with pytest.raises(UnsupportedError, match="Atanh came with version 9"):
        expand_all(model)
    assert [node.op_type for node in model.graph.nodes] == ["Softplus"]
    assert not model.graph.initializers
    assert set(model.graph.inputs[0].users) == set(model.graph.nodes)


def test_a_broken_opset_is_a_typed_error() -> None:
    model = from_text(
        """<ir_version: 3, opset_import: ["": 6]>
        agraph (float[N] x) => (float[N] y) { y = HardSigmoid(x) }"""
    )
    with pytest.raises(UnsupportedError, match="do not broadcast"):
        expand_all(model)


def test_calls_of_the_models_own_functions_stay() -> None:
    model = from_text(
        """<ir_version: 10, opset_import: ["": 21]>
        agraph (float[N] x) => (float[N] y) { y = Relu(x) }
        <domain: "", opset_import: ["": 21]> Relu (a) => (b) { b = Neg(a) }"""
    )
    assert expand_all(model) == 0


def official_cases() -> dict[str, Any]:
    names = {case.op_type for case in CASES} | {"SequenceMap"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {
            case.name: case
            for case in collect_testcases(None)
            if any(node.op_type in names for node in case.model.graph.node)
            and not case.name.endswith("_expanded")
        }


@pytest.mark.onnx
def test_official_cases_with_bodies_in_the_place_of_nodes() -> None:
    wrong, count = [], 0
    for name, case in official_cases().items():
        model = infer_shapes(sx.loads(case.model.SerializeToString()))
        if not any(has_body(node, model.opset_imports) for node in model.all_nodes()):
            continue
        count += 1
        try:
            assert expand_all(model) >= 1
            assert not problems(model)
            onnx.checker.check_model(onnx.load_from_string(sx.dumps(model)), full_check=True)
            for inputs, outputs in case.data_sets:
                given = (as_array(item) for item in inputs)
                feeds = dict(zip((value.name for value in model.graph.inputs), given, strict=False))
                for ours, theirs in zip(run(model, feeds), outputs, strict=True):
                    hold(ours, as_array(theirs), case, contents="bernoulli" not in name)
        except Exception as error:  # noqa: BLE001
            wrong.append(f"{name}: {type(error).__name__}: {error}")
    assert not wrong, f"{len(wrong)} of {count}\n" + "\n".join(wrong)


def as_array(item: Any) -> Any:
    if isinstance(item, onnx.TensorProto):
        return decode_tensor(item.SerializeToString()).numpy()
    return item


def hold(ours: Any, theirs: Any, case: Any, *, contents: bool) -> None:
    if isinstance(theirs, list):
        assert len(ours) == len(theirs)
        for a, b in zip(ours, theirs, strict=True):
            hold(a, b, case, contents=contents)
        return
    theirs = np.asarray(theirs)
    assert ours.shape == theirs.shape
    if theirs.dtype.kind in "OUS":
        assert ours.astype(str).tolist() == theirs.astype(str).tolist()
        return
    assert ours.dtype == theirs.dtype
    if contents and theirs.dtype.kind in "biufc":
        np.testing.assert_allclose(ours, theirs, rtol=case.rtol, atol=case.atol)
    elif contents:
        wide = ours.astype(F64), theirs.astype(F64)
        np.testing.assert_allclose(*wide, rtol=max(case.rtol, 2.0**-6), atol=case.atol)
