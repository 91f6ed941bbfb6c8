"""The textual syntax beside the onnx package: what it reads, and what it reads of ours."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

import sardonyx as sx
from sardonyx.ir import text
from wire.protos import SUITE, entry, normalised, rich_model, small_model

HEADER = '<ir_version: 10, opset_import: ["" : 22]>\n'


def messages(proto):
    """`proto` and every message in it."""
    yield proto
    for field, value in proto.ListFields():
        if field.message_type is not None:
            for item in value if field.is_repeated else [value]:
                yield from messages(item)


def canonical(proto):
    """`proto` with the elements of every tensor in raw_data, and without stated defaults."""
    for message in messages(proto):
        if not isinstance(message, TensorProto) or message.data_type == TensorProto.STRING:
            continue
        if message.data_location == TensorProto.EXTERNAL:
            continue
        plain = TensorProto.FromString(message.SerializeToString())
        plain.ClearField("segment")
        raw = numpy_helper.from_array(numpy_helper.to_array(plain)).raw_data
        for field in ("float_data", "int32_data", "int64_data", "double_data", "uint64_data"):
            message.ClearField(field)
        message.raw_data = raw
    return normalised(proto)


def proto_of(model):
    return canonical(onnx.ModelProto.FromString(sx.dumps(model)))


def graph_of(body, inputs="float[N] x", outputs="float[N] y", header=HEADER):
    return f"{header}g ({inputs}) => ({outputs}) {body}"


MODELS = {
    "plain": graph_of("{ y = Relu(x) }"),
    "no header": graph_of("{ y = Relu(x) }", header=""),
    "empty lists": "<ir_version: 7, opset_import: [], metadata_props: []> g () => () <> {}",
    "no inputs": "<ir_version: 7> g => () { }",
    "whole header": """
        <ir_version: 8, opset_import: ["" : 17, "ai.onnx.ml" : 3], producer_name: "p",
         producer_version: "1.0", domain: "d", model_version: 12, doc_string: "two
