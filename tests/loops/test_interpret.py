"""The interpreter beside NumPy, and kernels as text."""

from __future__ import annotations

import numpy as np
import pytest

from sardonyx.dims import symbol
from sardonyx.dtypes import BOOL, FLOAT, INT64
from sardonyx.errors import ExecutionError
from sardonyx.loops.expr import Apply, Axis, Load, Ref, index, linear
from sardonyx.loops.interpret import interpret, value_of
from sardonyx.loops.kernel import Accumulate, For, If, Kernel, Let, Local, Param, Store, Var
from sardonyx.loops.printer import kernel_text
from sardonyx.loops.scalars import apply, const

ROWS, J, L = Axis("i"), Axis("j"), Axis("l")
M, N, K = (index(symbol(f"s{number}")) for number in range(3))
SIZES = ("s0", "s1", "s2")
ROW = symbol("s1")
DEPTH = symbol("s2")


def product_kernel() -> Kernel:
    a = Load("a", [linear((ROWS, DEPTH), (L, 1))], FLOAT)
    b = Load("b", [linear((L, ROW), (J, 1))], FLOAT)
    total = Ref("total", FLOAT)
    inner = (
        Var("total", FLOAT, const(0, FLOAT)),
        For(L, K, (Accumulate("total", "add", apply("mul", a, b)),)),
        Let("half", apply("mul", total, const(0.5, FLOAT))),
        Store("y", (linear((ROWS, ROW), (J, 1)),), Ref("half", FLOAT)),
    )
    params = (Param("a", FLOAT, ()), Param("b", FLOAT, ()), Param("y", FLOAT, (), True))
    body = (For(ROWS, M, (For(J, N, inner, "vector"),), "parallel"),)
    return Kernel("product", params, SIZES, body)


def test_a_product() -> None:
    rng = np.random.default_rng(0)
    a = rng.integers(-9, 9, (4, 5)).astype(np.float32)
    b = rng.integers(-9, 9, (5, 6)).astype(np.float32)
    y = np.zeros(24, np.float32)
    interpret(
        product_kernel(), {"a": a.ravel(), "b": b.ravel(), "y": y}, {"s0": 4, "s1": 6, "s2": 5}
    )
    np.testing.assert_array_equal(y.reshape(4, 6), a @ b / 2)


def test_a_product_as_text() -> None:
    assert (
        kernel_text(product_kernel())
        == """\
kernel product(a: FLOAT, b: FLOAT, out y: FLOAT; s0, s1, s2)
  parallel i < s0:
    vector j < s1:
      var total: FLOAT = 0.0:float
      serial l < s2:
        total = add(total, (a[s2*i + l] * b[j + s1*l]))
      let half = (total * 0.5:float)
      y[s1*i + j] = half
"""
    )


def branching_kernel() -> Kernel:
    item = Load("x", [ROWS], FLOAT)
    square = apply("mul", item, item)
    small = Apply("lt", (item, const(0, FLOAT)), BOOL)
    last = linear((symbol("s0"), 1), (-1, 1), (ROWS, -1))
    body = (
        Local("held", FLOAT, (1,)),
        Store("held", (index(0),), apply("add", square, square)),
        If(small, (Store("y", (last,), Load("held", [0], FLOAT)),), (Store("y", (last,), item),)),
    )
    params = (Param("x", FLOAT, ()), Param("y", FLOAT, (), True))
    return Kernel("branching", params, ("s0",), (For(ROWS, M, body, "parallel"),))


def test_a_branch_and_a_scratch_buffer() -> None:
    x = np.linspace(-2, 2, 9, dtype=np.float32)
    y = np.zeros(9, np.float32)
    interpret(branching_kernel(), {"x": x, "y": y}, {"s0": 9})
    np.testing.assert_array_equal(y, np.where(x < 0, 2 * x * x, x)[::-1])


def test_a_branch_as_text() -> None:
    assert (
        kernel_text(branching_kernel())
        == """\
kernel branching(x: FLOAT, out y: FLOAT; s0)
  parallel i < s0:
    local held: FLOAT[1]
    %0 = (x[i] * x[i])
    held[0] = (%0 + %0)
    if (x[i] < 0.0:float):
      y[(s0 - 1) + -1*i] = held[0]
    else:
      y[(s0 - 1) + -1*i] = x[i]
"""
    )


def test_an_expression_of_arrays() -> None:
    x = Ref("x", FLOAT)
    value = apply("sqrt", apply("add", apply("mul", x, x), const(1, FLOAT)))
    numbers = np.linspace(-3, 3, 100, dtype=np.float32)
    found = value_of(value, {x: numbers})
    np.testing.assert_array_equal(found, np.sqrt(numbers * numbers + np.float32(1)))


def test_an_index_outside_fails() -> None:
    place = Apply("index", (Ref("at", INT64), N), INT64)
    assert value_of(place, {Ref("at", INT64): np.int64(-1)}, {"s1": 7}) == 6
    with pytest.raises(ExecutionError, match="index 7 is outside of 7"):
        value_of(place, {Ref("at", INT64): np.int64(7)}, {"s1": 7})
