"""Files read by one descriptor and one map."""

from __future__ import annotations

import mmap
import os
import stat
import sys
import threading
import time
from typing import TYPE_CHECKING, BinaryIO, TypeAlias

import numpy as np

from sardonyx.errors import DecodeError, InputError, SardonyxError, quote

if TYPE_CHECKING:
    from collections.abc import Iterator


__all__ = ["BytesLike", "FileSource", "MappedFile", "ModelSource", "blocks", "kind_of"]

BytesLike: TypeAlias = "bytes | bytearray | memoryview | mmap.mmap"
ModelSource: TypeAlias = "str | os.PathLike[str] | BytesLike | BinaryIO"

READ_FLAGS = os.O_RDONLY
for _flag in ("O_CLOEXEC", "O_NONBLOCK", "O_NOCTTY", "O_BINARY"):
    READ_FLAGS |= getattr(os, _flag, 0)


_BLOCK = 4 << 20
_SETTLED = 2_500_000_000
"""Nanoseconds after a change from which on another change has another time, on any file system."""


class _Descriptor:
    """An open file, read by position; closed with its last owner."""

    __slots__ = ("_lock", "error", "number", "opened", "path", "size")

    def __init__(self, number: int, path: str, error: type[SardonyxError]) -> None:
        self.number = number
        self.path = path
        self.error = error
        self._lock = threading.Lock()
        self.opened = self.state()
        self.size = self.opened[0]

    def read(self, offset: int, length: int) -> bytes:
        parts: list[bytes] = []
        done = 0
        while done < length:
            try:
                part = self._read_once(offset + done, min(length - done, 1 << 30))
            except OSError as error:
                raise self.error(f"cannot read: {error.strerror}", place=self.path) from error
            if not part:
                raise self.shorter(offset + length, os.fstat(self.number).st_size)
            parts.append(part)
            done += len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _read_once(self, offset: int, length: int) -> bytes:
        if hasattr(os, "pread"):
            return os.pread(self.number, length, offset)
        with self._lock:
            os.lseek(self.number, offset, os.SEEK_SET)
            return os.read(self.number, length)

    def state(self) -> tuple[int, int]:
        """The size now, and when the content was last changed."""
        known = os.fstat(self.number)
        return known.st_size, known.st_mtime_ns

    def identity(self) -> tuple[int, ...] | None:
        """What no other content of any file has; None where the file system cannot tell.

        That is where times are coarse and the last change was a moment ago, or where the time of
        a change can be set.
        """
        if os.name != "posix":
            return None
        known = os.fstat(self.number)
        changed = max(known.st_mtime_ns, known.st_ctime_ns)
        if time.time_ns() - changed < _SETTLED:
            return None
        times = known.st_mtime_ns, known.st_ctime_ns
        return known.st_dev, known.st_ino, known.st_size, *times

    def shorter(self, needed: int, size: int) -> SardonyxError:
        return self.error(
            f"the file ends at byte {size}, data is needed up to byte {needed}",
            place=self.path,
            hint="the file was truncated or is incomplete; fetch or save it again",
        )

    def __del__(self) -> None:
        number, self.number = getattr(self, "number", -1), -1
        if number >= 0:
            os.close(number)


class MappedFile(mmap.mmap):
    """A read-only map that can also read its content without touching the map."""

    descriptor: _Descriptor

    def read_view(self, view: memoryview) -> bytes:
        """The bytes under `view`, a contiguous view of this map, read through the file.

        Raises the source's error where the file has become shorter.
        """
        return self.descriptor.read(self.offset_of(view), view.nbytes)

    def state(self) -> tuple[int, int]:
        """The file's size now, and when its content was last changed."""
        return self.descriptor.state()

    def identity_of(self, view: memoryview) -> tuple[int, ...] | None:
        """What no other bytes have than those under `view`; None where nothing can tell."""
        found = self.descriptor.identity()
        return None if found is None else (*found, self.offset_of(view), view.nbytes)

    def offset_of(self, view: memoryview) -> int:
        """Where in the file `view`, a view of this map, begins."""
        return 0 if view.nbytes == 0 else _address(view) - _address(memoryview(self))


def _address(view: memoryview) -> int:
    return int(np.frombuffer(view, np.uint8).__array_interface__["data"][0])


