"""The contract of `sardonyx.export` for PyTorch."""

import subprocess
import sys

import numpy as np
import onnx
import pytest

from sardonyx.errors import ExportError, VerificationError

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")

import onnxruntime  # noqa: E402
from torch import nn  # noqa: E402
from torch.export import Dim  # noqa: E402

import sardonyx as sx  # noqa: E402


def run_peer(model, feeds):
    session = onnxruntime.InferenceSession(sx.dumps(model), providers=["CPUExecutionProvider"])
    return session.run(None, feeds)


def shapes(values):
    return [[str(dim) for dim in value.shape] for value in values]


def test_the_founding_example(tmp_path):
    module = nn.Linear(3, 2)
    path = tmp_path / "linear.onnx"
    x = torch.randn(4, 3)
    model = sx.export(
        module, (x,), path, input_names=["input"], output_names=["output"], opset_version=14
    )
    assert model.opset() == 14
    read = onnx.load(path)
    onnx.checker.check_model(read, full_check=True)
    assert read.ir_version == 7
    assert [value.name for value in read.graph.input] == ["input"]
    assert [value.name for value in read.graph.output] == ["output"]
    assert {tensor.name for tensor in read.graph.initializer} == set(module.state_dict())
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (found,) = session.run(["output"], {"input": x.numpy()})
    (ours,) = sx.Session(str(path)).run(["output"], {"input": x.numpy()})
    expected = module(x).detach().numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-6)


def test_importing_the_exporter_loads_no_framework():
    code = (
        "import sys, sardonyx, sardonyx.export; assert 'torch' not in sys.modules;"
        "assert callable(sardonyx.export)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_unknown_object_is_refused_with_the_frameworks_that_are_known():
    with pytest.raises(ExportError, match=r"builtins\.object") as caught:
        sx.export(object(), (1,))
    assert "torch" in str(caught.value)
    with pytest.raises(ExportError, match="known by its arguments"):
        sx.export(abs, (1.0,))


def test_functions_and_exported_programs():
    def scale(x, factor=2.0):
        return x * factor

    model = sx.export(scale, (torch.ones(3),))
    assert [value.name for value in model.graph.inputs] == ["x"]
    np.testing.assert_array_equal(run_peer(model, {"x": np.ones(3, np.float32)})[0], [2, 2, 2])
    program = torch.export.export(nn.Linear(3, 2), (torch.ones(1, 3),))
    model = sx.export(program, output_names=["y"])
    assert [value.name for value in model.graph.outputs] == ["y"]


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
        self.register_buffer("offset", torch.ones(4, 1, 1))

    def forward(self, image):
        return self.features(image) + self.offset + torch.tensor([0.5, 1.5, 2.5, 3.5])


def test_state_dict_names_and_where_each_node_comes_from():
    model = sx.export(Block(), (torch.randn(1, 3, 6, 6),))
    names = {value.name for value in model.graph.initializers}
    assert {"features.0.weight", "features.0.bias", "offset"} <= names
    conv, relu, *_, last = model.graph.nodes
    assert (conv.name, relu.name) == ("features.0/Conv", "features.1/Relu")
    assert conv.metadata["sardonyx.module"] == "features.0"
    assert conv.metadata["sardonyx.target"] == "aten.conv2d.default"
    assert conv.metadata["sardonyx.source"].startswith("test_torch.py:")
    assert conv.metadata["sardonyx.source"].endswith(" in forward")
    assert last.metadata["sardonyx.target"] == "aten.add.Tensor"


def test_weights_share_memory_and_tied_weights_are_stored_once():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(50, 8)
            self.head = nn.Linear(8, 50, bias=False)
            self.head.weight = self.embedding.weight

        def forward(self, tokens):
            return self.head(self.embedding(tokens))

    module = Tied()
    model = sx.export(module, (torch.tensor([[1, 2]]),))
    weights = [value for value in model.graph.initializers if value.shape == (50, 8)]
    assert len(weights) == 1
    assert weights[0].const.numpy().ctypes.data == module.head.weight.data_ptr()


def test_bfloat16_weights_keep_their_bits():
    module = nn.Linear(3, 2, bias=False).to(torch.bfloat16)
    model = sx.export(module, (torch.ones(1, 3, dtype=torch.bfloat16),), opset_version=22)
    (weight,) = model.graph.initializers
    bits = weight.const.numpy().view(np.int16)
    np.testing.assert_array_equal(bits, module.weight.detach().view(torch.int16).numpy())


def test_nested_inputs_and_outputs_are_flattened():
    class Nested(nn.Module):
        def forward(self, pair, table, *, scale):
            return {"sum": pair[0] + pair[1], "rest": [table["a"] * scale, None]}

    args = ((torch.ones(2), torch.ones(2)), {"a": torch.ones(3)})
    model = sx.export(Nested(), args, kwargs={"scale": torch.tensor(2.0)})
    assert [value.name for value in model.graph.inputs] == ["pair_0", "pair_1", "table_a", "scale"]
    assert [value.name for value in model.graph.outputs] == ["sum", "rest_0"]
    with pytest.raises(ExportError, match="1 input names for 4 tensors"):
        sx.export(Nested(), args, kwargs={"scale": torch.tensor(2.0)}, input_names=["x"])


def test_an_input_that_is_an_output_and_an_output_twice():
    class Through(nn.Module):
        def forward(self, x):
            y = x + 1
            return x, y, y, 3

    model = sx.export(Through(), (torch.ones(2),), output_names=["a", "b", "c", "d"])
    found = run_peer(model, {"x": np.zeros(2, np.float32)})
    assert [list(np.atleast_1d(each)) for each in found] == [[0, 0], [1, 1], [1, 1], [3]]


def test_training_mode_is_left_as_it_was():
    module = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.9), nn.BatchNorm1d(2))
    module[2].eval()
    sx.export(module, (torch.ones(3, 2),))
    assert [each.training for each in module] == [True, True, False]
    assert module.training


