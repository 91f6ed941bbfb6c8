"""Graphs that mean harm: classes 12 to 15, 17 and 19."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper
from onnx.helper import make_node as node

from hostile.corpus import Case, strict
from hostile.wire import seed

FLOAT, INT64, BOOL, STRING, INT32, UINT8 = (
    TensorProto.FLOAT,
    TensorProto.INT64,
    TensorProto.BOOL,
    TensorProto.STRING,
    TensorProto.INT32,
    TensorProto.UINT8,
)
REFUSED = "check CheckError"


def info(name: str, shape: list[Any] | None = None, kind: int = FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def model(
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto] | None = None,
    outputs: list[str] | None = None,
    weights: dict[str, Any] | None = None,
    functions: list[onnx.FunctionProto] | None = None,
    opset: int = 17,
    domains: tuple[str, ...] = (),
    kind: int | None = None,
) -> bytes:
    """A model file; outputs are of `kind`, or of what their operator gives; `weights` are arrays by name, outputs have no declared shape."""
    found = outputs if outputs is not None else [nodes[-1].output[0]]
    graph = helper.make_graph(
        nodes,
        "g",
        inputs or [],
        [info(name, kind=kind or kind_of(name, nodes)) for name in found],
        [onnx.numpy_helper.from_array(np.asarray(a), name) for name, a in (weights or {}).items()],
    )
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(name, 1) for name in domains)]
    made = helper.make_model(graph, opset_imports=opsets, functions=functions or [], ir_version=10)
    return made.SerializeToString()


KINDS = {
    INT64: "Shape SequenceLength NonZero NonMaxSuppression SVMClassifier",
    INT32: "MatMulInteger Multinomial",
    STRING: "StringConcat StringNormalizer StringSplit",
    BOOL: "RegexFullMatch",
    UINT8: "ImageDecoder",
}


def kind_of(name: str, nodes: list[onnx.NodeProto]) -> int:
    """The element type of output `name`, by the operator that makes it; FLOAT by default."""
    for made in nodes:
        if name in made.output:
            for attribute in made.attribute:
                if attribute.name == "to":
                    return attribute.i if attribute.i in TensorProto.DataType.values() else FLOAT
            found = (kind for kind, ops in KINDS.items() if made.op_type in ops.split())
            return next(found, FLOAT)
    return FLOAT


def text(source: str) -> bytes:
    """A model in the standard's textual syntax, of opset 17."""
    header = '<ir_version: 8, opset_import: ["" : 17, "own" : 1]>\n'
    return onnx.parser.parse_model(header + source).SerializeToString()


CYCLES = {
    "a node that reads itself": "g (float[1] x) => (float[1] y) { y = Add (x, y) }",
    "two nodes that read each other": (
        "g (float[1] x) => (float[1] y) { a = Add (x, b) b = Neg (a) y = Neg (b) }"
    ),
    "a longer cycle": (
        "g (float[1] x) => (float[1] y) { a = Add (x, d) b = Neg (a) c = Neg (b) d = Neg (c)"
        " y = Neg (d) }"
    ),
    "a cycle through a subgraph": (
        "g (bool c, float[1] x) => (float[1] y) {"
        " a = If (c) <then_branch = t () => (float[1] r) { r = Neg (b) },"
        " else_branch = e () => (float[1] s) { s = Neg (x) }> b = Neg (a) y = Neg (b) }"
    ),
    "a function that calls itself": (
        "g (float[1] x) => (float[1] y) { y = own.f (x) }"
        '\n<domain: "own", opset_import: ["own" : 1]> f (a) => (b) { b = own.f (a) }'
    ),
    "functions that call each other": (
        "g (float[1] x) => (float[1] y) { y = own.f (x) }"
        '\n<domain: "own", opset_import: ["own" : 1]> f (a) => (b) { b = own.h (a) }'
        '\n<domain: "own", opset_import: ["own" : 1]> h (a) => (b) { b = own.f (a) }'
    ),
    "a function that calls itself in a branch": (
        "g (float[1] x) => (float[1] y) { y = own.f (x) }"
        '\n<domain: "own", opset_import: ["own" : 1, "" : 17]> f (a) => (b) {'
        " c = Constant <value = bool {1}> ()"
        " b = If (c) <then_branch = t () => (r) { r = own.f (a) },"
        " else_branch = e () => (s) { s = Neg (a) }> }"
    ),
    "a cycle in a function": (
        "g (float[1] x) => (float[1] y) { y = own.f (x) }"
        '\n<domain: "own", opset_import: ["" : 17]> f (a) => (b) { c = Neg (d) d = Neg (c) b = Add (a, d) }'
    ),
    "a cycle in a function that no one calls": (
        "g (float[1] x) => (float[1] y) { y = Neg (x) }"
        '\n<domain: "own", opset_import: ["own" : 1]> f (a) => (b) { b = own.f (a) }'
    ),
}


