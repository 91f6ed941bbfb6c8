"""Optimizer steps: against the onnx package's reference, over types and counts, and hostile."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from onnx.reference import ReferenceEvaluator

import sardonyx as sx
from sardonyx.dims import symbol
from sardonyx.dtypes import DOUBLE, FLOAT, INT64, from_numpy
from sardonyx.errors import ExecutionError, InferenceError, ModelError, SardonyxError
from sardonyx.infer import infer
from sardonyx.ops import registry
from sardonyx.ops.fact import Fact

DOMAIN = "ai.onnx.preview.training"
STATES = {"Adagrad": 1, "Adam": 2, "Momentum": 1}
MOMENTUM = {"alpha": 0.9, "beta": 0.25, "mode": "standard", "norm_coefficient": 0.0}
CASES: list[tuple[str, dict[str, Any]]] = [
    ("Adagrad", {}),
    ("Adagrad", {"norm_coefficient": 0.01, "decay_factor": 0.1, "epsilon": 1e-3}),
    ("Adam", {}),
    ("Adam", {"alpha": 0.5, "beta": 0.75, "epsilon": 1e-2, "norm_coefficient": 0.125}),
    ("Adam", {"norm_coefficient_post": 0.25}),
    ("Momentum", MOMENTUM),
    ("Momentum", {**MOMENTUM, "mode": "nesterov", "norm_coefficient": 0.125}),
]
N = symbol("N")
F32 = np.float32


def tensors(name: str, dtypes: tuple[type, ...]) -> list[np.ndarray]:
    """One tensor of each of `dtypes` with its gradient and states, in the operator's order."""
    random = np.random.default_rng(5)
    shapes = [(3, 2), (4,), ()]
    kinds = [
        [random.normal(size=shape).astype(dtype) for shape, dtype in zip(shapes, dtypes)]
        for _ in range(2 + STATES[name])
    ]
    kinds[-1] = [np.asarray(np.abs(state)) for state in kinds[-1]]
    return [np.asarray(array) for kind in kinds for array in kind]


def scalars(count: int, dtype: type = F32) -> list[np.ndarray]:
    return [np.array(0.1, dtype), np.array(count, np.int64)]


