"""The checker finds every problem of a file, each with its class, place and fix."""

from __future__ import annotations

import onnx
import pytest
from onnx import TensorProto, helper

import sardonyx as sx
from build import from_nodes, from_text
from sardonyx.check import validate
from sardonyx.limits import Limits

SOUND = (
    '<ir_version: 8, opset_import: ["" : 17]> g (float[N, 3] x) => (float[N, 3] y) { y = Relu(x) }'
)


def kinds(model: sx.Model) -> list[str]:
    return [problem.kind for problem in validate(model).errors]


def test_a_sound_model_has_no_problems() -> None:
    assert validate(from_text(SOUND)).problems == []
    assert sx.check(from_text(SOUND)).warnings == []


def test_all_problems_come_in_one_report() -> None:
    model = from_nodes(
        [
            helper.make_node("Relu", ["nowhere"], ["a"], name="first"),
            helper.make_node("Reluu", ["a"], ["b"], name="second"),
            helper.make_node("Gather", ["a", "b"], ["a"], name="third", axs=1),
            helper.make_node("Add", ["a"], ["y"], name="fourth"),
        ],
        {"x": [3]},
        {"y": [3], "z": [3]},
    )
    report = validate(model)
    assert kinds(model) == [
        "undefined-name",
        "unknown-operator",
        "unknown-attribute",
        "duplicate-name",
        "arity",
        "undefined-name",
    ]
    assert "Relu" in report.errors[1].hint
    assert "axis" in report.errors[2].hint
    assert "'third'" in report.errors[2].place
    with pytest.raises(sx.errors.CheckError) as caught:
        sx.check(model)
    assert len(caught.value.problems) == 6


def test_unsorted_nodes_are_named() -> None:
    model = from_nodes(
        [helper.make_node("Abs", ["a"], ["y"]), helper.make_node("Abs", ["x"], ["a"])],
        {"x": [3]},
        {"y": [3]},
    )
    assert kinds(model) == ["order"]


def test_types_that_cannot_fit() -> None:
    model = from_nodes([helper.make_node("Add", ["x", "s"], ["y"])], {"x": [3]}, {"y": [3]})
    from sardonyx import dtypes
    from sardonyx.ir import TensorType

    first = model.graph.nodes.first
    assert first is not None
    assert first.inputs[1] is not None
    first.inputs[1].type = TensorType(dtypes.INT64, (3,))
    model.graph.inputs.append(first.inputs[1])
    assert kinds(model) == ["type"]


def test_shapes_that_cannot_fit() -> None:
    model = from_nodes(
        [helper.make_node("Add", ["x", "z"], ["y"], name="sum")],
        {"x": [2, 3], "z": [4]},
        {"y": None},
    )
    (problem,) = validate(model).errors
    assert problem.kind == "shape"
    assert "sum" in problem.place


def test_a_wrong_declared_shape_is_a_warning() -> None:
    model = from_nodes(
        [helper.make_node("Relu", ["x"], ["a"]), helper.make_node("Relu", ["a"], ["y"])],
        {"x": [2, 3]},
        {"y": [2, 3]},
        value_info=[helper.make_tensor_value_info("a", TensorProto.FLOAT, [5, 3])],
    )
    report = validate(model)
    assert report.errors == []
    assert [problem.kind for problem in report.warnings] == ["declared-type"]


def test_versions() -> None:
    newest = from_text(SOUND.replace("17", "99"))
    assert kinds(newest)[0] == "opset"
    old = from_text(SOUND)
    old.ir_version = 99
    assert kinds(old) == ["ir-version"]


def function_model(calls: dict[str, list[str]]) -> sx.Model:
    functions = [
        helper.make_function(
            "local",
            name,
            ["a"],
            ["b"],
            [
                helper.make_node(op, ["a"], [f"b{i}" if i < len(ops) - 1 else "b"], domain="local")
                for i, op in enumerate(ops)
            ]
            or [helper.make_node("Relu", ["a"], ["b"])],
            [helper.make_opsetid("", 21), helper.make_opsetid("local", 1)],
        )
        for name, ops in calls.items()
    ]
    first = next(iter(calls))
    graph = helper.make_graph(
        [helper.make_node(first, ["x"], ["y"], domain="local")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [3])],
    )
    imports = [helper.make_opsetid("", 21), helper.make_opsetid("local", 1)]
    model = helper.make_model(graph, functions=functions, opset_imports=imports, ir_version=10)
    return sx.loads(model.SerializeToString())


def test_functions_that_call_each_other_are_refused_with_the_cycle() -> None:
    report = validate(function_model({"F": ["G"], "G": ["F"]}))
    assert [problem.kind for problem in report.errors] == ["cycle"]
    assert "'F' -> 'G' -> 'F'" in report.errors[0].message


def test_a_function_bomb_is_refused() -> None:
    calls = {f"F{i}": [f"F{i + 1}"] * 10 for i in range(8)} | {"F8": []}
    assert kinds(function_model(calls)) == ["limit"]
    assert kinds(function_model({"F0": ["F1"] * 3, "F1": []})) == []


def test_functions_do_not_call_each_other_too_deeply() -> None:
    calls = {f"F{i}": [f"F{i + 1}"] for i in range(150)} | {"F150": []}
    (problem,) = validate(function_model(calls)).errors
    assert (problem.kind, "Limits(depth" in problem.hint) == ("limit", True)
    assert kinds(function_model({f"F{i}": [f"F{i + 1}"] for i in range(50)} | {"F50": []})) == []


def test_the_limit_can_be_lowered() -> None:
    report = validate(function_model({"F0": ["F1"] * 3, "F1": []}), limits=Limits(nodes=2))
    assert [problem.kind for problem in report.errors] == ["limit"]


def test_dangling_device_configuration() -> None:
    proto = onnx.parser.parse_model(SOUND.replace("8", "11", 1))
    configuration = proto.graph.node[0].device_configurations.add()
    configuration.configuration_id = "missing"
    assert kinds(sx.loads(proto.SerializeToString())) == ["device-configuration"]


def test_hostile_names_are_escaped() -> None:
    model = from_nodes(
        [helper.make_node("Relu", ["x\u202e\x1b[31m"], ["y"])], {"x": [3]}, {"y": [3]}
    )
    (problem,) = validate(model).errors
    assert str(problem).isprintable() or "\x1b" not in str(problem)
    assert "\u202e" not in str(problem)