def cycles() -> Iterator[Case]:
    for name, source in CYCLES.items():
        yield Case(name, 12, REFUSED, lambda source=source: text(source))
    yield Case("a cycle of 500 functions", 12, REFUSED, lambda: ring(500))


def function(name: str, nodes: list[onnx.NodeProto], **options: Any) -> onnx.FunctionProto:
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    return helper.make_function("own", name, ["a"], ["b"], nodes, imports, **options)


def call(name: str, source: str, target: str, **attributes: Any) -> onnx.NodeProto:
    return node(name, [source], [target], domain="own", **attributes)


def ring(count: int) -> bytes:
    functions = [function(f"f{i}", [call(f"f{(i + 1) % count}", "a", "b")]) for i in range(count)]
    return model([call("f0", "x", "y")], [info("x", [1])], functions=functions, domains=("own",))


def bomb(levels: int, width: int = 2, leaf: str = "Neg") -> bytes:
    """Functions each of which calls the next `width` times."""
    functions = [function("f0", [node(leaf, ["a"], ["b"])])]
    for level in range(1, levels + 1):
        names = ["a", *(f"t{i}" for i in range(width - 1)), "b"]
        calls = [call(f"f{level - 1}", source, target) for source, target in pairwise(names)]
        functions.append(function(f"f{level}", calls))
    top = call(f"f{levels}", "x", "y")
    return model([top], [info("x", [1])], functions=functions, domains=("own",))


def chain(levels: int) -> bytes:
    """Functions each of which calls the next once."""
    return bomb(levels, width=1)


def branch(
    name: str, nodes: list[onnx.NodeProto], output: str, inputs: tuple[str, ...] = ()
) -> onnx.GraphProto:
    return helper.make_graph(nodes, name, [info(i) for i in inputs], [info(output)])


def branching_bomb(levels: int) -> bytes:
    """Functions whose two branches both call the next."""
    functions = [function("f0", [node("Neg", ["a"], ["b"])])]
    for level in range(1, levels + 1):
        then = branch("t", [call(f"f{level - 1}", "a", "r")], "r")
        other = branch("e", [call(f"f{level - 1}", "a", "s")], "s")
        nodes = [
            node("ReduceSum", ["a"], ["n"], keepdims=0),
            node("Greater", ["n", "n"], ["c"]),
            node("If", ["c"], ["b"], then_branch=then, else_branch=other),
        ]
        functions.append(function(f"f{level}", nodes))
    top = call(f"f{levels}", "x", "y")
    return model([top], [info("x", [1])], functions=functions, domains=("own",))


def attribute_bomb(levels: int) -> bytes:
    """Functions that call the next with other attributes each time."""
    names = [f"k{i}" for i in range(levels)]
    leaf = node("LeakyRelu", ["a"], ["b"])
    leaf.attribute.add(name="alpha", type=1, ref_attr_name="k0")
    functions = [function("f0", [leaf], attributes=names)]
    for level in range(1, levels + 1):
        calls = []
        for source, target, value in (("a", "t", 0.0), ("t", "b", 1.0)):
            made = call(f"f{level - 1}", source, target)
            for index, name in enumerate(names):
                if index == level - 1:
                    made.attribute.add(name=name, type=1, f=value)
                else:
                    made.attribute.add(name=name, type=1, ref_attr_name=name)
            calls.append(made)
        functions.append(function(f"f{level}", calls, attributes=names))
    top = call(f"f{levels}", "x", "y", **dict.fromkeys(names, 0.5))
    return model([top], [info("x", [1])], functions=functions, domains=("own",))


