"""Convolutions, pools, normalizations, resizing and embeddings as PyTorch has them."""

import pytest

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from export.agree import agree  # noqa: E402


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def image(*shape):
    return torch.randn(*shape)


def randomized(norm):
    for name, tensor in norm.state_dict().items():
        if tensor.dtype.is_floating_point:
            tensor.copy_(torch.rand_like(tensor) + 0.5 * name.endswith("var"))
    return norm


X1, X2, X3 = (2, 4, 9), (2, 4, 9, 8), (2, 4, 6, 5, 7)

CONVOLUTIONS = {
    "line": (nn.Conv1d(4, 6, 3, 2, 1, 2), X1),
    "line same": (nn.Conv1d(4, 4, 4, padding="same", dilation=3, groups=2), X1),
    "line valid, unbatched": (nn.Conv1d(4, 6, 3, padding="valid"), X1[1:]),
    "plane": (nn.Conv2d(4, 6, (3, 2), (2, 1), (1, 0), groups=2, bias=False), X2),
    "plane reflect": (nn.Conv2d(4, 2, 3, padding=(1, 2), padding_mode="reflect"), X2),
    "plane replicate": (nn.Conv2d(4, 2, 4, padding="same", padding_mode="replicate"), X2),
    "plane circular": (nn.Conv2d(4, 2, 3, padding=1, padding_mode="circular"), X2),
    "plane unbatched": (nn.Conv2d(4, 2, 3), X2[1:]),
    "volume": (nn.Conv3d(4, 2, 3, padding=1, dilation=2), X3),
    "up line": (nn.ConvTranspose1d(4, 6, 3, 2, 1, output_padding=1), X1),
    "up plane": (nn.ConvTranspose2d(4, 6, 3, 3, 2, (1, 2), groups=2, dilation=2), X2),
    "up plane unbatched": (nn.ConvTranspose2d(4, 2, 2, 2, bias=False), X2[1:]),
    "up volume": (nn.ConvTranspose3d(4, 2, 2, (2, 1, 2)), X3),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions(name):
    module, shape = CONVOLUTIONS[name]
    agree(module, image(*shape))
    if name in {"plane", "up plane", "plane reflect"}:
        agree(module, image(*shape), opset=9)


def test_convolutions_of_integers_and_of_weights_given_at_run_time():
    x, w = torch.randint(-9, 9, (1, 2, 6, 6)), torch.randint(-9, 9, (3, 2, 3, 3))
    # onnxruntime has no convolution of DOUBLE, in which integers are exact
    agree(lambda x, w: F.conv2d(x, w, padding=1), x, w, peer=False)
    agree(
        lambda x, w: F.conv_transpose2d(x, w, stride=2), x, w.transpose(0, 1).contiguous(),
        peer=False,
    )  # fmt: skip
    agree(lambda x, w, b: F.conv_tbc(x, w, b, 1), image(5, 2, 3), image(3, 3, 4), image(4))


POOLS = {
    "max": (lambda x: F.max_pool2d(x, 3, 2, 1, 2), X2),
    "max ceil": (lambda x: F.max_pool2d(x, 2, 3, 1, ceil_mode=True), X2),
    "max indices": (lambda x: F.max_pool2d(x, 3, 2, 1, return_indices=True), X2),
    "max indices unbatched": (lambda x: F.max_pool1d(x, 2, return_indices=True), X1[1:]),
    "max volume": (lambda x: F.max_pool3d(x, 2, 3, ceil_mode=True, return_indices=True), X3),
    "average": (lambda x: F.avg_pool2d(x, 3, 2, 1), X2),
    "average valid": (lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False), X2),
    "average ceil": (lambda x: F.avg_pool2d(x, 3, 2, 1, True), X2),
    "average ceil valid": (lambda x: F.avg_pool2d(x, 4, 3, 2, True, False), X2),
    "average divisor": (lambda x: F.avg_pool2d(x, 3, 2, 1, True, divisor_override=5), X2),
    "average line": (lambda x: F.avg_pool1d(x, 4, 3, 2, True), X1),
    "average volume": (lambda x: F.avg_pool3d(x, (2, 3, 2), 2, 1, True), X3),
    "average volume unbatched": (lambda x: F.avg_pool3d(x, 2, 3, 1, True, False), X3[1:]),
    "norm": (lambda x: F.lp_pool2d(x.abs() + 0.1, 3, 2, ceil_mode=True), X2),
    "adaptive": (lambda x: F.adaptive_avg_pool2d(x, (4, 3)), X2),
    "adaptive line": (lambda x: F.adaptive_avg_pool1d(x, 5), X1),
    "adaptive volume": (lambda x: F.adaptive_avg_pool3d(x, (4, 3, None)), X3),
    "adaptive max": (lambda x: F.adaptive_max_pool2d(x, (4, 3)), X2),
    "adaptive max indices": (lambda x: F.adaptive_max_pool2d(x, (4, 3), return_indices=True), X2),
    "adaptive max one": (lambda x: F.adaptive_max_pool1d(x, 1, return_indices=True), X1),
    "adaptive max volume": (lambda x: F.adaptive_max_pool3d(x, (2, 4, 3), return_indices=True), X3),
    "unpooled": (
        lambda x: F.max_unpool2d(*F.max_pool2d(x, 2, return_indices=True), 2, output_size=(9, 8)),
        X2,
    ),
    "unpooled line": (lambda x: F.max_unpool1d(*F.max_pool1d(x, 3, return_indices=True), 3), X1),
    "local response": (nn.LocalResponseNorm(3), X2),
    "area": (lambda x: F.interpolate(x, (4, 3), mode="area"), X2),
}


