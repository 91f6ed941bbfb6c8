"""Pictures as a model's inputs."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sardonyx import dtypes
from sardonyx.errors import InputError, SardonyxError, quote

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sardonyx.dtypes import DType
    from sardonyx.ir.tensor import Array

__all__ = ["SUFFIXES", "Layout", "Pixels", "layout_of", "read_image"]

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm"})
_MODES = {3: "RGB", 1: "L", 4: "RGBA"}


@dataclass(frozen=True, slots=True)
class Pixels:
    """How pixels become numbers: `raw` keeps 0 to 255, then (x - mean) / std by channel."""

    raw: bool = False
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Layout:
    """What a shape says of pictures; `height` and `width` are None where they are open."""

    rank: int
    channels: int
    height: int | None
    width: int | None
    channels_last: bool = False


def layout_of(name: str, shape: Sequence[int | None]) -> Layout:
    """The layout of pictures in `shape`: NCHW or NHWC, CHW or HWC, or HW.

    The axis of 3, 1 or 4 (where both could be: in this order, the first before the last) is the
    channels; where neither is known, three channels come first.
    """
    if len(shape) == 2:
        return Layout(2, 1, shape[0], shape[1])
    if len(shape) not in {3, 4}:
        raise InputError(
            f"a picture does not fit input {quote(name)} of rank {len(shape)}",
            hint="pictures fit [N, C, H, W], [N, H, W, C], [C, H, W], [H, W, C] and [H, W]",
        )
    first, *middle, last = shape[-3:]
    for channels in _MODES:
        if first == channels:
            return Layout(len(shape), channels, middle[0], last)
        if last == channels:
            return Layout(len(shape), channels, first, middle[0], channels_last=True)
    if first is None:
        return Layout(len(shape), 3, middle[0], last)
    raise InputError(
        f"a picture does not fit input {quote(name)}: no dimension is 1, 3 or 4 channels",
        hint="give it as a .npy file",
    )


def read_image(
    path: str, name: str, shape: Sequence[int | None], dtype: DType, pixels: Pixels
) -> Array:
    """The picture in the file `path`, resized to the height and width that `shape` fixes."""
    layout = layout_of(name, shape)
    if dtype is not dtypes.UINT8 and not dtype.is_floating:
        raise InputError(f"a picture does not fit input {quote(name)} of type {dtype.text}")
    array = _decoded(path, layout)
    if dtype.is_floating:
        array = array.astype(np.float32) / np.float32(1 if pixels.raw else 255)
    elif pixels.mean or pixels.std:
        raise InputError(f"--mean and --std need a float input, {quote(name)} is {dtype.text}")
    if pixels.mean:
        array = array - _per_channel("--mean", pixels.mean, layout)
    if pixels.std:
        array = array / _per_channel("--std", pixels.std, layout)
    if layout.rank == 2:
        array = array[:, :, 0]
    elif not layout.channels_last:
        array = array.transpose(2, 0, 1)
    if layout.rank == 4:
        array = array[None]
    return np.ascontiguousarray(array.astype(dtype.numpy))


def _per_channel(option: str, values: tuple[float, ...], layout: Layout) -> Array:
    if len(values) not in {1, layout.channels}:
        raise InputError(f"{option} has {len(values)} values, a pixel has {layout.channels}")
    array: Array = np.asarray(values, np.float32)
    if option == "--std" and not array.all():
        raise InputError("--std is 0")
    return array


def _decoded(path: str, layout: Layout) -> Array:
    """The pixels as [height, width, channels] of 0 to 255."""
    try:
        from PIL import Image
    except ImportError:
        raise InputError(
            f"reading {quote(path)} takes Pillow", hint='pip install "sardonyx[images]"'
        ) from None
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(path) as opened:
                image: Any = opened.convert(_MODES[layout.channels])
        except (
            OSError,
            ValueError,
            SyntaxError,
            Image.DecompressionBombError,
            Image.DecompressionBombWarning,
        ) as error:
            reason = str(error).partition("'")[0].strip() or type(error).__name__
            raise SardonyxError(f"{quote(path)} cannot be read as a picture: {reason}") from None
    size = (layout.width or image.width, layout.height or image.height)
    if size != image.size:
        image = image.resize(size, Image.Resampling.BILINEAR)
    array: Array = np.asarray(image, np.uint8)
    return array.reshape(size[1], size[0], layout.channels)