def nested_ifs(levels: int, width: int) -> bytes:
    """Ifs in the branches of Ifs, each condition unknown."""

    def build(level: int) -> onnx.GraphProto:
        if level == 0:
            return branch("leaf", [node("Neg", ["x"], ["r0"])], "r0")
        inner = build(level - 1)
        nodes = [
            node("If", ["c"], [f"r{level}_{i}"], then_branch=inner, else_branch=inner)
            for i in range(width)
        ]
        return branch(f"l{level}", nodes, f"r{level}_0")

    top = build(levels)
    nodes = [node("If", ["c"], ["y"], then_branch=top, else_branch=top)]
    return model(nodes, [info("c", [], BOOL), info("x", [1])])


def nested_loops(levels: int) -> bytes:
    """Loops in Loops, whose states change shape with each iteration."""

    def body(level: int) -> onnx.GraphProto:
        inputs = [info(f"i{level}", [], INT64), info(f"c{level}", [], BOOL), info(f"s{level}")]
        if level == 0:
            nodes = [node("Concat", ["s0", "s0"], ["o0"], axis=0)]
        else:
            nodes = [node("Loop", ["m", "", f"s{level}"], [f"o{level}"], body=body(level - 1))]
        nodes.append(node("Identity", [f"c{level}"], [f"d{level}"]))
        return helper.make_graph(
            nodes, f"b{level}", inputs, [info(f"d{level}", [], BOOL), info(f"o{level}")]
        )

    top = node("Loop", ["m", "", "x"], ["y"], body=body(levels))
    return model([top], [info("x", [1])], weights={"m": np.int64(2)})


def explosions() -> Iterator[Case]:
    yield Case("2^40 nodes of functions", 13, REFUSED, lambda: bomb(40))
    yield Case("2^20 nodes of functions", 13, REFUSED, lambda: bomb(20))
    yield Case(
        "2^19 nodes of functions", 13, "run LimitError", lambda: bomb(19), limits=strict(0.5)
    )
    yield Case(
        "10^6 nodes of functions in 2 levels",
        13,
        "run LimitError",
        lambda: bomb(2, 900),
        limits=strict(0.5),
    )
    yield Case("2^30 nodes of branches", 13, REFUSED, lambda: branching_bomb(30))
    yield Case("2^15 nodes of branches", 13, "accepted", lambda: branching_bomb(15))
    yield Case(
        "2^16 sets of attributes",
        13,
        REFUSED,
        lambda: attribute_bomb(16),
        limits=strict(0.1),
    )
    yield Case(
        "2^18 unknown sizes",
        13,
        REFUSED,
        lambda: bomb(18, leaf="NonZero"),
        limits=strict(0.1),
    )
    yield Case("90 functions deep", 13, "accepted", lambda: chain(90))
    yield Case("500 functions deep", 13, REFUSED, lambda: chain(500))
    yield Case("680 Ifs within Ifs", 13, "accepted", lambda: nested_ifs(4, 2))
    yield Case("Ifs 8 deep", 13, "accepted", lambda: nested_ifs(8, 1))
    yield Case("3 nested Loops", 13, "accepted", lambda: nested_loops(3))
    yield Case("12 nested Loops", 13, "run LimitError", lambda: nested_loops(12))


