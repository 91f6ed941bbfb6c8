"""`sx.to_torch`: a trainable module that computes what the session computes."""

from __future__ import annotations

import copy
import importlib.util
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from torch.nn import functional  # noqa: E402

import sardonyx as sx  # noqa: E402
from sardonyx.errors import InputError, UnsupportedError  # noqa: E402

pytestmark = pytest.mark.torch
EPS = float(np.finfo(np.float32).eps)


class Block(torch.nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = torch.nn.LayerNorm(width)
        self.qkv = torch.nn.Linear(width, 3 * width)
        self.out = torch.nn.Linear(width, width)
        self.up, self.down = torch.nn.Linear(width, 2 * width), torch.nn.Linear(2 * width, width)

    def forward(self, x: Any) -> Any:
        batch, length, width = x.shape
        parts = self.qkv(self.norm(x)).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(*parts.unbind(0), is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, length, width))
        return x + self.down(functional.gelu(self.up(x)))


class Decoder(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.places = torch.nn.Embedding(40, 16), torch.nn.Embedding(32, 16)
        self.blocks = torch.nn.ModuleList([Block(16, 4) for _ in range(2)])
        self.head = torch.nn.Linear(16, 40, bias=False)

    def forward(self, ids: Any) -> Any:
        x = self.tokens(ids) + self.places(torch.arange(ids.shape[1], device=ids.device))
        for block in self.blocks:
            x = block(x)
        return self.head(x)


class Tagger(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.tokens = torch.nn.Embedding(20, 8)
        self.gates = torch.nn.Parameter(torch.randn(4 * 6, 8 + 6) * 0.3)
        self.out = torch.nn.Linear(6, 3)

    def forward(self, ids: Any) -> Any:
        x = self.tokens(ids)
        h = c = x.new_zeros(x.shape[0], 6)
        for t in range(5):
            i, f, o, g = (torch.cat([x[:, t], h], 1) @ self.gates.t()).chunk(4, 1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
        return self.out(h)


def cnn() -> Any:
    layers = torch.nn
    return layers.Sequential(
        layers.Conv2d(3, 8, 3, padding=1, bias=False),
        layers.BatchNorm2d(8),
        layers.ReLU(),
        layers.MaxPool2d(2),
        layers.Conv2d(8, 8, 3, stride=2, padding=1, groups=2),
        layers.GroupNorm(2, 8),
        layers.SiLU(),
        layers.AdaptiveAvgPool2d(1),
        layers.Flatten(),
        layers.Linear(8, 5),
    )


def recurrent() -> Any:
    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = torch.nn.LSTM(4, 6, bidirectional=True, batch_first=True)
            self.out = torch.nn.Linear(12, 3)

        def forward(self, x: Any) -> Any:
            return self.out(self.rnn(x)[0])

    return Net()


NETWORKS = {
    "cnn": (cnn, lambda n: torch.randn(n, 3, 12, 12), {0: "batch"}),
    "decoder": (Decoder, lambda n: torch.randint(0, 40, (n, 3 + n)), {0: "batch", 1: "length"}),
    "tagger": (Tagger, lambda n: torch.randint(0, 20, (n, 5)), {0: "batch"}),
    "lstm": (recurrent, lambda n: torch.randn(n, 5, 4), {0: "batch"}),
}


def network(name: str) -> tuple[Any, Any, sx.Model]:
    torch.manual_seed(0)
    make, example, dims = NETWORKS[name]
    module = make().eval()
    model = sx.export(module, (example(2),), dynamic_shapes=(dims,), verify=False)
    return module, example, model


def assert_near(found: Any, wanted: Any) -> None:
    found, wanted = found.detach(), wanted.detach()
    scale = float(wanted.abs().max()) + 1e-6
    assert float((found - wanted).abs().max()) <= 256 * EPS * scale


def from_text(text: str) -> sx.Model:
    return sx.parse(text)


@pytest.mark.parametrize("name", NETWORKS)
def test_it_computes_what_the_original_and_the_session_compute(name: str) -> None:
    module, example, model = network(name)
    back, session = sx.to_torch(model), sx.Session(model)
    for count in (2, 3):
        x = example(count)
        assert_near(back(x), module(x))
        (wanted,) = session.run(None, {model.graph.inputs[0].name: x.numpy()})
        assert_near(back(x).detach(), torch.from_numpy(wanted))


@pytest.mark.parametrize("name", ["cnn", "decoder", "tagger"])
def test_state_has_the_names_and_a_step_of_training_works(name: str) -> None:
    module, example, model = network(name)
    back = sx.to_torch(model)
    wanted = {key for key in module.state_dict() if not key.endswith("num_batches_tracked")}
    assert set(back.state_dict()) == wanted
    assert {key for key, _ in back.named_parameters()} == {
        key for key, _ in module.named_parameters()
    }
    back.load_state_dict(module.state_dict(), strict=False)
    x = example(2)
    for each in (module, back):
        each(x).square().mean().backward()
    for (key, own), (_, found) in zip(
        sorted(module.named_parameters()), sorted(back.named_parameters()), strict=True
    ):
        top = max(float(p.grad.abs().max()) for p in module.parameters() if p.grad is not None)
        assert float((own.grad - found.grad).abs().max()) <= 1e-4 * top, key
    before = float(back(x).detach().square().mean())
    torch.optim.SGD(back.parameters(), lr=1e-2).step()
    assert float(back(x).detach().square().mean()) < before


@pytest.mark.parametrize("name", NETWORKS)
def test_it_exports_again(name: str) -> None:
    _, example, model = network(name)
    back = sx.to_torch(model)
    again = sx.export(back, (example(2),), dynamic_shapes=(NETWORKS[name][2],))
    x = example(3)
    (found,) = sx.Session(again).run(None, {again.graph.inputs[0].name: x.numpy()})
    assert_near(torch.from_numpy(found), back(x).detach())


@pytest.mark.parametrize("name", ["cnn", "decoder"])
@pytest.mark.filterwarnings("ignore")
def test_it_compiles_whole(name: str) -> None:
    _, example, model = network(name)
    back = sx.to_torch(model)
    x = example(2)
    for backend, dynamic in (("eager", None), ("aot_eager", None), ("eager", True)):
        torch._dynamo.reset()
        compiled = torch.compile(back, backend=backend, fullgraph=True, dynamic=dynamic)
        assert_near(compiled(x), back(x))
    x = example(4)
    assert_near(compiled(x), back(x))


@pytest.mark.parametrize("name", NETWORKS)
def test_copies_keep_everything(name: str) -> None:
    _, example, model = network(name)
    back, x = sx.to_torch(model), example(2)
    file = io.BytesIO()
    torch.save(back, file)
    file.seek(0)
    for again in (torch.load(file, weights_only=False), copy.deepcopy(back)):
        assert torch.equal(again(x), back(x))
        assert set(again.state_dict()) == set(back.state_dict())
        assert again.meta["input_names"] == back.meta["input_names"]


def test_frozen_weights_need_no_gradients() -> None:
    _, _, model = network("cnn")
    assert not any(p.requires_grad for p in sx.to_torch(model, trainable=False).parameters())


class Frozen(torch.nn.Module):
    """Statistics that no operator is known to treat as such, as detectors' backbones have."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.randn(3))
        self.register_buffer("order", torch.tensor([2, 0, 1]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x - self.mean.reshape(1, -1, 1))[:, self.order]


def test_buffers_stay_what_a_state_can_set() -> None:
    module, x = Frozen(), torch.randn(2, 3, 4)
    back = sx.to_torch(sx.export(module, (x,)))
    assert set(back.state_dict()) == {"mean", "order"}
    assert not list(back.parameters())
    other = Frozen()
    back.load_state_dict(other.state_dict())
    assert torch.equal(back(x), other(x))


def test_keywords_outputs_and_constants() -> None:
    model = from_text(
        """
        <ir_version: 8, opset_import: ["" : 17]>
        two (float[n] a, float[n] b) => (float[n] total, float[n] scaled)
        <float[1] share = {0.5}, float[1] half = {2.0}> {
            total = Add (a, b)
            part = Mul (a, share)
            scaled = Mul (part, half)
        }
        """
    )
    module = sx.to_torch(model)
    a, b = torch.ones(3), torch.full((3,), 2.0)
    total, scaled = module(b=b, a=a)
    assert torch.equal(total, torch.full((3,), 3.0))
    assert torch.equal(scaled, torch.ones(3))
    assert list(module.state_dict()) == ["share", "half_1"]
    assert module.meta["renamed"] == {"half": "half_1"}  # Module.half is a method


LOOP = """
<ir_version: 8, opset_import: ["" : 17]>
powers (float[2] x, int64 count) => (float[2] last, float[k, 2] all)
<float[2] factor = {2.0, 3.0}, bool yes = {1}> {
    last, all = Loop (count, yes, x) <body = step
        (int64 i, bool go, float[2] held) => (bool go_on, float[2] next, float[2] shown) {
            go_on = Identity (go)
            next = Mul (held, factor)
            shown = Identity (next)
        }>
}
"""


def test_gradients_flow_through_a_loop() -> None:
    module = sx.to_torch(from_text(LOOP))
    last, every = module(torch.ones(2), torch.tensor(3))
    assert torch.equal(last, torch.tensor([8.0, 27.0]))
    assert every.shape == (3, 2)
    last.sum().backward()
    assert torch.equal(module.factor.grad, torch.tensor([12.0, 27.0]))
    assert module(torch.ones(2), torch.tensor(0))[1].shape == (0, 2)


BRANCH = """
<ir_version: 8, opset_import: ["" : 17]>
choice (float[n] x) => (float[n] y)
<float weight = {3.0}, float zero = {0.0}> {
    total = ReduceSum <keepdims = 0> (x)
    positive = Greater (total, zero)
    y = If (positive) <
        then_branch = a () => (float[n] p) { p = Mul (x, weight) },
        else_branch = b () => (float[n] q) { q = Neg (x) }>
}
"""


@pytest.mark.filterwarnings("ignore")
def test_a_branch_is_taken_at_run_time_and_exported_as_cond() -> None:
    module = sx.to_torch(from_text(BRANCH))
    x = torch.tensor([1.0, 2.0])
    module(x).sum().backward()
    assert float(module.weight.grad) == 3.0
    assert torch.equal(module(-x), x)
    program = torch.export.export(module, (x,))
    assert "cond" in str(program.graph)
    assert torch.equal(program.module()(-x), x)


def test_all_missing_operators_are_listed_at_once() -> None:
    model = from_text(
        """
        <ir_version: 10, opset_import: ["" : 20]>
        words (string[n] x) => (string[n] y, bool[n] z) {
            y = StringConcat (x, x)
            z = RegexFullMatch <pattern = "a+"> (y)
        }
        """
    )
    with pytest.raises(UnsupportedError, match=r"StringConcat \(1\), RegexFullMatch \(1\)"):
        sx.to_torch(model)
    with pytest.raises(InputError, match="takes a model or a path"):
        sx.to_torch(3)  # type: ignore[arg-type]


def test_quantization_is_passed_straight_through() -> None:
    model = from_text(
        """
        <ir_version: 10, opset_import: ["" : 21]>
        fake (float[n] x) => (float[n] y) <float scale = {0.1}, int8 zero = {0}> {
            q = QuantizeLinear (x, scale, zero)
            y = DequantizeLinear (q, scale, zero)
        }
        """
    )
    module = sx.to_torch(model)
    x = torch.tensor([0.26, -0.5, 100.0], requires_grad=True)
    y = module(x)
    y.sum().backward()
    assert torch.allclose(y, torch.tensor([0.3, -0.5, 12.7]))
    assert x.grad.tolist() == [1.0, 1.0, 0.0]


def test_sizes_are_arithmetic_on_integers() -> None:
    _, example, model = network("decoder")
    code = sx.to_torch(model).code
    assert ".tolist" not in code
    assert "sizes_shape" in code
    assert example(2).shape == (2, 5)


def test_a_file_of_source_and_weights(tmp_path: Path) -> None:
    from sardonyx.bridge.torch.source import write_source

    _, example, model = network("decoder")
    back, x = sx.to_torch(model), example(2)
    write_source(back, tmp_path / "net.py", "net.onnx")
    spec = importlib.util.spec_from_file_location("net", tmp_path / "net.py")
    assert spec is not None
    assert spec.loader is not None
    written = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(written)
    again = written.load()
    assert torch.equal(again(x), back(x))
    assert set(again.state_dict()) == set(back.state_dict())
    assert "sx.normalization.layer_normalization(" in (tmp_path / "net.py").read_text()


@pytest.mark.parametrize("suffix", [".py", ".pt", ".pt2"])
def test_the_command_line_writes_it(tmp_path: Path, suffix: str) -> None:
    from typer.testing import CliRunner

    from sardonyx.cli.app import app

    _, example, model = network("cnn")
    sx.save(model, tmp_path / "net.onnx")
    target = tmp_path / f"out{suffix}"
    result = CliRunner().invoke(app, ["to-torch", str(tmp_path / "net.onnx"), str(target)])
    assert result.exit_code == 0, result.output
    assert target.exists()
    if suffix == ".pt2":
        x = example(4)
        assert_near(torch.export.load(target).module()(x), sx.to_torch(model)(x))


def test_every_attribute_is_taken_or_said_to_be_ignored() -> None:
    from sardonyx.bridge.torch.registry import IMPLEMENTATIONS, find
    from sardonyx.ops import registry

    find("", "Relu", 14)
    for (domain, name), made in IMPLEMENTATIONS.items():
        operator = registry.get(domain, name)
        for schema in operator.schemas().values():
            found = find(domain, name, schema.since_version)
            assert found in made
            if found.attributes is None:
                missing = set(schema.fields.values()) - found.keywords.keys() - found.ignored
                assert not missing, (name, schema.since_version, missing)
