from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

import sardonyx as sx
from build import from_nodes, from_text
from compose.running import random_feeds, run, sound
from sardonyx.errors import InferenceError, InputError, ModelError, UnsupportedError
from sardonyx.ir import Model


def attention(batch: int, *, merged: bool = False) -> Model:
    """A block of attention as exporters write it for a fixed batch: every Reshape is a constant.

    With `merged` heads lie in the batch dimension, as torch.bmm wants.
    """
    rng = np.random.default_rng(0)
    length, heads, size = 6, 4, 8
    width = heads * size
    inner = [batch * heads, length, size] if merged else None
    split = [batch, length, heads, size]
    constants: dict[str, Any] = {
        f"w{name}": rng.standard_normal((width, width)).astype(np.float32) for name in "qkvo"
    }
    shapes = {"split": split, "rows": [batch * length, width], "joined": [batch, length, width]}
    if inner:
        shapes |= {"inner": inner, "outer": [batch, heads, length, size]}
    constants |= {name: np.array(shape, np.int64) for name, shape in shapes.items()}
    nodes = [helper.make_node("Reshape", ["x", "rows"], ["flat"])]
    for name in "qkv":
        nodes += [
            helper.make_node("MatMul", ["flat", f"w{name}"], [f"{name}0"]),
            helper.make_node("Reshape", [f"{name}0", "split"], [f"{name}1"]),
            helper.make_node("Transpose", [f"{name}1"], [f"{name}2"], perm=[0, 2, 1, 3]),
        ]
        if inner:
            nodes.append(helper.make_node("Reshape", [f"{name}2", "inner"], [f"{name}3"]))
    last = 3 if inner else 2
    turn = [0, 2, 1] if inner else [0, 1, 3, 2]
    nodes += [
        helper.make_node("Transpose", [f"k{last}"], ["kt"], perm=turn),
        helper.make_node("MatMul", [f"q{last}", "kt"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["p"], axis=-1),
        helper.make_node("MatMul", ["p", f"v{last}"], ["a0"]),
    ]
    if inner:
        nodes.append(helper.make_node("Reshape", ["a0", "outer"], ["a1"]))
    nodes += [
        helper.make_node("Transpose", ["a1" if inner else "a0"], ["a2"], perm=[0, 2, 1, 3]),
        helper.make_node("Reshape", ["a2", "joined"], ["a3"]),
        helper.make_node("MatMul", ["a3", "wo"], ["y"]),
    ]
    shape = [batch, length, width]
    tensors = [
        helper.make_tensor(
            name, helper.np_dtype_to_tensor_dtype(data.dtype), data.shape, data.tobytes(), raw=True
        )
        for name, data in constants.items()
    ]
    return from_nodes(nodes, {"x": shape}, {"y": shape}, initializer=tensors)


def batches_are_examples(fixed: Model, opened: Model, axis: int = 0) -> None:
    """What `opened` makes of several batches is what `fixed` makes of each, side by side."""
    name = fixed.graph.inputs[0].name
    for count in (1, 2, 5):
        parts = [random_feeds(fixed, seed)[name] for seed in range(count)]
        found = run(opened, {name: np.concatenate(parts, axis)})
        for output in fixed.graph.outputs:
            each = [run(fixed, {name: part})[output.name] for part in parts]
            expected = np.concatenate(each, axis)
            bound = 64 * np.finfo(np.float32).eps * np.abs(expected).max(initial=1)
            np.testing.assert_allclose(found[output.name], expected, rtol=0, atol=bound)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("merged", [False, True])
def test_constants_of_attention_are_rewritten(batch: int, merged: bool) -> None:
    fixed = attention(batch, merged=merged)
    opened = sound(sx.compose.make_dynamic(fixed, {"x": {0: "batch"}}))
    assert [str(dim) for dim in opened.graph.outputs[0].shape or ()] == ["batch", "6", "32"]
    batches_are_examples(fixed, opened)
    sized = sound(sx.compose.set_batch_size(fixed, 5))
    assert [str(dim) for dim in sized.graph.outputs[0].shape or ()] == ["5", "6", "32"]
    x = random_feeds(sized)["x"]
    np.testing.assert_array_equal(run(sized, {"x": x})["y"], run(opened, {"x": x})["y"])


def reshaped(target: list[int], shape: list[int], old_out: list[int]) -> Model:
    node = helper.make_node("Reshape", ["x", "target"], ["y"])
    constant = helper.make_tensor("target", TensorProto.INT64, [len(target)], target)
    return from_nodes([node], {"x": shape}, {"y": old_out}, initializer=[constant])


@pytest.mark.parametrize(
    ("shape", "target", "out", "expected"),
    [
        ([1, 2, 3], [1, 6], [1, 6], ["n", "6"]),
        ([1, 2, 3], [1, -1], [1, 6], ["n", "6"]),
        ([1, 2, 3], [-1, 6], [1, 6], ["n", "6"]),
        ([1, 2, 3], [0, 6], [1, 6], ["n", "6"]),
        ([1, 2, 3], [2, 3], [2, 3], ["2*n", "3"]),
        ([1, 6], [1, 1, 6], [1, 1, 6], ["n", "1", "6"]),
        ([1, 12], [1, 2, -1], [1, 2, 6], ["n", "2", "6"]),
        ([4, 6], [4, 2, 3], [4, 2, 3], ["n", "2", "3"]),
        ([4, 6], [8, 3], [8, 3], ["2*n", "3"]),
        ([4, 2, 3], [1, 4, 6], [1, 4, 6], ["1", "n", "6"]),
    ],
)
def test_one_reshape(
    shape: list[int], target: list[int], out: list[int], expected: list[str]
) -> None:
    fixed = reshaped(target, shape, out)
    opened = sound(sx.compose.make_dynamic(fixed, {"x": {0: "n"}}))
    assert [str(dim) for dim in opened.graph.outputs[0].shape or ()] == expected
    x = np.arange(2 * np.prod(shape), dtype=np.float32).reshape(2 * shape[0], *shape[1:])
    (found,) = run(opened, {"x": x}).values()
    np.testing.assert_array_equal(found.reshape(-1), x.reshape(-1))


def test_a_reshape_that_cannot_be_proven_is_named() -> None:
    with pytest.raises(ModelError, match="holds on to 4 for 'n'") as raised:
        sx.compose.make_dynamic(reshaped([3, 8], [4, 6], [3, 8]), {"x": {0: "n"}})
    assert "'target' is [3, 8]" in raised.value.message
    assert raised.value.places[0] == "node of 'y' (Reshape)"
    assert raised.value.hint


def test_a_target_that_is_partly_computed() -> None:
    text = """
    <ir_version: 10, opset_import: ["" : 21]>
    g (float[2, S, 6] x) => (float[2, S, 2, 3] y)
    <int64[1] one = {1}, int64[1] two = {2}, int64[2] head = {2, 3}, int64[1] n = {2}>
    {
        s = Shape<start = 1, end = 2>(x)
        t = Concat<axis = 0>(n, s, head)
        y = Reshape(x, t)
    }
    """
    opened = sound(sx.compose.make_dynamic(from_text(text), {"x": {0: "n"}}))
    assert [str(dim) for dim in opened.graph.outputs[0].shape or ()] == ["n", "S", "2", "3"]
    for n, s in ((1, 4), (3, 5)):
        x = np.random.default_rng(0).standard_normal((n, s, 6)).astype(np.float32)
        np.testing.assert_array_equal(run(opened, {"x": x})["y"], x.reshape(n, s, 2, 3))


def test_several_dims_at_once() -> None:
    text = """
    <ir_version: 10, opset_import: ["" : 21]>
    g (float[1, 3, 8, 8] x) => (float[1, 5, 16] y)
    <float[5, 3, 2, 2] w, int64[3] flat = {1, 5, 16}>
    { c = Conv<strides = [2, 2]>(x, w) y = Reshape(c, flat) }
    """
    model = from_text(text.replace("float[5, 3, 2, 2] w,", f"float[5, 3, 2, 2] w = {{{WEIGHTS}}},"))
    opened = sound(sx.compose.make_dynamic(model, {"x": {0: "n", 2: "height", 3: "width"}}))
    for shape in ((1, 3, 8, 8), (2, 3, 4, 10)):
        x = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
        found = run(opened, {"x": x})["y"]
        assert found.shape == (shape[0], 5, shape[2] // 2 * (shape[3] // 2))


WEIGHTS = ", ".join(str(number % 7 - 3) for number in range(60))


def test_tokens_states_and_sizes_that_are_the_same_for_all() -> None:
    text = """
    <ir_version: 10, opset_import: ["" : 21]>
    g (float[B, 3, 4] x) => (float[B, 4, 4] y)
    <float[B, 1, 4] token = {%s}>
    { y = Concat<axis = 1>(token, x) }
    """
    for batch in (1, 2):
        values = "1, 2, 3, 4" + ", 1, 2, 3, 4" * (batch - 1)
        fixed = from_text((text % values).replace("B", str(batch)))
        opened = sound(sx.compose.set_batch_size(fixed, "batch"))
        batches_are_examples(fixed, opened)
    different = from_text((text % "1, 2, 3, 4, 5, 6, 7, 8").replace("B", "2"))
    with pytest.raises(InferenceError, match="Concat"):
        sx.compose.set_batch_size(different, "batch")


def test_what_is_added_to_each_example_alike() -> None:
    head = '<ir_version: 10, opset_import: ["" : 21]> g (float[2, 3] x) => (float[2, 3] y)'
    fixed = from_text(head + " <float[2, 3] b = {1, 2, 3, 1, 2, 3}> { y = Sub(b, x) }")
    opened = sound(sx.compose.set_batch_size(fixed, "batch"))
    batches_are_examples(fixed, opened)
    assert [value.const.shape for value in opened.graph.initializers if value.const] == [(1, 3)]


def test_initial_states_of_zeros() -> None:
    rng = np.random.default_rng(0)
    constants = {
        "w": rng.standard_normal((1, 20, 3)).astype(np.float32),
        "r": rng.standard_normal((1, 20, 5)).astype(np.float32),
        "h0": np.zeros((1, 1, 5), np.float32),
        "c0": np.full((1, 1, 5), 0.5, np.float32),
    }
    tensors = [
        helper.make_tensor(name, TensorProto.FLOAT, data.shape, data.tobytes(), raw=True)
        for name, data in constants.items()
    ]
    node = helper.make_node("LSTM", ["x", "w", "r", "", "", "h0", "c0"], ["y"], hidden_size=5)
    fixed = from_nodes([node], {"x": [4, 1, 3]}, {"y": [4, 1, 1, 5]}, initializer=tensors)
    opened = sound(sx.compose.set_batch_size(fixed, "batch", axes={"x": 1}))
    parts = [random_feeds(fixed, seed)["x"] for seed in range(3)]
    found = run(opened, {"x": np.concatenate(parts, 1)})["y"]
    expected = np.concatenate([run(fixed, {"x": part})["y"] for part in parts], 2)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_resize_and_expand() -> None:
    text = """
    <ir_version: 10, opset_import: ["" : 21]>
    g (float[2, 3, 4, 4] x) => (float[2, 3, 8, 8] y, float[2, 3, 4, 4] z)
    <int64[4] sizes = {2, 3, 8, 8}, int64[4] shape = {2, 3, 4, 4}>
    {
        y = Resize<mode = "nearest">(x, , , sizes)
        z = Expand(x, shape)
    }
    """
    fixed = from_text(text)
    opened = sound(sx.compose.set_batch_size(fixed, "batch"))
    batches_are_examples(fixed, opened)
    assert [str(v.shape[0]) for v in opened.graph.outputs] == ["batch", "batch"]  # type: ignore[index]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("t = Constant<value_int = 0>() y = Gather<axis = 0>(x, t)", "Gather gives the same"),
        ("y = Softmax<axis = 0>(x)", "Softmax computes across 'batch'"),
        ("y = ReduceMean<keepdims = 0>(x)", "ReduceMean reduces 'batch'"),
        ("t = Transpose(x) y = MatMul(t, x)", "MatMul computes across 'batch'"),
    ],
)
def test_examples_must_stay_apart(body: str, words: str) -> None:
    head = '<ir_version: 10, opset_import: ["" : 21]> g (float[1, 3] x) => (float y)'
    model = from_text(f"{head} {{ {body} }}")
    with pytest.raises(ModelError, match=words) as raised:
        sx.compose.set_batch_size(model, "batch")
    assert raised.value.places[0].startswith("node of 'y'")


