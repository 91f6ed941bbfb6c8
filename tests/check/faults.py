"""The table of faults: sound models, each with one thing broken.

A fault says which rule reports it, how severely, and what onnx's checker makes of the same
bytes (``onnx.checker.check_model(model, full_check=True)``). `lax` gives the reason where we
tell what onnx does not, `lenient` where onnx refuses and we warn.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import onnx
from onnx import ModelProto, TensorProto, helper

Mutation = Callable[[ModelProto], None]


@dataclass(frozen=True)
class Fault:
    """`kind` is the rule, `mutate` breaks the seed in place."""

    name: str
    kind: str
    severity: str
    seed: str
    mutate: Mutation
    lax: str = ""
    lenient: str = ""


FAULTS: list[Fault] = []

CHAIN = """<ir_version: 10, opset_import: ["" : 21]>
main (float[2,3] x, float[2,3] z) => (float[2,3] y) <float[3] w = {1, 2, 3}>
{ a = Relu(x) b = Add(a, w) y = Mul(b, z) }"""

BRANCHES = """<ir_version: 10, opset_import: ["" : 21]>
main (bool c, float[3] x) => (float[3] y)
{
  a = Relu(x)
  y = If (c) <
    then_branch = then () => (float[3] t) { t = Neg(a) },
    else_branch = else () => (float[3] e) { e = Abs(a) }
  >
}"""

LOOP = """<ir_version: 10, opset_import: ["" : 21]>
main (int64 n, float[3] x) => (float[3] y)
{
  y = Loop (n, , x) <
    body = body (int64 i, bool go, float[3] s) => (bool on, float[3] next)
    { on = Identity(go) next = Add(s, s) }
  >
}"""

FUNCTIONS = """<ir_version: 10, opset_import: ["" : 21, "local" : 1]>
main (float[3] x) => (float[3] y) { y = local.twice <factor = 2.0> (x) }
<domain: "local", opset_import: ["" : 21, "local" : 1]>
twice <factor, slope: float = 0.5> (a) => (b)
{
  f = Constant <value_float: float = @factor> ()
  l = LeakyRelu <alpha: float = @slope> (a)
  c = Mul(l, f)
  b = local.once(c)
}
<domain: "local", opset_import: ["" : 21]>
once (a) => (b) { b = Neg(a) }"""

OLD = """<ir_version: 3, opset_import: ["" : 8]>
main (float[3] x, float[3] w) => (float[3] y) <float[3] w = {1, 2, 3}> { y = Add(x, w) }"""

SEEDS = {
    "chain": CHAIN,
    "branches": BRANCHES,
    "loop": LOOP,
    "functions": FUNCTIONS,
    "old": OLD,
}


def seed(name: str) -> ModelProto:
    """A sound model to break."""
    if name in SEEDS:
        model: ModelProto = onnx.parser.parse_model(SEEDS[name])
        return model
    return BUILT[name]()


def _with_sparse() -> ModelProto:
    model = seed("chain")
    values = helper.make_tensor("s", TensorProto.FLOAT, [3], [1, 2, 3])
    indices = helper.make_tensor("", TensorProto.INT64, [3], [0, 2, 5])
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [2, 3]))
    return model


def _with_sparse_pairs() -> ModelProto:
    model = _with_sparse()
    indices = helper.make_tensor("", TensorProto.INT64, [3, 2], [0, 0, 0, 2, 1, 2])
    model.graph.sparse_initializer[0].indices.CopyFrom(indices)
    return model


def _with_training() -> ModelProto:
    model = seed("chain")
    new = helper.make_tensor_value_info("w_new", TensorProto.FLOAT, [3])
    start = helper.make_tensor_value_info("w_start", TensorProto.FLOAT, [3])
    step = helper.make_graph([helper.make_node("Neg", ["w"], ["w_new"])], "step", [], [new])
    first = helper.make_node("RandomUniform", [], ["w_start"], shape=[3])
    init = helper.make_graph([first], "init", [], [start])
    info = helper.make_training_info(step, [("w", "w_new")], init, [("w", "w_start")])
    model.training_info.append(info)
    return model


def _with_devices() -> ModelProto:
    model = seed("chain")
    model.ir_version = 11
    model.configuration.add(name="two", num_devices=2, device=["left", "right"])
    entry = model.graph.node[1].device_configurations.add(configuration_id="two", pipeline_stage=0)
    spec = entry.sharding_spec.add(tensor_name="a", device=[0, -1])
    spec.index_to_device_group_map.add(key=-1, value=[0, 1])
    sharded = spec.sharded_dim.add(axis=0)
    sharded.simple_sharding.add(dim_value=2, num_shards=2)
    return model


def _with_annotation() -> ModelProto:
    model = seed("chain")
    annotation = model.graph.quantization_annotation.add(tensor_name="a")
    annotation.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value="w")
    return model


BUILT = {
    "sparse": _with_sparse,
    "sparse pairs": _with_sparse_pairs,
    "training": _with_training,
    "devices": _with_devices,
    "annotation": _with_annotation,
}


def fault(
    kind: str,
    seed: str = "chain",
    severity: str = "error",
    *,
    lax: str = "",
    lenient: str = "",
) -> Callable[[Mutation], Mutation]:
    """Add the decorated mutation of a seed to the table."""

    def add(mutate: Mutation) -> Mutation:
        name = mutate.__name__.strip("_").replace("_", " ")
        FAULTS.append(Fault(name, kind, severity, seed, mutate, lax, lenient))
        return mutate

    return add


def node(model: ModelProto, index: int) -> onnx.NodeProto:
    """The node at `index` of the main graph."""
    found: onnx.NodeProto = model.graph.node[index]
    return found


def branch(model: ModelProto, index: int = 0) -> onnx.GraphProto:
    """A graph of the last node's attributes."""
    found: onnx.GraphProto = model.graph.node[-1].attribute[index].g
    return found


def info(name: str, shape: list[int] | None = None, code: int = TensorProto.FLOAT) -> object:
    """A ValueInfoProto."""
    return helper.make_tensor_value_info(name, code, shape)
