"""Rotary position embeddings: one node where the opset has one, what was written elsewhere."""

import pytest

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import sardonyx as sx  # noqa: E402
from export.agree import agree  # noqa: E402

HEADS_FIRST = (2, 4, 5, 8)
HEADS_SECOND = (2, 5, 4, 8)


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def places(batch=2, length=5):
    return torch.arange(length).repeat(batch, 1)


def angles(x, pos, axis):
    steps = 0.3 ** torch.arange(x.shape[-1] // 2, dtype=x.dtype)
    return (pos[:, :, None].to(x.dtype) * steps).unsqueeze(axis)


def halves(x, pos, axis=1):
    a, b = x.chunk(2, -1)
    angle = torch.cat([angles(x, pos, axis)] * 2, -1)
    return x * angle.cos() + torch.cat((-b, a), -1) * angle.sin()


def sliced_halves(x, pos, axis=1):
    half = x.shape[-1] // 2
    angle = torch.cat([angles(x, pos, axis)] * 2, -1)
    turned = torch.cat((-x[..., half:], x[..., :half]), -1)
    return turned * (1.5 * angle.sin()) + (1.5 * angle.cos()) * x


def pairs(x, pos, axis=1):
    angle = angles(x, pos, axis).repeat_interleave(2, -1)
    turned = torch.stack((-x[..., 1::2], x[..., ::2]), -1).flatten(-2)
    return x * angle.cos() + turned * angle.sin()


def split_halves(x, pos, axis=1):
    cos, sin = angles(x, pos, axis).cos(), angles(x, pos, axis).sin()
    a, b = x.chunk(2, -1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)


def split_pairs(x, pos, axis=1):
    cos, sin = angles(x, pos, axis).cos(), angles(x, pos, axis).sin()
    a, b = x[..., ::2], x[..., 1::2]
    return torch.stack((a * cos - b * sin, a * sin + b * cos), -1).flatten(-2)


def by_complex(x, pos, axis=1):
    angle = angles(x, pos, axis)
    turned = torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2)) * torch.polar(
        torch.ones_like(angle), angle
    )
    return torch.view_as_real(turned).flatten(-2)


FORMS = [halves, sliced_halves, pairs, split_halves, split_pairs, by_complex]


def partial(form, turned):
    def run(x, pos, axis=1):
        return torch.cat((form(x[..., :turned], pos, axis), x[..., turned:]), -1)

    return run


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
@pytest.mark.parametrize("turned", [8, 6])
def test_forms(form, turned):
    module = form if turned == 8 else partial(form, turned)
    x, y, pos = torch.randn(HEADS_FIRST), torch.randn(HEADS_SECOND), places()
    before = agree(module, x, pos)
    assert "RotaryEmbedding" not in before
    after = agree(module, x, pos, opset=23)
    assert after.count("RotaryEmbedding") == 1
    assert not {"Concat", "Slice", "Split", "Sub", "Neg"} & set(after)
    assert len(after) <= len(before) - 5
    after = agree(lambda x, pos: module(x, pos, axis=2), y, pos, opset=23)
    assert after.count("RotaryEmbedding") == 1
    assert len(after) <= len(before) - 3


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
def test_any_batch_and_length(form):
    dynamic = {"x": {0: "batch", 2: "length"}, "pos": {1: "length"}}

    def one_row(x, pos):
        return form(x, pos)

    args = torch.randn(HEADS_FIRST), places(1)
    before = agree(one_row, *args, dynamic=dynamic)
    after = agree(
        one_row, *args, opset=23, dynamic=dynamic, sizes=[(torch.randn(3, 4, 7, 8), places(1, 7))]
    )
    assert after.count("RotaryEmbedding") == 1
    assert len(after) < len(before)


