"""Real trained models agree with onnxruntime, round-trip, and infer what they compute."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

import sardonyx as sx
from sardonyx.check import validate
from sardonyx.dims import Dim, evaluate, symbols
from sardonyx.infer import infer
from sardonyx.ir import TensorType
from sardonyx.reference import Evaluator
from zoo.models import MODELS, ZooModel, fetch

pytestmark = pytest.mark.zoo
every_model = pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)


@every_model
@pytest.mark.parametrize("size", [0, 1])
def test_agrees_with_onnxruntime(model: ZooModel, size: int) -> None:
    import onnxruntime

    path = fetch(model)
    feeds = model.feeds(np.random.default_rng(0), size)
    session = sx.Session(path)
    witness = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in witness.get_outputs()]
    assert names == [output.name for output in session.get_outputs()]
    for name, expected, actual in zip(
        names, witness.run(None, feeds), session.run(None, feeds), strict=True
    ):
        assert (expected.dtype, expected.shape) == (actual.dtype, actual.shape), name
        error = float(np.max(np.abs(actual.astype(np.float64) - expected), initial=0.0))
        assert error <= model.tolerance(expected), (name, error)


@every_model
def test_interface_reads_as_onnxruntime_words_it(model: ZooModel) -> None:
    import onnxruntime

    path = fetch(model)
    session = sx.Session(path)
    witness = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for ours, theirs in zip(session.get_inputs(), witness.get_inputs(), strict=True):
        assert (ours.name, ours.type, ours.shape) == (theirs.name, theirs.type, theirs.shape)


@every_model
def test_round_trip_loses_nothing(model: ZooModel) -> None:
    path = fetch(model)
    again = sx.dumps(sx.load(path))
    if again != path.read_bytes():
        assert without_defaults(onnx.load_from_string(again)) == without_defaults(onnx.load(path))


def without_defaults(message: Any) -> Any:
    """The message less singular fields that are set to their default, which say nothing."""
    for field, value in message.ListFields():
        if field.type == field.TYPE_MESSAGE:
            for part in value if field.is_repeated else [value]:
                without_defaults(part)
        elif not field.is_repeated and value == field.default_value and not says_something(field):
            message.ClearField(field.name)
    return message


def says_something(field: Any) -> bool:
    """Whether the field's presence alone has a meaning: a choice, or an attribute's value."""
    return field.containing_oneof is not None or field.name in {"i", "f", "s"}


@every_model
def test_sound(model: ZooModel) -> None:
    assert not validate(sx.load(fetch(model))).errors


@every_model
@pytest.mark.parametrize("size", [0, 1])
def test_inferred_shapes_are_what_runs(model: ZooModel, size: int) -> None:
    loaded = sx.load(fetch(model))
    feeds = model.feeds(np.random.default_rng(0), size)
    facts = infer(loaded).facts
    bound: dict[str, int] = {}
    for value in loaded.graph.inputs:
        for dim, actual in zip(facts[value].shape or (), feeds[value.name].shape, strict=True):
            if isinstance(dim, Dim):
                bound[str(dim)] = actual
    computed = Evaluator(loaded).run(feeds, all_values=True)
    values = loaded.graph.values()
    for name, array in computed.items():
        fact = facts[values[name]]
        if not isinstance(fact.type, TensorType) or fact.shape is None:
            continue
        assert fact.dtype is None or fact.dtype.numpy == array.dtype, name
        assert len(fact.shape) == array.ndim, name
        for dim, actual in zip(fact.shape, array.shape, strict=True):
            if isinstance(dim, Dim) and symbols(dim) <= set(bound):
                assert evaluate(dim, bound) == actual, (name, str(fact), array.shape)
            elif isinstance(dim, int):
                assert dim == actual, (name, str(fact), array.shape)
