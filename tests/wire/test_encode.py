from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from sardonyx import dtypes
from sardonyx.dims import symbol
from sardonyx.errors import ModelError
from sardonyx.ir import (
    ArrayTensor,
    AttributeType,
    Function,
    Graph,
    MapType,
    Model,
    Node,
    OpaqueType,
    OptionalType,
    SequenceType,
    SparseTensor,
    SparseTensorType,
    TensorType,
    Value,
)
from sardonyx.wire import decode_model, encode_model, encode_tensor, encode_type
from wire.protos import rich_model, small_model


def parsed(model):
    return onnx.ModelProto.FromString(encode_model(model).tobytes())


def simple(*, name="y", weight=None):
    x = Value("x", TensorType(dtypes.FLOAT, (symbol("N"), 2)))
    inputs = [x]
    initializers = []
    if weight is not None:
        constant = Value("w", const=weight)
        inputs.append(constant)
        initializers.append(constant)
    first = Node("Neg", inputs)
    last = Node("Abs", [first.output])
    last.output.name = name
    last.output.type = x.type
    graph = Graph("g", [x], [last.output], [first, last], initializers)
    return Model(graph, {"": 22}, ir_version=10)


def test_a_model_built_here_is_read_by_onnx():
    proto = parsed(simple(weight=ArrayTensor(np.float32([1, 2]))))
    onnx.checker.check_model(
        onnx.ModelProto.FromString(encode_model(simple(name="out")).tobytes()), full_check=False
    )
    assert [node.op_type for node in proto.graph.node] == ["Neg", "Abs"]
    assert proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "N"
    assert numpy_helper.to_array(proto.graph.initializer[0]).tolist() == [1, 2]
    assert proto.graph.initializer[0].name == "w"


def test_unnamed_values_get_unique_names_which_they_keep():
    model = simple(name="")
    model.graph.inputs[0].name = "value_0"
    proto = parsed(model)
    names = [node.output[0] for node in proto.graph.node]
    assert len({"value_0", *names}) == 3
    assert proto.graph.node[1].input[0] == names[0]
    assert proto.graph.output[0].name == names[1]
    assert parsed(model) == proto


def test_names_differ_from_those_of_inner_and_outer_graphs():
    inner_node = Node("Neg", [Value("value_0")])
    inner = Graph("inner", [], [inner_node.output], [inner_node])
    node = Node("If", [Value("c")])
    node.set_attribute("then_branch", inner)
    after = Node("Abs", [node.output])
    graph = Graph("g", [], [after.output], [node, after])
    proto = parsed(Model(graph, {"": 22}))
    branch = proto.graph.node[0].attribute[0].g
    outer = {proto.graph.node[0].output[0], proto.graph.node[1].output[0]}
    assert branch.node[0].input[0] == "value_0"
    assert len(outer | {branch.output[0].name, "value_0"}) == 4


def test_outputs_that_no_one_reads_stay_unnamed():
    node = Node("Dropout", [Value("x")], 2)
    node.outputs[0].name = "y"
    proto = parsed(Model(Graph("g", [], [node.outputs[0]], [node]), {"": 22}))
    assert list(proto.graph.node[0].output) == ["y", ""]


def test_renamed_initializers_and_new_types():
    model = decode_model(small_model().SerializeToString())
    (weight,) = model.graph.initializers
    weight.name = "renamed"
    add, relu, _ = model.graph.nodes
    relu.output.type = TensorType(dtypes.FLOAT16, (1, None))
    model.graph.inputs[0].type = TensorType(dtypes.INT8, None)
    proto = parsed(model)
    assert proto.graph.initializer[0].name == "renamed"
    assert proto.graph.node[0].input[1] == "renamed"
    assert [info.name for info in proto.graph.value_info] == ["s", "y"]
    assert proto.graph.value_info[1].type.tensor_type.elem_type == 10
    assert proto.graph.input[0].type.tensor_type.elem_type == 3
    assert not proto.graph.input[0].type.tensor_type.HasField("shape")
    assert add.output.users == {relu: 1}


def test_removed_nodes_take_their_value_info_along():
    model = decode_model(small_model().SerializeToString())
    add, relu, _ = model.graph.nodes
    relu.set_input(0, model.graph.inputs[0])
    model.graph.nodes.remove(add)
    proto = parsed(model)
    assert [node.op_type for node in proto.graph.node] == ["LeakyRelu", "If"]
    assert not proto.graph.value_info


