"""External data: what is refused, and what is read."""

from __future__ import annotations

import hashlib
import os
import stat
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from sardonyx import dtypes
from sardonyx.errors import DecodeError, ExternalDataError, InputError, LimitError
from sardonyx.ir import RawTensor, Tensor
from sardonyx.wire import external
from sardonyx.wire.external import ExternalReader, detached
from sardonyx.wire.source import FileSource, blocks

posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX files")
WEIGHTS = np.arange(64, dtype=np.float32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder `model` with the data file `w`, beside a folder `outside` with a secret."""
    model = tmp_path / "model"
    model.mkdir()
    (model / "w").write_bytes(WEIGHTS.tobytes())
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_bytes(WEIGHTS.tobytes())
    return model


def tensor(
    reader: ExternalReader,
    location: str = "w",
    shape: tuple[int, ...] = (64,),
    dtype: dtypes.DType = dtypes.FLOAT,
    **keys: object,
) -> Tensor:
    entries = [("location", location), *((key, str(value)) for key, value in keys.items())]
    return reader.tensor(entries, dtype, shape, "weight")


def refused(folder: Path, location: str = "w", **keys: object) -> ExternalDataError:
    with pytest.raises(ExternalDataError) as caught:
        tensor(ExternalReader(folder), location, **keys)
    assert "'weight'" in str(caught.value)
    return caught.value


def test_a_tensor_is_a_view_of_its_range(folder: Path) -> None:
    reader = ExternalReader(folder)
    found = tensor(reader, shape=(2, 4), offset=16, length=32)
    np.testing.assert_array_equal(found.numpy(), WEIGHTS[4:12].reshape(2, 4))
    np.testing.assert_array_equal(found.read(), found.numpy())
    assert not found.numpy().flags.writeable
    assert np.shares_memory(found.numpy(), found.numpy())
    assert not np.shares_memory(found.read(), found.numpy())
    assert bytes(found.raw()) == WEIGHTS[4:12].tobytes()


def test_offset_and_length_may_be_missing(folder: Path) -> None:
    np.testing.assert_array_equal(tensor(ExternalReader(folder)).numpy(), WEIGHTS)


def test_packed_types(folder: Path) -> None:
    (folder / "packed").write_bytes(bytes([0x21, 0x43]))
    found = tensor(ExternalReader(folder), "packed", (3,), dtypes.UINT4)
    np.testing.assert_array_equal(found.numpy().astype(int), [1, 2, 3])
    np.testing.assert_array_equal(found.read().astype(int), [1, 2, 3])


def test_subfolders_and_dots(folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "sub" / "w").write_bytes(WEIGHTS[::-1].tobytes())
    reader = ExternalReader(folder)
    np.testing.assert_array_equal(tensor(reader, "sub/w").numpy(), WEIGHTS[::-1])
    np.testing.assert_array_equal(tensor(reader, "./w").numpy(), WEIGHTS)


@pytest.mark.parametrize(
    ("location", "says"),
    [
        ("", "is empty"),
        ("../outside/secret", "'..'"),
        ("sub/../../outside/secret", "'..'"),
        ("sub/..", "'..'"),
        ("/etc/passwd", "absolute"),
        ("//etc/passwd", "absolute"),
        ("C:/secret", "drive"),
        ("c:secret", "drive"),
        ("sub\\w", "backslash"),
        ("\\\\server\\share", "backslash"),
        ("w\0.txt", "NUL"),
        (".", "names no file"),
        ("w/", "names no file"),
        ("x" * 5000, "longer than"),
    ],
)
def test_unsafe_locations(folder: Path, location: str, says: str) -> None:
    assert says in str(refused(folder, location))
    with pytest.raises(ExternalDataError, match="location"):
        detached([("location", location)], dtypes.FLOAT, (64,), "weight")


def test_no_location_and_missing_file(folder: Path) -> None:
    with pytest.raises(ExternalDataError, match="without a location"):
        ExternalReader(folder).tensor([], dtypes.FLOAT, (64,), "weight")
    assert "No such file" in str(refused(folder, "missing"))
    assert "Not a directory" in str(refused(folder, "w/inner"))


@posix
def test_symbolic_links(folder: Path) -> None:
    (folder / "inside").symlink_to("w")
    (folder / "outside").symlink_to("../outside/secret")
    (folder / "parent").symlink_to("../outside")
    for location in ("inside", "outside", "parent/secret"):
        error = refused(folder, location)
        assert "symbolic link" in str(error)
        assert error.hint is not None
        assert "allowed_roots" in error.hint


@posix
def test_hard_links(folder: Path) -> None:
    os.link(folder.parent / "outside" / "secret", folder / "hard")
    assert "hard link" in str(refused(folder, "hard"))


@posix
def test_special_files(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    (folder / "sub").mkdir()
    started = time.monotonic()
    assert "named pipe" in str(refused(folder, "pipe"))
    assert "directory" in str(refused(folder, "sub"))
    assert time.monotonic() - started < 1


@posix
@pytest.mark.skipif(sys.platform != "linux", reason="needs /dev/zero")
def test_devices() -> None:
    assert "device" in str(refused(Path("/dev"), "zero"))


@posix
def test_links_into_allowed_roots(folder: Path) -> None:
    outside = folder.parent / "outside"
    (folder / "link").symlink_to("../outside/secret")
    (folder / "parent").symlink_to("../outside")
    os.link(outside / "secret", outside / "twin")
    (folder / "elsewhere").symlink_to("w")
    reader = ExternalReader(folder, allowed_roots=[outside])
    np.testing.assert_array_equal(tensor(reader, "link").numpy(), WEIGHTS)
    np.testing.assert_array_equal(tensor(reader, "parent/twin").numpy(), WEIGHTS)
    with pytest.raises(ExternalDataError, match="outside of allowed_roots"):
        tensor(reader, "elsewhere")
    with pytest.raises(ExternalDataError, match=r"leaves the model's folder"):
        tensor(reader, "../outside/secret")


@posix
def test_hard_links_inside_an_allowed_root(folder: Path) -> None:
    os.link(folder / "w", folder / "twin")
    reader = ExternalReader(folder, allowed_roots=[folder])
    np.testing.assert_array_equal(tensor(reader, "twin").numpy(), WEIGHTS)


@pytest.mark.parametrize("text", ["-1", "+1", "1.5", "0x10", "", " 1", "1_0", "٣", "9" * 19, "1e3"])
@pytest.mark.parametrize("key", ["offset", "length"])
def test_numbers_that_are_not_byte_counts(folder: Path, key: str, text: str) -> None:
    assert key in str(refused(folder, **{key: text}))


def test_keys_unknown_or_twice(folder: Path) -> None:
    assert "'basepath'" in str(refused(folder, basepath="/"))
    with pytest.raises(ExternalDataError, match="twice"):
        ExternalReader(folder).tensor([("location", "w")] * 2, dtypes.FLOAT, (64,), "weight")


def test_sizes_that_do_not_fit(folder: Path) -> None:
    assert "takes 256 bytes" in str(refused(folder, length=255))
    assert "file of 256 bytes" in str(refused(folder, offset=4))
    assert "2^63" in str(refused(folder, offset=(1 << 63) - 1))
    with pytest.raises(ExternalDataError, match="2\\^63"):
        tensor(ExternalReader(folder), shape=(1 << 62, 1 << 62))
    with pytest.raises(ExternalDataError, match="strings"):
        tensor(ExternalReader(folder), dtype=dtypes.STRING)
    with pytest.raises(LimitError, match="rank"):
        tensor(ExternalReader(folder), shape=(1,) * 65)


def test_a_git_lfs_pointer_is_named(folder: Path) -> None:
    (folder / "w").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    assert "git lfs pull" in str(refused(folder))


def test_overlapping_ranges(folder: Path) -> None:
    reader = ExternalReader(folder)
    tensor(reader, shape=(4,), offset=64)
    tensor(reader, shape=(2, 2), offset=64)
    tensor(reader, shape=(4,), offset=80)
    tensor(reader, shape=(0,), offset=68)
    for offset in (60, 68, 76, 92):
        with pytest.raises(ExternalDataError, match="overlap"):
            tensor(reader, shape=(4,), offset=offset)
    with pytest.raises(ExternalDataError, match="overlap"):
        tensor(reader, shape=(2,), offset=64)


def test_overlap_is_found_among_many_ranges_in_any_order(tmp_path: Path) -> None:
    (tmp_path / "w").write_bytes(bytes(80_000))
    order = np.random.default_rng(0).permutation(10_000)
    reader = ExternalReader(tmp_path)
    for place in order:
        tensor(reader, shape=(2,), offset=8 * int(place))
    for place in order[:100]:
        tensor(reader, shape=(2,), offset=8 * int(place))
        with pytest.raises(ExternalDataError, match="overlap"):
            tensor(reader, shape=(1,), offset=8 * int(place) + 4)


def test_ranges_agree_with_a_byte_map() -> None:
    random = np.random.default_rng(1)
    for _ in range(30):
        ranges, owner, taken = external._Ranges(), np.zeros(4000, bool), set()
        for _ in range(1500):
            start, length = int(random.integers(0, 3990)), int(random.integers(0, 4))
            free = not owner[start : start + length].any()
            fits = free or (start, length) in taken
            assert (ranges.add(start, length) is None) == fits
            if fits:
                owner[start : start + length] = True
                taken.add((start, length))


def test_checksum_is_verified_at_the_first_access(folder: Path) -> None:
    right = hashlib.sha1(WEIGHTS.tobytes(), usedforsecurity=False).hexdigest()
    found = tensor(ExternalReader(folder), checksum=right.upper())
    np.testing.assert_array_equal(found.numpy(), WEIGHTS)
    wrong = tensor(ExternalReader(folder), checksum="0" * 40)
    for access in (wrong.numpy, wrong.read, wrong.raw):
        with pytest.raises(ExternalDataError, match=right):
            access()


def test_one_tensors_checksum_holds_for_the_whole_file(folder: Path) -> None:
    reader = ExternalReader(folder)
    plain = tensor(reader, shape=(4,))
    tensor(reader, shape=(4,), offset=16, checksum="0" * 40)
    with pytest.raises(ExternalDataError, match="SHA-1"):
        plain.numpy()
    with pytest.raises(ExternalDataError, match="two checksums"):
        tensor(reader, shape=(4,), offset=32, checksum="1" * 40)


@pytest.mark.parametrize("checksum", ["", "0" * 39, "g" * 40, "0" * 41])
def test_malformed_checksums(folder: Path, checksum: str) -> None:
    assert "SHA-1 in hex" in str(refused(folder, checksum=checksum))


def test_detached_tensors_keep_their_entries() -> None:
    entries = [("offset", "16"), ("location", "w"), ("length", "256")]
    found = detached(entries, dtypes.FLOAT, (64,), "weight")
    assert found.is_detached
    assert list(found.entries) == entries
    for access in (found.numpy, found.read, found.raw):
        with pytest.raises(ExternalDataError, match="load the model from its path"):
            access()


@posix
def test_truncation_after_the_check_is_a_typed_error(folder: Path) -> None:
    found = tensor(ExternalReader(folder))
    os.truncate(folder / "w", 100)
    for access in (found.read, found.numpy):
        with pytest.raises(ExternalDataError, match="ends at byte 100"):
            access()


@posix
def test_a_file_swapped_after_the_check_is_not_read(folder: Path) -> None:
    found = tensor(ExternalReader(folder))
    (folder / "w").unlink()
    (folder / "w").symlink_to("../outside/secret")
    (folder.parent / "outside" / "secret").write_bytes(bytes(256))
    np.testing.assert_array_equal(found.numpy(), WEIGHTS)
    np.testing.assert_array_equal(found.read(), WEIGHTS)


@posix
def test_a_file_is_opened_once_and_closed_with_its_last_tensor(folder: Path) -> None:
    def descriptors() -> int:
        return sum(1 for number in range(256) if _is_open(number))

    before = descriptors()
    reader = ExternalReader(folder)
    tensors = [tensor(reader, shape=(1,), offset=4 * k) for k in range(64)]
    assert descriptors() == before + 1
    arrays = [found.numpy() for found in tensors]
    assert descriptors() <= before + 2
    del reader, tensors
    np.testing.assert_array_equal(np.concatenate(arrays), WEIGHTS)
    del arrays
    assert descriptors() == before


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


@posix
def test_too_many_data_files(tmp_path: Path) -> None:
    import resource

    for k in range(300):
        (tmp_path / f"w{k}").write_bytes(bytes(4))
    reader, kept = ExternalReader(tmp_path), []
    used = 1 + max(number for number in range(256) if _is_open(number))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 20, hard))
    try:
        with pytest.raises(ExternalDataError, match="ulimit -n"):
            kept.extend(tensor(reader, f"w{k}", (1,)) for k in range(300))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_file_source(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(range(100)))
    source = FileSource.open(path)
    assert source.size == 100
    assert bytes(source.view()) == source.read(0, 100) == bytes(range(100))
    assert bytes(source.view(10, 5)) == source.read(10, 5) == bytes(range(10, 15))
    assert source.view().readonly
    assert len(source.view(100)) == 0
    for access in (source.read, source.view):
        with pytest.raises(DecodeError, match="ends at byte 100"):
            access(99, 2)


def test_an_empty_file_source(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    source = FileSource.open(tmp_path / "file")
    assert bytes(source.view()) == source.read(0, 0) == b""


@posix
def test_file_source_refuses_what_is_not_a_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, Path("/dev/null")):
        with pytest.raises(InputError, match="not a regular file"):
            FileSource.open(path)


@posix
def test_tensors_over_a_map_are_read_through_the_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"head" + WEIGHTS.tobytes())
    view = FileSource.open(path).view()
    found = RawTensor(view[4:], dtypes.FLOAT, (64,), "w")
    np.testing.assert_array_equal(found.read(), WEIGHTS)
    assert not np.shares_memory(found.read(), found.numpy())
    assert b"".join(blocks(view)) == path.read_bytes()
    os.truncate(path, 100)
    with pytest.raises(DecodeError, match="ends at byte 100"):
        found.read()
    with pytest.raises(DecodeError, match="ends at byte 100"):
        b"".join(blocks(view))


@posix
def test_past_4_gib_nothing_is_read_before_it_is_asked_for(tmp_path: Path) -> None:
    import resource

    (tmp_path / "w").touch()
    os.truncate(tmp_path / "w", 5 << 30)
    with (tmp_path / "w").open("r+b") as file:
        file.seek((5 << 30) - 256)
        file.write(WEIGHTS.tobytes())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    reader = ExternalReader(tmp_path)
    large = tensor(reader, shape=((5 << 28) - 64,), length=(5 << 30) - 256)
    last = tensor(reader, offset=(5 << 30) - 256)
    np.testing.assert_array_equal(last.numpy(), WEIGHTS)
    np.testing.assert_array_equal(last.read(), WEIGHTS)
    assert large.numpy()[1 << 28] == 0
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 << 10
    assert stat.S_ISREG((tmp_path / "w").stat().st_mode)
