"""The standard's conformance cases whose operators are all present.

Each case runs at the suite's tolerances, with dtypes and shapes exact, and what inference said
of its outputs beforehand is held against what came out.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx.backend.test.case.node import collect_testcases
from onnx.backend.test.loader import load_model_tests

import sardonyx as sx
from sardonyx.dims import Dim
from sardonyx.infer import infer
from sardonyx.ir import Model, TensorType
from sardonyx.ops import registry
from sardonyx.wire import decode_optional, decode_sequence, decode_tensor

pytestmark = pytest.mark.onnx


@cache
def node_cases() -> dict[str, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {case.name: case for case in collect_testcases(None) if is_present(case.model)}


def stored_cases() -> dict[str, Any]:
    kinds = ("simple", "pytorch-converted", "pytorch-operator")
    cases = [case for kind in kinds for case in load_model_tests(kind=kind)]
    return {
        f"{case.kind}-{case.name}": case
        for case in cases
        if is_present(onnx.load(Path(case.model_dir) / "model.onnx"))
    }


def is_present(model: onnx.ModelProto) -> bool:
    local = {(function.domain, function.name) for function in model.functions}
    return all(
        (node.domain, node.op_type) in local or registry.find(node.domain, node.op_type)
        for node in all_nodes(model)
    )


def all_nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    stack = [list(model.graph.node), *(list(function.node) for function in model.functions)]
    while stack:
        for node in stack.pop():
            yield node
            for attribute in node.attribute:
                graphs = [attribute.g] if attribute.HasField("g") else []
                stack.extend(list(graph.node) for graph in [*graphs, *attribute.graphs])


@pytest.mark.parametrize("name", sorted(node_cases()))
def test_node_case(name: str) -> None:
    case = node_cases()[name]
    model = sx.loads(case.model.SerializeToString())
    for inputs, outputs in case.data_sets:
        run_case(model, list(inputs), list(outputs), case.rtol, case.atol, name)


@pytest.mark.parametrize("name", sorted(stored_cases()))
def test_stored_case(name: str) -> None:
    case = stored_cases()[name]
    folder = Path(case.model_dir)
    model = sx.load(folder / "model.onnx")
    for data in sorted(folder.glob("test_data_set_*")):
        inputs = [
            read(path, value.type) for path, value in zip(files(data, "input"), model.graph.inputs)
        ]
        outputs = [
            read(path, value.type)
            for path, value in zip(files(data, "output"), model.graph.outputs)
        ]
        run_case(model, inputs, outputs, case.rtol, case.atol, name)


def files(folder: Path, kind: str) -> list[Path]:
    return [folder / f"{kind}_{i}.pb" for i in range(len(list(folder.glob(f"{kind}_*.pb"))))]


def read(path: Path, declared: Any) -> Any:
    data = path.read_bytes()
    if str(declared).startswith("seq"):
        return decode_sequence(data)
    if str(declared).startswith("optional"):
        return decode_optional(data)
    return decode_tensor(data).numpy()


RANDOM = ("bernoulli", "training_dropout_default", "training_dropout_mask")


def run_case(
    model: Model, inputs: list[Any], outputs: list[Any], rtol: float, atol: float, name: str
) -> None:
    given = list(model.graph.inputs)
    feeds = {value.name: as_array(item) for value, item in zip(given, inputs)}
    results = sx.Session(model).run(None, feeds)
    assert len(results) >= len(outputs)
    compare_contents = not any(word in name for word in RANDOM)
    for expected, actual in zip(outputs, results):
        compare(expected, actual, rtol, atol, contents=compare_contents)
    facts = infer(model).facts
    for value, actual in zip(model.graph.outputs, results):
        hold_against(facts[value].type, actual)


def compare(expected: Any, actual: Any, rtol: float, atol: float, *, contents: bool) -> None:
    if expected is None:
        assert actual is None
        return
    if isinstance(expected, list):
        assert len(expected) == len(actual)
        for a, b in zip(expected, actual):
            compare(a, b, rtol, atol, contents=contents)
        return
    expected, actual = np.asarray(as_array(expected)), np.asarray(actual)
    assert expected.shape == actual.shape
    if expected.dtype.kind in "OUS":
        assert actual.dtype == object
        assert expected.astype(str).tolist() == actual.astype(str).tolist()
        return
    assert expected.dtype == actual.dtype
    if not contents:
        return
    if expected.dtype.kind in "biufc":
        np.testing.assert_allclose(actual, expected, rtol=rtol, atol=atol)
    else:
        if expected.dtype.name == "bfloat16":
            rtol = max(rtol, 2.0**-6)
        np.testing.assert_allclose(
            actual.astype(np.float64), expected.astype(np.float64), rtol=rtol, atol=atol
        )


def as_array(item: Any) -> Any:
    if isinstance(item, onnx.TensorProto):
        return decode_tensor(item.SerializeToString()).numpy()
    return item


def hold_against(inferred: Any, actual: Any) -> None:
    if not isinstance(inferred, TensorType) or not isinstance(actual, np.ndarray):
        return
    assert inferred.dtype is None or inferred.dtype.numpy == actual.dtype
    if inferred.shape is not None:
        assert len(inferred.shape) == actual.ndim
        for dim, size in zip(inferred.shape, actual.shape):
            assert dim is None or isinstance(dim, Dim) or dim == size
