"""What users hold: names, types, feeds, errors, threads."""

from __future__ import annotations

import threading
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import sardonyx as sx
from build import from_nodes, from_text

TEXT = (
    '<ir_version: 8, opset_import: ["" : 17]> g (float[N, 3] x, int64[2] i)'
    " => (float[N, 2] y, float[N, 3] z)"
    " { z = Relu (x) y = Gather <axis = 1> (z, i) }"
)
X = np.array([[1, -2, 3]], np.float32)
INDEX = np.array([2, 0])


def session() -> sx.Session:
    return sx.Session(from_text(TEXT))


def test_run_all_outputs_and_some() -> None:
    y, z = session().run(None, {"x": X, "i": INDEX})
    np.testing.assert_array_equal(y, [[3, 1]])
    np.testing.assert_array_equal(z, [[1, 0, 3]])
    (only,) = session().run(["z"], {"x": X, "i": INDEX})
    np.testing.assert_array_equal(only, z)


def test_interface() -> None:
    x, i = session().get_inputs()
    assert (x.name, x.type, x.shape) == ("x", "tensor(float)", ["N", 3])
    assert (i.name, i.type, i.shape) == ("i", "tensor(int64)", [2])
    assert [output.name for output in session().get_outputs()] == ["y", "z"]


@pytest.mark.parametrize(
    "feeds, words",
    [
        ({"x": X}, ["'i'", "missing"]),
        ({"x": X, "i": INDEX, "w": INDEX}, ["'w'", "'x'"]),
        ({"x": X.astype(np.float64), "i": INDEX}, ["float", "double", "astype"]),
        ({"x": X[0], "i": INDEX}, ["rank 2", "[N, 3]"]),
        ({"x": X[:, :2], "i": INDEX}, ["[N, 3]", "dimension 1"]),
        ({"x": X, "i": np.array([2, 7])}, ["Gather", "index"]),
        ({"x": X, "i": [0.5, 1]}, ["int64", "0.5"]),
        ({"x": None, "i": INDEX}, ["'x'", "None"]),
        ({"x": "cat", "i": INDEX}, ["'x'"]),
    ],
)
def test_bad_feeds_say_what_and_how(feeds: dict[str, object], words: list[str]) -> None:
    with pytest.raises(sx.errors.SardonyxError) as caught:
        session().run(None, feeds)
    for word in words:
        assert word in str(caught.value)


def test_unknown_output() -> None:
    with pytest.raises(sx.errors.InputError, match="'nope'"):
        session().run(["nope"], {"x": X, "i": INDEX})


def test_plain_numbers_and_lists_are_taken() -> None:
    y, _ = session().run(None, {"x": [[1, -2, 3.0]], "i": [2, 0]})
    assert y.dtype == np.float32
    np.testing.assert_array_equal(y, [[3, 1]])


def test_small_types_are_fed_and_returned() -> None:
    model = from_nodes(
        [helper.make_node("Add", ["x", "x"], ["y"])],
        {"x": [2]},
        {"y": [2]},
        elem_type=TensorProto.BFLOAT16,
    )
    (y,) = sx.Session(model).run(None, {"x": np.array([1, 2], ml_dtypes.bfloat16)})
    assert y.dtype == ml_dtypes.bfloat16
    assert y.astype(float).tolist() == [2, 4]


def test_a_default_may_be_overridden() -> None:
    default = helper.make_tensor("b", TensorProto.FLOAT, [1], [10.0])
    model = from_nodes(
        [helper.make_node("Add", ["x", "b"], ["y"])],
        {"x": [1], "b": [1]},
        {"y": [1]},
        initializer=[default],
    )
    made = sx.Session(model)
    assert [argument.name for argument in made.get_inputs()] == ["x"]
    assert [argument.name for argument in made.get_overridable_initializers()] == ["b"]
    assert made.run(None, {"x": [1.0]})[0].tolist() == [11]
    assert made.run(None, {"x": [1.0], "b": [2.0]})[0].tolist() == [3]


def test_an_input_may_be_an_output() -> None:
    model = from_nodes([helper.make_node("Relu", ["x"], ["y"])], {"x": [1]}, {"x": [1], "y": [1]})
    x, y = sx.Session(model).run(None, {"x": [-1.0]})
    assert (x.tolist(), y.tolist()) == ([-1], [0])


def test_from_path_bytes_and_a_file_that_goes_away(tmp_path: Path) -> None:
    proto = onnx.parser.parse_model(TEXT)
    path = tmp_path / "m.onnx"
    onnx.save(proto, path)
    made = sx.Session(path)
    path.write_bytes(b"")
    np.testing.assert_array_equal(made.run(["z"], {"x": X, "i": INDEX})[0], [[1, 0, 3]])
    np.testing.assert_array_equal(
        sx.Session(proto.SerializeToString()).run(["z"], {"x": X, "i": INDEX})[0], [[1, 0, 3]]
    )


def test_a_model_with_problems_is_refused() -> None:
    model = from_nodes([helper.make_node("Reluu", ["x"], ["y"])], {"x": [1]}, {"y": [1]})
    with pytest.raises(sx.errors.CheckError, match="Relu"):
        sx.Session(model)


def test_several_threads_may_call_one_session() -> None:
    made = session()
    wrong: list[int] = []

    def work(number: int) -> None:
        for _ in range(20):
            x = np.full((number + 1, 3), number, np.float32)
            (z,) = made.run(["z"], {"x": x, "i": INDEX})
            if not np.array_equal(z, x):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_threads_option() -> None:
    assert sx.Session(from_text(TEXT), threads=1).threads == 1
    assert session().threads >= 1
    with pytest.raises(sx.errors.InputError, match="threads"):
        sx.Session(from_text(TEXT), threads=0)


def test_backend_interface() -> None:
    proto = onnx.parser.parse_model(TEXT)
    assert sx.backend.supports_device("CPU")
    assert not sx.backend.supports_device("CUDA:0")
    y, z = sx.backend.prepare(proto).run([X, INDEX])
    np.testing.assert_array_equal(y, [[3, 1]])
    result = sx.backend.run_model(proto, [X, INDEX])
    np.testing.assert_array_equal(result.z, z)
    node = helper.make_node("Add", ["a", "b"], ["c"])
    (c,) = sx.backend.run_node(node, [X, X])
    np.testing.assert_array_equal(c, X + X)
