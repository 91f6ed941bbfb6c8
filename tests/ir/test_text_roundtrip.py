"""Models come back from their text as what they were, whatever they hold."""

from __future__ import annotations

import warnings

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import AttributeProto, TensorProto

import sardonyx as sx
from ir.test_text import canonical, messages, proto_of
from sardonyx.ir import difference, equal
from wire.protos import SUITE, entry, rich_model, small_model
from zoo.models import MODELS, fetch

NAMES = st.one_of(
    st.sampled_from(["x", "y", "w", "a.b", "with", "float", "nan", "undefined", "b", "hex", "seq"]),
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6),
)
PROSE = st.one_of(st.just(""), st.text(st.characters(exclude_categories=["Cs"]), max_size=8))
INTS = st.integers(-(2**63), 2**63 - 1)
FLOATS = st.floats(width=32)
UNKNOWN = st.sampled_from([b"", b"", b"", b"\xc2\xbb\x01\x03abc"])


def entries():
    return st.dictionaries(PROSE, PROSE, max_size=2).map(
        lambda found: [entry(key, value) for key, value in found.items()]
    )


@st.composite
def tensors(draw, name=None):
    dtype = draw(st.sampled_from(sx.dtypes.ALL))
    shape = draw(st.lists(st.integers(0, 3), max_size=3))
    size = int(np.prod(shape, dtype=int))
    tensor = TensorProto(data_type=dtype.code, dims=shape, doc_string=draw(PROSE))
    tensor.name = draw(PROSE) if name is None else name
    tensor.metadata_props.extend(draw(entries()))
    if dtype.bits == 0:
        tensor.string_data.extend(
            draw(st.lists(st.binary(max_size=4), min_size=size, max_size=size))
        )
    else:
        count = dtype.nbytes(size)
        raw = draw(st.binary(min_size=count, max_size=count))
        tensor.raw_data = bytes(b & 1 for b in raw) if dtype.kind == "bool" else raw
    tensor.MergeFromString(draw(UNKNOWN))
    return tensor


@st.composite
def sparse_tensors(draw, name=None):
    values = TensorProto(data_type=1, dims=[1], raw_data=draw(st.binary(min_size=4, max_size=4)))
    values.name = draw(PROSE) if name is None else name
    indices = TensorProto(data_type=7, dims=[1], raw_data=bytes(8))
    return onnx.SparseTensorProto(values=values, indices=indices, dims=[draw(st.integers(1, 9))])


@st.composite
def types(draw, depth=2):
    proto = onnx.TypeProto(denotation=draw(PROSE))
    kinds = ["tensor_type", "sparse_tensor_type", "opaque_type"]
    kind = draw(
        st.sampled_from(kinds + ["sequence_type", "map_type", "optional_type"] * (depth > 0))
    )
    if kind in {"tensor_type", "sparse_tensor_type"}:
        inner = getattr(proto, kind)
        inner.elem_type = draw(st.integers(0, 28))
        if draw(st.booleans()):
            inner.shape.SetInParent()
            for _ in range(draw(st.integers(0, 3))):
                dim = inner.shape.dim.add(denotation=draw(PROSE))
                which = draw(st.integers(0, 2))
                if which == 0:
                    dim.dim_value = draw(st.integers(0, 2**63 - 1))
                elif which == 1:
                    dim.dim_param = draw(NAMES)
    elif kind == "opaque_type":
        proto.opaque_type.domain, proto.opaque_type.name = draw(PROSE), draw(PROSE)
    elif kind == "map_type":
        proto.map_type.key_type = draw(st.integers(0, 28))
        proto.map_type.value_type.CopyFrom(draw(types(depth - 1)))
    else:
        getattr(proto, kind).elem_type.CopyFrom(draw(types(depth - 1)))
    return proto


@st.composite
def values(draw):
    value = onnx.ValueInfoProto(name=draw(NAMES), doc_string=draw(PROSE))
    if draw(st.booleans()):
        value.type.CopyFrom(draw(types()))
    value.metadata_props.extend(draw(entries()))
    value.MergeFromString(draw(UNKNOWN))
    return value


