"""Named kernels in which code generation has something to go wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from codegen.running import Call, compiled, run
from sardonyx.codegen.emit import emit_module
from sardonyx.codegen.machine import host
from sardonyx.dims import symbol
from sardonyx.dtypes import BOOL, DOUBLE, FLOAT, FLOAT16, INT8, INT64
from sardonyx.loops.expr import Apply, Axis, Load, Ref, index, linear
from sardonyx.loops.interpret import interpret
from sardonyx.loops.kernel import Accumulate, For, If, Kernel, Let, Local, Param, Store, Var
from sardonyx.loops.scalars import apply, cast, const, select

ONCE, ROWS, J, L = Axis("once"), Axis("i"), Axis("j"), Axis("l")
S0, S1 = symbol("s0"), symbol("s1")
ZERO = const(0, FLOAT)
X, OUT = Param("x", FLOAT, ()), Param("out", FLOAT, (), True)


def kernel(params: tuple[Param, ...], *body: Any, steps: Any = 1) -> Kernel:
    return Kernel("k", params, ("s0", "s1"), (For(ONCE, index(steps), body, "parallel"),))


def both(k: Kernel, buffers: dict[str, Any], s0: int, s1: int = 0, steps: int = 1) -> Any:
    """`out`, which is the same compiled and interpreted."""
    sizes = {"s0": s0, "s1": s1}
    meant = {name: array.copy() for name, array in buffers.items()}
    interpret(k, meant, sizes)
    for strict in (False, True):
        found = run(compiled([k], strict=strict), k, buffers, sizes, steps)
        np.testing.assert_array_equal(found["out"], meant["out"])
    return meant["out"]


@pytest.mark.parametrize("n", [0, 1, 7, 40])
def test_a_position_that_is_named_and_differs_between_lanes(n: int) -> None:
    where = Load("where", [J], INT64)
    place = Ref("place", INT64)
    k = kernel(
        (X, Param("where", INT64, ()), OUT),
        For(
            J,
            index(S0),
            (
                Let("place", Apply("index", (where, index(S1)), INT64)),
                Let("twice", apply("add", place, place)),
                Store("out", (index(J),), Load("x", [linear((place, 1))], FLOAT)),
                Store(
                    "out",
                    (linear((S0, 1), (J, 1)),),
                    Load("x", [linear((Ref("twice", INT64), 1), (place, -1))], FLOAT),
                ),
            ),
            "vector",
        ),
    )
    rng = np.random.default_rng(0)
    x, at = rng.standard_normal(11).astype(np.float32), rng.integers(-11, 11, n)
    out = both(k, {"x": x, "where": at, "out": np.zeros(2 * n, np.float32)}, n, 11)
    np.testing.assert_array_equal(out, np.concatenate([x[at], x[at]]))


@pytest.mark.parametrize("n", range(41))
def test_a_loop_of_every_length_over_types_of_every_width(n: int) -> None:
    params = (
        Param("flag", BOOL, ()),
        Param("half", FLOAT16, ()),
        Param("wide", DOUBLE, ()),
        Param("small", INT8, ()),
        Param("back", BOOL, (), True),
        Param("out", DOUBLE, (), True),
    )
    flag, half = Load("flag", [J], BOOL), cast(Load("half", [J], FLOAT16), DOUBLE)
    value = select(flag, half, Load("wide", [J], DOUBLE))
    total = apply("add", value, cast(Load("small", [J], INT8), DOUBLE))
    last = linear((S1, 1), (J, -1))
    k = kernel(
        params,
        For(
            J,
            index(S0),
            (
                Store("out", (last,), total),
                Store("back", (last,), Apply("lt", (total, const(1, DOUBLE)), BOOL)),
            ),
            "vector",
        ),
    )
    rng = np.random.default_rng(n)
    buffers = {
        "flag": rng.integers(0, 2, n).astype(bool),
        "half": rng.standard_normal(n).astype(np.float16),
        "wide": rng.standard_normal(n),
        "small": rng.integers(-100, 100, n).astype(np.int8),
        "back": np.zeros(n, bool),
        "out": np.zeros(n),
    }
    out = both(k, buffers, n, max(n - 1, 0))
    chosen = np.where(buffers["flag"], buffers["half"].astype(np.float64), buffers["wide"])
    np.testing.assert_array_equal(out, (chosen + buffers["small"])[::-1])


@pytest.mark.parametrize("rows, columns", [(3, 40), (0, 5), (5, 0), (1, 8), (4, 7)])
def test_one_variable_for_a_vector_loop_and_the_loop_inside_of_it(rows: int, columns: int) -> None:
    item = Load("x", [linear((L, S0), (J, 1))], FLOAT)
    k = kernel(
        (X, OUT),
        Var("total", FLOAT, ZERO),
        For(J, index(S0), (For(L, index(S1), (Accumulate("total", "add", item),)),), "vector"),
        Store("out", (index(0),), Ref("total", FLOAT)),
    )
    x = np.arange(rows * columns, dtype=np.float32)
    out = both(k, {"x": x, "out": np.zeros(1, np.float32)}, columns, rows)
    assert out[0] == x.sum()


def test_scratch_of_a_size_known_when_it_runs_in_loops_and_branches() -> None:
    def filled(name: str, value: float) -> tuple[Any, ...]:
        fill = For(J, index(S0), (Store(name, (index(J),), const(value, FLOAT)),), "vector")
        read = Load(name, [J], FLOAT)
        where = linear((ROWS, S0), (J, 1))
        add = Store("out", (where,), apply("add", Load("out", [where], FLOAT), read))
        return (Local(name, FLOAT, (S0,)), fill, For(J, index(S0), (add,), "vector"))

    first = Apply("eq", (index(ROWS), const(0, INT64)), BOOL)
    k = kernel(
        (OUT,),
        For(ROWS, index(S1), (*filled("a", 1), If(first, filled("b", 10), filled("c", 100)))),
        For(ROWS, index(S1), filled("d", 1000)),
    )
    out = both(k, {"out": np.zeros(3 * 21, np.float32)}, 21, 3)
    np.testing.assert_array_equal(out.reshape(3, 21)[:, 0], [1011, 1101, 1101])


def test_a_buffer_and_a_variable_in_an_unrolled_loop() -> None:
    k = kernel(
        (X, OUT),
        For(
            ROWS,
            index(3),
            (
                Local("row", FLOAT, (8,)),
                For(J, index(8), (Store("row", (index(J),), Load("x", [J], FLOAT)),), "vector"),
                Var("total", FLOAT, ZERO),
                For(J, index(8), (Accumulate("total", "add", Load("row", [J], FLOAT)),), "vector"),
                Store("out", (index(ROWS),), Ref("total", FLOAT)),
            ),
            "unroll",
        ),
    )
    out = both(k, {"x": np.arange(8, dtype=np.float32), "out": np.zeros(3, np.float32)}, 0)
    np.testing.assert_array_equal(out, [28, 28, 28])


def test_variables_of_one_name_and_two_types() -> None:
    def block(at: int, dtype: Any) -> For:
        total = cast(Ref("total", dtype), FLOAT)
        inner = For(J, index(S0), (Accumulate("total", "add", cast(index(J), dtype)),), "vector")
        body = (Var("total", dtype, const(1, dtype)), inner, Store("out", (index(at),), total))
        return For(ROWS, index(1), body)

    k = kernel((OUT,), block(0, FLOAT), block(1, INT64), block(2, INT8))
    out = both(k, {"out": np.zeros(3, np.float32)}, 11)
    np.testing.assert_array_equal(out, [56, 56, 56])


def test_a_parallel_loop_with_a_branch_is_no_vector_loop() -> None:
    item = Load("x", [ONCE], FLOAT)
    positive = Apply("lt", (ZERO, item), BOOL)
    store = Store("out", (index(ONCE),), item)
    k = kernel((X, OUT), If(positive, (store,)), steps=S0)
    x = np.random.default_rng(0).standard_normal(37).astype(np.float32)
    out = both(k, {"x": x, "out": np.zeros(37, np.float32)}, 37, steps=37)
    np.testing.assert_array_equal(out, np.where(x > 0, x, 0))


@pytest.mark.parametrize("inner", [False, True])
def test_a_loop_without_steps_reads_nothing(inner: bool) -> None:
    scale = Load("x", [index(0)], FLOAT)  # its buffer is nowhere when there are no steps
    body: tuple[Any, ...] = (Store("out", (index(J),), scale),)
    if inner:
        add = Accumulate("total", "add", scale)
        body = (
            Var("total", FLOAT, ZERO),
            For(L, index(S1), (add,)),
            Store("out", (index(J),), Ref("total", FLOAT)),
        )
    k = kernel((X, OUT), For(J, index(S0), body, "vector"))
    buffers = {"x": np.zeros(0, np.float32), "out": np.full(20, 5, np.float32)}
    call = Call(compiled([k], strict=False), k, buffers, {"s0": 20 if inner else 0, "s1": 0})
    call.table[0] = 0
    call.part(0, 1)
    assert (call.results()["out"] == (0 if inner else 5)).all()


def test_numbers_from_data_may_wrap() -> None:
    """Positions far outside are noted, whatever is computed with them before."""
    far = linear((Load("where", [J], INT64), 4), (J, 1), (1, 1))
    place = Apply("index", (far, index(S1)), INT64)
    k = kernel(
        (X, Param("where", INT64, ()), OUT),
        For(J, index(S0), (Store("out", (index(J),), Load("x", [place], FLOAT)),), "vector"),
    )
    where = np.full(21, 2**62 + 12345, np.int64)
    buffers = {"x": np.ones(5, np.float32), "where": where, "out": np.zeros(21, np.float32)}
    call = Call(compiled([k], strict=False), k, buffers, {"s0": 21, "s1": 5})
    call.part(0, 1)
    assert call.status.array()[0] == 1
    np.testing.assert_array_equal(call.results()["out"], np.ones(21))


def test_strict_code_contracts_nothing() -> None:
    item = Load("x", [J], FLOAT)
    value = apply("add", apply("mul", item, item), item)
    k = kernel((X, OUT), For(J, index(S0), (Store("out", (index(J),), value),), "vector"))
    assert "contract" in emit_module([k], host())
    assert "contract" not in emit_module([k], host(), strict=True)
    x = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    buffers = {"x": x, "out": np.zeros(1000, np.float32)}
    found = run(compiled([k], strict=True), k, buffers, {"s0": 1000, "s1": 0}, 1)
    np.testing.assert_array_equal(found["out"], x * x + x)