def test_types():
    inner = TensorType(dtypes.BFLOAT16, (2, symbol("N")), "D", ("", "DATA_BATCH"))
    for made in (
        inner,
        SparseTensorType(dtypes.INT64, None),
        SequenceType(OptionalType(inner)),
        MapType(dtypes.STRING, inner, "M"),
        OpaqueType("d", "n"),
        TensorType(None, ()),
    ):
        data = encode_type(made)
        assert onnx.TypeProto.FromString(data).SerializeToString() == data
        from sardonyx.wire import decode_type

        assert decode_type(data) == made


def test_array_tensors_of_every_type_are_read_by_onnx():
    for dtype in dtypes.ALL:
        if dtype is dtypes.STRING:
            array = np.array(["a", "ü"], object)
        else:
            array = np.array([0, 1, 1], np.uint8).astype(dtype.numpy)
        proto = onnx.TensorProto.FromString(encode_tensor(ArrayTensor(array, dtype, "t")))
        found = numpy_helper.to_array(proto)
        assert [str(item) for item in found] == [str(item) for item in array]
        assert proto.data_type == dtype.code


def test_big_tensors_are_pieces_read_when_written():
    array = np.arange(100_000, dtype=np.float32)
    weight = ArrayTensor(array)
    chunks = encode_model(simple(weight=weight))
    big = [piece for piece in chunks.pieces if not isinstance(piece, bytes)]
    assert [piece.nbytes for piece in big] == [400_000]
    assert big[0].tensor is weight
    assert chunks.nbytes == len(chunks.tobytes())
    proto = onnx.ModelProto.FromString(chunks.tobytes())
    np.testing.assert_array_equal(numpy_helper.to_array(proto.graph.initializer[0]), array)


def test_externalize():
    seen = []

    def externalize(tensor):
        seen.append(tensor.name)
        return [("location", "d"), ("offset", "0")] if tensor.name == "t" else None

    model = decode_model(rich_model().SerializeToString())
    proto = onnx.ModelProto.FromString(encode_model(model, externalize).tobytes())
    every = {attribute.name: attribute for attribute in proto.graph.node[0].attribute}
    tensor = every["t"].t
    assert tensor.data_location == onnx.TensorProto.EXTERNAL
    assert [(e.key, e.value) for e in tensor.external_data] == [("location", "d"), ("offset", "0")]
    assert not tensor.float_data
    assert {"w", "unused", "s", "t", "sv", "si"} <= set(seen)


def test_external_entries_are_kept():
    model = small_model()
    weight = model.graph.initializer[0]
    del weight.float_data[:]
    weight.data_location = onnx.TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="w.bin")
    weight.external_data.add(key="checksum", value="0" * 40)
    again = parsed(decode_model(model.SerializeToString()))
    assert again == model


def test_sparse_attributes_and_functions():
    sparse = SparseTensor(ArrayTensor(np.float32([1])), ArrayTensor(np.int64([2])), (4,))
    body = Node("Constant")
    body.set_attribute("sparse_value", sparse)
    graph = Graph("", [], [body.output], [body])
    function = Function("F", "d", graph, {"": 22})
    model = simple()
    model.functions[function.key] = function
    proto = parsed(model)
    attribute = proto.functions[0].node[0].attribute[0]
    assert attribute.type == AttributeType.SPARSE_TENSOR
    assert list(attribute.sparse_tensor.dims) == [4]
    assert proto.functions[0].output[0] == proto.functions[0].node[0].output[0]


@pytest.mark.parametrize(
    ("value", "kind"),
    [(1 << 64, AttributeType.INT), (1e300, AttributeType.FLOAT), ("s", AttributeType.INTS)],
)
def test_values_that_do_not_fit_are_named(value, kind):
    model = simple()
    model.graph.nodes.first.set_attribute("a", value, kind)
    with pytest.raises(ModelError, match=r"fit|float32|'a' of type INTS"):
        encode_model(model)


def test_names_that_are_not_text():
    model = simple(name="\ud800")
    with pytest.raises(ModelError, match="UTF-8"):
        encode_model(model)
