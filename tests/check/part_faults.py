"""Faults of functions, tensors, training, annotations, devices, types and shapes."""

from __future__ import annotations

from onnx import AttributeProto, ModelProto, TensorProto, helper

from check.faults import branch, fault, info, node

UNSEEN = "onnx's checker does not look"
INT64, FLOAT = TensorProto.INT64, TensorProto.FLOAT


@fault("cycle", "functions")
def function_that_calls_itself(m: ModelProto) -> None:
    m.functions[0].node[3].op_type = "twice"


@fault("cycle", "functions")
def functions_in_a_circle(m: ModelProto) -> None:
    m.functions[1].node[0].op_type = "twice"
    m.functions[1].node[0].domain = "local"
    m.functions[1].opset_import.add(domain="local", version=1)


@fault("encoding", "functions")
def two_functions_with_one_name(m: ModelProto) -> None:
    m.functions[1].name = "twice"


@fault("missing-name", "functions")
def function_without_a_name(m: ModelProto) -> None:
    m.functions[1].name = ""
    m.functions[0].node[3].op_type = "Neg"
    m.functions[0].node[3].domain = ""


@fault("function-domain", "functions", "warning", lax="whoever reads the model chooses")
def function_that_stands_in_for_an_operator(m: ModelProto) -> None:
    m.functions[1].name = m.functions[0].node[3].op_type = "Abs"
    m.functions[1].domain = m.functions[0].node[3].domain = ""


@fault("duplicate-name", "functions")
def function_with_one_input_twice(m: ModelProto) -> None:
    m.functions[1].input.append("a")


@fault("function-signature", "functions")
def function_with_one_output_twice(m: ModelProto) -> None:
    m.functions[1].output.append("b")


@fault("function-signature", "functions")
def function_with_one_attribute_twice(m: ModelProto) -> None:
    m.functions[0].attribute.append("factor")


@fault("function-signature", "functions", lax=UNSEEN)
def function_attribute_with_and_without_a_default(m: ModelProto) -> None:
    m.functions[0].attribute.append("slope")


@fault("undefined-name", "functions", lax=UNSEEN)
def function_output_that_nothing_computes(m: ModelProto) -> None:
    m.functions[1].output[0] = "nowhere"


@fault("undefined-name", "functions")
def function_that_reads_a_value_of_the_model(m: ModelProto) -> None:
    m.functions[1].node[0].input[0] = "x"


@fault("duplicate-name", "functions")
def function_that_defines_its_input(m: ModelProto) -> None:
    m.functions[1].node[0].output[0] = "a"


@fault("unknown-operator", "functions")
def function_with_an_operator_that_does_not_exist(m: ModelProto) -> None:
    m.functions[1].node[0].op_type = "Negg"


@fault("arity", "functions", lax=UNSEEN)
def call_with_too_many_inputs(m: ModelProto) -> None:
    node(m, 0).input.append("x")


@fault("arity", "functions", lax=UNSEEN)
def call_with_too_many_outputs(m: ModelProto) -> None:
    node(m, 0).output.append("more")


@fault("attribute-value", "functions")
def call_without_an_attribute_that_the_body_needs(m: ModelProto) -> None:
    del node(m, 0).attribute[:]


@fault("missing-attribute", "functions", "warning", lax="an operator's default applies")
def call_without_an_attribute(m: ModelProto) -> None:
    del m.functions[0].attribute_proto[:]
    m.functions[0].attribute.append("slope")


@fault("unknown-attribute", "functions", "warning", lax=UNSEEN)
def call_with_an_attribute_too_many(m: ModelProto) -> None:
    node(m, 0).attribute.append(helper.make_attribute("other", 1))


@fault("opset", "functions")
def function_whose_domain_the_model_does_not_import(m: ModelProto) -> None:
    del m.opset_import[1]


@fault("opset", "functions")
def function_without_imports(m: ModelProto) -> None:
    del m.functions[1].opset_import[:]


@fault("function-opset", "functions")
def function_that_means_another_version(m: ModelProto) -> None:
    m.functions[1].opset_import[0].version = 12


@fault("attribute-reference", "functions", lax="onnx looks in subgraphs only")
def reference_with_a_value(m: ModelProto) -> None:
    m.functions[0].node[1].attribute[0].f = 1.0