def test_a_node_that_no_longer_fits_is_named() -> None:
    head = '<ir_version: 10, opset_import: ["" : 21]> g (float[2, 3] x) => (float[2, 3] y)'
    model = from_text(head + " <float[2, 3] b = {1, 2, 3, 4, 5, 6}> { y = Add(x, b) }")
    with pytest.raises(InferenceError, match="Add") as raised:
        sx.compose.set_batch_size(model, "batch")
    assert "batch=4" in str(raised.value.hint)


def test_what_an_unknown_operator_makes_of_it_is_not_guessed() -> None:
    head = '<ir_version: 10, opset_import: ["" : 21, "custom" : 1]>'
    text = " g (float[1, 4] x) => (float[1, 4] y) { a = custom.Odd(x) y = Neg(a) }"
    with pytest.raises(UnsupportedError, match="'Odd' of domain 'custom'") as raised:
        sx.compose.set_batch_size(from_text(head + text), 4)
    assert raised.value.places[0].startswith("node of 'a'")


def test_functions_are_to_be_inlined_first() -> None:
    model = from_text(
        """
        <ir_version: 10, opset_import: ["" : 21, "local" : 1]>
        g (float[1, 4] x) => (float[1, 2, 2] y) { y = local.f(x) }
        <domain: "local", opset_import: ["" : 21]>
        f (x) => (y) { t = Constant<value_ints = [1, 2, 2]>() y = Reshape(x, t) }
        """
    )
    with pytest.raises(InferenceError, match="Reshape") as raised:
        sx.compose.set_batch_size(model, "n")
    assert "inline the model's functions first" in str(raised.value.hint)
    opened = sound(sx.compose.set_batch_size(sx.compose.inline(model), "n"))
    assert [str(dim) for dim in opened.graph.outputs[0].shape or ()] == ["n", "2", "2"]


