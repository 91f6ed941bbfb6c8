from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from differential import close, compare, normal
from sardonyx.dims import symbol
from sardonyx.dtypes import FLOAT
from sardonyx.errors import ExecutionError, ModelError
from sardonyx.ops.fact import Fact
from single_operator import apply, inferred

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
STEPS, BATCH, SIZE, HIDDEN = 5, 3, 4, 2


def weights(name: str, directions: int = 1, dtype=np.float32) -> list[np.ndarray]:
    wide = GATES[name] * HIDDEN
    return [
        normal(STEPS, BATCH, SIZE, dtype=dtype),
        normal(directions, wide, SIZE, dtype=dtype),
        normal(directions, wide, HIDDEN, dtype=dtype),
        normal(directions, 2 * wide, dtype=dtype),
    ]


def run(name: str, *inputs, **attributes):
    outputs = 3 if name == "LSTM" else 2
    return compare(
        name, *inputs, terms=200, version=14, n_outputs=outputs, hidden_size=HIDDEN, **attributes
    )


@pytest.mark.parametrize("name", GATES)
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("lengths", [None, [5, 3, 1]])
def test_directions_and_lengths(name, direction, lengths):
    count = 2 if direction == "bidirectional" else 1
    state = normal(count, BATCH, HIDDEN)
    given = None if lengths is None else np.array(lengths, np.int32)
    extra = (state, -state) if name == "LSTM" else (state,)
    run(name, *weights(name, count), given, *extra, direction=direction)


@pytest.mark.parametrize("name", GATES)
def test_without_bias_and_clipped(name):
    run(name, *weights(name)[:3], clip=0.3)


def test_peepholes():
    state = normal(1, BATCH, HIDDEN)
    peephole = normal(1, 3 * HIDDEN)
    run("LSTM", *weights("LSTM"), None, state, state, peephole)


def test_coupled_gates():
    run("LSTM", *weights("LSTM"), input_forget=1)


@pytest.mark.parametrize("linear", [0, 1])
def test_gru_reset(linear):
    run("GRU", *weights("GRU", 2), direction="bidirectional", linear_before_reset=linear)


@pytest.mark.parametrize(
    ("activation", "alpha", "beta"),
    [
        ("Relu", None, None),
        ("Sigmoid", None, None),
        ("Affine", 0.5, 0.1),
        ("LeakyRelu", 0.2, None),
        ("ThresholdedRelu", 0.3, None),
        ("ScaledTanh", 0.5, 0.7),
        ("HardSigmoid", 0.3, 0.4),
        ("Elu", 0.5, None),
        ("Softsign", None, None),
        ("Softplus", None, None),
    ],
)
def test_activations(activation, alpha, beta):
    options = {
        key: (value,)
        for key, value in (("activation_alpha", alpha), ("activation_beta", beta))
        if value is not None
    }
    run("RNN", *weights("RNN"), activations=(activation,), **options)


@pytest.mark.parametrize("name", GATES)
def test_layout_1_is_layout_0_transposed(name):
    x, *rest = weights(name)
    state = normal(1, BATCH, HIDDEN)
    outputs = 3 if name == "LSTM" else 2
    plain = apply(name, x, *rest, None, state, version=14, n_outputs=outputs)
    flipped = apply(
        name,
        x.swapaxes(0, 1),
        *rest,
        None,
        state.swapaxes(0, 1),
        version=14,
        n_outputs=outputs,
        layout=1,
    )
    np.testing.assert_array_equal(flipped[0], plain[0].transpose(2, 0, 1, 3))
    for ours, theirs in zip(flipped[1:], plain[1:], strict=True):
        np.testing.assert_array_equal(ours, theirs.swapaxes(0, 1))


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64])
@pytest.mark.parametrize("name", GATES)
def test_other_types(name, dtype):
    inputs = weights(name, dtype=dtype)
    wide = apply(name, *(array.astype(np.float64) for array in inputs), version=22)
    close(apply(name, *inputs, version=22), [wide[0].astype(dtype)], terms=4)


def test_symbolic_sizes():
    t, b = symbol("T"), symbol("B")
    facts = [Fact.tensor(FLOAT, shape) for shape in ((t, b, 4), (1, 8, 4), (1, 8, 2))]
    results = inferred("LSTM", *facts, version=14, n_outputs=3)
    assert [fact.shape for fact in results] == [(t, 1, b, 2), (1, b, 2), (1, b, 2)]


@pytest.mark.parametrize("name", GATES)
def test_what_does_not_fit_is_refused(name):
    x, w, r, b = weights(name)
    for inputs, attributes in (
        ([x, w, r, b[:, 1:]], {}),
        ([x, w[:, 1:], r], {}),
        ([x[:, :, 1:], w, r], {}),
        ([x[0], w, r], {}),
        ([x, w, r], {"direction": "sideways"}),
        ([x, w, r], {"direction": "bidirectional"}),
        ([x, w, r], {"hidden_size": 7}),
        ([x, w, r], {"activations": ("Nope", "Nope", "Nope")}),
        ([x, w, r, None, np.zeros(9, np.int32)], {}),
        ([x, w, r, None, None, np.zeros((1, 9, HIDDEN), np.float32)], {}),
    ):
        with pytest.raises(ModelError):
            apply(name, *inputs, version=14, **attributes)
    for length in (-1, STEPS + 1):
        with pytest.raises(ExecutionError):
            apply(name, x, w, r, b, np.full(BATCH, length, np.int32), version=14)