@fault("attribute-reference", "functions", "warning", lax="the operator's default applies")
def reference_to_what_is_not_declared(m: ModelProto) -> None:
    m.functions[0].node[1].attribute[0].ref_attr_name = "nowhere"


@fault("attribute-reference", "functions")
def reference_of_a_required_attribute_to_nothing(m: ModelProto) -> None:
    m.functions[1].node[0].op_type = "Cast"
    m.functions[1].node[0].attribute.add(name="to", type=AttributeProto.INT, ref_attr_name="no")


@fault("attribute-reference", "functions", lax=UNSEEN)
def reference_of_another_type(m: ModelProto) -> None:
    m.functions[0].attribute_proto[0].CopyFrom(helper.make_attribute("slope", "steep"))


@fault("unused-attribute", "functions", "warning", lax=UNSEEN)
def function_attribute_that_nothing_uses(m: ModelProto) -> None:
    m.functions[1].attribute_proto.append(helper.make_attribute("idle", 1))


@fault("unused-function", "functions", "info", lax=UNSEEN)
def function_that_nobody_calls(m: ModelProto) -> None:
    m.functions[0].node[3].op_type = "Neg"
    m.functions[0].node[3].domain = ""


@fault("encoding")
def tensor_without_an_element_type(m: ModelProto) -> None:
    m.graph.initializer[0].data_type = 0


@fault("encoding")
def tensor_of_a_type_that_does_not_exist(m: ModelProto) -> None:
    m.graph.initializer[0].data_type = 99


@fault("encoding")
def tensor_with_too_little_data(m: ModelProto) -> None:
    del m.graph.initializer[0].float_data[2:]


@fault("encoding", lax="the elements that are too many have no place")
def tensor_with_too_much_data(m: ModelProto) -> None:
    m.graph.initializer[0].float_data.append(4)


@fault("encoding")
def tensor_with_two_fields(m: ModelProto) -> None:
    m.graph.initializer[0].raw_data = bytes(12)


@fault("encoding")
def tensor_with_data_in_the_wrong_field(m: ModelProto) -> None:
    m.graph.initializer[0].ClearField("float_data")
    m.graph.initializer[0].int64_data.extend([1, 2, 3])


@fault("encoding")
def tensor_without_data(m: ModelProto) -> None:
    m.graph.initializer[0].ClearField("float_data")


@fault("encoding")
def empty_tensor_with_data(m: ModelProto) -> None:
    m.graph.initializer[0].dims[0] = 0


@fault("encoding")
def tensor_with_a_negative_dim(m: ModelProto) -> None:
    m.graph.initializer[0].dims[0] = -3


@fault("encoding")
def tensor_with_short_raw_data(m: ModelProto) -> None:
    m.graph.initializer[0].ClearField("float_data")
    m.graph.initializer[0].raw_data = bytes(11)


@fault("encoding")
def strings_in_raw_data(m: ModelProto) -> None:
    m.graph.initializer.add(name="s", data_type=TensorProto.STRING, dims=[1], raw_data=b"a")


@fault("encoding")
def tensor_too_large_to_exist(m: ModelProto) -> None:
    m.graph.initializer[0].dims.extend([1 << 40, 1 << 40])


@fault("encoding")
def tensor_attribute_with_too_little_data(m: ModelProto) -> None:
    tensor = helper.make_tensor("", FLOAT, [3], [1, 2, 3])
    del tensor.float_data[2:]
    m.graph.node.add(op_type="Constant", output=["k"]).attribute.add(
        name="value", type=AttributeProto.TENSOR, t=tensor
    )


@fault("encoding")
def external_data_and_data(m: ModelProto) -> None:
    _make_external(m, "weights.bin")


@fault("external-data")
def external_data_without_a_location(m: ModelProto) -> None:
    m.graph.initializer[0].ClearField("float_data")
    m.graph.initializer[0].data_location = TensorProto.EXTERNAL


@fault("external-data")
def external_data_that_leaves_the_folder(m: ModelProto) -> None:
    m.graph.initializer[0].ClearField("float_data")
    _make_external(m, "../weights.bin")


@fault("external-data")
def external_data_at_an_absolute_path(m: ModelProto) -> None:
    m.graph.initializer[0].ClearField("float_data")
    _make_external(m, "/etc/passwd")


def _make_external(m: ModelProto, location: str) -> None:
    m.graph.initializer[0].data_location = TensorProto.EXTERNAL
    m.graph.initializer[0].external_data.add(key="location", value=location)


