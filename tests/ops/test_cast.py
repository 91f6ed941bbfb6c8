"""Conversions between element types, against onnxruntime, the onnx package and the tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

import ml_dtypes
import numpy as np
import onnx.numpy_helper
import pytest

from sardonyx import dtypes
from sardonyx.dims import symbol
from sardonyx.errors import ExecutionError, InferenceError, ModelError, UnsupportedError
from sardonyx.ops import registry
from sardonyx.ops.fact import Fact, shape_value
from single_operator import apply, assert_same, by_onnxruntime, inferred

if TYPE_CHECKING:
    from sardonyx.dtypes import DType

REAL = [d for d in dtypes.ALL if d.kind not in {"complex", "string"}]
NUMBERS = [d for d in REAL if d is not dtypes.BOOL]
FLOAT8 = [d for d in dtypes.ALL if d.name.startswith("FLOAT8E4") or d.name.startswith("FLOAT8E5")]


def cast(array: np.ndarray, to: DType, **attributes: object) -> np.ndarray:
    result: np.ndarray = apply("Cast", array, version=28, to=to.code, **attributes)[0]
    assert dtypes.from_numpy(result.dtype) is to
    assert result.shape == array.shape
    return result


@pytest.mark.parametrize("source", REAL, ids=str)
@pytest.mark.parametrize("target", REAL, ids=str)
def test_every_pair_keeps_one(source: DType, target: DType) -> None:
    ones = np.ones((2, 2)).astype(source.numpy)
    assert cast(ones, target).astype(np.float64).tolist() == [[1, 1], [1, 1]]
    text = cast(ones, dtypes.STRING)
    assert cast(text, target).astype(np.float64).tolist() == [[1, 1], [1, 1]]


@pytest.mark.parametrize("source", [d for d in NUMBERS if d.bits < 16], ids=str)
@pytest.mark.parametrize("target", [dtypes.FLOAT, dtypes.DOUBLE, dtypes.FLOAT16], ids=str)
def test_every_small_value_widens_and_returns(source: DType, target: DType) -> None:
    codes = np.arange(1 << source.bits, dtype=np.uint8)
    x = dtypes.unpack(codes.tobytes(), source, len(codes)) if source.is_packed else codes
    x = dtypes.unpack(dtypes.pack(x, source), source, x.size) if source.is_packed else x
    x = x.view(source.numpy)
    wide = x.astype(np.float32)
    inside = np.isfinite(wide) & (np.abs(wide) < 6e4) & ((np.abs(wide) > 1e-7) | (wide == 0))
    x = x[inside]
    there = cast(x, target)
    np.testing.assert_array_equal(there.astype(np.float64), x.astype(np.float64))
    np.testing.assert_array_equal(cast(there, source).astype(np.float64), x.astype(np.float64))


COMMON = [np.float32, np.float64, np.float16, np.int8, np.int16, np.int32, np.int64, np.uint8]


@pytest.mark.parametrize("target", COMMON)
@pytest.mark.parametrize("source", COMMON)
def test_common_types_equal_onnxruntime(source: type, target: type) -> None:
    x = np.array([0, 1, 2.75, 100.5, 127, 42.99]).astype(source)
    code = dtypes.from_numpy(target).code
    assert_same(apply("Cast", x, to=code), by_onnxruntime("Cast", x, to=code))


def test_integers_keep_their_low_bits() -> None:
    x = np.array([200, -1, 300, 2**40 + 5, -(2**63)], np.int64)
    assert cast(x, dtypes.INT8).tolist() == [-56, -1, 44, 5, 0]
    assert cast(x, dtypes.UINT64).tolist()[1] == 2**64 - 1
    assert cast(x, dtypes.INT4).astype(int).tolist() == [-8, -1, -4, 5, 0]
    assert cast(x, dtypes.UINT2).astype(int).tolist() == [0, 3, 0, 1, 0]
    assert cast(x, dtypes.BOOL).tolist() == [True] * 5


@pytest.mark.parametrize("target", [d for d in NUMBERS if d.is_integer and d.bits >= 8], ids=str)
@pytest.mark.parametrize("source", [np.float16, np.float32, np.float64, ml_dtypes.bfloat16])
def test_floating_point_out_of_range_saturates(source: type, target: DType) -> None:
    limits = np.iinfo(target.numpy)
    with np.errstate(over="ignore"):
        x = np.array([np.nan, np.inf, -np.inf, 1e38, -1e38, -0.9, 3.9]).astype(source)
    expected = [0, limits.max, limits.min, limits.max, limits.min, 0, 3]
    assert cast(x, target).tolist() == expected
    if source is not np.float16:
        edge = np.array([2.0**63, -(2.0**63), 2.0**64]).astype(source)
        clipped = [min(max(int(v), limits.min), limits.max) for v in (2**63, -(2**63), 2**64)]
        assert cast(edge, target).tolist() == clipped


@pytest.mark.parametrize("target", FLOAT8, ids=str)
@pytest.mark.parametrize("source", [np.float32, np.float16, np.float64])
def test_float8_equals_the_onnx_package(source: type, target: DType) -> None:
    values = np.concatenate([np.linspace(-500, 500, 999), 2.0 ** np.arange(-20, 16), [464, 465]])
    x = np.concatenate([values, [0.0, -0.0, np.nan]]).astype(source)
    witness = onnx.numpy_helper.saturate_cast(x, target.numpy)
    np.testing.assert_array_equal(cast(x, target).astype(np.float32), witness.astype(np.float32))


def test_float8_infinity_and_saturation_follow_the_table() -> None:
    x = np.array([np.inf, -np.inf, 1e6, -1e6, np.nan], np.float32)
    for target in FLOAT8:
        most = float(ml_dtypes.finfo(target.numpy).max)
        y = cast(x, target).astype(np.float64)
        np.testing.assert_array_equal(y, [most, -most, most, -most, np.nan])
        y = cast(x, target, saturate=0).astype(np.float64)
        inf = np.inf if target is dtypes.FLOAT8E5M2 else np.nan
        np.testing.assert_array_equal(y, [inf, -inf, inf, -inf, np.nan])
    unsigned_zero = cast(np.array([-0.0], np.float32), dtypes.FLOAT8E4M3FNUZ)
    assert unsigned_zero.view(np.uint8).tolist() == [0]


@pytest.mark.parametrize(
    ("mode", "saturate", "expected"),
    [
        ("up", 1, [2**-127, 1, 2, 2, 4, 2.0**127, 2.0**127, np.nan]),
        ("down", 1, [2**-127, 1, 1, 1, 2, 2.0**127, 2.0**127, np.nan]),
        ("nearest", 1, [2**-127, 1, 1, 2, 4, 2.0**127, 2.0**127, np.nan]),
        ("nearest", 0, [np.nan, 1, 1, 2, 4, np.nan, np.nan, np.nan]),
        ("up", 0, [np.nan, 1, 2, 2, 4, np.nan, np.nan, np.nan]),
    ],
)
def test_float8e8m0_rounds_to_powers_of_two(mode: str, saturate: int, expected: list) -> None:
    x = np.array([0, 1, 1.25, 1.5, 3.5, 1e300, np.inf, np.nan])
    y = cast(x, dtypes.FLOAT8E8M0, round_mode=mode, saturate=saturate)
    np.testing.assert_array_equal(y.astype(np.float64), expected)


@pytest.mark.parametrize("mode", ["up", "down", "nearest"])
def test_float8e8m0_equals_the_onnx_package(mode: str) -> None:
    x = np.abs(np.random.default_rng(1).normal(size=500) * 1000).astype(np.float32)
    witness = onnx.numpy_helper.to_float8e8m0(x, saturate=True, round_mode=mode)
    np.testing.assert_array_equal(
        cast(x, dtypes.FLOAT8E8M0, round_mode=mode).view(np.uint8), witness.view(np.uint8)
    )


def test_float8e8m0_has_no_negative_numbers_and_no_other_modes() -> None:
    x = np.array([-1, -0.0], np.float32)
    assert cast(x, dtypes.FLOAT8E8M0).view(np.uint8).tolist() == [255, 0]
    with pytest.raises(ModelError, match="round_mode"):
        cast(x, dtypes.FLOAT8E8M0, round_mode="even")


def test_numbers_are_written_as_they_read_back() -> None:
    x = np.array([314.5, -0.0, np.nan, np.inf, -np.inf, 0.47892547], np.float32)
    assert cast(x, dtypes.STRING).tolist() == [
        *("314.5", "-0.0", "NaN", "INF", "-INF", "0.47892547"),
    ]
    for dtype in (np.float16, np.float32, np.float64, ml_dtypes.bfloat16):
        numbers = np.random.default_rng(2).normal(size=200).astype(dtype)
        text = cast(numbers, dtypes.STRING)
        np.testing.assert_array_equal(cast(text, dtypes.from_numpy(dtype)), numbers)
    big = np.array([2**63, 0, 2**64 - 1], np.uint64)
    assert cast(cast(big, dtypes.STRING), dtypes.UINT64).tolist() == big.tolist()
    assert cast(np.array([True, False]), dtypes.STRING).tolist() == ["1", "0"]


def test_strings_are_read() -> None:
    text = np.array(["3.14", "1e-5", "1E8", "+INF", "inf", "-INF", "NaN", "-7"], object)
    expected = np.array([3.14, 1e-5, 1e8, np.inf, np.inf, -np.inf, np.nan, -7], np.float32)
    assert_same([cast(text, dtypes.FLOAT)], [expected])
    integers = np.array(["100.5", "-3", "1e3", "300", str(2**70), "inf", "nan"], object)
    assert cast(integers, dtypes.INT64).tolist() == [100, -3, 1000, 300, 0, 2**63 - 1, 0]
    assert cast(integers, dtypes.UINT8).tolist()[:4] == [100, 253, 232, 44]
    assert cast(np.array(["0", "2"], object), dtypes.BOOL).tolist() == [False, True]
    for bad in ("Hello World!", "", "1" * 5000 + "x"):
        for target in (dtypes.FLOAT, dtypes.INT32):
            with pytest.raises(ExecutionError, match="no number"):
                cast(np.array([bad], object), target)


def test_old_version_names_the_type() -> None:
    assert_same(
        apply("Cast", np.array([1.5], np.float32), version=1, to="INT32"), [np.array([1], np.int32)]
    )
    with pytest.raises(UnsupportedError, match="99"):
        inferred("Cast", Fact.tensor(dtypes.FLOAT, (2,)), to=99)


def test_cast_like_takes_the_type_of_its_second_input() -> None:
    x = np.array([1.75, -2, 300], np.float32)
    for target in REAL:
        like = np.zeros(1).astype(target.numpy)
        actual = apply("CastLike", x, like)[0]
        assert actual.dtype == target.numpy
        assert actual.tobytes() == cast(x, target).tobytes()
    texts = np.array(["x"], object)
    assert apply("CastLike", x, texts)[0].tolist() == ["1.75", "-2.0", "300.0"]
    (fact,) = inferred("CastLike", Fact.tensor(dtypes.FLOAT, (symbol("N"), 2)), Fact.constant(like))
    assert (fact.dtype, fact.shape) == (REAL[-1], (symbol("N"), 2))


def test_symbolic_contents_pass_through_to_integers_only() -> None:
    n = symbol("N")
    assert apply("Cast", shape_value([n, 3]), to=dtypes.INT32.code)[0].tolist() == [n, 3]
    with pytest.raises(ExecutionError, match="symbolic"):
        apply("Cast", shape_value([n, 3]), to=dtypes.FLOAT.code)


PAIRS = [
    (a, b)
    for a in dtypes.ALL
    for b in dtypes.ALL
    if a.bits == b.bits and a.bits and a.bits != 6 and dtypes.BOOL not in {a, b}
]


@pytest.mark.parametrize(("source", "target"), PAIRS, ids=[f"{a}-{b}" for a, b in PAIRS])
def test_bit_cast_keeps_every_bit(source: DType, target: DType) -> None:
    raw = np.arange(96, dtype=np.uint8).tobytes()
    count = len(raw) * 8 // source.bits
    if source.is_packed:
        x, expected = (dtypes.unpack(raw, d, count) for d in (source, target))
    else:
        x, expected = (np.frombuffer(raw, d.numpy) for d in (source, target))
    x, expected = x.reshape(2, -1), expected.reshape(2, -1)
    y = apply("BitCast", x, version=28, to=target.code)[0]
    assert y.dtype == expected.dtype
    assert y.tobytes() == expected.tobytes()
    assert y.shape == x.shape


def test_bit_cast_of_booleans_and_of_other_widths() -> None:
    y = apply("BitCast", np.array([0, 1, 2], np.uint8), version=28, to=dtypes.BOOL.code)[0]
    assert y.view(np.uint8).tolist() == [0, 1, 1]
    fact = Fact.tensor(dtypes.FLOAT, (2,))
    with pytest.raises(InferenceError, match="32 bits"):
        inferred("BitCast", fact, version=28, to=dtypes.INT64.code)
    with pytest.raises(ExecutionError, match="as wide"):
        apply("BitCast", np.zeros(2, np.float32), version=28, to=dtypes.INT64.code)
    assert apply("BitCast", np.float32(1).reshape(()), version=28, to=6)[0].shape == ()


def test_each_version_allows_the_types_it_had() -> None:
    for version, schema in registry.get("", "Cast").schemas().items():
        assert (dtypes.STRING in [t.dtype for t in schema.type_constraints["T1"]]) == (version >= 9)
