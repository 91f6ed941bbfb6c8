from __future__ import annotations

import struct

import onnx
import pytest
from onnx import TensorProto, helper

from sardonyx.wire import decode_model, decode_value_info, encode_model, encode_value_info
from wire.protos import SUITE, normalised, rich_model, small_model, visit

FOLDERS = sorted({path.parent.parent for path in SUITE.glob("*/*/*.onnx")} | set(SUITE.glob("*/")))


def rewritten(data):
    return encode_model(visit(decode_model(data))).tobytes()


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_suite_models_come_back(folder):
    for path in folder.rglob("*.onnx"):
        data = path.read_bytes()
        again = rewritten(data)
        if again != data:
            before, after = onnx.ModelProto.FromString(data), onnx.ModelProto.FromString(again)
            assert normalised(after) == normalised(before), path


def test_every_message_kind_comes_back_byte_for_byte():
    data = rich_model().SerializeToString()
    again = rewritten(data)
    assert onnx.ModelProto.FromString(again) == rich_model()
    # segment stands among the unknown fields, at the end of its tensor
    assert len(again) == len(data)
    plain = rich_model()
    plain.graph.initializer[0].ClearField("segment")
    assert rewritten(plain.SerializeToString()) == plain.SerializeToString()


def test_untouched_models_come_back_byte_for_byte():
    data = small_model().SerializeToString()
    assert encode_model(decode_model(data)).tobytes() == data


def messages(proto):
    """`proto` and every message in it."""
    yield proto
    for field, value in proto.ListFields():
        if field.message_type is not None:
            for item in value if field.is_repeated else [value]:
                yield from messages(item)


UNKNOWN = b"\xc2\xbb\x01\x03abc\xc8\xbb\x01\x96\x01\xcd\xbb\x01\x01\x02\x03\x04"


def test_unknown_fields_survive_in_every_message():
    model = rich_model()
    every = list(messages(model))
    kinds = set()
    for proto in every:
        proto.MergeFromString(UNKNOWN)
        kinds.add(type(proto).__name__)
    assert {"Dimension", "Segment", "IntIntListEntryProto", "OperatorSetIdProto"} <= kinds
    again = onnx.ModelProto.FromString(
        encode_model(decode_model(model.SerializeToString())).tobytes()
    )
    assert again.SerializeToString().count(UNKNOWN) == len(every)
    assert again == model


def test_metadata_entries_without_value_come_back():
    model = small_model()
    model.metadata_props.add(key="only")
    model.opset_import.add(version=3, domain="d").ClearField("domain")
    model.opset_import[0].domain = "x"
    data = model.SerializeToString()
    assert decode_model(data).metadata == {"only": ""}
    assert rewritten(data) == data


def test_long_repeated_scalars_come_back():
    ints = [0, -1, 2**63 - 1, -(2**63), *range(5000)]
    floats = [0.5, -0.0, float("inf"), *(i / 7 for i in range(2000))]
    node = helper.make_node("N", [], ["y"], ints=ints, floats=floats, strings=["s"] * 300)
    model = small_model()
    model.graph.node.append(node)
    data = model.SerializeToString()
    found = decode_model(data).graph.nodes.last
    assert found.attribute("ints") == tuple(ints)
    assert found.attribute("floats") == tuple(
        onnx.numpy_helper.to_array(
            helper.make_tensor("", TensorProto.FLOAT, [len(floats)], floats)
        ).tolist()
    )
    assert found.attribute("strings") == ("s",) * 300
    assert rewritten(data) == data


@pytest.mark.parametrize("number", [1, 2])
def test_packed_attributes_are_read(number):
    attribute = onnx.AttributeProto(name="a", type=7)
    packed = bytes([8 * 8 + 2, 3, 5, 0x96, 0x01]) * number
    model = small_model()
    model.graph.node[0].attribute.append(
        onnx.AttributeProto.FromString(attribute.SerializeToString() + packed)
    )
    found = decode_model(model.SerializeToString())
    assert found.graph.nodes.first.attribute("a") == (5, 150) * number


def test_float_bits_survive():
    for bits in (0x7FC00000, 0x7FC12345, 0xFFC00001, 1, 0x80000000, 0x7F7FFFFF):
        value = struct.unpack("<f", struct.pack("<I", bits))[0]
        node = helper.make_node("N", [], ["y"], alpha=1.0)
        node.attribute[0].f = value
        model = small_model()
        model.graph.node.append(node)
        data = model.SerializeToString()
        assert rewritten(data) == data


def test_a_thousand_kinds_of_value_info():
    for index in range(100):
        info = helper.make_tensor_value_info(
            f"v{index}", 1, [index, "N", None], shape_denotation=None
        )
        data = info.SerializeToString()
        value = decode_value_info(data)
        assert value.shape[0] == index
        assert str(value.shape[1]) == "N"
        assert value.shape[2] is None
        assert encode_value_info(value) == data
        value.type = value.type
        assert encode_value_info(value) == data


def test_large_graph_as_vectors_and_as_fields_agree():
    nodes = []
    for index in range(300):
        node = helper.make_node(
            "Op" if index % 3 else "Größe",
            [f"v{index}", ""] * (index % 4),
            [f"v{index + 1}"],
            domain="d" if index % 5 == 0 else None,
            name=f"n{index}",
        )
        if index % 7 == 0:
            node.doc_string = "x" * (index * 3 + 1)
            node.metadata_props.add(key="k", value="v")
        if index % 11 == 0:
            node.MergeFromString(UNKNOWN)
        if index == 50:
            node.input.extend(["v50"] * 200)
        nodes.append(node)
    infos = [helper.make_tensor_value_info(f"v{i}", 1, [i]) for i in range(1, 290)]
    graph = helper.make_graph(
        nodes, "big", [helper.make_value_info("v0", onnx.TypeProto())], [], value_info=infos
    )
    model = helper.make_model(graph, ir_version=10)
    data = model.SerializeToString()
    found = decode_model(data)
    for node, proto in zip(found.graph.nodes, nodes, strict=True):
        assert node.op_type == proto.op_type
        assert [v.name if v else "" for v in node.inputs] == list(proto.input)
        assert [v.name for v in node.outputs] == list(proto.output)
        assert (node.domain, node.name, node.doc) == (proto.domain, proto.name, proto.doc_string)
    assert rewritten(data) == data