@st.composite
def attributes(draw, name, depth):
    attribute = AttributeProto(name=name, doc_string=draw(PROSE))
    kind = draw(st.integers(0, 14))
    attribute.type = kind
    if kind and draw(st.integers(0, 5)) == 0:
        attribute.ref_attr_name = draw(NAMES)
        return attribute
    several = st.integers(0, 3)
    if kind == 0:
        attribute.ref_attr_name = draw(PROSE)
    elif kind == 1:
        attribute.f = draw(FLOATS)
    elif kind == 2:
        attribute.i = draw(INTS)
    elif kind == 3:
        attribute.s = draw(st.binary(max_size=6))
    elif kind == 4:
        attribute.t.CopyFrom(draw(tensors()))
    elif kind == 5:
        attribute.g.CopyFrom(draw(graphs(depth - 1)))
    elif kind == 6:
        attribute.floats.extend(draw(st.lists(FLOATS, max_size=4)))
    elif kind == 7:
        attribute.ints.extend(draw(st.lists(INTS, max_size=4)))
    elif kind == 8:
        attribute.strings.extend(draw(st.lists(st.binary(max_size=4), max_size=3)))
    elif kind == 9:
        attribute.tensors.extend(draw(tensors()) for _ in range(draw(several)))
    elif kind == 10:
        attribute.graphs.extend(
            draw(graphs(depth - 1)) for _ in range(draw(several) if depth else 0)
        )
    elif kind == 11:
        attribute.sparse_tensor.CopyFrom(draw(sparse_tensors()))
    elif kind == 12:
        attribute.sparse_tensors.extend(draw(sparse_tensors()) for _ in range(draw(several)))
    elif kind == 13:
        attribute.tp.CopyFrom(draw(types()))
    else:
        attribute.type_protos.extend(draw(types()) for _ in range(draw(several)))
    return attribute


@st.composite
def nodes(draw, depth):
    node = onnx.NodeProto(op_type=draw(NAMES), name=draw(PROSE), doc_string=draw(PROSE))
    node.domain, node.overload = draw(PROSE), draw(PROSE)
    operand = st.one_of(st.just(""), NAMES)
    node.input.extend(draw(st.lists(operand, max_size=3)))
    node.output.extend(draw(st.lists(operand, max_size=2)))
    for name in draw(st.lists(NAMES, max_size=2, unique=True)):
        node.attribute.append(draw(attributes(name, depth)))
    node.metadata_props.extend(draw(entries()))
    node.MergeFromString(draw(UNKNOWN))
    return node


@st.composite
def graphs(draw, depth=1):
    graph = onnx.GraphProto(name=draw(PROSE), doc_string=draw(PROSE))
    if depth < 0:
        return graph
    graph.input.extend(draw(st.lists(values(), max_size=2)))
    graph.output.extend(draw(st.lists(values(), max_size=2)))
    graph.value_info.extend(draw(st.lists(values(), max_size=2)))
    for name in draw(st.lists(NAMES, max_size=2, unique=True)):
        graph.initializer.append(draw(tensors(name)))
    for name in draw(st.lists(NAMES, max_size=1)):
        graph.sparse_initializer.append(draw(sparse_tensors(name)))
    graph.node.extend(draw(st.lists(nodes(depth), max_size=3)))
    graph.metadata_props.extend(draw(entries()))
    graph.MergeFromString(draw(UNKNOWN))
    return graph


@st.composite
def models(draw):
    model = onnx.ModelProto(graph=draw(graphs()), ir_version=draw(st.integers(0, 14)))
    model.producer_name, model.doc_string = draw(PROSE), draw(PROSE)
    if draw(st.booleans()):
        model.model_version = draw(INTS)
    for domain in draw(st.sets(PROSE, max_size=2)):
        model.opset_import.add(domain=domain, version=draw(INTS))
    model.metadata_props.extend(draw(entries()))
    model.MergeFromString(draw(UNKNOWN))
    for name in draw(st.sets(NAMES, max_size=2)):
        function = model.functions.add(name=name, domain=draw(PROSE), doc_string=draw(PROSE))
        function.overload = draw(PROSE)
        function.input.extend(draw(st.lists(NAMES, max_size=2)))
        function.output.extend(draw(st.lists(NAMES, max_size=2)))
        function.attribute.extend(draw(st.lists(NAMES, max_size=2, unique=True)))
        for default in draw(st.lists(NAMES, max_size=2, unique=True)):
            function.attribute_proto.append(draw(attributes(default, 0)))
        function.value_info.extend(draw(st.lists(values(), max_size=1)))
        function.node.extend(draw(st.lists(nodes(0), max_size=2)))
        function.metadata_props.extend(draw(entries()))
    return model


