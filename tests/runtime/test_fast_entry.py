"""Runs of a session after the first: other sizes, odd arrays, wrong feeds, kinds of outputs."""

from __future__ import annotations

import numpy as np
import pytest

from build import from_text
from sardonyx.errors import ExecutionError, InputError
from sardonyx.runtime import Session

TEXT = """<ir_version: 8, opset_import: ["" : 17]>
g (float[N,3] x, int64[M] i) => (
    float[N,M] picked, float[K] flat, float[N,3] x2, int64[2] sizes, float[2] fixed, float[N,3] same
)
<float[2] table = {1.5, 2.5}, int64[1] one = {-1}> {
  doubled = Add(x, x)
  picked = Gather<axis=1>(doubled, i)
  flat = Reshape(doubled, one)
  x2 = Identity(doubled)
  sizes = Shape(x)
  fixed = Identity(table)
  same = Identity(x)
}"""


def expected(x, i):
    return [(x + x)[:, i], (x + x).reshape(-1), x + x, np.array(x.shape), [1.5, 2.5], x]


@pytest.fixture(scope="module")
def session():
    return Session(from_text(TEXT), compile=True)


def check(session, x, i, names=None):
    found = session.run(names, {"x": x, "i": i})
    x, i = np.array(x, np.float32), np.array(i, np.int64)
    for got, want in zip(found, expected(x, i), strict=True):
        np.testing.assert_array_equal(got, want)
    return found


def grid(rows):
    return np.arange(rows * 3, dtype=np.float32).reshape(rows, 3)


def test_sizes_that_alternate(session):
    for rows, picks in [(1, 1), (4, 2), (1, 1), (4, 2), (0, 2), (3, 0), (1, 1)] * 3:
        check(session, grid(rows), np.arange(picks) % 3)


def test_more_sizes_than_are_kept(session):
    for rows in [*range(80), *range(80)]:
        check(session, grid(rows), np.array([2]))


def test_arrays_that_do_not_lie_row_by_row(session):
    x, i = grid(4), np.array([0, 2])
    check(session, x, i)
    check(session, np.asfortranarray(x), i)
    check(session, np.repeat(x, 2, axis=0)[::2], i)
    check(session, x[::-1], np.array([0, 9, 2, 9])[::2])
    shifted = np.frombuffer(b"\0" + x.tobytes(), np.uint8)[1:].view(np.float32).reshape(4, 3)
    assert not shifted.flags.aligned
    check(session, shifted, i)
    readonly = x.copy()
    readonly.flags.writeable = False
    check(session, readonly, i)


def test_what_is_no_plain_array(session):
    class Special(np.ndarray):
        pass

    check(session, grid(2), np.array([1]))
    check(session, grid(2).view(Special), np.array([1]))
    check(session, [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], [1])


def test_wrong_feeds_are_refused_as_on_the_first_run(session):
    x, i = grid(2), np.array([1])
    wrong = [
        {"x": x},
        {"x": x, "j": i},
        {"x": x, "i": i, "j": i},
        {"x": x.astype(np.float64), "i": i},
        {"x": x, "i": i.astype(np.uint64)},
        {"x": x.reshape(3, 2), "i": i},
        {"x": x.reshape(6), "i": i},
        {"x": None, "i": i},
    ]
    for feeds in wrong:
        check(session, x, i)
        with pytest.raises(InputError):
            session.run(None, feeds)
    with pytest.raises(InputError):
        session.run(["nothing"], {"x": x, "i": i})


def test_some_outputs_by_name(session):
    x, i = grid(2), np.array([1])
    check(session, x, i, ["picked", "flat", "x2", "sizes", "fixed", "same"])
    flat, picked = session.run(["flat", "picked"], {"x": x, "i": i})
    np.testing.assert_array_equal(flat, (x + x).reshape(-1))
    np.testing.assert_array_equal(picked, (x + x)[:, i])


def test_outputs_belong_to_the_caller(session):
    x, i = grid(2), np.array([1])
    first = check(session, x, i)
    kept = [array.copy() for array in first]
    second = check(session, grid(2) + 1, i)
    for got, want in zip(first, kept, strict=True):
        np.testing.assert_array_equal(got, want)
    second[4][:] = 0
    second[3][:] = 0
    check(session, x, i)


def test_an_index_outside_of_its_dimension(session):
    x = grid(2)
    for _ in range(3):
        check(session, x, np.array([1]))
        with pytest.raises(ExecutionError, match="index"):
            session.run(None, {"x": x, "i": np.array([3])})
        with pytest.raises(ExecutionError, match="index"):
            session.run(None, {"x": x, "i": np.array([-4])})


def test_inputs_that_share_a_size_must_agree():
    text = """<ir_version: 8, opset_import: ["" : 17]>
    g (float[N] a, float[N] b) => (float[N] c) {
      c = Add(a, b)
    }"""
    session = Session(from_text(text), compile=True)
    a, b = np.ones(3, np.float32), np.ones(4, np.float32)
    for _ in range(2):
        np.testing.assert_array_equal(session.run(None, {"a": a, "b": a})[0], a + a)
        with pytest.raises(ExecutionError):
            session.run(None, {"a": a, "b": b})
    one = np.ones(1, np.float32)
    np.testing.assert_array_equal(session.run(None, {"a": a, "b": one})[0], a + one)