@fault("tensor")
def bits_behind_the_last_element(m: ModelProto) -> None:
    m.ir_version = 14
    m.graph.initializer.add(
        name="six", data_type=TensorProto.FLOAT6E2M3, dims=[1], raw_data=b"\xff"
    )


@fault("tensor")
def element_of_more_than_six_bits(m: ModelProto) -> None:
    m.ir_version = 14
    m.graph.initializer.add(name="six", data_type=TensorProto.FLOAT6E2M3, dims=[1], int32_data=[64])


@fault("default")
def initializer_of_another_type_than_its_input(m: ModelProto) -> None:
    m.graph.input.append(info("w", [3], INT64))


@fault("default")
def initializer_of_another_shape_than_its_input(m: ModelProto) -> None:
    m.graph.input.append(info("w", [4]))


@fault("sparse-tensor", "sparse")
def sparse_index_out_of_range(m: ModelProto) -> None:
    m.graph.sparse_initializer[0].indices.int64_data[2] = 6


@fault("sparse-tensor", "sparse")
def negative_sparse_index(m: ModelProto) -> None:
    m.graph.sparse_initializer[0].indices.int64_data[0] = -1


@fault("sparse-tensor", "sparse")
def sparse_indices_out_of_order(m: ModelProto) -> None:
    m.graph.sparse_initializer[0].indices.int64_data[0] = 3


@fault("sparse-tensor", "sparse")
def sparse_index_twice(m: ModelProto) -> None:
    m.graph.sparse_initializer[0].indices.int64_data[0] = 2


@fault("sparse-tensor", "sparse")
def sparse_index_too_many(m: ModelProto) -> None:
    indices = m.graph.sparse_initializer[0].indices
    indices.dims[0] = 4
    indices.int64_data.append(5)


@fault("sparse-tensor", "sparse")
def sparse_indices_of_another_type(m: ModelProto) -> None:
    indices = helper.make_tensor("", TensorProto.INT32, [3], [0, 2, 5])
    m.graph.sparse_initializer[0].indices.CopyFrom(indices)


@fault("sparse-tensor", "sparse")
def sparse_dim_of_zero(m: ModelProto) -> None:
    m.graph.sparse_initializer[0].dims[0] = 0


@fault("sparse-tensor", "sparse")
def sparse_without_dims(m: ModelProto) -> None:
    del m.graph.sparse_initializer[0].dims[:]


@fault("encoding", "sparse")
def sparse_without_indices(m: ModelProto) -> None:
    m.graph.sparse_initializer[0].ClearField("indices")


@fault("encoding", "sparse")
def sparse_values_of_rank_2(m: ModelProto) -> None:
    m.graph.sparse_initializer[0].values.dims.append(1)


@fault("missing-name", "sparse")
def sparse_without_a_name(m: ModelProto) -> None:
    m.graph.sparse_initializer[0].values.name = ""


@fault("duplicate-name", "sparse")
def sparse_with_the_name_of_another(m: ModelProto) -> None:
    m.graph.sparse_initializer[0].values.name = "w"


@fault("sparse-tensor", "sparse pairs")
def sparse_pair_out_of_range(m: ModelProto) -> None:
    m.graph.sparse_initializer[0].indices.int64_data[5] = 3


@fault("sparse-tensor", "sparse pairs")
def sparse_pairs_out_of_order(m: ModelProto) -> None:
    m.graph.sparse_initializer[0].indices.int64_data[0] = 1


@fault("sparse-tensor", "sparse pairs")
def sparse_pairs_for_another_rank(m: ModelProto) -> None:
    m.graph.sparse_initializer[0].dims.append(2)


@fault("sparse-tensor")
def sparse_attribute_out_of_range(m: ModelProto) -> None:
    values = helper.make_tensor("", FLOAT, [1], [1])
    indices = helper.make_tensor("", INT64, [1], [9])
    sparse = helper.make_sparse_tensor(values, indices, [5])
    m.graph.node.add(op_type="Constant", output=["k"]).attribute.append(
        helper.make_attribute("sparse_value", sparse)
    )


@fault("training", "training", lax=UNSEEN)
def update_of_what_is_no_initializer(m: ModelProto) -> None:
    m.training_info[0].update_binding[0].key = "x"


