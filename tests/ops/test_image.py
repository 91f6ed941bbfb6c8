"""ImageDecoder: pixels that Pillow encoded come back, and hostile bytes are contained."""

from __future__ import annotations

import io
import struct
import sys
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image, features

from sardonyx.dtypes import UINT8
from sardonyx.errors import LimitError, ModelError, UnsupportedError
from sardonyx.ops.fact import Fact
from single_operator import apply, inferred

RANDOM = np.random.default_rng(11)
PIXELS = RANDOM.integers(0, 256, (7, 5, 3), np.uint8)
LOSSLESS: list[tuple[str, dict[str, Any]]] = [
    ("BMP", {}),
    ("PNG", {}),
    ("PPM", {}),
    ("TIFF", {}),
    ("WEBP", {"lossless": True}),
    ("JPEG2000", {"irreversible": False}),
]
NEEDS = {"WEBP": "webp", "JPEG2000": "jpg_2000"}


def encoded(image: Any, format: str, **options: Any) -> np.ndarray:
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return np.frombuffer(stream.getvalue(), np.uint8)


def decode(data: np.ndarray, pixel_format: str = "RGB") -> np.ndarray:
    (image,) = apply("ImageDecoder", data, pixel_format=pixel_format)
    (fact,) = inferred("ImageDecoder", Fact.tensor(UINT8, (None,)), pixel_format=pixel_format)
    assert fact.dtype is UINT8
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous
    assert fact.shape == (None, None, image.shape[2])
    return image


@pytest.mark.parametrize(("format", "options"), LOSSLESS, ids=lambda value: str(value))
def test_lossless_formats_give_the_pixels_back(format: str, options: dict[str, Any]) -> None:
    if format in NEEDS and not features.check(NEEDS[format]):
        pytest.skip(f"Pillow was built without {format}")
    data = encoded(Image.fromarray(PIXELS), format, **options)
    np.testing.assert_array_equal(decode(data), PIXELS)
    np.testing.assert_array_equal(decode(data, "BGR"), PIXELS[:, :, ::-1])
    # ITU-R 601 luma, rounded to an integer
    luma = PIXELS @ np.array([0.299, 0.587, 0.114])
    grey = decode(data, "Grayscale")
    assert grey.shape == (7, 5, 1)
    assert np.abs(grey[:, :, 0] - luma).max() <= 1


def test_jpeg_is_near_its_picture() -> None:
    slope = np.linspace(0, 255, 32).astype(np.uint8)
    smooth = np.stack([np.tile(slope, (24, 1))] * 3, axis=2)
    image = decode(encoded(Image.fromarray(smooth), "JPEG", quality=95))
    assert image.shape == (24, 32, 3)
    assert np.abs(image.astype(int) - smooth).max() <= 4


def test_other_pixel_kinds_become_the_format_asked_for() -> None:
    grey = PIXELS[:, :, 0]
    threefold = np.stack([grey] * 3, axis=2)
    np.testing.assert_array_equal(decode(encoded(Image.fromarray(grey), "PNG")), threefold)
    alpha = np.dstack([PIXELS, grey])
    np.testing.assert_array_equal(decode(encoded(Image.fromarray(alpha), "PNG")), PIXELS)
    bits = Image.fromarray(grey).convert("1")
    assert set(decode(encoded(bits, "PNG")).flat) <= {0, 255}
    indexed = Image.fromarray(grey).convert("P")
    indexed.info["transparency"] = bytes([0, 128])
    np.testing.assert_array_equal(decode(encoded(indexed, "PNG")), threefold)
    deep = Image.fromarray(grey.astype(np.uint16) * 256 + 77)
    for wide in (encoded(deep, "PNG"), encoded(deep, "TIFF")):
        np.testing.assert_array_equal(decode(wide, "Grayscale")[:, :, 0], grey)
        np.testing.assert_array_equal(decode(wide, "BGR"), threefold)


PNG = encoded(Image.fromarray(PIXELS), "PNG")
JPEG = encoded(Image.fromarray(PIXELS), "JPEG")
TIFF = encoded(Image.fromarray(PIXELS), "TIFF")
GIF = encoded(Image.fromarray(PIXELS), "GIF")
POSTSCRIPT = np.frombuffer(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", np.uint8)


@pytest.mark.parametrize("pixel_format", ["RGB", "BGR", "Grayscale"])
@pytest.mark.parametrize(
    "data", [PNG[:0], PNG[:40], JPEG[:-60], TIFF[:60], np.zeros(99, np.uint8), GIF, POSTSCRIPT]
)
def test_what_cannot_be_decoded_is_an_empty_image(data: np.ndarray, pixel_format: str) -> None:
    assert decode(data, pixel_format).shape == (0, 0, 1 if pixel_format == "Grayscale" else 3)


@pytest.mark.parametrize("data", [PNG, JPEG, TIFF], ids=["PNG", "JPEG", "TIFF"])
def test_corrupted_bytes_never_escape(data: np.ndarray) -> None:
    random = np.random.default_rng(1)
    for _ in range(40):
        corrupted = data.copy()
        places = random.integers(8, data.size, 3)
        corrupted[places] = random.integers(0, 256, 3)
        try:
            image = decode(corrupted)
        except LimitError:
            continue
        assert image.ndim == 3


def bomb(width: int, height: int) -> np.ndarray:
    """A PNG that says it is large."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        tail = struct.pack(">I", zlib.crc32(kind + body))
        return struct.pack(">I", len(body)) + kind + body + tail

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b"")
    return np.frombuffer(b"\x89PNG\r\n\x1a\n" + parts, np.uint8)


@pytest.mark.parametrize("size", [(10_000, 10_000), (60_000, 60_000), (2**31 - 1, 2**31 - 1)])
def test_a_decompression_bomb_meets_a_limit(size: tuple[int, int]) -> None:
    with pytest.raises(LimitError, match="ImageDecoder") as caught:
        apply("ImageDecoder", bomb(*size))
    assert "MAX_IMAGE_PIXELS" in str(caught.value)


def test_our_own_limit_holds_where_pillow_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    with pytest.raises(LimitError, match="tensor bytes"):
        apply("ImageDecoder", bomb(2**31 - 1, 2**31 - 1))


def test_an_unknown_pixel_format_is_refused() -> None:
    for call, given in ((apply, PNG), (inferred, Fact.constant(PNG))):
        with pytest.raises(ModelError, match="CMYK") as caught:
            call("ImageDecoder", given, pixel_format="CMYK")
        assert "Grayscale" in str(caught.value)


def test_without_pillow_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(UnsupportedError) as caught:
        apply("ImageDecoder", PNG)
    assert 'pip install "sardonyx[images]"' in str(caught.value)
