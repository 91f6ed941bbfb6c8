"""Bytes that no one meant well with: typed errors with a place, bounded time and memory."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import suppress

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from sardonyx.errors import DecodeError, LimitError, SardonyxError
from sardonyx.wire import (
    decode_model,
    decode_optional,
    decode_sequence,
    decode_tensor,
    decode_type,
    encode_model,
)
from wire.protos import rich_model, small_model, tensor_type, visit

SMALL = small_model().SerializeToString()
RICH = rich_model().SerializeToString()
QUIET = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


def varint(number):
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def field(number, payload, wire=2):
    tag = varint(number * 8 + wire)
    return tag + (varint(len(payload)) if wire == 2 else b"") + payload


def in_graph(payload):
    return b"\x08\x0a" + field(7, payload)


def survives(data):
    """Decode, visit and write `data`: all of it works, or a `SardonyxError` says why not."""
    with suppress(SardonyxError):
        again = encode_model(visit(decode_model(data))).tobytes()
        try:
            visit(decode_model(again))
        except SardonyxError as error:
            raise AssertionError("what was written cannot be read") from error


def test_every_prefix():
    for end in range(len(SMALL)):
        survives(SMALL[:end])
    with pytest.raises(DecodeError):
        decode_model(SMALL[: len(SMALL) // 2])


@pytest.mark.parametrize("replacement", [0, 1, 0x7F, 0x80, 0xFF, None])
def test_every_single_byte_change(replacement):
    for place in range(len(SMALL)):
        changed = bytearray(SMALL)
        changed[place] = changed[place] ^ 0x55 if replacement is None else replacement
        survives(bytes(changed))


@QUIET
@given(st.binary(max_size=300))
@example(b"\x3a\x02\x0a\x00")
@example(b"\x08" + b"\xff" * 11)
def test_random_bytes(data):
    survives(data)
    survives(in_graph(data))
    survives(in_graph(field(1, b"\x22\x01A" + data)))
    for decode in (decode_tensor, decode_type, decode_sequence, decode_optional):
        with suppress(SardonyxError):
            decode(data)


@QUIET
@given(st.data())
def test_mutated_models(data):
    changed = bytearray(RICH)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(changed) - 1))
        kind = data.draw(st.sampled_from(["set", "insert", "delete", "copy"]))
        if kind == "set":
            changed[place] = data.draw(st.integers(0, 255))
        elif kind == "insert":
            changed[place:place] = data.draw(st.binary(max_size=12))
        elif kind == "delete":
            del changed[place : place + data.draw(st.integers(1, 12))]
        else:
            other = data.draw(st.integers(0, len(changed) - 1))
            changed[place:place] = changed[other : other + data.draw(st.integers(1, 60))]
    survives(bytes(changed))


@QUIET
@given(st.integers(0, 10**9), st.integers(0, 255), st.integers(0, 3))
def test_mutated_long_graphs_as_small_ones(place, value, shift):
    # enough nodes for the vectorized reading, which must refuse what field by field is refused
    data = bytearray(LONG)
    data[place % len(data)] = value
    if shift:
        del data[place % len(data)]
    survives(bytes(data))


def long_graph():
    nodes = [
        helper.make_node("Op", [f"v{i}"], [f"v{i + 1}"], alpha=float(i), axes=[i, -i])
        for i in range(120)
    ]
    infos = [helper.make_value_info(f"v{i}", tensor_type((i,))) for i in range(1, 100)]
    weights = [helper.make_tensor(f"w{i}", TensorProto.INT64, [1], [i]) for i in range(60)]
    graph = helper.make_graph(nodes, "g", [], [], weights, value_info=infos)
    return helper.make_model(graph, ir_version=10).SerializeToString()


LONG = long_graph()

OP = b"\x22\x01A"
BAD_STRUCTURE = {
    "truncated varint": (b"\x08\x80", "varint ends early"),
    "overlong varint": (b"\x08" + b"\x80" * 10 + b"\x01", "more than 10 bytes"),
    "length past the end": (b"\x3a\x05\x00", "of 5 bytes, 1 are left"),
    "huge length": (b"\x3a" + b"\xff" * 9 + b"\x01", "are left"),
    "field number 0": (b"\x02\x00", "field number 0"),
    "tag of more than 32 bits": (b"\xfa\xff\xff\xff\xff\x01\x00", "field number"),
    "group": (b"\x08\x08\x9b\x06\x9c\x06", "group"),
    "end of group": (b"\x08\x08\x0c", "group"),
    "wire type 6": (b"\x0e", "wire type 6"),
    "wire type 7": (b"\x0f", "wire type 7"),
    "wrong wire type": (b"\x0a\x01a", "ir_version has wire type 2, not 0"),
    "wrong wire type of a message": (b"\x38\x01", "graph has wire type 0, not 2"),
    "fixed32 cut": (b"\x08\x08\xa5\x06\x00", "ends early"),
    "fixed64 cut": (b"\x08\x08\xa1\x06\x00\x00", "ends early"),
    "node longer than the graph": (in_graph(b"\x0a\x7f" + OP), "node of 127 bytes"),
    "input longer than the node": (in_graph(field(1, b"\x0a\x7f" + OP)), "input of 127 bytes"),
    "node without operator": (in_graph(b"\x0a\x00"), "NodeProto without op_type"),
    "input without name": (in_graph(b"\x5a\x00"), "ValueInfoProto without name"),
    "node with a group": (in_graph(field(1, OP + b"\xf3\x07")), "group"),
    "initializer with a wrong wire type": (in_graph(field(5, b"\x12\x00")), "data_type has wire"),
}


@pytest.mark.parametrize("name", BAD_STRUCTURE)
def test_structure_is_refused_when_opened(name):
    data, text = BAD_STRUCTURE[name]
    with pytest.raises(DecodeError, match=text) as caught:
        decode_model(data)
    assert 0 <= caught.value.offset < len(data)


@pytest.mark.parametrize("name", [n for n in BAD_STRUCTURE if "node" in n])
def test_one_bad_node_among_many(name):
    bad, text = BAD_STRUCTURE[name]
    payload = bad[4:]
    good = field(1, b"\x0a\x01a\x12\x01b" + OP) * 100
    data = in_graph(good + payload + (good if len(payload) > 6 else b""))
    with pytest.raises(DecodeError, match=text) as caught:
        decode_model(data)
    assert "graph.node[100]" in str(caught.value)


def utf8_node(**changes):
    model = small_model()
    data = model.SerializeToString()
    for old, new in changes.items():
        assert old.encode() in data
        data = data.replace(old.encode(), new)
    return data


def test_names_that_are_not_utf8():
    with pytest.raises(DecodeError, match="not UTF-8") as caught:
        visit(decode_model(utf8_node(add=b"a\xffd")))
    assert "graph.node[0].name" in str(caught.value)
    assert utf8_node(add=b"a\xffd")[caught.value.offset] == 0xFF
    many = in_graph(field(1, b"\x0a\x01a" + OP) * 60 + field(1, b"\x0a\x02\xc3\x28" + OP))
    with pytest.raises(DecodeError, match="not UTF-8"):
        _ = decode_model(many).graph.nodes


def test_prose_that_is_not_utf8_is_kept():
    model = small_model()
    model.doc_string = "prose"
    data = model.SerializeToString().replace(b"prose", b"pr\xffse")
    found = decode_model(data)
    assert found.doc == "pr\udcffse"
    assert encode_model(found).tobytes() == data


def test_names_with_nul_and_direction_marks_are_escaped_in_messages():
    name = "a\0\u202eb" * 100
    tensor = TensorProto(name=name, data_type=1, dims=[2])
    with pytest.raises(DecodeError) as caught:
        decode_tensor(tensor.SerializeToString())
    assert "\u202e" not in str(caught.value)
    assert len(str(caught.value)) < 800


def nested(levels, *, wrap):
    data = b""
    for _ in range(levels):
        data = wrap(data)
    return data


@pytest.mark.parametrize("levels", [40, 2000])
def test_deep_subgraphs(levels):
    def wrap(inner):
        attribute = b"\x0a\x01g" + field(6, inner) + b"\xa0\x01\x05"
        return field(1, OP + field(5, attribute))

    model = decode_model(in_graph(nested(levels, wrap=wrap)))
    with pytest.raises(LimitError, match="depth limit"):
        _ = model.graph.nodes


def test_deep_types_and_sequences():
    deep = nested(2000, wrap=lambda inner: field(4, field(1, inner)))
    with pytest.raises(LimitError, match="depth limit"):
        decode_type(deep)
    info = field(11, b"\x0a\x01x" + field(2, deep))
    with pytest.raises(LimitError, match="depth limit"):
        _ = decode_model(in_graph(info)).graph.inputs[0].type
    with pytest.raises(LimitError, match="depth limit"):
        decode_sequence(nested(2000, wrap=lambda inner: field(5, inner)))


TENSORS = {
    "negative dim": ({"dims": [-1], "data_type": 1}, "negative dim -1"),
    "too many elements": ({"dims": [2**62, 4], "data_type": 1}, "more than 2\\^63"),
    "too many beside zero": ({"dims": [0, 2**62, 4], "data_type": 1}, "more than 2\\^63"),
    "raw data too short": ({"dims": [2], "data_type": 1, "raw_data": b"1234567"}, "takes 8 bytes"),
    "raw data too long": ({"dims": [], "data_type": 3, "raw_data": b"12"}, "takes 1 bytes"),
    "packed too short": ({"dims": [3], "data_type": 22, "raw_data": b"1"}, "takes 2 bytes"),
    "six bits": ({"dims": [3], "data_type": 27, "raw_data": b"12"}, "takes 3 bytes"),
    "too few values": ({"dims": [2], "data_type": 6, "int32_data": [1]}, "takes 2 values"),
    "no data": ({"dims": [2], "data_type": 1}, "0 are there"),
    "two fields": (
        {"dims": [1], "data_type": 1, "float_data": [1], "raw_data": b"1234"},
        "both float_data and raw_data",
    ),
    "two typed fields": (
        {"dims": [1], "data_type": 1, "float_data": [1], "int32_data": [1]},
        "both float_data and int32_data",
    ),
    "wrong field": ({"dims": [1], "data_type": 7, "int32_data": [1]}, "int64_data holds"),
    "no type": ({"dims": [1], "float_data": [1]}, "no element type"),
    "raw strings": ({"dims": [1], "data_type": 8, "raw_data": b"a"}, "strings in raw_data"),
    "external with data": (
        {"dims": [1], "data_type": 1, "raw_data": b"1234", "data_location": 1},
        "has raw_data too",
    ),
}


@pytest.mark.parametrize("name", TENSORS)
def test_tensors_are_refused(name):
    fields, text = TENSORS[name]
    tensor = TensorProto(name="weight", **fields)
    with pytest.raises(DecodeError, match=text) as caught:
        decode_tensor(tensor.SerializeToString())
    assert "'weight'" in str(caught.value)
    model = small_model()
    model.graph.initializer[0].CopyFrom(tensor)
    with pytest.raises(DecodeError, match=r"graph\.initializer\[0\]"):
        _ = decode_model(model.SerializeToString()).graph.nodes


def test_packed_values_that_end_early():
    for body in (b"\x22\x03abc", b"\x3a\x01\x80", b"\x3a\x0b" + b"\x80" * 10 + b"\x01"):
        dtype = b"\x10\x01" if body[0] == 0x22 else b"\x10\x07"
        with pytest.raises(DecodeError):
            decode_tensor(b"\x08\x01" + dtype + body).numpy()


def test_two_values_anywhere():
    model = small_model()
    model.graph.node[0].attribute.add(name="a", i=1, f=1.0)
    with pytest.raises(DecodeError, match="'a' has both f and i"):
        visit(decode_model(model.SerializeToString()))
    both = field(1, field(2, field(1, b"\x08\x01\x12\x01N")))
    with pytest.raises(DecodeError, match="both dim_value and dim_param"):
        decode_type(both)
    twice = small_model()
    twice.graph.node[0].attribute.add(name="a", i=1, type=2)
    twice.graph.node[0].attribute.add(name="a", i=1, type=2)
    with pytest.raises(DecodeError, match="two attributes are called 'a'"):
        visit(decode_model(twice.SerializeToString()))


def test_keys_with_two_values():
    model = small_model()
    model.metadata_props.add(key="k", value="1")
    model.metadata_props.add(key="k", value="1")
    assert decode_model(model.SerializeToString()).metadata == {"k": "1"}
    model.metadata_props.add(key="k", value="2")
    with pytest.raises(DecodeError, match="'k' has two values"):
        decode_model(model.SerializeToString())
    other = small_model()
    other.opset_import.add(domain="", version=7)
    with pytest.raises(DecodeError, match="imported as versions 22 and 7"):
        decode_model(other.SerializeToString())


FOREIGN = {
    "empty": (b"", "the file is empty"),
    "text": (b"hello, world\n" * 9, "text, not ONNX"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "git lfs pull"),
    "zip": (b"PK\x03\x04" + bytes(60), "zip archive"),
    "page": (b"\n<!DOCTYPE html><html></html>", "web page"),
    "json": (b'{"a": 1}', "JSON"),
    "pickle": (b"\x80\x02}q\x00.", "Python pickle"),
    "safetensors": (b"\x08\x00\x00\x00\x00\x00\x00\x00" + b'{"a":{}}', "safetensors"),
    "no graph": (b"\x08\x0a", "no graph"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_files_that_are_something_else(name):
    data, text = FOREIGN[name]
    with pytest.raises(DecodeError) as caught:
        decode_model(data)
    assert text in str(caught.value)


MEASURE = """
import sys
from sardonyx.errors import SardonyxError
from sardonyx.wire import decode_model
payload = bytes.fromhex(sys.argv[1]) * int(sys.argv[2])
def varint(n):
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128); n >>= 7
    return bytes([*out, n])
