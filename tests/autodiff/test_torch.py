"""Whole networks: gradients by every parameter beside PyTorch's autograd."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

import sardonyx as sx  # noqa: E402
from sardonyx.autodiff import gradients  # noqa: E402
from sardonyx.check import validate  # noqa: E402
from sardonyx.ir import TensorType, Value  # noqa: E402
from sardonyx.reference import Evaluator  # noqa: E402


class Perceptron(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8), nn.GELU(), nn.Linear(8, 3)
        )

    def forward(self, x: Any) -> Any:
        return self.layers(x)


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.deep = nn.Conv2d(8, 8, 3, padding=1, groups=4)
        self.group = nn.GroupNorm(2, 8)
        self.up = nn.ConvTranspose2d(8, 4, 3, stride=2, output_padding=1)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Any) -> Any:
        x = F.max_pool2d(F.silu(self.norm(self.stem(x))), 3, stride=2, padding=1)
        x = x + F.leaky_relu(self.group(self.deep(x)))
        x = F.interpolate(F.hardswish(self.up(x)), scale_factor=2, mode="nearest")
        x = F.avg_pool2d(x, 2, stride=2, ceil_mode=True)
        return self.head(x.mean((2, 3)))


class Transformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(11, 8)
        self.places = nn.Parameter(torch.randn(5, 8))
        self.mix = nn.Linear(8, 24)
        self.out = nn.Linear(8, 8)
        self.first, self.second = nn.LayerNorm(8), nn.LayerNorm(8)
        self.wide, self.narrow = nn.Linear(8, 16), nn.Linear(16, 8)

    def forward(self, tokens: Any) -> Any:
        x = self.words(tokens) + self.places[: tokens.shape[1]]
        q, k, v = self.mix(self.first(x)).chunk(3, -1)
        q, k, v = (part.reshape(*part.shape[:2], 2, 4).transpose(1, 2) for part in (q, k, v))
        scores = q @ k.transpose(-1, -2) / 2.0
        mask = torch.ones(tokens.shape[1], tokens.shape[1], dtype=torch.bool).triu(1)
        weights = scores.masked_fill(mask, float("-inf")).softmax(-1)
        mixed = (weights @ v).transpose(1, 2).reshape(x.shape)
        x = x + self.out(mixed)
        x = x + self.narrow(F.relu(self.wide(self.second(x))) ** 2)
        return x.mean(1)[:, :3] + F.log_softmax(x, -1).cumsum(1)[:, -1, :3]


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.LSTM(3, 4, batch_first=True, bidirectional=True)
        self.second = nn.GRU(8, 3, batch_first=True)
        self.scale = nn.Parameter(torch.randn(3))

    def forward(self, x: Any) -> Any:
        sequence, _ = self.first(x)
        _, last = self.second(sequence)
        return F.softplus(last[0] * self.scale)


class Attending(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mix, self.out = nn.Linear(6, 18), nn.Linear(6, 3)
        self.norm = nn.InstanceNorm1d(4, affine=True)

    def forward(self, x: Any) -> Any:
        q, k, v = (part.unsqueeze(1) for part in self.mix(self.norm(x)).chunk(3, -1))
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(mixed.squeeze(1)).flatten(1)


class Odds(nn.Module):
    """Indexing, selection and reductions."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(6, 5))
        self.bias = nn.Parameter(torch.randn(5))

    def forward(self, x: Any) -> Any:
        a = torch.cat([x, self.table], 0).clamp(-1.5, 1.2)
        b = torch.where(a > 0.1, a * self.bias, a.abs().sqrt())
        top, _ = b.topk(3, dim=1)
        c = torch.einsum("ij,kj->ik", top, top)
        d = F.pad(c[1::2, ::3], (1, 2)).amax(0, keepdim=True) + torch.logsumexp(c, 1, keepdim=True)
        e = d.prod(1) + b.norm(dim=1) + a.std(1) + torch.maximum(a, b).amin(1)
        return torch.stack([e, e.sin(), torch.atan(e)], 1)


NETWORKS = {
    "perceptron": (Perceptron, lambda: torch.randn(4, 6)),
    "residual": (Residual, lambda: torch.randn(2, 3, 16, 16)),
    "transformer": (Transformer, lambda: torch.randint(0, 11, (2, 5))),
    "recurrent": (Recurrent, lambda: torch.randn(2, 5, 3)),
    "attending": (Attending, lambda: torch.randn(2, 4, 6)),
    "odds": (Odds, lambda: torch.randn(4, 5)),
}


def gradients_by_initializer(module: Any, x: Any, model: sx.Model) -> dict[str, Any]:
    """PyTorch's gradients, arranged as the weights are: recurrent layers' are packed in the file.

    They are exported in the place of the weights, from a module that is otherwise the same.
    """
    graded = copy.deepcopy(module)
    trained = {key: each.grad for key, each in module.named_parameters() if each.grad is not None}
    for key, each in graded.named_parameters():
        if key in trained:
            each.data = trained[key]
    arranged = sx.export(graded, (x,), verify=False).graph.values()
    layers = [key for key, each in module.named_modules() if isinstance(each, nn.RNNBase)]
    packed = tuple(f"{layer}.l" for layer in layers)
    names = [value.name for value in model.graph.initializers]
    found = {
        name: arranged[name].const.numpy()
        for name in names
        if name in trained or name.startswith(packed)
    }
    assert sum(each.size for each in found.values()) == sum(map(torch.numel, trained.values()))
    for key, gradient in trained.items():
        if key in found:
            np.testing.assert_array_equal(found[key], gradient.numpy())
    return found


@pytest.mark.parametrize("name", NETWORKS)
def test_networks(name: str) -> None:
    torch.manual_seed(0)
    make, sample = NETWORKS[name]
    module, x = make().double().eval(), sample()
    x = x.double() if x.is_floating_point() else x
    model = sx.export(module, (x,), input_names=["x"], output_names=["y"])
    loss = module(x)
    weight = torch.randn(loss.shape, dtype=torch.float64)
    (loss * weight).sum().backward()
    expected = gradients_by_initializer(module, x, model)
    named = model.graph.values()
    seed = Value("weight", TensorType(named["y"].dtype, named["y"].shape))
    model.graph.inputs.append(seed)
    results = gradients(model, "y", list(expected), seed=seed)
    model.graph.outputs.extend(results)
    assert not validate(model).errors
    found = Evaluator(model).run({"x": x.numpy(), "weight": weight.numpy()})
    for result, (key, right) in zip(results, expected.items(), strict=True):
        scale = max(1.0, np.abs(right).max())
        # sums of up to a thousand products, in double precision but for epsilons
        np.testing.assert_allclose(
            found[result.name], right, rtol=0, atol=1e-7 * scale, err_msg=key
        )
