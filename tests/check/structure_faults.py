"""Faults of versions, names, order, nodes and attributes."""

from __future__ import annotations

from onnx import AttributeProto, ModelProto, TensorProto, helper

from check.faults import branch, fault, info, node

TWICE = "harmless to onnx, which takes the last"
UNSEEN = "onnx's checker does not look"


@fault("ir-version")
def no_ir_version(m: ModelProto) -> None:
    m.ClearField("ir_version")


@fault("ir-version")
def ir_version_of_the_future(m: ModelProto) -> None:
    m.ir_version = 15


@fault("ir-version")
def negative_ir_version(m: ModelProto) -> None:
    m.ir_version = -1


@fault("opset")
def no_opset(m: ModelProto) -> None:
    del m.opset_import[:]


@fault("opset", lax="onnx takes the newest schema that it knows")
def opset_of_the_future(m: ModelProto) -> None:
    m.opset_import[0].version = 99


@fault("opset")
def opset_zero(m: ModelProto) -> None:
    m.opset_import[0].version = 0


@fault("opset")
def negative_opset(m: ModelProto) -> None:
    m.opset_import[0].version = -7


@fault("opset", lax=TWICE)
def default_domain_in_two_versions(m: ModelProto) -> None:
    m.opset_import.add(domain="ai.onnx", version=20)


@fault("opset", severity="warning", lax=TWICE)
def default_domain_twice(m: ModelProto) -> None:
    m.opset_import.add(domain="ai.onnx", version=21)


@fault("encoding", lax=TWICE)
def one_domain_in_two_versions(m: ModelProto) -> None:
    m.opset_import.add(domain="", version=20)


@fault("opset")
def domain_that_is_not_imported(m: ModelProto) -> None:
    node(m, 0).domain = "ai.onnx.ml"


@fault("unused-opset", severity="info", lax=UNSEEN)
def domain_that_nobody_uses(m: ModelProto) -> None:
    m.opset_import.add(domain="com.example", version=1)


@fault("ir-feature", "old")
def initializer_that_is_no_input(m: ModelProto) -> None:
    del m.graph.input[1]


@fault("ir-feature", "old")
def imports_before_ir_3(m: ModelProto) -> None:
    m.ir_version = 2


@fault("ir-feature", "functions", "warning", lax=UNSEEN)
def functions_before_ir_8(m: ModelProto) -> None:
    m.ir_version = 7


@fault("ir-feature", "functions", "warning", lax=UNSEEN)
def default_attributes_before_ir_9(m: ModelProto) -> None:
    m.ir_version = 8


@fault("ir-feature", "training", "warning", lax=UNSEEN)
def training_before_ir_7(m: ModelProto) -> None:
    m.ir_version = 6


@fault("ir-feature", "sparse", "warning", lax=UNSEEN)
def sparse_before_ir_6(m: ModelProto) -> None:
    m.ir_version = 5


@fault("ir-feature", "annotation", "warning", lax=UNSEEN)
def annotations_before_ir_5(m: ModelProto) -> None:
    m.ir_version = 4


@fault("ir-feature", "devices", "warning", lax=UNSEEN)
def devices_before_ir_11(m: ModelProto) -> None:
    m.ir_version = 10


@fault("ir-feature", severity="warning", lax=UNSEEN)
def new_element_type_before_its_ir(m: ModelProto) -> None:
    m.graph.node.add(op_type="Cast", input=["x"], output=["q"]).attribute.append(
        helper.make_attribute("to", TensorProto.FLOAT4E2M1)
    )
    m.opset_import[0].version = 23
    m.graph.output.append(info("q", [2, 3], TensorProto.FLOAT4E2M1))


@fault("ir-feature", severity="info", lax=UNSEEN)
def metadata_before_ir_10(m: ModelProto) -> None:
    m.ir_version = 9
    node(m, 0).metadata_props.add(key="k", value="v")


@fault("graph-name", severity="warning", lenient="files in the wild have none, nothing needs it")
def graph_without_a_name(m: ModelProto) -> None:
    m.graph.name = ""


