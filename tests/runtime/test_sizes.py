"""Sizes of a run: those that follow from its inputs, that are fed, and that data decides."""

from __future__ import annotations

import numpy as np
import pytest

import sardonyx as sx
from sardonyx.reference import Evaluator


def test_arithmetic_that_leaves_64_bits_wraps() -> None:
    model = sx.parse(
        '<ir_version: 14, opset_import: ["" : 28]> g (int64 x, int64 v) => (int64 y)'
        ' { a = Mul (x, v) y = BitShift <direction = "LEFT"> (x, a) }'
    )
    session = sx.Session(model)
    for v in (-4642015662142636065, 2**63 - 1, 1, -(2**63)):
        feeds = {"x": np.array(31), "v": np.array(v)}
        np.testing.assert_array_equal(session.run(None, feeds)[0], Evaluator(model).run(feeds)["y"])


@pytest.mark.parametrize("body", ["y = Identity (a)", "y = Add (a, a)", "y = Unsqueeze (a, one)"])
@pytest.mark.parametrize("found", ["a = NonZero (x)", "a, i, j, n = Unique (x)"])
@pytest.mark.parametrize("head", ["float x", "float[N] x"])
def test_sizes_that_data_decides_differ_between_runs(head: str, found: str, body: str) -> None:
    model = sx.parse(
        f'<ir_version: 14, opset_import: ["" : 24]> g ({head}) => (undefined y)'
        f" <int64[1] one = {{1}}> {{ {found} {body} }}".replace(
            "undefined", "int64" if "NonZero" in found else "float"
        )
    )
    session = sx.Session(model)
    for numbers in ([1, 2, 3], [0, 0, 0], [0, 1, 0], [5, 5, 6], [0, 0, 0]):
        x = np.array(numbers if "[" in head else numbers[1], np.float32)
        actual, expected = session.run(None, {"x": x})[0], Evaluator(model).run({"x": x})["y"]
        assert actual.shape == expected.shape
        np.testing.assert_array_equal(actual, expected)
