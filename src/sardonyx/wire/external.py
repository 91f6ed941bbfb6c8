"""External data: weights in files beside the model (onnx.proto, TensorProto.external_data).

A location is refused unless it names a regular file under the model's folder that is reached
without any link. Each file is opened once; what is checked is the open descriptor, and that
descriptor is what is read.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
import threading
from bisect import bisect_right
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from sardonyx.errors import ExternalDataError, quote
from sardonyx.ir.tensor import Tensor, array_from_raw
from sardonyx.limits import DEFAULT, exceeded
from sardonyx.wire.source import READ_FLAGS, FileSource, kind_of

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from sardonyx.dtypes import DType
    from sardonyx.ir.tensor import Array
    from sardonyx.limits import Limits

__all__ = ["ExternalReader", "ExternalTensor", "Location", "detached", "split_location"]

Entries = tuple[tuple[str, str], ...]

_LARGEST = (1 << 63) - 1
_LONGEST_LOCATION = 4096
_BLOCK = 1 << 20
_BUCKET = 1024
_SHA1 = re.compile(r"[0-9a-fA-F]{40}")
_BY_DESCRIPTOR = os.open in os.supports_dir_fd
_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)
_FOLDER_FLAGS = READ_FLAGS | _NOFOLLOW | getattr(os, "O_DIRECTORY", 0)
_LINK_HINT = (
    "replace it by the file itself, or, if you trust where it leads, pass "
    "allowed_roots=[folder] to load"
)


@dataclass(frozen=True, slots=True)
class Location:
    """The parsed entries of one tensor: a file, `length` bytes at `offset`, SHA-1 in hex."""

    path: tuple[str, ...]
    offset: int
    length: int
    checksum: str

    @property
    def text(self) -> str:
        """The path as the standard writes it."""
        return "/".join(self.path)


@lru_cache(maxsize=64)
def split_location(location: str) -> tuple[str, ...]:
    """The components of a safe relative POSIX path; `ExternalDataError` for any other."""
    problem = _location_problem(location)
    if problem:
        raise ExternalDataError(
            f"external data location {quote(location)} {problem}",
            hint="a location is a path relative to the model's folder, and stays inside it",
        )
    return tuple(part for part in location.split("/") if part not in {"", "."})


def _location_problem(location: str) -> str | None:
    parts = location.split("/")
    tests = (
        (not location, "is empty"),
        (len(location) > _LONGEST_LOCATION, f"is longer than {_LONGEST_LOCATION} characters"),
        ("\0" in location, "has a NUL character"),
        ("\\" in location, "has a backslash"),
        (location.startswith("/"), "is an absolute path"),
        (re.match(r"[A-Za-z]:", location) is not None, "names a drive"),
        (os.name == "nt" and ":" in location, "names a stream"),
        (".." in parts, "leaves the model's folder by '..'"),
        (parts[-1] in {"", "."}, "names no file"),
    )
    return next((problem for found, problem in tests if found), None)


def parse_entries(entries: Sequence[tuple[str, str]], needed: int, name: str) -> Location:
    """The location that `entries` give for tensor `name` of `needed` bytes.

    Raises `ExternalDataError` for unknown, duplicate or missing keys, numbers that are
    negative, not decimal or past 2^63, a length that is not `needed`, a malformed checksum.
    """
    found: dict[str, str] = {}
    for key, value in entries:
        if key not in {"location", "offset", "length", "checksum"}:
            raise _bad(name, f"has the unknown external data key {quote(key)}")
        if key in found:
            raise _bad(name, f"has the external data key {quote(key)} twice")
        found[key] = value
    if "location" not in found:
        raise _bad(name, "has external data without a location")
    offset = _number(found.get("offset", "0"), "offset", name)
    length = _number(found["length"], "length", name) if "length" in found else needed
    if length != needed:
        raise _bad(name, f"takes {needed} bytes, its external data has length {length}")
    if offset + length > _LARGEST:
        raise _bad(name, f"has external data past 2^63: offset {offset}, length {length}")
    checksum = found.get("checksum", "").lower()
    if "checksum" in found and not _SHA1.fullmatch(checksum):
        raise _bad(name, f"has a checksum that is not SHA-1 in hex: {quote(checksum)}")
    try:
        path = split_location(found["location"])
    except ExternalDataError as error:
        raise error.at(f"tensor {quote(name)}") from None
    return Location(path, offset, length, checksum)


def _number(text: str, key: str, name: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 19) or int(text) > _LARGEST:
        raise _bad(name, f"has external data {key} {quote(text)}: not a number of bytes")
    return int(text)


def _bad(name: str, problem: str) -> ExternalDataError:
    return ExternalDataError(f"tensor {quote(name)} {problem}")


class ExternalTensor(Tensor):
    """A tensor whose data lies in another file; a *detached* one has no file to read.

    `entries` are its external_data keys and values as they were written, `location`, `offset`,
    `length` and `checksum` (lower-case SHA-1 of the whole file, or empty) what they say.
    """

    __slots__ = ("_file", "checksum", "entries", "length", "location", "offset")

    def __init__(
        self,
        entries: Sequence[tuple[str, str]],
        dtype: DType,
        shape: Sequence[int],
        name: str = "",
        *,
        place: Location,
        file: DataFile | None = None,
    ) -> None:
        super().__init__(dtype, shape, name)
        self.entries: Entries = tuple(entries)
        self.location = place.text
        self.offset = place.offset
        self.length = place.length
        self.checksum = place.checksum
        self._file = file

    @property
    def is_detached(self) -> bool:
        """Whether the model came from bytes, so that the data cannot be read."""
        return self._file is None

    def numpy(self) -> Array:
        """A view of the mapped file; packed types are unpacked into a new array."""
        return array_from_raw(self.raw(), self.dtype, self.shape)

    def raw(self) -> bytes | memoryview:
        """A view of the mapped file."""
        return self._verified().source.view(self.offset, self.length)

    def read(self) -> Array:
        """The elements in memory of their own, read without the map."""
        data = self._verified().source.read(self.offset, self.length)
        return array_from_raw(data, self.dtype, self.shape)

    def state(self) -> Hashable:
        """The file's size, and when it was changed."""
        return None if self._file is None else self._file.source.state()

    def identity(self) -> Hashable:
        """Which bytes of which file; None where a checksum says what they must be."""
        if self._file is None or self.checksum:
            return None
        found = self._file.source.identity()
        return None if found is None else (*found, self.offset, self.length)

    def _verified(self) -> DataFile:
        if self._file is None:
            raise ExternalDataError(
                f"tensor {quote(self.name)} has its data in the file {quote(self.location)}, "
                "and the model was read from bytes, which have no folder",
                hint="load the model from its path: sardonyx.load(path)",
            )
        self._file.verify()
        return self._file


