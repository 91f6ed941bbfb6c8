from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from sardonyx import dtypes
from sardonyx.dims import symbol
from sardonyx.errors import DecodeError, ExternalDataError, LimitError
from sardonyx.ir import AttributeType, MapType, OptionalType, SequenceType, TensorType
from sardonyx.limits import Limits
from sardonyx.wire import (
    DecodeContext,
    decode_model,
    decode_optional,
    decode_sequence,
    decode_tensor,
    decode_type,
    encode_optional,
    encode_sequence,
    encode_tensor,
)
from wire.protos import normalised, rich_model, small_model, subgraph, tensor_type


def decoded(model):
    return decode_model(model.SerializeToString())


def test_model_header():
    model = decoded(rich_model())
    assert model.ir_version == 14
    assert (model.producer_name, model.producer_version) == ("maker", "1")
    assert (model.domain, model.model_version, model.doc) == ("org.example", -5, "a model")
    assert model.opset_imports == {"": 22, "com.example": 1}
    assert model.metadata == {"model": "yes"}
    assert model.configurations[0].devices == ("cpu:0", "cpu:1")
    (function,) = model.functions.values()
    assert function.key == ("com.example", "Every", "o")
    assert function.attributes == ["needed"]
    assert function.defaults["given"].value == 3
    assert function.metadata == {"function": "yes"}
    assert model.function_of(model.graph.nodes.first) is function
    (info,) = model.training
    assert info.update_binding == {"w": "step_out"}
    assert [node.op_type for node in info.algorithm.nodes] == ["Neg"]


def test_graph_parts():
    graph = decoded(rich_model()).graph
    assert [value.name for value in graph.inputs] == ["x", "cond", "w"]
    assert [value.name for value in graph.required_inputs] == ["x", "cond"]
    assert [value.name for value in graph.initializers] == ["w", "unused", "s"]
    assert graph.inputs[0].doc == "an input"
    assert graph.inputs[0].metadata == {"axis": "batch"}
    assert graph.inputs[0].shape == (symbol("N"), 3)
    assert graph.outputs[0].shape == (None, symbol("a b"), None)
    assert graph.inputs[2] is graph.initializers[0]
    assert graph.initializers[0].const.metadata == {"of": "w"}
    assert list(graph.initializers[1].const.numpy()) == ["a", "\udcff"]
    assert graph.initializers[2].const.to_dense()[3, 1] == 7.0
    assert graph.quantization[0].parameters == {"SCALE_TENSOR": "w"}
    assert graph.metadata == {"graph": "yes"}
    second = graph.value_info[1].type
    assert isinstance(second, MapType)
    assert second.key is dtypes.STRING
    assert isinstance(second.value, OptionalType)
    assert second.value.element.denotation == "IMAGE"


def test_attributes_by_type():
    node = decoded(rich_model()).graph.nodes.first
    types = {name: attribute.type.name for name, attribute in node.attributes.items()}
    assert types["type_protos"] == "TYPE_PROTOS"
    assert len(types) == 13
    assert node.attribute("f") == np.float32(0.1)
    assert node.attribute("i") == -3
    assert node.attribute("s") == "text"
    assert node.attribute("b") == b"\xff\x00"
    assert node.attribute("strings") == ("a", "", "ü")
    assert node.attribute("ints") == (1, -1, 2**62)
    assert node.attribute("t").numpy().tolist() == [1.5, -2.0]
    assert node.attribute("sparse").to_dense().tolist() == [0, 0, 0, 7, 0]
    assert node.attribute("type_proto") == TensorType(dtypes.FLOAT, (symbol("N"), 3))
    assert isinstance(node.attribute("type_protos")[1], SequenceType)
    assert node.attributes["f"].doc == "what it is"
    assert node.metadata == {"key": "value"}
    (device,) = node.devices
    (spec,) = device.sharding_specs
    assert device.pipeline_stage == 1
    assert spec.devices == (0, -1)
    assert spec.device_groups == ((-1, (0, 1)),)
    assert [s.dim for s in spec.sharded_dims[0].simple_sharding] == [4, symbol("N"), None]


