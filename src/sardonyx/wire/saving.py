"""Saving models: whole or not at all.

Everything is written into new files in the destination's folder, synced, and renamed into
place, so that a reader, or a process that maps the old file, never sees a part.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import stat
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeAlias, final

from sardonyx.errors import InputError, ModelError, quote
from sardonyx.wire.encode import encode_model
from sardonyx.wire.external import ExternalTensor, split_location
from sardonyx.wire.opening import is_text_path
from sardonyx.wire.source import blocks, kind_of
from sardonyx.wire.writing import Chunks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from sardonyx.ir import Model, Tensor
    from sardonyx.wire.tensors import Externalize

__all__ = ["Progress", "dumps", "save"]

Progress: TypeAlias = "Callable[[int, int], None]"
Entries: TypeAlias = "list[tuple[str, str]]"

LARGEST_PROTOBUF = (1 << 31) - 1
"""Bytes of the largest file that protobuf's own readers open."""

_PAGE = 4096
_LINE = 64
_BUFFER = 1 << 20
_LONGEST_SHOWN = 200
_NO_CHECKSUM = "0" * 40
_BY_DESCRIPTOR = os.open in os.supports_dir_fd
_CREATE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL
for _flag in ("O_CLOEXEC", "O_NOFOLLOW", "O_BINARY"):
    _CREATE_FLAGS |= getattr(os, _flag, 0)


def dumps(model: Model) -> bytes:
    """`model` as the bytes of one file, external data included.

    External tensors of a model that itself came from bytes keep their entries.
    """
    chunks = encode_model(model, _keep_detached)
    return b"".join(block for piece in chunks for block in blocks(piece))


def save(
    model: Model,
    path: str | os.PathLike[str] | BinaryIO,
    *,
    external_data: bool | str | None = None,
    size_threshold: int = 1024,
    checksum: bool = True,
    overwrite: bool = True,
    progress: Progress | None = None,
) -> None:
    """Write `model` to a path or a binary file object.

    A path that ends in ``.onnxtxt`` or ``.onnxtext`` gets the model as text (docs/text.md).
    What stood at `path` stays whole until the new file replaces it, also when saving fails,
    and also when the model is mapped from it; a link is replaced, never followed. With a data
    file two files are replaced, data first: a failure puts the old data back, and a crash
    just between the two leaves an old model whose checksum does not fit the new data.

    Args:
        model: what to write; weights are streamed, one tensor at a time.
        path: the file; its folder must exist. A file object gets the model in one piece.
        external_data: True puts weights into the data file ``<name of the file>.data`` beside
            it, a str into the file of that name, False into the model itself, None into the
            model unless protobuf's limit of 2 GiB - 1 bytes would be passed.
        size_threshold: bytes from which a tensor goes into the data file, in attributes too.
        checksum: whether each external tensor states the data file's SHA-1.
        overwrite: whether existing files may be replaced.
        progress: called with bytes written so far and in all.

    Raises:
        InputError: the place cannot be written, or is not a place for a file.
        ExternalDataError: weights that the model refers to cannot be read.
    """
    if not isinstance(path, (str, os.PathLike)):
        _save_to_object(model, path, external_data, progress)
        return
    target = Path(os.fspath(path)).absolute()
    is_text = is_text_path(target)
    encode = _encode_text if is_text else encode_model
    data_name = _data_name(target.name, external_data)
    split = external_data is True or isinstance(external_data, str)
    try:
        with _Folder(target.parent, overwrite=overwrite) as folder:
            folder.check(target.name)
            if not split:
                chunks = encode(model, _refuse_detached)
                too_large = not is_text and chunks.nbytes > LARGEST_PROTOBUF
                split = external_data is None and too_large
            if split:
                folder.check(data_name)
                plan = _Plan(size_threshold)
                names = (target.name, data_name)
                _write_split(partial(encode, model), folder, names, plan, checksum, progress)
            else:
                _write(folder, target.name, chunks, _Meter(chunks.nbytes, progress))
            folder.commit()
    except OSError as error:
        raise InputError(
            f"cannot write {quote(target)}: {error.strerror or error}", place=str(target)
        ) from error


def _save_to_object(
    model: Model, target: BinaryIO, external_data: bool | str | None, progress: Progress | None
) -> None:
    if not hasattr(target, "write"):
        raise InputError(
            f"a model cannot be saved to {type(target).__name__}",
            hint="pass a path or a file opened in binary mode",
        )
    if external_data:
        raise InputError(
            "a file object has no folder for a data file",
            hint="pass a path, or leave external_data out",
        )
    chunks = encode_model(model, _keep_detached)
    meter = _Meter(chunks.nbytes, progress)
    for piece in chunks:
        for block in blocks(piece):
            target.write(block)
            meter.advance(len(block))


