"""Small networks of well-known architectures, with random weights.

Each is a module with the inputs of one call, described by dtype and shape; a string in a shape
names a dimension that stays dynamic. `NETWORKS` holds their makers by name; those of
`networks_text` and `networks_media` need the transformers package.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Callable

VOCABULARY = 97
SIZES = {"batch": (2, 3), "length": (7, 5), "height": (32, 48), "width": (48, 32)}


@dataclass(frozen=True)
class Input:
    """A tensor of `shape`: named dims are dynamic. `below`: integers from 0 to it, else floats."""

    shape: tuple[int | str, ...]
    below: int | str | None = None
    fill: str = "random"

    @property
    def axes(self) -> dict[int, str]:
        return {axis: size for axis, size in enumerate(self.shape) if isinstance(size, str)}

    def made(self, sizes: dict[str, int], generator: torch.Generator) -> torch.Tensor:
        shape = [sizes[size] if isinstance(size, str) else size for size in self.shape]
        if self.fill == "mask":
            # the last token of the first row is padding
            mask = torch.ones(shape, dtype=torch.int64)
            mask[0, -1] = 0
            return mask
        if self.fill == "positions":
            return torch.arange(sizes.get("past", 0), sizes.get("past", 0) + shape[-1]).expand(
                shape
            )
        if self.fill == "boxes":
            corner = torch.randint(0, 40, (*shape[:-1], 2), generator=generator)
            return torch.cat(
                [corner, corner + torch.randint(1, 40, corner.shape, generator=generator)], -1
            )
        if self.below is not None:
            below = sizes[self.below] if isinstance(self.below, str) else self.below
            return torch.randint(0, below, shape, generator=generator)
        return torch.randn(shape, generator=generator)


def ids(*shape: int | str, below: int | str = VOCABULARY) -> Input:
    return Input(shape, below)


def floats(*shape: int | str) -> Input:
    return Input(shape)


def mask(*shape: int | str) -> Input:
    return Input(shape, fill="mask")


def positions(*shape: int | str) -> Input:
    return Input(shape, fill="positions")


def boxes(*shape: int | str) -> Input:
    return Input(shape, fill="boxes")


@dataclass(frozen=True)
class Network:
    """A module in eval mode, and the keyword arguments it is called with.

    `sizes` gives each dynamic dim its size in the first and the second call.
    """

    module: nn.Module
    inputs: dict[str, Input]
    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        stir(self.module.eval())

    @property
    def dynamic_shapes(self) -> dict[str, dict[int, str]]:
        return {name: given.axes for name, given in self.inputs.items()}

    @property
    def is_dynamic(self) -> bool:
        return any(self.dynamic_shapes.values())

    def call(self, which: int = 0) -> dict[str, torch.Tensor]:
        """The arguments of the first or the second call."""
        sizes = {name: both[which] for name, both in {**SIZES, **self.sizes}.items()}
        generator = torch.Generator().manual_seed(which)
        return {name: given.made(sizes, generator) for name, given in self.inputs.items()}


NETWORKS: dict[str, Callable[[], Network]] = {}


def network(make: Callable[[], Network]) -> Callable[[], Network]:
    """Enter `make` into NETWORKS."""
    NETWORKS[make.__name__] = make
    return make


def build(name: str) -> Network:
    torch.manual_seed(0)
    return NETWORKS[name]()


@torch.no_grad()
def stir(module: nn.Module) -> None:
    """Weights that carry a signal through, and biases, norms and statistics that tell apart."""
    generator = torch.Generator().manual_seed(1)
    for parameter in module.parameters():
        if parameter.dim() == 1:
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
        elif parameter.dim() > 1:
            scale = (parameter.numel() / parameter.shape[0]) ** -0.5
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
    for name, buffer in module.named_buffers():
        if name.endswith("running_mean"):
            buffer.add_(torch.randn(buffer.shape, generator=generator) * 0.1)
        elif name.endswith("running_var"):
            buffer.mul_(torch.rand(buffer.shape, generator=generator) + 0.5)


# -- diffusion --------------------------------------------------------------------------------


def sinusoids(steps: torch.Tensor, width: int) -> torch.Tensor:
    half = width // 2
    rates = torch.exp(torch.arange(half, device=steps.device) * (-9.21034 / half))
    angles = steps[:, None].float() * rates[None]
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


class ResidualBlock(nn.Module):
    def __init__(self, inner: int, outer: int, time: int | None = None):
        super().__init__()
        self.norm1 = nn.GroupNorm(4, inner, eps=1e-6)
        self.conv1 = nn.Conv2d(inner, outer, 3, padding=1)
        self.time_emb_proj = nn.Linear(time, outer) if time else None
        self.norm2 = nn.GroupNorm(4, outer, eps=1e-6)
        self.conv2 = nn.Conv2d(outer, outer, 3, padding=1)
        self.conv_shortcut = nn.Conv2d(inner, outer, 1) if inner != outer else None

    def forward(self, x, time=None):
        y = self.conv1(functional.silu(self.norm1(x)))
        if self.time_emb_proj is not None:
            y = y + self.time_emb_proj(functional.silu(time))[:, :, None, None]
        y = self.conv2(functional.silu(self.norm2(y)))
        return (x if self.conv_shortcut is None else self.conv_shortcut(x)) + y


class ImageAttention(nn.Module):
    """Attention of the pixels to themselves or to a context, over heads."""

    def __init__(self, channels: int, context: int | None = None, heads: int = 2):
        super().__init__()
        self.heads = heads
        self.group_norm = nn.GroupNorm(4, channels)
        self.to_q = nn.Linear(channels, channels, bias=False)
        self.to_k = nn.Linear(context or channels, channels, bias=False)
        self.to_v = nn.Linear(context or channels, channels, bias=False)
        self.to_out = nn.ModuleList([nn.Linear(channels, channels), nn.Dropout(0.0)])

    def forward(self, x, context=None):
        batch, channels, height, width = x.shape
        rows = self.group_norm(x).view(batch, channels, height * width).transpose(1, 2)
        source = rows if context is None else context

        def split(part):
            return part.view(batch, -1, self.heads, channels // self.heads).transpose(1, 2)

        attended = functional.scaled_dot_product_attention(
            split(self.to_q(rows)), split(self.to_k(source)), split(self.to_v(source))
        )
        attended = attended.transpose(1, 2).reshape(batch, -1, channels)
        attended = self.to_out[1](self.to_out[0](attended))
        return x + attended.transpose(1, 2).reshape(batch, channels, height, width)


class DenoisingUNet(nn.Module):
    def __init__(self, width: int = 16, context: int = 12):
        super().__init__()
        time = width * 2
        self.width = width
        self.time_embedding = nn.Sequential(
            nn.Linear(width, time), nn.SiLU(), nn.Linear(time, time)
        )
        self.conv_in = nn.Conv2d(4, width, 3, padding=1)
        self.down_blocks = nn.ModuleList([
            ResidualBlock(width, width, time), ResidualBlock(width, width * 2, time)
        ])  # fmt: skip
        self.downsample = nn.Conv2d(width, width, 3, stride=2, padding=1)
        self.mid_block = ResidualBlock(width * 2, width * 2, time)
        self.attention = ImageAttention(width * 2)
        self.cross_attention = ImageAttention(width * 2, context)
        self.up_blocks = nn.ModuleList([
            ResidualBlock(width * 4, width * 2, time), ResidualBlock(width * 3, width, time)
        ])  # fmt: skip
        self.upsample = nn.Conv2d(width * 2, width * 2, 3, padding=1)
        self.conv_norm_out = nn.GroupNorm(4, width)
        self.conv_out = nn.Conv2d(width, 4, 3, padding=1)

    def forward(self, sample, timestep, encoder_hidden_states):
        time = self.time_embedding(sinusoids(timestep, self.width))
        first = self.down_blocks[0](self.conv_in(sample), time)
        second = self.down_blocks[1](self.downsample(first), time)
        x = self.cross_attention(
            self.attention(self.mid_block(second, time)), encoder_hidden_states
        )
        x = self.up_blocks[0](torch.cat([x, second], dim=1), time)
        x = self.upsample(functional.interpolate(x, scale_factor=2.0, mode="nearest"))
        x = self.up_blocks[1](torch.cat([x, first], dim=1), time)
        return self.conv_out(functional.silu(self.conv_norm_out(x)))


class AutoEncoder(nn.Module):
    """A variational autoencoder of images; its sample is the distribution's mode."""

    def __init__(self, width: int = 8, latent: int = 4):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1), ResidualBlock(width, width),
            nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(width, width, 3, stride=2),
            ResidualBlock(width, width * 2), ImageAttention(width * 2, heads=1),
            nn.GroupNorm(4, width * 2), nn.SiLU(),
            nn.Conv2d(width * 2, 2 * latent, 3, padding=1),
        )  # fmt: skip
        self.quant_conv = nn.Conv2d(2 * latent, 2 * latent, 1)
        self.decoder = nn.Sequential(
            nn.Conv2d(latent, width * 2, 3, padding=1), ImageAttention(width * 2, heads=1),
            ResidualBlock(width * 2, width), nn.Upsample(scale_factor=2, mode="nearest"),
            nn.Conv2d(width, width, 3, padding=1), nn.GroupNorm(4, width), nn.SiLU(),
            nn.Conv2d(width, 3, 3, padding=1),
        )  # fmt: skip

    def forward(self, image):
        mean, variance = self.quant_conv(self.encoder(image)).chunk(2, dim=1)
        deviation = torch.exp(0.5 * variance.clamp(-30.0, 20.0))
        return self.decoder(mean / 0.18215), mean, deviation


