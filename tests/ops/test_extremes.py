"""Every operator at the ends of every type that it allows, empty tensors and scalars included.

A one-node model on the evaluator gives results of the declared type and the inferred shape, the
same each time, or a typed error that some check of the operator raised. Integers are compared
with Python's, which do not overflow, floating point with the functions of `math`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

import numpy as np
import pytest

from extreme_cases import CASES, extremes, filled
from extremes import Trial, of_operator, of_settings, problems, run
from sardonyx import dtypes
from sardonyx.dtypes import DType
from sardonyx.errors import SardonyxError
from sardonyx.ir import TensorType
from sardonyx.ops import registry
from single_operator import apply

OPERATORS = [pytest.param(*known, id=known[1]) for known in registry.names()]
REFUSED = {"Cast", "CastLike", "Col2Im"}
"""These refuse the extreme strings: not all are numbers, and strings have no sum."""
STRING = TensorType(dtypes.STRING)
WHOLE_GRAPH = {"Gradient"}
"""Means nothing in a graph of one node."""


def report(trials: Any) -> list[str]:
    return [f"{trial}: {problem}" for trial in trials for problem in problems(trial)]


def test_the_table_names_operators() -> None:
    assert set(CASES) <= {name for _, name in registry.names()}


@pytest.mark.parametrize(("domain", "name"), OPERATORS)
def test_every_type(domain: str, name: str) -> None:
    trials = [t for t in of_operator(domain, name, ("extreme", "empty")) if t.variant == 0]
    assert report(trials) == []


@pytest.mark.parametrize(("domain", "name"), OPERATORS)
def test_every_type_gives_a_result(domain: str, name: str) -> None:
    if name in WHOLE_GRAPH:
        pytest.skip("differentiates the nodes before it")
    ended: dict[Any, list[SardonyxError]] = {}
    for trial in of_operator(domain, name, ("extreme",)):
        errors = ended.setdefault(trial.types, [])
        if errors or trial.variant == 0:
            result = run(trial)[1]
            errors[:] = [result] if isinstance(result, SardonyxError) else []
    failed = {types: errors[0].message for types, errors in ended.items() if errors}
    if name in REFUSED:
        failed = {key: error for key, error in failed.items() if STRING not in dict(key).values()}
    assert failed == {}


@pytest.mark.slow
@pytest.mark.parametrize(("domain", "name"), OPERATORS)
def test_every_version_variant_and_kind(domain: str, name: str) -> None:
    for version in registry.get(domain, name).schemas():
        assert report(of_operator(domain, name, version=version)) == []


@pytest.mark.slow
@pytest.mark.parametrize(("domain", "name"), OPERATORS)
def test_every_combination_of_types(domain: str, name: str) -> None:
    trials = of_operator(domain, name, ("extreme",), every_combination=True)
    assert report(trial for trial in trials if trial.variant == 0) == []


@pytest.mark.slow
@pytest.mark.parametrize(("domain", "name"), OPERATORS)
@pytest.mark.parametrize("kind", ["extreme", "empty"])
def test_every_attribute_and_literal_at_its_ends(kind: str, domain: str, name: str) -> None:
    assert report(of_settings(domain, name, kind)) == []


@pytest.mark.slow
@pytest.mark.parametrize(("domain", "name"), OPERATORS)
def test_settings_drawn_with_types_and_kinds(domain: str, name: str) -> None:
    random = Random(f"{domain}.{name}")
    settings = list(of_settings(domain, name))
    kinds = list(of_operator(domain, name))
    drawn = [(random.choice(settings), random.choice(kinds)) for _ in range(60 if settings else 0)]
    trials = [
        replace(setting, types=kind.types, kind=kind.kind, variant=kind.variant)
        for setting, kind in drawn
    ]
    assert report(trials) == []


def test_what_once_escaped_is_a_typed_error() -> None:
    for name in ("Conv", "ConvInteger", "QLinearConv", "DeformConv", "FeatureVectorizer"):
        domain = next(domain for domain, known in registry.names() if known == name)
        for trial in of_operator(domain, name, ("scalar",)):
            _, result = run(trial)
            assert isinstance(result, SardonyxError), trial
            assert result.__cause__ is None, trial


HUGE = 2**31 - 1
WITH_NOTHING_TO_COMPUTE = [
    ("AveragePool", "pads", (HUGE,) * 4),
    ("Conv", "pads", (HUGE,) * 4),
    ("ConvTranspose", "dilations", (HUGE, HUGE)),
    ("MaxPool", "pads", (HUGE,) * 4),
    ("MaxRoiPool", "pooled_shape", (HUGE, 2)),
    ("STFT", "onesided", 0),
]


@pytest.mark.parametrize(("name", "attribute", "value"), WITH_NOTHING_TO_COMPUTE)
def test_an_empty_batch_does_not_excuse_huge_sizes(name: str, attribute: str, value: Any) -> None:
    trial = next(of_operator("", name, ("empty",)))
    assert report([replace(trial, change=(attribute, value))]) == []


INTEGERS = [dtype for dtype in dtypes.ALL if dtype.is_integer and dtype.bits >= 8]
integers = pytest.mark.parametrize("dtype", INTEGERS, ids=str)


def wrapped(value: int, dtype: DType) -> int:
    """`value` modulo 2 to the width."""
    value &= (1 << dtype.bits) - 1
    return value - (1 << dtype.bits) if dtype.kind == "int" and value >> (dtype.bits - 1) else value


def pairs_of(first: list[int], second: list[int], dtype: DType) -> tuple[np.ndarray, np.ndarray]:
    """Each of `first` with each of `second`."""
    return (
        np.array([x for x in first for _ in second], dtype.numpy),
        np.array([y for _ in first for y in second], dtype.numpy),
    )


def quotient(a: int, b: int) -> int:
    return 0 if b == 0 else abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


def power(a: int, b: int) -> int:
    if b >= 0:
        return pow(a, b, 1 << 64) if b < 1 << 16 or a not in (0, 1) else a
    return (1 if b % 2 == 0 else a) if abs(a) == 1 else 0


BINARY: dict[str, tuple[Callable[[int, int], int], dict[str, Any]]] = {
    "Add": (lambda a, b: a + b, {}),
    "Sub": (lambda a, b: a - b, {}),
    "Mul": (lambda a, b: a * b, {}),
    "Div": (quotient, {}),
    "Mod": (lambda a, b: 0 if b == 0 else a % b, {}),
    "Mod fmod": (lambda a, b: 0 if b == 0 else a - b * quotient(a, b), {"fmod": 1}),
    "Max": (max, {}),
    "Min": (min, {}),
    "BitwiseAnd": (lambda a, b: a & b, {}),
    "BitwiseOr": (lambda a, b: a | b, {}),
    "BitwiseXor": (lambda a, b: a ^ b, {}),
}


@integers
@pytest.mark.parametrize("name", BINARY)
def test_integer_arithmetic_is_modulo_two_to_the_width(name: str, dtype: DType) -> None:
    function, attributes = BINARY[name]
    values = sorted({*extremes(dtype), 3, 100})
    a, b = pairs_of(values, values, dtype)
    (found,) = apply(name.split(maxsplit=1)[0], a, b, version=28, **attributes)
    assert found.dtype == dtype.numpy
    expected = [wrapped(function(int(x), int(y)), dtype) for x, y in zip(a, b)]
    assert found.tolist() == expected


@pytest.mark.parametrize("dtype", [dtypes.INT32, dtypes.INT64], ids=str)
def test_integer_powers_wrap_and_truncate(dtype: DType) -> None:
    values = extremes(dtype)
    a, b = pairs_of(values, [*values, 3, 31, 64], dtype)
    (found,) = apply("Pow", a, b)
    expected = [wrapped(power(int(x), int(y)), dtype) for x, y in zip(a, b)]
    assert found.tolist() == expected


@integers
def test_integer_functions_of_one_number(dtype: DType) -> None:
    x = np.array(extremes(dtype), dtype.numpy)
    table: dict[str, Callable[[int], int]] = {"Abs": abs, "BitwiseNot": lambda v: ~v}
    table["Sign"] = lambda v: (v > 0) - (v < 0)
    if dtype.kind == "int":
        table |= {"Neg": lambda v: -v, "Relu": lambda v: max(v, 0)}
    for name, function in table.items():
        (found,) = apply(name, x)
        assert found.dtype == dtype.numpy
        assert found.tolist() == [wrapped(function(int(v)), dtype) for v in x], name


@integers
@pytest.mark.parametrize("direction", ["LEFT", "RIGHT"])
def test_shifts_past_the_width(direction: str, dtype: DType) -> None:
    a, b = pairs_of(extremes(dtype), [*extremes(dtype), dtype.bits - 1, dtype.bits], dtype)
    (found,) = apply("BitShift", a, b, version=28, direction=direction)
    expected = []
    for x, by in zip(a.tolist(), b.tolist()):
        if not 0 <= by < dtype.bits:
            expected.append(-1 if x < 0 and direction == "RIGHT" else 0)
        else:
            expected.append(wrapped(x << by if direction == "LEFT" else x >> by, dtype))
    assert found.tolist() == expected


@pytest.mark.parametrize("name", ["INT32", "INT64", "UINT32", "UINT64"])
def test_sums_and_products_of_integers_wrap(name: str) -> None:
    dtype = dtypes.from_name(name)
    x = np.array([*extremes(dtype), 3, 5], dtype.numpy)
    items = [int(v) for v in x]
    square = sum(v * v for v in items)
    table: dict[str, int] = {
        "ReduceSum": sum(items),
        "ReduceProd": math.prod(items),
        "ReduceSumSquare": square,
        "ReduceL1": sum(map(abs, items)),
    }
    for operator, expected in table.items():
        (found,) = apply(operator, x, version=18, keepdims=0)
        assert int(found) == wrapped(expected, dtype), operator
    for operator, expected in (("MatMul", square), ("Einsum", square)):
        more = {"equation": "i,i->"} if operator == "Einsum" else {}
        assert int(apply(operator, x, x, **more)[0]) == wrapped(expected, dtype), operator
    totals = [wrapped(sum(items[: count + 1]), dtype) for count in range(len(items))]
    assert apply("CumSum", x, np.int64(0))[0].tolist() == totals
    products = [wrapped(math.prod(items[: count + 1]), dtype) for count in range(len(items))]
    assert apply("CumProd", x, np.int64(0), version=26)[0].tolist() == products


FLOATING = [dtype for dtype in dtypes.ALL if dtype.is_floating]


@pytest.mark.parametrize("target", [d for d in dtypes.ALL if d.is_integer], ids=str)
@pytest.mark.parametrize("source", FLOATING, ids=str)
def test_floats_become_integers_by_truncation_and_saturation(source: DType, target: DType) -> None:
    x = np.concatenate([filled(source, (20,), 0), np.array([3.7, -3.7]).astype(source.numpy)])
    (found,) = apply("Cast", x, version=28, to=target.code)
    bits = max(target.bits, 8)
    top = (1 << (bits - (target.kind == "int"))) - 1
    low = -top - 1 if target.kind == "int" else 0
    expected = []
    for value in x.astype(np.float64).tolist():
        if math.isnan(value):
            expected.append(0)
        elif target.bits < 8 and value < 0:
            whole = -128 if value < -128 else math.trunc(value)
            expected.append(wrapped(whole, target))
        else:
            whole = top if value > top else low if value < low else math.trunc(value)
            expected.append(wrapped(whole, target))
    assert found.astype(np.int64 if target.kind == "int" else np.uint64).tolist() == expected


QUIET = {"ThresholdedRelu", "PRelu"}
"""Functions that can ignore a NaN: a comparison with it is false."""


def exactly(function: Callable[..., float], *values: float, quiet: bool = False) -> float:
    """`function` in double precision; NaN outside of its domain, infinite where too large."""
    if any(map(math.isnan, values)) and not quiet:
        return math.nan
    try:
        return function(*values)
    except OverflowError:
        return math.inf
    except ValueError:
        return math.nan


def signed_infinity(x: float) -> float:
    return math.copysign(math.inf, x)


def whole(rule: Callable[[float], int]) -> Callable[[float], float]:
    return lambda x: x if math.isinf(x) else float(rule(x))


UNARY: dict[str, Callable[[float], float]] = {
    "Abs": abs,
    "Neg": lambda x: -x,
    "Sign": lambda x: float((x > 0) - (x < 0)),
    "Sqrt": math.sqrt,
    "Reciprocal": lambda x: 1 / x if x else signed_infinity(x),
    "Floor": whole(math.floor),
    "Ceil": whole(math.ceil),
    "Round": whole(round),
    "Exp": math.exp,
    "Log": lambda x: math.log(x) if x else -math.inf,
    "Erf": math.erf,
    "Tanh": math.tanh,
    "Sin": math.sin,
    "Cos": math.cos,
    "Tan": math.tan,
    "Asin": math.asin,
    "Acos": math.acos,
    "Atan": math.atan,
    "Sinh": lambda x: math.copysign(exactly(math.sinh, abs(x)), x),
    "Cosh": math.cosh,
    "Asinh": math.asinh,
    "Acosh": math.acosh,
    "Atanh": lambda x: math.atanh(x) if abs(x) != 1 else signed_infinity(x),
    "Relu": lambda x: max(x, 0.0),
    "Sigmoid": lambda x: 1 / (1 + exactly(math.exp, -x)),
    "Softplus": lambda x: max(x, 0.0) + math.log1p(math.exp(-abs(x))),
    "Softsign": lambda x: x / (1 + abs(x)),
    "HardSigmoid": lambda x: min(max(0.20000000298023224 * x + 0.5, 0.0), 1.0),
    "Elu": lambda x: x if x > 0 else math.expm1(x),
    "Selu": lambda x: 1.0507010221481323 * (x if x > 0 else 1.6732631921768188 * math.expm1(x)),
    "Celu": lambda x: x if x > 0 else math.expm1(x),
    "LeakyRelu": lambda x: x if x >= 0 else 0.009999999776482582 * x,
    "ThresholdedRelu": lambda x: x if x > 1 else 0.0,
}
ORDINARY = [0.3, -0.3, 1.5, -2.5, 3.0, -7.0, 20.0]
"""Beside the extremes, so that the functions are met where they are ordinary too."""
HALF_FLOATS = [dtypes.FLOAT16, dtypes.BFLOAT16, dtypes.FLOAT, dtypes.DOUBLE]


@pytest.mark.parametrize("dtype", HALF_FLOATS, ids=str)
@pytest.mark.parametrize("name", UNARY)
def test_functions_of_one_float(name: str, dtype: DType) -> None:
    x = np.concatenate([filled(dtype, (12,), 0), np.array(ORDINARY).astype(dtype.numpy)])
    (found,) = apply(name, x, version=28 if name == "Celu" else 25)
    assert found.dtype == dtype.numpy
    wide = x.astype(np.float64).tolist()
    close(found, [exactly(UNARY[name], value, quiet=name in QUIET) for value in wide], dtype)


def close(found: np.ndarray, expected: list[float], dtype: DType) -> None:
    """Equal within four units in the last place of `dtype`; what it cannot hold is infinite."""
    with np.errstate(all="ignore"):
        rounded = np.array(expected).astype(dtype.numpy).astype(np.float64)
    unit = {16: 2.0**-10, 32: 2.0**-23, 64: 2.0**-52}[dtype.bits]
    unit = 2.0**-7 if dtype is dtypes.BFLOAT16 else unit
    least = {dtypes.FLOAT16: 2.0**-24, dtypes.DOUBLE: 5e-324}.get(dtype, 2.0**-149)
    np.testing.assert_allclose(
        found.astype(np.float64), rounded, rtol=4 * unit, atol=4 * max(least, unit * 1e-8)
    )


PAIRS: dict[str, Callable[[float, float], float]] = {
    "Add": lambda a, b: a + b,
    "Sub": lambda a, b: a - b,
    "Mul": lambda a, b: a * b,
    "Div": lambda a, b: float(np.divide(a, b)),
    "Max": max,
    "Min": min,
    "Sum": lambda a, b: a + b,
    "Mod": lambda a, b: a % b if math.isfinite(b) else float(np.mod(a, b)),
    "PRelu": lambda a, b: a if a >= 0 else a * b,
}


@pytest.mark.parametrize("dtype", HALF_FLOATS, ids=str)
@pytest.mark.parametrize("name", [*PAIRS, "Pow"])
def test_functions_of_two_floats(name: str, dtype: DType) -> None:
    values = np.concatenate([filled(dtype, (12,), 0), np.array(ORDINARY).astype(dtype.numpy)])
    a, b = np.repeat(values, len(values)), np.tile(values, len(values))
    (found,) = apply(name, a, b, version=28)
    pairs = zip(a.astype(np.float64).tolist(), b.astype(np.float64).tolist())
    with np.errstate(all="ignore"):
        expected = [exact_pair(name, x, y) for x, y in pairs]
    close(found, expected, dtype)


def exact_power(x: float, y: float) -> float:
    """As IEEE 754 has it; `math.pow` raises where that is infinite."""
    is_odd = math.isfinite(y) and y % 2 == 1
    try:
        return math.pow(x, y)
    except (ValueError, OverflowError):
        if x < 0 and not y.is_integer():
            return math.nan
        return math.copysign(math.inf, x) if is_odd else math.inf


@pytest.mark.parametrize("dtype", HALF_FLOATS, ids=str)
@pytest.mark.parametrize("y", [0.5, -1.0, 2.0, 0.0, 1.0, 3.0])
def test_one_exponent_is_like_many(y: float, dtype: DType) -> None:
    x = filled(dtype, (12,), 0)
    exponent = np.array(y).astype(dtype.numpy)
    (many,) = apply("Pow", x, np.full(x.shape, exponent))
    for one in (exponent, exponent.reshape(1)):
        (found,) = apply("Pow", x, one)
        assert list(map(str, found.tolist())) == list(map(str, many.tolist()))


def exact_pair(name: str, x: float, y: float) -> float:
    if name == "Pow":
        return exact_power(x, y)
    if name == "Mod" and (y == 0 or math.isinf(x)):
        return math.nan
    return exactly(PAIRS[name], x, y, quiet=name in QUIET)


def test_comparisons_with_nan_are_false() -> None:
    x = np.array([np.nan, np.nan, 1, np.inf], np.float32)
    y = np.array([np.nan, 1, np.nan, np.inf], np.float32)
    for name in ("Equal", "Less", "Greater"):
        assert apply(name, x, y)[0].tolist() == [False, False, False, name == "Equal"]
    for name in ("LessOrEqual", "GreaterOrEqual"):
        assert apply(name, x, y)[0].tolist() == [False, False, False, True]


def test_a_trial_reads_as_what_it_is() -> None:
    trial = next(of_operator("", "Add"))
    assert isinstance(trial, Trial)
    assert str(trial) == "Add-14 T=tensor(float) extreme 0"