def _data_name(name: str, external_data: bool | str | None) -> str:
    if not isinstance(external_data, str):
        return f"{name}.data"
    parts = split_location(external_data)
    if len(parts) != 1 or parts[0] == name:
        raise InputError(
            f"{quote(external_data)} cannot be the data file of {quote(name)}",
            hint="give a file name of its own: the data file lies beside the model",
        )
    return parts[0]


def _keep_detached(tensor: Tensor) -> Entries | None:
    if isinstance(tensor, ExternalTensor) and tensor.is_detached:
        return list(tensor.entries)
    return None


def _refuse_detached(tensor: Tensor) -> Entries | None:
    if isinstance(tensor, ExternalTensor) and tensor.is_detached:
        tensor.raw()
    return None


class _Plan:
    """Where each tensor goes in the data file."""

    def __init__(self, threshold: int) -> None:
        self.size = 0
        self.tensors: list[Tensor] = []
        self._threshold = max(threshold, 1)
        self._offsets: dict[int, int] = {}
        self._location = ""
        self._checksum = ""

    def start(self, location: str, checksum: str) -> _Plan:
        """Use this file name and checksum in the entries that follow; empty: no checksum."""
        self._location = location
        self._checksum = checksum
        return self

    def entries(self, tensor: Tensor) -> Entries | None:
        """The external_data entries of `tensor`, or None where it stays in the model."""
        _refuse_detached(tensor)
        if tensor.dtype.bits == 0 or tensor.nbytes < self._threshold:
            return None
        offset = self._offsets.get(id(tensor))
        if offset is None:
            unit = _PAGE if tensor.nbytes >= _PAGE else _LINE
            offset = -(-self.size // unit) * unit
            self._offsets[id(tensor)] = offset
            self.tensors.append(tensor)
            self.size = offset + tensor.nbytes
        found = [("location", self._location), ("offset", str(offset))]
        found.append(("length", str(tensor.nbytes)))
        if self._checksum:
            found.append(("checksum", self._checksum))
        return found

    def content(self) -> Iterator[bytes | memoryview]:
        """The data file, in pieces."""
        done = 0
        for tensor in self.tensors:
            offset = self._offsets[id(tensor)]
            yield bytes(offset - done)
            raw = tensor.raw()
            if len(raw) != tensor.nbytes:
                raise ModelError(f"{tensor!r} gives {len(raw)} bytes, not {tensor.nbytes}")
            yield raw
            done = offset + tensor.nbytes


def _encode_text(model: Model, externalize: Externalize) -> Chunks:
    from sardonyx.ir.text import model_text

    return Chunks([model_text(model, externalize).encode()])


def _write_split(
    encode: Callable[[Externalize], Chunks],
    folder: _Folder,
    names: tuple[str, str],
    plan: _Plan,
    checksum: bool,
    progress: Progress | None,
) -> None:
    name, data_name = names
    chunks = encode(plan.start(data_name, _NO_CHECKSUM if checksum else "").entries)
    meter = _Meter(plan.size + chunks.nbytes, progress)
    with folder.create(data_name, meter, hashed=checksum) as file:
        file.write_all(plan.content())
    if checksum:
        chunks = encode(plan.start(data_name, file.sha1()).entries)
    _write(folder, name, chunks, meter)


def _write(folder: _Folder, name: str, chunks: Chunks, meter: _Meter) -> None:
    with folder.create(name, meter) as file:
        file.write_all(chunks)


class _Meter:
    """Tells `progress` how far the writing is."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self._done = 0
        self._total = total
        self._progress = progress

    def advance(self, count: int) -> None:
        self._done += count
        if self._progress is not None:
            self._progress(self._done, self._total)


@final
class _Folder:
    """A folder in which new files are staged, then put in place together by `commit`.

    Leaving the block removes what was not put in place.
    """

    def __init__(self, path: Path, *, overwrite: bool) -> None:
        self._path = path
        self._overwrite = overwrite
        self._descriptor: int | None = None
        self._staged: list[tuple[str, str]] = []
        self._litter: set[str] = set()

    def __enter__(self) -> _Folder:
        if not self._path.is_dir():
            raise InputError(
                f"{quote(self._path)} is not a folder",
                place=str(self._path),
                hint="create the folder first, or save elsewhere",
            )
        if _BY_DESCRIPTOR:
            self._descriptor = os.open(self._path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        return self

    def __exit__(self, *_: object) -> None:
        for name in self._litter:
            with contextlib.suppress(OSError):
                os.unlink(self._at(name), dir_fd=self._descriptor)
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def check(self, name: str) -> None:
        """Refuse `name` where something stands that must not be replaced."""
        status = self._status(name)
        if status is None:
            return
        where = str(self._path / name)
        if not (stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode)):
            raise InputError(f"{quote(where)} is {kind_of(status.st_mode)}", place=where)
        if not self._overwrite:
            raise InputError(
                f"{quote(where)} exists", place=where, hint="pass overwrite=True to replace it"
            )

    def create(self, name: str, meter: _Meter, *, hashed: bool = False) -> _NewFile:
        """A new file that `commit` will put in place as `name`."""
        hidden = _hidden(name)
        number = os.open(self._at(hidden), _CREATE_FLAGS, 0o666, dir_fd=self._descriptor)
        self._litter.add(hidden)
        self._staged.append((hidden, name))
        return _NewFile(number, meter, hashed=hashed)

    def commit(self) -> None:
        """Put the staged files in place, in order; all of them, or none where that fails."""
        undo: list[Callable[[], None]] = []
        try:
            for position, (hidden, name) in enumerate(self._staged):
                self.check(name)
                existed = self._status(name) is not None
                backup = self._set_aside(name, last=position == len(self._staged) - 1)
                if backup is not None:
                    undo.append(partial(self._put_back, backup, name))
                self._rename(hidden, name)
                if not existed:
                    undo.append(partial(self._remove, name))
            self._sync()
        except BaseException:
            for step in reversed(undo):
                step()
            raise

    def _set_aside(self, name: str, *, last: bool) -> str | None:
        if self._status(name) is None:
            return None
        backup = _hidden(name)
        folder = self._descriptor
        try:
            os.link(
                self._at(name),
                self._at(backup),
                src_dir_fd=folder,
                dst_dir_fd=folder,
                follow_symlinks=os.link not in os.supports_follow_symlinks,
            )
        except OSError:
            # without hard links, only a file that another one follows is worth a gap
            if last:
                return None
            self._rename(name, backup)
        self._litter.add(backup)
        return backup

    def _put_back(self, backup: str, name: str) -> None:
        try:
            self._rename(backup, name)
        except OSError:
            self._litter.discard(backup)

    def _remove(self, name: str) -> None:
        with contextlib.suppress(OSError):
            os.unlink(self._at(name), dir_fd=self._descriptor)

    def _rename(self, old: str, new: str) -> None:
        folder = self._descriptor
        os.replace(self._at(old), self._at(new), src_dir_fd=folder, dst_dir_fd=folder)

    def _sync(self) -> None:
        if self._descriptor is not None:
            os.fsync(self._descriptor)

    def _status(self, name: str) -> os.stat_result | None:
        try:
            return os.stat(self._at(name), dir_fd=self._descriptor, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def _at(self, name: str) -> str:
        return name if self._descriptor is not None else str(self._path / name)


def _hidden(name: str) -> str:
    shown = os.fsencode(name)[:_LONGEST_SHOWN].decode("ascii", "replace").replace("\ufffd", "_")
    return f".{shown}.{secrets.token_hex(8)}.tmp"


@final
class _NewFile:
    """A new file being written; leaving the block syncs and closes it."""

    def __init__(self, number: int, meter: _Meter, *, hashed: bool) -> None:
        self._number = number
        self._meter = meter
        self._digest = hashlib.sha1(usedforsecurity=False) if hashed else None
        self._pending = bytearray()

    def __enter__(self) -> _NewFile:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None:
                self._flush()
                os.fsync(self._number)
        finally:
            os.close(self._number)

    def sha1(self) -> str:
        """SHA-1 of what was written, in hex."""
        return self._digest.hexdigest() if self._digest is not None else ""

    def write_all(self, buffers: Iterable[bytes | memoryview]) -> None:
        """Write `buffers` one after another, small ones together."""
        for buffer in buffers:
            for block in blocks(buffer):
                if len(block) >= _BUFFER:
                    self._flush()
                    self._write(block)
                else:
                    self._pending += block
                    if len(self._pending) >= _BUFFER:
                        self._flush()

    def _flush(self) -> None:
        if self._pending:
            pending, self._pending = self._pending, bytearray()
            self._write(pending)

    def _write(self, block: bytes | bytearray | memoryview) -> None:
        if self._digest is not None:
            self._digest.update(block)
        rest = memoryview(block)
        while rest.nbytes:
            rest = rest[os.write(self._number, rest) :]
        self._meter.advance(len(block))
