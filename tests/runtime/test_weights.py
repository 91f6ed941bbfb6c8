"""Where a session keeps the weights of a model, and what it needs of the file afterwards."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper, numpy_helper

import sardonyx as sx
from sardonyx.errors import ExecutionError
from sardonyx.ir import Model

WIDTH = 2048


def write(path: Path, *, transposed: bool = False, also: str = "") -> np.ndarray[Any, Any]:
    """A mapped file of ``x @ w + b``; `also` is another operator that reads the weights."""
    rng = np.random.default_rng(1)
    w = (rng.standard_normal((WIDTH, WIDTH)) / WIDTH**0.5).astype(np.float32)
    nodes = [
        helper.make_node("MatMul", ["x", "v" if transposed else "w"], ["p"]),
        helper.make_node("Add", ["p", "b"], ["y"]),
    ]
    if transposed:
        nodes.insert(0, helper.make_node("Transpose", ["w"], ["v"], perm=[1, 0]))
    outputs = [helper.make_tensor_value_info("y", 1, None)]
    if also:
        nodes.append(helper.make_node(also, ["w"], ["z"]))
        outputs.append(helper.make_tensor_value_info("z", 1, None))
    inputs = [
        helper.make_tensor_value_info("x", 1, ["N", WIDTH]),
        helper.make_tensor_value_info("b", 1, ["N", WIDTH]),
    ]
    graph = helper.make_graph(nodes, "g", inputs, outputs, [numpy_helper.from_array(w, "w")])
    imports = [helper.make_opsetid("", 21)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=10)
    path.write_bytes(model.SerializeToString())
    assert path.stat().st_size >= 16 << 20
    return w.T if transposed else w


def feeds(rows: int = 3, rows_of_b: int | None = None) -> dict[str, Any]:
    rng = np.random.default_rng(2)
    x = rng.standard_normal((rows, WIDTH)).astype(np.float32)
    b = rng.standard_normal((rows_of_b or rows, WIDTH)).astype(np.float32)
    return {"x": x, "b": b}


def assert_right(session: sx.Session, w: Any, given: dict[str, Any]) -> None:
    y = session.run(["y"], given)[0]
    expected = given["x"].astype(np.float64) @ w.astype(np.float64) + given["b"]
    np.testing.assert_allclose(y, expected, rtol=0, atol=WIDTH * 2**-23)


def held(session: sx.Session) -> int:
    """Bytes of the model's constants that the session has in memory of its own."""
    assert session.compiled is not None
    steps = session.compiled.compilation.steps
    arrays = {id(array): array for step in steps for _, array in getattr(step, "constants", ())}
    return sum(array.nbytes for array in arrays.values())


@pytest.mark.parametrize("transposed", [False, True])
def test_a_file_may_be_cut_short_once_its_weights_are_packed(
    tmp_path: Path, *, transposed: bool
) -> None:
    path = tmp_path / "model.onnx"
    w = write(path, transposed=transposed)
    session = sx.Session(path)
    os.truncate(path, 100)
    for rows in (1, 3, 70):
        assert_right(session, w, feeds(rows))
    assert held(session) < 1.2 * w.nbytes


@pytest.mark.parametrize("transposed", [False, True])
def test_a_run_that_the_reference_takes_over_reads_weights_again(
    tmp_path: Path, *, transposed: bool
) -> None:
    path = tmp_path / "model.onnx"
    w = write(path, transposed=transposed)
    session = sx.Session(path)
    path.rename(tmp_path / "elsewhere.onnx")
    assert_right(session, w, feeds(3, rows_of_b=1))
    assert_right(session, w, feeds(3))


def test_it_does_not_read_a_file_that_was_written_to(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    w = write(path)
    session = sx.Session(path)
    os.truncate(path, 100)
    with pytest.raises(ExecutionError, match="was changed"):
        session.run(None, feeds(3, rows_of_b=1))
    assert_right(session, w, feeds(3))


@pytest.mark.parametrize("also", ["Neg", "Identity", "Det"])
def test_weights_that_others_read_too_are_kept(tmp_path: Path, also: str) -> None:
    path = tmp_path / "model.onnx"
    w = write(path, also=also)
    session = sx.Session(path)
    os.truncate(path, 100)
    y, z = session.run(None, feeds(2))
    assert np.isfinite(y).all()
    if also == "Det":
        assert z.shape == ()
    else:
        np.testing.assert_array_equal(z, -w if also == "Neg" else w)


def test_bytes_of_a_model_are_read_again(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    w = write(path)
    session = sx.Session(path.read_bytes())
    assert_right(session, w, feeds(3, rows_of_b=1))


def test_arrays_of_a_model_may_change_once_it_has_a_session(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    w = write(path)
    array = w.copy()
    model: Model = sx.load(path)
    (value,) = model.graph.initializers
    value.const = sx.ir.ArrayTensor(array, name="w")
    session = sx.Session(model)
    array[:] = 0
    assert_right(session, w, feeds(3))
    assert_right(session, w, feeds(3, rows_of_b=1))


def test_without_compiling_all_is_read_at_once(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    w = write(path)
    session = sx.Session(path, compile=False)
    os.truncate(path, 100)
    assert_right(session, w, feeds(3))
