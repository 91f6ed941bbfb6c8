"""What a user writes after ``--input NAME=``, as the value that the input takes."""

from __future__ import annotations

import difflib
import json
import math
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sardonyx import dtypes
from sardonyx.cli.images import SUFFIXES, Pixels, read_image
from sardonyx.errors import InputError, SardonyxError, quote
from sardonyx.ir.types import (
    MapType,
    OptionalType,
    SequenceType,
    SparseTensorType,
    TensorType,
    Type,
)
from sardonyx.limits import DEFAULT, Limits, exceeded

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sardonyx.dtypes import DType
    from sardonyx.ir.tensor import Array

    Shape = Sequence[int | None] | None

__all__ = ["Reader", "missing_file", "read_arrays"]

_FILES = frozenset({".npy", ".npz", ".pb"})


def missing_file(path: str) -> InputError:
    """The error for a file that is not there, with the name in its folder that is closest."""
    folder = Path(path).parent
    try:
        names = [entry.name for entry in folder.iterdir()]
    except OSError:
        return InputError(
            f"no such file: {quote(path)}",
            hint=f"the folder {quote(str(folder))} does not exist either",
        )
    close = difflib.get_close_matches(Path(path).name, names, n=1)
    return InputError(
        f"no such file: {quote(path)}",
        hint=f"did you mean {quote(str(folder / close[0]))}?" if close else None,
    )


@dataclass
class Reader:
    """Reads values for inputs; `notes` collects what the user should know of how."""

    pixels: Pixels = field(default_factory=Pixels)
    limits: Limits = DEFAULT
    notes: list[str] = field(default_factory=list)

    def read(self, name: str, text: str, expected: Type | None, shape: Shape) -> Any:
        """The value that `text` gives the input `name`.

        `text` is a file (.npy, .npz with an optional ``:member``, .pb, a picture) or the value
        itself. `shape` is the input's, as far as it is fixed; None is an unknown rank.
        """
        if isinstance(expected, OptionalType):
            if text == "none":
                return None
            return self.read(name, text, expected.element, shape)
        suffix = _suffix(text)
        if suffix in _FILES or suffix in SUFFIXES:
            path = text if Path(text).exists() else _without_member(text)
            if not Path(path).exists():
                raise missing_file(path)
        else:
            suffix = ""
        if isinstance(expected, (SequenceType, MapType)):
            return self._container(name, text, expected, suffix)
        dtype = expected.dtype if isinstance(expected, (TensorType, SparseTensorType)) else None
        if suffix in SUFFIXES:
            return read_image(text, name, shape or (), dtype or dtypes.FLOAT, self.pixels)
        if suffix:
            return self._converted(name, self._from_file(name, text, suffix), dtype)
        if dtype is dtypes.STRING:
            return _shaped(name, _strings(text), shape)
        return _shaped(name, _numbers(name, text, dtype), shape)

    def _from_file(self, name: str, text: str, suffix: str) -> Array:
        if suffix == ".npy":
            return read_arrays(text, self.limits)[""]
        if suffix == ".npz":
            path, _, member = text.partition(".npz:")
            arrays = read_arrays(path if not member else f"{path}.npz", self.limits)
            return _member(text, arrays, member, name)
        from sardonyx.wire import decode_tensor

        try:
            return decode_tensor(Path(text).read_bytes()).read()
        except OSError as error:
            raise InputError(f"cannot read {quote(text)}: {error.strerror}") from None
        except SardonyxError as error:
            raise error.at(text)  # noqa: B904

    def _container(self, name: str, text: str, expected: Type, suffix: str) -> Any:
        if suffix == ".pb":
            from sardonyx.wire import decode_sequence

            try:
                return decode_sequence(Path(text).read_bytes())
            except SardonyxError as error:
                raise error.at(text)  # noqa: B904
        if suffix == ".npz" and isinstance(expected, SequenceType):
            arrays = read_arrays(text, self.limits)
            element = expected.element
            dtype = element.dtype if isinstance(element, TensorType) else None
            return [self._converted(name, array, dtype) for array in arrays.values()]
        try:
            parsed = json.loads(text)
        except (ValueError, RecursionError):
            parsed = None
        if isinstance(expected, MapType) and isinstance(parsed, dict):
            is_text = expected.key is dtypes.STRING
            return {key if is_text else int(key): value for key, value in parsed.items()}
        if isinstance(expected, SequenceType) and isinstance(parsed, list):
            return parsed
        kinds = (
            "a .pb or .npz file or a JSON list" if isinstance(expected, SequenceType) else "JSON"
        )
        raise InputError(f"input {quote(name)} is {expected}", hint=f"give it {kinds}")

    def _converted(self, name: str, array: Array, dtype: DType | None) -> Array:
        """`array` in `dtype` where no value changes but for rounding."""
        if dtype is None or array.dtype == dtype.numpy or dtype is dtypes.STRING:
            return array
        if array.dtype.kind == "V" and array.dtype.itemsize == dtype.itemsize:
            viewed: Array = array.view(dtype.numpy)
            return viewed
        given = array.dtype
        if given.kind not in "biuf" or dtype.kind not in {"float", "int", "uint"}:
            return array
        if given.kind == "f" and not dtype.is_floating:
            return array
        with np.errstate(all="ignore"):
            result: Array = array.astype(dtype.numpy)
        if dtype.is_integer and not np.array_equal(result.astype(given), array):
            raise InputError(f"input {quote(name)} is {dtype.text}, which cannot hold its {given}")
        self.notes.append(f"{name}: {given} was converted to {dtype.text}")
        return result


