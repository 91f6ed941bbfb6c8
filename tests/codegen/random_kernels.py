"""Random kernels whose results are exact, so that compiled and interpreted ones are equal.

Numbers are small and whole, and what is summed is held between bounds: every order of a sum gives
the same, in floats too.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sardonyx import dtypes
from sardonyx.dims import symbol
from sardonyx.dtypes import BFLOAT16, BOOL, DOUBLE, FLOAT, FLOAT16, INT64, DType
from sardonyx.loops.expr import Apply, Axis, Expr, Index, Linear, Load, Ref, index, linear
from sardonyx.loops.kernel import (
    Accumulate,
    Block,
    For,
    If,
    Kernel,
    Let,
    Local,
    Param,
    Stmt,
    Store,
    Var,
)
from sardonyx.loops.scalars import cast, const, select

STORED = [
    BOOL, dtypes.INT8, dtypes.UINT8, dtypes.INT16, dtypes.INT32, dtypes.UINT32, INT64,
    dtypes.UINT64, FLOAT16, BFLOAT16, FLOAT, DOUBLE,
]  # fmt: skip
COMPUTED = [dtypes.INT8, dtypes.UINT16, dtypes.INT32, INT64, dtypes.UINT64, FLOAT, DOUBLE]
EXTENTS = [0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 23, 31, 33, 40]

MOST_POINTS = 120
"""Times that an innermost statement runs, about: the interpreter takes a millisecond for each."""


@dataclass
class Case:
    """A kernel, what to call it with, and how many steps its parallel loop has."""

    kernel: Kernel
    buffers: dict[str, Any]
    sizes: dict[str, int]
    steps: int


@dataclass
class Loop:
    axis: Axis
    steps: int
    extent: Expr


@dataclass
class Maker:
    """Makes one kernel; `loops` are those around what is written now."""

    rng: np.random.Generator
    sizes: dict[str, int] = field(default_factory=dict)
    arrays: dict[str, Any] = field(default_factory=dict)
    params: list[Param] = field(default_factory=list)
    loops: list[Loop] = field(default_factory=list)
    names: list[Ref] = field(default_factory=list)
    count: int = 0

    def pick(self, items: Any) -> Any:
        return items[int(self.rng.integers(len(items)))]

    def chance(self, share: float) -> bool:
        return bool(self.rng.random() < share)

    def fresh(self, prefix: str) -> str:
        self.count += 1
        return f"{prefix}{self.count}"

    def dim(self, value: int) -> Any:
        """A number as itself or as a size of the kernel."""
        if value < 0 or self.chance(0.5):
            return value
        name = f"s{len(self.sizes)}"
        self.sizes[name] = value
        return symbol(name)

    def loop(self, steps: int | None = None, *, fixed: bool = False) -> Loop:
        if steps is None:
            room = MOST_POINTS // max(int(np.prod([loop.steps for loop in self.loops])), 1)
            steps = int(self.pick([extent for extent in EXTENTS if extent <= max(room, 3)]))
        extent = index(steps if fixed else self.dim(steps))
        return Loop(Axis(self.fresh("i")), steps, extent)

    # -- accesses -------------------------------------------------------------------------------

    def buffer(self, dtype: DType, count: int, *, written: bool = False) -> str:
        name = f"b{len(self.params)}"
        self.params.append(Param(name, dtype, (), written))
        numbers = self.rng.integers(0 if dtype.kind == "uint" else -3, 4, max(count, 0))
        self.arrays[name] = numbers.astype(dtype.numpy)
        return name

    def position(self, loops: list[Loop], *, distinct: bool) -> tuple[Linear, int]:
        """An index over `loops`, and how many elements it reaches; for stores all are `distinct`."""
        parts: list[tuple[Index, Any]] = []
        reach = 1 if all(loop.steps for loop in loops) else 0
        constant = 0
        step = 1
        order = list(loops)
        self.rng.shuffle(order)  # type: ignore[arg-type]
        if self.chance(0.7):
            order = list(reversed(loops))
        for loop in order:
            if not distinct and self.chance(0.2):
                continue
            factor = step * int(self.pick([1, 1, 1, 1, -1, 2, -2]))
            step = abs(factor) * max(loop.steps, 1)
            last = abs(factor) * max(loop.steps - 1, 0)
            constant += last if factor < 0 else 0
            reach += last if reach else 0
            parts.append((loop.axis, self.dim(factor)))
        offset = int(self.rng.integers(0, 3))
        parts.append((self.dim(constant + offset), 1))
        return linear(*parts), reach + offset

    def load(self) -> Expr:
        dtype = self.pick(STORED)
        if self.chance(0.2):
            place, reach = self.position(self.loops, distinct=False)
            count = int(self.rng.integers(1, 9))
            where = self.buffer(INT64, reach)
            limits = (-count, count)
            self.arrays[where] = self.rng.integers(*limits, reach)
            checked = Apply("index", (Load(where, [place], INT64), index(self.dim(count))), INT64)
            return Load(self.buffer(dtype, count * 2 + 1), [linear((checked, 2), (1, 1))], dtype)
        place, reach = self.position(self.loops, distinct=False)
        return Load(self.buffer(dtype, reach), [place], dtype)

    # -- values ---------------------------------------------------------------------------------

    def value(self, dtype: DType, depth: int) -> Expr:
        if depth == 0:
            return self.leaf(dtype)
        if self.chance(0.15):
            return cast(self.value(self.pick(COMPUTED), depth - 1), dtype)
        if self.chance(0.2):
            test = Apply(
                self.pick(["lt", "le", "eq", "ne"]),
                (self.value(dtype, depth - 1), self.leaf(dtype)),
                BOOL,
            )
            return select(test, self.value(dtype, depth - 1), self.leaf(dtype))
        ops = ["add", "sub", "mul", "min", "max", "minimum", "maximum"]
        if dtype.is_integer:
            ops += ["div", "rem", "and", "or", "xor", "shl", "shr", "lshr"]
        op = self.pick(ops)
        return Apply(op, (self.value(dtype, depth - 1), self.leaf(dtype)), dtype)

    def leaf(self, dtype: DType) -> Expr:
        way = self.rng.random()
        if way < 0.15:
            return const(int(self.rng.integers(0, 4)), dtype)
        if way < 0.25 and self.loops:
            return cast(index(self.pick(self.loops).axis), dtype)
        if way < 0.4 and self.names:
            return cast(self.pick(self.names), dtype)
        return cast(self.load(), dtype)

    def held(self, value: Expr, op: str) -> Expr:
        """`value` between bounds in which `op` is exact in any order."""
        dtype = value.dtype
        if op == "mul":
            one = const(1, dtype)
            other = const(2 if dtype.kind == "uint" else -1, dtype)
            return select(Apply("lt", (value, one), BOOL), other, one)
        low = const(0 if dtype.kind == "uint" else -8, dtype)
        return Apply("max", (Apply("min", (value, const(8, dtype)), dtype), low), dtype)

    # -- statements -----------------------------------------------------------------------------

    def lets(self, most: int) -> list[Stmt]:
        found: list[Stmt] = []
        for _ in range(int(self.rng.integers(0, most + 1))):
            value = self.value(self.pick(COMPUTED), 1)
            name = self.fresh("let")
            found.append(Let(name, value))
            self.names.append(Ref(name, value.dtype))
        return found

    def store(self, value: Expr | None = None) -> Stmt:
        dtype = self.pick(STORED)
        if value is None:
            value = self.value(self.pick(COMPUTED), 2)
        place, reach = self.position(self.loops, distinct=True)
        return Store(self.buffer(dtype, reach, written=True), (place,), cast(value, dtype))

    def within(self, loop: Loop, mode: str, write: Any) -> Stmt:
        """A loop around the statements that `write` gives."""
        names = list(self.names)
        self.loops.append(loop)
        body = tuple(write())
        self.loops.pop()
        self.names = names
        return For(loop.axis, loop.extent, body, mode)

    def elementwise(self) -> Block:
        return (*self.lets(2), *(self.store() for _ in range(int(self.rng.integers(1, 3)))))

    def reduction(self, inner_mode: str) -> tuple[list[Stmt], Ref]:
        """A variable and the loop that fills it."""
        dtype = self.pick(COMPUTED)
        op = self.pick(
            ["add", "mul", "min", "max", "minimum", "maximum"]
            + ([] if dtype.is_floating else ["and", "or", "xor"])
        )
        name = self.fresh("sum")
        start = const(int(self.rng.integers(0, 3)), dtype)

        def write() -> Block:
            lets = self.lets(1)
            return (*lets, Accumulate(name, op, self.held(self.value(dtype, 2), op)))

        loop = self.within(self.loop(), inner_mode, write)
        return [Var(name, dtype, start), loop], Ref(name, dtype)

    def row(self) -> Block:
        """A reduction, a row that is kept, and a loop that uses both."""
        stmts, total = self.reduction("vector")
        dtype = self.pick([FLOAT, DOUBLE, INT64, dtypes.INT8, BOOL])
        loop = self.loop()
        kept = self.fresh("row")
        fixed = self.chance(0.5)
        count = loop.steps if fixed else symbol(self.size_of(loop.steps * 4096))
        stmts.append(Local(kept, dtype, (count,)))

        def fill() -> Block:
            return (
                *self.lets(1),
                Store(kept, (index(loop.axis),), cast(self.value(FLOAT, 1), dtype)),
            )

        self.names.append(total)
        stmts.append(self.within(loop, "vector", fill))

        def use() -> Block:
            read = cast(Load(kept, [loop.axis], dtype), total.dtype)
            return (self.store(Apply("max", (read, total), total.dtype)),)

        stmts.append(self.within(loop, "vector", use))
        self.names.append(total)
        stmts.append(self.store())
        return tuple(stmts)

    def size_of(self, value: int) -> str:
        name = f"s{len(self.sizes)}"
        self.sizes[name] = value
        return name

    def across(self) -> Block:
        """Neighbouring sums side by side, each over a loop of its own."""

        def write() -> Block:
            stmts, total = self.reduction("serial")
            self.names.append(total)
            return (*stmts, *self.lets(1), self.store())

        return (self.within(self.loop(), "vector", write),)

    def body(self, depth: int) -> Block:
        way = self.rng.random()
        if depth and way < 0.35:
            mode = self.pick(["serial", "serial", "unroll"])
            steps = int(self.rng.integers(0, 4)) if mode == "unroll" else None
            loop = self.loop(steps, fixed=mode == "unroll")
            return (self.within(loop, mode, lambda: self.body(depth - 1)),)
        if depth and way < 0.45:
            test = Apply("lt", (self.leaf(INT64), self.leaf(INT64)), BOOL)
            names = list(self.names)
            then = self.body(depth - 1)
            self.names = list(names)
            otherwise = self.body(depth - 1) if self.chance(0.5) else ()
            self.names = names
            return (If(test, then, otherwise),)
        if way < 0.6:
            return (self.within(self.loop(), "vector", self.elementwise),)
        if way < 0.75:
            return self.across()
        if way < 0.9:
            return self.row()
        return self.elementwise()

    def case(self, name: str) -> Case:
        steps = int(self.rng.integers(1, 6))
        if self.chance(0.2):  # a parallel loop that is the vector loop too
            steps = int(self.rng.integers(0, 90))
            outer = self.within(self.loop(steps), "parallel", self.elementwise)
        else:
            outer = self.within(
                self.loop(steps), "parallel", lambda: (*self.lets(1), *self.body(2))
            )
        kernel = Kernel(name, tuple(self.params), tuple(self.sizes), (outer,))
        return Case(kernel, self.arrays, self.sizes, steps)


def random_case(seed: int) -> Case:
    return Maker(np.random.default_rng(seed)).case(f"k{seed}")