NAMES = {
    "an input twice": "g (float[1] x, float[1] x) => (float[1] y) { y = Neg (x) }",
    "an output twice": "g (float[1] x) => (float[1] y, float[1] y) { y = Neg (x) }",
    "a value made twice": "g (float[1] x) => (float[1] y) { y = Neg (x) y = Abs (x) }",
    "a node that makes an input": "g (float[1] x) => (float[1] x) { x = Neg (x) }",
    "an undefined input": "g (float[1] x) => (float[1] y) { y = Add (x, nothing) }",
    "an undefined output": "g (float[1] x) => (float[1] z) { y = Neg (x) }",
    "a name of a branch outside of it": (
        "g (bool c, float[1] x) => (float[1] y) { a = If (c) <then_branch = t () => (float[1] r)"
        " { r = Neg (x) }, else_branch = e () => (float[1] s) { s = Abs (x) }> y = Neg (r) }"
    ),
    "a branch that hides a name": (
        "g (bool c, float[1] x) => (float[1] y) { y = If (c) <then_branch = t () => (float[1] x)"
        " { x = Neg (x) }, else_branch = e () => (float[1] s) { s = Abs (x) }> }"
    ),
    "an unknown operator": "g (float[1] x) => (float[1] y) { y = Evil (x) }",
    "an unknown domain": "g (float[1] x) => (float[1] y) { y = com.evil.Neg (x) }",
    "too many inputs": "g (float[1] x) => (float[1] y) { y = Neg (x, x) }",
    "too few inputs": "g (float[1] x) => (float[1] y) { y = Add (x) }",
    "too many outputs": "g (float[1] x) => (float[1] y) { y, z = Neg (x) }",
    "a function of too many inputs": (
        "g (float[1] x) => (float[1] y) { y = own.f (x, x) }"
        '\n<domain: "own", opset_import: ["" : 17]> f (a) => (b) { b = Neg (a) }'
    ),
    "two types in one Add": "g (float[1] x, int64[1] z) => (float[1] y) { y = Add (x, z) }",
    "a type that an operator does not take": "g (string[1] x) => (float[1] y) { y = Neg (x) }",
    "sizes that cannot fit": "g (float[2] x, float[3] z) => (float[1] y) { y = Add (x, z) }",
}


def names() -> Iterator[Case]:
    for name, source in NAMES.items():
        yield Case(name, 14, REFUSED, lambda source=source: text(source))
    for what, change in {
        "opset 2^62": lambda m: setattr(m.opset_import[0], "version", 2**62),
        "opset -1": lambda m: setattr(m.opset_import[0], "version", -1),
        "opset 0": lambda m: setattr(m.opset_import[0], "version", 0),
        "opset 999": lambda m: setattr(m.opset_import[0], "version", 999),
        "no opsets": lambda m: m.ClearField("opset_import"),
        "ir_version 2^62": lambda m: setattr(m, "ir_version", 2**62),
        "ir_version -1": lambda m: setattr(m, "ir_version", -1),
        "no ir_version": lambda m: m.ClearField("ir_version"),
        "the default domain by two names": lambda m: m.opset_import.add(
            domain="ai.onnx", version=16
        ),
        "an unnamed input": lambda m: m.graph.input.add(name=""),
        "two weights of one name": lambda m: m.graph.initializer.append(m.graph.initializer[0]),
        "two functions of one name": two_functions,
    }.items():
        verdict = {
            "an unnamed input": "load DecodeError",
            "two functions of one name": "load DecodeError",
        }
        yield Case(what, 14, verdict.get(what, REFUSED), lambda change=change: edited(change))


def two_functions(made: onnx.ModelProto) -> None:
    for _ in range(2):
        made.functions.append(function("f", [node("Neg", ["a"], ["b"])]))


def edited(change: Any) -> bytes:
    made = seed()
    change(made)
    return made.SerializeToString()


def one(
    op: str, *shapes: Any, opset: int = 17, kind: int | None = None, **attributes: Any
) -> bytes:
    """A model of one node; a list is the shape of an input, an array a weight."""
    inputs, weights, names = [], {}, []
    for index, given in enumerate(shapes):
        names.append(f"x{index}")
        if isinstance(given, list):
            inputs.append(info(f"x{index}", given))
        else:
            weights[f"x{index}"] = given
    made = node(op, names, ["y"], **attributes)
    return model([made], inputs, weights=weights, opset=opset, kind=kind)


