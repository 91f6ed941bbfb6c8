"""Training graphs see the names of the main graph."""

from __future__ import annotations

from onnx import TensorProto, helper

import sardonyx as sx
from sardonyx.check import validate


def test_training_graphs_read_the_main_graph() -> None:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])
    weight = helper.make_tensor("w", TensorProto.FLOAT, [2], [1.0, 2.0])
    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "w"], ["y"])], "g", [x], [y], initializer=[weight]
    )
    new = helper.make_tensor_value_info("w_new", TensorProto.FLOAT, [2])
    step = helper.make_graph([helper.make_node("Sub", ["w", "y"], ["w_new"])], "step", [], [new])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    info = helper.make_training_info(step, [("w", "w_new")], None, None)
    model.training_info.append(info)
    loaded = sx.loads(model.SerializeToString())
    assert loaded.training[0].algorithm is not None
    assert loaded.training[0].update_binding == {"w": "w_new"}
    assert validate(loaded).errors == []
    assert sx.dumps(loaded) == model.SerializeToString()
    model.training_info[0].algorithm.node[0].input[1] = "nowhere"
    broken = validate(sx.loads(model.SerializeToString())).errors
    assert [problem.kind for problem in broken] == ["undefined-name"]
