"""Matrix products: what the rules take, beside `tests/kernels/test_matmul.py`."""

from __future__ import annotations

import numpy as np
import pytest
from tests.lowering.compiled import compiled, model_of, random

from sardonyx.reference import Evaluator


@pytest.mark.parametrize(("alpha", "beta"), [(0.5, 1.0), (1.0, 2.5), (3.0, 1.0), (1.0, 1.0)])
def test_gemm_of_integers(alpha: float, beta: float) -> None:
    def make(n: int) -> list[np.ndarray]:
        return [random(n, 2, dtype=np.int64), random(2, 3, dtype=np.int64), np.array([5, 7, -9])]

    options = {"alpha": alpha, "beta": beta}
    model = model_of("Gemm", make, opset=24, n_outputs=1, domain="", attributes=options)
    native = compiled(model)
    for size in (5, 1, 0):
        feeds = {f"x{number}": value for number, value in enumerate(make(size))}
        np.testing.assert_array_equal(native.run(feeds)["y0"], Evaluator(model).run(feeds)["y0"])
