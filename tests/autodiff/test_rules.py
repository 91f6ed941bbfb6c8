"""Every gradient rule against central differences in double precision."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from autodiff.differences import check_gradient, distinct, normal, positive, within

Case = tuple[tuple[Any, ...], dict[str, Any]]


def case(*arguments: Any, **options: Any) -> Case:
    return arguments, options


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def labels(cases: list[Case]) -> list[str]:
    return [
        "-".join([arguments[0], *(f"{key}={value}" for key, value in options.items())])
        for arguments, options in cases
    ]


LOOSE = {"tolerance": 1e-6}
"""Parameters are FLOAT, or third derivatives are large."""

UNARY = [
    case(name, normal(2, 3))
    for name in [
        "Abs",
        "Neg",
        "Sign",
        "Reciprocal",
        "Floor",
        "Ceil",
        "Round",
        "Exp",
        "Erf",
        "Tanh",
        "Sin",
        "Cos",
        "Atan",
        "Sinh",
        "Cosh",
        "Asinh",
        "Relu",
        "Sigmoid",
        "Softplus",
        "Softsign",
        "HardSwish",
        "Mish",
        "LeakyRelu",
        "Elu",
        "Selu",
        "HardSigmoid",
        "ThresholdedRelu",
        "Swish",
        "Gelu",
        "Shrink",
        "Hardmax",
        "Identity",
    ]
]
UNARY += [case(name, within(2, 3)) for name in ("Asin", "Acos", "Atanh", "Tan")]
UNARY += [case(name, positive(2, 3) + 1) for name in ("Acosh", "Sqrt", "Log")]
UNARY += [
    case("Celu", normal(3, 4), alpha=0.5, version=28),
    case("Gelu", normal(3, 4), approximate="tanh"),
    case("HardSwish", normal(3, 4) * 4),
    case("PRelu", normal(3, 4), normal(4)),
    case("Clip", normal(3, 4), np.array(-0.5), np.array(0.4)),
    case("Clip", normal(3, 4), None, np.array(0.4)),
    case("Clip", normal(3, 4), version=10, min=-0.5),
]

BINARY = [
    each
    for name in ("Add", "Sub", "Mul", "Div", "Mod")
    for options in [{"fmod": 1} if name == "Mod" else {}]
    for each in (
        case(name, normal(2, 3), positive(3), **options),
        case(name, normal(2, 1, 3), positive(4, 1), **options),
        case(name, normal(3), positive(2, 1, 3), **options),
        case(name, normal(2, 3), positive(2, 3), version=9, **options)
        if name != "Mod"
        else case(name, normal(2, 3), positive(1), version=28),
    )
]
BINARY += [
    case("Pow", positive(2, 3), normal(3)),
    case("Pow", normal(2, 3), np.array(3, np.int64)),
    case("Pow", normal(2, 3), ints(0, 1, 2)),
    case("Pow", positive(2, 3), normal(3), version=9),
    case("Where", np.array([[True], [False]]), normal(2, 3), normal(3)),
]
BINARY += [
    each
    for name in ("Max", "Min", "Sum", "Mean")
    for each in (
        case(name, normal(2, 3), normal(3, seed=1), normal(2, 1, seed=4)),
        case(name, normal(2, 3)),
    )
]

SOFTMAX = [
    each
    for name in ("Softmax", "LogSoftmax")
    for each in (
        case(name, normal(2, 3, 4), axis=1),
        case(name, normal(2, 3, 4)),
        case(name, normal(2, 3, 4), version=11, axis=1),
    )
]

PRODUCTS = [
    case("MatMul", normal(2, 3), normal(3, 4)),
    case("MatMul", normal(5, 2, 3), normal(3, 4)),
    case("MatMul", normal(3), normal(3, seed=1)),
    case("MatMul", normal(3), normal(2, 3, 4)),
    case("MatMul", normal(2, 1, 4, 3), normal(5, 3, 2)),
    case("MatMul", normal(2, 4, 3), normal(3)),
    case("Gemm", normal(2, 3), normal(3, 4)),
    case("Gemm", normal(2, 3), normal(3, 4), normal(2, 1), version=9),
    case("Einsum", normal(2, 3), normal(3, 4), equation="ij,jk->ik"),
    case("Einsum", normal(5, 2, 3), normal(5, 3, 4), equation="...ij,...jk->...ik"),
    case("Einsum", normal(1, 2, 3), normal(5, 3, 2), equation="...ij,...ji->..."),
    case("Einsum", normal(2, 1, 3), normal(5, 3, 4), equation="aij,bjk->aik"),
    case("Einsum", normal(5, 5), equation="ii->"),
    case("Einsum", normal(2, 2, 3), equation="iij->ji"),
    case("Einsum", normal(2, 3), equation="ij->i"),
    case("Einsum", normal(2, 3), normal(4), equation="ij,k->"),
    case("Einsum", normal(2, 3), normal(3), normal(2), equation="bi,i,b->b"),
]
PRODUCTS += [
    case(
        "Gemm",
        normal(*((3, 2) if a else (2, 3))),
        normal(*((4, 3) if b else (3, 4))),
        normal(4),
        transA=a,
        transB=b,
        alpha=0.5,
        beta=2.0,
    )
    for a in (0, 1)
    for b in (0, 1)
]

REDUCTIONS = [
    each
    for name in [
        "ReduceSum",
        "ReduceMean",
        "ReduceProd",
        "ReduceMax",
        "ReduceMin",
        "ReduceL1",
        "ReduceL2",
        "ReduceLogSum",
        "ReduceLogSumExp",
        "ReduceSumSquare",
    ]
    for x in [positive(2, 3, 4) if name == "ReduceLogSum" else distinct(2, 3, 4)]
    for each in (
        case(name, x, ints(1), constants=[1], keepdims=0),
        case(name, x, ints(-1, 0), constants=[1]),
        case(name, x, ints(1), keepdims=0),
        case(name, x, keepdims=0),
        case(name, x, version=11, axes=[0, 2], keepdims=0),
        case(name, x, None, noop_with_empty_axes=1),
    )
]
REDUCTIONS += [case("ReduceProd", np.array([[1.0, 0, 2], [3, 0, 0]]), ints(1), **LOOSE)]
REDUCTIONS += [
    case(name, positive(3, 4), np.array(1), exclusive=exclusive, reverse=reverse, version=26)
    for name in ("CumSum", "CumProd")
    for exclusive in (0, 1)
    for reverse in (0, 1)
]

SHAPES = [
    case("Reshape", normal(2, 3, 4), ints(4, -1)),
    case("Flatten", normal(2, 3, 4), axis=2),
    case("Squeeze", normal(2, 1, 4), ints(1)),
    case("Squeeze", normal(2, 1, 4)),
    case("Unsqueeze", normal(2, 4), ints(0, -1)),
    case("Unsqueeze", normal(2, 6), version=11, axes=[1]),
    case("Transpose", normal(2, 3, 4), perm=[2, 0, 1]),
    case("Transpose", normal(2, 3, 4)),
    case("Expand", normal(3, 1), ints(2, 3, 4)),
    case("Expand", normal(3, 1), ints(1)),
    case("Tile", normal(2, 3), ints(2, 3)),
    case("Concat", normal(2, 3), normal(2, 2), normal(2, 1), axis=-1),
    case("Split", normal(2, 6), ints(1, 3, 2), n_outputs=3, axis=1, output=1),
    case("Split", normal(2, 6), n_outputs=3, axis=1, output=2, num_outputs=3),
    case("Split", normal(2, 6), version=11, split=[2, 4], axis=1, n_outputs=2),
    case("Slice", normal(5, 6), ints(1, -4), ints(4, 2**31)),
    case("Slice", normal(5, 6), ints(-1), ints(-(2**31)), ints(1), ints(-2)),
    case("Slice", normal(5, 6), ints(1, 0), ints(5, 4), ints(1, 0), ints(2, 3), constants=[1, 2]),
    case("Slice", normal(5, 6), ints(1), ints(3), ints(1), constants=[1, 2, 3]),
    case("Slice", normal(5, 6), ints(4), ints(3), ints(1), constants=[1, 2, 3]),
    case("Slice", normal(5, 6), version=9, starts=[1], ends=[3], axes=[1]),
    case("Pad", normal(3, 4), ints(1, 0, 2, 1), np.array(0.5)),
    case("Pad", normal(3, 4), ints(-1, 0, 2, -1), np.array(0.5)),
    case("Pad", normal(3, 4), ints(2, 1), None, ints(1)),
    case("Pad", normal(3, 4), version=9, pads=[1, 0, 2, 1]),
    case("CenterCropPad", normal(3, 6), ints(5, 3)),
    case("CenterCropPad", normal(3, 6), ints(3), axes=[1]),
    case("DepthToSpace", normal(1, 8, 2, 3), blocksize=2),
    case("DepthToSpace", normal(1, 8, 2, 3), blocksize=2, mode="CRD"),
    case("SpaceToDepth", normal(1, 2, 4, 6), blocksize=2),
    case("Cast", normal(2, 3), to=1, tolerance=1e-2),
    case("CastLike", normal(2, 3), np.zeros(1, np.float32), tolerance=1e-2),
]
SHAPES += [
    case("Pad", normal(3, 4), ints(1, 2, 2, 1), mode=mode) for mode in ("reflect", "edge", "wrap")
]

INDEXING = [
    case("Gather", normal(4, 3), ints(1, 1, -1, 2).reshape(2, 2)),
    case("Gather", normal(4, 3, 2), ints(1, 1, -1), axis=1),
    case("Gather", normal(4, 3, 2), np.array(2), axis=-2),
    case("Gather", normal(4, 3), np.array([0, 0], np.int32), axis=1),
    case("Gather", normal(4, 3), ints(1, 1, -1), version=11),
    case("Gather", normal(4, 3, 2), ints(1, 1, -1), axis=1, version=13),
    case("GatherElements", normal(4, 3), np.array([[1, 1, -1], [0, 1, 2]])),
    case("GatherElements", normal(4, 3), np.array([[1, 1]] * 4), axis=1),
    case("GatherElements", normal(2, 3), np.array([[1], [2]]), axis=1, version=12),
    case("GatherND", normal(4, 3, 2), np.array([[1, 1], [0, -1], [1, 1]])),
    case("GatherND", normal(2, 3, 2), np.array([[1], [2]]), batch_dims=1),
    case("OneHot", np.array([[0, 1], [2, 5]]), np.array(4), normal(2)),
    case("Compress", normal(4, 3), np.array([True, False, True]), axis=0),
    case("Compress", normal(4, 3), np.array([True, False, True])),
    case("ReverseSequence", normal(4, 3), ints(1, 4, 2)),
    case("Trilu", normal(2, 4, 3), np.array(1), upper=0),
    case("TopK", distinct(3, 5), ints(2), n_outputs=2),
    case("TopK", distinct(3, 5), ints(3), axis=0, largest=0, n_outputs=2),
    case("TopK", distinct(3, 5), ints(2), n_outputs=2, version=11),
]
INDEXING += [
    each
    for reduction in ("none", "add", "max", "min")
    for each in (
        case(
            "ScatterElements",
            normal(4, 3),
            np.array([[1, 2, -1]]),
            normal(1, 3, seed=3),
            reduction=reduction,
        ),
        case(
            "ScatterND",
            normal(4, 3),
            np.array([[1], [2]]),
            normal(2, 3, seed=3),
            reduction=reduction,
        ),
    )
]

NORMALIZATIONS = [
    case("LayerNormalization", normal(2, 3, 4), normal(4), normal(4), **LOOSE),
    case("LayerNormalization", normal(2, 3, 4), normal(3, 4), None, axis=1, **LOOSE),
    case("RMSNormalization", normal(2, 3, 4), normal(4), **LOOSE),
    case("InstanceNormalization", normal(2, 3, 4, 2), normal(3), normal(3), **LOOSE),
    case("GroupNormalization", normal(2, 4, 3), normal(4), normal(4), num_groups=2, **LOOSE),
    case(
        "BatchNormalization", normal(3, 2, 4), normal(2), normal(2), normal(2), positive(2), **LOOSE
    ),
    case(
        "BatchNormalization",
        *(normal(3, 2, 4), normal(2), normal(2), normal(2), positive(2)),
        training_mode=1,
        n_outputs=3,
        wanted=[0, 1, 2],
        **LOOSE,
    ),
    case("MeanVarianceNormalization", normal(2, 3, 2, 2), **LOOSE),
    case("LRN", normal(2, 5, 3), size=3, alpha=0.5),
    case("LRN", normal(2, 5, 3, 2), size=4, alpha=0.5),
    case("LpNormalization", normal(2, 5, 3), axis=1),
    case("LpNormalization", normal(2, 5, 3), p=1),
    case("Dropout", normal(3, 4)),
    case("Dropout", normal(3, 4), version=10, ratio=0.5),
    case("Dropout", normal(3, 4), np.array(0.25), np.array(True), seed=3, wanted=[0]),
    case("Dropout", normal(3, 4), None, np.array(False), seed=3, wanted=[0]),
]

LOSSES = [
    each
    for name in ("NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss")
    for reduction in ("mean", "sum", "none")
    for ignored in ({}, {"ignore_index": 1})
    for options in [{"reduction": reduction, **ignored}]
    for each in (
        case(name, normal(4, 3), ints(0, 1, 2, 1), positive(3), **options),
        case(name, normal(2, 3, 2), ints(0, 1, 2, 1).reshape(2, 2), **options),
    )
]
LOSSES += [
    case("SoftmaxCrossEntropyLoss", normal(4, 3), ints(0, 1, 2, 1), n_outputs=2, output=1),
]

EITHER = [
    *(*UNARY, *BINARY, *SOFTMAX, *PRODUCTS, *REDUCTIONS, *SHAPES, *INDEXING),
    *(*NORMALIZATIONS, *LOSSES),
]


@pytest.mark.parametrize("arguments,options", EITHER, ids=labels(EITHER))
def test_known_sizes(arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
    check_gradient(*arguments, **options)


OPEN = [each for each in EITHER if each[1].get("version", 24) >= 13]
"""Older operator sets sum over axes that must be known beforehand."""


@pytest.mark.parametrize("arguments,options", OPEN, ids=labels(OPEN))
def test_open_sizes(arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
    check_gradient(*arguments, dynamic=True, **options)
