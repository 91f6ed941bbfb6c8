"""What inference says of symbolic sizes is what runs give, at several sizes."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from functools import cache
from string import ascii_lowercase
from typing import Any

import numpy as np
import onnx
import pytest
from onnx.backend.test.case.node import collect_testcases

import sardonyx as sx
from infer.completeness import less_known
from infer.random_graphs import Maker
from infer.soundness import Disagreement, check, fix_parameters, symbolic_layout
from sardonyx.infer import explain_unknown, infer
from sardonyx.ops import registry
from sardonyx.wire import decode_tensor
from zoo.models import MODELS, ZooModel, fetch


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("seed", range(40))
def test_random_graph(seed: int, shared: bool) -> None:
    model, feeds = Maker(seed).model(25)
    assert check(model, feeds, symbolic_layout(model, feeds, shared=shared)) > 1


def test_a_wrong_size_does_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry.get("", "Transpose"), "infer", lambda _, data: data)
    wrong = 0
    for seed in range(40):
        model, feeds = Maker(seed).model(25)
        try:
            check(model, feeds, symbolic_layout(model, feeds, shared=False))
        except Disagreement:
            wrong += 1
    assert wrong > 3


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1000, 1400))
def test_more_random_graphs(seed: int) -> None:
    model, feeds = Maker(seed).model(40)
    assert check(model, feeds, symbolic_layout(model, feeds, shared=False)) > 0


@cache
def node_cases() -> dict[str, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {case.name.removeprefix("test_"): case for case in collect_testcases(None)}


def cases(letter: str) -> Iterator[tuple[str, Any]]:
    """The official cases whose names begin so: collecting them all is too slow to be a parameter."""
    for name, case in sorted(node_cases().items()):
        is_gradient = any(node.op_type == "Gradient" for node in case.model.graph.node)
        if name.startswith(letter) and not is_gradient:
            yield name, case


def as_array(item: Any) -> Any:
    if isinstance(item, onnx.TensorProto):
        return decode_tensor(item.SerializeToString()).numpy()
    return np.asarray(item) if isinstance(item, np.generic) else item


@pytest.mark.onnx
@pytest.mark.parametrize("parameters_are_known", [False, True])
@pytest.mark.parametrize("letter", ascii_lowercase)
def test_official_cases(letter: str, parameters_are_known: bool) -> None:
    wrong = []
    for name, case in cases(letter):
        data = case.model.SerializeToString()
        inputs = [as_array(item) for item in case.data_sets[0][0]]
        for shared in (False, True):
            model = sx.loads(data)
            given = zip(model.graph.inputs, inputs, strict=False)
            feeds = {value.name: item for value, item in given}
            if parameters_are_known:
                feeds = fix_parameters(model, feeds)
            try:
                assert check(model, feeds, symbolic_layout(model, feeds, shared=shared)) > 0
            except (AssertionError, sx.errors.SardonyxError) as error:
                wrong.append(f"{name}: {error}")
    assert wrong == []


THEIRS_IS_WRONG = {
    "loop13_seq": "a sequence declared without rank is taken to hold scalars",
    "mvn": "the function body that the package carries for it is not valid",
}


@pytest.mark.onnx
@pytest.mark.parametrize("letter", ascii_lowercase)
@pytest.mark.parametrize("forget", [False, True])
def test_knows_as_much_as_the_onnx_package(letter: str, forget: bool) -> None:
    missing = []
    for name, case in cases(letter):
        if name not in THEIRS_IS_WRONG:
            model = onnx.ModelProto()
            model.CopyFrom(case.model)
            missing += [f"{name}: {each}" for each in less_known(model, forget=forget)]
    assert missing == []


@pytest.mark.zoo
@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_trained_model(model: ZooModel) -> None:
    path = fetch(model)
    assert less_known(onnx.load(path), forget=True) == []
    loaded = sx.load(path)
    found = infer(loaded)
    assert found.problems == []
    assert found.conflicts == []
    for node in loaded.graph.all_nodes():
        for value in node.outputs:
            for unknown in explain_unknown(found, value):
                if unknown.part in {"rank", "type"}:
                    assert unknown.node is not None
                    assert unknown.node.op_type == "If"