def detached(
    entries: Sequence[tuple[str, str]], dtype: DType, shape: Sequence[int], name: str
) -> ExternalTensor:
    """The external tensor of a model without a folder: checked, and written back as it came."""
    place = _parse(entries, dtype, shape, name)
    return ExternalTensor(entries, dtype, shape, name, place=place)


def _parse(
    entries: Sequence[tuple[str, str]], dtype: DType, shape: Sequence[int], name: str
) -> Location:
    if dtype.bits == 0:
        raise _bad(name, "holds strings, which cannot be external data")
    size = 1
    for dim in shape:
        size *= dim
        if dim < 0 or size > _LARGEST:
            raise _bad(name, f"has shape {quote(list(shape))}: negative or past 2^63 elements")
    return parse_entries(entries, dtype.nbytes(size), name)


class DataFile:
    """One open data file: the ranges that tensors took, and whether its checksum holds."""

    __slots__ = ("_checksum", "_lock", "_ranges", "_verified", "source")

    def __init__(self, source: FileSource) -> None:
        self.source = source
        self._ranges = _Ranges()
        self._checksum = ""
        self._verified = False
        self._lock = threading.Lock()

    def claim(self, place: Location, name: str) -> None:
        """Note that tensor `name` lies at `place`, or refuse it."""
        if place.offset + place.length > self.source.size:
            raise ExternalDataError(
                f"tensor {quote(name)} takes bytes {place.offset} to "
                f"{place.offset + place.length} of a file of {self.source.size} bytes",
                place=f"data file {quote(self.source.path)}",
                hint=self._incomplete(),
            )
        other = self._ranges.add(place.offset, place.length)
        if other is not None:
            raise ExternalDataError(
                f"tensor {quote(name)} takes bytes {place.offset} to "
                f"{place.offset + place.length}, another tensor bytes {other[0]} to {other[1]}: "
                "they overlap",
                place=f"data file {quote(self.source.path)}",
                hint="tensors may share a range only as a whole",
            )
        if place.checksum and self._checksum not in {"", place.checksum}:
            raise ExternalDataError(
                f"two checksums are given: {self._checksum} and, for tensor {quote(name)}, "
                f"{place.checksum}",
                place=f"data file {quote(self.source.path)}",
            )
        if place.checksum:
            self._checksum = place.checksum

    def _incomplete(self) -> str:
        start = self.source.read(0, min(self.source.size, 64))
        if start.startswith(b"version https://git-lfs"):
            return "the file is a Git LFS pointer: fetch the data with `git lfs pull`"
        return "the file is truncated or belongs to another model; fetch it again"

    def verify(self) -> None:
        """Compare the file with its checksum, once; no more than a look where none is given."""
        if not self._checksum:
            return
        with self._lock:
            if self._verified:
                return
            actual = self._digest()
            if actual != self._checksum:
                raise ExternalDataError(
                    f"SHA-1 is {actual}, the model says {self._checksum}",
                    place=f"data file {quote(self.source.path)}",
                    hint="the file was changed or belongs to another model; fetch it again",
                )
            self._verified = True

    def _digest(self) -> str:
        digest = hashlib.sha1(usedforsecurity=False)
        size = self.source.status().st_size
        for start in range(0, size, _BLOCK):
            digest.update(self.source.read(start, min(_BLOCK, size - start)))
        return digest.hexdigest()