IMAGE = [1, 1, 4, 4]
KERNEL = np.ones((1, 1, 2, 2), np.float32)
ATTRIBUTES: dict[str, tuple[Any, ...]] = {
    "Conv of stride 0": ("Conv", [IMAGE, KERNEL], {"strides": [0, 1]}),
    "Conv of negative stride": ("Conv", [IMAGE, KERNEL], {"strides": [-1, 1]}),
    "Conv of dilation 0": ("Conv", [IMAGE, KERNEL], {"dilations": [0, 1]}),
    "Conv of group 0": ("Conv", [IMAGE, KERNEL], {"group": 0}),
    "Conv of group -1": ("Conv", [IMAGE, KERNEL], {"group": -1}),
    "Conv of 9 strides": ("Conv", [IMAGE, KERNEL], {"strides": [1] * 9}),
    "Conv of a wrong kernel_shape": ("Conv", [IMAGE, KERNEL], {"kernel_shape": [9, 9]}),
    "Conv of a name in auto_pad": ("Conv", [IMAGE, KERNEL], {"auto_pad": "EVIL"}),
    "MaxPool of kernel 0": ("MaxPool", [IMAGE], {"kernel_shape": [0, 0]}),
    "MaxPool of negative kernel": ("MaxPool", [IMAGE], {"kernel_shape": [-1, 2]}),
    "MaxPool of stride 0": ("MaxPool", [IMAGE], {"kernel_shape": [2, 2], "strides": [0, 0]}),
    "AveragePool of giant pads": (
        "AveragePool",
        [IMAGE],
        {"kernel_shape": [2, 2], "pads": [2**62] * 4},
    ),
    "DepthToSpace of block 0": ("DepthToSpace", [IMAGE], {"blocksize": 0}),
    "SpaceToDepth of block 0": ("SpaceToDepth", [IMAGE], {"blocksize": 0}),
    "SpaceToDepth of block -2": ("SpaceToDepth", [IMAGE], {"blocksize": -2}),
    "Conv of huge dilation": ("Conv", [IMAGE, KERNEL], {"dilations": [2**62, 1]}),
    "MaxPool of huge kernel": ("MaxPool", [IMAGE], {"kernel_shape": [2**62, 1]}),
    "Conv of huge stride": ("Conv", [IMAGE, KERNEL], {"strides": [2**62, 2**62]}),
    "Gather of axis 9": ("Gather", [IMAGE, np.int64(0)], {"axis": 9}),
    "Concat of axis 9": ("Concat", [IMAGE, IMAGE], {"axis": 9}),
    "Concat of the smallest axis": ("Concat", [IMAGE, IMAGE], {"axis": -(2**63)}),
    "Softmax of axis 2^62": ("Softmax", [IMAGE], {"axis": 2**62}),
    "Flatten of axis 9": ("Flatten", [IMAGE], {"axis": 9}),
    "Transpose of a repeated axis": ("Transpose", [IMAGE], {"perm": [0, 0, 1, 2]}),
    "Transpose of a negative axis": ("Transpose", [IMAGE], {"perm": [0, 1, 2, -1]}),
    "an attribute of another type": ("LeakyRelu", [IMAGE], {"alpha": 1}),
    "an attribute that does not exist": ("Neg", [IMAGE], {"evil": 1}),
    "a needed attribute missing": ("Cast", [IMAGE], {}),
    "Reshape to -2": ("Reshape", [IMAGE, np.int64([-2])], {}),
    "Reshape to two -1": ("Reshape", [IMAGE, np.int64([-1, -1])], {}),
    "Reshape to the wrong size": ("Reshape", [IMAGE, np.int64([7])], {}),
    "Reshape to sizes that wrap": ("Reshape", [IMAGE, np.int64([2**32, 2**32, 16])], {}),
    "Split into wrong parts": ("Split", [IMAGE, np.int64([9])], {"axis": 2}),
    "Slice of step 0": (
        "Slice",
        [IMAGE, np.int64([0]), np.int64([9]), np.int64([0]), np.int64([0])],
        {},
    ),
    "Squeeze of a size that is not 1": ("Squeeze", [IMAGE, np.int64([2])], {}),
    "Unsqueeze of an axis twice": ("Unsqueeze", [IMAGE, np.int64([0, 0])], {}),
    "Pad to a negative size": ("Pad", [IMAGE, np.int64([-9] * 8)], {}),
    "Expand to a size that does not fit": ("Expand", [IMAGE, np.int64([3])], {}),
    "BatchNormalization of the wrong sizes": (
        "BatchNormalization",
        [IMAGE, [2], [2], [2], [2]],
        {},
    ),
    "LRN of size 0": ("LRN", [IMAGE], {"size": 0}),
}
SURVIVED = {
    "Slice past both ends": (
        "Slice",
        [IMAGE, np.int64([-(2**63)]), np.int64([2**63 - 1]), np.int64([0])],
        {},
    ),
    "Slice of the smallest step": (
        "Slice",
        [IMAGE, np.int64([2**63 - 1]), np.int64([-(2**63)]), np.int64([2]), np.int64([-(2**63)])],
        {},
    ),
    "Trilu of the smallest k": ("Trilu", [IMAGE, np.int64(-(2**63))], {}),
}
LATE = {
    "Cast to 99": ("Cast", [IMAGE], {"to": 99}),
    "Cast to -1": ("Cast", [IMAGE], {"to": -1}),
}
EQUATIONS = {
    "dots": ".i",
    "only dots": "....",
    "two ellipses": "......->",
    "no letter": "1j->j",
    "two arrows": "ij->j->i",
    "unknown output": "ij->k",
    "output twice": "ij->ii",
    "too many terms": "ij,jk->ik",
    "rank": "ijk->i",
    "NUL": "ij\0->i",
    "half a megabyte": "ij" * (1 << 18),
    "commas": "," * 100_000,
    "empty": "->",
}
PATTERNS = {
    "nested stars": ("(a*)*b", "accepted"),
    "nested plus": ("(a+)+$", "accepted"),
    "alternatives": ("(a|a|a|a)*b", "accepted"),
    "optional 30 times": ("(a?){30}a{30}", "accepted"),
    "counted counts": ("((a{1,100}){1,100}){1,100}", "run LimitError"),
    "a count too large": ("a{100000}", "error"),
    "unbalanced": ("((((", "error"),
    "deep": ("(" * 5000 + ")" * 5000, "accepted"),
    "back reference": (r"(a)\1", "error"),
    "lookahead": ("(?=a)a", "error"),
    "a class cut short": ("[a-", "error"),
    "a bad escape": ("\\", "error"),
}


