"""Files whose bytes are wrong: classes 1 to 7, 14 and 20."""

from __future__ import annotations

from collections.abc import Iterator

import onnx
from onnx import TensorProto, helper

from hostile.corpus import MIB, Case

OP = b"\x22\x01A"


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def field(number: int, payload: bytes, wire: int = 2) -> bytes:
    tag = varint(number * 8 + wire)
    return tag + (varint(len(payload)) if wire == 2 else b"") + payload


def in_graph(payload: bytes) -> bytes:
    """A model of IR 8, opset 17, whose graph is `payload`."""
    return b"\x08\x08" + field(7, payload) + field(8, b"\x10\x11")


def seed() -> onnx.ModelProto:
    """A sound model: y = Add(x, w), and an If that reads y."""
    nodes = [
        helper.make_node("Add", ["x", "w"], ["s"], name="add"),
        helper.make_node("LeakyRelu", ["s"], ["y"], alpha=0.5),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [3])],
        [helper.make_tensor("w", TensorProto.FLOAT, [3], [1.0, 2.0, 3.0])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def changed(**replacements: bytes) -> bytes:
    """The seed's bytes with texts of the same length replaced."""
    data = seed().SerializeToString()
    for old, new in replacements.items():
        assert old.encode() in data
        assert len(old) == len(new)
        data = data.replace(old.encode(), new)
    return data


STRUCTURE = {
    "truncated varint": b"\x08\x80",
    "overlong varint": b"\x08" + b"\x80" * 10 + b"\x01",
    "varint that never ends": b"\x08" + b"\xff" * 100,
    "length past the end": b"\x3a\x05\x00",
    "huge length": b"\x3a" + b"\xff" * 9 + b"\x01",
    "length of 2 GiB": b"\x3a\xff\xff\xff\xff\x07\x00",
    "negative length": b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    "field number 0": b"\x02\x00",
    "field number past 2^29": b"\xfa\xff\xff\xff\xff\x01\x00",
    "group": b"\x08\x08\x9b\x06\x9c\x06",
    "end of group": b"\x08\x08\x0c",
    "nested groups": b"\x0b" * 2000,
    "wire type 6": b"\x0e",
    "wire type 7": b"\x0f",
    "wrong wire type of a number": b"\x0a\x01a",
    "wrong wire type of a message": b"\x38\x01",
    "fixed32 cut": b"\x08\x08\xa5\x06\x00",
    "fixed64 cut": b"\x08\x08\xa1\x06\x00\x00",
    "node longer than the graph": in_graph(b"\x0a\x7f" + OP),
    "input longer than the node": in_graph(field(1, b"\x0a\x7f" + OP)),
    "node without operator": in_graph(b"\x0a\x00"),
    "input without a name": in_graph(b"\x5a\x00"),
    "node with a group": in_graph(field(1, OP + b"\xf3\x07")),
    "initializer with a wrong wire type": in_graph(field(5, b"\x12\x00")),
    "initializer longer than the graph": in_graph(b"\x2a\x7f"),
    "dims longer than the tensor": in_graph(field(5, b"\x0a\x40\x01")),
    "no graph": b"\x08\x0a",
}


def structure() -> Iterator[Case]:
    for name, data in STRUCTURE.items():
        yield Case(name, 1, "load DecodeError", lambda data=data: data)
    whole = seed().SerializeToString()
    for part in range(1, 8):
        data = whole[: len(whole) * part // 8]
        verdict = "load DecodeError"
        yield Case(f"the first {part}/8 of a file", 1, verdict, lambda data=data: data)
    tail = b"\xa2\x06\x03abc"
    yield Case("unknown field", 1, "accepted", lambda: whole + tail)


def nested(levels: int, wrap: object, data: bytes = b"") -> bytes:
    assert callable(wrap)
    for _ in range(levels):
        data = wrap(data)
    return data


def subgraph(inner: bytes) -> bytes:
    return field(1, b"\x22\x02If" + field(5, b"\x0a\x01g" + field(6, inner) + b"\xa0\x01\x05"))


def deep_node() -> bytes:
    """A NodeProto with 2000 subgraphs within each other."""
    return b"\x22\x02If" + field(
        5, b"\x0a\x01g" + field(6, nested(2000, subgraph)) + b"\xa0\x01\x05"
    )


def depth() -> Iterator[Case]:
    limit = "load LimitError"
    for levels in (50, 2000, 20_000):
        yield Case(
            f"{levels} nested subgraphs",
            2,
            limit,
            lambda levels=levels: in_graph(nested(levels, subgraph)),
        )
    sequence = lambda inner: field(4, field(1, inner))  # noqa: E731
    optional = lambda inner: field(9, field(1, inner))  # noqa: E731
    mapped = lambda inner: field(5, b"\x08\x07" + field(2, inner))  # noqa: E731
    for name, wrap in {"sequences": sequence, "optionals": optional, "maps": mapped}.items():
        info = lambda wrap=wrap: field(11, b"\x0a\x01x" + field(2, nested(3000, wrap)))  # noqa: E731
        yield Case(f"3000 nested {name}", 2, limit, lambda info=info: in_graph(info()))
    typed = lambda: field(5, b"\x0a\x01t" + field(14, nested(3000, sequence)) + b"\xa0\x01\x0d")  # noqa: E731
    yield Case(
        "3000 nested sequences in an attribute",
        2,
        limit,
        lambda: in_graph(field(1, OP + typed())),
    )
    yield Case(
        "nested subgraphs in a function",
        2,
        limit,
        lambda: in_graph(b"") + field(25, b"\x0a\x01f" + field(7, deep_node())),
    )


FLOODS = {
    "empty nodes": (b"\x0a\x00", "load DecodeError"),
    "empty initializers": (b"\x2a\x00", "load DecodeError"),
    "empty inputs": (b"\x5a\x00", "load DecodeError"),
    "empty value_info": (b"\x6a\x00", "load DecodeError"),
    "smallest nodes": (b"\x0a\x03\x22\x01A", "check CheckError"),
    "graph metadata": (b"\x82\x01\x00", "accepted"),
    "unknown fields": (b"\xf8\x07\x01", "accepted"),
    "quantization annotations": (b"\x72\x03\x0a\x01a", "accepted"),
    "sparse initializers": (b"\x7a\x00", "load DecodeError"),
}


def amplification() -> Iterator[Case]:
    for name, (payload, verdict) in FLOODS.items():
        yield Case(
            f"an eighth of a megabyte of {name}",
            3,
            verdict,
            lambda payload=payload: in_graph(payload * (MIB // 8 // len(payload))),
        )
    for name, payload in {"inputs": b"\x0a\x00", "attributes": b"\x2a\x00"}.items():
        verdict = "check CheckError" if name == "inputs" else "load DecodeError"
        yield Case(
            f"an eighth of a megabyte of {name} of one node",
            3,
            verdict,
            lambda payload=payload: in_graph(field(1, OP + payload * (MIB // 16))),
        )
    yield Case(
        "an eighth of a megabyte of opsets",
        3,
        "accepted",
        lambda: whole() + b"\x42\x02\x10\x11" * (MIB // 32),
    )
    yield Case(
        "an eighth of a megabyte of functions",
        3,
        "load DecodeError",
        lambda: whole() + b"\xca\x01\x00" * (MIB // 24),
    )
    yield Case(
        "an eighth of a megabyte of dims",
        3,
        "load LimitError",
        lambda: in_graph(field(5, b"\x08\x01" * (MIB // 16) + b"\x10\x01")),
    )
    yield Case(
        "a tensor of an eighth of a megabyte of empty strings",
        3,
        "accepted",
        lambda: whole(
            field(
                5,
                varint_field(1, MIB // 16) + b"\x10\x08" + b"\x32\x00" * (MIB // 16) + b"\x42\x01t",
            )
        ),
    )
    yield Case(
        "an eighth of a megabyte of bits of 2",
        3,
        "accepted",
        lambda: whole(
            field(
                5,
                varint_field(1, MIB // 2) + b"\x10\x1a" + field(9, bytes(MIB // 8)) + b"\x42\x01t",
            )
        ),
    )


def varint_field(number: int, value: int) -> bytes:
    return varint(number * 8) + varint(value)


def whole(more: bytes = b"") -> bytes:
    """The seed with `more` at the end of its graph."""
    model = seed()
    graph = model.graph.SerializeToString() + more
    model.ClearField("graph")
    return model.SerializeToString() + field(7, graph)


def text() -> Iterator[Case]:
    for what, new in {
        "lone byte": b"a\xffd",
        "surrogate": b"\xed\xa0\x80",
        "cut": b"ad\xe2",
        "overlong": b"a\xc0\x80",
    }.items():
        yield Case(
            f"a node's name that is not UTF-8: {what}",
            4,
            "load DecodeError",
            lambda new=new: changed(add=new),
        )
    yield Case(
        "an operator that is not UTF-8",
        4,
        "load DecodeError",
        lambda: changed(LeakyRelu=b"LeakyRel\xff"),
    )
    yield Case(
        "an operator with NUL", 4, "check CheckError", lambda: changed(LeakyRelu=b"Leaky\0elu")
    )
    yield Case(
        "an operator in escape codes",
        4,
        "check CheckError",
        lambda: changed(LeakyRelu=b"\x1b[31mEvil"),
    )
    yield Case("names with NUL", 4, "accepted", lambda: changed(add=b"a\0d"))
    yield Case("names with direction marks", 4, "accepted", lambda: changed(add=b"\xe2\x80\xae"))
    big = lambda size: renamed("s", "s" * size)  # noqa: E731
    yield Case("a name of an eighth of a megabyte", 4, "accepted", lambda: big(MIB // 16))
    yield Case("a name over the limit", 4, "load LimitError", lambda: big(MIB + 1))
    yield Case(
        "an operator of an eighth of a megabyte",
        4,
        "check CheckError",
        lambda: operator_called("A" * (MIB // 8)),
    )
    yield Case(
        "a name of quotes and newlines",
        4,
        "check CheckError",
        lambda: operator_called("A'\"\n\r\t\\" * 40),
    )
    yield Case(
        "prose that is not UTF-8",
        4,
        "accepted",
        lambda: seed().SerializeToString() + field(6, b"\xff\xfe"),
    )


def renamed(old: str, new: str) -> bytes:
    model = seed()
    for node in model.graph.node:
        node.input[:] = [new if name == old else name for name in node.input]
        node.output[:] = [new if name == old else name for name in node.output]
    return model.SerializeToString()


def operator_called(name: str) -> bytes:
    model = seed()
    model.graph.node[0].op_type = name
    return model.SerializeToString()


def merged() -> Iterator[Case]:
    data = seed().SerializeToString()
    yield Case("ir_version twice", 5, "accepted", lambda: b"\x08\x01" + data)
    yield Case("ir_version again, too new", 5, "check CheckError", lambda: data + b"\x08\x63")
    yield Case("a graph in two parts", 5, "accepted", split_graph)
    yield Case(
        "an initializer of two graphs' parts",
        5,
        "check CheckError",
        lambda: data + field(7, seed().graph.SerializeToString()),
    )
    yield Case("an attribute's tensor in two parts", 5, "accepted", split_tensor)
    yield Case(
        "an attribute whose name comes twice",
        5,
        "check CheckError",
        lambda: attribute(field(1, b"a") + field(1, b"b") + b"\x18\x01"),
    )


def split_graph() -> bytes:
    model = seed()
    parts = [field(7, field(1, node.SerializeToString())) for node in model.graph.node]
    del model.graph.node[:]
    return model.SerializeToString() + b"".join(parts)


def split_tensor() -> bytes:
    tensor = field(5, b"\x08\x01") + field(5, b"\x10\x01" + field(9, b"abcd"))
    node = field(4, b"Constant") + field(2, b"c") + field(5, field(1, b"value") + tensor)
    return whole(field(1, node))


def attribute(body: bytes) -> bytes:
    """The seed whose second node has the attribute of bytes `body`."""
    model = seed()
    del model.graph.node[1].attribute[:]
    node = model.graph.node[1].SerializeToString() + field(5, body)
    del model.graph.node[1]
    graph = model.graph.SerializeToString() + field(1, node)
    model.ClearField("graph")
    return model.SerializeToString() + field(7, graph)


TENSORS = {
    "negative dim": {"dims": [-1], "data_type": 1},
    "smallest dim": {"dims": [-(2**63)], "data_type": 1},
    "2^64 elements": {"dims": [2**62, 4], "data_type": 1},
    "2^64 elements beside zero": {"dims": [0, 2**62, 4], "data_type": 1},
    "a product that wraps to 1": {
        "dims": [2**32 + 1, 2**32 - 1],
        "data_type": 1,
        "raw_data": b"1234",
    },
    "raw data too short": {"dims": [2], "data_type": 1, "raw_data": b"1234567"},
    "raw data too long": {"dims": [], "data_type": 3, "raw_data": b"12"},
    "raw data of a giant": {"dims": [2**40], "data_type": 1, "raw_data": b"1234"},
    "4 bits too short": {"dims": [3], "data_type": 22, "raw_data": b"1"},
    "4 bits too long": {"dims": [3], "data_type": 21, "raw_data": b"123"},
    "2 bits too short": {"dims": [5], "data_type": 25, "raw_data": b"1"},
    "6 bits too short": {"dims": [3], "data_type": 27, "raw_data": b"12"},
    "too few values": {"dims": [2], "data_type": 6, "int32_data": [1]},
    "too many values": {"dims": [], "data_type": 7, "int64_data": [1, 2]},
    "odd complex": {"dims": [1], "data_type": 14, "float_data": [1]},
    "no data": {"dims": [2], "data_type": 1},
    "wrong field": {"dims": [1], "data_type": 7, "int32_data": [1]},
    "no type": {"dims": [1], "float_data": [1]},
    "raw strings": {"dims": [1], "data_type": 8, "raw_data": b"a"},
    "too few strings": {"dims": [2], "data_type": 8, "string_data": [b"a"]},
}
TWICE = {
    "two fields": {"dims": [1], "data_type": 1, "float_data": [1], "raw_data": b"1234"},
    "two typed fields": {"dims": [1], "data_type": 1, "float_data": [1], "int32_data": [1]},
    "external with data": {"dims": [1], "data_type": 1, "raw_data": b"1234", "data_location": 1},
}


def tensors() -> Iterator[Case]:
    for fields, number in ((TENSORS, 6), (TWICE, 7)):
        for name, values in fields.items():
            tensor = TensorProto(name="t", **values)
            yield Case(
                f"weight: {name}",
                number,
                "load DecodeError",
                lambda tensor=tensor: whole(field(5, tensor.SerializeToString())),
            )
    for name in ("negative dim", "raw data too short", "2^64 elements"):
        tensor = TensorProto(name="t", **TENSORS[name])
        yield Case(
            f"attribute: {name}",
            6,
            "load DecodeError",
            lambda tensor=tensor: attribute(
                field(1, b"alpha") + field(5, tensor.SerializeToString())
            ),
        )
    many = TensorProto(name="t", dims=[1] * 65, data_type=1, raw_data=b"1234")
    yield Case(
        "weight: rank 65", 6, "load LimitError", lambda: whole(field(5, many.SerializeToString()))
    )
    unknown = TensorProto(name="t", dims=[1], data_type=99, raw_data=b"1234")
    yield Case(
        "weight: type 99",
        6,
        "load UnsupportedError",
        lambda: whole(field(5, unknown.SerializeToString())),
    )
    info = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1] * 70)
    yield Case(
        "input of rank 70",
        6,
        "load LimitError",
        lambda: in_graph(field(11, info.SerializeToString())),
    )
    yield from sparse()


def sparse() -> Iterator[Case]:
    def make(values: list[float], indices: list[int], shape: list[int], dims: list[int]) -> bytes:
        sparse = onnx.SparseTensorProto(
            values=TensorProto(name="t", dims=[len(values)], data_type=1, float_data=values),
            indices=TensorProto(dims=shape, data_type=7, int64_data=indices),
            dims=dims,
        )
        return whole(
            field(15, sparse.SerializeToString())
            + field(1, field(1, b"t") + field(2, b"u") + field(4, b"Neg"))
        )

    yield Case("sparse: index outside", 6, "check CheckError", lambda: make([1.0], [9], [1], [5]))
    yield Case("sparse: negative index", 6, "check CheckError", lambda: make([1.0], [-1], [1], [5]))
    yield Case(
        "sparse: indices out of order",
        6,
        "check CheckError",
        lambda: make([1.0, 2.0], [3, 1], [2], [5]),
    )
    yield Case(
        "sparse: index twice", 6, "check CheckError", lambda: make([1.0, 2.0], [1, 1], [2], [5])
    )
    yield Case(
        "sparse: too few indices", 6, "check CheckError", lambda: make([1.0, 2.0], [1], [1], [5])
    )
    yield Case(
        "sparse: wrong rank of indices",
        6,
        "check CheckError",
        lambda: make([1.0], [1, 1, 1], [1, 3], [5, 5]),
    )
    yield Case(
        "sparse: dense form of a petabyte",
        16,
        "accepted",
        lambda: make([1.0], [9], [1], [2**50]),
    )


def both() -> Iterator[Case]:
    value = "load DecodeError"
    yield Case(
        "attribute with f and i",
        7,
        value,
        lambda: attribute(field(1, b"alpha") + b"\x15\0\0\0\0" + b"\x18\x01"),
    )
    yield Case(
        "attribute with a value of another type",
        7,
        value,
        lambda: attribute(field(1, b"alpha") + b"\x18\x01" + b"\xa0\x01\x01"),
    )
    yield Case(
        "attribute of an unknown type",
        7,
        value,
        lambda: attribute(field(1, b"alpha") + b"\xa0\x01\x63"),
    )
    yield Case(
        "dimension with size and name",
        7,
        value,
        lambda: in_graph(
            field(
                11,
                b"\x0a\x01x"
                + field(2, field(1, b"\x08\x01" + field(2, field(1, b"\x08\x01\x12\x01N")))),
            )
        ),
    )
    yield Case(
        "a type that is two types",
        7,
        value,
        lambda: in_graph(
            field(11, b"\x0a\x01x" + field(2, field(1, b"\x08\x01") + field(4, field(1, b""))))
        ),
    )
    data = seed().SerializeToString()
    yield Case(
        "a metadata key with two values",
        7,
        value,
        lambda: data + field(14, b"\x0a\x01k\x12\x01a") + field(14, b"\x0a\x01k\x12\x01b"),
    )
    yield Case("two versions of one operator set", 14, value, lambda: data + field(8, b"\x10\x07"))
    yield Case("two attributes of one name", 14, value, twice_named)


def twice_named() -> bytes:
    model = seed()
    model.graph.node[1].attribute.add(name="alpha", f=1.0, type=1)
    return model.SerializeToString()


FOREIGN = {
    "an empty file": b"",
    "text": b"hello, world\n" * 9,
    "a Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n",
    "a zip archive": b"PK\x03\x04" + bytes(60),
    "a gzip bomb": bytes.fromhex("1f8b0800000000000003") + bytes(1000),
    "a web page": b"\n<!DOCTYPE html><html></html>",
    "JSON": b'{"a": 1}',
    "deep JSON": b"[" * 100_000,
    "safetensors": b"\x08\x00\x00\x00\x00\x00\x00\x00" + b'{"a":{}}',
    "zeros": bytes(1000),
}
PICKLES = {
    "a pickle of protocol 2": b"\x80\x02}q\x00.",
    "a pickle that runs a command": b"\x80\x04cos\nsystem\n(S'true'\ntR.",
}


def foreign() -> Iterator[Case]:
    for number, found in ((20, FOREIGN), (21, PICKLES)):
        for name, data in found.items():
            yield Case(name, number, "load DecodeError", lambda data=data: data)


def cases() -> Iterator[Case]:
    for family in (structure, depth, amplification, text, merged, tensors, both, foreign):
        yield from family()
