"""Published advisories on readers and runtimes of ONNX files, each reproduced on ours."""

from __future__ import annotations

import ast
import io
import os
import tarfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import sardonyx as sx
from hostile import files, graphs, values, wire
from sardonyx.errors import (
    CheckError,
    DecodeError,
    ExecutionError,
    ExternalDataError,
    InputError,
    LimitError,
    ModelError,
    SardonyxError,
)
from sardonyx.limits import Limits

posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX files")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder `model` beside one that holds a secret of 64 bytes."""
    (tmp_path / "model").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_bytes(bytes(range(64)))
    return tmp_path / "model"


def refused(folder: Path, location: str, says: str, **keys: object) -> None:
    """Every place of a tensor refuses `location`."""
    for wrap in files.WRAPPED.values():
        path = folder / "model.onnx"
        path.write_bytes(wrap(files.external(location, **keys)))
        for use in (sx.check, sx.Session):
            with pytest.raises(ExternalDataError, match=says):
                use(path)
        with pytest.raises(ExternalDataError, match=says):
            sx.save(sx.load(path), folder / "again.onnx")


@pytest.mark.parametrize("location", ["../outside/secret", "/etc/passwd", "a/../../outside/secret"])
def test_cve_2022_25882_paths_out_of_the_folder(folder: Path, location: str) -> None:
    refused(folder, location, "leaves the model's folder|absolute")


@posix
@pytest.mark.parametrize("location", ["sub/secret", "sub/./secret", "./sub//secret"])
def test_cve_2024_27318_ways_around_that_check(folder: Path, location: str) -> None:
    (folder / "sub").symlink_to("../outside")
    refused(folder, location, "symbolic link")


@pytest.mark.parametrize("length", [2047, 2048, 2049, 100_000])
def test_cve_2024_27319_messages_longer_than_a_buffer(length: int) -> None:
    name = "n" * length
    with pytest.raises(CheckError) as caught:
        sx.check(graphs.model([helper.make_node("Neg", [name], ["y"])], []))
    assert len(str(caught.value)) < 1500
    tensor = TensorProto(name=name, dims=[2], data_type=1, raw_data=b"1")
    with pytest.raises(DecodeError) as decoded:
        _ = sx.loads(wire.whole(wire.field(5, tensor.SerializeToString()))).graph.nodes
    assert len(str(decoded.value)) < 1500


