"""The standard's conformance cases compiled: every node case of which a part becomes a kernel.

Each runs at the suite's tolerances; a type with fewer digits than they ask for has its own.
"""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

import numpy as np
import onnx
import pytest
from onnx.backend.test.case.node import collect_testcases

import sardonyx as sx
from sardonyx.dtypes import from_numpy
from sardonyx.limits import DEFAULT
from sardonyx.reference import Evaluator
from sardonyx.runtime.compiled import SizesDiffer, compile_model
from sardonyx.runtime.prepare import prepare
from sardonyx.wire import decode_tensor

pytestmark = pytest.mark.onnx

DRAWN = "bernoulli"
"""Cases whose outputs are drawn, as other numbers by each implementation."""
ROUNDING = {"bfloat16": 2.0**-6}


@cache
def node_cases() -> dict[str, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cases = collect_testcases(None)
    return {case.name: case for case in cases if DRAWN not in case.name}


def array_of(value: Any) -> Any:
    """A tensor of the suite as an array; sequences and absent values as they are."""
    if isinstance(value, onnx.TensorProto):
        return decode_tensor(value.SerializeToString()).numpy()
    return value if value is None or isinstance(value, (list, dict)) else np.asarray(value)


def assert_case(actual: Any, expected: Any, rtol: float, atol: float) -> None:
    """Equal within the case's tolerance."""
    assert actual.shape == expected.shape
    assert actual.dtype == expected.dtype
    if not from_numpy(expected.dtype).is_floating:
        np.testing.assert_array_equal(actual, expected)
        return
    least = ROUNDING.get(expected.dtype.name, 0.0)
    np.testing.assert_allclose(
        actual.astype(np.float64),
        expected.astype(np.float64),
        rtol=max(rtol, least),
        atol=max(atol, 1e-7),
    )


@pytest.mark.parametrize("name", sorted(node_cases()))
def test_compiled_node_case(name: str) -> None:
    case = node_cases()[name]
    try:
        model = prepare(sx.loads(case.model.SerializeToString()), DEFAULT)
        evaluator = Evaluator(model)
    except sx.SardonyxError:
        pytest.skip("the model is not opened")
    native = compile_model(model, evaluator, DEFAULT)
    if not any(e.kind == "kernel" for e in native.compilation.explanations):
        pytest.skip("nothing of it is compiled")
    for inputs, outputs in case.data_sets:
        pairs = zip(model.graph.inputs, map(array_of, inputs), strict=False)
        try:
            found = native.run({value.name: array for value, array in pairs})
        except SizesDiffer:
            pytest.skip("the case's sizes are not those that its model declares")
        for value, expected in zip(model.graph.outputs, map(array_of, outputs), strict=True):
            if isinstance(expected, np.ndarray) and expected.dtype.kind not in "OUS":
                assert_case(found[value.name], expected, case.rtol, case.atol)
