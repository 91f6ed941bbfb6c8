"""Graphs of many nodes: sessions of them are right, and work does not grow faster than they do."""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import sardonyx as sx
from sardonyx.runtime.arena import place

SIZE = 16
X = np.random.default_rng(0).standard_normal((3, SIZE)).astype(np.float32)


def model(nodes: list[Any], last: str, **weights: Any) -> bytes:
    x = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["N", SIZE])
    y = helper.make_tensor_value_info(last, onnx.TensorProto.FLOAT, None)
    tensors = [numpy_helper.from_array(np.float32(v), name) for name, v in weights.items()]
    graph = helper.make_graph(nodes, "many", [x], [y], tensors)
    imports = [helper.make_opsetid("", 20)]
    return helper.make_model(graph, opset_imports=imports, ir_version=10).SerializeToString()


def arithmetic(count: int, last: str) -> tuple[list[Any], str]:
    nodes = []
    for number in range(count):
        op_type = ("Add", "Relu", "Mul")[number % 3]
        inputs = [last] if op_type == "Relu" else [last, op_type]
        nodes.append(helper.make_node(op_type, inputs, [f"v{number}"]))
        last = f"v{number}"
    return nodes, last


def chain(count: int) -> bytes:
    return model(*arithmetic(count, "x"), Add=0.5, Mul=0.99)


def layers(count: int) -> bytes:
    weights: dict[str, Any] = {}
    nodes = []
    last = "x"
    for number in range(count // 3):
        weights[f"w{number}"] = np.eye(SIZE) * (1 + number % 7)
        weights[f"b{number}"] = np.full(SIZE, -0.5)
        nodes += [
            helper.make_node("MatMul", [last, f"w{number}"], [f"m{number}"]),
            helper.make_node("Add", [f"m{number}", f"b{number}"], [f"a{number}"]),
            helper.make_node("Tanh", [f"a{number}"], [f"t{number}"]),
        ]
        last = f"t{number}"
    return model(nodes, last, **weights)


def wide(count: int) -> bytes:
    factors = {f"f{n}": np.full(SIZE, n % 11 + n / 4096) for n in range(count // 4)}
    nodes = []
    for n in range(count // 4):
        nodes += [
            helper.make_node("Mul", ["x", f"f{n}"], [f"p{n}"]),
            helper.make_node("Softmax", [f"p{n}"], [f"s{n}"]),
            helper.make_node("Tanh", [f"s{n}"], [f"t{n}"]),
            helper.make_node("Neg", [f"t{n}"], [f"e{n}"]),
        ]
    ends = [f"e{n}" for n in range(count // 4)]
    return model([*nodes, helper.make_node("Concat", ends, ["y"], axis=0)], "y", **factors)


@pytest.mark.parametrize("op_type", ["MatMul", "Softmax"])
def test_many_steps_follow_a_product_or_a_row_operation(op_type: str) -> None:
    inputs = ["x", "w"] if op_type == "MatMul" else ["x"]
    nodes, last = arithmetic(1000, "p")
    weights = {"w": np.eye(SIZE)} if op_type == "MatMul" else {}
    data = model([helper.make_node(op_type, inputs, ["p"]), *nodes], last,
                 Add=0.5, Mul=0.99, **weights)  # fmt: skip
    (found,) = sx.Session(data).run(None, {"x": X})
    expected = X.astype(np.float64)
    if op_type == "Softmax":
        expected = np.exp(expected) / np.exp(expected).sum(-1, keepdims=True)
    for number in range(1000):
        if number % 3 == 0:
            expected = expected + 0.5
        elif number % 3 == 1:
            expected = np.maximum(expected, 0)
        else:
            expected = expected * 0.99
    np.testing.assert_allclose(found, expected, rtol=1000 * 2**-23)


@pytest.mark.parametrize("spread", [3, 3000])
def test_values_that_live_together_have_places_of_their_own(spread: int) -> None:
    draw = random.Random(spread)
    sizes: dict[Any, int] = {key: draw.randrange(1, 3000) for key in range(3000)}
    lives = {}
    for key in sizes:
        first = draw.randrange(3000)
        lives[key] = first, first + draw.randrange(spread)
    offsets, total = place(sizes, lives)
    assert all(offsets[key] + sizes[key] <= total for key in sizes)
    for step in range(0, 3000, 250):
        alive = sorted(
            (offsets[key], offsets[key] + sizes[key])
            for key, (first, last) in lives.items() if first <= step <= last
        )  # fmt: skip
        assert all(a[1] <= b[0] for a, b in pairwise(alive))
        assert all(begin % 64 == 0 for begin, _ in alive)


@pytest.mark.slow
@pytest.mark.parametrize("make", [chain, layers, wide])
def test_work_grows_with_the_nodes_not_with_their_square(make: Callable[[int], bytes]) -> None:
    """Four times the nodes take four times as long; their square would be sixteen times."""

    def seconds(count: int) -> float:
        data = make(count)
        sx.Session(data)  # machine code is made once
        gc.collect()
        gc.freeze()  # what other tests left is not for this one to look through
        try:
            begin = time.process_time()
            sx.Session(data).run(None, {"x": X})
            return time.process_time() - begin
        finally:
            gc.unfreeze()

    few, many = (min(seconds(count) for _ in range(2)) for count in (4000, 16000))
    assert many / few < 8


@pytest.mark.parametrize("axis", [0, 1])
def test_pieces_of_a_value_share_kernels(axis: int) -> None:
    nodes = [helper.make_node("Add", ["x", f"b{n}"], [f"a{n}"]) for n in range(40)]
    nodes.append(helper.make_node("Concat", [f"a{n}" for n in range(40)], ["y"], axis=axis))
    weights = {f"b{n}": np.full(SIZE, n) + np.arange(SIZE) for n in range(40)}
    session = sx.Session(model(nodes, "y", **weights))
    launches = [launch for item in session.explain() for launch in item.launches]
    assert len(launches) == 40
    assert len({launch.kernel.name for launch in launches}) <= 2
    for rows in (0, 1, 3):
        x = X[:rows]
        expected = np.concatenate(
            [x + weights[f"b{n}"].astype(np.float32) for n in range(40)], axis
        )
        np.testing.assert_array_equal(session.run(None, {"x": x})[0], expected)
