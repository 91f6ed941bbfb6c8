"""What sessions of the same weights have in common, and that none gets another's."""

from __future__ import annotations

import gc
import threading
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import sardonyx as sx
from sardonyx.ir import ArrayTensor, Model
from sardonyx.reference import Evaluator
from sardonyx.wire import source

WIDTH = 96


def proto(seed: int = 1) -> onnx.ModelProto:
    """A convolution, a product, a recurrent layer, an embedding and a bias: all kinds of packing."""
    rng = np.random.default_rng(seed)

    def weight(name: str, *shape: int) -> onnx.TensorProto:
        array = rng.standard_normal(shape) / shape[-1] ** 0.5
        return numpy_helper.from_array(array.astype(np.float32), name)

    weights = [
        weight("conv", 32, 3, 3, 3),
        weight("w", 32, WIDTH),
        weight("b", 2048),
        weight("u", WIDTH, 2048),
        weight("gates", 1, 4 * 24, WIDTH),
        weight("state", 1, 4 * 24, 24),
        weight("table", 500, WIDTH),
    ]
    nodes = [
        helper.make_node("Conv", ["image", "conv"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("GlobalAveragePool", ["c"], ["g"]),
        helper.make_node("Flatten", ["g"], ["f"]),
        helper.make_node("MatMul", ["f", "w"], ["p"]),
        helper.make_node("MatMul", ["p", "u"], ["q"]),
        helper.make_node("Add", ["q", "b"], ["y"]),
        helper.make_node("Gather", ["table", "ids"], ["e"]),
        helper.make_node("LSTM", ["e", "gates", "state"], ["z"], hidden_size=24),
    ]
    inputs = [
        helper.make_tensor_value_info("image", 1, ["N", 3, 8, 8]),
        helper.make_tensor_value_info("ids", 7, ["T", 2]),
    ]
    outputs = [helper.make_tensor_value_info(name, 1, None) for name in "yz"]
    graph = helper.make_graph(nodes, "g", inputs, outputs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def write(folder: Path, seed: int = 1, *, padding: int = 0) -> Path:
    """The model with its weights in a file beside it, `padding` bytes into it."""
    path = folder / "model.onnx"
    model = proto(seed)
    data = b"\0" * padding
    for tensor in model.graph.initializer:
        raw = tensor.raw_data
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        places = (("location", "data"), ("offset", len(data)), ("length", len(raw)))
        for key, value in places:
            tensor.external_data.add(key=key, value=str(value))
        data += raw
    (folder / "data").write_bytes(data)
    path.write_bytes(model.SerializeToString())
    return path


def feeds() -> dict[str, Any]:
    rng = np.random.default_rng(2)
    image = rng.standard_normal((2, 3, 8, 8)).astype(np.float32)
    return {"image": image, "ids": rng.integers(0, 500, (5, 2))}


def assert_right(session: sx.Session, seed: int = 1) -> None:
    model = sx.loads(proto(seed).SerializeToString())
    expected = Evaluator(model).run(feeds())
    for name, found in zip("yz", session.run(None, feeds()), strict=True):
        np.testing.assert_allclose(found, expected[name], rtol=0, atol=2e-5)


def large(session: sx.Session) -> list[Any]:
    """The constants that native code reads, but for small ones."""
    assert session.compiled is not None
    steps = session.compiled.compilation.steps
    arrays = [array for step in steps for _, array in getattr(step, "constants", ())]
    return [array for array in arrays if array.nbytes >= 4096]


def own(session: sx.Session, *others: sx.Session) -> list[Any]:
    """Large constants of `session` that none of `others` has."""
    known = {id(array) for other in others for array in large(other)}
    return [array for array in large(session) if id(array) not in known]


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files count as written long ago."""
    monkeypatch.setattr(source, "_SETTLED", -(10**18))


@pytest.mark.usefixtures("settled")
def test_the_second_session_of_a_file_reads_no_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path)
    first = sx.Session(path)
    sizes = []
    read = source.FileSource.read
    monkeypatch.setattr(
        source.FileSource, "read", lambda self, at, n: (sizes.append(n), read(self, at, n))[1]
    )
    second = sx.Session(path)
    assert len(large(second)) >= 5
    assert own(second, first) == []
    assert max(sizes, default=0) < 4096
    del first
    gc.collect()
    assert_right(second)


def test_weights_of_a_file_just_written_are_compared(tmp_path: Path) -> None:
    first, second = sx.Session(write(tmp_path)), sx.Session(write(tmp_path))
    assert own(second, first) == []
    assert_right(first)
    assert_right(second)


@pytest.mark.usefixtures("settled")
def test_each_session_has_the_weights_of_its_time(tmp_path: Path) -> None:
    first = sx.Session(write(tmp_path, seed=1))
    second = sx.Session(write(tmp_path, seed=2))
    (tmp_path / "new").mkdir()
    write(tmp_path / "new", seed=3)
    (tmp_path / "new" / "data").replace(tmp_path / "data")
    third = sx.Session(tmp_path / "model.onnx")
    fourth = sx.Session(write(tmp_path, seed=3, padding=64))
    for session, seed in (first, 1), (second, 2), (third, 3), (fourth, 3):
        assert_right(session, seed)
    assert len(own(second, first)) == len(large(second))
    assert own(fourth, third) == []


def test_models_in_memory_share_equal_weights() -> None:
    data = proto().SerializeToString()
    first, second = sx.Session(data), sx.Session(sx.loads(data))
    other = sx.Session(proto(seed=2).SerializeToString())
    assert own(second, first) == []
    assert len(own(other, first)) == len(large(other))
    assert_right(first)
    assert_right(second)
    assert_right(other, 2)


def test_an_array_that_changes_is_another_array() -> None:
    model: Model = sx.loads(proto().SerializeToString())
    (value,) = (value for value in model.graph.initializers if value.name == "u")
    assert value.const is not None
    assert not isinstance(value.const, sx.ir.SparseTensor)
    array = value.const.numpy().copy()
    value.const = ArrayTensor(array, name="u")
    first = sx.Session(model)
    array[-1, -1] += 1
    second = sx.Session(model)
    assert_right(first)
    y, z = first.run(["y"], feeds())[0], second.run(["y"], feeds())[0]
    assert np.abs(y - z)[:, -1].min() > 0
    np.testing.assert_array_equal(y[:, :-1], z[:, :-1])


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("options", [{"threads": 1}, {"precision": "strict"}, {"compile": False}])
def test_sessions_may_differ_in_how_they_run(tmp_path: Path, options: dict[str, Any]) -> None:
    path = write(tmp_path)
    first = sx.Session(path)
    second = sx.Session(path, **options)
    assert_right(first)
    assert_right(second)
    if options.get("compile", True):
        assert own(second, first) == []


@pytest.mark.usefixtures("settled")
def test_sessions_are_made_in_several_threads_at_once(tmp_path: Path) -> None:
    path = write(tmp_path)
    made: list[sx.Session] = []
    barrier = threading.Barrier(4)

    def make(precision: str) -> None:
        barrier.wait(60)
        made.append(sx.Session(path, threads=1, precision=precision))

    workers = [
        threading.Thread(target=make, args=(precision,))
        for precision in ("fast", "fast", "strict", "fast")
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(made) == 4
    for session in made:
        assert_right(session)
    arrays = {id(array) for session in made for array in large(session)}
    assert len(arrays) == len(large(made[0]))


@pytest.mark.usefixtures("settled")
def test_the_last_session_that_goes_frees_the_weights(tmp_path: Path) -> None:
    path = write(tmp_path)
    first, second = sx.Session(path), sx.Session(path)
    watched = [weakref.ref(array) for array in large(first)]
    del first
    gc.collect()
    assert all(ref() is not None for ref in watched)
    assert_right(second)
    del second
    gc.collect()
    assert all(ref() is None for ref in watched)
    assert_right(sx.Session(path))


def test_what_is_shared_cannot_be_written_to() -> None:
    data = proto().SerializeToString()
    for array in large(sx.Session(data)):
        assert not array.flags.writeable
