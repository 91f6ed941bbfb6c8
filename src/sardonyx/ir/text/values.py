"""The elements of tensors as text: lists of numbers, or hex and base64 of raw_data."""

from __future__ import annotations

import base64
import binascii
import math
import re
import struct
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from sardonyx import dtypes
from sardonyx.errors import quote
from sardonyx.ir.tensor import ArrayTensor, RawTensor
from sardonyx.ir.text.words import quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from sardonyx.dtypes import DType
    from sardonyx.ir.tensor import Array, Tensor
    from sardonyx.ir.text.scanner import Scanner

__all__ = [
    "ELIDED",
    "float_text",
    "parse_data",
    "parse_float",
    "parse_plain_numbers",
    "parse_values",
    "written_values",
]

ELIDED: Final = "the values were left out when this text was written"
ELIDED_HINT: Final = "write it with weights='full' to read it back"

_LISTED: Final = 1024
_SHOWN: Final = 16
_HEXED: Final = 64
_LINE: Final = 96
_BLOCK: Final = 1 << 20
_NUMBERS = re.compile(r"[-+0-9eE., \t\n\r\f\vinfatyINFATY]*")
_PLAIN_LIST = re.compile(r"[-+0-9eE., \t\n\r]*")
_FLOAT_SIGNS = re.compile(r"[.eEnN]")
_CLOSING = re.compile("[}#]")
_SPACES: Final = b" \t\n\r\f\v"


def float_text(value: float) -> str:
    """The shortest number that reads back as `value`, which is a float32 and not NaN."""
    return str(np.float32(value))


def written_values(tensor: Tensor, indent: str, *, elided: bool) -> str:
    """The elements of `tensor`: ``{1, 2}``, ``hex"..."``, ``base64"..."``.

    With `elided`, more than a few elements are only counted, and elements of small types are
    written as the numbers that they are, not as the standard's bit patterns.
    """
    dtype = tensor.dtype
    if elided and tensor.size > _SHOWN:
        return f"<{tensor.size} {dtype.text} values>"
    if dtype is dtypes.STRING:
        return _braced([quoted(_as_text(item)) for item in tensor.numpy().reshape(-1)], indent)
    if tensor.size <= _LISTED:
        items = _shown_items(tensor) if elided else _items(tensor)
        if items is not None:
            return _braced(items, indent)
    raw = tensor.raw()
    if len(raw) <= _HEXED:
        return f'hex"{bytes(raw).hex()}"'
    text = base64.b64encode(raw).decode("ascii")
    if len(text) <= _LINE:
        return f'base64"{text}"'
    lines = [text[place : place + _LINE] for place in range(0, len(text), _LINE)]
    between = "\n" + indent + "   "
    return f'base64"{between}{between.join(lines)}"'


def _as_text(item: Any) -> str | bytes:
    return item if isinstance(item, (str, bytes)) else str(item)


def _braced(items: list[str], indent: str) -> str:
    text = ", ".join(items)
    if len(text) <= _LINE:
        return "{" + text + "}"
    lines = [""]
    for item in items:
        if lines[-1] and len(lines[-1]) + len(item) + 2 > _LINE:
            lines.append("")
        lines[-1] += ("" if not lines[-1] else " ") + item + ","
    between = "\n" + indent + "   "
    return "{" + between + between.join(lines)[:-1] + "\n" + indent + "}"


def _items(tensor: Tensor) -> list[str] | None:
    """The list that the standard's syntax has; None where a list would not be exact."""
    dtype = tensor.dtype
    if dtype.bits in {2, 4}:
        return [str(byte) for byte in dtypes.pack(tensor.numpy(), dtype)]
    array = np.ascontiguousarray(tensor.numpy()).reshape(-1)
    if dtype.kind == "bool":
        codes = array.view(np.uint8)
        return None if (codes > 1).any() else [str(code) for code in codes.tolist()]
    if dtype.is_integer:
        return [str(item) for item in array.tolist()]
    if dtype.kind == "complex":
        array = array.view(np.float32 if dtype is dtypes.COMPLEX64 else np.float64)
    elif dtype not in {dtypes.FLOAT, dtypes.DOUBLE}:
        codes = array.view(f"u{dtype.itemsize}")
        return [str(code) for code in (codes & 0x3F if dtype.bits == 6 else codes).tolist()]
    texts = _float_texts(array)
    again = np.array(list(map(float, texts)), np.float64).astype(array.dtype)
    return texts if again.tobytes() == array.tobytes() else None


def _shown_items(tensor: Tensor) -> list[str] | None:
    dtype = tensor.dtype
    if dtype.bits <= 16 and dtype.is_floating:
        return [repr(float(item)) for item in tensor.numpy().reshape(-1)]
    if dtype.is_packed:
        return [str(int(item)) for item in tensor.numpy().reshape(-1)]
    return _items(tensor)