lines", metadata_props: ["a": "b", "c" : ""]> g (float x) => (float y) { y = Relu(x) }""",
    "comments": "# first\n" + graph_of("{ # here\n y = Relu(x) # and } here\n } # last"),
    "types": graph_of(
        "{}",
        'float x, float[] r, int64[2,3] a, float16["a b", ?] q, seq(float[N]) s, '
        "map(int64, string) m, optional(seq(int64[])) o, sparse_tensor(double[5]) p, "
        "opaque() t, opaque(a.b) u, opaque(a.b, c) v, bfloat16[-1] n",
        "float8e4m3fn[1] y, uint4[4] z, float4e2m1 f, int2[N] k, float6e2m3[3] l",
    ),
    "untyped values": graph_of("<float[N] t> { t = Relu(x) y = Relu(t) }", "x", "y"),
    "quoted names": graph_of(
        '{ ["node 1"] "y.1" = Relu("x:0") }', 'float[N] "x:0"', 'float[N] "y.1"'
    ),
    "names like types": graph_of('{ "y" = Relu(float) }', 'float[N] "float"'),
    "initializers": graph_of(
        '<float[2] w = {1, 2.5}, int64 n = {-3}, string[2] s = {"a", "b\\"c"}, float[0] e = {}> '
        "{ y = Add(x, w) }"
    ),
    "defaults of inputs": graph_of("{ y = Add(x, w) }", "float[N] x, float[2] w = {1, 2}"),
    "numbers": graph_of(
        "<float[8] f = {1, -1.5, 1e3, 2.5E-3, 1., inf, -infinity, nan}, "
        "double[2] d = {0.1, 1e300}, uint64[1] u = {18446744073709551615}, "
        "int64[1] i = {-9223372036854775808}, uint32[1] v = {4294967295}, bool[2] b = {0, 1}, "
        "complex64[1] c = {1, 2}, int8[2] k = {-128, 127}, complex128[2] z = {1,2,3,4}> {}"
    ),
    "bit patterns": graph_of(
        "<float16[2] h = {15360, 49152}, bfloat16[1] b = {16256}, float8e5m2[2] e = {60, 188}, "
        "float8e8m0[1] m = {127}, uint4[4] u = {33, 67}, int4[3] i = {225, 3}, int4[1] j = {13}, "
        "uint2[4] t = {228}, float4e2m1[2] f = {33}, float6e2m3[2] s = {8, 9}> {}"
    ),
    "comments among numbers": graph_of("<float[2] w = {1, # one }\n 2} > {}"),
    "external data": graph_of(
        '<float[2] w = ["location": "w.bin", "offset": "4096", "length": "8"]> {}'
    ),
    "attributes": graph_of(
        '{ y = Op <i = 3, f = 0.5, s = "t", g: float = 2, l = [1, 2], m = [1.5, 2.0], '
        'n: floats = [1, 2], o = ["a", "b"], e: ints = [], h: strings = [], p = -inf, q = nan> (x) }'
    ),
    "attributes behind": graph_of("{ y = Op (x) <i = 3> z = Op <j = 1> (x) }"),
    "tensor attributes": graph_of(
        "{ y = Op <a = float[2] {1, 2}, b = int64 {3}, c = float[1] name {1}, "
        "d = float[1] = {1}, e = float[1] other = {2}> (x) }"
    ),
    "type attributes": graph_of("{ y = Op <a = float[N, 3], b = seq(float[]), c = int64> (x) }"),
    "subgraphs": graph_of(
        "{ y = If (c) <then_branch = t () => (float[N] a) { a = Neg(x) }, "
        "else_branch = e () => (b) <float[1] w = {1}> { b = Add(x, w) }> }",
        "float[N] x, bool c",
    ),
    "missing operands": graph_of('{ y, "", z = Op(x, "", x) , w = Op(,x) v, = Op(x,) = Op() }'),
    "domains and overloads": graph_of("{ y = ai.onnx.ml.Op:over(x) z = _a._b1.Op2 (y) }"),
    "labels": graph_of("{ [one] y = Relu(x) [] z = Relu(y) }"),
    "functions": """
        <ir_version: 10, opset_import: ["" : 22, "f" : 1]>
        g (float[N] x) => (float[N] y) { y = f.twice <a = 1>(x) }
        <domain: "f", opset_import: ["" : 22], doc_string: "d", overload: "o">
        twice <a, b: int = 2, c = [1.5]> (x, float[N] t) => (float[N] y) <float[N] u>
        { u = Add <k: int = @a, l = @b> (x, x) y = Identity(u) }
        <domain: "f", opset_import: ["" : 22]> other (a) => (b) { b = Relu(a) }""",
    "names that are not sorted": graph_of("{ y = Relu(t) t = Relu(x) }"),
    "names of nobody": graph_of("{ y = Add(nobody, x) }"),
}


@pytest.mark.parametrize("name", MODELS)
def test_the_standards_syntax_is_read_as_the_onnx_package_reads_it(name):
    expected = onnx.parser.parse_model(MODELS[name])
    for message in messages(expected):
        # sizes below zero mean that nothing is known
        if isinstance(message, onnx.TensorShapeProto.Dimension) and message.dim_value < 0:
            message.ClearField("dim_value")
    assert proto_of(sx.parse(MODELS[name])) == canonical(expected)


@pytest.mark.parametrize("name", MODELS)
def test_the_onnx_package_reads_what_is_written(name):
    model = sx.parse(MODELS[name])
    written = sx.to_text(model)
    assert canonical(onnx.parser.parse_model(written)) == proto_of(model)
    assert sx.to_text(sx.parse(written)) == written


def test_the_printer_of_the_onnx_package_is_read():
    for path in sorted(SUITE.glob("simple/*/model.onnx")):
        proto = onnx.load(path)
        printed = onnx.printer.to_text(proto)
        assert proto_of(sx.parse(printed)) == canonical(onnx.parser.parse_model(printed)), path


def test_layout():
    model = sx.loads(small_model().SerializeToString())
    assert sx.to_text(model) == (
        """<
   ir_version: 10,
   opset_import: ["": 22]
>
g (float[N, 3] x) => (float[N, 3] z)
<
   float[3] w = {1.0, 2.0, 3.0},
   float[N, 3] s
>
{
   [add] s = Add (x, w)
   y = LeakyRelu <alpha = 0.5> (s)
   z = If (c) <
      then_branch = t () => (t_out) {
         [t_neg] t_out = Neg (y)
      }
   >
}
"""
    )


