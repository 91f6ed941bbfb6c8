"""Reports, verification's figures, weights from files, TorchScript."""

import json

import numpy as np
import onnx
import pytest

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import sardonyx as sx  # noqa: E402
from sardonyx.errors import ExportError, VerificationError  # noqa: E402


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 8), nn.Linear(8, 2)

    def forward(self, x):
        return self.second(torch.tanh(self.first(x)))


X = torch.randn(2, 4)


def test_a_report_as_an_object_markdown_and_json(tmp_path):
    report = sx.export.Report()
    path = tmp_path / "net.onnx"
    sx.export(Net(), (X,), path, dynamic_shapes={"x": {0: "batch"}}, report=report)
    assert report.model == "Net"
    assert report.versions["torch"] == torch.__version__
    assert report.verified
    assert report.parameters == 4 * 8 + 8 + 8 * 2 + 2
    assert report.operators == {"aten.linear.default": 2, "aten.tanh.default": 1}
    assert report.nodes == {"Gemm": 2, "Tanh": 1}
    assert {"trace", "translate", "verify", "save"} <= set(report.stages)
    assert len({figure.inputs for figure in report.figures}) == 3
    assert all(figure.largest <= figure.allowed for figure in report.figures)
    assert [(dim.input, dim.axis, dim.size) for dim in report.dims] == [("x", 0, "batch")]

    sx.export(Net(), (X,), path, report=True)
    page = (tmp_path / "net.onnx.report.md").read_text()
    assert "| Gemm | 2 |" in page
    sx.export(Net(), (X,), report=tmp_path / "report.json", verify=False)
    document = json.loads((tmp_path / "report.json").read_text())
    assert (document["verified"], document["nodes"]["Tanh"]) == (False, 1)


def test_a_report_of_a_failure(tmp_path):
    with pytest.raises(ExportError):
        sx.export(Net(), (X,), report=tmp_path / "r.md", opset_version=20, input_names=["a", "b"])
    assert "2 input names for 1 tensors" in (tmp_path / "r.md").read_text()


def test_one_corrupted_bias_is_named(monkeypatch):
    from sardonyx.export.torch import exporting

    original = exporting.translate

    def corrupted(program, *rest):
        # what a broken translation would do: another number in one layer's bias
        translated = original(program, *rest)
        for value in translated.model.graph.initializers:
            if value.name == "second.bias":
                wrong = np.array(value.const.numpy())
                wrong[0] += 0.01
                value.const = sx.ir.ArrayTensor(wrong, name=value.name)
        return translated

    monkeypatch.setattr(exporting, "translate", corrupted)
    with pytest.raises(VerificationError) as caught:
        sx.export(Net(), (X,))
    text = str(caught.value)
    assert "'second/Gemm' (Gemm), the first to diverge: largest error 0.01" in text
    assert "module second" in text
    assert "aten.linear.default" in text


def test_buffers_are_as_before_after_verification():
    class Counts(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("count", torch.zeros(()))

        def forward(self, x):
            self.count += 1
            return x + 1

    module = Counts()
    with pytest.warns(UserWarning, match="changes count"):
        sx.export(module, (X,))
    assert module.count == 0


def test_weights_are_not_copied():
    module = nn.Linear(4, 4).to(torch.bfloat16)
    model = sx.export(module, (X.bfloat16(),), verify=False, opset_version=22)
    weight = next(value for value in model.graph.initializers if value.name == "weight")
    assert weight.const.numpy().ctypes.data == module.weight.data_ptr()
    assert weight.const.nbytes == 32


@pytest.mark.parametrize("kind", ["dict", "pt", "safetensors", "folder", "index"])
def test_weights_of_a_module_on_the_meta_device(tmp_path, kind):
    real = Net()
    state = real.state_dict()
    with torch.device("meta"):
        module = Net()
    with pytest.raises(ExportError, match=r"4 weights hold no data.*first\.weight") as caught:
        sx.export(module, (X,))
    assert "weights=" in str(caught.value)
    weights = state
    if kind == "pt":
        weights = tmp_path / "net.pt"
        torch.save(state, weights)
    elif kind != "dict":
        safetensors = pytest.importorskip("safetensors.torch")
        weights = tmp_path / "net.safetensors"
        safetensors.save_file(state, weights)
        if kind == "folder":
            weights = tmp_path
        elif kind == "index":
            weights = tmp_path / "net.safetensors.index.json"
            weights.write_text(json.dumps({"weight_map": dict.fromkeys(state, "net.safetensors")}))
    model = sx.export(module, (X,), tmp_path / "out.onnx", weights=weights)
    onnx.checker.check_model(onnx.load(tmp_path / "out.onnx"), full_check=True)
    found = sx.Session(model).run(None, {"x": X.numpy()})[0]
    np.testing.assert_allclose(found, real(X).detach(), rtol=0, atol=1e-6)
    assert all(parameter.is_meta for parameter in module.parameters())


def test_weights_that_do_not_fit(tmp_path):
    with torch.device("meta"):
        module = Net()
    state = Net().state_dict()
    with pytest.raises(ExportError, match=r"no data for 1 of the module's tensors: second\.bias"):
        sx.export(module, (X,), weights={k: v for k, v in state.items() if k != "second.bias"})
    half = {name: value.half() for name, value in state.items()}
    with pytest.raises(ExportError, match=r"'first\.weight' as torch\.float16"):
        sx.export(module, (X,), weights=half)
    for data in (b"", b"\xff" * 20, b"\x02" + b"\0" * 7 + b"[]", b"\x02" + b"\0" * 7 + b"{"):
        broken = tmp_path / "broken.safetensors"
        broken.write_bytes(data)
        with pytest.raises(ExportError, match=r"no safetensors file|no data for|cannot read"):
            sx.export(module, (X,), weights=broken)
    with pytest.raises(ExportError, match="there is no file"):
        sx.export(module, (X,), weights=tmp_path / "none.pt")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("make", [torch.jit.script, lambda module: torch.jit.trace(module, (X,))])
def test_torchscript(make):
    module = Net().eval()
    model = sx.export(make(module), (X,))
    found = sx.Session(model).run(None, {model.graph.inputs[0].name: X.numpy()})[0]
    np.testing.assert_allclose(found, module(X).detach(), rtol=0, atol=1e-6)


@pytest.mark.filterwarnings("ignore")
def test_torchscript_with_dynamic_sizes_is_refused():
    with pytest.raises(ExportError, match="fixed sizes only"):
        sx.export(torch.jit.script(Net()), (X,), dynamic_shapes={"x": {0: "n"}})
