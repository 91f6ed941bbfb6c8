"""Files beside the model: classes 8 to 11."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import onnx
from onnx import TensorProto, helper

from hostile.corpus import Case, posix
from hostile.wire import field, seed, whole

REFUSED = "load ExternalDataError"


def external(location: str | None, **keys: object) -> TensorProto:
    """A tensor of 16 floats whose data is at `location`."""
    tensor = TensorProto(name="t", dims=[16], data_type=1, data_location=1)
    if location is not None:
        tensor.external_data.add(key="location", value=location)
    for key, value in keys.items():
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def as_initializer(tensor: TensorProto) -> bytes:
    return whole(field(5, tensor.SerializeToString()))


def as_sparse(tensor: TensorProto) -> bytes:
    indices = TensorProto(dims=[16], data_type=7, int64_data=range(16))
    sparse = onnx.SparseTensorProto(values=tensor, indices=indices, dims=[20])
    return whole(field(15, sparse.SerializeToString()))


def as_attribute(tensor: TensorProto) -> bytes:
    node = onnx.NodeProto(op_type="Constant", output=["c"])
    node.attribute.add(name="value", type=4).t.CopyFrom(tensor)
    return whole(field(1, node.SerializeToString()))


def as_subgraph(tensor: TensorProto) -> bytes:
    model = seed()
    branch = helper.make_graph(
        [helper.make_node("Identity", ["t"], ["b"])],
        "branch",
        [],
        [helper.make_tensor_value_info("b", 1, [16])],
    )
    branch.initializer.append(tensor)
    model.graph.node.append(
        helper.make_node("If", ["c"], ["z"], then_branch=branch, else_branch=branch)
    )
    model.graph.initializer.append(helper.make_tensor("c", TensorProto.BOOL, [], [True]))
    return model.SerializeToString()


def as_function(tensor: TensorProto) -> bytes:
    model = seed()
    node = onnx.NodeProto(op_type="Constant", output=["c"])
    node.attribute.add(name="value", type=4).t.CopyFrom(tensor)
    model.functions.append(
        helper.make_function("own", "F", [], ["c"], [node], [helper.make_opsetid("", 17)])
    )
    model.opset_import.add(domain="own", version=1)
    model.graph.node.append(helper.make_node("F", [], ["z"], domain="own"))
    return model.SerializeToString()


WRAPPED = {
    "initializer": as_initializer,
    "sparse": as_sparse,
    "attribute": as_attribute,
    "subgraph": as_subgraph,
    "function": as_function,
}

LOCATIONS = {
    "none": None,
    "empty": "",
    "parent": "../outside/secret",
    "parent within": "sub/../../outside/secret",
    "back to the folder": "sub/../data",
    "absolute": "/etc/passwd",
    "two slashes": "//etc/passwd",
    "drive": "C:/secret",
    "relative drive": "c:secret",
    "backslash": "sub\\data",
    "backslash parent": "..\\outside\\secret",
    "server": "\\\\server\\share",
    "NUL": "data\0.txt",
    "the folder": ".",
    "a folder": "sub/",
    "too long": "x" * 5000,
    "deep": "x/" * 2000 + "y",
    "missing": "missing",
    "through a file": "data/inner",
    "URL": "file:///etc/passwd",
    "percent signs": "%2e%2e/outside/secret",
    "home": "~/secret",
}


def locations() -> Iterator[Case]:
    for what, location in LOCATIONS.items():
        tensor = external(location)
        yield Case(f"location: {what}", 8, REFUSED, lambda t=tensor: as_initializer(t), with_data)
    for where, wrap in WRAPPED.items():
        tensor = external("../outside/secret")
        yield Case(
            f"location in {where}: parent", 8, REFUSED, lambda w=wrap, t=tensor: w(t), with_data
        )
        tensor = external("data")
        yield Case(
            f"location in {where}: sound", 8, "accepted", lambda w=wrap, t=tensor: w(t), with_data
        )


def with_data(folder: Path) -> None:
    (folder / "data").write_bytes(bytes(64))
    (folder / "sub").mkdir()


def hard_link(folder: Path) -> None:
    os.link(folder.parent / "outside" / "secret", folder / "data")


def symbolic_link(folder: Path) -> None:
    (folder / "data").symlink_to("../outside/secret")


def link_inside(folder: Path) -> None:
    (folder / "real").write_bytes(bytes(64))
    (folder / "data").symlink_to("real")


def link_to_itself(folder: Path) -> None:
    (folder / "data").symlink_to("data")


def link_to_nothing(folder: Path) -> None:
    (folder / "data").symlink_to("nothing")


def link_to_a_descriptor(folder: Path) -> None:
    (folder / "data").symlink_to("/proc/self/fd/0")


def pipe(folder: Path) -> None:
    os.mkfifo(folder / "data")


def socket(folder: Path) -> None:
    import socket as sockets

    here = Path.cwd()
    os.chdir(folder)
    try:
        with sockets.socket(sockets.AF_UNIX) as made:
            made.bind("data")
    finally:
        os.chdir(here)


def directory(folder: Path) -> None:
    (folder / "data").mkdir()


def linked_parent(folder: Path) -> None:
    (folder / "sub").symlink_to("../outside")


def linked_grandparent(folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "sub" / "a").symlink_to("../../outside")


KINDS: dict[str, tuple[Callable[[Path], None], str]] = {
    "hard link": (hard_link, "data"),
    "symbolic link": (symbolic_link, "data"),
    "symbolic link inside": (link_inside, "data"),
    "link to itself": (link_to_itself, "data"),
    "link to nothing": (link_to_nothing, "data"),
    "link to a descriptor": (link_to_a_descriptor, "data"),
    "named pipe": (pipe, "data"),
    "socket": (socket, "data"),
    "directory": (directory, "data"),
    "symlinked parent": (linked_parent, "sub/secret"),
    "symlinked grandparent": (linked_grandparent, "sub/a/secret"),
}


def kinds() -> Iterator[Case]:
    if not posix:
        return
    for what, (make, location) in KINDS.items():
        for where, wrap in WRAPPED.items():
            if where != "initializer" and what not in {
                "hard link",
                "symlinked parent",
                "named pipe",
            }:
                continue
            tensor = external(location)
            yield Case(f"{what} of {where}", 8, REFUSED, lambda w=wrap, t=tensor: w(t), make)


RANGES = {
    "negative offset": {"offset": -1},
    "negative length": {"length": -64},
    "offset that is no number": {"offset": "0x10"},
    "offset with spaces": {"offset": " 0 "},
    "offset with other digits": {"offset": "\u0661"},
    "offset with an underscore": {"offset": "1_0"},
    "offset of 4000 digits": {"offset": "9" * 4000},
    "offset past the end": {"offset": 4096},
    "range past the end": {"offset": 1},
    "range that wraps": {"offset": 2**63 - 1},
    "length too short": {"length": 60},
    "length too long": {"length": 68},
    "length of 2^63": {"length": 2**63},
    "length of 2^62": {"length": 2**62},
    "checksum that is none": {"checksum": "abc"},
    "checksum that is wrong": {"checksum": "0" * 40},
    "unknown key": {"basepath": "/etc"},
    "dunder key": {"__class__": "x"},
    "method key": {"numpy": "x"},
}


def ranges() -> Iterator[Case]:
    for what, keys in RANGES.items():
        tensor = external("data", **keys)
        yield Case(f"range: {what}", 9, REFUSED, lambda t=tensor: as_initializer(t), with_data)
    twice = external("data")
    twice.external_data.add(key="location", value="data")
    yield Case("range: key twice", 9, REFUSED, lambda: as_initializer(twice), with_data)
    strings = TensorProto(name="t", dims=[1], data_type=8, data_location=1)
    strings.external_data.add(key="location", value="data")
    yield Case("range: strings", 9, REFUSED, lambda: as_initializer(strings), with_data)
    huge = external("data")
    huge.dims[:] = [2**61]
    yield Case("range: 2^63 bytes", 9, REFUSED, lambda: as_initializer(huge), with_data)
    wide = external("data")
    wide.dims[:] = [1] * 65
    yield Case("range: rank 65", 9, "load LimitError", lambda: as_initializer(wide), with_data)
    yield Case("range: overlapping", 9, REFUSED, overlapping, with_more)
    yield Case("range: shared", 9, "accepted", shared, with_more)
    yield Case("range: two checksums", 9, REFUSED, two_checksums, with_data)


def with_more(folder: Path) -> None:
    (folder / "data").write_bytes(bytes(4096))


def overlapping() -> bytes:
    first, second = external("data", offset=0), external("data", offset=32)
    second.name = "u"
    return whole(field(5, first.SerializeToString()) + field(5, second.SerializeToString()))


def shared() -> bytes:
    first, second = external("data", offset=0), external("data", offset=0)
    second.name = "u"
    return whole(field(5, first.SerializeToString()) + field(5, second.SerializeToString()))


def two_checksums() -> bytes:
    first, second = external("data", checksum="0" * 40), external("data", checksum="1" * 40)
    second.name = "u"
    return whole(field(5, first.SerializeToString()) + field(5, second.SerializeToString()))


def cases() -> Iterator[Case]:
    for family in (locations, kinds, ranges):
        yield from family()
