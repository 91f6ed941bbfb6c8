"""Weights from files, for modules on the meta device, without reading them before they are used."""

from __future__ import annotations

import json
import struct
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from torch._subclasses.fake_tensor import FakeTensor

from sardonyx.errors import ExportError, quote

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping

__all__ = ["has_data", "loaded", "with_weights"]

_SHOWN: Final = 5
_LARGEST_HEADER: Final = 100_000_000
_SAFE_DTYPES: Final = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8,
    "U64": torch.uint64, "U32": torch.uint32, "U16": torch.uint16, "U8": torch.uint8,
    "BOOL": torch.bool, "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2,
}  # fmt: skip


def has_data(tensor: Any) -> bool:
    """Whether a tensor holds numbers: neither on the meta device nor a fake."""
    return tensor.device.type != "meta" and not isinstance(tensor, FakeTensor)


@contextmanager
def with_weights(module: Any, weights: Any) -> Iterator[None]:
    """Within the block the tensors of `module` that hold no data are those of `weights`.

    `weights` is None, a state dict, or a path as `loaded` takes it. `ExportError` lists what is
    missing and what does not fit.
    """
    slots = list(_slots(module))
    empty = [slot for slot in slots if not has_data(slot[3])]
    if not empty:
        yield
        return
    if weights is None:
        raise ExportError(
            f"{len(empty)} weights hold no data, they are on the meta device: {_names(empty)}",
            hint="pass weights= (a state dict, or the path of .safetensors or .pt files), or load "
            "them: module.load_state_dict(torch.load(path, mmap=True), assign=True)",
        )
    found = loaded(weights)
    same: dict[int, Any] = {id(slot[3]): found[slot[0]] for slot in slots if slot[0] in found}
    missing = [slot for slot in empty if id(slot[3]) not in same]
    if missing:
        raise ExportError(
            f"weights= has no data for {len(missing)} of the module's tensors: {_names(missing)}",
            hint="buffers that are not saved must be computed before exporting, outside of "
            "torch.device('meta')",
        )
    wrong = [slot for slot in empty if not _fits(slot[3], same[id(slot[3])])]
    if wrong:
        name, _, _, tensor = wrong[0]
        other = same[id(tensor)]
        raise ExportError(
            f"weights= has {quote(name)} as {other.dtype}{list(other.shape)}, the module as "
            f"{tensor.dtype}{list(tensor.shape)}",
            hint="build the module in the type of its weights: module.to(dtype)",
        )
    try:
        for _, place, key, tensor in empty:
            place[key] = _like(tensor, same[id(tensor)])
        yield
    finally:
        for _, place, key, tensor in empty:
            place[key] = tensor


def _slots(module: Any) -> Iterator[tuple[str, dict[str, Any], str, Any]]:
    for path, each in module.named_modules(remove_duplicate=False):
        for place in (vars(each)["_parameters"], vars(each)["_buffers"]):
            for key, tensor in place.items():
                if tensor is not None:
                    yield f"{path}.{key}" if path else key, place, key, tensor


def _names(slots: list[Any]) -> str:
    names = list(dict.fromkeys(slot[0] for slot in slots))
    rest = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + rest


def _fits(tensor: Any, other: Any) -> bool:
    return bool(tensor.shape == other.shape and tensor.dtype == other.dtype)


def _like(tensor: Any, data: Any) -> Any:
    if isinstance(tensor, torch.nn.Parameter):
        return torch.nn.Parameter(data.detach(), requires_grad=False)
    return data


def loaded(weights: Any) -> Mapping[str, Any]:
    """Tensors by name, mapped from files.

    A state dict is given back. A path may be of a ``.safetensors`` file, an index of such
    (``.safetensors.index.json``), a folder of them, or of what ``torch.save`` wrote.
    """
    if hasattr(weights, "keys"):
        found: Mapping[str, Any] = weights
        return found
    try:
        path = Path(weights)
    except TypeError:
        raise ExportError(
            f"weights is a {type(weights).__name__}", hint="give a state dict or a path"
        ) from None
    if path.is_dir():
        files = sorted(path.glob("*.safetensors")) or sorted(path.glob("*.bin"))
        if not files:
            raise ExportError(f"{quote(str(path))} holds no .safetensors files")
        return _joined(files)
    if path.name.endswith(".index.json"):
        index = json.loads(path.read_text(encoding="utf-8"))
        return _joined(sorted({path.parent / name for name in index["weight_map"].values()}))
    return _read(path)


def _joined(files: list[Path]) -> dict[str, Any]:
    return {name: tensor for file in files for name, tensor in _read(file).items()}


def _read(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        raise ExportError(f"there is no file {quote(str(path))}")
    if path.suffix == ".safetensors":
        return _safetensors(path)
    try:
        found = torch.load(path, mmap=True, weights_only=True, map_location="cpu")
    except Exception as error:
        raise ExportError(f"cannot read weights from {quote(str(path))}: {error}") from error
    state: Mapping[str, Any] = found.get("state_dict", found)
    return state


def _safetensors(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The tensors of a safetensors file: a length, a JSON header, and the data, mapped."""
    bad = ExportError(f"{quote(str(path))} is no safetensors file")
    if Path(path).stat().st_size < 8:
        raise bad
    mapped = np.memmap(path, np.uint8, mode="c")
    (length,) = struct.unpack("<Q", mapped[:8].tobytes())
    if length > min(_LARGEST_HEADER, mapped.size - 8):
        raise bad
    try:
        header = json.loads(mapped[8 : 8 + length].tobytes())
        header.pop("__metadata__", None)
        found = {}
        for name, entry in header.items():
            dtype = _SAFE_DTYPES[entry["dtype"]]
            start, end = (8 + length + int(offset) for offset in entry["data_offsets"])
            if not 8 + length <= start <= end <= mapped.size:
                raise bad
            part = torch.from_numpy(mapped[start:end])
            found[name] = part.view(dtype).reshape(entry["shape"])
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError):
        raise bad from None
    return found
