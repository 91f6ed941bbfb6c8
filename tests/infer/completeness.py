"""What onnx.shape_inference knows of a model and our inference does not."""

from __future__ import annotations

from collections.abc import Iterator

import onnx
from onnx import shape_inference

import sardonyx as sx
from sardonyx.infer import infer
from sardonyx.ir import Model, OptionalType, SequenceType, TensorType, Type, Value


def less_known(model: onnx.ModelProto, *, forget: bool) -> list[str]:
    """Values of which the onnx package knows more; `forget` drops declared outputs first."""
    if forget:
        del model.graph.value_info[:]
        for output in model.graph.output:
            if output.type.HasField("tensor_type"):
                output.type.tensor_type.ClearField("shape")
    theirs = shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    ours = sx.loads(model.SerializeToString())
    found = infer(ours)
    inferred = sx.loads(theirs.SerializeToString())
    values = ours.graph.values()
    missing = []
    for value in declared(inferred):
        mine = values.get(value.name)
        if mine is None or value.type is None:
            continue
        fact = found.facts.get(mine)
        known = mine.type if fact is None else fact.type
        if knows_more(value.type, known):
            missing.append(f"{value.name}: {value} against {fact}")
    return missing


def declared(model: Model) -> Iterator[Value]:
    yield from model.graph.value_info
    yield from model.graph.outputs


def knows_more(theirs: Type, ours: Type | None) -> bool:
    if ours is None:
        return not isinstance(theirs, TensorType) or theirs.dtype is not None
    if isinstance(theirs, TensorType) and isinstance(ours, TensorType):
        if theirs.dtype is not None and theirs.dtype is not ours.dtype:
            return True
        if theirs.shape is None:
            return False
        if ours.shape is None or len(ours.shape) != len(theirs.shape):
            return True
        pairs = zip(theirs.shape, ours.shape, strict=True)
        return any(isinstance(a, int) and a != b for a, b in pairs)
    if isinstance(theirs, (SequenceType, OptionalType)) and type(theirs) is type(ours):
        return knows_more(theirs.element, ours.element)
    return type(theirs) is not type(ours)
