"""Generated graphs: cutting, joining and cleaning change no number."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

import sardonyx as sx
from build import from_nodes
from compose.running import equal, run, sound
from sardonyx.errors import InferenceError, ModelError
from sardonyx.ir import Model

UNARY = ("Neg", "Abs", "Sign", "Relu")
BINARY = ("Add", "Sub", "Mul", "Max")


@st.composite
def models(draw: st.DrawFn) -> Model:
    """Elementwise nodes on [2, 3], some unused, some reading equal constants."""
    count = draw(st.integers(2, 12))
    names = ["x", "other", "c0", "c1"]
    nodes = []
    for index in range(count):
        name = f"v{index}"
        first = draw(st.sampled_from(names))
        if draw(st.booleans()):
            nodes.append(helper.make_node(draw(st.sampled_from(UNARY)), [first], [name]))
        else:
            second = draw(st.sampled_from(names))
            op_type = draw(st.sampled_from(BINARY))
            nodes.append(helper.make_node(op_type, [first, second], [name]))
        names.append(name)
    made = [f"v{index}" for index in range(count)]
    outputs = draw(st.lists(st.sampled_from(made), min_size=1, max_size=3, unique=True))
    shape, values = [2, 3], [1.0, -2.0, 3.0, 4.0, 0.0, -6.0]
    tensors = [helper.make_tensor(name, TensorProto.FLOAT, shape, values) for name in ("c0", "c1")]
    return from_nodes(
        nodes,
        {"x": shape, "other": shape},
        dict.fromkeys(outputs, shape),
        initializer=tensors,
    )


FEEDS = {
    "x": np.array([[1, -2, 0], [3, 0.5, -1]], np.float32),
    "other": np.array([[0, 1, 2], [-3, -4, 5]], np.float32),
}


@settings(deadline=None, max_examples=60)
@given(models(), st.data())
def test_two_parts_make_the_whole(model: Model, data: st.DataObject) -> None:
    made = [node.output.name for node in model.graph.nodes]
    cut = data.draw(st.lists(st.sampled_from(made), min_size=1, max_size=3, unique=True))
    expected = run(model, FEEDS)
    first = sound(sx.compose.extract(model, outputs=cut))
    rest = sound(sx.compose.extract(model, [*cut, "x", "other"]))
    between = run(first, {v.name: FEEDS[v.name] for v in first.graph.inputs})
    equal(run(rest, {**FEEDS, **between}), expected)
    outputs = [f"b/{value.name}" for value in rest.graph.outputs]
    whole = sound(
        sx.compose.merge(
            first, rest, [(name, name) for name in cut], prefixes=("", "b/"), outputs=outputs
        )
    )
    feeds = {v.name: FEEDS[v.name.removeprefix("b/")] for v in whole.graph.inputs}
    found = {name.removeprefix("b/"): value for name, value in run(whole, feeds).items()}
    equal(found, expected)


@settings(deadline=None, max_examples=40)
@given(models())
def test_clean_ups_and_names(model: Model) -> None:
    before = sx.dumps(model)
    expected = run(model, FEEDS)
    for changed in (
        sx.compose.prune(model),
        sx.compose.deduplicate(model),
        sx.compose.copy(model),
        sx.compose.prune(sx.compose.deduplicate(model)),
    ):
        equal(run(sound(changed), FEEDS), expected)
    renamed = sound(sx.compose.prefix(model, "p/", keep=["x", "other"]))
    found = {name.removeprefix("p/"): value for name, value in run(renamed, FEEDS).items()}
    equal(found, expected)
    assert sx.dumps(model) == before


@settings(deadline=None, max_examples=40)
@given(models())
def test_batches_fit_or_are_refused(model: Model) -> None:
    try:
        opened = sx.compose.set_batch_size(model, "n")
    except (InferenceError, ModelError) as error:
        assert error.places
        return
    equal(run(sound(opened), FEEDS), run(model, FEEDS))
    twice = {name: np.concatenate([value, value]) for name, value in FEEDS.items()}
    for name, value in run(opened, twice).items():
        expected = run(model, FEEDS)[name]
        np.testing.assert_array_equal(value[: len(expected)], expected)


@settings(deadline=None, max_examples=40)
@given(models(), st.data())
def test_a_node_can_be_replaced_by_itself(model: Model, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from([node.output.name for node in model.graph.nodes]))
    node = model.graph.values()[name].producer
    assert node is not None
    ours = sx.compose.replace(model, name, lambda op, *inputs: op.apply(node.op_type, inputs))
    equal(run(sound(ours), FEEDS), run(model, FEEDS))
    twice = sx.compose.insert(model, name, lambda op, value: op.Neg(op.Neg(value)))
    equal(run(sound(twice), FEEDS), run(model, FEEDS))