def test_parts_of_a_model():
    model = sx.loads(rich_model().SerializeToString())
    graph = text.parse_graph(text.to_text(model.graph))
    assert text.to_text(graph) == text.to_text(model.graph)
    (function,) = model.functions.values()
    again = text.parse_function(text.to_text(function))
    assert again.key == function.key
    assert text.to_text(again) == text.to_text(function)
    node = next(iter(model.graph.nodes))
    assert text.to_text(text.parse_node(text.to_text(node))) == text.to_text(node)


def test_strings_of_any_bytes():
    node = onnx.helper.make_node("Op", [], ["y"], s=b'\xff\x00"\\\n', t='a\r\x1b\u202e\n\u00fc\\"')
    graph = onnx.helper.make_graph([node], "g", [], [])
    model = onnx.helper.make_model(graph, ir_version=10)
    model.doc_string = "line\nfeed\ttab \u00e9"
    model.metadata_props.append(entry("\x07", "bell"))
    loaded = sx.loads(model.SerializeToString())
    written = sx.to_text(loaded)
    assert r'b"\xff\x00\"\\\n"' in written
    assert "\x1b" not in written
    assert "\u202e" not in written
    assert proto_of(sx.parse(written)) == canonical(model)


def float_bits(pattern):
    return np.array([pattern], np.uint32).view(np.float32)


EXACT = {
    "float": np.float32([0.1, 1e-45, 3.4028235e38, -0.0, 16777216, 1 / 3, np.inf]),
    "double": np.array([0.1, 5e-324, 1.7976931348623157e308, -0.0, np.nan]),
    "float with payloads": float_bits(0x7FC00001),
    "signalling": float_bits(0x7F800001),
    "negative nan": float_bits(0xFFC00000),
    "complex64": np.complex64([1 + 2j, complex(np.inf, -0.0)]),
    "complex128": np.complex128([0.1 - 0.2j]),
    "long": np.arange(5000, dtype=np.float32) / 3,
    "long integers": np.arange(-2000, 2000),
    "big endian": np.arange(3, dtype=">i4"),
    "table": np.arange(12, dtype=np.uint8).reshape(3, 4),
    "scalar": np.float64(2.5),
    "nothing": np.zeros((3, 0), np.int8),
}


def roundtrip(tensor):
    """The initializer of a model with `tensor`, after it was written and read."""
    graph = sx.ir.Graph("g", initializers=[sx.ir.Value("w", const=tensor)])
    model = sx.Model(graph, {"": 22})
    written = sx.to_text(model)
    again = sx.parse(written)
    assert sx.ir.equal(again, model)
    return written, again.graph.initializers[0].const


@pytest.mark.parametrize("name", EXACT)
def test_elements_are_exact(name):
    array = EXACT[name]
    _, again = roundtrip(sx.ir.ArrayTensor(array))
    assert again.shape == array.shape
    assert again.numpy().tobytes() == np.asarray(array, again.dtype.numpy).tobytes()


@pytest.mark.parametrize("dtype", [d for d in sx.dtypes.ALL if d.bits], ids=lambda d: d.text)
@pytest.mark.parametrize("size", [0, 1, 3, 17, 3000])
def test_elements_of_every_type_are_exact(dtype, size):
    raw = np.random.default_rng(size).integers(0, 256, dtype.nbytes(size), np.uint8)
    if dtype.kind == "bool":
        raw &= 1
    tensor = sx.ir.RawTensor(raw.tobytes(), dtype, [size])
    _, again = roundtrip(tensor)
    assert again.dtype is dtype
    unpacked = numpy_helper.to_array(
        TensorProto(data_type=dtype.code, dims=[size], raw_data=raw.tobytes())
    )
    wide = np.int64 if dtype.is_integer else again.numpy().dtype
    assert again.numpy().astype(wide).tobytes() == unpacked.astype(wide).tobytes()


@pytest.mark.parametrize(
    "dtype",
    [d for d in sx.dtypes.ALL if d.bits <= 16 and d.bits and d.kind != "bool"],
    ids=lambda d: d.text,
)
def test_small_types_are_read_as_numbers_too(dtype):
    numbers = "{1.0, 0.5, 2.0}" if dtype.is_floating else "{1, 0, 1}"
    wanted = [1.0, 0.5, 2.0] if dtype.is_floating else [1, 0, 1]
    model = sx.parse(graph_of(f"<{dtype.text}[3] w = {numbers}> {{}}"))
    assert model.graph.initializers[0].const.numpy().astype(np.float64).tolist() == wanted
    shown = sx.to_text(model, weights="elided")
    assert sx.ir.equal(sx.parse(shown), model)


