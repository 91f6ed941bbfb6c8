"""Weights without elements: what packs them writes nothing, and what reads them still runs."""

from __future__ import annotations

import numpy as np
from tests.lowering.compiled import Known, check, random


def test_convolution_of_no_channels() -> None:
    weights = Known(np.zeros((2, 0, 1, 3)), np.float32)
    check("Conv", lambda n: [random(n, 0, 3, 4), weights], pads=[0, 1, 0, 1])


def test_product_of_no_terms() -> None:
    check("MatMul", lambda n: [random(n, 0), Known(np.zeros((0, 3)), np.float32)])
