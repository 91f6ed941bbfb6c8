"""Loading models from paths, bytes and file objects."""

from __future__ import annotations

import io
import mmap
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from sardonyx.errors import DecodeError, ExternalDataError, InputError
from sardonyx.wire import load, opening

if TYPE_CHECKING:
    from pathlib import Path

posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX files")
WEIGHTS = np.arange(1024, dtype=np.float32)


def add_model(weights: np.ndarray = WEIGHTS) -> onnx.ModelProto:
    """Adds the initializer `w` and the constant node `c` to the input."""
    shape = list(weights.shape)
    graph = helper.make_graph(
        [
            helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(weights, "v")),
            helper.make_node("Add", ["x", "w"], ["t"]),
            helper.make_node("Add", ["t", "c"], ["y"]),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(weights, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def external_model(location: str = "w.data", **keys: object) -> onnx.ModelProto:
    """The same, `w` lying in a data file."""
    model = add_model()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **keys}.items():
        tensor.external_data.add(key=key, value=str(value))
    return model


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    onnx.save(add_model(), path)
    return path


def test_every_kind_of_source(path: Path) -> None:
    content = path.read_bytes()
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        sources = [
            path,
            str(path),
            content,
            bytearray(content),
            memoryview(content),
            memoryview(bytearray(content)),
            file,
            io.BytesIO(content),
        ]
        for source in sources:
            model = load(source)
            (weight,) = model.graph.initializers
            np.testing.assert_array_equal(weight.const.numpy(), WEIGHTS)
        assert load(bytes(mapped)).graph.name == "g"


def test_a_changed_bytearray_does_not_change_the_model(path: Path) -> None:
    content = bytearray(path.read_bytes())
    model = load(content)
    content[:] = bytes(len(content))
    np.testing.assert_array_equal(model.graph.initializers[0].const.numpy(), WEIGHTS)


def test_what_is_no_source(path: Path) -> None:
    with pytest.raises(InputError, match="binary mode"):
        load(io.StringIO("text"))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="int"):
        load(3)  # type: ignore[arg-type]


def test_a_missing_file_suggests_a_similar_name(path: Path) -> None:
    with pytest.raises(InputError) as caught:
        load(path.with_name("modle.onnx"))
    assert "modle.onnx" in caught.value.message
    assert f"did you mean '{path}'?" in str(caught.value)
    with pytest.raises(InputError, match="does not exist either"):
        load(path.parent / "nowhere" / "model.onnx")


@posix
def test_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="named pipe"):
        load(tmp_path / "pipe")
    with pytest.raises(InputError, match="directory"):
        load(tmp_path)
    with pytest.raises(InputError, match="device"):
        load("/dev/zero")
    with pytest.raises(InputError, match="null"):
        load("a\0b")


def test_decode_errors_name_the_file(tmp_path: Path) -> None:
    for content in (b"", b"\x08", b"PK\x03\x04 zip", b"version https://git-lfs.github.com/spec"):
        (tmp_path / "bad.onnx").write_bytes(content)
        with pytest.raises(DecodeError) as caught:
            load(tmp_path / "bad.onnx")
        assert str(tmp_path / "bad.onnx") in caught.value.places


@posix
def test_truncation_after_load_is_a_typed_error(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "MAPPED_FROM", 0)
    opened, built = load(path), load(path)
    weight, node = built.graph.initializers[0].const, built.graph.nodes.first
    os.truncate(path, 300)
    for access in (weight.read, lambda: node.attributes, lambda: opened.graph.nodes):
        with pytest.raises(DecodeError, match="ends at byte 300"):
            access()


@posix
def test_a_small_file_may_be_overwritten_in_place(path: Path) -> None:
    model = load(path)
    path.write_bytes(b"")
    constant = next(iter(model.graph.nodes)).attribute("value")
    for tensor in (model.graph.initializers[0].const, constant):
        np.testing.assert_array_equal(tensor.numpy(), WEIGHTS)
        np.testing.assert_array_equal(tensor.read(), WEIGHTS)


@pytest.mark.parametrize("mapped_from", [0, 1 << 20])
def test_a_file_replaced_after_load_is_still_read(
    path: Path, monkeypatch: pytest.MonkeyPatch, mapped_from: int
) -> None:
    monkeypatch.setattr(opening, "MAPPED_FROM", mapped_from)
    model = load(path)
    other = path.with_name("other.onnx")
    onnx.save(add_model(-WEIGHTS), other)
    other.replace(path)
    weight = model.graph.initializers[0].const
    np.testing.assert_array_equal(weight.numpy(), WEIGHTS)
    np.testing.assert_array_equal(weight.read(), WEIGHTS)


