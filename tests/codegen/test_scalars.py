"""Every scalar operation on every type: compiled code beside the NumPy meaning."""

from __future__ import annotations

import warnings
from dataclasses import replace
from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np
import pytest

from codegen.running import Call, compiled
from extreme_values import combinations, extremes
from sardonyx import dtypes
from sardonyx.codegen.machine import host
from sardonyx.dims import symbol
from sardonyx.dtypes import BFLOAT16, BOOL, DOUBLE, FLOAT, FLOAT16, INT64, DType
from sardonyx.loops.check import KernelError, check_kernel
from sardonyx.loops.expr import Apply, Axis, Expr, Load, index
from sardonyx.loops.kernel import For, Kernel, Param, Store
from sardonyx.loops.machine import Machine
from sardonyx.loops.scalars import OPERATIONS, evaluate

TYPES = [
    BOOL, dtypes.INT8, dtypes.UINT8, dtypes.INT16, dtypes.UINT16, dtypes.INT32, dtypes.UINT32,
    INT64, dtypes.UINT64, FLOAT16, BFLOAT16, FLOAT, DOUBLE,
]  # fmt: skip
CONVERSIONS = {"cast", "bits"}
UNSIGNED_ZERO = {"min", "max", "minimum", "maximum"}
"""Operations of which the sign of a zero is not specified."""


def kernel_of(name: str, op: str, kinds: tuple[DType, ...], result: DType) -> Kernel:
    """``out[i] = op(a[i], ...)`` for all i."""
    axis = Axis("i")
    names = [f"in{number}" for number in range(len(kinds))]
    args = [Load(buffer, [axis], kind) for buffer, kind in zip(names, kinds)]
    body = (Store("out", (index(axis),), Apply(op, args, result)),)
    params = [Param(buffer, kind, ()) for buffer, kind in zip(names, kinds)]
    loop = For(axis, index(symbol("s0")), body, "parallel")
    return Kernel(name, (*params, Param("out", result, (), True)), ("s0",), (loop,))


def cases(first: DType) -> list[tuple[str, tuple[DType, ...], DType]]:
    """The operations whose first argument may be `first`, with the types of all."""
    found = []
    for op, operation in OPERATIONS.items():
        if op == "index":
            continue
        if op == "select":
            found.append((op, (BOOL, first, first), first))
            continue
        results = TYPES if op in CONVERSIONS else [BOOL if operation.is_test else first]
        found += [(op, (first,) * operation.arity, result) for result in results]
    return [case for case in found if is_allowed(*case)]


def is_allowed(op: str, kinds: tuple[DType, ...], result: DType) -> bool:
    try:
        check_kernel(kernel_of("k", op, kinds, result))
    except KernelError:
        return False
    return True


def bits(array: Any) -> Any:
    return array.view(f"u{array.dtype.itemsize}")


def agree(ours: Any, expected: Any, op: str) -> Any:
    """Where two arrays are alike: to the bit, but that any NaN is alike any other."""
    same = bits(ours) == bits(expected)
    if dtypes.from_numpy(ours.dtype).is_floating:
        same |= np.isnan(ours) & np.isnan(expected)
        if op in UNSIGNED_ZERO:
            same |= (ours == 0) & (expected == 0)
    return same


def fused(values: list[Any], ours: Any) -> Any:
    """Where `ours` is a * b + c rounded once."""
    found = []
    limit = Fraction(float(np.finfo(ours.dtype).max))
    with np.errstate(all="ignore"):
        steps = np.where(np.isfinite(ours), np.spacing(np.abs(ours)), 0)
    for a, b, c, result, step in zip(
        *(value.tolist() for value in values), ours.tolist(), steps.tolist(), strict=True
    ):
        if not all(np.isfinite([a, b, c])):
            found.append(bool(np.isfinite([a, b]).all()) and result == c)
            continue
        exact = Fraction(a) * Fraction(b) + Fraction(c)
        if not np.isfinite(result):
            found.append(abs(exact) >= limit)
            continue
        room = Fraction(step if np.isfinite(step) else float(limit) * 2.0**-20) / 2
        found.append(abs(Fraction(result) - exact) <= room)
    return np.array(found)


