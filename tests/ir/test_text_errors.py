"""What is wrong with a text, and where: typed errors, and bounds on what hostile text costs."""

from __future__ import annotations

import random
import tracemalloc

import pytest

import sardonyx as sx
from ir.test_text import MODELS, graph_of
from sardonyx.errors import LimitError, SardonyxError, TextError
from sardonyx.ir import text
from sardonyx.limits import Limits
from wire.protos import rich_model

BODY = "g (float[N] x) => (float[N] y)\n{ "

ERRORS = {
    "": ("expected the name of a graph, found the end of the text", 1, 1),
    "g": ("expected '=>', found the end of the text", 1, 2),
    "g (float[N] x => (y) {}": ("expected ',' or ')', found '=>'", 1, 15),
    "g (float[N x) => (y) {}": ("expected ',' or ']', found 'x'", 1, 12),
    "g (float[N]) => (y) {}": ("expected a type or the name of a value, found ')'", 1, 12),
    "g (seq(x) y) => (y) {}": ("expected a type, found 'x'", 1, 8),
    "g () => () <float[N] w = {1}> {}": ("a constant needs numbers as dimensions", 1, 22),
    "g () => () <w = {1}> {}": ("value 'w' has data, but no type", 1, 13),
    "g () => () <float[2] w = {1}> {}": ("2 values are needed, 1 are there", 1, 26),
    "g () => () <float[1] w = {one}> {}": ("unexpected character 'o' among numbers", 1, 27),
    "g () => () <float[2] w = {1, }> {}": ("expected a number, found ''", 1, 26),
    "g () => () <int64[1] w = {1.5}> {}": ("expected an integer, found '1.5'", 1, 26),
    "g () => () <uint8[1] w = {256}> {}": ("'256' does not fit uint8", 1, 26),
    "g () => () <int4[3] w = {1, 8, 0}> {}": ("int4 takes numbers from -8 to 7", 1, 25),
    "g () => () <float[1] w = {1e39}> {}": ("'1e39' does not fit float", 1, 26),
    "g () => () <bool[1] w = {2}> {}": ("a bool is 0 or 1", 1, 25),
    'g () => () <float[1] w = hex"00"> {}': ("float[1] takes 4 bytes, 1 are there", 1, 26),
    'g () => () <float[1] w = hex"0"> {}': ("malformed hex: ", 1, 26),
    'g () => () <float[1] w = base64"!"> {}': ("malformed base64: ", 1, 26),
    'g () => () <string[2] w = {"a"}> {}': ("2 values are needed, 1 are there", 1, 27),
    "g () => () <float[1] w = {1> {}": ("unexpected character '>' among numbers", 1, 28),
    "g () => () <float[4294967296, 4294967296] w = {}> {}": ("a tensor of [", 1, 43),
    "<ir_version: x> g () => () {}": ("expected an integer, found 'x'", 1, 14),
    "<ir_version: 1, ir_version: 2> g () => () {}": ("ir_version is given twice", 1, 17),
    "<version: 1> g () => () {}": ("a model has no 'version'", 1, 2),
    '<opset_import: ["" : 1, "" : 2]> g () => () {}': ("'' has two values", 1, 25),
    "g () => () <float[1] w = {1": ("a list without its closing '}'", 1, 26),
    BODY + "y = Relu(x }": ("expected ',' or ')', found '}'", 2, 14),
    BODY + "Relu(x) }": ("expected a node: outputs = Operator (inputs), found '('", 2, 7),
    BODY + "y = Op <a> (x) }": ("expected '=', found '>'", 2, 12),
    BODY + "y = Op <a = 1, a = 2> (x) }": ("two attributes are called 'a'", 2, 18),
    BODY + "y = Op <a = []> (x) }": ("an empty list needs the type of its attribute", 2, 15),
    BODY + 'y = Op <a = [1, "b"]> (x) }': ("the values of a list are of one kind", 2, 15),
    BODY + "y = Op <a: int = 1.5> (x) }": ("expected a value of type int, found float", 2, 20),
    BODY + "y = Op <a: number = 1> (x) }": ("'number' is no attribute type", 2, 14),
    BODY + "y = Op <a = 1e99> (x) }": ("'1e99' is no number that a float can hold", 2, 15),
    BODY + "y = Op <a = 9223372036854775808> (x) }": ("does not fit 64 bits", 2, 15),
    BODY + "y = Op (x) with <key: 1> }": ("a node has no 'key'", 2, 20),
    BODY + 'y = Op <a = "open> (x) }': ("a string without its closing quote", 2, 15),
    BODY + 'y = Op <a = b"\\q"> (x) }': ("unknown escape '\\q'", 2, 17),
    BODY + 'y = Op <a = b"\\xz0"> (x) }': ("\\x takes two hexadecimal digits", 2, 17),
    BODY + 'y = Op (b"\\xff") }': ("a name is not UTF-8", 2, 11),
    BODY + "y = Op (x) ; }": ("unexpected character ';'", 2, 14),
    BODY + "} g2 () => () { y = } ": ("expected an operator, found '}'", 2, 23),
    BODY + "} f () => () {} f () => () {}": ("two functions are called 'f'", 2, 19),
    BODY + "} training_info { step: 1 }": ("training_info has no 'step'", 2, 21),
}