def attributes() -> Iterator[Case]:
    for found, verdict in ((ATTRIBUTES, REFUSED), (SURVIVED, "accepted")):
        for name, (op, shapes, given) in found.items():
            yield Case(
                name,
                15,
                verdict,
                lambda op=op, shapes=shapes, given=given: one(op, *shapes, **given),
            )
    for name, (op, shapes, given) in LATE.items():
        yield Case(
            name,
            15,
            "run UnsupportedError",
            lambda op=op, shapes=shapes, given=given: one(op, *shapes, **given),
        )
    yield Case(
        "LpPool of p 0",
        15,
        "run InferenceError",
        lambda: one("LpPool", IMAGE, kernel_shape=[2, 2], p=0),
    )
    for name, equation in EQUATIONS.items():
        yield Case(
            f"equation: {name}", 15, REFUSED, lambda e=equation: one("Einsum", [2, 2], equation=e)
        )
    for name, (pattern, verdict) in PATTERNS.items():
        yield Case(
            f"pattern: {name}",
            15,
            REFUSED if verdict == "error" else verdict,
            lambda pattern=pattern: matched(pattern),
        )


def matched(pattern: str) -> bytes:
    weights = {"x": np.array(["a" * 2000 + "!"], object)}
    made = node("RegexFullMatch", ["x"], ["y"], pattern=pattern)
    return model([made], weights=weights, opset=20)