def model_of(name: str, inputs: list[np.ndarray], attributes: dict[str, Any]) -> onnx.ModelProto:
    count = (len(inputs) - 2) // (2 + STATES[name])
    names = [f"x{index}" for index in range(len(inputs))]
    outputs = [f"y{index}" for index in range(count * (1 + STATES[name]))]
    type_code = from_numpy(inputs[0].dtype).code
    infos = [
        helper.make_tensor_value_info(key, from_numpy(value.dtype).code, value.shape)
        for key, value in zip(names, inputs)
    ]
    graph = helper.make_graph(
        [helper.make_node(name, names, outputs, domain=DOMAIN, **attributes)],
        "test",
        infos,
        [helper.make_tensor_value_info(key, type_code, None) for key in outputs],
    )
    imports = [helper.make_opsetid(DOMAIN, 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=10)


def run(name: str, *inputs: np.ndarray, n_outputs: int = 1, **attributes: Any) -> Any:
    return registry.get(DOMAIN, name).parse(1, attributes, n_outputs).reference(*inputs)


def inferred(name: str, *facts: Fact, n_outputs: int = 1, **attributes: Any) -> Any:
    return registry.get(DOMAIN, name).parse(1, attributes, n_outputs).infer(*facts)


@pytest.mark.parametrize("count", [0, 1, 1000])
@pytest.mark.parametrize("dtypes", [(F32,), (np.float64,), (F32, F32, F32)], ids=len)
@pytest.mark.parametrize("case", range(len(CASES)))
def test_steps_equal_the_onnx_reference(case: int, dtypes: tuple[type, ...], count: int) -> None:
    name, attributes = CASES[case]
    inputs = scalars(count, dtypes[0]) + tensors(name, dtypes)
    model = model_of(name, inputs, attributes)
    feeds = {f"x{index}": value for index, value in enumerate(inputs)}
    expected = ReferenceEvaluator(model).run(None, feeds)
    loaded = sx.loads(model.SerializeToString())
    actual = sx.Session(loaded).run(None, feeds)
    facts = infer(loaded).facts
    # a dozen roundings a step, of values of order 1
    rounding = 16 * np.finfo(dtypes[0]).eps
    assert len(actual) == len(expected)
    for value, ours, theirs in zip(loaded.graph.outputs, actual, expected):
        assert ours.dtype == dtypes[0]
        assert ours.shape == theirs.shape == facts[value].shape
        np.testing.assert_allclose(ours, theirs, rtol=rounding, atol=rounding)


@pytest.mark.parametrize("case", range(len(CASES)))
def test_tensors_keep_their_own_types(case: int) -> None:
    name, attributes = CASES[case]
    inputs = scalars(3, np.float64) + tensors(name, (F32, np.float64))
    results = run(name, *inputs, **attributes)
    assert [y.dtype for y in results] == [F32, np.float64] * (1 + STATES[name])
    assert [y.shape for y in results] == [(3, 2), (4,)] * (1 + STATES[name])
    alone = run(name, *scalars(3, np.float64), *inputs[3::2], **attributes)
    for together, single in zip(results[1::2], alone):
        np.testing.assert_array_equal(together, single)


def test_a_gradient_may_broadcast_and_a_scalar_may_have_rank_1() -> None:
    x, v = np.ones((2, 3), F32), np.zeros((2, 3), F32)
    full = run("Momentum", *scalars(0), x, np.full((2, 3), 2, F32), v, **MOMENTUM)
    rate, count = (value.reshape(1) for value in scalars(0))
    thin = run("Momentum", rate, count, x, np.full((1,), 2, F32), v, **MOMENTUM)
    for a, b in zip(full, thin):
        np.testing.assert_array_equal(a, b)


def test_shapes_of_a_tensor_and_its_states_are_unified() -> None:
    def fact(*shape: Any) -> Fact:
        return Fact.tensor(FLOAT, shape)

    rate, count = Fact.tensor(FLOAT, ()), Fact.tensor(INT64)
    x = [Fact.tensor(DOUBLE, (None, N)), fact(3, None)]
    h = [fact(2, None), fact(None, None)]
    results = inferred("Adagrad", rate, count, *x, fact(1), Fact.tensor(FLOAT), *h, n_outputs=4)
    assert [y.shape for y in results] == [(2, N), (3, None)] * 2
    assert [y.dtype for y in results] == [DOUBLE, FLOAT, FLOAT, FLOAT]
    unknown = [Fact.tensor(FLOAT) for _ in range(3)]
    assert [y.shape for y in inferred("Adagrad", rate, count, *unknown)] == [None, None]
    for bad in (
        [fact(2), fact(2), fact(3)],
        [fact(2), fact(2), fact(2, 1)],
        [fact(2), fact(2)],
        [],
    ):
        with pytest.raises(InferenceError):
            inferred("Adagrad", rate, count, *bad)
    with pytest.raises(InferenceError, match="scalar R"):
        inferred("Adagrad", fact(2), count, *unknown)
    with pytest.raises(InferenceError, match="2 outputs"):
        inferred("Adagrad", rate, count, *unknown, n_outputs=3)


def test_what_does_not_fit_is_refused() -> None:
    x = np.ones((2, 3), F32)
    for G, H in ((np.ones((4, 2, 3), F32), x), (np.ones(2, F32), x), (x, x[:1])):
        with pytest.raises(ExecutionError, match="shape of their tensor"):
            run("Adagrad", *scalars(0), x, G, H)
    with pytest.raises(ExecutionError, match="scalar"):
        run("Adagrad", np.ones(2, F32), np.array(0), x, x, x)
    with pytest.raises(SardonyxError, match="3 inputs for each tensor"):
        run("Adagrad", *scalars(0), x, x)
    for call, given in ((run, x), (inferred, Fact.constant(x))):
        rate, count = (Fact.constant(s) if call is inferred else s for s in scalars(0))
        with pytest.raises(ModelError, match="heavy") as caught:
            call("Momentum", rate, count, given, given, given, **{**MOMENTUM, "mode": "heavy"})
        assert "nesterov" in str(caught.value)


@pytest.mark.parametrize("count", [-(2**63), -1, 0, 1, 2**63 - 1])
def test_hostile_numbers_give_what_ieee_says(count: int) -> None:
    x = np.array([np.nan, np.inf, -np.inf, 0, 3.4e38], F32)
    extreme = {"alpha": 1.0, "beta": 1.5, "epsilon": 0.0}
    for name, attributes in [("Adam", extreme), ("Adagrad", {"epsilon": 0.0, "decay_factor": 1.0})]:
        inputs = [x] * (2 + STATES[name])
        for y in run(name, *scalars(count), *inputs, **attributes):
            assert (y.dtype, y.shape) == (F32, (5,))
    empty = np.zeros((0, 3), F32)
    assert [y.shape for y in run("Adagrad", *scalars(count), *[empty] * 3)] == [(0, 3)] * 2