@network
def diffusion_unet() -> Network:
    inputs = {
        "sample": floats("batch", 4, 16, 24),
        "timestep": ids("batch", below=1000),
        "encoder_hidden_states": floats("batch", "length", 12),
    }
    return Network(DenoisingUNet(), inputs)


@network
def diffusion_vae() -> Network:
    return Network(AutoEncoder(), {"image": floats("batch", 3, 16, 24)})


# -- graphs -----------------------------------------------------------------------------------


class GraphConvolution(nn.Module):
    """A GCN layer: mean over neighbours and itself, weighted by degrees."""

    def __init__(self, inner: int, outer: int):
        super().__init__()
        self.lin = nn.Linear(inner, outer, bias=False)
        self.bias = nn.Parameter(torch.zeros(outer))

    def forward(self, x, edge_index):
        count = x.shape[0]
        loops = torch.arange(count, device=x.device)
        source = torch.cat([edge_index[0], loops])
        target = torch.cat([edge_index[1], loops])
        degree = torch.zeros(count, device=x.device).scatter_add_(
            0, target, torch.ones_like(target, dtype=x.dtype)
        )
        scale = degree.pow(-0.5)
        scale = scale.masked_fill(scale == float("inf"), 0.0)
        weight = scale[source] * scale[target]
        messages = self.lin(x)[source] * weight[:, None]
        return torch.zeros_like(messages[:count]).index_add_(0, target, messages) + self.bias