def test_branches_are_rewritten_too() -> None:
    model = from_text(
        """
        <ir_version: 10, opset_import: ["" : 21]>
        g (bool c, float[1, 4] x) => (float[1, 2, 2] y) <int64[3] t = {1, 2, 2}> {
            y = If (c) <
                then_branch = a () => (float[1, 2, 2] p) { p = Reshape(x, t) },
                else_branch = b () => (float[1, 2, 2] q) { n = Neg(x) q = Reshape(n, t) }
            >
        }
        """
    )
    opened = sound(sx.compose.make_dynamic(model, {"x": {0: "n"}}))
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    found = run(opened, {"c": np.array(False), "x": x})["y"]
    np.testing.assert_array_equal(found, -x.reshape(3, 2, 2))


def test_symbols_are_fixed_and_renamed() -> None:
    model = from_text(
        '<ir_version: 10, opset_import: ["" : 21]>'
        "g (float[N, M] x, float[M, N] z) => (float[N, N] y) { y = MatMul(x, z) }"
    )
    fixed = sound(sx.compose.fix_dims(model, {"N": 4}))
    assert [
        [str(d) for d in v.shape or ()] for v in (*fixed.graph.inputs, *fixed.graph.outputs)
    ] == [
        ["4", "M"],
        ["M", "4"],
        ["4", "4"],
    ]
    again = sound(sx.compose.set_batch_size(model, "batch"))
    assert [str(d) for d in again.graph.outputs[0].shape or ()] == ["batch", "batch"]
    sized = sound(sx.compose.set_batch_size(model, 7))
    assert sized.graph.outputs[0].shape == (7, 7)
    with pytest.raises(InputError, match="no symbolic dimension 'K'"):
        sx.compose.fix_dims(model, {"K": 3})
    with pytest.raises(InputError, match="cannot be -1"):
        sx.compose.fix_dims(model, {"N": -1})


