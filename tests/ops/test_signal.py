"""Fourier transforms, windows and mel filters, against NumPy's FFT, onnxruntime and formulas."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from differential import agrees_with_inference, close, compare, normal
from sardonyx import dtypes
from sardonyx.dims import symbol
from sardonyx.errors import ExecutionError, InferenceError, LimitError
from sardonyx.ops.fact import Fact
from single_operator import apply, inferred

REAL, COMPLEX = normal(3, 10, 7, 1), normal(3, 10, 7, 2)


def as_complex(x: np.ndarray) -> np.ndarray:
    wide = x.astype(np.float64)
    return wide[..., 0] + 1j * (wide[..., 1] if x.shape[-1] == 2 else 0)


def as_pairs(x: np.ndarray) -> np.ndarray:
    return np.stack([x.real, x.imag], -1)


@pytest.mark.parametrize("axis", [0, 1, -2])
@pytest.mark.parametrize("length", [None, 4, 7, 12])
@pytest.mark.parametrize("version", [17, 20])
def test_dft_equals_numpy(version: int, length: int | None, axis: int) -> None:
    size = None if length is None else np.array(length)
    place = axis % 4

    def run(x: np.ndarray, **attributes: int) -> np.ndarray:
        inputs = [x, size, np.array(axis)] if version == 20 else [x, size]
        options: dict[str, Any] = {"version": version, **attributes}
        if version == 17:
            options["axis"] = axis
        outputs = apply("DFT", *inputs, **options)
        agrees_with_inference("DFT", *inputs, outputs=outputs, **options)
        return outputs[0]

    for x in (REAL, COMPLEX):
        for inverse, function in ((0, np.fft.fft), (1, np.fft.ifft)):
            expected = as_pairs(function(as_complex(x), length, place))
            close([run(x, inverse=inverse)], [expected.astype(np.float32)], 12)
    half = as_pairs(np.fft.rfft(REAL[..., 0].astype(np.float64), length, place))
    close([run(REAL, onesided=1)], [half.astype(np.float32)], 12)
    whole = np.fft.irfft(as_complex(COMPLEX), length, place)[..., None]
    close([run(COMPLEX, onesided=1, inverse=1)], [whole.astype(np.float32)], 12)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64])
def test_dft_on_each_type(dtype: type) -> None:
    x = REAL.astype(dtype)
    expected = as_pairs(np.fft.fft(as_complex(x), axis=-2 + 1))
    close(apply("DFT", x), [expected.astype(dtype)], 7)


def test_dft_inverse_gives_the_signal_back() -> None:
    (terms,) = apply("DFT", REAL, onesided=1)
    (signal,) = apply("DFT", terms, np.array(7), onesided=1, inverse=1)
    close([signal], [REAL], 7)


@pytest.mark.parametrize(
    ("inputs", "attributes", "message"),
    [
        ([REAL, None, np.array(3)], {}, "axis=3"),
        ([REAL, None, np.array(4)], {}, "axis=4"),
        ([REAL, np.array(0)], {}, "length"),
        ([COMPLEX], {"onesided": 1}, "real"),
        ([REAL], {"onesided": 1, "inverse": 1}, "complex"),
        ([REAL[:, :, :0]], {}, "length"),
        ([REAL[..., :0]], {}, "last size"),
    ],
)
def test_dft_says_what_does_not_fit(inputs: list, attributes: dict, message: str) -> None:
    with pytest.raises((InferenceError, ExecutionError), match=message):
        apply("DFT", *inputs, **attributes)


def test_dft_length_is_limited() -> None:
    with pytest.raises(LimitError):
        apply("DFT", REAL, np.array(2**50))


def test_dft_inference_is_symbolic() -> None:
    B, N = symbol("B", 1), symbol("N", 1)
    x = Fact.tensor(dtypes.FLOAT, (B, N, 1))
    assert inferred("DFT", x, onesided=1)[0].shape == (B, N // 2 + 1, 2)
    x = Fact.tensor(dtypes.FLOAT, (B, N, 2))
    assert inferred("DFT", x, onesided=1, inverse=1)[0].shape == (B, 2 * N - 2, 1)
    unknown = Fact.tensor(dtypes.INT64, ())
    assert inferred("DFT", x, unknown)[0].shape == (B, None, 2)
    assert inferred("DFT", x, None, unknown)[0].shape == (B, N, 2)
    assert inferred("DFT", x, unknown, unknown)[0].shape == (None, None, 2)


@pytest.mark.parametrize("onesided", [0, 1])
@pytest.mark.parametrize("given", ["window", "length", "both"])
def test_stft_equals_onnxruntime(given: str, onesided: int) -> None:
    signal = normal(2, 50, 1)
    window = None if given == "length" else np.hanning(16).astype(np.float32)
    length = None if given == "window" else np.array(16)
    inputs = [signal, np.array(5), window, length]
    compare("STFT", *inputs, version=17, terms=16, onesided=onesided)


def test_stft_is_a_dft_of_each_frame() -> None:
    signal = normal(2, 20, 2)
    (y,) = apply("STFT", signal, np.array(3), None, np.array(8), onesided=0)
    frames = [as_complex(signal)[:, start : start + 8] for start in range(0, 13, 3)]
    expected = as_pairs(np.stack([np.fft.fft(frame) for frame in frames], 1))
    close([y], [expected.astype(np.float32)], 8)
    (whole,) = apply("STFT", signal, np.array(3), onesided=0)
    assert whole.shape == (2, 1, 20, 2)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ([REAL[0], np.array(0), None, np.array(4)], "frame_step"),
        ([REAL[0], np.array(1), None, np.array(40)], "frame"),
        ([REAL[0], np.array(1), np.ones(3, np.float32), np.array(4)], "window"),
        ([COMPLEX[0], np.array(1), None, np.array(4)], "real"),
        ([REAL, np.array(1), None, np.array(4)], "rank 3"),
    ],
)
def test_stft_says_what_does_not_fit(inputs: list, message: str) -> None:
    with pytest.raises((InferenceError, ExecutionError), match=message):
        apply("STFT", *inputs)


def test_stft_inference_is_symbolic() -> None:
    B, N = symbol("B", 1), symbol("N", 400)
    signal, window = Fact.tensor(dtypes.FLOAT, (B, N, 1)), Fact.tensor(dtypes.FLOAT, (400,))
    (found,) = inferred("STFT", signal, np.array(160), window)
    assert found.shape == (B, (N - 400) // 160 + 1, 201, 2)


WINDOWS = {"HannWindow": np.hanning, "BlackmanWindow": np.blackman}


@pytest.mark.parametrize("name", ["HannWindow", "HammingWindow", "BlackmanWindow"])
@pytest.mark.parametrize("periodic", [0, 1])
@pytest.mark.parametrize("size", [2, 9, 16])
def test_windows_equal_onnxruntime(size: int, periodic: int, name: str) -> None:
    compare(name, np.array(size), version=17, periodic=periodic)
    for code in (1, 10, 11, 16):
        (y,) = apply(name, np.array(size), periodic=periodic, output_datatype=code)
        if name in WINDOWS:
            expected = WINDOWS[name](size + periodic)[:size]
            close([y], [expected.astype(y.dtype)])


@pytest.mark.parametrize("name", ["HannWindow", "HammingWindow", "BlackmanWindow"])
def test_windows_of_little_and_too_much(name: str) -> None:
    assert apply(name, np.array(0))[0].shape == (0,)
    assert apply(name, np.array(1), periodic=0)[0].tolist() == [1]
    integers = apply(name, np.array(5), periodic=0, output_datatype=7)[0]
    assert integers.dtype == np.int64
    assert integers.tolist() == [0, 0, 1, 0, 0]
    with pytest.raises(ExecutionError, match="size is -1"):
        apply(name, np.array(-1))
    with pytest.raises(LimitError):
        apply(name, np.array(2**60))
    with pytest.raises(InferenceError, match="output_datatype"):
        apply(name, np.array(3), output_datatype=9)
    N = symbol("N")
    assert inferred(name, Fact.tensor(dtypes.INT64, (), np.array(N, object)))[0].shape == (N,)


@pytest.mark.parametrize("sizes", [(8, 16, 8192), (80, 400, 16000), (3, 64, 8000)])
@pytest.mark.parametrize("edges", [(0.0, 4000.0), (20.0, 3800.0)])
def test_mel_weights_equal_onnxruntime(sizes: tuple[int, ...], edges: tuple[float, ...]) -> None:
    inputs = [np.array(size) for size in sizes] + [np.array(edge, np.float32) for edge in edges]
    compare("MelWeightMatrix", *inputs, version=17)


def test_mel_weights_of_nonsense() -> None:
    good = [np.array(8), np.array(16), np.array(8000), np.float32(0), np.float32(4000)]
    inputs = [np.asarray(value) for value in good]
    for place, value in (
        (0, np.array(-1)),
        (2, np.array(0)),
        (3, np.array(-np.inf)),
        (4, np.array(np.nan)),
    ):
        with pytest.raises(ExecutionError, match="MelWeightMatrix"):
            apply("MelWeightMatrix", *inputs[:place], value, *inputs[place + 1 :])
    with pytest.raises(LimitError):
        apply("MelWeightMatrix", np.array(2**40), *inputs[1:])
    beyond = apply("MelWeightMatrix", *inputs[:4], np.array(1e9))[0]
    assert beyond.shape == (9, 8)
