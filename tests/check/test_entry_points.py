"""The validator as other parts use it: sessions, saving, models that were edited, reports."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import sardonyx as sx
from build import from_text
from check.faults import BUILT, SEEDS, seed
from sardonyx.check import RULES, Place, Report, check, validate
from sardonyx.dtypes import FLOAT
from sardonyx.errors import (
    CheckError,
    DecodeError,
    ExternalDataError,
    SardonyxError,
    UnsupportedError,
)
from sardonyx.ir import Node, TensorType, Value
from sardonyx.limits import Limits

SOUND = '<ir_version: 8, opset_import: ["" : 17]> g (float[3] x) => (float[3] y) { y = Relu(x) }'


def broken() -> sx.Model:
    model = from_text(SOUND)
    node = model.graph.nodes.first
    assert node is not None
    node.op_type = "Reluu"
    return model


def test_saving_checks_when_it_is_asked_to(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    sx.save(broken(), path)
    before = path.read_bytes()
    with pytest.raises(CheckError, match="Reluu"):
        sx.save(broken(), path, check=True)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    sx.save(from_text(SOUND), path, check=True)
    assert path.read_bytes() != before


def test_an_edited_model_is_checked_as_it_would_be_saved() -> None:
    model = from_text(SOUND)
    node = model.graph.nodes.first
    assert node is not None
    middle = Value()
    model.graph.nodes.insert_before(node, Node("Neg", [node.inputs[0]], [middle]))
    node.set_input(0, middle)
    assert validate(model).errors == []
    onnx.checker.check_model(onnx.load_from_string(sx.dumps(model)))


def test_two_values_of_one_name_in_an_edited_model() -> None:
    model = from_text(SOUND)
    node = model.graph.nodes.first
    assert node is not None
    node.set_input(0, Value("x", TensorType(FLOAT, (3,))))
    (problem,) = validate(model).errors
    assert (problem.kind, problem.where.value) == ("duplicate-name", "x")


def test_custom_operators_are_for_other_runtimes() -> None:
    text = '<ir_version: 8, opset_import: ["" : 17, "com.example" : 1]> '
    model = from_text(text + "g (float[3] x) => (float[3] y) { a = com.example.Op(x) y = Abs(a) }")
    report = check(model)
    assert [problem.kind for problem in report.warnings] == ["custom-operator"]
    with pytest.raises((CheckError, UnsupportedError), match="Op"):
        sx.Session(model)


def test_attributes_of_tools_are_passed_over() -> None:
    model = from_text(SOUND)
    node = model.graph.nodes.first
    assert node is not None
    node.set_attribute("__tool", 3)
    onnx.checker.check_model(onnx.load_from_string(sx.dumps(model)))
    assert check(model).problems == []
    x = np.array([-1, 0, 2], np.float32)
    np.testing.assert_array_equal(sx.Session(model).run(None, {"x": x})[0], [0, 0, 2])


@pytest.mark.parametrize("version", [1, 2])
def test_before_ir_3_version_1_is_meant(version: int) -> None:
    proto = onnx.parser.parse_model(SOUND)
    proto.ir_version = version
    del proto.opset_import[:]
    onnx.checker.check_model(proto)
    model = sx.loads(proto.SerializeToString())
    assert check(model).warnings == []
    x = np.array([-1, 0, 2], np.float32)
    np.testing.assert_array_equal(sx.Session(model).run(None, {"x": x})[0], [0, 0, 2])
    assert not onnx.load_from_string(sx.dumps(model)).opset_import


def test_what_cannot_be_read_is_in_the_report_and_raised_as_it_is() -> None:
    proto = seed("chain")
    del proto.graph.initializer[0].float_data[2:]
    model = sx.loads(proto.SerializeToString())
    (problem,) = validate(model).errors
    assert problem.kind == "encoding"
    for entry in (check, sx.Session):
        with pytest.raises(DecodeError):
            entry(model)
    proto.ir_version = 99
    with pytest.raises(CheckError, match="ir_version 99"):
        check(proto.SerializeToString())


def test_an_unreadable_attribute_does_not_hide_other_problems() -> None:
    proto = seed("chain")
    for name in ("LeakyRelu", "Elu"):
        node = proto.graph.node.add(op_type=name, input=["x"], output=[name])
        attribute = node.attribute.add(name="alpha", type=onnx.AttributeProto.FLOAT, f=1)
        attribute.i = 3
    proto.graph.node[1].input.append("z")
    problems = validate(sx.loads(proto.SerializeToString())).errors
    assert [problem.kind for problem in problems] == ["arity", "encoding", "encoding"]
    assert "Elu" in problems[2].place


def test_external_data_that_is_missing(tmp_path: Path) -> None:
    proto = seed("chain")
    tensor = proto.graph.initializer[0]
    tensor.ClearField("float_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="gone.bin")
    path = tmp_path / "m.onnx"
    path.write_bytes(proto.SerializeToString())
    model = sx.load(path)
    assert [problem.kind for problem in validate(model).errors] == ["external-data"]
    with pytest.raises(ExternalDataError, match="gone"):
        check(model)
    assert validate(sx.loads(proto.SerializeToString())).errors == []


def test_training_graphs_are_linked_to_the_model() -> None:
    model = sx.loads(seed("training").SerializeToString())
    (info,) = model.training
    assert info.algorithm is not None
    assert info.initialization is not None
    node = info.algorithm.nodes.first
    assert node is not None
    (weight,) = model.graph.initializers
    assert node.inputs == (weight,)
    assert node in weight.users
    weight.name = "renamed"
    saved = onnx.load_from_string(sx.dumps(model))
    assert saved.training_info[0].algorithm.node[0].input == ["renamed"]


def test_training_may_return_a_value_of_the_model() -> None:
    proto = seed("training")
    proto.training_info[0].algorithm.output.add().CopyFrom(proto.graph.output[0])
    assert validate(sx.loads(proto.SerializeToString())).errors == []


def test_problems_tell_where_they_are() -> None:
    proto = seed("branches")
    proto.graph.node[-1].attribute[0].g.node[0].input[0] = "nowhere"
    (problem,) = validate(sx.loads(proto.SerializeToString())).errors
    assert problem.where.graph == ("graph 'main'", "then_branch of node of 'y' (If)")
    assert problem.where.node == "node of 't' (Neg)"
    assert problem.where.value == "nowhere"
    assert problem.place.splitlines() == [problem.where.node, *reversed(problem.where.graph)]
    plain = json.loads(json.dumps(problem.to_json()))
    assert plain["graph"] == list(problem.where.graph)
    assert plain["kind"] in RULES


def test_misspelt_names_get_a_suggestion() -> None:
    proto = seed("chain")
    proto.graph.node[2].input[0] = "bb"
    (problem,) = validate(sx.loads(proto.SerializeToString())).errors
    assert problem.hint == "did you mean 'b'?"


def test_reports_are_bounded_and_keep_errors() -> None:
    report = Report()
    for index in range(30_000):
        report.warn("inference", str(index), Place())
    report.error("limit", "at last")
    assert len(report.warnings) == 10_000
    assert report.omitted == 20_000
    assert [problem.message for problem in report.errors] == ["at last"]


def test_many_subgraphs_in_a_long_graph_take_linear_time() -> None:
    proto = seed("branches")
    choose = proto.graph.node[1]
    for index in range(200):
        added = proto.graph.node.add()
        added.CopyFrom(choose)
        added.output[0] = f"y{index}"
        for attribute in added.attribute:
            attribute.g.node[0].output[0] = attribute.g.output[0].name = f"{attribute.name}{index}"
    report = validate(sx.loads(proto.SerializeToString()), types=False)
    assert report.errors == []


def test_nesting_is_bounded() -> None:
    model = sx.loads(seed("branches").SerializeToString())
    kinds = [problem.kind for problem in validate(model, limits=Limits(depth=1)).errors]
    assert kinds[:1] == ["limit"]


def test_sparse_tensors_without_elements_need_no_indices() -> None:
    proto = seed("sparse")
    sparse = proto.graph.sparse_initializer[0]
    sparse.values.CopyFrom(helper.make_tensor("s", TensorProto.FLOAT, [0], []))
    sparse.ClearField("indices")
    onnx.checker.check_model(proto, full_check=True)
    assert validate(sx.loads(proto.SerializeToString())).errors == []


def test_many_unknown_operators_and_functions_take_linear_time() -> None:
    proto = seed("functions")
    for index in range(200):
        proto.graph.node.add(op_type=f"Unknown{index}", input=["x"], output=[f"u{index}"])
        function = proto.functions.add()
        function.CopyFrom(proto.functions[1])
        function.name = f"copy{index}"
    report = validate(sx.loads(proto.SerializeToString()))
    assert len(report.errors) == 200
    assert {problem.kind for problem in report.infos} == {"unused-function"}


@pytest.mark.parametrize("name", [*SEEDS, *BUILT])
def test_validating_a_damaged_file_raises_nothing(name: str) -> None:
    random = Random(name)
    whole = seed(name).SerializeToString()
    for _ in range(60):
        data = bytearray(whole)
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)
        try:
            model = sx.loads(bytes(data))
        except SardonyxError:
            continue
        assert all(problem.kind in RULES for problem in validate(model).problems)