@pytest.mark.parametrize("name", POOLS)
def test_pools(name):
    module, shape = POOLS[name]
    agree(module, image(*shape))


def test_fractional_pools():
    sample = torch.rand(2, 4, 2)
    agree(
        lambda x, s: F.fractional_max_pool2d(x, (2, 3), (4, 3), _random_samples=s,
                                             return_indices=True),
        image(*X2), sample,
    )  # fmt: skip
    agree(
        lambda x, s: F.fractional_max_pool3d(x, 2, (3, 2, 1), _random_samples=s),
        image(*X3), torch.rand(2, 4, 3),
    )  # fmt: skip


def test_fractional_pools_of_dynamic_sizes():
    sizes = [(image(2, 4, 10, 13), torch.rand(2, 4, 2))]
    agree(
        lambda x, s: F.fractional_max_pool2d(x, (2, 3), (4, 3), _random_samples=s),
        image(*X2), torch.rand(2, 4, 2), dynamic=({2: "h", 3: "w"}, None), sizes=sizes,
    )  # fmt: skip


def test_adaptive_pools_of_nothing():
    agree(lambda x: F.adaptive_avg_pool3d(x, (3, 2, 2)), torch.zeros(0, 3, 7, 5, 4))


def test_the_gradient_of_a_max_pool():
    def backward(x, gradient):
        _, places = F.max_pool2d(x, 3, 2, 1, return_indices=True)
        return torch.ops.aten.max_pool2d_with_indices_backward(
            gradient, x, [3, 3], [2, 2], [1, 1], [1, 1], False, places
        )

    agree(backward, image(2, 3, 7, 8), image(2, 3, 4, 4))


def test_pools_of_integers():
    x = torch.randint(-90, 90, (1, 2, 7, 7))
    agree(lambda x: F.max_pool2d(x, 3, 2, 1), x)
    agree(lambda x: F.avg_pool2d(x, 3, 2, 1), x, peer=False)
    agree(lambda x: F.max_pool2d(x, 3, 2, 1), x.to(torch.uint8))


@pytest.mark.parametrize(
    "module",
    [
        lambda x: F.max_pool2d(x, 3, 2, 0, ceil_mode=True),
        lambda x: F.avg_pool2d(x, 3, 2, 0, ceil_mode=True),
        lambda x: F.avg_pool2d(x, 4, 2, 1, ceil_mode=True),
        lambda x: F.max_pool2d(x, 3, 2, 1, return_indices=True),
        lambda x: F.adaptive_avg_pool2d(x, (3, 4)),
        lambda x: F.adaptive_max_pool2d(x, (3, 2)),
        lambda x: F.adaptive_max_pool2d(x, 1, return_indices=True),
        lambda x: F.adaptive_max_pool2d(x, (3, 2), return_indices=True),
        nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)),
    ],
)
def test_pools_of_dynamic_sizes(module):
    agree(
        module, image(*X2), dynamic=({0: "n", 2: "h", 3: "w"},),
        sizes=[(image(1, 4, 8, 11),), (image(3, 4, 12, 7),)],
    )  # fmt: skip


