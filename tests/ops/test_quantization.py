from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from differential import agrees_with_inference, compare, normal, rng
from sardonyx.dtypes import FLOAT, UINT8, from_name, from_numpy
from sardonyx.errors import ModelError
from sardonyx.ops.fact import Fact
from single_operator import apply, inferred

INTEGERS = ["uint8", "int8", "uint16", "int16", "uint4", "int4", "uint2", "int2"]
FLOAT8 = ["float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz"]
SMALL = [*FLOAT8, "float4_e2m1fn", "float6_e2m3fn", "float6_e3m2fn"]


def dtype_of(name: str) -> np.dtype:
    return from_name(name).numpy


def by_onnx(name, *inputs, version=25, **attributes):
    """The answer of the onnx package's reference evaluator."""
    names = [f"x{index}" for index in range(len(inputs))]
    infos = [
        helper.make_tensor_value_info(key, from_numpy(value.dtype).code, value.shape)
        for key, value in zip(names, inputs, strict=True)
    ]
    node = helper.make_node(name, names, ["y"], **attributes)
    output = helper.make_tensor_value_info("y", TensorProto.UNDEFINED, None)
    graph = helper.make_graph([node], "test", infos, [output])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", version)])
    return ReferenceEvaluator(model).run(None, dict(zip(names, inputs, strict=True)))[0]


@pytest.mark.parametrize("dtype", INTEGERS[:4])
@pytest.mark.parametrize("version", [10, 13, 19, 21])
def test_per_tensor(dtype, version):
    if version < 21 and dtype.endswith("16"):
        pytest.skip("not allowed yet")
    zero = np.asarray(3, dtype_of(dtype))
    x = normal(5, 40) * np.float32(200)
    (y,) = compare("QuantizeLinear", x, np.float32(0.7), zero, version=version)
    compare("DequantizeLinear", y, np.float32(0.7), zero, version=version)


def test_halves_round_to_even():
    x = np.array([0.5, 1.5, 2.5, -0.5, -1.5, 254.5, 300, -300, np.inf, -np.inf], np.float32)
    (y,) = apply("QuantizeLinear", x, np.float32(1), np.int8(0), version=19)
    assert y.tolist() == [0, 2, 2, 0, -2, 127, 127, -128, 127, -128]


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_per_axis(axis, dtype):
    x = normal(3, 4, 5) * np.float32(50)
    size = x.shape[axis]
    scale = np.linspace(0.5, 2, size, dtype=np.float32)
    zero = np.arange(size).astype(dtype)
    (y,) = compare("QuantizeLinear", x, scale, zero, version=13, axis=axis)
    compare("DequantizeLinear", y, scale, zero, version=13, axis=axis)


@pytest.mark.parametrize(
    ("axis", "block", "shape"), [(0, 2, (3, 4)), (1, 3, (5, 2)), (1, 4, (5, 1))]
)
@pytest.mark.parametrize("dtype", ["int8", "uint16"])
def test_blocks(axis, block, shape, dtype):
    x = normal(5, 4) * np.float32(50)
    scale = np.abs(normal(*shape)) + np.float32(0.5)
    zero = rng(1).integers(0, 9, shape).astype(dtype)
    (y,) = apply("QuantizeLinear", x, scale, zero, version=21, axis=axis, block_size=block)
    spread = [np.repeat(array, block, axis)[:5, :4] for array in (scale, zero)]
    info = np.iinfo(dtype)
    expected = np.clip(np.rint(x / spread[0]) + spread[1], info.min, info.max).astype(dtype)
    np.testing.assert_array_equal(y, expected)
    (back,) = apply("DequantizeLinear", y, scale, zero, version=21, axis=axis, block_size=block)
    np.testing.assert_array_equal(back, (y.astype(np.float32) - spread[1]) * spread[0])
    agrees_with_inference(
        "QuantizeLinear", x, scale, zero, outputs=[y], version=21, axis=axis, block_size=block
    )


@pytest.mark.parametrize("dtype", INTEGERS[4:])
def test_packed_integers(dtype):
    low, high = {"uint4": (0, 15), "int4": (-8, 7), "uint2": (0, 3), "int2": (-2, 1)}[dtype]
    x = np.linspace(-20, 20, 41, dtype=np.float32)
    zero = np.asarray(1, dtype_of(dtype))
    (y,) = apply("QuantizeLinear", x, np.float32(1), zero, version=25)
    assert y.dtype == dtype_of(dtype)
    np.testing.assert_array_equal(y.astype(int), np.clip(x + 1, low, high))
    (back,) = apply("DequantizeLinear", y, np.float32(2), zero, version=25)
    np.testing.assert_array_equal(back, (y.astype(np.float32) - 1) * 2)