def test_cve_2024_5187_archives_with_paths_are_never_unpacked(tmp_path: Path) -> None:
    archive = tmp_path / "model.onnx"
    with tarfile.open(archive, "w:gz") as made:
        member = tarfile.TarInfo("../escaped")
        made.addfile(member, io.BytesIO())
    with pytest.raises(DecodeError, match="compressed"):
        sx.load(archive)
    assert not (tmp_path.parent / "escaped").exists()
    for path in Path(sx.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                names = {alias.name for alias in node.names} | {getattr(node, "module", "")}
                assert not names & {"tarfile", "shutil.unpack_archive"}, path
            assert getattr(node, "attr", "") not in {"extractall", "unpack_archive"}, path


@pytest.mark.parametrize("location", ["../outside/secret", "/nowhere/evil", "..\\evil"])
def test_cve_2025_51480_saving_writes_no_file_that_the_model_names(
    folder: Path, location: str
) -> None:
    before = (folder.parent / "outside" / "secret").read_bytes()
    with pytest.raises(ExternalDataError):
        sx.save(sx.loads(files.as_initializer(files.external(location))), folder / "out.onnx")
    with pytest.raises((ExternalDataError, InputError)):
        sx.save(sx.loads(wire.whole()), folder / "out.onnx", external_data=location)
    assert (folder.parent / "outside" / "secret").read_bytes() == before
    assert not list(folder.iterdir())


@posix
def test_cve_2026_27489_symbolic_links(folder: Path) -> None:
    (folder / "data").symlink_to("../outside/secret")
    refused(folder, "data", "symbolic link")


@posix
def test_cve_2026_34447_symbolic_links_of_folders(folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "sub" / "deep").symlink_to("../../outside")
    refused(folder, "sub/deep/secret", "symbolic link")


@posix
def test_cve_2026_34446_hard_links(folder: Path) -> None:
    os.link(folder.parent / "outside" / "secret", folder / "data")
    refused(folder, "data", "hard link")


@pytest.mark.parametrize("key", ["__class__", "numpy", "_file", "basepath", "entries"])
def test_cve_2026_34445_keys_that_are_attributes_of_objects(folder: Path, key: str) -> None:
    (folder / "data").write_bytes(bytes(64))
    refused(folder, "data", "unknown external data key", **{key: "x"})


@pytest.mark.parametrize("keys", [{"length": 2**62}, {"offset": 2**62}, {"length": "9" * 50}])
def test_cve_2026_34445_lengths_that_would_take_all_memory(
    folder: Path, keys: dict[str, object]
) -> None:
    (folder / "data").write_bytes(bytes(64))
    refused(folder, "data", "has length|takes bytes|not a number", **keys)


@posix
def test_ghsa_q56x_g2fj_4rj6_files_swapped_between_check_and_use(folder: Path) -> None:
    path, data = folder / "model.onnx", folder / "data"
    data.write_bytes(np.full(16, 1, np.float32).tobytes())
    path.write_bytes(files.as_initializer(files.external("data")))
    model = sx.load(path)
    _ = model.graph.nodes
    data.unlink()
    data.symlink_to("../outside/secret")
    tensor = next(value.const for value in model.graph.initializers if value.name == "t")
    np.testing.assert_array_equal(tensor.read(), np.ones(16))
    target = folder / "out.onnx"
    target.symlink_to("../outside/secret")
    sx.save(model, target, external_data=True)
    assert (folder.parent / "outside" / "secret").read_bytes() == bytes(range(64))
    assert not target.is_symlink()


@posix
def test_ghsa_7w46_vvrh_m8q5_a_session_keeps_what_it_checked(folder: Path) -> None:
    path, data = folder / "model.onnx", folder / "data"
    data.write_bytes(np.full(16, 1, np.float32).tobytes())
    tensor = files.external("data")
    node = helper.make_node("Identity", ["t"], ["z"])
    model = onnx.ModelProto.FromString(files.as_initializer(tensor))
    model.graph.node.append(node)
    model.graph.output.append(helper.make_tensor_value_info("z", 1, [16]))
    path.write_bytes(model.SerializeToString())
    session = sx.Session(path)
    data.write_bytes(b"")
    np.testing.assert_array_equal(
        session.run(["z"], {"x": np.zeros(3, np.float32)})[0], np.ones(16)
    )
    with pytest.raises(SardonyxError):
        sx.Session(path)


@pytest.mark.parametrize("index", [2**32, 2**32 + 1, -(2**32), 2**31])
@pytest.mark.parametrize("op", ["Gather", "GatherElements", "GatherND"])
def test_an_index_is_not_cut_to_32_bits(op: str, index: int) -> None:
    data = np.float32([10, 20, 30, 40])
    indices = np.array([[index]] if op == "GatherND" else [index], np.int64)
    with pytest.raises((ExecutionError, CheckError)):
        sx.Session(graphs.one(op, [4], indices)).run(None, {"x0": data})
    make, feeds = values.fed(op, [1, TensorProto.INT64], data, indices)
    with pytest.raises(ExecutionError):
        sx.Session(make()).run(None, feeds())


@pytest.mark.parametrize(
    "changes",
    [
        {"vectors_per_class": [1000, 1000]},
        {"vectors_per_class": [-1, 3]},
        {"coefficients": [1.0]},
        {"support_vectors": [1.0, 2.0, 3.0]},
        {"vectors_per_class": [2**40, 2**40]},
    ],
)
def test_support_vectors_are_not_read_out_of_bounds(changes: dict[str, object]) -> None:
    with pytest.raises(ModelError):
        sx.Session(values.svm(**changes)).run(None, {"x": np.zeros((1, 2), np.float32)})


@pytest.mark.parametrize("count", [0, -1, 9, 2**63 - 1, -(2**63)])
def test_scan_inputs_do_not_underflow(count: int) -> None:
    with pytest.raises((ModelError, LimitError)):
        sx.Session(graphs.scan(count)).run(None, {"x": np.zeros((3, 2), np.float32)})


def test_memory_of_a_run_is_bounded_as_its_limits_say() -> None:
    limits = Limits(memory_bytes=16 << 20)
    session = sx.Session(values.identities(20), compile=False, limits=limits)
    with pytest.raises(LimitError, match="memory bytes limit"):
        session.run(None, {})