@fault("encoding")
def input_without_a_name(m: ModelProto) -> None:
    m.graph.input[0].name = ""


@fault("missing-name")
def initializer_without_a_name(m: ModelProto) -> None:
    m.graph.initializer.add().CopyFrom(helper.make_tensor("", TensorProto.FLOAT, [1], [1]))


@fault("encoding")
def node_without_an_operator(m: ModelProto) -> None:
    node(m, 0).op_type = ""


@fault("name-characters", severity="warning", lax=UNSEEN)
def name_that_turns_text_around(m: ModelProto) -> None:
    node(m, 0).name = "evil\u202ename"


@fault("duplicate-name")
def input_twice(m: ModelProto) -> None:
    m.graph.input[1].name = "x"
    node(m, 2).input[1] = "x"


@fault("duplicate-name")
def initializer_twice(m: ModelProto) -> None:
    m.graph.initializer.append(m.graph.initializer[0])


@fault("duplicate-name")
def output_of_two_nodes(m: ModelProto) -> None:
    node(m, 1).output[0] = "a"


@fault("duplicate-name")
def output_with_the_name_of_an_input(m: ModelProto) -> None:
    node(m, 0).output[0] = "z"


@fault("duplicate-name")
def output_with_the_name_of_an_initializer(m: ModelProto) -> None:
    node(m, 0).output[0] = "w"


@fault("duplicate-name")
def one_node_with_one_output_twice(m: ModelProto) -> None:
    m.graph.node.add(op_type="Split", input=["x"], output=["p", "p"]).attribute.append(
        helper.make_attribute("num_outputs", 2)
    )


@fault("duplicate-name", lax="a session could not tell the two apart")
def graph_output_twice(m: ModelProto) -> None:
    m.graph.output.append(m.graph.output[0])


@fault("duplicate-name", "branches")
def inner_output_with_the_name_of_an_outer_value(m: ModelProto) -> None:
    branch(m).node[0].output[0] = "a"
    branch(m).output[0].name = "a"


@fault("shadowed-name", "loop", "warning", lax="inner names win in every runtime")
def inner_input_that_hides_an_outer_value(m: ModelProto) -> None:
    branch(m).input[2].name = "x"
    for position in (0, 1):
        branch(m).node[1].input[position] = "x"


@fault("duplicate-node-name", severity="warning", lax=UNSEEN)
def two_nodes_with_one_name(m: ModelProto) -> None:
    node(m, 0).name = node(m, 1).name = "same"


@fault("undefined-name")
def name_that_nothing_defines(m: ModelProto) -> None:
    node(m, 0).input[0] = "nowhere"


@fault("undefined-name", "branches")
def name_that_nothing_defines_in_a_branch(m: ModelProto) -> None:
    branch(m).node[0].input[0] = "nowhere"


@fault("undefined-name", "branches")
def value_of_the_other_branch(m: ModelProto) -> None:
    branch(m, 1).node[0].input[0] = "t"


@fault("undefined-name", "branches")
def value_of_a_branch_outside(m: ModelProto) -> None:
    m.graph.node.add(op_type="Neg", input=["t"], output=["late"])


@fault("undefined-name")
def output_that_nothing_computes(m: ModelProto) -> None:
    m.graph.output.append(info("nowhere", [1]))


@fault("undefined-name", "branches")
def output_of_a_branch_that_nothing_computes(m: ModelProto) -> None:
    branch(m).output[0].name = "nowhere"


@fault("order")
def nodes_out_of_order(m: ModelProto) -> None:
    first = m.graph.node[0]
    m.graph.node.append(first)
    del m.graph.node[0]


@fault("order")
def node_that_reads_itself(m: ModelProto) -> None:
    node(m, 0).input[0] = "a"


@fault("order", "branches")
def branch_that_reads_what_comes_later(m: ModelProto) -> None:
    first = m.graph.node[0]
    m.graph.node.append(first)
    del m.graph.node[0]


@fault("outer-output", "branches")
def branch_that_returns_an_outer_value(m: ModelProto) -> None:
    branch(m).output[0].name = "a"


