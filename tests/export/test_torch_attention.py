"""Attention: one node where the opset has one, products and a softmax elsewhere."""

import pytest

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn.functional import scaled_dot_product_attention as attend  # noqa: E402

from export.agree import agree  # noqa: E402


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def parts(heads=4, shared=4, width=6):
    return (
        torch.randn(2, heads, 5, 8),
        torch.randn(2, shared, 7, 8),
        torch.randn(2, shared, 7, width),
    )


def mask():
    visible = torch.rand(2, 1, 5, 7) > 0.4
    visible[0, 0, 2] = False
    return visible


@pytest.mark.parametrize("opset", [14, 20, 23, 24])
def test_forms(opset):
    q, k, v = parts()
    fused = opset >= 23

    def check(module, *args, one=True, **rest):
        operators = agree(module, *args, opset=opset, terms=256, **rest)
        assert (operators == ["Attention"]) == (fused and one)

    check(lambda q, k, v: attend(q, k, v, scale=0.3), q, k, v)
    check(lambda q, k, v, m: attend(q, k, v, m), q, k, v, torch.randn(5, 7))
    check(lambda q, k, v, m: attend(q, k, v, m), q, k, v, mask(), one=False)
    check(lambda q, k, v: attend(q, k, v, enable_gqa=True), *parts(4, 2, 8))
    check(lambda q, k, v: attend(q, k, v), q[0], k[0], v[0])
    check(lambda q, k, v: attend(q, k, v), q[None], k[None], v[None], one=False)
    check(
        lambda q, k, v: attend(q, k, v, is_causal=True), q, k, v,
        dynamic={"q": {0: "n", 2: "l"}, "k": {0: "n", 2: "m"}, "v": {0: "n", 2: "m"}},
        sizes=[(torch.randn(3, 4, 6, 8), torch.randn(3, 4, 9, 8), torch.randn(3, 4, 9, 6))],
    )  # fmt: skip


def test_few_nodes_before_the_operator_exists():
    plain = agree(lambda q, k, v: attend(q, k, v), *parts(), terms=256)
    assert len(plain) == 5
    causal = agree(lambda q, k, v: attend(q, k, v, is_causal=True), *parts(), terms=256)
    assert len(causal) == 6


@pytest.mark.parametrize("opset", [17, 23])
def test_modules(opset):
    x = torch.randn(2, 5, 8)
    hidden = torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
    agree(nn.MultiheadAttention(8, 2, batch_first=True), x, x, x, opset=opset, terms=256)

    class Padded(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, x, hidden):
            return self.inner(x, x, x, key_padding_mask=hidden, need_weights=False)[0]

    agree(Padded(), x, hidden, opset=opset, terms=256)
    agree(nn.Transformer(8, 2, 1, 1, 16, batch_first=True), x, x, opset=opset, terms=1024)


def test_other_widths_and_added_keys():
    module = nn.MultiheadAttention(8, 2, kdim=6, vdim=5, add_bias_kv=True, add_zero_attn=True)
    agree(module, torch.randn(3, 2, 8), torch.randn(4, 2, 6), torch.randn(4, 2, 5), terms=256)


@pytest.mark.parametrize("norm_first", [True, False])
def test_native_layers(norm_first):
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)

    class Native(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = layer

        def forward(self, x, hidden):
            each, inner = self.layer, self.layer.self_attn
            weights = (inner.in_proj_weight, inner.in_proj_bias, inner.out_proj.weight,
                       inner.out_proj.bias)  # fmt: skip
            whole = torch._transformer_encoder_layer_fwd(
                x, 8, 2, *weights, norm_first, norm_first, 1e-5, each.norm1.weight,
                each.norm1.bias, each.norm2.weight, each.norm2.bias, each.linear1.weight,
                each.linear1.bias, each.linear2.weight, each.linear2.bias,
            )  # fmt: skip
            part = torch._native_multi_head_attention(
                x, x, x, 8, 2, *weights, hidden, True, True, 1
            )
            return whole, part

    hidden = torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
    agree(Native(), torch.randn(2, 5, 8), hidden, terms=1024)


def test_heads_of_dynamic_width():
    def self_attention(x):
        return attend(x, x, x)

    others = [(torch.randn(2, 3, 5, 12),)]
    agree(self_attention, torch.randn(2, 3, 4, 8), dynamic=({2: "n", 3: "d"},), sizes=others)
