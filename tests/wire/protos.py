"""What the codec's tests share: the onnx package as the witness, and a model with everything."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

SUITE = Path(onnx.__file__).parent / "backend" / "test" / "data"


def normalised(proto):
    """`proto` without singular fields that state their default: they mean the same absent."""
    for field, value in list(proto.ListFields()):
        repeated = field.is_repeated
        if field.message_type is not None:
            for item in value if repeated else [value]:
                normalised(item)
        elif not repeated and value == field.default_value and field.containing_oneof is None:
            proto.ClearField(field.name)
    return proto


def entry(key, value):
    return onnx.StringStringEntryProto(key=key, value=value)


def tensor_type(shape=("N", 3), dtype=TensorProto.FLOAT):
    return helper.make_tensor_type_proto(dtype, shape)


def subgraph(name, read):
    """A graph without inputs that reads `read`, a value of the graph around it."""
    node = helper.make_node("Neg", [read], [f"{name}_out"], name=f"{name}_neg")
    return helper.make_graph(
        [node], name, [], [helper.make_value_info(f"{name}_out", onnx.TypeProto())]
    )


def rich_nodes():
    dense = helper.make_tensor("t", TensorProto.FLOAT, [2], [1.5, -2.0])
    sparse = helper.make_sparse_tensor(
        helper.make_tensor("sv", TensorProto.FLOAT, [1], [7.0]),
        helper.make_tensor("si", TensorProto.INT64, [1], [3]),
        [5],
    )
    every = helper.make_node(
        "Every",
        ["x", "", "w"],
        ["every", "", "second"],
        name="every",
        domain="com.example",
        overload="o",
        f=0.1,
        i=-3,
        s="text",
        b=b"\xff\x00",
        t=dense,
        sparse=sparse,
        floats=[0.5, float("inf"), -0.0],
        ints=[1, -1, 2**62],
        strings=["a", "", "ü"],
        tensors=[dense, dense],
        sparse_tensors=[sparse],
        type_proto=tensor_type(),
        type_protos=[tensor_type((1,)), helper.make_sequence_type_proto(tensor_type(()))],
    )
    next(a for a in every.attribute if a.name == "f").doc_string = "what it is"
    every.doc_string = "a node"
    every.metadata_props.append(entry("key", "value"))
    device = every.device_configurations.add(configuration_id="two", pipeline_stage=1)
    spec = device.sharding_spec.add(tensor_name="x", device=[0, -1])
    spec.index_to_device_group_map.add(key=-1, value=[0, 1])
    sharded = spec.sharded_dim.add(axis=-1)
    sharded.simple_sharding.add(dim_value=4, num_shards=2)
    sharded.simple_sharding.add(dim_param="N", num_shards=2)
    sharded.simple_sharding.add(num_shards=1)
    branches = helper.make_node(
        "If",
        ["cond"],
        ["y"],
        then_branch=subgraph("then", "every"),
        else_branch=subgraph("else", "x"),
    )
    branches.attribute.append(helper.make_attribute("both", [subgraph("a", "w")]))
    return [every, branches]


def rich_graph():
    weight = helper.make_tensor("w", TensorProto.FLOAT, [2], np.float32([1, 2]).tobytes(), raw=True)
    weight.doc_string = "weights"
    weight.metadata_props.append(entry("of", "w"))
    weight.segment.begin, weight.segment.end = 0, 2
    graph = helper.make_graph(
        rich_nodes(),
        "main",
        [
            helper.make_value_info("x", tensor_type(), "an input"),
            helper.make_value_info("cond", tensor_type((), TensorProto.BOOL)),
            helper.make_value_info("w", tensor_type((2,))),
        ],
        [helper.make_value_info("y", tensor_type((None, "a b", -1)))],
        [weight, helper.make_tensor("unused", TensorProto.STRING, [2], [b"a", b"\xff"])],
        doc_string="a graph",
        value_info=[helper.make_value_info("every", tensor_type()), rich_types()],
        sparse_initializer=[
            helper.make_sparse_tensor(
                helper.make_tensor("s", TensorProto.DOUBLE, [1], [7.0]),
                helper.make_tensor("i", TensorProto.INT64, [1, 2], [3, 1]),
                [5, 6],
            )
        ],
    )
    graph.input[0].metadata_props.append(entry("axis", "batch"))
    annotation = graph.quantization_annotation.add(tensor_name="x")
    annotation.quant_parameter_tensor_names.append(entry("SCALE_TENSOR", "w"))
    graph.metadata_props.append(entry("graph", "yes"))
    return graph


def rich_types():
    opaque = onnx.TypeProto(denotation="IMAGE")
    opaque.opaque_type.domain, opaque.opaque_type.name = "d", "n"
    mapped = helper.make_map_type_proto(TensorProto.STRING, helper.make_optional_type_proto(opaque))
    return helper.make_value_info("second", mapped)


def rich_model():
    """A model with every message kind of IR 14."""
    function = helper.make_function(
        "com.example",
        "Every",
        ["a", "b", "c"],
        ["p", "q", "r"],
        [helper.make_node("Identity", ["a"], ["p"]), helper.make_node("Neg", ["c"], ["q"])],
        [helper.make_opsetid("", 22)],
        attributes=["needed"],
        attribute_protos=[helper.make_attribute("given", 3)],
        doc_string="a function",
        overload="o",
        value_info=[helper.make_value_info("p", tensor_type())],
    )
    function.node[0].attribute.add(name="alpha", ref_attr_name="needed", type=1)
    function.metadata_props.append(entry("function", "yes"))
    model = helper.make_model(
        rich_graph(),
        functions=[function],
        opset_imports=[helper.make_opsetid("", 22), helper.make_opsetid("com.example", 1)],
        producer_name="maker",
        producer_version="1",
        doc_string="a model",
        ir_version=14,
    )
    model.domain, model.model_version = "org.example", -5
    model.metadata_props.append(entry("model", "yes"))
    info = model.training_info.add()
    info.initialization.CopyFrom(subgraph("init", "w"))
    info.algorithm.CopyFrom(subgraph("step", "w"))
    info.initialization_binding.append(entry("w", "init_out"))
    info.update_binding.append(entry("w", "step_out"))
    model.configuration.add(name="two", num_devices=2, device=["cpu:0", "cpu:1"])
    return model


def small_model():
    """A few hundred bytes with nodes, attributes, a weight and types."""
    nodes = [
        helper.make_node("Add", ["x", "w"], ["s"], name="add"),
        helper.make_node("LeakyRelu", ["s"], ["y"], alpha=0.5),
        helper.make_node("If", ["c"], ["z"], then_branch=subgraph("t", "y")),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_value_info("x", tensor_type())],
        [helper.make_value_info("z", tensor_type())],
        [helper.make_tensor("w", TensorProto.FLOAT, [3], [1.0, 2.0, 3.0])],
        value_info=[helper.make_value_info("s", tensor_type())],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10)


def visit(model):
    """Decode everything that is decoded on demand."""
    for graph in model.graphs():
        values = {**graph.values(), **{id(v): v for v in (*graph.outputs, *graph.value_info)}}
        for value in values.values():
            assert value.type is None or str(value.type)
            if value.const is not None and hasattr(value.const, "numpy"):
                value.const.numpy()
    for node in model.all_nodes():
        for attribute in node.attributes.values():
            if hasattr(attribute.value, "numpy"):
                attribute.value.numpy()
    return model