def test_links_through_graphs():
    graph = decoded(rich_model()).graph
    every, branches = graph.nodes
    x, _, w = graph.inputs
    assert every.inputs == (x, None, w)
    inner = {g.name: g.nodes.first for g in branches.subgraphs()}
    assert every.outputs[0].users == {inner["then"]: 1}
    assert x.users == {every: 1, inner["else"]: 1}
    assert w.users == {every: 1, inner["a"]: 1}
    assert every.outputs[2].producer is every
    assert every.outputs[2].index == 2
    assert all(g.parent is branches for g in branches.subgraphs())
    assert graph.outputs[0] is branches.output


def test_nodes_before_their_producers_and_repeated_names():
    nodes = [
        helper.make_node("A", ["b", "b", "nowhere"], ["a"]),
        helper.make_node("B", ["a"], ["b"]),
        helper.make_node("C", ["nowhere"], ["b"]),
    ]
    graph = decoded(helper.make_model(helper.make_graph(nodes, "g", [], []))).graph
    a, b, c = graph.nodes
    assert a.inputs[0] is b.output
    assert b.output.users == {a: 2}
    assert c.output is not b.output
    assert c.output.name == "b"
    assert a.inputs[2] is c.inputs[0]
    assert a.inputs[2].producer is None


def test_inner_names_hide_outer_ones():
    inner = subgraph("t", "x")
    inner.node.insert(0, helper.make_node("Abs", ["y0"], ["x"]))
    nodes = [
        helper.make_node("If", ["c"], ["z"], then_branch=inner),
        helper.make_node("Neg", ["x"], ["y0"]),
    ]
    graph = decoded(
        helper.make_model(
            helper.make_graph(nodes, "g", [helper.make_value_info("x", onnx.TypeProto())], [])
        )
    ).graph
    branch, neg = graph.nodes
    first, second = branch.attribute("then_branch").nodes
    assert first.inputs[0] is neg.output
    assert second.inputs[0] is first.output
    assert set(graph.inputs[0].users) == {neg}


def test_graph_is_built_on_first_use_and_failures_repeat():
    model = small_model()
    del model.graph.initializer[0].float_data[:]
    graph = decoded(model).graph
    assert graph.name == "g"
    for _ in range(2):
        with pytest.raises(DecodeError, match="takes 3 values in float_data, 0 are there"):
            _ = graph.nodes


def test_errors_say_where():
    model = small_model()
    model.graph.node[1].attribute[0].type = 2
    data = model.SerializeToString()
    node = list(decode_model(data).graph.nodes)[1]
    with pytest.raises(DecodeError, match="'alpha' of type INT has its value in f") as caught:
        _ = node.attributes
    assert "graph.node[1].attribute[0]" in str(caught.value)
    assert data[caught.value.offset - 2] == 5 * 8 + 2


def test_old_attributes_without_type():
    model = small_model()
    for node in model.graph.node:
        for attribute in node.attribute:
            attribute.ClearField("type")
    found = decoded(model)
    types = [a.type for node in found.graph.nodes for a in node.attributes.values()]
    assert types == [AttributeType.FLOAT, AttributeType.GRAPH]


def test_absent_values_are_defaults():
    model = small_model()
    node = model.graph.node[0]
    for name, kind in (("i", 2), ("f", 1), ("s", 3), ("ints", 7)):
        node.attribute.add(name=name, type=kind)
    found = decoded(model).graph.nodes.first
    assert [a.value for a in found.attributes.values()] == [0, 0.0, "", ()]