class FileSource:
    """A regular file, opened once; `view` maps it, `read` copies without the map.

    The descriptor lives as long as the source or a view of its map. `path` is for messages,
    `size` was the size in bytes at opening, `error` is what failures raise.
    """

    __slots__ = ("_descriptor", "_lock", "_map")

    def __init__(
        self,
        number: int,
        path: str,
        *,
        error: type[SardonyxError],
        refusal: type[SardonyxError] | None = None,
    ) -> None:
        """Own the open descriptor `number`, which is closed and refused unless a regular file."""
        mode = os.fstat(number).st_mode
        if not stat.S_ISREG(mode):
            os.close(number)
            raise (refusal or error)(
                f"{quote(path)} is {kind_of(mode)}, not a regular file", place=path
            )
        self._descriptor = _Descriptor(number, path, error)
        self._lock = threading.Lock()
        self._map: MappedFile | None = None

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> FileSource:
        """Open a model file; `InputError` if it is not a regular file, or the `OSError`."""
        number = os.open(path, READ_FLAGS)
        return cls(number, os.fspath(path), error=DecodeError, refusal=InputError)

    @property
    def path(self) -> str:
        """The path it was opened by."""
        return self._descriptor.path

    @property
    def size(self) -> int:
        """Size in bytes when it was opened."""
        return self._descriptor.size

    @property
    def opened(self) -> tuple[int, int]:
        """What `state` was when it was opened."""
        return self._descriptor.opened

    def status(self) -> os.stat_result:
        """What the open descriptor says now."""
        return os.fstat(self._descriptor.number)

    def state(self) -> tuple[int, int]:
        """The size now, and when the content was last changed."""
        return self._descriptor.state()

    def identity(self) -> tuple[int, ...] | None:
        """What no other content of any file has; None where nothing can tell."""
        return self._descriptor.identity()

    def read(self, offset: int, length: int) -> bytes:
        """`length` bytes from `offset`, copied; raises `error` where the file is shorter."""
        return self._descriptor.read(offset, length)

    def view(self, offset: int = 0, length: int | None = None) -> memoryview:
        """`length` bytes from `offset` (None: to the end), not copied and not yet read.

        Raises `error` where the file is shorter. To touch a view of a file that someone
        truncates afterwards ends the process: use `read` for what must survive that.
        """
        end = self.size if length is None else offset + length
        now = self.status().st_size
        if end > now:
            raise self._descriptor.shorter(end, now)
        if end <= offset:
            return memoryview(b"")
        return memoryview(self._mapped())[offset:end]

    def _mapped(self) -> MappedFile:
        with self._lock:
            if self._map is None:
                try:
                    self._map = _map(self._descriptor)
                except (OSError, ValueError) as error:
                    raise self._descriptor.error(
                        f"cannot map the file: {error}", place=self.path
                    ) from error
            return self._map

    def __repr__(self) -> str:
        return f"<FileSource {quote(self.path)}, {self.size} bytes>"


def _map(descriptor: _Descriptor) -> MappedFile:
    number, size = descriptor.number, descriptor.size
    if sys.version_info >= (3, 13) and os.name == "posix":
        mapped = MappedFile(number, size, access=mmap.ACCESS_READ, trackfd=False)
    else:
        mapped = MappedFile(number, size, access=mmap.ACCESS_READ)
    mapped.descriptor = descriptor
    return mapped


def blocks(buffer: bytes | memoryview) -> Iterator[bytes | memoryview]:
    """`buffer` in pieces of bounded size; a mapped file's are read through the file."""
    view = memoryview(buffer)
    if view.nbytes == 0:
        return
    view = view.cast("B")
    mapped = view.obj if isinstance(view.obj, MappedFile) else None
    for start in range(0, view.nbytes, _BLOCK):
        part = view[start : start + _BLOCK]
        yield part if mapped is None else mapped.read_view(part)


def kind_of(mode: int) -> str:
    """What a file of `st_mode` is, for messages."""
    kinds = (
        (stat.S_ISDIR, "a directory"),
        (stat.S_ISLNK, "a symbolic link"),
        (stat.S_ISFIFO, "a named pipe"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISCHR, "a device"),
        (stat.S_ISBLK, "a device"),
        (stat.S_ISREG, "a regular file"),
    )
    return next((name for test, name in kinds if test(mode)), "a special file")