class TestDynamic:
    def test_names_and_derived_dims_stand_in_the_file(self):
        class Halves(nn.Module):
            def forward(self, x, y):
                return x[:, ::2] + y, x.flatten()

        batch, half = Dim("batch"), Dim("half")
        model = sx.export(
            Halves(), (torch.randn(2, 8), torch.randn(2, 4)),
            dynamic_shapes={"x": {0: batch, 1: 2 * half}, "y": {0: batch, 1: half}},
        )  # fmt: skip
        assert shapes(model.graph.inputs) == [["batch", "2*half"], ["batch", "half"]]
        x, y = np.ones((3, 10), np.float32), np.ones((3, 5), np.float32)
        found = run_peer(model, {"x": x, "y": y})
        assert [each.shape for each in found] == [(3, 5), (30,)]

    def test_legacy_axes_with_an_example_of_batch_one(self):
        model = sx.export(
            nn.Linear(3, 2), (torch.randn(1, 3),), input_names=["x"], output_names=["y"],
            dynamic_axes={"x": {0: "batch"}, "y": {0: "batch"}},
        )  # fmt: skip
        assert shapes(model.graph.inputs) == [["batch", "3"]]
        assert shapes(model.graph.outputs) == [["batch", "2"]]
        model = sx.export(nn.ReLU(), (torch.randn(2, 3, 4),), dynamic_axes={"input": [0, 2]})
        assert shapes(model.graph.inputs) == [["input_dim0", "3", "input_dim2"]]

    def test_sizes_in_arithmetic(self):
        class Sizes(nn.Module):
            def forward(self, x):
                n, m = x.shape
                return x.reshape(m, n) / n**0.5 + m // 2, torch.arange(n * 2) % 3, x.expand(2, n, m)

        model = sx.export(Sizes(), (torch.randn(3, 4),), dynamic_shapes={"x": {0: "n", 1: "m"}})
        x = np.random.default_rng(0).random((5, 7), np.float32)
        expected = Sizes()(torch.from_numpy(x))
        for right, found in zip(expected, run_peer(model, {"x": x}), strict=True):
            np.testing.assert_allclose(found, right, rtol=1e-6)

    @pytest.mark.parametrize("spec", [Dim("batch"), "batch", Dim.DYNAMIC])
    def test_a_dimension_that_torch_fixes_is_refused(self, spec):
        class Fixed(nn.Module):
            def forward(self, x):
                return x + 1 if x.shape[0] == 4 else x * 2

        with pytest.raises(ExportError, match="cannot be dynamic") as caught:
            sx.export(Fixed(), (torch.randn(4, 3),), dynamic_shapes={"x": {0: spec}})
        text = str(caught.value)
        assert "axis 0 of input 'x'" in text
        assert "specialized it to be a constant (4)" in text
        if spec is not Dim.DYNAMIC:
            assert "'batch'" in text

    def test_a_dimension_left_to_torch_may_be_fixed_with_a_warning(self):
        class Fixed(nn.Module):
            def forward(self, x):
                return x + 1 if x.shape[0] == 4 else x * 2

        with pytest.warns(UserWarning, match="axis 0 of input 'x'.*fixed it at 4"):
            sx.export(Fixed(), (torch.randn(4, 3),), dynamic_shapes={"x": {0: Dim.AUTO}})

    def test_unknown_names_and_axes(self):
        with pytest.raises(ExportError, match="'z', which is no input"):
            sx.export(nn.ReLU(), (torch.ones(2),), dynamic_axes={"z": {0: "n"}})
        with pytest.raises(ExportError, match="has no axis 3"):
            sx.export(nn.ReLU(), (torch.ones(2),), dynamic_axes={"input": [3]})
        with pytest.raises(ExportError, match="both given"):
            sx.export(nn.ReLU(), (torch.ones(2),), dynamic_axes={}, dynamic_shapes={})


