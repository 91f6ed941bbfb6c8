"""Fourier transforms, and the windows and filters used with them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from sardonyx import dtypes
from sardonyx.errors import ExecutionError, InferenceError
from sardonyx.ir.node import AttributeType
from sardonyx.ir.types import shape_text
from sardonyx.ops import types
from sardonyx.ops.fact import Fact
from sardonyx.ops.numeric import to_integer, widen
from sardonyx.ops.operator import Operator
from sardonyx.ops.schema import Input, Output, past, was_attribute
from sardonyx.ops.symbolic import add, check_size, exact, multiply, normalized, subtract

if TYPE_CHECKING:
    from sardonyx.dtypes import DType
    from sardonyx.ir.tensor import Array
    from sardonyx.ir.types import DimLike, Shape
    from sardonyx.ir.value import Value
    from sardonyx.ops.body_builder import BodyBuilder

_COMPLEX_BYTES: Final = 16


def _known(op_type: str, name: str, fact: Fact | None) -> DimLike:
    """The value of a scalar input, or None."""
    dims = None if fact is None else fact.dims_value()
    if dims is None:
        return None
    if len(dims) != 1:
        raise InferenceError(f"{op_type}: {name} must be a scalar, it has {len(dims)} elements")
    return dims[0]


def _integer(op_type: str, name: str, array: Array, least: int) -> int:
    if array.size != 1:
        raise ExecutionError(f"{op_type}: {name} must be a scalar, got shape {list(array.shape)}")
    value = int(array.reshape(()))
    if value < least:
        raise ExecutionError(f"{op_type}: {name} is {value}, the least allowed is {least}")
    return value


def _half(length: DimLike) -> DimLike:
    return add(exact(lambda n: n // 2, length), 1)


def _parts(array: Array) -> Array:
    """Real [..., 1] or complex [..., 2] input as complex numbers of at least single precision."""
    wide = widen(array)
    numbers = np.zeros(wide.shape[:-1], np.result_type(wide.dtype, np.complex64))
    numbers.real = wide[..., 0]
    if wide.shape[-1] == 2:
        numbers.imag = wide[..., 1]
    return numbers


def _pairs(numbers: Array, dtype: np.dtype[Any]) -> Array:
    with np.errstate(all="ignore"):
        return np.stack([numbers.real, numbers.imag], axis=-1).astype(dtype)


def _check_parts(op_type: str, name: str, shape: Shape, allowed: tuple[int, ...]) -> None:
    last = shape[-1]
    if isinstance(last, int) and last not in allowed:
        kinds = " or ".join(f"{size} ({'real' if size == 1 else 'complex'})" for size in allowed)
        raise InferenceError(f"{op_type}: the last size of {name} must be {kinds}, got {last}")


class DFT(Operator, since=20):
    """The discrete Fourier transform along `axis`; with `inverse` its inverse.

    The last dimension holds real and imaginary part. With `onesided` a real signal gives the
    first dft_length // 2 + 1 terms, and the inverse of these gives a real signal back.
    """

    input = Input("T1", "[..., 1] real or [..., 2] complex.")
    dft_length = Input("T2", "Cuts or zero-pads the signal.", optional=True)
    axis = Input((dtypes.INT64,), "A scalar; -2 where omitted.", optional=True)
    output = Output("T1")
    T1, T2 = types.FLOATS_BFLOAT16, types.INDICES
    inverse: int = 0
    onesided: int = 0
    history = (past(17, axis=was_attribute(AttributeType.INT, 1)),)

    def _place(self, axis: int, rank: int) -> int:
        if rank < 2:
            raise InferenceError(f"DFT: input needs rank 2 or more, it has rank {rank}")
        place = normalized("DFT", axis, rank)
        if place == rank - 1:
            raise InferenceError(
                f"DFT: axis={axis} is the last, which holds real and imaginary parts"
            )
        return place

    def infer(self, input: Fact, dft_length: Fact | None = None, axis: Fact | None = None) -> Fact:
        if input.shape is None:
            return Fact.tensor(input.dtype)
        rank = len(input.shape)
        given = -2 if axis is None else _known("DFT", "axis", axis)
        place = self._place(given if isinstance(given, int) else -2, rank)
        restores = self.onesided and self.inverse
        allowed = (1, 2) if not self.onesided else (2,) if self.inverse else (1,)
        _check_parts("DFT", "input", input.shape, allowed)
        last = 1 if restores else 2
        if not isinstance(given, int):
            sizes: list[DimLike] = list(input.shape[:-1])
            if self.onesided or dft_length is not None:
                sizes = [None] * (rank - 1)
            return Fact.tensor(input.dtype, (*sizes, last))
        length = _known("DFT", "dft_length", dft_length)
        if dft_length is None:
            length = input.shape[place]
            if restores:
                length = multiply(2, subtract(length, 1))
        if isinstance(length, int) and length < 1:
            raise InferenceError(f"DFT: the length of the transform is {length}")
        if self.onesided and not self.inverse:
            length = _half(length)
        sizes = list(input.shape)
        sizes[place], sizes[-1] = length, last
        return Fact.tensor(input.dtype, sizes)

    def reference(
        self, input: Array, dft_length: Array | None = None, axis: Array | None = None
    ) -> Array:
        facts = (None if item is None else Fact.constant(item) for item in (dft_length, axis))
        shape = self.infer(Fact.tensor(None, input.shape), *facts).shape
        assert shape is not None
        check_size("DFT", [int(size) for size in shape], _COMPLEX_BYTES)  # type: ignore[arg-type]
        place = self._place(-2 if axis is None else int(axis.reshape(())), input.ndim)
        restores = self.onesided and self.inverse
        length = input.shape[place]
        if restores:
            length = 2 * (length - 1)
        if dft_length is not None:
            length = _integer("DFT", "dft_length", dft_length, 1)
        if 0 in shape:
            return np.zeros(shape, input.dtype)  # type: ignore[arg-type]
        with np.errstate(all="ignore"):
            if restores:
                signal = np.fft.irfft(_parts(input), length, place)
                return np.asarray(signal[..., None].astype(input.dtype))
            if self.onesided:
                terms = np.fft.rfft(widen(input[..., 0]), length, place)
            else:
                transform = np.fft.ifft if self.inverse else np.fft.fft
                terms = transform(_parts(input), length, place)
            return _pairs(terms, input.dtype)


class STFT(Operator, since=17):
    """The Fourier transform of each frame of a signal, weighted by `window`.

    Frames start every `frame_step` samples, (signal_length - frame_length) // frame_step + 1 of
    them. frame_length is, where omitted, the window's or the signal's length.
    """

    signal = Input("T1", "[batch, length, 1] real or [batch, length, 2] complex.")
    frame_step = Input("T2", "A scalar.")
    window = Input("T1", "[frame_length]; ones where omitted.", optional=True)
    frame_length = Input("T2", "A scalar.", optional=True)
    output = Output("T1", "[batch, frames, frame_length, 2], of `onesided` half of it.")
    T1, T2 = types.FLOATS_BFLOAT16, types.INDICES
    onesided: int = 1

    def infer(
        self,
        signal: Fact,
        frame_step: Fact,
        window: Fact | None = None,
        frame_length: Fact | None = None,
    ) -> Fact:
        shape: Shape = (None,) * 3 if signal.shape is None else signal.shape
        if len(shape) != 3:
            raise InferenceError(f"STFT: signal needs rank 3, got {shape_text(shape)}")
        _check_parts("STFT", "signal", shape, (1,) if self.onesided else (1, 2))
        if window is not None and window.rank not in {None, 1}:
            raise InferenceError(f"STFT: window needs rank 1, got {shape_text(window.shape)}")
        length = shape[1]
        if window is not None:
            length = None if window.shape is None else window.shape[0]
        if frame_length is not None:
            given = _known("STFT", "frame_length", frame_length)
            length = length if given is None and window is not None else given
        step = _known("STFT", "frame_step", frame_step)
        if isinstance(step, int) and step < 1:
            raise InferenceError(f"STFT: frame_step is {step}, it must be at least 1")
        room = subtract(shape[1], length)
        if isinstance(room, int) and room < 0:
            raise InferenceError(f"STFT: a frame of {length} samples in a signal of {shape[1]}")
        frames = add(exact(lambda a, b: a // b, room, step), 1)
        terms = _half(length) if self.onesided else length
        return Fact.tensor(signal.dtype, (shape[0], frames, terms, 2))

    def reference(
        self,
        signal: Array,
        frame_step: Array,
        window: Array | None = None,
        frame_length: Array | None = None,
    ) -> Array:
        step = _integer("STFT", "frame_step", frame_step, 1)
        length = signal.shape[1] if signal.ndim > 1 else 0
        if window is not None:
            length = window.size
        if frame_length is not None:
            length = _integer("STFT", "frame_length", frame_length, 1)
        self.infer(
            Fact.tensor(None, signal.shape),
            Fact.constant(frame_step),
            None if window is None else Fact.tensor(None, window.shape),
            None if frame_length is None else Fact.constant(frame_length),
        )
        if length < 1 or (window is not None and window.size != length):
            raise ExecutionError(
                f"STFT: frame_length is {length}"
                + ("" if window is None else f", window has {window.size} elements")
            )
        frames = (signal.shape[1] - length) // step + 1
        check_size("STFT", (signal.shape[0], frames, length), _COMPLEX_BYTES)
        every = np.lib.stride_tricks.sliding_window_view(_parts(signal), length, axis=1)
        framed = every[:, ::step]
        with np.errstate(all="ignore"):
            if window is not None:
                framed = framed * widen(window)
            if not framed.size:
                count = length // 2 + 1 if self.onesided else length
                terms = np.zeros((*framed.shape[:-1], count), np.complex128)
            elif self.onesided:
                terms = np.fft.rfft(framed.real, axis=2)
            else:
                terms = np.fft.fft(framed, axis=2)
            return _pairs(terms, signal.dtype)


def _datatype(op_type: str, code: int) -> DType:
    wanted = dtypes.from_code(code)
    if wanted not in types.NUMERIC_BFLOAT16:
        raise InferenceError(f"{op_type}: output_datatype {wanted} is not allowed")
    return wanted


def _as(values: Array, dtype: DType) -> Array:
    # the standard computes in FLOAT, where the peaks are 1 and not just below
    if dtype.is_integer:
        return to_integer(values.astype(np.float32), dtype.numpy)
    return values.astype(dtype.numpy)


class _Window(Operator):
    """A sum of cosines over `size` samples, of which a periodic one is the start of size + 1.

    A symmetric window of one sample is 1.
    """

    size, output = Input("T1", "A scalar."), Output("T2", "[size].")
    T1, T2 = types.INDICES, types.NUMERIC_BFLOAT16
    output_datatype: int = 1
    periodic: int = 1

    def coefficients(self) -> tuple[float, ...]:
        """The factors of cos(0), cos(x), cos(2x), with alternating signs."""
        raise NotImplementedError

    def infer(self, size: Fact) -> Fact:
        length = _known(self.op_type, "size", size)
        if isinstance(length, int) and length < 0:
            raise InferenceError(f"{self.op_type}: size is {length}")
        return Fact.tensor(_datatype(self.op_type, self.output_datatype), (length,))

    def reference(self, size: Array) -> Array:
        dtype = _datatype(self.op_type, self.output_datatype)
        length = _integer(self.op_type, "size", size, 0)
        check_size(self.op_type, (length,), 8)
        period = length if self.periodic else length - 1
        if period < 1:
            return _as(np.ones(length), dtype)
        angle = np.arange(length) * (2 * np.pi / period)
        terms = [
            (-1) ** index * factor * np.cos(index * angle)
            for index, factor in enumerate(self.coefficients())
        ]
        return _as(np.sum(terms, axis=0), dtype)

    def body(self, op: BodyBuilder, size: Value) -> Any:
        count = op.cast(op.reshape(size, 1), dtypes.INT64)
        one = np.ones(1)
        period = op.cast(count, dtypes.DOUBLE)
        if not self.periodic:
            period = op.Sub(period, one)
        is_single = op.Less(period, one)
        step = op.Div(np.array([2 * np.pi]), op.Where(is_single, one, period))
        angle = op.Mul(op.cast(op.indices(count), dtypes.DOUBLE), step)
        total, sign = None, 1
        for k, factor in enumerate(self.coefficients()):
            wave = np.float64(1) if k == 0 else op.Cos(op.Mul(angle, np.float64(k)))
            term = op.Mul(np.float64(sign * factor), wave)
            total, sign = term if total is None else op.Add(total, term), -sign
        window = op.Where(is_single, one, total)
        dtype = _datatype(self.op_type, self.output_datatype)
        return op.cast(op.cast(window, dtypes.FLOAT) if dtype.is_integer else window, dtype)


class HannWindow(_Window, since=17):
    """0.5 - 0.5 cos(x)."""

    def coefficients(self) -> tuple[float, ...]:
        return (0.5, 0.5)


class HammingWindow(_Window, since=17):
    """25 / 46 - 21 / 46 cos(x)."""

    def coefficients(self) -> tuple[float, ...]:
        return (25 / 46, 21 / 46)


class BlackmanWindow(_Window, since=17):
    """0.42 - 0.5 cos(x) + 0.08 cos(2x)."""

    def coefficients(self) -> tuple[float, ...]:
        return (0.42, 0.5, 0.08)


class MelWeightMatrix(Operator, since=17):
    """Triangular filters of peak 1, evenly spaced on the mel scale 2595 log10(1 + f / 700).

    The corners of filter i are points i, i + 1 and i + 2 of the num_mel_bins + 2 that start at
    the lower edge, 1 / (num_mel_bins + 2) of the range apart, each rounded down to a DFT bin.
    """

    num_mel_bins, dft_length, sample_rate = Input("T1"), Input("T1"), Input("T1")
    lower_edge_hertz, upper_edge_hertz = Input("T2"), Input("T2")
    output = Output("T3", "[dft_length // 2 + 1, num_mel_bins].")
    T1, T2, T3 = types.INDICES, types.FLOATS_BFLOAT16, types.NUMERIC_BFLOAT16
    output_datatype: int = 1

    def infer(
        self,
        num_mel_bins: Fact,
        dft_length: Fact,
        sample_rate: Fact,
        lower_edge_hertz: Fact,
        upper_edge_hertz: Fact,
    ) -> Fact:
        rows = _half(_known(self.op_type, "dft_length", dft_length))
        columns = _known(self.op_type, "num_mel_bins", num_mel_bins)
        return Fact.tensor(_datatype(self.op_type, self.output_datatype), (rows, columns))

    def reference(
        self,
        num_mel_bins: Array,
        dft_length: Array,
        sample_rate: Array,
        lower_edge_hertz: Array,
        upper_edge_hertz: Array,
    ) -> Array:
        name = self.op_type
        dtype = _datatype(name, self.output_datatype)
        count = _integer(name, "num_mel_bins", num_mel_bins, 0)
        length = _integer(name, "dft_length", dft_length, 0)
        rate = _integer(name, "sample_rate", sample_rate, 1)
        check_size(name, (length // 2 + 1, count), 8)
        check_size(name, (count + 2,), 8)
        if lower_edge_hertz.size != 1 or upper_edge_hertz.size != 1:
            raise ExecutionError(f"{name}: lower_edge_hertz and upper_edge_hertz must be scalars")
        with np.errstate(all="ignore"):
            low, high = (
                2595 * np.log10(1 + edge.astype(np.float64).reshape(()) / 700)
                for edge in (lower_edge_hertz, upper_edge_hertz)
            )
            mel = low + np.arange(count + 2) * ((high - low) / (count + 2))
            bins = np.floor((length + 1) * 700 * (10 ** (mel / 2595) - 1) / rate)
            if not np.isfinite(bins).all():
                raise ExecutionError(
                    f"{name}: edges {lower_edge_hertz} and {upper_edge_hertz} Hz have no place "
                    f"on the mel scale"
                )
            left, centre, right = bins[:-2], bins[1:-1], bins[2:]
            row = np.arange(length // 2 + 1)[:, None]
            rising = np.where(centre > left, (row - left) / (centre - left), 1)
            falling = (right - row) / (right - centre)
        result = np.where((left <= row) & (row <= centre), rising, 0)
        return _as(np.where((centre <= row) & (row < right), falling, result), dtype)