class GraphAttention(nn.Module):
    """A GAT layer: softmax over each node's incoming edges."""

    def __init__(self, inner: int, outer: int, heads: int = 2):
        super().__init__()
        self.heads, self.outer = heads, outer
        self.lin = nn.Linear(inner, heads * outer, bias=False)
        self.att_src = nn.Parameter(torch.randn(heads, outer) * 0.3)
        self.att_dst = nn.Parameter(torch.randn(heads, outer) * 0.3)

    def forward(self, x, edge_index):
        source, target = edge_index.unbind(0)
        count = x.shape[0]
        features = self.lin(x).view(-1, self.heads, self.outer)
        score = (features * self.att_src).sum(-1)[source]
        score = functional.leaky_relu(score + (features * self.att_dst).sum(-1)[target], 0.2)
        place = target[:, None].expand_as(score)
        low = score.new_full((count, self.heads), float("-inf"))
        peak = low.scatter_reduce(0, place, score, reduce="amax", include_self=False)
        exponent = (score - peak[target]).exp()
        total = exponent.new_zeros((count, self.heads)).scatter_add(0, place, exponent)
        share = exponent / (total[target] + 1e-16)
        messages = features[source] * share[..., None]
        out = messages.new_zeros((count, self.heads, self.outer)).index_add(0, target, messages)
        return out.flatten(1)


