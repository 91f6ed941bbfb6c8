"""Shape operators: symbolic inference agrees with runs, references with onnxruntime."""

from __future__ import annotations

import numpy as np
import pytest

from sardonyx import dtypes
from sardonyx.dims import symbol
from sardonyx.errors import ExecutionError, InferenceError, LimitError
from sardonyx.ops.fact import Fact, shape_value
from single_operator import apply, assert_same, by_onnxruntime, inferred

N, S = symbol("N"), symbol("S")


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def dims(*values: object) -> Fact:
    return Fact.tensor(dtypes.INT64, (len(values),), shape_value(values))


def floats(*shape: object) -> Fact:
    return Fact.tensor(dtypes.FLOAT, shape)


X = np.arange(24, dtype=np.float32).reshape(2, 3, 4)

CASES = [
    ("Reshape", (X, ints(4, -1)), {}),
    ("Reshape", (X, ints(0, 0, 2, 2)), {}),
    ("Reshape", (X, ints(-1)), {}),
    ("Reshape", (np.zeros((0, 3), np.float32), ints(3, 0)), {"allowzero": 1}),
    ("Reshape", (X[:1, :1, 0], ints()), {}),
    ("Flatten", (X,), {}),
    ("Flatten", (X,), {"axis": 0}),
    ("Flatten", (X,), {"axis": 3}),
    ("Flatten", (X,), {"axis": -1}),
    ("Transpose", (X,), {}),
    ("Transpose", (X,), {"perm": (1, 2, 0)}),
    ("Unsqueeze", (X, ints(0, -1)), {}),
    ("Unsqueeze", (X, ints(4, 1)), {}),
    ("Squeeze", (X.reshape(1, 24, 1),), {}),
    ("Squeeze", (X.reshape(1, 24, 1), ints(-1)), {}),
    ("Expand", (X[:, :1], ints(5, 1, 3, 1)), {}),
    ("Expand", (X[:, :1], ints(1)), {}),
    ("Shape", (X,), {"start": -2, "end": 9}),
    ("Shape", (X,), {"start": 2, "end": 1}),
    ("Size", (X,), {}),
    ("Identity", (X,), {}),
]


@pytest.mark.parametrize(("name", "inputs", "attributes"), CASES)
def test_equals_onnxruntime_and_inference(name: str, inputs: tuple, attributes: dict) -> None:
    actual = apply(name, *inputs, version=21, **attributes)
    assert_same(actual, by_onnxruntime(name, *inputs, version=21, **attributes))
    facts = inferred(name, *map(Fact.constant, inputs), version=21, **attributes)
    assert facts[0].shape == actual[0].shape


