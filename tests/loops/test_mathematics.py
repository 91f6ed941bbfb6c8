"""Transcendental functions as compiled, beside NumPy's and Python's in double precision."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from codegen.running import Call, compiled
from sardonyx.dims import symbol
from sardonyx.dtypes import DOUBLE, FLOAT, DType
from sardonyx.loops import mathematics, trigonometry
from sardonyx.loops.expr import Axis, Load, index
from sardonyx.loops.kernel import For, Kernel, Param, Store

FUNCTIONS: dict[str, Any] = {
    "exp": np.exp,
    "enlarged_exp": lambda x: np.exp(x) * 2.0**64,
    "exp_of_nonpositive": np.exp,
    "expm1": np.expm1,
    "log": np.log,
    "log1p": np.log1p,
    "tanh": np.tanh,
    "sigmoid": lambda x: np.where(x < 0, np.exp(x), 1) / (1 + np.exp(-np.abs(x))),
    "softplus": lambda x: np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))),
    "erf": np.vectorize(math.erf, otypes=[np.float64]),
    "sin": np.sin,
    "cos": np.cos,
    "tan": np.tan,
    "asin": np.arcsin,
    "acos": np.arccos,
    "atan": np.arctan,
    "sinh": np.sinh,
    "cosh": np.cosh,
    "asinh": np.arcsinh,
    "acosh": np.arccosh,
    "atanh": np.arctanh,
}
OF_DOUBLES = ["exp", "expm1", "log", "sigmoid", "tanh"]
ULPS = 4.0
COMPOSED_ULPS = {"softplus": 5.0}


def function(name: str) -> Any:
    return getattr(mathematics, name, None) or getattr(trigonometry, name)


def within(name: str, x: Any) -> Any:
    """`x`, or numbers like it that the function is for."""
    if name == "enlarged_exp":
        return np.maximum(-np.abs(x), -60)
    return -np.abs(x) if name == "exp_of_nonpositive" else x


def kernel_of(name: str, dtype: DType) -> Kernel:
    axis = Axis("i")
    body = (Store("out", (index(axis),), function(name)(Load("x", [axis], dtype))),)
    params = (Param("x", dtype, ()), Param("out", dtype, (), True))
    loop = For(axis, index(symbol("s0")), body, "parallel")
    return Kernel(f"{name}.{dtype}", params, ("s0",), (loop,))


@cache
def library() -> Any:
    kernels = {(name, FLOAT): kernel_of(name, FLOAT) for name in FUNCTIONS}
    kernels |= {(name, DOUBLE): kernel_of(name, DOUBLE) for name in OF_DOUBLES}
    return kernels, compiled(list(kernels.values()), strict=False)


def computed(name: str, x: Any, dtype: DType) -> Any:
    kernels, loaded = library()
    buffers = {"x": x, "out": np.zeros_like(x)}
    call = Call(loaded, kernels[name, dtype], buffers, {"s0": len(x)})
    call.part(0, len(x))
    return call.results()["out"]


def narrow_numbers() -> Any:
    """All numbers of FLOAT16 and BFLOAT16."""
    words = np.arange(1 << 16, dtype=np.uint16)
    with np.errstate(invalid="ignore"):
        return np.concatenate(
            [words.view(kind).astype(np.float32) for kind in (np.float16, ml_dtypes.bfloat16)]
        )


def samples(count: int, seed: int) -> Any:
    """Numbers of all exponents, and more of those near where functions bend."""
    rng = np.random.default_rng(seed)
    words = rng.integers(0, 1 << 32, count, dtype=np.uint64).astype(np.uint32)
    parts = [words.view(np.float32), rng.uniform(-110, 110, count // 2).astype(np.float32)]
    parts.append(rng.standard_normal(count // 2).astype(np.float32))
    return np.concatenate(parts)


def assert_close(name: str, x: Any, ours: Any, ulps: float) -> None:
    kind = ours.dtype
    with np.errstate(all="ignore"):
        exact = FUNCTIONS[name](x.astype(np.float64))
        rounded = exact.astype(kind)
        step = np.spacing(np.abs(rounded)).astype(np.float64)
        error = np.abs(ours.astype(np.float64) - exact) / step
    special = ~np.isfinite(rounded)
    # just below the greatest number either it or infinity may come out
    edge = np.isfinite(exact) & (np.abs(exact) > float(np.finfo(kind).max) * (1 - 2.0**-20))
    same = (rounded == ours) | (np.isnan(rounded) & np.isnan(ours)) | edge
    wrong = np.where(special, ~same, ~(error <= ulps) & ~edge)
    zero = (rounded == 0) & (ours == 0) & (x == 0)
    wrong |= zero & (np.signbit(rounded) != np.signbit(ours))
    if wrong.any():
        at = np.flatnonzero(wrong)[np.nan_to_num(error[wrong], nan=0, posinf=1e30).argmax()]
        pytest.fail(
            f"{name}({x[at]!r}) is {exact[at]!r}, not {ours[at]!r}: {error[at]} units; "
            f"{wrong.sum()} of {x.size} are wrong"
        )


@pytest.mark.parametrize("name", FUNCTIONS)
def test_all_narrow_numbers(name: str) -> None:
    x = within(name, narrow_numbers())
    assert_close(name, x, computed(name, x, FLOAT), COMPOSED_ULPS.get(name, ULPS))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_samples_of_all_exponents(name: str) -> None:
    x = within(name, samples(60_000, 1))
    assert_close(name, x, computed(name, x, FLOAT), COMPOSED_ULPS.get(name, ULPS))


def test_small_ratios() -> None:
    """A ratio is off by what the polynomial, ln(2) and four roundings are off by."""
    x = np.random.default_rng(3).uniform(-104, 0, 200_000).astype(np.float32)
    exact = np.exp(x.astype(np.float64)) * 2.0**64
    off = np.abs(computed("enlarged_exp", x, FLOAT) / exact - 1)
    assert (off <= 1.05e-7 + 4 * 2.0**-25 + 1.91e-9 * np.abs(x / np.log(2))).all()
    least = computed("enlarged_exp", np.float32([-104, -200, -np.inf, np.nan]), FLOAT)
    assert least[0] == least[1] == least[2] > 0
    assert np.isnan(least[3])


@pytest.mark.parametrize("name", OF_DOUBLES)
def test_doubles(name: str) -> None:
    rng = np.random.default_rng(2)
    x = np.concatenate(
        [
            rng.uniform(-760, 760, 30_000),
            rng.standard_normal(30_000),
            rng.standard_normal(20_000) * 10.0 ** rng.integers(-300, 300, 20_000),
            [0.0, -0.0, np.inf, -np.inf, np.nan, 5e-324, -5e-324, 1.0, -1.0, 709.8, -745.2],
        ]
    )
    assert_close(name, x, computed(name, x, DOUBLE), ULPS)


@pytest.mark.slow
@pytest.mark.parametrize("name", FUNCTIONS)
def test_many_samples(name: str) -> None:
    for seed in range(8):
        x = within(name, samples(1 << 20, seed))
        assert_close(name, x, computed(name, x, FLOAT), COMPOSED_ULPS.get(name, ULPS))