class GraphClassifier(nn.Module):
    def __init__(self, layers):
        super().__init__()
        self.convs = nn.ModuleList(layers)

    def forward(self, x, edge_index):
        for conv in self.convs[:-1]:
            x = functional.relu(conv(x, edge_index))
        return functional.log_softmax(self.convs[-1](x, edge_index), dim=-1)


def _graph(layers: list[nn.Module]) -> Network:
    inputs = {"x": floats("nodes", 6), "edge_index": ids(2, "edges", below="nodes")}
    return Network(GraphClassifier(layers), inputs, {"nodes": (7, 9), "edges": (20, 31)})


@network
def gcn() -> Network:
    return _graph([GraphConvolution(6, 8), GraphConvolution(8, 3)])


@network
def gat() -> Network:
    return _graph([GraphAttention(6, 8), GraphAttention(16, 3)])


# -- sequences --------------------------------------------------------------------------------


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, 12)
        self.lstm = nn.LSTM(12, 10, num_layers=2, bidirectional=True, batch_first=True)
        self.tags = nn.Linear(20, 5)

    def forward(self, input_ids):
        states, _ = self.lstm(self.embedding(input_ids))
        return functional.log_softmax(self.tags(states), dim=-1)


class Decoder(nn.Module):
    """A branch on the first state, then steps of a recurrent cell in a loop."""

    def __init__(self):
        super().__init__()
        self.cell = nn.GRUCell(8, 8)
        self.out = nn.Linear(8, 8)

    def forward(self, start, steps):
        def unfinished(step, state, total):
            return step < steps

        def advance(step, state, total):
            state = self.cell(torch.tanh(self.out(state)), state)
            return step + 1, state, total + state.sum(-1)

        state = torch.cond(start.mean() > 0, lambda x: x * 2.0, lambda x: self.out(x), (start,))
        first = torch.zeros((), dtype=torch.int64)
        _, state, total = torch.while_loop(
            unfinished, advance, (first, state, torch.zeros_like(start[:, 0]))
        )
        return state, total


class SparseExperts(nn.Module):
    """A layer of experts of which each token takes two, by a gate."""

    def __init__(self, width: int = 8, count: int = 4):
        super().__init__()
        self.gate = nn.Linear(width, count, bias=False)
        self.up = nn.Parameter(torch.randn(count, width, 16) * 0.2)
        self.down = nn.Parameter(torch.randn(count, 16, width) * 0.2)

    def forward(self, x):
        rows = x.flatten(0, -2)
        weight, chosen = self.gate(rows).softmax(-1).topk(2, dim=-1)
        weight = weight / weight.sum(-1, keepdim=True)
        inner = functional.silu(torch.einsum("td,tkdh->tkh", rows, self.up[chosen]))
        each = torch.einsum("tkh,tkhd->tkd", inner, self.down[chosen])
        return (each * weight[..., None]).sum(1).view_as(x), chosen


@network
def lstm_tagger() -> Network:
    return Network(Tagger(), {"input_ids": ids("batch", "length")})


@network
def loop_and_branch() -> Network:
    inputs = {"start": floats("batch", 8), "steps": ids(below=5)}
    return Network(Decoder(), inputs)


@network
def sparse_experts() -> Network:
    return Network(SparseExperts(), {"x": floats("batch", "length", 8)})
