"""Gradients of one operator against central differences in double precision."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import helper

import sardonyx as sx
from sardonyx.autodiff import gradients
from sardonyx.check import validate
from sardonyx.dtypes import DOUBLE, from_numpy
from sardonyx.ir import Model, TensorType, Value
from sardonyx.reference import Evaluator

STEP = 1e-5
TOLERANCE = 1e-7
"""Rounding costs eps / STEP, 2e-11 of the loss, and truncation STEP^2 times a third derivative."""


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape)


def positive(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).uniform(0.5, 2.0, shape)


def within(*shape: int, seed: int = 0) -> np.ndarray:
    """Numbers in (-0.9, 0.9)."""
    return np.random.default_rng([seed, *shape]).uniform(-0.9, 0.9, shape)


def distinct(*shape: int, seed: int = 0) -> np.ndarray:
    """Numbers that differ from each other by 0.1 at least, and from whole numbers."""
    order = np.random.default_rng([seed, *shape]).permutation(int(np.prod(shape)))
    return np.asarray((order.reshape(shape) - order.size // 2) * 0.1 + 0.04)


def model_of(
    name: str,
    inputs: Sequence[np.ndarray | None],
    *,
    version: int = 24,
    n_outputs: int = 1,
    dynamic: bool = False,
    constants: Sequence[int] = (),
    **attributes: Any,
) -> Model:
    """One node; `dynamic` leaves its inputs' sizes open, `constants` are initializers."""
    names = ["" if array is None else f"x{index}" for index, array in enumerate(inputs)]
    given = [
        (index, array)
        for index, array in enumerate(inputs)
        if array is not None and index not in constants
    ]
    infos = [
        helper.make_tensor_value_info(
            f"x{index}",
            from_numpy(array.dtype).code,
            [None] * array.ndim if dynamic else array.shape,
        )
        for index, array in given
    ]
    outputs = [f"y{index}" for index in range(n_outputs)]
    stored = [
        helper.make_tensor(
            f"x{index}", from_numpy(array.dtype).code, array.shape, array.reshape(-1).tolist()
        )
        for index in constants
        if (array := inputs[index]) is not None
    ]
    graph = helper.make_graph(
        [helper.make_node(name, names, outputs, **attributes)],
        "test",
        infos,
        [helper.make_empty_tensor_value_info(key) for key in outputs],
        initializer=stored,
    )
    imports = [helper.make_opsetid("", version)]
    made = helper.make_model(graph, opset_imports=imports, ir_version=10)
    model = sx.loads(made.SerializeToString())
    sx.infer_shapes(model)
    return model


def slope(
    evaluator: Evaluator,
    feeds: dict[str, np.ndarray],
    direction: dict[str, np.ndarray],
    y: str,
    weight: np.ndarray,
) -> float:
    """The derivative of the weighted `y` along `direction` of some inputs."""

    def loss(step: float) -> float:
        moved = {name: feeds[name] + step * part for name, part in direction.items()}
        return float((evaluator.run({**feeds, **moved})[y] * weight).sum())

    return (loss(STEP) - loss(-STEP)) / (2 * STEP)


def check_gradient(
    name: str,
    *inputs: np.ndarray | None,
    output: int = 0,
    tolerance: float = TOLERANCE,
    wanted: Sequence[int] | None = None,
    **options: Any,
) -> dict[str, np.ndarray]:
    """Compare the gradient of one output by every floating-point input with differences."""
    model = model_of(name, inputs, **options)
    constants = options.get("constants", ())
    feeds = {
        f"x{index}": array
        for index, array in enumerate(inputs)
        if array is not None and index not in constants
    }
    xs = [
        f"x{index}"
        for index, array in enumerate(inputs)
        if f"x{index}" in feeds
        and array is not None
        and array.dtype == np.float64
        and (wanted is None or index in wanted)
    ]
    y, random = f"y{output}", np.random.default_rng(7)
    evaluator = Evaluator(model)
    weight = np.asarray(random.standard_normal(np.asarray(evaluator.run(feeds)[y]).shape))
    directions = [{x: random.uniform(-1, 1, feeds[x].shape)} for x in xs for _ in range(2)]
    expected = [slope(evaluator, feeds, each, y, weight) for each in directions]
    found = computed(model, feeds, y, xs, weight)
    for x in xs:
        assert found[x].shape == feeds[x].shape, x
        assert found[x].dtype == np.float64
    for direction, difference in zip(directions, expected, strict=True):
        ((x, along),) = direction.items()
        scale = max(1.0, float(np.abs(found[x] * along).sum()))
        actual = float((found[x] * along).sum())
        assert abs(actual - difference) <= tolerance * scale, (x, actual, difference)
    return found


def computed(
    model: Model, feeds: dict[str, np.ndarray], y: str, xs: Sequence[str], weight: np.ndarray
) -> dict[str, np.ndarray]:
    """The gradients of `y`, weighted, that the nodes of `gradients` compute."""
    seed = Value("seed", TensorType(DOUBLE, model.graph.values()[y].shape))
    model.graph.inputs.append(seed)
    results = gradients(model, y, xs, seed=seed)
    model.graph.outputs.extend(results)
    report = validate(model)
    assert not report.errors, [problem.message for problem in report.errors]
    found = Evaluator(model).run({**feeds, "seed": weight})
    return {x: found[result.name] for x, result in zip(xs, results, strict=True)}
