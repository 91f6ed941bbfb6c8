"""Trained models and the official suite's: cut, joined, resized, beside the onnx package."""

from __future__ import annotations

import warnings
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx.backend.test.case.node import collect_testcases
from onnx.utils import Extractor

import sardonyx as sx
from compose.running import proto, run
from sardonyx import dims
from sardonyx.dims import Dim
from sardonyx.errors import InferenceError, ModelError, UnsupportedError
from sardonyx.ir import Model, TensorType
from zoo.models import MODELS, ZooModel, fetch

every_model = pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)


def by_onnxruntime(message: onnx.ModelProto, feeds: dict[str, Any]) -> dict[str, Any]:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        message.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]
    taken = {value.name: feeds[value.name] for value in session.get_inputs()}
    return dict(zip(names, session.run(None, taken), strict=True))


def cuts(model: Model, count: int) -> list[str]:
    """Names of float results of nodes, spread over the main graph."""
    typed = sx.infer_shapes(sx.compose.copy(model))
    names = [
        value.name
        for node in typed.graph.nodes
        for value in node.outputs
        if isinstance(value.type, TensorType) and value.name and value.dtype
    ]
    step = max(1, len(names) // (count + 1))
    return names[step::step][:count]


@pytest.mark.zoo
@every_model
def test_parts_of_trained_models(model: ZooModel) -> None:
    source = sx.load(fetch(model))
    known = onnx.shape_inference.infer_shapes(onnx.load(fetch(model)))
    feeds = model.feeds(np.random.default_rng(0), 0)
    whole = by_onnxruntime(proto(source), feeds)
    inputs = [value.name for value in source.graph.required_inputs]
    outputs = [value.name for value in source.graph.outputs]
    for name in cuts(source, 3):
        part = sx.compose.extract(source, outputs=[name])
        sx.check(part)
        between = by_onnxruntime(proto(part), feeds)
        rest = sx.compose.extract(source, [*inputs, name])
        found = by_onnxruntime(proto(rest), {**feeds, **between})
        for output in outputs:
            np.testing.assert_array_equal(found[output], whole[output])
        prefixed = [f"b/{output}" for output in outputs]
        joined = sx.compose.merge(part, rest, {name: name}, prefixes=("", "b/"), outputs=prefixed)
        sx.check(joined)
        every = {**feeds, **{f"b/{key}": value for key, value in feeds.items()}}
        found = by_onnxruntime(proto(joined), every)
        for output in outputs:
            np.testing.assert_array_equal(found[f"b/{output}"], whole[output])
        witness = Extractor(known).extract_model(inputs, [name])
        assert len(witness.graph.node) == len(part.graph.nodes)


@pytest.mark.zoo
@every_model
def test_batches_of_trained_models(model: ZooModel) -> None:
    """Sizes fixed to what a run needs, then opened again, give what the model gives."""
    source = sx.load(fetch(model))
    feeds = [model.feeds(np.random.default_rng(0), size) for size in (0, 1)]
    symbols: dict[str, int] = {}
    opened: dict[str, dict[int, str]] = {}
    for value in source.graph.required_inputs:
        for axis, dim in enumerate(value.shape or ()):
            if isinstance(dim, Dim):
                (name,) = dims.symbols(dim)
                symbols[name] = feeds[0][value.name].shape[axis]
                opened.setdefault(value.name, {})[axis] = name
    if not symbols:
        pytest.skip("no input has a named dimension")
    fixed = sx.compose.fix_dims(source, symbols)
    expected = by_onnxruntime(proto(source), feeds[0])
    found = by_onnxruntime(proto(fixed), feeds[0])
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value)
    try:
        again = sx.compose.make_dynamic(fixed, opened)
    except (ModelError, InferenceError) as error:
        assert error.places
        return
    for each in feeds:
        found = by_onnxruntime(proto(again), each)
        for name, value in by_onnxruntime(proto(source), each).items():
            np.testing.assert_array_equal(found[name], value)


