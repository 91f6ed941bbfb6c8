"""Small modules that together use most translations."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


class LeNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 6, 5, padding=2), nn.Tanh(), nn.AvgPool2d(2),
            nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
        )  # fmt: skip
        self.classifier = nn.Sequential(
            nn.Dropout(0.5), nn.Linear(16 * 5 * 5, 32), nn.Linear(32, 10)
        )

    def forward(self, image):
        x = torch.flatten(self.features(image), 1)
        return functional.log_softmax(self.classifier(x), dim=1)


class ResidualBlock(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(4, 8, 3, stride=2, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 8, 3, padding="same", dilation=2)
        self.norm2 = nn.GroupNorm(2, 8)
        self.shortcut = nn.Conv2d(4, 8, 1, stride=2)
        _randomize(self.norm1)

    def forward(self, x):
        y = functional.relu(self.norm1(self.conv1(x)), inplace=True)
        y = self.norm2(self.conv2(y))
        y += self.shortcut(x)
        return functional.relu(y), y.mean((2, 3)), functional.adaptive_avg_pool2d(y, 1)


class MobileBlock(nn.Module):
    def __init__(self):
        super().__init__()
        self.expand = nn.Conv2d(4, 16, 1)
        self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.squeeze = nn.Conv2d(16, 4, 1)
        self.restore = nn.Conv2d(4, 16, 1)
        self.project = nn.Conv2d(16, 4, 1)

    def forward(self, x):
        y = functional.hardswish(self.depthwise(functional.relu6(self.expand(x))))
        gate = functional.adaptive_avg_pool2d(y, 1)
        gate = functional.hardsigmoid(self.restore(functional.relu(self.squeeze(gate))))
        return x + self.project(y * gate)


class UNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.down = nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect")
        self.middle = nn.Conv2d(4, 8, 3, padding=1, padding_mode="replicate")
        self.up = nn.ConvTranspose2d(8, 4, 2, stride=2)
        self.resize = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
        self.last = nn.Conv2d(16, 2, 1)

    def forward(self, x):
        a = functional.silu(self.down(x))
        b = functional.elu(self.middle(functional.max_pool2d(a, 2)))
        nearest = functional.interpolate(b[:, :4], scale_factor=2.0, mode="nearest")
        return self.last(torch.cat([a, self.up(b), self.resize(b[:, 4:]), nearest], dim=1))


class Activations(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 6)
        self.prelu = nn.PReLU(6)
        self.layers = nn.ModuleList([
            nn.ReLU(), nn.LeakyReLU(0.2), nn.ELU(), nn.SELU(), nn.CELU(1.5), nn.GELU(),
            nn.GELU(approximate="tanh"), nn.SiLU(), nn.Mish(), nn.Hardtanh(), nn.Hardsigmoid(),
            nn.Hardswish(), nn.Softplus(2, 5), nn.Softsign(), nn.Softshrink(0.1),
            nn.Hardshrink(0.1), nn.Tanhshrink(), nn.Threshold(0.1, 2.0), nn.LogSigmoid(),
            nn.Sigmoid(), nn.Tanh(), nn.ReLU6(), nn.RReLU(), nn.Softmax(0), nn.Softmin(1),
        ])  # fmt: skip

    def forward(self, x):
        x = self.layer(x)
        outputs = [layer(x) for layer in self.layers]
        return torch.stack(outputs).sum(0), self.prelu(x), functional.glu(x)


class Convolutions(nn.Module):
    def __init__(self):
        super().__init__()
        self.grouped = nn.Conv2d(4, 8, 3, groups=2, dilation=2, stride=(2, 1), padding=(1, 2))
        self.line = nn.Conv1d(4, 6, 3, padding=1)
        self.volume = nn.Conv3d(2, 3, 2)
        self.transposed = nn.ConvTranspose2d(8, 4, 3, 2, 1, output_padding=1, groups=2, dilation=2)
        self.line_up = nn.ConvTranspose1d(6, 2, 4, stride=2)
        self.circular = nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular")

    def forward(self, x):
        line = self.line(x.flatten(2))
        volume = self.volume(x.unflatten(1, (2, 2)))
        return self.transposed(self.grouped(self.circular(x))), self.line_up(line), volume


class Pools(nn.Module):
    def forward(self, x):
        return (
            functional.max_pool2d(x, 3, stride=2, padding=1),
            functional.max_pool2d(x, 3, stride=2, ceil_mode=True),
            functional.max_pool2d(x, 2, dilation=2),
            functional.avg_pool2d(x, 3, stride=2, padding=1, count_include_pad=False),
            functional.avg_pool2d(x, 3, stride=2, padding=1),
            functional.avg_pool2d(x, 3, stride=2, ceil_mode=True),
            functional.adaptive_avg_pool2d(x, (4, 2)),
            functional.adaptive_avg_pool2d(x, (3, 5)),
            functional.adaptive_max_pool2d(x, 1),
            functional.adaptive_max_pool2d(x, (3, 5)),
            functional.max_pool1d(x.flatten(2), 4),
            functional.avg_pool1d(x[0].flatten(1), 4),
            functional.lp_pool2d(x.abs() + 0.1, 2, 2),
        )


class Norms(nn.Module):
    def __init__(self):
        super().__init__()
        self.batch1 = nn.BatchNorm1d(6)
        self.instance = nn.InstanceNorm2d(6, affine=True)
        self.plain = nn.InstanceNorm2d(6)
        self.batch = nn.BatchNorm2d(6, track_running_stats=False)
        self.layer = nn.LayerNorm([5, 4])
        self.bare = nn.LayerNorm(4, elementwise_affine=False)
        self.group = nn.GroupNorm(3, 6, affine=False)
        self.rms = nn.RMSNorm(4)
        _randomize(self.batch1)

    def forward(self, x):
        return (
            self.batch1(x.mean((2, 3))), self.instance(x), self.plain(x), self.batch(x),
            self.layer(x), self.bare(x), self.group(x), self.rms(x),
            functional.normalize(x, dim=1),
        )  # fmt: skip


class Arithmetic(nn.Module):
    def forward(self, x, n):
        scaled = (x * 2 - 1) / 3 + n
        return (
            scaled, 1 - x, x**2, x**0.5, 2**x, x // 0.3, x % 0.3, n // 3, n % 3, n / 2, -x,
            torch.where(x > 0.5, x, 0.0), x.clamp(0.2, 0.8), n.clamp(min=1), x.rsqrt(), x.log2(),
            x.log1p(), x.expm1(), torch.maximum(x, n), (x > 0.5) & (n <= 2), ~(x == 0.5), x != n,
            n.float().round(), x.trunc(), torch.atan2(x - 0.5, 0.2 - x), x.masked_fill(n > 2, -1.0),
            torch.lerp(x, scaled, 0.3), x.double() + n, (n > 1).float(), x.erf(), x.sin().cos(),
        )  # fmt: skip


class Reductions(nn.Module):
    def forward(self, x):
        values, places = x.max(1)
        top, where = x.topk(2, dim=-1)
        return (
            x.sum(), x.sum((0, 2)), x.mean(-1, keepdim=True), x.amax((1, 2)), x.amin(0), values,
            places, x.min(2, keepdim=True)[0], x.argmax(1), x.argmin(), x.prod(1), x.var(1),
            x.std((1, 2), correction=0), torch.std_mean(x, 0)[1], x.logsumexp(1), x.norm(dim=1),
            x.cumsum(1), top, where, x.sort(1)[0], (x > 0).any(1), (x > -9).all(), x.softmax(1),
            x.norm(p=1, dim=2), torch.linalg.vector_norm(x, float("inf"), dim=1),
        )  # fmt: skip


class Movement(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(10, 3)
        self.register_buffer("order", torch.tensor([2, 0, 1]))

    def forward(self, x, tokens):
        first, second = x.chunk(2, dim=2)
        a, b, c = torch.split(x, [1, 2, 1], dim=2)
        changed = x.clone()
        changed[:, 0] = 1.0
        changed[:, :, 1:3] = 2.0
        return (
            x.permute(2, 0, 1), x.transpose(0, -1), x.unsqueeze(-1).expand(-1, -1, -1, 5), first,
            second * 2, torch.stack([a, c]), b, x[:, 1:, ::2], x[..., -1], x[:, -2:], changed,
            x.index_select(1, self.order), x[:, self.order], self.embedding(tokens),
            functional.pad(x, (1, 2, 0, 1), value=0.5), x.flip(1), x.roll(1, 2), x.repeat(1, 2, 1),
            x.new_zeros(x.shape[0], 2), torch.arange(x.shape[0]), torch.full_like(x, 3.0),
            x.view(x.shape[0], -1), x.reshape(-1, 2), x.tril(), torch.zeros(2, 3),
            x.narrow(1, 0, 2), x.squeeze(), x.t() if x.ndim < 3 else x,
            torch.gather(x, 1, self.order[None, :, None].expand(x.shape[0], 3, 4)),
            functional.pixel_shuffle(x[:, :, :, None].repeat(1, 1, 2, 3).transpose(1, 2), 2),
            functional.pixel_unshuffle(x[:, :2], 2),
            torch.einsum("bij,bkj->bik", x, x), x.unbind(1)[1],
            torch.bmm(x, x.transpose(1, 2)), x.repeat_interleave(2, dim=1), x[:, [0, 2], [1, 3]],
        )  # fmt: skip


class Indexing(nn.Module):
    def forward(self, x, rows):
        ones = torch.ones(2, 4)
        return (
            x[:, rows, rows + 1], x[rows, :, rows], x[x > 0.5], x.index_put((rows,), ones[:, None]),
            x.index_put((rows,), ones[0], accumulate=True), x.unfold(1, 2, 1),
            functional.max_pool2d(x, 2, return_indices=True)[1], x.roll(5),
            x.scatter(1, rows[:, None, None], ones[:, None, :1]),
            functional.one_hot(rows, 4), torch.meshgrid(x[0, 0], x[1, 0], indexing="ij")[0],
            functional.scaled_dot_product_attention(x, x, x, is_causal=True),
            functional.scaled_dot_product_attention(x, x, x, x[0, :, :3] > 0.4),
        )  # fmt: skip


class Resizes(nn.Module):
    def forward(self, x):
        interpolate = functional.interpolate
        return (
            interpolate(x, scale_factor=2, mode="nearest"),
            interpolate(x, size=(5, 9), mode="nearest"),
            interpolate(x, scale_factor=1.5, mode="nearest-exact"),
            interpolate(x, size=(11, 7), mode="bilinear", align_corners=True),
            interpolate(x, scale_factor=0.5, mode="bilinear"),
            interpolate(x, size=(9, 9), mode="bicubic"),
            interpolate(x.flatten(2), scale_factor=2, mode="linear"),
        )


def _randomize(norm):
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        norm.running_mean.normal_(generator=generator)
        norm.running_var.uniform_(0.5, 2, generator=generator)
        norm.weight.uniform_(0.5, 2, generator=generator)


def transformer():
    return nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, activation="gelu")


def rand(*shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(sum(shape)))


CASES = {
    "lenet": (LeNet, (rand(2, 1, 28, 28),), [{0: "batch"}]),
    "residual": (ResidualBlock, (rand(2, 4, 9, 10),), [{0: "batch", 2: "height", 3: "width"}]),
    "mobile": (MobileBlock, (rand(1, 4, 6, 7),), [{0: "batch", 2: "height", 3: "width"}]),
    "unet": (UNet, (rand(1, 3, 8, 12),), [{0: "batch"}]),
    "activations": (Activations, (rand(3, 6) * 4 - 2,), [{0: "batch"}]),
    "convolutions": (Convolutions, (rand(2, 4, 8, 6),), [{0: "batch"}]),
    "pools": (Pools, (rand(2, 3, 8, 8),), [{0: "batch"}]),
    "norms": (Norms, (rand(2, 6, 5, 4),), [{0: "batch"}]),
    "arithmetic": (
        Arithmetic,
        (rand(3, 4) + 0.01, torch.arange(12).reshape(3, 4)),
        [{0: "n"}, {0: "n"}],
    ),
    "reductions": (Reductions, (rand(3, 4, 5),), [{0: "batch"}]),
    "movement": (
        Movement,
        (rand(2, 3, 4), torch.tensor([[1, 2], [3, 4]])),
        [{0: "batch"}, {0: "rows"}],
    ),
    "indexing": (Indexing, (rand(2, 3, 4), torch.tensor([0, 1])), [{}, {}]),
    "resizes": (Resizes, (rand(2, 3, 6, 8),), [{0: "batch"}]),
    "transformer": (transformer, (rand(2, 5, 8),), [{0: "batch", 1: "length"}]),
}
