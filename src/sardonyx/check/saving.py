"""`save` as users call it: `sardonyx.wire.save`, with a check before anything is written."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

from sardonyx import wire

if TYPE_CHECKING:
    import os

    from sardonyx.ir.model import Model
    from sardonyx.wire.saving import Progress

__all__ = ["save"]


def save(
    model: Model,
    path: str | os.PathLike[str] | BinaryIO,
    *,
    check: bool = False,
    external_data: bool | str | None = None,
    size_threshold: int = 1024,
    checksum: bool = True,
    overwrite: bool = True,
    progress: Progress | None = None,
) -> None:
    """Write `model` to a path or a binary file object.

    A path that ends in ``.onnxtxt`` or ``.onnxtext`` gets the model as text (docs/text.md).
    Text where the path ends in ``.onnxtxt``. What stood there stays whole until the new file
    replaces it; the contract and the other arguments are those of `sardonyx.wire.save`.

    Args:
        model: what to write; weights are streamed, one tensor at a time.
        path: the file; its folder must exist. A file object gets the model in one piece.
        check: whether to validate the model first (`sardonyx.check`), and write nothing where
            it has errors: for models that were edited or built.
        external_data: where weights go: True into ``<name of the file>.data``, a str into the
            file of that name, False into the model, None into the model unless it gets too large.
        size_threshold: bytes from which a tensor goes into the data file.
        checksum: whether each external tensor states the data file's SHA-1.
        overwrite: whether existing files may be replaced.
        progress: called with bytes written so far and in all.

    Raises:
        CheckError: `check` is given, and the model has errors.
        InputError: the place cannot be written, or is not a place for a file.
        ExternalDataError: weights that the model refers to cannot be read.
    """
    if check:
        from sardonyx.check.driver import validate

        validate(model).raise_errors()
    wire.save(
        model,
        path,
        external_data=external_data,
        size_threshold=size_threshold,
        checksum=checksum,
        overwrite=overwrite,
        progress=progress,
    )