@pytest.mark.parametrize("source", ERRORS)
def test_errors_say_what_and_where(source):
    message, line, column = ERRORS[source]
    with pytest.raises(TextError) as caught:
        sx.parse(source)
    error = caught.value
    assert message in error.message
    assert (error.line, error.column) == (line, column)
    assert f"line {line}, column {column}" in str(error)


def test_parts_end_where_they_should():
    for parse, source in [
        (text.parse_node, "y = Relu (x) z = Relu (y)"),
        (text.parse_graph, "g () => () {} f () => () {}"),
        (text.parse_function, "f (x) => (y) {} g"),
    ]:
        with pytest.raises(TextError, match="expected the end of the text"):
            parse(source)


def test_limits_are_kept():
    nested = "g () => () { = A <g = " * 50
    with pytest.raises(LimitError, match="depth"):
        sx.parse(nested)
    with pytest.raises(LimitError, match="depth"):
        sx.parse(f"g ({'seq(' * 1000}float{')' * 1000} x) => () {{}}")
    with pytest.raises(LimitError, match="nodes"):
        sx.parse(graph_of("{ y = Relu(x) z = Relu(y) }"), limits=Limits(nodes=1))
    with pytest.raises(LimitError, match="name bytes"):
        sx.parse(graph_of("{ y = Relu(longer) }"), limits=Limits(name_bytes=5))
    with pytest.raises(LimitError, match="rank"):
        sx.parse(f"g (float[{','.join('1' * 65)}] x) => () {{}}")
    deep = "g () => () { = A <g = " * 30 + "g () => () {" + "}>()" * 30 + "}"
    model = sx.parse(deep)
    assert sx.ir.equal(sx.parse(sx.to_text(model)), model)


def test_deep_models_are_refused_when_written():
    graph = sx.ir.Graph("g")
    for _ in range(300):
        outer = sx.ir.Graph("g")
        node = sx.ir.Node("A", [], 0)
        node.set_attribute("g", graph)
        outer.nodes.append(node)
        graph = outer
    with pytest.raises(LimitError, match="depth"):
        sx.to_text(graph)


@pytest.mark.parametrize(
    "source",
    [
        "g () => () <float[400000] w = {" + "1," * 399_999 + "1}> {}",
        "g () => () <float[400001] w = {" + "," * 400_000 + "}> {}",
        '<doc_string: "' + "\\\\" * 60_000 + '"> g () => () {}',
        "#\n" * 60_000 + "g () => () {}",
        "g () => () <float[1000000000000] w = {1}> {}",
        'g () => () <string[1000000000000] w = {"a"}> {}',
    ],
    ids=["numbers", "commas", "escapes", "comments", "size", "strings"],
)
def test_hostile_text_costs_little_memory(source):
    tracemalloc.start()
    try:
        sx.parse(source)
    except TextError:
        pass
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 8 * len(source) + (64 << 20)


TOKENS = [
    '"',
    "{",
    "}",
    "[",
    "]",
    "(",
    ")",
    "<",
    ">",
    "=",
    "=>",
    ",",
    ":",
    "?",
    "@",
    ".",
    "-",
    "1",
    "99999999999999999999",
    "1e999",
    "nan",
    "inf",
    "float",
    "#",
    "\\",
    "with",
    "seq(",
    'hex"',
    'base64"',
    'b"',
    "undefined",
    "int4",
    "string",
    "é",
    "float[99999999999,999999999]",
    "{1,2}",
    "training_info{",
]


def test_broken_text_gives_typed_errors():
    seeds = [*MODELS.values(), sx.to_text(sx.loads(rich_model().SerializeToString()))]
    generator = random.Random(0)
    for _ in range(400):
        source = generator.choice(seeds)
        for _ in range(generator.randint(1, 3)):
            place = generator.randrange(len(source) + 1)
            skipped = place + generator.randint(0, 6)
            token = generator.choice(TOKENS) if generator.random() < 0.7 else ""
            source = source[:place] + token + source[skipped:]
        try:
            model = sx.parse(source)
        except SardonyxError as error:
            assert str(error)
            continue
        assert sx.ir.difference(sx.parse(sx.to_text(model)), model) is None


def test_what_a_file_cannot_hold_has_no_text():
    node = sx.ir.Node("Op")
    node.set_attribute("a", 1e300)
    with pytest.raises(sx.errors.ModelError, match="float32"):
        sx.to_text(node)
    node.set_attribute("a", "text", sx.ir.AttributeType.INT)
    with pytest.raises(sx.errors.ModelError, match="'a' of type INT cannot hold"):
        sx.to_text(node)
    node.set_attribute("a", "\ud800")
    with pytest.raises(sx.errors.ModelError, match="UTF-8"):
        sx.to_text(node)
    weight = sx.ir.Value("w", const=sx.ir.as_tensor([1.0]))
    function = sx.ir.Function("f", "", sx.ir.Graph(initializers=[weight]), {"": 22})
    with pytest.raises(sx.errors.ModelError, match="has initializers"):
        sx.to_text(function)
    with pytest.raises(sx.errors.InputError, match="str has no text"):
        sx.to_text("model")


def test_only_text_is_parsed():
    with pytest.raises(sx.errors.InputError, match="bytes"):
        sx.parse(b"g () => () {}")
