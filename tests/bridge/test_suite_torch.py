"""The standard's node cases through `sx.to_torch`: how many pass, and why the others do not."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
from onnx.backend.test.case.node import collect_testcases  # noqa: E402

import sardonyx as sx  # noqa: E402
from sardonyx.bridge.torch.tensors import as_torch  # noqa: E402
from sardonyx.wire import decode_tensor  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.onnx]

PASSING = 1812
WITHOUT_COUNTERPART = re.compile(
    "STRING|String|Regex|TfIdf|ImageDecoder|LabelEncoder|TreeEnsemble|no tensors of FLOAT[46]"
)
DRAWN = {"test_training_dropout", "test_training_dropout_mask", "test_training_dropout_default"}
DRAWN |= {"test_training_dropout_default_mask"}
NOISE = {"test_dft_inverse", "test_dft_inverse_opset19"}
"""Cases whose expected zeros are rounding noise of 2e-7, above the suite's tolerance."""
ROUNDING = {torch.bfloat16: 2.0**-6, torch.float16: 2.0**-9}


def as_array(value: Any) -> Any:
    if isinstance(value, onnx.TensorProto):
        return decode_tensor(value.SerializeToString()).numpy()
    return value if value is None or isinstance(value, list) else np.asarray(value)


def as_input(value: Any) -> Any:
    value = as_array(value)
    if isinstance(value, list):
        return [as_input(item) for item in value]
    return None if value is None else as_torch(value)


def assert_same(found: Any, expected: Any, case: Any) -> None:
    if expected is None:
        assert found is None
        return
    if isinstance(expected, list):
        assert len(found) == len(expected)
        for a, b in zip(found, expected):
            assert_same(a, b, case)
        return
    wanted = as_torch(as_array(expected))
    assert found.shape == wanted.shape
    assert found.dtype == wanted.dtype
    if not wanted.dtype.is_floating_point:
        assert torch.equal(found, wanted)
        return
    least = ROUNDING.get(wanted.dtype, 0.0)
    np.testing.assert_allclose(
        found.detach().double().numpy(),
        wanted.double().numpy(),
        rtol=max(case.rtol, least),
        atol=max(case.atol, 1e-7, least / 8),
    )


def outcome_of(case: Any) -> str:
    try:
        module = sx.to_torch(sx.loads(case.model.SerializeToString()))
        for inputs, outputs in case.data_sets:
            found = module(*map(as_input, inputs))
            found = found if isinstance(found, tuple) else (found,)
            for a, b in zip(found, outputs, strict=True):
                assert_same(a, b, case)
    except sx.errors.UnsupportedError as error:
        return "without" if WITHOUT_COUNTERPART.search(str(error)) else f"unsupported: {error}"
    except Exception as error:  # noqa: BLE001 - the table names it
        return f"{type(error).__name__}: {error}"
    return "passes"


def test_node_cases() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cases = [case for case in collect_testcases(None) if "bernoulli" not in case.name]
        outcomes = {case.name: outcome_of(case) for case in cases}
    wrong = {
        name: outcome
        for name, outcome in outcomes.items()
        if outcome not in {"passes", "without"} and name not in DRAWN | NOISE
    }
    assert not wrong
    assert Counter(outcomes.values())["passes"] >= PASSING
