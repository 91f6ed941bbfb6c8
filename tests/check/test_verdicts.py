"""What onnx's checker accepts of the official suite and of trained models has no errors."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import onnx
import pytest
from onnx.backend.test.case.node import collect_testcases
from onnx.backend.test.loader import load_model_tests

import sardonyx as sx
from check.test_faults import onnx_refuses
from sardonyx.check import validate
from zoo.models import MODELS, ZooModel, fetch


def suite() -> Iterator[tuple[str, onnx.ModelProto]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for case in collect_testcases(None):
            yield case.name, case.model
    for kind in ("node", "simple", "light", "pytorch-converted", "pytorch-operator"):
        for stored in load_model_tests(kind=kind):
            if stored.model_dir is not None:
                yield f"{kind}-{stored.name}", onnx.load(f"{stored.model_dir}/model.onnx")


@pytest.mark.onnx
def test_what_onnx_accepts_of_the_suite_has_no_errors() -> None:
    differing = {}
    count = 0
    for name, model in suite():
        count += 1
        errors = validate(sx.loads(model.SerializeToString())).errors
        if errors and not onnx_refuses(model):
            differing[name] = [str(error) for error in errors]
    assert count > 1500
    assert differing == {}


@pytest.mark.zoo
@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_trained_models_have_no_errors(model: ZooModel) -> None:
    assert validate(sx.load(fetch(model))).errors == []
