"""`load`: a model from a path, bytes or a file object; `parse`: from its text."""

from __future__ import annotations

import difflib
import itertools
import mmap
import os
from pathlib import Path
from typing import TYPE_CHECKING

from sardonyx.errors import DecodeError, InputError, SardonyxError, quote
from sardonyx.limits import DEFAULT
from sardonyx.wire.decode import DecodeContext, decode_model
from sardonyx.wire.external import ExternalReader, detached
from sardonyx.wire.source import FileSource

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sardonyx.ir import Model
    from sardonyx.limits import Limits
    from sardonyx.wire.source import ModelSource

__all__ = ["is_text_path", "load", "parse"]

MAPPED_FROM = 16 << 20
"""Size in bytes from which a file is mapped; a smaller one is read."""

_NEIGHBOURS = 10_000
_TEXT_SUFFIXES = (".onnxtxt", ".onnxtext")


def is_text_path(path: str | os.PathLike[str]) -> bool:
    """Whether the file's name says that it holds text."""
    return os.fspath(path).lower().endswith(_TEXT_SUFFIXES)


def load(
    source: ModelSource,
    *,
    limits: Limits = DEFAULT,
    allowed_roots: Sequence[str | os.PathLike[str]] = (),
) -> Model:
    """Read a model from a path, bytes or a binary file object.

    A path that ends in ``.onnxtxt`` or ``.onnxtext`` leads to text (docs/text.md). A large file
    is mapped: weights are read when they are needed, external data from files beside it, and
    the file must not be truncated while the model is used (replacing it is harmless). From
    bytes or a file object there is no folder: external tensors have no data.

    Args:
        source: where the model is.
        limits: what opening may cost.
        allowed_roots: folders into which links of external data may lead; without them every
            symbolic or hard link is refused.

    Raises:
        InputError: the file is missing or cannot be read.
        DecodeError: the bytes are not an ONNX model.
        TextError: the text is not in the textual syntax.
        ExternalDataError: a data file is missing, unsafe or too short.
        LimitError: a bound of `limits` is exceeded.
    """
    if not isinstance(source, (str, os.PathLike)):
        return decode_model(_content(source), context=DecodeContext(limits=limits))
    file = _open_model(source)
    folder = Path(file.path).absolute().parent
    reader = ExternalReader(folder, allowed_roots, limits)
    context = DecodeContext(limits=limits, external=reader, source=file)
    try:
        if is_text_path(file.path):
            from sardonyx.ir.text import parse as parse_text

            model = parse_text(_text(file), limits=limits, external=reader.tensor)
            model.source = file
            return model
        small = file.size < MAPPED_FROM
        return decode_model(file.read(0, file.size) if small else file.view(), context=context)
    except SardonyxError as error:
        raise error.at(file.path) from error.__cause__


def parse(text: str, *, limits: Limits = DEFAULT) -> Model:
    """The model whose text is `text` (docs/text.md). External tensors have no data.

    Raises:
        TextError: the text is not in the textual syntax; it has the line and column.
        LimitError: a bound of `limits` is exceeded.
    """
    from sardonyx.ir.text import parse as parse_text

    return parse_text(text, limits=limits, external=detached)


def _text(file: FileSource) -> str:
    try:
        return file.read(0, file.size).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DecodeError(
            "the text is not UTF-8",
            offset=error.start,
            hint="save the text as UTF-8; a file in ONNX's binary format is called .onnx",
        ) from None


def _content(source: object) -> bytes | memoryview:
    if isinstance(source, bytes):
        return source
    if isinstance(source, (bytearray, memoryview, mmap.mmap)):
        view = memoryview(source)
        return view.cast("B") if view.readonly and view.c_contiguous else view.tobytes()
    read = getattr(source, "read", None)
    if read is None:
        raise InputError(
            f"a model cannot be loaded from {type(source).__name__}",
            hint="pass a path, bytes, or a file opened in binary mode",
        )
    content = read()
    if not isinstance(content, bytes):
        raise InputError(
            f"the file object gave {type(content).__name__}, not bytes",
            hint='open the file in binary mode: open(path, "rb")',
        )
    return content


def _open_model(path: str | os.PathLike[str]) -> FileSource:
    name = os.fspath(path)
    try:
        return FileSource.open(name)
    except FileNotFoundError as error:
        raise InputError(
            f"no such file: {quote(name)}", place=name, hint=_suggestion(name)
        ) from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise InputError(f"cannot open {quote(name)}: {reason}", place=name) from error


def _suggestion(path: str) -> str | None:
    folder, name = os.path.split(path)
    try:
        with os.scandir(folder or ".") as entries:
            names = [entry.name for entry in itertools.islice(entries, _NEIGHBOURS)]
    except OSError:
        return f"the folder {quote(folder)} does not exist either" if folder else None
    close = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {quote(os.path.join(folder, close[0]))}?" if close else None  # noqa: PTH118