data = b"\\x08\\x0a\\x3a" + varint(len(payload)) + payload
for node in [] if sys.argv[3] == "graph" else [1]:
    payload = b"\\x22\\x01A" + payload
    payload = b"\\x0a" + varint(len(payload)) + payload
    data = b"\\x08\\x0a\\x3a" + varint(len(payload)) + payload
del payload
def peak():
    return int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) * 1024
open("/proc/self/clear_refs", "w").write("5")
before = peak()
try:
    model = decode_model(data)
    for n in model.graph.nodes:
        n.attributes
except SardonyxError as error:
    print(type(error).__name__, end=" ")
else:
    print("fine", end=" ")
print((peak() - before) / len(data))
"""

FLOODS = {
    "empty nodes": ("0a00", 5_000_000, "graph"),
    "empty initializers": ("2a00", 5_000_000, "graph"),
    "empty value_info": ("6a00", 5_000_000, "graph"),
    "small nodes": ("0a03220141", 2_000_000, "graph"),
    "metadata": ("820100", 3_000_000, "graph"),
    "unknown": ("f80701", 3_000_000, "graph"),
    "inputs of one node": ("0a00", 5_000_000, "node"),
    "empty attributes": ("2a00", 5_000_000, "node"),
}


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.slow
@pytest.mark.parametrize("name", FLOODS)
def test_memory_is_bounded(name):
    payload, count, where = FLOODS[name]
    command = [sys.executable, "-c", MEASURE, payload, str(count), where]
    out = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    assert float(out.split()[1]) <= 20, out


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_ten_megabytes_of_empty_nodes():
    command = [sys.executable, "-c", MEASURE, *map(str, FLOODS["empty nodes"])]
    start = time.monotonic()
    out = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    assert out.split()[0] in {"LimitError", "DecodeError"}
    assert float(out.split()[1]) <= 20
    assert time.monotonic() - start < 30


def test_failures_in_lazy_parts_leave_the_rest_usable():
    found = decode_model(SMALL.replace(b"\xa0\x01\x01", b"\xa0\x01\x63"))
    first, second, _ = found.graph.nodes
    for _ in range(2):
        with pytest.raises(DecodeError, match="unknown type 99"):
            _ = second.attributes
    assert first.attributes == {}
    np.testing.assert_array_equal(found.graph.initializers[0].const.numpy(), [1, 2, 3])


def test_onnx_agrees_on_what_is_well_formed():
    # protobuf accepts all of these, so do we
    for extra in (b"\xf8\x07\x01", b"\xfa\x07\x02ab", b"\xfd\x07abcd", b"\xf9\x07abcdefgh"):
        data = SMALL + extra
        onnx.ModelProto.FromString(data)
        assert decode_model(data).unknown == extra