@pytest.mark.parametrize("dtype", SMALL)
def test_small_floats_come_back_as_the_nearest(dtype):
    target = dtype_of(dtype)
    limit = float(ml_dtypes.finfo(target).max)
    x = np.linspace(-1, 1, 200, dtype=np.float32) * np.float32(limit)
    zero = np.zeros((), target)
    (y,) = apply("QuantizeLinear", x, np.float32(1), zero, version=28)
    np.testing.assert_array_equal(y.astype(np.float32), x.astype(target).astype(np.float32))
    (back,) = apply("DequantizeLinear", y, np.float32(2), version=28)
    np.testing.assert_array_equal(back, y.astype(np.float32) * 2)
    (most,) = apply("QuantizeLinear", np.float32([1e30, -np.inf]), np.float32(1), zero, version=28)
    np.testing.assert_array_equal(most.astype(np.float32), [limit, -limit])


@pytest.mark.parametrize("dtype", FLOAT8)
@pytest.mark.parametrize("saturate", [0, 1])
def test_float8_equals_onnx(dtype, saturate):
    x = np.array([0.1, -3, 1e6, -1e6, 447, 449, 57344, 61440, np.nan], np.float32)
    zero = np.zeros((), dtype_of(dtype))
    (y,) = apply("QuantizeLinear", x, np.float32(1), zero, version=21, saturate=saturate)
    expected = by_onnx(
        "QuantizeLinear", x, np.asarray(np.float32(1)), zero, version=21, saturate=saturate
    )
    np.testing.assert_array_equal(y.astype(np.float32), np.asarray(expected).astype(np.float32))


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_narrow_scales_divide_in_their_own_type(dtype):
    x, scale = normal(100).astype(dtype), np.asarray(0.013, dtype)
    (y,) = apply("QuantizeLinear", x, scale, np.int8(0), version=21)
    quotient = (x.astype(np.float32) / scale.astype(np.float32)).astype(dtype).astype(np.float32)
    np.testing.assert_array_equal(y, np.clip(np.rint(quotient), -128, 127))
    (back,) = apply("DequantizeLinear", y, scale, version=21)
    assert back.dtype == dtype


def test_output_dtype_and_default():
    x, scale = normal(3), np.float32(0.1)
    assert apply("QuantizeLinear", x, scale, version=21)[0].dtype == np.uint8
    (y,) = apply("QuantizeLinear", x, scale, version=21, output_dtype=TensorProto.INT16)
    assert y.dtype == np.int16
    (fact,) = inferred("QuantizeLinear", Fact.tensor(FLOAT), Fact.tensor(FLOAT), version=21)
    assert fact.dtype is UINT8
    e8m0 = np.asarray(2.0, ml_dtypes.float8_e8m0fnu)
    (half,) = apply("DequantizeLinear", y, e8m0, version=25, output_dtype=TensorProto.FLOAT16)
    np.testing.assert_array_equal(half, (y.astype(np.float32) * 2).astype(np.float16))
    with pytest.raises(ModelError, match="output_dtype"):
        apply("DequantizeLinear", y, e8m0, version=25)


def test_integers_dequantize_without_overflow():
    x = np.array([2**31 - 1, -(2**31)], np.int32)
    compare("DequantizeLinear", x, np.float32(0.5), version=13)
    (y,) = apply("DequantizeLinear", np.int8([-128]), np.float32(1), np.int8(127), version=13)
    assert y.tolist() == [-255]


@pytest.mark.parametrize("bad", [np.nan, 0.0])
def test_division_by_zero_and_nan_are_defined(bad):
    x = np.array([bad, 1, -1], np.float32)
    (y,) = apply("QuantizeLinear", x, np.float32(0), np.uint8(9), version=13)
    assert y.tolist() == [9, 255, 0]


@pytest.mark.parametrize(
    "x",
    [
        normal(3, 40) * np.float32(9),
        np.abs(normal(7)),
        -np.abs(normal(7)),
        np.zeros(4, np.float32),
        np.array([0.5, 1.5, 2.5, 255], np.float32),
    ],
)
def test_dynamic(x):
    compare("DynamicQuantizeLinear", x, version=11, n_outputs=3)


def test_what_does_not_fit_is_refused():
    x = normal(3, 4)
    scale = np.ones(4, np.float32)
    for scale, zero, attributes in (
        (np.ones(3, np.float32), None, {}),
        (np.ones(4, np.float32), np.zeros(3, np.uint8), {}),
        (np.ones(4, np.float32), None, {"axis": 2}),
        (np.ones((3, 4), np.float32), None, {}),
        (np.ones((3, 3), np.float32), None, {"block_size": 2}),
        (np.ones(4, np.float32), None, {"block_size": 2}),
        (np.ones((3, 2), np.float32), None, {"block_size": -2}),
        (np.float32(1), np.uint8(0), {"output_dtype": TensorProto.INT8}),
        (np.float32(1), None, {"output_dtype": TensorProto.DOUBLE}),
    ):
        with pytest.raises(ModelError):
            apply("QuantizeLinear", x, scale, zero, version=21, **attributes)
