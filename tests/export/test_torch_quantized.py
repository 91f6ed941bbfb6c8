"""Quantized graphs become QuantizeLinear and DequantizeLinear."""

import pytest

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")
pytest.importorskip("torch.ao.quantization.fx._decomposed")

from export.agree import agree  # noqa: E402

Q = torch.ops.quantized_decomposed
PAIR = ["QuantizeLinear", "DequantizeLinear"]
TYPES = [
    (torch.int8, -128, 127, 20), (torch.uint8, 0, 255, 20), (torch.int8, -127, 127, 20),
    (torch.int16, -(2**15), 2**15 - 1, 21), (torch.int32, -(2**31), 2**31 - 1, 20),
]  # fmt: skip


def values():
    torch.manual_seed(0)
    return torch.randn(4, 6) * 3


@pytest.mark.parametrize(("dtype", "low", "high", "opset"), TYPES)
def test_tensors_and_channels(dtype, low, high, opset):
    def tensor(x):
        found = Q.quantize_per_tensor(x, 0.1, 0, low, high, dtype)
        return found, Q.dequantize_per_tensor(found, 0.1, 0, low, high, dtype)

    def channel(x, scale, zero):
        found = Q.quantize_per_channel(x, scale, zero, 0, low, high, dtype)
        return found, Q.dequantize_per_channel(found, scale, zero, 0, low, high, dtype)

    operators = agree(tensor, values(), opset=opset)
    if dtype is not torch.int32:
        assert operators == ([*PAIR[:1], "Clip", *PAIR[1:]] if low == -127 else PAIR)
    agree(channel, values(), torch.rand(4) + 0.1, torch.zeros(4, dtype=torch.int64), opset=opset)


def test_dynamic_quantization():
    def module(x):
        scale, zero = Q.choose_qparams(x, -128, 127, 1e-5, torch.int8)
        found = Q.quantize_per_tensor(x, scale, zero, -128, 127, torch.int8)
        restored = Q.dequantize_per_tensor(found, scale, zero, -128, 127, torch.int8)
        return scale, zero, found, restored

    agree(module, values())
    agree(lambda x: Q.choose_qparams_symmetric(x, -127, 127, 1e-5, torch.int8), values())


def test_groups():
    def module(x, scale, zero):
        found = Q.quantize_per_channel_group(x, scale, zero, -8, 7, torch.int8, 2)
        return Q.dequantize_per_channel_group(
            found, scale, zero, -8, 7, torch.int8, 2, torch.float32
        )

    zero = torch.zeros(4, 3, dtype=torch.int32)
    agree(module, values(), torch.rand(4, 3) + 0.2, zero, opset=21)


@pytest.mark.parametrize("opset", [13, 20, 21])
@pytest.mark.parametrize(
    ("low", "high", "zero"),
    [(-128, 127, 3), (0, 255, 120), (-127, 127, 0), (-8, 7, 0), (0, 15, 7)],
)
def test_fake_quantization(low, high, zero, opset):
    operators = agree(
        lambda x: torch.fake_quantize_per_tensor_affine(x, 0.1, zero, low, high), values(),
        opset=opset,
    )  # fmt: skip
    exact = high - low == 255 or (high - low == 15 and opset >= 21)
    assert (operators == PAIR) == exact


def test_fake_quantization_by_tensors_and_by_channels():
    zero = torch.zeros(6, dtype=torch.int32)
    agree(
        lambda x, s, z: torch.fake_quantize_per_channel_affine(x, s, z, 1, -128, 127), values(),
        torch.rand(6) + 0.1, zero,
    )  # fmt: skip
    agree(
        lambda x, s, z: torch.fake_quantize_per_tensor_affine(x, s, z, 0, 255), values(),
        torch.tensor(0.1), torch.tensor(100, dtype=torch.int32),
    )  # fmt: skip
    wide = {}
    for opset in (20, 21):
        wide[opset] = agree(
            lambda x: torch.fake_quantize_per_tensor_affine(x, 0.001, 0, -32768, 32767), values(),
            opset=opset,
        )  # fmt: skip
    assert wide[21] == PAIR


def test_products_of_integers():
    a = torch.randint(-9, 9, (20, 8), dtype=torch.int8)
    b = torch.randint(-9, 9, (8, 16), dtype=torch.int8)
    assert agree(lambda a, b: torch._int_mm(a, b), a, b) == ["MatMulInteger"]
