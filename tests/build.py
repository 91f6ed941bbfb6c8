"""Small models for tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx
from onnx import TensorProto, helper

import sardonyx as sx
from sardonyx.ir import Model


def from_text(text: str) -> Model:
    """The model that the standard's textual syntax describes, read by the onnx package."""
    return sx.loads(onnx.parser.parse_model(text).SerializeToString())


def from_nodes(
    nodes: Sequence[onnx.NodeProto],
    inputs: dict[str, Sequence[Any] | None],
    outputs: dict[str, Sequence[Any] | None],
    *,
    opset: int = 21,
    elem_type: int = TensorProto.FLOAT,
    **options: Any,
) -> Model:
    """A model of `nodes` whose inputs and outputs have one element type."""
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info(name, elem_type, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, elem_type, shape) for name, shape in outputs.items()],
        **options,
    )
    imports = [helper.make_opsetid("", opset)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=10)
    return sx.loads(model.SerializeToString())
