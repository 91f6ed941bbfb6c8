from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from sardonyx import dtypes, errors
from sardonyx.ir import (
    Attribute,
    AttributeType,
    Function,
    Graph,
    Model,
    Node,
    TensorType,
    Value,
)
from sardonyx.limits import Limits
from sardonyx.reference import Evaluator

FLOAT3 = TensorType(dtypes.FLOAT, (3,))


def chain() -> Model:
    x = Value("x", FLOAT3)
    first = Node("Abs", [x], [Value("a")], name="first")
    second = Node("Add", [first.output, x], [Value("y", FLOAT3)], name="second")
    graph = Graph("g", [x], [second.output], [first, second])
    return Model(graph, {"": 21}, 10)


def test_outputs_and_all_values() -> None:
    x = np.array([-1, 2, -3], np.float32)
    found = Evaluator(chain()).run({"x": x})
    assert list(found) == ["y"]
    np.testing.assert_array_equal(found["y"], [0, 4, 0])
    everything = Evaluator(chain()).run({"x": x}, all_values=True)
    np.testing.assert_array_equal(everything["a"], [1, 2, 3])


def test_an_inner_value_can_be_asked_for() -> None:
    found = Evaluator(chain()).run({"x": np.float32([-1, 0, 1])}, ["a"])
    np.testing.assert_array_equal(found["a"], [1, 0, 1])


def test_errors_name_the_node() -> None:
    with pytest.raises(errors.SardonyxError, match="second"):
        Evaluator(bad_model()).run({"x": np.zeros(3, np.float32), "z": np.zeros(2, np.float32)})


def bad_model() -> Model:
    x, z = Value("x", TensorType(dtypes.FLOAT)), Value("z", TensorType(dtypes.FLOAT))
    node = Node("Add", [x, z], [Value("y", TensorType(dtypes.FLOAT))], name="second")
    return Model(Graph("g", [x, z], [node.output], [node]), {"": 21}, 10)


def pick() -> Model:
    a, b = Value("a"), Value("b")
    body = Node("Gather", [a, b], [Value("c")], name="inner")
    body.attributes["axis"] = Attribute("axis", AttributeType.INT, ref="where")
    function = Function(
        "Pick",
        "local",
        Graph("Pick", [a, b], [body.output], [body]),
        {"": 21},
        attributes=["where"],
    )
    data = Value("data", TensorType(dtypes.FLOAT, (2, 3)))
    index = Value("index", TensorType(dtypes.INT64, (1,)))
    call = Node("Pick", [data, index], [Value("y")], domain="local")
    call.set_attribute("where", 1)
    call.output.type = TensorType(dtypes.FLOAT)
    return Model(
        Graph("g", [data, index], [call.output], [call]),
        {"": 21, "local": 1},
        10,
        functions={function.key: function},
    )


PICKED = {"data": np.arange(6, dtype=np.float32).reshape(2, 3), "index": np.array([2])}


def test_a_function_with_an_attribute() -> None:
    np.testing.assert_array_equal(Evaluator(pick()).run(PICKED)["y"], [[2], [5]])


def test_threads_may_call_functions_with_attributes_at_once() -> None:
    evaluator = Evaluator(pick())

    def work(_: int) -> None:
        for _ in range(300):
            np.testing.assert_array_equal(evaluator.run(PICKED)["y"], [[2], [5]])

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(6)))


def test_a_run_can_be_cancelled_and_has_a_deadline() -> None:
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(errors.ExecutionError, match="cancelled"):
        Evaluator(chain()).run({"x": np.zeros(3, np.float32)}, cancel=cancel)
    with pytest.raises(errors.LimitError, match="seconds"):
        Evaluator(chain(), limits=Limits(seconds=-1.0)).run({"x": np.zeros(3, np.float32)})
