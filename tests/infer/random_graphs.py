"""Random graphs of shape, movement, elementwise and reduction operators that run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from sardonyx.dtypes import FLOAT, INT64
from sardonyx.ir import ArrayTensor, Graph, Model, Node, TensorType, Value

OPSET = 18


class Maker:
    """Grows a graph node by node, keeping for each value an example's shape (and contents)."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.graph = Graph("random")
        self.tensors: list[tuple[Value, tuple[int, ...]]] = []
        self.scalars: list[tuple[Value, int]] = []
        self.count = 0

    def model(self, n_nodes: int) -> tuple[Model, dict[str, np.ndarray]]:
        feeds = {}
        for name in ("x", "y"):
            rank = int(self.rng.integers(1, 4))
            shape = tuple(int(n) for n in self.rng.choice([1, 2, 3, 4, 6], rank))
            value = Value(name, TensorType(FLOAT, (None,) * rank))
            self.graph.inputs.append(value)
            self.tensors.append((value, shape))
            feeds[name] = self.rng.standard_normal(shape).astype(np.float32)
        while self.count < n_nodes:
            steps: list[Callable[[], None]] = [
                self.unary, self.binary, self.size_of, self.arithmetic, self.reshape, self.expand,
                self.slice, self.concat, self.transpose, self.reduce, self.gather, self.unsqueeze,
                self.range, self.tile, self.pad, self.split, self.scaled, self.select,
            ]  # fmt: skip
            steps[self.rng.integers(len(steps))]()
        self.graph.outputs.append(self.tensors[-1][0])
        return Model(self.graph, {"": OPSET}, ir_version=8), feeds

    def add(self, op_type: str, *inputs: Value | None, n: int = 1, **attributes: Any) -> Any:
        node = Node(op_type, inputs, [Value(f"v{self.count}_{index}") for index in range(n)])
        for name, value in attributes.items():
            node.set_attribute(name, value)
        self.graph.nodes.append(node)
        self.count += 1
        return node.outputs[0] if n == 1 else node.outputs

    def constant(self, array: Any, dtype: Any = np.int64) -> Value:
        value = Value(f"c{len(self.graph.initializers)}", None, ArrayTensor(np.array(array, dtype)))
        self.graph.initializers.append(value)
        return value

    def tensor(self, rank: int = 0) -> tuple[Value, tuple[int, ...]]:
        fitting = [
            pair for pair in self.tensors if len(pair[1]) >= rank and np.prod(pair[1]) < 4000
        ]
        return fitting[self.rng.integers(len(fitting))] if fitting else self.tensors[0]

    def keep(self, value: Value, shape: Any) -> None:
        if len(shape) <= 5 and np.prod(shape) < 4000:
            self.tensors.append((value, tuple(int(n) for n in shape)))

    def size(self) -> tuple[Value, int]:
        """A vector of one element with a small size in it."""
        if not self.scalars or self.rng.random() < 0.2:
            self.size_of()
        if not self.scalars:
            return self.constant([2]), 2
        return self.scalars[self.rng.integers(len(self.scalars))]

    def unary(self) -> None:
        value, shape = self.tensor()
        self.keep(self.add(str(self.rng.choice(["Relu", "Neg", "Abs"])), value), shape)

    def binary(self) -> None:
        (a, m), (b, n) = self.tensor(), self.tensor()
        try:
            shape = np.broadcast_shapes(m, n)
        except ValueError:
            return
        self.keep(self.add("Add", a, b), shape)

    def size_of(self) -> None:
        value, shape = self.tensor(1)
        if not shape:
            return
        axis = int(self.rng.integers(len(shape)))
        dims = self.add("Shape", value)
        self.scalars.append((self.add("Gather", dims, self.constant([axis])), shape[axis]))

    def arithmetic(self) -> None:
        (a, m), (b, n) = self.size(), self.size()
        kind = str(self.rng.choice(["Add", "Mul", "Sub", "Div", "Max", "Min", "Mod"]))
        if (kind == "Sub" and m <= n) or (kind in {"Div", "Mod"} and n == 0):
            return
        result = {
            "Add": m + n, "Mul": m * n, "Sub": m - n, "Div": m // max(n, 1), "Max": max(m, n),
            "Min": min(m, n), "Mod": m % max(n, 1),
        }[kind]  # fmt: skip
        if 0 < result <= 48:
            self.scalars.append((self.add(kind, a, b), result))

    def scaled(self) -> None:
        a, m = self.size()
        scale = float(self.rng.choice([0.5, 0.25, 2.0, 1.5, 1 / 3, 0.7, 3.0]))
        kind = str(self.rng.choice(["Mul", "Div"]))
        number = self.add("Cast", a, to=FLOAT.code)
        number = self.add(kind, number, self.constant([scale], np.float32))
        exact = (
            np.float32(m) * np.float32(scale)
            if kind == "Mul"
            else np.float32(m) / np.float32(scale)
        )
        rounding = str(self.rng.choice(["Floor", "Ceil", ""]))
        if rounding:
            number = self.add(rounding, number)
            exact = np.floor(exact) if rounding == "Floor" else np.ceil(exact)
        if 0 < int(exact) <= 48:
            self.scalars.append((self.add("Cast", number, to=INT64.code), int(exact)))

    def reshape(self) -> None:
        value, shape = self.tensor()
        kind = self.rng.integers(3)
        if kind == 0:
            target, result = self.constant([-1]), (int(np.prod(shape)),)
        elif kind == 1 and shape:
            target, result = self.constant([0, -1]), (shape[0], int(np.prod(shape[1:])))
            if 0 in shape:
                return
        else:
            size, m = self.size()
            if m == 0 or int(np.prod(shape)) % m:
                return
            target = self.add("Concat", size, self.constant([-1]), axis=0)
            result = (m, int(np.prod(shape)) // m)
        self.keep(self.add("Reshape", value, target), result)

    def expand(self) -> None:
        value, shape = self.tensor()
        size, m = self.size()
        if shape and shape[-1] not in (1, m) and m != 1:
            return
        last = m if not shape or shape[-1] == 1 else shape[-1]
        result = (*shape[:-1], last)
        target = self.add("Concat", self.constant([1]), size, axis=0)
        if len(result) < 2:
            result = (1, *result)
        self.keep(self.add("Expand", value, target), result)

    def slice(self) -> None:
        value, shape = self.tensor(1)
        if not shape:
            return
        axis = int(self.rng.integers(len(shape)))
        start, end = (self.bound() for _ in range(2))
        step = int(self.rng.choice([1, 1, 2, -1]))
        steps = self.constant([step])
        n = shape[axis]
        length = len(np.arange(n)[_python_slice(n, start[1], end[1], step)])
        result = (*shape[:axis], length, *shape[axis + 1 :])
        cut = self.add("Slice", value, start[0], end[0], self.constant([axis]), steps)
        if length:
            self.keep(cut, result)

    def bound(self) -> tuple[Value, int]:
        if self.rng.random() < 0.5:
            return self.size()
        number = int(self.rng.choice([0, 1, 2, -1, -2, 2**31 - 1, -(2**31)]))
        return self.constant([number]), number

    def concat(self) -> None:
        value, shape = self.tensor(1)
        if shape:
            axis = int(self.rng.integers(len(shape)))
            result = (*shape[:axis], 2 * shape[axis], *shape[axis + 1 :])
            self.keep(self.add("Concat", value, value, axis=axis), result)

    def transpose(self) -> None:
        value, shape = self.tensor(1)
        order = tuple(int(n) for n in self.rng.permutation(len(shape)))
        self.keep(self.add("Transpose", value, perm=order), [shape[axis] for axis in order])

    def reduce(self) -> None:
        value, shape = self.tensor(1)
        if not shape:
            return
        axis, keep = int(self.rng.integers(len(shape))), int(self.rng.integers(2))
        result = [*shape[:axis], *[1] * keep, *shape[axis + 1 :]]
        reduced = self.add("ReduceMax", value, self.constant([axis]), keepdims=keep)
        self.keep(reduced, result)

    def gather(self) -> None:
        value, shape = self.tensor(1)
        if shape:
            picked = self.add("Gather", value, self.constant([[0, -1]]), axis=0)
            self.keep(picked, (1, 2, *shape[1:]))

    def unsqueeze(self) -> None:
        value, shape = self.tensor()
        axis = int(self.rng.integers(len(shape) + 1))
        new = self.add("Unsqueeze", value, self.constant([axis]))
        self.keep(new, (*shape[:axis], 1, *shape[axis:]))

    def range(self) -> None:
        size, m = self.size()
        scalar = self.add("Squeeze", size, self.constant([0]))
        numbers = self.add("Range", self.constant(0), scalar, self.constant(1))
        self.keep(self.add("Cast", numbers, to=FLOAT.code), (m,))

    def tile(self) -> None:
        value, shape = self.tensor(1)
        size, m = self.size()
        if len(shape) == 1 and m:
            self.keep(self.add("Tile", value, size), (shape[0] * m,))

    def pad(self) -> None:
        value, shape = self.tensor(1)
        size, m = self.size()
        if len(shape) == 1:
            pads = self.add("Concat", size, self.constant([1]), axis=0)
            self.keep(self.add("Pad", value, pads), (shape[0] + m + 1,))

    def split(self) -> None:
        value, shape = self.tensor(1)
        if shape and shape[0] > 1:
            first, second = self.add("Split", value, n=2, axis=0, num_outputs=2)
            half = -(-shape[0] // 2)
            self.keep(first, (half, *shape[1:]))
            self.keep(second, (shape[0] - half, *shape[1:]))

    def select(self) -> None:
        (a, m), (b, n) = self.size(), self.size()
        kind = str(self.rng.choice(["Less", "Equal", "GreaterOrEqual"]))
        holds = {"Less": m < n, "Equal": m == n, "GreaterOrEqual": m >= n}[kind]
        condition = self.add(kind, a, b)
        self.scalars.append((self.add("Where", condition, a, b), m if holds else n))


def _python_slice(size: int, start: int, end: int, step: int) -> slice:
    start = max(start + size, 0 if step > 0 else -1) if start < 0 else min(start, size)
    end = max(end + size, 0 if step > 0 else -1) if end < 0 else min(end, size)
    if step < 0:
        start = min(start, size - 1)
        if start < 0:
            return slice(0, 0)
        return slice(start, None if end < 0 else end, step)
    return slice(start, end, step)