@fault("value-info", severity="warning", lax=UNSEEN)
def value_info_of_nothing(m: ModelProto) -> None:
    m.graph.value_info.append(info("nowhere", [1]))


@fault("value-info", severity="warning", lax=UNSEEN)
def value_info_twice(m: ModelProto) -> None:
    m.graph.value_info.extend([info("a", [2, 3]), info("a", [2, 3])])


@fault("unused-initializer", severity="info", lax=UNSEEN)
def initializer_that_nobody_reads(m: ModelProto) -> None:
    m.graph.initializer.append(helper.make_tensor("v", TensorProto.FLOAT, [1], [1]))


@fault("missing-type")
def input_without_a_type(m: ModelProto) -> None:
    m.graph.input[0].ClearField("type")


@fault("missing-type")
def output_without_a_type(m: ModelProto) -> None:
    m.graph.output[0].ClearField("type")


@fault("missing-type")
def input_without_an_element_type(m: ModelProto) -> None:
    m.graph.input[0].type.tensor_type.ClearField("elem_type")


@fault("missing-type")
def input_that_says_undefined(m: ModelProto) -> None:
    m.graph.input[0].type.tensor_type.elem_type = 0


@fault("encoding")
def element_type_that_does_not_exist(m: ModelProto) -> None:
    m.graph.input[0].type.tensor_type.elem_type = 77


@fault("missing-shape", severity="warning", lenient="runtimes take the rank as unknown")
def output_without_a_shape(m: ModelProto) -> None:
    m.graph.output[0].type.tensor_type.ClearField("shape")


@fault("missing-type", lax="the sequence's elements have no element type")
def sequence_of_nothing(m: ModelProto) -> None:
    inner = m.graph.input[0].type.sequence_type.elem_type.tensor_type
    inner.elem_type = 0
    inner.shape.SetInParent()
    del m.graph.node[:]
    del m.graph.output[:]


@fault("invalid-type", lax=UNSEEN)
def map_with_keys_of_floats(m: ModelProto) -> None:
    found = m.graph.input.add(name="m").type.map_type
    found.key_type = TensorProto.FLOAT
    found.value_type.tensor_type.elem_type = TensorProto.FLOAT


@fault("invalid-type")
def opaque_without_a_name(m: ModelProto) -> None:
    m.graph.input.add(name="m").type.opaque_type.domain = "com.example"


@fault("unknown-operator")
def operator_that_does_not_exist(m: ModelProto) -> None:
    node(m, 0).op_type = "Reluu"


@fault("unknown-operator", "branches")
def operator_in_a_branch_that_does_not_exist(m: ModelProto) -> None:
    branch(m).node[0].op_type = "Negg"


@fault("unknown-operator")
def operator_of_ml_that_does_not_exist(m: ModelProto) -> None:
    m.opset_import.add(domain="ai.onnx.ml", version=4)
    node(m, 0).domain = "ai.onnx.ml"


@fault("unknown-operator", lax="onnx takes an overload for nothing")
def overload_without_a_function(m: ModelProto) -> None:
    node(m, 0).overload = "fast"


@fault("custom-operator", severity="warning", lax="valid in a file; a session refuses it")
def operator_of_a_foreign_domain(m: ModelProto) -> None:
    m.opset_import.add(domain="com.example", version=1)
    node(m, 0).domain = "com.example"


@fault("custom-operator", severity="warning", lax="withdrawn in 2018; a session refuses it")
def experimental_operator(m: ModelProto) -> None:
    node(m, 0).op_type = "ParametricSoftplus"


@fault("operator-version")
def operator_that_came_later(m: ModelProto) -> None:
    m.opset_import[0].version = 13
    node(m, 0).op_type = "Mish"


@fault("deprecated")
def deprecated_operator(m: ModelProto) -> None:
    node(m, 0).op_type = "Upsample"
    node(m, 0).input.append("w")


@fault("arity")
def too_many_inputs(m: ModelProto) -> None:
    node(m, 0).input.append("z")


@fault("arity")
def too_few_inputs(m: ModelProto) -> None:
    del node(m, 1).input[1:]