def loop(
    body_nodes: list[onnx.NodeProto], state: Any, count: Any = None, scans: tuple[str, ...] = ()
) -> bytes:
    """A Loop without end around one state `s` -> `t`, with scan outputs `scans`."""
    body = helper.make_graph(
        [node("Identity", ["c"], ["d"]), *body_nodes],
        "body",
        [info("i", [], INT64), info("c", [], BOOL), state],
        [info("d", [], BOOL), copied(state, "t"), *(info(name) for name in scans)],
    )
    weights = {"yes": np.bool_(True), "one": np.float32([1])}
    if count is not None:
        weights["m"] = count
    made = node(
        "Loop",
        ["m" if count is not None else "", "yes", "s0"],
        ["y", *(f"y{n}" for n in scans)],
        body=body,
    )
    sequence = state.type.WhichOneof("value") == "sequence_type"
    first = node("SequenceEmpty", [], ["s0"]) if sequence else node("Identity", ["one"], ["s0"])
    last = node("SequenceLength", ["y"], ["z"]) if sequence else node("Identity", ["y"], ["z"])
    outputs = ["z", *(f"y{name}" for name in scans)]
    return model([first, made, last], weights=weights, outputs=outputs)


def copied(value: onnx.ValueInfoProto, name: str) -> onnx.ValueInfoProto:
    made = onnx.ValueInfoProto()
    made.CopyFrom(value)
    made.name = name
    return made


