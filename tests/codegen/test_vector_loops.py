"""Vector loops: several vectors in a trip, what is left over, hints, and stores past the caches."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import sardonyx as sx
from codegen.running import compiled, run
from sardonyx.codegen.emit import emit_module
from sardonyx.codegen.machine import host
from sardonyx.dims import symbol
from sardonyx.dtypes import FLOAT
from sardonyx.loops import mathematics
from sardonyx.loops.check import KernelError, check_kernel
from sardonyx.loops.expr import Axis, Expr, Load, Ref, index, linear
from sardonyx.loops.interpret import interpret
from sardonyx.loops.kernel import Accumulate, For, Kernel, Let, Param, Prefetch, Stmt, Store, Var
from sardonyx.loops.printer import kernel_text
from sardonyx.loops.scalars import apply, const
from sardonyx.schedule import nests

ONCE, J = Axis("once"), Axis("j")
X, OUT = Param("x", FLOAT, ()), Param("out", FLOAT, (), True)
AT = Load("x", [J], FLOAT)
LONG = mathematics.sigmoid(mathematics.exp(AT))


def loop(extent: Any, *body: Stmt) -> For:
    return For(J, index(extent), body, "vector")


def plain(value: Expr, *, streamed: bool = False) -> Store:
    return Store("out", (index(J),), value, streamed)


def kernel(*body: Stmt) -> Kernel:
    return Kernel("k", (X, OUT), ("s0",), (For(ONCE, index(1), body, "parallel"),))


def check(inner: For, length: int, *before: Stmt, after: tuple[Stmt, ...] = ()) -> Any:
    """`out` of a kernel with the loop, which is the same compiled and interpreted."""
    k = kernel(*before, inner, *after)
    x = np.random.default_rng(length).uniform(-3, 3, length + 1).astype(np.float32)
    buffers = {"x": x, "out": np.zeros(length + 1, np.float32)}
    meant = {name: array.copy() for name, array in buffers.items()}
    interpret(k, meant, {"s0": length})
    found = run(compiled([k], strict=True), k, buffers, {"s0": length}, 1)["out"]
    np.testing.assert_allclose(found, meant["out"], rtol=1e-6 * max(length, 1), atol=0)
    return found


@pytest.mark.parametrize("value", [LONG, apply("mul", AT, AT)])
@pytest.mark.parametrize("length", [*range(20), 31, 32, 33, 200])
def test_any_length(length: int, value: Expr) -> None:
    check(loop(symbol("s0"), plain(value)), length)


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("length", [8, 24, 136, 141, 144, 256])
def test_lengths_that_are_known(length: int, streamed: bool) -> None:
    check(loop(length, plain(LONG, streamed=streamed)), length)


def test_names_and_sums() -> None:
    value = Ref("value", FLOAT)
    inner = loop(
        symbol("s0"),
        Let("value", LONG),
        plain(apply("add", value, AT)),
        Accumulate("total", "add", value),
    )
    last = Store("out", (index(symbol("s0")),), Ref("total", FLOAT))
    for length in (0, 5, 8, 77):
        check(inner, length, Var("total", FLOAT, const(0, FLOAT)), after=(last,))


def test_a_long_body_fills_a_line_of_the_cache_with_each_trip() -> None:
    body = (plain(LONG), Accumulate("total", "add", LONG))
    total = Var("total", FLOAT, const(0, FLOAT))
    for inside, before, vectors in ((body[:1], (), 3), (body, (total,), 1)):
        text = emit_module([kernel(*before, loop(symbol("s0"), *inside))], host())
        stored = f"  store <{host().lanes(32)} x float>"
        written = [line for line in text.split("\n") if stored in line and "align 4" in line]
        assert len(written) == vectors  # two of each trip, and one that is left over


def test_what_is_streamed_is_written_twice() -> None:
    """Once for vectors that begin at multiples of their size, once for others."""
    text = emit_module([kernel(loop(symbol("s0"), plain(LONG, streamed=True)))], host())
    stores = [line for line in text.split("\n") if "  store <" in line]
    assert sum("!nontemporal" in line for line in stores) * 2 == len(stores) > 0


def following() -> Prefetch:
    return Prefetch("x", (linear((J, 1), (1 << 20, 1)),))


def test_hints_are_given_for_each_line_and_may_be_outside() -> None:
    inner = loop(symbol("s0"), following(), plain(apply("mul", AT, AT)))
    for length in (0, 7, 64, 77):
        check(inner, length)
    text = emit_module([kernel(inner)], host())
    trip = host().interleave * host().lanes(32) * 4
    assert text.count("call void @llvm.prefetch") == trip // 64 + 1


def test_hints_are_in_vector_loops() -> None:
    with pytest.raises(KernelError, match="hint is outside of a vector loop"):
        check_kernel(kernel(For(J, index(2), (Prefetch("x", (index(0),)),), "serial")))


@pytest.mark.parametrize("op_type", ["Softmax", "LayerNormalization"])
@pytest.mark.parametrize("rows", [3, "N"])
def test_the_next_row_is_fetched_while_one_is_computed(
    op_type: str, rows: int | str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nests, "_FAR", 4096)
    given = "x" if op_type == "Softmax" else "x, s"
    model = sx.parse(
        f"""<ir_version: 10, opset_import: ["" : 23]>
        g (float[2, {rows}, 517] x, float[517] s) => (float[2, {rows}, 517] y) {{ y = {op_type}({given}) }}"""
    )
    session = sx.Session(model)
    assert session.compiled is not None
    (step,) = session.compiled.compilation.steps
    (launch,) = step.launches  # type: ignore[union-attr]
    text = kernel_text(launch.kernel)
    assert text.count("prefetch") == 1
    rng = np.random.default_rng(0)
    x, s = (rng.standard_normal(n).astype(np.float32) for n in ((2, 3, 517), 517))
    found = session.run(None, {"x": x, "s": s})[0].astype(np.float64)
    wide = x.astype(np.float64)
    if op_type == "Softmax":
        expected = np.exp(wide) / np.exp(wide).sum(-1, keepdims=True)
    else:
        centred = wide - wide.mean(-1, keepdims=True)
        expected = s * centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(found, expected, rtol=2**-20, atol=2**-20)


def test_short_rows_and_small_matrices_are_not_fetched_ahead() -> None:
    for shape in ("[60000, 40]", "[100, 517]"):
        text = f'<ir_version: 10, opset_import: ["" : 23]> g (float{shape} x) => (float{shape} y) {{ y = Softmax(x) }}'
        session = sx.Session(sx.parse(text))
        assert session.compiled is not None
        (step,) = session.compiled.compilation.steps
        assert all("prefetch" not in kernel_text(x.kernel) for x in step.launches)  # type: ignore[union-attr]