ONE_BATCH_AXIS = [model for model in MODELS if "silero" not in model.name]


@pytest.mark.zoo
@pytest.mark.parametrize("model", ONE_BATCH_AXIS, ids=lambda model: model.name)
def test_a_batch_is_opened_in_folded_models(model: ZooModel, tmp_path: Path) -> None:
    """onnxruntime folds a model for its usual shape, so that constants hold on to the batch."""
    source = sx.compose.copy(sx.load(fetch(model)))
    feeds = [model.feeds(np.random.default_rng(seed), 0) for seed in range(3)]
    size = next(iter(feeds[0].values())).shape[0]
    for value in source.graph.required_inputs:
        assert isinstance(value.type, TensorType)
        value.type = replace(value.type, shape=feeds[0][value.name].shape)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(tmp_path / "folded.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(sx.dumps(source), options, providers=["CPUExecutionProvider"])
    folded = sx.load(tmp_path / "folded.onnx")
    if "chars2vec" in model.package:
        # the state that its Loop begins with is one example's
        with pytest.raises(InferenceError, match="Gemm") as raised:
            sx.compose.set_batch_size(folded, "batch")
        assert "lstm_cell" in raised.value.places[0]
        return
    opened = sx.compose.set_batch_size(folded, "batch")
    sx.check(opened)
    together = {name: np.concatenate([each[name] for each in feeds]) for name in feeds[0]}
    found = by_onnxruntime(proto(opened), together)
    for name in found:
        for index, each in enumerate(feeds):
            expected = by_onnxruntime(proto(folded), each)[name]
            count = found[name].shape[0] // len(feeds)
            part = found[name][index * count : (index + 1) * count]
            assert part.shape == expected.shape
            if expected.dtype.kind == "f":
                error = float(np.abs(part.astype(np.float64) - expected).max(initial=0))
                assert error <= model.tolerance(expected)
            else:
                np.testing.assert_array_equal(part, expected)
    sized = sx.compose.set_batch_size(folded, 2 * size)
    assert sized.graph.required_inputs[0].shape is not None
    assert sized.graph.required_inputs[0].shape[0] == 2 * size


@cache
def official() -> list[Model]:
    """The models of official cases that have several nodes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cases = collect_testcases(None)
    return [
        sx.loads(case.model.SerializeToString())
        for case in cases
        if case.model and len(case.model.graph.node) > 1
    ]


@pytest.mark.onnx
def test_parts_of_official_models() -> None:
    rng = np.random.default_rng(0)
    count = 0
    for model in official():
        feeds = {}
        for value in model.graph.required_inputs:
            if not isinstance(value.type, TensorType) or value.dtype is None:
                break
            shape = [dim if isinstance(dim, int) else 2 for dim in value.shape or ()]
            feeds[value.name] = rng.integers(0, 2, shape).astype(value.dtype.numpy)
        else:
            count += agrees(model, feeds)
    assert count > 300


def agrees(model: Model, feeds: dict[str, Any]) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            whole = run(model, feeds)
    except sx.errors.SardonyxError:
        return False
    inputs = [value.name for value in model.graph.required_inputs]
    try:
        names = cuts(model, 2)
        parts = [
            (
                sx.compose.extract(model, outputs=[name]),
                sx.compose.extract(model, [*inputs, name] if name not in inputs else inputs),
            )
            for name in names
        ]
    except UnsupportedError:
        return False
    for part, rest in parts:
        between = run(part, feeds)
        found = run(rest, {**feeds, **between})
        for name, value in whole.items():
            np.testing.assert_array_equal(found[name], value)
    renamed = run(sx.compose.prefix(model, "p/"), {f"p/{k}": v for k, v in feeds.items()})
    for name, value in whole.items():
        np.testing.assert_array_equal(renamed[f"p/{name}"], value)
    return True