def test_external_data_written_by_the_onnx_package(tmp_path: Path) -> None:
    onnx.save(
        add_model(),
        tmp_path / "m.onnx",
        save_as_external_data=True,
        location="all.data",
        size_threshold=0,
        convert_attribute=True,
    )
    model = load(tmp_path / "m.onnx")
    constant = next(iter(model.graph.nodes)).attribute("value")
    for tensor in (model.graph.initializers[0].const, constant):
        assert tensor.location == "all.data"
        np.testing.assert_array_equal(tensor.numpy(), WEIGHTS)
        np.testing.assert_array_equal(tensor.read(), WEIGHTS)


def test_hostile_locations_are_refused_in_every_kind_of_tensor(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(WEIGHTS.tobytes())
    (tmp_path / "model").mkdir()
    hostile = external_model("../secret").graph.initializer[0]
    initializer, attribute, sparse, function = (add_model() for _ in range(4))
    initializer.graph.initializer[0].CopyFrom(hostile)
    attribute.graph.node[0].attribute[0].t.CopyFrom(hostile)
    indices = numpy_helper.from_array(np.arange(1024), "w_indices")
    sparse.graph.sparse_initializer.append(helper.make_sparse_tensor(hostile, indices, [1024]))
    function.functions.append(
        helper.make_function("d", "F", [], ["c"], [attribute.graph.node[0]], [])
    )
    for number, proto in enumerate((initializer, attribute, sparse, function)):
        path = tmp_path / "model" / f"{number}.onnx"
        path.write_bytes(proto.SerializeToString())
        with pytest.raises(ExternalDataError, match=r"'\.\.'"):
            _touch(path)


def _touch(path: Path) -> None:
    model = load(path)
    _ = model.graph.initializers
    for node in model.all_nodes():
        _ = node.attributes


@posix
def test_links_need_allowed_roots(tmp_path: Path) -> None:
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots"
    blobs.mkdir()
    snapshot.mkdir()
    (blobs / "1").write_bytes(external_model().SerializeToString())
    (blobs / "2").write_bytes(WEIGHTS.tobytes())
    (snapshot / "model.onnx").symlink_to("../blobs/1")
    (snapshot / "w.data").symlink_to("../blobs/2")
    with pytest.raises(ExternalDataError, match="symbolic link"):
        _touch(snapshot / "model.onnx")
    model = load(snapshot / "model.onnx", allowed_roots=[blobs])
    np.testing.assert_array_equal(model.graph.initializers[0].const.numpy(), WEIGHTS)


def test_from_bytes_external_tensors_have_no_data() -> None:
    model = load(external_model().SerializeToString())
    weight = model.graph.initializers[0].const
    assert weight.shape == (1024,)
    with pytest.raises(ExternalDataError, match="load the model from its path"):
        weight.numpy()
    with pytest.raises(ExternalDataError):
        _ = load(external_model("/etc/passwd").SerializeToString()).graph.initializers


def test_the_working_directory_may_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "m.onnx").write_bytes(external_model().SerializeToString())
    (tmp_path / "w.data").write_bytes(WEIGHTS.tobytes())
    monkeypatch.chdir(tmp_path)
    model = load("m.onnx")
    monkeypatch.chdir("/")
    np.testing.assert_array_equal(model.graph.initializers[0].const.numpy(), WEIGHTS)


_VISIT = """
import resource, sys
from sardonyx.wire import load
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
model = load(sys.argv[1])
total = sum(value.const.nbytes for value in model.graph.initializers)
names = [value.name for node in model.graph.nodes for value in node.outputs]
print(total, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@posix
def test_3_gb_of_weights_are_visited_in_little_memory(tmp_path: Path) -> None:
    model = external_model(length=3 << 30)
    model.graph.initializer[0].dims[:] = [3 << 28]
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    (tmp_path / "w.data").touch()
    os.truncate(tmp_path / "w.data", 3 << 30)
    command = [sys.executable, "-c", _VISIT, str(tmp_path / "m.onnx")]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    total, grown = map(int, output.split())
    assert total == 3 << 30
    assert grown < 50 << 10