@given(models())
@settings(max_examples=40, deadline=None)
def test_generated_models_come_back(proto):
    model = sx.loads(proto.SerializeToString())
    written = sx.to_text(model)
    again = sx.parse(written)
    assert difference(model, again) is None
    assert sx.to_text(again) == written
    # the bytes agree as well, where elements are stored alike
    assert proto_of(again) == proto_of(model)


def test_every_message_kind_comes_back():
    model = sx.loads(rich_model().SerializeToString())
    again = sx.parse(sx.to_text(model))
    assert difference(model, again) is None
    for message in messages(expected := rich_model()):
        if isinstance(message, onnx.TensorShapeProto.Dimension) and message.dim_value < 0:
            message.ClearField("dim_value")
        if isinstance(message, onnx.ValueInfoProto) and not message.type.WhichOneof("value"):
            message.ClearField("type")
    assert proto_of(again) == canonical(expected)


def test_unknown_fields_come_back():
    proto = rich_model()
    kinds = (onnx.ModelProto, onnx.GraphProto, onnx.NodeProto, onnx.TensorProto, AttributeProto)
    kinds += (onnx.FunctionProto, onnx.ValueInfoProto, onnx.SparseTensorProto)
    kinds += (onnx.TensorAnnotation, onnx.TrainingInfoProto, onnx.DeviceConfigurationProto)
    kinds += (onnx.NodeDeviceConfigurationProto, onnx.ShardingSpecProto, onnx.ShardedDimProto)
    kinds += (onnx.SimpleShardedDimProto,)
    changed = 0
    for message in list(messages(proto)):
        if isinstance(message, kinds):
            message.MergeFromString(b"\xc2\xbb\x01\x03abc")
            changed += 1
    assert changed > 40
    model = sx.loads(proto.SerializeToString())
    again = sx.parse(sx.to_text(model))
    assert difference(model, again) is None
    assert sx.dumps(again).count(b"\xc2\xbb\x01\x03abc") == changed


CHANGES = {
    "graph 'g': node 0 (node 'add' (Add)): name": lambda m: setattr(
        next(iter(m.graph.nodes)), "name", "other"
    ),
    "attribute 'alpha'": lambda m: list(m.graph.nodes)[1].set_attribute("alpha", 0.25),
    "initializer 0 'w'": lambda m: setattr(
        m.graph.initializers[0], "const", sx.ir.ArrayTensor(np.float32([1, 2, 4]))
    ),
    "input 0 'x'": lambda m: setattr(m.graph.inputs[0], "type", None),
    "model: metadata 'k'": lambda m: m.metadata.update(k="v"),
    "opset imports": lambda m: m.opset_imports.update({"": 21}),
    "graph 'g': nodes: their number": lambda m: m.graph.nodes.append(sx.ir.Node("Relu")),
    "graph 't': node 0": lambda m: setattr(
        next(iter(next(list(m.graph.nodes)[2].subgraphs()).nodes)), "op_type", "Abs"
    ),
}


@pytest.mark.parametrize("place", CHANGES)
def test_differences_are_named(place):
    data = small_model().SerializeToString()
    one, other = sx.loads(data), sx.loads(data)
    assert equal(one, other)
    CHANGES[place](other)
    assert not equal(one, other)
    assert place in (difference(one, other) or "")


def check_file(path):
    model = sx.load(path)
    again = sx.parse(sx.to_text(model))
    assert difference(model, again) is None, path
    return model, again


@pytest.mark.onnx
def test_suite_models_come_back():
    paths = sorted(SUITE.glob("*/*/*.onnx"))
    assert len(paths) > 100
    for path in paths:
        model, again = check_file(path)
        assert proto_of(again) == proto_of(model), path


@pytest.mark.onnx
def test_node_cases_come_back_and_the_onnx_package_reads_them():
    from onnx.backend.test.loader import load_model_tests

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cases = load_model_tests(kind="node")
    assert len(cases) > 1000
    for case in cases:
        if case.model is None:
            continue
        model = sx.loads(case.model.SerializeToString())
        written = sx.to_text(model)
        again = sx.parse(written)
        assert difference(model, again) is None, case.name
        proto = proto_of(model)
        assert proto_of(again) == proto, case.name
        if 'base64"' not in written:
            assert canonical(onnx.parser.parse_model(written)) == proto, case.name


@pytest.mark.zoo
@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_trained_models_come_back(model):
    check_file(fetch(model))