def _float_texts(array: Array) -> list[str]:
    """The shortest texts of float32 or float64 values; NaN with its sign, without a payload."""
    texts = [str(item) for item in array]
    for place in np.flatnonzero(np.isnan(array)).tolist():
        texts[place] = "-nan" if np.signbit(array[place]) else "nan"
    return texts


def parse_float(text: str) -> float | None:
    """The number `text` as float32 holds it; None where it is no number or does not fit."""
    try:
        number = float(text)
        fitted: float = struct.unpack("<f", struct.pack("<f", number))[0]
    except (ValueError, OverflowError):
        return None
    return None if math.isinf(fitted) and "inf" not in text.lower() else fitted


def parse_plain_numbers(
    scanner: Scanner, *, as_floats: bool
) -> tuple[int, ...] | tuple[float, ...] | None:
    """The numbers of the list whose ``[`` is the current token; then its ``]`` is current.

    None, and nothing is read, where it holds anything but finite numbers that fit.
    """
    found = _PLAIN_LIST.match(scanner.text, scanner.end)
    if found is None or not scanner.text.startswith("]", found.end()):
        return None
    parts = found[0].split(",")
    numbers: tuple[int, ...] | tuple[float, ...]
    try:
        if as_floats or _FLOAT_SIGNS.search(found[0]):
            layout = f"<{len(parts)}f"
            numbers = struct.unpack(layout, struct.pack(layout, *map(float, parts)))
            fits = not any(map(math.isinf, numbers))
        else:
            numbers = tuple(map(int, parts))
            fits = min(numbers) >= -(1 << 63) and max(numbers) < 1 << 63
    except (ValueError, OverflowError):
        return None
    if not fits:
        return None
    scanner.jump(found.end())
    return numbers


def parse_values(scanner: Scanner, dtype: DType, shape: Sequence[int], name: str) -> Tensor:
    """The tensor whose elements begin at the current token."""
    size = math.prod(shape)
    if scanner.kind == "{":
        if dtype is dtypes.STRING:
            return ArrayTensor(_parse_strings(scanner, size).reshape(tuple(shape)), dtype, name)
        start = scanner.start
        array = _parse_numbers(scanner, dtype, size, start)
        return ArrayTensor(array.reshape(tuple(shape)), dtype, name)
    if scanner.kind == "<":
        raise scanner.error(ELIDED, hint=ELIDED_HINT)
    if scanner.kind not in {"hex", "base64"}:
        raise scanner.unexpected('the values of a tensor: {...}, hex"..." or base64"..."')
    place = scanner.start
    if dtype is dtypes.STRING:
        raise scanner.error("strings are written as a list", place)
    data = parse_data(scanner)
    if len(data) != dtype.nbytes(size):
        raise scanner.error(
            f"{dtype.text}{list(shape)} takes {dtype.nbytes(size)} bytes, {len(data)} are there",
            place,
        )
    return RawTensor(data, dtype, shape, name)


def parse_data(scanner: Scanner) -> bytes:
    """Step over ``hex"..."`` or ``base64"..."``."""
    kind, place = scanner.kind, scanner.start
    if kind == "<":
        raise scanner.error(ELIDED, hint=ELIDED_HINT)
    if kind not in {"hex", "base64"}:
        raise scanner.unexpected('hex"..." or base64"..."')
    try:
        packed = scanner.value.encode("ascii").translate(None, _SPACES)
        data = (
            binascii.unhexlify(packed) if kind == "hex" else base64.b64decode(packed, validate=True)
        )
    except ValueError as error:
        raise scanner.error(f"malformed {kind}: {error}", place) from None
    scanner.advance()
    return data


def _parse_strings(scanner: Scanner, size: int) -> Array:
    place = scanner.start
    scanner.expect("{")
    found: list[str] = []
    if not scanner.accept("}"):
        found.append(scanner.string())
        while scanner.accept(","):
            found.append(scanner.string())
        scanner.expect("}", "',' or '}'")
    if len(found) != size:
        raise scanner.error(f"{size} values are needed, {len(found)} are there", place)
    strings = np.empty(size, np.object_)
    strings[:] = found
    return strings


def _parse_numbers(scanner: Scanner, dtype: DType, size: int, start: int) -> Array:
    """The numbers between the current token, which is ``{``, and its ``}``."""
    body, end = _body(scanner)
    if not _NUMBERS.fullmatch(body):
        found = _NUMBERS.match(body)
        where = found.end() if found else 0
        at = scanner.end + where if end == scanner.end + len(body) + 1 else start
        raise scanner.error(f"unexpected character {quote(body[where])} among numbers", at)
    count = body.count(",") + 1 if body.strip() else 0
    needed = 2 * size if dtype.kind == "complex" else size
    packed = dtype.nbytes(size) if dtype.bits in {2, 4} else needed
    if count not in {needed, packed}:
        raise scanner.error(f"{needed} values are needed, {count} are there", start)
    if not count:
        array = np.empty(0, dtype.numpy)
    elif dtype.kind in {"float", "complex"} and (dtype.bits >= 32 or _FLOAT_SIGNS.search(body)):
        array = _floats(scanner, body, dtype, start)
    else:
        array = _integers(scanner, body, dtype, start, size, is_packed=count < size)
    scanner.jump(end)
    return array


