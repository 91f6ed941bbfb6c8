"""LSTM, GRU and RNN: compiled against their reference, at several lengths and batches."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from tests.lowering.compiled import (
    IR_VERSION,
    Known,
    assert_close,
    check,
    compiled,
    left_to_reference,
    model_of,
    random,
)

import sardonyx as sx
from sardonyx.errors import ExecutionError
from sardonyx.loops.printer import kernel_text
from sardonyx.runtime.program import Stretch

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
INPUT = 6


def weights(op_type: str, hidden: int, count: int = 1, dtype: Any = np.float32) -> list[Any]:
    wide = GATES[op_type] * hidden
    return [
        Known(random(count, wide, INPUT, dtype=dtype, low=-0.5, high=0.5), dtype),
        Known(random(count, wide, hidden, dtype=dtype, low=-0.5, high=0.5), dtype),
        Known(random(count, 2 * wide, dtype=dtype, low=-0.5, high=0.5), dtype),
    ]


def terms(hidden: int, steps: int = 16) -> int:
    """How many roundings an element has behind it, about: states carry theirs from step to step."""
    return steps * (INPUT + hidden)


def state(count: int, batch: int, hidden: int, dtype: Any = np.float32) -> Any:
    return random(count, batch, hidden, dtype=dtype, low=-1, high=1)


@pytest.mark.parametrize("op_type", GATES)
@pytest.mark.parametrize("hidden", [5, 8, 19])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_any_length(op_type: str, hidden: int, direction: str) -> None:
    count = 2 if direction == "bidirectional" else 1
    known = weights(op_type, hidden, count)
    check(
        op_type,
        lambda n: [random(n, 3, INPUT), *known],
        opset=22,
        n_outputs=3 if op_type == "LSTM" else 2,
        length=terms(hidden),
        hidden_size=hidden,
        direction=direction,
    )


@pytest.mark.parametrize("op_type", GATES)
@pytest.mark.parametrize("layout", [0, 1])
def test_any_batch(op_type: str, layout: int) -> None:
    hidden = 7
    known = weights(op_type, hidden)
    starts = 2 if op_type == "LSTM" else 1

    def make(n: int) -> list[Any]:
        x, h = random(4, n, INPUT), state(1, n, hidden)
        if layout:
            x, h = x.swapaxes(0, 1), h.swapaxes(0, 1)
        return [np.ascontiguousarray(x), *known, None, *[np.ascontiguousarray(h)] * starts]

    check(
        op_type,
        make,
        opset=22,
        n_outputs=starts + 1,
        length=terms(hidden, 4),
        hidden_size=hidden,
        layout=layout,
    )


@pytest.mark.parametrize("op_type", GATES)
def test_sequences_of_different_lengths(op_type: str) -> None:
    hidden = 6
    known = weights(op_type, hidden, 2)
    lengths = np.array([3, 0, 5, 1, 2], np.int32)
    check(
        op_type,
        lambda n: [random(n, 5, INPUT), *known, np.minimum(lengths, n).astype(np.int32)],
        opset=22,
        n_outputs=2,
        length=terms(hidden),
        hidden_size=hidden,
        direction="bidirectional",
    )


@pytest.mark.parametrize("length", [-1, 6])
def test_a_length_outside_fails(length: int) -> None:
    model = onnx_model("RNN", 4, sequence=True)
    native = compiled(model)
    assert not left_to_reference(native)
    feeds = {"x": random(5, 2, INPUT), "lengths": np.array([1, length], np.int32)}
    with pytest.raises(ExecutionError):
        native.run(feeds)


def onnx_model(op_type: str, hidden: int, *, sequence: bool = False, **attributes: Any) -> Any:
    """A layer whose weights are inputs of the graph's own."""
    return sx.loads(onnx_bytes(op_type, hidden, sequence=sequence, **attributes))


def onnx_bytes(op_type: str, hidden: int, *, sequence: bool = False, **attributes: Any) -> bytes:
    names = ["w", "r", "b"]
    known = zip(weights(op_type, hidden), names, strict=True)
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["T", "B", INPUT])]
    if sequence:
        inputs.append(helper.make_tensor_value_info("lengths", TensorProto.INT32, ["B"]))
    fed = ["x", *names, "lengths"] if sequence else ["x", *names]
    outputs = ["y", "h"]
    node = helper.make_node(op_type, fed, outputs, hidden_size=hidden, **attributes)
    graph = helper.make_graph(
        [node],
        "layer",
        inputs,
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(weight.array, name) for weight, name in known],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=min(IR_VERSION, 10)
    )
    return model.SerializeToString()