class Attended(nn.Module):
    """Grouped-query attention, with angles from tables that were made beforehand."""

    def __init__(self, turned=8, form=torch.cat, width=8):
        super().__init__()
        self.query, self.key = nn.Linear(16, 4 * width), nn.Linear(16, 2 * width)
        self.turned, self.width = turned, width
        angle = torch.arange(32.0)[:, None] * 0.3 ** torch.arange(turned // 2)
        angle = form((angle, angle), -1).flatten(1)
        self.register_buffer("cos", angle.cos())
        self.register_buffer("sin", angle.sin())
        self.by_turns = form is torch.stack

    def turn(self, x, pos):
        cos, sin = self.cos[pos].unsqueeze(1), self.sin[pos].unsqueeze(1)
        front, rest = x[..., : self.turned], x[..., self.turned :]
        if self.by_turns:
            other = torch.stack((-front[..., 1::2], front[..., ::2]), -1).flatten(-2)
        else:
            a, b = front.chunk(2, -1)
            other = torch.cat((-b, a), -1)
        return torch.cat((front * cos + other * sin, rest), -1)

    def forward(self, x, pos):
        q, k = (
            layer(x).unflatten(-1, (-1, self.width)).transpose(1, 2)
            for layer in (self.query, self.key)
        )
        q, k = self.turn(q, pos), self.turn(k, pos)
        return nn.functional.scaled_dot_product_attention(q, k, k, is_causal=True, enable_gqa=True)


@pytest.mark.parametrize("form", [torch.cat, torch.stack], ids=["halves", "pairs"])
@pytest.mark.parametrize("turned", [8, 4])
def test_attention_of_groups(form, turned):
    module = Attended(turned, form).eval()
    dynamic = {"x": {0: "batch", 1: "length"}, "pos": {0: "batch", 1: "length"}}
    args = torch.randn(2, 5, 16), places()
    longer = torch.randn(3, 7, 16), places(3, 7)
    before = agree(module, *args, dynamic=dynamic, terms=512)
    after = agree(module, *args, opset=23, dynamic=dynamic, sizes=[longer], terms=512)
    assert after.count("RotaryEmbedding") == 2
    assert after.count("Gather") == 2
    assert after.count("Attention") == 1
    assert len(after) < len(before) - 10


class Meta(nn.Module):
    def __init__(self):
        super().__init__()
        self.query = nn.Linear(16, 32)
        angle = torch.outer(torch.arange(16.0), 0.5 ** torch.arange(4.0))
        self.register_buffer("freqs_cis", torch.polar(torch.ones(16, 4), angle))

    def forward(self, x):
        heads = self.query(x).view(*x.shape[:2], 4, 8)
        freqs = self.freqs_cis[: x.shape[1]].view(1, x.shape[1], 1, 4)
        pair = torch.view_as_complex(heads.float().reshape(*heads.shape[:-1], -1, 2))
        return torch.view_as_real(pair * freqs).flatten(3).type_as(x).transpose(1, 2)


def test_complex_tables():
    dynamic = {"x": {0: "batch", 1: "length"}}
    args, longer = (torch.randn(2, 5, 16),), (torch.randn(3, 7, 16),)
    before = agree(Meta(), *args, dynamic=dynamic, terms=128)
    after = agree(Meta(), *args, opset=23, dynamic=dynamic, sizes=[longer], terms=128)
    assert after.count("RotaryEmbedding") == 1
    assert len(after) <= len(before)
    fixed = agree(Meta(), *args, opset=23, terms=128)
    assert len(fixed) < len(agree(Meta(), *args, terms=128))


def test_what_is_no_rotation_stays():
    x, pos = torch.randn(HEADS_FIRST), places()
    a, b = torch.randn(5, 8), torch.randn(5, 8)

    def other_angles(x, a, b):
        first, second = x.chunk(2, -1)
        return x * a + torch.cat((-second, first), -1) * b

    def crossed(x, pos):
        first, second = x.chunk(2, -1)
        angle = torch.cat([angles(x, pos, 1)] * 2, -1)
        return x * angle.cos() + torch.cat((-first, second), -1) * angle.sin()

    def mixed(x, pos):
        angle = torch.cat([angles(x, pos, 1)] * 2, -1)
        turned = torch.stack((-x[..., 1::2], x[..., ::2]), -1).flatten(-2)
        return x * angle.cos() + turned * angle.sin()

    def heads_differ(x, a):
        first, second = x.chunk(2, -1)
        a = torch.cat((a, a), -1)
        return x * a.cos() + torch.cat((-second, first), -1) * a.sin()

    for module, *args in (
        (other_angles, x, a, b), (crossed, x, pos), (mixed, x, pos),
        (heads_differ, x, torch.randn(4, 5, 4)), (halves, x.double(), pos.double()),
    ):  # fmt: skip
        assert "RotaryEmbedding" not in agree(module, *args, opset=23, peer=module is not halves)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_short_types(dtype):
    def cast(x, pos):
        angle = torch.cat([angles(x, pos, 1)] * 2, -1)
        a, b = x.chunk(2, -1)
        return x * angle.cos().to(x.dtype) + torch.cat((-b, a), -1) * angle.sin().to(x.dtype)

    x = torch.randn(HEADS_FIRST).to(dtype)
    model = sx.export(cast, (x, places()), opset_version=23, verify=True)
    assert [node.op_type for node in model.graph.nodes].count("RotaryEmbedding") == 1


@pytest.mark.parametrize(("name", "fewer"), [("llama", 12), ("gpt_neox", 18), ("gptj", 20)])
def test_language_models(name, fewer):
    transformers = pytest.importorskip("transformers")
    small = {
        "vocab_size": 97, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4,
        "intermediate_size": 48, "use_cache": False, "bos_token_id": 1, "eos_token_id": 2,
    }  # fmt: skip
    makers = {
        "llama": lambda: transformers.LlamaModel(
            transformers.LlamaConfig(**small, num_key_value_heads=2)
        ),
        "gpt_neox": lambda: transformers.GPTNeoXModel(
            transformers.GPTNeoXConfig(**small, rotary_pct=0.5)
        ),
        "gptj": lambda: transformers.GPTJModel(
            transformers.GPTJConfig(
                vocab_size=97, n_embd=32, n_layer=1, n_head=4, n_positions=64, rotary_dim=4,
                use_cache=False, bos_token_id=1, eos_token_id=2,
            )
        ),
    }  # fmt: skip

    class Plain(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = makers[name]()

        def forward(self, ids):
            return self.model(input_ids=ids).last_hidden_state

    module = Plain().eval()
    ids, longer = torch.randint(97, (2, 7)), torch.randint(97, (3, 5))
    dynamic = {"ids": {0: "batch", 1: "length"}}
    before = agree(module, ids, opset=22, dynamic=dynamic, terms=2048)
    after = agree(module, ids, opset=23, dynamic=dynamic, sizes=[(longer,)], terms=2048)
    assert after.count("RotaryEmbedding") == 2
    assert "RotaryEmbedding" not in before
    assert len(after) <= len(before) - fewer
