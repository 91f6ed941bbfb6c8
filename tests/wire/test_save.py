"""Saving models: what is written, and what stands when writing fails."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import stat
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from sardonyx.errors import ExternalDataError, InputError, SardonyxError
from sardonyx.ir import ArrayTensor, Model
from sardonyx.wire import dumps, load, opening, save

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX files")
save_module = sys.modules["sardonyx.wire.saving"]
X = np.linspace(-1, 1, 2048, dtype=np.float32)


def add_model(scale: float = 1.0) -> onnx.ModelProto:
    """y = x + w + c: an initializer of 8 KiB, a constant node, a small initializer."""
    weights = np.arange(2048, dtype=np.float32) * np.float32(scale)
    graph = helper.make_graph(
        [
            helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(weights, "v")),
            helper.make_node("Add", ["x", "w"], ["t"]),
            helper.make_node("Add", ["t", "c"], ["u"]),
            helper.make_node("Mul", ["u", "s"], ["y"]),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2048])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2048])],
        [
            numpy_helper.from_array(weights, "w"),
            numpy_helper.from_array(np.float32(2.0), "s"),
            numpy_helper.from_array(weights[:300].copy(), "unused"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def ours(scale: float = 1.0) -> Model:
    return load(add_model(scale).SerializeToString())


def run(path: Path) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        path, sess_options=options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, {"x": X})[0]


def expected(scale: float = 1.0) -> np.ndarray:
    return run_bytes(add_model(scale))


def run_bytes(model: onnx.ModelProto) -> np.ndarray:
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return session.run(None, {"x": X})[0]


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_inside_the_file_by_default(tmp_path: Path) -> None:
    save(ours(), tmp_path / "m.onnx")
    assert [*content(tmp_path)] == ["m.onnx"]
    assert onnx.load(tmp_path / "m.onnx") == add_model()
    np.testing.assert_array_equal(run(tmp_path / "m.onnx"), expected())


@pytest.mark.parametrize("external", [True, "weights.bin"])
@pytest.mark.parametrize("checksum", [True, False])
def test_external_data_is_read_by_the_peers(
    tmp_path: Path, external: bool | str, checksum: bool
) -> None:
    save(ours(), tmp_path / "m.onnx", external_data=external, checksum=checksum)
    name = "m.onnx.data" if external is True else "weights.bin"
    assert sorted(content(tmp_path)) == sorted(["m.onnx", name])
    raw = onnx.load(tmp_path / "m.onnx", load_external_data=False)
    entries = [
        {entry.key: entry.value for entry in tensor.external_data}
        for tensor in (*raw.graph.initializer, raw.graph.node[0].attribute[0].t)
    ]
    assert [bool(found) for found in entries] == [True, False, True, True]
    sha1 = hashlib.sha1((tmp_path / name).read_bytes(), usedforsecurity=False).hexdigest()
    for found in filter(None, entries):
        assert found["location"] == name
        assert int(found["offset"]) % (4096 if int(found["length"]) >= 4096 else 64) == 0
        assert found.get("checksum") == (sha1 if checksum else None)
    witness = onnx.load(tmp_path / "m.onnx")
    for tensor, original in zip(
        witness.graph.initializer, add_model().graph.initializer, strict=True
    ):
        np.testing.assert_array_equal(
            numpy_helper.to_array(tensor), numpy_helper.to_array(original)
        )
    np.testing.assert_array_equal(run(tmp_path / "m.onnx"), expected())


def test_our_own_checksum_is_verified_by_us(tmp_path: Path) -> None:
    save(ours(), tmp_path / "m.onnx", external_data=True)
    first = load(tmp_path / "m.onnx").graph.initializers[0].const
    np.testing.assert_array_equal(first.numpy(), np.arange(2048, dtype=np.float32))
    with (tmp_path / "m.onnx.data").open("r+b") as file:
        file.write(b"\1")
    with pytest.raises(ExternalDataError, match="SHA-1"):
        load(tmp_path / "m.onnx").graph.initializers[0].const.numpy()


def test_external_models_become_self_contained(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
    first, second, third = (tmp_path / name / "m.onnx" for name in ("a", "b", "c"))
    save(ours(), first, external_data="w")
    save(load(first), second, external_data=True)
    save(load(first), third)
    for path in (tmp_path / "a").iterdir():
        path.unlink()
    assert sorted(content(second.parent)) == ["m.onnx", "m.onnx.data"]
    np.testing.assert_array_equal(run(second), expected())
    assert onnx.load(third) == add_model()


@pytest.mark.parametrize("external", [None, True, "w"])
def test_saving_over_the_files_a_model_is_mapped_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, external: bool | str | None
) -> None:
    monkeypatch.setattr(opening, "MAPPED_FROM", 0)
    path = tmp_path / "m.onnx"
    save(ours(), path, external_data="w")
    model = load(path)
    before = model.graph.initializers[0].const.numpy()
    for _ in range(2):
        save(model, path, external_data=external)
    np.testing.assert_array_equal(before, np.arange(2048, dtype=np.float32))
    np.testing.assert_array_equal(run(path), expected())
    again = load(path)
    save(again, path)
    assert onnx.load(path) == add_model()
    np.testing.assert_array_equal(again.graph.initializers[0].const.read(), before)


def test_a_tensor_used_twice_is_written_once(tmp_path: Path) -> None:
    model = ours()
    shared = ArrayTensor(np.ones(2048, np.float32), name="w")
    model.graph.initializers[0].const = shared
    next(iter(model.graph.nodes)).set_attribute("value", shared)
    save(model, tmp_path / "m.onnx", external_data=True, size_threshold=4096)
    assert (tmp_path / "m.onnx.data").stat().st_size == 8192
    np.testing.assert_array_equal(run(tmp_path / "m.onnx"), ((X + 1) + 1) * 2)


def test_dumps_and_file_objects(tmp_path: Path) -> None:
    plain = add_model().SerializeToString(deterministic=True)
    assert dumps(load(plain)) == plain
    buffer = io.BytesIO()
    save(load(plain), buffer)
    assert buffer.getvalue() == plain
    save(ours(), tmp_path / "m.onnx", external_data=True)
    assert dumps(load(tmp_path / "m.onnx")) == plain
    with pytest.raises(InputError, match="no folder"):
        save(ours(), io.BytesIO(), external_data=True)
    with pytest.raises(InputError, match="NoneType"):
        save(ours(), None)  # type: ignore[arg-type]


def test_detached_tensors(tmp_path: Path) -> None:
    save(ours(), tmp_path / "m.onnx", external_data=True)
    encoded = (tmp_path / "m.onnx").read_bytes()
    model = load(encoded)
    assert dumps(model) == encoded
    with pytest.raises(ExternalDataError, match="load the model from its path"):
        save(model, tmp_path / "n.onnx")
    with pytest.raises(ExternalDataError, match="load the model from its path"):
        save(model, tmp_path / "n.onnx", external_data=True)
    assert sorted(content(tmp_path)) == ["m.onnx", "m.onnx.data"]


def test_past_the_limit_of_protobuf_weights_leave_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(save_module, "LARGEST_PROTOBUF", 10_000)
    save(ours(), tmp_path / "m.onnx")
    assert sorted(content(tmp_path)) == ["m.onnx", "m.onnx.data"]
    np.testing.assert_array_equal(run(tmp_path / "m.onnx"), expected())
    save(ours(), tmp_path / "n.onnx", external_data=False)
    assert "n.onnx.data" not in content(tmp_path)


def test_progress_runs_to_the_total(tmp_path: Path) -> None:
    for external in (None, True):
        seen: list[tuple[int, int]] = []
        path = tmp_path / f"{external}.onnx"
        save(ours(), path, external_data=external, progress=lambda *step, to=seen: to.append(step))
        written = sum(file.stat().st_size for file in tmp_path.glob(f"{external}.onnx*"))
        assert seen[-1] == (written, written)
        assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_places_that_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="create the folder"):
        save(ours(), tmp_path / "nowhere" / "m.onnx")
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match="a directory"):
        save(ours(), tmp_path / "folder")
    (tmp_path / "old").write_bytes(b"old")
    with pytest.raises(InputError, match="overwrite"):
        save(ours(), tmp_path / "old", overwrite=False)
    with pytest.raises(InputError, match="overwrite"):
        save(ours(), tmp_path / "new", external_data="old", overwrite=False)
    for name in ("sub/w", "m.onnx"):
        with pytest.raises(InputError, match="data file"):
            save(ours(), tmp_path / "m.onnx", external_data=name)
    for name in ("../w", "/w", "", "a\\b", "w\0"):
        with pytest.raises(ExternalDataError, match="location"):
            save(ours(), tmp_path / "m.onnx", external_data=name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "old"]
    assert (tmp_path / "old").read_bytes() == b"old"


@posix
def test_special_files_are_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="named pipe"):
        save(ours(), tmp_path / "pipe")
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


@posix
@pytest.mark.parametrize("external", [None, True])
def test_links_are_replaced_not_followed(tmp_path: Path, external: bool | None) -> None:
    (tmp_path / "victim").write_bytes(b"victim")
    (tmp_path / "m.onnx").symlink_to("victim")
    (tmp_path / "m.onnx.data").symlink_to("victim")
    os.link(tmp_path / "victim", tmp_path / "hard.onnx")
    save(ours(), tmp_path / "m.onnx", external_data=external)
    save(ours(), tmp_path / "hard.onnx")
    assert (tmp_path / "victim").read_bytes() == b"victim"
    assert not (tmp_path / "m.onnx").is_symlink()
    assert (tmp_path / "m.onnx.data").is_symlink() == (external is None)
    np.testing.assert_array_equal(run(tmp_path / "m.onnx"), expected())


@posix
def test_the_mode_follows_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        save(ours(), tmp_path / "m.onnx", external_data=True)
    finally:
        os.umask(old)
    for path in tmp_path.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o640


class Failing:
    """Replaces `os.NAME`; the call number `at` fails with ENOSPC, `calls` counts them."""

    def __init__(self, real: Callable[..., Any], at: int) -> None:
        self.real = real
        self.at = at
        self.calls = 0

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        self.calls += 1
        if self.calls == self.at:
            raise OSError(errno.ENOSPC, "No space left on device")
        return self.real(*arguments, **keywords)


@posix
@pytest.mark.parametrize("name", ["write", "fsync", "replace"])
@pytest.mark.parametrize("external", [None, True])
@pytest.mark.parametrize("present", ["nothing", "model", "both"])
def test_a_failure_anywhere_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, external: bool | None, present: str
) -> None:
    path = tmp_path / "m.onnx"
    if present != "nothing":
        save(ours(3.0), path, external_data=present == "both")
    before, model = content(tmp_path), ours()
    for at in range(1, 100):
        with monkeypatch.context() as patch:
            failing = Failing(getattr(os, name), at)
            patch.setattr(os, name, failing)
            error = _error_of(lambda: save(model, path, external_data=external))
        if error is None:
            break
        assert isinstance(error.__cause__, OSError)
        assert "No space left" in str(error)
        assert str(path) in str(error)
        assert content(tmp_path) == before
    assert at > (2 if external else 1)
    assert failing.calls < at
    np.testing.assert_array_equal(run(path), expected())
    assert not [found for found in tmp_path.iterdir() if found.name.startswith(".")]


def _error_of(action: Callable[[], None]) -> InputError | None:
    try:
        action()
    except InputError as error:
        return error
    return None


@posix
def test_without_hard_links_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.onnx"
    save(ours(3.0), path, external_data=True)
    before = content(tmp_path)

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    for at in (1, 2, 3):
        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", Failing(os.replace, at))
            with pytest.raises(InputError):
                save(ours(), path, external_data=True)
        assert content(tmp_path) == before
    save(ours(), path, external_data=True)
    assert sorted(content(tmp_path)) == ["m.onnx", "m.onnx.data"]
    np.testing.assert_array_equal(run(path), expected())


@posix
def test_weights_that_cannot_be_read_leave_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "MAPPED_FROM", 0)
    source, target = tmp_path / "source.onnx", tmp_path / "target"
    target.mkdir()
    save(ours(), target / "m.onnx")
    before = content(target)
    for external in (False, True):
        save(ours(), source, external_data=external)
        model = load(source)
        assert all(node.attributes is not None for node in model.graph.nodes)
        os.truncate(tmp_path / "source.onnx.data" if external else source, 5000)
        for split in (None, True):
            with pytest.raises(SardonyxError, match=r"ends at byte 5000|SHA-1"):
                save(model, target / "m.onnx", external_data=split)
            assert content(target) == before


@posix
@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="ermission denied"):
        save(ours(), tmp_path / "m.onnx")


_KILLED = """
import os, sys, signal
from sardonyx.wire import load, save
os_write, os_replace, count, stop = os.write, os.replace, 0, int(sys.argv[3])
def counted(real):
    def call(*arguments, **keywords):
        global count
        count += 1
        if count == stop:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments, **keywords)
    return call