def random_array(dtype):
    rng = np.random.default_rng(dtype.code)
    if dtype is dtypes.STRING:
        return np.array([["a", "ü", ""]], object)
    raw = rng.integers(0, 256, (3, 5, dtype.itemsize), np.uint8)
    if dtype is dtypes.BOOL:
        raw &= 1
    elif dtype.bits < 8:
        raw &= (1 << dtype.bits) - 1
        if dtype.kind == "int":
            raw = (raw ^ (1 << (dtype.bits - 1))) - (1 << (dtype.bits - 1))
    return raw.view(dtype.numpy).reshape(3, 5)


def bits(array):
    if array.dtype == object:
        return array.tolist()
    if dtypes.from_numpy(array.dtype).bits < 8:
        array = array.astype(np.float32)
    return array.tobytes()


def field_proto(dtype, array):
    """The typed form, written as onnx.proto describes it."""
    proto = TensorProto(data_type=dtype.code, dims=array.shape, name="t")
    flat = array.reshape(-1)
    if dtype is dtypes.STRING:
        proto.string_data.extend([text.encode() for text in flat])
    elif dtype.bits in (2, 4):
        proto.int32_data.extend(dtypes.pack(flat, dtype))
    elif dtype.field == "int32_data":
        if dtype.kind == "float":
            proto.int32_data.extend(flat.view(f"u{dtype.itemsize}").tolist())
        else:
            proto.int32_data.extend(flat.astype(int).tolist())
    else:
        flat = flat.view(f"f{dtype.itemsize // 2}") if dtype.kind == "complex" else flat
        getattr(proto, dtype.field).extend(flat.tolist())
    return proto


@pytest.mark.parametrize("dtype", dtypes.ALL, ids=repr)
def test_typed_tensors_equal_onnx(dtype):
    array = random_array(dtype)
    if dtype.kind in ("float", "complex") and dtype.field != "int32_data":
        array = np.nan_to_num(array)
    proto = field_proto(dtype, array)
    data = proto.SerializeToString()
    tensor = decode_tensor(data)
    assert tensor.dtype is dtype
    assert bits(tensor.numpy()) == bits(array)
    expected = numpy_helper.to_array(proto)
    if dtype is dtypes.STRING:
        assert [x if isinstance(x, str) else x.decode() for x in expected.reshape(-1)] == list(
            tensor.numpy().reshape(-1)
        )
    else:
        assert bits(expected) == bits(tensor.numpy())
    assert encode_tensor(tensor) == data


@pytest.mark.parametrize("dtype", [d for d in dtypes.ALL if d is not dtypes.STRING], ids=repr)
def test_raw_tensors_equal_onnx(dtype):
    array = random_array(dtype)
    proto = numpy_helper.from_array(array, "t")
    assert proto.data_type == dtype.code
    data = proto.SerializeToString()
    tensor = decode_tensor(data)
    assert bits(tensor.numpy()) == bits(numpy_helper.to_array(proto)) == bits(array)
    assert encode_tensor(tensor) == data
    typed = decode_tensor(field_proto(dtype, array).SerializeToString())
    if dtype.kind not in ("float", "complex") or dtype.bits <= 16:
        assert bytes(typed.raw()) == proto.raw_data


def test_unpacked_data_fields():
    packed = helper.make_tensor("t", TensorProto.INT64, [6], [1, -1, 300, 2**40, 0, 5])
    body = b"".join(
        b"\x38" + packed_value
        for packed_value in (
            b"\x01",
            b"\xff" * 9 + b"\x01",
            b"\xac\x02",
            b"\x80\x80\x80\x80\x80\x20",
            b"\x00",
            b"\x05",
        )
    )
    packed_proto = TensorProto(dims=[6], data_type=7, name="t")
    tensor = decode_tensor(packed_proto.SerializeToString() + body)
    assert tensor.numpy().tolist() == list(packed.int64_data)
    assert encode_tensor(tensor) == packed.SerializeToString()


def test_raw_data_is_not_copied():
    data = numpy_helper.from_array(np.arange(6, dtype=np.float32)).SerializeToString()
    tensor = decode_tensor(data)
    assert tensor.numpy().base is not None
    assert not tensor.numpy().flags.writeable
    assert np.shares_memory(tensor.numpy(), np.frombuffer(data, np.uint8))