NORMS = {
    "batch": (randomized(nn.BatchNorm2d(4)), X2),
    "batch bare": (nn.BatchNorm1d(4, affine=False), X1[:2]),
    "batch of itself": (nn.BatchNorm2d(4, track_running_stats=False), X2),
    "instance": (randomized(nn.InstanceNorm2d(4, affine=True)), X2),
    "instance tracked": (randomized(nn.InstanceNorm1d(4, track_running_stats=True)), X1),
    "instance unbatched": (nn.InstanceNorm2d(4), X2[1:]),
    "group": (randomized(nn.GroupNorm(2, 4)), X2),
    "group bare": (nn.GroupNorm(4, 4, affine=False), (*X1[:2], 3)),
    "layer": (randomized(nn.LayerNorm([9, 8])), X2),
    "layer bare": (nn.LayerNorm(8, elementwise_affine=False), X2),
    "layer without bias": (nn.LayerNorm(8, bias=False), X2),
    "rms": (randomized(nn.RMSNorm(8)), X2),
    "rms bare": (nn.RMSNorm([9, 8], eps=1e-3, elementwise_affine=False), X2),
    "renorm": (lambda x: torch.renorm(x, 1, 1, 3.0), X2),
    "weight": (nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 3, 3)), X2),
    "spectral": (nn.utils.parametrizations.spectral_norm(nn.Linear(8, 3)), X2),
    "with statistics": (lambda x: torch.native_layer_norm(x, [8], None, None, 1e-5), X2),
    "groups with statistics": (
        lambda x: torch.native_group_norm(x, None, None, 2, 4, 72, 2, 1e-5),
        X2,
    ),
}


@pytest.mark.parametrize("name", NORMS)
def test_norms(name):
    module, shape = NORMS[name]
    agree(module, image(*shape), terms=256)
    if "statistics" in name or name in {"group", "layer", "rms", "layer bare"}:
        for opset in (9, 23):
            agree(module, image(*shape), opset=opset, terms=256)


def test_one_node_for_each_norm():
    assert agree(nn.RMSNorm(8), image(*X2), opset=23) == ["RMSNormalization"]
    assert agree(nn.LayerNorm(8), image(*X2)) == ["LayerNormalization"]
    assert agree(nn.GroupNorm(2, 4), image(*X2), opset=21) == ["GroupNormalization"]


def test_batch_norm_in_training():
    def train(x, mean, var):
        return F.batch_norm(x, mean.clone(), var.clone(), training=True)

    agree(train, image(*X2), image(4), torch.rand(4) + 0.5, terms=256)

    def updated(x, scale, shift, mean, var):
        results = torch.ops.aten._batch_norm_with_update_functional(
            x, scale, shift, mean, var, 0.1, 1e-5
        )
        return results[0], results[4], results[5]

    vectors = image(4), image(4), image(4), torch.rand(4) + 0.5
    agree(updated, image(*X2), *vectors, terms=256)


MODES = [
    ("nearest", 4), ("nearest-exact", 5), ("linear", 3), ("bilinear", 4), ("bicubic", 4),
    ("trilinear", 5),
]  # fmt: skip
TARGETS = [
    {"size": 1}, {"size": 7}, {"size": 3}, {"scale_factor": 1.7}, {"scale_factor": 0.6},
    {"scale_factor": 1.7, "recompute_scale_factor": True},
]  # fmt: skip


@pytest.mark.parametrize("target", TARGETS, ids=str)
@pytest.mark.parametrize(("mode", "rank"), MODES)
def test_interpolation(mode, rank, target):
    x = image(2, 3, *(5, 6, 4)[: rank - 2])
    aligned = (False, True) if target == {"size": 7} else (True,)
    for align in (None,) if mode.startswith("nearest") else aligned:
        agree(lambda x, align=align: F.interpolate(x, mode=mode, align_corners=align, **target), x)


@pytest.mark.parametrize("target", [{"size": (7, 3)}, {"scale_factor": 0.6}, {"scale_factor": 2.0}])
@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_interpolation_with_antialias(mode, target):
    for align in (False, True):
        options = {"mode": mode, "align_corners": align, "antialias": True, **target}
        operators = agree(lambda x, o=options: F.interpolate(x, **o), image(2, 3, 5, 8))
        assert operators == ["MatMul", "MatMul"]