def sequence(name: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_sequence_value_info(name, FLOAT, None)


def loops() -> Iterator[Case]:
    limit = "run LimitError"
    state, big = info("s"), helper.make_tensor("v", FLOAT, [1], [0.0])
    fill = [
        node("Constant", [], ["n"], value=helper.make_tensor("n", INT64, [1], [1 << 20])),
        node("ConstantOfShape", ["n"], ["filled"], value=big),
    ]
    yield Case(
        "a Loop without end",
        17,
        limit,
        lambda: loop([node("Neg", ["s"], ["t"])], state),
        limits=strict(0.5),
    )
    yield Case(
        "a Loop of 2^63 - 1 trips",
        17,
        limit,
        lambda: loop([node("Neg", ["s"], ["t"])], state, np.int64(2**63 - 1)),
        limits=strict(0.5),
    )
    yield Case(
        "a Loop of -1 trips",
        17,
        "accepted",
        lambda: loop([node("Neg", ["s"], ["t"])], state, np.int64(-1)),
    )
    yield Case(
        "a state that doubles",
        17,
        limit,
        lambda: loop([node("Concat", ["s", "s"], ["t"], axis=0)], state),
    )
    yield Case(
        "a state that grows by one",
        17,
        limit,
        lambda: loop([node("Concat", ["s", "one"], ["t"], axis=0)], state),
        limits=strict(0.5),
    )
    yield Case(
        "a scan output without end",
        17,
        limit,
        lambda: loop([node("Neg", ["s"], ["t"]), node("Abs", ["s"], ["u"])], state, scans=("u",)),
        limits=strict(0.5),
    )
    yield Case(
        "a scan output of empty arrays",
        17,
        limit,
        lambda: loop([node("Neg", ["s"], ["t"]), *empty()], state, scans=("u",)),
        limits=strict(0.5),
    )
    yield Case(
        "a scan output of views",
        17,
        limit,
        lambda: loop([node("Neg", ["s"], ["t"]), *fill, *sliced("u")], state, scans=("u",)),
        limits=strict(0.5),
    )
    yield Case(
        "a sequence without end",
        17,
        limit,
        lambda: loop([node("SequenceInsert", ["s", "one"], ["t"])], sequence("s")),
        limits=strict(0.5),
    )
    yield Case(
        "a sequence of large arrays",
        17,
        limit,
        lambda: loop([*fill, node("SequenceInsert", ["s", "filled"], ["t"])], sequence("s")),
    )
    yield Case(
        "a sequence of views",
        17,
        limit,
        lambda: loop(
            [*fill, *sliced("part"), node("SequenceInsert", ["s", "part"], ["t"])], sequence("s")
        ),
        limits=strict(0.5),
    )
    yield Case("a body that returns too little", 17, REFUSED, short_body)
    yield Case("a Scan of no inputs", 17, REFUSED, lambda: scan(0))
    yield Case("a Scan of 9 inputs", 17, REFUSED, lambda: scan(9))
    yield Case("a Scan of -1 inputs", 17, REFUSED, lambda: scan(-1))
    yield Case("a Scan of 2^63 - 1 inputs", 17, REFUSED, lambda: scan(2**63 - 1))
    yield Case("a Scan along axis 9", 17, REFUSED, lambda: scan(1, scan_input_axes=[9]))
    yield Case(
        "a Scan with 2 axes for 1 input", 17, REFUSED, lambda: scan(1, scan_input_axes=[0, 0])
    )


def empty() -> list[onnx.NodeProto]:
    return [
        node("Constant", [], ["none"], value=helper.make_tensor("none", INT64, [1], [0])),
        node("ConstantOfShape", ["none"], ["u"]),
    ]


def sliced(name: str) -> list[onnx.NodeProto]:
    return [
        node("Constant", [], ["from"], value=helper.make_tensor("from", INT64, [1], [0])),
        node("Constant", [], ["to"], value=helper.make_tensor("to", INT64, [1], [1])),
        node("Slice", ["filled", "from", "to"], [name]),
    ]


def short_body() -> bytes:
    body = helper.make_graph(
        [node("Identity", ["c"], ["d"])],
        "body",
        [info("i", [], INT64), info("c", [], BOOL), info("s")],
        [info("d", [], BOOL)],
    )
    made = node("Loop", ["m", "", "x"], ["y"], body=body)
    return model([made], [info("x", [1])], weights={"m": np.int64(2)})


def scan(count: int, **options: Any) -> bytes:
    body = helper.make_graph([node("Neg", ["a"], ["b"])], "body", [info("a")], [info("b")])
    made = node("Scan", ["x"], ["y"], body=body, num_scan_inputs=count, **options)
    return model([made], [info("x", [3, 2])])


def long() -> Iterator[Case]:
    yield Case("a chain of 5,000 nodes", 19, "accepted", lambda: relus(5000))
    yield Case("3,000 nodes that all read one value", 19, "accepted", lambda: fan(3000))
    yield Case("a node of 20,000 inputs", 19, "accepted", lambda: wide(20_000))
    yield Case("3,000 outputs", 19, "accepted", lambda: fan(3000, every=True))
    yield Case("3,000 missing names", 19, REFUSED, lambda: missing(3000))
    yield Case("3,000 attributes that do not exist", 19, REFUSED, lambda: many_attributes(3000))
    yield Case(
        "5,000 opsets",
        19,
        "accepted",
        lambda: edited(
            lambda m: [m.opset_import.add(domain=f"d{i}", version=1) for i in range(5000)]
        ),
    )


def relus(count: int) -> bytes:
    nodes = [node("Relu", [f"v{i}"], [f"v{i + 1}"]) for i in range(count)]
    return model(nodes, [info("v0", [2])])


def fan(count: int, *, every: bool = False) -> bytes:
    nodes = [node("Neg", ["x"], [f"v{i}"]) for i in range(count)]
    return model(
        nodes, [info("x", [2])], outputs=[f"v{i}" for i in range(count)] if every else None
    )


def wide(count: int) -> bytes:
    return model([node("Concat", ["x"] * count, ["y"], axis=0)], [info("x", [2])])


def missing(count: int) -> bytes:
    return model([node("Neg", [f"n{i}"], [f"v{i}"]) for i in range(count)], outputs=["v0"])


def many_attributes(count: int) -> bytes:
    made = node("Neg", ["x"], ["y"])
    for index in range(count):
        made.attribute.add(name=f"a{index}", type=2, i=index)
    return model([made], [info("x", [2])])


def cases() -> Iterator[Case]:
    for family in (cycles, explosions, names, attributes, loops, long):
        yield from family()
