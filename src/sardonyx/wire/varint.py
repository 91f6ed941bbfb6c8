"""Variable-length integers: seven bits a byte, least significant first (protobuf, Encoding)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["count_varints", "decode_varints", "encode_varint", "encode_varints", "signed"]

_SMALL = [bytes([number]) for number in range(128)]
_BITS = 64
_MASK = (1 << _BITS) - 1


def encode_varint(number: int) -> bytes:
    """`number`, -2^63 to 2^64 - 1, as a varint; negative numbers take ten bytes."""
    if 0 <= number < 128:
        return _SMALL[number]
    number &= _MASK
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def signed(number: int) -> int:
    """The int64 with the bits of the uint64 `number`."""
    return number - (1 << 64) if number >> 63 else number


def count_varints(data: npt.NDArray[np.uint8]) -> int:
    """How many varints end in `data`."""
    return int(np.count_nonzero(data < 128))


def decode_varints(data: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint64] | None:
    """The integers of `data`; None where one is unfinished or takes more than 10 bytes."""
    if data.size == 0:
        return np.zeros(0, np.uint64)
    last = np.flatnonzero(data < 128)
    if last.size == 0 or last[-1] != data.size - 1:
        return None
    first = np.empty_like(last)
    first[0] = 0
    first[1:] = last[:-1] + 1
    numbers = (data[first] & 127).astype(np.uint64)
    sizes = last - first + 1
    longest = int(sizes.max())
    if longest > 10:
        return None
    longer = np.flatnonzero(sizes > 1)
    for k in range(1, longest):
        longer = longer[sizes[longer] > k]
        part = (data[first[longer] + k] & 127).astype(np.uint64)
        numbers[longer] |= part << np.uint64(7 * k)
    return numbers


def encode_varints(numbers: npt.NDArray[Any]) -> bytes:
    """Integers of any NumPy integer type, as varints one after another."""
    if numbers.size == 0:
        return b""
    if numbers.dtype.kind == "i":
        numbers = numbers.astype(np.int64)
    rest = numbers.reshape(-1).astype(np.uint64)
    columns = []
    while True:
        columns.append((rest & np.uint64(127)).astype(np.uint8))
        rest >>= np.uint64(7)
        if not rest.any():
            break
    table = np.stack(columns, axis=1)
    size = len(columns)
    used = table != 0
    lengths = np.where(used.any(axis=1), size - np.argmax(used[:, ::-1], axis=1), 1)
    place = np.arange(size)
    table |= np.where(place < lengths[:, None] - 1, np.uint8(128), np.uint8(0))
    return table[place < lengths[:, None]].tobytes()
