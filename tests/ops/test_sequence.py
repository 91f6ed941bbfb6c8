"""Sequences and optionals: their meaning, their types, hostile positions."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest

import sardonyx as sx
from build import from_text
from sardonyx import dtypes
from sardonyx.dims import symbol
from sardonyx.errors import ExecutionError, InferenceError
from sardonyx.infer import infer
from sardonyx.ir import OptionalType, SequenceType, TensorType
from sardonyx.ops.fact import Fact
from sardonyx.reference import Evaluator
from single_operator import OLD_WITNESS, apply, assert_same, inferred

N = symbol("N")
X = np.arange(6, dtype=np.float32).reshape(3, 2)
ITEMS = [X, X[:2], X[:1]]


def ints(values: object) -> np.ndarray:
    return np.array(values, np.int64)


def sequence(*shape: object) -> Fact:
    return Fact(SequenceType(TensorType(dtypes.FLOAT, shape)))


def floats(*shape: object) -> Fact:
    return Fact.tensor(dtypes.FLOAT, shape)


def test_sequences_behave_as_python_lists() -> None:
    assert apply("SequenceConstruct", *ITEMS)[0] == ITEMS
    assert apply("SequenceEmpty")[0] == []
    assert apply("SequenceLength", ITEMS)[0].item() == 3
    for place in (-3, -1, 0, 2):
        assert apply("SequenceAt", ITEMS, ints(place))[0] is ITEMS[place]
    for place in (-3, 0, 3):
        expected = list(ITEMS)
        expected.insert(place, X)
        actual = apply("SequenceInsert", ITEMS, X, ints(place))[0]
        assert all(a is b for a, b in zip(actual, expected, strict=True))
    assert len(apply("SequenceInsert", ITEMS, X, None)[0]) == 4
    assert apply("SequenceErase", ITEMS, None)[0] == ITEMS[:2]
    assert apply("SequenceErase", ITEMS, ints(0))[0] == ITEMS[1:]


@pytest.mark.parametrize(
    ("name", "inputs"),
    [
        ("SequenceAt", (ITEMS, ints(3))),
        ("SequenceAt", ([], ints(0))),
        ("SequenceAt", (ITEMS, ints([0, 1]))),
        ("SequenceInsert", (ITEMS, X, ints(4))),
        ("SequenceErase", ([], None)),
        ("SequenceErase", (ITEMS, ints(-4))),
    ],
)
def test_positions_outside_are_errors(name: str, inputs: tuple) -> None:
    with pytest.raises(ExecutionError):
        apply(name, *inputs)


def test_split_to_sequence() -> None:
    data = np.arange(10, dtype=np.float32).reshape(5, 2)
    for split, expected in [
        (ints(2), [data[:2], data[2:4], data[4:]]),
        (ints([1, 4]), [data[:1], data[1:]]),
        (None, [data[i : i + 1] for i in range(5)]),
    ]:
        assert_same(apply("SplitToSequence", data, split)[0], expected)
    assert_same(apply("SplitToSequence", data, None, keepdims=0)[0], list(data))
    for bad in (ints(0), ints([1, 1]), ints([6, -1])):
        with pytest.raises(ExecutionError):
            apply("SplitToSequence", data, bad)


def test_concat_from_sequence() -> None:
    joined = apply("ConcatFromSequence", ITEMS, axis=0)
    assert_same(joined, [np.concatenate(ITEMS)])
    stacked = apply("ConcatFromSequence", [X, X], axis=-1, new_axis=1)
    assert_same(stacked, [np.stack([X, X], -1)])
    with pytest.raises(ExecutionError):
        apply("ConcatFromSequence", [], axis=0)


@pytest.mark.parametrize(
    ("name", "facts", "attributes", "expected"),
    [
        ("SequenceConstruct", (floats(N, 2), floats(3, 2)), {}, sequence(None, 2)),
        ("SequenceConstruct", (floats(N, 2), floats(N, 2)), {}, sequence(N, 2)),
        ("SequenceAt", (sequence(N, 2), Fact()), {}, floats(N, 2)),
        ("SequenceInsert", (sequence(N, 2), floats(N, 3), None), {}, sequence(N, None)),
        ("SequenceErase", (sequence(N, 2), None), {}, sequence(N, 2)),
        ("SplitToSequence", (floats(N, 2), None), {}, sequence(1, 2)),
        ("SplitToSequence", (floats(N, 2), None), {"keepdims": 0}, sequence(2)),
        ("SplitToSequence", (floats(6, 2), ints(4)), {}, sequence(None, 2)),
        ("SplitToSequence", (floats(6, 2), ints(3)), {}, sequence(3, 2)),
        ("ConcatFromSequence", (sequence(N, 2),), {"axis": 0}, floats(None, 2)),
        ("ConcatFromSequence", (sequence(N, 2),), {"axis": 1, "new_axis": 1}, floats(N, None, 2)),
    ],
)
def test_types(name: str, facts: tuple, attributes: dict, expected: Fact) -> None:
    assert inferred(name, *facts, **attributes)[0].type == expected.type


def test_tensors_are_no_sequences() -> None:
    with pytest.raises(InferenceError, match="requires a sequence"):
        inferred("SequenceAt", floats(2), Fact())


def test_optionals() -> None:
    element = TensorType(dtypes.FLOAT, (N,))
    assert inferred("Optional", floats(N))[0].type == OptionalType(element)
    assert inferred("Optional", None, type=element)[0].type == OptionalType(element)
    assert inferred("OptionalGetElement", Fact(OptionalType(element)))[0].type == element
    assert inferred("OptionalGetElement", floats(N))[0].type == element
    assert apply("Optional", None, type=element)[0] is None
    assert apply("OptionalHasElement", None)[0].tolist() is False
    assert apply("OptionalHasElement", X)[0].tolist() is True
    assert apply("OptionalGetElement", X)[0] is X
    with pytest.raises(ExecutionError, match="empty"):
        apply("OptionalGetElement", None)
    with pytest.raises(InferenceError):
        inferred("Optional", None)


def test_sequence_map_runs_its_body_for_each_element() -> None:
    model = from_text(
        """<ir_version: 8, opset_import: ["" : 17]>
        g (float[3, 2] x, float[2] bias) => (float[N] y) {
            parts = SplitToSequence <axis = 0> (x)
            sums = SequenceMap <body = each (float[1, 2] part, float[2] b)
                => (float[1, 2] total) { total = Add (part, b) }> (parts, bias)
            y = ConcatFromSequence <axis = 0> (sums)
        }"""
    )
    bias = np.float32([10, 20])
    assert_same([Evaluator(model).run({"x": X, "bias": bias})["y"]], [X + bias])
    found = infer(model)
    assert found.problems == []
    assert found.facts[model.graph.values()["sums"]].type == sequence(1, 2).type


TYPES = ["float", "double", "float16", "int8", "int16", "int32", "int64", "uint8", "uint16"]
TYPES += ["uint32", "uint64", "bool", "string"]


def both(text: str, feeds: dict[str, np.ndarray]) -> tuple[list, list]:
    """The outputs of the model in `text` by a session and by onnxruntime."""
    if OLD_WITNESS:
        pytest.skip("the witness is onnxruntime 1.31 or newer")
    model = onnx.parser.parse_model(text).SerializeToString()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    theirs = onnxruntime.InferenceSession(model, options).run(None, feeds)
    return sx.Session(model).run(None, feeds), theirs


def assert_alike(ours: list, theirs: list) -> None:
    for mine, other in zip(ours, theirs, strict=True):
        if isinstance(other, list):
            assert_same(mine, [np.asarray(item) for item in other])
        else:
            assert_same([mine], [np.asarray(other)])


def elements(type: str, *shape: int) -> np.ndarray:
    array = np.arange(np.prod(shape)).reshape(shape)
    if type == "string":
        return np.array([f"t{item}" for item in array.flat], object).reshape(shape)
    return array.astype(dtypes.from_name(type).numpy)


@pytest.mark.parametrize("type", TYPES)
def test_chains_of_sequence_operators_are_onnxruntimes(type: str) -> None:
    ours, theirs = both(
        f"""
        <ir_version: 10, opset_import: ["" : 17]>
        chain ({type}[3, 2] x, {type}[1, 2] y, int64 first, int64 last)
            => (seq({type}) grown, seq({type}) left, {type}[a, b] one, {type}[c, d] joined,
                {type}[e, f, g] stacked, int64 length, int64 none) {{
            pair = SequenceConstruct (x, y)
            more = SequenceInsert (pair, y, first)
            grown = SequenceInsert (more, x)
            left = SequenceErase (grown, last)
            shorter = SequenceErase (left)
            one = SequenceAt (grown, last)
            joined = ConcatFromSequence <axis = 0> (shorter)
            alike = SequenceConstruct (y, y, y)
            stacked = ConcatFromSequence <axis = 1, new_axis = 1> (alike)
            length = SequenceLength (left)
            empty = SequenceEmpty <dtype = {dtypes.from_name(type).code}> ()
            none = SequenceLength (empty)
        }}
        """,
        {
            "x": elements(type, 3, 2),
            "y": elements(type, 1, 2),
            "first": np.array(0, np.int64),
            "last": np.array(-1, np.int64),
        },
    )
    assert_alike(ours, theirs)


@pytest.mark.parametrize("type", ["float", "int64", "bool", "string"])
def test_optionals_are_onnxruntimes(type: str) -> None:
    ours, theirs = both(
        f"""
        <ir_version: 10, opset_import: ["" : 18]>
        optionals ({type}[2] x) => ({type}[a] back, bool has, bool hasnt, bool plain) {{
            held = Optional (x)
            back = OptionalGetElement (held)
            has = OptionalHasElement (held)
            hasnt = OptionalHasElement ()
            plain = OptionalHasElement (x)
        }}
        """,
        {"x": elements(type, 2)},
    )
    assert_alike(ours, theirs)
