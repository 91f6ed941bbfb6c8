"""Dims stay dynamic or are refused with the line that fixed them; names of nested structures."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import onnx
import pytest

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")

import onnxruntime  # noqa: E402
from torch import nn  # noqa: E402
from torch.export import Dim  # noqa: E402

import sardonyx as sx  # noqa: E402
from sardonyx.errors import ExportError  # noqa: E402


def named(values):
    return {value.name: [str(dim) for dim in value.shape] for value in values}


def run_peer(model, feeds):
    data = sx.dumps(model)
    onnx.checker.check_model(onnx.load_from_string(data), full_check=True)
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    return session.run(None, feeds)


class Add(nn.Module):
    def forward(self, x, y):
        return x + y


class Fixed(nn.Module):
    def forward(self, x, y):
        z = x.reshape(4, -1)
        return z + y.reshape(4, -1)


class Halves(nn.Module):
    def forward(self, x):
        return x[:, ::2]


class Deep(nn.Module):
    def forward(self, parts):
        return parts["a"][0] + parts["a"][1], parts["b"] * 2


PAIR = (torch.randn(4, 3), torch.randn(4, 3))


@pytest.mark.parametrize(
    "shapes",
    [
        {"x": {0: "n"}, "y": {0: "n"}},
        ({0: Dim.DYNAMIC}, {0: Dim.DYNAMIC}),
        ({0: Dim("n")}, {0: Dim("n")}),
        [("n", None), ("n", None)],
        {"x": ("n", Dim.STATIC), "y": ("n", 3)},
        {"x": {-2: "n"}, "y": {-2: "n"}},
    ],
)
def test_every_way_to_say_it(shapes):
    model = sx.export(Add(), PAIR, dynamic_shapes=shapes)
    sizes = named(model.graph.inputs)
    assert sizes["x"] == sizes["y"]
    assert sizes["x"][1] == "3"
    assert not sizes["x"][0].isdigit()
    for n in (1, 2, 7):
        ones = np.ones((n, 3), np.float32)
        np.testing.assert_array_equal(run_peer(model, {"x": ones, "y": ones})[0], ones * 2)


def test_collections_and_additional_inputs():
    shapes = torch.export.ShapesCollection()
    shapes[PAIR[0]] = {0: Dim("n")}
    shapes[PAIR[1]] = {0: Dim("n")}
    model = sx.export(Add(), PAIR, dynamic_shapes=shapes)
    assert named(model.graph.inputs)["x"] == ["n", "3"]
    more = torch.export.AdditionalInputs()
    more.add((torch.randn(6, 3), torch.randn(6, 3)))
    report = sx.export.Report()
    model = sx.export(Add(), PAIR, dynamic_shapes=more, report=report)
    assert named(model.graph.inputs)["x"] == ["x_dim0", "3"]
    assert any("added inputs" in figure.inputs for figure in report.figures)


def test_nested_inputs_by_structure_or_all_at_once():
    parts = {"a": [torch.randn(2, 3), torch.randn(2, 3)], "b": torch.randn(2, 5)}
    exact = {"parts": {"a": [{0: "n"}, {0: "n"}], "b": None}}
    assert named(sx.export(Deep(), (parts,), dynamic_shapes=exact).graph.inputs) == {
        "parts_a_0": ["n", "3"],
        "parts_a_1": ["n", "3"],
        "parts_b": ["2", "5"],
    }
    model = sx.export(Deep(), (parts,), dynamic_shapes={"parts": {0: "n"}})
    assert [sizes[0] for sizes in named(model.graph.inputs).values()] == ["n"] * 3


def test_auto_keeps_what_can_stay_open_and_says_what_cannot(recwarn):
    report = sx.export.Report()
    model = sx.export(nn.Linear(3, 2), (torch.randn(1, 3),), dynamic_shapes="auto", report=report)
    assert named(model.graph.inputs) == {"input": ["input_dim0", "3"]}
    open_dim, fixed = report.dims
    assert (open_dim.axis, open_dim.is_dynamic) == (0, True)
    assert (fixed.axis, fixed.size, fixed.is_dynamic) == (1, "3", False)
    assert len({figure.inputs for figure in report.figures}) == 3
    assert not recwarn.list


def test_auto_leaves_a_size_of_one_that_the_code_needs():
    class Single(nn.Module):
        def forward(self, x):
            return x.squeeze(1).reshape(x.shape[0], 3)

    model = sx.export(Single(), (torch.randn(2, 1, 3),), dynamic_shapes="auto")
    assert named(model.graph.inputs) == {"x": ["x_dim0", "1", "3"]}


@pytest.mark.parametrize("spec", ["batch", Dim("batch"), Dim.DYNAMIC])
def test_the_line_that_fixes_a_dim_is_named(spec):
    with pytest.raises(ExportError) as caught:
        sx.export(Fixed(), PAIR, dynamic_shapes={"x": {0: spec}})
    text = str(caught.value)
    line = Fixed.forward.__code__.co_firstlineno + 1
    assert "axis 0 of input 'x'" in text
    assert f"test_torch_dynamic.py:{line} in forward, which asks for x.shape[0] == 4" in text


def test_dims_that_must_be_equal_share_a_name_or_are_an_error():
    model = sx.export(Add(), PAIR, dynamic_shapes={"x": {0: "a"}, "y": {0: "b"}})
    assert named(model.graph.inputs)["y"] == ["a", "3"]
    with pytest.raises(
        ExportError, match=r"must always be equal(.|\n)*which asks for x.shape\[0\]"
    ):
        sx.export(Add(), PAIR, dynamic_shapes={"x": {0: Dim("a")}, "y": {0: Dim("b")}})


def test_derived_dims_are_expressions():
    half = Dim("half", max=64)
    model = sx.export(Halves(), (torch.randn(3, 8),), dynamic_shapes=({1: 2 * half},))
    assert named(model.graph.outputs)["output"] == ["3", "half"]


def test_one_tensor_given_twice_stays_two_inputs():
    x = torch.randn(2)

    class Minus(nn.Module):
        def forward(self, x, y):
            return x - y

    model = sx.export(Minus(), (x, x))
    feeds = {"x": np.array([3, 4], np.float32), "y": np.array([1, 1], np.float32)}
    np.testing.assert_array_equal(run_peer(model, feeds)[0], [2, 3])


def test_branches_on_data_name_the_line():
    class Branch(nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x

    with pytest.raises(ExportError, match=r"test_torch_dynamic.py:\d+ in forward") as caught:
        sx.export(Branch(), (torch.randn(3),))
    assert "torch.cond" in str(caught.value)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ("all", '"auto"'),
        ({"z": None}, "'z', which is no argument"),
        (({0: "n"}, None, None), "3 items for 2 arguments"),
        ({"x": ("n",)}, "1 dims for input 'x' of rank 2"),
        ({"x": {5: "n"}}, "has no axis 5"),
        ({"x": 3}, "gives 3 for input 'x'"),
    ],
)
def test_what_does_not_fit_is_refused(shapes, message):
    with pytest.raises(ExportError) as caught:
        sx.export(Add(), PAIR, dynamic_shapes=shapes)
    assert message in str(caught.value)


class Point(NamedTuple):
    left: torch.Tensor
    right: torch.Tensor


@dataclass
class Scores:
    logits: torch.Tensor
    hidden: list[torch.Tensor]


torch.export.register_dataclass(Scores)


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (lambda x: {"logits": x + 1, "loss": None, "layers": [x + 2, x + 3]},
         ["logits", "layers_0", "layers_1"]),
        (lambda x: Scores(x + 1, [x + 2]), ["logits", "hidden_0"]),
        (lambda x: Point(x + 1, x + 2), ["left", "right"]),
        (lambda x: (x + 1, x + 2), ["output", "output_1"]),
        (lambda x: (x + 1, {"a": x + 2}), ["output", "output_1_a"]),
        (lambda x: {"x": x + 1}, ["x_out"]),
        (lambda x: [x + 1], ["output"]),
    ],
)  # fmt: skip
def test_outputs_are_named_after_keys_and_fields(make, names):
    class Made(nn.Module):
        def forward(self, x):
            return make(x)

    model = sx.export(Made(), (torch.ones(2),))
    assert [value.name for value in model.graph.outputs] == names


def test_keywords_of_any_name():
    class Any(nn.Module):
        def forward(self, **parts):
            return parts["a"] + parts["b"]

    kwargs = {"a": torch.ones(2, 3), "b": torch.ones(2, 3)}
    model = sx.export(Any(), kwargs=kwargs, dynamic_shapes={"a": {0: "n"}, "b": {0: "n"}})
    assert named(model.graph.inputs) == {"a": ["n", "3"], "b": ["n", "3"]}


def test_a_cache_goes_in_and_out():
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        vocab_size=50, hidden_size=16, intermediate_size=16, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=2,
    )  # fmt: skip
    module = transformers.LlamaForCausalLM(config).eval()
    cache = transformers.DynamicCache()
    for layer in range(2):
        cache.update(torch.randn(2, 2, 3, 8), torch.randn(2, 2, 3, 8), layer)
    kwargs = {
        "input_ids": torch.tensor([[1, 2], [3, 4]]),
        "attention_mask": torch.ones(2, 5, dtype=torch.int64),
        "past_key_values": cache,
    }
    shapes = {
        "input_ids": {0: "batch", 1: "length"},
        "attention_mask": {0: "batch", 1: "total"},
        "past_key_values": {0: "batch", 2: "past"},
    }
    model = sx.export(module, kwargs=kwargs, dynamic_shapes=shapes)
    inputs, outputs = named(model.graph.inputs), named(model.graph.outputs)
    assert inputs["past_key_values_1_value"] == ["batch", "2", "past", "8"]
    assert outputs["logits"] == ["batch", "length", "50"]
    assert outputs["present_0_key"] == ["batch", "2", "past + length", "8"] or (
        outputs["present_0_key"] == ["batch", "2", "length + past", "8"]
    )