def _suffix(text: str) -> str:
    return Path(_without_member(text)).suffix.lower() if "\0" not in text else ""


def _without_member(text: str) -> str:
    head, found, _ = text.partition(".npz:")
    return f"{head}.npz" if found else text


def read_arrays(path: str, limits: Limits = DEFAULT) -> dict[str, Array]:
    """The arrays of an .npz file by name, or of an .npy file under the empty name.

    Object arrays, which would have to be unpickled, are refused; sizes are checked first.
    """
    try:
        with Path(path).open("rb") as file:
            if path.lower().endswith(".npy"):
                return {"": _read_array(file, path, limits)}
            with zipfile.ZipFile(file) as archive:
                found = {}
                for member in archive.namelist():
                    with archive.open(member) as part:
                        place = f"{path}:{member}"
                        found[member.removesuffix(".npy")] = _read_array(part, place, limits)
                return found
    except FileNotFoundError:
        raise missing_file(path) from None
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"cannot read {quote(path)}: {reason}") from None
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise SardonyxError(f"{quote(path)} is no .npz file: {error}") from None


def _read_array(file: Any, place: str, limits: Limits) -> Array:
    try:
        version = np.lib.format.read_magic(file)
        read = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }.get(version)
        if read is None:
            raise ValueError(f"version {version} of the format is unknown")
        shape, is_fortran, dtype = read(file)
        if dtype.hasobject:
            raise ValueError("it holds Python objects, which are not read from files")
        needed = math.prod(shape) * dtype.itemsize
        if needed > limits.tensor_bytes:
            raise exceeded("tensor_bytes", limits.tensor_bytes, needed).at(place)
        content = bytearray()
        while len(content) < needed:
            block = file.read(min(needed - len(content), 1 << 24))
            if not block:
                raise ValueError(f"it ends after {len(content)} of {needed} bytes")
            content += block
        array: Array = np.frombuffer(content, dtype, count=math.prod(shape))
        return array.reshape(shape, order="F" if is_fortran else "C")
    except (ValueError, TypeError, EOFError) as error:
        reason = str(error).partition("\n")[0]
        raise SardonyxError(f"{quote(place)} is no NumPy array: {reason}") from None


def _member(text: str, arrays: dict[str, Array], member: str, name: str) -> Array:
    wanted = member or (name if name in arrays else "")
    if wanted in arrays:
        return arrays[wanted]
    if len(arrays) == 1 and not member:
        return next(iter(arrays.values()))
    listed = ", ".join(quote(key) for key in arrays)
    raise InputError(
        f"{quote(text)} has no array {quote(member or name)}",
        hint=f"write FILE.npz:NAME; it has {listed}",
    )


def _strings(text: str) -> Array:
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError):
        parsed = text
    if not isinstance(parsed, (list, str)):
        parsed = text
    array = np.asarray(parsed, dtype=object)
    if not all(isinstance(item, str) for item in array.reshape(-1)):
        raise InputError("a string input takes text or a JSON list of strings")
    return array


def _numbers(name: str, text: str, dtype: DType | None) -> Array:
    parsed = _parse_numbers(text)
    if parsed is None:
        raise InputError(
            f"input {quote(name)}: {quote(text)} is neither a file that can be read nor numbers",
            hint="files are .npy, .npz, .pb and pictures; numbers look like 1,2,3 or [[1,2],[3,4]]",
        )
    try:
        array: Array = np.asarray(parsed)
    except ValueError:
        raise InputError(
            f"input {quote(name)}: the rows of {quote(text)} differ in length"
        ) from None
    if array.dtype.kind not in "biufc":
        raise InputError(f"input {quote(name)}: {quote(text)} is not numbers")
    if array.dtype.kind == "c" and dtype is not None and dtype.kind != "complex":
        raise InputError(f"input {quote(name)} is {dtype.text}, which cannot hold {quote(text)}")
    if dtype is None:
        return array
    with np.errstate(all="ignore"):
        result: Array = array.astype(dtype.numpy)
    if dtype.is_integer and not np.array_equal(result.astype(array.dtype), array):
        raise InputError(f"input {quote(name)} is {dtype.text}, which cannot hold {quote(text)}")
    return result


def _parse_numbers(text: str) -> Any:
    for candidate in (text, f"[{text}]"):
        try:
            parsed = json.loads(candidate)
        except (ValueError, RecursionError):
            continue
        if isinstance(parsed, (list, int, float)):
            return parsed
    parts = text.replace(",", " ").split()
    return _each(int, parts) or _each(float, parts) or _each(complex, parts)


def _each(kind: Callable[[str], Any], parts: Sequence[str]) -> list[Any] | None:
    try:
        return [kind(part) for part in parts]
    except ValueError:
        return None


def _shaped(name: str, array: Array, shape: Shape) -> Array:
    """`array` in the declared `shape`, where its number of elements tells how."""
    if shape is None or array.ndim == len(shape):
        return array
    fixed = math.prod(dim for dim in shape if dim is not None)
    n_open = sum(dim is None for dim in shape)
    fits = array.size == fixed if not n_open else fixed and array.size % fixed == 0
    if not fits:
        wanted = ", ".join("?" if dim is None else str(dim) for dim in shape)
        raise InputError(
            f"input {quote(name)} is [{wanted}], got {array.size} values of shape "
            f"{list(array.shape)}"
        )
    target = []
    for dim in shape:
        if dim is None:
            n_open -= 1
            dim = 1 if n_open else array.size // fixed
        target.append(dim)
    return array.reshape(target)