@fault("training", "training", lax=UNSEEN)
def update_with_what_is_no_output(m: ModelProto) -> None:
    m.training_info[0].update_binding[0].value = "a"


@fault("training", "training", lax=UNSEEN)
def update_with_another_type(m: ModelProto) -> None:
    m.training_info[0].algorithm.output[0].type.tensor_type.elem_type = INT64


@fault("training", "training", lax=UNSEEN)
def update_with_another_shape(m: ModelProto) -> None:
    m.training_info[0].algorithm.output[0].CopyFrom(info("w_new", [4]))


@fault("training", "training", lax=UNSEEN)
def update_twice(m: ModelProto) -> None:
    second = m.training_info.add()
    second.CopyFrom(m.training_info[0])
    second.algorithm.node[0].output[0] = second.algorithm.output[0].name = "w_other"
    second.update_binding[0].value = "w_other"
    second.ClearField("initialization")
    second.ClearField("initialization_binding")


@fault("encoding", "training", lax=UNSEEN)
def update_of_one_key_with_two_values(m: ModelProto) -> None:
    m.training_info[0].update_binding.add(key="w", value="y")


@fault("training", "training", lax=UNSEEN)
def start_with_what_is_no_output(m: ModelProto) -> None:
    m.training_info[0].initialization_binding[0].value = "nowhere"


@fault("training", "training", lax=UNSEEN)
def start_of_what_is_no_initializer(m: ModelProto) -> None:
    m.training_info[0].initialization_binding[0].key = "nowhere"


@fault("training", "training", "warning", lax=UNSEEN)
def initialization_with_inputs(m: ModelProto) -> None:
    m.training_info[0].initialization.input.append(info("seed", [1]))


@fault("undefined-name", "training", lax=UNSEEN)
def training_that_reads_what_does_not_exist(m: ModelProto) -> None:
    m.training_info[0].algorithm.node[0].input[0] = "nowhere"


@fault("undefined-name", "training", lax="only initializers are visible to it")
def initialization_that_reads_an_input(m: ModelProto) -> None:
    m.training_info[0].initialization.node.add(op_type="Neg", input=["x"], output=["v"])


@fault("duplicate-name", "training", lax="both graphs are one when it runs")
def training_that_defines_a_value_of_the_model(m: ModelProto) -> None:
    m.training_info[0].algorithm.node.add(op_type="Neg", input=["w"], output=["a"])


@fault("quantization", "annotation", "warning", lax=UNSEEN)
def annotation_of_nothing(m: ModelProto) -> None:
    m.graph.quantization_annotation[0].tensor_name = "nowhere"


@fault("quantization", "annotation", "warning", lax=UNSEEN)
def annotation_with_a_parameter_that_does_not_exist(m: ModelProto) -> None:
    m.graph.quantization_annotation[0].quant_parameter_tensor_names[0].value = "nowhere"


@fault("quantization", "annotation", "warning", lax=UNSEEN)
def annotation_twice(m: ModelProto) -> None:
    m.graph.quantization_annotation.append(m.graph.quantization_annotation[0])


@fault("device-configuration", "devices", lax=UNSEEN)
def configuration_that_does_not_exist(m: ModelProto) -> None:
    node(m, 1).device_configurations[0].configuration_id = "missing"


@fault("device-configuration", "devices", lax=UNSEEN)
def configuration_twice(m: ModelProto) -> None:
    m.configuration.append(m.configuration[0])


@fault("device-configuration", "devices", lax=UNSEEN)
def configuration_without_a_name(m: ModelProto) -> None:
    m.configuration.add(num_devices=1)


@fault("device-configuration", "devices", lax=UNSEEN)
def configuration_of_no_devices(m: ModelProto) -> None:
    m.configuration.add(name="none", num_devices=0)


@fault("device-configuration", "devices", lax=UNSEEN)
def device_names_that_are_too_many(m: ModelProto) -> None:
    m.configuration[0].device.append("third")


@fault("device-configuration", "devices", lax=UNSEEN)
def node_with_one_configuration_twice(m: ModelProto) -> None:
    entry = node(m, 1).device_configurations
    entry.append(entry[0])


@fault("device-configuration", "devices", lax=UNSEEN)
def negative_stage(m: ModelProto) -> None:
    node(m, 1).device_configurations[0].pipeline_stage = -1