def test_big_tensors_are_base64():
    written, _ = roundtrip(sx.ir.ArrayTensor(np.zeros(2000, np.float32)))
    assert 'float[2000] w = base64"' in written
    assert max(map(len, written.splitlines())) <= 110


def test_elided_weights():
    graph = sx.ir.Graph(
        "g", initializers=[sx.ir.Value("w", const=sx.ir.ArrayTensor(np.zeros(4096)))]
    )
    model = sx.Model(graph, {"": 22})
    written = sx.to_text(model, weights="elided")
    assert "double[4096] w = <4096 double values>" in written
    with pytest.raises(sx.errors.TextError, match="left out") as error:
        sx.parse(written)
    assert "weights='full'" in str(error.value)
    node = text.parse_node(f"y = Constant <value = float[20] {{{', '.join(['1'] * 20)}}}> ()")
    with pytest.raises(sx.errors.TextError, match="left out"):
        text.parse_node(text.to_text(node, weights="elided"))
    with pytest.raises(sx.errors.InputError, match="weights"):
        sx.to_text(model, weights="none")


def test_files(tmp_path):
    model = sx.loads(rich_model().SerializeToString())
    path = tmp_path / "model.onnxtxt"
    sx.save(model, path)
    assert path.read_text(encoding="utf-8").startswith("<\n   ir_version: 14,")
    assert sx.ir.difference(sx.load(path), model) is None
    path.write_text("# by hand\n" + MODELS["plain"], encoding="utf-8-sig")
    assert sx.load(str(path)).graph.name == "g"
    path.write_bytes(b"g () => ()\n{ \xff }")
    with pytest.raises(sx.errors.DecodeError, match="not UTF-8"):
        sx.load(path)
    path.write_text("g () =>")
    with pytest.raises(sx.errors.TextError, match=r"model\.onnxtxt"):
        sx.load(path)


def test_files_with_external_data(tmp_path):
    weights = np.arange(2000, dtype=np.float32)
    graph = sx.ir.Graph("g", initializers=[sx.ir.Value("w", const=sx.ir.ArrayTensor(weights))])
    model = sx.Model(graph, {"": 22})
    path = tmp_path / "m.onnxtxt"
    sx.save(model, path, external_data=True)
    written = path.read_text()
    assert '[\n      "location": "m.onnxtxt.data",\n      "offset": "0",' in written
    again = sx.load(path)
    assert sx.ir.equal(again, model)
    # a reference is written as one, and inlined where a file of its own is saved
    assert sx.to_text(again) == written
    assert sx.ir.equal(sx.parse(sx.to_text(again)), again)
    sx.save(again, tmp_path / "inlined.onnxtxt")
    assert "base64" in (tmp_path / "inlined.onnxtxt").read_text()
    (tmp_path / "m.onnxtxt.data").write_bytes(weights[::-1].tobytes())
    with pytest.raises(sx.errors.ExternalDataError):
        sx.load(path).graph.initializers[0].const.numpy()
    path.write_text(written.replace("m.onnxtxt.data", "../secret"))
    with pytest.raises(sx.errors.ExternalDataError, match="secret"):
        sx.load(path)


def test_a_session_opens_text(tmp_path):
    path = tmp_path / "m.onnxtxt"
    path.write_text(graph_of("<float[1] w = {2}> { y = Mul(x, w) }"))
    (found,) = sx.Session(path).run(None, {"x": np.float32([1, 2])})
    assert found.tolist() == [2, 4]


def test_the_examples_of_the_documentation_are_text():
    page = (Path(__file__).parents[2] / "docs" / "text.md").read_text(encoding="utf-8")
    examples = re.findall(r"^```\n(<|main)(.*?)^```", page, re.DOTALL | re.MULTILINE)
    assert len(examples) == 2
    for start, rest in examples:
        model = sx.parse(start + rest)
        assert sx.ir.equal(sx.parse(sx.to_text(model)), model)
        if start == "<":
            assert sx.to_text(model) == start + rest
