from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from differential import agrees_with_inference, close, compare, normal
from sardonyx.errors import ModelError
from single_operator import apply

NARROW = [np.float16, ml_dtypes.bfloat16]


def parameters(count: int, dtype=np.float32) -> list[np.ndarray]:
    scale, bias, mean = normal(count, 1, 4, dtype=dtype).transpose(2, 0, 1)[:3, :, 0]
    return [scale, bias, mean, np.abs(scale - bias) + dtype(0.5)]


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (2, 3), (2, 3, 4), (1, 3, 2, 2, 2)])
@pytest.mark.parametrize("version", [7, 9, 14, 15])
def test_batch_normalization(shape, version):
    compare("BatchNormalization", normal(*shape), *parameters(3), version=version, terms=4)


@pytest.mark.torch
@pytest.mark.parametrize("version", [14, 15])
def test_batch_normalization_training(version):
    import torch

    x, parts = normal(4, 3, 5), parameters(3)
    ours = apply(
        "BatchNormalization", x, *parts, version=version, n_outputs=3, training_mode=1, momentum=0.8
    )
    mean, var = (torch.from_numpy(array.copy()) for array in parts[2:])
    scale, bias = (torch.from_numpy(array.copy()) for array in parts[:2])
    y = torch.nn.functional.batch_norm(
        torch.from_numpy(x), None, None, scale, bias, training=True, eps=1e-5
    )
    close(ours[:1], [y.numpy()], terms=60)
    close(ours[1:2], [mean.numpy() * np.float32(0.8) + x.mean((0, 2)) * np.float32(0.2)], 20)
    close(ours[2:], [var.numpy() * np.float32(0.8) + x.var((0, 2)) * np.float32(0.2)], 20)


def test_batch_normalization_per_feature_of_opset_7():
    x = normal(2, 3, 4)
    parts = [np.abs(normal(12, index)[:, 0]) + 0.5 for index in (1, 2, 3, 4)]
    scale, bias, mean, var = (part.reshape(3, 4) for part in parts)
    expected = (x - mean) / np.sqrt(var + 1e-5) * scale + bias
    ours = apply("BatchNormalization", x, *parts, version=7, spatial=0)
    close(ours[:1], [expected.astype(np.float32)], terms=8)


def test_batch_normalization_with_mixed_types():
    x = normal(2, 3, 4, dtype=np.float16)
    (y,) = apply("BatchNormalization", x, *parameters(3), version=15)
    (wide,) = apply("BatchNormalization", x.astype(np.float32), *parameters(3), version=15)
    assert y.dtype == np.float16
    close([y], [wide.astype(np.float16)])


@pytest.mark.parametrize("axis", [-1, 1, 0])
@pytest.mark.parametrize("outputs", [1, 3])
def test_layer_normalization(axis, outputs):
    x = normal(2, 3, 4)
    scale, bias = normal(*x.shape[axis:]), normal(*x.shape[axis:])
    compare(
        "LayerNormalization", x, scale, bias, axis=axis, version=17, n_outputs=outputs, terms=24
    )


@pytest.mark.torch
@pytest.mark.parametrize("dtype", [*NARROW, np.float64])
def test_layer_normalization_of_other_types(dtype):
    import torch

    x, scale = normal(5, 64, dtype=dtype), normal(64, dtype=dtype)
    wide = torch.nn.functional.layer_norm(
        torch.from_numpy(x.astype(np.float64)), (64,), torch.from_numpy(scale.astype(np.float64))
    )
    ours = apply("LayerNormalization", x, scale, version=17, n_outputs=3)
    close(ours[:1], [wide.numpy().astype(dtype)])
    assert [part.dtype for part in ours[1:]] == [np.float32, np.float32]
    agrees_with_inference("LayerNormalization", x, scale, outputs=ours, version=17, n_outputs=3)


