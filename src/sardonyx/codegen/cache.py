"""Object code on disk, so that a kernel is compiled once on a machine.

The folder is private to the user: it is made with mode 0700, and one that somebody else owns or
may write to is not used. An entry's name is the digest of everything that its code follows from
(the kernel, the processor, LLVM's and this package's version), and the file repeats it with a
digest of the code: one that is cut short, changed or misplaced counts as absent. Writing goes
through a temporary file and a rename, so processes may share the folder.

`SARDONYX_CACHE` names another folder, or is ``off``. `SARDONYX_CACHE_BYTES` bounds its size,
512 MiB unless set; the entries that were used longest ago go first. Entries are spread over
sixteen folders by their keys, which are digests: each has a sixteenth of the bound, and is swept
alone, one store in 64, so that storing never waits for a look at the whole cache.
"""

from __future__ import annotations

import hashlib
import os
import stat
import sys
import tempfile
import warnings
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Final

from sardonyx._version import __version__

__all__ = ["ObjectCache", "default_cache", "key_of"]

_MAGIC: Final = b"sardonyx object 1\n"
_DEFAULT_BYTES: Final = 512 << 20
_SHARES: Final = 16


class ObjectCache:
    """Object files by key, a digest in hexadecimal, in `folder`; about `max_bytes` of them."""

    def __init__(self, folder: Path, max_bytes: int = _DEFAULT_BYTES) -> None:
        self.folder = folder
        self.max_bytes = max_bytes

    def path(self, key: str) -> Path:
        """Where the entry of `key` lies."""
        return self.folder / key[0] / key

    def get(self, key: str) -> bytes | None:
        """The object code stored under `key`, or None."""
        path = self.path(key)
        try:
            data = path.read_bytes()
        except OSError:
            return None
        code = _verified(data, key)
        if code is None:
            with suppress(OSError):
                path.unlink()
            return None
        with suppress(OSError):
            os.utime(path)
        return code

    def put(self, key: str, code: bytes) -> None:
        """Store `code`; a folder that is full or cannot be written to is no error."""
        data = _MAGIC + key.encode() + b"\n" + hashlib.sha256(code).digest() + code
        path = self.path(key)
        try:
            path.parent.mkdir(mode=0o700, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=path.parent, prefix=".new-")
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(data)
                Path(name).replace(path)
            except OSError:
                with suppress(OSError):
                    Path(name).unlink()
                raise
        except OSError:
            return
        # one key in 64, so that processes that store little take their part in it
        if key[1:3] < "04":
            self.sweep(path.parent)

    def sweep(self, share: Path) -> None:
        """Remove what was used longest ago in one of the folders, until the rest of it fits."""
        entries = []
        with suppress(OSError), os.scandir(share) as listed:
            for entry in listed:
                with suppress(OSError):
                    known = entry.stat(follow_symlinks=False)
                    entries.append((known.st_mtime, known.st_size, Path(entry.path)))
        entries.sort(reverse=True)
        total = 0
        for _, size, path in entries:
            total += size
            if total > self.max_bytes // _SHARES:
                with suppress(OSError):
                    path.unlink()


def key_of(kind: str, *names: str) -> str:
    """The key of what follows from `names`, from this package's code and from LLVM's version."""
    parts = (kind, __version__, _emitter(), _llvm_version(), *names)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


@lru_cache(maxsize=1)
def _emitter() -> str:
    """A digest of the code that writes code: another release of it writes other code."""
    found = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        found.update(path.read_bytes())
    return found.hexdigest()


@lru_cache(maxsize=1)
def _llvm_version() -> str:
    """The version of llvmlite, each of which goes with one of LLVM; LLVM itself is not loaded."""
    import llvmlite

    version: str = llvmlite.__version__
    return version


def _verified(data: bytes, key: str) -> bytes | None:
    head = _MAGIC + key.encode() + b"\n"
    if not data.startswith(head):
        return None
    digest, code = data[len(head) : len(head) + 32], data[len(head) + 32 :]
    return code if hashlib.sha256(code).digest() == digest else None


@lru_cache(maxsize=1)
def default_cache() -> ObjectCache | None:
    """The user's cache, or None where it is turned off or cannot be trusted."""
    chosen = os.environ.get("SARDONYX_CACHE", "")
    if chosen.lower() == "off":
        return None
    folder = Path(chosen) if chosen else _user_folder() / "sardonyx" / "objects"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:
        return None
    reason = _distrusted(folder)
    if reason:
        warnings.warn(
            f"compiled code is not cached: {folder} {reason}", RuntimeWarning, stacklevel=2
        )
        return None
    try:
        most = int(os.environ.get("SARDONYX_CACHE_BYTES", _DEFAULT_BYTES))
    except ValueError:
        most = _DEFAULT_BYTES
    return ObjectCache(folder, most)


def _distrusted(folder: Path) -> str:
    """Why code from `folder` must not be loaded; empty where it may."""
    if not hasattr(os, "getuid"):
        return ""
    known = folder.lstat()
    if not stat.S_ISDIR(known.st_mode):
        return "is a link"
    if known.st_uid != os.getuid():
        return "belongs to another user"
    return "may be written to by others" if known.st_mode & 0o022 else ""


def _user_folder() -> Path:
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
