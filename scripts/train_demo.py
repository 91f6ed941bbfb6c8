"""Train the network that `sardonyx demo` shows, and write it with its test pictures.

    pip install -e '.[torch,dev]' && python scripts/train_demo.py

It reads the handwritten digits that come with scikit-learn (8x8 pixels, 1797 pictures; the
test set of UCI's Optical Recognition of Handwritten Digits, E. Alpaydin and C. Kaynak, 1998,
CC BY 4.0), keeps a fifth of them apart, trains for some ten seconds on one core and writes into
src/sardonyx/data: digits.onnx, digits.npz (the first held-out picture of each digit, its label,
and PyTorch's probabilities for it) and three of these pictures as PNG files. Seeds are fixed:
on one version of PyTorch and one kind of processor a second run gives the same weights.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn

import sardonyx as sx

DATA = Path(__file__).resolve().parent.parent / "src" / "sardonyx" / "data"
SEED = 7
EPOCHS = 60
BATCH = 64
WANTED_ACCURACY = 0.97
PNG_DIGITS = (3, 5, 8)


class Digits(nn.Module):
    """Probabilities of the ten digits, [batch, 10], for pictures [batch, 1, 8, 8] of 0..1."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Dropout(0.3),
        )
        self.classifier = nn.Linear(32 * 4 * 4, 10)

    def logits(self, image: Tensor) -> Tensor:
        return self.classifier(torch.flatten(self.features(image), 1))

    def forward(self, image: Tensor) -> Tensor:
        return torch.softmax(self.logits(image), 1)


def pictures() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Training pictures, held-out pictures (uint8, [n, 1, 8, 8]) and the labels of each."""
    digits = load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)[:, None]
    return train_test_split(
        images, digits.target, test_size=0.2, random_state=SEED, stratify=digits.target
    )


def scaled(images: np.ndarray) -> Tensor:
    """Bytes as the network's input."""
    return torch.from_numpy(images.astype(np.float32) / np.float32(255))


def train(images: Tensor, labels: Tensor) -> Digits:
    """A trained network."""
    torch.manual_seed(SEED)
    network = Digits()
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)
    for _ in range(EPOCHS):
        for chosen in torch.randperm(len(images)).split(BATCH):
            loss = nn.functional.cross_entropy(network.logits(images[chosen]), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
    return network.eval()


def write(network: Digits, images: np.ndarray, labels: np.ndarray, accuracy: float) -> None:
    """Everything that the package ships."""
    model = sx.export(
        network,
        (scaled(images[:2]),),
        input_names=["image"],
        output_names=["probabilities"],
        dynamic_axes={"image": {0: "batch"}},
    )
    model.doc = "Which digit is in an 8x8 picture; trained by scripts/train_demo.py."
    model.metadata["labels"] = json.dumps([str(digit) for digit in range(10)])
    model.metadata["accuracy"] = f"{accuracy:.1%} of {len(images)} held-out pictures"
    model.metadata["data"] = "UCI Optical Recognition of Handwritten Digits, CC BY 4.0"
    sx.save(model, DATA / "digits.onnx")
    shown = [int(np.flatnonzero(labels == digit)[0]) for digit in range(10)]
    with torch.no_grad():
        probabilities = network(scaled(images[shown])).numpy()
    np.savez_compressed(
        DATA / "digits.npz",
        images=images[shown],
        labels=labels[shown].astype(np.int64),
        probabilities=probabilities,
    )
    for digit in PNG_DIGITS:
        Image.fromarray(images[shown[digit], 0]).save(DATA / f"digit-{digit}.png", optimize=True)


def main() -> None:
    """Train, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    train_images, test_images, train_labels, test_labels = pictures()
    network = train(scaled(train_images), torch.from_numpy(train_labels))
    with torch.no_grad():
        answers = network(scaled(test_images)).argmax(1).numpy()
    accuracy = float((answers == test_labels).mean())
    print(f"accuracy {accuracy:.4f} on {len(test_labels)} held-out pictures")
    if accuracy < WANTED_ACCURACY:
        raise SystemExit(f"accuracy is below {WANTED_ACCURACY}: nothing is written")
    write(network, test_images, test_labels, accuracy)
    print(f"written to {DATA}")


if __name__ == "__main__":
    main()
