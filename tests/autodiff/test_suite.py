"""The official node cases, in double precision: gradients against central differences."""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

import numpy as np
import onnx
import pytest
from onnx.backend.test.case.node import collect_testcases

import sardonyx as sx
from autodiff.differences import slope
from sardonyx.autodiff import gradients
from sardonyx.check import validate
from sardonyx.dtypes import DOUBLE
from sardonyx.errors import UnsupportedError
from sardonyx.infer import infer_shapes
from sardonyx.ir import Model, TensorType, Value
from sardonyx.reference import Evaluator

pytestmark = pytest.mark.onnx

TOLERANCE = 1e-6
"""Some cases are steep: the third derivatives that differences leave out are large."""
FLOAT, UNDEFINED = 1, 0


@cache
def cases() -> dict[str, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {
            case.name: case for case in collect_testcases(None) if len(case.model.graph.node) == 1
        }


def in_double(case: Any) -> tuple[Model, dict[str, np.ndarray]] | None:
    """The case with DOUBLE in place of FLOAT, where its operator takes that."""
    proto = onnx.ModelProto()
    proto.CopyFrom(case.model)
    arrays = list(case.data_sets[0][0])
    if not all(isinstance(array, np.ndarray) for array in arrays):
        return None
    feeds = {}
    for value, array in zip(proto.graph.input, arrays):
        kind = value.type.tensor_type
        if kind.elem_type == FLOAT:
            kind.elem_type = onnx.TensorProto.DOUBLE
            # away from the kinks that examples sit on, and not out of the functions' domains
            noise = np.random.default_rng(1).uniform(0.01, 0.02, array.shape)
            array = np.where(array == 0, noise, array * (1 - noise))
        feeds[value.name] = array
    for value in proto.graph.output:
        if value.type.tensor_type.elem_type == FLOAT:
            value.type.tensor_type.elem_type = UNDEFINED
    model = sx.loads(proto.SerializeToString())
    for value in model.graph.outputs:
        value.type = None
    infer_shapes(model)
    return None if validate(model).errors else (model, feeds)


STEEP = {"test_mod_float_edge_cases_fmod_0_float32", "test_mod_float_edge_cases_fmod_0_float64"}
STEEP |= {"test_maxpool_3d_default", "test_acosh_example"}
"""Infinities, elements nearer to each other than the step, and the end of a domain."""
RANDOM = {name for name in cases() if "bernoulli" in name}


@pytest.mark.parametrize("name", sorted(cases().keys() - STEEP - RANDOM))
def test_node_case(name: str) -> None:
    made = in_double(cases()[name])
    if made is None:
        pytest.skip("the operator does not take DOUBLE")
    model, feeds = made
    xs = [key for key, array in feeds.items() if array.dtype == np.float64 and array.size]
    ys = [value for value in model.graph.outputs if value.dtype is DOUBLE]
    if not xs or not ys:
        pytest.skip("nothing to differentiate")
    y, random = ys[0].name, np.random.default_rng(0)
    evaluator = Evaluator(sx.loads(sx.dumps(model)))
    weight = np.asarray(random.standard_normal(evaluator.run(feeds)[y].shape))
    seed = Value("seed", TensorType(DOUBLE, ys[0].shape))
    model.graph.inputs.append(seed)
    try:
        results = gradients(model, y, xs, seed=seed)
    except UnsupportedError as error:
        pytest.skip(error.message)
    model.graph.outputs.extend(results)
    assert not validate(model).errors
    found = Evaluator(model).run({**feeds, "seed": weight})
    for x, result in zip(xs, results):
        gradient = found[result.name]
        assert gradient.shape == feeds[x].shape
        direction = random.uniform(-1, 1, feeds[x].shape)
        actual = float((gradient * direction).sum())
        expected = slope(evaluator, feeds, {x: direction}, y, weight)
        scale = max(1.0, float(np.abs(gradient * direction).sum()))
        assert abs(actual - expected) <= TOLERANCE * scale, (x, actual, expected)
