"""Convolutions, compiled: against the reference at several sizes, and against onnxruntime."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper
from tests.lowering.compiled import assert_close, check, compiled, left_to_reference, random

import sardonyx as sx

WINDOWS: list[dict[str, Any]] = [
    {},
    {"pads": [1, 1, 1, 1]},
    {"pads": [1, 1, 1, 1], "strides": [2, 2]},
    {"pads": [0, 1, 2, 0], "strides": [1, 3]},
    {"strides": [2, 2]},
    {"dilations": [2, 1], "pads": [2, 1, 2, 1]},
    {"dilations": [2, 3], "pads": [2, 3, 2, 3], "strides": [3, 2]},
    {"auto_pad": "SAME_UPPER", "strides": [2, 1]},
    {"auto_pad": "SAME_LOWER"},
    {"auto_pad": "VALID"},
]
TRANSPOSED: list[dict[str, Any]] = [
    {},
    {"strides": [2, 2]},
    {"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 1]},
    {"strides": [3, 2], "dilations": [2, 3], "pads": [0, 1, 2, 0]},
    {"strides": [2, 2], "dilations": [2, 2]},
    {"dilations": [2, 1], "pads": [2, 1, 2, 1]},
    {"strides": [4, 3], "pads": [2, 3, 1, 2]},
]
FLOATS = [np.float32, np.float64, np.float16, ml_dtypes.bfloat16]


@pytest.mark.parametrize("window", WINDOWS)
def test_windows(window: dict[str, Any]) -> None:
    def wide(n: int) -> list[Any]:
        return [random(2, 5, n + 3, n + 6), random(7, 5, 3, 3), random(7)]

    def grouped(n: int) -> list[Any]:
        return [random(n, 6, 9, 12), random(9, 2, 3, 2), random(9)]

    def depthwise(n: int) -> list[Any]:
        return [random(1, 6, n + 3, n + 15), random(6, 1, 3, 3)]

    def points(n: int) -> list[Any]:
        return [random(2, 3, n, 7), random(30, 3, 1, 1)]

    sizes = (5, 9, 2, 16)
    for make, group in ((wide, 1), (grouped, 3), (depthwise, 6), (points, 1)):
        check("Conv", make, opset=22, sizes=sizes, length=60, group=group, **window)


@pytest.mark.parametrize("dtype", FLOATS)
def test_types(dtype: Any) -> None:
    def make(n: int) -> list[Any]:
        return [random(2, 4, n + 3, n, dtype=dtype), random(8, 4, 3, 3, dtype=dtype)]

    def depthwise(n: int) -> list[Any]:
        bias = random(8, dtype=dtype)
        return [random(2, 8, n + 3, 20, dtype=dtype), random(8, 1, 3, 3, dtype=dtype), bias]

    check("Conv", make, opset=22, length=60, pads=[1, 1, 1, 1])
    check("Conv", depthwise, opset=22, length=20, pads=[1, 1, 1, 1], group=8)


def test_other_ranks_and_open_channels() -> None:
    check("Conv", lambda n: [random(2, 4, n), random(8, 4, 3)], opset=22, length=20, pads=[1, 1])
    check(
        "Conv",
        lambda n: [random(2, 4, n, 3 + n, 6), random(8, 2, 3, 2, 1)],
        opset=22,
        length=40,
        pads=[1, 1, 0, 2, 1, 1],
        group=2,
        strides=[1, 2, 2],
    )
    check("Conv", lambda n: [random(2, n, 7, 7), random(8, n, 3, 3)], opset=22, length=200)
    check("Conv", lambda n: [random(2, 3, 7, 7), random(n, 3, 3, 3)], opset=22, length=40)


@pytest.mark.parametrize("window", TRANSPOSED)
def test_transposed(window: dict[str, Any]) -> None:
    def wide(n: int) -> list[Any]:
        return [random(2, 5, n + 3, n + 6), random(5, 7, 3, 3), random(7)]

    def grouped(n: int) -> list[Any]:
        return [random(n, 6, 9, 12), random(6, 3, 3, 2), random(9)]

    def depthwise(n: int) -> list[Any]:
        return [random(1, 6, n + 3, 20), random(6, 1, 4, 4)]

    for make, group in ((wide, 1), (grouped, 3), (depthwise, 6)):
        check("ConvTranspose", make, opset=22, length=80, group=group, **window)


@pytest.mark.parametrize(
    "window",
    [
        {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
        {"auto_pad": "SAME_LOWER", "strides": [2, 3]},
        {"output_shape": [17, 20], "strides": [2, 2]},
    ],
)
def test_transposed_to_a_size(window: dict[str, Any]) -> None:
    def make(n: int) -> list[Any]:
        return [random(n, 5, 7, 9), random(5, 7, 3, 3), random(7)]

    check("ConvTranspose", make, opset=22, length=60, **window)


def test_integers() -> None:
    def make(n: int) -> list[Any]:
        x = random(2, 4, n + 3, 7, dtype=np.uint8, low=0, high=255)
        w = random(8, 4, 3, 3, dtype=np.uint8, low=0, high=255)
        return [x, w, np.array(7, np.uint8), random(8, dtype=np.uint8, low=0, high=255)]

    check("ConvInteger", make, opset=10, pads=[1, 1, 1, 1])


@settings(max_examples=8, deadline=None)
@given(
    st.integers(1, 3),
    st.integers(1, 20),
    st.integers(1, 30),
    st.integers(3, 40),
    st.integers(3, 40),
    st.sampled_from([(1, 1), (3, 3), (1, 5), (2, 3)]),
    st.integers(1, 3),
    st.integers(0, 2),
)
def test_random_shapes(
    images: int,
    sources: int,
    channels: int,
    height: int,
    width: int,
    kernel: tuple[int, int],
    stride: int,
    padding: int,
) -> None:
    width = max(width, 5)
    x = random(images, sources, height, width)
    w = random(channels, sources, *kernel)
    check(
        "Conv",
        lambda _: [x, w],
        opset=22,
        sizes=(1,),
        length=sources * 9,
        strides=[stride, stride],
        pads=[padding] * 4,
    )


def _block() -> Any:
    """A residual block with batch normalization, as exporters write it."""
    values = {
        "w1": random(16, 12, 3, 3),
        "w2": random(16, 1, 3, 3),
        "w3": random(12, 16, 1, 1),
        "b1": random(16),
        "scale": random(16, low=0.5, high=1),
        "shift": random(16),
        "mean": random(16),
        "variance": random(16, low=0.5, high=1),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["a", "scale", "shift", "mean", "variance"], ["n"]),
        helper.make_node("Relu", ["n"], ["r"]),
        helper.make_node("Conv", ["r", "w2"], ["d"], pads=[1, 1, 1, 1], group=16),
        helper.make_node("HardSwish", ["d"], ["h"]),
        helper.make_node("Conv", ["h", "w3"], ["p"]),
        helper.make_node("Add", ["p", "x"], ["y"]),
    ]
    shape = ["N", 12, "H", "W"]
    initializers = [helper.make_tensor(k, 1, v.shape, v.ravel()) for k, v in values.items()]
    graph = helper.make_graph(
        nodes,
        "block",
        [helper.make_tensor_value_info("x", 1, shape)],
        [helper.make_tensor_value_info("y", 1, shape)],
        initializers,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_a_block_is_fused_and_agrees_with_onnxruntime() -> None:
    data = _block().SerializeToString()
    native = compiled(sx.loads(data))
    assert left_to_reference(native) == []
    kernels = [e for e in native.compilation.explanations if e.kind == "kernel"]
    assert sorted(len(e.nodes) for e in kernels) == [2, 2, 3]
    witness = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    for images, height, width in ((1, 14, 14), (2, 7, 7), (1, 31, 3), (3, 1, 1), (1, 20, 56)):
        x = random(images, 12, height, width)
        expected = witness.run(None, {"x": x})[0]
        assert_close(native.run({"x": x})["y"], expected, 12 * 9 + 9 + 16)
