"""Pictures as tensors."""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from sardonyx.dtypes import UINT8
from sardonyx.errors import LimitError, ModelError, UnsupportedError, quote
from sardonyx.ops.fact import Fact
from sardonyx.ops.operator import Operator
from sardonyx.ops.schema import Input, Output
from sardonyx.ops.symbolic import check_size

if TYPE_CHECKING:
    from sardonyx.ir.tensor import Array

_CHANNELS: Final = {"RGB": 3, "BGR": 3, "Grayscale": 1}
_FORMATS: Final = ("BMP", "JPEG", "JPEG2000", "TIFF", "PNG", "WEBP", "PPM")
"""Those that the standard names, as Pillow calls them."""


class ImageDecoder(Operator, since=20):
    """The picture in a file's bytes as [height, width, channels], decoded by Pillow.

    The format is BMP, JPEG, JPEG 2000, TIFF, PNG, WebP or portable anymap; transparency is
    dropped, of 16 bits the high 8 are kept, and of several frames the first. `pixel_format`
    is "RGB", "BGR" or "Grayscale" (1 channel). Bytes that cannot be decoded give height and
    width 0. Raises `LimitError` where the picture has more pixels than Pillow allows.
    """

    encoded_stream, image = Input("T1"), Output("T2")
    T1, T2 = (UINT8,), (UINT8,)
    pixel_format: str = "RGB"

    def infer(self, encoded_stream: Fact) -> Fact:
        return Fact.tensor(UINT8, (None, None, self._channels()))

    def reference(self, encoded_stream: Array) -> Array:
        channels = self._channels()
        pixels = _decoded(encoded_stream.tobytes(), "L" if channels == 1 else "RGB")
        if pixels is None:
            return np.zeros((0, 0, channels), np.uint8)
        pixels = pixels.reshape(*pixels.shape[:2], channels)
        return np.ascontiguousarray(pixels[:, :, ::-1] if self.pixel_format == "BGR" else pixels)

    def _channels(self) -> int:
        if self.pixel_format not in _CHANNELS:
            raise ModelError(
                f"ImageDecoder pixel_format {quote(self.pixel_format)}",
                hint='it is "RGB", "BGR" or "Grayscale"',
            )
        return _CHANNELS[self.pixel_format]


def _decoded(data: bytes, mode: str) -> Array | None:
    """The pixels of the picture `data` in Pillow's `mode`, or None where it is none."""
    try:
        from PIL import Image
    except ImportError:
        raise UnsupportedError(
            "ImageDecoder takes Pillow", hint='pip install "sardonyx[images]"'
        ) from None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(io.BytesIO(data), formats=_FORMATS) as opened:
                check_size("ImageDecoder", (opened.height, opened.width, 4), 1)
                return np.asarray(_eight_bits(opened, Image).convert(mode), np.uint8)
        except (Image.DecompressionBombError, Image.DecompressionBombWarning, MemoryError) as error:
            raise LimitError(
                f"ImageDecoder: {str(error).partition(',')[0] or 'the picture exceeds memory'}",
                hint="if you trust the picture, raise PIL.Image.MAX_IMAGE_PIXELS",
            ) from None
        except LimitError:
            raise
        except Exception:  # noqa: BLE001 - undecodable for whatever reason is an empty image
            return None


def _eight_bits(opened: Any, Image: Any) -> Any:
    """The picture with 16 bits a pixel cut to the high 8, which `convert` would clip."""
    if opened.mode != "I" and not opened.mode.startswith("I;16"):
        return opened
    wide = np.asarray(opened).astype(np.int64)
    return Image.fromarray(np.clip(wide >> 8, 0, 255).astype(np.uint8))