def _body(scanner: Scanner) -> tuple[str, int]:
    """What stands before the closing brace, comments aside, and where that ends."""
    text, place = scanner.text, scanner.end
    pieces = []
    while True:
        found = _CLOSING.search(text, place)
        if found is None:
            raise scanner.error("a list without its closing '}'")
        pieces.append(text[place : found.start()])
        if found[0] == "}":
            return "".join(pieces), found.end()
        line_end = text.find("\n", found.end())
        place = len(text) if line_end < 0 else line_end


def _blocks(body: str) -> Iterator[list[str]]:
    """The parts of `body` between commas, some at a time, so that few exist at once."""
    start = 0
    while start <= len(body):
        stop = body.find(",", start + _BLOCK)
        stop = len(body) if stop < 0 else stop
        yield body[start:stop].split(",")
        start = stop + 1


def _block(
    scanner: Scanner,
    parts: list[str],
    read: Callable[[str], float],
    storage: np.dtype[Any],
    dtype: DType,
    start: int,
) -> Array:
    try:
        return np.array(list(map(read, parts)), storage)
    except (ValueError, OverflowError):
        raise _bad_number(scanner, parts, storage, dtype, start) from None


def _integers(
    scanner: Scanner, body: str, dtype: DType, start: int, size: int, *, is_packed: bool
) -> Array:
    """Integers, bit patterns of small floats, or the bytes that hold packed elements."""
    storage: np.dtype[Any]
    if is_packed:
        storage = np.dtype(np.uint8)
    elif dtype.is_packed:
        storage = np.dtype(np.int8)
    elif dtype.is_integer:
        storage = dtype.numpy
    else:
        storage = np.dtype(f"u{dtype.itemsize}")
    blocks = [_block(scanner, parts, int, storage, dtype, start) for parts in _blocks(body)]
    values = np.concatenate(blocks)
    if is_packed:
        return dtypes.unpack(values.tobytes(), dtype, size)
    if dtype.is_packed:
        return _unpacked(scanner, values, dtype, start)
    if dtype.kind == "bool" and values.max() > 1:
        raise scanner.error("a bool is 0 or 1", start)
    return values.view(dtype.numpy)


def _unpacked(scanner: Scanner, values: Array, dtype: DType, start: int) -> Array:
    """Elements of 2, 4 or 6 bits from integers: numbers, or bit patterns of floats."""
    signed = dtype.kind == "int"
    half = 1 << (dtype.bits - 1)
    least = -half if signed else 0
    # a single element is also the byte that holds it
    most = half - 1 if signed and values.size > 1 else 2 * half - 1
    if values.min() < least or values.max() > most:
        raise scanner.error(f"{dtype.text} takes numbers from {least} to {most}", start)
    if signed:
        values = np.where(values >= half, values - 2 * half, values).astype(np.int8)
    return values.view(dtype.numpy)


def _floats(scanner: Scanner, body: str, dtype: DType, start: int) -> Array:
    part = dtype.numpy
    if dtype.kind == "complex":
        part = np.dtype(np.float32 if dtype is dtypes.COMPLEX64 else np.float64)
    blocks: list[Array] = []
    for parts in _blocks(body):
        wide = _block(scanner, parts, float, np.dtype(np.float64), dtype, start)
        with np.errstate(over="ignore", invalid="ignore"):
            block = wide.astype(part)
        if not np.isfinite(wide).all() or not np.isfinite(block.astype(np.float64)).all():
            for place in np.flatnonzero(~np.isfinite(block.astype(np.float64))).tolist():
                if not re.search("[nN]", parts[place]):
                    text = quote(parts[place].strip())
                    raise scanner.error(f"{text} does not fit {dtype.text}", start)
        blocks.append(block)
    return np.concatenate(blocks).view(dtype.numpy)


def _bad_number(
    scanner: Scanner, parts: list[str], storage: np.dtype[Any], dtype: DType, start: int
) -> Exception:
    for part in parts:
        problem = _problem(part, storage)
        if problem == "fit":
            return scanner.error(f"{quote(part.strip())} does not fit {dtype.text}", start)
        if problem:
            return scanner.error(f"expected {problem}, found {quote(part.strip())}", start)
    return scanner.error("malformed numbers", start)


def _problem(text: str, storage: np.dtype[Any]) -> str:
    """What stands against `text` as a number: what is expected, or that it does not ``fit``."""
    is_float = storage.kind == "f"
    try:
        np.array([float(text) if is_float else int(text)], storage)
    except ValueError:
        return "a number" if is_float else "an integer"
    except OverflowError:
        return "fit"
    return ""
