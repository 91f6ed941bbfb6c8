"""One operator at a time: our reference and inference, and onnxruntime's answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
import pytest
from onnx import helper

from sardonyx.dtypes import STRING, from_numpy
from sardonyx.ops import registry
from sardonyx.ops.bind import lift
from sardonyx.ops.fact import Fact
from sardonyx.ops.inferring import without_anonymous

if TYPE_CHECKING:
    from collections.abc import Sequence

OLD_WITNESS = tuple(map(int, onnxruntime.__version__.split(".")[:2])) < (1, 31)
"""Python 3.10 gets an older onnxruntime, which lacks operators and has since been corrected."""

IR_VERSIONS = {7: 3, 8: 3, 9: 4, 10: 5, 11: 6, 12: 7, 13: 7, 14: 7, 15: 8, 17: 8}


def arranged(
    name: str, inputs: Sequence[Any], version: int, n_outputs: int, attributes: dict[str, Any]
) -> tuple[Any, list[Any]]:
    """The parsed operator and its arguments in the newest form."""
    operator = registry.get("", name).parse(version, attributes, n_outputs)
    return operator, operator.arrange(operator.schema(version), inputs, lift, attributes)


def apply(
    name: str, *inputs: Any, version: int = 25, n_outputs: int = 1, **attributes: Any
) -> list[Any]:
    """The outputs by our reference."""
    operator, arguments = arranged(name, inputs, version, n_outputs, attributes)
    results = operator.reference(*arguments)
    return list(results[:n_outputs]) if isinstance(results, tuple) else [results]


def inferred(
    name: str, *inputs: Fact | None, version: int = 25, n_outputs: int = 1, **attributes: Any
) -> list[Fact]:
    """The outputs' facts by our inference; dims that only data decides are None."""
    operator, arguments = arranged(name, inputs, version, n_outputs, attributes)
    arguments = [Fact.constant(x) if isinstance(x, np.ndarray) else x for x in arguments]
    results = operator.infer(*arguments)
    facts = [results] if isinstance(results, Fact) else list(results[:n_outputs])
    return [Fact(without_anonymous(fact.type), fact.value) for fact in facts]


def by_onnxruntime(
    name: str, *inputs: Any, version: int = 22, n_outputs: int = 1, **attributes: Any
) -> list[Any]:
    """The outputs by onnxruntime."""
    if OLD_WITNESS:
        pytest.skip("the witness is onnxruntime 1.31 or newer")
    names = [f"x{index}" if value is not None else "" for index, value in enumerate(inputs)]
    feeds = {key: value for key, value in zip(names, inputs, strict=True) if key}
    outputs = [f"y{index}" for index in range(n_outputs)]
    infos = [
        helper.make_tensor_value_info(key, from_numpy(value.dtype).code, value.shape)
        for key, value in feeds.items()
    ]
    graph = helper.make_graph(
        [helper.make_node(name, names, outputs, **attributes)],
        "test",
        infos,
        [helper.make_empty_tensor_value_info(key) for key in outputs],
    )
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", version)],
        ir_version=IR_VERSIONS.get(version, 10),
    )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    results: list[Any] = session.run(None, feeds)
    return results


def assert_same(actual: Sequence[Any], expected: Sequence[Any]) -> None:
    """Arrays with equal types, shapes and elements; NaN equals NaN."""
    for ours, theirs in zip(actual, expected, strict=True):
        assert from_numpy(ours.dtype) is from_numpy(theirs.dtype)
        assert ours.shape == theirs.shape
        if from_numpy(ours.dtype) is STRING:
            assert ours.tolist() == theirs.tolist()
        else:
            np.testing.assert_array_equal(ours, theirs)