@fault("device-configuration", "devices", lax=UNSEEN)
def sharding_of_a_tensor_of_another_node(m: ModelProto) -> None:
    _spec(m).tensor_name = "z"


@fault("device-configuration", "devices", lax=UNSEEN)
def sharding_of_one_tensor_twice(m: ModelProto) -> None:
    node(m, 1).device_configurations[0].sharding_spec.append(_spec(m))


@fault("device-configuration", "devices", lax=UNSEEN)
def device_out_of_range(m: ModelProto) -> None:
    _spec(m).device[0] = 2


@fault("device-configuration", "devices", lax=UNSEEN)
def group_with_a_device_out_of_range(m: ModelProto) -> None:
    _spec(m).index_to_device_group_map[0].value[0] = 5


@fault("device-configuration", "devices", lax=UNSEEN)
def group_that_no_device_names(m: ModelProto) -> None:
    _spec(m).index_to_device_group_map.add(key=-9, value=[0])


@fault("device-configuration", "devices", lax=UNSEEN)
def sharded_axis_out_of_range(m: ModelProto) -> None:
    m.graph.value_info.append(info("a", [2, 3]))
    _spec(m).sharded_dim[0].axis = 2


@fault("device-configuration", "devices", lax=UNSEEN)
def axis_sharded_twice(m: ModelProto) -> None:
    _spec(m).sharded_dim.append(_spec(m).sharded_dim[0])


@fault("device-configuration", "devices", lax=UNSEEN)
def no_shards(m: ModelProto) -> None:
    _spec(m).sharded_dim[0].simple_sharding[0].num_shards = 0


@fault("device-configuration", "devices", lax=UNSEEN)
def sharding_of_another_size(m: ModelProto) -> None:
    m.graph.value_info.append(info("a", [2, 3]))
    _spec(m).sharded_dim[0].simple_sharding[0].dim_value = 4


def _spec(m: ModelProto) -> object:
    return node(m, 1).device_configurations[0].sharding_spec[0]


@fault("type")
def type_that_an_operator_does_not_take(m: ModelProto) -> None:
    node(m, 0).op_type = "Not"


@fault("type")
def types_that_differ(m: ModelProto) -> None:
    m.graph.input[1].type.tensor_type.elem_type = INT64


@fault("type", "branches")
def condition_that_is_no_bool(m: ModelProto) -> None:
    m.graph.input[0].type.tensor_type.elem_type = INT64


@fault("type", "functions")
def type_that_an_operator_in_a_function_does_not_take(m: ModelProto) -> None:
    m.functions[1].node[0].op_type = "Not"


@fault("shape", "functions")
def shape_that_does_not_fit_in_a_function(m: ModelProto) -> None:
    m.functions[1].node[0].op_type = "Transpose"
    m.functions[1].node[0].attribute.append(helper.make_attribute("perm", [0, 1]))


@fault("shape")
def shapes_that_do_not_broadcast(m: ModelProto) -> None:
    m.graph.input[1].CopyFrom(info("z", [2, 4]))


@fault("shape")
def inner_dims_that_differ(m: ModelProto) -> None:
    node(m, 2).op_type = "MatMul"


@fault("shape")
def axis_out_of_range(m: ModelProto) -> None:
    node(m, 0).op_type = "Softmax"
    node(m, 0).attribute.append(helper.make_attribute("axis", 5))


@fault("shape", "branches")
def branches_of_different_counts(m: ModelProto) -> None:
    branch(m).output.append(branch(m).output[0])
    branch(m).node.add(op_type="Neg", input=["a"], output=["u"])
    branch(m).output[1].name = "u"


@fault("declared-type")
def output_declared_as_another_type(m: ModelProto) -> None:
    m.graph.output[0].type.tensor_type.elem_type = INT64


@fault("declared-type")
def value_info_of_another_type(m: ModelProto) -> None:
    m.graph.value_info.append(info("a", [2, 3], INT64))


@fault("declared-type", severity="warning", lenient="runtimes run it; inference knows better")
def output_declared_with_another_size(m: ModelProto) -> None:
    m.graph.output[0].CopyFrom(info("y", [2, 4]))


@fault("declared-type", severity="warning", lenient="runtimes run it; inference knows better")
def value_info_of_another_rank(m: ModelProto) -> None:
    m.graph.value_info.append(info("a", [2, 3, 1]))
