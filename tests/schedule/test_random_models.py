"""Random models compiled once and run at several sizes, beside the reference."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

from sardonyx.limits import DEFAULT
from sardonyx.reference import Evaluator
from sardonyx.runtime.compiled import compile_model
from schedule.random_models import feeds, random_model

SIZES = [
    (5, 7, 3),
    (16, 33, 24),
    (1, 1, 1),
    (1, 40, 9),
    (13, 1, 2),
    (0, 4, 3),
    (4, 0, 3),
    (4, 3, 0),
]


def check(seed: int, precision: float = 1e-4) -> None:
    model = random_model(seed)
    evaluator = Evaluator(model)
    compiled = compile_model(model, evaluator, DEFAULT)
    for numbers in SIZES:
        given = feeds(seed, dict(zip("MNK", numbers)))
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            expected = evaluator.run(given)
        found: dict[str, Any] = compiled.run(given)
        for name, wanted in expected.items():
            assert found[name].shape == wanted.shape, (name, numbers)
            scale = np.abs(wanted[np.isfinite(wanted)]).max(initial=1.0)
            np.testing.assert_allclose(
                found[name],
                wanted,
                rtol=precision,
                atol=precision * scale,
                err_msg=f"output {name} of model {seed} at {numbers}",
            )


@pytest.mark.parametrize("seed", range(6))
def test_random_models(seed: int) -> None:
    check(seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6, 300))
def test_more_random_models(seed: int) -> None:
    check(seed)
