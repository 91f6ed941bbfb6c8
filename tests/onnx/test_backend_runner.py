"""The standard's own conformance runner, all of its CPU tests, on `sardonyx.backend`.

No test is excluded. `BEYOND_ANY_BACKEND` lists those that no implementation of the standard can
pass, with the reason; they run all the same, and only the named error excuses them.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from onnx.backend.test import BackendTest
from onnx.backend.test.loader import load_model_tests

import sardonyx.backend

DRAWN_ELSEWHERE = (
    "the expected values are NumPy's global generator's next ones after it drew the input, which "
    "a model does not contain; the standard calls them informational"
)
OPPOSITE_TAIL = (
    f"{DRAWN_ELSEWHERE}; the function body compares random > x, which is 1 with probability "
    "1 - x, where the expected values have probability x"
)
BEYOND_ANY_BACKEND: dict[str, tuple[type[Exception], str]] = {
    "test_bernoulli": (AssertionError, DRAWN_ELSEWHERE),
    "test_bernoulli_double": (AssertionError, DRAWN_ELSEWHERE),
    "test_bernoulli_seed": (AssertionError, DRAWN_ELSEWHERE),
    "test_bernoulli_expanded": (AssertionError, OPPOSITE_TAIL),
    "test_bernoulli_double_expanded": (AssertionError, OPPOSITE_TAIL),
    "test_bernoulli_seed_expanded": (AssertionError, OPPOSITE_TAIL),
    "test_loop16_seq_none": (
        TypeError,
        "the runner takes len() of each element of a sequence, and the first expected one has "
        "rank 0",
    ),
}

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    SUITE = BackendTest(sardonyx.backend, __name__)
    CASES = SUITE.test_cases
    EXPECTED = {case.name: case for case in load_model_tests(kind="node")}


def of_the_processor(case: type) -> type:
    """The test class without the tests of other devices, and the excused tests marked."""
    for name in [name for name in dir(case) if name.startswith("test_")]:
        if not name.endswith("_cpu"):
            delattr(case, name)
            continue
        excused = BEYOND_ANY_BACKEND.get(name.removesuffix("_cpu"))
        if excused is not None:
            error, reason = excused
            mark = pytest.mark.xfail(raises=error, reason=reason, strict=error is TypeError)
            setattr(case, name, mark(getattr(case, name)))
    case.pytestmark = [pytest.mark.onnx]
    return case


globals().update({name: of_the_processor(case) for name, case in CASES.items()})


@pytest.mark.onnx
def test_every_test_of_the_processor_is_here() -> None:
    found = [name for case in CASES.values() for name in dir(case) if name.startswith("test_")]
    assert len(found) >= 2033
    assert {f"{name}_cpu" for name in BEYOND_ANY_BACKEND} <= set(found)


def given_and_expected(name: str) -> tuple[Any, Any]:
    ((inputs, outputs),) = EXPECTED[name].data_sets
    return inputs, outputs


@pytest.mark.onnx
def test_what_the_runner_cannot_compare_is_right() -> None:
    inputs, outputs = given_and_expected("test_loop16_seq_none")
    with pytest.raises(TypeError):
        SUITE.assert_similar_outputs(outputs, outputs, rtol=1e-3, atol=1e-7)
    case = EXPECTED["test_loop16_seq_none"]
    (found,) = sardonyx.backend.prepare(case.model).run(inputs)
    assert len(found) == len(outputs[0])
    for ours, theirs in zip(found, outputs[0]):
        assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.onnx
def test_the_drawn_values_follow_from_numpys_generator_where_it_stood() -> None:
    state = np.random.RandomState(0)
    for name in ("test_bernoulli", "test_bernoulli_double", "test_bernoulli_seed"):
        (x,), (expected,) = given_and_expected(name)
        state.seed(0)
        np.testing.assert_array_equal(state.uniform(0.0, 1.0, 10).astype(x.dtype), x)
        np.testing.assert_array_equal(state.binomial(1, p=x).astype(expected.dtype), expected)


@pytest.mark.onnx
@pytest.mark.parametrize("name", [name for name in BEYOND_ANY_BACKEND if "bernoulli" in name])
def test_what_is_drawn_has_the_right_type_and_shape(name: str) -> None:
    inputs, (expected,) = given_and_expected(name)
    (found,) = sardonyx.backend.prepare(EXPECTED[name].model).run(inputs)
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    assert set(found.tolist()) <= {0, 1}
