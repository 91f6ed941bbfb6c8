"""PyTorch modules exported for one batch size, then opened: as good as the module itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import sardonyx as sx
from compose.running import run

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")


def attention(batch: int) -> Any:
    """Heads within the batch dimension, every size a constant."""
    module = torch.nn.Linear(32, 96)

    class Attention(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.project = module

        def forward(self, x: Any) -> Any:
            parts = [
                part.reshape(batch, 6, 4, 8).transpose(1, 2).reshape(batch * 4, 6, 8)
                for part in self.project(x).split(32, dim=2)
            ]
            weights = torch.bmm(parts[0], parts[1].transpose(1, 2)).softmax(-1)
            mixed = torch.bmm(weights, parts[2]).view(batch, 4, 6, 8)
            return mixed.transpose(1, 2).reshape(batch, 6, 32)

    return Attention()


def encoder(batch: int) -> Any:
    del batch
    return torch.nn.TransformerEncoderLayer(16, 4, 32, batch_first=True, dropout=0.0)


def token(batch: int) -> Any:
    class Token(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.token = torch.nn.Parameter(torch.randn(1, 1, 8))

        def forward(self, x: Any) -> Any:
            return torch.cat([self.token.expand(batch, -1, -1), x], 1)

    return Token()


def heads(batch: int) -> Any:
    del batch
    module = torch.nn.MultiheadAttention(16, 4)

    class Heads(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = module

        def forward(self, x: Any) -> Any:
            return self.inner(x, x, x, need_weights=False)[0]

    return Heads()


def recurrent(batch: int) -> Any:
    del batch
    module = torch.nn.LSTM(6, 7, 2, batch_first=True)

    class Recurrent(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = module

        def forward(self, x: Any) -> Any:
            return self.inner(x)[0]

    return Recurrent()


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(
    ("make", "shape", "axis"),
    [
        (attention, [6, 32], 0),
        (encoder, [5, 16], 0),
        (token, [3, 8], 0),
        (heads, [5, 16], 1),
        (recurrent, [5, 6], 0),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_a_fixed_batch_is_opened(
    make: Callable[[int], Any], shape: list[int], axis: int, batch: int
) -> None:
    torch.manual_seed(0)
    module = make(batch).eval()
    example = torch.randn([*shape[:axis], batch, *shape[axis:]])
    fixed = sx.export(module, (example,), input_names=["x"])
    opened = sx.compose.set_batch_size(fixed, "batch", axes={"x": axis})
    parts = [torch.randn(example.shape) for _ in range(3)]
    together = torch.cat(parts, axis).numpy()
    (found,) = run(opened, {"x": together}).values()
    with torch.no_grad():
        expected = torch.cat([module(part) for part in parts], axis).numpy()
    bound = 64 * np.finfo(np.float32).eps * float(np.abs(expected).max())
    np.testing.assert_allclose(found, expected, rtol=0, atol=bound)
