"""Recurrent layers become single nodes that keep the number of time steps open."""

import pytest

pytestmark = [
    pytest.mark.torch,
    pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN"),
]
torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from export.agree import agree  # noqa: E402

STEPS, BATCH, FEATURES, HIDDEN = 5, 3, 6, 4


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def sequence(steps=STEPS, batch=BATCH):
    return torch.randn(steps, batch, FEATURES)


@pytest.mark.parametrize("opset", [20, 9])
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_one_layer_is_one_node(kind, opset):
    name = kind.__name__
    operators = agree(kind(FEATURES, HIDDEN), sequence(), opset=opset, terms=256)
    assert operators == [name, "Squeeze"]


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_layers_both_ways_with_a_state(kind):
    module = kind(FEATURES, HIDDEN, 2, bidirectional=True, batch_first=True, dropout=0.5)
    state = torch.randn(4, STEPS, HIDDEN)
    given = (state, torch.randn_like(state)) if kind is nn.LSTM else state
    operators = agree(module, sequence(), given, terms=256)
    assert operators.count(kind.__name__) == 2
    agree(kind(FEATURES, HIDDEN, 2, bias=False), sequence()[:, 0], terms=256)


def test_relu():
    agree(nn.RNN(FEATURES, HIDDEN, nonlinearity="relu", bidirectional=True), sequence(), terms=256)


@pytest.mark.parametrize(
    "module",
    [
        nn.LSTM(FEATURES, HIDDEN, 2, bidirectional=True),
        nn.GRU(FEATURES, HIDDEN),
        nn.RNN(FEATURES, HIDDEN),
        nn.LSTM(FEATURES, HIDDEN, proj_size=3, bidirectional=True),
    ],
)
def test_time_and_batch_stay_dynamic(module):
    agree(
        module, sequence(), dynamic=({0: "time", 1: "batch"},), sizes=[(sequence(8, 2),)],
        terms=256,
    )  # fmt: skip


def test_projections_are_a_scan():
    module = nn.LSTM(FEATURES, HIDDEN, 2, proj_size=2, bidirectional=True, batch_first=True)
    assert agree(module, sequence(), terms=256).count("Scan") == 4
    state = (torch.randn(1, BATCH, 2), torch.randn(1, BATCH, HIDDEN))
    agree(nn.LSTM(FEATURES, HIDDEN, proj_size=2, bias=False), sequence(), state, terms=256)


def test_cells():
    x, h = sequence()[0], torch.randn(BATCH, HIDDEN)
    for kind in (nn.GRUCell, nn.RNNCell):
        agree(kind(FEATURES, HIDDEN), x, h)
        assert len(agree(kind(FEATURES, HIDDEN), x)) == 3
    agree(nn.RNNCell(FEATURES, HIDDEN, nonlinearity="relu"), x, h)
    agree(nn.LSTMCell(FEATURES, HIDDEN), x, (h, torch.randn_like(h)))


def test_weights_that_are_computed():
    layer = nn.LSTM(FEATURES, HIDDEN)
    nn.utils.parametrizations.weight_norm(layer, "weight_hh_l0")

    class Module(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = layer

        def forward(self, x):
            return self.layer(x)

    agree(Module(), sequence(), terms=256)


def test_torch_is_left_as_it_was():
    before = torch._VF.lstm
    agree(nn.LSTM(FEATURES, HIDDEN), sequence(), terms=256)
    assert torch._VF.lstm == before
