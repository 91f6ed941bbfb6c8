"""Expressions: equal ones are one object, indices stay linear, folding is exact."""

from __future__ import annotations

import copy
import warnings
from itertools import product

import numpy as np
import pytest

from extreme_values import combinations, extremes
from sardonyx import dtypes
from sardonyx.dims import symbol
from sardonyx.dtypes import BOOL, FLOAT, INT32, INT64, DType
from sardonyx.loops.expr import (
    Apply,
    Axis,
    Const,
    Linear,
    Load,
    Ref,
    coefficient,
    cost,
    index,
    leaves,
    linear,
    loads,
    substitute,
    walk,
)
from sardonyx.loops.scalars import OPERATIONS, apply, cast, const, evaluate, select

ROWS, J = Axis("i"), Axis("j")
N = symbol("N")
TYPES = [
    BOOL, dtypes.INT8, dtypes.UINT8, dtypes.INT16, dtypes.UINT16, INT32, dtypes.UINT32, INT64,
    dtypes.UINT64, FLOAT, dtypes.DOUBLE,
]  # fmt: skip


def test_equal_expressions_are_one_object() -> None:
    def make() -> Apply:
        position = linear((Axis("i"), 3), (symbol("N"), 1))
        return Apply("add", (Load("x", [position], FLOAT), const(1.5, FLOAT)), FLOAT)

    assert make() is make()
    assert copy.deepcopy(make()) is make()


def test_numbers_are_told_apart_by_their_bits() -> None:
    assert Const(0.0, FLOAT) is not Const(-0.0, FLOAT)
    assert Const(float("nan"), FLOAT) is Const(float("nan"), FLOAT)
    assert Const(1, INT32) is not Const(1, INT64)
    assert const(0.1, FLOAT).value == float(np.float32(0.1))


def test_linear_is_canonical() -> None:
    assert linear((ROWS, 2), (J, 1), (ROWS, -2)) is index(J)
    assert linear((J, 1), (ROWS, 1)) is linear((ROWS, 1), (J, 1))
    assert linear((linear((ROWS, 2), (3, 1)), N)) is linear((ROWS, N * 2), (N, 3))
    assert linear((ROWS, N), (ROWS, -N)) is index(0)
    assert index(5).constant == 5
    assert index(index(ROWS)) is index(ROWS)


def test_integer_arithmetic_on_indices_stays_linear() -> None:
    total = apply("sub", apply("mul", index(ROWS), const(4, INT64)), apply("add", ROWS, index(N)))
    assert total is linear((ROWS, 3), (N, -1))
    product_ = apply("mul", index(ROWS), index(J))
    assert isinstance(product_, Apply)


def test_coefficient() -> None:
    gather = Load("where", [ROWS], INT64)
    assert coefficient(ROWS, ROWS) == 1
    assert coefficient(linear((ROWS, 3), (J, N)), J) == N
    assert coefficient(linear((J, 2)), ROWS) == 0
    assert coefficient(linear((gather, 2), (J, 1)), J) == 1
    assert coefficient(linear((gather, 2), (J, 1)), ROWS) is None
    assert coefficient(gather, ROWS) is None
    assert coefficient(gather, J) == 0


def test_substitute_replaces_everywhere_and_only_there() -> None:
    inner = Load("x", [linear((ROWS, 2))], FLOAT)
    whole = apply("add", apply("mul", inner, inner), Ref("a", FLOAT))
    moved = substitute(whole, {ROWS: linear((J, 1), (1, 1))})
    assert loads(moved) == [Load("x", [linear((J, 2), (2, 1))], FLOAT)]
    assert leaves(moved, Axis) == {J}
    assert substitute(whole, {J: index(0)}) is whole
    gone = substitute(whole, lambda part: const(2, FLOAT) if part is inner else None)
    assert not loads(gone)


def test_walks_see_shared_parts_once() -> None:
    value = Load("x", [ROWS], FLOAT)
    for _ in range(200):  # as a tree it has 2**200 parts
        value = Apply("add", (value, value), FLOAT)  # type: ignore[assignment]
    assert len(list(walk(value))) == 203
    assert cost(value) == 201
    assert len(loads(value)) == 1


def test_casts_and_choices_that_change_nothing() -> None:
    value = Load("x", [ROWS], FLOAT)
    assert cast(value, FLOAT) is value
    assert select(Load("c", [ROWS], BOOL), value, value) is value
    assert apply("select", const(1, BOOL), value, const(0, FLOAT), dtype=FLOAT) is value
    assert apply("mul", value, const(1, FLOAT)) is value
    # -0.0 + 0.0 is 0.0: leaving the addition out would change the sign
    assert isinstance(apply("add", value, const(0, FLOAT)), Apply)
    assert isinstance(apply("add", value, const(-0.0, FLOAT)), Apply)


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_folding_is_what_numpy_computes(dtype: DType) -> None:
    for op, operation in OPERATIONS.items():
        if op in {"index", "bits"} or (op == "cast" and dtype is BOOL):
            continue
        kinds = (BOOL, dtype, dtype) if op == "select" else (dtype,) * operation.arity
        results = TYPES if op == "cast" else [BOOL if operation.is_test else dtype]
        columns = combinations(*map(extremes, kinds), most=60)
        for result, row in product(results, zip(*columns)):
            values = [np.asarray(item) for item in row]
            with np.errstate(all="ignore"), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    expected = evaluate(op, result, *values)
                except TypeError:  # NumPy has no such operation on the type, nor have kernels
                    break
                args = [const(value.item(), kind) for value, kind in zip(values, kinds)]
                folded = apply(op, *args, dtype=result)
            value = folded.constant if isinstance(folded, Linear) else folded.value  # type: ignore[attr-defined]
            held = np.asarray(value)
            if result is INT64 and isinstance(folded, Linear):
                assert (int(value) - int(expected)) % (1 << 64) == 0
                continue
            np.testing.assert_array_equal(held.astype(result.numpy), expected, f"{op}{row}")