@fault("arity")
def input_that_is_left_out(m: ModelProto) -> None:
    node(m, 1).input[0] = ""


@fault("arity")
def too_many_outputs(m: ModelProto) -> None:
    node(m, 0).output.append("extra")


@fault("arity")
def no_outputs(m: ModelProto) -> None:
    del node(m, 2).output[:]
    m.graph.output[0].name = "b"


@fault("arity")
def output_that_is_left_out(m: ModelProto) -> None:
    m.graph.node.add(op_type="Neg", input=["x"], output=[""])


@fault("arity")
def node_of_nothing(m: ModelProto) -> None:
    m.graph.node.add(op_type="Concat").attribute.append(helper.make_attribute("axis", 0))


@fault("arity")
def variadic_without_any(m: ModelProto) -> None:
    m.graph.node.add(op_type="Sum", output=["s"])


@fault("arity")
def batch_normalization_with_two_outputs(m: ModelProto) -> None:
    inputs = ["x", "v", "v", "v", "v"]
    m.graph.initializer.append(helper.make_tensor("v", TensorProto.FLOAT, [3], [1, 1, 1]))
    m.graph.node.add(op_type="BatchNormalization", input=inputs, output=["p", "q"])


@fault("unknown-attribute")
def attribute_that_does_not_exist(m: ModelProto) -> None:
    node(m, 0).attribute.append(helper.make_attribute("alpha", 1.0))


@fault("unknown-attribute")
def attribute_of_an_older_version(m: ModelProto) -> None:
    node(m, 1).attribute.append(helper.make_attribute("broadcast", 1))


@fault("attribute-type")
def attribute_of_another_type(m: ModelProto) -> None:
    node(m, 0).op_type = "LeakyRelu"
    node(m, 0).attribute.append(helper.make_attribute("alpha", 1))


@fault("missing-attribute")
def required_attribute_that_is_missing(m: ModelProto) -> None:
    node(m, 0).op_type = "Concat"


@fault("missing-attribute")
def cast_to_nothing(m: ModelProto) -> None:
    node(m, 0).op_type = "Cast"


@fault("attribute-value")
def constant_of_nothing(m: ModelProto) -> None:
    m.graph.node.add(op_type="Constant", output=["k"])


@fault("encoding")
def attribute_with_two_values(m: ModelProto) -> None:
    node(m, 0).op_type = "LeakyRelu"
    node(m, 0).attribute.append(helper.make_attribute("alpha", 1.0))
    node(m, 0).attribute[0].i = 3


@fault("encoding")
def attribute_whose_value_is_of_another_type(m: ModelProto) -> None:
    attribute = node(m, 0).attribute.add(name="alpha", type=AttributeProto.FLOAT)
    node(m, 0).op_type = "LeakyRelu"
    attribute.i = 3


@fault("encoding")
def attribute_twice(m: ModelProto) -> None:
    node(m, 0).op_type = "LeakyRelu"
    for _ in range(2):
        node(m, 0).attribute.append(helper.make_attribute("alpha", 1.0))


@fault("encoding")
def attribute_without_a_name(m: ModelProto) -> None:
    node(m, 0).op_type = "LeakyRelu"
    node(m, 0).attribute.append(helper.make_attribute("alpha", 1.0))
    node(m, 0).attribute[0].name = ""


@fault("attribute-type")
def attribute_without_type_and_value(m: ModelProto) -> None:
    node(m, 0).op_type = "LeakyRelu"
    node(m, 0).attribute.add(name="alpha")


@fault("encoding")
def tensor_attribute_without_a_tensor(m: ModelProto) -> None:
    m.graph.node.add(op_type="Constant", output=["k"])
    m.graph.node[-1].attribute.add(name="value", type=AttributeProto.TENSOR)


@fault("attribute-reference", lax="onnx reads the default")
def reference_outside_of_a_function(m: ModelProto) -> None:
    node(m, 0).op_type = "LeakyRelu"
    node(m, 0).attribute.add(name="alpha", type=AttributeProto.FLOAT, ref_attr_name="slope")
