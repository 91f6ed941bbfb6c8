"""Transcendental functions: the expressions against mpmath, and compiled ones against SciPy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import mpmath
import numpy as np
import pytest
from tests.lowering.compiled import check, random

from sardonyx.dtypes import DOUBLE, FLOAT
from sardonyx.loops import doubles, mathematics, trigonometry
from sardonyx.loops.expr import Ref
from sardonyx.loops.interpret import value_of

if TYPE_CHECKING:
    from collections.abc import Callable

MOST_ULP = 4
SPECIAL = [0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 1e-45, -1e-40, 3.4028235e38]

TRIGONOMETRIC = ["sin", "cos", "tan"]
OTHERS = ["asin", "acos", "atan", "sinh", "cosh", "asinh", "acosh", "atanh"]
NUMPY = {"asin": "arcsin", "acos": "arccos", "atan": "arctan", "asinh": "arcsinh",
         "acosh": "arccosh", "atanh": "arctanh"}  # fmt: skip


def evaluated(function: Callable[..., Any], dtype: Any, *arrays: Any) -> Any:
    """The expression that `function` writes, on arrays."""
    names = [Ref(f"x{number}", dtype) for number in range(len(arrays))]
    return value_of(function(*names), dict(zip(names, arrays, strict=True)))


def assert_within(actual: Any, exact: Any, most: float) -> None:
    """At most `most` units in the last place from `exact`, which has more digits."""
    with np.errstate(all="ignore"):
        rounded = exact.astype(actual.dtype)
    np.testing.assert_array_equal(np.isnan(actual), np.isnan(rounded))
    endless = ~np.isfinite(rounded)
    np.testing.assert_array_equal(actual[endless], rounded[endless])
    zero = (rounded == 0) & (actual == 0)
    np.testing.assert_array_equal(np.signbit(actual[zero]), np.signbit(rounded[zero]))
    some = ~endless
    with np.errstate(all="ignore"):
        unit = np.spacing(np.minimum(np.abs(rounded[some]), np.finfo(rounded.dtype).max / 2))
        distance = np.abs(actual[some].astype(exact.dtype) - exact[some])
    assert (distance / unit).max() <= most


def numbers(seed: int, count: int) -> Any:
    """FLOAT numbers of every exponent, of the ranges that functions vary in, and special ones."""
    generator = np.random.default_rng(seed)
    bits = generator.integers(0, 2**32, count, dtype=np.uint64).astype(np.uint32)
    near = generator.normal(size=count).astype(np.float32) * 3
    turns = (np.arange(1, count // 4) * (np.pi / 2)).astype(np.float32)
    unit = generator.uniform(-1, 1, count).astype(np.float32)
    parts = [bits.view(np.float32), near, turns, unit, np.array(SPECIAL, np.float32)]
    return np.concatenate(parts)


@pytest.mark.parametrize("name", TRIGONOMETRIC)
def test_every_angle_is_reduced_exactly(name: str) -> None:
    x = numbers(1, 400)
    x = x[np.isfinite(x)]
    actual = evaluated(getattr(trigonometry, name), FLOAT, x)
    with mpmath.workprec(400):
        exact = [float(getattr(mpmath, name)(mpmath.mpf(float(each)))) for each in x]
    assert_within(actual[x != 0], np.array(exact)[x != 0], MOST_ULP)


@pytest.mark.parametrize("name", TRIGONOMETRIC)
def test_the_hardest_angle(name: str) -> None:
    # of all FLOAT numbers these lie nearest to a multiple of pi / 2
    x = np.array([16367173 * 2.0**72, 1.1757943e24, 5.451e24, 2.5517e37], np.float32)
    actual = evaluated(getattr(trigonometry, name), FLOAT, x)
    with mpmath.workprec(400):
        exact = [float(getattr(mpmath, name)(mpmath.mpf(float(each)))) for each in x]
    assert_within(actual, np.array(exact), MOST_ULP)


@pytest.mark.parametrize("name", [*TRIGONOMETRIC, *OTHERS])
def test_single_precision(name: str) -> None:
    x = numbers(2, 40_000)
    actual = evaluated(getattr(trigonometry, name), FLOAT, x)
    with np.errstate(all="ignore"):
        exact = getattr(np, NUMPY.get(name, name))(x.astype(np.float64))
    assert_within(actual, exact, MOST_ULP)


@pytest.mark.parametrize("name", ["exp", "expm1", "log", "sigmoid", "tanh"])
def test_double_precision(name: str) -> None:
    generator = np.random.default_rng(3)
    parts = [generator.normal(size=200), generator.uniform(-740, 740, 200), np.array(SPECIAL)]
    parts += [1 + generator.normal(size=50) * 1e-8, generator.normal(size=50) * 1e-200]
    x = np.concatenate(parts)
    actual = evaluated(getattr(mathematics, name), DOUBLE, x)
    functions: dict[str, Any] = {
        "sigmoid": lambda v: 1 / (1 + mpmath.exp(-v)),
        "log": lambda v: mpmath.log(v) if v > 0 else mpmath.mpf("-inf" if v == 0 else "nan"),
    }
    function = functions.get(name, getattr(mpmath, name, None))
    with mpmath.workprec(160):
        found = [function(mpmath.mpf(float(each))) for each in x]
        # beyond the range of DOUBLE, and of the witness
        held = [mpmath.inf if each > mpmath.mpf(2) ** 1025 else each for each in found]
        exact = np.array([np.longdouble(mpmath.nstr(each, 25)) for each in held])
    if name in {"expm1", "tanh"}:
        exact = np.where(x == 0, np.copysign(exact, x), exact)
    assert_within(actual, exact, MOST_ULP)


def test_powers() -> None:
    generator = np.random.default_rng(4)
    special = np.array([*SPECIAL, 0.5, -0.5, 2, -2, 3, -3, 2.5, 1e10], np.float32)
    x, y = (grid.ravel() for grid in np.meshgrid(special, special))
    x = np.concatenate([x, generator.uniform(0, 30, 20_000).astype(np.float32)])
    y = np.concatenate([y, generator.uniform(-30, 30, 20_000).astype(np.float32)])
    with np.errstate(all="ignore"):
        exact = np.power(x.astype(np.float64), y.astype(np.float64))
    assert_within(evaluated(doubles.power, FLOAT, x, y), exact, 1)


COMPILED = [
    "Sin", "Cos", "Tan", "Asin", "Acos", "Atan", "Sinh", "Cosh", "Asinh", "Acosh", "Atanh",
]  # fmt: skip


@pytest.mark.parametrize("op_type", COMPILED)
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_compiled(op_type: str, dtype: Any) -> None:
    low = 1 if op_type == "Acosh" else -0.99
    check(op_type, lambda n: [random(n, 30, dtype=dtype, low=low, high=max(0.99, 3 * low))])


@pytest.mark.parametrize("op_type", ["Exp", "Log", "Sigmoid", "Tanh", "Elu", "Softmax"])
def test_compiled_in_double(op_type: str) -> None:
    check(op_type, lambda n: [random(n, 30, dtype=np.float64, low=0.1)], length=30)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_pow(dtype: Any) -> None:
    check("Pow", lambda n: [random(n, 9, dtype=dtype), random(9, dtype=dtype).round()])
    check("Pow", lambda n: [random(n, 9, dtype=dtype, low=0), random(n, 1, dtype=dtype)])


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64])
def test_gated(dtype: Any) -> None:
    check(
        "SwiGLU",
        lambda n: [random(n, 9, dtype=dtype), random(n, 9, dtype=dtype)],
        opset=28,
        alpha=1.5,
    )


def test_bits() -> None:
    check("BitCast", lambda n: [random(n, 9)], opset=26, to=6)
    check("BitCast", lambda n: [random(n, 9, dtype=np.float64)], opset=26, to=7)


def test_shrinking() -> None:
    check("Shrink", lambda n: [random(n, 9)], lambd=1.5, bias=0.5)


def test_dropout_that_drops_nothing() -> None:
    check("Dropout", lambda n: [random(n, 9)], n_outputs=2)


@pytest.mark.parametrize("interleaved", [0, 1])
@pytest.mark.parametrize("part", [0, 4])
@pytest.mark.parametrize("rank", [3, 4])
def test_rotary_embedding(interleaved: int, part: int, rank: int) -> None:
    half = (part or 8) // 2

    def make(n: int) -> list[Any]:
        x = random(2, 3, n, 8) if rank == 4 else random(2, n, 24)
        return [x, random(2, n, half), random(2, n, half)]

    def placed(n: int) -> list[Any]:
        caches = [random(20, half), random(20, half)]
        return [make(n)[0], *caches, random(2, n, dtype=np.int64, low=0, high=19)]

    for each in (make, placed):
        check(
            "RotaryEmbedding",
            each,
            num_heads=3,
            interleaved=interleaved,
            rotary_embedding_dim=part,
            sizes=(5, 9, 1, 16),
            length=8,
        )
