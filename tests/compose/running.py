"""Models as protos and as numbers, for comparing what was composed with what it came from."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx

import sardonyx as sx
from sardonyx.ir import Model
from sardonyx.reference import Evaluator

Feeds = dict[str, np.ndarray]


def proto(model: Model) -> onnx.ModelProto:
    return onnx.load_from_string(sx.dumps(model))


def model_of(message: onnx.ModelProto) -> Model:
    return sx.loads(message.SerializeToString())


def sound(model: Model) -> Model:
    """The model as a file holds it, once both checkers accept it."""
    onnx.checker.check_model(proto(model), full_check=True)
    again = sx.loads(sx.dumps(model))
    sx.check(again)
    return again


def run(model: Model, feeds: Feeds) -> dict[str, Any]:
    return Evaluator(model).run(feeds)


def random_feeds(model: Model, seed: int = 0, size: int = 2) -> Feeds:
    """Floats for each required input, `size` for dims that are not numbers."""
    rng = np.random.default_rng(seed)
    return {
        value.name: rng.standard_normal(
            [dim if isinstance(dim, int) else size for dim in value.shape or ()]
        ).astype(value.dtype.numpy if value.dtype else np.float32)
        for value in model.graph.required_inputs
    }


def equal(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    assert list(ours) == list(theirs)
    for name, value in ours.items():
        np.testing.assert_array_equal(value, theirs[name], strict=True)