@pytest.mark.torch
@pytest.mark.parametrize("dtype", [np.float32, *NARROW])
def test_rms_normalization(dtype):
    import torch

    x, scale = normal(5, 64, dtype=dtype), normal(64, dtype=dtype)
    wide = torch.nn.functional.rms_norm(
        torch.from_numpy(x.astype(np.float64)),
        (64,),
        torch.from_numpy(scale.astype(np.float64)),
        1e-5,
    )
    close(apply("RMSNormalization", x, scale, version=23), [wide.numpy().astype(dtype)], terms=2)


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (1, 3, 7)])
def test_instance_normalization(shape):
    compare("InstanceNormalization", normal(*shape), *parameters(3)[:2], version=6, terms=40)


@pytest.mark.torch
@pytest.mark.parametrize(("version", "count"), [(18, 2), (21, 6)])
def test_group_normalization(version, count):
    import torch

    x = normal(2, 6, 5)
    scale, bias = parameters(count)[:2]
    each = 6 // count
    expected = torch.nn.functional.group_norm(
        torch.from_numpy(x),
        2,
        torch.from_numpy(np.repeat(scale, each)),
        torch.from_numpy(np.repeat(bias, each)),
    )
    ours = apply("GroupNormalization", x, scale, bias, version=version, num_groups=2)
    close(ours, [expected.numpy()], terms=20)


@pytest.mark.parametrize("size", [1, 3, 9])
def test_lrn(size):
    compare(
        "LRN", normal(2, 5, 3, 4), version=13, terms=20, size=size, alpha=0.5, beta=0.5, bias=2.0
    )


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("axis", [-1, 0, 1])
def test_lp_normalization(p, axis):
    x = normal(3, 4, 5)
    x[:, 0, 0] = 0
    compare("LpNormalization", x, version=1, terms=8, p=p, axis=axis)


@pytest.mark.parametrize("axes", [(0, 2, 3), (1,), (0, 1, 2, 3)])
def test_mean_variance_normalization(axes):
    compare("MeanVarianceNormalization", normal(2, 3, 4, 5), version=13, terms=120, axes=axes)


@pytest.mark.parametrize("version", [7, 10, 12, 13, 22])
def test_dropout_at_rest_keeps_the_data(version):
    x = normal(3, 4)
    y, mask = apply("Dropout", x, version=version, n_outputs=2)
    np.testing.assert_array_equal(y, x)
    assert mask.all()
    assert mask.dtype == (bool if version >= 10 else np.float32)


def test_dropout_in_training_scales_what_it_keeps():
    x = np.ones((100, 100), np.float32)
    arguments = x, np.float32(0.25), np.bool_(True)
    y, mask = apply("Dropout", *map(np.asarray, arguments), version=22, n_outputs=2, seed=7)
    np.testing.assert_allclose(y, np.where(mask, 1 / 0.75, 0), rtol=1e-6)
    assert abs(mask.mean() - 0.75) < 0.02
    again = apply("Dropout", *map(np.asarray, arguments), version=22, n_outputs=2, seed=7)
    np.testing.assert_array_equal(again[0], y)


@pytest.mark.parametrize(
    ("name", "inputs", "attributes"),
    [
        ("BatchNormalization", [normal(2, 3, 4), *parameters(4)], {}),
        ("LayerNormalization", [normal(2, 3), normal(3)], {"axis": 2}),
        ("LayerNormalization", [normal(2, 3), normal(3)], {"stash_type": 7}),
        ("LayerNormalization", [normal(2, 3), normal(4)], {}),
        ("LayerNormalization", [normal(2, 1), normal(4)], {}),
        ("InstanceNormalization", [normal(2, 3, 4), normal(3, 1), normal(3)], {}),
        ("GroupNormalization", [normal(2, 3, 4), normal(3), normal(3)], {"num_groups": 2}),
        ("GroupNormalization", [normal(2, 3, 4), normal(3), normal(3)], {"num_groups": 0}),
        ("LRN", [normal(2, 3, 4)], {"size": 0}),
        ("LpNormalization", [normal(2, 3)], {"p": 3}),
        ("LpNormalization", [normal(2, 3)], {"axis": -3}),
        ("MeanVarianceNormalization", [normal(2, 3)], {"axes": (2,)}),
    ],
)
def test_what_does_not_fit_is_refused(name, inputs, attributes):
    with pytest.raises(ModelError):
        apply(name, *inputs, version=22, **attributes)