for name in ("write", "replace", "fsync", "open", "link", "unlink"):
    setattr(os, name, counted(getattr(os, name)))
save(load(sys.argv[1]), sys.argv[2])
print(count)
"""


@posix
@pytest.mark.slow
def test_a_killed_process_leaves_the_old_or_the_new(tmp_path: Path) -> None:
    new, path = tmp_path / "new.onnx", tmp_path / "m.onnx"
    save(ours(), new)
    for stop in range(1, 100):
        save(ours(3.0), path)
        old = path.read_bytes()
        command = [sys.executable, "-c", _KILLED, str(new), str(path), str(stop)]
        done = subprocess.run(command, check=False, capture_output=True)
        assert path.read_bytes() in {old, new.read_bytes()}
        if done.returncode == 0:
            break
    assert stop > 5


_STREAMED = """
import sys
from sardonyx.wire import load, save
def anonymous():
    for line in open("/proc/self/status"):
        if line.startswith("RssAnon"):
            return int(line.split()[1])
model = load(sys.argv[1])
peak = start = anonymous()
def watch(*_):
    global peak
    peak = max(peak, anonymous())
save(model, sys.argv[2], external_data=sys.argv[3] == "external", progress=watch)
print(peak - start)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("kind", ["external", "inside"])
def test_500_mb_are_streamed(tmp_path: Path, kind: str) -> None:
    proto = add_model()
    weights = np.zeros(1 << 20, np.float32)
    for k in range(125):
        proto.graph.initializer.append(numpy_helper.from_array(weights, f"w{k}"))
    onnx.save(proto, tmp_path / "large.onnx")
    command = [sys.executable, "-c", _STREAMED, str(tmp_path / "large.onnx")]
    command += [str(tmp_path / "out.onnx"), kind]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert int(output) < 100 << 10