class _Ranges:
    """Disjoint ranges of one file, in sorted buckets so that any order of adding is cheap."""

    __slots__ = ("_buckets", "_ends", "_firsts")

    def __init__(self) -> None:
        self._ends: dict[int, int] = {}
        self._firsts = [0]
        self._buckets: list[list[int]] = [[]]

    def add(self, start: int, length: int) -> tuple[int, int] | None:
        """Take `length` bytes from `start`; the range in the way unless free or identical."""
        end = start + length
        if length == 0 or self._ends.get(start) == end:
            return None
        which = bisect_right(self._firsts, start) - 1
        bucket = self._buckets[which]
        place = bisect_right(bucket, start)
        before = bucket[place - 1] if place else self._last_before(which)
        after = bucket[place] if place < len(bucket) else self._first_after(which)
        if before is not None and self._ends[before] > start:
            return before, self._ends[before]
        if after is not None and after < end:
            return after, self._ends[after]
        bucket.insert(place, start)
        self._ends[start] = end
        if len(bucket) > _BUCKET:
            half = len(bucket) // 2
            self._buckets[which : which + 1] = [bucket[:half], bucket[half:]]
            self._firsts.insert(which + 1, bucket[half])
        return None

    def _last_before(self, which: int) -> int | None:
        return self._buckets[which - 1][-1] if which and self._buckets[which - 1] else None

    def _first_after(self, which: int) -> int | None:
        return self._buckets[which + 1][0] if which + 1 < len(self._buckets) else None


class ExternalReader:
    """Opens the data files of one model, which lies in `base_folder`.

    `allowed_roots` are folders into which symbolic links may lead, and inside which hard links
    are accepted; by default there are none, and every link is refused.
    """

    __slots__ = ("_base", "_by_inode", "_by_path", "_limits", "_lock", "_roots")

    def __init__(
        self,
        base_folder: str | os.PathLike[str],
        allowed_roots: Sequence[str | os.PathLike[str]] = (),
        limits: Limits = DEFAULT,
    ) -> None:
        self._base = Path(base_folder).absolute()
        self._roots = tuple(Path(root).resolve() for root in allowed_roots)
        self._limits = limits
        self._by_path: dict[tuple[str, ...], DataFile] = {}
        self._by_inode: dict[tuple[int, int], DataFile] = {}
        self._lock = threading.Lock()

    def tensor(
        self, entries: Sequence[tuple[str, str]], dtype: DType, shape: Sequence[int], name: str
    ) -> ExternalTensor:
        """The tensor that `entries` describe, checked against its open file, data unread.

        Raises `ExternalDataError` where the entries, the location or the file are not safe
        and sound; see the module.
        """
        if len(shape) > self._limits.rank:
            raise exceeded("rank", self._limits.rank, len(shape))
        place = _parse(entries, dtype, shape, name)
        try:
            with self._lock:
                file = self._file(place)
                file.claim(place, name)
        except ExternalDataError as error:
            raise error.at(f"tensor {quote(name)}") from error.__cause__
        return ExternalTensor(entries, dtype, shape, name, place=place, file=file)

    def _file(self, place: Location) -> DataFile:
        file = self._by_path.get(place.path)
        if file is None:
            source = self._open(place.path)
            status = source.status()
            inode = status.st_dev, status.st_ino
            file = self._by_inode.setdefault(inode, DataFile(source))
            self._by_path[place.path] = file
        return file

    def _open(self, path: tuple[str, ...]) -> FileSource:
        shown = str(self._base.joinpath(*path))
        try:
            try:
                source = _open_inside(self._base, path, shown)
                linked = source.status().st_nlink > 1
            except _LinkError as link:
                if not self._roots:
                    raise _refused(str(link), shown) from None
                return self._open_allowed(shown)
        except OSError as error:
            raise _cannot_open(shown, error) from error
        if linked and not self._is_allowed(Path(shown).resolve()):
            raise _refused("is a hard link: another name leads to the same file", shown)
        return source

    def _is_allowed(self, real: Path) -> bool:
        return any(real.is_relative_to(root) for root in self._roots)

    def _open_allowed(self, shown: str) -> FileSource:
        real = Path(shown).resolve()
        for root in self._roots:
            if real.is_relative_to(root) and real != root:
                try:
                    return _open_inside(root, real.relative_to(root).parts, shown)
                except _LinkError as link:
                    raise _refused(str(link), shown) from None
        raise _refused(f"is a link to {quote(real)}, outside of allowed_roots", shown)