def test_a_size_that_the_model_cannot_have() -> None:
    model = from_text(
        '<ir_version: 10, opset_import: ["" : 21]>'
        "g (float[N, 3] x) => (float[M, 6] y) <int64[2] t = {-1, 6}> { y = Reshape(x, t) }"
    )
    assert sound(sx.compose.fix_dims(model, {"N": 4})).graph.outputs[0].shape == (2, 6)
    with pytest.raises(InferenceError, match="Reshape"):
        sx.compose.fix_dims(model, {"N": 3})


def test_unknown_inputs_and_axes() -> None:
    model = attention(1)
    for dims, words in (
        ({"z": {0: "n"}}, "no input 'z'"),
        ({"x": {5: "n"}}, "has no axis 5"),
        ({"x": {0: ""}}, "is empty"),
        ({"x": {0: "n", 1: "n"}}, "would be several sizes"),
    ):
        with pytest.raises(InputError, match=words):
            sx.compose.make_dynamic(model, dims)
    with pytest.raises(InputError, match="at least one example"):
        sx.compose.set_batch_size(model, 0)


def test_the_model_stays_as_it_was() -> None:
    model = attention(1)
    before = sx.dumps(model)
    sx.compose.make_dynamic(model, {"x": {0: "batch"}})
    sx.compose.set_batch_size(model, 3)
    assert sx.dumps(model) == before