def test_external_tensor_of_bytes_says_so():
    model = small_model()
    weight = model.graph.initializer[0]
    del weight.float_data[:]
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="w.bin")
    weight.external_data.add(key="length", value="12")
    tensor = decoded(model).graph.initializers[0].const
    with pytest.raises(ExternalDataError, match="load the model from its path"):
        tensor.numpy()


def test_split_messages_are_merged_as_protobuf_does():
    first, second = small_model(), small_model()
    data = first.SerializeToString() + second.SerializeToString()
    merged = onnx.ModelProto.FromString(data)
    found = decode_model(data)
    assert len(found.graph.nodes) == len(merged.graph.node) == 6
    assert len(found.graph.initializers) == 2


def test_types():
    for proto in (
        helper.make_tensor_type_proto(10, None),
        helper.make_tensor_type_proto(16, []),
        helper.make_sparse_tensor_type_proto(1, ["N"]),
        helper.make_sequence_type_proto(helper.make_optional_type_proto(tensor_type())),
        helper.make_map_type_proto(7, tensor_type(())),
    ):
        assert decode_type(proto.SerializeToString()) is not None
    assert decode_type(b"") is None
    both = onnx.TypeProto()
    both.tensor_type.elem_type = 1
    extra = onnx.TypeProto()
    extra.map_type.key_type = 1
    with pytest.raises(DecodeError, match="both tensor_type and map_type"):
        decode_type(both.SerializeToString() + extra.SerializeToString())


def test_limits():
    data = small_model().SerializeToString()
    with pytest.raises(LimitError, match="nodes limit"):
        decode_model(data, context=DecodeContext(limits=Limits(nodes=2)))
    # the inner graph counts too
    model = decode_model(data, context=DecodeContext(limits=Limits(nodes=3)))
    for _ in range(2):
        with pytest.raises(LimitError, match="nodes limit"):
            _ = model.graph.nodes
    with pytest.raises(LimitError, match="depth limit"):
        _ = decode_model(data, context=DecodeContext(limits=Limits(depth=6))).graph.nodes
    tensor = TensorProto(dims=[1] * 65, data_type=1, float_data=[1.0])
    with pytest.raises(LimitError, match="rank limit"):
        decode_tensor(tensor.SerializeToString())
    with pytest.raises(LimitError, match="name bytes limit"):
        decode_model(
            small_model().SerializeToString(), context=DecodeContext(limits=Limits(name_bytes=2))
        )


def test_sequences_and_optionals_of_test_data():
    arrays = [np.float32([1, 2]), np.float32([[3]])]
    proto = numpy_helper.from_list(arrays, "s")
    found = decode_sequence(proto.SerializeToString())
    assert [a.tolist() for a in found] == [a.tolist() for a in arrays]
    witness = onnx.SequenceProto.FromString(encode_sequence(arrays, name="s"))
    assert [a.tolist() for a in numpy_helper.to_list(witness)] == [a.tolist() for a in arrays]
    optional = numpy_helper.from_optional(arrays[0], "o")
    assert decode_optional(optional.SerializeToString()).tolist() == [1, 2]
    assert normalised(onnx.OptionalProto.FromString(encode_optional(arrays[0], name="o"))) == (
        normalised(optional)
    )
    assert decode_optional(encode_optional(None)) is None
    nested = [{"a": arrays[0]}, {"b": arrays[1]}]
    again = decode_sequence(encode_sequence(nested))
    assert [list(item) for item in again] == [["a"], ["b"]]
    assert decode_sequence(encode_sequence([[arrays[0]], []]))[1] == []
    mapped = numpy_helper.from_dict({3: arrays[0], -4: arrays[0]}, "m")
    witness = onnx.SequenceProto(elem_type=4, map_values=[mapped])
    (found,) = decode_sequence(witness.SerializeToString())
    assert list(found) == [3, -4]
