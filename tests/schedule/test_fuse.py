"""What is fused with what: the groups that are left of a graph of definitions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sardonyx.dims import symbol
from sardonyx.dtypes import FLOAT
from sardonyx.loops import mathematics
from sardonyx.loops.expr import Expr, Ref, index, leaves, loads
from sardonyx.loops.nest import Contraction, Lowering, Nest, Source
from sardonyx.loops.scalars import apply, const
from sardonyx.schedule.fuse import Fuser, Group

M, N, K = symbol("M"), symbol("N"), symbol("K")


class Graph:
    """Definitions in order, each the only one of its name; readers are counted as they come."""

    def __init__(self, *kept: str) -> None:
        self.kept = set(kept)
        self.groups: list[Group] = []
        self.uses: dict[Any, int] = {}
        self.k = Lowering()

    def source(self, name: str, *shape: Any) -> Source:
        return Source(name, FLOAT, shape)

    def define(self, name: str, definition: Any) -> Source:
        for buffer in {load.buffer for load in loads(*definition.exprs())}:
            self.uses[buffer] = self.uses.get(buffer, 0) + 1
        self.groups.append(Group(name, definition, [name]))
        return Source(name, FLOAT, definition.shape)

    def map(self, name: str, element: Callable[..., Expr], *sources: Source) -> Source:
        shape = max((source.shape for source in sources), key=len)
        found = self.k.compute(
            shape, FLOAT, lambda *axes: element(*(source.at(axes) for source in sources))
        )
        return self.define(name, found)

    def matmul(self, name: str, a: Source, b: Source) -> Source:
        k, (m, n, depth) = self.k, self.k.axes(3)
        sizes = (a.shape[0], b.shape[1], a.shape[1])
        target = (index(m), index(n))
        value = Ref("sum", FLOAT)
        del k
        found = Contraction(
            sizes[:2], FLOAT, (), (), m, n, depth, sizes, a[m, depth], b[depth, n], value, target
        )
        return self.define(name, found)

    def total(self, name: str, x: Source) -> Source:
        stage = ("total", "add", FLOAT, 0.0, lambda point: x[point])
        found = self.k.rows(x.shape, [1], FLOAT, [stage], lambda _p, total: total, keep=True)
        return self.define(name, found)

    def fused(self) -> dict[str, tuple[str, ...]]:
        """The nodes of each group that is left, by the value it computes."""
        fuser = Fuser(lambda value: value in self.kept, lambda value: self.uses.get(value, 0))
        for group in self.groups:
            fuser.add(group)
        for value in list(fuser.pending):
            if value in self.kept:
                fuser.materialize(value)
        self.done = fuser.done
        return {str(value): tuple(group.nodes) for value, group in fuser.done.items()}


def double(x: Expr) -> Expr:
    return apply("add", x, x)


def costly(x: Expr) -> Expr:
    return mathematics.sigmoid(x)


def plus(x: Expr, y: Expr) -> Expr:
    return apply("add", x, y)


def test_a_chain_is_one_kernel() -> None:
    g = Graph("y")
    x = g.source("x", M, N)
    g.map("y", double, g.map("q", costly, g.map("p", double, x)))
    assert g.fused() == {"y": ("p", "q", "y")}
    definition = g.done["y"].definition
    assert isinstance(definition, Nest)
    assert {load.buffer for load in loads(definition.value)} == {"x"}


def test_what_must_lie_in_memory_is_a_kernel_of_its_own() -> None:
    g = Graph("p", "y")
    g.map("y", costly, g.map("p", costly, g.source("x", M, N)))
    assert g.fused() == {"p": ("p",), "y": ("y",)}


def test_a_cheap_value_is_computed_by_each_reader() -> None:
    g = Graph("y", "z")
    p = g.map("p", double, g.source("x", M, N))
    g.map("y", costly, p)
    g.map("z", double, p)
    assert g.fused() == {"y": ("p", "y"), "z": ("p", "z")}


def test_a_costly_value_with_two_readers_is_computed_once() -> None:
    g = Graph("y", "z")
    p = g.map("p", costly, g.source("x", M, N))
    g.map("y", double, p)
    g.map("z", double, p)
    assert set(g.fused()) == {"p", "y", "z"}


def test_a_costly_value_is_not_repeated_along_an_axis() -> None:
    g = Graph("y")
    row = g.map("row", costly, g.source("b", N))
    g.map("y", plus, g.source("x", M, N), row)
    assert g.fused() == {"row": ("row",), "y": ("y",)}


def test_bias_and_activation_are_the_epilogue_of_a_product() -> None:
    g = Graph("y")
    p = g.matmul("p", g.source("a", M, K), g.source("w", K, N))
    q = g.map("q", plus, p, g.source("bias", N))
    g.map("y", costly, q)
    assert g.fused() == {"y": ("p", "q", "y")}
    definition = g.done["y"].definition
    assert isinstance(definition, Contraction)
    assert leaves(definition.value, Ref) == {Ref("sum", FLOAT)}
    assert {load.buffer for load in loads(definition.value)} == {"bias"}


def test_a_product_with_two_readers_has_no_epilogue() -> None:
    g = Graph("y", "z")
    p = g.matmul("p", g.source("a", M, K), g.source("w", K, N))
    g.map("y", costly, p)
    g.map("z", double, p)
    assert set(g.fused()) == {"p", "y", "z"}


def test_a_costly_left_operand_is_computed_before_the_product() -> None:
    g = Graph("y")
    a = g.map("a1", costly, g.source("a", M, K))
    g.matmul("y", a, g.source("w", K, N))
    assert g.fused() == {"a1": ("a1",), "y": ("y",)}


def test_a_move_of_an_operand_is_only_another_index() -> None:
    g = Graph("y")
    w = g.source("w", N, K)
    turned = g.define("turned", g.k.compute((K, N), FLOAT, lambda i, j: w[j, i]))
    g.matmul("y", g.source("a", M, K), turned)
    assert g.fused() == {"y": ("turned", "y")}


def test_a_row_operation_takes_in_what_it_reads_and_what_reads_it() -> None:
    g = Graph("y")
    x = g.map("p", double, g.source("x", M, N))
    total = g.total("total", x)
    g.map("y", lambda v: apply("mul", v, const(0.5, FLOAT)), total)
    assert g.fused() == {"y": ("p", "total", "y")}