class _LinkError(Exception):
    """A component of a path is a link."""


def _refused(problem: str, path: str) -> ExternalDataError:
    return ExternalDataError(
        f"external data file {quote(path)} {problem}",
        place=f"data file {quote(path)}",
        hint=_LINK_HINT,
    )


def _cannot_open(path: str, error: OSError) -> ExternalDataError:
    hint = "put the data file beside the model, or fetch it again"
    if error.errno == errno.EMFILE:
        hint = (
            "the model has more data files than this process may open: raise the limit "
            "(ulimit -n), or save the model with one data file"
        )
    return ExternalDataError(
        f"cannot open external data file {quote(path)}: {error.strerror}",
        place=f"data file {quote(path)}",
        hint=hint,
    )


def _open_inside(base: Path, path: tuple[str, ...], shown: str) -> FileSource:
    """The regular file at `path` under `base`, no component of `path` being a link."""
    if not _BY_DESCRIPTOR:
        return _open_by_path(base, path, shown)
    folder = os.open(base, _FOLDER_FLAGS & ~_NOFOLLOW)
    try:
        for part in path[:-1]:
            inner = _open_part(part, _FOLDER_FLAGS, folder)
            os.close(folder)
            folder = inner
        _refuse_special(os.stat(path[-1], dir_fd=folder, follow_symlinks=False), shown)
        number = _open_part(path[-1], READ_FLAGS | _NOFOLLOW, folder)
    finally:
        os.close(folder)
    return FileSource(number, shown, error=ExternalDataError)


def _open_part(part: str, flags: int, folder: int) -> int:
    try:
        return os.open(part, flags, dir_fd=folder)
    except OSError as error:
        if error.errno in {errno.ELOOP, errno.ENOTDIR, errno.EMLINK}:
            mode = os.stat(part, dir_fd=folder, follow_symlinks=False).st_mode
            if stat.S_ISLNK(mode):
                raise _LinkError(f"leads through the symbolic link {quote(part)}") from None
        raise


def _refuse_special(status: os.stat_result, shown: str) -> None:
    if stat.S_ISLNK(status.st_mode):
        raise _LinkError("is a symbolic link")
    if not stat.S_ISREG(status.st_mode):
        raise ExternalDataError(
            f"external data file {quote(shown)} is {kind_of(status.st_mode)}, not a regular file",
            place=f"data file {quote(shown)}",
        )


def _open_by_path(base: Path, path: tuple[str, ...], shown: str) -> FileSource:
    here = base
    for part in path:
        here /= part
        status = here.lstat()
        reparse: int = getattr(status, "st_reparse_tag", 0)
        if stat.S_ISLNK(status.st_mode) or reparse:
            raise _LinkError(f"leads through the symbolic link {quote(part)}")
    _refuse_special(status, shown)
    source = FileSource(os.open(here, READ_FLAGS), shown, error=ExternalDataError)
    opened = source.status()
    if (opened.st_dev, opened.st_ino) != (status.st_dev, status.st_ino):
        raise _LinkError("was replaced while it was opened")
    return source
