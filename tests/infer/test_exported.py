"""A model exported with dynamic sizes is known throughout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import sardonyx as sx
from sardonyx.infer import explain_unknown, infer

pytestmark = pytest.mark.torch


def transformer() -> Any:
    import torch
    from torch import nn

    class Block(nn.Module):
        def __init__(self, width: int, heads: int) -> None:
            super().__init__()
            self.heads = heads
            self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
            self.norm = nn.LayerNorm(width)
            self.mlp = nn.Sequential(
                nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
            )

        def forward(self, x: Any, mask: Any) -> Any:
            batch, length, width = x.shape
            parts = self.qkv(self.norm(x)).chunk(3, -1)
            shape = (batch, length, self.heads, width // self.heads)
            q, k, v = (part.view(shape).transpose(1, 2) for part in parts)
            scores = q @ k.transpose(-1, -2) + mask[:, None, None, :]
            x = x + self.out((scores.softmax(-1) @ v).transpose(1, 2).reshape(batch, length, width))
            return x + self.mlp(x)

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tokens, self.places = nn.Embedding(100, 32), nn.Embedding(64, 32)
            self.blocks = nn.ModuleList([Block(32, 4) for _ in range(2)])
            self.head = nn.Linear(32, 100)

        def forward(self, ids: Any, mask: Any) -> Any:
            x = self.tokens(ids) + self.places(torch.arange(ids.shape[1]))
            for block in self.blocks:
                x = block(x, (1 - mask.float()) * -1e9)
            x = nn.functional.interpolate(x.transpose(1, 2), scale_factor=2.0)
            return self.head(x.transpose(1, 2))

    return Model().eval()


def test_transformer(tmp_path: Path) -> None:
    import torch

    batch, length = torch.export.Dim("B", min=1, max=64), torch.export.Dim("T", min=2, max=64)
    dynamic = {0: batch, 1: length}
    ids, mask = torch.randint(0, 100, (2, 7)), torch.ones(2, 7, dtype=torch.long)
    path = tmp_path / "model.onnx"
    sx.export(transformer(), (ids, mask), path, dynamic_shapes={"ids": dynamic, "mask": dynamic})
    model = sx.load(path)
    for node in model.graph.all_nodes():
        for value in node.outputs:
            value.type = None
    found = infer(model)
    assert found.problems == []
    for node in model.graph.all_nodes():
        for value in node.outputs:
            assert explain_unknown(found, value) == ()
    assert str(found.facts[model.graph.outputs[0]]) == "tensor(float)[B, 2*T, 100]"