@torch.library.custom_op("testlib::bump", mutates_args=())
def bump(x: torch.Tensor, scale: float, power: int = 2) -> torch.Tensor:
    return x * scale**power


@bump.register_fake
def _(x, scale, power=2):
    return torch.empty_like(x)


@torch.library.custom_op("testlib::dent", mutates_args=())
def dent(x: torch.Tensor) -> torch.Tensor:
    return x - 1


@dent.register_fake
def _(x):
    return torch.empty_like(x)


class Unknown(nn.Module):
    def forward(self, x):
        return bump(x, 0.5) + bump(x * 2, 0.5, 3) + dent(x)


def test_all_missing_translations_are_listed_at_once():
    with pytest.raises(ExportError) as caught:
        sx.export(Unknown(), (torch.rand(3),))
    text = str(caught.value)
    assert "testlib.bump.default (2 times), test_torch.py:" in text
    assert "testlib.dent.default (1 time)" in text
    # the example can be pasted: it has the operator's own signature
    assert "def testlib_bump(op, x, scale, power=2):" in text
    assert 'custom_translations={"testlib.bump.default": testlib_bump}' in text
    assert "sardonyx.export.custom_node(\"testlib\", \"bump\", ['scale', 'power'])" in text


@pytest.mark.parametrize(
    "key", [bump, torch.ops.testlib.bump, torch.ops.testlib.bump.default, "testlib::bump.default"]
)
def test_translations_by_operator(key):
    table = {key: lambda op, x, scale, power=2: op.Mul(x, scale**power)}
    table[dent] = lambda op, x: op.Sub(x, 1.0)
    x = torch.rand(3)
    model = sx.export(Unknown(), (x,), custom_translation_table=table)
    np.testing.assert_allclose(run_peer(model, {"x": x.numpy()})[0], Unknown()(x), rtol=1e-6)


def test_a_custom_operator_as_a_node_of_a_custom_domain():
    report = sx.export.Report()
    table = {
        bump: sx.export.custom_node("mylib", "Bump", ["scale", "power"], kind="soft"),
        dent: sx.export.custom_node("mylib", "Dent"),
    }
    model = sx.export(Unknown(), (torch.rand(3),), custom_translations=table, report=report)
    nodes = [node for node in model.graph.nodes if node.domain == "mylib"]
    assert [node.op_type for node in nodes] == ["Bump", "Bump", "Dent"]
    assert dict(nodes[1].attributes.items())["power"].value == 3
    assert model.opset_imports["mylib"] == 1
    assert not report.verified
    assert "mylib.Bump" in report.notes[-1]


def test_optimize_folds_batch_norms_into_convolutions():
    module = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU()).eval()
    nn.init.normal_(module[1].running_mean)
    x = torch.randn(1, 3, 6, 6)
    plain = sx.export(module, (x,))
    assert [node.op_type for node in plain.graph.nodes] == ["Conv", "BatchNormalization", "Relu"]
    model = sx.export(module, (x,), optimize=True)
    assert [node.op_type for node in model.graph.nodes] == ["Conv", "Relu"]
    (found,) = run_peer(model, {"input": x.numpy()})
    np.testing.assert_allclose(found, module(x).detach().numpy(), rtol=0, atol=1e-5)


