"""Random models of elementwise operators, moves, reductions and products, over symbolic sizes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from onnx import TensorProto, helper

import sardonyx as sx
from sardonyx.ir import Model

Shape = tuple[str, ...]


@dataclass
class Maker:
    """Makes one model; `known` are the values so far with their shapes, by names of sizes."""

    rng: np.random.Generator
    nodes: list[Any] = field(default_factory=list)
    known: list[tuple[str, Shape]] = field(default_factory=list)
    constants: list[Any] = field(default_factory=list)

    def pick(self, items: Any) -> Any:
        return items[int(self.rng.integers(len(items)))]

    def node(self, op: str, *inputs: str, **attributes: Any) -> str:
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], **attributes))
        return name

    def integers(self, *numbers: int) -> str:
        name = f"c{len(self.constants)}"
        data = np.array(numbers, np.int64)
        self.constants.append(helper.make_tensor(name, TensorProto.INT64, data.shape, data))
        return name

    def value(self, depth: int) -> tuple[str, Shape]:
        """A value, from one of the inputs or made by up to `depth` nodes in a row."""
        if depth == 0 or self.rng.random() < 0.1:
            return self.pick(self.known)
        write = self.pick(
            [self.unary, self.unary, self.binary, self.binary, self.binary, self.moved, self.reduced,
             self.product, self.row, self.part, self.joined, self.chosen, self.converted]
        )  # fmt: skip
        name, shape = write(depth - 1)
        self.known.append((name, shape))
        return name, shape

    def unary(self, depth: int) -> tuple[str, Shape]:
        name, shape = self.value(depth)
        op = self.pick(["Relu", "Neg", "Abs", "Tanh", "Sigmoid", "Erf", "Gelu"])
        return self.node(op, name), shape

    def binary(self, depth: int) -> tuple[str, Shape]:
        first, second = self.value(depth), self.pick(self.known)
        op = self.pick(["Add", "Sub", "Mul", "Max", "Min"])
        shape = broadcast(first[1], second[1])
        if shape is None:
            return self.node(op, first[0], first[0]), first[1]
        return self.node(op, first[0], second[0]), shape

    def moved(self, depth: int) -> tuple[str, Shape]:
        name, shape = self.value(depth)
        if not shape or self.rng.random() < 0.3:
            at = int(self.rng.integers(0, len(shape) + 1))
            shape = (*shape[:at], "1", *shape[at:])
            return self.node("Unsqueeze", name, self.integers(at)), shape
        order = [int(i) for i in self.rng.permutation(len(shape))]
        return self.node("Transpose", name, perm=order), tuple(shape[i] for i in order)

    def reduced(self, depth: int) -> tuple[str, Shape]:
        name, shape = self.value(depth)
        if not shape:
            return self.node("Neg", name), shape
        count = int(self.rng.integers(1, min(len(shape), 2) + 1))
        axes = sorted(int(i) for i in self.rng.choice(len(shape), count, replace=False))
        keep = int(self.rng.integers(2))
        op = self.pick(["ReduceSum", "ReduceMean", "ReduceMax", "ReduceL2", "ReduceSumSquare"])
        left = ["1" if i in axes else dim for i, dim in enumerate(shape) if keep or i not in axes]
        found = self.node(op, name, self.integers(*axes), keepdims=keep)
        return self.node("Tanh", found), tuple(left)

    def row(self, depth: int) -> tuple[str, Shape]:
        name, shape = self.value(depth)
        if not shape:
            return self.node("Neg", name), shape
        axis = int(self.rng.integers(len(shape)))
        return self.node(self.pick(["Softmax", "LogSoftmax"]), name, axis=axis), shape

    def product(self, depth: int) -> tuple[str, Shape]:
        name, shape = self.value(depth)
        if len(shape) < 2:
            return self.node("Abs", name), shape
        for other, its in reversed(self.known):
            if len(its) == 2 and its[0] == shape[-1]:
                found = self.node("MatMul", name, other)
                return self.node("Tanh", found), (*shape[:-1], its[1])
        turned = self.node(
            "Transpose", name, perm=[*range(len(shape) - 2), len(shape) - 1, len(shape) - 2]
        )
        found = self.node("MatMul", name, turned)
        return self.node("Tanh", found), (*shape[:-1], shape[-2])

    def part(self, depth: int) -> tuple[str, Shape]:
        """All elements of one axis the other way round."""
        name, shape = self.value(depth)
        if not shape:
            return self.node("Abs", name), shape
        axis = int(self.rng.integers(len(shape)))
        least = -(1 << 62)
        numbers = (self.integers(-1), self.integers(least), self.integers(axis), self.integers(-1))
        return self.node("Slice", name, *numbers), shape

    def joined(self, depth: int) -> tuple[str, Shape]:
        """Two values side by side along one axis, of which every second element is taken."""
        name, shape = self.value(depth)
        if not shape:
            return self.node("Abs", name), shape
        axis = int(self.rng.integers(len(shape)))
        other = self.node("Neg", name)
        both = self.node("Concat", name, other, axis=axis)
        ends = (self.integers(int(self.rng.integers(2))), self.integers(1 << 62))
        return self.node("Slice", both, *ends, self.integers(axis), self.integers(2)), shape

    def chosen(self, depth: int) -> tuple[str, Shape]:
        first, second = self.value(depth), self.pick(self.known)
        shape = broadcast(("M", "N"), broadcast(first[1], second[1]))
        if shape is None:
            return self.node("Neg", first[0]), first[1]
        return self.node("Where", "mask", first[0], second[0]), shape

    def converted(self, depth: int) -> tuple[str, Shape]:
        name, shape = self.value(depth)
        kind = self.pick([TensorProto.DOUBLE, TensorProto.FLOAT])
        wide = self.node("Cast", name, to=kind)
        return self.node("Cast", self.node("Abs", wide), to=TensorProto.FLOAT), shape


def broadcast(a: Shape | None, b: Shape | None) -> Shape | None:
    """The shape of both together, if they fit whatever the sizes are."""
    if a is None or b is None:
        return None
    rank = max(len(a), len(b))
    pairs = zip(("1",) * (rank - len(a)) + a, ("1",) * (rank - len(b)) + b)
    found = []
    for one, other in pairs:
        if one != other and "1" not in {one, other}:
            return None
        found.append(other if one == "1" else one)
    return tuple(found) if rank < 5 else None


INPUTS: dict[str, Shape] = {
    "a": ("M", "N"), "b": ("M", "N"), "w": ("N", "K"), "row": ("N",), "column": ("M", "1"),
    "deep": ("K", "M", "N"), "one": (),
}  # fmt: skip


def random_model(seed: int, outputs: int = 8, depth: int = 5) -> Model:
    """A model with several outputs, which share parts."""
    maker = Maker(np.random.default_rng(seed), known=list(INPUTS.items()))
    found = []
    for _ in range(outputs):
        name, shape = maker.value(depth)
        found.append((maker.node("Identity", name), shape))

    def described(name: str, kind: int, shape: Shape) -> Any:
        return helper.make_tensor_value_info(
            name, kind, [int(dim) if dim.isdigit() else dim for dim in shape]
        )

    graph = helper.make_graph(
        maker.nodes,
        "random",
        [
            described("mask", TensorProto.BOOL, ("M", "N")),
            *(described(name, TensorProto.FLOAT, shape) for name, shape in INPUTS.items()),
        ],
        [described(name, TensorProto.FLOAT, shape) for name, shape in found],
        initializer=maker.constants,
    )
    imports = [helper.make_opsetid("", 20)]
    proto = helper.make_model(graph, opset_imports=imports, ir_version=10)
    return sx.loads(proto.SerializeToString())


def feeds(seed: int, sizes: dict[str, int]) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    found: dict[str, Any] = {"mask": rng.integers(0, 2, (sizes["M"], sizes["N"])).astype(bool)}
    for name, shape in INPUTS.items():
        numbers = [int(dim) if dim.isdigit() else sizes[dim] for dim in shape]
        found[name] = np.asarray(rng.standard_normal(numbers), np.float32)
    return found
