"""Operators whose output is as large as data says, compiled, against the reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.build import from_text
from tests.lowering.compiled import Known, check, compiled, left_to_reference, random

from sardonyx import Limits, Session
from sardonyx.reference import Evaluator

LONG = (5, 9, 1, 700, 0)


def mostly_zero(*shape: int, dtype: Any = np.float32) -> Any:
    found = random(*shape, dtype=dtype)
    found[random(*shape) > -2] = 0
    return found


@pytest.mark.parametrize("dtype", [np.float32, np.bool_, np.int64, np.uint8, np.float16])
def test_nonzero(dtype: Any) -> None:
    def make(n: int) -> list[Any]:
        x = mostly_zero(n, 3, 7, dtype=dtype)
        if x.dtype.kind == "f" and n:
            x[0, 0, :2] = np.nan, -0.0
        return [x]

    check("NonZero", make, sizes=LONG)


def test_nonzero_of_vectors() -> None:
    check("NonZero", lambda n: [random(20 * n, dtype=np.bool_)], sizes=LONG)
    check("NonZero", lambda n: [np.zeros((n, 4), np.int32)], sizes=LONG)


@pytest.mark.parametrize("axis", [None, 0, 1, -1])
def test_compress(axis: int | None) -> None:
    given = {} if axis is None else {"axis": axis}
    check(
        "Compress",
        lambda n: [random(n, n, 16), random(max(n - 1, 0), dtype=np.bool_)],
        sizes=(5, 9, 1, 16, 0),
        **given,
    )


def test_compress_of_too_few() -> None:
    """More conditions than elements are refused by the reference."""
    check("Compress", lambda n: [random(n, 2), random(9, dtype=np.bool_)], axis=0, sizes=(9, 16, 5))


def boxes(batch: int, n: int) -> Any:
    corners = random(batch, n, 2, low=0, high=5)
    sizes = random(batch, 2, n, low=-0.2, high=3).transpose(0, 2, 1)
    return np.ascontiguousarray(np.concatenate([corners, corners + sizes], 2))


@pytest.mark.parametrize("centered", [0, 1])
@pytest.mark.parametrize("most", [0, 3, 10**12])
def test_suppression(most: int, centered: int) -> None:
    def make(n: int) -> list[Any]:
        scores = np.round(random(2, 3, n), 1)
        if scores.size:
            scores.reshape(-1)[::17] = np.nan
        return [
            boxes(2, n),
            scores,
            np.array([most]),
            np.array([0.4], np.float32),
            np.array([-1], np.float32),
        ]

    check("NonMaxSuppression", make, sizes=(5, 9, 1, 200, 0), center_point_box=centered)


def test_suppression_by_constants() -> None:
    check(
        "NonMaxSuppression",
        lambda n: [
            boxes(1, n),
            random(1, 2, n),
            Known([4]),
            Known([0.5], np.float32),
            None,
        ],
        sizes=(5, 9, 1, 64),
    )


def test_suppression_of_other_numbers() -> None:
    """As many scores as boxes: other sizes are the reference's, which refuses them."""
    check(
        "NonMaxSuppression",
        lambda n: [boxes(1, n), random(1, 2, min(n, 9)), Known([4])],
        sizes=(5, 9, 1, 64),
    )


CHAINED = """
<ir_version: 8, opset_import: ["" : 17]>
g (float[N, M] x, bool[N] c) => (float[K] picked, float[L, M] rows, float[P] both) {
  zero = Constant <value_float = 0.0> ()
  positive = Greater(x, zero)
  places = NonZero(positive)
  columns = Transpose(places)
  found = GatherND(x, columns)
  picked = Mul(found, found)
  rows = Compress <axis = 0> (x, c)
  high = Greater(rows, zero)
  again = NonZero(high)
  turned = Transpose(again)
  both = GatherND(rows, turned)
}
"""


def test_what_is_counted_goes_on() -> None:
    """What follows is compiled too, and is as large as the run says."""
    model = from_text(CHAINED)
    native = compiled(model)
    assert left_to_reference(native) == []
    for n, m in ((5, 4), (70, 90), (1, 1), (3, 0), (5, 4)):
        x, c = random(n, m), random(n, dtype=np.bool_)
        found = native.run({"x": x, "c": c})
        np.testing.assert_allclose(found["picked"], np.square(x[x > 0]), rtol=1e-6)
        np.testing.assert_array_equal(found["rows"], x[c])
        np.testing.assert_array_equal(found["both"], x[c][x[c] > 0])


LOOP = """
<ir_version: 8, opset_import: ["" : 17]>
g (float[N] x, int64 trips) => (int64 total, float[T] last) {
  go = Constant <value = bool {1}> ()
  none = Constant <value = int64 {0}> ()
  total, last = Loop (trips, go, none, x) <
    body = b (int64 i, bool c, int64 sum, float[R] state) => (bool d, int64 next, float[Q] less) {
      d = Identity(c)
      bound = Constant <value_float = 0.5> ()
      change = Constant <value_float = 0.25> ()
      on = Greater(state, bound)
      kept = Compress(state, on)
      less = Sub(kept, change)
      place = NonZero(on)
      count = Size(place)
      next = Add(sum, count)
    }
  >
}
"""


def test_counted_in_each_trip() -> None:
    model = from_text(LOOP)
    native, evaluator = compiled(model), Evaluator(model)
    for n in (4, 60, 0):
        feeds = {"x": random(n), "trips": np.array(6)}
        expected = evaluator.run(feeds, ["total", "last"])
        found = native.run(feeds)
        np.testing.assert_array_equal(found["total"], expected["total"])
        np.testing.assert_array_equal(found["last"], expected["last"])


def test_what_constants_count_is_counted_once() -> None:
    """Too much to fold before compiling: how much there is follows from a constant all the same."""
    x = mostly_zero(3, 500)
    text = f"""
<ir_version: 8, opset_import: ["" : 17]>
g (float[N] x) => (int64[2, M] places, float[K] picked)
<float[3, 500] w = {{{", ".join(map(str, x.flat))}}}> {{
  places = NonZero(w)
  zero = Constant <value_float = 0.0> ()
  on = Greater(w, zero)
  flat = Constant <value_ints = [-1]> ()
  row = Reshape(on, flat)
  first = Compress(x, row)
  picked = Neg(first)
}}
"""
    session = Session(from_text(text), limits=Limits(folding_bytes=64))
    given = random(1500)
    for _ in range(2):
        places, picked = session.run(None, {"x": given})
        np.testing.assert_array_equal(places, np.nonzero(x))
        np.testing.assert_array_equal(picked, -given[x.reshape(-1) > 0])