def test_arguments_of_torch_onnx_that_do_not_exist_say_what_to_do():
    with pytest.raises(TypeError, match=r"do_constant_folding.*optimize=True"):
        sx.export(nn.ReLU(), (torch.rand(3),), do_constant_folding=True)
    with pytest.raises(TypeError, match="did you mean opset_version"):
        sx.export(nn.ReLU(), (torch.rand(3),), opset_versoin=17)
    with pytest.raises(ExportError, match="custom_translations has the key 3"):
        sx.export(nn.ReLU(), (torch.rand(3),), custom_translations={3: None})


def test_a_custom_translation():
    class Bessel(nn.Module):
        def forward(self, x):
            return torch.special.i0(x)

    def i0(op, x):
        # the series of I0, enough for |x| <= 1
        square = op.Mul(op.Mul(x, x), 0.25)
        return op.Add(
            op.Mul(op.Add(op.Mul(op.Add(op.Mul(square, 1 / 36), 0.25), square), 1.0), square), 1.0
        )

    x = torch.linspace(-0.5, 0.5, 7)
    model = sx.export(Bessel(), (x,), custom_translations={"aten.i0.default": i0})
    found = run_peer(model, {"x": x.numpy()})[0]
    np.testing.assert_allclose(found, torch.special.i0(x), rtol=1e-6)


def test_a_wrong_translation_is_found_and_named():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x):
            return torch.sin(self.second(torch.tanh(self.first(x))))

    wrong = {"aten.tanh.default": lambda op, x: op.Sigmoid(x)}
    with pytest.raises(VerificationError) as caught:
        sx.export(Two(), (torch.randn(2, 4),), custom_translations=wrong, output_names=["y"])
    text = str(caught.value)
    assert "output 'y' differs" in text
    assert "node 'Sigmoid' (Sigmoid), the first to diverge" in text
    assert "aten.tanh.default" in text
    assert "test_torch.py:" in text
    sx.export(Two(), (torch.randn(2, 4),), custom_translations=wrong, verify=False)


def test_verification_tries_other_sizes():
    class Repeat(nn.Module):
        def forward(self, x):
            return torch.flip(x, [0])

    def fixed(op, x, axes):
        return op.Gather(x, [1, 0], axis=0)

    with pytest.raises(VerificationError, match="inputs of shape"):
        sx.export(
            Repeat(), (torch.randn(2, 4),), dynamic_axes={"x": {0: "n"}},
            custom_translations={"aten.flip.default": fixed},
        )  # fmt: skip


@pytest.mark.parametrize(
    ("module", "opset", "needed"),
    [(nn.Upsample(scale_factor=2, mode="bilinear"), 10, 11), (nn.Hardtanh(0, 1), 6, None)],
)
def test_an_opset_that_is_too_old(module, opset, needed):
    with pytest.raises(
        ExportError, match=f"needs opset {needed}" if needed else "opset_version is"
    ):
        sx.export(module, (torch.randn(1, 2, 3, 3),), opset_version=opset)


@pytest.mark.parametrize("opset", [7, 9, 13, 18, 21, 26, 28])
def test_every_opset_writes_a_file_that_the_checker_takes(opset):
    module = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 2), nn.Softmax(1)
    )
    model = sx.export(module, (torch.randn(1, 1, 4, 4),), opset_version=opset)
    read = onnx.load_from_string(sx.dumps(model))
    onnx.checker.check_model(read, full_check=True)
    assert read.opset_import[0].version == opset
    table = {opset: ir for _, ir, opset, *_ in reversed(onnx.helper.VERSION_TABLE)}
    assert read.ir_version == max(table[opset], 4)


def test_double_and_half():
    module = nn.Sequential(nn.Linear(4, 4), nn.Tanh()).double()
    x = torch.randn(2, 4, dtype=torch.float64)
    found = run_peer(sx.export(module, (x,), opset_version=14), {"input": x.numpy()})[0]
    np.testing.assert_allclose(found, module(x).detach(), rtol=0, atol=1e-14)
    half = nn.Linear(4, 4).half()
    x = x.half()
    found = run_peer(sx.export(half, (x,)), {"input": x.numpy()})[0]
    np.testing.assert_allclose(found, half(x).detach(), rtol=0, atol=4 * 2.0**-10 * 4)
