"""Writing messages: fields as bytes, and long messages as pieces that are not copied."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, TypeAlias

from sardonyx.errors import ModelError, quote
from sardonyx.wire.varint import encode_varint

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from sardonyx.ir.tensor import Tensor

__all__ = [
    "Chunks",
    "Piece",
    "TensorPiece",
    "bytes_field",
    "encode_prose",
    "encode_text",
    "float_bytes",
    "header",
    "int_field",
    "text_field",
]

_HEADERS = {
    (number, small): encode_varint(number * 8 + 2) + encode_varint(small)
    for number in range(27)
    for small in range(128)
}


class TensorPiece:
    """The data of one tensor, read only when it is written: `nbytes` of them."""

    __slots__ = ("nbytes", "tensor")

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor
        self.nbytes = tensor.nbytes

    def raw(self) -> bytes | memoryview:
        """The bytes; `ModelError` where the tensor gives another number of them."""
        data = self.tensor.raw()
        if len(data) != self.nbytes:
            raise ModelError(f"{self.tensor!r} gives {len(data)} bytes, not {self.nbytes}")
        return data


Piece: TypeAlias = bytes | memoryview | TensorPiece


class Chunks:
    """An encoded message in `pieces`, `nbytes` bytes in all; big tensors are not copied."""

    __slots__ = ("nbytes", "pieces")

    def __init__(self, pieces: Iterable[Piece] = ()) -> None:
        self.pieces: list[Piece] = list(pieces)
        self.nbytes = sum(
            len(piece) if isinstance(piece, bytes) else piece.nbytes for piece in self.pieces
        )

    def __len__(self) -> int:
        return self.nbytes

    def __iter__(self) -> Iterator[bytes | memoryview]:
        """The content, piece by piece; a tensor's data is read when its turn comes."""
        for piece in self.pieces:
            yield piece.raw() if isinstance(piece, TensorPiece) else piece

    def tobytes(self) -> bytes:
        """The message in one piece."""
        return b"".join(self)

    def add(self, piece: bytes) -> None:
        """Append bytes that are copied already."""
        if piece:
            self.pieces.append(piece)
            self.nbytes += len(piece)

    def add_data(self, number: int, piece: Piece) -> None:
        """Append field `number` with `piece` as its payload."""
        size = len(piece) if isinstance(piece, bytes) else piece.nbytes
        self.pieces.append(header(number, size))
        self.pieces.append(piece)
        self.nbytes += len(self.pieces[-2]) + size  # type: ignore[arg-type]

    def add_message(self, number: int, inner: Chunks) -> None:
        """Append field `number` with the message `inner` as its payload."""
        start = header(number, inner.nbytes)
        self.pieces.append(start)
        self.pieces += inner.pieces
        self.nbytes += len(start) + inner.nbytes

    def settle(self) -> Chunks:
        """Join the small pieces that follow one another; returns itself."""
        joined: list[Piece] = []
        small: list[bytes] = []
        for piece in self.pieces:
            if isinstance(piece, bytes):
                small.append(piece)
                continue
            if small:
                joined.append(b"".join(small))
                small = []
            joined.append(piece)
        if small:
            joined.append(b"".join(small))
        self.pieces = joined
        return self


def header(number: int, size: int) -> bytes:
    """Tag and length of a field of `size` bytes."""
    found = _HEADERS.get((number, size))
    return encode_varint(number * 8 + 2) + encode_varint(size) if found is None else found


def bytes_field(number: int, payload: bytes) -> bytes:
    """A field of bytes or of an encoded message, written even where empty."""
    return header(number, len(payload)) + payload


def int_field(number: int, value: int) -> bytes:
    """An integer field."""
    if not -(1 << 63) <= value < 1 << 64:
        raise ModelError(f"{value} does not fit 64 bits")
    return encode_varint(number * 8) + encode_varint(value)


def encode_text(text: str) -> bytes:
    """A name as UTF-8; `ModelError` where it has lone surrogates."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise ModelError(f"the name {quote(text)} cannot be written as UTF-8") from None


def encode_prose(text: str) -> bytes:
    """Text as UTF-8; bytes that were read as surrogates become what they were."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise ModelError(f"the text {quote(text)} cannot be written as UTF-8") from None


def text_field(number: int, text: str) -> bytes:
    """A field of text; empty text is not written."""
    return bytes_field(number, encode_prose(text)) if text else b""


def float_bytes(values: Iterable[float]) -> list[bytes]:
    """Each value as a little-endian float32."""
    try:
        return [struct.pack("<f", value) for value in values]
    except (OverflowError, struct.error) as error:
        raise ModelError(f"a float attribute that float32 cannot hold: {error}") from None