def machine_of(way: str) -> Machine:
    """This machine, or one that is like it but has only what every processor of its kind has."""
    machine = replace(host(), interleave=1)  # less code, the same instructions
    if way != "plain":
        return machine
    cpu = "x86-64" if machine.triple.startswith("x86_64") else "generic"
    without = replace(machine, converts_halves=False, rounds=False)
    return replace(without, cpu=cpu, features="", vector_bits=128)


@cache
def library(first: DType, way: str) -> Any:
    kernels = [kernel_of(f"k{number}", *case) for number, case in enumerate(cases(first))]
    machine, strict = machine_of(way), way == "strict"
    return kernels, compiled(kernels, machine, strict=strict)


@pytest.mark.parametrize(
    "first, machine",
    [
        *((dtype, "host") for dtype in TYPES),
        *((dtype, "strict") for dtype in (FLOAT, DOUBLE)),
        *((dtype, "plain") for dtype in (FLOAT16, FLOAT, DOUBLE, INT64)),
    ],
)
def test_compiled_code_means_what_numpy_does(first: DType, machine: str) -> None:
    kernels, loaded = library(first, machine)
    for kernel, (op, kinds, result) in zip(kernels, cases(first)):
        values = combinations(*map(extremes, kinds), most=600)
        count = len(values[0])
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            expected = evaluate(op, result, *values)
        buffers = {f"in{number}": value for number, value in enumerate(values)}
        buffers["out"] = np.zeros(count, result.numpy)
        whole = Call(loaded, kernel, buffers, {"s0": count})
        whole.part(0, count)
        single = Call(loaded, kernel, buffers, {"s0": count})
        for step in range(count):
            single.part(step, step + 1)
        for way, call in (("vector", whole), ("scalar", single)):
            ours = call.results()["out"]
            same = agree(ours, expected, op)
            if op == "fma" and first.is_floating:
                same |= fused(values, ours)
            if not same.all():
                at = int(np.flatnonzero(~same)[0])
                args = ", ".join(repr(value[at]) for value in values)
                pytest.fail(
                    f"{op}({args}) gave {ours[at]!r}, not {expected[at]!r}, in {way} code; "
                    f"{int((~same).sum())} of {count} differ, {kinds} to {result}"
                )


def test_an_index_outside_is_noted_and_reads_the_first_element() -> None:
    axis = Axis("i")
    place: Expr = Apply("index", [Load("where", [axis], INT64), index(symbol("s1"))], INT64)
    value = Load("data", [place], FLOAT)
    loop = For(axis, index(symbol("s0")), (Store("out", (index(axis),), value),), "parallel")
    params = (
        Param("where", INT64, ()),
        Param("data", FLOAT, ()),
        Param("out", FLOAT, (), True),
    )
    kernel = Kernel("k", params, ("s0", "s1"), (loop,))
    loaded = compiled([kernel], strict=False)
    data = np.arange(5, dtype=np.float32) + 10
    good = np.array([0, -1, 4, -5, 2, 1, -3] * 5, np.int64)
    for bad in (None, 5, -6, 2**63 - 1, -(2**63)):
        for at in (0, 17, len(good) - 1):
            where = good.copy()
            if bad is not None:
                where[at] = bad
            buffers = {"where": where, "data": data, "out": np.zeros(len(where), np.float32)}
            call = Call(loaded, kernel, buffers, {"s0": len(where), "s1": len(data)})
            call.part(0, len(where))
            expected = data[np.where(np.arange(len(where)) == at, 0, where) if bad else where]
            np.testing.assert_array_equal(call.results()["out"], expected)
            assert call.status.array()[0] == (bad is not None)
