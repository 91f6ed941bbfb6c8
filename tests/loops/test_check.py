"""The rules of kernels: each is found broken, and said where."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sardonyx.codegen.emit import emit_module
from sardonyx.codegen.machine import host
from sardonyx.dims import symbol
from sardonyx.dtypes import BFLOAT16, BOOL, DOUBLE, FLOAT, FLOAT16, INT32, INT64, STRING
from sardonyx.errors import SardonyxError
from sardonyx.loops.check import KernelError, check_kernel
from sardonyx.loops.expr import Apply, Axis, Const, Expr, Linear, Load, Ref, index, linear
from sardonyx.loops.kernel import (
    Accumulate,
    Block,
    For,
    If,
    Kernel,
    Let,
    Local,
    Param,
    Store,
    Var,
)
from sardonyx.loops.scalars import const

ROWS, J = Axis("i"), Axis("j")
N = index(symbol("s0"))
PARAMS = (
    Param("x", FLOAT, ()),
    Param("where", INT64, ()),
    Param("half", FLOAT16, ()),
    Param("out", FLOAT, (), True),
)
X = Load("x", [J], FLOAT)
ZERO = const(0, FLOAT)


def kernel(*body: object) -> Kernel:
    return Kernel("k", PARAMS, ("s0",), (For(ROWS, N, body, "parallel"),))  # type: ignore[arg-type]


def store(value: Expr = X, at: object = J) -> Store:
    return Store("out", (index(at),), value)  # type: ignore[arg-type]


def vector(*body: object, extent: Expr = N) -> For:
    return For(J, extent, body, "vector")  # type: ignore[arg-type]


def add(a: Expr, b: Expr) -> Expr:
    return Apply("add", (a, b), a.dtype)


BROKEN = {
    "an axis outside of its loop": (store(), "axis j is not bound"),
    "an axis bound by two loops": (For(ROWS, N, (), "serial"), "axis i is bound twice"),
    "an extent that is no INT64": (For(J, const(2, INT32), ()), "an extent is INT64"),
    "an unknown mode": (For(J, N, (), "backwards"), "no mode backwards"),
    "a parallel loop inside": (For(J, N, (), "parallel"), "parallel loop is the outermost"),
    "an unrolled loop of any length": (For(J, N, (), "unroll"), "no fixed extent"),
    "a size that nobody gives": (vector(extent=index(symbol("s1"))), "no size s1"),
    "a buffer that nobody gives": (vector(store(Load("y", [J], FLOAT))), "no buffer y"),
    "two indices": (vector(store(Load("x", [ROWS, J], FLOAT))), "has 2 indices"),
    "a load of another type": (vector(store(Load("half", [J], FLOAT))), "half is FLOAT16"),
    "a store of another type": (
        vector(store(Load("half", [J], FLOAT16))),
        "out is FLOAT, not FLOAT16",
    ),
    "a store to an input": (
        vector(Store("x", (index(J),), ZERO)),
        "not one that the kernel writes",
    ),
    "an index of floats": (
        vector(store(Load("x", [Linear(0, ((X, 1),))], FLOAT))),
        "index of type",
    ),
    "a name before its statement": (store(Ref("a", FLOAT), ROWS), "nothing is named a"),
    "a name out of its block": (
        (vector(Let("a", X)), store(Ref("a", FLOAT), ROWS)),
        "nothing is named a",
    ),
    "a name of another type": (
        (Let("a", const(1, INT64)), store(Ref("a", FLOAT), ROWS)),
        "a is INT64, not FLOAT",
    ),
    "a name given twice": ((Let("a", ZERO), vector(Let("a", X))), "a is named twice"),
    "a variable and a value of one name": ((Let("a", ZERO), Var("a", FLOAT, ZERO)), "named twice"),
    "a variable that starts with another type": (Var("a", DOUBLE, ZERO), "starts with another"),
    "an accumulation in nothing": (Accumulate("a", "add", ZERO), "no variable a"),
    "an accumulation in a value": ((Let("a", ZERO), Accumulate("a", "add", ZERO)), "no variable a"),
    "an accumulation of another type": (
        (Var("a", FLOAT, ZERO), Accumulate("a", "add", const(1, INT64))),
        "variable a is FLOAT",
    ),
    "an accumulation by a test": (
        (Var("a", FLOAT, ZERO), Accumulate("a", "lt", ZERO)),
        "lt does not take FLOAT, FLOAT and give FLOAT",
    ),
    "a condition that is no BOOL": (If(const(1, INT64), ()), "a condition is BOOL"),
    "two scratch buffers of one name": (
        (Local("row", FLOAT, (4,)), Local("row", FLOAT, (4,))),
        "two buffers are row",
    ),
    "a scratch buffer called like an input": (Local("x", FLOAT, (4,)), "two buffers are x"),
    "a scratch buffer of two dimensions": (Local("row", FLOAT, (4, 4)), "not one-dimensional"),
    "an unknown operation": (store(Apply("pow", (ZERO, ZERO), FLOAT), ROWS), "no operation pow"),
    "too few arguments": (store(Apply("add", (ZERO,), FLOAT), ROWS), "add takes 2 arguments"),
    "arguments of two types": (
        store(Apply("add", (ZERO, const(1, DOUBLE)), FLOAT), ROWS),
        "add does not take FLOAT, DOUBLE and give FLOAT",
    ),
    "a sum of BOOL": (
        Let("a", Apply("add", (const(1, BOOL), const(1, BOOL)), BOOL)),
        "add does not take",
    ),
    "a product of FLOAT16": (
        vector(Let("a", Apply("mul", (Load("half", [J], FLOAT16),) * 2, FLOAT16))),
        "mul does not take FLOAT16, FLOAT16",
    ),
    "a comparison of BFLOAT16": (
        Let("a", Apply("lt", (const(1, BFLOAT16),) * 2, BOOL)),
        "lt does not take BFLOAT16",
    ),
    "the root of an integer": (Let("a", Apply("sqrt", (const(1, INT64),), INT64)), "sqrt does"),
    "a shift of a float": (Let("a", Apply("shl", (ZERO, ZERO), FLOAT)), "shl does not take"),
    "bits of another width": (Let("a", Apply("bits", (ZERO,), INT64)), "bits does not take"),
    "a number that FLOAT has not": (Let("a", Const(0.1, FLOAT)), "0.1 is no FLOAT"),
    "a number outside of INT32": (Let("a", Const(1 << 31, INT32)), "2147483648 is no INT32"),
    "a type that is no number": (Local("row", STRING, (4,)), "do not compute with STRING"),
    "a vector loop in another": (
        vector(For(Axis("l"), N, (), "vector")),
        "a vector loop is inside of another",
    ),
    "a branch in a vector loop": (
        vector(If(Apply("lt", (X, ZERO), BOOL), (store(),))),
        "a branch is in a vector loop",
    ),
    "a branch within a loop in a vector loop": (
        vector(For(Axis("l"), N, (If(Apply("lt", (X, ZERO), BOOL), (store(),)),))),
        "a branch is in a vector loop",
    ),
    "a scratch buffer in a vector loop": (
        vector(Local("row", FLOAT, (4,))),
        "a buffer is declared in a vector loop",
    ),
    "an inner loop whose length depends on the lane": (
        vector(For(Axis("l"), index(J), ())),
        "not as long for all lanes",
    ),
    "an inner loop whose length is read for each lane": (
        vector(
            Let("a", Load("where", [J], INT64)),
            For(Axis("l"), linear((Ref("a", INT64), 1)), ()),
        ),
        "not as long for all lanes",
    ),
    "a running sum in a vector loop": (
        (Var("a", FLOAT, ZERO), vector(Accumulate("a", "add", X), store(Ref("a", FLOAT)))),
        "is read in the vector loop that accumulates it",
    ),
    "an ordered accumulation in a vector loop": (
        (Var("a", FLOAT, ZERO), vector(Accumulate("a", "sub", X))),
        "accumulates a by sub",
    ),
    "two accumulations in a vector loop": (
        (Var("a", FLOAT, ZERO), vector(Accumulate("a", "add", X), Accumulate("a", "max", X))),
        "by two operations",
    ),
    "a lane that reads what its neighbour wrote": (
        vector(store(Load("out", [linear((J, 1), (-1, 1))], FLOAT))),
        "what another of its lanes loads",
    ),
    "lanes that all change one element": (
        vector(store(add(Load("out", [ROWS], FLOAT), X), ROWS)),
        "what another of its lanes loads",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_rule_is_found(name: str) -> None:
    body, message = BROKEN[name]
    broken = kernel(*(body if isinstance(body, tuple) else (body,)))
    with pytest.raises(KernelError, match=message) as caught:
        check_kernel(broken)
    assert isinstance(caught.value, SardonyxError)
    assert caught.value.places[-1] == "kernel k"
    assert len(caught.value.places) == 2
    with pytest.raises(KernelError):
        emit_module([broken], host())


def test_the_statement_is_named() -> None:
    with pytest.raises(KernelError) as caught:
        check_kernel(kernel(vector(store(Load("half", [J], FLOAT16)))))
    assert caught.value.places == ["out[j] = half[j]", "kernel k"]


def test_kernels_have_parameters_of_different_names() -> None:
    sound = kernel(vector(store()))
    with pytest.raises(KernelError, match="two buffers are x"):
        check_kernel(replace(sound, params=(*PARAMS, PARAMS[0])))
    with pytest.raises(KernelError, match="two sizes"):
        check_kernel(replace(sound, sizes=("s0", "s0")))


SOUND: dict[str, Block] = {
    "a name again in the next block": (vector(Let("a", X)), vector(Let("a", X))),
    "a variable of each lane": (
        vector(
            Var("a", FLOAT, ZERO),
            For(Axis("l"), N, (Accumulate("a", "sub", X),)),
            store(Ref("a", FLOAT)),
        ),
    ),
    "an element changed in its place": (vector(store(add(Load("out", [J], FLOAT), X))),),
    "elements further on than the loop": (
        vector(store(Load("out", [linear((J, 1), (8, 1))], FLOAT)), extent=index(8)),
    ),
    "every other element": (
        vector(store(Load("out", [linear((J, 2), (1, 1))], FLOAT), linear((J, 2)))),
    ),
}


@pytest.mark.parametrize("name", SOUND)
def test_what_is_allowed(name: str) -> None:
    check_kernel(kernel(*SOUND[name]))