@pytest.mark.parametrize(
    ("name", "facts", "attributes", "expected"),
    [
        ("Reshape", (floats(N, 4, 3), dims(0, -1)), {}, (N, 12)),
        ("Reshape", (floats(N, S, 8), dims(-1, 8)), {}, (N * S, 8)),
        ("Reshape", (floats(N, 6), dims(N * 2, -1)), {}, (2 * N, 3)),
        ("Reshape", (floats(N, S, 64), dims(N, S, 8, 8)), {}, (N, S, 8, 8)),
        ("Reshape", (floats(N, S, 64), dims(N, None, 64)), {}, (N, S, 64)),
        ("Reshape", (floats(None, 4), dims(0, 2, -1)), {}, (None, 2, 2)),
        ("Reshape", (floats(N, 3), dims(2, -1)), {}, (2, 3 * N // 2)),
        ("Flatten", (floats(N, S, 4),), {"axis": 2}, (N * S, 4)),
        ("Transpose", (floats(N, S, 4),), {"perm": (2, 0, 1)}, (4, N, S)),
        ("Unsqueeze", (floats(N, S), dims(1)), {}, (N, 1, S)),
        ("Squeeze", (floats(N, 1, S), dims(1)), {}, (N, S)),
        ("Squeeze", (floats(N, 1),), {}, None),
        ("Expand", (floats(1, N), dims(S, 1)), {}, (S, N)),
        ("Expand", (floats(N), dims(4, 1)), {}, (4, N)),
    ],
)
def test_symbolic_shapes(name: str, facts: tuple, attributes: dict, expected: object) -> None:
    assert inferred(name, *facts, **attributes)[0].shape == expected


def test_shape_and_size_carry_symbols() -> None:
    fact = inferred("Shape", floats(N, S, 4), start=1)[0]
    assert fact.shape == (2,)
    assert fact.dims_value() == [S, 4]
    assert inferred("Size", floats(N, S, 4))[0].dims_value() == [4 * N * S]


def test_movers_carry_symbols_through_their_reference() -> None:
    sizes = shape_value((N, S, 4))
    assert apply("Unsqueeze", sizes, ints(0))[0].tolist() == [[N, S, 4]]
    assert apply("Reshape", sizes, ints(3, 1))[0].tolist() == [[N], [S], [4]]
    assert apply("Squeeze", sizes.reshape(1, 3))[0].tolist() == [N, S, 4]


@pytest.mark.parametrize(
    ("name", "facts", "attributes"),
    [
        ("Reshape", (floats(2, 3), dims(4, 2)), {}),
        ("Reshape", (floats(2, 3), dims(-1, -1)), {}),
        ("Reshape", (floats(2, 3), dims(4, -1)), {}),
        ("Reshape", (floats(2, 3), dims(-2, 3)), {}),
        ("Reshape", (floats(2), dims(2, 0)), {}),
        ("Transpose", (floats(2, 3),), {"perm": (0, 0)}),
        ("Squeeze", (floats(2, 3), dims(0)), {}),
        ("Unsqueeze", (floats(2), dims(0, 0)), {}),
        ("Unsqueeze", (floats(2), dims(7)), {}),
        ("Flatten", (floats(2),), {"axis": 2}),
        ("Expand", (floats(2, 3), dims(4)), {}),
        ("Expand", (floats(1), dims(-1)), {}),
    ],
)
def test_what_cannot_fit_is_refused(name: str, facts: tuple, attributes: dict) -> None:
    with pytest.raises(InferenceError):
        inferred(name, *facts, **attributes)


def test_hostile_targets_are_refused_before_allocation() -> None:
    with pytest.raises(LimitError):
        apply("Expand", np.zeros(1, np.int8), ints(1 << 40))
    with pytest.raises(ExecutionError):
        apply("Reshape", X, ints(1 << 62, 1 << 62))
    with pytest.raises(ExecutionError):
        apply("Reshape", X, ints(-1, 0, 0, 0))


@pytest.mark.parametrize("dtype", [t for t in dtypes.ALL if t.bits], ids=str)
def test_every_type_keeps_its_elements(dtype: dtypes.DType) -> None:
    data = np.array([[0, 1], [1, 0], [1, 1]]).astype(dtype.numpy)
    moved = apply("Transpose", apply("Reshape", data, ints(2, 3))[0])[0]
    assert moved.dtype == dtype.numpy
    assert moved.tobytes() == np.ascontiguousarray(data.reshape(2, 3).T).tobytes()


def test_what_is_left_of_a_copied_zero_is_the_rest() -> None:
    assert apply("Reshape", np.zeros((0, 3), np.float32), ints(0, -1))[0].shape == (0, 3)


def test_attributes_that_became_inputs() -> None:
    assert apply("Reshape", X, version=1, shape=(6, -1))[0].shape == (6, 4)
    assert apply("Unsqueeze", X, version=11, axes=(0,))[0].shape == (1, 2, 3, 4)
    assert apply("Squeeze", X[:1], version=1, axes=(0,))[0].shape == (3, 4)
    assert apply("Squeeze", X[:1], version=11)[0].shape == (3, 4)