@pytest.mark.parametrize("op_type", GATES)
@pytest.mark.parametrize("hidden", [3, 24])
def test_as_onnxruntime_has_it(op_type: str, hidden: int) -> None:
    data = onnx_bytes(op_type, hidden, sequence=True)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    peer = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    native = compiled(sx.loads(data))
    assert not left_to_reference(native)
    for steps, batch in ((7, 1), (3, 4), (5, 6), (1, 1)):
        lengths = (np.arange(batch) % steps + 1).astype(np.int32)
        feeds = {"x": random(steps, batch, INPUT), "lengths": lengths}
        for actual, expected in zip(native.run(feeds).values(), peer.run(None, feeds), strict=True):
            assert_close(actual, expected, terms(hidden, steps))


@pytest.mark.parametrize("dtype", [np.float64, np.float16])
@pytest.mark.parametrize("op_type", GATES)
def test_other_types(op_type: str, dtype: Any) -> None:
    known = weights(op_type, 6, dtype=dtype)
    check(
        op_type,
        lambda n: [random(n, 2, INPUT, dtype=dtype), *known],
        opset=22,
        n_outputs=2,
        length=terms(6) if dtype is np.float64 else 4,
        hidden_size=6,
    )


@pytest.mark.parametrize("forget", [0, 1])
def test_lstm_with_peepholes(forget: int) -> None:
    hidden = 9
    known = weights("LSTM", hidden)
    holes = Known(random(1, 3 * hidden, low=-0.5, high=0.5), np.float32)
    check(
        "LSTM",
        lambda n: [
            random(n, 2, INPUT),
            *known,
            None,
            state(1, 2, hidden),
            state(1, 2, hidden),
            holes,
        ],
        opset=22,
        n_outputs=3,
        length=terms(hidden),
        hidden_size=hidden,
        input_forget=forget,
        clip=0.8,
    )


@pytest.mark.parametrize("biased", [True, False])
def test_gru_that_resets_after_the_product(biased: bool) -> None:
    hidden = 10
    w, r, b = weights("GRU", hidden)
    check(
        "GRU",
        lambda n: [random(n, 5, INPUT), w, r, b if biased else None],
        opset=22,
        n_outputs=2,
        length=terms(hidden),
        hidden_size=hidden,
        linear_before_reset=1,
    )


ACTIVATIONS = ["Relu", "Tanh", "Sigmoid", "Affine", "LeakyRelu", "ThresholdedRelu", "ScaledTanh",
               "HardSigmoid", "Elu", "Softsign", "Softplus"]  # fmt: skip


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_activation(name: str) -> None:
    hidden = 4
    known = weights("RNN", hidden)
    check(
        "RNN",
        lambda n: [random(n, 2, INPUT, low=-1, high=1), *known],
        opset=22,
        n_outputs=2,
        sizes=(5, 9, 1, 0),
        length=2 * terms(hidden),
        hidden_size=hidden,
        activations=[name],
        activation_alpha=[0.3],
        activation_beta=[0.7],
    )


def test_weights_that_are_fed() -> None:
    hidden = 8

    def make(n: int) -> list[Any]:
        return [random(n, 3, INPUT), *(known.array for known in weights("GRU", hidden))]

    check("GRU", make, opset=22, n_outputs=2, length=terms(hidden), hidden_size=hidden)


def test_directions_with_different_activations_are_left() -> None:
    known = weights("RNN", 4, 2)
    model = model_of(
        "RNN",
        lambda n: [random(n, 2, INPUT), *known],
        opset=22,
        n_outputs=1,
        domain="",
        attributes={
            "hidden_size": 4,
            "direction": "bidirectional",
            "activations": ["Tanh", "Relu"],
        },
    )
    assert left_to_reference(compiled(model)) == ["RNN whose directions have different activations"]


@pytest.mark.parametrize("op_type", GATES)
@pytest.mark.parametrize("before_reset", [0, 1])
def test_recurrence_weights_are_read_as_they_lie(op_type: str, before_reset: int) -> None:
    """R is turned once, when the session is made, not element by element in each step."""
    known = weights(op_type, 40)
    attributes = {"hidden_size": 40}
    if op_type == "GRU":
        attributes["linear_before_reset"] = before_reset
    model = model_of(
        op_type,
        lambda n: [random(n, 3, INPUT), *known],
        opset=22,
        n_outputs=1,
        domain="",
        attributes=attributes,
    )
    (step,) = compiled(model).compilation.steps
    assert isinstance(step, Stretch)
    lines = [line for launch in step.launches for line in kernel_text(launch.kernel).split("\n")]
    axis = ""
    products = 0
    for line in lines:
        loop = re.match(r"\s*vector (\w+) <", line)
        axis = loop[1] if loop else axis
        if re.search(r"fma\((state0|input)\[", line):
            products += 1
            assert not re.search(rf"\d\*{axis}\b", line)
    assert products