def test_interpolation_of_dynamic_sizes_and_of_bytes():
    agree(
        lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"), image(2, 3, 5, 6),
        dynamic={"x": {0: "n", 2: "h", 3: "w"}}, sizes=[(image(1, 3, 8, 3),)],
    )  # fmt: skip
    agree(
        lambda x, y: F.interpolate(x, y.shape[2:], mode="bicubic", align_corners=True),
        image(2, 3, 5, 6), image(2, 1, 7, 9),
        dynamic={"x": {2: "h", 3: "w"}, "y": {2: "a", 3: "b"}},
        sizes=[(image(2, 3, 4, 7), image(2, 1, 5, 6))],
    )  # fmt: skip
    bytes_ = torch.randint(0, 255, (1, 3, 5, 6), dtype=torch.uint8)
    agree(lambda x: F.interpolate(x, (9, 7), mode="nearest"), bytes_)


@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("mode", ["bilinear", "nearest", "bicubic"])
def test_grid_sample(mode, padding):
    grid = torch.rand(2, 4, 3, 2) * 2.4 - 1.2
    for align, opset in ((True, 20), (False, 16)):
        options = {"mode": mode, "padding_mode": padding, "align_corners": align}
        agree(lambda x, g, o=options: F.grid_sample(x, g, **o), image(2, 3, 5, 6), grid,
              opset=opset, terms=256)  # fmt: skip
    if mode != "bicubic":
        volume = torch.rand(2, 2, 3, 4, 3) * 2.4 - 1.2
        agree(lambda x, g: F.grid_sample(x, g, mode, padding, False), image(2, 2, 3, 4, 5), volume,
              terms=256)  # fmt: skip


@pytest.mark.parametrize("opset", [20, 14])
def test_affine_grid(opset):
    for shape, theta in (((2, 3, 4, 5), (2, 2, 3)), ((2, 1, 3, 4, 5), (2, 3, 4))):
        for align in (False, True):
            agree(
                lambda t, s=shape, a=align: F.affine_grid(t, s, align_corners=a), image(*theta),
                opset=opset,
            )  # fmt: skip


def test_folds_and_shuffles():
    agree(nn.Unfold((2, 3), dilation=2, padding=1, stride=2), image(*X2))
    agree(nn.Fold((4, 5), (2, 2), padding=1), image(2, 8, 30))
    agree(nn.PixelShuffle(2), image(*X2))
    agree(nn.PixelUnshuffle(2), image(2, 1, 4, 6))
    agree(nn.ChannelShuffle(2), image(*X2))


def test_similarity():
    agree(nn.Bilinear(8, 9, 3), image(2, 5, 8), image(2, 5, 9))
    assert agree(nn.Bilinear(8, 9, 3, bias=False), image(5, 8), image(5, 9)) == ["Einsum"]
    agree(nn.CosineSimilarity(-1), image(*X2), image(8))
    agree(nn.PairwiseDistance(3), image(3, 8), image(3, 8))
    agree(nn.GLU(1), image(*X2))


INDICES = [1, 2, 4, 5, 4, 3, 2, 9]


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_bags(mode):
    indices, offsets, weight = torch.tensor(INDICES), torch.tensor([0, 2, 2, 5, 8]), image(10, 3)
    for options in ({}, {"padding_idx": 4}, {"include_last_offset": True}):
        agree(
            lambda i, w, o, k=options: F.embedding_bag(i, w, o, mode=mode, **k), indices, weight,
            offsets,
        )  # fmt: skip
    agree(
        lambda i, w, o: F.embedding_bag(i, w, o, mode=mode), indices, weight, offsets,
        dynamic={"i": {0: "n"}, "w": None, "o": {0: "b"}},
        sizes=[(indices[:3], weight, offsets[:2])],
    )  # fmt: skip
    table = indices.view(2, 4)
    operators = agree(
        lambda i, w: F.embedding_bag(i, w, mode=mode), table, weight,
        dynamic={"i": {0: "b"}, "w": None}, sizes=[(table.repeat(2, 1), weight)],
    )  # fmt: skip
    assert len(operators) == 2


def test_embeddings():
    indices = torch.tensor(INDICES)
    agree(nn.Embedding(10, 3, padding_idx=4), indices.view(2, 4))
    agree(
        lambda i, w, s: F.embedding_bag(i, w, mode="sum", per_sample_weights=s),
        indices.view(2, 4), image(10, 3), image(2, 4),
    )  # fmt: skip
    with pytest.warns(UserWarning, match="changes weight|weight"):
        agree(nn.Embedding(10, 3, max_norm=0.5), indices)
