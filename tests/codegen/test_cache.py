"""The cache of compiled code: what it returns is what this user stored, or nothing."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import time
import warnings
from pathlib import Path

import pytest

from sardonyx.codegen import cache as caching
from sardonyx.codegen.cache import ObjectCache, default_cache

CODE = bytes(range(256)) * 8
KEY = "c" * 64


@pytest.fixture
def stored(tmp_path: Path) -> ObjectCache:
    found = ObjectCache(tmp_path)
    found.put(KEY, CODE)
    return found


def test_what_was_stored_comes_back(stored: ObjectCache) -> None:
    assert stored.get(KEY) == CODE
    assert stored.get("0" * 64) is None


def test_every_changed_byte_is_noticed(stored: ObjectCache) -> None:
    path = stored.path(KEY)
    whole = path.read_bytes()
    for position in range(0, len(whole), 37):
        damaged = bytearray(whole)
        damaged[position] ^= 1
        path.write_bytes(damaged)
        assert stored.get(KEY) is None
        assert not path.exists()


def test_every_shorter_file_is_noticed(stored: ObjectCache) -> None:
    path = stored.path(KEY)
    whole = path.read_bytes()
    for length in range(0, len(whole), 61):
        path.write_bytes(whole[:length])
        assert stored.get(KEY) is None


def test_an_entry_under_another_key_is_refused(stored: ObjectCache) -> None:
    other = "c0" * 32
    stored.path(other).write_bytes(stored.path(KEY).read_bytes())
    assert stored.get(other) is None


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*/*"))


def test_the_oldest_entries_of_a_folder_go_first(tmp_path: Path) -> None:
    bounded = ObjectCache(tmp_path, max_bytes=16 * 3 * (len(CODE) + 200))
    for share in "ab":
        for number in range(6):
            key = f"{share}fff{number}"
            bounded.put(key, CODE)
            os.utime(bounded.path(key), (number, number))
    bounded.sweep(tmp_path / "a")
    left = [f"afff{number}" for number in (3, 4, 5)]
    assert names(tmp_path) == left + [f"bfff{number}" for number in range(6)]


def test_storing_sweeps_now_and_then(tmp_path: Path) -> None:
    bound = 2000  # entries; between two sweeps of a folder come 64 new ones to it, on average
    cache = ObjectCache(tmp_path, max_bytes=bound * (len(CODE) + 115))
    for number in range(3 * bound):
        cache.put(hashlib.sha256(str(number).encode()).hexdigest(), CODE)
    assert 0.9 * bound < len(names(tmp_path)) < 2 * bound


def test_a_sweep_looks_at_a_sixteenth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = ObjectCache(tmp_path)
    for number in range(800):
        cache.put(hashlib.sha256(str(number).encode()).hexdigest(), CODE)
    looked = []
    scan = os.scandir

    def scandir(folder: Path) -> object:
        looked.append(len(list(folder.iterdir())))
        return scan(folder)

    monkeypatch.setattr(os, "scandir", scandir)
    for number in range(800, 1600):
        cache.put(hashlib.sha256(str(number).encode()).hexdigest(), CODE)
    assert 3 < len(looked) < 40
    assert max(looked) < 200


def _write_often(folder: Path, number: int) -> None:
    mine = ObjectCache(folder)
    deadline = time.monotonic() + 0.5
    while time.monotonic() < deadline:
        mine.put(KEY, bytes([number]) * 5000)
        found = mine.get(KEY)
        if found is not None and len(set(found)) != 1:
            os._exit(1)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_processes_share_a_folder(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_write_often, args=(tmp_path, n)) for n in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert names(tmp_path) == [KEY]


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="POSIX modes")
@pytest.mark.parametrize("mode", [0o777, 0o770, 0o722])
def test_a_folder_that_others_may_write_to_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int
) -> None:
    tmp_path.chmod(mode)
    monkeypatch.setenv("SARDONYX_CACHE", str(tmp_path))
    default_cache.cache_clear()
    try:
        with pytest.warns(RuntimeWarning, match="written to by others"):
            assert default_cache() is None
    finally:
        tmp_path.chmod(0o700)
        default_cache.cache_clear()


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="POSIX owners")
def test_a_folder_of_another_user_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path.chmod(0o700)
    other = os.getuid() + 1
    monkeypatch.setattr(caching.os, "getuid", lambda: other)
    monkeypatch.setenv("SARDONYX_CACHE", str(tmp_path))
    default_cache.cache_clear()
    try:
        with pytest.warns(RuntimeWarning, match="another user"):
            assert default_cache() is None
    finally:
        default_cache.cache_clear()


def test_it_can_be_turned_off_and_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SARDONYX_CACHE", "off")
    default_cache.cache_clear()
    assert default_cache() is None
    monkeypatch.setenv("SARDONYX_CACHE", str(tmp_path / "mine"))
    default_cache.cache_clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = default_cache()
    assert found is not None
    assert found.folder == tmp_path / "mine"
    assert found.folder.stat().st_mode & 0o077 == 0
    default_cache.cache_clear()
