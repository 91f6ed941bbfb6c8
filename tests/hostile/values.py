"""Sizes and data that break arithmetic: classes 16 and 18."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
from onnx import TensorProto
from onnx.helper import make_node as node

from hostile.corpus import Case
from hostile.graphs import INT64, STRING, info, model, one

GIANT = 2**40
ROW = np.zeros((1, 8), np.float32)

BOMBS: dict[str, tuple[Any, ...]] = {
    "ConstantOfShape": ("ConstantOfShape", [np.int64([GIANT])], {}),
    "ConstantOfShape of 2^126": ("ConstantOfShape", [np.int64([2**63 - 1, 2**63 - 1])], {}),
    "ConstantOfShape of rank 100": ("ConstantOfShape", [np.ones(100, np.int64)], {}),
    "ConstantOfShape of rank 100,000": ("ConstantOfShape", [np.ones(100_000, np.int64)], {}),
    "Range": ("Range", [np.int64(0), np.int64(GIANT), np.int64(1)], {"kind": INT64}),
    "Range of 2^64": (
        "Range",
        [np.int64(-(2**63)), np.int64(2**63 - 1), np.int64(1)],
        {"kind": INT64},
    ),
    "Range of floats": ("Range", [np.float32(0), np.float32(1e30), np.float32(1)], {}),
    "Range by denormals": (
        "Range",
        [np.float64(0), np.float64(1), np.float64(5e-324)],
        {"kind": TensorProto.DOUBLE},
    ),
    "Tile": ("Tile", [ROW, np.int64([GIANT, 1])], {}),
    "Tile that wraps": ("Tile", [ROW, np.int64([2**32, 2**32])], {}),
    "Expand": ("Expand", [ROW, np.int64([GIANT, 8])], {}),
    "Pad": ("Pad", [ROW, np.int64([GIANT, 0, 0, 0])], {}),
    "Pad at both ends": ("Pad", [ROW, np.int64([2**62, 0, 2**62, 0])], {}),
    "Pad by reflection": ("Pad", [ROW, np.int64([0, GIANT, 0, 0])], {"mode": "reflect"}),
    "Resize by scales": (
        "Resize",
        [[1, 1, 2, 2], np.float32([]), np.float32([1, 1, 1e9, 1e9])],
        {},
    ),
    "Resize by sizes": (
        "Resize",
        [[1, 1, 2, 2], np.float32([]), np.float32([]), np.int64([1, 1, 2**40, 2**40])],
        {},
    ),
    "Resize by infinity": (
        "Resize",
        [[1, 1, 2, 2], np.float32([]), np.float32([1, 1, np.inf, 1])],
        {},
    ),
    "Resize by NaN": ("Resize", [[1, 1, 2, 2], np.float32([]), np.float32([1, 1, np.nan, 1])], {}),
    "Upsample": ("Upsample", [[1, 1, 2, 2], np.float32([1, 1, 1e9, 1e9])], {"opset": 9}),
    "OneHot": ("OneHot", [np.int64([0]), np.int64(GIANT), np.float32([0, 1])], {}),
    "OneHot of 2^62": ("OneHot", [np.int64([0]), np.int64(2**62), np.float32([0, 1])], {}),
    "DFT": ("DFT", [np.zeros((1, 8, 1), np.float32), np.int64(GIANT)], {}),
    "STFT": (
        "STFT",
        [np.zeros((1, 1 << 18, 1), np.float32), np.int64(1), np.ones(1 << 12, np.float32)],
        {},
    ),
    "HannWindow": ("HannWindow", [np.int64(GIANT)], {}),
    "MelWeightMatrix": (
        "MelWeightMatrix",
        [np.int64(GIANT), np.int64(GIANT), np.int64(44100), np.float32(0), np.float32(1)],
        {},
    ),
    "EyeLike": ("EyeLike", [np.zeros((4, 4), np.float32)], {"k": 2**62}),
    "RandomNormal": ("RandomNormal", [], {"shape": [GIANT]}),
    "RandomUniform of 2^126": ("RandomUniform", [], {"shape": [2**63 - 1, 2**63 - 1]}),
    "Multinomial": ("Multinomial", [ROW], {"sample_size": 2**40}),
    "Conv by padding": (
        "Conv",
        [[1, 1, 2, 2], np.ones((1, 1, 1, 1), np.float32)],
        {"pads": [2**20] * 4},
    ),
    "ConvTranspose by stride": (
        "ConvTranspose",
        [[1, 1, 2, 2], np.ones((1, 1, 1, 1), np.float32)],
        {"strides": [2**30, 2**30]},
    ),
    "ConvTranspose by output_padding": (
        "ConvTranspose",
        [[1, 1, 2, 2], np.ones((1, 1, 1, 1), np.float32)],
        {"output_padding": [2**30, 2**30], "strides": [2**30 + 1, 2**30 + 1]},
    ),
    "MaxPool by padding": (
        "MaxPool",
        [[1, 1, 2, 2]],
        {"kernel_shape": [2**21, 2**21], "pads": [2**20] * 4},
    ),
    "AveragePool by padding": (
        "AveragePool",
        [[1, 1, 2, 2]],
        {"kernel_shape": [2**21, 2**21], "pads": [2**20] * 4},
    ),
    "MaxUnpool": (
        "MaxUnpool",
        [
            np.zeros((1, 1, 1, 1), np.float32),
            np.zeros((1, 1, 1, 1), np.int64),
            np.int64([1, 1, 2**30, 2**30]),
        ],
        {"kernel_shape": [1, 1]},
    ),
    "Col2Im": (
        "Col2Im",
        [np.zeros((1, 1, 1), np.float32), np.int64([2**30, 2**30]), np.int64([1, 1])],
        {"opset": 18},
    ),
    "CenterCropPad": ("CenterCropPad", [ROW, np.int64([GIANT, 8])], {"opset": 18}),
    "AffineGrid": (
        "AffineGrid",
        [np.zeros((1, 2, 3), np.float32), np.int64([1, 1, 2**30, 2**30])],
        {"opset": 20},
    ),
    "RoiAlign": (
        "RoiAlign",
        [[1, 1, 2, 2], np.zeros((1, 4), np.float32), np.int64([0])],
        {"output_height": 2**30, "output_width": 2**30},
    ),
    "RoiAlign by sampling": (
        "RoiAlign",
        [[1, 1, 2, 2], np.float32([[0, 0, 2, 2]]), np.int64([0])],
        {"sampling_ratio": 2**30},
    ),
    "MaxRoiPool": (
        "MaxRoiPool",
        [[1, 1, 2, 2], np.zeros((1, 5), np.float32)],
        {"pooled_shape": [2**30, 2**30]},
    ),
    "MatMul by broadcasting": (
        "MatMul",
        [np.zeros((4096, 1, 1), np.float32), np.zeros((4096, 1), np.float32)],
        {},
    ),
    "Add by broadcasting": (
        "Add",
        [np.zeros((1 << 14, 1), np.float32), np.zeros((1, 1 << 14), np.float32)],
        {},
    ),
    "Einsum by broadcasting": (
        "Einsum",
        [np.zeros(4096, np.float32)] * 4,
        {"equation": "a,b,c,d->abcd"},
    ),
    "Einsum of many sums": (
        "Einsum",
        [np.zeros(4096, np.float32)] * 10,
        {"equation": "a,b,c,d,e,f,g,h,i,j->"},
    ),
    "Einsum of a giant middle": (
        "Einsum",
        [np.zeros((2048, 2), np.float32)] * 3,
        {"equation": "ax,bx,cx->"},
    ),
    "Gather": ("Gather", [np.zeros((2, 4096), np.float32), np.zeros(4096 * 4, np.int64)], {}),
    "GatherND": (
        "GatherND",
        [np.zeros((2, 4096), np.float32), np.zeros((4096 * 4, 1), np.int64)],
        {},
    ),
    "GatherElements": (
        "GatherElements",
        [np.zeros((2, 2), np.float32), np.zeros((2, 2), np.int64)],
        {},
    ),
    "Concat of itself": ("Concat", [np.zeros((1 << 16), np.float32)] * 40, {"axis": 0}),
    "Compress": ("Compress", [ROW, np.ones(8, bool)], {"axis": 1}),
    "NonMaxSuppression": (
        "NonMaxSuppression",
        [np.zeros((1, 3000, 4), np.float32), np.zeros((1, 1, 3000), np.float32), np.int64(2**62)],
        {},
    ),
    "StringConcat": (
        "StringConcat",
        [np.array(["a" * 4000] * 64, object).reshape(64, 1), np.array(["b" * 4000] * 64, object)],
        {"opset": 20},
    ),
    "StringSplit": (
        "StringSplit",
        [np.array(["a " * 10_000, *[""] * 4000], object)],
        {"opset": 20, "two": True},
    ),
    "Trilu": ("Trilu", [ROW, np.int64(2**62)], {}),
    "GlobalLpPool": ("GlobalLpPool", [[1, 1, 2, 2]], {"p": 2**62}),
    "LRN": ("LRN", [[1, 1, 2, 2]], {"size": 2**62 + 1}),
    "DepthToSpace": ("DepthToSpace", [[1, 1, 2, 2]], {"blocksize": 2**31}),
    "GRU of a giant hidden_size": (
        "GRU",
        [[2, 1, 3], np.zeros((1, 3, 3), np.float32), np.zeros((1, 3, 1), np.float32)],
        {"hidden_size": 2**40},
    ),
    "ReverseSequence": (
        "ReverseSequence",
        [np.zeros((2, 2), np.float32), np.int64([2**62, 2])],
        {},
    ),
    "ImageDecoder of a giant": (
        "ImageDecoder",
        [
            np.frombuffer(
                bytes.fromhex("89504e470d0a1a0a0000000d494844527fffffff7fffffff0802000000")
                + bytes(64),
                np.uint8,
            )
        ],
        {"opset": 20},
    ),
}


HARMLESS = frozenset(
    {
        "EyeLike",
        "MaxPool by padding",
        "AveragePool by padding",
        "Einsum of many sums",
        "Einsum of a giant middle",
        "GatherElements",
        "Compress",
        "NonMaxSuppression",
        "Trilu",
        "GlobalLpPool",
        "LRN",
        "ImageDecoder of a giant",
        "Mul of a shape 100 times",
        "Add of a shape 2000 times",
        "Pow of a shape 30 times",
        "Max of a shape 1000 times",
        "every arithmetic 500 times",
        "Cast of 65,536 numbers to text",
        "20 arrays of 4 MiB alive at once",
    }
)
OTHERWISE = {
    "Range by denormals": "check CheckError",
    "Resize by infinity": "check CheckError",
    "Resize by NaN": "check CheckError",
    "Col2Im": "run ExecutionError",
    "MatMul by broadcasting": "check CheckError",
    "DepthToSpace": "check CheckError",
    "GRU of a giant hidden_size": "check CheckError",
    "ReverseSequence": "run ExecutionError",
    "a giant Expand by multiplying": "check CheckError",
}


def verdict(name: str) -> str:
    """A bomb is defused by a limit, unless it is none or is refused before that."""
    return "accepted" if name in HARMLESS else OTHERWISE.get(name, "run LimitError")


def bombs() -> Iterator[Case]:
    for name, (op, shapes, options) in BOMBS.items():
        given = dict(options)
        opset = given.pop("opset", 17)
        if given.pop("two", False):
            yield Case(f"bomb: {name}", 16, verdict(name), partial(split_text, *shapes))
            continue
        yield Case(
            f"bomb: {name}",
            16,
            verdict(name),
            lambda op=op, shapes=shapes, opset=opset, given=given: one(
                op, *shapes, opset=opset, **given
            ),
        )
    for name, make in CHAINS.items():
        yield Case(f"chain: {name}", 16, verdict(name), make)


def split_text(text: Any) -> bytes:
    """A StringSplit, which has two outputs."""
    return model([node("StringSplit", ["x"], ["y", "n"])], weights={"x": text}, opset=20)


def chain_of(op: str, count: int, **options: Any) -> bytes:
    """x = Op(x, x) `count` times, from the shape of an input of unknown size."""
    nodes = [node("Shape", ["x"], ["v0"])]
    nodes += [node(op, [f"v{i}", f"v{i}"], [f"v{i + 1}"], **options) for i in range(count)]
    return model(nodes, [info("x", ["N", 5])], kind=INT64)


def symbolic(op: str) -> bytes:
    nodes = [
        node("Shape", ["x"], ["n"]),
        node("Mul", ["n", "n"], ["m"]),
        node("Mul", ["m", "m"], ["k"]),
    ]
    nodes += [node("Mul", ["k", "k"], ["j"]), node("ConstantOfShape", ["j"], ["y"])]
    if op != "ConstantOfShape":
        nodes[-1:] = [node("Expand", ["x", "j"], ["y"])]
    return model(nodes, [info("x", ["N", 9])])


def mixed(count: int) -> bytes:
    """Concat of the last two, Gather of one, Mul, Sub and Div, so that dims grow in every way."""
    nodes = [node("Shape", ["x"], ["v0"]), node("Shape", ["z"], ["v1"])]
    ops = ["Mul", "Add", "Sub", "Div", "Max", "Min", "Mod"]
    nodes += [node(ops[i % 7], [f"v{i}", f"v{i + 1}"], [f"v{i + 2}"]) for i in range(count)]
    return model(nodes, [info("x", ["N", "M"]), info("z", ["K", "L"])], kind=INT64)


def doubling(count: int) -> bytes:
    nodes = [node("Concat", [f"v{i}", f"v{i}"], [f"v{i + 1}"], axis=0) for i in range(count)]
    return model(nodes, [info("v0", [1])])


def identities(count: int) -> bytes:
    nodes = [node("ConstantOfShape", ["n"], ["v0"])]
    nodes += [node("Neg", [f"v{i}"], [f"v{i + 1}"]) for i in range(count)]
    nodes.append(node("Sum", [f"v{i}" for i in range(count)], ["y"]))
    return model(nodes, weights={"n": np.int64([1 << 20])})


def outer(count: int) -> bytes:
    nodes = [node("Unsqueeze", [f"v{i}", "zero"], [f"w{i}"]) for i in range(1)] + [
        node("Einsum", ["v0", "v0"], ["y"], equation="a,b->ab"),
        node("Einsum", ["y", "y"], ["z"], equation="ab,cd->abcd"),
    ]
    return model(nodes, [info("v0", [count])], weights={"zero": np.int64([0])}, outputs=["z"])


def text_doubling(count: int) -> bytes:
    nodes = [node("StringConcat", [f"v{i}", f"v{i}"], [f"v{i + 1}"]) for i in range(count)]
    return model(nodes, weights={"v0": np.array(["ab"], object)}, opset=20)


def sizes_of_text(count: int) -> bytes:
    nodes = [node("Cast", ["x"], ["s"], to=STRING)]
    return model(nodes, weights={"x": np.zeros(count, np.float64)})


CHAINS = {
    "Mul of a shape 100 times": lambda: chain_of("Mul", 100),
    "Add of a shape 2000 times": lambda: chain_of("Add", 2000),
    "Pow of a shape 30 times": lambda: chain_of("Pow", 30),
    "Concat of a shape 40 times": lambda: chain_of("Concat", 40, axis=0),
    "Max of a shape 1000 times": lambda: chain_of("Max", 1000),
    "every arithmetic 500 times": lambda: mixed(500),
    "a giant shape by multiplying": lambda: symbolic("ConstantOfShape"),
    "a giant Expand by multiplying": lambda: symbolic("Expand"),
    "Concat of itself 60 times": lambda: doubling(60),
    "20 arrays of 4 MiB alive at once": lambda: identities(20),
    "products of products": lambda: outer(400),
    "StringConcat of itself 60 times": lambda: text_doubling(60),
    "Cast of 65,536 numbers to text": lambda: sizes_of_text(1 << 16),
}

SMALLEST, LARGEST = -(2**31), 2**31 - 1
INT32 = TensorProto.INT32


KNOWN = "NonMaxSuppression MatMulInteger Multinomial StringNormalizer ImageDecoder DequantizeLinear ConstantOfShape"


def fed(
    op: str,
    kinds: list[int],
    *arrays: Any,
    opset: int = 17,
    kind: int | None = None,
    **attributes: Any,
) -> tuple[Any, Any]:
    """A model of one node whose inputs are fed: what is hostile is the data."""
    names = [f"x{i}" for i in range(len(arrays))]
    inputs = [
        info(name, list(np.shape(a)), kind)
        for name, a, kind in zip(names, arrays, kinds, strict=True)
    ]
    outputs = ["y", "z"] if op == "TopK" else ["y"]
    known = kind or attributes.get("to") or (None if op in KNOWN.split() else kinds[0])
    nodes = [node(op, names, outputs, **attributes)]
    made = partial(model, nodes, inputs, outputs=["y"], opset=opset, kind=known)
    return made, lambda: dict(zip(names, arrays, strict=True))


def data() -> Iterator[Case]:
    small, zero, minus = np.int32([SMALLEST]), np.int32([0]), np.int32([-1])
    long, floats = np.int64([-(2**63)]), np.float32([np.nan, np.inf, -np.inf, 3e38])
    ints = [INT32, INT32]
    image = np.zeros((1, 1, 4, 4), np.float32)
    accepted, refused = "accepted", "run ExecutionError"
    found = {
        "INT_MIN / -1": (fed("Div", ints, small, minus), accepted),
        "INT_MIN % -1": (fed("Mod", ints, small, minus), accepted),
        "INT64_MIN / -1": (fed("Div", [INT64, INT64], long, np.int64([-1])), accepted),
        "1 / 0": (fed("Div", ints, small, zero), "accepted"),
        "1 % 0": (fed("Mod", ints, small, zero), "accepted"),
        "1 % 0 as fmod": (fed("Mod", ints, small, zero, fmod=1), "accepted"),
        "-INT_MIN": (fed("Neg", [INT32], small), accepted),
        "|INT_MIN|": (fed("Abs", [INT32], small), accepted),
        "INT64_MIN * -1": (fed("Mul", [INT64, INT64], long, np.int64([-1])), accepted),
        "0 to the power of -1": (fed("Pow", ints, zero, minus), "accepted"),
        "a power that wraps": (fed("Pow", ints, np.int32([2]), np.int32([LARGEST])), accepted),
        "a shift by the width": (
            fed(
                "BitShift", [TensorProto.UINT8] * 2, np.uint8([1]), np.uint8([8]), direction="LEFT"
            ),
            accepted,
        ),
        "a shift by 255": (
            fed(
                "BitShift",
                [TensorProto.UINT8] * 2,
                np.uint8([1]),
                np.uint8([255]),
                direction="RIGHT",
            ),
            accepted,
        ),
        "a shift of 64 bits by 2^63": (
            fed(
                "BitShift",
                [TensorProto.UINT64] * 2,
                np.uint64([1]),
                np.uint64([2**63]),
                direction="LEFT",
            ),
            accepted,
        ),
        "NaN and infinity to int32": (fed("Cast", [1], floats, to=INT32), accepted),
        "NaN and infinity to int8": (fed("Cast", [1], floats, to=TensorProto.INT8), accepted),
        "NaN and infinity to uint64": (fed("Cast", [1], floats, to=TensorProto.UINT64), accepted),
        "NaN and infinity to bool": (fed("Cast", [1], floats, to=TensorProto.BOOL), accepted),
        "text that is no number": (
            fed("Cast", [STRING], np.array(["evil"], object), to=1),
            refused,
        ),
        "text that is a giant number": (
            fed("Cast", [STRING], np.array(["9" * 100_000], object), to=INT64),
            "accepted",
        ),
        "text of a giant exponent": (
            fed("Cast", [STRING], np.array(["1e999999999"], object), to=1),
            "accepted",
        ),
        "Gather past the end": (fed("Gather", [1, INT64], image, np.int64([9])), refused),
        "Gather before the start": (fed("Gather", [1, INT64], image, np.int64([-9])), refused),
        "Gather of 2^32": (fed("Gather", [1, INT64], image, np.int64([2**32])), refused),
        "GatherElements past the end": (
            fed("GatherElements", [1, INT64], image, np.full((1, 1, 1, 1), 9), axis=3),
            refused,
        ),
        "GatherND past the end": (
            fed("GatherND", [1, INT64], image, np.int64([[0, 0, 0, 9]])),
            refused,
        ),
        "ScatterElements past the end": (
            fed(
                "ScatterElements",
                [1, INT64, 1],
                image,
                np.full((1, 1, 1, 1), 9),
                np.zeros((1, 1, 1, 1), np.float32),
            ),
            refused,
        ),
        "ScatterND before the start": (
            fed("ScatterND", [1, INT64, 1], image, np.int64([[0, 0, 0, -9]]), np.float32([1])),
            refused,
        ),
        "Scatter of an index twice": (
            fed(
                "ScatterElements",
                [1, INT64, 1],
                np.float32([1, 2]),
                np.int64([0, 0]),
                np.float32([3, 4]),
            ),
            accepted,
        ),
        "OneHot outside": (
            fed(
                "OneHot",
                [INT64, INT64, 1],
                np.int64([9, -9]),
                np.int64(3),
                np.float32([0, 1]),
                kind=1,
            ),
            accepted,
        ),
        "OneHot of depth -1": (
            fed(
                "OneHot", [INT64, INT64, 1], np.int64([0]), np.int64(-1), np.float32([0, 1]), kind=1
            ),
            refused,
        ),
        "Reshape to fed sizes": (fed("Reshape", [1, INT64], image, np.int64([2**40])), refused),
        "Reshape to fed -2": (fed("Reshape", [1, INT64], image, np.int64([-2])), refused),
        "Expand to fed sizes": (
            fed("Expand", [1, INT64], image, np.int64([2**20, 1, 4, 4])),
            "run LimitError",
        ),
        "Tile by fed counts": (
            fed("Tile", [1, INT64], image, np.int64([2**62, 1, 1, 1])),
            "run LimitError",
        ),
        "Tile by -1": (fed("Tile", [1, INT64], image, np.int64([-1, 1, 1, 1])), refused),
        "Pad by fed counts": (
            fed("Pad", [1, INT64], image, np.int64([0, 0, 0, 0, 2**30, 0, 0, 0])),
            "run LimitError",
        ),
        "Slice by fed step 0": (
            fed(
                "Slice",
                [1, INT64, INT64, INT64, INT64],
                image,
                np.int64([0]),
                np.int64([1]),
                np.int64([0]),
                np.int64([0]),
            ),
            refused,
        ),
        "Split into fed parts": (
            fed("Split", [1, INT64], image, np.int64([9]), axis=2),
            "run InferenceError",
        ),
        "TopK of -1": (fed("TopK", [1, INT64], np.float32([1, 2]), np.int64([-1])), refused),
        "Range by fed 0": (
            fed("Range", [INT64] * 3, np.int64(0), np.int64(9), np.int64(0)),
            refused,
        ),
        "Range by fed NaN": (
            fed("Range", [1] * 3, np.float32(0), np.float32(np.nan), np.float32(1)),
            refused,
        ),
        "ConstantOfShape of fed sizes": (
            fed("ConstantOfShape", [INT64], np.int64([2**40])),
            "run LimitError",
        ),
        "ConstantOfShape of fed -1": (fed("ConstantOfShape", [INT64], np.int64([-1])), refused),
        "Resize by fed NaN": (
            fed("Resize", [1, 1, 1], image, np.float32([]), np.float32([1, 1, np.nan, 1])),
            "run InferenceError",
        ),
        "RoiAlign of NaN": (
            fed(
                "RoiAlign", [1, 1, INT64], image, np.full((1, 4), np.nan, np.float32), np.int64([0])
            ),
            "accepted",
        ),
        "RoiAlign of another batch": (
            fed("RoiAlign", [1, 1, INT64], image, np.zeros((1, 4), np.float32), np.int64([9])),
            refused,
        ),
        "RoiAlign of giant boxes": (
            fed("RoiAlign", [1, 1, INT64], image, np.float32([[0, 0, 3e38, 3e38]]), np.int64([0])),
            "run LimitError",
        ),
        "MaxRoiPool of NaN": (
            fed(
                "MaxRoiPool",
                [1, 1],
                image,
                np.full((1, 5), np.nan, np.float32),
                pooled_shape=[2, 2],
            ),
            "run ExecutionError",
        ),
        "GridSample of NaN": (
            fed("GridSample", [1, 1], image, np.full((1, 2, 2, 2), np.nan, np.float32)),
            accepted,
        ),
        "GridSample of infinity": (
            fed(
                "GridSample",
                [1, 1],
                image,
                np.full((1, 2, 2, 2), np.inf, np.float32),
                padding_mode="reflection",
            ),
            accepted,
        ),
        "MaxUnpool past the end": (
            fed(
                "MaxUnpool",
                [1, INT64],
                np.zeros((1, 1, 2, 2), np.float32),
                np.full((1, 1, 2, 2), 2**40),
                kernel_shape=[2, 2],
                strides=[2, 2],
            ),
            refused,
        ),
        "NonMaxSuppression of NaN": (
            fed(
                "NonMaxSuppression",
                [1, 1, INT64, 1, 1],
                np.full((1, 4, 4), np.nan, np.float32),
                np.full((1, 1, 4), np.nan, np.float32),
                np.int64(4),
                np.float32(np.nan),
                np.float32(np.nan),
            ),
            accepted,
        ),
        "Multinomial of NaN": (
            fed("Multinomial", [1], np.full((1, 4), np.nan, np.float32), sample_size=4),
            "run ExecutionError",
        ),
        "CumSum along fed axis 9": (
            fed("CumSum", [1, INT64], image, np.int64(9)),
            "run InferenceError",
        ),
        "ReverseSequence of lengths past the end": (
            fed("ReverseSequence", [1, INT64], np.zeros((2, 2), np.float32), np.int64([9, 9])),
            refused,
        ),
        "Compress past the end": (
            fed("Compress", [1, TensorProto.BOOL], image, np.ones(99, bool)),
            "run ExecutionError",
        ),
        "Trilu by fed INT64_MIN": (fed("Trilu", [1, INT64], image, np.int64(-(2**63))), accepted),
        "DequantizeLinear of scale NaN": (
            fed("DequantizeLinear", [TensorProto.INT8, 1], np.int8([1]), np.float32(np.nan)),
            accepted,
        ),
        "QuantizeLinear by scale 0": (
            fed("QuantizeLinear", [1, 1], floats, np.float32(0), kind=TensorProto.UINT8),
            accepted,
        ),
        "QLinearMatMul by scale 0": (
            fed(
                "QLinearMatMul",
                [3, 1, 3, 3, 1, 3, 1, 3],
                np.int8([[1]]),
                np.float32(0),
                np.int8(0),
                np.int8([[1]]),
                np.float32(0),
                np.int8(0),
                np.float32(0),
                np.int8(0),
                kind=TensorProto.INT8,
            ),
            accepted,
        ),
        "MatMulInteger of zero points that do not fit": (
            fed(
                "MatMulInteger",
                [3, 3, 3],
                np.ones((2, 2), np.int8),
                np.ones((2, 2), np.int8),
                np.ones(7, np.int8),
            ),
            "run InferenceError",
        ),
        "LSTM of lengths past the end": (
            fed(
                "LSTM",
                [1, 1, 1, 1, INT32],
                np.zeros((2, 1, 3), np.float32),
                np.zeros((1, 4, 3), np.float32),
                np.zeros((1, 4, 1), np.float32),
                np.zeros((1, 8), np.float32),
                np.int32([99]),
                hidden_size=1,
            ),
            refused,
        ),
        "LSTM of length -1": (
            fed(
                "LSTM",
                [1, 1, 1, 1, INT32],
                np.zeros((2, 1, 3), np.float32),
                np.zeros((1, 4, 3), np.float32),
                np.zeros((1, 4, 1), np.float32),
                np.zeros((1, 8), np.float32),
                np.int32([-1]),
                hidden_size=1,
            ),
            refused,
        ),
        "a code point of 2^31": (
            fed(
                "StringNormalizer",
                [STRING],
                np.array(["\udcff"], object),
                case_change_action="LOWER",
            ),
            accepted,
        ),
        "an image that is none": (
            fed("ImageDecoder", [TensorProto.UINT8], np.frombuffer(b"evil", np.uint8), opset=20),
            "accepted",
        ),
    }
    for name, ((make, feeds), verdict) in found.items():
        yield Case(f"data: {name}", 18, verdict, make, feeds=feeds)
    yield from feeds_that_do_not_fit()


def feeds_that_do_not_fit() -> Iterator[Case]:
    base = lambda: model([node("Neg", ["x"], ["y"])], [info("x", [2, 3])])  # noqa: E731
    bad: dict[str, Any] = {
        "another rank": np.zeros(6, np.float32),
        "another size": np.zeros((2, 4), np.float32),
        "another type": np.zeros((2, 3), np.complex64),
        "objects": np.array([[object()] * 3] * 2, object),
        "text": np.array([["a"] * 3] * 2),
        "a ragged list": [[1.0], [1.0, 2.0]],
        "None": None,
        "a dict": {"a": 1},
    }
    for name, value in bad.items():
        yield Case(
            f"feed: {name}", 18, "run InputError", base, feeds=lambda value=value: {"x": value}
        )
    yield Case(
        "feed: an unknown name",
        18,
        "run InputError",
        base,
        feeds=lambda: {"x": np.zeros((2, 3), np.float32), "evil\x1b[31m": 1},
    )
    yield Case("feed: nothing", 18, "run InputError", base, feeds=dict)
    other = np.zeros((2, 3), ">f4")
    yield Case("feed: big-endian", 18, "accepted", base, feeds=lambda: {"x": other})
    strided = np.zeros((4, 6), np.float32)[::2, ::-2]
    yield Case("feed: strides", 18, "accepted", base, feeds=lambda: {"x": strided})


ML = "ai.onnx.ml"


def svm(**changes: Any) -> bytes:
    options = {
        "kernel_type": "LINEAR",
        "coefficients": [1.0, 1.0],
        "support_vectors": [1.0, 2.0, 3.0, 4.0],
        "vectors_per_class": [1, 1],
        "classlabels_ints": [0, 1],
        "rho": [0.0],
    }
    options.update(changes)
    made = node("SVMClassifier", ["x"], ["y", "z"], domain=ML, **options)
    return model([made], [info("x", [1, 2])], domains=(ML,))


def tree(**changes: Any) -> bytes:
    options = {
        "nodes_treeids": [0, 0, 0],
        "nodes_nodeids": [0, 1, 2],
        "nodes_featureids": [0, 0, 0],
        "nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF"],
        "nodes_values": [0.5, 0.0, 0.0],
        "nodes_truenodeids": [1, 0, 0],
        "nodes_falsenodeids": [2, 0, 0],
        "target_treeids": [0, 0],
        "target_nodeids": [1, 2],
        "target_ids": [0, 0],
        "target_weights": [1.0, 2.0],
        "n_targets": 1,
    }
    options.update(changes)
    made = node("TreeEnsembleRegressor", ["x"], ["y"], domain=ML, **options)
    return model([made], [info("x", [1, 2])], domains=(ML,))


SOUND = {"one more rho", "probabilities of other sizes"}
TREES = {"a feature past the input": "run ExecutionError", "2^40 targets": "run LimitError"}


def learned() -> Iterator[Case]:
    for name, changes in {
        "vectors_per_class past the vectors": {"vectors_per_class": [1000, 1000]},
        "negative vectors_per_class": {"vectors_per_class": [-1, 3]},
        "too few coefficients": {"coefficients": [1.0]},
        "vectors of another width": {"support_vectors": [1.0, 2.0, 3.0]},
        "one more rho": {"rho": [0.0, 0.0]},
        "2^40 vectors": {"vectors_per_class": [2**40, 2**40]},
        "probabilities of other sizes": {"prob_a": [1.0] * 9, "prob_b": [1.0]},
    }.items():
        yield Case(
            f"SVM: {name}",
            15,
            "accepted" if name in SOUND else "run ModelError",
            lambda changes=changes: svm(**changes),
        )
    for name, changes in {
        "a cycle": {"nodes_truenodeids": [0, 0, 0]},
        "a child that does not exist": {"nodes_truenodeids": [99, 0, 0]},
        "a negative child": {"nodes_truenodeids": [-1, 0, 0]},
        "a feature past the input": {"nodes_featureids": [99, 0, 0]},
        "a negative feature": {"nodes_featureids": [-1, 0, 0]},
        "a target past the targets": {"target_ids": [99, 0]},
        "2^40 targets": {"n_targets": 2**40},
        "lists of other lengths": {"nodes_values": [0.5]},
        "an unknown mode": {"nodes_modes": ["EVIL", "LEAF", "LEAF"]},
        "a node twice": {"nodes_nodeids": [0, 1, 1]},
    }.items():
        yield Case(
            f"tree: {name}",
            15,
            TREES.get(name, "run ModelError"),
            lambda changes=changes: tree(**changes),
        )


def cases() -> Iterator[Case]:
    for family in (bombs, data, learned):
        yield from family()
