"""Vector loops in halves: what is shared, and that the results are those of plain loops."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from codegen.running import compiled, run
from sardonyx.codegen.emit import emit_module
from sardonyx.codegen.machine import host
from sardonyx.codegen.pipelining import halfway
from sardonyx.dims import symbol
from sardonyx.dtypes import FLOAT, INT64
from sardonyx.loops import mathematics
from sardonyx.loops.expr import Axis, Expr, Load, Ref, index, linear
from sardonyx.loops.interpret import interpret
from sardonyx.loops.kernel import Accumulate, For, Kernel, Let, Param, Stmt, Store, Var
from sardonyx.loops.scalars import apply, const

ONCE, J = Axis("once"), Axis("j")
X, OUT = Param("x", FLOAT, ()), Param("out", FLOAT, (), True)
AT = Load("x", [J], FLOAT)
LONG = mathematics.sigmoid(mathematics.exp(AT))


def loop(extent: Any, *body: Stmt) -> For:
    return For(J, index(extent), body, "vector")


def plain(value: Expr) -> Store:
    return Store("out", (index(J),), value)


def check(inner: For, length: int, *before: Stmt, after: tuple[Stmt, ...] = ()) -> Any:
    """`out` of a kernel with the loop, the same compiled and interpreted; it is pipelined."""
    body = (*before, inner, *after)
    k = Kernel("k", (X, OUT), ("s0",), (For(ONCE, index(1), body, "parallel"),))
    x = np.random.default_rng(length).uniform(-3, 3, length + 1).astype(np.float32)
    buffers = {"x": x, "out": np.zeros(length + 1, np.float32)}
    meant = {name: array.copy() for name, array in buffers.items()}
    interpret(k, meant, {"s0": length})
    found = run(compiled([k], strict=True), k, buffers, {"s0": length}, 1)["out"]
    np.testing.assert_allclose(found, meant["out"], rtol=1e-6 * max(length, 1), atol=0)
    return found


@pytest.mark.parametrize("length", [*range(20), 31, 32, 33, 200])
def test_any_length(length: int) -> None:
    inner = loop(symbol("s0"), plain(LONG))
    assert halfway(inner)
    check(inner, length)


@pytest.mark.parametrize("length", [136, 141, 144, 256])
def test_lengths_that_are_known(length: int) -> None:
    check(loop(length, plain(LONG)), length)


def test_names_and_sums() -> None:
    value = Ref("value", FLOAT)
    inner = loop(
        symbol("s0"),
        Let("value", LONG),
        plain(apply("add", value, AT)),
        Accumulate("total", "add", value),
    )
    assert halfway(inner)
    last = Store("out", (index(symbol("s0")),), Ref("total", FLOAT))
    for length in (0, 5, 8, 77):
        check(inner, length, Var("total", FLOAT, const(0, FLOAT)), after=(last,))


def test_few_values_in_the_middle_are_shared() -> None:
    inner = loop(symbol("s0"), plain(mathematics.sigmoid(AT)))
    shared = halfway(inner)
    assert 0 < len(shared) <= 2
    k = Kernel("k", (X, OUT), ("s0",), (For(ONCE, index(1), (inner,), "parallel"),))
    vector = f"<{host().lanes(32)} x float>"
    text = emit_module([k], host())
    assert sum(f"phi {vector}" in line for line in text.splitlines()) == len(shared)


def test_short_bodies_stay_whole() -> None:
    assert not halfway(loop(symbol("s0"), plain(apply("mul", AT, AT))))


def test_what_the_loop_itself_writes_is_not_read_early() -> None:
    earlier = Load("out", [linear((J, 1), (-1, 1))], FLOAT)
    assert not halfway(loop(symbol("s0"), plain(mathematics.exp(mathematics.exp(earlier)))))
    sums = (
        Accumulate("total", "add", AT),
        plain(mathematics.exp(mathematics.exp(Ref("total", FLOAT)))),
    )
    assert not halfway(loop(symbol("s0"), *sums))


def test_indices_that_may_be_outside_are_not_looked_at_early() -> None:
    where = apply("index", Load("where", [J], INT64), index(symbol("s0")))
    taken = Load("x", [linear((where, 1))], FLOAT)
    assert not halfway(loop(symbol("s0"), plain(mathematics.exp(mathematics.exp(taken)))))
