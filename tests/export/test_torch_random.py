"""Random operators of PyTorch: their shapes, types and laws."""

import warnings

import numpy as np
import onnx
import pytest

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")

import sardonyx as sx  # noqa: E402
from export.agreement import peer_session  # noqa: E402


class Draws(torch.nn.Module):
    def forward(self, x):
        share = x.abs().clip(max=1)
        return (
            torch.rand(3, 4), torch.randn_like(x), torch.randint(0, 5, (3,)), share.bernoulli(),
            torch.normal(x, 1.0), torch.normal(0.0, 1.0, (2, 3)), torch.normal(x, x.abs()),
            x.clone().uniform_(1, 2), torch.multinomial(x.softmax(1), 2, True),
            torch.multinomial(x.softmax(1), 2, False), torch.randperm(5),
            x.clone().exponential_(2.0), torch.nn.functional.dropout(x, 0.3, True),
            torch.rand(x.shape[0], 3), x.clone().normal_(2, 3), x.clone().random_(3),
            x.clone().cauchy_(), x.clone().geometric_(0.3), x.clone().log_normal_(),
            torch.randint_like(x, 4), torch.randint(-5, 5, (3,)), torch.randint(2**40, (3,)),
            torch.multinomial(x[0].softmax(0), 4, True), torch.poisson(x.abs()),
            torch.alpha_dropout(x, 0.3, True), torch.feature_alpha_dropout(x[:, :, None], 0.3, True),
            torch.feature_dropout(x[:, :, None], 0.3, True),
        )  # fmt: skip


@pytest.mark.parametrize("opset", [20, 13])
def test_shapes_and_types(opset):
    module, x = Draws(), torch.linspace(-1, 1, 12).reshape(4, 3)
    with pytest.warns(UserWarning, match="random numbers"):
        model = sx.export(module, (x,), opset_version=opset, dynamic_axes={"x": {0: "batch"}})
    data = sx.dumps(model)
    onnx.checker.check_model(onnx.load_from_string(data), full_check=True)
    for runner in (sx.Session(model), peer_session(data)):
        for rows in (4, 6):
            given = torch.linspace(-1, 1, 3 * rows).reshape(rows, 3)
            found = runner.run(None, {"x": given.numpy()})
            for expected, got in zip(module(given), found, strict=True):
                assert (got.shape, got.dtype) == (tuple(expected.shape), expected.numpy().dtype)
                assert np.isfinite(got).all()
            order = found[10]
            assert sorted(order) == list(range(5))
            assert all(len(set(row)) == 2 for row in found[9])


COUNT = 100_000


class Many(torch.nn.Module):
    def forward(self, x):
        z = torch.zeros(COUNT)
        return torch.stack([
            torch.rand(COUNT), torch.randn(COUNT), torch.randint(0, 5, (COUNT,)).float(),
            torch.bernoulli(z + 0.3), z.clone().exponential_(2.0), z.clone().geometric_(0.3),
            z.clone().log_normal_(0, 0.5), torch.randint(-5, 5, (COUNT,)).float(),
            torch.nn.functional.dropout(z + 1, 0.3, True), torch.normal(z + 2, z + 3),
            torch.poisson(z + 3), torch.alpha_dropout(torch.normal(z, z + 1), 0.3, True),
        ]) + x  # fmt: skip


MEANS = [0.5, 0, 2, 0.3, 0.5, 1 / 0.3, np.exp(0.125), -0.5, 1, 2, 3, 0]
DEVIATIONS = [
    12**-0.5, 1, 2**0.5, 0.21**0.5, 0.5, 0.7**0.5 / 0.3,
    ((np.exp(0.25) - 1) * np.exp(0.25)) ** 0.5, 8.25**0.5, (0.3 / 0.7) ** 0.5, 3,
    3**0.5, 1,
]  # fmt: skip


def test_laws():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = sx.export(Many(), (torch.zeros(1),))
    (found,) = sx.Session(model).run(None, {"x": np.zeros(1, np.float32)})
    # 6 standard errors: about one run in 10^8 is further off
    near = 6 * np.array(DEVIATIONS) / np.sqrt(COUNT)
    np.testing.assert_array_less(np.abs(found.mean(1) - MEANS), near)
    np.testing.assert_allclose(found.std(1), DEVIATIONS, rtol=0.05)
