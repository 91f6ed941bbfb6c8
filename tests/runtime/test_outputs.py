"""Outputs' memory: used again when it is free, never while an array looks at it."""

import gc
import threading

import numpy as np
import pytest

import sardonyx as sx
from build import from_text
from sardonyx.runtime.outputs import POOLED_FROM, Outputs

FLOAT = np.dtype(np.float32)
COUNT = POOLED_FROM // 4


def address(array):
    return array.__array_interface__["data"][0]


def test_memory_comes_back_when_the_last_view_goes():
    outputs = Outputs()
    first = outputs.empty((COUNT,), FLOAT)
    place = address(first)
    view = first[10:20].reshape(2, 5)
    del first
    gc.collect()
    second = outputs.empty((COUNT,), FLOAT)
    assert address(second) != place
    del view
    assert address(outputs.empty((2, COUNT // 2), FLOAT)) == place


def test_other_sizes_do_not_take_it():
    outputs = Outputs()
    outputs.empty((COUNT,), FLOAT)
    assert len(outputs.free) == 1
    large = outputs.empty((2 * COUNT,), FLOAT)
    assert large.nbytes == 8 * COUNT
    assert len(outputs.free) == 1


def test_what_is_kept_is_bounded():
    outputs = Outputs()
    arrays = [outputs.empty((COUNT * (i + 1),), FLOAT) for i in range(9)]
    arrays.clear()
    assert len(outputs.free) <= 4


def test_arrays_outlive_their_pool():
    outputs = Outputs()
    array = outputs.empty((COUNT,), FLOAT)
    array[:] = 3
    del outputs
    assert (array == 3).all()


def test_small_arrays_own_their_memory():
    assert Outputs().empty((10,), FLOAT).flags.owndata


@pytest.mark.parametrize("threads", [1, 4])
def test_outputs_of_runs_do_not_share_memory(threads):
    model = from_text(
        f"""<ir_version: 9, opset_import: ["": 20]>
        agraph (float[{COUNT}] x, float[1] a) => (float[{COUNT}] y) {{ y = Add(x, a) }}"""
    )
    session = sx.Session(model)
    x = np.zeros(COUNT, np.float32)
    wrong = []

    def work(first):
        held = []
        for number in range(first, first + 12):
            (y,) = session.run(None, {"x": x, "a": np.float32([number])})
            held.append((number, y))
            held = held[-2:]
            wrong.extend(n for n, array in held if array[0] != n or array[-1] != n)

    workers = [threading.Thread(target=work, args=(100 * i,)) for i in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong
