import numpy as np
import pytest

from sardonyx import dtypes
from sardonyx.errors import InputError
from sardonyx.ir import AttributeType, Graph, TensorType, Value
from sardonyx.ir.builder import Builder


def make():
    x = Value("x", TensorType(dtypes.FLOAT, (2, 3)))
    graph = Graph("g", inputs=[x])
    return Builder(graph, opset_imports={"": 20}), graph, x


def test_nodes_are_linked_in_order_with_unique_names():
    op, graph, x = make()
    y = op.Relu(op.Relu(x))
    assert [node.name for node in graph.nodes] == ["Relu", "Relu_1"]
    assert y.producer.inputs[0].producer.inputs == (x,)
    assert op.opset == 20


def test_omitted_inputs_and_attributes():
    op, graph, x = make()
    op.Clip(x, None, 1.0)
    node = graph.nodes.first
    assert node.inputs[1] is None
    op.Clip(x, 0.0, None, alpha=None)
    assert len(graph.nodes.last.inputs) == 2
    assert not graph.nodes.last.attributes


def test_constants_become_initializers_and_small_equal_ones_are_shared():
    op, graph, x = make()
    op.Add(op.Add(x, 1.0), 1.0)
    op.Add(x, 1)
    assert [(value.name, value.dtype) for value in graph.initializers] == [
        ("float_1", dtypes.FLOAT),
        ("int64_1", dtypes.INT64),
    ]
    large = np.zeros(1000, np.float32)
    op.Add(op.Add(x, large), large)
    assert len(graph.initializers) == 4


def test_negative_zero_and_nan_are_constants_of_their_own():
    op, graph, _ = make()
    values = [op.value(0.0), op.value(-0.0), op.value(float("nan")), op.value(float("nan"))]
    assert len(set(values)) == 3
    assert len({value.name for value in graph.initializers}) == 3


def test_several_outputs_and_exact_names():
    op, graph, x = make()
    values, indices = op.TopK(x, [1], _outputs=2, _name="top", _output_names=["v", "i"], axis=0)
    assert (values.name, indices.name) == ("v", "i")
    assert graph.nodes.first.name == "top"
    assert isinstance(op.Split(x, _outputs=3), tuple)
    with pytest.raises(InputError, match="two values would be called 'x'"):
        op.Relu(x, _output_names=["x"])
    with pytest.raises(InputError, match="two nodes would be called 'top'"):
        op.Relu(x, _name="top")


def test_a_builder_on_a_graph_avoids_the_names_in_it():
    op, graph, x = make()
    op.Relu(x)
    again = Builder(graph)
    assert again.Relu(x).name == "Relu_1"
    assert graph.nodes.last.name == "Relu_1"


def test_attribute_types_follow_the_schema_when_one_is_asked():
    graph = Graph()
    x = Value("x")

    def asked(domain, op_type, name):
        return AttributeType.FLOAT if (op_type, name) == ("Elu", "alpha") else None

    op = Builder(graph, attribute_type=asked)
    op.Elu(x, alpha=1)
    assert graph.nodes.last.attributes["alpha"].type == AttributeType.FLOAT
    assert isinstance(graph.nodes.last.attribute("alpha"), float)
    op.Transpose(x, perm=[1, 0])
    assert graph.nodes.last.attribute("perm") == (1, 0)
    op.Gelu(x, lambda_=2)
    assert "lambda" in graph.nodes.last.attributes


def test_at_inserts_before_a_node_and_metadata_scopes_nest():
    op, graph, x = make()
    op.Relu(x)
    last = graph.nodes.last
    with op.at(last), op.metadata({"a": "1"}, prefix="block/"):
        with op.metadata({"b": "2"}):
            op.Neg(x, _metadata={"c": "3"})
        op.Abs(x)
    op.Exp(x)
    assert [node.name for node in graph.nodes] == ["block/Neg", "block/Abs", "Relu", "Exp"]
    first = graph.nodes.first
    assert first.metadata == {"a": "1", "b": "2", "c": "3"}
    assert not graph.nodes.last.metadata


def test_domains_and_misspelt_methods():
    op, graph, x = make()
    op.Scaler(x, _domain="ai.onnx.ml")
    assert graph.nodes.first.domain == "ai.onnx.ml"
    with pytest.raises(AttributeError, match="has no attribute 'relu'"):
        op.relu(x)
